"""How SpQR decides a column of the sweep: round it to a two-level grid, and keep what costs too much as an outlier.

Shapes: R = out_features, C = in_features in the order of the sweep, G = groups in a row, S = weights in a group, T = runs of
rows. Source: SpQR, arXiv:2306.03078, algorithm 1.
"""

import torch
from torch import Tensor

from compression import spqr_grid
from compression.options import SpqrOptions
from compression.spqr_weights import SpqrWeights


class SpqrRounder:
    """Rounds columns, fits both levels of a group's grids when the sweep reaches it, and sets outliers apart.

    Two decisions that look alike are kept apart, as in the paper: which weights would spoil the fit of their group (judged by
    leaving each out in turn), and which of them, once the grid is fixed, cost more than the threshold and are kept.

    Args:
        W_RC: weights in the order of the sweep, before it.
        U_CC: upper factor of H^-1 in that order.
    """

    def __init__(self, W_RC: Tensor, U_CC: Tensor, options: SpqrOptions) -> None:
        rows, columns = W_RC.shape
        self._options = options
        self._size = options.group_size if isinstance(options.group_size, int) else columns
        self._d_C = U_CC.diagonal()
        self._threshold = threshold(W_RC, self._d_C, options.outlier_threshold)
        groups, runs = -(-columns // self._size), -(-rows // options.qq_group_size)
        self.align = 1 if groups == 1 else self._size
        self._codes_CR = W_RC.new_empty(columns, rows, dtype=torch.uint8)
        self._outliers_CR = W_RC.new_zeros(columns, rows, dtype=torch.float16)
        self._statistics_2GR = W_RC.new_empty(2, groups, rows, dtype=torch.uint8)
        self._meta_4GT = W_RC.new_empty(4, groups, runs, dtype=torch.float16)
        self._scale_R = self._zero_R = torch.empty(0)

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Nothing to prepare: grids are fitted group by group."""

    def leave_block(self) -> None:
        """Nothing to put away."""

    def round(self, w_R: Tensor, W_CR: Tensor, column: int, into_R: Tensor) -> None:
        """The column as it will be read: grid values, at outliers the grid value plus a float16 correction."""
        if column % self._size == 0:
            self._fit(W_CR[column : column + self._size], column)
        code_R = spqr_grid.quantize(w_R, self._scale_R, self._zero_R, self._options.bits)
        value_R = spqr_grid.dequantize(code_R, self._scale_R, self._zero_R)
        missing_R = w_R - value_R
        is_outlier = (missing_R / self._d_C[column]).square() > self._threshold
        correction_R = torch.where(is_outlier, missing_R, 0).to(torch.float16)
        self._codes_CR[column], self._outliers_CR[column] = code_R, correction_R
        torch.add(value_R, correction_R, out=into_R)

    def weights(self, order_C: Tensor | None) -> SpqrWeights:
        """What the sweep decided.

        Args: order_C: the storage column of each column of the sweep; None where they are the same.
        """
        options = self._options
        meta_4TG = self._meta_4GT.transpose(1, 2).contiguous()
        statistics_2RG = self._statistics_2GR.transpose(1, 2).contiguous()
        return SpqrWeights.assemble(
            self._codes_CR.T.contiguous(),
            scale_codes_RG=statistics_2RG[0],
            zero_codes_RG=statistics_2RG[1],
            meta_4TG=meta_4TG,
            outliers_RC=self._outliers_CR.T,
            order_C=order_C,
            bits=options.bits,
            group_size=self._size,
            qq_group_size=options.qq_group_size,
            qq_bits=(options.qq_scale_bits, options.qq_zero_bits),
        )

    def _fit(self, W_SR: Tensor, column: int) -> None:
        options, group = self._options, column // self._size
        harm_SR = spqr_grid.usefulness(W_SR, self._d_C[column : column + len(W_SR)], options.bits)
        fitted = spqr_grid.fit(spqr_grid.without(W_SR, harm_SR > self._threshold), options.bits)
        rounded = []
        for which, (values_R, bits) in enumerate(zip(fitted, (options.qq_scale_bits, options.qq_zero_bits), strict=True)):
            codes_R, step_T, zero_T = spqr_grid.fit_statistics(values_R, bits, options.qq_group_size, is_positive=which == 0)
            self._statistics_2GR[which, group] = codes_R
            self._meta_4GT[2 * which, group], self._meta_4GT[2 * which + 1, group] = step_T, zero_T
            read = spqr_grid.statistics(codes_R[:, None], step_T[:, None], zero_T[:, None], options.qq_group_size)
            rounded.append(read[:, 0].to(W_SR.dtype))
        self._scale_R, self._zero_R = rounded


def threshold(W_RC: Tensor, d_C: Tensor, tau: float) -> float:
    """The error (w - q)^2 / U_jj^2 above which a weight is an outlier: tau times the mean over columns of var(W_j) / U_jj^2.

    The variance is unbiased, over the rows; a lone row is compared with its own spread.
    """
    variance_C = W_RC.var(0) if len(W_RC) > 1 else W_RC.var(1, correction=0)
    return tau * float((variance_C / d_C.square()).mean(dtype=torch.float64))
