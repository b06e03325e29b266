"""Tables out: JSON Lines, CSV, TSV and Parquet.

A file appears under its name only when it is complete; until then whatever was
there before stays.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from logitext.columns import first_true
from logitext.features import arrow_strings
from logitext.files import replacing
from logitext.streams import COMPRESSIONS, is_standard_stream

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")

# Each row group costs, and batches of a slow input may hold a single row.
_ROW_GROUP_ROWS = 1 << 17
_ROW_GROUP_BYTES = 32 << 20
_ROWS_LOOKED_AT = 4096
_COUNTED = {"string", "large_string", "binary", "large_binary", "int32", "int64", "uint32", "uint64"}


class Writer(Protocol):
    """Where the rows of a table go."""

    nested: bool
    """Whether a column may hold lists; CSV and TSV have no room for them."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""


@contextmanager
def open_writer(path: str | Path, *, format: str | None = None) -> Iterator[Writer]:
    """Open a table for writing.

    A file is written under a hidden name beside its own and renamed when the
    block ends. When the block raises, nothing is left and an existing file stays.

    Parameters
    ----------
    path : str or Path
        The file, or ``-`` for standard output.
    format : str, optional
        One of `OUTPUT_FORMATS`; by default the suffix decides, and for standard
        output it is ``jsonl``.

    Yields
    ------
    Writer
        Takes record batches of one schema.

    Raises
    ------
    FileNotFoundError
        When the folder does not exist.
    OSError
        When the file cannot be written.
    ValueError
        When the suffix is unknown or, while writing, a value does not fit the format.

    Examples
    --------
    >>> with open_writer("answers.jsonl") as writer:  # doctest: +SKIP
    ...     writer.write(pa.record_batch({"label": ["news"], "probability": [0.75]}))
    """
    kind, compression = _format_of(path, format)
    standard = is_standard_stream(path)
    with ExitStack() as stack:
        sink: Any = sys.stdout.buffer if standard else stack.enter_context(replacing(Path(path)))
        if compression is not None:
            sink = stack.enter_context(pa.CompressedOutputStream(pa.PythonFile(sink, "w"), compression))
        if kind == "parquet":
            parquet = stack.enter_context(_ParquetWriter(sink))
            yield parquet
            parquet.finish()
        else:
            yield _TextWriter(sink, _ENCODERS[kind](), nested=kind == "jsonl", flush=standard)
        if standard:
            sink.flush()


def _format_of(path: str | Path, format: str | None) -> tuple[str, str | None]:
    if format is not None and format not in OUTPUT_FORMATS:
        raise ValueError(f"unknown output format {format!r}; the formats are {', '.join(OUTPUT_FORMATS)}.")
    if is_standard_stream(path):
        return format or "jsonl", None
    stem = Path(path)
    compression = COMPRESSIONS.get(stem.suffix.lower())
    if compression is not None:
        stem = stem.with_suffix("")
    kind = format or stem.suffix.lower().removeprefix(".")
    if kind not in OUTPUT_FORMATS:
        raise ValueError(
            f"{path}: the suffix {stem.suffix!r} names no output format; the known ones are "
            f"{', '.join('.' + known for known in OUTPUT_FORMATS)}, optionally with "
            f"{' or '.join(COMPRESSIONS)} after them; rename the file, give --format, or end a folder with /."
        )
    if kind == "parquet" and compression is not None:
        raise ValueError(f"{path}: Parquet compresses itself and cannot be written through {compression}.")
    return kind, compression


class _TextWriter:
    def __init__(
        self, sink: Any, encode: Callable[[pa.RecordBatch], pa.Buffer], *, nested: bool, flush: bool
    ) -> None:
        self.nested = nested
        self._sink = sink
        self._encode = encode
        self._flush = flush

    def write(self, batch: pa.RecordBatch) -> None:
        self._sink.write(self._encode(batch))
        if self._flush:
            self._sink.flush()


class _ParquetWriter:
    """Gathers batches into row groups of a useful size."""

    nested = True

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._parquet: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        rows = sum(held.num_rows for held in self._held)
        size = sum(held.nbytes for held in self._held)
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        if self._held:
            self._write_group()
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._sink, pa.schema([]))
        self._parquet.close()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._held)
        if self._parquet is None:
            how = {"compression": "zstd", "use_dictionary": _repetitive(table)}
            self._parquet = pq.ParquetWriter(self._sink, table.schema, **how)
        self._parquet.write_table(table)
        self._held = []

    def __enter__(self) -> _ParquetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        # Closed here even after an error, or it would be when it is collected,
        # on a file that is gone by then.
        if self._parquet is not None and self._parquet.is_open:
            with suppress(Exception):
                self._parquet.close()


def _repetitive(table: pa.Table) -> list[str]:
    """The columns, by the names of their leaves, whose values come again and again in the first rows.

    To number values that hardly do takes a third of the time of writing texts.
    """
    first = table.slice(0, _ROWS_LOOKED_AT)
    plain = {
        name
        for name, column in zip(first.column_names, first.columns, strict=True)
        if str(column.type) in _COUNTED and 2 * pc.count_distinct(column).as_py() > len(first)
    }
    sink = pa.BufferOutputStream()
    pq.write_table(table.schema.empty_table(), sink)
    leaves = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [
        leaf.path
        for leaf in leaves
        if leaf.path not in plain and leaf.physical_type not in ("FLOAT", "DOUBLE", "BOOLEAN")
    ]


