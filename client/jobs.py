"""A job in the hands of a program: its fields, and what can be done with it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.calls import Blocks, Core, Waits, call, items, job_call
from client.download import PARALLEL, ignore_bytes
from client.drivers import Blocking, Waiting
from client.job_calls import JobCalls
from client.models import Artifact, Event, JobFields
from client.steps import Flow


class _Actions:
    """As the client's methods of the same names, of this job."""

    if TYPE_CHECKING:
        id: str
        _core: Any

    @property
    def _service(self) -> Core:
        if self._core is None:
            raise TypeError("this job was not had from a client, which is needed to ask for more")
        service: Core = self._core
        return service

    @job_call
    def refresh(self) -> Flow[JobFields]:
        """The job as it is now."""
        return JobCalls.job.flow(self._service, self.id)

    @job_call
    def wait(self, *, timeout_s: float | None = None) -> Flow[JobFields]:
        """The job, once it has ended, however. Raises: WaitTimeout."""
        return JobCalls.wait.flow(self._service, self.id, timeout_s=timeout_s)

    @items(Event)
    def events(self, *, after: int = 0) -> Flow[None]:
        """Its events, past and coming, ending with its final state; dropped connections are taken up again."""
        return JobCalls.events.flow(self._service, self.id, after=after)

    @job_call
    def cancel(self) -> Flow[JobFields]:
        return JobCalls.cancel.flow(self._service, self.id)

    @job_call
    def pause(self) -> Flow[JobFields]:
        return JobCalls.pause.flow(self._service, self.id)

    @job_call
    def resume(self) -> Flow[JobFields]:
        return JobCalls.resume.flow(self._service, self.id)

    @call
    def report(self) -> Flow[dict[str, Any]]:
        """The report, once it has succeeded."""
        return JobCalls.report.flow(self._service, self.id)

    @call
    def artifacts(self) -> Flow[tuple[Artifact, ...]]:
        return JobCalls.artifacts.flow(self._service, self.id)

    @call
    def download(
        self, folder: Path | str, *, on_bytes: Callable[[int], None] = ignore_bytes, parallel: int = PARALLEL
    ) -> Flow[tuple[Path, ...]]:
        """Bring its files into `folder`, each verified by its SHA-256; one that was cut off goes on where it was."""
        return JobCalls.download.flow(self._service, self.id, folder, on_bytes=on_bytes, parallel=parallel)


class Job(_Actions, Blocks, JobFields):
    """A job. Its fields are those of the answer that it came with; `refresh` asks for newer ones."""

    @property
    def _driver(self) -> Blocking:
        driver: Blocking = self._service._driver  # type: ignore[attr-defined]
        return driver


class AsyncJob(_Actions, Waits, JobFields):
    """The same, with methods to `await`."""

    @property
    def _driver(self) -> Waiting:
        driver: Waiting = self._service._driver  # type: ignore[attr-defined]
        return driver
