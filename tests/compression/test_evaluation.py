"""Scores of windows against plain torch on full logits."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compression.budgets import CHUNK_LOGITS
from compression.errors import NumericalError
from compression.evaluation import (
    WORST_IN_WINDOW,
    WindowScore,
    compare_window,
    loss_of_window,
    score_window,
)
from tests.compression.problems import seeded

LENGTH, WIDTH, VOCABULARY = 40, 12, 30


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


def test_each_token_is_scored_as_plain_torch_scores_it() -> None:
    ids, dense, compressed, head = window()
    P, Q = ((hidden[0, :-1].double() @ head.double().T).log_softmax(-1) for hidden in (dense, compressed))
    kl_N = (P.exp() * (P - Q)).sum(-1)
    places = torch.arange(LENGTH - 1)
    losses_N, compressed_N = -P[places, ids[1:]], -Q[places, ids[1:]]
    worst = sorted(range(LENGTH - 1), key=lambda n: float(losses_N[n] - compressed_N[n]))[:WORST_IN_WINDOW]
    for size in (LENGTH, 7):
        found = score(ids, dense, compressed, head, chunk=size)
        torch.testing.assert_close(found.kl_N.double(), kl_N, rtol=1e-5, atol=1e-6)
        assert found.kl_N.dtype == torch.float32
        assert [token.position for token in found.worst] == [n + 1 for n in worst]
        for token, n in zip(found.worst, worst, strict=True):
            assert (token.dense, token.compressed, token.kl) == pytest.approx(
                (float(losses_N[n]), float(compressed_N[n]), float(kl_N[n])), rel=1e-4
            )
            assert (token.dense_choice, token.compressed_choice) == (int(P[n].argmax()), int(Q[n].argmax()))


def test_models_may_have_heads_of_their_own() -> None:
    ids, dense, compressed, head = window()
    other = 2 * head
    found = compare_window(
        ids,
        lambda first, last: dense[0, first:last] @ head.T,
        lambda first, last: compressed[0, first:last] @ other.T,
        VOCABULARY,
    )
    assert found.dense == score(ids, dense, compressed, head).dense
    assert found.compressed == score(ids, dense, compressed, other).compressed


@pytest.mark.parametrize("chunk", [LENGTH, 5])
def test_model_alone_has_the_loss_that_it_has_in_company(chunk: int) -> None:
    ids, dense, compressed, head = window()
    alone = loss_of_window(ids, lambda first, last: dense[0, first:last] @ head.T, CHUNK_LOGITS // chunk)
    assert alone == score(ids, dense, compressed, head, chunk=chunk).dense


def test_token_that_both_rule_out_adds_nothing() -> None:
    ids, dense, compressed, head = window()
    ids = ids.clamp(max=VOCABULARY - 2)
    padding = torch.zeros(VOCABULARY)
    padding[-1] = -torch.inf
    with_padding, without = (
        score_window(ids, dense, compressed, head_of, VOCABULARY)
        for head_of in (lambda hidden: hidden @ head.T + padding, lambda hidden: hidden @ head[:-1].T)
    )
    assert with_padding.kl == pytest.approx(without.kl, rel=1e-6)
    assert with_padding.dense == pytest.approx(without.dense, rel=1e-6)


@pytest.mark.parametrize("ruined", ["dense", "compressed"])
def test_predictions_that_are_no_numbers_are_refused(ruined: str) -> None:
    ids, dense, compressed, head = window()
    (dense if ruined == "dense" else compressed)[0, 3, 0] = torch.nan
    with pytest.raises(NumericalError, match=f"the {ruined} model's predictions"):
        score(ids, dense, compressed, head)
    if ruined == "dense":
        with pytest.raises(NumericalError, match="the evaluated model's predictions"):
            loss_of_window(ids, lambda first, last: dense[0, first:last] @ head.T, VOCABULARY)
