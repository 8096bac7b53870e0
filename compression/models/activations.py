"""Hidden states of many windows between two blocks, on the host; in a file when they would not fit."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compression.budgets import SPILL_BYTES, pinned_bytes
from compression.memory import available_bytes
from compression.models.ferry import Ferry


@dataclass(frozen=True)
class Spill:
    """Where streams larger than `beyond_bytes` go: to a file in `folder`, unlinked at once, so that nothing is left behind."""

    folder: Path
    beyond_bytes: int = SPILL_BYTES

    @classmethod
    def of_pass(cls, folder: Path, device: torch.device, *, low_memory: bool) -> "Spill":
        """Of a pass that saves memory all of them: pages of a file can be written back and dropped, anonymous ones cannot.

        A GPU fetches windows from memory far faster than from a file: beside one a stream may be larger, where there is room.
        """
        if low_memory:
            return cls(folder, 0)
        return cls(folder) if device.type == "cpu" else cls(folder, pinned_bytes(available_bytes()))


class Stream:
    """One tensor (windows, seqlen, hidden) that is overwritten block by block, window by window.

    Args: device: where windows are run; a CUDA device fetches them from pinned memory and puts them back beside its work.
    Raises: OSError: the disk cannot hold the file. It is found out here: a hole in a mapped file would kill the process later.
    """

    def __init__(self, windows: int, seqlen: int, hidden: int, dtype: torch.dtype, spill: Spill, device: torch.device) -> None:
        shape = (windows, seqlen, hidden)
        self._device = device
        self._ferry: Ferry | None = None
        count = windows * seqlen * hidden
        self.is_spilled = count * dtype.itemsize > spill.beyond_bytes
        if not self.is_spilled:
            is_pinned = device.type == "cuda" and count > 0
            self._states_WLD = torch.empty(shape, dtype=dtype, pin_memory=is_pinned)
            self._ferry = Ferry(self._states_WLD, device) if is_pinned else None
            return
        with tempfile.NamedTemporaryFile(dir=spill.folder, prefix="activations-") as file:
            _allocate(file.fileno(), count * dtype.itemsize)
            self._states_WLD = torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)

    @classmethod
    def of(cls, states_WLD: Tensor, device: torch.device) -> "Stream":
        """The stream that a tensor is already, such as one of an earlier pass."""
        stream = cls.__new__(cls)
        stream.is_spilled, stream._states_WLD, stream._device, stream._ferry = False, states_WLD, device, None
        return stream

    @property
    def states_WLD(self) -> Tensor:
        """The tensor itself, on the host; where it is in a file, as much of it is in memory as the system likes."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # windows put back may be on their way
        return self._states_WLD

    def __len__(self) -> int:
        return self.states_WLD.shape[0]

    def on_device(self, window: int) -> Tensor:
        """Hidden states of one window where it is run: (1, seqlen, hidden)."""
        if self._ferry is not None:
            return self._ferry.fetch(window)
        return self._states_WLD[window : window + 1].to(self._device)

    def __getitem__(self, window: int) -> Tensor:
        """Hidden states of one window on the host, as a batch of one: (1, seqlen, hidden)."""
        return self.states_WLD[window : window + 1]

    def __setitem__(self, window: int, hidden_1LD: Tensor) -> None:
        if self._ferry is not None:
            self._ferry.put(window, hidden_1LD)
        else:
            self._states_WLD[window : window + 1].copy_(hidden_1LD)


def _allocate(file: int, size_bytes: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size_bytes)
    else:
        os.ftruncate(file, size_bytes)
