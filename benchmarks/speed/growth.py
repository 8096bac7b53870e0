"""Cost as the work grows: random Llamas wider, deeper, and calibrated on more, through the product's own pass.

Of each stage the exponent that fits its times best (least squares in logarithms), beside the exponent of the operations that
the theory counts at the same sizes (`floor.py`). Where the first is smaller, small sizes pay for something else than
operations: calls, memory, the interpreter.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.results import Row
from benchmarks.speed.chart import Bar
from benchmarks.speed.floor import Tokens, operations
from benchmarks.speed.recipes import PRUNING, RECIPES
from benchmarks.speed.synthetic import run_pass, write_model
from compression import environment
from compression.models.checkpoint import Checkpoint

VOCABULARY, HEAD_DIM = 512, 32


@dataclass(frozen=True)
class Size:
    """One model and its calibration."""

    width: int
    depth: int
    samples: int
    seqlen: int


@dataclass(frozen=True)
class Plan:
    """What grows, from where, through which values."""

    base: Size
    width: tuple[int, ...]
    depth: tuple[int, ...]
    samples: tuple[int, ...]


FULL = Plan(Size(256, 2, 8, 256), width=(256, 384, 512, 768, 1024), depth=(2, 4, 8, 16), samples=(8, 16, 32, 64))
QUICK = Plan(Size(64, 2, 2, 16), width=(64, 128), depth=(2, 4), samples=(2, 4))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def run(args: argparse.Namespace, show: Callable[[list[Row]], None]) -> tuple[list[Row], list[Bar]]:
    """Args: show: is given rows as they come."""
    device = environment.pick_device(args.device)
    plan = QUICK if args.quick else FULL
    _measure(plan.base, device)  # what the first pass of a process pays once
    rows: list[Row] = []
    bars: list[Bar] = []
    for what in ("width", "depth", "samples"):
        sizes = [replace(plan.base, **{what: value}) for value in getattr(plan, what)]
        measured = [_measure(size, device) for size in sizes]
        new = [
            Row(f"{what} {value}", stage, times[stage], "s")
            for value, (times, work) in zip(getattr(plan, what), measured, strict=True)
            for stage in work
        ]
        new += _exponents(what, getattr(plan, what), measured)
        show(new)
        rows += new
        bars += [
            Bar(f"{what} {value}", {stage: times[stage] for stage in work})
            for value, (times, work) in zip(getattr(plan, what), measured, strict=True)
        ]
    return rows, bars


Measured = tuple[Mapping[str, float], Mapping[str, float]]  # seconds and operations, by stage


def _measure(size: Size, device: torch.device) -> Measured:
    with tempfile.TemporaryDirectory(prefix="scalpel-growth-") as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, "llama", _config(size), torch.float32, device)
        architecture = Checkpoint(folder).architecture
        passed = run_pass(folder, Path(scratch) / "work", RECIPES[PRUNING], size.samples, size.seqlen, device, torch.float32)
    work = operations(architecture, Tokens(size.samples, size.seqlen), Tokens(0, size.seqlen))
    return passed.seconds, {stage: done for stage, done in work.items() if done}


def _config(size: Size) -> dict[str, object]:
    return {
        "hidden_size": size.width,
        "intermediate_size": 3 * size.width,
        "num_attention_heads": size.width // HEAD_DIM,
        "num_hidden_layers": size.depth,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
    }


def _exponents(what: str, values: Sequence[int], measured: Sequence[Measured]) -> list[Row]:
    """Fitted, beside the theory's."""
    stages = measured[0][1]
    return [
        Row(
            f"growth with {what}",
            f"exponent of {stage}",
            exponent(values, [times[stage] for times, _ in measured]),
            "",
            exponent(values, [work[stage] for _, work in measured]),
            "theory",
        )
        for stage in stages
    ]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """b of the power law a x^b that fits best, by least squares in logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)
