"""Where the time of a pass goes: its own events cut it into stages, and stopwatches on three functions cut those finer.

Nothing of the pass is changed. The stopwatches cost under a microsecond a call, a few milliseconds in all; of what is solved
abreast each thread's time counts by its share. On a CUDA device moments are events on its stream, so that nothing waits to be
measured: stages are then what the device was at.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

import compression.methods.optq
import compression.methods.sparsegpt
from compression import abreast
from compression.events import ActivityStarted, BlockFinished, Event, StageStarted
from compression.hessian import Accumulator, Hessian

STAGES = (
    "prepare",
    "load",
    "forward for Hessians",
    "Hessian products",
    "factorisation",
    "sweep",
    "accounting",
    "forward of compressed",
    "evaluation",
    "export",
    "verification",
    "other",
)
"""Accounting: everything else of solving, such as layer errors and writing the finished block. Other: between the stages."""

INNER: tuple[tuple[Any, str, str], ...] = (
    (Accumulator, "add", "Hessian products"),
    (Hessian, "factor", "factorisation"),
    (compression.methods.sparsegpt, "sweep", "sweep"),
    (compression.methods.optq, "sweep", "sweep"),
)
Moment = Any  # seconds, or a CUDA event


class Clock:
    """Moments of a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> Moment:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, begin: Moment, end: Moment) -> float:
        """Between two moments; waits for the second one to have come."""
        if self.device.type != "cuda":
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


@dataclass
class Stages:
    """Listens to one pass: give it as `on_event`, and let the pass run inside `listening()`."""

    clock: Clock
    _marks: list[tuple[Moment, int, str]] = field(default_factory=list)
    _inner: list[tuple[Moment, Moment, float, int, str, str]] = field(default_factory=list)
    _is_solved: bool = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._enter(0, {"compressing": "prepare", "exporting": "export"}.get(event.stage, "verification"))
            case ActivityStarted():
                self._enter(event.block, self._stage(event))
            case BlockFinished():
                self._enter(0, "other")

    def _stage(self, event: ActivityStarted) -> str:
        """Calibrating comes twice in a block: before anything is solved, and after."""
        if event.activity == "loading":
            self._is_solved = False
        elif event.activity == "solving":
            self._is_solved = True
        calibrating = "forward of compressed" if self._is_solved else "forward for Hessians"
        return {"loading": "load", "calibrating": calibrating, "solving": "accounting"}.get(event.activity, "evaluation")

    def _enter(self, block: int, stage: str) -> None:
        self._marks.append((self.clock.now(), block, stage))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, calls of the `INNER` functions are timed; at the end the last stage ends."""
        originals = [getattr(owner, name) for owner, name, _ in INNER]
        for (owner, name, stage), original in zip(INNER, originals, strict=True):
            setattr(owner, name, self._timed(original, stage))
        try:
            yield
        finally:
            for (owner, name, _), original in zip(INNER, originals, strict=True):
                setattr(owner, name, original)
            self._enter(0, "other")

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = self.clock.now()
            try:
                return function(*args, **kwargs)
            finally:
                _, block, around = self._marks[-1]
                self._inner.append((begin, self.clock.now(), abreast.share(), block, around, stage))

        return timed

    def of_block(self, block: int) -> dict[str, float]:
        """Seconds by stage of one block, counted from 1; 0 is what lies outside blocks."""
        seconds = dict.fromkeys(STAGES, 0.0)
        for (begin, at, stage), (end, _, _) in zip(self._marks, self._marks[1:], strict=False):
            if at == block:
                seconds[stage] += self.clock.seconds(begin, end)
        for begin, end, share, at, around, stage in self._inner:
            if at == block:
                spent = share * self.clock.seconds(begin, end)
                seconds[stage] += spent
                seconds[around] -= spent
        return seconds

    def seconds(self) -> dict[str, float]:
        """By stage, over everything that was heard."""
        blocks = [self.of_block(block) for block in sorted({block for _, block, _ in self._marks})]
        return {stage: sum(block[stage] for block in blocks) for stage in STAGES}
