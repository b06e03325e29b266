"""TextClassifier: the estimator, its answers, its explanations, its life in processes and files."""

import inspect
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

import logitext as lt

TEXTS = [
    "the team won the match", "a goal in the last minute", "the striker scored twice", "cup final tonight",
    "shares fell on weak earnings", "the bank raised its rates", "profits rose this quarter",
    "market rally fades",
    "new phone with a better camera", "the app crashed again", "chip maker shows laptop",
    "software update is out",
]  # fmt: skip
LABELS = ["sport"] * 4 + ["money"] * 4 + ["tech"] * 4
FAST: dict[str, Any] = {"learning_rate": 2.0, "epochs": 5, "char_ngrams": None}


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return lt.TextClassifier(char_ngrams=(2, 4), learning_rate=2.0, epochs=8).fit(TEXTS * 3, LABELS * 3)


@pytest.fixture(scope="module")
def two() -> lt.TextClassifier:
    return lt.TextClassifier(**FAST).fit(TEXTS[:8] * 2, [label == "sport" for label in LABELS[:8]] * 2)


# -- answers --------------------------------------------------------------------


def test_the_answers_agree(model: lt.TextClassifier) -> None:
    texts = [*TEXTS, "", "the goal of the bank", "nothing known zzz"]
    z = model.logits(texts)
    assert (z.dtype, z.shape) == (np.float32, (15, 3))
    assert model.classes_.tolist() == ["money", "sport", "tech"]
    assert model.predict(texts).tolist() == model.classes_[z.argmax(axis=1)].tolist()
    p = model.predict_proba(texts)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert (p >= 0).all()
    assert (p <= 1).all()
    assert (p[np.arange(15), z.argmax(axis=1)] == p.max(axis=1)).all()
    np.testing.assert_allclose(p, lt.softmax(z.astype(np.float64) / model.temperature_), atol=1e-6)
    assert np.array_equal(model.decision_function(texts), z)
    assert model.score(TEXTS, LABELS) == 1.0


def test_two_classes_have_one_decision_value(two: lt.TextClassifier) -> None:
    z, d = two.logits(TEXTS), two.decision_function(TEXTS)
    assert d.shape == (12,)
    assert np.array_equal(d, z[:, 1] - z[:, 0])
    assert ((d > 0) == two.predict(TEXTS)).all()


def test_empty_text_has_the_bias_as_logits(model: lt.TextClassifier) -> None:
    for text in ("", " \n\t", "\0", "\ufeff"):
        assert np.array_equal(model.logits([text])[0], model.model_.arrays["bias"])


def test_a_million_empty_texts(model: lt.TextClassifier) -> None:
    z = model.logits(pa.array([""], pa.large_string()).take(pa.array(np.zeros(1_000_000, np.int64))))
    assert (z == model.model_.arrays["bias"]).all()


