"""What is gained by leaving some rows unanswered, by answering with sets, by knowing what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitext.intervals import quantiles, resamples

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Ranking", "RiskCoverage", "SetScore", "novelty_auroc", "risk_coverage", "score_sets"]


@dataclass(frozen=True)
class RiskCoverage:
    """What part of the rows is answered, and how often wrongly, if only the surest are."""

    threshold: NDArray[np.float64]
    """Falling: rows of this confidence and above are answered."""
    coverage: NDArray[np.float64]
    """The share of the rows that are."""
    risk: NDArray[np.float64]
    """The share of those that are wrong."""
    augrc: float
    """The area under the share of all rows that are answered wrongly, over the coverage."""

    def at_coverage(self, share: float) -> tuple[float, float, float]:
        """Return (threshold, coverage, risk) where at least this share of the rows is answered.

        Parameters
        ----------
        share : float
            In (0, 1].

        Returns
        -------
        tuple of float
            The coverage is larger than `share` where more rows are as sure as the last.
        """
        return self._at(int(np.searchsorted(self.coverage, share - 1e-12)))

    def at_risk(self, most: float) -> tuple[float, float, float] | None:
        """Return (threshold, coverage, risk) where as many as possible are answered at this risk.

        Parameters
        ----------
        most : float
            The share of the answers that may be wrong.

        Returns
        -------
        tuple of float, or None
            None if even the surest are more often wrong. It is what these rows say; another
            sample may have a higher risk at the same threshold.
        """
        fit = np.flatnonzero(self.risk <= most)
        return self._at(int(fit[-1])) if len(fit) else None

    def _at(self, place: int) -> tuple[float, float, float]:
        place = min(place, len(self.risk) - 1)
        return float(self.threshold[place]), float(self.coverage[place]), float(self.risk[place])


class Ranking:
    """Rows in rising order of confidence, those of equal confidence together.

    Parameters
    ----------
    confidence : float64 array, shape (n,)
        Rising.
    """

    def __init__(self, confidence: Floats) -> None:
        starts = np.flatnonzero(np.diff(confidence)) + 1
        self.bounds = np.concatenate([[0], starts, [len(confidence)]])

    def augrc(self, weights: Floats, wrong: Floats) -> Floats:
        """Return the area under the generalised risk where each row counts so often.

        Parameters
        ----------
        weights : float64 array, shape (count, n)
            Each line sums to n.
        wrong : float64 array, shape (n,)
            0 or 1.

        Returns
        -------
        float64 array, shape (count,)
        """
        n = weights.shape[1]
        rows, errors = self._from_the_surest(weights), self._from_the_surest(weights * wrong)
        # Within rows of equal confidence errors come evenly.
        between = (errors[:, :-1] + errors[:, 1:]) / 2
        area: Floats = (np.diff(rows) * between).sum(axis=1) / n**2
        return area

    def curve(self, weights: Floats, wrong: Floats) -> tuple[Floats, Floats]:
        """Return the coverage and the share of all rows answered wrongly, from nothing answered on.

        Parameters
        ----------
        weights : float64 array, shape (count, n)
        wrong : float64 array, shape (n,)

        Returns
        -------
        coverage, errors : float64 array, shape (count, levels of confidence + 1)
        """
        n = weights.shape[1]
        return self._from_the_surest(weights) / n, self._from_the_surest(weights * wrong) / n

    def _from_the_surest(self, values: Floats) -> Floats:
        sums = np.zeros((len(values), values.shape[1] + 1))
        np.cumsum(values[:, ::-1], axis=1, out=sums[:, 1:])
        return sums[:, values.shape[1] - self.bounds[::-1]]


def risk_coverage(confidence: ArrayLike, hits: ArrayLike) -> RiskCoverage:
    """Return how often answers are wrong if only the surest rows are answered.

    Parameters
    ----------
    confidence : array, shape (n,)
        Higher is surer: the probability of the decision, a margin, any score.
    hits : bool or int array, shape (n,)
        1 where the decision is right.

    Returns
    -------
    RiskCoverage
        One level for each confidence there is.

    Raises
    ------
    ValueError
        If there are no rows, a confidence is NaN, or the arrays are not equally long.

    Notes
    -----
    AUGRC is the mean, over all shares that may be answered, of the share of all rows that are then
    answered wrongly without anyone noticing. It is ``(1 - AUROC) a (1 - a) + (1 - a)² / 2``
    for accuracy ``a`` and the AUROC with which confidence tells right from wrong. It goes from
    ``(1 - a)² / 2`` (all errors come last) over ``(1 - a) / 2`` (confidence says nothing) up.
    The older AURC weighs the few surest rows far more.

    References
    ----------
    Traub et al., "Overcoming common flaws in the evaluation of selective classification systems",
    NeurIPS 2024, arXiv 2407.01032, section 4.

    Examples
    --------
    >>> from logitext.risk import risk_coverage
    >>> found = risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    >>> found.risk.round(2).tolist(), found.augrc
    ([0.0, 0.0, 0.33, 0.25], 0.09375)
    >>> found.at_risk(0.1)  # threshold, coverage, risk
    (0.8, 0.5, 0.0)
    """
    sure, wrong = _ranked(confidence, hits)
    ranking = Ranking(sure)
    everyone = np.ones((1, len(sure)))
    coverage, errors = (line[0, 1:] for line in ranking.curve(everyone, wrong))
    return RiskCoverage(
        threshold=sure[ranking.bounds[:-1]][::-1],
        coverage=coverage,
        risk=errors / coverage,
        augrc=float(ranking.augrc(everyone, wrong)[0]),
    )


def risk_band(
    confidence: ArrayLike, hits: ArrayLike, coverages: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the band that 95 % of resamples have the risk in, at some coverages.

    Parameters
    ----------
    confidence, hits
        As for `risk_coverage`.
    coverages : array, shape (k,)
        In (0, 1].
    resamples : int, default 1000
        At least 1.
    seed : int, default 0

    Returns
    -------
    low, high : float64 array, shape (k,)

    Raises
    ------
    ValueError
        As `risk_coverage`.

    Examples
    --------
    >>> low, high = risk_band(np.arange(200.0), [0] * 20 + [1] * 180, [0.5, 1.0], resamples=200)
    >>> low.round(2).tolist(), high.round(2).tolist()
    ([0.0, 0.06], [0.0, 0.14])
    """
    sure, wrong = _ranked(confidence, hits)
    ranking, places = Ranking(sure), np.asarray(coverages, np.float64)
    risks = [
        np.interp(places, covered, errors) / places
        for weights in _resamples(len(sure), resamples, seed)
        for covered, errors in zip(*ranking.curve(weights, wrong), strict=True)
    ]
    return quantiles(np.array(risks))


