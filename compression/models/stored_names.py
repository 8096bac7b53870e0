"""What a checkpoint calls a parameter of the model. Torch-free."""

from collections.abc import Container

from compression.families import Architecture


def stored_name(names: Container[str], architecture: Architecture, name: str) -> str | None:
    """The checkpoint's name of a model parameter.

    Args: names: of the tensors that the checkpoint holds.
    Returns: None: not stored under a name of its own (tied, or in another layout: see `storage`).
    """
    return next((found for found in spellings(architecture, name) if found in names), None)


def spellings(architecture: Architecture, name: str) -> tuple[str, ...]:
    """The names that a checkpoint may give to what the model calls so."""
    renamed = name
    for ours, theirs in architecture.renames:
        renamed = renamed.replace(ours, theirs)
    prefix = f"{architecture.base_prefix}."
    return name, name.removeprefix(prefix), renamed, renamed.removeprefix(prefix)
