"""Who may ask: the Host and the Origin of a request, its token, the kind of its body.

A web page elsewhere can make a browser on this machine send requests to a server that only this
machine can reach. Its requests bear its Origin; and if it has its own name point to this machine
(DNS rebinding), they bear that name as their Host. Both are refused.
"""

from __future__ import annotations

import hmac

from logitext.server.replies import Headers, Problem
from logitext.server.settings import Settings, is_loopback

OPEN = ("/", "/health", "/ready", "/openapi.json", "/docs")
"""Answered without a token: probes, and the page that asks for one. And what the page consists of."""


class Gate:
    """Lets requests pass, or raises the `Problem` they have."""

    def __init__(self, settings: Settings) -> None:
        self.token = None if settings.token is None else settings.token.encode()
        self.hosts = {name.lower().encode() for name in settings.hosts}
        self.origins = {origin.lower().rstrip("/").encode() for origin in settings.origins}
        self._seen: set[tuple[bytes, bytes]] = set()

    def check(self, headers: dict[bytes, bytes], method: str, path: str) -> None:
        """Check Host, Origin and token; a browser asks without the token whether a page may ask.

        Raises
        ------
        Problem
            400, 401, 403 or 421.
        """
        host = headers.get(b"host", b"")
        origin = headers.get(b"origin", b"")
        if (host, origin) not in self._seen:
            self._check_host(host)
            if origin:
                self._check_origin(origin, host)
            if len(self._seen) < 1000:
                self._seen.add((host, origin))
        free = path in OPEN or path.startswith("/page/") or (method == "OPTIONS" and self.shared(headers))
        if self.token is not None and not free:
            self._check_token(headers.get(b"authorization", b""))

    def _check_host(self, host: bytes) -> None:
        if not host:
            raise Problem(400, "the request has no Host header")
        name = host.lower()
        if name not in self.hosts:
            bracket = name.find(b"]") + 1  # around an address of IPv6, which has colons itself
            name = name[:bracket] if bracket else name.partition(b":")[0]
        if name not in self.hosts and not is_loopback(name.decode("latin-1")):
            raise Problem(
                421, f"this server does not answer to the name {_shown(host)}: allow it by --allow-host"
            )

    def _check_origin(self, origin: bytes, host: bytes) -> None:
        # A proxy that speaks TLS for us passes on an https origin; the name is what counts.
        name = host.lower()
        if origin.lower() not in (b"http://" + name, b"https://" + name, *self.origins):
            raise Problem(403, f"pages of {_shown(origin)} may not ask: allow them by --cors-origin")

    def _check_token(self, authorization: bytes) -> None:
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not given:
            raise Problem(401, "this server wants a token: Authorization: Bearer TOKEN", _CHALLENGE)
        if not hmac.compare_digest(given.strip(), self.token or b""):
            raise Problem(401, "the token is not right", _CHALLENGE)

    def shared(self, headers: dict[bytes, bytes]) -> Headers:
        """Return what lets an allowed page elsewhere read the reply."""
        origin = headers.get(b"origin", b"")
        if origin and origin.lower() in self.origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return []


_CHALLENGE = [(b"www-authenticate", b'Bearer realm="logitext"')]

PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Accept"),
    (b"access-control-max-age", b"600"),
]


def only_once(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name.

    Raises
    ------
    Problem
        400 if one that decides something is there twice: who stands between may have read the other.
    """
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _DECIDE:
            if names.count(name) > 1:
                raise Problem(400, f"the request has two {name.decode().title()} headers")
    return headers


_DECIDE = (b"host", b"origin", b"authorization", b"content-type", b"content-encoding")


def check_kind(headers: dict[bytes, bytes]) -> None:
    """Check that a body says it is JSON in UTF-8.

    Raises
    ------
    Problem
        415.
    """
    said = headers.get(b"content-type", b"")
    if said == b"application/json" and b"content-encoding" not in headers:
        return
    kind, _, rest = said.lower().partition(b";")
    charset = rest.replace(b" ", b"").replace(b'"', b"")
    if kind.strip() != b"application/json" or charset not in (b"", b"charset=utf-8"):
        got = _shown(said) if said else "none"
        raise Problem(415, f"the Content-Type must be application/json, got {got}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "a compressed body is not read: send it without Content-Encoding")


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("latin-1"))
