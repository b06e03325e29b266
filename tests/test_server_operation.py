"""How the server is kept running: drained, reloaded under load, its workers killed, its clients slow."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benches.load import Outcome, load, post
from tests.serving import Server

import logitext as lt

# Of several processes at once, under load.
pytestmark = pytest.mark.alone

SENTENCE = "The new smartphone has amazing features."
QUESTION = json.dumps({"text": SENTENCE}).encode()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of the same classes with other weights."""
    folder = tmp_path_factory.mktemp("models")
    paths = folder / "a.safetensors", folder / "b.safetensors"
    texts = [f"{word} number {i}" for i in range(60) for word in ("film", "phone", "vote")]
    for seed, path in enumerate(paths):
        settings: dict[str, Any] = {"epochs": 2 + seed, "char_ngrams": None, "threads": 1}
        lt.TextClassifier(random_state=seed, **settings).fit(texts, ["fun", "tech", "news"] * 60).save(path)
    return paths


@pytest.fixture
def path(models: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first that a test may change."""
    return Path(shutil.copy(models[0], tmp_path / "model.safetensors"))


def fingerprint(path: Path) -> str:
    return str(lt.load(path).model_.header["checksum"])[:16]


def workers(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class UnderLoad:
    """Asks in a thread as long as the block lasts; `answers` are what it was told, whole."""

    def __init__(self, server: Server, connections: int = 4) -> None:
        self.server = server
        self.connections = connections
        self.outcomes: list[Outcome] = []
        self.answers: list[dict[str, Any]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        request = [post(f"{self.server.url}/predict", QUESTION)]
        while not self.over.is_set():
            try:
                self.outcomes.append(
                    load(
                        self.server.url,
                        request,
                        answers=200,
                        connections=self.connections,
                        check=lambda status, body: self.answers.append(
                            {"status": status, **json.loads(body)}
                        ),
                    )
                )
            except ConnectionError:
                return

    def __enter__(self) -> "UnderLoad":
        self.thread.start()
        while not self.answers:
            time.sleep(0.01)
        return self

    def __exit__(self, *fault: object) -> None:
        self.over.set()
        self.thread.join()

    @property
    def broken(self) -> int:
        return sum(outcome.broken for outcome in self.outcomes)


def test_what_was_accepted_is_answered_before_the_end(path: Path) -> None:
    with Server(path, "--workers", 2) as server:
        # A batch that takes longer than the signal does.
        texts = [f"{SENTENCE} {i} " * 40 for i in range(8000)]
        told: dict[str, Any] = {}

        def batch() -> None:
            told["answer"] = server.request("POST", "/predict", {"texts": texts, "novelty": True})

        waiting = threading.Thread(target=batch)
        waiting.start()
        time.sleep(0.3)
        with UnderLoad(server) as under:
            time.sleep(0.2)
            server.signal(signal.SIGTERM)
            under.thread.join()
        waiting.join()
        assert server.stop() == 0
    assert {answer["status"] for answer in under.answers} == {200}
    assert under.broken == 0
    assert told["answer"].status == 200
    assert len(told["answer"].json()["answers"]) == len(texts)
    assert "ended" in server.stderr


def test_an_idle_connection_hears_that_the_server_ends(path: Path) -> None:
    with Server(path) as server:
        connection = server.connect()
        connection.request("GET", "/health")
        connection.getresponse().read()
        server.signal(signal.SIGTERM)
        time.sleep(0.25)  # noticed within 0.1 s, and idle connections stay for 0.5 s
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert json.loads(answer.read()) == {"error": "the server is ending"}
        assert server.stop() == 0


def test_a_worker_killed_is_replaced_while_the_others_serve(path: Path) -> None:
    with Server(path, "--workers", 2) as server:
        before = workers(server)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        for _ in range(50):
            assert server.post("/predict", {"text": SENTENCE}).status == 200
        after = server.wait_for(lambda: len(workers(server)) == 2 and workers(server))
        assert before[1] in after
        assert before[0] not in after
        assert server.wait_for(lambda: "another one takes its place" in server.stderr)
        assert "logitext_worker_restarts_total 1" in server.get("/metrics").body.decode()


def test_a_worker_told_to_end_as_it_starts_ends(path: Path) -> None:
    for _ in range(5):
        with Server(path, "--workers", 2) as server:
            os.kill(workers(server)[0], signal.SIGKILL)
            assert server.wait_for(lambda server=server: "another one takes its place" in server.stderr)
            assert server.stop() == 0  # not by force, after half a minute


def test_workers_do_not_outlive_their_supervisor(path: Path) -> None:
    with Server(path, "--workers", 2) as server:
        pids = workers(server)
        server.process.kill()
        server.process.wait()
        until = time.monotonic() + 10
        while any(alive(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def reloads(path: Path, models: tuple[Path, Path], times: int) -> Iterator[tuple[str, bool]]:
    """Put other models where the file is, by rename and in place, every third one damaged."""
    contents = [model.read_bytes() for model in models]
    for turn in range(times):
        data = contents[turn % 2]
        bad = turn % 3 == 2
        if bad:
            middle = len(data) // 2
            data = [data[:middle], b"", data[:-9] + b"\xff" * 9][turn // 3 % 3]
        if turn % 2:
            path.write_bytes(data)
        else:
            fresh = path.with_suffix(".new")
            fresh.write_bytes(data)
            fresh.replace(path)
        yield "hup" if turn % 4 == 3 else "post", bad


def said(server: Server) -> int:
    return server.stderr.count("model is now") + server.stderr.count("stays as it is")


def test_models_are_swapped_whole_under_load(path: Path, models: tuple[Path, Path]) -> None:
    known = {fingerprint(model): lt.load(model) for model in models}
    right = {
        each: (str(model.predict([SENTENCE])[0]), float(model.predict_proba([SENTENCE]).max()))
        for each, model in known.items()
    }
    with Server(path, "--workers", 2) as server, UnderLoad(server) as under:
        for turn, (how, bad) in enumerate(reloads(path, models, 24)):
            now = fingerprint(models[turn % 2])
            if how == "post":
                answer = server.post("/models/model/reload", {})
                assert answer.status == (422 if bad else 200), answer.body
                if bad:
                    assert str(path) in answer.json()["error"]
                    assert "stays as it is" in answer.json()["error"]
                else:
                    assert answer.json()["fingerprint"] == now
            else:
                server.signal(signal.SIGHUP)
                # Each time it says one sentence.
                assert server.wait_for(lambda turn=turn: said(server) == turn + 1)
            if not bad:
                # Every worker has it: a connection each, more than there are workers.
                for _ in range(6):
                    assert server.post("/predict", {"text": SENTENCE}).json()["fingerprint"] == now
        metrics = server.get("/metrics").body.decode()
    assert under.broken == 0
    assert {answer["status"] for answer in under.answers} == {200}
    assert {answer["fingerprint"] for answer in under.answers} == set(known)
    for answer in under.answers:
        label, probability = right[answer["fingerprint"]]
        assert answer["label"] == label
        assert answer["probability"] == pytest.approx(probability, abs=1e-7)
    assert "logitext_reloads_total 16" in metrics
    assert "logitext_reloads_refused_total 8" in metrics


def test_a_file_that_is_gone_keeps_being_served(path: Path) -> None:
    with Server(path) as server:
        path.unlink()
        assert server.post("/predict", {"text": SENTENCE}).status == 200
        answer = server.post("/models/model/reload", {})
        assert answer.status == 422
        assert str(path) in answer.json()["error"]
        assert server.post("/predict", {"text": SENTENCE}).status == 200


def test_copies_are_not_left_behind(path: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    with Server(path, env={"TMPDIR": str(copies)}) as server:
        assert server.post("/models/model/reload", {}).status == 200
        assert list(copies.iterdir()) == []
        server.kill()
    assert list(copies.iterdir()) == []


def test_slow_requests_are_given_up_and_others_do_not_wait(path: Path) -> None:
    with Server(path, "--timeout", 1.5) as server:
        slow = [socket.create_connection((server.host, server.port)) for _ in range(100)]
        head = f"POST /predict HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
        whole = (head + "Content-Length: 1000\r\n\r\n{").encode()
        for number, sock in enumerate(slow):
            sock.sendall(whole if number % 2 else whole[: number + 5])
        start = time.monotonic()
        for _ in range(100):
            assert server.post("/predict", {"text": SENTENCE}).status == 200
        assert time.monotonic() - start < 1.5
        for sock in slow:
            sock.settimeout(10)
            said = b"".join(iter(lambda sock=sock: sock.recv(4096), b""))
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"took longer than 1.5 s to arrive" in said
            sock.close()
        assert server.post("/predict", {"text": SENTENCE}).status == 200


def test_long_work_ends_when_its_time_is_over(path: Path) -> None:
    with Server(path, "--timeout", 0.001) as server:
        texts = [f"{SENTENCE} {i}" for i in range(5000)]
        answer = server.post("/predict", {"texts": texts})
        assert answer.status == 503
        assert "takes longer than 0.001 s" in answer.json()["error"]
        lines = server.post("/predict", {"texts": texts, "stream": True})
        assert "takes longer" in lines.lines()[-1]["error"]
        assert server.post("/predict", {"text": SENTENCE}).status == 200


def test_workers_that_cannot_live_are_not_started_for_ever(path: Path) -> None:
    with Server(path) as server:
        for _ in range(8):
            for pid in workers(server):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            if server.exit_code is not None:
                break
        assert server.wait_for(lambda: server.exit_code is not None)
        assert server.exit_code == 1
        assert "giving up" in server.stderr
