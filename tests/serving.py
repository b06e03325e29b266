"""A real ``logitext serve`` for tests: a process of its own, asked over a real socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import logitext as lt

EXAMPLES = Path(__file__).parent.parent / "examples"
JSON_KIND = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of one given twice, the last."""
    body: bytes

    def json(self) -> Any:
        """Return the value of a body of JSON."""
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        """Return the values of a body of JSON Lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class Refused(RuntimeError):
    """The server ended before it listened: `exit_code` and `stderr` say why."""

    def __init__(self, exit_code: int | None, stderr: str) -> None:
        super().__init__(f"no server, exit code {exit_code}: {stderr}")
        self.exit_code = exit_code
        self.stderr = stderr


class Server:
    """Starts ``logitext serve`` at a free port, waits until it answers, and ends it.

    Parameters
    ----------
    *arguments
        Of the command: models and options; ``--port 0`` unless one is given.
    env : mapping, optional
        Variables beside those of the tests.
    patience : float
        Seconds for it to start, and to end.

    Raises
    ------
    Refused
        If it ends before it listens.

    Attributes
    ----------
    url, host, port
        Where it listens.
    exit_code : int or None
        None while it runs.
    """

    def __init__(
        self, *arguments: object, env: Mapping[str, str] | None = None, patience: float = 30
    ) -> None:
        words = [str(argument) for argument in arguments]
        if "--port" not in words:
            words += ["--port", "0"]
        program = "from logitext.cli import main; main()"
        environ = {name: value for name, value in os.environ.items() if name != "LOGITEXT_TOKEN"}
        self.patience = patience
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environ, **(env or {})},
        )
        self._said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        pipes = (("stdout", self.process.stdout), ("stderr", self.process.stderr))
        self._readers = [
            threading.Thread(target=self._collect, args=(name, pipe), daemon=True) for name, pipe in pipes
        ]
        for reader in self._readers:
            reader.start()
        found = self.wait_for(lambda: re.search(r" at (http://(\S+):(\d+)) ", self.stderr))
        if found is None:
            self.kill()
            raise Refused(self.exit_code, self.stderr)
        self.url, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
        self.wait_for(self._ready)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _collect(self, name: str, pipe: IO[bytes]) -> None:
        while part := os.read(pipe.fileno(), 1 << 16):
            self._said[name] += part
        pipe.close()

    def _ready(self) -> bool:
        try:
            # Without a token, and by the name that every server answers to.
            return self.request("GET", "/ready", headers={"Host": "localhost"}).status == 200
        except OSError:
            return False

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Return what a function gives once that is true, or None if the server ends or time is up."""
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            running = self.process.poll() is None
            if not running:
                for reader in self._readers:
                    reader.join(self.patience)
            if found := what():
                return found
            if not running:
                return None
            time.sleep(0.02)
        return None

    @property
    def stdout(self) -> str:
        """What it wrote so far: the access log, which is written ten times a second."""
        return bytes(self._said["stdout"]).decode()

    @property
    def stderr(self) -> str:
        """What it told so far."""
        return bytes(self._said["stderr"]).decode()

    @property
    def exit_code(self) -> int | None:
        """What it ended with, if it did."""
        return self.process.poll()

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the access log so far."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    # -- asking -----------------------------------------------------------------

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 30,
    ) -> Answer:
        """Ask once, by a connection of its own.

        Parameters
        ----------
        method, path : str
        body : bytes, str or anything else
            Anything else is sent as JSON, and said to be.
        headers : mapping, optional
        """
        given = dict(headers or {})
        if isinstance(body, str):
            body = body.encode()
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given = {**JSON_KIND, **given}
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, given)
            got = connection.getresponse()
            kept = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, kept, got.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask by GET."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask by POST, with JSON."""
        return self.request("POST", path, body, {**JSON_KIND, **(headers or {})})

    def raw(self, sent: bytes, *, timeout: float = 10, finish: bool = True) -> bytes:
        """Send bytes as they are, and return all that comes back until the connection ends.

        Parameters
        ----------
        sent : bytes
        timeout : float
            Seconds without a byte after which it counts as the end.
        finish : bool
            Whether to say that no more will be sent.
        """
        got = bytearray()
        with socket.create_connection((self.host, self.port), timeout) as sock:
            # It may have ended the connection before all was sent: what it said then counts.
            with suppress(OSError):
                sock.sendall(sent)
                if finish:
                    sock.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while part := sock.recv(1 << 16):
                    got += part
        return bytes(got)

    # -- ending -----------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self) -> int:
        """End it in order, or by force after `patience`; return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self.kill()
        for reader in self._readers:
            reader.join(self.patience)
        return self.process.wait()

    def kill(self) -> None:
        """End it by force; its workers see that it is gone, and end too."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(self.patience)


def write_models(folder: Path) -> Path:
    """A model of one label a text with evidence, and one of several."""
    rows = [line.rsplit(",", 1) for line in (EXAMPLES / "headlines.csv").read_text().splitlines()[1:1500]]
    texts, labels = [row[0] for row in rows], [row[1] for row in rows]
    options: dict[str, Any] = {"epochs": 2, "learning_rate": 1.0, "threads": 1}
    lt.TextClassifier(**options).fit(texts, labels).save(folder / "news.safetensors")
    both = [[label] if number % 3 else [label, "third"] for number, label in enumerate(labels)]
    lt.TextClassifier(**options, multilabel=True).fit(texts, both).save(folder / "topics.safetensors")
    (folder / "report.html").write_text("<!doctype html><title>report</title>")
    return folder
