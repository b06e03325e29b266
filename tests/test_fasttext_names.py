"""fastText's names, the command line with its models, and fastText itself beside them if it is there."""

import csv
import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fasttext_oracle import KINDS, TEXTS, hostile, make, one_line
from tests.serving import Server
from tests.test_fasttext import rows_for, saved

import logitext as lt
import logitext.fasttext as fasttext

LINES = [f"__label__{label} {word} film number {at}" for at in range(40) for label, word in
         (("yes", "good"), ("no", "bad"))]  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return fasttext.load_model(saved(tmp_path, make(7, **KINDS["both"])))


def test_predict_has_fasttexts_shapes(model: Any) -> None:
    labels, shares = model.predict("the cat", k=3)
    assert isinstance(labels, tuple)
    assert len(labels) == 3
    assert labels[0].startswith("__label__l")
    assert isinstance(shares, np.ndarray)
    assert shares.dtype == np.float32
    assert (np.diff(shares) <= 0).all()
    many, each = model.predict(["the cat", "sat"], k=2)
    assert [type(many), type(many[0]), type(each), type(each[0])] == [list, list, list, np.ndarray]
    assert many[0] == list(labels[:2])
    everything = model.predict("the cat", k=-1)[1]
    assert len(everything) == 7
    assert everything.sum() == pytest.approx(1, abs=1e-6)
    few, kept = model.predict("the cat", k=-1, threshold=float(shares[1]))
    assert len(few) == len(kept) == 2
    assert model.predict("the cat", k=100)[0] == model.predict("the cat", k=-1)[0]
    with pytest.raises(ValueError, match="k needs to be 1 or higher"):
        model.predict("the cat", k=0)
    assert model.predict([], k=1) == ([], [])
    for text in one_line(TEXTS):
        for k, threshold in ((1, 0.0), (3, 0.0), (-1, 0.0), (1, 0.9), (-1, 0.1), (2, np.nan)):
            alone, of_list = model.predict(text, k, threshold), model.predict([text, "the"], k, threshold)
            assert alone[0] == tuple(of_list[0][0])
            assert (alone[1] == of_list[1][0]).all()
            assert alone[1].dtype == np.float32


def test_what_is_in_the_dictionary(model: Any) -> None:
    assert model.get_labels() == model.labels == [f"__label__l{at}" for at in range(7)]
    words, counts = model.get_words(include_freq=True)
    assert words == model.words
    assert words[:3] == ["</s>", "the", "cat"]
    assert counts.tolist()[:2] == [15, 14]
    labels, counts = model.get_labels(include_freq=True)
    assert len(labels) == len(counts) == 7
    vector = model.get_sentence_vector("the cat")
    np.testing.assert_allclose(vector, make(7, **KINDS["both"]).hidden("the cat"), rtol=1e-4)
    with pytest.raises(ValueError, match="one line at a time"):
        model.get_sentence_vector("the\ncat")
    assert model.get_dimension() == 20
    assert not model.is_quantized()


def test_a_text_of_which_nothing_is_known_has_an_answer_but_in_strict(tmp_path: Path) -> None:
    path = saved(tmp_path, make(1, **KINDS["no end"]))
    assert fasttext.load_model(path, strict=True).predict("")[0] == ()
    assert fasttext.load_model(path, strict=True).predict(["", "cat"])[0][0] == []
    assert len(fasttext.load_model(path).predict("")[0]) == 1


def test_test_counts_lines_as_fasttext_does(tmp_path: Path, model: Any) -> None:
    path = tmp_path / "test.txt"
    labels = model.predict(["the cat", "sat", "of a"])[0]
    right, wrong = labels[0][0], "__label__l6" if labels[1][0] != "__label__l6" else "__label__l5"
    path.write_text(
        f"{right} the cat\n{wrong} sat\n{labels[2][0]} {wrong} of a\n__label__other x\nno label\n"
    )
    rows, precision, recall = model.test(path)
    assert (rows, precision, recall) == (3, pytest.approx(2 / 3), pytest.approx(2 / 4))


