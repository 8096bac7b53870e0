"""The true runner with one disturbance, as its argument says. Not a test.

`kill`: dies of SIGKILL once two blocks are finished; `kill-old`: so does one of another version; `wait`: after a layer of
the second block it goes on only when it has been told something.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

from pydantic import BaseModel

import compression
from compression.events import BlockFinished, LayerFinished
from worker import runner
from worker.control import Control

OLD_VERSION = "0.0.1"


class Killed(Control):
    def obeyed(self, send: Callable[[BaseModel], None]) -> Callable[[BaseModel], None]:
        def send_and_die(event: BaseModel) -> None:
            send(event)
            if isinstance(event, BlockFinished) and event.block == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        return super().obeyed(send_and_die)


class Waiting(Control):
    def obeyed(self, send: Callable[[BaseModel], None]) -> Callable[[BaseModel], None]:
        def send_and_wait(event: BaseModel) -> None:
            send(event)
            if isinstance(event, LayerFinished) and ".1." in event.result.name:
                while not self._commands:
                    time.sleep(0.01)

        return super().obeyed(send_and_wait)


if __name__ == "__main__":
    if sys.argv[1] == "kill-old":
        compression.__version__ = OLD_VERSION
    vars(runner)["Control"] = Waiting if sys.argv[1] == "wait" else Killed
    runner.main()
