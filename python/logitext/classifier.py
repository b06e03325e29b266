"""TextClassifier: the path from text to every answer, each method a few lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from logitext import modelfile
from logitext.answering import Answering
from logitext.arguments import from_json, thread_count
from logitext.fasttextclassifier import FastTextClassifier
from logitext.fasttextmodel import FastTextModel, is_fasttext
from logitext.features import as_texts
from logitext.learner import Learner, NotFittedError
from logitext.model import Model, logits_by

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    import numpy as np
    from numpy.typing import NDArray

    from logitext.drift import Drift


__all__ = ["FastTextClassifier", "NotFittedError", "TextClassifier", "load"]


class TextClassifier(Learner, Answering):
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

    model_: Model

    # -- answers of its own: the others are `Answering`'s -----------------------

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


def load(
    path: str | os.PathLike[str],
    *,
    verify: bool | Literal["auto"] = "auto",
    strict: bool | None = None,
) -> TextClassifier | FastTextClassifier:
    """Load a model file: our own, or a classifier of fastText's, which is told by how it begins.

    Parameters
    ----------
    path : path
    verify : bool or "auto"
        "auto" checks the header, shapes and small arrays, and all of a file up to
        16 MB; True reads and checks everything. fastText's files have no checksums: of them the structure
        is checked, always.
    strict : bool, optional
        Of a fastText model: answer as fastText does, also where that is a mistake (see ``docs/fasttext.md``).
        By default as it was saved, and False for fastText's own files.

    Returns
    -------
    TextClassifier, or FastTextClassifier of a fastText model
        Its arrays are views of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is not a model file, or damaged, or of a newer format.
    ValueError
        If `strict` is given for a model that is not fastText's.

    Examples
    --------
    >>> import logitext as lt
    >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
    >>> clf.save("model.safetensors")
    >>> lt.load("model.safetensors").predict(["a good one"]).tolist()
    ['yes']
    """
    if is_fasttext(path):
        return FastTextClassifier(FastTextModel.from_file(path, strict=bool(strict)))
    arrays, header = modelfile.load(path, verify=verify)
    if "fasttext" in header:
        asked = header["settings"]["strict"] if strict is None else strict
        return FastTextClassifier(FastTextModel(arrays, {**header, "settings": {"strict": asked}}, asked))
    if strict is not None:
        raise ValueError(f"{os.fsdecode(path)}: strict is for fastText models, and this is none")
    known = TextClassifier().get_params()
    try:
        arguments = from_json(header["settings"])
    except ValueError as error:
        raise modelfile.ModelFileError(f"{os.fsdecode(path)}: {error}") from None
    classifier = TextClassifier(**{name: value for name, value in arguments.items() if name in known})
    classifier.model_ = Model(arrays, header)
    return classifier._ready()
