"""The parts of one matrix in the `sparse-packed` layout: pure functions, weights in, tensors out, and back with every check.

Shapes: R = out_features, C = in_features, G = groups in a row, K = kept weights. docs/formats.md has the layout bit by bit.
A mask is written where it saves space, so that a matrix takes the fewest bytes of the two.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.finite import all_finite
from compression.formats.packing import pack, unpack, word_count
from compression.options import BITS, Bits, code_bits, top_code
from compression.weights import KINDS, DenseWeights, GridWeights, Weights

Parts = dict[str, Tensor]
TERNARY = 0  # how `bits` says it
BYTE_BITS = 8


def pack_parts(weights: Weights, storage_dtype: torch.dtype) -> Parts:
    """The tensors of a matrix, by last name: `weight` alone where it is stored plainly, else `weight.KIND.PART`."""
    if isinstance(weights, DenseWeights):
        W_RC = weights.W_RC.to(storage_dtype)
        parts = _pack_dense(W_RC)
        if parts is None:
            return {"weight": W_RC.contiguous()}
    else:
        parts = _pack_grid(weights) if isinstance(weights, GridWeights) else weights.tensors()
    return {f"weight.{weights.kind}.{part}": tensor.contiguous() for part, tensor in parts.items()}


def unpack_parts(kind: str, parts: Mapping[str, Tensor], shape: tuple[int, int], where: str) -> Tensor:
    """Values (R, C) of a matrix.

    Args:
        parts: by their last name.
        where: file and matrix, for the reason of a refusal.
    Raises: UnsupportedModel: a part is missing, of another dtype or shape, or disagrees with another.
    """
    if kind not in KINDS:
        raise UnsupportedModel(f"{where}: weights of the kind {kind!r} are unknown; known are {', '.join(KINDS)}")
    read: Callable[[_Parts], Tensor] = {"dense": _unpack_dense, "grid": _unpack_grid}.get(kind, lambda p: _other(kind, p))
    values_RC = read(_Parts(parts, shape, f"{where} ({kind})"))
    if tuple(values_RC.shape) != shape:
        raise UnsupportedModel(f"{where}: holds a matrix of {tuple(values_RC.shape)}, its config says {shape}")
    return values_RC


def _pack_dense(W_RC: Tensor) -> Parts | None:
    """Mask and kept values, or None where the plain matrix is no larger."""
    kept_RC = W_RC != 0
    mask = pack_mask(kept_RC)
    saved_bytes = int((~kept_RC).sum()) * W_RC.element_size()
    return {"mask": mask, "values": W_RC[kept_RC]} if saved_bytes > mask.numel() else None


def _pack_grid(weights: GridWeights) -> Parts:
    bits = code_bits(weights.bits)
    parts = {
        "bits": torch.tensor([TERNARY if weights.bits == "ternary" else weights.bits], dtype=torch.int32),
        "scale": weights.scale_RG.to(torch.float16),
    }
    codes = weights.codes_RC.flatten()
    if weights.offset == "minimum":
        parts["minimum"] = weights.minimum_RG().to(torch.float16)
    else:
        zero_RG = weights.zero_RG.to(torch.uint8)
        if bool((zero_RG != middle_code(weights.bits)).any()):
            parts["zero_point"] = pack(zero_RG.flatten(), bits, 0)
        kept_RC = weights.codes_RC != zero_RG[:, weights.group_C.long()]
        mask = pack_mask(kept_RC)
        if int((~kept_RC).sum()) * bits > mask.numel() * BYTE_BITS:
            parts["mask"], codes = mask, weights.codes_RC[kept_RC]
    if not weights.is_in_order:
        parts["group"] = weights.group_C.to(torch.int32)
    return parts | {"codes": pack(codes, bits, 0)}


def middle_code(bits: Bits) -> int:
    """The zero point of symmetric grids, which need not store it."""
    return (top_code(bits) + 1) // 2


def pack_mask(kept_RC: Tensor) -> Tensor:
    """uint8 (R, ceil(C / 8)): bit j mod 8 of byte j // 8 says whether the weight in column j is kept."""
    padding = -kept_RC.shape[1] % BYTE_BITS
    bits = torch.nn.functional.pad(kept_RC.to(torch.uint8), (0, padding)).unflatten(1, (-1, BYTE_BITS))
    shifts = torch.arange(BYTE_BITS, dtype=torch.uint8, device=kept_RC.device)
    return torch.sum(bits << shifts, dim=-1, dtype=torch.uint8)


def unpack_mask(mask: Tensor, columns: int) -> tuple[Tensor, bool]:
    """bool (R, C), and whether the idle bits at the end of the rows are 0, as they must be."""
    shifts = torch.arange(BYTE_BITS, dtype=torch.uint8, device=mask.device)
    bits = (mask[..., None] >> shifts & 1).flatten(1).bool()
    return bits[:, :columns], not bool(bits[:, columns:].any())


