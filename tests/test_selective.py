"""Abstention: by hand, against SciPy and a naive search, and the promise, with twins that break it."""

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import logitext as lt
from logitext.binomial import cdf, upper_bound
from logitext.selective import _sequence

# -- the binomial distribution -----------------------------------------------------


@pytest.mark.parametrize("rate", [1e-6, 0.001, 0.01, 0.05, 0.3, 0.5, 0.9, 0.999])
def test_tails_against_scipy(rate: float) -> None:
    rows = np.repeat([1, 2, 10, 100, 1000, 100_000, 1_000_000], 9)
    shares = np.tile([0, 0.5 * rate, 0.8 * rate, 0.97 * rate, rate, 1.03 * rate, 1.2 * rate, 0.6, 1.0], 7)
    errors = np.minimum(rows, np.round(shares * rows)).astype(np.int64)
    expected = stats.binom.cdf(errors, rows, rate)
    found = cdf(errors, rows, rate)
    seen = expected > 1e-280
    np.testing.assert_allclose(found[seen], expected[seen], rtol=2e-8, atol=1e-14)
    assert (found[~seen] < 1e-270).all()


def test_tails_by_hand() -> None:
    # Of three throws: 1/8, 3/8, 3/8, 1/8.
    np.testing.assert_allclose(cdf([0, 1, 2, 3], [3, 3, 3, 3], 0.5), [0.125, 0.5, 0.875, 1.0])
    assert cdf([0], [0], 0.5).tolist() == [1.0]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 20_000),
    share=st.floats(0, 1),
    miss=st.sampled_from([1e-9, 0.0001, 0.00625, 0.05, 0.5, 0.9]),
)
def test_bounds_against_scipy(rows: int, share: float, miss: float) -> None:
    errors = round(share * rows)
    expected = stats.beta.isf(miss, errors + 1, rows - errors) if errors < rows else 1.0
    assert upper_bound(errors, rows, miss) == pytest.approx(expected, rel=1e-8)


# -- against a naive search --------------------------------------------------------


