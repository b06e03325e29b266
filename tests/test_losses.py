"""Losses and their gradients: every option and combination against the formula, and at the edges."""

import itertools
import math
import operator
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitext as lt
import reference

INF, NAN = math.inf, math.nan
Z = [2.0, 1.0, 0.1]
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def wide(array: Any) -> Any:
    """Give an array as float64, which holds all of them."""
    return np.asarray(array).astype(np.float64)


def eps(dtype: Any) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def tiny(dtype: Any) -> float:
    return float(ml_dtypes.finfo(dtype).smallest_subnormal)


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def oracle(z: Any, y: Any, reduction: str, **options: Any) -> tuple[Any, np.ndarray]:
    """Give loss and gradient of rows, one by one, by the formula."""
    weights = options.pop("sample_weight", None)
    class_weight = options.pop("class_weight", None)
    if class_weight is not None:
        options["class_weight"] = wide(class_weight).tolist()
    losses, slopes, total = [], [], 0.0
    for i, (row, truth) in enumerate(zip(wide(z).tolist(), np.asarray(y), strict=True)):
        target = int(truth) if np.ndim(truth) == 0 else wide(truth).tolist()
        weight = 1.0 if weights is None else float(weights[i])
        loss, slope, share = reference.loss_of_row(row, target, weight=weight, **options)
        losses.append(loss)
        slopes.append(slope)
        total += share
    if reduction == "none":
        return np.array(losses), np.array(slopes)
    if reduction == "sum":
        return math.fsum(losses), np.array(slopes)
    return math.fsum(losses) / total if total else NAN, np.array(slopes) / (total or 1.0)


