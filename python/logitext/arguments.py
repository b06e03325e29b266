"""What the caller asked for, checked: constructor arguments → settings, weights → weights of rows."""

from __future__ import annotations

import math
import operator
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np

from logitext import _core
from logitext.workshop import CHAR_NGRAMS, Range, Settings

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

MOST_EPOCHS = 1 << 20
USUAL_WORDS = (1, 2)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def check(params: Mapping[str, Any]) -> Settings:
    """Turn the arguments of `TextClassifier` into settings for training.

    Parameters
    ----------
    params : mapping
        As `TextClassifier.get_params` gives them.

    Returns
    -------
    Settings

    Raises
    ------
    ValueError
        If an argument is out of its range; the message says what was expected and what came.
    """
    words, chars = (_ngram_range(name, params[name]) for name in ("word_ngrams", "char_ngrams"))
    if words is None and chars is None:
        raise ValueError("word_ngrams and char_ngrams cannot both be None")
    if params["tokens"] not in ("unicode", "whitespace"):
        raise ValueError(f'tokens must be "unicode" or "whitespace", got {params["tokens"]!r}')
    if not isinstance(params["multilabel"], bool):
        raise ValueError(f"multilabel must be True or False, got {params['multilabel']!r}")
    if params["multilabel"] and params["class_weight"] is not None:
        raise ValueError(
            "class_weight is for one label per text: with multilabel=True the thresholds are chosen "
            "label by label, and sample_weight weighs rows"
        )
    if params["calibration"] not in ("auto", None):
        raise ValueError(f'calibration must be "auto" or None, got {params["calibration"]!r}')
    rate = _number("learning_rate", params["learning_rate"], above=0.0)
    epochs = _number("epochs", params["epochs"], above=0.0)
    if epochs is not None and (epochs != int(epochs) or epochs > MOST_EPOCHS):
        raise ValueError(f"epochs must be a whole number up to {MOST_EPOCHS}, got {params['epochs']!r}")
    l2 = _number("l2", params["l2"], above=-math.ulp(0.0))
    smoothing = _number("label_smoothing", params["label_smoothing"], above=-math.ulp(0.0))
    if smoothing is not None and smoothing >= 1:
        raise ValueError(f"label_smoothing must be below 1, got {params['label_smoothing']!r}")
    z_loss = _number("z_loss", params["z_loss"], above=-math.ulp(0.0))
    if params["multilabel"] and z_loss:
        raise ValueError("z_loss is for one label per text: labels by themselves have no log-sum-exp")
    patience = params["early_stopping"]
    if patience is not None and not (_is_whole(patience) and patience >= 1):
        raise ValueError(
            f"early_stopping must be a whole number of epochs from 1 on, or None, got {patience!r}"
        )
    minutes = params["minutes"]
    if minutes is not None:
        minutes = _number("minutes", minutes, above=0.0)
        if minutes is None:
            raise ValueError('minutes must be a number above 0 or None, got "auto"')
    if params["max_size"] is not None:
        as_bytes(params["max_size"])
    seed = params["random_state"]
    if not (_is_whole(seed) and 0 <= seed < 2**32):
        raise ValueError(f"random_state must be an integer in [0, 2**32), got {seed!r}")
    return Settings(
        tokens=params["tokens"],
        word_ngrams=USUAL_WORDS if words == "auto" else words,
        char_ngrams=_char_choices(words, chars),
        learning_rate=rate,
        epochs=None if epochs is None else int(epochs),
        l2=l2 or 0.0,
        label_smoothing=smoothing,
        z_loss=z_loss or 0.0,
        early_stopping=None if patience is None else int(patience),
        minutes=minutes,
        multilabel=params["multilabel"],
        calibrate=params["calibration"] is not None,
        threads=thread_count(params["threads"]),
        seed=int(seed),
    )


def as_bytes(size: Any) -> int:
    """Return how many bytes a model file may have.

    Parameters
    ----------
    size : int or str
        Bytes, or a number and a unit: ``"500kB"``, ``"1.5 MB"`` (10⁶), ``"2MiB"`` (2²⁰).

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is none of these, or not positive.

    Examples
    --------
    >>> from logitext.arguments import as_bytes
    >>> as_bytes("2MB"), as_bytes("1.5kB"), as_bytes("2MiB"), as_bytes(800)
    (2000000, 1500, 2097152, 800)
    """
    found, count = None, 0
    if isinstance(size, str):
        found = re.fullmatch(r"(\d{1,18})(?:\.(\d{1,9}))? ?([kmg]i?)?b?", size.strip().lower(), re.ASCII)
    elif _is_whole(size):
        count = int(size)
    if found is not None:
        whole, part, unit = found[1], found[2] or "", found[3] or ""
        count = int(whole + part) * UNITS[unit] // 10 ** len(part)
    if not 0 < count < 1 << 63:
        raise ValueError(f"max_size must be bytes, or a text like 500kB, 1.5MB or 2MiB, got {size!r}")
    return count


@lru_cache(maxsize=1)
def _available(_second: int) -> int:
    # Found anew each second: reading a container's limits takes longer than a short text.
    return _core.available_threads()


def thread_count(threads: Any) -> int:
    """Return how many threads to use: at most, and by default, the CPUs this process may use.

    Results do not depend on it, and more threads than CPUs would wait for each other.

    Raises
    ------
    ValueError
        If it is not a whole number of at least 1, or None.
    """
    available = _available(int(time.monotonic()))
    if threads is None:
        return available
    if not (_is_whole(threads) and threads >= 1):
        raise ValueError(f"threads must be a whole number of at least 1, or None, got {threads!r}")
    return min(int(threads), available)


