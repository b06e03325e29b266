"""What the text becomes: containers of strings → Arrow buffers → counted n-grams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

MANY_TEXTS = 1000
"""From so many texts on, an n-gram must stand in two of them to be kept."""


def as_column(values: Any, what: str) -> pa.Array:
    """Bring anything that holds a column of values into one Arrow array.

    Parameters
    ----------
    values : list, NumPy array, pandas or Polars series, Arrow array, or a table of one column
    what : str
        "texts" or "labels", for messages.

    Returns
    -------
    pyarrow.Array

    Raises
    ------
    ValueError
        If it is a single string, or holds no single column of one type.
    """
    if isinstance(values, str | bytes):
        raise ValueError(f"{what} must be a sequence, got one string: put it in a list")
    try:
        array = _to_arrow(values)
    except UnicodeError as error:
        at = _first_surrogate(values)
        where = "" if at is None else f" at row {at}"
        raise ValueError(f"{what} must be valid Unicode: a lone surrogate{where}") from error
    except (pa.ArrowException, TypeError, OverflowError) as error:
        if _mixed(values):
            raise ValueError(f"{what} must be all of one type: {error}") from error
        raise ValueError(f"{what} cannot be read: {error}") from error
    if pa.types.is_dictionary(array.type):
        # Two steps: views of strings (Polars) cannot be taken from a dictionary.
        array = array.cast(pa.dictionary(array.type.index_type, _wide(array.type.value_type)))
        array = array.cast(array.type.value_type)
    if array.type != _wide(array.type):  # casting imports pyarrow.compute: 10 ms
        array = array.cast(_wide(array.type))
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _wide(kind: pa.DataType) -> pa.DataType:
    """Strings with 64-bit offsets: all chunks together may hold more than 2 GB."""
    return pa.large_string() if _is_string(kind) else kind


def arrow_numbers(array: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> pa.Array:
    """Wrap a NumPy array of numbers as an Arrow array, without a copy.

    ``pyarrow.array`` would do, but imports pandas where that is installed: 0.2 s.

    Parameters
    ----------
    array : array of int or float, shape (n,)
    mask : bool array, shape (n,), optional
        True where the value is null.

    Returns
    -------
    pyarrow.Array
    """
    array = np.ascontiguousarray(array)
    valid = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    kind = pa.from_numpy_dtype(array.dtype)
    return pa.Array.from_buffers(kind, len(array), [valid, pa.py_buffer(array)])


def arrow_strings(strings: list[str]) -> pa.LargeStringArray:
    """Return a list of strings as an Arrow array, without importing pandas.

    Parameters
    ----------
    strings : list of str

    Returns
    -------
    pyarrow.LargeStringArray

    Raises
    ------
    ValueError
        If a string holds a lone surrogate.
    """
    try:
        encoded = [string.encode() for string in strings]
    except UnicodeEncodeError as error:
        at = _first_surrogate(strings)
        raise ValueError(f"texts must be valid Unicode: a lone surrogate at row {at}") from error
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return _from_buffers(offsets, b"".join(encoded))


def _from_buffers(offsets: NDArray[np.int64], data: Any) -> pa.LargeStringArray:
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def _to_arrow(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, pa.Table | pa.RecordBatch):
        return _only_column(values)
    if hasattr(values, "__arrow_c_stream__") and hasattr(values, "columns"):
        frame = pa.table(values)
        # The index of a pandas frame is no column.
        return _only_column(frame.select(range(len(values.columns))))
    if isinstance(values, np.ndarray):
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise TypeError(f"one column is wanted, not an array of shape {values.shape}")
        return pa.array(values, from_pandas=True)
    if hasattr(values, "__arrow_c_stream__"):
        return pa.chunked_array(values)
    if hasattr(values, "to_numpy"):
        return pa.array(values, from_pandas=True)
    if not isinstance(values, Iterable):
        raise TypeError(f"a sequence is wanted, not {type(values).__name__}")
    values = values if isinstance(values, list) else list(values)
    # Plain strings do without pyarrow.array, which imports pandas where that is installed.
    plain = _core.strings(values) if values else None
    return pa.array(values) if plain is None else _from_buffers(*plain)


def _only_column(table: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    if table.num_columns != 1:
        names = ", ".join(table.column_names)
        raise TypeError(f"a table must be narrowed to one column, it has {table.num_columns}: {names}")
    return table.column(0)


def _mixed(values: Any) -> bool:
    return isinstance(values, list | tuple) and len({type(value) for value in values}) > 1


def _first_surrogate(values: Iterable[Any]) -> int | None:
    for row, value in enumerate(values):
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            return row
    return None


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def as_texts(texts: Any) -> pa.LargeStringArray:
    """Bring texts into one Arrow array of strings.

    Parameters
    ----------
    texts : list of str, NumPy array, pandas or Polars series, Arrow array or column
        A table or data frame of one column is taken as that column.

    Returns
    -------
    pyarrow.LargeStringArray

    Raises
    ------
    ValueError
        If it is a single string, something else than strings, or a text is null.

    Examples
    --------
    >>> from logitext.features import as_texts
    >>> as_texts(["one", "two"]).to_pylist()
    ['one', 'two']
    """
    array = as_column(texts, "texts")
    if not (_is_string(array.type) or pa.types.is_null(array.type)):
        raise ValueError(f"texts must be strings, got {array.type}")
    if array.null_count:
        raise ValueError(f"the text at row {_first_null(array)} is null")
    if pa.types.is_large_string(array.type):
        return array
    return array.cast(pa.large_string())  # no texts at all have Arrow's null type


def as_labels(labels: Any, rows: int) -> tuple[list[Any], NDArray[np.uint32]]:
    """Bring labels into sorted classes and the class of each row.

    Parameters
    ----------
    labels : list, NumPy array, pandas or Polars series, Arrow array
        Strings, integers or booleans, one per text.
    rows : int
        How many texts there are.

    Returns
    -------
    classes : list of str, int or bool
        Sorted; at least two.
    codes : uint32 array, shape (rows,)

    Raises
    ------
    ValueError
        If labels are of another type, null, empty, not one per text, or all the same.

    Examples
    --------
    >>> from logitext.features import as_labels
    >>> classes, codes = as_labels(["b", "a", "b"], 3)
    >>> classes, codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    array = as_column(labels, "labels")
    if len(array) != rows:
        raise ValueError(f"labels must be one per text: {rows} texts, {len(array)} labels")
    if rows == 0:
        raise ValueError("there are no rows to learn from")
    if array.null_count:
        raise ValueError(f"the label at row {_first_null(array)} is null")
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        raise ValueError("each text must have one label: for several labels per text set multilabel=True")
    if not (_is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"labels must be strings, integers or booleans, got {kind}")
    encoded = array.dictionary_encode()
    found = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if "" in found:
        raise ValueError(f"the label at row {int(np.argmax(codes == found.index('')))} is empty")
    if len(found) < 2:
        raise ValueError(f"there must be at least two classes, got only {found[0]!r}")
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found), np.uint32)
    rank[order] = np.arange(len(found), dtype=np.uint32)
    return [found[i] for i in order], rank[codes]


