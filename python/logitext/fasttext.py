"""fastText's own names, for code that uses them: ``import logitext.fasttext as fasttext``.

Models are fastText's files, what ``logitext convert`` or ``calibrate`` made of them, or ours; answers have
the shapes fastText gives them. See ``docs/fasttext.md`` for what differs and why.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.answering import Answering
from logitext.arguments import thread_count
from logitext.classifier import FastTextClassifier, TextClassifier, load
from logitext.fasttextschema import PREFIX
from logitext.features import as_texts
from logitext.logits import top_k

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["EOS", "FastText", "load_model", "tokenize", "train_supervised"]

EOS = "</s>"
SPACES = " \n\r\t\v\f\0"
AT_ONCE = 4 << 20
"""Logits that are held at once."""

ARGUMENTS = (
    "input", "lr", "dim", "ws", "epoch", "minCount", "minCountLabel", "minn", "maxn", "neg", "wordNgrams",
    "loss", "bucket", "thread", "lrUpdateRate", "t", "label", "verbose", "pretrainedVectors", "seed",
    "autotuneValidationFile", "autotuneMetric", "autotunePredictions", "autotuneDuration",
    "autotuneModelSize",
)  # fmt: skip
"""Of `train_supervised`, in fastText's order."""
OTHER_NAMES = {
    "min_count": "minCount",
    "word_ngrams": "wordNgrams",
    "lr_update_rate": "lrUpdateRate",
    "label_prefix": "label",
    "pretrained_vectors": "pretrainedVectors",
}
HEEDED = (
    "input", "label", "loss", "thread", "verbose", "seed",
    "autotuneValidationFile", "autotuneDuration", "autotuneModelSize",
)  # fmt: skip


def load_model(path: str | os.PathLike[str], *, strict: bool | None = None) -> FastText:
    """Load a model.

    Parameters
    ----------
    path : path
        Of fastText's ``.bin`` or ``.ftz``, or of a model in our format.
    strict : bool, optional
        As for `logitext.load`.

    Returns
    -------
    FastText

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is not a model file, or damaged.

    Examples
    --------
    >>> import logitext.fasttext as fasttext
    >>> model = fasttext.load_model("lid.176.ftz")  # doctest: +SKIP
    >>> model.predict("Guten Morgen", k=2)  # doctest: +SKIP
    (('__label__de', '__label__nl'), array([0.99, 0.  ], dtype=float32))
    """
    return FastText(load(path, strict=strict))


def train_supervised(*positional: Any, **named: Any) -> FastText:
    """Train on a file of ``__label__`` lines, with our learner.

    Parameters
    ----------
    input : path
        Lines of ``__label__`` words and text.
    loss : str
        "ova": a text may have several labels; so it is, too, where a line has more than one.
    thread, seed, verbose : int
        As fastText has them; the model is the same for any number of threads.
    autotuneValidationFile : path
        A validation set. `autotuneDuration` is the time for all, in seconds, `autotuneModelSize` the size of
        the file ("2M").
    **others
        Any other argument of fastText's is taken and does not matter, which a warning says: step size,
        passes and n-grams are chosen on held-out rows, nothing is hashed, there is no hidden layer.

    Returns
    -------
    FastText

    Raises
    ------
    TypeError
        If fastText has no such argument.
    ValueError
        If the file has no labelled lines, or labels have another prefix than ``__label__``.

    Examples
    --------
    >>> from pathlib import Path
    >>> import logitext.fasttext as fasttext
    >>> lines = ["__label__yes good film", "__label__no bad film"] * 9
    >>> _ = Path("films.txt").write_text("\\n".join(lines) + "\\n")
    >>> model = fasttext.train_supervised(input="films.txt", thread=1)
    >>> model.predict("good")[0]
    ('__label__yes',)
    """
    given = _arguments(positional, named)
    path = given.get("input")
    if path is None:
        raise TypeError("train_supervised needs input=, a file of __label__ lines")
    if given.get("label", PREFIX) != PREFIX:
        raise ValueError(f"labels must begin with {PREFIX!r}, got label={given['label']!r}")
    ignored = sorted(name for name in given if name not in HEEDED)
    if ignored:
        warnings.warn(
            f"train_supervised: {', '.join(ignored)} no longer matter: what training needs is chosen on "
            "held-out rows, and n-grams are not hashed to buckets",
            stacklevel=2,
        )
    texts, labels = _lines(path)
    several = given.get("loss") in ("ova", "one-vs-all") or any(len(own) != 1 for own in labels)
    validation = None
    if given.get("autotuneValidationFile"):
        held, truth = _lines(given["autotuneValidationFile"])
        validation = (held, truth if several else [own[0] for own in truth])
    tuned = "autotuneDuration" in given or validation is not None
    size = given.get("autotuneModelSize") or None
    classifier = TextClassifier(
        multilabel=several,
        threads=given.get("thread"),
        random_state=given.get("seed", 0),
        verbose=given.get("verbose", 0) > 1,
        minutes=given.get("autotuneDuration", 300) / 60 if tuned else None,
        max_size=f"{str(size).upper()}B" if isinstance(size, str) and size[-1:].isalpha() else size,
    )
    classifier.fit(texts, labels if several else [own[0] for own in labels], validation=validation)
    return FastText(classifier)


