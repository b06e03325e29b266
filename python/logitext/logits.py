"""Operations on logits: raw scores, one per class, class axis last.

With ``a = max z`` and ``s = sum(exp(z - a))`` over the others, log-sum-exp is
``a + log1p(s)``, log-softmax ``(z - a) - log1p(s)``, softmax ``exp(z - a) / (1 + s)``
(Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax
functions", IMA J. Numer. Anal. 41, 2021, section 4). Nothing overflows, a row
sums to 1, and the decision needs none of it: it is the largest logit.

``-inf`` is a masked class, with probability exactly 0. A row that is all
``-inf``, or holds ``+inf`` or NaN, is NaN in that row alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitext import _core

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating[Any]]

__all__ = ["argmax", "cross_entropy", "log_softmax", "logsumexp", "softmax", "top_k"]


def _rows(z: ArrayLike, temperature: float = 1.0) -> tuple[Floats, np.dtype[Any], tuple[int, ...]]:
    """Rows in a type the kernels compute in, the type to give back, and the shape."""
    array = np.asarray(z)
    if array.ndim == 0:
        raise ValueError("logits must have a class axis, got a single number")
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise ValueError(f"logits must be real numbers, got dtype {array.dtype}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    wide = np.dtype(np.float64 if array.dtype.itemsize >= 8 else np.float32)
    # Not -1: of no numbers at all NumPy cannot tell how many rows they are.
    n_rows = math.prod(array.shape[:-1])
    rows: Floats = np.ascontiguousarray(array, dtype=wide).reshape(n_rows, array.shape[-1])
    if temperature != 1.0:
        rows = rows / wide.type(temperature)
    return rows, array.dtype, array.shape


def _map(z: ArrayLike, temperature: float, log: bool) -> Floats:
    rows, dtype, shape = _rows(z, temperature)
    native: Any = _core.softmax_f64 if rows.dtype == np.float64 else _core.softmax_f32
    return np.asarray(native(rows, log), dtype=dtype).reshape(shape)


def softmax(z: ArrayLike, *, temperature: float = 1.0) -> Floats:
    """Turn logits into probabilities: ``exp(z / T) / sum(exp(z / T))``.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, any real dtype; ``float16`` is computed in ``float32``.
    temperature : float, default 1
        ``T > 0``; above 1 the probabilities are flatter.

    Returns
    -------
    array, shape of z
        Probabilities; each row sums to 1. The dtype of `z` (``float64`` for integers).

    Raises
    ------
    ValueError
        If `z` is a single number or not real, or `temperature` is not above 0.

    Notes
    -----
    Adding a constant to all logits changes nothing:

    >>> import logitext as lt
    >>> lt.softmax([1002.0, 1001.0, 1000.1]).round(2).tolist()
    [0.66, 0.24, 0.1]

    References
    ----------
    Blanchard, Higham & Higham (2021), algorithm 4.2.

    Examples
    --------
    >>> lt.softmax([2.0, 1.0, 0.1]).round(2).tolist()
    [0.66, 0.24, 0.1]
    """
    return _map(z, temperature, log=False)


def log_softmax(z: ArrayLike, *, temperature: float = 1.0) -> Floats:
    """Turn logits into log-probabilities: ``z / T - logsumexp(z / T)``, in nats.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    temperature : float, default 1
        ``T > 0``.

    Returns
    -------
    array, shape of z
        Log-probabilities, at most 0, precise near 0 as well.

    Raises
    ------
    ValueError
        As `softmax`.

    References
    ----------
    Blanchard, Higham & Higham (2021), section 4.

    Examples
    --------
    >>> import logitext as lt
    >>> lt.log_softmax([2.0, 1.0, 0.1]).round(3).tolist()
    [-0.417, -1.417, -2.317]
    """
    return _map(z, temperature, log=True)


def logsumexp(z: ArrayLike) -> Floats:
    """Return ``log(sum(exp(z)))`` over the last axis.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.

    Returns
    -------
    array, shape (...)
        ``-inf`` where there are no classes.

    Raises
    ------
    ValueError
        If `z` is a single number or not real.

    Examples
    --------
    >>> import logitext as lt
    >>> float(lt.logsumexp([2.0, 1.0, 0.1]).round(3))
    2.417
    """
    rows, dtype, shape = _rows(z)
    native: Any = _core.logsumexp_f64 if rows.dtype == np.float64 else _core.logsumexp_f32
    return np.asarray(native(rows), dtype=dtype).reshape(shape[:-1])


def cross_entropy(
    z: ArrayLike, y: ArrayLike, *, reduction: Literal["mean", "sum", "none"] = "mean"
) -> float | Floats:
    """Return the loss ``-log_softmax(z)[y]``, in nats.

    Parameters
    ----------
    z : array, shape (n, n_classes) or (n_classes,)
        Logits.
    y : int array, shape (n,) or ()
        Index of the true class of each row.
    reduction : {"mean", "sum", "none"}, default "mean"
        What to make of the losses of the rows.

    Returns
    -------
    float, or array of shape (n,) for "none"
        At least 0; the mean over no rows is NaN.

    Raises
    ------
    ValueError
        If labels are not integers in ``[0, n_classes)``, one per row, or the
        reduction is unknown.

    Examples
    --------
    >>> import logitext as lt
    >>> round(lt.cross_entropy([2.0, 1.0, 0.1], 0), 3)
    0.417
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    rows, dtype, shape = _rows(z)
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu" and labels.size:
        raise ValueError(f"labels must be integers in [0, {shape[-1]}), got dtype {labels.dtype}")
    if labels.shape != shape[:-1]:
        raise ValueError(f"labels must be one per row: logits {shape}, labels {labels.shape}")
    native: Any = _core.cross_entropy_f64 if rows.dtype == np.float64 else _core.cross_entropy_f32
    losses = native(rows, np.ascontiguousarray(labels.reshape(-1), dtype=np.int64))
    if reduction == "none":
        return np.asarray(losses, dtype=dtype).reshape(labels.shape)
    total = losses.sum(dtype=np.float64)
    if reduction == "sum":
        return float(total)
    return float(total / len(losses)) if len(losses) else float("nan")


