"""Training from files: paths, folders, patterns; more text than is held in memory."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitext as lt
from logitext import _core, gathering, streaming
from logitext.arguments import are_paths
from logitext.checkpoints import Checkpoint, CheckpointError
from logitext.epochs import Epoch
from logitext.sources import files_of
from logitext.spill import Spill
from test_epochs import data

COMMAND = Path(sys.executable).with_name("logitext")
FIXED: dict[str, Any] = {"char_ngrams": None, "learning_rate": 1.0, "epochs": 4, "label_smoothing": 0.0}


def table(path: Path, texts: list[str], labels: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": labels}), path)
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return path


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything over 10 kB is streamed, in parts of about 2 kB."""
    monkeypatch.setattr(gathering, "IN_MEMORY", 10_000)
    monkeypatch.setattr(gathering, "PART_BYTES", 6_000)
    monkeypatch.setattr(streaming, "PART_BYTES", 2_000)
    monkeypatch.setattr(streaming, "SAMPLE_BYTES", 20_000)


# -- which files -----------------------------------------------------------------------


def test_files_of_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.csv", "a.parquet", "notes.md", ".hidden.csv", "sub/c.jsonl.gz", "_temporary/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")

    def names(paths: Any) -> list[str]:
        return [os.path.relpath(file, tmp_path) for file in files_of(paths)]

    assert names(tmp_path) == ["a.parquet", "b.csv", "sub/c.jsonl.gz"]
    assert names([tmp_path / "b.csv", str(tmp_path / "a*")]) == ["b.csv", "a.parquet"]
    assert names(str(tmp_path / "**" / "*.gz")) == ["sub/c.jsonl.gz"]
    assert files_of("-") == ["-"]
    with pytest.raises(FileNotFoundError):
        files_of(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no file fits this pattern"):
        files_of(str(tmp_path / "*.tsv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no table in this folder"):
        files_of(tmp_path / "empty")
    with pytest.raises(ValueError, match="no files are given"):
        files_of([])
    assert are_paths("a")
    assert are_paths([Path("a"), "b"])
    assert not are_paths([])
    assert not are_paths(pa.array(["a"]))


def test_fit_takes_files_as_it_takes_texts(tmp_path: Path) -> None:
    texts, labels = data(300)
    paths = [
        table(tmp_path / "1.csv", texts[:100], labels[:100]),
        table(tmp_path / "2.parquet", texts[100:], labels[100:]),
    ]
    plain = lt.TextClassifier(**FIXED).fit(texts, labels)
    plain.save(tmp_path / "plain")
    for several in (paths, tmp_path, [str(tmp_path / "*.csv"), str(paths[1])]):
        lt.TextClassifier(**FIXED).fit(several).save(tmp_path / "model")
        assert (tmp_path / "model").read_bytes() == (tmp_path / "plain").read_bytes()
    other = table(tmp_path / "3.csv", texts[:9], labels[:9])
    other.write_text(other.read_text().replace("text,label", "what,kind"))
    model = lt.TextClassifier(**FIXED).fit(other, text="what", label="kind")
    assert model.training_["rows"] == 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["no such text", "nor this"], "fit needs labels, .* or files: 'no such text' is none"),
        (["-"] * 0, "fit needs labels"),
    ],
)
def test_texts_without_labels(given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier().fit(given)


# -- the spill ---------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.text(max_size=20), st.integers(0, 9)), max_size=60),
    parts=st.integers(1, 5),
    pieces=st.integers(1, 4),
    slice_bytes=st.integers(1, 300),
)
def test_a_spill_keeps_all_rows(
    rows: list[tuple[str, int]], parts: int, pieces: int, slice_bytes: int
) -> None:
    rows = [(text.encode("utf-8", "replace").decode(), code) for text, code in rows]
    with Spill(parts) as spill:
        for piece in range(pieces):
            own = rows[piece::pieces]
            texts = pa.array([text for text, _ in own], pa.large_string())
            spill.add(texts, np.array([code for _, code in own], np.uint32))
        spill.end()
        where: dict[str, int] = {}
        found = []
        for part in range(parts):
            read = [
                pair
                for texts, codes in spill.read(part, slice_bytes)
                for pair in zip(texts.to_pylist(), codes.tolist(), strict=True)
            ]
            assert len(read) == spill.rows[part]
            found += read
            for text, _ in read:
                assert where.setdefault(text, part) == part  # equal texts stay together
        assert sorted(found) == sorted(rows)