def naive_threshold(confidence: list[float], hits: list[bool], level: float, miss: float) -> float | None:
    """Try the thresholds one after another, in plain Python, as `Selective` says it does."""
    n = len(hits)
    ranks, weights = _sequence(n)
    order = sorted(range(n), key=lambda i: -confidence[i])
    tests: dict[int, tuple[float, float]] = {}
    for rank, weight in zip(ranks.tolist(), weights.tolist(), strict=True):
        bar = confidence[order[rank]] if rank < n else -math.inf
        rows = sum(c > bar for c in confidence) if bar > -math.inf else n
        tests[rows] = bar, tests.get(rows, (0.0, 0.0))[1] + weight
    found, had = None, 0.0
    if 0 in tests:
        had = tests.pop(0)[1] * miss
    counts = np.array(sorted(tests))
    wrongs = np.array([sum(not hits[i] for i in order[:rows]) for rows in counts.tolist()])
    p_values = stats.binom.cdf(wrongs, counts, level).tolist()
    for rows, p in zip(counts.tolist(), p_values, strict=True):
        bar, weight = tests[rows]
        had += weight * miss
        if p <= had:
            found = bar
        else:
            had = 0.0
    return found


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 300),
    distinct=st.integers(1, 300),
    level=st.sampled_from([0.05, 0.1, 0.2, 0.4]),
    confidence=st.sampled_from([0.5, 0.8, 0.95]),
    seed=st.integers(0, 1000),
)
def test_against_the_naive_search(n: int, distinct: int, level: float, confidence: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.integers(0, distinct, n).astype(float)
    hits = rng.random(n) < 1 - 0.5 * (1 - sure / distinct) ** 2
    z = np.where(hits[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    selective = lt.Selective().fit(z, np.zeros(n, int), score=sure)
    expected = naive_threshold(sure.tolist(), hits.tolist(), level, 1 - confidence)
    if expected is None:
        with pytest.raises(lt.UnattainableError):
            selective.threshold(level, confidence)
    else:
        assert selective.threshold(level, confidence) == expected


def test_the_sequence() -> None:
    for n in (0, 1, 2, 3, 10, 59, 1000, 12_345, 1_000_000):
        ranks, weights = _sequence(n)
        assert len(ranks) == len(weights) < 1500
        if n:
            assert weights.sum() == pytest.approx(1)
            assert ranks[-1] == n
            assert (np.diff(ranks) >= 1).all()
            assert ranks[0] >= 1
            assert (ranks[1:] <= np.maximum(ranks[:-1] + 1, 1.011 * ranks[:-1] + 1)).all()


# -- the promise ---------------------------------------------------------------------


class World:
    """Logits whose true class is drawn from their softmax: the true error of a threshold is known."""

    def __init__(self, spread: float, classes: int = 3) -> None:
        self.spread, self.classes = spread, classes
        z = np.random.default_rng(100).normal(size=(200_000, classes)) * spread
        self.sure = -np.sort(-lt.softmax(z).max(axis=1))
        self.errors = np.cumsum(1 - self.sure) / np.arange(1, len(self.sure) + 1)

    def rows(self, rng: np.random.Generator, n: int) -> tuple[Any, Any]:
        z = rng.normal(size=(n, self.classes)) * self.spread
        return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)

    def answered(self, threshold: float) -> float:
        return float(np.searchsorted(-self.sure, -threshold)) / len(self.sure)

    def error(self, threshold: float) -> float:
        rows = int(np.searchsorted(-self.sure, -threshold))
        return float(self.errors[rows - 1]) if rows else 0.0

    def oracle(self, level: float) -> float:
        """Return the largest share of rows whose error is within the level."""
        return float(np.flatnonzero(self.errors <= level).max() + 1) / len(self.sure)


def draws(world: World, n: int, times: int, threshold: Callable[[Any, Any], float]) -> list[float]:
    rng = np.random.default_rng(200)
    return [threshold(*world.rows(rng, n)) for _ in range(times)]


def naive(level: float) -> Callable[[Any, Any], float]:
    """The lowest threshold whose observed error is within the level."""

    def threshold(z: Any, y: Any) -> float:
        p = lt.softmax(z).max(axis=1)
        order = np.argsort(-p)
        wrong = np.cumsum(lt.argmax(z)[order] != y[order])
        good = np.flatnonzero(wrong / np.arange(1, len(y) + 1) <= level)
        return float(p[order[good[-1]]]) - 1e-12 if len(good) else 1.0

    return threshold


def too_often(world: World, level: float, thresholds: list[float]) -> float:
    """P-value of the hypothesis that the true error is above the level with a probability of at most 5 %."""
    above = sum(world.error(threshold) > level for threshold in thresholds)
    return float(stats.binomtest(above, len(thresholds), 0.05, alternative="greater").pvalue)


@pytest.mark.parametrize(("n", "level"), [(500, 0.1), (2000, 0.05)])
def test_the_promise_is_kept(n: int, level: float) -> None:
    world = World(3.0)

    def threshold(z: Any, y: Any) -> float:
        try:
            return lt.Selective().fit(z, y).threshold(level)
        except lt.UnattainableError:
            return 1.0

    thresholds = draws(world, n, 1000, threshold)
    assert sum(world.error(one) > level for one in thresholds) <= 50
    assert np.mean([world.answered(one) for one in thresholds]) > 0.5 * world.oracle(level)
    # To read the threshold off the observed errors will not do.
    assert too_often(world, level, draws(world, n, 200, naive(level))) < 1e-9


def test_nearly_all_is_answered_that_an_oracle_would() -> None:
    world = World(6.0)
    for n, level in ((20_000, 0.01), (5_000, 0.05)):
        oracle = world.oracle(level)
        assert n * level * oracle >= 100
        found = draws(world, n, 30, lambda z, y: lt.Selective().fit(z, y).threshold(level))  # noqa: B023
        assert np.mean([world.answered(one) for one in found]) >= 0.95 * oracle


# -- by hand ---------------------------------------------------------------------------


def rows_right_and_wrong(right: int, wrong: int) -> tuple[Any, Any]:
    """Rows of which the wrong ones are the least sure."""
    n = right + wrong
    lead = np.linspace(9, 1, n)
    return np.stack([lead, np.zeros(n)], axis=1), np.repeat([0, 1], [right, wrong])


def test_all_are_answered_where_all_are_right() -> None:
    z, y = rows_right_and_wrong(1000, 0)
    selective = lt.Selective().fit(z, y)
    assert selective.threshold(0.01) == 0.0
    assert selective.answers([[0.0, 0.0]], 0.01).tolist() == [True]
    (level,) = selective.table([0.01])
    assert level[:4] == (0.01, 0.0, 1.0, 0.0)
    assert level.bound < 0.01


def test_what_cannot_be_promised() -> None:
    z, y = rows_right_and_wrong(100, 100)
    selective = lt.Selective().fit(z, y)
    with pytest.raises(lt.UnattainableError, match=r"0\.001 cannot be promised .* on 200 held-out") as caught:
        selective.predict(z, 0.001)
    assert isinstance(caught.value, ValueError)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    level, answered = caught.value.achievable  # type: ignore[misc]
    assert selective.answers(z, level).mean() == pytest.approx(answered)
    assert f"{level:.4g}" in str(caught.value)
    with pytest.raises(lt.UnattainableError):
        selective.threshold(level - 2e-3 * level)  # it is rounded up to four digits
    (row,) = selective.table([0.001])
    assert row[:3] == (0.001, math.inf, 0.0)
    assert math.isnan(row.error)
    assert math.isnan(row.bound)
    for none in (lt.Selective().fit(z, 1 - lt.argmax(z)), lt.Selective().fit(z[:0], y[:0])):
        with pytest.raises(lt.UnattainableError, match="nor can any other") as caught:
            none.threshold(0.5)
        assert caught.value.achievable is None
    one = lt.Selective().fit(z[:1], [0])
    with pytest.raises(lt.UnattainableError):
        one.threshold(0.9)
    assert one.threshold(0.96) == 0.0  # (1 - .96) <= .05


def test_ties_are_one_threshold() -> None:
    # 500 rows at .9, all right; 500 at .6, half of them wrong.
    z = np.repeat([[math.log(9), 0.0], [math.log(1.5), 0.0]], 500, axis=0)
    y = np.concatenate([np.zeros(500, int), np.tile([0, 1], 250)])
    selective = lt.Selective().fit(z, y)
    assert selective.threshold(0.05) == pytest.approx(0.6)  # not answered: those at .6
    assert selective.answers(z, 0.05).sum() == 500
    assert np.unique(selective.predict(z, 0.05)[500:]).tolist() == [-1]
    assert selective.table([0.3])[0].answered == 1.0


# -- properties -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(30, 600),
    spread=st.floats(0.5, 8),
    levels=st.lists(st.floats(0.005, 0.6), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    score=st.sampled_from(["probability", "margin"]),
)
def test_properties(n: int, spread: float, levels: list[float], seed: int, score: str) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4)) * spread
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    selective = lt.Selective().fit(z, y, score=score)
    table = selective.table(sorted(levels))
    # A larger error, or less confidence, never answers less.
    assert [row.threshold for row in table] == sorted((row.threshold for row in table), reverse=True)
    for loose, row in zip(selective.table(sorted(levels), 0.7), table, strict=True):
        assert loose.threshold <= row.threshold
        if row.answered == 0:
            continue
        answered = selective.answers(z, row.max_error)
        assert answered.mean() == pytest.approx(row.answered)
        given = selective.predict(z, row.max_error)
        assert np.array_equal(given >= 0, answered)
        assert np.array_equal(given[answered], lt.argmax(z)[answered])
        assert (given[answered] != y[answered]).mean() == pytest.approx(row.error)
        assert row.error <= row.bound <= row.max_error
        # Each row answered is surer than each that is not.
        sure = lt.margin(z) if score == "margin" else lt.softmax(z).max(axis=1)
        assert answered.all() or sure[answered].min() > sure[~answered].max() - 1e-6


