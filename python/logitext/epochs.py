"""What is seen of training, epoch by epoch, and what may end it early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.checkpoints import Checkpoint

SATURATED = 0.99
"""A row with a probability above this is settled: as in ``rust/teach.rs``."""


@dataclass(frozen=True)
class Epoch:
    """How one pass over the rows went. Rows are seen before the step they make."""

    loss: float
    """Mean over the weights of the rows, in nats; with label smoothing, that of the labels alone."""
    largest_logit: float
    """In absolute value."""
    typical_logit: float
    """Root mean square."""
    gradient_norm: float
    """Root mean square over the rows of the norm of the gradient by their logits, weights left out."""
    saturated: float
    """Share of the rows with a probability above `SATURATED`."""
    held_out_loss: float | None = None
    """After one temperature, in nats; None where no rows were held out."""


@dataclass(frozen=True)
class Sums:
    """What the epoch under way has come to: its rows, and what the core has summed over them."""

    rows: int = 0
    loss: float = 0.0
    weight: float = 0.0
    largest: float = 0.0
    logits: float = 0.0
    gradients: float = 0.0
    saturated: int = 0

    @property
    def signs(self) -> tuple[float, float, float, float, float, int]:
        """All but the rows, as the core takes and returns them."""
        return self.loss, self.weight, self.largest, self.logits, self.gradients, self.saturated

    def epoch(self, classes: int, held_out_loss: float | None, *, several: bool) -> Epoch:
        """Return them as means; with several labels a row, the loss as that of one label."""
        rows, weight = max(self.rows, 1), self.weight * (classes if several else 1)
        return Epoch(
            loss=self.loss / weight if weight else 0.0,
            largest_logit=self.largest,
            typical_logit=math.sqrt(self.logits / (rows * classes)),
            gradient_norm=math.sqrt(self.gradients / rows),
            saturated=self.saturated / rows,
            held_out_loss=held_out_loss,
        )


@dataclass
class Standing:
    """Where a training stands: with the weights, all that the rest of it depends on."""

    epochs: list[Epoch] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    scale: float = 1.0
    """Factor the weights are still to be multiplied by (L2)."""
    over: bool = False
    """Whether it was ended before the epochs planned."""

    def end(self, classes: int, held_out_loss: float | None, *, several: bool = False) -> None:
        """Close the epoch under way."""
        self.epochs.append(self.sums.epoch(classes, held_out_loss, several=several))
        self.sums = Sums()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Standing:
        """Return what `to_json` made JSON of."""
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        return cls(epochs, Sums(**state["sums"]), float(state["scale"]), bool(state["over"]))

    @property
    def best(self) -> int:
        """The epoch, from 1, with the lowest held-out loss."""
        losses = [math.inf if e.held_out_loss is None else e.held_out_loss for e in self.epochs]
        return losses.index(min(losses)) + 1


@dataclass(frozen=True)
class Watch:
    """What is looked at while training goes on, and what may end it early."""

    rows: NDArray[np.uint32] | None = None
    """Held out: their loss is taken after each epoch."""
    loss: Callable[[NDArray[np.float32]], float] | None = None
    """The loss of their logits."""
    patience: int | None = None
    """Epochs without a lower loss after which training ends with the weights of the best one."""
    callback: Callable[[Epoch], Any] | None = None
    """Told of each epoch; training ends where it returns True."""
    until: float | None = None
    """When to be done, by `time.monotonic`: the step falls to 0 by then."""
    checkpoint: Checkpoint | None = None
    """Where training goes on from, and is kept."""


class OutOfTimeError(ValueError):
    """The time budget was over before every row was seen once."""


class Clock:
    """How many rows there will be time for: as many as planned, or as the speed so far allows."""

    def __init__(self, until: float | None, planned: int) -> None:
        self.until = until
        self.planned = planned
        self.over = False
        self._began: tuple[float, int] | None = None

    def rows(self, seen: int) -> int:
        """Return how many rows to see in all, at least those seen."""
        if self.until is None:
            return self.planned
        now = time.monotonic()
        began, first = self._began = self._began or (now, seen)
        more = (self.until - now) * (seen - first) / max(now - began, 1e-9)
        # For a handful it is not worth to call the core once more.
        self.over = now >= self.until or (seen > first and more < 64)
        if self.over or seen == first:
            return seen if self.over else self.planned
        return min(self.planned, seen + int(more))

    def check(self, standing: Standing, rows: int) -> None:
        """Raise OutOfTimeError if not even the first epoch came to its end."""
        if not standing.epochs and standing.sums.rows < rows:
            seen = f"{standing.sums.rows / rows:.0%} of the rows were seen"
            raise OutOfTimeError(f"the time budget is too short for one epoch: {seen}")
