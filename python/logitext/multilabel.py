"""Numbers from logits of independent labels and 0/1 matrices: anyone's logits, nothing of text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.evaluation import ClassScore
from logitext.labels import LabelSets, zero_one_sets
from logitext.logits import binary_cross_entropy, sigmoid

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MultilabelEvaluation",
    "as_sets",
    "binary_log_loss",
    "decide",
    "evaluate_multilabel",
    "fit_sigmoid",
]

LOWEST, HIGHEST = 1 / 64, 64.0
AT_ONCE = 1 << 20
"""Logits brought to double precision at a time."""


def as_sets(y: ArrayLike | LabelSets, shape: tuple[int, ...]) -> LabelSets:
    """Read the truth about logits of this shape: a 0/1 matrix, or sets as they are.

    Raises
    ------
    ValueError
        If there is no matrix of logits, `y` is of another shape, or it holds not only 0 and 1.
    """
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"there must be logits of at least one label, shape (n, n_labels), got {shape}")
    sets = y if isinstance(y, LabelSets) else None
    if sets is None:
        table = np.asarray(y)
        if table.shape != shape or table.dtype.kind not in "biuf":
            raise ValueError(
                f"labels must be 0 or 1, one per logit: logits {shape}, labels {table.shape}, {table.dtype}"
            )
        sets = zero_one_sets(table)
    if (len(sets), sets.labels) != shape:
        raise ValueError(f"labels must be one set per row: logits {shape}, {len(sets)} of {sets.labels}")
    return sets


def _parts(z: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    rows = max(1, AT_ONCE // z.shape[1])
    return (np.asarray(z[begin : begin + rows], np.float64) for begin in range(0, len(z), rows))


def binary_log_loss(
    z: ArrayLike, y: ArrayLike | LabelSets, *, temperature: float = 1.0, shift: float = 0.0
) -> float:
    """Return the mean cross-entropy over all rows and labels, in nats.

    Parameters
    ----------
    z : array, shape (n, n_labels)
        Logits.
    y : array of 0 and 1, shape (n, n_labels), or LabelSets
    temperature, shift : float, default 1 and 0
        The logits are divided by the first, and the second is added.

    Returns
    -------
    float
        NaN for no rows.

    Raises
    ------
    ValueError
        If shapes do not fit, or `y` holds not only 0 and 1.

    Examples
    --------
    >>> from logitext.multilabel import binary_log_loss
    >>> round(binary_log_loss([[2.0, -1.0]], [[1, 1]]), 3)  # (0.127 + 1.313) / 2
    0.72
    """
    logits = np.asarray(z)
    sets = as_sets(y, logits.shape)
    if len(sets) == 0:
        return math.nan
    # ln(1 + exp(z)) where the label is not, less z where it is.
    sums = [_softplus(part / temperature + shift) for part in _parts(logits)]
    held = np.asarray(logits.reshape(-1)[sets.at], np.float64) / temperature + shift
    return (math.fsum(sums) - math.fsum(held.tolist())) / logits.size


def fit_sigmoid(z: ArrayLike, y: ArrayLike | LabelSets) -> tuple[float, float]:
    """Return the temperature and shift that minimise the log loss of ``sigmoid(z / T + shift)``.

    A temperature alone does not do: labels are rare, so logits of what is not known well lean to
    no, and what one label gains from being further from 0 the others lose.

    Parameters
    ----------
    z : array, shape (n, n_labels)
        Logits of rows the model did not learn from.
    y : array of 0 and 1, shape (n, n_labels), or LabelSets
        Or floats from 0 to 1: a probability of each label.

    Returns
    -------
    temperature : float
        Between 1/64 and 64.
    shift : float
        A weak prior, worth one row, pulls them towards 1 and 0. Of no rows, 1 and 0.

    Raises
    ------
    ValueError
        If shapes do not fit, or `y` holds neither only 0 and 1 nor probabilities.

    Notes
    -----
    The loss is convex in ``1 / T`` and the shift: Newton's method, halving steps that go too far.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999.

    Examples
    --------
    >>> from logitext.multilabel import fit_sigmoid
    >>> z, y = [[4.0], [-4.0]] * 2000, [[1], [0], [1], [0], [1], [0], [0], [0]] * 500  # p = .75 and 0
    >>> temperature, shift = fit_sigmoid(z, y)
    >>> round(4 / temperature + shift, 1), -4 / temperature + shift < -5  # log(3) and far below
    (1.1, True)
    """
    logits = np.asarray(z)
    if len(logits) == 0:
        return 1.0, 0.0
    if isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.shape == logits.shape:
        shares = y.astype(np.float64)
        if not (shares.min() >= 0 and shares.max() <= 1):
            raise ValueError("y holds what is not a probability")
        truths = float((shares * logits).sum()), float(shares.sum())
    else:
        held = np.asarray(logits.reshape(-1)[as_sets(y, logits.shape).at], np.float64)
        truths = math.fsum(held.tolist()), float(len(held))

    def loss(at: tuple[float, float]) -> float:
        sums = (_softplus(at[0] * part + at[1]) for part in _parts(logits))
        prior = ((at[0] - 1) ** 2 + at[1] ** 2) / 2
        return math.fsum(sums) - at[0] * truths[0] - at[1] * truths[1] + prior

    def step(at: tuple[float, float]) -> tuple[float, float]:
        sums = np.zeros(5)
        for part in _parts(logits):
            yes = sigmoid(at[0] * part + at[1])
            bend = yes * (1 - yes)
            bent = bend * part
            sums += ((yes * part).sum(), yes.sum(), (bent * part).sum(), bent.sum(), bend.sum())
        slopes = sums[:2] - truths + (at[0] - 1, at[1])
        bends = np.array([[sums[2] + 1, sums[3]], [sums[3], sums[4] + 1]])
        b, c = np.linalg.solve(bends, -slopes).tolist()
        return b, c

    at, best = (1.0, 0.0), loss((1.0, 0.0))
    for _ in range(50):
        b, c = step(at)
        for half in range(40):
            there = (min(max(at[0] + b / 2**half, LOWEST), HIGHEST), at[1] + c / 2**half)
            found = loss(there)
            if found <= best:
                break
        moved = max(abs(there[0] - at[0]), abs(there[1] - at[1]))
        if found >= best or moved < 1e-10:
            break
        at, best = there, found
    # Fewer digits than rounding can move.
    return float(f"{1 / at[0]:.7g}"), float(f"{at[1]:.6f}") + 0.0


def _softplus(z: NDArray[np.float64]) -> float:
    total: float = binary_cross_entropy(z, np.zeros_like(z), reduction="sum")
    return total


def decide(z: ArrayLike, thresholds: ArrayLike) -> LabelSets:
    """Return the labels of each row whose logit is at its threshold or above.

    Parameters
    ----------
    z : array, shape (n, n_labels)
    thresholds : array, shape (n_labels,), or float

    Returns
    -------
    LabelSets

    Examples
    --------
    >>> from logitext.multilabel import decide
    >>> decide([[2.0, -1.0], [-3.0, -1.0]], [0.0, -1.0]).names(["a", "b"])
    [['a', 'b'], ['b']]
    """
    logits = np.asarray(z)
    row, label = np.nonzero(logits >= np.asarray(thresholds))
    return LabelSets.of_pairs(row, label, *logits.shape)


def scores(truth: LabelSets, given: LabelSets) -> dict[str, float]:
    """Return micro and macro F1, and the share of rows whose labels are exactly right."""
    both = truth.both(given)
    hits = np.bincount(both % truth.labels, minlength=truth.labels)
    there, decided = truth.counts, given.counts
    met = there + decided > 0
    f1 = 2 * hits[met] / (there + decided)[met]
    all_met = len(truth.ids) + len(given.ids)
    return {
        "micro_f1": 2 * len(both) / all_met if all_met else 0.0,
        "macro_f1": math.fsum(f1.tolist()) / len(f1) if len(f1) else 0.0,
        "accuracy": float(exact(truth, given).mean()),
    }


def exact(truth: LabelSets, given: LabelSets) -> NDArray[np.bool_]:
    """Tell of each row whether its labels are exactly right."""
    hits = np.bincount(truth.both(given) // truth.labels, minlength=len(truth))
    right: NDArray[np.bool_] = (hits == truth.lengths) & (hits == given.lengths)
    return right


@dataclass(frozen=True)
class MultilabelEvaluation:
    """What `evaluate_multilabel` found."""

    rows: int
    accuracy: float
    """Share of the rows whose labels are exactly right."""
    micro_precision: float
    micro_recall: float
    micro_f1: float
    """Of all (row, label) pairs together."""
    macro_f1: float
    log_loss: float
    """Mean over rows and labels, in nats."""
    labels_per_row: float
    given_per_row: float
    rows_without: int
    """Rows that have no label."""
    rows_given_none: int
    """Rows that were given no label."""
    classes: list[ClassScore]


def evaluate_multilabel(
    z: ArrayLike,
    y: ArrayLike | LabelSets,
    *,
    classes: list[Any] | None = None,
    temperature: float = 1.0,
    shift: float = 0.0,
    thresholds: ArrayLike = 0.0,
) -> MultilabelEvaluation:
    """Measure logits of independent labels against the labels each row has.

    Parameters
    ----------
    z : array, shape (n, n_labels)
        Logits.
    y : array of 0 and 1, shape (n, n_labels)
        1 where the row has the label.
    classes : list, optional
        Names of the labels; their numbers by default.
    temperature, shift : float, default 1 and 0
        The calibrated probabilities are ``sigmoid(z / temperature + shift)``.
    thresholds : array, shape (n_labels,), or float, default 0
        A label is given where its logit is at its threshold or above.

    Returns
    -------
    MultilabelEvaluation
        Macro F1 is the mean over labels that stand in `y` or were given.

    Raises
    ------
    ValueError
        If there are no rows, shapes do not fit, or `y` holds not only 0 and 1.

    Examples
    --------
    >>> import logitext as lt
    >>> z = [[2.0, 1.0], [-1.0, 3.0], [-2.0, -1.0]]
    >>> result = lt.evaluate_multilabel(z, [[1, 0], [0, 1], [0, 0]], classes=["news", "sport"])
    >>> result.micro_precision, result.micro_recall  # 2 of 3 given are right, 2 of 2 found
    (0.6666666666666666, 1.0)
    """
    logits = np.asarray(z)
    sets = as_sets(y, logits.shape)
    if len(sets) == 0:
        raise ValueError("there must be logits of at least one row")
    names = list(range(sets.labels)) if classes is None else classes
    if len(names) != sets.labels:
        raise ValueError(f"classes must name each label: {sets.labels} labels, {len(names)} names")
    given = decide(logits, thresholds)
    hits = np.bincount(sets.both(given) % sets.labels, minlength=sets.labels)
    each = []
    for label, hit, there, told in zip(
        names, hits.tolist(), sets.counts.tolist(), given.counts.tolist(), strict=True
    ):
        precision, recall = hit / told if told else 0.0, hit / there if there else 0.0
        f1 = 2 * hit / (there + told) if there + told else 0.0
        each.append(ClassScore(label, there, told, precision, recall, f1))
    right, told, there = int(hits.sum()), len(given.ids), len(sets.ids)
    return MultilabelEvaluation(
        rows=len(sets),
        **scores(sets, given),
        micro_precision=right / told if told else 0.0,
        micro_recall=right / there if there else 0.0,
        log_loss=binary_log_loss(logits, sets, temperature=temperature, shift=shift),
        labels_per_row=there / len(sets),
        given_per_row=told / len(sets),
        rows_without=int((sets.lengths == 0).sum()),
        rows_given_none=int((given.lengths == 0).sum()),
        classes=each,
    )
