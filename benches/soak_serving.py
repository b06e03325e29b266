"""The real server for a long time: a million requests, slow clients, a thousand reloads, killed workers.

Each part says what it asked for and what it found, and the exit code is 1 if one did not hold.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.serving import Server

import logitext as lt
from benches.hostile_requests import attack
from benches.load import Outcome, load, post
from benches.measure import ROOT, store

SENTENCES = (
    "The new smartphone has amazing features.",
    "Parliament votes on the budget after a long debate",
    "The sequel opens in cinemas this weekend",
    "",
    "日本語 und العربية 👍",
)
QUESTIONS = [json.dumps({"text": sentence}).encode() for sentence in SENTENCES]

Found = dict[str, Any]


def resident(pid: int) -> int:
    """Bytes of memory a process and its children hold, the shared part divided."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in (str(pid), *children):
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024


def workers(server: Server) -> list[int]:
    """Process numbers of the workers."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def requests(server: Server) -> list[bytes]:
    """What is asked in turns: single texts with and without all there is to know, a small batch."""
    everything = {"logits": True, "probabilities": True, "coverage": 0.9, "novelty": True, "explain": True}
    bodies = [
        *QUESTIONS * 12,
        json.dumps({"text": SENTENCES[0], **everything}).encode(),
        json.dumps({"texts": list(SENTENCES) * 4}).encode(),
        json.dumps({"inputs": SENTENCES[1]}).encode(),
    ]
    return [post(f"{server.url}/predict", body) for body in bodies]


def million(path: Path, count: int) -> Found:
    """Memory after many requests, against that after ten thousand."""
    with Server(path, "--no-access-log") as server:
        asked = requests(server)
        seen = load(server.url, asked, answers=10_000).statuses
        early = resident(server.process.pid)
        outcome = load(server.url, asked, answers=count)
        late = resident(server.process.pid)
    statuses = {
        code: seen.get(code, 0) + outcome.statuses.get(code, 0) for code in {*seen, *outcome.statuses}
    }
    return {
        "requests": sum(statuses.values()),
        "statuses": statuses,
        "broken": outcome.broken,
        "requests a second": round(outcome.rate),
        "MB after 10,000": round(early / 1e6, 1),
        "MB at the end": round(late / 1e6, 1),
        "holds": set(statuses) == {200} and not outcome.broken and late <= 1.05 * early,
    }


def slow_clients(path: Path, count: int = 500) -> Found:
    """99th percentile of others' latency with and without clients that send a byte a second."""
    with Server(path, "--no-access-log", "--timeout", 60) as server:
        asked = [post(f"{server.url}/predict", QUESTIONS[0])]

        def others() -> float:
            return load(server.url, asked, seconds=8, rate=1000).percentile(0.99)

        load(server.url, asked, seconds=2)
        before = [others() for _ in range(2)]
        head = f"POST /predict HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n".encode()
        body = head + b"Content-Length: 400\r\n\r\n"

        def drip() -> None:
            slow = [socket.create_connection((server.host, server.port)) for _ in range(count)]
            start = time.monotonic()
            for turn in range(1 << 30):
                at, number = divmod(turn, count)
                time.sleep(max(0.0, start + turn / count - time.monotonic()))
                sent = body if number % 2 else head
                slow[number].sendall(sent[at : at + 1] or b" ")

        # In a process of its own: in this one it would hold up those who measure.
        dripping = multiprocessing.get_context("fork").Process(target=drip, daemon=True)
        dripping.start()
        try:
            time.sleep(2)
            during = [others() for _ in range(2)]
            assert dripping.is_alive()
        finally:
            dripping.kill()
            dripping.join()
    return {
        "p99 without, ms": round(min(before), 3),
        "p99 with, ms": round(min(during), 3),
        "holds": min(during) <= 2 * min(before),
    }


def under_load(server: Server, work: Callable[[], None], check: Callable[[int, bytes], None]) -> Outcome:
    """Do work while requests go on; return all that came of them."""
    over = threading.Event()
    found = Outcome()

    def ask() -> None:
        while not over.is_set():
            one = load(server.url, requests(server), answers=500, connections=6, check=check)
            found.latencies += one.latencies
            found.broken += one.broken
            for code, times in one.statuses.items():
                found.statuses[code] = found.statuses.get(code, 0) + times

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        work()
    finally:
        over.set()
        asking.join()
    return found


