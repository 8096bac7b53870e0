"""What a solved matrix consists of, before any file format. Shapes: R = out_features, C = in_features, G = groups in a row.

A kind of weights knows its dense values, its parts as tensors (finished blocks keep those), and how many bits a packed file
needs for it. Formats pack kinds; methods make them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from compression import grids
from compression.options import BITS, Bits, Offset, code_bits
from compression.spqr_weights import SpqrWeights

SCALE_BITS = 16  # a scale is stored as float16 or bfloat16


class Weights(Protocol):
    """One solved matrix, of whatever kind."""

    kind: ClassVar[str]

    def to_dense(self) -> Tensor:
        """Values (R, C)."""

    def tensors(self) -> dict[str, Tensor]:
        """The parts, by name; `from_tensors` is the inverse."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self: ...

    def stored_bits(self) -> int:
        """Bits of everything that a packed file must hold: codes, scales, zero points, indices."""


@dataclass(frozen=True)
class DenseWeights:
    """Weights as they are; a zero is a pruned weight."""

    kind: ClassVar[str] = "dense"
    W_RC: Tensor

    def to_dense(self) -> Tensor:
        return self.W_RC

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.W_RC}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["weight"])

    def split(self, rows: Sequence[int]) -> list[Self]:
        """Matrices on top of each other, as one for each; they own their memory."""
        return [replace(self, W_RC=W_RC.clone()) for W_RC in self.W_RC.split(list(rows))]

    def stored_bits(self) -> int:
        return self.W_RC.numel() * self.W_RC.element_size() * 8


@dataclass(frozen=True)
class GridWeights:
    """Integer codes on a grid, of one of the two forms that `grids` describes.

    Args:
        codes_RC: uint8 (R, C).
        scale_RG, zero_RG: one grid to each group of each row.
        group_C: int32 (C,), the group that a column belongs to.
        bits: codes lie in 0 .. top_code(bits).
    """

    kind: ClassVar[str] = "grid"
    codes_RC: Tensor
    scale_RG: Tensor
    zero_RG: Tensor
    group_C: Tensor
    bits: Bits
    offset: Offset = "zero_point"

    def to_dense(self) -> Tensor:
        index = self.group_C.long()
        codes_RC = self.codes_RC.to(self.scale_RG.dtype)
        return grids.dequantize(codes_RC, self.scale_RG[:, index], self.zero_RG[:, index], self.offset)

    @property
    def group_size(self) -> int:
        """Columns of a group; C where a row is one."""
        return self.codes_RC.shape[1] // self.scale_RG.shape[1]

    @property
    def is_in_order(self) -> bool:
        """Whether groups are runs of consecutive columns in storage order, so that no index needs storing."""
        return torch.equal(
            self.group_C,
            torch.arange(len(self.group_C), dtype=self.group_C.dtype, device=self.group_C.device) // self.group_size,
        )

    def minimum_RG(self) -> Tensor:
        """The value of code 0, of grids in the form `minimum`."""
        return grids.minimum(self.scale_RG, self.zero_RG)

    def tensors(self) -> dict[str, Tensor]:
        form = {"zero_point": self.zero_RG.to(torch.uint8)} if self.offset == "zero_point" else {"zero": self.zero_RG}
        return {
            "codes": self.codes_RC,
            "scale": self.scale_RG,
            "group": self.group_C,
            "bits": torch.tensor(0 if self.bits == "ternary" else self.bits, dtype=torch.int32),
        } | form

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        scale_RG, number = tensors["scale"], int(tensors["bits"])
        width: Bits = next((bits for bits in BITS if bits == number), "ternary")
        if "zero" in tensors:
            return cls(tensors["codes"], scale_RG, tensors["zero"], tensors["group"], width, "minimum")
        return cls(tensors["codes"], scale_RG, tensors["zero_point"].to(scale_RG.dtype), tensors["group"], width)

    def split(self, rows: Sequence[int]) -> "list[GridWeights]":
        """As of `DenseWeights`."""
        each = zip(*(part.split(list(rows)) for part in (self.codes_RC, self.scale_RG, self.zero_RG)), strict=True)
        return [
            GridWeights(codes.clone(), scale.clone(), zero.clone(), self.group_C.clone(), self.bits, self.offset)
            for codes, scale, zero in each
        ]

    def stored_bits(self) -> int:
        zero_bits = SCALE_BITS if self.offset == "minimum" else code_bits(self.bits)
        grid_bits = self.scale_RG.numel() * (SCALE_BITS + zero_bits)
        index_bits = 0 if self.is_in_order else 32 * self.group_C.numel()
        return self.codes_RC.numel() * code_bits(self.bits) + grid_bits + index_bits


KINDS: dict[str, type[Weights]] = {kind.kind: kind for kind in (DenseWeights, GridWeights, SpqrWeights)}
