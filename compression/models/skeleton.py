"""Transformers' own models without weights, to be filled parameter by parameter."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules made inside have their parameters on the meta device but real buffers.

    Rotary tables and their like are computed in constructors and are in no checkpoint; a skeleton made wholly on the
    meta device would lose them.
    """
    original = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        original(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = frozen(parameter.to("meta"))

    nn.Module.register_parameter = register  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]