def rows(dtype: Any, classes: int, soft: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Give logits and labels: of some rows the truth leads, of some it is far behind."""
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=(9, classes)) * 3).astype(dtype)
    y = rng.integers(classes, size=9)
    z[0, y[0]] += 12
    z[1, y[1]] -= 12
    if not soft:
        return z, y
    shares = rng.dirichlet(np.full(classes, 0.3), 9)
    shares[2] = np.eye(classes)[y[2]]
    shares[3] = 1 / classes
    # In quarters, so that narrow types hold a sum of exactly 1.
    quarters = np.floor(shares * 4)
    quarters[:, 0] += 4 - quarters.sum(axis=1)
    return z, (quarters / 4).astype(dtype)


# -- by hand --------------------------------------------------------------------


def test_the_worked_example() -> None:
    loss, slope = lt.cross_entropy(Z, 0, return_grad=True)
    assert loss == pytest.approx(0.41703, abs=1e-5)
    assert slope.tolist() == pytest.approx([-0.34100, 0.24243, 0.09856], abs=1e-5)
    assert lt.cross_entropy([Z, [0.0] * 3], [0, 2]) == pytest.approx((0.41703 + math.log(3)) / 2, abs=1e-5)
    assert lt.cross_entropy(Z, np.uint8(1)) == pytest.approx(1.41703, abs=1e-5)


def test_the_class_weighted_mean_is_that_of_pytorch() -> None:
    """PyTorch divides by the sum of the weights of the labels, not by the number of rows: exact in fractions,
    because every loss is log 2."""
    z, y, w = np.zeros((5, 2)), [0, 1, 1, 1, 0], [Fraction(3), Fraction(1, 4)]
    total = sum(w[label] for label in y)
    assert total == Fraction(27, 4)
    weights = [float(v) for v in w]
    loss, slope = lt.cross_entropy(z, y, class_weight=weights, return_grad=True)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    want = [[w[label] / total * (Fraction(1, 2) - (c == label)) for c in (0, 1)] for label in y]
    np.testing.assert_allclose(slope, np.array(want, float), rtol=1e-15)
    summed = lt.cross_entropy(z, y, class_weight=weights, reduction="sum")
    assert summed == pytest.approx(float(total) * math.log(2), rel=1e-15)
    # Unequal losses: sum(w loss) / sum(w).
    z, y = [Z, [0.0, 0.0, 0.0], [1.0, -1.0, 3.0]], [0, 2, 1]
    each = [reference.cross_entropy(row, label) for row, label in zip(z, y, strict=True)]
    w3 = [0.5, 2.0, 4.0]
    want_mean = sum(w3[k] * loss for k, loss in zip(y, each, strict=True)) / sum(w3[k] for k in y)
    assert lt.cross_entropy(z, y, class_weight=w3) == pytest.approx(want_mean, rel=1e-14)
    # With smoothing PyTorch divides by the same sum.
    smooth = [
        0.9 * w3[k] * loss
        + 0.1 / 3 * sum(v * (reference.logsumexp(row) - x) for v, x in zip(w3, row, strict=True))
        for k, loss, row in zip(y, each, z, strict=True)
    ]
    got = lt.cross_entropy(z, y, class_weight=w3, label_smoothing=0.1)
    assert got == pytest.approx(sum(smooth) / sum(w3[k] for k in y), rel=1e-14)


def test_reductions() -> None:
    z, y = [Z, [0.0, 0.0, 0.0]], [0, 2]
    each = lt.cross_entropy(z, y, reduction="none")
    assert each.tolist() == pytest.approx([0.41703, math.log(3)], abs=1e-5)
    assert isinstance(lt.cross_entropy(z, y), float)
    assert isinstance(lt.cross_entropy(np.float32(z), y, reduction="sum"), float)
    assert lt.cross_entropy(z, y, reduction="sum") == pytest.approx(each.sum())
    assert lt.cross_entropy(z, y) == pytest.approx(each.mean())
    assert math.isnan(lt.cross_entropy(np.zeros((0, 3)), []))
    assert lt.cross_entropy(np.zeros((0, 3)), [], reduction="sum") == 0.0
    for reduction in ("max", None, "MEAN"):
        with pytest.raises(ValueError, match="reduction must be"):
            lt.cross_entropy(z, y, reduction=reduction)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="reduction must be"):
            lt.binary_cross_entropy(z, z, reduction=reduction)  # type: ignore[arg-type]


# -- every option, every combination --------------------------------------------

OPTIONS: dict[str, tuple[Any, ...]] = {
    "class_weight": (None, "some"),
    "sample_weight": (None, "some"),
    "label_smoothing": (0.0, 0.125, 1.0),
    "z_loss": (0.0, 0.03),
    "ignore_index": (None, -100, 1),
    "reduction": ("mean", "sum", "none"),
}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("classes", [1, 2, 5, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_combination_of_options_against_the_formula(dtype: Any, classes: int, soft: bool) -> None:
    z, y = rows(dtype, classes, soft, seed=classes)
    rng = np.random.default_rng(1)
    class_weight = rng.random(classes) + 0.25
    class_weight[-1] *= classes != 2  # a weight of 0, too
    sample_weight = rng.random(9)
    sample_weight[4] = 0
    before = z.copy()
    for choice in itertools.product(*OPTIONS.values()):
        options = dict(zip(OPTIONS, choice, strict=True))
        options["class_weight"] = class_weight if options["class_weight"] else None
        options["sample_weight"] = sample_weight if options["sample_weight"] else None
        labels = y.copy()
        if options["ignore_index"] == -100 and not soft:
            labels[[5, 6]] = -100
        if options["ignore_index"] == 1 and not soft and classes == 1:
            continue  # label 1 is no class of theirs, and none of them is left out
        want, slopes = oracle(z, labels, **options)
        got, gradient = lt.cross_entropy(z, labels, return_grad=True, **options)
        alone = lt.cross_entropy(z, labels, **options)
        assert bits(alone) == bits(got), options
        assert gradient.dtype == z.dtype
        # What the terms of a loss, and of a slope, are as large as.
        size = 16 * max(1.0, options["z_loss"] * 256)
        rtol = 4 * eps(np.float32 if dtype != np.float64 else dtype)
        if options["reduction"] == "none":
            assert got.dtype == z.dtype
            rtol = max(rtol, eps(dtype))
        np.testing.assert_allclose(wide(got), want, rtol=rtol, atol=rtol * size, err_msg=str(options))
        scale = max(np.abs(slopes).max(), 0.1 if options["reduction"] == "mean" else 1.0)
        np.testing.assert_allclose(
            wide(gradient), slopes, rtol=eps(dtype), atol=scale * rtol + tiny(dtype), err_msg=str(options)
        )
        assert np.array_equal(z, before)


@pytest.mark.parametrize("classes", [7, 40])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_hot_shares_are_class_labels(dtype: Any, classes: int) -> None:
    z, y = rows(dtype, classes, soft=False)
    shares = np.eye(classes, dtype=dtype)[y]
    rng = np.random.default_rng(2)
    for weights, smoothing, z_loss in itertools.product((False, True), (0.0, 0.2), (0.0, 0.01)):
        options: dict[str, Any] = {"label_smoothing": smoothing, "z_loss": z_loss}
        if weights:
            options |= {"class_weight": rng.random(classes), "sample_weight": rng.random(9)}
        for reduction in ("mean", "sum", "none"):
            hard = lt.cross_entropy(z, y, reduction=reduction, return_grad=True, **options)
            soft = lt.cross_entropy(z, shares, reduction=reduction, return_grad=True, **options)
            np.testing.assert_allclose(wide(soft[0]), wide(hard[0]), rtol=2 * eps(dtype))
            np.testing.assert_allclose(
                wide(soft[1]), wide(hard[1]), rtol=8 * eps(dtype), atol=2 * tiny(dtype)
            )


def test_one_hot_shares_of_any_dtype_and_of_whole_numbers() -> None:
    z, y = rows(np.float32, 6, soft=False)
    want = lt.cross_entropy(z, np.eye(6, dtype=np.float32)[y], return_grad=True)
    for dtype in (*DTYPES, np.int8, np.int64, bool):
        got = lt.cross_entropy(z, np.eye(6)[y].astype(dtype), return_grad=True)
        assert got[0] == want[0]
        assert bits(got[1]) == bits(want[1])


def test_a_sure_truth_keeps_its_gradient() -> None:
    """The slope at the truth is -(1 - p), which p - 1 rounds to 0 where the truth leads by 17 (float32)."""
    for dtype, lead in itertools.product((np.float32, np.float64), (10.0, 20.0, 40.0, 80.0)):
        others = math.exp(-lead)
        for truth in (0, [1.0, 0.0, 0.0]):
            z = np.array([lead, 0.0, 0.0], dtype)
            loss, slope = lt.cross_entropy(z, np.array(truth), return_grad=True)
            share = others / (1 + 2 * others)
            np.testing.assert_allclose(loss, math.log1p(2 * others), rtol=4 * eps(dtype))
            np.testing.assert_allclose(
                slope, [-2 * share, share, share], rtol=8 * eps(dtype), err_msg=f"{truth}"
            )


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_is_the_slope_of_the_loss(soft: bool, reduction: Any, smoothing: float) -> None:
    """By finite differences, which know nothing of the formula."""
    z, y = rows(np.float64, 5, soft)
    rng = np.random.default_rng(3)
    options: dict[str, Any] = {
        "class_weight": rng.random(5), "sample_weight": rng.random(9), "label_smoothing": smoothing,
        "z_loss": 0.02, "ignore_index": None if soft else int(y[4]), "reduction": reduction,
    }  # fmt: skip
    _, slope = lt.cross_entropy(z, y, return_grad=True, **options)
    step = 1e-5
    for at in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[at] += step
        down[at] -= step
        rise = lt.cross_entropy(up, y, **options) - lt.cross_entropy(down, y, **options)
        assert rise / (2 * step) == pytest.approx(slope[at], abs=1e-8, rel=1e-6)
    # Pushing all logits alike changes no share: without the penalty on their level a row's slopes cancel.
    options["z_loss"] = 0.0
    _, slope = lt.cross_entropy(z, y, return_grad=True, **options)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(
    z=st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    smoothing=st.floats(0, 1),
    z_loss=st.floats(0, 1),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_any_logits_against_the_formula(
    z: list[list[float]], seed: int, smoothing: float, z_loss: float, reduction: Any
) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "class_weight": rng.random(4), "sample_weight": rng.random(len(z)), "label_smoothing": smoothing,
        "z_loss": z_loss, "reduction": reduction,
    }  # fmt: skip
    for y in (rng.integers(4, size=len(z)), np.eye(4)[rng.integers(4, size=len(z))] / 2 + 0.125):
        want, slopes = oracle(z, y, **options)
        got, slope = lt.cross_entropy(z, y, return_grad=True, **options)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(slope, slopes, rtol=1e-12, atol=1e-13)
        assert np.min(got) >= 0


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 3, 40), (2, 1, 3, 5), (0, 3), (2, 0, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    z, leading, classes = rng.normal(size=shape), shape[:-1], shape[-1]
    y = rng.integers(classes, size=leading)
    weights = rng.random(leading)
    loss, slope = lt.cross_entropy(z, y, sample_weight=weights, reduction="none", return_grad=True)
    assert (np.shape(loss), slope.shape) == (leading, shape)
    flat = lt.cross_entropy(
        z.reshape(-1, classes),
        y.reshape(-1),
        sample_weight=weights.reshape(-1),
        reduction="none",
        return_grad=True,
    )
    assert bits(flat[0]) == bits(loss)
    assert bits(flat[1]) == bits(slope)
    shares = np.eye(classes)[y]
    assert np.shape(lt.cross_entropy(z, shares, reduction="none")) == leading


# -- what a mean is over --------------------------------------------------------


def test_the_mean_over_no_weight_is_nan_and_its_gradient_0() -> None:
    z = np.array([Z, Z])
    for y, options in (
        ([0, 1], {"sample_weight": [0, 0]}),
        ([0, 1], {"class_weight": [0, 0, 1]}),
        ([-1, -1], {"ignore_index": -1}),
    ):
        loss, slope = lt.cross_entropy(z, y, return_grad=True, **options)
        assert math.isnan(loss)
        assert lt.cross_entropy(z, y, reduction="sum", **options) == 0.0
        assert lt.cross_entropy(z, y, reduction="none", **options).tolist() == [0.0, 0.0]
        assert slope.tolist() == [[0.0] * 3] * 2
    loss, slope = lt.cross_entropy(np.zeros((0, 3)), np.zeros(0, int), return_grad=True)
    assert math.isnan(loss)
    assert slope.shape == (0, 3)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("classes", [4, 40])
def test_pytorch_11551_a_row_that_is_left_out_hides_whatever_it_holds(bad: float, classes: int) -> None:
    """PyTorch #11551: ignore_index leaves a row of -inf out of the loss, and puts NaN in its gradient."""
    z = np.random.default_rng(0).normal(size=(4, classes)).astype(np.float32)
    y = np.array([1, 2, 3, 0])
    want, slope = lt.cross_entropy(z[[0, 2, 3]], y[[0, 2, 3]], return_grad=True, z_loss=0.01)
    z[1] = bad
    ignored = y.copy()
    ignored[1] = -100
    for labels, options in ((ignored, {"ignore_index": -100}), (y, {"sample_weight": [1, 0, 1, 1]})):
        got, slopes = lt.cross_entropy(z, labels, return_grad=True, z_loss=0.01, **options)
        assert got == want
        assert slopes[1].tolist() == [0.0] * classes
        assert bits(slopes[[0, 2, 3]]) == bits(slope)
        assert lt.cross_entropy(z, labels, reduction="none", **options)[1] == 0.0


def test_a_label_of_weight_0_says_the_same_of_loss_and_gradient() -> None:
    """0 · NaN: a row that is NaN is NaN in both, or left out of both."""
    z = np.array([[NAN, 1.0], [1.0, 2.0]])
    loss, slope = lt.cross_entropy(z, [0, 1], class_weight=[0, 1], reduction="none", return_grad=True)
    assert np.isnan(loss[0]) == np.isnan(slope[0]).any()
    assert loss[1] == pytest.approx(reference.cross_entropy([1.0, 2.0], 1))


def test_ignore_index_may_be_any_integer() -> None:
    z, y = [Z, Z], [0, 2]
    want = lt.cross_entropy(z, y)
    for index in (-1, 3, 2**31, -(2**63), np.int64(-100), 2**63, 10**30):
        assert lt.cross_entropy(z, y, ignore_index=index) == want
    assert lt.cross_entropy(z, [0, 255], ignore_index=255) == pytest.approx(0.41703, abs=1e-5)
    # Rows of shares have no index.
    assert lt.cross_entropy(z, np.eye(3)[y], ignore_index=0) == want


# -- edges of the logits --------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 40, 3000])
def test_pytorch_31829_a_target_at_minus_infinity(dtype: Any, classes: int) -> None:
    """PyTorch #31829: the gradient of what meets -inf is NaN. Here the loss is +inf, the row's own gradient
    softmax - target, and that of the other rows is what it was."""
    z = np.random.default_rng(0).normal(size=(3, classes)).astype(dtype)
    z[:, 1] = 0
    y = np.array([0, 1, 2])
    _, before = lt.cross_entropy(z, y, return_grad=True)
    z[1, 1] = -INF
    for reduction in ("mean", "sum"):
        loss, slope = lt.cross_entropy(z, y, reduction=reduction, return_grad=True)
        assert loss == INF
        assert not np.isnan(wide(slope)).any()
    _, slope = lt.cross_entropy(z, y, return_grad=True)
    assert bits(slope[[0, 2]]) == bits(before[[0, 2]])
    want = wide(lt.softmax(z))[1]
    want[1] = -1
    np.testing.assert_allclose(wide(slope[1]), want / 3, rtol=2 * eps(dtype), atol=tiny(dtype))
    each = wide(lt.cross_entropy(z, y, reduction="none"))
    assert each[1] == INF
    assert np.isfinite(each[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 40, 2000])
def test_optax_896_no_share_of_a_masked_class_costs_nothing(dtype: Any, padding: int) -> None:
    """optax #896: softmax_cross_entropy([-inf, 0], [0, 1]) is NaN; 0 · log 0 is 0. And optax #1762: so is
    its gradient's part."""
    z = np.array([[-INF, 0.0, 1.0] + [-INF] * padding] * 2, dtype)
    y = np.array([[0.0, 1.0, 0.0] + [0.0] * padding, [0.0, 0.25, 0.75] + [0.0] * padding], dtype)
    loss, slope = lt.cross_entropy(z, y, reduction="none", return_grad=True)
    lse = reference.logsumexp([0.0, 1.0])
    np.testing.assert_allclose(wide(loss), [lse, lse - 0.75], rtol=eps(dtype))
    p = reference.softmax([0.0, 1.0])
    want = np.zeros(z.shape)
    want[:, 1:3] = [[p[0] - 1, p[1]], [p[0] - 0.25, p[1] - 0.75]]
    np.testing.assert_allclose(wide(slope), want, rtol=2 * eps(dtype), atol=eps(np.float32))
    # The classes beside it: as if the masked one did not exist.
    bare = lt.cross_entropy(z[:, 1:3], y[:, 1:3], reduction="none")
    np.testing.assert_allclose(wide(bare), wide(loss), rtol=eps(dtype))
    # A share of what is masked is impossible.
    y[1, :2] = y[1, 1::-1]
    loss, slope = lt.cross_entropy(z, y, reduction="none", return_grad=True)
    assert np.isfinite(wide(loss)[0])
    assert wide(loss)[1] == INF
    assert not np.isnan(wide(slope)).any()


def test_smoothing_and_weights_of_masked_classes() -> None:
    z = np.array([[-INF, 0.0, 1.0]])
    loss, slope = lt.cross_entropy(z, [1], label_smoothing=0.1, return_grad=True)
    assert loss == INF  # the masked class has a share
    assert not np.isnan(slope).any()
    # Unless its weight is 0.
    options: dict[str, Any] = {"label_smoothing": 0.1, "class_weight": [0.0, 1.0, 1.0], "reduction": "none"}
    want, slopes = oracle(z, [1], **options)
    loss, slope = lt.cross_entropy(z, [1], return_grad=True, **options)
    np.testing.assert_allclose(loss, want, rtol=1e-14)
    np.testing.assert_allclose(slope, slopes, rtol=1e-14)
    assert lt.cross_entropy(z, [0], class_weight=[0.0, 1.0, 1.0], reduction="sum") == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_are_none_have_a_loss_and_a_gradient_of_nan_alone(dtype: Any) -> None:
    z = np.array([[0, 1, 2], [-INF] * 3, [INF, 0, 0], [NAN, 0, 0], [0, 0, NAN], [0, 1, 2]], dtype)
    for y in (np.zeros(6, int), np.eye(3, dtype=dtype)[np.zeros(6, int)]):
        loss, slope = lt.cross_entropy(z, y, reduction="none", return_grad=True)
        assert np.isnan(wide(loss)).tolist() == [False, True, True, True, True, False]
        assert np.isnan(wide(slope)).all(axis=1).tolist() == [False, True, True, True, True, False]
        assert np.isnan(wide(slope)).any(axis=1).tolist() == [False, True, True, True, True, False]
        assert math.isnan(lt.cross_entropy(z, y))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("classes", [50_257, 151_936])
def test_label_smoothing_over_a_huge_vocabulary(dtype: Any, classes: int) -> None:
    """A sum over so many classes overflows or stops growing in float16 (largest number 65,504; in bfloat16 no
    sum of ones passes 256), and each share, 0.1 / 151,936, is subnormal there."""
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(2, classes)) * 4).astype(dtype)
    z[1] = 8  # all equal: log K, whatever the target
    y = np.array([3, classes - 1])
    logs = wide(z) - np.log(np.exp(wide(z)).sum(axis=1, keepdims=True))
    want = -0.9 * logs[[0, 1], y] - 0.1 * logs.mean(axis=1)
    each = lt.cross_entropy(z, y, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(wide(each), want, rtol=eps(dtype))
    loss, slope = lt.cross_entropy(z, y, label_smoothing=0.1, reduction="sum", return_grad=True)
    assert loss == pytest.approx(want.sum(), rel=1e-5)
    target = np.full(z.shape, 0.1 / classes)
    target[[0, 1], y] += 0.9
    np.testing.assert_allclose(
        wide(slope), np.exp(logs) - target, rtol=eps(dtype), atol=tiny(dtype) + eps(np.float32) * 1e-3
    )
    assert want[1] == pytest.approx(math.log(classes))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pytorch_11752_huge_logits_have_the_loss_of_their_differences(dtype: Any) -> None:
    """PyTorch #11752: the loss of [1e8, 1e8] is 0."""
    size = 3e4 if dtype == np.float16 else 1e8
    z = np.array([[size, size], [-size, -size], [size, -size], [size, -size]], dtype)
    loss, slope = lt.cross_entropy(z, [1, 0, 0, 1], reduction="none", return_grad=True)
    np.testing.assert_allclose(wide(loss), [math.log(2), math.log(2), 0, 2 * size], rtol=eps(dtype))
    assert wide(slope).tolist() == [[0.5, -0.5], [-0.5, 0.5], [0.0, 0.0], [1.0, -1.0]]


def test_the_gradient_of_tiny_weights_and_huge_batches_does_not_underflow() -> None:
    z = np.zeros((2, 4), np.float32)
    _, slope = lt.cross_entropy(z, [0, 1], sample_weight=[1e-30, 1e-30], reduction="sum", return_grad=True)
    np.testing.assert_allclose(slope[0], [-0.75e-30, 0.25e-30, 0.25e-30, 0.25e-30], rtol=1e-6)
    loss, slope = lt.cross_entropy(z, [0, 1], sample_weight=[1e-300, 1e-300], return_grad=True)
    assert loss == pytest.approx(math.log(4))
    np.testing.assert_allclose(slope[0], [-0.375, 0.125, 0.125, 0.125], rtol=1e-6)
    _, slope = lt.cross_entropy(z, [0, 1], sample_weight=[1e30, 3e30], reduction="sum", return_grad=True)
    np.testing.assert_allclose(slope[1], [0.75e30, -2.25e30, 0.75e30, 0.75e30], rtol=1e-6)


# -- where the gradient is written ----------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (70, 4), (5, 33), (3, 2500), (2, 140_000), (2, 3, 5)])
def test_the_gradient_goes_where_it_is_asked_to(dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=shape) * 3).astype(dtype)
    y = rng.integers(shape[-1], size=shape[:-1])
    shares = np.eye(shape[-1], dtype=dtype)[y] if shape[-1] < 5000 else None
    for truth in (y, shares):
        if truth is None:
            continue
        want = lt.cross_entropy(z, truth, label_smoothing=0.1, return_grad=True)
        out = np.full_like(z, 7)
        got = lt.cross_entropy(z, truth, label_smoothing=0.1, return_grad=True, out=out)
        assert got[1] is out
        assert (got[0], bits(out)) == (want[0], bits(want[1]))
        own = z.copy()
        got = lt.cross_entropy(own, truth, label_smoothing=0.1, return_grad=True, out=own)
        assert got[1] is own
        assert (got[0], bits(own)) == (want[0], bits(want[1]))


