"""Some rows of each stretch of scores, for people to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["Sample"]

MOST_CHARACTERS = 2_000
NO_LIMIT = (1 << 64) - 1
MOST_ROWS, MOST_STRATA = 100_000, 1_000
"""A sample is to be read."""

Kept = dict[tuple[int, int, int], tuple[float, dict[str, Any]]]
"""(hash, input number, row number) → score and record."""


class Sample:
    """A sample of rows stratified by score: up to so many of each stratum, whatever the order they come in.

    A row has a 64-bit hash of its place, and those of the smallest hashes are taken. So the sample is the
    same for any engine, number of threads, order and division of the work, and those of parts can be merged.

    Parameters
    ----------
    rows : int
        Rows of each stratum, from 1 to 100,000.
    strata : int, default 10
        Up to 1,000 equal parts of [0, 1]: score s is in stratum ``floor(s * strata)``, 1 in the last.
    seed : int, default 0
        Another one gives another sample; in [0, 2**64).

    Attributes
    ----------
    counts : list of int
        All rows seen of each stratum, in the sample or not.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from logitext.corpus.samples import Sample
    >>> sample, other = Sample(1, strata=2), Sample(1, strata=2)
    >>> texts = pa.RecordBatch.from_pydict({"text": ["bad", "good", "fine"]})
    >>> sample.add(np.array([0.1, 0.9, 0.8]), 0, np.arange(3), lambda rows: texts.take(rows).to_pylist())
    >>> other.add(np.array([0.2]), 1, np.array([0]), lambda rows: [{"text": "poor"}])
    >>> sample.merge(other)
    >>> sample.counts
    [2, 2]
    >>> sample.records()[1]
    {'stratum': 1, 'score': 0.9, 'input': 0, 'row': 1, 'record': {'text': 'good'}}
    """

    def __init__(self, rows: int, strata: int = 10, seed: int = 0) -> None:
        self.rows = _whole("rows", rows, 1, MOST_ROWS + 1)
        self.strata = _whole("strata", strata, 1, MOST_STRATA + 1)
        self.seed = _whole("seed", seed, 0, 1 << 64)
        self.counts = [0] * self.strata
        self._kept: list[Kept] = [{} for _ in range(self.strata)]

    @property
    def limits(self) -> NDArray[np.uint64]:
        """The hash of each stratum above which a row cannot come into the sample any more."""
        full = (max(kept)[0] if len(kept) == self.rows else NO_LIMIT for kept in self._kept)
        return np.fromiter(full, np.uint64, self.strata)

    def candidates(
        self,
        scores: Any,
        input_number: int,
        row_numbers: Any,
        limits: NDArray[np.uint64] | None = None,
    ) -> NDArray[np.intp]:
        """Say which rows of a batch may come into the sample.

        Parameters
        ----------
        scores : array of numbers in [0, 1], shape (n,)
            NaN stands for a row without a score, which is left out.
        input_number, row_numbers : int, array of int, shape (n,)
            The place of each row: which input, and which of its rows. No two rows may have the same.
        limits : uint64 array, shape (strata,), optional
            Of a sample that this one is to be merged with; this one's own count in any case.

        Returns
        -------
        array of int
            Their indices, in order: at most `rows` of each stratum.

        Raises
        ------
        ValueError
            If a score is not in [0, 1], places are no numbers from 0 on, or shapes differ.
        """
        rows, strata, hashes = self._placed(scores, input_number, row_numbers)
        return rows[self._best(strata, hashes, limits)]

    def add(
        self,
        scores: Any,
        input_number: int,
        row_numbers: Any,
        records: Callable[[NDArray[np.intp]], list[dict[str, Any]]],
        limits: NDArray[np.uint64] | None = None,
    ) -> None:
        """Take a batch of rows.

        Parameters
        ----------
        scores, input_number, row_numbers, limits
            As of `candidates`.
        records : callable
            Gives the records of the rows with these indices, which are few: a dict each, with what is to be
            shown. Texts are cut to 2,000 characters, and what JSON does not have becomes text.

        Raises
        ------
        ValueError
            As `candidates`; and if there is not one dict for each row.
        """
        rows, strata, hashes = self._placed(scores, input_number, row_numbers)
        best = self._best(strata, hashes, limits)
        shown = records(rows[best]) if len(best) else []
        if len(shown) != len(best) or not all(isinstance(record, dict) for record in shown):
            raise ValueError(f"records must give a dict for each of {len(best)} rows")
        for stratum, seen in enumerate(np.bincount(strata, minlength=self.strata).tolist()):
            self.counts[stratum] += seen
        scores, row_numbers = np.asarray(scores), np.asarray(row_numbers)
        for at, record in zip(best.tolist(), shown, strict=True):
            place = int(hashes[at]), int(input_number), int(row_numbers[rows[at]])
            self._kept[strata[at]][place] = float(scores[rows[at]]), _plain(record)
        self._trim()

    def merge(self, other: Sample) -> None:
        """Take what another sample saw, of other rows.

        Raises
        ------
        ValueError
            If it has other numbers of rows or strata, or another seed.
        """
        if (self.rows, self.strata, self.seed) != (other.rows, other.strata, other.seed):
            raise ValueError(
                "samples can be merged if they have the same numbers of rows and strata and seed"
            )
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        for kept, more in zip(self._kept, other._kept, strict=True):
            kept.update(more)
        self._trim()

    def records(self) -> list[dict[str, Any]]:
        """Return the sample, sorted by stratum, then score, then place.

        Returns
        -------
        list of dict
            With ``stratum``, ``score``, ``input``, ``row`` and ``record``.
        """
        return [
            {"stratum": stratum, "score": score, "input": place[1], "row": place[2], "record": record}
            for stratum, kept in enumerate(self._kept)
            for score, place, record in sorted(
                ((score, place, record) for place, (score, record) in kept.items()),
                key=lambda row: (row[0], row[1][1:]),
            )
        ]

    def to_json(self) -> str:
        """Return the whole state as JSON, on one line."""
        state = {"rows": self.rows, "strata": self.strata, "seed": self.seed, "counts": self.counts}
        return json.dumps({**state, "records": self.records()}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Sample:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        try:
            state = json.loads(text)
            sample = cls(state["rows"], state["strata"], state["seed"])
            for row in state["records"]:
                score, place, record = row["score"], row["row"], row["record"]
                _, strata, hashes = sample._placed(np.array([score]), row["input"], np.array([place]))
                if not isinstance(record, dict):
                    raise ValueError("another record")
                sample._kept[strata[0]][int(hashes[0]), row["input"], place] = float(score), _plain(record)
            if sample.records() != state["records"]:
                raise ValueError("other records")
            held = [len(kept) for kept in sample._kept]
            counts = [_whole("counts", count, 0, 1 << 63) for count in state["counts"]]
            if len(counts) != len(held) or max(held) > sample.rows or np.less(counts, held).any():
                raise ValueError("other counts")
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError("this text is no sample, or a damaged one") from error
        sample.counts = counts
        return sample

    def _placed(
        self, scores: Any, input_number: int, row_numbers: Any
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64]]:
        """Check a batch; give the indices of rows with a score, their strata and their hashes."""
        scores, row_numbers = np.asarray(scores), np.asarray(row_numbers)
        if scores.dtype.kind not in "fiu" or scores.ndim != 1:
            raise ValueError(
                f"scores must be numbers in one dimension, got {scores.dtype} of shape {scores.shape}"
            )
        if row_numbers.shape != scores.shape or (row_numbers.size and row_numbers.dtype.kind not in "iu"):
            raise ValueError(
                f"row numbers must be integers, one for each of {len(scores)} scores, "
                f"got {row_numbers.dtype} of shape {row_numbers.shape}"
            )
        _whole("the input number", input_number, 0, 1 << 63)
        if row_numbers.size and int(row_numbers.min()) < 0:
            raise ValueError(f"row numbers must be from 0 on, got {row_numbers.min()}")
        wrong = np.flatnonzero((scores < 0) | (scores > 1))
        if len(wrong):
            raise ValueError(
                f"a sample by score needs scores in [0, 1], such as probabilities, got {scores[wrong[0]]} "
                f"at row {row_numbers[wrong[0]]}"
            )
        rows = np.flatnonzero(~np.isnan(scores))
        exact = scores[rows].astype(np.float64)  # not in float32, where 0.3 * 10 is above 3
        strata = np.minimum((exact * self.strata).astype(np.intp), self.strata - 1)
        return rows, strata, _hashes(self.seed, int(input_number), row_numbers[rows])

    def _best(
        self, strata: NDArray[np.intp], hashes: NDArray[np.uint64], limits: NDArray[np.uint64] | None
    ) -> NDArray[np.intp]:
        """Give the places, in order, of the smallest hashes of each stratum that are within the limits."""
        bar = self.limits
        if limits is not None:
            if np.shape(limits) != bar.shape:
                raise ValueError(f"limits must be one for each of {self.strata} strata")
            bar = np.minimum(bar, np.asarray(limits, np.uint64))
        within = np.flatnonzero(hashes <= bar[strata])
        order = within[np.lexsort((hashes[within], strata[within]))]
        begins = np.searchsorted(strata[order], np.arange(self.strata))
        rank = np.arange(len(order)) - begins[strata[order]]
        return np.sort(order[rank < self.rows])

    def _trim(self) -> None:
        for kept in self._kept:
            if len(kept) > self.rows:
                for place in sorted(kept)[self.rows :]:
                    del kept[place]


def _hashes(seed: int, input_number: int, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Hash places; no two rows of an input have the same hash. Frozen: samples of all versions are alike."""
    start = _mixed(_mixed(np.array([seed], np.uint64)) ^ np.uint64(input_number))
    return _mixed(start ^ rows.astype(np.uint64))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64, a permutation of 64-bit numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _plain(value: Any) -> Any:
    """Bring what a column may hold into what JSON has; nothing in it is long."""
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)[:MOST_CHARACTERS]


def _whole(name: str, value: Any, least: int, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < end:
        raise ValueError(f"{name} must be a whole number in [{least}, {end}), got {value!r}")
    return int(value)
