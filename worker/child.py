"""The runner seen from its supervisor: a process in a group of its own, its messages, its last words, its end."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from jobs.failure import MAX_LAST_WORDS, exhausted
from worker.control import Command
from worker.endings import RunnerCrashed
from worker.messages import MESSAGE, Message

MAX_LINE_BYTES = 1024 * 1024
MAX_LAST_WORDS_BYTES = 64 * 1024  # kept for the log
MAX_QUOTED = 8 * 1024  # characters of it that go into the job's record

log = logging.getLogger(__name__)


class Child:
    """A started runner; leaving the context ends it.

    Args:
        command: the program, which speaks the protocol of `worker.runner`.
        environment: all that it gets.
        folder: its current folder.
        first_line: written to its standard input, which then stays open until the child is to go.
        grace_s: from being told to stop to SIGKILL.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, first_line: bytes, grace_s: float
    ) -> None:
        self._grace_s = grace_s
        # A group of its own: Ctrl-C at a terminal reaches the supervisor alone, which then ends its child in order.
        self._process = subprocess.Popen(  # noqa: S603  the command is ours
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._stopping, self._is_stopped = threading.Lock(), False
        self._telling = threading.Lock()
        self._last_words = b""
        self._listener = threading.Thread(target=self._listen, name="runner-stderr", daemon=True)
        self._listener.start()
        self._tell(first_line)

    @property
    def pid(self) -> int:
        """Of the runner, which leads the session and the group of all that it starts."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._listener.join(self._grace_s)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(pipe)

    def messages(self) -> Iterator[Message]:
        """What the runner says, until it closes its end. Raises: RunnerCrashed: it said something else."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                return  # it died in the middle of a word
            try:
                yield MESSAGE.validate_json(line)
            except ValidationError as error:
                start = line[:200].decode(errors="replace")
                raise RunnerCrashed(f"The runner wrote a line that is not of the protocol: {start!r}") from error

    def crash(self) -> RunnerCrashed:
        """Why there is no result, once the messages have ended."""
        self._is_gone(self._grace_s)  # it closes its end a moment before it has an exit code
        self.stop()
        self._listener.join(self._grace_s)
        words = self._last_words.decode(errors="replace").strip()
        log.warning("the runner crashed; its last words:\n%s", words)
        code = self._process.returncode
        failure = exhausted(f"{_ending(code)} Its last words:\n{words[-MAX_QUOTED:]}").model_copy(
            update={
                "exit_code": code if code >= 0 else None,
                "exit_signal": _signal_name(-code) if code < 0 else None,
                "last_words": words[-MAX_LAST_WORDS:],
            }
        )
        return RunnerCrashed(failure)

    def drain(self) -> None:
        """Let the runner finish what would be lost, and stop then. Safe to call from any thread; does not wait."""
        self._tell(Command.DRAIN.to_line())

    def stop(self) -> None:
        """End the runner's whole group: ask, then kill. Safe to call from any thread, and twice."""
        with self._stopping:
            if self._is_stopped:
                return
            if not self._is_gone(0.0):
                self._tell(Command.STOP.to_line())
                self._is_gone(self._grace_s)
            self._signal(signal.SIGKILL)  # also whatever the runner may have started itself
            self._process.wait()
            self._is_stopped = True  # from here on the number may belong to somebody else

    def _is_gone(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # all gone already
            os.killpg(self._process.pid, number)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # Too late for one that has died, whose exit code and last words say why, or that was let go of.
        with self._telling, suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while heard := os.read(self._process.stderr.fileno(), 65536):
            self._last_words = (self._last_words + heard)[-MAX_LAST_WORDS_BYTES:]


def _ending(code: int) -> str:
    if code >= 0:
        return f"The runner ended with exit code {code} and without a result."
    hint = " (often: the system ran out of memory)" if -code == signal.SIGKILL else ""
    return f"The runner was killed by {_signal_name(-code)}{hint}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def _close(pipe: IO[bytes] | None) -> None:
    assert pipe is not None
    with suppress(BrokenPipeError):  # what was still to be written to a dead reader
        pipe.close()
