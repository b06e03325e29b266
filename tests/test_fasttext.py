"""fastText's models: answered and explained as a naive reading does it, or refused by a sentence."""

import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fasttext_oracle import KINDS, TEXTS, Model, hostile, make, one_line

import logitext as lt
from logitext.features import as_texts
from logitext.modelschema import ModelFileError


def saved(folder: Path, model: Model) -> Path:
    path = folder / "model.bin"
    path.write_bytes(model.to_bytes())
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_answers_are_those_of_a_naive_reading(tmp_path: Path, kind: str, strict: bool) -> None:
    model = make(3, **KINDS[kind])
    clf = lt.load(saved(tmp_path, model), strict=strict)
    texts = TEXTS + hostile(60)
    texts = one_line(texts) if strict else texts
    z = clf.logits(texts)
    want = np.array([model.logits(text, strict) for text in texts])
    assert z.dtype == np.float32
    # fastText adds row by row in single precision; its logarithm of 1 less what is near 1 is coarser still.
    wide = max(1, model.dim / 200)  # so many more products are rounded
    coarse = 2e-5 * wide if not strict else 2e-2 if model.loss == "hs" else 2e-3
    np.testing.assert_allclose(z, want, rtol=2e-5, atol=coarse)
    shares = clf.predict_proba(texts)
    step = 1 / 128 if strict and model.loss in ("ova", "ns") else 2e-5 * wide if not strict else 1e-3
    np.testing.assert_allclose(shares, [model.probabilities(t, strict) for t in texts], atol=step, rtol=0)
    assert strict or shares.max() <= 1
    leading = np.sort(want, axis=1)[:, -2:]
    clear = leading[:, -1] - leading[:, 0] > 1e-3 if want.shape[1] > 1 else np.ones(len(texts), bool)
    if strict and model.loss in ("ova", "ns"):
        clear &= False  # a table makes ties
    decided = clf.predict(texts)
    assert decided[clear].tolist() == clf.classes_[want.argmax(axis=1)][clear].tolist()
    if not strict:
        assert decided.tolist() == clf.classes_[z.argmax(axis=1)].tolist()
    hidden = clf.model_.hidden(as_texts(texts), 1)
    want = np.array([model.hidden(text, strict) for text in texts])
    np.testing.assert_allclose(hidden, want, rtol=2e-5, atol=1e-3 if strict else 1e-5)


@pytest.mark.parametrize("kind", ["both", "word runs", "words", "wide", "pruned tree", "quantised, odd"])
def test_the_same_bits_for_threads_batches_and_a_converted_file(tmp_path: Path, kind: str) -> None:
    clf = lt.load(saved(tmp_path, make(1, **KINDS[kind])))
    texts = hostile(700, seed=1) * 4
    clf.threads = 1
    z, decided = clf.logits(texts), clf.predict(texts)
    clf.threads = 4
    assert (clf.logits(texts) == z).all()
    assert (clf.predict(texts) == decided).all()
    assert all((clf.logits([texts[at]]) == z[at]).all() for at in range(0, len(texts), 97))
    clf.save(tmp_path / "model.safetensors")
    again = lt.load(tmp_path / "model.safetensors", verify=True)
    assert isinstance(again, lt.FastTextClassifier)
    assert (again.logits(texts) == z).all()
    assert (again.predict(texts) == decided).all()
    clf.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["both", "word runs"])
def test_a_long_text_and_many_words_show_in_no_bit(tmp_path: Path, kind: str) -> None:
    clf = lt.load(saved(tmp_path, make(1, **KINDS[kind])))
    rng = random.Random(1)
    words = ["".join(rng.choice("abcdefgh") for _ in range(rng.randrange(1, 12))) for _ in range(150_000)]
    texts = [" ".join(words), *(" ".join(words[at : at + 7]) for at in range(0, 140_000, 7))]
    clf.threads = 1
    z = clf.logits(texts)
    assert (clf.logits(texts[-500:]) == z[-500:]).all()
    assert (clf.logits(texts[:1]) == z[:1]).all()
    assert clf.predict(texts).tolist() == clf.classes_[z.argmax(axis=1)].tolist()


@pytest.mark.parametrize("kind", ["both", "hs"])
def test_weights_that_give_no_logits_are_refused(tmp_path: Path, kind: str) -> None:
    model = make(1, **KINDS[kind])
    model.input[model.words.index(b"cat")] = np.nan
    clf = lt.load(saved(tmp_path, model))
    assert clf.predict(["sat"]).shape == (1,)
    for ask in (clf.predict, clf.logits):
        with pytest.raises(ValueError, match="the logits at row 1 are not finite"):
            ask(["sat", "cat", "cat"])


