"""Maps from logits to logits whose softmax means what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitext.logits import softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST = 1 / 64, 64.0
MASKED = -1e30
"""Low enough for a probability of 0 at any of these temperatures."""

BLOCK = 1 << 16
"""Logits that stay in the cache with what is computed of them."""
KEPT = 1 << 22
"""More than these are brought to double precision block by block, anew in each pass."""
CLOSE = 1e-5
"""After so small a step of Newton's the error is about its square: less than the digits kept."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted on the logits of held-out rows."""

    temperature: float = 1.0
    """The logits are divided by it to give calibrated ones."""
    shift: float = 0.0
    """Added to them where a row may have several labels; to one class a row it would do nothing."""
    thresholds: NDArray[np.float32] | None = None
    """The logit from which on each label is given, where a row may have several."""


def fit_temperature(
    z: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, start: float = 1.0
) -> float:
    """Return the temperature that minimises the log loss of ``softmax(z / T)``.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits of rows the model did not learn from.
    y : int array, shape (n,), or float array, shape (n, n_classes)
        Their classes, or a share of each.
    sample_weight : array, shape (n,), optional
        Of two a row counts twice.
    start : float, default 1
        A temperature that may be near.

    Returns
    -------
    float
        Between 1/64 and 64. A weak prior, worth one row, pulls it towards 1:
        perfect separation does not run it to 0. Of no rows, 1.

    Notes
    -----
    The loss is convex in ``b = 1 / T``; its slope is the mean over rows of
    ``sum(p * z) - z[y]``. Newton's steps find its root, bisection where they leave the bracket.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks",
    ICML 2017, section 4.2.

    Examples
    --------
    >>> from logitext.calibration import fit_temperature
    >>> round(fit_temperature([[4.0, 0.0]] * 400, [0, 0, 0, 1] * 100), 1)  # p = .75 at T = 3.6
    3.6
    """
    logits, targets = np.asarray(z), np.asarray(y)
    n = len(targets)
    if n == 0:
        return 1.0
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
    step = max(1, BLOCK // max(1, logits.shape[1]))
    cuts = [slice(at, at + step) for at in range(0, n, step)]

    def differences(cut: slice) -> NDArray[np.float64]:
        # Only differences within a row count; the largest at 0 keeps products small. A masked
        # class has probability 0 at any temperature, but 0 times -inf is not 0.
        part = np.asarray(logits[cut], np.float64)
        found: NDArray[np.float64] = np.maximum(part - part.max(axis=1, keepdims=True), MASKED)
        return found

    kept = [differences(cut) for cut in cuts] if logits.size <= KEPT else None

    def blocks() -> Iterator[tuple[NDArray[np.float64], slice]]:
        return zip(kept or map(differences, cuts), cuts, strict=True)

    def weighted(values: NDArray[np.float64], cut: slice) -> list[float]:
        found: list[float] = (values if weights is None else values * weights[cut]).tolist()
        return found

    held: list[float] = []
    for block, cut in blocks():
        own = targets[cut]
        if targets.ndim == 2:
            held += weighted((own * block).sum(axis=1), cut)
        else:
            held += weighted(block[np.arange(len(own)), own.astype(np.intp)], cut)
    at_target = math.fsum(held)

    def slope(b: float) -> tuple[float, float]:
        """Slope and curvature, block by block of rows that stay in the cache."""
        expected: list[float] = []
        variances: list[float] = []
        for block, cut in blocks():
            share = softmax(b * block) * block
            mean = share.sum(axis=1)
            expected += weighted(mean, cut)
            variances += weighted((share * block).sum(axis=1) - mean * mean, cut)
        prior = math.log(b) / b, (1 - math.log(b)) / (b * b)
        return math.fsum(expected) - at_target + prior[0], math.fsum(variances) + prior[1]

    low, high, b = 1 / HIGHEST, 1 / LOWEST, 1 / start
    for _ in range(60):
        found, curvature = slope(b)
        low, high = (b, high) if found < 0 else (low, b)
        following = b - found / curvature if curvature > 0 else math.nan
        if not low < following < high:
            following = math.sqrt(low * high)
        done = abs(following - b) <= CLOSE * b
        b = following
        if done:
            break
    # Fewer digits than the slope's rounding can move.
    return float(f"{1 / b:.7g}")
