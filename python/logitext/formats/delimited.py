"""CSV and TSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv

from logitext._core import complete_records
from logitext.columns import Batch, EmptyTable, Wanted
from logitext.features import arrow_numbers
from logitext.formats.picking import dealt, picked_columns
from logitext.streams import Pieces, chunks


def read_delimited(pieces: Pieces, wanted: Wanted, *, delimiter: str) -> Iterator[Batch]:
    complete = partial(complete_records, delimiter=ord(delimiter), quoted=True)
    width = row = 0
    picked: list[int] = []
    for chunk in chunks(pieces, complete, wanted.source):
        if not width:
            end = _first_record(chunk, complete)
            names = _header(chunk[:end], wanted, delimiter)
            if not names:
                continue
            width = len(names)
            picked = picked_columns(names, wanted)
            chunk = chunk[end:]
        if not chunk.strip(b"\r\n"):
            continue
        columns, faults = _parse_delimited(chunk, wanted, delimiter, width, picked, row)
        yield wanted.batch(*dealt(columns, wanted, row), faults)
        row += len(columns[0])
    if not row:
        wanted.empty("a header but no data rows in it" if width else "empty")


def delimited_columns(pieces: Pieces, wanted: Wanted, *, delimiter: str) -> pa.Schema:
    """What columns a table has: all of them text, whatever they look like."""
    complete = partial(complete_records, delimiter=ord(delimiter), quoted=True)
    for chunk in chunks(pieces, complete, wanted.source):
        if names := _header(chunk[: _first_record(chunk, complete)], wanted, delimiter):
            return pa.schema([(name, pa.large_string()) for name in names])
    raise EmptyTable(str(wanted.error("empty")))


def _first_record(chunk: bytes, complete: Callable[[bytes], tuple[int, int]]) -> int:
    """The offset past the first record; past everything when all lines are blank."""
    for line_end in re.finditer(rb"\r\n?|\n", chunk):
        # With one byte more a CR at the end is a line end.
        if complete(chunk[: line_end.end()] + b" ")[1]:
            return line_end.end()
    return len(chunk)


def _header(record: bytes, wanted: Wanted, delimiter: str) -> list[str]:
    """The names in the header record; none when it is blank."""
    try:
        lines = io.StringIO(record.decode(), newline="")
        return next((names for names in csv.reader(lines, delimiter=delimiter) if names), [])
    except UnicodeDecodeError as error:
        raise wanted.error("the header is not valid UTF-8", error) from None
    except csv.Error as error:
        raise wanted.error("the header cannot be read", error) from error


def _parse_delimited(
    chunk: bytes, wanted: Wanted, delimiter: str, width: int, picked: Sequence[int], first_row: int
) -> tuple[list[pa.Array], dict[int, str]]:
    """The picked columns of complete records, as binary, and which of them are none."""
    wrong: list[pyarrow.csv.InvalidRow] = []

    def stop(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip" if wanted.lenient else "error"

    names = [str(index) for index in dict.fromkeys(picked)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(chunk),
            # One block, so that a record of any length fits and rows keep their
            # numbers; threads would only be started and stopped.
            read_options=pyarrow.csv.ReadOptions(
                column_names=[str(index) for index in range(width)],
                block_size=len(chunk) + 1,
                use_threads=False,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop
            ),
            # Binary columns have no null spellings, and broken UTF-8 passes, to
            # be found by row.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_binary()), include_columns=names
            ),
        )
    except pa.ArrowInvalid as error:
        if not wrong:
            raise wanted.error(f"the rows from data row {first_row + 1} on cannot be read", error) from error
        raise wanted.error(_wrong_width(wrong[0], width, first_row)) from None
    columns = [table.column(str(index)).combine_chunks() for index in picked]
    if not wrong:
        return columns, {}
    faults = {row.number - 1: _wrong_width(row, width, first_row) for row in wrong}
    rows = len(columns[0]) + len(faults)
    bad = np.zeros(rows, np.bool_)
    bad[list(faults)] = True
    places = arrow_numbers(np.cumsum(~bad) - 1, bad)
    return [column.take(places) for column in columns], faults


def _wrong_width(row: pyarrow.csv.InvalidRow, width: int, first_row: int) -> str:
    found = row.actual_columns
    return (
        f"data row {first_row + row.number} has {found} field{'s'[: found != 1]}, but the header has {width}"
    )
