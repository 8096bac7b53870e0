"""Loads an artifact as a transformers user would. In float32, so that differences are the file's and not the arithmetic's."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

ENCODERS: tuple[tuple[str, Any], ...] = (
    ("ForMaskedLM", AutoModelForMaskedLM),
    ("ForSequenceClassification", AutoModelForSequenceClassification),
    ("Model", AutoModel),
)
DECODERS = ("ForCausalLM", "LMHeadModel")


def load(folder: Path, device: str) -> Any:
    auto_class = class_for(folder)
    model = auto_class.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    options = {"use_cache": False} if auto_class is AutoModelForCausalLM else {}

    def outputs(ids: Tensor) -> Tensor:
        found = model(input_ids=ids.to(device), **options)
        return found.last_hidden_state if auto_class is AutoModel else found.logits  # type: ignore[no-any-return]

    return outputs


def class_for(folder: Path) -> Any:
    """The automatic class that opens the class in config.json; with none in it, that for language models."""
    names = AutoConfig.from_pretrained(folder, trust_remote_code=False).architectures or [""]
    if names[0].endswith(DECODERS):
        return AutoModelForCausalLM
    return next((found for end, found in ENCODERS if names[0].endswith(end)), AutoModelForCausalLM)


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')}", load)
