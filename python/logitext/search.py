"""Choosing how to train, on held-out rows, by log loss after one temperature."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core
from logitext.calibration import Calibration, fit_temperature
from logitext.epochs import OutOfTimeError, Watch
from logitext.evaluation import accuracy, log_loss
from logitext.evidence import HeldRows
from logitext.logits import argmax
from logitext.multilabel import binary_log_loss, decide, fit_sigmoid
from logitext.thresholds import fit_thresholds, held_out_scores
from logitext.workshop import DivergedError, Examples, Plan, Range, Settings, Workshop

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.labels import LabelSets
    from logitext.workshop import F32, U32

CHARS_GAIN = 0.01
"""Character n-grams cost several times the work: they must lower the log loss by this share."""
ASIDE = 0xA51DE
"""Rows set aside are not those that the search's own draw begins with."""
FEW = 5
"""Held-out rows from which on it says something that none of them was recognised."""
WATCHED, WATCHED_LOGITS = 1000, 1 << 20
"""Held-out rows whose loss is taken after each epoch, and their logits."""
TO_CALIBRATE = 2500
"""Rows held out from the plan that was chosen, where there are so many: the calibration, and what is promised
by it, is fitted on them."""
SMOOTHING = 0.1
"""Usual label smoothing: rows much alike are then not driven ever further apart."""
NEARLY = 0.01
"""A step twice as large that loses less than this share at half the passes is right for all of them."""
LARGER_STEP_GAIN = 0.01
"""More rows want smaller steps: on a part of the rows a larger one must lower the log loss by this share."""


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


def set_aside(codes: U32, fingerprints: NDArray[np.uint64], share: float, seed: int) -> NDArray[np.bool_]:
    """Draw rows from all alike, equal texts together; the last text of a class stays.

    Unlike `deal` not by class: what is drawn is to be as new rows will be.

    Parameters
    ----------
    codes : uint32 array, shape (n,)
    fingerprints : uint64 array, shape (n,)
    share : float
    seed : int

    Returns
    -------
    bool array, shape (n,)
    """
    _, group = np.unique(fingerprints, return_inverse=True)
    texts = int(group.max()) + 1
    drawn = np.zeros(texts, bool)
    drawn[_core.shuffle(texts, seed ^ ASIDE)[: round(share * texts)]] = True
    classes = int(codes.max()) + 1
    left = np.bincount(codes[~drawn[group]], minlength=classes)
    for code in np.flatnonzero((left == 0) & (np.bincount(codes, minlength=classes) > 0)):
        drawn[group[np.flatnonzero(codes == code)[0]]] = False
    return drawn[group]


