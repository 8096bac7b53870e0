"""Evaluation without a compression, against plain transformers on the whole model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CodeGenConfig, CodeGenForCausalLM, GenerationConfig

from compression.calibration import TextReader
from compression.compress import compress
from compression.errors import CalibrationError, Cancelled, InvalidOptions, UnsupportedModel
from compression.evaluate import evaluate
from compression.evaluation_report import EvaluationReport, EvaluationSample
from compression.events import BlockFinished, Event
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.report import Report
from tests import tiny_models

SEQLEN, WINDOWS = 32, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model, the same one at 2:4 and 4 bit, and two texts."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_models.save(folder / "dense")
    (folder / "text.txt").write_text(tiny_models.text())
    (folder / "other.txt").write_text(tiny_models.text()[::-1])
    text = str(folder / "text.txt")
    compress(
        folder / "dense",
        {"pattern": "2:4", "bits": 4, "group_size": 32},
        folder / "compressed",
        calibration=Calibration(source=text, nsamples=4, seqlen=SEQLEN),
        evaluation=protocol(folder),
        device="cpu",
    )
    return folder


def protocol(folder: Path, **more: Any) -> Evaluation:
    sources = (str(folder / "text.txt"), str(folder / "other.txt"))
    return Evaluation(**{"sources": sources, "windows": WINDOWS, "seqlen": SEQLEN, **more})


def run(folder: Path, model: str, reference: str | None = None, **options: Any) -> EvaluationReport:
    options.setdefault("evaluation", protocol(folder))
    return evaluate(folder / model, reference=None if reference is None else folder / reference, device="cpu", **options)


@torch.inference_mode()
def perplexity_of(model: Path, text: str) -> float:
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    reader = TextReader(tiny_models.byte_tokenizer(), tiny_models.VOCABULARY, {})
    windows = reader.evaluation(text, WINDOWS, SEQLEN).ids_WL
    return math.exp(sum(loaded(ids[None], labels=ids[None]).loss.item() for ids in windows) / WINDOWS)


@pytest.mark.parametrize("model", ["dense", "compressed"])
def test_perplexities_are_those_of_plain_transformers(model: str, folder: Path) -> None:
    report = run(folder, model)
    for result in report.results:
        assert result.perplexity.value == pytest.approx(perplexity_of(folder / model, result.text.source), rel=1e-5)
        assert result.comparison is None
    assert [result.text.windows for result in report.results] == [WINDOWS, WINDOWS]
    assert (report.reference, report.verdict, report.tasks) == (None, None, None)


def test_comparison_equals_the_one_of_the_compression_itself(folder: Path) -> None:
    compressed = Report.model_validate_json((folder / "compressed" / "report.json").read_bytes())
    report = run(folder, "compressed", "dense")
    for found, expected in zip(report.results, compressed.results, strict=True):
        assert found.comparison is not None
        for name in ("ratio", "kl", "kl_p99", "top1_agreement"):
            assert getattr(found.comparison, name) == pytest.approx(getattr(expected, name), rel=1e-4)
        assert found.comparison.text == expected.text
        assert [token.position for token in found.comparison.worst_tokens] == [t.position for t in expected.worst_tokens]
        assert found.perplexity == found.comparison.compressed
    assert report.reference is not None and report.reference.digest == compressed.model.digest


def test_model_against_itself_differs_in_nothing_and_is_accepted(folder: Path) -> None:
    report = run(folder, "dense", "dense", acceptance=Acceptance(max_kl=0.0, max_perplexity_ratio=1.0, max_kl_p99=0.0))
    assert report.verdict is not None and report.verdict.outcome == "accepted"
    assert [result.comparison.kl for result in report.results if result.comparison] == [0.0, 0.0]


def test_limits_decide_the_verdict(folder: Path) -> None:
    strict = run(folder, "compressed", "dense", acceptance=Acceptance(max_kl=0.0))
    assert strict.verdict is not None and strict.verdict.outcome == "regressed"
    assert {check.text for check in strict.verdict.checks if check.figure == "kl"} == set(protocol(folder).sources)
    alone = run(folder, "dense", acceptance=Acceptance(max_perplexity=1e9))
    assert alone.verdict is not None and alone.verdict.outcome == "accepted"


def test_same_evaluation_gives_the_same_figures(folder: Path) -> None:
    first, second = (run(folder, "compressed", "dense") for _ in range(2))
    assert first.results == second.results


@torch.inference_mode()
def continued(model: Path, prompt: list[int]) -> str:
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    greedy = GenerationConfig(max_new_tokens=40, do_sample=False, pad_token_id=0, eos_token_id=None)
    ids = torch.tensor([prompt])
    found = loaded.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
    return str(tiny_models.byte_tokenizer().decode(found[0, len(prompt) :], skip_special_tokens=True))


def test_sample_is_the_greedy_continuation_of_both(folder: Path) -> None:
    report = run(folder, "compressed", "dense")
    assert report.sample is not None and report.sample_note is None
    prompt = tiny_models.text()[:24]
    assert report.sample.prompt == prompt
    ids = tiny_models.byte_tokenizer()(prompt)["input_ids"]
    assert report.sample.evaluated == continued(folder / "compressed", ids)
    assert report.sample.reference == continued(folder / "dense", ids)
    assert run(folder, "dense").sample == EvaluationSample(
        prompt=prompt, evaluated=continued(folder / "dense", ids), reference=None
    )


def test_without_room_for_a_whole_model_the_report_says_why_there_is_no_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compression.models.whole.ROOM", 1e15)
    report = run(folder, "dense")
    assert report.sample is None
    assert report.sample_note is not None and "GB are free" in report.sample_note
    assert report.results[0].perplexity.value > 1


@pytest.fixture(scope="module")
def unknown(folder: Path) -> Path:
    """A model of a family that only transformers knows."""
    torch.manual_seed(0)
    config = CodeGenConfig(vocab_size=256, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, n_ctx=64)
    CodeGenForCausalLM(config).save_pretrained(folder / "unknown")
    tiny_models.byte_tokenizer().save_pretrained(folder / "unknown")
    return folder / "unknown"


def test_model_that_cannot_be_streamed_is_loaded_whole(folder: Path, unknown: Path) -> None:
    report = run(folder, "unknown")
    assert report.model.notes == ("loaded whole, through transformers",)
    assert (report.model.family, report.model.blocks) == ("codegen", 2)
    assert report.results[0].perplexity.value == pytest.approx(perplexity_of(unknown, report.results[0].text.source), rel=1e-5)
    both = run(folder, "unknown", "dense")
    assert both.results[0].comparison is not None and both.results[0].comparison.kl > 0


@pytest.mark.parametrize(
    ("name", "recipe", "how"),
    [
        ("sparse-packed", {"pattern": "2:4", "bits": 4, "group_size": 32}, "loaded whole, by our own reader"),
        ("gptq", {"bits": 3, "group_size": 32}, "loaded whole, by our own reader"),
        ("compressed-tensors", {"bits": 4, "group_size": 32}, "loaded whole, through transformers"),
        ("gguf", {"bits": 4, "group_size": 32}, "source was quantised: GGUF Q4_1"),
    ],
)
def test_artifact_of_any_format_gives_the_figures_of_the_pass_that_made_it(
    name: Any, recipe: dict[str, Any], how: str, folder: Path
) -> None:
    made = compress(
        tiny_models.save(folder / f"{name}-source", "llama-wide"),
        recipe,
        folder / name,
        calibration=Calibration(source=str(folder / "text.txt"), nsamples=4, seqlen=SEQLEN),
        evaluation=protocol(folder),
        output=Output(format=name),
        device="cpu",
        certificate=False,
    )
    report = run(folder, name)
    for found, expected in zip(report.results, made.results, strict=True):
        assert found.perplexity.value == pytest.approx(expected.compressed.value, rel=1e-5)
    assert any(note.startswith(how) for note in report.model.notes)


def test_large_windows_are_scored_alike_whole_or_streamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(folder, "compressed", "dense")
    monkeypatch.setattr("compression.evaluation.CHUNK_LOGITS", 5 * tiny_models.VOCABULARY)
    monkeypatch.setattr("compression.evaluation.CHUNK_TOKENS", 7)
    cut = run(folder, "compressed", "dense")
    assert cut.results[0].perplexity.value == pytest.approx(whole.results[0].perplexity.value, rel=1e-6)


def test_blocks_of_both_models_are_counted_and_the_caller_may_stop(folder: Path) -> None:
    events: list[Event] = []
    run(folder, "compressed", "dense", on_event=events.append)
    blocks = [event for event in events if isinstance(event, BlockFinished)]
    assert [event.block for event in blocks] == list(range(1, 2 * tiny_models.BLOCKS + 1))
    assert blocks[-1].fraction == 1.0

    def stop(event: Event) -> None:
        if isinstance(event, BlockFinished):
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, "dense", on_event=stop)


def test_report_folder_appears_complete_and_nothing_else_is_left(folder: Path, tmp_path: Path) -> None:
    report = run(folder, "dense", out=tmp_path / "out", work=tmp_path / "work", provenance={"job_id": "x"})
    assert EvaluationReport.model_validate_json((tmp_path / "out" / "report.json").read_bytes()) == report
    assert report.provenance == {"job_id": "x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(InvalidOptions, match="nothing is overwritten"):
        run(folder, "dense", out=tmp_path / "out")


def packed(folder: Path, model: Path, **config: Any) -> Path:
    """A copy whose config says more."""
    model.mkdir()
    for path in (folder / "dense").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    data = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**data, **config}))
    return model


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "x"}, "remote code"),
        ({"model_type": "nobody-knows"}, "transformers knows no such architecture"),
        ({"architectures": ["ElectraModel"], "model_type": "electra"}, "not a causal language model"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "BertModel is an encoder and predicts no next token"),
        ({"quantization_config": {"quant_method": "unheard-of"}}, "cannot load it|not installed"),
    ],
    ids=["remote code", "unknown", "encoder of no known family", "encoder", "format"],
)
def test_model_that_cannot_be_evaluated_is_refused(config: Any, reason: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        evaluate(packed(folder, tmp_path / "model", **config), evaluation=protocol(folder), device="cpu")


def test_weights_that_transformers_would_make_up_are_refused(folder: Path, unknown: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in unknown.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    tensors = load_file(model / "model.safetensors")
    del tensors["transformer.ln_f.weight"]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"lacks transformer\.ln_f\.weight"):
        evaluate(model, evaluation=protocol(folder), device="cpu")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"acceptance": Acceptance(max_kl=0.1)}, "acceptance.max_kl"),
        ({"evaluation": Evaluation(sources=())}, "evaluation.sources"),
        ({"evaluation": Evaluation(seqlen=65)}, "evaluation.seqlen"),
        ({"device": "quantum"}, "device"),
    ],
)
def test_senseless_request_is_refused_with_its_field(options: dict[str, Any], field: str, folder: Path) -> None:
    with pytest.raises(InvalidOptions) as refusal:
        evaluate(folder / "dense", **{"evaluation": protocol(folder), "device": "cpu", **options})
    assert refusal.value.field == field


def test_reference_with_another_vocabulary_or_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    config = CodeGenConfig(vocab_size=300, n_embd=32, n_layer=1, n_head=4, n_positions=64, rotary_dim=4)
    CodeGenForCausalLM(config).save_pretrained(tmp_path / "larger")
    tiny_models.byte_tokenizer().save_pretrained(tmp_path / "larger")
    with pytest.raises(InvalidOptions, match="300 tokens and the model 256"):
        evaluate(folder / "dense", reference=tmp_path / "larger", evaluation=protocol(folder), device="cpu")
    other = packed(folder, tmp_path / "other")
    data = json.loads((other / "tokenizer.json").read_text())
    data["pre_tokenizer"]["add_prefix_space"] = True
    (other / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(InvalidOptions, match="makes other tokens"):
        evaluate(folder / "dense", reference=other, evaluation=protocol(folder), device="cpu")


def test_text_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(CalibrationError, match="no such text"):
        run(folder, "dense", evaluation=Evaluation(sources=("/nowhere.txt",)))
