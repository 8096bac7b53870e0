"""Building a model database: one walk over the dense model, in which every matrix is solved at every level.

A block is read once and its Hessians are computed once, whatever the number of levels; of a Hessian's factors the levels share
what they can. Each level's block is written as it is finished, so that an interrupted build continues where it was.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import compression
from compression import methods  # noqa: F401  registers the solvers
from compression.abreast import afterwards, run_abreast
from compression.block import are_small, check_block, solve_readers
from compression.budgets import hessians_bytes
from compression.calibrating import HessianVanished, OnDense
from compression.database.files import DATABASE_FILE, Database, DatabaseInfo, level_folder
from compression.durable import write_durably
from compression.events import ActivityStarted, BlockFinished, LayerFinished, Note, OnEvent
from compression.finished_blocks import FinishedBlocks
from compression.goals.levels import Level
from compression.hessian import Hessian
from compression.inputs import as_read, by_input, portions
from compression.kept_hessians import KeptHessians
from compression.lanes import Lane, enter
from compression.layer import LayerSolution
from compression.memory import MemoryMeter, total_device_bytes
from compression.models.activations import Spill
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer
from compression.preparation import Job
from compression.protocol import Calibration
from compression.report import LayerResult

Solved = tuple[dict[str, LayerSolution], list[LayerResult]]


@dataclass(frozen=True)
class Building:
    """What a database is built from and with.

    Args:
        job: of one of the levels, with the calibration that all share; evaluation windows are not used.
        levels: those without a plan need no building.
        hessians: where those of the dense model are looked for and kept.
    """

    job: Job
    levels: tuple[Level, ...]
    calibration: Calibration
    hessians: KeptHessians
    device: torch.device
    compute_dtype: torch.dtype
    spill: Spill
    meter: MemoryMeter
    on_event: OnEvent


def build_database(building: Building, folder: Path) -> Database:
    """Build what is not there yet. What `folder` holds of another model, calibration or environment is built anew.

    Raises: NumericalError. DiskFull, OutOfMemory: by way of the caller's `resource_errors`. Whatever `on_event` raises.
    """
    walk = _Walk(building, folder)
    database = Database(folder, building.levels, building.job.checkpoint.architecture)
    begin = time.perf_counter()
    try:
        walk.run()
    except HessianVanished:
        building.on_event(
            Note(level="warning", message="a kept Hessian is damaged or gone: calibration windows are run after all")
        )
        _Walk(building, folder).run()
    if walk.has_built or not (folder / DATABASE_FILE).is_file():
        info = _info(building, folder, time.perf_counter() - begin)
        write_durably(folder / DATABASE_FILE, info.model_dump_json(indent=2).encode() + b"\n")
    return database


class _Walk:
    def __init__(self, building: Building, folder: Path) -> None:
        self._b = building
        self._finished: dict[int, FinishedBlocks] = {}
        for number, level in enumerate(building.levels):
            if level.plan is not None:
                finished = FinishedBlocks(level_folder(folder, number), _fingerprint(building, level))
                self._finished[number] = finished
                for difference in finished.restarts:
                    building.on_event(Note(level="warning", message=f"level {level.name} is solved anew: {difference}"))
        self.has_built = False

    @torch.inference_mode()
    def run(self) -> None:
        checkpoint = self._b.job.checkpoint
        blocks = checkpoint.architecture.blocks
        missing = [[n for n, found in self._finished.items() if not found.has(index)] for index in range(blocks)]
        if not any(missing):
            return
        self.has_built = True
        model = StreamedModel(checkpoint, self._b.device, torch.float32)
        last = max(index for index in range(blocks) if missing[index])
        wanted = [layer for index in range(blocks) if missing[index] for layer in self._targeted(index)]
        calibrating = OnDense(model, lambda ids_WL: self._lane(model, ids_WL), self._b.compute_dtype, self._b.hessians, wanted)
        spent: list[float] = []
        for index in range(last + 1):
            begin = time.perf_counter()
            if not missing[index] and not calibrating.has_windows:
                continue
            self._b.on_event(ActivityStarted(activity="loading", block=index + 1, blocks=blocks))
            block = model.load_block(index)
            try:
                results = self._block(model, calibrating, index, block, missing[index])
                calibrating.before_solutions(index, block)
            finally:
                model.free_block(index)
            spent.append(time.perf_counter() - begin)
            self._tell(index, blocks, results, (last - index) * sum(spent) / len(spent), is_replayed=not missing[index])

    def _block(
        self, model: StreamedModel, calibrating: OnDense, index: int, block: nn.Module, missing: Sequence[int]
    ) -> list[LayerResult]:
        blocks = model.checkpoint.architecture.blocks
        if not missing:
            return []
        check_block(block, self._b.job.plan.block(index))
        solved: dict[int, Solved] = {number: ({}, []) for number in missing}
        parts = list(portions(self._targeted(index), hessians_bytes(total_device_bytes(model.device))))
        for part in parts:
            self._b.on_event(ActivityStarted(activity="calibrating", block=index + 1, blocks=blocks))
            hessians = calibrating.hessians(index, block, part, is_last=part is parts[-1])
            self._b.on_event(ActivityStarted(activity="solving", block=index + 1, blocks=blocks))
            self._solve_part(model, block, part, hessians, solved)
        for number, (solutions, results) in solved.items():
            self._finished[number].save(index, solutions, results)
        return [result for _, results in solved.values() for result in results]

    def _solve_part(
        self,
        model: StreamedModel,
        block: nn.Module,
        part: Sequence[PlannedLayer],
        hessians: dict[str, Hessian],
        solved: dict[int, Solved],
    ) -> None:
        """Every level of every input: those of one share its factors, and small inputs are solved abreast."""
        inputs = list(by_input(part).items())

        def keep(into: Solved, layer: PlannedLayer, solution: LayerSolution, result: LayerResult) -> None:
            into[0][layer.name] = solution
            into[1].append(result)
            self._b.on_event(LayerFinished(result=result))

        def solve(piece: int) -> None:
            label, readers = inputs[piece]
            hessian = as_read(hessians.pop(label), readers[0].matrix)
            names = {layer.name for layer in readers}
            for number, into in solved.items():
                plan = self._b.levels[number].plan
                assert plan is not None
                layers = [layer for layer in plan.targeted if layer.name in names]
                for found in solve_readers(block, layers, hessian, model.storage_dtype_of):
                    afterwards(partial(keep, into, *found))

        small = are_small(model.checkpoint.architecture.block(part[0].block))
        run_abreast(solve, len(inputs), small, model.device, also_alone=True)

    def _targeted(self, index: int) -> list[PlannedLayer]:
        return [layer for layer in self._b.job.plan.block(index) if layer.options is not None]

    def _lane(self, model: StreamedModel, ids_WL: Tensor) -> Lane:
        return enter(model, ids_WL, self._b.spill)

    def _tell(self, index: int, blocks: int, results: Sequence[LayerResult], left_s: float, *, is_replayed: bool) -> None:
        errors = [result.relative_error for result in results if result.relative_error is not None]
        self._b.on_event(
            BlockFinished(
                block=index + 1,
                blocks=blocks,
                fraction=(index + 1) / blocks,
                eta_s=left_s,
                mean_relative_error=sum(errors) / len(errors) if errors else None,
                host_memory_bytes=self._b.meter.now_bytes(),
                device_memory_bytes=self._b.meter.device_bytes(),
                is_replayed=is_replayed,
            )
        )


def fingerprints(building: Building) -> list[dict[str, str]]:
    """Everything that a database depends on: what names it, and what guards it."""
    return [_fingerprint(building, level) for level in building.levels if level.plan is not None]


def _fingerprint(building: Building, level: Level) -> dict[str, str]:
    """That of a compression with this level's recipe alone."""
    assert level.plan is not None
    fingerprint: dict[str, Any] = building.job.fingerprint(building.device, building.compute_dtype)
    return {**fingerprint, "recipe": level.plan.recipe.model_dump_json()}


def _info(building: Building, folder: Path, seconds: float) -> DatabaseInfo:
    return DatabaseInfo(
        scalpel_version=compression.__version__,
        model=building.job.info.source,
        model_digest=building.job.info.digest,
        calibration=building.calibration,
        calibration_digest=building.job.calibration.describe().digest,
        levels=tuple(level.name for level in building.levels),
        matrices=len(building.job.plan.targeted),
        seconds=round(seconds, 3),
        size_bytes=sum(path.stat().st_size for path in folder.glob("levels/*/block-*.safetensors")),
    )
