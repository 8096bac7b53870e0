"""Products of float32 tensors on a processor that multiplies bfloat16 several times faster (AMX, AVX512-BF16)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def factors_in(dtype: torch.dtype) -> Iterator[None]:
    """While inside, a CPU may round the factors of float32 products to `dtype`; it sums up and answers in float32.

    Where the factors are bfloat16 numbers already nothing is lost: their products are exact in float32. A processor without
    instructions for bfloat16 multiplies in float32 as ever, and so does every other device.
    """
    if dtype != torch.bfloat16:
        yield
        return
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # of the whole process; a pass multiplies in one thread
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