@dataclass
class HeldOut:
    """Logits of rows the weights did not learn from."""

    examples: Examples
    rows: U32
    logits: F32
    temperature: float = 1.0
    log_loss: float = math.inf
    shift: float = 0.0
    curve: list[float] = field(default_factory=list)
    """Log loss after each epoch, of some of the rows."""
    ngrams: F32 | None = None
    """See `Workshop.ngrams`."""

    @property
    def kept(self) -> HeldRows | None:
        """What the model will judge its answers by; none of several labels, or with a teacher."""
        if self.ngrams is None or self.sets is not None or self.examples.lesson is not None:
            return None
        return HeldRows(self.logits, self.codes, self.ngrams)

    @property
    def codes(self) -> U32:
        return self.examples.codes[self.rows]

    @property
    def truth(self) -> NDArray[Any]:
        """The classes, or the share of each."""
        lesson = self.examples.lesson
        return self.codes if lesson is None else lesson.truth[self.rows].astype(np.float64)

    @property
    def sets(self) -> LabelSets | None:
        """Of several labels a row."""
        return None if self.examples.sets is None else self.examples.sets.take(self.rows)

    @cached_property
    def thresholds(self) -> NDArray[np.float32] | None:
        """The logit from which on each label is given, where a row may have several."""
        if (sets := self.sets) is None:
            return None
        return fit_thresholds(self.logits, sets, temperature=self.temperature, shift=self.shift)

    @property
    def calibration(self) -> Calibration:
        """What was fitted here."""
        return Calibration(self.temperature, self.shift, self.thresholds)

    def calibrate(self) -> HeldOut:
        if (sets := self.sets) is not None:
            self.temperature, self.shift = fit_sigmoid(self.logits, sets)
            how = {"temperature": self.temperature, "shift": self.shift}
            self.log_loss = binary_log_loss(self.logits, sets, **how)
            return self
        self.temperature = fit_temperature(self.logits, self.truth)
        self.log_loss = log_loss(self.logits, self.truth, temperature=self.temperature)
        return self

    def never_predicted(self) -> list[int]:
        """Classes with `FEW` rows or more here, none of which, nor any other row, was taken for them."""
        classes = self.examples.classes
        if (sets := self.sets) is not None and (thresholds := self.thresholds) is not None:
            given = decide(self.logits, thresholds)
            return [int(code) for code in np.flatnonzero((sets.counts >= FEW) & (given.counts == 0))]
        there = np.bincount(self.codes, minlength=classes)
        decided = np.bincount(argmax(self.logits), minlength=classes)
        return [int(code) for code in np.flatnonzero((there >= FEW) & (decided == 0))]

    def record(self, calibration: Calibration) -> dict[str, Any]:
        temperature = calibration.temperature
        if (sets := self.sets) is not None:
            how = {"temperature": temperature, "shift": calibration.shift}
            return {
                "rows": len(self.rows),
                **held_out_scores(self.logits, sets, **how),
                "log_loss": binary_log_loss(self.logits, sets, **how),
                "log_loss_uncalibrated": binary_log_loss(self.logits, sets),
            }
        found: dict[str, Any] = {
            "rows": len(self.rows),
            "accuracy": accuracy(self.logits, self.codes),
            "log_loss": log_loss(self.logits, self.truth, temperature=temperature),
            "log_loss_uncalibrated": log_loss(self.logits, self.truth),
        }
        if self.examples.lesson is not None:
            found["agreement"] = accuracy(self.logits, self.examples.lesson.decisions[self.rows])
        return found


def watch(examples: Examples, rows: U32, most: int = WATCHED, **more: Any) -> Watch:
    """Watch the log loss of held-out rows, after one temperature: of at most so many, evenly chosen."""
    most = min(most, max(100, WATCHED_LOGITS // examples.classes))
    some = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.intp)]

    def loss(logits: F32) -> float:
        return HeldOut(examples, some, logits).calibrate().log_loss

    return Watch(some, loss, **more)


