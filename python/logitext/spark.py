"""A model over data frames of Spark: record batches in, the same rows with answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from logitext.answering import Answering as Classifier
from logitext.answers import answer_column, answer_schema
from logitext.classifier import load

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Answering", "answer"]


def answer(
    frame: DataFrame,
    model: Classifier | str | os.PathLike[str],
    text: str = "text",
    prefix: str = "",
    **options: Any,
) -> DataFrame:
    """Add the answers of a model to a data frame, by ``mapInArrow``.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
    model : TextClassifier or path
        A path must be good on every worker: each of its processes maps the file once. A model is sent
        along, once for each stage.
    text : str, default "text"
        The column of texts. A null text has null answers.
    prefix : str
        Before the names of the new columns, for several models.
    **options
        As for `logitext.answers.answers`.

    Returns
    -------
    pyspark.sql.DataFrame
        The same rows, with ``label`` and ``probability``, and what the options add.

    Raises
    ------
    NotFittedError, OSError, ValueError
        As `logitext.load` and `logitext.answers.answers`; if there is no such column, or a column has the
        name of a new one.
    """
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType

    answering = Answering(model, text, prefix, **options)
    added = answering.added(frame.columns)
    fields = [*frame.schema.fields, *from_arrow_schema(added).fields]
    return frame.mapInArrow(answering, StructType(fields))


class Answering:
    """What ``mapInArrow`` calls: record batches → the same with columns of answers.

    Parameters
    ----------
    model, text, prefix, **options
        As for `answer`.

    Examples
    --------
    >>> import logitext as lt
    >>> from logitext.spark import Answering
    >>> clf = lt.TextClassifier().fit(["good", "great", "bad", "awful"] * 5, ["yes", "yes", "no", "no"] * 5)
    >>> batches = [pa.RecordBatch.from_pydict({"id": [1, 2], "text": ["great", None]})]
    >>> [batch.column("label").to_pylist() for batch in Answering(clf)(batches)]
    [['yes', None]]
    """

    def __init__(
        self,
        model: Classifier | str | os.PathLike[str],
        text: str = "text",
        prefix: str = "",
        **options: Any,
    ) -> None:
        self.model = model if isinstance(model, Classifier) else os.fspath(model)
        self.text, self.prefix, self.options = text, prefix, options

    def added(self, names: list[str]) -> pa.Schema:
        """Return the new columns of a table that has columns of these names.

        Raises
        ------
        ValueError
            If there is no column of texts, or a new column has the name of another.
        """
        if self.text not in names:
            raise ValueError(
                f"there is no column {self.text!r}; the columns are {', '.join(map(repr, names))}"
            )
        schema = answer_schema(_loaded(self.model), **self.options)
        added = pa.schema([(self.prefix + field.name, _short(field.type)) for field in schema])
        taken = [name for name in added.names if name in names]
        if taken:
            raise ValueError(f"there is a column {taken[0]!r} already: give a prefix")
        return added

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = _loaded(self.model)
        for batch in batches:
            added = self.added(batch.schema.names)
            answers = answer_column(model, batch.column(self.text), **self.options)
            columns = [column.cast(field.type) for column, field in zip(answers.columns, added, strict=True)]
            schema = pa.schema([*batch.schema, *added])
            yield pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema)


def _loaded(model: Classifier | str) -> Classifier:
    return _load(model) if isinstance(model, str) else model


@lru_cache(maxsize=8)
def _load(path: str) -> Classifier:
    return load(path)


def _short(kind: pa.DataType) -> pa.DataType:
    """The type with offsets of 32 bits, which is what Spark takes."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_short(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _short(field.type)) for field in kind])
    return kind
