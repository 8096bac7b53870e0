"""How a module's weight is seen as matrices (R, C), and its input as rows (N, C) for each of them.

One place for what differs between linear modules, GPT-2's Conv1D (stored the other way round), convolutions (unfolded), and
the fused parameters of experts.

Shapes: R = out_features, C = in_features, N = tokens, or positions of a convolution's output. A view shares its memory with
the tensor: writing to it writes the tensor.
"""

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compression.errors import UnsupportedModel
from compression.families.base import Matrix


def matrix_view(tensor: Tensor, matrix: Matrix, *, is_fused: bool) -> Tensor:
    """The (R, C) view of a declared matrix on the tensor that holds it.

    Args: is_fused: the tensor holds the matrices of all experts (E, rows, C), not this one alone.
    """
    if is_fused:
        assert matrix.slot is not None
        first, last = matrix.slot.rows
        tensor = tensor[matrix.slot.index, first:last]
    return tensor.T if matrix.is_transposed else tensor


def module_matrices(module: nn.Module) -> tuple[Tensor, ...]:
    """Views (R, C) on the weight of a single module: one, but one for each group of a grouped convolution.

    Columns of a convolution run over input channels, then rows and columns of the kernel.

    Raises: UnsupportedModel: a kind of module without such a view.
    """
    match module:
        case nn.ConvTranspose2d():
            raise UnsupportedModel("a transposed convolution is no matrix of outputs by inputs")
        case nn.Conv2d():
            if not module.weight.is_contiguous():
                raise UnsupportedModel("the convolution's weight is not contiguous; call .contiguous() on it first")
            return module.weight.detach().flatten(1).chunk(module.groups)
        case Conv1D():
            return (module.weight.detach().T,)
        case nn.Linear():
            return (module.weight.detach(),)
    raise UnsupportedModel(f"{type(module).__name__} is not a module whose weight can be seen as a matrix")


def input_rows(module: nn.Module, X: Tensor) -> tuple[Tensor, ...]:
    """The inputs (N, C) that each of the module's matrices multiplies.

    Args: X: what the module is called with: (..., C), or images (B, channels, height, width) or (channels, height, width).
    """
    if not isinstance(module, nn.Conv2d):
        return (X.flatten(0, -2),)
    patches_BPL = nn.functional.unfold(
        _padded(module, X if X.ndim == 4 else X[None]), module.kernel_size, dilation=module.dilation, stride=module.stride
    )
    return tuple(part.transpose(1, 2).flatten(0, 1) for part in patches_BPL.chunk(module.groups, dim=1))


def _padded(module: nn.Conv2d, X_BCHW: Tensor) -> Tensor:
    """The images with what the convolution pads them with; `same` puts the odd row and column at the end."""
    pads: list[int] = []
    for axis in (1, 0):  # the last dimension comes first
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        else:
            size = 0 if module.padding == "valid" else int(module.padding[axis])
            pads += [size, size]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded: Tensor = nn.functional.pad(X_BCHW, pads, mode=mode)
    return padded
