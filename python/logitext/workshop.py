"""Texts with their features, counted once and trained on many times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.checkpoints import Checkpoint, CheckpointError
from logitext.epochs import Clock, Epoch, OutOfTimeError, Standing, Watch
from logitext.features import Block, arrow_numbers, count_block
from logitext.layers import DenseLayer, KeptLayer, Layer, Support, full_from
from logitext.teaching import Lesson
from logitext.weights import Kept, Weights, as_core, copy_of, values_of, with_values

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    U32 = NDArray[np.uint32]
    F32 = NDArray[np.float32]


Progress = Callable[[str, float], None]
"""Told what is being done and which share of it is."""

SLICE_SECONDS = 0.15
"""Longest native call: between two of them Ctrl-C is heard and progress is shown."""
KEPT_FROM = 100
"""With so many classes an n-gram has weights only for those it was seen with."""
WEIGHT_BYTES = 96 << 20
"""Budget of the weights: over it the rarest n-grams go first."""


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
    z_loss: float = 0.0
    early_stopping: int | None = None
    minutes: float | None = None
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

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "char_ngrams": self.char_ngrams and list(self.char_ngrams)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return what `to_json` made JSON of."""
        return cls(**{**value, "char_ngrams": value["char_ngrams"] and tuple(value["char_ngrams"])})


@dataclass
class Trained:
    """Weights of some blocks of features, and how training went."""

    blocks: list[Block]
    weights: Weights
    bias: F32  # (n_classes,)
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]


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

    def join(self, other: Examples) -> Examples:
        """Return these and, after them, others of weight 1. A lesson is not joined."""
        weights = self.row_weights
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(other), np.float32)])
        texts = pa.concat_arrays([self.texts, other.texts])
        return Examples(texts, np.concatenate([self.codes, other.codes]), self.classes, weights)

    @property
    def shares(self) -> F32 | None:
        """(n, classes): soft targets."""
        return None if self.lesson is None else self.lesson.shares


UNWATCHED = Watch()


