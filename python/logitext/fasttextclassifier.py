"""FastTextClassifier: the answers of a fastText model, and what calibration adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from logitext.answering import Answering
from logitext.arguments import thread_count
from logitext.evidence import HeldRows
from logitext.fasttextmodel import FastTextModel
from logitext.features import as_texts
from logitext.judging import judged
from logitext.labels import as_class_array

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

LOGITS_AT_ONCE = 4 << 20
"""Held while deciding: 16 MB."""


class FastTextClassifier(Answering):
    """A classifier that fastText trained; `lt.load` makes it of a ``.bin`` or ``.ftz`` file.

    It answers as `TextClassifier` does, and cannot be trained further but for `calibrate`.

    Parameters
    ----------
    model : FastTextModel

    Attributes
    ----------
    classes_ : array of str, shape (n_classes,)
        The labels in fastText's order, without ``__label__``.
    threads : int or None
        None: the CPUs this process may use. The answers are the same for any number.
    model_ : FastTextModel
        The arrays and the header of the model file.

    Notes
    -----
    The logits of a softmax model are its last layer's, those of a hierarchical softmax log-probabilities,
    those of one-vs-all and of negative sampling logits of sigmoids. Probabilities are the softmax or the
    sigmoids of them, and after `calibrate` the softmax of the calibrated logits.
    """

    model_: FastTextModel

    def __init__(self, model: FastTextModel) -> None:
        self.model_ = model
        self.threads = None
        self._ready()

    def _ready(self) -> Self:
        self.classes_ = as_class_array(self.model_.classes)
        self.training_: dict[str, Any] = self.model_.header["training"]
        self.temperature_, self.shift_ = self.model_.temperature, 0.0
        self.thresholds_ = None
        return self

    @property
    def strict(self) -> bool:
        """Whether it answers as fastText does, also where that is a mistake: see `lt.load`."""
        return bool(self.model_.strict)

    def logits(self, texts: Any) -> NDArray[np.float32]:
        """Return the raw logits.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column
            A line feed is white space; with ``strict=True`` it is refused, as fastText does.

        Returns
        -------
        float32 array, shape (n, n_classes)
            Unnormalised. A text of which nothing is known has zeros, or the log-probabilities of even odds.

        Raises
        ------
        ValueError
            If a text is no string or null, or the weights give a logit that is not finite.
        """
        return self.model_.logits(self._column(texts), thread_count(self.threads))

    def predict(self, texts: Any, *, max_error: float | None = None) -> NDArray[Any]:
        """Return the decision of each text: the label of its largest logit.

        Parameters
        ----------
        texts : as for `logits`
        max_error : float, optional
            As for `TextClassifier.predict`, after `calibrate`.

        Returns
        -------
        array, shape (n,)
            Labels. Ties go to the first one; with ``strict=True`` to the one fastText gives.

        Raises
        ------
        ValueError
            As `logits`, and if `max_error` is given before `calibrate`.
        UnattainableError
            If the rows of `calibrate` cannot promise `max_error`; it says what they can.
        """
        if max_error is not None:
            return super().predict(texts, max_error=max_error)
        column, threads = self._column(texts), thread_count(self.threads)
        if not self.strict or self.model_.loss == "hs":
            named: NDArray[Any] = self.classes_[self.model_.best(column, threads)]
            return named
        # Not all logits at once, which may be many.
        rows = max(1, LOGITS_AT_ONCE // len(self.classes_))
        parts = [column.slice(at, rows) for at in range(0, len(column), rows)] or [column]
        return np.concatenate([self.decide(self.model_.logits(part, threads)) for part in parts])

    def _column(self, texts: Any) -> Any:
        column = as_texts(texts)
        if self.strict:
            _refuse_lines(column)
        return column

    def calibrate(self, texts: Any, labels: Any) -> Self:
        """Fit calibration, sets, abstention and novelty on rows the model was not trained on.

        Parameters
        ----------
        texts : as for `logits`
        labels : one per text, each a class of the model

        Returns
        -------
        FastTextClassifier
            Itself. Decisions do not change.

        Raises
        ------
        ValueError
            If there are no rows, or a label is none of the classes.
        """
        column = as_texts(texts)
        codes = self.encode(labels)
        if len(column) != len(codes) or not len(column):
            counts = f"{len(column)} texts, {len(codes)} labels"
            raise ValueError(f"there must be rows, and a label for each text: {counts}")
        z, ngrams = self.model_.read(column, thread_count(self.threads))
        self.model_ = judged(self.model_, HeldRows(z, codes.astype(np.uint32), ngrams))
        return self._ready()

    def __repr__(self) -> str:
        said = self.model_.header["fasttext"]
        return f"FastTextClassifier({len(self.classes_)} classes, loss={said['loss']!r}, dim={said['dim']})"


def _refuse_lines(column: Any) -> None:
    import pyarrow.compute as pc

    if pc.any(pc.match_substring(column, "\n")).as_py():
        raise ValueError("predict processes one line at a time (remove '\\n')")
