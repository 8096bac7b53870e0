"""Which units of a matrix go, in which order, and what the others become: structured optimal brain surgery, one at a time.

Every removal moves the remaining weights to where they make up for it best, and updates the inverse Hessian, so that of two
units that say the same only one is cheap. All of it in float64.

Shapes: R = out_features, C = in_features, U = units of G columns each, A = columns still there, K = columns kept.

Source: ZipLM, arXiv:2302.04089, section 3.1: the cost of unit S is rho_S = sum_i W[i,S] ((H^-1)[S,S])^-1 W[i,S]^T, and with
H = (2/n) sum x x^T the mean squared error of the output grows by rho_S / 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.errors import NumericalError

REFRESH = 256  # removals, after which H^-1 is computed anew: rounding adds up
DAMPS = (0.0, 0.01, 0.1)  # of the mean of diag(H); the later ones where H cannot be inverted with the earlier
LEAST_PIVOT = 1e-12  # of the mean of diag(H): what is less is rounding, and its inverse noise


@dataclass(frozen=True)
class Removed:
    """The matrix at one level.

    Args:
        kept: units that are left, rising.
        weights_RK: the weights of their columns, side by side; float64.
        error: what the removals cost by their saliencies: the mean squared error of the output, sum over its features.
        order: the units that went, first to last, up to this level.
        damp: what was added to H to invert it, as a share of the mean of its diagonal.
    """

    kept: tuple[int, ...]
    weights_RK: Tensor
    error: float
    order: tuple[int, ...]
    damp: float


def remove_units(
    W_RC: Tensor, H_CC: Tensor, width: int, levels: Sequence[int], *, refresh: int = REFRESH
) -> Iterator[Removed]:
    """Remove units one after the other, always the one that costs least, and tell of each level when it is reached.

    Args:
        W_RC: output matrix; any floating dtype; not modified.
        H_CC: (2/n) sum x x^T of its inputs; not modified.
        width: columns of a unit, side by side.
        levels: numbers of units to keep, falling; 0 is not told of, since nothing is left then.
        refresh: removals between two inversions of H.
    Raises: NumericalError: H or W is not finite, or H cannot be inverted even when damped.
    """
    surgery = _Surgery(W_RC.double(), H_CC.double(), width)
    wanted = [level for level in levels if level > 0]
    while wanted:
        while surgery.left > wanted[0]:
            if surgery.since_inverted >= refresh or not surgery.is_sound:
                surgery.invert()
            surgery.remove_cheapest()
        yield surgery.snapshot()
        wanted = wanted[1:]


def refit(W_RC: Tensor, H_CC: Tensor, columns_K: Tensor, damp: float = 0.0) -> Tensor:
    """The weights of some columns that make up best for the loss of all others: W H[:,K] (H[K,K])^-1.

    Removing one by one leads to these very weights, whatever the order (ZipLM, section 3.1), so that a level is known by what
    it keeps.

    Args: columns_K: the columns that are kept, rising. damp: that the removals needed, see `Removed`.
    Returns: (R, K), float64.
    Raises: NumericalError: H of the kept columns cannot be inverted.
    """
    W_RC, H_CC = _without_dead(W_RC.double(), H_CC.double())
    H_CC = H_CC + damp * H_CC.diagonal().mean() * _eye(H_CC)
    root_KK, failed = torch.linalg.cholesky_ex(H_CC[columns_K][:, columns_K])
    if int(failed):
        raise NumericalError("removal", "the Hessian of the kept columns cannot be inverted")
    weights_KR: Tensor = torch.cholesky_solve(H_CC[columns_K] @ W_RC.T, root_KK)
    return weights_KR.T


def relative_error(W_RC: Tensor, H_CC: Tensor, columns_K: Tensor, weights_RK: Tensor) -> float:
    """Mean squared error of the output over its mean square, tr(D H D^T) / tr(W H W^T); 1 where the output is always 0."""
    W_RC, H_CC = W_RC.double(), H_CC.double()
    D_RC = W_RC.clone()
    D_RC[:, columns_K] -= weights_RK.double()
    whole = float(((W_RC @ H_CC) * W_RC).sum())
    return float(((D_RC @ H_CC) * D_RC).sum()) / whole if whole > 0 else 1.0


def columns_of(units: Sequence[int], width: int, device: torch.device | None = None) -> Tensor:
    """Columns, or rows, of these units, `width` for each."""
    return (torch.tensor(units, device=device)[:, None] * width + torch.arange(width, device=device)).flatten()


def _without_dead(W_RC: Tensor, H_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs that were never anything but zero: their weights say nothing, and stand in nobody's way."""
    dead_C = H_CC.diagonal() == 0
    return W_RC.masked_fill(dead_C, 0), (H_CC + H_CC.T) / 2 + torch.diag(dead_C.double())


