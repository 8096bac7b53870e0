"""The columns of a leaf decided by one Triton kernel.

Rows do not touch each other once it is known which weights go, so each program takes a tile of rows of a leaf into registers
and walks its columns in order: prune, round, push the error onto the columns after it. Nothing is contracted into fused
multiply-adds and divisions are exact, so that every number is rounded as torch rounds it.

Vectors of S are loaded as such and then stood up: loaded as a column they would bring the layout of a column, in which each
thread of a warp works on all rows.

Shapes: R = out_features, G = groups in a row, S = columns of a leaf, T = rows of a tile.
"""

import triton
import triton.language as tl

LEAF, TILE = 32, 32  # columns and rows that a program of one warp holds in registers: a row a thread
OPTIONS = {"num_warps": 1, "enable_fp_fusion": False}

_ALIGNMENT_VARIES = ["V_SS", "drop_SR", "d_S", "steps_SR", "group_S"]  # slices: specialising on it would compile variants
_SIZE_VARIES = ["rows", "width", "stride", "step", "n", "m", "top"]


@triton.jit(do_not_specialize=_SIZE_VARIES, do_not_specialize_on_alignment=_ALIGNMENT_VARIES)
def decide_leaf(
    W_SR,
    E_SR,
    V_SS,
    drop_SR,
    d_S,
    steps_SR,
    scale_GR,
    zero_GR,
    group_S,
    rows,
    width,
    stride,
    step,
    n,
    m,
    top,
    PRUNES: tl.constexpr,
    ROUNDS: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
):
    """Decide `width` <= S columns of T rows: write weights, errors and, where it rounds, steps from the zero point or codes.

    Args: PRUNES: by the "mask" that is given, "n:m", or "". ROUNDS: the grid's offset, or "".
    """
    row_T = tl.program_id(0) * T + tl.arange(0, T)
    is_row_T = row_T < rows
    place_S = tl.arange(0, S)
    place_S1 = place_S[:, None]
    at_ST = place_S1 * rows + row_T[None, :]
    is_there_ST = (place_S1 < width) & is_row_T[None, :]
    W_ST = tl.load(W_SR + at_ST, mask=is_there_ST, other=0.0)
    score_ST = W_ST
    if PRUNES == "n:m":
        d_S1 = tl.load(d_S + place_S, mask=place_S < width, other=1.0)[:, None]
    for column in range(width):
        w_T = _column(W_ST, place_S1, column)
        q_T = w_T
        at_T = column * rows + row_T
        if PRUNES == "mask":
            q_T = tl.where(tl.load(drop_SR + at_T, mask=is_row_T, other=0.0) == 0.0, w_T, 0.0)
        elif PRUNES == "n:m":
            if column % m == 0:
                score_ST = tl.div_rn(W_ST, tl.broadcast_to(d_S1, (S, T)))
                score_ST = score_ST * score_ST
            q_T = tl.where(_before(score_ST, place_S1, column, m) < n, w_T, 0.0)
        if ROUNDS != "":
            at_grid_T = tl.load(group_S + column).to(tl.int64) * rows + row_T
            scale_T = tl.load(scale_GR + at_grid_T, mask=is_row_T, other=1.0)
            zero_T = tl.load(zero_GR + at_grid_T, mask=is_row_T, other=0.0)
            steps_T, q_T = _round(q_T, scale_T, zero_T, top, ROUNDS)
            tl.store(steps_SR + at_T, steps_T, mask=is_row_T)
        e_T = w_T - q_T
        tl.store(E_SR + at_T, e_T, mask=is_row_T)
        v_S = tl.load(V_SS + column * stride + place_S * step, mask=(place_S > column) & (place_S < width), other=0.0)
        W_ST = tl.where(place_S1 == column, q_T[None, :], W_ST - v_S[:, None] * e_T[None, :])
    tl.store(W_SR + at_ST, W_ST, mask=is_there_ST)


@triton.jit
def _column(X_ST, place_S1, column):
    return tl.sum(tl.where(place_S1 == column, X_ST, 0.0), 0)


@triton.jit
def _before(score_ST, place_S1, column, m):
    """How many of a column's n:m group come before it: those that score more, and of equal ones those with a lower column."""
    score_1T = _column(score_ST, place_S1, column)[None, :]
    first = column - column % m
    is_of_group_S1 = (place_S1 >= first) & (place_S1 < first + m)
    is_before_ST = (score_ST > score_1T) | ((score_ST == score_1T) & (place_S1 < column))
    return tl.sum((is_of_group_S1 & is_before_ST).to(tl.int32), 0)


@triton.jit
def _round(w_T, scale_T, zero_T, top, OFFSET: tl.constexpr):
    """Steps and value of each weight, as `Rounder.round`; clamped first, which between whole numbers is the same."""
    steps_T = tl.div_rn(w_T, scale_T)
    if OFFSET == "zero_point":
        steps_T = _half_to_even(tl.minimum(tl.maximum(steps_T, -zero_T), top - zero_T))
        value_T = steps_T * scale_T
    else:
        steps_T = _half_to_even(tl.minimum(tl.maximum(steps_T + zero_T, 0.0), top * 1.0))
        value_T = steps_T * scale_T + (-zero_T * scale_T).to(tl.float16).to(tl.float32)
    return steps_T, value_T


@triton.jit
def _half_to_even(x):
    """Beyond 2^23 a float32 holds whole numbers only, so the sum is rounded as all sums are. For |x| < 2^22."""
    return (x + 12582912.0) - 12582912.0
