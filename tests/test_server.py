"""The server's own endpoints: the answers of the command line; all that can be wrong with a request."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benches.hostile_requests import attack

import logitext as lt
from logitext.server.replies import Problem
from logitext.server.serving import Serving
from serving import JSON_KIND, Answer, Refused, Server, write_models

EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN = "a-token-of-the-tests"
TEXTS = [
    "A new phone with a better camera",
    "The minister resigned",
    "日本語 – naïve 😀",
    "",
    '"\\\n\u2028\x00',
]
LIMITS = ("--max-texts", 2500, "--max-text", "2kB", "--max-body", "400kB", "--timeout", 3)
PROGRAM = "from logitext.cli import main; main()"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    report = ("--report", files / "report.html")
    models = (files / "news.safetensors", files / "topics.safetensors")
    with Server(*models, *report, "--threads", 1, *LIMITS) as running:
        yield running
    assert running.exit_code == 0
    assert "Traceback" not in running.stderr


def refused(found: Any, status: int, *said: str) -> None:
    """Check that an answer is an error of a status, with a sentence that says something."""
    assert found.status == status, found.body
    assert found.headers["content-type"] == "application/json"
    assert set(found.json()) == {"error"}
    for words in said:
        assert words in found.json()["error"]


# -- answers --------------------------------------------------------------------

SWITCHES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("news", {}, []),
    ("news", {"logits": True}, ["--logits"]),
    ("news", {"probabilities": True}, ["--probabilities"]),
    ("news", {"logits": True, "probabilities": True}, ["--logits", "--probabilities"]),
    ("news", {"top_k": 2}, ["--top-k", "2"]),
    ("news", {"top_k": 99}, ["--top-k", "99"]),
    ("news", {"threshold": 0.9}, ["--threshold", "0.9"]),
    ("news", {"max_error": 0.2}, ["--max-error", "0.2"]),
    ("news", {"coverage": 0.9}, ["--set", "0.9"]),
    ("news", {"novelty": True}, ["--novelty"]),
    (
        "news",
        {"novelty": True, "coverage": 0.8, "logits": True, "top_k": 1, "threshold": 0.5},
        ["--novelty", "--set", "0.8", "--logits", "--top-k", "1", "--threshold", "0.5"],
    ),
    ("topics", {}, []),
    ("topics", {"logits": True, "probabilities": True}, ["--logits", "--probabilities"]),
    ("topics", {"threshold": 0.3, "top_k": 3}, ["--threshold", "0.3", "--top-k", "3"]),
]


def run(*words: object, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("name", "asked", "switches"), SWITCHES)
def test_answers_are_those_of_the_command_line(
    server: Server, files: Path, tmp_path: Path, name: str, asked: dict[str, Any], switches: list[str]
) -> None:
    table = tmp_path / "texts.jsonl"
    table.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    answers = tmp_path / "answers.jsonl"
    done = run("predict", files / f"{name}.safetensors", table, "-o", answers, "--threads", 1, *switches)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    rows = [{key: value for key, value in line.items() if key != "text"} for line in lines]
    fingerprint = server.get(f"/models/{name}").json()["fingerprint"]
    of = {"model": name, "fingerprint": fingerprint}
    several = server.post("/predict", {"texts": TEXTS, "model": name, **asked})
    assert several.json() == {**of, "answers": rows}
    for text, row in zip(TEXTS, rows, strict=True):
        assert server.post("/predict", {"text": text, "model": name, **asked}).json() == {**of, **row}
    for more, headers in (({"stream": True}, {}), ({}, {"Accept": "application/x-ndjson"})):
        lines_of = server.post("/predict", {"texts": TEXTS, "model": name, **asked, **more}, headers)
        assert lines_of.headers["content-type"] == "application/x-ndjson"
        assert lines_of.headers["x-logitext-fingerprint"] == fingerprint
        assert lines_of.lines() == rows


def test_null_options_are_as_none(server: Server) -> None:
    plain = server.post("/predict", {"text": "a"}).json()
    names = ("model", "logits", "top_k", "threshold", "max_error", "coverage", "explain", "stream")
    assert server.post("/predict", {"text": "a", **dict.fromkeys(names)}).json() == plain


@pytest.mark.parametrize("name", ["news", "topics"])
def test_explanations_are_those_of_the_command_line(server: Server, files: Path, name: str) -> None:
    done = run("explain", files / f"{name}.safetensors", TEXTS[0], "--json")
    wanted = json.loads(done.stdout)
    body = {"text": TEXTS[0], "explain": True, "model": name}
    found = server.post("/predict", body).json()["explanation"]
    assert found == {key: value for key, value in wanted.items() if key in found}
    assert found["ngrams"]
    many = server.post("/predict", {"texts": TEXTS, "explain": True, "model": name}).json()["answers"]
    assert many[0]["explanation"] == found
    assert [row["explanation"]["unknown"] for row in many][3] == []


def test_long_batches_and_long_texts(server: Server, files: Path) -> None:
    model = lt.load(files / "news.safetensors")
    texts = [f"text number {number}" for number in range(2500)]
    wanted = model.predict(texts).tolist()
    found = server.post("/predict", {"texts": texts}).json()["answers"]
    assert [row["label"] for row in found] == wanted
    lines = server.post("/predict", {"texts": texts, "stream": True}).lines()
    assert lines == found
    long = "word " * 400
    assert server.post("/predict", {"text": long}).json()["label"] == model.predict([long])[0]


def test_what_can_be_read(server: Server) -> None:
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/ready").json() == {"status": "ready", "models": ["news", "topics"]}
    said = server.get("/models").json()
    assert [one["name"] for one in said["models"]] == ["news", "topics"]
    assert said["default"] == "news"
    card = server.get("/models/topics").json()
    assert card["multilabel"] is True
    assert "third" in card["strongest"]
    report = server.get("/models/news/report")
    assert report.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in report.headers["content-security-policy"]
    refused(server.get("/models/topics/report"), 404, "no report")
    assert server.get("/").headers["content-type"] == "text/html; charset=utf-8"
    for path in ("/health", "/", "/models", "/nothing"):
        found = server.get(path)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"
    assert server.get("/health?x=1").status == 200


@pytest.mark.parametrize("path", ["/health", "/", "/models", "/models/news", "/openapi.json", "/docs", "/v2"])
def test_head_is_get_without_its_body(server: Server, path: str) -> None:
    whole, head = server.get(path), server.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    same = {name: value for name, value in whole.headers.items() if name != "date"}
    assert {name: value for name, value in head.headers.items() if name != "date"} == same


# -- what is wrong --------------------------------------------------------------

WRONG: list[tuple[Any, int, str]] = [
    ([], 400, "a list"),
    ("text", 400, "a string"),
    (None, 400, "null"),
    (3, 400, "a number"),
    ({}, 400, '"text"'),
    ({"text": "a", "texts": ["b"]}, 400, "either"),
    ({"model": "news"}, 400, "either"),
    ({"text": None}, 400, '"text" must be a string, got null'),
    ({"text": ["a"]}, 400, '"text" must be a string, got a list'),
    ({"text": 5}, 400, '"text" must be a string, got a number'),
    ({"text": True}, 400, '"text" must be a string, got a boolean'),
    ({"text": {}}, 400, '"text" must be a string, got an object'),
    ({"texts": "a"}, 400, '"texts" must be a list'),
    ({"texts": None}, 400, '"texts" must be a list'),
    ({"texts": []}, 400, "empty"),
    ({"texts": ["a", None]}, 400, '"texts[1]" must be a string, got null'),
    ({"texts": ["a", "b", 1.5]}, 400, '"texts[2]"'),
    ({"texts": [["a"]]}, 400, '"texts[0]"'),
    ({"texts": ["a"] * 2501}, 413, "2,501 texts"),
    ({"text": "a" * 2001}, 413, '"text" is too long'),
    ({"text": "é" * 1001}, 413, '"text" is too long'),
    ({"texts": ["a", "日" * 667]}, 413, '"texts[1]" is too long'),
    ({"text": "a", "modle": "news"}, 400, "'modle' is no field"),
    ({"text": "a", "model": "nothing"}, 404, "'nothing'"),
    ({"text": "a", "model": ""}, 404, "''"),
    ({"text": "a", "model": 1}, 400, '"model"'),
    ({"text": "a", "logits": 1}, 400, '"logits"'),
    ({"text": "a", "probabilities": "yes"}, 400, '"probabilities"'),
    ({"text": "a", "top_k": 0}, 422, '"top_k"'),
    ({"text": "a", "top_k": -3}, 422, '"top_k"'),
    ({"text": "a", "top_k": 1.5}, 400, '"top_k"'),
    ({"text": "a", "top_k": True}, 400, '"top_k"'),
    ({"text": "a", "top_k": "1"}, 400, '"top_k"'),
    ({"text": "a", "threshold": 2}, 422, '"threshold"'),
    ({"text": "a", "threshold": -0.1}, 422, '"threshold"'),
    ({"text": "a", "threshold": True}, 400, '"threshold"'),
    ({"text": "a", "coverage": 2}, 422, '"coverage"'),
    ({"text": "a", "coverage": 0}, 422, '"coverage"'),
    ({"text": "a", "coverage": 1}, 422, '"coverage"'),
    ({"text": "a", "coverage": 1e-12}, 422, ""),
    ({"text": "a", "coverage": "0.9"}, 400, '"coverage"'),
    ({"text": "a", "max_error": 1e-9}, 422, ""),
    ({"text": "a", "max_error": 1.0}, 422, '"max_error"'),
    ({"text": "a", "novelty": []}, 400, '"novelty"'),
    ({"text": "a", "explain": True, "stream": True}, 422, '"explain" and "stream"'),
    ({"texts": ["a"] * 101, "explain": True}, 413, '"explain"'),
    ({"text": "a", "model": "topics", "coverage": 0.9}, 422, ""),
    ({"text": "a", "model": "topics", "max_error": 0.1}, 422, ""),
    ({"text": "a", "model": "topics", "novelty": True}, 422, ""),
    ({"texts": ["a"] * 9, "model": "topics", "novelty": True}, 422, ""),
    ({"texts": ["a"] * 9, "model": "topics", "novelty": True, "stream": True}, 422, ""),
]


@pytest.mark.parametrize(("body", "status", "said"), WRONG)
def test_a_question_of_another_shape(server: Server, body: Any, status: int, said: str) -> None:
    # As bytes: json.dumps makes no difference of None and nothing to send.
    found = server.request("POST", "/predict", json.dumps(body), JSON_KIND)
    if status == 422 and json.dumps(body).find("1e-12") > 0:
        assert found.status in (200, 422)  # An empty set may be all there is.
        return
    refused(found, status, said)


def test_answers_too_large_to_hold(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Serving.read("news", str(files / "news.safetensors"), 1)
    monkeypatch.setattr("logitext.server.serving.MOST_NUMBERS", 1000)
    k = len(serving.names)
    serving.check_size(10**9, {})
    serving.check_size(1000 // k, {"logits": True})
    for texts, wanted in ((1000 // k + 1, {"probabilities": True}), (501, {"top_k": 2})):
        with pytest.raises(Problem, match="ask in parts") as caught:
            serving.check_size(texts, wanted)
        assert caught.value.status == 413
    assert list(serving.explained(["The minister"]))
    with pytest.raises(Problem, match="shorter texts"):
        list(serving.explained(["The minister resigned after the vote"] * 100))


def test_lines_do_not_explain(server: Server) -> None:
    headers = {"Accept": "application/x-ndjson"}
    refused(server.post("/predict", {"texts": ["a"], "explain": True}, headers), 422, '"explain"')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"text", "not JSON"),
        (b'{"text": "a"', "not JSON"),
        (b'{"text": "a"}}', "not JSON"),
        (b"{'text': 'a'}", "not JSON"),
        (b'{"text": NaN}', "not JSON"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": "\\udfff \\ud83d"}', "not JSON"),
        (b'{"text": "\xed\xa0\x80"}', "UTF-8 at byte 10"),
        (b'{"text": "\xff"}', "UTF-8 at byte 10"),
        ('{"text": "a"}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"text": "a"}', "not JSON"),
        (b"[" * 300_000, "not JSON"),
        (b'{"a":' * 60_000, "not JSON"),
        (b'{"text": "a\nb"}', "not JSON"),
        (b"\x00" * 100, "not JSON"),
    ],
)
def test_a_body_that_is_no_json(server: Server, body: bytes, said: str) -> None:
    refused(server.request("POST", "/predict", body, JSON_KIND), 400, said)


def test_numbers_beyond_all_bounds(server: Server) -> None:
    for number in ("9" * 5000, "1e400", "-1e400", "1" + "0" * 400, "1.5e-400"):
        for name in ("top_k", "threshold", "coverage"):
            body = f'{{"text": "a", "{name}": {number}}}'
            assert server.request("POST", "/predict", body, JSON_KIND).status in (200, 400, 422)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("", 415),
    ],
)
def test_content_types(server: Server, kind: str, status: int) -> None:
    found = server.request("POST", "/predict", b'{"text": "a"}', {"Content-Type": kind})
    assert found.status == status
    if status == 415:
        refused(found, 415, "application/json")


def test_without_content_type(server: Server) -> None:
    sent = b'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"text": "a"}'
    assert server.raw(sent).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_compressed_body(server: Server, kind: str) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    refused(server.request("POST", "/predict", b"\x1f\x8b\x08", headers), 415, "compressed")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/predict/", 404),
        ("GET", "/models/nothing", 404),
        ("GET", "/models/", 404),
        ("GET", "/models/news/nothing", 404),
        ("GET", "/models/nothing/report", 404),
        ("POST", "/models/nothing/reload", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/models/%ff%fe", 404),
        ("GET", "/%F0%9F%98%80", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("PUT", "/predict", 405),
        ("PATCH", "/models", 405),
        ("POST", "/health", 405),
        ("POST", "/models", 405),
        ("GET", "/models/news/reload", 405),
        ("TRACE", "/health", 405),
        ("OPTIONS", "/predict", 405),
    ],
)
def test_paths_and_methods(server: Server, method: str, path: str, status: int) -> None:
    found = server.request(method, path)
    refused(found, status)
    if status == 405:
        allowed = found.headers["allow"].split(", ")
        assert method not in allowed
        assert allowed in (["GET"], ["POST"], ["GET", "HEAD"])


def test_a_body_too_large(server: Server) -> None:
    refused(server.request("POST", "/predict", b" " * 400_001, JSON_KIND), 413, "400,001", "400,000")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    # It says so before it is sent; and in chunks it is stopped when it has come too far.
    assert server.raw(head + b"Content-Length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 8).startswith(b"HTTP/1.1 413 ")
    whole = b'd\r\n{"text": "a"}\r\n0\r\n\r\n'
    found = server.raw(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + whole)
    assert found.startswith(b"HTTP/1.1 200 ")


def test_who_sends_too_much_hears_so(server: Server) -> None:
    # Not a connection that ends while they are still sending.
    refused(server.request("POST", "/predict", b" " * 30_000_000, JSON_KIND), 413, "30,000,000")
    connection = server.connect()
    for _ in range(2):
        connection.request("POST", "/predict", b" " * 3_000_000, JSON_KIND)
        assert connection.getresponse().read().startswith(b'{"error"')
        connection.request("POST", "/predict", iter([b" " * 100_000] * 30), JSON_KIND, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status in (411, 413)
        answer.read()
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
    waiting = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n"
    )
    found = server.raw(waiting + b"Content-Type: application/json\r\n\r\n", finish=False)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in found


def test_a_body_cut_short(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    cut = head + b'Content-Length: 50\r\n\r\n{"text": "a'
    server.raw(cut)
    # Who does not send the rest is not waited for longer than the timeout.
    assert server.raw(cut, finish=False).startswith(b"HTTP/1.1 408 ")
    assert server.raw(head, finish=False).startswith(b"HTTP/1.1 408 ")
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"get /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /h\xffealth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX y: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_bytes_that_are_no_request(server: Server, sent: bytes) -> None:
    found = server.raw(sent)
    status = int(found.split(b" ")[1])
    assert status in (400, 404, 405, 413), found
    body = found.partition(b"\r\n\r\n")[2]
    assert set(json.loads(body)) == {"error"}


def test_headers_without_end(server: Server) -> None:
    start = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    for sent in (
        start + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        start + b"".join(b"X%d: %s\r\n" % (number, b"a" * 100) for number in range(2000)) + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        start + b"X: " + b"a" * 2_000_000,
    ):
        assert server.raw(sent).startswith(b"HTTP/1.1 431 ")
    enough = start + b"Connection: close\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"
    assert server.raw(enough).startswith(b"HTTP/1.1 200 ")


def test_requests_behind_one_another(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b'{"text": "a"}'
    two = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    two += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = server.raw(one + two + one + last, finish=False)
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"200", b"200", b"200", b"404"]


def test_an_upgrade_is_not_taken(server: Server) -> None:
    headers = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + headers
    found = server.raw(sent + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", timeout=5)
    assert found.startswith(b"HTTP/1.1 200 ")


# -- who asks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("10.0.0.1", 421),
        ("[::2]", 421),
        ("localhost@evil.example", 421),
        ("é", 421),
        ("", 400),
    ],
)
def test_hosts(server: Server, host: str, status: int) -> None:
    sent = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
    assert server.raw(sent).startswith(b"HTTP/1.1 %d " % status)


def test_an_allowed_host(files: Path) -> None:
    with Server(files / "news.safetensors", "--allow-host", "models.example") as server:
        for host, status in (("models.example:8000", 200), ("MODELS.example", 200), ("other.example", 421)):
            assert server.get("/health", {"Host": host}).status == status


def test_origins(server: Server, files: Path) -> None:
    own = f"http://{server.host}:{server.port}"
    body = {"text": "a"}
    assert server.post("/predict", body, {"Origin": own}).status == 200
    for origin in (
        "https://evil.example",
        "null",
        "http://localhost:1",
    ):
        refused(server.post("/predict", body, {"Origin": origin}), 403, "--cors-origin")
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        found = server.request("OPTIONS", "/predict", headers=asked)
        assert found.status == 403
        assert "access-control-allow-origin" not in found.headers
    allowed = {"Origin": "https://app.example"}
    with Server(files / "news.safetensors", "--cors-origin", "https://app.example") as other:
        found = other.post("/predict", body, allowed)
        assert found.status == 200
        assert found.headers["access-control-allow-origin"] == "https://app.example"
        assert found.headers["vary"] == "Origin"
        assert (
            other.post("/predict", {}, allowed).headers["access-control-allow-origin"]
            == "https://app.example"
        )
        preflight = other.request(
            "OPTIONS", "/predict", headers={**allowed, "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "Content-Type" in preflight.headers["access-control-allow-headers"]
        assert other.post("/predict", body, {"Origin": "https://evil.example"}).status == 403
        assert "access-control-allow-origin" not in other.post("/predict", body).headers


def test_a_token(files: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    origin = {"Origin": "https://app.example"}
    arguments = (files / "news.safetensors", "--cors-origin", "https://app.example")
    with Server(*arguments, "--token-file", tmp_path / "token") as server:
        body = {"text": "a"}
        for headers, said in (
            ({}, "wants a token"),
            ({"Authorization": ""}, "wants a token"),
            ({"Authorization": "Bearer"}, "wants a token"),
            ({"Authorization": f"Basic {TOKEN}"}, "wants a token"),
            ({"Authorization": f"Bearer {TOKEN}x"}, "not right"),
            ({"Authorization": f"Bearer {TOKEN[:-1]}"}, "not right"),
            ({"Authorization": "Bearer é"}, "not right"),
        ):
            found = server.post("/predict", body, headers)
            refused(found, 401, said)
            assert found.headers["www-authenticate"].startswith("Bearer")
        for path in ("/models", "/metrics", "/v2", "/v2/models/news", "/nothing", "/models/news/report"):
            refused(server.get(path), 401)
        for path in ("/", "/health", "/ready", "/openapi.json", "/docs"):
            assert server.get(path).status == 200
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert server.post("/predict", body, {"Authorization": f"{scheme} {TOKEN}"}).status == 200
        # A browser asks whether it may without the token.
        asked = {**origin, "Access-Control-Request-Method": "POST"}
        assert server.request("OPTIONS", "/predict", headers=asked).status == 204
    assert TOKEN not in server.stdout + server.stderr


# -- what is kept ---------------------------------------------------------------


def test_the_log_has_no_texts(files: Path) -> None:
    secret = "xyzzy plugh secret words"
    with Server(files / "news.safetensors") as server:
        server.post("/predict", {"text": secret})
        server.post("/predict", {"texts": [secret] * 3, "stream": True})
        server.post("/predict", {"text": secret, "coverage": 2})
        server.request("POST", "/predict", f'{{"text": "{secret}', JSON_KIND)
        server.post("/predict", {"inputs": secret})
        tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "data": [secret]}
        server.post("/v2/models/news/infer", {"inputs": [tensor]})
    lines = [line for line in server.log() if line["method"] == "POST"]
    assert [line["status"] for line in lines] == [200, 200, 422, 400, 200, 200]
    assert [line["texts"] for line in lines] == [1, 3, 0, 0, 1, 1]
    assert {"time", "client", "method", "path", "status", "ms", "received", "sent", "texts"} == set(lines[0])
    assert "secret" not in server.stdout + server.stderr
    with Server(files / "news.safetensors", "--log-texts") as server:
        server.post("/predict", {"texts": [secret, "é" * 2000]})
        server.post("/predict", {"inputs": secret})
    asked = [line["said"] for line in server.log() if "said" in line]
    assert asked == [[secret, "é" * 1000], [secret]]
    with Server(files / "news.safetensors", "--no-access-log") as server:
        server.post("/predict", {"text": secret})
    assert server.stdout == ""


def settled(found: Answer) -> Answer | None:
    """Metrics, once only the request for them is at hand."""
    return found if b"\nlogitext_requests_at_hand 1\n" in found.body else None


def test_metrics_count_right(files: Path) -> None:
    with Server(files / "news.safetensors", "--workers", 2) as server:
        for _ in range(5):
            server.post("/predict", {"texts": ["a", "b"]})
        server.post("/predict", {"inputs": [["a"], ["b"], ["c"]]})
        server.post("/predict", {"inputs": 5})
        server.post("/predict", {"text": 5})
        server.get("/nothing")
        server.get("/v2/models/news")
        server.post("/models/news/reload", None)
        # A worker counts a request once it has answered: another one may be asked before.
        found = server.wait_for(lambda: settled(server.get("/metrics")))
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in found.body.decode().splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    assert values['logitext_requests_total{route="/predict",code="200"}'] == 6
    assert values['logitext_requests_total{route="/predict",code="422"}'] == 1
    assert values['logitext_requests_total{route="/predict",code="400"}'] == 1
    assert values['logitext_requests_total{route="other",code="404"}'] == 1
    assert values['logitext_requests_total{route="/v2",code="200"}'] == 1
    assert values['logitext_requests_total{route="/models",code="200"}'] == 1
    assert values['logitext_request_seconds_count{route="/predict"}'] == 8
    assert values["logitext_texts_total"] == 13
    assert values["logitext_reloads_total"] == 1
    assert values["logitext_requests_at_hand"] == 1  # This one.
    assert values["logitext_workers"] == 2
    sent = sum(
        len(json.dumps(body)) for body in ({"inputs": [["a"], ["b"], ["c"]]}, {"inputs": 5}, {"text": 5})
    )
    assert values["logitext_received_bytes_total"] == sent + 5 * len(json.dumps({"texts": ["a", "b"]}))


# -- the command ----------------------------------------------------------------


def test_others_are_not_served_without_a_token(files: Path) -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(Refused, match="LOGITEXT_TOKEN") as caught:
            Server(files / "news.safetensors", "--host", host)
        assert caught.value.exit_code == 2
    with Server(files / "news.safetensors", "--host", "0.0.0.0", env={"LOGITEXT_TOKEN": TOKEN}) as server:
        assert server.get("/models", {"Authorization": f"Bearer {TOKEN}"}).status in (200, 421)


def test_a_port_in_use(server: Server, files: Path) -> None:
    with pytest.raises(Refused, match="in use by another program: choose another port") as caught:
        Server(files / "news.safetensors", "--port", server.port)
    assert caught.value.exit_code == 1
    assert "Traceback" not in caught.value.stderr
    assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.safetensors",), 1, "nothing.safetensors"),
        (("--max-body", "lots"), 2, "lots"),
        (("--cors-origin", "evil.example"), 2, "https://example.org"),
        (("--token-file", "nothing"), 1, "nothing"),
        (("--host", "no.such.host.invalid", "--insecure"), 1, "no such address"),
        ((), 2, "MODEL"),
    ],
)
def test_arguments_that_cannot_be(files: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    models = () if arguments in ((), ("nothing.safetensors",)) else (files / "news.safetensors",)
    with pytest.raises(Refused) as caught:
        Server(*models, *arguments)
    assert caught.value.exit_code == code
    assert said in caught.value.stderr
    assert "Traceback" not in caught.value.stderr


def test_idle_connections_are_left_alone(server: Server) -> None:
    # Longer than the timeout of a request that is arriving.
    connection = server.connect()
    for _ in range(2):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        assert connection.sock is not None
        connection.sock.settimeout(4)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
    connection.close()


def test_who_goes_away_is_no_error(server: Server) -> None:
    body = json.dumps({"texts": ["some words"] * 2000, "stream": True, "probabilities": True}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(3):
        with socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            sock.recv(100)
    assert server.get("/health").status == 200


def test_hostile_requests(files: Path) -> None:
    with Server(files / "news.safetensors", "--no-access-log", "--timeout", 5) as server:
        found = attack(server.host, server.port, 1500, seed=20)
        assert found.faults == []
        assert found.slowest < 5
        assert {"200", "400", "404", "405", "422"} <= set(found.statuses)
        assert server.post("/predict", {"text": "a"}).status == 200
    assert server.exit_code == 0
    assert len(server.stderr.splitlines()) == 2 + server.stderr.count(" is now "), server.stderr
