"""Is the model that a config describes the one that the checkpoint holds? Asked before anything of its size is allocated."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from compression.errors import UnsupportedModel
from compression.models.headers import TensorInfo
from compression.models.refusing import refusing

MAX_EXCESS = 4  # of parameters over stored numbers, where each is stored as a number: tied ones are stored once
MAX_PACKED_EXCESS = 64  # where a stored number may hold several: eight codes, at a sparsity
MAX_BUFFER_BYTES = 8 * 2**30  # rotary tables, masks
SLACK = 1_000_000  # parameters of tiny models, of which little need be stored


def check_footprint(
    config: PretrainedConfig, auto_class: Any, tensors: Mapping[str, TensorInfo], *, is_packed: bool = False
) -> None:
    """Build the model without any memory, and count.

    Raises: UnsupportedModel: transformers cannot build it, or it is far larger than what is stored.
    """
    with refusing("config.json describes no model that transformers can build"), torch.device("meta"):
        model: nn.Module = auto_class.from_config(config, trust_remote_code=False)
    described = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(math.prod(info.shape) for info in tensors.values())
    if described > SLACK + stored * (MAX_PACKED_EXCESS if is_packed else MAX_EXCESS):
        raise UnsupportedModel(f"config.json describes a model of {described} parameters, and the checkpoint holds {stored}")
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if buffers > MAX_BUFFER_BYTES:
        raise UnsupportedModel(f"config.json describes tables of {buffers} bytes, more than {MAX_BUFFER_BYTES}")
