"""Learning: texts and labels → weights, and the record of how they came about.

Step size, epochs and feature blocks are chosen on held-out rows by log loss
after one temperature ("refine, then calibrate"); the temperature is kept, and
the final weights learn from all rows.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core
from logitext.features import buffers
from logitext.search import HeldOut, Search, deal, usual_plan
from logitext.workshop import DivergedError, Examples, Plan, Progress, Settings, Trained, Workshop

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.workshop import U32

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
