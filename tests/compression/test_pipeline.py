"""The streaming pass against a plain pass over the whole model in memory, and its continuation after an interruption."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from compression import methods  # noqa: F401  registers the solvers
from compression.compress import compress
from compression.errors import Cancelled, InvalidOptions, NumericalError, UnsupportedModel
from compression.events import BlockFinished, Event, LayerFinished, Note
from compression.models.checkpoint import Checkpoint
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from tests import tiny_models
from tests.compression.in_memory import compress_in_memory

CALIBRATION_WINDOWS, EVALUATION_WINDOWS, SEQLEN = 6, 3, 32


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(folder: Path, text: Path, out: Path, recipe: dict[str, Any], **options: Any) -> Report:
    return compress(
        folder,
        recipe,
        out,
        calibration=Calibration(source=str(text), nsamples=CALIBRATION_WINDOWS, seqlen=SEQLEN),
        evaluation=Evaluation(sources=(str(text),), windows=EVALUATION_WINDOWS, seqlen=SEQLEN),
        device="cpu",
        **{"certificate": False, **options},
    )


def weights(folder: Path) -> dict[str, Tensor]:
    checkpoint = Checkpoint(folder)
    return checkpoint.read(checkpoint.tensors)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@pytest.mark.parametrize("recipe", [{"pattern": "2:4"}, {"bits": 4, "group_size": 32}], ids=["2:4", "4 bit"])
def test_streaming_pass_is_bit_identical_to_the_pass_in_memory(
    family: str, recipe: dict[str, Any], tmp_path: Path, text: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    report = run(folder, text, tmp_path / "out", recipe)
    reference = compress_in_memory(folder, recipe, calibration_windows(folder, text))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert equal(dict(loaded.state_dict()), dict(reference.state_dict()))
    assert not equal(weights(folder), weights(tmp_path / "out"))
    assert report.results[0].compressed.value == pytest.approx(perplexity(loaded, text), rel=1e-5)
    dense = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert report.results[0].dense.value == pytest.approx(perplexity(dense, text), rel=1e-5)
    architecture = Checkpoint(folder).architecture
    declared = [matrix for block in range(architecture.blocks) for matrix in architecture.block(block)]
    assert [row.reason for row in report.coverage if row.status == "skipped"] == [
        m.kept_dense for m in declared if m.kept_dense
    ]
    assert len(report.coverage) == len(declared)
    assert len(report.layers) == sum(1 for row in report.coverage if row.status != "skipped")
    assert all(layer.fallbacks or layer.method in {"sparsegpt", "optq"} for layer in report.layers)
    assert all(row.status != "fallback" for row in report.coverage if "expert" not in row.name)


def calibration_windows(folder: Path, text: Path) -> Tensor:
    from compression.calibration import TextReader

    reader = TextReader(tiny_models.byte_tokenizer(), tiny_models.VOCABULARY, {})
    return reader.calibration(str(text), CALIBRATION_WINDOWS, SEQLEN, seed=0).ids_WL


@torch.inference_mode()
def perplexity(model: Any, text: Path) -> float:
    ids = torch.tensor(tiny_models.byte_tokenizer()(text.read_text())["input_ids"])
    windows = ids[: EVALUATION_WINDOWS * SEQLEN].view(EVALUATION_WINDOWS, SEQLEN)
    losses = [torch.nn.functional.cross_entropy(model(input_ids=w[None]).logits[0, :-1], w[1:]).item() for w in windows]
    return math.exp(sum(losses) / len(losses))


@pytest.mark.parametrize("family", ["falcon-grouped", "phi", "mixtral", "qwen2_moe", "deepseek_v3"])
def test_blocks_of_unlike_stages_stream_as_in_memory_stage_by_stage(family: str, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    recipe: dict[str, Any] = {"pattern": "2:4", "true_sequential": True}
    run(folder, text, tmp_path / "out", recipe)
    reference = compress_in_memory(folder, recipe, calibration_windows(folder, text))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert equal(dict(loaded.state_dict()), dict(reference.state_dict()))


@pytest.mark.parametrize("family", ["falcon-grouped", "phi3", "deepseek_v3"])
def test_leftover_of_remote_code_is_neither_run_nor_handed_on(family: str, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')\n")
    with pytest.raises(UnsupportedModel, match=r"evil\.py is code"):
        run(folder, text, tmp_path / "out", {"pattern": "2:4"})
    (folder / "evil.py").unlink()
    run(folder, text, tmp_path / "out", {"pattern": "2:4"})
    assert not (tmp_path / "was here").exists()
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("method", ["magnitude", "wanda", "rtn", "joint", "sparsegpt", "obc"])
def test_every_method_streams_as_in_memory(method: str, tmp_path: Path, text: Path) -> None:
    recipe: dict[str, Any] = {"method": method, "true_sequential": True}
    recipe |= {"bits": 3, "group_size": 16} if method in ("rtn", "joint") else {}
    recipe |= {"sparsity": 0.6} if method != "rtn" else {}
    folder = tiny_models.save(tmp_path / "model")
    run(folder, text, tmp_path / "out", recipe)
    reference = compress_in_memory(folder, recipe, calibration_windows(folder, text))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert equal(dict(loaded.state_dict()), dict(reference.state_dict()))


class StopAfter:
    """An event callback that cancels after so many finished layers."""

    def __init__(self, layers: int) -> None:
        self.layers = layers

    def __call__(self, event: Event) -> None:
        if isinstance(event, LayerFinished):
            self.layers -= 1
            if self.layers == 0:
                raise Cancelled


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2"])
@pytest.mark.parametrize("recipe", [{"sparsity": 0.5}, {"bits": 3, "group_size": 16}], ids=["50%", "3 bit"])
def test_continued_pass_is_bit_identical_to_an_undisturbed_one(
    family: str, recipe: dict[str, Any], tmp_path: Path, text: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    per_block = len(Checkpoint(folder).architecture.matrices)
    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", recipe, work=tmp_path / "work", on_event=StopAfter(2 * per_block + 1))
    assert not (tmp_path / "out").exists()
    events: list[Event] = []
    report = run(folder, text, tmp_path / "out", recipe, work=tmp_path / "work", on_event=events.append)
    whole = run(folder, text, tmp_path / "whole", recipe)
    assert report.resumed_blocks == 2
    assert [e.is_replayed for e in events if isinstance(e, BlockFinished)] == [True, True, False]
    assert report.payload_digest == whole.payload_digest
    assert report.results == whole.results
    timeless = [layer.model_copy(update={"seconds": 0.0}) for layer in report.layers]
    assert timeless == [layer.model_copy(update={"seconds": 0.0}) for layer in whole.layers]
    assert not (tmp_path / "work").exists()


def test_blocks_of_another_recipe_are_not_mixed_in(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", {"sparsity": 0.5}, work=tmp_path / "work", on_event=StopAfter(9))
    events: list[Event] = []
    report = run(folder, text, tmp_path / "out", {"sparsity": 0.4}, work=tmp_path / "work", on_event=events.append)
    assert report.resumed_blocks == 0
    assert len(report.restarts) == 1 and report.restarts[0].startswith("recipe was ")
    assert any(isinstance(event, Note) and "recipe was" in event.message for event in events)
    assert report.payload_digest == run(folder, text, tmp_path / "whole", {"sparsity": 0.4}).payload_digest


def test_damaged_block_file_is_solved_again(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", {"sparsity": 0.5}, work=tmp_path / "work", on_event=StopAfter(15))
    first = tmp_path / "work" / "blocks" / "block-00000.safetensors"
    first.write_bytes(first.read_bytes()[:-100])
    report = run(folder, text, tmp_path / "out", {"sparsity": 0.5}, work=tmp_path / "work")
    assert report.resumed_blocks == 1
    assert report.payload_digest == run(folder, text, tmp_path / "whole", {"sparsity": 0.5}).payload_digest


def test_half_precision_checkpoint_keeps_its_dtype_and_its_pattern(tmp_path: Path, text: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        folder = tiny_models.save(tmp_path / f"model-{dtype}", "llama", dtype)
        out = tmp_path / f"out-{dtype}"
        report = run(folder, text, out, {"pattern": "4:8"}, certificate=True)
        assert report.verification.verdict == "ok"
        assert report.verification.kl is not None and report.verification.kl < 1e-6
        assert report.sample is not None
        saved = weights(out)
        assert {tensor.dtype for tensor in saved.values()} == {dtype}
        for layer in report.layers:
            kept = (saved[f"{layer.name}.weight"] != 0).unflatten(1, (-1, 8)).sum(-1)
            assert int(kept.max()) <= 4
            assert layer.sparsity == pytest.approx(0.5, abs=0.01)


def test_sharded_checkpoint_and_one_without_base_prefix_are_read(tmp_path: Path, text: Path) -> None:
    single = run(tiny_models.save(tmp_path / "one"), text, tmp_path / "out-one", {"sparsity": 0.5})
    sharded = tiny_models.save(tmp_path / "many", max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    run(sharded, text, tmp_path / "out-many", {"sparsity": 0.5})
    assert equal(weights(tmp_path / "out-one"), weights(tmp_path / "out-many"))
    assert single.model.blocks == tiny_models.BLOCKS


def test_layers_left_alone_stay_as_they_were_and_say_why(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    recipe = {"sparsity": 0.5, "ignore": ["*.k_proj"], "overrides": {"*.down_proj": None, "*.up_proj": {"bits": 8}}}
    report = run(folder, text, tmp_path / "out", {**recipe, "skip_blocks": [-1]})
    before, after = weights(folder), weights(tmp_path / "out")
    for row in report.coverage:
        untouched = torch.equal(before[f"{row.name}.weight"], after[f"{row.name}.weight"])
        is_left = ".2." in row.name or "k_proj" in row.name or "down_proj" in row.name
        assert untouched == is_left == (row.status == "skipped")
        assert (row.reason is not None) == is_left
    up = next(layer for layer in report.layers if layer.name.endswith("0.mlp.up_proj"))
    assert (up.method, up.bits) == ("joint", 8)


def test_damaged_or_unfit_inputs_are_refused_before_anything_is_written(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    out = tmp_path / "out"
    with pytest.raises(InvalidOptions, match=r"recipe.pattern.*self_attn|5 does not divide"):
        run(folder, text, out, {"pattern": "3:5"})
    with pytest.raises(InvalidOptions, match=r"calibration.seqlen: 65 exceeds the model's 64 positions"):
        compress(folder, {"sparsity": 0.5}, out, calibration=Calibration(source=str(text), seqlen=65))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match="tokenizer"):
        run(folder, text, out, {"sparsity": 0.5})
    assert not out.exists()


def test_weights_with_nan_are_named(tmp_path: Path, text: Path) -> None:
    model = tiny_models.build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "model")
    tiny_models.byte_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN"):
        run(tmp_path / "model", text, tmp_path / "out", {"sparsity": 0.5})


def test_activations_that_overflow_name_the_layer(tmp_path: Path, text: Path) -> None:
    model = tiny_models.build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.gate_proj.weight").fill_(3e38)
    model.save_pretrained(tmp_path / "model")
    tiny_models.byte_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(NumericalError, match=r"model\.layers\.0\.mlp\.down_proj: its calibration inputs hold NaN"):
        run(tmp_path / "model", text, tmp_path / "out", {"sparsity": 0.5})
    assert not (tmp_path / "out").exists()


def test_pass_in_bfloat16_solves_and_scores_in_float32_and_says_what_it_did(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    exact = run(folder, text, tmp_path / "exact", {"bits": 4, "group_size": 32})
    rounded = run(
        folder, text, tmp_path / "rounded", {"bits": 4, "group_size": 32}, compute_dtype="bfloat16", certificate=True
    )
    assert (exact.environment.compute_dtype, rounded.environment.compute_dtype) == ("float32", "bfloat16")
    assert rounded.verification.verdict == "ok", "loaded and run in float32, the artifact is what the pass solved"
    assert rounded.results[0].compressed.value == pytest.approx(exact.results[0].compressed.value, rel=1e-2)
    assert rounded.results[0].dense.value != exact.results[0].dense.value
    with pytest.raises(InvalidOptions, match="compute_dtype"):
        run(folder, text, tmp_path / "out", {"bits": 4}, compute_dtype="float8")
