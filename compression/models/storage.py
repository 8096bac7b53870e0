"""Where a matrix of the model lies in a checkpoint: the one place that knows both layouts of a mixture of experts.

Models hold all experts of a block in one parameter (E, R, C); checkpoints mostly hold one tensor for each expert, newer ones
the fused one. Readers, writers and checks ask here, so that an artifact keeps the layout of its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.families.base import Matrix
from compression.matrix_view import matrix_view
from compression.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Place:
    """A tensor of the checkpoint, and the matrix in it.

    Args: is_fused: the tensor holds other matrices too.
    """

    tensor: str
    matrix: Matrix
    is_fused: bool

    def view(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The matrix (out_features, in_features) as a view on its tensor; writing to it writes the tensor."""
        return matrix_view(tensors[self.tensor], self.matrix, is_fused=self.is_fused)

    def replace(self, tensors: dict[str, Tensor], packed: Mapping[str, Tensor]) -> None:
        """Put what a format packs of the matrix in its place.

        Args: packed: tensors by their last name, such as {"weight": ...} in storage order.
        Raises: UnsupportedModel: the matrix shares its tensor with others, and the format has no such layout.
        """
        if not self.is_fused:
            del tensors[self.tensor]
            tensors |= {f"{self.tensor.removesuffix('weight')}{last}": tensor for last, tensor in packed.items()}
            return
        if packed.keys() != {"weight"}:
            raise UnsupportedModel(f"{self.tensor} holds all experts in one tensor, which packed formats cannot; use `dense`")
        weight = packed["weight"]
        self.view(tensors).copy_(weight.T if self.matrix.is_transposed else weight)


def place(checkpoint: Checkpoint, name: str, matrix: Matrix) -> Place:
    """Find a matrix. Args: name: its full module name.

    Raises: UnsupportedModel: the checkpoint does not hold it.
    """
    own = checkpoint.stored_name(f"{name}.weight")
    if own is not None:
        return Place(own, matrix, is_fused=False)
    fused = checkpoint.stored_name(name.removesuffix(matrix.name) + matrix.parameter) if matrix.slot else None
    if fused is None:
        raise UnsupportedModel(f"the checkpoint has no tensor {name}.weight")
    return Place(fused, matrix, is_fused=True)


def assemble(checkpoint: Checkpoint, prefix: str, shape: torch.Size, parts: list[Matrix]) -> Tensor:
    """Build a fused parameter (E, rows, C) from the tensors of its experts, in their storage dtype.

    Args:
        prefix: full name of the block, with a dot at the end.
        parts: the matrices that lie in the parameter; together they are all of it.
    Raises: UnsupportedModel: one is not there, or has another shape than the config says.
    """
    places = [place(checkpoint, prefix + matrix.name, matrix) for matrix in parts]
    whole = torch.empty(shape, dtype=checkpoint.dtype_of(places[0].tensor))
    for found in places:
        tensors = checkpoint.read([found.tensor])
        if tuple(found.view(tensors).shape) != found.matrix.shape:
            actual = tuple(tensors[found.tensor].shape)
            raise UnsupportedModel(f"tensor {found.tensor} has shape {actual}, its config says {found.matrix.shape}")
        matrix_view(whole, found.matrix, is_fused=True).copy_(found.view(tensors))
    return whole
