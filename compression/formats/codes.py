"""Grid weights as packed formats see them: unsigned codes of whole bits, zero points and scales, and values back from those.

Shapes: R = out_features, C = in_features, G = groups in a row.
"""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from compression.options import code_bits
from compression.weights import GridWeights


@dataclass(frozen=True)
class Codes:
    """value = scale * (code - zero), codes and zeros in 0 .. 2^bits - 1.

    Args: codes_RC, zero_RG: uint8. scale_RG: as solved, exact in float16 and in the model's dtype. group_C: int32 (C,).
    """

    codes_RC: Tensor
    zero_RG: Tensor
    scale_RG: Tensor
    group_C: Tensor
    bits: int

    @classmethod
    def of(cls, weights: GridWeights) -> Self:
        """Ternary codes 0, 1, 2 become 1, 2, 3 of two bits and their zero point moves along: symmetric stays symmetric."""
        assert weights.offset == "zero_point", "formats with a zero point refuse grids with a minimum at submit"
        shift = 1 if weights.bits == "ternary" else 0
        return cls(
            weights.codes_RC + shift,
            weights.zero_RG.to(weights.codes_RC.dtype) + shift,
            weights.scale_RG,
            weights.group_C,
            code_bits(weights.bits),
        )

    @property
    def middle(self) -> int:
        """The zero point of symmetric grids, which formats leave out or imply."""
        return middle(self.bits)

    @property
    def is_symmetric(self) -> bool:
        return bool((self.zero_RG == self.middle).all())

    def to_dense(self) -> Tensor:
        """Values (R, C), float32."""
        index = self.group_C.long()
        steps_RC = self.codes_RC.float() - self.zero_RG.float()[:, index]
        return self.scale_RG.float()[:, index] * steps_RC


def middle(bits: int) -> int:
    """The code of zero on a symmetric grid; formats with signed codes count from it."""
    return 1 << (bits - 1)
