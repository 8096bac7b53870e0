"""The hidden states of windows after a dense model's last block, kept for other jobs on the same model and windows.

All that is scored follows from them by final norm and head, which are cheap and run again. So a result from kept states is
that of a pass of its own, bit for bit, where the device computes bit-identically.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from compression import environment
from compression.calibration import digest_of
from compression.kept import Kept
from compression.models.activations import Stream


@dataclass(frozen=True)
class KeptStates:
    """Those of one model on some windows.

    Args:
        what: in words, for the report.
        model_digest: SHA-256 of config and weights.
        ids_WL: token ids; without windows nothing is kept.
    """

    kept: Kept
    what: str
    model_digest: str
    ids_WL: Tensor
    device: torch.device
    compute_dtype: torch.dtype

    def load(self) -> Stream | None:
        """Of an earlier job, or None."""
        found = self.kept.load(self.what, self._key()) if len(self.ids_WL) else None
        return None if found is None else Stream.of(found[0], self.device)

    def keep(self, stream: Stream) -> None:
        if len(self.ids_WL):
            self.kept.keep(self.what, self._key(), stream.states_WLD)

    def _key(self) -> dict[str, str]:
        windows, seqlen = self.ids_WL.shape
        return {
            "kind": "states after the last block",
            "model": self.model_digest,
            "windows": f"{windows} of {seqlen} tokens, SHA-256 {digest_of(self.ids_WL)}",
            "device": f"{self.device.type} ({environment.name_of(self.device)})",  # whichever of several alike
            **environment.circumstances(self.device, self.compute_dtype),
        }
