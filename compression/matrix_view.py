"""How a weight tensor is seen as a matrix (R, C), and the input of its module as rows (N, C).

Shapes: R = out_features, C = in_features, N = tokens, or positions of a convolution. A view shares its memory with the
tensor: writing to it writes the tensor.
"""

from torch import Tensor

from compression.families.base import Matrix


def matrix_view(tensor: Tensor, matrix: Matrix, *, is_fused: bool) -> Tensor:
    """The (R, C) view of a matrix on the tensor that holds it.

    Args: is_fused: the tensor holds the matrices of all experts (E, rows, C), not this one alone.
    """
    if is_fused:
        assert matrix.slot is not None
        first, last = matrix.slot.rows
        tensor = tensor[matrix.slot.index, first:last]
    return tensor.T if matrix.is_transposed else tensor
