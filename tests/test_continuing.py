"""Going on from a model: partial_fit, calibrate, train --continue."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitext as lt
from test_epochs import data

COMMAND = Path(sys.executable).with_name("logitext")
WORDS: dict[str, Any] = {"char_ngrams": None}
NAMES = ["k0", "k1", "k2"]


def test_one_step_by_hand() -> None:
    # "a" is known with weights w; "b" joins with weights of zero. One row, one batch, step 0.5:
    # each block has norm 1 and one word, so its value is 1.
    model = lt.TextClassifier(word_ngrams=(1, 1), char_ngrams=None, label_smoothing=0, learning_rate=0.5)
    model.partial_fit(["a"], ["x"], classes=["x", "y"])
    # p = (1/2, 1/2); the bias moves at 1/32 of the step.
    assert model.logits(["a"])[0].tolist() == pytest.approx([0.25 + 0.25 / 32, -0.25 - 0.25 / 32])
    assert model.logits(["b"])[0].tolist() == pytest.approx([0.25 / 32, -0.25 / 32])
    before = model.logits(["a"])[0]
    model.partial_fit(["b"], ["y"])
    p = 1 / (1 + np.exp(-0.5 / 32))  # of x
    bias = 0.25 / 32 - 0.5 * p / 32
    assert model.logits(["b"])[0].tolist() == pytest.approx([bias - 0.5 * p, -bias + 0.5 * p])
    assert model.logits(["a"])[0].tolist() == pytest.approx(
        [before[0] - 0.5 * p / 32, before[1] + 0.5 * p / 32]
    )


def test_pieces_one_after_another_come_near_the_whole() -> None:
    texts, labels = data(1500)
    held = data(800, seed=5)
    whole = lt.TextClassifier(**WORDS).fit(texts, labels).score(*held)
    model = lt.TextClassifier(**WORDS)
    for at in range(0, 1500, 100):
        model.partial_fit(texts[at : at + 100], labels[at : at + 100], classes=NAMES)
    assert model.score(*held) > whole - 0.02
    assert len(model.training_["continued"]) == 15


def test_new_ngrams_join_and_known_ones_keep_their_frequency(tmp_path: Path) -> None:
    texts, labels = data(300)
    model = lt.TextClassifier().fit(texts, labels)
    before = model.model_
    old = dict(
        zip(before.arrays["hashes"].tolist(), before.arrays["document_frequency"].tolist(), strict=True)
    )
    assert "brandnew" in model.explain("brandnew w1").unknown
    model.partial_fit(["brandnew w1 w2", "w1 brandnew"] * 3, ["k2"] * 6, epochs=4)
    after = model.model_
    new = dict(zip(after.arrays["hashes"].tolist(), after.arrays["document_frequency"].tolist(), strict=True))
    assert {hash_: new[hash_] for hash_ in old} == old
    assert len(new) > len(old)
    assert "brandnew" in model.explain("brandnew w1").ngrams
    assert model.predict(["brandnew"]).tolist() == ["k2"]
    assert before.arrays["weights"].shape[0] == len(before.arrays["hashes"])  # the old model is whole
    # It is a model file like any other, and its strongest n-grams have names.
    model.save(tmp_path / "m")
    loaded = lt.load(tmp_path / "m", verify=True)
    assert np.array_equal(loaded.logits(texts), model.logits(texts))
    assert {share.ngram for share in loaded.strongest_ngrams("k1", 5)} & {"c1", " c1 ", "c1 "}
    # Explanations add up with the new rows, too.
    account = model.explain("brandnew w1 c0")
    total = account.contributions.sum(axis=0) + account.bias
    np.testing.assert_allclose(total, model.logits(["brandnew w1 c0"])[0], atol=1e-5)


def test_the_temperature_is_stale_until_it_is_fitted_again() -> None:
    texts, labels = data(400)
    held = data(200, seed=8)
    model = lt.TextClassifier(**WORDS).fit(texts, labels)
    temperature = model.temperature_
    model.partial_fit(*data(100, seed=3))
    assert model.temperature_ == temperature
    assert model.model_.header["calibration"]["stale"] is True
    decided = model.predict(held[0]).tolist()
    model.calibrate(*held)
    assert "stale" not in model.model_.header["calibration"]
    assert model.predict(held[0]).tolist() == decided
    losses = []
    for factor in (0.9, 1.0, 1.1):
        model.temperature_ *= factor
        losses.append(model.evaluate(*held).log_loss)
        model.temperature_ /= factor
    assert losses[1] == min(losses)
    model.partial_fit(*data(100, seed=4), validation=held)
    assert "stale" not in model.model_.header["calibration"]
    assert model.training_["continued"][-1]["held_out"]["rows"] == 200


@pytest.mark.alone
def test_the_same_bits_for_any_number_of_threads() -> None:
    texts, labels = data(300)
    runs = []
    for threads in (1, 3):
        model = lt.TextClassifier(threads=threads).fit(texts[:200], labels[:200])
        model.partial_fit(texts[200:], labels[200:], epochs=2)
        runs.append(model.model_.arrays["weights"].tobytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("texts", "labels", "more", "message"),
    [
        (["a"], ["zz"], {}, "the label at row 0, 'zz', is none of the classes"),
        (["a"], ["k0", "k1"], {}, "1 texts, 2 labels"),
        ([], [], {}, "there must be rows"),
        (["a", None], ["k0", "k1"], {}, "the text at row 1 is null"),
        (["a"], ["k0"], {"classes": ["k0", "k9"]}, "classes are those of the first call"),
        (["a"], ["k0"], {"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        (["a"], ["k0"], {"epochs": 1.5}, "epochs must be a whole number of at least 1, got 1.5"),
        (["a"], ["k0"], {"sample_weight": [-1.0]}, "weights must be finite and at least 0"),
        (["a"], ["k0"], {"validation": (["b"], ["zz"])}, "in validation, the label at row 0, 'zz'"),
    ],
)
def test_what_cannot_be_gone_on_with_changes_nothing(
    texts: Any, labels: Any, more: dict[str, Any], message: str
) -> None:
    model = lt.TextClassifier(**WORDS).fit(*data(100))
    before = model.model_
    with pytest.raises(ValueError, match=message):
        model.partial_fit(texts, labels, **more)
    assert model.model_ is before


def test_a_first_call_needs_its_classes() -> None:
    with pytest.raises(ValueError, match="at least two classes, got only 'x'"):
        lt.TextClassifier().partial_fit(["a"], ["x"])
    with pytest.raises(ValueError, match="at least two classes"):
        lt.TextClassifier().partial_fit(["a"], ["x"], classes=["x"])
    assert lt.TextClassifier().partial_fit(["a", "b"], [1, 0]).classes_.tolist() == [0, 1]
    model = lt.TextClassifier().partial_fit(["", ""], [1, 0])  # no n-grams at all
    assert np.isfinite(model.predict_proba(["a"])).all()


# -- the command line ------------------------------------------------------------------


def table(path: Path, rows: tuple[list[str], list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*rows, strict=True)])
    return path


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_train_goes_on_from_a_model(tmp_path: Path) -> None:
    first, second, held = data(300), data(300, seed=1), data(100, seed=2)
    paths = [table(tmp_path / f"{i}.csv", rows) for i, rows in enumerate((first, second, held))]
    assert run("train", paths[0], "-o", tmp_path / "m").returncode == 0
    before = (tmp_path / "m").read_bytes()
    done = run("train", paths[1], "--continue", tmp_path / "m", "-o", tmp_path / "n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the temperature is from before the last 300 rows" in done.stdout
    assert (tmp_path / "m").read_bytes() == before
    model = lt.load(tmp_path / "m")
    model.partial_fit(*second, epochs=5).save(tmp_path / "library")
    assert (tmp_path / "library").read_bytes() == (tmp_path / "n").read_bytes()
    done = run(
        "train", paths[1], "--continue", tmp_path / "m", "--validation", paths[2], "-o", tmp_path / "n"
    )
    assert done.returncode == 0
    assert "temperature is from before" not in done.stdout
    assert "held-out accuracy" in done.stdout
    done = run("inspect", "--training", tmp_path / "n")
    assert done.returncode == 0
    assert "with 300 rows: learning rate" in done.stdout


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--char-ngrams", "2-3"], 1, "has --char-ngrams 3-5, and cannot go on with others"),
        (["--tokens", "whitespace"], 1, "has --tokens unicode, and cannot go on with others"),
        (["--word-ngrams", "1-3"], 1, "has --word-ngrams 1-2, and cannot go on with others"),
        (["--checkpoint", "c"], 2, "--continue does not go together with --checkpoint"),
        (["--teacher", "z"], 2, "--continue does not go together with --teacher"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, more: list[str], code: int, message: str) -> None:
    rows = data(60)
    lt.TextClassifier(char_ngrams=(3, 5), epochs=1, learning_rate=1.0).fit(*rows).save(tmp_path / "m")
    path = table(tmp_path / "a.csv", rows)
    done = run("train", path, "--continue", tmp_path / "m", "-o", tmp_path / "n", *more)
    assert done.returncode == code
    assert message in " ".join(done.stderr.split())
    strange = table(tmp_path / "b.csv", (["a", "b"], ["k0", "zz"]))
    done = run("train", strange, "--continue", tmp_path / "m", "-o", tmp_path / "n")
    assert (done.returncode, done.stderr) == (1, "error: the label at row 1, 'zz', is none of the classes\n")
    assert not (tmp_path / "n").exists()
