"""Bit packing against reading single bits, against compressed-tensors' own packing, and back again."""

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.formats.packing import pack, unpack
from tests.compression.examples import few, many
from tests.compression.problems import seeded

widths = st.integers(1, 8)
lengths = st.integers(1, 100)


def random_codes(rows: int, columns: int, bits: int, seed: int = 0) -> Tensor:
    return torch.randint(2**bits, (rows, columns), generator=seeded(seed), dtype=torch.uint8)


def bit(words: list[int], position: int) -> int:
    return words[position // 32] >> position % 32 & 1


@many
@given(bits=widths, rows=st.integers(1, 5), columns=lengths, dim=st.sampled_from([0, 1]), seed=st.integers(0, 9))
def test_what_was_packed_comes_back_along_either_dimension(bits: int, rows: int, columns: int, dim: int, seed: int) -> None:
    codes = random_codes(rows, columns, bits, seed)
    words = pack(codes, bits, dim)
    assert words.dtype == torch.int32 and words.is_contiguous()
    assert words.shape[dim] == -(-codes.shape[dim] * bits // 32)
    assert torch.equal(unpack(words, bits, codes.shape[dim], dim), codes)


@few
@given(bits=widths, count=lengths)
def test_bits_of_code_k_lie_from_k_times_b_on_and_the_rest_is_zero(bits: int, count: int) -> None:
    codes = random_codes(1, count, bits)
    words = [word & 0xFFFFFFFF for word in pack(codes, bits, 1)[0].tolist()]
    for k, code in enumerate(codes[0].tolist()):
        assert sum(bit(words, k * bits + b) << b for b in range(bits)) == code
    assert not any(bit(words, position) for position in range(count * bits, 32 * len(words)))


@few
@given(bits=widths, rows=st.integers(1, 40), columns=st.integers(1, 40), dim=st.sampled_from([0, 1]))
def test_words_are_those_of_compressed_tensors(bits: int, rows: int, columns: int, dim: int) -> None:
    codes = random_codes(rows, columns, bits)
    signed = (codes.int() - 2 ** (bits - 1)).to(torch.int8)
    oracle = pack_to_int32(signed, bits, packed_dim=1 if dim == 1 else 0)
    assert torch.equal(pack(codes, bits, dim), oracle)


def test_three_bits_straddle_words_as_gptq_has_them() -> None:
    """Code 10: two bits at the end of word 0, one at the start of word 1; code 21: one bit and two bits."""
    codes = torch.zeros(1, 32, dtype=torch.uint8)
    codes[0, 10] = 0b110
    codes[0, 21] = 0b011
    words = [word & 0xFFFFFFFF for word in pack(codes, 3, 1)[0].tolist()]
    assert words == [0b10 << 30, 0b1 | 0b1 << 31, 0b01]
