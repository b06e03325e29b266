"""From which logit on a label is given: one threshold a label, chosen on held-out rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from logitext.labels import LabelSets
from logitext.multilabel import as_sets, scores

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fit_thresholds", "held_out_scores"]

LENT = 100
"""Rows with the label that all labels together lend to each: of a label with few rows of its own
they decide, of one with many they hardly count."""
FOLDS = 5
GRID = np.arange(1, 100) / 100
"""Probabilities to choose from."""


def fit_thresholds(
    z: ArrayLike, y: ArrayLike | LabelSets, *, temperature: float = 1.0, shift: float = 0.0
) -> NDArray[np.float32]:
    """Return a threshold for each label's logit: where its F1 is largest.

    Parameters
    ----------
    z : array, shape (n, n_labels)
        Logits of rows the model did not learn from.
    y : array of 0 and 1, shape (n, n_labels), or LabelSets
    temperature, shift : float, default 1 and 0
        ``sigmoid(z / temperature + shift)`` are the calibrated probabilities.

    Returns
    -------
    float32 array, shape (n_labels,)
        Logits. Of no row with any label, those of a probability of a half.

    Raises
    ------
    ValueError
        If shapes do not fit, or `y` holds not only 0 and 1.

    Notes
    -----
    F1 is ``2 TP / (2 TP + FP + FN)``. At each probability p = .01, .02, ..., .99 the counts of a label
    are joined with `LENT` rows' worth of the counts of all labels together,

        TP + LENT * (all TP) / (all positives), and FP and FN alike,

    so that a label with few rows falls back to the threshold that is best for all, unless that
    would give it to many rows that do not have it. Of equal thresholds the one nearest to
    that is taken, and for all labels the one nearest to a half.

    Examples
    --------
    >>> from logitext.thresholds import fit_thresholds
    >>> from logitext.logits import sigmoid
    >>> z = [[-3.0], [-1.0], [1.0], [3.0]] * 50
    >>> round(float(sigmoid(fit_thresholds(z, [[0], [1], [1], [1]] * 50))[0]), 2)  # just below -1
    0.26
    """
    logits = np.asarray(z)
    sets = as_sets(y, logits.shape)
    cuts = np.array([temperature * (math.log(p / (1 - p)) - shift) for p in GRID.tolist()], np.float32)
    if len(sets.ids) == 0:
        return np.full(sets.labels, cuts[len(cuts) // 2])
    given, right = _counts(logits, sets, cuts)
    positives = sets.counts[:, None]
    lent = LENT / positives.sum()
    tp = right + lent * right.sum(axis=0)
    wrong = (given - right + positives - right) + lent * (given + positives - 2 * right).sum(axis=0)
    f1 = 2 * tp / (2 * tp + wrong)
    all_right = right.sum(axis=0)
    of_all = all_right / (given.sum(axis=0) + positives.sum())
    ties = np.flatnonzero(of_all == of_all.max())
    best_of_all = ties[np.argmin(np.abs(ties - len(cuts) // 2))]
    # Sums of counts are exact, but their weighted forms are not.
    near = f1 >= f1.max(axis=1, keepdims=True) * (1 - 1e-12)
    far = np.abs(np.arange(len(cuts)) - best_of_all)
    found: NDArray[np.float32] = cuts[np.argmin(np.where(near, far, len(cuts)), axis=1)]
    return found


def held_out_scores(
    z: ArrayLike, y: ArrayLike | LabelSets, *, temperature: float = 1.0, shift: float = 0.0
) -> dict[str, float]:
    """Return micro and macro F1 and subset accuracy of rows whose thresholds were chosen on others.

    Rows are dealt to `FOLDS` parts; each is decided by the thresholds of the others.

    Parameters
    ----------
    z, y, temperature, shift
        As for `fit_thresholds`.

    Returns
    -------
    dict of float
        ``micro_f1``, ``macro_f1`` (over labels that stand in `y` or were given) and ``accuracy``.

    Raises
    ------
    ValueError
        As `fit_thresholds`.
    """
    logits = np.asarray(z)
    sets = as_sets(y, logits.shape)
    part = np.arange(len(sets)) % FOLDS
    rows, ids = [], []
    for fold in range(min(FOLDS, len(sets))):
        own, others = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        thresholds = fit_thresholds(logits[others], sets.take(others), temperature=temperature, shift=shift)
        row, label = np.nonzero(logits[own] >= thresholds)
        rows.append(own[row])
        ids.append(label)
    given = LabelSets.of_pairs(np.concatenate(rows), np.concatenate(ids), len(sets), sets.labels)
    return scores(sets, given)


def _counts(
    logits: NDArray[np.float32], sets: LabelSets, cuts: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_labels, n_cuts): rows at or above each cut, and those among them that have the label."""
    bins = len(cuts) + 1
    given = np.zeros(sets.labels * bins, np.int64)
    right = np.zeros_like(given)
    for here, part in sets.parts(max(1, (1 << 20) // sets.labels)):
        place = np.searchsorted(cuts, logits[here].reshape(-1), side="right")
        place += np.tile(np.arange(sets.labels) * bins, len(part))
        given += np.bincount(place, minlength=len(given))
        right += np.bincount(place[part.at], minlength=len(given))

    def above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        table = counts.reshape(sets.labels, bins)
        return table[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    return above(given), above(right)
