"""Thresholds over a whole corpus: sketched in one pass, or exact in a few."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext.corpus.kll import FAULT, K, check

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["ScoreSketch", "exact_threshold"]

MAGIC = b"logitext scores\0"
AT_ONCE = 1 << 20
"""Scores held at once, and the most that are sorted instead of counted once more."""
TYPES: dict[int, tuple[Any, Any]] = {32: (np.float32, np.uint32), 64: (np.float64, np.uint64)}


class ScoreSketch:
    """What is kept of any number of scores to tell their quantiles: 90 kB, and a known error.

    A KLL sketch of the Apache DataSketches library. It needs ``pip install 'logitext[corpora]'``.

    Attributes
    ----------
    count : int
        Scores added.
    missing : int
        Nulls and NaN, which are left out.
    rank_error : float
        How far the share of scores below an answer may be off: the library's two-sided normalised rank
        error, which 99 of 100 sketches keep. 0.00098, and 0 as long as the sketch still has all scores.

    Raises
    ------
    ImportError
        If datasketches is not installed.

    Notes
    -----
    Sketches may be merged in any order, and the error stays. Which scores a sketch keeps is drawn at
    random: two sketches of the same scores need not give the same answer. `exact_threshold` does.

    References
    ----------
    Karnin, Lang, Liberty: Optimal Quantile Approximation in Streams, FOCS 2016.

    Examples
    --------
    >>> from logitext.corpus.quantiles import ScoreSketch
    >>> sketch, other = ScoreSketch(), ScoreSketch()
    >>> sketch.add(np.array([0.1, 0.4, np.nan]))
    >>> other.add(pa.array([0.2, 0.3, None, 0.5]))
    >>> sketch.merge(other)
    >>> sketch.count, sketch.missing, sketch.rank_error
    (5, 2, 0.0)
    >>> sketch.quantile(0.5), sketch.threshold_of_top(0.4)  # 0.4 and 0.5 are the top two of five
    (0.3, 0.4)
    >>> ScoreSketch.from_bytes(sketch.to_bytes()).count
    5
    """

    def __init__(self) -> None:
        self._sketch = _library()(K)
        self.missing = 0

    @property
    def count(self) -> int:
        return int(self._sketch.n)

    @property
    def rank_error(self) -> float:
        return float(self._sketch.normalized_rank_error(True)) if self._sketch.is_estimation_mode() else 0.0

    def add(self, scores: Any) -> None:
        """Take some more scores.

        Parameters
        ----------
        scores : array or Arrow array of numbers, shape (n,)

        Raises
        ------
        ValueError
            If they are no numbers, or not in one dimension.
        """
        known, missing = _known(scores)
        self._sketch.update(known.astype(np.float64))  # a copy: it wants one that may be written to
        self.missing += missing

    def merge(self, other: ScoreSketch) -> None:
        """Take the scores of another sketch."""
        # By its bytes, for a sketch may be merged with itself.
        self._sketch.merge(_library().deserialize(other._sketch.serialize()))
        self.missing += other.missing

    def quantile(self, share: float) -> float:
        """Return the least score with at least this share of all scores at or below it.

        Raises
        ------
        ValueError
            If the share is not in [0, 1], or there are no scores.
        """
        _check_share(share, share == 0)
        # Half-way between two ranks: rounding must not choose.
        return float(self._sketch.get_quantile((self._rows(share) - 0.5) / self.count, True))

    def threshold_of_top(self, share: float) -> float:
        """Return the score that at least this share of all scores is at or above, and fewer are above.

        Raises
        ------
        ValueError
            If the share is not in (0, 1], or there are no scores.
        """
        _check_share(share)
        rows = self._rows(share)
        return float(self._sketch.get_quantile((self.count - rows + 0.5) / self.count))

    def _rows(self, share: float) -> int:
        if not self.count:
            raise ValueError("there are no scores to find a quantile of")
        return max(1, _rows(share, self.count))

    def to_bytes(self) -> bytes:
        """Return the sketch as bytes."""
        return MAGIC + self.missing.to_bytes(8, "little") + bytes(self._sketch.serialize())

    @classmethod
    def from_bytes(cls, data: bytes) -> ScoreSketch:
        """Read what `to_bytes` gave; hostile bytes are refused.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        head = len(MAGIC) + 8
        if not isinstance(data, bytes) or data[: len(MAGIC)] != MAGIC:
            raise ValueError(FAULT)
        check(data[head:])
        sketch = cls()
        sketch._sketch = _library().deserialize(data[head:])
        sketch.missing = int.from_bytes(data[len(MAGIC) : head], "little")
        return sketch

    def __reduce__(self) -> tuple[Callable[[bytes], ScoreSketch], tuple[bytes]]:
        return ScoreSketch.from_bytes, (self.to_bytes(),)


