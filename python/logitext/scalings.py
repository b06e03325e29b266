"""Maps from logits to logits with few parameters, each fitted as one convex problem.

All begin at the best temperature: with ``x = log_softmax(z / T)`` the calibrated logits are

- *temperature*: ``z / T``;
- *vector*: ``scale[k] * x[k] + bias[k]``; of two classes this is beta calibration;
- *affine*, of two classes: the same with one scale, which is Platt's on the margin;
- *quadratic*, of two classes: and the margin's square;
- *matrix*: and, for each pair of classes, a share of the other's ``x``.

What is fitted beyond the temperature is shrunk towards it by a ridge, so that a class without rows
keeps what the temperature gives, and nothing runs away. Of ``x`` a constant added to a row is gone, and
what a mask of -1e9 leaves is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitext.calibration import fit_temperature
from logitext.descent import minimise
from logitext.logits import cross_entropy, log_softmax, softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

METHODS = ("identity", "temperature", "affine", "quadratic", "vector", "matrix")
TWO_CLASSES = ("affine", "quadratic")
MATRIX_CLASSES = 100
"""Beyond, a matrix has more numbers than there ever are rows."""
LEAST = -87.0
"""Least of `x`: about the logarithm of the smallest float32."""
LEAST_SAID = -16.0
"""Least of `x` that another class's logit is told: one in ten million is as good as never. A masked
class says this."""
AT_ONCE = 1 << 18
"""Logits brought to double precision at a time."""
KEPT = 1 << 22
"""So many are prepared once for all passes."""
ENOUGH = 1 << 24
"""The temperature that others begin at is fitted on rows with so many logits."""
BENDS = 1 << 24
"""Multiplications for the curvature of a matrix's parameters, about."""
SMALL_PRODUCT = 1 << 18
"""Multiplications of a product of matrices that BLAS leaves to one thread."""
TOLERANCE = 1e-10
"""Nats a row that are not worth another step."""
DIGITS = 6
"""Of parameters, after the point: fewer than rounding can move."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """A map from logits to logits."""

    method: str
    temperature: float = 1.0
    scale: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    matrix: NDArray[np.float32] | None = None
    """What each class (down) takes of the others (across); 0 on the diagonal."""
    curve: float = 0.0
    span: tuple[float, float] = (0.0, 0.0)
    """The margins met; the square stays what it is at the ends of these."""
    parameters: F64 | None = None
    """What was fitted beyond the temperature, unrounded: where a fit on nearly the same rows begins."""
    curvature: F64 | None = None
    """And how the loss of a row bends, about: see `Form.curvature`."""

    def __call__(self, z: NDArray[Any]) -> NDArray[Any]:
        """Return calibrated logits of a block of rows, in double precision."""
        given = np.asarray(z, np.float64)
        if self.method == "identity":
            return given
        if self.scale is None or self.bias is None:
            with np.errstate(over="ignore"):
                return given / self.temperature
        x = prepared(given, self.temperature)
        found = x * self.scale + self.bias
        if self.matrix is not None:
            told = np.maximum(x, LEAST_SAID)
            # Class by class, not by BLAS: its bits depend on how many rows there are.
            for other, shares in enumerate(self.matrix.T):
                found += told[:, other, None] * shares
        if self.curve:
            margin = np.clip(x[:, 1] - x[:, 0], *self.span)
            half = self.curve / 2 * margin * margin
            found[:, 0] -= half
            found[:, 1] += half
        found[np.isneginf(given)] = -np.inf
        return found

    @property
    def light(self) -> bool:
        """Whether single precision is enough, and nothing leaves its range: few operations on each logit."""
        plain = self.scale is not None and self.matrix is None and not self.curve
        return plain and bool(np.abs(self.scale).max() < 1e9)  # type: ignore[arg-type]

    def lightly(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same in single precision, of maps that are `light`: several times faster."""
        x = prepared(z, self.temperature)
        x *= self.scale
        x += self.bias
        masked = z == -np.inf
        if masked.any():
            x[masked] = -np.inf
        return x


