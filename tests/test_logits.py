"""Operations on logits: numbers by hand, against higher precision, and at the edges."""

import decimal
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import special

import logitext as lt
import reference

INF, NAN = math.inf, math.nan
Z = [2.0, 1.0, 0.1]


def test_the_worked_example() -> None:
    exponentials = [math.exp(z) for z in Z]
    assert [round(e, 2) for e in exponentials] == [7.39, 2.72, 1.11]
    assert round(sum(exponentials), 2) == 11.21
    assert lt.softmax(Z).round(2).tolist() == [0.66, 0.24, 0.10]
    np.testing.assert_allclose(lt.softmax(Z), np.array(exponentials) / sum(exponentials), rtol=1e-15)
    assert float(lt.logsumexp(Z)) == pytest.approx(math.log(11.21), abs=5e-4)
    assert lt.cross_entropy(Z, 0) == pytest.approx(-math.log(0.66), abs=2e-3)
    assert int(lt.argmax(Z)) == 0


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    z = np.array([2.0, 1.0, 0.25])  # exact beside 1000
    for constant in (1000.0, -1000.0, 2.0**40):
        assert np.array_equal(lt.softmax(z + constant), lt.softmax(z))
        assert np.array_equal(lt.log_softmax(z + constant), lt.log_softmax(z))
        assert float(lt.logsumexp(z + constant)) == pytest.approx(constant + float(lt.logsumexp(z)))
    assert lt.softmax(np.add(Z, 1000)).round(2).tolist() == [0.66, 0.24, 0.10]


# -- against higher precision ---------------------------------------------------


def exact(row: list[float]) -> tuple[list[float], list[float], float]:
    """Give softmax, log-softmax and log-sum-exp with 60 digits."""
    with decimal.localcontext(prec=60):
        z = [decimal.Decimal(v) for v in row]
        lse = max(z) + sum((v - max(z)).exp() for v in z).ln()
        return [float((v - lse).exp()) for v in z], [float(v - lse) for v in z], float(lse)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-800, 800), min_size=1, max_size=40))
def test_float64_is_within_a_few_ulp(row: list[float]) -> None:
    p, log_p, lse = exact(row)
    got = lt.softmax(row)
    # z - a is rounded before exp sees it: its absolute error is the result's relative one.
    ulps = 4 + len(row) / 8 + max(row) - np.array(row)
    assert (np.abs(got - p) <= p * ulps * 2**-52 + 1e-322).all()
    np.testing.assert_allclose(
        lt.log_softmax(row), log_p, rtol=2e-15, atol=1e-15 * max(map(abs, row)) + 1e-320
    )
    assert float(lt.logsumexp(row)) == pytest.approx(lse, rel=1e-15, abs=1e-15 * max(map(abs, row)))
    assert abs(math.fsum(got.tolist()) - 1) < 1e-15 * len(row)
    assert (got <= 1).all()


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.float32, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-80, 80, width=32)
    )
)
def test_float32_against_float64(z: np.ndarray) -> None:
    wide = z.astype(np.float64)
    assert lt.softmax(z).dtype == np.float32
    np.testing.assert_allclose(lt.softmax(z), special.softmax(wide, axis=1), rtol=3e-5, atol=1e-44)
    np.testing.assert_allclose(lt.log_softmax(z), special.log_softmax(wide, axis=1), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(lt.logsumexp(z), special.logsumexp(wide, axis=1), rtol=1e-6, atol=1e-5)
    assert (lt.softmax(z) <= 1).all()


def test_small_probabilities_and_losses_keep_their_digits() -> None:
    # log1p: a loss far below the rounding of 1 is not lost.
    assert lt.cross_entropy([50.0, 0.0], 0) == pytest.approx(math.exp(-50), rel=1e-14)
    assert lt.log_softmax([50.0, 0.0])[0] == pytest.approx(-math.exp(-50), rel=1e-14)
    assert lt.softmax([0.0, -740.0])[1] == pytest.approx(math.exp(-740), rel=1e-2)  # subnormal
    assert lt.softmax(np.float32([0, -100]))[1] == pytest.approx(math.exp(-100), rel=0.1)


@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17, 31, 32, 33, 1000])
def test_every_width_against_the_naive_reference(classes: int) -> None:
    z = np.random.default_rng(classes).normal(size=(7, classes)) * 5
    y = np.arange(7) % classes
    np.testing.assert_allclose(lt.softmax(z), [reference.softmax(row) for row in z.tolist()], rtol=1e-14)
    losses = [reference.cross_entropy(row, int(t)) for row, t in zip(z.tolist(), y, strict=True)]
    np.testing.assert_allclose(lt.cross_entropy(z, y, reduction="none"), losses, rtol=1e-13, atol=1e-14)
    assert lt.cross_entropy(z, y, reduction="sum") == pytest.approx(math.fsum(losses))
    assert lt.cross_entropy(z, y) == pytest.approx(math.fsum(losses) / 7)
    order = np.random.default_rng(0).permutation(classes)
    np.testing.assert_allclose(lt.softmax(z[:, order]), lt.softmax(z)[:, order], rtol=1e-14)


