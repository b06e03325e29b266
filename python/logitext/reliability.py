"""Whether a probability means what it says: calibration errors and the curve behind them.

All of it takes the probability given to the decision and whether that was right, one number each
per row ("top label"); or, for any two-class question, a probability and whether it came true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.intervals import quantiles, resamples

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Bins", "Reliability", "binned_ece", "debiased_ece", "reliability", "smooth_ece"]

GRID = 1024
"""Cells of [0, 1] that rows are gathered in before smoothing; the kernel is several times as wide."""
BINS = 15
HALVINGS = 17
"""Of [0, 1], for the width of the kernel: to 8 millionths."""
ENOUGH = 8.0
"""Rows under the kernel from which on the curve is drawn."""


def smooth_ece(p: ArrayLike, hits: ArrayLike) -> float:
    """Return the smooth calibration error, smECE.

    ``hits - p`` is smoothed over ``p`` with a Gaussian kernel, reflected at 0 and 1; the
    error is the mean absolute height of what results. The kernel's width is the one that
    equals the error, so there is nothing to choose: it is unique, as the error falls with the width.

    Parameters
    ----------
    p : array, shape (n,)
        Probabilities.
    hits : bool or int array, shape (n,)
        1 where what had the probability was so.

    Returns
    -------
    float
        In [0, 1]: 0.02 says that probabilities are off by 2 points, where rows are, in the mean.
        NaN for no rows.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1], or the arrays are not equally long.

    Notes
    -----
    A small sample of perfectly calibrated rows has an error above 0: about 0.02 for 1,000 rows.

    References
    ----------
    Błasiok & Nakkiran, "Smooth ECE: principled reliability diagrams via kernel smoothing",
    arXiv 2309.12236, sections 3 and 4.

    Examples
    --------
    >>> from logitext.reliability import smooth_ece
    >>> round(smooth_ece([0.9] * 100, [1] * 60 + [0] * 40), 2)
    0.3
    >>> round(smooth_ece([0.6] * 100, [1] * 60 + [0] * 40), 6)
    0.0
    """
    return _measured(p, hits)["smooth_ece"]


def debiased_ece(p: ArrayLike, hits: ArrayLike) -> float:
    """Return the root mean squared calibration error over 15 bins of equally many rows, without its bias.

    From the squared gap of each bin the variance of its share of hits is taken, which would be
    there without any error.

    Parameters
    ----------
    p, hits
        As for `smooth_ece`.

    Returns
    -------
    float
        In [0, 1]; 0 where there is no more than chance. Squares weigh large gaps more than
        `smooth_ece` does.

    Raises
    ------
    ValueError
        As `smooth_ece`.

    References
    ----------
    Kumar, Liang & Ma, "Verified uncertainty calibration", NeurIPS 2019, section 4.

    Examples
    --------
    >>> from logitext.reliability import debiased_ece
    >>> round(debiased_ece([0.9] * 100, [1] * 60 + [0] * 40), 3)  # .3² - .6 · .4 / 99, its root
    0.296
    """
    return _measured(p, hits)["debiased_ece"]


def binned_ece(p: ArrayLike, hits: ArrayLike) -> float:
    """Return the expected calibration error over 15 equally wide bins: for comparison with papers.

    It depends on where bins end, and is too large for few rows.

    Parameters
    ----------
    p, hits
        As for `smooth_ece`.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        As `smooth_ece`.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017,
    equation 3. Against it: Roelofs et al., "Mitigating bias in calibration error estimation",
    AISTATS 2022.

    Examples
    --------
    >>> from logitext.reliability import binned_ece
    >>> round(binned_ece([0.9] * 100, [1] * 60 + [0] * 40), 3)
    0.3
    """
    return _measured(p, hits)["binned_ece"]


def _measured(p: ArrayLike, hits: ArrayLike) -> dict[str, float]:
    given, came = _checked(p, hits)
    if not len(given):
        return dict.fromkeys(("smooth_ece", "debiased_ece", "binned_ece"), float("nan"))
    found = Bins(given).errors(np.ones((1, len(given))), came)
    return {name: float(value[0]) for name, value in found.items()}


def _checked(p: ArrayLike, hits: ArrayLike) -> tuple[Floats, Floats]:
    """Probabilities in rising order, and what goes with them."""
    given, came = np.asarray(p, np.float64), np.asarray(hits, np.float64)
    if given.ndim != 1 or given.shape != came.shape:
        raise ValueError(f"there must be a hit or miss for each probability: {given.shape}, {came.shape}")
    inside = (given >= 0) & (given <= 1)
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(f"probabilities must be in [0, 1], got {given[row]} at row {row}")
    order = np.lexsort((came, given))
    return given[order], came[order]


class Bins:
    """Rows in rising order of probability, cut into cells in each of the ways errors need.

    Parameters
    ----------
    p : float64 array, shape (n,)
        Rising, in [0, 1].
    """

    def __init__(self, p: Floats) -> None:
        n = len(p)
        self.p = p
        self.grid = self._bounds(np.searchsorted(p, np.arange(1, GRID) / GRID, side="left"))
        # An edge belongs to the bin below it, as in the papers compared with.
        self.equal_width = self._bounds(np.searchsorted(p, np.arange(1, BINS) / BINS, side="right"))
        # Equal probabilities stay together.
        cuts = p[np.arange(1, BINS) * n // BINS]
        self.equal_mass = np.unique(self._bounds(np.searchsorted(p, cuts, side="left")))

    def _bounds(self, inner: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.concatenate([[0], inner, [len(self.p)]]).astype(np.intp)

    def errors(self, weights: Floats, hits: Floats) -> dict[str, Floats]:
        """Measure calibration where each row counts so often.

        Parameters
        ----------
        weights : float64 array, shape (count, n)
            Each line sums to n.
        hits : float64 array, shape (n,)
            0 or 1.

        Returns
        -------
        dict of name to float64 array, shape (count,)
        """
        rows = _before(weights)
        came = _before(weights * hits)
        gap = came - _before(weights * self.p)
        n = weights.shape[1]
        width = np.diff(gap[:, self.equal_width])
        count, right, off = (np.diff(sums[:, self.equal_mass]) for sums in (rows, came, gap))
        many = count > 1
        size = np.where(many, count, 2)
        frequency = right / size
        squares = (off / size) ** 2 - frequency * (1 - frequency) / (size - 1)
        squared = (np.where(many, squares, 0) * count).sum(axis=1) / n
        return {
            "smooth_ece": fixed_width(np.diff(gap[:, self.grid]) / n),
            "debiased_ece": np.sqrt(np.maximum(squared, 0)),
            "binned_ece": np.abs(width).sum(axis=1) / n,
        }

    def chance(self, count: int, seed: int = 0) -> dict[str, Floats]:
        """Return the errors that so many rows show where every probability is right.

        Parameters
        ----------
        count : int
            How often rows come true by their probability anew.
        seed : int, default 0

        Returns
        -------
        dict of name to float64 array, shape (count,)
        """
        rng, once = np.random.default_rng([seed, 4]), np.ones((1, len(self.p)))
        drawn = [
            self.errors(once, (rng.random(len(self.p)) < self.p).astype(np.float64)) for _ in range(count)
        ]
        return {name: np.concatenate([errors[name] for errors in drawn]) for name in drawn[0]}

    def gathered(self, weights: Floats, hits: Floats) -> tuple[Floats, Floats]:
        """Return the share of the rows in each cell of the grid, and of hits less probability.

        Parameters
        ----------
        weights : float64 array, shape (count, n)
        hits : float64 array, shape (n,)

        Returns
        -------
        rows, gaps : float64 array, shape (count, GRID)
        """
        n = weights.shape[1]
        rows, gap = _before(weights), _before(weights * (hits - self.p))
        return np.diff(rows[:, self.grid]) / n, np.diff(gap[:, self.grid]) / n


def _before(values: Floats) -> Floats:
    """The sum of what is before each place of a line, and of all of it: any stretch is a difference."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _spectrum(cells: Floats) -> Any:
    """Of cells and their mirror image, which is what reflects the kernel at 0 and 1."""
    return np.fft.rfft(np.concatenate([cells, cells[:, ::-1]], axis=1))


