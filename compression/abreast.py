"""Small pieces of work done abreast on a CPU: several at once, each on threads of its own.

A block's forward is a hundred operations. Threads that share each of them wait for one another at its end, in a small model a
third of the time: a block of SmolLM2-135M and 1024 tokens took 16.6 ms on two threads, and two windows abreast 10.6 ms each
(Intel Xeon with AMX, torch 2.13.0). Solving a matrix of 576 columns takes two threads as long as one. Large operations are
long enough to be shared; then one piece goes at a time, and needs the memory of one.

Nothing depends on which piece is through first. What pieces add up has a sum for each place in the row, and what must be done
in order is put off until the piece's turn has come.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from compression.budgets import MAX_ABREAST

Action = Callable[[], None]

_own = threading.local()  # .later: what a piece has put off, in order; .share, .place: see below


def afterwards(action: Action) -> None:
    """Do something that depends on the order of pieces: at once, or in a piece that goes abreast, when its turn has come."""
    later: list[Action] | None = getattr(_own, "later", None)
    if later is None:
        action()
    else:
        later.append(action)


def place() -> int:
    """Of this piece among those abreast, from 0. What has one place never runs at the same time."""
    return int(getattr(_own, "place", 0))


def share() -> float:
    """Of the caller's time that this thread's time stands for: 1, or less in a piece that goes abreast."""
    return float(getattr(_own, "share", 1.0))


def run_abreast(
    work: Callable[[int], None], pieces: int, is_small: bool, device: torch.device, *, also_alone: bool = False
) -> None:
    """Call `work` with every piece's number, under the caller's inference mode and autocast.

    The threads that a piece has do not depend on its neighbours, so that neither do the last bits of its sums.

    Args:
        is_small: so that several may be in memory, and gain from it.
        also_alone: so, too, where it is the only one; else that has all threads.
    Raises: what `work` raises, of the first piece that does.
    """
    threads = torch.get_num_threads()
    width = _width(threads) if device.type == "cpu" and is_small and (pieces > 1 or also_alone) else 1
    if width == 1:
        for piece in range(pieces):
            work(piece)
        return
    with ThreadPoolExecutor(width) as pool:
        for first in range(0, pieces, width):
            for action in _together(pool, work, range(first, min(first + width, pieces)), threads, width):
                action()


def _width(threads: int) -> int:
    """The most pieces that leave no thread over."""
    return max(width for width in range(1, MAX_ABREAST + 1) if threads % width == 0)


def _together(pool: ThreadPoolExecutor, work: Callable[[int], None], group: range, threads: int, width: int) -> list[Action]:
    """Returns: what was put off, piece by piece."""
    inference = torch.is_inference_mode_enabled()
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def alone(piece: int) -> list[Action]:
        torch.set_num_threads(threads // width)
        _own.later, _own.share, _own.place = [], 1 / len(group), piece - group.start
        try:
            with torch.inference_mode(inference), torch.autocast("cpu", autocast, enabled=autocast is not None):
                work(piece)
            return list(_own.later)
        finally:
            del _own.later, _own.share, _own.place

    futures = [pool.submit(alone, piece) for piece in group]
    try:
        return [action for future in futures for action in future.result()]
    finally:
        torch.set_num_threads(threads)  # of this thread it was never another, but a library counts for the whole process
