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

    @property
    def decision(self) -> Any:
        """The class with the largest logit."""
        return self.classes[int(argmax(self.logits))]

    def strongest(self, label: Any = None, most: int = 10) -> list[Share]:
        """Return the n-grams that moved one logit most, up or down.

        Parameters
        ----------
        label : optional
            A class; the decision by default.
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
        label = self.decision if label is None else label
        if label not in self.classes:
            raise ValueError(f"{label!r} is not a class: the classes are {self.classes}")
        share = self.contributions[:, self.classes.index(label)]
        order = np.argsort(-np.abs(share), kind="stable")[:most]
        return [Share(self.ngrams[i], self.blocks[i], float(share[i])) for i in order]
