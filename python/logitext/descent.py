"""Minimising a smooth convex function of an array: L-BFGS, the same bits for any number of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

REMEMBERED = 10
"""Steps the curvature is estimated from."""
DECREASE = 1e-4
"""Share of what the slope promises that a step must give (Armijo's rule)."""
HALVINGS = 40
ROUNDING = 1e-13
"""A sum of so many terms moves by this share without having changed."""


def minimise(
    function: Callable[[F64], tuple[float, F64]],
    start: F64,
    inverse: Callable[[F64], F64],
    *,
    tolerance: float,
    most: int = 200,
) -> F64:
    """Return where a smooth, strictly convex function is smallest.

    Parameters
    ----------
    function : callable
        Array → value and gradient.
    start : float64 array, any shape
    inverse : callable
        Array → about the inverse of the Hessian, symmetric and positive definite, times it: the first steps.
    tolerance : float
        It ends where a step promises to lower the value by less.
    most : int, default 200
        Steps at most.

    Returns
    -------
    float64 array, shape of start

    Notes
    -----
    Inner products are NumPy's sums of products: BLAS would share long ones among threads and
    round differently with their number.

    References
    ----------
    Liu & Nocedal, "On the limited memory BFGS method for large scale optimization",
    Mathematical Programming 45, 1989; Nocedal & Wright, "Numerical optimization", 2006,
    algorithm 7.4.

    Examples
    --------
    >>> import numpy as np
    >>> from logitext.descent import minimise
    >>> bowl = lambda w: (float(((w - 3) ** 4 + (w - 3) ** 2).sum()), 4 * (w - 3) ** 3 + 2 * (w - 3))
    >>> minimise(bowl, np.zeros(2), lambda g: g / 2, tolerance=1e-12).round(5).tolist()
    [3.0, 3.0]
    """
    at = start
    value, gradient = function(at)
    steps: deque[tuple[F64, F64, float]] = deque(maxlen=REMEMBERED)
    for _ in range(most):
        direction = -_times_inverse(steps, gradient, inverse)
        slope = _dot(gradient, direction)
        if -slope <= tolerance:
            break
        for halving in range(HALVINGS):
            size = 0.5**halving
            there = at + size * direction
            found, following = function(there)
            if found <= value + DECREASE * size * slope + ROUNDING * abs(value):
                break
        else:
            break
        step, bend = there - at, following - gradient
        at, value, gradient = there, found, following
        if (turned := _dot(step, bend)) > 0:
            steps.append((step, bend, turned))
    return at


def _dot(a: F64, b: F64) -> float:
    return float((a * b).sum())


def _times_inverse(steps: deque[tuple[F64, F64, float]], gradient: F64, inverse: Callable[[F64], F64]) -> F64:
    """The gradient times the inverse of the Hessian, as far as the last steps tell: the two loops."""
    found = gradient.copy()
    shares = []
    for step, bend, turned in reversed(steps):
        share = _dot(step, found) / turned
        found -= share * bend
        shares.append(share)
    found = inverse(found)
    if steps:
        step, bend, turned = steps[-1]
        found *= turned / _dot(bend, inverse(bend))
    for (step, bend, turned), share in zip(steps, reversed(shares), strict=True):
        found += (share - _dot(bend, found) / turned) * step
    return found
