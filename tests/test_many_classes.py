"""Many classes: rows of weights kept to the classes an n-gram was seen with."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitext as lt
import reference
from logitext import _core, layers, modelfile, weights, workshop
from logitext.epochs import Sums
from logitext.features import count_block
from logitext.layers import Support, full_from
from logitext.weights import Kept, column_of, rows_of, strongest
from logitext.workshop import Plan, Settings, Workshop
from test_training import dense, examples, quiet, random_examples


@pytest.fixture
def kept_from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "KEPT_FROM", 3)


def seen_with(x: np.ndarray, codes: np.ndarray, classes: int) -> np.ndarray:
    """Which pairs of feature and class stand in some text: (features, classes), the slow way."""
    seen = np.zeros((x.shape[1], classes), bool)
    for row, code in zip(x, codes, strict=True):
        seen[:, code] |= row > 0
    return seen


def kept_pairs(x: np.ndarray, codes: np.ndarray, classes: int) -> np.ndarray:
    seen = seen_with(x, codes, classes)
    return seen | (seen.sum(axis=1) >= max(2, -(-classes // 8)))[:, None]


# -- the support ----------------------------------------------------------------


def test_the_support_by_hand() -> None:
    # "a" is seen with all ten classes, "b" with class 2 alone, twice; the last text is not learned from.
    texts = [f"a c{i}" for i in range(10)] + ["b b", "b c2", "c9"]
    ex = examples(texts, [*range(10), 2, 2, 0])
    shop = Workshop(ex, Settings(word_ngrams=(1, 1), char_ngrams=(None,)), quiet)
    rows = np.arange(12, dtype=np.uint32)
    support = Support.of(shop.blocks(None), rows, ex.codes, 10, 2)
    form = support.fresh()
    x = dense(shop.blocks(None), 13)
    assert full_from(10) == 2
    a, b, c2, c9 = (np.flatnonzero(x[row]) for row in (3, 10, 2, 12))
    (a,) = np.intersect1d(a, np.flatnonzero(x[4]))
    (c2,) = np.setdiff1d(c2, [a])
    assert form.lengths[a] == 10
    assert form.is_full[a]
    for feature, code in ((b[0], 2), (c2, 2), (c9[0], 9)):
        first, last = form.places[feature : feature + 2, 1]
        assert form.ids[first:last].tolist() == [code]
        assert not form.is_full[feature]


@pytest.mark.parametrize("classes", [3, 17, 40])
def test_the_support_agrees_with_the_naive_one(classes: int) -> None:
    ex = random_examples(300, classes, seed=classes)
    shop = Workshop(ex, Settings(char_ngrams=((2, 3),)), quiet)
    blocks = shop.blocks((2, 3))
    rows = np.flatnonzero(np.arange(300) % 7).astype(np.uint32)
    form = Support.of(blocks, rows, ex.codes, classes, 3).fresh()
    ones = weights.with_values(form, np.ones_like(form.values))
    found = rows_of(ones, np.arange(sum(map(len, blocks))))
    seen = seen_with(dense(blocks, 300)[rows], ex.codes[rows], classes)
    assert np.array_equal(found > 0, kept_pairs(dense(blocks, 300)[rows], ex.codes[rows], classes))
    assert (form.is_full == (seen.sum(axis=1) >= full_from(classes))).all()


def test_room_by_hand() -> None:
    # "a" stands in 4 texts, "b" in 2, "c" and "d" in 1: with 10 classes, full from 3 on, 10 + 4 + 2 + 2.
    texts = lt.features.as_texts(["a b c", "a b d", "a", "a"])
    for room, kept in ((18, 4), (17, 2), (14, 2), (13, 1), (10, 1), (9, 0)):
        block = count_block(texts, "unicode", "words", (1, 1), room=(room, 10, 3), threads=1)
        assert len(block) == kept


# -- against the naive trainer --------------------------------------------------


@pytest.mark.usefixtures("kept_from_three")
@pytest.mark.parametrize("l2", [0.0, 1e-3])
@pytest.mark.parametrize("classes", [3, 20, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_trainer_agrees_with_the_naive_one(smoothing: float, classes: int, l2: float) -> None:
    ex = random_examples(211, classes, seed=classes, weighted=True)
    choice = Settings(word_ngrams=(1, 2), char_ngrams=((2, 3),), l2=l2, threads=2, seed=3)
    shop = Workshop(ex, choice, quiet)
    rows = np.flatnonzero(np.arange(211) % 10 != 7).astype(np.uint32)
    plan = Plan(char_ngrams=(2, 3), learning_rate=1.0, epochs=3, label_smoothing=smoothing)
    trained = shop.train(plan, rows, "")
    assert isinstance(trained.weights, Kept)
    x = dense(trained.blocks, 211)
    naive, bias, losses = reference.sgd(
        x, ex.codes, classes, [rows[_core.shuffle(len(rows), (3 << 20) + epoch)] for epoch in range(3)],
        learning_rate=1.0, batch=shop.batch, l2=l2, row_weights=ex.row_weights, smoothing=smoothing,
        kept=kept_pairs(x[rows], ex.codes[rows], classes),
    )  # fmt: skip
    every = np.arange(x.shape[1])
    assert trained.losses == pytest.approx(losses, rel=1e-4)
    np.testing.assert_allclose(rows_of(trained.weights, every), naive, atol=2e-4)
    np.testing.assert_allclose(trained.bias, bias, atol=2e-5)
    z = shop.logits(trained, np.arange(211, dtype=np.uint32))
    np.testing.assert_allclose(z, x @ naive + bias, atol=1e-3)


@pytest.mark.usefixtures("kept_from_three")
def test_a_strong_penalty_neither_underflows_nor_diverges() -> None:
    ex = random_examples(64, 12, seed=1)
    shop = Workshop(ex, Settings(char_ngrams=(None,), l2=0.3), quiet)
    rows = np.arange(64, dtype=np.uint32)
    trained = shop.train(Plan(None, 2.0, 10), rows, "")
    x = dense(trained.blocks, 64)
    naive, _, losses = reference.sgd(
        x, ex.codes, 12, [_core.shuffle(64, epoch) for epoch in range(10)],
        learning_rate=2.0, batch=shop.batch, l2=0.3, kept=kept_pairs(x, ex.codes, 12),
    )  # fmt: skip
    np.testing.assert_allclose(rows_of(trained.weights, np.arange(x.shape[1])), naive, atol=1e-3)
    assert trained.losses == pytest.approx(losses, rel=1e-3)


@pytest.mark.alone
@pytest.mark.usefixtures("kept_from_three")
@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("classes", [40, 1100])
def test_the_same_bits_for_any_number_of_threads_and_any_slices(
    classes: int, l2: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ex = random_examples(1200, classes, seed=9)
    rows = np.arange(1200, dtype=np.uint32)
    runs = set()
    for threads, budget in [(1, 9.0), (2, 9.0), (3, 0.0), (8, 9.0), (50, 0.0)]:
        monkeypatch.setattr(workshop, "SLICE_SECONDS", budget)
        shop = Workshop(ex, Settings(char_ngrams=((2, 4),), l2=l2, threads=threads), quiet)
        trained = shop.train(Plan((2, 4), 1.0, 2, 0.1), rows, "")
        runs.add((weights.values_of(trained.weights).tobytes(), trained.bias.tobytes()))
        z = shop.logits(trained, rows[:50])
    assert len(runs) == 1
    assert np.isfinite(z).all()


@pytest.mark.usefixtures("kept_from_three")
def test_arrays_that_do_not_fit_are_refused() -> None:
    ex = random_examples(50, 5, seed=0)
    shop = Workshop(ex, Settings(char_ngrams=(None,)), quiet)
    rows = np.arange(50, dtype=np.uint32)
    lists = [block.lists for block in shop.blocks(None)]
    by_class = np.argsort(ex.codes, kind="stable").astype(np.uint32)
    for order, labels in (
        (rows, ex.codes),
        (by_class, ex.codes[by_class][1:]),
        (by_class + 1, rows),
        (by_class, rows),
    ):
        with pytest.raises(ValueError, match="do not fit together"):
            _core.support(lists, order, labels, 5, 2, 1)
    trained = shop._fresh(None, rows)
    layer = shop.layer(trained, rows)
    assert isinstance(layer, layers.KeptLayer)
    how: dict[str, Any] = {"learning_rate": 1.0, "l2": 0.0, "smoothing": 0.0, "z_loss": 0.0, "batch": 8}
    how |= {"seen": 0, "total": 50, "sums": Sums().signs, "scale": 1.0, "threads": 1, "budget": 9.0}
    for name, wrong in (("kept", layer.kept[1:]), ("full", layer.full[:, :, 1:]), ("bias", layer.bias[:0])):
        setattr(other := shop.layer(trained, rows), name, np.ascontiguousarray(wrong))
        with pytest.raises(ValueError, match="do not fit together"):
            other.train(ex, rows, **how)
    with pytest.raises(ValueError, match="do not fit together"):
        layer.train(ex, rows + 1, **how)


# -- rows and columns -----------------------------------------------------------


def some(features: int, classes: int, seed: int = 0) -> tuple[Kept, np.ndarray]:
    """Rows with 0, some, or all classes; and the same as a matrix."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((features, classes), np.float32)
    places, ids, values = [(0, 0)], [], []
    for row in range(features):
        kind = row % 4
        own = (
            np.sort(rng.choice(classes, rng.integers(1, classes), replace=False))
            if kind < 2
            else np.arange(classes)
        )
        own = own[: 0 if kind == 3 else None]
        matrix[row, own] = rng.normal(size=len(own))
        values.append(matrix[row, own])
        ids.append(own if kind < 2 else own[:0])
        places.append((places[-1][0] + len(own), places[-1][1] + len(ids[-1])))
    form = Kept(
        np.array(places, np.uint32), np.concatenate(ids).astype(np.uint16), np.concatenate(values), classes
    )
    return form, matrix