class Search:
    """Tries plans on held-out rows and remembers what each gave."""

    ENOUGH = 600
    """Folds are evaluated until so many rows were held out."""

    def __init__(
        self,
        workshop: Workshop,
        part: NDArray[np.int64],
        folds: int,
        *,
        partial: bool,
        until: float | None = None,
    ) -> None:
        self.workshop = workshop
        self.until = until
        self.part = part
        self.gain = LARGER_STEP_GAIN if partial else 0.0
        largest = max(1, int((part >= 0).sum()) // folds)
        self.folds = range(min(folds, -(-self.ENOUGH // largest)))
        self.spare = range(len(self.folds), min(folds, -(-TO_CALIBRATE // largest)))
        self.tried: dict[Plan, HeldOut | None] = {}

    def loss(self, plan: Plan) -> float:
        """Log loss on held-out rows after one temperature; infinite if training diverged."""
        if plan not in self.tried:
            if self.until is not None and self.tried and time.monotonic() >= self.until:
                return math.inf
            try:
                self.tried[plan] = self._hold_out(plan).calibrate()
            except (DivergedError, OutOfTimeError):
                self.tried[plan] = None
        held_out = self.tried[plan]
        return math.inf if held_out is None else held_out.log_loss

    def _hold_out(self, plan: Plan, folds: range | None = None, *, curve: bool = True) -> HeldOut:
        logits: list[F32] = []
        rows: list[U32] = []
        losses: list[float] = []
        # The curve of a plan that may be chosen is worth keeping, and takes one fold.
        curve &= plan.epochs == usual_plan(self.workshop.settings).epochs
        for fold in self.folds if folds is None else folds:
            held = np.flatnonzero(self.part == fold).astype(np.uint32)
            rest = np.flatnonzero(self.part != fold).astype(np.uint32)
            if len(held) and len(rest):
                watched = Watch(until=self.until)
                if curve and not rows:
                    watched = watch(self.workshop.examples, held, until=self.until)
                trained = self.workshop.train(plan, rest, "choosing", watched)
                if watched.rows is not None:
                    losses = [epoch.held_out_loss or 0.0 for epoch in trained.epochs]
                logits.append(self.workshop.logits(trained, held))
                rows.append(held)
        return HeldOut(self.workshop.examples, np.concatenate(rows), np.concatenate(logits), curve=losses)

    def held_out(self, plan: Plan) -> HeldOut | None:
        """What a plan gave on held-out rows; the best there is, if there was no time for it."""
        self.loss(plan)
        found = self.tried.get(plan)
        if found is None:
            known = [(held.log_loss, at) for at, held in enumerate(self.tried.values()) if held is not None]
            if not known:
                return None
            plan = list(self.tried)[min(known)[1]]
            found = self.tried[plan]
        assert found is not None
        found = self._with_more(plan, found)
        block, *_ = self.workshop.blocks(plan.char_ngrams)
        return replace(found, ngrams=self.workshop.ngrams(block, found.rows))

    def _with_more(self, plan: Plan, found: HeldOut) -> HeldOut:
        """What a plan gave, on enough rows to calibrate on; a choice needs fewer."""
        if not self.spare or not self.workshop.settings.calibrate:
            return found
        try:
            more = self._hold_out(plan, self.spare, curve=False)
        except (DivergedError, OutOfTimeError):
            return found
        rows = np.concatenate([found.rows, more.rows])
        logits = np.concatenate([found.logits, more.logits])
        return HeldOut(found.examples, rows, logits, curve=found.curve).calibrate()

    def record(self) -> list[dict[str, Any]]:
        """What each plan gave, on how many rows, as JSON has it."""
        rows = len(self.part)
        return [
            {**plan.to_json(), "rows": rows, "log_loss": None if held is None else held.log_loss}
            for plan, held in self.tried.items()
        ]

    def best_chars(self) -> Range | None:
        """Return which runs of characters are best, or None: a first look, however much they cost."""
        settings = self.workshop.settings
        plans = [self._hasty(usual_plan(settings, chars)) for chars in settings.char_ngrams]
        return min(plans, key=self.loss).char_ngrams

    def best(self, chars: Range | None) -> Plan:
        """Walk downhill from the usual plan: step size, then smoothing, then words alone.

        On half the epochs and steps twice as large, which comes to nearly the same.
        """
        settings = self.workshop.settings
        free = settings.learning_rate is None
        usual = usual_plan(settings, chars)
        plan = self._hasty(usual)
        if free:
            larger = self._walk(plan, 2.0, 1 - self.gain)
            plan = self._walk(plan, 0.5) if larger == plan else larger
        if settings.label_smoothing is None and plan.label_smoothing and not self.workshop.examples.lesson:
            hard = replace(plan, label_smoothing=0.0)
            if self.loss(hard) < self.loss(plan):
                plan = self._walk(hard, 2.0, 1 - self.gain) if free else hard
        if plan.char_ngrams and None in settings.char_ngrams:
            # Too large a step had hurt the words alone the more: theirs is twice that of both.
            without = replace(plan, char_ngrams=None, learning_rate=plan.learning_rate * (2 if free else 1))
            plan = self._worth_it([plan, without])
        return replace(self._slow(plan), epochs=usual.epochs) if self._hasty(usual) != usual else plan

    def _hasty(self, plan: Plan) -> Plan:
        """Half the passes at twice the step, where both are free."""
        settings = self.workshop.settings
        free = settings.learning_rate is None and settings.epochs is None
        return self._faster(plan, 2) if free else plan

    def _slow(self, plan: Plan) -> Plan:
        """All passes again: at half the step, or at the same where one twice as large is nearly as good."""
        larger = self.tried.get(replace(plan, learning_rate=2 * plan.learning_rate))
        far = larger is not None and larger.log_loss < (1 + NEARLY) * self.loss(plan) and not self.gain
        return plan if far else replace(plan, learning_rate=plan.learning_rate / 2)

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
    if settings.multilabel:  # a label's logit has no rivals to move away from
        rate *= 4
    return Plan(chars, settings.learning_rate or rate, settings.epochs or 10, smoothing)
