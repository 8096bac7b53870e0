"""Many recipes on one model: what does not depend on the recipe is computed once, the rest are ordinary compressions.

Every point is calibrated on the dense model (`inputs: dense`), so that all of them share its Hessians, as they share
tokenised windows and the dense evaluation. A point is `compress` with a cache: bit-identical to a job of its own.
"""

import gc
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compression
from compression.compress import compress
from compression.durable import write_durably
from compression.errors import CompressionError, InvalidOptions
from compression.events import Note, OnEvent, ignore_events
from compression.figures import figures
from compression.formats.catalog import check_output, check_plan
from compression.manifest import REPORT_FILE
from compression.models.source import ModelSource
from compression.plan import plan
from compression.preparation import open_checkpoint
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from compression.report import Report
from compression.sweep_report import SWEEP_FILE, SweepPoint, SweepReport, SweepRequest, judged
from compression.words import recipe_words

CACHE_FOLDER = ".shared"  # what the points have in common, while the sweep is at work


def sweep(
    model: ModelSource | Path | str,
    recipes: Sequence[Recipe | Mapping[str, Any]],
    out: Path | str,
    *,
    calibration: Calibration = Calibration(),  # noqa: B008  frozen
    evaluation: Evaluation = Evaluation(),  # noqa: B008  frozen
    acceptance: Acceptance = Acceptance(),  # noqa: B008  frozen
    output: Output = Output(),  # noqa: B008  frozen
    refine: bool = False,
    cache: Path | None = None,
    on_event: OnEvent = ignore_events,
    **options: Any,
) -> SweepReport:
    """Compress a model by many recipes and say which results are worth having.

    Args:
        recipes: of the points, see `recipe_grid.grid`. Their `inputs` are `dense`, unless they say `compressed`.
        out: folder for an artifact a point and `sweep.json`, which is written anew after each point. A later call with the
            same arguments continues; what failed is tried again.
        refine: solve the recipes of undominated points again on compressed inputs, as points of their own.
        cache: as in `compress`; None: one in `out`, removed at the end.
        options: further ones of `compress`.
    Returns: the report. A point that failed holds its error and stops no other.
    Raises:
        InvalidOptions, UnsupportedModel: before any work, for the first recipe that is refused, or where `out` holds
            something else.
        Whatever `on_event` raises.
    """
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    folder = Path(out)
    asked = [_said(recipe) for recipe in recipes]
    digest = _checked(source, asked, output, cache or folder / CACHE_FOLDER)
    request = SweepRequest(
        model=source.name,
        model_digest=digest,
        recipes=tuple(asked),
        calibration=calibration,
        evaluation=evaluation,
        acceptance=acceptance,
        output=output,
        refine=refine,
    )
    run = _Run(source, folder, request, _begun(folder, request), cache or folder / CACHE_FOLDER, options, on_event)
    run.points(_names(asked))
    if refine:
        run.refine()
    shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)
    return run.report


