"""Learning from another model's logits."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from logitext.teaching import lesson, read_teacher

DATA = Path(os.environ.get("LOGITEXT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))

TEXTS = ["good film", "great acting", "bad plot", "awful film"] * 6
LABELS = ["yes", "yes", "no", "no"] * 6


def test_targets_by_hand() -> None:
    z = [[math.log(3), 0.0], [0.0, math.log(3)]]
    taught = lesson(["b", None], z, temperature=1, classes=["a", "b"], rows=2)
    # The first row: half of (3/4, 1/4), half of its label.
    np.testing.assert_allclose(taught.shares, [[0.375, 0.625], [0.25, 0.75]], rtol=1e-6)
    assert (taught.codes.tolist(), taught.decisions.tolist()) == ([1, 1], [0, 1])
    assert (taught.labelled, taught.classes) == (1, ["a", "b"])
    # At temperature 2 the odds are the root of 3; what is held out is measured at 1.
    soft = lesson(None, z, temperature=2, classes=None, rows=2)
    p = math.sqrt(3) / (1 + math.sqrt(3))
    np.testing.assert_allclose(soft.shares, [[p, 1 - p], [1 - p, p]], rtol=1e-6)
    np.testing.assert_allclose(soft.truth, [[0.75, 0.25], [0.25, 0.75]], rtol=1e-6)
    assert soft.classes == [0, 1]


def test_a_masked_class_is_never_the_target() -> None:
    taught = lesson(None, [[0.0, -np.inf, 0.0]], temperature=3, classes=None, rows=1)
    assert taught.shares.tolist() == [[0.5, 0.0, 0.5]]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"teacher_logits": np.zeros((23, 2))}, "one row per text and one column per class: 24 texts"),
        ({"teacher_logits": np.zeros((24, 1))}, "one column per class"),
        ({"teacher_logits": np.zeros(24)}, "one column per class"),
        ({"teacher_logits": [["a", "b"]] * 24}, "teacher_logits must be numbers"),
        ({"teacher_logits": np.full((24, 2), np.nan)}, "logits at row 0 make no probabilities"),
        ({"teacher_logits": [[0, 0]] * 23 + [[np.inf, 0]]}, "logits at row 23 make no probabilities"),
        ({"teacher_logits": np.zeros((24, 3))}, "have 3 columns, the labels 2 classes"),
        ({"classes": ["no", "yes", "?"]}, "classes must be one per column of teacher_logits: 2, got 3"),
        ({"classes": ["yes", "no"]}, "classes must be sorted"),
        ({"classes": ["a", "b"]}, "the label 'yes' is not among the classes"),
        ({"labels": LABELS[1:]}, "labels must be one per text: 24 texts, 23 labels"),
        ({"temperature": 0}, "temperature must be a finite number above 0, got 0"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"temperature": "warm"}, "temperature must be"),
        ({"classes": ["a", 1], "labels": None}, "classes must be all of one type"),
        ({"classes": [0.5, 1.5], "labels": None}, "must be strings, integers or booleans"),
        ({"classes": ["", "b"], "labels": None}, "is empty"),
        ({"classes": "ab", "labels": None}, "must be a sequence, got one string"),
        ({"teacher_logits": None, "classes": ["no", "yes"]}, "belong to teacher_logits"),
        ({"teacher_logits": None, "temperature": 2}, "belong to teacher_logits"),
        ({"teacher_logits": None, "labels": None}, "fit needs labels, or teacher_logits"),
    ],
)
def test_bad_lessons(more: dict[str, Any], complaint: str) -> None:
    given = {"labels": LABELS, "teacher_logits": np.zeros((24, 2))} | more
    model = lt.TextClassifier()
    with pytest.raises(ValueError, match=complaint):
        model.fit(TEXTS, given.pop("labels"), **given)
    assert not hasattr(model, "model_")


def test_no_rows_and_classes_of_numpy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no rows to learn from"):
        lt.TextClassifier().fit([], teacher_logits=np.zeros((0, 2)))
    model = lt.TextClassifier(char_ngrams=None, learning_rate=1.0, epochs=3)
    model.fit(TEXTS, teacher_logits=np.eye(2)[[0, 1] * 12] * 9, classes=np.array([3, 5]))
    model.save(tmp_path / "m")
    assert lt.load(tmp_path / "m").classes_.tolist() == [3, 5]


def test_a_student_gives_back_what_it_was_taught() -> None:
    z = np.array([[0.0, 1.0], [0.0, 2.0], [1.5, 0.0], [0.5, 0.0]] * 6, np.float32)
    student = lt.TextClassifier(word_ngrams=(1, 2), char_ngrams=None, epochs=300, learning_rate=2.0)
    student.fit(TEXTS, teacher_logits=z, classes=["no", "yes"])
    # To the probabilities, not only the decisions: far from 0 and 1.
    found = lt.softmax(student.logits(TEXTS[:4]))
    np.testing.assert_allclose(found, lt.softmax(z[:4]), atol=0.01)
    record = student.training_
    assert record["teacher"] == {"temperature": 1.0, "labelled_rows": 0}
    assert 0 <= record["held_out"]["agreement"] <= 1
    assert json.loads(json.dumps(record)) == record


def test_the_same_bytes_from_any_container_and_another_model_for_another_lesson(tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)

    def made(labels: Any, logits: Any, **more: Any) -> bytes:
        model = lt.TextClassifier(char_ngrams=None, learning_rate=1.0, epochs=3)
        model.fit(TEXTS, labels, teacher_logits=logits, **more).save(tmp_path / "m")
        return (tmp_path / "m").read_bytes()

    some = [label if i % 3 else None for i, label in enumerate(LABELS)]
    first = made(some, z)
    assert made(pa.array(some), z.tolist()) == first
    assert made(some, np.asfortranarray(z)) == first
    others = [made(LABELS, z), made(some, -z), made(some, z, temperature=3)]
    assert len({first, *others}) == 4


def test_rows_without_weight_are_left_out_of_the_lesson() -> None:
    z = np.random.default_rng(1).normal(size=(24, 2)).astype(np.float32)
    weights = np.arange(24) % 4 != 0
    kept = np.flatnonzero(weights)
    plain = lt.TextClassifier(char_ngrams=None, learning_rate=1.0, epochs=3)
    weighted = plain.fit(TEXTS, LABELS, weights, teacher_logits=z).logits(TEXTS)
    alone = plain.fit([TEXTS[i] for i in kept], [LABELS[i] for i in kept], teacher_logits=z[kept])
    np.testing.assert_array_equal(alone.logits(TEXTS), weighted)


def table(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def train(*arguments: Any) -> tuple[int, str, str]:
    command = [Path(sys.executable).parent / "logitext", "train", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("labelled", [True, False])
def test_the_command_learns_from_a_column(labelled: bool, tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    columns: dict[str, Any] = {"text": TEXTS, "z": z.tolist()} | ({"label": LABELS} if labelled else {})
    data = table(tmp_path / "x.parquet", **columns)
    code, out, err = train(data, "--teacher", "z", "--temperature", "2", "-o", tmp_path / "m")
    assert (code, err) == (0, "")
    assert "agrees with teacher" in out
    labels = LABELS if labelled else None
    lt.TextClassifier().fit(TEXTS, labels, teacher_logits=z, temperature=2.0).save(tmp_path / "library")
    assert (tmp_path / "library").read_bytes() == (tmp_path / "m").read_bytes()


def test_a_column_of_probabilities_is_known_by_its_sums(tmp_path: Path) -> None:
    p = [[0.25, 0.75], [1.0, 0.0]]
    found = read_teacher(table(tmp_path / "p.parquet", p=p), "p")
    np.testing.assert_array_equal(lt.softmax(found), np.array(p, np.float32))
    assert read_teacher(table(tmp_path / "z.parquet", z=[[0.25, 0.25]]), "z").tolist() == [[0.25, 0.25]]
    fixed = pa.array(p, pa.list_(pa.float64(), 2))
    np.testing.assert_array_equal(read_teacher(table(tmp_path / "f.parquet", f=fixed), "f"), found)


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ([1.0, 2.0], "must hold lists of numbers, all of one length, not double"),
        ([[1.0], [1.0, 2.0]], "must hold lists of numbers"),
        ([[1.0, 2.0], None], "must hold lists of numbers"),
        ([[1.0, None], [1.0, 2.0]], "must hold lists of numbers"),
        ([["a"], ["b"]], "must hold lists of numbers"),
    ],
)
def test_bad_columns(column: Any, complaint: str, tmp_path: Path) -> None:
    data = table(tmp_path / "x.parquet", text=["a", "b"], label=["a", "b"], z=column)
    code, out, err = train(data, "--teacher", "z", "-o", tmp_path / "m")
    assert (code, out) == (1, "")
    assert complaint in err
    assert err.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_a_teacher_that_is_not_there(tmp_path: Path) -> None:
    data = table(tmp_path / "x.parquet", text=["a", "b"], label=["a", "b"])
    assert (
        "there is no column 'z'; the columns are text, label" in train(data, "--teacher", "z", "-o", "m")[2]
    )
    lines = tmp_path / "x.csv"
    lines.write_text("text,label\na,b\n")
    assert "from Parquet only" in train(lines, "--teacher", "z", "-o", tmp_path / "m")[2]
    assert train(data, "--temperature", "2", "-o", tmp_path / "m")[0] == 2
    assert "No such file" in train(tmp_path / "none.parquet", "--teacher", "z", "-o", tmp_path / "m")[2]


@pytest.mark.skipif(not (DATA / "clinc150").is_dir(), reason=f"no development data at {DATA} (LOGITEXT_DATA)")
def test_a_student_of_words_comes_nearer_to_its_teacher_than_one_of_labels() -> None:
    train, test = (pq.read_table(DATA / "clinc150" / f"{split}.parquet") for split in ("train", "test"))
    texts, labels = train["text"].to_pylist(), train["label"].to_pylist()
    settings: dict[str, Any] = {"char_ngrams": (2, 4), "learning_rate": 1.0, "epochs": 10}
    full = lt.TextClassifier(**settings).fit(texts, labels)
    # Each half of the rows is taught by a model of the other half.
    half = np.arange(len(texts)) % 2
    z = np.zeros((len(texts), len(full.classes_)), np.float32)
    for part in (0, 1):
        own, other = np.flatnonzero(half == part), np.flatnonzero(half != part)
        teacher = lt.TextClassifier(**settings).fit([texts[i] for i in other], [labels[i] for i in other])
        z[own] = teacher.logits([texts[i] for i in own])
    words: dict[str, Any] = {"char_ngrams": None, "learning_rate": 2.0, "epochs": 10}
    taught = lt.TextClassifier(**words).fit(texts, labels, teacher_logits=z, temperature=2)
    plain = lt.TextClassifier(**words).fit(texts, labels)
    want = full.predict_proba(test["text"]).astype(np.float64)

    def distance(model: lt.TextClassifier) -> float:
        """Cross-entropy of the student to the full model's probabilities, in nats."""
        return float(lt.cross_entropy(np.log(model.predict_proba(test["text"]).astype(np.float64)), want))

    assert distance(taught) < distance(plain)
    agreement = [(m.predict(test["text"]) == full.predict(test["text"])).mean() for m in (taught, plain)]
    assert agreement[0] > agreement[1]