def test_a_spill_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spill(3) as spill:
        spill.add(pa.array(["a"] * 100, pa.large_string()), np.zeros(100, np.uint32))
        assert os.listdir(tmp_path) == []  # not even now: the files have no names
    with pytest.raises(ValueError, match="closed"):
        next(spill.read(0))


def test_a_full_disk_names_the_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spill(1) as spill:
        spill.add(pa.array(["a"], pa.large_string()), np.zeros(1, np.uint32))

        def full(self: Spill) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Spill, "_deal", full)
        with pytest.raises(OSError, match=r"No space left .*temporary files in .*TMPDIR"):
            spill.end()


# -- training on a stream --------------------------------------------------------------------


@pytest.mark.usefixtures("small_memory")
def test_a_stream_is_learned_as_well_as_the_whole(tmp_path: Path) -> None:
    texts, labels = data(3000)
    held = data(1000, seed=7)
    order = np.argsort(labels, kind="stable")  # sorted by label, as files often are
    path = table(tmp_path / "sorted.csv", [texts[i] for i in order], [labels[i] for i in order])
    streamed = lt.TextClassifier(char_ngrams=None).fit(path)
    record = streamed.training_
    assert record["streamed"] is True
    assert record["rows"] + record["held_out"]["rows"] == 3000
    whole = lt.TextClassifier(char_ngrams=None).fit(texts, labels)
    assert streamed.score(*held) > whole.score(*held) - 0.01
    assert streamed.evaluate(*held).log_loss < whole.evaluate(*held).log_loss + 0.02
    assert streamed.strongest_ngrams("k1", 1)[0].ngram == "c1"
    assert all(epoch["held_out_loss"] < 1.1 for epoch in record["epochs"])
    # N-grams are those of all parts: frequencies are counts over the rows that are trained on.
    assert streamed.model_.features["documents"] == record["rows"]
    frequency = streamed.model_.arrays["document_frequency"]
    assert frequency.min() == 2
    assert frequency.max() > 500
    streamed.save(tmp_path / "m")
    assert np.array_equal(
        lt.load(tmp_path / "m", verify=True).logits(texts[:50]), streamed.logits(texts[:50])
    )


@pytest.mark.alone
@pytest.mark.usefixtures("small_memory")
def test_a_stream_gives_the_same_bits_for_any_number_of_threads_and_files(tmp_path: Path) -> None:
    texts, labels = data(1200)
    one = table(tmp_path / "one.parquet", texts, labels)
    found = []
    for threads in (1, 3):
        lt.TextClassifier(**FIXED, threads=threads).fit(one).save(tmp_path / "m")
        found.append((tmp_path / "m").read_bytes())
    assert found[0] == found[1]


