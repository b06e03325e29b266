"""Checkpoints: a training under way, kept in one file so that it can go on after a kill."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from logitext.files import replacing

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["Checkpoint", "CheckpointError"]

SECONDS = 30.0
"""Between two savings."""


class CheckpointError(ValueError):
    """A checkpoint is not what it should be; the message says how."""


class Checkpoint:
    """The state of one training in one safetensors file, replaced as a whole.

    Parameters
    ----------
    path : path
    key : JSON value
        What the training depends on: data, settings, version. A file of another key is refused.
    seconds : float, default 30
        Least time between two savings of weights.

    Raises
    ------
    CheckpointError
        If there can be no such file.
    """

    def __init__(self, path: str | PathLike[str], key: Any, seconds: float = SECONDS) -> None:
        self.path = Path(path)
        # Found out before the work, not after it.
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise CheckpointError(f"{path}: is a folder, or in one that does not exist")
        self.key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.seconds = seconds
        self._saved = time.monotonic()
        self.state: dict[str, Any] = {}
        """What was last saved beside arrays, as JSON."""
        self.fixed: dict[str, NDArray[Any]] = {}
        """Arrays saved every time."""

    def load(self) -> dict[str, NDArray[Any]]:
        """Read the file, if there is one: its arrays, and `state`.

        Raises
        ------
        CheckpointError
            If it is damaged, no checkpoint, or one of another training.
        """
        if not self.path.exists():
            return {}
        try:
            with safe_open(self.path, "np") as file:
                said = json.loads((file.metadata() or {})["checkpoint"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            key, state = said["key"], dict(said["state"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: is no checkpoint, or damaged: remove it or name another file ({error})"
            ) from error
        if key != self.key:
            raise CheckpointError(
                f"{self.path}: belongs to a training on other data or with other settings: "
                "remove it or name another file"
            )
        self.state = state
        return arrays

    def keep(self, **state: Any) -> None:
        """Save some state at once, without arrays."""
        self.state = {**self.state, **state}
        self._write({})

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved >= self.seconds

    def save(self, arrays: Mapping[str, NDArray[Any]], **state: Any) -> None:
        """Save the arrays of a training under way, and state."""
        self.state = {**self.state, **state}
        self._write(arrays)

    def _write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        said = json.dumps({"key": self.key, "state": self.state}, sort_keys=True)
        with replacing(self.path) as file:
            file.write(save({**self.fixed, **arrays}, {"checkpoint": said}))
        self._saved = time.monotonic()
