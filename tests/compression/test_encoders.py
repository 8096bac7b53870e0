"""Encoders through the streaming pass: against the pass in memory and against transformers' own outputs; what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compression.calibration import TextReader
from compression.compress import compress
from compression.errors import InvalidOptions, UnsupportedModel
from compression.evaluate import evaluate
from compression.export import export
from compression.frame import frame_of
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.report import Report
from tests import tiny_models
from tests.compression.in_memory import compress_in_memory

CALIBRATION_WINDOWS, EVALUATION_WINDOWS, SEQLEN = 6, 3, 32


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(folder: Path, text: Path, out: Path, recipe: dict[str, Any] | None = None, **options: Any) -> Report:
    return compress(
        folder,
        recipe or {"pattern": "2:4"},
        out,
        calibration=Calibration(source=str(text), nsamples=CALIBRATION_WINDOWS, seqlen=SEQLEN),
        evaluation=Evaluation(sources=(str(text),), windows=EVALUATION_WINDOWS, seqlen=SEQLEN),
        device="cpu",
        **{"certificate": False, **options},
    )


def load(folder: Path) -> Any:
    task = Checkpoint(folder).architecture.task
    return AUTO_CLASSES[task].from_pretrained(folder, dtype=torch.float32).eval()


def reader() -> TextReader:
    tokenizer = tiny_models.framing_tokenizer()
    return TextReader(tokenizer, tiny_models.VOCABULARY + 2, {}, frame_of(tokenizer))


def equal(a: Any, b: Any) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@torch.inference_mode()
def last_states(model: Any, ids_WL: Tensor) -> Tensor:
    found: Tensor = model.base_model(input_ids=ids_WL).last_hidden_state
    return found.double()


@pytest.mark.parametrize("family", tiny_models.ENCODERS)
@pytest.mark.parametrize("recipe", [{"pattern": "2:4"}, {"bits": 4, "group_size": 32}], ids=["2:4", "4 bit"])
def test_streaming_pass_is_bit_identical_to_the_pass_in_memory(
    family: str, recipe: dict[str, Any], tmp_path: Path, text: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    report = run(folder, text, tmp_path / "out", recipe)
    calibration_WL = reader().calibration(str(text), CALIBRATION_WINDOWS, SEQLEN, seed=0).ids_WL
    dense, loaded = load(folder), load(tmp_path / "out")
    assert equal(loaded, compress_in_memory(folder, recipe, calibration_WL))
    assert not equal(loaded, dense)
    assert [row.status for row in report.coverage] == ["solved"] * 6 * tiny_models.BLOCKS
    assert report.results == ()
    assert report.sample is None
    (found,) = report.output_errors
    ids_WL = reader().evaluation(str(text), EVALUATION_WINDOWS, SEQLEN).ids_WL
    before_WLD, after_WLD = last_states(dense, ids_WL), last_states(loaded, ids_WL)
    errors_W = (before_WLD - after_WLD).square().sum((1, 2)) / before_WLD.square().sum((1, 2))
    assert found.relative_error == pytest.approx(errors_W.mean().item(), rel=1e-4)
    assert found.relative_error_standard_error == pytest.approx(errors_W.std().item() / EVALUATION_WINDOWS**0.5, rel=1e-3)
    assert found.cosine == pytest.approx(torch.cosine_similarity(before_WLD, after_WLD, dim=-1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta-masked", "distilbert-labels"])
def test_artifact_loads_in_a_fresh_process_and_gives_what_the_pass_saw(family: str, tmp_path: Path, text: Path) -> None:
    report = run(tiny_models.save(tmp_path / "model", family), text, tmp_path / "out", certificate=True)
    assert report.verification.verdict == "ok"
    assert report.verification.relative_error == pytest.approx(0, abs=1e-9)
    assert report.verification.kl is None
    assert report.sample_note is not None
    assert "is an encoder" in report.sample_note


def test_kept_solutions_of_an_encoder_are_exported_again_and_held_against_the_same_outputs(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert-masked")
    solved = run(folder, text, tmp_path / "out", certificate=True, keep_solutions=tmp_path / "kept")
    report = export(tmp_path / "kept", folder, Output(), tmp_path / "again", device="cpu")
    assert report.payload_digest == solved.payload_digest
    assert report.verification == solved.verification
    assert report.output_errors == solved.output_errors
    assert report.sample_note == solved.sample_note


def test_windows_are_framed_and_no_longer_than_asked(text: Path) -> None:
    drawn_WL = reader().calibration(str(text), 3, SEQLEN, seed=0).ids_WL
    consecutive_WL = reader().evaluation(str(text), 3, SEQLEN).ids_WL
    for ids_WL in (drawn_WL, consecutive_WL):
        assert ids_WL.shape == (3, SEQLEN)
        assert ids_WL[:, 0].tolist() == [256] * 3
        assert ids_WL[:, -1].tolist() == [257] * 3
        assert int(ids_WL[:, 1:-1].max()) < tiny_models.VOCABULARY
    plain = torch.tensor(tiny_models.byte_tokenizer()(text.read_text())["input_ids"])
    assert torch.equal(consecutive_WL[:, 1:-1].flatten(), plain[: 3 * (SEQLEN - 2)])


def test_tokenizer_without_special_tokens_frames_nothing() -> None:
    frame = frame_of(tiny_models.byte_tokenizer())
    ids_WL = torch.arange(6).view(2, 3)
    assert frame.size == 0
    assert torch.equal(frame.around(ids_WL), ids_WL)


def test_robertas_longest_window_is_taken_and_a_longer_one_refused(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "roberta")
    calibration, evaluation = Calibration(source=str(text), nsamples=2), Evaluation(sources=(str(text),), windows=1)
    parts: dict[str, Any] = {"evaluation": evaluation, "certificate": False, "device": "cpu"}
    report = compress(folder, {"sparsity": 0.5}, tmp_path / "out", calibration=calibration, **parts)
    assert report.output_errors[0].text.seqlen == tiny_models.POSITIONS
    longer = Calibration(source=str(text), nsamples=2, seqlen=tiny_models.POSITIONS + 1)
    with pytest.raises(InvalidOptions, match=f"exceeds the model's {tiny_models.POSITIONS} positions"):
        compress(folder, {"sparsity": 0.5}, tmp_path / "no", calibration=longer, **parts)


def changed_config(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["BertForQuestionAnswering"]}, "names BertForQuestionAnswering; of this family BertModel, "),
        ({"architectures": ["BertLMHeadModel"]}, "names BertLMHeadModel"),
        ({"architectures": None}, "names no class"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 5}, "hidden_size is 32, which 5 heads do not divide"),
    ],
    ids=["other head", "decoder class", "no class", "decoder", "heads"],
)
def test_what_is_no_encoder_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        Checkpoint(changed_config(tiny_models.save(tmp_path / "model", "bert"), **changes))


@pytest.mark.parametrize("padding", [-1, 66, "1", True])
def test_robertas_padding_token_must_leave_positions(padding: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="pad_token_id"):
        Checkpoint(changed_config(tiny_models.save(tmp_path / "model", "roberta"), pad_token_id=padding))


@pytest.mark.parametrize("name", ["gptq", "compressed-tensors", "sparse-packed", "gguf"])
def test_packed_formats_are_refused_before_work(name: Any, tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert")
    with pytest.raises(InvalidOptions, match=r"output\.format"):
        run(folder, text, tmp_path / "out", {"bits": 4, "group_size": 32}, output=Output(format=name))
    assert not list(tmp_path.glob("*out*"))


def test_evaluation_alone_says_that_an_encoder_has_no_perplexity(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert")
    with pytest.raises(UnsupportedModel, match="BertModel is an encoder and predicts no next token"):
        evaluate(folder, evaluation=Evaluation(sources=(str(text),)), device="cpu")
    with pytest.raises(InvalidOptions, match=r"evaluation\.labelled"):
        evaluate(folder, evaluation=Evaluation(sources=(str(text),), labelled="/a.jsonl"), device="cpu")


def test_verdict_of_an_encoder_needs_a_limit_and_says_so(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert")
    without = run(folder, text, tmp_path / "out")
    assert without.verdict is None
    assert without.verdict_note == "no verdict: no limit is set on what was measured (acceptance.max_output_error)"
    error = without.output_errors[0].relative_error
    limits = Acceptance(max_output_error=error), Acceptance(max_output_error=error * 0.99)
    found = [run(folder, text, tmp_path / str(n), acceptance=limit).verdict for n, limit in enumerate(limits)]
    assert [verdict.outcome for verdict in found if verdict] == ["accepted", "regressed"]


@pytest.mark.parametrize(
    ("family", "limit", "reason"),
    [
        ("bert", {"max_kl": 0.1}, "kl is not measured of an encoder"),
        ("llama", {"max_output_error": 0.1}, "output_error is not measured of a causal language model"),
        ("bert-labels", {"max_accuracy_loss": 0.1}, "accuracy is measured on labelled texts"),
    ],
    ids=["kl", "output error", "accuracy"],
)
def test_limit_on_what_is_not_measured_is_refused(
    family: str, limit: dict[str, float], reason: str, tmp_path: Path, text: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    with pytest.raises(InvalidOptions, match=reason):
        run(folder, text, tmp_path / "out", acceptance=Acceptance(**limit))


def test_norms_of_old_checkpoints_are_read_and_keep_their_names(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert-masked")
    run(folder, text, tmp_path / "new")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    report = run(folder, text, tmp_path / "out", certificate=True)
    assert report.verification.verdict == "ok"
    assert any(name.endswith("LayerNorm.gamma") for name in Checkpoint(tmp_path / "out").tensors)
    assert equal(load(tmp_path / "new"), load(tmp_path / "out"))