# CSV and TSV


class _Delimited:
    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._names: list[str] | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.Buffer:
        table = pa.Table.from_batches([batch])
        while any(pa.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
        for index, field in enumerate(table.schema):
            if pa.types.is_nested(field.type):
                raise ValueError(
                    f"the column {field.name!r} holds {field.type}, which CSV and TSV cannot; "
                    "write JSON Lines or Parquet."
                )
            if pa.types.is_dictionary(field.type):
                decoded = table.column(index).cast(field.type.value_type)
                table = table.set_column(index, field.name, decoded)
        if self._names not in (None, table.column_names):
            raise ValueError(f"the columns changed from {self._names} to {table.column_names}.")
        options = pyarrow.csv.WriteOptions(include_header=self._names is None, delimiter=self._delimiter)
        self._names = table.column_names
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink, options)
        return sink.getvalue()


# JSON Lines

# Text is made column by column: a Python object per value would take longer than
# classifying does.


def json_lines(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a batch as JSON Lines, one object a row."""
    if not batch.num_rows:
        return pa.py_buffer(b"")
    fields = list(zip(batch.schema.names, batch.columns, strict=True))
    rows = _json_object(fields, batch.num_rows, "", "}\n")
    # The rows already lie one after the other.
    length: int = pc.sum(pc.binary_length(rows)).as_py()
    return rows.buffers()[2].slice(0, length)


def _json(column: pa.Array, path: str) -> pa.Array:
    """The JSON text of every value of a column, called `path` in messages."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        values = pc.take(_json(column.dictionary, path), column.indices)
    elif pa.types.is_null(kind):
        values = pa.nulls(len(column), pa.large_string())
    elif pa.types.is_struct(kind):
        fields = [(field.name, child) for field, child in zip(kind, column.flatten(), strict=True)]
        values = _json_object(fields, len(column), f"{path}.", "}")
    elif pa.types.is_map(kind):
        keys = _json_string(column.keys.cast(pa.large_string()))
        items = pc.binary_join_element_wise(keys, _json(column.items, path), _scalar(": "))
        values = _json_collection(column, items, "{", "}")
    elif pa.types.is_fixed_size_list(kind):
        values = _json(column.cast(pa.large_list(kind.value_type)), path)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values = _json_collection(column, _json(column.values, path), "[", "]")
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        values = column.cast(pa.large_string())
    elif pa.types.is_floating(kind):
        values = _json_fraction(column, path)
    else:
        values = _json_string(column.cast(pa.large_string()))
    return pc.if_else(column.is_valid(), values, _scalar("null"))


def _json_object(fields: list[tuple[str, pa.Array]], rows: int, path: str, end: str) -> pa.Array:
    parts: list[Any] = []
    for name, column in fields:
        before = ", " if parts else "{"
        parts.append(_scalar(f"{before}{json.dumps(name, ensure_ascii=False)}: "))
        parts.append(_json(column, path + name))
    if not parts:
        return pa.repeat(_scalar("{" + end), rows)
    return pc.binary_join_element_wise(*parts, _scalar(end), _scalar(""))


def _json_collection(column: pa.Array, items: pa.Array, start: str, end: str) -> pa.Array:
    # Offsets go with the column's own slice, the items are all there are.
    lists = pa.LargeListArray.from_arrays(column.offsets.cast(pa.int64()), items)
    inside = pc.binary_join(lists, _scalar(", "))
    return pc.binary_join_element_wise(_scalar(start), inside, _scalar(end), _scalar(""))


def _json_fraction(column: pa.Array, path: str) -> pa.Array:
    odd = first_true(pc.invert(pc.is_finite(column)))
    if odd is not None:
        raise ValueError(f"the column {path!r} holds {column[odd].as_py()}, which JSON cannot.")
    # Arrow writes the shortest decimal that reads back as the same number, but
    # whole numbers without the point that keeps them fractions.
    text = column.cast(pa.large_string())
    whole = pc.invert(pc.match_substring_regex(text, "[.e]"))
    return pc.if_else(whole, pc.binary_join_element_wise(text, _scalar(".0"), _scalar("")), text)


def _json_string(text: pa.LargeStringArray) -> pa.Array:
    quoted = pc.binary_join_element_wise(_scalar('"'), text, _scalar('"'), _scalar(""))
    escaped = pc.and_kleene(text.is_valid(), pc.match_substring_regex(text, r'["\\\x00-\x1f]'))
    few = [json.dumps(value, ensure_ascii=False) for value in text.filter(escaped).to_pylist()]
    return pc.replace_with_mask(quoted, escaped, pa.array(few, pa.large_string())) if few else quoted


def _scalar(text: str) -> pa.Scalar:
    # Not pa.scalar, which imports pandas where that is installed: 0.2 s.
    return arrow_strings([text])[0]


_ENCODERS: dict[str, Callable[[], Callable[[pa.RecordBatch], pa.Buffer]]] = {
    "jsonl": lambda: json_lines,
    "csv": partial(_Delimited, ","),
    "tsv": partial(_Delimited, "\t"),
}
