"""How well each label conforms to a row of logits: the larger, the sooner it is in the row's set.

Conformal prediction takes any such number; only ranks among calibration rows matter. The literature
counts the other way, by what does *not* conform; kept this way round the numbers that decide, those
close to 0, are not rounded off at 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["adaptive", "row_numbers"]


def adaptive(
    log_p: NDArray[Any], numbers: NDArray[np.float64], *, penalty: float, free_ranks: int
) -> NDArray[np.float64]:
    """Return what APS and RAPS count: the probability that is left beyond a label.

    Parameters
    ----------
    log_p : array, shape (n, n_classes)
        Log-probabilities in nats; ``-inf`` for a masked class.
    numbers : float64 array, shape (n,)
        One in [0, 1] a row: the share of the label's own probability that is used up. Of 0 the decision
        conforms as well as can be, in every row.
    penalty : float
        Taken off for each rank after the first `free_ranks`: RAPS. Of 0: APS.
    free_ranks : int

    Returns
    -------
    float64 array, shape (n, n_classes)
        ``1 - score``, where ``score = sum(p of labels ranked before) + number * p + penalty *
        max(0, rank - free_ranks)``; ``-inf`` for a masked class.

    Notes
    -----
    What is left is added up from the least probable label, so that it is precise where nearly
    nothing is left: of a sure row, the sum itself would be 1 for every label after the first.

    References
    ----------
    Romano, Sesia & Candès, "Classification with valid and adaptive coverage", NeurIPS 2020;
    Angelopoulos, Bates, Malik & Jordan, "Uncertainty sets for image classifiers using conformal
    prediction", ICLR 2021, section 2.

    Examples
    --------
    >>> log_p = np.log([[0.7, 0.2, 0.1]])
    >>> adaptive(log_p, np.array([1.0]), penalty=0.0, free_ranks=0).round(3).tolist()
    [[0.3, 0.1, 0.0]]
    >>> adaptive(log_p, np.array([0.5]), penalty=0.01, free_ranks=1).round(3).tolist()
    [[0.65, 0.19, 0.03]]
    """
    order = np.argsort(-log_p, axis=1, kind="stable")
    ranked = np.exp(np.take_along_axis(log_p, order, axis=1).astype(np.float64))
    left = np.zeros_like(ranked)
    left[:, :-1] = ranked[:, :0:-1].cumsum(axis=1)[:, ::-1]
    left += (1 - numbers)[:, None] * ranked
    left[numbers == 0, 0] = 1  # The sum of all, which rounding must not make different from row to row.
    left -= penalty * np.maximum(0, np.arange(1, left.shape[1] + 1) - free_ranks)
    found = np.empty_like(left)
    np.put_along_axis(found, order, left, axis=1)
    found[np.isneginf(log_p)] = -np.inf
    return found


def row_numbers(z: NDArray[Any], seed: int | None) -> NDArray[np.float64]:
    """Return a number in (0, 1) for each row that nothing but its logits and the seed decide.

    Parameters
    ----------
    z : array, shape (n, n_classes)
        Logits.
    seed : int or None
        None: 0 for each row.

    Returns
    -------
    float64 array, shape (n,)
        Uniform as far as anyone can tell; the same for the same row, in whatever array it stands.

    Notes
    -----
    The bits of the logits times odd constants, summed modulo 2**64, then SplitMix64's last steps
    (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

    Examples
    --------
    >>> z = np.array([[2.0, 1.0, 0.1], [0.0, 3.0, 1.0], [2.0, 1.0, 0.1]])
    >>> a, b, c = row_numbers(z, 0).tolist()
    >>> a == c, a == b, [a] == row_numbers(z[:1], 0).tolist()
    (True, False, True)
    """
    if seed is None:
        return np.zeros(len(z))
    factors = np.random.SeedSequence(seed).generate_state(z.shape[1], np.uint64) | np.uint64(1)
    # Adding 0 makes +0 of -0: they are one number and must not be two rows.
    bits = (z.astype(np.float64) + 0.0).view(np.uint64)
    h = (bits * factors).sum(axis=1, dtype=np.uint64)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    numbers: NDArray[np.float64] = ((h >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers
