"""Numbers from logits and labels: anyone's logits, nothing of text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.byclass import ClassScore, class_intervals, score_classes
from logitext.intervals import Interval, distance_interval, quantiles, share_interval
from logitext.intervals import resamples as draw
from logitext.logits import argmax, cross_entropy
from logitext.reliability import Bins
from logitext.risk import (
    Ranking,
    RiskCoverage,
    SetScore,
    novelty_auroc,
    novelty_resampled,
    risk_coverage,
    score_sets,
)
from logitext.scoring import checked, mean, score_rows, weighted_mean

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["ClassScore", "Evaluation", "Interval", "accuracy", "evaluate", "log_loss"]

DISTANCES = ("smooth_ece", "debiased_ece", "binned_ece")
"""Numbers that noise makes larger."""
CHANCES = 200
"""Simulations of what noise makes of them."""


def accuracy(z: ArrayLike, y: ArrayLike) -> float:
    """Return the share of rows whose largest logit is at the true class.

    Parameters
    ----------
    z : array, shape (n, n_classes)
    y : int array, shape (n,)

    Returns
    -------
    float
        In [0, 1]; NaN for no rows.

    Examples
    --------
    >>> from logitext.evaluation import accuracy
    >>> accuracy([[2.0, 1.0], [0.0, 3.0]], [0, 0])
    0.5
    """
    hits = argmax(z) == np.asarray(y)
    return float(hits.mean()) if len(hits) else float("nan")


def log_loss(z: ArrayLike, y: ArrayLike, *, temperature: float = 1.0) -> float:
    """Return the mean cross-entropy of the labels, in nats.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits.
    y : int array, shape (n,)
        True classes.
    temperature : float, default 1
        The logits are divided by it first.

    Returns
    -------
    float
        The sum is exact before it is rounded, so it does not depend on how rows are
        ordered; NaN for no rows.

    Examples
    --------
    >>> from logitext.evaluation import log_loss
    >>> round(log_loss([[2.0, 1.0, 0.1]], [0]), 3)
    0.417
    """
    losses = cross_entropy(np.asarray(z, dtype=np.float64) / temperature, y, reduction="none")
    all_losses = np.asarray(losses).tolist()
    return math.fsum(all_losses) / len(all_losses) if all_losses else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    rows: int
    accuracy: float
    balanced_accuracy: float
    """The mean recall of the classes that stand in the labels."""
    macro_f1: float
    log_loss: float
    """In nats."""
    brier: float
    """The mean squared distance of probabilities from 0 and 1, summed over classes: from 0 to 2."""
    smooth_ece: float
    """How far the probability of the decision is from how often it is right: see `reliability`."""
    debiased_ece: float
    binned_ece: float
    augrc: float
    """The mean share of unnoticed errors over all shares of rows that may be answered: see `risk`."""
    risk_coverage: RiskCoverage
    classes: list[ClassScore]
    confusion: NDArray[np.int64]
    """Shape (n_classes, n_classes): true class down, decision across."""
    sets: SetScore | None = None
    novelty_auroc: float | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of 95 %, by the names above (``coverage`` and ``set_size`` of sets), if they were asked for."""

    def most_confused(self, most: int = 10) -> list[tuple[Any, Any, int]]:
        """Return (true label, decision, rows) of the commonest mistakes.

        Parameters
        ----------
        most : int, default 10
            How many pairs at most.

        Returns
        -------
        list of (label, label, int)
            The commonest first; ties in the order of the classes.
        """
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        labels = [score.label for score in self.classes]
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = (divmod(int(at), len(labels)) for at in order)
        return [(labels[i], labels[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


ORDER = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "brier",
    "smooth_ece",
    "debiased_ece",
    "binned_ece",
    "augrc",
    "coverage",
    "set_size",
    "novelty_auroc",
)
"""Of the intervals of an `Evaluation`."""


def evaluate(
    z: ArrayLike,
    y: ArrayLike,
    *,
    classes: list[Any] | None = None,
    temperature: float = 1.0,
    calibrated: ArrayLike | None = None,
    sets: ArrayLike | None = None,
    novelty: tuple[ArrayLike, ArrayLike] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Measure logits against labels.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits. They decide.
    y : int array, shape (n,)
        True class of each row.
    classes : list, optional
        Names of the classes; their indices by default.
    temperature : float, default 1
        The logits over it are calibrated: their softmax is the probabilities.
    calibrated : array, shape (n, n_classes), optional
        Calibrated logits, where a temperature is not enough to say what they are.
    sets : bool array, shape (n, n_classes), optional
        A set of classes for each row, to be measured, too.
    novelty : (array, array), optional
        Novelty scores, higher for newer, of rows like those trained on and of others.
    resamples : int, default 0
        Of the rows, for intervals; 1,000 will do. 0: no intervals.
    seed : int, default 0
        Of the resamples: the same seed gives the same intervals.

    Returns
    -------
    Evaluation
        Macro F1 is the mean over classes that stand in `y` or were decided on. Decisions and
        what is counted of them come from `z`, log loss, Brier score, calibration errors and risk
        from the probabilities.

    Raises
    ------
    ValueError
        If there are no rows; a row of logits is NaN, infinite or masked as a whole; labels are not
        integers in ``[0, n_classes)``, one per row; or `calibrated` has another shape.

    Notes
    -----
    Intervals: of shares (accuracy, precision, recall, coverage) Wilson's; of calibration errors one
    that knows what chance adds, of all others the percentile interval of the bootstrap. 1,000
    resamples of 10,000 rows take about two seconds. They say how far another sample of rows may be,
    not how far another training.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    For the others see `logitext.reliability`, `logitext.risk` and `logitext.intervals`.

    Examples
    --------
    >>> import logitext as lt
    >>> result = lt.evaluate([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], [0, 1, 1], classes=["no", "yes"])
    >>> round(result.accuracy, 3), result.most_confused()
    (0.667, [('yes', 'no', 1)])
    >>> sure = lt.evaluate([[2.0, 1.0], [0.0, 3.0]] * 200, [0, 1] * 200, resamples=1000)
    >>> sure.accuracy, round(sure.intervals["accuracy"].low, 3)
    (1.0, 0.99)
    """
    if calibrated is not None and temperature != 1:
        raise ValueError("calibrated logits need no temperature: give one of the two")
    logits, calm, truth = checked(z, y, calibrated)
    n, k = logits.shape
    names = list(range(k)) if classes is None else classes
    if len(names) != k:
        raise ValueError(f"classes must name each class: {k} classes, {len(names)} names")
    if sets is not None and np.shape(sets) != logits.shape:
        raise ValueError(f"sets must be as many as logits: {np.shape(sets)}, {logits.shape}")
    set_score = None if sets is None else score_sets(sets, truth)
    decided: NDArray[np.int64] = argmax(logits)
    scored = score_rows(calm, truth, decided, temperature)
    hits = (decided == truth).astype(np.float64)
    sizes = np.zeros(n) if sets is None else np.asarray(sets).sum(axis=-1).astype(np.float64)
    # Rows of equal confidence in an order that says nothing of how they came.
    order = np.lexsort((sizes, scored.brier, scored.loss, hits, scored.confidence))
    hits, confidence = hits[order], scored.confidence[order]
    bins, ranking = Bins(confidence), Ranking(confidence)

    def errors(weights: Floats) -> dict[str, Floats]:
        return bins.errors(weights, hits) | {"augrc": ranking.augrc(weights, 1 - hits)}

    confusion = np.bincount(truth * k + decided, minlength=k * k).reshape(k, k)
    of_classes, means = score_classes(confusion, names)
    found: dict[str, Any] = {
        "accuracy": float(hits.sum() / n),
        **means,
        "log_loss": mean(scored.loss),
        "brier": mean(scored.brier),
        **{name: float(value[0]) for name, value in errors(np.ones((1, n))).items()},
    }
    result = Evaluation(
        rows=n,
        **found,
        risk_coverage=risk_coverage(confidence, hits),
        classes=of_classes,
        confusion=confusion,
        sets=set_score,
        novelty_auroc=None if novelty is None else novelty_auroc(*novelty),
    )
    if not resamples:
        return result
    columns = {"log_loss": scored.loss[order], "brier": scored.brier[order], "set_size": sizes[order]}
    chance = bins.chance(CHANCES, seed)
    intervals = _resampled(columns, errors, found, chance, resamples, seed)
    each, own = class_intervals(confusion, resamples, seed)
    intervals |= own
    if n == 1:  # One row says nothing of how rows differ.
        intervals = dict.fromkeys(intervals, Interval(math.nan, math.nan))
    intervals["accuracy"] = share_interval(int(hits.sum()), n)
    if set_score is None:
        del intervals["set_size"]
    else:
        intervals["coverage"] = share_interval(round(set_score.coverage * n), n)
    if novelty is not None:
        intervals["novelty_auroc"] = Interval(
            *map(float, quantiles(novelty_resampled(*novelty, resamples, seed)))
        )
    scores = [replace(score, intervals=its) for score, its in zip(of_classes, each, strict=True)]
    return replace(
        result, classes=scores, intervals={name: intervals[name] for name in ORDER if name in intervals}
    )


def _resampled(
    columns: dict[str, Floats],
    errors: Callable[[Floats], dict[str, Floats]],
    found: dict[str, Any],
    chance: dict[str, Floats],
    count: int,
    seed: int,
) -> dict[str, Interval]:
    """Intervals of the means of columns, and of what `errors` makes of how often each row counts."""
    n = len(columns["log_loss"])
    parts: dict[str, list[Floats]] = {}
    for weights in draw(n, count, seed):
        values = errors(weights) | {name: weighted_mean(weights, column) for name, column in columns.items()}
        for name, value in values.items():
            parts.setdefault(name, []).append(value)
    intervals = {}
    for name, drawn in parts.items():
        every = np.concatenate(drawn)
        if name in DISTANCES:
            intervals[name] = distance_interval(found[name], every, chance[name])
        else:
            intervals[name] = Interval(*map(float, quantiles(every)))
    return intervals
