"""A trained model: arrays and a header, as they stand in the model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import _core, modelfile
from logitext.calibration import Calibration
from logitext.cautions import cautions
from logitext.evidence import HeldRows
from logitext.explanation import Explanation, Share
from logitext.features import Block, arrow_strings, buffers
from logitext.judging import Judged, check_finite, judged
from logitext.modelschema import format_version
from logitext.weights import Kept, Quantised, Stored, as_core, column_of, rows_of, strongest, values_of
from logitext.workshop import Settings, Trained

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

NAMED_PER_CLASS = 100
"""The strongest n-grams of each class are kept with their spelling."""
NAMED = 30_000
"""All together, so far as each class has three."""
LONGEST_NAME = 200
"""A text may be one word of 100 MB: of its name the beginning is kept, in characters."""


class Model(Judged):
    """Arrays by name (see `logitext.modelschema`) and what the header says of them."""

    @property
    def features(self) -> dict[str, Any]:
        """How text becomes features, and how many of each block are known."""
        return dict(self.header["features"])

    @property
    def weights(self) -> Stored:
        """A matrix, or rows kept to some classes; of a compressed model in bytes."""
        arrays = self.arrays
        stored: Any = arrays["weights"]
        if "weight_rows" in arrays:
            stored = Kept(arrays["weight_rows"], arrays["weight_classes"], stored, len(arrays["bias"]))
        exponents = arrays.get("weight_exponents")
        return stored if exponents is None else Quantised(stored, exponents)

    @property
    def fingerprint(self) -> str:
        """The checksum that its file has, or would have."""
        return modelfile.fingerprint(self.arrays, self.header)

    def first_row(self, block: str) -> int:
        """Return the row of the weights where a block begins."""
        first = 0
        for said in self.header["features"]["blocks"]:
            if said["name"] == block:
                break
            first += said["features"]
        return first

    def layer(self) -> _core.Layer:
        """Return the arrays as the core takes them, none of them copied."""
        arrays, features = self.arrays, self.header["features"]
        ranges = (features["word_ngrams"], features["char_ngrams"])
        words, chars = (None if r is None else (int(r[0]), int(r[1])) for r in ranges)
        tables: list[_core.Table] = []
        first = bucket = 0
        for block in features["blocks"]:
            last = first + block["features"]
            buckets = bucket + (1 << modelfile.bucket_bits(block["features"])) + 1
            hashes, frequency = arrays["hashes"][first:last], arrays["document_frequency"][first:last]
            tables.append((block["name"], hashes, arrays["buckets"][bucket:buckets], frequency))
            first, bucket = last, buckets
        text = (features["tokens"], words, chars)
        return (text, tables, features["documents"], as_core(self.weights), arrays["bias"], self.desks)

    @cached_property
    def desks(self) -> _core.Desks:
        """Words met in earlier calls, what is known of their n-grams: a few MB for each thread at work."""
        return _core.Desks()

    def logits(self, texts: pa.LargeStringArray, threads: int) -> NDArray[np.float32]:
        """Return logits, shape (n, n_classes).

        Raises
        ------
        ValueError
            If the weights give one that is not finite.
        """
        return logits_by([(self, None)], texts, threads)[0]

    def read(
        self, texts: pa.LargeStringArray, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and, from the same reading, how much of each text is known and how much is not.

        Returns
        -------
        logits : float32 array, shape (n, n_classes)
        ngrams : float32 array, shape (n, 2)
            Of words; of a model without words, of characters. See `logitext.features.known_ngrams`.
        """
        return read_by([self], texts, threads)[0]

    def explain(self, text: str) -> Explanation:
        """Return what each n-gram of a text adds to each logit."""
        z = self.logits(arrow_strings([text]), threads=1)[0]
        names, rows, values = _core.features(text, self.layer())
        known = rows >= 0
        return Explanation(
            classes=self.classes,
            logits=z,
            bias=np.array(self.arrays["bias"]),
            ngrams=[name for name, yes in zip(names, known, strict=True) if yes],
            blocks=[self._block_of(int(row)) for row in rows[known]],
            contributions=values[known, None] * rows_of(self.weights, rows[known]),
            unknown=[name for name, yes in zip(names, known, strict=True) if not yes],
            thresholds=self.thresholds,
        )

    def names(self) -> dict[int, str]:
        """Return the n-grams known by name, by their row."""
        rows, offsets = self.arrays["named_features"].tolist(), self.arrays["named_offsets"].tolist()
        text = self.arrays["named_text"].tobytes()
        return {row: text[a:b].decode() for row, a, b in zip(rows, offsets[:-1], offsets[1:], strict=True)}

    def strongest_ngrams(self, code: int, most: int) -> list[Share]:
        """Return the n-grams with the largest positive weights for a class, largest first."""
        rows, offsets = self.arrays["named_features"], self.arrays["named_offsets"]
        text = self.arrays["named_text"].tobytes()
        weights = column_of(self.weights, rows, code)
        order = np.argsort(-weights, kind="stable")[: min(most, NAMED_PER_CLASS)]
        return [
            Share(
                text[int(offsets[i]) : int(offsets[i + 1])].decode(),
                self._block_of(int(rows[i])),
                float(weights[i]),
            )
            for i in order
            if weights[i] > 0
        ]

    def _block_of(self, row: int) -> str:
        for block in self.header["features"]["blocks"]:
            if row < block["features"]:
                return str(block["name"])
            row -= block["features"]
        raise IndexError(f"no feature block holds row {row}")


