"""What is asked before a runner is started: does the job fit on the disk, and can it fit into memory at all."""

from pathlib import Path

import pytest
import torch

from compression.models.source import ModelSource
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe
from jobs.settings import Settings
from tests import tiny_models
from worker.endings import HostLacksRoom
from worker.folder import JobFolder, job_folder
from worker.preflight import MARGIN_BYTES, check_disk, check_memory, least_memory_bytes, needed_space
from worker.spec import EvaluateSpec, RunSpec


@pytest.fixture
def folder(settings: Settings) -> JobFolder:
    made = job_folder(settings.scratch_dir, "01J")
    made.make()
    return made


@pytest.fixture
def spec(tmp_path: Path, folder: JobFolder) -> RunSpec:
    return RunSpec(
        model_path=tiny_models.save(tmp_path / "llama", "llama", torch.bfloat16),
        model_name="model",
        model_revision=None,
        model_notes=(),
        recipe=Recipe(sparsity=0.5),
        calibration=Calibration(),
        evaluation=Evaluation(),
        output=Output(),
        texts={},
        out=folder.out,
        work=folder.work,
        solutions=folder.solutions,
        lock=folder.lock,
        lock_timeout_s=0.3,
        cache=tmp_path / "cache",
        device="cpu",
        provenance={},
    )


def weights_bytes(spec: RunSpec) -> int:
    return sum(file.stat().st_size for file in spec.model_path.glob("*.safetensors"))


def test_a_compression_needs_its_blocks_and_its_artifact_and_the_store_a_copy(
    spec: RunSpec, folder: JobFolder, settings: Settings
) -> None:
    store = Path(settings.artifact_url.removeprefix("file://"))
    both = 2 * weights_bytes(spec)
    assert needed_space(spec, folder, settings) == {folder.root: MARGIN_BYTES + both, store: both}
    foretold = needed_space(spec, folder, settings, forecast_bytes=1000)
    assert foretold[store] == weights_bytes(spec) + 1000
    elsewhere = settings.model_copy(update={"artifact_url": "s3://bucket/prefix"})
    assert needed_space(spec, folder, elsewhere).keys() == {folder.root}


def test_what_an_earlier_attempt_has_written_need_not_be_written_again(
    spec: RunSpec, folder: JobFolder, settings: Settings
) -> None:
    folder.work.mkdir()
    before = needed_space(spec, folder, settings)[folder.root]
    (folder.work / "block").write_bytes(bytes(8192))
    assert needed_space(spec, folder, settings)[folder.root] == before - 8192


def test_a_packed_model_is_unpacked_into_the_cache_once(spec: RunSpec, folder: JobFolder, settings: Settings) -> None:
    path = spec.model_path / "model.gguf"
    path.write_bytes(bytes(1000))
    packed = spec.model_copy(update={"model_path": path})
    assert needed_space(packed, folder, settings)[packed.cache] == 4000
    (packed.cache / "gguf-of-it").mkdir(parents=True)
    assert packed.cache not in needed_space(packed, folder, settings)


def test_an_evaluation_writes_next_to_nothing(spec: RunSpec, folder: JobFolder, settings: Settings) -> None:
    fields = spec.model_dump(exclude={"task", "recipe", "goal", "calibration", "output", "solutions", "expected_s"})
    evaluation = EvaluateSpec(task="evaluate", reference=ModelSource(spec.work, "x", None, ()), **fields)
    assert needed_space(evaluation, folder, settings) == {folder.root: MARGIN_BYTES}


def test_a_disk_that_is_too_small_is_named_with_what_is_needed_and_free(tmp_path: Path) -> None:
    check_disk({tmp_path: 1, tmp_path / "not" / "there": 1})
    with pytest.raises(HostLacksRoom) as refusal:
        check_disk({tmp_path / "a": 2**60, tmp_path / "b": 5})
    failure = refusal.value.failure
    assert failure.type == "disk-full"
    assert f"{2**60 + 5} bytes for {tmp_path / 'a'}, {tmp_path / 'b'}, and " in failure.detail


@pytest.mark.parametrize(("device", "has_both"), [("cpu", True), ("cuda", False)])
def test_the_least_memory_is_embedding_head_and_a_block_in_float32(spec: RunSpec, device: str, has_both: bool) -> None:
    """The tiny model: 3 blocks of q, o (32, 32), k, v (16, 32), three (64, 32) and two norms; 256 tokens, tied."""
    block = 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32 + 2 * 32)
    ends = 4 * (256 * 32 + 32)
    least = least_memory_bytes(spec.model_copy(update={"device": device}))
    assert least == (block + ends if has_both else max(block, ends))


def test_what_is_float32_already_may_stay_in_its_file(spec: RunSpec, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path / "float32", "llama")
    assert least_memory_bytes(spec.model_copy(update={"model_path": model})) == 0


def test_what_the_files_do_not_tell_is_left_to_the_runner(spec: RunSpec) -> None:
    (spec.model_path / "model.safetensors").write_bytes(b"damaged")
    assert least_memory_bytes(spec) is None


@pytest.mark.parametrize(("limit_bytes", "free_bytes", "words"), [(99, 200, "is allowed 99"), (200, 99, "finds 99 available")])
def test_memory_that_cannot_suffice_is_named(limit_bytes: int, free_bytes: int, words: str) -> None:
    check_memory(100, 100, 100)
    with pytest.raises(HostLacksRoom, match=words) as refusal:
        check_memory(100, limit_bytes, free_bytes)
    failure = refusal.value.failure
    assert (failure.type, failure.memory_limit_bytes) == ("out-of-memory", limit_bytes)
