"""How far a measured number may be off: intervals by resampling, the same each time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Interval", "distance_interval", "quantiles", "resamples", "share_interval"]

LEVEL = 0.95
NORMAL = 1.959963984540054
"""A normal variable is between minus this and this with the probability LEVEL."""

BLOCK = 1 << 18
"""Weights at a time: 2 MB, which stay in the second-level cache with what is made of them."""


class Interval(NamedTuple):
    """Where the number of all rows there could be is, with a confidence of 95 %; NaN if unknown."""

    low: float
    high: float


def resamples(n: int, count: int, seed: int | Sequence[int] = 0) -> Iterator[NDArray[np.float64]]:
    """Draw rows with replacement, as many as there are, again and again.

    Parameters
    ----------
    n : int
        Rows, at least 1 and fewer than 2**32.
    count : int
        How many times.
    seed : int or sequence of int, default 0

    Yields
    ------
    float64 array, shape (some, n)
        How often each row was drawn: each line sums to `n`. All together there are `count` lines.

    References
    ----------
    Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 6.

    Examples
    --------
    >>> drawn = np.concatenate(list(resamples(4, 100)))
    >>> drawn.shape, set(drawn.sum(axis=1).tolist())
    ((100, 4), {4.0})
    """
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // n)
    for at in range(0, count, step):
        lines = min(step, count - at)
        drawn = rng.integers(0, n, (lines, n), dtype=np.uint32).astype(np.int64)
        drawn += np.arange(lines)[:, np.newaxis] * n
        counts = np.bincount(drawn.reshape(-1), minlength=lines * n)
        yield counts.reshape(lines, n).astype(np.float64)


def quantiles(found: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval that holds 95 % of what resamples gave.

    Parameters
    ----------
    found : float64 array, shape (count, ...)
        A number, or several, of each resample.

    Returns
    -------
    low, high : float64 array, shape (...)
        Each is the number of a resample; NaN where one of them is NaN.

    Examples
    --------
    >>> low, high = quantiles(np.arange(1000.0))
    >>> float(low), float(high)
    (25.0, 974.0)
    """
    ordered = np.sort(found, axis=0)
    cut = math.floor((1 - LEVEL) / 2 * len(ordered))
    unknown = np.isnan(ordered[-1])  # NaN is sorted to the end.
    return np.where(unknown, np.nan, ordered[cut]), np.where(unknown, np.nan, ordered[-1 - cut])


def distance_interval(estimate: float, found: NDArray[np.float64], chance: NDArray[np.float64]) -> Interval:
    """Return the interval of a distance, which noise makes larger.

    A resample has the noise of the rows and as much again of its own. So the lower end is
    reflected at the estimate ("basic" interval), and is 0 where chance alone would show as much;
    the upper end is the larger of the reflected and of that of the resamples.

    Parameters
    ----------
    estimate : float
        At least 0.
    found : float64 array, shape (count,)
        Of resamples.
    chance : float64 array, shape (m,)
        What is found where the true distance is 0.

    Returns
    -------
    Interval
        Not below 0. In simulations it held the truth in 83 to 100 of 100 samples: see
        docs/evaluation.md.

    References
    ----------
    Davison & Hinkley, "Bootstrap methods and their application", 1997, section 5.2.

    Examples
    --------
    >>> found = np.linspace(0.25, 0.5, 1001)
    >>> low, high = distance_interval(0.25, found, np.zeros(100))
    >>> round(low, 2), round(high, 2)
    (0.01, 0.49)
    >>> distance_interval(0.25, found, np.full(100, 0.3)).low
    0.0
    """
    low, high = map(float, quantiles(found))
    explained = estimate <= float(np.quantile(chance, LEVEL))
    return Interval(0.0 if explained else max(0.0, 2 * estimate - high), max(high, 2 * estimate - low))


def share_interval(hits: Any, n: Any) -> Any:
    """Return Wilson's interval of a share: it stays honest where all rows are hits, or none.

    Resampling rows that are all right gives rows that are all right, and an interval
    without width, however few they are.

    Parameters
    ----------
    hits, n : int, or int array, shape (k,)
        So many of so many rows.

    Returns
    -------
    Interval
        In [0, 1], of floats or of float64 arrays of shape (k,); [0, 1] for no rows.

    References
    ----------
    Wilson, "Probable inference", J. American Statistical Association 22, 1927; Brown, Cai &
    DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16, 2001.

    Examples
    --------
    >>> low, high = share_interval(20, 20)
    >>> round(low, 3), high
    (0.839, 1.0)
    """
    k, m = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    square = NORMAL * NORMAL
    middle = (k + square / 2) / (m + square)
    half = NORMAL / (m + square) * np.sqrt(k * (m - k) / np.maximum(m, 1) + square / 4)
    # What rounding would leave a hair from 0 and 1 is there.
    low: Any = np.where(k == 0, 0.0, middle - half)
    high: Any = np.where(k == m, 1.0, middle + half)
    return Interval(float(low), float(high)) if low.ndim == 0 else Interval(low, high)
