"""Hidden states of many windows between two blocks, on the host; in a file when they would not fit."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

SPILL_BYTES = 4 * 2**30  # beyond this a stream lives in a memory-mapped file


class Stream:
    """One tensor (windows, seqlen, hidden) that is overwritten block by block, window by window.

    Args: spill_folder: where the file goes if the stream is larger than `spill_bytes`; it is unlinked at once, so that
        nothing is left behind whatever happens.
    """

    def __init__(
        self, windows: int, seqlen: int, hidden: int, dtype: torch.dtype, spill_folder: Path, spill_bytes: int = SPILL_BYTES
    ) -> None:
        shape = (windows, seqlen, hidden)
        count = windows * seqlen * hidden
        self.is_spilled = count * dtype.itemsize > spill_bytes
        if not self.is_spilled:
            self._states_WLD = torch.empty(shape, dtype=dtype)
            return
        with tempfile.NamedTemporaryFile(dir=spill_folder, prefix="activations-") as file:
            file.truncate(count * dtype.itemsize)
            self._states_WLD = torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(shape)

    def __len__(self) -> int:
        return self._states_WLD.shape[0]

    def __getitem__(self, window: int) -> Tensor:
        """Hidden states of one window as a batch of one: (1, seqlen, hidden)."""
        return self._states_WLD[window : window + 1]

    def __setitem__(self, window: int, hidden_1LD: Tensor) -> None:
        self._states_WLD[window : window + 1].copy_(hidden_1LD)
