"""Operations on logits: numbers by hand, against naive oracles, decisions, and at the edges.

How precise they are: test_accuracy.py. What arrays they take: test_arrays.py. Losses: test_losses.py.
"""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import logitext as lt
import reference

INF, NAN = math.inf, math.nan
Z = [2.0, 1.0, 0.1]
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
PER_ROW = [lt.logsumexp, lt.entropy, lt.energy, lt.margin, lt.argmax]
WIDTHS = [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 1000, 1024, 1025, 2500]


def wide(array: Any) -> Any:
    """Give an array as float64, which holds all of them."""
    return np.asarray(array).astype(np.float64)


def same(got: Any, want: Any) -> None:
    """Compare as float64: NumPy does not know that a bfloat16 can be NaN."""
    np.testing.assert_array_equal(wide(got), wide(want))


def test_the_worked_example() -> None:
    exponentials = [math.exp(z) for z in Z]
    assert [round(e, 2) for e in exponentials] == [7.39, 2.72, 1.11]
    assert round(sum(exponentials), 2) == 11.21
    assert lt.softmax(Z).round(2).tolist() == [0.66, 0.24, 0.10]
    np.testing.assert_allclose(lt.softmax(Z), np.array(exponentials) / sum(exponentials), rtol=1e-15)
    assert float(lt.logsumexp(Z)) == pytest.approx(math.log(11.21), abs=5e-4)
    assert lt.log_softmax(Z).round(3).tolist() == [-0.417, -1.417, -2.317]
    assert lt.cross_entropy(Z, 0) == pytest.approx(-math.log(0.66), abs=2e-3)
    assert int(lt.argmax(Z)) == 0
    assert float(lt.margin(Z)) == 1.0
    assert math.exp(lt.margin(Z)) == pytest.approx(exponentials[0] / exponentials[1])
    assert float(lt.energy(Z)) == -float(lt.logsumexp(Z))
    shares = [e / sum(exponentials) for e in exponentials]
    assert float(lt.entropy(Z)) == pytest.approx(-sum(p * math.log(p) for p in shares))
    values, indices = lt.top_k(Z, 2)
    assert (values.tolist(), indices.tolist()) == ([2.0, 1.0], [0, 1])


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    z = np.array([2.0, 1.0, 0.25])  # exact beside 1000
    for constant in (1000.0, -1000.0, 2.0**40):
        np.testing.assert_array_max_ulp(lt.softmax(z + constant), lt.softmax(z), 2)
        np.testing.assert_array_max_ulp(lt.log_softmax(z + constant), lt.log_softmax(z), 2)
        assert float(lt.logsumexp(z + constant)) == pytest.approx(constant + float(lt.logsumexp(z)))
        assert float(lt.entropy(z + constant)) == pytest.approx(float(lt.entropy(z)), rel=1e-15)
        assert float(lt.margin(z + constant)) == 1.0
    assert lt.softmax(np.add(Z, 1000)).round(2).tolist() == [0.66, 0.24, 0.10]


# -- against naive oracles ------------------------------------------------------