def test_scores(model: lt.TextClassifier) -> None:
    texts = [TEXTS[0], TEXTS[4], TEXTS[8], TEXTS[9]]
    truth = ["sport", "money", "sport", "who knows"]
    assert model.score(texts, truth) == 0.5
    assert model.score(texts, truth, sample_weight=[3, 1, 2, 2]) == 0.5
    for container in (np.array, pd.Series, pl.Series, pa.array, tuple):
        assert model.score(texts, container(truth)) == 0.5
    assert math.isnan(model.score([], []))
    with pytest.raises(ValueError, match="one per text: 4 texts, 1 labels"):
        model.score(texts, ["sport"])
    result = model.evaluate(TEXTS, LABELS)
    assert (result.rows, result.accuracy, result.macro_f1) == (12, 1.0, 1.0)
    p = model.predict_proba(TEXTS)[np.arange(12), model.encode(LABELS)]
    assert result.log_loss == pytest.approx(-np.log(p).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="label at row 3, 'who knows', is not a class"):
        model.evaluate(texts, truth)
    with pytest.raises(ValueError, match="one per text: 4 texts, 3 labels"):
        model.evaluate(texts, truth[:3])


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "ccc", "dd"],
        ["with space", "é", "\U0001f600", "a,b"],
        ["1", "True", "None", "nan"],
        [3, -7, 0, 2**40],
        [True, False, True, False],
        np.array([5, 6, 7, 8], np.int16),
        np.array([5, 2**63 + 8, 7, 8], np.uint64),
        np.array([True, False, False, True]),
        np.array(["x", "yy", "zzz", "x"]),
        pd.Series(["x", "yy", "zzz", "x"], dtype="category"),
        pl.Series([1, 2, 3, 4], dtype=pl.UInt8),
        pytest.param(pa.array(["x", "yy", "zzz", "x"]), id="Arrow"),  # its repr tells where it is in memory
        ["trailing nul\0", "trailing nul", "a", "b"],
    ],
    ids=repr,
)
def test_labels_come_back_as_they_went_in(labels: Any, tmp_path: Path) -> None:
    texts = ["one", "two", "three", "four"]
    model = lt.TextClassifier(**FAST).fit(texts, labels)
    want = [label.as_py() if isinstance(label, pa.Scalar) else label for label in labels]
    want = [label.item() if isinstance(label, np.generic) else label for label in want]
    model.save(tmp_path / "m.safetensors")
    for each in (model, lt.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        got = each.predict(texts).tolist()
        assert got == want
        assert [type(label) for label in got] == [type(label) for label in want]
        assert each.classes_.tolist() == sorted(set(want))
        assert each.score(texts, labels) == 1.0


# -- explaining -----------------------------------------------------------------

WORDS = ["the", "team", "bank", "goal", "phone", "qqq", "scored", "新手机", "é", "!", "laptops"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join) | st.text(max_size=30))
def test_contributions_sum_to_the_logits(model: lt.TextClassifier, text: str) -> None:
    found = model.explain(text)
    z = model.logits([text])[0]
    assert np.array_equal(found.logits, z)
    total = found.contributions.sum(axis=0, dtype=np.float64) + found.bias
    size = np.abs(found.contributions).sum(axis=0) + np.abs(found.bias)
    assert (np.abs(total - z) <= 1e-6 * size + 1e-7).all()
    assert found.contributions.shape == (len(found.ngrams), 3)
    assert len(found.blocks) == len(found.ngrams)
    assert found.decision == model.predict([text])[0]


def test_an_explanation_names_its_ngrams() -> None:
    model = lt.TextClassifier(**FAST | {"char_ngrams": (2, 2)}).fit(["ab cd", "ef"] * 3, ["x", "y"] * 3)
    found = model.explain("AB zz cd ef")
    assert found.ngrams == ["ab", "cd", "ef", " a", "ab", "b ", " c", "cd", "d ", " e", "ef", "f "]
    assert found.blocks == ["words"] * 3 + ["chars"] * 9
    assert found.unknown == ["zz", "ab zz", "zz cd", "cd ef", " z", "zz", "z "]
    strongest = found.strongest("x", most=3)
    size = [abs(share.amount) for share in strongest]
    assert size == sorted(size, reverse=True)
    assert len(size) == 3
    against = found.strongest("y", most=1)[0]
    assert (against.ngram, against.block) == ("ef", "words")
    assert against.amount == pytest.approx(found.contributions[2, 1])
    with pytest.raises(ValueError, match="'z' is not a class: the classes are"):
        found.strongest("z")
    empty = model.explain("")
    assert (empty.ngrams, empty.unknown, empty.contributions.shape) == ([], [], (0, 2))


def test_strongest_ngrams_are_named_and_sorted(model: lt.TextClassifier) -> None:
    for code, label in enumerate(model.classes_):
        found = model.strongest_ngrams(label, 100)
        amounts = [share.amount for share in found]
        assert amounts == sorted(amounts, reverse=True)
        assert amounts[0] == model.model_.arrays["weights"][:, code].max()
        # Each name is that of the n-gram with this weight: a text of a word alone shows it.
        for share in [s for s in found if s.block == "words"][:10]:
            alone = model.explain(share.ngram)
            at = [i for i, n in enumerate(alone.ngrams) if n == share.ngram and alone.blocks[i] == "words"]
            assert np.sign(alone.contributions[at[0], code]) == 1
            row = np.flatnonzero(model.model_.arrays["weights"][:, code] == np.float32(share.amount))
            assert len(row) >= 1
    assert len(model.strongest_ngrams("tech", 3)) == 3
    with pytest.raises(ValueError, match="is not a class"):
        model.strongest_ngrams("nothing")


