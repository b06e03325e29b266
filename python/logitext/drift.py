"""Whether new texts are still like those a model was trained on, and what moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.features import buffers, count_block
from logitext.model import Model, shortened

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

LEVELS = (0.01, 0.05)
"""Of false alarms."""
SEEN = 5
"""Texts an n-gram must stand in, now or in training, to be worth naming."""
CERTAIN = 1e-3
"""An n-gram moved if chance makes any of them look so with at most this probability."""


class Moved(NamedTuple):
    """An n-gram that became more frequent or rarer."""

    ngram: str
    block: str
    before: float
    """Share of the texts trained on it stood in; of one the model does not know, 0."""
    now: float
    """Share of the new texts."""
    evidence: float
    """Twice the log-likelihood ratio of "moved" to "the same": about chi-squared with one degree."""


@dataclass(frozen=True)
class Drift:
    """What `TextClassifier.drift` found."""

    rows: int
    held_out: int
    """Rows of the model that the new ones are compared with."""
    alarms: dict[float, float]
    """Of each level the share of texts whose novelty p-value is at most that: about the level, if alike."""
    statistic: float
    """How far the novelty p-values are below uniform: the largest distance of the distribution functions."""
    p_value: float
    """Probability that texts like the old look so unlike, all together or their strangest: small means that
    these are not like them. Twice the smaller of `smirnov`'s and `tail`'s."""
    auroc: float
    """Probability that a new text is more novel than a held-out one; a half where they are alike."""
    moved: list[Moved]
    """The n-grams that became more frequent or rarer, the surest first."""

    @property
    def drifted(self) -> bool:
        """Whether the p-value is below .01."""
        return self.p_value < 0.01


def smirnov(new: NDArray[np.floating[Any]], old: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Test whether new values tend to be larger than old ones: one-sided, two samples.

    Parameters
    ----------
    new, old : float arrays, shapes (n,), (m,)

    Returns
    -------
    statistic : float
        The largest amount by which the old distribution function is above the new.
    p_value : float
        Asymptotic: ``exp(-2 statistic² n m / (n + m))``, with a correction for small samples; it counts
        that the old ones, too, are a sample. Ties make it larger, never smaller.

    References
    ----------
    Hodges, "The significance probability of the Smirnov two-sample test", 1958.

    Examples
    --------
    >>> from logitext.drift import smirnov
    >>> import numpy as np
    >>> statistic, p = smirnov(np.arange(50) + 50.0, np.arange(100.0))
    >>> statistic, p < 1e-6
    (0.5, True)
    """
    n, m = len(new), len(old)
    at = np.unique(np.concatenate([new, old]))
    above = np.searchsorted(np.sort(old), at, side="right") / m
    below = np.searchsorted(np.sort(new), at, side="right") / n
    statistic = max(0.0, float((above - below).max()))
    size, other = max(n, m), min(n, m)
    z = math.sqrt(n * m / (n + m)) * statistic
    exponent = -2 * z * z - 2 * z * (size + 2 * other) / math.sqrt(size * other * (size + other)) / 3
    return statistic, math.exp(min(0.0, exponent))


def tail(new: NDArray[np.floating[Any]], old: NDArray[np.floating[Any]], share: float = 0.05) -> float:
    """Test whether too many of the largest values are new: what a few strange texts change.

    Parameters
    ----------
    new, old : float arrays, shapes (n,), (m,)
    share : float, default 0.05
        Of all values together, the largest.

    Returns
    -------
    float
        Probability of so many new ones among them, if which are new were drawn by lot (hypergeometric).
        Of values that tie, the old count as larger.

    Examples
    --------
    >>> from logitext.drift import tail
    >>> import numpy as np
    >>> tail(np.array([5.0] * 5), np.arange(5.0), share=0.5) < 0.005  # 1 of the 252 ways to draw them
    True
    """
    n, m = len(new), len(old)
    values, is_new = np.concatenate([new, old]), np.arange(n + m) < n
    largest = max(1, round(share * (n + m)))
    seen = int(is_new[np.lexsort((is_new, -values))][:largest].sum())

    def ways(of: int, some: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)

    counts = range(max(seen, largest - m), min(n, largest) + 1)
    all_ways = ways(n + m, largest)
    return min(1.0, sum(math.exp(ways(n, k) + ways(m, largest - k) - all_ways) for k in counts))


