"""Accuracy on labelled texts: against transformers' own predictions, text by text; and files that are refused by line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from compression.compress import compress
from compression.errors import CalibrationError, InvalidOptions
from compression.labelled import read_labelled
from compression.labels import label_names
from compression.protocol import Calibration, Evaluation
from compression.report import Report
from tests import tiny_models

NAMES = ("calm", "glad", "sad")
TEXTS = 60


def run(folder: Path, out: Path, labelled: Path, **options: Any) -> Report:
    text = folder.parent / "text.txt"
    text.write_text(tiny_models.text())
    return compress(
        folder,
        {"sparsity": 0.9},
        out,
        calibration=Calibration(source=str(text), nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(), labelled=str(labelled)),
        device="cpu",
        certificate=False,
        **options,
    )


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Texts of many lengths, some beyond the model's positions; labels by number and by name."""
    words = tiny_models.text(6000)
    lines = [
        {"text": words[80 * i : 80 * i + 7 + 11 * (i % 8)], "label": i % 3 if i % 2 else NAMES[i % 3]} for i in range(TEXTS)
    ]
    return write(tmp_path / "labelled.jsonl", lines)


def with_even_head(folder: Path, labelled: Path) -> Path:
    """An untrained head stays with one label whatever the text; this one's mean logits over the texts are equal."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    last = "classifier.out_proj" if "classifier.out_proj.weight" in tensors else "classifier"
    tensors[f"{last}.bias"] -= logits(folder, labelled).mean(0)
    save_file(tensors, path, {"format": "pt"})
    return folder


@torch.inference_mode()
def logits(folder: Path, labelled: Path) -> Tensor:
    """(texts, labels) by transformers, text by text."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, found = tiny_models.framing_tokenizer(), []
    for line in labelled.read_text().splitlines():
        ids = tokenizer(json.loads(line)["text"], truncation=True, max_length=tiny_models.POSITIONS)["input_ids"]
        found.append(model(input_ids=torch.tensor([ids])).logits[0])
    return torch.stack(found)


@pytest.mark.parametrize("family", ["bert-labels", "distilbert-labels", "roberta-labels"])
def test_accuracy_is_that_of_transformers_on_the_same_texts(family: str, tmp_path: Path, labelled: Path) -> None:
    folder = with_even_head(tiny_models.save(tmp_path / "model", family), labelled)
    report = run(folder, tmp_path / "out", labelled)
    dense, compressed = (logits(model, labelled).argmax(-1).tolist() for model in (folder, tmp_path / "out"))
    assert len(set(dense)) > 1, "else this could not fail"
    assert dense != compressed, "else this could not fail"
    labels = torch.arange(TEXTS) % 3
    right, right_after = ((torch.tensor(found) == labels).double() for found in (dense, compressed))
    found = report.accuracy
    assert found is not None
    assert found.texts == TEXTS
    assert (found.dense, found.compressed) == pytest.approx((right.mean().item(), right_after.mean().item()))
    assert found.loss == pytest.approx((right - right_after).mean().item())
    assert found.agreement == pytest.approx(sum(a == b for a, b in zip(dense, compressed, strict=True)) / TEXTS)
    assert found.dense_standard_error == pytest.approx(right.std().item() / TEXTS**0.5)
    assert found.loss_standard_error == pytest.approx((right - right_after).std().item() / TEXTS**0.5)
    assert report.verdict is not None
    assert report.verdict.outcome == ("accepted" if found.loss <= 0.01 else "regressed")
    assert report.output_errors == ()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "holds no labelled text"),
        ([{"text": "a", "label": 3}], "line 1: label 3 is none of 0 to 2 or calm, glad, sad"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": "angry"}], "line 2: label 'angry' is none of"),
        ([{"text": "a", "label": True}], "label True is none of"),
        ([{"text": "a"}], "label None is none of"),
        ([{"label": 1}], 'line 1 is no object with a string "text"'),
        (["a"], "line 1 is no object"),
    ],
    ids=["empty", "number", "name", "flag", "no label", "no text", "no object"],
)
def test_file_is_refused_with_its_line(lines: list[Any], reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(CalibrationError, match=reason):
        read_labelled(file, "bad.jsonl", tiny_models.framing_tokenizer(), NAMES, tiny_models.POSITIONS)


def test_text_without_a_token_and_line_that_is_not_json_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", [{"text": "", "label": 0}])
    with pytest.raises(CalibrationError, match="line 1: the text has no tokens"):
        read_labelled(file, "bad.jsonl", tiny_models.byte_tokenizer(), NAMES, tiny_models.POSITIONS)
    file.write_text("{")
    with pytest.raises(CalibrationError, match="line 1 is not JSON"):
        read_labelled(file, "bad.jsonl", tiny_models.byte_tokenizer(), NAMES, tiny_models.POSITIONS)


@pytest.mark.parametrize("family", ["bert", "roberta-masked", "llama"])
def test_labelled_texts_want_a_classifier(family: str, tmp_path: Path, labelled: Path) -> None:
    with pytest.raises(InvalidOptions, match=r"evaluation\.labelled: \w+ gives no labels"):
        run(tiny_models.save(tmp_path / "model", family), tmp_path / "out", labelled)


@pytest.mark.parametrize(
    ("config", "names"),
    [({"id2label": {"0": "no", "1": "yes"}}, ("no", "yes")), ({}, ("LABEL_0", "LABEL_1"))],
    ids=["named", "as transformers names them"],
)
def test_names_are_those_of_the_config(config: dict[str, Any], names: tuple[str, ...]) -> None:
    assert label_names(config) == names


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"problem_type": "regression"}, "no accuracy for problem_type 'regression'"),
        ({"problem_type": "multi_label_classification"}, "no accuracy for problem_type"),
        ({"id2label": {"0": "only"}}, "names 1 labels"),
        ({"id2label": {"0": "a", "2": "b"}}, "names 2 labels, not 2 or more from 0 on"),
        ({"id2label": "ab"}, "cannot be read"),
        ({"num_labels": []}, "cannot be read"),
    ],
    ids=str,
)
def test_config_that_does_not_choose_one_of_several_labels_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptions, match=reason):
        label_names(config)