@pytest.mark.parametrize("text", [None, 5, ["a", "b"], b"a"])
def test_explain_takes_one_text(model: lt.TextClassifier, text: Any) -> None:
    with pytest.raises(ValueError, match="explain takes one text"):
        model.explain(text)
    with pytest.raises(ValueError, match="lone surrogate"):
        model.explain("\ud800")


# -- keeping --------------------------------------------------------------------


def test_saved_and_loaded_is_the_same(model: lt.TextClassifier, tmp_path: Path) -> None:
    path, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    model.save(path)
    loaded = lt.load(path)
    assert np.array_equal(loaded.logits(TEXTS), model.logits(TEXTS))
    assert np.array_equal(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert loaded.training_ == model.training_
    assert loaded.get_params() | {"threads": None} == model.get_params() | {"threads": None}
    assert loaded.strongest_ngrams("tech") == model.strongest_ngrams("tech")
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    model.save(path)  # over a file that is mapped: the loaded model keeps the old bytes
    assert np.array_equal(loaded.logits(TEXTS), model.logits(TEXTS))
    refitted = clone(loaded).fit(TEXTS * 3, LABELS * 3)
    assert np.array_equal(refitted.model_.arrays["weights"], model.model_.arrays["weights"])


@pytest.mark.parametrize(
    ("weight", "labels"),
    [({1: 2.0, 3: 0.5}, [1, 3]), ({True: 2.0}, [True, False]), ({"b": 3}, ["a", "b"]), ("balanced", [1, 3])],
)
def test_class_weights_are_loaded_with_the_type_of_their_labels(
    weight: Any, labels: list[Any], tmp_path: Path
) -> None:
    labels = labels * 4
    model = lt.TextClassifier(**FAST, class_weight=weight).fit(["a", "b"] * 4, labels)
    model.save(tmp_path / "m.safetensors")
    loaded = lt.load(tmp_path / "m.safetensors")
    assert loaded.class_weight == weight
    clone(loaded).fit(["a", "b"] * 4, labels)


@pytest.mark.alone
def test_the_same_file_for_any_number_of_threads(tmp_path: Path) -> None:
    files = []
    for threads in (1, 2, 5, None):
        path = tmp_path / f"{threads}.safetensors"
        lt.TextClassifier(threads=threads).fit(TEXTS * 5, LABELS * 5).save(path)
        files.append(path.read_bytes())
    assert len(set(files)) == 1


@pytest.mark.parametrize("name", ["weights", "bias"])
def test_a_damaged_layer_is_noticed(model: lt.TextClassifier, name: str) -> None:
    damaged = pickle.loads(pickle.dumps(model))
    array = damaged.model_.arrays[name].copy()
    array[...] = np.nan
    damaged.model_.arrays[name] = array
    for answer in (damaged.logits, damaged.predict, damaged.predict_proba, damaged.decision_function):
        with pytest.raises(ValueError, match="logits at row 0 are not finite: the model file is damaged"):
            answer(TEXTS)
    with pytest.raises(ValueError, match="damaged"):
        damaged.explain(TEXTS[0])
    fine = damaged.logits([]) if name == "bias" else damaged.logits([""])
    assert np.isfinite(fine).all()


# -- as a scikit-learn estimator ------------------------------------------------


def upper(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


def test_clone_and_parameters() -> None:
    model = lt.TextClassifier(learning_rate=1.5, class_weight={"a": 2.0}, word_ngrams=(1, 3))
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert copied is not model
    assert not hasattr(clone(model.fit(["x", "y"], ["a", "b"])), "classes_")
    arguments = inspect.signature(lt.TextClassifier).parameters
    assert list(model.get_params()) == list(arguments)
    assert all(p.kind is p.KEYWORD_ONLY for p in arguments.values())
    assert model.set_params(epochs=3, threads=2) is model
    assert (model.epochs, model.threads) == (3, 2)
    with pytest.raises(ValueError, match="no argument 'epoch': it has word_ngrams, "):
        model.set_params(epoch=3)
    shown = (
        "TextClassifier(word_ngrams=(1, 3), learning_rate=1.5, epochs=3, class_weight={'a': 2.0}, threads=2)"
    )
    assert repr(model) == shown
    assert repr(lt.TextClassifier()) == "TextClassifier()"


def test_it_is_a_classifier() -> None:
    model = lt.TextClassifier()
    assert is_classifier(model)
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(model)
    check_is_fitted(model.fit(["a", "b"], [0, 1]))


def test_pipeline() -> None:
    pipe = Pipeline([("upper", FunctionTransformer(upper)), ("clf", lt.TextClassifier(**FAST))])
    pipe.fit(TEXTS, LABELS)
    assert pipe.score(TEXTS, LABELS) == 1.0
    assert pipe.predict_proba(TEXTS).shape == (12, 3)
    assert pipe.classes_.tolist() == ["money", "sport", "tech"]
    pipe.set_params(clf__epochs=2).fit(TEXTS, LABELS, clf__sample_weight=np.ones(12))
    repr(pipe)
    pipe._repr_html_()


@pytest.mark.parametrize("container", [list, np.array, pd.Series, lambda t: np.array(t, object)])
def test_cross_validation(container: Callable[[list[str]], Any]) -> None:
    texts, labels = container(TEXTS * 3), container(LABELS * 3)
    scores = cross_val_score(lt.TextClassifier(**FAST), texts, labels, cv=3)
    assert scores.tolist() == [1.0, 1.0, 1.0]  # stratified: each text stands in each fold's training part
    loss = cross_val_score(lt.TextClassifier(**FAST), texts, labels, cv=3, scoring="neg_log_loss")
    assert (loss > -1).all()
    p = cross_val_predict(lt.TextClassifier(**FAST), texts, labels, cv=3, method="predict_proba")
    assert p.shape == (36, 3)
    auc = cross_val_score(
        lt.TextClassifier(**FAST), texts, np.array(labels) == "tech", cv=3, scoring="roc_auc"
    )
    assert (auc == 1).all()


def test_grid_search() -> None:
    grid = {"learning_rate": [0.5, "auto"], "char_ngrams": [None, (2, 3)], "class_weight": [None, "balanced"]}
    search = GridSearchCV(lt.TextClassifier(epochs=3), grid, cv=2, n_jobs=2).fit(TEXTS * 2, LABELS * 2)
    assert search.best_score_ > 0.9
    assert search.predict(TEXTS).tolist() == LABELS


def test_calibrated_classifier_cv() -> None:
    wrapped = CalibratedClassifierCV(lt.TextClassifier(**FAST), cv=2).fit(np.array(TEXTS * 2), LABELS * 2)
    assert wrapped.predict(TEXTS).tolist() == LABELS


def test_pickle_and_joblib(model: lt.TextClassifier, tmp_path: Path) -> None:
    want = model.logits(TEXTS)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).logits(TEXTS), want)
    joblib.dump(model, tmp_path / "m.joblib")
    assert np.array_equal(joblib.load(tmp_path / "m.joblib").logits(TEXTS), want)
    mapped = joblib.load(tmp_path / "m.joblib", mmap_mode="r")
    assert np.array_equal(mapped.logits(TEXTS), want)
    model.save(tmp_path / "m.safetensors")
    loaded = lt.load(tmp_path / "m.safetensors")
    assert np.array_equal(pickle.loads(pickle.dumps(loaded)).logits(TEXTS), want)
    jobs = joblib.Parallel(n_jobs=2)(joblib.delayed(loaded.logits)(TEXTS[i : i + 6]) for i in (0, 6))
    assert np.array_equal(np.concatenate(jobs), want)


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.logits(["a"]), lambda m: m.predict(["a"]), lambda m: m.predict_proba(["a"]),
        lambda m: m.decision_function(["a"]), lambda m: m.explain("a"), lambda m: m.score(["a"], ["b"]),
        lambda m: m.logit(["a"], "b"), lambda m: m.evaluate(["a"], ["b"]), lambda m: m.strongest_ngrams("b"),
        lambda m: m.save("nowhere"),
    ],
)  # fmt: skip
def test_before_fit(ask: Callable[[lt.TextClassifier], Any]) -> None:
    with pytest.raises(lt.NotFittedError, match=r"not trained yet: call fit, or lt\.load"):
        ask(lt.TextClassifier())


