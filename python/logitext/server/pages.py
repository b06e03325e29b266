"""The page and what it consists of, from the files beside this one; headers that keep it to itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from logitext.server.replies import Headers, Problem, Reply

if TYPE_CHECKING:
    from logitext.server.serving import Serving

SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""On every reply."""
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OF_PAGE: Headers = [
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
_OF_REPORT: Headers = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'",
    ),
    (b"referrer-policy", b"no-referrer"),
]
_KINDS = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


@cache
def _contents() -> dict[str, tuple[bytes, bytes]]:
    """Body and kind of each file, by its path."""
    found = {}
    for file in files("logitext.server").joinpath("page").iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[path] = (file.read_bytes(), kind)
    return found


def page(path: str) -> Callable[[], Reply] | None:
    """Return what replies with a file of the page, if `path` is one."""
    known = _contents().get(path)
    if known is None:
        return None
    body, kind = known
    return lambda: Reply(body, kind=kind, headers=_OF_PAGE)


def report_page(serving: Serving) -> Reply:
    """Return the report of a model, if it was given one.

    Raises
    ------
    Problem
        404.
    """
    if serving.report is None:
        raise Problem(404, f"no report was given for {serving.name!r}: write one by logitext report")
    return Reply(serving.report, kind=_KINDS["html"], headers=_OF_REPORT)
