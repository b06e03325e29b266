"""The client against the real server, bit for bit, and against servers that fail in every way."""

import http.server
import math
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import logitext as lt
from logitext import transport
from logitext.remote import cut, float32
from serving import Server

WORDS = {"good": "yes", "bad": "no", "odd": "перхапс"}
TEXTS = [f"{word} film number {i}" for i in range(150) for word in WORDS]
LABELS = [label for _ in range(150) for label in WORDS.values()]
ASKED = [
    "a good film", "", "bad", "Der Zug fährt", "番号 7",
    "\x00\x1f\"\\\n", "e\u0301 👩‍👩‍👧 \u2028", "odd film " * 2000
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, lt.TextClassifier]:
    one = lt.TextClassifier().fit(TEXTS, LABELS)
    two = lt.TextClassifier(char_ngrams=None).fit(TEXTS, [label == "yes" for label in LABELS])
    numbers = lt.TextClassifier(epochs=3).fit(TEXTS, [len(label) for label in LABELS])
    tags = lt.TextClassifier(multilabel=True)
    tags.fit(TEXTS, [[label, "film"] if label != "no" else [] for label in LABELS])
    bare = lt.TextClassifier(calibration=None, epochs=2).fit(TEXTS, LABELS)
    return {"one": one, "two": two, "numbers": numbers, "tags": tags, "bare": bare}


