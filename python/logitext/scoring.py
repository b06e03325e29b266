"""What each row of logits costs, and how sure it is: what evaluation and comparison sum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.logits import cross_entropy, softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RowScores", "checked", "mean", "score_rows", "weighted_mean"]

BLOCK = 1 << 18
"""Logits at a time: their float64 and what is computed of it stay in the second-level cache."""


@dataclass(frozen=True)
class RowScores:
    """One number for each row."""

    loss: NDArray[np.float64]
    """Cross-entropy, in nats."""
    brier: NDArray[np.float64]
    """Squared distance of the probabilities from 1 at the truth and 0 elsewhere, summed: 0 to 2."""
    confidence: NDArray[np.float64]
    """Probability of the decision."""


def checked(
    z: ArrayLike, y: ArrayLike, calibrated: ArrayLike | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return logits, calibrated logits and labels that can be measured.

    Parameters
    ----------
    z : array, shape (n, n_classes)
    y : int array, shape (n,)
    calibrated : array, shape (n, n_classes), optional
        `z` by default.

    Returns
    -------
    z, calibrated : array, shape (n, n_classes)
    y : int64 array, shape (n,)

    Raises
    ------
    ValueError
        As `logitext.evaluate`.

    Examples
    --------
    >>> checked([[0.0, float("nan")]], [0])
    Traceback (most recent call last):
        ...
    ValueError: the logits of row 0 cannot be measured: they hold NaN or +inf, or all are -inf
    """
    logits, truth = np.asarray(z), np.asarray(y)
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"there must be logits of at least one row, got shape {logits.shape}")
    if truth.ndim != 1:
        raise ValueError(f"labels must be one per row: logits {logits.shape}, labels {truth.shape}")
    cross_entropy(logits, truth, reduction="sum")  # It says what is wrong with labels.
    calm = logits if calibrated is None else np.asarray(calibrated)
    if calm.shape != logits.shape:
        raise ValueError(f"calibrated logits must be as many as logits: {calm.shape}, {logits.shape}")
    for name, array in (("logits", logits), ("calibrated logits", calm)):
        # The largest of a row is NaN if one is.
        usable = np.isfinite(array.max(axis=1))
        if not usable.all():
            row = int(np.argmin(usable))
            what = "they hold NaN or +inf, or all are -inf"
            raise ValueError(f"the {name} of row {row} cannot be measured: {what}")
    return logits, calm, truth.astype(np.int64)


def score_rows(
    z: NDArray[Any], y: NDArray[np.int64], decided: NDArray[np.int64], temperature: float = 1.0
) -> RowScores:
    """Measure each row.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits whose softmax, at the temperature, are the probabilities.
    y, decided : int64 array, shape (n,)
        Which class is true, and which was decided on.
    temperature : float, default 1

    Returns
    -------
    RowScores

    Examples
    --------
    >>> found = score_rows(np.log([[0.75, 0.25]]), np.array([1]), np.array([0]))
    >>> found.loss.round(3).tolist(), found.brier.tolist(), found.confidence.tolist()
    ([1.386], [1.125], [0.75])
    """
    loss, brier, confidence = (np.empty(len(z)) for _ in range(3))
    step = max(1, BLOCK // max(1, z.shape[1]))
    for at in range(0, len(z), step):
        here = slice(at, at + step)
        calm = np.asarray(z[here], dtype=np.float64) / temperature
        loss[here] = cross_entropy(calm, y[here], reduction="none")
        # Precise near 1, as the probability itself is not.
        confidence[here] = np.exp(-np.asarray(cross_entropy(calm, decided[here], reduction="none")))
        p = softmax(calm, out=calm)
        p[np.arange(len(p)), y[here]] -= 1
        brier[here] = np.einsum("ij,ij->i", p, p)
    return RowScores(loss, brier, confidence)


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean; the sum is exact before it is rounded, so the order of the rows is nothing.

    Examples
    --------
    >>> mean(np.array([1e16, 1.0, -1e16, 1.0]))
    0.5
    """
    return math.fsum(values.tolist()) / len(values)


def weighted_mean(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean where each row counts so often.

    Parameters
    ----------
    weights : float64 array, shape (count, n)
        Each line sums to n.
    values : float64 array, shape (n,)
        Losses may be infinite; they count where they were drawn.

    Returns
    -------
    float64 array, shape (count,)

    Examples
    --------
    >>> weighted_mean(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([np.inf, 3.0])).tolist()
    [inf, 3.0]
    """
    finite = np.isfinite(values)
    if finite.all():
        return np.asarray(weights @ values / len(values))
    sums = np.where(finite, 0.0, values)
    beyond = [float(sums[line > 0].sum()) for line in weights]
    return np.asarray(weights @ np.where(finite, values, 0.0) / len(values) + np.array(beyond))
