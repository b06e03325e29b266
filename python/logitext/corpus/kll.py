"""The bytes of a KLL sketch, checked whole: the library reads beyond them if they do not add up."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np

__all__ = ["K", "check"]

K = 4000
"""Size of our sketches: 90 kB, and a rank error of 0.1 %."""
M = 8
"""Smallest size of a level."""
FAMILY = 15
EMPTY, SORTED, SINGLE = 1, 2, 4
MOST_LEVELS = 48
MOST_COUNTED = 1 << 52
"""More would let the library's counters overflow when such sketches are merged."""
FAULT = "these bytes are no sketch of scores, or a damaged one"


def check(data: bytes) -> None:
    """Refuse bytes that are not a whole sketch of float64 numbers, of size `K`.

    A sketch has levels; an item of level h stands for 2^h numbers. After the head stand where each level
    begins, the least and greatest number, and the items of all levels, each level but the first sorted.

    Raises
    ------
    ValueError
        If anything does not add up.
    """
    if len(data) < 8:
        raise ValueError(FAULT)
    words, version, family, flags, k, m, _ = struct.unpack_from("<BBBBHBB", data)
    if (family, k, m) != (FAMILY, K, M):
        raise ValueError(FAULT)
    flags &= ~SORTED if words == 2 else ~0
    if (words, version, flags, len(data)) == (2, 1, EMPTY, 8):
        return
    if (words, version, flags, len(data)) == (2, 2, SINGLE, 16):
        if np.isnan(struct.unpack_from("<d", data, 8)[0]):
            raise ValueError(FAULT)
        return
    if (words, version) != (5, 1) or flags not in (0, SORTED) or len(data) < 20:
        raise ValueError(FAULT)
    count, least_k, levels, _ = struct.unpack_from("<QHBB", data, 8)
    head = 20 + 4 * levels
    if least_k != K or not 1 <= levels <= MOST_LEVELS or len(data) < head + 16:
        raise ValueError(FAULT)
    # The library makes room for as many levels as so many numbers can fill, and no more.
    if not max(2, 1 << (levels - 1)) <= count <= MOST_COUNTED:
        raise ValueError(FAULT)
    begins = struct.unpack_from(f"<{levels}I", data, 20)
    ends = [*begins[1:], _capacity(levels)]
    sizes = [end - begin for begin, end in zip(begins, ends, strict=True)]
    if min(sizes) < 0 or len(data) != head + 16 + 8 * sum(sizes):
        raise ValueError(FAULT)
    if sum(size << level for level, size in enumerate(sizes)) != count:
        raise ValueError(FAULT)
    least, greatest, *_ = numbers = np.frombuffer(data, "<f8", offset=head)
    items = numbers[2:]
    if not (least <= greatest and (items >= least).all() and (items <= greatest).all()):  # none is NaN
        raise ValueError(FAULT)
    places = np.cumsum([0, *sizes])
    for level, (begin, end) in enumerate(pairwise(places)):
        if (level or flags == SORTED) and (np.diff(items[begin:end]) < 0).any():
            raise ValueError(FAULT)


def _capacity(levels: int) -> int:
    """How many items there is room for: K at the top, by two thirds less each level down, at least M."""
    # In integers as the library has it, or it would read another number of items.
    return sum(max(M, ((2 * K << depth) // 3**depth + 1) >> 1) for depth in range(levels))
