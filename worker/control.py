"""What the supervisor tells its child on the child's standard input: the spec, then commands; its end says that it is gone."""

import os
import threading
from collections.abc import Callable
from enum import StrEnum

from pydantic import BaseModel

from compression.errors import Cancelled
from compression.events import ActivityStarted, BlockFinished, StageStarted

SUPERVISOR_IS_GONE = 70  # exit status, seen by nobody


class Command(StrEnum):
    """A line of its own each."""

    DRAIN = "drain"  # finish what would be lost, save it, and stop
    STOP = "stop"  # stop at the next module

    def to_line(self) -> bytes:
        return f"{self}\n".encode()


class Control:
    """The child's end. Commands are heard at once and obeyed at the next event, by raising `Cancelled` there.

    Args: descriptor: to read from, unbuffered: a reader of its own would swallow commands that follow the spec closely.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._heard = b""
        self._commands: set[str] = set()
        self._stage: str | None = None
        self._would_lose = False  # by stopping right now

    def read_line(self) -> bytes:
        """The next line, without its end; what was said last, where nothing follows."""
        while b"\n" not in self._heard and (heard := os.read(self._descriptor, 65536)):
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def listen(self) -> None:
        """Hear commands from now on, in a thread; at the end of the input the whole process ends, so that no orphan stays."""
        threading.Thread(target=self._listen, name="control", daemon=True).start()

    def check(self) -> None:
        """Raises: Cancelled: the supervisor wants this process to stop, and it may do so now."""
        if Command.STOP in self._commands or (Command.DRAIN in self._commands and not self._would_lose):
            raise Cancelled

    def obeyed(self, send: Callable[[BaseModel], None]) -> Callable[[BaseModel], None]:
        """`send`, and then a look at what was heard."""

        def send_and_check(event: BaseModel) -> None:
            send(event)
            self._follow(event)
            self.check()

        return send_and_check

    def _follow(self, event: BaseModel) -> None:
        """A compression loses the block at work. What comes after its last block, like other tasks, is lost as a whole."""
        match event:
            case StageStarted(stage=stage):
                self._stage, self._would_lose = stage, stage != "compressing"
            case ActivityStarted(block=block) if block:
                self._would_lose = True
            case BlockFinished(block=block, blocks=blocks) if self._stage == "compressing":
                self._would_lose = block == blocks

    def _listen(self) -> None:
        while line := self.read_line():
            self._commands.add(line.decode(errors="replace"))
        os._exit(SUPERVISOR_IS_GONE)
