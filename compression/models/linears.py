"""Which modules of a model are nn.Linear: loaders of packed formats replace those, and must be told which stayed dense."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from compression.models.checkpoint import Checkpoint
from compression.models.quiet import quiet_transformers


def linear_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of all nn.Linear of the model, head included, in the model's order. Costs no memory: nothing is allocated."""
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    with quiet_transformers(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