def test_own_confidence() -> None:
    z, y = rows_right_and_wrong(500, 500)
    sure = -np.arange(1000.0)
    selective = lt.Selective().fit(z, y, score=sure)
    assert np.array_equal(
        selective.answers(z, 0.05, score=sure), lt.Selective().fit(z, y, score="margin").answers(z, 0.05)
    )
    with pytest.raises(ValueError, match="score must be an array, as it was in fit, got none"):
        selective.answers(z, 0.05)
    with pytest.raises(ValueError, match="score must be none, as it was in fit, got an array"):
        lt.Selective().fit(z, y).answers(z, 0.05, score=sure)
    with pytest.raises(ValueError, match="one number per row: 1000 rows"):
        selective.answers(z, 0.05, score=sure[:5])
    with pytest.raises(ValueError, match="must not be NaN, got one at row 3"):
        lt.Selective().fit(z, y, score=np.where(np.arange(1000) == 3, np.nan, sure))
    with pytest.raises(ValueError, match="got 'entropy'"):
        lt.Selective().fit(z, y, score="entropy")


def test_near_certain_rows_are_told_apart() -> None:
    # All these probabilities are 1 in float32; the least sure are wrong.
    lead = np.linspace(70, 30, 1000)
    z = np.stack([lead, np.zeros(1000)], axis=1)
    y = np.repeat([0, 1], [600, 400])
    assert 500 < lt.Selective().fit(z, y).answers(z, 0.05).sum() < 700


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_levels_that_cannot_be(value: float) -> None:
    z, y = rows_right_and_wrong(50, 5)
    selective = lt.Selective().fit(z, y)
    for call in (selective.threshold, lambda e: selective.predict(z, e), lambda e: selective.table([e])):
        with pytest.raises(ValueError, match="max_error must be above 0 and below 1, got"):
            call(value)
    with pytest.raises(ValueError, match="confidence must be above 0 and below 1, got"):
        selective.threshold(0.1, value)


