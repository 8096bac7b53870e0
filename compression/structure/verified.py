"""A shrunk model on disk, checked: read back tensor by tensor, and loaded in a fresh process as a user would load it."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.artifact import certified
from compression.errors import VerificationError
from compression.formats.certificate import SHRUNK
from compression.models.checkpoint import Checkpoint
from compression.probe import Probe
from compression.report import Sample, Verification
from compression.structure.loading import has_shapes
from compression.structure.shrink import Cuts
from compression.structure.units import structure_of


def verify_shrunk(
    source: Checkpoint,
    folder: Path,
    cuts_of: Callable[[int], Cuts],
    probe: Probe,
    tokenizer: PreTrainedTokenizerBase,
    scratch: Path | None,
    device: torch.device,
    memory_limit_bytes: int | None = None,
) -> tuple[Verification, Sample | None, str | None]:
    """The verdict, a sample, and why there is none.

    Args: cuts_of: block -> what was evaluated of it. probe: what it gave. scratch: None: it is not loaded.
    Raises: VerificationError: the files hold something else.
    """
    _read_back(Checkpoint(folder), cuts_of)
    loader = SHRUNK if has_shapes(folder) else None
    return certified(folder, source, "dense", probe, tokenizer, scratch, device, memory_limit_bytes, loader)


def _read_back(written: Checkpoint, cuts_of: Callable[[int], Cuts]) -> None:
    """Every matrix that was solved or tuned. Raises: VerificationError: naming it."""
    architecture = written.architecture
    transposed = {matrix.name for matrix in architecture.matrices if matrix.is_transposed}
    for index in range(architecture.blocks):
        for half, cut in zip(structure_of(architecture), cuts_of(index), strict=True):
            expected: dict[str, Tensor] = {}
            if cut.weights_RK is not None:
                expected[f"{half.output}.weight"] = cut.weights_RK.T if half.output in transposed else cut.weights_RK
            for name, tensor in {**expected, **cut.tuned}.items():
                _check(written, f"{architecture.block_path}.{index}.{name}", tensor)


def _check(written: Checkpoint, name: str, expected: Tensor) -> None:
    stored = written.stored_name(name)
    found = None if stored is None else written.read([stored])[stored]
    if found is None or found.shape != expected.shape or not torch.equal(found, expected.to(found.dtype)):
        raise VerificationError(f"{name}: the written file holds other weights than were evaluated")
