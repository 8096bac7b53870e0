"""One attempt at one job: fetch its inputs, run the child, publish what it made, and write down how it ended."""

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from compression.errors import CompressionError
from compression.events import Event, Note, StageStarted
from compression.manifest import REPORT_FILE
from compression.report import Outcome
from jobs import repository
from jobs.artifacts import ArtifactStore
from jobs.database import Sessions
from jobs.errors import SolutionsGone, SourceError, StaleAttempt
from jobs.failure import Failure, from_compression_error, from_solutions_gone, from_source_error
from jobs.fetch_errors import RetryableFetchError
from jobs.repository import StoredFile
from jobs.settings import Settings
from jobs.states import FINAL
from jobs.tables import Job
from worker.child import Child, RunnerCrashed
from worker.environment import child_environment
from worker.folder import JobFolder, job_folder
from worker.inputs import Inputs
from worker.lease import Interrupted, Lease, Reason
from worker.messages import Error, Result
from worker.spec import Spec

RUNNER_COMMAND = (sys.executable, "-m", "worker.runner")
MAX_RETRY_DELAY_S = 300.0  # attempts that were handed back count in the exponent too

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class RunnerRefused(Exception):
    """The runner ended with a typed error, which another attempt would meet again."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


@dataclass(frozen=True)
class Host:
    """What every attempt of this worker shares.

    Attributes:
        environment: the worker's own, of which the runner gets an allowlist.
        shutdown: set when this worker must go.
    """

    settings: Settings
    sessions: Sessions
    store: ArtifactStore
    environment: Mapping[str, str]
    shutdown: threading.Event
    runner_command: Sequence[str] = RUNNER_COMMAND


@dataclass(frozen=True)
class Made:
    """What an attempt has put into the store."""

    files: Sequence[StoredFile]
    solutions: Sequence[StoredFile] = ()


class Attempt:
    """A claimed job, until this attempt at it ends."""

    def __init__(self, host: Host, job: Job) -> None:
        self._host, self._settings = host, host.settings
        self._job, self._job_id, self._attempt = job, job.id, job.attempt
        self._verdict: Outcome | None = None  # of a finished runner's report
        self._folder: JobFolder = job_folder(host.settings.scratch_dir, job.id)
        self._lease = Lease(
            host.sessions, job.id, job.attempt, host.settings.lease_s, host.settings.heartbeat_s, host.shutdown
        )

    def run(self) -> None:
        """See the job through. Only a database that is gone raises; the lease then runs out, and the sweep does the rest."""
        try:
            with self._lease:
                ended = self._end_of(self._work)
        except StaleAttempt:
            log.warning("job %s: attempt %d was lost to another worker", self._job_id, self._attempt)
            return
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
            return self._write(repository.fail, refusal.failure)
        except CompressionError as error:
            return self._write(repository.fail, from_compression_error(error))
        except SourceError as error:
            return self._write(repository.fail, from_source_error(error))
        except SolutionsGone as error:
            return self._write(repository.fail, from_solutions_gone(error))
        except (RunnerCrashed, RetryableFetchError) as error:
            log.warning("job %s: attempt %d: %s", self._job_id, self._attempt, error)
            return self._retry(str(error))
        except Exception as error:  # the boundary of the attempt: a full disk, a store that is down, a bug of ours
            log.exception("job %s: attempt %d", self._job_id, self._attempt)
            return self._retry(f"{type(error).__name__}: {error}")
        return self._write(repository.succeed, made.files, self._verdict, made.solutions)

    def _interrupted(self, reason: Reason) -> Job | None:
        match reason:
            case Reason.CANCELLED:
                return self._write(repository.cancelled)
            case Reason.SHUTDOWN:
                return self._write(repository.hand_back)
            case Reason.LOST:
                log.warning("job %s: attempt %d has lost its lease", self._job_id, self._attempt)
                return None

    def _retry(self, reason: str) -> Job:
        delay_s = self._settings.retry_delay_s * 2 ** (self._attempt - 1)
        return self._write(repository.retry, reason, min(delay_s, MAX_RETRY_DELAY_S))

    def _work(self) -> Made:
        self._folder.make()
        self._record(StageStarted(stage="fetching"))
        inputs = Inputs(self._host.sessions, self._host.store, self._settings, self._job, self._folder)
        self._run(inputs.fetch(self._note, self._lease.check))
        return self._publish(keeps_solutions=self._job.task == "compress")

    def _run(self, spec: Spec) -> None:
        """Run the child to its result. Raises: RunnerRefused, RunnerCrashed."""
        environment = child_environment(self._host.environment, self._folder.home, self._settings.threads)
        grace_s = self._settings.grace_s
        with Child(self._host.runner_command, environment, self._folder.home, spec.to_line(), grace_s) as child:
            self._lease.on_interrupt(child.stop)
            for message in child.messages():
                match message:
                    case Result(verdict=verdict):
                        self._verdict = verdict
                        return
                    case Error(error=failure):
                        raise RunnerRefused(failure)
                    case event:
                        self._record(event)
            self._lease.check()  # if we stopped it, that is no crash
            raise child.crash()

    def _publish(self, *, keeps_solutions: bool = False) -> Made:
        """Put every file into the store; nothing points at them until the job's row does. Raises: RunnerCrashed."""
        self._record(StageStarted(stage="publishing"))
        files = self._put_all(self._folder.out)
        if REPORT_FILE not in {file.name for file in files}:
            raise RunnerCrashed("The runner announced a result and left no report.")
        return Made(files, self._put_all(self._folder.solutions) if keeps_solutions else ())

    def _put_all(self, folder: Path) -> Sequence[StoredFile]:
        return [self._put(folder, path) for path in sorted(folder.rglob("*")) if not path.is_dir()]

    def _put(self, folder: Path, path: Path) -> StoredFile:
        self._lease.check()
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise RunnerCrashed(f"The runner left {name}, which is no regular file.")
        sha256, size_bytes = self._host.store.put_file(path)
        return StoredFile(name, sha256, size_bytes)

    def _note(self, message: str) -> None:
        self._lease.check()
        self._record(Note(message=message))

    def _record(self, event: Event) -> None:
        self._write(repository.record, event.type, event.model_dump(mode="json", exclude={"type"}))

    def _write(self, change: Callable[Concatenate[Session, str, int, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One transaction under this attempt's fence. Raises: StaleAttempt."""
        with self._host.sessions.begin() as session:
            return change(session, self._job_id, self._attempt, *args, **kwargs)
