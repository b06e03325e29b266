"""The formats of tables, each read as batches of texts and labels."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from logitext._core import complete_records
from logitext.columns import Batch, Wanted, decoded, first_true, text_and_label
from logitext.labels import is_list, kept_pieces
from logitext.streams import Pieces, chunks, complete_lines

FASTTEXT_PREFIX = "__label__"
_SEVERAL = "for several labels per text give --multilabel"
_PARQUET_ROWS = 1 << 16

# CSV and TSV


def read_delimited(pieces: Pieces, wanted: Wanted, *, delimiter: str) -> Iterator[Batch]:
    complete = partial(complete_records, delimiter=ord(delimiter), quoted=True)
    width = 0
    text, label, row = 0, None, 0
    for chunk in chunks(pieces, complete, wanted.source):
        if not width:
            end = _first_record(chunk, complete)
            names = _header(chunk[:end], wanted, delimiter)
            if not names:
                continue
            width = len(names)
            text, label = text_and_label(names, wanted)
            chunk = chunk[end:]
        if not chunk.strip(b"\r\n"):
            continue
        picked = [text] if label is None else [text, label]
        columns = _parse_delimited(chunk, wanted, delimiter, width, picked, row)
        yield wanted.batch(columns[0], columns[1] if len(columns) > 1 else None, row)
        row += len(columns[0])
    if not row:
        raise wanted.error("a header but no data rows in it" if width else "empty")


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
) -> list[pa.Array]:
    """The picked columns of complete records, as binary."""
    wrong: list[pyarrow.csv.InvalidRow] = []

    def stop(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    names = [str(index) for index in picked]
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
        row = first_row + wrong[0].number
        found = wrong[0].actual_columns
        raise wanted.error(
            f"data row {row} has {found} field{'s'[: found != 1]}, but the header has {width}"
        ) from None
    return [table.column(name).combine_chunks() for name in names]


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
    for chunk in chunks(pieces, complete_lines, wanted.source):
        if not fields:
            start = re.search(rb"\S", chunk)
            if start is None:
                continue
            fields = _json_fields(chunk[start.start() : chunk.index(b"\n", start.start())], wanted)
        columns = _parse_json(chunk, fields)
        if columns is None:
            columns = _parse_json_slowly(chunk, fields, wanted, row)
        if len(columns[0]):
            yield wanted.batch(columns[0], columns[1] if len(columns) > 1 else None, row)
            row += len(columns[0])
    if not row:
        raise wanted.error("empty")


def _json_fields(line: bytes, wanted: Wanted) -> dict[str, type]:
    """The keys of the text and the label and their types, from the first record."""
    if line.startswith(b"["):
        raise wanted.error("a JSON array, where JSON Lines have one object per line")
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


def _parse_json(chunk: bytes, fields: dict[str, type]) -> list[pa.Array] | None:
    """The columns by Arrow's parser; None when anything is wrong or unusual."""
    # Arrow 26 and before crash on a leading null (apache/arrow#47409).
    if not re.match(rb"\s*\{", chunk) or not {*fields.values()} <= _LABEL_TYPES.keys():
        return None
    schema = pa.schema([(name, _LABEL_TYPES[kind]) for name, kind in fields.items()])
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
    columns = [table.column(name).combine_chunks() for name in fields]
    return None if any(column.null_count for column in columns) else columns


def _parse_json_slowly(
    chunk: bytes, fields: dict[str, type], wanted: Wanted, first_row: int
) -> list[pa.Array]:
    """The same columns line by line, or an error that names the row."""
    values: dict[str, list[Any]] = {name: [] for name in fields}
    row = first_row
    for line in chunk.split(b"\n"):
        if not line.strip():
            continue
        row += 1
        record = _json_object(line, wanted, row)
        for (name, kind), what in zip(fields.items(), ("text", "label"), strict=False):
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
                value = [_json_value(label, what, wanted, row) for label in value]
            else:
                value = _json_value(value, what, wanted, row)
            values[name].append(value)
    return [_json_column(column, fields[name], wanted) for name, column in values.items()]


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
        batch = wanted.batch(_split_lines(chunk), None, row)
        yield batch
        row += len(batch.texts)
    if not row:
        raise wanted.error("empty")


def read_fasttext(pieces: Pieces, wanted: Wanted) -> Iterator[Batch]:
    _refuse_names(wanted, "fastText lines")
    row = 0
    for chunk in chunks(pieces, complete_lines, wanted.source):
        lines = wanted.batch(_split_lines(chunk), None, row).texts
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
            yield wanted.batch(texts, None, row)
        row += len(lines)
    if not row:
        raise wanted.error("empty")


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


def read_parquet(path: str | Path, wanted: Wanted, batch_bytes: int) -> Iterator[Batch]:
    # The system's errors first; Arrow words them in its own way.
    with open(path, "rb") as opened:
        if not opened.read(1):
            raise wanted.error("empty")
    try:
        # Without these two a whole row group is held, and a file may be a single one.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise wanted.error("not a readable Parquet file", error) from error
    with file:
        schema = file.schema_arrow
        text, label = text_and_label(schema.names, wanted)
        _check_type(schema.field(text), wanted, "text", pa.types.is_null)
        if label is not None:
            _check_type(
                schema.field(label),
                wanted,
                "label",
                pa.types.is_null,
                pa.types.is_integer,
                pa.types.is_boolean,
                *([] if wanted.separator is None else [_is_list_of_labels]),
            )
        picked = [text] if label is None else [text, label]
        batches = file.iter_batches(
            batch_size=_rows_per_batch(file.metadata, schema.names[text], batch_bytes),
            columns=[schema.names[index] for index in picked],
            use_threads=False,
        )
        row = 0
        while True:
            try:
                rows = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise wanted.error(f"the rows from data row {row + 1} on cannot be read", error) from error
            if rows is None:
                break
            columns = [decoded(rows.column(schema.names[index])) for index in picked]
            if rows.num_rows:
                yield wanted.batch(columns[0], columns[1] if len(columns) > 1 else None, row)
                row += rows.num_rows
    if not row:
        raise wanted.error("no data rows in it")


def _rows_per_batch(metadata: pq.FileMetaData, text: str, batch_bytes: int) -> int:
    size = 0
    for group_index in range(metadata.num_row_groups):
        group = metadata.row_group(group_index)
        for index in range(group.num_columns):
            if group.column(index).path_in_schema == text:
                size += group.column(index).total_uncompressed_size
    rows: int = metadata.num_rows
    return max(1, min(_PARQUET_ROWS, rows * batch_bytes // max(size, 1)))


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