class Workshop:
    """Some texts with their features, counted once and trained on many times."""

    def __init__(
        self,
        examples: Examples,
        settings: Settings,
        progress: Progress,
        *,
        learn: int | None = None,
        known: Sequence[Block] = (),
    ) -> None:
        # Of `known` blocks nothing is counted. The first `learn` rows are those to learn from, whose
        # n-grams are known; others are only held out.
        self.examples = examples
        self.settings = settings
        self.progress = progress
        self.learn = len(examples) if learn is None else learn
        self.batch = batch_size(self.learn)
        self._counted: dict[tuple[str, Range], Block] = {(b.name, b.ngrams): b for b in known}
        # What another model says of classes an n-gram was not seen with is worth learning.
        self.kept = examples.classes >= KEPT_FROM and examples.lesson is None
        self._support: tuple[Range | None, U32, Support] | None = None

    def blocks(self, chars: Range | None) -> list[Block]:
        """Return the feature blocks, counting those that were not wanted before."""
        settings = self.settings
        wanted = [("words", settings.word_ngrams), ("chars", chars)]
        # Shared by the blocks there may be, so that a table does not depend on what was tried before.
        blocks = bool(settings.word_ngrams) + any(settings.char_ngrams)
        classes = self.examples.classes
        room = (WEIGHT_BYTES // (4 * blocks), classes, full_from(classes) if self.kept else 0)
        for name, ngrams in wanted:
            if ngrams and (name, ngrams) not in self._counted:
                self.progress(f"counting {name}", 0.0)
                how: dict[str, Any] = {"room": room, "threads": settings.threads, "learn": self.learn}
                self._counted[name, ngrams] = count_block(
                    self.examples.texts, settings.tokens, name, ngrams, **how
                )
        return [self._counted[name, ngrams] for name, ngrams in wanted if ngrams]

    def train(
        self, plan: Plan, rows: U32, what: str, watch: Watch = UNWATCHED, start: Trained | None = None
    ) -> Trained:
        """Train on some rows, from weights of zero or from those of `start`, which are changed.

        Raises
        ------
        DivergedError
            When numbers leave the finite.
        OutOfTimeError
            When the time is over before all rows were seen once.
        """
        trained = start or self._fresh(plan.char_ngrams, rows)
        standing, best = Standing(), None
        if watch.checkpoint is not None:
            standing, trained, best = _resumed(watch.checkpoint, plan, trained)
        layer = self._layer(trained, plan.char_ngrams, rows)
        clock = Clock(watch.until, len(rows) * plan.epochs)
        while len(standing.epochs) < plan.epochs and not clock.over and not standing.over:
            for _ in self._slices(layer, standing, plan, rows, what, clock):
                if watch.checkpoint is not None and watch.checkpoint.due:
                    trained.weights = layer.weights
                    _keep(watch.checkpoint, plan, trained, standing, best)
            if not standing.epochs and standing.sums.rows < len(rows):
                seen = f"{standing.sums.rows / len(rows):.0%} of the rows were seen"
                raise OutOfTimeError(f"the time budget is too short for one epoch: {seen}")
            if not standing.sums.rows:
                break
            if standing.scale != 1.0:
                layer.multiply(standing.scale)
                standing.scale = 1.0
            trained.weights = layer.weights
            self._check(trained, plan)
            found = None
            if watch.rows is not None and watch.loss is not None:
                found = watch.loss(self.logits(trained, watch.rows))
            standing.end(self.examples.classes, found)
            if watch.patience is not None:
                if standing.best == len(standing.epochs):
                    best = replace(trained, weights=copy_of(trained.weights), bias=trained.bias.copy())
                standing.over = len(standing.epochs) >= standing.best + watch.patience
            if watch.callback is not None and watch.callback(standing.epochs[-1]) is True:
                standing.over = True
        if watch.checkpoint is not None:
            trained.weights = layer.weights
            _keep(watch.checkpoint, plan, trained, standing, best)
        return replace(best or trained, epochs=standing.epochs)

    def _fresh(self, chars: Range | None, rows: U32) -> Trained:
        blocks, classes = self.blocks(chars), self.examples.classes
        weights: Weights
        if self.kept:
            weights = self._supported(chars, rows).fresh()
        else:
            weights = np.zeros((sum(map(len, blocks)), classes), np.float32)
        return Trained(blocks, weights, np.zeros(classes, np.float32))

    def _supported(self, chars: Range | None, rows: U32) -> Support:
        """The support in the rows trained on, and no others; the last is remembered."""
        last = self._support
        if last is None or last[0] != chars or not np.array_equal(last[1], rows):
            self._support = None  # before there are two
            blocks, examples = self.blocks(chars), self.examples
            found = Support.of(blocks, rows, examples.codes, examples.classes, self.settings.threads)
            last = self._support = (chars, rows, found)
        return last[2]

    def _layer(self, trained: Trained, chars: Range | None, rows: U32) -> Layer:
        if isinstance(trained.weights, Kept):
            return KeptLayer(self._supported(chars, rows), trained.weights, trained.bias)
        return DenseLayer(trained.blocks, trained.weights, trained.bias)

    def _slices(
        self, layer: Layer, standing: Standing, plan: Plan, rows: U32, what: str, clock: Clock
    ) -> Iterator[None]:
        """Go through the rows once, or through what is left of them and of the time, slice by slice."""
        examples, settings = self.examples, self.settings
        epoch = len(standing.epochs)
        order = rows[_core.shuffle(len(rows), (settings.seed << 20) + epoch)]
        while standing.sums.rows < len(rows):
            seen = epoch * len(rows) + standing.sums.rows
            total = clock.rows(seen)
            rest = order[standing.sums.rows :][: total - seen]
            if not len(rest):
                break
            part = layer.train(
                examples.codes, examples.row_weights, examples.shares, rest,
                learning_rate=plan.learning_rate, l2=settings.l2,
                smoothing=plan.label_smoothing, z_loss=settings.z_loss, batch=self.batch,
                seen=seen, total=total, scale=standing.scale,
                threads=settings.threads, budget=SLICE_SECONDS,
            )  # fmt: skip
            done, loss, scale, finite, signs = part
            weights = examples.row_weights
            weight = done if weights is None else float(weights[rest[:done]].sum(dtype=np.float64))
            standing.sums.add(done, weight, loss, signs)
            standing.scale = scale
            self.progress(what, (seen + done) / total)
            if not (finite and math.isfinite(scale) and scale > 0):
                raise DivergedError(_diverged(plan))
            yield

    def _check(self, trained: Trained, plan: Plan) -> None:
        if not (np.isfinite(trained.bias).all() and _finite(values_of(trained.weights))):
            raise DivergedError(_diverged(plan))

    def logits(self, trained: Trained, rows: U32) -> F32:
        """Return logits of some rows, from their counted features."""
        lists = [block.lists for block in trained.blocks]
        return _core.sparse_logits(lists, rows, as_core(trained.weights), trained.bias, self.settings.threads)


def _keep(
    checkpoint: Checkpoint, plan: Plan, trained: Trained, standing: Standing, best: Trained | None
) -> None:
    arrays = {"weights": values_of(trained.weights), "bias": trained.bias}
    if best is not None:
        arrays |= {"best_weights": values_of(best.weights), "best_bias": best.bias}
    checkpoint.save(arrays, training=plan.to_json(), standing=standing.to_json())


def _resumed(
    checkpoint: Checkpoint, plan: Plan, trained: Trained
) -> tuple[Standing, Trained, Trained | None]:
    """Where the checkpoint stands with this plan: at the beginning, if it does not know it."""
    arrays = checkpoint.load()
    if not arrays or checkpoint.state.get("training") != plan.to_json():
        return Standing(), trained, None
    found = []
    for names in (("weights", "bias"), ("best_weights", "best_bias")):
        if names[0] in arrays:
            weights, bias = (np.array(arrays[name]) for name in names)
            if weights.shape != values_of(trained.weights).shape or bias.shape != trained.bias.shape:
                raise CheckpointError(f"{checkpoint.path}: its arrays do not fit the data")
            found.append(replace(trained, weights=with_values(trained.weights, weights), bias=bias))
    return Standing.from_json(checkpoint.state["standing"]), found[0], found[1] if len(found) > 1 else None


def _diverged(plan: Plan) -> str:
    return f"training diverged at learning rate {plan.learning_rate:g}: choose a smaller one"


def _finite(weights: F32) -> bool:
    # A sum in double precision is finite if and only if all addends are.
    return bool(np.isfinite(weights.sum(dtype=np.float64)))
