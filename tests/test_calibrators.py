"""Calibration: by hand, against general optimisers, decisions kept, and what must be refused."""

import json
import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import log_softmax as scipy_log_softmax
from sklearn.base import clone
from threadpoolctl import threadpool_limits

import logitext as lt
from logitext import calibration, decisions, scalings
from logitext.calibration import fit_temperature
from logitext.choosing import candidates, deal
from logitext.decisions import applied, keep_decisions
from logitext.descent import minimise
from logitext.evaluation import log_loss
from logitext.scalings import METHODS, Scaling, fit_scaling, form

RICH = ("affine", "quadratic", "vector", "matrix")


def skewed(n: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits too sure of themselves, of classes too rarely and too often given."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n, classes)) * 2
    y = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    seen = true + noise * rng.normal(size=true.shape)
    return 2 * seen + np.linspace(-2, 2, classes), y


def suited(method: str, classes: int) -> bool:
    return method not in ("affine", "quadratic") or classes == 2


CASES = [(method, classes) for method in METHODS for classes in (2, 5) if suited(method, classes)]


# -- by hand --------------------------------------------------------------------


def test_a_temperature_by_hand() -> None:
    z, y = [[4.0, 0.0]] * 400, [0, 0, 0, 1] * 100
    calibrator = lt.Calibrator(method="temperature").fit(z, y)
    assert calibrator.temperature_ == fit_temperature(z, y) == pytest.approx(4 / math.log(3), rel=0.02)
    assert calibrator.transform([[4.0, 0.0]]).tolist() == [[4 / calibrator.temperature_, 0.0]]
    assert calibrator.predict_proba([[4.0, 0.0]])[0].tolist() == pytest.approx([0.75, 0.25], abs=0.005)
    assert (calibrator.scale_, calibrator.bias_, calibrator.matrix_) == (None, None, None)


def test_what_a_vector_stands_for() -> None:
    scale, bias = np.array([2.0, 1.0, 0.5], np.float32), np.array([0.0, 1.0, -1.0], np.float32)
    map_ = Scaling("vector", 2.0, scale, bias)
    # exp(z / 2) is 1, 2, 1.
    z = np.array([[7.0, 7 + 2 * math.log(2), 7.0]])
    x = [math.log(1 / 4), math.log(1 / 2), math.log(1 / 4)]
    assert map_(z)[0].tolist() == pytest.approx([2 * x[0], x[1] + 1, x[2] / 2 - 1])
    # What each class (down) takes of others (across), of what is not below -16.
    matrix = np.array([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    told = Scaling("matrix", 2.0, scale, bias, matrix)
    assert told(z)[0].tolist() == pytest.approx([2 * x[0] + x[1] / 2, x[1] + 1, x[2] / 2 - 1])
    assert told([[0.0, -1e9, 0.0]])[0, 0] == pytest.approx(2 * math.log(1 / 2) - 8)


def test_what_a_quadratic_stands_for() -> None:
    scale, bias = np.full(2, 2.0, np.float32), np.array([-0.5, 0.5], np.float32)
    map_ = Scaling("quadratic", 1.0, scale, bias, curve=0.25, span=(-1.0, 3.0))
    found = map_(np.array([[0.0, 2.0], [0.0, -4.0], [0.0, 10.0]]))
    # 2 m + 1 + m² / 4, whose m² is that of an end beyond it.
    assert (found[:, 1] - found[:, 0]).tolist() == pytest.approx([6, -6.75, 23.25])


def test_two_classes_whose_margin_is_shifted() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(size=40_000) * 2
    y = (rng.random(len(margin)) < 1 / (1 + np.exp(-(0.5 * margin - 1)))).astype(int)
    z = np.stack([np.zeros_like(margin), margin], axis=1)
    found = lt.Calibrator(method="affine", preserve_decision=False).fit(z, y).transform([[0, 0], [0, 1]])
    assert (found[:, 1] - found[:, 0]).tolist() == pytest.approx([-1, -0.5], abs=0.05)


# -- against a naive oracle -----------------------------------------------------


def oracle(method: str, z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Calibrated logits as SciPy's optimiser finds them, all written out."""
    n, k = z.shape
    temperature = fit_temperature(z, y, sample_weight=weights)
    x = np.maximum(scipy_log_softmax(z / temperature, axis=1), -87)
    m = x[:, 1] - x[:, 0]

    def calibrated(at: np.ndarray) -> tuple[np.ndarray, float]:
        if method == "vector":
            v, b = at.reshape(2, k)
            return (1 + v) * x + b, k * float(v @ v + b @ b)
        if method == "matrix":
            own, b, others = at[:k], at[k : 2 * k], at[2 * k :].reshape(k, k) * (1 - np.eye(k))
            ridge = k * float(own @ own + b @ b) + k * (k - 1) * float((at[2 * k :] ** 2).sum())
            return (1 + own) * x + b + np.maximum(x, -16) @ others.T, ridge
        b, v, *c = at
        u = (1 + v) * m + b + sum(c) * m * m / max(1, abs(m).max())
        return np.stack([-u / 2, u / 2], axis=1), k * float(at @ at)

    def loss(at: np.ndarray) -> float:
        u, ridge = calibrated(at)
        return ridge - float(weights @ scipy_log_softmax(u, axis=1)[np.arange(n), y])

    size = {"vector": 2 * k, "matrix": 2 * k + k * k, "affine": 2, "quadratic": 3}[method]
    best = optimize.minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-5}).x
    return calibrated(best)[0]


@pytest.mark.parametrize(("method", "classes"), [case for case in CASES if case[0] in RICH])
def test_against_a_general_optimiser(method: str, classes: int) -> None:
    z, y = skewed(150, classes)
    weights = np.random.default_rng(1).uniform(0, 3, len(y))
    found = fit_scaling(method, z, y, weights)(z)
    wanted = oracle(method, z, y, weights)
    np.testing.assert_allclose(lt.softmax(found), lt.softmax(wanted), atol=2e-5)


@pytest.mark.parametrize("method", RICH)
@pytest.mark.parametrize("classes", [2, 4])
def test_gradients_by_finite_differences(method: str, classes: int) -> None:
    if not suited(method, classes):
        return
    rng = np.random.default_rng(2)
    x = np.asarray(lt.log_softmax(rng.normal(size=(30, classes)) * 8))
    y = rng.integers(0, classes, 30)
    moves = form(method, classes, 5.0)
    features = moves.features(x)
    at = rng.normal(size=moves.ridge.shape) * 0.1

    def loss(at: np.ndarray) -> float:
        return lt.cross_entropy(x + moves.move(features, at), y, reduction="sum")

    gradient = lt.cross_entropy(x + moves.move(features, at), y, reduction="sum", return_grad=True)[1]
    pulled = moves.pull(features, gradient)
    for index in np.ndindex(at.shape):
        aside = np.zeros_like(at)
        aside[index] = 1e-6
        slope = (loss(at + aside) - loss(at - aside)) / 2e-6
        assert pulled[index] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "classes"), [("affine", 2), ("quadratic", 2), ("vector", 4), ("matrix", 4)]
)
def test_the_curvature_of_each_class_is_what_the_gradient_changes_by(method: str, classes: int) -> None:
    rng = np.random.default_rng(3)
    x = lt.log_softmax(2 * rng.normal(size=(40, classes)))
    y = rng.integers(0, classes, 40)
    map_ = form(method, classes, 3.0)
    f = map_.features(x)

    def gradient(at: np.ndarray) -> np.ndarray:
        terms: Any = {"reduction": "sum", "return_grad": True}
        return map_.pull(f, lt.cross_entropy(x + map_.move(f, at), y, **terms)[1])

    p = lt.softmax(x)
    blocks = map_.curvature(f, p * (1 - p))
    start = np.zeros(map_.ridge.shape)
    for k, block in enumerate(blocks):
        for j in range(len(start)):
            moved = start.copy()
            moved.reshape(len(start), -1)[j, k] = 1e-5
            bend = ((gradient(moved) - gradient(start)) / 1e-5).reshape(len(start), -1)[:, k]
            np.testing.assert_allclose(bend, block[j], rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("error")
def test_huge_weights_choose_as_large_ones() -> None:
    rng = np.random.default_rng(6)
    z, y = 3 * rng.normal(size=(1200, 3)), rng.integers(0, 3, 1200)
    huge, large = (lt.Calibrator().fit(z, y, np.full(1200, size)) for size in (1e300, 1e6))
    assert huge.method_ == large.method_ != "identity"


def test_cross_fitting_judges_no_row_by_itself() -> None:
    rng = np.random.default_rng(5)
    z = 3 * rng.normal(size=(1500, 3)).astype(np.float32)
    y = np.array([rng.choice(3, p=p) for p in lt.softmax(z.astype(np.float64) / 3)])
    calibrator = lt.Calibrator()
    calm = calibrator.cross_fit_transform(z, y)
    alone = lt.Calibrator().fit(z, y)
    assert (calibrator.transform(z) == alone.transform(z)).all()
    assert calm.dtype == np.float32
    assert (calm.argmax(axis=1) == z.argmax(axis=1)).all()
    loss = lt.evaluate(calm, y).log_loss
    assert loss == pytest.approx(alone.comparison_[alone.method_], rel=1e-6)
    assert lt.evaluate(alone.transform(z), y).log_loss < loss < lt.evaluate(z, y).log_loss
    few = lt.Calibrator(method="temperature").cross_fit_transform(z[:9], y[:9])
    assert (few == lt.Calibrator(method="temperature").fit(z[:9], y[:9]).transform(z[:9])).all()
    same = lt.Calibrator(method="identity").cross_fit_transform(z, y)
    assert (same == z).all()


def test_descent_finds_the_bottom_of_a_narrow_valley() -> None:
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    hessian = turned @ np.diag(np.geomspace(1, 1e3, 20)) @ turned.T
    bottom = rng.normal(size=20)
    calls = 0

    def valley(at: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        pull = hessian @ (at - bottom)
        return float((at - bottom) @ pull) / 2, pull

    first = lambda g: g / hessian.diagonal()  # noqa: E731
    found = minimise(valley, np.zeros(20), first, tolerance=1e-16, most=1000)
    np.testing.assert_allclose(found, bottom, atol=1e-6)
    assert calls < 300


# -- what must hold -------------------------------------------------------------

VALUES = st.floats(-30, 30, width=32)


@st.composite
def arrays(draw: Any) -> np.ndarray:
    """Logits of 2 to 5 classes, some alike, some masked."""
    classes, rows = draw(st.integers(2, 5)), draw(st.integers(1, 12))
    few = draw(st.lists(VALUES, min_size=1, max_size=6))
    value = st.sampled_from([*few, *few, -math.inf]) | VALUES
    z = np.array(draw(st.lists(st.lists(value, min_size=classes, max_size=classes),
                               min_size=rows, max_size=rows)))  # fmt: skip
    z[np.isneginf(z).all(axis=1), 0] = 0
    return z.astype(draw(st.sampled_from([np.float32, np.float64])))


FITTED = {
    (method, classes): lt.Calibrator(method=method).fit(*skewed(200, classes))  # type: ignore[arg-type]
    for method in METHODS
    for classes in (2, 3, 4, 5)
    if suited(method, classes)
}


@settings(max_examples=60, deadline=None)
@given(z=arrays(), method=st.sampled_from(METHODS))
def test_decisions_are_kept_and_masks_stay(z: np.ndarray, method: str) -> None:
    if not suited(method, z.shape[1]):
        return
    calibrator = FITTED[method, z.shape[1]]
    found, shares = calibrator.transform(z), calibrator.predict_proba(z)
    assert found.dtype == shares.dtype == z.dtype
    decided = np.argmax(z, axis=1)  # ties to the lowest index
    assert np.array_equal(np.argmax(found, axis=1), decided)
    assert np.array_equal(np.argmax(shares, axis=1), decided)
    assert np.array_equal(np.isneginf(found), np.isneginf(z))
    assert (shares[np.isneginf(z)] == 0).all()
    assert np.isfinite(found[~np.isneginf(z)]).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(z=arrays(), method=st.sampled_from(METHODS), shift=st.floats(-1000, 1000))
def test_a_constant_added_to_a_row_is_nothing(z: np.ndarray, method: str, shift: float) -> None:
    if not suited(method, z.shape[1]):
        return
    calibrator = FITTED[method, z.shape[1]]
    z = z.astype(np.float64)
    # The sum may round two logits to one, and then another class is decided on.
    same = np.argmax(z + shift, axis=1) == np.argmax(z, axis=1)
    found, wanted = calibrator.predict_proba(z + shift), calibrator.predict_proba(z)
    np.testing.assert_allclose(found[same], wanted[same], atol=1e-5)


@pytest.mark.parametrize(("method", "classes"), CASES)
def test_classes_in_another_order(method: str, classes: int) -> None:
    z, y = skewed(300, classes)
    order = np.random.default_rng(0).permutation(classes)
    if classes == 2:
        order = np.array([1, 0])
    one = lt.Calibrator(method=method).fit(z, y)  # type: ignore[arg-type]
    # Class order[i] is now i.
    other = lt.Calibrator(method=method).fit(z[:, order], np.argsort(order)[y])  # type: ignore[arg-type]
    found = other.predict_proba(z[:, order])
    np.testing.assert_allclose(found, one.predict_proba(z)[:, order], atol=2e-5)


@pytest.mark.parametrize(("method", "classes"), CASES)
def test_weights_are_rows(method: str, classes: int) -> None:
    z, y = skewed(120, classes)
    times = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = fit_scaling(method, z, y, times.astype(float))
    repeated = fit_scaling(method, np.repeat(z, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted(z), repeated(z), atol=1e-5, rtol=1e-5)
    same, none = fit_scaling(method, z, y, np.ones(len(y))), fit_scaling(method, z, y)
    assert np.array_equal(same(z), none(z))


@pytest.mark.parametrize(("method", "classes"), CASES)
def test_blocks_are_nothing(method: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = skewed(300, classes)
    whole = fit_scaling(method, z, y)
    single = np.concatenate([whole(z[i : i + 1]) for i in range(len(z))])
    assert np.array_equal(single, whole(z))
    assert np.array_equal(whole(np.asfortranarray(z)), whole(z))
    monkeypatch.setattr(scalings, "AT_ONCE", 64)
    monkeypatch.setattr(decisions, "AT_ONCE", 64)
    monkeypatch.setattr(scalings, "KEPT", 0)
    monkeypatch.setattr(calibration, "KEPT", 0)
    cut = fit_scaling(method, z, y)
    np.testing.assert_allclose(cut(z), whole(z), atol=1e-5)
    assert np.array_equal(applied(whole, z, keep=False), whole(z))


@pytest.mark.alone
def test_the_same_bits_for_any_number_of_threads() -> None:
    z, y = skewed(1000, 40)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fit_scaling("matrix", z, y)(z))
    assert np.array_equal(*found)


# -- decisions ------------------------------------------------------------------


def pooled(shares: list[float], decided: int) -> list[float]:
    """By trying all sets to share alike: the closest distribution whose largest is where it must be."""
    best, found = math.inf, shares
    others = [i for i in range(len(shares)) if i != decided]
    for bits in range(1 << len(others)):
        pool = [decided, *(i for at, i in enumerate(others) if bits >> at & 1)]
        mean = sum(shares[i] for i in pool) / len(pool)
        there = [mean if i in pool else share for i, share in enumerate(shares)]
        if max(there) <= mean + 1e-15:
            far = -sum(p * math.log(q) for p, q in zip(shares, there, strict=True))
            if far < best - 1e-12:
                best, found = far, there
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.integers(0, 4))
def test_a_decision_is_kept_by_the_smallest_change(weights: list[float], decided: int) -> None:
    decided %= len(weights)
    shares = [weight / sum(weights) for weight in weights]
    z = np.log([shares])
    keep_decisions(z, np.array([decided]))
    assert int(z.argmax()) == decided
    assert lt.softmax(z)[0].tolist() == pytest.approx(pooled(shares, decided), abs=1e-5)


def test_decisions_by_hand() -> None:
    z = np.log([[0.1, 0.4, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1]]).astype(np.float32)
    before = z.copy()
    keep_decisions(z, np.array([3, 0, 1]))
    shares = lt.softmax(z)
    assert shares[0].tolist() == pytest.approx([0.1, 0.3, 0.3, 0.3], abs=1e-5)
    assert np.array_equal(z[1], before[1])
    assert shares[2].tolist() == pytest.approx([0.4, 0.4, 0.1, 0.1], abs=1e-5)
    assert z.argmax(axis=1).tolist() == shares.argmax(axis=1).tolist() == [3, 0, 1]


def test_without_keeping_them_decisions_may_get_better() -> None:
    z, y = skewed(2000, 4)
    free = lt.Calibrator(method="vector", preserve_decision=False).fit(z, y)
    kept = lt.Calibrator(method="vector").fit(z, y)
    assert np.array_equal(free.scale_, kept.scale_)
    moved = free.transform(z).argmax(axis=1) != z.argmax(axis=1)
    assert moved.any()
    np.testing.assert_array_equal(free.transform(z)[~moved], kept.transform(z)[~moved])
    assert log_loss(free.transform(z), y) <= log_loss(kept.transform(z), y) < log_loss(z, y)


# -- choosing -------------------------------------------------------------------


def test_rows_are_dealt_by_class() -> None:
    y = np.random.default_rng(0).integers(0, 7, 500)
    part = deal(y)
    for code in range(7):
        counts = np.bincount(part[y == code], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_what_is_calibrated_stays() -> None:
    rng = np.random.default_rng(0)
    chosen = []
    for rows in (50, 150, 400, 400, 400):
        z = rng.normal(size=(rows + 4000, 4)) * 2
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        calibrator = lt.Calibrator().fit(z[:rows], y[:rows])
        chosen.append(calibrator.method_)
        assert log_loss(calibrator.transform(z[rows:]), y[rows:]) < log_loss(z[rows:], y[rows:]) + 0.005
        if calibrator.method_ == "identity":
            assert np.array_equal(calibrator.transform(z), z)
            assert calibrator.transform(z) is not z
    assert chosen[:2] == ["identity"] * 2
    assert set(chosen) <= {"identity", "temperature"}


def test_few_rows_are_no_proof() -> None:
    assert candidates(4, 3) == candidates(1000, 1) == []
    assert candidates(199, 2) == [("temperature", 3.0)]
    assert candidates(200, 5) == candidates(499, 2) == [("temperature", 1.5)]
    assert candidates(500, 2) == candidates(999, 5) == [("temperature", 0.0)]
    assert [name for name, _ in candidates(1000, 2)] == ["temperature", "affine", "vector", "quadratic"]
    assert candidates(1000, 51)[-1] == ("vector", 1.0)
    assert candidates(1000, 50)[-1] == ("matrix", 1.0)
    assert candidates(10**6, 101)[-1] == ("vector", 1.0)


def test_what_is_skewed_is_straightened() -> None:
    for classes in (2, 3, 12):
        z, y = skewed(2500, classes)
        calibrator = lt.Calibrator().fit(z[:1000], y[:1000])
        temperature = lt.Calibrator(method="temperature").fit(z[:1000], y[:1000])
        losses = [log_loss(made.transform(z[1000:]), y[1000:]) for made in (calibrator, temperature)]
        assert losses[0] < losses[1] < log_loss(z[1000:], y[1000:])
        assert set(calibrator.comparison_) > {"identity", "temperature"}
        assert calibrator.comparison_[calibrator.method_] < calibrator.comparison_["temperature"]


def test_classes_without_rows_keep_what_the_temperature_gives() -> None:
    z, y = skewed(400, 6)
    there = y < 4
    for method in ("vector", "matrix", "auto"):
        calibrator = lt.Calibrator(method=method).fit(z[there], y[there])  # type: ignore[arg-type]
        shares = calibrator.predict_proba(z)
        assert np.isfinite(shares).all()
        assert (shares[:, 4:] > 0).all()


def test_fewer_rows_than_classes() -> None:
    z, y = skewed(20, 60)
    for method in ("auto", "vector", "matrix"):
        calibrator = lt.Calibrator(method=method).fit(z, y)  # type: ignore[arg-type]
        assert np.isfinite(calibrator.transform(z)).all()


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_hopeless_rows_stay_finite(method: Any) -> None:
    for classes in (2, 5):
        if not suited(method, classes):
            continue
        right = np.eye(classes)[np.arange(200) % classes] * 9
        y = np.arange(200) % classes
        for z, truth in ((right, y), (right, (y + 1) % classes), (right * 0, y), (right[:1], y[:1])):
            calibrator = lt.Calibrator(method=method).fit(z, truth)
            assert 1 / 64 <= calibrator.temperature_ <= 64
            assert np.isfinite(calibrator.transform(right)).all()
            for array in (calibrator.scale_, calibrator.bias_, calibrator.matrix_):
                assert array is None or (np.isfinite(array).all() and abs(array).max() < 100)


def test_one_class() -> None:
    for method in ("auto", "identity", "temperature", "vector", "matrix"):
        calibrator = lt.Calibrator(method=method).fit([[1.0]] * 20, [0] * 20)  # type: ignore[arg-type]
        assert calibrator.predict_proba([[5.0], [-5.0]]).tolist() == [[1.0], [1.0]]


def test_large_and_small_numbers() -> None:
    z, y = skewed(100, 3)
    for factor in (1e-30, 1e30, 1e300):
        calibrator = lt.Calibrator(method="vector").fit(z * factor, y)
        assert np.isfinite(calibrator.transform(z * factor)).all()
    right = np.eye(3)[np.arange(60) % 3] * 3e38
    calibrator = lt.Calibrator(method="temperature").fit(right / 1e38, np.arange(60) % 3)
    assert calibrator.temperature_ < 1
    found = calibrator.transform(right.astype(np.float32))  # beyond the largest float32
    assert np.isfinite(found).all()
    # A mask of -1e9 says no more than "never".
    masked = np.concatenate([z, np.full((100, 1), -1e9)], axis=1)
    for method in ("vector", "matrix"):
        shares = lt.Calibrator(method=method).fit(masked, y).predict_proba(masked)  # type: ignore[arg-type]
        assert (shares[:, 3] < 1e-15).all()
        assert log_loss(np.log(shares[:, :3]), y) < log_loss(z, y)


# -- the object -----------------------------------------------------------------


def test_narrow_and_foreign_arrays() -> None:
    z, y = skewed(50, 3)
    calibrator = lt.Calibrator(method="vector").fit(z.astype(np.float16), y.astype(np.uint8))
    assert calibrator.transform(z.astype(np.float16)).dtype == np.float64
    assert calibrator.transform(z.astype(np.float32)).dtype == np.float32
    assert calibrator.transform(np.zeros((2, 3), int)).dtype == np.float64
    assert calibrator.transform(z[:0]).shape == calibrator.predict_proba(z[:0]).shape == (0, 3)
    assert np.array_equal(calibrator.transform(z[:, ::-1][:, ::-1]), calibrator.transform(z))


@pytest.mark.parametrize(("method", "classes"), CASES)
def test_a_state_gives_the_same_bits(method: str, classes: int) -> None:
    z, y = skewed(200, classes)
    calibrator = lt.Calibrator(method=method, preserve_decision=False).fit(z, y)  # type: ignore[arg-type]
    state, parameters = calibrator.to_state()
    again = lt.Calibrator.from_state(json.loads(json.dumps(state)), parameters)
    assert np.array_equal(again.transform(z), calibrator.transform(z))
    assert (again.method_, again.preserve_decision) == (method, False)
    assert {array.dtype for array in parameters.values()} <= {np.dtype(np.float32)}
    copied = pickle.loads(pickle.dumps(calibrator))
    assert np.array_equal(copied.transform(z), calibrator.transform(z))


def damaged() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    state, parameters = lt.Calibrator(method="vector").fit(*skewed(50, 3)).to_state()
    for key, value in [
        ("method", "isotonic"), ("method", "auto"), ("method", "affine"), ("method", "matrix"),
        ("method", None), ("n_classes", 3.0), ("temperature", 0), ("temperature", -1.0),
        ("temperature", math.nan), ("temperature", "1"), ("n_classes", 4), ("n_classes", 0),
        ("preserve_decision", 1), ("more", 1),
    ]:  # fmt: skip
        yield {**state, key: value}, parameters
    yield {key: state[key] for key in state if key != "temperature"}, parameters
    yield state, {"scale": parameters["scale"]}
    yield state, {**parameters, "matrix": np.zeros((3, 3), np.float32)}
    yield state, {**parameters, "bias": np.zeros(2, np.float32)}
    yield state, {**parameters, "bias": np.full(3, np.inf, np.float32)}
    state, parameters = lt.Calibrator(method="quadratic").fit(*skewed(50, 2)).to_state()
    for key, value in [
        ("curve", math.inf),
        ("span", [1.0]),
        ("span", [1.0, 0.0]),
        ("span", 3),
        ("span", None),
    ]:
        yield {**state, key: value}, parameters


@pytest.mark.parametrize("at", range(24))
def test_a_damaged_state_is_refused(at: int) -> None:
    cases = list(damaged())
    assert len(cases) == 24
    with pytest.raises(ValueError, match=r".+"):
        lt.Calibrator.from_state(*cases[at])


def test_it_is_an_estimator() -> None:
    calibrator = lt.Calibrator(method="vector")
    assert repr(calibrator) == "Calibrator(method='vector')"
    assert repr(lt.Calibrator()) == "Calibrator()"
    assert clone(calibrator).get_params() == {"method": "vector", "preserve_decision": True}
    calibrator.set_params(preserve_decision=False)
    assert not calibrator.preserve_decision
    with pytest.raises(ValueError, match="no argument 'nothing'"):
        calibrator.set_params(nothing=1)
    with pytest.raises(ValueError, match="call fit first"):
        calibrator.transform([[1.0, 2.0]])
    with pytest.raises(ValueError, match="call fit first"):
        _ = calibrator.scale_
    z, y = skewed(50, 3)
    assert np.array_equal(calibrator.fit_transform(z, y), calibrator.transform(z))
    assert calibrator.n_classes_ == 3
    with pytest.raises(ValueError, match="fitted on logits of 3 classes, got 2"):
        calibrator.transform([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("z", "y", "fault"),
    [
        (np.zeros((0, 3)), [], "at least one row"),
        (np.zeros((2, 0)), [0, 0], "at least one class"),
        (np.zeros(3), [0, 0, 0], r"shape \(n, n_classes\)"),
        ([["a", "b"]], [0], "real numbers"),
        ([[1.0, 2.0], [math.nan, 0.0]], [0, 0], "a logit is nan at row 1"),
        ([[1.0, 2.0], [math.inf, 0.0]], [0, 0], "a logit is inf at row 1"),
        ([[1.0, 2.0], [-math.inf, -math.inf]], [0, 0], "every class is masked at row 1"),
        ([[1.0, 2.0], [0.0, -math.inf]], [0, 1], r"true class is masked \(-inf\) at row 1"),
        ([[1.0, 2.0], [0.0, 0.0]], [0, 2], r"in \[0, 2\), got 2 at row 1"),
        ([[1.0, 2.0], [0.0, 0.0]], [0, -1], r"in \[0, 2\), got -1 at row 1"),
        ([[1.0, 2.0]], [0.0], "got dtype float64"),
        ([[1.0, 2.0]], ["a"], "got dtype"),
        ([[1.0, 2.0]], [0, 1], "one per row"),
        ([[1.0, 2.0]], [[1, 0]], "one per row"),
    ],
)
def test_what_is_refused(z: Any, y: Any, fault: str) -> None:
    for method in ("auto", "temperature", "identity"):
        with pytest.raises(ValueError, match=fault):
            lt.Calibrator(method=method).fit(z, y)  # type: ignore[arg-type]


def test_weights_and_methods_that_are_refused() -> None:
    z, y = [[1.0, 2.0], [0.0, 1.0]], [0, 1]
    for weights, fault in [
        ([1.0, -1.0], "at least 0, got -1.0 at row 1"),
        ([1.0, math.nan], "got nan at row 1"),
        ([1.0, math.inf], "got inf at row 1"),
        ([0.0, 0.0], "0 in every row"),
        ([1.0], "2 numbers"),
        (["a", "b"], "2 numbers"),
    ]:
        with pytest.raises(ValueError, match=fault):
            lt.Calibrator().fit(z, y, sample_weight=weights)
    three = [[1.0, 2.0, 3.0]]
    for method, logits, fault in [
        ("isotonic", z, "got 'isotonic'"),
        ("affine", three * 2, "for two classes, got 3"),
        ("quadratic", three * 2, "for two classes, got 3"),
        ("matrix", np.zeros((2, 101)), "up to 100 classes, got 101"),
    ]:
        with pytest.raises(ValueError, match=fault):
            lt.Calibrator(method=method).fit(logits, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="masked array"):
        lt.Calibrator().fit(np.ma.masked_array(z, np.zeros((2, 2))), y)