class _Parts:
    """The parts of one matrix, each checked when it is asked for."""

    def __init__(self, parts: Mapping[str, Tensor], shape: tuple[int, int], where: str) -> None:
        self.parts, self.shape, self.where = parts, shape, where

    def refuse(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.where}: {reason}")

    def get(self, name: str, dtypes: tuple[torch.dtype, ...], shape: tuple[int | None, ...]) -> Tensor:
        """A part that must be there. Args: shape: None where any size will do."""
        if name not in self.parts:
            raise self.refuse(f"the part {name!r} is missing")
        tensor = self.parts[name]
        fits = tensor.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, tensor.shape, strict=True))
        if tensor.dtype not in dtypes or not fits:
            raise self.refuse(f"the part {name!r} is {tensor.dtype} {tuple(tensor.shape)}, not {dtypes[0]} {shape}")
        return tensor

    def mask(self) -> Tensor:
        rows, columns = self.shape
        kept_RC, is_clean = unpack_mask(self.get("mask", (torch.uint8,), (rows, -(-columns // BYTE_BITS))), columns)
        if not is_clean:
            raise self.refuse("the mask has bits set beyond its last column")
        return kept_RC

    def codes(self, name: str, bits: Bits, count: int) -> Tensor:
        words = self.get(name, (torch.int32,), (None,))
        width = code_bits(bits)
        if len(words) != word_count(count, width):
            raise self.refuse(
                f"{count} codes of {width} bits in {name!r} fill {word_count(count, width)} words, not {len(words)}"
            )
        codes = unpack(words, width, count, 0)
        if count and int(codes.max()) > top_code(bits):
            raise self.refuse(f"{name!r} holds the code {int(codes.max())}, and the largest is {top_code(bits)}")
        return codes


def _unpack_dense(parts: _Parts) -> Tensor:
    kept_RC = parts.mask()
    count = int(kept_RC.sum())
    values = parts.get("values", (torch.float16, torch.bfloat16, torch.float32, torch.float64), (None,))
    if len(values) != count:
        raise parts.refuse(f"the mask keeps {count} weights, and there are {len(values)} values")
    if not all_finite(values):
        raise parts.refuse("a value is NaN or infinite")
    W_RC = torch.zeros(parts.shape, dtype=values.dtype)
    W_RC[kept_RC] = values
    return W_RC


def _unpack_grid(parts: _Parts) -> Tensor:
    rows, columns = parts.shape
    bits = _bits(parts)
    scale_RG = parts.get("scale", (torch.float16,), (rows, None)).float()
    groups = scale_RG.shape[1]
    if not bool((torch.isfinite(scale_RG) & (scale_RG > 0)).all()):
        raise parts.refuse("a scale is not a positive number")
    group_C = _group(parts, groups)
    if "minimum" in parts.parts:
        minimum_RG = parts.get("minimum", (torch.float16,), (rows, groups)).float()
        if not torch.isfinite(minimum_RG).all():
            raise parts.refuse("a minimum is NaN or infinite")
        codes_RC = parts.codes("codes", bits, rows * columns).view(rows, columns).float()
        return scale_RG[:, group_C] * codes_RC + minimum_RG[:, group_C]
    zero_RG = torch.full((rows, groups), middle_code(bits), dtype=torch.uint8)
    if "zero_point" in parts.parts:
        zero_RG = parts.codes("zero_point", bits, rows * groups).view(rows, groups)
    zero_RC = zero_RG[:, group_C]
    kept_RC = parts.mask() if "mask" in parts.parts else torch.ones(parts.shape, dtype=torch.bool)
    codes_RC = zero_RC.clone()
    codes_RC[kept_RC] = parts.codes("codes", bits, int(kept_RC.sum()))
    return scale_RG[:, group_C] * (codes_RC.float() - zero_RC.float())


def _bits(parts: _Parts) -> Bits:
    number = int(parts.get("bits", (torch.int32,), (1,))[0])
    if number != TERNARY and number not in BITS:
        raise parts.refuse(f"codes of {number} bits are unknown")
    return next((bits for bits in BITS if bits == number), "ternary")


def _group(parts: _Parts, groups: int) -> Tensor:
    columns = parts.shape[1]
    if "group" in parts.parts:
        group_C = parts.get("group", (torch.int32,), (columns,)).long()
        if not bool(((group_C >= 0) & (group_C < groups)).all()):
            raise parts.refuse(f"a column names a group beyond the {groups} there are")
        return group_C
    if groups < 1 or columns % groups:
        raise parts.refuse(f"{groups} groups do not divide {columns} columns")
    return torch.arange(columns) // (columns // groups)


def _other(kind: str, parts: _Parts) -> Tensor:
    """A kind that is stored as it is."""
    try:
        return KINDS[kind].from_tensors(parts.parts).to_dense()
    except (KeyError, ValueError, IndexError, RuntimeError, TypeError) as error:
        raise parts.refuse(f"its parts do not fit together ({error})") from error
