"""JSON Lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.json

from logitext._core import complete_records
from logitext.columns import Batch, EmptyTable, Wanted, text_and_label
from logitext.formats.jsontypes import NAMES, NOTHING, TYPES, holds, type_of
from logitext.formats.picking import SEVERAL, dealt
from logitext.streams import Pieces, chunks, complete_lines

_AN_ARRAY = "a JSON array, where JSON Lines have one object per line"
_ROWS_LOOKED_AT = 10_000
"""To tell what columns there are."""


def read_json_lines(pieces: Pieces, wanted: Wanted) -> Iterator[Batch]:
    fields: dict[str, type] = {}
    row = 0
    carried = [] if wanted.carried is None else wanted.carried.names
    for chunk in chunks(pieces, complete_lines, wanted.source):
        if not fields:
            start = re.search(rb"\S", chunk)
            if start is None:
                continue
            if wanted.carried is not None and wanted.text is not None:
                fields = {wanted.text: str}  # as the first file has it
            else:
                fields = _json_fields(_first_object(chunk[start.start() :], wanted), wanted)
        faults: dict[int, str] = {}
        found = _parse_json(chunk, fields, wanted)
        if found is None:
            found, faults = _parse_json_slowly(chunk, fields, wanted, row)
        columns = [found[name] for name in (*fields, *carried)]
        if len(columns[0]):
            yield wanted.batch(*dealt(columns, wanted, row), faults)
            row += len(columns[0])
    if not row:
        wanted.empty("empty")


def json_columns(pieces: Pieces, wanted: Wanted) -> pa.Schema:
    """What columns the first rows have, and what is in them."""
    lines = (line for chunk in chunks(pieces, complete_lines, wanted.source) for line in chunk.splitlines())
    rows: list[dict[str, Any]] = []
    seen = False
    for line in islice((line for line in lines if line.strip()), _ROWS_LOOKED_AT):
        seen = True
        if line.startswith(b"[") and not rows:
            raise wanted.error(_AN_ARRAY)
        with suppress(ValueError) if wanted.lenient else nullcontext():
            rows.append(_json_object(line, wanted, len(rows) + 1))
    if not rows:
        error = wanted.error("no line of its beginning is a JSON object" if seen else "empty")
        raise error if seen else EmptyTable(str(error))
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = [(name, type_of([row.get(name) for row in rows], name, wanted)) for name in names]
    return pa.schema([(name, kind) for name, kind in kinds if kind != NOTHING])


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
        if kind not in TYPES and kind is not type(None) and not several:
            hint = f", and {SEVERAL}" if kind is list else ""
            raise wanted.error(
                f"the label of data row 1 is {NAMES[kind]}; labels are strings, integers or booleans{hint}"
            )
        fields[names[label]] = kind
    return fields


def _parse_json(chunk: bytes, fields: dict[str, type], wanted: Wanted) -> dict[str, pa.Array] | None:
    """The columns by Arrow's parser; None when anything is wrong or unusual."""
    # Arrow 26 and before crash on a leading null (apache/arrow#47409).
    if not re.match(rb"\s*\{", chunk) or not {*fields.values()} <= TYPES.keys():
        return None
    types = (
        {} if wanted.carried is None else dict(zip(wanted.carried.names, wanted.carried.types, strict=True))
    )
    types |= {name: TYPES[kind] for name, kind in fields.items()}
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
        found = f"the {what} of data row {row} is {NAMES[type(value)]}"
        if what == "text":
            raise wanted.error(f"{found}, not a string")
        raise wanted.error(f"{found}, where data row 1 has {NAMES[kind]}; labels must all be of one type")
    if isinstance(value, list):
        return [_json_value(label, what, wanted, row) for label in value]
    return _json_value(value, what, wanted, row)


def _json_carried(value: Any, field: pa.Field, wanted: Wanted, row: int) -> Any:
    """A value that is only carried along, if its column can hold it."""
    if not holds(field.type, value):
        raise wanted.error(
            f"the column {field.name!r} of data row {row} is {NAMES[type(value)]}, which does not fit "
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
    if type(value) not in TYPES and value is not None:
        raise wanted.error(
            f"the labels of data row {row} hold {NAMES[type(value)]}; "
            "labels are strings, integers or booleans"
        )
    return value


def _json_column(values: list[Any], kind: type, wanted: Wanted) -> pa.Array:
    if kind is not list:
        return pa.array(values, pa.large_binary() if kind is str else TYPES[kind])
    kinds = {type(label) for labels in values for label in labels} - {type(None)}
    if len(kinds) > 1:
        found = sorted("a string" if kind is bytes else NAMES[kind] for kind in kinds)
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
        raise wanted.error(f"data row {row} is {NAMES[type(record)]}, not a JSON object")
    return record
