"""Medians of repeated runs on a device."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.stages import Clock

REPEATS = 5


def median_seconds(
    timed: Callable[[Any], Any], prepare: Callable[[], Any], device: torch.device, *, repeats: int = REPEATS
) -> float:
    """The median after one run that warms up. Args: prepare: makes what `timed` is given, each time, outside its time."""
    return statistics.median([_seconds(timed, prepare, Clock(device)) for _ in range(repeats + 1)][1:])


def _seconds(timed: Callable[[Any], Any], prepare: Callable[[], Any], clock: Clock) -> float:
    given = prepare()
    begin = clock.now()
    timed(given)
    return clock.seconds(begin, clock.now())
