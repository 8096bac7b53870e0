"""A model database on disk, and what is read from it.

    database.json           what it is of: levels, matrices, calibration
    levels/NN/              the finished blocks of one level: solutions and results, with their fingerprint
    sensitivities.json      how much each matrix matters, see `sensitivity.py`

A level's blocks are those of a pass with that level's recipe and `inputs: dense`, bit for bit, so that a choice of levels is
stitched from them into finished blocks of an ordinary compression.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from compression.block_files import block_path
from compression.errors import InvalidOptions
from compression.families import Architecture
from compression.finished_blocks import read_results, read_weights
from compression.goals.levels import Level, layer_names
from compression.plan import PlannedLayer
from compression.protocol import Calibration
from compression.report import LayerResult
from compression.weights import Weights

DATABASE_FILE = "database.json"
LEVELS_FOLDER = "levels"
SENSITIVITIES_FILE = "sensitivities.json"


class DatabaseInfo(BaseModel):
    """What a database is of; it says the same as the fingerprints, for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_version: int = 1
    scalpel_version: str
    model: str = Field(description="As the user named it.")
    model_digest: str
    calibration: Calibration
    calibration_digest: str
    levels: tuple[str, ...] = Field(description="In words; the folders in `levels` are numbered alike.")
    matrices: int
    seconds: float = Field(description="Of building, in the attempt that ended it.")
    size_bytes: int


def level_folder(folder: Path, number: int) -> Path:
    return folder / LEVELS_FOLDER / f"{number:02}"


@dataclass(frozen=True)
class Database:
    """A finished database. Levels without a plan (dense) have no files: they are the model itself."""

    folder: Path
    levels: tuple[Level, ...]
    architecture: Architecture

    @cached_property
    def planned(self) -> tuple[PlannedLayer, ...]:
        """The matrices that a level is chosen for, in the order of the model; a profile has a level's number for each."""
        return next(level.plan for level in self.levels if level.plan is not None).targeted

    @property
    def names(self) -> tuple[str, ...]:
        return layer_names(self.levels)

    @property
    def results(self) -> tuple[tuple[LayerResult | None, ...], ...]:
        """What became of each matrix at each level; None: it stayed dense.

        Raises: InvalidOptions: a block is missing or damaged.
        """
        return tuple(self._by_name[name] for name in self.names)

    @cached_property
    def _by_name(self) -> dict[str, tuple[LayerResult | None, ...]]:
        by_level = [self._results(number) for number in range(len(self.levels))]
        return {name: tuple(found.get(name) for found in by_level) for name in self.names}

    @property
    def errors(self) -> tuple[tuple[float, ...], ...]:
        """Relative error of each matrix at each level, 0 for dense. Without inputs nothing is known: 1, as if it were gone."""
        return tuple(tuple(_error(result) for result in levels) for levels in self.results)

    def block(self, index: int, profile: Sequence[int]) -> tuple[dict[str, Weights], list[LayerResult]]:
        """The chosen weights and results of a block's matrices that do not stay dense.

        Raises: InvalidOptions: they are missing or damaged.
        """
        chosen = {
            layer.name: level
            for layer, level in zip(self.planned, profile, strict=True)
            if layer.block == index and self.levels[level].plan is not None
        }
        weights: dict[str, Weights] = {}
        for level in sorted(set(chosen.values())):
            weights |= self._weights(level, index, [name for name, found in chosen.items() if found == level])
        results = [self._result(name, level) for name, level in chosen.items()]
        return {name: weights[name] for name in chosen}, results

    def _result(self, name: str, level: int) -> LayerResult:
        found = self._by_name[name][level]
        assert found is not None, "its level is not dense"
        return found

    def _weights(self, level: int, index: int, names: Sequence[str]) -> dict[str, Weights]:
        found = read_weights(level_folder(self.folder, level), index, names)
        if found is None:
            raise _damaged(block_path(level_folder(self.folder, level), index))
        return found

    def _results(self, number: int) -> dict[str, LayerResult]:
        if self.levels[number].plan is None:
            return {}
        found: dict[str, LayerResult] = {}
        for index in range(self.architecture.blocks):
            block = read_results(level_folder(self.folder, number), index)
            if block is None:
                raise _damaged(block_path(level_folder(self.folder, number), index))
            found |= {result.name: result for result in block}
        return found


def _error(result: LayerResult | None) -> float:
    if result is None:
        return 0.0
    return 1.0 if result.relative_error is None else result.relative_error


def _damaged(path: Path) -> InvalidOptions:
    return InvalidOptions("database", f"{path} is missing or damaged", "a database that was built to its end; build it again")
