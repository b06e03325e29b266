"""What the one who starts the server decides."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

MOST_HEADER = 1 << 16
"""Bytes of a request before its body."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; a worker refuses the rest with a sentence."""

    body: int = 16_000_000
    """Bytes."""
    texts: int = 10_000
    """In one request."""
    text: int = 1_000_000
    """Bytes of UTF-8."""
    seconds: float = 30.0
    """For a request to arrive, and then for its answer."""
    concurrent: int = 64
    """Requests a worker has at hand."""


@dataclass(frozen=True)
class Settings:
    """Where to listen, for whom, and how much."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    """Of each worker, for a batch."""
    token: str | None = None
    insecure: bool = False
    """Another address than loopback without a token."""
    hosts: tuple[str, ...] = ()
    """Names, beside those of loopback, by which it may be called."""
    origins: tuple[str, ...] = ()
    """Web pages of others that may ask."""
    limits: Limits = Limits()
    access_log: bool = True
    log_texts: bool = False
    drain: float = 30.0
    """Seconds that requests at hand have when it is to end."""

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach it."""
        return not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether an address or a name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def threads_of(workers: int, available: int) -> int:
    """Return how many threads each of some workers has for itself."""
    return max(1, available // workers)


def token_of_environment() -> str | None:
    """Return the token in ``LOGITEXT_TOKEN``, if there is one."""
    return os.environ.get("LOGITEXT_TOKEN") or None
