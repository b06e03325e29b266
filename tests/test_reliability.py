"""Calibration errors and intervals: by hand, against naive oracles, and whether intervals hold the truth."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from logitext.intervals import distance_interval, quantiles, resamples, share_interval
from logitext.reliability import Bins, binned_ece, debiased_ece, reliability, smooth_ece

Array = np.ndarray


def naive_heights(p: Array, gaps: Array, width: float, grid: int = 400) -> Array:
    """Smooth with a reflected Gaussian: every row's images, at every place."""
    t = (np.arange(grid) + 0.5) / grid
    images = np.concatenate([2 * m + side * p for m in range(-2, 3) for side in (1, -1)])
    kernel = np.exp(-0.5 * ((t[:, None] - images) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return kernel @ np.tile(gaps, 10) / len(p)


def naive_smooth_ece(p: Array, hits: Array) -> float:
    low, high = 1e-3, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        above = np.abs(naive_heights(p, hits - p, middle)).mean() > middle
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def naive_binned(p: Array, hits: Array) -> float:
    total = 0.0
    for i in range(15):
        inside = (p > i / 15) & (p <= (i + 1) / 15) if i else p <= 1 / 15
        total += abs((hits - p)[inside].sum()) / len(p)
    return total


def naive_debiased(p: Array, hits: Array) -> float:
    order = np.argsort(p, kind="stable")
    p, hits = p[order], hits[order]
    cuts = sorted({0, len(p), *(int((p < p[i * len(p) // 15]).sum()) for i in range(1, 15))})
    total = 0.0
    for a, b in itertools.pairwise(cuts):
        if b - a > 1:
            y = hits[a:b].mean()
            total += (b - a) / len(p) * ((y - p[a:b].mean()) ** 2 - y * (1 - y) / (b - a - 1))
    return math.sqrt(max(total, 0))


def test_by_hand() -> None:
    # One probability, off by .3: whatever the kernel's width, its mass stays in [0, 1].
    p, hits = np.full(100, 0.9), np.repeat([1, 0], [60, 40])
    assert smooth_ece(p, hits) == pytest.approx(0.3, abs=1e-5)
    assert binned_ece(p, hits) == pytest.approx(0.3)
    assert debiased_ece(p, hits) == pytest.approx(math.sqrt(0.3**2 - 0.6 * 0.4 / 99))
    # Two bins, off by .1 and by .2 the other way.
    p, hits = np.repeat([0.3, 0.8], 10), np.repeat([1, 0, 1, 0], [4, 6, 6, 4])
    assert binned_ece(p, hits) == pytest.approx(0.15)
    # What is never off is not off.
    assert smooth_ece([0.0, 1.0, 1.0], [0, 1, 1]) == 0.0
    assert [f([1.0], [1]) for f in (smooth_ece, debiased_ece, binned_ece)] == [0.0, 0.0, 0.0]
    assert all(math.isnan(f([], [])) for f in (smooth_ece, debiased_ece, binned_ece))


PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(PAIRS)
def test_against_naive_oracles(rows: list[tuple[float, bool]]) -> None:
    p, hits = np.array([p for p, _ in rows]), np.array([float(hit) for _, hit in rows])
    assert smooth_ece(p, hits) == pytest.approx(naive_smooth_ece(p, hits), abs=2e-3)
    assert binned_ece(p, hits) == pytest.approx(naive_binned(p, hits), abs=1e-12)
    assert debiased_ece(p, hits) == pytest.approx(naive_debiased(p, hits), abs=1e-7)
    order = np.random.default_rng(0).permutation(len(p))
    assert smooth_ece(p[order], hits[order]) == smooth_ece(p, hits)


def test_many_rows_of_a_narrow_kernel() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(5, 1, 3000)
    hits = (rng.random(3000) < p**1.5).astype(float)
    some = p[:700], hits[:700]
    assert smooth_ece(*some) == pytest.approx(naive_smooth_ece(*some), rel=0.01)
    # The truth is the mean of p - p**1.5 over Beta(5, 1): 5/6 - 5/6.5.
    assert smooth_ece(p, hits) == pytest.approx(5 / 6 - 5 / 6.5, abs=0.02)


def test_what_chance_adds_is_taken_away() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(400)
    squares, plain = [], []
    for _ in range(100):
        hits = (rng.random(400) < p).astype(float)
        squares.append(debiased_ece(p, hits) ** 2)
        plain.append(binned_ece(p, hits))
    # Perfectly calibrated. Half the squares are cut off at 0; the bins without debiasing see .07.
    assert np.mean(squares) < 0.0015
    assert np.mean(plain) > 0.05


def test_a_row_that_counts_twice_is_two_rows() -> None:
    rng = np.random.default_rng(3)
    p, hits = np.sort(rng.random(50)), rng.integers(0, 2, 50).astype(float)
    for weights in resamples(50, 4, 5):
        found = Bins(p).errors(weights, hits)
        for line, smooth, wide in zip(weights, found["smooth_ece"], found["binned_ece"], strict=True):
            twice = np.repeat(np.arange(50), line.astype(int))
            assert smooth == pytest.approx(smooth_ece(p[twice], hits[twice]), abs=1e-5)
            assert wide == pytest.approx(binned_ece(p[twice], hits[twice]), abs=1e-12)


def test_the_curve() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(4, 1, 5000)
    hits = rng.random(5000) < p
    found = reliability(p, hits, resamples=200)
    assert found.low is not None
    assert found.high is not None
    seen = ~np.isnan(found.frequency)
    assert seen.sum() > 600
    assert (found.low[seen] <= found.high[seen]).all()
    # Perfectly calibrated: the diagonal is in most of the band.
    inside = (found.low[seen] <= found.probability[seen]) & (found.probability[seen] <= found.high[seen])
    assert inside.mean() > 0.8
    assert found.density.mean() == pytest.approx(1)
    assert found.error == smooth_ece(p, hits)
    # The distance from the diagonal, where rows are, is the error.
    off = reliability(p, rng.random(5000) < p**2)
    shown = np.nan_to_num(np.abs(off.frequency - off.probability), nan=0.0)
    assert (shown * off.density).mean() == pytest.approx(off.error, abs=2e-3)
    assert off.low is None
    again = reliability(p, hits, resamples=200)
    assert np.array_equal(found.low, again.low, equal_nan=True)
    alone = reliability([1.0], [1])
    assert (alone.error, np.isnan(alone.frequency).all()) == (0.0, True)


@pytest.mark.parametrize(
    ("p", "hits", "message"),
    [
        ([0.5, 1.5], [0, 1], r"in \[0, 1\], got 1.5 at row 1"),
        ([0.5, math.nan], [0, 1], "got nan at row 1"),
        ([0.5], [0, 1], "a hit or miss for each"),
        ([[0.5]], [[1]], "a hit or miss for each"),
    ],
)
def test_what_is_no_probability(p: list[float], hits: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smooth_ece(p, hits)
    with pytest.raises(ValueError, match="at least one row"):
        reliability([], [])


# -- intervals ------------------------------------------------------------------


def test_resamples() -> None:
    drawn = np.concatenate(list(resamples(7, 5000, 1)))
    assert drawn.shape == (5000, 7)
    assert set(drawn.sum(axis=1)) == {7.0}
    # Each is binomial: 7 draws, one in seven.
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    assert drawn.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.08)
    assert np.array_equal(drawn, np.concatenate(list(resamples(7, 5000, 1))))
    assert not np.array_equal(drawn, np.concatenate(list(resamples(7, 5000, 2))))
    assert len(list(resamples(1 << 18, 3))) == 3
    assert list(resamples(3, 0)) == []


def test_quantiles_are_numbers_of_resamples() -> None:
    low, high = quantiles(np.random.default_rng(0).permutation(1000.0 + np.arange(1000)))
    assert (low, high) == (1025, 1974)
    low, high = quantiles(np.array([[1.0, math.nan, math.inf]] * 5 + [[2.0, 1.0, 1.0]] * 35))
    assert (low[0], high[0], high[2]) == (1.0, 2.0, math.inf)
    assert np.isnan([low[1], high[1]]).all()
    assert distance_interval(0.01, np.linspace(0.02, 0.03, 100), np.zeros(9)) == (
        0.0,
        pytest.approx(0.03, abs=1e-3),
    )


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 10), (929, 1000)])
def test_shares_against_scipy(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert share_interval(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert share_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("slope", [1.0, 0.9])
def test_intervals_of_calibration_errors_hold_the_truth(slope: float) -> None:
    """Also where it is 0, which a plain interval of the bootstrap never holds."""
    rng = np.random.default_rng(5)
    # Hits of probability .6 + slope (p - .6): other probabilities than the interval was chosen by.
    truth = (1 - slope) * 0.15
    held = plain = 0
    for trial in range(40):
        p = np.sort(rng.uniform(0.6, 0.9, 400))
        hits = (rng.random(400) < 0.6 + slope * (p - 0.6)).astype(float)
        bins = Bins(p)
        found = np.concatenate([bins.errors(w, hits)["smooth_ece"] for w in resamples(400, 80, trial)])
        low, high = distance_interval(smooth_ece(p, hits), found, bins.chance(60, trial)["smooth_ece"])
        held += low <= truth <= high
        plain += quantiles(found)[0] <= truth
    assert held >= 33
    assert slope < 1 or plain == 0