class _Surgery:
    """The columns that are still there; what is removed is dropped at the next inversion, and until then zero."""

    def __init__(self, W_RC: Tensor, H_CC: Tensor, width: int) -> None:
        if not (torch.isfinite(W_RC).all() and torch.isfinite(H_CC).all()):
            raise NumericalError("removal", "weights or Hessian hold NaN or infinity")
        assert W_RC.shape[1] == len(H_CC) and len(H_CC) % width == 0, "units tile the columns"
        self._W_RA, self._H_CC = _without_dead(W_RC, H_CC)
        self._width, self._damp, self.error = width, 0.0, 0.0
        self.order: list[int] = []
        self._units = torch.arange(len(H_CC) // width, device=W_RC.device)  # the number of each unit that is in W and H^-1
        self._is_here = torch.ones_like(self._units, dtype=torch.bool)
        self._I_AA, self._norms_A = self._inverse(), self._W_RA.square().sum(0)
        self.since_inverted = 0

    @property
    def left(self) -> int:
        return int(self._is_here.sum())

    @property
    def is_sound(self) -> bool:
        """Whether rounding has left the diagonal of H^-1 positive."""
        return bool((self._I_AA.diagonal() > 0).all())

    def invert(self) -> None:
        """Drop what was removed, and compute the inverse for what is left from H itself."""
        self._W_RA = self._W_RA[:, self._columns(self._is_here)].contiguous()
        self._units = self._units[self._is_here]
        self._is_here = torch.ones_like(self._units, dtype=torch.bool)
        self._I_AA, self._norms_A = self._inverse(), self._W_RA.square().sum(0)
        self.since_inverted = 0

    def remove_cheapest(self) -> None:
        cost_U = self._costs().masked_fill(~self._is_here, torch.inf)
        unit = int(cost_U.argmin())
        self.error += max(float(cost_U[unit]), 0.0) / 2
        at = slice(unit * self._width, (unit + 1) * self._width)
        rows_GA = self._I_AA[at].clone()  # of the matrix that is changed below
        # With (H^-1)[S,S] = L L^T both updates are products with L^-1 (H^-1)[S,:], the second one of that with itself.
        root_GG = _root(rows_GA[:, at])
        scaled_GA = torch.linalg.solve_triangular(root_GG, rows_GA, upper=False)
        lost_RG = torch.linalg.solve_triangular(root_GG, self._W_RA[:, at].T, upper=False).T
        if self._width == 1:
            self._forget_column(lost_RG[:, 0], scaled_GA[0])
        else:
            self._W_RA.addmm_(lost_RG, scaled_GA, alpha=-1)
            self._I_AA.addmm_(scaled_GA.T, scaled_GA, alpha=-1)
            self._I_AA.add_(self._I_AA.T.clone()).div_(2)
        self._is_here[unit] = False
        self._W_RA[:, at] = 0
        self._I_AA[at] = 0
        self._I_AA[:, at] = 0
        self._I_AA[at, at] = _eye(rows_GA[:, at])
        self.order.append(int(self._units[unit]))
        self.since_inverted += 1

    def _forget_column(self, lost_R: Tensor, scaled_A: Tensor) -> None:
        """The updates of a single column. Norms follow from one product with a vector, twenty times faster than from W."""
        self._norms_A.sub_(2 * scaled_A * (self._W_RA.T @ lost_R)).add_(scaled_A.square() * lost_R.square().sum()).clamp_(
            min=0
        )
        self._W_RA.addr_(lost_R, scaled_A, alpha=-1)
        self._I_AA.addcmul_(scaled_A[:, None], scaled_A[None], value=-1)  # symmetric to the last bit

    def snapshot(self) -> Removed:
        kept = tuple(self._units[self._is_here].tolist())
        weights_RK = self._W_RA[:, self._columns(self._is_here)].clone()
        return Removed(kept, weights_RK, self.error, tuple(self.order), self._damp)

    def _costs(self) -> Tensor:
        """Saliency of each unit; (U,)."""
        if self._width == 1:
            return self._norms_A / self._I_AA.diagonal()
        split = (len(self._units), self._width)
        blocks_UGG = self._I_AA.unflatten(1, split).unflatten(0, split).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        W_UGR = self._W_RA.unflatten(1, split).permute(1, 2, 0)
        solved_UGR: Tensor = torch.linalg.solve_triangular(_root(blocks_UGG), W_UGR, upper=False)
        return solved_UGR.square().sum((1, 2))

    def _inverse(self) -> Tensor:
        """H^-1 of the columns that are here; with damping only where it fails without, and from then on."""
        here = torch.arange(len(self._H_CC), device=self._units.device).view(-1, self._width)[self._units].flatten()
        H_AA = self._H_CC[here][:, here]
        mean = float(self._H_CC.diagonal().mean())
        for damp in sorted({self._damp, *DAMPS}):
            if damp < self._damp:
                continue
            root_AA, failed = torch.linalg.cholesky_ex(H_AA + damp * mean * _eye(H_AA))
            if int(failed) == 0 and float(root_AA.diagonal().square().min()) > LEAST_PIVOT * mean:
                self._damp = damp
                inverse_AA: Tensor = torch.cholesky_inverse(root_AA)
                return (inverse_AA + inverse_AA.T) / 2
        raise NumericalError("removal", f"the Hessian cannot be inverted, damped by {DAMPS[-1]:g} of its mean diagonal either")

    def _columns(self, is_wanted_U: Tensor) -> Tensor:
        return is_wanted_U.repeat_interleave(self._width)


def _root(blocks_GG: Tensor) -> Tensor:
    """Lower L with L L^T = the block, or each of several. Raises: NumericalError: it is not positive definite."""
    root_GG: Tensor
    root_GG, failed = torch.linalg.cholesky_ex(blocks_GG)
    if bool(failed.any()):
        raise NumericalError("removal", "a block of the inverse Hessian is not positive definite; use more calibration tokens")
    return root_GG


def _eye(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)
