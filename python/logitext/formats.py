"""The formats of tables, each read as batches of texts and labels."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from logitext._core import complete_records
from logitext.addresses import is_address
from logitext.columns import Batch, Wanted, decoded, first_true, text_and_label
from logitext.features import arrow_numbers
from logitext.labels import is_list, kept_pieces
from logitext.streams import Pieces, Position, chunks, complete_lines, open_binary

FASTTEXT_PREFIX = "__label__"
_SEVERAL = "for several labels per text give --multilabel"
_PARQUET_ROWS, _ROWS_TRIED = 1 << 14, 256
_AN_ARRAY = "a JSON array, where JSON Lines have one object per line"
_NOTHING = pa.struct([])
"""Objects that are always empty: Parquet has no room for them."""
_ROWS_LOOKED_AT = 10_000
"""To tell what columns JSON Lines have."""

# CSV and TSV


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
            picked = _picked(names, wanted)
            chunk = chunk[end:]
        if not chunk.strip(b"\r\n"):
            continue
        columns, faults = _parse_delimited(chunk, wanted, delimiter, width, picked, row)
        yield wanted.batch(*_dealt(columns, wanted, row), faults)
        row += len(columns[0])
    if not row:
        raise wanted.error("a header but no data rows in it" if width else "empty")


def delimited_columns(pieces: Pieces, wanted: Wanted, *, delimiter: str) -> pa.Schema:
    """What columns a table has: all of them text, whatever they look like."""
    complete = partial(complete_records, delimiter=ord(delimiter), quoted=True)
    for chunk in chunks(pieces, complete, wanted.source):
        if names := _header(chunk[: _first_record(chunk, complete)], wanted, delimiter):
            return pa.schema([(name, pa.large_string()) for name in names])
    raise wanted.error("empty")


def _picked(names: Sequence[str], wanted: Wanted) -> list[int]:
    """Where the text is, the label if it is wanted, and what is carried along."""
    text, label = text_and_label(names, wanted)
    carried = (
        [] if wanted.carried is None else [_place_of(name, names, wanted) for name in wanted.carried.names]
    )
    return [text, *([] if label is None else [label]), *carried]


def _place_of(name: str, names: Sequence[str], wanted: Wanted) -> int:
    if name not in names:
        raise wanted.error(f"it has no column {name!r}; the files of a corpus have the same columns")
    return names.index(name)


def _dealt(
    columns: list[pa.Array], wanted: Wanted, row: int
) -> tuple[pa.Array, pa.Array | None, int, list[pa.Array]]:
    """The picked columns as a batch takes them."""
    first = 2 if wanted.labelled else 1
    return columns[0], columns[1] if wanted.labelled else None, row, columns[first:]


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


# JSON Lines

_JSON_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a fraction",
    bool: "a boolean",
    type(None): "null",
}
_LABEL_TYPES: dict[type, pa.DataType] = {str: pa.large_string(), int: pa.int64(), bool: pa.bool_()}


def read_json_lines(pieces: Pieces, wanted: Wanted) -> Iterator[Batch]:
    fields: dict[str, type] = {}
    row = 0
    carried = [] if wanted.carried is None else wanted.carried.names
    for chunk in chunks(pieces, complete_lines, wanted.source):
        if not fields:
            start = re.search(rb"\S", chunk)
            if start is None:
                continue
            fields = _json_fields(_first_object(chunk[start.start() :], wanted), wanted)
        faults: dict[int, str] = {}
        found = _parse_json(chunk, fields, wanted)
        if found is None:
            found, faults = _parse_json_slowly(chunk, fields, wanted, row)
        columns = [found[name] for name in (*fields, *carried)]
        if len(columns[0]):
            yield wanted.batch(*_dealt(columns, wanted, row), faults)
            row += len(columns[0])
    if not row:
        raise wanted.error("empty")


def json_columns(pieces: Pieces, wanted: Wanted) -> pa.Schema:
    """What columns the first rows have, and what is in them."""
    lines = (line for chunk in chunks(pieces, complete_lines, wanted.source) for line in chunk.splitlines())
    rows: list[dict[str, Any]] = []
    for line in islice((line for line in lines if line.strip()), _ROWS_LOOKED_AT):
        if line.startswith(b"[") and not rows:
            raise wanted.error(_AN_ARRAY)
        with suppress(ValueError) if wanted.lenient else nullcontext():
            rows.append(_json_object(line, wanted, len(rows) + 1))
    if not rows:
        raise wanted.error("no line of its beginning is a JSON object" if wanted.lenient else "empty")
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = [(name, _json_type([row.get(name) for row in rows], name, wanted)) for name in names]
    return pa.schema([(name, kind) for name, kind in kinds if kind != _NOTHING])


def _json_type(values: Iterable[Any], name: str, wanted: Wanted) -> pa.DataType:
    """What a column of JSON values holds; what is always null may turn out to be text."""
    counts = Counter(type(value) for value in values if value is not None)
    if set(counts) == {int, float}:
        return pa.float64()
    if len(counts) > 1 and not wanted.lenient:
        kinds = " and ".join(sorted(_JSON_NAMES[kind] for kind in counts))
        raise wanted.error(
            f"the column {name!r} is {kinds} in different rows; name those to carry along with --columns"
        )
    kind = counts.most_common(1)[0][0] if counts else str
    own: list[Any] = [value for value in values if type(value) is kind]
    if kind is list:
        return pa.list_(_json_type([item for value in own for item in value], name, wanted))
    if kind is dict:
        names = dict.fromkeys(inner for value in own for inner in value)
        inner = [(inner, _json_type([v.get(inner) for v in own], name, wanted)) for inner in names]
        return pa.struct([(inner, kind) for inner, kind in inner if kind != _NOTHING])
    return pa.float64() if kind is float else _LABEL_TYPES[kind]


def _holds(kind: pa.DataType, value: Any) -> bool:
    """Whether a column holds a JSON value as it is: Arrow would cut 1.5 to an integer."""
    if value is None:
        return True
    if pa.types.is_list(kind):
        return type(value) is list and all(_holds(kind.value_type, item) for item in value)
    if pa.types.is_struct(kind):
        return type(value) is dict and all(_holds(field.type, value.get(field.name)) for field in kind)
    if pa.types.is_integer(kind):
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    if pa.types.is_floating(kind):
        return type(value) in (int, float)
    if pa.types.is_boolean(kind):
        return type(value) is bool
    return type(value) is str and not re.search("[\ud800-\udfff]", value)


def _first_object(rows: bytes, wanted: Wanted) -> bytes:
    """The first line; where bad rows are no error, the first that is an object."""
    lines = rows.splitlines()[: _ROWS_LOOKED_AT if wanted.lenient else 1]
    if wanted.lenient:
        for line in lines:
            with suppress(ValueError):
                _json_object(line, wanted, 1)
                return line
    return lines[0]


def _json_fields(line: bytes, wanted: Wanted) -> dict[str, type]:
    """The keys of the text and the label and their types, from the first record."""
    if line.startswith(b"["):
        raise wanted.error(_AN_ARRAY)
    record = _json_object(line, wanted, 1)
    names = list(record)
    text, label = text_and_label(names, wanted)
    fields: dict[str, type] = {names[text]: str}
    if label is not None:
        kind = type(record[names[label]])
        several = kind is list and wanted.separator is not None
        if kind not in _LABEL_TYPES and kind is not type(None) and not several:
            hint = f", and {_SEVERAL}" if kind is list else ""
            raise wanted.error(
                f"the label of data row 1 is {_JSON_NAMES[kind]}; "
                f"labels are strings, integers or booleans{hint}"
            )
        fields[names[label]] = kind
    return fields


def _parse_json(chunk: bytes, fields: dict[str, type], wanted: Wanted) -> dict[str, pa.Array] | None:
    """The columns by Arrow's parser; None when anything is wrong or unusual."""
    # Arrow 26 and before crash on a leading null (apache/arrow#47409).
    if not re.match(rb"\s*\{", chunk) or not {*fields.values()} <= _LABEL_TYPES.keys():
        return None
    types = (
        {} if wanted.carried is None else dict(zip(wanted.carried.names, wanted.carried.types, strict=True))
    )
    types |= {name: _LABEL_TYPES[kind] for name, kind in fields.items()}
    schema = pa.schema(list(types.items()))
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(chunk),
            read_options=pyarrow.json.ReadOptions(block_size=len(chunk) + 1, use_threads=False),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    # Arrow also takes several objects on a line and an object over several lines.
    if table.num_rows != complete_records(chunk, ord("\n"), False)[1]:
        return None
    columns = {name: table.column(name).combine_chunks() for name in types}
    return None if any(columns[name].null_count for name in fields) else columns


