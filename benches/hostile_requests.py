"""Random and malformed requests against a real server: none may be answered by 5xx, hang, or end it.

Requests are made from ones that are right: their JSON is mutated where it has structure, their bytes
where they have none, their headers and their framing exchanged, and they are cut short. A request is
right again often enough that the depths behind the checks are reached.

    python -m benches.hostile_requests model.safetensors --requests 20000
    python -m benches.hostile_requests --at 127.0.0.1:8000 --seed 7
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 15.0
"""Seconds after which no answer counts as a hang: less than a bench waits, more than a request takes."""
CUT = 0.05
"""Seconds to wait for an answer to a request that is not whole, which need not get one."""

TEXTS = ("A new phone", "", "日本語", "naïve 😀", "\x00\u2028", "a" * 3000, "word " * 200, "\u202e\u0301")
NAMES: tuple[str, ...] = (
    "text",
    "texts",
    "model",
    "logits",
    "probabilities",
    "top_k",
    "threshold",
    "max_error",
    "coverage",
)
NAMES += ("novelty", "explain", "stream", "inputs", "raw_scores", "truncate", "truncation_direction", "id")
NAMES += ("name", "shape", "datatype", "data", "outputs", "parameters", "", "__proto__", "texts\x00")
ATOMS: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2, 0.5, 1e-9, 1e308, 2**53, 2**64, -(2**63), 10**40)
ATOMS += (
    "",
    "a",
    "news",
    "BYTES",
    "FP32",
    "left",
    "label",
    "logits",
    [],
    {},
    [[]],
    [None],
    {"name": "label"},
)
SEEDS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/predict", {"text": "A new phone"}),
    ("POST", "/predict", {"texts": ["A new phone", "b"], "probabilities": True, "top_k": 2}),
    ("POST", "/predict", {"texts": ["a", "b"], "stream": True, "coverage": 0.9}),
    ("POST", "/predict", {"text": "a", "explain": True, "logits": True, "novelty": True, "max_error": 0.2}),
    ("POST", "/predict", {"inputs": "I like you."}),
    ("POST", "/predict", {"inputs": [["I like you."], ["I hate pineapples"]], "raw_scores": True}),
    (
        "POST",
        "/v2/models/{model}/infer",
        {
            "id": "42",
            "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}],
            "outputs": [{"name": "probabilities"}, {"name": "label"}],
        },
    ),
    ("POST", "/models/{model}/reload", None),
    ("GET", "/models", None),
    ("GET", "/models/{model}", None),
    ("GET", "/models/{model}/report", None),
    ("GET", "/v2/models/{model}/versions/1", None),
    ("GET", "/v2/models/{model}/ready", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
    ("GET", "/docs", None),
    ("GET", "/", None),
    ("OPTIONS", "/predict", None),
)
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PURGE", "get", "")
HEADERS = (
    b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=utf-16",
    b"Content-Encoding: gzip",
    b"Content-Length: 7",
    b"Content-Length: -1",
    b"Content-Length: 18446744073709551616",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Host: evil.example",
    b"Host: [",
    b"Host: ]:",
    b"Origin: null",
    b"Origin: https://evil.example",
    b"Authorization: Bearer \xff",
    b"Accept: application/x-ndjson",
    b"Expect: 100-continue",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Connection: keep-alive",
    b"Range: bytes=0-0",
    b"Inference-Header-Content-Length: 5",
    b"X-" + b"a" * 5000 + b": " + b"b" * 5000,
    b": nothing",
    b"no colon",
    b" folded: value",
    b"X: \x01",
)


@dataclass
class Findings:
    """What became of the requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    """What was wrong with an answer, and the request."""
    slowest: float = 0.0


def mutated(value: Any, dice: random.Random, depth: int = 0) -> Any:
    """Return JSON's value with something changed somewhere in it."""
    if dice.random() < 0.25 or depth > 6:
        return dice.choice((dice.choice(ATOMS), dice.choice(TEXTS)))
    if isinstance(value, dict) and value:
        found = dict(value)
        name = dice.choice(list(found))
        what = dice.random()
        if what < 0.5:
            found[name] = mutated(found[name], dice, depth + 1)
        elif what < 0.65:
            del found[name]
        elif what < 0.75:
            found[dice.choice(NAMES)] = found.pop(name)
        else:
            found[dice.choice(NAMES)] = dice.choice((*ATOMS, *TEXTS))
        return found
    if isinstance(value, list) and value:
        at = dice.randrange(len(value))
        changed = mutated(value[at], dice, depth + 1)
        if dice.random() < 0.2 and len(json.dumps(value)) < 2000:
            return value * dice.choice((2, 50, 3000))
        return [*value[:at], changed, *value[at + dice.choice((0, 1, 1)) :]]
    return [value] * dice.choice((1, 2, 1001)) if dice.random() < 0.3 else dice.choice(ATOMS)


def spelled(value: Any, dice: random.Random) -> bytes:
    """Return a value as JSON, or nearly so."""
    body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
    what = dice.random()
    if what < 0.75 or not body:
        return body
    at = dice.randrange(len(body))
    if what < 0.85:
        return body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]
    if what < 0.9:
        return body[:at]
    pieces = (b"\\ud800", b"NaN", b"1e999", b"[" * 5000, b"\xff", b"\x00", b"9" * 400, b'"', b"}", b"/**/")
    return body[:at] + dice.choice(pieces) + body[at:]


