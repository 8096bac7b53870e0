"""The whole way, with nothing replaced: SmolLM2-135M through the embedded service to 2:4, its worker killed in the middle."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from cli.exits import Exit
from client import Artifact, Event, Job, Scalpel
from compression.calibration import TextReader
from compression.report import Report
from tests.cli.process import Serving, serving

pytestmark = pytest.mark.slow

MODEL = "demo:smollm2-135m"
BLOCKS = 30
MATRICES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
KILL_AFTER_BLOCK = 4
QUICK = {  # a lost worker is noticed within seconds instead of half a minute
    "SCALPEL_LEASE_S": "4", "SCALPEL_HEARTBEAT_S": "0.5", "SCALPEL_SWEEP_S": "0.5", "SCALPEL_RING_AGAIN_S": "2",
    "SCALPEL_DEVICE": "cpu",
}  # fmt: skip


@dataclass(frozen=True)
class Spine:
    """What a user has in hands at the end."""

    job: Job
    events: list[Event]
    artifacts: tuple[Artifact, ...]
    folder: Path
    served_report: dict[str, object]
    stop_code: int
    left_over: list[psutil.Process]
    export: Job
    exported_report: Report

    @property
    def report(self) -> Report:
        return Report.model_validate_json((self.folder / "report.json").read_bytes())


@pytest.fixture(scope="module")
def spine(tmp_path_factory: pytest.TempPathFactory) -> Spine:
    folder = tmp_path_factory.mktemp("spine")
    with serving(folder / "data", environment=QUICK) as service, Scalpel(service.url, api_key=service.api_key) as scalpel:
        job = scalpel.submit(
            MODEL,
            {"sparsity": 0.5, "pattern": "2:4", "method": "sparsegpt"},
            calibration={"nsamples": 4, "seqlen": 256},
            evaluation={"windows": 2, "seqlen": 256},
            labels={"test": "spine"},
        )
        events = list(follow_and_kill_the_worker_once(service, scalpel.events(job.id)))
        scalpel.download(job.id, folder / "artifact")
        export = scalpel.export(job.id, {"format": "dense"})
        assert list(scalpel.events(export.id))[-1].is_final
        processes = service.children()
        return Spine(
            job=scalpel.job(job.id),
            events=events,
            artifacts=scalpel.artifacts(job.id),
            folder=folder / "artifact",
            served_report=scalpel.report(job.id),
            export=scalpel.job(export.id),
            exported_report=Report.model_validate(scalpel.report(export.id)),
            stop_code=service.stop(),
            left_over=[process for process in processes if process.is_running()],
        )


def follow_and_kill_the_worker_once(service: Serving, events: Iterator[Event]) -> Iterator[Event]:
    was_killed = False
    for event in events:
        yield event
        if not was_killed and event.type == "block" and event.data["block"] == KILL_AFTER_BLOCK:
            service.worker().kill()
            was_killed = True


@pytest.fixture(scope="module")
def model(spine: Spine) -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(spine.folder, dtype=torch.float32)
    return loaded


@pytest.fixture(scope="module")
def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every decoder matrix, by module name, as transformers loaded it."""
    names = [f"model.layers.{block}.{matrix}" for block in range(BLOCKS) for matrix in MATRICES]
    return {name: model.get_submodule(name).get_parameter("weight").detach() for name in names}


