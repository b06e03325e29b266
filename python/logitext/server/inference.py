"""The Open Inference Protocol, version 2, over HTTP."""

from __future__ import annotations

from typing import Any


def routes(app: Any, path: str) -> Any:
    return None


def readable(models: Any, path: str) -> Any:
    return None
