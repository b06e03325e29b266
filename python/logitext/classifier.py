"""TextClassifier: the path from text to every answer, each method a few lines."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa

from logitext import _core, modelfile
from logitext.evaluation import Evaluation, evaluate
from logitext.features import Block, arrow_numbers, arrow_strings, as_labels, as_texts, buffers
from logitext.logits import argmax, softmax
from logitext.training import Examples, Progress, Settings, Trained, fit, recipe

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["Explanation", "NotFittedError", "TextClassifier", "load"]

NAMED_PER_CLASS = 100
"""The strongest n-grams of each class are kept with their spelling."""

LONGEST_NAME = 200
"""A text may be one word of 100 MB: of its name the beginning is kept, in characters."""

MOST_EPOCHS = 1 << 20

Ngrams = tuple[int, int] | Literal["auto"] | None


class NotFittedError(ValueError, AttributeError):
    """The classifier was asked before it was trained."""


class Share(NamedTuple):
    """What one n-gram adds to one logit: in all (a weight), or in one text."""

    ngram: str
    block: str
    """"words" or "chars"."""
    amount: float


@dataclass(frozen=True)
class Explanation:
    """What each n-gram of a text added to each logit."""

    classes: list[Any]
    logits: NDArray[np.float32]
    """Shape (n_classes,)."""
    bias: NDArray[np.float32]
    """Shape (n_classes,)."""
    ngrams: list[str]
    """The n-grams the model knows, spelled; ends of words in character n-grams are spaces."""
    blocks: list[str]
    """"words" or "chars", of each n-gram."""
    contributions: NDArray[np.float32]
    """Shape (n_ngrams, n_classes): they sum, with the bias, to the logits."""
    unknown: list[str]
    """The n-grams the model has no weight for."""

    @property
    def decision(self) -> Any:
        """The class with the largest logit."""
        return self.classes[int(argmax(self.logits))]

    def strongest(self, label: Any = None, most: int = 10) -> list[Share]:
        """Return the n-grams that moved one logit most, up or down.

        Parameters
        ----------
        label : optional
            A class; the decision by default.
        most : int, default 10
            How many.

        Returns
        -------
        list of Share
            (ngram, block, amount), the largest absolute amount first.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        label = self.decision if label is None else label
        if label not in self.classes:
            raise ValueError(f"{label!r} is not a class: the classes are {self.classes}")
        share = self.contributions[:, self.classes.index(label)]
        order = np.argsort(-np.abs(share), kind="stable")[:most]
        return [Share(self.ngrams[i], self.blocks[i], float(share[i])) for i in order]


