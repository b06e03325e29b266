"""A load of HTTP requests from one process: closed (as fast as answers come) or open (at a rate).

Written on bare sockets, so that the generator is not what is measured: about 20 us a request.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np


@dataclass
class Outcome:
    """What came of a load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Of each answer; at a rate from when its request was due."""
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0
    """Connections that ended before the answer to what was sent."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Latency that a share of the answers stays below, in milliseconds."""
        return 1000 * float(np.percentile(self.latencies, 100 * share))


class _Connection:
    def __init__(self, address: tuple[str, int]) -> None:
        try:
            # While one waits at a door that stays shut, the answers to all others would wait.
            self.socket = socket.create_connection(address, timeout=0.1)
        except TimeoutError:
            raise ConnectionError("nobody answers") from None
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.held = b""

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.socket.sendall(request)

    def hear(self) -> tuple[int, bytes, bool] | None:
        """The status and the body of an answer that is whole, and whether the connection stays."""
        got = self.socket.recv(1 << 20)
        if not got:
            raise ConnectionError
        self.held += got
        head, blank, body = self.held.partition(b"\r\n\r\n")
        if not blank:
            return None
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16 :].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self.held = b""
        return int(head[9:12]), body, b"connection: close" not in head.lower()


def post(url: str, body: bytes) -> bytes:
    """Return the bytes of a request."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def load(
    url: str,
    requests: list[bytes],
    *,
    seconds: float = 0.0,
    answers: int = 0,
    rate: float = 0.0,
    connections: int = 8,
    check: Callable[[int, bytes], None] | None = None,
) -> Outcome:
    """Send requests, one after the other on each connection.

    Parameters
    ----------
    url : str
    requests : list of bytes
        Taken in turns; see `post`.
    seconds, answers : float, int
        When to stop: whichever is given.
    rate : float
        Requests a second; 0 sends the next as soon as an answer is there.
    connections : int
    check : callable, optional
        Is given the status and the body of each answer.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    selector = selectors.DefaultSelector()
    free = [_Connection(address) for _ in range(connections)]
    for connection in free:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    found = Outcome()
    start = time.perf_counter()
    sent = 0
    last = start + seconds if seconds else float("inf")
    busy = 0
    while True:
        now = time.perf_counter()
        over = now >= last or (answers and sent >= answers)
        if (over and not busy) or not (free or busy):
            break
        while free and not over:
            due = start + sent / rate if rate else now
            if due > now:
                break
            free.pop().ask(requests[sent % len(requests)], due)
            sent += 1
            busy += 1
            over = bool(answers) and sent >= answers
        # A wait would oversleep: at a rate it looks again and again.
        for key, _ in selector.select(0 if rate and not over else 1.0):
            connection = key.data
            try:
                answer = connection.hear()
            except ConnectionError:
                found.broken += 1
                answer = (0, b"", False)
            if answer is None:
                continue
            status, body, stays = answer
            if status:
                found.latencies.append(time.perf_counter() - connection.due)
                found.statuses[status] = found.statuses.get(status, 0) + 1
                if check is not None:
                    check(status, body)
            busy -= 1
            if not stays:
                selector.unregister(connection.socket)
                connection.socket.close()
                try:
                    connection = _Connection(address)
                except ConnectionError:
                    continue
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            free.append(connection)
    found.seconds = time.perf_counter() - start
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return found