@pytest.fixture(scope="module")
def server(
    models: dict[str, lt.TextClassifier], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        model.save(folder / f"{name}.safetensors")
    with Server(*(folder / f"{name}.safetensors" for name in models)) as running:
        yield running
    assert running.exit_code == 0


def same(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    if isinstance(mine, np.ndarray):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if mine.dtype == object:
            assert mine.tolist() == theirs.tolist()
            assert [type(label) for label in mine] == [type(label) for label in theirs]
        else:
            assert mine.tobytes() == theirs.tobytes()
    else:
        assert mine == theirs


# -- the same answers -----------------------------------------------------------


@pytest.mark.parametrize("name", ["one", "two", "numbers", "tags", "bare"])
@pytest.mark.parametrize("texts", [ASKED, ["a good film"], [""], [], TEXTS], ids=len)
def test_answers_are_those_of_the_model(
    name: str, texts: list[str], models: dict[str, lt.TextClassifier], server: Server
) -> None:
    model = models[name]
    with lt.Client(server.url, model=name) as client:
        same(client.classes_, model.classes_)
        for method in ("predict", "predict_proba", "logits", "decision_function"):
            same(getattr(client, method)(texts), getattr(model, method)(texts))
        for label in model.classes_.tolist():
            same(client.logit(texts, label), model.logit(texts, label))
        for method in ("novelty", "novelty_pvalue", "predict_set"):
            if name in ("tags", "bare"):
                if texts:
                    with pytest.raises(
                        ValueError, match=r"one label per text|no rows were held out"
                    ) as error:
                        getattr(client, method)(texts)
                    assert isinstance(error.value, lt.ClientError)
                    assert error.value.status == 422
            else:
                same(getattr(client, method)(texts), getattr(model, method)(texts))
        if name == "one":
            for how in ({"coverage": 0.5}, {"coverage": 0.99}, {"coverage": 0.5, "allow_empty": False}):
                same(client.predict_set(texts, **how), model.predict_set(texts, **how))
            same(client.predict(texts, max_error=0.1), model.predict(texts, max_error=0.1))


@pytest.mark.parametrize("name", ["one", "two", "numbers", "tags"])
@pytest.mark.parametrize("text", [*ASKED[:-1], "good film"])
def test_an_explanation_is_that_of_the_model(
    name: str, text: str, models: dict[str, lt.TextClassifier], server: Server
) -> None:
    with lt.Client(server.url, model=name) as client:
        mine, theirs = client.explain(text), models[name].explain(text)
    for field in ("classes", "ngrams", "blocks", "unknown", "decision", "leading"):
        same(getattr(mine, field), getattr(theirs, field))
    for field in ("logits", "bias", "contributions", "thresholds"):
        same(getattr(mine, field), getattr(theirs, field))
    assert mine.strongest() == theirs.strongest()


def test_scores_are_those_of_the_model(models: dict[str, lt.TextClassifier], server: Server) -> None:
    with lt.Client(server.url) as client:
        truth = [*LABELS[:200], *(["unheard of"] * 100), *LABELS[:150]]
        weights = np.arange(450) % 7
        same(client.score(TEXTS, truth), models["one"].score(TEXTS, truth))
        same(client.score(TEXTS, pa.array(truth), weights), models["one"].score(TEXTS, truth, weights))
        assert math.isnan(client.score([], []))
        with pytest.raises(ValueError, match="450 texts, 1 labels"):
            client.score(TEXTS, ["yes"])
    with lt.Client(server.url, model="tags") as client:
        tags = [[label, "film"] if i % 3 else ["unheard of"] for i, label in enumerate(LABELS)]
        same(client.score(TEXTS, tags), models["tags"].score(TEXTS, tags))
        assert math.isnan(client.score([], []))


def test_containers_of_texts(models: dict[str, lt.TextClassifier], server: Server) -> None:
    with lt.Client(server.url) as client:
        want = models["one"].logits(TEXTS)
        for texts in (
            tuple(TEXTS),
            np.array(TEXTS),
            pd.Series(TEXTS),
            pa.chunked_array([TEXTS[:7], TEXTS[7:]]),
        ):
            same(client.logits(texts), want)
        for bad in ("one string", [1], [None], ["\ud800"]):
            with pytest.raises(ValueError, match=r".") as here:
                models["one"].logits(bad)
            with pytest.raises(ValueError, match=r".") as there:
                client.logits(bad)
            assert str(here.value) == str(there.value)
        for bad in (b"bytes", ["a list"]):
            with pytest.raises(ValueError, match="explain takes one text"):
                client.explain(bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'maybe' is not a class"):
            client.logit(["good"], "maybe")


def test_many_texts_go_in_several_requests(models: dict[str, lt.TextClassifier], server: Server) -> None:
    texts = [f"{TEXTS[i % 450]} {i}" for i in range(25_000)]
    with lt.Client(server.url) as client:
        same(client.predict(texts), models["one"].predict(texts))
        same(client.logits(texts[:2500]), models["one"].logits(texts[:2500]))
        long = ["good film " * 30_000, "é" * 400_000] * 10  # six megabytes: two requests
        same(client.logits(long), models["one"].logits(long))


def test_every_float32_survives() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x7F800000, 20_000, np.uint32)
    bits[:2] = 0x15AE43FD, 0x7F7FFFFF  # the first would be rounded twice
    numbers = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    read = [float(str(number)) for number in numbers]
    assert float32(read).tobytes() == numbers.tobytes()


def test_parts_have_so_many_texts_and_bytes() -> None:
    column = pa.array(["aa", "bb", "cc", "d" * 50, "é"], pa.large_string())
    assert list(cut(column, 2, 100)) == [
        [b'"aa"', b'"bb"'],
        [b'"cc"', b'"%s"' % (b"d" * 50)],
        ['"é"'.encode()],
    ]
    assert [len(part) for part in cut(column, 9, 20)] == [3, 1, 1]
    assert [sum(map(len, part)) for part in cut(column, 9, 9)] == [9 - 1, 4, 52, 4]
    assert list(cut(column[:0], 9, 9)) == []


def test_limits_of_the_server_are_kept_to(
    models: dict[str, lt.TextClassifier], tmp_path: Path, server: Server
) -> None:
    models["two"].save(tmp_path / "two.safetensors")
    few = Server(tmp_path / "two.safetensors", "--max-texts", 7, "--max-body", "1kB", "--max-text", 900)
    with few, lt.Client(few.url, retries=0) as client:
        same(client.logits(TEXTS), models["two"].logits(TEXTS))
        bodies = [line["received"] for line in few.log() if line["path"] == "/predict"]
        with pytest.raises(lt.ClientError, match=r"too long.*from row 7 on") as error:
            client.predict([*["good"] * 7, "x" * 950])
        assert error.value.status == 413
    assert max(bodies, default=0) <= 1000


@pytest.mark.alone
def test_threads_share_a_client(models: dict[str, lt.TextClassifier], server: Server) -> None:
    with lt.Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        want = [models["one"].logits([text]) for text in TEXTS[:100]]
        found = pool.map(lambda text: client.logits([text]), TEXTS[:100])
        assert all((a == b).all() for a, b in zip(found, want, strict=True))


def test_connections_are_kept(server: Server) -> None:
    made = []

    class Counted(transport.Transport):
        def _new(self) -> Any:
            made.append(1)
            return super()._new()

    client = lt.Client(server.url)
    client._transport = Counted(server.url, None, 10, 0)
    with client:
        for _ in range(5):
            client.predict(["good"])
        assert len(made) == 1
        client.close()
        client.predict(["good"])
        assert len(made) == 2


def test_a_fork_has_connections_of_its_own(server: Server) -> None:
    # In a process of its own: pytest's has threads of other libraries.
    code = """
import os, signal, sys
import logitext as lt
client = lt.Client(sys.argv[1])
before = client.logits(["good film"])
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if all((client.logits(["good film"]) == before).all() for _ in range(50)) else 1)
fine = all((client.logits(["good film"]) == before).all() for _ in range(50))
print(fine, os.waitpid(child, 0)[1])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, server.url], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("True 0\n", "")


# -- the server -----------------------------------------------------------------


def test_models_ready_reload(models: dict[str, lt.TextClassifier], tmp_path: Path) -> None:
    path = tmp_path / "a b.safetensors"
    models["one"].save(path)
    models["two"].save(tmp_path / "two.safetensors")
    with Server(f"one={path}", tmp_path / "two.safetensors", "--workers", 2) as running:
        client = lt.Client(running.url, retries=1)
        assert client.ready() is True
        assert [model["name"] for model in client.models()] == ["one", "two"]
        assert client.models()[1]["labels"] == [False, True]
        same(client.predict(["good"]), models["one"].predict(["good"]))
        # Another model with other classes under the same name.
        models["numbers"].save(path)
        told = client.reload()
        assert told["model"] == "one"
        assert told["fingerprint"] != told["previous"]
        same(client.predict(["good"]), models["numbers"].predict(["good"]))
        same(client.classes_, models["numbers"].classes_)
        models["one"].save(path)
        lt.Client(running.url).reload("one")
        # This client has not heard of it, and finds out.
        same(client.predict_proba(["good"] * 3), models["one"].predict_proba(["good"] * 3))
        path.write_bytes(b"no model")
        with pytest.raises(lt.ClientError, match="one stays as it is") as error:
            client.reload("one")
        assert error.value.status == 422
        with pytest.raises(lt.ClientError, match="there is no model 'x/y ü'") as error:
            client.reload("x/y ü")
        assert error.value.status == 404
        same(client.predict(["good"]), models["one"].predict(["good"]))
    assert client.ready() is False
    with pytest.raises(ConnectionError, match=rf"{client.url} cannot be asked: Connection refused \(tried 2"):
        client.predict(["good"])


def test_an_unknown_model(server: Server) -> None:
    with lt.Client(server.url, model="none") as client:
        with pytest.raises(lt.ClientError, match="there is no model 'none': there are 'one', 'two'") as error:
            client.predict(["good"])
        assert error.value.status == 404
        assert repr(client) == f"Client({server.url!r}, model='none')"


def test_a_token(models: dict[str, lt.TextClassifier], tmp_path: Path) -> None:
    models["two"].save(tmp_path / "two.safetensors")
    with Server(tmp_path / "two.safetensors", env={"LOGITEXT_TOKEN": "secret-token"}) as running:
        with lt.Client(running.url, token="secret-token") as client:
            same(client.logits(["good"]), models["two"].logits(["good"]))
            assert "secret" not in repr(client)
        for token, sentence in (("wrong", "the token is not right"), (None, "wants a token")):
            with lt.Client(running.url, token=token) as client:
                assert client.ready() is True
                with pytest.raises(lt.ClientError, match=sentence) as error:
                    client.predict(["good"])
                assert error.value.status == 401


def test_a_server_that_was_started_anew_is_not_missed(
    models: dict[str, lt.TextClassifier], tmp_path: Path
) -> None:
    models["two"].save(tmp_path / "two.safetensors")
    with Server(tmp_path / "two.safetensors") as running:
        client = lt.Client(running.url, retries=0)
        client.predict(["good"])
    with Server(tmp_path / "two.safetensors", "--port", running.port):
        same(client.predict(["good"]), models["two"].predict(["good"]))
    client.close()


@pytest.mark.parametrize(
    ("url", "how", "sentence"),
    [
        ("127.0.0.1:8000", {}, "is no address of a server"),
        ("ftp://host", {}, "is no address of a server"),
        ("http://", {}, "is no address of a server"),
        ("http://host/?a=b", {}, "is no address of a server"),
        ("http://host:port", {}, "[Pp]ort"),
        ("http://me:secret@host", {}, "give token="),
        ("http://host", {"token": "a\nb"}, "printable ASCII"),
        ("http://host", {"token": ""}, "printable ASCII"),
        ("http://host", {"timeout": 0}, "timeout must be above 0"),
        ("http://host", {"retries": -1}, "retries must be at least 0"),
    ],
)
def test_arguments_are_checked(url: str, how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        lt.Client(url, **how)


# -- servers that fail ----------------------------------------------------------

ABOUT = (
    b'{"models": [{"name": "m", "fingerprint": "f", "classes": ["a", "b"], "labels": ["a", "b"], '
    b'"multilabel": false}], "default": "m", "limits": {"body": 16000000, "texts": 10000, "text": 1000000}}'
)
FINE = b'{"model": "m", "fingerprint": "f", "label": "b", "probability": 0.75}'


class Failing:
    """A server that does with each prediction what a script says, and then answers."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[float] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def reply(self, status: int, body: bytes, *headers: tuple[str, str], length: int = 0) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + length))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self.reply(200, ABOUT)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(time.monotonic())
                what = outer.script.pop(0) if outer.script else FINE
                if isinstance(what, tuple):
                    self.reply(*what)
                elif what == "break":
                    self.reply(200, FINE[:20], length=len(FINE))
                    self.close_connection = True
                elif what == "hang up":
                    self.close_connection = True
                elif what == "sleep":
                    time.sleep(0.6)
                    self.close_connection = True
                elif what == "rubbish":
                    self.wfile.write(b"SSH-2.0-nothing\r\n\r\n")
                    self.close_connection = True
                else:
                    self.reply(200, what)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Failing":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


BUSY = (503, b'{"error": "too many requests at hand"}')
BAD_GATEWAY = (502, b"<html>no upstream</html>")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    "script",
    [
        [BUSY], [BUSY, BAD_GATEWAY, (504, b"")], ["break"], ["break", "hang up", BUSY], ["rubbish"],
        [(429, b"{}")],
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(script: list[Any], pauses: list[float]) -> None:
    with Failing(*script) as server, lt.Client(server.url) as client:
        assert client.predict(["x"]).tolist() == ["b"]
        assert len(server.asked) >= len(script) + 1
    assert len(pauses) <= len(script)
    for attempt, pause in enumerate(pauses):
        assert 0.05 * 2**attempt <= pause <= 0.1 * 2**attempt


def test_in_the_end_it_is_given_up(pauses: list[float]) -> None:
    with Failing(*[BUSY] * 9) as server, lt.Client(server.url, retries=2) as client:
        with pytest.raises(lt.ClientError, match=r"^too many requests at hand$") as error:
            client.predict(["x"])
        assert error.value.status == 503
        assert len(server.asked) == 3
    with Failing(*["break"] * 9) as server, lt.Client(server.url, retries=2) as client:
        with pytest.raises(ConnectionError, match=rf"^{server.url} cannot be asked: .*\(tried 3 times\)$"):
            client.predict(["x"])
        assert len(server.asked) == 3
    assert len(pauses) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 301])
def test_what_stays_is_not_tried_again(status: int, pauses: list[float]) -> None:
    refusal = (status, b'{"error": "no"}', ("Location", "http://127.0.0.1:9/"))
    with Failing(refusal) as server, lt.Client(server.url) as client:
        with pytest.raises(lt.ClientError, match=r"^no$") as error:
            client.predict(["x"])
        assert error.value.status == status
        assert len(server.asked) == 1
    with (
        Failing((status, b"<html>")) as server,
        lt.Client(server.url) as client,
        pytest.raises(lt.ClientError, match=rf"^{server.url} answers {status} "),
    ):
        client.predict(["x"])
    assert pauses == []


def test_the_server_says_when(pauses: list[float]) -> None:
    def later(said: str) -> tuple[Any, ...]:
        return (*BUSY, ("Retry-After", said))

    script = later("3"), later("Wed, 21 Oct 2015 07:28:00 GMT"), later("soon")
    with Failing(*script) as server, lt.Client(server.url) as client:
        assert client.predict(["x"]).tolist() == ["b"]
    assert pauses[0] == 3.0
    assert max(pauses[1:]) < 0.5
    with (
        Failing(later("3600")) as server,
        lt.Client(server.url) as client,
        pytest.raises(lt.ClientError, match="too many"),
    ):
        client.predict(["x"])
    assert len(pauses) == 3


def test_a_date_to_come_back_at() -> None:
    from email.utils import formatdate

    assert 7 < transport._seconds(formatdate(time.time() + 9, usegmt=True)) <= 9


def test_what_takes_too_long() -> None:
    with Failing("sleep") as server, lt.Client(server.url, timeout=0.2) as client:
        with pytest.raises(TimeoutError, match=rf"^{server.url} did not answer within 0.2 s$"):
            client.predict(["x"])
        assert len(server.asked) == 1


def test_a_reload_is_asked_for_once(pauses: list[float]) -> None:
    with Failing(BUSY) as server, lt.Client(server.url) as client:
        with pytest.raises(lt.ClientError, match="too many"):
            client.reload("m")
        assert len(server.asked) == 1
    with Failing("break") as server, lt.Client(server.url) as client:
        with pytest.raises(ConnectionError):
            client.reload("m")
        assert len(server.asked) == 1
    assert pauses == []


def test_ready_says_no(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(status: int) -> lt.Client:
        client = lt.Client("http://127.0.0.1:9")

        def ask(*_: Any, **__: Any) -> Any:
            raise lt.ClientError("no", status)

        monkeypatch.setattr(client._transport, "ask", ask)
        return client

    assert answers(503).ready() is False
    with pytest.raises(lt.ClientError):
        answers(421).ready()


def test_what_is_no_server_of_ours(pauses: list[float]) -> None:
    with Failing(b"<html>") as server, lt.Client(server.url) as client:
        with pytest.raises(lt.ClientError, match="does not answer in JSON") as error:
            client.predict(["x"])
        assert error.value.status == 200
    with pytest.raises(ConnectionError, match=r"nowhere\.invalid cannot be asked"):
        lt.Client("http://nowhere.invalid", retries=0).models()


def test_a_model_that_keeps_changing() -> None:
    other = FINE.replace(b'"f"', b'"g"')
    with Failing(other, other) as server, lt.Client(server.url) as client:
        assert client.predict(["x"]).tolist() == ["b"]
    with (
        Failing(other, other, other) as server,
        lt.Client(server.url) as client,
        pytest.raises(lt.ClientError, match="keeps changing the model"),
    ):
        client.predict(["x"])


# -- TLS, imports ---------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Failing()
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    with server:
        url = server.url.replace("http:", "https:")
        with lt.Client(url) as client, pytest.raises(ConnectionError, match="certificate verify failed"):
            client.models()
        assert pauses == []  # it will not be otherwise in a moment
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with lt.Client(url) as client:
            assert client.predict(["x"]).tolist() == ["b"]


def test_importing_the_package_does_not_import_http() -> None:
    code = "import sys, logitext; print([m for m in ('http.client', 'ssl', 'email') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_socket_is_left_open(server: Server) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(5):
        lt.Client(server.url).predict(["good"])
    after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert after <= before
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError):
            lt.Client(f"http://127.0.0.1:{held.getsockname()[1]}", retries=0).models()
