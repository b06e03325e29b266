"""Thresholds over many scores: by hand, against sorting, within the stated error, and hostile bytes."""

import builtins
import math
import pickle
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from benches.score_sketch import measured
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from logitext.corpus import quantiles
from logitext.corpus.kll import K, _capacity, check
from logitext.corpus.quantiles import ScoreSketch, exact_threshold

Part = NDArray[np.floating[Any]]


def sketch_of(*parts: Any) -> ScoreSketch:
    sketch = ScoreSketch()
    for part in parts:
        sketch.add(part)
    return sketch


def naive(parts: list[Part], share: float) -> tuple[float, int]:
    """Sort all scores; take from the top until the share is reached, and what is equal to the last."""
    scores = sorted((float(x) for part in parts for x in part if not math.isnan(x)), reverse=True)
    threshold = scores[math.ceil(Fraction(str(share)) * len(scores)) - 1]
    return threshold, sum(score >= threshold for score in scores)


# -- exact -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.1, (1.0, 1)),
        (0.3, (0.8, 4)),
        (0.4, (0.8, 4)),
        (0.41, (0.5, 5)),
        (0.9, (-1.0, 9)),
        (1.0, (-2.0, 10)),
    ],
)
def test_by_hand(share: float, expected: tuple[float, int]) -> None:
    scores = [0.8, 0.1, -2.0, 1.0, 0.8, 0.8, 0.5, 0.2, -1.0, 0.3]  # ten: 0.1 is one of them
    assert exact_threshold(lambda: [np.array(scores)], share) == expected
    assert exact_threshold(lambda: [pa.array([*scores, None, math.nan])], share) == expected
    assert sketch_of(scores).threshold_of_top(share) == expected[0]


def test_special_numbers_by_hand() -> None:
    scores = np.array([np.inf, 5e-324, 0.0, -0.0, -5e-324, -np.inf, np.nan])
    for wanted, expected in enumerate(
        [(np.inf, 1), (5e-324, 2), (0.0, 4), (0.0, 4), (-5e-324, 5), (-np.inf, 6)]
    ):
        found = exact_threshold(lambda: [scores], (wanted + 0.5) / 6)
        assert (found, math.copysign(1, found[0])) == (expected, math.copysign(1, expected[0]))


SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0]
FLOATS = {32: [1e-45, -1e-45, 1.17549435e-38], 64: [5e-324, -5e-324, 2.2250738585072014e-308, 1 + 2**-52]}


@st.composite
def parts_of_scores(draw: st.DrawFn) -> list[Part]:
    parts = []
    for width in draw(st.lists(st.sampled_from([32, 64]), min_size=1, max_size=4)):
        dtype = np.float32 if width == 32 else np.float64
        elements = st.floats(width=width) | st.sampled_from(SPECIAL + FLOATS[width])
        parts.append(draw(hnp.arrays(dtype, st.integers(0, 12), elements=elements)))
    return parts


@settings(max_examples=150, deadline=None)
@given(
    parts_of_scores(),
    st.floats(1e-6, 1) | st.sampled_from([0.1, 0.3, 0.5, 0.9, 1 / 3]),
    st.sampled_from([1, 3, 1 << 20]),
)
@example([np.float32([1]), np.array([1 + 2**-52])], 0.5, 1)
def test_against_sorting(parts: list[Part], share: float, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "AT_ONCE", at_once)  # so that few scores take all passes
        if all(np.isnan(part).all() for part in parts):
            with pytest.raises(ValueError, match="there are no scores"):
                exact_threshold(lambda: iter(parts), share)
            return
        expected = naive(parts, share)
        assert exact_threshold(lambda: iter(parts), share) == expected
        sketch = sketch_of(*parts)
        assert sketch.threshold_of_top(share) == expected[0]
        assert sketch.missing == sum(int(np.isnan(part).sum()) for part in parts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_scores_in_few_passes(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.beta(8, 0.3, size=400_000).astype(dtype) for _ in range(8)]
    everything = np.sort(np.concatenate(parts))
    reads = []

    def read() -> Iterator[Part]:
        reads.append(1)
        yield from parts

    for share in (0.001, 0.1, 0.7):
        reads.clear()
        threshold, rows = exact_threshold(read, share)
        assert threshold == everything[-math.ceil(share * len(everything))]
        assert rows == (everything >= threshold).sum()
        assert len(reads) <= (2 if dtype == np.float32 else 4)


def test_equal_scores_are_counted_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantiles, "AT_ONCE", 1000)
    parts = [np.full(5000, 0.75), np.full(5000, 0.25)]
    assert exact_threshold(lambda: parts, 0.01) == (0.75, 5000)
    assert exact_threshold(lambda: parts, 0.51) == (0.25, 10_000)


