"""What the pass believes of the compressed model on a few short windows: the written artifact is held against it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from safetensors.torch import load_file, save_file
from torch import Tensor

WINDOWS = 2
TOKENS = 128  # the start of a window stands on its own: attention is causal, or the model takes windows of any length


@dataclass(frozen=True)
class Probe:
    """Token ids (W, L) and what the compressed model gives for them in float32.

    Args:
        outputs: next-token logits (W, L, V); of an encoder its last hidden states (W, L, D) or the logits of its head.
        is_encoder: its outputs predict no next token.
    """

    ids_WL: Tensor
    outputs: Tensor
    is_encoder: bool = False

    def save(self, path: Path) -> None:
        """As the loader programs read it."""
        name = "outputs" if self.is_encoder else "logits"
        save_file({"input_ids": self.ids_WL.contiguous(), name: self.outputs.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises: OSError, SafetensorError, KeyError: it is no file of a probe."""
        tensors = load_file(path)
        is_encoder = "outputs" in tensors
        return cls(tensors["input_ids"], tensors["outputs" if is_encoder else "logits"], is_encoder)


def probe_windows(windows_WL: Tensor) -> Tensor:
    """The start of the first windows."""
    return windows_WL[:WINDOWS, :TOKENS]