@pytest.mark.parametrize("classes", WIDTHS)
@pytest.mark.parametrize("rows", [1, 7, 70])
def test_every_width_against_the_naive_oracles(rows: int, classes: int) -> None:
    z = np.random.default_rng(classes).normal(size=(rows, classes)) * 5
    some = range(rows) if classes < 100 else range(0, rows, 1 + rows // 3)
    for i in some:
        row = z[i].tolist()
        np.testing.assert_allclose(lt.softmax(z)[i], reference.softmax(row), rtol=1e-13)
        np.testing.assert_allclose(lt.log_softmax(z)[i], reference.log_softmax(row), rtol=1e-13, atol=1e-14)
        assert float(lt.logsumexp(z)[i]) == pytest.approx(reference.logsumexp(row), rel=1e-14)
        assert float(lt.entropy(z)[i]) == pytest.approx(reference.entropy(row), rel=1e-13, abs=1e-15)
        assert float(lt.margin(z)[i]) == reference.margin(row)
        assert int(lt.argmax(z)[i]) == reference.ranked(row)[0]
    order = np.random.default_rng(0).permutation(classes)
    np.testing.assert_allclose(lt.softmax(z[:, order]), lt.softmax(z)[:, order], rtol=1e-13)


@settings(max_examples=150, deadline=None)
@given(
    z=arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-80, 80)),
    dtype=st.sampled_from(DTYPES),
    temperature=st.floats(0.05, 20),
)
def test_what_holds_of_any_logits(z: np.ndarray, dtype: Any, temperature: float) -> None:
    z = z.astype(dtype)
    eps = float(ml_dtypes.finfo(dtype).eps)
    p, log_p = lt.softmax(z, temperature=temperature), lt.log_softmax(z, temperature=temperature)
    assert p.dtype == log_p.dtype == dtype
    assert ((p >= 0) & (p <= 1)).all()
    assert (log_p <= 0).all()
    np.testing.assert_allclose(wide(p).sum(axis=1), 1, rtol=8 * eps)  # test_accuracy.py holds it to 2
    # Rounding never turns the order round.
    order = np.argsort(wide(z), axis=1, kind="stable")
    for x in (p, log_p):
        assert (np.diff(wide(np.take_along_axis(x, order, axis=1)), axis=1) >= 0).all()
    classes, peak = z.shape[1], wide(z).max(axis=1) / temperature
    lse = wide(lt.logsumexp(z, temperature=temperature))
    slack = 2 * eps * (1 + np.abs(peak))
    assert (lse >= peak - slack).all()
    assert (lse <= peak + math.log(classes) + slack).all()
    spread = wide(lt.entropy(z, temperature=temperature))
    assert (spread >= 0).all()
    assert (spread <= math.log(classes) * (1 + 2 * eps)).all()
    # Each is within 2 units of the larger of both.
    energy = wide(lt.energy(z, temperature=temperature))
    size = np.maximum(np.abs(peak), np.abs(lse)) * temperature
    least = float(ml_dtypes.finfo(dtype).smallest_subnormal) * (1 + temperature)
    assert (np.abs(energy + lse * temperature) <= 4 * eps * size + least).all()


@settings(max_examples=100, deadline=None)
@given(
    z=arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 70)),
        elements=st.one_of(st.integers(-3, 3), st.sampled_from([INF, -INF, NAN])),
    ),
    dtype=st.sampled_from(DTYPES),
)
def test_margins_and_decisions_of_rows_with_anything_in_them(z: np.ndarray, dtype: Any) -> None:
    z = z.astype(dtype)
    for row, margin, at in zip(wide(z).tolist(), wide(lt.margin(z)), lt.argmax(z), strict=True):
        np.testing.assert_equal(margin, reference.margin(row))
        assert at == reference.ranked(row)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 4, 33, 3000])