def test_bad_labels_leave_the_logits_as_they_were_although_the_gradient_was_to_replace_them() -> None:
    for classes in (3, 40):
        z = np.random.default_rng(0).normal(size=(5, classes))
        before = z.copy()
        for y in ([0, 1, 2, 0, classes], np.full((5, classes), 2.0)):
            with pytest.raises(ValueError, match="label"):
                lt.cross_entropy(z, y, return_grad=True, out=z)
            assert np.array_equal(z, before)
        with pytest.raises(ValueError, match="label"):
            lt.binary_cross_entropy(z, z + 100, return_grad=True, out=z)
        assert np.array_equal(z, before)


def test_out_is_for_the_gradient() -> None:
    z = np.zeros((2, 3))
    for call in (
        lambda out: lt.cross_entropy(z, [0, 1], out=out),
        lambda out: lt.binary_cross_entropy(z, z, out=out),
    ):
        with pytest.raises(ValueError, match="out is for the gradient: it needs return_grad=True"):
            call(np.empty((2, 3)))


# -- messages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        ([Z, Z], [0, 3], r"labels must be integers in \[0, 3\), got 3 at row 1"),
        ([Z, Z], [-1, 0], r"labels must be integers in \[0, 3\), got -1 at row 0"),
        ([Z, Z], [0, 2**62], rf"got {2**62} at row 1"),
        ([Z, Z], np.array([0, 2**64 - 1], np.uint64), rf"got {2**64 - 1} at row 1"),
        ([[Z, Z], [Z, Z]], [[0, 1], [5, 0]], r"got 5 at row 2"),
        ([Z, Z], [0.0, 1.0], "got dtype float64"),
        ([Z, Z], ["a", "b"], "got dtype <U1"),
        ([Z, Z], [True, False], "got dtype bool"),
        ([Z, Z], [0], r"labels must be one per row: logits \(2, 3\), labels \(1,\)"),
        ([Z, Z], [0, 1, 2], r"labels must be one per row: logits \(2, 3\), labels \(3,\)"),
        ([Z, Z], 0, r"labels must be one per row: logits \(2, 3\), labels \(\)"),
        ([Z, Z], [[0], [1]], r"labels \(2, 1\)"),
        ([Z, Z], [[0, 1]], r"labels \(1, 2\)"),
        (Z, [0], r"logits \(3,\), labels \(1,\)"),
        ([[], []], [0, 0], r"in \[0, 0\)"),
    ],
)
def test_labels_that_are_none(z: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.cross_entropy(z, y)
    with pytest.raises(ValueError, match=message):
        lt.summarize(z, y) if np.shape(z)[-1] else lt.cross_entropy(z, y, reduction="sum", return_grad=True)


@pytest.mark.parametrize("classes", [3, 40, 3000])
@pytest.mark.parametrize("rows", [1, 70, 700])
def test_the_first_of_several_bad_labels_is_named(rows: int, classes: int) -> None:
    z = np.zeros((rows, classes), np.float32)
    y = np.zeros(rows, int)
    first = rows // 3
    y[first:] = classes + 5
    y[-1] = -4
    want = int(y[first])
    with pytest.raises(ValueError, match=rf"got {want} at row {first}"):
        lt.cross_entropy(z, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0.5, 0.3, 0.2], [0.5, 0.2, 0.1]], "sum to 1, got a sum of 0.8 at row 1"),
        ([[0.5, 0.5, 0.5], [0.5, 0.3, 0.2]], "sum to 1, got a sum of 1.5 at row 0"),
        ([[0, 0, 0], [1, 0, 0]], "sum to 1, got a sum of 0 at row 0"),
        ([[1.0, 0.0, 0.0], [1.5, -0.5, 0.0]], "at least 0 and sum to 1, got .* at row 1"),
        ([[1.0, 0.0, 0.0], [NAN, 0.5, 0.5]], "at least 0 and sum to 1, got .* at row 1"),
        ([[INF, 0.0, 0.0], [1.0, 0.0, 0.0]], "at least 0 and sum to 1, got .* at row 0"),
        ([["a"] * 3] * 2, "label probabilities must be real numbers, got dtype <U1"),
    ],
)
def test_label_probabilities_that_are_none(y: Any, message: str) -> None:
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match=message):
            lt.cross_entropy(np.array([Z, Z], dtype), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 100, 5000])
