"""Inputs at addresses: a file system in memory, and a server on loopback."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from logitext.addresses import is_address
from logitext.sources import files_of
from logitext.tables import read_all

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return lt.TextClassifier().fit(EXAMPLES / "headlines.csv")


@pytest.fixture
def memory() -> Iterator[str]:
    """Two Parquet files, notes, and a hidden file, in memory."""
    system = fsspec.filesystem("memory")
    for number in range(2):
        with system.open(f"/crawl/{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"text": [f"a phone {number}", "a film"], "id": [number, 9]}), file)
    system.pipe("/crawl/notes.md", b"notes")
    system.pipe("/crawl/_hidden/2.parquet", b"hidden")
    yield "memory://crawl"
    system.rm("/crawl", recursive=True)


def test_what_is_an_address() -> None:
    for address in ("s3://a/b", "https://x/y.csv", "memory://a", "hf://datasets/x", "simplecache::s3://a"):
        assert is_address(address)
    for path in ("a/b.csv", "/x", "C:\\x", "c:/x.csv", "-", "", "://", "a:b", Path("s3")):
        assert not is_address(path)


def test_folders_patterns_and_files(memory: str) -> None:
    both = ["memory:///crawl/0.parquet", "memory:///crawl/1.parquet"]
    assert files_of(memory) == both
    assert files_of(f"{memory}/*.parquet") == both
    assert files_of([f"{memory}/1.parquet"]) == both[1:]
    with pytest.raises(FileNotFoundError):
        files_of(f"{memory}/missing.parquet")
    with pytest.raises(ValueError, match="no file fits this pattern"):
        files_of(f"{memory}/*.csv")
    fsspec.filesystem("memory").pipe("/other/notes.md", b"")
    with pytest.raises(ValueError, match="there is no table here"):
        files_of("memory://other")


def test_every_format_is_read_from_an_address(memory: str, tmp_path: Path) -> None:
    contents = {"x.csv": b"text\na\nb\n", "x.jsonl": b'{"text": "a"}\n{"text": "b"}', "x.txt": b"a\nb"}
    for name, content in contents.items():
        fsspec.filesystem("memory").pipe(f"/crawl/{name}", content)
        texts, _ = read_all(f"{memory}/{name}", labelled=False)
        assert texts.to_pylist() == ["a", "b"]
    texts, _ = read_all(f"{memory}/0.parquet", labelled=False)
    assert texts.to_pylist() == ["a phone 0", "a film"]
    fsspec.filesystem("memory").pipe("/crawl/x.parquet", b"nonsense")
    with pytest.raises(ValueError, match=r"memory://crawl/x.parquet: not a readable Parquet file"):
        read_all(f"{memory}/x.parquet", labelled=False)


def test_a_corpus_in_memory(memory: str, model: lt.TextClassifier, tmp_path: Path) -> None:
    done = lt.predict_corpus(model, memory, tmp_path / "out")
    assert done.rows == 4
    found = pq.read_table(tmp_path / "out")
    assert found["id"].to_pylist() == [0, 9, 1, 9]
    assert found["label"].to_pylist() == model.predict(found["text"]).tolist()
    assert lt.predict_corpus(model, memory, tmp_path / "out").done_before == 4


def test_training_from_addresses() -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/train/x.csv", (EXAMPLES / "headlines.csv").read_bytes())
    there = lt.TextClassifier().fit("memory://train/x.csv")
    here = lt.TextClassifier().fit(EXAMPLES / "headlines.csv")
    texts = ["a new phone", "a film"]
    assert (there.logits(texts) == here.logits(texts)).all()
    system.rm("/train", recursive=True)


class Handler(BaseHTTPRequestHandler):
    """Files of a folder, in ranges; what begins with "secret" is forbidden."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.folder / self.path.lstrip("/")
        self.asked.append(self.headers.get("Range", ""))
        if path.name.startswith("secret") or not path.is_file():
            self.send_response(403 if path.name.startswith("secret") else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1 if asked and asked[2] else len(content), len(content))
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(content[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: fsspec reads HTTP by it")
    Handler.folder, Handler.asked = tmp_path, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_a_corpus_over_http(server: str, model: lt.TextClassifier, tmp_path: Path) -> None:
    rows = 20_000
    table = pa.table({"text": [f"a phone {row}" for row in range(rows)], "id": range(rows)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000)
    done = lt.predict_corpus(model, f"{server}/x.parquet", tmp_path / "out")
    assert done.rows == rows
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == list(range(rows))
    assert any(Handler.asked)
    (tmp_path / "y.csv").write_text("text,id\n" + "".join(f"a film {row},{row}\n" for row in range(rows)))
    assert lt.predict_corpus(model, f"{server}/y.csv", tmp_path / "csv").rows == rows


def test_errors_of_servers_are_sentences(server: str, model: lt.TextClassifier, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text\na\n")
    with pytest.raises(PermissionError) as forbidden:
        lt.predict_corpus(model, f"{server}/secret.csv", tmp_path / "out")
    assert forbidden.value.strerror == "Permission denied"
    assert forbidden.value.filename == f"{server}/secret.csv"
    with pytest.raises(FileNotFoundError):
        lt.predict_corpus(model, f"{server}/missing.csv", tmp_path / "out")
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/x.csv: cannot be read"):
        lt.predict_corpus(model, "http://127.0.0.1:1/x.csv", tmp_path / "out")
    with pytest.raises(ValueError, match=r"nonsense://x.csv: .*nonsense"):
        lt.predict_corpus(model, "nonsense://x.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def missing(name: str, *args: object, **how: object) -> object:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return real(name, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"s3://x/y.csv: reading addresses takes fsspec: pip install"):
        files_of("s3://x/y.csv")
