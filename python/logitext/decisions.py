"""Calibrated logits whose largest stays where the raw logits have it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.logits import argmax, logsumexp, softmax
from logitext.scalings import AT_ONCE, Scaling

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

AHEAD = 2.0**-19
"""By so much a decision leads those it was pooled with, for probabilities in single precision."""


def applied(map_: Scaling, z: Floats, *, keep: bool, dtype: Any = None) -> Floats:
    """Return calibrated logits of all rows, block by block, in the dtype of `z` or another."""
    found = np.empty(z.shape, dtype or z.dtype)
    if map_.method == "identity":
        found[:] = z
        return found
    highest = float(np.finfo(found.dtype).max)
    step = max(1, AT_ONCE // z.shape[1])
    for begin in range(0, len(z), step):
        block = z[begin : begin + step]
        if found.dtype == z.dtype == np.float32 and map_.light:
            found[begin : begin + step] = map_.lightly(block)
        else:
            calibrated = map_(block)
            # A small temperature may lead out of the range of floats; a masked class stays so.
            np.clip(calibrated, -highest, highest, out=calibrated, where=~np.isneginf(block))
            found[begin : begin + step] = calibrated
        if keep:
            keep_decisions(found[begin : begin + step], argmax(block))
    return found


def keep_decisions(z: Floats, decided: NDArray[np.int64]) -> None:
    """Change rows, in place, so that the largest logit is where it is decided to be.

    Of all distributions that keep the decision, the one closest to a row's own (in the mean log loss
    if its own is the truth) gives the decision and those ahead of it the mean of their probabilities
    and leaves all others; who is below that mean already is not ahead. It is isotonic regression
    with one class above all others.
    """
    late = np.flatnonzero(argmax(z) != decided)
    if not late.size:
        return
    each, own = np.arange(len(late)), decided[late]
    rows = z[late].astype(np.float64)
    shares = softmax(rows)
    mine = shares[each, own].copy()
    shares[each, own] = -1.0  # last in order
    order = np.argsort(-shares, axis=1, kind="stable")
    falling = np.take_along_axis(shares, order, axis=1)[:, :-1]
    sums = mine[:, None] + np.cumsum(falling, axis=1) - falling
    ahead = falling > sums / np.arange(1, falling.shape[1] + 1)
    pooled = np.zeros(rows.shape, bool)
    np.put_along_axis(pooled, order[:, :-1], ahead, axis=1)
    pooled[each, own] = True
    counts = pooled.sum(axis=1)
    logarithms = np.array([math.log(max(1, count)) for count in range(int(counts.max()) + 1)])
    level = logsumexp(np.where(pooled, rows, -np.inf)) - logarithms[counts]
    rows = np.where(pooled, level[:, None], rows)
    rows[each, own] = level + AHEAD * np.maximum(1.0, np.abs(level))
    z[late] = rows