def test_train_supervised_takes_fasttexts_arguments(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(LINES) + "\n")
    with pytest.warns(UserWarning, match="dim, epoch, lr, wordNgrams no longer matter"):
        model = fasttext.train_supervised(input=str(path), lr=0.5, epoch=25, word_ngrams=2, dim=50, thread=1)
    assert model.predict("a good film")[0] == ("__label__yes",)
    assert model.test(path)[0] == 80
    model.save_model(tmp_path / "m.safetensors")
    assert fasttext.load_model(tmp_path / "m.safetensors").predict("bad")[0] == ("__label__no",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several = fasttext.train_supervised(input=str(path), loss="ova")
    assert several.predict("good film", k=-1, threshold=0.5)[0] == ("__label__yes",)
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        fasttext.train_supervised(input=str(path), speed=3)
    with pytest.raises(ValueError, match="must begin with '__label__'"):
        fasttext.train_supervised(input=str(path), label="#")
    (tmp_path / "none.txt").write_text("no label\n")
    with pytest.raises(ValueError, match="has no lines with a label"):
        fasttext.train_supervised(input=str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="not word vectors"):
        fasttext.train_unsupervised(str(path))
    with pytest.raises(ValueError, match="has not a dictionary"):
        model.get_words()


# -- the command line -------------------------------------------------------------


def run(*arguments: Any, code: int = 0) -> str:
    command = [sys.executable, "-c", "from logitext.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_every_command_takes_either_file(tmp_path: Path) -> None:
    path = saved(tmp_path, make(4, **KINDS["both"]))
    clf = lt.load(path)
    texts, labels = rows_for(clf, 300)
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": x, "label": y}) for x, y in zip(texts, labels, strict=True)]
    rows.write_text("\n".join(lines))
    ours = tmp_path / "m.safetensors"
    assert "7 classes" in run("convert", path, "-o", ours)
    (tmp_path / "texts.txt").write_text("the cat\nsat on it\n")
    asked = [tmp_path / "texts.txt", "--probabilities", "--top-k", 2]
    assert run("predict", path, *asked) == run("predict", ours, *asked)
    calm = tmp_path / "calm.safetensors"
    assert "log loss" in run("calibrate", path, rows, "-o", calm)
    assert '"novelty_pvalue"' in run("predict", calm, tmp_path / "texts.txt", "--set", 0.8, "--novelty")
    for each in (path, ours, calm):
        assert "accuracy" in run("evaluate", each, rows)
        assert "made by" in run("inspect", each)
        assert "decision:" in run("explain", each, "the cat")
    page = tmp_path / "page.html"
    for each in (path, calm):
        run("report", each, rows, "-o", page)
        assert "l0" in page.read_text()
        page.unlink()
    assert "keeps no record" in run("inspect", path, "--training", code=1)
    assert "is a fastText model" in run("drift", calm, rows, code=1)
    assert "cannot be trained further" in run("train", rows, "--continue", path, "-o", calm, code=1)
    odd = tmp_path / "odd.ft"
    odd.write_text("__label__l99 the cat\n")
    assert "'l99' is not a class of the model" in run("calibrate", path, odd, "-o", calm, code=1)


def test_a_server_answers_by_a_fasttext_file_and_with_sets_once_it_is_calibrated(tmp_path: Path) -> None:
    path = saved(tmp_path, make(4, **KINDS["both"]))
    clf = lt.load(path)
    texts, labels = rows_for(clf, 300)
    clf.calibrate(texts, labels)
    calm = tmp_path / "calm.safetensors"
    clf.save(calm)
    with Server(f"plain={path}", f"calm={calm}", "--threads", 1) as server:
        for name in ("plain", "calm"):
            asked = {"texts": texts[:20], "model": name, "probabilities": True}
            rows = server.post("/predict", asked).json()["answers"]
            assert [row["label"] for row in rows] == clf.predict(texts[:20]).tolist()
            shares = [list(row["probabilities"].values()) for row in rows]
            want = (clf if name == "calm" else lt.load(path)).predict_proba(texts[:20])
            np.testing.assert_allclose(np.sort(shares), np.sort(want), atol=1e-6)
        wish = {"text": texts[0], "coverage": 0.8, "novelty": True, "explain": True}
        assert {"set", "novelty", "label"} <= server.post("/predict", wish | {"model": "calm"}).json().keys()
        refused = server.post("/predict", wish | {"model": "plain"})
        assert refused.status == 422
        assert "calibrate" in refused.json()["error"]
        page = server.post("/predict", {"text": "the cat", "model": "plain", "explain": True}).json()
        assert page["label"] == clf.predict(["the cat"])[0]


# -- fastText itself ----------------------------------------------------------------


OPTIONS: dict[str, dict[str, Any]] = {
    "softmax": {"wordNgrams": 2, "minn": 2, "maxn": 4, "bucket": 5000, "dim": 17},
    "hs": {"loss": "hs", "minn": 2, "maxn": 4, "bucket": 5000, "dim": 16},
    "ova": {"loss": "ova", "wordNgrams": 2, "bucket": 5000, "dim": 16},
    "ns": {"loss": "ns", "dim": 20},
}
QUANTISED: list[dict[str, Any] | None] = [None, {"qnorm": True, "dsub": 3}, {"cutoff": 500}]


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("quantised", QUANTISED, ids=["floats", "norms", "pruned"])
def test_labels_and_probabilities_are_fasttexts(tmp_path: Path, kind: str, quantised: Any) -> None:
    peer = pytest.importorskip("fasttext", reason="fastText is not installed: pip install fasttext-wheel")
    train = Path(__file__).parent.parent / "examples" / "headlines.csv"
    with train.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "train.txt").write_text("".join(f"__label__{r['label']} {r['text']}\n" for r in rows))
    their = peer.train_supervised(str(tmp_path / "train.txt"), thread=1, epoch=5, verbose=0, **OPTIONS[kind])
    if quantised:
        their.quantize(verbose=0, **quantised)
    path = tmp_path / "model.bin"
    their.save_model(str(path))
    texts = [r["text"] for r in rows[:200]] + one_line(TEXTS + hostile(500))
    told = [{label: p for p, label in their.f.predict(t + "\n", -1, 0.0, "strict")} for t in texts]
    strict = lt.load(path, strict=True)
    names = [f"__label__{label}" for label in strict.classes_]
    shares, decided = strict.predict_proba(texts), strict.predict(texts)
    for theirs, own, label in zip(told, shares, decided, strict=True):
        if theirs:
            assert max(abs(theirs[n] - p) for n, p in zip(names, own, strict=True) if n in theirs) < 1e-5
            best = sorted(theirs.values())[-2:]
            assert best[-1] - best[0] < 1e-5 or max(theirs, key=theirs.__getitem__) == f"__label__{label}"
    ours = lt.load(path)
    clean = [at for at, t in enumerate(texts) if "__label__" not in t and "</s>" not in t and told[at]]
    shares, decided = ours.predict_proba(texts), ours.predict(texts)
    assert shares.max() <= 1
    for at in clean:
        best = sorted(told[at].values())[-2:]
        assert (
            best[-1] - best[0] < 1e-5 or max(told[at], key=told[at].__getitem__) == f"__label__{decided[at]}"
        )
        if kind in ("softmax", "hs"):
            pairs = [(told[at][n], p) for n, p in zip(names, shares[at], strict=True) if n in told[at]]
            assert max(abs(a - b) for a, b in pairs) < (2e-5 if kind == "softmax" else 5e-5)


def test_a_quantised_output_of_many_labels_is_fasttexts(tmp_path: Path) -> None:
    peer = pytest.importorskip("fasttext", reason="fastText is not installed: pip install fasttext-wheel")
    labels, rng = [f"l{number}" for number in range(300)], random.Random(0)
    texts = [
        f"{label} w{rng.randrange(50)} {label[-2:]}x w{rng.randrange(50)}"
        for label in labels
        for _ in range(4)
    ]
    lines = [f"__label__{labels[at // 4]} {text}\n" for at, text in enumerate(texts)]
    (tmp_path / "train.txt").write_text("".join(lines))
    for kind in ("softmax", "ova", "hs"):
        options = {"loss": kind, "dim": 15, "minn": 2, "maxn": 3, "bucket": 2000, "epoch": 40}
        their = peer.train_supervised(str(tmp_path / "train.txt"), thread=1, verbose=0, lr=1.0, **options)
        their.quantize(qout=True, qnorm=True, verbose=0)
        path = tmp_path / f"{kind}.ftz"
        their.save_model(str(path))
        told = [their.f.predict(text + "\n", 2, 0.0, "strict") for text in texts]
        strict, ours = lt.load(path, strict=True), lt.load(path)
        for clf in (strict, ours):
            shares = clf.predict_proba(texts)
            for best, own, label in zip(told, shares, clf.predict(texts), strict=True):
                tie = best[0][0] - best[1][0] < 1e-5
                assert tie or best[0][1] == f"__label__{label}"
                if clf.strict or kind != "ova":
                    at = labels_at(clf)[best[0][1]]
                    # fastText adds 1e-5 to a probability, and in a tree to each of some ten on the way.
                    assert abs(own[at] - best[0][0]) < (1e-5 if clf.strict else 1.5e-4)
        assert len({names[0][1] for names in told}) > 50


def labels_at(clf: Any) -> dict[str, int]:
    return {f"__label__{label}": at for at, label in enumerate(clf.classes_.tolist())}
