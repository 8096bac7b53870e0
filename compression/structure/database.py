"""The database of structures: of every half of every block the order in which its units go, and what each level costs.

    block-00007.safetensors     Hessians of the halves' outputs, orders; errors by level in the metadata

Weights are not kept: those of a level follow from Hessian and kept units (`removal.refit`), so that a database takes no more
room than the Hessians, whatever the number of levels.

Source: ZipLM, arXiv:2302.04089, section 3. Shapes: R = out_features of an output matrix, C = in_features, K = columns kept.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import compression
from compression.block import matrix_weight
from compression.block_files import block_path
from compression.calibrating import OnDense
from compression.durable import sync_and_rename, write_durably
from compression.errors import InvalidOptions
from compression.events import ActivityStarted, BlockFinished, OnEvent
from compression.families import Architecture
from compression.families.structure import Half, Structure
from compression.hessian import Hessian
from compression.kept_hessians import KeptHessians
from compression.lanes import enter
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.streamed import StreamedModel
from compression.plan import PlannedLayer
from compression.structure.profiles import Levels
from compression.structure.removal import columns_of, refit, relative_error, remove_units
from compression.structure.shrink import Cut
from compression.structure.units import structure_of

DATABASE_FILE = "structures.json"


class LevelCost(BaseModel):
    """One level of one half. Args: error: mean squared error of its output over the mean square. damp: see `Removed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kept: int
    error: float
    damp: float


class StructuresInfo(BaseModel):
    """What a database is of, and what it took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scalpel_version: str
    key: dict[str, str] = Field(description="Everything that it depends on.")
    seconds: float = Field(description="Of building, in the attempt that ended it.")
    size_bytes: int


@dataclass(frozen=True)
class HalfRemovals:
    """What is known of one half.

    Args:
        H_CC: of what its output matrix reads in the dense model; float32.
        order: its units, the first one to go first.
        costs: by level, from the dense one to none, whose error is 1.
    """

    H_CC: Tensor
    order: tuple[int, ...]
    costs: tuple[LevelCost, ...]

    def kept(self, level: int) -> tuple[int, ...]:
        """Units that a level keeps, rising."""
        return tuple(sorted(self.order[len(self.order) - self.costs[level].kept :]))

    def cut(self, level: int, half: Half, W_RC: Tensor) -> Cut:
        """What becomes of the half at a level. Args: W_RC: its output matrix, dense."""
        kept = self.kept(level)
        if len(kept) in (0, half.units):
            return Cut(kept)
        columns_K = columns_of(kept, half.width, W_RC.device)
        return Cut(kept, refit(W_RC, self.H_CC.to(W_RC.device), columns_K, self.costs[level].damp).to(W_RC.dtype))


def removals_of(W_RC: Tensor, hessian: Hessian, half: Half, levels: Sequence[int]) -> HalfRemovals:
    """Remove the units of a half one by one. Args: levels: units kept, falling from all to none.

    Raises: NumericalError.
    """
    whole = float(((W_RC.double() @ hessian.H_CC.double()) * W_RC.double()).sum()) / 2
    costs: list[LevelCost] = []
    order: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    for found in remove_units(W_RC, hessian.H_CC, half.width, levels):
        order, kept = found.order, found.kept
        error = found.error / whole if whole > 0 else 1.0
        if found.damp:  # the saliencies then tell of a sum with the damping in it
            columns_K = columns_of(kept, half.width, W_RC.device)
            error = relative_error(W_RC, hessian.H_CC, columns_K, found.weights_RK)
        costs.append(LevelCost(kept=len(kept), error=min(error, 1.0), damp=found.damp))
    costs.append(LevelCost(kept=0, error=1.0, damp=0.0))
    return HalfRemovals(hessian.H_CC, (*order, *kept), tuple(costs))


@dataclass(frozen=True)
class Structures:
    """A finished database.

    Args: levels: units kept, by half; index 0 is the dense one.
    """

    folder: Path
    architecture: Architecture
    levels: Levels

    @property
    def halves(self) -> Structure:
        return structure_of(self.architecture)

    def errors(self) -> tuple[tuple[float, ...], ...]:
        """Relative errors by choice and level; choices are the halves of block 0, then those of block 1, and so on."""
        return tuple(errors for index in range(self.architecture.blocks) for errors in self.errors_of(index))

    def errors_of(self, index: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of one block's halves, by level. Raises: InvalidOptions: its file is missing or damaged."""
        attention, ffn = (_read_costs(self.folder, index, half.name) for half in self.halves)
        if attention is None or ffn is None:
            raise _damaged(block_path(self.folder, index))
        return tuple(cost.error for cost in attention), tuple(cost.error for cost in ffn)

    def removals(self, index: int, half: Half) -> HalfRemovals:
        """Raises: InvalidOptions: the block's file is missing or damaged."""
        found = _read(self.folder, index, half.name)
        if found is None:
            raise _damaged(block_path(self.folder, index))
        return found

    def levels_of(self, half: Half) -> tuple[int, ...]:
        return self.levels[half.name == "ffn"]


@dataclass(frozen=True)
class Building:
    """What a database is built from and with. Args: key: everything that it depends on."""

    model: StreamedModel
    levels: Levels
    key: Mapping[str, str]
    hessians: KeptHessians
    compute_dtype: torch.dtype
    spill: Spill
    meter: MemoryMeter
    on_event: OnEvent


@torch.inference_mode()
def build_structures(building: Building, folder: Path) -> Structures:
    """Build what is not there yet: one walk over the dense model.

    Args: folder: named by the key, so that what lies there is of the same model, windows and circumstances.
    Raises: NumericalError. Whatever `on_event` raises; finished blocks are kept.
    """
    architecture = building.model.checkpoint.architecture
    found, blocks = Structures(folder, architecture, building.levels), architecture.blocks
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(blocks) if not _is_finished(folder, index, found.halves)]
    begin = time.perf_counter()
    if missing:
        _walk(building, found, missing)
    if missing or not (folder / DATABASE_FILE).is_file():
        info = StructuresInfo(
            scalpel_version=compression.__version__,
            key=dict(building.key),
            seconds=round(time.perf_counter() - begin, 3),
            size_bytes=sum(path.stat().st_size for path in folder.glob("block-*.safetensors")),
        )
        write_durably(folder / DATABASE_FILE, info.model_dump_json(indent=2).encode() + b"\n")
    return found


def read_info(folder: Path) -> StructuresInfo | None:
    """What a database says of itself; None where it is not finished."""
    try:
        return StructuresInfo.model_validate_json((folder / DATABASE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def output_layer(architecture: Architecture, half: Half, index: int) -> PlannedLayer:
    """A half's output matrix."""
    matrix = next(matrix for matrix in architecture.block(index) if matrix.name == half.output)
    return PlannedLayer(architecture.module_name(index, matrix), index, matrix, None)


def output_weight(block: nn.Module, architecture: Architecture, half: Half) -> Tensor:
    """Its values (R, C)."""
    return matrix_weight(block, output_layer(architecture, half, 0))


def _walk(building: Building, structures: Structures, missing: Sequence[int]) -> None:
    model, halves = building.model, structures.halves
    architecture, last = model.checkpoint.architecture, missing[-1]
    wanted = [output_layer(architecture, half, index) for index in missing for half in halves]
    calibrating = OnDense(
        model, lambda ids_WL: enter(model, ids_WL, building.spill), building.compute_dtype, building.hessians, wanted
    )
    spent: list[float] = []
    for index in range(last + 1):
        begin = time.perf_counter()
        building.on_event(ActivityStarted(activity="loading", block=index + 1, blocks=architecture.blocks))
        block = model.load_block(index)
        errors: list[float] = []
        try:
            if index in missing:
                errors = _solve(building, structures, calibrating, index, block)
            calibrating.before_solutions(index, block)
        finally:
            model.free_block(index)
        spent.append(time.perf_counter() - begin)
        building.on_event(
            BlockFinished(
                block=index + 1,
                blocks=architecture.blocks,
                fraction=(index + 1) / (last + 1),
                eta_s=(last - index) * sum(spent) / len(spent),
                mean_relative_error=sum(errors) / len(errors) if errors else None,
                host_memory_bytes=building.meter.now_bytes(),
                device_memory_bytes=building.meter.device_bytes(),
                is_replayed=index not in missing,
            )
        )


def _solve(building: Building, structures: Structures, calibrating: OnDense, index: int, block: nn.Module) -> list[float]:
    """One block's file. Returns: the relative errors with half of the units."""
    architecture = building.model.checkpoint.architecture
    told = {"block": index + 1, "blocks": architecture.blocks}
    building.on_event(ActivityStarted(activity="calibrating", **told))
    layers = [output_layer(architecture, half, index) for half in structures.halves]
    hessians = calibrating.hessians(index, block, layers, is_last=True)
    building.on_event(ActivityStarted(activity="solving", **told))
    tensors: dict[str, Tensor] = {}
    costs: dict[str, list[dict[str, Any]]] = {}
    middle = []
    for half, layer, levels in zip(structures.halves, layers, structures.levels, strict=True):
        found = removals_of(matrix_weight(block, layer), hessians.pop(layer.matrix.reads), half, levels)
        tensors |= {f"{half.name}.hessian": found.H_CC.cpu(), f"{half.name}.order": torch.tensor(found.order)}
        costs[half.name] = [cost.model_dump() for cost in found.costs]
        middle.append(found.costs[len(found.costs) // 2].error)
    partial = block_path(structures.folder, index).with_suffix(".partial")
    save_file(tensors, partial, {"costs": json.dumps(costs)})
    sync_and_rename(partial, block_path(structures.folder, index))
    return middle


def _is_finished(folder: Path, index: int, halves: Sequence[Half]) -> bool:
    return all(_read_costs(folder, index, half.name) is not None for half in halves)


def _read_costs(folder: Path, index: int, half: str) -> tuple[LevelCost, ...] | None:
    try:
        with safe_open(block_path(folder, index), framework="pt") as file:
            return tuple(LevelCost.model_validate(entry) for entry in json.loads(file.metadata()["costs"])[half])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def _read(folder: Path, index: int, half: str) -> HalfRemovals | None:
    costs = _read_costs(folder, index, half)
    if costs is None:
        return None
    try:
        with safe_open(block_path(folder, index), framework="pt") as file:
            H_CC, order = file.get_tensor(f"{half}.hessian"), file.get_tensor(f"{half}.order")
    except (OSError, SafetensorError, KeyError):
        return None
    return HalfRemovals(H_CC, tuple(order.tolist()), costs)


def _damaged(path: Path) -> InvalidOptions:
    return InvalidOptions("database", f"{path} is missing or damaged", "a database that was built to its end; build it again")
