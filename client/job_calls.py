"""What the service does with jobs, each call written once as a flow."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

from client.calls import Core, call, items, job_call, job_items
from client.download import PARALLEL, fetch, ignore_bytes, inside
from client.errors import WaitTimeout
from client.event_stream import RECONNECT_DELAYS_S, followed
from client.models import Artifact, Estimate, Event, JobFields
from client.sending import is_passing, jittered
from client.steps import Flow, Send, Sleep, Together, gathered

MAX_PAGE = 200
FIRST_POLL_S, MAX_POLL_S = 0.5, 5.0


class Parts(TypedDict, total=False):
    """The fields of a request beside model, reference and recipe; docs/api.md tells of each."""

    goal: Mapping[str, Any]
    calibration: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    acceptance: Mapping[str, float | None]
    output: Mapping[str, Any]
    limits: Mapping[str, Any]
    labels: Mapping[str, str]
    device: str
    priority: int


class JobCalls(Core):
    """Jobs: ask for them, follow them, have what they made."""

    @job_call
    def submit(self, model: str, recipe: Mapping[str, Any] | None = None, **parts: Unpack[Parts]) -> Flow[JobFields]:
        """Ask for a compression by a recipe, or by a `goal` for which the service finds one."""
        said = {} if recipe is None else {"recipe": dict(recipe)}
        return self._call(self._job_kind, "POST", "/v1/jobs", json={"model": model, **said, **parts})

    @job_call
    def evaluate(self, model: str, reference: str | None = None, **parts: Unpack[Parts]) -> Flow[JobFields]:
        """Ask for an evaluation, where there is a reference against it."""
        compared_to = {} if reference is None else {"reference": reference}
        asked = {"task": "evaluate", "model": model, **compared_to, **parts}
        return self._call(self._job_kind, "POST", "/v1/jobs", json=asked)

    @job_call
    def request(self, request: Mapping[str, Any]) -> Flow[JobFields]:
        """Ask for what `request` says, as a job's own `request` does: the same again, or nearly."""
        return self._call(self._job_kind, "POST", "/v1/jobs", json=dict(request))

    @call
    def estimate(
        self,
        model: str,
        recipe: Mapping[str, Any] | None = None,
        *,
        task: str = "compress",
        reference: str | None = None,
        **parts: Unpack[Parts],
    ) -> Flow[Estimate]:
        """What a job would need, without asking for it. As `submit`; with `task="evaluate"`, and no recipe, as `evaluate`."""
        said = {"recipe": None if recipe is None else dict(recipe), "reference": reference}
        asked = {"task": task, "model": model, **{name: value for name, value in said.items() if value is not None}, **parts}
        return self._call(Estimate, "POST", "/v1/estimates", json=asked)

    @job_call
    def job(self, job_id: str) -> Flow[JobFields]:
        return self._read_job(job_id)

    @job_items
    def jobs(
        self, *, state: str | None = None, model: str | None = None, label: str | None = None, page_size: int = 50
    ) -> Flow[None]:
        """All jobs that match, newest first, fetched page by page. `label` is `key:value`."""
        query = {"state": state, "model": model, "label": label, "limit": page_size}
        wanted = {name: value for name, value in query.items() if value is not None}
        return self._pages(self._job_kind, "/v1/jobs", wanted)

    @job_call
    def export(self, job_id: str, output: Mapping[str, Any], *, labels: Mapping[str, str] | None = None) -> Flow[JobFields]:
        """Ask for a finished job in another format, without solving again: a job of its own.

        Args: output: as in `submit`, such as {"format": "gguf"}.
        """
        said = {"output": dict(output)} | ({"labels": dict(labels)} if labels else {})
        return self._call(self._job_kind, "POST", job_path(job_id, "exports"), json=said)

    @job_items
    def exports(self, job_id: str) -> Flow[None]:
        """The exports of a job, newest first."""
        return self._pages(self._job_kind, job_path(job_id, "exports"), {"limit": MAX_PAGE})

    @job_call
    def publish(self, job_id: str, target: Mapping[str, Any], *, labels: Mapping[str, str] | None = None) -> Flow[JobFields]:
        """Ask for a finished job's files to be put elsewhere: a job of its own, whose `publication` says where they are.

        Args: target: {"hub": "owner/name", "private": true, "revision": ...} or {"bucket": "s3://..."}.
        """
        said = {"target": dict(target)} | ({"labels": dict(labels)} if labels else {})
        return self._call(self._job_kind, "POST", job_path(job_id, "publications"), json=said)

    @job_items
    def publications(self, job_id: str) -> Flow[None]:
        """The publications of a job, newest first."""
        return self._pages(self._job_kind, job_path(job_id, "publications"), {"limit": MAX_PAGE})

    @job_call
    def cancel(self, job_id: str) -> Flow[JobFields]:
        """Ask for a job's end. A running one stops at its next heartbeat, so the answer may still say `running`."""
        return self._call(self._job_kind, "POST", job_path(job_id, "cancel"))

    @job_call
    def pause(self, job_id: str) -> Flow[JobFields]:
        """Let a job rest until `resume`. A running one stops within seconds, so the answer may still say `running`."""
        return self._call(self._job_kind, "POST", job_path(job_id, "pause"))

    @job_call
    def resume(self, job_id: str) -> Flow[JobFields]:
        """Queue a paused job again; it continues after its last finished block."""
        return self._call(self._job_kind, "POST", job_path(job_id, "resume"))

    @job_call
    def change(self, job_id: str, *, labels: Mapping[str, str] | None = None, priority: int | None = None) -> Flow[JobFields]:
        """Change a job's labels (all of them) or its priority; None leaves them."""
        given = {"labels": None if labels is None else dict(labels), "priority": priority}
        return self._call(self._job_kind, "PATCH", job_path(job_id), json=given)

    @call
    def delete(self, job_id: str, *, cascade: bool = False) -> Flow[None]:
        """Remove a job that has ended, with all it has. Args: cascade: its exports, too."""
        yield from self._send("DELETE", job_path(job_id), params={"cascade": cascade})

    @job_call
    def delete_artifacts(self, job_id: str, *, solutions: bool = False) -> Flow[JobFields]:
        """Remove the files of a job that has ended; it and its report stay. Args: solutions: also what is kept for exports."""
        where = job_path(job_id, "artifacts")
        return self._call(self._job_kind, "DELETE", where, params={"solutions": solutions})

    @job_call
    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Flow[JobFields]:
        """The job, once it has ended, however. A service that is away for a while is waited for.

        Raises: WaitTimeout: it has not ended in time; it goes on.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s, drops = FIRST_POLL_S, 0
        while True:
            try:
                job = yield from self._read_job(job_id)
                drops = 0
            except Exception as error:
                if not is_passing(error) or drops == len(RECONNECT_DELAYS_S):
                    raise
                pause_s, drops = RECONNECT_DELAYS_S[drops], drops + 1
            else:
                if job.is_final:
                    return job
            if deadline_s is not None and time.monotonic() + pause_s > deadline_s:
                raise WaitTimeout(job_id, timeout_s or 0.0)
            yield Sleep(jittered(pause_s))
            pause_s = min(1.5 * pause_s, MAX_POLL_S)

    @items(Event)
    def events(self, job_id: str, *, after: int = 0) -> Flow[None]:
        """The job's events from `after` on, past and coming, ending with its final state.

        A dropped connection is taken up again where it broke; several drops in a row raise `ServiceUnreachable`.
        """
        yield from self._read_job(job_id)  # an unknown job, or nobody there, is said at once; what comes later is a drop
        yield from followed(self.base_url, job_path(job_id, "events"), after, lambda: self._read_job(job_id))

    @call
    def report(self, job_id: str) -> Flow[dict[str, Any]]:
        """The report of a job that succeeded."""
        return self._call(dict[str, Any], "GET", job_path(job_id, "report"))

    @call
    def artifacts(self, job_id: str) -> Flow[tuple[Artifact, ...]]:
        return self._list_artifacts(job_id)

    @call
    def download(
        self,
        job_id: str,
        folder: Path | str,
        *,
        on_bytes: Callable[[int], None] = ignore_bytes,
        parallel: int = PARALLEL,
    ) -> Flow[tuple[Path, ...]]:
        """Bring all files of a job into `folder`. Files appear complete and verified, or not at all.

        What an earlier call has brought is not fetched again: whole files are verified, begun ones go on where they were.

        Args: on_bytes: told how many bytes more are here, from several threads; parallel: files at once.
        Raises: ChecksumMismatch: a file arrived damaged. UnsafeName: a name leads out of the folder.
        """
        artifacts = yield from self._list_artifacts(job_id)
        targets = tuple(inside(Path(folder), artifact.name) for artifact in artifacts)
        flows = [self._fetch(job_id, *pair, on_bytes) for pair in zip(artifacts, targets, strict=True)]
        yield Together(flows, parallel)
        return targets

    @call
    def download_file(
        self, job_id: str, artifact: Artifact, target: Path | str, *, on_bytes: Callable[[int], None] = ignore_bytes
    ) -> Flow[None]:
        """Bring one artifact to `target`, verified against its SHA-256, going on where an earlier call was cut off.

        Raises: ChecksumMismatch: it arrived damaged; what was at `target` before is untouched.
        """
        yield from self._fetch(job_id, artifact, Path(target), on_bytes)

    def _read_job(self, job_id: str) -> Flow[JobFields]:
        return self._call(self._job_kind, "GET", job_path(job_id))

    def _list_artifacts(self, job_id: str) -> Flow[tuple[Artifact, ...]]:
        return tuple((yield from gathered(self._pages(Artifact, job_path(job_id, "artifacts"), {"limit": MAX_PAGE}))))

    def _fetch(self, job_id: str, artifact: Artifact, target: Path, on_bytes: Callable[[int], None]) -> Flow[None]:
        request = Send("GET", job_path(job_id, "artifacts", artifact.name))
        return fetch(self.base_url, request, artifact, target, on_bytes)


def job_path(job_id: str, *parts: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *(quote(part) for part in parts)])