def _first_null(array: pa.Array) -> int:
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def buffers(texts: pa.LargeStringArray) -> _core.Texts:
    """Return the two buffers behind an Arrow array of strings, without a copy.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
        Without nulls.

    Returns
    -------
    offsets : int64 array, shape (n + 1,)
    data : uint8 array
        Text `i` is ``data[offsets[i]:offsets[i + 1]]``, in UTF-8.
    """
    if len(texts) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = texts.buffers()
    begin = texts.offset
    starts = np.frombuffer(offsets, np.int64)[begin : begin + len(texts) + 1]
    starts = np.require(starts, requirements="A")  # foreign memory may stand at any address
    empty = data is None or data.size == 0
    return starts, np.zeros(0, np.uint8) if empty else np.frombuffer(data, np.uint8)


@dataclass(frozen=True)
class Block:
    """The counted n-grams of one block ("words" or "chars") of some texts.

    The list of occurrences of a text is in the order of 8 shards of hashes: see ``rust/count.rs``.
    """

    name: str
    tokens: str
    ngrams: tuple[int, int]
    hashes: NDArray[np.uint64]
    document_frequency: NDArray[np.uint32]
    first_row: NDArray[np.uint32]
    documents: int
    """Texts they were counted in."""
    lists: _core.Lists
    least: int
    """Document frequency below which n-grams were dropped."""

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def recipe(self) -> _core.Recipe:
        """How text becomes these n-grams, as the core takes it."""
        return recipe(self.name, self.tokens, self.ngrams)


