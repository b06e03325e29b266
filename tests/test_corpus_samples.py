"""Samples stratified by score: by hand, against sorting all rows, in any order and division."""

import datetime
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitext.corpus.samples import Sample, _hashes, _mixed


def splitmix(x: int) -> int:
    """SplitMix64 in plain integers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def naive(
    rows: list[tuple[float, int, int]], k: int, strata: int, seed: int
) -> list[tuple[int, float, int, int]]:
    """Sort all rows of each stratum by hash and take the first."""
    taken = []
    for stratum in range(strata):
        inside = [row for row in rows if min(math.floor(row[0] * strata), strata - 1) == stratum]
        inside.sort(key=lambda row: splitmix(splitmix(splitmix(seed) ^ row[1]) ^ row[2]))
        taken += [(stratum, *row) for row in sorted(inside[:k])]
    return taken


def add(sample: Sample, rows: list[tuple[float, int, int]], limits: Any = None) -> None:
    """Add rows, input by input."""
    for number in sorted({row[1] for row in rows}):
        scores = np.array([row[0] for row in rows if row[1] == number])
        places = np.array([row[2] for row in rows if row[1] == number])
        sample.add(
            scores, number, places, lambda at, places=places: [{"id": int(places[i])} for i in at], limits
        )


def shown(sample: Sample) -> list[tuple[int, float, int, int]]:
    for row in sample.records():
        assert row["record"] == {"id": row["row"]}
    return [(row["stratum"], row["score"], row["input"], row["row"]) for row in sample.records()]


def test_hashes_are_frozen() -> None:
    # SplitMix64 from 0, as its author prints it.
    assert [hex(h) for h in _mixed(np.array([0, 0x9E3779B97F4A7C15], np.uint64)).tolist()] == [
        "0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4",
    ]  # fmt: skip
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**64 - 1, 2**63 - 1, 2**63 - 1)]
    found = [_hashes(seed, number, np.array([row]))[0] for seed, number, row in places]
    assert found == [splitmix(splitmix(splitmix(seed) ^ number) ^ row) for seed, number, row in places]
    assert len(set(_hashes(0, 0, np.arange(100_000)).tolist())) == 100_000


def test_by_hand() -> None:
    sample = Sample(2, strata=2)
    scores = np.array([0.5, 0.49, 0.0, 1.0, math.nan, 0.7])
    sample.add(scores, 3, np.arange(10, 16), lambda at: [{"id": int(i) + 10} for i in at])
    assert sample.counts == [2, 3]  # the row without a score is not seen
    upper = sorted((0, 3, 5), key=lambda i: splitmix(splitmix(splitmix(0) ^ 3) ^ (i + 10)))[:2]
    expected = [(0, 0.0, 3, 12), (0, 0.49, 3, 11), *sorted((1, scores[i], 3, i + 10) for i in upper)]
    assert shown(sample) == expected


@pytest.mark.parametrize(
    ("score", "stratum"),
    [
        (0.0, 0),
        (0.1, 1),
        (0.3, 3),
        (0.7, 7),
        (np.nextafter(0.1, 0), 0),
        (0.999, 9),
        (1.0, 9),
        (-0.0, 0),
        (5e-324, 0),
    ],
)
def test_strata(score: float, stratum: int) -> None:
    sample = Sample(1)
    add(sample, [(score, 0, 0)])
    assert [i for i, count in enumerate(sample.counts) if count] == [stratum]
    assert sample.records()[0]["stratum"] == stratum


ROWS = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3), st.integers(0, 1000)),
    max_size=60, unique_by=lambda row: row[1:],
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    ROWS, st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**64 - 1), st.randoms(use_true_random=False)
)
def test_against_sorting_in_any_order_and_division(
    rows: list[tuple[float, int, int]], k: int, strata: int, seed: int, random: Any
) -> None:
    whole = Sample(k, strata, seed)
    add(whole, rows)
    assert shown(whole) == naive(rows, k, strata, seed)
    random.shuffle(rows)
    cuts = sorted(random.randrange(len(rows) + 1) for _ in range(4))
    parts, limits = [], None
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        part = Sample(k, strata, seed)
        add(part, rows[begin:end], limits)  # what another part has cannot come in
        parts.append(Sample.from_json(part.to_json()) if random.random() < 0.5 else part)
        limits = parts[random.randrange(len(parts))].limits if random.random() < 0.5 else None
    random.shuffle(parts)
    while len(parts) > 1:
        other = parts.pop()
        parts[random.randrange(len(parts))].merge(other)
    assert shown(parts[0]) == shown(whole)
    assert parts[0].counts == whole.counts
    assert parts[0].limits.tolist() == whole.limits.tolist()
    assert parts[0].to_json() == whole.to_json()


def test_candidates_are_few_and_enough() -> None:
    rng = np.random.default_rng(0)
    sample, asked = Sample(5), 0
    everything = []
    for number in range(50):
        scores = rng.random(2000).astype(np.float32)
        rows = np.arange(2000)
        found = sample.candidates(scores, number, rows)
        assert found.tolist() == sorted(found.tolist())
        alone = Sample(5).candidates(scores, number, rows, sample.limits)
        assert found.tolist() == alone.tolist()
        called = []
        sample.add(scores, number, rows, lambda at: called.append(at) or [{"id": int(i)} for i in at])  # noqa: B023
        assert [at.tolist() for at in called] == ([found.tolist()] if len(found) else [])
        asked += len(found)
        everything += [(float(score), number, row) for row, score in enumerate(scores)]
    assert shown(sample) == naive(everything, 5, 10, 0)
    assert sum(sample.counts) == 100_000
    assert asked < 500  # about 50 * (1 + ln 50) of 100,000


def test_another_seed_is_another_sample() -> None:
    rows = [(0.5, 0, row) for row in range(1000)]
    first, second = Sample(10), Sample(10, seed=1)
    add(first, rows)
    add(second, rows)
    assert shown(first) != shown(second)


def test_each_row_is_as_likely() -> None:
    # Of 2,000 seeds, a row of ten is taken 200 times, give or take 5 standard deviations.
    taken = np.zeros(10)
    for seed in range(2000):
        taken[np.argmin(_hashes(seed, 0, np.arange(10)))] += 1
    assert (abs(taken - 200) < 5 * math.sqrt(180)).all()


def test_records_are_json() -> None:
    sample = Sample(1, 1)
    record = {
        "text": "ü" * 5000, "n": 3, "x": 0.25, "nan": math.nan, "inf": -math.inf, "none": None, "yes": True,
        "list": ["a" * 3000, {"day": datetime.date(2026, 1, 2)}], "bytes": b"ab", 7: "key",
    }  # fmt: skip
    sample.add([0.5], 0, [0], lambda _: [record])
    kept = sample.records()[0]["record"]
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["text"] == "ü" * 2000
    assert kept["list"] == ["a" * 2000, {"day": "2026-01-02"}]
    assert [kept[name] for name in ("n", "x", "nan", "inf", "none", "yes", "bytes", "7")] == [
        3, 0.25, "nan", "-inf", None, True, "b'ab'", "key",
    ]  # fmt: skip
    assert Sample.from_json(sample.to_json()).records() == sample.records()


def test_containers_and_nothing() -> None:
    sample = Sample(3, 2)
    sample.add(
        pa.array([0.25, None, 1.0], pa.float32()), np.int64(0), pa.array([0, 1, 2]), lambda at: [{}] * len(at)
    )
    sample.add([1, 0], 1, np.arange(2, dtype=np.uint8), lambda at: [{}] * len(at))
    assert sample.counts == [2, 2]
    sample.add(np.zeros(0), 2, [], lambda at: pytest.fail("there are no rows"))
    sample.add([math.nan], 2, [0], lambda at: pytest.fail("there is no score"))
    assert sample.counts == [2, 2]
    assert len(Sample(3).candidates([], 0, [])) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.5], 0, [7]), r"needs scores in \[0, 1\], such as probabilities, got 1.5 at row 7"),
        (([0.1, -0.5], 0, [7, 8]), "got -0.5 at row 8"),
        (([math.inf], 0, [0]), "got inf at row 0"),
        ((["0.5"], 0, [0]), "scores must be numbers"),
        (([True], 0, [0]), "scores must be numbers"),
        (([[0.5]], 0, [0]), r"scores must be numbers in one dimension, got float64 of shape \(1, 1\)"),
        (([0.5], 0, [0, 1]), "row numbers must be integers, one for each of 1 scores"),
        (([0.5], 0, [0.0]), "row numbers must be integers"),
        (([0.5], 0, [-1]), "row numbers must be from 0 on, got -1"),
        (([0.5], -1, [0]), "the input number must be a whole number in"),
        (([0.5], "a.csv", [0]), "the input number must be a whole number in"),
        (([0.5], 0, [0], np.zeros(3, np.uint64)), "limits must be one for each of 10 strata"),
    ],
)
def test_what_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sample(1).candidates(*arguments)


def test_other_refusals() -> None:
    for wrong in ((0,), (100_001,), (1, 1001), (1, 0), (1, 10, -1), (1.5,), (True,), (1, 10, 2**64), ("3",)):
        with pytest.raises(ValueError, match=r"must be a whole number in \["):
            Sample(*wrong)  # type: ignore[arg-type]
    for records in ([], [{}, {}], ["text"]):
        with pytest.raises(ValueError, match="records must give a dict for each of 1 rows"):
            Sample(1).add([0.5], 0, [0], lambda at, records=records: records)
    for other in (Sample(2), Sample(1, 5), Sample(1, seed=3)):
        with pytest.raises(ValueError, match="the same numbers of rows and strata and seed"):
            Sample(1).merge(other)


@pytest.mark.parametrize(
    "harm",
    [
        lambda state: state.update(rows=0),
        lambda state: state.update(strata=9),
        lambda state: state.update(seed="x"),
        lambda state: state.pop("counts"),
        lambda state: state.update(counts=[0] * 10),
        lambda state: state.update(counts=[1]),
        lambda state: state.update(counts=[1.5] * 10),
        lambda state: state.update(records=None),
        lambda state: state["records"].reverse(),
        lambda state: state["records"].append(state["records"][-1]),
        lambda state: state["records"][0].update(score=0.95),
        lambda state: state["records"][0].update(score=2),
        lambda state: state["records"][0].update(score="0.1"),
        lambda state: state["records"][0].update(row=-1),
        lambda state: state["records"][0].update(input=10**30),
        lambda state: state["records"][0].update(record="text"),
        lambda state: state["records"][0].update(record={"text": "a" * 2001}),
        lambda state: state["records"][0].update(more=1),
        lambda state: state["records"][0].update(score=None),
        lambda state: state["records"][0].update(score=True),
        lambda state: state.update(rows=1),
    ],
)
def test_damaged_json(harm: Any) -> None:
    sample = Sample(2)
    add(sample, [(row / 100, 0, row) for row in range(100)])
    assert Sample.from_json(sample.to_json()).to_json() == sample.to_json()
    state = json.loads(sample.to_json())
    harm(state)
    with pytest.raises(ValueError, match=r"\Athis text is no sample, or a damaged one\Z"):
        Sample.from_json(json.dumps(state))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "{}", "[" * 100_000, None, b"\xff", '{"rows": 1e9}']
)
def test_what_is_no_sample(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\Athis text is no sample, or a damaged one\Z"):
        Sample.from_json(text)
