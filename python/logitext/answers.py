"""What prediction writes: the columns of an answer, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.arguments import thread_count
from logitext.features import arrow_numbers, arrow_strings, as_column, as_texts
from logitext.labels import LabelSets
from logitext.logits import argmax, top_k
from logitext.multilabel import decide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitext.classifier import TextClassifier
    from logitext.explanation import Explanation

LOGITS_AT_ONCE = 4 << 20
"""However short the texts, so many logits are held at once: 16 MB."""


def answers(
    model: TextClassifier,
    texts: pa.LargeStringArray,
    *,
    logits: bool = False,
    probabilities: bool = False,
    top_k: int | None = None,
    threshold: float | None = None,
    max_error: float | None = None,
    coverage: float | None = None,
    novelty: bool = False,
    nested: bool = True,
    separator: str = ";",
) -> Iterator[pa.RecordBatch]:
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
    promised = max_error is not None or coverage is not None or novelty
    evidence = model.evidence() if promised else None
    if not nested and (model.thresholds_ is not None or coverage is not None):
        _check_separator(model.classes_.tolist(), separator)
    rows = max(1, LOGITS_AT_ONCE // len(model.classes_))
    for begin in range(0, len(texts), rows):
        slice_, ngrams = texts.slice(begin, rows), None
        if novelty:
            z, ngrams = model.model_.read(slice_, thread_count(model.threads))
        else:
            z = model.logits(slice_)
        calm = model.model_.calibrated(z) if promised else z
        shares = model.model_.probabilities(z, calm if promised else None)
        labels = _labels(model.classes_.tolist())
        if model.thresholds_ is not None:
            given = decide(z, model.thresholds_) if threshold is None else decide(shares, threshold)
            columns = _several(given, shares, labels)
            if not nested:
                columns = {name: _joined(column, separator) for name, column in columns.items()}
        else:
            decided = argmax(z)
            chosen = shares[np.arange(len(z)), decided]
            unsure = None if threshold is None else chosen < threshold
            if evidence is not None and max_error is not None:
                open_ = ~evidence.selective.answers(calm, max_error)
                unsure = open_ if unsure is None else unsure | open_
            columns = {
                "label": labels.take(arrow_numbers(decided, unsure)),
                "probability": arrow_numbers(chosen),
            }
        if evidence is not None and coverage is not None:
            plausible = evidence.sets.predict_set(calm, coverage)
            rows_of, ids = np.nonzero(plausible)
            sets = LabelSets.of_pairs(rows_of, ids, len(plausible), len(labels))
            listed = pa.LargeListArray.from_arrays(
                arrow_numbers(sets.offsets), labels.take(arrow_numbers(sets.ids))
            )
            columns["set"] = listed if nested else _joined(listed, separator)
        if evidence is not None and novelty:
            scores = evidence.novelty.score(z, ngrams)
            columns["novelty"] = arrow_numbers(scores)
            columns["novelty_pvalue"] = arrow_numbers(evidence.novelty.p_values(scores))
        if logits:
            columns["logits"] = _per_class(z, model)
        if probabilities:
            columns["probabilities"] = _per_class(shares, model)
        if top_k is not None:
            columns |= _top(z, shares, labels, min(top_k, len(labels)), nested)
        yield pa.RecordBatch.from_pydict(columns)


def answer_column(model: TextClassifier, texts: Any, **options: Any) -> pa.RecordBatch:
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


def answer_schema(model: TextClassifier, **options: Any) -> pa.Schema:
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


def explained(model: TextClassifier, explanation: Explanation) -> dict[str, Any]:
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


def _per_class(table: NDArray[Any], model: TextClassifier) -> pa.StructArray:
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
