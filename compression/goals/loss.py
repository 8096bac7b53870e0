"""How much a choice of levels changes what the whole model says, on a few windows: the judge of the search.

The loss is the mean over tokens of KL(dense || chosen), in nats; of an encoder the relative error of its last hidden states.
Blocks before the first that differs from the profile judged before are not run again.

Shapes: W = windows, L = window.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from compression.block import install
from compression.database.files import Database
from compression.divergence import Divergence
from compression.events import ActivityStarted, OnEvent, ignore_events
from compression.goals.search import Profile
from compression.lanes import Lane, enter
from compression.models.activations import Spill, Stream
from compression.models.streamed import StreamedModel
from compression.products import factors_in
from compression.scoring import score

MAX_STATES_BYTES = 2**30  # of the hidden states before every block of the profile judged last


class Changes(Protocol):
    """What a profile makes of blocks."""

    @property
    def blocks(self) -> Sequence[int]:
        """The block that each entry of a profile is about, rising."""

    def applied(self, block: nn.Module, index: int, profile: Profile) -> nn.Module:
        """The block that is run in the place of dense block `index`, which it may change or share weights with."""


class Installed:
    """The compressed matrices of a database, in their blocks."""

    def __init__(self, model: StreamedModel, database: Database) -> None:
        self._model, self._database = model, database
        self._planned = {layer.name: layer for layer in database.planned}
        self.blocks = tuple(layer.block for layer in database.planned)

    def applied(self, block: nn.Module, index: int, profile: Profile) -> nn.Module:
        """Raises: InvalidOptions: the database is damaged."""
        weights, _ = self._database.block(index, profile)
        for name, found in weights.items():
            install(block, self._planned[name], found, self._model.storage_dtype_of(self._planned[name]))
        return block


class ProfileLoss:
    """Judges profiles.

    Args:
        ids_WL: token ids of the windows; they should be none that a result is evaluated on.
        on_event: told of every block; whatever it raises ends the judging there.
    """

    def __init__(
        self,
        model: StreamedModel,
        changes: Changes,
        ids_WL: Tensor,
        spill: Spill,
        compute_dtype: torch.dtype,
        on_event: OnEvent = ignore_events,
    ) -> None:
        self._model, self._changes, self._ids_WL = model, changes, ids_WL
        self._compute_dtype, self._on_event = compute_dtype, on_event
        self._lane = enter(model, ids_WL, spill)
        self._blocks = model.checkpoint.architecture.blocks
        state_bytes = self._lane.stream.states_WLD.nbytes
        self._is_remembering = state_bytes * self._blocks <= MAX_STATES_BYTES
        self._before: list[Tensor] = [self._lane.stream.states_WLD.clone()]  # each block, of the profile judged last
        self._last: Profile | None = None
        with torch.inference_mode():
            self._dense = Stream.of(self._states(None).clone(), model.device)
        self._judge = Divergence(model, self._dense, compute_dtype)

    def __call__(self, profile: Profile) -> float:
        """Raises: NumericalError: the chosen model says nothing finite. Whatever `changes` raises."""
        with torch.inference_mode():
            return self._judge.of(Stream.of(self._states(profile), self._model.device))

    @torch.inference_mode()
    def log_perplexity_ratio(self, profile: Profile) -> float:
        """Mean over windows of the rise in cross-entropy, in nats; not of an encoder."""
        chosen = Stream.of(self._states(profile), self._model.device)
        with factors_in(self._compute_dtype):
            windows = score(self._model, self._ids_WL, self._dense, chosen, []).windows
        return sum(window.compressed - window.dense for window in windows) / len(windows)

    def _states(self, profile: Profile | None) -> Tensor:
        """Hidden states after the last block."""
        first = self._first_unlike(profile)
        del self._before[first + 1 :]
        lane = Lane(self._lane.stream, self._lane.calls)
        lane.stream.states_WLD.copy_(self._before[first])
        for index in range(first, self._blocks):
            if self._is_remembering and index > first:
                self._before.append(lane.stream.states_WLD.clone())
            self._through(lane, index, profile)
        self._last = profile if self._is_remembering else None
        return lane.stream.states_WLD

    def _first_unlike(self, profile: Profile | None) -> int:
        if self._last is None or profile is None:
            return 0
        blocks = (block for block, a, b in zip(self._changes.blocks, self._last, profile, strict=True) if a != b)
        return min(next(blocks, self._blocks - 1), len(self._before) - 1)

    def _through(self, lane: Lane, index: int, profile: Profile | None) -> None:
        self._on_event(ActivityStarted(activity="evaluating", block=index + 1, blocks=self._blocks))
        block = self._model.load_block(index)
        try:
            changed = block if profile is None else self._changes.applied(block, index, profile)
            lane.advance(self._model, changed, index, self._compute_dtype)
        finally:
            self._model.free_block(index)
