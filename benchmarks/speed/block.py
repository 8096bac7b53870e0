"""Blocks of a large model's shape with random weights through the product's own pass, extrapolated to the whole model.

A block is measured with everything that it costs: reading it (from a file that was just written, so mostly from the system's
cache), both forwards of all calibration windows, Hessians, factors, sweeps, and writing what was solved. The first one pays
for what is done once, such as kernels compiled and memory pinned; the last lacks a forward, as nothing follows it. The whole
model is then the ends, the first block, and the second so many times as there are others; writing the final checkpoint is not
in it. Attention's share is small and grows with the length of windows.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Row
from benchmarks.speed.chart import Bar
from benchmarks.speed.recipes import PRUNING, RECIPES
from benchmarks.speed.stages import STAGES
from benchmarks.speed.synthetic import Passed, run_pass, write_model
from compression import environment

WIDTHS = ("hidden_size", "ffn_dim", "intermediate_size", "num_attention_heads", "word_embed_proj_dim", "vocab_size")
PEAK_BYTES = 60e9


@dataclass(frozen=True)
class Shape:
    """A model's shape. Args: blocks: of the whole model; bar_s: for the whole model, on one 80 GB GPU."""

    name: str
    model_type: str
    config: dict[str, Any]
    blocks: int
    bar_s: float


SHAPES = {
    "opt-175b": Shape(
        "OPT-175B",
        "opt",
        {
            "hidden_size": 12288,
            "word_embed_proj_dim": 12288,
            "ffn_dim": 49152,
            "num_attention_heads": 96,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
            "do_layer_norm_before": True,
        },
        blocks=96,
        bar_s=45 * 60,
    ),
    "llama-7b": Shape(
        "Llama 7B",
        "llama",
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "vocab_size": 32000,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        },
        blocks=32,
        bar_s=4 * 60,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="only this; may be repeated")
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help=f"may be repeated; default: {PRUNING}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--nsamples", type=int, default=128)
    parser.add_argument("--seqlen", type=int, default=2048)
    parser.add_argument("--blocks", type=int, default=3, help="blocks that are run; at least 3")
    parser.add_argument("--shrink", type=int, default=1, help="divides all widths and the vocabulary")
    parser.add_argument("--compute-dtype", choices=("float32", "bfloat16"), help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--scratch", type=Path, help="where the random checkpoint is written; default: the temporary folder")


def run(args: argparse.Namespace, show: Callable[[list[Row]], None]) -> tuple[list[Row], list[Bar]]:
    """Args: show: is given rows as they come."""
    if args.blocks < 3:
        raise SystemExit("--blocks must be at least 3: the first block is slower, and the last lacks a forward")
    if args.quick:
        args.nsamples, args.seqlen, args.shrink = 2, 16, 32
    rows: list[Row] = []
    bars: list[Bar] = []
    for shape in (SHAPES[name] for name in args.shape or SHAPES):
        is_whole = args.shrink == 1 and args.nsamples * args.seqlen == 128 * 2048
        for recipe, passed in _passed(shape, args):
            case = f"{shape.name}, {recipe}"
            new = _rows(case, shape, passed, is_whole=is_whole)
            show(new)
            rows += new
            bars.append(Bar(f"a block of {case}", passed.block_s[1]))
    return rows, bars


def _passed(shape: Shape, args: argparse.Namespace) -> Iterator[tuple[str, Passed]]:
    """What each recipe took, on the same checkpoint."""
    device = environment.pick_device(args.device)
    compute_dtype = args.compute_dtype or ("bfloat16" if device.type == "cuda" else "float32")
    config = {name: size // args.shrink if name in WIDTHS else size for name, size in shape.config.items()}
    with tempfile.TemporaryDirectory(prefix="scalpel-block-", dir=args.scratch) as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, shape.model_type, config | {"num_hidden_layers": args.blocks}, torch.float16, device)
        for number, recipe in enumerate(args.recipe or [PRUNING]):
            work, dtype = Path(scratch) / str(number), getattr(torch, compute_dtype)
            yield recipe, run_pass(folder, work, RECIPES[recipe], args.nsamples, args.seqlen, device, dtype)


def _rows(case: str, shape: Shape, passed: Passed, *, is_whole: bool) -> list[Row]:
    """Every step of the extrapolation. Args: is_whole: nothing was made smaller, so that the bar can be held against it."""
    first_s, block_s, around_s = (sum(part.values()) for part in (*passed.block_s[:2], passed.around_s))
    block = passed.block_s[1]
    whole_s = around_s + first_s + (shape.blocks - 1) * block_s
    bar = (shape.bar_s / 3600, "the bar") if is_whole else (None, None)
    device_bytes = passed.memory.device_peak_bytes
    return [
        *(Row(case, f"one block, {stage}", block[stage], "s") for stage in STAGES if block[stage] > 0),
        Row(case, "one block", block_s, "s"),
        Row(case, "the first block", first_s, "s"),
        Row(case, f"{shape.blocks - 1} blocks", (shape.blocks - 1) * block_s / 3600, "h"),
        Row(case, "ends: embedding, head", around_s / 3600, "h"),
        Row(case, "whole model, extrapolated", whole_s / 3600, "h", *bar),
        *(
            [Row(case, "peak device memory", device_bytes / 1e9, "GB", PEAK_BYTES / 1e9, "the bar")]
            if device_bytes is not None
            else []
        ),
        Row(case, "peak host memory", passed.memory.host_peak_bytes / 1e9, "GB"),
    ]