def test_label_probabilities_may_be_rounded(dtype: Any, classes: int) -> None:
    """Those of a teacher, each rounded to its type, sum to 1 within that rounding."""
    z = (np.random.default_rng(0).normal(size=(4, classes)) * 3).astype(dtype)
    shares = lt.softmax(z)
    for z_dtype in DTYPES:
        want = reference.entropy(wide(z)[0].tolist())
        got = wide(lt.cross_entropy(z.astype(z_dtype), shares, reduction="none"))[0]
        assert got == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\], got -0.1"),
        ({"label_smoothing": 1.1}, r"label_smoothing must be in \[0, 1\]"),
        ({"label_smoothing": NAN}, r"label_smoothing must be in \[0, 1\]"),
        ({"z_loss": -1.0}, "z_loss must be at least 0 and finite, got -1.0"),
        ({"z_loss": INF}, "z_loss must be"),
        ({"z_loss": NAN}, "z_loss must be"),
        ({"class_weight": [1, 1]}, r"class_weight must be \(3,\) numbers, got int64 of shape \(2,\)"),
        ({"class_weight": [1, -1, 1]}, "class_weight must be finite and at least 0, got -1 at 1"),
        ({"class_weight": [1, 1, NAN]}, "class_weight must be finite and at least 0, got nan at 2"),
        ({"class_weight": [INF, 1, 1]}, "class_weight must be finite and at least 0, got inf at 0"),
        ({"class_weight": ["a", "b", "c"]}, r"class_weight must be \(3,\) numbers"),
        ({"sample_weight": [1, 1, 1]}, r"sample_weight must be \(2,\) numbers"),
        ({"sample_weight": 2.0}, r"sample_weight must be \(2,\) numbers"),
        ({"sample_weight": [1, -1]}, "sample_weight must be finite and at least 0, got -1 at 1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.cross_entropy([Z, Z], [0, 1], **options)


# -- independent labels ---------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (70, 4), (3, 2500), (2, 3, 5), (0, 3), (3, 0)])
def test_sigmoid(dtype: Any, shape: tuple[int, ...]) -> None:
    z = (np.random.default_rng(0).normal(size=shape) * 6).astype(dtype)
    want = 1 / (1 + np.exp(-wide(z)))
    got = lt.sigmoid(z)
    assert (got.dtype, got.shape) == (z.dtype, shape)
    rtol = 4 * eps(np.float32 if dtype != np.float64 else dtype) + eps(dtype)
    np.testing.assert_allclose(wide(got), want, rtol=rtol, atol=tiny(dtype))
    for out in (np.full_like(z, 7), z):
        assert lt.sigmoid(z, out=out) is out
        assert bits(out) == bits(got)


def test_sigmoid_at_the_ends() -> None:
    for dtype in DTYPES:
        z = np.array([-INF, INF, 0.0, -0.0, NAN, 8, -8], dtype)
        got = wide(lt.sigmoid(z))
        assert got[:4].tolist() == [0.0, 1.0, 0.5, 0.5]
        assert np.isnan(got[4])
        # The two sides sum to 1 as far as they are rounded.
        assert got[5] + got[6] == pytest.approx(1, abs=eps(dtype))
    assert lt.sigmoid([-800.0, 800.0, -745.0]).tolist() == [0.0, 1.0, 5e-324]
    assert float(lt.sigmoid(np.float32([-100]))[0]) == pytest.approx(math.exp(-100), abs=2e-45)  # subnormal
    # It is the first of softmax([z, 0]).
    z = np.linspace(-700, 700, 999)
    np.testing.assert_array_max_ulp(lt.sigmoid(z), lt.softmax(np.stack([z, 0 * z], axis=1))[:, 0], 6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (70, 4), (3, 2500), (2, 3, 5)])
