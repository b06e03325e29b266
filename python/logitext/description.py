"""What an array of logits holds: its range, how peaked it is, what is decided, how good that is.

The array is read block by block, so it may be mapped from a file larger than memory. What is
kept are three numbers per row for the quantiles and two counts per class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from logitext.arrays import receive
from logitext.logits import argmax, margin, summarize
from logitext.tallies import Looks, Peaks, Quantiles, Truths, Values

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Description", "Quantiles", "blocks", "describe"]

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done."""

BLOCK_LOGITS, BLOCK_ROWS = 1 << 22, 1 << 18
"""A block is 16 MB of float32, or one row if that is more."""
COLDEST, HOTTEST = 2.0**-16, 2.0**16


@dataclass(frozen=True)
class Description:
    """What `describe` found. Rows are counted through all leading axes."""

    shape: tuple[int, ...]
    dtype: str
    rows: int
    classes: int
    temperature: float
    """What the logits were divided by for probability, entropy and log loss."""
    lowest: float
    """The smallest finite logit; NaN if there is none, as the next three."""
    highest: float
    mean: float
    """Of the finite logits."""
    deviation: float
    """Standard deviation of the finite logits, whose number is the divisor."""
    masked: float
    """Share of the logits that are -inf."""
    unusable: int
    """Rows that are all -inf, or hold +inf or NaN. What follows leaves them out."""
    first_unusable: int | None
    probability: Quantiles
    """Of the largest probability of a row."""
    entropy: Quantiles
    """In nats."""
    entropy_share: Quantiles
    """Of log(n_classes); NaN for one class."""
    margin: Quantiles
    """Of the largest logit less the second, not divided by the temperature; may be inf."""
    decided: int
    """Classes that at least one row decides for."""
    commonest: int | None
    """The class that most rows decide for; of several the first."""
    commonest_share: float
    """Share of the rows that do."""
    log_loss: float | None = None
    """In nats. This and what follows is None without labels."""
    accuracy: float | None = None
    guessing: float | None = None
    """Log loss of giving each class its frequency among the labels, in nats."""
    best_temperature: float | None = None
    """What minimises the log loss of ``softmax(z / T)``; None if it was not sought: see `notes`."""
    masked_truths: int | None = None
    """Rows whose true class is masked: their loss is infinite."""
    first_masked_truth: int | None = None
    notes: tuple[str, ...] = ()
    """Sentences on what was left out or sampled, and on what looks wrong."""


def describe(
    z: ArrayLike, y: ArrayLike | None = None, *, temperature: float = 1.0, progress: Progress | None = None
) -> Description:
    """Describe logits: range, masks, how peaked, decisions and, with labels, log loss and accuracy.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, at least one row of one class; integers count as float64. May be mapped from a
        file larger than memory: it is read once, in blocks of about 16 MB (or one row).
    y : int array, shape (...) or (n_rows,), optional
        The true class of each row.
    temperature : float, default 1
        The logits are divided by it for probability, entropy and log loss.
    progress : callable, optional
        Called with what is being done and the share of it that is done, in [0, 1].

    Returns
    -------
    Description
        Numbers by name; entropy and log loss in nats.

    Raises
    ------
    ValueError
        If there are no rows or no classes; `z` is not real or not in the CPU's memory; labels
        are not integers in ``[0, n_classes)``, one per row; or `temperature` is not in
        ``[2**-16, 2**16]``.

    Notes
    -----
    Quantiles of more than 10 million rows are those of a random sample, the same each time; the
    best temperature of more than 2 million logits is that of evenly spaced rows. `notes` says so.

    Examples
    --------
    >>> import logitext as lt
    >>> found = lt.describe([[2.0, 1.0, 0.1], [0.0, 3.0, 1.0]], [0, 2])
    >>> found.rows, found.classes, found.lowest, found.highest
    (2, 3, 0.0, 3.0)
    >>> round(found.probability.p10, 3), found.margin.p90
    (0.659, 2.0)
    >>> found.accuracy, round(found.log_loss, 3), round(found.guessing, 3)
    (0.5, 1.293, 0.693)
    """
    array, _ = receive(z)
    _check(array, temperature)
    rows, classes = math.prod(array.shape[:-1]), array.shape[-1]
    labels = None if y is None else _labels(y, array.shape)
    values, peaks, looks = Values(), Peaks(rows, classes), Looks(classes)
    truths = None if labels is None else Truths(rows, classes)
    row = 0
    # What overflows becomes inf or NaN, and is shown as that.
    with np.errstate(all="ignore"):
        for given in blocks(array):
            if progress is not None:
                progress("describing", row / rows)
            block = _native(given)
            values.add(block)
            decided = argmax(block)
            lead = margin(block)
            # Towards the decision the loss is -log of the largest probability, precise near 0, too.
            found = summarize(block, decided, temperature=temperature)
            usable = ~np.isnan(lead)
            peaks.add(row, usable, decided, lead, np.exp(-found.loss), found.entropy)
            looks.add(block, usable, found.logsumexp if temperature == 1 else None)
            if truths is not None and labels is not None:
                truth = labels[row : row + len(block)].astype(np.int64)
                truths.add(row, block, usable, truth, decided, found, temperature)
            row += len(block)
        if progress is not None and truths is not None:
            progress("fitting", 1.0)
        measured, said = ({}, []) if truths is None else truths.measured()
        quantiles: dict[str, Any] = peaks.quantiles()
    return Description(
        shape=array.shape,
        dtype=str(array.dtype),
        rows=rows,
        classes=classes,
        temperature=float(temperature),
        **values.found(rows * classes),
        **peaks.found(),
        **quantiles,
        **measured,
        notes=(*peaks.notes(), *looks.notes(values), *said),
    )


