"""The next block's tensors on their way from disk while a device is busy with the block before."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from compression.models.checkpoint import Checkpoint


class ReadAhead:
    """Reads one set of tensors beforehand, by a thread, into memory that a device can fetch from by itself.

    For CUDA devices only: on a CPU the solver uses every core, and memory is to hold one block, not two.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead") if device.type == "cuda" else None
        self._names: frozenset[str] = frozenset()
        self._tensors: Future[dict[str, Tensor]] | None = None

    def start(self, names: Callable[[], Iterable[str]]) -> None:
        """Read these in the background; what was read before and not taken is dropped. Nothing is asked for on a CPU."""
        if self._thread is not None:
            self._names = frozenset(names())
            self._tensors = self._thread.submit(self._read, self._names)

    def take(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors, in their storage dtype, on the host. What went wrong in the background is raised here."""
        wanted, ahead, self._tensors = frozenset(names), self._tensors, None
        if ahead is None or wanted != self._names:
            return self._checkpoint.read(wanted)
        return ahead.result()

    def _read(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: tensor.pin_memory() for name, tensor in self._checkpoint.read(names).items()}