def exact_threshold(read: Callable[[], Iterable[Any]], share: float) -> tuple[float, int]:
    """Find the score at or above which the smallest set of rows is that makes up a share of all.

    Scores are counted by the first 16 bits of whole numbers in their order, then those that have the same
    bits as the threshold by the next 16, until at most a million are left to sort: two passes over float32
    scores, up to four over float64 (and what was read before the first of these), in bounded memory.

    Parameters
    ----------
    read : callable
        Gives each time anew an iterator of the same scores: arrays of numbers. Nulls and NaN are left out.
    share : float
        In (0, 1], and meant as written: 0.1 of ten rows is one row, though the float is above 1/10.

    Returns
    -------
    threshold : float
    rows : int
        How many are at or above it: at least the share, and more only where scores are equal to it.

    Raises
    ------
    ValueError
        If the share is not in (0, 1], there are no scores, they are no numbers, or not the same each time.

    Examples
    --------
    >>> from logitext.corpus.quantiles import exact_threshold
    >>> parts = [np.array([0.5, 0.9]), np.array([0.7, np.nan, 0.7, 0.1])]
    >>> exact_threshold(lambda: iter(parts), 0.4)  # two of five; 0.7 stands there twice
    (0.7, 3)
    """
    _check_share(share)
    try:
        bits, counts = 32, _histogram(read, 32, 32, 0)
    except _WiderError:
        bits, counts = 64, _histogram(read, 64, 64, 0)
    n = int(counts.sum())
    if n == 0:
        raise ValueError("there are no scores to find a threshold of")
    wanted = _rows(share, n)
    above, prefix, open_bits = 0, 0, bits
    while True:
        from_top = np.cumsum(counts[::-1])
        place = int(np.searchsorted(from_top, wanted - above))
        bucket = len(counts) - 1 - place
        held = int(counts[bucket])
        above += int(from_top[place]) - held
        prefix, open_bits = prefix << 16 | bucket, open_bits - 16
        if open_bits == 0:
            return _score(prefix, bits), above + held
        if held <= AT_ONCE:
            parts = list(_keys(read, bits, open_bits, prefix))
            _check_same(sum(map(len, parts)), held)
            keys = np.concatenate(parts)
            rank = held - (wanted - above)
            threshold = np.partition(keys, rank)[rank]
            return _score(int(threshold), bits), above + int((keys >= threshold).sum())
        counts = _histogram(read, bits, open_bits, prefix)
        _check_same(int(counts.sum()), held)


class _WiderError(ValueError):
    """A float64 score among keys of 32 bits."""


def _keys(
    read: Callable[[], Iterable[Any]], bits: int, open_bits: int, prefix: int
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """Give unsigned numbers in the order of the scores, of those whose bits above the open ones are these."""
    floats, unsigned = TYPES[bits]
    sign = unsigned(1 << (bits - 1))
    for scores in read():
        known, _ = _known(scores)
        if known.dtype.itemsize * 8 > bits:
            raise _WiderError("the scores are not the same each time they are read: they were float32")
        for begin in range(0, len(known), AT_ONCE):
            # Adding 0 makes 0.0 of -0.0, which is equal to it.
            raw = (known[begin : begin + AT_ONCE].astype(floats) + floats(0)).view(unsigned)
            keys = np.where(raw & sign, ~raw, raw | sign)
            yield keys if open_bits == bits else keys[keys >> unsigned(open_bits) == unsigned(prefix)]


def _histogram(
    read: Callable[[], Iterable[Any]], bits: int, open_bits: int, prefix: int
) -> NDArray[np.int64]:
    """Count the keys by the first 16 of the open bits."""
    counts = np.zeros(1 << 16, np.int64)
    for keys in _keys(read, bits, open_bits, prefix):
        counts += np.bincount((keys >> keys.dtype.type(open_bits - 16)).astype(np.uint16), minlength=1 << 16)
    return counts


def _score(key: int, bits: int) -> float:
    raw = key ^ 1 << (bits - 1) if key >> (bits - 1) else ~key & ((1 << bits) - 1)
    floats, unsigned = TYPES[bits]
    return float(np.array(raw, unsigned).view(floats))


def _known(scores: Any) -> tuple[NDArray[np.floating[Any]], int]:
    """Return the scores that are there, as float32 or float64, and how many are not."""
    missing = 0
    if isinstance(scores, pa.Array | pa.ChunkedArray):
        if pa.types.is_null(scores.type):
            return np.zeros(0, np.float32), len(scores)
        if not (pa.types.is_floating(scores.type) or pa.types.is_integer(scores.type)):
            raise ValueError(f"scores must be numbers, got {scores.type}")
        missing = scores.null_count
        scores = (scores.drop_null() if missing else scores).to_numpy(zero_copy_only=False)
    array = np.asarray(scores)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        raise ValueError(f"scores must be numbers in one dimension, got {array.dtype} of shape {array.shape}")
    floats = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)
    known = floats[~np.isnan(floats)]
    return known, missing + len(floats) - len(known)


def _rows(share: float, n: int) -> int:
    """How many rows make up a share of n, at least; in fractions, for 0.1 is a tenth."""
    return math.ceil(Fraction(repr(float(share))) * n)


def _check_share(share: float, also_zero: bool = False) -> None:
    real = isinstance(share, int | float | np.integer | np.floating) and not isinstance(share, bool)
    if not real or not (0 < share <= 1 or (also_zero and share == 0)):
        raise ValueError(f"a share must be a number above 0 and at most 1, got {share!r}")


def _check_same(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"the scores are not the same each time they are read: {found:,} where there were {expected:,}"
        )


def _library() -> Any:
    try:
        from datasketches import kll_doubles_sketch
    except ImportError as error:
        raise ImportError("a sketch of scores needs datasketches: pip install 'logitext[corpora]'") from error
    return kll_doubles_sketch
