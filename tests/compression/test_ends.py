"""Embedding and head in 8 bits: the grid, and which streams run through it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM

from compression.formats import load
from compression.models.checkpoint import Checkpoint
from compression.models.ends import round_end, stored_ends
from compression.models.streamed import StreamedModel
from compression.protocol import Output
from tests import tiny_models
from tests.compression.formats.artifacts import cross_entropy, make

Q8_0 = GGMLQuantizationType.Q8_0


def test_values_that_are_on_the_grid_already_are_found_again_exactly() -> None:
    weight = torch.randn(50, 96, generator=torch.Generator().manual_seed(0))
    on_grid = torch.from_numpy(dequantize(quantize(weight.numpy(), Q8_0), Q8_0).copy())
    assert torch.equal(round_end(on_grid, torch.float16).to_dense(), on_grid)


@pytest.mark.parametrize(("width", "groups"), [(96, 3), (40, 1)], ids=["groups of 32", "whole rows"])
def test_every_value_goes_to_its_nearest_neighbour(width: int, groups: int) -> None:
    weight = torch.randn(300, width, generator=torch.Generator().manual_seed(1))
    found = round_end(weight, torch.float16)
    assert found.scale_RG.shape == (300, groups)
    step = found.scale_RG[:, found.group_C.long()]
    outermost = 127 * step  # a scale rounded down leaves the largest a little outside
    assert ((found.to_dense() - weight.clamp(-outermost, outermost)).abs() <= step / 2 * (1 + 1e-5)).all()
    assert int(found.codes_RC.min()) >= 1 and torch.equal(found.scale_RG.half().float(), found.scale_RG)


def test_rows_are_rounded_alike_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(2))
    whole = round_end(weight, torch.bfloat16).to_dense()
    monkeypatch.setattr("compression.models.ends.ROWS_AT_ONCE", 3)
    assert torch.equal(round_end(weight, torch.bfloat16).to_dense(), whole)


def test_row_of_zeros_stays_zero() -> None:
    assert not round_end(torch.zeros(2, 32), torch.float16).to_dense().any()


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("llama", ("model.embed_tokens.weight",)),
        ("llama-untied", ("model.embed_tokens.weight", "lm_head.weight")),
        ("gpt2", ("transformer.wte.weight",)),
    ],
)
def test_ends_are_found_in_the_checkpoint(family: str, names: tuple[str, ...], tmp_path: Path) -> None:
    assert stored_ends(Checkpoint(tiny_models.save(tmp_path / "model", family))) == names


@pytest.mark.parametrize("family", ["llama", "llama-untied"], ids=["tied", "untied"])
def test_rounded_ends_are_seen_inside_and_gone_after(family: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", family))
    model = StreamedModel(checkpoint, torch.device("cpu"), torch.float32, "int8")
    embedding = checkpoint.read(["model.embed_tokens.weight"])["model.embed_tokens.weight"]
    ids = torch.arange(8)[None]
    before = model.enter(ids)[0]
    assert torch.equal(before[0], embedding[:8])
    with model.as_written():
        inside = model.enter(ids)[0]
    assert torch.equal(inside[0], round_end(embedding, torch.float16).to_dense()[:8])
    assert torch.equal(model.enter(ids)[0], before)
    assert not torch.equal(model.logits(before), model.written_logits(before))
    kept = StreamedModel(checkpoint, torch.device("cpu"), torch.float32)
    assert torch.equal(kept.logits(before), kept.written_logits(before))
    assert torch.equal(kept.logits(before), model.logits(before))


def test_report_judges_the_rounded_model_against_the_dense_one(tmp_path: Path) -> None:
    recipe = {"sparsity": 0.1, "method": "magnitude", "ignore": ["*.mlp.*"]}
    report = make(tmp_path, recipe, Output(format="sparse-packed", embeddings="int8"))
    result = report.results[0]
    source = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert np.log(result.dense.value) == pytest.approx(cross_entropy(source, tmp_path), abs=1e-6)
    assert np.log(result.compressed.value) == pytest.approx(cross_entropy(load(tmp_path / "out"), tmp_path), abs=1e-6)
    assert [row.name for row in report.coverage if row.reason and "8 bits" in row.reason] == ["model.embed_tokens"]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
@torch.inference_mode()
def test_parts_of_the_vocabulary_are_predicted_as_in_the_whole(family: str, tmp_path: Path) -> None:
    model = StreamedModel(Checkpoint(tiny_models.save(tmp_path / "model", family)), torch.device("cpu"), torch.float32)
    hidden = model.enter(torch.arange(8)[None])[0]
    whole = model.logits(hidden)
    parts = [model.logits(hidden, slice(begin, begin + 100)) for begin in range(0, tiny_models.VOCABULARY, 100)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(model.logits(hidden), whole), "the head is whole again"
    with model.as_written():
        torch.testing.assert_close(model.written_logits(hidden, slice(3, 7)), whole[..., 3:7], rtol=1e-5, atol=1e-6)
