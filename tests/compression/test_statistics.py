"""Summaries of window scores against numpy."""

import math

import numpy as np
import pytest
import torch

from compression.evaluation import TokenChange, WindowScore
from compression.report import TextSet
from compression.statistics import CONTEXT_TOKENS, quantile, summarise, worst_tokens
from tests import tiny_models
from tests.compression.problems import seeded

LENGTH = 40
TEXT = TextSet(source="text", windows=3, seqlen=LENGTH, tokens=3 * LENGTH, digest="0")
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


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000])
def test_tail_is_the_nearest_rank_of_all_tokens(count: int) -> None:
    values = torch.rand(count, generator=seeded(count))
    found = quantile(values, 0.99)
    assert found == float(np.quantile(values.numpy(), 0.99, method="inverted_cdf"))
    assert (values <= found).sum() >= 0.99 * count > (values < found).sum()


def test_tail_is_taken_over_the_tokens_of_all_windows() -> None:
    windows = [torch.zeros(60), torch.cat([torch.zeros(38), torch.tensor([5.0, 7.0])])]
    scores = [WindowScore(1.0, 1.0, float(kl.mean()), 1.0, kl) for kl in windows]
    assert summarise(TEXT, scores).kl_p99 == 5.0
    assert summarise(TEXT, scores[:1]).kl_p99 == 0.0


def change(position: int, increase: float) -> TokenChange:
    return TokenChange(position, 1.0, 1.0 + increase, 0.5, dense_choice=ord("d") - 33, compressed_choice=ord("c") - 33)


def test_worst_tokens_of_a_text_are_the_worst_of_its_windows_decoded() -> None:
    tokenizer = tiny_models.byte_tokenizer()
    words = tiny_models.text(2 * LENGTH)
    ids_WL = torch.tensor(tokenizer(words)["input_ids"]).view(2, LENGTH)
    first = WindowScore(1.0, 1.0, 0.1, 0.5, worst=(change(3, 4.0), change(39, 1.0)))
    second = WindowScore(1.0, 1.0, 0.1, 0.5, worst=(change(30, 6.0), change(1, 1.0)))
    found = worst_tokens([first, second], ids_WL, tokenizer, count=3)
    assert [(token.window, token.position) for token in found] == [(1, 30), (0, 3), (0, 39)]
    assert [token.compressed_loss - token.dense_loss for token in found] == [6.0, 4.0, 1.0]
    assert found[0].context == words[LENGTH + 30 - CONTEXT_TOKENS : LENGTH + 30]
    assert found[0].token == words[LENGTH + 30]
    assert (found[1].context, found[1].token) == (words[:3], words[3])
    assert found[0].dense_choice == tokenizer.decode([ord("d") - 33])
