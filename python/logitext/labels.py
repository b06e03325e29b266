"""Several labels per text: lists of labels, or a 0/1 matrix → lists of label numbers, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext.features import as_column

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = [
    "LabelSets",
    "as_class_array",
    "as_label_sets",
    "as_objects",
    "is_list",
    "kept_pieces",
    "split_cells",
    "zero_one_sets",
]


@dataclass(frozen=True)
class LabelSets:
    """The labels of each row: what a 0/1 matrix says, in memory for its ones only."""

    offsets: NDArray[np.int64]
    """(n + 1): where each row's list begins."""
    ids: NDArray[np.uint32]
    """Numbers of labels, rising within a row."""
    labels: int
    """How many labels there are."""

    @classmethod
    def of_pairs(cls, rows: NDArray[Any], ids: NDArray[Any], n: int, labels: int) -> LabelSets:
        """Make it of (row, label) pairs, in any order, counting equal ones once."""
        row, label = np.divmod(np.unique(rows.astype(np.int64) * labels + ids), max(labels, 1))
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=n), out=offsets[1:])
        return cls(offsets, label.astype(np.uint32), labels)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many labels each row has."""
        return np.diff(self.offsets)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows have each label."""
        return np.bincount(self.ids, minlength=self.labels)

    @cached_property
    def at(self) -> NDArray[np.int64]:
        """Places of the ones in the flat 0/1 matrix, rising."""
        return np.repeat(np.arange(len(self)), self.lengths) * self.labels + self.ids

    def take(self, rows: NDArray[Any]) -> LabelSets:
        """Return the sets of some rows."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        begins = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return LabelSets(offsets, self.ids[begins + np.arange(offsets[-1])], self.labels)

    def join(self, other: LabelSets) -> LabelSets:
        """Return these rows and, after them, others."""
        offsets = np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        return LabelSets(offsets, np.concatenate([self.ids, other.ids]), self.labels)

    def parts(self, rows: int) -> Iterator[tuple[slice, LabelSets]]:
        """Cut into runs of so many rows."""
        for begin in range(0, len(self), rows):
            here = slice(begin, min(begin + rows, len(self)))
            offsets = self.offsets[begin : here.stop + 1]
            ids = self.ids[offsets[0] : offsets[-1]]
            yield here, LabelSets(offsets - offsets[0], ids, self.labels)

    def indicator(self) -> NDArray[np.uint8]:
        """Return the 0/1 matrix, shape (n, n_labels)."""
        table = np.zeros((len(self), self.labels), np.uint8)
        table.reshape(-1)[self.at] = 1
        return table

    def names(self, classes: list[Any]) -> list[list[Any]]:
        """Return each row's labels by name."""
        flat = [classes[i] for i in self.ids.tolist()]
        return [flat[a:b] for a, b in pairwise(self.offsets.tolist())]

    def rarest(self) -> NDArray[np.uint32]:
        """Return the rarest label of each row, `labels` where there is none."""
        counts = self.counts
        order = np.lexsort((self.ids, counts[self.ids], np.repeat(np.arange(len(self)), self.lengths)))
        found = np.full(len(self), self.labels, np.uint32)
        some = self.lengths > 0
        found[some] = self.ids[order][self.offsets[:-1][some]]
        return found

    def fingerprints(self) -> NDArray[np.uint64]:
        """Return a number of each row that is equal for equal sets."""
        mixed = (self.ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
        found: NDArray[np.uint64] = np.diff(sums[self.offsets])  # modulo 2**64
        return found

    def both(self, other: LabelSets) -> NDArray[np.int64]:
        """Return the places of the ones that stand in both."""
        return np.intersect1d(self.at, other.at, assume_unique=True)


def as_label_sets(
    labels: Any, rows: int, classes: Any = None, *, unknown: bool = False
) -> tuple[list[Any], LabelSets]:
    """Bring several labels per text into classes and the set of each row.

    Parameters
    ----------
    labels : lists of labels, or 0/1 matrix
        One list of strings, integers or booleans per text (Python's, NumPy's, pandas', Polars',
        Arrow's list columns); or numbers 0 and 1, shape (rows, n_labels): an array, a SciPy sparse
        matrix, a data frame. What stands twice in a list counts once; an empty list is legal.
    rows : int
        How many texts there are.
    classes : sequence of labels, optional
        All labels there are, in this order; by default those found, sorted, or of a matrix the names
        of a data frame's columns, or the numbers of the columns.
    unknown : bool, default False
        Allow labels that are not among the classes: they count as one more, past the last.

    Returns
    -------
    classes : list of str, int or bool
    sets : LabelSets

    Raises
    ------
    ValueError
        If labels are not as described, a label is null or empty or not among `classes`, there is no
        label at all, or they are not one list per text.

    Examples
    --------
    >>> from logitext.labels import as_label_sets
    >>> classes, sets = as_label_sets([["b", "a", "b"], [], ["b"]], 3)
    >>> classes, sets.indicator().tolist()
    (['a', 'b'], [[1, 1], [0, 0], [0, 1]])
    """
    if rows == 0:
        raise ValueError("there are no rows to learn from")
    if hasattr(labels, "tocsr"):
        return _of_sparse(labels, rows, classes)
    table, columns = _matrix(labels)
    if table is None:
        return _of_lists(labels, rows, classes, unknown)
    if table.shape[0] != rows:
        raise ValueError(f"labels must be one per text: {rows} texts, an indicator matrix of {len(table)}")
    given = columns if classes is None else classes
    names = list(range(table.shape[1])) if given is None else _names(given)
    if columns is not None and columns != names:
        if set(columns) == set(names):
            table = table[:, [columns.index(name) for name in names]]
        elif columns != list(range(len(columns))):  # numbers are no names
            raise ValueError(f"the columns of the labels are not the classes: {columns} and {names}")
    if not names:
        raise ValueError("there must be at least one label, got an indicator matrix without columns")
    if len(names) != table.shape[1]:
        raise ValueError(
            f"classes must name each column of the indicator matrix: {table.shape[1]}, got {len(names)}"
        )
    return names, zero_one_sets(table)


def _of_sparse(table: Any, rows: int, classes: Any) -> tuple[list[Any], LabelSets]:
    """Read one of SciPy's sparse matrices, which may be too large to be written out."""
    table = table.tocsr(copy=True)
    table.sum_duplicates()
    names = list(range(table.shape[1])) if classes is None else _names(classes)
    if table.shape != (rows, len(names)) or not names:
        raise ValueError(f"labels of {rows} texts and {len(names)} classes, a sparse matrix of {table.shape}")
    wrong = ~np.isin(table.data, (0, 1))
    if wrong.any():
        raise ValueError(f"an indicator matrix holds 0 and 1 only, got {table.data[np.argmax(wrong)]!s}")
    owners = np.repeat(np.arange(rows), np.diff(table.indptr))
    ones = table.data == 1
    return names, LabelSets.of_pairs(owners[ones], table.indices[ones], rows, len(names))


def is_list(kind: pa.DataType) -> bool:
    """Tell whether values of this type are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def as_class_array(classes: list[Any]) -> NDArray[Any]:
    """Return classes as an array of their type."""
    # Strings stay Python's: NumPy's own would lose trailing NULs.
    array = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    if array.dtype.kind == "f":  # NumPy's guess for integers around 2**63
        array = np.array(classes, dtype=np.uint64 if classes[0] >= 0 else object)
    return array


def as_objects(lists: list[list[Any]]) -> NDArray[Any]:
    """Return an array of lists, shape (n,), however long they are."""
    array = np.empty(len(lists), object)
    for i, row in enumerate(lists):
        array[i] = row
    return array


def zero_one_sets(table: NDArray[Any]) -> LabelSets:
    """Read a 0/1 matrix.

    Raises
    ------
    ValueError
        If it holds something else.
    """
    ones = table == 1
    wrong = ~(ones | (table == 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"an indicator matrix holds 0 and 1 only, got {table[row, column]!s} at row {row}, "
            f"column {column}"
        )
    row, column = np.nonzero(ones)
    return LabelSets.of_pairs(row, column, *table.shape)


def _matrix(labels: Any) -> tuple[NDArray[Any] | None, list[Any] | None]:
    """An indicator matrix and the names of its columns, if that is what this is."""
    columns = None
    if hasattr(labels, "to_numpy") and hasattr(labels, "columns"):
        columns, labels = list(labels.columns), labels.to_numpy()
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype.kind in "biuf":
        return labels, columns
    return None, None


def _of_lists(labels: Any, rows: int, classes: Any, unknown: bool) -> tuple[list[Any], LabelSets]:
    offsets, flat = _lists(labels)
    if len(offsets) - 1 != rows:
        raise ValueError(f"labels must be one list per text: {rows} texts, {len(offsets) - 1} lists")

    def row_of(at: int) -> int:
        return int(np.searchsorted(offsets, at, side="right")) - 1

    if flat.null_count:
        at = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"the labels at row {row_of(at)} hold null: an empty list is for no label")
    encoded = flat.dictionary_encode()
    found, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    if "" in found:
        raise ValueError(f"the labels at row {row_of(int(np.argmax(codes == found.index(''))))} hold ''")
    names = sorted(found) if classes is None else _names(classes)
    if not names:
        raise ValueError("there must be at least one label, got empty lists only")
    # True is 1 to a dictionary.
    index = {(type(name), name): i for i, name in enumerate(names)}
    ids = np.array([index.get((type(label), label), len(names)) for label in found], np.int64)[codes]
    if not unknown and (ids == len(names)).any():
        at = int(np.argmax(ids == len(names)))
        raise ValueError(f"the label {found[codes[at]]!r} at row {row_of(at)} is not a class: see classes=")
    owners = np.repeat(np.arange(rows), np.diff(offsets))
    return names, LabelSets.of_pairs(owners, ids, rows, len(names) + unknown)


def _lists(labels: Any) -> tuple[NDArray[np.int64], pa.Array]:
    """Where each row's labels begin, and all labels: strings, integers or booleans."""
    import pyarrow.compute as pc  # takes 60 ms

    if isinstance(labels, np.ndarray) and labels.ndim > 1:
        labels = labels.tolist()
    if isinstance(labels, list | tuple):
        labels = [list(row) if isinstance(row, set | frozenset) else row for row in labels]
    try:
        array = as_column(labels, "labels")
    except ValueError as error:
        rows = labels if isinstance(labels, list | np.ndarray) else []
        kinds = {type(label).__name__ for row in rows if isinstance(row, list | tuple) for label in row}
        if len(kinds - {"NoneType"}) > 1:
            mixed = " and ".join(sorted(kinds))
            raise ValueError(f"labels must be all of one type, got {mixed} in the lists") from error
        raise
    kind = array.type
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"the labels at row {row} are null: an empty list is for no label")
    if not is_list(kind):
        raise ValueError(
            f"with multilabel=True each text has a list of labels, or a row of a 0/1 matrix, got {kind}: "
            "wrap single labels in lists, and cut strings at their separator"
        )
    lists = array.cast(pa.large_list(kind.value_type))
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))])
    return offsets.astype(np.int64), _checked(lists.flatten())


