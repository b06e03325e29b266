"""Learning from another model's logits: its judgement of each text becomes the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext.features import as_column, as_labels
from logitext.logits import argmax, softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

HARD = 0.5
"""Weight of a row's own label beside the teacher's judgement."""


@dataclass(frozen=True)
class Lesson:
    """What is to be learned of each text."""

    classes: list[Any]
    codes: NDArray[np.uint32]
    """The label, or where there is none the teacher's decision."""
    shares: NDArray[np.float32]
    """(n, n_classes): softened at the temperature, mixed with the labels there are."""
    truth: NDArray[np.float32]
    """The label, or where there is none the teacher at temperature 1: what is calibrated against."""
    decisions: NDArray[np.int64]
    """The teacher's."""
    labelled: int
    temperature: float

    def take(self, rows: NDArray[np.uint32]) -> Lesson:
        """Return the lesson of some rows."""
        arrays = ("codes", "shares", "truth", "decisions")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def lesson(labels: Any, teacher_logits: ArrayLike, *, temperature: float, classes: Any, rows: int) -> Lesson:
    """Bring a teacher's logits, and labels where there are some, into targets.

    A row's target is ``softmax(teacher_logits / temperature)``; where it has a label, the mean of
    that and the label (Hinton, Vinyals & Dean 2015).

    Parameters
    ----------
    labels : sequence of labels or None
        One per text, null where there is none; None: nowhere.
    teacher_logits : array of float, shape (rows, n_classes)
        Columns in the order of `classes`.
    temperature : float
        Above 1 it softens the teacher's judgement.
    classes : sequence of labels or None
        By default the labels, sorted, or the numbers of the columns where there are no labels.
    rows : int

    Returns
    -------
    Lesson

    Raises
    ------
    ValueError
        If shapes do not fit, a label is not among `classes`, a row has no finite logit, or the
        temperature is not a finite number above 0.

    Examples
    --------
    >>> from logitext.teaching import lesson
    >>> taught = lesson(["a", None], [[0.0, 0.0], [5.0, 0.0]], temperature=1, classes=None, rows=2)
    Traceback (most recent call last):
    ...
    ValueError: teacher_logits have 2 columns, the labels 1 class: say which are meant by classes=
    >>> taught = lesson(["a", None], [[0.0, 0.0], [5.0, 0.0]], temperature=1, classes=["a", "b"], rows=2)
    >>> taught.shares.astype(float).round(3).tolist()  # half the label, half the teacher; then the teacher
    [[0.75, 0.25], [0.993, 0.007]]
    """
    z = np.asarray(teacher_logits)
    if z.dtype.kind not in "fiu" or z.ndim != 2 or len(z) != rows or z.shape[1] < 2:
        raise ValueError(
            f"teacher_logits must be numbers, one row per text and one column per class: "
            f"{rows} texts, shape {z.shape}, {z.dtype}"
        )
    if rows == 0:
        raise ValueError("there are no rows to learn from")
    z = z.astype(np.float32, copy=False)
    soft = {t: softmax(z, temperature=t) for t in {1.0, _temperature(temperature)}}
    if not np.isfinite(soft[1.0]).all():
        row = int(np.argmax(~np.isfinite(soft[1.0]).all(axis=1)))
        raise ValueError(f"the teacher's logits at row {row} make no probabilities: NaN, +inf or all -inf")
    decisions: NDArray[np.int64] = argmax(z)
    column = pa.nulls(rows) if labels is None else as_column(labels, "labels")
    if len(column) != rows:
        raise ValueError(f"labels must be one per text: {rows} texts, {len(column)} labels")
    given = column.is_valid().to_numpy(zero_copy_only=False)
    names, hard = _names(column.drop_null(), classes, z.shape[1])
    codes = decisions.astype(np.uint32)
    codes[given] = hard

    def mixed(judged: NDArray[np.float32], hard: float) -> NDArray[np.float32]:
        shares = judged.copy()
        shares[given] *= np.float32(1 - hard)
        shares[given, codes[given]] += np.float32(hard)
        return shares

    shares, truth = mixed(soft[float(temperature)], HARD), mixed(soft[1.0], 1.0)
    return Lesson(names, codes, shares, truth, decisions, int(given.sum()), float(temperature))


def read_teacher(path: str | Path, column: str) -> NDArray[np.float32]:
    """Read another model's logits, or probabilities, from a column of lists in a Parquet file.

    Parameters
    ----------
    path : str or Path
    column : str
        Lists of numbers, all of one length: logits, or probabilities if no number is below 0 and
        each list sums to 1 (within .01).

    Returns
    -------
    float32 array, shape (rows, n_classes)
        Logits; of probabilities their logarithms.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no Parquet file, or has no such column of such lists.
    """
    import pyarrow.parquet as pq

    with open(path, "rb"):
        pass  # the system's errors first
    try:
        names = pq.read_schema(path).names
        if column not in names:
            raise ValueError(f"{path}: there is no column {column!r}; the columns are {', '.join(names)}")
        lists = pq.read_table(path, columns=[column])[column].combine_chunks()
    except pa.ArrowException as error:
        raise ValueError(f"{path}: a teacher's logits are read from Parquet only: {error}") from error
    what = f"{path}: column {column!r} must hold lists of numbers, all of one length"
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"{what}, not {kind}")
    flat = lists.flatten()
    number = pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)
    lengths = np.diff(np.append(0, np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))))
    if lists.null_count or flat.null_count or not number or len({*lengths.tolist()}) > 1:
        raise ValueError(what)
    numbers: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    z = numbers.reshape(len(lists), -1)
    if z.size and z.min() >= 0 and np.abs(z.sum(axis=1, dtype=np.float64) - 1).max() <= 0.01:
        with np.errstate(divide="ignore"):
            z = np.log(z)
    return z


def _temperature(temperature: Any) -> float:
    number = isinstance(temperature, int | float | np.integer | np.floating)
    if isinstance(temperature, bool) or not (number and np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")
    return float(temperature)


def _names(given: pa.Array, classes: Any, columns: int) -> tuple[list[Any], NDArray[np.uint32]]:
    """The classes in the order of the columns, sorted as a model's are, and the code of each label."""
    if classes is None:
        if len(given) == 0:
            return list(range(columns)), np.zeros(0, np.uint32)
        found = sorted(set(given.to_pylist()))
        if len(found) != columns:
            many = f"{len(found)} class{'es' * (len(found) > 1)}"
            raise ValueError(
                f"teacher_logits have {columns} columns, the labels {many}: say which are meant by classes="
            )
        return found, as_labels(given, len(given))[1]
    listed = as_column(classes, "classes")
    if len(listed) != columns:
        raise ValueError(f"classes must be one per column of teacher_logits: {columns}, got {len(listed)}")
    names = as_labels(listed, columns)[0]  # what labels may be, classes may be
    if names != listed.to_pylist():
        raise ValueError("classes must be sorted, each once, and the columns of teacher_logits in that order")
    index = {name: code for code, name in enumerate(names)}
    strange = [label for label in given.to_pylist() if label not in index]
    if strange:
        raise ValueError(f"the label {strange[0]!r} is not among the classes")
    return names, np.array([index[label] for label in given.to_pylist()], np.uint32)
