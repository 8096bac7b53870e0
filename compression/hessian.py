"""Hessians of the layer-wise problem, and the one factor that all second-order sweeps need.

Shapes: N = tokens, C = in_features. Convention: H = (2/n) X^T X with n the number of **tokens**; a global factor cannot
change a solution, because damping is relative to the mean of diag(H). All of it in float32, float64 where that fails.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from compression.errors import NumericalError
from compression.finite import all_finite
from compression.products import factors_in

MAX_DAMP = 1.0
STRIPS = 8
STRIP = 144  # columns that a strip has at least; narrower ones cost a CPU more than they spare
ROUNDING_STRIP = 384  # the same where a CPU rounds the factors of each product to bfloat16 first
GPU_STRIP = 3072  # columns that it takes to fill a GPU: cut finer, an H200 is slower at the part than at the whole
PANEL, GPU_PANEL = 256, 1024  # rows worked on at once in a factorisation
ROTATED, GPU_ROTATED = 2**18, 2**24  # numbers moved at once


def strips(columns: int, device: torch.device, narrowest: int = STRIP) -> tuple[tuple[int, int], ...]:
    """Cut columns so that a symmetric product, or one with a symmetric matrix, takes little more than half of the work.

    Nine sixteenths with eight strips; there are fewer of a matrix that is too narrow for eight.
    """
    count = max(1, min(STRIPS, columns // (narrowest if device.type == "cpu" else GPU_STRIP)))
    return tuple(pairwise(part * columns // count for part in range(count + 1)))


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

    The sum is symmetric, so that only its upper triangle is computed, in strips of rows (`strips`).

    Args:
        reads: the dtype in which the matrices read X. In bfloat16 the products of two numbers are exact in float32, so that a
            device with instructions for them adds them up at their speed and loses nothing.
    """

    def __init__(self, columns: int, device: torch.device, reads: torch.dtype = torch.float32) -> None:
        self._sum_CC = torch.zeros(columns, columns, dtype=torch.float32, device=device)
        self._strips = strips(columns, device, STRIP if reads == torch.float32 else ROUNDING_STRIP)
        self._reads = reads
        self._tokens = 0

    def add(self, X_NC: Tensor) -> None:
        """Add one window's inputs; leading dimensions are flattened, so a lone token stays two-dimensional."""
        X_NC = self.read(X_NC)
        with torch.autocast(X_NC.device.type, enabled=False), factors_in(self._reads):
            for first, last in self._strips:
                add_product(self._sum_CC[first:last, first:], X_NC[:, first:last].T, X_NC[:, first:])
        self._tokens += X_NC.shape[0]

    def read(self, X_NC: Tensor) -> Tensor:
        """(N, C), rounded as the matrices read it; on a CPU in float32, whose products of bfloat16 would be rounded too."""
        X_NC = X_NC.reshape(-1, X_NC.shape[-1]).to(self._reads)
        return X_NC if X_NC.is_cuda else X_NC.float()

    def absorb(self, other: "Accumulator") -> None:
        """Add what another one has heard of the same input."""
        self._sum_CC += other._sum_CC
        self._tokens += other._tokens

    def finish(self, name: str) -> "Hessian":
        """The Hessian of what was added; the sum is handed over, not copied.

        Raises: NumericalError: naming the layer, when an input held NaN or infinity; damping cannot cure that.
        """
        if not all_finite(self._sum_CC):
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
                U_CC = _inverse_upper_factor(self._reversed(tried, dtype, order))
                if U_CC is not None:
                    return Factor(U_CC.to(torch.float32), tried, tuple(steps))
                steps.append(f"not positive definite with damp {tried:g} in {str(dtype).removeprefix('torch.')}")
        raise SingularHessian(tuple(steps))

    def damped(self, damp: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """A copy of H with a one on the diagonal for dead inputs, and `damp` times the diagonal's mean added to it."""
        return _damp(self.H_CC.to(dtype, copy=True), damp)

    def _reversed(self, damp: float, dtype: torch.dtype, order: Tensor | None) -> Tensor:
        """The same with rows and columns in the given order, backwards. Copied by panels, so that it is one copy."""
        columns = len(self.H_CC)
        back_C = torch.arange(columns, device=self.H_CC.device).flip(0) if order is None else order.flip(0)
        A_CC = torch.empty(columns, columns, dtype=dtype, device=self.H_CC.device)
        for first in range(0, columns, PANEL):
            A_CC[first : first + PANEL] = self.H_CC[back_C[first : first + PANEL]][:, back_C]
        return _damp(A_CC, damp)


def _damp(H_CC: Tensor, damp: float) -> Tensor:
    """In place. A dead input constrains nothing; its weights are zeroed and its column decoupled."""
    diagonal = H_CC.diagonal()
    diagonal.masked_fill_(diagonal == 0, 1)
    diagonal += damp * diagonal.mean()
    return H_CC


def add_product(sum_RC: Tensor, A_RN: Tensor, B_NC: Tensor) -> None:
    """sum += A B, summed up in float32 whatever dtype the factors have, and where the sum lies."""
    if A_RN.dtype == torch.float32:
        sum_RC.addmm_(A_RN, B_NC)
    else:
        torch.addmm(sum_RC, A_RN, B_NC, out_dtype=torch.float32, out=sum_RC)  # CUDA alone has it


def _damps(damp: float) -> list[float]:
    damps = [damp]
    while damps[-1] < MAX_DAMP:
        damps.append(min(damps[-1] * 10, MAX_DAMP))
    return damps


def _inverse_upper_factor(A_CC: Tensor) -> Tensor | None:
    """Upper U with U^T U = H^-1 by one Cholesky and one triangular inverse; None where H is not positive definite.

    With J the reversal, J H J = M M^T gives H = R R^T for R = J M J upper, hence U = R^-1 = J M^-1 J. No second factorisation
    of an inverse, which is where the textbook way fails on ill-conditioned matrices.

    Args: A_CC: J H J, contiguous. Every step is made in its memory, which U takes over: beside H a factorisation holds one
        matrix of its size, and panels of a few hundred rows.
    """
    if not _factorise(A_CC):
        return None
    _invert_lower(A_CC)
    _rotate(A_CC)
    return A_CC if all_finite(A_CC) and bool((A_CC.diagonal() > 0).all()) else None


def _factorise(A_CC: Tensor) -> bool:
    """A = M M^T becomes M, lower. Returns: whether A is positive definite."""
    failed = torch.empty((), dtype=torch.int32, device=A_CC.device)
    # LAPACK counts by columns: to it, the transposed view is the matrix as it lies in memory, and its upper factor our lower.
    # CUDA's library takes half as long again for an upper factor as for a lower one, which is turned over in a moment.
    is_upper = A_CC.device.type == "cpu"
    torch.linalg.cholesky_ex(A_CC.mT, upper=is_upper, out=(A_CC.mT, failed))
    if not is_upper:
        _turn_over(A_CC)
    return int(failed) == 0


def _turn_over(M_CC: Tensor) -> None:
    """An upper triangular matrix becomes its transpose, panel by panel of rows."""
    for first in range(0, len(M_CC), GPU_PANEL):
        rows, behind = slice(first, first + GPU_PANEL), slice(first + GPU_PANEL, None)
        M_CC[rows, rows] = M_CC[rows, rows].T.clone()
        M_CC[behind, rows] = M_CC[rows, behind].T
        M_CC[rows, behind] = 0


def _invert_lower(M_CC: Tensor) -> None:
    """M becomes M^-1, panel by panel of rows: with M = [[A, 0], [B, D]] the rows below A^-1 are [-D^-1 B A^-1, D^-1]."""
    panel = PANEL if M_CC.device.type == "cpu" else GPU_PANEL
    for first in range(0, len(M_CC), panel):
        rows = slice(first, first + panel)
        D_PP = M_CC[rows, rows]
        eye_PP = torch.eye(len(D_PP), dtype=M_CC.dtype, device=M_CC.device)
        D_PP.copy_(torch.linalg.solve_triangular(D_PP, eye_PP, upper=False))
        B_PN = D_PP @ M_CC[rows, :first]
        for begin, end in strips(first, M_CC.device):  # A^-1 is lower: nothing above the diagonal need be multiplied
            M_CC[rows, begin:end] = (B_PN[:, begin:] @ M_CC[begin:first, begin:end]).neg_()


def _rotate(M_CC: Tensor) -> None:
    """J M J in place: the numbers in memory in reverse."""
    flat = M_CC.view(-1)
    count, middle = len(flat), len(flat) // 2
    step = ROTATED if M_CC.device.type == "cpu" else GPU_ROTATED
    for first in range(0, middle, step):
        last = min(first + step, middle)
        ahead = flat[first:last].flip(0)
        flat[first:last] = flat[count - last : count - first].flip(0)
        flat[count - last : count - first] = ahead