def test_a_failed_fit_leaves_the_old_model() -> None:
    model = lt.TextClassifier(**FAST).fit(TEXTS, LABELS)
    before = model.logits(TEXTS)
    for texts, labels in [(["a"], ["b"]), ([], []), (TEXTS, LABELS[:3]), ([*TEXTS[:11], None], LABELS)]:
        with pytest.raises(ValueError):  # noqa: PT011
            model.fit(texts, labels)
    assert np.array_equal(model.logits(TEXTS), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"word_ngrams": (0, 2)}, "word_ngrams must be 1 <= shortest <= longest <= 8"),
        ({"word_ngrams": (2, 1)}, "word_ngrams must be"),
        ({"word_ngrams": (1, 9)}, "word_ngrams must be"),
        ({"word_ngrams": (1.5, 2)}, "word_ngrams must be"),
        ({"char_ngrams": "none"}, "char_ngrams must be"),
        ({"char_ngrams": 3}, "char_ngrams must be"),
        ({"word_ngrams": None, "char_ngrams": None}, "cannot both be None"),
        ({"tokens": "bytes"}, 'tokens must be "unicode" or "whitespace"'),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"label_smoothing": -0.1}, "label_smoothing must be a finite number at least 0"),
        ({"label_smoothing": 1}, "label_smoothing must be below 1, got 1"),
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"epochs": 10**30}, "epochs must be a whole number up to"),
        ({"epochs": True}, "epochs must be"),
        ({"l2": -0.1}, "l2 must be a finite number at least 0"),
        ({"calibration": "isotonic"}, "calibration must be"),
        ({"threads": 0}, "threads must be a whole number of at least 1"),
        ({"threads": 1.5}, "threads must be"),
        ({"random_state": -1}, "random_state must be an integer"),
        ({"random_state": None}, "random_state must be an integer"),
    ],
)
def test_arguments_are_checked_by_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier(**arguments).fit(["a", "b"], [0, 1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"word_ngrams": None}, {"word_ngrams": None, "char_ngrams": (1, 1)}, {"tokens": "whitespace"},
        {"l2": 0.01}, {"l2": 5.0}, {"epochs": np.int64(3)}, {"learning_rate": np.float32(1)},
        {"random_state": np.uint8(3)},
        {"word_ngrams": [1, 2]}, {"word_ngrams": np.array([1, 2])},
        {"calibration": None}, {"class_weight": "balanced"},
    ],
    ids=repr,
)  # fmt: skip
def test_arguments_that_work_can_be_saved(arguments: dict[str, Any], tmp_path: Path) -> None:
    model = lt.TextClassifier(**arguments).fit(TEXTS * 2, LABELS * 2)
    model.save(tmp_path / "m.safetensors")
    loaded = lt.load(tmp_path / "m.safetensors", verify=True)
    assert np.array_equal(loaded.logits(TEXTS), model.logits(TEXTS))


