"""TextClassifier: the path from text to every answer, each method a few lines."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from logitext import modelfile
from logitext.arguments import from_json, thread_count
from logitext.evaluation import Evaluation, evaluate
from logitext.evidence import Evidence
from logitext.explanation import Explanation, Share
from logitext.features import as_texts
from logitext.labels import as_label_sets, as_objects
from logitext.learner import Learner, NotFittedError
from logitext.logits import argmax
from logitext.model import Model, logits_by
from logitext.multilabel import MultilabelEvaluation, decide, evaluate_multilabel, exact

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.drift import Drift


__all__ = ["NotFittedError", "TextClassifier", "load"]


class TextClassifier(Learner):
    """Text → logits → decision, trained in seconds.

    A scikit-learn estimator (pipelines, grid search, cloning and pickling work).
    No argument is needed for a good result: what is "auto" is chosen on held-out rows.

    Parameters
    ----------
    word_ngrams : (int, int), "auto" or None
        Shortest and longest run of words; "auto" is (1, 2). At most 8.
    char_ngrams : (int, int), "auto" or None
        Shortest and longest run of characters inside a word; "auto" is (3, 5), (2, 4) or
        None, whichever gives the lowest held-out log loss.
    tokens : {"unicode", "whitespace"}
        How text is cut: by UAX #29, or at white space only, for text already segmented.
    learning_rate : float or "auto"
        Step size at the start; it falls linearly to 0.
    epochs : int or "auto"
        Passes over the rows.
    l2 : float or "auto"
        L2 penalty; "auto" is 0: early stopping regularises.
    label_smoothing : float or "auto"
        Share of each target that all classes have in equal parts, below 1: keeps rows much
        alike from being driven ever further apart. "auto" is 0 or 0.1.
    z_loss : float, default 0
        Weight in the loss of the squared log-sum-exp of a row's logits: keeps them near
        log-probabilities.
    early_stopping : int or None
        Epochs without a lower loss of the validation set after which training ends, with the
        weights of the best epoch; `fit` then needs ``validation=``.
    minutes : float or None
        Time `fit` may take: the search is cut short and the step falls to 0 by then. The model
        then depends on the speed of the machine.
    class_weight : mapping of label to weight, "balanced" or None
        Weight of each row's loss by its class.
    multilabel : bool
        A text may have several labels, or none: each gets a probability and a threshold by
        itself. See `fit` for what labels may be.
    max_size : int, str or None
        Bytes the model file may have, or ``"500kB"``, ``"2MB"``, ``"2MiB"``: `fit` ends with
        `compress`, on the validation set or else on up to 5,000 of the rows.
    calibration : "auto" or None
        "auto" fits a `Calibrator` on held-out rows, a temperature, a shift and thresholds of several
        labels, and keeps what held-out rows say of answers to come; None does none of it.
    threads : int or None
        None: the CPUs this process may use. The model is the same for any number.
    random_state : int
        Seed of the order of rows and of what is held out.
    verbose : bool
        Print what is being done.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The labels, sorted, of the type they came in; several labels a text in the order of
        `classes` or of the matrix, if it was given.
    training_ : dict
        How the model came about: plan, search, losses, held-out accuracy and log loss.
    temperature_ : float
        Of the calibration, which may say more class by class; 1 where nothing could be held out.
    shift_ : float
        With several labels a text it is added to them; else 0.
    thresholds_ : float32 array, shape (n_classes,), or None
        With several labels a text, the logit from which on each is given.
    model_ : Model
        The arrays and the header of the model file.

    Examples
    --------
    >>> import logitext as lt
    >>> texts = ["good film", "great acting", "bad plot", "awful film"] * 5
    >>> clf = lt.TextClassifier().fit(texts, ["yes", "yes", "no", "no"] * 5)
    >>> clf.predict(["great film", "awful plot"]).tolist()
    ['yes', 'no']
    """

    # -- answers ----------------------------------------------------------------

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

    def logit(self, texts: Any, label: Any) -> NDArray[np.float32]:
        """Return the raw logit of one label, without computing the others.

        A probability needs them all: take the label's column of `predict_proba` for that.

        Parameters
        ----------
        texts : as for `logits`
        label : a class

        Returns
        -------
        float32 array, shape (n,)
            That label's column of `logits`, the same bits.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`, and if there is no such class.

        Examples
        --------
        >>> import logitext as lt
        >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
        >>> bool(clf.logit(["good"], "yes")[0] > clf.logit(["good"], "no")[0])
        True
        """
        self._fitted()
        code = {name: i for i, name in enumerate(self.model_.classes)}.get(label)
        if code is None:
            raise ValueError(f"{label!r} is not a class of the model")
        return logits_by([(self.model_, code)], as_texts(texts), thread_count(self.threads))[0][:, 0]

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

    def drift(self, texts: Any, *, most: int = 20) -> Drift:
        """Compare texts, without labels, with those trained on: are they still alike, and what moved?

        Parameters
        ----------
        texts : as for `logits`
            At least one.
        most : int, default 20
            N-grams to name, at most.

        Returns
        -------
        Drift

        Raises
        ------
        NotFittedError, ValueError
            As `novelty`, and if there are no texts.
        """
        from logitext.drift import drift

        column = as_texts(texts)
        if not len(column):
            raise ValueError("there must be at least one text")
        held = self.evidence().novelty.scores_
        threads = thread_count(self.threads)
        return drift(self.model_, column, self.novelty(column), held, most=most, threads=threads)

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
        decisions: NDArray[np.int64] = argmax(z)
        return self.classes_[decisions]

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


def load(path: str | os.PathLike[str], *, verify: bool | Literal["auto"] = "auto") -> TextClassifier:
    """Load a model file.

    Parameters
    ----------
    path : path
    verify : bool or "auto"
        "auto" checks the header, shapes and small arrays, and all of a file up to
        16 MB; True reads and checks everything.

    Returns
    -------
    TextClassifier
        Its arrays are views of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is not a model file, or damaged, or of a newer format.

    Examples
    --------
    >>> import logitext as lt
    >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
    >>> clf.save("model.safetensors")
    >>> lt.load("model.safetensors").predict(["a good one"]).tolist()
    ['yes']
    """
    model = Model(*modelfile.load(path, verify=verify))
    known = TextClassifier().get_params()
    try:
        arguments = from_json(model.header["settings"])
    except ValueError as error:
        raise modelfile.ModelFileError(f"{path}: {error}") from None
    classifier = TextClassifier(**{name: value for name, value in arguments.items() if name in known})
    classifier.model_ = model
    return classifier._ready()
