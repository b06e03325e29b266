"""What prediction writes: the columns of an answer, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.arguments import thread_count
from logitext.features import arrow_numbers, arrow_strings, as_column, as_texts
from logitext.labels import LabelSets
from logitext.logits import argmax, top_k
from logitext.model import Model, logits_by, read_by
from logitext.multilabel import decide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitext.answering import Answering
    from logitext.explanation import Explanation
    from logitext.judging import Judged

LOGITS_AT_ONCE = 4 << 20
"""However short the texts, so many logits are held at once: 16 MB."""


@dataclass(frozen=True)
class Asked:
    """What one model is asked of every text; see `answers`."""

    model: Answering
    logits: bool = False
    probabilities: bool = False
    top_k: int | None = None
    threshold: float | None = None
    max_error: float | None = None
    coverage: float | None = None
    novelty: bool = False
    shares_of: tuple[str, ...] = ()
    nested: bool = True
    separator: str = ";"
    prefix: str = ""
    """Stands before the name of every column, where there are several models."""

    @property
    def promised(self) -> bool:
        """Whether held-out rows have to vouch for something."""
        return self.max_error is not None or self.coverage is not None or self.novelty

    def check(self) -> None:
        """Find out before the first text what cannot be answered.

        Raises
        ------
        ValueError
        """
        classes = self.model.classes_.tolist()
        if self.promised:
            self.model.evidence()
        if not self.nested and (self.model.thresholds_ is not None or self.coverage is not None):
            _check_separator(classes, self.separator)
        for label in self.shares_of:
            if label not in class_names(classes):
                known = ", ".join(map(repr, class_names(classes)[:20])) + (", …" if len(classes) > 20 else "")
                raise ValueError(f"{label!r} is not a class of the model: it has {known}")

    def columns(self, z: NDArray[np.float32], ngrams: NDArray[np.float32] | None) -> dict[str, pa.Array]:
        """Return the answers to some texts by their logits; `ngrams` as of `Model.read`, for novelty."""
        model = self.model
        evidence = model.evidence() if self.promised else None
        calm = model.model_.calibrated(z) if self.promised else z
        shares = model.model_.probabilities(z, calm if self.promised else None)
        labels = _labels(model.classes_.tolist())
        if model.thresholds_ is not None:
            given = decide(z, model.thresholds_) if self.threshold is None else decide(shares, self.threshold)
            columns = _several(given, shares, labels)
            if not self.nested:
                columns = {name: _joined(column, self.separator) for name, column in columns.items()}
        else:
            decided = argmax(z)
            chosen = shares[np.arange(len(z)), decided]
            unsure = None if self.threshold is None else chosen < self.threshold
            if evidence is not None and self.max_error is not None:
                open_ = ~evidence.selective.answers(calm, self.max_error)
                unsure = open_ if unsure is None else unsure | open_
            columns = {
                "label": labels.take(arrow_numbers(decided, unsure)),
                "probability": arrow_numbers(chosen),
            }
        if self.shares_of:
            codes = {name: code for code, name in enumerate(class_names(model.classes_.tolist()))}
            columns |= {f"p({label})": arrow_numbers(shares[:, codes[label]]) for label in self.shares_of}
        if evidence is not None and self.coverage is not None:
            plausible = evidence.sets.predict_set(calm, self.coverage)
            rows_of, ids = np.nonzero(plausible)
            sets = LabelSets.of_pairs(rows_of, ids, len(plausible), len(labels))
            listed = pa.LargeListArray.from_arrays(
                arrow_numbers(sets.offsets), labels.take(arrow_numbers(sets.ids))
            )
            columns["set"] = listed if self.nested else _joined(listed, self.separator)
        if evidence is not None and self.novelty:
            scores = evidence.novelty.score(z, ngrams)
            columns["novelty"] = arrow_numbers(scores)
            columns["novelty_pvalue"] = arrow_numbers(evidence.novelty.p_values(scores))
        if self.logits:
            columns["logits"] = _per_class(z, model)
        if self.probabilities:
            columns["probabilities"] = _per_class(shares, model)
        if self.top_k is not None:
            columns |= _top(z, shares, labels, min(self.top_k, len(labels)), self.nested)
        return {self.prefix + name: column for name, column in columns.items()}


def answers(model: Answering, texts: pa.LargeStringArray, **asked: Any) -> Iterator[pa.RecordBatch]:
    """Answer texts with a table of columns.

    Parameters
    ----------
    model : TextClassifier
    texts : pyarrow.LargeStringArray
    logits, probabilities : bool
        Add a struct column with a field per class.
    top_k : int, optional
        Add the most probable labels, at most all: as a list column ``top``, or, not
        nested, as columns ``label_1``, ``probability_1`` and so on.
    threshold : float, optional
        The label is null where its probability is below; of several labels a text those are given
        whose probability is not below, whatever their own thresholds are.
    max_error : float, optional
        The label is null where it is not sure enough to keep the share of wrong answers below this.
    coverage : float, optional
        Add ``set``: a list of the labels of the set of this coverage.
    novelty : bool
        Add ``novelty`` and ``novelty_pvalue``.
    shares_of : tuple of str, optional
        Add for each of these labels a column ``p(LABEL)``: its probability.
    nested : bool
        Whether the table may hold lists.
    separator : str, default ";"
        Stands between several labels, and their probabilities, where it may not.

    Yields
    ------
    pyarrow.RecordBatch
        Columns ``label`` and ``probability``, and what was asked for, in the order of
        the texts. Of several labels a text ``labels`` and ``probability`` are lists.

    Raises
    ------
    ValueError
        As `TextClassifier.logits`; if what is promised takes held-out rows the model does not have, or
        more of them; and if a label that is not to stand in a list holds the separator.
    """
    yield from answers_of_many([Asked(model, **asked)], texts, thread_count(model.threads))


def rows_at_once(every: Sequence[Asked]) -> int:
    """Return of how many rows the logits by all models are held at once."""
    return max(1, LOGITS_AT_ONCE // sum(len(asked.model.classes_) for asked in every))


def answers_of_many(
    every: Sequence[Asked], texts: pa.LargeStringArray, threads: int
) -> Iterator[pa.RecordBatch]:
    """Answer texts by several models, each text read once; see `answers`."""
    for asked in every:
        asked.check()
    rows = rows_at_once(every)
    amounts = any(asked.novelty for asked in every)
    models = [asked.model.model_ for asked in every]
    for begin in range(0, len(texts), rows):
        part = texts.slice(begin, rows)
        read = _read(models, part, threads, amounts)
        columns: dict[str, pa.Array] = {}
        for asked, (z, ngrams) in zip(every, read, strict=True):
            own = asked.columns(z, ngrams)
            if twice := columns.keys() & own.keys():
                raise ValueError(f"two models give answers the name {min(twice)!r}: give one another name")
            columns |= own
        yield pa.RecordBatch.from_pydict(columns)


def _read(
    models: Sequence[Judged], texts: pa.LargeStringArray, threads: int, amounts: bool
) -> list[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
    """The logits by each model; those that can share the reading of the texts."""
    ours = [model for model in models if isinstance(model, Model)]
    shared: list[Any] = []
    if ours and amounts:
        shared = list(read_by(ours, texts, threads))
    elif ours:
        shared = [(z, None) for z in logits_by([(model, None) for model in ours], texts, threads)]
    found = iter(shared)
    return [
        next(found)
        if isinstance(model, Model)
        else model.read(texts, threads)
        if amounts
        else (model.logits(texts, threads), None)
        for model in models
    ]


def answer_column(model: Answering, texts: Any, **options: Any) -> pa.RecordBatch:
    """Answer a column that may have nulls, which have nulls for answers.

    Parameters
    ----------
    model : TextClassifier
    texts : as for `TextClassifier.logits`, with nulls
    **options
        As for `answers`.

    Returns
    -------
    pyarrow.RecordBatch
        With as many rows as there are texts.

    Raises
    ------
    NotFittedError, ValueError
        As `TextClassifier.logits`, and as `answers`.
    """
    column = as_column(texts, "texts")
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    known = column.drop_null() if column.null_count else column
    parts = [answer_schema(model, **options).empty_table()]
    parts += [pa.Table.from_batches([batch]) for batch in answers(model, as_texts(known), **options)]
    table = pa.concat_tables(parts)
    if column.null_count:
        table = table.take(arrow_numbers(np.cumsum(valid) - 1, ~valid))
    return (
        table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)
    )


def answer_schema(model: Answering, **options: Any) -> pa.Schema:
    """Return the names and types of the columns of `answers`; the options are as there."""
    model._fitted()
    return next(answers(model, arrow_strings([""]), **options)).schema


def _several(given: LabelSets, shares: NDArray[np.float32], labels: pa.Array) -> dict[str, pa.Array]:
    """Lists of the labels of each text, and of their probabilities."""
    offsets = arrow_numbers(given.offsets)
    chosen = arrow_numbers(shares.reshape(-1)[given.at])
    return {
        "labels": pa.LargeListArray.from_arrays(offsets, labels.take(arrow_numbers(given.ids))),
        "probability": pa.LargeListArray.from_arrays(offsets, chosen),
    }


def _joined(lists: pa.LargeListArray, separator: str) -> pa.Array:
    values = pa.LargeListArray.from_arrays(lists.offsets, lists.values.cast(pa.large_string()))
    return pc.binary_join(values, arrow_strings([separator])[0])


def _check_separator(classes: list[Any], separator: str) -> None:
    for label in class_names(classes):
        if separator in label:
            raise ValueError(
                f"the label {label!r} holds the separator {separator!r}: choose another by "
                "--label-separator, or write JSON Lines or Parquet"
            )


def _labels(classes: list[Any]) -> pa.Array:
    # Strings not by pyarrow.array, which imports pandas where that is installed.
    return arrow_strings(classes) if isinstance(classes[0], str) else pa.array(classes)


def class_names(classes: list[Any]) -> list[str]:
    """Return the classes as keys of JSON and names of columns: true and false for booleans."""
    return [str(name).lower() if isinstance(name, bool) else str(name) for name in classes]


def explained(model: Answering, explanation: Explanation) -> dict[str, Any]:
    """Return an account of a text's logits as JSON has it: what each n-gram added, class by class."""
    names = class_names(explanation.classes)

    def per_class(row: Any) -> dict[str, float]:
        return dict(zip(names, map(float, row), strict=True))

    thresholds = explanation.thresholds
    ngrams = zip(explanation.ngrams, explanation.blocks, explanation.contributions, strict=True)
    return {
        "label" if thresholds is None else "labels": explanation.decision,
        "logits": per_class(explanation.logits),
        "probabilities": per_class(model.model_.probabilities(explanation.logits)),
        **({} if thresholds is None else {"thresholds": per_class(thresholds)}),
        "bias": per_class(explanation.bias),
        "ngrams": [
            {"ngram": name, "block": block, "contributions": per_class(row)} for name, block, row in ngrams
        ],
        "unknown": explanation.unknown,
    }


def _per_class(table: NDArray[Any], model: Answering) -> pa.StructArray:
    columns = [arrow_numbers(column) for column in table.T]
    return pa.StructArray.from_arrays(columns, class_names(model.classes_.tolist()))


def _top(
    z: NDArray[np.float32], shares: NDArray[np.floating[Any]], labels: pa.Array, most: int, nested: bool
) -> dict[str, pa.Array]:
    best = top_k(z, most)[1]
    probabilities = np.take_along_axis(shares, best, axis=1)
    if not nested:
        pairs = {}
        for k in range(most):
            pairs[f"label_{k + 1}"] = labels.take(arrow_numbers(best[:, k]))
            pairs[f"probability_{k + 1}"] = arrow_numbers(probabilities[:, k])
        return pairs
    fields = [labels.take(arrow_numbers(best.ravel())), arrow_numbers(probabilities.ravel())]
    items = pa.StructArray.from_arrays(fields, ["label", "probability"])
    offsets = arrow_numbers(np.arange(0, len(items) + 1, most, dtype=np.int32))
    return {"top": pa.ListArray.from_arrays(offsets, items)}
