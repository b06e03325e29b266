"""Tails of the binomial distribution, without SciPy: what so few errors in so many rows rule out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cdf", "upper_bound"]

NOTHING = 1e-17
"""A term this small, as a share of the sum so far, is lost in rounding, and all that follow are smaller."""


def cdf(errors: ArrayLike, rows: ArrayLike, rate: float) -> NDArray[np.float64]:
    """Return the probability of at most so many errors among so many rows.

    Parameters
    ----------
    errors : int array, shape (n,)
        At least 0.
    rows : int array, shape (n,)
        At least `errors`.
    rate : float
        Of errors, above 0 and below 1.

    Returns
    -------
    float64 array, shape (n,)
        Relative error of the smaller tail below 1e-8 for up to a million rows.

    Notes
    -----
    The probability of exactly `errors` times a sum whose terms fall away from the mean,

        P(i - 1) / P(i) = i / (rows - i + 1) * (1 - rate) / rate,

    so that it is added up on the side of the mean where `errors` is.

    Examples
    --------
    >>> cdf([0, 1], [2, 2], 0.5).round(12).tolist()
    [0.25, 0.75]
    """
    k, n = np.atleast_1d(np.asarray(errors, np.int64)), np.atleast_1d(np.asarray(rows, np.int64))
    low = k <= n * rate
    # Above the mean it is the other tail that is small: at least k + 1 errors are at most n - k - 1 hits.
    of = np.where(low, k, n - k - 1)
    tail = _lower_tail(of, n, np.where(low, rate, 1 - rate))
    return np.where(low, tail, 1 - tail)


def _lower_tail(k: NDArray[np.int64], n: NDArray[np.int64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum from `k` down; `k` is at most the mean, or -1."""
    term = np.exp(_log_probability(k, n, rate))
    total = term.copy()
    odds = (1 - rate) / rate
    left = np.flatnonzero(k > 0)
    i, top, ratio, term = k[left], n[left] + 1, odds[left], term[left]
    while len(left):
        term = term * (ratio * i / (top - i))
        total[left] += term
        i = i - 1
        more = (i > 0) & (term > NOTHING * total[left])
        if not more.all():
            left, i, top, ratio, term = left[more], i[more], top[more], ratio[more], term[more]
    return total


def _log_probability(
    k: NDArray[np.int64], n: NDArray[np.int64], rate: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of exactly `k`; of -1 it is minus infinity."""
    ways = [
        math.lgamma(b + 1) - math.lgamma(a + 1) - math.lgamma(b - a + 1) if a >= 0 else -math.inf
        for a, b in zip(k.tolist(), n.tolist(), strict=True)
    ]
    found: NDArray[np.float64] = np.maximum(k, 0) * np.log(rate) + (n - k) * np.log1p(-rate)
    return found + np.array(ways, np.float64)


def upper_bound(errors: int, rows: int, miss: float) -> float:
    """Return the error rate that so few errors rule out: Clopper and Pearson's upper bound.

    Parameters
    ----------
    errors, rows : int
        ``0 <= errors <= rows``.
    miss : float
        Probability, above 0 and below 1, with which the bound may lie below the truth.

    Returns
    -------
    float
        The rate of which at most `errors` have probability `miss`; 1 if all rows are errors.

    References
    ----------
    Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of
    the binomial", Biometrika 26, 1934.

    Examples
    --------
    >>> round(upper_bound(0, 59, 0.05), 4), round(upper_bound(3, 100, 0.05), 4)
    (0.0495, 0.0757)
    """
    if errors >= rows:
        return 1.0
    # Newton's steps on the logarithm of the tail, which is concave; bisection where they leave the bracket.
    low, high, rate = 0.0, 1.0, (errors + 1) / (rows + 1)
    for _ in range(200):
        tail = float(cdf([errors], [rows], rate)[0])
        low, high = (rate, high) if tail > miss else (low, rate)
        following = math.nan
        if tail > 0:
            exactly = float(_log_probability(np.array([errors]), np.array([rows]), np.array([rate]))[0])
            slope = -(rows - errors) * math.exp(exactly) / (1 - rate) / tail
            following = rate - math.log(tail / miss) / slope if slope < 0 else math.nan
        if not low < following < high:
            following = (low + high) / 2
        done = abs(following - rate) <= 1e-12 * rate
        rate = following
        if done:
            break
    return rate