@pytest.mark.parametrize("share", [0, -0.1, 1.0001, math.nan, math.inf, "0.1", None, True])
def test_shares(share: Any) -> None:
    for call in (
        lambda: exact_threshold(lambda: [np.ones(3)], share),
        lambda: sketch_of([1.0]).threshold_of_top(share),
    ):
        with pytest.raises(ValueError, match=r"a share must be a number above 0 and at most 1, got "):
            call()
    if share != 0:
        with pytest.raises(ValueError, match="a share must be"):
            sketch_of([1.0]).quantile(share)


def test_scores_that_change() -> None:
    parts = iter([np.ones(3, np.float32)])
    with pytest.raises(ValueError, match="not the same each time they are read: 0 where there were 3"):
        exact_threshold(lambda: parts, 0.5)
    growing = iter([[np.ones(3, np.float32)], [np.ones(3, np.float64)]])
    with pytest.raises(ValueError, match="not the same each time they are read: they were float32"):
        exact_threshold(lambda: next(growing), 0.5)


@pytest.mark.parametrize(
    "scores", [["a"], [None, 1.0], np.ones((2, 2)), 1.0, pa.array(["a"]), [True], [1j], b"ab"]
)
def test_what_is_no_score(scores: Any) -> None:
    for call in (lambda: exact_threshold(lambda: [scores], 0.5), lambda: ScoreSketch().add(scores)):
        with pytest.raises(ValueError, match=r"\Ascores must be numbers[^\n]*\Z"):
            call()


def test_containers() -> None:
    for scores in (
        [1, 2, 3], np.array([1, 2, 3], np.uint8), np.array([1, 2, 3], np.float16), pa.array([3, None, 2, 1]),
        pa.chunked_array([[1.0], [2.0, None], [3.0]]), pa.array([1, 2, 3], pa.float16()),
        np.array([1.0, 0, 2, 0, 3])[::2], np.broadcast_to(np.float64(2), 3),
    ):  # fmt: skip
        assert exact_threshold(lambda scores=scores: [scores], 0.6)[0] == 2
        assert sketch_of(scores).quantile(0.5) == 2
    empty = sketch_of(pa.nulls(3), [], np.zeros(0))
    assert (empty.count, empty.missing, empty.rank_error) == (0, 3, 0.0)
    for ask in (empty.quantile, empty.threshold_of_top):
        with pytest.raises(ValueError, match="there are no scores"):
            ask(0.5)


# -- sketched ----------------------------------------------------------------------


def test_quantiles_by_hand() -> None:
    sketch = sketch_of(np.arange(1, 11))
    assert [sketch.quantile(share) for share in (0, 0.1, 0.11, 0.5, 0.7, 1)] == [1, 1, 2, 5, 7, 10]
    assert [sketch.threshold_of_top(share) for share in (0.05, 0.1, 0.11, 0.3, 0.7, 1)] == [
        10,
        10,
        9,
        8,
        4,
        1,
    ]


def test_within_the_stated_error_in_any_merge_order() -> None:
    worst, stated = measured(rows=1_000_000, parts=32, orders=6)
    assert stated == pytest.approx(0.00098, abs=0.00001)
    # 99 of 100 keep it; a fault would miss it by far.
    assert worst < 1.5 * stated


def test_merging_adds_what_is_there() -> None:
    one, other = (
        sketch_of(np.arange(50_000.0), [math.nan]),
        sketch_of(np.arange(50_000.0, 70_000.0), [math.nan]),
    )
    one.merge(other)
    assert (one.count, one.missing, other.count) == (70_000, 2, 20_000)
    one.merge(one)
    assert (one.count, one.missing) == (140_000, 4)
    assert one.quantile(0.5) == pytest.approx(35_000, abs=200)
    one.merge(ScoreSketch())
    empty = ScoreSketch()
    empty.merge(one)
    assert (one.count, empty.count) == (140_000, 140_000)
    assert [empty.quantile(0), empty.quantile(1)] == pytest.approx([0, 69_999], abs=200)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "datasketches":
            raise ImportError(name)
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs datasketches: pip install 'logitext\[corpora\]'"):
        ScoreSketch()
    assert exact_threshold(lambda: [np.ones(1)], 1) == (1.0, 1)


# -- bytes -------------------------------------------------------------------------

