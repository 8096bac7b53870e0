"""One attempt at one job: fetch its inputs, run the child, publish what it made, and write down how it ended."""

import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from compression.disk import is_disk_full
from compression.errors import CompressionError
from compression.events import BlockFinished, Event, Note, StageStarted
from compression.manifest import REPORT_FILE
from compression.report import Outcome
from jobs import attempts
from jobs.attempts import StoredFile
from jobs.database import Sessions
from jobs.databases import Chosen, chosen_from
from jobs.errors import SolutionsGone, SourceError, StaleAttempt
from jobs.estimating.rates import Rate, rates_of
from jobs.failure import (
    Failure,
    deadline_exceeded,
    disk_full,
    from_compression_error,
    from_solutions_gone,
    from_source_error,
)
from jobs.finished_report import read_report
from jobs.publications import Published
from jobs.settings import Settings
from jobs.sourcing.fetch_errors import RetryableFetchError
from jobs.states import FINAL
from jobs.store.artifacts import ArtifactStore
from jobs.tables import Job
from jobs.watching.tracing import NO_TRACING, Tracing
from worker.backoff import full_jitter_s
from worker.child import Child
from worker.endings import HostLacksRoom, RunnerCrashed, RunnerOutOfMemory, RunnerRefused
from worker.environment import child_environment
from worker.folder import JobFolder, job_folder
from worker.guards import Guards
from worker.inputs import Inputs
from worker.journal import Change, Journal
from worker.lease import Interrupted, Lease, Reason
from worker.messages import Error, Result, Stopped
from worker.preflight import check_fits
from worker.publication import Publishing
from worker.publishing import StoreAway, put_patiently
from worker.reach import confined
from worker.spans import AttemptSpans
from worker.spec import ExportSpec, Spec
from worker.uploads import Uploads

RUNNER_COMMAND = (sys.executable, "-m", "worker.runner")
STEP_DOWN = "Starting once more with the low-memory plan: hidden states in mapped files, and one Hessian at a time."
MAX_RETRY_DELAY_S = 300.0  # attempts that were handed back count in the exponent too

log = logging.getLogger(__name__)

P = ParamSpec("P")


@dataclass(frozen=True)
class Host:
    """What every attempt of this worker shares.

    Attributes:
        environment: the worker's own, of which the runner gets an allowlist.
        shutdown: set when this worker must go.
        draw: numbers from 0 to 1, for back-offs.
    """

    settings: Settings
    sessions: Sessions
    store: ArtifactStore
    environment: Mapping[str, str]
    shutdown: threading.Event
    runner_command: Sequence[str] = RUNNER_COMMAND
    draw: Callable[[], float] = random.random
    tracing: Tracing = NO_TRACING


@dataclass(frozen=True)
class Made:
    """What an attempt has put into the store."""

    files: Sequence[StoredFile]
    solutions: Sequence[StoredFile] = ()
    rates: Sequence[Rate] = ()
    published: Published | None = None
    chosen: Chosen | None = None


