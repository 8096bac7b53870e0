"""One number for how far a changed model is, against the evaluation that tells everything."""

from pathlib import Path

import pytest
import torch

from compression import divergence
from compression.divergence import Divergence
from compression.errors import NumericalError
from compression.models.activations import Stream
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.scoring import score
from tests import tiny_models

CPU = torch.device("cpu")
WINDOWS, LENGTH = 3, 20


def model_and_states(folder: Path, family: str) -> tuple[StreamedModel, Stream, Stream]:
    model = StreamedModel(Checkpoint(tiny_models.save(folder / family, family)), CPU, torch.float32)
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(WINDOWS, LENGTH, 32, generator=generator)
    changed = dense + 0.1 * torch.randn(dense.shape, generator=generator)
    return model, Stream.of(dense, CPU), Stream.of(changed, CPU)


@torch.inference_mode()
@pytest.mark.parametrize("remembered_bytes", [0, 2**30], ids=["anew", "remembered"])
@pytest.mark.parametrize("chunk_logits", [2**8, 7 * 2**8, 2**22])
def test_divergence_of_a_language_model_is_the_mean_kl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_logits: int, remembered_bytes: int
) -> None:
    monkeypatch.setattr(divergence, "CHUNK_LOGITS", chunk_logits)
    monkeypatch.setattr(divergence, "REMEMBERED_BYTES", remembered_bytes)
    model, dense, changed = model_and_states(tmp_path, "llama")
    logits = [torch.cat([model.logits(stream[w])[0] for w in range(WINDOWS)]).double() for stream in (dense, changed)]
    p, q = (one.log_softmax(-1) for one in logits)
    expected = float((p.exp() * (p - q)).sum(-1).mean())
    judge = Divergence(model, dense, torch.float32)
    assert judge.of(changed) == pytest.approx(expected, rel=1e-4, abs=2e-7)  # of the rounding of two logarithms of about 5
    assert judge.of(changed) == judge.of(changed)
    assert judge.of(dense) == pytest.approx(0, abs=1e-6)


@torch.inference_mode()
def test_divergence_of_an_encoder_is_its_relative_error(tmp_path: Path) -> None:
    model, dense, changed = model_and_states(tmp_path, "bert")
    ids_WL = torch.zeros(WINDOWS, LENGTH, dtype=torch.long)
    errors = [error.relative_error for error in score(model, ids_WL, dense, changed, []).errors]
    assert Divergence(model, dense, torch.float32).of(changed) == pytest.approx(sum(errors) / WINDOWS)


@torch.inference_mode()
def test_token_that_both_rule_out_adds_nothing_and_one_that_only_the_changed_does_is_far(tmp_path: Path) -> None:
    model, dense, changed = model_and_states(tmp_path, "llama-untied")
    bias = torch.zeros(tiny_models.VOCABULARY)
    original = model.logits

    def ruling_out(hidden_1LD: torch.Tensor, part: slice | None = None) -> torch.Tensor:
        return original(hidden_1LD, part) + bias[part or slice(None)]

    model.logits = ruling_out  # type: ignore[method-assign]
    bias[7] = -torch.inf
    assert 0 < Divergence(model, dense, torch.float32).of(changed) < 1
    bias[7] = 0
    judge = Divergence(model, dense, torch.float32)
    judge.of(dense)  # what the dense model says is known now
    bias[7] = -torch.inf
    assert judge.of(changed) > 1e20


@torch.inference_mode()
def test_predictions_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    model, dense, _ = model_and_states(tmp_path, "llama")
    broken = Stream.of(torch.full((WINDOWS, LENGTH, 32), torch.nan), CPU)
    with pytest.raises(NumericalError, match="not finite"):
        Divergence(model, dense, torch.float32).of(broken)