def request(dice: random.Random, model: str) -> tuple[bytes, bool]:
    """Return the bytes of a request, and whether they are whole: whether an answer is owed."""
    method, path, value = dice.choice(SEEDS)
    path = path.format(model=model)
    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        value = mutated(value, dice) if value is not None or dice.random() < 0.1 else None
    body = spelled(value, dice) if method == "POST" else b""
    if dice.random() < 0.03:
        body = dice.randbytes(dice.choice((1, 100, 100_000)))
    if dice.random() < 0.1:
        method = dice.choice(METHODS)
    if dice.random() < 0.1:
        at = dice.randrange(len(path) + 1)
        path = (
            path[:at]
            + dice.choice(("%00", "/", "..", "%ff", "?a=%", "#", "é", "%2e%2e/", "a" * 3000))
            + path[at:]
        )
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close"]
    if body:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    whole = True
    if dice.random() < 0.25:
        for _ in range(dice.choice((1, 1, 2, 5))):
            lines.insert(dice.randint(1, len(lines)), dice.choice(HEADERS))
        whole = False  # The framing may be another now.
    sent = b"\r\n".join([*lines, b"", body])
    if dice.random() < 0.05:
        whole, sent = False, sent[: dice.randrange(len(sent))]
    if dice.random() < 0.05:
        whole, at = False, dice.randrange(max(1, len(sent)))
        sent = sent[:at] + dice.randbytes(dice.choice((1, 1, 2, 50))) + sent[at + 1 :]
    return sent, whole


def attack(host: str, port: int, count: int, seed: int = 0, model: str = "news") -> Findings:
    """Send requests, one after the other, and look at every answer.

    Parameters
    ----------
    host, port
        Of a server that is there for this: it may be asked to read its models anew.
    count : int
    seed : int
        The same requests for the same seed.
    model : str
        The name of one that it serves.

    Returns
    -------
    Findings
    """
    dice, found = random.Random(seed), Findings()
    for _ in range(count):
        sent, whole = request(dice, model)
        begin = time.perf_counter()
        fault, status = asked(host, port, sent, whole)
        found.slowest = max(found.slowest, time.perf_counter() - begin)
        found.statuses[status] += 1
        if fault:
            found.faults.append((fault, sent))
            if status == "gone":
                break
    return found


def asked(host: str, port: int, sent: bytes, whole: bool) -> tuple[str, str]:
    """Send a request; return what is wrong with the answer, if anything, and its status."""
    got = bytearray()
    try:
        sock = socket.create_connection((host, port), PATIENCE)
    except OSError as error:
        return f"it does not listen: {error}", "gone"
    with sock:
        if not whole:
            sock.settimeout(CUT)
        try:
            sock.sendall(sent)
            while part := sock.recv(1 << 16):
                got += part
        except TimeoutError:
            if whole:
                return "no answer", "hang"
        except OSError:
            pass  # It may end the connection at what it does not read.
    answers = re.findall(rb"HTTP/1\.1 (\d{3}) ", got)
    if not answers:
        return ("the connection ended without an answer", "none") if whole else ("", "none")
    status = answers[-1].decode()
    if any(code.startswith(b"5") for code in answers):
        return f"{bytes(got[:2000])!r}", status
    head, _, body = got.partition(b"\r\n\r\n")
    if whole and status[0] == "4" and not sent.startswith(b"HEAD") and body:
        try:
            json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return f"an error that is no JSON: {bytes(got[:2000])!r}", status
    if whole and b"content-type" not in head.lower() and status not in ("100", "204"):
        return f"an answer without a type: {bytes(got[:2000])!r}", status
    return "", status


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", help="a model file, to be served for this")
    parser.add_argument("--at", help="HOST:PORT of a server that is there, in place of a model")
    parser.add_argument("--name", default="news", help="of a model of that server")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if (given.model is None) == (given.at is None):
        parser.error("give a model, or --at")
    if given.at is not None:
        host, _, port = given.at.rpartition(":")
        return report(attack(host, int(port), given.requests, given.seed, given.name))
    program = "from logitext.cli import main; main()"
    words = ["serve", f"{given.name}={given.model}", "--port", "0", "--no-access-log", "--timeout", "5"]
    with tempfile.NamedTemporaryFile() as file:
        said = Path(file.name)
        server = subprocess.Popen([sys.executable, "-c", program, *words], stderr=file)
        try:
            where = None
            while where is None and server.poll() is None:
                time.sleep(0.05)
                where = re.search(r"http://(\S+):(\d+) ", said.read_text())
            code = 1
            if where is not None:
                code = report(attack(where[1], int(where[2]), given.requests, given.seed, given.name))
                code = max(code, server.poll() is not None)
        finally:
            server.terminate()
            server.wait(30)
        for sentence, times in Counter(said.read_text().splitlines()).items():
            print(f"{times:>8,} times the server said: {sentence}")
    return code


def report(found: Findings) -> int:
    """Print what was found; return the exit code."""
    for status, times in sorted(found.statuses.items()):
        print(f"{status:>5} {times:>8,}")
    print(f"slowest {found.slowest * 1000:.0f} ms, {len(found.faults)} faults")
    for fault, sent in found.faults[:10]:
        print(f"\n{fault}\n  to {sent[:1000]!r}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
