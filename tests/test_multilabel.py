"""Several labels per text: the numbers, the learner, the model file, the command."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import pickle
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitext as lt
import reference
from logitext import _core, modelfile
from logitext.features import buffers
from logitext.labels import LabelSets, as_label_sets, zero_one_sets
from logitext.multilabel import binary_log_loss, decide, fit_sigmoid, scores
from logitext.search import deal
from logitext.thresholds import GRID, LENT, fit_thresholds, held_out_scores
from logitext.workshop import Examples, Plan, Settings, Workshop

LOGITEXT = Path(sysconfig.get_path("scripts")) / "logitext"


def quiet(what: str, share: float) -> None:
    pass


def examples(texts: list[str], lists: list[list[int]], labels: int, weights: Any = None) -> Examples:
    _, sets = as_label_sets(lists, len(texts), range(labels))
    weights = None if weights is None else np.array(weights, np.float32)
    return Examples(pa.array(texts, pa.large_string()), sets.rarest(), labels, weights, None, sets)


def mixed(rows: int, labels: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Texts of words that each speak for a label, with noise; some have no label."""
    rng = np.random.default_rng(seed)
    texts, lists = [], []
    for _ in range(rows):
        own = rng.permutation(labels)[: rng.integers(0, 4)]
        words = [f"word{k}" for k in own if rng.random() < 0.9] + [
            f"noise{k}" for k in rng.integers(0, 30, 4)
        ]
        texts.append(" ".join(rng.permutation(words)))
        lists.append([f"label {k}" for k in own])
    return texts, lists


# -- training -----------------------------------------------------------------------


def dense(blocks: list[Any], rows: int) -> np.ndarray:
    x = np.zeros((rows, sum(map(len, blocks))))
    first = 0
    for block in blocks:
        _, indptr, indices, values = block.lists
        for row in range(rows):
            at = slice(indptr[8 * row], indptr[8 * row + 8])
            x[row, first + indices[at].astype(int)] = values[at]
        first += len(block)
    return x


NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0, 0)


def test_one_batch_by_hand() -> None:
    # Row "a" has labels 0 and 1, row "b" none: one word each, so each value is 1.
    ex = examples(["a", "b"], [[0, 1], []], 2)
    workshop = Workshop(ex, Settings(word_ngrams=(1, 1), char_ngrams=(None,)), quiet)
    weights, bias = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    done, scale, finite, (loss, _, *signs) = _core.train(
        [block.lists for block in workshop.blocks(None)], ex.codes, None, None, np.array([0, 1], np.uint32),
        sets=ex.numbers, learning_rate=1.0, l2=0.0, smoothing=0.0, z_loss=0.0, batch=8, seen=0, total=2,
        sums=NOTHING, scale=1.0, weights=weights, bias=bias, threads=1, budget=10.0,
    )  # fmt: skip
    assert (done, scale, finite) == (2, 1.0, True)
    assert signs == [0, 0, 1, 0]  # logits of 0; four gradients of a half; no row is settled
    assert loss == pytest.approx(4 * math.log(2))
    # Each sigmoid is 1/2: yes gains 1/2, no loses it; the bias's steps cancel.
    assert (dense(workshop.blocks(None), 2) @ weights).tolist() == [[0.5, 0.5], [-0.5, -0.5]]
    assert bias.tolist() == [0, 0]
    # Logits of 10 and -10: each row is settled, for yes or for no, and none makes a step.
    weights[:] = dense(workshop.blocks(None), 2).T @ [[10, 10], [-10, -10]]
    _, _, _, (loss, _, *signs) = _core.train(
        [block.lists for block in workshop.blocks(None)], ex.codes, None, None, np.array([0, 1], np.uint32),
        sets=ex.numbers, learning_rate=1.0, l2=0.0, smoothing=0.0, z_loss=0.0, batch=8, seen=0, total=2,
        sums=NOTHING, scale=1.0, weights=weights, bias=bias, threads=1, budget=10.0,
    )  # fmt: skip
    assert loss == pytest.approx(4 * math.log1p(math.exp(-10)), rel=1e-5)
    assert signs[3] == 2
    assert np.abs(weights).tolist() == [[10, 10], [10, 10]]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
