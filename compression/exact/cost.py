"""What the exact solvers cost, before anything is read: plain formulas, torch-free, so that a submit can refuse.

Shapes: R = out_features, C = in_features.
"""

FLOPS_PER_SECOND = 1e10  # of one core with AVX-512: 1e10 at 576 inputs, 1.4e10 at 1536 (docs/benchmarks.md)
MAX_MATRIX_S = 3600
MAX_TOTAL_S = 24 * 3600


def obc_seconds(rows: int, columns: int, *, sparsity: float | None, quantizes: bool) -> float:
    """Time for one matrix on one core, from the floating-point operations.

    Taking k of C inputs out of a row's inverse costs 2 F^2 for each while F are left, so 2/3 (C^3 - (C - k)^3); the weights of
    a mask take one factorisation, K^3 / 3, and rounding what a mask keeps takes an inverse of its own, K^3, before the K
    removals. Every row pays; an unstructured trace goes an eighth of the inputs beyond the mean.
    """
    kept = columns * (1 - (sparsity or 0))
    flops = 0.0
    if sparsity:
        traced = min(columns, columns * (sparsity + 1 / 8))
        flops += 2 / 3 * (columns**3 - (columns - traced) ** 3) + kept**3 / 3
    if quantizes:
        flops += 2 / 3 * kept**3 + (kept**3 if sparsity else 0)
    return rows * flops / FLOPS_PER_SECOND


def in_words(duration_s: float) -> str:
    """`40 s`, `12 min`, `9 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if duration_s >= 2 * size:
            return f"{duration_s / size:.0f} {unit}"
    return f"{duration_s:.0f} s"
