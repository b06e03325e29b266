"""TextClassifier: the path from text to every answer, each method a few lines."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa

from logitext import modelfile
from logitext.arguments import (
    are_paths,
    as_bytes,
    check,
    class_weights,
    from_json,
    row_weights,
    thread_count,
    to_json,
)
from logitext.calibration import Calibration
from logitext.compression import compress
from logitext.continuing import beginning, go_on
from logitext.epochs import Epoch, Watch
from logitext.evaluation import Evaluation, evaluate
from logitext.explanation import Explanation, Share
from logitext.features import arrow_numbers, as_column, as_labels, as_texts
from logitext.labels import as_label_sets, as_objects
from logitext.logits import argmax
from logitext.model import Model, calibrated, from_training, logits_by
from logitext.multilabel import MultilabelEvaluation, decide, evaluate_multilabel, exact
from logitext.search import HeldOut
from logitext.teaching import lesson
from logitext.training import fit
from logitext.workshop import Examples, Progress, Settings

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.gathering import Stream

__all__ = ["NotFittedError", "TextClassifier", "load"]

Ngrams = tuple[int, int] | Literal["auto"] | None

COMPARED = 5000
"""Rows trained on that a compressed model is compared on, at most."""


class NotFittedError(ValueError, AttributeError):
    """The classifier was asked before it was trained."""


class TextClassifier:
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
        "auto" fits a temperature on held-out rows, and thresholds of several labels; without
        it they are at a probability of a half.
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
        The logits over it are calibrated; 1 where nothing could be held out.
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

    classes_: NDArray[Any]
    training_: dict[str, Any]
    temperature_: float
    shift_: float
    thresholds_: NDArray[np.float32] | None
    model_: Model

    def __init__(
        self,
        *,
        word_ngrams: Ngrams = "auto",
        char_ngrams: Ngrams = "auto",
        tokens: Literal["unicode", "whitespace"] = "unicode",
        learning_rate: float | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        l2: float | Literal["auto"] = "auto",
        label_smoothing: float | Literal["auto"] = "auto",
        z_loss: float = 0.0,
        early_stopping: int | None = None,
        minutes: float | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        multilabel: bool = False,
        max_size: int | str | None = None,
        calibration: Literal["auto"] | None = "auto",
        threads: int | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.word_ngrams = word_ngrams
        self.char_ngrams = char_ngrams
        self.tokens = tokens
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.l2 = l2
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.early_stopping = early_stopping
        self.minutes = minutes
        self.class_weight = class_weight
        self.multilabel = multilabel
        self.max_size = max_size
        self.calibration = calibration
        self.threads = threads
        self.random_state = random_state
        self.verbose = verbose

    # -- learning ---------------------------------------------------------------

    def fit(
        self,
        texts: Any,
        labels: Any = None,
        sample_weight: Any = None,
        *,
        teacher_logits: Any = None,
        temperature: float = 1.0,
        classes: Any = None,
        validation: tuple[Any, Any] | None = None,
        callback: Callable[[Epoch], Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        text: str | None = None,
        label: str | None = None,
        input_format: str | None = None,
        label_separator: str = ";",
    ) -> Self:
        """Learn from labelled texts, or from what another model says of them.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column
            Or, without `labels`, the path of a table, of a folder of tables, a pattern (``*``,
            ``?``, ``[``) or a list of such. Over 128 MB of text are streamed, in bounded memory.
        labels : the same of str, int or bool, one per text
            Beside a teacher they may be missing (null) in some rows, or in all (None).
            With ``multilabel=True`` a list of them per text (an empty one is legal), or a 0/1
            matrix (n, n_classes): an array, a SciPy sparse matrix, a data frame.
        sample_weight : array of float, optional
            Weight of each row's loss, at least 0, not all 0.
        teacher_logits : array of float, shape (n, n_classes), optional
            Another model's logits of the texts: its probabilities become the targets, mixed in
            halves with the label where there is one. Columns in the order of the sorted labels.
        temperature : float, default 1
            The teacher's logits are divided by it first.
        classes : sorted list of labels, optional
            What the columns of `teacher_logits` mean, where the labels do not say it. With
            ``multilabel=True`` all labels there are, in the order of the matrix's columns.
        validation : (texts, labels), optional
            Rows that are never trained on: settings and the temperature are chosen on them, and
            their loss is taken after each epoch. Without them a part of `texts` is held out.
        callback : callable, optional
            Given an `Epoch` (loss, held-out loss, logits, gradient norm, share of saturated rows)
            after each; training ends where it returns True.
        checkpoint : path, optional
            A file that keeps the state of training, about twice a minute and at its end. Where it
            is there already, training goes on from it, to the same model. Remove it when the
            model is saved.
        progress : callable, optional
            Told (what is being done, share of it done) as training goes.
        label_separator : str, default ";"
            With ``multilabel=True``, where strings in files are cut; such files are read into memory.
        text, label, input_format : str, optional
            Of tables: their columns of texts and labels, and format; guessed by default.

        Returns
        -------
        TextClassifier
            Itself. After a teacher, ``training_["held_out"]["agreement"]`` is the share of
            held-out rows on which the decisions of both agree.

        Raises
        ------
        ValueError
            If an argument is not as described, a text or label is null, a label is
            empty, there is one class only, or training diverges; if a label of the validation set
            is none of the classes; if `minutes` are too few for one epoch; if the checkpoint is
            damaged or belongs to other data or settings.

        Examples
        --------
        >>> import logitext as lt
        >>> texts = ["good film", "great acting", "bad plot", "awful film"] * 5
        >>> slow = lt.TextClassifier().fit(texts, ["yes", "yes", "no", "no"] * 5)
        >>> fast = lt.TextClassifier(char_ngrams=None)
        >>> fast = fast.fit(texts, teacher_logits=slow.logits(texts), classes=["no", "yes"])
        >>> fast.predict(["a great film"]).tolist()
        ['yes']
        >>> tags = [["film", "good"], ["good"], ["film"], []] * 5
        >>> clf = lt.TextClassifier(multilabel=True).fit(texts, tags)
        >>> clf.predict(["good film", "bad plot"]).tolist()
        [['film', 'good'], ['film']]
        """
        settings = check(self.get_params())
        tell = progress or (_print_progress if self.verbose else _silent)
        if labels is None and teacher_logits is None and are_paths(texts):
            if sample_weight is not None or classes is not None or temperature != 1:
                raise ValueError("sample_weight, classes and temperature go with texts, not with files")
            separator = label_separator if self.multilabel else None
            how = {"text": text, "label": label, "format": input_format, "separator": separator}
            stream = _read(texts, how, tell, held=self.multilabel)
            if stream.spill is not None:
                with stream.spill:
                    return self._fit_stream(stream, settings, tell, validation, callback, checkpoint)
            texts, labels = stream.table()
        column = as_texts(texts)
        taught = sets = None
        if self.multilabel:
            if teacher_logits is not None or temperature != 1:
                raise ValueError("teacher_logits are for one label per text, not for multilabel=True")
            if labels is None:
                raise ValueError("fit needs labels: with multilabel=True a list of them per text")
            names, sets = as_label_sets(labels, len(column), classes)
            codes = sets.rarest()
        elif teacher_logits is None:
            if labels is None:
                raise ValueError("fit needs labels, or teacher_logits to learn from instead")
            if classes is not None or temperature != 1:
                raise ValueError("classes and temperature belong to teacher_logits, and none are given")
            names, codes = as_labels(labels, len(column))
        else:
            taught = lesson(
                labels, teacher_logits, temperature=temperature, classes=classes, rows=len(column)
            )
            names, codes = taught.classes, taught.codes
        weights = row_weights(names, codes, class_weight=self.class_weight, sample_weight=sample_weight)
        if weights is not None and not weights.all():  # a row of weight 0 is as none
            used = np.flatnonzero(weights)
            column, codes, weights = column.take(arrow_numbers(used)), codes[used], weights[used]
            taught = taught and taught.take(used.astype(np.uint32))
            sets = None if sets is None else sets.take(used)
        held = None
        if validation is not None:
            if taught:
                raise ValueError("validation does not go together with teacher_logits")
            held = _validation(validation, names, several=self.multilabel)
        elif self.early_stopping is not None:
            raise ValueError("early_stopping needs a validation set: fit(..., validation=(texts, labels))")
        examples = Examples(column, codes, len(names), weights, taught, sets)
        made = fit(examples, settings, tell, validation=held, callback=callback, checkpoint=checkpoint)
        arguments = to_json(self.get_params())
        self.model_ = from_training(
            *made,
            texts=column,
            classes=names,
            settings=settings,
            arguments=arguments,
            multilabel=sets is not None,
        )
        return self._shrunk(column, held, tell)

    def _fit_stream(
        self,
        stream: Stream,
        settings: Settings,
        progress: Progress,
        validation: tuple[Any, Any] | None,
        callback: Callable[[Epoch], Any] | None,
        checkpoint: str | os.PathLike[str] | None,
    ) -> Self:
        from logitext.streaming import fit_stream

        if validation is None and self.early_stopping is not None:
            raise ValueError("early_stopping needs a validation set: fit(..., validation=(texts, labels))")
        trained, temperature, record, names, texts = fit_stream(
            stream,
            settings,
            progress,
            class_weights=lambda names, counts: class_weights(names, counts, self.class_weight),
            validation=None
            if validation is None
            else lambda names: _validation(validation, names, several=False),
            callback=callback,
            checkpoint=checkpoint,
        )
        arguments = to_json(self.get_params())
        self.model_ = from_training(
            trained,
            Calibration(temperature),
            record,
            texts=texts,
            classes=names,
            settings=settings,
            arguments=arguments,
        )
        held = None if validation is None else _validation(validation, names, several=False)
        return self._shrunk(texts, held, progress)

    def _shrunk(self, texts: pa.LargeStringArray, held: Examples | None, progress: Progress) -> Self:
        """Compress what was trained, if that is wanted."""
        if self.max_size is not None:
            progress("compressing", 0.0)
            if held is None:
                rows = np.linspace(0, len(texts) - 1, min(len(texts), COMPARED)).astype(np.int64)
                texts = texts.take(arrow_numbers(rows))
            how: dict[str, Any] = {"threads": thread_count(self.threads)}
            most = as_bytes(self.max_size)
            self.model_ = compress(self.model_, most, texts if held is None else held.texts, held, **how)
        return self._ready()

    def partial_fit(
        self,
        texts: Any,
        labels: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        epochs: int = 1,
        validation: tuple[Any, Any] | None = None,
        callback: Callable[[Epoch], Any] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Go on from where the classifier stands, or begin: one pass over these rows.

        New n-grams join; document frequencies of known ones, and how text becomes features,
        stay as first fitted. Nothing is searched for: what is "auto" has its usual value, and a
        step begins at half of what `fit` took, unless `learning_rate` says otherwise.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column
        labels : the same of str, int or bool, one per text; with ``multilabel=True`` as for `fit`
        classes : sequence of labels, optional
            All there will be; counts at the first call only, where the labels do not show them all.
        sample_weight : array of float, optional
            Weight of each row's loss, at least 0.
        epochs : int, default 1
            Passes over the rows; the step falls to 0 over all of them.
        validation : (texts, labels), optional
            Rows never trained on, for `early_stopping` and to fit the temperature on. Without them
            that of `fit` is kept, and marked stale in the header, until `calibrate` is called.
        callback, progress : callable, optional
            As for `fit`.

        Returns
        -------
        TextClassifier
            Itself; ``training_["continued"]`` holds a record of each call.

        Raises
        ------
        ValueError
            If an argument is not as described, a label is none of the classes, or training
            diverges; the classifier then stays as it was.

        Examples
        --------
        >>> import logitext as lt
        >>> clf = lt.TextClassifier().partial_fit(["good film"], ["yes"], classes=["no", "yes"])
        >>> clf = clf.partial_fit(["bad film", "awful"] * 3, ["no", "no"] * 3, epochs=5)
        >>> clf.predict(["good", "awful"]).tolist()
        ['yes', 'no']
        """
        settings = check(self.get_params())
        begun = self.__sklearn_is_fitted__()
        several = self.thresholds_ is not None if begun else self.multilabel
        if several != self.multilabel:
            raise ValueError(f"a model trained with multilabel={several} cannot go on with {self.multilabel}")
        if classes is not None or not begun:
            known = _known(texts, labels, classes, several=several)
            if begun and known != self.model_.classes:
                raise ValueError("classes are those of the first call: a model cannot take others")
        names = self.model_.classes if begun else known
        given = _labelled(texts, labels, names, "is none of the classes", several=several)
        how: dict[str, Any] = {"class_weight": self.class_weight, "sample_weight": sample_weight}
        given = replace(given, row_weights=row_weights(names, given.codes, **how))
        held = None if validation is None else _validation(validation, names, several=several)
        if held is None and self.early_stopping is not None:
            raise ValueError("early_stopping needs a validation set: validation=(texts, labels)")
        if isinstance(epochs, bool) or not (isinstance(epochs, int | np.integer) and epochs >= 1):
            raise ValueError(f"epochs must be a whole number of at least 1, got {epochs!r}")
        model = self.model_ if begun else beginning(names, settings, to_json(self.get_params()), given)
        until = None if self.minutes is None else time.monotonic() + 60 * self.minutes
        tell = progress or (_print_progress if self.verbose else _silent)
        watched = Watch(callback=callback, until=until, patience=settings.early_stopping)
        self.model_ = go_on(
            model, given, settings, tell, epochs=int(epochs), validation=held, watched=watched
        )
        return self._shrunk(given.texts, held, tell)

    def calibrate(self, texts: Any, labels: Any) -> Self:
        """Fit the temperature anew, and thresholds, on rows the model was not trained on.

        Parameters
        ----------
        texts : as for `fit`
        labels : one per text, each a class of the model

        Returns
        -------
        TextClassifier
            Itself. Decisions do not change, but for those by thresholds.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If there are no rows, or a label is none of the classes.

        Examples
        --------
        >>> import logitext as lt
        >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
        >>> clf.calibrate(["a good one", "so bad"], ["yes", "no"]).temperature_ > 0
        True
        """
        self._fitted()
        names, several = self.model_.classes, self.thresholds_ is not None
        held = _labelled(texts, labels, names, "is none of the classes", several=several)
        z = self.logits(held.texts)
        found = HeldOut(held, np.arange(len(held), dtype=np.uint32), z).calibrate().calibration
        header = {**self.model_.header, **calibrated(found, names, multilabel=several)}
        self.model_ = replace(self.model_, header=header)
        return self._ready()

    def compress(self, max_size: int | str, texts: Any = None, labels: Any = None) -> Self:
        """Make the model small: what counts least is left out, weights become bytes.

        Parameters
        ----------
        max_size : int or str
            Bytes the saved file may have, or ``"500kB"``, ``"2MB"`` (2,000,000), ``"2MiB"``. A model
            that is small enough stays as it is.
        texts : as for `fit`, optional
            A few thousand like those to come: on these the temperature is fitted anew. Without
            them it stays, and is marked stale in the header until `calibrate` is called.
        labels : one per text, each a class of the model, optional
            Only of texts the model was not trained on: the temperature then follows them. Else
            it follows what the large model said of the texts, which may be those trained on.

        Returns
        -------
        TextClassifier
            Itself. ``training_["compressed"]`` tells what it cost: ``bytes``, ``ngrams`` and
            ``weights`` before and after, of the texts the ``agreement`` (the share of decisions that
            are the same) and, with labels, ``accuracy`` before and after.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If `max_size` is no size, or too small for a model without n-grams; if there are
            labels and no texts, or arguments are otherwise not as described.

        Notes
        -----
        The model explains itself as exactly as before. `partial_fit` goes on from it in float32.

        Examples
        --------
        >>> import logitext as lt
        >>> texts = [f"a {word} film, number {i % 400}" for i in range(800) for word in ("good", "bad")]
        >>> clf = lt.TextClassifier(epochs=3).fit(texts, ["yes", "no"] * 800).compress("15kB", texts)
        >>> before, after = clf.training_["compressed"]["bytes"]
        >>> after <= 15_000 < before, clf.predict(["good film"]).tolist()
        (True, ['yes'])
        """
        self._fitted()
        most = as_bytes(max_size)
        if texts is None and labels is not None:
            raise ValueError("compress got labels without texts")
        column = None if texts is None else as_texts(texts)
        labelled = None
        if labels is not None:
            several = self.thresholds_ is not None
            labelled = _labelled(
                column, labels, self.model_.classes, "is none of the classes", several=several
            )
        self.model_ = compress(self.model_, most, column, labelled, threads=thread_count(self.threads))
        return self._ready()

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

    def predict(self, texts: Any) -> NDArray[Any]:
        """Return the decision of each text: the class of its largest logit, or its labels.

        Parameters
        ----------
        texts : as for `logits`

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
        """
        return self.decide(self.logits(texts))

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
        """Return calibrated probabilities: the softmax of the logits over the temperature.

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
        return evaluate(
            self.logits(column), codes, classes=self.model_.classes, temperature=self.temperature_
        )

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

    def _ready(self) -> Self:
        classes = self.model_.classes
        # Strings stay Python's: NumPy's own would lose trailing NULs.
        self.classes_ = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        if self.classes_.dtype.kind == "f":  # NumPy's guess for integers around 2**63
            self.classes_ = np.array(classes, dtype=np.uint64 if classes[0] >= 0 else object)
        self.training_ = self.model_.header["training"]
        self.temperature_ = self.model_.temperature
        self.shift_ = self.model_.shift
        self.thresholds_ = self.model_.thresholds
        return self

    def _fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this TextClassifier is not trained yet: call fit, or lt.load a model file")

    # -- scikit-learn's protocol, without scikit-learn --------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments (`deep` is part of the protocol)."""
        code = type(self).__init__.__code__
        names = code.co_varnames[1 : 1 + code.co_kwonlyargcount]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name.

        Raises
        ------
        ValueError
            If there is no such argument.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"TextClassifier has no argument {name!r}: it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True, multi_output=self.multilabel),
            classifier_tags=ClassifierTags(multi_label=self.multilabel),
            input_tags=InputTags(one_d_array=True, two_d_array=False, string=True),
        )

    def __repr__(self) -> str:
        usual = type(self)().get_params()
        changed = (f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(usual[k]))
        return f"TextClassifier({', '.join(changed)})"


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


