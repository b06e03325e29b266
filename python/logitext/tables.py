"""Tables of texts in: CSV, TSV, JSON Lines, Parquet, fastText and plain lines.

Every format becomes the same stream of batches, read in bounded memory. An error
is one sentence that names the file and the data row; data rows count from 1, and
neither the header nor blank lines of a table are rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from logitext.columns import LABEL_COLUMNS, TEXT_COLUMNS, Batch, Wanted
from logitext.formats import (
    FASTTEXT_PREFIX,
    LINES,
    delimited_columns,
    json_columns,
    parquet_columns,
    read_delimited,
    read_fasttext,
    read_json_lines,
    read_lines,
    read_parquet,
)
from logitext.streams import (
    COMPRESSIONS,
    Pieces,
    Position,
    is_standard_stream,
    open_pieces,
    text_pieces,
    with_first_line,
)

__all__ = ["FORMATS", "LABEL_COLUMNS", "TEXT_COLUMNS", "Batch", "read", "read_all"]

FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")

_SNIFFED = "sniffed"
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ft": "fasttext",
    ".fasttext": "fasttext",
    ".txt": _SNIFFED,
}
_READERS: dict[str, Callable[[Pieces, Wanted], Iterator[Batch]]] = {
    "csv": partial(read_delimited, delimiter=","),
    "tsv": partial(read_delimited, delimiter="\t"),
    "jsonl": read_json_lines,
    "fasttext": read_fasttext,
    "lines": read_lines,
}
_COLUMNS: dict[str, Callable[[Pieces, Wanted], pa.Schema]] = {
    "csv": partial(delimited_columns, delimiter=","),
    "tsv": partial(delimited_columns, delimiter="\t"),
    "jsonl": json_columns,
}


def read(
    path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    labelled: bool = True,
    separator: str | None = None,
    format: str | None = None,
    batch_bytes: int = 8 << 20,
    carried: pa.Schema | None = None,
    on_bad_row: Literal["error", "skip", "keep"] = "error",
    may_be_empty: bool = False,
    groups: tuple[int, int] | None = None,
    position: Position | None = None,
) -> Iterator[Batch]:
    """Read a table of texts, with or without labels, batch by batch.

    Memory stays bounded by `batch_bytes` and the longest record. Rows of standard
    input come out as they arrive. Nothing is opened before the first batch is asked
    for.

    Parameters
    ----------
    path : str or Path
        The file, an address, or ``-`` for standard input.
    text : str, optional
        The column of texts; guessed from `TEXT_COLUMNS` when not given.
    label : str, optional
        The column of labels; guessed from `LABEL_COLUMNS` when not given.
    labelled : bool, default True
        Whether to read labels.
    separator : str, optional
        A text may have several labels, or none: strings are cut here, lists and several
        ``__label__`` are taken as they are, and the labels come as lists.
    format : str, optional
        One of `FORMATS`; by default the suffix decides, and for ``.txt`` and
        standard input the first line.
    batch_bytes : int, default 8 MiB
        About how many bytes of input make a batch.
    carried : pyarrow.Schema, optional
        Further columns to read, as `columns_of` tells them.
    on_bad_row : {"error", "skip", "keep"}, default "error"
        What becomes of a row that cannot be read, or has no text: an error, nothing, or a row without text.
        Without labels only.
    may_be_empty : bool, default False
        Whether a table without rows is no error.
    groups : (int, int), optional
        Of a Parquet file the row groups from the first to before the second.
    position : Position, optional
        Told how much of the file has been read.

    Yields
    ------
    Batch
        At least one, none of them empty.

    Raises
    ------
    OSError
        When the file cannot be opened.
    ValueError
        When the input is not such a table; one sentence names the file and row.

    Examples
    --------
    >>> for batch in read("train.csv", label="topic"):  # doctest: +SKIP
    ...     print(batch.first_row, len(batch.texts))
    """
    source = "standard input" if is_standard_stream(path) else str(path)
    wanted = Wanted(source, text, label, labelled, separator, carried, on_bad_row, may_be_empty)
    if labelled and wanted.lenient:
        raise ValueError("with labels a bad row is an error")
    if separator == "":
        raise ValueError("the separator of labels must not be empty")
    if batch_bytes < 1:
        raise ValueError(f"batch_bytes must be at least 1, not {batch_bytes}.")
    kind, compression = _format_of(path, format, wanted)
    if kind == "parquet":
        yield from read_parquet(path, wanted, batch_bytes, groups, position)
        return
    with open_pieces(path, compression, min(batch_bytes, 1 << 30), source, position) as pieces:
        pieces = text_pieces(pieces, source)
        if kind == _SNIFFED:
            kind, pieces = _sniffed(pieces, wanted, any_format=is_standard_stream(path))
        yield from _READERS[kind](pieces, wanted)


def columns_of(
    path: str | Path,
    *,
    text: str | None = None,
    format: str | None = None,
    on_bad_row: Literal["error", "skip", "keep"] = "error",
) -> pa.Schema:
    """Return what columns a table has, as they would be carried along.

    Those of CSV and TSV are text, whatever they look like: ``007`` stays what it is. Those of JSON Lines are
    what the first 10,000 rows have.

    Parameters
    ----------
    path, text, format, on_bad_row
        As for `read`.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    OSError, ValueError
        As `read` does.
    """
    source = str(path)
    wanted = Wanted(source, text, None, False, None, None, on_bad_row)
    kind, compression = _format_of(path, format, wanted)
    if kind == "parquet":
        return parquet_columns(path, wanted)
    with open_pieces(path, compression, 8 << 20, source) as pieces:
        pieces = text_pieces(pieces, source)
        if kind == _SNIFFED:
            kind, pieces = _sniffed(pieces, wanted, any_format=False)
        if kind in _COLUMNS:
            return _COLUMNS[kind](pieces, wanted)
    return LINES


def read_all(
    path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    labelled: bool = True,
    separator: str | None = None,
    format: str | None = None,
    batch_bytes: int = 8 << 20,
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Read a whole table of texts into memory.

    Parameters
    ----------
    path, text, label, labelled, separator, format, batch_bytes
        As for `read`.

    Returns
    -------
    texts : pa.ChunkedArray
        All texts.
    labels : pa.ChunkedArray or None
        All labels; None when they were not asked for.

    Raises
    ------
    OSError, ValueError
        As `read` does.

    Examples
    --------
    >>> texts, labels = read_all("train.csv")  # doctest: +SKIP
    """
    arguments: dict[str, Any] = {"text": text, "label": label, "labelled": labelled, "separator": separator}
    batches = list(read(path, **arguments, format=format, batch_bytes=batch_bytes))
    texts = pa.chunked_array([batch.texts for batch in batches])
    return texts, joined([batch.labels for batch in batches]) if labelled else None


