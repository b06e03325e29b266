"""Learning: texts and labels → weights, and the record of how they came about.

Step size, epochs and feature blocks are chosen on held-out rows by log loss
after one temperature ("refine, then calibrate"); the temperature is kept, and
the final weights learn from all rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.calibration import Calibration
from logitext.checkpoints import Checkpoint
from logitext.epochs import Epoch, OutOfTimeError, Watch
from logitext.evidence import HeldRows
from logitext.features import buffers
from logitext.search import TO_CALIBRATE, HeldOut, Search, deal, usual_plan, watch
from logitext.workshop import DivergedError, Examples, Plan, Progress, Settings, Trained, Workshop

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from os import PathLike

    from numpy.typing import NDArray

    from logitext.workshop import U32

SEARCH_ROWS = 8000
SEARCH_BYTES = 8 << 20
CLASS_ROWS = 20
"""And so many rows of each class are in it, on average, so far as there are."""
LOOK_ROWS, LOOK_BYTES = 3000, 2 << 20
"""What a first look at the characters needs: counting all their runs is a good part of the work."""
FOLDS = 5
FEW_TEXTS = 30
"""Of fewer different texts no thresholds are chosen: to give every label may look best on so few."""
HELD = ("held_logits", "held_codes", "held_ngrams")
"""What a checkpoint keeps of held-out rows."""
VALIDATED = 10_000
"""Rows of a validation set whose loss is taken after each epoch."""


class Learned(NamedTuple):
    """What a training gives."""

    trained: Trained
    calibration: Calibration
    """What was fitted on held-out logits."""
    record: dict[str, Any]
    """How the model came about: JSON."""
    held: HeldRows | None = None
    """Rows that the weights of a training like this one did not learn from."""


@dataclass
class Choice:
    """What is known before the last training."""

    plan: Plan
    temperature: float = 1.0
    shift: float = 0.0
    thresholds: list[float] | None = None
    held_out: dict[str, Any] | None = None
    never_predicted: list[int] = field(default_factory=list)
    held: HeldRows | None = None
    """What the model will judge its answers by."""
    curve: list[float] = field(default_factory=list)
    """Held-out log loss after each epoch of the training that gave the temperature."""
    tried: list[dict[str, Any]] = field(default_factory=list)

    def learn_from(self, held_out: HeldOut, *, calibrate: bool) -> None:
        """Take temperature, thresholds and figures from held-out rows."""
        found = held_out.calibration if calibrate else Calibration()
        self.temperature, self.shift = found.temperature, found.shift
        self.thresholds = None if found.thresholds is None else found.thresholds.tolist()
        self.held_out = held_out.record(found)
        self.never_predicted = held_out.never_predicted()
        self.held = held_out.kept if calibrate else None
        self.curve = held_out.curve

    @property
    def calibration(self) -> Calibration:
        """What was fitted on held-out logits."""
        given = None if self.thresholds is None else np.array(self.thresholds, np.float32)
        return Calibration(self.temperature, self.shift, given)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(replace(self, held=None)), "plan": self.plan.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Choice:
        """Return what `to_json` made JSON of."""
        return cls(**{**value, "plan": Plan.from_json(value["plan"])})


def fit(
    examples: Examples,
    settings: Settings,
    progress: Progress,
    *,
    validation: Examples | None = None,
    callback: Callable[[Epoch], Any] | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> Learned:
    """Choose a plan, fit the temperature and thresholds, and train on all rows.

    Parameters
    ----------
    examples : Examples
    settings : Settings
    progress : callable
        Called with what is being done and which share of it is.
    validation : Examples, optional
        Held out from everything: plan and temperature are chosen on them.
    callback : callable, optional
        Told of each epoch of the last training; that ends where it returns True.
    checkpoint : path, optional
        File to go on from, if it is there, and to keep what is done in.

    Returns
    -------
    Learned
        Its record is the same for the same call.

    Raises
    ------
    ValueError
        If a text is not valid UTF-8, training diverges at the given learning rate, the time is
        too short for an epoch, or the checkpoint belongs to another training.
    """
    until = None if settings.minutes is None else time.monotonic() + 60 * settings.minutes
    rows = len(examples)
    everything = examples if validation is None else examples.join(validation)
    whole = Workshop(everything, settings, progress, learn=rows)
    fingerprints = _core.fingerprints(buffers(everything.texts))
    fingerprint = _fingerprint(fingerprints, everything)
    keeper, choice = None, None
    if checkpoint is not None:
        keeper = Checkpoint(checkpoint, [_core.__version__, fingerprint, rows, lasting(settings)])
        arrays = keeper.load()
        if "choice" in keeper.state:
            choice = Choice.from_json(keeper.state["choice"])
            if HELD[0] in arrays:
                keeper.fixed = {name: arrays[name] for name in HELD}
                choice.held = HeldRows(*keeper.fixed.values())
    if choice is None:
        choice = choose(whole, fingerprints, until)
        if keeper is not None:
            if choice.held is not None:
                keeper.fixed = dict(zip(HELD, vars(choice.held).values(), strict=True))
            keeper.keep(choice=choice.to_json())
    held = np.arange(rows, len(everything), dtype=np.uint32)
    watched = watch(everything, held, VALIDATED) if len(held) else Watch()
    watched = replace(watched, callback=callback, until=until, checkpoint=keeper)
    if len(held):
        watched = replace(watched, patience=settings.early_stopping)
    learned = np.arange(rows, dtype=np.uint32)
    plan, trained = _train_steadily(whole, choice.plan, learned, "training", watched)
    if len(held):
        ngrams = whole.ngrams(trained.blocks[0], held)
        held_out = HeldOut(everything, held, whole.logits(trained, held), ngrams=ngrams).calibrate()
        choice.learn_from(held_out, calibrate=settings.calibrate)
    record = _record(whole, fingerprints, fingerprint, choice, plan, trained)
    return Learned(trained, choice.calibration, record, choice.held)


def _record(
    whole: Workshop,
    fingerprints: NDArray[np.uint64],
    fingerprint: str,
    choice: Choice,
    plan: Plan,
    trained: Trained,
) -> dict[str, Any]:
    rows, everything = whole.learn, whole.examples
    epochs = [asdict(epoch) for epoch in trained.epochs]
    if len(choice.curve) == len(epochs) and plan == choice.plan:
        for epoch, loss in zip(epochs, choice.curve, strict=True):
            epoch["held_out_loss"] = loss
    record: dict[str, Any] = {
        "rows": rows,
        "text_bytes": _size(everything.texts.slice(0, rows)),
        "fingerprint": fingerprint,
        "plan": plan.to_json(),
        "batch": whole.batch,
        "least_document_frequency": {block.name: block.least for block in trained.blocks},
        "epochs": epochs,
        "search": choice.tried,
        "held_out": choice.held_out,
        "contradictions": _contradictions(fingerprints[:rows], _kinds(everything)[:rows]),
        "never_predicted": choice.never_predicted,
    }
    if rows < len(everything):
        known = np.isin(fingerprints[rows:], fingerprints[:rows])
        record["validation"] = {"rows": len(everything) - rows, "trained_on": int(known.sum())}
    if everything.lesson is not None:
        taught = {"temperature": everything.lesson.temperature, "labelled_rows": everything.lesson.labelled}
        record["teacher"] = taught
    if everything.sets is not None:
        record["guessing"] = round(everything.guessing(0.0), 6)
    return record


def choose(whole: Workshop, fingerprints: NDArray[np.uint64], until: float | None) -> Choice:
    """Search for a plan, on a part of large data, and take the temperature from rows held out."""
    settings, examples, rows = whole.settings, whole.examples, whole.learn
    choice = Choice(usual_plan(settings))
    chosen = (settings.learning_rate, settings.epochs, settings.label_smoothing)
    fixed = len(settings.char_ngrams) == 1 and None not in chosen
    validated = rows < len(examples)
    if fixed and (validated or not settings.calibrate):
        return choice
    # Of large data the search sees one of so many shares; the first look at characters half of that.
    size = _size(examples.texts.slice(0, rows))
    shares = round(max(min(4, rows / SEARCH_ROWS), size / SEARCH_BYTES))
    shares = max(1, min(shares, rows // 2000, rows // (CLASS_ROWS * examples.classes)))
    rich = rows >= 2 * CLASS_ROWS * shares * examples.classes
    halves = 2 if rich and max(rows / shares / LOOK_ROWS, size / shares / LOOK_BYTES) >= 2 else 1
    part = deal(examples.codes[:rows], fingerprints[:rows], FOLDS * shares * halves, settings.seed)
    if examples.sets is not None and len(np.unique(fingerprints[:rows])) < FEW_TEXTS:
        part[:] = -1
    if not (validated or (part >= 0).any()):
        return choice
    until_chosen = _share_of_time(0.5, until)
    search = _search(whole, part, FOLDS * halves, until_chosen, partial=shares > 1)
    if not fixed:
        look = search
        if halves > 1 and len(settings.char_ngrams) > 1:
            look = _search(whole, part, FOLDS, until_chosen, partial=True)
        choice.plan = search.best(look.best_chars())
        choice.tried = look.record() if look is not search else []
    held_out = None
    if settings.calibrate and not validated:
        if shares > 1:
            with suppress(OutOfTimeError):
                held_out = _hold_out_of_all(whole, choice.plan, part, _share_of_time(0.5, until))
        held_out = held_out or search.held_out(choice.plan)
    choice.tried += search.record()
    if held_out is not None:
        choice.learn_from(held_out, calibrate=settings.calibrate)
    return choice


def _search(
    whole: Workshop, part: NDArray[np.int64], parts: int, until: float | None, *, partial: bool
) -> Search:
    """A search on so many parts of the rows, and on those of a validation set, if there is one."""
    examples, rows = whole.examples, whole.learn
    subset = np.flatnonzero(part < parts).astype(np.uint32)
    held = np.where(part[subset] < 0, -1, part[subset] % FOLDS)
    learned, folds = len(subset), FOLDS
    if rows < len(examples):
        given = np.arange(rows, len(examples), dtype=np.uint32)
        held = np.concatenate([np.full(learned, -1), np.zeros(len(given), np.int64)])
        subset, folds = np.concatenate([subset, given]), 1
    if len(subset) < len(examples):
        whole = Workshop(examples.take(subset), whole.settings, whole.progress, learn=learned)
    return Search(whole, held, folds, partial=partial, until=until)


def _share_of_time(share: float, until: float | None) -> float | None:
    now = time.monotonic()
    return None if until is None else now + share * (until - now)


def lasting(settings: Settings) -> dict[str, Any]:
    """The settings that make another model."""
    return {name: value for name, value in asdict(settings).items() if name not in ("threads", "minutes")}


def _size(texts: pa.LargeStringArray) -> int:
    offsets, _ = buffers(texts)
    return int(offsets[-1] - offsets[0])


def _kinds(examples: Examples) -> U32:
    """The class of each row, or a number of its set of labels."""
    if examples.sets is None:
        return examples.codes
    return np.unique(examples.sets.fingerprints(), return_inverse=True)[1].astype(np.uint32)


def _contradictions(fingerprints: NDArray[np.uint64], codes: U32) -> int:
    """Rows whose text stands elsewhere with another class, or other labels."""
    _, group = np.unique(fingerprints, return_inverse=True)
    classes = int(codes.max()) + 1
    pairs = np.unique(group.astype(np.int64) * classes + codes)
    several = np.bincount(pairs // classes) > 1
    return int(several[group].sum())


def _train_steadily(
    whole: Workshop, plan: Plan, rows: U32, what: str, watched: Watch
) -> tuple[Plan, Trained]:
    """Train; where the step size is ours and proves too large, again with a smaller one.

    Too large is one that diverges, or leaves the rows it learned from worse than guessed:
    many equal texts, which no search could hold out, can do that. Texts of which nothing
    can be learned come out about as good as guessed, whatever the step size.
    """
    ours = whole.settings.learning_rate is None
    while True:
        retry = ours and plan.learning_rate > 1e-3
        try:
            trained = whole.train(plan, rows, what, watched)
            if not retry or trained.losses[-1] <= 1.01 * whole.examples.guessing(plan.label_smoothing):
                return plan, trained
        except DivergedError:
            if not retry:
                raise
        plan = replace(plan, learning_rate=plan.learning_rate / 4)


def _hold_out_of_all(whole: Workshop, plan: Plan, part: NDArray[np.int64], until: float | None) -> HeldOut:
    """Hold a tenth of the rows out, or enough to calibrate on, from a training on all others."""
    parts = int(part.max()) + 1
    size = max(1, int((part >= 0).sum()) // parts)
    enough = max(parts // 10, -(-TO_CALIBRATE // size))
    held_parts = max(1, min(enough, parts // 5, 10_000 // size))
    held = np.flatnonzero((part >= 0) & (part < held_parts)).astype(np.uint32)
    rest = np.flatnonzero((part < 0) | (part >= held_parts)).astype(np.uint32)
    watched = watch(whole.examples, held, until=until)
    _, trained = _train_steadily(whole, plan, rest, "calibrating", watched)
    curve = [epoch.held_out_loss or 0.0 for epoch in trained.epochs]
    ngrams = whole.ngrams(trained.blocks[0], held)
    logits = whole.logits(trained, held)
    return HeldOut(whole.examples, held, logits, curve=curve, ngrams=ngrams).calibrate()


def _fingerprint(fingerprints: NDArray[np.uint64], examples: Examples) -> str:
    digest = hashlib.sha256(fingerprints.astype("<u8").tobytes())
    digest.update(examples.codes.astype("<u4").tobytes())
    if examples.sets is not None:
        digest.update(examples.sets.offsets.astype("<i8").tobytes())
        digest.update(examples.sets.ids.astype("<u4").tobytes())
    if examples.row_weights is not None:
        digest.update(examples.row_weights.astype("<f4").tobytes())
    if examples.lesson is not None:
        digest.update(examples.lesson.shares.astype("<f4").tobytes())
    return digest.hexdigest()[:32]
