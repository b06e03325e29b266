"""The supervisor: binds the socket, keeps workers running, has models read anew.

It maps private copies of the model files, whose names are gone as soon as every worker has them
mapped: a file overwritten in place, or removed, does not touch what is being served, and nothing is
left behind however this ends. Workers are its forks, so they share the memory of the models.
"""

from __future__ import annotations

import ctypes
import errno
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitext.server import worker
from logitext.server.control import Channel
from logitext.server.metrics import REFUSED, RELOADS, RESTARTS, Metrics
from logitext.server.serving import Models, Serving
from logitext.server.settings import Settings

BACKLOG = 2048
SOON, OFTEN = 1.0, 5
"""A worker that ends within a second of its start, five times in a row, is not started again."""
SO_ATTACH_FILTER = 26
"""Of Linux; Python has no name for it."""
PATIENCE = 60.0
"""Seconds a worker has to map a model that was checked."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from."""

    name: str
    path: str
    report: str | None = None


@dataclass
class Child:
    """A worker, seen from here."""

    number: int
    pid: int
    channel: Channel
    born: float


class Supervisor:
    """Serves models until a signal ends it.

    Parameters
    ----------
    sources : list of Source
        The first is the default.
    settings : Settings
    tell : callable
        Is given a sentence when something happens.

    Raises
    ------
    OSError, ModelFileError
        If a model or a report cannot be read, or nobody can listen there.
    """

    def __init__(self, sources: list[Source], settings: Settings, tell: Callable[[str], None]) -> None:
        self.sources = {source.name: source for source in sources}
        self.settings = settings
        self.tell = tell
        self.listener = listener(settings)
        self.models = Models([self.read(source) for source in sources])
        self.metrics = Metrics(settings.workers)
        self.children: dict[int, Child] = {}
        self.selector = selectors.DefaultSelector()
        self.ending = False
        self.hurried = 0

    @property
    def address(self) -> str:
        """Where it listens, as a browser wants it."""
        host, port = self.listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def read(self, source: Source) -> Serving:
        """Read and check a private copy of a model."""
        with private_copy(source.path) as path:
            report = None if source.report is None else Path(source.report).read_bytes()
            try:
                return Serving.read(source.name, path, self.settings.threads, report)
            except ValueError as error:
                raise type(error)(str(error).replace(path, source.path)) from None

    # -- workers ----------------------------------------------------------------

    def start(self, number: int) -> None:
        """Start a worker."""
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # Until the worker has handlers of its own it has ours, which would lose what tells it to end.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.ENDING)
        pid = os.fork()
        if not pid:
            ours.close()
            for child in self.children.values():
                child.channel.end.close()
            self.selector.close()
            metrics = self.metrics.of_worker(number)
            worker.run(self.models, self.settings, metrics, self.listener, theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.children[pid] = Child(number, pid, Channel(ours), time.monotonic())
        self.selector.register(ours, selectors.EVENT_READ, pid)

    def run(self) -> int:
        """Serve; return the exit code."""
        waking, self._wake = socket.socketpair()
        waking.setblocking(False)
        self._wake.setblocking(False)
        caught: list[int] = []
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        for one in signals:  # and not given back: a second signal must not cut off the last words
            signal.signal(one, lambda got, _: caught.append(got))
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self.selector.register(waking, selectors.EVENT_READ)
        try:
            for number in range(self.settings.workers):
                self.start(number)
            while self.children:
                for key, _ in self.selector.select(self._patience()):
                    if key.fileobj is waking:
                        with suppress(BlockingIOError):
                            waking.recv(4096)
                    else:
                        self.hear(key.data)
                while caught:
                    self.on_signal(caught.pop(0))
                self.bury()
            return 0 if self.ending else 1
        finally:
            self.kill()
            signal.set_wakeup_fd(-1)

    def _patience(self) -> float | None:
        if not self.ending:
            return None
        left = self.until - time.monotonic()
        if left <= 0:
            self.kill()
            return 0.2
        return left

    def on_signal(self, number: int) -> None:
        """Do what a signal asks for."""
        if number == signal.SIGHUP and not self.ending:
            for name in self.sources:
                self.reload(name)
        elif number in (signal.SIGINT, signal.SIGTERM):
            self.end(number)

    def end(self, number: int) -> None:
        """Have the workers end in order; the second time at once."""
        if self.ending and number == signal.SIGINT:
            self.kill()
            return
        self.ending = True
        self.until = time.monotonic() + self.settings.drain + 5
        let_nobody_in(self.listener)
        self.listener.close()
        for child in self.children.values():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the workers that are left, whatever they do."""
        for child in self.children.values():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def bury(self) -> None:
        """See which workers ended, and start others in their place."""
        for pid in list(self.children):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if not ended:
                continue
            child = self.children.pop(pid)
            with suppress(KeyError, ValueError):
                self.selector.unregister(child.channel.end)
            child.channel.end.close()
            if self.ending:
                continue
            self.metrics.count(RESTARTS)
            self.hurried = self.hurried + 1 if time.monotonic() - child.born < SOON else 0
            if self.hurried >= OFTEN:
                self.tell("workers end as soon as they start: giving up")
                for other in self.children.values():
                    os.kill(other.pid, signal.SIGTERM)
                return
            self.tell(f"worker {child.pid} ended: another one takes its place")
            self.start(child.number)

    # -- models -----------------------------------------------------------------

    def hear(self, pid: int) -> None:
        """Fulfil what a worker wishes."""
        child = self.children.get(pid)
        if child is None:
            return
        said = child.channel.hear()
        if said is None:
            with suppress(KeyError, ValueError):
                self.selector.unregister(child.channel.end)
            return
        for words in said:
            if "reload" in words:
                child.channel.say({"told": words["id"], **self.reload(words["reload"])})

    def reload(self, name: str) -> dict[str, Any]:
        """Read a model's file anew and swap it in every worker; one that is bad changes nothing."""
        source, old = self.sources[name], self.models.find(name)
        try:
            with private_copy(source.path) as path:
                fresh = Serving.read(name, path, self.settings.threads, old.report)
                self.all_of_them({"load": name, "path": path}, undo={"drop": name})
        except (OSError, ValueError, MemoryError) as error:
            self.metrics.count(REFUSED)
            message = str(error).replace(locals().get("path", "\0"), source.path)
            sentence = f"{name} stays as it is: {message}"
            self.tell(sentence)
            return {"error": sentence}
        self.all_of_them({"swap": name})
        self.models.swap(fresh)
        self.metrics.count(RELOADS)
        self.tell(f"{name} is now {fresh.fingerprint} (was {old.fingerprint})")
        return {"model": name, "fingerprint": fresh.fingerprint, "previous": old.fingerprint}

    def all_of_them(self, words: dict[str, Any], undo: dict[str, Any] | None = None) -> None:
        """Say words to every worker and wait until each has done so, or is gone.

        Raises
        ------
        ValueError
            If one could not.
        """
        waiting = [child for child in self.children.values() if child.channel.say(words)]
        faults = []
        for child in waiting:
            until = time.monotonic() + PATIENCE
            done = False
            while not done:
                child.channel.end.settimeout(max(0.01, until - time.monotonic()))
                said = child.channel.hear()
                child.channel.end.settimeout(None)
                if (
                    said is None
                ):  # it is gone, or hangs: then it is ended, and its successor has the new model
                    if time.monotonic() >= until:
                        os.kill(child.pid, signal.SIGKILL)
                    break
                for heard in said:
                    if "reload" in heard:
                        sentence = "another model is being read just now: try again in a moment"
                        child.channel.say({"told": heard["id"], "error": sentence})
                    elif "done" in heard:
                        done = True
                        if "error" in heard:
                            faults.append(heard["error"])
        if faults:
            if undo is not None:
                self.all_of_them(undo)
            raise ValueError(faults[0])


@contextmanager
def private_copy(path: str) -> Iterator[str]:
    """Give the name of a copy of a file that only we can reach; what maps it keeps it."""
    folder = tempfile.mkdtemp(prefix="logitext-")
    try:
        copy = os.path.join(folder, os.path.basename(path) or "model")
        shutil.copyfile(path, copy)
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listener(settings: Settings) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    OSError
        With a sentence, if that is not possible.
    """
    host, port = settings.host.strip("[]"), settings.port
    where = f"{host}:{port}"
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as error:
        raise OSError(f"{where}: there is no such address") from error
    sock = socket.socket(kind, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"{where}: is in use by another program: choose another port by --port") from None
        raise OSError(f"{where}: {error.strerror}") from None
    sock.set_inheritable(True)
    return sock


def let_nobody_in(listener: socket.socket) -> None:
    """Leave those who knock from now on at the door, until it is gone and they are turned away.

    Who is already in the queue of the socket is answered; but whoever the system lets in between a worker's
    last look at the queue and its closing would be cut off. A filter of one instruction, "drop", ends that.
    """
    if sys.platform != "linux":
        return
    drop = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0 bytes of the packet
    code = ctypes.create_string_buffer(drop, len(drop))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
