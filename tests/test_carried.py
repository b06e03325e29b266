"""Columns carried along with the texts, and rows that are bad without being an error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitext.columns import Batch
from logitext.tables import columns_of, read


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, **how: Any) -> tuple[list[dict[str, Any]], dict[int, str], list[int]]:
    """All rows as they are carried, what is wrong with some, and the numbers of those that are here."""
    carried = columns_of(path, **{name: how[name] for name in ("text", "on_bad_row") if name in how})
    batches = list(read(path, labelled=False, carried=carried, **how))
    rows = [row for batch in batches for row in batch.carried.to_pylist()]
    for batch in batches:
        texts = batch.texts.to_pylist()
        column = batch.carried.column(text_name(carried)).to_pylist()
        for text, same in zip(texts, column, strict=True):
            assert text == (same or "")
    faults = {row: why for batch in batches for row, why in batch.faults.items()}
    return rows, faults, [int(row) for batch in batches for row in batch.numbers()]


def text_name(schema: pa.Schema) -> str:
    return "text" if "text" in schema.names else schema.names[0]


CSV = 'id,text,when\n007,one,2020-01-01\n008,"two\nlines",\n,three,NULL\n'


def test_csv_is_carried_as_it_is_written(tmp_path: Path) -> None:
    rows, faults, _ = rows_of(write(tmp_path / "x.csv", CSV))
    assert rows == [
        {"id": "007", "text": "one", "when": "2020-01-01"},
        {"id": "008", "text": "two\nlines", "when": ""},
        {"id": "", "text": "three", "when": "NULL"},
    ]
    assert faults == {}


def test_json_keeps_its_types(tmp_path: Path) -> None:
    given = [
        {
            "n": 1,
            "x": 0.5,
            "ok": True,
            "text": "a",
            "when": "2020-01-01 00:00:00",
            "tags": ["u", "v"],
            "void": {},
        },
        {"n": None, "x": 2, "text": "b", "deep": {"k": "w", "l": [1]}, "none": None},
    ]
    path = write(tmp_path / "x.jsonl.gz", gzip.compress("\n".join(map(json.dumps, given)).encode()))
    rows, _, _ = rows_of(path)
    nothing = {"ok": None, "when": None, "tags": None, "deep": None, "none": None}
    del given[0]["void"]
    assert rows == [{**nothing, **given[0]}, {**nothing, **given[1], "x": 2.0}]


def test_json_that_changes_its_mind(tmp_path: Path) -> None:
    many = [{"n": 1, "text": "a"}] * 10_000
    path = write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, [*many, {"n": 1.5, "text": "b"}])))
    with pytest.raises(ValueError, match=r"column 'n' of data row 10001 is a fraction.*int64.*--columns"):
        rows_of(path)
    rows, faults, _ = rows_of(path, on_bad_row="skip")
    assert (len(rows), list(faults)) == (10_000, [10_000])


def test_parquet_is_carried_with_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b", "c"]).dictionary_encode(),
            "n": pa.array([1, None, 3], pa.int16()),
            "when": pa.array([0, 1, 2], pa.timestamp("us", "UTC")),
            "deep": pa.array([{"k": [1.5]}, None, {"k": []}]),
            "raw": pa.array([b"\xff", None, b""], pa.binary()),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    carried = columns_of(tmp_path / "x.parquet")
    batches = list(read(tmp_path / "x.parquet", labelled=False, carried=carried))
    found = pa.Table.from_batches([batch.carried for batch in batches])
    assert found.drop(["text"]).equals(table.drop(["text"]))
    assert found["text"].to_pylist() == ["a", "b", "c"]
    second = list(read(tmp_path / "x.parquet", labelled=False, carried=carried, groups=(1, 2)))
    assert [(batch.first_row, batch.texts.to_pylist()) for batch in second] == [(2, ["c"])]


BAD: list[tuple[str, str | bytes, dict[int, str], list[str | None]]] = [
    (
        "x.csv",
        b"text,n\na,1\nb\nc,3,4\n\xff,5\nd,\xfe\ne,7\n",
        {
            1: "data row 2 has 1 field, but the header has 2",
            2: "data row 3 has 3 fields, but the header has 2",
            3: "the text of data row 4 is not valid UTF-8",
            4: "the column 'n' of data row 5 is not valid UTF-8",
        },
        ["a", None, None, None, None, "e"],
    ),
    (
        "x.jsonl",
        b'{"text": "a", "n": 1}\nnonsense\n{"text": null, "n": 2}\n{"n": 3}\n{"text": 5}\n[]\n'
        b'{"text": "\\ud800"}\n{"text": "\xff"}\n{"text": "b", "n": 4}\n',
        {
            1: "data row 2 is not valid JSON",
            2: "the text of data row 3 is null",
            3: "the text of data row 4 is missing: it has no 'text'",
            4: "the text of data row 5 is an integer, not a string",
            5: "data row 6 is an array, not a JSON object",
            6: "the text of data row 7 is not valid UTF-8 (half of a surrogate pair)",
            7: "data row 8 is not valid UTF-8",
        },
        ["a", None, None, None, None, None, None, None, "b"],
    ),
    ("x.txt", b"a\n\xff\nb\n", {1: "the text of data row 2 is not valid UTF-8"}, ["a", None, "b"]),
]


@pytest.mark.parametrize(("name", "content", "faults", "texts"), BAD, ids=[bad[0] for bad in BAD])
def test_bad_rows(
    name: str, content: bytes, faults: dict[int, str], texts: list[str | None], tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match="data row 2 "):
        rows_of(path)
    for how in ("skip", "keep"):
        carried = columns_of(path, on_bad_row=how)
        batches = list(read(path, labelled=False, carried=carried, on_bad_row=how))
        found: list[Any] = []
        for batch in batches:
            void = batch.void if batch.void is not None else [False] * len(batch.texts)
            found += [None if no else text for text, no in zip(batch.texts.to_pylist(), void, strict=True)]
        told = {row: why for batch in batches for row, why in batch.faults.items()}
        assert list(told) == list(faults)
        for row, why in faults.items():
            assert told[row].startswith(why)
        if how == "keep":
            assert found == texts
        else:
            assert found == [text for text in texts if text is not None]
            good = [row for row, text in enumerate(texts) if text is not None]
            assert [int(row) for batch in batches for row in batch.numbers()] == good


def test_null_texts_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None, "c"], "n": [1, 2, 3]}), tmp_path / "x.parquet")
    rows, faults, numbers = rows_of(tmp_path / "x.parquet", on_bad_row="skip")
    assert [row["n"] for row in rows] == [1, 3]
    assert faults == {1: "the text of data row 2 is missing"}
    assert numbers == [0, 2]
    rows, faults, numbers = rows_of(tmp_path / "x.parquet", on_bad_row="keep")
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert numbers == [0, 1, 2]
    assert list(faults) == [1]


def test_files_of_a_corpus_have_the_same_columns(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "text,id\na,1\n")
    carried = columns_of(first)
    other = write(tmp_path / "b.csv", "text,name\na,1\n")
    with pytest.raises(ValueError, match=r"b.csv: it has no column 'id'"):
        list(read(other, labelled=False, carried=carried))
    turned = write(tmp_path / "c.csv", "id,text\n1,a\n")
    (batch,) = read(turned, labelled=False, carried=carried)
    assert batch.carried.to_pylist() == [{"text": "a", "id": "1"}]
    pq.write_table(pa.table({"text": ["a"], "id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "id": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet: the column 'id' holds string, and int64 in the first"):
        list(read(tmp_path / "b.parquet", labelled=False, carried=columns_of(tmp_path / "a.parquet")))
    pq.write_table(pa.table({"text": ["a"], "id": pa.array([7], pa.int8())}), tmp_path / "c.parquet")
    (batch,) = read(tmp_path / "c.parquet", labelled=False, carried=columns_of(tmp_path / "a.parquet"))
    assert batch.carried.schema.field("id").type == pa.int64()


def test_no_leniency_with_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with labels a bad row is an error"):
        next(read(write(tmp_path / "x.csv", "text,label\na,b\n"), on_bad_row="skip"))


VALUES = st.none() | st.text(max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({"text": VALUES, "a": VALUES}), min_size=1, max_size=30),
    how=st.sampled_from(["skip", "keep"]),
    batch_bytes=st.integers(1, 200),
    cut=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_any_rows_come_through_any_batches(
    rows: list[dict[str, Any]], how: Any, batch_bytes: int, cut: tuple[int, int], tmp_path: Path
) -> None:
    if all(row["text"] is None for row in rows):
        rows[0]["text"] = "a"
    path = write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    carried = pa.schema([("text", pa.large_string()), ("a", pa.large_string())])
    try:
        batches = list(read(path, labelled=False, carried=carried, on_bad_row=how, batch_bytes=batch_bytes))
    except ValueError as error:
        assert "surrogate" in str(error) or "no 'text'" in str(error)  # noqa: PT017
        return
    numbered = list(enumerate(rows))
    expected = [(row, given) for row, given in numbered if given["text"] is not None or how == "keep"]

    def seen(parts: list[Batch]) -> list[tuple[int, dict[str, Any]]]:
        return [
            (int(row), given)
            for part in parts
            for row, given in zip(part.numbers(), part.carried.to_pylist(), strict=True)
        ]

    assert seen(batches) == expected
    begin, end = cut
    inside = [batch.between(begin, end) for batch in batches if batch.first_row < end]
    inside = [part for part in inside if part.rows > 0]
    assert seen(inside) == [pair for pair in expected if begin <= pair[0] < end]
    assert seen([piece for batch in batches for piece in batch.pieces(3)]) == expected
