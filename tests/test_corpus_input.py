"""What is wrong with the rows, files and folders of a corpus, and with what is asked of it."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from corpora import FOREVER, LOGITEXT, WORDS, corpus, news, rows_in, small_parts, texts_of


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return news()


@pytest.fixture(scope="module")
def model_file(model: lt.TextClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "news.safetensors"
    model.save(path)
    return path


def test_bad_rows_are_listed(model: lt.TextClassifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    texts = texts_of(40)
    lines = [json.dumps({"id": at, "text": text}) for at, text in enumerate(texts)]
    lines[3], lines[20] = "{broken", '{"id": 20}'
    source.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"in.jsonl: data row 4 is not valid JSON"):
        lt.predict_corpus(model, source, tmp_path / "error")
    for how in ("skip", "keep"):
        done = lt.predict_corpus(model, source, tmp_path / how, on_bad_row=how)
        assert (done.rows, done.bad_rows) == (40, 2)
        listed = (tmp_path / how / "_logitext" / "bad_rows.jsonl").read_text().splitlines()
        assert [(json.loads(line)["file"], json.loads(line)["row"]) for line in listed] == [
            (str(source), 4), (str(source), 21)
        ]  # fmt: skip
        assert "is not valid JSON" in json.loads(listed[0])["why"]
        assert json.loads(listed[1])["why"] == "the text of data row 21 is missing: it has no 'text'"
    assert len(rows_in(tmp_path / "skip")) == 38
    kept = rows_in(tmp_path / "keep")
    assert kept[3] == {"id": None, "text": None, "label": None, "probability": None}
    assert kept[20] == {"id": 20, "text": None, "label": None, "probability": None}
    assert kept[4]["label"] == model.predict([texts[4]])[0]


def test_a_file_that_vanishes_is_named(model: lt.TextClassifier, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", rows=3000, files=4)

    def progress(*_: int) -> None:
        (source / "3.parquet").unlink(missing_ok=True)

    with pytest.raises(ValueError, match=r"in/3.parquet: No such file or directory$"):
        lt.predict_corpus(model, source, tmp_path / "out", threads=1, progress=progress)


def damage(source: Path) -> dict[str, str]:
    """Spoil files of a corpus; give what is to be said of each."""
    whole = gzip.compress("\n".join(json.dumps({"text": t}) for t in texts_of(5000)).encode())
    (source / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (source / "b.parquet").write_bytes((source / "0.parquet").read_bytes()[:-100])
    (source / "c.parquet").write_bytes(b"")
    (source / "d.csv").write_text("title,id\nx,1\n")
    damaged = bytearray((source / "1.parquet").read_bytes())
    damaged[2000:2400] = bytes(400)
    (source / "e.parquet").write_bytes(damaged)
    return {
        "a.jsonl.gz": "cut short|no column",
        "b.parquet": "not a readable Parquet file",
        "c.parquet": "empty",
        "d.csv": "no column is named 'text'",
        "e.parquet": "cannot be read",
    }


def test_bad_files_are_named_and_the_rest_goes_on(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    source = corpus(tmp_path / "in")
    lt.predict_corpus(model, source, tmp_path / "good")
    said = damage(source)
    files = [*sorted(source.iterdir()), source / "missing.parquet"]
    for name, words in said.items():
        with pytest.raises(ValueError, match=rf"{name}.*({words})"):
            lt.predict_corpus(
                model, [source / "0.parquet", source / name], tmp_path / "error", overwrite=True
            )
    with pytest.raises(FileNotFoundError, match="No such file"):
        lt.predict_corpus(model, files, tmp_path / "error", overwrite=True)
    files = files[:-1]
    out = tmp_path / "out"
    done = lt.predict_corpus(model, files, out, on_bad_file="skip")
    assert done.rows == 1800
    assert len(done.failed) == len(said)
    for name, words in said.items():
        (sentence,) = (why for why in done.failed if name in why)
        assert any(word in sentence for word in words.split("|")), sentence
    assert [row["id"] for row in rows_in(out)] == [row["id"] for row in rows_in(tmp_path / "good")]
    # Mended, it is done as well; what was done is not done again.
    shutil.copy(source / "0.parquet", source / "c.parquet")
    done = lt.predict_corpus(model, files, out, on_bad_file="skip")
    assert (done.rows, done.done_before, len(done.failed)) == (2400, 1800, len(said) - 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"columns": ["nonsense"]}, "no column is named 'nonsense'; there are 'id', 'text'"),
        ({"keep": "nonsense > 1"}, "no column is named 'nonsense'"),
        ({"keep": "p(Nonsense) > 0.5"}, "'Nonsense' is not a class of the model"),
        ({"keep": "score >"}, "keep|condition"),
        ({"probability_of": ["x"]}, "'x' is not a class"),
        ({"text": "body"}, "no column is named 'body'"),
        ({"keep_top": 0.0, "by": "score"}, "keep_top must be in"),
        ({"keep_top": 0.5}, "say which column"),
        ({"sample": 5}, "say which column"),
        ({"sample": -1, "by": "score"}, "sample must be at least 0"),
        ({"by": "score"}, "which only keep_top and sample look at"),
        ({"sketched": True}, "a sketch finds the lowest score of keep_top"),
        ({"sample": 3, "by": "id"}, "holds string: rows are ordered by a number"),
        ({"format": "csv"}, "written as parquet or jsonl, not 'csv'"),
        ({"prefix": "", "columns": ["label"]}, "no column is named 'label'"),
    ],
)
def test_what_is_asked_wrongly(
    how: dict[str, Any], words: str, model: lt.TextClassifier, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        lt.predict_corpus(model, corpus(tmp_path / "in"), tmp_path / "out", **how)
    assert not list(tmp_path.glob("out/part-*"))


def test_a_name_that_is_taken(model: lt.TextClassifier, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a phone"], "label": ["News"]}), tmp_path / "in.parquet")
    with pytest.raises(
        ValueError, match=r"has a column 'label', and so have the answers.*--prefix.*--columns"
    ):
        lt.predict_corpus(model, tmp_path / "in.parquet", tmp_path / "out")
    lt.predict_corpus(model, tmp_path / "in.parquet", tmp_path / "out", prefix="our_")
    assert list(rows_in(tmp_path / "out")[0]) == ["text", "label", "our_label", "our_probability"]


def test_a_folder_with_other_content(model: lt.TextClassifier, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"out: holds other files .mine.txt.: name a folder that is new"):
            lt.predict_corpus(model, source, out, overwrite=overwrite)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        lt.predict_corpus(model, source, tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"'.*no' does not exist"):
        lt.predict_corpus(model, source, tmp_path / "no" / "out")


def test_an_output_that_would_be_an_input(model: lt.TextClassifier, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in")
    for inside in (source / "out", source):
        with pytest.raises(ValueError, match=r"is within the input .*in: name a folder beside it"):
            lt.predict_corpus(model, source, inside)
    assert lt.predict_corpus(model, source, source / "_out").rows == 1800
    assert lt.predict_corpus(model, source, source / "_out").done_before == 1800


def test_a_full_disk(model_file: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", rows=3000)

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [LOGITEXT, "predict", str(model_file), str(source), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=small, timeout=FOREVER, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "out").glob("part-*"))
    assert not list((tmp_path / "out").glob(".*"))
    subprocess.run(command, check=True, timeout=FOREVER, capture_output=True)
    assert len(rows_in(tmp_path / "out")) == 9000


def test_a_row_group_larger_than_memory_is_to_be(model_file: Path, tmp_path: Path) -> None:
    text = " ".join(WORDS) * 60
    size = 400 << 20
    rows = size // len(text)
    with pq.ParquetWriter(tmp_path / "in.parquet", pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.table({"text": pa.repeat(text, rows)}), row_group_size=rows)
    assert pq.read_metadata(tmp_path / "in.parquet").num_row_groups == 1
    code = (
        "import sys, logitext as lt\n"
        "done = lt.predict_corpus(sys.argv[1], sys.argv[2], sys.argv[3], columns=[])\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(done.rows, int(peak.split()[1]) // 1024)\n"
    )
    paths = [str(path) for path in (model_file, tmp_path / "in.parquet", tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True, timeout=FOREVER
    )
    found, megabytes = map(int, done.stdout.split())
    assert found == rows
    assert megabytes < 350
