"""The layer-wise pass: every block is read once, calibrated, solved, and evaluated against its dense self.

Three streams of hidden states advance block by block: the calibration windows and the evaluation windows through
compressed blocks, and the evaluation windows through dense ones; with asymmetric calibration the calibration windows go
through dense ones too. A pass that is started again replays the forward of its
finished blocks and continues; on CPU it ends bit-identical, because a replayed block runs the same operations on the same
weights as a freshly solved one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from compression import methods  # noqa: F401  registers the solvers
from compression.abreast import afterwards, run_abreast
from compression.block import are_small, check_block, install, solve_readers, stages
from compression.budgets import hessians_bytes
from compression.calibrating import Calibrating, HessianVanished, OnCompressed, OnDense
from compression.events import Activity, ActivityStarted, BlockFinished, LayerFinished, Note, OnEvent
from compression.finished_blocks import FinishedBlocks
from compression.hessian import Hessian
from compression.inputs import as_read, by_input, portions
from compression.kept_hessians import KeptHessians
from compression.lanes import Lane, enter
from compression.layer import LayerSolution
from compression.memory import MemoryMeter, total_device_bytes
from compression.models.activations import Spill, Stream
from compression.models.streamed import StreamedModel
from compression.plan import Plan, PlannedLayer
from compression.probe import Probe
from compression.products import factors_in
from compression.report import LayerResult
from compression.scoring import Scores, score
from compression.stopwatch import Stopwatch
from compression.weights import Weights


@dataclass
class PassResult:
    """Results of all layers in the order of the model, and the scores of all evaluation windows.

    Args: dense: the evaluation windows after the dense model's last block, for another pass over the same ones.
    """

    layers: list[LayerResult] = field(default_factory=list)
    scores: Scores = field(default_factory=Scores)
    probe: Probe | None = None
    resumed_blocks: int = 0
    dense: Stream | None = None


@dataclass(frozen=True)
class _Lanes:
    calibration: Calibrating
    dense: Lane  # evaluation windows through the dense model; none where their states are there already
    compressed: Lane  # the same through the compressed one
    probe: Lane  # short windows through the compressed model, in float32
    labelled: list[tuple[Lane, Lane]]  # labelled texts of one length each, through the dense and the compressed model


class LayerwisePass:
    """One pass over a model.

    Args:
        calibration_WL, evaluation_WL: token ids (windows, seqlen), int64; evaluation may have no windows.
        hessians: where those of the dense model are looked for and kept; for recipes with `inputs: dense`.
        probe_WL: short windows whose logits, by the compressed model in float32, the written artifact is held against.
        finished: where finished blocks are kept.
        labelled: token ids (texts, length) of labelled texts, by their length; for classifiers.
        compute_dtype: of the matrix products inside blocks; with bfloat16 norms, sums and everything that is solved or scored
            stay in float32.
        low_memory: all streams in mapped files, and the Hessian of one input at a time, each by a forward of its own. The
            same operations on the same numbers: bit-identical on CPU.
        dense: the evaluation windows after the dense model's last block, where an earlier pass has made them: this one then
            runs them through compressed blocks alone.
    """

    def __init__(
        self,
        model: StreamedModel,
        plan: Plan,
        calibration_WL: Tensor,
        evaluation_WL: Tensor,
        probe_WL: Tensor,
        finished: FinishedBlocks,
        *,
        hessians: KeptHessians,
        labelled: Sequence[Tensor] = (),
        compute_dtype: torch.dtype = torch.float32,
        low_memory: bool = False,
        dense: Stream | None = None,
        meter: MemoryMeter,
        watch: Stopwatch,
        on_event: OnEvent,
    ) -> None:
        self.model, self.plan, self.finished = model, plan, finished
        self._meter, self._watch, self._on_event = meter, watch, on_event
        self._blocks = model.checkpoint.architecture.blocks
        self._calibration_WL, self._evaluation_WL, self._probe_WL = calibration_WL, evaluation_WL, probe_WL
        self._labelled, self._dense, self._hessians = labelled, dense, hessians
        self._compute_dtype = compute_dtype
        self._spill = Spill.of_pass(finished.folder, model.device, low_memory=low_memory)
        self._max_hessians_bytes = 0 if low_memory else hessians_bytes(total_device_bytes(model.device))
        self._solving_s: list[float] = []

    @torch.inference_mode()
    def run(self) -> PassResult:
        """The whole pass. Whatever `on_event` raises (`Cancelled`) ends it between two layers, finished blocks kept."""
        try:
            return self._run()
        except HessianVanished:
            self._on_event(
                Note(level="warning", message="a kept Hessian is damaged or gone: calibration windows are run after all")
            )
        return self._run()  # its finished blocks are not solved again

    def _run(self) -> PassResult:
        result = PassResult()
        self._begin("loading", 0)
        with self._watch.time("loading"):
            dense = self._lane(self._evaluation_WL if self._dense is None else self._evaluation_WL[:0])
            labelled = [self._lane(ids_WL) for ids_WL in self._labelled]
            calibration = self._calibrating()
            with self.model.as_written():
                lanes = _Lanes(
                    calibration=calibration,
                    dense=dense,
                    compressed=self._lane(self._evaluation_WL),
                    probe=self._lane(self._probe_WL),
                    labelled=[(lane, self._lane(ids_WL)) for lane, ids_WL in zip(labelled, self._labelled, strict=True)],
                )
        for index in range(self._blocks):
            self._block(index, lanes, result)
        self._begin("evaluating", 0)
        with self._watch.time("evaluating"):
            streams = [(dense.stream, compressed.stream) for dense, compressed in lanes.labelled]
            result.dense = lanes.dense.stream if self._dense is None else self._dense
            with factors_in(self._compute_dtype):  # of the head
                result.scores = score(self.model, self._evaluation_WL, result.dense, lanes.compressed.stream, streams)
            probed = [self.model.written_logits(lanes.probe.stream[w])[0] for w in range(len(lanes.probe.stream))]
            is_encoder = self.model.checkpoint.architecture.is_encoder
            result.probe = Probe(self._probe_WL, torch.stack(probed).float().cpu(), is_encoder)
        return result

    def _lane(self, ids_WL: Tensor) -> Lane:
        return enter(self.model, ids_WL, self._spill)

    def _calibrating(self) -> Calibrating:
        recipe = self.plan.recipe
        if recipe.inputs == "dense":
            return OnDense(self.model, self._lane, self._compute_dtype, self._hessians, self.plan.targeted)
        is_asymmetric = recipe.asymmetric_calibration > 0
        return OnCompressed(self.model, self._lane, self._calibration_WL, self._compute_dtype, is_asymmetric=is_asymmetric)

    def _block(self, index: int, lanes: _Lanes, result: PassResult) -> None:
        begin = time.perf_counter()
        layers = self.plan.block(index)
        self._begin("loading", index + 1)
        with self._watch.time("loading"):
            found = self.finished.load(index)
            block = self.model.load_block(index)
        try:
            check_block(block, layers)
            self._begin("evaluating", index + 1)
            with self._watch.time("evaluating"):
                for lane in (lanes.dense, *(dense for dense, _ in lanes.labelled)):
                    lane.advance(self.model, block, index, self._compute_dtype)
            if found is None:
                results = self._solve(index, block, layers, lanes)
            else:
                weights, results = found
                self._leave_dense(index, block, lanes)
                self._install(block, layers, weights)
                result.resumed_blocks += 1
            self._begin("calibrating", index + 1)
            with self._watch.time("calibrating"):
                lanes.calibration.after_solutions(index, block)
            self._begin("evaluating", index + 1)
            with self._watch.time("evaluating"):
                for lane in (lanes.compressed, *(compressed for _, compressed in lanes.labelled)):
                    lane.advance(self.model, block, index, self._compute_dtype)
                lanes.probe.advance(self.model, block, index, torch.float32)
        finally:
            self.model.free_block(index)
            self.finished.wait()
        result.layers.extend(results)
        self._end_block(index, results, time.perf_counter() - begin, is_replayed=found is not None)

    def _solve(self, index: int, block: nn.Module, layers: tuple[PlannedLayer, ...], lanes: _Lanes) -> list[LayerResult]:
        solutions: dict[str, LayerSolution] = {}
        results: list[LayerResult] = []
        groups = list(stages(layers, self.plan.recipe.true_sequential))
        for group in groups:
            solved: dict[str, tuple[LayerSolution, LayerResult]] = {}
            parts = list(portions(group, self._max_hessians_bytes))
            for part in parts:
                self._begin("calibrating", index + 1)
                with self._watch.time("calibrating"):
                    hessians = lanes.calibration.hessians(index, block, part, is_last=part is parts[-1])
                self._begin("solving", index + 1)
                with self._watch.time("solving"):
                    solved |= self._solve_part(block, part, hessians)
            solutions |= {layer.name: solved[layer.name][0] for layer in group}
            results += [solved[layer.name][1] for layer in group]
            if group is groups[0]:  # the block is dense for the last time
                self._leave_dense(index, block, lanes)
            self._install(block, layers, {layer.name: solutions[layer.name].weights for layer in group})
        if not groups:
            self._leave_dense(index, block, lanes)
        self.finished.start_saving(index, solutions, results)
        return results

    def _leave_dense(self, index: int, block: nn.Module, lanes: _Lanes) -> None:
        with self._watch.time("calibrating"):
            lanes.calibration.before_solutions(index, block)

    def _solve_part(
        self, block: nn.Module, part: list[PlannedLayer], hessians: dict[str, Hessian]
    ) -> dict[str, tuple[LayerSolution, LayerResult]]:
        """By module name. A Hessian and its factors are freed with the last of its readers; small ones are solved abreast."""
        solved: dict[str, tuple[LayerSolution, LayerResult]] = {}
        inputs, share = list(by_input(part).items()), self.plan.recipe.asymmetric_calibration

        def keep(layer: PlannedLayer, solution: LayerSolution, result: LayerResult) -> None:
            solved[layer.name] = solution, result
            self._report_layer(result)

        def solve(number: int) -> None:
            label, readers = inputs[number]
            hessian = as_read(hessians.pop(label), readers[0].matrix)
            for found in solve_readers(block, readers, hessian, self.model.storage_dtype_of, share):
                afterwards(partial(keep, *found))

        small = are_small(self.model.checkpoint.architecture.block(part[0].block))
        run_abreast(solve, len(inputs), small, self.model.device, also_alone=True)
        return solved

    def _install(self, block: nn.Module, layers: tuple[PlannedLayer, ...], weights: dict[str, Weights]) -> None:
        for layer in layers:
            if layer.name in weights:
                install(block, layer, weights[layer.name], self.model.storage_dtype_of(layer))

    def _begin(self, activity: Activity, block: int) -> None:
        self._on_event(ActivityStarted(activity=activity, block=block, blocks=self._blocks))

    def _report_layer(self, result: LayerResult) -> None:
        if result.fallbacks:
            self._on_event(Note(level="warning", message=f"{result.name}: {'; '.join(result.fallbacks)}"))
        self._on_event(LayerFinished(result=result))

    def _end_block(self, index: int, results: list[LayerResult], seconds: float, *, is_replayed: bool) -> None:
        if not is_replayed:
            self._solving_s.append(seconds)
        errors = [result.relative_error for result in results if result.relative_error is not None]
        left = self._blocks - index - 1
        self._on_event(
            BlockFinished(
                block=index + 1,
                blocks=self._blocks,
                fraction=(index + 1) / self._blocks,
                eta_s=left * sum(self._solving_s) / len(self._solving_s) if self._solving_s else None,
                mean_relative_error=sum(errors) / len(errors) if errors else None,
                host_memory_bytes=self._meter.now_bytes(),
                device_memory_bytes=self._meter.device_bytes(),
                is_replayed=is_replayed,
            )
        )