def row_weights(
    classes: list[Any], codes: NDArray[np.uint32], *, class_weight: Any, sample_weight: Any
) -> NDArray[np.float32] | None:
    """Return the weight of each row, 1 on average over rows that have one.

    Parameters
    ----------
    classes : list
        The labels.
    codes : uint32 array, shape (n,)
        Class of each row.
    class_weight : mapping of label to weight, "balanced" or None
    sample_weight : array of float, shape (n,), or None

    Returns
    -------
    float32 array, shape (n,), or None
        None: all rows count the same.

    Raises
    ------
    ValueError
        If weights are not numbers, not one per row, negative, not finite or all 0,
        or `class_weight` names a label that is no class.
    """
    if class_weight is None and sample_weight is None:
        return None
    weights = np.ones(len(codes)) if sample_weight is None else _floats("sample_weight", sample_weight)
    if weights.shape != codes.shape:
        raise ValueError(f"sample_weight must be one per text: {len(codes)} texts, shape {weights.shape}")
    if isinstance(class_weight, Mapping):
        spelled = {str(label): label for label in classes}  # a command line knows no numbers
        known = {label if label in classes else spelled.get(label): w for label, w in class_weight.items()}
        if None in known:
            strange = next(label for label in class_weight if label not in classes and label not in spelled)
            raise ValueError(f"class_weight names {strange!r}, which is not a class")
        of_class = [known.get(label, 1.0) for label in classes]
        weights = weights * _floats("class_weight", of_class)[codes]
    elif class_weight == "balanced":
        weights = weights * (len(codes) / (len(classes) * np.bincount(codes)))[codes]
    elif class_weight is not None:
        raise ValueError(f'class_weight must be a mapping, "balanced" or None, got {class_weight!r}')
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"weights must be finite and at least 0, got {weights[row]:g} at row {row}")
    if not weights.any():
        raise ValueError("weights must not all be 0")
    # The step size is meant for rows of weight 1 on average.
    weights = weights / weights.max()  # else the sum may overflow
    scaled: NDArray[np.float32] = (weights / weights[weights > 0].mean()).astype(np.float32)
    return scaled


def class_weights(
    classes: list[Any], counts: NDArray[np.uint32], class_weight: Any
) -> NDArray[np.float32] | None:
    """Return the weight of a row of each class, 1 on average over rows that have one.

    Parameters
    ----------
    classes : list
    counts : uint32 array, shape (n_classes,)
        Rows of each.
    class_weight : mapping of label to weight, "balanced" or None

    Returns
    -------
    float32 array, shape (n_classes,), or None

    Raises
    ------
    ValueError
        As `row_weights`.
    """
    if class_weight is None:
        return None
    codes = np.arange(len(classes), dtype=np.uint32)
    if class_weight == "balanced":
        weights = counts.sum() / (len(classes) * counts.astype(np.float64))
    else:
        given = row_weights(classes, codes, class_weight=class_weight, sample_weight=None)
        assert given is not None
        weights = given.astype(np.float64)
    used = weights > 0
    mean = (weights * counts).sum() / counts[used].sum()
    scaled: NDArray[np.float32] = (weights / mean).astype(np.float32)
    return scaled


def are_paths(value: object) -> bool:
    """Tell whether something names files rather than holding texts: a path or string, or a list of them."""
    if isinstance(value, str | os.PathLike):
        return True
    listed = isinstance(value, list | tuple) and len(value) > 0
    return listed and all(isinstance(path, str | os.PathLike) for path in value)  # type: ignore[attr-defined]


def to_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as the model file keeps them: without those that make no other model."""
    kept = {name: value for name, value in params.items() if name not in ("threads", "verbose")}
    if isinstance(kept["class_weight"], Mapping):
        # JSON's keys are strings: pairs keep the type of the labels.
        kept["class_weight"] = [[label, float(weight)] for label, weight in kept["class_weight"].items()]
    return {name: _plain(value) for name, value in kept.items()}


def from_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `to_json` kept.

    Raises
    ------
    ValueError
        If they are not what `to_json` makes.
    """
    params = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    if isinstance(params.get("class_weight"), tuple):
        try:
            params["class_weight"] = dict(params["class_weight"])
        except (TypeError, ValueError):
            raise ValueError("class_weight in the settings is not a list of pairs") from None
    return params


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _ngram_range(name: str, value: Any) -> Range | Literal["auto"] | None:
    if value is None or (isinstance(value, str) and value == "auto"):
        return None if value is None else "auto"
    try:
        shortest, longest = (operator.index(n) for n in value)
    except (TypeError, ValueError):
        raise ValueError(f'{name} must be (shortest, longest), "auto" or None, got {value!r}') from None
    if not 1 <= shortest <= longest <= 8:
        raise ValueError(f"{name} must be 1 <= shortest <= longest <= 8, got {value!r}")
    return shortest, longest


def _char_choices(words: Any, chars: Range | Literal["auto"] | None) -> tuple[Range | None, ...]:
    if chars == "auto":
        return tuple(ngrams for ngrams in CHAR_NGRAMS if ngrams or words)
    return (chars,)


def _number(name: str, value: Any, *, above: float) -> float | None:
    if isinstance(value, str) and value == "auto":
        return None
    number = _is_whole(value) or isinstance(value, float | np.floating)
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
