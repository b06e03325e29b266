"""Words between the supervisor and a worker: JSON, a line each, over a pair of sockets.

To a worker: ``{"load": name, "path": …}`` (read this file and hold it), ``{"swap": name}`` (answer by
it from now on), ``{"told": id, …}`` (what became of a wish). From a worker: ``{"done": …}`` to either,
``{"reload": name, "id": …}``, a wish.
"""

from __future__ import annotations

import json
import socket
from typing import Any

Words = dict[str, Any]


def line(words: Words) -> bytes:
    """Return words as they are sent."""
    return json.dumps(words).encode() + b"\n"


class Channel:
    """The supervisor's end, which waits for no one."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._held = b""

    def say(self, words: Words) -> bool:
        """Send words; return whether the other end is there."""
        try:
            self.end.sendall(line(words))
        except OSError:
            return False
        return True

    def hear(self) -> list[Words] | None:
        """Return what has come, waiting for the first bytes; None if the other end is gone."""
        try:
            got = self.end.recv(1 << 16)
        except OSError:
            return None
        if not got:
            return None
        *lines, self._held = (self._held + got).split(b"\n")
        return [json.loads(each) for each in lines]