def test_rows_columns_and_the_strongest_are_those_of_the_matrix() -> None:
    form, matrix = some(60, 9)
    rows = np.array([5, 0, 59, 2, 3, 2])
    assert np.array_equal(rows_of(form, rows), matrix[rows])
    assert rows_of(form, rows[:0]).shape == (0, 9)
    for code in range(9):
        assert np.array_equal(column_of(form, rows, code), matrix[rows, code])
    for most in (0, 1, 3, 100):
        assert np.array_equal(strongest(form, most), strongest(matrix, most))


# -- the model ------------------------------------------------------------------


def many(classes: int, rows: int = 4, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of words of their class and of common ones; one word stands in all."""
    rng = np.random.default_rng(seed)
    labels = [f"class {i % classes}" for i in range(rows * classes)]
    own = [f"own{i % classes} part{i % classes % 11}" for i in range(rows * classes)]
    return [f"all {words} w{rng.integers(50)} w{rng.integers(9)}" for words in own], labels


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    fixed = lt.TextClassifier(learning_rate=2.0, epochs=8, label_smoothing=0.1, char_ngrams=(3, 4))
    return fixed.fit(*many(130))


def test_a_model_of_many_classes(model: lt.TextClassifier, tmp_path: Path) -> None:
    texts, labels = many(130)
    assert model.score(texts, labels) > 0.95
    arrays = model.model_.arrays
    assert arrays["weight_classes"].dtype == np.uint16
    assert arrays["weights"].size < 0.5 * len(arrays["hashes"]) * 130
    model.save(tmp_path / "m")
    again = lt.load(tmp_path / "m", verify=True)
    z = model.logits(texts[:200])
    assert np.array_equal(again.logits(texts[:200]), z)
    assert np.array_equal(np.concatenate([again.logits([text]) for text in texts[:20]]), z[:20])
    again.threads = 1
    assert np.array_equal(again.logits(texts[:200]), z)
    model.save(tmp_path / "n")
    again.save(tmp_path / "o")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "n").read_bytes()
    assert modelfile.load(tmp_path / "o")[1]["format_version"] == 4


def test_shares_sum_to_the_logits(model: lt.TextClassifier) -> None:
    text = many(130)[0][7]
    found = model.explain(text)
    np.testing.assert_allclose(found.contributions.sum(axis=0) + found.bias, found.logits, atol=1e-5)
    assert found.strongest(most=1)[0].amount > 0
    best = model.strongest_ngrams("class 7", 3)
    assert best[0].amount >= best[1].amount > 0
    assert any("own7" in share.ngram for share in best)


def test_going_on_from_such_a_model(model: lt.TextClassifier) -> None:
    texts, labels = many(130)
    again = copy.deepcopy(model)
    before = again.score(texts, labels)
    again.partial_fit([*texts[:130], "entirely new words"], [*labels[:130], "class 3"], epochs=3)
    assert again.predict(["entirely new words"]).tolist() == ["class 3"]
    assert again.score(texts, labels) > before - 0.05


TRAIN = """
import hashlib, logitext as lt
from test_many_classes import many
m = lt.TextClassifier(learning_rate=2.0, epochs=2, label_smoothing=0.1, char_ngrams=None).fit(*many(1100, 2))
values = m.model_.arrays["weights"].tobytes() + m.logits(["own7 w3", ""]).tobytes()
print(lt._core.simd_level(), hashlib.sha256(values).hexdigest())
"""


def test_every_level_of_cpu_gives_the_same_bits() -> None:
    answers = {}
    for level in ("portable", "avx2", "avx512"):
        env = {**os.environ, "LOGITEXT_SIMD": level}
        run = subprocess.run(
            [sys.executable, "-c", TRAIN],
            env=env,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=Path(__file__).parent,
        )
        used, digest = run.stdout.split()
        answers[used] = digest
    assert len(set(answers.values())) == 1


def test_few_rows_of_many_classes_just_work() -> None:
    texts, labels = many(300, 3)
    model = lt.TextClassifier(char_ngrams=None).fit(texts, labels)
    assert model.score(texts, labels) > 0.9
    assert model.predict_proba(["own3 part3"]).sum() == pytest.approx(1)


@pytest.mark.usefixtures("kept_from_three")
def test_one_class_of_a_single_row() -> None:
    texts = [f"some words {i % 7}" for i in range(400)] + ["another thing", "a third"]
    model = lt.TextClassifier().fit(texts, ["yes"] * 400 + ["no", "maybe"])
    assert model.predict(["some words 3", "another thing"]).tolist() == ["yes", "no"]


# -- files that are not right -----------------------------------------------------


def change(name: str, place: Any, value: Any) -> Any:
    def changed(arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return changed


BAD: dict[str, tuple[Any, str]] = {
    "begins late": (change("weight_rows", (0, 0), 1), "weight_rows"),
    "falls": (change("weight_rows", (9, 0), 0), "weight_rows"),
    "falls in ids": (change("weight_rows", (9, 1), 0), "weight_rows"),
    "out of bounds": (change("weight_rows", (-1, 0), 2**32 - 1), "weight_rows"),
    "ids unsorted": (change("weight_classes", slice(None), 0), "weight_classes"),
    "no such class": (change("weight_classes", slice(None), 65535), "weight_classes"),
    "nan": (change("weights", 3, np.nan), "weights"),
    "more weights": (lambda a: a.update(weights=np.append(a["weights"], np.float32(1))), "weight_rows"),
    "fewer rows": (lambda a: a.update(weight_rows=a["weight_rows"][1:]), "weight_rows"),
    "no ids": (lambda a: a.pop("weight_classes"), "weight_classes is missing"),
    "a matrix's": (lambda a: (a.pop("weight_classes"), a.pop("weight_rows")), "weights"),
    "wide ids": (lambda a: a.update(weight_classes=a["weight_classes"].astype(np.uint32)), "weight_classes"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_right_is_not_saved(what: str, model: lt.TextClassifier, tmp_path: Path) -> None:
    arrays = dict(model.model_.arrays)
    BAD[what][0](arrays)
    with pytest.raises(modelfile.ModelFileError, match=BAD[what][1]):
        modelfile.save(tmp_path / "m", arrays, model.model_.header)


def test_an_older_version_is_no_place_for_kept_rows(model: lt.TextClassifier, tmp_path: Path) -> None:
    header = {**model.model_.header, "format_version": 1}
    with pytest.raises(modelfile.ModelFileError, match="older format"):
        modelfile.save(tmp_path / "m", model.model_.arrays, header)


def test_a_lying_file_neither_crashes_nor_reads_outside(model: lt.TextClassifier, tmp_path: Path) -> None:
    # What `verify=False` does not look at is not trusted by the core.
    texts = many(130)[0][:50]
    rng = np.random.default_rng(0)
    for name in ("weight_rows", "weight_classes"):
        wrong = rng.integers(0, 1 << 16, model.model_.arrays[name].shape).astype(
            model.model_.arrays[name].dtype
        )
        other = lt.TextClassifier()
        other.model_ = lt.model.Model({**model.model_.arrays, name: wrong}, model.model_.header)
        (z,) = _core.logits(
            lt.features.buffers(lt.features.as_texts(texts)), [(other.model_.layer(), None)], 2
        )
        assert z.shape == (50, 130)
