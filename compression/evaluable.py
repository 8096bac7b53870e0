"""Which checkpoints can be evaluated at all, from config.json alone: more than can be compressed. Torch-free."""

from collections.abc import Mapping
from typing import Any

from compression.errors import UnsupportedModel

CAUSAL = ("ForCausalLM", "LMHeadModel")


def causal_class(config: Mapping[str, Any]) -> str:
    """The checkpoint's class name.

    Raises: UnsupportedModel: remote code, or no causal language model.
    """
    if config.get("auto_map"):
        raise UnsupportedModel("config.json asks for remote code (auto_map); code from a checkpoint is never run")
    classes = config.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else "a model without a class name"
    if not name.endswith(CAUSAL):
        raise UnsupportedModel(f"{name} is not a causal language model, the only kind that is evaluated on text")
    return name
