"""Labelled rows of many files: held in memory, or dealt to temporary files if they are too many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.features import buffers
from logitext.spill import Spill
from logitext.tables import Batch, joined

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.workshop import Progress

__all__ = ["Stream", "gather", "total_bytes"]

IN_MEMORY = 128 << 20
"""Bytes of text up to which all of it is held and trained on at once."""
PART_BYTES = 16 << 20
"""About how much text a part is to have."""
MOST_PARTS = 256
"""As many files are open."""


@dataclass
class Stream:
    """The rows of all files: in memory as they came, or dealt to files."""

    texts: list[pa.LargeStringArray]
    labels: list[pa.Array]
    spill: Spill | None = None
    names: tuple[Any, ...] = ()
    """Labels by the codes of the spill."""
    counts: tuple[int, ...] = ()
    """Rows of each."""
    bytes: int = 0
    fingerprint: str = ""

    def table(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Texts and labels, where they are in memory."""
        return pa.chunked_array(self.texts), joined(self.labels)


class _Coder:
    """Labels → codes, as they come."""

    def __init__(self) -> None:
        self.index: dict[Any, int] = {}
        self.counts: list[int] = []

    def codes(self, labels: pa.Array) -> NDArray[np.uint32]:
        encoded = labels.dictionary_encode()
        found = [self.index.setdefault(name, len(self.index)) for name in encoded.dictionary.to_pylist()]
        self.counts += [0] * (len(self.index) - len(self.counts))
        codes: NDArray[np.uint32] = np.array(found, np.uint32)[encoded.indices.to_numpy(zero_copy_only=False)]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            self.counts[code] += int(count)
        return codes


def gather(batches: Iterator[Batch], size: int, progress: Progress, *, held: bool = False) -> Stream:
    """Read labelled rows; over `IN_MEMORY` bytes of text they go to temporary files.

    Parameters
    ----------
    batches : iterator of Batch
    size : int
        Bytes of the files, 0 for unknown: more make more parts.
    progress : callable
    held : bool, default False
        Hold all in memory, however much: several labels a text are not streamed.

    Returns
    -------
    Stream
        Whose spill, if there is one, is the caller's to close.

    Raises
    ------
    ValueError
        If labels are not of one type; and as the batches do.
    """
    stream, coder = Stream([], []), _Coder()
    kinds: set[str] = set()
    digest = hashlib.sha256()
    try:
        for batch in batches:
            labels = batch.labels
            assert labels is not None
            kinds.add(str(labels.type))
            if len(kinds) > 1 and not held:
                raise ValueError(
                    f"labels must be of one type in all inputs, got {' and '.join(sorted(kinds))}"
                )
            offsets, _ = buffers(batch.texts)
            stream.bytes += int(offsets[-1] - offsets[0])
            progress("reading", min(1.0, stream.bytes / size) if size else 0.0)
            stream.texts.append(batch.texts)
            stream.labels.append(labels)
            if stream.spill is None and stream.bytes > IN_MEMORY and not held:
                stream.spill = Spill(int(np.clip(-(-3 * size // PART_BYTES), 16, MOST_PARTS)) if size else 64)
            if stream.spill is not None:
                for texts, labels in zip(stream.texts, stream.labels, strict=True):
                    codes = coder.codes(labels)
                    digest.update(_core.fingerprints(buffers(texts)).astype("<u8").tobytes())
                    digest.update(codes.astype("<u4").tobytes())
                    stream.spill.add(texts, codes)
                stream.texts, stream.labels = [], []
        if stream.spill is not None:
            stream.spill.end()
    except BaseException:
        if stream.spill is not None:
            stream.spill.close()
        raise
    stream.names, stream.counts = tuple(coder.index), tuple(coder.counts)
    stream.fingerprint = digest.hexdigest()[:32]
    return stream


def total_bytes(files: list[str]) -> int:
    """Return the size of files together, 0 where one is no file."""
    return sum(map(os.path.getsize, files)) if all(map(os.path.isfile, files)) else 0
