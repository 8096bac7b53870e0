"""Things to do again and again, each in its own time."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_BACKOFF_S = 30.0

log = logging.getLogger(__name__)


@dataclass
class Chore:
    """Something to do again and again. After a failure it waits longer and longer, but it never stops.

    Args: is_slow: it may take minutes, for which nothing else may wait.
    """

    name: str
    work: Callable[[], object]
    period_s: float
    is_slow: bool = False
    due_at: float = 0.0  # on the monotonic clock
    failures: int = 0

    def do(self) -> None:
        try:
            self.work()
            self.failures = 0
        except Exception:  # the boundary of the chore: the next one must still run
            self.failures += 1
            log.warning("%s failed %d times in a row", self.name, self.failures, exc_info=True)
        self.due_at = time.monotonic() + min(self.period_s * 2**self.failures, max(MAX_BACKOFF_S, self.period_s))


def always() -> bool:
    """The `leads` of whoever asks nobody."""
    return True


def run_chores(
    chores: Sequence[Chore], stop: threading.Event, leads: Callable[[], bool] = always, wait_s: float = 1.0
) -> None:
    """Do each chore when it is due, until `stop` is set.

    Args:
        leads: asked before each round; without the lead nothing is done.
        wait_s: until a housekeeper without the lead asks again.
    """
    while not stop.is_set():
        if not leads():
            stop.wait(wait_s)
            continue
        chore = min(chores, key=lambda each: each.due_at)
        pause_s = chore.due_at - time.monotonic()
        if pause_s > 0:
            stop.wait(min(pause_s, wait_s))  # and ask again who leads, for it may have changed by then
        else:
            chore.do()
