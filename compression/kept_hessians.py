"""The Hessians of a dense model's inputs, kept for other recipes on the same model and calibration windows.

They depend on no recipe, so that every later job with `inputs: dense` solves without running a calibration window.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from compression import environment
from compression.calibration import digest_of
from compression.hessian import Hessian
from compression.kept import Kept
from compression.plan import PlannedLayer

WHAT = "Hessians of the dense model"


@dataclass(frozen=True)
class KeptHessians:
    """Those of one model on some windows, one for each block and input.

    Args:
        model_digest: SHA-256 of config and weights.
        ids_WL: token ids of the calibration windows.
    """

    kept: Kept
    model_digest: str
    ids_WL: Tensor
    device: torch.device
    compute_dtype: torch.dtype

    def has_all(self, layers: Iterable[PlannedLayer]) -> bool:
        """Whether everything that these layers read is there. A file may still turn out to be damaged when it is loaded."""
        inputs = {(layer.block, layer.matrix.reads) for layer in layers}
        return all(self.kept.has(self._key(*one)) for one in inputs)

    def load(self, block: int, label: str) -> Hessian | None:
        """Of an earlier job, or None. Args: label: of the input, as `Matrix.reads`."""
        found = self.kept.load(WHAT, self._key(block, label))
        if found is None:
            return None
        H_CC, facts = found
        return Hessian(H_CC.to(self.device, copy=True), int(facts["tokens"]))

    def keep(self, block: int, label: str, hessian: Hessian) -> None:
        self.kept.keep(WHAT, self._key(block, label), hessian.H_CC.cpu(), {"tokens": str(hessian.tokens)})

    def _key(self, block: int, label: str) -> dict[str, str]:
        windows, seqlen = self.ids_WL.shape
        return {
            "kind": "Hessian of the dense model's inputs",
            "model": self.model_digest,
            "windows": f"{windows} of {seqlen} tokens, SHA-256 {digest_of(self.ids_WL)}",
            "block": str(block),
            "input": label,
            "device": f"{self.device.type} ({environment.name_of(self.device)})",
            **environment.circumstances(self.device, self.compute_dtype),
        }
