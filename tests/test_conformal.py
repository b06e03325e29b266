"""Conformal sets: by hand, against naive oracles; the laws of coverage, each with a twin that breaks it."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import logitext as lt
from logitext import checked, conformal
from logitext.checked import as_share
from logitext.clusters import cluster_classes
from logitext.conformity import adaptive, row_numbers

METHODS = ("lac", "aps", "raps")


def drawn(rng: np.random.Generator, n: int, classes: int, spread: float = 3.0) -> tuple[Any, Any]:
    """Logits, and labels drawn from their softmax."""
    z = rng.normal(size=(n, classes)) * spread
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


# -- by hand --------------------------------------------------------------------


def test_nine_rows_by_hand() -> None:
    # True labels of probability .1, .2, ..., .9, in two classes.
    p = np.arange(1, 10) / 10
    sets = lt.ConformalSets().fit(np.log(np.stack([p, 1 - p], axis=1)), np.zeros(9, int))
    row = np.log([[0.35, 0.65]])
    # 3 of 9 true labels are at most as probable as .35, 6 as .65.
    np.testing.assert_allclose(sets.p_values(row), [[4 / 10, 7 / 10]])
    # Coverage .5: of 10 * .5 = 5 the fifth most probable, .5. Coverage .7: the seventh, .3.
    assert sets.predict_set(row, 0.5).tolist() == [[False, True]]
    assert sets.predict_set(row, 0.6).tolist() == [[False, True]]  # the sixth, .4; and p is .4, not above it
    assert sets.predict_set(row, 0.7).tolist() == [[True, True]]
    # Coverage .9: the ninth, .1. Ten rows were needed if 10 * 0.9 were rounded up to 10.
    assert sets.predict_set(np.log([[0.11, 0.89], [0.09, 0.91]]), 0.9).tolist() == [
        [True, True],
        [False, True],
    ]
    with pytest.raises(ValueError, match=r"coverage 0\.95 takes at least 19 calibration rows, there are 9"):
        sets.predict_set(row, 0.95)


def test_empty_sets_and_the_decision() -> None:
    z = np.log([[0.9, 0.06, 0.04]] * 9)
    sets = lt.ConformalSets().fit(z, np.zeros(9, int))
    row = np.log([[0.5, 0.3, 0.2]])
    assert sets.predict_set(row, 0.9).sum() == 0
    assert sets.predict_set(row, 0.9, allow_empty=False).tolist() == [[True, False, False]]


def test_adaptive_by_hand() -> None:
    # What is left beyond each label, in the order of the ranks .6, .3, .1: half of its own, and the later.
    left = adaptive(np.log([[0.3, 0.6, 0.1]]), np.array([0.5]), penalty=0, free_ranks=0)
    np.testing.assert_allclose(left, [[0.1 + 0.15, 0.4 + 0.3, 0.05]])
    left = adaptive(np.log([[0.3, 0.6, 0.1]]), np.array([0.5]), penalty=0.2, free_ranks=1)
    np.testing.assert_allclose(left, [[0.1 + 0.15 - 0.2, 0.4 + 0.3, 0.05 - 0.4]])
    # A sure row: the sums would all be 1.
    left = adaptive(np.array([[0.0, -50.0, -60.0]]), np.array([1.0]), penalty=0, free_ranks=0)
    np.testing.assert_allclose(left[0, :2], [math.exp(-50) + math.exp(-60), math.exp(-60)])


# -- a share is the decimal that is meant ----------------------------------------


def test_minimum_rows() -> None:
    shares = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1 - 0.1, 1 - 0.05, 1 - 0.01, 0.7, np.float32(0.9))
    expected = [1, 4, 9, 19, 99, 999, 9, 19, 99, 3, 9]
    assert [lt.ConformalSets.minimum_rows(share) for share in shares] == expected


@pytest.mark.parametrize("text", ["0.3", "0.55", "0.9", "0.95", "0.99"])
def test_no_rounding_moves_the_quantile(text: str) -> None:
    wrong = 0
    for n in range(lt.ConformalSets.minimum_rows(float(text)), 500):
        exact = math.ceil((n + 1) * Fraction(text))
        assert math.ceil((n + 1) * as_share(float(text), "coverage")) == exact
        assert math.ceil((n + 1) * (1 - as_share(1 - float(text), "coverage"))) == exact
        wrong += math.ceil((n + 1) * float(text)) != exact
    assert (wrong > 0) == (text == "0.55")  # what floats do


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_coverages_that_cannot_be(value: float) -> None:
    sets = lt.ConformalSets().fit([[0.0, 1.0]], [1])
    with pytest.raises(ValueError, match="coverage must be above 0 and below 1, got"):
        sets.predict_set([[0.0, 1.0]], value)
    with pytest.raises(ValueError, match="coverage must be above 0 and below 1, got"):
        lt.ConformalSets.minimum_rows(value)
    assert 0 < as_share(1e-12, "x") < 1
    assert 0 < as_share(1 - 1e-12, "x") < 1


# -- naive oracles ----------------------------------------------------------------


def naive_scores(row: list[float], number: float, method: str, penalty: float, free: int) -> list[float]:
    """Of one row, by the formulas of the papers; -inf of a masked class is an infinite score."""
    top = max(row)
    exps = [math.exp(v - top) for v in row]
    p = [e / math.fsum(exps) for e in exps]
    scores = []
    ranked = sorted(range(len(row)), key=lambda j: (-row[j], j))
    for j in range(len(row)):
        if row[j] == -math.inf:
            scores.append(math.inf)
        elif method == "lac":
            scores.append(1 - p[j])
        else:
            rank = ranked.index(j) + 1
            before = math.fsum(p[k] for k in ranked[: rank - 1])
            late = max(0, rank - free) if method == "raps" else 0
            scores.append(before + number * p[j] + penalty * late)
    return scores


logit = st.one_of(st.integers(-32, 32).map(lambda eighths: eighths / 8), st.just(-math.inf))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.lists(logit, min_size=4, max_size=4)), min_size=1, max_size=25
    ),
    method=st.sampled_from(METHODS),
    coverage=st.sampled_from([0.25, 0.5, 0.6, 0.75, 0.8, 0.9]),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_against_the_naive_oracle(
    rows: list[tuple[int, list[float]]], method: Any, coverage: float, seed: int | None
) -> None:
    z = np.array([row for _, row in rows])
    z[np.isneginf(z).all(axis=1), 0] = 0.0
    y = np.array([label for label, _ in rows])
    half = max(1, len(z) // 2)
    sets = lt.ConformalSets(method=method, seed=seed, penalty=0.05, free_ranks=1).fit(z[:half], y[:half])
    numbers = row_numbers(z, seed).tolist()
    naive = np.array(
        [naive_scores(row, u, method, 0.05, 1) for row, u in zip(z.tolist(), numbers, strict=True)]
    )
    calibration = naive[:half][np.arange(half), y[:half]]
    # Scores that are one by the formula may differ by rounding: those are compared as equal on both sides.
    with np.errstate(invalid="ignore"):
        close = np.abs(naive[:, :, None] - calibration) < 1e-12
    at_least = calibration >= naive[:, :, None]
    low = (at_least & ~close).sum(axis=2)
    high = low + (close & np.isfinite(naive)[:, :, None]).sum(axis=2)
    p = sets.p_values(z)
    count = p * (half + 1) - 1
    masked = np.isneginf(z)
    assert (p[masked] == 0).all()
    assert (np.abs(count - np.round(count)) < 1e-9)[~masked].all()
    count = np.round(count)
    assert ((low <= count) & (count <= high))[~masked].all()
    # In the set just where the p-value, as a fraction, is above 1 - coverage.
    if half < sets.minimum_rows(coverage):
        with pytest.raises(ValueError, match="takes at least"):
            sets.predict_set(z, coverage)
        return
    given = sets.predict_set(z, coverage)
    expected = [
        [
            not masked[i, j]
            and Fraction(int(1 + count[i, j]), half + 1) > 1 - Fraction(str(coverage))
            for j in range(4)
        ]
        for i in range(len(z))
    ]  # fmt: skip
    assert given.tolist() == expected
    # Sets grow with the coverage, and the decision is all that is added.
    assert not (sets.predict_set(z, coverage / 2) & ~given).any()
    with_decision = sets.predict_set(z, coverage, allow_empty=False)
    decision = np.zeros_like(given)
    decision[np.arange(len(z)), lt.argmax(z)] = True
    assert np.array_equal(with_decision, given | decision)


# -- the laws ------------------------------------------------------------------------


def halvings(
    cover: Callable[[Any, Any, Any, Any], int], z: Any, y: Any, n: int, times: int
) -> NDArray[np.int64]:
    """Counts of covered rows over random halvings of the same rows."""
    rng = np.random.default_rng(7)
    counts = []
    for _ in range(times):
        order = rng.permutation(len(y))
        one, other = order[:n], order[n:]
        counts.append(cover(z[one], y[one], z[other], y[other]))
    return np.array(counts)


def law(counts: NDArray[np.int64], n: int, m: int, coverage: str) -> float:
    """P-value of counts under the beta-binomial law (Kolmogorov-Smirnov, discreteness randomised away).

    The k-th smallest of n scores covers j of m others with the probability of an urn, whatever the
    scores, if no two are equal.
    """
    k = math.ceil((n + 1) * Fraction(coverage))
    of = stats.betabinom(m, k, n + 1 - k)
    place = of.cdf(counts - 1) + np.random.default_rng(8).random(len(counts)) * of.pmf(counts)
    return float(stats.kstest(place, "uniform").pvalue)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("coverage", "n"), [("0.9", 19), ("0.8", 400), ("0.95", 400)])
def test_coverage_follows_its_law(method: Any, coverage: str, n: int) -> None:
    z, y = drawn(np.random.default_rng(1), 2 * n, 5)

    def cover(z1: Any, y1: Any, z2: Any, y2: Any) -> int:
        sets = lt.ConformalSets(method=method).fit(z1, y1).predict_set(z2, float(coverage))
        return int(sets[np.arange(len(y2)), y2].sum())

    assert law(halvings(cover, z, y, n, 200), n, n, coverage) > 0.01


def test_the_law_finds_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    n, coverage = 19, "0.9"
    rng = np.random.default_rng(1)
    z, y = drawn(rng, 2 * n, 5)

    def cover(z1: Any, y1: Any, z2: Any, y2: Any) -> int:
        sets = lt.ConformalSets().fit(z1, y1).predict_set(z2, float(coverage))
        return int(sets[np.arange(len(y2)), y2].sum())

    def on_training_rows(z1: Any, y1: Any, z2: Any, y2: Any) -> int:
        # A model that has learned its training rows by heart.
        return cover(z1 + 2 * np.eye(5)[y1], y1, z2, y2)

    assert law(halvings(cover, z, y, n, 200), n, n, coverage) > 0.01
    assert law(halvings(on_training_rows, z, y, n, 200), n, n, coverage) < 1e-6

    def off_by_one(z1: Any, y1: Any, z2: Any, y2: Any) -> int:
        # One place too low among the sorted scores.
        p1 = np.sort(lt.cross_entropy(z1, y1, reduction="none"))
        return int((lt.cross_entropy(z2, y2, reduction="none") <= p1[math.ceil(n * 0.9) - 2]).sum())

    assert law(halvings(off_by_one, z, y, n, 200), n, n, coverage) < 1e-4


def rank(method: Any, z: Any, y: Any, row: Any, truth: int) -> int:
    """Return among how many of the calibration rows the p-value of the truth says that it stands."""
    p = lt.ConformalSets(method=method).fit(z, y).p_values(row)[0, truth]
    return round(p * (len(y) + 1)) - 1


@pytest.mark.parametrize("method", METHODS)
def test_p_values_are_uniform(method: Any) -> None:
    n, draws = 19, 400
    rng = np.random.default_rng(2)
    ranks, broken = [], []
    for _ in range(draws):
        z, y = drawn(rng, n + 1, 3, 1.0)
        z *= 3  # far too sure of itself, which must not matter
        ranks.append(rank(method, z[:n], y[:n], z[n:], y[n]))
        # A model that has learned its training rows by heart.
        broken.append(rank(method, z[:n] + 15 * np.eye(3)[y[:n]], y[:n], z[n:], y[n]))
    # Each of 20 places is as probable: 20 rows in each.
    assert stats.chisquare(np.bincount(ranks, minlength=n + 1)).pvalue > 0.01
    assert stats.chisquare(np.bincount(broken, minlength=n + 1)).pvalue < 1e-6


def test_coverage_of_each_class() -> None:
    # The second class is hard, and has a tenth of the rows.
    rng = np.random.default_rng(3)

    def rows(n: int) -> tuple[Any, Any]:
        y = (rng.random(n) < 0.1).astype(int)
        lead = np.where(y == 0, 3.0, 0.5) + rng.normal(size=n) * 2
        return np.stack([np.where(y == 0, lead, -lead), np.zeros(n)], axis=1), y

    z, y = rows(20_000)
    new, truth = rows(20_000)
    covered = {}
    for by_class in (False, True):
        sets = lt.ConformalSets(by_class=by_class).fit(z, y).predict_set(new, 0.9)
        hits = sets[np.arange(len(truth)), truth]
        covered[by_class] = [float(hits[truth == one].mean()) for one in (0, 1)]
    assert covered[True] == pytest.approx([0.9, 0.9], abs=0.02)
    assert covered[False][1] < 0.8
    assert np.average(covered[False], weights=[0.9, 0.1]) == pytest.approx(0.9, abs=0.01)


# -- clusters -------------------------------------------------------------------------


def test_classes_with_the_same_scores_are_joined() -> None:
    # Forty classes of 40 rows, half of them easy, half hard, and one with two rows; none reaches 200.
    rng = np.random.default_rng(4)
    y = np.concatenate([np.repeat(np.arange(40), 40), [40, 40]])
    conformity = np.where(y % 2 == 0, -0.1, -2.0) * rng.exponential(size=len(y))
    clusters, calibrating = cluster_classes(conformity, y, 42, 200)
    assert len({*clusters[0:40:2].tolist()} & {*clusters[1:40:2].tolist()}) == 0
    # What is rare or not there shares one cluster, and that has enough rows.
    assert clusters[40] == clusters[41]
    sizes = np.bincount(clusters[y[calibrating]])
    assert sizes.min() >= 200
    # Half the rows of the small classes were looked at, none of the others.
    assert calibrating.sum() == 802
    assert calibrating[-2:].all()


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    enough=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_every_cluster_has_enough_rows(counts: list[int], enough: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    clusters, calibrating = cluster_classes(rng.normal(size=len(y)), y, len(counts), enough)
    sizes = np.bincount(clusters[y[calibrating]], minlength=clusters.max() + 1)
    assert len(sizes) == 1 or sizes.min() >= enough
    assert set(clusters.tolist()) == set(range(clusters.max() + 1))
    for one, count in enumerate(counts):
        alone = (clusters == clusters[one]).sum() == 1
        if count >= enough:
            assert calibrating[y == one].all()
        elif len(counts) > 1:
            assert not alone or sizes[clusters[one]] >= enough


def test_clusters_hold_their_promise() -> None:
    # 60 classes of 30 rows: two kinds, of which the hard one would be covered too seldom.
    rng = np.random.default_rng(5)

    def rows(each: int) -> tuple[Any, Any]:
        y = np.repeat(np.arange(60), each)
        lead = np.where(y % 2 == 0, 6.0, 2.0) + rng.normal(size=len(y)) * 2
        order = rng.permutation(len(y))
        z = rng.normal(size=(len(y), 60))
        z[np.arange(len(y)), y] += lead
        return z[order], y[order]

    z, y = rows(30)
    new, truth = rows(300)
    sets = lt.ConformalSets(by_class=True).fit(z, y)
    assert len(sets.offsets_) - 1 >= 2
    hits = sets.predict_set(new, 0.9)[np.arange(len(truth)), truth]
    marginal = lt.ConformalSets().fit(z, y).predict_set(new, 0.9)[np.arange(len(truth)), truth]
    assert hits[truth % 2 == 1].mean() == pytest.approx(0.9, abs=0.04)
    assert marginal[truth % 2 == 1].mean() < 0.85


def test_too_few_rows_in_a_cluster() -> None:
    z, y = drawn(np.random.default_rng(6), 1000, 4, 1.0)
    sets = lt.ConformalSets(by_class=True).fit(z, y)
    with pytest.raises(ValueError, match=r"at least 999 calibration rows of each class .* class_rows=999"):
        sets.predict_set(z, 0.999)
    assert len(lt.ConformalSets(by_class=True, class_rows=999).fit(z, y).offsets_) == 2
    few = lt.ConformalSets(by_class=True).fit(z[:8], y[:8])
    with pytest.raises(ValueError, match="at least 9 calibration rows, there are 8"):
        few.predict_set(z, 0.9)


# -- what a row decides -----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by_class", [False, True])
def test_the_same_row_has_the_same_set(method: Any, by_class: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = drawn(np.random.default_rng(9), 600, 6)
    z = z.astype(np.float32)
    whole = lt.ConformalSets(method=method, by_class=by_class, class_rows=20).fit(z, y)
    sets, p = whole.predict_set(z, 0.8), whole.p_values(z)
    monkeypatch.setattr(checked, "AT_ONCE", 50)
    again = lt.ConformalSets(method=method, by_class=by_class, class_rows=20).fit(z, y)
    assert np.array_equal(again.scores_, whole.scores_)
    assert np.array_equal(again.predict_set(z, 0.8), sets)
    assert np.array_equal(again.p_values(z[::-1]), p[::-1])
    assert np.array_equal(again.predict_set(z[[5]], 0.8), sets[[5]])
    assert np.array_equal(again.predict_set(np.asfortranarray(z), 0.8), sets)


def test_the_numbers_of_rows() -> None:
    z = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    numbers = row_numbers(z, 0)
    assert stats.kstest(numbers, "uniform").pvalue > 0.01
    assert ((numbers > 0) & (numbers < 1)).all()
    assert np.array_equal(row_numbers(z.astype(np.float64), 0), numbers)
    assert abs(np.corrcoef(numbers, row_numbers(z, 1))[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers, z[:, 0])[0, 1]) < 0.03
    assert row_numbers(np.array([[0.0, 1.0]]), 0) == row_numbers(np.array([[-0.0, 1.0]]), 0)
    assert (row_numbers(z[:2], None) == 0).all()
    # Pinned: a model file must give the same sets anywhere, at any time.
    assert row_numbers(np.array([[2.0, 1.0, 0.1]]), 0).tolist() == [PINNED]


PINNED = 0.29550208063681993


def test_without_numbers_the_decision_is_in_every_set() -> None:
    z, y = drawn(np.random.default_rng(10), 4000, 2, 6.0)
    decided = lt.argmax(z[2000:])
    for coverage in (0.5, 0.95, 0.99):
        covered = {}
        for seed in (0, None):
            sets = lt.ConformalSets(method="aps", seed=seed).fit(z[:2000], y[:2000])
            given = sets.predict_set(z[2000:], coverage)
            covered[seed] = given[np.arange(2000), y[2000:]].mean()
            assert given[np.arange(2000), decided].all() == (seed is None)
        assert covered[0] == pytest.approx(coverage, abs=0.03)
        assert covered[None] >= max(coverage - 0.02, (decided == y[2000:]).mean())


def test_near_certain_rows_are_told_apart() -> None:
    # All these probabilities are 1 in float32, and their complements 0.
    lead = np.arange(20, 60, dtype=np.float32)
    z = np.stack([lead, np.zeros_like(lead)], axis=1)
    sets = lt.ConformalSets().fit(z, np.zeros(40, int))
    assert len(np.unique(sets.scores_)) == 40
    assert sets.predict_set(z, 0.5)[:, 0].sum() == math.ceil(41 * 0.5)


# -- masks, edges, what is refused --------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_masked_classes(method: Any) -> None:
    z, y = drawn(np.random.default_rng(11), 200, 4)
    z[:, 3] = -np.inf
    z[:100, 2] = -np.inf
    sets = lt.ConformalSets(method=method).fit(z, y)  # of some rows the true class is masked
    assert np.isneginf(sets.scores_).any()
    for coverage in (0.5, 0.9, 0.99):
        assert not sets.predict_set(z, coverage)[np.isneginf(z)].any()
        assert not sets.predict_set(z, coverage, allow_empty=False)[np.isneginf(z)].any()
    assert (sets.p_values(z)[np.isneginf(z)] == 0).all()
    # With so many masked truths the quantile is the worst there is: all that is not masked is in.
    assert sets.predict_set(z, 0.99)[~np.isneginf(z)].all()


def test_edges() -> None:
    sets = lt.ConformalSets().fit(np.zeros((0, 3)), np.zeros(0, int))
    assert sets.p_values([[1.0, 0.0, 0.0]]).tolist() == [[1.0, 1.0, 1.0]]
    with pytest.raises(ValueError, match="at least 1 calibration rows, there are 0"):
        sets.predict_set([[1.0, 0.0, 0.0]], 0.5)
    one = lt.ConformalSets().fit([[1.0, 0.0, 0.0]], [0])
    assert one.predict_set([[1.0, 0.0, 0.0]], 0.5).tolist() == [[True, False, False]]
    assert one.predict_set(np.zeros((0, 3)), 0.5).shape == (0, 3)
    assert one.p_values(np.zeros((0, 3))).shape == (0, 3)
    single = lt.ConformalSets(method="raps").fit([[1.0]] * 9, [0] * 9)
    assert single.predict_set([[1.0]], 0.9).tolist() == [[True]]  # the row itself
    absent = lt.ConformalSets(by_class=True).fit(np.zeros((30, 50)), np.zeros(30, int))
    assert absent.predict_set(np.zeros((2, 50)), 0.9).all()  # all are equal
    for dtype in (np.float16, np.float32, np.int8):
        z = np.array([[3, 1, 0]] * 9, dtype)
        assert lt.ConformalSets().fit(z, [0] * 9).predict_set(z, 0.9).tolist() == [[True, False, False]] * 9


def test_half_precision_makes_no_ties() -> None:
    z = np.random.default_rng(12).normal(size=(500, 3)).astype(np.float16)
    assert len(np.unique(lt.ConformalSets().fit(z, np.zeros(500, int)).scores_)) > 480


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        ([1.0, 2.0], [0], r"of shape \(n, n_classes\), got \(2,\)"),
        (np.zeros((2, 0)), [0, 0], r"of shape \(n, n_classes\)"),
        ([[1j, 2.0]], [0], "real numbers, got dtype complex128"),
        ([[1.0, 2.0], [math.nan, 0.0]], [0, 0], "masked class: got nan at row 1"),
        ([[1.0, 2.0], [-math.inf, math.inf]], [0, 0], "masked class: got inf at row 1"),
        ([[-math.inf, -math.inf]], [0], "got nothing but -inf at row 0"),
        ([[1.0, 2.0]], [2], r"integers in \[0, 2\), got 2 at row 0"),
        ([[1.0, 2.0]], [-1], r"integers in \[0, 2\), got -1 at row 0"),
        ([[1.0, 2.0]], [0.0], "got dtype float64"),
        ([[1.0, 2.0]], [0, 1], "one per row"),
    ],
)
@pytest.mark.parametrize("make", [lt.ConformalSets, lt.Selective])
def test_what_cannot_be_fitted_on(make: Any, z: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().fit(z, y)


def test_what_cannot_be_predicted() -> None:
    with pytest.raises(ValueError, match="call fit"):
        lt.ConformalSets().predict_set([[1.0]], 0.5)
    sets = lt.ConformalSets().fit([[1.0, 0.0]], [0])
    with pytest.raises(ValueError, match="of 2 classes, as those fitted on, got 3"):
        sets.p_values([[1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="got nan at row 0"):
        sets.predict_set([[math.nan, 0.0]], 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "saps"}, "one of lac, aps, raps, got 'saps'"),
        ({"class_rows": 0}, "class_rows must be at least 1"),
        ({"penalty": -1}, "penalty must be at least 0"),
        ({"penalty": math.nan}, "penalty must be at least 0"),
        ({"free_ranks": -1}, "free_ranks must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.ConformalSets(**arguments)


# -- the state ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by_class", [False, True])
def test_the_state_brings_back_all(method: Any, by_class: bool) -> None:
    z, y = drawn(np.random.default_rng(13), 500, 3)
    sets = lt.ConformalSets(method=method, by_class=by_class).fit(z.astype(np.float32), y)
    settings_, arrays = sets.to_state()
    back = lt.ConformalSets.from_state(json.loads(json.dumps(settings_)), arrays)
    assert repr(back) == repr(sets)
    assert np.array_equal(back.predict_set(z, 0.9), sets.predict_set(z, 0.9))
    assert np.array_equal(back.p_values(z), sets.p_values(z))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", np.zeros(3, np.int64), "scores must be float"),
        ("scores", np.array([1.0, 0.0, 2.0]), "must rise within"),
        ("scores", np.array([math.nan, 0.0, 2.0]), "must rise within"),
        ("scores", np.array([0.0, math.nan, 2.0]), "must rise within"),
        ("scores", np.zeros((3, 1)), "one axis"),
        ("offsets", np.array([0, 3], np.int32), "int64"),
        ("offsets", np.array([0, 2]), "span"),
        ("offsets", np.array([1, 3]), "span"),
        ("offsets", np.array([0, 5, 3]), "rise"),
        ("offsets", np.array([0]), "a cluster"),
        ("clusters", np.array([0, 1], np.int32), "no such cluster"),
        ("clusters", np.array([-1, 0], np.int32), "no such cluster"),
        ("clusters", np.array([0, 0]), "int32"),
        ("clusters", np.zeros(0, np.int32), "a class"),
        ("settings", {"method": "lac", "colour": 1}, "colour"),
        ("settings", {"class_rows": "many"}, "state"),
    ],
)
def test_what_is_no_state(name: str, value: Any, message: str) -> None:
    good = {"scores": np.zeros(3), "offsets": np.array([0, 3]), "clusters": np.zeros(2, np.int32)}
    lt.ConformalSets.from_state({}, good)
    settings_ = value if name == "settings" else {}
    with pytest.raises(ValueError, match=message):
        lt.ConformalSets.from_state(settings_, good | {name: value})
    with pytest.raises(ValueError, match="lacks"):
        lt.ConformalSets.from_state({}, {})


def test_the_methods_named_are_all() -> None:
    assert conformal.METHODS == METHODS