def test_a_summary_is_what_each_says_by_itself(classes: int, dtype: Any) -> None:
    rng = np.random.default_rng(classes)
    z = (rng.normal(size=(2, 9, classes)) * 4).astype(dtype)
    z[0, 1], z[0, 2, 0], z[1, 3, -1], z[1, 4, classes // 2] = -INF, INF, NAN, -INF
    y = rng.integers(classes, size=(2, 9))
    for temperature in (1.0, 0.5, 3.0):
        got = lt.summarize(z, temperature=temperature)
        assert got._fields == ("logsumexp", "argmax", "max", "entropy", "loss")
        assert got.loss is None
        same(got.logsumexp, lt.logsumexp(z, temperature=temperature))
        same(got.entropy, lt.entropy(z, temperature=temperature))
        same(got.argmax, lt.argmax(z))
        same(got.max, wide(z).max(axis=-1))
        assert {x.dtype for x in (got.logsumexp, got.max, got.entropy)} == {np.dtype(dtype)}
        # The loss is that of z / T, too.
        loss = lt.summarize(z, y, temperature=temperature).loss
        log_p = lt.log_softmax(wide(z), temperature=temperature)
        with np.errstate(invalid="ignore"):
            want = -np.take_along_axis(log_p, y[..., None], axis=-1)[..., 0]
        info = ml_dtypes.finfo(dtype)
        np.testing.assert_allclose(
            wide(loss), want, rtol=1.01 * float(info.eps), atol=float(info.smallest_subnormal)
        )
    same(lt.summarize(z, y).loss, lt.cross_entropy(z, y, reduction="none"))
    shares = np.full(z.shape, 1 / classes, dtype)
    same(lt.summarize(z, shares).loss, lt.cross_entropy(z, shares, reduction="none"))


def test_a_summary_of_one_row_and_its_messages() -> None:
    got = lt.summarize(Z, 2)
    assert float(got.loss) == pytest.approx(2.317, abs=1e-3)
    assert (got.logsumexp.shape, got.argmax.shape, got.loss.shape) == ((), (), ())
    with pytest.raises(ValueError, match=r"labels must be integers in \[0, 3\), got 3 at row 0"):
        lt.summarize(Z, 3)
    with pytest.raises(ValueError, match="at least one class"):
        lt.summarize(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="labels must be one per row"):
        lt.summarize([Z, Z], [0])


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 40, 2000])
def test_rows_that_are_none_are_nan_alone(dtype: Any, padding: int) -> None:
    """SciPy #23225: a row [1, 1, inf] gives NaN with a warning. Here it is NaN without one (they are
    errors in this suite), in its row alone, and the decision, which needs no softmax, still stands."""
    z = np.array([row + [-INF] * padding for row, _, _ in ROWS], dtype)
    p = np.array([want + [NAN if math.isnan(want[0]) else 0.0] * padding for _, want, _ in ROWS])
    tolerance = {"rtol": 1.01 * float(ml_dtypes.finfo(dtype).eps)}
    np.testing.assert_allclose(wide(lt.softmax(z)), p, **tolerance)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(wide(lt.log_softmax(z)), np.log(p), **tolerance)
    np.testing.assert_allclose(wide(lt.logsumexp(z)), [lse for *_, lse in ROWS], **tolerance)
    np.testing.assert_allclose(wide(lt.energy(z)), [-lse for *_, lse in ROWS], **tolerance)
    entropies = [reference.entropy(row) for row in wide(z).tolist()]
    np.testing.assert_allclose(wide(lt.entropy(z)), entropies, **tolerance)
    np.testing.assert_array_equal(wide(lt.margin(z)), [0, INF, NAN, NAN, NAN, NAN, NAN, 0])
    assert lt.argmax(z).tolist() == [0, 2, 0, 0, 0, 0, 1, 0]
    losses = wide(lt.cross_entropy(z, [1] * len(ROWS), reduction="none"))
    assert losses[0] == losses[1] == INF  # the true class is masked
    assert np.isnan(losses[2:7]).all()
    np.testing.assert_allclose(losses[7], math.log(3), **tolerance)


@pytest.mark.parametrize("at", [0, 31, 33, 1023, 1024, 2999])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_one_bad_logit_is_found_wherever_it_stands(at: int, bad: float) -> None:
    z = np.full((3, 3000), -INF, np.float32)
    z[:, ::7] = 1.0
    z[1, at] = bad
    for got in (lt.softmax(z), lt.log_softmax(z), lt.logsumexp(z), lt.entropy(z), lt.margin(z)):
        assert np.isnan(got[1]).all()
        assert not np.isnan(got[[0, 2]]).any()
    assert lt.argmax(z)[1] == lt.top_k(z, 5)[1][1, 0] == lt.summarize(z).argmax[1] == at
    # Beside nothing but -inf, too.
    z[:] = -INF
    z[1, at] = bad
    assert np.isnan(lt.logsumexp(z)).all()
    assert lt.argmax(z).tolist() == [0, at, 0]


def test_scipy_23225_huge_but_finite_logits_are_no_infinities() -> None:
    """SciPy #23225 asks where too large is: nowhere below infinity."""
    assert lt.softmax([1.0, 1.0, 1e100]).tolist() == [0.0, 0.0, 1.0]
    top = np.finfo(np.float32).max
    for z in (np.float32([top, top, -top]), np.array([1e308, 1e308, -1e308])):
        assert lt.softmax(z).tolist() == [0.5, 0.5, 0.0]
        assert lt.logsumexp(z) == z[0]
        np.testing.assert_allclose(lt.log_softmax(z)[:2], -math.log(2), rtol=1e-7)
        np.testing.assert_allclose(lt.entropy(z), math.log(2), rtol=1e-7)
        assert lt.margin(z) == 0


