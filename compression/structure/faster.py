"""The library's entry for goals of latency: one model and one speed-up in, a smaller and really faster model out.

times of every size of every half, measured here
database of what goes first, and how much each half matters
allocation, races, search -> a profile
the model it leads to: stitched from the database, or solved block after block; tuned as one where that is asked for
evaluated, raced, reported
"""

import gc
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment, summary
from compression.artifact import partial_folder, publish_artifact
from compression.events import Note, OnEvent, StageStarted
from compression.goals.goal import Goal
from compression.goals.result import Stitched
from compression.kept import Kept
from compression.kept_room import RESULTS_FOLDER
from compression.manifest import artifact_files, file_hashes, payload_digest
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.checkpoint import Checkpoint
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.preparation import describe_model, open_checkpoint, read_texts
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.report import Report
from compression.resources import resource_errors
from compression.stopwatch import Stopwatch
from compression.structure.adaprune import check_adaprune
from compression.structure.checkpoint import is_plain, write_shrunk
from compression.structure.choosing import Choosing, Chosen
from compression.structure.latency import measured_in
from compression.structure.making import Making
from compression.structure.race import Race, race
from compression.structure.result import AdaPruneResult, BlockLeft, Speed, StructureResult
from compression.structure.shrunk_pass import PassResult
from compression.structure.sizes import shrunk_sizes
from compression.structure.timing import RunEnvironment
from compression.structure.units import structure_of
from compression.structure.verified import verify_shrunk
from compression.verdict import check_measured


@resource_errors()
def faster(
    source: ModelSource,
    goal: Goal,
    out: Path,
    *,
    calibration: Calibration,
    evaluation: Evaluation,
    acceptance: Acceptance,
    output: Output,
    texts: Mapping[str, Path],
    work: Path,
    cache: Path,
    device: str = "auto",
    compute_dtype: str = "auto",
    certificate: bool = True,
    memory_limit_bytes: int | None = None,
    low_memory: bool = False,
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent,
) -> Report:
    """Make a model faster. Arguments, result and errors are those of `goals.reach`.

    Raises: UnsupportedModel: nothing is known of what can be cut out of this family.
    """
    partial = partial_folder(out)
    torch_device = environment.pick_device(device)
    compute = environment.pick_compute_dtype(compute_dtype, torch_device)
    work.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    with MemoryMeter(torch_device) as meter:
        on_event(StageStarted(stage="compressing"))
        with watch.time("preparing"):
            kept = Kept(cache / RESULTS_FOLDER, on_event)
            checkpoint, notes = open_checkpoint(source, cache)
            structure_of(checkpoint.architecture)
            measured_in(checkpoint, (goal.environment or RunEnvironment()).on(str(torch_device)))
            read = read_texts(checkpoint, calibration, evaluation, texts, kept)
            if goal.adaprune is not None:
                check_adaprune(checkpoint, read.calibration.ids_WL, torch_device)
            check_measured(acceptance, is_encoder=checkpoint.architecture.is_encoder, has_labels=read.labelled is not None)
            info = describe_model(source, checkpoint, (*source.notes, *notes))
        spill = Spill.of_pass(work, torch_device, low_memory=low_memory)
        choosing = Choosing(
            checkpoint=checkpoint,
            model_digest=info.digest,
            goal=goal,
            texts=read,
            work=work,
            cache=cache,
            device=torch_device,
            compute_dtype=compute,
            meter=meter,
            on_event=on_event,
            spill=spill,
        )
        chosen = choosing.choose()
        gc.collect()  # a model and its taps refer to each other
        making = Making(checkpoint, read, chosen, info, work, torch_device, compute, spill, meter, on_event, kept)
        stitched = None
        if not goal.stitched:
            on_event(Note(message="measuring what the database's weights give, stitched"))
            with watch.time("stitching"):
                stitched = making.stitched_figures()
            on_event(Note(message="solving what was chosen again, each block on the shrunk ones before it"))
        result, finished = making.run(watch, is_stitched=goal.stitched)
        adaprune = None
        if goal.adaprune is not None:
            on_event(Note(message="AdaPrune: tuning what is left as one"))
            result, finished, adaprune = making.tuned(watch, goal.adaprune, result, finished, is_stitched=goal.stitched)
        on_event(StageStarted(stage="exporting"))
        with watch.time("exporting"):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            model = StreamedModel(checkpoint, torch.device("cpu"), torch.float32)
            left = write_shrunk(model, finished.cuts, partial)
        on_event(StageStarted(stage="verifying"))
        with watch.time("verifying"):
            assert result.probe is not None
            verification, sample, no_sample = verify_shrunk(
                checkpoint,
                partial,
                finished.cuts,
                result.probe,
                read.tokenizer,
                work if certificate else None,
                torch_device,
                memory_limit_bytes,
            )
        with watch.time("racing"):
            raced = race(checkpoint.folder, partial, chosen.profiles.table.environment)
        files = file_hashes(partial)
        sizes, parameters_left = shrunk_sizes(checkpoint, left, partial)
        report = Report(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=info,
            recipe=None,
            calibration=calibration,
            calibration_text=read.calibration.describe(),
            evaluation=evaluation,
            **vars(summary.findings(read, result.scores, acceptance)),
            sample=sample,
            sample_note=no_sample,
            output=output,
            verification=verification,
            layers=(),
            coverage=(),
            sizes=sizes,
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            memory=meter.peak("low-memory" if low_memory else "standard"),
            environment=environment.describe(torch_device, compute),
            resumed_blocks=result.resumed_blocks,
            reused=tuple(kept.reused),
            files=artifact_files(files),
            payload_digest=payload_digest(files),
            structure=_structure(
                goal, chosen, checkpoint, result, raced, parameters_left, choosing.seconds, stitched, adaprune
            ),
            provenance=dict(provenance or {}),
        )
    publish_artifact(report, files, partial, out)
    shutil.rmtree(work, ignore_errors=True)
    return report


def _structure(
    goal: Goal,
    chosen: Chosen,
    checkpoint: Checkpoint,
    result: PassResult,
    raced: Race,
    parameters_left: int,
    seconds: Mapping[str, float],
    stitched: Stitched | None,
    adaprune: AdaPruneResult | None,
) -> StructureResult:
    attention, ffn = structure_of(checkpoint.architecture)
    profiles, table = chosen.profiles, chosen.profiles.table
    kept = profiles.kept(chosen.profile)
    blocks = tuple(
        BlockLeft(attention=heads, ffn=columns, attention_error=errors[0], ffn_error=errors[1])
        for (heads, columns), errors in zip(kept, result.errors, strict=True)
    )
    return StructureResult(
        asked=goal,
        speed=Speed(
            requested=chosen.requested,
            predicted=table.dense_s / profiles.predicted_s(chosen.profile),
            measured=raced.speedup,
            dense_s=raced.dense_s,
            shrunk_s=raced.shrunk_s,
            runs=raced.runs,
        ),
        table=table,
        dense=BlockLeft(attention=attention.units, ffn=ffn.units, attention_error=0.0, ffn_error=0.0),
        blocks=blocks,
        parameters=checkpoint.parameters,
        parameters_left=parameters_left,
        is_plain=is_plain(checkpoint, profiles.blocks_kept(chosen.profile)),
        search=chosen.search,
        database=chosen.database,
        is_stitched=goal.stitched,
        stitched=stitched,
        adaprune=adaprune,
        seconds=dict(seconds),
    )
