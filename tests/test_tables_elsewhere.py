"""Models in DuckDB, Polars and Spark: the rows and bits of the classifier itself, nulls kept."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import logitext as lt
from logitext import spark
from logitext.answers import answer_column, answer_schema, answers
from logitext.duckdb import register
from logitext.features import as_texts
from logitext.polars import answer, label, p, probability
from logitext.spark import Answering

TEXTS = ["good film", "great acting", "bad plot", "awful film"]
NEW: list[str | None] = ["great film", None, "awful plot", "", None, "日本 🎬", "it's 50 % bad"]


@pytest.fixture(scope="module")
def clf() -> lt.TextClassifier:
    return lt.TextClassifier().fit(
        [f"{text} {i}" for i in range(30) for text in TEXTS], ["yes", "yes", "no", "no"] * 30
    )


@pytest.fixture(scope="module")
def tagger() -> lt.TextClassifier:
    return lt.TextClassifier(multilabel=True).fit(TEXTS * 10, [["a", "b"], ["a"], [], ["b"]] * 10)


def of(labels: list[Any]) -> lt.TextClassifier:
    return lt.TextClassifier().fit(TEXTS * 5, labels * 5)


def expected(model: lt.TextClassifier, texts: list[str | None], **options: Any) -> list[dict[str, Any]]:
    """Answer text by text, in plain Python."""
    return [
        pa.Table.from_batches(answers(model, as_texts([text]), **options)).to_pylist()[0]
        if text is not None
        else dict.fromkeys(answer_schema(model, **options).names)
        for text in texts
    ]


# -- a column with nulls -----------------------------------------------------------


@pytest.mark.parametrize("texts", [NEW, [], [None], [None, None, "great"], ["great"]])
@pytest.mark.parametrize(
    "options", [{}, {"logits": True, "top_k": 2}, {"threshold": 0.99}, {"novelty": True}]
)
def test_a_column_with_nulls(
    clf: lt.TextClassifier, texts: list[str | None], options: dict[str, Any]
) -> None:
    for column in (pa.array(texts, pa.string()), pa.chunked_array([texts, []], pa.large_string())):
        found = answer_column(clf, column, **options)
        assert found.to_pylist() == expected(clf, texts, **options)
        assert found.schema.equals(answer_schema(clf, **options))


def test_a_column_of_several_labels(tagger: lt.TextClassifier) -> None:
    assert answer_column(tagger, pa.array(NEW)).to_pylist() == expected(tagger, NEW)
    assert answer_column(tagger, pa.array(NEW).dictionary_encode()).to_pylist() == expected(tagger, NEW)


def test_many_classes_in_several_batches(monkeypatch: pytest.MonkeyPatch, clf: lt.TextClassifier) -> None:
    monkeypatch.setattr("logitext.answers.LOGITS_AT_ONCE", 4)
    assert answer_column(clf, pa.array(NEW)).to_pylist() == expected(clf, NEW)


# -- DuckDB ------------------------------------------------------------------------


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (id INTEGER, text VARCHAR)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [[i, text] for i, text in enumerate(NEW)])
        yield connection


def test_duckdb(connection: duckdb.DuckDBPyConnection, clf: lt.TextClassifier) -> None:
    assert register(connection, clf) == ["label", "probability", "answer", "p"]
    query = "SELECT label(text), probability(text), answer(text), p(text, 'no'), p(text, label(text)) FROM t"
    for text, row, (found, share, both, no, own) in zip(
        NEW, expected(clf, NEW), connection.sql(f"{query} ORDER BY id").fetchall(), strict=True
    ):
        assert {"label": found, "probability": share} == row
        assert both == (None if text is None else row)
        assert no == (None if text is None else clf.predict_proba([text])[0, 0])
        assert own == row["probability"]
    kinds = connection.sql(
        "DESCRIBE SELECT label(text), probability(text), answer(text), p(text, 'no') FROM t"
    )
    assert [row[1] for row in kinds.fetchall()] == [
        "VARCHAR", "FLOAT", 'STRUCT("label" VARCHAR, probability FLOAT)', "FLOAT",
    ]  # fmt: skip


def test_duckdb_over_many_rows(clf: lt.TextClassifier) -> None:
    texts = [TEXTS[i % 4] + f" {i}" if i % 7 else None for i in range(30_000)]
    table = pa.table({"id": range(len(texts)), "text": texts})
    with duckdb.connect() as connection:
        register(connection, clf)
        connection.register("t", table)
        found = connection.sql("SELECT label(text), probability(text) FROM t ORDER BY id").fetchall()
        kept = connection.sql("SELECT count(*) FROM t WHERE p(text, 'yes') > 0.5").fetchall()[0][0]
    every = answer_column(clf, table["text"])
    assert found == list(zip(*(column.to_pylist() for column in every.columns), strict=True))
    known = [text for text in texts if text is not None]
    assert kept == (clf.predict_proba(known)[:, 1] > 0.5).sum()


def test_duckdb_with_several_models_and_labels(
    connection: duckdb.DuckDBPyConnection, clf: lt.TextClassifier, tagger: lt.TextClassifier
) -> None:
    register(connection, clf)
    assert register(connection, tagger, "tag_") == ["tag_labels", "tag_probability", "tag_answer", "tag_p"]
    register(connection, clf, 'q"_', logits=True, top_k=1)
    rows = connection.sql(
        "SELECT label(text), tag_labels(text), tag_probability(text) FROM t ORDER BY id"
    ).fetchall()
    for one, several, row in zip(expected(clf, NEW), expected(tagger, NEW), rows, strict=True):
        assert row == (one["label"], several["labels"], several["probability"])
    found = connection.sql('SELECT "q""_logits"(text), "q""_top"(text) FROM t ORDER BY id').fetchall()
    assert found == [(row["logits"], row["top"]) for row in expected(clf, NEW, logits=True, top_k=1)]


@pytest.mark.parametrize("labels", [[3, 3, 10, 10], [True, True, False, False], ['a"b', 'a"b', "c d", "c d"]])
def test_duckdb_with_other_labels(connection: duckdb.DuckDBPyConnection, labels: list[Any]) -> None:
    model = of(labels)
    register(connection, model)
    register(connection, model, "all_", probabilities=True)
    found = connection.sql("SELECT label(text), all_probabilities(text) FROM t ORDER BY id").fetchall()
    wanted = expected(model, NEW, probabilities=True)
    assert found == [(row["label"], row["probabilities"]) for row in wanted]
    name = str(labels[0]).lower() if isinstance(labels[0], bool) else str(labels[0])
    shares = connection.execute("SELECT p(text, ?) FROM t WHERE id = 0", [name]).fetchall()
    assert shares[0][0] == model.predict_proba([NEW[0]])[0, model.classes_.tolist().index(labels[0])]


def test_duckdb_refuses(connection: duckdb.DuckDBPyConnection, clf: lt.TextClassifier) -> None:
    register(connection, clf)
    with pytest.raises(duckdb.Error, match="the model has no label 'maybe'"):
        connection.sql("SELECT p(text, 'maybe') FROM t").fetchall()
    assert connection.sql("SELECT p(text, NULL) FROM t").fetchall() == [(None,)] * len(NEW)
    with pytest.raises(duckdb.Error, match="label"):
        connection.sql("SELECT label(id) FROM t").fetchall()
    with pytest.raises(lt.NotFittedError):
        register(connection, lt.TextClassifier())
    with pytest.raises(ValueError, match=r"rows|coverage"):
        register(connection, of(["x", "x", "y", "y"]), "x_", coverage=0.9999)
    register(connection, of(["x", "x", "y", "y"]))  # takes the place of the first
    assert connection.sql("SELECT DISTINCT label(text) FROM t WHERE text = ''").fetchall()[0][0] in ("x", "y")


# -- Polars ------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [NEW, [], [None]])
def test_polars(clf: lt.TextClassifier, tagger: lt.TextClassifier, texts: list[str | None]) -> None:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    query = frame.lazy().with_columns(
        answer("text", clf, top_k=1),
        label("text", clf).alias("one"),
        probability(pl.col("text"), clf).alias("share"),
        label("text", tagger),
        p("text", clf, "yes"),
    )
    wanted, several = expected(clf, texts, top_k=1), expected(tagger, texts)
    for found in (query.collect(), query.collect(engine="streaming"), frame.with_columns()):
        if found.columns == ["text"]:
            continue
        assert found.schema == query.collect_schema()
        assert found["answer"].to_list() == wanted
        assert found["one"].to_list() == [row["label"] for row in wanted]
        assert found["share"].to_list() == [row["probability"] for row in wanted]
        assert found["labels"].to_list() == [row["labels"] for row in several]
        assert found["p(yes)"].to_list() == [
            None if text is None else clf.predict_proba([text])[0, 1] for text in texts
        ]


def test_polars_in_streams(clf: lt.TextClassifier, tmp_path: Path) -> None:
    texts = [TEXTS[i % 4] + f" {i}" if i % 7 else None for i in range(50_000)]
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "t.parquet", row_group_size=1000)
    query = pl.scan_parquet(tmp_path / "t.parquet").with_columns(answer("text", clf)).unnest("answer")
    frame = query.collect(engine="streaming")
    every = pl.from_arrow(pa.Table.from_batches([answer_column(clf, pa.array(texts))]))
    assert isinstance(every, pl.DataFrame)
    assert_frame_equal(frame.select("label", "probability"), every)
    kept = (
        pl.scan_parquet(tmp_path / "t.parquet")
        .filter(p("text", clf, "yes") > 0.5)
        .collect(engine="streaming")
    )
    assert kept.height == (clf.predict_proba([text for text in texts if text is not None])[:, 1] > 0.5).sum()


def test_polars_with_other_types(clf: lt.TextClassifier) -> None:
    frame = pl.DataFrame({"text": NEW, "n": range(len(NEW))})
    words = frame.with_columns(pl.col("text").cast(pl.Categorical))
    found = words.select(label("text", clf))
    assert found["label"].to_list() == [row["label"] for row in expected(clf, NEW)]
    grouped = frame.group_by("n", maintain_order=True).agg(label("text", clf).first())
    assert grouped["label"].to_list() == found["label"].to_list()
    numbers = of([3, 3, 10, 10])
    assert frame.select(label("text", numbers)).schema == {"label": pl.Int64}
    assert frame.select(p("text", numbers, 3)).columns == ["p(3)"]
    for wrong in (label("n", clf), p("n", clf, "yes")):
        with pytest.raises((pl.exceptions.PolarsError, ValueError), match="texts must be strings"):
            frame.select(wrong)
    with pytest.raises(ValueError, match="the model has no label 'maybe'"):
        p("text", clf, "maybe")
    for call in (lambda: p("text", lt.TextClassifier(), "a"), lambda: answer("text", lt.TextClassifier())):
        with pytest.raises(lt.NotFittedError):
            call()


# -- Spark -------------------------------------------------------------------------

BATCHES = [
    pa.RecordBatch.from_pydict(
        {"id": pa.array(range(len(part)), pa.int32()), "text": pa.array(part, pa.string())}
    )
    for part in (NEW, [], [None], TEXTS)
]


def test_batches_as_spark_gives_them(
    clf: lt.TextClassifier, tagger: lt.TextClassifier, tmp_path: Path
) -> None:
    clf.save(tmp_path / "clf.safetensors")
    for model, source, options in (
        (clf, clf, {"top_k": 2, "logits": True}),
        (clf, str(tmp_path / "clf.safetensors"), {"novelty": True}),
        (clf, tmp_path / "clf.safetensors", {}),
        (tagger, tagger, {}),
    ):
        answering = pickle.loads(pickle.dumps(Answering(source, prefix="m_", **options)))
        for given, batch in zip(BATCHES, answering(iter(BATCHES)), strict=True):
            assert batch.select(given.schema.names).equals(given)
            rows = expected(model, given["text"].to_pylist(), **options)
            added = batch.select([name for name in batch.schema.names if name.startswith("m_")])
            assert added.to_pylist() == [{f"m_{name}": value for name, value in row.items()} for row in rows]
            assert added.schema == answering.added(["text"])
            assert "large" not in str(added.schema)
        assert list(answering([])) == []


def test_spark_refuses(clf: lt.TextClassifier, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no column 'body'; the columns are 'id', 'text'"):
        list(Answering(clf, "body")(BATCHES))
    with pytest.raises(ValueError, match="there is a column 'm_label' already: give a prefix"):
        Answering(clf, prefix="m_").added(["text", "m_label"])
    with pytest.raises(FileNotFoundError):
        list(Answering(str(tmp_path / "none"))(BATCHES))


def test_spark_itself(clf: lt.TextClassifier, tagger: lt.TextClassifier, tmp_path: Path) -> None:
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    model = tmp_path / "headlines.safetensors"
    clf.save(model)
    try:
        frame = session.createDataFrame(list(enumerate(NEW)), "id int, text string")
        found = (
            spark.answer(spark.answer(frame, clf, novelty=True), tagger, prefix="tag_").sort("id").collect()
        )
        page = (Path(__file__).parent.parent / "docs" / "sql.md").read_text(encoding="utf-8")
        (shown,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
        names: dict[str, Any] = {"frame": frame}
        exec(shown.replace("headlines.safetensors", str(model)), names)
        assert names["answered"].columns == ["id", "text", "label", "probability"]
        assert names["answered"].count() == len(NEW)
    finally:
        session.stop()
    for number, row, one, several in zip(
        range(len(NEW)), found, expected(clf, NEW, novelty=True), expected(tagger, NEW), strict=True
    ):
        wanted = {
            "id": number,
            "text": NEW[number],
            **one,
            **{f"tag_{name}": each for name, each in several.items()},
        }
        assert row.asDict() == {
            name: each if each is None else np.array(each).tolist() for name, each in wanted.items()
        }
