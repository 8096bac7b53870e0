"""A second job on the same model and texts: nothing is evaluated or encoded twice, and no figure differs by a bit."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compression.compress import compress
from compression.evaluate import evaluate
from compression.events import Event, Note
from compression.kept_room import RESULTS_FOLDER
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from tests import tiny_models

WINDOWS, SEQLEN = 3, 32
CALIBRATION, EVALUATION, DENSE = "calibration windows of {}", "evaluation windows of {}", "dense evaluation"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(
    folder: Path, text: Path, out: Path, cache: Path | None, recipe: dict[str, Any] | None = None, **options: Any
) -> Report:
    options = {"seqlen": SEQLEN, "seed": 0, "certificate": False, **options}
    seqlen, seed = options.pop("seqlen"), options.pop("seed")
    return compress(
        folder,
        recipe or {"pattern": "2:4"},
        out,
        calibration=Calibration(source=str(text), nsamples=6, seqlen=seqlen, seed=seed),
        evaluation=Evaluation(sources=(str(text),), windows=WINDOWS, seqlen=seqlen),
        cache=cache,
        device="cpu",
        **options,
    )


def everything(text: Path) -> tuple[str, ...]:
    return (CALIBRATION.format(text), EVALUATION.format(text), DENSE)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often a module of each class runs."""
    calls: Counter[str] = Counter()

    def count(module: nn.Module, *_: Any) -> None:
        calls[type(module).__name__] += 1

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("family", "block"),
    [("llama", "LlamaDecoderLayer"), ("gpt2", "GPT2Block"), ("mixtral", "MixtralDecoderLayer"), ("bert", "BertLayer")],
)
def test_second_job_runs_no_dense_block_and_gives_the_same_result(family: str, block: str, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    alone = run(folder, text, tmp_path / "alone", None)
    with counted() as first_calls:
        first = run(folder, text, tmp_path / "first", tmp_path / "cache")
    with counted() as second_calls:
        second = run(folder, text, tmp_path / "second", tmp_path / "cache")
    assert (alone.reused, first.reused, second.reused) == ((), (), everything(text))
    assert first_calls[block] - second_calls[block] == WINDOWS * tiny_models.BLOCKS
    for report in (first, second):
        assert (report.results, report.output_errors) == (alone.results, alone.output_errors)
        assert report.payload_digest == alone.payload_digest
        assert [layer.relative_error for layer in report.layers] == [layer.relative_error for layer in alone.layers]


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": {"bits": 4, "group_size": 32}},
        {"recipe": {"sparsity": 0.5, "asymmetric_calibration": 0.5}},
        {"low_memory": True},
    ],
    ids=["another recipe", "asymmetric", "low memory"],
)
def test_any_recipe_and_plan_reuses_and_changes_nothing(options: dict[str, Any], tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    run(folder, text, tmp_path / "first", tmp_path / "cache")
    alone = run(folder, text, tmp_path / "alone", None, **options)
    report = run(folder, text, tmp_path / "second", tmp_path / "cache", **options)
    assert report.reused == everything(text)
    assert (report.results, report.payload_digest) == (alone.results, alone.payload_digest)


def test_what_was_reused_is_told_while_the_job_runs(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    run(folder, text, tmp_path / "first", tmp_path / "cache")
    events: list[Event] = []
    run(folder, text, tmp_path / "second", tmp_path / "cache", on_event=events.append)
    notes = [event.message for event in events if isinstance(event, Note) and "reused" in event.message]
    assert notes == [f"{what}: reused from an earlier job" for what in everything(text)]


def test_other_windows_are_made_anew(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache)
    assert run(folder, text, tmp_path / "seed", cache, seed=1).reused == everything(text)[1:]
    assert run(folder, text, tmp_path / "seqlen", cache, seqlen=16).reused == ()
    moved = text.rename(tmp_path / "moved.txt")
    assert run(folder, moved, tmp_path / "moved", cache).reused == everything(moved)
    moved.write_text(tiny_models.text()[1:])
    assert run(folder, moved, tmp_path / "changed", cache).reused == ()


def test_another_model_is_evaluated_anew(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert run(folder, text, tmp_path / "second", cache).reused == everything(text)[:2]


def test_another_tokenizer_encodes_anew(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=7))
    assert run(folder, text, tmp_path / "second", cache).reused == (DENSE,)  # the tokens are the same ones


def test_other_arithmetic_is_not_reused(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "first", cache)
    assert run(folder, text, tmp_path / "bfloat16", cache, compute_dtype="bfloat16").reused == everything(text)[:2]
    torch.set_num_threads(2)
    try:
        assert run(folder, text, tmp_path / "threads", cache).reused == everything(text)[:2]
    finally:
        torch.set_num_threads(1)
    assert run(folder, text, tmp_path / "last", cache, compute_dtype="bfloat16").reused == everything(text)


def test_damage_costs_time_and_no_result(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    first = run(folder, text, tmp_path / "first", cache)
    for path in (cache / RESULTS_FOLDER).iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    events: list[Event] = []
    second = run(folder, text, tmp_path / "second", cache, on_event=events.append)
    assert second.reused == ()
    assert (second.results, second.payload_digest) == (first.results, first.payload_digest)
    warnings = [event.message for event in events if isinstance(event, Note) and event.level == "warning"]
    assert [words.partition(": what")[0] for words in warnings] == list(everything(text))
    assert run(folder, text, tmp_path / "third", cache).reused == everything(text)


def test_evaluation_reuses_what_the_compression_kept(tmp_path: Path, text: Path) -> None:
    folder, cache = tiny_models.save(tmp_path / "model"), tmp_path / "cache"
    run(folder, text, tmp_path / "compressed", cache)
    protocol = Evaluation(sources=(str(text),), windows=WINDOWS, seqlen=SEQLEN)

    def evaluated(cache: Path | None) -> Any:
        return evaluate(tmp_path / "compressed", reference=folder, evaluation=protocol, cache=cache, device="cpu")

    alone, first, second = evaluated(None), evaluated(cache), evaluated(cache)
    windows = EVALUATION.format(text)
    assert (alone.reused, first.reused) == ((), (windows, "evaluation of the reference"))
    assert second.reused == (windows, "evaluation of the reference", "evaluation of the model")
    assert alone.results == first.results == second.results
