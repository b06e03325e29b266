"""What goes back: a reply, or a problem said in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
Headers = list[tuple[bytes, bytes]]


@dataclass
class Reply:
    """A status, a body, headers."""

    body: bytes
    status: int = 200
    kind: bytes = JSON
    headers: Headers = field(default_factory=list)
    texts: int = 0
    """How many were answered: for the log."""


@dataclass
class Stream:
    """A reply whose body is made while it is sent."""

    parts: AsyncIterator[bytes]
    kind: bytes = NDJSON
    headers: Headers = field(default_factory=list)
    texts: int = 0
    status: int = 200


class Problem(Exception):
    """Why there is no answer, for the one who asked.

    Parameters
    ----------
    status : int
        Of HTTP.
    sentence : str
    headers : list of (bytes, bytes), optional
    """

    def __init__(self, status: int, sentence: str, headers: Headers | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or []

    def reply(self) -> Reply:
        """Return it as JSON: ``{"error": sentence}``."""
        return Reply(encoded({"error": self.sentence}), self.status, headers=self.headers)


class Overloaded(Problem):
    """There is too much work just now: the same request may succeed in a moment."""

    def __init__(self, sentence: str) -> None:
        super().__init__(503, sentence, [(b"retry-after", b"1")])


def encoded(value: Any) -> bytes:
    """Return JSON; NumPy's numbers are written with the digits of their own precision."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def of_json(value: Any, status: int = 200) -> Reply:
    """Return a reply that holds a value as JSON."""
    return Reply(encoded(value), status)
