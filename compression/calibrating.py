"""What the calibration windows see, block by block: the outputs of compressed blocks, or those of the dense model.

A pass asks for the Hessians of some layers while their block is dense, says when a block is dense for the last time, and when
it holds its solutions.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from compression.drift import Turn
from compression.hessian import Hessian
from compression.inputs import are_sums_small, by_input, listening
from compression.kept_hessians import KeptHessians
from compression.lanes import Lane, computing_in
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer

Enter = Callable[[Tensor], Lane]
"""Token ids (W, L) -> their hidden states before block 0."""


class HessianVanished(Exception):
    """One that was counted on is damaged or gone. Started again, a pass finds that out before it begins."""


class Calibrating(Protocol):
    """How a pass is calibrated."""

    def hessians(self, index: int, block: nn.Module, part: Sequence[PlannedLayer], *, is_last: bool) -> dict[str, Hessian]:
        """Of what these layers of block `index` read, by label. Args: is_last: no other layers of the dense block follow."""

    def before_solutions(self, index: int, block: nn.Module) -> None:
        """The block is dense for the last time."""

    def after_solutions(self, index: int, block: nn.Module) -> None:
        """The block holds its solutions."""


class OnCompressed:
    """Windows go through compressed blocks, so that every block makes up for what was done to its inputs.

    Args:
        enter: as the output file holds the embeddings.
        is_asymmetric: they go through the dense model as well, which tells how far its inputs have drifted.
    """

    def __init__(
        self, model: StreamedModel, enter: Enter, ids_WL: Tensor, compute_dtype: torch.dtype, *, is_asymmetric: bool
    ) -> None:
        self._model, self._compute_dtype, self._is_asymmetric = model, compute_dtype, is_asymmetric
        self._dense = enter(ids_WL if is_asymmetric else ids_WL[:0])
        with model.as_written():
            self._lane = enter(ids_WL)

    def hessians(self, index: int, block: nn.Module, part: Sequence[PlannedLayer], *, is_last: bool) -> dict[str, Hessian]:
        turn = Turn() if self._is_asymmetric else None

        def hear(window: int) -> None:
            if turn is not None:
                turn.is_dense = True
                self._dense.listen(self._model, block, index, window)
                turn.is_dense = False
            self._lane.listen(self._model, block, index, window)

        with (
            listening(block, part, self._model.device, turn, self._compute_dtype) as heard,
            computing_in(block, self._compute_dtype, self._model.device),
        ):
            small = are_sums_small(self._model.checkpoint.architecture.block(index))
            self._lane.each(hear, self._model.device, are_sums_small=small)
        return {label: heard.pop(label).finish(readers[0].name) for label, readers in by_input(part).items()}

    def before_solutions(self, index: int, block: nn.Module) -> None:
        self._dense.advance(self._model, block, index, self._compute_dtype)

    def after_solutions(self, index: int, block: nn.Module) -> None:
        if index + 1 < self._model.checkpoint.architecture.blocks:
            self._lane.advance(self._model, block, index, self._compute_dtype)


class OnDense:
    """Windows go through the dense model, which no recipe changes: a block's forward and its Hessians are one run, and the
    Hessians are kept. Where all of them are there already, no window runs at all.

    Args:
        enter: as the dense model embeds.
        targeted: all layers that will be solved.
    """

    def __init__(
        self,
        model: StreamedModel,
        enter: Enter,
        compute_dtype: torch.dtype,
        kept: KeptHessians,
        targeted: Sequence[PlannedLayer],
    ) -> None:
        self._model, self._compute_dtype, self._kept = model, compute_dtype, kept
        self._lane = None if kept.has_all(targeted) else enter(kept.ids_WL)
        self._passed = 0  # blocks that the windows have been through

    @property
    def has_windows(self) -> bool:
        """Whether windows are on their way through the model, which then must go through every block."""
        return self._lane is not None

    def hessians(self, index: int, block: nn.Module, part: Sequence[PlannedLayer], *, is_last: bool) -> dict[str, Hessian]:
        """Raises: HessianVanished."""
        inputs = by_input(part)
        if self._kept.has_all(part):
            found = {label: self._kept.load(index, label) for label in inputs}
            whole = {label: hessian for label, hessian in found.items() if hessian is not None}
            if len(whole) == len(inputs):
                return whole
        if self._lane is None:
            raise HessianVanished
        goes_on = is_last and index + 1 < self._model.checkpoint.architecture.blocks
        lane, small = self._lane, are_sums_small(self._model.checkpoint.architecture.block(index))
        with (
            listening(block, part, self._model.device, reads=self._compute_dtype, ends_forward=not goes_on) as heard,
            computing_in(block, self._compute_dtype, self._model.device),
        ):
            listen = lane.step if goes_on else lane.listen
            lane.each(lambda window: listen(self._model, block, index, window), self._model.device, are_sums_small=small)
        if goes_on:
            self._passed = index + 1
        hessians = {label: heard.pop(label).finish(readers[0].name) for label, readers in inputs.items()}
        for label, hessian in hessians.items():
            self._kept.keep(index, label, hessian)
        return hessians

    def before_solutions(self, index: int, block: nn.Module) -> None:
        is_needed = index + 1 < self._model.checkpoint.architecture.blocks
        if self._lane is not None and is_needed and self._passed == index:
            self._lane.advance(self._model, block, index, self._compute_dtype)
            self._passed = index + 1

    def after_solutions(self, index: int, block: nn.Module) -> None:
        """Nothing: what became of the block is of no concern to the dense model."""