def train_unsupervised(*positional: Any, **named: Any) -> FastText:
    """Refuse: Logitext makes classifiers, not word vectors.

    Raises
    ------
    ValueError
        Always.
    """
    raise ValueError("Logitext trains classifiers, not word vectors: use fastText or gensim for those")


def tokenize(text: str) -> list[str]:
    """Cut a text as fastText does: at white space; a line feed is the word ``</s>``.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str

    Examples
    --------
    >>> tokenize("a\\u00a0b c\\n")
    ['a\\xa0b', 'c', '</s>']
    """
    marked = text.replace("\n", f" {EOS} ")
    return [word for word in marked.translate({ord(space): " " for space in SPACES}).split(" ") if word]


class FastText:
    """A model with fastText's methods; `classifier` is the same with ours.

    Parameters
    ----------
    classifier : FastTextClassifier or TextClassifier
    """

    def __init__(self, classifier: Answering) -> None:
        self.classifier = classifier
        self._strict = isinstance(classifier, FastTextClassifier) and classifier.strict
        self._labels = [f"{self._prefix}{label}" for label in classifier.model_.classes]

    @property
    def _prefix(self) -> str:
        return str(self.classifier.model_.header.get("fasttext", {"prefix": PREFIX})["prefix"])

    def predict(
        self, text: str | list[str], k: int = 1, threshold: float = 0.0, on_unicode_error: str = "strict"
    ) -> tuple[Any, Any]:
        """Return labels and their probabilities, the most probable first.

        Parameters
        ----------
        text : str or list of str
        k : int, default 1
            How many at most; -1 is all.
        threshold : float, default 0.0
            Least probability of a label.
        on_unicode_error : str
            Taken as fastText takes it, and without effect: labels are UTF-8.

        Returns
        -------
        labels : tuple of str, or of a list of texts a list of lists
        probabilities : float32 array, or of a list of texts a list of arrays
            Never above 1, but as fastText's with ``strict=True``.

        Raises
        ------
        ValueError
            If `k` is neither -1 nor at least 1; with ``strict=True`` if a text holds a line feed.
        """
        if k < 1 and k != -1:
            raise ValueError("k needs to be 1 or higher!")
        if isinstance(text, str):
            return self._one(text, k, threshold)
        found = list(self._each(text, k, threshold))
        return [labels for labels, _ in found], [shares for _, shares in found]

    def _one(self, text: str, k: int, threshold: float) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """As `_each`, without what only many texts are worth."""
        shares, known = self._shares([text])
        if not known[0]:
            return (), shares[0, :0]
        own = shares[0]
        order = np.argsort(-own, kind="stable")[: None if k == -1 else k] if k != 1 else [int(own.argmax())]
        best = own[order]
        if not threshold <= 0:  # nor not a number
            fits = np.asarray(best >= np.float32(threshold))
            order, best = [at for at, yes in zip(order, fits, strict=True) if yes], best[fits]
        return tuple([self._labels[at] for at in order]), best

    def _each(
        self, texts: list[str], k: int, threshold: float
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Labels and probabilities of each text."""
        labels = self._labels
        many = len(labels) if k == -1 else min(k, len(labels))
        rows = max(1, AT_ONCE // len(labels))
        for begin in range(0, len(texts), rows):
            part = texts[begin : begin + rows]
            shares, known = self._shares(part)
            order = top_k(shares, many)[1]
            best: NDArray[np.float32] = np.take_along_axis(shares, order, axis=1)
            fits: NDArray[np.bool_] = (best >= np.float32(threshold)) & known[:, None]
            # A row at a time costs more than its logits: what can be done for all is.
            whole: Any = fits.all(axis=1).tolist()
            for row, (places, own) in enumerate(zip(order.tolist(), best, strict=True)):
                if whole[row]:
                    yield [labels[at] for at in places], own
                else:
                    inside = fits[row]
                    yield [labels[at] for at, yes in zip(places, inside, strict=True) if yes], own[inside]

    def _shares(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probabilities, and whether anything is known of a text: fastText then has no answer."""
        model = self.classifier.model_
        known = np.ones(len(texts), bool)
        shares = model.probabilities(self.classifier.logits(texts))
        if self._strict and isinstance(self.classifier, FastTextClassifier):
            amounts = self.classifier.model_.amounts(as_texts(texts), thread_count(self.classifier.threads))
            known = amounts[:, 2] > 0
        return shares, known

    def test(
        self, path: str | os.PathLike[str], k: int = 1, threshold: float = 0.0
    ) -> tuple[int, float, float]:
        """Measure the model on a file of ``__label__`` lines.

        Parameters
        ----------
        path : path
        k, threshold
            As for `predict`.

        Returns
        -------
        (int, float, float)
            Lines with a label the model knows; of all labels given the share that is right (precision at k),
            and of all right labels the share that was given (recall at k).

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        texts, truth = _lines(path)
        known = set(self._labels)
        rows = [[label for label in (PREFIX + own for own in labels) if label in known] for labels in truth]
        kept = [at for at, labels in enumerate(rows) if labels]
        given = self.predict([texts[at] for at in kept], k, threshold)[0]
        right = sum(len(set(rows[at]) & set(own)) for at, own in zip(kept, given, strict=True))
        said, gold = sum(map(len, given)), sum(len(rows[at]) for at in kept)
        return len(kept), right / said if said else float("nan"), right / gold if gold else float("nan")

    def get_labels(self, include_freq: bool = False, on_unicode_error: str = "strict") -> Any:
        """Return the labels, with ``include_freq=True`` also how often each was seen in training."""
        if not include_freq:
            return list(self._labels)
        return list(self._labels), self._fasttext("frequencies").counts()[-len(self._labels) :]

    def get_words(self, include_freq: bool = False, on_unicode_error: str = "strict") -> Any:
        """Return the words of the dictionary, with ``include_freq=True`` also how often each was seen."""
        model = self._fasttext("a dictionary")
        words = [word.decode(errors=on_unicode_error) for word in model.words()]
        return (words, model.counts()[: len(words)]) if include_freq else words

    def get_sentence_vector(self, text: str) -> NDArray[np.float32]:
        """Return the mean of the rows of a text, shape (dim,).

        Raises
        ------
        ValueError
            If the text holds a line feed, or the model has no hidden layer.
        """
        if "\n" in text:
            raise ValueError("predict processes one line at a time (remove '\\n')")
        vector: NDArray[np.float32] = self._fasttext("a hidden layer").hidden(as_texts([text]), threads=1)[0]
        return vector

    def get_dimension(self) -> int:
        """Return the size of the hidden layer."""
        return int(self._fasttext("a hidden layer").header["fasttext"]["dim"])

    def is_quantized(self) -> bool:
        """Tell whether the input matrix is quantised."""
        return "input_codes" in self.classifier.model_.arrays

    @property
    def labels(self) -> list[str]:
        """The labels."""
        return list(self._labels)

    @property
    def words(self) -> list[str]:
        """The words of the dictionary."""
        return list(self.get_words())

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file of our format, whole or not at all."""
        self.classifier.save(path)

    def _fasttext(self, what: str) -> Any:
        if not isinstance(self.classifier, FastTextClassifier):
            raise ValueError(f"this model has not {what}: it was trained by Logitext, not by fastText")
        return self.classifier.model_


def _arguments(positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    given = dict(zip(ARGUMENTS, positional, strict=False))
    if len(positional) > len(ARGUMENTS):
        raise TypeError(f"train_supervised takes {len(ARGUMENTS)} arguments, got {len(positional)}")
    for name, value in named.items():
        name = OTHER_NAMES.get(name, name)
        if name not in ARGUMENTS:
            raise TypeError(f"unexpected keyword argument {name!r}")
        if name in given:
            raise TypeError(f"multiple values for argument {name!r}")
        given[name] = value
    return given


def _lines(path: str | os.PathLike[str]) -> tuple[list[str], list[list[str]]]:
    """Texts and labels of a file of ``__label__`` lines; lines without a label are left out."""
    texts, labels = [], []
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            words = tokenize(line.removesuffix("\n"))
            own = [word.removeprefix(PREFIX) for word in words if word.startswith(PREFIX) and word != PREFIX]
            if own:
                texts.append(" ".join(word for word in words if not word.startswith(PREFIX)))
                labels.append(own)
    if not texts:
        raise ValueError(f"{os.fsdecode(path)}: has no lines with a label, as in '{PREFIX}news Some text'")
    return texts, labels