@pytest.mark.parametrize("labels", [1, 2, 3, 4, 20])
def test_the_trainer_agrees_with_the_naive_one(
    labels: int, l2: float, smoothing: float, weighted: bool
) -> None:
    rng = np.random.default_rng(labels)
    texts, lists = mixed(101, labels, seed=labels)
    weights = rng.exponential(size=101).astype(np.float32) if weighted else None
    numbers = [[int(name.split()[1]) for name in row] for row in lists]
    ex = examples(texts, numbers, labels, weights)
    settings = Settings(word_ngrams=(1, 2), char_ngrams=((2, 3),), l2=l2, threads=2, seed=3)
    workshop = Workshop(ex, settings, quiet)
    rows = np.flatnonzero(np.arange(101) % 10 != 7).astype(np.uint32)
    trained = workshop.train(Plan((2, 3), 1.0, 3, smoothing), rows, "")
    assert ex.sets is not None
    table = ex.sets.indicator()
    found, bias, losses = reference.sgd(
        dense(trained.blocks, 101), ex.codes, labels,
        [rows[_core.shuffle(len(rows), (3 << 20) + epoch)] for epoch in range(3)],
        learning_rate=1.0, batch=workshop.batch, l2=l2, row_weights=weights, smoothing=smoothing,
        sets=table, first_bias=ex.first_bias(rows),
    )  # fmt: skip
    assert trained.losses == pytest.approx(losses, rel=1e-4)
    np.testing.assert_allclose(trained.weights, found, atol=2e-4)
    np.testing.assert_allclose(trained.bias, bias, atol=2e-5)


def test_training_starts_at_the_log_odds() -> None:
    ex = examples(["a", "b", "c", "d"], [[0], [0, 1], [0], []], 3)
    rows = np.arange(4, dtype=np.uint32)
    odds = [math.log(3.5 / 1.5), math.log(1.5 / 3.5), math.log(0.5 / 4.5)]
    assert ex.first_bias(rows).tolist() == pytest.approx(odds, abs=1e-4)
    assert ex.first_bias(rows[3:])[0] == pytest.approx(math.log(0.5 / 1.5), abs=1e-4)


@pytest.mark.parametrize(
    "sets",
    [
        ([0, 1], [0]), ([0, 1, 2], [0]), ([1, 1, 2], [0, 1]), ([0, 2, 1], [0]), ([0, 1, 2], [0, 2]),
        ([0, -1, 2], [0, 1]), ([0, 5, 2], [0, 1]),
    ],
)  # fmt: skip
def test_lists_that_do_not_fit_never_reach_the_trainer(sets: Any) -> None:
    ex = examples(["a", "b"], [[0], [1]], 2)
    lists = [block.lists for block in Workshop(ex, Settings(char_ngrams=(None,)), quiet).blocks(None)]
    with pytest.raises(ValueError, match="lists of labels do not fit together"):
        _core.train(
            lists, ex.codes, None, None, np.array([0, 1], np.uint32),
            sets=(np.array(sets[0], np.int64), np.array(sets[1], np.uint32)), learning_rate=1.0, l2=0.0,
            smoothing=0.0, z_loss=0.0, batch=8, seen=0, total=2, sums=NOTHING, scale=1.0,
            weights=np.zeros((2, 2), np.float32), bias=np.zeros(2, np.float32), threads=1, budget=10.0,
        )  # fmt: skip


def test_rows_are_dealt_by_their_rarest_label_equal_texts_together() -> None:
    texts, lists = mixed(300, 6)
    ex = examples(texts, [[int(name.split()[1]) for name in row] for row in lists], 6)
    # Not Python's hash, which differs from process to process.
    prints = _core.fingerprints(buffers(ex.texts))
    part = deal(ex.codes, prints, 5, seed=0)
    assert ex.sets is not None
    for fold in range(5):
        share = ex.sets.take(np.flatnonzero(part == fold)).counts / ex.sets.counts
        assert (share > 0.1).all()
        assert (share < 0.32).all()


# -- numbers from anyone's logits -----------------------------------------------------

matrices = st.integers(1, 5).flatmap(
    lambda labels: st.lists(
        st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=labels, max_size=labels),
        min_size=1,
        max_size=12,
    )
)


