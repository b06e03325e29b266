"""What each n-gram of a text did to each logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitext.logits import argmax

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Share(NamedTuple):
    """What one n-gram adds to one logit: in all (a weight), or in one text."""

    ngram: str
    block: str
    """"words" or "chars"."""
    amount: float


@dataclass(frozen=True)
class Explanation:
    """What each n-gram of a text added to each logit."""

    classes: list[Any]
    logits: NDArray[np.float32]
    """Shape (n_classes,)."""
    bias: NDArray[np.float32]
    """Shape (n_classes,)."""
    ngrams: list[str]
    """The n-grams the model knows, spelled; ends of words in character n-grams are spaces."""
    blocks: list[str]
    """"words" or "chars", of each n-gram."""
    contributions: NDArray[np.float32]
    """Shape (n_ngrams, n_classes): they sum, with the bias, to the logits."""
    unknown: list[str]
    """The n-grams the model has no weight for."""
    thresholds: NDArray[np.float32] | None = None
    """Shape (n_classes,): where a text may have several labels, the logit from which on each is given."""

    @property
    def decision(self) -> Any:
        """The class with the largest logit; of several labels a text, the list of those given."""
        if self.thresholds is None:
            return self.leading
        given = np.flatnonzero(self.logits >= self.thresholds)
        return [self.classes[i] for i in given]

    @property
    def leading(self) -> Any:
        """The class with the largest logit, or the label that is furthest above its threshold."""
        lead = self.logits if self.thresholds is None else self.logits - self.thresholds
        return self.classes[int(argmax(lead))]

    def strongest(self, label: Any = None, most: int = 10) -> list[Share]:
        """Return the n-grams that moved one logit most, up or down.

        Parameters
        ----------
        label : optional
            A class; `leading` by default.
        most : int, default 10
            How many.

        Returns
        -------
        list of Share
            (ngram, block, amount), the largest absolute amount first.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        label = self.leading if label is None else label
        if label not in self.classes:
            raise ValueError(f"{label!r} is not a class: the classes are {self.classes}")
        share = self.contributions[:, self.classes.index(label)]
        order = np.argsort(-np.abs(share), kind="stable")[:most]
        return [Share(self.ngrams[i], self.blocks[i], float(share[i])) for i in order]
