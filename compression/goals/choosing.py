"""Everything of a goal up to its choice: prices, database, sensitivities, search; the choice as finished blocks."""

import hashlib
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from compression.database.build import Building, build_database, fingerprints
from compression.database.files import DATABASE_FILE, Database, DatabaseInfo
from compression.database.sensitivity import sensitivities
from compression.errors import InvalidOptions
from compression.events import Note, OnEvent, StageStarted
from compression.finished_blocks import FinishedBlocks
from compression.goals.check import check_goal, priced
from compression.goals.choice import Chooser
from compression.goals.costs import CostTable
from compression.goals.goal import Goal
from compression.goals.levels import Level, recipe_of
from compression.goals.loss import Installed, ProfileLoss
from compression.goals.losses import LossBook
from compression.goals.result import DatabaseUse, GoalResult, LevelUse
from compression.goals.search import Profile
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.kept_room import DATABASES_FOLDER
from compression.layer import LayerSolution
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.preparation import Job, open_checkpoint, prepare
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Inputs, Recipe

LOSSES_FILE = "losses.jsonl"


@dataclass
class Choosing:
    """The way to a choice. After `choose`, its levels and prices are known, and the database is there."""

    source: ModelSource
    goal: Goal
    ignore: tuple[str, ...]
    calibration: Calibration
    evaluation: Evaluation
    output: Output
    texts: Mapping[str, Path]
    work: Path
    cache: Path
    device: torch.device
    compute_dtype: torch.dtype
    meter: MemoryMeter
    on_event: OnEvent
    spill: Spill
    kept: Kept
    levels: tuple[Level, ...] = ()
    table: CostTable = field(default_factory=lambda: CostTable((), (), 0.0, 0.0))
    _database: Database | None = None

    def choose(self) -> tuple[Profile, GoalResult]:
        """Raises: InvalidOptions: the goal is out of reach, which is found out before any work where it can be."""
        seconds: dict[str, float] = {}
        options = self.goal.search
        checkpoint, _ = open_checkpoint(self.source, self.cache)
        check_goal(self.goal, Recipe(ignore=self.ignore), self.output.format)
        self.levels, self.table, budget = priced(
            self.goal, self.output.format, checkpoint.architecture, checkpoint.tensors, ignore=self.ignore
        )
        begin = time.perf_counter()
        job = self._job(self._one_level())
        database, use = self._built(job)
        seconds["database"] = round(time.perf_counter() - begin, 3)
        begin = time.perf_counter()
        self.on_event(StageStarted(stage="evaluating"))
        self.on_event(Note(message="measuring how much each matrix matters"))
        model = StreamedModel(checkpoint, self.device, torch.float32)
        matters = sensitivities(model, database, job.calibration.ids_WL[:1], self.spill, self.compute_dtype, self.on_event)
        seconds["sensitivities"] = round(time.perf_counter() - begin, 3)
        harms = tuple(tuple(weight * error for error in row) for weight, row in zip(matters, database.errors, strict=True))
        chooser = Chooser(self.table, harms, tuple(level.name for level in self.levels))
        begin = time.perf_counter()
        windows_WL = job.calibration.ids_WL[: options.windows, : options.tokens]
        judge = ProfileLoss(model, Installed(model, database), windows_WL, self.spill, self.compute_dtype, self.on_event)
        if budget is None:
            budget = self._least_budget(chooser, judge)
        key = hashlib.sha256(str(windows_WL.tolist()).encode()).hexdigest()
        book = LossBook(database.folder / LOSSES_FILE, key)
        profile, found = chooser.searched(budget, options, lambda one: book.or_measured(one, judge), self._tell_best)
        seconds["search"] = round(time.perf_counter() - begin, 3)
        return profile, GoalResult(
            asked=self.goal,
            unit="flops" if self.goal.metric == "flops" else "bytes",
            dense=self.table.dense,
            budget=budget,
            predicted=self.table.total(profile),
            fixed=self.table.fixed,
            levels=chooser.level_names,
            profile=tuple(
                LevelUse(matrix=name, level=chooser.level_names[level])
                for name, level in zip(self.table.names, profile, strict=True)
            ),
            search=found,
            database=use,
            is_stitched=self.goal.stitched,
            seconds=seconds,
        )

    def recipe(self, profile: Profile, inputs: Inputs) -> Recipe:
        """The chosen levels as one recipe."""
        return recipe_of(profile, self.levels, self.table.names, inputs, ignore=self.ignore)

    def stitch(self, recipe: Recipe, profile: Profile, folder: Path) -> None:
        """Write the database's weights as the finished blocks of a compression with this recipe."""
        assert self._database is not None
        shutil.rmtree(folder, ignore_errors=True)
        finished = FinishedBlocks(folder, self._job(recipe).fingerprint(self.device, self.compute_dtype))
        for index in range(self._database.architecture.blocks):
            weights, results = self._database.block(index, profile)
            solutions = {
                result.name: LayerSolution(weights[result.name], result.method, result.damp, result.fallbacks)
                for result in results
            }
            finished.save(index, solutions, results)

    def _one_level(self) -> Recipe:
        target = next(level.target for level in self.levels if level.target is not None)
        return Recipe.model_validate({**target, "inputs": "dense", "ignore": self.ignore})

    def _job(self, recipe: Recipe) -> Job:
        self.work.mkdir(parents=True, exist_ok=True)
        return prepare(self.source, recipe, self.calibration, self.evaluation, self.output, self.texts, self.cache, self.kept)

    def _built(self, job: Job) -> tuple[Database, DatabaseUse]:
        hessians = KeptHessians(self.kept, job.info.digest, job.calibration.ids_WL, self.device, self.compute_dtype)
        building = Building(
            job=job,
            levels=self.levels,
            calibration=self.calibration,
            hessians=hessians,
            device=self.device,
            compute_dtype=self.compute_dtype,
            spill=self.spill,
            meter=self.meter,
            on_event=self.on_event,
        )
        key = hashlib.sha256(repr(fingerprints(building)).encode()).hexdigest()[:32]
        folder = self.cache / DATABASES_FOLDER / key
        was_there = (folder / DATABASE_FILE).is_file()
        self.on_event(Note(message=f"model database {key[:8]}: {'found' if was_there else 'to be built'}"))
        self.on_event(StageStarted(stage="compressing"))
        self._database = build_database(building, folder)
        info = DatabaseInfo.model_validate_json((folder / DATABASE_FILE).read_bytes())
        use = DatabaseUse(
            key=key, levels=len(self.levels), size_bytes=info.size_bytes, seconds=info.seconds, was_there=was_there
        )
        return self._database, use

    def _least_budget(self, chooser: Chooser, judge: ProfileLoss) -> float:
        limit = math.log(self.goal.at_most or 1.0)

        def is_good(profile: Profile) -> bool:
            return judge.log_perplexity_ratio(profile) <= limit

        def tell(budget: float) -> None:
            self.on_event(Note(message=f"looking for the smallest budget: trying {budget:,.0f} bytes"))

        found = chooser.least_budget(is_good, tell)
        if found is None:
            raise InvalidOptions(
                "goal", f"{self.goal.in_words()} is out of reach with these levels", "a level that loses less"
            )
        return found

    def _tell_best(self, evaluation: int, loss: float) -> None:
        self.on_event(Note(message=f"search: loss {loss:.4g} after {evaluation} profiles"))
