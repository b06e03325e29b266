"""Evaluation: by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

import logitext as lt
from logitext.evaluation import accuracy, log_loss
from logitext.risk import novelty_auroc, risk_coverage, score_sets

# Decisions 0, 1, 1, 2, 0, 2 for true classes 0, 1, 0, 2, 1, 2.
Z = np.array([[3, 0, 0], [0, 3, 0], [1, 2, 0], [0, 0, 1], [2, 1, 0], [0, 1, 4]], float)
Y = np.array([0, 1, 0, 2, 1, 2])


def test_numbers_by_hand() -> None:
    result = lt.evaluate(Z, Y, classes=["a", "b", "c"])
    assert (result.rows, result.accuracy) == (6, pytest.approx(4 / 6))
    assert result.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 2]]
    a, b, c = result.classes
    assert (a.label, a.rows, a.predicted, a.precision, a.recall, a.f1) == ("a", 2, 2, 0.5, 0.5, 0.5)
    assert (b.label, b.f1) == ("b", 0.5)
    assert (c.label, c.precision, c.recall, c.f1) == ("c", 1.0, 1.0, 1.0)
    assert result.macro_f1 == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert result.most_confused() == [("a", "b", 1), ("b", "a", 1)]
    assert result.most_confused(1) == [("a", "b", 1)]
    # Row 0: -ln(e^3 / (e^3 + 2)).
    assert log_loss(Z[:1], Y[:1]) == pytest.approx(math.log(1 + 2 * math.exp(-3)))
    assert log_loss(Z[:1], Y[:1], temperature=3.0) == pytest.approx(math.log(1 + 2 * math.exp(-1)))
    assert result.log_loss == pytest.approx(np.mean([log_loss(Z[i : i + 1], Y[i : i + 1]) for i in range(6)]))
    assert accuracy(Z, Y) == result.accuracy


def test_the_commonest_mistakes_come_first() -> None:
    z = np.eye(3)[[1, 1, 2, 0, 0, 0, 2]]
    result = lt.evaluate(z, [0, 0, 0, 1, 2, 2, 2])
    assert result.most_confused() == [(0, 1, 2), (2, 0, 2), (0, 2, 1), (1, 0, 1)]
    assert [score.label for score in result.classes] == [0, 1, 2]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.floats(-9, 9), min_size=5, max_size=5)), min_size=1
    ),
    temperature=st.floats(1, 10),
)
def test_against_scikit_learn(rows: list[tuple[int, list[float]]], temperature: float) -> None:
    y, z = np.array([y for y, _ in rows]), np.array([z for _, z in rows])
    decided = z.argmax(axis=1)
    result = lt.evaluate(z, y, temperature=temperature)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(y, decided))
    assert result.macro_f1 == pytest.approx(metrics.f1_score(y, decided, average="macro", zero_division=0))
    assert np.array_equal(result.confusion, metrics.confusion_matrix(y, decided, labels=range(5)))
    p, r, f, n = metrics.precision_recall_fscore_support(y, decided, labels=range(5), zero_division=0)
    scores = result.classes
    np.testing.assert_allclose([score.precision for score in scores], p)
    np.testing.assert_allclose([score.recall for score in scores], r)
    np.testing.assert_allclose([score.f1 for score in scores], f)
    assert [score.rows for score in scores] == n.tolist()
    probabilities = lt.softmax(z, temperature=temperature)
    sklearns = metrics.log_loss(y, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(5))
    assert result.log_loss == pytest.approx(sklearns, rel=1e-9, abs=1e-9)


def test_the_order_of_rows_is_nothing() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(1000, 4)) * 10, rng.integers(0, 4, 1000)
    order = rng.permutation(1000)
    assert log_loss(z, y) == log_loss(z[order], y[order])


def test_edges() -> None:
    assert math.isnan(accuracy(np.zeros((0, 2)), []))
    assert math.isnan(log_loss(np.zeros((0, 2)), []))
    assert lt.evaluate([[0.0, 0.0]], [0]).accuracy == 1.0  # ties: the lowest index
    assert lt.evaluate([[0.0, -math.inf]], [1]).log_loss == math.inf
    only = lt.evaluate(np.eye(3, dtype=np.float32)[[0, 0]], [0, 0])
    assert only.macro_f1 == 1.0  # classes that are neither true nor decided do not count
    assert lt.evaluate([[3, 1]], np.array([0], np.uint8)).confusion.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("z", "y", "classes", "message"),
    [
        (np.zeros((0, 2)), [], None, "logits of at least one row"),
        ([1.0, 2.0], [0], None, "logits of at least one row"),
        ([[1.0, 2.0]], [2], None, r"integers in \[0, 2\), got 2 at row 0"),
        ([[1.0, 2.0]], [0, 1], None, "one per row"),
        ([[1.0, 2.0]], [0.5], None, "got dtype float64"),
        ([[1.0, 2.0]], [0], ["a"], "2 classes, 1 names"),
    ],
)
def test_what_cannot_be_measured(z: object, y: object, classes: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.evaluate(z, y, classes=classes)  # type: ignore[arg-type]


# -- probabilities, risk, intervals ---------------------------------------------


def test_more_numbers_by_hand() -> None:
    z = np.log([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    result = lt.evaluate(z, [0, 1, 1, 1])
    # (1 - p)² twice, of the true class: .2, .6, .3, .1.
    assert result.brier == pytest.approx(2 * (0.04 + 0.36 + 0.09 + 0.01) / 4)
    assert result.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert result.intervals == {}
    # Surest first: right, right, right, wrong.
    risk = result.risk_coverage
    assert risk.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.risk.tolist() == [0, 0, 0, 0.25]
    assert risk.threshold.round(12).tolist() == [0.9, 0.8, 0.7, 0.6]
    assert result.augrc == pytest.approx(0.25 * 0.25 / 2)
    assert risk.at_coverage(0.6) == pytest.approx((0.7, 0.75, 0.0))
    assert risk.at_risk(0.0) == pytest.approx((0.7, 0.75, 0.0))
    assert risk.at_risk(0.25) == pytest.approx((0.6, 1.0, 0.25))
    assert lt.evaluate([[1.0, 0.0]], [1]).risk_coverage.at_risk(0.5) is None
    # Off by .2, -.6, .3 and .1, each in a bin of its own.
    assert result.binned_ece == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_risk_by_its_definition(rows: list[tuple[int, bool]]) -> None:
    sure, hits = np.array([s for s, _ in rows]), np.array([h for _, h in rows])
    found = risk_coverage(sure, hits)
    for threshold, coverage, risk in zip(found.threshold, found.coverage, found.risk, strict=True):
        answered = sure >= threshold
        assert (coverage, risk) == pytest.approx((answered.mean(), (~hits)[answered].mean()))
    a = hits.mean()
    auroc = metrics.roc_auc_score(hits, sure) if 0 < a < 1 else 1.0
    assert found.augrc == pytest.approx((1 - auroc) * a * (1 - a) + (1 - a) ** 2 / 2)
    if 0 < a < 1:
        assert novelty_auroc(sure[hits], sure[~hits]) == pytest.approx(1 - auroc)


def wide(n: int, k: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y], y


def test_intervals() -> None:
    z, y = wide(800)
    result = lt.evaluate(z, y, resamples=300)
    plain = lt.evaluate(z, y)
    assert list(result.intervals) == [
        "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "smooth_ece", "debiased_ece",
        "binned_ece", "augrc",
    ]  # fmt: skip
    for name, (low, high) in result.intervals.items():
        assert getattr(result, name) == getattr(plain, name)
        assert low < high, name
        if "ece" not in name:
            assert low < getattr(result, name) < high, name
    # As wide as the normal distribution says.
    losses = np.asarray(lt.cross_entropy(z, y, reduction="none"))
    low, high = result.intervals["log_loss"]
    assert high - low == pytest.approx(2 * 1.96 * losses.std() / math.sqrt(800), rel=0.15)
    for score in result.classes:
        assert list(score.intervals) == ["precision", "recall", "f1"]
        assert score.intervals["f1"].low < score.f1 < score.intervals["f1"].high
    order = np.random.default_rng(1).permutation(800)
    assert lt.evaluate(z[order], y[order], resamples=300).intervals == result.intervals
    assert lt.evaluate(z, y, resamples=300, seed=1).intervals != result.intervals


def test_intervals_of_counts_are_those_of_rows() -> None:
    z, y = wide(300, 3)
    decided = z.argmax(axis=1)
    rng = np.random.default_rng(0)
    f1s = []
    for _ in range(400):
        row = rng.integers(0, 300, 300)
        f1s.append(metrics.f1_score(y[row], decided[row], average="macro"))
    low, high = lt.evaluate(z, y, resamples=1000).intervals["macro_f1"]
    assert np.quantile(f1s, [0.025, 0.975]) == pytest.approx([low, high], abs=0.012)


def test_calibrated_logits() -> None:
    z, y = wide(200)
    half = lt.evaluate(z, y, calibrated=z / 2)
    assert half.log_loss == lt.evaluate(z, y, temperature=2.0).log_loss
    # Decisions stay those of the raw logits, whatever calibration does.
    other = lt.evaluate(z, y, calibrated=-z)
    assert (other.accuracy, other.confusion.tolist()) == (half.accuracy, half.confusion.tolist())
    assert other.log_loss > half.log_loss
    with pytest.raises(ValueError, match="as many as logits"):
        lt.evaluate(z, y, calibrated=z[:5])
    with pytest.raises(ValueError, match="no temperature"):
        lt.evaluate(z, y, calibrated=z, temperature=2.0)


def test_sets_and_novelty() -> None:
    z, y = wide(400, 3)
    sets = lt.softmax(z) > 0.2
    result = lt.evaluate(z, y, sets=sets, novelty=([0.1, 0.2, 0.4, 0.6], [0.5, 0.7]), resamples=200)
    assert result.sets is not None
    assert result.sets.coverage == sets[np.arange(400), y].mean()
    assert result.sets.size == sets.sum() / 400
    assert result.sets.by_class[1] == sets[y == 1, 1].mean()
    assert (result.sets.single, result.sets.empty) == ((sets.sum(1) == 1).mean(), (sets.sum(1) == 0).mean())
    assert result.novelty_auroc == 7 / 8
    for name, value in (("coverage", result.sets.coverage), ("set_size", result.sets.size)):
        assert result.intervals[name].low < value < result.intervals[name].high
    assert result.intervals["novelty_auroc"].high == 1.0
    assert math.isnan(score_sets([[True, False]], [0]).by_class[1])
    for wrong, message in (
        (sets[:5], "as many as logits"),
        (sets.astype(int), "Boolean"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.evaluate(z, y, sets=wrong)
    with pytest.raises(ValueError, match=r"in \[0, 2\), got 2 at row 0"):
        score_sets([[True, False]], [2])
    with pytest.raises(ValueError, match="novel rows"):
        novelty_auroc([1.0], [])
    with pytest.raises(ValueError, match="NaN"):
        risk_coverage([math.nan], [1])


def test_compare() -> None:
    z, y = wide(500)
    found = lt.compare(z, z, y)
    assert (found.accuracy, found.log_loss, found.only_first, found.p_value) == (0, 0, 0, 1)
    assert set(found.intervals.values()) == {(0.0, 0.0)}
    worse = z + np.random.default_rng(9).normal(size=z.shape)
    found = lt.compare(z, worse, y)
    ours, theirs = lt.evaluate(z, y), lt.evaluate(worse, y)
    for name in ("accuracy", "log_loss", "brier"):
        assert getattr(found, name) == pytest.approx(getattr(ours, name) - getattr(theirs, name))
        low, high = found.intervals[name]
        assert low < getattr(found, name) < high
    assert found.only_first - found.only_second == round(500 * found.accuracy)
    test = stats.binomtest(found.only_first, found.only_first + found.only_second)
    assert found.p_value == pytest.approx(test.pvalue)
    # The other way round everything is.
    back = lt.compare(worse, z, y)
    assert (back.accuracy, back.only_first) == (-found.accuracy, found.only_second)
    # Pairing pays: the interval is narrower than that of two samples.
    low, high = found.intervals["log_loss"]
    apart = [lt.evaluate(logits, y, resamples=300).intervals["log_loss"] for logits in (z, worse)]
    assert high - low < math.hypot(*(b - a for a, b in apart))
    cool = lt.compare(z, z, y, temperatures=(1.0, 3.0))
    assert cool.log_loss == pytest.approx(ours.log_loss - lt.evaluate(z, y, temperature=3.0).log_loss)
    assert lt.compare(z, z, y, calibrated=(z, z / 3)) == cool
    for first, second, how, message in (
        (z, z[:, :4], {}, "same rows and classes"),
        (z, z, {"resamples": 0}, "at least one resample"),
        (z, np.full_like(z, math.nan), {}, "logits of row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.compare(first, second, y, **how)  # type: ignore[arg-type]


def test_hard_rows() -> None:
    # One row: a share has an interval, a spread has none.
    one = lt.evaluate([[1.0, 0.0]], [0], resamples=50)
    assert one.intervals["accuracy"] == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert math.isnan(one.intervals["log_loss"].low)
    assert math.isnan(lt.compare([[1.0, 0.0]], [[0.0, 1.0]], [0]).intervals["accuracy"].low)
    # One class only.
    only = lt.evaluate(np.tile([2.0, 0.0, 0.0], (50, 1)), np.zeros(50, int), resamples=50)
    assert (only.balanced_accuracy, only.macro_f1, only.augrc) == (1.0, 1.0, 0.0)
    assert only.intervals["macro_f1"] == (1.0, 1.0)
    assert only.intervals["accuracy"].low < 0.95
    assert lt.evaluate(np.ones((4, 1)), [0] * 4, resamples=9).brier == 0.0
    # A class that is masked where it is true: the loss is infinite, and so may it be in a resample.
    z, y = wide(50)
    z[3, y[3]] = -math.inf
    masked = lt.evaluate(z, y, resamples=200)
    assert masked.log_loss == math.inf
    assert masked.intervals["log_loss"].low < 5
    assert masked.intervals["log_loss"].high == math.inf
    assert math.isfinite(masked.brier)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_cannot_be_measured(bad: float) -> None:
    z, y = wide(20)
    z[7, 2] = bad
    for fails in (lambda: lt.evaluate(z, y), lambda: lt.evaluate(np.zeros_like(z), y, calibrated=z)):
        with pytest.raises(ValueError, match="logits of row 7 cannot be measured"):
            fails()
    z[7] = -math.inf
    with pytest.raises(ValueError, match="row 7"):
        lt.evaluate(z, y)
