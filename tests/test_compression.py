"""Small models: within their size, worth what they keep, honest about what it cost."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import logitext as lt
from logitext import _core, compression, modelfile
from logitext.arguments import as_bytes
from logitext.compression import Stock
from logitext.evaluation import log_loss
from logitext.features import as_texts
from logitext.logits import softmax
from logitext.model import Model
from logitext.modelfile import ModelFileError
from logitext.multilabel import binary_log_loss, fit_sigmoid
from logitext.weights import Kept, Quantised, column_of, plain, quantised, rows_of

QUICK: dict[str, Any] = {"learning_rate": 1.0, "epochs": 5, "char_ngrams": None}


def rows(classes: int, n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of words that say their class, words that say little, and words that stand once or twice."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    texts = [
        " ".join(
            [f"is{code}{rng.integers(4)}", *(f"w{i}" for i in rng.zipf(1.3, 8) % 5000), f"x{rng.integers(n)}"]
        )
        for code in codes
    ]
    codes = np.where(rng.random(n) < 0.1, rng.integers(0, classes, n), codes)
    return texts, [f"c{code:03}" for code in codes]


@pytest.fixture(scope="module", params=[2, 5, 30, 120])
def fitted(request: pytest.FixtureRequest) -> tuple[lt.TextClassifier, list[str], list[str]]:
    texts, labels = rows(request.param, 1500)
    return lt.TextClassifier(**QUICK).fit(texts, labels), texts, labels


def saved(clf: lt.TextClassifier, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    clf.save(path)
    return path


# -- sizes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("2MB", 2_000_000), ("500kB", 500_000), ("1.5MB", 1_500_000), ("2MiB", 1 << 21), ("1KiB", 1024),
        ("3 mb", 3_000_000), ("7", 7), ("12B", 12), (9, 9), (np.int64(10), 10), ("1.0005kB", 1000),
    ],
)  # fmt: skip
def test_sizes(size: Any, count: int) -> None:
    assert as_bytes(size) == count


@pytest.mark.parametrize(
    "size",
    ["", "MB", "-1MB", "2TB", "1e6", "2 M B", 0, -5, 2.5, True, None, "0kB", [1], "1,5MB", "٢MB", "9" * 30],
)
def test_what_is_no_size(size: Any) -> None:
    with pytest.raises(ValueError, match="max_size must be bytes, or a text like 500kB"):
        as_bytes(size)


def test_the_constructor_refuses_before_training() -> None:
    with pytest.raises(ValueError, match="max_size must be"):
        lt.TextClassifier(max_size="big").fit(["a"] * 20, ["x", "y"] * 10)


# -- bytes ------------------------------------------------------------------------


def test_bytes_by_hand() -> None:
    # 254 = 127 · 2; 0.5 / 127 lies between 2⁻⁸ and 2⁻⁷; a row of zeros.
    matrix = np.array([[254, -3], [0.5, 0.25], [0, 0]], np.float32)
    found = quantised(matrix)
    assert found.exponents.tolist() == [1, -7, 0]
    assert found.stored.tolist() == [[127, -2], [64, 32], [0, 0]]  # -1.5 goes to the even
    assert plain(found).tolist() == [[254, -4], [0.5, 0.25], [0, 0]]


@given(arrays(np.float32, (7, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_bytes_are_within_half_a_step(matrix: np.ndarray) -> None:
    back = plain(quantised(matrix))
    largest = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-30)
    assert (np.abs(back - matrix) <= largest / 127 * 1.0001).all()
    assert (plain(quantised(back)) == back).all()


def test_kept_rows_in_bytes() -> None:
    places = np.array([[0, 0], [2, 2], [2, 2], [5, 2]], np.uint32)
    kept = Kept(places, np.array([0, 2], np.uint16), np.array([8, -2, 1, 0.5, -1], np.float32), 3)
    small = quantised(kept)
    every = np.arange(3)
    assert rows_of(small, every).tolist() == [[8, 0, -2], [0, 0, 0], [1, 0.5, -1]]
    for code in range(3):
        assert column_of(small, every, code).tolist() == rows_of(small, every)[:, code].tolist()


def test_bytes_give_the_bits_of_the_floats_they_stand_for(fitted: Any) -> None:
    clf, texts, _ = fitted
    model = copy.copy(clf).compress(as_bytes("12kB")).model_
    assert isinstance(model.weights, Quantised)
    floats = plain(model.weights)
    names = {"weights": floats.values if isinstance(floats, Kept) else floats}
    loose = {name: array for name, array in model.arrays.items() if name != "weight_exponents"} | names
    twin = Model(loose, model.header)
    column = as_texts([*texts[:200], "", "nothing known", "is00 " * 500])
    z = model.logits(column, 1)
    assert (z == twin.logits(column, 1)).all()
    assert (z == model.logits(column, 2)).all()
    one = [model.logits(column.slice(i, 1), 1)[0] for i in range(0, len(column), 9)]
    assert (z[::9] == np.array(one)).all()
    for code in {0, len(clf.classes_) - 1}:
        clf_small = copy.copy(clf)
        clf_small.model_ = model
        single = clf_small.logit(texts[:50], clf.classes_[code])
        assert np.allclose(single, z[:50, code], atol=1e-5)


def test_the_same_bits_at_any_level_of_simd(fitted: Any, tmp_path: Path) -> None:
    clf, texts, _ = fitted
    path = saved(copy.copy(clf).compress("12kB", texts), tmp_path)
    code = (
        "import sys, hashlib, logitext as lt; z = lt.load(sys.argv[1]).logits(sys.argv[2:]);"
        "print(hashlib.sha256(z.tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, path, *texts[:50]],
            env={**os.environ, "LOGITEXT_SIMD": level}, capture_output=True, check=True,
        ).stdout
        for level in ("portable", "avx2")
        if level == "portable" or _core.simd_level() != "portable"
    }  # fmt: skip
    assert len(found) == 1


# -- what is kept -----------------------------------------------------------------


@pytest.mark.parametrize("size", ["12kB", "14kB", "20kB"])
def test_the_file_fits_and_loads(fitted: Any, size: str, tmp_path: Path) -> None:
    clf, texts, _ = fitted
    small = copy.copy(clf).compress(size, texts)
    path = saved(small, tmp_path)
    record = small.training_["compressed"]
    assert os.path.getsize(path) == record["bytes"][1] <= as_bytes(size)
    back = lt.load(path, verify=True)
    assert (back.logits(texts[:50]) == small.logits(texts[:50])).all()
    assert back.training_["compressed"] == record
    # The room is used: but for the spare, names and the steps of the index.
    if record["ngrams"][1] < record["ngrams"][0]:
        assert os.path.getsize(path) > 0.75 * as_bytes(size)


@pytest.mark.alone
def test_the_same_each_time(fitted: Any, tmp_path: Path) -> None:
    clf, texts, _ = fitted
    files = [
        saved(copy.copy(clf).set_params(threads=threads).compress("15kB", texts), tmp_path).read_bytes()
        for threads in (1, 2)
    ]
    assert files[0] == files[1]


def test_explanations_stay_exact(fitted: Any) -> None:
    clf, texts, _ = fitted
    small = copy.copy(clf).compress("15kB", texts)
    for text in texts[:20]:
        found = small.explain(text)
        assert np.allclose(found.contributions.sum(axis=0) + found.bias, found.logits, atol=1e-4)
        assert (found.logits == small.logits([text])[0]).all()
    label = clf.classes_[1]
    names = [share.ngram for share in small.strongest_ngrams(label, 1)]
    assert names in ([f"is1{i}"] for i in range(4)) or (not names and len(clf.classes_) == 120)


def test_weights_by_what_they_are_worth() -> None:
    # By hand: sqrt(df) · (1 + ln((1 + N) / (1 + df)))² · Σ w², less what two classes share.
    texts = ["a a b"] * 6 + ["c b"] * 6
    clf = lt.TextClassifier(word_ngrams=(1, 1), **QUICK).fit(texts, ["x"] * 6 + ["y"] * 6)
    stock = Stock(clf.model_)
    weights = np.array(clf.model_.arrays["weights"], np.float64)
    frequency = clf.model_.arrays["document_frequency"].tolist()
    assert sorted(frequency) == [6, 6, 12]
    for row, df in enumerate(frequency):
        idf = 1 + np.log(13 / (1 + df))
        half = (weights[row, 0] - weights[row, 1]) / 2
        assert stock.lost[row] == pytest.approx(np.sqrt(df) * idf**2 * 2 * half**2, rel=1e-4, abs=1e-9)


def test_what_is_picked_is_no_worse_than_any_other_choice(fitted: Any) -> None:
    # Naive: at the price found, each row alone must have taken the cheapest way.
    clf, _, _ = fitted
    stock = Stock(clf.model_)
    for price in (1e-3, 0.1, 5.0):
        entries = stock.entries()
        pick = _pick_at(stock, price)
        chosen = {(int(r), int(c)) for r, c in zip(pick.entries.rows, pick.entries.classes, strict=True)}
        for row in range(0, stock.features, 97):
            own = entries.worth[entries.rows == row].astype(float)
            ways = [stock.lost[row], price * (21 + stock.classes)]
            best = np.sort(own)[::-1]
            ways += [own.sum() - best[:k].sum() + price * (21 + 3 * k) for k in range(1, len(own) + 1)]
            if pick.whole[row]:
                paid = ways[1]
            elif pick.some[row]:
                kept = [
                    w
                    for w, c in zip(own, entries.classes[entries.rows == row], strict=True)
                    if (row, int(c)) in chosen
                ]
                paid = own.sum() - sum(kept) + price * (21 + 3 * len(kept))
            else:
                paid = ways[0]
            assert paid <= min(ways) * (1 + 1e-4) + 1e-9


def _pick_at(stock: Stock, price: float) -> Any:
    found: list[Any] = []
    bisect, stock._bisect = stock._bisect, lambda pick, _: found.append(pick(price, 0.0)) or found[0]  # type: ignore[method-assign]
    try:
        return stock.kept(lambda _: True)
    finally:
        stock._bisect = bisect  # type: ignore[method-assign]


def test_little_is_lost_where_most_n_grams_say_nothing(fitted: Any) -> None:
    clf, texts, _ = fitted
    held, truth = rows(len(clf.classes_), 600, seed=1)
    full = clf.score(held, truth)
    small = copy.copy(clf).compress("20kB" if len(clf.classes_) < 100 else "40kB", texts)
    assert small.training_["compressed"]["ngrams"][1] < small.training_["compressed"]["ngrams"][0]
    assert small.score(held, truth) > full - 0.03


# -- what is said -----------------------------------------------------------------


def test_a_small_model_stays_as_it_is(fitted: Any) -> None:
    clf, texts, _ = fitted
    same = copy.copy(clf).compress("1GB", texts)
    assert same.model_ is clf.model_
    assert "compressed" not in same.training_


def test_too_small_a_size_says_the_least(fitted: Any, tmp_path: Path) -> None:
    clf, texts, _ = fitted
    with pytest.raises(ValueError, match="header and bias alone take up to") as caught:
        copy.copy(clf).compress(300, texts)
    least = int(str(caught.value).split("up to ")[1].split(":")[0].replace(",", ""))
    with pytest.raises(ValueError, match="header and bias"):
        copy.copy(clf).compress(least - 1, texts)
    small = copy.copy(clf).compress(least, texts)
    path = saved(small, tmp_path)
    assert os.path.getsize(path) <= least
    assert lt.load(path).predict(["anything"])[0] in clf.classes_
    assert small.explain("is00").ngrams == []


def test_labels_give_accuracy_and_temperature(fitted: Any) -> None:
    clf, _, _ = fitted
    held, truth = rows(len(clf.classes_), 400, seed=2)
    small = copy.copy(clf).compress("15kB", held, truth)
    record = small.training_["compressed"]
    assert record["rows"] == 400
    assert record["accuracy"] == [clf.score(held, truth), small.score(held, truth)]
    assert record["agreement"] == (clf.predict(held) == small.predict(held)).mean()
    z, codes = small.logits(held), small.encode(truth)
    losses = [log_loss(z, codes, temperature=small.temperature_ * factor) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)


def test_without_texts_the_temperature_is_stale(fitted: Any) -> None:
    clf, _, _ = fitted
    small = copy.copy(clf).compress("15kB")
    assert small.model_.header["calibration"]["stale"]
    assert "agreement" not in small.training_["compressed"]
    held, truth = rows(len(clf.classes_), 100, seed=3)
    assert "stale" not in small.calibrate(held, truth).model_.header["calibration"]
    with pytest.raises(ValueError, match="labels without texts"):
        copy.copy(clf).compress("15kB", labels=["c000"])


def test_the_temperature_follows_half_way(fitted: Any) -> None:
    clf, texts, _ = fitted
    small = copy.copy(clf).compress("13kB", texts)
    meant = softmax(clf.logits(texts), temperature=clf.temperature_).astype(np.float64)
    z = small.logits(texts)
    temperature = small.temperature_**2 / clf.temperature_
    losses = [log_loss(z, meant, temperature=temperature * factor) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)


def test_uncalibrated_models_stay_so() -> None:
    texts, labels = rows(3, 400)
    clf = lt.TextClassifier(calibration=None, **QUICK).fit(texts, labels).compress("10kB", texts)
    assert clf.model_.header["calibration"] is None
    assert clf.temperature_ == 1


def test_not_fitted() -> None:
    with pytest.raises(lt.NotFittedError):
        lt.TextClassifier().compress("1MB")


# -- several labels ---------------------------------------------------------------


def test_shares_fit_a_sigmoid_as_labels_do() -> None:
    z = np.random.default_rng(0).normal(size=(300, 4)) * 3
    y = (z + np.random.default_rng(1).normal(size=z.shape) > 1).astype(np.int64)
    assert fit_sigmoid(z, y) == pytest.approx(fit_sigmoid(z, y.astype(np.float64)), rel=1e-6)
    with pytest.raises(ValueError, match="not a probability"):
        fit_sigmoid(z, z)


def test_several_labels(tmp_path: Path) -> None:
    texts, labels = rows(6, 900)
    tags = [[label, "even"] if int(label[1:]) % 2 == 0 else [label] for label in labels]
    clf = lt.TextClassifier(multilabel=True, **QUICK).fit(texts, tags)
    small = copy.copy(clf).compress("14kB", texts)
    path = saved(small, tmp_path)
    record = small.training_["compressed"]
    assert os.path.getsize(path) == record["bytes"][1] <= 14_000
    assert record["agreement"] > 0.8
    assert small.thresholds_ is not None
    assert clf.thresholds_ is not None
    # The same probability decides.
    for each, other in zip(small.thresholds_, clf.thresholds_, strict=True):
        calm = each / small.temperature_ + small.shift_
        assert calm == pytest.approx(other / clf.temperature_ + clf.shift_, abs=1e-4)
    held, truth = rows(6, 300, seed=1)
    truth_tags = [[label, "even"] if int(label[1:]) % 2 == 0 else [label] for label in truth]
    labelled = copy.copy(clf).compress("14kB", held, truth_tags)
    before, after = labelled.training_["compressed"]["accuracy"]
    assert before == clf.score(held, truth_tags)
    assert after == labelled.score(held, truth_tags)
    z, y = labelled.logits(held), labelled.encode(truth_tags)
    how = {"temperature": labelled.temperature_, "shift": labelled.shift_}
    stale = binary_log_loss(z, y, temperature=clf.temperature_, shift=clf.shift_)
    assert binary_log_loss(z, y, **how) <= stale + 1e-3  # a weak prior pulls at it


# -- with training ----------------------------------------------------------------


def test_max_size_ends_fit_with_compress(tmp_path: Path) -> None:
    texts, labels = rows(4, 800)
    one = lt.TextClassifier(max_size="15kB", **QUICK).fit(texts, labels)
    two = lt.TextClassifier(**QUICK).fit(texts, labels).compress("15kB", texts)
    # Their headers differ by the setting, so perhaps by the last n-gram that there was room for.
    assert one.training_["compressed"]["rows"] == 800
    assert one.training_["compressed"]["bytes"][1] <= 15_000
    assert np.abs(one.logits(texts) - two.logits(texts)).max() < 0.2
    held = rows(4, 200, seed=1)
    judged = lt.TextClassifier(max_size="15kB", **QUICK).fit(texts, labels, validation=held)
    assert judged.training_["compressed"]["rows"] == 200
    assert "accuracy" in judged.training_["compressed"]


def test_compressed_models_go_on_and_are_compressed_again(tmp_path: Path) -> None:
    texts, labels = rows(4, 800)
    clf = lt.TextClassifier(**QUICK).fit(texts, labels).compress("15kB", texts)
    more = rows(4, 300, seed=5)
    on = lt.load(saved(clf, tmp_path)).partial_fit(*more)
    assert "compressed" not in on.training_
    assert not isinstance(on.model_.weights, Quantised)
    assert on.score(*more) >= clf.score(*more)
    again = copy.copy(clf).compress("10kB", texts)
    assert again.training_["compressed"]["bytes"][0] == clf.training_["compressed"]["bytes"][1]
    small = clf.set_params(max_size="15kB").partial_fit(*more)
    assert small.training_["compressed"]["bytes"][1] <= 15_000


def test_streaming(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from logitext import gathering

    monkeypatch.setattr(gathering, "IN_MEMORY", 1 << 12)
    texts, labels = rows(3, 1500)
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True)))
    clf = lt.TextClassifier(max_size="15kB", **QUICK).fit(path)
    assert clf.training_["streamed"]
    assert clf.training_["compressed"]["bytes"][1] <= 15_000
    assert clf.training_["compressed"]["agreement"] > 0.8


# -- hostile files ----------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-128, -127, 101, 127])
def test_exponents_out_of_range_are_refused(fitted: Any, exponent: int, tmp_path: Path) -> None:
    clf, _, _ = fitted
    model = copy.copy(clf).compress("15kB").model_
    exponents = model.arrays["weight_exponents"].copy()
    exponents[3] = exponent
    with pytest.raises(ModelFileError, match="weight_exponents holds one that is not from -126 to 100"):
        modelfile.save(tmp_path / "m", {**model.arrays, "weight_exponents": exponents}, model.header)
    # The core, which trusts nothing, does not fall over it.
    Model({**model.arrays, "weight_exponents": exponents}, model.header).layer()
    z = _core.logits(*_asked({**model.arrays, "weight_exponents": exponents}, model.header))
    assert z[0].shape == (1, len(clf.classes_))


def _asked(arrays: dict[str, Any], header: dict[str, Any]) -> Any:
    from logitext.features import buffers

    return buffers(as_texts(["is00 is10 w1 w2"])), [(Model(arrays, header).layer(), None)], 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda a: a["weight_exponents"][:-1], "weight_exponents has shape"),
        (lambda a: a["weight_exponents"].astype(np.int16), "weight_exponents is not a C-contiguous array"),
        (lambda a: np.vstack([a["weight_exponents"]] * 2), "weight_exponents has shape"),
    ],
)
def test_exponents_that_do_not_fit(fitted: Any, change: Any, complaint: str, tmp_path: Path) -> None:
    clf, _, _ = fitted
    model = copy.copy(clf).compress("15kB").model_
    changed = {**model.arrays, "weight_exponents": change(model.arrays)}
    with pytest.raises(ModelFileError, match=complaint):
        modelfile.save(tmp_path / "m", changed, model.header)


def test_an_older_format_cannot_hold_bytes(fitted: Any, tmp_path: Path) -> None:
    clf, _, _ = fitted
    model = copy.copy(clf).compress("15kB").model_
    assert model.header["format_version"] == 3
    with pytest.raises(ModelFileError, match="older format"):
        modelfile.save(tmp_path / "m", model.arrays, {**model.header, "format_version": 2})


def test_the_file_is_as_the_library_writes_it(fitted: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save

    clf, texts, _ = fitted
    path = saved(copy.copy(clf).compress("15kB", texts), tmp_path)
    tensors = load_file(path)
    data = path.read_bytes()
    text = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert save(tensors, text) == data


def test_size_is_that_of_the_file(fitted: Any, tmp_path: Path) -> None:
    clf, _, _ = fitted
    assert compression._size(clf.model_) == os.path.getsize(saved(clf, tmp_path))
