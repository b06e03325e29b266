"""Bytes in: a file or standard input, decompressed and cut where records end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from logitext.addresses import is_address, open_address

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}

# Arrow parses at most 2 GB at once, and a record is never parsed in parts.
LONGEST_RECORD = (1 << 31) - (1 << 16)

# What a text table starts with when it is none, longest first.
_FOREIGN = (
    (b"\xff\xfe\x00\x00", "is UTF-32; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip, which its name does not say (.gz); decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd, which its name does not say (.zst); decompress it first"),
    (b"PK\x03\x04", "is a ZIP archive or a spreadsheet; save it as CSV"),
    (b"PAR1\x15", "is a Parquet file, which its name does not say (.parquet)"),
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Pieces = Iterator[bytes]
Complete = Callable[[bytes], tuple[int, int]]


def is_standard_stream(path: str | Path) -> bool:
    """Tell whether a path stands for standard input or output.

    Parameters
    ----------
    path : str or Path
        What the user gave.

    Returns
    -------
    bool
        True for ``-``.

    Examples
    --------
    >>> is_standard_stream("-"), is_standard_stream("train.csv")
    (True, False)
    """
    return str(path) == "-"


@dataclass
class Position:
    """How far a file has been read, for whoever shows progress."""

    bytes: int = 0
    size: int = 0
    """Of the whole file, 0 where it is not known."""


def open_binary(path: str | Path) -> Any:
    """Open a file, or what stands at an address, for reading."""
    return open_address(str(path)) if is_address(path) else open(path, "rb", buffering=0)


@contextmanager
def open_pieces(
    path: str | Path,
    compression: str | None,
    piece_bytes: int,
    source: str,
    position: Position | None = None,
) -> Iterator[Pieces]:
    """Open a file or standard input as an iterator of decompressed pieces.

    A piece holds what is there, at most `piece_bytes`: a pipe that gives little
    is not waited for.

    Parameters
    ----------
    path : str or Path
        The file, an address, or ``-`` for standard input.
    compression : {'gzip', 'zstd'} or None
        How the bytes are compressed.
    piece_bytes : int
        The most bytes in one piece.
    source : str
        What messages call the input.
    position : Position, optional
        Told how much of the file has been read.

    Yields
    ------
    Iterator of bytes
        Pieces, none of them empty.

    Raises
    ------
    OSError
        When the file cannot be opened or read.
    ValueError
        While iterating, when the compressed stream is damaged or cut short.

    Examples
    --------
    >>> with open_pieces("train.csv", None, 1 << 20, "train.csv") as pieces:  # doctest: +SKIP
    ...     size = sum(len(piece) for piece in pieces)
    """
    with ExitStack() as stack:
        read: Callable[[int], bytes]
        if is_standard_stream(path):
            # One system call at most, where `read` would wait for all of it.
            read = cast(io.BufferedReader, sys.stdin.buffer).read1
        else:
            file = stack.enter_context(open_binary(path))
            read = file.read
            if compression is not None:
                python_file = pa.PythonFile(file, mode="r")
                read = stack.enter_context(pa.CompressedInputStream(python_file, compression)).read
        where = None if position is None or is_standard_stream(path) else file.tell
        yield _pieces(read, compression, piece_bytes, source, position, where)


def _pieces(
    read: Callable[[int], bytes],
    compression: str | None,
    piece_bytes: int,
    source: str,
    position: Position | None,
    where: Callable[[], int] | None,
) -> Pieces:
    while True:
        try:
            piece = read(piece_bytes)
        except OSError as error:
            # The system's own errors have a number; Arrow's do not.
            if compression is None or error.errno is not None:
                error.filename = error.filename or source
                raise
            if "runcated" in str(error):
                raise ValueError(f"{source}: cut short, its {compression} stream has no end.") from error
            reason = " ".join(str(error).split())
            raise ValueError(f"{source}: not a valid {compression} file ({reason}).") from error
        if not piece:
            return
        if position is not None and where is not None:
            position.bytes = where()
        yield piece


def text_pieces(pieces: Pieces, source: str) -> Pieces:
    """Drop a UTF-8 byte order mark and refuse what is no UTF-8 text at all.

    Parameters
    ----------
    pieces : Iterator of bytes
        The input.
    source : str
        What messages call the input.

    Yields
    ------
    bytes
        The same input without the mark.

    Raises
    ------
    ValueError
        When the input starts like UTF-16, an archive or a Parquet file.

    Examples
    --------
    >>> list(text_pieces(iter([b"\\xef\\xbb", b"\\xbfa"]), "x"))
    [b'a']
    """
    starts = (_BYTE_ORDER_MARK, *(start for start, _ in _FOREIGN))
    head = b""
    # Only as long as the start is undecided: two bytes may be all that comes for now.
    while any(len(head) < len(start) and start.startswith(head) for start in starts):
        piece = next(pieces, b"")
        if not piece:
            break
        head += piece
    for start, what in _FOREIGN:
        if head.startswith(start):
            raise ValueError(f"{source}: {what}.")
    head = head.removeprefix(_BYTE_ORDER_MARK)
    if head:
        yield head
    yield from pieces


def with_first_line(pieces: Pieces) -> tuple[bytes, Pieces]:
    """Read ahead to the first line that is not blank.

    Parameters
    ----------
    pieces : Iterator of bytes
        The input.

    Returns
    -------
    line : bytes
        The line without blanks around it; empty when there is none.
    pieces : Iterator of bytes
        The whole input again.

    Examples
    --------
    >>> line, pieces = with_first_line(iter([b"\\n a", b"b\\nc"]))
    >>> line, b"".join(pieces)
    (b'ab', b'\\n ab\\nc')
    """
    seen: list[bytes] = []
    line: list[bytes] = []
    for piece in pieces:
        seen.append(piece)
        start = piece if line else piece.lstrip()
        if start:
            first, end, _ = start.partition(b"\n")
            line.append(first)
            if end:
                break
    return b"".join(line).strip(), _chained(seen, pieces)


def _chained(seen: list[bytes], pieces: Pieces) -> Pieces:
    while seen:
        yield seen.pop(0)
    yield from pieces


def complete_lines(data: bytes) -> tuple[int, int]:
    """Find the end of the last complete line.

    Parameters
    ----------
    data : bytes
        Lines that end at LF, the last perhaps unfinished.

    Returns
    -------
    tuple of int
        The offset past the last LF, and 0: lines are not counted here.

    Examples
    --------
    >>> complete_lines(b"a\\nb")
    (2, 0)
    """
    return data.rfind(b"\n") + 1, 0


def chunks(pieces: Pieces, complete: Complete, source: str) -> Iterator[bytes]:
    """Cut pieces anew, so that each holds whole records and ends with a line end.

    Parameters
    ----------
    pieces : Iterator of bytes
        The input.
    complete : callable
        Gives the offset past the last complete record and the number of records.
    source : str
        What messages call the input.

    Yields
    ------
    bytes
        Complete records; the last one gets a line end if it has none.

    Raises
    ------
    ValueError
        When the input ends inside a quoted field or a record is too long.

    Examples
    --------
    >>> list(chunks(iter([b"a\\nb", b"\\nc"]), complete_lines, "x"))
    [b'a\\n', b'b\\n', b'c\\n']
    """
    held: list[bytes] = []
    size = tried = records = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > LONGEST_RECORD:
            row = f"data row {records}" if records else "the header or first row"
            raise ValueError(f"{source}: {row} is longer than 2 GB; is a quote never closed?")
        # Looking again after every piece would be quadratic in a long record.
        if size < 2 * tried and not piece.endswith((b"\n", b"\r")):
            continue
        data = b"".join(held)
        end, count = complete(data)
        records += count
        if end:
            yield data[:end]
        rest = data[end:]
        held, size, tried = [rest], len(rest), len(rest)
    if size:
        data = b"".join(held) + b"\n"
        end, count = complete(data)
        if end < len(data):
            where = f"data row {records + count}" if records + count else "the header"
            raise ValueError(f"{source}: {where} opens a quote that is never closed.")
        yield data