# -- where others went wrong ----------------------------------------------------


def test_scipy_19521_the_log_probability_of_a_sure_class_is_not_rounded_to_0() -> None:
    """SciPy #19521 and PyTorch #113708: log_softmax is -0 where the top leads by more than 17 (float32)
    or 37 (float64), and the loss of a right answer with it."""
    for dtype, leads in (
        (np.float32, [16.0, 16.9424, 17.0, 20.0, 50.0, 87.0]),
        (np.float64, [36.0, 40.0, 700.0]),
    ):
        for lead in leads:
            z = np.array([lead, 0.0], dtype)
            want = -math.log1p(math.exp(-float(z[0])))
            rtol = 4 * float(np.finfo(dtype).eps)
            assert float(lt.log_softmax(z)[0]) == pytest.approx(want, rel=rtol)
            assert lt.cross_entropy(z, 0) == pytest.approx(-want, rel=rtol)
            assert float(lt.entropy(z)) == pytest.approx(-want * (1 + lead), rel=1e-6)
    # By 100 it is subnormal in float32, and still there.
    assert float(lt.log_softmax(np.float32([100, 0]))[0]) == pytest.approx(-math.exp(-100), abs=2e-45)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e8, 1e30])
@pytest.mark.parametrize("sign", [1, -1])
def test_pytorch_11752_equal_logits_of_any_size_share_evenly(dtype: Any, size: float, sign: int) -> None:
    """PyTorch #11752, #38839 and MLX #4169: the loss of [1e8, 1e8] is 0, as if both classes were sure."""
    z = np.full((1, 2), sign * size, np.float64)
    if size > float(ml_dtypes.finfo(dtype).max):
        pytest.skip("float16 has no such number")
    z = z.astype(dtype)
    assert wide(lt.softmax(z)).tolist() == [[0.5, 0.5]]
    rtol = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(wide(lt.log_softmax(z)), -math.log(2), rtol=rtol)
    np.testing.assert_allclose(wide(lt.entropy(z)), math.log(2), rtol=rtol)
    assert lt.cross_entropy(z, [1]) == pytest.approx(math.log(2), rel=1e-7)
    assert wide(lt.logsumexp(z)) == pytest.approx(wide(z)[0, 0] + math.log(2), rel=rtol)


def test_pytorch_158310_float16_logits_near_minus_20000() -> None:
    """PyTorch #158310: their log_softmax is -inf on the CPU, which does not start from their maximum."""
    z = np.random.default_rng(432).uniform(-20260, -19740, (18, 21, 2)).astype(np.float16)
    got = lt.log_softmax(z)
    assert np.isfinite(got).all()
    want = lt.log_softmax(z.astype(np.float64))
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=2**-11, atol=2**-25)
    assert lt.log_softmax(np.float16([[-20000], [-65504]])).tolist() == [[0], [0]]
    # What is too low for float16 is -inf, as its nearest number is.
    assert lt.log_softmax(np.float16([60000, -60000])).tolist() == [0, -INF]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("classes", [257, 512, 2049, 4096, 65536])