def test_binary_cross_entropy_against_the_formula(dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=shape) * 6).astype(dtype)
    for y in (
        rng.random(shape) < 0.5,
        rng.integers(2, size=shape),
        (rng.integers(5, size=shape) / 4).astype(dtype),
    ):
        pairs = list(zip(wide(z).ravel().tolist(), wide(y).ravel().tolist(), strict=True))
        want = np.array(list(itertools.starmap(reference.binary_cross_entropy, pairs))).reshape(shape)
        slopes = 1 / (1 + np.exp(-wide(z))) - wide(y)
        rtol = 4 * eps(np.float32 if dtype != np.float64 else dtype)
        each, slope = lt.binary_cross_entropy(z, y, reduction="none", return_grad=True)
        assert each.dtype == slope.dtype == z.dtype
        np.testing.assert_allclose(wide(each), want, rtol=rtol + eps(dtype), atol=tiny(dtype))
        np.testing.assert_allclose(wide(slope), slopes, rtol=rtol + eps(dtype), atol=rtol)
        for reduction, divisor in (("mean", z.size), ("sum", 1)):
            loss, slope = lt.binary_cross_entropy(z, y, reduction=reduction, return_grad=True)
            assert isinstance(loss, float)
            assert loss == lt.binary_cross_entropy(z, y, reduction=reduction)
            assert loss == pytest.approx(math.fsum(want.ravel()) / divisor, rel=rtol)
            np.testing.assert_allclose(
                wide(slope), slopes / divisor, rtol=rtol + eps(dtype), atol=rtol / divisor + tiny(dtype)
            )
        for out in (np.full_like(z, 7), z.copy()):
            source = out if np.array_equal(wide(out), wide(z)) else z
            got = lt.binary_cross_entropy(source, y, reduction="sum", return_grad=True, out=out)
            assert got[1] is out
            assert (got[0], bits(out)) == (loss, bits(slope))


