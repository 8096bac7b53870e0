"""The model card: metadata that hubs read, and text that no name can break."""

from typing import Any

import pytest
import yaml

from compression.model_card import model_card
from compression.protocol import Output
from compression.report import Report
from tests.compression import reports

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def metadata(report: Report) -> dict[str, Any]:
    card = model_card(report)
    assert card.startswith("---\n")
    found = yaml.safe_load(card[4:].partition("\n---\n")[0])
    assert isinstance(found, dict)
    return found


def of_hub(source: str = "Qwen/Qwen3-0.6B", recipe: dict[str, Any] | None = None, **changes: Any) -> Report:
    model = reports.MODEL.model_copy(update={"source": source, "revision": COMMIT, "license": "apache-2.0"})
    return reports.report(recipe, model=model, **changes)


def test_hubs_find_what_they_look_for() -> None:
    found = metadata(of_hub(recipe={"bits": 4}, output=Output(format="gptq")))
    results = found.pop("model-index")
    assert found == {
        "base_model": "Qwen/Qwen3-0.6B",
        "base_model_relation": "quantized",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["scalpel", "compression", "optq", "quantized", "4-bit", "gptq"],
    }
    assert results[0]["name"] == "Qwen3-0.6B"
    metrics = results[0]["results"][0]["metrics"]
    assert [(metric["type"], metric["value"], metric["verified"]) for metric in metrics] == [
        ("perplexity", 21.5, False),
        ("perplexity", 18.25, False),
    ]


def test_what_is_only_pruned_claims_no_relation() -> None:
    found = metadata(of_hub(recipe={"pattern": "2:4"}))
    assert "base_model_relation" not in found
    assert {"pruned", "sparse", "2:4"} <= set(found["tags"])


@pytest.mark.parametrize("source", ["/srv/models/mine", "demo:smollm2-135m", "upload:01ARZ3NDEKTSV4RRFFQ69G5FAV", "a/b/c"])
def test_only_a_hub_model_is_named_as_base(source: str) -> None:
    assert "base_model" not in metadata(of_hub(source))


def test_a_model_that_is_only_named_like_one_of_a_hub_is_none() -> None:
    model = reports.MODEL.model_copy(update={"source": "models/mine", "revision": None})
    assert "base_model" not in metadata(reports.report(model=model))


@pytest.mark.parametrize(
    ("architecture", "pipeline"),
    [
        ("BertModel", "feature-extraction"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertForMaskedLM", "fill-mask"),
    ],
)
def test_encoders_have_their_pipelines_and_no_perplexity(architecture: str, pipeline: str) -> None:
    model = reports.MODEL.model_copy(update={"architecture": architecture})
    found = metadata(reports.encoder().model_copy(update={"model": model}))
    assert found["pipeline_tag"] == pipeline
    assert "model-index" not in found


@pytest.mark.parametrize("kind", reports.KINDS)
def test_every_kind_has_a_card(kind: str) -> None:
    report = reports.KINDS[kind]()
    assert metadata(report)["library_name"] in ("transformers", "scalpel")
    card = model_card(report)
    assert "## How to load it" in card
    for result in report.results:
        assert f"{result.compressed.value:.4g}" in card


def test_no_name_breaks_out_of_the_metadata_or_becomes_markup() -> None:
    report = reports.hostile()
    found = metadata(report)
    assert "license" not in found and "base_model" not in found
    assert set(found) == {"library_name", "pipeline_tag", "tags", "model-index"}
    body = model_card(report).split("\n---\n", 1)[1]
    assert "\n---" not in body and "\x1b" not in body and "\x00" not in body
    assert "<script" not in body.replace("\\<script", "")
