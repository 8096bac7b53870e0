"""Waiting for something that cannot be told to stop."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
TICK_S = 0.2


def interruptible(work: Callable[[], T], check: Callable[[], None]) -> T:
    """The result of `work`, run beside; what `check` raises ends the wait, not the work.

    For downloads: a silent one may take hours. It is left behind then, and what it fetches is in the cache for next time.
    """
    future: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(future, work), name="interruptible", daemon=True).start()
    while not wait([future], TICK_S).done:
        check()
    return future.result()


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # handed to the waiting thread, whatever it is
        future.set_exception(error)
