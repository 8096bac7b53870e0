"""Output formats: what each can hold (`catalog`, torch-free), its writer, and the loader of all of them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load(
    path: Path | str, *, dtype: "torch.dtype | None" = None, device: str = "cpu", semi_structured: bool = False
) -> "PreTrainedModel":
    """Load an artifact folder of any of the formats as a transformers model, with this project's own readers.

    Args:
        path: the folder, as a finished job gives it.
        dtype: of the parameters; default: the dtype of the model that was compressed.
        device: where the model goes: `cpu`, `cuda`, `cuda:N`, or `auto`.
        semi_structured: put 2:4 matrices on PyTorch's semi-structured kernels (CUDA; float16 or bfloat16).
    Returns: the model with the weights that the pass evaluated, in evaluation mode; it does not train.
    Raises:
        UnsupportedModel: no artifact, or one that is damaged: with file, tensor and reason.
        InvalidOptions: a device that is not here; `semi_structured` where the kernels do not run, or where nothing is 2:4.
    """
    # here, not above: requests are checked with `formats.catalog`, and that must not load torch
    from compression.formats.loading import load as load_artifact

    return load_artifact(path, dtype=dtype, device=device, semi_structured=semi_structured)
