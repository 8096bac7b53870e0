"""The whole model, as the authors' scripts go about it: load, evaluate, block after block, evaluate, save.

Shapes: W = windows, L = tokens of a window, D = hidden size.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from benchmarks.plain.solver import Hessian, grids, prune, round_columns, upper_factor, without_dead
from compression.calibration import TextReader
from compression.options import OptqOptions, SparseGptOptions
from compression.protocol import Calibration, Evaluation
from compression.stopwatch import Stopwatch


@dataclass(frozen=True)
class PlainResult:
    """Seconds by stage, and both perplexities."""

    seconds: dict[str, float]
    dense: float
    compressed: float


class _Caught(Exception):
    """No error: it ends a forward whose rest is not needed."""


class _Catcher(nn.Module):
    """Stands before the first block and keeps what the model passes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: list[Tensor] = []
        self.kwargs: dict[str, Any] = {}

    def forward(self, hidden: Tensor, **kwargs: Any) -> None:
        self.hidden.append(hidden)
        self.kwargs = kwargs
        raise _Caught


@torch.no_grad()
def run(
    folder: Path,
    blocks: str,
    options: SparseGptOptions | OptqOptions,
    calibration: Calibration,
    evaluation: Evaluation,
    out: Path,
) -> PlainResult:
    """Compress the checkpoint of a folder and save it. Args: blocks: module path of the model's list of blocks."""
    watch = Stopwatch()
    disable_progress_bar()
    with watch.time("prepare"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        reader = TextReader(tokenizer, len(tokenizer), {})  # the same windows as Scalpel's
        assert calibration.seqlen is not None and evaluation.seqlen is not None
        ids_WL = reader.calibration(calibration.source, calibration.nsamples, calibration.seqlen, calibration.seed).ids_WL
        texts = [reader.evaluation(source, evaluation.windows, evaluation.seqlen).ids_WL for source in evaluation.sources]
    with watch.time("load"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with watch.time("evaluation"):
        dense = perplexity(model, torch.cat(texts))
    compress_blocks(model, model.get_submodule(blocks), ids_WL, options, watch)
    with watch.time("evaluation"):
        compressed = perplexity(model, torch.cat(texts))
    with watch.time("export"):
        model.save_pretrained(out)
    return PlainResult(watch.seconds, dense, compressed)


def perplexity(model: nn.Module, ids_WL: Tensor) -> float:
    """exp of the mean cross-entropy over windows."""
    losses = []
    for ids_L in ids_WL:
        logits = model(ids_L[None], use_cache=False).logits
        losses.append(nn.functional.cross_entropy(logits[0, :-1].float(), ids_L[1:]).item())
    return math.exp(sum(losses) / len(losses))


def compress_blocks(
    model: nn.Module, blocks: nn.Module, ids_WL: Tensor, options: SparseGptOptions | OptqOptions, watch: Stopwatch
) -> None:
    """Every block: windows through it with hooks, its linear modules solved, windows through it again."""
    assert isinstance(blocks, nn.ModuleList)
    with watch.time("forward for Hessians"):
        hidden, kwargs = first_inputs(model, blocks, ids_WL)
    for block in blocks:
        hessians = _calibrate(block, hidden, kwargs, watch)
        for name, module in _linear(block).items():
            module.weight.copy_(solve(module.weight, hessians[name].H_CC, options, watch))
        with watch.time("forward of compressed"):
            hidden = [_first(block(window, **kwargs)) for window in hidden]


def first_inputs(model: nn.Module, blocks: nn.ModuleList, ids_WL: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
    """The hidden states (1, L, D) of every window before block 0, and what the model passes to blocks besides."""
    first, catcher = blocks[0], _Catcher()
    blocks[0] = catcher
    for ids_L in ids_WL:
        try:
            model(ids_L[None], use_cache=False)
        except _Caught:
            continue
    blocks[0] = first
    return catcher.hidden, catcher.kwargs


def _calibrate(block: nn.Module, hidden: list[Tensor], kwargs: dict[str, Any], watch: Stopwatch) -> dict[str, Hessian]:
    linear = _linear(block)
    hessians = {name: Hessian(module.in_features, module.weight.device) for name, module in linear.items()}
    products = Stopwatch()

    def hook_for(hessian: Hessian) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            with products.time("Hessian products"):
                hessian.add(inputs[0])

        return hook

    handles = [module.register_forward_hook(hook_for(hessians[name])) for name, module in linear.items()]
    begin = time.perf_counter()
    for window in hidden:
        block(window, **kwargs)
    spent = time.perf_counter() - begin
    for handle in handles:
        handle.remove()
    inside = products.seconds.get("Hessian products", 0.0)
    for stage, seconds in (("Hessian products", inside), ("forward for Hessians", spent - inside)):
        watch.seconds[stage] = watch.seconds.get(stage, 0.0) + seconds
    return hessians


def solve(W_RC: Tensor, H_CC: Tensor, options: SparseGptOptions | OptqOptions, watch: Stopwatch) -> Tensor:
    """One matrix with SparseGPT or OPTQ."""
    W_RC, H_CC = without_dead(W_RC, H_CC)
    if isinstance(options, SparseGptOptions):
        with watch.time("factorisation"):
            U_CC = upper_factor(H_CC, options.damp)
        with watch.time("sweep"):
            return prune(W_RC, U_CC, options.sparsity, options.block_size)
    group_size = W_RC.shape[1] if options.group_size == "row" else options.group_size
    assert isinstance(options.bits, int) and isinstance(group_size, int)
    with watch.time("factorisation"):
        order_C = H_CC.diagonal().argsort(descending=True)
        U_CC = upper_factor(H_CC[order_C][:, order_C], options.damp)
    with watch.time("sweep"):
        scale_RG, zero_RG = grids(W_RC, options.bits, group_size)
        return round_columns(W_RC, U_CC, order_C, scale_RG, zero_RG, options.bits, options.block_size)


def _linear(block: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}


def _first(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
