"""A model as an expression of Polars: ``frame.with_columns(label("text", model))``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitext.answers import answer_column, answer_schema, class_names

if TYPE_CHECKING:
    import polars as pl

    from logitext.answering import Answering

__all__ = ["answer", "label", "p", "probability"]


def answer(text: str | pl.Expr, model: Answering, **options: Any) -> pl.Expr:
    """Give the answers of a model as a struct: one reading of the text for all of them.

    Parameters
    ----------
    text : str or polars.Expr
        The column of texts. A null text has null answers.
    model : TextClassifier
    **options
        As for `logitext.answers.answers`.

    Returns
    -------
    polars.Expr
        Called ``answer``, a struct of ``label`` and ``probability`` (lists where a text may have several
        labels), and of what the options add. Row by row, so that lazy and streaming queries stay so.

    Raises
    ------
    NotFittedError, ValueError
        As `logitext.answers.answers`; a column of something else than text is an error of Polars.

    Examples
    --------
    >>> import polars as pl
    >>> import logitext as lt
    >>> from logitext.polars import answer, p
    >>> clf = lt.TextClassifier().fit(["good", "great", "bad", "awful"] * 5, ["yes", "yes", "no", "no"] * 5)
    >>> frame = pl.DataFrame({"text": ["great", None]})
    >>> frame.select(answer("text", clf)).unnest("answer")["label"].to_list()
    ['yes', None]
    >>> frame.lazy().filter(p("text", clf, "yes") > 0.5).collect().height
    1
    """
    import polars as pl

    def structs(column: pl.Series) -> pl.Series:
        return pl.Series("answer", answer_column(model, column, **options).to_struct_array())

    dtypes = pl.DataFrame(answer_schema(model, **options).empty_table()).schema
    return _expression(text).map_batches(structs, pl.Struct(dtypes), is_elementwise=True).alias("answer")


def label(text: str | pl.Expr, model: Answering, **options: Any) -> pl.Expr:
    """Give the label of each text, or its list of labels: a field of `answer`."""
    name = "label" if model.thresholds_ is None else "labels"
    return answer(text, model, **options).struct.field(name)


def probability(text: str | pl.Expr, model: Answering, **options: Any) -> pl.Expr:
    """Give the probability of the label of each text, or those of its labels: a field of `answer`."""
    return answer(text, model, **options).struct.field("probability")


def p(text: str | pl.Expr, model: Answering, label: Any) -> pl.Expr:
    """Give the probability of one label, called ``p(LABEL)``.

    Raises
    ------
    NotFittedError
        Before the model is trained.
    ValueError
        If the model has no such label.
    """
    import polars as pl

    answer_schema(model)  # refuses a model that is not trained
    classes = class_names(model.classes_.tolist())
    name = class_names([label])[0]
    if name not in classes:
        raise ValueError(f"the model has no label {label!r}")
    at = classes.index(name)

    def shares(column: pl.Series) -> pl.Series:
        # Empty texts in the place of nulls cost next to nothing.
        every = model.predict_proba(column.fill_null("") if column.dtype == pl.String else column)
        return pl.Series(every[:, at]).set(column.is_null(), None)

    return _expression(text).map_batches(shares, pl.Float32, is_elementwise=True).alias(f"p({name})")


def _expression(text: str | pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.col(text) if isinstance(text, str) else text
