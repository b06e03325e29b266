"""Training: the trainer against a naive one, the deal of rows, the search, the temperature."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

import logitext as lt
import reference
from logitext import _core
from logitext.calibration import fit_temperature
from logitext.search import deal
from logitext.teaching import lesson
from logitext.training import fit
from logitext.workshop import DivergedError, Examples, Plan, Settings, Workshop

WORDS: dict[str, Any] = {"char_ngrams": (None,), "word_ngrams": (1, 1)}
FIXED: dict[str, Any] = {
    "char_ngrams": None, "learning_rate": 2.0, "epochs": 5, "label_smoothing": 0.0, "calibration": None,
}  # fmt: skip


def quiet(what: str, share: float) -> None:
    pass


def examples(texts: list[str], codes: list[int], row_weights: Any = None) -> Examples:
    weights = None if row_weights is None else np.array(row_weights, np.float32)
    return Examples(pa.array(texts, pa.large_string()), np.array(codes, np.uint32), max(codes) + 1, weights)


def random_examples(rows: int, classes: int, seed: int, weighted: bool = False) -> Examples:
    """Noisy texts, so that the loss stays well above 0."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(rows) % classes)
    said = np.where(rng.random(rows) < 0.6, codes, rng.integers(0, classes, rows))
    texts = [f"w{rng.integers(9)} w{rng.integers(40)} c{c} x{rng.integers(9)}" for c in said]
    return examples(texts, codes.tolist(), rng.exponential(size=rows) if weighted else None)


def dense(blocks: list[Any], rows: int) -> np.ndarray:
    """Give the counted features of all blocks as one matrix."""
    x = np.zeros((rows, sum(map(len, blocks))))
    first = 0
    for block in blocks:
        _, indptr, indices, values = block.lists
        for row in range(rows):
            at = slice(indptr[8 * row], indptr[8 * row + 8])
            x[row, first + indices[at].astype(int)] = values[at]
        first += len(block)
    return x


# -- one batch by hand ----------------------------------------------------------


def call(
    workshop: Workshop, order: Any, weights: Any, bias: Any, **more: Any
) -> tuple[int, float, float, bool, tuple[float, float, float, int]]:
    lists = [block.lists for block in workshop.blocks(workshop.settings.char_ngrams[0])]
    known: dict[str, Any] = {
        "learning_rate": 1.0,
        "l2": 0.0,
        "smoothing": 0.0,
        "z_loss": 0.0,
        "batch": 8,
        "seen": 0,
        "total": len(order),
        "sums": (0.0, 0.0, 0.0, 0.0, 0.0, 0),
        "scale": 1.0,
    }
    known |= {"threads": 1, "budget": 10.0, "weights": weights, "bias": bias} | more
    ex = workshop.examples
    order = np.array(order, np.uint32)
    done, scale, finite, (loss, _, *signs) = _core.train(
        lists, ex.codes, ex.row_weights, ex.shares, order, **known
    )
    return done, loss, scale, finite, tuple(signs)  # type: ignore[return-value]


def test_one_batch_by_hand() -> None:
    # Rows "a" (class 0) and "b" (class 1): one word each, so each value is 1.
    workshop = Workshop(examples(["a", "b"], [0, 1]), Settings(**WORDS), quiet)
    weights, bias = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    done, loss, scale, finite, signs = call(workshop, [0, 1], weights, bias)
    assert (done, scale, finite) == (2, 1.0, True)
    assert loss == pytest.approx(2 * math.log(2))
    assert signs == (0, 0, pytest.approx(2 * 0.5), 0)  # each row: gradient (1/2, -1/2), of squared norm 1/2
    # p = (1/2, 1/2): the true class gains 1/2, the other loses it; the bias's steps cancel.
    x = dense(workshop.blocks(None), 2)
    assert (x @ weights).tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    assert bias.tolist() == [0, 0]

    # Row "a" again, twice in one batch, at half the step: e^.5 / (e^.5 + e^-.5) = 1 / (1 + e^-1).
    p = 1 / (1 + math.exp(-1))
    _, loss, _, _, signs = call(workshop, [0, 0], weights, bias, seen=2, total=4)
    assert signs == (0.5, pytest.approx(4 * 0.25), pytest.approx(4 * (1 - p) ** 2), 0)
    assert loss == pytest.approx(-2 * math.log(p))
    assert (x @ weights)[0].tolist() == pytest.approx([0.5 + (1 - p), -0.5 - (1 - p)])
    assert (x @ weights)[1].tolist() == [-0.5, 0.5]
    assert bias.tolist() == pytest.approx([(1 - p) / 32, -(1 - p) / 32])


