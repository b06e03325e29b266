"""Small models: the weights that are worth their bytes, in a byte each.

What leaving a weight out does to the decisions is its *worth*, ``sqrt(df) * idf² * w²``, df the
n-gram's document frequency. (Squared changes of a logit, summed over the texts, would be ``df * idf² *
w²``; but one large change turns a decision where many small ones do not, and on held-out training
rows the root did better on five of six sets.) At a *price* for a byte an n-gram stays whole, stays
with its worthiest weights, or goes, whichever loses least in worth and bytes together. The price is
found by bisection on the size of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core, modelfile
from logitext.calibration import Calibration, fit_temperature
from logitext.evaluation import accuracy
from logitext.logits import argmax
from logitext.model import NAMED_PER_CLASS, Model, calibrated, named_arrays
from logitext.modelschema import CALIBRATION, EVIDENCE, bucket_bits, format_version
from logitext.multilabel import decide, exact, fit_sigmoid
from logitext.search import HeldOut
from logitext.weights import Kept, Weights, id_type, plain, quantised, rows_of, strongest, values_of

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    import pyarrow as pa
    from numpy.typing import NDArray

    from logitext.weights import F32
    from logitext.workshop import Examples

__all__ = ["compress"]

NAMES = 20
"""Names of n-grams take a twentieth of the file at most."""
MATRIX_UP_TO = 8
"""Classes: of so few an n-gram keeps all its weights, since to say which costs as much."""
STEPS = 26
"""Of the bisection."""
OF_NGRAM = 8 + 4 + 1
"""Bytes of a hash, a document frequency and an exponent. The index is not counted in the price."""
OF_PLACE = 8
"""Bytes more where rows have their own length."""
ROWS = 1 << 14
"""Rows looked at together."""
SPARE, OF_LABEL = 1024, 48
"""Bytes kept for what the header will say of the compressing, and of each label's threshold."""
NAMED = ("named_features", "named_offsets", "named_text")


@dataclass(frozen=True)
class Pick:
    """What stays: rows with a weight for every class, rows with some."""

    whole: NDArray[np.bool_]
    some: NDArray[np.bool_]
    entries: Entries | None
    """The weights of the second. None: the weights are a matrix, and there are no such rows."""
    lost: float

    @property
    def stays(self) -> NDArray[np.bool_]:
        return self.whole | self.some


@dataclass(frozen=True)
class Entries:
    """Weights one by one, by rising row."""

    rows: NDArray[Any]
    classes: NDArray[Any]
    values: F32
    worth: F32

    def take(self, chosen: NDArray[np.bool_]) -> Entries:
        return Entries(self.rows[chosen], self.classes[chosen], self.values[chosen], self.worth[chosen])