def blocks(z: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut an array into parts of rows, in their order: views where memory allows.

    Parameters
    ----------
    z : ndarray, shape (..., n_classes)
        At least one row of one class.

    Yields
    ------
    ndarray, shape (n, n_classes)
        Some rows: about 4 million elements, or one row if that is longer.

    Examples
    --------
    >>> [block.shape for block in blocks(np.zeros((2, 3, 1 << 21)))]
    [(2, 2097152), (1, 2097152), (2, 2097152), (1, 2097152)]
    """
    if z.ndim == 1:
        z = z[np.newaxis]
    most = max(1, min(BLOCK_LOGITS // z.shape[-1], BLOCK_ROWS))
    inner = math.prod(z.shape[1:-1])
    if inner > most:
        for part in z:
            yield from blocks(part)
        return
    step = most // inner
    for at in range(0, len(z), step):
        yield z[at : at + step].reshape(-1, z.shape[-1])


def _check(array: NDArray[Any], temperature: float) -> None:
    if not COLDEST <= temperature <= HOTTEST:
        raise ValueError(f"temperature must be in [2**-16, 2**16], got {temperature}")
    if array.ndim == 0:
        raise ValueError("logits must have a class axis, got a single number")
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        raise ValueError(f"logits must be real numbers, got dtype {array.dtype}")
    if array.shape[-1] == 0:
        raise ValueError(f"there must be at least one class, got logits of shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"there must be at least one row, got logits of shape {array.shape}")


def _labels(y: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the labels in the order of the rows, after checking them."""
    labels, _ = receive(y)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    if labels.shape not in (shape[:-1], (rows,)):
        raise ValueError(f"labels must be one per row: logits {shape}, labels {labels.shape}")
    must = f"labels must be integers in [0, {classes})"
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f" and (broken := flat != np.floor(flat)).any():
        raise ValueError(f"{must}, got {flat[broken.argmax()]} at row {broken.argmax()}")
    if flat.dtype.kind not in "iu":
        raise ValueError(f"{must}, got dtype {flat.dtype}: see y.astype(np.int64)")
    for at in range(0, rows, BLOCK_LOGITS):
        part = flat[at : at + BLOCK_LOGITS]
        wrong = (part < 0) | (part >= classes)
        if wrong.any():
            bad = int(wrong.argmax())
            raise ValueError(f"{must}, got {part[bad]} at row {at + bad}")
    return flat


def _native(block: NDArray[Any]) -> NDArray[Any]:
    """Return the block in a type whose answers are not rounded to half precision."""
    size = block.dtype.itemsize if block.dtype.kind in "fV" else 8
    return np.ascontiguousarray(block, np.float32 if size <= 4 else np.float64)
