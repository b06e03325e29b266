"""HTTP to one server: connections that are kept, and tries that are repeated where that may help."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from logitext._core import __version__

if TYPE_CHECKING:
    # Not when running: http.client takes longer to import than all of this package's modules of its size.
    import http.client

__all__ = ["ClientError", "Transport"]

KEPT = 16
"""Connections that are kept open while nothing is asked."""
FIRST, LONGEST = 0.1, 5.0
"""Seconds before the first repetition, twice as many before each one after it, and at most."""
PASSING = frozenset((429, 502, 503, 504))
"""What a server or a proxy says that may be otherwise in a moment."""


class ClientError(ValueError):
    """What the server could not do, in its own sentence.

    Parameters
    ----------
    sentence : str
    status : int

    Attributes
    ----------
    status : int
        Of HTTP; 200 where the reply itself was not as it should be.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class Transport:
    """Asks one server. Threads may share it: each question has a connection to itself.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``, a host, perhaps a port and a path.
    token : str, optional
    timeout : float
        Seconds for connecting, and then for each piece of a reply.
    retries : int
        How often a question is repeated.

    Raises
    ------
    ValueError
        If it cannot be a server's address, or a token.
    """

    def __init__(self, url: str, token: str | None, timeout: float, retries: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no address of a server, as http://127.0.0.1:8000 is one")
        if parts.username is not None:
            raise ValueError("a url holds no name and no password: give token=")
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ValueError("a token has printable ASCII characters, and at least one")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
        if retries < 0:
            raise ValueError(f"retries must be at least 0, got {retries!r}")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.retries = retries
        self._secure = parts.scheme == "https"
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": f"logitext/{__version__}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._context: Any = None
        # A list's append and pop are atomic, and no lock can be held by another thread when we fork.
        self._idle: list[http.client.HTTPConnection] = []
        self._process = os.getpid()

    def ask(self, method: str, path: str, body: bytes | None = None, *, again: bool = True) -> Any:
        """Return the JSON of a reply.

        Parameters
        ----------
        method, path : str
        body : bytes, optional
            JSON.
        again : bool, default True
            Whether the question may be repeated: after a connection that failed, and where the server
            says that it may be otherwise in a moment.

        Raises
        ------
        ClientError
            If the server says that it could not be done.
        ConnectionError, TimeoutError
            If there is no reply, or none in time. What took too long is not asked again: the server
            may still be at it.
        """
        import http.client

        left = self.retries if again else 0
        for attempt in range(left + 1):
            wait = 0.0
            try:
                response, content = self._once(method, path, body, kept=again)
            except TimeoutError as error:
                raise TimeoutError(f"{self.url} did not answer within {self.timeout:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                if attempt == left or _is_distrust(error):
                    times = f" (tried {attempt + 1} times)" if attempt else ""
                    raise ConnectionError(f"{self.url} cannot be asked: {_reason(error)}{times}") from error
            else:
                if response.status < 300:
                    return _parsed(content, self.url)
                wait = _seconds(response.headers.get("Retry-After"))
                # Who says "in an hour" is not waited for.
                if response.status not in PASSING or attempt == left or wait > self.timeout:
                    sentence = _sentence(content) or f"{self.url} answers {response.status} {response.reason}"
                    raise ClientError(sentence, response.status)
            time.sleep(max(wait, _pause(attempt)))
        raise AssertionError("the last try returns or raises")

    def _once(
        self, method: str, path: str, body: bytes | None, *, kept: bool
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask once, on a connection that was kept or a new one."""
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        while True:
            connection = self._kept() if kept else None
            known = connection is not None
            connection = connection or self._new()
            try:
                # A server that refuses what is too much replies before all of it is sent.
                with suppress(BrokenPipeError):
                    connection.request(method, self._path + path, body, headers)
                response = connection.getresponse()
                content = response.read()
            except BaseException as error:
                connection.close()
                # The server may have ended a connection while it was idle: that is not a failure.
                if known and isinstance(error, ConnectionError):
                    kept = False
                    continue
                raise
            if connection.sock is not None and len(self._idle) < KEPT:
                self._idle.append(connection)
            else:
                connection.close()
            return response, content

    def _kept(self) -> http.client.HTTPConnection | None:
        if self._process != os.getpid():  # those are the parent's
            self._process = os.getpid()
            self.close()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _new(self) -> http.client.HTTPConnection:
        import http.client

        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self.timeout, context=self._context
        )

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()


def _is_distrust(error: Exception) -> bool:
    """Whether a certificate was refused, which it will be again."""
    import ssl

    return isinstance(error, ssl.SSLCertVerificationError)


def _reason(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def _pause(attempt: int) -> float:
    # Not all who failed together come back together.
    import random

    return min(LONGEST, FIRST * 2.0**attempt) * random.uniform(0.5, 1.0)


def _seconds(said: str | None) -> float:
    """Read a Retry-After: seconds, or a date."""
    if said is None:
        return 0.0
    if said.strip().isdecimal():
        return float(said)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0


def _parsed(content: bytes, url: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise ClientError(f"{url} does not answer in JSON: is it a server of logitext?", 200) from None


def _sentence(content: bytes) -> str | None:
    try:
        said = json.loads(content)
    except ValueError:
        return None
    found = said.get("error") if isinstance(said, dict) else None
    return found if isinstance(found, str) else None
