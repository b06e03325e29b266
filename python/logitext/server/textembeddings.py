"""What clients of text-embeddings-inference ask, and the answers they expect."""

from __future__ import annotations

from typing import Any


async def predict(app: Any, request: Any, value: Any) -> Any:
    raise NotImplementedError