@pytest.mark.parametrize("kind", ["words", "both", "ova", "pruned tree", "quantised", "hs"])
def test_an_explanation_sums_to_the_logits(tmp_path: Path, kind: str) -> None:
    clf = lt.load(saved(tmp_path, make(2, **KINDS[kind])))
    for text in [*TEXTS, *hostile(20)]:
        told = clf.explain(text)
        np.testing.assert_allclose(
            told.contributions.sum(axis=0) + told.bias, told.logits, rtol=1e-4, atol=1e-4
        )
        assert (told.logits == clf.logits([text])[0]).all()
    told = clf.explain("cat zebra")
    assert "cat" in told.ngrams
    assert "zebra" in told.unknown
    assert told.decision == clf.predict(["cat zebra"])[0]


def test_a_word_that_looks_like_a_label_and_a_line_feed(tmp_path: Path) -> None:
    path = saved(tmp_path, make(5, **KINDS["both"]))
    ours, theirs = lt.load(path), lt.load(path, strict=True)
    assert (ours.logits(["cat\nsat </s> the"]) == ours.logits(["cat sat the"])).all()
    assert (theirs.logits(["cat </s> the"]) == theirs.logits(["cat"])).all()
    assert (theirs.logits(["cat __label__x __label__l1"]) == theirs.logits(["cat"])).all()
    assert (ours.logits(["cat __label__x"]) != ours.logits(["cat"])).any()
    with pytest.raises(ValueError, match="one line at a time"):
        theirs.predict(["cat", "cat\nsat"])


def test_strict_is_kept_and_is_for_fasttext_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, make(5, **KINDS["hs"]))
    clf = lt.load(path, strict=True)
    assert isinstance(clf, lt.FastTextClassifier)
    clf.save(tmp_path / "strict.safetensors")
    again = lt.load(tmp_path / "strict.safetensors")
    assert isinstance(again, lt.FastTextClassifier)
    assert again.strict
    assert not lt.load(tmp_path / "strict.safetensors", strict=False).strict  # type: ignore[union-attr]
    lt.TextClassifier().fit(["a", "b"] * 9, [0, 1] * 9).save(tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match="strict is for fastText models"):
        lt.load(tmp_path / "ours.safetensors", strict=True)


# -- calibration ------------------------------------------------------------------


