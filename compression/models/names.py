"""Names in a model: which modules are nn.Linear, and what the model calls a checkpoint's tensors. Nothing is allocated."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from compression.models.checkpoint import Checkpoint
from compression.models.quiet import quiet_transformers


@dataclass(frozen=True)
class Names:
    """What a loader of packed weights must be told.

    Args:
        linears: all nn.Linear, head included, in the model's order; loaders replace them.
        of_stored: the checkpoint's name of a tensor -> the model's, where a checkpoint leaves leading parts out.
    """

    linears: tuple[str, ...]
    of_stored: Mapping[str, str]


def read_names(checkpoint: Checkpoint) -> Names:
    """Build the model on the meta device and look."""
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    with quiet_transformers(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    stored = ((checkpoint.stored_name(name), name) for name in model.state_dict())
    return Names(
        linears=tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear)),
        of_stored={found: name for found, name in stored if found and name.endswith(f".{found}")},
    )
