"""Our way of loading a shrunk model whose blocks are not all alike. The folder may come from anywhere, so it is checked first:
what shapes.json says must follow from the family and fit every tensor, and no code of the folder is run.
"""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from compression.environment import pick_device
from compression.errors import UnsupportedModel
from compression.families import Architecture
from compression.families.base import MAX_BLOCKS
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.models.footprint import check_footprint
from compression.models.refusing import refusing
from compression.models.skeleton import parameters_on_meta
from compression.models.storage import check_values
from compression.models.untrusted import check_model_path, read_object
from compression.structure import loader
from compression.structure.checkpoint import shapes_document
from compression.structure.loader import SHAPES_FILE
from compression.structure.units import BlockKept, Shapes, kept_shapes, structure_of

MAX_SHAPES_BYTES = 4_000_000
OUR_LOADER = Path(loader.__file__)
"""The program that lies beside shapes.json; one of another version is refused as any other code is, and is not needed here."""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    attention: Annotated[int, Field(ge=0)]
    ffn: Annotated[int, Field(ge=0)]
    set: dict[str, int]
    replace: dict[str, str]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: int
    class_name: str = Field(alias="class")
    block_path: str
    blocks: Annotated[list[_Block], Field(max_length=MAX_BLOCKS)]


def has_shapes(folder: Path) -> bool:
    """Whether this folder holds a model whose blocks are not all alike."""
    return (folder / SHAPES_FILE).is_file()


def load_shrunk(folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> PreTrainedModel:
    """The model as transformers' own, in evaluation mode.

    Args: dtype: of its parameters; default: as stored.
    Raises: UnsupportedModel: the files do not fit together; with file, tensor and reason. InvalidOptions: no such device.
    """
    check_model_path(folder, ours=OUR_LOADER)
    where = pick_device(device)
    checkpoint = Checkpoint(folder)
    kept = read_kept(checkpoint)
    check_shapes(checkpoint, kept)
    with refusing(f"{folder.name} cannot be loaded"):
        model: PreTrainedModel = loader.load(folder, dtype=dtype)
    for name, parameter in model.named_parameters():
        check_values(name, parameter.detach())
    nn.Module.to(model, where)
    return model


def read_kept(checkpoint: Checkpoint) -> tuple[BlockKept, ...]:
    """What is left of each block. Raises: UnsupportedModel: shapes.json says what does not follow from the family."""
    architecture = checkpoint.architecture
    try:
        document = _Document.model_validate(read_object(checkpoint.folder / SHAPES_FILE, MAX_SHAPES_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        raise UnsupportedModel(f"{SHAPES_FILE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if len(document.blocks) != architecture.blocks:
        raise UnsupportedModel(f"{SHAPES_FILE} describes {len(document.blocks)} blocks, config.json {architecture.blocks}")
    kept = tuple(BlockKept(block.attention, block.ffn) for block in document.blocks)
    for number, block in enumerate(kept):
        for half in structure_of(architecture):
            if block.of(half) > half.units:
                has = f"block {number} would have {block.of(half)} units of the {half.name}, its model {half.units}"
                raise UnsupportedModel(f"{SHAPES_FILE}: {has}")
    if document.model_dump(by_alias=True) != shapes_document(checkpoint, kept):
        raise UnsupportedModel(f"{SHAPES_FILE} does not describe blocks of a {architecture.model_type} model that were cut")
    return kept


def check_shapes(checkpoint: Checkpoint, kept: tuple[BlockKept, ...]) -> None:
    """Every tensor of the blocks must be there, in the shape that its block has left.

    Raises: UnsupportedModel: naming the tensor.
    """
    architecture = checkpoint.architecture
    dense = dense_shapes(checkpoint)
    for number, block in enumerate(kept):
        for name, shape in kept_shapes(dense[number], architecture, block).items():
            full = f"{architecture.block_path}.{number}.{name}"
            stored = checkpoint.stored_name(full)
            if stored is None:
                raise UnsupportedModel(f"the folder has no tensor {full}")
            found = checkpoint.tensors[stored].shape
            if found != shape:
                raise UnsupportedModel(f"tensor {stored} has shape {found}, {SHAPES_FILE} says {shape}")


def dense_shapes(checkpoint: Checkpoint) -> list[Shapes]:
    """Shapes of each block's parameters as config.json has them, by their names inside the block."""
    with refusing("config.json describes no model that transformers can build"):
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    auto_class = AUTO_CLASSES[checkpoint.architecture.task]
    check_footprint(config, auto_class, checkpoint.tensors, is_packed=True)  # much of it may have been cut
    with parameters_on_meta():
        model: nn.Module = auto_class.from_config(config, trust_remote_code=False)
    return [
        {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
        for block in blocks_of(model, checkpoint.architecture)
    ]


def blocks_of(model: nn.Module, architecture: Architecture) -> nn.ModuleList:
    """The list of blocks of a whole model."""
    blocks = model.get_submodule(architecture.block_path)
    assert isinstance(blocks, nn.ModuleList)
    return blocks