def rows_for(clf: Any, count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts, with labels that are right more often than not."""
    texts = hostile(count, seed)
    rng = np.random.default_rng(seed)
    decided, other = clf.predict(texts), rng.choice(clf.classes_, count)
    return texts, np.where(rng.random(count) < 0.7, decided, other).tolist()


@pytest.mark.parametrize("kind", ["both", "hs", "ova"])
def test_calibrated_answers_keep_the_decision_and_the_file(tmp_path: Path, kind: str) -> None:
    clf = lt.load(saved(tmp_path, make(4, **KINDS[kind])))
    assert isinstance(clf, lt.FastTextClassifier)
    texts, labels = rows_for(clf, 600)
    before, decided = clf.evaluate(texts, labels), clf.predict(texts)
    with pytest.raises(ValueError, match="no rows were held out"):
        clf.predict_set(texts[:3])
    clf.calibrate(texts, labels)
    assert clf.evaluate(texts, labels).log_loss < before.log_loss
    assert (clf.predict(texts) == decided).all()
    shares = clf.predict_proba(texts)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert (clf.classes_[shares.argmax(axis=1)] == decided).mean() > 0.99
    clf.save(tmp_path / "calibrated.safetensors")
    again = lt.load(tmp_path / "calibrated.safetensors", verify=True)
    assert (again.predict_proba(texts) == shares).all()
    assert again.predict_set(texts, coverage=0.8).shape == shares.shape
    assert again.novelty_pvalue(texts).min() > 0
    assert len(again.predict(texts, max_error=0.6)) == len(texts)
    assert (again.novelty(texts) == clf.novelty(texts)).all()


def test_labels_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    clf = lt.load(saved(tmp_path, make(4)))
    with pytest.raises(ValueError, match=r"the label at row 1, 'l99', is not a class"):
        clf.calibrate(["a", "b"], ["l0", "l99"])
    with pytest.raises(ValueError, match="a label for each text"):
        clf.calibrate(["a", "b"], ["l0"])


# -- files that are not right -----------------------------------------------------


def edited(model: Model, **changes: Any) -> bytes:
    for name, value in changes.items():
        setattr(model, name, value)
    return model.to_bytes()


def at_byte(data: bytes, place: int, form: str, value: Any) -> bytes:
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


SETTINGS = 8
DICTIONARY = SETTINGS + 12 * 4 + 8


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (edited(make(), kind=1), "unsupervised model .cbow."),
        (edited(make(), kind=2), "unsupervised model .skipgram."),
        (edited(make(), kind=9), "no model of kind 9"),
        (edited(make(), version=13), "of a newer fastText .version 13."),
        (edited(make(), version=3), "of an unknown fastText .version 3."),
        (make().to_bytes()[:4][::-1] + bytes(100), "machine of the other byte order"),
        (edited(make(), labels=[b"__label__\xff", *make().labels[1:]]), "label 0.*is not UTF-8"),
        (edited(make(), labels=[b"__label__l1", *make().labels[1:]]), "stands twice"),
        (edited(make(), tail=b"x"), "1 bytes follow where the model ends"),
        (make().to_bytes()[:3], "not a logitext model"),
        (make().to_bytes()[:6], "cut short"),
        (make().to_bytes()[:-1], "cut short"),
        (make().to_bytes()[:200], "cut short"),
        (edited(make(), dim=5), "4 columns where dim is 5"),
        (edited(make(), bucket=3, word_ngrams=2), "12 words and 3 n-grams, but an input of 12 rows"),
        (edited(make(), word_ngrams=2), "a bucket of 0"),
        (edited(make(), maxn=5000, minn=1), "at most 1000"),
        (edited(make(), pruned={}), "pruned but not quantised"),
        (edited(make(labels=7), labels=make(labels=6).labels), "6 labels, but an output of 7 rows"),
        (at_byte(make().to_bytes(), SETTINGS + 24, "<i", 7), "no loss of kind 7"),
        (at_byte(make().to_bytes(), SETTINGS, "<i", -4), "dim is -4"),
        (at_byte(make().to_bytes(), DICTIONARY, "<i", 2**31 - 1), "entries are no"),
        (at_byte(make().to_bytes(), DICTIONARY + 20, "<q", 2**62), "larger than any file|cut short"),
        (
            at_byte(make().to_bytes(), len(make().to_bytes()) - 7 * 16 - 16, "<q", 2**61),
            "larger than any file",
        ),
        (
            at_byte(make().to_bytes(), len(make().to_bytes()) - 7 * 16 - 16, "<q", -1),
            "a number of rows is -1",
        ),
        (edited(make(**KINDS["pruned"]), pruned={5: 299}), "but an input of"),
    ],
)
def test_a_file_that_is_not_right_is_refused_by_a_sentence(
    tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "odd.bin"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=complaint) as caught:
        lt.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_of_word_vectors_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.vec").write_text("2 3\nthe 0.1 0.2 0.3\ncat 0.1 0.2 0.3\n")
    with pytest.raises(ModelFileError, match="word vectors"):
        lt.load(tmp_path / "x.vec")
    with pytest.raises(FileNotFoundError):
        lt.load(tmp_path / "none.bin")


def test_words_that_collide_on_purpose_do_not_hang(tmp_path: Path) -> None:
    from tests.fasttext_oracle import fnv

    # So many words whose slots are one: the low bits of their hashes are alike.
    words, at = [], 0
    while len(words) < 700:
        word = b"%x" % at
        if fnv(word) & 0x7FF == 5:
            words.append(word)
        at += 1
    (tmp_path / "m.bin").write_bytes(make(words=words).to_bytes())
    with pytest.raises(ModelFileError, match="collide"):
        lt.load(tmp_path / "m.bin")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edited_file_is_refused_or_answers(tmp_path: Path, data: Any) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    raw = bytearray(make(0, **KINDS[kind]).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Sizes stand at the beginning, and before the matrices.
        place = data.draw(st.one_of(st.integers(0, min(len(raw), 400) - 1), st.integers(0, len(raw) - 1)))
        value = data.draw(
            st.sampled_from([b"\0", b"\1", b"\x7f", b"\xff", b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])
        )
        raw[place : place + len(value)] = value
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw), len(raw) - 1, len(raw) // 2]))]
    path = tmp_path / "edited.bin"
    path.write_bytes(raw)
    try:
        clf = lt.load(path)
        clf.logits(TEXTS)
        clf.predict(TEXTS)
        clf.explain(TEXTS[2])
        complaint = str(path)
    except ModelFileError as error:
        complaint = str(error)
    except ValueError as error:
        complaint = f"{path}: {error}"
    assert complaint.startswith(str(path))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edited_container_is_refused_or_answers(tmp_path: Path, data: Any) -> None:
    """The core trusts no array, even where no checksum guards it."""
    kind = data.draw(st.sampled_from(["both", "pruned tree", "hs", "quantised, odd"]))
    path = saved(tmp_path, make(0, **KINDS[kind]))
    clf = lt.load(path)
    assert isinstance(clf, lt.FastTextClassifier)
    arrays = {name: np.array(array) for name, array in clf.model_.arrays.items()}
    name = data.draw(st.sampled_from(sorted(arrays)))
    flat = arrays[name].reshape(-1).view(np.uint8)
    for _ in range(data.draw(st.integers(1, 30))):
        flat[data.draw(st.integers(0, flat.size - 1))] = data.draw(st.sampled_from([0, 1, 127, 255]))
    edited_one = lt.FastTextClassifier(type(clf.model_)(arrays, clf.model_.header))
    with suppress(ValueError):
        edited_one.logits(TEXTS)
        edited_one.predict(TEXTS)
