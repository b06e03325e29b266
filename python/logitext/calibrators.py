"""Calibrator: logits whose softmax means what it says, from anyone's logits, decisions kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from logitext.arrays import receive
from logitext.choosing import CHOOSING, FOLDS, Folds, choose
from logitext.decisions import applied
from logitext.logits import argmax, softmax
from logitext.scalings import MATRIX_CLASSES, METHODS, TWO_CLASSES, Scaling, fit_scaling

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating[Any]]
    Method = Literal["auto", "identity", "temperature", "affine", "quadratic", "vector", "matrix"]

__all__ = ["Calibrator"]


class Calibrator:
    """Logits → calibrated logits, fitted on rows the model did not learn from.

    Works on any model's logits. `fit` and `transform` are scikit-learn's.

    Parameters
    ----------
    method : str, default "auto"
        "identity", "temperature", "affine" or "quadratic" (of two classes), "vector" or
        "matrix" (of up to 100 classes): see `docs/calibration.md`. "auto" compares them by
        cross-fitted log loss, from simpler to richer; a richer one must be better for sure. On
        fewer than 1,000 rows it fits a temperature or nothing.
    preserve_decision : bool, default True
        The largest calibrated logit of a row is where its largest logit is. Where the map would
        change it, the classes that overtake the decision and the decision share their probability
        alike: of all distributions that keep the decision it is the closest.

    Attributes
    ----------
    method_ : str
        What was fitted.
    temperature_ : float
        1 for "identity".
    scale_, bias_ : float32 array, shape (n_classes,), or None
        Of each class's log-probability at that temperature.
    matrix_ : float32 array, shape (n_classes, n_classes), or None
        What each class (down) takes of the log-probabilities of others (across).
    n_classes_ : int
    comparison_ : dict of str to float
        Cross-fitted log loss of the methods compared, in nats; empty if none were.

    Examples
    --------
    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.array([[4.0, 0.0, 0.0]] * 1200)  # always 96 % sure, and right in three of four
    >>> y = np.array([0, 0, 0, 1] * 300)
    >>> calibrator = lt.Calibrator(method="temperature").fit(z, y)
    >>> calibrator.predict_proba(z[:1]).round(2).tolist()
    [[0.75, 0.12, 0.12]]
    >>> lt.Calibrator().fit(z, y).predict_proba(z[:1]).round(2).tolist()  # what is not 0 is 1
    [[0.75, 0.25, 0.0]]
    """

    method_: str
    n_classes_: int
    comparison_: dict[str, float]

    def __init__(self, *, method: Method = "auto", preserve_decision: bool = True) -> None:
        self.method = method
        self.preserve_decision = preserve_decision

    def fit(self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose a method, if that is wanted, and fit it on all rows.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits of at least one row. ``-inf`` is a masked class.
        y : int array, shape (n,)
            Their classes. Not every class must be there.
        sample_weight : array, shape (n,), optional
            At least 0; of 2 a row counts as two.

        Returns
        -------
        Calibrator
            Itself.

        Raises
        ------
        ValueError
            If there are no rows; a logit is NaN or ``+inf``, or all of a row are masked, or its
            true class is; labels are not integers in ``[0, n_classes)``, one per row; weights are
            negative, not finite or all 0; or the method is unknown or not for so many classes.
        """
        self._fit(z, y, sample_weight)
        return self

    def _fit(self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Folds:
        """Fit, and return what folds of the rows were given to compare methods, if that was wanted."""
        logits = _checked(z)
        labels = _labels(y, logits)
        weights = _weights(sample_weight, len(logits))
        n, classes = logits.shape
        if n == 0:
            raise ValueError("there must be at least one row to calibrate on")
        if self.method != "auto":
            _check_method(self.method, classes)
        self.method_, self.comparison_ = self.method, {}
        keep = self.preserve_decision
        folds = Folds(logits, labels, weights, keep=keep)
        compared, apart = folds, logits.size // CHOOSING
        if self.method == "auto":
            if apart > 1:
                some = None if weights is None else weights[::apart]
                compared = Folds(logits[::apart], labels[::apart], some, keep=keep)
            self.method_, self.comparison_ = choose(compared)
        self.n_classes_ = classes
        near = compared.whole.get(self.method_)
        known = near.temperature if near is not None and compared is folds else None
        self.scaling_ = fit_scaling(self.method_, logits, labels, weights, near=near, temperature=known)
        return folds

    def transform(self, z: ArrayLike) -> Floats:
        """Return calibrated logits.

        Parameters
        ----------
        z : array, shape (n, n_classes)

        Returns
        -------
        float array, shape (n, n_classes)
            float32 if `z` is, else float64. A masked class stays masked.

        Raises
        ------
        ValueError
            If nothing was fitted; there is another number of classes; or a logit is NaN or ``+inf``,
            or all of a row are masked.
        """
        map_ = self._fitted()
        logits = _checked(z)
        if logits.shape[1] != self.n_classes_:
            raise ValueError(f"fitted on logits of {self.n_classes_} classes, got {logits.shape[1]}")
        return applied(map_, logits, keep=self.preserve_decision)

    def predict_proba(self, z: ArrayLike) -> Floats:
        """Return calibrated probabilities; the largest is at the decision, if decisions are preserved.

        Parameters
        ----------
        z : array, shape (n, n_classes)

        Returns
        -------
        float array, shape (n, n_classes)
            As `transform`; each row sums to 1.

        Raises
        ------
        ValueError
            As `transform`.
        """
        return self.softmax(self.transform(z))

    def softmax(self, calibrated: Floats) -> Floats:
        """Return the probabilities of calibrated logits: what `predict_proba` does after `transform`.

        Parameters
        ----------
        calibrated : float array, shape (n, n_classes)

        Returns
        -------
        float array, shape (n, n_classes)
        """
        decided = argmax(calibrated)
        found: Floats = softmax(calibrated)
        # Logits that differ may round to the same probability.
        late = np.flatnonzero(argmax(found) != decided)
        if self.preserve_decision and late.size:
            found[late, decided[late]] = np.nextafter(found[late].max(axis=1), found.dtype.type(2))
        return found

    def fit_transform(self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Floats:
        """Fit, and return calibrated logits of the same rows; see `fit` and `transform`."""
        return self.fit(z, y, sample_weight).transform(z)

    def _fitted(self) -> Scaling:
        if not self.__sklearn_is_fitted__():
            raise ValueError("this Calibrator is not fitted yet: call fit first")
        return self.scaling_

    @property
    def temperature_(self) -> float:
        return self._fitted().temperature

    @property
    def scale_(self) -> NDArray[np.float32] | None:
        return self._fitted().scale

    @property
    def bias_(self) -> NDArray[np.float32] | None:
        return self._fitted().bias

    @property
    def matrix_(self) -> NDArray[np.float32] | None:
        return self._fitted().matrix

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return what was fitted, for a file.

        Returns
        -------
        state : dict
            As JSON has it.
        arrays : dict of str to float32 array
            Those there are of ``scale`` and ``bias`` (n_classes,), ``matrix`` (n_classes, n_classes).
        """
        map_ = self._fitted()
        state: dict[str, Any] = {
            "method": map_.method,
            "temperature": map_.temperature,
            "n_classes": self.n_classes_,
            "preserve_decision": self.preserve_decision,
        }
        if map_.method == "quadratic":
            state |= {"curve": map_.curve, "span": list(map_.span)}
        arrays = {"scale": map_.scale, "bias": map_.bias, "matrix": map_.matrix}
        return state, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], arrays: Mapping[str, ArrayLike]) -> Self:
        """Return the calibrator that `to_state` told of.

        Parameters
        ----------
        state : mapping
        arrays : mapping of str to array

        Returns
        -------
        Calibrator
            Fitted; the same bits come out of it.

        Raises
        ------
        ValueError
            If they are not as `to_state` returns them.
        """
        map_, classes, keep = _read(state, arrays)
        made = cls(method=map_.method, preserve_decision=keep)  # type: ignore[arg-type]
        made.method_, made.n_classes_, made.comparison_, made.scaling_ = map_.method, classes, {}, map_
        return made

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments (`deep` is part of the protocol)."""
        return {"method": self.method, "preserve_decision": self.preserve_decision}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name.

        Raises
        ------
        ValueError
            If there is no such argument.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(f"Calibrator has no argument {name!r}: it has method, preserve_decision")
            setattr(self, name, value)
        return self

    def cross_fit_transform(
        self, z: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Floats:
        """Fit, and return calibrated logits of the same rows, each fifth by a map fitted on the others.

        So what is measured on them is near to what new rows would show.

        Parameters
        ----------
        z, y, sample_weight : arrays
            As `fit` takes them.

        Returns
        -------
        float array, shape (n, n_classes)
            Of fewer than 10 rows as `transform` would.

        Raises
        ------
        ValueError
            As `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> import logitext as lt
        >>> z, y = np.array([[2.0, 0.0]] * 50), np.array([0, 1, 0, 0, 1] * 10)
        >>> calm = lt.Calibrator(method="temperature").cross_fit_transform(z, y)
        >>> lt.softmax(calm[:1]).round(1).tolist()
        [[0.6, 0.4]]
        """
        folds = self._fit(z, y, sample_weight)
        if len(folds.y) < 2 * FOLDS:
            return self.transform(z)
        found: Floats = folds.z if self.method_ == "identity" else folds.calibrated(self.method_)
        return found.astype(folds.z.dtype, copy=False)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scaling_")

    def __repr__(self) -> str:
        usual = type(self)().get_params()
        changed = (f"{k}={v!r}" for k, v in self.get_params().items() if v != usual[k])
        return f"Calibrator({', '.join(changed)})"


def _check_method(method: str, classes: int) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be auto, {', '.join(METHODS[:-1])} or {METHODS[-1]}, got {method!r}")
    if method in TWO_CLASSES and classes != 2:
        raise ValueError(f'"{method}" is for two classes, got {classes}: use "vector"')
    if method == "matrix" and classes > MATRIX_CLASSES:
        raise ValueError(f'"matrix" is for up to {MATRIX_CLASSES} classes, got {classes}: use "vector"')


def _checked(z: Any) -> Floats:
    """Return logits as floats; refuse what cannot be calibrated."""
    logits, _ = receive(z)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be of shape (n, n_classes), at least one class, got {logits.shape}")
    if logits.dtype.kind not in "iubf" and logits.dtype.name != "bfloat16":
        raise ValueError(f"logits must be real numbers, got dtype {logits.dtype}")
    if logits.dtype != np.float32:
        logits = logits.astype(np.float64, copy=False)
    highest = logits.max(axis=1)  # NaN if any is
    wrong = ~np.isfinite(highest)
    if wrong.any():
        row = int(wrong.argmax())
        what = "every class is masked" if highest[row] < 0 else f"a logit is {highest[row]}"
        raise ValueError(f"logits must be finite, or -inf for a masked class: {what} at row {row}")
    return logits


def _labels(y: Any, logits: Floats) -> NDArray[np.int64]:
    labels, _ = receive(y)
    n, classes = logits.shape
    if labels.dtype.kind not in "iu" and labels.size:
        raise ValueError(f"labels must be integers in [0, {classes}), got dtype {labels.dtype}")
    if labels.shape != (n,):
        raise ValueError(f"labels must be one per row: logits {logits.shape}, labels {labels.shape}")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"labels must be integers in [0, {classes}), got {labels[row]} at row {row}")
    labels = labels.astype(np.int64)
    masked = np.isneginf(logits[np.arange(n), labels])
    if masked.any():
        raise ValueError(f"the true class is masked (-inf) at row {int(masked.argmax())}")
    return labels


def _weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    if sample_weight is None:
        return None
    given, _ = receive(sample_weight)
    if given.shape != (n,) or given.dtype.kind not in "iubf":
        raise ValueError(f"sample_weight must be {n} numbers, got {given.dtype} of shape {given.shape}")
    weights: NDArray[np.float64] = given.astype(np.float64)
    wrong = ~((weights >= 0) & np.isfinite(weights))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"sample_weight must be finite and at least 0, got {given[row]} at row {row}")
    if n and not weights.any():
        raise ValueError("sample_weight must not be 0 in every row")
    return weights


def _read(state: Mapping[str, Any], arrays: Mapping[str, Any]) -> tuple[Scaling, int, bool]:
    """Check what may come from a file."""
    method, classes, keep = (state.get(key) for key in ("method", "n_classes", "preserve_decision"))
    curved = method == "quadratic"
    wanted = {
        "method",
        "temperature",
        "n_classes",
        "preserve_decision",
        *(("curve", "span") if curved else ()),
    }
    span = state.get("span", [0.0, 0.0])
    numbers = [state.get("temperature"), state.get("curve", 0.0), *(span if isinstance(span, list) else ())]
    if (
        set(state) != wanted
        or type(classes) is not int
        or type(keep) is not bool
        or not isinstance(method, str)
        or not classes >= 1
        or len(numbers) != 4
        or any(type(number) not in (int, float) or not math.isfinite(number) for number in numbers)
        or not numbers[0] > 0
        or not numbers[2] <= numbers[3]
    ):
        raise ValueError(f"not the state of a Calibrator: {dict(state)}")
    _check_method(method, classes)
    shapes = {"scale": (classes,), "bias": (classes,), "matrix": (classes, classes)}
    names = {"identity": (), "temperature": (), "matrix": tuple(shapes)}.get(method, ("scale", "bias"))
    if set(arrays) != set(names):
        raise ValueError(f"{method} has the arrays {sorted(names)}, got {sorted(arrays)}")
    found: dict[str, Any] = {name: np.asarray(arrays[name], np.float32) for name in names}
    for name, array in found.items():
        if array.shape != shapes[name] or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, of shape {shapes[name]}, got shape {array.shape}")
    temperature, curve, *ends = map(float, numbers)
    return Scaling(method, temperature, **found, curve=curve, span=(ends[0], ends[1])), classes, keep