def test_job_is_finished_by_the_attempt_after_the_killed_one(spine: Spine) -> None:
    assert (spine.job.state, spine.job.attempt, spine.job.error) == ("succeeded", 2, None)
    states = [(event.data["state"], event.attempt) for event in spine.events if event.type == "state"]
    assert states == [("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("succeeded", 2)]


def test_events_are_numbered_without_gaps(spine: Spine) -> None:
    assert [event.seq for event in spine.events] == list(range(1, len(spine.events) + 1))


def test_finished_blocks_are_replayed_and_the_others_solved(spine: Spine) -> None:
    blocks = [event.data for event in spine.events if event.type == "block" and event.attempt == 2]
    replayed = [data["block"] for data in blocks if data["is_replayed"]]
    assert [data["block"] for data in blocks] == list(range(1, BLOCKS + 1))
    assert len(replayed) >= KILL_AFTER_BLOCK
    assert replayed == list(range(1, len(replayed) + 1))
    assert spine.report.resumed_blocks == len(replayed)
    assert spine.report.restarts == ()


def test_every_stage_was_told(spine: Spine) -> None:
    stages = [event.data["stage"] for event in spine.events if event.type == "stage" and event.attempt == 2]
    assert stages == ["fetching", "compressing", "exporting", "verifying", "publishing"]


def test_every_decoder_matrix_keeps_two_of_every_four(weights: dict[str, Tensor]) -> None:
    """Never more; one in millions of kept weights was zero already in the 4-bit source."""
    for name, weight in weights.items():
        kept = (weight.unflatten(1, (-1, 4)) != 0).sum(-1)
        assert kept.max() == 2, name
        assert (kept < 2).sum() <= 3, name


def test_report_counts_the_zeros_that_are_there(spine: Spine, weights: dict[str, Tensor]) -> None:
    report = spine.report
    assert {layer.name: layer.sparsity for layer in report.layers} == {
        name: (weight == 0).sum().item() / weight.numel() for name, weight in weights.items()
    }
    assert report.sizes.zero_parameters == sum(int((weight == 0).sum()) for weight in weights.values())
    assert report.sizes.targeted_parameters == sum(weight.numel() for weight in weights.values())


def test_report_covers_every_matrix_and_every_one_was_solved(spine: Spine, weights: dict[str, Tensor]) -> None:
    assert {row.name: row.status for row in spine.report.coverage} == dict.fromkeys(weights, "solved")
    assert all(layer.method == "sparsegpt" and layer.fallbacks == () for layer in spine.report.layers)


def test_reloaded_model_has_the_perplexity_that_the_report_states(spine: Spine, model: PreTrainedModel) -> None:
    (result,) = spine.report.results
    reader = TextReader(AutoTokenizer.from_pretrained(spine.folder), model.config.vocab_size, {})
    windows = reader.evaluation("sotu", windows=2, seqlen=256)
    assert windows.describe() == result.text
    with torch.no_grad():
        losses = [model(ids_L[None], labels=ids_L[None]).loss.item() for ids_L in windows.ids_WL]
    tolerance = 1e-3 if spine.report.environment.compute_dtype == "float32" else 1e-2
    assert math.exp(sum(losses) / len(losses)) == pytest.approx(result.compressed.value, rel=tolerance)
    assert result.compressed.value > result.dense.value
    assert result.ratio == pytest.approx(result.compressed.value / result.dense.value, rel=1e-6)


def test_files_are_those_that_listing_manifest_and_report_name(spine: Spine) -> None:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in spine.folder.iterdir()}
    assert {artifact.name: artifact.sha256 for artifact in spine.artifacts} == hashes
    manifest = json.loads((spine.folder / "scalpel.json").read_bytes())
    assert {name: file["sha256"] for name, file in manifest["files"].items()} | {
        "scalpel.json": hashes["scalpel.json"]
    } == hashes
    words = ("report.json", "report.html", "README.md", "scalpel.json")
    payload = "".join(f"{name}:{hashes[name]}\n" for name in sorted(hashes) if name not in words)
    assert spine.report.payload_digest == manifest["payload_digest"] == hashlib.sha256(payload.encode()).hexdigest()


def test_report_says_what_was_asked_and_where_it_comes_from(spine: Spine) -> None:
    report = spine.report
    assert spine.served_report == json.loads((spine.folder / "report.json").read_bytes())
    assert report.model.source == MODEL
    assert any("4-bit" in note or "4 bit" in note for note in report.model.notes)
    assert (report.calibration.nsamples, report.calibration.seqlen) == (4, 256)
    assert report.verification.verdict == "ok"
    assert report.sample is not None
    assert report.provenance["job_id"] == spine.job.id
    assert report.provenance["attempt"] == 2


def test_size_is_the_one_foretold_at_submit(spine: Spine) -> None:
    sizes, forecast = spine.report.sizes, spine.job.forecast
    assert forecast is not None
    assert (forecast.source_bytes, forecast.artifact_bytes) == (sizes.source_bytes, sizes.artifact_bytes)
    assert forecast.note is not None and "no smaller" in forecast.note and "no smaller" in sizes.note


def test_export_gives_the_same_model_without_solving_again(spine: Spine) -> None:
    export, report = spine.export, spine.exported_report
    assert (export.state, export.task, export.parent) == ("succeeded", "export", spine.job.id), export.error
    assert report.payload_digest == spine.report.payload_digest
    assert report.results == spine.report.results
    assert report.verification.verdict == "ok"
    assert spine.job.solution_bytes is not None and spine.job.solution_bytes > 0


def test_stopped_service_leaves_no_process(spine: Spine) -> None:
    assert spine.stop_code == Exit.OK
    assert spine.left_over == []