def _known(texts: Any, labels: Any, classes: Any, *, several: bool) -> list[Any]:
    """All classes: those said, or those met."""
    if several:
        rows = len(as_texts(texts))
        return as_label_sets(labels, rows, classes)[0]
    column = as_column(labels if classes is None else classes, "labels" if classes is None else "classes")
    return as_labels(column, len(column))[0]


def _read(paths: Any, how: dict[str, Any], progress: Progress, *, held: bool) -> Stream:
    """Rows of files; all of them in memory if they must be held."""
    # Not when logitext is imported: the formats of tables take a while.
    from logitext.gathering import gather, total_bytes
    from logitext.sources import files_of
    from logitext.tables import read

    try:
        files = files_of(paths)
    except FileNotFoundError as error:
        if isinstance(paths, list) and isinstance(paths[0], str):
            complaint = "fit needs labels, or teacher_logits to learn from instead, or files"
            raise ValueError(f"{complaint}: {error.filename!r} is none") from error
        raise
    batches = (batch for file in files for batch in read(file, **how))
    return gather(batches, total_bytes(files), progress, held=held)


def _labelled(texts: Any, labels: Any, names: list[Any], complaint: str, *, several: bool) -> Examples:
    """Rows of known classes."""
    if several:
        column = as_texts(texts)
        sets = as_label_sets(labels, len(column), names)[1]
        return Examples(column, sets.rarest(), len(names), None, None, sets)
    column, given = as_texts(texts), as_column(labels, "labels")
    if len(column) != len(given) or not len(column):
        counts = f"{len(column)} texts, {len(given)} labels"
        raise ValueError(f"there must be rows, and a label for each text: {counts}")
    index = {label: code for code, label in enumerate(names)}
    codes = [index.get(label, -1) for label in given.to_pylist()]
    if -1 in codes:
        row = codes.index(-1)
        raise ValueError(f"the label at row {row}, {given[row].as_py()!r}, {complaint}")
    return Examples(column, np.array(codes, np.uint32), len(names), None)


def _validation(given: tuple[Any, Any], names: list[Any], *, several: bool) -> Examples:
    if not (isinstance(given, tuple | list) and len(given) == 2):
        raise ValueError(f"validation must be (texts, labels), got {type(given).__name__}")
    try:
        return _labelled(*given, names, "was never seen in training", several=several)
    except ValueError as error:
        raise ValueError(f"in validation, {error}") from error


def _silent(what: str, share: float) -> None:
    pass


def _print_progress(what: str, share: float) -> None:
    print(f"{what} {share:4.0%}", flush=True)