def test_weights_of_rows_and_l2_by_hand() -> None:
    workshop = Workshop(examples(["a", "b"], [0, 1], [3.0, 0.0]), Settings(**WORDS), quiet)
    weights, bias = np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    _, loss, scale, *_ = call(workshop, [0, 1], weights, bias, l2=0.1)
    # Two rows shrink the weights by e^(-2 * 0.1); the row of weight 3 steps 3 times as far.
    assert scale == pytest.approx(math.exp(-0.2), abs=1e-15)
    assert loss == pytest.approx(3 * math.log(2))
    found = dense(workshop.blocks(None), 2) @ weights * scale
    shrunk = math.exp(-0.2)
    assert found.ravel().tolist() == pytest.approx([shrunk + 1.5, shrunk - 1.5, shrunk, shrunk])
    assert bias.tolist() == pytest.approx([1.5 / 32, -1.5 / 32])


# -- against the naive trainer --------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
@pytest.mark.parametrize("classes", [2, 3, 4, 5, 8, 13, 20, 40])
@pytest.mark.parametrize("target", ["hard", "smoothed", "shares", "z-loss"])
def test_the_trainer_agrees_with_the_naive_one(target: str, classes: int, l2: float, weighted: bool) -> None:
    ex = random_examples(101, classes, seed=classes, weighted=weighted)
    smoothing = 0.1 if target == "smoothed" else 0.0
    if target == "shares":
        shares = np.random.default_rng(5).dirichlet(np.full(classes, 0.3), 101).astype(np.float32)
        labels = [None] * 101
        taught = lesson(labels, np.log(shares), temperature=1, classes=None, rows=101)
        np.testing.assert_allclose(taught.shares, shares, rtol=1e-5)
        ex = replace(ex, lesson=taught)
    z_loss = 0.05 if target == "z-loss" else 0.0
    choice = Settings(word_ngrams=(1, 2), char_ngrams=((2, 3),), l2=l2, z_loss=z_loss, threads=2, seed=3)
    workshop = Workshop(ex, choice, quiet)
    rows = np.flatnonzero(np.arange(101) % 10 != 7).astype(np.uint32)  # a last batch that is not full
    plan = Plan(char_ngrams=(2, 3), learning_rate=1.0, epochs=3, label_smoothing=smoothing)
    trained = workshop.train(plan, rows, "")
    orders = [rows[_core.shuffle(len(rows), (3 << 20) + epoch)] for epoch in range(3)]
    x = dense(trained.blocks, 101)
    weights, bias, losses = reference.sgd(
        x,
        ex.codes,
        classes,
        orders,
        learning_rate=1.0,
        batch=workshop.batch,
        l2=l2,
        row_weights=ex.row_weights,
        shares=ex.shares,
        smoothing=smoothing,
        z_loss=z_loss,
    )
    assert trained.losses == pytest.approx(losses, rel=1e-4)
    assert losses[-1] > 0.1  # there was something to learn to the end
    np.testing.assert_allclose(trained.weights, weights, atol=2e-4)
    np.testing.assert_allclose(trained.bias, bias, atol=2e-5)
    z = workshop.logits(trained, np.arange(101, dtype=np.uint32))
    np.testing.assert_allclose(z, x @ weights + bias, atol=1e-3)


