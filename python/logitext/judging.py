"""What is said after the logits, by a model of any kind: calibrated, and judged by held-out rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from logitext.calibrators import Calibrator
from logitext.evaluation import log_loss
from logitext.evidence import MOST, OF_SMALL, Evidence, HeldRows
from logitext.explanation import Explanation, Share
from logitext.logits import argmax, sigmoid, softmax
from logitext.modelschema import CALIBRATION, EVIDENCE, format_version

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

CALIBRATOR = ("method", "temperature", "curve", "span")
"""What a header says of a calibration, beside its arrays."""
PLAIN = ("identity", "temperature")
"""Calibrations that a softmax makes by the way."""

M = TypeVar("M", bound="Judged")


@dataclass(frozen=True)
class Judged(ABC):
    """Arrays by name, what the header says of them, and all that does not depend on what made the logits."""

    arrays: dict[str, NDArray[Any]]
    header: dict[str, Any]

    # What each kind does in its own way.

    @property
    @abstractmethod
    def features(self) -> dict[str, Any]:
        """How text becomes features, and how many of each block are known."""

    @abstractmethod
    def logits(self, texts: pa.LargeStringArray, threads: int) -> NDArray[np.float32]:
        """Return logits, shape (n, n_classes)."""

    @abstractmethod
    def read(
        self, texts: pa.LargeStringArray, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and how much of each text is known and how much is not, shape (n, 2)."""

    @abstractmethod
    def explain(self, text: str) -> Explanation:
        """Return what each n-gram of a text adds to each logit."""

    @abstractmethod
    def strongest_ngrams(self, code: int, most: int) -> list[Share]:
        """Return the n-grams that speak most for a class, the strongest first."""

    # What all do alike.

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all of it, in hexadecimal digits."""
        return str(self.header["checksum"])

    @property
    def classes(self) -> list[Any]:
        """The labels, sorted."""
        return list(self.header["classes"])

    @property
    def temperature(self) -> float:
        """The logits over it are calibrated."""
        calibration = self.header["calibration"]
        return float(calibration["temperature"]) if calibration else 1.0

    @property
    def shift(self) -> float:
        """Added to the logits over the temperature, where a text may have several labels."""
        calibration = self.header["calibration"]
        return float(calibration.get("shift", 0.0)) if calibration else 0.0

    @property
    def thresholds(self) -> NDArray[np.float32] | None:
        """The logit from which on each label is given; None where a text has one label."""
        return np.array(self.header["thresholds"], np.float32) if self.header.get("multilabel") else None

    def decisions(self, z: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the number of the class of each row's largest logit, the first of several, shape (n,)."""
        found: NDArray[np.int64] = argmax(z)
        return found

    def probabilities(
        self, z: NDArray[np.float32], calm: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return calibrated probabilities of raw logits, shape (..., n_classes).

        `calm` is what `calibrated` returned of them, where it is there already.
        """
        if self.header.get("multilabel"):
            found: NDArray[np.float32] = sigmoid(z / np.float32(self.temperature) + np.float32(self.shift))
        elif self.calibrator is None or self.calibrator.method_ in PLAIN:
            found = softmax(z, temperature=self.temperature)
        else:
            rows = z.reshape(-1, z.shape[-1])
            found = self.calibrator.softmax(self.calibrated(rows) if calm is None else calm)
            found = found.reshape(z.shape)
        return found

    def calibrated(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits whose softmax are the probabilities, of raw ones, shape (n, n_classes)."""
        if self.calibrator is None or self.calibrator.method_ in PLAIN:
            return z / np.float32(self.temperature)
        return self.calibrator.transform(z).astype(np.float32)

    @cached_property
    def calibrator(self) -> Calibrator | None:
        """What makes logits calibrated; None where nothing was fitted, or a text has several labels."""
        said = self.header["calibration"]
        if said is None or self.header.get("multilabel"):
            return None
        known = {
            name: value for name, value in said.items() if name in ("method", "temperature", "curve", "span")
        }
        state = {**known, "n_classes": len(self.classes), "preserve_decision": True}
        names = {name: key for name, key in CALIBRATION.items() if key in self.arrays}
        return Calibrator.from_state(state, {name: self.arrays[key] for name, key in names.items()})

    @cached_property
    def evidence(self) -> Evidence | None:
        """What held-out rows say of the answers to come; None where there is nothing."""
        said = self.header.get("evidence")
        if said is None:
            return None
        return Evidence.from_state(said, {name: self.arrays[name] for name in EVIDENCE}, len(self.classes))


def judged(model: M, held: HeldRows, *, calibrate: bool = True) -> M:
    """Return a model with a calibration, and tables to judge its answers by, from rows it did not learn from.

    Parameters
    ----------
    model : Judged
    held : HeldRows
    calibrate : bool, default True
        False leaves the calibration as it is: then what the tables promise is exact.

    Returns
    -------
    Judged
        Of the same kind.
    """
    arrays, header = dict(model.arrays), dict(model.header)
    if calibrate:
        calibrator = Calibrator()
        calm = calibrator.cross_fit_transform(held.logits, held.codes)
        state, fitted = calibrator.to_state()
        header["calibration"] = {name: state[name] for name in CALIBRATOR if name in state}
        for name, key in CALIBRATION.items():
            arrays.pop(key, None)
            if name in fitted:
                arrays[key] = fitted[name]
        training = header["training"]
        if training.get("held_out") and len(held.codes) == training["held_out"]["rows"]:
            loss = log_loss(calibrator.transform(held.logits), held.codes)
            header["training"] = {**training, "held_out": {**training["held_out"], "log_loss": loss}}
    else:
        calm = held.logits if model.calibrator is None else model.calibrator.transform(held.logits)
    most = OF_SMALL if "compressed" in header["training"] else MOST
    header["evidence"], tables = Evidence.of(held, calm, exact=not calibrate, most=most).to_state()
    arrays |= tables
    return replace(model, arrays=arrays, header={**header, "format_version": format_version(arrays)})


def check_finite(z: NDArray[np.float32]) -> None:
    """Refuse logits that are not finite: weights are, and sums of them do not overflow by chance.

    Raises
    ------
    ValueError
    """
    finite = np.isfinite(z)
    if not finite.all():
        raise not_finite(int(np.argmax(~finite.all(axis=1))))


def not_finite(row: int) -> ValueError:
    """What is said of a row whose logits are not finite."""
    return ValueError(f"the logits at row {row} are not finite: the model file is damaged")
