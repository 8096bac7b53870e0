"""Loads a model whose blocks are not all of one size. Needs torch, transformers and safetensors; nothing else.

    from load_shrunk import load
    model = load("the/folder/that/this/file/is/in")          # dtype=torch.bfloat16, device="cuda" where wanted

The folder holds config.json of the model that it was made from, smaller tensors, and shapes.json, which says of each block

    attention, ffn    how many units are left: heads (groups of them that share a key and value head), columns; 0: none
    set               "module.attribute" -> a whole number that the module's forward reads, such as its count of heads
    replace           module -> what takes its place where a whole half of the block was cut out; see `stand_in`

Everything else follows from the shapes of the tensors. The model that comes out is transformers' own, and trains.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn

SHAPES_FILE = "shapes.json"


class Gone(nn.Module):
    """In the place of what gave something to the residual stream: it gives 0."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.new_zeros(())


class GoneAttention(nn.Module):
    """In the place of an attention. A cache counts the tokens it has seen by what its first layer holds, so it is told."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden_states: Tensor, *_: Any, past_key_values: Any = None, **__: Any) -> tuple[Tensor, None]:
        if past_key_values is not None:
            nothing = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            past_key_values.update(nothing, nothing, self.block)
        return hidden_states.new_zeros(()), None


def load(folder: Path | str, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
    """The model in evaluation mode. Args: dtype: of its parameters; default: as stored.

    Raises: ValueError: tensors are missing, or the folder was written by a later version.
    """
    folder = Path(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    shapes = json.loads((folder / SHAPES_FILE).read_text("utf-8"))
    if shapes["version"] != 1:
        raise ValueError(f"{SHAPES_FILE} is of version {shapes['version']}; this file reads version 1")
    with without_numbers():
        model = getattr(transformers, shapes["class"])(config)
    for number, block in enumerate(model.get_submodule(shapes["block_path"])):
        reshape(block, number, shapes["blocks"][number]["set"], shapes["blocks"][number]["replace"])
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no dictionary
                put(model, name, tensors.get_tensor(name), dtype)
    model.tie_weights()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise ValueError(f"the folder has no tensor {missing[0]}")
    return model.eval().to(device)


def reshape(block: nn.Module, number: int, numbers: dict[str, int], replaced: dict[str, str]) -> None:
    """Give a block the modules and counts that it has left; its tensors come with `put`."""
    for path, count in numbers.items():
        module, _, attribute = path.rpartition(".")
        setattr(block.get_submodule(module), attribute, count)
    for path, kind in replaced.items():
        parent, _, leaf = path.rpartition(".")
        setattr(block.get_submodule(parent), leaf, stand_in(kind, number))


def stand_in(kind: str, block: int) -> nn.Module:
    """What takes a module's place: `zero`, `attention` (zero, for an attention), or `identity`."""
    if kind == "attention":
        return GoneAttention(block)
    return Gone() if kind == "zero" else nn.Identity()


def put(model: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> None:
    """Let a parameter or buffer be this tensor, whatever its size."""
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
        return
    if leaf not in module._parameters:
        raise ValueError(f"the model has no place for the tensor {name}")
    module._parameters[leaf] = nn.Parameter(tensor if dtype is None else tensor.to(dtype))
    if leaf == "weight" and isinstance(module, nn.Linear):
        module.out_features, module.in_features = tensor.shape
    if leaf == "weight" and hasattr(module, "nf"):  # GPT-2's way of writing a linear layer, transposed
        vars(module).update(nx=tensor.shape[0], nf=tensor.shape[1])


@contextmanager
def without_numbers() -> Iterator[None]:
    """Parameters made inside take no memory; buffers do, since rotary tables are computed once and stored nowhere."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter if parameter is None else nn.Parameter(parameter.to("meta")))

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
