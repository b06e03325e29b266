"""What it costs to have given the truth too small a probability, and its gradient.

Everything comes from logits, not from probabilities: the loss stays precise where the
probability is too close to 0 or 1 to be told from it.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from logitext import _core
from logitext.arrays import Rows, place, receive, rows

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["binary_cross_entropy", "cross_entropy", "sigmoid"]

Reduction = Literal["mean", "sum", "none"]

_NOTHING: dict[str, Any] = dict.fromkeys(
    ("classes", "shares", "class_weight", "sample_weight", "ignored", "lse", "at", "max", "entropy")
)
_NOTHING |= {"loss": None, "gradient": None, "temperature": 1.0, "smoothing": 0.0, "z_loss": 0.0, "norm": 1.0}


def ask(
    z: Rows,
    numbers: dict[str, NDArray[Any]],
    *,
    y: Any = None,
    classes: NDArray[np.int64] | None = None,
    sample_weight: NDArray[Any] | None = None,
    gradient: NDArray[Any] | None = None,
    in_place: bool = False,
    **terms: Any,
) -> tuple[float, float]:
    """Have the kernels answer, part by part; return the sums of losses and of weights.

    The true classes are `y` as the caller gives it, or `classes` in the order of the rows.
    """
    shares = None
    if y is not None:
        classes, shares = _targets(z, y)
    names = list(numbers)
    beside = list(numbers.values())
    loss = weight = 0.0
    row = 0
    for part, classes_, shares_, weights_, gradient_, *numbers_ in z.parts(
        classes, shares, sample_weight, gradient, *beside
    ):
        asking = _NOTHING | terms | dict(zip(names, numbers_, strict=True))
        asking |= {"classes": _vector(classes_), "shares": shares_, "gradient": gradient_}
        asking |= {"sample_weight": _vector(weights_), "at": _vector(asking["at"])}
        sums = _core.summarize(z.format, None if in_place else part, asking, z.threads)
        loss, weight = loss + sums[0], weight + sums[1]
        if sums[2] is not None:
            raise ValueError(_bad_target(z, classes_, shares_, z.row(row + sums[2]), sums[2]))
        row += math.prod(part.shape[:-1])
    return math.nan if math.isnan(loss) else loss, weight  # Which NaN it is depends on the CPU.


def _vector(numbers: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if numbers is None else numbers.reshape(-1)


def _bad_target(z: Rows, classes: Any, shares: Any, row: int, at: int) -> str:
    where = f"at row {row}"
    if classes is not None:
        label = int(np.reshape(classes, -1)[at])
        return f"labels must be integers in [0, {z.classes}), got {label} {where}"
    bits = z.dtype if z.format == "bfloat16" else np.dtype(z.format)
    total = float(np.sum(np.atleast_2d(shares)[at].view(bits).astype(np.float64)))
    return f"label probabilities must be at least 0 and sum to 1, got a sum of {total:.6g} {where}"


def _targets(z: Rows, y: Any) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return class indices, or the shares of the classes, as the kernels read them."""
    labels, _ = receive(y)
    if labels.shape == z.given.shape and labels.ndim > 0:
        wide = labels.dtype
        if wide.kind not in "iubf" and wide.name != "bfloat16":
            raise ValueError(f"label probabilities must be real numbers, got dtype {wide}")
        shares = labels.astype(z.dtype if z.format == "bfloat16" else z.format, copy=False)
        return None, z.like(shares if shares.flags.aligned else shares.copy())
    if labels.dtype.kind not in "iu" and labels.size:
        raise ValueError(f"labels must be integers in [0, {z.classes}), got dtype {labels.dtype}")
    if labels.shape != z.leading:
        raise ValueError(f"labels must be one per row: logits {z.given.shape}, labels {labels.shape}")
    if labels.dtype == np.uint64 and labels.size and labels.max() > np.iinfo(np.int64).max:
        row = int(labels.reshape(-1).argmax())
        raise ValueError(f"labels must be integers in [0, {z.classes}), got {labels.max()} at row {row}")
    if z.classes == 0 and labels.size:
        raise ValueError(f"labels must be integers in [0, 0), got {labels.reshape(-1)[0]} at row 0")
    return z.beside(labels, np.int64), None


def _weights(values: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64] | None:
    if values is None:
        return None
    weights, _ = receive(values)
    if weights.dtype.kind not in "iubf" or weights.shape != shape:
        raise ValueError(f"{name} must be {shape} numbers, got {weights.dtype} of shape {weights.shape}")
    wrong = ~((weights >= 0) & np.isfinite(weights))
    if wrong.any():
        at = int(wrong.reshape(-1).argmax())
        value = weights.reshape(-1)[at]
        raise ValueError(f"{name} must be finite and at least 0, got {value} at {at}")
    return weights.astype(np.float64)


def cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Any = None,
) -> Any:
    """Return the loss ``logsumexp(z) - z[y]``, the negative log-probability of the truth, in nats.

    With every option, for a row of weight ``s`` whose target is the distribution ``q``
    (1 at the true class, or as given), class weights ``w``, smoothing ``e`` and penalty ``l``::

        q' = (1 - e) * q + e / n_classes
        loss = s * (sum(q' * w * (logsumexp(z) - z)) + l * sum(q * w) * logsumexp(z)**2)
        gradient = s * ((sum(q' * w) + 2 * l * sum(q * w) * logsumexp(z)) * softmax(z) - q' * w)

    and the mean divides by the sum of ``s * sum(q * w)``: the rows' weights.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    y : int array, shape (...); or array, shape of z
        Index of the true class of each row; or the probability of each class, each row
        summing to 1 (an array of the logits' own shape is read so).
    class_weight : array, shape (n_classes,), optional
        Weight of each class, at least 0.
    sample_weight : array, shape (...), optional
        Weight of each row, at least 0. A row of weight 0 is left out, whatever its logits are.
    label_smoothing : float, default 0
        Share of the target spread evenly over all classes, in [0, 1]. A masked class
        then has a share, and an infinite loss.
    z_loss : float, default 0
        Weight of the penalty ``logsumexp(z)**2``, which keeps logits from drifting.
    ignore_index : int, optional
        Rows with this label are left out.
    reduction : {"mean", "sum", "none"}, default "mean"
        What to make of the losses of the rows.
    return_grad : bool, default False
        Return the gradient, too: of the mean or the sum, or of each row's own loss.
    out : array, shape of z, optional
        Where to write the gradient; `z` itself is allowed.

    Returns
    -------
    loss : float, or array of shape (...) for "none"
        In nats, at least 0; ``inf`` where the true class is masked; NaN for the mean over
        no weight.
    gradient : array, shape of z
        Only with `return_grad`; per unit of logit. Where the truth leads by far it is
        precise, too: the small ``-(1 - p)`` is not taken from 1.

    Raises
    ------
    ValueError
        If labels are not integers in ``[0, n_classes)``, one per row, or probabilities
        that are at least 0 and sum to 1; a weight is negative or not finite; an option
        is out of its range; or `out` does not fit (see `softmax`).

    Notes
    -----
    The naive loss takes the logarithm of a probability that may be rounded to 0 or 1:

    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.array([40.0, 0.0], np.float32)
    >>> with np.errstate(divide="ignore"):
    ...     float(-np.log(lt.softmax(z)[0])), float(-np.log(lt.softmax(5 * z)[1]))
    (-0.0, inf)
    >>> f"{lt.cross_entropy(z, 0):.3g}", lt.cross_entropy(5 * z, 1)
    ('4.25e-18', 200.0)

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs",
    1990, section 3. Smoothing: Szegedy et al., "Rethinking the Inception architecture",
    2016, section 7. Penalty: de Brebisson & Vincent, "The Z-loss", 2016, section 3;
    Chowdhery et al., "PaLM", 2022, section 5.

    Examples
    --------
    >>> round(lt.cross_entropy([2.0, 1.0, 0.1], 0), 3)
    0.417
    >>> loss, gradient = lt.cross_entropy([2.0, 1.0, 0.1], 0, return_grad=True)
    >>> gradient.round(2).tolist()  # softmax, less 1 at the truth
    [-0.34, 0.24, 0.1]
    >>> round(lt.cross_entropy([2.0, 1.0, 0.1], [0.7, 0.2, 0.1]), 3)
    0.807
    """
    _check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not 0 <= z_loss < math.inf:
        raise ValueError(f"z_loss must be at least 0 and finite, got {z_loss}")
    logits = rows(z)
    if out is not None and not return_grad:
        raise ValueError("out is for the gradient: it needs return_grad=True")
    if ignore_index is not None:
        ignore_index = operator.index(ignore_index)
        if not -(2**63) <= ignore_index < 2**63:
            ignore_index = None  # No label is so large.
    weights = _weights(sample_weight, logits.leading, "sample_weight")
    terms: dict[str, Any] = {
        "class_weight": _weights(class_weight, (logits.classes,), "class_weight"),
        "sample_weight": None if weights is None else logits.beside(weights, np.float64),
        "smoothing": float(label_smoothing),
        "z_loss": float(z_loss),
        "ignored": ignore_index,
    }
    room = place(logits, out) if return_grad else None
    losses = logits.room()
    wanted = {"loss": losses} if reduction == "none" else {}
    gradient = None if room is None else room.work
    in_place = room is not None and room.source is None
    norm = None if reduction == "mean" else 1.0
    if gradient is not None and norm is None and logits.array.ndim > 2:
        # There may be several parts: the weight of all is needed before the gradient of any.
        norm = ask(logits, {}, y=y, **terms)[1] or 1.0
    total, weight = ask(logits, wanted, y=y, gradient=gradient, in_place=in_place, norm=norm, **terms)
    loss: Any
    if reduction == "none":
        loss = logits.give(logits.typed(losses))
    elif reduction == "sum":
        loss = total
    else:
        loss = total / weight if weight else math.nan
    if room is None:
        return loss
    return loss, room.give()


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')