def drift(
    model: Model,
    texts: pa.LargeStringArray,
    novelty: NDArray[np.float32],
    held_out: NDArray[np.float32],
    *,
    most: int,
    threads: int,
) -> Drift:
    """Compare new texts with those of training.

    Parameters
    ----------
    model : Model
    texts : pyarrow.LargeStringArray
        At least one.
    novelty : float32 array, shape (n,)
        Of each.
    held_out : float32 array
        Novelty of rows held out in training, rising.
    most : int
        N-grams to name, at most.
    threads : int

    Returns
    -------
    Drift
    """
    higher = np.searchsorted(held_out, novelty)
    p = (len(held_out) - higher + 1) / (len(held_out) + 1)
    ties = np.searchsorted(held_out, novelty, side="right") - higher
    statistic, p_value = smirnov(novelty, held_out)
    p_value = min(1.0, 2 * min(p_value, tail(novelty, held_out)))
    # Words say more to a person than runs of characters of the same words.
    moved = _moved(model, model.features["blocks"][0], texts, threads)
    moved.sort(key=lambda found: -found.evidence)
    return Drift(
        rows=len(texts),
        held_out=len(held_out),
        alarms={level: float((p <= level).mean()) for level in LEVELS},
        statistic=statistic,
        p_value=p_value,
        auroc=float((higher + ties / 2).mean() / len(held_out)),
        moved=moved[:most],
    )


def _moved(model: Model, block: dict[str, Any], texts: pa.LargeStringArray, threads: int) -> list[Moved]:
    """The n-grams of one block that surely moved."""
    name, documents, rows = block["name"], model.features["documents"], len(texts)
    ngrams = tuple(model.features[f"{name.removesuffix('s')}_ngrams"])
    how: dict[str, Any] = {"room": (1 << 62, 1, 0), "threads": threads}
    new = count_block(texts, model.features["tokens"], name, ngrams, **how)
    first = model.first_row(name)
    table = slice(first, first + block["features"])
    old, frequency = model.arrays["hashes"][table], model.arrays["document_frequency"][table]
    hashes = np.union1d(old, new.hashes)
    before, now = np.zeros(len(hashes)), np.zeros(len(hashes))
    before[np.searchsorted(hashes, old)] = frequency
    now[np.searchsorted(hashes, new.hashes)] = new.document_frequency
    evidence = _evidence(before, max(1, documents), now, rows)
    sure = (evidence > _quantile(CERTAIN / max(1, len(hashes)))) & (np.maximum(before, now) >= SEEN)
    # Those that stand in the new texts are spelled there; of the others the strongest are known by name.
    here = hashes[sure & (now > 0)]
    rows_of_here = new.first_row[np.searchsorted(new.hashes, here)]
    spelled = dict(
        zip(here.tolist(), _core.spell(buffers(texts), new.recipe, name, here, rows_of_here), strict=True)
    )
    for row, spelling in model.names().items():
        if table.start <= row < table.stop:
            spelled.setdefault(int(model.arrays["hashes"][row]), spelling)
    return [
        Moved(
            shortened(spelled[key]), name, *map(float, (before[at] / documents, now[at] / rows, evidence[at]))
        )
        for at, key in zip(np.flatnonzero(sure).tolist(), hashes[sure].tolist(), strict=True)
        if key in spelled
    ]


def _evidence(before: NDArray[Any], documents: int, now: NDArray[Any], rows: int) -> NDArray[Any]:
    """Twice the log-likelihood ratio of two shares to one, of counts out of so many."""
    together = (before + now) / (documents + rows)
    found = np.zeros(len(before))
    for count, size in ((before, documents), (now, rows)):
        for part, share in ((count, together), (size - count, 1 - together)):
            with np.errstate(divide="ignore", invalid="ignore"):
                found += np.where(part > 0, 2 * part * np.log(part / (size * share)), 0.0)
    return found


def _quantile(tail: float) -> float:
    """Where chi-squared with one degree has so much to its right."""
    low, high = 0.0, 2000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(math.sqrt(middle / 2)) > tail else (low, middle)
    return high
