"""What is kept of blocks of logits gone by, in bounded memory: see `logitext.description`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.calibration import fit_temperature

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["Looks", "Peaks", "Quantiles", "Truths", "Values"]

MOST_KEPT = 10_000_000
"""Quantiles of more rows are those of a random sample of about so many."""
FITTED_LOGITS, FITTED_ROWS = 1 << 21, 1000
"""The temperature is fitted to at most so many logits, and not to fewer rows unless these are all."""
_PIECE = 1 << 17  # logits whose float64 stays in the second-level cache
_FAR = -1e30  # below the largest logit: probability 0 at any temperature fitted


@dataclass(frozen=True)
class Quantiles:
    """What 10, 50 and 90 % of the rows reach at most; each is the number of a row."""

    p10: float
    p50: float
    p90: float


class Values:
    """Range, mean and deviation of the finite logits, and how many are masked."""

    def __init__(self) -> None:
        self.lowest, self.highest = math.inf, -math.inf
        self.finite = self.masked = 0
        self.mean = self.squares = 0.0

    def add(self, block: NDArray[Any]) -> None:
        flat = block.reshape(-1)
        for at in range(0, flat.size, _PIECE):
            piece = flat[at : at + _PIECE].astype(np.float64)
            low, high = float(piece.min()), float(piece.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                self.masked += int(np.count_nonzero(piece == -np.inf))
                piece = piece[np.isfinite(piece)]
                if not piece.size:
                    continue
                low, high = float(piece.min()), float(piece.max())
            self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
            mean = float(piece.mean())
            piece -= mean
            np.square(piece, out=piece)
            self._merge(piece.size, mean, float(piece.sum()))

    def _merge(self, n: int, mean: float, squares: float) -> None:
        """Add a piece (Chan, Golub & LeVeque 1979, eq. 2.1): nothing cancels, as in a sum of squares."""
        both = self.finite + n
        step = mean - self.mean
        self.mean += step * (n / both)
        self.squares += squares + step * step * (self.finite * (n / both))
        self.finite = both

    def found(self, size: int) -> dict[str, Any]:
        masked = self.masked / size
        if not self.finite:
            return dict.fromkeys(("lowest", "highest", "mean", "deviation"), math.nan) | {"masked": masked}
        deviation = math.sqrt(self.squares / self.finite)
        ends = {"lowest": self.lowest, "highest": self.highest}
        return ends | {"mean": self.mean, "deviation": deviation, "masked": masked}


class Peaks:
    """How peaked the rows are, and what they decide."""

    def __init__(self, rows: int, classes: int) -> None:
        self.rows, self.classes = rows, classes
        self.unusable = 0
        self.first_unusable: int | None = None
        self.tally = np.zeros(classes, np.int64)
        self.kept: dict[str, list[NDArray[np.float32]]] = {"probability": [], "entropy": [], "margin": []}
        self.random = np.random.default_rng(0) if rows > MOST_KEPT else None

    def add(
        self,
        row: int,
        usable: NDArray[np.bool_],
        decided: NDArray[np.int64],
        lead: NDArray[Any],
        probability: NDArray[Any],
        entropy: NDArray[Any],
    ) -> None:
        unusable = len(usable) - int(np.count_nonzero(usable))
        if unusable:
            if self.first_unusable is None:
                self.first_unusable = row + int(usable.argmin())
            self.unusable += unusable
            decided = decided[usable]
        np.add.at(self.tally, decided, 1)
        keep = usable
        if self.random is not None:
            keep = usable & (self.random.random(len(usable)) < MOST_KEPT / self.rows)
        for name, numbers in (("probability", probability), ("entropy", entropy), ("margin", lead)):
            self.kept[name].append(numbers[keep].astype(np.float32))

    def quantiles(self) -> dict[str, Quantiles]:
        self.sampled = sum(map(len, self.kept["margin"]))
        found = {name: _quantiles(np.concatenate(self.kept.pop(name))) for name in list(self.kept)}
        whole = math.log(self.classes) or math.nan
        entropy = found["entropy"]
        found["entropy_share"] = Quantiles(entropy.p10 / whole, entropy.p50 / whole, entropy.p90 / whole)
        return found

    def found(self) -> dict[str, Any]:
        usable = self.rows - self.unusable
        commonest = int(self.tally.argmax())
        return {
            "unusable": self.unusable,
            "first_unusable": self.first_unusable,
            "decided": int(np.count_nonzero(self.tally)),
            "commonest": commonest if usable else None,
            "commonest_share": int(self.tally[commonest]) / usable if usable else math.nan,
        }

    def notes(self) -> Iterator[str]:
        if self.unusable:
            yield (
                f"rows that are all -inf, or hold +inf or NaN, are left out: {self.unusable:,}; "
                f"the first is row {self.first_unusable:,}, counting from 0"
            )
        if self.random is not None:
            yield f"quantiles are those of a random sample of {self.sampled:,} rows"


def _quantiles(numbers: NDArray[np.float32]) -> Quantiles:
    n = len(numbers)
    if not n:
        return Quantiles(math.nan, math.nan, math.nan)
    # The smallest number that so many per cent do not exceed: no mean of two, of which one may be inf.
    at = [-(-percent * n // 100) - 1 for percent in (10, 50, 90)]
    numbers.partition(at)
    return Quantiles(*(float(numbers[i]) for i in at))


class Truths:
    """What the labels say of the decisions and probabilities."""

    def __init__(self, rows: int, classes: int) -> None:
        self.rows, self.classes = rows, classes
        self.tally = np.zeros(classes, np.int64)
        self.hits = self.masked = 0
        self.first_masked: int | None = None
        self.losses: list[float] = []
        self.stride = -(-rows // max(1, FITTED_LOGITS // classes))
        self.fits = classes <= FITTED_LOGITS and rows // self.stride >= min(rows, FITTED_ROWS)
        self.kept: list[NDArray[Any]] = []
        self.targets: list[NDArray[np.int64]] = []

    def add(
        self,
        row: int,
        block: NDArray[Any],
        usable: NDArray[np.bool_],
        truth: NDArray[np.int64],
        decided: NDArray[np.int64],
        found: Any,
        temperature: float,
    ) -> None:
        at_truth = block[np.arange(len(block)), truth].astype(np.float64)
        masked = usable & (at_truth == -np.inf)
        if masked.any():
            if self.first_masked is None:
                self.first_masked = row + int(masked.argmax())
            self.masked += int(np.count_nonzero(masked))
        behind = (found.max.astype(np.float64) - at_truth) / temperature
        self.losses.append(float((found.loss + behind)[usable].sum()))
        self.hits += int(np.count_nonzero(usable & (decided == truth)))
        np.add.at(self.tally, truth[usable], 1)
        if self.fits:
            chosen = np.arange(-row % self.stride, len(block), self.stride)
            chosen = chosen[(usable & ~masked)[chosen]]
            self.kept.append(block[chosen])
            self.targets.append(truth[chosen])

    def measured(self) -> tuple[dict[str, Any], list[str]]:
        n = int(self.tally.sum())
        said = []
        if self.masked:
            said.append(
                f"rows whose true class is masked, which makes the log loss infinite: {self.masked:,}; "
                f"the first is row {self.first_masked:,}, counting from 0"
            )
        best = None
        fitted = sum(map(len, self.targets))
        if not self.fits:
            said.append("the best temperature was not sought: it takes all logits in memory")
        elif fitted:
            best = self._best()
            if self.stride > 1:
                said.append(f"the best temperature is that of {fitted:,} evenly spaced rows")
        shares = self.tally[self.tally > 0] / n if n else np.empty(0)
        measured = {
            "log_loss": math.fsum(self.losses) / n if n else math.nan,
            "accuracy": self.hits / n if n else math.nan,
            "guessing": abs(float((shares * np.log(shares)).sum())) if n else math.nan,
            "best_temperature": best,
            "masked_truths": self.masked,
            "first_masked_truth": self.first_masked,
        }
        return measured, said

    def _best(self) -> float:
        z = np.concatenate(self.kept).astype(np.float64)
        # A masked class has probability 0 at any temperature, but 0 times -inf is not 0.
        z = np.maximum(z - z.max(axis=1, keepdims=True), _FAR)
        return fit_temperature(z, np.concatenate(self.targets))


class Looks:
    """Whether these are logits at all."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.usable = 0
        self.off_sum = self.off_mass = 0.0

    def add(self, block: NDArray[Any], usable: NDArray[np.bool_], mass: NDArray[Any] | None) -> None:
        self.usable += int(np.count_nonzero(usable))
        if self.off_sum < 0.01:
            # Of one row first: the sums of all are wanted only if these are probabilities.
            first = int(usable.argmax())
            few = slice(None) if abs(float(block[first].sum()) - 1) < 0.01 else slice(first, first + 1)
            self.off_sum = max(self.off_sum, _most((block[few].sum(axis=1) - 1)[usable[few]]))
        self.off_mass = max(self.off_mass, math.inf if mass is None else _most(mass[usable]))

    def notes(self, values: Values) -> Iterator[str]:
        if not self.usable or self.classes == 1:
            return
        if self.off_sum < 0.01 and values.lowest >= 0 and values.highest <= 1:
            yield "each row is in [0, 1] and sums to 1: these look like probabilities, not logits"
        elif self.off_mass < 0.01 and values.highest <= 0:
            yield "the exponentials of each row sum to 1: these look like log-probabilities"


def _most(numbers: NDArray[Any]) -> float:
    most = float(np.abs(numbers).max(initial=0.0))
    return math.inf if math.isnan(most) else most