def logits_by(
    asked: list[tuple[Model, int | None]], texts: pa.LargeStringArray, threads: int
) -> list[NDArray[np.float32]]:
    """Return the logits by each of several models, or of one class of each.

    Models that make the same tokens and runs of the text share the reading of it.

    Parameters
    ----------
    asked : list of (Model, class index or None)
    texts : pyarrow.LargeStringArray
    threads : int

    Returns
    -------
    list of float32 array, shape (n, n_classes) or (n, 1)

    Raises
    ------
    ValueError
        If the weights give a logit that is not finite.
    """
    all_of_them = _core.logits(buffers(texts), [(model.layer(), code) for model, code in asked], threads)
    for z in all_of_them:
        check_finite(z)
    return all_of_them


def read_by(
    models: Sequence[Model], texts: pa.LargeStringArray, threads: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return what `Model.read` does, of each of several models that share the reading of the texts."""
    every = _core.logits(buffers(texts), [(model.layer(), None) for model in models], threads, True)
    found = [(np.ascontiguousarray(both[:, :-2]), both[:, -2:]) for both in every]
    for z, _ in found:
        check_finite(z)
    return found


def from_training(
    trained: Trained,
    calibration: Calibration,
    record: dict[str, Any],
    held: HeldRows | None = None,
    *,
    texts: pa.LargeStringArray,
    classes: list[Any],
    settings: Settings,
    arguments: dict[str, Any],
    multilabel: bool = False,
) -> Model:
    """Put together what training made.

    Parameters
    ----------
    trained, calibration, record, held
        As `logitext.training.fit` returns them.
    texts : pyarrow.LargeStringArray
        What was trained on: the strongest n-grams are spelled as they stand there.
    classes : list
    settings : Settings
    arguments : dict
        The caller's, as JSON.
    multilabel : bool, default False
        Whether a text may have several labels, each by itself. What has no threshold gets 0.

    Returns
    -------
    Model
    """
    used = {block.name: block.ngrams for block in trained.blocks}
    header: dict[str, Any] = {
        "format_version": 1,
        "features_version": modelfile.FEATURES_VERSION,
        "library_version": _core.__version__,
        "classes": classes,
        "features": {
            "tokens": settings.tokens,
            "word_ngrams": used.get("words"),
            "char_ngrams": used.get("chars"),
            "documents": trained.blocks[0].documents,
        },
        **calibrated(calibration, classes, multilabel=multilabel),
        "settings": arguments,
        "training": {**record, "warnings": cautions(record, classes)},
    }
    if multilabel:
        header["multilabel"] = True
    if not settings.calibrate:
        header["calibration"] = None
    model = assemble(trained, header, texts=texts)
    return model if held is None or not len(held.codes) else judged(model, held)


def assemble(
    trained: Trained,
    header: dict[str, Any],
    *,
    texts: pa.LargeStringArray,
    names: Mapping[int, str] | None = None,
) -> Model:
    """Put together a model of trained blocks and a header, which is told the size of the blocks.

    Parameters
    ----------
    trained : Trained
    header : dict
    texts : pyarrow.LargeStringArray
        Where the strongest n-grams are read, at the blocks' first rows.
    names : mapping of row to str, optional
        N-grams known by name already. What has none here and in the texts goes without.

    Returns
    -------
    Model
    """
    blocks = trained.blocks
    named = strongest(trained.weights, min(NAMED_PER_CLASS, max(3, NAMED // len(trained.bias))))
    known = names or {}
    spelled = zip(named.tolist(), _spell(named, blocks, texts), strict=True)
    spelling = {row: name for row, read in spelled if (name := known.get(row) or read)}
    arrays = {
        "weights": values_of(trained.weights),
        "bias": trained.bias,
        "hashes": np.concatenate([block.hashes for block in blocks]),
        "document_frequency": np.concatenate([block.document_frequency for block in blocks]),
        "buckets": np.concatenate([_core.buckets(block.hashes) for block in blocks]),
        **named_arrays(spelling),
    }
    if isinstance(trained.weights, Kept):
        arrays |= {"weight_rows": trained.weights.places, "weight_classes": trained.weights.ids}
    header = {**header, "format_version": format_version(arrays)}
    sizes = [{"name": block.name, "features": len(block)} for block in blocks]
    return Model(arrays, {**header, "features": {**header["features"], "blocks": sizes}})


def named_arrays(spelling: Mapping[int, str]) -> dict[str, NDArray[Any]]:
    """Return n-grams known by name, by rising row, as arrays of the model file."""
    encoded = [name.encode() for name in spelling.values()]
    return {
        "named_features": np.array(list(spelling), np.uint32),
        "named_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.uint64),
        "named_text": np.frombuffer(b"".join(encoded), np.uint8),
    }


def calibrated(found: Calibration, classes: list[Any], *, multilabel: bool) -> dict[str, Any]:
    """Return what a header says of a calibration; what has no threshold gets 0."""
    if not multilabel:
        return {"calibration": {"method": "temperature", "temperature": found.temperature}}
    thresholds = np.zeros(len(classes)) if found.thresholds is None else found.thresholds
    affine = {"method": "affine", "temperature": found.temperature, "shift": found.shift}
    return {"calibration": affine, "thresholds": thresholds.tolist()}


def _spell(named: NDArray[np.uint32], blocks: list[Block], texts: pa.LargeStringArray) -> list[str]:
    names = []
    first = 0
    for block in blocks:
        own = named[(named >= first) & (named < first + len(block))] - np.uint32(first)
        wanted = (block.hashes[own], block.first_row[own])
        names += _core.spell(buffers(texts), block.recipe, block.name, *wanted)
        first += len(block)
    return [shortened(name) for name in names]


def shortened(name: str) -> str:
    """Return a name, or the beginning of a very long one."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
