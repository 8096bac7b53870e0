"""What the pass believes of the compressed model on a few short windows: the written artifact is held against it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from safetensors.torch import load_file, save_file
from torch import Tensor

WINDOWS = 2
TOKENS = 128  # attention is causal, so that the start of a window stands on its own


@dataclass(frozen=True)
class Probe:
    """Token ids (W, L) and the compressed model's float32 logits (W, L, V) on them."""

    ids_WL: Tensor
    logits_WLV: Tensor

    def save(self, path: Path) -> None:
        """As the loader programs read it."""
        save_file({"input_ids": self.ids_WL.contiguous(), "logits": self.logits_WLV.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises: OSError, SafetensorError, KeyError: it is no file of a probe."""
        tensors = load_file(path)
        return cls(tensors["input_ids"], tensors["logits"])


def probe_windows(windows_WL: Tensor) -> Tensor:
    """The start of the first windows."""
    return windows_WL[:WINDOWS, :TOKENS]
