"""Lines: plain, and fastText's with their labels."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from logitext.columns import Batch, Wanted, first_true
from logitext.formats.picking import SEVERAL, place_of
from logitext.labels import kept_pieces
from logitext.streams import Pieces, chunks, complete_lines

FASTTEXT_PREFIX = "__label__"


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
        wanted.empty("empty")


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
                raise wanted.error(f"data row {row + second + 1} has more than one label: {SEVERAL}")
            yield wanted.batch(texts, labels, row)
        else:
            texts = pc.replace_substring_regex(lines, rf"^(?:[ \t]*{FASTTEXT_PREFIX}[^ \t]*[ \t]?)+", "")
            yield wanted.batch(texts, None, row, _carried_lines(texts, wanted))
        row += len(lines)
    if not row:
        wanted.empty("empty")


LINES = pa.schema([("text", pa.large_string())])
"""What lines have for columns."""


def _carried_lines(lines: pa.Array, wanted: Wanted) -> list[pa.Array]:
    if wanted.carried is None:
        return []
    for name in wanted.carried.names:
        place_of(name, LINES.names, wanted)
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
