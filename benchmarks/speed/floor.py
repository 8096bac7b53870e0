"""The floor: the floating-point operations that any layer-wise pass needs, at the rate of this machine's matrix products.

Counted are products whose result is needed, each once; a multiplication and an addition are two. Of a block's first forward
the last matrices' outputs are needed by nobody, of the last block's second forward nothing is. Causal attention is counted
half, symmetric products half, one Hessian and one factor for each distinct input. Nothing else is: no norm, no rotary
table, no softmax, no copy, no disk.

Shapes: T = tokens, L = tokens of a window, R = out_features, C = in_features, N, K, M = of a product (N, K) @ (K, M).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.speed.timing import median_seconds
from compression.families.base import Architecture, Matrix

FORWARDS = ("forward for Hessians", "forward of compressed", "evaluation")
"""Stages whose products may be in the compute dtype; all others are in float32."""

Product = tuple[int, int, int]


@dataclass(frozen=True)
class Tokens:
    """Windows of one length."""

    windows: int
    seqlen: int

    @property
    def count(self) -> int:
        return self.windows * self.seqlen


def operations(architecture: Architecture, calibration: Tokens, evaluation: Tokens) -> dict[str, float]:
    """By stage, as `stages.STAGES` names them."""
    blocks = [architecture.block(index) for index in range(architecture.blocks)]
    needed = [[matrix for matrix in block if matrix.stage < _last_stage(block)] for block in blocks]
    hidden = blocks[0][0].shape[1]
    head = 2.0 * evaluation.windows * (evaluation.seqlen - 1) * hidden * architecture.vocab_size
    return {
        "forward for Hessians": sum(_products(block, calibration) for block in needed)
        + sum(_attention(block, calibration) for block in blocks),
        "Hessian products": float(sum(calibration.count * C**2 for block in blocks for C in inputs(block).values())),
        "factorisation": sum(factor_operations(C) for block in blocks for C in inputs(block).values()),
        "sweep": float(sum(sweep_operations(*matrix.shape) for block in blocks for matrix in block)),
        "forward of compressed": sum(_forward(block, calibration) for block in blocks[:-1]),
        "evaluation": 2 * (sum(_forward(block, evaluation) for block in blocks) + head),
    }


def factor_operations(columns: int) -> float:
    """A Cholesky factor and a triangular inverse."""
    return 2 / 3 * columns**3


def sweep_operations(rows: int, columns: int) -> int:
    """Every column's error times the row of U behind it."""
    return rows * columns**2


def inputs(block: Iterable[Matrix]) -> dict[str, int]:
    """Width of each distinct input."""
    return {matrix.reads: matrix.shape[1] for matrix in block}


def _last_stage(block: Sequence[Matrix]) -> int:
    return max(matrix.stage for matrix in block)


def _forward(block: Sequence[Matrix], tokens: Tokens) -> float:
    return _products(block, tokens) + _attention(block, tokens)


def _products(matrices: Iterable[Matrix], tokens: Tokens) -> float:
    return 2.0 * tokens.count * sum(matrix.shape[0] * matrix.shape[1] for matrix in matrices)


def _attention(block: Sequence[Matrix], tokens: Tokens) -> float:
    """Queries by keys and weights by values; the output projection reads as wide as all heads are together."""
    return 2.0 * tokens.windows * tokens.seqlen**2 * inputs(block).get("attention_output", 0)


def products_of(architecture: Architecture, calibration: Tokens) -> list[Product]:
    """The products that most of the work consists of: one window through each matrix, and one window's Hessians."""
    block, L = architecture.block(0), calibration.seqlen
    forward = {(L, matrix.shape[1], matrix.shape[0]) for matrix in block}
    return sorted(forward | {(C, L, C) for C in inputs(block).values()})


def rate(products: Sequence[Product], dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of plain matrix products: all of them, each at the median of its times."""
    total_s = sum(_median_s(product, dtype, device) for product in products)
    return sum(2.0 * N * K * M for N, K, M in products) / total_s


def _median_s(product: Product, dtype: torch.dtype, device: torch.device) -> float:
    N, K, M = product
    left_NK, right_KM = torch.randn(N, K, device=device).to(dtype), torch.randn(K, M, device=device).to(dtype)
    out_NM = torch.empty(N, M, dtype=dtype, device=device)
    return median_seconds(lambda out: torch.mm(left_NK, right_KM, out=out), lambda: out_NM, device)


def floor_seconds(work: Mapping[str, float], rates: Mapping[torch.dtype, float], compute: torch.dtype) -> dict[str, float]:
    """Args: compute: the dtype of forwards."""
    return {stage: done / rates[compute if stage in FORWARDS else torch.float32] for stage, done in work.items()}
