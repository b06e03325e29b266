"""A model as functions of DuckDB: ``SELECT label(text) FROM t``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.answers import answer_column, answer_schema, class_names
from logitext.features import arrow_numbers, arrow_strings, as_column

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from logitext.answering import Answering

__all__ = ["register"]

NAMES = {
    "large_string": "VARCHAR",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "float": "FLOAT",
    "double": "DOUBLE",
}


def register(connection: DuckDBPyConnection, model: Answering, prefix: str = "", **options: Any) -> list[str]:
    """Make a model callable in SQL.

    ``label(text)`` and ``probability(text)`` are the columns of `logitext.answers.answers`, each by itself;
    ``answer(text)`` is a struct of both, for one reading of the text; ``p(text, 'hq')`` is the probability
    of a label. They take whole vectors as Arrow, and a null text gives null.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Functions of the same names that were registered there before are replaced.
    model : TextClassifier
        Where a text may have several labels, ``labels(text)`` and ``probability(text)`` are lists.
    prefix : str
        Before the names of the functions, for several models: ``language_`` for ``language_label``.
    **options
        As for `logitext.answers.answers`: each column that they add is a function, too.

    Returns
    -------
    list of str
        The names of the functions.

    Raises
    ------
    NotFittedError, ValueError
        As `logitext.answers.answers`. In SQL, a label the model does not have is an error.

    Examples
    --------
    >>> import duckdb
    >>> import logitext as lt
    >>> from logitext.duckdb import register
    >>> clf = lt.TextClassifier().fit(["good", "great", "bad", "awful"] * 5, ["yes", "yes", "no", "no"] * 5)
    >>> with duckdb.connect() as connection:
    ...     names = register(connection, clf)
    ...     rows = connection.sql("SELECT label(t), p(t, 'yes') > 0.5 FROM (VALUES ('great'), (NULL)) v(t)")
    ...     rows.fetchall()
    [('yes', True), (None, None)]
    """
    from duckdb import InvalidInputException

    schema = answer_schema(model, **options)

    def column(name: str) -> Callable[[Any], pa.Array]:
        return lambda texts: answer_column(model, texts, **options).column(name)

    def structs(texts: Any) -> pa.Array:
        return answer_column(model, texts, **options).to_struct_array()

    by_arrow: Any = "arrow"  # by its name, for what it names moves from version to version
    # Each with the number of its arguments and the type of what it gives.
    functions: dict[str, tuple[Callable[..., pa.Array], int, str]] = {
        field.name: (column(field.name), 1, _type(field.type)) for field in schema
    }
    functions["answer"] = structs, 1, _type(pa.struct(list(schema)))
    functions["p"] = (lambda texts, labels: _probability(model, texts, labels)), 2, "FLOAT"
    for name, (function, arguments, type_) in functions.items():
        with suppress(InvalidInputException):  # there was none
            connection.remove_function(prefix + name)
        connection.create_function(prefix + name, function, ["VARCHAR"] * arguments, type_, type=by_arrow)
    return [prefix + name for name in functions]


def _probability(model: Answering, texts: Any, labels: Any) -> pa.Array:
    """The probability of the label that stands beside each text."""
    texts, labels = as_column(texts, "texts"), as_column(labels, "labels")
    # Versions differ in what they do about nulls: there may be some.
    missing = ~pc.and_(texts.is_valid(), labels.is_valid()).to_numpy(zero_copy_only=False)
    names = class_names(model.classes_.tolist())
    columns = pc.index_in(labels, value_set=arrow_strings(names))
    unknown = labels.filter(pc.and_(labels.is_valid(), columns.is_null()))
    if len(unknown):
        raise ValueError(f"the model has no label {unknown[0].as_py()!r}")
    shares = model.predict_proba(texts.fill_null(""))
    return arrow_numbers(shares[np.arange(len(shares)), columns.fill_null(0).to_numpy()], missing)


def _type(kind: pa.DataType) -> str:
    """The name of an Arrow type in DuckDB, of those that answers have."""
    if pa.types.is_struct(kind):
        fields = ((field.name.replace('"', '""'), _type(field.type)) for field in kind)
        return "STRUCT(" + ", ".join(f'"{name}" {type_}' for name, type_ in fields) + ")"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _type(kind.value_type) + "[]"
    names = {
        "large_string": "VARCHAR",
        "int64": "BIGINT",
        "bool": "BOOLEAN",
        "float": "FLOAT",
        "double": "DOUBLE",
    }
    return names[str(kind)]