def test_before_fit() -> None:
    for call in (
        lambda: lt.Selective().threshold(0.1),
        lambda: lt.Selective().answers([[0.0, 1.0]], 0.1),
        lambda: lt.Selective().table(),
        lambda: lt.Selective().to_state(),
    ):
        with pytest.raises(ValueError, match="call fit"):
            call()


def test_masked_classes_and_dtypes() -> None:
    z, y = rows_right_and_wrong(400, 100)
    masked = np.concatenate([z, np.full((500, 1), -np.inf)], axis=1)
    plain, same = lt.Selective().fit(z, y), lt.Selective().fit(masked, y)
    assert same.threshold(0.1) == plain.threshold(0.1)
    only = np.where(np.eye(3)[[0] * 100] == 1, 0.0, -np.inf)  # nothing but the decision is left
    for score in ("probability", "margin"):
        assert lt.Selective().fit(only, [0] * 100, score=score).answers(only, 0.1).all()
    half = lt.Selective().fit(z.astype(np.float16), y)
    assert half.answers(z.astype(np.float16), 0.1).any()


# -- the state -----------------------------------------------------------------------------


def test_the_state_brings_back_all() -> None:
    z, y = rows_right_and_wrong(400, 100)
    selective = lt.Selective().fit(z, y, score="margin")
    settings_, arrays = selective.to_state()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "confidence": "float32",
        "hits": "bool",
    }
    back = lt.Selective.from_state(json.loads(json.dumps(settings_)), arrays)
    assert repr(back) == repr(selective) == "Selective(500 rows, margin)"
    assert back.table() == selective.table()
    assert np.array_equal(back.predict(z, 0.1), selective.predict(z, 0.1))


@pytest.mark.parametrize(
    ("settings_", "changed", "message"),
    [
        ({"score": "entropy"}, {}, "no such score"),
        ({}, {}, "no such score"),
        ({"score": "margin"}, {"confidence": np.zeros(2)}, "float32"),
        ({"score": "margin"}, {"confidence": np.array([0, 1], np.float32)}, "fall"),
        ({"score": "margin"}, {"confidence": np.array([0, np.nan], np.float32)}, "NaN"),
        ({"score": "margin"}, {"confidence": np.zeros(3, np.float32)}, "as long"),
        ({"score": "margin"}, {"hits": np.ones(2, np.uint8)}, "bool"),
    ],
)
def test_what_is_no_state(settings_: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    good = {"confidence": np.zeros(2, np.float32), "hits": np.ones(2, np.bool_)}
    with pytest.raises(ValueError, match=message):
        lt.Selective.from_state(settings_, good | changed)
    with pytest.raises(ValueError, match="lacks"):
        lt.Selective.from_state({"score": "margin"}, {})
