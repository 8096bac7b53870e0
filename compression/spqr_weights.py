"""SpQR's kind of weights: codes, rounded statistics, and a few corrections in float16.

Shapes: R = out_features, C = in_features in the order of the sweep, G = groups in a row, T = runs of rows, O = outliers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from compression import spqr_grid
from compression.options import BITS, WholeBits

META_BITS = 4 * 16  # step and zero of the scales, step and zero of the zero points, in float16


@dataclass(frozen=True)
class SpqrWeights:
    """One matrix: `to_dense` says how its parts make a weight.

    An outlier is a float16 that is *added* to the value of its code, which is the nearest one. So the correction is at most
    half a step wherever the code was not clamped, and float16 holds it far more finely than it would the weight itself.

    Args:
        codes_RC: uint8, columns in the order of the sweep; groups are runs of `group_size` columns, the last may be short.
        scale_codes_RG, zero_codes_RG: uint8, second-level codes.
        meta_4TG: float16; step and zero of the scales, then of the zero points, of runs of `qq_group_size` rows.
        row_offsets: int32 (R + 1,), where each row's outliers start.
        outlier_columns: int32 (O,), columns in the order of the sweep, rising in each row.
        outlier_values: float16 (O,), never zero.
        order_C: int32, the storage column of each column; None where they are the same.
        qq_bits: bits of a scale code and of a zero code.
    """

    kind: ClassVar[str] = "spqr"
    codes_RC: Tensor
    scale_codes_RG: Tensor
    zero_codes_RG: Tensor
    meta_4TG: Tensor
    row_offsets: Tensor
    outlier_columns: Tensor
    outlier_values: Tensor
    order_C: Tensor | None
    bits: WholeBits
    group_size: int
    qq_group_size: int
    qq_bits: tuple[int, int]

    @classmethod
    def assemble(
        cls,
        codes_RC: Tensor,
        *,
        scale_codes_RG: Tensor,
        zero_codes_RG: Tensor,
        meta_4TG: Tensor,
        outliers_RC: Tensor,
        order_C: Tensor | None,
        bits: WholeBits,
        group_size: int,
        qq_group_size: int,
        qq_bits: tuple[int, int],
    ) -> Self:
        """From a dense matrix of corrections (float16, zero where there is none)."""
        rows, columns = outliers_RC.nonzero(as_tuple=True)
        counts_R = torch.bincount(rows, minlength=len(codes_RC))
        return cls(
            codes_RC,
            scale_codes_RG,
            zero_codes_RG,
            meta_4TG,
            torch.cat([counts_R.new_zeros(1), counts_R.cumsum(0)]).to(torch.int32),
            columns.to(torch.int32),
            outliers_RC[rows, columns],
            None if order_C is None else order_C.to(torch.int32),
            bits,
            group_size,
            qq_group_size,
            qq_bits,
        )

    def to_dense(self) -> Tensor:
        """Values (R, C) in storage order, float32: scale * (code - zero) in float16 arithmetic, plus the correction."""
        index = torch.arange(self.codes_RC.shape[1], device=self.codes_RC.device) // self.group_size
        values_RC = spqr_grid.dequantize(self.codes_RC.float(), self.scale_RG()[:, index], self.zero_RG()[:, index])
        values_RC[self.outlier_rows(), self.outlier_columns.long()] += self.outlier_values.float()
        if self.order_C is None:
            return values_RC
        return torch.empty_like(values_RC).index_copy_(1, self.order_C.long(), values_RC)

    def scale_RG(self) -> Tensor:
        """Scales (R, G) as they are read, float32."""
        return spqr_grid.statistics(self.scale_codes_RG, self.meta_4TG[0], self.meta_4TG[1], self.qq_group_size)

    def zero_RG(self) -> Tensor:
        """Zero points (R, G) as they are read, float32."""
        return spqr_grid.statistics(self.zero_codes_RG, self.meta_4TG[2], self.meta_4TG[3], self.qq_group_size)

    def outlier_rows(self) -> Tensor:
        """int64 (O,): the row of each outlier."""
        rows = torch.arange(len(self.codes_RC), device=self.codes_RC.device)
        return rows.repeat_interleave(self.row_offsets.diff().long())

    @property
    def outlier_share(self) -> float:
        """Outliers / weights."""
        return len(self.outlier_values) / self.codes_RC.numel()

    def tensors(self) -> dict[str, Tensor]:
        order = {} if self.order_C is None else {"order": self.order_C}
        return {
            "codes": self.codes_RC,
            "scale_codes": self.scale_codes_RG,
            "zero_codes": self.zero_codes_RG,
            "meta": self.meta_4TG,
            "row_offsets": self.row_offsets,
            "outlier_columns": self.outlier_columns,
            "outlier_values": self.outlier_values,
            "numbers": torch.tensor([self.bits, self.group_size, self.qq_group_size, *self.qq_bits], dtype=torch.int32),
        } | order

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        number, group_size, qq_group_size, scale_bits, zero_bits = tensors["numbers"].tolist()
        return cls(
            tensors["codes"],
            tensors["scale_codes"],
            tensors["zero_codes"],
            tensors["meta"],
            tensors["row_offsets"],
            tensors["outlier_columns"],
            tensors["outlier_values"],
            tensors.get("order"),
            next(bits for bits in BITS if bits == number),
            group_size,
            qq_group_size,
            (scale_bits, zero_bits),
        )

    def stored_bits(self) -> int:
        """Codes of both levels, four float16 a tile, value and column of every outlier, row offsets and the order."""
        rows, columns = self.codes_RC.shape
        index_bits = 16 if columns <= 2**16 else 32
        codes = rows * columns * self.bits + self.scale_codes_RG.numel() * sum(self.qq_bits)
        meta = self.meta_4TG[0].numel() * META_BITS
        outliers = len(self.outlier_values) * (16 + index_bits) + 32 * (rows + 1)
        return codes + meta + outliers + (0 if self.order_C is None else columns * index_bits)
