"""Evaluation: by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import logitext as lt
from logitext.evaluation import accuracy, log_loss

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
