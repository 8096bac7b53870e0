"""The `dense` format: the source's own layout with compressed values in it. Loads wherever the source loaded.

Names, dtypes, shapes and config stay; a pruned weight is a real zero, a quantised one is stored de-quantised. Written shard
by shard, one shard a block, so that no more than a block is in memory.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from compression.block import stored_form
from compression.layer import Weights
from compression.models.checkpoint import Checkpoint
from compression.models.headers import INDEX_FILE
from compression.plan import Plan

COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)


def write_dense(checkpoint: Checkpoint, plan: Plan, solved: Callable[[int], dict[str, Weights]], folder: Path) -> None:
    """Write the checkpoint with solved matrices in place of the source's.

    Args:
        solved: block index -> weights by module name.
        folder: exists and is empty.
    """
    by_block = _names_by_block(checkpoint)
    total = len(by_block)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(by_block, start=1):
        shard = f"model-{number:05d}-of-{total:05d}.safetensors"
        tensors = checkpoint.read(names)
        if number > 1:
            weights = solved(number - 2)
            for layer in plan.block(number - 2):
                if layer.name in weights:
                    stored = checkpoint.stored_name(f"{layer.name}.weight")
                    assert stored is not None
                    tensors[stored] = stored_form(weights[layer.name], layer, checkpoint.dtype_of(stored))
        save_file(tensors, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(names, shard)
    index = {"metadata": {"total_size": checkpoint.size_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")
    for name in COPIED:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)


def _names_by_block(checkpoint: Checkpoint) -> list[list[str]]:
    """Stored tensor names: first those outside the blocks, then block by block."""
    path = f"{checkpoint.architecture.block_path}."
    bare = path.removeprefix(f"{checkpoint.architecture.base_prefix}.")
    groups: list[list[str]] = [[] for _ in range(checkpoint.architecture.blocks + 1)]
    for name in sorted(checkpoint.tensors):
        rest = name.removeprefix(path) if name.startswith(path) else name.removeprefix(bare)
        number = rest.partition(".")[0]
        is_block = rest != name and number.isdigit() and int(number) < checkpoint.architecture.blocks
        groups[int(number) + 1 if is_block else 0].append(name)
    return groups
