"""What an array of logits holds, against numbers worked by hand and a naive oracle."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import logitext as lt
import reference
from logitext import description, tallies
from logitext.calibration import fit_temperature

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INF, NAN = math.inf, math.nan


def quantiles(numbers: list[float]) -> dict[str, float]:
    """The first of the sorted numbers that leaves at most so many above it."""
    ordered = sorted(numbers)
    return {
        f"p{percent}": next(
            (x for i, x in enumerate(ordered) if 100 * (i + 1) >= percent * len(ordered)), NAN
        )
        for percent in (10, 50, 90)
    }


def oracle(z: np.ndarray, y: list[int] | None = None, temperature: float = 1.0) -> dict[str, Any]:
    """All of it, one plain Python number after another."""
    classes = z.shape[-1]
    rows = z.reshape(-1, classes).astype(np.float64).tolist()
    finite = [v for row in rows for v in row if math.isfinite(v)]
    mean = math.fsum(finite) / len(finite)
    peaks: list[tuple[float, float, float]] = []
    decided: Counter[int] = Counter()
    truths: Counter[int] = Counter()
    losses: list[float] = []
    hits, unusable, masked_truths = 0, [], []
    for i, row in enumerate(rows):
        if max(row) in (INF, -INF) or any(map(math.isnan, row)):
            unusable.append(i)
            continue
        ordered = [*sorted(row, reverse=True), -INF]
        p = reference.softmax([v / temperature for v in row])
        peaks.append((max(p), -math.fsum(q * math.log(q) for q in p if q), ordered[0] - ordered[1]))
        decided[row.index(max(row))] += 1
        if y is not None:
            truths[y[i]] += 1
            hits += row.index(max(row)) == y[i]
            losses.append(reference.cross_entropy([v / temperature for v in row], y[i]))
            if losses[-1] == INF:
                masked_truths.append(i)
    n = len(peaks)
    probability, entropy, margin = (quantiles(list(numbers)) for numbers in zip(*peaks, strict=True))
    most = max(decided.values())
    found: dict[str, Any] = {
        "shape": z.shape,
        "dtype": str(z.dtype),
        "rows": len(rows),
        "classes": classes,
        "temperature": temperature,
        "lowest": min(finite),
        "highest": max(finite),
        "mean": mean,
        "deviation": math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / len(finite)),
        "masked": sum(v == -INF for row in rows for v in row) / z.size,
        "unusable": len(unusable),
        "first_unusable": unusable[0] if unusable else None,
        "probability": probability,
        "entropy": entropy,
        "entropy_share": {q: v / math.log(classes) for q, v in entropy.items()},
        "margin": margin,
        "decided": len(decided),
        "commonest": min(c for c in decided if decided[c] == most),
        "commonest_share": most / n,
    }
    if y is not None:
        found |= {
            "log_loss": math.fsum(losses) / n,
            "accuracy": hits / n,
            "guessing": -math.fsum(m / n * math.log(m / n) for m in truths.values()),
            "masked_truths": len(masked_truths),
            "first_masked_truth": masked_truths[0] if masked_truths else None,
        }
    return found


def agree(found: lt.Description, expected: dict[str, Any], rel: float = 1e-5) -> None:
    got = asdict(found)
    for name, value in expected.items():
        if isinstance(value, dict | float):
            assert got[name] == pytest.approx(value, rel=rel, abs=rel, nan_ok=True), name
        else:
            assert got[name] == value, name


def some_logits(*shape: int, seed: int = 0) -> np.ndarray:
    """Logits with masked classes, and rows that are not usable."""
    random = np.random.default_rng(seed)
    z = random.normal(0.5, 3, size=shape)
    z[random.random(shape) < 0.1] = -INF
    rows = z.reshape(-1, shape[-1])
    rows[3], rows[7, 1], rows[8, 2] = -INF, INF, NAN
    return z


# Numbers worked by hand


def test_the_founding_example() -> None:
    # exp: 7.389, 2.718, 1.105; their sum is 11.213
    found = lt.describe([2.0, 1.0, 0.1], 0)
    assert (found.shape, found.dtype, found.rows, found.classes) == ((3,), "float64", 1, 3)
    assert (found.lowest, found.highest, found.masked, found.unusable) == (0.1, 2.0, 0, 0)
    assert found.mean == pytest.approx(3.1 / 3)
    assert found.deviation == pytest.approx(math.sqrt((4 + 1 + 0.01) / 3 - (3.1 / 3) ** 2))
    assert found.probability.p10 == found.probability.p90 == pytest.approx(0.659, abs=1e-3)
    assert found.entropy.p50 == pytest.approx(0.847, abs=1e-3)
    assert found.entropy_share.p50 == pytest.approx(0.847 / math.log(3), abs=1e-3)
    assert found.margin.p50 == 1
    assert (found.decided, found.commonest, found.commonest_share) == (1, 0, 1)
    assert (found.accuracy, found.guessing, found.masked_truths) == (1, 0, 0)
    assert found.log_loss == pytest.approx(0.417, abs=1e-3)
    assert found.first_unusable is found.first_masked_truth is None
    assert found.notes == ()


def test_ten_rows() -> None:
    # The first classes lead by 1 to 10; the quantiles are numbers of rows, not means of two.
    found = lt.describe([[float(i), 0.0] for i in range(1, 11)], [0] * 9 + [1])
    assert vars(found.margin) == {"p10": 1, "p50": 5, "p90": 9}
    sigmoid = [1 / (1 + math.exp(-i)) for i in range(1, 11)]
    assert vars(found.probability) == pytest.approx({"p10": sigmoid[0], "p50": sigmoid[4], "p90": sigmoid[8]})
    assert (found.accuracy, found.decided, found.commonest_share) == (0.9, 1, 1)
    losses = [math.log1p(math.exp(-i)) for i in range(1, 10)] + [10 + math.log1p(math.exp(-10))]
    assert found.log_loss == pytest.approx(sum(losses) / 10)
    assert found.guessing == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))


def test_ties_go_to_the_lowest_class() -> None:
    found = lt.describe([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    assert (found.decided, found.commonest, found.commonest_share) == (2, 0, 0.5)


def test_a_temperature_divides_all_but_range_and_margin() -> None:
    z = some_logits(40, 5)
    found, warm = lt.describe(z), lt.describe(z, temperature=2)
    assert (warm.temperature, warm.margin, warm.highest) == (2, found.margin, found.highest)
    assert warm.probability.p50 < found.probability.p50
    agree(warm, oracle(z, temperature=2))


# The oracle


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", ">f4", ">f8", "longdouble"], ids=str
)
@pytest.mark.parametrize("block", [1 << 22, 30])
def test_against_the_oracle(dtype: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", block)
    z = some_logits(200, 7).astype(BFLOAT16 if dtype == "bfloat16" else dtype)
    y = np.random.default_rng(1).integers(0, 7, 200)
    expected = oracle(z, y.tolist())
    assert expected["log_loss"] == INF
    agree(lt.describe(z, y), expected)
    # Without the rows whose truth is masked there is a finite loss.
    keep = z[np.arange(200), y].astype(float) != -INF
    expected = oracle(z[keep], y[keep].tolist(), 0.7)
    assert 0 < expected["log_loss"] < INF
    agree(lt.describe(z[keep], y[keep], temperature=0.7), expected)


@pytest.mark.parametrize("block", [1 << 22, 30, 1])
def test_any_shape_and_strides(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", block)
    z = some_logits(4, 5, 6).astype(np.float32)
    y = np.where(np.isfinite(z), z, -INF).argmin(-1) % 6
    expected = oracle(z, y.reshape(-1).tolist())
    for view in (z, np.asfortranarray(z), z[::-1][::-1], np.moveaxis(np.moveaxis(z, 1, 0).copy(), 0, 1)):
        agree(lt.describe(view, y), expected)
        agree(lt.describe(view, y.reshape(-1)), expected)
        agree(lt.describe(view, np.asfortranarray(y)), expected)
    view = np.broadcast_to(z[:, :, ::2], (2, 4, 5, 3))
    agree(lt.describe(view), oracle(view.copy()))


@pytest.mark.parametrize("shape", [(1,), (9,), (1, 1), (7, 3), (3, 4, 5), (2, 1, 30, 2), (40, 1), (2, 2, 99)])
@pytest.mark.parametrize("most", [1, 7, 30, 1000])
def test_blocks_are_the_rows_in_order(
    shape: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", most)
    monkeypatch.setattr(description, "BLOCK_ROWS", 5)
    for z in (np.arange(math.prod(shape)).reshape(shape), np.arange(math.prod(shape)).reshape(shape[::-1]).T):
        cut = list(description.blocks(z))
        np.testing.assert_array_equal(np.concatenate(cut), z.reshape(-1, shape[-1]))
        assert all(len(block) == 1 or block.size <= most for block in cut)
        assert all(1 <= len(block) <= 5 for block in cut)
        if z.flags.c_contiguous:
            assert all(np.shares_memory(block, z) for block in cut)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z = some_logits(3000, 11).astype(np.float32)
    y = np.where(np.isfinite(z), z, -INF).argmax(1)
    whole = lt.describe(z, y)
    monkeypatch.setattr(description, "BLOCK_LOGITS", 100)
    monkeypatch.setattr(tallies, "_PIECE", 33)
    parts = lt.describe(z, y)
    for name, value in asdict(whole).items():
        if name in ("mean", "deviation", "log_loss"):
            assert getattr(parts, name) == pytest.approx(value, rel=1e-12)
        else:
            assert asdict(parts)[name] == value, name


def test_integers_are_float64() -> None:
    z = np.array([[3, 1, 0], [0, -7, 2]], np.int16)
    y = np.array([0, 1])
    found = lt.describe(z, y)
    assert found.dtype == "int16"
    agree(found, oracle(z, y.tolist()), rel=1e-7)
    assert lt.describe(z > 0).dtype == "bool"


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
def test_half_precision_is_not_rounded_again(dtype: Any) -> None:
    z = np.random.default_rng(0).normal(size=(1000, 50)).astype(dtype)
    y = np.arange(1000) % 50
    narrow, wide = asdict(lt.describe(z, y)), asdict(lt.describe(z.astype(np.float32), y))
    assert narrow.pop("dtype") == str(np.dtype(dtype))
    assert wide.pop("dtype") == "float32"
    assert narrow == wide


def test_a_far_offset_costs_no_precision() -> None:
    z = np.random.default_rng(0).integers(-8, 8, (500, 20)).astype(np.float32)
    y = np.arange(500) % 20
    here, far = lt.describe(z, y), lt.describe(z + 2**18, y)
    assert far.highest == here.highest + 2**18
    assert far.margin == here.margin
    assert far.log_loss == pytest.approx(here.log_loss, rel=1e-8)
    assert vars(far.probability) == pytest.approx(vars(here.probability), rel=1e-6)
    assert far.deviation == pytest.approx(here.deviation, rel=1e-12)


# Odd values


def test_no_row_is_usable() -> None:
    found = lt.describe([[-INF, -INF], [NAN, 1.0], [INF, 0.0]], [0, 1, 0])
    assert (found.unusable, found.first_unusable, found.masked) == (3, 0, 2 / 6)
    assert (found.lowest, found.highest, found.mean) == (0, 1, 0.5)
    assert (found.decided, found.commonest, found.masked_truths) == (0, None, 0)
    for number in (found.log_loss, found.accuracy, found.guessing, found.margin.p50, found.commonest_share):
        assert number is not None
        assert math.isnan(number)
    assert found.best_temperature is None
    assert [note.partition(":")[0] for note in found.notes] == [
        "rows that are all -inf, or hold +inf or NaN, are left out"
    ]
    nothing = lt.describe([[-INF, -INF]])
    assert math.isnan(nothing.lowest)
    assert math.isnan(nothing.deviation)
    assert len(nothing.notes) == 1


def test_one_class() -> None:
    found = lt.describe([[3.0], [-INF], [-2.0]], [0, 0, 0])
    assert (found.unusable, found.decided, found.log_loss, found.accuracy, found.guessing) == (1, 1, 0, 1, 0)
    assert (found.probability.p50, found.entropy.p50, found.margin.p50) == (1, 0, INF)
    assert math.isnan(found.entropy_share.p50)
    assert lt.describe([1.0]).notes == lt.describe([0.0]).notes == ()


def test_the_largest_numbers_raise_no_warning() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        most = float(np.finfo(dtype).max)
        z = np.array([[most, -most], [0, most], [-most, -most]], dtype)
        found = lt.describe(z, [0, 0, 1])
        assert (found.lowest, found.highest, found.decided) == (-most, most, 2)
        assert found.log_loss is not None
        assert found.log_loss == pytest.approx((most + math.log(2)) / 3)
        assert lt.describe(z, [0, 0, 1], temperature=2.0**-16).decided == 2


def test_masked_truths() -> None:
    z = np.array([[0.0, 1.0, -INF], [-INF, 1.0, 0.0], [1.0, 1.0, -INF], [0.0, 0.0, 0.0]])
    found = lt.describe(z, [0, 0, 2, 0])
    assert (found.log_loss, found.masked_truths, found.first_masked_truth) == (INF, 2, 1)
    assert (found.accuracy, found.unusable) == (0.25, 0)
    assert "true class is masked" in found.notes[0]
    assert "row 1," in found.notes[0]


# The best temperature


def test_the_best_temperature_is_that_of_calibration() -> None:
    z = np.array([[4.0, 0.0]] * 400)
    y = [0, 0, 0, 1] * 100
    found = lt.describe(z, y, temperature=3)
    assert found.best_temperature == fit_temperature(z, y) == pytest.approx(3.6, abs=0.05)
    assert found.notes == ()
    # A class that is masked in all rows changes nothing, nor do rows that are not usable.
    wider = np.concatenate([z, np.full((400, 1), -INF)], axis=1)
    assert lt.describe(wider, y).best_temperature == found.best_temperature
    more = np.concatenate([z, [[NAN, 0.0]]])
    assert lt.describe(more, [*y, 0]).best_temperature == found.best_temperature


def test_the_best_temperature_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(0).normal(size=(1000, 4)) * 2
    y = np.arange(1000) % 4
    for block in (1 << 22, 37):
        monkeypatch.setattr(description, "BLOCK_LOGITS", block)
        monkeypatch.setattr(tallies, "FITTED_LOGITS", 800)
        monkeypatch.setattr(tallies, "FITTED_ROWS", 200)
        found = lt.describe(z, y)
        assert found.best_temperature == fit_temperature(z[::5], y[::5])
        assert found.notes == ("the best temperature is that of 200 evenly spaced rows",)
        for name, value in (("FITTED_ROWS", 201), ("FITTED_LOGITS", 3)):
            monkeypatch.setattr(tallies, name, value)
            found = lt.describe(z, y)
            assert found.best_temperature is None
            assert "not sought" in found.notes[0]


# Many rows


def test_quantiles_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(0).normal(size=(50_000, 3))
    whole = lt.describe(z)
    monkeypatch.setattr(tallies, "MOST_KEPT", 20_000)
    found = lt.describe(z)
    assert found == lt.describe(z)
    assert found != whole
    assert "random sample of" in found.notes[0]
    for name in ("probability", "entropy", "margin"):
        assert vars(getattr(found, name)) == pytest.approx(vars(getattr(whole, name)), rel=0.05)
    assert (found.decided, found.mean, found.commonest_share) == (
        whole.decided,
        whole.mean,
        whole.commonest_share,
    )


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", 30)
    told: list[tuple[str, float]] = []
    lt.describe(np.zeros((40, 3)), np.zeros(40, int), progress=lambda what, share: told.append((what, share)))
    assert told == [("describing", i / 4) for i in range(4)] + [("fitting", 1.0)]


# Whether these are logits at all


def test_probabilities_are_noticed() -> None:
    z = some_logits(60, 5)
    assert not any("look like" in note for note in lt.describe(z).notes)
    for dtype in (np.float64, np.float16):
        assert "look like probabilities" in lt.describe(lt.softmax(z).astype(dtype)).notes[-1]
        assert "look like log-probabilities" in lt.describe(lt.log_softmax(z).astype(dtype)).notes[-1]
    mixed = np.where(np.isnan(lt.softmax(z)), 0.5, lt.softmax(z))
    assert lt.describe(mixed).notes == ()
    assert lt.describe([[0.9, 0.1], [1.0, 0.1]]).notes == ()


# Arrays of others


def test_mapped_arrays_and_other_libraries(tmp_path: Path) -> None:
    z = some_logits(50, 6).astype(np.float32)
    y = np.arange(50) % 6
    np.save(tmp_path / "z.npy", z)
    assert repr(lt.describe(np.load(tmp_path / "z.npy", mmap_mode="r"), y)) == repr(lt.describe(z, y))
    strict = pytest.importorskip("array_api_strict")
    assert repr(lt.describe(strict.asarray(z), strict.asarray(y))) == repr(lt.describe(z, y))


# What is refused


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (1.0, "class axis"),
        (np.zeros((3, 0)), r"one class, got logits of shape \(3, 0\)"),
        (np.zeros((0, 3)), r"one row, got logits of shape \(0, 3\)"),
        (np.zeros((2, 0, 3)), "one row"),
        ([], "one class"),
        ([["a", "b"]], "real numbers"),
        ([[1j, 0]], "real numbers"),
        (np.array([[None]]), "real numbers"),
        (np.zeros((2, 2), "V2"), "real numbers"),
        (np.zeros(3, [("a", "f4")]), "real numbers"),
        (np.ma.masked_invalid([[1.0, NAN]]), "masked array"),
    ],
)
def test_what_are_no_logits(z: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lt.describe(z)


@pytest.mark.parametrize("temperature", [0, -1, NAN, INF, 1e-300, 2.0**17])
def test_what_is_no_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be in"):
        lt.describe([[1.0, 2.0]], temperature=temperature)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0, 1], r"one per row: logits \(3, 2\), labels \(2,\)"),
        ([[0, 1, 0]], "one per row"),
        (0, r"one per row: logits \(3, 2\), labels \(\)"),
        (np.zeros((3, 2), int), "one per row"),
        ([0, 2, -1], r"integers in \[0, 2\), got 2 at row 1"),
        ([0, 1, -100], "got -100 at row 2"),
        (np.array([0, 2**64 - 1, 0], np.uint64), f"got {2**64 - 1} at row 1"),
        ([0.0, 1.0, 0.5], "got 0.5 at row 2"),
        ([0.0, NAN, 0.5], "got nan at row 1"),
        ([0.0, 1.0, 1.0], "got dtype float64: see"),
        ([True, False, True], "got dtype bool"),
        (["a", "b", "c"], "got dtype <U1"),
    ],
)
def test_what_are_no_labels(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lt.describe(np.zeros((3, 2)), y)


def test_a_wrong_label_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", 16)
    y = np.zeros((10, 10), np.int8)
    y[7, 3] = 4
    with pytest.raises(ValueError, match=r"in \[0, 4\), got 4 at row 73"):
        lt.describe(np.zeros((10, 10, 4)), y)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "u4", "i8", "u8"])
def test_labels_of_any_width(dtype: str) -> None:
    z = some_logits(60, 300)
    y = np.arange(60, dtype=dtype)
    assert repr(lt.describe(z, y)) == repr(lt.describe(z, y.tolist()))