def joined(labels: list[pa.Array | None]) -> pa.ChunkedArray:
    """Join the labels of some batches; lists that are all empty take the type of the others.

    Raises
    ------
    ValueError
        If they are of several types.
    """
    kinds = {str(part.type): part.type for part in labels if part is not None}
    some = [kinds[name] for name in sorted(kinds) if not _holds_nothing(kinds[name])]
    if len(some) > 1:
        raise ValueError(f"labels must be of one type in all inputs, got {' and '.join(map(str, some))}")
    return pa.chunked_array([part.cast(some[0]) if some else part for part in labels if part is not None])


def _holds_nothing(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(kind) and pa.types.is_null(kind.value_type))


# Which format


def format_of(path: str | Path, format: str | None) -> str:
    """Return the format of a file as far as its name tells: one of `FORMATS`, or ``sniffed``.

    Raises
    ------
    ValueError
        If its suffix names none.
    """
    return _format_of(path, format, Wanted(str(path), None, None, False))[0]


def _format_of(path: str | Path, format: str | None, wanted: Wanted) -> tuple[str, str | None]:
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; the formats are {', '.join(FORMATS)}.")
    if is_standard_stream(path):
        if format == "parquet":
            raise wanted.error(
                "Parquet cannot be read from a pipe, because its index is at the end; give a file"
            )
        return format or _SNIFFED, None
    stem = Path(path)
    compression = COMPRESSIONS.get(stem.suffix.lower())
    if compression is not None:
        stem = stem.with_suffix("")
    kind = format or SUFFIXES.get(stem.suffix.lower())
    if kind is None:
        raise wanted.error(
            f"the suffix {stem.suffix!r} names no known format; the known ones are {', '.join(SUFFIXES)}, "
            f"optionally with {' or '.join(COMPRESSIONS)} after them; rename the file or give --input-format"
        )
    if kind == "parquet" and compression is not None:
        raise wanted.error(f"Parquet compresses itself and cannot be read through {compression}")
    return kind, compression


def _sniffed(pieces: Pieces, wanted: Wanted, *, any_format: bool) -> tuple[str, Pieces]:
    line, pieces = with_first_line(pieces)
    if any_format and line.startswith(b"{"):
        return "jsonl", pieces
    if line.startswith(FASTTEXT_PREFIX.encode()):
        return "fasttext", pieces
    if any_format:
        known = {*TEXT_COLUMNS, (wanted.text or "").lower()} - {""}
        for kind, delimiter in (("tsv", b"\t"), ("csv", b",")):
            names = {name.strip(b' "').lower().decode(errors="replace") for name in line.split(delimiter)}
            if names & known:
                return kind, pieces
    return "lines", pieces
