"""Which tensors go into which file of an artifact: one for what lies outside the blocks, then one a block. Torch-free."""

from collections.abc import Iterable

from compression.families import Architecture


def names_by_block(names: Iterable[str], architecture: Architecture) -> list[list[str]]:
    """Stored tensor names: first those outside the blocks, then block by block."""
    path = f"{architecture.block_path}."
    bare = path.removeprefix(f"{architecture.base_prefix}.")
    groups: list[list[str]] = [[] for _ in range(architecture.blocks + 1)]
    for name in sorted(names):
        rest = name.removeprefix(path) if name.startswith(path) else name.removeprefix(bare)
        number = rest.partition(".")[0]
        is_block = rest != name and number.isdigit() and int(number) < architecture.blocks
        groups[int(number) + 1 if is_block else 0].append(name)
    return groups
