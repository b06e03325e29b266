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
from logitext.epochs import Clock, Epoch, Standing, Sums, Watch
from logitext.features import Block, arrow_numbers, count_block, known_ngrams
from logitext.labels import LabelSets
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
WEIGHT_BYTES = 192 << 20
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
    multilabel: bool = False
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
    sets: LabelSets | None = None
    """Several labels a text; `codes` are the rarest of each, and `classes` where there is none."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: U32) -> Examples:
        weights = None if self.row_weights is None else self.row_weights[rows]
        lesson = None if self.lesson is None else self.lesson.take(rows)
        sets = None if self.sets is None else self.sets.take(rows)
        texts = self.texts.take(arrow_numbers(rows))
        return Examples(texts, self.codes[rows], self.classes, weights, lesson, sets)

    def join(self, other: Examples) -> Examples:
        """Return these and, after them, others of weight 1. A lesson is not joined."""
        weights = self.row_weights
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(other), np.float32)])
        texts = pa.concat_arrays([self.texts, other.texts])
        sets = None
        if self.sets is not None and other.sets is not None:
            sets = self.sets.join(other.sets)
        codes = np.concatenate([self.codes, other.codes])
        return Examples(texts, codes, self.classes, weights, None, sets)

    @property
    def shares(self) -> F32 | None:
        """(n, classes): soft targets."""
        return None if self.lesson is None else self.lesson.shares

    @property
    def numbers(self) -> tuple[NDArray[np.int64], U32] | None:
        """Where each row's labels begin, and the labels."""
        return None if self.sets is None else (self.sets.offsets, self.sets.ids)

    def first_bias(self, rows: U32) -> F32:
        """Where training starts: 0, or the log-odds of labels that come by themselves.

        From 0, ten thousand labels would first have to learn that each of them is rare.
        """
        if self.sets is None:
            return np.zeros(self.classes, np.float32)
        counts = self.sets.take(rows).counts.tolist()
        # Half a row more of yes and no; rounded, lest the last bit be the C library's.
        odds = ((count + 0.5) / (len(rows) - count + 0.5) for count in counts)
        return np.array([round(math.log(ratio), 4) for ratio in odds], np.float32)

    def guessing(self, smoothing: float) -> float:
        """Return about the loss of knowing nothing of the texts."""
        if self.sets is None:
            return math.log(self.classes)
        share = (self.sets.counts + 0.5) / (len(self) + 1)
        entropy = -(share * np.log(share) + (1 - share) * np.log1p(-share)).mean()
        # To learn smoothed targets well costs something by true ones.
        return float(entropy) + smoothing * (1 + len(self.sets.ids) / len(self)) / self.classes


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
        self.kept = examples.classes >= KEPT_FROM and examples.lesson is None and examples.sets is None
        self._support: tuple[list[tuple[str, Range]], U32, Support] | None = None

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
            standing, trained, best = resumed(watch.checkpoint, plan, trained)
        layer = self.layer(trained, rows)
        clock = Clock(watch.until, len(rows) * plan.epochs)
        while len(standing.epochs) < plan.epochs and not clock.over and not standing.over:
            epoch, done = len(standing.epochs), standing.sums.rows
            order = rows[_core.shuffle(len(rows), (self.settings.seed << 20) + epoch)][done:]
            for _ in self.run(layer, standing, plan, order, epoch * len(rows) + done, clock, what):
                if watch.checkpoint is not None and watch.checkpoint.due:
                    trained.weights = layer.weights
                    keep(watch.checkpoint, plan, trained, standing, best)
            clock.check(standing, len(rows))
            if standing.sums.rows:
                best = close(trained, layer, standing, plan, watch, best, self)
        if watch.checkpoint is not None:
            keep(watch.checkpoint, plan, trained, standing, best)
        return replace(best or trained, epochs=standing.epochs)

    def _fresh(self, chars: Range | None, rows: U32) -> Trained:
        blocks, classes = self.blocks(chars), self.examples.classes
        weights: Weights
        if self.kept:
            weights = self._supported(blocks, rows).fresh()
        else:
            weights = np.zeros((sum(map(len, blocks)), classes), np.float32)
        return Trained(blocks, weights, self.examples.first_bias(rows))

    def _supported(self, blocks: list[Block], rows: U32) -> Support:
        """The support in the rows trained on, and no others; the last is remembered."""
        last, names = self._support, [(block.name, block.ngrams) for block in blocks]
        if last is None or last[0] != names or not np.array_equal(last[1], rows):
            self._support = None  # before there are two
            examples = self.examples
            found = Support.of(blocks, rows, examples.codes, examples.classes, self.settings.threads)
            last = self._support = (names, rows, found)
        return last[2]

    def _lists(self, *blocks: Block) -> list[_core.Lists]:
        """These texts' own n-grams: the weights may come from others."""
        return [self._counted[block.name, block.ngrams].lists for block in blocks]

    def layer(self, trained: Trained, rows: U32) -> Layer:
        """Return weights and bias as training wants them: to be changed by these texts."""
        if isinstance(trained.weights, Kept):
            return KeptLayer(self._supported(trained.blocks, rows), trained.weights, trained.bias)
        return DenseLayer(self._lists(*trained.blocks), trained.weights, trained.bias)

    def run(
        self,
        layer: Layer,
        standing: Standing,
        plan: Plan,
        order: U32,
        seen: int,
        clock: Clock,
        what: str,
    ) -> Iterator[None]:
        """Train on rows in their order, or on as many as there is time for, slice by slice.

        Raises
        ------
        DivergedError
            When numbers leave the finite.
        """
        examples, settings = self.examples, self.settings
        while len(order):
            total = clock.rows(seen)
            order = order[: total - seen]
            if not len(order):
                break
            done, standing.scale, finite, signs = layer.train(
                examples, order,
                learning_rate=plan.learning_rate, l2=settings.l2,
                smoothing=plan.label_smoothing, z_loss=settings.z_loss, batch=self.batch,
                seen=seen, total=total, sums=standing.sums.signs, scale=standing.scale,
                threads=settings.threads, budget=SLICE_SECONDS,
            )  # fmt: skip
            standing.sums = Sums(standing.sums.rows + done, *signs)
            seen, order = seen + done, order[done:]
            self.progress(what, seen / total)
            if not (finite and math.isfinite(standing.scale) and standing.scale > 0):
                raise DivergedError(_diverged(plan))
            yield

    def logits(self, trained: Trained, rows: U32) -> F32:
        """Return logits of some rows, from their counted features."""
        lists = self._lists(*trained.blocks)
        return _core.sparse_logits(lists, rows, as_core(trained.weights), trained.bias, self.settings.threads)

    def ngrams(self, block: Block, rows: U32) -> F32:
        """Return how much of some texts is known, and how much is not, by the n-grams of a block.

        Of a text learned from, an n-gram is known if it would be without that text.

        Returns
        -------
        float32 array, shape (n, 2)
            See `logitext.features.known_ngrams`.
        """
        texts, found = self.examples.texts, np.empty((len(rows), 2), np.float32)
        learned = rows < self.learn
        for own, least in ((learned, block.least), (~learned, 0)):
            some = texts.take(arrow_numbers(rows[own]))
            table = (block.hashes, block.document_frequency)
            found[own] = known_ngrams(
                some, block.recipe, block.name, *table, above=least, threads=self.settings.threads
            )
        return found