def argmax(z: ArrayLike) -> NDArray[np.intp]:
    """Return the decision: the index of the largest logit, ties to the lowest.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, at least one class. No softmax is computed: it would not change the order.

    Returns
    -------
    int array, shape (...)

    Raises
    ------
    ValueError
        If there is no class.

    Examples
    --------
    >>> import logitext as lt
    >>> int(lt.argmax([2.0, 1.0, 0.1]))
    0
    """
    array = np.asarray(z)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"argmax needs at least one class, got logits of shape {array.shape}")
    return np.asarray(array.argmax(axis=-1))


def top_k(z: ArrayLike, k: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return the `k` largest logits and their classes, largest first, ties to the lowest index.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    k : int
        ``1 <= k <= n_classes``.

    Returns
    -------
    values : array, shape (..., k)
    indices : int array, shape (..., k)

    Raises
    ------
    ValueError
        If `k` is out of range.

    Examples
    --------
    >>> import logitext as lt
    >>> values, indices = lt.top_k([0.1, 2.0, 1.0], 2)
    >>> values.tolist(), indices.tolist()
    ([2.0, 1.0], [1, 2])
    """
    array = np.asarray(z)
    if array.ndim == 0 or not 1 <= k <= array.shape[-1]:
        raise ValueError(f"k must be in [1, n_classes], got {k} for logits of shape {array.shape}")
    # A stable sort of the reversed row, reversed: equal logits stay in the order of their classes.
    backwards = np.argsort(array[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    indices = array.shape[-1] - 1 - backwards[..., :k]
    return np.take_along_axis(array, indices, axis=-1), indices
