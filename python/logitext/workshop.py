"""Texts with their features, counted once and trained on many times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.features import Block, arrow_numbers, count_block
from logitext.teaching import Lesson

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    U32 = NDArray[np.uint32]
    F32 = NDArray[np.float32]


Progress = Callable[[str, float], None]
"""Told what is being done and which share of it is."""

SLICE_SECONDS = 0.15
"""Longest native call: between two of them Ctrl-C is heard and progress is shown."""
WEIGHT_BYTES = 96 << 20
"""Budget of the weights: with more classes fewer n-grams are kept, the rarest go first."""


def batch_size(rows: int) -> int:
    """Rows a batch: few of few rows, lest equal steps add up; many of many, for fewer waits."""
    return min(32, max(1, rows // 16)) if rows < 10_000 else 64


Range = tuple[int, int]
"""Shortest and longest n-gram."""
CHAR_NGRAMS: tuple[Range | None, ...] = ((3, 5), (2, 4), None)
"""Runs of characters to choose from: long ones where words stand between spaces, short ones where two
characters may be a word, or where spelling is all there is."""


@dataclass(frozen=True)
class Settings:
    """What the caller fixed; None is for training to choose."""

    tokens: str = "unicode"
    word_ngrams: Range | None = (1, 2)
    char_ngrams: tuple[Range | None, ...] = CHAR_NGRAMS
    """Those to choose from."""
    learning_rate: float | None = None
    epochs: int | None = None
    l2: float = 0.0
    label_smoothing: float | None = None
    calibrate: bool = True
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """One way to train. Without runs of characters the words are all there is."""

    char_ngrams: Range | None
    learning_rate: float
    epochs: int
    label_smoothing: float = 0.0


@dataclass
class Trained:
    """Weights of some blocks of features, and how training went."""

    blocks: list[Block]
    weights: F32  # (n_features, n_classes)
    bias: F32  # (n_classes,)
    losses: list[float] = field(default_factory=list)  # per epoch, before each row's step


class DivergedError(ValueError):
    """Training produced numbers that are not finite."""


@dataclass(frozen=True)
class Examples:
    """Texts with the class and the weight of each."""

    texts: pa.LargeStringArray
    codes: U32
    classes: int
    row_weights: F32 | None
    lesson: Lesson | None = None
    """What another model says of them, to be learned instead of the classes."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: U32) -> Examples:
        weights = None if self.row_weights is None else self.row_weights[rows]
        lesson = None if self.lesson is None else self.lesson.take(rows)
        return Examples(self.texts.take(arrow_numbers(rows)), self.codes[rows], self.classes, weights, lesson)

    @property
    def shares(self) -> F32 | None:
        """(n, classes): soft targets."""
        return None if self.lesson is None else self.lesson.shares


class Workshop:
    """Some texts with their features, counted once and trained on many times."""

    def __init__(self, examples: Examples, settings: Settings, progress: Progress) -> None:
        self.examples = examples
        self.settings = settings
        self.progress = progress
        self.batch = batch_size(len(examples))
        self._counted: dict[tuple[str, Range], Block] = {}

    def blocks(self, chars: Range | None) -> list[Block]:
        """Return the feature blocks, counting those that were not wanted before."""
        settings = self.settings
        wanted = [("words", settings.word_ngrams), ("chars", chars)]
        # Shared by the blocks there may be, so that a table does not depend on what was tried before.
        blocks = bool(settings.word_ngrams) + any(settings.char_ngrams)
        most = WEIGHT_BYTES // (4 * self.examples.classes * blocks)
        for name, ngrams in wanted:
            if ngrams and (name, ngrams) not in self._counted:
                self.progress(f"counting {name}", 0.0)
                self._counted[name, ngrams] = count_block(
                    self.examples.texts, settings.tokens, name, ngrams, most=most, threads=settings.threads
                )
        return [self._counted[name, ngrams] for name, ngrams in wanted if ngrams]

    def train(self, plan: Plan, rows: U32, what: str) -> Trained:
        """Train on some rows. Raises DivergedError when numbers leave the finite."""
        blocks = self.blocks(plan.char_ngrams)
        shape = (sum(map(len, blocks)), self.examples.classes)
        trained = Trained(blocks, np.zeros(shape, np.float32), np.zeros(shape[1], np.float32))
        for epoch, loss in enumerate(self._epochs(trained, plan, rows), 1):
            trained.losses.append(loss)
            self.progress(what, epoch / plan.epochs)
        return trained

    def _epochs(self, trained: Trained, plan: Plan, rows: U32) -> Iterator[float]:
        lists = [block.lists for block in trained.blocks]
        total, seen, scale = len(rows) * plan.epochs, 0, 1.0
        weight = (
            len(rows) if self.examples.row_weights is None else float(self.examples.row_weights[rows].sum())
        )
        for epoch in range(plan.epochs):
            order = rows[_core.shuffle(len(rows), (self.settings.seed << 20) + epoch)]
            loss = 0.0
            while len(order):
                done, part, scale, finite = _core.train(
                    lists, self.examples.codes, self.examples.row_weights, self.examples.shares, order,
                    learning_rate=plan.learning_rate, l2=self.settings.l2,
                    smoothing=plan.label_smoothing, batch=self.batch,
                    seen=seen, total=total, scale=scale, weights=trained.weights, bias=trained.bias,
                    threads=self.settings.threads, budget=SLICE_SECONDS,
                )  # fmt: skip
                loss, seen, order = loss + part, seen + done, order[done:]
                if not (finite and math.isfinite(scale) and scale > 0):
                    raise DivergedError(
                        f"training diverged at learning rate {plan.learning_rate:g}: choose a smaller one"
                    )
            yield loss / weight if weight else 0.0
        if scale != 1.0:
            trained.weights *= np.float32(scale)
        if not (np.isfinite(trained.bias).all() and _finite(trained.weights)):
            raise DivergedError(
                f"training diverged at learning rate {plan.learning_rate:g}: choose a smaller one"
            )

    def logits(self, trained: Trained, rows: U32) -> F32:
        """Return logits of some rows, from their counted features."""
        lists = [block.lists for block in trained.blocks]
        return _core.sparse_logits(lists, rows, trained.weights, trained.bias, self.settings.threads)


def _finite(weights: F32) -> bool:
    # A sum in double precision is finite if and only if all addends are.
    return bool(np.isfinite(weights.sum(dtype=np.float64)))