def test_odd_but_legal_data() -> None:
    single = lt.TextClassifier().fit([*TEXTS, "alone"], [*LABELS, "one row"])  # a class with one row
    assert single.predict(["alone"]).tolist() == ["one row"]
    empty = lt.TextClassifier().fit([""] * 10, [0, 1] * 5)
    np.testing.assert_allclose(empty.predict_proba([""]), [[0.5, 0.5]], atol=0.05)
    assert lt.TextClassifier().fit(["a", "b"], [0, 1]).predict(["a", "b"]).tolist() == [0, 1]
    many = lt.TextClassifier(**FAST).fit([f"w{i}" for i in range(500)], list(range(500)))
    assert many.score([f"w{i}" for i in range(500)], list(range(500))) == 1.0


def test_verbose_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, float]] = []
    lt.TextClassifier().fit(TEXTS * 2, LABELS * 2, progress=lambda what, share: told.append((what, share)))
    assert all(0 <= share <= 1 for _, share in told)
    assert told[-1] == ("training", 1.0)
    assert {"counting words", "choosing"} <= {what for what, _ in told}
    assert capsys.readouterr().out == ""
    lt.TextClassifier(verbose=True).fit(TEXTS * 2, LABELS * 2)
    assert capsys.readouterr().out.splitlines()[-1] == "training 100%"