# -- rows that are none ---------------------------------------------------------

ROWS = [
    ([0.0, -INF, 0.0], [0.5, 0.0, 0.5], math.log(2)),
    ([-INF, -INF, 3.0], [0.0, 0.0, 1.0], 3.0),
    ([-INF, -INF, -INF], [NAN, NAN, NAN], NAN),
    ([INF, 0.0, 0.0], [NAN, NAN, NAN], NAN),
    ([INF, INF, -INF], [NAN, NAN, NAN], NAN),
    ([NAN, 0.0, 1.0], [NAN, NAN, NAN], NAN),
    ([1.0, NAN, -INF], [NAN, NAN, NAN], NAN),
    ([1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3], 1 + math.log(3)),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("padding", [0, 40])
def test_rows_that_are_none_are_nan_alone(dtype: Any, padding: int) -> None:
    z = np.array([row + [-INF] * padding for row, _, _ in ROWS], dtype)
    p = np.array([want + [NAN if math.isnan(want[0]) else 0.0] * padding for _, want, _ in ROWS])
    tolerance = {"rtol": 1e-3 if dtype == np.float16 else 1e-6}
    np.testing.assert_allclose(lt.softmax(z), p, **tolerance)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(lt.log_softmax(z), np.log(p), **tolerance)
    np.testing.assert_allclose(lt.logsumexp(z), [lse for *_, lse in ROWS], **tolerance)
    losses = lt.cross_entropy(z, [1] * len(ROWS), reduction="none")
    assert losses[0] == INF  # the true class is masked
    assert np.isnan(losses[2:7]).all()


# -- types and shapes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "gives"),
    [(np.float16, np.float16), (np.float32, np.float32), (np.float64, np.float64),
     (">f4", ">f4"), (">f8", ">f8"),
     (np.longdouble, np.longdouble), (np.int8, np.float64), (np.uint64, np.float64), (bool, np.float64)],
)  # fmt: skip
def test_types(dtype: Any, gives: Any) -> None:
    z = np.array([[1, 0, 1], [0, 0, 1]], dtype)
    for function in (lt.softmax, lt.log_softmax, lt.logsumexp):
        got = function(z)
        assert got.dtype == np.dtype(gives)
        want = getattr(special, function.__name__)(z.astype(np.float64), axis=-1)
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=2e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("z", [[["a"]], [[1j]], [[None]], np.array([["2020"]], "M8")])
def test_what_is_no_number(z: Any) -> None:
    with pytest.raises(ValueError, match="logits must be real numbers"):
        lt.softmax(z)


@pytest.mark.parametrize(
    "shape", [(3,), (1,), (0,), (4, 3), (0, 3), (3, 0), (0, 0), (2, 3, 4), (2, 0, 4), (2, 3, 0)]
)
def test_shapes(shape: tuple[int, ...]) -> None:
    z = np.random.default_rng(0).normal(size=shape)
    assert lt.softmax(z).shape == lt.log_softmax(z).shape == shape
    assert lt.logsumexp(z).shape == shape[:-1]
    if shape[-1] == 0:
        assert (lt.logsumexp(z) == -INF).all()
        with pytest.raises(ValueError, match="at least one class"):
            lt.argmax(z)
        return
    assert lt.argmax(z).shape == shape[:-1]
    np.testing.assert_allclose(lt.softmax(z), special.softmax(z, axis=-1), rtol=1e-14)
    y = np.zeros(shape[:-1], int)
    assert lt.cross_entropy(z, y, reduction="none").shape == shape[:-1]


def test_a_single_number_has_no_classes() -> None:
    for function in (lt.softmax, lt.log_softmax, lt.logsumexp, lt.argmax):
        with pytest.raises(ValueError, match="class"):
            function(1.0)


