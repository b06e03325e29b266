"""Several labels per text: what may be given, what is refused, and how tables hold them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from logitext.labels import LabelSets, as_label_sets, split_cells
from logitext.tables import read_all

LISTS = [["b", "a", "b"], [], ["c"], ["a"]]
TABLE = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]

SAME: dict[str, Any] = {
    "lists": LISTS,
    "tuples": tuple(map(tuple, LISTS)),
    "sets": list(map(set, LISTS)),
    "generator": (row for row in LISTS),
    "arrays": [np.array(row, object) for row in LISTS],
    "objects": pd.Series(LISTS).to_numpy(),
    "pandas": pd.Series(LISTS),
    "polars": pl.Series(LISTS),
    "arrow": pa.array(LISTS),
    "large": pa.array(LISTS, pa.large_list(pa.large_string())),
    "chunks": pa.chunked_array(
        [pa.array(LISTS[:1]), pa.array([], pa.list_(pa.string())), pa.array(LISTS[1:])]
    ),
    "slice": pa.array([["z"], *LISTS, ["y"]]).slice(1, 4),
    "categories": pa.array(LISTS, pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "table": pa.table({"labels": LISTS}),
}


@pytest.mark.parametrize("kind", SAME)
def test_lists_in_every_container(kind: str) -> None:
    classes, sets = as_label_sets(SAME[kind], 4)
    assert classes == ["a", "b", "c"]
    assert sets.indicator().tolist() == TABLE
    assert sets.names(classes) == [["a", "b"], [], ["c"], ["a"]]


MATRICES: dict[str, Any] = {
    "int": np.array(TABLE),
    "bool": np.array(TABLE, bool),
    "float": np.array(TABLE, np.float32),
    "sparse": scipy.sparse.csr_matrix(TABLE),
    "sparse array": scipy.sparse.coo_array(TABLE),
    "fortran": np.asfortranarray(TABLE),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_matrices_of_zeros_and_ones(kind: str) -> None:
    classes, sets = as_label_sets(MATRICES[kind], 4)
    assert classes == [0, 1, 2]
    assert sets.indicator().tolist() == TABLE
    named, again = as_label_sets(MATRICES[kind], 4, ["z", "a", "m"])
    assert named == ["z", "a", "m"]  # in the order of the columns
    assert again.indicator().tolist() == TABLE


def test_the_columns_of_a_frame_are_the_labels() -> None:
    for frame in (
        pd.DataFrame(TABLE, columns=["z", "a", "m"]),
        pl.DataFrame(TABLE, ["z", "a", "m"], orient="row"),
    ):
        classes, sets = as_label_sets(frame, 4)
        assert classes == ["z", "a", "m"]
        assert sets.indicator().tolist() == TABLE


def test_the_columns_of_a_frame_are_found_by_name() -> None:
    frame = pd.DataFrame(TABLE, columns=["z", "a", "m"])
    assert (
        as_label_sets(frame, 4, ["a", "m", "z"])[1].indicator().tolist()
        == frame[["a", "m", "z"]].values.tolist()
    )
    assert as_label_sets(pd.DataFrame(TABLE), 4, ["z", "a", "m"])[1].indicator().tolist() == TABLE
    with pytest.raises(ValueError, match="the columns of the labels are not the classes"):
        as_label_sets(frame, 4, ["a", "m", "x"])


def test_sparse_matrices_are_checked_as_they_are() -> None:
    wide = scipy.sparse.coo_array(([1, 1], ([0, 3], [5, 10**9])), shape=(4, 10**9 + 1))
    names = scipy.sparse.csr_array(([1, 0], ([0, 1], [1, 1])), shape=(2, 2))
    assert as_label_sets(names, 2, ["b", "a"])[1].names(["b", "a"]) == [["a"], []]
    with pytest.raises(ValueError, match="4 texts and 2 classes"):
        as_label_sets(wide, 4, ["a", "b"])
    twice = scipy.sparse.coo_array(([1, 1], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="0 and 1 only, got 2"):
        as_label_sets(twice, 2)


def test_integers_booleans_and_classes_that_no_row_has() -> None:
    assert as_label_sets([[3, -1], [], [3]], 3)[0] == [-1, 3]
    assert as_label_sets([[True], [False, True]], 2)[0] == [False, True]
    classes, sets = as_label_sets([[], ["a"]], 2, ["b", "a"])
    assert (classes, sets.indicator().tolist()) == (["b", "a"], [[0, 0], [0, 1]])
    assert as_label_sets([[], []], 2, ["a"])[1].indicator().tolist() == [[0], [0]]
    # What is not known may be counted as one more.
    assert as_label_sets([["a", "x", "y"]], 1, ["a"], unknown=True)[1].indicator().tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", "b"], "wrap single labels in lists"),
        ([1, 2], "wrap single labels in lists"),
        ("ab", "put it in a list"),
        ([["a"], None], "row 1 are null"),
        ([["a"], ["b", None]], "row 1 hold null"),
        ([["a"], ["b", ""]], "row 1 hold ''"),
        ([["a"], ["b", 1]], "of one type"),
        ([["a"], [1]], "of one type"),
        ([["a"], "b"], "labels"),
        ([[1.5], [2.0]], "got lists of double"),
        ([[["a"]], [["b"]]], "got lists of"),
        ([[], []], "at least one label"),
        ([["a"]], "2 texts, 1 lists"),
        (np.array([[0, 1]]), "2 texts, an indicator matrix of 1"),
        (np.array([[0, 1], [2, 0]]), "0 and 1 only, got 2 at row 1, column 0"),
        (np.array([[0, 1], [0, np.nan]]), "got nan at row 1, column 1"),
        (np.array([[0, -1], [0, 0]]), "got -1 at row 0, column 1"),
        (np.zeros((2, 0)), "without columns"),
        (np.zeros((2, 2, 2)), "labels"),
        ([["a", "\ud800"], ["b"]], "valid Unicode"),
    ],
)
def test_bad_labels_are_refused_by_a_sentence(labels: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        as_label_sets(labels, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a"], "'b' at row 1 is not a class"),
        (["a", "b", "a"], "once"),
        (["a", "b", ""], "empty"),
        (["a", "b", None], "null"),
        ([1.5], "strings, integers or booleans"),
        ([], "at least one label"),
        ([True], "is not a class"),
    ],
)
def test_bad_classes_are_refused(classes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_label_sets([["a"], ["b"]], 2, classes)


def test_the_number_of_classes_is_that_of_columns() -> None:
    with pytest.raises(ValueError, match="each column of the indicator matrix: 2, got 3"):
        as_label_sets(np.eye(2), 2, ["a", "b", "c"])
    with pytest.raises(ValueError, match="no rows"):
        as_label_sets([], 0)


sets_of = st.lists(st.lists(st.integers(0, 5)), min_size=1, max_size=12)


@given(sets_of, sets_of, st.randoms())
def test_sets_are_what_their_matrix_says(one: list[list[int]], other: list[list[int]], random: Any) -> None:
    n = min(len(one), len(other))
    (_, a), (_, b) = (as_label_sets(rows[:n], n, range(6)) for rows in (one, other))
    x, y = a.indicator(), b.indicator()
    assert x.tolist() == [[int(k in row) for k in range(6)] for row in one[:n]]
    assert a.counts.tolist() == x.sum(axis=0).tolist()
    assert a.lengths.tolist() == x.sum(axis=1).tolist()
    assert a.both(b).tolist() == np.flatnonzero(x & y).tolist()
    rows = [random.randrange(n) for _ in range(5)]
    assert a.take(np.array(rows)).indicator().tolist() == x[rows].tolist()
    parts = [part.indicator() for _, part in a.parts(3)]
    assert np.concatenate(parts).tolist() == x.tolist()
    prints = a.fingerprints()
    assert [[bool((x[i] == x[j]).all()) for j in range(n)] for i in range(n)] == [
        [bool(prints[i] == prints[j]) for j in range(n)] for i in range(n)
    ]
    counts = x.sum(axis=0)
    for row, label in enumerate(a.rarest().tolist()):
        own = np.flatnonzero(x[row])
        assert label == (min(own, key=lambda k: (counts[k], k)) if len(own) else 6)


def test_ten_thousand_labels_take_the_memory_of_their_ones() -> None:
    rng = np.random.default_rng(0)
    lists = rng.integers(0, 10_000, (20_000, 3)).tolist()
    tracemalloc.start()
    _, sets = as_label_sets(lists, len(lists), range(10_000))
    sets.rarest(), sets.fingerprints(), sets.take(np.arange(0, 20_000, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # the matrix would take 200 MB as bytes


@given(st.lists(st.text("ab;, é", max_size=8), min_size=1, max_size=5))
def test_cells_are_cut_at_the_separator(cells: list[str]) -> None:
    wanted = [[piece.strip() for piece in cell.split(";") if piece.strip()] for cell in cells]
    assert split_cells(pa.array(cells, pa.large_string()), ";").to_pylist() == wanted


def test_sets_are_cheap_to_slice() -> None:
    sets = LabelSets(np.array([0, 2, 2, 3]), np.array([0, 1, 1], np.uint32), 2)
    assert [(here.start, here.stop) for here, _ in sets.parts(2)] == [(0, 2), (2, 3)]


# -- tables -----------------------------------------------------------------------

TEXTS = ["one", "two", "three", "four"]
WANTED = [["a", "b"], [], ["c"], ["a"]]


def tables(folder: Path) -> dict[str, Path]:
    """Write the same rows in every format."""
    cells = ["a;;b", "", " c ;", "a"]
    paths = {
        name: folder / name
        for name in ("x.csv", "x.tsv", "x.jsonl", "y.jsonl", "x.ft", "x.parquet", "y.parquet")
    }
    for name, mark in (("x.csv", ","), ("x.tsv", "\t")):
        paths[name].write_text(
            f"text{mark}labels\n" + "".join(f"{t}{mark}{c}\n" for t, c in zip(TEXTS, cells, strict=True))
        )
    rows = [{"text": t, "labels": lists} for t, lists in zip(TEXTS, WANTED, strict=True)]
    paths["x.jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"text": t, "labels": cell} for t, cell in zip(TEXTS, cells, strict=True)]
    paths["y.jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths["x.ft"].write_text("__label__a __label__b one\ntwo\n \t__label__c\tthree\n__label__a four\n")
    pq.write_table(pa.table({"text": TEXTS, "labels": WANTED}), paths["x.parquet"])
    pq.write_table(
        pa.table({"text": TEXTS, "labels": pa.array(cells).dictionary_encode()}), paths["y.parquet"]
    )
    return paths


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "y.jsonl", "x.ft", "x.parquet", "y.parquet"])
def test_every_format_holds_several_labels(tmp_path: Path, name: str, size: int) -> None:
    path = tables(tmp_path)[name]
    texts, labels = read_all(path, separator=";", batch_bytes=size)
    assert labels is not None
    assert (texts.to_pylist(), labels.to_pylist()) == (TEXTS, WANTED)
    with pytest.raises(ValueError, match=r"give --multilabel|starts? with __label__|is empty"):
        read_all(path)


def test_lists_of_integers_and_booleans(tmp_path: Path) -> None:
    for lists in ([[3, 1], [], [2]], [[True], [], [False, True]]):
        pq.write_table(pa.table({"text": ["a", "b", "c"], "labels": lists}), tmp_path / "x.parquet")
        rows = zip("abc", lists, strict=True)
        (tmp_path / "x.jsonl").write_text(
            "".join(json.dumps({"text": t, "labels": v}) + "\n" for t, v in rows)
        )
        for name in ("x.parquet", "x.jsonl"):
            labels = read_all(tmp_path / name, separator=";", batch_bytes=1)[1]
            assert labels is not None
            assert labels.to_pylist() == lists
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, 2]}), tmp_path / "x.parquet")
    labels = read_all(tmp_path / "x.parquet", separator=";")[1]
    assert labels is not None
    assert labels.to_pylist() == [[1], [2]]


def test_broken_utf8_in_a_binary_column_names_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [b"a", b"\xff"], "label": ["a", "b"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="the text of data row 2 is not valid UTF-8"):
        read_all(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.jsonl",
            [{"text": "t", "labels": ["a"]}, {"text": "t", "labels": ["a", None]}],
            "row 2 hold null",
        ),
        ("x.jsonl", [{"text": "t", "labels": ["a"]}, {"text": "t", "labels": None}], "row 2 is null"),
        ("x.jsonl", [{"text": "t", "labels": ["a"]}, {"text": "t", "labels": ["a", ""]}], "row 2 is empty"),
        ("x.jsonl", [{"text": "t", "labels": ["a", 1]}], "of one type.*a string and an integer"),
        ("x.jsonl", [{"text": "t", "labels": [1.5]}], "row 1 hold a fraction"),
        ("x.jsonl", [{"text": "t", "labels": [["a"]]}], "row 1 hold an array"),
        (
            "x.jsonl",
            [{"text": "t", "labels": ["a"]}, {"text": "t", "labels": "a"}],
            "data row 1 has an array",
        ),
        ("x.jsonl", [{"text": "t", "labels": [10**30]}], "64-bit"),
        ("x.jsonl", [{"text": "t", "labels": ["\ud800"]}], "not valid UTF-8"),
        ("x.parquet", [["a"], None], "row 2 is missing"),
        ("x.parquet", [["a"], ["b", None]], "row 2 hold null"),
        ("x.parquet", [["a"], ["b", ""]], "row 2 is empty"),
        ("x.parquet", [[b"a"], [b"\xff"]], "row 2 is not valid UTF-8"),
        ("x.parquet", [[1.5], [2.5]], "holds list<.*double>, but labels are strings"),
        ("x.parquet", [[["a"]]], "holds list<.*>, but labels are strings"),
        ("x.ft", b"__label__a one\n__label__ two\n", "row 2 is empty"),
    ],
)
def test_bad_lists_in_tables_are_refused(tmp_path: Path, name: str, content: Any, words: str) -> None:
    path = tmp_path / name
    if name == "x.parquet":
        pq.write_table(pa.table({"text": ["t"] * len(content), "labels": content}), path)
    elif name == "x.jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_all(path, separator=";")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
