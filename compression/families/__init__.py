"""config.json -> Architecture, or a refusal with its reason. Torch-free; one small file a family, found by itself."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix, Reader, Task

ONCE_REMOTE = frozenset({"deepseek_v2", "deepseek_v3", "falcon", "mpt", "phi", "phi3"})
"""Published with code of their own before transformers had them: `auto_map` is a leftover there, and is not followed."""

__all__ = ["Architecture", "Matrix", "Task", "known_model_types", "read_architecture"]

_READERS: dict[str, Reader] = {}
_ENCODERS: set[str] = set()  # whose readers decide for themselves which classes they take
for _found in iter_modules(__path__, prefix=f"{__name__}."):
    _file = import_module(_found.name)
    for _model_type, _reader in (*getattr(_file, "READERS", {}).items(), *getattr(_file, "ENCODERS", {}).items()):
        if _model_type in _READERS:
            raise RuntimeError(f"two family files read model_type {_model_type!r}")
        _READERS[_model_type] = _reader
    _ENCODERS |= getattr(_file, "ENCODERS", {}).keys()


def known_model_types() -> tuple[str, ...]:
    """Values of `model_type` that can be compressed."""
    return tuple(sorted(_READERS))


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Read a checkpoint's config.json.

    Raises: UnsupportedModel: unknown architecture, remote code, already quantised, or a config that does not say enough.
    """
    known = ", ".join(known_model_types())
    model_type = config.get("model_type")
    if config.get("auto_map") and model_type not in tuple(ONCE_REMOTE):
        raise UnsupportedModel("config.json asks for remote code (auto_map); code from a checkpoint is never run")
    if config.get("quantization_config") is not None:
        raise UnsupportedModel("the model is already quantised (config.json has quantization_config); name its dense original")
    if not isinstance(model_type, str) or model_type not in _READERS:
        raise UnsupportedModel(f"model_type {model_type!r} is unknown; known are {known}")
    read = Config(config)
    is_causal = not read.class_name or read.class_name.endswith(("ForCausalLM", "LMHeadModel"))
    if not is_causal and model_type not in _ENCODERS:
        raise UnsupportedModel(f"{read.class_name} is not a causal language model")
    return _READERS[model_type](read)