def test_strides_do_not_matter_and_nothing_is_written_to() -> None:
    z = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    before = z.copy()
    for view in (z[::2], z[:, ::-1], z.T, z[1:5, 2:7], np.asfortranarray(z), np.broadcast_to(z[0], (4, 8))):
        want = lt.softmax(np.ascontiguousarray(view))
        assert np.array_equal(lt.softmax(view), want)
    z.flags.writeable = False
    lt.softmax(z)
    assert np.array_equal(z, before)


# -- temperature ----------------------------------------------------------------


def test_temperature() -> None:
    assert lt.softmax(Z, temperature=2.0).tolist() == lt.softmax(np.divide(Z, 2)).tolist()
    assert lt.log_softmax(Z, temperature=0.5).tolist() == lt.log_softmax(np.multiply(Z, 2)).tolist()
    flat, sharp = lt.softmax(Z, temperature=1e6), lt.softmax(Z, temperature=1e-3)
    np.testing.assert_allclose(flat, 1 / 3, rtol=1e-5)
    assert sharp.tolist() == [1.0, 0.0, 0.0]
    assert lt.softmax(np.float32(Z), temperature=2.0).dtype == np.float32
    masked = lt.softmax([1.0, -INF], temperature=3.0)
    assert masked.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("temperature", [0, -1, NAN, -INF])
def test_temperatures_that_are_none(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        lt.softmax(Z, temperature=temperature)


# -- decisions ------------------------------------------------------------------


def test_ties_go_to_the_lowest_index() -> None:
    assert lt.argmax([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-INF, -INF, -INF]]).tolist() == [1, 0, 0]
    values, indices = lt.top_k([[1.0, 3.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]], 3)
    assert indices.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert values.tolist() == [[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]]


@settings(max_examples=200, deadline=None)
@given(
    z=arrays(np.int16, (3, 6), elements=st.integers(-3, 3)),
    dtype=st.sampled_from([np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float32, np.float64, bool]),
    k=st.integers(1, 6),
)
def test_top_k_agrees_with_a_sort(z: np.ndarray, dtype: Any, k: int) -> None:
    z = z.astype(dtype)
    values, indices = lt.top_k(z, k)
    for row, got, at in zip(z.tolist(), values.tolist(), indices.tolist(), strict=True):
        want = sorted(range(6), key=lambda i: (-row[i], i))[:k]
        assert at == want
        assert got == [row[i] for i in want]
    assert indices[:, 0].tolist() == lt.argmax(z).tolist()


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be in \[1, n_classes\]"):
        lt.top_k(Z, k)


# -- cross-entropy's messages ---------------------------------------------------


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        ([Z, Z], [0, 3], r"integers in \[0, 3\), got 3 at row 1"),
        ([Z, Z], [-1, 0], r"integers in \[0, 3\), got -1 at row 0"),
        ([Z, Z], [0.0, 1.0], "got dtype float64"),
        ([Z, Z], ["a", "b"], "got dtype <U1"),
        ([Z, Z], [True, False], "got dtype bool"),
        ([Z, Z], [0], r"one per row: logits \(2, 3\), labels \(1,\)"),
        ([Z, Z], [[0], [1]], r"labels \(2, 1\)"),
        (Z, [0], r"logits \(3,\), labels \(1,\)"),
        ([[], []], [0, 0], r"in \[0, 0\)"),
    ],
)
def test_labels_that_are_none(z: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.cross_entropy(z, y)


def test_reductions() -> None:
    z, y = [Z, [0.0, 0.0, 0.0]], [0, 2]
    each = lt.cross_entropy(z, y, reduction="none")
    assert each.tolist() == pytest.approx([0.41703, math.log(3)], abs=1e-5)
    assert isinstance(lt.cross_entropy(z, y), float)
    assert lt.cross_entropy(z, y, reduction="sum") == pytest.approx(each.sum())
    assert lt.cross_entropy(z, y) == pytest.approx(each.mean())
    assert math.isnan(lt.cross_entropy(np.zeros((0, 3)), []))
    assert lt.cross_entropy(np.zeros((0, 3)), [], reduction="sum") == 0.0
    assert lt.cross_entropy(Z, np.uint8(1)) == pytest.approx(1.41703, abs=1e-5)
    with pytest.raises(ValueError, match="reduction must be"):
        lt.cross_entropy(z, y, reduction="max")  # type: ignore[arg-type]
