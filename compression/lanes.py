"""Streams of windows on their way through a model, block by block. Shapes: W = windows, L = window, D = hidden size."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.abreast import run_abreast
from compression.budgets import ABREAST_NUMBERS
from compression.inputs import AllHeard
from compression.models.activations import Spill, Stream
from compression.models.skeleton import frozen
from compression.models.streamed import BlockCall, StreamedModel


@dataclass
class Lane:
    """One stream of windows and what the model passes to each block with them."""

    stream: Stream
    calls: list[BlockCall]

    def advance(self, model: StreamedModel, block: nn.Module, index: int, compute_dtype: torch.dtype) -> None:
        """Run all windows through a block."""
        with computing_in(block, compute_dtype, model.device):
            self.each(lambda window: self.step(model, block, index, window), model.device)

    def each(self, work: Callable[[int], None], device: torch.device, *, are_sums_small: bool = True) -> None:
        """Call `work` with the number of every window, of several at once where that is faster and fits.

        Args: are_sums_small: that each of them adds to.
        """
        windows, *shape = self.stream.states_WLD.shape
        run_abreast(work, windows, are_sums_small and math.prod(shape) <= ABREAST_NUMBERS, device)

    def step(self, model: StreamedModel, block: nn.Module, index: int, window: int) -> None:
        """Run one window through a block."""
        self.stream[window] = self._after(block, index, window)

    def listen(self, model: StreamedModel, block: nn.Module, index: int, window: int) -> None:
        """Run one window into a block for the sake of its hooks, as far as the last of them needs it."""
        with suppress(AllHeard):
            self._after(block, index, window)

    def _after(self, block: nn.Module, index: int, window: int) -> Tensor:
        return self.calls[index].hidden(block, self.stream.on_device(window))


def enter(model: StreamedModel, ids_WL: Tensor, spill: Spill) -> Lane:
    """Embed all windows: the stream as it stands before block 0."""
    windows, seqlen = ids_WL.shape
    if windows == 0:
        return Lane(Stream(0, seqlen, 1, model.compute_dtype, spill, model.device), [])
    hidden, calls = model.enter(ids_WL[:1])
    stream = Stream(windows, seqlen, hidden.shape[-1], model.compute_dtype, spill, model.device)
    stream[0] = hidden
    for window in range(1, windows):
        stream[window] = model.enter(ids_WL[window : window + 1])[0]
    return Lane(stream, calls)


@contextmanager
def computing_in(block: nn.Module, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """While inside, the block's matrix products are in `dtype`; norms and sums stay in float32.

    Autocast alone would cast every weight again for every window; here each is cast once, to the very same values.
    """
    if dtype == torch.float32:
        yield
        return
    owned = [
        (module, name)
        for module in block.modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim > 1
    ]
    kept = [module.get_parameter(name) for module, name in owned]
    for (module, name), weight in zip(owned, kept, strict=True):
        module._parameters[name] = frozen(weight.to(dtype))
    try:
        with torch.autocast(device.type, dtype):
            yield
    finally:
        for (module, name), weight in zip(owned, kept, strict=True):
            module._parameters[name] = weight
