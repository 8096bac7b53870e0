"""The client: one method for each thing the service does."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import TypeAdapter, ValidationError

from client.download import fetch_file, inside
from client.errors import ApiError, ServiceUnreachable
from client.models import Artifact, Event, Format, Job, JobPage, Method, Model, Problem

DEFAULT_URL = "http://127.0.0.1:8321"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
STREAM_SILENCE_S = 60.0  # the service sends a keep-alive comment every 15 s; four missing ones mean a dead connection
RECONNECT_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)  # between drops without an event in between; then it gives up

Answer = TypeVar("Answer")


def ignore_bytes(_: int) -> None:
    """The callback of a caller who does not follow a download."""


class Scalpel:
    """A connection to a Scalpel service. Close it, or use it as a context manager.

    Every method raises `ServiceUnreachable` when nothing answers and `ApiError` when the service refuses.
    """

    def __init__(self, base_url: str = DEFAULT_URL, *, timeout_s: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        is_local = httpx.URL(self.base_url).host in LOOPBACK
        # A proxy from the environment cannot reach this machine's own loopback.
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout_s, trust_env=not is_local)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, model: str, recipe: Mapping[str, Any], **parts: Any) -> Job:
        """Ask for a compression. `parts` are the request's other fields: calibration, evaluation, acceptance, output,
        labels."""
        return self._call(Job, "POST", "/v1/jobs", json={"model": model, "recipe": dict(recipe), **parts})

    def evaluate(self, model: str, reference: str | None = None, **parts: Any) -> Job:
        """Ask for an evaluation, where there is a reference against it. `parts`: evaluation, acceptance, labels."""
        compared_to = {} if reference is None else {"reference": reference}
        return self._call(Job, "POST", "/v1/jobs", json={"task": "evaluate", "model": model, **compared_to, **parts})

    def job(self, job_id: str) -> Job:
        return self._call(Job, "GET", _job_path(job_id))

    def jobs(
        self, *, state: str | None = None, model: str | None = None, label: str | None = None, page_size: int = 50
    ) -> Iterator[Job]:
        """All jobs that match, newest first, fetched page by page. `label` is `key:value`."""
        query = {"state": state, "model": model, "label": label, "limit": page_size}
        params = {name: value for name, value in query.items() if value is not None}
        while True:
            page = self._call(JobPage, "GET", "/v1/jobs", params=params)
            yield from page.jobs
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def export(self, job_id: str, output: Mapping[str, Any], *, labels: Mapping[str, str] | None = None) -> Job:
        """Ask for a finished job in another format, without solving again: a job of its own.

        Args: output: as in `submit`, such as {"format": "gguf"}.
        """
        said = {"output": dict(output)} | ({"labels": dict(labels)} if labels else {})
        return self._call(Job, "POST", _job_path(job_id, "exports"), json=said)

    def exports(self, job_id: str) -> tuple[Job, ...]:
        """The exports of a job, newest first."""
        return self._call(tuple[Job, ...], "GET", _job_path(job_id, "exports"))

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end. A running one stops at its next heartbeat, so the answer may still say `running`."""
        return self._call(Job, "POST", _job_path(job_id, "cancel"))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The job's events from `after` on, past and coming, ending with its final state.

        A dropped connection is taken up again where it broke; several drops in a row raise `ServiceUnreachable`.
        """
        self.job(job_id)  # an unknown job, or nobody there, is said at once; what comes later is a drop
        drops = 0
        while True:
            reason, seen = "the stream ended early", after
            try:
                for event in self._stream(job_id, after):
                    drops, after = 0, event.seq
                    yield event
                    if event.is_final:
                        return
            except httpx.TransportError as error:
                reason = _words(error)
            else:
                if after == seen and self.job(job_id).is_final:
                    return  # the caller asked for what comes after the last event
            if drops == len(RECONNECT_DELAYS_S):
                raise ServiceUnreachable(self.base_url, reason)
            time.sleep(RECONNECT_DELAYS_S[drops])
            drops += 1

    def report(self, job_id: str) -> dict[str, Any]:
        """The report of a job that succeeded."""
        return self._call(dict[str, Any], "GET", _job_path(job_id, "report"))

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        return self._call(tuple[Artifact, ...], "GET", _job_path(job_id, "artifacts"))

    def download(self, job_id: str, folder: Path, *, on_bytes: Callable[[int], None] = ignore_bytes) -> tuple[Path, ...]:
        """Bring all artifacts of a job into `folder`. Files appear complete and verified, or not at all.

        Raises: ChecksumMismatch: a file arrived damaged. UnsafeName: a name leads out of the folder.
        """
        artifacts = self.artifacts(job_id)
        targets = tuple(inside(folder, artifact.name) for artifact in artifacts)
        for artifact, target in zip(artifacts, targets, strict=True):
            self.download_file(job_id, artifact, target, on_bytes=on_bytes)
        return targets

    def download_file(
        self, job_id: str, artifact: Artifact, target: Path, *, on_bytes: Callable[[int], None] = ignore_bytes
    ) -> None:
        """Bring one artifact to `target`, verified against its SHA-256.

        Raises: ChecksumMismatch: it arrived damaged; what was at `target` before is untouched.
        """
        try:
            with self._http.stream("GET", _job_path(job_id, "artifacts", artifact.name)) as response:
                _check(response)
                fetch_file(response.iter_bytes(), artifact, target, on_bytes)
        except httpx.TransportError as error:
            raise ServiceUnreachable(self.base_url, _words(error)) from error

    def methods(self) -> tuple[Method, ...]:
        return self._call(tuple[Method, ...], "GET", "/v1/methods")

    def formats(self) -> tuple[Format, ...]:
        return self._call(tuple[Format, ...], "GET", "/v1/formats")

    def models(self) -> tuple[Model, ...]:
        return self._call(tuple[Model, ...], "GET", "/v1/models")

    def _call(self, kind: type[Answer], method: str, path: str, **arguments: Any) -> Answer:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise ServiceUnreachable(self.base_url, _words(error)) from error
        _check(response)
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError as error:
            raise ServiceUnreachable(self.base_url, "what answers there is not Scalpel") from error

    def _stream(self, job_id: str, after: int) -> Iterator[Event]:
        """One connection's events, from the one after `after`."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(self._http.timeout.connect, read=STREAM_SILENCE_S)
        with self._http.stream("GET", _job_path(job_id, "events"), headers=headers, timeout=timeout) as response:
            _check(response)
            try:
                for message in EventSource(response).iter_sse():
                    if message.data:
                        yield Event.model_validate_json(message.data)
            except (SSEError, ValidationError) as error:
                raise ServiceUnreachable(self.base_url, "what answers there is not Scalpel") from error


def _job_path(job_id: str, *parts: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *(quote(part) for part in parts)])


def _check(response: httpx.Response) -> None:
    """Raises: ApiError: the answer is not a success."""
    if response.is_success:
        return
    body = response.read()
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:  # not ours: a proxy, or another service at that address
        text = body[:200].decode(errors="replace").strip()
        problem = Problem(title=response.reason_phrase or "HTTP error", status=response.status_code, detail=text or None)
    raise ApiError(problem)


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
