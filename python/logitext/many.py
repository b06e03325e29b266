"""Several models, each text read once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from logitext.arguments import thread_count
from logitext.classifier import TextClassifier
from logitext.features import as_texts
from logitext.model import logits_by

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["predict_many"]


def predict_many(
    models: Iterable[TextClassifier], texts: Any, *, logits: bool = False, threads: int | None = None
) -> list[NDArray[Any]]:
    """Return what each of several models says of the same texts.

    Models that cut text alike and whose n-gram ranges agree, where both have any, share the
    reading: a text is tokenised, hashed and counted once for all of them.

    Parameters
    ----------
    models : list of TextClassifier
        Trained, of any kind and with any classes.
    texts : list of str, NumPy array, pandas or Polars series, Arrow column
    logits : bool, default False
        Return logits instead of decisions.
    threads : int or None
        None: the CPUs this process may use.

    Returns
    -------
    list of array
        For each model what its own `predict` (or `logits`) returns, the same bits.

    Raises
    ------
    NotFittedError
        If a model is not trained.
    ValueError
        If there are no models, one of them is none, or as `TextClassifier.logits`.

    Examples
    --------
    >>> import logitext as lt
    >>> texts = ["good film", "bad film", "good book", "bad book"] * 5
    >>> mood = lt.TextClassifier().fit(texts, ["yes", "no"] * 10)
    >>> kind = lt.TextClassifier().fit(texts, ["film", "film", "book", "book"] * 5)
    >>> [answer.tolist() for answer in lt.predict_many([mood, kind], ["a good book"])]
    [['yes'], ['book']]
    """
    if isinstance(models, TextClassifier) or not isinstance(models, Iterable):
        raise ValueError("models must be a list of TextClassifier")
    every = list(models)
    if not every:
        raise ValueError("there are no models")
    for at, model in enumerate(every):
        if not isinstance(model, TextClassifier):
            raise ValueError(f"model {at} is no TextClassifier but {type(model).__name__}")
        model._fitted()
    z = logits_by([(model.model_, None) for model in every], as_texts(texts), thread_count(threads))
    if logits:
        return list(z)
    return [model.decide(own) for model, own in zip(every, z, strict=True)]
