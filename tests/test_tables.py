"""Tables in every format, read and written, whole, broken, huge and slow."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import random
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitext import streams, writing
from logitext._core import complete_records
from logitext.tables import FORMATS, LABEL_COLUMNS, TEXT_COLUMNS, Batch, read, read_all
from logitext.writing import OUTPUT_FORMATS, open_writer

TEXTS = [
    "plain",
    "",
    "commas, \"quotes\" and 'more'",
    "two\nlines\r\nand a third\rfourth",
    "NA",
    "null",
    "tab\tin",
    "nul \0 byte",
    "日本語 🙂 é e\u0301",
    " spaces ",
    '"',
    "\\n and \\",
]
LABELS = ["NA", "null", "two words", "ünï", "a,b", 'q"q', "1", "0", "true", "x", "y", "z"]


def columns(path: str | Path, **options: Any) -> tuple[list[str], list[Any] | None]:
    texts, labels = read_all(path, **options)
    return texts.to_pylist(), None if labels is None else labels.to_pylist()


def compressed(data: bytes, compression: str) -> bytes:
    if compression == ".gz":
        return gzip.compress(data, compresslevel=1)
    if compression == ".zst":
        packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
        return packed
    return data


def as_csv(rows: Sequence[tuple[str, ...]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    # An empty line would be no row, so a lone empty field is quoted.
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def error_of(path: str | Path, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"\A.+\.\Z") as caught:
        read_all(path, **options)
    message = str(caught.value)
    name = "standard input" if str(path) == "-" else str(path)
    assert message.startswith(f"{name}: "), message
    return message.removeprefix(f"{name}: ")


# Where records end


def parsed_by_arrow(data: bytes, delimiter: str, quoted: bool) -> int:
    """How many records Arrow finds, right or wrong in their number of fields."""
    wrong = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    options = pyarrow.csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=True,
        invalid_row_handler=skip,
    )
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(column_names=["a", "b"], block_size=len(data) + 1, use_threads=False),
        options,
    )
    rows: int = table.num_rows
    return rows + len(wrong)


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_complete_records_agrees_with_the_parser(delimiter: str, quoted: bool) -> None:
    random.seed(0)
    compared = 0
    for _ in range(1000):
        data = "".join(random.choices('"",\t\n\rab', k=random.randrange(1, 30))).encode()
        end, records = complete_records(data, ord(delimiter), quoted)
        if records:
            compared += 1
            assert parsed_by_arrow(data[:end], delimiter, quoted) == records, data
    assert compared > 400


def test_complete_records_takes_bytes_and_bytearrays() -> None:
    assert complete_records(b'a,"\n"\nb', 44, True) == (6, 1)
    assert complete_records(bytearray(b"a\r\n\r\nb\r"), 44, True) == (5, 1)
    assert complete_records(b"", 44, True) == (0, 0)
    with pytest.raises(TypeError):
        complete_records("a", 44, True)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        complete_records(b"a", 300, True)


# Formats


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("batch_bytes", [1, 7, 1 << 20])
class TestRoundTrips:
    @pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
    def test_delimited(
        self, tmp_path: Path, suffix: str, delimiter: str, compression: str, batch_bytes: int
    ) -> None:
        rows = [
            ("id", "text", "label"),
            *((str(i), *row) for i, row in enumerate(zip(TEXTS, LABELS, strict=True))),
        ]
        data = compressed(as_csv(rows, delimiter), compression)
        path = put(tmp_path, f"x{suffix}{compression}", data)
        assert columns(path, batch_bytes=batch_bytes) == (TEXTS, LABELS)
        assert columns(path, batch_bytes=batch_bytes, labelled=False) == (TEXTS, None)

    @pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json"])
    @pytest.mark.parametrize(
        "labels", [LABELS, list(range(-3, 9)), [True, False] * 6], ids=["strings", "integers", "booleans"]
    )
    def test_json_lines(
        self, tmp_path: Path, suffix: str, labels: list[Any], compression: str, batch_bytes: int
    ) -> None:
        rows = [
            {"id": None, "text": text, "deep": [{"a": 1}], "label": label}
            for text, label in zip(TEXTS, labels, strict=True)
        ]
        path = put(tmp_path, f"x{suffix}{compression}", compressed(as_json_lines(rows), compression))
        assert columns(path, batch_bytes=batch_bytes) == (TEXTS, labels)
        assert columns(path, batch_bytes=batch_bytes, labelled=False) == (TEXTS, None)

    @pytest.mark.parametrize("suffix", [".ft", ".fasttext", ".txt"])
    def test_fasttext(self, tmp_path: Path, suffix: str, compression: str, batch_bytes: int) -> None:
        data = "__label__a one text\n__label__ü\n__label__c  two blanks\r\n__label__d\ttab \n".encode()
        path = put(tmp_path, f"x{suffix}{compression}", compressed(data, compression))
        texts = ["one text", "", " two blanks", "tab "]
        assert columns(path, batch_bytes=batch_bytes) == (texts, ["a", "ü", "c", "d"])
        assert columns(path, batch_bytes=batch_bytes, labelled=False) == (texts, None)

    def test_lines(self, tmp_path: Path, compression: str, batch_bytes: int) -> None:
        path = put(
            tmp_path, f"x.txt{compression}", compressed(b'one\r\n\ntwo,"\rx\0\n last\n\n', compression)
        )
        texts = ["one", "", 'two,"\rx\0', " last", ""]
        assert columns(path, batch_bytes=batch_bytes, labelled=False) == (texts, None)


@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
@pytest.mark.parametrize("batch_bytes", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_parquet_strings(tmp_path: Path, suffix: str, batch_bytes: int, kind: pa.DataType) -> None:
    table = pa.table(
        {"n": range(12), "text": pa.array(TEXTS).cast(kind), "label": pa.array(LABELS).cast(kind)}
    )
    path = tmp_path / f"x{suffix}"
    pq.write_table(table, path, row_group_size=5)
    assert columns(path, batch_bytes=batch_bytes) == (TEXTS, LABELS)
    assert columns(path, batch_bytes=batch_bytes, labelled=False) == (TEXTS, None)


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64(), pa.bool_()],
    ids=str,
)
def test_parquet_integers_and_booleans(tmp_path: Path, kind: pa.DataType) -> None:
    labels = [True, False, True] if pa.types.is_boolean(kind) else [1, 0, 7]
    pq.write_table(
        pa.table({"text": ["a", "b", "c"], "label": pa.array(labels, kind)}), tmp_path / "x.parquet"
    )
    _, got = read_all(tmp_path / "x.parquet")
    assert got is not None
    assert got.type == (pa.bool_() if pa.types.is_boolean(kind) else pa.int64())
    assert got.to_pylist() == labels


def test_parquet_dictionary_of_integers(tmp_path: Path) -> None:
    labels = pa.array([5, 6, 5]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": labels}), tmp_path / "x.parquet")
    assert columns(tmp_path / "x.parquet") == (["a", "b", "c"], [5, 6, 5])


def test_types_and_first_rows(tmp_path: Path) -> None:
    rows = [("text", "label"), *((f"text {i}", str(i % 3)) for i in range(100))]
    path = put(tmp_path, "x.csv", as_csv(rows))
    batches = list(read(path, batch_bytes=64))
    assert len(batches) > 5
    row = 0
    for batch in batches:
        assert isinstance(batch, Batch)
        assert batch.first_row == row
        assert batch.texts.type == pa.large_string()
        assert batch.labels is not None
        assert batch.labels.type == pa.large_string()
        assert len(batch.texts) == len(batch.labels) > 0
        batch.texts.validate(full=True)
        row += len(batch.texts)
    assert row == 100


def test_no_newline_at_the_end(tmp_path: Path) -> None:
    assert columns(put(tmp_path, "x.csv", b"text,label\na,b\nc,d")) == (["a", "c"], ["b", "d"])
    assert columns(put(tmp_path, "x.csv", b'text,label\na,b\n"c","d"')) == (["a", "c"], ["b", "d"])
    assert columns(put(tmp_path, "x.csv", b'text\n"a"\n"'[:-1]), labelled=False) == (["a"], None)
    assert columns(put(tmp_path, "x.jsonl", b'{"text":"a","label":1}\n{"text":"b","label":2}')) == (
        ["a", "b"],
        [1, 2],
    )
    assert columns(put(tmp_path, "x.ft", b"__label__a b\n__label__c d")) == (["b", "d"], ["a", "c"])
    assert columns(put(tmp_path, "x.txt", b"a\nb"), labelled=False) == (["a", "b"], None)
    assert columns(put(tmp_path, "x.txt", b"a"), labelled=False) == (["a"], None)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("batch_bytes", [1, 2, 3, 1000])
def test_line_ends_and_blank_lines_in_csv(tmp_path: Path, end: bytes, batch_bytes: int) -> None:
    lines = [b"", b"text,label", b"", b"a,b", b"", b"", b'"c\r\nd",e', b",f", b""]
    path = put(tmp_path, "x.csv", end.join(lines))
    assert columns(path, batch_bytes=batch_bytes) == (["a", "c\r\nd", ""], ["b", "e", "f"])


def test_csv_quoting_that_is_not_by_the_book(tmp_path: Path) -> None:
    path = put(tmp_path, "x.csv", b'text,label\na"b,c"d\n"a"b"c,x\n a "b" ,y\n')
    assert columns(path) == (['a"b', 'ab"c', ' a "b" '], ['c"d', "x", "y"])


def test_byte_order_mark(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    for batch_bytes in (1, 2, 100):
        options = {"batch_bytes": batch_bytes}
        assert columns(put(tmp_path, "x.csv", mark + b"text,label\na,b\n"), **options) == (["a"], ["b"])
        assert columns(put(tmp_path, "x.csv", mark + b'"text","label"\na,b\n'), **options) == (["a"], ["b"])
        assert columns(put(tmp_path, "x.jsonl", mark + b'{"text":"a","label":1}'), **options) == (["a"], [1])
        assert columns(put(tmp_path, "x.txt", mark + b"__label__b a"), **options) == (["a"], ["b"])
        assert columns(put(tmp_path, "x.txt", mark + b"a"), labelled=False, **options) == (["a"], None)


@pytest.mark.parametrize(
    ("name", "data", "labelled"),
    [
        ("x.csv", b"text,label\n" + b",a\n" * 1_000_000, True),
        ("x.csv", b"text\n" + b'""\n' * 1_000_000, False),
        ("x.txt", b"\n" * 1_000_000, False),
        ("x.ft", b"__label__a\n" * 1_000_000, True),
        ("x.jsonl", b'{"text":"","label":"a"}\n' * 1_000_000, True),
    ],
    ids=["csv", "csv of one column", "lines", "fasttext", "jsonl"],
)
def test_a_million_empty_texts(tmp_path: Path, name: str, data: bytes, labelled: bool) -> None:
    rows = sum(len(batch.texts) for batch in read(put(tmp_path, name, data), labelled=labelled))
    assert rows == 1_000_000


def test_multi_member_gzip_and_zstd(tmp_path: Path) -> None:
    halves = b"text,label\na,b\nc", b",d\ne,f\n"
    for suffix in (".gz", ".zst"):
        data = b"".join(compressed(half, suffix) for half in halves)
        assert columns(put(tmp_path, "x.csv" + suffix, data)) == (["a", "c", "e"], ["b", "d", "f"])


# Columns


@pytest.mark.parametrize("name", TEXT_COLUMNS)
def test_text_columns_are_guessed(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "x.csv", f"id,{name.title()},label\n1,a,b\n".encode())
    assert columns(path) == (["a"], ["b"])


@pytest.mark.parametrize("name", LABEL_COLUMNS)
def test_label_columns_are_guessed(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, "x.csv", f"id,{name.upper()},text\n1,a,b\n".encode())
    assert columns(path) == (["b"], ["a"])


def test_the_likelier_name_wins(tmp_path: Path) -> None:
    path = put(tmp_path, "x.csv", b"title,topic,text,label\n1,2,3,4\n")
    assert columns(path) == (["3"], ["4"])
    assert columns(path, text="title") == (["1"], ["4"])
    assert columns(path, label="topic") == (["3"], ["2"])
    assert columns(path, label="text") == (["1"], ["3"])
    assert columns(path, text="label", labelled=False) == (["4"], None)


def test_the_only_column_is_the_text(tmp_path: Path) -> None:
    assert columns(put(tmp_path, "x.csv", b"whatever\na\n"), labelled=False) == (["a"], None)
    assert columns(put(tmp_path, "x.jsonl", b'{"whatever": "a"}'), labelled=False) == (["a"], None)
    pq.write_table(pa.table({"whatever": ["a"]}), tmp_path / "x.parquet")
    assert columns(tmp_path / "x.parquet", labelled=False) == (["a"], None)


def test_other_columns_may_hold_anything(tmp_path: Path) -> None:
    assert columns(put(tmp_path, "x.csv", b"text,junk,junk,,label\na,\xff,\xfe,1,b\n")) == (["a"], ["b"])
    data = (
        b'{"text":"a","label":1,"z":1}\n{"z":{"q":[null]},"label":2,"text":"b","new":0.5}\n'
        b'{"text":"c","label":3}\n'
    )
    assert columns(put(tmp_path, "x.jsonl", data)) == (["a", "b", "c"], [1, 2, 3])


def test_names_with_quotes_newlines_and_dots(tmp_path: Path) -> None:
    path = put(tmp_path, "x.csv", b'"my ""text""\nhere",a.b\nx,y\n')
    assert columns(path, text='my "text"\nhere', label="a.b") == (["x"], ["y"])
    pq.write_table(pa.table({"a.b": ["x"], "a": [{"b": "no"}], "y": ["l"]}), tmp_path / "x.parquet")
    assert columns(tmp_path / "x.parquet", text="a.b") == (["x"], ["l"])


# What JSON allows


def test_json_lines_that_arrow_reads_otherwise(tmp_path: Path) -> None:
    data = (
        b'\n  \n{"text":"a","label":1,"x":"\\ud800"}\n\r\n'  # half a surrogate where it is not wanted
        b'{"text":"first","label":2,"text":"last"}\n'  # a key twice
        b'\t{"te\\u0078t":"\\ud83d\\ude42\\u0000","label":3 }  \r\n'
    )
    for batch_bytes in (1, 30, 1000):
        path = put(tmp_path, "x.jsonl", data)
        assert columns(path, batch_bytes=batch_bytes) == (["a", "last", "🙂\0"], [1, 2, 3])


def test_dates_in_json_stay_strings(tmp_path: Path) -> None:
    path = put(tmp_path, "x.jsonl", b'{"text":"2020-01-01","label":"2020-01-01 10:00:00"}\n')
    assert columns(path) == (["2020-01-01"], ["2020-01-01 10:00:00"])


# Errors

LONE = b'{"text":"a","label":"b"}\n'

ERRORS: list[tuple[str, bytes, dict[str, Any], str]] = [
    # Nothing there
    ("x.csv", b"", {}, "empty."),
    ("x.csv", b"\n\r\n", {}, "empty."),
    ("x.csv", b"\xef\xbb\xbf", {}, "empty."),
    ("x.tsv", b"text\tlabel\n\n", {}, "a header but no data rows in it."),
    ("x.csv", b"text,label", {}, "a header but no data rows in it."),
    ("x.jsonl", b"", {}, "empty."),
    ("x.jsonl", b" \n\n", {}, "empty."),
    ("x.ft", b"", {}, "empty."),
    ("x.txt", b"", {"labelled": False}, "empty."),
    ("x.parquet", b"", {}, "empty."),
    ("x.csv.gz", b"", {}, "empty."),
    ("x.csv.zst", b"", {}, "empty."),
    # Columns
    (
        "x.csv",
        b"id,words,label\n1,a,b\n",
        {},
        "no column is named like a text; give --text NAME with one of 'id', 'words', 'label'.",
    ),
    (
        "x.csv",
        b"id,text,kind\n1,a,b\n",
        {},
        "no column is named like a label; give --label NAME with one of 'id', 'text', 'kind'.",
    ),
    (
        "x.csv",
        b"id,text,label\n1,a,b\n",
        {"text": "Text"},
        "no column is named 'Text'; give --text NAME with one of 'id', 'text', 'label'.",
    ),
    (
        "x.jsonl",
        LONE,
        {"label": "topic"},
        "no column is named 'topic'; give --label NAME with one of 'text', 'label'.",
    ),
    (
        "x.csv",
        b"text,label,text\n1,a,b\n",
        {"text": "text"},
        "2 columns are named 'text'; rename all but one.",
    ),
    (
        "x.csv",
        b"text,label,TEXT\n1,a,b\n",
        {},
        "several columns may be the text; give --text NAME with one of 'text', 'TEXT'.",
    ),
    (
        "x.csv",
        b"text,label\na,b\n",
        {"text": "text", "label": "text"},
        "the column 'text' cannot be both the text and the label.",
    ),
    (
        "x.jsonl",
        b"{}\n",
        {},
        "no column is named like a text; give --text NAME with one of its columns (it has none).",
    ),
    (
        "x.csv",
        ",".join(f"c{i}" for i in range(40)).encode() + b"\n",
        {},
        "no column is named like a text; give --text NAME with one of "
        + ", ".join(f"'c{i}'" for i in range(30))
        + " and 10 more.",
    ),
    (
        "x.txt",
        b"a\n",
        {"labelled": False, "text": "body"},
        "read as plain lines, which have no columns to name; drop --text and --label or give --input-format.",
    ),
    (
        "x.ft",
        b"__label__a b\n",
        {"label": "topic"},
        "read as fastText lines, which have no columns to name; drop --text and --label "
        "or give --input-format.",
    ),
    # Rows of CSV and TSV
    ("x.csv", b"text,label\na,b\n\nc,d,e\n", {}, "data row 2 has 3 fields, but the header has 2."),
    ("x.csv", b'text,label\n"a\nb",b\nc\n', {}, "data row 2 has 1 field, but the header has 2."),
    ("x.tsv", b"text\tlabel\na,b\n", {}, "data row 1 has 1 field, but the header has 2."),
    ("x.csv", b"text,label\na,b\nc,\n", {}, "the label of data row 2 is empty."),
    ("x.csv", b'text,label\na,""\n', {}, "the label of data row 1 is empty."),
    ("x.csv", b'text,label\na,b\nc,d\n"e,f\ng,h\n', {}, "data row 3 opens a quote that is never closed."),
    ("x.csv", b'"text,label\na,b\n', {}, "the header opens a quote that is never closed."),
    # Rows of JSON Lines
    (
        "x.jsonl",
        LONE + b'\n{"text":"a","label":\n',
        {},
        "data row 2 is not valid JSON (Expecting value: line 1 column 21 (char 20)).",
    ),
    ("x.jsonl", LONE + b'{"text":"a"}\n', {}, "the label of data row 2 is missing: it has no 'label'."),
    ("x.jsonl", LONE + b'{"text":null,"label":"a"}\n', {}, "the text of data row 2 is null."),
    ("x.jsonl", b'{"text":"a","label":null}\n', {}, "the label of data row 1 is null."),
    ("x.jsonl", LONE + b'{"text":"a","label":""}\n', {}, "the label of data row 2 is empty."),
    (
        "x.jsonl",
        LONE + b'{"text":5,"label":"a"}\n',
        {},
        "the text of data row 2 is an integer, not a string.",
    ),
    ("x.jsonl", b'{"text":["a"],"label":"a"}\n', {}, "the text of data row 1 is an array, not a string."),
    (
        "x.jsonl",
        b'{"text":"a","label":1}\n' + LONE,
        {},
        "the label of data row 2 is a string, where data row 1 has an integer; "
        "labels must all be of one type.",
    ),
    (
        "x.jsonl",
        LONE * 3 + b'{"text":"a","label":true}\n',
        {},
        "the label of data row 4 is a boolean, where data row 1 has a string; "
        "labels must all be of one type.",
    ),
    (
        "x.jsonl",
        b'{"text":"a","label":0.5}\n',
        {},
        "the label of data row 1 is a fraction; labels are strings, integers or booleans.",
    ),
    (
        "x.jsonl",
        b'{"text":"a","label":["x","y"]}\n',
        {},
        "the label of data row 1 is an array; labels are strings, integers or booleans, "
        "and for several labels per text give --multilabel.",
    ),
    (
        "x.jsonl",
        b'{"text":"a","label":1}\n{"text":"a","label":9223372036854775808}\n',
        {},
        "the label of data row 2 does not fit in a signed 64-bit integer.",
    ),
    (
        "x.jsonl",
        LONE + b'{"text":"\\ud800","label":"a"}\n',
        {},
        "the text of data row 2 is not valid UTF-8 (half of a surrogate pair).",
    ),
    ("x.json", b'[{"text":"a"}]\n', {}, "a JSON array, where JSON Lines have one object per line."),
    ("x.jsonl", b"null\n", {}, "data row 1 is null, not a JSON object."),
    ("x.jsonl", LONE + b"null\n", {}, "data row 2 is null, not a JSON object."),
    ("x.jsonl", LONE + b"null\n" + LONE, {"batch_bytes": 5}, "data row 2 is null, not a JSON object."),
    ("x.jsonl", LONE + b"[1]\n", {}, "data row 2 is an array, not a JSON object."),
    ("x.jsonl", LONE + b"[" * 200_000 + b"\n", {}, "data row 2 is nested too deeply."),
    (
        "x.jsonl",
        LONE + LONE[:-1] + LONE,
        {},
        "data row 2 is not valid JSON (Extra data: line 1 column 25 (char 24)).",
    ),
    # fastText and plain lines
    (
        "x.ft",
        b"__label__a b\n__label__a __label__b c\n",
        {},
        "data row 2 has more than one label: for several labels per text give --multilabel.",
    ),
    (
        "x.ft",
        b"__label__a  __label__b\n",
        {},
        "data row 1 has more than one label: for several labels per text give --multilabel.",
    ),
    ("x.ft", b"__label__a b\nno label\n", {}, "data row 2 does not start with __label__."),
    ("x.ft", b"__label__a b\n\n", {}, "data row 2 does not start with __label__."),
    ("x.ft", b"__label__ b\n", {}, "the label of data row 1 is empty."),
    (
        "x.txt",
        b"a\n",
        {},
        "plain lines hold no labels; give CSV, TSV, JSON Lines, Parquet or fastText lines, "
        "or name the format with --input-format.",
    ),
    # Encodings and other files
    ("x.csv", "text,label\na,b\n".encode("utf-16"), {}, "is UTF-16; save it as UTF-8."),
    ("x.txt", "\ufefftext".encode("utf-16-be"), {"labelled": False}, "is UTF-16; save it as UTF-8."),
    ("x.csv", "text,label\na,b\n".encode("utf-32"), {}, "is UTF-32; save it as UTF-8."),
    (
        "x.csv",
        gzip.compress(b"text"),
        {},
        "is compressed with gzip, which its name does not say (.gz); decompress it first.",
    ),
    (
        "x.csv",
        compressed(b"text", ".zst"),
        {},
        "is compressed with zstd, which its name does not say (.zst); decompress it first.",
    ),
    ("x.csv", b"PK\x03\x04....", {}, "is a ZIP archive or a spreadsheet; save it as CSV."),
    ("x.csv", b"PAR1\x15....", {}, "is a Parquet file, which its name does not say (.parquet)."),
    ("x.csv.gz", gzip.compress(b"text,label\na,b\n")[:-5], {}, "cut short, its gzip stream has no end."),
    ("x.csv.gz", gzip.compress(b"text,label\na,b\n")[:3], {}, "cut short, its gzip stream has no end."),
    (
        "x.csv.zst",
        compressed(b"text,label\na,b\n", ".zst")[:-5],
        {},
        "cut short, its zstd stream has no end.",
    ),
    ("x.jsonl.zst", compressed(LONE * 99999, ".zst")[:-5], {}, "cut short, its zstd stream has no end."),
    (
        "x.csv.gz",
        b"text,label\na,b\n",
        {},
        "not a valid gzip file (zlib inflate failed: incorrect header check).",
    ),
    (
        "x.csv.zst",
        b"text,label\na,b\n",
        {},
        "not a valid zstd file (ZSTD decompress failed: Unknown frame descriptor).",
    ),
    # Names
    (
        "x.xlsx",
        b"",
        {},
        "the suffix '.xlsx' names no known format; the known ones are .csv, .tsv, .jsonl, .ndjson, .json, "
        ".parquet, .pq, .ft, .fasttext, .txt, optionally with .gz or .zst after them; rename the file or "
        "give --input-format.",
    ),
    ("x.parquet.gz", b"", {}, "Parquet compresses itself and cannot be read through gzip."),
]


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    ERRORS,
    ids=[f"{name}-{message[:50]}" for name, _, _, message in ERRORS],
)
def test_errors_are_one_clear_sentence(
    tmp_path: Path, name: str, data: bytes, options: dict[str, Any], message: str
) -> None:
    assert error_of(put(tmp_path, name, data), **options) == message


@pytest.mark.parametrize(
    ("name", "before", "row"),
    [
        ("x.csv", b"text,label\n" + b"a,b\n\n" * 70, b"\xff,b\n"),
        ("x.tsv", b"text\tlabel\n" + b"a\tb\n" * 70, b"a\t\xff\n"),
        ("x.jsonl", b'{"text":"a","label":"b"}\n' * 70, b'{"text":"\xff","label":"a"}\n'),
        ("x.ft", b"__label__a b\n" * 70, b"__label__\xff b\n"),
        ("x.txt", b"a\n" * 70, b"b\xff\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("batch_bytes", [1, 50, 1 << 20])
def test_invalid_utf8_names_the_row(
    tmp_path: Path, name: str, before: bytes, row: bytes, batch_bytes: int
) -> None:
    path = put(tmp_path, name, before + row + before[-5:])
    message = error_of(path, labelled=name != "x.txt", batch_bytes=batch_bytes)
    assert "data row 71 is not valid UTF-8 ('utf-8' codec can't decode byte 0xff in position " in message


def test_invalid_utf8_in_the_header_and_in_parquet(tmp_path: Path) -> None:
    assert "the header is not valid UTF-8" in error_of(put(tmp_path, "x.csv", b"te\xffxt,label\na,b\n"))
    broken = pa.array([b"a", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"text": broken, "label": ["a", "b"]}), tmp_path / "x.parquet")
    assert "the text of data row 2 is not valid UTF-8" in error_of(tmp_path / "x.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "label": broken}), tmp_path / "x.parquet")
    assert "the label of data row 2 is not valid UTF-8" in error_of(tmp_path / "x.parquet")


def test_rows_are_numbered_across_batches(tmp_path: Path) -> None:
    rows = b'"x\ny",b\n\n' * 50
    path = put(tmp_path, "x.csv", b"text,label\n" + rows + b"a,b,c\n")
    for batch_bytes in (1, 10, 100, 10_000):
        assert error_of(path, batch_bytes=batch_bytes) == "data row 51 has 3 fields, but the header has 2."
    path = put(tmp_path, "x.csv", b"text,label\n" + rows + b'"a,b\n')
    for batch_bytes in (1, 10, 100, 10_000):
        message = "data row 51 opens a quote that is never closed."
        assert error_of(path, batch_bytes=batch_bytes) == message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a", None], "label": ["a", "b"]}, "the text of data row 2 is missing."),
        ({"text": ["a", "b"], "label": ["a", None]}, "the label of data row 2 is missing."),
        ({"text": ["a", "b"], "label": [1, None]}, "the label of data row 2 is missing."),
        ({"text": ["a", "b"], "label": [None, None]}, "the label of data row 1 is missing."),
        ({"text": [None, None], "label": ["a", "b"]}, "the text of data row 1 is missing."),
        ({"text": ["a", "b"], "label": ["a", ""]}, "the label of data row 2 is empty."),
        (
            {"text": ["a", "b"], "label": pa.array(["a", None]).dictionary_encode()},
            "the label of data row 2 is missing.",
        ),
        (
            {"text": ["a"], "label": [1.0]},
            "the label column 'label' holds double, but labels are strings, integers or booleans.",
        ),
        ({"text": [1], "label": [1]}, "the text column 'text' holds int64, but texts are strings."),
        (
            {"text": ["a"], "label": [["x"]]},
            "the label column 'label' holds list<element: string>, "
            "but labels are strings, integers or booleans, "
            "and for several labels per text give --multilabel.",
        ),
        (
            {"text": ["a", "b"], "label": pa.array([1, 1 << 63], pa.uint64())},
            "the label of data row 2 does not fit in a signed 64-bit integer.",
        ),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "no data rows in it."),
        (
            {"words": ["a"], "label": ["b"]},
            "no column is named like a text; give --text NAME with one of 'words', 'label'.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parquet_errors(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    assert error_of(tmp_path / "x.parquet") == message


def test_files_that_are_not_parquet(tmp_path: Path) -> None:
    message = error_of(put(tmp_path, "x.parquet", b"text,label\na,b\n" * 10))
    assert message.startswith("not a readable Parquet file (")
    pq.write_table(pa.table({"text": ["a" * 9] * 999, "label": ["b"] * 999}), tmp_path / "y.parquet")
    whole = (tmp_path / "y.parquet").read_bytes()
    assert error_of(put(tmp_path, "x.parquet", whole[:-20])).startswith("not a readable Parquet file (")
    damaged = whole[:10] + b"\xff" * 40 + whole[50:]
    assert error_of(put(tmp_path, "x.parquet", damaged)).startswith(
        "the rows from data row 1 on cannot be read ("
    )


def test_errors_of_the_system_keep_their_kind(tmp_path: Path) -> None:
    for name in ("none.csv", "none.csv.gz", "none.parquet", "no/such.jsonl"):
        with pytest.raises(FileNotFoundError, match=name):
            read_all(tmp_path / name)
    for name in ("folder.csv", "folder.zst", "folder.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(IsADirectoryError, match=name):
            read_all(tmp_path / name, format=None if name != "folder.zst" else "csv")
    if os.geteuid():
        secret = put(tmp_path, "secret.csv", b"text,label\na,b\n")
        secret.chmod(0)
        with pytest.raises(PermissionError, match=r"secret\.csv"):
            read_all(secret)


def test_unknown_formats_and_sizes(tmp_path: Path) -> None:
    path = put(tmp_path, "x.csv", b"text,label\na,b\n")
    with pytest.raises(ValueError, match=rf"^unknown format 'xml'; the formats are {', '.join(FORMATS)}\.$"):
        read_all(path, format="xml")
    with pytest.raises(ValueError, match="batch_bytes must be at least 1, not 0"):
        read_all(path, batch_bytes=0)


def test_a_record_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_RECORD", 1000)
    path = put(tmp_path, "x.csv", b'text,label\na,b\n"c' + b"\n" * 2000)
    message = "data row 2 is longer than 2 GB; is a quote never closed?"
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        read_all(path, batch_bytes=100)


def test_the_format_may_be_given(tmp_path: Path) -> None:
    path = put(tmp_path, "data", b"text\tlabel\na\tb\n")
    assert columns(path, format="tsv") == (["a"], ["b"])
    path = put(tmp_path, "data.gz", gzip.compress(b"text\tlabel\na\tb\n"))
    assert columns(path, format="tsv") == (["a"], ["b"])
    path = put(tmp_path, "x.txt", b"__label__a b\n")
    assert columns(path, format="lines", labelled=False) == (["__label__a b"], None)
    path = put(tmp_path, "x.csv", b"a,b\n")
    assert columns(path, format="lines", labelled=False) == (["a,b"], None)


def test_fasttext_without_labels(tmp_path: Path) -> None:
    path = put(tmp_path, "x.ft", b"no label\n__label__a __label__b c\n\n__label__a  __label__b\n x\n")
    assert columns(path, labelled=False) == (["no label", "c", "", "", " x"], None)


def test_txt_is_sniffed_past_blank_lines(tmp_path: Path) -> None:
    assert columns(put(tmp_path, "x.txt", b"\n  \n__label__a b"), labelled=False) == (["", "  ", "b"], None)
    assert columns(put(tmp_path, "x.txt", b"text,label\na,b"), labelled=False) == (
        ["text,label", "a,b"],
        None,
    )


def test_an_abandoned_reader_closes_its_file(tmp_path: Path) -> None:
    for name in ("x.csv", "x.csv.gz"):
        data = compressed(as_csv([("text", "label")] + [("a", "b")] * 1000), name[5:])
        batches = read(put(tmp_path, name, data), batch_bytes=64)
        next(batches)
        batches.close()  # type: ignore[attr-defined]


# Random tables

words = st.text(st.characters(codec="utf-8"), max_size=12) | st.text(
    st.sampled_from('",\n\r\t\0 a\\é🙂'), max_size=12
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(
    rows=st.lists(st.tuples(words, words.filter(bool), words), min_size=1, max_size=8),
    # With another line end Python leaves a CR or an LF inside a field bare.
    style=st.sampled_from(
        [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]
    ),
    tab=st.booleans(),
    batch_bytes=st.integers(1, 40),
)
def test_any_csv_reads_back(
    tmp_path: Path, rows: list[tuple[str, str, str]], style: tuple[str, Any], tab: bool, batch_bytes: int
) -> None:
    out = io.StringIO(newline="")
    end, quoting = style
    writer = csv.writer(out, delimiter="\t" if tab else ",", quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label", "other"), *rows])
    path = put(tmp_path, "x.tsv" if tab else "x.csv", out.getvalue().encode())
    assert columns(path, batch_bytes=batch_bytes) == ([row[0] for row in rows], [row[1] for row in rows])


@quick
@given(
    rows=st.lists(st.tuples(words, words.filter(bool)), min_size=1, max_size=8),
    ascii_only=st.booleans(),
    batch_bytes=st.integers(1, 60),
)
def test_any_json_lines_read_back(
    tmp_path: Path, rows: list[tuple[str, str]], ascii_only: bool, batch_bytes: int
) -> None:
    lines = [json.dumps({"text": a, "label": b}, ensure_ascii=ascii_only) for a, b in rows]
    path = put(tmp_path, "x.jsonl", "\n".join(lines).encode())
    assert columns(path, batch_bytes=batch_bytes) == ([a for a, _ in rows], [b for _, b in rows])


@quick
@given(
    texts=st.lists(words.filter(lambda text: "\n" not in text), min_size=1), batch_bytes=st.integers(1, 40)
)
def test_any_lines_read_back(tmp_path: Path, texts: list[str], batch_bytes: int) -> None:
    path = put(tmp_path, "x.txt", "".join(text + "\n" for text in texts).encode())
    want = [text.removesuffix("\r") for text in texts]
    assert columns(path, batch_bytes=batch_bytes, labelled=False, format="lines") == (want, None)


@quick
@given(data=st.binary(max_size=60), batch_bytes=st.integers(1, 30), kind=st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, batch_bytes: int, kind: str) -> None:
    path = put(tmp_path, "x", data)
    for labelled in (True, False):
        refusal = str(path)
        try:
            read_all(path, format=kind, labelled=labelled, batch_bytes=batch_bytes)
        except ValueError as error:
            refusal = str(error)
        assert refusal.startswith(str(path))


@quick
@given(
    rows=st.lists(
        st.sampled_from([LONE, b"null", b"{}", b"1", b"\xff", b'{"text":1}', b" ", b'"', b"}"]), max_size=6
    ),
    joint=st.sampled_from([b"\n", b" ", b""]),
)
def test_any_json_mix_is_read_or_refused(tmp_path: Path, rows: list[bytes], joint: bytes) -> None:
    path = put(tmp_path, "x.jsonl", joint.join(row.strip() for row in rows))
    refusal = str(path)
    try:
        texts, _ = columns(path)
    except ValueError as error:
        refusal = str(error)
    else:
        assert texts == ["a"] * rows.count(LONE)
    assert refusal.startswith(str(path))


# Huge texts

# Quotes make CSV and JSON work, and the line ends make every cut a wrong one.
HUGE = b'a, "b" \xc3\xa9\n' * 10_000_000
HUGE_LINE = HUGE.replace(b"\n", b" ")


def huge_table(kind: str) -> bytes:
    if kind == "csv":
        return b'text,label\na,a\n"' + HUGE.replace(b'"', b'""') + b'",b\nb,c\n'
    if kind == "jsonl":
        escaped = HUGE.replace(b'"', b'\\"').replace(b"\n", b"\\n")
        return b'{"text":"a","label":1}\n{"label":2,"text":"' + escaped + b'"}\n{"text":"b","label":3}\n'
    start = [b"__label__a ", b"__label__b "] if kind == "ft" else [b"", b""]
    return start[0] + b"a\n" + start[1] + HUGE_LINE + b"\n" + start[0] + b"b\n"


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl", "x.ft", "x.txt", "x.parquet"])
def test_a_text_of_100_megabytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    kind, compression = path.name.split(".")[1], name[5:]
    if kind == "parquet":
        texts = pa.array([b"a", HUGE, b"b"]).cast(pa.string())
        pq.write_table(pa.table({"text": texts, "label": ["a", "b", "c"]}), path)
    else:
        path.write_bytes(compressed(huge_table(kind), compression if compression == ".gz" else ""))
    batches = read(path, labelled=kind != "txt")
    got = [text.as_buffer() for batch in batches for text in batch.texts]
    assert [buffer.size for buffer in got] == [1, len(HUGE), 1]
    assert got[1].equals(pa.py_buffer(HUGE_LINE if kind in {"ft", "txt"} else HUGE))


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its peak memory from /proc")
def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    block = as_csv([(f"{i} some text of a usual length, with commas", "label") for i in range(20_000)])
    with open(path, "wb") as file:
        file.write(b"text,label\n")
        for _ in range(300_000_000 // len(block)):
            file.write(block)
    script = f"""
        from logitext.tables import read
        rows = sum(len(batch.texts) for batch in read({str(path)!r}))
        # Of this process alone; getrusage would include the one it was forked from.
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(rows, peak.split()[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 20_000 * (300_000_000 // len(block))
    assert peak < 350_000, f"{peak} kB"


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    texts = pa.array([f"{i} some text of a usual length" for i in range(20_000)] * 150)
    labels = pa.array(["label"] * len(texts))
    table = pa.table({"text": texts, "label": labels})
    pq.write_table(table, path, row_group_size=len(texts), use_dictionary=False, compression="none")
    assert path.stat().st_size > 100_000_000
    script = f"""
        import pyarrow as pa
        from logitext.tables import read
        rows = sum(len(batch.texts) for batch in read({str(path)!r}))
        print(rows, pa.default_memory_pool().max_memory())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == len(texts)
    assert peak < 40_000_000


# Standard input


@pytest.mark.parametrize(
    ("data", "want", "labelled"),
    [
        (b'{"text":"a","label":"b"}\n', (["a"], ["b"]), True),
        (b'\n \n{"text":"a","label":"b"}\n', (["a"], ["b"]), True),
        (b"__label__b a\n", (["a"], ["b"]), True),
        (b"id,Text,label\n1,a,b\n", (["a"], ["b"]), True),
        (b'id\t"text"\tlabel\r\n1\ta\tb\n', (["a"], ["b"]), True),
        (b"text\na\n", (["a"], None), False),
        (b"just a text\nand, another\n", (["just a text", "and, another"], None), False),
        (b"one", (["one"], None), False),
        (b'\xef\xbb\xbf{"text":"a"}', (["a"], None), False),
    ],
)
def test_standard_input_is_sniffed(
    monkeypatch: pytest.MonkeyPatch, data: bytes, want: tuple[list[str], list[str] | None], labelled: bool
) -> None:
    for batch_bytes in (1, 1000):
        stdin(monkeypatch, data)
        assert columns("-", labelled=labelled, batch_bytes=batch_bytes) == want


def test_standard_input_with_names_and_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"id,words,label\n1,a,b\n")
    assert columns("-", text="words") == (["a"], ["b"])
    stdin(monkeypatch, b"text,label\na,b\n")
    assert columns(Path("-"), format="lines", labelled=False) == (["text,label", "a,b"], None)


def test_errors_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"text,label\na\n")
    assert error_of("-") == "data row 1 has 1 field, but the header has 2."
    stdin(monkeypatch, b"words and words\n")
    assert error_of("-").startswith("plain lines hold no labels; ")
    stdin(monkeypatch, b"id,words\n1,a\n")
    assert error_of("-", text="wrods", labelled=False).startswith(
        "read as plain lines, which have no columns"
    )
    stdin(monkeypatch, b"")
    assert error_of("-", labelled=False) == "empty."
    stdin(monkeypatch, gzip.compress(b"text"))
    assert error_of("-").startswith("is compressed with gzip")
    message = "Parquet cannot be read from a pipe, because its index is at the end; give a file."
    assert error_of("-", format="parquet") == message


ECHO = """
import sys
from logitext.tables import read
for batch in read("-", labelled=False, format=sys.argv[1] if sys.argv[1:] else None):
    for text in batch.texts:
        print(text.as_py(), flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("lines", [b"one\n", b"two\n"]),
        (None, [b"one\n", b"two\n"]),
        ("csv", [b"text\none\n", b"two\n"]),
        ("jsonl", [b'{"text":"one"}\n', b'{"text":"two"}\n']),
        ("fasttext", [b"__label__x one\n", b"two\n"]),
    ],
)
def test_rows_of_a_slow_producer_come_out_at_once(kind: str | None, lines: list[bytes]) -> None:
    arguments = [sys.executable, "-c", ECHO, *([kind] if kind else [])]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # If rows were held back, reading would wait for ever.
        watchdog = threading.Timer(20, child.kill)
        watchdog.start()
        for line, want in zip(lines, (b"one\n", b"two\n"), strict=True):
            child.stdin.write(line)
            child.stdin.flush()
            assert child.stdout.readline() == want
        child.stdin.close()
        assert child.wait() == 0
        watchdog.cancel()


# Writing

BATCH = pa.record_batch(
    {
        "text": TEXTS[:4],
        "label": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "probability": [0.1, 1.0, 1e-7, 1e20],
        "single": pa.array([0.1, 3.4e38, 1.0, None], pa.float32()),
        "n": [1, None, -3, 1 << 62],
        "sure": [True, False, None, True],
        "scores": [{"a": 0.25, "b": 1.0}, None, {"a": None, "b": 0.5}, {"a": 0.0, "b": -0.0}],
    }
)
COLLECTIONS = pa.record_batch(
    {
        "list": pa.array([[1.5, 2.0], None, [], [None]]),
        "fixed": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int64(), 2)),
        "map": pa.array(
            [[("a", 0.5), ('"', 1.0)], None, [], [("b", None)]], pa.map_(pa.string(), pa.float64())
        ),
        "deep": pa.array([[{"x": ["y"]}], [{"x": None}, None], None, []]),
        "view": pa.array(["a", None, '"', "\n"], pa.string_view()),
        "nothing": pa.nulls(4),
        "empty": pa.array([{}, None, {}, {}], pa.struct([])),
    }
)


