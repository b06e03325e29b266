"""One short text: the numbers that `logitext.answers` gives, in a tenth of its time.

Tables are for many rows: making one takes 0.2 ms, a text 0.01 ms. Here the core is called with all
that is the same for each text prepared, and its kernels without looking at what they are given. The
bits are those of the long way, which a test compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core
from logitext.model import PLAIN, Model
from logitext.scalings import LEAST

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]


class Single:
    """A model of one label per text, for one text at a time.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._layer = [(model.layer(), None)]
        calibrator = model.calibrator
        self._plain = calibrator is None or calibrator.method_ in PLAIN
        self._temperature = model.temperature
        scaling = None if calibrator is None else calibrator.scaling_
        light = not self._plain and scaling is not None and scaling.light
        self._lines: Any = (scaling.scale, scaling.bias) if scaling is not None and light else None

    def __call__(self, text: str) -> tuple[F32, F32, int]:
        """Return the logits and the probabilities of a text, and the index of its label.

        Raises
        ------
        ValueError
            If a logit is not finite.
        """
        data = np.frombuffer(text.encode(), np.uint8)
        z = _core.logits((np.array([0, len(data)]), data), self._layer, 1)[0]
        if not np.isfinite(z).all():
            raise ValueError("the logits are not finite: the model file is damaged")
        decided = int(z[0].argmax())
        return z[0], self._probabilities(z, decided)[0], decided

    def _probabilities(self, z: F32, decided: int) -> F32:
        found = np.empty_like(z)
        if self._plain:
            _core.softmax("float32", z, found, self._temperature, False, 1)
            return found
        if self._lines is not None:
            # As `Scaling.lightly` has it.
            scale, bias = self._lines
            _core.softmax("float32", z, found, self._temperature, True, 1)
            np.maximum(found, np.float32(LEAST), out=found)
            found *= scale
            found += bias
            ahead = int(found[0].argmax())
            _core.softmax("float32", None, found, 1.0, False, 1)  # in place
            if ahead == decided == int(found[0].argmax()):
                return found
        # The decision has to be kept, or there is more than lines.
        return self.model.probabilities(z)