@pytest.mark.parametrize("value", [0.0, 3.0, -17.0])
def test_candle_3727_and_executorch_20090_many_equal_narrow_logits(
    dtype: Any, classes: int, value: float
) -> None:
    """Candle #3727: a sum kept in float16 stops at 2048, and the row sums to 2. ExecuTorch #20090:
    one kept in bfloat16 stops at 256."""
    z = np.full((2, classes), value, dtype)
    p = lt.softmax(z)
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(wide(p), 1 / classes, rtol=eps / 2)
    np.testing.assert_allclose(wide(p).sum(axis=1), 1, rtol=eps / 2)
    np.testing.assert_allclose(wide(lt.logsumexp(z)), value + math.log(classes), rtol=eps)
    np.testing.assert_allclose(wide(lt.entropy(z)), math.log(classes), rtol=eps)
    assert lt.cross_entropy(z, [0, 1]) == pytest.approx(math.log(classes), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_text_embeddings_inference_is_shifted_by_the_maximum_not_by_the_largest_size(dtype: Any) -> None:
    """text-embeddings-inference takes the largest absolute value from [-90, 0]: exp(-180) and exp(-90) are
    0 and a subnormal, and the shares are none."""
    z = np.array([-90.0, 0.0], dtype)
    p, lse = wide(lt.softmax(z)), float(lt.logsumexp(z))
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert p[1] == 1.0
    assert p[0] == pytest.approx(math.exp(-90), rel=eps, abs=tiny)
    assert lse == pytest.approx(math.exp(-90), rel=eps, abs=tiny)
    assert wide(lt.log_softmax(z)).tolist() == [-90.0, -lse]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch_3240_one_class_is_sure(dtype: Any) -> None:
    """PyTorch #3240: log_softmax of a single logit is -inf."""
    z = np.array([[0.7], [88.75], [-3e4], [0.0]], dtype)
    assert wide(lt.softmax(z)).tolist() == [[1.0]] * 4
    assert wide(lt.log_softmax(z)).tolist() == [[0.0]] * 4
    np.testing.assert_array_equal(lt.logsumexp(z), z[:, 0])
    assert wide(lt.entropy(z)).tolist() == [0.0] * 4
    assert wide(lt.margin(z)).tolist() == [INF] * 4
    assert lt.argmax(z).tolist() == [0] * 4
    loss, slope = lt.cross_entropy(z, [0] * 4, return_grad=True)
    assert loss == 0.0
    assert wide(slope).tolist() == [[0.0]] * 4


def test_scipy_20399_no_classes_and_no_rows() -> None:
    """SciPy #20399: logsumexp of nothing raises; the logarithm of an empty sum is -inf."""
    assert float(lt.logsumexp([])) == -INF
    assert float(lt.energy([])) == INF
    for shape in ((0,), (2, 0), (0, 0), (3, 2, 0)):
        for dtype in DTYPES:
            z = np.zeros(shape, dtype)
            assert lt.logsumexp(z).shape == shape[:-1]
            assert (wide(lt.logsumexp(z)) == -INF).all()
            assert lt.logsumexp(z).dtype == dtype
            assert lt.softmax(z).shape == lt.log_softmax(z).shape == shape
            for function in (lt.argmax, lt.margin, lt.entropy, lt.summarize):
                with pytest.raises(ValueError, match="at least one class, got logits of shape"):
                    function(z)
            with pytest.raises(ValueError, match="k must be in"):
                lt.top_k(z, 1)
    for shape in ((0, 3), (2, 0, 4), (0, 40), (0, 2, 3000)):
        for dtype in DTYPES:
            z = np.zeros(shape, dtype)
            for per_row in PER_ROW:
                assert per_row(z).shape == shape[:-1]
            assert lt.softmax(z).shape == shape
            assert lt.summarize(z, np.zeros(shape[:-1], int)).loss.shape == shape[:-1]
            assert lt.top_k(z, 2)[1].shape == (*shape[:-1], 2)


def test_a_single_number_has_no_classes() -> None:
    for function in (lt.softmax, lt.log_softmax, lt.sigmoid, *PER_ROW, lt.summarize):
        for z in (1.0, 1, np.float32(1), np.array(1.0)):
            with pytest.raises(ValueError, match="class"):
                function(z)
    with pytest.raises(ValueError, match="class"):
        lt.top_k(1.0, 1)


@pytest.mark.parametrize("shape", [(3,), (1,), (4, 3), (2, 3, 4), (2, 1, 3, 33), (1, 1, 1)])
def test_shapes(shape: tuple[int, ...]) -> None:
    z = np.random.default_rng(0).normal(size=shape)
    for per_row in PER_ROW:
        flat = per_row(z.reshape(-1, shape[-1]))
        assert per_row(z).shape == shape[:-1]
        assert np.array_equal(flat, per_row(z).reshape(-1))
    for per_logit in (lt.softmax, lt.log_softmax, lt.sigmoid):
        assert np.array_equal(per_logit(z.reshape(-1, shape[-1])), per_logit(z).reshape(-1, shape[-1]))
        assert per_logit(z).shape == shape
    for got in lt.top_k(z, 1):
        assert got.shape == (*shape[:-1], 1)


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
    assert float(lt.energy(Z, temperature=2.0)) == pytest.approx(-2 * reference.logsumexp([1.0, 0.5, 0.05]))
    assert float(lt.entropy(Z, temperature=2.0)) == pytest.approx(reference.entropy([1.0, 0.5, 0.05]))


@pytest.mark.parametrize("dtype", [*DTYPES, np.int64])
@pytest.mark.parametrize("temperature", [1e-100, 1e-60, 1e-20, 1e-12, 1e12, 1e20, 1e60, 1e100])
def test_temperatures_of_any_size(temperature: float, dtype: Any) -> None:
    z = np.array([[2, 1, 1], [4, 4, 0], [-1, 3, 3]], dtype)
    gives = np.float64 if dtype == np.int64 else dtype
    cold = temperature < 1
    p = lt.softmax(z, temperature=temperature)
    assert p.dtype == gives
    want = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]) if cold else np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(wide(p), want, rtol=1e-7 if gives == np.float64 else 4e-3)
    spread = lt.entropy(z, temperature=temperature)
    np.testing.assert_allclose(
        wide(spread), np.log([1, 2, 2]) if cold else np.log([3, 3, 3]), rtol=4e-3, atol=1e-300
    )
    got = lt.summarize(z, [0, 1, 2], temperature=temperature)
    assert got.argmax.tolist() == [0, 0, 1]
    # The largest logit is one of those given, whatever the temperature.
    assert wide(got.max).tolist() == [2, 4, 3]
    assert got.max.dtype == gives
    np.testing.assert_allclose(
        wide(got.loss), np.log([1, 2, 2]) if cold else np.log([3, 3, 3]), rtol=4e-3, atol=1e-300
    )
    masked = lt.softmax(np.array([1.0, -INF, 1.0]), temperature=temperature)
    assert masked.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.0])