def sigmoid(z: ArrayLike, *, out: Any = None) -> Any:
    """Return ``1 / (1 + exp(-z))``, the probability of each label by itself.

    Parameters
    ----------
    z : array, any shape with at least one axis
        Logits of independent labels.
    out : array, shape of z, optional
        Where to write; `z` itself is allowed.

    Returns
    -------
    array, shape of z
        In [0, 1].

    Raises
    ------
    ValueError
        As `softmax`.

    Notes
    -----
    ``sigmoid(z)`` is the first of ``softmax([z, 0])``. The naive formula overflows:

    >>> import numpy as np
    >>> import logitext as lt
    >>> with np.errstate(over="raise"):
    ...     try:
    ...         1 / (1 + np.exp(-np.array([-800.0])))
    ...     except FloatingPointError as error:
    ...         print(error)
    overflow encountered in exp
    >>> lt.sigmoid([-800.0, 0.0, 800.0]).tolist()
    [0.0, 0.5, 1.0]

    Examples
    --------
    >>> lt.sigmoid([2.0, -1.0]).round(3).tolist()
    [0.881, 0.269]
    """
    logits = rows(z)
    room = place(logits, out)
    for part, work in logits.parts(room.work):
        source = None if room.source is None else part
        _core.binary(logits.format, source, None, work, "sigmoid", 1.0, logits.threads)
    return room.give()


def binary_cross_entropy(
    z: ArrayLike,
    y: ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Any = None,
) -> Any:
    """Return the loss of independent labels, ``log(1 + exp(z)) - y * z``, in nats.

    Parameters
    ----------
    z : array, any shape with at least one axis
        Logits.
    y : array, shape of z
        1 (or True) where the label holds, 0 where it does not, or its probability.
    reduction : {"mean", "sum", "none"}, default "mean"
        What to make of the losses.
    return_grad : bool, default False
        Return the gradient ``sigmoid(z) - y``, too: of the mean or the sum, or of each loss.
    out : array, shape of z, optional
        Where to write the gradient; `z` itself is allowed.

    Returns
    -------
    loss : float, or array of the shape of z for "none"
        In nats, at least 0; NaN for the mean over nothing.
    gradient : array, shape of z
        Only with `return_grad`.

    Raises
    ------
    ValueError
        If `y` is not of the shape of `z` or not in [0, 1], or as `softmax`.

    Notes
    -----
    Computed as ``|z| * (1 - y or y) + log1p(exp(-|z|))``, whose parts do not cancel.

    Examples
    --------
    >>> import logitext as lt
    >>> lt.binary_cross_entropy([2.0, -1.0], [1, 1], reduction="none").round(3).tolist()
    [0.127, 1.313]
    """
    _check_reduction(reduction)
    if out is not None and not return_grad:
        raise ValueError("out is for the gradient: it needs return_grad=True")
    logits = rows(z)
    labels, _ = receive(y)
    if labels.shape != logits.given.shape:
        raise ValueError(f"labels must be one per logit: logits {logits.given.shape}, labels {labels.shape}")
    if labels.dtype.kind not in "iubf" and labels.dtype.name != "bfloat16":
        raise ValueError(f"labels must be numbers in [0, 1], got dtype {labels.dtype}")
    native = logits.dtype if logits.format == "bfloat16" else np.dtype(logits.format)
    wrong = ~((labels >= 0) & (labels <= 1))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"labels must be in [0, 1], got {labels[at]} at {at}")
    shares = logits.like(labels.astype(native, copy=False))
    room = place(logits, out) if return_grad else None
    losses = place(logits, None) if reduction == "none" else None
    each = None if losses is None else losses.work
    total = 0.0
    for part, share, loss in logits.parts(shares, each):
        total += _core.binary(logits.format, part, share, loss, "loss", 1.0, logits.threads)
    n = logits.given.size
    total = math.nan if math.isnan(total) else total  # Which NaN it is depends on the CPU.
    answer: Any = total / n if n else math.nan
    if reduction == "sum":
        answer = total
    elif losses is not None:
        answer = losses.give()
    if room is None:
        return answer
    factor = 1 / n if reduction == "mean" and n else 1.0
    for part, share, work in logits.parts(shares, room.work):
        source = None if room.source is None else part
        _core.binary(logits.format, source, share, work, "gradient", factor, logits.threads)
    return answer, room.give()
