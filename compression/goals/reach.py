"""The library's entry for goals: one model and one goal in, the artifact that meets it out.

levels -> costs -> budget (or a refusal with the best that can be had)
database of all matrices at all levels, and how much each matrix matters
allocation and search -> a profile
stitched from the database; and, unless that is what is wanted, solved again on compressed inputs
"""

import gc
import hashlib
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from compression import environment
from compression.block_files import BLOCKS_FOLDER
from compression.compress import compress
from compression.database.build import Building, build_database, fingerprints
from compression.database.files import DATABASE_FILE, Database, DatabaseInfo
from compression.database.sensitivity import sensitivities
from compression.errors import InvalidOptions, VerificationError
from compression.events import Note, OnEvent, StageStarted, ignore_events
from compression.finished_blocks import FinishedBlocks
from compression.goals.check import check_goal, priced
from compression.goals.choice import Chooser
from compression.goals.costs import CostTable
from compression.goals.goal import Goal, parse_goal
from compression.goals.levels import Level, recipe_of
from compression.goals.loss import ProfileLoss
from compression.goals.losses import LossBook
from compression.goals.result import DatabaseUse, GoalResult, LevelUse, Stitched
from compression.goals.search import Profile
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.kept_room import DATABASES_FOLDER, RESULTS_FOLDER
from compression.layer import LayerSolution
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.preparation import Job, open_checkpoint, prepare
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Report
from compression.resources import resource_errors

LOSSES_FILE = "losses.jsonl"


@resource_errors()
def reach(
    model: ModelSource | Path | str,
    goal: Goal | Mapping[str, Any] | str,
    out: Path | str,
    *,
    ignore: tuple[str, ...] = (),
    keep_solutions: Path | None = None,
    calibration: Calibration = Calibration(),  # noqa: B008  frozen
    evaluation: Evaluation = Evaluation(),  # noqa: B008  frozen
    acceptance: Acceptance = Acceptance(),  # noqa: B008  frozen
    output: Output = Output(),  # noqa: B008  frozen
    texts: Mapping[str, Path] | None = None,
    work: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    compute_dtype: str = "auto",
    low_memory: bool = False,
    on_event: OnEvent = ignore_events,
    **options: Any,
) -> Report:
    """Compress a model so that a goal is met and the least is lost.

    Args:
        goal: such as `{"metric": "bytes", "factor": 2}` or `"bytes/2"`. With `stitched` the artifact has the weights of the
            database; else the chosen levels are solved again, each block on the compressed ones before it, and the report has
            both figures.
        ignore: modules that stay dense, by name pattern.
        keep_solutions: as in `compress`.
        cache: also where databases are kept for further goals; None: in `work`.
        work: as in `compress`; an interrupted call continues from what it holds and from the database.
        options: further ones of `compress`.
    Returns: the report, whose `goal` tells of the choice.
    Raises: as `compress`. InvalidOptions: the goal cannot be reached; the reason has the best figure that can be.
    """
    asked, out = parse_goal(goal), Path(out)
    if out.exists():
        raise InvalidOptions("out", f"{out} exists already; nothing is overwritten", "a folder that does not exist")
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    work = work or out.with_name(f".{out.name}.work")
    torch_device = environment.pick_device(device)
    with MemoryMeter(torch_device) as meter:
        reaching = _Reaching(
            source=source,
            goal=asked,
            ignore=ignore,
            calibration=calibration,
            evaluation=evaluation,
            output=output,
            texts=texts or {},
            work=work,
            cache=cache or work,
            device=torch_device,
            compute_dtype=environment.pick_compute_dtype(compute_dtype, torch_device),
            meter=meter,
            on_event=on_event,
            spill=Spill.always(work) if low_memory else Spill(work),
            kept=Kept((cache or work) / RESULTS_FOLDER, on_event),
        )
        profile, result = reaching.choose()
    shared: dict[str, Any] = {
        "calibration": calibration,
        "evaluation": evaluation,
        "output": output,
        "texts": texts,
        "cache": cache or work / "shared",
        "device": device,
        "compute_dtype": compute_dtype,
        "low_memory": low_memory,
        "on_event": on_event,
    }
    if asked.metric == "perplexity_ratio":
        limit = min(asked.at_most or math.inf, acceptance.max_perplexity_ratio or math.inf)
        acceptance = acceptance.model_copy(update={"max_perplexity_ratio": limit})
    dense_inputs, compressed_inputs = (
        recipe_of(profile, reaching.levels, reaching.table.names, inputs, ignore=ignore) for inputs in ("dense", "compressed")
    )
    begin = time.perf_counter()
    reaching.stitch(dense_inputs, profile, work / "stitched" / BLOCKS_FOLDER)
    if asked.stitched:
        last = {**options, "acceptance": acceptance, "goal": result, "keep_solutions": keep_solutions, **shared}
        report = compress(source, dense_inputs, out, work=work / "stitched", **last)
    else:
        plain = {**options, "acceptance": acceptance, "certificate": False, **shared}
        scratch = work / "stitched-artifact"
        shutil.rmtree(scratch, ignore_errors=True)
        found = compress(source, dense_inputs, scratch, work=work / "stitched", **plain)
        shutil.rmtree(scratch)
        seconds = {**result.seconds, "stitching": round(time.perf_counter() - begin, 3)}
        result = result.model_copy(update={"stitched": _figures(found), "seconds": seconds})
        gc.collect()
        last = {**options, "acceptance": acceptance, "goal": result, "keep_solutions": keep_solutions, **shared}
        report = compress(source, compressed_inputs, out, work=work, **last)
    shutil.rmtree(work, ignore_errors=True)
    if asked.metric in ("bytes", "bits_per_weight") and report.sizes.artifact_bytes > result.budget:
        raise VerificationError(
            f"the artifact takes {report.sizes.artifact_bytes} bytes, more than the budget {result.budget:.0f}"
        )
    return report


@dataclass
class _Reaching:
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
        model = StreamedModel(checkpoint, self.device, torch.float32)
        matters = sensitivities(model, database, job.calibration.ids_WL[:1], self.spill, self.compute_dtype, self.on_event)
        seconds["sensitivities"] = round(time.perf_counter() - begin, 3)
        harms = tuple(tuple(weight * error for error in row) for weight, row in zip(matters, database.errors, strict=True))
        chooser = Chooser(self.table, harms, tuple(level.name for level in self.levels))
        begin = time.perf_counter()
        windows_WL = job.calibration.ids_WL[: options.windows, : options.tokens]
        judge = ProfileLoss(model, database, windows_WL, self.spill, self.compute_dtype)
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


def _figures(report: Report) -> Stitched | None:
    result, error = next(iter(report.results), None), next(iter(report.output_errors), None)
    if result is not None:
        return Stitched(text=result.text.source, perplexity_ratio=result.ratio, kl=result.kl)
    return None if error is None else Stitched(text=error.text.source, output_error=error.relative_error)
