"""Answering only what is sure enough: thresholds of confidence that keep to a stated error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from logitext.binomial import cdf, upper_bound
from logitext.checked import as_labels, as_logits, as_share, log_probabilities
from logitext.logits import argmax, margin

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Level", "Selective", "UnattainableError"]

Score = Literal["probability", "margin", "own"]

STEP = 1.01
"""Each threshold that is tried answers so many times the rows of the one before."""
STARTS, SHARE, FEWEST = 8, 0.7, 8
"""At most so many starts of the sequence, each with half the rows of the next, seven tenths of what the
next one has, and at least so many rows: see `Selective`."""


class UnattainableError(ValueError):
    """No threshold keeps to the error that was asked for.

    Attributes
    ----------
    achievable : (float, float) or None
        The smallest error that can be promised on the rows fitted on, and the share of them that is
        answered then; None if none can.
    """

    def __init__(self, message: str, achievable: tuple[float, float] | None = None) -> None:
        super().__init__(message)
        self.achievable = achievable


class Level(NamedTuple):
    """What a promise of at most so much error comes to, on the rows fitted on."""

    max_error: float
    threshold: float
    """Answered is what has a confidence above it; inf where the promise cannot be made."""
    answered: float
    """Share of the rows."""
    error: float
    """Observed among those answered; NaN if none are."""
    bound: float
    """What the error is below, by the test that was passed: at most `max_error`. NaN if none was."""


class Selective:
    """Abstention at a stated error: which rows to answer so that few of the answers are wrong.

    ``threshold(e)`` is the lowest threshold of confidence of which the held-out rows prove, with 95 %
    confidence, that the error among rows above it is at most e. In 95 of 100 draws of held-out rows,
    or more, the true error of what it answers is at most e; rows are answered more seldom than an
    oracle would, the less so the more held-out errors there are.

    Attributes
    ----------
    score : {"probability", "margin", "own"}
        What confidence is: see `fit`.
    confidence_ : float32 array, shape (n,)
        Of the rows fitted on, the surest first; log-probability of the decision for "probability".
    hits_ : bool array, shape (n,)
        Whether the decision was right.

    Notes
    -----
    A threshold that leaves k held-out rows, e of them wrong, has an error above the level with p-value
    P(at most e errors | k, level): the exact binomial tail. Many thresholds are tried, and each is
    another chance to be wrong. They are tried in an order fixed before labels are seen, from the
    strictest down, at 1.01 times the rows from one to the next, and share the 5 % by Wiens's fallback
    procedure: the thresholds that leave 1/2, 1/4, ..., 1/256 of the rows have a part of it, each seven
    tenths of the one before; a test that is passed hands what it had to the next, one that is not
    passed loses it. So most of the 5 % is there where the error begins to rise, and a slip among the
    few surest rows, which cannot prove much, does not end the search.

    The bound is exact for each threshold. For the choice among them it is exact if surer rows are not
    more often wrong; where they are, simulations still keep to it.

    References
    ----------
    Geifman & El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017; Wiens, "A
    fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical Statistics 2,
    2003; Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then test", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import logitext as lt
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(5000, 3)) * 4
    >>> y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)  # drawn from their softmax
    >>> selective = lt.Selective().fit(z, y)
    >>> round(selective.threshold(0.05), 2)
    0.81
    >>> selective.predict([[4.0, 0.0, 0.0], [0.2, 0.1, 0.0]], max_error=0.05).tolist()
    [0, -1]
    """

    score: Score
    confidence_: NDArray[np.float32]
    hits_: NDArray[np.bool_]

    def __repr__(self) -> str:
        return f"Selective({f'{len(self.hits_)} rows, {self.score}' if hasattr(self, 'hits_') else ''})"

    def fit(self, z: ArrayLike, y: ArrayLike, *, score: str | ArrayLike = "probability") -> Self:
        """Take the logits and true classes of rows the model did not learn from.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits, best calibrated; ``-inf`` for a masked class.
        y : int array, shape (n,)
            True classes.
        score : {"probability", "margin"} or array of shape (n,), default "probability"
            Confidence: the largest probability; the largest logit less the second; or any numbers,
            larger where the decision is surer.

        Returns
        -------
        Selective
            Itself.

        Raises
        ------
        ValueError
            If shapes do not fit; a row of `z` holds NaN or ``+inf``, or is masked as a whole; labels are
            not integers in ``[0, n_classes)``; or `score` is another word, or holds NaN.
        """
        logits = as_logits(z)
        labels = as_labels(y, logits.shape)
        own = None if isinstance(score, str) else score
        if own is None and score not in ("probability", "margin"):
            raise ValueError(f'score must be "probability", "margin" or an array, got {score!r}')
        self.score = score if own is None else "own"  # type: ignore[assignment]
        confidence = self._confidence(logits, own)
        hits = argmax(logits) == labels
        order = np.argsort(-confidence, kind="stable")
        self._keep(confidence[order], hits[order])
        return self

    def threshold(self, max_error: float, confidence: float = 0.95) -> float:
        """Return the confidence above which rows are answered.

        Parameters
        ----------
        max_error : float
            Above 0 and below 1: the error among answered rows that is not to be exceeded.
        confidence : float, default 0.95
            Above 0 and below 1: the probability with which it is not.

        Returns
        -------
        float
            In the unit of the score; a probability for "probability", 0 where every row is answered
            (``-inf`` for the other scores).

        Raises
        ------
        UnattainableError
            If the held-out rows do not prove it of any threshold.
        ValueError
            If `max_error` or `confidence` is out of range.
        """
        at, _ = self._promised(max_error, confidence)
        return self._shown(self._bars[at])

    def answers(
        self,
        z: ArrayLike,
        max_error: float,
        confidence: float = 0.95,
        *,
        score: ArrayLike | None = None,
    ) -> NDArray[np.bool_]:
        """Say which rows are answered.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits of the same kind as those fitted on.
        max_error, confidence : float
            As for `threshold`.
        score : array, shape (n,), optional
            Confidence of the rows, where it was an array in `fit`.

        Returns
        -------
        bool array, shape (n,)

        Raises
        ------
        UnattainableError
            As `threshold`.
        ValueError
            If arguments are out of range, or `z` or `score` cannot be used: see `fit`.
        """
        at, _ = self._promised(max_error, confidence)
        sure: NDArray[np.bool_] = self._confidence(as_logits(z), score) > self._bars[at]
        # With nothing left out, nothing is too unsure, even what is as unsure as can be.
        sure |= self._rows[at] == len(self.hits_)
        return sure

    def predict(
        self,
        z: ArrayLike,
        max_error: float,
        confidence: float = 0.95,
        *,
        score: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """Return the decision of the rows that are answered.

        Parameters
        ----------
        z, max_error, confidence, score
            As for `answers`.

        Returns
        -------
        int64 array, shape (n,)
            The index of the largest logit, or -1: no answer.

        Raises
        ------
        ValueError
            As `answers`.
        """
        logits = as_logits(z)
        return np.where(self.answers(logits, max_error, confidence, score=score), argmax(logits), -1)

    def table(
        self, levels: Iterable[float] = (0.01, 0.02, 0.05, 0.1), confidence: float = 0.95
    ) -> list[Level]:
        """Return what each level comes to on the rows fitted on.

        Parameters
        ----------
        levels : iterable of float
        confidence : float, default 0.95
            Of each level by itself.

        Returns
        -------
        list of Level
            In the order of `levels`. Where one cannot be promised nothing is answered.

        Raises
        ------
        ValueError
            If levels or `confidence` are out of range.
        """
        found = []
        for level in levels:
            miss = float(1 - as_share(confidence, "confidence"))
            best = self._search(float(as_share(level, "max_error")), miss)
            if best is None:
                found.append(Level(float(level), math.inf, 0.0, math.nan, math.nan))
                continue
            at, had = best
            rows, wrong = int(self._rows[at]), int(self._wrong[at])
            bound = min(float(level), upper_bound(wrong, rows, had))
            bar = self._shown(self._bars[at])
            found.append(Level(float(level), bar, rows / len(self.hits_), wrong / rows, bound))
        return found

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what was fitted, for a file.

        Returns
        -------
        settings : dict
            ``score``, fit for JSON.
        arrays : dict of ndarray
            ``confidence`` (float32, falling) and ``hits`` (bool).

        Raises
        ------
        ValueError
            If nothing was fitted.
        """
        self._check_fitted()
        return {"score": self.score}, {"confidence": self.confidence_, "hits": self.hits_}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Bring back what `to_state` gave.

        Parameters
        ----------
        settings : mapping
        arrays : mapping of str to ndarray

        Returns
        -------
        Selective

        Raises
        ------
        ValueError
            If they are not what `to_state` gives.
        """
        if not {"confidence", "hits"} <= set(arrays):
            raise ValueError("not a state of Selective: it lacks confidence or hits")
        confidence, hits = np.asarray(arrays["confidence"]), np.asarray(arrays["hits"])
        wrong = (
            (settings.get("score") not in ("probability", "margin", "own") and "no such score")
            or (confidence.dtype != np.float32 and "confidence must be float32")
            or (hits.dtype != np.bool_ and "hits must be bool")
            or ((confidence.ndim != 1 or confidence.shape != hits.shape) and "arrays must be as long")
            or (bool(np.isnan(confidence).any()) and "confidence must not be NaN")
            or (not (confidence[1:] <= confidence[:-1]).all() and "confidence must fall")
        )
        if wrong:
            raise ValueError(f"not a state of Selective: {wrong}")
        selective = cls()
        selective.score = settings["score"]
        selective._keep(confidence, hits)
        return selective

    def _keep(self, confidence: NDArray[np.float32], hits: NDArray[np.bool_]) -> None:
        self.confidence_, self.hits_ = confidence, hits
        ranks, weights = _sequence(len(hits))
        # A threshold is the confidence of the first row that is left out: given it, the rows above are
        # drawn like all above it. Rows as sure as it are left out with it.
        bars = np.append(confidence, np.float32(-np.inf))[ranks]
        rows = np.searchsorted(-confidence, -bars)
        rows[bars == -np.inf] = len(hits)
        # Ties make one test of several, which has what they had; one that leaves no rows proves nothing.
        some = int(rows[rows > 0][0]) if len(rows) else 0
        self._rows, first = np.unique(np.maximum(rows, some), return_index=True)
        self._weights = np.add.reduceat(weights, first) if len(first) else weights
        self._bars = bars[np.searchsorted(rows, self._rows)]
        self._wrong = np.concatenate([[0], np.cumsum(~hits)])[self._rows]

    def _check_fitted(self) -> None:
        if not hasattr(self, "hits_"):
            raise ValueError("there are no held-out rows yet: call fit(z, y) first")

    def _confidence(self, logits: NDArray[Any], own: ArrayLike | None) -> NDArray[np.float32]:
        self._check_score(own)
        found = np.empty(len(logits), np.float64)
        for here, block, log_p in log_probabilities(logits):
            # Also of the margin and of own numbers: rows that cannot be used are refused.
            found[here] = margin(block) if self.score == "margin" else log_p.max(axis=1)
        if own is not None:
            found = np.asarray(own, np.float64)
            if found.shape != (len(logits),):
                raise ValueError(f"score must be one number per row: {len(logits)} rows, got {found.shape}")
            if np.isnan(found).any():
                raise ValueError(f"score must not be NaN, got one at row {int(np.isnan(found).argmax())}")
        with np.errstate(over="ignore"):
            return found.astype(np.float32)

    def _check_score(self, own: ArrayLike | None) -> None:
        if not hasattr(self, "score"):
            self._check_fitted()
        if (own is None) == (self.score == "own"):
            given, wanted = ("an array", "none") if self.score != "own" else ("none", "an array")
            raise ValueError(f"score must be {wanted}, as it was in fit, got {given}")

    def _shown(self, bar: np.float32) -> float:
        return math.exp(bar) if self.score == "probability" else float(bar)

    def _search(self, level: float, miss: float) -> tuple[int, float] | None:
        """Return the last test that was passed, and what it had of the probability to be wrong."""
        self._check_fitted()
        p_values = cdf(self._wrong, self._rows, level).tolist()
        last, had = None, 0.0
        for at, (p, weight) in enumerate(zip(p_values, (miss * self._weights).tolist(), strict=True)):
            had += weight
            if p <= had:
                last = at, had
            else:
                had = 0.0
        return last

    def _promised(self, max_error: float, confidence: float) -> tuple[int, float]:
        level = float(as_share(max_error, "max_error"))
        sure = as_share(confidence, "confidence")
        best = self._search(level, float(1 - sure))
        if best is not None:
            return best
        asked = f"an error of at most {level:.4g} cannot be promised with {float(sure):.4g} confidence"
        smallest = self._achievable(float(1 - sure))
        if smallest is None:
            raise UnattainableError(f"{asked}, nor can any other, on {len(self.hits_)} held-out rows")
        raise UnattainableError(
            f"{asked} on {len(self.hits_)} held-out rows: the smallest that can is {smallest[0]:.4g}, "
            f"where {smallest[1]:.4g} of the rows are answered",
            smallest,
        )

    def _achievable(self, miss: float) -> tuple[float, float] | None:
        """Return the smallest level that has a threshold, rounded up to four digits, and what it answers."""
        low, high = 0.0, 1 - 1e-6
        if self._search(high, miss) is None:
            return None
        while high - low > 1e-5 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self._search(middle, miss) else (middle, high)
        level = high
        for digits in (4, 8):
            scale = 10.0 ** (digits - 1 - math.floor(math.log10(high)))
            level = math.ceil(high * scale) / scale
            if level < 1:
                break
        best = self._search(level, miss)
        return (level, float(self._rows[best[0]]) / len(self.hits_)) if best else None


def _sequence(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how many rows the thresholds leave, rising, and each one's share of what may go wrong.

    Nothing but the number of rows decides: labels must not.
    """
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    steps = np.arange(math.ceil(math.log(n) / math.log(STEP)) + 1)
    ranks = np.unique(np.round(n / STEP**steps).astype(np.int64).clip(1, n))
    starts = n / 2.0 ** np.arange(1, STARTS + 1)
    starts = starts[: max(1, int((starts >= FEWEST).sum()))]
    parts = SHARE ** np.arange(len(starts))
    weights = np.zeros(len(ranks))
    np.add.at(weights, np.searchsorted(ranks, starts), parts / parts.sum())
    return ranks, weights
