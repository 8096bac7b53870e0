"""Scores of windows against plain torch on full logits."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compression import evaluation
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


def score(ids: Tensor, dense: Tensor, compressed: Tensor, head: Tensor) -> WindowScore:
    return score_window(ids, dense, compressed, lambda hidden, part: hidden @ head[part].T, VOCABULARY)


@pytest.fixture
def in_tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Has scores worked out with so many tokens and so much of the vocabulary at once."""

    def cut(tokens: int, vocabulary: int) -> None:
        monkeypatch.setattr(evaluation, "CHUNK_TOKENS", tokens)
        monkeypatch.setattr(evaluation, "CHUNK_LOGITS", tokens * vocabulary)

    return cut


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


@pytest.mark.parametrize(
    ("tokens", "vocabulary"), [(1, 1), (2, 7), (7, 2), (LENGTH - 2, VOCABULARY), (LENGTH, VOCABULARY - 1)]
)
def test_tiles_change_nothing(tokens: int, vocabulary: int, in_tiles: Callable[[int, int], None]) -> None:
    ids, dense, compressed, head = window()
    whole = score(ids, dense, compressed, head)
    in_tiles(tokens, vocabulary)
    cut = score(ids, dense, compressed, head)
    for name in ("dense", "compressed", "kl"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), rel=1e-6)  # the head's products are float32
    assert cut.agreement == whole.agreement
    torch.testing.assert_close(cut.kl_N, whole.kl_N, rtol=1e-5, atol=1e-6)
    assert [(token.position, token.dense_choice, token.compressed_choice) for token in cut.worst] == [
        (token.position, token.dense_choice, token.compressed_choice) for token in whole.worst
    ]


def test_no_more_logits_exist_than_fit(in_tiles: Callable[[int, int], None]) -> None:
    ids, dense, compressed, head = window()
    seen: list[tuple[int, int]] = []

    def watched(hidden: Tensor, part: slice) -> Tensor:
        seen.append((hidden.shape[1], part.stop - part.start))
        return hidden @ head[part].T

    in_tiles(30, 20)  # of the 39 that predict something, and of 30
    score_window(ids, dense, compressed, watched, VOCABULARY)
    assert seen == [(30, 20), (30, 20), (30, 10), (30, 10), (9, 30), (9, 30)]


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


def test_each_token_is_scored_as_plain_torch_scores_it(in_tiles: Callable[[int, int], None]) -> None:
    ids, dense, compressed, head = window()
    P, Q = ((hidden[0, :-1].double() @ head.double().T).log_softmax(-1) for hidden in (dense, compressed))
    kl_N = (P.exp() * (P - Q)).sum(-1)
    places = torch.arange(LENGTH - 1)
    losses_N, compressed_N = -P[places, ids[1:]], -Q[places, ids[1:]]
    worst = sorted(range(LENGTH - 1), key=lambda n: float(losses_N[n] - compressed_N[n]))[:WORST_IN_WINDOW]
    for size in (LENGTH, 7):
        in_tiles(size, 11)
        found = score(ids, dense, compressed, head)
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
        lambda places, part: dense[0, places] @ head[part].T,
        lambda places, part: compressed[0, places] @ other[part].T,
        VOCABULARY,
    )
    assert found.dense == score(ids, dense, compressed, head).dense
    assert found.compressed == score(ids, dense, compressed, other).compressed


@pytest.mark.parametrize("tokens", [LENGTH, 5])
def test_model_alone_has_the_loss_that_it_has_in_company(tokens: int, in_tiles: Callable[[int, int], None]) -> None:
    ids, dense, compressed, head = window()
    in_tiles(tokens, 11)
    alone = loss_of_window(ids, lambda places, part: (dense[:, places] @ head[part].T)[0], VOCABULARY)
    assert alone == score(ids, dense, compressed, head).dense


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 1])
def test_token_that_both_rule_out_adds_nothing(vocabulary: int, in_tiles: Callable[[int, int], None]) -> None:
    ids, dense, compressed, head = window()
    ids = ids.clamp(1, VOCABULARY - 2)
    padding = torch.zeros(VOCABULARY)
    padding[0] = padding[-1] = -torch.inf
    without = score_window(ids - 1, dense, compressed, lambda hidden, part: hidden @ head[1:-1][part].T, VOCABULARY - 2)
    in_tiles(LENGTH, vocabulary)
    with_padding = score_window(ids, dense, compressed, lambda hidden, part: hidden @ head[part].T + padding[part], VOCABULARY)
    assert with_padding.kl == pytest.approx(without.kl, rel=1e-6)
    assert with_padding.dense == pytest.approx(without.dense, rel=1e-6)


def test_token_that_the_compressed_model_alone_rules_out_is_refused() -> None:
    ids, dense, compressed, head = window()
    padding = torch.zeros(VOCABULARY)
    padding[3] = -torch.inf
    ids = ids.clamp(min=4)
    with pytest.raises(NumericalError, match="the compressed model's predictions"):
        compare_window(
            ids,
            lambda places, part: dense[0, places] @ head[part].T,
            lambda places, part: compressed[0, places] @ head[part].T + padding[part],
            VOCABULARY,
        )


@pytest.mark.parametrize("ruined", ["dense", "compressed"])
def test_predictions_that_are_no_numbers_are_refused(ruined: str) -> None:
    ids, dense, compressed, head = window()
    (dense if ruined == "dense" else compressed)[0, 3, 0] = torch.nan
    with pytest.raises(NumericalError, match=f"the {ruined} model's predictions"):
        score(ids, dense, compressed, head)
    if ruined == "dense":
        with pytest.raises(NumericalError, match="the evaluated model's predictions"):
            loss_of_window(ids, lambda places, part: dense[0, places] @ head[part].T, VOCABULARY)
