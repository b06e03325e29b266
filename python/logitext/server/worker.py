"""A worker: the application under uvicorn, and an ear for its supervisor."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from logitext.server.accesslog import AccessLog
from logitext.server.app import App
from logitext.server.connection import Connection
from logitext.server.control import line
from logitext.server.metrics import Metrics
from logitext.server.replies import Problem
from logitext.server.serving import Models, Serving
from logitext.server.settings import MOST_HEADER, Settings

KEEP_ALIVE = 75
"""Seconds a connection may be idle."""
ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that tell a worker to end."""


class Worker(uvicorn.Server):
    """A server that looks after its connections, and changes models when it is told to."""

    def __init__(self, config: uvicorn.Config, app: App, ear: socket.socket) -> None:
        super().__init__(config)
        self.application = app
        self.ear = ear
        self.fresh: dict[str, Serving] = {}
        self.wishes: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.numbers = itertools.count()
        app.reload = self.wish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, also to the supervisor."""
        reader, self.mouth = await asyncio.open_connection(sock=self.ear)
        self.listening = asyncio.create_task(self.listen(reader))
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: write the log; give up requests that do not arrive."""
        if self.application.log is not None:
            self.application.log.flush()
        if counter % 5 == 0:
            seconds = self.application.limits.seconds
            before = asyncio.get_running_loop().time() - seconds
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.give_up(before, seconds)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order: every request that was accepted is answered."""
        self.application.draining = True
        await self.accept_the_rest(sockets or [])
        await super().shutdown(sockets)
        if self.application.log is not None:
            self.application.log.flush()

    async def accept_the_rest(self, sockets: list[socket.socket]) -> None:
        """Take in who has come but not been let in: closing the socket would turn them away."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            with suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    await loop.connect_accepted_socket(self.protocol, accepted)

    def protocol(self) -> Connection:
        """Return what speaks on a connection."""
        loop = asyncio.get_running_loop()
        return Connection(self.config, self.server_state, self.lifespan.state, loop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take down that it is time to end, and nothing to be raised again at the end."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Do what the supervisor says; end when it is gone."""
        while said := await reader.readline():
            words = json.loads(said)
            if "load" in words:
                name, path = words["load"], words["path"]
                answer: dict[str, Any] = {"done": "load"}
                try:
                    self.fresh[name] = await asyncio.to_thread(self.read, name, path)
                except (OSError, ValueError, MemoryError) as error:
                    answer["error"] = str(error)
                self.mouth.write(line(answer))
            elif "swap" in words:
                self.application.models.swap(self.fresh.pop(words["swap"]))
                self.mouth.write(line({"done": "swap"}))
            elif "drop" in words:
                self.fresh.pop(words["drop"], None)
                self.mouth.write(line({"done": "drop"}))
            elif (waiting := self.wishes.pop(words.get("told", -1), None)) is not None and not waiting.done():
                waiting.set_result({name: value for name, value in words.items() if name != "told"})
        self.should_exit = True

    def read(self, name: str, path: str) -> Serving:
        """Map a file that the supervisor has checked."""
        old = self.application.models.find(name)
        return Serving.read(name, path, self.application.settings.threads, old.report, checked=True)

    async def wish(self, name: str) -> dict[str, Any]:
        """Ask the supervisor for a model to be read anew.

        Raises
        ------
        Problem
            503 if it does not answer.
        """
        number = next(self.numbers)
        waiting = self.wishes[number] = asyncio.get_running_loop().create_future()
        self.mouth.write(line({"reload": name, "id": number}))
        try:
            return await asyncio.wait_for(waiting, 300)
        except TimeoutError:
            self.wishes.pop(number, None)
            raise Problem(503, "the supervisor of this server does not answer") from None


def run(
    models: Models,
    settings: Settings,
    metrics: Metrics,
    listener: socket.socket,
    ear: socket.socket,
    application: type[App] = App,
) -> NoReturn:
    """Serve until told to end, in a process made for it."""
    code = 1
    try:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
        # Whoever can reach the port could fill the log with what it says of bytes that are no HTTP.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        # Told to end before it serves, it has nothing to finish. The supervisor blocked these for the fork.
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        log = AccessLog(texts=settings.log_texts) if settings.access_log else None
        app = application(models, settings, metrics, log)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(settings.drain)),
            h11_max_incomplete_event_size=MOST_HEADER,
        )
        # What was there before the fork is never garbage: the collector need not touch its pages.
        gc.freeze()
        # And what a request leaves behind in circles is little: looking for it can wait.
        gc.set_threshold(20_000, 50, 100)
        with suppress(KeyboardInterrupt):
            Worker(config, app, ear).run(sockets=[listener])
        code = 0
    except BaseException:
        logging.getLogger("logitext.server").exception("a worker ends")
    finally:
        # Not by sys.exit: what the supervisor does at its end is not this process's to do.
        with suppress(Exception):
            logging.shutdown()
        os._exit(code)