def _parse_json_slowly(
    chunk: bytes, fields: dict[str, type], wanted: Wanted, first_row: int
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """The same columns line by line, and what is wrong with some, or an error that names the row."""
    carried = {field.name: field for field in wanted.carried or () if field.name not in fields}
    values: dict[str, list[Any]] = {name: [] for name in (*fields, *carried)}
    faults: dict[int, str] = {}
    lines = (line for line in chunk.split(b"\n") if line.strip())
    for row, line in enumerate(lines, first_row + 1):
        found: dict[str, Any] = {}
        try:
            record = _json_object(line, wanted, row)
            for name, field in carried.items():
                found[name] = _json_carried(record.get(name), field, wanted, row)
            for (name, kind), what in zip(fields.items(), ("text", "label"), strict=False):
                found[name] = _json_field(record, name, kind, what, wanted, row)
        except ValueError as error:
            if not wanted.lenient:
                raise
            faults[row - first_row - 1] = str(error).removeprefix(f"{wanted.source}: ").removesuffix(".")
        for name, column in values.items():
            column.append(found.get(name))
    columns = {name: _json_column(values[name], kind, wanted) for name, kind in fields.items()}
    columns |= {name: pa.array(values[name], field.type) for name, field in carried.items()}
    return columns, faults


def _json_field(record: dict[str, Any], name: str, kind: type, what: str, wanted: Wanted, row: int) -> Any:
    """The text or the label of a row."""
    if record.get(name) is None:
        how = "is null" if name in record else f"is missing: it has no {name!r}"
        raise wanted.error(f"the {what} of data row {row} {how}")
    value: Any = record[name]
    if type(value) is not kind:
        found = f"the {what} of data row {row} is {_JSON_NAMES[type(value)]}"
        if what == "text":
            raise wanted.error(f"{found}, not a string")
        raise wanted.error(
            f"{found}, where data row 1 has {_JSON_NAMES[kind]}; labels must all be of one type"
        )
    if isinstance(value, list):
        return [_json_value(label, what, wanted, row) for label in value]
    return _json_value(value, what, wanted, row)


def _json_carried(value: Any, field: pa.Field, wanted: Wanted, row: int) -> Any:
    """A value that is only carried along, if its column can hold it."""
    if not _holds(field.type, value):
        raise wanted.error(
            f"the column {field.name!r} of data row {row} is {_JSON_NAMES[type(value)]}, which does not fit "
            f"the {field.type} of the first rows; name those to carry along with --columns"
        )
    return value


def _json_value(value: Any, what: str, wanted: Wanted, row: int) -> Any:
    """A text or a label that Arrow can hold: strings as UTF-8."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise wanted.error(
                f"the {what} of data row {row} is not valid UTF-8 (half of a surrogate pair)"
            ) from None
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise wanted.error(f"the label of data row {row} does not fit in a signed 64-bit integer")
    if type(value) not in _LABEL_TYPES and value is not None:
        raise wanted.error(
            f"the labels of data row {row} hold {_JSON_NAMES[type(value)]}; "
            "labels are strings, integers or booleans"
        )
    return value


def _json_column(values: list[Any], kind: type, wanted: Wanted) -> pa.Array:
    if kind is not list:
        return pa.array(values, pa.large_binary() if kind is str else _LABEL_TYPES[kind])
    kinds = {type(label) for labels in values for label in labels} - {type(None)}
    if len(kinds) > 1:
        found = sorted("a string" if kind is bytes else _JSON_NAMES[kind] for kind in kinds)
        raise wanted.error(f"labels must all be of one type, and there are {' and '.join(found)} among them")
    of = {bytes: pa.large_binary(), int: pa.int64(), bool: pa.bool_()}
    return pa.array(values, pa.large_list(of[kinds.pop()] if kinds else pa.null()))


def _json_object(line: bytes, wanted: Wanted, row: int) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise wanted.error(f"data row {row} is not valid UTF-8", error) from None
    except ValueError as error:
        raise wanted.error(f"data row {row} is not valid JSON", error) from None
    except RecursionError:
        raise wanted.error(f"data row {row} is nested too deeply") from None
    if not isinstance(record, dict):
        raise wanted.error(f"data row {row} is {_JSON_NAMES[type(record)]}, not a JSON object")
    return record


# Lines, plain and fastText


def read_lines(pieces: Pieces, wanted: Wanted) -> Iterator[Batch]:
    if wanted.labelled:
        raise wanted.error(
            "plain lines hold no labels; give CSV, TSV, JSON Lines, Parquet or fastText lines, "
            "or name the format with --input-format"
        )
    _refuse_names(wanted, "plain lines")
    row = 0
    for chunk in chunks(pieces, complete_lines, wanted.source):
        lines = _split_lines(chunk)
        yield wanted.batch(lines, None, row, _carried_lines(lines, wanted))
        row += len(lines)
    if not row:
        raise wanted.error("empty")


def read_fasttext(pieces: Pieces, wanted: Wanted) -> Iterator[Batch]:
    _refuse_names(wanted, "fastText lines")
    row = 0
    for chunk in chunks(pieces, complete_lines, wanted.source):
        lines = _split_lines(chunk)
        if not wanted.lenient:
            lines = wanted.batch(lines, None, row).texts
        if wanted.labelled and wanted.separator is not None:
            fields = pc.extract_regex(
                lines, rf"(?s)^(?P<labels>(?:[ \t]*{FASTTEXT_PREFIX}[^ \t]*(?:[ \t]|$))*)(?P<text>.*)$"
            )
            found, texts = fields.flatten()
            marked = kept_pieces(pc.split_pattern_regex(found, r"[ \t]+"))
            names = pc.replace_substring_regex(marked.values, f"^{FASTTEXT_PREFIX}", "")
            yield wanted.batch(texts, pa.LargeListArray.from_arrays(marked.offsets, names), row)
        elif wanted.labelled:
            fields = pc.extract_regex(
                lines, rf"(?s)^[ \t]*{FASTTEXT_PREFIX}(?P<label>[^ \t]*)(?:[ \t](?P<text>.*))?$"
            )
            bare = first_true(fields.is_null())
            if bare is not None:
                raise wanted.error(f"data row {row + bare + 1} does not start with {FASTTEXT_PREFIX}")
            labels, texts = fields.flatten()
            second = first_true(pc.match_substring_regex(texts, rf"^[ \t]*{FASTTEXT_PREFIX}"))
            if second is not None:
                raise wanted.error(f"data row {row + second + 1} has more than one label: {_SEVERAL}")
            yield wanted.batch(texts, labels, row)
        else:
            texts = pc.replace_substring_regex(lines, rf"^(?:[ \t]*{FASTTEXT_PREFIX}[^ \t]*[ \t]?)+", "")
            yield wanted.batch(texts, None, row, _carried_lines(texts, wanted))
        row += len(lines)
    if not row:
        raise wanted.error("empty")


LINES = pa.schema([("text", pa.large_string())])
"""What lines have for columns."""


def _carried_lines(lines: pa.Array, wanted: Wanted) -> list[pa.Array]:
    if wanted.carried is None:
        return []
    for name in wanted.carried.names:
        _place_of(name, LINES.names, wanted)
    return [lines] * len(wanted.carried)


def _refuse_names(wanted: Wanted, what: str) -> None:
    # Column names for what was taken for lines: probably a table on a pipe whose
    # header does not hold them.
    if wanted.text is not None or wanted.label is not None:
        raise wanted.error(
            f"read as {what}, which have no columns to name; drop --text and --label or give --input-format"
        )


def _split_lines(chunk: bytes) -> pa.LargeBinaryArray:
    """The lines of a chunk that ends with LF, without their LF or CRLF."""
    if b"\r\n" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n")
    # Not pa.array, which imports pandas where that is installed: 0.2 s.
    offsets = pa.py_buffer(struct.pack("=qq", 0, len(chunk) - 1))
    whole = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(chunk)])
    lines = pc.split_pattern(whole, "\n")
    return lines.flatten()


# Parquet


@contextmanager
def open_parquet(path: str | Path, wanted: Wanted) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, or what stands at an address."""
    # The system's errors first; Arrow words them in its own way.
    with open_binary(path) as opened:
        if not opened.read(1):
            raise wanted.error("empty")
        try:
            # Without these two a whole row group is held, and a file may be a single one.
            where = opened if is_address(path) else path
            file = pq.ParquetFile(where, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise wanted.error("not a readable Parquet file", error) from error
        with file:
            yield file


def parquet_columns(path: str | Path, wanted: Wanted) -> pa.Schema:
    """What columns a file has; values that are numbered in the file are written out."""
    with open_parquet(path, wanted) as file:
        kinds = [field.type for field in file.schema_arrow]
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    return pa.schema(list(zip(file.schema_arrow.names, plain, strict=True)))


def read_parquet(
    path: str | Path,
    wanted: Wanted,
    batch_bytes: int,
    groups: tuple[int, int] | None = None,
    position: Position | None = None,
) -> Iterator[Batch]:
    with open_parquet(path, wanted) as file:
        schema = file.schema_arrow
        picked = _picked(schema.names, wanted)
        _check_type(schema.field(picked[0]), wanted, "text", pa.types.is_null)
        if wanted.labelled:
            _check_type(
                schema.field(picked[1]),
                wanted,
                "label",
                pa.types.is_null,
                pa.types.is_integer,
                pa.types.is_boolean,
                *([] if wanted.separator is None else [_is_list_of_labels]),
            )
        for field in wanted.carried or ():
            _check_carried(field, schema.field(field.name).type, wanted)
        metadata, names = file.metadata, [schema.names[index] for index in picked]
        begin, end = groups or (0, metadata.num_row_groups)
        row = sum(metadata.row_group(group).num_rows for group in range(begin))
        batches = file.iter_batches(
            batch_size=_rows_per_batch(file, list(dict.fromkeys(names)), batch_bytes, (begin, end)),
            row_groups=list(range(begin, end)),
            columns=list(dict.fromkeys(names)),
            use_threads=False,
        )
        while True:
            try:
                rows = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise wanted.error(f"the rows from data row {row + 1} on cannot be read", error) from error
            if rows is None:
                break
            columns = [decoded(rows.column(name)) for name in names]
            if rows.num_rows:
                yield wanted.batch(*_dealt(columns, wanted, row))
                row += rows.num_rows
                if position is not None:
                    position.bytes = position.size * row // max(1, metadata.num_rows)
    if not metadata.num_rows:
        raise wanted.error("no data rows in it")


def _check_carried(wanted_field: pa.Field, found: pa.DataType, wanted: Wanted) -> None:
    """Whether a column of this file may stand below that of the first."""
    kind = found.value_type if pa.types.is_dictionary(found) else found
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    fits = (
        kind == wanted_field.type
        or (_is_string(kind) and _is_string(wanted_field.type))
        or (pa.types.is_integer(kind) and pa.types.is_integer(wanted_field.type))
        or (number and pa.types.is_floating(wanted_field.type))
        or pa.types.is_null(kind)
    )
    if not fits:
        raise wanted.error(
            f"the column {wanted_field.name!r} holds {kind}, and {wanted_field.type} in the first file"
        )


def _rows_per_batch(file: pq.ParquetFile, names: list[str], batch_bytes: int, groups: tuple[int, int]) -> int:
    """How many rows make about so many bytes, by what the file says and by its first rows.

    The file alone does not know: a text that comes again and again is stored once.
    """
    size = rows = 0
    for group_index in range(*groups):
        group = file.metadata.row_group(group_index)
        rows += group.num_rows
        for index in range(group.num_columns):
            if group.column(index).path_in_schema.split(".")[0] in names:
                size += group.column(index).total_uncompressed_size
    each = size / max(1, rows)
    how = {"columns": names, "use_threads": False}
    with suppress(pa.ArrowException, OSError, StopIteration):  # said where the rows are read
        first = next(file.iter_batches(batch_size=_ROWS_TRIED, row_groups=[*range(*groups)][:1], **how))
        each = max(each, sum(decoded(column).nbytes for column in first.columns) / max(1, first.num_rows))
    return max(1, min(_PARQUET_ROWS, round(batch_bytes / max(each, 1e-9))))


def _is_string(kind: pa.DataType) -> bool:
    # By name, since older releases of Arrow have no predicates for views.
    return str(kind) in {"string", "large_string", "string_view", "binary", "large_binary", "binary_view"}


def _is_list_of_labels(kind: pa.DataType) -> bool:
    if not is_list(kind):
        return False
    item = kind.value_type
    item = item.value_type if pa.types.is_dictionary(item) else item
    plain = (pa.types.is_null, pa.types.is_integer, pa.types.is_boolean)
    return _is_string(item) or any(fits(item) for fits in plain)


def _check_type(field: pa.Field, wanted: Wanted, what: str, *others: Callable[[pa.DataType], bool]) -> None:
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_string(kind):
        return
    if any(fits(kind) for fits in others):
        return
    may = "labels are strings, integers or booleans" if what == "label" else "texts are strings"
    if what == "label" and is_list(kind):
        may += f", and {_SEVERAL}"
    raise wanted.error(f"the {what} column {field.name!r} holds {field.type}, but {may}")
