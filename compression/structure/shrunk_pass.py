"""The pass that makes the shrunk model: its blocks one after the other, solved on those before them, and evaluated.

Stitched, a block gets the weights that the database has for it, solved on the dense model's inputs. Otherwise the calibration
windows go through the shrunk blocks, and each half is solved on what comes out of those before it, with as many units as were
chosen: which ones they are is decided anew.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compression.block import matrix_weight
from compression.calibrating import OnCompressed
from compression.events import ActivityStarted, BlockFinished, OnEvent
from compression.families.structure import Half
from compression.goals.search import Profile
from compression.lanes import Lane, enter
from compression.memory import MemoryMeter
from compression.models.activations import Spill, Stream
from compression.models.streamed import StreamedModel
from compression.probe import Probe
from compression.products import factors_in
from compression.scoring import Scores, score
from compression.stopwatch import Stopwatch
from compression.structure.cut_files import CutFiles
from compression.structure.database import Structures, output_layer, removals_of
from compression.structure.shrink import Cut, Cuts, shrunk_block
from compression.structure.shrinking import Shrinking

Errors = tuple[float, float]
"""Of the outputs of attention and feed-forward, relative."""


@dataclass
class PassResult:
    """Errors by block, and the scores of all evaluation windows. Args: dense: as in `pipeline.PassResult`."""

    errors: list[Errors] = field(default_factory=list)
    scores: Scores = field(default_factory=Scores)
    probe: Probe | None = None
    resumed_blocks: int = 0
    dense: Stream | None = None


@dataclass(frozen=True)
class ShrunkPass:
    """One pass.

    Args:
        profile: level of each half, see `profiles.py`.
        calibration_WL: token ids; None: stitched.
        finished: where cuts are kept, and found by whoever writes them.
        is_made: all of them are there on purpose, and none is to be solved.
        dense: the evaluation windows after the dense model's last block, where they are known.
    """

    model: StreamedModel
    structures: Structures
    profile: Profile
    calibration_WL: Tensor | None
    evaluation_WL: Tensor
    probe_WL: Tensor
    labelled: Sequence[Tensor]
    finished: CutFiles
    compute_dtype: torch.dtype
    spill: Spill
    dense: Stream | None
    meter: MemoryMeter
    watch: Stopwatch
    on_event: OnEvent
    is_made: bool = False

    @torch.inference_mode()
    def run(self) -> PassResult:
        """The whole pass. Whatever `on_event` raises ends it between two blocks, finished ones kept."""
        result = PassResult()
        with self.watch.time("loading"):
            dense = self._lane(self.evaluation_WL if self.dense is None else self.evaluation_WL[:0])
            shrunk, probe = self._lane(self.evaluation_WL), self._lane(self.probe_WL)
            labelled = [(self._lane(ids_WL), self._lane(ids_WL)) for ids_WL in self.labelled]
            calibration = None if self.calibration_WL is None else self._calibration(self.calibration_WL)
        spent: list[float] = []
        for index in range(len(self.profile) // 2):
            begin = time.perf_counter()
            self._begin("loading", index)
            with self.watch.time("loading"):
                block = self.model.load_block(index)
                found = self.finished.require(index) if self.is_made else self.finished.load(index)
            try:
                self._begin("evaluating", index)
                with self.watch.time("evaluating"):
                    for lane in (dense, *(one for one, _ in labelled)):
                        lane.advance(self.model, block, index, self.compute_dtype)
                is_replayed = found is not None and not self.is_made
                if found is None:
                    found = self._solved(index, block, calibration)
                    self.finished.save(index, *found)
                result.resumed_blocks += is_replayed
                changed = shrunk_block(block, index, self.structures.architecture, found[0])
                if calibration is not None:
                    self._begin("calibrating", index)
                    with self.watch.time("calibrating"):
                        calibration.after_solutions(index, changed)
                self._begin("evaluating", index)
                with self.watch.time("evaluating"):
                    for lane in (shrunk, *(other for _, other in labelled)):
                        lane.advance(self.model, changed, index, self.compute_dtype)
                    probe.advance(self.model, changed, index, torch.float32)
            finally:
                self.model.free_block(index)
            result.errors.append(found[1])
            if not is_replayed:
                spent.append(time.perf_counter() - begin)
            self._end(index, found[1], spent, is_replayed=is_replayed)
        self._begin("evaluating", -1)
        with self.watch.time("evaluating"):
            self._score(result, dense if self.dense is None else None, shrunk, probe, labelled)
        return result

    def _score(
        self, result: PassResult, dense: Lane | None, shrunk: Lane, probe: Lane, labelled: Sequence[tuple[Lane, Lane]]
    ) -> None:
        states = dense.stream if dense is not None else self.dense
        assert states is not None, "one of both"
        streams = [(first.stream, second.stream) for first, second in labelled]
        with factors_in(self.compute_dtype):  # of the head
            result.scores = score(self.model, self.evaluation_WL, states, shrunk.stream, streams)
        probed = torch.stack([self.model.logits(probe.stream[w])[0] for w in range(len(probe.stream))])
        result.probe = Probe(self.probe_WL, probed.float().cpu(), self.structures.architecture.is_encoder)
        result.dense = states

    def _solved(self, index: int, block: nn.Module, calibration: OnCompressed | None) -> tuple[Cuts, Errors]:
        levels = self.profile[2 * index], self.profile[2 * index + 1]
        attention, ffn = self.structures.halves
        if calibration is None:
            self._begin("solving", index)
            with self.watch.time("solving"):
                attention_errors, ffn_errors = self.structures.errors_of(index)
                first, second = Shrinking(self.structures).cuts(block, index, levels)
                cuts = self._as_stored(index, attention, first), self._as_stored(index, ffn, second)
                return cuts, (attention_errors[levels[0]], ffn_errors[levels[1]])
        first, error = self._half(index, block, attention, levels[0], calibration)
        behind = shrunk_block(block, index, self.structures.architecture, (first, Cut(tuple(range(ffn.units)))))
        second, next_error = self._half(index, behind, ffn, levels[1], calibration)
        return (first, second), (error, next_error)

    def _half(self, index: int, block: nn.Module, half: Half, level: int, calibration: OnCompressed) -> tuple[Cut, float]:
        """Solve one half on what its block gives it at present."""
        kept = self.structures.levels_of(half)[level]
        if kept in (0, half.units):
            return Cut(tuple(range(kept))), float(kept == 0)
        layer = output_layer(self.structures.architecture, half, index)
        self._begin("calibrating", index)
        with self.watch.time("calibrating"):
            hessians = calibration.hessians(index, block, [layer], is_last=True)
        self._begin("solving", index)
        with self.watch.time("solving"):
            W_RC = matrix_weight(block, layer)
            removals = removals_of(W_RC, hessians[layer.matrix.reads], half, (half.units, kept, 0))
            return self._as_stored(index, half, removals.cut(1, half, W_RC)), removals.costs[1].error

    def _as_stored(self, index: int, half: Half, cut: Cut) -> Cut:
        """What is evaluated is what the file will hold: after the round trip through the source's dtype."""
        if cut.weights_RK is None:
            return cut
        stored = self.model.storage_dtype_of(output_layer(self.structures.architecture, half, index))
        return Cut(cut.kept, cut.weights_RK.to(stored).to(cut.weights_RK.dtype))

    def _calibration(self, ids_WL: Tensor) -> OnCompressed:
        return OnCompressed(self.model, self._lane, ids_WL, self.compute_dtype, is_asymmetric=False)

    def _lane(self, ids_WL: Tensor) -> Lane:
        return enter(self.model, ids_WL, self.spill)

    def _begin(self, activity: str, index: int) -> None:
        told = {"activity": activity, "block": index + 1, "blocks": len(self.profile) // 2}
        self.on_event(ActivityStarted.model_validate(told))

    def _end(self, index: int, errors: Errors, spent: Sequence[float], *, is_replayed: bool) -> None:
        blocks = len(self.profile) // 2
        self.on_event(
            BlockFinished(
                block=index + 1,
                blocks=blocks,
                fraction=(index + 1) / blocks,
                eta_s=(blocks - index - 1) * sum(spent) / len(spent) if spent else None,
                mean_relative_error=sum(errors) / len(errors),
                host_memory_bytes=self.meter.now_bytes(),
                device_memory_bytes=self.meter.device_bytes(),
                is_replayed=is_replayed,
            )
        )
