"""About how many bytes an artifact of a format without an exact rule has (`sizes.py` has those). Torch-free.

What these formats store depends on the weights: how many are zero, how many are outliers, what the tokenizer says. The figures
are within a few per cent of the files; docs/formats.md has the layouts.
"""

import math
from collections.abc import Callable, Mapping

from compression.families import Architecture
from compression.formats.sizes import Stored
from compression.models.headers import TensorInfo
from compression.models.stored_names import stored_name
from compression.options import code_bits
from compression.plan import Plan, PlannedLayer
from compression.protocol import Output

Q4_0, Q4_1, Q8_0 = 18 / 32, 20 / 32, 34 / 32  # bytes a weight
BYTES_PER_VOCABULARY_ENTRY = 40  # of a tokenizer in a GGUF file: token, score, type, merge
OUTLIER_SHARE, OUTLIER_BYTES = 0.01, 4
WORD_BYTES, TILE = 8, 16  # spqr: a word to 16 weights

Rule = Callable[[PlannedLayer, int], float]
"""A planned matrix and the bytes of a number in the source -> bytes of the matrix in the artifact."""


def _gguf(layer: PlannedLayer, dtype_bytes: int) -> float:
    grid = layer.options.quantization if layer.options else None
    if grid is None:
        return dtype_bytes * math.prod(layer.matrix.shape)
    width = Q8_0 if grid.bits == 8 else Q4_1 if grid.offset == "minimum" else Q4_0
    return width * math.prod(layer.matrix.shape)


def _spqr(layer: PlannedLayer, _: int) -> float:
    rows, columns = layer.matrix.shape
    return rows * columns * (WORD_BYTES / TILE + OUTLIER_SHARE * OUTLIER_BYTES) + 4 * (rows + 1) + 2 * columns


def _sparse_packed(layer: PlannedLayer, dtype_bytes: int) -> float:
    """Bits of a code or number for each kept weight, a bit for the mask where that is less, and the grids."""
    assert layer.options is not None
    (rows, columns), sparsity = layer.matrix.shape, getattr(layer.options, "sparsity", None) or 0.0
    grid = layer.options.quantization
    if layer.options.method == "spqr":
        return 1.7 * rows * columns  # codes and statistics in bytes of their own
    bits = 8.0 * dtype_bytes if grid is None else code_bits(grid.bits)
    weights = rows * columns * min(bits, bits * (1 - sparsity) + 1)
    if grid is not None:
        groups = columns // grid.group_size if isinstance(grid.group_size, int) else 1
        weights += rows * groups * (16 + (0 if grid.symmetric else 16 if grid.offset == "minimum" else bits))
    return weights / 8


RULES: dict[str, Rule] = {"gguf": _gguf, "spqr": _spqr, "sparse-packed": _sparse_packed}


def rough_bytes(output: Output, plan: Plan, architecture: Architecture, tensors: Mapping[str, TensorInfo]) -> int | None:
    """About the artifact's weights; None for a format that has no rule here."""
    rule = RULES.get(output.format)
    if rule is None:
        return None
    left = {name: Stored(info.dtype, info.shape) for name, info in tensors.items()}
    total = 0.0
    for layer in plan.targeted:
        name = stored_name(left, architecture, f"{layer.name}.weight")
        source = left.pop(name) if name else None  # else one of several in a tensor, whose share is taken off below
        dtype_bytes = source.size_bytes // math.prod(source.shape) if source else 2
        total += rule(layer, dtype_bytes) - (0 if source else dtype_bytes * math.prod(layer.matrix.shape))
    total += sum(_rest(tensor, output, architecture) for tensor in left.values())
    return round(total) + (BYTES_PER_VOCABULARY_ENTRY * architecture.vocab_size if output.format == "gguf" else 0)


def _rest(tensor: Stored, output: Output, architecture: Architecture) -> float:
    numbers = math.prod(tensor.shape)
    if output.embeddings == "int8" and len(tensor.shape) == 2 and tensor.shape[0] == architecture.vocab_size:
        return Q8_0 * numbers
    return tensor.size_bytes
