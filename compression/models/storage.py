"""Where a matrix of the model lies in a checkpoint: the one place that knows both layouts of a mixture of experts.

Models hold all experts of a block in one parameter (E, R, C); checkpoints mostly hold one tensor for each expert, newer ones
the fused one. Readers, writers and checks ask here, so that an artifact keeps the layout of its source.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from safetensors import safe_open
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.families.base import Matrix
from compression.finite import all_finite
from compression.matrix_view import matrix_view
from compression.models.checkpoint import Checkpoint
from compression.plan import PlannedLayer

READ_AT_ONCE = 32  # tensors of single experts: files are opened seldom, and few bytes are held twice


@dataclass(frozen=True)
class Place:
    """A tensor of the checkpoint, and the matrix in it.

    Args: is_fused: the tensor holds other matrices too.
    """

    tensor: str
    matrix: Matrix
    is_fused: bool

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can hold the matrix."""
        rows, columns = self.matrix.shape
        if not self.is_fused:
            return shape == ((columns, rows) if self.matrix.is_transposed else (rows, columns))
        slot = self.matrix.slot
        return (
            slot is not None and len(shape) == 3 and slot.index < shape[0] and slot.rows[1] <= shape[1] and columns == shape[2]
        )

    def view(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The matrix (out_features, in_features) as a view on its tensor; writing to it writes the tensor."""
        return matrix_view(tensors[self.tensor], self.matrix, is_fused=self.is_fused)

    def read(self, checkpoint: Checkpoint) -> Tensor:
        """The matrix (out_features, in_features), and no more of its tensor, from disk."""
        if not self.is_fused or self.matrix.slot is None:
            return self.view(checkpoint.read([self.tensor]))
        first, last = self.matrix.slot.rows
        with safe_open(checkpoint.tensors[self.tensor].file, framework="pt") as shard:
            part: Tensor = shard.get_slice(self.tensor)[self.matrix.slot.index, first:last]
        return part.T if self.matrix.is_transposed else part

    def replace(self, tensors: dict[str, Tensor], packed: Mapping[str, Tensor]) -> None:
        """Put what a format packs of the matrix in its place.

        Args: packed: tensors by their last name, such as {"weight": ...} in storage order.
        """
        if not self.is_fused:
            del tensors[self.tensor]
            tensors |= {f"{self.tensor.removesuffix('weight')}{last}": tensor for last, tensor in packed.items()}
            return
        assert packed.keys() == {"weight"}, "check_places refuses others"
        weight = packed["weight"]
        self.view(tensors).copy_(weight.T if self.matrix.is_transposed else weight)

    def split(self, tensors: dict[str, Tensor], name: str) -> "Place":
        """Give a matrix that shares its tensor one of its own, a copy. Args: name: its full module name."""
        view = self.view(tensors)
        own = f"{name}.weight"
        tensors[own] = (view.T if self.matrix.is_transposed else view).clone(memory_format=torch.contiguous_format)
        return Place(own, self.matrix, is_fused=False)


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


def check_places(checkpoint: Checkpoint, layers: Iterable[PlannedLayer], *, may_share: bool) -> None:
    """Every matrix must be in the checkpoint, in the shape that its config says; from headers alone.

    Args: may_share: whether the output format can hold a tensor of several matrices.
    Raises: UnsupportedModel: naming the tensor.
    """
    for layer in layers:
        found = place(checkpoint, layer.name, layer.matrix)
        shape = checkpoint.tensors[found.tensor].shape
        if not found.fits(shape):
            says = f"its config says {layer.matrix.shape} for {layer.name}"
            raise UnsupportedModel(f"tensor {found.tensor} has shape {shape}, {says}")
        if found.is_fused and not may_share and layer.options is not None:
            raise UnsupportedModel(f"{found.tensor} holds all experts in one tensor, which packed formats cannot; use `dense`")


def assemble(checkpoint: Checkpoint, prefix: str, shape: torch.Size, parts: list[Matrix]) -> Tensor:
    """Build a fused parameter (E, rows, C) from the tensors of its experts, in their widest storage dtype.

    Args:
        prefix: full name of the block, with a dot at the end.
        parts: the matrices that lie in the parameter; together they are all of it.
    Raises: UnsupportedModel: one is not there, has another shape than the config says, or holds NaN or infinity.
    """
    places = [place(checkpoint, prefix + matrix.name, matrix) for matrix in parts]
    dtypes = [checkpoint.dtype_of(found.tensor) for found in places]
    whole = torch.empty(shape, dtype=reduce(torch.promote_types, dtypes))
    for first in range(0, len(places), READ_AT_ONCE):
        some = places[first : first + READ_AT_ONCE]
        tensors = checkpoint.read(found.tensor for found in some)
        for found in some:
            check_values(found.tensor, tensors[found.tensor])
            if not found.fits(actual := tuple(tensors[found.tensor].shape)):
                raise UnsupportedModel(f"tensor {found.tensor} has shape {actual}, its config says {found.matrix.shape}")
            matrix_view(whole, found.matrix, is_fused=True).copy_(found.view(tensors))
    return whole


def check_values(name: str, tensor: Tensor) -> None:
    """Raises: UnsupportedModel: a weight that no healthy checkpoint holds."""
    if not tensor.is_floating_point() or not all_finite(tensor):
        raise UnsupportedModel(f"tensor {name} holds NaN, infinity or integers; the checkpoint is damaged")