def recipe(name: str, tokens: str, ngrams: tuple[int, int]) -> _core.Recipe:
    """Return how text becomes the n-grams of one block, as the core takes it."""
    return (tokens, ngrams, None) if name == "words" else (tokens, None, ngrams)


def count_block(
    texts: pa.LargeStringArray,
    tokens: str,
    name: str,
    ngrams: tuple[int, int],
    *,
    room: tuple[int, int, int],
    threads: int,
    learn: int | None = None,
) -> Block:
    """Count the n-grams of one block and give each occurrence its value.

    N-grams that stand in one text only are dropped from `MANY_TEXTS` texts on:
    they are two thirds of a table, and held-out log loss is mostly better
    without them. Where there is no room for all, the rarest go first. What is dropped counts in
    the norm of its text, as unknown n-grams do in prediction.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
    tokens : {"unicode", "whitespace"}
    name : {"words", "chars"}
    ngrams : (int, int)
        Shortest and longest.
    room : (int, int, int)
        Weights there is room for, weights of an n-gram, and in how many texts it must stand to have so
        many: a rarer one counts as two for each of its texts (a weight and its class), at most as many.
    threads : int
    learn : int, optional
        The n-grams of so many texts, from the first, are known; in the others they are looked up.

    Returns
    -------
    Block

    Raises
    ------
    ValueError
        If a text is not valid UTF-8 (the message names the row).
    """
    rows = len(texts)
    known = rows if learn is None else learn
    least = 1 if known < MANY_TEXTS else 2
    learned = texts.slice(0, known)
    counted = _core.count(buffers(learned), recipe(name, tokens, ngrams), name, least, room, threads)
    hashes, document_frequency, first_row, indptr, indices, counts, dropped, least = counted
    values = _core.values(document_frequency, indptr, indices, counts, dropped, known, threads)
    lists = (hashes, indptr, indices, values)
    block = Block(name, tokens, ngrams, hashes, document_frequency, first_row, known, lists, least)
    if known == rows:
        return block
    return replace(block, lists=_joined(lists, look_up(texts.slice(known), block, threads=threads)))


def look_up(texts: pa.LargeStringArray, block: Block, *, threads: int) -> _core.Lists:
    """Find a block's n-grams in other texts.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
    block : Block
    threads : int

    Returns
    -------
    hashes, indptr, indices, values
        As `Block.lists`.

    Raises
    ------
    ValueError
        If a text is not valid UTF-8 (the message names the row).
    """
    known = (block.hashes, _core.buckets(block.hashes))
    found = _core.look_up(buffers(texts), block.recipe, block.name, *known, threads)
    values = _core.values(block.document_frequency, *found, block.documents, threads)
    return (block.hashes, found[0], found[1], values)


def known_ngrams(
    texts: pa.LargeStringArray,
    how: _core.Recipe,
    name: str,
    hashes: NDArray[np.uint64],
    document_frequency: NDArray[np.uint32],
    *,
    above: int = 0,
    threads: int,
) -> NDArray[np.float32]:
    """Return how much of each text is of known n-grams, and how much is not.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
    how, name
        As the core takes them.
    hashes, document_frequency : arrays, shape (n_features,)
        Of a block.
    above : int, default 0
        What stands in no more texts than this counts as unknown.
    threads : int

    Returns
    -------
    float32 array, shape (n, 2)
        The sums of ``(1 + ln count)²`` over the distinct n-grams that are known, and that are not.
    """
    indptr, indices, counts, unknown = _core.look_up(
        buffers(texts), how, name, hashes, _core.buckets(hashes), threads
    )
    found = np.zeros((len(texts), 2))
    found[:, 1] = unknown
    row = np.repeat(np.arange(len(texts)), np.diff(indptr[::SHARDS]))
    amount = (1 + np.log(counts)) ** 2
    known = document_frequency[indices] > above
    for at, which in enumerate((known, ~known)):
        found[:, at] += np.bincount(row, amount * which, len(texts))
    return found.astype(np.float32)


SHARDS = 8
"""As in ``rust/count.rs``."""


def _joined(first: _core.Lists, second: _core.Lists) -> _core.Lists:
    """The lists of some texts and of others after them."""
    hashes, *_ = first
    begins = np.concatenate([first[1], first[1][-1] + second[1][1:]])
    indices, values = (np.concatenate([first[at], second[at]]) for at in (2, 3))
    return (hashes, begins, indices, values)