def prepared(z: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Return log-probabilities at the temperature, none of them too small to work with."""
    x: NDArray[Any] = log_softmax(z, temperature=temperature)
    np.maximum(x, x.dtype.type(LEAST), out=x)
    return x


class Form(NamedTuple):
    """How parameters move the logits; all are linear in them, so the loss is convex."""

    features: Callable[[F64], F64]
    """`x` → what the parameters are multiplied by."""
    move: Callable[[F64, F64], F64]
    """Features, parameters → what is added to `x`."""
    pull: Callable[[F64, F64], F64]
    """Features, gradient by the logits → gradient by the parameters."""
    curvature: Callable[[F64, F64], F64]
    """Features, curvatures of the logits → those of the parameters of each class, (n_classes, p, p), of
    parameters (p, n_classes); of two classes (1, p, p)."""
    ridge: F64
    """Weight of each parameter's square, in nats of all rows together."""


def form(method: str, classes: int, margin: float = 1.0) -> Form:
    """Return how a method moves logits; `margin` is the largest met."""
    k = float(classes)
    if method == "vector":
        return Form(
            features=lambda x: x,
            move=lambda f, at: f * at[0] + at[1],
            pull=lambda f, d: np.stack([(f * d).sum(axis=0), d.sum(axis=0)]),
            curvature=_of_lines,
            ridge=np.full((2, classes), k),
        )
    if method == "matrix":
        ridge = np.full((classes + 1, classes), k * (k - 1))
        ridge[np.diag_indices(classes)] = ridge[-1] = k
        said = lambda x: np.stack([x, np.maximum(x, LEAST_SAID)])  # noqa: E731
        return Form(features=said, move=_mix, pull=_unmix, curvature=_of_mixes, ridge=ridge)
    powers = 2 if method == "affine" else 3
    # The square over the largest margin: then its parameter changes slopes as much as the second does.
    return Form(
        features=lambda x: _powers(x[:, 1] - x[:, 0], margin)[:, :powers],
        move=lambda f, at: (f * at).sum(axis=1, keepdims=True) * (-0.5, 0.5),
        pull=lambda f, d: (f * d[:, 1:]).sum(axis=0),
        curvature=lambda f, d: np.einsum("ni,nj,n->ij", f, f, d[:, 1])[None],
        ridge=np.full(powers, k),
    )


def _powers(margin: F64, largest: float) -> F64:
    return np.stack([np.ones_like(margin), margin, margin * margin / largest], axis=1)


def _mix(f: F64, at: F64) -> F64:
    """Each logit by its own parameter, those of others by theirs; the last row is the bias."""
    x, told = f
    shares = at[:-1].copy()
    np.fill_diagonal(shares, 0)
    whole, rest = _parts(told)
    others: F64 = np.concatenate([(whole @ shares).reshape(-1, len(shares)), rest @ shares])
    others += x * at.diagonal() + at[-1]
    return others


def _unmix(f: F64, d: F64) -> F64:
    x, told = f
    (whole, rest), (by_whole, by_rest) = _parts(told), _parts(d)
    found = np.empty((x.shape[1] + 1, x.shape[1]))
    found[:-1] = (whole.transpose(0, 2, 1) @ by_whole).sum(axis=0) + rest.T @ by_rest
    np.fill_diagonal(found, (x * d).sum(axis=0))
    found[-1] = d.sum(axis=0)
    return found


def _of_lines(f: F64, d: F64) -> F64:
    bends = (f * f * d).sum(axis=0), (f * d).sum(axis=0), d.sum(axis=0)
    return np.stack([bends[:2], bends[1:]]).transpose(2, 0, 1)


def _of_mixes(f: F64, d: F64) -> F64:
    x, told = f
    n, classes = x.shape
    # Where the first steps go need not be known from more rows.
    apart = max(1, n * classes**3 // BENDS)
    x, told, d = x[::apart], told[::apart], d[::apart]
    found = np.empty((classes, classes + 1, classes + 1))
    for k in range(classes):
        own = np.concatenate([told, np.ones((len(x), 1))], axis=1)
        own[:, k] = x[:, k]
        (whole, rest), (by_whole, by_rest) = _parts(own), _parts(own * d[:, k, None])
        found[k] = (whole.transpose(0, 2, 1) @ by_whole).sum(axis=0) + rest.T @ by_rest
    found *= n / len(x)
    return found


def _parts(rows: F64) -> tuple[F64, F64]:
    """Return rows in groups whose products BLAS leaves to one thread, and the rest."""
    classes = rows.shape[1]
    size = max(1, SMALL_PRODUCT // classes**2)
    whole = len(rows) // size * size
    return rows[:whole].reshape(-1, size, classes), rows[whole:]


def fit_scaling(
    method: str,
    z: NDArray[Any],
    y: NDArray[np.integer[Any]],
    weights: F64 | None = None,
    *,
    strength: float = 1.0,
    tolerance: float = TOLERANCE,
    temperature: float | None = None,
    near: Scaling | None = None,
) -> Scaling:
    """Fit one method by log loss.

    Parameters
    ----------
    method : {"identity", "temperature", "affine", "quadratic", "vector", "matrix"}
    z : float array, shape (n, n_classes)
        Logits of rows the model did not learn from, each true class finite.
    y : int array, shape (n,)
    weights : float64 array, shape (n,), optional
        Of two a row counts twice.
    strength : float, default 1
        Of the ridge: the mean loss has ``strength * K / n`` times the squares of what scale and
        bias differ by from 1 and 0, and ``strength * K * (K - 1) / n`` of the matrix.
    tolerance : float
        Nats a row: it ends where a step promises less.
    temperature : float, optional
        The best of these rows, where it is known already.
    near : Scaling, optional
        The same method fitted on nearly the same rows: from there it is a few steps.

    Returns
    -------
    Scaling

    References
    ----------
    Berta, Holzmüller, Jordan & Bach, "Structured matrix scaling for multi-class calibration",
    AISTATS 2026: the ridge and where it leads. Kull, Silva Filho & Flach, "Beta calibration",
    AISTATS 2017. Platt, "Probabilistic outputs for support vector machines", 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from logitext.scalings import fit_scaling
    >>> z, y = np.array([[0.0, 4.0], [0.0, -4.0]] * 4000), np.array([1, 0, 1, 0, 1, 0, 0, 0] * 1000)
    >>> found = fit_scaling("affine", z, y)([[0.0, 4.0], [0.0, -4.0]])
    >>> (found[:, 1] - found[:, 0]).round(1).tolist()  # log 3: three of four; never, after 4,000 rows
    [1.1, -6.4]
    """
    if method == "identity":
        return Scaling(method)
    if temperature is None:
        apart = max(1, z.size // ENOUGH) if method != "temperature" else 1
        some = None if weights is None else weights[::apart]
        start = 1.0 if near is None else near.temperature
        temperature = fit_temperature(z[::apart], y[::apart], sample_weight=some, start=start)
    if method == "temperature":
        return Scaling(method, temperature)

    n, classes = z.shape
    step = max(1, AT_ONCE // classes)
    cuts = [slice(begin, begin + step) for begin in range(0, n, step)]
    span = (0.0, 0.0)
    if method == "quadratic":
        for cut in cuts:
            x = prepared(np.asarray(z[cut], np.float64), temperature)
            margin = x[:, 1] - x[:, 0]
            span = min(span[0], float(margin.min())), max(span[1], float(margin.max()))
    largest = max(1.0, -span[0], span[1])
    map_ = form(method, classes, largest)
    ridge = strength * map_.ridge

    def parts() -> Iterator[tuple[F64, F64, slice]]:
        for cut in cuts:
            x = prepared(np.asarray(z[cut], np.float64), temperature)
            yield x, map_.features(x), cut

    kept = list(parts()) if z.size <= KEPT else None

    def loss(at: F64) -> tuple[float, F64]:
        value, gradient = float((ridge * at * at).sum()), 2 * ridge * at
        for x, f, cut in kept or parts():
            u = x + map_.move(f, at)
            some = None if weights is None else weights[cut]
            terms: Any = {"sample_weight": some, "reduction": "sum", "return_grad": True, "out": u}
            one, d = cross_entropy(u, y[cut], **terms)
            value += one
            gradient += map_.pull(f, d)
        return value, gradient

    total = float(n if weights is None else weights.sum())
    begin = np.zeros_like(ridge) if near is None or near.parameters is None else near.parameters
    curvature = None if near is None else near.curvature
    if curvature is None:
        curvature = np.zeros(())
        for x, f, cut in kept or parts():
            bend = softmax(x)
            bend *= 1 - bend
            if weights is not None:
                bend *= weights[cut, None]
            curvature = curvature + map_.curvature(f, bend) / total
    pulled = ridge.reshape(len(ridge), -1).T
    inverse = np.linalg.inv(total * curvature + 2 * pulled[:, :, None] * np.eye(len(ridge)))

    def times_inverse(gradient: F64) -> F64:
        by_class = gradient.reshape(len(gradient), -1).T
        found: F64 = (inverse @ by_class[:, :, None])[:, :, 0].T.reshape(gradient.shape)
        return found

    at = minimise(loss, begin, times_inverse, tolerance=tolerance * total)
    found = _scaling(method, temperature, at, classes, span, largest)
    return replace(found, parameters=at, curvature=curvature)


def _scaling(
    method: str, temperature: float, at: F64, classes: int, span: tuple[float, float], largest: float
) -> Scaling:
    """Return the map that parameters stand for."""
    if method == "vector":
        return Scaling(method, temperature, _rounded(1 + at[0]), _rounded(at[1]))
    if method == "matrix":
        matrix = at[:-1].T.copy()
        np.fill_diagonal(matrix, 0)
        scale = 1 + at[:-1].diagonal()
        return Scaling(method, temperature, _rounded(scale), _rounded(at[-1]), _rounded(matrix))
    bias, slope, *curve = at.tolist()
    lines = _rounded(np.full(2, 1 + slope)), _rounded(np.array([-bias / 2, bias / 2]))
    if not curve:
        return Scaling(method, temperature, *lines)
    bent = float(f"{curve[0] / largest:.7g}")
    return Scaling(method, temperature, *lines, curve=bent, span=span)


def _rounded(parameters: F64) -> NDArray[np.float32]:
    # Adding 0 makes of -0 a 0.
    return (parameters.round(DIGITS) + 0.0).astype(np.float32)