_resamples = resamples  # where an argument has its name


def _ranked(confidence: ArrayLike, hits: ArrayLike) -> tuple[Floats, Floats]:
    """Confidence, rising, and 1 where the decision is wrong."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(hits, np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(f"there must be rows, a hit or miss for each: {sure.shape}, {right.shape}")
    if np.isnan(sure).any():
        raise ValueError(f"the confidence at row {int(np.isnan(sure).argmax())} is NaN")
    order = np.lexsort((right, sure))
    return sure[order], 1 - right[order]


@dataclass(frozen=True)
class SetScore:
    """How sets of labels fare: see `score_sets`."""

    coverage: float
    """The share of the rows whose set holds the true class."""
    size: float
    """The mean number of classes in a set."""
    single: float
    """The share of the sets with one class: those that are an answer."""
    empty: float
    """The share of the sets with none."""
    by_class: NDArray[np.float64]
    """The coverage of the rows of each class; NaN for a class without rows."""


def score_sets(sets: ArrayLike, y: ArrayLike) -> SetScore:
    """Measure sets of classes, as of a conformal predictor.

    Parameters
    ----------
    sets : bool array, shape (n, n_classes)
        True where the class is in the set of the row.
    y : int array, shape (n,)
        True classes.

    Returns
    -------
    SetScore

    Raises
    ------
    ValueError
        If there are no rows, `sets` is not Boolean, or labels are not integers in
        ``[0, n_classes)``, one per row.

    References
    ----------
    Angelopoulos & Bates, "Conformal prediction: a gentle introduction", 2023, section 3.

    Examples
    --------
    >>> from logitext.risk import score_sets
    >>> found = score_sets([[True, False], [True, True], [False, True]], [0, 1, 0])
    >>> round(found.coverage, 3), round(found.size, 3), found.by_class.tolist()
    (0.667, 1.333, [0.5, 1.0])
    """
    inside, truth = np.asarray(sets), np.asarray(y)
    if inside.ndim != 2 or inside.dtype != bool or not len(inside):
        raise ValueError(
            f"sets must be a Boolean array of rows × classes, got {inside.dtype} of shape {inside.shape}"
        )
    if truth.shape != inside.shape[:1] or truth.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, one per row: got {truth.dtype} of shape {truth.shape}")
    n = inside.shape[1]
    if not ((truth >= 0) & (truth < n)).all():
        row = int(np.argmin((truth >= 0) & (truth < n)))
        raise ValueError(f"labels must be integers in [0, {n}), got {truth[row]} at row {row}")
    held, sizes = inside[np.arange(len(truth)), truth], inside.sum(axis=1)
    rows = np.bincount(truth, minlength=n)
    by_class = np.bincount(truth, held, minlength=n) / np.maximum(rows, 1)
    return SetScore(
        coverage=float(held.mean()),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        empty=float((sizes == 0).mean()),
        by_class=np.where(rows > 0, by_class, np.nan),
    )


def novelty_auroc(known: ArrayLike, novel: ArrayLike) -> float:
    """Return how well a score tells what is new: the chance that a new row has the higher score.

    Parameters
    ----------
    known, novel : array, shape (n,) and (m,)
        Novelty scores, higher for newer, of rows like those trained on and of others.

    Returns
    -------
    float
        The area under the receiver operating characteristic: 1 is perfect, 0.5 says nothing;
        equal scores count half.

    Raises
    ------
    ValueError
        If there are none of either, or a score is NaN.

    References
    ----------
    Mann & Whitney, "On a test of whether one of two random variables is stochastically larger
    than the other", Annals of Mathematical Statistics 18, 1947.

    Examples
    --------
    >>> from logitext.risk import novelty_auroc
    >>> novelty_auroc([0.1, 0.4], [0.4, 0.9])
    0.875
    """
    low, high = _scores(known, "known"), _scores(novel, "novel")
    return float(_above(low, high).mean())


def novelty_resampled(known: ArrayLike, novel: ArrayLike, count: int, seed: int = 0) -> Floats:
    """Return `novelty_auroc` of resamples of both.

    Parameters
    ----------
    known, novel : array, shape (n,) and (m,)
    count : int
    seed : int, default 0

    Returns
    -------
    float64 array, shape (count,)

    Raises
    ------
    ValueError
        As `novelty_auroc`.

    Examples
    --------
    >>> novelty_resampled([0.1, 0.2], [0.3], 3).tolist()
    [1.0, 1.0, 1.0]
    """
    low, high = _scores(known, "known"), _scores(novel, "novel")
    before, to = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    weights = (line for block in resamples(len(high), count, [seed, 1]) for line in block)
    areas = []
    for lines in resamples(len(low), count, [seed, 2]):
        for line in lines:
            sums = np.concatenate([[0.0], np.cumsum(line)])
            areas.append(next(weights) @ (sums[before] + sums[to]) / 2)
    return np.array(areas) / (len(low) * len(high))


def _above(low: Floats, high: Floats) -> Floats:
    """For each of `high` the share of `low` (rising) that is less; equal ones count half."""
    shares: Floats = (np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")) / (
        2 * len(low)
    )
    return shares


def _scores(given: ArrayLike, name: str) -> Floats:
    scores = np.sort(np.asarray(given, np.float64).reshape(-1))
    if not len(scores) or np.isnan(scores[-1]):
        raise ValueError(f"novelty scores of {name} rows must be there, and none of them NaN")
    return scores
