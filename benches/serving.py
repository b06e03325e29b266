"""The server against itself saying hello, and against the library it serves.

One worker, connections kept alive. The hello is a route of the same application under the same
server: it passes the same gate, reads the same body and returns as many bytes, so what differs is
the answer's own work. A second server tells what the stack does with a bare ASGI function.
"""

import argparse
import gc
import json
import multiprocessing
import os
import signal
import socket
import statistics
import tempfile
import time
from typing import Any

import logitext as lt
from benches.load import Outcome, load, post
from benches.measure import ROOT, store
from logitext.server import worker
from logitext.server.app import App, Request
from logitext.server.gate import check_kind
from logitext.server.metrics import Metrics
from logitext.server.questions import parsed
from logitext.server.replies import Reply, Stream
from logitext.server.serving import Models, Serving
from logitext.server.settings import Settings
from logitext.server.supervisor import listener

SENTENCE = "The new smartphone has amazing features."
ROUNDS = 5


class WithHello(App):
    """The application, which also says hello, with as many bytes as an answer has."""

    hello = b""

    async def predict(self, request: Request) -> Reply | Stream:
        """Say hello to those who do, or answer; the way here is the same."""
        if request.headers.get(b"x-hello") is None:
            return await super().predict(request)
        check_kind(request.headers)
        parsed(await self.body(request))
        return Reply(self.hello)


def serve(path: str, sock: socket.socket, ear: socket.socket, log: bool) -> None:
    """Be a worker."""
    models = Models([Serving.read("news", path, len(os.sched_getaffinity(0)))])
    from logitext.server.questions import Question

    WithHello.hello = models.find(None).one(Question([SENTENCE], True))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    worker.run(models, Settings(access_log=log), Metrics(1).of_worker(0), sock, ear, WithHello)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least an ASGI application can do."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"90")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b" " * 90})


def run_bare(sock: socket.socket) -> None:
    """Serve that."""
    import uvicorn

    config = uvicorn.Config(bare, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[sock])


def fastest(outcomes: list[Outcome]) -> float:
    """Return the median rate."""
    return statistics.median(outcome.rate for outcome in outcomes)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-store", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/news.safetensors"
        lt.TextClassifier().fit([str(ROOT / "examples" / "headlines.csv")]).save(path)
        found = measure(path, asked.seconds, asked.rounds)
    print(json.dumps(found, indent=2))
    if not asked.no_store:
        store("serving", found)


def measure(path: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the figures."""
    clf = lt.load(path)
    sock, plain = listener(Settings(port=0)), listener(Settings(port=0))
    _ours, theirs = socket.socketpair()
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=serve, args=(path, sock, theirs, True), daemon=True),
        context.Process(target=run_bare, args=(plain,), daemon=True),
    ]
    for child in children:
        child.start()
    url, other = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (sock, plain))
    sock.close()
    plain.close()
    try:
        time.sleep(2)
        question = json.dumps({"text": SENTENCE}).encode()
        ask = post(f"{url}/predict", question)
        asking = {"hello": ask.replace(b"\r\n\r\n", b"\r\nX-Hello: 1\r\n\r\n", 1), "predict": ask}
        check_answer(clf, url, asking["predict"])
        rates: dict[str, list[Outcome]] = {"hello": [], "predict": [], "bare": []}
        for _ in range(rounds):
            for name, request in asking.items():
                rates[name].append(load(url, [request], seconds=seconds))
            rates["bare"].append(load(other, [post(f"{other}/", question)], seconds=seconds))
        half = fastest(rates["predict"]) / 2
        waits: dict[str, list[float]] = {"hello": [], "predict": []}
        for _ in range(rounds):
            for name, request in asking.items():
                waits[name].append(load(url, [request], seconds=seconds, rate=half).percentile(0.99))
        batches = batch_rates(clf, url, rounds)
    finally:
        for child in children:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
    ratios = [a.rate / b.rate for a, b in zip(rates["predict"], rates["hello"], strict=True)]
    p99 = [a / b for a, b in zip(waits["predict"], waits["hello"], strict=True)]
    return {
        "requests a second": {name: round(fastest(outcomes)) for name, outcomes in rates.items()},
        "single / hello": round(statistics.median(ratios), 3),
        "p99 at half the load, ms": {name: round(statistics.median(ms), 3) for name, ms in waits.items()},
        "p99 / hello's": round(statistics.median(p99), 2),
        **batches,
    }


def check_answer(clf: lt.TextClassifier | lt.FastTextClassifier, url: str, request: bytes) -> None:
    """See that what is timed is right."""

    def check(status: int, body: bytes) -> None:
        said = json.loads(body)
        assert status == 200, said
        assert said["label"] == clf.predict([SENTENCE])[0]
        assert abs(said["probability"] - float(clf.predict_proba([SENTENCE]).max())) < 1e-6

    assert load(url, [request], answers=10, connections=1, check=check).statuses == {200: 10}


def batch_rates(clf: lt.TextClassifier | lt.FastTextClassifier, url: str, rounds: int) -> dict[str, Any]:
    """Texts a second in batches of 1,000, of the server and of the library."""
    lines = (ROOT / "examples" / "headlines_test.csv").read_text(encoding="utf-8").splitlines()[1:]
    texts = [line.rpartition(",")[0] for line in lines]
    texts = (texts * (1 + 1000 // len(texts)))[:1000]
    request = post(f"{url}/predict", json.dumps({"texts": texts}).encode())
    ratios, rates = [], []
    for _ in range(rounds):
        served = load(url, [request], answers=100, connections=2)
        assert served.statuses == {200: 100}
        gc.collect()
        start = time.perf_counter()
        for _ in range(100):
            z = clf.logits(texts)
            clf.decide(z)
            clf.model_.probabilities(z).max(axis=1)
        own = 100_000 / (time.perf_counter() - start)
        rates.append((round(served.rate * 1000), round(own)))
        ratios.append(served.rate * 1000 / own)
    middle = sorted(rates)[len(rates) // 2]
    return {
        "texts a second in batches of 1,000": {"server": middle[0], "library": middle[1]},
        "batches / library": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main()
