"""The fused sweep beside the plain one, on problems where each could go wrong in its own way.

    TRITON_INTERPRET=1 python -m tests.compression.fused_cases

runs all of them by Triton's interpreter, which needs no GPU, and prints what failed as JSON by name. It is a program because
Triton reads that variable when a kernel is defined.

Shapes: R = out_features, C = in_features.
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.grids import fit
from compression.obs import PlainColumns, sweep
from compression.options import Offset, WholeBits
from compression.pruners import NmPruner, Pruner, UnstructuredPruner
from compression.rounder import Rounder
from tests.compression.problems import correlated_inputs, hessian_of, random_weights, seeded


@dataclass(frozen=True)
class Grid:
    """How a case rounds. Static groups are visited in a random order, so that every column may be of another group."""

    size: int
    bits: WholeBits = 4
    is_static: bool = False
    search: bool = False
    offset: Offset = "zero_point"
    is_unit: bool = False  # whole numbers -8 .. 7 in 4 bits

    def fitted(self, W_RC: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.is_unit:
            scale_R1 = torch.ones_like(W_RC[:, :1])
            return scale_R1, 8 * scale_R1
        if not self.is_static:
            return None
        W_RGS = torch.nn.functional.pad(W_RC, (0, -W_RC.shape[1] % self.size)).unflatten(1, (-1, self.size))
        return fit(W_RGS, self.bits, symmetric=False, search=False, scale_dtype=torch.float32, offset=self.offset)


@dataclass(frozen=True)
class Case:
    rows: int = 11
    columns: int = 36  # two leaves, the last one ragged
    block_size: int = 128
    sparsity: float | None = None
    nm: tuple[int, int] | None = None
    parts: tuple[int, ...] = ()
    grid: Grid | None = None
    dead: tuple[int, ...] = ()
    weights: Callable[[int, int], Tensor] = random_weights
    is_coupled: bool = True  # otherwise H is diagonal, no column touches another, and what ties at first ties for ever

    def problem(self, device: str) -> tuple[Tensor, Tensor]:
        """Weights, and the factor of the inverse Hessian."""
        W_RC = self.weights(self.rows, self.columns)
        W_RC[:, list(self.dead)] = 0
        return W_RC.to(device), self.factor().to(device)

    def factor(self) -> Tensor:
        if not self.is_coupled:
            return torch.eye(self.columns)
        X_NC = correlated_inputs(4 * self.columns + 8, self.columns)
        X_NC[:, list(self.dead)] = 0
        return hessian_of(X_NC).factor(0.01).U_CC

    def pruner(self, U_CC: Tensor) -> Pruner | None:
        if self.nm:
            return NmPruner(U_CC, *self.nm)
        return None if self.sparsity is None else UnstructuredPruner(U_CC, self.sparsity, self.parts)

    def rounder(self, W_RC: Tensor) -> Rounder | None:
        if self.grid is None:
            return None
        grid, group_C = self.grid, torch.arange(self.columns, dtype=torch.int32, device=W_RC.device) // self.grid.size
        if grid.is_static:
            group_C = group_C[torch.randperm(self.columns, generator=seeded(5)).to(W_RC.device)]
        return Rounder(
            self.rows,
            group_C,
            grid.bits,
            symmetric=False,
            search=grid.search,
            scale_dtype=torch.float32,
            fitted=grid.fitted(W_RC),
            offset=grid.offset,
        )


def few_values(rows: int, columns: int) -> Tensor:
    """Ties everywhere."""
    return torch.randint(1, 4, (rows, columns), generator=seeded(1)) * (0.5 - 1.0 * (random_weights(rows, columns) > 0))


def halves(rows: int, columns: int) -> Tensor:
    """Whole and half numbers, where rounding half up and half to even differ, some numbers beyond all grids, and zeros."""
    W_RC = torch.arange(-20, rows * columns - 20).remainder(41).sub(20).div(2).view(rows, columns)
    W_RC[0, 1], W_RC[0, 2] = 1e9, -1e9
    return W_RC


CASES = {
    "half": Case(rows=33, sparsity=0.5),
    "half in blocks": Case(sparsity=0.5, block_size=24),
    "stacked matrices": Case(rows=29, sparsity=0.37, parts=(21, 7, 1)),
    "one weight": Case(rows=1, columns=1, sparsity=0.5),
    "nothing": Case(columns=33, sparsity=0.0),
    "dead inputs": Case(sparsity=0.5, dead=(3, 33, 35), grid=Grid(16)),
    "2:4": Case(rows=33, nm=(2, 4)),
    "4:8": Case(columns=40, nm=(4, 8)),
    "2:3": Case(nm=(2, 3)),
    "one group a leaf": Case(columns=64, nm=(20, 32)),
    "2:4 with ties": Case(nm=(2, 4), weights=few_values, is_coupled=False),
    "4:8 with ties": Case(columns=40, nm=(4, 8), weights=few_values, is_coupled=False),
    "groups of 8": Case(grid=Grid(8)),
    "groups of one": Case(columns=3, grid=Grid(1)),
    "groups of 48": Case(columns=70, grid=Grid(48, bits=3)),
    "groups larger than a block": Case(columns=70, grid=Grid(64), block_size=24),
    "rows": Case(grid=Grid(36)),
    "searched grids": Case(grid=Grid(16, bits=2, search=True)),
    "static groups": Case(grid=Grid(16, is_static=True)),
    "minimum": Case(grid=Grid(16, offset="minimum")),
    "minimum, static groups": Case(grid=Grid(16, is_static=True, offset="minimum")),
    "halves": Case(rows=4, grid=Grid(36, is_unit=True), weights=halves, is_coupled=False),
    "halves with a minimum": Case(rows=4, grid=Grid(36, is_unit=True, offset="minimum"), weights=halves, is_coupled=False),
    "joint": Case(sparsity=0.5, grid=Grid(16)),
    "joint 2:4": Case(nm=(2, 4), grid=Grid(8)),
    "joint 4:8 by rows": Case(columns=40, nm=(4, 8), grid=Grid(40)),
    "joint 4:8 in groups of 40": Case(columns=80, nm=(4, 8), grid=Grid(40)),
}


def check(case: Case, device: str) -> None:
    """Raises: AssertionError: the kernel decides otherwise than torch operations on the same device."""
    from compression.fused_columns import FusedColumns

    W_RC, U_CC = case.problem(device)
    outcomes = []
    for decider in (PlainColumns, FusedColumns):
        rounder = case.rounder(W_RC)
        pruner = case.pruner(U_CC)
        swept = sweep(W_RC, U_CC, pruner=pruner, rounder=rounder, block_size=case.block_size, decider=decider)
        outcomes.append((swept, rounder))
    (plain, plain_rounder), (fused, fused_rounder) = outcomes
    assert torch.equal(plain.W_RC == 0, fused.W_RC == 0), "other weights are zero"
    assert_close(fused.W_RC, plain.W_RC)
    assert abs(fused.squared_error - plain.squared_error) <= 1e-5 * plain.squared_error
    if plain_rounder and fused_rounder:
        assert torch.equal(plain_rounder.codes_CR, fused_rounder.codes_CR), "other codes"
        assert_close(fused_rounder.scale_RG, plain_rounder.scale_RG)
        assert_close(fused_rounder.zero_RG, plain_rounder.zero_RG)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Sums of the same products in another order."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def _failure(case: Case) -> str:
    try:
        check(case, "cpu")
    except Exception:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    json.dump({name: _failure(case) for name, case in CASES.items()}, sys.stdout)