def test_binary_cross_entropy_is_the_cross_entropy_of_two_classes() -> None:
    z = np.linspace(-50, 50, 101)
    pairs = np.stack([0 * z, z], axis=1)
    for label in (0, 1):
        y = np.full(101, label)
        got = lt.binary_cross_entropy(z, y, reduction="none", return_grad=True)
        want = lt.cross_entropy(pairs, y, reduction="none", return_grad=True)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-15)
        np.testing.assert_allclose(got[1], want[1][:, 1], rtol=1e-14, atol=1e-15)


def test_binary_cross_entropy_by_finite_differences() -> None:
    rng = np.random.default_rng(0)
    z, y, step = rng.normal(size=12) * 4, rng.random(12), 1e-5
    _, slope = lt.binary_cross_entropy(z, y, return_grad=True)
    for i in range(12):
        push = step * (np.arange(12) == i)
        rise = lt.binary_cross_entropy(z + push, y) - lt.binary_cross_entropy(z - push, y)
        assert rise / (2 * step) == pytest.approx(slope[i], abs=1e-9)


def test_binary_cross_entropy_keeps_small_losses() -> None:
    """The naive loss takes the logarithm of 1 - exp(-40), which is 1."""
    for dtype, size in ((np.float32, 40), (np.float32, 87), (np.float64, 40), (np.float64, 700)):
        z = np.array([size, -size], dtype)
        np.testing.assert_allclose(
            lt.binary_cross_entropy(z, [1, 0], reduction="none"), math.exp(-size), rtol=4 * eps(dtype)
        )
        assert lt.binary_cross_entropy(z, [0, 1], reduction="none").tolist() == [size, size]


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_infinite_logits(dtype: Any) -> None:
    """What is impossible and does not hold costs nothing: 0 · ∞ is 0."""
    z = np.array([INF, -INF, INF, -INF, INF, NAN, 0.0], dtype)
    y = np.array([1, 0, 0, 1, 0.5, 1, 0.5])
    loss, slope = lt.binary_cross_entropy(z, y, reduction="none", return_grad=True)
    np.testing.assert_allclose(wide(loss), [0, 0, INF, INF, INF, NAN, math.log(2)], rtol=eps(dtype))
    np.testing.assert_array_equal(wide(slope), [0, 0, 1, -1, 0.5, NAN, 0])