class Stock:
    """The weights of a model and what they are worth."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weights = plain(model.weights)
        self.classes, self.features = len(model.classes), len(model.arrays["hashes"])
        frequency = model.arrays["document_frequency"].astype(np.float64)
        documents = max(model.header["features"]["documents"], 1)
        idf = 1 + np.log((1 + documents) / (1 + frequency))
        self.scale = np.sqrt(frequency) * np.square(idf)
        self.common = np.zeros(self.features, np.float32)
        if model.thresholds is None:
            self._take_medians()
        self.lost = np.zeros(self.features)
        """The worth of whole rows: softmax does not see what all classes have in common."""
        for rows in self._steps():
            block = self.rows(rows).astype(np.float64)
            squares = np.square(block).sum(axis=1)
            if model.thresholds is None:
                squares -= np.square(block.sum(axis=1)) / self.classes
            self.lost[rows] = self.scale[rows] * np.maximum(squares, 0)

    def _steps(self) -> list[NDArray[np.intp]]:
        return [np.arange(at, min(at + ROWS, self.features)) for at in range(0, self.features, ROWS)]

    def _take_medians(self) -> None:
        """What is taken from all weights of a row alike, so that most are near 0."""
        for rows in self._steps():
            # A row that is not full has a weight of 0 for most classes.
            full = rows[self.weights.is_full[rows]] if isinstance(self.weights, Kept) else rows
            self.common[full] = np.median(rows_of(self.weights, full), axis=1)

    def rows(self, rows: NDArray[Any]) -> F32:
        """Return rows with a weight for every class."""
        found: F32 = rows_of(self.weights, rows) - self.common[rows, None]
        return found

    def entries(self) -> Entries:
        """Return all weights that are not 0."""
        parts = [(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32))]
        for rows in self._steps():
            block = self.rows(rows)
            row, code = np.nonzero(block)
            parts.append((rows[row].astype(np.uint32), code.astype(np.uint32), block[row, code]))
        row, code, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        worth = (self.scale[row] * np.square(values)).astype(np.float32)
        return Entries(row, code, values, worth)

    def matrix(self, fits: Callable[[Pick], bool]) -> Pick:
        """Return the most that fits of whole rows."""
        nothing = np.zeros(self.features, bool)

        def pick(price: float, _: float) -> Pick:
            whole = self.lost > price * (OF_NGRAM + self.classes)
            return Pick(whole, nothing, None, float(self.lost[~whole].sum()))

        return self._bisect(pick, fits)

    def kept(self, fits: Callable[[Pick], bool]) -> Pick:
        """Return the most that fits of rows with all or some of their weights."""
        entries = self.entries()
        # In the same order as the parts of it below: what is left of nothing is exactly 0.
        worth = np.bincount(entries.rows, entries.worth, self.features)
        of_weight = 1 + np.dtype(id_type(self.classes)).itemsize
        of_row = OF_NGRAM + OF_PLACE

        def pick(price: float, lowest: float) -> Pick:
            nonlocal entries
            if lowest > 0:  # what was not worth less is not worth more
                entries = entries.take(entries.worth > of_weight * lowest)
            chosen = entries.worth > of_weight * price
            rows = entries.rows[chosen]
            count = np.bincount(rows, minlength=self.features)
            left = np.maximum(worth - np.bincount(rows, entries.worth[chosen], self.features), 0)
            in_part = np.where(count > 0, left + price * (of_row + of_weight * count), np.inf)
            in_full = np.full(self.features, price * (of_row + self.classes))
            whole = (in_full <= self.lost) & (in_full <= in_part)
            some = (in_part < self.lost) & ~whole
            lost = float(self.lost[~(whole | some)].sum() + left[some].sum())
            return Pick(whole, some, entries.take(chosen & some[entries.rows]), lost)

        return self._bisect(pick, fits)

    def _bisect(self, pick: Callable[[float, float], Pick], fits: Callable[[Pick], bool]) -> Pick:
        """Return what is picked at the lowest price at which it fits; `pick` is told what was too low."""
        high = float(self.lost.max(initial=0.0)) + 1e-30
        low, best = high * 1e-12, pick(high, 0.0)
        if fits(everything := pick(low, 0.0)):
            return everything
        for _ in range(STEPS):
            price = math.sqrt(low * high)
            found = pick(price, low)
            if fits(found):
                high, best = price, found
            else:
                low = price
        return best


def _shapes(model: Model, pick: Pick, named: tuple[int, int]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The header and the shapes of the arrays of what was picked, for its size."""
    sizes, first = [], 0
    for block in model.header["features"]["blocks"]:
        last = first + block["features"]
        sizes.append({**block, "features": int(pick.stays[first:last].sum())})
        first = last
    rows, whole, classes = sum(size["features"] for size in sizes), int(pick.whole.sum()), len(model.classes)
    shapes = {
        "hashes": [rows],
        "named_offsets": [named[0] + 1],
        "bias": [classes],
        "weights": [rows, classes],
        "buckets": [sum(2 ** bucket_bits(size["features"]) + 1 for size in sizes)],
        "document_frequency": [rows],
        "named_features": [named[0]],
        "named_text": [named[1]],
        "weight_exponents": [rows],
    }
    if pick.entries is not None:
        ids = len(pick.entries.rows)
        shapes |= {"weights": [whole * classes + ids], "weight_rows": [rows + 1, 2], "weight_classes": [ids]}
    features = {**model.header["features"], "blocks": sizes}
    return {**model.header, "features": features, "format_version": format_version(shapes)}, shapes


def _size(model: Model) -> int:
    return modelfile.size(model.header, {name: list(array.shape) for name, array in model.arrays.items()})


