"""How unlike the training data a row is: from its logits and the n-grams a model knows of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Novelty"]

BIN_ROWS, MOST_BINS = 100, 10
"""What is usual at each length is taken from so many rows, of so many lengths."""
LEAST_SPREAD = 1e-3
"""Of the largest: where all rows are alike, what is a little different is not infinitely far."""


class Novelty:
    """A score that is high where a row is unlike the rows fitted on, and its p-value.

    Fitted on rows that are like those trained on, but were not trained on; no outliers are needed.

    Attributes
    ----------
    scores_ : float32 array, shape (n_fitted,)
        Of the rows fitted on, rising.

    Notes
    -----
    Two things give strange text away: no class fits it (its largest logit is low), and its n-grams were
    never seen. Either may fail by itself: two kinds of text may share words, or a topic be new where the
    words are old. Each is measured in standard deviations from what is usual for texts of that many
    n-grams (a long text knows its class better, and its share of unknown n-grams varies less), and
    the score is their soft maximum, ``log(exp(a) + exp(w b))``. Logits of many classes say more than
    n-grams, so ``w = sqrt(2 / log2(n_classes))``, at most 1.

    The p-value is conformal: a row like those fitted on has one of at most p with probability at most p
    (nearly: the standardising was fitted on the same rows).

    References
    ----------
    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022 (the
    largest logit); Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from logitext.novelty import Novelty
    >>> rng = np.random.default_rng(0)
    >>> usual = rng.normal(size=(999, 3)) + [5.0, 0.0, 0.0]
    >>> novelty = Novelty().fit(usual)
    >>> scores = novelty.score([[5.0, 0.0, 0.0], [0.2, 0.1, 0.0]])
    >>> (novelty.p_values(scores) < 0.01).tolist()
    [False, True]
    """

    scores_: NDArray[np.float32]

    def fit(self, z: ArrayLike, ngrams: ArrayLike | None = None) -> Self:
        """Learn what is usual.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Raw logits of at least one row.
        ngrams : array, shape (n, 2), optional
            How much of each text is known and how much unknown: numbers of n-grams, each perhaps
            weighted by how often it occurs.

        Returns
        -------
        Novelty
            Itself.

        Raises
        ------
        ValueError
            If there are no rows, shapes do not fit, or a row holds NaN or ``+inf``, or only ``-inf``.
        """
        low, unknown, length = _signs(z, ngrams)
        if not len(low):
            raise ValueError("there must be at least one row to learn what is usual from")
        classes = np.shape(z)[1]
        self.weight_ = min(1.0, math.sqrt(2 / math.log2(max(classes, 2))))
        self.low_ = _usual(length, low)
        self.unknown_ = None if ngrams is None else _usual(length, unknown)
        self.scores_ = np.sort(self.score(z, ngrams))
        return self

    def score(self, z: ArrayLike, ngrams: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return the score of each row, high where it is unlike.

        Parameters
        ----------
        z, ngrams
            As for `fit`; `ngrams` must be given just if they were there.

        Returns
        -------
        float32 array, shape (n,)
            In standard deviations, about.

        Raises
        ------
        ValueError
            As `fit`.
        """
        if not hasattr(self, "low_"):
            raise ValueError("nothing is known to be usual yet: call fit first")
        if (ngrams is None) != (self.unknown_ is None):
            raise ValueError("ngrams must be given just if they were in fit")
        low, unknown, length = _signs(z, ngrams)
        found = _deviation(self.low_, length, low)
        if self.unknown_ is not None:
            found = np.logaddexp(found, self.weight_ * _deviation(self.unknown_, length, unknown))
        return found.astype(np.float32)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the conformal p-value of each score, small where a row is unlike.

        Parameters
        ----------
        scores : float array, shape (n,)

        Returns
        -------
        float64 array, shape (n,)
            ``(1 + c) / (1 + n_fitted)``, where c rows fitted on have this score or a higher one.
        """
        higher = len(self.scores_) - np.searchsorted(self.scores_, np.asarray(scores, np.float32))
        return (1 + higher) / (1 + len(self.scores_))

    def to_state(self) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """Return what was fitted, as JSON has it, and the scores."""
        unknown = None if self.unknown_ is None else self.unknown_.tolist()
        return {"weight": self.weight_, "low": self.low_.tolist(), "unknown": unknown}, self.scores_

    @classmethod
    def from_state(cls, state: Mapping[str, Any], scores: NDArray[np.float32]) -> Self:
        """Return what `to_state` told of.

        Raises
        ------
        ValueError
            If it is not as `to_state` returns it.
        """
        made = cls()
        try:
            made.weight_ = float(state["weight"])
            low, unknown = np.array(state["low"], float), state["unknown"]
            made.low_ = low
            made.unknown_ = None if unknown is None else np.array(unknown, float)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a Novelty ({error})") from None
        for table in (low, low if made.unknown_ is None else made.unknown_):
            if table.ndim != 2 or table.shape[0] != 3 or not table.size or not np.isfinite(table).all():
                raise ValueError("not the state of a Novelty: lengths, means and spreads must be finite")
        made.scores_ = scores
        return made


def _signs(z: ArrayLike, ngrams: ArrayLike | None) -> tuple[Any, Any, Any]:
    """Return how low each row's largest logit is, the share of unknown n-grams, and the length."""
    logits = np.asarray(z)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be rows by classes, got shape {logits.shape}")
    low = -logits.max(axis=1).astype(np.float64)
    if not np.isfinite(low).all():
        row = int(np.argmax(~np.isfinite(low)))
        raise ValueError(f"the logits at row {row} have no finite largest one")
    if ngrams is None:
        return low, np.zeros(len(low)), np.zeros(len(low))
    known = np.asarray(ngrams, np.float64)
    if known.shape != (len(low), 2):
        raise ValueError(f"ngrams must have shape ({len(low)}, 2), got {known.shape}")
    if not (np.isfinite(known).all() and (known >= 0).all()):
        raise ValueError("ngrams must be finite and at least 0")
    total = known.sum(axis=1)
    # Of a text without n-grams nothing is known.
    share = np.divide(known[:, 1], total, out=np.ones(len(total)), where=total > 0)
    return low, share, np.log1p(total)


def _usual(length: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Return lengths, and at each the mean and the spread of values; shape (3, n_lengths)."""
    bins = int(np.clip(len(length) // BIN_ROWS, 1, MOST_BINS))
    parts = np.array_split(np.argsort(length, kind="stable"), bins)
    found = np.array([[np.median(length[part]), values[part].mean(), values[part].std()] for part in parts]).T
    largest = found[2].max()
    found[2] = np.maximum(found[2], LEAST_SPREAD * largest if largest > 0 else 1.0)
    # Bins of one length are one.
    at, place = np.unique(found[0], return_inverse=True)
    rows = np.bincount(place)
    return np.array([at, *(np.bincount(place, part) / rows for part in found[1:])])


def _deviation(usual: NDArray[Any], length: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return how far values are from what is usual at their length; beyond the lengths known, at the last."""
    at, mean, spread = usual
    found: NDArray[Any] = (values - np.interp(length, at, mean)) / np.interp(length, at, spread)
    return found