@given(matrices, st.floats(0.1, 10), st.floats(-3, 3), st.floats(-2, 2))
def test_the_evaluation_is_the_naive_one(
    cells: list[list[tuple[float, bool]]], temperature: float, shift: float, threshold: float
) -> None:
    z = np.array([[z for z, _ in row] for row in cells])
    y = np.array([[y for _, y in row] for row in cells])
    found = lt.evaluate_multilabel(z, y, temperature=temperature, shift=shift, thresholds=threshold)
    given_ = z >= threshold
    losses = [reference.binary_cross_entropy(z / temperature + shift, y) for row in cells for z, y in row]
    assert found.log_loss == pytest.approx(sum(losses) / len(losses), rel=1e-9, abs=1e-12)
    assert found.accuracy == pytest.approx(float((given_ == y).all(axis=1).mean()))
    hits, there, told = (given_ & y).sum(axis=0), y.sum(axis=0), given_.sum(axis=0)
    f1 = [2 * h / (a + b) if a + b else 0.0 for h, a, b in zip(hits, there, told, strict=True)]
    assert [score.f1 for score in found.classes] == pytest.approx(f1)
    assert [(score.rows, score.predicted) for score in found.classes] == list(zip(there, told, strict=True))
    met = [f for f, a, b in zip(f1, there, told, strict=True) if a + b]
    assert found.macro_f1 == pytest.approx(sum(met) / len(met) if met else 0.0)
    all_hits, all_there, all_told = hits.sum(), there.sum(), told.sum()
    assert found.micro_f1 == pytest.approx(
        2 * all_hits / (all_there + all_told) if all_there + all_told else 0
    )
    assert found.micro_precision == pytest.approx(all_hits / all_told if all_told else 0)
    assert found.micro_recall == pytest.approx(all_hits / all_there if all_there else 0)
    assert found.rows_without == int((y.sum(axis=1) == 0).sum())
    assert found.rows_given_none == int((given_.sum(axis=1) == 0).sum())


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one row"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "at least one label"),
        (np.zeros(2), np.zeros(2), "shape"),
        (np.zeros((2, 2)), np.zeros((2, 3)), "one per logit"),
        (np.zeros((2, 2)), [0, 1], "one per logit"),
        (np.zeros((2, 2)), np.full((2, 2), 0.5), "0 and 1 only, got 0.5"),
    ],
)
def test_bad_input_to_the_evaluation(z: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lt.evaluate_multilabel(z, y)


@pytest.mark.parametrize("seed", range(3))
def test_the_sigmoid_that_was_fitted_cannot_be_bettered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(400, 5)) * 3
    y = rng.random((400, 5)) < 1 / (1 + np.exp(-(z / 2.5 + 1.2)))
    temperature, shift = fit_sigmoid(z, y)
    assert temperature == pytest.approx(2.5, rel=0.2)
    assert shift == pytest.approx(1.2, abs=0.25)

    def loss(b: float, c: float) -> float:
        return z.size * binary_log_loss(z, y, temperature=1 / b, shift=c) + ((b - 1) ** 2 + c**2) / 2

    best = loss(1 / temperature, shift)
    for db, dc in itertools.product((-1e-3, 0, 1e-3), repeat=2):
        assert loss(1 / temperature + db, shift + dc) >= best - 1e-9


def test_the_sigmoid_at_its_ends() -> None:
    assert fit_sigmoid(np.zeros((0, 3)), np.zeros((0, 3))) == (1.0, 0.0)
    # Logits that say the opposite, and logits that say nothing: as flat as may be.
    z = np.array([[5.0], [-5.0]] * 500)
    temperature, shift = fit_sigmoid(z, z < 0)
    assert temperature == pytest.approx(64)
    assert abs(shift) < 0.01
    # Perfect logits do not run away: the prior holds them.
    temperature, _ = fit_sigmoid(z * 1e-3, z > 0)
    assert 1 / 64 <= temperature < 0.5
    assert all(map(math.isfinite, fit_sigmoid(z * 1e30, z > 0)))


def naive_thresholds(z: np.ndarray, y: np.ndarray, temperature: float, shift: float) -> list[float]:
    cuts = [np.float32(temperature * (math.log(p / (1 - p)) - shift)) for p in GRID.tolist()]
    counts = {}
    for k, (i, cut) in itertools.product(range(z.shape[1]), enumerate(cuts)):
        told = z[:, k] >= cut
        counts[k, i] = np.array([(told & y[:, k]).sum(), (told & ~y[:, k]).sum(), (~told & y[:, k]).sum()])
    together = [sum(counts[k, i] for k in range(z.shape[1])) for i in range(len(cuts))]
    best_of_all = max(range(len(cuts)), key=lambda i: (f1(*together[i]), -abs(i - 49)))
    found = []
    for k in range(z.shape[1]):
        joined = [f1(*(counts[k, i] + LENT / y.sum() * together[i])) for i in range(len(cuts))]
        ties = [i for i, f in enumerate(joined) if f >= max(joined) * (1 - 1e-12)]
        found.append(float(cuts[min(ties, key=lambda i: abs(i - best_of_all))]))
    return found


def f1(tp: float, fp: float, fn: float) -> float:
    return float(2 * tp / (2 * tp + fp + fn))


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_the_naive_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(150, 4)).astype(np.float32) * 2
    y = rng.random((150, 4)) < np.array([0.5, 0.2, 0.02, 0.0]) * 2 / (1 + np.exp(-z))
    assert fit_thresholds(z, y, temperature=1.3, shift=0.4).tolist() == naive_thresholds(z, y, 1.3, 0.4)