def written(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            whole: bytes = stream.read()
            return whole
    return data


def write(path: Path, batches: list[pa.RecordBatch]) -> None:
    with open_writer(path) as writer:
        for batch in batches:
            writer.write(batch)


def alone(folder: Path, path: Path) -> None:
    """No temporary file is left beside this one."""
    assert [entry.name for entry in folder.iterdir()] == [path.name]


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
class TestWriting:
    def test_json_lines(self, tmp_path: Path, compression: str) -> None:
        path = tmp_path / f"x.jsonl{compression}"
        with open_writer(path) as writer:
            writer.write(BATCH)
            writer.write(BATCH.slice(0, 0))
            writer.write(BATCH.slice(1, 2))
        alone(tmp_path, path)
        lines = written(path).decode().split("\n")
        assert lines.pop() == ""
        assert lines[0] == (
            '{"text": "plain", "label": "a", "probability": 0.1, "single": 0.1, "n": 1, "sure": true, '
            '"scores": {"a": 0.25, "b": 1.0}}'
        )
        want = [*BATCH.to_pylist(), *BATCH.slice(1, 2).to_pylist()]
        for row in want:
            if row["single"] is not None:
                row["single"] = float(str(np.float32(row["single"])))
        assert [json.loads(line) for line in lines] == want

    @pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
    def test_delimited(self, tmp_path: Path, suffix: str, delimiter: str, compression: str) -> None:
        path = tmp_path / f"x{suffix}{compression}"
        with open_writer(path) as writer:
            writer.write(BATCH)
            writer.write(BATCH.slice(1, 2))
        alone(tmp_path, path)
        rows = list(csv.reader(io.StringIO(written(path).decode(), newline=""), delimiter=delimiter))
        names = ["text", "label", "probability", "single", "n", "sure", "scores.a", "scores.b"]
        assert rows[0] == names
        assert rows[1] == ["plain", "a", "0.1", "0.1", "1", "true", "0.25", "1"]
        assert [row[0] for row in rows[1:]] == [*TEXTS[:4], *TEXTS[1:3]]
        assert rows[2][4:] == ["", "false", "", ""]
        assert columns(path, label="probability")[0] == [*TEXTS[:4], *TEXTS[1:3]]


def test_parquet_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with open_writer(path) as writer:
        for _ in range(3):
            writer.write(BATCH)
    alone(tmp_path, path)
    assert pq.read_table(path).to_pylist() == BATCH.to_pylist() * 3
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert (pq.ParquetFile(path).num_row_groups, column.compression) == (1, "ZSTD")


def test_row_groups_of_parquet_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_ROW_GROUP_ROWS", 8)
    with open_writer(tmp_path / "x.parquet") as writer:
        for _ in range(5):
            writer.write(BATCH)
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 20


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_collections(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    batch = COLLECTIONS if suffix == "jsonl" else COLLECTIONS.drop_columns(["empty"])
    parts = [batch, batch.slice(1, 2), batch.slice(3)]
    with open_writer(path) as writer:
        for part in parts:
            writer.write(part)
    want = [row for part in parts for row in part.to_pylist(maps_as_pydicts="strict")]
    if suffix == "jsonl":
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == want
    else:
        assert pq.read_table(path).to_pylist(maps_as_pydicts="strict") == want


@quick
@given(
    rows=st.lists(
        st.tuples(
            words | st.none(), st.floats(allow_nan=False, allow_infinity=False), st.lists(words, max_size=3)
        ),
        min_size=1,
    )
)
def test_any_json_line_reads_back_and_is_as_python_writes_it(
    rows: list[tuple[str, float, list[str]]],
) -> None:
    names = ("text", 'né"', "list")
    kinds = (pa.large_string(), pa.float64(), pa.list_(pa.string()))
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    lines = writing.json_lines(pa.record_batch(arrays, names)).to_pybytes().decode().split("\n")
    assert lines.pop() == ""
    for line, row in zip(lines, rows, strict=True):
        record = dict(zip(names, row, strict=True))
        got = json.loads(line)
        assert got == record
        assert math.copysign(1, got['né"']) == math.copysign(1, row[1])
        assert isinstance(got['né"'], float)
        # Only the spelling of a number may differ from Python's.
        record['né"'] = got['né"'] = 0
        assert json.dumps(got, ensure_ascii=False) == json.dumps(record, ensure_ascii=False)


@quick
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_single_floats_are_shortest(value: float) -> None:
    batch = pa.record_batch({"x": pa.array([value], pa.float32())})
    line = writing.json_lines(batch).to_pybytes().decode()
    number = line.removeprefix('{"x": ').removesuffix("}\n")
    assert np.float32(number) == np.float32(value)
    assert float(number) == float(str(np.float32(value)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_it_cannot_hold(tmp_path: Path, value: float) -> None:
    column = pa.array([{"p": 0.5}, {"p": value}])
    with (
        pytest.raises(ValueError, match=rf"^the column 'scores\.p' holds {value}, which JSON cannot\.$"),
        open_writer(tmp_path / "x.jsonl") as writer,
    ):
        writer.write(pa.record_batch({"scores": column}))
    assert list(tmp_path.iterdir()) == []


def test_csv_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    message = r"^the column 'list' holds list<item: double>, which CSV and TSV cannot; write JSON Lines"
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "x.csv", [COLLECTIONS])
    changing = [pa.record_batch({"a": [1]}), pa.record_batch({"b": [1]})]
    with pytest.raises(ValueError, match=r"^the columns changed from "):
        write(tmp_path / "x.csv", changing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.csv", "x.tsv.gz", "x.jsonl", "x.jsonl.zst", "x.parquet"])
@settings(quick, max_examples=30)
@given(rows=st.lists(st.tuples(words, words.filter(bool)), min_size=1), batch_bytes=st.integers(1, 40))
def test_any_table_written_reads_back(
    tmp_path: Path, name: str, rows: list[tuple[str, str]], batch_bytes: int
) -> None:
    texts, labels = ([row[column] for row in rows] for column in (0, 1))
    batch = pa.record_batch({"text": texts, "label": labels})
    write(tmp_path / name, [batch.slice(0, 1), batch.slice(1)])
    assert columns(tmp_path / name, batch_bytes=batch_bytes) == (texts, labels)


def test_nested_structs_are_flattened(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.csv") as writer:
        writer.write(pa.record_batch({"a": [{"b": {"c": 1}, "d": "x"}]}))
    assert (tmp_path / "x.csv").read_text() == '"a.b.c","a.d"\n1,"x"\n'


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tsv.gz", "x.jsonl.zst", "x.parquet"])
@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, name: str, fault: type[BaseException]
) -> None:
    def interrupted(path: Path) -> None:
        with open_writer(path) as writer:
            writer.write(BATCH)
            hidden = [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(f".{name}.")]
            assert len(hidden) == 1
            raise fault("stop")

    path = tmp_path / name
    with pytest.raises(fault, match="stop"):
        interrupted(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"before")
    with pytest.raises(fault, match="stop"):
        interrupted(path)
    alone(tmp_path, path)
    assert path.read_bytes() == b"before"
    with open_writer(path) as writer:
        writer.write(BATCH)
    alone(tmp_path, path)
    assert path.read_bytes() != b"before"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv.gz", "x.tsv.zst", "x.parquet"])
def test_no_rows_are_still_a_file(tmp_path: Path, name: str) -> None:
    with open_writer(tmp_path / name):
        pass
    alone(tmp_path, tmp_path / name)
    if name == "x.parquet":
        assert pq.read_table(tmp_path / name).num_rows == 0
    else:
        assert written(tmp_path / name) == b""


def test_a_full_disk_is_an_error() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with pytest.raises(OSError, match="No space left"), open_writer(full, format="jsonl") as writer:
        writer.write(BATCH)


def test_devices_pipes_and_links_stay_what_they_are(tmp_path: Path) -> None:
    with open_writer("/dev/null", format="csv") as writer:
        writer.write(BATCH)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    target.write_bytes(b"")
    target.chmod(0o640)
    link.symlink_to(target)
    with open_writer(link) as writer:
        writer.write(BATCH)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes().count(b"\n") == BATCH.num_rows


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.csv"):
        pass
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_errors_of_opening_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x.csv"
    message = f"{path}: cannot be written, because the folder {str(path.parent)!r} does not exist."
    with pytest.raises(FileNotFoundError) as caught, open_writer(path):
        pass
    assert str(caught.value) == message
    (tmp_path / "folder.csv").mkdir()
    with (
        pytest.raises(IsADirectoryError, match="because it is a folder"),
        open_writer(tmp_path / "folder.csv"),
    ):
        pass
    with (
        pytest.raises(
            ValueError,
            match=r"x\.txt: the suffix '\.txt' names no output format; the known ones are "
            r"\.jsonl, \.csv, \.tsv, \.parquet, optionally with \.gz or \.zst after them;",
        ),
        open_writer(tmp_path / "x.txt"),
    ):
        pass
    formats = ", ".join(OUTPUT_FORMATS)
    with (
        pytest.raises(ValueError, match=rf"^unknown output format 'lines'; the formats are {formats}\.$"),
        open_writer(tmp_path / "x.csv", format="lines"),
    ):
        pass
    with pytest.raises(ValueError, match="Parquet compresses itself"), open_writer(tmp_path / "x.parquet.gz"):
        pass


@pytest.mark.parametrize("kind", [None, *OUTPUT_FORMATS])
def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes], kind: str | None) -> None:
    with open_writer("-", format=kind) as writer:
        writer.write(BATCH)
        if kind != "parquet":
            # Seen before the end, since it was flushed.
            assert capfdbinary.readouterr().out.count(b"plain") == 1
        writer.write(BATCH)
    out = capfdbinary.readouterr().out
    if kind == "parquet":
        assert pq.read_table(pa.BufferReader(out)).num_rows == 8
    else:
        assert out.count(b"plain") == 1
    sys.stdout.buffer.write(b"still open")
    sys.stdout.buffer.flush()
    assert capfdbinary.readouterr().out == b"still open"


def test_a_pipe_sees_rows_at_once() -> None:
    script = """
        import sys, pyarrow as pa
        from logitext.writing import open_writer
        with open_writer("-") as writer:
            writer.write(pa.record_batch({"a": [1]}))
            sys.stdin.read()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        watchdog = threading.Timer(20, child.kill)
        watchdog.start()
        assert child.stdout.readline() == b'{"a": 1}\n'
        child.stdin.close()
        assert child.wait() == 0
        watchdog.cancel()


@pytest.mark.alone
def test_long_records_are_not_read_over_and_over() -> None:
    looks = 0

    def counting(complete: Callable[[bytes], tuple[int, int]]) -> Callable[[bytes], tuple[int, int]]:
        def look(data: bytes) -> tuple[int, int]:
            nonlocal looks
            looks += 1
            return complete(data)

        return look

    pieces = iter([b"x" * 1000] * 4096 + [b"\n"])
    started = time.perf_counter()
    (whole,) = streams.chunks(pieces, counting(streams.complete_lines), "x")
    assert len(whole) == 4_096_001
    assert looks < 20
    assert time.perf_counter() - started < 5
