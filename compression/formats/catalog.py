"""What each output format can hold, decided before any weight is read. Torch-free: requests are checked with it.

A format says in words what it refuses, and which options it wants where the user named none. Writers have files of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidOptions
from compression.options import LayerOptions
from compression.protocol import OutputFormat

Refusal = Callable[[LayerOptions], str | None]


def _takes_all(_: LayerOptions) -> str | None:
    return None


def _no_defaults(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Format:
    """One output format.

    Args:
        content: what its files hold, in a sentence.
        loads_in: software that reads it.
        refuses: why a matrix with these options cannot be written, or None.
        defaults: given the flat options that the user named, further ones that the format wants.
        carries_embeddings: whether embedding and head can be stored in 8 bits.
    """

    name: OutputFormat
    content: str
    loads_in: tuple[str, ...]
    refuses: Refusal = _takes_all
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_defaults
    carries_embeddings: bool = False


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format(
            "dense",
            "safetensors in the source's dtype: zeros are real zeros, quantised weights are stored de-quantised.",
            ("transformers", "vLLM"),
        ),
    )
}


def check_options(name: OutputFormat, options: LayerOptions, where: str) -> None:
    """Refuse options whose result the format cannot hold.

    Args: where: what the options are for, such as `recipe` or the name of a layer.
    Raises: InvalidOptions: with the reason, and the formats that would do.
    """
    reason = FORMATS[name].refuses(options)
    if reason is not None:
        others = ", ".join(found.name for found in FORMATS.values() if found.refuses(options) is None)
        raise InvalidOptions("output.format", f"{name} cannot hold {where} ({options.method}): {reason}", f"here: {others}")
