"""Between the classifier's arrays and a server's JSON: texts cut into requests, answers made arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.explanation import Explanation
from logitext.labels import as_class_array

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Answers", "Known", "cut", "explanation", "float32", "rows_of"]

Answers = list[dict[str, Any]]
AT_ONCE = 1000
"""Texts that are made Python strings together."""


@dataclass(frozen=True)
class Known:
    """What is known of the model that is asked."""

    name: str
    fingerprint: str
    classes: list[Any]
    """Typed."""
    several: bool
    """Whether a text may have several labels."""
    texts: int
    size: int
    """Most texts and bytes of a request."""

    @property
    def array(self) -> NDArray[Any]:
        """The classes as the classifier has them."""
        return as_class_array(self.classes)

    @property
    def codes(self) -> dict[Any, int]:
        """The number of each class."""
        return {label: code for code, label in enumerate(self.classes)}


def cut(column: pa.LargeStringArray, rows: int, size: int) -> Iterator[list[bytes]]:
    """Texts as JSON, in parts of so many and, a text by itself apart, so many bytes."""
    held: list[bytes] = []
    much = 0
    for begin in range(0, len(column), AT_ONCE):
        for text in column.slice(begin, AT_ONCE).to_pylist():
            spelled = json.dumps(text, ensure_ascii=False).encode()
            if held and (len(held) == rows or much + len(spelled) + len(held) > size):
                yield held
                held, much = [], 0
            held.append(spelled)
            much += len(spelled)
    if held:
        yield held


def rows_of(name: str) -> Callable[[Known, Answers], NDArray[np.float32]]:
    """Make an array of an object with a number for each class, in the order of the classes."""

    def made(known: Known, answers: Answers) -> NDArray[np.float32]:
        rows = [list(answer[name].values()) for answer in answers]
        return float32(rows).reshape(len(rows), len(known.classes))

    return made


def float32(numbers: list[Any]) -> NDArray[np.float32]:
    """The float32 whose shortest digits were read, as float64, from JSON."""
    wide = np.array(numbers, np.float64)
    found = wide.astype(np.float32)
    # Rounded twice, one float32 of all comes back as its neighbour. (Each of them was tried.)
    odd = np.abs(wide) == 7.038531e-26
    if odd.any():
        found[odd] = np.copysign(np.uint32(0x15AE43FD).view(np.float32), wide[odd])
    return found


def explanation(known: Known, answer: dict[str, Any]) -> Explanation:
    """Make the account of a text's logits that the server has written."""
    said = answer["explanation"]

    def row(name: str) -> NDArray[np.float32]:
        return float32(list(said[name].values()))

    each = said["ngrams"]
    shares = float32([list(ngram["contributions"].values()) for ngram in each])
    return Explanation(
        classes=known.classes,
        logits=row("logits"),
        bias=row("bias"),
        ngrams=[ngram["ngram"] for ngram in each],
        blocks=[ngram["block"] for ngram in each],
        contributions=shares.reshape(len(each), len(known.classes)),
        unknown=said["unknown"],
        thresholds=row("thresholds") if known.several else None,
    )