def _bare(model: Model) -> Model:
    """The model without what it knows of held-out rows: with fewer n-grams it no longer holds.

    Of its calibration the temperature stays.
    """
    dropped = {*EVIDENCE, *CALIBRATION.values()}
    arrays = {name: array for name, array in model.arrays.items() if name not in dropped}
    header = {name: said for name, said in model.header.items() if name != "evidence"}
    if model.calibrator is not None:
        stale = {"stale": True} if header["calibration"].get("stale") else {}
        header["calibration"] = {"method": "temperature", "temperature": model.temperature, **stale}
    return Model(arrays, header)


def _small(model: Model, most: int) -> Model:
    """The model with what is worth most within so many bytes."""
    stock = Stock(model)
    room = most - SPARE - (OF_LABEL * stock.classes if model.thresholds is not None else 0)
    nothing = np.zeros(stock.features, bool)
    least = modelfile.size(*_shapes(model, Pick(nothing, nothing, None, 0.0), (0, 0)))
    if least > room:
        least += most - room
        raise ValueError(
            f"max_size is {most:,} bytes; header and bias alone take up to {least:,}: no less will do"
        )
    names = min(room // NAMES, room - least, sum(model.arrays[name].nbytes for name in NAMED))

    def fits(pick: Pick) -> bool:
        return modelfile.size(*_shapes(model, pick, (0, 0))) + names <= room

    many = isinstance(stock.weights, Kept)
    picks = [] if stock.classes <= MATRIX_UP_TO and not many else [stock.kept(fits)]
    picks += [] if many else [stock.matrix(fits)]
    pick = min(picks, key=lambda pick: pick.lost)
    weights = quantised(_weights(stock, pick))
    header, shapes = _shapes(model, pick, (0, 0))
    stays = np.flatnonzero(pick.stays)
    hashes = model.arrays["hashes"][stays]
    ends = np.cumsum([block["features"] for block in header["features"]["blocks"]])[:-1]
    arrays = {
        "weights": values_of(weights.stored),
        "weight_exponents": weights.exponents,
        "bias": np.array(model.arrays["bias"]),
        "hashes": hashes,
        "document_frequency": model.arrays["document_frequency"][stays],
        "buckets": np.concatenate(
            [_core.buckets(np.ascontiguousarray(part)) for part in np.split(hashes, ends)]
        ),
    }
    if isinstance(weights.stored, Kept):
        arrays |= {"weight_rows": weights.stored.places, "weight_classes": weights.stored.ids}
    arrays |= _named(model, plain(weights), stays, room - modelfile.size(header, shapes))
    return Model(arrays, header)


def _weights(stock: Stock, pick: Pick) -> Weights:
    """The weights of the rows that stay, still as floats."""
    whole = stock.rows(np.flatnonzero(pick.whole))
    if pick.entries is None:
        return whole
    stays, classes = np.flatnonzero(pick.stays), stock.classes
    numbered = np.bincount(pick.entries.rows, minlength=stock.features)[stays]
    is_whole = pick.whole[stays]
    lengths = np.where(is_whole, classes, numbered)
    values = np.empty(int(lengths.sum()), np.float32)
    in_whole = np.repeat(is_whole, lengths)
    values[in_whole], values[~in_whole] = whole.reshape(-1), pick.entries.values
    places = np.zeros((len(stays) + 1, 2), np.uint32)
    places[1:, 0], places[1:, 1] = np.cumsum(lengths), np.cumsum(numbered)
    return Kept(places, pick.entries.classes.astype(id_type(classes)), values, classes)


def _named(model: Model, weights: Weights, stays: NDArray[np.intp], room: int) -> dict[str, NDArray[Any]]:
    """As many of the strongest n-grams of each class, by name, as there is room for."""
    known = model.names()

    def named(most: int) -> dict[str, NDArray[Any]]:
        rows = strongest(weights, most).tolist()
        return named_arrays({row: known[old] for row in rows if (old := int(stays[row])) in known})

    def fits(arrays: dict[str, NDArray[Any]]) -> bool:
        # The table of arrays grows by some digits, and by padding.
        return sum(array.nbytes for array in arrays.values()) + 64 <= room

    low, high, best = 0, NAMED_PER_CLASS + 1, named_arrays({})
    while high - low > 1:
        most = (low + high) // 2
        if fits(found := named(most)):
            low, best = most, found
        else:
            high = most
    return best


def compress(
    model: Model, most: int, texts: pa.LargeStringArray | None, labelled: Examples | None, *, threads: int
) -> Model:
    """Return a model whose file has at most so many bytes.

    Parameters
    ----------
    model : Model
    most : int
        Bytes.
    texts : pyarrow.LargeStringArray, optional
        On these the small model is compared with the large one. Without them the calibration
        stays, marked as stale.
    labelled : Examples, optional
        The same texts with labels, if the model was not trained on them: what to calibrate on.
    threads : int

    Returns
    -------
    Model
        The model itself if it is small enough. Else another one, the same each time; its record
        says what it cost: see `logitext.TextClassifier.compress`.

    Raises
    ------
    ValueError
        If header and bias alone are larger.
    """
    before = _size(model)
    if before <= most:
        return model
    small = _small(_bare(model), most)
    record: dict[str, Any] = {
        "max_size": most,
        "bytes": [before, most],
        "ngrams": [len(each.arrays["hashes"]) for each in (model, small)],
        "weights": [each.arrays["weights"].size for each in (model, small)],
    }
    calibration = model.header["calibration"]
    kept = _bare(model).header["calibration"]
    said: dict[str, Any] = {"calibration": kept and {**kept, "stale": True}}
    if texts is not None and len(texts):
        z = model.logits(texts, threads), small.logits(texts, threads)
        if calibration is not None:
            several = model.thresholds is not None
            if labelled is None:
                said = calibrated(_follow(model, *z), model.classes, multilabel=several)
                said["calibration"] |= {"stale": True} if calibration.get("stale") else {}
            else:
                rows = np.arange(len(labelled), dtype=np.uint32)
                found = HeldOut(labelled, rows, z[1]).calibrate().calibration
                said = calibrated(found, model.classes, multilabel=several)
        record |= _compared(model.thresholds, _thresholds(said), *z, labelled)
    training = {name: part for name, part in model.header["training"].items() if name != "compressed"}
    for _ in range(4):  # its own size is part of what it says
        header = {**small.header, **said, "training": {**training, "compressed": record}}
        small = replace(small, header=header)
        record = {**record, "bytes": [before, _size(small)]}
    return small


def _thresholds(said: dict[str, Any]) -> NDArray[np.float32] | None:
    return np.array(said["thresholds"], np.float32) if "thresholds" in said else None


def _follow(model: Model, full: F32, small: F32) -> Calibration:
    """A calibration by which the small model means what the full one does.

    Of rows it learned from the full model is surer than of others, by n-grams that stand in few texts: the
    first to go. To follow it there would be too sure elsewhere, to keep its temperature not sure enough.
    Half-way, in logarithms, log loss on held-out training rows was within 1.4 % of the best temperature's.
    """
    meant = model.probabilities(full)
    if model.thresholds is None:
        return Calibration(math.sqrt(model.temperature * fit_temperature(small, meant)))
    temperature, shift = fit_sigmoid(small, meant)
    temperature, shift = math.sqrt(model.temperature * temperature), (model.shift + shift) / 2
    # A label is given from the same probability on.
    calm = model.thresholds.astype(np.float64) / model.temperature + model.shift
    return Calibration(temperature, shift, ((calm - shift) * temperature).astype(np.float32))


def _compared(
    before: NDArray[np.float32] | None,
    after: NDArray[np.float32] | None,
    full: F32,
    small: F32,
    labelled: Examples | None,
) -> dict[str, Any]:
    """How often both decide alike and, where there are labels, right."""
    found: dict[str, Any] = {"rows": len(full)}
    if before is None:
        found["agreement"] = float((argmax(full) == argmax(small)).mean())
        if labelled is not None:
            found["accuracy"] = [accuracy(z, labelled.codes) for z in (full, small)]
        return found
    given = decide(full, before), decide(small, before if after is None else after)
    found["agreement"] = float(exact(*given).mean())
    if labelled is not None and labelled.sets is not None:
        found["accuracy"] = [float(exact(labelled.sets, sets).mean()) for sets in given]
    return found
