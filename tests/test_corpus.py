"""Many files in, a folder of answers out: the same rows, whatever happens on the way."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from corpora import FOREVER, LOGITEXT, corpus, digests, news, rows_in, small_parts, texts_of
from test_cli import on_a_terminal


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return news()


@pytest.fixture(scope="module")
def model_file(model: lt.TextClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "news.safetensors"
    model.save(path)
    return path


# What comes out


def test_the_same_rows_in_the_same_order_with_answers(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    source = corpus(tmp_path / "in")
    asked: dict[str, Any] = {"logits": True, "coverage": 0.9, "novelty": True, "probability_of": ["News"]}
    done = lt.predict_corpus(model, source, tmp_path / "out", **asked)
    given = pa.concat_tables(pq.read_table(file) for file in sorted(source.iterdir()))
    assert (done.rows, done.kept, done.bad_rows, done.failed) == (1800, 1800, 0, [])
    assert done.parts > 10
    assert done.text_bytes == sum(len(text) for text in given["text"].to_pylist())
    found = pa.concat_tables(pq.read_table(part) for part in sorted((tmp_path / "out").glob("part-*")))
    assert found.select(given.column_names).equals(given.cast(found.select(given.column_names).schema))
    texts = given["text"]
    z, shares = model.logits(texts), model.predict_proba(texts)
    assert found["label"].to_pylist() == model.predict(texts).tolist()
    assert (found["probability"].to_numpy() == shares.max(axis=1)).all()
    news = model.classes_.tolist().index("News")
    assert (found["p(News)"].to_numpy() == shares[:, news]).all()
    assert (found["novelty"].to_numpy() == model.novelty(texts)).all()
    assert (found["novelty_pvalue"].to_numpy() == model.novelty_pvalue(texts)).all()
    for code, name in enumerate(model.classes_.tolist()):
        assert [row[name] for row in found["logits"].to_pylist()] == z[:, code].tolist()
    plausible = model.predict_set(texts, 0.9)
    expected = [model.classes_[row].tolist() for row in plausible]
    assert found["set"].to_pylist() == expected
    for name, kind in {
        "label": "string",
        "probability": "float",
        "p(News)": "float",
        "novelty": "float",
    }.items():
        assert kind in str(found.schema.field(name).type)


@pytest.mark.alone
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_bytes_for_any_threads(
    threads: int, model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = corpus(tmp_path / "in")
    lt.predict_corpus(model, source, tmp_path / "one", threads=3)
    lt.predict_corpus(model, source, tmp_path / "two", threads=threads)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 4


def test_the_parts_are_a_corpus(model: lt.TextClassifier, tmp_path: Path) -> None:
    lt.predict_corpus(model, corpus(tmp_path / "in"), tmp_path / "out", columns=["id", "text"])
    done = lt.predict_corpus(model, tmp_path / "out", tmp_path / "again", prefix="second_")
    assert done.rows == 1800
    row = rows_in(tmp_path / "again")[0]
    assert list(row) == ["id", "text", "label", "probability", "second_label", "second_probability"]
    assert row["second_probability"] == row["probability"]


def test_json_lines_and_csv_in_json_lines_out(model: lt.TextClassifier, tmp_path: Path) -> None:
    rows = [{"n": at, "text": text, "deep": {"k": [at]}} for at, text in enumerate(texts_of(300))]
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    lt.predict_corpus(model, tmp_path / "in.jsonl.gz", tmp_path / "out", format="jsonl")
    (part,) = (tmp_path / "out").glob("part-*")
    found = [json.loads(line) for line in part.read_text().splitlines()]
    assert [{name: row[name] for name in ("n", "text", "deep")} for row in found] == rows
    assert [row["label"] for row in found] == model.predict([row["text"] for row in rows]).tolist()
    (tmp_path / "in.csv").write_text("text,id\n" + "".join(f"{row['text']},00{row['n']}\n" for row in rows))
    lt.predict_corpus(model, tmp_path / "in.csv", tmp_path / "csv", format="parquet")
    assert [row["id"] for row in rows_in(tmp_path / "csv")] == [f"00{n}" for n in range(300)]
    (tmp_path / "in.txt").write_text("\n".join(row["text"] for row in rows))
    lt.predict_corpus(model, tmp_path / "in.txt", tmp_path / "txt")
    assert [row["text"] for row in rows_in(tmp_path / "txt")] == [row["text"] for row in rows]


def test_rows_that_fulfil_a_condition(model: lt.TextClassifier, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in")
    condition = 'p(News) > 0.4 and score < 0.5 or id == "0-0"'
    done = lt.predict_corpus(model, source, tmp_path / "out", columns=["id"], keep=condition)
    given = pa.concat_tables(pq.read_table(file) for file in sorted(source.iterdir()))
    news = model.predict_proba(given["text"])[:, model.classes_.tolist().index("News")]
    mask = (news > 0.4) & (given["score"].to_numpy() < 0.5)
    mask[0] = True
    assert 10 < mask.sum() < 1000
    rows = rows_in(tmp_path / "out")
    assert [row["id"] for row in rows] == given.filter(pa.array(mask))["id"].to_pylist()
    assert list(rows[0]) == ["id", "label", "probability", "p(News)"]
    assert (done.rows, done.kept) == (1800, mask.sum())


@pytest.mark.parametrize("share", [0.1, 1.0, 1e-9])
@pytest.mark.parametrize("by", ["p(News)", "score"])
def test_the_highest_scores_of_all(
    by: str, share: float, model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    source = corpus(tmp_path / "in")
    done = lt.predict_corpus(model, source, tmp_path / "out", keep_top=share, by=by, keep="score > 0.2")
    given = pa.concat_tables(pq.read_table(file) for file in sorted(source.iterdir()))
    news = model.predict_proba(given["text"])[:, model.classes_.tolist().index("News")].astype(float)
    scores = given["score"].to_numpy()
    wanted = news if by == "p(News)" else scores
    allowed = scores > 0.2
    count = max(1, int(np.ceil(share * allowed.sum() - 1e-9)))
    lowest = np.sort(wanted[allowed])[::-1][count - 1]
    expected = allowed & (wanted >= lowest)
    assert done.threshold == {"score": lowest, "rank_error": 0.0}
    rows = rows_in(tmp_path / "out")
    assert [row["id"] for row in rows] == given.filter(pa.array(expected))["id"].to_pylist()
    assert [row["label"] for row in rows] == model.predict([row["text"] for row in rows]).tolist()
    assert list(rows[0]) == [
        *given.column_names,
        "label",
        "probability",
        *(["p(News)"] if "p(" in by else []),
    ]
    assert not (tmp_path / "out" / "_logitext" / "scored").exists()


def test_a_sketch_of_all_scores(model: lt.TextClassifier, tmp_path: Path) -> None:
    pytest.importorskip("datasketches")
    source = corpus(tmp_path / "in", rows=10_000)
    done = lt.predict_corpus(model, source, tmp_path / "out", keep_top=0.1, by="score", sketched=True)
    assert done.threshold is not None
    assert 0 < done.threshold["rank_error"] < 0.01
    assert abs(done.kept - 3000) <= 1 + done.threshold["rank_error"] * 30_000


def test_a_sample_to_look_at(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = corpus(tmp_path / "in")
    lt.predict_corpus(model, source, tmp_path / "whole", sample=5, by="score")
    small_parts(monkeypatch)
    lt.predict_corpus(model, source, tmp_path / "out", sample=5, by="score", keep="score > 0.9")
    found = (tmp_path / "out" / "_logitext" / "sample.jsonl").read_text()
    # Of all rows, whatever is kept and however they are cut.
    assert found == (tmp_path / "whole" / "_logitext" / "sample.jsonl").read_text()
    rows = [json.loads(line) for line in found.splitlines()]
    assert [row["stratum"] for row in rows] == [at for at in range(10) for _ in range(5)]
    for row in rows:
        table = pq.read_table(row["file"])
        assert table["text"][row["row"] - 1].as_py() == row["text"]
        assert table["score"][row["row"] - 1].as_py() == row["score"]
    manifest = json.loads((tmp_path / "out" / "_logitext" / "manifest.json").read_text())
    assert sum(manifest["strata"]) == 1800


def test_several_models_in_one_pass(model: lt.TextClassifier, tmp_path: Path) -> None:
    other = lt.TextClassifier().fit(texts_of(60), ["odd", "even"] * 30)
    source = corpus(tmp_path / "in")
    models = {"news": model, "kind": other}
    lt.predict_corpus(
        models, source, tmp_path / "out", columns=["text"], keep="kind_p(odd) >= 0 and p(News) >= 0"
    )
    rows = rows_in(tmp_path / "out")
    texts = [row["text"] for row in rows]
    assert list(rows[0]) == [
        "text", "label", "probability", "p(News)", "kind_label", "kind_probability", "kind_p(odd)"
    ]  # fmt: skip
    assert [row["label"] for row in rows] == model.predict(texts).tolist()
    assert [row["kind_label"] for row in rows] == other.predict(texts).tolist()
    odd = other.classes_.tolist().index("odd")
    assert [row["kind_p(odd)"] for row in rows] == other.predict_proba(texts)[:, odd].tolist()


def test_several_labels_a_text(tmp_path: Path) -> None:
    labels = [["a"], ["b"], ["a", "b"], []] * 20
    several = lt.TextClassifier(multilabel=True).fit(texts_of(80), labels)
    lt.predict_corpus(several, corpus(tmp_path / "in"), tmp_path / "out", columns=["text"])
    rows = rows_in(tmp_path / "out")
    assert [row["labels"] for row in rows] == list(several.predict([row["text"] for row in rows]))


# Going on


def stopped_after(rows: int) -> Any:
    def progress(seen: int, *_: int) -> None:
        if seen >= rows:
            raise KeyboardInterrupt

    return progress


HOW: list[dict[str, Any]] = [
    {},
    {"keep": "score > 0.5", "sample": 3, "by": "score"},
    {"keep_top": 0.3, "by": "p(News)", "format": "jsonl"},
    {"on_bad_row": "keep"},
]


@pytest.mark.parametrize("how", HOW, ids=["all", "filtered", "top", "bad rows"])
def test_interrupted_anywhere_and_gone_on(
    how: dict[str, Any], model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    source = corpus(tmp_path / "in")
    if "on_bad_row" in how:
        table = pq.read_table(source / "1.parquet").to_pylist()
        for at in (0, 7, 599):
            table[at]["text"] = None
        pq.write_table(pa.Table.from_pylist(table), source / "1.parquet", row_group_size=50)
    # A single row group and a stream: nothing to cut between.
    lines = [
        {"id": str(at), "text": t, "score": at / 900, "tags": []} for at, t in enumerate(texts_of(900, 9))
    ]
    (source / "3.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    whole = lt.predict_corpus(model, source, tmp_path / "whole", **how)
    out = tmp_path / "out"
    goes = 0
    while goes < 60:
        try:
            done = lt.predict_corpus(
                model, source, out, **how, progress=stopped_after(400), threads=1 + goes % 3
            )
            break
        except KeyboardInterrupt:
            goes += 1
            assert not list(out.glob(".*.part"))
    assert goes >= 3
    assert digests(out) == digests(tmp_path / "whole")
    assert (done.rows, done.kept, done.bad_rows) == (whole.rows, whole.kept, whole.bad_rows)
    assert 0 < done.done_before <= done.rows
    before = digests(out)
    again = lt.predict_corpus(model, source, out, **how, progress=stopped_after(0))
    assert (again.rows, again.done_before) == (done.rows, done.rows)
    assert digests(out) == before


@pytest.mark.parametrize("moment", [0.3, 0.8])
def test_killed_and_gone_on(moment: float, model_file: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", rows=30_000, files=2)
    command = [LOGITEXT, "predict", str(model_file), str(source), "-o"]
    start = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=FOREVER, capture_output=True)
    seconds = time.monotonic() - start
    with subprocess.Popen([*command, str(tmp_path / "out")], stdout=subprocess.PIPE) as going:
        time.sleep(moment * seconds)
        going.kill()
    done = subprocess.run(
        [*command, str(tmp_path / "out")], check=True, timeout=FOREVER, capture_output=True, text=True
    )
    assert "60,000" in done.stdout
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_ctrl_c_leaves_whole_parts_only(model_file: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", rows=60_000, files=2)
    out = tmp_path / "out"
    command = [LOGITEXT, "predict", str(model_file), str(source), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as going:
        until = time.monotonic() + FOREVER
        while not list(out.glob(".part-*")) and going.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        going.send_signal(signal.SIGINT)
        _, said = going.communicate(timeout=FOREVER)
    assert (going.returncode, said) == (130, b"interrupted\n")
    assert [file.name for file in out.iterdir() if file.name.startswith(".")] == []
    subprocess.run(command, check=True, timeout=FOREVER, capture_output=True)
    assert len(rows_in(out)) == 120_000


def test_another_plan_is_refused(model: lt.TextClassifier, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    lt.predict_corpus(model, source, out)
    before = digests(out)

    def refused(words: str, given: Any = model, inputs: Any = source, **how: Any) -> None:
        with pytest.raises(ValueError, match=f"was begun otherwise: .*{words}.*--overwrite"):
            lt.predict_corpus(given, inputs, out, **how)
        assert digests(out) == before

    refused("keep was None and is 'score > 0.5'", keep="score > 0.5")
    refused("logits was None and is True", logits=True)
    other = lt.TextClassifier().fit(texts_of(60), ["odd", "even"] * 30)
    refused("the model model is another one", other)
    refused("there is a model more more", {"model": model, "more": other})
    refused("1 inputs are gone", inputs=[source / "0.parquet", source / "1.parquet"])
    shutil.copy(source / "0.parquet", source / "3.parquet")
    refused("1 inputs are new")
    (source / "3.parquet").unlink()
    table = pq.read_table(source / "1.parquet")
    pq.write_table(table.slice(1), source / "1.parquet")
    refused("1 inputs have changed .*1.parquet")
    done = lt.predict_corpus(model, source, out, overwrite=True)
    assert (done.rows, done.done_before) == (1799, 0)
    (out / "part-0000001-000000000000.parquet").unlink()
    with pytest.raises(ValueError, match=r"part-0000001-000000000000.parquet is gone since it was written"):
        lt.predict_corpus(model, source, out)


def test_a_log_that_was_cut_short(model: lt.TextClassifier, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    lt.predict_corpus(model, source, out)
    before = digests(out)
    log = out / "_logitext" / "parts.jsonl"
    lines = log.read_bytes()
    for cut in (len(lines) - 1, len(lines) // 2, 3, 0):
        log.write_bytes(lines[:cut])
        (out / "_logitext" / "manifest.json").unlink()
        assert lt.predict_corpus(model, source, out).rows == 1800
        assert digests(out) == before


def test_one_job_a_folder(model: lt.TextClassifier, model_file: Path, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    second: list[str] = []

    def progress(*_: int) -> None:
        if not second:
            done = subprocess.run(
                [LOGITEXT, "predict", str(model_file), str(source), "-o", str(out)],
                capture_output=True, text=True, timeout=FOREVER, check=False,
            )  # fmt: skip
            second.append(done.stderr)
            assert (done.returncode, done.stdout) == (1, "")

    lt.predict_corpus(model, source, out, progress=progress)
    assert second[0].startswith(
        f"error: {out}: another job is writing to this folder (process {os.getpid()})"
    )
    assert second[0].count("\n") == 1
    assert lt.predict_corpus(model, source, out).rows == 1800


# The command


def test_the_command(model_file: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in")

    def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [LOGITEXT, "predict", str(model_file), str(source), *args],
            capture_output=True, text=True, cwd=tmp_path, timeout=FOREVER, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    done = run("-o", "out/", "--keep-top", "10%", "--by", "p(News)", "--columns", "id,text", "--sample", "2")
    assert "kept" in done.stdout
    assert "180, 10.00% of them" in done.stdout
    assert "lowest score" in done.stdout
    assert done.stderr == ""
    assert len(rows_in(tmp_path / "out")) == 180
    assert "180 of them done before" not in done.stdout
    done = run("-o", "out", "--keep-top", "10%", "--by", "p(News)", "--columns", "id,text", "--sample", "2")
    assert "1,800, 1,800 of them done before" in done.stdout
    done = run("-o", "out", code=1)
    assert done.stderr.startswith("error: out: was begun otherwise")
    done = run(
        "-o",
        "file.jsonl",
        "--keep",
        'p(News) > 0.5 and id != "0-1"',
        "--columns",
        "id",
        "--also",
        f"b={model_file}",
    )
    rows = [json.loads(line) for line in (tmp_path / "file.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["id", "label", "probability", "p(News)", "b_label", "b_probability"]
    assert all(row["p(News)"] > 0.5 for row in rows)
    for wrong in (["--keep-top", "0"], ["--keep-top", "150%"], ["--also", "x"], ["--on-bad-row", "y"]):
        assert run("-o", "new/", *wrong, code=2).stdout == ""
    assert "--threads" in run("-o", "new/", "--engine", "ray", "--threads", "1", code=2).stderr
    assert "--engine ray" in run("-o", "new/", "--address", "auto", code=2).stderr
    assert "needs a folder" in run("-o", "x.csv", "--overwrite", code=2).stderr
    assert not (tmp_path / "new").exists()


def test_progress_for_a_person_and_for_a_log(
    model: lt.TextClassifier,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from logitext.cli import corpus as told

    small_parts(monkeypatch)
    monkeypatch.setattr(told, "EVERY", 0.0)
    with told.progress() as tell:
        lt.predict_corpus(model, corpus(tmp_path / "in"), tmp_path / "out", progress=tell)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5
    for line in lines:
        assert re.fullmatch(
            r"[\d,]+ rows, [\d.e+]+ MB/s, \d+%(, (\d+ h )?(\d+ min )?(\d+ s )?left)?", line
        ), line
    assert lines[-1].startswith("1,800 rows")
    assert "100%, 0 s left" in lines[-1]


def test_progress_is_drawn_on_a_terminal(model_file: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", rows=20_000)
    code, seen = on_a_terminal(["predict", model_file, source, "-o", tmp_path / "out"], b"MB/s", None)
    assert code == 0
    assert re.search(r"[\d,]+ rows, [\d.]+ MB/s", seen)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600 * 30 + 65, "30 h 1 min")]
)
def test_time_left(seconds: float, said: str) -> None:
    from logitext.cli.corpus import _duration

    assert _duration(seconds) == said
