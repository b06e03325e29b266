"""One line of JSON a request, written some times a second; without any text unless that is wanted."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import orjson

HELD = 1 << 16
"""Bytes that are written at once, if not before."""


class AccessLog:
    """Collects lines and writes them together.

    Parameters
    ----------
    out : text stream, optional
        By default standard output.
    texts : bool
        Whether the texts asked about are kept in the lines, up to 1,000 characters of each.
    """

    def __init__(self, out: TextIO | None = None, *, texts: bool = False) -> None:
        self.out = out or sys.stdout
        self.texts = texts
        self._lines: list[bytes] = []
        self._size = 0
        self._now = ""
        self._second = -1

    def line(self, **said: Any) -> None:
        """Take down a request."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._now = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        at = f"{self._now}.{int(now * 1000) % 1000:03d}Z"
        line = orjson.dumps({"time": at, **said})
        self._lines.append(line)
        self._size += len(line)
        if self._size > HELD:
            self.flush()

    def flush(self) -> None:
        """Write what was taken down; whoever reads it may be gone."""
        if not self._lines:
            return
        held, self._lines, self._size = b"\n".join(self._lines).decode() + "\n", [], 0
        try:
            self.out.write(held)
            self.out.flush()
        except (OSError, ValueError):
            pass
