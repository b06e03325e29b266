"""Which calibration method, by log loss of rows it was not fitted on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.decisions import applied
from logitext.logits import cross_entropy
from logitext.scalings import MATRIX_CLASSES, Scaling, fit_scaling

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
ROUGHLY = 1e-6
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


class Folds:
    """Calibrates each part of the rows by maps fitted on the others, none of them from scratch, each once."""

    def __init__(
        self,
        z: Floats,
        y: NDArray[np.int64],
        weights: NDArray[np.float64] | None,
        *,
        keep: bool,
        part: NDArray[np.int64] | None = None,
    ) -> None:
        self.z, self.y, self.keep = z, y, keep
        self.weights = np.ones(len(y)) if weights is None else weights
        self.part = deal(y) if part is None else part
        self.temperatures: dict[int, float] = {}
        self.whole: dict[str, Scaling] = {}
        self.known: dict[str, NDArray[np.float64]] = {}

    def calibrated(self, method: str) -> NDArray[np.float64]:
        """Return calibrated logits of each row by a map fitted on the other parts, shape of `z`."""
        if method in self.known:
            return self.known[method]
        found = self.known[method] = np.empty(self.z.shape)
        # The map of all rows is near that of four fifths of them, and so is where those begin.
        whole = fit_scaling(method, self.z, self.y, self.weights, tolerance=ROUGHLY)
        self.whole[method] = whole
        for fold in range(FOLDS):
            held, rest = self.part == fold, self.part != fold
            if held.any():
                of_rest = self.z[rest], self.y[rest], self.weights[rest]
                known = self.temperatures.get(fold)
                map_ = fit_scaling(method, *of_rest, tolerance=ROUGHLY, temperature=known, near=whole)
                self.temperatures[fold] = map_.temperature
                found[held] = applied(map_, self.z[held], keep=self.keep, dtype=np.float64)
        return found

    def losses(self, method: str) -> NDArray[np.float64]:
        """Return the loss of each row by a map fitted on the other parts."""
        found: NDArray[np.float64] = cross_entropy(self.calibrated(method), self.y, reduction="none")
        return found


def choose(folds: Folds) -> tuple[str, dict[str, float]]:
    """Go from simpler to richer methods; a richer one is taken where its cross-fitted loss is lower for sure.

    Parameters
    ----------
    folds : Folds

    Returns
    -------
    method : str
    comparison : dict of str to float
        Cross-fitted log loss of each method, the identity's first.
    """
    # Whatever their size: squares of large ones would overflow.
    z, y, rows = folds.z, folds.y, folds.weights / folds.weights.max()
    chosen, best = "identity", cross_entropy(z, y, reduction="none")
    comparison = {chosen: float(np.average(best, weights=rows))}
    for method, sure in candidates(*z.shape):
        losses = folds.losses(method)
        comparison[method] = float(np.average(losses, weights=rows))
        gain = rows * (best - losses)
        mean = gain.sum() / rows.sum()
        if gain.sum() > sure * math.sqrt(float(((gain - rows * mean) ** 2).sum())):
            chosen, best = method, losses
    return chosen, comparison