@dataclass
class _Run:
    source: ModelSource
    folder: Path
    request: SweepRequest
    report: SweepReport
    cache: Path
    options: Mapping[str, Any]
    on_event: OnEvent
    _done: list[SweepPoint] = field(default_factory=list)

    def points(self, names: Sequence[str]) -> None:
        """All that were asked for; those still to come stand in the report as waiting."""
        waiting = [SweepPoint(name=name, recipe=recipe) for name, recipe in zip(names, self.request.recipes, strict=True)]
        self._run(waiting)

    def refine(self) -> None:
        best = [point for point in self.report.points if point.is_dominated is False and point.refines is None]
        self._run(
            [
                SweepPoint(name=f"{point.name}-refined", recipe={**point.recipe, "inputs": "compressed"}, refines=point.name)
                for point in best
                if point.recipe["inputs"] == "dense"
            ]
        )

    def _run(self, points: Sequence[SweepPoint]) -> None:
        for number, point in enumerate(points, 1):
            self._write([*self._done, *points[number - 1 :]])
            self.on_event(Note(message=f"point {number} of {len(points)}: {point.name} ({recipe_words(point.recipe)})"))
            begin = time.perf_counter()
            self._done.append(self._solved(point))
            spent_s = 0.0 if self._done[-1].figures is None else time.perf_counter() - begin
            self.report = self.report.model_copy(update={"seconds": self.report.seconds + spent_s})
        self._write(self._done)

    def _solved(self, point: SweepPoint) -> SweepPoint:
        folder = self.folder / point.name
        try:
            if (folder / REPORT_FILE).is_file():
                report = Report.model_validate_json((folder / REPORT_FILE).read_bytes())
                self.on_event(Note(message=f"{point.name}: finished by an earlier attempt"))
            else:
                report = compress(
                    self.source,
                    point.recipe,
                    folder,
                    calibration=self.request.calibration,
                    evaluation=self.request.evaluation,
                    acceptance=self.request.acceptance,
                    output=self.request.output,
                    cache=self.cache,
                    on_event=self.on_event,
                    **self.options,
                )
        except CompressionError as error:
            self.on_event(Note(level="warning", message=f"{point.name} failed: {error}"))
            return point.model_copy(update={"error": f"{type(error).__name__}: {error}"})
        finally:
            gc.collect()  # a model and its taps refer to each other
        return point.model_copy(update={"figures": figures(report)})

    def _write(self, points: Sequence[SweepPoint]) -> None:
        self.report = self.report.model_copy(update={"points": judged(points)})
        write_durably(self.folder / SWEEP_FILE, self.report.model_dump_json(indent=2).encode() + b"\n")


def _said(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """As plain data, calibrated on the dense model where nothing else is said."""
    said = recipe.model_dump(exclude_unset=True) if isinstance(recipe, Recipe) else dict(recipe)
    return {"inputs": "dense", **said}


def _checked(source: ModelSource, asked: Sequence[Mapping[str, Any]], output: Output, cache: Path) -> str:
    """Refuse what any point would refuse; the model's digest.

    Raises: InvalidOptions: naming the recipe by its number. UnsupportedModel.
    """
    if not asked:
        raise InvalidOptions("recipes", "there is none", "at least one recipe")
    check_output(output)
    checkpoint, _ = open_checkpoint(source, cache)
    for number, recipe in enumerate(asked):
        try:
            planned = plan(resolve(parse_recipe(recipe), output.format), checkpoint.architecture)
            check_plan(output.format, planned, checkpoint.architecture)
        except InvalidOptions as error:
            raise InvalidOptions(f"recipes.{number}: {error.field}", error.reason, error.allowed) from error
    return checkpoint.digest()


def _begun(folder: Path, request: SweepRequest) -> SweepReport:
    """The report of an earlier attempt, or a new one.

    Raises: InvalidOptions: the folder holds something else.
    """
    path = folder / SWEEP_FILE
    if path.is_file():
        found = SweepReport.model_validate_json(path.read_bytes())
        changed = [name for name in SweepRequest.model_fields if getattr(found.request, name) != getattr(request, name)]
        if changed:
            reason = f"{folder} holds a sweep that was asked for otherwise ({', '.join(changed)})"
            raise InvalidOptions("out", reason, "another folder, or the arguments that it was begun with")
        return found
    if folder.exists() and any(entry.name != CACHE_FOLDER for entry in folder.iterdir()):
        raise InvalidOptions("out", f"{folder} exists already and holds no sweep", "a folder that does not exist")
    folder.mkdir(parents=True, exist_ok=True)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return SweepReport(scalpel_version=compression.__version__, created_at=created, request=request, points=())


def _names(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """`01-sparsity-0.5`: numbered, so that they are unlike each other whatever the recipes say."""
    return [
        f"{number:02}-{_slug({n: v for n, v in recipe.items() if n != 'inputs'})}" for number, recipe in enumerate(asked, 1)
    ]


def _slug(recipe: Mapping[str, Any]) -> str:
    said = {name: value for name, value in recipe.items() if isinstance(value, str | int | float) and value is not True}
    return re.sub(r"[^A-Za-z0-9.]+", "-", recipe_words(said)).strip("-.").lower()[:60] or "recipe"