def test_a_label_without_rows_takes_the_threshold_of_all_and_a_common_one_its_own() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(5000, 3)).astype(np.float32) * 2
    truth = rng.random((5000, 3))
    y = truth < 1 / (1 + np.exp(-(z + np.array([-1.5, 1.5, 0]))))
    y[:, 2], z[:, 2] = False, np.minimum(z[:, 2], -1)
    first, second, none = fit_thresholds(z, y)
    alone = [fit_thresholds(z[:, [k]], y[:, [k]])[0] for k in (0, 1)]
    of_all = fit_thresholds(z.reshape(-1, 1), y.reshape(-1, 1))[0]
    assert first == pytest.approx(alone[0], abs=0.3)
    assert second == pytest.approx(alone[1], abs=0.3)
    assert none == of_all
    assert second < none < first
    half = fit_thresholds(z, np.zeros_like(y), temperature=2.0, shift=1.0)
    assert half.tolist() == pytest.approx([-2.0] * 3)


def test_held_out_scores_do_not_see_their_own_rows() -> None:
    # Logits of noise, with many labels: thresholds fitted on the rows they decide flatter.
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 200)).astype(np.float32)
    y = rng.random((60, 200)) < 0.1
    honest = held_out_scores(z, y)["micro_f1"]
    assert honest <= scores(zero_one_sets(y), decide(z, fit_thresholds(z, y)))["micro_f1"]
    assert held_out_scores(z[:1], y[:1])["accuracy"] in (0.0, 1.0)


# -- the learner ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught() -> tuple[lt.TextClassifier, list[str], list[list[str]]]:
    texts, lists = mixed(600, 8)
    return lt.TextClassifier(multilabel=True, threads=1).fit(texts, lists), texts, lists


def test_every_answer_follows_from_the_logits(taught: Any) -> None:
    clf, _, _ = taught
    texts, lists = mixed(300, 8, seed=1)
    z = clf.logits(texts)
    assert z.shape == (300, 8)
    assert clf.decision_function(texts).tolist() == z.tolist()
    given_ = clf.predict(texts)
    assert given_.shape == (300,)
    wanted = [[clf.classes_[k] for k in range(8) if row[k] >= clf.thresholds_[k]] for row in z]
    assert given_.tolist() == wanted
    p = clf.predict_proba(texts)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(z / clf.temperature_ + clf.shift_))), rtol=1e-5)
    right = [sorted(a) == sorted(b) for a, b in zip(given_, lists, strict=True)]
    assert clf.score(texts, lists) == pytest.approx(np.mean(right))
    measured = clf.evaluate(texts, lists)
    assert measured.accuracy == clf.score(texts, lists)
    assert measured.micro_f1 > 0.9
    assert measured.rows_without > 20
    truth = clf.encode(lists)
    assert truth.sum(axis=1).tolist() == list(map(len, lists))
    assert clf.score(texts, truth) == clf.score(texts, lists)
    # Probabilities mean what they say: about as many labels as they promise.
    assert p.sum() == pytest.approx(truth.sum(), rel=0.1)
    assert clf.training_["held_out"]["micro_f1"] == pytest.approx(measured.micro_f1, abs=0.05)
    assert clf.training_["held_out"]["log_loss"] == pytest.approx(measured.log_loss, rel=0.4)


def test_a_label_the_model_does_not_know_is_a_mistake(taught: Any) -> None:
    clf, texts, lists = taught
    given_ = clf.predict(texts[:4]).tolist()
    assert clf.score(texts[:4], given_) == 1
    assert clf.score(texts[:4], [*given_[:3], [*given_[3], "new"]]) == 0.75
    assert math.isnan(clf.score([], []))
    with pytest.raises(ValueError, match="'new' at row 1 is not a class"):
        clf.evaluate(texts[:2], [lists[0], ["new"]])
    with pytest.raises(ValueError, match="2 texts, 1 lists"):
        clf.score(texts[:2], [lists[0]])


def test_the_explanation_sums_to_the_logits_and_tells_the_labels(taught: Any) -> None:
    clf, _, _ = taught
    account = clf.explain("word1 word2 noise3")
    np.testing.assert_allclose(account.contributions.sum(axis=0) + account.bias, account.logits, atol=1e-4)
    assert account.decision == clf.predict(["word1 word2 noise3"])[0] == ["label 1", "label 2"]
    assert account.leading in account.decision
    assert account.strongest("label 2", 1)[0].ngram == "word2"
    assert clf.explain("").decision == []
    assert clf.strongest_ngrams("label 3", 1)[0].ngram == "word3"
    with pytest.raises(ValueError, match="'nothing' is not a class"):
        clf.strongest_ngrams("nothing")


