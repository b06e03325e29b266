"""Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from logitext.addresses import is_address
from logitext.columns import Batch, Wanted, decoded
from logitext.formats.picking import SEVERAL, dealt, picked_columns
from logitext.labels import is_list
from logitext.streams import Position, open_binary

_PARQUET_ROWS, _ROWS_TRIED = 1 << 14, 256
"""The most rows of a batch; those that tell how large a row is."""


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
        picked = picked_columns(schema.names, wanted)
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
        for field, index in zip(wanted.carried or (), picked[1 + wanted.labelled :], strict=True):
            _check_carried(field, schema.field(index).type, wanted)
        metadata, names = file.metadata, [schema.names[index] for index in picked]
        begin, end = groups or (0, metadata.num_row_groups)
        first = row = sum(metadata.row_group(group).num_rows for group in range(begin))
        rows_there = sum(metadata.row_group(group).num_rows for group in range(begin, end))
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
                yield wanted.batch(*dealt(columns, wanted, row))
                row += rows.num_rows
                if position is not None:
                    position.bytes = position.size * (row - first) // max(1, rows_there)
    if not metadata.num_rows:
        wanted.empty("no data rows in it")


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
        may += f", and {SEVERAL}"
    raise wanted.error(f"the {what} column {field.name!r} holds {field.type}, but {may}")
