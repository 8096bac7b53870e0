"""Asymmetric calibration: making up for what the compressed blocks before a matrix have done to its inputs.

A matrix is solved on the inputs X that it will see, those of the compressed model. What it should give is what the dense
model gives, W X_dense. The weights that come closest are W + W (X_dense - X) X^T (X X^T)^-1, and those are pruned or rounded
in place of W. All of that difference fits the calibration text and little else; a share of it helps.

Source of the idea: GPTAQ, arXiv:2504.02692, which moves the target inside the sweep, column by column; here it moves before.
Shapes: R = out_features, C = in_features, N = tokens.
"""

import threading

import torch
from torch import Tensor

from compression.hessian import Accumulator, Hessian, SingularHessian


class Turn(threading.local):
    """Whose inputs the hooks of a block hear at the moment, in each thread: a window goes through the dense stream, and then
    through the compressed one."""

    is_dense: bool = False


class PairedAccumulator(Accumulator):
    """Sums X^T X as its parent does, and (X_dense - X)^T X beside it."""

    def __init__(self, columns: int, device: torch.device, turn: Turn, reads: torch.dtype = torch.float32) -> None:
        super().__init__(columns, device, reads)
        self._turn = turn
        self._dense_NC: Tensor | None = None
        self._drift_CC = torch.zeros(columns, columns, dtype=torch.float32, device=device)

    def add(self, X_NC: Tensor) -> None:
        """In the dense model's turn, remember its inputs; in the other, add both sums for the same window."""
        X_NC = self.read(X_NC)
        if self._turn.is_dense:
            self._dense_NC = X_NC
            return
        assert self._dense_NC is not None, "the dense stream goes first"
        self._drift_CC.addmm_((self._dense_NC.float() - X_NC.float()).T, X_NC.float())
        self._dense_NC = None
        super().add(X_NC)

    def absorb(self, other: Accumulator) -> None:
        assert isinstance(other, PairedAccumulator)
        super().absorb(other)
        self._drift_CC += other._drift_CC

    def finish(self, name: str) -> Hessian:
        hessian = super().finish(name)
        hessian.drift_CC = self._drift_CC.mul_(2 / max(hessian.tokens, 1))
        return hessian


def target(W_RC: Tensor, hessian: Hessian, share: float, damp: float) -> Tensor:
    """The weights to solve for: W + share * W D H^-1, H damped, D = (2/n) (X_dense - X)^T X.

    Args:
        share: of the drift that is made up for, 0 to 1.
        damp: as in the factorisation that the method itself uses.
    Returns: W itself where H has no factor; the method then falls back and says so.
    """
    if hessian.drift_CC is None or share == 0:
        return W_RC
    try:
        U_CC = hessian.factor(damp).U_CC
    except SingularHessian:
        return W_RC
    return W_RC + share * ((W_RC @ hessian.drift_CC) @ U_CC.T) @ U_CC
