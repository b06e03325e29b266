"""How each class fares, and what that comes to over classes: from the confusion matrix alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.intervals import Interval, quantiles, share_interval

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["ClassScore", "class_intervals", "score_classes"]

BLOCK = 1 << 20
"""Counts at a time."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares."""

    label: Any
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of precision, recall and f1, if intervals were asked for."""


def score_classes(
    confusion: NDArray[np.int64], names: list[Any]
) -> tuple[list[ClassScore], dict[str, float]]:
    """Measure each class, and their means.

    Parameters
    ----------
    confusion : int64 array, shape (n_classes, n_classes)
        Rows by true class, down, and decision, across; at least one.
    names : list

    Returns
    -------
    list of ClassScore
    dict
        ``balanced_accuracy``, the mean recall of classes that have rows, and ``macro_f1``, the mean
        over classes that have rows or were decided on.

    Examples
    --------
    >>> scores, means = score_classes(np.array([[3, 1], [0, 2]]), ["a", "b"])
    >>> scores[0].precision, scores[0].recall, means["balanced_accuracy"]
    (1.0, 0.75, 0.875)
    """
    rows, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    precision, recall, f1 = _shares(rows, predicted, hits)
    scores = [
        ClassScore(
            label, int(rows[i]), int(predicted[i]), float(precision[i]), float(recall[i]), float(f1[i])
        )
        for i, label in enumerate(names)
    ]
    recalls = [score.recall for score in scores if score.rows]
    met = [score.f1 for score in scores if score.rows or score.predicted]
    return scores, {
        "balanced_accuracy": math.fsum(recalls) / len(recalls),
        "macro_f1": math.fsum(met) / len(met),
    }


def _shares(rows: Any, predicted: Any, hits: Any) -> tuple[Any, Any, Any]:
    """Precision, recall and F1; 0 of a class that is not there."""
    both = rows + predicted
    return hits / np.maximum(predicted, 1), hits / np.maximum(rows, 1), 2 * hits / np.maximum(both, 1)


def class_intervals(
    confusion: NDArray[np.int64], resamples: int, seed: int = 0
) -> tuple[list[dict[str, Interval]], dict[str, Interval]]:
    """Return the intervals of what `score_classes` measures.

    Rows with the same true class and decision count alike, so a resample of the rows is a
    multinomial draw of the cells of the matrix.

    Parameters
    ----------
    confusion : int64 array, shape (n_classes, n_classes)
    resamples : int
        At least 1.
    seed : int, default 0

    Returns
    -------
    list of dict
        Of each class: precision and recall by Wilson's interval, f1.
    dict
        Of the means.

    Examples
    --------
    >>> by_class, means = class_intervals(np.array([[30, 10], [0, 20]]), 1000)
    >>> means["balanced_accuracy"].low < 0.875 < means["balanced_accuracy"].high
    True
    """
    k = len(confusion)
    truth, decided = np.nonzero(confusion)
    counts = confusion[truth, decided]
    by_decision = np.argsort(decided, kind="stable")
    diagonal = np.flatnonzero(truth == decided)
    rng = np.random.default_rng([seed, 3])
    balanced, macro, f1s = [], [], []
    step = max(1, BLOCK // max(len(counts), k))
    for at in range(0, resamples, step):
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=min(step, resamples - at))
        rows = _gathered(drawn, truth, k)
        predicted = _gathered(drawn[:, by_decision], decided[by_decision], k)
        hits = np.zeros_like(rows)
        hits[:, truth[diagonal]] = drawn[:, diagonal]
        _, recall, f1 = _shares(rows, predicted, hits)
        balanced.append(recall.sum(axis=1) / (rows > 0).sum(axis=1))
        macro.append(f1.sum(axis=1) / (rows + predicted > 0).sum(axis=1))
        f1s.append(f1)
    low, high = quantiles(np.concatenate(f1s))
    f1 = Interval(low, high)  # type: ignore[arg-type]
    of_class = {
        "precision": share_interval(np.diag(confusion), confusion.sum(axis=0)),
        "recall": share_interval(np.diag(confusion), confusion.sum(axis=1)),
        "f1": f1,
    }
    each = [
        {name: Interval(float(found.low[i]), float(found.high[i])) for name, found in of_class.items()}
        for i in range(k)
    ]
    means = {
        name: Interval(*map(float, quantiles(np.concatenate(found))))
        for name, found in (("balanced_accuracy", balanced), ("macro_f1", macro))
    }
    return each, means


def _gathered(drawn: NDArray[np.int64], owner: NDArray[np.intp], k: int) -> NDArray[np.int64]:
    """The sum of the cells of each class, cells standing in the order of their classes."""
    there, starts = np.unique(owner, return_index=True)
    sums = np.zeros((len(drawn), k), np.int64)
    sums[:, there] = np.add.reduceat(drawn, starts, axis=1)
    return sums