class Attempt:
    """A claimed job, until this attempt at it ends."""

    def __init__(self, host: Host, job: Job) -> None:
        self._host, self._settings = host, host.settings
        self._job, self._job_id, self._attempt = job, job.id, job.attempt
        self._spans = AttemptSpans(host.tracing, job)
        self._verdict: Outcome | None = None  # of a finished runner's report
        self._folder: JobFolder = job_folder(host.settings.scratch_dir, job.id)
        self._lease = Lease(
            host.sessions,
            job.id,
            job.attempt,
            host.settings.lease_s,
            host.settings.heartbeat_s,
            host.shutdown,
            host.settings.drain_s,
            run_left_s=None if job.run_limit_s is None else job.run_limit_s - job.running_s,
        )
        self._journal = Journal(host.sessions, job.id, job.attempt, job.last_seq, host.settings.lease_s)

    def run(self) -> None:
        """See the job through. Only a database that stays away raises: the lease runs out, and the sweep does the rest."""
        ended = None
        try:
            with self._lease:
                ended = self._end_of(self._work)
        except StaleAttempt:
            log.warning("job %s: attempt %d was lost to another worker", self._job_id, self._attempt)
            return
        finally:
            self._spans.end(None if ended is None else ended.state)
        if ended is not None:
            log.info("job %s: attempt %d left it %s", self._job_id, self._attempt, ended.state)
            if ended.state in FINAL:
                self._folder.remove()

    def _end_of(self, work: Callable[[], Made]) -> Job | None:
        """Do the work and write the job's fate: every way in which an attempt can end is in here."""
        try:
            made = work()
        except Interrupted as interruption:
            return self._interrupted(interruption.reason)
        except StaleAttempt:
            raise
        except RunnerRefused as refusal:
            return self._write(attempts.fail, refusal.failure)
        except CompressionError as error:
            return self._write(attempts.fail, from_compression_error(error))
        except SourceError as error:
            return self._write(attempts.fail, from_source_error(error))
        except SolutionsGone as error:
            return self._write(attempts.fail, from_solutions_gone(error))
        except (RunnerCrashed, HostLacksRoom) as error:
            log.warning("job %s: attempt %d: %s", self._job_id, self._attempt, error)
            return self._retry(error.failure.detail, error.failure)
        except (RetryableFetchError, StoreAway) as error:
            log.warning("job %s: attempt %d: %s", self._job_id, self._attempt, error, exc_info=error.__cause__)
            return self._retry(str(error), self._if_disk_is_full(error))
        except Exception as error:  # the boundary of the attempt: a full disk, a store that is down, a bug of ours
            log.exception("job %s: attempt %d", self._job_id, self._attempt)
            return self._retry(f"{type(error).__name__}: {error}", self._if_disk_is_full(error))
        return self._write(
            attempts.succeed, made.files, self._verdict, made.solutions, made.rates, made.published, made.chosen
        )

    def _interrupted(self, reason: Reason) -> Job | None:
        match reason:
            case Reason.CANCELLED:
                return self._write(attempts.cancelled)
            case Reason.PAUSED:
                return self._write(attempts.hand_back, "Its user had asked for a pause.")
            case Reason.SHUTDOWN:
                return self._write(attempts.hand_back)
            case Reason.DEADLINE:
                assert self._job.run_limit_s is not None
                return self._write(attempts.fail, deadline_exceeded(self._job.run_limit_s))
            case Reason.LOST:
                log.warning("job %s: attempt %d has lost its lease", self._job_id, self._attempt)
                return None

    def _if_disk_is_full(self, error: Exception) -> Failure | None:
        words = f"{type(error).__name__}: {error}. Free some space for the worker's scratch_dir, cache_dir and artifact store."
        return disk_full(words) if is_disk_full(error) else None

    def _retry(self, reason: str, failure: Failure | None = None) -> Job:
        delay_s = full_jitter_s(self._settings.retry_delay_s, self._attempt, MAX_RETRY_DELAY_S, self._host.draw)
        return self._write(attempts.retry, reason, delay_s, failure)

    def _work(self) -> Made:
        self._folder.make()
        if self._job.task == "publish":
            return self._publish_elsewhere()
        self._record(StageStarted(stage="fetching"))
        inputs = Inputs(self._host.sessions, self._host.store, self._settings, self._job, self._folder)
        spec = inputs.fetch(self._note, self._lease.check)
        check_fits(spec, self._folder, self._settings, (self._job.forecast or {}).get("artifact_bytes"))
        with self._uploading() as uploads:
            self._run_or_save_memory(spec, uploads)
        return self._publish(is_compression=self._job.task == "compress")

    def _publish_elsewhere(self) -> Made:
        self._record(StageStarted(stage="publishing"))
        publishing = Publishing(self._host.sessions, self._host.store, self._settings, self._job, self._folder)
        return Made((), published=publishing.publish(self._note, self._lease.check))

    @contextmanager
    def _uploading(self) -> Iterator[Uploads]:
        """Store finished blocks meanwhile; where the job goes on after this attempt, wait for those on their way."""
        host = self._host
        uploads = Uploads(
            host.sessions, host.store, self._job_id, self._attempt, self._folder.blocks, self._warn, draw=host.draw
        )
        try:
            yield uploads
        except (RunnerCrashed, HostLacksRoom, Interrupted) as error:
            if not (isinstance(error, Interrupted) and error.reason in (Reason.CANCELLED, Reason.LOST, Reason.DEADLINE)):
                uploads.flush(self._settings.flush_s)
            raise
        finally:
            uploads.close()

    def _run_or_save_memory(self, spec: Spec, uploads: Uploads) -> None:
        """Run the child; out of memory, once more with the plan that needs less. Raises: as `_run`."""
        try:
            self._run(spec, uploads)
        except RunnerOutOfMemory as ending:
            if isinstance(spec, ExportSpec):  # which has no such plan
                raise
            self._record(Note(level="warning", message=f"{ending.failure.detail} {STEP_DOWN}"))
            self._run(spec.model_copy(update={"low_memory": True}), uploads)

    def _run(self, spec: Spec, uploads: Uploads) -> None:
        """Run the child to its result. Raises: RunnerRefused, RunnerOutOfMemory, HostLacksRoom, RunnerCrashed."""
        environment = child_environment(self._host.environment, self._folder.home, self._settings.threads)
        command = confined(self._host.runner_command, spec, self._folder, self._settings, environment)
        with (
            Child(command, environment, self._folder.home, spec.to_line(), self._settings.grace_s) as child,
            Guards(child, self._settings, self._folder) as guards,
        ):
            self._lease.on_interrupt(child.stop, child.drain)
            for message in child.messages():
                match message:
                    case Result(verdict=verdict):
                        self._verdict = verdict
                        return
                    case Error(error=failure):
                        raise guards.refusal(failure)
                    case Stopped():
                        self._lease.stopped()
                        raise guards.explain(RunnerCrashed("The runner stopped without being told to."))
                    case BlockFinished() if spec.task == "compress":
                        self._record(message)
                        uploads.block_finished(message)
                    case event:
                        self._record(event)
            self._lease.check()  # if we stopped it, that is no crash
            raise guards.explain(child.crash())

    def _publish(self, *, is_compression: bool = False) -> Made:
        """Put every file into the store; nothing points at them until the job's row does. Raises: RunnerCrashed."""
        self._record(StageStarted(stage="publishing"))
        files = self._put_all(self._folder.out)
        if REPORT_FILE not in {file.name for file in files}:
            raise RunnerCrashed("The runner announced a result and left no report.")
        if not is_compression:
            return Made(files)
        report = read_report(self._folder.out / REPORT_FILE)
        return Made(files, self._put_all(self._folder.solutions), rates_of(report), chosen=chosen_from(report))

    def _put_all(self, folder: Path) -> Sequence[StoredFile]:
        return [self._put(folder, path) for path in sorted(folder.rglob("*")) if not path.is_dir()]

    def _put(self, folder: Path, path: Path) -> StoredFile:
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise RunnerCrashed(f"The runner left {name}, which is no regular file.")
        sha256, size_bytes = put_patiently(self._host.store, path, self._lease.check, self._settings.store_patience_s)
        return StoredFile(name, sha256, size_bytes)

    def _note(self, message: str) -> None:
        self._lease.check()
        self._record(Note(message=message))

    def _warn(self, message: str) -> None:
        self._record(Note(level="warning", message=message))

    def _record(self, event: Event) -> None:
        self._spans.observe(event)
        self._journal.record(event.type, event.model_dump(mode="json", exclude={"type"}), self._lease.check)

    def _write(self, change: Change[P], *args: P.args, **kwargs: P.kwargs) -> Job:
        """One transaction under this attempt's fence. Raises: StaleAttempt."""
        return self._journal.end(change, *args, **kwargs)
