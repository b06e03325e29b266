"""Logitext: text to decisions you can trust, through the logits."""

from logitext._core import __version__

__all__ = ["__version__"]