def test_binary_cross_entropy_of_nothing() -> None:
    for shape in ((0,), (0, 3), (3, 0)):
        z = np.zeros(shape)
        assert math.isnan(lt.binary_cross_entropy(z, z))
        loss, slope = lt.binary_cross_entropy(z, z, reduction="sum", return_grad=True)
        assert (loss, slope.shape) == (0.0, shape)
        assert lt.binary_cross_entropy(z, z, reduction="none").shape == shape


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0, 1, 2], [0, 1, 1]], r"labels must be in \[0, 1\], got 2 at \(0, 2\)"),
        ([[0, 1, 1], [0, -0.5, 1]], r"labels must be in \[0, 1\], got -0.5 at \(1, 1\)"),
        ([[0, 1, 1], [0, 1, NAN]], r"labels must be in \[0, 1\], got nan at \(1, 2\)"),
        ([0, 1, 1], r"labels must be one per logit: logits \(2, 3\), labels \(3,\)"),
        ([["a"] * 3] * 2, r"labels must be numbers in \[0, 1\], got dtype <U1"),
        ([[1j] * 3] * 2, r"labels must be numbers in \[0, 1\], got dtype complex128"),
    ],
)
def test_labels_that_are_no_probabilities(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.binary_cross_entropy([Z, Z], y)


def test_losses_take_what_can_be_an_index() -> None:
    """Labels of any integer type, order and place in memory."""
    z, y = rows(np.float32, 5, soft=False)
    want = lt.cross_entropy(z, y, return_grad=True)
    padded = np.zeros(9 * 8 + 1, np.uint8)
    unaligned = padded[1:].view(np.int64)
    unaligned[:] = y
    doubled = np.repeat(y, 2)
    readonly = y.copy()
    readonly.flags.writeable = False
    for labels in (
        *(y.astype(dtype) for dtype in ("i1", "u1", "i2", "u4", "u8", ">i8", ">i4")),
        y.tolist(), tuple(y.tolist()), unaligned, doubled[::2], y[::-1].copy()[::-1], readonly,
        [operator.index(v) for v in y],
    ):  # fmt: skip
        got = lt.cross_entropy(z, labels, return_grad=True)
        assert (got[0], bits(got[1])) == (want[0], bits(want[1]))
