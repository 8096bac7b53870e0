"""Tiny models compressed into a format, for tests that open the folder afterwards."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from compression.compress import compress
from compression.models.checkpoint import Checkpoint
from compression.plan import Plan, plan
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.recipe import parse_recipe, resolve
from compression.report import Report
from compression.weights import GridWeights
from tests import tiny_models
from tests.compression.problems import random_weights, seeded

SEQLEN = 32


def source(folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    """A model whose matrices are large enough for their quantisation to show in the logits."""
    model = tiny_models.build(family)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and ".embed" not in name and "lm_head" not in name:
                parameter.mul_(6)
    torch.nn.Module.to(model, dtype).save_pretrained(folder)
    tiny_models.byte_tokenizer().save_pretrained(folder)
    return folder


def export(model: Path, out: Path, output_format: OutputFormat, recipe: dict[str, Any], **options: Any) -> Report:
    text = out.with_suffix(".txt")
    text.write_text(tiny_models.text(1500))
    return compress(
        model,
        recipe,
        out,
        calibration=Calibration(source=str(text), nsamples=4, seqlen=SEQLEN),
        evaluation=Evaluation(sources=(str(text),), windows=1, seqlen=SEQLEN),
        output=Output(format=output_format),
        device="cpu",
        **{"certificate": False, **options},
    )


def planned(model: Path, output_format: OutputFormat, recipe: dict[str, Any]) -> Plan:
    """What the recipe means for the model."""
    return plan(resolve(parse_recipe(recipe), output_format), Checkpoint(model).architecture)


@torch.inference_mode()
def logits(folder: Path, dtype: torch.dtype | str = "auto", **options: Any) -> Tensor:
    """What the model in a folder predicts, loaded by transformers, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options).eval()
    ids = torch.randint(tiny_models.VOCABULARY, (2, SEQLEN), generator=seeded(3))
    return torch.as_tensor(model(input_ids=ids).logits).float()


def grid_weights(
    rows: int,
    columns: int,
    bits: Any,
    group_size: int,
    *,
    is_symmetric: bool,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> GridWeights:
    """Random codes on random grids, zero points at both ends of their range among them where asymmetric."""
    top = 2 if bits == "ternary" else 2**bits - 1
    groups = columns // group_size
    zero_RG = torch.full((rows, groups), float((top + 1) // 2))
    if not is_symmetric:
        zero_RG = torch.randint(top + 1, (rows, groups), generator=seeded(seed + 1)).float()
        zero_RG[0, 0], zero_RG[-1, -1] = 0, top
    return GridWeights(
        torch.randint(top + 1, (rows, columns), generator=seeded(seed), dtype=torch.uint8),
        random_weights(rows, groups, seed).abs().clamp_min(1e-3).to(dtype).float(),
        zero_RG,
        torch.arange(columns, dtype=torch.int32) // group_size,
        bits,
    )
