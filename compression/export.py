"""Another output format from kept solutions: the model is read and written again, and nothing is solved."""

import functools
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compression
from compression import environment, summary
from compression.artifact import partial_folder, publish_artifact, verify_artifact, write_artifact
from compression.errors import InvalidOptions
from compression.events import OnEvent, StageStarted, ignore_events
from compression.formats.catalog import check_model, check_options, check_output, check_plan, check_same_values
from compression.formats.files import FILES
from compression.formats.sizes import beside, forecast
from compression.manifest import artifact_files, file_hashes, payload_digest
from compression.models.checkpoint import Checkpoint
from compression.models.source import ModelSource
from compression.models.storage import check_places
from compression.plan import Plan, plan
from compression.preparation import load_tokenizer, open_checkpoint
from compression.protocol import Output
from compression.report import LayerResult, Report
from compression.resources import resource_errors
from compression.solutions import KeptSolutions, open_solutions
from compression.stopwatch import Stopwatch


@resource_errors()
def export(
    solutions: Path | str,
    model: ModelSource | Path | str,
    output: Output,
    out: Path | str,
    *,
    origin: str | None = None,
    cache: Path | None = None,
    device: str = "auto",
    certificate: bool = True,
    memory_limit_bytes: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore_events,
) -> Report:
    """Write a solved model in another format.

    Args:
        solutions: a folder that `compress(..., keep_solutions=...)` has left.
        model: the model that was solved, byte for byte.
        out: artifact folder; must not exist yet. It appears complete or not at all.
        origin: whose solutions these are, in the words of the report. Default: the folder.
        cache: where a .gguf file is de-quantised to; default: a folder that is removed at the end.
        device, certificate, memory_limit_bytes: as in `compress`, for the verification of what is written.
        provenance: copied into the report.
        on_event: as in `compress`.
    Returns: the report of the pass with output, verification, sizes and sample of this artifact; also `out/report.json`.
    Raises: InvalidOptions: no usable solutions, or the format cannot hold what was solved. UnsupportedModel: the model is
        another one. VerificationError, OutOfMemory, DiskFull.
    """
    out, partial = Path(out), partial_folder(Path(out))
    kept = open_solutions(Path(solutions))
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    torch_device = environment.pick_device(device)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        on_event(StageStarted(stage="exporting"))
        with watch.time("preparing"):
            checkpoint, planned = _open(kept, source, output, cache or Path(scratch))
            tokenizer = load_tokenizer(checkpoint.folder)
        with watch.time("exporting"):
            written = write_artifact(checkpoint, planned, functools.partial(kept.weights, planned), output, partial)
        on_event(StageStarted(stage="verifying"))
        with watch.time("verifying"):
            loaded_in = Path(scratch) if certificate else None
            verification, greedy, no_sample = verify_artifact(
                written, kept.probe, tokenizer, loaded_in, torch_device, memory_limit_bytes
            )
    files = file_hashes(partial)
    foretold = forecast(output.format, planned, checkpoint.architecture, checkpoint.tensors)
    report = kept.report.model_copy(
        update={
            "scalpel_version": compression.__version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "output": output,
            "verification": verification,
            "sample": greedy,
            "sample_note": no_sample,
            "estimated": None,
            "sizes": beside(foretold, summary.sizes(checkpoint, planned, _layers(kept, checkpoint), partial, output.format)),
            "seconds": kept.report.seconds | {name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            "notes": (*kept.report.notes, _note(origin or f"the solutions in {kept.folder}")),
            "files": artifact_files(files),
            "payload_digest": payload_digest(files),
            "provenance": dict(provenance or {}),
        }
    )
    publish_artifact(report, files, partial, out)
    return report


def _open(kept: KeptSolutions, source: ModelSource, output: Output, cache: Path) -> tuple[Checkpoint, Plan]:
    """The model that was solved, and the plan as it was then.

    Raises: InvalidOptions, UnsupportedModel.
    """
    check_output(output)
    check_same_values(kept.report.output, output)
    checkpoint, _ = open_checkpoint(source, cache)
    check_model(output, checkpoint.config)
    assert kept.report.recipe is not None, "solutions are those of a recipe"
    planned = plan(kept.report.recipe, checkpoint.architecture)
    for layer in planned.targeted:
        assert layer.options is not None
        check_options(output.format, layer.options, layer.name)
    check_plan(output.format, planned, checkpoint.architecture)
    check_places(checkpoint, planned.layers, may_share=FILES[output.format].may_share)
    FILES[output.format].check_source(checkpoint, planned)
    digest = checkpoint.digest()
    if digest != kept.report.model.digest:
        reason = f"{source.name} is not the model that was solved: SHA-256 {digest}"
        raise InvalidOptions("model", reason, kept.report.model.digest)
    return checkpoint, planned


def _layers(kept: KeptSolutions, checkpoint: Checkpoint) -> list[LayerResult]:
    return [result for block in range(checkpoint.architecture.blocks) for result in kept.block(block)[1]]


def _note(origin: str) -> str:
    return f"exported from {origin}: solved once; quality, memory and the times of solving are those of that pass"