@pytest.mark.usefixtures("small_memory")
def test_validation_weights_and_early_stopping_on_a_stream(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", *data(1500, noise=0.6))
    held = data(200, seed=2, noise=0.6)
    long = FIXED | {"epochs": 60, "learning_rate": 4.0}
    model = lt.TextClassifier(**long, early_stopping=2).fit(path, validation=held)
    losses = [epoch["held_out_loss"] for epoch in model.training_["epochs"]]
    assert len(losses) == losses.index(min(losses)) + 3 < 60
    assert model.training_["rows"] == 1500
    assert model.training_["validation"]["rows"] == 200
    assert model.training_["held_out"]["log_loss"] == pytest.approx(min(losses))
    only = lt.TextClassifier(**FIXED, class_weight={"k0": 0.0, "k1": 2.0}).fit(path)
    assert set(only.predict(held[0])) <= {"k1", "k2"}
    balanced = lt.TextClassifier(**FIXED, class_weight="balanced").fit(path)
    assert balanced.score(*held) > 0.4
    with pytest.raises(ValueError, match="early_stopping needs a validation set"):
        lt.TextClassifier(early_stopping=2).fit(path)
    with pytest.raises(ValueError, match="'zz', was never seen in training"):
        lt.TextClassifier(**FIXED).fit(path, validation=(["a"], ["zz"]))


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("stop", [0, 5, 40])
def test_a_stream_goes_on_from_a_checkpoint(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = data(1500)
    path = table(tmp_path / "a.csv", texts, labels)
    model = lt.TextClassifier(**FIXED)
    model.fit(path).save(tmp_path / "whole")
    part = tmp_path / "part"
    keep, saves = Checkpoint.save, []

    def save(self: Checkpoint, *given: Any, **state: Any) -> None:
        keep(self, *given, **state)
        saves.append(1)
        if len(saves) > stop:
            raise RuntimeError("crash")

    init = Checkpoint.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save)
        patch.setattr(Checkpoint, "__init__", lambda self, path, key: init(self, path, key, seconds=0))
        with pytest.raises(RuntimeError, match="crash"):
            model.fit(path, checkpoint=part)
    # A stream that fails half-way leaves the checkpoint as it is.
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b",,\n")
    before = part.read_bytes()
    with pytest.raises(ValueError, match="data row 750"):
        model.fit(path, checkpoint=part)
    assert part.read_bytes() == before
    path.write_bytes(whole)
    counted: list[int] = []
    count = _core.count
    monkeypatch.setattr(_core, "count", lambda *given: (counted.append(1), count(*given))[1])
    model.fit(path, checkpoint=part).save(tmp_path / "resumed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(counted) <= 2  # the sample's, for names: the parts are not counted again
    with pytest.raises(CheckpointError, match="other data"):
        model.fit(table(tmp_path / "b.csv", texts[1:], labels[1:]), checkpoint=part)


@pytest.mark.usefixtures("small_memory")
def test_what_is_wrong_with_a_stream(tmp_path: Path) -> None:
    texts, labels = data(600)
    a = table(tmp_path / "a.parquet", texts, labels)
    b = table(tmp_path / "b.parquet", texts, list(range(600)))
    with pytest.raises(ValueError, match="labels must be of one type in all inputs, got int64 and "):
        lt.TextClassifier().fit([a, b])
    with pytest.raises(ValueError, match="at least two classes, got only 'k'"):
        lt.TextClassifier().fit(table(tmp_path / "c.parquet", texts, ["k"] * 600))
    with pytest.raises(ValueError, match="sample_weight, classes and temperature go with texts"):
        lt.TextClassifier().fit(a, sample_weight=[1.0] * 600)
    # Numbers and booleans are labels, too; a budget for one epoch is needed; a callback may end it.
    model = lt.TextClassifier(**FIXED).fit(
        table(tmp_path / "d.parquet", texts, [len(t) % 2 == 0 for t in texts])
    )
    assert model.classes_.tolist() == [False, True]
    with pytest.raises(ValueError, match="too short for one epoch"):
        lt.TextClassifier(**FIXED, minutes=1e-9).fit(a)
    seen: list[Epoch] = []
    lt.TextClassifier(**FIXED).fit(a, callback=lambda epoch: seen.append(epoch) or True)  # type: ignore[func-returns-value]
    assert len(seen) == 1


@pytest.mark.usefixtures("small_memory")
def test_texts_that_are_all_the_same(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["the very same text again and again"] * 900, ["a", "b", "b"] * 300)
    model = lt.TextClassifier().fit(path)
    assert model.predict(["the very same text"]).tolist() == ["b"]


def test_the_command_takes_folders(tmp_path: Path) -> None:
    texts, labels = data(200)
    (tmp_path / "in").mkdir()
    table(tmp_path / "in" / "a.csv", texts[:100], labels[:100])
    table(tmp_path / "in" / "b.parquet", texts[100:], labels[100:])
    for several in ("in", "in/*"):
        done = subprocess.run(
            [COMMAND, "train", several, "-o", "m"], cwd=tmp_path, capture_output=True, check=True
        )
        assert b"rows               200" in done.stdout
    done = subprocess.run(
        [COMMAND, "train", "in", "-o", "in/a.csv"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, b"is an input" in done.stderr) == (1, True)
    done = subprocess.run([COMMAND, "inspect", "m", "--json"], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["training"]["rows"] == 200
