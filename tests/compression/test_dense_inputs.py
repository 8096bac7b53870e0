"""`inputs: dense`: every block calibrated on the dense model's outputs, whose Hessians serve all recipes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from compression import kept_hessians
from compression.errors import Cancelled, InvalidOptions
from compression.events import BlockFinished, Event, Note
from compression.kept_room import RESULTS_FOLDER
from compression.recipe import parse_recipe, resolve
from tests import tiny_models
from tests.compression.in_memory import compress_in_memory
from tests.compression.test_pipeline import calibration_windows, equal
from tests.compression.test_reuse import SEQLEN, WINDOWS, counted, run

CALIBRATION_WINDOWS = 6
PRUNED: dict[str, Any] = {"pattern": "2:4", "inputs": "dense"}
ROUNDED: dict[str, Any] = {"bits": 4, "group_size": 32, "inputs": "dense"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "gptj", "mixtral", "qwen2_moe"])
def test_pass_is_bit_identical_to_solving_a_whole_model_with_its_dense_hessians(
    family: str, tmp_path: Path, text: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    run(folder, text, tmp_path / "out", None, PRUNED)
    reference = compress_in_memory(folder, PRUNED, calibration_windows(folder, text))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert equal(dict(loaded.state_dict()), dict(reference.state_dict()))


def test_only_the_first_block_is_the_same_as_with_compressed_inputs(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    dense = run(folder, text, tmp_path / "dense", None, PRUNED)
    compressed = run(folder, text, tmp_path / "compressed", None, {"pattern": "2:4"})
    same = {
        block
        for block in range(tiny_models.BLOCKS)
        if [(a.relative_error) for a in dense.layers if a.block == block]
        == [(b.relative_error) for b in compressed.layers if b.block == block]
    }
    assert same == {0}


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_another_recipe_takes_the_kept_hessians_and_runs_no_calibration_window(
    family: str, tmp_path: Path, text: Path
) -> None:
    folder, block = (
        tiny_models.save(tmp_path / "model", family),
        {"llama": "LlamaDecoderLayer"}.get(family, "MixtralDecoderLayer"),
    )
    alone = run(folder, text, tmp_path / "alone", None, ROUNDED)
    with counted() as first_calls:
        run(folder, text, tmp_path / "first", tmp_path / "cache", PRUNED)
    with counted() as second_calls:
        second = run(folder, text, tmp_path / "second", tmp_path / "cache", ROUNDED)
    assert kept_hessians.WHAT in second.reused
    # one forward of each calibration window a block, which gives its Hessians and its output
    saved = CALIBRATION_WINDOWS + WINDOWS
    assert first_calls[block] - second_calls[block] == saved * tiny_models.BLOCKS
    assert second.payload_digest == alone.payload_digest
    assert [layer.relative_error for layer in second.layers] == [layer.relative_error for layer in alone.layers]
    assert [layer.tokens for layer in second.layers] == [layer.tokens for layer in alone.layers]
    assert second.results == alone.results


def test_a_recipe_that_reads_more_inputs_calibrates_for_them_alone(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache, {**PRUNED, "ignore": ["*.down_proj"]})
    alone = run(folder, text, tmp_path / "alone", None, PRUNED)
    assert run(folder, text, tmp_path / "more", cache, PRUNED).payload_digest == alone.payload_digest


def test_low_memory_gives_the_same_solutions_and_hessians(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    usual = run(folder, text, tmp_path / "usual", None, PRUNED)
    assert run(folder, text, tmp_path / "low", cache, PRUNED, low_memory=True).payload_digest == usual.payload_digest
    again = run(folder, text, tmp_path / "again", cache, PRUNED)
    assert kept_hessians.WHAT in again.reused
    assert again.payload_digest == usual.payload_digest


def test_interrupted_pass_continues_bit_identically(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    usual = run(folder, text, tmp_path / "usual", None, PRUNED)

    def stop(event: Event) -> None:
        if isinstance(event, BlockFinished) and event.block == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", None, PRUNED, work=tmp_path / "work", on_event=stop)
    report = run(folder, text, tmp_path / "out", None, PRUNED, work=tmp_path / "work")
    assert (report.resumed_blocks, report.payload_digest) == (2, usual.payload_digest)


def test_damaged_hessian_is_found_out_in_mid_pass_and_made_again(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    usual = run(folder, text, tmp_path / "usual", cache, PRUNED)
    for kept in (cache / RESULTS_FOLDER).iterdir():
        data = kept.read_bytes()
        if b"Hessian of the dense" in data and b'\\"block\\": \\"1\\"' in data:
            kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            break
    else:
        raise AssertionError("no Hessian of block 1 was kept")
    events: list[Event] = []
    report = run(folder, text, tmp_path / "again", cache, PRUNED, on_event=events.append)
    notes = [event.message for event in events if isinstance(event, Note) and event.level == "warning"]
    assert any("calibration windows are run after all" in note for note in notes)
    assert report.payload_digest == usual.payload_digest
    assert report.resumed_blocks == 1
    assert run(folder, text, tmp_path / "mended", cache, ROUNDED).reused.count(kept_hessians.WHAT) == 1


def test_other_windows_have_other_hessians(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache, PRUNED)
    assert kept_hessians.WHAT not in run(folder, text, tmp_path / "seed", cache, PRUNED, seed=1).reused
    assert kept_hessians.WHAT not in run(folder, text, tmp_path / "short", cache, PRUNED, seqlen=SEQLEN // 2).reused


@pytest.mark.parametrize(
    "option", [{"true_sequential": True}, {"asymmetric_calibration": 0.5}], ids=["sequential", "asymmetric"]
)
def test_what_is_about_compressed_inputs_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions, match="inputs: dense leaves that out"):
        resolve(parse_recipe({"sparsity": 0.5, "inputs": "dense", **option}))
