"""2:4 matrices on PyTorch's semi-structured kernels, which need a CUDA device of compute capability 8.0 or newer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from compression.errors import InvalidOptions

GROUP, KEPT = 4, 2
DTYPES = (torch.float16, torch.bfloat16)
ROWS, COLUMNS = 32, 64  # the kernels' tile: both widths must be multiples
CAPABILITY = (8, 0)


def check_semi_structured(device: torch.device) -> None:
    """Raises: InvalidOptions: the kernels do not run on this device."""
    if device.type != "cuda":
        raise InvalidOptions("semi_structured", f"PyTorch's 2:4 kernels need a CUDA device, not {device}", "false here")
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        raise InvalidOptions("semi_structured", f"the 2:4 kernels need compute capability 8.0, {device} has {capability}")


def to_semi_structured(model: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Replace the weights of those linear layers that are 2:4; the others stay dense.

    Args: names: modules that may be.
    Returns: the names of the modules that were replaced.
    Raises: InvalidOptions: another dtype than float16 and bfloat16, or not one matrix is 2:4.
    """
    replaced = []
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, nn.Linear) and fits_semi_structured(module.weight):
            dtype = module.weight.dtype
            if dtype not in DTYPES:
                raise InvalidOptions("dtype", f"the 2:4 kernels do not compute in {dtype}", "float16 or bfloat16")
            module.weight = nn.Parameter(to_sparse_semi_structured(module.weight.detach()), requires_grad=False)
            replaced.append(name)
    if not replaced:
        raise InvalidOptions(
            "semi_structured", f"no matrix is 2:4 in multiples of {ROWS} outputs and {COLUMNS} inputs", "false"
        )
    return tuple(replaced)


def fits_semi_structured(weight_RC: Tensor) -> bool:
    """Whether every 4 consecutive inputs keep at most 2, in a shape that the kernels take."""
    rows, columns = weight_RC.shape
    if rows % ROWS or columns % COLUMNS:
        return False
    kept = (weight_RC != 0).unflatten(1, (-1, GROUP)).sum(-1)
    return bool((kept <= KEPT).all())
