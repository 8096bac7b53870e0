"""A request -> its `Estimate`: first what follows from the model (no database), then what this server says to it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from compression.errors import CompressionError, InvalidOptions
from compression.estimate import MemoryEstimate, Sizing, kept_solution_bytes, memory_on_cpu, memory_on_device, scratch_bytes
from compression.estimated import artifact_bytes, sizing_of
from compression.evaluation_estimate import Streamed, evaluation_memory, evaluation_work
from compression.formats.catalog import FORMATS, check_model, check_output, check_plan
from compression.formats.sizes import Forecast
from compression.goals.check import priced
from compression.goals.costs import database_bytes
from compression.goals.goal import Goal
from compression.plan import Plan, plan
from compression.protocol import Output
from compression.recipe import ResolvedRecipe, resolve
from compression.structure.units import database_bytes as structures_bytes
from compression.text_load import text_load
from compression.work import method_of, work_of
from jobs.errors import SourceError
from jobs.estimating import capacity, cures
from jobs.estimating.capacity import Misfit, limits_of_server
from jobs.estimating.estimates import Disk, Estimate, FormatEstimate, Memory, Parameters, misfit_views
from jobs.estimating.rates import NO_HISTORY, expected_times
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.sourcing.known_model import KnownModel, UnknownModel, check_against_model, look_up
from jobs.sourcing.sources import LocalText, UploadedDataset, parse_text_source, resolve_local
from jobs.uploads.brought import Brought


@dataclass(frozen=True)
class Foretold:
    """What follows from request and model alone.

    Args:
        forecast: of the artifact's bytes, where they are known to the byte.
        sizing: of a compression whose tensors are known; the cures of a misfit are found in it.
        work, method: of the activities whose time is to be foretold.
    """

    estimate: Estimate
    forecast: Forecast | None = None
    sizing: Sizing | None = None
    work: Mapping[str, float] | None = None
    method: str = ""

    def on_this_server(self, session: Session, settings: Settings) -> tuple[Estimate, tuple[Misfit, ...]]:
        """The estimate with times from earlier jobs, held against the limits; and the limits that it exceeds."""
        times = () if self.work is None else expected_times(session, self.work, self.method)
        limits = limits_of_server(session, settings)
        needed = _needed(self.estimate, settings.device)
        found = capacity.misfits(needed, limits, cures.of(self.sizing, needed, limits))
        judged = bool(needed) and (limits.memory_bytes or limits.disk_bytes or limits.device_memory_bytes) is not None
        said = {
            "time": times,
            "time_note": self.estimate.time_note or (None if times else NO_HISTORY),
            "fits": not found if judged else None,
            "misfits": misfit_views(found),
        }
        return self.estimate.model_copy(update=said), found


def foretell(
    request: JobRequest,
    resolved: ResolvedRecipe | None,
    settings: Settings,
    brought: Brought | None = None,
    *,
    formats: bool = False,
) -> Foretold:
    """Look at the model's config and headers, and foretell what the job would need of any machine.

    Args:
        resolved: of `check_request`; None for an evaluation.
        brought: what the caller's tenant has uploaded.
        formats: tell of every output format, not only of the one that is asked for.
    Raises: InvalidOptions: what this model cannot give. SourceError, UnsupportedModel: as `known_model.look_up`, of a model to
        be compressed; one to be evaluated may be of a kind that only the worker opens.
    """
    if resolved is None:
        return _evaluation(request, settings, brought)
    known = look_up(request.model, settings, brought.model if brought else None)
    if isinstance(known, UnknownModel):
        return Foretold(_nothing(request, known.reason))
    forecast = check_against_model(known, resolved, request.output, request.calibration, request.evaluation)
    chosen_from = None if request.goal is None else _goal(request, request.goal, known)
    if known.tensors is None:
        return Foretold(_nothing(request, known.unknown or "its tensors could not be looked at"))
    texts = _text_sizes(request, settings, brought)
    foretold = _compression(request, plan(resolved, known.architecture), known, texts, forecast, formats=formats)
    return foretold if chosen_from is None else _with_choice(foretold, *chosen_from)


def refuse_misfits(found: tuple[Misfit, ...]) -> None:
    """Raises: CannotFit: the first limit that the job exceeds."""
    for misfit in found:
        raise capacity.refuse(misfit)


def _compression(
    request: JobRequest,
    planned: Plan,
    known: KnownModel,
    texts: Mapping[str, int],
    forecast: Forecast | None,
    *,
    formats: bool,
) -> Foretold:
    architecture, tensors = known.architecture, known.tensors
    assert tensors is not None
    sizes = sizing_of(planned, architecture, tensors, request.calibration, request.evaluation, request.output, texts)
    weights, _ = artifact_bytes(request.output, planned, architecture, tensors)
    source_bytes = sum(info.size_bytes for info in tensors.values())
    estimate = Estimate(
        task=request.task,
        model=request.model,
        parameters=Parameters(all=sizes.parameters, touched=sum(math.prod(layer.matrix.shape) for layer in planned.targeted)),
        formats=tuple(_format(name, request, known) for name in FORMATS) if formats else (),
        memory=(_memory("cpu", memory_on_cpu(sizes)), _memory("cuda", memory_on_device(sizes))),
        disk=Disk(
            cache_bytes=0 if known.is_here else source_bytes,
            scratch_bytes=scratch_bytes(sizes, weights or 0),
            artifact_bytes=weights or 0,
            solution_bytes=kept_solution_bytes(sizes),
        ),
    )
    return Foretold(estimate, forecast, sizes, work_of(sizes), method_of(sizes))


def _goal(request: JobRequest, goal: Goal, known: KnownModel) -> tuple[float | None, int] | None:
    """The goal's budget and the bytes of its model database; None where the model's tensors are not known.

    Raises: InvalidOptions: the goal is out of reach. UnsupportedModel: nothing can be cut out of such a model.
    """
    if known.tensors is None:
        return None
    if goal.metric == "latency":
        return None, structures_bytes(known.architecture)
    levels, _, budget = priced(goal, request.output.format, known.architecture, known.tensors, ignore=request.recipe.ignore)
    is_size = goal.metric in ("bytes", "bits_per_weight")
    return budget if is_size else None, database_bytes(levels, known.tensors, known.architecture)


def _with_choice(foretold: Foretold, budget: float | None, database: int) -> Foretold:
    """What choosing takes besides: its database on disk. How long it takes, and what is chosen, nobody knows before."""
    disk = foretold.estimate.disk
    assert disk is not None, "the tensors are known"
    weights = disk.artifact_bytes if budget is None else math.floor(budget)
    said = {
        "disk": disk.model_copy(update={"scratch_bytes": disk.scratch_bytes + database, "artifact_bytes": weights}),
        "formats": (),
        "time_note": "how long a goal takes is known only for the compression that ends it",
    }
    return replace(foretold, estimate=foretold.estimate.model_copy(update=said), forecast=None, work=None)


def _format(name: str, request: JobRequest, known: KnownModel) -> FormatEstimate:
    """The recipe in one format, resolved with that format's own defaults."""
    assert known.tensors is not None
    output = Output.model_validate({**request.output.model_dump(), "format": name})
    try:
        check_output(output)
        check_model(output, known.config)
        planned = plan(resolve(request.recipe, output.format), known.architecture)
        check_plan(output.format, planned, known.architecture)
    except InvalidOptions as refusal:
        return FormatEstimate(format=name, refused=f"{refusal.field}: {refusal.reason}")
    weights, is_exact = artifact_bytes(output, planned, known.architecture, known.tensors)
    return FormatEstimate(format=name, weight_bytes=weights, is_exact=is_exact)


