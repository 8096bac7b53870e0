"""What the matrices of a block read: while calibration windows run, each distinct input adds to a Hessian of its own.

A mixture of experts keeps transformers' own forward. Its module is given all tokens and which experts each of them goes to;
an expert's first matrices read the tokens routed to it, and what its last matrix reads is computed from them again.

Shapes: N = tokens, C = in_features, K = experts that each token goes to.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compression.abreast import place
from compression.budgets import ABREAST_SUMS_BYTES
from compression.drift import PairedAccumulator, Turn
from compression.families.base import Matrix, Slot
from compression.hessian import MAX_DAMP, Accumulator, Hessian
from compression.matrix_view import input_rows
from compression.plan import PlannedLayer
from compression.products import factors_in

MIN_EXPERT_TOKENS = 32

Hook = Callable[[nn.Module, tuple[Any, ...]], None]


class AllHeard(Exception):
    """Every input that a block's forward was run for has been heard: no error, but the rest of that forward is for nothing."""


class _Roll:
    """Of one forward: how many inputs have been heard.

    Args: ends_forward: with the last of them, for whoever does not need what the block gives.
    """

    def __init__(self, *, ends_forward: bool) -> None:
        self.expected = 0
        self._heard = threading.local()  # windows may go abreast
        self._ends_forward = ends_forward

    def begin(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        self._heard.count = 0

    def call(self) -> None:
        """Raises: AllHeard: with the last one, so that the block's last product, a quarter of its work, is spared."""
        self._heard.count += 1
        if self._ends_forward and self._heard.count == self.expected:
            raise AllHeard


class Heard:
    """What was heard of one input. Windows that go abreast add to sums of their own, which are added up in the end: nothing
    depends on which window is through first."""

    def __init__(self, make: Callable[[], Accumulator]) -> None:
        self._make = make
        self._by_place: dict[int, Accumulator] = {}

    def add(self, X_NC: Tensor) -> None:
        if place() not in self._by_place:
            self._by_place[place()] = self._make()
        self._by_place[place()].add(X_NC)

    def finish(self, name: str) -> Hessian:
        """Raises: NumericalError: naming the layer, when an input held NaN or infinity."""
        whole = self._by_place.pop(0, None) or self._make()
        for other in sorted(self._by_place):
            whole.absorb(self._by_place.pop(other))
        return whole.finish(name)


def as_read(hessian: Hessian, matrix: Matrix) -> Hessian:
    """The Hessian of what a matrix reads as methods get it; that of an expert takes into account how few tokens reached it.

    Every other matrix reads every token. An expert gets what the router sends, and with fewer tokens than inputs its H is
    singular: at 1% damping the methods then fit noise, and end up to 1.9 times worse than a data-free one (SparseGPT 2:4 and
    OPTQ 3 bit against held-out tokens, three matrices of SmolLM2-135M). Damped by C / tokens they are never worse from
    `needed_tokens` on. Below, they fall back.
    """
    if matrix.slot is None:
        return hessian
    needed, tokens = needed_tokens(matrix), hessian.tokens
    unfit = f"only {tokens} calibration tokens reached this expert, {needed} are needed" if tokens < needed else None
    return Hessian(hessian.H_CC, tokens, unfit=unfit, least_damp=min(MAX_DAMP, matrix.shape[1] / max(tokens, 1)))


def hessian_of(accumulator: Accumulator | Heard, name: str, matrix: Matrix) -> Hessian:
    """The Hessian of what was heard, as methods get it.

    Raises: NumericalError: naming the matrix, when an input held NaN or infinity.
    """
    return as_read(accumulator.finish(name), matrix)


def needed_tokens(matrix: Matrix) -> int:
    """Calibration tokens below which an expert falls back to a data-free method."""
    return max(MIN_EXPERT_TOKENS, matrix.shape[1] // 8)


def by_input(layers: Iterable[PlannedLayer]) -> dict[str, list[PlannedLayer]]:
    """Layers by the label of what they read, in the order in which the first reader of each comes."""
    readers: dict[str, list[PlannedLayer]] = {}
    for layer in layers:
        readers.setdefault(layer.matrix.reads, []).append(layer)
    return readers


def portions(layers: Iterable[PlannedLayer], max_bytes: int) -> Iterator[list[PlannedLayer]]:
    """Layers whose Hessians fit into `max_bytes` together, each portion calibrated by a forward of its own.

    Readers of one input stay together. In `budgets.hessians_bytes` all fit but those of very many experts.
    """
    portion: list[PlannedLayer] = []
    portion_bytes = 0
    for readers in by_input(layers).values():
        size_bytes = 4 * readers[0].matrix.shape[1] ** 2
        if portion and portion_bytes + size_bytes > max_bytes:
            yield portion
            portion, portion_bytes = [], 0
        portion = portion + readers
        portion_bytes += size_bytes
    if portion:
        yield portion


def are_sums_small(matrices: Iterable[Matrix]) -> bool:
    """Whether each window that goes abreast may have sums of its own. It is asked of the whole block, so that it does not
    depend on how many inputs are heard at once."""
    return (
        sum(4 * columns**2 for columns in {matrix.reads: matrix.shape[1] for matrix in matrices}.values())
        <= ABREAST_SUMS_BYTES
    )


@contextmanager
def listening(
    block: nn.Module,
    layers: Iterable[PlannedLayer],
    device: torch.device,
    turn: Turn | None = None,
    reads: torch.dtype = torch.float32,
    *,
    ends_forward: bool = True,
) -> Iterator[dict[str, Heard]]:
    """While inside, every forward of the block adds to one sum for each distinct input of these layers.

    Args:
        ends_forward: the hook of the last input raises `AllHeard`; without it the forward goes on to the block's output.
        turn: of asymmetric calibration; not for mixtures of experts, whose tokens differ between the streams.
        reads: the dtype that the block's matrix products are made in.
    """
    inputs = {label: readers[0].matrix for label, readers in by_input(layers).items()}

    def empty(columns: int) -> Accumulator:
        return PairedAccumulator(columns, device, turn, reads) if turn else Accumulator(columns, device, reads)

    heard = {label: Heard(partial(empty, matrix.shape[1])) for label, matrix in inputs.items()}
    hooks: list[tuple[str, Hook]] = []
    roll = _Roll(ends_forward=ends_forward)
    routed: dict[str, list[tuple[Slot, Heard]]] = {}
    for label, matrix in inputs.items():
        if matrix.slot:
            routed.setdefault(matrix.slot.module, []).append((matrix.slot, heard[label]))
        else:
            hooks.append((matrix.name, _adds_all(heard[label], roll)))
    hooks += [(name, _adds_routed(experts, roll)) for name, experts in routed.items()]
    roll.expected = len(hooks)
    handles = [block.get_submodule(name).register_forward_pre_hook(hook) for name, hook in hooks]
    handles.append(block.register_forward_pre_hook(roll.begin))
    try:
        with factors_in(reads):  # a setting of the whole process, which must not change while windows are abreast
            yield heard
    finally:
        for handle in handles:
            handle.remove()


def _adds_all(heard: Heard, roll: _Roll) -> Hook:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        (X_NC,) = input_rows(module, args[0])
        heard.add(X_NC)
        roll.call()

    return hook


def _adds_routed(experts: list[tuple[Slot, Heard]], roll: _Roll) -> Hook:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        hidden_NC, chosen_NK = args[0].flatten(0, -2), args[1].flatten(0, -2)
        for slot, heard in experts:
            X_NC = hidden_NC[(chosen_NK == slot.index).any(-1)]
            heard.add(_between(module, X_NC, slot.index) if slot.is_second else X_NC)
        roll.call()

    return hook


def _between(experts: nn.Module, X_NC: Tensor, index: int) -> Tensor:
    """What the last matrix of an expert reads: act(gate(x)) * up(x), with the present weights."""
    both = nn.functional.linear(X_NC, experts.get_parameter("gate_up_proj")[index])
    gate, up = both.chunk(2, dim=-1)
    activated: Tensor = experts.get_submodule("act_fn")(gate)
    return activated * up
