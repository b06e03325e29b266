"""Which calibration method, by log loss of rows it was not fitted on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.decisions import applied
from logitext.logits import cross_entropy
from logitext.scalings import MATRIX_CLASSES, fit_scaling

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

FOLDS = 5
CHOOSING = 1 << 23
"""Methods are compared on rows with so many logits at most; the one chosen is fitted on all."""
FEW, SOME, MANY = 200, 500, 1000
"""Rows from which on a temperature needs less proof, none, and others are compared, too."""
ROWS_A_CLASS = 20
"""Rows a matrix needs for each class."""
MATRIX_WORK = 1 << 22
"""Rows times classes squared up to which a matrix is compared: it takes about a second."""
ROUGHLY = 1e-7
"""Nats a row to which the compared are fitted."""
PLAIN, LIKELY, SURE = 3.0, 1.5, 1.0
"""Standard errors of gain: a temperature below `FEW` and below `SOME` rows, a richer method."""


def candidates(rows: int, classes: int) -> list[tuple[str, float]]:
    """Return what "auto" compares, from simpler to richer, and by how many standard errors it must be better.

    The numbers come from random splits of the logits of our own models: see docs/calibration.md.
    """
    if classes == 1 or rows < FOLDS:
        return []
    if rows < MANY:
        return [("temperature", PLAIN if rows < FEW else LIKELY if rows < SOME else 0.0)]
    names = ["affine", "vector", "quadratic"] if classes == 2 else ["vector"]
    if 2 < classes <= MATRIX_CLASSES and ROWS_A_CLASS * classes <= rows <= MATRIX_WORK // classes**2:
        names.append("matrix")
    return [("temperature", 0.0), *((name, SURE) for name in names)]


def deal(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal rows to folds so that each has its share of every class: the same for the same rows."""
    part = np.empty(len(y), np.int64)
    part[np.argsort(y, kind="stable")] = np.arange(len(y)) % FOLDS
    return part


def choose(
    z: Floats, y: NDArray[np.int64], weights: NDArray[np.float64] | None, *, keep: bool
) -> tuple[str, dict[str, float]]:
    """Go from simpler to richer methods; a richer one is taken where its cross-fitted loss is lower for sure.

    Returns
    -------
    method : str
    comparison : dict of str to float
        Cross-fitted log loss of each method, the identity's first.
    """
    apart = max(1, z.size // CHOOSING)
    z, y = z[::apart], y[::apart]
    rows = np.ones(len(y)) if weights is None else weights[::apart]
    part = deal(y)
    chosen, best = "identity", cross_fitted("identity", z, y, rows, part, keep)
    comparison = {chosen: float(np.average(best, weights=rows))}
    for method, sure in candidates(*z.shape):
        losses = cross_fitted(method, z, y, rows, part, keep)
        comparison[method] = float(np.average(losses, weights=rows))
        gain = rows * (best - losses)
        mean = gain.sum() / rows.sum()
        if gain.sum() > sure * math.sqrt(float(((gain - rows * mean) ** 2).sum())):
            chosen, best = method, losses
    return chosen, comparison


def cross_fitted(
    method: str,
    z: Floats,
    y: NDArray[np.int64],
    weights: NDArray[np.float64],
    part: NDArray[np.int64],
    keep: bool,
) -> NDArray[np.float64]:
    """Return the loss of each row by a map fitted on the other parts."""
    losses = np.empty(len(y))
    for fold in range(FOLDS):
        held, rest = part == fold, part != fold
        if held.any():
            map_ = fit_scaling(method, z[rest], y[rest], weights[rest], tolerance=ROUGHLY)
            found = applied(map_, z[held], keep=keep, dtype=np.float64)
            losses[held] = cross_entropy(found, y[held], reduction="none")
    return losses
