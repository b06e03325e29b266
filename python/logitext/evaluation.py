"""Numbers from logits and labels: anyone's logits, nothing of text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.logits import argmax, cross_entropy

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassScore", "Evaluation", "accuracy", "evaluate", "log_loss"]


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
class ClassScore:
    """How one class fares."""

    label: Any
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    rows: int
    accuracy: float
    macro_f1: float
    log_loss: float
    """In nats."""
    classes: list[ClassScore]
    confusion: NDArray[np.int64]
    """Shape (n_classes, n_classes): true class down, decision across."""

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


def evaluate(
    z: ArrayLike, y: ArrayLike, *, classes: list[Any] | None = None, temperature: float = 1.0
) -> Evaluation:
    """Measure logits against labels.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits.
    y : int array, shape (n,)
        True class of each row.
    classes : list, optional
        Names of the classes; their indices by default.
    temperature : float, default 1
        Of the calibrated probabilities: the log loss divides the logits by it.

    Returns
    -------
    Evaluation
        Macro F1 is the mean over classes that stand in `y` or were decided on.

    Raises
    ------
    ValueError
        If there are no rows, or labels are not integers in ``[0, n_classes)``, one per row.

    Examples
    --------
    >>> import logitext as lt
    >>> result = lt.evaluate([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], [0, 1, 1], classes=["no", "yes"])
    >>> round(result.accuracy, 3), result.most_confused()
    (0.667, [('yes', 'no', 1)])
    """
    logits = np.asarray(z)
    truth = np.asarray(y)
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"there must be logits of at least one row, got shape {logits.shape}")
    loss = log_loss(logits, truth, temperature=temperature)
    decided = argmax(logits)
    n = logits.shape[1]
    names = list(range(n)) if classes is None else classes
    if len(names) != n:
        raise ValueError(f"classes must name each class: {n} classes, {len(names)} names")
    confusion = np.bincount(truth.astype(np.int64) * n + decided, minlength=n * n).reshape(n, n)
    rows, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    scores = []
    for i, label in enumerate(names):
        precision = hits[i] / predicted[i] if predicted[i] else 0.0
        recall = hits[i] / rows[i] if rows[i] else 0.0
        f1 = 2 * hits[i] / (rows[i] + predicted[i]) if rows[i] + predicted[i] else 0.0
        scores.append(
            ClassScore(label, int(rows[i]), int(predicted[i]), float(precision), float(recall), float(f1))
        )
    met = [score.f1 for score in scores if score.rows or score.predicted]
    return Evaluation(
        rows=len(truth),
        accuracy=float(hits.sum() / len(truth)),
        macro_f1=math.fsum(met) / len(met),
        log_loss=loss,
        classes=scores,
        confusion=confusion,
    )
