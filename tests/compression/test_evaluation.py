"""Scores of windows against plain torch on full logits, and their summary against numpy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compression.evaluation import CHUNK_LOGITS, WindowScore, score_window, summarise
from compression.report import TextSet
from tests.compression.problems import seeded

LENGTH, WIDTH, VOCABULARY = 40, 12, 30
TEXT = TextSet(source="text", windows=3, seqlen=LENGTH, tokens=3 * LENGTH, digest="0")


def window(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids, hidden states of two alike models, and the head's weights."""
    generator = seeded(seed)
    dense = torch.randn(1, LENGTH, WIDTH, generator=generator)
    compressed = dense + 0.3 * torch.randn(1, LENGTH, WIDTH, generator=generator)
    ids = torch.randint(VOCABULARY, (LENGTH,), generator=generator)
    return ids, dense, compressed, torch.randn(VOCABULARY, WIDTH, generator=generator)


def score(ids: Tensor, dense: Tensor, compressed: Tensor, head: Tensor, *, chunk: int = LENGTH) -> WindowScore:
    """Args: chunk: tokens scored at once."""
    return score_window(ids, dense, compressed, lambda hidden: hidden @ head.T, CHUNK_LOGITS // chunk)


def test_scores_are_those_of_plain_torch_on_full_logits() -> None:
    ids, dense, compressed, head = window()
    found = score(ids, dense, compressed, head)
    P, Q = (hidden[0, :-1].double() @ head.double().T for hidden in (dense, compressed))
    kl = functional.kl_div(Q.log_softmax(-1), P.log_softmax(-1), log_target=True, reduction="batchmean")
    # The heads run in float32: 1e-6 of numbers around one.
    assert found.dense == pytest.approx(float(functional.cross_entropy(P, ids[1:])), rel=1e-6)
    assert found.compressed == pytest.approx(float(functional.cross_entropy(Q, ids[1:])), rel=1e-6)
    assert found.kl == pytest.approx(float(kl), rel=1e-5)
    assert found.agreement == float((P.argmax(-1) == Q.argmax(-1)).sum()) / (LENGTH - 1)
    assert found.kl > 0
    assert 0.2 < found.agreement < 1


@pytest.mark.parametrize("chunk", [1, 2, 7, LENGTH - 2, LENGTH - 1])
def test_chunks_change_nothing(chunk: int) -> None:
    ids, dense, compressed, head = window()
    whole, cut = (score(ids, dense, compressed, head, chunk=size) for size in (LENGTH, chunk))
    for name in ("dense", "compressed", "kl"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), rel=1e-6)  # the head's products are float32
    assert cut.agreement == whole.agreement


def test_head_never_sees_more_tokens_than_fit() -> None:
    ids, dense, compressed, head = window()
    seen: list[int] = []

    def watched(hidden: Tensor) -> Tensor:
        seen.append(hidden.shape[1])
        return hidden @ head.T

    score_window(ids, dense, compressed, watched, CHUNK_LOGITS // 16)
    assert seen == [16, 16, 16, 16, 7, 7]


def test_vocabulary_larger_than_a_chunk_is_scored_token_by_token() -> None:
    ids, dense, compressed, head = window()
    found = score_window(ids, dense, compressed, lambda hidden: hidden @ head.T, 2 * CHUNK_LOGITS)
    assert found.kl == pytest.approx(score(ids, dense, compressed, head).kl, rel=1e-6)


def test_last_hidden_state_predicts_nothing_and_the_first_token_is_not_predicted() -> None:
    ids, dense, compressed, head = window()
    before = score(ids, dense, compressed, head)
    dense[:, -1] = compressed[:, -1] = 1e6
    ids[0] = (ids[0] + 1) % VOCABULARY
    assert score(ids, dense, compressed, head) == before


def test_equal_models_differ_in_nothing() -> None:
    ids, dense, _, head = window()
    found = score(ids, dense, dense.clone(), head)
    assert found.dense == found.compressed
    assert found.kl == 0
    assert found.agreement == 1


def test_uniform_predictions_cost_the_log_of_the_vocabulary() -> None:
    ids, dense, compressed, head = window()
    found = score(ids, dense, compressed, torch.zeros_like(head))
    assert found.dense == found.compressed == pytest.approx(math.log(VOCABULARY), rel=1e-6)
    assert found.kl == 0


def test_half_precision_logits_are_scored_in_float32() -> None:
    ids, dense, compressed, head = window()
    half = score(ids, dense.bfloat16(), compressed.bfloat16(), head.bfloat16())
    P = (dense.bfloat16()[0, :-1] @ head.bfloat16().T).double()
    assert half.dense == pytest.approx(float(functional.cross_entropy(P, ids[1:])), rel=1e-5)


SCORES = [WindowScore(3.0, 3.2, 0.10, 0.8), WindowScore(3.5, 3.6, 0.20, 0.9), WindowScore(2.5, 2.9, 0.15, 0.7)]


def test_summary_is_the_mean_over_windows_with_standard_errors() -> None:
    found = summarise(TEXT, SCORES)
    dense, compressed = np.array([s.dense for s in SCORES]), np.array([s.compressed for s in SCORES])

    def error(values: np.ndarray) -> float:
        return float(values.std(ddof=1) / math.sqrt(len(values)))

    assert found.text == TEXT
    assert found.dense.value == pytest.approx(math.exp(dense.mean()))
    assert found.dense.standard_error == pytest.approx(math.exp(dense.mean()) * error(dense))
    assert found.compressed.value == pytest.approx(math.exp(compressed.mean()))
    assert found.compressed.standard_error == pytest.approx(math.exp(compressed.mean()) * error(compressed))
    assert found.log_ratio == pytest.approx((compressed - dense).mean())
    assert found.log_ratio_standard_error == pytest.approx(error(compressed - dense))
    assert found.ratio == pytest.approx(found.compressed.value / found.dense.value)
    assert found.kl == pytest.approx(0.15)
    assert found.kl_standard_error == pytest.approx(error(np.array([0.10, 0.20, 0.15])))
    assert found.top1_agreement == pytest.approx(0.8)
    assert found.top1_agreement_standard_error == pytest.approx(error(np.array([0.8, 0.9, 0.7])))


def test_error_of_the_ratio_is_that_of_paired_windows() -> None:
    constant = [WindowScore(dense, dense + 0.25, 0.0, 1.0) for dense in (1.0, 4.0, 2.0, 3.0)]
    found = summarise(TEXT, constant)
    assert found.log_ratio == 0.25
    assert found.log_ratio_standard_error == 0
    assert found.dense.standard_error is not None and found.dense.standard_error > 1


def test_single_window_has_no_standard_error() -> None:
    found = summarise(TEXT, SCORES[:1])
    assert found.dense.value == pytest.approx(math.exp(3.0))
    assert found.dense.standard_error is None
    assert found.compressed.standard_error is None
    assert found.log_ratio_standard_error is None
    assert found.kl_standard_error is None
    assert found.top1_agreement_standard_error is None


def test_ruined_model_gives_a_huge_figure_and_no_overflow() -> None:
    found = summarise(TEXT, [WindowScore(3.0, 1e6, 1e6, 0.0)])
    assert 1e300 < found.compressed.value < math.inf
    assert 1e300 < found.ratio < math.inf
    assert found.log_ratio == pytest.approx(1e6 - 3)
