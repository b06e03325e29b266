"""Going on from a model: new texts, new n-grams, the same classes."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core
from logitext.calibration import Calibration
from logitext.epochs import Watch
from logitext.features import Block, arrow_strings, buffers, count_block, look_up, recipe
from logitext.judging import judged
from logitext.model import Model, assemble, calibrated, from_training
from logitext.modelschema import CALIBRATION, EVIDENCE, format_version
from logitext.search import HeldOut, usual_plan, watch
from logitext.weights import rows_of
from logitext.workshop import WEIGHT_BYTES, Examples, Plan, Progress, Settings, Trained, Workshop

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

AGAIN = 0.5
"""Step at the beginning, as a share of the first training's: what was learned is not to be unlearned."""


def go_on(
    model: Model,
    examples: Examples,
    settings: Settings,
    progress: Progress,
    *,
    epochs: int,
    validation: Examples | None = None,
    watched: Watch | None = None,
) -> Model:
    """Train a model further on new rows.

    Known n-grams keep their document frequency, new ones have that of the new texts. The
    temperature is kept but marked stale, unless there is a validation set to fit it on.

    Parameters
    ----------
    model : Model
    examples : Examples
        Classes as the model has them.
    settings : Settings
        The step size at the beginning is theirs, or half of what the model was first trained with.
    progress : callable
    epochs : int
        The step falls to 0 over them.
    validation : Examples, optional
        Rows never trained on.
    watched : Watch, optional

    Returns
    -------
    Model
        A new one; the old arrays stay as they were.

    Raises
    ------
    ValueError
        If a text is not valid UTF-8 or training diverges.
    """
    first = Plan.from_json(model.header["training"]["plan"])
    begun = len(model.arrays["hashes"]) > 0
    rate = settings.learning_rate or first.learning_rate * (AGAIN if begun else 1)
    smoothing = first.label_smoothing if settings.label_smoothing is None else settings.label_smoothing
    plan = replace(first, learning_rate=rate, epochs=epochs, label_smoothing=smoothing)
    rows = len(examples)
    everything = examples if validation is None else examples.join(validation)
    progress("counting", 0.0)
    blocks, weights, names = _joined(model, examples, everything, settings)
    workshop = Workshop(everything, settings, progress, learn=rows, known=blocks)
    start = Trained(blocks, weights, np.array(model.arrays["bias"]))
    learned, held = np.split(np.arange(len(everything), dtype=np.uint32), [rows])
    watching = replace(watched or Watch(), **_held(everything, held))
    trained = workshop.train(plan, learned, "training", watching, start)
    calibration = model.header["calibration"]
    said = {"calibration": calibration and {**calibration, "stale": True}}
    kept = None
    offsets, _ = buffers(examples.texts)
    part: dict[str, Any] = {"rows": rows, "text_bytes": int(offsets[-1] - offsets[0]), "plan": plan.to_json()}
    part["epochs"] = [asdict(epoch) for epoch in trained.epochs]
    if len(held):
        found = HeldOut(everything, held, workshop.logits(trained, held)).calibrate()
        part["held_out"] = found.record(found.calibration)
        if calibration:
            said = calibrated(found.calibration, model.classes, multilabel=examples.sets is not None)
        found = replace(found, ngrams=workshop.ngrams(blocks[0], held)) if calibration else found
        kept = found.kept
    record = dict(model.header["training"])
    record.pop("compressed", None)  # its weights are floats again, and of any size
    header = {**model.header, **said, "library_version": _core.__version__}
    header["training"] = {**record, "continued": [*record.get("continued", []), part]}
    evidence = header.pop("evidence", None)
    going = assemble(trained, header, texts=examples.texts, names=names)
    if kept is not None:
        return judged(going, kept)
    if evidence is not None:
        header["evidence"] = {**evidence, "stale": True}
    fitted = [name for name in (*EVIDENCE, *CALIBRATION.values()) if name in model.arrays]
    arrays = {**going.arrays, **{name: np.array(model.arrays[name]) for name in fitted}}
    header = {**header, "features": going.features, "format_version": format_version(arrays)}
    return Model(arrays, header)


