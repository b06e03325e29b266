"""What rows held out from training say of the answers to come: kept in the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.conformal import ConformalSets
from logitext.novelty import Novelty
from logitext.selective import Selective

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

MOST, OF_SMALL = 10_000, 1000
"""Rows that are kept of more: enough for a coverage to half a point, and for an error of 1 %. A small model
keeps 13 kB of them."""


@dataclass(frozen=True)
class HeldRows:
    """Raw logits of rows the weights did not learn from."""

    logits: F32
    """(n, n_classes)"""
    codes: NDArray[np.uint32]
    """The class of each."""
    ngrams: F32
    """(n, 2): see `logitext.features.known_ngrams`."""

    def take(self, rows: Any) -> HeldRows:
        return HeldRows(self.logits[rows], self.codes[rows], self.ngrams[rows])


@dataclass(frozen=True)
class Evidence:
    """Tables from held-out rows: for sets, for abstaining, for what is new."""

    sets: ConformalSets
    selective: Selective
    novelty: Novelty
    exact: bool
    """Whether nothing was fitted on the rows, calibration included: then the promises are exact."""
    stale: bool = False
    """Whether the weights have changed since."""

    @classmethod
    def of(cls, held: HeldRows, calm: F32, *, exact: bool, most: int = MOST) -> Evidence:
        """Make the tables of held-out rows.

        Parameters
        ----------
        held : HeldRows
            At least one.
        calm : float32 array, shape (n, n_classes)
            Their logits calibrated by other rows: those of each fifth by the others, where these rows are
            all there are, which comes near to what the calibration will do to new rows.
        exact : bool
            Whether nothing was fitted on any of these rows.
        most : int
            Of more rows so many are taken, evenly chosen.

        Returns
        -------
        Evidence
        """
        if len(held.codes) > most:
            some = np.linspace(0, len(held.codes) - 1, most).astype(np.intp)
            held, calm = held.take(some), calm[some]
        sets = ConformalSets().fit(calm, held.codes)
        novelty = Novelty().fit(held.logits, held.ngrams)
        return cls(sets, Selective().fit(calm, held.codes), novelty, exact)

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what a header says of it, and the arrays of a model file."""
        known, scores = self.novelty.to_state()
        state = {
            "rows": len(self.selective.hits_),
            "exact": self.exact,
            "stale": self.stale,
            "novelty": known,
        }
        arrays: dict[str, NDArray[Any]] = {
            "held_scores": self.sets.scores_.astype(np.float32),
            "held_confidence": self.selective.confidence_,
            "held_hits": self.selective.hits_.astype(np.uint8),
            "held_novelty": scores,
        }
        return state, arrays

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], classes: int
    ) -> Evidence:
        """Return what `to_state` told of.

        Raises
        ------
        ValueError
            If it is not as `to_state` returns it.
        """
        scores = arrays["held_scores"]
        one = {"offsets": np.array([0, len(scores)]), "clusters": np.zeros(classes, np.int32)}
        ranked = {"confidence": arrays["held_confidence"], "hits": arrays["held_hits"].astype(bool)}
        return cls(
            ConformalSets.from_state({}, {"scores": scores, **one}),
            Selective.from_state({"score": "probability"}, ranked),
            Novelty.from_state(state["novelty"], arrays["held_novelty"]),
            bool(state["exact"]),
            bool(state["stale"]),
        )
