"""Hidden states of many windows between two blocks, on the host; in a file when they would not fit."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compression.budgets import SPILL_BYTES


@dataclass(frozen=True)
class Spill:
    """Where streams larger than `beyond_bytes` go: to a file in `folder`, unlinked at once, so that nothing is left behind."""

    folder: Path
    beyond_bytes: int = SPILL_BYTES

    @classmethod
    def always(cls, folder: Path) -> "Spill":
        """Of a pass that saves memory: pages of a file can be written back and dropped, anonymous ones cannot."""
        return cls(folder, 0)


class Stream:
    """One tensor (windows, seqlen, hidden) that is overwritten block by block, window by window.

    Args: device: where windows are run; a CUDA device fetches them from pinned memory and puts them back, without waiting.
    Raises: OSError: the disk cannot hold the file. It is found out here: a hole in a mapped file would kill the process later.
    """

    def __init__(self, windows: int, seqlen: int, hidden: int, dtype: torch.dtype, spill: Spill, device: torch.device) -> None:
        shape = (windows, seqlen, hidden)
        self._device = device
        count = windows * seqlen * hidden
        self.is_spilled = count * dtype.itemsize > spill.beyond_bytes
        if not self.is_spilled:
            self._states_WLD = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
            return
        with tempfile.NamedTemporaryFile(dir=spill.folder, prefix="activations-") as file:
            _allocate(file.fileno(), count * dtype.itemsize)
            self._states_WLD = torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)

    @classmethod
    def of(cls, states_WLD: Tensor, device: torch.device) -> "Stream":
        """The stream that a tensor is already, such as one of an earlier pass."""
        stream = cls.__new__(cls)
        stream.is_spilled, stream._states_WLD, stream._device = False, states_WLD, device
        return stream

    @property
    def states_WLD(self) -> Tensor:
        """The tensor itself, on the host; where it is in a file, as much of it is in memory as the system likes."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the last window put back may be on its way
        return self._states_WLD

    def __len__(self) -> int:
        return self.states_WLD.shape[0]

    def on_device(self, window: int) -> Tensor:
        """Hidden states of one window where it is run: (1, seqlen, hidden)."""
        return self._states_WLD[window : window + 1].to(self._device, non_blocking=True)

    def __getitem__(self, window: int) -> Tensor:
        """Hidden states of one window on the host, as a batch of one: (1, seqlen, hidden)."""
        return self.states_WLD[window : window + 1]

    def __setitem__(self, window: int, hidden_1LD: Tensor) -> None:
        self._states_WLD[window : window + 1].copy_(hidden_1LD, non_blocking=True)


def _allocate(file: int, size_bytes: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size_bytes)
    else:
        os.ftruncate(file, size_bytes)