def beginning(classes: list[Any], settings: Settings, arguments: dict[str, Any], examples: Examples) -> Model:
    """Return a model that knows no n-grams yet.

    Parameters
    ----------
    classes : list
    settings : Settings
        What is free has its usual value.
    arguments : dict
        The caller's, as JSON.
    examples : Examples
        Those of the first call: document frequencies are taken from them, and the first bias.

    Returns
    -------
    Model
    """
    plan = usual_plan(settings)
    wanted = [("words", settings.word_ngrams), ("chars", plan.char_ngrams)]
    one = recipe("words", "unicode", (1, 1))
    nothing = _core.count(buffers(arrow_strings([])), one, "words", 1, (1, 1, 0), 1)
    hashes, frequency, first_row, indptr, indices, *_ = nothing
    lists = (hashes, indptr, indices, np.zeros(0, np.float32))
    blocks = [
        Block(name, settings.tokens, ngrams, hashes, frequency, first_row, len(examples), lists, 1)
        for name, ngrams in wanted
        if ngrams
    ]
    weights = np.zeros((0, len(classes)), np.float32)
    bias = examples.first_bias(np.arange(len(examples), dtype=np.uint32))
    record = {"rows": 0, "text_bytes": 0, "fingerprint": "", "plan": plan.to_json(), "batch": 0}
    record |= {"epochs": [], "search": [], "held_out": None}
    return from_training(
        Trained(blocks, weights, bias),
        Calibration(),
        record,
        texts=arrow_strings([]),
        classes=classes,
        settings=settings,
        arguments=arguments,
        multilabel=settings.multilabel,
    )


def _held(everything: Examples, held: NDArray[np.uint32]) -> dict[str, Any]:
    if not len(held):
        return {}
    watched = watch(everything, held)
    return {"rows": watched.rows, "loss": watched.loss}


def _joined(
    model: Model, examples: Examples, everything: Examples, settings: Settings
) -> tuple[list[Block], NDArray[np.float32], dict[int, str]]:
    """The model's n-grams and the new ones, as blocks of the new texts; weights, and names, for all.

    Rows kept to some classes become whole: new rows may show an n-gram with any class.
    """
    features, classes = model.header["features"], len(model.classes)
    most = WEIGHT_BYTES // (4 * classes * len(features["blocks"]))
    blocks: list[Block] = []
    weights: list[NDArray[np.float32]] = []
    names: dict[int, str] = {}
    known = model.names()
    begin = first = 0
    for said in features["blocks"]:
        end = begin + said["features"]
        ngrams = tuple(features[f"{said['name'].removesuffix('s')}_ngrams"])
        how: dict[str, Any] = {"room": (max(most, 1), 1, 0), "threads": settings.threads}
        new = count_block(examples.texts, features["tokens"], said["name"], ngrams, **how)
        old = model.arrays["hashes"][begin:end]
        strange = np.flatnonzero(~np.isin(new.hashes, old))
        frequency = np.minimum(new.document_frequency[strange], max(features["documents"], 1))
        # Over the budget the rarest of the new ones stay out.
        room = np.argsort(-frequency.astype(np.int64), kind="stable")[: max(most - len(old), 0)]
        strange, frequency = strange[np.sort(room)], frequency[np.sort(room)]
        hashes = np.concatenate([old, new.hashes[strange]])
        order = np.argsort(hashes, kind="stable")
        frequencies = np.concatenate([model.arrays["document_frequency"][begin:end], frequency])
        rows = np.zeros((len(hashes), classes), np.float32)
        rows[: len(old)] = rows_of(model.weights, np.arange(begin, end))
        weights.append(rows[order])
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        names |= {first + int(place[row - begin]): name for row, name in known.items() if begin <= row < end}
        block = Block(
            name=said["name"],
            tokens=features["tokens"],
            ngrams=ngrams,
            hashes=hashes[order],
            document_frequency=frequencies[order],
            first_row=np.zeros(len(order), np.uint32),
            documents=features["documents"],
            lists=new.lists,
            least=new.least,
        )
        # Where a name may be read: the new texts.
        shared = np.searchsorted(new.hashes, block.hashes)
        shared = np.minimum(shared, max(len(new) - 1, 0))
        there = new.hashes[shared] == block.hashes if len(new) else np.zeros(len(block), bool)
        block.first_row[there] = new.first_row[shared[there]]
        blocks.append(replace(block, lists=look_up(everything.texts, block, threads=settings.threads)))
        begin, first = end, first + len(block)
    return blocks, np.concatenate(weights), names