SIZES = [0, 1, 2, 5, 3999, 4000, 4001, 20_000, 300_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("asked", [False, True])
def test_back_from_bytes(size: int, asked: bool) -> None:
    sketch = sketch_of(np.random.default_rng(size).normal(size=size), [math.nan] * 3)
    if asked and size:
        sketch.quantile(0.5)  # which sorts what the sketch holds
    data = sketch.to_bytes()
    for back in (ScoreSketch.from_bytes(data), pickle.loads(pickle.dumps(sketch))):
        assert (back.count, back.missing, back.rank_error) == (size, 3, sketch.rank_error)
        assert back.to_bytes() == data
        if size:
            shares = np.linspace(0, 1, 50).tolist()
            assert [back.quantile(share) for share in shares] == [sketch.quantile(share) for share in shares]


def test_of_many_levels_and_merges() -> None:
    rng = np.random.default_rng(0)
    sketch = ScoreSketch()
    for _ in range(34):
        other = sketch_of(rng.normal(size=rng.integers(0, 30_000)))
        sketch.merge(other)
        sketch.merge(sketch)
        check(sketch.to_bytes()[24:])
    assert sketch.count > 1 << 45
    assert abs(sketch.quantile(0.5)) < 0.1


def refused(data: Any) -> bool:
    try:
        sketch = ScoreSketch.from_bytes(data)
    except ValueError as error:
        message = str(error)
    else:
        # What is taken must do what a sketch does, with the library's own checks or none.
        sketch.add(np.arange(9000.0))
        sketch.merge(sketch)
        return math.isnan(sketch.quantile(0.3))
    return message == "these bytes are no sketch of scores, or a damaged one"


@pytest.mark.parametrize("size", SIZES)
def test_damaged_bytes(size: int) -> None:
    rng = np.random.default_rng(1)
    good = sketch_of(rng.normal(size=size)).to_bytes()
    for cut in {0, 1, 15, 16, 23, 24, 31, 32, 40, 43, 50, len(good) // 2, len(good) - 8, len(good) - 1} - {
        len(good)
    }:
        if cut < len(good):
            assert refused(good[:cut])
    assert refused(good + b"\0")
    assert refused(good + bytes(8))
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, min(len(data), 120))] = rng.integers(0, 256)
        refused(bytes(data))  # never an end of the process


@pytest.mark.parametrize("data", [b"", b"logitext scores\0", b"\x80\x04]", "text", None, 3, bytes(1000)])
def test_what_is_no_sketch(data: Any) -> None:
    assert refused(data)


@pytest.mark.parametrize("levels", [1, 2, 3, 20, 48])
def test_bytes_that_add_up_but_never_were_a_sketch(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for share in (0.0, 0.1, 1.0):
        room = _capacity(levels)
        sizes = rng.multinomial(int(room * share), rng.dirichlet(np.full(levels, 0.1)))
        begins = room - sizes.sum() + np.cumsum([0, *sizes[:-1]])
        items = [np.sort(rng.random(size)) for size in sizes]
        count = sum(int(size) << level for level, size in enumerate(sizes))
        head = struct.pack("<BBBBHBBQHBB", 5, 1, 15, 0, K, 8, 0, count, K, levels, 0)
        data = head + begins.astype("<u4").tobytes() + np.concatenate([[0.0, 1.0], *items]).tobytes()
        refused(b"logitext scores\0" + bytes(8) + data)  # never an end of the process


def patched(good: bytes, at: int, form: str, value: Any) -> bytes:
    data = bytearray(good)
    struct.pack_into(form, data, 24 + at, value)
    return bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        lambda good: patched(good, 0, "<B", 2),  # says that it is short
        lambda good: patched(good, 3, "<B", 1),  # empty
        lambda good: patched(good, 3, "<B", 2),  # its first level sorted, which it is not
        lambda good: patched(good, 4, "<H", 8),  # smaller
        lambda good: patched(good, 8, "<Q", 0),  # of no scores
        lambda good: patched(good, 8, "<Q", 1 << 63),  # of many
        lambda good: patched(good, 16, "<H", 65535),
        lambda good: patched(good, 18, "<B", 0),  # of no levels
        lambda good: patched(good, 18, "<B", 255),
        lambda good: patched(good, 20, "<I", 0),  # with items before the first
        lambda good: patched(good, 20, "<I", 1 << 31),
        lambda good: patched(good, 24, "<I", 0),  # a level of less than nothing
        lambda good: patched(good, len(good) - 32, "<d", math.nan),
        lambda good: patched(good, len(good) - 32, "<d", 1e300),  # above the greatest
        lambda good: patched(good, len(good) - 32, "<d", -0.5),  # out of order
    ],
)
def test_bytes_that_do_not_add_up(harm: Callable[[bytes], bytes]) -> None:
    good = sketch_of(np.random.default_rng(3).random(30_000) - 0.5).to_bytes()
    assert not refused(good)
    assert refused(harm(good))
