"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from logitext.server.settings import Limits


def document(limits: Limits) -> dict[str, Any]:
    """Return the description of all that can be asked."""
    return {"openapi": "3.1.0", "info": {"title": "Logitext", "version": "1"}, "paths": {}}
