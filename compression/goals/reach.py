"""The library's entry for goals: one model and one goal in, the artifact that meets it out.

levels -> costs -> budget (or a refusal with the best that can be had)
database of all matrices at all levels, and how much each matrix matters
allocation and search -> a profile
stitched from the database; and, unless that is what is wanted, solved again on compressed inputs
"""

import gc
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression import environment
from compression.block_files import BLOCKS_FOLDER
from compression.compress import compress
from compression.errors import InvalidOptions, VerificationError
from compression.events import Note, OnEvent, ignore_events
from compression.goals.check import check_goal
from compression.goals.choosing import Choosing
from compression.goals.goal import Goal, parse_goal
from compression.goals.result import GoalResult, Stitched
from compression.goals.search import Profile
from compression.kept import Kept
from compression.kept_room import RESULTS_FOLDER
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.source import ModelSource
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Report
from compression.resources import resource_errors
from compression.structure.faster import faster


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
        goal: such as `{"metric": "bytes", "factor": 2}` or `"bytes/2"`; one of latency makes a smaller dense model. With
            `stitched` the artifact has the weights of the database; else the chosen levels are solved again, each block on the
            compressed ones before it, and the report has both figures.
        ignore: modules that stay dense, by name pattern.
        keep_solutions: as in `compress`; a goal of latency leaves none, since no other format could be written of it.
        cache: also where databases are kept for further goals; None: in `work`.
        work: as in `compress`; an interrupted call continues from what it holds and from the database.
        options: further ones of `compress`.
    Returns: the report, whose `goal` (of latency `structure`) tells of the choice.
    Raises: as `compress`. InvalidOptions: the goal cannot be reached; the reason has the best figure that can be.
    """
    asked, out = parse_goal(goal), Path(out)
    if out.exists():
        raise InvalidOptions("out", f"{out} exists already; nothing is overwritten", "a folder that does not exist")
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    work = work or out.with_name(f".{out.name}.work")
    cache = cache or work / "cache"
    given: dict[str, Any] = {
        **options,
        "calibration": calibration,
        "evaluation": evaluation,
        "acceptance": _accepting(asked, acceptance),
        "output": output,
        "texts": texts or {},
        "cache": cache,
        "device": device,
        "compute_dtype": compute_dtype,
        "low_memory": low_memory,
        "on_event": on_event,
    }
    if asked.metric == "latency":
        check_goal(asked, Recipe(ignore=ignore), output.format)
        given.pop("expected_s", None)  # nothing is foretold of such a goal's time
        return faster(source, asked, out, work=work, **given)
    torch_device = environment.pick_device(device)
    with MemoryMeter(torch_device) as meter:
        choosing = Choosing(
            source=source,
            goal=asked,
            ignore=ignore,
            calibration=calibration,
            evaluation=evaluation,
            output=output,
            texts=texts or {},
            work=work,
            cache=cache,
            device=torch_device,
            compute_dtype=environment.pick_compute_dtype(compute_dtype, torch_device),
            meter=meter,
            on_event=on_event,
            spill=Spill.of_pass(work, torch_device, low_memory=low_memory),
            kept=Kept(cache / RESULTS_FOLDER, on_event),
        )
        profile, result = choosing.choose()
    report = _compressed(choosing, profile, result, out, {**given, "keep_solutions": keep_solutions})
    shutil.rmtree(work, ignore_errors=True)
    if asked.metric in ("bytes", "bits_per_weight") and report.sizes.artifact_bytes > result.budget:
        size_bytes = report.sizes.artifact_bytes
        raise VerificationError(f"the artifact takes {size_bytes} bytes, more than the budget {result.budget:.0f}")
    return report


def _compressed(choosing: Choosing, profile: Profile, result: GoalResult, out: Path, given: dict[str, Any]) -> Report:
    """The artifact: stitched, or solved again after what the stitched weights give was measured."""
    begin = time.perf_counter()
    folder, dense_inputs = choosing.work / "stitched", choosing.recipe(profile, "dense")
    choosing.stitch(dense_inputs, profile, folder / BLOCKS_FOLDER)
    if choosing.goal.stitched:
        return compress(choosing.source, dense_inputs, out, work=folder, goal=result, **given)
    choosing.on_event(Note(message="measuring what the database's weights give, stitched"))
    scratch = choosing.work / "stitched-artifact"
    shutil.rmtree(scratch, ignore_errors=True)
    plain = {**given, "certificate": False, "keep_solutions": None}
    stitched = _figures(compress(choosing.source, dense_inputs, scratch, work=folder, **plain))
    shutil.rmtree(scratch)
    gc.collect()  # a model and its taps refer to each other
    choosing.on_event(Note(message="solving the chosen levels again, each block on the compressed ones before it"))
    seconds = {**result.seconds, "stitching": round(time.perf_counter() - begin, 3)}
    result = result.model_copy(update={"stitched": stitched, "seconds": seconds})
    return compress(choosing.source, choosing.recipe(profile, "compressed"), out, work=choosing.work, goal=result, **given)


def _accepting(goal: Goal, acceptance: Acceptance) -> Acceptance:
    """Of a goal that is a loss, the verdict is about it."""
    if goal.metric != "perplexity_ratio":
        return acceptance
    limit = min(goal.at_most or math.inf, acceptance.max_perplexity_ratio or math.inf)
    return acceptance.model_copy(update={"max_perplexity_ratio": limit})


def _figures(report: Report) -> Stitched | None:
    result, error = next(iter(report.results), None), next(iter(report.output_errors), None)
    if result is not None:
        return Stitched(text=result.text.source, perplexity_ratio=result.ratio, kl=result.kl)
    return None if error is None else Stitched(text=error.text.source, output_error=error.relative_error)
