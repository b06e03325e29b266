"""Which files a corpus has, what state they are in, and how a large one is cut into spans."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from logitext.addresses import is_address, state_of
from logitext.columns import Wanted
from logitext.formats import open_parquet
from logitext.streams import is_standard_stream
from logitext.tables import format_of

__all__ = ["SPAN_BYTES", "BadFile", "Span", "spans_of", "states_of"]

SPAN_BYTES = 128 << 20
"""About how much of a Parquet file is worked on, and lost, at once: its columns as they are in memory."""
EDGE = 64 << 10
"""Bytes of the beginning and the end of a file that are read to tell its state."""
AT_ONCE = 16
"""Files asked for their state at the same time: a server takes its time for each."""


class BadFile(ValueError):
    """An input that cannot be read, or not to its end."""


@dataclass(frozen=True)
class Span:
    """Rows of one input that are worked on one after the other."""

    input: int
    path: str
    groups: tuple[int, int] | None = None
    """Of a Parquet file that is cut: from this row group to before that one."""
    begin: int = 0
    """Its first row in the file."""
    bytes: int = 0
    """Of the file, for progress."""


def states_of(paths: list[str]) -> list[dict[str, Any]]:
    """Return what tells the state of each file from any other: size, time and edges.

    A file that is missing or forbidden has the state ``{"error": sentence}``.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_state, paths))


def _state(path: str) -> dict[str, Any]:
    if is_standard_stream(path):
        raise ValueError("standard input has no place in a corpus: nobody could go on with it; give files")
    try:
        if is_address(path):
            return state_of(path)
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            edges = hashlib.sha256(file.read(EDGE))
            file.seek(max(0, status.st_size - EDGE))
            edges.update(file.read(EDGE))
        return {"bytes": status.st_size, "version": f"{status.st_mtime_ns} {edges.hexdigest()[:16]}"}
    except OSError as error:
        return {"error": f"{path}: {error.strerror or error}"}


def spans_of(number: int, path: str, state: dict[str, Any], format: str | None) -> Iterator[Span]:
    """Cut a file into spans: a large Parquet file between its row groups, any other not at all.

    Raises
    ------
    BadFile
        If it is a Parquet file that cannot be read.
    """
    size = state.get("bytes") or 0
    if size <= SPAN_BYTES or format_of(path, format) != "parquet":
        yield Span(number, path, bytes=size)
        return
    try:
        with open_parquet(path, Wanted(path, None, None, False)) as file:
            sizes = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            groups = [(group.num_rows, group.total_byte_size) for group in sizes]
    except (ValueError, OSError) as error:
        raise BadFile(str(error)) from error
    first = row = rows = held = 0
    for group, (group_rows, group_bytes) in enumerate(groups):
        if held and held + group_bytes > SPAN_BYTES:
            yield Span(number, path, (first, group), row, size * (group - first) // len(groups))
            first, row, rows, held = group, row + rows, 0, 0
        rows, held = rows + group_rows, held + group_bytes
    yield Span(number, path, (first, len(groups)), row, size * (len(groups) - first) // len(groups))


def total_bytes(states: Iterable[dict[str, Any]]) -> int:
    """Return how large files are together, as far as that is known."""
    return sum(state.get("bytes") or 0 for state in states)
