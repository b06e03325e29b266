"""The weights of n-grams: a matrix, or rows kept to some of many classes; as floats or as bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from logitext.modelschema import EXPONENTS

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext import _core

    F32: TypeAlias = NDArray[np.float32]
    U32: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True)
class Kept:
    """Rows as long as their support; those of n-grams seen with many classes are full.

    Row `i` holds ``values[places[i, 0]:places[i + 1, 0]]``, the weights of the classes
    ``ids[places[i, 1]:places[i + 1, 1]]``; a row without ids is full, a weight for each class.
    """

    places: U32
    """Shape (n_features + 1, 2)."""
    ids: NDArray[Any]
    """uint16, or uint32 from 65,537 classes on."""
    values: NDArray[Any]
    """float32, or int8 where they are part of `Quantised`."""
    classes: int

    @property
    def lengths(self) -> U32:
        """How many weights each row has."""
        return np.diff(self.places[:, 0])

    @property
    def is_full(self) -> NDArray[np.bool_]:
        """Whether each row has a weight for every class."""
        return full_rows(self.places)


@dataclass(frozen=True)
class Quantised:
    """Weights of one byte, times two to the power of the exponent of their row.

    What they stand for are floats, exactly, and computing with either gives the same bits.
    """

    stored: NDArray[np.int8] | Kept
    """A matrix, or rows kept to some classes."""
    exponents: NDArray[np.int8]
    """Shape (n_features,)."""


Weights: TypeAlias = Union["F32", Kept]
"""A matrix of shape (n_features, n_classes), or rows kept to their support."""
Stored: TypeAlias = Union["F32", Kept, Quantised]
"""As they stand in a model."""

LARGEST = 127
"""Of a byte; -128 is not used."""


def full_rows(places: U32) -> NDArray[np.bool_]:
    """Return which rows have weights but no ids."""
    lengths, numbered = np.diff(places, axis=0).T
    return np.asarray(lengths > numbered)


def id_type(classes: int) -> type[np.unsignedinteger[Any]]:
    """Return the type in which the ids of so many classes are stored."""
    return np.uint16 if classes <= 1 << 16 else np.uint32


def as_core(weights: Stored) -> _core.Weights:
    """Return the arrays as the core takes them, none of them copied."""
    if isinstance(weights, Quantised):
        kept = weights.stored
        if isinstance(kept, Kept):
            return kept.places, kept.ids, kept.values, weights.exponents
        return kept, weights.exponents
    return (weights.places, weights.ids, weights.values) if isinstance(weights, Kept) else weights


def quantised(weights: Weights) -> Quantised:
    """Return weights in bytes, to the nearest of 127 steps that hold the largest of each row."""
    values, lengths = values_of(weights), _lengths(weights)
    largest, filled = np.zeros(len(lengths)), np.flatnonzero(lengths)
    if len(filled):
        begins = np.cumsum(lengths, dtype=np.int64)[filled] - lengths[filled]
        largest[filled] = np.maximum.reduceat(np.abs(values.reshape(-1)), begins)
    part, exponents = np.frexp(largest / LARGEST)
    exponents = np.clip(exponents - (part == 0.5), *EXPONENTS)  # the smallest that will do
    steps = np.ldexp(values.reshape(-1), -np.repeat(exponents, lengths)).reshape(values.shape)
    small = np.clip(np.rint(steps), -LARGEST, LARGEST).astype(np.int8)
    return Quantised(with_values(weights, small), exponents.astype(np.int8))


def plain(weights: Stored) -> Weights:
    """Return the same weights in float32, exactly."""
    if not isinstance(weights, Quantised):
        return weights
    stored = weights.stored
    exponents = np.repeat(weights.exponents.astype(np.intc), _lengths(stored))
    values = values_of(stored)
    floats = np.ldexp(values.reshape(-1).astype(np.float32), exponents).reshape(values.shape)
    found: Weights = with_values(stored, floats)
    return found


def _lengths(weights: NDArray[Any] | Kept) -> NDArray[Any]:
    return weights.lengths if isinstance(weights, Kept) else np.full(len(weights), weights.shape[1])


def values_of(weights: NDArray[Any] | Kept) -> NDArray[Any]:
    """Return all that is stored, in any shape."""
    return weights.values if isinstance(weights, Kept) else weights


def with_values(weights: NDArray[Any] | Kept, values: NDArray[Any]) -> Any:
    """Return other weights in the same places."""
    return replace(weights, values=values) if isinstance(weights, Kept) else values


def copy_of(weights: Weights) -> Weights:
    """Return weights that stay when these change."""
    copy: Weights = with_values(weights, values_of(weights).copy())
    return copy


def rows_of(weights: Stored, rows: NDArray[Any]) -> F32:
    """Return some rows with a weight for every class, 0 where none is kept: shape (n, n_classes)."""
    if isinstance(weights, Quantised):
        stored: Any = weights.stored
        floats: F32 = np.ldexp(rows_of(stored, rows).astype(np.float32), _column(weights.exponents[rows]))
        return floats
    if not isinstance(weights, Kept):
        whole: F32 = weights[rows]
        return whole
    found = np.zeros((len(rows), weights.classes), np.float32)
    places = weights.places
    for out, (begin, first), (end, last) in zip(found, places[rows], places[rows + 1], strict=True):
        if last > first:
            out[weights.ids[first:last]] = weights.values[begin:end]
        elif end > begin:
            out[:] = weights.values[begin:end]
    return found


def column_of(weights: Stored, rows: NDArray[Any], code: int) -> F32:
    """Return what some rows weigh for one class: shape (n,)."""
    if isinstance(weights, Quantised):
        stored: Any = weights.stored
        exponents = weights.exponents[rows].astype(np.intc)
        floats: F32 = np.ldexp(column_of(stored, rows, code).astype(np.float32), exponents)
        return floats
    if not isinstance(weights, Kept):
        column: F32 = weights[rows, code]
        return column
    begin, first = weights.places[rows].T.astype(np.intp)
    last = weights.places[rows + 1, 1].astype(np.intp)
    at = np.where(weights.is_full[rows], begin + code, -1)
    for i in np.flatnonzero(first < last):  # ids rise within a row
        place = first[i] + np.searchsorted(weights.ids[first[i] : last[i]], code)
        if place < last[i] and weights.ids[place] == code:
            at[i] = begin[i] + place - first[i]
    found: F32 = np.where(at < 0, np.float32(0), weights.values[at])
    return found


def _column(exponents: NDArray[np.int8]) -> NDArray[np.intc]:
    return exponents.astype(np.intc)[:, None]


def strongest(weights: Weights, most: int) -> U32:
    """Return the rows of the largest positive weights of each class, each row once, rising."""
    rows: set[int] = set()
    for features, column in _columns(weights):
        count = min(most, len(column))
        if count:
            least = np.partition(column, len(column) - count)[len(column) - count]
            candidates = np.flatnonzero(column >= max(least, np.finfo(np.float32).tiny))
            order = np.argsort(-column[candidates], kind="stable")[:count]
            rows.update(features[candidates[order]].tolist())
    return np.array(sorted(rows), dtype=np.uint32)


def _columns(weights: Weights) -> Any:
    """Yield, class by class, some rows, rising, and their weights: all that are not 0."""
    if not isinstance(weights, Kept):
        every = np.arange(len(weights))
        yield from ((every, column) for column in weights.T)
        return
    full, lengths = weights.is_full, weights.lengths
    in_full = np.repeat(full, lengths)
    matrix, kept = weights.values[in_full].reshape(-1, weights.classes), weights.values[~in_full]
    of_full, of_kept = np.flatnonzero(full), np.repeat(np.arange(len(full)), lengths * ~full)
    order = np.argsort(weights.ids, kind="stable")
    ends = np.cumsum(np.bincount(weights.ids, minlength=weights.classes))
    for code, entries in enumerate(np.split(order, ends[:-1])):
        features = np.concatenate([of_full, of_kept[entries]])
        rising = np.argsort(features, kind="stable")
        yield features[rising], np.concatenate([matrix[:, code], kept[entries]])[rising]
