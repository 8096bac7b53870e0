"""Windows that go through a block abreast: on a CPU several at once, each on threads of its own.

A block's forward is a hundred operations. Threads that share each of them wait for one another at its end, in a small model a
third of the time: a block of SmolLM2-135M and 1024 tokens took 16.6 ms on two threads, and two windows abreast 10.6 ms each
(Intel Xeon with AMX, torch 2.13.0). Large operations are long enough to be shared; then one window goes at a time, and needs
the memory of one.

What hooks do with what they hear waits until the window's turn comes, so that sums are added up in the order of windows,
whoever is first, and by all threads together.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from compression.budgets import ABREAST_NUMBERS, MAX_ABREAST

Action = Callable[[], None]

_own = threading.local()  # .later: what a window's hooks have put off, in order


def afterwards(action: Action) -> None:
    """Do something that depends on the order of windows: at once, or in a window that goes abreast, when its turn has come."""
    later: list[Action] | None = getattr(_own, "later", None)
    if later is None:
        action()
    else:
        later.append(action)


def run_abreast(work: Callable[[int], None], windows: int, numbers: int, device: torch.device) -> None:
    """Call `work` with every window's number, under the caller's inference mode and autocast.

    Args: numbers: in the hidden states of a window.
    Raises: what `work` raises, of the first window that does.
    """
    threads = torch.get_num_threads()
    width = _width(threads) if device.type == "cpu" and numbers <= ABREAST_NUMBERS else 1
    with ThreadPoolExecutor(width) as pool:  # starts a thread when it is given work
        for first in range(0, windows, width):
            group = range(first, min(first + width, windows))
            if len(group) == 1:
                work(first)
                continue
            for action in _together(pool, work, group, threads):
                action()


def _width(threads: int) -> int:
    """The most windows that leave no thread over."""
    return max(width for width in range(1, MAX_ABREAST + 1) if threads % width == 0)


def _together(pool: ThreadPoolExecutor, work: Callable[[int], None], group: range, threads: int) -> list[Action]:
    """Returns: what was put off, window by window."""
    inference = torch.is_inference_mode_enabled()
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def alone(window: int) -> list[Action]:
        torch.set_num_threads(max(1, threads // len(group)))
        _own.later = []
        try:
            with torch.inference_mode(inference), torch.autocast("cpu", autocast, enabled=autocast is not None):
                work(window)
            return list(_own.later)
        finally:
            del _own.later

    futures = [pool.submit(alone, window) for window in group]
    try:
        return [action for future in futures for action in future.result()]
    finally:
        torch.set_num_threads(threads)  # of this thread it was never another, but a library counts for the whole process
