"""GGUF's tensor types, as bytes: pure functions. Shapes: R = rows, C = columns, G = groups of 32 in a row.

A block is 32 neighbours of a row. d and m are float16, codes 4 bit or int8, numbers little endian:
  Q4_0 (18 bytes): d, then byte j holds code j in its low and code j + 16 in its high half; value = d * (code - 8)
  Q4_1 (20 bytes): d, m, then codes as above; value = d * code + m
  Q8_0 (34 bytes): d, then 32 int8; value = d * int8
Source: ggml's block_q4_0, block_q4_1 and block_q8_0.
"""

import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from compression.formats.rules_gguf import BLOCK
from compression.weights import DenseWeights, GridWeights, Weights

PLAIN_TYPES = {torch.float32: Type.F32, torch.float16: Type.F16, torch.bfloat16: Type.BF16}
PLAIN_DTYPES = {kind: dtype for dtype, kind in PLAIN_TYPES.items()}
BLOCK_BYTES = {Type.Q4_0: 18, Type.Q4_1: 20, Type.Q8_0: 34}
MIDDLE = {Type.Q4_0: 8, Type.Q8_0: 128}  # our code of zero


def type_of(weights: Weights, storage_dtype: torch.dtype) -> Type | None:
    """The type that holds these weights exactly; None: there is none."""
    if isinstance(weights, DenseWeights):
        return PLAIN_TYPES.get(storage_dtype)
    if not isinstance(weights, GridWeights) or weights.group_size != BLOCK or not weights.is_in_order:
        return None
    if weights.offset == "minimum":
        return Type.Q4_1 if weights.bits == 4 else None
    kind = {4: Type.Q4_0, 8: Type.Q8_0}.get(weights.bits) if isinstance(weights.bits, int) else None
    return kind if kind is not None and bool((weights.zero_RG == MIDDLE[kind]).all()) else None


def encode(weights: Weights, kind: Type, storage_dtype: torch.dtype) -> Tensor:
    """The bytes of a matrix, uint8 (R, bytes of a row). Args: kind: of `type_of`; codes and scales go in as they are."""
    if isinstance(weights, DenseWeights):
        return plain(weights.W_RC.to(storage_dtype))
    assert isinstance(weights, GridWeights)
    codes_RGB = weights.codes_RC.unflatten(1, (-1, BLOCK))
    parts = [_float16(weights.scale_RG)]
    if kind == Type.Q8_0:
        parts.append((codes_RGB.to(torch.int16) - MIDDLE[kind]).to(torch.int8).view(torch.uint8))
    else:
        if kind == Type.Q4_1:
            parts.append(_float16(weights.minimum_RG()))
        low, high = codes_RGB.split(BLOCK // 2, dim=-1)
        parts.append(low | high << 4)
    return torch.cat(parts, dim=-1).flatten(1)


def decode(data: Tensor, kind: Type) -> Tensor:
    """Values of stored bytes. Args: data: uint8 (..., bytes of a row). Returns: the plain dtype, or float32 of blocks."""
    if kind in PLAIN_DTYPES:
        return data.contiguous().view(PLAIN_DTYPES[kind])
    blocks = data.unflatten(-1, (-1, BLOCK_BYTES[kind]))
    values = _float16_at(blocks, 0) * _codes(blocks, kind)
    return torch.flatten(values + _float16_at(blocks, 2) if kind == Type.Q4_1 else values, -2)


def _codes(blocks: Tensor, kind: Type) -> Tensor:
    """What d is multiplied by, float32 (..., G, 32)."""
    if kind == Type.Q8_0:
        return blocks[..., 2:].contiguous().view(torch.int8).float()
    halves = blocks[..., -BLOCK // 2 :]
    codes = torch.cat([halves & 15, halves >> 4], dim=-1).float()
    return codes - MIDDLE[kind] if kind == Type.Q4_0 else codes


def _float16_at(blocks: Tensor, first: int) -> Tensor:
    """The float16 that begins at a byte of each block, as float32 (..., G, 1)."""
    return blocks[..., first : first + 2].contiguous().view(torch.float16).float()


def plain(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, uint8, the last dimension in bytes."""
    return tensor.contiguous().view(torch.uint8)


def row_bytes(columns: int, kind: Type) -> int:
    """Bytes of a row of so many columns."""
    return columns // BLOCK * BLOCK_BYTES[kind] if kind in BLOCK_BYTES else columns * PLAIN_DTYPES[kind].itemsize


def _float16(values_RG: Tensor) -> Tensor:
    """Bytes (R, G, 2) of values that float16 holds exactly."""
    halves = values_RG.to(torch.float16)
    assert torch.equal(halves.to(values_RG.dtype), values_RG), "scales and minima are rounded before the solve"
    return halves[..., None].contiguous().view(torch.uint8)
