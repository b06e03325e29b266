"""Which classes are calibrated together: each by itself where it has the rows, the others with their like.

A promise for one class needs as many rows of that class as a promise for all needs of all. Classes
with fewer are joined with classes whose scores are distributed like theirs, so that what holds for the
cluster nearly holds for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["cluster_classes"]

QUANTILES = np.arange(1, 6) / 10
"""Of the conformity of a class: what it is known by. The literature's .5 to .9, counted the other way."""
KNOWN_BY = 4
"""Rows from which quantiles say something of a class."""
STEPS = 100


def cluster_classes(
    conformity: NDArray[Any], y: NDArray[np.int64], classes: int, enough: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Deal classes to clusters of at least `enough` calibration rows, where there are so many.

    Parameters
    ----------
    conformity : float array, shape (n,)
        Of the true label of each row.
    y : int64 array, shape (n,)
        True classes.
    classes : int
        How many there are.
    enough : int
        Rows.

    Returns
    -------
    clusters : int32 array, shape (classes,)
        Numbers from 0 on.
    calibrating : bool array, shape (n,)
        Which rows may calibrate: the others have been looked at to find the clusters.

    Notes
    -----
    A class with `enough` rows is a cluster. Of a class with fewer every other row, in their order,
    goes into finding its like: k-means, weighted by the root of the number of rows, on five quantiles
    of the ranks of its scores; so many clusters that each has twice `enough` rows and two rows of each
    class to be found by. What is too rare for that (with too few rows or none, or left over in a
    cluster without `enough`) is one common cluster; while that has not `enough` rows itself, it takes
    in the smallest other one.

    References
    ----------
    Ding, Angelopoulos, Bates, Jordan & Tibshirani, "Class-conditional conformal prediction with many
    classes", NeurIPS 2023, section 2.

    Examples
    --------
    >>> y = np.repeat([0, 1, 3], [50, 60, 5])
    >>> clusters, calibrating = cluster_classes(np.arange(115.0), y, 4, 50)
    >>> clusters.tolist(), int(calibrating.sum())  # the third has no rows, the fourth few
    ([1, 0, 1, 1], 115)
    """
    counts = np.bincount(y, minlength=classes)
    clusters = np.full(classes, -1)
    alone = np.flatnonzero(counts >= enough)
    clusters[alone] = np.arange(len(alone))
    calibrating = np.ones(len(y), np.bool_)

    small = np.flatnonzero((counts >= 2 * KNOWN_BY) & (counts < enough))
    looked_at = _every_other(y) & np.isin(y, small)
    kept = int(counts[small].sum()) - int(looked_at.sum())
    number = min(kept // (2 * enough), int(looked_at.sum()) // max(1, 2 * len(small)))
    if number >= 2:
        calibrating &= ~looked_at
        points = _quantiles(conformity[looked_at], y[looked_at], small)
        clusters[small] = len(alone) + _k_means(points, np.sqrt(counts[small]), number)

    rows = np.bincount(y[calibrating], minlength=classes)
    sizes = np.zeros(classes + 1, np.int64)
    np.add.at(sizes, clusters, rows)  # The last, -1, is the common one.
    there = set(clusters.tolist()) - {-1}
    poor = {number for number in there if sizes[number] < enough}
    common = np.isin(clusters, [-1, *poor])
    while common.any() and rows[common].sum() < enough and there - poor:
        smallest = min(there - poor, key=lambda number: (sizes[number], number))
        poor.add(smallest)
        common |= clusters == smallest
    clusters[common] = classes
    return np.unique(clusters, return_inverse=True)[1].reshape(-1).astype(np.int32), calibrating


def _every_other(y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which rows are the first, third, ... of their class."""
    order = np.argsort(y, kind="stable")
    ranked = y[order]
    place = np.empty(len(y), np.int64)
    place[order] = np.arange(len(y)) - np.searchsorted(ranked, ranked)
    first: NDArray[np.bool_] = place % 2 == 0
    return first


def _quantiles(
    conformity: NDArray[Any], y: NDArray[np.int64], small: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return those of each class, in ranks among all the rows: no score is an outlier then."""
    ranked = np.sort(conformity)
    ranks = np.searchsorted(ranked, conformity) / len(ranked)
    return np.array([np.quantile(ranks[y == one], QUANTILES) for one in small.tolist()])


def _k_means(points: NDArray[np.float64], weights: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Return the cluster of each point; it begins with the points in the order of their means, cut evenly."""
    nearest = np.empty(len(points), np.int64)
    nearest[np.argsort(points.mean(axis=1), kind="stable")] = np.arange(len(points)) * number // len(points)
    centres = np.zeros((number, points.shape[1]))
    for _ in range(STEPS):
        for one in np.unique(nearest).tolist():
            inside = nearest == one
            centres[one] = np.average(points[inside], axis=0, weights=weights[inside])
        before = nearest
        nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        if np.array_equal(nearest, before):
            break
    return nearest
