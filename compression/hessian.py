"""Hessians of the layer-wise problem, and the one factor that all second-order sweeps need.

Shapes: N = tokens, C = in_features. Convention: H = (2/n) X^T X with n the number of **tokens**; a global factor cannot
change a solution, because damping is relative to the mean of diag(H). All of it in float32, float64 where that fails.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from compression.errors import NumericalError

MAX_DAMP = 1.0
STRIPS = 4


@dataclass(frozen=True)
class Factor:
    """U upper triangular with H^-1 = U^T U, H damped and, where an order is given, permuted on both sides.

    Row j of U divided by U_jj is what removing column j tells the columns after it (SparseGPT, arXiv:2301.00774, sec. 3).
    """

    U_CC: Tensor
    damp: float
    steps: tuple[str, ...]  # of the failure ladder, in the order they were taken


class SingularHessian(Exception):
    """No damping up to 1 gives a positive definite matrix, in float64 either. `steps` tell what was tried."""

    def __init__(self, steps: tuple[str, ...]) -> None:
        self.steps = steps
        super().__init__("; ".join(steps))


class Accumulator:
    """Sums X^T X over calibration windows for one input tensor.

    The sum is symmetric, so that only its upper triangle is computed, in strips of rows: five eighths of the work with four.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self._sum_CC = torch.zeros(columns, columns, dtype=torch.float32, device=device)
        self._strips = tuple(pairwise(part * columns // STRIPS for part in range(STRIPS + 1)))
        self._tokens = 0

    def add(self, X_NC: Tensor) -> None:
        """Add one window's inputs; leading dimensions are flattened, so a lone token stays two-dimensional."""
        X_NC = X_NC.reshape(-1, X_NC.shape[-1]).float()
        for first, last in self._strips:
            self._sum_CC[first:last, first:].addmm_(X_NC[:, first:last].T, X_NC[:, first:])
        self._tokens += X_NC.shape[0]

    def finish(self, name: str) -> "Hessian":
        """The Hessian of what was added; the sum is handed over, not copied.

        Raises: NumericalError: naming the layer, when an input held NaN or infinity; damping cannot cure that.
        """
        if not torch.isfinite(self._sum_CC).all():
            raise NumericalError(
                name, "its calibration inputs hold NaN or infinity; the forward pass of a block before it broke"
            )
        upper_CC = self._sum_CC.mul_(2 / max(self._tokens, 1)).triu_()
        return Hessian(upper_CC.add_(upper_CC.triu(1).T), self._tokens)


class Hessian:
    """H over all calibration tokens, with its factors kept so that matrices that read the same input share them.

    Args:
        unfit: why it must not be solved with, although it tells the error of a solution; methods then fall back.
        least_damp: damping is never below it.
    Attributes:
        drift_CC: (2/n) (X_dense - X)^T X where both streams were heard, see `drift.py`; else None.
    """

    def __init__(self, H_CC: Tensor, tokens: int, *, unfit: str | None = None, least_damp: float = 0.0) -> None:
        self.H_CC = H_CC
        self.tokens = tokens
        self.unfit = unfit
        self.least_damp = least_damp
        self.drift_CC: Tensor | None = None
        self._factors: dict[tuple[float, bool], Factor | SingularHessian] = {}

    @property
    def dead_C(self) -> Tensor:
        """True where an input was zero in every token."""
        return self.H_CC.diagonal() == 0

    def activity_order(self) -> Tensor:
        """Columns by falling diag(H), ties in storage order (OPTQ's act-order)."""
        return self.H_CC.diagonal().argsort(descending=True, stable=True)

    def factor(self, damp: float, *, by_activity: bool = False) -> Factor:
        """Factorise once per (damp, order), climbing the ladder: damp x10 up to 1, then the same in float64.

        Raises: SingularHessian: nothing worked, no input was ever non-zero, or the Hessian is unfit.
        """
        damp = max(damp, self.least_damp)
        key = (damp, by_activity)
        if key not in self._factors:
            try:
                self._factors[key] = self._climb(damp, self.activity_order() if by_activity else None)
            except SingularHessian as failure:
                self._factors[key] = failure
        found = self._factors[key]
        if isinstance(found, SingularHessian):
            raise found
        return found

    def _climb(self, damp: float, order: Tensor | None) -> Factor:
        if self.unfit:
            raise SingularHessian((self.unfit,))
        if bool(self.dead_C.all()):
            raise SingularHessian((f"no calibration token reached this layer ({self.tokens} tokens, all inputs zero)",))
        steps: list[str] = []
        for dtype in (torch.float32, torch.float64):
            for tried in _damps(damp):
                H_CC = self.damped(tried, dtype)
                U_CC = _inverse_upper_factor(H_CC if order is None else H_CC[order][:, order])
                if U_CC is not None:
                    return Factor(U_CC.to(torch.float32), tried, tuple(steps))
                steps.append(f"not positive definite with damp {tried:g} in {str(dtype).removeprefix('torch.')}")
        raise SingularHessian(tuple(steps))

    def damped(self, damp: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """A copy of H with a one on the diagonal for dead inputs, and `damp` times the diagonal's mean added to it."""
        H_CC = self.H_CC.to(dtype, copy=True)
        diagonal = H_CC.diagonal()
        diagonal[self.dead_C] = 1  # a dead input constrains nothing; its weights are zeroed and its column decoupled
        diagonal += damp * diagonal.mean()
        return H_CC


def _damps(damp: float) -> list[float]:
    damps = [damp]
    while damps[-1] < MAX_DAMP:
        damps.append(min(damps[-1] * 10, MAX_DAMP))
    return damps


def _inverse_upper_factor(H_CC: Tensor) -> Tensor | None:
    """Upper U with U^T U = H^-1 by one Cholesky and one triangular inverse; None where H is not positive definite.

    With J the reversal, J H J = M M^T gives H = R R^T for R = J M J upper, hence U = R^-1. No second factorisation of an
    inverse, which is where the textbook way fails on ill-conditioned matrices.
    """
    M_CC, failed = torch.linalg.cholesky_ex(H_CC.flip(0, 1))
    if int(failed) != 0:
        return None
    R_CC = M_CC.flip(0, 1)
    eye = torch.eye(H_CC.shape[0], dtype=H_CC.dtype, device=H_CC.device)
    U_CC = torch.linalg.solve_triangular(R_CC, eye, upper=True)
    is_sound = torch.isfinite(U_CC).all() and (U_CC.diagonal() > 0).all()
    return U_CC if bool(is_sound) else None