@pytest.mark.alone
def test_the_same_bytes_for_any_number_of_threads_and_any_container(tmp_path: Path, taught: Any) -> None:
    clf, texts, lists = taught
    clf.save(tmp_path / "a")
    again = lt.TextClassifier(multilabel=True, threads=2).fit(pa.array(texts), pa.array(lists))
    again.save(tmp_path / "b")
    doubled = lt.TextClassifier(multilabel=True).fit(texts, [row[::-1] + row for row in lists])
    doubled.save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_saved_loaded_and_pickled(tmp_path: Path, taught: Any) -> None:
    clf, texts, _ = taught
    clf.save(tmp_path / "m")
    for other in (lt.load(tmp_path / "m", verify=True), pickle.loads(pickle.dumps(clf))):
        assert other.multilabel
        assert other.predict(texts[:50]).tolist() == clf.predict(texts[:50]).tolist()
        assert (other.predict_proba(texts[:50]) == clf.predict_proba(texts[:50])).all()
        assert (other.thresholds_ == clf.thresholds_).all()


@pytest.mark.parametrize(
    "lists",
    [
        [["yes"], []] * 30,  # one label only
        [["all", "odd"], ["all"]] * 30,  # one that every row has
        [[1], [0, 1]] * 30,
        [[True], [False]] * 30,
        [["a"], ["b"]] * 29 + [["a", "rare"], []],
    ],
)
def test_sets_of_labels_that_are_legal(lists: Any) -> None:
    texts = [f"{'good' if i % 2 == 0 else 'bad'} thing {i % 7}" for i in range(60)]
    clf = lt.TextClassifier(multilabel=True).fit(texts, lists)
    assert (
        clf.predict(["good thing", "bad thing"]).tolist() == [list(dict.fromkeys(row)) for row in lists[:2]]
        or [sorted(row) for row in lists[:2]] == clf.predict(["good thing", "bad thing"]).tolist()
    )
    assert clf.predict_proba(["good thing"]).shape == (1, len(clf.classes_))


def test_labels_that_no_row_has_and_rows_without_any() -> None:
    texts = [f"good thing {i}" for i in range(40)]
    clf = lt.TextClassifier(multilabel=True).fit(texts, [[]] * 40, classes=["b", "a"])
    assert clf.classes_.tolist() == ["b", "a"]
    assert clf.predict(texts[:2]).tolist() == [[], []]
    assert (clf.predict_proba(texts) < 0.1).all()
    few = lt.TextClassifier(multilabel=True).fit(["a", "b"], [["x"], []])  # nothing can be held out
    assert few.thresholds_.tolist() == [0]
    assert few.predict(["a", "b"]).tolist() == [["x"], []]


def test_a_matrix_of_zeros_and_ones_and_its_names() -> None:
    texts = ["good film", "bad film", "good plot", "dull"] * 10
    table = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 10)
    clf = lt.TextClassifier(multilabel=True).fit(texts, table)
    assert clf.classes_.tolist() == [0, 1]
    assert clf.predict(["good film", "dull"]).tolist() == [[0, 1], []]
    named = lt.TextClassifier(multilabel=True).fit(texts, table, classes=["film", "good"])
    assert named.predict(["good film", "dull"]).tolist() == [["film", "good"], []]
    assert named.score(texts, table) == 1


def test_rows_weigh_what_they_are_said_to_weigh() -> None:
    texts, lists = ["good film", "good film", "bad film", "bad film"] * 10, [["a"], [], ["b"], []] * 10
    weights = [1.0, 0.0, 1.0, 0.0] * 10
    clf = lt.TextClassifier(multilabel=True).fit(texts, lists, sample_weight=weights)
    alone = lt.TextClassifier(multilabel=True).fit(texts[::2], lists[::2])
    assert clf.logits(texts).tolist() == alone.logits(texts).tolist()
    heavy = lt.TextClassifier(multilabel=True, char_ngrams=None, learning_rate=1, epochs=5, calibration=None)
    yes = heavy.fit(texts, lists, sample_weight=[9.0, 1.0] * 20).predict_proba(["good film"])[0, 0]
    no = heavy.fit(texts, lists, sample_weight=[1.0, 9.0] * 20).predict_proba(["good film"])[0, 0]
    assert no < 0.5 < yes