class TextClassifier:
    """Text → logits → decision, trained in seconds.

    A scikit-learn estimator (pipelines, grid search, cloning and pickling work).
    No argument is needed for a good result: what is "auto" is chosen on held-out rows.

    Parameters
    ----------
    word_ngrams : (int, int), "auto" or None
        Shortest and longest run of words; "auto" is (1, 2). At most 8.
    char_ngrams : (int, int), "auto" or None
        Shortest and longest run of characters inside a word; "auto" is (2, 5) where
        that lowers the held-out log loss, else None.
    tokens : {"unicode", "whitespace"}
        How text is cut: by UAX #29, or at white space only, for text already segmented.
    learning_rate : float or "auto"
        Step size at the start; it falls linearly to 0.
    epochs : int or "auto"
        Passes over the rows.
    l2 : float or "auto"
        L2 penalty; "auto" is 0: early stopping regularises.
    class_weight : mapping of label to weight, "balanced" or None
        Weight of each row's loss by its class.
    calibration : "auto" or None
        "auto" fits a temperature on held-out rows.
    threads : int or None
        None: the CPUs this process may use. The model is the same for any number.
    random_state : int
        Seed of the order of rows and of what is held out.
    verbose : bool
        Print what is being done.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The labels, sorted, of the type they came in.
    training_ : dict
        How the model came about: plan, search, losses, held-out accuracy and log loss.
    temperature_ : float
        The logits over it are calibrated; 1 where nothing could be held out.
    features_, settings_, library_version_, header_
        What the model file says: of the features, of the arguments, of who made it, and in all.

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
    features_: dict[str, Any]
    settings_: dict[str, Any]
    library_version_: str
    temperature_: float
    header_: dict[str, Any]
    _arrays: dict[str, NDArray[Any]]

    def __init__(
        self,
        *,
        word_ngrams: Ngrams = "auto",
        char_ngrams: Ngrams = "auto",
        tokens: Literal["unicode", "whitespace"] = "unicode",
        learning_rate: float | Literal["auto"] = "auto",
        epochs: int | Literal["auto"] = "auto",
        l2: float | Literal["auto"] = "auto",
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
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
        self.class_weight = class_weight
        self.calibration = calibration
        self.threads = threads
        self.random_state = random_state
        self.verbose = verbose

    # -- learning ---------------------------------------------------------------

    def fit(
        self, texts: Any, labels: Any, sample_weight: Any = None, *, progress: Progress | None = None
    ) -> Self:
        """Learn from labelled texts.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column
        labels : the same of str, int or bool, one per text
        sample_weight : array of float, optional
            Weight of each row's loss, at least 0, not all 0.
        progress : callable, optional
            Told (what is being done, share of it done) as training goes.

        Returns
        -------
        TextClassifier
            Itself.

        Raises
        ------
        ValueError
            If an argument is not as described, a text or label is null, a label is
            empty, there is one class only, or training diverges.
        """
        settings = self._settings()
        column = as_texts(texts)
        classes, codes = as_labels(labels, len(column))
        weights = self._row_weights(classes, codes, sample_weight)
        if weights is not None and not weights.all():  # a row of weight 0 is as none
            used = np.flatnonzero(weights)
            column, codes, weights = column.take(arrow_numbers(used)), codes[used], weights[used]
        examples = Examples(column, codes, len(classes), weights)
        tell = progress or (_print_progress if self.verbose else _silent)
        trained, temperature, record = fit(examples, settings, tell)
        self._arrays = _arrays(trained, column, settings)
        self.header_ = {
            "format_version": modelfile.FORMAT_VERSION,
            "features_version": modelfile.FEATURES_VERSION,
            "library_version": _core.__version__,
            "classes": classes,
            "features": {
                "tokens": settings.tokens,
                "word_ngrams": _range_of("words", trained, settings),
                "char_ngrams": _range_of("chars", trained, settings),
                "documents": len(column),
                "blocks": [{"name": block.name, "features": len(block)} for block in trained.blocks],
            },
            "calibration": {"method": "temperature", "temperature": temperature}
            if self.calibration
            else None,
            "settings": self._settings_to_store(),
            "training": record,
        }
        return self._ready()

    def _settings(self) -> Settings:
        """Check the constructor's arguments, as scikit-learn wants it: here."""
        ranges = {}
        for name, usual in (("word_ngrams", (1, 2)), ("char_ngrams", (2, 5))):
            value = getattr(self, name)
            if isinstance(value, str) and value != "auto":
                raise ValueError(f'{name} must be (shortest, longest), "auto" or None, got {value!r}')
            ranges[name] = (
                usual if isinstance(value, str) else None if value is None else _ngram_range(name, value)
            )
        if ranges["word_ngrams"] is None and ranges["char_ngrams"] is None:
            raise ValueError("word_ngrams and char_ngrams cannot both be None")
        if self.tokens not in ("unicode", "whitespace"):
            raise ValueError(f'tokens must be "unicode" or "whitespace", got {self.tokens!r}')
        if self.calibration not in ("auto", None):
            raise ValueError(f'calibration must be "auto" or None, got {self.calibration!r}')
        rate = _number("learning_rate", self.learning_rate, above=0.0)
        epochs = _number("epochs", self.epochs, above=0.0)
        if epochs is not None and (epochs != int(epochs) or epochs > MOST_EPOCHS):
            raise ValueError(f"epochs must be a whole number up to {MOST_EPOCHS}, got {self.epochs!r}")
        l2 = _number("l2", self.l2, above=-math.ulp(0.0))
        seed = self.random_state
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
            raise ValueError(f"random_state must be an integer in [0, 2**32), got {seed!r}")
        return Settings(
            tokens=self.tokens,
            word_ngrams=ranges["word_ngrams"],
            char_ngrams=ranges["char_ngrams"],
            chars_optional=isinstance(self.char_ngrams, str),
            learning_rate=rate,
            epochs=None if epochs is None else int(epochs),
            l2=l2 or 0.0,
            calibrate=self.calibration is not None,
            threads=self._thread_count(),
            seed=int(seed),
        )

    def _thread_count(self) -> int:
        if self.threads is None:
            return _core.available_threads()
        if (
            isinstance(self.threads, bool)
            or not isinstance(self.threads, int | np.integer)
            or self.threads < 1
        ):
            raise ValueError(f"threads must be a whole number of at least 1, or None, got {self.threads!r}")
        return int(self.threads)

    def _settings_to_store(self) -> dict[str, Any]:
        """The arguments, but for those that do not make another model."""
        settings = self.get_params()
        del settings["threads"], settings["verbose"]
        if isinstance(self.class_weight, Mapping):
            # JSON's keys are strings: pairs keep the type of the labels.
            pairs = [[_plain(label), float(weight)] for label, weight in self.class_weight.items()]
            settings["class_weight"] = pairs
        return {name: _plain(value) for name, value in settings.items()}

    def _row_weights(self, classes: list[Any], codes: NDArray[np.uint32], sample_weight: Any) -> Any:
        if self.class_weight is None and sample_weight is None:
            return None
        weights = np.ones(len(codes))
        if sample_weight is not None:
            weights = _floats("sample_weight", sample_weight)
            if weights.shape != codes.shape:
                raise ValueError(
                    f"sample_weight must be one per text: {len(codes)} texts, shape {weights.shape}"
                )
        if isinstance(self.class_weight, Mapping):
            strange = [label for label in self.class_weight if label not in classes]
            if strange:
                raise ValueError(f"class_weight names {strange[0]!r}, which is not a class")
            of_class = [self.class_weight.get(label, 1.0) for label in classes]
            weights = weights * _floats("class_weight", of_class)[codes]
        elif self.class_weight == "balanced":
            weights = weights * (len(codes) / (len(classes) * np.bincount(codes)))[codes]
        elif self.class_weight is not None:
            raise ValueError(f'class_weight must be a mapping, "balanced" or None, got {self.class_weight!r}')
        bad = ~np.isfinite(weights) | (weights < 0)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"weights must be finite and at least 0, got {weights[row]:g} at row {row}")
        if not weights.any():
            raise ValueError("weights must not all be 0")
        # The step size is meant for rows of weight 1 on average.
        weights /= weights.max()  # else the sum may overflow
        return (weights / weights[weights > 0].mean()).astype(np.float32)

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
        z = _core.logits(buffers(as_texts(texts)), self._layer(), self._thread_count())
        if not np.isfinite(z.sum(dtype=np.float64)):
            row = int(np.argmax(~np.isfinite(z).all(axis=1)))
            raise ValueError(f"the logits at row {row} are not finite: the model file is damaged")
        return z

    def predict(self, texts: Any) -> NDArray[Any]:
        """Return the decision of each text: the class of its largest logit.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        array, shape (n,)
            Labels, of the type they were given in. Ties go to the first class.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        """
        decisions = argmax(self.logits(texts))
        return self.classes_[decisions]

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities: the softmax of the logits over the temperature.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float32 array, shape (n, n_classes)
            Rows sum to 1; the largest is at the decision.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        """
        return softmax(self.logits(texts), temperature=self.temperature_)

    def decision_function(self, texts: Any) -> NDArray[np.float32]:
        """Return scikit-learn's decision values.

        Parameters
        ----------
        texts : as for `logits`

        Returns
        -------
        float32 array, shape (n,) for two classes, else (n, n_classes)
            For two classes the second logit minus the first, else the logits.

        Raises
        ------
        NotFittedError, ValueError
            As `logits`.
        """
        z = self.logits(texts)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def score(self, texts: Any, labels: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on labelled texts.

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
        decisions, codes = argmax(self.logits(texts)), self._codes(labels)[0]
        if len(codes) != len(decisions):
            raise ValueError(f"labels must be one per text: {len(decisions)} texts, {len(codes)} labels")
        hits = decisions == codes
        return float(np.average(hits, weights=sample_weight)) if len(hits) else math.nan

    def evaluate(self, texts: Any, labels: Any) -> Evaluation:
        """Measure the model on labelled texts.

        Parameters
        ----------
        texts : as for `logits`
        labels : one per text, each a class of the model

        Returns
        -------
        Evaluation

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            If a label is not a class of the model, or as `logits`.
        """
        self._fitted()
        column = as_texts(texts)
        codes = self.encode(labels)
        if len(codes) != len(column):
            raise ValueError(f"labels must be one per text: {len(column)} texts, {len(codes)} labels")
        return evaluate(
            self.logits(column), codes, classes=self.header_["classes"], temperature=self.temperature_
        )

    def encode(self, labels: Any) -> NDArray[np.int64]:
        """Return the index of each label in `classes_`.

        Parameters
        ----------
        labels : sequence of labels

        Returns
        -------
        int64 array, shape (n,)

        Raises
        ------
        ValueError
            If a label is not a class of the model; the message names the row.
        """
        self._fitted()
        codes, values = self._codes(labels)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise ValueError(f"the label at row {row}, {values[row]!r}, is not a class of the model")
        return codes

    def _codes(self, labels: Any) -> tuple[NDArray[np.int64], list[Any]]:
        """The index of each label, -1 for one the model does not know, and the labels as a list."""
        index = {label: i for i, label in enumerate(self.header_["classes"])}
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
        z = self.logits(arrow_strings([text]))[0]
        names, rows, values = _core.features(text, self._layer())
        known = rows >= 0
        weights: NDArray[np.float32] = self._arrays["weights"]
        return Explanation(
            classes=list(self.header_["classes"]),
            logits=z,
            bias=np.array(self._arrays["bias"]),
            ngrams=[name for name, yes in zip(names, known, strict=True) if yes],
            blocks=[self._block_of(int(row)) for row in rows[known]],
            contributions=values[known, None] * weights[rows[known]],
            unknown=[name for name, yes in zip(names, known, strict=True) if not yes],
        )

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
        code = int(self.encode([label])[0])
        rows, offsets = self._arrays["named_features"], self._arrays["named_offsets"]
        text = self._arrays["named_text"].tobytes()
        weights = self._arrays["weights"][rows, code]
        order = np.argsort(-weights, kind="stable")[: min(most, NAMED_PER_CLASS)]
        return [
            Share(
                text[int(offsets[i]) : int(offsets[i + 1])].decode(),
                self._block_of(int(rows[i])),
                float(weights[i]),
            )
            for i in order
            if weights[i] > 0
        ]

    def _block_of(self, row: int) -> str:
        for block in self.features_["blocks"]:
            if row < block["features"]:
                return str(block["name"])
            row -= block["features"]
        raise IndexError(f"no feature block holds row {row}")

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
        modelfile.save(path, self._arrays, self.header_)

    def _layer(self) -> _core.Layer:
        arrays, features = self._arrays, self.header_["features"]
        ranges = (features["word_ngrams"], features["char_ngrams"])
        words, chars = (None if r is None else (int(r[0]), int(r[1])) for r in ranges)
        tables: list[_core.Table] = []
        first = bucket = 0
        for block in features["blocks"]:
            n = block["features"]
            buckets = (1 << modelfile.bucket_bits(n)) + 1
            tables.append(
                (
                    block["name"],
                    arrays["hashes"][first : first + n],
                    arrays["buckets"][bucket : bucket + buckets],
                    arrays["document_frequency"][first : first + n],
                )
            )
            first, bucket = first + n, bucket + buckets
        return (
            (features["tokens"], words, chars),
            tables,
            features["documents"],
            arrays["weights"],
            arrays["bias"],
        )

    def _ready(self) -> Self:
        classes: list[Any] = self.header_["classes"]
        # Strings stay Python's: NumPy's own would lose trailing NULs.
        self.classes_ = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        if self.classes_.dtype.kind == "f":  # NumPy's guess for integers around 2**63
            self.classes_ = np.array(classes, dtype=np.uint64 if classes[0] >= 0 else object)
        self.training_ = self.header_["training"]
        self.features_ = self.header_["features"]
        self.settings_ = self.header_["settings"]
        self.library_version_ = self.header_["library_version"]
        calibration = self.header_["calibration"]
        self.temperature_ = calibration["temperature"] if calibration else 1.0
        return self

    def _fitted(self) -> None:
        if not hasattr(self, "header_"):
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
        return hasattr(self, "header_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
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
    arrays, header = modelfile.load(path, verify=verify)
    settings = dict(header["settings"])
    if isinstance(settings.get("class_weight"), list):
        try:
            settings["class_weight"] = dict(settings["class_weight"])
        except (TypeError, ValueError):
            raise modelfile.ModelFileError(f"{path}: settings in the header are not right") from None
    known = TextClassifier().get_params()
    model = TextClassifier(**{k: _arguments(v) for k, v in settings.items() if k in known})
    model._arrays, model.header_ = arrays, header
    return model._ready()


def _arguments(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _arrays(trained: Trained, texts: pa.LargeStringArray, settings: Settings) -> dict[str, NDArray[Any]]:
    """The arrays of the model file."""
    blocks = trained.blocks
    named = _strongest(trained.weights)
    names = [name.encode() for name in _spell(named, blocks, texts, settings)]
    return {
        "weights": trained.weights,
        "bias": trained.bias,
        "hashes": np.concatenate([block.hashes for block in blocks]),
        "document_frequency": np.concatenate([block.document_frequency for block in blocks]),
        "buckets": np.concatenate([_core.buckets(block.hashes) for block in blocks]),
        "named_features": named,
        "named_offsets": np.cumsum([0, *map(len, names)], dtype=np.uint64),
        "named_text": np.frombuffer(b"".join(names), np.uint8),
    }


def _strongest(weights: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Rows of the largest positive weights of each class, each row once."""
    rows = set()
    for column in weights.T:
        most = min(NAMED_PER_CLASS, len(column))
        if most == 0:
            break
        least = np.partition(column, len(column) - most)[len(column) - most]
        candidates = np.flatnonzero(column >= max(least, np.finfo(np.float32).tiny))
        order = np.argsort(-column[candidates], kind="stable")[:most]
        rows.update(candidates[order].tolist())
    return np.array(sorted(rows), dtype=np.uint32)


