"""GGUF's tensor types against the reference package: the bytes that it reads are the values that were solved."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compression import grids
from compression.formats.gguf_blocks import decode, encode, plain, row_bytes, type_of
from compression.formats.rules_gguf import BLOCK
from compression.options import Bits, Offset
from compression.weights import DenseWeights, GridWeights, Weights

GRIDS: dict[Type, tuple[Bits, bool, Offset]] = {
    Type.Q4_0: (4, True, "zero_point"),
    Type.Q4_1: (4, False, "minimum"),
    Type.Q8_0: (8, True, "zero_point"),
}


def on_grid(W_RC: Tensor, kind: Type, scale_dtype: torch.dtype = torch.float16, size: int = BLOCK) -> GridWeights:
    bits, symmetric, offset = GRIDS[kind]
    W_RGS = W_RC.unflatten(1, (-1, size))
    scale_RG, zero_RG = grids.fit(W_RGS, bits, symmetric=symmetric, search=False, scale_dtype=scale_dtype, offset=offset)
    codes_RGS = grids.quantize(W_RGS, scale_RG[..., None], zero_RG[..., None], bits, offset)
    group_C = torch.arange(W_RC.shape[1], dtype=torch.int32) // size
    return GridWeights(codes_RGS.to(torch.uint8).flatten(1), scale_RG, zero_RG, group_C, bits, offset)


def random_weights(seed: int, rows: int, blocks: int, magnitude: float) -> Tensor:
    return magnitude * torch.randn(rows, blocks * BLOCK, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(GRIDS)),
    seed=st.integers(0, 999),
    rows=st.integers(1, 5),
    blocks=st.integers(1, 4),
    magnitude=st.sampled_from([1e-6, 1e-2, 1.0, 300.0]),
    scale_dtype=st.sampled_from([torch.float16, torch.bfloat16]),
)
def test_reference_reads_the_very_values_that_were_solved(
    kind: Type, seed: int, rows: int, blocks: int, magnitude: float, scale_dtype: torch.dtype
) -> None:
    weights = on_grid(random_weights(seed, rows, blocks, magnitude), kind, scale_dtype)
    assert type_of(weights, torch.float32) == kind
    data = encode(weights, kind, torch.float32)
    assert data.shape == (rows, row_bytes(blocks * BLOCK, kind))
    assert np.array_equal(dequantize(data.numpy(), kind), weights.to_dense().numpy())
    assert torch.equal(decode(data, kind), weights.to_dense())


@pytest.mark.parametrize("kind", sorted(GRIDS), ids=lambda kind: kind.name)
def test_bytes_are_those_that_the_reference_writes_for_the_same_values(kind: Type) -> None:
    """Where the reference's own scale is float16 already, it finds the same scale and the same codes."""
    codes_GB = torch.randint(0, 16, (6, BLOCK), generator=torch.Generator().manual_seed(0))
    if kind == Type.Q8_0:
        codes_GB = torch.randint(1, 256, (6, BLOCK), generator=torch.Generator().manual_seed(0))
        codes_GB[:, 0] = 255  # the reference's scale is max / 127
    else:
        codes_GB[:, 0], codes_GB[:, 1] = 0, 15  # its scale is the widest / -8, or the range / 15
    bits, _, offset = GRIDS[kind]
    scale_GB = torch.tensor([[0.5], [1.0], [2.0], [0.25], [4.0], [8.0]])
    zero_GB = torch.full_like(scale_GB, {Type.Q4_0: 8.0, Type.Q8_0: 128.0}.get(kind, 3.0))
    group_C = torch.zeros(BLOCK, dtype=torch.int32)
    weights = GridWeights(codes_GB.to(torch.uint8), scale_GB, zero_GB, group_C, bits, offset)
    assert np.array_equal(encode(weights, kind, torch.float32).numpy(), quantize(weights.to_dense().numpy(), kind))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.float32, Type.F32), (torch.float16, Type.F16), (torch.bfloat16, Type.BF16)],
    ids=["float32", "float16", "bfloat16"],
)
def test_pruned_weights_keep_the_dtype_that_they_were_evaluated_in(dtype: torch.dtype, kind: Type) -> None:
    weights = DenseWeights(random_weights(0, 3, 2, 1.0).to(dtype))
    assert type_of(weights, dtype) == kind
    data = encode(weights, kind, dtype)
    assert np.array_equal(dequantize(data.numpy(), kind), weights.W_RC.float().numpy())
    assert torch.equal(decode(data, kind), weights.W_RC)
    assert torch.equal(plain(weights.W_RC[0]), data[0])


def altered(kind: Type, **parts: object) -> GridWeights:
    weights = on_grid(random_weights(0, 2, 2, 1.0), kind)
    return GridWeights(**{name: getattr(weights, name) for name in weights.__dataclass_fields__ if name != "kind"} | parts)


@pytest.mark.parametrize(
    "weights",
    [
        altered(Type.Q4_0, zero_RG=torch.full((2, 2), 7.0)),
        altered(Type.Q8_0, bits=6),
        altered(Type.Q4_1, bits=3),
        altered(Type.Q4_0, group_C=torch.arange(2 * BLOCK, dtype=torch.int32) % 2),
        on_grid(random_weights(0, 2, 2, 1.0), Type.Q4_0, size=2 * BLOCK),
        DenseWeights(torch.ones(2, 2, dtype=torch.float64)),
    ],
    ids=["zero point", "6 bits", "3 bits", "scattered groups", "groups of 64", "float64"],
)
def test_what_no_type_holds_exactly_has_none(weights: Weights) -> None:
    assert type_of(weights, torch.float64) is None