def close(
    trained: Trained,
    layer: Layer,
    standing: Standing,
    plan: Plan,
    watch: Watch,
    best: Trained | None,
    judge: Workshop | None,
) -> Trained | None:
    """End an epoch: multiply the factor in, take the loss of the rows held out; return the best so far."""
    if standing.scale != 1.0:
        layer.multiply(standing.scale)
        standing.scale = 1.0
    trained.weights = layer.weights
    if not (np.isfinite(trained.bias).all() and _finite(values_of(trained.weights))):
        raise DivergedError(_diverged(plan))
    found = None
    if judge is not None and watch.rows is not None and watch.loss is not None:
        found = watch.loss(judge.logits(trained, watch.rows))
    several = judge is not None and judge.examples.sets is not None
    standing.end(len(trained.bias), found, several=several)
    if watch.patience is not None:
        if standing.best == len(standing.epochs):
            best = replace(trained, weights=copy_of(trained.weights), bias=trained.bias.copy())
        standing.over = len(standing.epochs) >= standing.best + watch.patience
    if watch.callback is not None:
        said = watch.callback(standing.epochs[-1])
        standing.over |= isinstance(said, bool | np.bool_) and bool(said)
    return best


def keep(
    checkpoint: Checkpoint, plan: Plan, trained: Trained, standing: Standing, best: Trained | None
) -> None:
    arrays = {"weights": values_of(trained.weights), "bias": trained.bias}
    if best is not None:
        arrays |= {"best_weights": values_of(best.weights), "best_bias": best.bias}
    checkpoint.save(arrays, training=plan.to_json(), standing=standing.to_json())


def resumed(checkpoint: Checkpoint, plan: Plan, trained: Trained) -> tuple[Standing, Trained, Trained | None]:
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