@pytest.mark.parametrize(
    ("params", "how", "words"),
    [
        ({"multilabel": 1}, {}, "multilabel must be True or False"),
        ({"class_weight": "balanced"}, {}, "class_weight is for one label per text"),
        ({"class_weight": {"a": 2}}, {}, "class_weight is for one label per text"),
        ({}, {"teacher_logits": np.zeros((2, 2))}, "teacher_logits are for one label per text"),
        ({}, {"temperature": 2}, "teacher_logits are for one label per text"),
        ({"z_loss": 0.1}, {}, "z_loss is for one label per text"),
        ({}, {"labels": None}, "fit needs labels"),
        ({}, {"labels": ["a", "b"]}, "wrap single labels in lists"),
        ({"multilabel": False}, {}, "set multilabel=True"),
        ({"multilabel": False}, {"labels": np.eye(2)}, "not an array of shape"),
    ],
)
def test_what_does_not_go_together_is_refused(params: Any, how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lt.TextClassifier(**{"multilabel": True, **params}).fit(
            **{"texts": ["x", "y"], "labels": [["a"], ["b"]], **how}
        )


def test_a_text_with_two_sets_of_labels_is_a_contradiction() -> None:
    texts, lists = mixed(100, 4)
    lists[1:3] = [["label 0"], ["label 0", "label 1"]]
    texts[1:3] = ["the same text"] * 2
    texts[5:7], lists[5:7] = ["another text"] * 2, [["label 2", "label 1"], ["label 1", "label 2"]]
    clf = lt.TextClassifier(multilabel=True, char_ngrams=None, learning_rate=4, epochs=5, label_smoothing=0)
    assert clf.fit(texts, lists).training_["contradictions"] >= 2
    lists[1] = lists[2]
    fewer = clf.fit(texts, lists).training_["contradictions"]
    texts[1], texts[2] = "one text", "other text"
    assert clf.fit(texts, lists).training_["contradictions"] == fewer


def test_many_labels_with_few_rows_each() -> None:
    rng = np.random.default_rng(0)
    lists = [[f"l{k}" for k in rng.integers(0, 2000, 3)] for _ in range(1500)]
    texts = [" ".join(row) for row in lists]
    clf = lt.TextClassifier(multilabel=True, char_ngrams=None, learning_rate=8, epochs=4, label_smoothing=0)
    clf.fit(texts, lists)
    assert clf.evaluate(texts, lists).micro_f1 > 0.9


def test_validation_rows_choose_calibrate_and_stop(tmp_path: Path) -> None:
    texts, lists = mixed(300, 5)
    held = mixed(150, 5, seed=1)
    clf = lt.TextClassifier(multilabel=True, char_ngrams=None, learning_rate=4, epochs=9, early_stopping=2)
    seen: list[float] = []
    clf.fit(
        texts,
        lists,
        validation=held,
        callback=lambda epoch: seen.append(epoch.loss),
        checkpoint=tmp_path / "c",
    )
    found, record = clf.evaluate(*held), clf.training_
    assert record["held_out"]["log_loss"] == pytest.approx(found.log_loss, rel=1e-6)
    assert record["held_out"]["rows"] == 150
    best = min(epoch["held_out_loss"] for epoch in record["epochs"])
    assert found.log_loss == pytest.approx(best, rel=1e-3)
    assert [epoch["loss"] for epoch in record["epochs"]] == seen
    assert seen[0] > seen[-1]
    # From the checkpoint, where all is done, comes the same model.
    again = lt.TextClassifier(**clf.get_params()).fit(
        texts, lists, validation=held, checkpoint=tmp_path / "c"
    )
    assert again.logits(held[0]).tolist() == clf.logits(held[0]).tolist()
    assert again.thresholds_.tolist() == clf.thresholds_.tolist()
    assert again.shift_ == clf.shift_ != 0
    with pytest.raises(ValueError, match="in validation, the label 'new' at row 0"):
        clf.fit(texts, lists, validation=(["a"], [["new"]]))


def test_going_on_from_a_model_and_calibrating_it_anew() -> None:
    texts, lists = mixed(400, 4)
    held = mixed(200, 4, seed=1)
    clf = lt.TextClassifier(multilabel=True, char_ngrams=None)
    clf.partial_fit(texts[:200], lists[:200], classes=[f"label {k}" for k in range(4)], epochs=3)
    assert (clf.thresholds_.tolist(), clf.temperature_, clf.shift_) == ([0] * 4, 1, 0)
    before = clf.evaluate(*held)
    clf.partial_fit(texts[200:], lists[200:], epochs=3)
    after = clf.evaluate(*held)
    assert after.log_loss < before.log_loss
    clf.calibrate(*held)
    assert clf.evaluate(*held).log_loss < after.log_loss
    assert clf.evaluate(*held).micro_f1 > 0.9
    assert (
        clf.thresholds_.tolist()
        == fit_thresholds(
            clf.logits(held[0]), clf.encode(held[1]), temperature=clf.temperature_, shift=clf.shift_
        ).tolist()
    )
    kept = clf.thresholds_.tolist()
    clf.partial_fit(texts[:50], lists[:50])
    assert clf.thresholds_.tolist() == kept
    assert clf.model_.header["calibration"]["stale"]
    with pytest.raises(ValueError, match="'new' at row 0 is not a class"):
        clf.partial_fit(["a"], [["new"]])
    with pytest.raises(ValueError, match="a model cannot take others"):
        clf.partial_fit(["a"], [["label 0"]], classes=["label 0"])
    with pytest.raises(ValueError, match="cannot go on with False"):
        clf.set_params(multilabel=False).partial_fit(["a"], ["label 0"])


def test_scikit_learn_takes_it() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.metrics import f1_score
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils import get_tags

    texts, lists = mixed(150, 3)
    table = as_label_sets(lists, 150)[1].indicator()
    clf = lt.TextClassifier(multilabel=True, char_ngrams=None, learning_rate=4, epochs=5, label_smoothing=0)
    assert (cross_val_score(clf, np.array(texts, object), table, cv=3) > 0.5).all()
    assert (cross_val_score(clf, np.array(texts, object), table, cv=KFold(3)) > 0.5).all()
    fitted = make_pipeline(FunctionTransformer(), sklearn.base.clone(clf)).fit(texts, lists)
    truth, given_ = clf.fit(texts, lists).encode(lists), clf.encode(fitted.predict(texts))
    assert f1_score(truth, given_, average="micro") == pytest.approx(clf.evaluate(texts, lists).micro_f1)
    assert get_tags(clf).classifier_tags.multi_label
    assert not get_tags(lt.TextClassifier()).classifier_tags.multi_label


# -- the model file -------------------------------------------------------------------

BROKEN: dict[str, Any] = {
    "multilabel a number": lambda h: h.update(multilabel=1),
    "multilabel gone": lambda h: h.pop("multilabel"),
    "multilabel false": lambda h: h.update(multilabel=False),
    "no thresholds": lambda h: h.pop("thresholds"),
    "too few thresholds": lambda h: h["thresholds"].pop(),
    "a threshold of text": lambda h: h["thresholds"].__setitem__(0, "0"),
    "a threshold of null": lambda h: h["thresholds"].__setitem__(0, None),
    "a threshold of truth": lambda h: h["thresholds"].__setitem__(0, True),
    "a threshold without end": lambda h: h["thresholds"].__setitem__(0, float("inf")),
    "a huge threshold": lambda h: h["thresholds"].__setitem__(0, 10**400),
    "thresholds an object": lambda h: h.update(thresholds={}),
    "no method": lambda h: h["calibration"].pop("method"),
    "another method": lambda h: h["calibration"].update(method="temperature"),
    "shift of text": lambda h: h["calibration"].update(shift="0"),
    "shift of truth": lambda h: h["calibration"].update(shift=True),
    "shift nan": lambda h: h["calibration"].update(shift=float("nan")),
    "shift huge": lambda h: h["calibration"].update(shift=10**400),
    "no classes": lambda h: h.update(classes=[]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_header_that_is_not_right_is_refused(tmp_path: Path, taught: Any, kind: str) -> None:
    model = taught[0].model_
    header = json.loads(json.dumps(model.header))
    modelfile.save(tmp_path / "m", model.arrays, header)
    BROKEN[kind](header)
    with pytest.raises(modelfile.ModelFileError, match=r"in the header|what JSON cannot"):
        modelfile.save(tmp_path / "m", model.arrays, header)
    assert lt.load(tmp_path / "m").multilabel  # the old one stays


def test_one_class_is_for_several_labels_only(tmp_path: Path) -> None:
    clf = lt.TextClassifier(multilabel=True).fit(["good", "bad"] * 20, [["yes"], []] * 20)
    clf.save(tmp_path / "m")
    assert lt.load(tmp_path / "m", verify=True).predict(["good", "bad"]).tolist() == [["yes"], []]
    header = json.loads(json.dumps(clf.model_.header))
    del header["multilabel"], header["thresholds"]
    header["calibration"] = None
    with pytest.raises(modelfile.ModelFileError, match="classes in the header"):
        modelfile.save(tmp_path / "n", clf.model_.arrays, header)


# -- the command ----------------------------------------------------------------------


def logitext(*args: object, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run([LOGITEXT, *map(str, args)], input=stdin.encode(), capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    texts, lists = mixed(600, 8)
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        writer.writerows((text, ";".join(row)) for text, row in zip(texts, lists, strict=True))
    pq.write_table(pa.table({"text": texts, "labels": lists}), folder / "train.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Path, str]:
    code, out, err = logitext("train", folder / "train.csv", "--label-separator", ";", "-o", folder / "m")
    assert (code, err) == (0, "")
    return folder / "m", out


def test_train_from_any_table(folder: Path, trained: tuple[Path, str]) -> None:
    path, out = trained
    assert "held-out micro F1  0.9" in out
    code, _, err = logitext("train", folder / "train.parquet", "--multilabel", "-o", folder / "n")
    assert (code, err) == (0, "")
    assert path.read_bytes() == (folder / "n").read_bytes()
    code, out, err = logitext("train", folder / "train.parquet", "-o", folder / "o")
    assert (code, out) == (1, "")
    assert "--multilabel" in err
    code, out, _ = logitext("inspect", path)
    assert code == 0
    assert "micro F1 0.9" in out


def test_train_refuses_what_does_not_go_together(folder: Path) -> None:
    args = ("train", folder / "train.parquet", "-o", folder / "o")
    assert logitext(*args, "--multilabel", "--teacher", "x")[0] == 2
    assert logitext(*args, "--label-separator", "")[0] == 2
    code, _, err = logitext(*args, "--multilabel", "--balanced")
    assert code == 1
    assert "class_weight is for one label per text" in err
    assert err.count("\n") == 1


def test_predict_writes_lists_where_there_may_be_any(folder: Path, trained: tuple[Path, str]) -> None:
    path, _ = trained
    lines = "word1 word2 noise3\nnoise1 noise2\nword3 noise4\n"
    texts = lines.splitlines()
    clf = lt.load(path)
    wanted = clf.predict(texts).tolist()
    assert wanted == [["label 1", "label 2"], [], ["label 3"]]
    p = clf.predict_proba(texts)
    code, out, err = logitext("predict", path, "-", "--top-k", "2", stdin=lines)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["labels"] for row in rows] == wanted
    assert rows[0]["probability"] == pytest.approx(p[0, [1, 2]].tolist(), rel=1e-5)
    assert [row["top"][0]["label"] for row in rows] == [clf.classes_[k] for k in p.argmax(axis=1)]
    assert logitext("predict", path, "-", "-o", folder / "out.parquet", stdin=lines)[0] == 0
    table = pq.read_table(folder / "out.parquet")
    assert table["labels"].to_pylist() == wanted
    code, out, _ = logitext("predict", path, "-", "--format", "csv", "--label-separator", "|", stdin=lines)
    cells = list(csv.DictReader(io.StringIO(out)))
    assert [row["labels"] for row in cells] == ["label 1|label 2", "", "label 3"]
    assert [float(x) for x in cells[0]["probability"].split("|")] == pytest.approx(p[0, [1, 2]].tolist())
    code, out, _ = logitext("predict", path, "-", "--threshold", "0", stdin=lines)
    assert [len(json.loads(line)["labels"]) for line in out.splitlines()] == [8, 8, 8]
    code, out, err = logitext("predict", path, "-", "--format", "tsv", "--label-separator", " ", stdin=lines)
    assert code == 1
    assert "'label 0' holds the separator ' '" in err


def test_train_continues_a_model_of_several_labels(folder: Path, trained: tuple[Path, str]) -> None:
    table = folder / "train.csv"
    args = ("train", table, "--continue", trained[0], "--validation", table, "--epochs", 1)
    code, _, err = logitext(*args, "-o", folder / "more")
    assert (code, err) == (0, "")
    clf = lt.load(folder / "more")
    assert len(clf.training_["continued"]) == 1
    assert clf.training_["continued"][0]["held_out"]["micro_f1"] > 0.9
    assert {"label 1", "label 2"} <= set(clf.predict(["word1 word2 noise3"])[0])


def test_evaluate_and_explain(folder: Path, trained: tuple[Path, str]) -> None:
    path, _ = trained
    clf = lt.load(path)
    texts, lists = mixed(600, 8)
    wanted = clf.evaluate(texts, lists)
    for name in ("train.csv", "train.parquet"):
        code, out, err = logitext("evaluate", path, folder / name, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert found["micro_f1"] == wanted.micro_f1
        assert found["log_loss"] == wanted.log_loss
        assert [score["rows"] for score in found["classes"]] == [score.rows for score in wanted.classes]
    code, out, _ = logitext("evaluate", path, folder / "train.csv")
    assert code == 0
    assert f"micro F1            {wanted.micro_f1:.4f}" in out
    (folder / "bad.csv").write_text("text,labels\na,label 1\nb,label 1;other\n")
    code, out, err = logitext("evaluate", path, folder / "bad.csv")
    assert (code, out) == (1, "")
    assert "data row 2, 'other' is not a class" in err
    code, out, _ = logitext("explain", path, "word1 word2 noise3")
    assert code == 0
    assert "decision: label 1, label 2 (logits at or above their thresholds)" in out
    assert "decision: no label" in logitext("explain", path, "noise1 noise2")[1]
    account = json.loads(logitext("explain", path, "word1 word2 noise3", "--json")[1])
    assert account["labels"] == ["label 1", "label 2"]
    assert account["thresholds"]["label 1"] == pytest.approx(float(clf.thresholds_[1]), rel=1e-6)


def test_sets_without_rows() -> None:
    empty = LabelSets(np.zeros(1, np.int64), np.zeros(0, np.uint32), 3)
    assert empty.rarest().tolist() == []
    assert empty.indicator().shape == (0, 3)
