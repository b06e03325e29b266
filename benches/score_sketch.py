"""Whether the sketch of scores keeps its stated error, in any order of merging.

``python -m benches.score_sketch`` does it with 10 million scores, some of them equal.
"""

from __future__ import annotations

import math
import time

import numpy as np

from logitext.corpus.quantiles import ScoreSketch, exact_threshold

SHARES = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)


def measured(
    rows: int = 10_000_000, parts: int = 100, orders: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Return the largest error found in the share of rows at or above a threshold, and the stated one.

    Raises
    ------
    AssertionError
        If merging loses a score, or an exact threshold is not the one that sorting gives.
    """
    rng = np.random.default_rng(seed)
    # Scores as a classifier gives them: most near 0 and 1, and a tenth of them with two decimals.
    scores = rng.beta(0.3, 0.5, size=rows)
    scores[::10] = scores[::10].round(2)
    pieces = np.array_split(scores, np.sort(rng.integers(0, rows, size=parts - 1)))
    written = []
    for piece in pieces:
        sketch = ScoreSketch()
        sketch.add(piece)
        written.append(sketch.to_bytes())
    ordered = np.sort(scores)
    worst = stated = 0.0
    for _ in range(orders):
        waiting = [ScoreSketch.from_bytes(written[i]) for i in rng.permutation(parts)]
        while len(waiting) > 1:  # any two, until one is left
            other = waiting.pop(rng.integers(len(waiting)))
            waiting[rng.integers(len(waiting))].merge(other)
        assert waiting[0].count == rows
        stated = waiting[0].rank_error
        for share in SHARES:
            threshold = waiting[0].threshold_of_top(share)
            # Of equal scores any share is right between those above and those at or above.
            above = rows - np.searchsorted(ordered, threshold, side="right")
            at_or_above = rows - np.searchsorted(ordered, threshold, side="left")
            worst = max(worst, above / rows - share, share - at_or_above / rows)
    for share in SHARES:
        threshold, _ = exact_threshold(lambda: pieces, share)
        assert threshold == ordered[-math.ceil(share * rows)]
    return float(worst), stated


def main() -> None:
    """Print what 10 million scores give."""
    begin = time.perf_counter()
    worst, stated = measured()
    print(
        f"10,000,000 scores in 100 parts, merged in 20 orders: largest error {worst:.5f}, stated {stated:.5f}"
    )
    print(f"{time.perf_counter() - begin:.1f} s, with sorting and {len(SHARES)} exact thresholds")


if __name__ == "__main__":
    main()
