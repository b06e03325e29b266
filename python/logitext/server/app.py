"""The ASGI application: from a request's scope to what is sent back.

Everything a request can do wrong ends here, as a `Problem`: one place turns those, and what was not
foreseen, into JSON. Short work is done on the event loop, where it takes less than handing it over
would; long work in threads, in parts, so that others are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from logitext.server import apidocs, inference, textembeddings
from logitext.server.accesslog import AccessLog
from logitext.server.gate import PREFLIGHT, Gate, check_kind, only_once
from logitext.server.metrics import ROUTES, Metrics
from logitext.server.openapi import document
from logitext.server.pages import SECURITY, page, report_page
from logitext.server.questions import Question, parsed, question
from logitext.server.replies import NDJSON, Overloaded, Problem, Reply, Stream, of_json
from logitext.server.serving import Models, Serving, parts_of
from logitext.server.settings import Settings

logger = logging.getLogger("logitext.server")

SHORT = 4096
"""Characters of text that are answered on the event loop: a fraction of a millisecond."""
BODIES = 16
"""So many bodies of the largest size may be on their way to a worker together."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Request:
    """What was asked, as far as it has been read."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    until: float = 0.0
    received: int = 0
    texts: list[str] | None = None


class App:
    """Models behind HTTP.

    Parameters
    ----------
    models : Models
    settings : Settings
    metrics : Metrics
        Those of this worker.
    log : AccessLog or None
    reload : callable, optional
        Asks for a model to be read anew, by name.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        metrics: Metrics,
        log: AccessLog | None = None,
        reload: Callable[[str], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        self.models = models
        self.settings = settings
        self.limits = settings.limits
        self.metrics = metrics
        self.log = log
        self.reload = reload
        self.gate = Gate(settings)
        self.short = SHORT
        self.draining = False
        self.at_hand = 0
        self.arriving = 0
        self.pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="logitext")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begin = time.perf_counter()
        request = Request(scope["method"], scope["path"], {}, receive, begin + self.limits.seconds)
        route = route_of(request.path)
        self.metrics.begin()
        status, sent = 500, 0
        reply: Reply | Stream = Reply(b"", status)
        try:
            try:
                request.headers = only_once(scope["headers"])
                self.gate.check(request.headers, request.method, request.path)
                reply = await self.answer(request, route)
            except Problem as problem:
                reply = problem.reply()
            except Exception:
                logger.exception("%s %s could not be answered", request.method, route)
                reply = Problem(500, "the server made a mistake, which its log tells of").reply()
            status = reply.status
            sent = await self.send(reply, request, send)
        finally:
            seconds = time.perf_counter() - begin
            texts = reply.texts
            self.metrics.end(route, status, seconds, texts, request.received)
            if self.log is not None:
                self.note(scope, status, seconds, texts, request, sent)

    def note(
        self, scope: Scope, status: int, seconds: float, texts: int, request: Request, sent: int
    ) -> None:
        """Take a request down in the log."""
        assert self.log is not None
        more = {}
        if self.log.texts and request.texts is not None:
            more["said"] = [text[:1000] for text in request.texts[:100]]
        client = scope.get("client")
        self.log.line(
            client=client[0] if client else None,
            method=request.method,
            path=request.path[:200],
            status=status,
            ms=round(seconds * 1000, 3),
            received=request.received,
            sent=sent,
            texts=texts,
            **more,
        )

    async def send(self, reply: Reply | Stream, request: Request, send: Send) -> int:
        """Send a reply; return how many bytes its body had."""
        headers = [
            (b"content-type", reply.kind),
            *SECURITY,
            *reply.headers,
            *self.gate.shared(request.headers),
        ]
        if self.draining:
            headers.append((b"connection", b"close"))
        if isinstance(reply, Reply):
            headers.append((b"content-length", str(len(reply.body)).encode()))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
            return len(reply.body)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        sent = 0
        try:
            async for part in reply.parts:
                sent += len(part)
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except Problem as problem:
            await send(
                {"type": "http.response.body", "body": problem.reply().body + b"\n", "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})
        return sent

    # -- routes -----------------------------------------------------------------

    async def answer(self, request: Request, route: str) -> Reply | Stream:
        """Find who answers, and have the answer."""
        path, method = request.path, "GET" if request.method == "HEAD" else request.method
        if route == "/predict" and method == "POST":
            return await self.predict(request)
        if method == "OPTIONS" and request.headers.get(b"origin") and self.gate.shared(request.headers):
            return Reply(b"", 204, headers=[*PREFLIGHT])
        known = self.known(path)
        if known is None:
            raise Problem(404, f"there is nothing at {path[:200]!r}")
        handlers = known
        if method not in handlers:
            allowed = ", ".join(handlers)
            raise Problem(
                405,
                f"{request.method[:20]} is not for this path: use {allowed}",
                [(b"allow", allowed.encode())],
            )
        return await handlers[method](request)

    def known(self, path: str) -> dict[str, Callable[[Request], Awaitable[Reply | Stream]]] | None:
        """Return what can be done at a path, by method."""
        get = self._get(path)
        if get is not None:

            async def read(_: Request) -> Reply:
                return get()

            return {"GET": read}
        if path == "/predict":
            return {"POST": self.predict}
        if path.startswith("/v2/"):
            return inference.routes(self, path)
        if path.startswith("/models/") and path.endswith("/reload"):
            name = path[len("/models/") : -len("/reload")]
            return {"POST": lambda request: self.read_anew(request, name)}
        return None

    def _get(self, path: str) -> Callable[[], Reply] | None:
        """Return what can only be read, and takes no time."""
        if path == "/health":
            return lambda: of_json({"status": "ok"})
        if path == "/ready":
            return self.ready
        if path == "/metrics":
            kind = b"text/plain; version=0.0.4; charset=utf-8"
            return lambda: Reply(self.metrics.text().encode(), kind=kind)
        if path == "/openapi.json":
            return lambda: of_json(document(self.settings, self.models))
        if path == "/docs":
            return lambda: apidocs.reply(document(self.settings, self.models))
        if path == "/models":
            limits = {"body": self.limits.body, "texts": self.limits.texts, "text": self.limits.text}
            rest = {"default": self.models.default, "limits": limits}
            return lambda: of_json({"models": [one.card for one in self.models], **rest})
        if path.startswith("/models/"):
            name, _, what = path[len("/models/") :].partition("/")
            if what == "":
                return lambda: self.model_card(name)
            if what == "report":
                return lambda: report_page(self.models.find(name))
            return None
        return inference.readable(self, path) or page(path)

    def ready(self) -> Reply:
        """Say whether requests are welcome."""
        if self.draining:
            raise Problem(503, "the server is ending")
        return of_json({"status": "ready", "models": [one.name for one in self.models]})

    def model_card(self, name: str) -> Reply:
        """Say what a model is."""
        found = self.models.find(name)
        training = found.model.header["training"]
        return of_json({**found.card, "training": training, "strongest": found.strongest()})

    async def read_anew(self, request: Request, name: str) -> Reply:
        """Have a model's file read anew in every worker."""
        await self.body(request)
        self.models.find(name)
        if self.reload is None:
            raise Problem(503, "this server does not reload models")
        told = await self.reload(name)
        if "error" in told:
            raise Problem(422, told["error"])
        return of_json(told)

    # -- prediction -------------------------------------------------------------

    async def predict(self, request: Request) -> Reply | Stream:
        """Answer ``POST /predict``: our own question, or that of text-embeddings-inference."""
        check_kind(request.headers)
        value = parsed(await self.body(request))
        if type(value) is dict and len(value) == 1 and type(text := value.get("text")) is str:
            # What is asked thousands of times a second goes past all that it does not ask for.
            short = len(text) <= SHORT and 4 * len(text) <= self.limits.text and not wants_lines(request)
            if short and (said := self.models.find(None).short(text)) is not None:
                request.texts = [text]
                return Reply(said, texts=1)
        if type(value) is dict and "inputs" in value:
            return await textembeddings.predict(self, request, value)
        asked = question(value, self.limits)
        request.texts = asked.texts
        serving = self.models.find(asked.model)
        n = len(asked.texts)
        if asked.stream or wants_lines(request):
            if asked.explain:
                raise Problem(422, '"explain" does not go with an answer in lines')
            lines = self.in_parts(request, self._lines(serving, asked))
            # What the model cannot give is said before the first line, by the status.
            first = await anext(lines)
            headers = [(b"x-logitext-fingerprint", serving.fingerprint.encode())]
            return Stream(_joined(first, lines), headers=headers, texts=n)
        serving.check_size(n, asked.wanted)
        if asked.single and len(asked.texts[0]) <= SHORT:
            return Reply(serving.one(asked), texts=1)
        if asked.single:
            return Reply(await self.elsewhere(request, lambda: serving.one(asked)), texts=1)
        parts = [part async for part in self.in_parts(request, serving.several_parts(asked))]
        return Reply(b"".join(parts), texts=n)

    @staticmethod
    def _lines(serving: Serving, asked: Question) -> Iterator[bytes]:
        for texts in parts_of(asked.texts):
            yield serving.lines(texts, asked.wanted)

    async def elsewhere(self, request: Request, work: Callable[[], Any]) -> Any:
        """Do long work in a thread.

        Raises
        ------
        Problem
            503 if there is too much of it.
        """
        if self.at_hand >= self.limits.concurrent:
            raise Overloaded("too many requests at hand: try again in a moment")
        if time.perf_counter() > request.until:
            raise Problem(
                503, f"the answer takes longer than {self.limits.seconds:g} s: ask for less at once"
            )
        self.at_hand += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        finally:
            self.at_hand -= 1

    async def in_parts(self, request: Request, parts: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Make parts in threads, one after the other, as long as there is time."""
        while (part := await self.elsewhere(request, lambda: next(parts, None))) is not None:
            yield part

    async def body(self, request: Request) -> bytes:
        """Read a body to its end.

        Raises
        ------
        Problem
            413 if it is too large, 503 if too many are on their way, 400 if it breaks off.
        """
        most = self.limits.body
        said = request.headers.get(b"content-length")
        if said is not None and int(said) > most:
            sentence = f"the body has {int(said):,} bytes: at most {most:,} are read"
            # Who waits to be asked for the body may not send it; what is sent is not looked at.
            raise Problem(413, sentence, _CLOSE if b"expect" in request.headers else None)
        parts: list[bytes] = []
        try:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "the body broke off")
                part = message["body"]
                request.received += len(part)
                self.arriving += len(part)
                if request.received > most:
                    raise Problem(413, f"the body has more than {most:,} bytes")
                if self.arriving > BODIES * most:
                    raise Overloaded("too many bodies on their way: try again in a moment")
                parts.append(part)
                if not message["more_body"]:
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self.arriving -= request.received


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


_CLOSE = [(b"connection", b"close")]
_ROUTES = frozenset(ROUTES)


def wants_lines(request: Request) -> bool:
    """Return whether an answer line by line is asked for."""
    return NDJSON in request.headers.get(b"accept", b"")


def route_of(path: str) -> str:
    """Return what a path is counted as."""
    if path in _ROUTES:
        return path
    for start in ("/models", "/v2"):
        if path.startswith(start):
            return start
    return "/" if path.startswith("/page/") else "other"