def _checked(flat: pa.Array) -> pa.Array:
    flat = as_column(flat, "labels")
    kind = flat.type
    plain = pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if not (plain or pa.types.is_null(kind)):
        raise ValueError(f"labels must be strings, integers or booleans, got lists of {kind}")
    return flat


def _names(classes: Any) -> list[Any]:
    column = _checked(as_column(classes, "classes"))
    names: list[Any] = column.to_pylist()
    if None in names or "" in names or len(set(names)) < len(names):
        raise ValueError("classes must name each label once, and none of them null or empty")
    return names


def split_cells(cells: pa.LargeStringArray, separator: str) -> pa.LargeListArray:
    """Cut cells of a table at a separator.

    Parameters
    ----------
    cells : pyarrow.LargeStringArray
        None of them null.
    separator : str

    Returns
    -------
    pyarrow.LargeListArray
        Lists of strings, without white space at their ends; empty pieces are left out.

    Examples
    --------
    >>> from logitext.features import arrow_strings
    >>> from logitext.labels import split_cells
    >>> split_cells(arrow_strings(["a;; b", ""]), ";").to_pylist()
    [['a', 'b'], []]
    """
    import pyarrow.compute as pc  # takes 60 ms

    return kept_pieces(pc.split_pattern(cells, separator))


def kept_pieces(lists: pa.LargeListArray) -> pa.LargeListArray:
    """Return lists of strings without white space at their ends, and without empty ones."""
    import pyarrow.compute as pc  # takes 60 ms

    pieces = pc.utf8_trim_whitespace(lists.flatten().cast(pa.large_string()))
    kept = pc.binary_length(pieces).to_numpy(zero_copy_only=False) > 0
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(kept)])
    offsets = before[np.concatenate([[0], np.cumsum(lengths)])].astype(np.int64)
    mask = pa.BooleanArray.from_buffers(
        pa.bool_(), len(kept), [None, pa.py_buffer(np.packbits(kept, bitorder="little"))]
    )
    wrapped = pa.Array.from_buffers(pa.int64(), len(offsets), [None, pa.py_buffer(offsets)])
    return pa.LargeListArray.from_arrays(wrapped, pieces.filter(mask))
