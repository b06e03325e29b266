"""Operations on logits: raw scores, one per class, class axis last.

With ``a = max z`` and ``s = sum(exp(z - a))`` over the others, log-sum-exp is
``a + log1p(s)``, log-softmax ``(z - a) - log1p(s)``, softmax ``exp(z - a) / (1 + s)``
(Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax
functions", IMA J. Numer. Anal. 41, 2021, section 4). Nothing overflows, a row
sums to 1, and the decision needs none of it: it is the largest logit.

``-inf`` is a masked class, with probability exactly 0. A row that is all
``-inf``, or holds ``+inf`` or NaN, is NaN in that row alone.

Arrays are read where they stand: ``float32``, ``float64``, ``float16`` and ``bfloat16``
(of ``ml_dtypes``), any strides, one row or many. Narrow types are computed in ``float32``.
Arrays of other libraries on the CPU (JAX, PyTorch, ...) come and go through DLPack. The
same bits come out for any number of threads and any CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitext import _core
from logitext.arrays import Rows, cast, place, receive, rows, send
from logitext.losses import ask, binary_cross_entropy, cross_entropy, sigmoid

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating[Any]]

__all__ = [
    "Summary",
    "argmax",
    "binary_cross_entropy",
    "cross_entropy",
    "energy",
    "entropy",
    "log_softmax",
    "logsumexp",
    "margin",
    "sigmoid",
    "softmax",
    "summarize",
    "top_k",
]

COLDEST, HOTTEST = 2.0**-16, 2.0**16
"""Beyond these temperatures the constants of single precision run out of range: double is used."""
LEAST, MOST = 1e-100, 1e100


def _at(z: Any, temperature: float) -> Rows:
    """Return logits in a format that can be divided by the temperature."""
    if not LEAST <= temperature <= MOST:
        raise ValueError(f"temperature must be above 0, from {LEAST} to {MOST}, got {temperature}")
    taken = rows(z)
    if COLDEST <= temperature <= HOTTEST or taken.format == "float64":
        return taken
    wide = rows(taken.given.astype(np.float64))
    return replace(wide, dtype=taken.dtype, home=taken.home)


def _map(z: Any, temperature: float, out: Any, log: bool) -> Any:
    if out is None and temperature == 1.0:
        answer = _core.small_softmax(z, log)
        if answer is not None:
            return answer
    logits = _at(z, temperature)
    room = place(logits, out)
    for part, work in logits.parts(room.work):
        source = None if room.source is None else part
        _core.softmax(logits.format, source, work, float(temperature), log, logits.threads)
    return room.give()


def softmax(z: ArrayLike, *, temperature: float = 1.0, out: Any = None) -> Any:
    """Turn logits into probabilities: ``exp(z / T) / sum(exp(z / T))``.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, any real dtype.
    temperature : float, default 1
        ``T > 0`` (from 1e-100 to 1e100); above 1 the probabilities are flatter. It costs no time, and no
        precision: ``z / T`` is never rounded.
    out : array, shape of z, optional
        Where to write; `z` itself is allowed.

    Returns
    -------
    array, shape of z
        Probabilities in [0, 1]; each row sums to 1. The dtype of `z` (``float64`` for
        integers); an array of the same library; `out` if it was given.

    Raises
    ------
    ValueError
        If `z` is a single number, not real or not in the CPU's memory, `temperature` is
        not above 0, or `out` has another shape or dtype, is read-only, or overlaps `z`
        without being `z`.

    Notes
    -----
    Error at most 4 units in the last place. Adding a constant to all logits changes
    nothing but what that sum rounds. The naive formula overflows where the stable one does not:

    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.array([1002.0, 1001.0, 1000.1])
    >>> with np.errstate(all="ignore"):
    ...     (np.exp(z) / np.exp(z).sum()).tolist()
    [nan, nan, nan]
    >>> lt.softmax(z).round(2).tolist()
    [0.66, 0.24, 0.1]

    `log_softmax` keeps what is too small to be told from 0 here.

    References
    ----------
    Blanchard, Higham & Higham (2021), algorithm 4.2; Milakov & Gimelshein, "Online
    normalizer calculation for softmax", 2018, section 3.

    Examples
    --------
    >>> lt.softmax([2.0, 1.0, 0.1]).round(2).tolist()
    [0.66, 0.24, 0.1]
    >>> lt.softmax([2.0, 1.0, 0.1], temperature=2.0).round(2).tolist()
    [0.5, 0.3, 0.19]
    >>> lt.softmax([2.0, 1.0, -np.inf]).round(2).tolist()  # a masked class
    [0.73, 0.27, 0.0]
    """
    return _map(z, temperature, out, log=False)


def log_softmax(z: ArrayLike, *, temperature: float = 1.0, out: Any = None) -> Any:
    """Turn logits into log-probabilities: ``z / T - logsumexp(z / T)``, in nats.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    temperature : float, default 1
        ``T > 0``.
    out : array, shape of z, optional
        Where to write; `z` itself is allowed.

    Returns
    -------
    array, shape of z
        Log-probabilities in nats, at most 0, precise near 0 as well; ``-inf`` for a masked class.

    Raises
    ------
    ValueError
        As `softmax`.

    Notes
    -----
    Where one class leads by far, its log-probability is close to 0 and must not be
    rounded to it. The logarithm of the softmax loses it, at both ends:

    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.array([20.0, 0.0, -800.0], np.float32)
    >>> with np.errstate(divide="ignore"):
    ...     np.log(lt.softmax(z)).tolist()
    [0.0, -20.0, -inf]
    >>> [f"{v:.3g}" for v in lt.log_softmax(z).tolist()]
    ['-2.06e-09', '-20', '-820']

    References
    ----------
    Blanchard, Higham & Higham (2021), section 4.

    Examples
    --------
    >>> lt.log_softmax([2.0, 1.0, 0.1]).round(3).tolist()
    [-0.417, -1.417, -2.317]
    """
    return _map(z, temperature, out, log=True)


def logsumexp(z: ArrayLike, *, temperature: float = 1.0) -> Any:
    """Return ``log(sum(exp(z / T)))`` over the last axis, in nats.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    temperature : float, default 1
        ``T > 0``.

    Returns
    -------
    array, shape (...)
        The dtype of `z` (``float64`` for integers); ``-inf`` where there are no classes.

    Raises
    ------
    ValueError
        If `z` is a single number, not real or not in the CPU's memory, or `temperature`
        is not above 0.

    Notes
    -----
    Error at most 2 units in the last place of the larger of ``|max z|`` and the result.
    It is the smooth maximum: between ``max z`` and ``max z + log(n_classes)``.

    >>> import numpy as np
    >>> import logitext as lt
    >>> with np.errstate(all="ignore"):
    ...     float(np.log(np.exp(np.float64(1000.0)) + 1))  # naive
    inf
    >>> float(lt.logsumexp([1000.0, 0.0]))
    1000.0

    References
    ----------
    Blanchard, Higham & Higham (2021), algorithm 4.1.

    Examples
    --------
    >>> float(lt.logsumexp([2.0, 1.0, 0.1]).round(3))
    2.417
    """
    logits = _at(z, temperature)
    return _numbers(logits, float(temperature), "lse", -np.inf)


def _numbers(logits: Rows, temperature: float, what: str, of_no_class: float) -> Any:
    answer = logits.room()
    if logits.classes == 0:
        empty = np.full(logits.leading, of_no_class, logits.dtype)
        return empty[()] if logits.home is None else send(logits.home, empty)
    ask(logits, {what: answer}, temperature=temperature)
    return logits.give(logits.typed(answer))


def entropy(z: ArrayLike, *, temperature: float = 1.0) -> Any:
    """Return how undecided the probabilities are: ``-sum(p * log(p))``, ``p = softmax(z / T)``.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, not probabilities.
    temperature : float, default 1
        ``T > 0``.

    Returns
    -------
    array, shape (...)
        In nats: 0 where one class has all, ``log(n_classes)`` where all are equal.

    Raises
    ------
    ValueError
        As `logsumexp`, or if there are no classes.

    Notes
    -----
    Computed as ``log1p(s) + sum(p * (a - z))``: no terms cancel, and ``0 * log(0)`` is 0.

    >>> import numpy as np
    >>> import logitext as lt
    >>> p = lt.softmax([2.0, -np.inf])
    >>> with np.errstate(all="ignore"):
    ...     float(-(p * np.log(p)).sum())  # naive
    nan
    >>> float(lt.entropy([2.0, -np.inf]))
    0.0

    References
    ----------
    Shannon, "A mathematical theory of communication", 1948, section 6.

    Examples
    --------
    >>> float(lt.entropy([2.0, 1.0, 0.1]).round(3))
    0.847
    >>> float(lt.entropy([5.0, 5.0]).round(3))  # log 2
    0.693
    """
    logits = _at(z, temperature)
    _some_class("entropy", logits)
    return _numbers(logits, float(temperature), "entropy", np.nan)


def energy(z: ArrayLike, *, temperature: float = 1.0) -> Any:
    """Return the free energy ``-T * logsumexp(z / T)``: high for what fits no class.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, as the model gave them: shifting them shifts the energy.
    temperature : float, default 1
        ``T > 0``.

    Returns
    -------
    array, shape (...)
        In the unit of the logits.

    Raises
    ------
    ValueError
        As `logsumexp`.

    References
    ----------
    Liu, Wang, Owens & Li, "Energy-based out-of-distribution detection", 2020, section 3.

    Examples
    --------
    >>> import logitext as lt
    >>> float(lt.energy([2.0, 1.0, 0.1]).round(3))
    -2.417
    >>> float(lt.energy([2.0, 1.0, 0.1], temperature=2.0).round(3))
    -3.38
    """
    given = _at(z, temperature)
    if temperature == 1 and given.home is not None:
        return -logsumexp(z)
    if temperature == 1:
        mass = logsumexp(z)
        return cast(np.asarray(-mass), mass.dtype)[()]
    if given.classes == 0:
        return -_numbers(given, 1.0, "lse", -np.inf)
    logits = given
    if given.format.endswith("16"):
        # The answer may be small where its parts are not.
        logits = replace(rows(given.given.astype(np.float32)), dtype=given.dtype, home=given.home)
    # -(max z + T log1p(s)): the loss at the largest is log1p(s), and nothing overflows on the way.
    top, above, largest = (
        logits.numbers(np.int64),
        logits.numbers(logits.format),
        logits.numbers(logits.format),
    )
    ask(logits, {"at": top, "max": largest})
    ask(logits, {"loss": above}, classes=top, temperature=float(temperature))
    answer = largest.astype(np.float64) + temperature * above.astype(np.float64)
    return logits.give(cast(-answer, logits.dtype))


def margin(z: ArrayLike) -> Any:
    """Return how far the decision leads: the largest logit minus the second largest.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.

    Returns
    -------
    array, shape (...)
        At least 0; ``inf`` where there is one class that is not masked, NaN for rows that
        are all ``-inf`` or hold ``+inf`` or NaN. ``exp(margin)`` is the ratio of the two
        probabilities.

    Raises
    ------
    ValueError
        If there are no classes, or as `logsumexp`.

    References
    ----------
    Scheffer, Decomain & Wrobel, "Active hidden Markov models for information
    extraction", 2001, section 4.

    Examples
    --------
    >>> import logitext as lt
    >>> float(lt.margin([2.0, 1.0, 0.1]))
    1.0
    """
    logits = rows(z)
    _some_class("margin", logits)
    answer = logits.room()
    for part, one in logits.parts(answer):
        _core.margin(logits.format, part, one, logits.threads)
    return logits.give(logits.typed(answer))


def _some_class(what: str, logits: Rows) -> None:
    if logits.classes == 0:
        raise ValueError(f"{what} needs at least one class, got logits of shape {logits.given.shape}")


def argmax(z: ArrayLike) -> Any:
    """Return the decision: the index of the largest logit, ties to the lowest.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, at least one class. No softmax is computed: it would not change the order.

    Returns
    -------
    int64 array, shape (...)
        A NaN counts as the largest, as in NumPy.

    Raises
    ------
    ValueError
        If there are no classes, or as `logsumexp`.

    Notes
    -----
    Probabilities are rounded, and may tie where the logits do not:

    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.array([0.0, 1e-8, 2e-8], np.float32)
    >>> int(lt.softmax(z).argmax()), int(lt.argmax(z))
    (0, 2)

    Examples
    --------
    >>> int(lt.argmax([2.0, 1.0, 0.1]))
    0
    """
    array, home = receive(z)
    if array.dtype.kind in "iub" and array.ndim and array.shape[-1]:
        # Large integers differ where their nearest floats do not.
        decision = array.argmax(axis=-1)
        return decision if home is None else send(home, np.asarray(decision))
    logits = rows(z)
    _some_class("argmax", logits)
    answer = logits.numbers(np.int64)
    for part, one in logits.parts(answer):
        _core.argmax(logits.format, part, one.reshape(-1), logits.threads)
    return logits.give(answer)


def top_k(z: ArrayLike, k: int) -> tuple[Any, Any]:
    """Return the `k` largest logits and their classes, largest first, ties to the lowest index.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits.
    k : int
        ``1 <= k <= n_classes``.

    Returns
    -------
    values : array, shape (..., k)
    indices : int64 array, shape (..., k)
        A NaN counts as the largest.

    Raises
    ------
    ValueError
        If `k` is out of range, or as `logsumexp`.

    Notes
    -----
    The row is read once; what cannot be among the `k` is passed over a vector at a time.

    Examples
    --------
    >>> import logitext as lt
    >>> values, indices = lt.top_k([0.1, 2.0, 1.0], 2)
    >>> values.tolist(), indices.tolist()
    ([2.0, 1.0], [1, 2])
    """
    logits = rows(z)
    if not 1 <= k <= logits.classes:
        raise ValueError(f"k must be in [1, n_classes], got {k} for logits of shape {logits.given.shape}")
    if logits.given.dtype.kind in "iub":
        # Large integers differ where their nearest floats do not. A stable sort of the reversed
        # row, reversed: equal ones stay in the order of their classes.
        backwards = np.argsort(logits.given[..., ::-1], axis=-1, kind="stable")[..., ::-1]
        chosen = logits.classes - 1 - backwards[..., :k]
    else:
        chosen = np.empty((*logits.array.shape[:-1], k), np.int64)
        for part, one in logits.parts(chosen):
            _core.top_k(logits.format, part, one, logits.threads)
        if logits.moved is not None:
            chosen = np.moveaxis(chosen, -2, logits.moved)
    values = np.take_along_axis(logits.given, chosen, axis=-1)
    return send(logits.home, values), send(logits.home, np.ascontiguousarray(chosen))


class Summary(NamedTuple):
    """What `summarize` found, one number per row."""

    logsumexp: Any
    """In nats."""
    argmax: Any
    """The decision."""
    max: Any
    """The largest logit."""
    entropy: Any
    """In nats."""
    loss: Any
    """In nats; None without labels."""


def summarize(z: ArrayLike, y: ArrayLike | None = None, *, temperature: float = 1.0) -> Summary:
    """Find log-sum-exp, decision, largest logit, entropy and loss of each row, reading it once.

    Parameters
    ----------
    z : array, shape (..., n_classes)
        Logits, at least one class.
    y : int array, shape (...), optional
        The true class of each row; or the probability of each class, shape of z.
    temperature : float, default 1
        ``T > 0``. Log-sum-exp, entropy and loss are those of ``z / T``.

    Returns
    -------
    Summary
        Named arrays of shape (...): ``logsumexp``, ``argmax``, ``max``, ``entropy``, ``loss``.

    Raises
    ------
    ValueError
        As `logsumexp`, `argmax` and `cross_entropy`.

    Notes
    -----
    On arrays larger than the caches the time is that of reading them; each of the five
    by itself would read them again.

    Examples
    --------
    >>> import logitext as lt
    >>> found = lt.summarize([[2.0, 1.0, 0.1], [0.0, 3.0, 1.0]], [0, 2])
    >>> found.argmax.tolist(), found.loss.round(3).tolist()
    ([0, 1], [0.417, 2.17])
    >>> found.entropy.round(3).tolist()
    [0.847, 0.524]
    """
    logits = _at(z, temperature)
    _some_class("summarize", logits)
    wanted = {name: logits.room() for name in ("lse", "max", "entropy")}
    wanted["at"] = logits.numbers(np.int64)
    if y is not None:
        wanted["loss"] = logits.room()
    ask(logits, wanted, y=y, temperature=float(temperature))
    return Summary(
        logits.give(logits.typed(wanted["lse"])),
        logits.give(wanted["at"]),
        logits.give(logits.typed(wanted["max"])),
        logits.give(logits.typed(wanted["entropy"])),
        None if y is None else logits.give(logits.typed(wanted["loss"])),
    )
