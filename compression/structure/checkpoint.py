"""A shrunk model as a folder that other software loads.

Where all blocks have the same shape, and the family's config.json can say it, the folder is a plain transformers checkpoint.
Otherwise config.json stays that of the source, and two files lie beside it: `shapes.json`, and `load_shrunk.py` that reads it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig

from compression.formats.export import COPIED, write_json
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.models.headers import INDEX_FILE
from compression.models.skeleton import parameters_on_meta
from compression.models.streamed import StreamedModel
from compression.structure import loader
from compression.structure.loader import SHAPES_FILE
from compression.structure.shrink import Cuts, kept_of, shrunk_block
from compression.structure.units import BlockKept, counts, plain_config, stand_ins, structure_of

LOADER_FILE = "load_shrunk.py"
VERSION = 1


@torch.inference_mode()
def write_shrunk(model: StreamedModel, cuts_of: Callable[[int], Cuts], folder: Path) -> tuple[BlockKept, ...]:
    """Write weights, config and tokenizer, block by block, in the dtypes of the source.

    Args: cuts_of: block -> what becomes of its halves. folder: exists and is empty.
    Returns: what is kept of each block.
    """
    checkpoint = model.checkpoint
    architecture = checkpoint.architecture
    shards = 1 + architecture.blocks
    weight_map: dict[str, str] = {}
    total_bytes = 0
    kept: list[BlockKept] = []
    for number in range(shards):
        if number == 0:
            tensors = _outside(checkpoint)
        else:
            cuts = cuts_of(number - 1)
            kept.append(kept_of(cuts))
            tensors = _block(model, number - 1, cuts)
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX_FILE, {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))})
    _write_config(checkpoint, kept, folder)
    for name in COPIED:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    return tuple(kept)


def shapes_document(checkpoint: Checkpoint, kept: Sequence[BlockKept]) -> dict[str, Any]:
    """What `shapes.json` holds; `loader.py` says what it means."""
    architecture = checkpoint.architecture
    structure = structure_of(architecture)
    return {
        "version": VERSION,
        "class": class_name(checkpoint),
        "block_path": architecture.block_path,
        "blocks": [
            {
                "attention": block.attention,
                "ffn": block.ffn,
                "set": counts(structure, block),
                "replace": stand_ins(structure, block),
            }
            for block in kept
        ],
    }


def is_plain(checkpoint: Checkpoint, kept: Sequence[BlockKept]) -> bool:
    """Whether transformers loads it as it loads the source."""
    return plain_config(structure_of(checkpoint.architecture), kept) is not None


def class_name(checkpoint: Checkpoint) -> str:
    """Transformers' class, which config.json may leave out."""
    return checkpoint.architecture.class_name or type(_skeleton(checkpoint)).__name__


def _write_config(checkpoint: Checkpoint, kept: Sequence[BlockKept], folder: Path) -> None:
    config = {name: value for name, value in checkpoint.config.items() if name != "auto_map"}  # no code is written
    plain = plain_config(structure_of(checkpoint.architecture), kept)
    write_json(folder / "config.json", config | (plain or {}))
    if plain is None:
        (folder / SHAPES_FILE).write_text(json.dumps(shapes_document(checkpoint, kept), indent=1) + "\n", "utf-8")
        shutil.copyfile(Path(loader.__file__), folder / LOADER_FILE)


def _skeleton(checkpoint: Checkpoint) -> Any:
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
    with parameters_on_meta():
        return AUTO_CLASSES[checkpoint.architecture.task].from_config(config, trust_remote_code=False)


def _outside(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What lies outside the blocks, by its names in the model, whatever an old checkpoint calls it; tied tensors once."""
    inside = f"{checkpoint.architecture.block_path}."
    names = [name for name in _skeleton(checkpoint).state_dict() if not name.startswith(inside)]
    stored = {name: found for name in names if (found := checkpoint.stored_name(name)) is not None}
    tensors = checkpoint.read(dict.fromkeys(stored.values()))
    return {name: tensors[found] for name, found in stored.items()}


def _block(model: StreamedModel, number: int, cuts: Cuts) -> dict[str, Tensor]:
    """A block's tensors in the dtypes of the source: a detour by a dtype that holds all of its values loses none."""
    checkpoint = model.checkpoint
    prefix = f"{checkpoint.architecture.block_path}.{number}."
    block = model.load_block(number)
    try:
        shrunk = shrunk_block(block, number, checkpoint.architecture, cuts)
        found: dict[str, Tensor] = {}
        for name, tensor in shrunk.state_dict().items():
            stored = checkpoint.stored_name(prefix + name)
            if stored is not None:
                found[prefix + name] = tensor.to("cpu", checkpoint.dtype_of(stored)).contiguous()
        return found
    finally:
        model.free_block(number)
