"""Corpora that are unusual, or that changed between two runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from corpora import corpus, digests, news, rows_in, small_parts, texts_of
from fasttext_oracle import make
from logitext.corpus import parts
from logitext.corpus.parts import part_name


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return news()


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_texts_are_in_the_same_column_everywhere(model: lt.TextClassifier, tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [{"body": "an election", "id": 1}])
    lines(tmp_path / "b.jsonl", [{"body": "an election", "text": "a phone app", "id": 2}])
    lt.predict_corpus(model, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out")
    one, other = rows_in(tmp_path / "out")
    assert one["probability"] == other["probability"]
    # The first record need not have the text.
    late = lines(tmp_path / "c.jsonl", [{"title": "a film"}, {"title": "a film", "text": "a phone app"}])
    lt.predict_corpus(model, late, tmp_path / "late", on_bad_row="skip")
    assert [row["text"] for row in rows_in(tmp_path / "late")] == ["a phone app"]


def test_what_an_interrupted_overwrite_leaves(model: lt.TextClassifier, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    lt.predict_corpus(model, source, out, keep_top=0.1, by="score")
    (out / "_logitext" / "plan.json").unlink()
    assert lt.predict_corpus(model, source, out, keep_top=0.5, by="score").kept == 900


def test_names_of_parts_sort_as_inputs_do() -> None:
    names = [
        part_name(n, begin, "parquet") for n in (9, 99_999, 100_000, 999_999) for begin in (0, 5, 10**11)
    ]
    assert names == sorted(names)


@pytest.mark.parametrize("order", [("model", "q"), ("q", "model")])
def test_two_answers_of_one_name(order: tuple[str, str], model: lt.TextClassifier, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two models give answers the name '[qm]"):
        lt.predict_corpus(
            dict.fromkeys(order, model), corpus(tmp_path / "in"), tmp_path / "out", prefix=f"{order[1]}_"
        )


def test_types_of_columns_do_not_change_between_runs(model: lt.TextClassifier, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("broken")
    lines(tmp_path / "b.jsonl", [{"text": "a phone", "id": 1}])
    both = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert len(lt.predict_corpus(model, both, tmp_path / "out", on_bad_file="skip").failed) == 1
    lines(tmp_path / "a.jsonl", [{"text": "a film", "id": "x"}])
    with pytest.raises(
        ValueError, match=r"was begun otherwise: types was .*id: int64.* and is .*id: large_string"
    ):
        lt.predict_corpus(model, both, tmp_path / "out", on_bad_file="skip")
    lines(tmp_path / "a.jsonl", [{"text": "a film", "id": 7}])
    assert lt.predict_corpus(model, both, tmp_path / "out", on_bad_file="skip").rows == 2


def test_a_file_that_broke_at_its_end_is_mended(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    texts = texts_of(2000)
    good = lines(tmp_path / "a.jsonl", [{"text": text} for text in texts[:1000]])
    broken = lines(tmp_path / "b.jsonl", [{"text": text} for text in texts])
    whole = broken.read_text()
    broken.write_text(whole + "\nxx")
    with pytest.raises(ValueError, match=r"b.jsonl: data row 2001 is not valid JSON"):
        lt.predict_corpus(model, [good, broken], tmp_path / "out", threads=1)
    broken.write_text(whole)
    done = lt.predict_corpus(model, [good, broken], tmp_path / "out")
    assert done.rows == 3000
    assert done.done_before > 0
    assert [row["text"] for row in rows_in(tmp_path / "out")] == texts[:1000] + texts


def test_files_of_others_are_left_alone(model: lt.TextClassifier, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in"), tmp_path / "out"
    lt.predict_corpus(model, source, out)
    for name in ("part-r-00000-spark.snappy.parquet", ".part-mine.part", "part-00000-000000000000.parquet"):
        shutil.copy(source / "0.parquet", out / name)
    (out / "part-folder").mkdir()
    lt.predict_corpus(model, source, out)
    with pytest.raises(ValueError, match="holds other files"):
        lt.predict_corpus(model, source, out, overwrite=True)
    assert len(list(out.iterdir())) == 3 + 4 + 1


def test_an_output_that_a_pattern_fits(model: lt.TextClassifier, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    lines(folder / "a.jsonl", [{"text": "a phone"}])
    for _ in range(2):
        done = lt.predict_corpus(model, str(folder / "**" / "*.jsonl"), folder / "_out", format="jsonl")
        assert done.rows == 1


def test_a_sample_is_not_held_part_by_part(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    source = corpus(tmp_path / "in", rows=2000)
    lt.predict_corpus(model, source, tmp_path / "out", sample=5, by="score", threads=1)
    log = (tmp_path / "out" / "_logitext" / "parts.jsonl").read_text().splitlines()
    sizes = [len(json.loads(json.loads(line)["sample"])["records"]) for line in log]
    assert len(sizes) > 20
    assert sum(sizes[-10:]) < sum(sizes[:10]) / 2


def test_parts_end_by_rows_and_faults_too(
    model: lt.TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "BATCH_BYTES", 2000)
    monkeypatch.setattr(parts, "PART_FAULTS", 100)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + '{"text": null}\n' * 1000)
    done = lt.predict_corpus(model, tmp_path / "a.jsonl", tmp_path / "out", on_bad_row="skip")
    assert (done.rows, done.kept, done.bad_rows) == (1001, 1, 1000)
    assert 3 < done.parts <= 10
    monkeypatch.setattr(parts, "PART_ROWS", 100)
    (tmp_path / "b.txt").write_text("x\n" * 5000)
    assert lt.predict_corpus(model, tmp_path / "b.txt", tmp_path / "rows").parts > 3


def test_a_column_named_as_an_answer_would_be(model: lt.TextClassifier, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a phone"] * 2, "p(hq)": [0.95, 0.5]}), tmp_path / "a.parquet")
    lt.predict_corpus(model, tmp_path / "a.parquet", tmp_path / "out", keep="p(hq) > 0.9")
    assert [row["p(hq)"] for row in rows_in(tmp_path / "out")] == [0.95]


def test_files_without_rows(model: lt.TextClassifier, tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    for name in ("a", "z"):
        pq.write_table(empty, tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"text": ["a phone"]}), tmp_path / "m.parquet")
    for how in ({}, {"keep_top": 0.5, "by": "probability"}):
        done = lt.predict_corpus(model, tmp_path / "?.parquet", tmp_path / f"out{len(how)}", **how)
        assert (done.rows, done.failed) == (1, [])
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "b.csv").write_text("text\na phone\n")
    assert lt.predict_corpus(model, tmp_path / "?.csv", tmp_path / "csv").rows == 1
    (tmp_path / "a.jsonl").write_text("")
    lines(tmp_path / "b.jsonl", [{"text": "a phone"}])
    assert lt.predict_corpus(model, tmp_path / "?.jsonl", tmp_path / "jsonl").rows == 1
    with pytest.raises(ValueError, match=r"none of 1 inputs can be read: .*a.jsonl: empty"):
        lt.predict_corpus(model, tmp_path / "a.jsonl", tmp_path / "nothing")


def test_two_columns_of_one_name(model: lt.TextClassifier, tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a phone"])] * 3, names=["text", "a", "a"])
    pq.write_table(twice, tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["a phone"], "a": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"b.parquet: 2 columns are named 'a'; rename all but one"):
        lt.predict_corpus(model, tmp_path / "b.parquet", tmp_path / "out")
    both = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert len(lt.predict_corpus(model, both, tmp_path / "skip", on_bad_file="skip").failed) == 1
    assert (
        lt.predict_corpus(model, tmp_path / "b.parquet", tmp_path / "text", columns=["text", "text"]).rows
        == 1
    )
    assert list(rows_in(tmp_path / "text")[0])[:2] == ["text", "label"]


def test_values_that_json_or_parquet_cannot_hold(model: lt.TextClassifier, tmp_path: Path) -> None:
    table = pa.table({"text": ["a phone"] * 2, "x": [float("nan"), 1.0], "raw": pa.array([b"\xff", b""])})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="the column 'raw' holds bytes, which JSON cannot"):
        lt.predict_corpus(model, tmp_path / "a.parquet", tmp_path / "out", format="jsonl")
    lt.predict_corpus(model, tmp_path / "a.parquet", tmp_path / "out", format="jsonl", columns=["x"])
    (part,) = (tmp_path / "out").glob("part-*")
    assert [json.loads(line)["x"] for line in part.read_text().splitlines()] == [None, 1.0]
    lines(tmp_path / "b.jsonl", [{"text": "a phone", "x": [{}], "y": [{"k": 1}]}])
    lt.predict_corpus(model, tmp_path / "b.jsonl", tmp_path / "nested")
    assert rows_in(tmp_path / "nested")[0]["y"] == [{"k": 1}]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string()])
def test_broken_utf8_in_parquet_is_a_bad_row(
    kind: pa.DataType, model: lt.TextClassifier, tmp_path: Path
) -> None:
    raw = pa.array(
        [b"a phone", b"\xff", b"a film"], pa.large_binary() if kind == pa.large_binary() else pa.binary()
    )
    column = raw.view(kind)
    pq.write_table(pa.table({"text": column, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    done = lt.predict_corpus(
        model, tmp_path / "a.parquet", tmp_path / "out", on_bad_row="skip", columns=["n"]
    )
    assert (done.kept, done.bad_rows) == (2, 1)
    assert [row["n"] for row in rows_in(tmp_path / "out")] == [1, 3]
    if kind == pa.string():
        pq.write_table(pa.table({"text": ["a", "b", "c"], "c": column}), tmp_path / "b.parquet")
        with pytest.raises(ValueError, match="the column 'c' of data row 2 is not valid UTF-8"):
            lt.predict_corpus(model, tmp_path / "b.parquet", tmp_path / "carried")
        done = lt.predict_corpus(
            model, tmp_path / "b.parquet", tmp_path / "carried", on_bad_row="skip", overwrite=True
        )
        assert (done.kept, done.bad_rows) == (2, 1)


def test_scores_beyond_exact_fractions(model: lt.TextClassifier, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "n": [1, (1 << 53) + 1]}), tmp_path / "a.parquet")
    done = lt.predict_corpus(model, tmp_path / "a.parquet", tmp_path / "out", keep_top=0.5, by="n")
    assert done.kept == 1


def test_nothing_fulfils_the_condition(model: lt.TextClassifier, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in")
    for _ in range(2):
        done = lt.predict_corpus(model, source, tmp_path / "out", keep="score > 2", keep_top=0.5, by="score")
        assert (done.rows, done.kept) == (1800, 0)


def test_names_of_files_that_are_no_text(model: lt.TextClassifier, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"a\xff b\n.txt")
    with open(path, "wb") as file:
        file.write(b"a phone\n\xff\n")
    done = lt.predict_corpus(model, os.fsdecode(path), tmp_path / "out", on_bad_row="skip")
    assert (done.kept, done.bad_rows) == (1, 1)
    assert lt.predict_corpus(model, os.fsdecode(path), tmp_path / "out", on_bad_row="skip").done_before == 2
    assert digests(tmp_path / "out")


def test_a_model_of_fasttext_beside_ours(model: lt.TextClassifier, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(make().to_bytes())
    source = corpus(tmp_path / "in")
    for models in ({"theirs": tmp_path / "model.bin"}, {"news": model, "theirs": tmp_path / "model.bin"}):
        out = tmp_path / f"out{len(models)}"
        lt.predict_corpus(models, source, out, columns=["text"])
        rows = rows_in(out)
        texts = [row["text"] for row in rows]
        name = "label" if len(models) == 1 else "theirs_label"
        assert [row[name] for row in rows] == lt.load(tmp_path / "model.bin").predict(texts).tolist()
        assert lt.predict_corpus(models, source, out, columns=["text"]).done_before == 1800
    assert [row["label"] for row in rows] == model.predict(texts).tolist()