def _smooth(spectrum: Any, width: Floats) -> Floats:
    """The heights over the grid of what a Gaussian of that width, one for each line, makes of the cells."""
    frequency = np.pi * np.arange(GRID + 1)
    damped = np.exp(-0.5 * (width[:, np.newaxis] * frequency) ** 2)
    heights: Floats = np.fft.irfft(spectrum * damped, 2 * GRID)[:, :GRID] * GRID
    return heights


def fixed_width(gaps: Floats) -> Floats:
    """Return the width of the kernel at which the mean absolute height is as large: smECE.

    Parameters
    ----------
    gaps : float64 array, shape (count, GRID)
        Hits less probability of each cell, as a share of the rows.

    Returns
    -------
    float64 array, shape (count,)

    Notes
    -----
    The mean height falls as the width grows, so halving finds where they meet.
    """
    spectrum = _spectrum(gaps)
    low, high = np.zeros(len(gaps)), np.ones(len(gaps))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = np.abs(_smooth(spectrum, middle)).mean(axis=1) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    # Without any gap it was never moved, and is 0.
    return low


@dataclass(frozen=True)
class Reliability:
    """How often things came true, by the probability they were given: a smooth curve."""

    probability: NDArray[np.float64]
    """Shape (1024,): evenly spaced in (0, 1)."""
    frequency: NDArray[np.float64]
    """How often it came true there; NaN where there are fewer than 8 rows under the kernel."""
    low: NDArray[np.float64] | None
    """Of the band that 95 % of the resamples are in at each place; None without resamples."""
    high: NDArray[np.float64] | None
    density: NDArray[np.float64]
    """Of the rows: its mean over [0, 1] is 1."""
    error: float
    """smECE: the mean distance of the curve from the diagonal, weighed by the density; the kernel's width."""