def test_a_strong_penalty_neither_underflows_nor_diverges() -> None:
    # The factor on the weights would fall to e^(-2 * 0.3 * 640 / 2) = 10^-83 were it never multiplied in.
    ex = random_examples(64, 3, seed=1)
    workshop = Workshop(ex, Settings(**WORDS, l2=0.3), quiet)
    trained = workshop.train(Plan(None, 2.0, 10), np.arange(64, dtype=np.uint32), "")
    orders = [_core.shuffle(64, epoch) for epoch in range(10)]
    x = dense(trained.blocks, 64)
    weights, _, losses = reference.sgd(
        x, ex.codes, 3, orders, learning_rate=2.0, batch=workshop.batch, l2=0.3
    )
    np.testing.assert_allclose(trained.weights, weights, atol=1e-3)
    assert trained.losses == pytest.approx(losses, rel=1e-3)


def long_examples(rows: int, classes: int, words: int) -> Any:
    """Texts of so many words and more."""
    rng = np.random.default_rng(words)
    some = random_examples(rows, classes, seed=9)
    more = [" ".join(f"v{n}" for n in rng.integers(3 * words, size=words)) for _ in range(rows)]
    texts = [f"{text} {rest}" for text, rest in zip(some.texts.to_pylist(), more, strict=True)]
    return examples(texts, some.codes.tolist())


@pytest.mark.parametrize(("classes", "words"), [(2, 60), (5, 200), (30, 300)], ids=["2", "4", "8 units"])
def test_rows_of_any_length_agree_with_the_naive_trainer(classes: int, words: int) -> None:
    ex = long_examples(70, classes, words)
    workshop = Workshop(ex, Settings(**WORDS, threads=3), quiet)
    trained = workshop.train(Plan(None, 0.5, 2, 0.1), np.arange(70, dtype=np.uint32), "")
    how: dict[str, Any] = {"learning_rate": 0.5, "batch": workshop.batch, "smoothing": 0.1}
    orders = [_core.shuffle(70, epoch) for epoch in range(2)]
    weights, bias, _ = reference.sgd(dense(trained.blocks, 70), ex.codes, classes, orders, **how)
    np.testing.assert_allclose(trained.weights, weights, atol=1e-5)
    np.testing.assert_allclose(trained.bias, bias, atol=1e-6)


@pytest.mark.alone
@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize(("classes", "words"), [(2, 0), (5, 0), (5, 200), (30, 300)])
def test_the_same_bits_for_any_number_of_threads_and_any_slices(classes: int, words: int, l2: float) -> None:
    workshop = Workshop(long_examples(700, classes, words), Settings(**WORDS), quiet)
    shape = (sum(map(len, workshop.blocks(None))), classes)
    order = _core.shuffle(700, 7)
    runs = []
    for threads, budget in [(1, 9.0), (2, 9.0), (3, 9.0), (8, 9.0), (50, 9.0), (1, 0.0), (3, 0.0), (2, 1e-4)]:
        weights, bias = np.zeros(shape, np.float32), np.zeros(classes, np.float32)
        rest, seen, scale, sums = order, 0, 1.0, (0.0, 0.0, 0.0, 0.0, 0.0, 0)
        lists = [block.lists for block in workshop.blocks(None)]
        while len(rest):
            done, scale, _, sums = _core.train(
                lists, workshop.examples.codes, None, None, rest, learning_rate=1.0, smoothing=0.0,
                z_loss=0.0, total=700, seen=seen, sums=sums, scale=scale, batch=32, l2=l2,
                weights=weights, bias=bias, threads=threads, budget=budget,
            )  # fmt: skip
            assert done > 0
            assert budget > 0 or done == min(32, len(rest))
            rest, seen = rest[done:], seen + done
        runs.append((weights.tobytes(), bias.tobytes(), scale, sums))  # not even a sum's last bit
    assert len(set(runs)) == 1