# -- processes ------------------------------------------------------------------


def run(code: str, *arguments: Any, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_import_brings_no_optional_library() -> None:
    code = "import sys, logitext; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(run(code).stdout.split())
    assert "logitext" in loaded
    assert not loaded & {
        "sklearn",
        "scipy",
        "pandas",
        "polars",
        "rich",
        "click",
        "safetensors.torch",
        "torch",
    }


def test_fit_predict_save_load_need_no_optional_library(tmp_path: Path) -> None:
    code = """
import sys
for name in ("sklearn", "scipy", "polars", "rich", "click"):
    sys.modules[name] = None  # importing it raises
import logitext as lt
model = lt.TextClassifier().fit(["a b", "c d"] * 9, ["x", "y"] * 9)
model.save(sys.argv[1])
print(*lt.load(sys.argv[1]).predict(["a", "d"]), model.set_params(epochs=2), model.get_params()["epochs"])
"""
    done = run(code, tmp_path / "m.safetensors")
    assert done.stdout == "x y TextClassifier(epochs=2) 2\n", done.stderr


@pytest.mark.alone
def test_a_fork_after_a_predict_predicts_too() -> None:
    # In a process of its own: pytest's has threads of other libraries.
    code = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")  # Python warns of any fork with threads
import logitext as lt
texts = ["good film " * 50, "bad film"] * 2000
model = lt.TextClassifier(threads=4).fit(texts, ["yes", "no"] * 2000)
before = model.logits(texts)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a hang kills it
    same = (model.logits(texts) == before).all()
    model.fit(texts, ["yes", "no"] * 2000)
    os._exit(0 if same and (model.logits(texts) == before).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    done = run(code)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.alone
def test_ctrl_c_during_fit_exits_fast() -> None:
    code = """
import sys, numpy as np, logitext as lt
rng = np.random.default_rng(0)
texts = [" ".join(map(str, row)) for row in rng.integers(0, 5000, (20_000, 30))]
def tell(what, share):
    print(what, flush=True)
model = lt.TextClassifier(
    epochs=100_000, learning_rate=1.0, label_smoothing=0, char_ngrams=None, calibration=None)
model.fit(texts, rng.integers(0, 3, 20_000), progress=tell)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while "training" not in child.stdout.readline():
            pass
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        error = child.stderr.read()
        child.wait(timeout=20)
        seconds = time.monotonic() - start
    assert "KeyboardInterrupt" in error
    assert child.returncode == -signal.SIGINT
    assert seconds < 3  # at most 0.15 s of work; the rest is for a busy machine


@pytest.mark.alone
def test_threads_at_once_share_a_model(model: lt.TextClassifier) -> None:
    from concurrent.futures import ThreadPoolExecutor

    want = model.logits(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: model.logits(TEXTS), range(50)):
            assert np.array_equal(got, want)


@pytest.mark.alone
def test_threads_default_to_the_cpus_at_hand() -> None:
    from logitext import _core

    assert 1 <= _core.available_threads() <= len(os.sched_getaffinity(0))