def reliability(p: ArrayLike, hits: ArrayLike, *, resamples: int = 0, seed: int = 0) -> Reliability:
    """Return the smooth reliability curve whose distance from the diagonal is smECE.

    Parameters
    ----------
    p, hits
        As for `smooth_ece`; at least one row.
    resamples : int, default 0
        For the band; 0: none.
    seed : int, default 0
        Of the resamples.

    Returns
    -------
    Reliability
        At probability t, t plus the smoothed gaps over the smoothed rows: what is
        perfectly calibrated stays on the diagonal, however wide the kernel.

    Raises
    ------
    ValueError
        As `smooth_ece`, or if there are no rows.

    References
    ----------
    Błasiok & Nakkiran, arXiv 2309.12236, section 5.

    Examples
    --------
    >>> from logitext.reliability import reliability
    >>> found = reliability([0.25] * 400 + [0.75] * 400, [0, 1] * 400)
    >>> round(found.error, 2), found.frequency[[256, 768]].round(1).tolist()
    (0.2, [0.5, 0.5])
    """
    given, came = _checked(p, hits)
    if not len(given):
        raise ValueError("there must be at least one row")
    bins = Bins(given)
    rows, gaps = bins.gathered(np.ones((1, len(given))), came)
    error = fixed_width(gaps)
    # Narrower than the grid there is nothing to see.
    width = np.maximum(error, 2 / GRID)
    probability = (np.arange(GRID) + 0.5) / GRID
    density, frequency = _curve(probability, rows, gaps, width)
    # A kernel as wide as its Gaussian is high.
    shown = density[0] * len(given) * width * np.sqrt(2 * np.pi) >= ENOUGH
    low = high = None
    if resamples:
        curves = [
            _curve(probability, *bins.gathered(weights, came), width)[1]
            for weights in _resamples(len(came), resamples, seed)
        ]
        low, high = (np.where(shown, edge, np.nan) for edge in quantiles(np.concatenate(curves)))
    return Reliability(
        probability=probability,
        frequency=np.where(shown, frequency[0], np.nan),
        low=low,
        high=high,
        density=np.maximum(density[0], 0),
        error=float(error[0]),
    )


_resamples = resamples  # where an argument has its name


def _curve(probability: Floats, rows: Floats, gaps: Floats, width: Floats) -> tuple[Floats, Floats]:
    wide = np.broadcast_to(width, len(rows))
    density = _smooth(_spectrum(rows), wide)
    # Where no row is near, rounding is all there is: the curve is not shown there.
    gap = _smooth(_spectrum(gaps), wide) / np.maximum(density, 1e-9)
    return density, np.clip(probability + gap, 0.0, 1.0)