def _spell(
    named: NDArray[np.uint32], blocks: list[Block], texts: pa.LargeStringArray, settings: Settings
) -> list[str]:
    names = []
    first = 0
    for block in blocks:
        own = named[(named >= first) & (named < first + len(block))] - np.uint32(first)
        wanted = (block.hashes[own], block.first_row[own])
        for name in _core.spell(buffers(texts), recipe(settings), block.name, *wanted):
            names.append(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…")
        first += len(block)
    return names


def _range_of(name: str, trained: Trained, settings: Settings) -> list[int] | None:
    if all(block.name != name for block in trained.blocks):
        return None
    ngrams = settings.word_ngrams if name == "words" else settings.char_ngrams
    return None if ngrams is None else list(ngrams)


def _ngram_range(name: str, value: Any) -> tuple[int, int]:
    try:
        shortest, longest = (operator.index(n) for n in value)
    except (TypeError, ValueError):
        raise ValueError(f'{name} must be (shortest, longest), "auto" or None, got {value!r}') from None
    if not 1 <= shortest <= longest <= 8:
        raise ValueError(f"{name} must be 1 <= shortest <= longest <= 8, got {value!r}")
    return shortest, longest


def _number(name: str, value: Any, *, above: float) -> float | None:
    if isinstance(value, str) and value == "auto":
        return None
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > above):
        least = "above 0" if above == 0 else "at least 0"
        raise ValueError(f'{name} must be a finite number {least}, or "auto", got {value!r}')
    return float(value)


def _floats(name: str, values: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from error


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _silent(what: str, share: float) -> None:
    pass


def _print_progress(what: str, share: float) -> None:
    print(f"{what} {share:4.0%}", flush=True)
