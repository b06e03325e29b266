"""Choosing and learning: texts and labels → weights, and the record of how they came about.

Step size, epochs and feature blocks are chosen on held-out rows by log loss
after one temperature ("refine, then calibrate"); the temperature is kept, and
the final weights learn from all rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.calibration import fit_temperature
from logitext.evaluation import accuracy, log_loss
from logitext.features import Block, arrow_numbers, buffers, count_block
from logitext.logits import argmax
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
CHARS_GAIN = 0.01
"""Character n-grams cost several times the work: they must lower the log loss by this share."""
FEW = 5
"""Held-out rows from which on it says something that none of them was recognised."""
SMOOTHING = 0.1
"""Usual label smoothing: rows much alike are then not driven ever further apart."""
LARGER_STEP_GAIN = 0.01
"""More rows want smaller steps: on a part of the rows a larger one must lower the log loss by this share."""


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


def deal(codes: U32, fingerprints: NDArray[np.uint64], parts: int, seed: int) -> NDArray[np.int64]:
    """Deal rows to parts so that each has its share of every class.

    Equal texts go to the same part; the only text of a class is in no part: it is
    always trained on. Parts with low numbers are never the emptier ones.

    Parameters
    ----------
    codes : uint32 array, shape (n,)
        Class of each row.
    fingerprints : uint64 array, shape (n,)
        Equal for equal texts.
    parts : int
    seed : int

    Returns
    -------
    int64 array, shape (n,)
        Part of each row, -1 for none.
    """
    _, first, group = np.unique(fingerprints, return_index=True, return_inverse=True)
    label = codes[first]
    shuffled = _core.shuffle(len(first), seed).astype(np.int64)
    by_class = shuffled[np.argsort(label[shuffled], kind="stable")]
    # Equal texts may have several labels: every (text, class) there is, once.
    classes = int(codes.max()) + 1
    text, code = np.divmod(np.unique(group * classes + codes), classes)
    alone = np.bincount(code, minlength=classes)[code] == 1
    kept = np.zeros(len(first), bool)
    kept[text[alone]] = True
    part = np.full(len(first), -1)
    free = by_class[~kept[by_class]]
    part[free] = np.arange(len(free)) % parts
    return part[group]


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


@dataclass
class HeldOut:
    """Logits of rows the weights did not learn from."""

    examples: Examples
    rows: U32
    logits: F32
    temperature: float = 1.0
    log_loss: float = math.inf

    @property
    def codes(self) -> U32:
        return self.examples.codes[self.rows]

    @property
    def truth(self) -> NDArray[Any]:
        """The classes, or the share of each."""
        lesson = self.examples.lesson
        return self.codes if lesson is None else lesson.truth[self.rows].astype(np.float64)

    def calibrate(self) -> HeldOut:
        self.temperature = fit_temperature(self.logits, self.truth)
        self.log_loss = log_loss(self.logits, self.truth, temperature=self.temperature)
        return self

    def never_predicted(self) -> list[int]:
        """Classes with `FEW` rows or more here, none of which, nor any other row, was taken for them."""
        classes = self.examples.classes
        there = np.bincount(self.codes, minlength=classes)
        decided = np.bincount(argmax(self.logits), minlength=classes)
        return [int(code) for code in np.flatnonzero((there >= FEW) & (decided == 0))]

    def record(self, temperature: float) -> dict[str, Any]:
        found: dict[str, Any] = {
            "rows": len(self.rows),
            "accuracy": accuracy(self.logits, self.codes),
            "log_loss": log_loss(self.logits, self.truth, temperature=temperature),
            "log_loss_uncalibrated": log_loss(self.logits, self.truth),
        }
        if self.examples.lesson is not None:
            found["agreement"] = accuracy(self.logits, self.examples.lesson.decisions[self.rows])
        return found


class Search:
    """Tries plans on held-out rows and remembers what each gave."""

    ENOUGH = 1000
    """Folds are evaluated until so many rows were held out."""

    def __init__(self, workshop: Workshop, part: NDArray[np.int64], folds: int, *, partial: bool) -> None:
        self.workshop = workshop
        self.part = part
        self.gain = LARGER_STEP_GAIN if partial else 0.0
        largest = max(1, int((part >= 0).sum()) // folds)
        self.folds = range(min(folds, -(-self.ENOUGH // largest)))
        self.tried: dict[Plan, HeldOut | None] = {}

    def loss(self, plan: Plan) -> float:
        """Log loss on held-out rows after one temperature; infinite if training diverged."""
        if plan not in self.tried:
            try:
                self.tried[plan] = self._hold_out(plan).calibrate()
            except DivergedError:
                self.tried[plan] = None
        held_out = self.tried[plan]
        return math.inf if held_out is None else held_out.log_loss

    def _hold_out(self, plan: Plan) -> HeldOut:
        logits, rows = [], []
        for fold in self.folds:
            held = np.flatnonzero(self.part == fold).astype(np.uint32)
            rest = np.flatnonzero(self.part != fold).astype(np.uint32)
            if len(held) and len(rest):
                trained = self.workshop.train(plan, rest, "choosing")
                logits.append(self.workshop.logits(trained, held))
                rows.append(held)
        return HeldOut(self.workshop.examples, np.concatenate(rows), np.concatenate(logits))

    def best(self) -> Plan:
        """Walk downhill from the usual plan: blocks, then step size, then smoothing.

        On half the epochs and steps twice as large, which comes to nearly the same; on all rows
        the larger steps are tried with all epochs, too.
        """
        settings = self.workshop.settings
        free = settings.learning_rate is None
        half = free and settings.epochs is None

        def tried(chars: Range | None) -> Plan:
            plan = usual_plan(settings, chars)
            return self._faster(plan, 2) if half else plan

        plan = self._worth_it([tried(chars) for chars in settings.char_ngrams])
        if free:
            larger = self._walk(plan, 2.0, 1 - self.gain)
            plan = self._walk(plan, 0.5) if larger == plan else larger
        if settings.label_smoothing is None and plan.label_smoothing and not self.workshop.examples.lesson:
            hard = replace(plan, label_smoothing=0.0)
            if self.loss(hard) < self.loss(plan):
                plan = self._walk(hard, 2.0, 1 - self.gain) if free else hard
        if plan.char_ngrams and None in settings.char_ngrams:
            # Once more at the step size found: too large a one had hurt the words alone the more.
            without = replace(plan, char_ngrams=None, learning_rate=plan.learning_rate * (2 if free else 1))
            plan = self._worth_it([plan, without])
        if not half:
            return plan
        gentle, far = self._faster(plan, 0.5), replace(plan, epochs=2 * plan.epochs)
        return gentle if self.gain or self.loss(gentle) <= self.loss(far) else far

    @staticmethod
    def _faster(plan: Plan, factor: float) -> Plan:
        return replace(plan, learning_rate=plan.learning_rate * factor, epochs=round(plan.epochs / factor))

    def _worth_it(self, plans: list[Plan]) -> Plan:
        """The best plan; one without characters if it is nearly as good."""
        return min(plans, key=lambda plan: self.loss(plan) * (1 if plan.char_ngrams else 1 - CHARS_GAIN))

    def _walk(self, plan: Plan, factor: float, least: float = 1.0) -> Plan:
        """Change the step size by a factor for as long as the loss falls to `least` of itself."""
        for _ in range(6):
            following = replace(plan, learning_rate=plan.learning_rate * factor)
            if not self.loss(following) < least * self.loss(plan):
                break
            plan = following
        return plan


FIRST: Any = ()


def usual_plan(settings: Settings, chars: Range | None = FIRST, smoothing: float | None = None) -> Plan:
    """Return the plan the search starts from, and the one for data too small to search on."""
    if chars == FIRST:
        chars = settings.char_ngrams[0]
    if smoothing is None:
        smoothing = SMOOTHING if settings.label_smoothing is None else settings.label_smoothing
    # Each block is of norm 1: together they take a step twice as far. Hard targets pull longer.
    rate = (1.0 if smoothing else 2.0) / (2 if chars and settings.word_ngrams else 1)
    return Plan(chars, settings.learning_rate or rate, settings.epochs or 10, smoothing)


SEARCH_ROWS = 8000
SEARCH_BYTES = 8 << 20
FOLDS = 5


def fit(examples: Examples, settings: Settings, progress: Progress) -> tuple[Trained, float, dict[str, Any]]:
    """Choose a plan, fit the temperature, and train on all rows.

    Parameters
    ----------
    examples : Examples
    settings : Settings
    progress : callable
        Called with what is being done and which share of it is.

    Returns
    -------
    trained : Trained
    temperature : float
        The logits are divided by it to give calibrated ones.
    record : dict
        How the model came about: JSON, the same for the same call.

    Raises
    ------
    ValueError
        If a text is not valid UTF-8, or training diverges at the given learning rate.
    """
    rows = len(examples)
    whole = Workshop(examples, settings, progress)
    fingerprints = _core.fingerprints(buffers(examples.texts))
    offsets, _ = buffers(examples.texts)
    size = int(offsets[-1] - offsets[0])
    # The search sees one of `share` parts of large data: it costs as much as one training.
    share = max(1, min(round(max(min(4, rows / SEARCH_ROWS), size / SEARCH_BYTES)), rows // 2000))
    part = deal(examples.codes, fingerprints, FOLDS * share, settings.seed)
    plan = usual_plan(settings)
    temperature, held_out, tried = 1.0, None, {}
    chosen = (settings.learning_rate, settings.epochs, settings.label_smoothing)
    fixed = len(settings.char_ngrams) == 1 and None not in chosen
    if (part >= 0).any() and (settings.calibrate or not fixed):
        if share == 1:
            search = Search(whole, part, FOLDS, partial=False)
        else:
            subset = np.flatnonzero(part < FOLDS).astype(np.uint32)
            some = Workshop(examples.take(subset), settings, progress)
            search = Search(some, part[subset], FOLDS, partial=True)
        plan = plan if fixed else search.best()
        if settings.calibrate and share > 1:
            held_out = _hold_out_of_all(whole, plan, part)
        elif search.loss(plan) < math.inf:
            held_out = search.tried[plan]
        tried = search.tried
    if settings.calibrate and held_out is not None:
        temperature = held_out.temperature
    everything = np.arange(rows, dtype=np.uint32)
    plan, trained = _train_steadily(whole, plan, everything, "training")
    record: dict[str, Any] = {
        "rows": rows,
        "text_bytes": size,
        "fingerprint": _fingerprint(fingerprints, examples),
        "plan": _as_json(plan),
        "batch": whole.batch,
        "least_document_frequency": {block.name: block.least for block in trained.blocks},
        "loss_per_epoch": trained.losses,
        "search": [{**_as_json(p), "log_loss": h.log_loss if h else None} for p, h in tried.items()],
        "held_out": held_out and held_out.record(temperature),
        "contradictions": _contradictions(fingerprints, examples),
        "never_predicted": held_out.never_predicted() if held_out else [],
    }
    if examples.lesson is not None:
        taught = {"temperature": examples.lesson.temperature, "labelled_rows": examples.lesson.labelled}
        record["teacher"] = taught
    return trained, temperature, record


def _contradictions(fingerprints: NDArray[np.uint64], examples: Examples) -> int:
    """Rows whose text stands elsewhere with another class."""
    _, group = np.unique(fingerprints, return_inverse=True)
    pairs = np.unique(group.astype(np.int64) * examples.classes + examples.codes)
    classes = np.bincount(pairs // examples.classes)
    return int((classes[group] > 1).sum())


def _as_json(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "char_ngrams": plan.char_ngrams and list(plan.char_ngrams)}


def _train_steadily(whole: Workshop, plan: Plan, rows: U32, what: str) -> tuple[Plan, Trained]:
    """Train; where the step size is ours and proves too large, again with a smaller one.

    Too large is one that diverges, or leaves the rows it learned from worse than guessed:
    many equal texts, which no search could hold out, can do that. Texts of which nothing
    can be learned come out about as good as guessed, whatever the step size.
    """
    ours = whole.settings.learning_rate is None
    while True:
        retry = ours and plan.learning_rate > 1e-3
        try:
            trained = whole.train(plan, rows, what)
            if not retry or trained.losses[-1] <= 1.01 * math.log(whole.examples.classes):
                return plan, trained
        except DivergedError:
            if not retry:
                raise
        plan = replace(plan, learning_rate=plan.learning_rate / 4)


def _hold_out_of_all(whole: Workshop, plan: Plan, part: NDArray[np.int64]) -> HeldOut:
    """Hold a tenth of the rows out, at most 10,000, from a training on all others."""
    parts = int(part.max()) + 1
    size = max(1, int((part >= 0).sum()) // parts)
    held_parts = max(1, min(parts // 10, 10_000 // size))
    held = np.flatnonzero((part >= 0) & (part < held_parts)).astype(np.uint32)
    rest = np.flatnonzero((part < 0) | (part >= held_parts)).astype(np.uint32)
    _, trained = _train_steadily(whole, plan, rest, "calibrating")
    return HeldOut(whole.examples, held, whole.logits(trained, held)).calibrate()


def _fingerprint(fingerprints: NDArray[np.uint64], examples: Examples) -> str:
    digest = hashlib.sha256(fingerprints.astype("<u8").tobytes())
    digest.update(examples.codes.astype("<u4").tobytes())
    if examples.row_weights is not None:
        digest.update(examples.row_weights.astype("<f4").tobytes())
    if examples.lesson is not None:
        digest.update(examples.lesson.shares.astype("<f4").tobytes())
    return digest.hexdigest()[:32]
