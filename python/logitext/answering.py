"""Answering: from texts to every answer, by a model of any kind, each method a few lines."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext import modelfile
from logitext.arguments import thread_count
from logitext.evaluation import Evaluation, evaluate
from logitext.evidence import Evidence
from logitext.explanation import Explanation, Share
from logitext.features import as_texts
from logitext.judging import Judged
from logitext.labels import as_label_sets, as_objects
from logitext.logits import argmax
from logitext.multilabel import MultilabelEvaluation, decide, evaluate_multilabel, exact

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray


class Answering:
    """The answering half of a classifier."""

    model_: Judged
    classes_: NDArray[Any]
    training_: dict[str, Any]
    temperature_: float
    shift_: float
    thresholds_: NDArray[np.float32] | None
    threads: int | None

    def _fitted(self) -> None:
        """It is, where a model was given; who learns refuses before that."""

    def logits(self, texts: Any) -> NDArray[np.float32]:
        """Return the raw logits.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column

        Returns
        -------
        float32 array, shape (n, n_classes)
            Unnormalised. An empty text has the bias as its logits.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If a text is no string or null, or the weights give a logit that is not finite.
        """
        self._fitted()
        return self.model_.logits(as_texts(texts), thread_count(self.threads))

    def predict(self, texts: Any, *, max_error: float | None = None) -> NDArray[Any]:
        """Return the decision of each text: the class of its largest logit, or its labels.

        Parameters
        ----------
        texts : as for `logits`
        max_error : float, optional
            Answer only texts sure enough that, with 95 % confidence, no larger share of the
            answers to texts like those trained on is wrong; the others get None.

        Returns
        -------
        array, shape (n,)
            Labels, of the type they were given in. Ties go to the first class. Of several
            labels a text, a list of those whose logit is at its threshold or above, in the
            order of `classes_`.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        UnattainableError
            If the held-out rows cannot promise `max_error`; it says what they can.

        Examples
        --------
        >>> import logitext as lt
        >>> texts = [f"{word} film number {i}" for i in range(200) for word in ("good", "bad")]
        >>> clf = lt.TextClassifier().fit(texts, ["yes", "no"] * 200)
        >>> clf.predict(["a good film"], max_error=0.05).tolist()
        ['yes']
        """
        z = self.logits(texts)
        if max_error is None:
            return self.decide(z)
        return self.answered(z, max_error)

    def answered(self, z: NDArray[np.float32], max_error: float) -> NDArray[Any]:
        """Return the decision on each row of raw logits that is sure enough, else None.

        Parameters
        ----------
        z : float32 array, shape (n, n_classes)
        max_error : float
            As for `predict`.

        Returns
        -------
        object array, shape (n,)

        Raises
        ------
        NotFittedError, ValueError, UnattainableError
            As `predict`.
        """
        sure = self.evidence().selective.answers(self.model_.calibrated(z), max_error)
        found = np.full(len(z), None, object)
        found[sure] = self.decide(z[sure])
        return found

    def predict_set(
        self, texts: Any, coverage: float = 0.9, *, allow_empty: bool = True
    ) -> NDArray[np.bool_]:
        """Return the set of plausible labels of each text.

        Of texts like those trained on, a share of `coverage` has its true label in its set.

        Parameters
        ----------
        texts : as for `logits`
        coverage : float, default 0.9
            Above 0 and below 1.
        allow_empty : bool, default True
            An empty set says that no label is plausible; False adds the decision.

        Returns
        -------
        bool array, shape (n, n_classes)
            Whether a class is in the set.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`; and if a text may have several labels, or there are too few held-out
            rows for this coverage.

        Notes
        -----
        Split conformal prediction by the calibrated probability of the label: see `ConformalSets`.
        Exact after ``fit(holdout=)``, else approximate: see ``docs/trust.md``.

        Examples
        --------
        >>> import logitext as lt
        >>> texts = [f"{word} film number {i}" for i in range(200) for word in ("good", "bad")]
        >>> clf = lt.TextClassifier().fit(texts, ["yes", "no"] * 200)
        >>> clf.predict_set(["good film"]).tolist()
        [[False, True]]
        """
        z = self.logits(texts)
        sets = self.evidence().sets
        return sets.predict_set(self.model_.calibrated(z), coverage, allow_empty=allow_empty)

    def novelty(self, texts: Any) -> NDArray[np.float32]:
        """Return how unlike the training texts each text is.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float32 array, shape (n,)
            High where a text is unlike: its logits are low and its n-grams unknown. See `Novelty`.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`, and if a text may have several labels or no rows were held out.
        """
        return self.evidence().novelty.score(*self.model_.read(as_texts(texts), thread_count(self.threads)))

    def novelty_pvalue(self, texts: Any) -> NDArray[np.float64]:
        """Return how probable so high a novelty is among texts like those trained on.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float64 array, shape (n,)
            In (0, 1]; small where a text is unlike. Of texts like those trained on a share of at
            most p has one of p or less.

        Raises
        ------
        NotFittedError, ValueError
            As `novelty`.

        Examples
        --------
        >>> import logitext as lt
        >>> texts = [f"{word} film number {i}" for i in range(200) for word in ("good", "bad")]
        >>> clf = lt.TextClassifier().fit(texts, ["yes", "no"] * 200)
        >>> (clf.novelty_pvalue(["a good film number 7", "Gradient descent"]) < 0.05).tolist()
        [False, True]
        """
        return self.evidence().novelty.p_values(self.novelty(texts))

    def evidence(self) -> Evidence:
        """Return what rows held out from training say of the answers to come.

        Returns
        -------
        Evidence
            ``sets``, ``selective`` and ``novelty``; ``exact`` after ``fit(holdout=)``; ``stale`` if the
            weights have changed since.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If a text may have several labels, or no rows were held out.
        """
        self._fitted()
        if self.thresholds_ is not None:
            raise ValueError("this is for one label per text: with several, each has its own threshold")
        found = self.model_.evidence
        if found is None:
            raise ValueError(
                "no rows were held out when this model was trained, so nothing can be promised: call "
                "calibrate with labelled rows it did not learn from"
            )
        return found

    def decide(self, z: NDArray[np.float32]) -> NDArray[Any]:
        """Return the decision on each row of raw logits: what `predict` does after `logits`.

        Parameters
        ----------
        z : float32 array, shape (n, n_classes)

        Returns
        -------
        array, shape (n,)

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        """
        self._fitted()
        if self.thresholds_ is not None:
            return as_objects(decide(z, self.thresholds_).names(self.model_.classes))
        named: NDArray[Any] = self.classes_[self.model_.decisions(z)]
        return named

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities: the softmax of the calibrated logits.

        Of several labels a text it is the sigmoid of each logit over the temperature plus the shift.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float32 array, shape (n, n_classes)
            Rows sum to 1, and the largest is at the decision; not so of several labels.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        """
        z = self.logits(texts)
        return self.model_.probabilities(z)

    def decision_function(self, texts: Any) -> NDArray[np.float32]:
        """Return scikit-learn's decision values.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float32 array, shape (n,) for two classes, else (n, n_classes)
            For two classes the second logit minus the first, else the logits; those, too,
            of several labels a text, however few.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        """
        z = self.logits(texts)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 and self.thresholds_ is None else z

    def score(self, texts: Any, labels: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on labelled texts; several labels must all be right.

        Parameters
        ----------
        texts : as for `logits`
        labels : one per text
            A label the model does not know counts as a mistake.
        sample_weight : array of float, optional

        Returns
        -------
        float
            In [0, 1]; NaN for no texts.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`, and if labels are not one per text.
        """
        z = self.logits(texts)
        if self.thresholds_ is None:
            codes = self._codes(labels)[0]
            if len(codes) != len(z):
                raise ValueError(f"labels must be one per text: {len(z)} texts, {len(codes)} labels")
            hits = argmax(z) == codes
        elif len(z):
            truth = as_label_sets(labels, len(z), self.model_.classes, unknown=True)[1]
            # What the model does not know is one more label, which it never gives.
            hits = exact(truth, replace(decide(z, self.thresholds_), labels=truth.labels))
        else:
            hits = np.zeros(0, bool)
        return float(np.average(hits, weights=sample_weight)) if len(hits) else math.nan

    def evaluate(self, texts: Any, labels: Any) -> Evaluation | MultilabelEvaluation:
        """Measure the model on labelled texts.

        Parameters
        ----------
        texts : as for `logits`
        labels : one per text, each a class of the model

        Returns
        -------
        Evaluation, or MultilabelEvaluation of several labels a text

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If a label is not a class of the model, or as `logits`.
        """
        self._fitted()
        column = as_texts(texts)
        if self.thresholds_ is not None:
            sets = as_label_sets(labels, len(column), self.model_.classes)[1]
            return evaluate_multilabel(
                self.logits(column),
                sets,
                classes=self.model_.classes,
                temperature=self.temperature_,
                shift=self.shift_,
                thresholds=self.thresholds_,
            )
        codes = self.encode(labels)
        if len(codes) != len(column):
            raise ValueError(f"labels must be one per text: {len(column)} texts, {len(codes)} labels")
        z = self.logits(column)
        return evaluate(z, codes, classes=self.model_.classes, calibrated=self.model_.calibrated(z))

    def encode(self, labels: Any) -> NDArray[Any]:
        """Return the index of each label in `classes_`, or the 0/1 matrix of several labels.

        Parameters
        ----------
        labels : sequence of labels

        Returns
        -------
        int64 array, shape (n,); of several labels a text uint8, shape (n, n_classes)
            The second is what scikit-learn's measures take.

        Raises
        ------
        ValueError
            If a label is not a class of the model; the message names the row.
        """
        self._fitted()
        if self.thresholds_ is not None:
            lists = labels if hasattr(labels, "__len__") else list(labels)
            return as_label_sets(lists, len(lists), self.model_.classes)[1].indicator()
        codes, values = self._codes(labels)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise ValueError(f"the label at row {row}, {values[row]!r}, is not a class of the model")
        return codes

    def _codes(self, labels: Any) -> tuple[NDArray[np.int64], list[Any]]:
        """The index of each label, -1 for one the model does not know, and the labels as a list."""
        index = {label: i for i, label in enumerate(self.model_.classes)}
        values = labels.to_pylist() if isinstance(labels, pa.Array | pa.ChunkedArray) else list(labels)
        return np.array([index.get(label, -1) for label in values], dtype=np.int64), values

    def explain(self, text: str) -> Explanation:
        """Account for the logits of one text, n-gram by n-gram.

        Parameters
        ----------
        text : str

        Returns
        -------
        Explanation
            Its contributions and the bias sum to the logits, to float32 rounding.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If `text` is not one string, or holds a lone surrogate.

        Examples
        --------
        >>> import logitext as lt
        >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
        >>> clf.explain("good").strongest(most=1)[0].ngram
        'good'
        """
        self._fitted()
        if not isinstance(text, str):
            raise ValueError(f"explain takes one text, got {type(text).__name__}")
        return self.model_.explain(text)

    def strongest_ngrams(self, label: Any, most: int = 20) -> list[Share]:
        """Return the n-grams with the largest weights for a class.

        Parameters
        ----------
        label : a class
        most : int, default 20
            At most 100 are known by name.

        Returns
        -------
        list of Share
            (ngram, block, weight), the largest weight first.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If there is no such class.
        """
        self._fitted()
        code = int(self._codes([label])[0][0])
        if code < 0:
            raise ValueError(f"{label!r} is not a class of the model")
        return self.model_.strongest_ngrams(code, most)

    # -- keeping ----------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, whole or not at all.

        Parameters
        ----------
        path : path
            Usually named ``something.safetensors``. The same model gives the same bytes.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        OSError
            If it cannot be written; an old file at `path` stays as it was.
        """
        self._fitted()
        modelfile.save(path, self.model_.arrays, self.model_.header)