def test_arrays_that_do_not_fit_are_refused() -> None:
    workshop = Workshop(examples(["a", "b"], [0, 1]), Settings(**WORDS), quiet)
    weights, bias = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    for order, more in [
        ([2], {}),
        ([0], {"bias": np.zeros(3, np.float32)}),
        ([0], {"weights": np.zeros((3, 2), np.float32)}),
        ([0], {"batch": 0}),
        ([0], {"total": 0}),
    ]:
        with pytest.raises(ValueError, match=r"fit together|one row per feature"):
            call(workshop, order, **({"weights": weights, "bias": bias} | more))


# -- the deal -------------------------------------------------------------------


def parts_of(texts: list[Any], codes: list[int], parts: int, seed: int = 0) -> np.ndarray:
    prints = np.array([hash(("text", t)) & (2**64 - 1) for t in texts], np.uint64)
    return deal(np.array(codes, np.uint32), prints, parts, seed)


def test_a_deal_is_stratified() -> None:
    codes = [0] * 50 + [1] * 20 + [2] * 5 + [3] * 2
    part = parts_of(list(range(77)), codes, 5)
    for code, each in ((0, 10), (1, 4), (2, 1)):
        assert np.bincount(part[np.array(codes) == code]).tolist() == [each] * 5
    assert len(set(part[-2:])) == 2
    assert np.ptp(np.bincount(part)) <= 1


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=60),
    parts=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_every_deal_keeps(rows: list[tuple[int, int]], parts: int, seed: int) -> None:
    texts, codes = [text for text, _ in rows], [code for _, code in rows]
    part = parts_of(texts, codes, parts, seed)
    assert len(part) == len(rows)
    assert part.min() >= -1
    assert part.max() < parts
    for text in set(texts):  # equal texts stay together
        assert len({p for t, p in zip(texts, part, strict=True) if t == text}) == 1
    for code in set(codes):  # a class with one text is always trained on
        own = {t for t, c in rows if c == code}
        if len(own) == 1:
            assert all(p == -1 for t, p in zip(texts, part, strict=True) if t in own)
    held = {t: p for t, p in zip(texts, part, strict=True) if p >= 0}
    sizes = np.bincount(list(held.values()), minlength=parts)  # texts per part: even, no gap at the start
    assert np.ptp(sizes) <= 1
    assert (np.diff(sizes) <= 0).all()


def test_a_row_that_shares_its_text_with_another_class_is_not_held_out_if_it_is_the_only_one() -> None:
    part = parts_of(["x", "y", "z", "x"], [0, 0, 0, 1], 2)
    assert part[0] == part[3] == -1
    assert sorted(part[1:3]) == [0, 1]


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["x"] * 5000 + ["y"] * 5000 + ["z"] * 5000, [0] * 5000 + [1] * 10_000),
        (["x", "y"] * 9, ["p", "q"] * 9),
        ([str(i) for i in range(40)], list(range(40))),
        (["same"] * 20, [0, 1] * 10),
        (["a", "b"], [0, 1]),
        ([""] * 3000, [0, 1, 2] * 1000),
    ],
)
def test_data_with_little_to_hold_out(texts: list[str], labels: list[Any]) -> None:
    model = lt.TextClassifier().fit(texts, labels)
    assert np.isfinite(model.predict_proba(["x", ""])).all()


# -- the temperature ------------------------------------------------------------


def penalised_loss(z: np.ndarray, y: np.ndarray, t: float) -> float:
    """Log loss of all rows, and the prior worth about one row: half of ln² T."""
    rows = logsumexp(z / t, axis=1) - z[np.arange(len(y)), y] / t
    return math.fsum(rows.tolist()) + math.log(t) ** 2 / 2


