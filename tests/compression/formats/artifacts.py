"""Small artifacts of any format, made by the whole way from a tiny model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.compress import compress
from compression.protocol import Calibration, Evaluation, Output
from compression.report import Report
from tests import tiny_models

SEQLEN = 32


def make(
    folder: Path, recipe: dict[str, Any], output: Output, family: str = "llama", dtype: torch.dtype = torch.float32
) -> Report:
    """Compress a tiny model in `folder/model` to `folder/out`, without the certificate, which takes a fresh process."""
    if not (folder / "model").exists():
        tiny_models.save(folder / "model", family, dtype)
    text = folder / "text.txt"
    text.write_text(tiny_models.text())
    return compress(
        folder / "model",
        recipe,
        folder / "out",
        calibration=Calibration(source=str(text), nsamples=4, seqlen=SEQLEN),
        evaluation=Evaluation(sources=(str(text),), windows=2, seqlen=SEQLEN),
        output=output,
        device="cpu",
        certificate=False,
    )


@torch.inference_mode()
def cross_entropy(model: Any, folder: Path) -> float:
    """Mean over the windows that `make` evaluated on."""
    ids = torch.tensor(tiny_models.byte_tokenizer()((folder / "text.txt").read_text())["input_ids"])
    windows = ids[: 2 * SEQLEN].view(2, SEQLEN)
    losses = [torch.nn.functional.cross_entropy(model(input_ids=w[None]).logits[0, :-1], w[1:]) for w in windows]
    return float(torch.stack(losses).mean())


def some_ids() -> Tensor:
    return torch.arange(2, 2 + SEQLEN)[None]