def reloads(path: Path, other: Path, times: int) -> Found:
    """Models swapped under load, by rename and in place, every third a corrupt file."""
    contents = [each.read_bytes() for each in (path, other)]
    right = {}
    for each in (path, other):
        model = lt.load(each)
        shares = [
            (str(label), float(p.max()))
            for label, p in zip(model.predict(SENTENCES), model.predict_proba(SENTENCES), strict=True)
        ]
        right[str(model.model_.header["checksum"])[:16]] = set(shares)
    served = path.with_name("served.safetensors")
    shutil.copy(path, served)
    wrong: list[bytes] = []

    def check(status: int, body: bytes) -> None:
        said = json.loads(body)
        if status == 200 and "fingerprint" in said and "label" in said:
            sure = right.get(said["fingerprint"], set())
            if not any(said["label"] == label and abs(said["probability"] - p) < 1e-6 for label, p in sure):
                wrong.append(body)

    swapped = refused = 0
    numbers = random.Random(0)

    def work() -> None:
        nonlocal swapped, refused
        for turn in range(times):
            data = contents[turn % 2]
            if turn % 3 == 2:
                at = numbers.randrange(len(data))
                data = (
                    data[:at]
                    if numbers.random() < 0.5
                    else data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
                )
            if turn % 2:
                served.write_bytes(data)
            else:
                fresh = served.with_suffix(".new")
                fresh.write_bytes(data)
                fresh.replace(served)
            answer = server.post("/models/served/reload", {})
            swapped += answer.status == 200
            refused += answer.status == 422

    with Server(served, "--no-access-log", "--workers", 2) as server:
        early = resident(server.process.pid)
        outcome = under_load(server, work, check)
        late = resident(server.process.pid)
    bad = sum(turn % 3 == 2 for turn in range(times))
    return {
        "reloads": times,
        "swapped": swapped,
        "refused": refused,
        "answers": outcome.statuses,
        "broken": outcome.broken,
        "wrong": len(wrong),
        "MB": [round(early / 1e6, 1), round(late / 1e6, 1)],
        "holds": set(outcome.statuses) == {200}
        and not outcome.broken
        and not wrong
        and (swapped, refused) == (times - bad, bad),
    }


def kills(path: Path, times: int) -> Found:
    """Workers killed one after the other: the rest serves, and each comes back."""
    came_back = 0

    def work() -> None:
        nonlocal came_back
        for _ in range(times):
            victim = random.choice(workers(server))
            os.kill(victim, signal.SIGKILL)
            until = time.monotonic() + 10
            while time.monotonic() < until:
                now = workers(server)
                if len(now) == 3 and victim not in now:
                    came_back += 1
                    break
                time.sleep(0.02)
            time.sleep(1.2)  # ends within a second of their start would be another matter

    with Server(path, "--no-access-log", "--workers", 3) as server:
        outcome = under_load(server, work, lambda status, body: None)
        last = server.post("/predict", {"text": SENTENCES[0]}).status
    # What a killed worker had at hand is lost with it: at most the connections there are.
    return {
        "kills": times,
        "came back": came_back,
        "answers": outcome.statuses,
        "connections that broke": outcome.broken,
        "holds": came_back == times and last == 200 and set(outcome.statuses) == {200},
    }


def hostile(path: Path, count: int) -> Found:
    """Random and malformed requests: see `benches.hostile_requests`."""
    with Server(f"news={path}", "--no-access-log", "--timeout", 5) as server:
        found = attack(server.host, server.port, count)
        alive = server.post("/predict", {"text": SENTENCES[0]}).status == 200
    return {
        "statuses": dict(found.statuses),
        "slowest, ms": round(found.slowest * 1000, 1),
        "faults": [str(fault) for fault, _ in found.faults[:10]],
        "holds": alive and not found.faults,
    }


def main() -> None:
    """Run the parts, print and store what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["million", "slow", "reloads", "kills", "hostile"])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--no-store", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "a.safetensors", Path(folder) / "b.safetensors"
        for seed, path in enumerate(paths):
            rows = [str(ROOT / "examples" / "headlines.csv")]
            lt.TextClassifier(random_state=seed, epochs=4 + seed).fit(rows).save(path)
        work: dict[str, Callable[[], Found]] = {
            "million": lambda: million(paths[0], asked.requests),
            "slow": lambda: slow_clients(paths[0]),
            "reloads": lambda: reloads(*paths, asked.reloads),
            "kills": lambda: kills(paths[0], 20),
            "hostile": lambda: hostile(paths[0], 20_000),
        }
        found = {}
        for part in asked.parts:
            found[part] = work[part]()
            print(part, json.dumps(found[part]), flush=True)
    if not asked.no_store:
        store("soak-serving", found)
    sys.exit(0 if all(part["holds"] for part in found.values()) else 1)


if __name__ == "__main__":
    main()
