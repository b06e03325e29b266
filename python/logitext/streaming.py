"""Training on more text than memory holds: read once, dealt to files, counted and trained part by part."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.calibration import Calibration
from logitext.checkpoints import Checkpoint
from logitext.epochs import Clock, Epoch, Standing, Watch
from logitext.features import Block, buffers, count_block, look_up, recipe
from logitext.gathering import Stream
from logitext.layers import DenseLayer, Layer
from logitext.search import HeldOut, watch
from logitext.spill import Spill
from logitext.training import VALIDATED, Learned, choose, lasting
from logitext.weights import Kept
from logitext.workshop import (
    WEIGHT_BYTES,
    Examples,
    Plan,
    Progress,
    Settings,
    Trained,
    Workshop,
    close,
    keep,
    resumed,
)

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["fit_stream"]

PART_BYTES = 16 << 20
"""Text that is counted and trained on at a time; its features take about twenty times as much."""
SAMPLE_BYTES = 24 << 20
"""Text the plan is chosen on."""
HELD = 10_000
"""Rows held out, at most, for the plan and the temperature."""
BATCH = 64
"""Rows of a batch, as for all large data."""
ALL = (1 << 60, 1, 0)
"""Room for every n-gram: see `count_block`."""
MOST_COUNTED = 1 << 23
"""N-grams counted at a time: beyond, the rarest so far are forgotten."""


@dataclass
class Parts:
    """The rows of a spill as examples of sorted classes, without those held out."""

    spill: Spill
    codes: NDArray[np.uint32]
    """The class of each of the spill's codes."""
    weights: NDArray[np.float32] | None
    """Of each class."""
    classes: int
    held: Examples | None = None
    below: int = 0
    """Rows of the first part whose fingerprint ends lower are held out."""

    def rows(self, part: int) -> int:
        return self.spill.rows[part] - (len(self.held) if self.held is not None and part == 0 else 0)

    @property
    def total(self) -> int:
        return sum(self.rows(part) for part in range(self.spill.parts))

    def read(self, part: int) -> Iterator[Examples]:
        """The rows of a part to learn from, in slices."""
        for texts, codes in self.spill.read(part, PART_BYTES):
            examples = self._examples(texts, codes)
            if part == 0 and self.held is not None:
                rest = np.flatnonzero(~self._chosen(examples)).astype(np.uint32)
                examples = examples.take(rest)
            if len(examples):
                yield examples

    def _examples(self, texts: pa.LargeStringArray, codes: NDArray[np.uint32]) -> Examples:
        classes = self.codes[codes]
        weights = None if self.weights is None else self.weights[classes]
        return Examples(texts, classes, self.classes, weights)

    def _chosen(self, examples: Examples) -> NDArray[np.bool_]:
        ends = _core.fingerprints(buffers(examples.texts)) & np.uint64(0xFFFF_FFFF)
        return ends < np.uint64(self.below)

    def hold_out(self) -> None:
        """Keep some rows of the first part, equal texts together, from being trained on."""
        first = [self._examples(*columns) for columns in self.spill.read(0, 1 << 40)]
        examples = first[0] if first else None
        if examples is None or len(examples) < 20:
            return
        ends = _core.fingerprints(buffers(examples.texts)) & np.uint64(0xFFFF_FFFF)
        most = min(HELD, len(examples) // 2)
        self.below = int(np.sort(ends)[most])
        chosen = np.flatnonzero(self._chosen(examples)).astype(np.uint32)
        if len(chosen):
            self.held = replace(examples.take(chosen), row_weights=None)


def fit_stream(
    stream: Stream,
    settings: Settings,
    progress: Progress,
    *,
    class_weights: Callable[[list[Any], NDArray[np.uint32]], NDArray[np.float32] | None],
    validation: Callable[[list[Any]], Examples] | None = None,
    callback: Callable[[Epoch], Any] | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> tuple[Learned, list[Any], pa.LargeStringArray]:
    """Train on the rows of a spill.

    The plan is chosen on a part of the rows, the temperature fitted on up to 10,000 that are never
    trained on. N-grams are counted part by part; each epoch reads all parts once, in another order.

    Parameters
    ----------
    stream : Stream
        With a spill.
    settings : Settings
    progress : callable
    class_weights : callable
        Classes and rows of each → the weight of each, or None.
    validation : callable, optional
        Classes → rows to hold out instead.
    callback, checkpoint : as for `logitext.training.fit`

    Returns
    -------
    learned : Learned
        As `logitext.training.fit`.
    classes : list
    texts : pyarrow.LargeStringArray
        Some of the texts, for the names of n-grams.

    Raises
    ------
    ValueError
        As `logitext.training.fit`; and if there is one class only or a label is empty.
    """
    assert stream.spill is not None
    until = None if settings.minutes is None else time.monotonic() + 60 * settings.minutes
    names = _sorted(stream.names)
    place = {name: code for code, name in enumerate(names)}
    codes = np.array([place[name] for name in stream.names], np.uint32)
    counts = np.zeros(len(names), np.uint32)
    counts[codes] = stream.counts
    parts = Parts(stream.spill, codes, class_weights(names, counts), len(names))
    if validation is None:
        parts.hold_out()
    held = validation(names) if validation is not None else parts.held
    sample = _sample(parts)
    everything = sample if held is None else sample.join(held)
    whole = Workshop(everything, settings, progress, learn=len(sample))
    prints = _core.fingerprints(buffers(everything.texts))
    given = "" if validation is None else hashlib.sha256(prints[len(sample) :].tobytes()).hexdigest()
    keeper: Checkpoint | None = None
    arrays: dict[str, Any] = {}
    saved: dict[str, Any] = {}
    if checkpoint is not None:
        key = [_core.__version__, "streamed", stream.fingerprint, given, lasting(settings)]
        keeper = Checkpoint(checkpoint, key)
        arrays, saved = keeper.load(), keeper.state
    if "plan" in saved:
        plan, tried = Plan.from_json(saved["plan"]), saved["tried"]
    else:
        choice = choose(whole, prints, until)
        plan, tried = _spread(choice.plan, len(sample), parts.total, settings), choice.tried
    tables = _tables(parts, plan, settings, arrays, progress)
    blocks = [
        _block(name, ngrams, *tables[name], parts.total, sample, settings)
        for name, ngrams in _wanted(plan, settings)
    ]
    if keeper is not None:
        for name, (hashes, frequency) in tables.items():
            keeper.fixed |= {f"{name}_hashes": hashes, f"{name}_frequency": frequency}
        if "plan" not in saved:
            keeper.keep(plan=plan.to_json(), tried=tried)
    judge = None if held is None else _workshop(held, blocks, settings, progress)
    if judge is not None:
        judge.learn = 0  # none of their n-grams was counted
    watched = Watch() if held is None else watch(held, np.arange(len(held), dtype=np.uint32), VALIDATED)
    watched = replace(watched, callback=callback, until=until, checkpoint=keeper)
    watched = replace(watched, patience=settings.early_stopping if validation is not None else None)
    trained = _train(parts, plan, settings, progress, blocks, watched, judge)
    temperature, held_out = 1.0, None
    if held is not None and judge is not None:
        rows = np.arange(len(held), dtype=np.uint32)
        ngrams = judge.ngrams(blocks[0], rows)
        held_out = HeldOut(held, rows, judge.logits(trained, rows), ngrams=ngrams).calibrate()
        temperature = held_out.temperature if settings.calibrate else 1.0
    record: dict[str, Any] = {
        "rows": parts.total,
        "text_bytes": stream.bytes,
        "fingerprint": stream.fingerprint,
        "streamed": True,
        "plan": plan.to_json(),
        "batch": BATCH,
        "least_document_frequency": {block.name: block.least for block in blocks},
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "search": tried,
        "held_out": held_out and held_out.record(Calibration(temperature)),
        "never_predicted": held_out.never_predicted() if held_out else [],
    }
    if validation is not None and held is not None:
        record["validation"] = {
            "rows": len(held),
            "trained_on": int(np.isin(prints[len(sample) :], prints[: len(sample)]).sum()),
        }
    kept = held_out.kept if held_out is not None and settings.calibrate else None
    return Learned(trained, Calibration(temperature), record, kept), names, sample.texts


def _sorted(names: tuple[Any, ...]) -> list[Any]:
    if "" in names:
        raise ValueError("a label is empty")
    if len(names) < 2:
        raise ValueError(f"there must be at least two classes, got only {names[0]!r}")
    return sorted(names)


def _sample(parts: Parts) -> Examples:
    found: Examples | None = None
    for part in range(parts.spill.parts):
        for examples in parts.read(part):
            found = examples if found is None else _together(found, examples)
            offsets, _ = buffers(found.texts)
            if offsets[-1] - offsets[0] >= SAMPLE_BYTES:
                return found
    assert found is not None
    return found


def _together(first: Examples, second: Examples) -> Examples:
    joined = first.join(second)
    weights = (first.row_weights, second.row_weights)
    if weights[0] is None or weights[1] is None:
        return joined
    return replace(joined, row_weights=np.concatenate([weights[0], weights[1]]))


def _spread(plan: Plan, sample: int, rows: int, settings: Settings) -> Plan:
    """Of many times as many rows fewer passes do: the root of it, at least two."""
    if settings.epochs is not None:
        return plan
    return replace(plan, epochs=min(plan.epochs, max(2, round(plan.epochs * (sample / rows) ** 0.5))))


def _wanted(plan: Plan, settings: Settings) -> list[tuple[str, tuple[int, int]]]:
    both = [("words", settings.word_ngrams), ("chars", plan.char_ngrams)]
    return [(name, ngrams) for name, ngrams in both if ngrams]


Tables = dict[str, tuple["NDArray[np.uint64]", "NDArray[np.uint32]"]]


def _tables(
    parts: Parts, plan: Plan, settings: Settings, saved: dict[str, Any], progress: Progress
) -> Tables:
    """Hashes and document frequencies of each block, in all parts."""
    wanted = _wanted(plan, settings)
    if saved and all(f"{name}_hashes" in saved for name, _ in wanted):
        return {name: (saved[f"{name}_hashes"], saved[f"{name}_frequency"]) for name, _ in wanted}
    counted: Tables = {name: (np.zeros(0, np.uint64), np.zeros(0, np.uint32)) for name, _ in wanted}
    for part in range(parts.spill.parts):
        for examples in parts.read(part):
            for name, ngrams in wanted:
                how = recipe(name, settings.tokens, ngrams)
                found = _core.count(buffers(examples.texts), how, name, 1, ALL, settings.threads)
                merged = _core.merge_counts(*counted[name], *found[:2])
                counted[name] = _cut(*merged, MOST_COUNTED)
        progress("counting", (part + 1) / parts.spill.parts)
    blocks = bool(settings.word_ngrams) + any(settings.char_ngrams)
    most = WEIGHT_BYTES // (4 * parts.classes * blocks)
    return {name: _cut(*table, most, least=2) for name, table in counted.items()}


def _cut(
    hashes: NDArray[np.uint64], frequency: NDArray[np.uint32], most: int, least: int = 1
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """At most so many: the rarest go, and all as rare as one that goes."""
    if len(hashes) > most:
        least = max(
            least, int(np.partition(frequency, len(frequency) - most - 1)[len(frequency) - most - 1]) + 1
        )
    if least <= 1:
        return hashes, frequency
    kept = frequency >= least
    return hashes[kept], frequency[kept]


def _block(
    name: str,
    ngrams: tuple[int, int],
    hashes: NDArray[np.uint64],
    frequency: NDArray[np.uint32],
    documents: int,
    sample: Examples,
    settings: Settings,
) -> Block:
    """A block of all parts' n-grams; where they are first seen is looked for in the sample."""
    seen = count_block(sample.texts, settings.tokens, name, ngrams, room=ALL, threads=settings.threads)
    first_row = np.zeros(len(hashes), np.uint32)
    if len(seen):
        at = np.minimum(np.searchsorted(seen.hashes, hashes), len(seen) - 1)
        there = seen.hashes[at] == hashes
        first_row[there] = seen.first_row[at[there]]
    nothing = (hashes, np.zeros(8, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    least = int(frequency.min()) if len(frequency) else 1
    return Block(name, settings.tokens, ngrams, hashes, frequency, first_row, documents, nothing, least)


def _workshop(examples: Examples, blocks: list[Block], settings: Settings, progress: Progress) -> Workshop:
    known = [replace(b, lists=look_up(examples.texts, b, threads=settings.threads)) for b in blocks]
    shop = Workshop(examples, settings, progress, known=known)
    shop.batch = BATCH
    return shop


def _train(
    parts: Parts,
    plan: Plan,
    settings: Settings,
    progress: Progress,
    blocks: list[Block],
    watched: Watch,
    judge: Workshop | None,
) -> Trained:
    shape = (sum(map(len, blocks)), parts.classes)
    trained = Trained(blocks, np.zeros(shape, np.float32), np.zeros(shape[1], np.float32))
    standing, best = Standing(), None
    if watched.checkpoint is not None:
        standing, trained, best = resumed(watched.checkpoint, plan, trained)
    rows = parts.total
    clock = Clock(watched.until, rows * plan.epochs)
    assert not isinstance(trained.weights, Kept)  # a matrix, however many classes: parts share no support
    layer: Layer = DenseLayer([], trained.weights, trained.bias)
    while len(standing.epochs) < plan.epochs and not clock.over and not standing.over:
        epoch, skip = len(standing.epochs), standing.sums.rows
        for examples, seed in _epoch(parts, epoch, settings.seed, skip):
            if clock.over:
                break
            shop = _workshop(examples, blocks, settings, progress)
            order = _core.shuffle(len(examples), seed)
            seen = epoch * rows + standing.sums.rows
            layer = shop.layer(trained, order)
            for _ in shop.run(layer, standing, plan, order, seen, clock, "training"):
                pass
            if watched.checkpoint is not None and watched.checkpoint.due:
                keep(watched.checkpoint, plan, trained, standing, best)
        clock.check(standing, rows)
        if standing.sums.rows:
            best = close(trained, layer, standing, plan, watched, best, judge)
    if watched.checkpoint is not None:
        keep(watched.checkpoint, plan, trained, standing, best)
    return replace(best or trained, epochs=standing.epochs)


def _epoch(parts: Parts, epoch: int, seed: int, skip: int) -> Iterator[tuple[Examples, int]]:
    """The slices of all parts in this epoch's order, without the rows done, each with a seed of its own."""
    mixed = (seed << 20) + epoch
    for part in _core.shuffle(parts.spill.parts, mixed).tolist():
        if skip >= parts.rows(part):
            skip -= parts.rows(part)
            continue
        for at, examples in enumerate(parts.read(part)):
            if skip >= len(examples):
                skip -= len(examples)
                continue
            yield examples, (mixed << 20) + (part << 10) + at
