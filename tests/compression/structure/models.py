"""Tiny models of every family with a declared structure, and their blocks."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from compression.families import Architecture, read_architecture
from tests import tiny_models
from tests.compression.test_families import saved_config

DECODERS = ("llama", "llama-untied", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "granite", "opt", "opt-projected", "gpt2")
ENCODERS = tuple(name for name in tiny_models.ENCODERS if not name.startswith("distilbert"))
FAMILIES = (*DECODERS, *ENCODERS)
UNDECLARED = tuple(name for name in (*tiny_models.FAMILIES, *tiny_models.ENCODERS) if name not in FAMILIES)


def architecture_of(family: str) -> Architecture:
    return read_architecture(saved_config(tiny_models.build(family)))


def blocks_of(model: PreTrainedModel, architecture: Architecture) -> nn.ModuleList:
    blocks = model.get_submodule(architecture.block_path)
    assert isinstance(blocks, nn.ModuleList)
    return blocks


def shapes_of(block: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}


def ids(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(2, 250, (rows, length), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def output_of(model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """Logits, or the last hidden states of a model without a head."""
    found = model(input_ids=input_ids)
    output: torch.Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return output
