"""Products of bfloat16 numbers in float32: exact, on every processor, and the setting goes back to what it was."""

import pytest
import torch

from compression.evaluation import score_window
from compression.hessian import Accumulator
from compression.products import factors_in


def _setting() -> str:
    return str(torch.backends.mkldnn.matmul.fp32_precision)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("tokens", "columns"), [(1, 8), (100, 72), (513, 576)])
def test_hessian_of_bfloat16_inputs_is_exact_to_float32(tokens: int, columns: int) -> None:
    X_NC = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(0))
    accumulator = Accumulator(columns, torch.device("cpu"), torch.bfloat16)
    accumulator.add(X_NC)
    read_NC = X_NC.bfloat16().double()
    expected_CC = 2 / tokens * (read_NC.T @ read_NC)
    error = (accumulator.finish("layer").H_CC - expected_CC).abs().max() / expected_CC.diagonal().max()
    assert error < 5e-6, "rounded sums would be off by 2e-3; processors differ in the order of theirs"


def test_factors_may_be_rounded_and_sums_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    A_RN, B_NC = torch.randn(64, 576, generator=generator), torch.randn(576, 640, generator=generator)
    with factors_in(torch.bfloat16):
        found_RC = A_RN @ B_NC
    exact_RC, rounded_RC = A_RN.double() @ B_NC.double(), A_RN.bfloat16().double() @ B_NC.bfloat16().double()
    nearest = min(float((found_RC - expected_RC).abs().max()) for expected_RC in (exact_RC, rounded_RC))
    assert nearest < 1e-4, "of numbers around 24, it is the one or the other"


def test_setting_goes_back() -> None:
    before = _setting()
    with factors_in(torch.float32):
        assert _setting() == before
    with pytest.raises(ZeroDivisionError), factors_in(torch.bfloat16):
        assert _setting() == "bf16"
        raise ZeroDivisionError
    assert _setting() == before


def test_scores_barely_know_whether_heads_read_rounded_numbers() -> None:
    generator = torch.Generator().manual_seed(2)
    width, vocabulary, length = 64, 512, 128
    head_VD = torch.randn(vocabulary, width, generator=generator) * 0.3
    dense_1LD = torch.randn(1, length, width, generator=generator)
    compressed_1LD = dense_1LD + 0.2 * torch.randn(1, length, width, generator=generator)
    ids_L = torch.randint(vocabulary, (length,), generator=generator)

    def head(hidden: torch.Tensor, part: slice) -> torch.Tensor:
        return hidden @ head_VD[part].T

    exact = score_window(ids_L, dense_1LD, compressed_1LD, head, vocabulary)
    with factors_in(torch.bfloat16):
        rounded = score_window(ids_L, dense_1LD, compressed_1LD, head, vocabulary)
    assert rounded.dense == pytest.approx(exact.dense, abs=2e-3)
    assert rounded.compressed == pytest.approx(exact.compressed, abs=2e-3)
    assert rounded.kl == pytest.approx(exact.kl, rel=0.02)
    assert rounded.agreement == pytest.approx(exact.agreement, abs=0.03)