def make_logits(rows: int, classes: int, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, classes)) * 2
    p = np.exp(z - logsumexp(z, axis=1, keepdims=True))
    y = np.array([rng.choice(classes, p=row) for row in p])
    return z * factor, y


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("classes", [2, 3, 50])
def test_temperature_against_scipy_and_a_grid(classes: int, factor: float) -> None:
    z, y = make_logits(500, classes, factor, seed=classes)
    found = fit_temperature(z, y)
    scipys = minimize_scalar(
        lambda u: penalised_loss(z, y, math.exp(u)), bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(math.exp(scipys.x), rel=1e-5)
    grid = np.geomspace(1 / 64, 64, 400)
    assert penalised_loss(z, y, found) <= min(penalised_loss(z, y, t) for t in grid) + 1e-9
    assert found == pytest.approx(factor, rel=0.3)  # the logits were calibrated before the factor


def test_temperature_at_the_edges() -> None:
    assert fit_temperature(np.zeros((0, 3)), []) == 1.0
    assert fit_temperature([[1.0, 1.0]] * 5, [0, 1, 0, 1, 1]) == pytest.approx(1.0)  # nothing to learn
    # One row, right: 3 / (1 + e^(3b)) = ln(b) / b at b = 1.12, where both are 0.101.
    assert fit_temperature([[3.0, 0.0]], [0]) == pytest.approx(1 / 1.12, abs=0.005)
    assert 1.5 < fit_temperature([[3.0, 0.0]], [1]) < 64  # one row, wrong
    # 3 of 4 right: p = 3/4 where 4 / T = ln 3.
    assert fit_temperature([[4.0, 0.0]] * 400, [0, 0, 0, 1] * 100) == pytest.approx(4 / math.log(3), rel=0.02)


def test_perfect_separation_and_all_wrong_stay_inside_bounds() -> None:
    z = np.array([[5.0, 0.0], [0.0, 5.0]] * 500)
    right, wrong = fit_temperature(z, [0, 1] * 500), fit_temperature(z, [1, 0] * 500)
    assert 1 / 64 < right < 1
    assert 10 < wrong <= 64
    assert fit_temperature(z * 1e6, [0, 1] * 500) == pytest.approx(1, rel=1e-3)  # nothing to gain
    # Rows are a set: their order is nothing.
    z, y = make_logits(500, 4, 2.0, seed=0)
    assert fit_temperature(z, y) == fit_temperature(z[::-1], y[::-1])
    assert fit_temperature(z + 1000, y) == pytest.approx(fit_temperature(z, y), rel=1e-6)


# -- divergence -----------------------------------------------------------------


@pytest.mark.parametrize("rate", [1e39, 1e300])
def test_divergence_is_said_in_a_sentence(rate: float) -> None:
    texts, labels = ["a b", "b c", "c a"] * 200, [0, 1, 2] * 200
    with pytest.raises(
        DivergedError, match=r"training diverged at learning rate 1e\+\d+: choose a smaller one"
    ):
        lt.TextClassifier(learning_rate=rate).fit(texts, labels)


def test_a_plan_that_diverges_is_not_chosen() -> None:
    workshop = Workshop(random_examples(300, 2, seed=0), Settings(**WORDS), quiet)
    with pytest.raises(DivergedError):
        workshop.train(Plan(None, 1e39, 2), np.arange(300, dtype=np.uint32), "")
    record = fit(workshop.examples, Settings(**WORDS), quiet).record
    assert record["plan"]["learning_rate"] < 100


# -- the search and its record --------------------------------------------------


def endings(rows: int) -> tuple[list[str], list[str]]:
    """Made-up words, all different: only their endings tell the class."""
    rng = np.random.default_rng(0)
    letters = list("bcdfghklmnprtvwz")
    labels = ["ing", "ness", "ful"] * (rows // 3)
    return ["".join(rng.choice(letters, 6)) + label for label in labels], labels


def words_only(rows: int) -> tuple[list[str], list[int]]:
    """Short words of few letters, which tell nothing that the words do not; one label in five is wrong."""
    rng = np.random.default_rng(0)
    sign = [["ka", "mo", "ti"], ["ak", "om", "it"]]
    fill = ["lu", "ul", "se", "es", "no", "on"]
    labels = [0, 1] * (rows // 2)
    said = np.where(rng.random(rows) < 0.2, 1 - np.array(labels), labels)
    return [f"{rng.choice(fill)} {rng.choice(sign[y])} {rng.choice(fill)}" for y in said], labels


def test_characters_are_chosen_where_only_they_help() -> None:
    model = lt.TextClassifier().fit(*endings(300))
    assert [block["name"] for block in model.model_.features["blocks"]] == ["words", "chars"]
    assert model.training_["held_out"]["accuracy"] > 0.95
    assert model.predict(["qqqqness", "qqqqful"]).tolist() == ["ness", "ful"]


def test_characters_are_not_chosen_where_they_do_not_help() -> None:
    model = lt.TextClassifier().fit(*words_only(600))
    assert [block["name"] for block in model.model_.features["blocks"]] == ["words"]
    assert model.model_.features["char_ngrams"] is None


def test_the_record_says_what_was_tried_and_is_the_same_for_the_same_call() -> None:
    texts, labels = endings(120)
    first = lt.TextClassifier(threads=1).fit(texts, labels).training_
    assert json.loads(json.dumps(first)) == first
    assert json.dumps(lt.TextClassifier(threads=3).fit(texts, labels).training_) == json.dumps(first)
    assert first["rows"] == 120
    assert first["text_bytes"] == sum(len(text.encode()) for text in texts)
    tried = first["search"]
    plans = [{k: plan[k] for k in tuple(first["plan"])} for plan in tried]
    assert first["plan"] in plans
    assert len(plans) == len({str(plan) for plan in plans}) >= 4
    assert {str(plan["char_ngrams"]) for plan in plans} == {"[3, 5]", "[2, 4]", "None"}
    chosen = tried[plans.index(first["plan"])]
    # Of so few rows a temperature is the calibration, if there is one.
    assert chosen["log_loss"] == pytest.approx(first["held_out"]["log_loss"], abs=1e-6)
    assert first["held_out"]["rows"] == 120
    assert len(first["epochs"]) == first["plan"]["epochs"]
    assert first["epochs"][0]["loss"] <= math.log(3) * 1.1
    assert first["epochs"][-1]["loss"] < first["epochs"][0]["loss"]


def test_the_fingerprint_tells_data_apart() -> None:
    def fingerprint(texts: list[str], labels: list[int], weight: Any = None) -> str:
        model = lt.TextClassifier(**FIXED).fit(texts, labels, sample_weight=weight)
        return str(model.training_["fingerprint"])

    base = fingerprint(["a", "b", "c"], [0, 1, 0])
    assert fingerprint(["a", "b", "c"], [0, 1, 0]) == base
    others = [
        fingerprint(["a", "b", "d"], [0, 1, 0]),
        fingerprint(["b", "a", "c"], [0, 1, 0]),
        fingerprint(["a", "b", "c"], [0, 1, 1]),
        fingerprint(["a", "b", "c"], [0, 1, 0], [1, 2, 1]),
    ]
    assert len({base, *others}) == 5


def test_what_is_fixed_is_not_searched() -> None:
    model = lt.TextClassifier(**FIXED).fit(*words_only(60))
    assert model.training_["search"] == []
    assert model.training_["held_out"] is None
    assert model.temperature_ == 1.0
    calibrated = lt.TextClassifier(**(FIXED | {"calibration": "auto"})).fit(*words_only(60))
    assert len(calibrated.training_["search"]) == 1
    assert calibrated.training_["plan"] == {
        "char_ngrams": None, "learning_rate": 2.0, "epochs": 5, "label_smoothing": 0.0,
    }  # fmt: skip
    assert calibrated.model_.arrays["weights"].tobytes() == model.model_.arrays["weights"].tobytes()


def test_large_data_is_searched_on_a_part_and_calibrated_on_some() -> None:
    texts, labels = words_only(16_000)
    texts = [f"{text} u{i % 700}" for i, text in enumerate(texts)]
    model = lt.TextClassifier(char_ngrams=None, learning_rate=1.0).fit(texts, labels)
    assert len(model.training_["search"]) >= 2
    assert 2500 <= model.training_["held_out"]["rows"] <= 3500


def test_another_seed_is_another_model_and_the_same_seed_the_same() -> None:
    texts, labels = words_only(60)

    def weights(seed: int) -> bytes:
        model = lt.TextClassifier(**FIXED, random_state=seed).fit(texts, labels)
        return model.model_.arrays["weights"].tobytes()

    assert weights(1) == weights(1) != weights(2)
    assert _core.shuffle(10, 0).tolist() != list(range(10))
    assert sorted(_core.shuffle(1000, 5).tolist()) == list(range(1000))
    assert _core.shuffle(0, 5).tolist() == []


# -- weights of rows and classes ------------------------------------------------


def fixed_model(texts: Any, labels: Any, weight: Any = None, **more: Any) -> lt.TextClassifier:
    return lt.TextClassifier(**(FIXED | more)).fit(texts, labels, sample_weight=weight)


def test_weights_are_relative() -> None:
    texts, labels = words_only(60)
    plain = fixed_model(texts, labels).model_.arrays["weights"]
    for weight in (np.ones(60), [7.0] * 60, np.full(60, 1e-300), np.full(60, 1e308), np.full(60, 3, np.int8)):
        assert np.array_equal(fixed_model(texts, labels, weight).model_.arrays["weights"], plain)


def test_a_weight_of_two_is_about_the_row_twice() -> None:
    # "x" says 0 once and 1 once; the weight of the second row decides.
    texts, labels = ["x", "x", "y", "z"] * 10, [0, 1, 0, 1] * 10
    twice = fixed_model([*texts, *["x"] * 10], [*labels, *[1] * 10], learning_rate=0.5, epochs=40)
    weighted = fixed_model(texts, labels, [1, 2, 1, 1] * 10, learning_rate=0.5, epochs=40)
    plain = fixed_model(texts, labels, learning_rate=0.5, epochs=40)
    a, b, c = (lt.softmax(m.logits(["x"]))[0, 1] for m in (twice, weighted, plain))
    assert a == pytest.approx(2 / 3, abs=0.05)
    assert b == pytest.approx(2 / 3, abs=0.05)
    assert c == pytest.approx(1 / 2, abs=0.05)


def test_rows_of_weight_zero_do_not_matter() -> None:
    texts, labels = words_only(60)
    plain = fixed_model(texts, labels)
    more = fixed_model([*texts, "spam", "ka ka ka"], [*labels, 0, 1], [1.0] * 60 + [0.0, 0.0])
    assert np.array_equal(more.model_.arrays["weights"], plain.model_.arrays["weights"])
    assert np.array_equal(more.model_.arrays["hashes"], plain.model_.arrays["hashes"])
    assert more.training_["rows"] == 60
    only = lt.TextClassifier().fit(texts, labels, sample_weight=[1.0] * 2 + [0.0] * 58)
    assert only.training_["rows"] == 2


def test_a_class_of_weight_zero_is_never_the_decision() -> None:
    texts, labels = words_only(60)
    model = fixed_model(texts, labels, class_weight={0: 0})
    assert model.classes_.tolist() == [0, 1]
    assert set(model.predict(texts)) == {1}


def test_class_weights() -> None:
    texts = ["x"] * 30 + ["x"] * 10 + ["y"]
    labels = ["many"] * 30 + ["few"] * 11

    def probability(**more: Any) -> float:
        model = fixed_model(texts, labels, learning_rate=0.5, epochs=30, **more)
        return float(lt.softmax(model.logits(["x"]))[0, 1])  # of "many"

    assert probability() == pytest.approx(3 / 4, abs=0.03)
    # Balanced: 41 / (2 * 11) for a row of "few", 41 / (2 * 30) for one of "many".
    few, many = 10 * 41 / 22, 30 * 41 / 60
    assert probability(class_weight="balanced") == pytest.approx(many / (many + few), abs=0.03)
    assert probability(class_weight={"few": 3}) == pytest.approx(1 / 2, abs=0.03)  # others weigh 1
    by_row = fixed_model(texts, labels, [1.0] * 30 + [3.0] * 11)
    by_class = fixed_model(texts, labels, class_weight={"few": 3.0})
    assert np.array_equal(by_row.model_.arrays["weights"], by_class.model_.arrays["weights"])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 1, 1], r"one per text: 4 texts, shape \(3,\)"),
        (1.0, r"one per text: 4 texts, shape \(\)"),
        ([[1], [1], [1], [1]], "one per text"),
        ([1, -1, 1, 1], "at least 0, got -1 at row 1"),
        ([1, 1, math.nan, 1], "got nan at row 2"),
        ([1, 1, 1, math.inf], "got inf at row 3"),
        ([1, 1, None, 1], "got nan at row 2"),
        ([0, 0, 0, 0], "must not all be 0"),
        (["a", "b", "c", "d"], "sample_weight must be numbers"),
    ],
)
def test_weights_that_are_none(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier().fit(["a", "b", "c", "d"], [0, 1, 0, 1], sample_weight=weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"maybe": 1.0}, "class_weight names 'maybe', which is not a class"),
        ({"yes": -1.0}, "at least 0, got -1 at row 0"),
        ({"yes": "much"}, "class_weight must be numbers"),
        ({"yes": 0, "no": 0}, "must not all be 0"),
        ("evenly", 'a mapping, "balanced" or None'),
        (3, 'a mapping, "balanced" or None'),
    ],
)
def test_class_weights_that_are_none(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier(class_weight=weight).fit(["a", "b"], ["yes", "no"])


@pytest.mark.parametrize("weight", [[1e-30] + [1.0] * 59, [1e30] + [1.0] * 59, [1e-320, 1e300] * 30])
def test_weights_far_apart_give_finite_models(weight: list[float]) -> None:
    texts, labels = words_only(60)
    model = lt.TextClassifier().fit(texts, labels, sample_weight=weight)
    assert np.isfinite(model.model_.arrays["weights"]).all()
    assert np.isfinite(model.model_.arrays["bias"]).all()
    assert all(math.isfinite(epoch["loss"]) for epoch in model.training_["epochs"])


# -- what a person should look into ---------------------------------------------


def test_rows_that_contradict_each_other_are_counted() -> None:
    texts, labels = ["a b", "a b", "a b", "c", "d", "d"] * 2, [0, 1, 0, 1, 1, 1] * 2
    assert lt.TextClassifier(**FIXED).fit(texts, labels).training_["contradictions"] == 6
    assert lt.TextClassifier(**FIXED).fit(["a", "b", "a"], [0, 1, 0]).training_["contradictions"] == 0


def test_a_class_that_is_never_recognised_is_named() -> None:
    rng = np.random.default_rng(0)
    # Class 2 has the words of class 1, and a tenth of its rows.
    labels = [0] * 200 + [1] * 200 + [2] * 20
    texts = [f"{'left' if y == 0 else 'right'} w{rng.integers(400)}" for y in labels]
    model = lt.TextClassifier(char_ngrams=None).fit(texts, labels)
    assert model.training_["held_out"]["rows"] > 400
    assert model.training_["never_predicted"] == [2]
