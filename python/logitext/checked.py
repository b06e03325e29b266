"""Anyone's logits and labels as arrays; what cannot be used is refused by a sentence with its row."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.arrays import receive
from logitext.logits import log_softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["as_labels", "as_logits", "as_share", "log_probabilities"]

AT_ONCE = 1 << 19
"""Logits whose probabilities are held at a time."""
DENOMINATOR = 10**9


def as_logits(z: Any, classes: int | None = None) -> NDArray[Any]:
    """Return logits as an array of rows by classes.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Any real dtype.
    classes : int, optional
        How many there must be.

    Returns
    -------
    ndarray, shape (n, n_classes)
        `z` itself where it is NumPy's.

    Raises
    ------
    ValueError
        If it has another shape or is not real.

    Examples
    --------
    >>> as_logits([[2.0, 1.0, 0.1]]).shape
    (1, 3)
    """
    array, _ = receive(z)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"logits must be of shape (n, n_classes), got {array.shape}")
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        raise ValueError(f"logits must be real numbers, got dtype {array.dtype}")
    if classes is not None and array.shape[1] != classes:
        raise ValueError(f"logits must be of {classes} classes, as those fitted on, got {array.shape[1]}")
    return array


def as_labels(y: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the true class of each row.

    Parameters
    ----------
    y : int array, shape (n,)
    shape : tuple of int
        Of the logits: (n, n_classes).

    Returns
    -------
    int64 array, shape (n,)

    Raises
    ------
    ValueError
        If they are not integers in ``[0, n_classes)``, one per row.

    Examples
    --------
    >>> as_labels([2, 0], (2, 3)).tolist()
    [2, 0]
    """
    labels, _ = receive(y)
    rows, classes = shape
    if labels.shape != (rows,):
        raise ValueError(f"labels must be one per row: logits {shape}, labels {labels.shape}")
    if labels.dtype.kind not in "iu" and rows:
        raise ValueError(f"labels must be integers in [0, {classes}), got dtype {labels.dtype}")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"labels must be integers in [0, {classes}), got {labels[row]} at row {row}")
    return labels.astype(np.int64)


def as_share(value: Any, name: str) -> Fraction:
    """Return a share as the fraction that is meant by the float: 0.9 is 9/10.

    Parameters
    ----------
    value : float
    name : str
        What the sentence of an error calls it.

    Returns
    -------
    Fraction
        The nearest of a denominator up to 10**9: ``1 - 0.9`` is 1/10 as well.

    Raises
    ------
    ValueError
        If it is not above 0 and below 1.

    Notes
    -----
    In floats ``ceil(100 * 0.55)`` is 56, and ``floor(10 * (1 - 0.9))`` is 0: one row off.

    Examples
    --------
    >>> as_share(0.9, "coverage"), as_share(1 - 0.9, "coverage")
    (Fraction(9, 10), Fraction(1, 10))
    """
    if not 0 < float(value) < 1:
        raise ValueError(f"{name} must be above 0 and below 1, got {value}")
    exact = Fraction(str(value))
    near = exact.limit_denominator(DENOMINATOR)
    return near if 0 < near < 1 else exact


def log_probabilities(z: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
    """Give log-probabilities, block by block of rows.

    Parameters
    ----------
    z : ndarray, shape (n, n_classes)
        From `as_logits`.

    Yields
    ------
    tuple of slice, ndarray, ndarray
        Which rows; their logits, in single precision or, of float64 and integers, in double;
        their log-probabilities in nats, ``-inf`` for a masked class.

    Raises
    ------
    ValueError
        If a row holds NaN or ``+inf``, or is masked as a whole.

    Notes
    -----
    Logarithms, so that probabilities near 1 do not become equal by rounding.

    Examples
    --------
    >>> [(here, found.round(3).tolist()) for here, _, found in log_probabilities(np.array([[0.0, 0.0]]))]
    [(slice(0, 1, None), [[-0.693, -0.693]])]
    """
    narrow = z.dtype.kind in "fV" and z.dtype.itemsize <= 4
    rows = max(1, AT_ONCE // z.shape[1])
    for at in range(0, len(z), rows):
        here = slice(at, min(at + rows, len(z)))
        block = np.ascontiguousarray(z[here], np.float32 if narrow else np.float64)
        found = log_softmax(block)
        # A row that cannot be used is NaN as a whole.
        broken = np.isnan(found[:, 0])
        if broken.any():
            row = int(broken.argmax())
            bad = block[row][~(block[row] < np.inf)]
            what = f"got {bad[0]}" if len(bad) else "got nothing but -inf"
            raise ValueError(f"logits must be finite, or -inf for a masked class: {what} at row {at + row}")
        yield here, block, found
