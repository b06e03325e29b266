"""Rows of a stream dealt to temporary files, so that each file is a random part of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from logitext import _core
from logitext.features import arrow_numbers, buffers

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["Spill"]

SCHEMA = pa.schema([("text", pa.large_string()), ("code", pa.uint32())])
WRITE_BYTES = 64 << 20
"""Text held, over all parts, before it is written: few large records are read faster than many small ones."""


class Spill:
    """Texts with codes, each text in a part that its fingerprint chooses.

    Equal texts are in one part, and the order of the input is no order any more: a part of rows
    that came sorted by label has its share of every label. The files have no names (on POSIX), so
    that a kill, too, leaves nothing.

    Parameters
    ----------
    parts : int
        Number of files, up to a few hundred: all are open while writing.

    Raises
    ------
    OSError
        If the folder for temporary files (``TMPDIR``) cannot hold them.

    Examples
    --------
    >>> with Spill(2) as spill:
    ...     spill.add(pa.array(["a", "b", "a"], pa.large_string()), np.array([0, 1, 2], np.uint32))
    ...     spill.end()
    ...     rows = [codes.tolist() for part in range(2) for _, codes in spill.read(part)]
    >>> sorted(sum(rows, [])), sum(spill.rows)
    ([0, 1, 2], 3)
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.rows = [0] * parts
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._files: list[IO[bytes]] = []
        self._writers: list[Any] = []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        try:
            for _ in range(parts):
                self._files.append(tempfile.TemporaryFile(prefix="logitext-"))  # noqa: SIM115
                self._writers.append(pa.ipc.new_stream(self._files[-1], SCHEMA, options=options))
        except BaseException:
            self.close()
            raise

    def add(self, texts: pa.LargeStringArray, codes: NDArray[np.uint32]) -> None:
        """Take some more rows."""
        columns = [texts, arrow_numbers(codes)]
        self._held.append(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._bytes += self._held[-1].nbytes
        if self._bytes >= WRITE_BYTES:
            self._write()

    def _write(self) -> None:
        try:
            self._deal()
        except OSError as error:
            error.filename = error.filename or f"temporary files in {tempfile.gettempdir()} (TMPDIR)"
            raise

    def _deal(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        texts = table["text"].combine_chunks()
        # The high bits: of the low ones others make use.
        part = (_core.fingerprints(buffers(texts)) >> np.uint64(32)) % np.uint64(self.parts)
        order = np.argsort(part, kind="stable")
        ends = np.cumsum(np.bincount(part.astype(np.intp), minlength=self.parts))
        dealt = table.take(arrow_numbers(order))
        for i, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > begin:
                self._writers[i].write_table(dealt.slice(begin, end - begin))
                self.rows[i] += int(end - begin)
        self._held, self._bytes = [], 0

    def end(self) -> None:
        """Write what is still held: there are no more rows."""
        self._write()
        for writer in self._writers:
            writer.close()

    def read(
        self, part: int, slice_bytes: int = 16 << 20
    ) -> Iterator[tuple[pa.LargeStringArray, NDArray[np.uint32]]]:
        """Read a part, after the end of writing, in slices of about so much text.

        Yields
        ------
        texts, codes
        """
        held: list[pa.RecordBatch] = []
        size = 0
        self._files[part].seek(0)
        with pa.ipc.open_stream(pa.PythonFile(self._files[part], "r")) as stream:
            for batch in stream:
                for piece in _pieces(batch, slice_bytes):
                    if held and size + piece.nbytes > slice_bytes:
                        yield _columns(held)
                        held, size = [], 0
                    held.append(piece)
                    size += piece.nbytes
        if held:
            yield _columns(held)

    def close(self) -> None:
        """Remove the files."""
        for file in self._files:
            with suppress(OSError):
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pieces(batch: pa.RecordBatch, slice_bytes: int) -> Iterator[pa.RecordBatch]:
    rows = max(1, batch.num_rows * slice_bytes // max(batch.nbytes, 1))
    for begin in range(0, batch.num_rows, rows):
        yield batch.slice(begin, rows)


def _columns(batches: list[pa.RecordBatch]) -> tuple[pa.LargeStringArray, NDArray[np.uint32]]:
    table = pa.Table.from_batches(batches).combine_chunks()
    return table["text"].combine_chunks(), table["code"].combine_chunks().to_numpy(zero_copy_only=False)
