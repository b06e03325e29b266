"""Weights and bias while they are being trained: in the form that suits the number of classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from logitext import _core
from logitext.features import Block
from logitext.weights import Kept, id_type

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.weights import F32, U32

FULL_PART = 8
"""Seen with an eighth of all classes, an n-gram has a weight for each: those rows speak against classes."""


def full_from(classes: int) -> int:
    """Return from how many classes on a kept row is full."""
    return max(2, -(-classes // FULL_PART))


Told = tuple[int, float, bool, tuple[float, float, float, float, float, int]]
"""Rows done, factor on the weights, whether all is finite, signs: see ``rust/train.rs``."""


class Targets(Protocol):
    """What is learned of each row: `logitext.workshop.Examples`."""

    @property
    def codes(self) -> U32:
        """Its class."""

    @property
    def row_weights(self) -> F32 | None:
        """Its weight."""

    @property
    def shares(self) -> F32 | None:
        """A share of each class, instead."""

    @property
    def numbers(self) -> tuple[NDArray[np.int64], U32] | None:
        """Several labels, instead."""


class DenseLayer:
    """A weight for every n-gram and class; training changes the arrays it is given."""

    def __init__(self, lists: list[_core.Lists], weights: F32, bias: F32) -> None:
        self.lists = lists
        self.weights = weights
        self.bias = bias

    def train(self, targets: Targets, order: U32, **schedule: Any) -> Told:
        """Go on training until the rows of `order` or the budget are spent."""
        state: dict[str, Any] = {"weights": self.weights, "bias": self.bias}
        return _core.train(
            self.lists, targets.codes, targets.row_weights, targets.shares, order,
            sets=targets.numbers, **schedule, **state,
        )  # fmt: skip

    def multiply(self, factor: float) -> None:
        """Multiply all weights."""
        self.weights *= np.float32(factor)


@dataclass(frozen=True)
class Support:
    """Which weights n-grams have, by the texts they are seen in: see ``rust/support.rs``."""

    core: _core.Support
    classes: int

    @classmethod
    def of(cls, blocks: list[Block], rows: U32, codes: U32, classes: int, threads: int) -> Support:
        """Find the support of blocks of n-grams in some of the counted texts."""
        by_class = rows[np.argsort(codes[rows], kind="stable")]
        lists = [block.lists for block in blocks]
        found = _core.support(lists, by_class, codes[by_class], classes, full_from(classes), threads)
        return cls(found, classes)

    def fresh(self) -> Kept:
        """Return weights of zero."""
        places, ids = self.core[:2]
        values = np.zeros(int(places[-1, 0]), np.float32)
        return Kept(places, ids.astype(id_type(self.classes)), values, self.classes)


class KeptLayer:
    """Weights for the classes an n-gram was seen with, as training wants them to stand."""

    def __init__(self, support: Support, weights: Kept, bias: F32) -> None:
        self.support = support
        self.bias = bias
        self._form = weights
        is_full = weights.is_full
        self._in_full = np.repeat(is_full, weights.lengths)
        self.kept = weights.values[~self._in_full]
        # Full rows stand in tiles of classes, tile by tile: (tiles, rows, classes of a tile).
        tiles = -(-weights.classes // _core.TILE)
        padded = np.zeros((int(is_full.sum()), tiles * _core.TILE), np.float32)
        padded[:, : weights.classes] = weights.values[self._in_full].reshape(-1, weights.classes)
        tiled = padded.reshape(-1, tiles, _core.TILE).transpose(1, 0, 2)
        self.full = np.ascontiguousarray(tiled)

    def train(self, targets: Targets, order: U32, **schedule: Any) -> Told:
        """Go on training until the rows of `order` or the budget are spent."""
        assert targets.shares is None, "shares of classes never seen would find no weights"
        state: dict[str, Any] = {"full": self.full, "kept": self.kept, "bias": self.bias}
        support, weights = self.support.core, targets.row_weights
        return _core.train_wide(support, targets.codes, weights, order, **schedule, **state)

    def multiply(self, factor: float) -> None:
        """Multiply all weights."""
        self.full *= np.float32(factor)
        self.kept *= np.float32(factor)

    @property
    def weights(self) -> Kept:
        """The weights, as they stand in a model: a copy."""
        values = np.empty(len(self._in_full), np.float32)
        tiles, rows, width = self.full.shape
        matrix = self.full.transpose(1, 0, 2).reshape(rows, tiles * width)[:, : self._form.classes]
        values[self._in_full], values[~self._in_full] = matrix.reshape(-1), self.kept
        return replace(self._form, values=values)


Layer = DenseLayer | KeptLayer