def test_energy_keeps_the_dtype_and_the_unit_of_the_logits(dtype: Any, temperature: float) -> None:
    z = np.array([[2.0, 1.0, 0.5], [0.0, 0.0, 0.0]], dtype)
    got = lt.energy(z, temperature=temperature)
    assert got.dtype == dtype
    want = [-temperature * reference.logsumexp([v / temperature for v in row]) for row in wide(z).tolist()]
    np.testing.assert_allclose(wide(got), want, rtol=2 * float(ml_dtypes.finfo(dtype).eps))
    one = lt.energy(z[0], temperature=temperature)
    assert (np.asarray(one).dtype, np.shape(one)) == (np.dtype(dtype), ())


def test_an_energy_that_is_in_range_does_not_overflow_on_the_way() -> None:
    assert float(lt.energy(np.float16([6e4, 0]), temperature=0.5)) == -6e4
    assert float(lt.energy(np.float32([1e38, 0]), temperature=0.1)) == pytest.approx(-1e38, rel=1e-6)
    for dtype in (np.float16, np.float32, np.float64):
        assert float(lt.energy(np.array([1, 2], dtype), temperature=1e-60)) == pytest.approx(-2)


@pytest.mark.parametrize("temperature", [0, -1, NAN, -INF, INF, 1e-101, 1e101])
@pytest.mark.parametrize(
    "function", [lt.softmax, lt.log_softmax, lt.logsumexp, lt.entropy, lt.energy, lt.summarize]
)
def test_temperatures_that_are_none(function: Any, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        function(Z, temperature=temperature)


# -- decisions ------------------------------------------------------------------


def test_ties_go_to_the_lowest_index() -> None:
    assert lt.argmax([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-INF, -INF, -INF]]).tolist() == [1, 0, 0]
    assert lt.argmax([[-0.0, 0.0], [0.0, -0.0]]).tolist() == [0, 0]
    values, indices = lt.top_k([[1.0, 3.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]], 3)
    assert indices.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert values.tolist() == [[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("classes", [2, 33, 1025, 5000])
def test_of_many_equal_logits_the_first_are_taken(classes: int) -> None:
    for value in (0.0, -INF, INF, NAN):
        z = np.full((70, classes), value, np.float32)
        assert (lt.argmax(z) == 0).all()
        k = min(classes, 300)
        assert (lt.top_k(z, k)[1] == np.arange(k)).all()
    # Two equal leaders, wherever they stand.
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = sorted(rng.choice(classes, 2, replace=False))
        z = rng.normal(size=(1, classes)).astype(np.float32)
        z[0, [a, b]] = 9
        assert lt.argmax(z)[0] == lt.summarize(z).argmax[0] == a
        assert lt.top_k(z, 2)[1].tolist() == [[a, b]]
        assert lt.margin(z)[0] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", WIDTHS)
def test_the_k_largest_of_every_width(classes: int, dtype: Any) -> None:
    rng = np.random.default_rng(classes)
    z = rng.integers(-9, 9, (5, classes)).astype(dtype)  # many ties
    z[1] = np.sort(z[1])
    z[2] = np.sort(z[2])[::-1]
    z[3, rng.integers(classes)] = NAN
    z[4] = np.where(rng.random(classes) < 0.5, -INF, wide(z[4])).astype(dtype)
    for k in {1, min(2, classes), min(10, classes), (classes + 1) // 2, classes}:
        values, indices = lt.top_k(z, k)
        assert (values.dtype, indices.dtype) == (np.dtype(dtype), np.dtype(np.int64))
        for row, at in zip(wide(z).tolist(), indices.tolist(), strict=True):
            assert at == reference.ranked(row)[:k]
        same(values, np.take_along_axis(wide(z), indices, axis=1))


@settings(max_examples=200, deadline=None)
@given(
    z=arrays(np.int16, (3, 6), elements=st.integers(-3, 3)),
    dtype=st.sampled_from([np.int8, np.uint8, np.int64, np.uint64, *DTYPES, bool]),
    k=st.integers(1, 6),
)
def test_top_k_agrees_with_a_sort(z: np.ndarray, dtype: Any, k: int) -> None:
    z = z.astype(dtype)
    values, indices = lt.top_k(z, k)
    assert values.dtype == dtype
    for row, got, at in zip(z.tolist(), values.tolist(), indices.tolist(), strict=True):
        want = sorted(range(6), key=lambda i: (-row[i], i))[:k]
        assert at == want
        assert got == [row[i] for i in want]
    assert indices[:, 0].tolist() == lt.argmax(z).tolist()


def test_large_integers_are_not_rounded_before_they_are_compared() -> None:
    for z in (np.array([2**53, 2**53 + 1, 2**53 + 1]), np.array([2**64 - 2, 2**64 - 1, 0], np.uint64)):
        assert int(lt.argmax(z)) == 1
        values, indices = lt.top_k(z, 2)
        assert (values.tolist(), indices.tolist()) == (z[indices].tolist(), indices.tolist())
        assert int(indices[0]) == 1


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(
        ValueError, match=rf"k must be in \[1, n_classes\], got {k} for logits of shape \(3,\)"
    ):
        lt.top_k(Z, k)


@pytest.mark.parametrize("z", [[["a"]], [[1j]], [[None]], np.array([["2020"]], "M8")])
def test_what_is_no_number(z: Any) -> None:
    for function in (lt.softmax, lt.argmax, lt.logsumexp, lt.margin, lt.sigmoid, lt.summarize):
        with pytest.raises(ValueError, match="logits must be real numbers"):
            function(z)
    with pytest.raises(ValueError, match="logits must be real numbers"):
        lt.top_k(z, 1)


def test_everything_is_exported() -> None:
    names = "softmax log_softmax logsumexp entropy energy margin argmax top_k summarize"
    assert {*names.split(), "cross_entropy", "binary_cross_entropy", "sigmoid"} <= set(lt.__all__)
