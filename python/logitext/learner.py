"""What a classifier is made of: its arguments, and how it learns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.arguments import (
    are_paths,
    as_bytes,
    check,
    class_weights,
    row_weights,
    thread_count,
    to_json,
)
from logitext.compression import compress
from logitext.continuing import beginning, go_on
from logitext.epochs import Epoch, Watch
from logitext.evidence import HeldRows
from logitext.features import arrow_numbers, as_column, as_labels, as_texts, buffers
from logitext.judging import judged
from logitext.labels import as_class_array, as_label_sets
from logitext.model import Model, calibrated, from_training
from logitext.search import HeldOut, set_aside
from logitext.teaching import lesson
from logitext.training import fit
from logitext.workshop import Examples, Progress, Settings

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.gathering import Stream

__all__ = ["Learner", "NotFittedError"]

Ngrams = tuple[int, int] | Literal["auto"] | None

COMPARED = 5000
"""Rows trained on that a compressed model is compared on, at most."""


class NotFittedError(ValueError, AttributeError):
    """The classifier was asked before it was trained."""


class Learner:
    """The learning half of `logitext.TextClassifier`, and scikit-learn's protocol."""

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
        holdout: float | None = None,
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
        holdout : float, optional
            Share of the rows that nothing at all is fitted on, neither weights nor calibration: what
            `predict_set`, `novelty_pvalue` and ``predict(max_error=)`` promise is then exact. Without
            it they go by rows held out from a training like this one, and are approximate.
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
                if holdout is not None:
                    with stream.spill:
                        raise ValueError(
                            "holdout is for rows that memory holds: keep some apart, and call calibrate"
                        )
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
        aside = None
        if holdout is not None:
            if taught or self.multilabel:
                raise ValueError("holdout is for one label per text, and without a teacher")
            examples, aside = _set_aside(examples, holdout, settings.seed)
            column = examples.texts
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
        self._shrunk(column, held, tell)
        if aside is not None:
            self.model_ = judged(self.model_, self._held(aside), calibrate=False)
        return self._ready()

    def _held(self, examples: Examples) -> HeldRows:
        """What is said of rows that were not learned from."""
        z, ngrams = self.model_.read(examples.texts, thread_count(self.threads))
        return HeldRows(z, examples.codes, ngrams)

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
        learned, names, texts = fit_stream(
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
            *learned,
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
        """Fit calibration, sets, abstention and thresholds anew, on rows the model was not trained on.

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
        if several:
            found = HeldOut(held, np.arange(len(held), dtype=np.uint32), self._held(held).logits).calibrate()
            header = {**self.model_.header, **calibrated(found.calibration, names, multilabel=True)}
            self.model_ = replace(self.model_, header=header)
        else:
            self.model_ = judged(self.model_, self._held(held))
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

    def _ready(self) -> Self:
        classes = self.model_.classes
        self.classes_ = as_class_array(classes)
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


def _set_aside(examples: Examples, share: Any, seed: int) -> tuple[Examples, Examples]:
    """Part rows, drawn from all alike, from those to learn from."""
    if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 < share < 1:
        raise ValueError(f"holdout must be a share of the rows above 0 and below 1, got {share!r}")
    chosen = set_aside(examples.codes, _core.fingerprints(buffers(examples.texts)), float(share), seed)
    if not chosen.any():
        raise ValueError(f"holdout={share:g} of {len(examples)} rows is none that can be spared")
    kept, aside = (np.flatnonzero(rows).astype(np.uint32) for rows in (~chosen, chosen))
    return examples.take(kept), examples.take(aside)


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
