"""Which of two models is better on the same rows, and whether that is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitext.intervals import Interval, quantiles, resamples
from logitext.logits import argmax
from logitext.scoring import checked, mean, score_rows, weighted_mean

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: the first model's numbers less the second's."""

    rows: int
    accuracy: float
    """Above 0 the first is better."""
    log_loss: float
    """In nats; below 0 the first is better, as of the next."""
    brier: float
    only_first: int
    """Rows that the first alone decides rightly."""
    only_second: int
    p_value: float
    """McNemar's: how often models that are equally good would differ so much in accuracy, or more."""
    intervals: dict[str, Interval]
    """Of the three differences, of 95 %: 0 outside of it is more than chance."""


def compare(
    z_a: ArrayLike,
    z_b: ArrayLike,
    y: ArrayLike,
    *,
    temperatures: tuple[float, float] = (1.0, 1.0),
    calibrated: tuple[ArrayLike, ArrayLike] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same labelled rows.

    Parameters
    ----------
    z_a, z_b : array, shape (n, n_classes)
        Logits of the first and the second model, classes in the same order.
    y : int array, shape (n,)
        True class of each row.
    temperatures : (float, float), default (1, 1)
        The logits over them are calibrated.
    calibrated : (array, array), optional
        Calibrated logits of both, where a temperature is not enough.
    resamples : int, default 1000
        Of the rows, at least 1. Both models are measured on the same: what is hard for both does
        not widen the intervals.
    seed : int, default 0

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        As `evaluate`, or if the arrays have different shapes.

    Notes
    -----
    McNemar's test is exact: of the rows that only one model decides rightly, as many should
    be the first's as the second's, by the toss of a coin.

    References
    ----------
    McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, 1947; Dietterich, "Approximate statistical tests for
    comparing supervised classification learning algorithms", Neural Computation 10, 1998.

    Examples
    --------
    >>> import logitext as lt
    >>> y = [0, 1] * 50
    >>> right, worse = [[1.0, 0.0], [0.0, 1.0]] * 50, [[0.0, 1.0]] * 10 + [[1.0, 0.0], [0.0, 1.0]] * 45
    >>> found = lt.compare(right, worse, y)
    >>> found.accuracy, found.only_first, found.only_second, round(found.p_value, 4)
    (0.05, 5, 0, 0.0625)
    """
    if resamples < 1:
        raise ValueError(f"there must be at least one resample, got {resamples}")
    if np.shape(z_a) != np.shape(z_b):
        raise ValueError(f"both models must have the same rows and classes: {np.shape(z_a)}, {np.shape(z_b)}")
    calm = (None, None) if calibrated is None else calibrated
    measured = []
    for z, own, temperature in zip((z_a, z_b), calm, temperatures, strict=True):
        logits, probable, truth = checked(z, y, own)
        decided = argmax(logits)
        scored = score_rows(probable, truth, decided, temperature)
        measured.append(((decided == truth).astype(np.float64), scored.loss, scored.brier))
    differences = {}
    for name, first, second in zip(("accuracy", "log_loss", "brier"), *measured, strict=True):
        # Two infinite losses differ by nothing that is known.
        with np.errstate(invalid="ignore"):
            differences[name] = first - second
    n = len(differences["accuracy"])
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in differences}
    # In an order that says nothing of how the rows came.
    order = np.lexsort(tuple(differences.values()))
    for weights in _draw(n, resamples, seed):
        for name, difference in differences.items():
            drawn[name].append(weighted_mean(weights, difference[order]))
    unknown = Interval(math.nan, math.nan)
    intervals = {
        name: Interval(*map(float, quantiles(np.concatenate(values)))) if n > 1 else unknown
        for name, values in drawn.items()
    }
    only_first = int((differences["accuracy"] > 0).sum())
    only_second = int((differences["accuracy"] < 0).sum())
    return Comparison(
        rows=n,
        **{name: mean(difference) for name, difference in differences.items()},
        only_first=only_first,
        only_second=only_second,
        p_value=_coin(only_first, only_second),
        intervals=intervals,
    )


_draw = resamples  # where an argument has its name


def _coin(heads: int, tails: int) -> float:
    """How often a fair coin falls as unevenly as this, or more so."""
    n, few = heads + tails, min(heads, tails)
    k = np.arange(1, few + 1)
    # Logarithms of n over 0, 1, ..., few, times 2 to the minus n.
    ways = np.concatenate([[0.0], np.cumsum(np.log(n - k + 1) - np.log(k))]) - n * math.log(2)
    return min(1.0, 2 * math.fsum(np.exp(ways).tolist()))