def _evaluation(request: JobRequest, settings: Settings, brought: Brought | None) -> Foretold:
    """Of one or two models that stream. Others are opened by the worker alone, and nothing is refused here."""
    known = []
    for source in filter(None, (request.model, request.reference)):
        try:
            found = look_up(source, settings, brought.model if brought else None)
        except (SourceError, CompressionError) as error:
            return Foretold(_nothing(request, str(error)))
        if isinstance(found, UnknownModel) or found.tensors is None:
            reason = found.reason if isinstance(found, UnknownModel) else found.unknown
            return Foretold(_nothing(request, f"{source}: {reason}"))
        known.append((found, Streamed.of(found.architecture, found.tensors)))
    models = [streamed for _, streamed in known]
    load = text_load(None, request.evaluation, models[0].architecture, _text_sizes(request, settings, brought))
    missing = [sum(i.size_bytes for i in (found.tensors or {}).values()) for found, _ in known if not found.is_here]
    estimate = Estimate(
        task=request.task,
        model=request.model,
        parameters=Parameters(all=models[0].parameters, touched=0),
        memory=(
            _memory("cpu", evaluation_memory(models, load, on_device=False)),
            _memory("cuda", evaluation_memory(models, load, on_device=True)),
        ),
        disk=Disk(cache_bytes=sum(missing), scratch_bytes=0, artifact_bytes=0, solution_bytes=0),
    )
    return Foretold(estimate, work=evaluation_work(models, load))


def _nothing(request: JobRequest, reason: str) -> Estimate:
    return Estimate(task=request.task, model=request.model, unknown=reason, time_note="the model is not known")


def _memory(on: str, found: MemoryEstimate) -> Memory:
    return Memory.model_validate(
        {
            "on": on,
            "host_peak_bytes": found.host_peak_bytes,
            "device_peak_bytes": found.device_peak_bytes,
            "parts": dict(found.parts),
        }
    )


def _needed(estimate: Estimate, device: str) -> dict[str, int]:
    """The least that the job needs on the devices that the settings allow; where `auto` does, a CPU is one of them."""
    if estimate.disk is None:
        return {}
    kinds = {"cpu": ("cpu",), "auto": ("cpu", "cuda")}.get(device, ("cuda",))
    memories = [memory for memory in estimate.memory if memory.on in kinds]
    needed = {
        "host_memory": min(memory.host_peak_bytes for memory in memories),
        "disk": estimate.disk.scratch_bytes,
    }
    if kinds == ("cuda",):
        needed["device_memory"] = memories[0].device_peak_bytes or 0
    return needed


def _text_sizes(request: JobRequest, settings: Settings, brought: Brought | None) -> dict[str, int]:
    """Bytes of the caller's data sets, and of the local texts that this process may look at."""
    found: dict[str, int] = {}
    for use in request.text_uses:
        source = parse_text_source(use.source)
        if isinstance(source, UploadedDataset) and brought:
            found[use.key] = brought.dataset_bytes(source.dataset_id)
        if isinstance(source, LocalText) and settings.model_roots:
            try:
                found[use.key] = resolve_local(source.path, settings.model_roots).stat().st_size
            except (SourceError, OSError):
                continue  # the worker will refuse it by name
    return found
