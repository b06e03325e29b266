"""What text becomes: tokens, n-grams, hashes, values, from any container, to the bit."""

import itertools
import math
import os
import subprocess
import sys
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitext as lt
import reference
from logitext import _core
from logitext.features import as_labels, as_texts, buffers, count_block

BOTH = ("unicode", (1, 2), (2, 5))
WORDS = ("unicode", (1, 1), None)


def features(texts: Any, recipe: Any = BOTH, block: str = "words", least: int = 1, threads: int = 1) -> Any:
    """Give what the core counts: hashes, document frequency, first row, lists, dropped, least."""
    return _core.count(buffers(as_texts(texts)), recipe, block, least, (1 << 40, 1, 0), threads)


def hashes(text: str, recipe: Any = BOTH, block: str = "words") -> set[int]:
    return set(features([text], recipe, block)[0].tolist())


def same(a: str, b: str) -> bool:
    return all(hashes(a, block=block) == hashes(b, block=block) for block in ("words", "chars"))


# -- frozen ---------------------------------------------------------------------

# (text, the xor and the number of the distinct hashes of words (1, 2) and of chars (2, 5)), and one
# n-gram in full. A change here needs a new features_version: old models would stop understanding text.
FROZEN = [
    ("The new smartphone has amazing features.", "5a57ba1802978f1b", 13, "cbadf8d22931d083", 123),
    ("the", "2d30f1b94140e83b", 1, "e961fdf8e8730d62", 10),
    ("Straße CAFÉ naïve ŁÓDŹ", "4e99df1f44b32ef0", 7, "2f4329102824a01b", 71),
    ("It's 3,000.50 (or 3.) 1st A4", "16fdb8aed39f53b7", 17, "94b66708f3e1a119", 76),
    ("see https://a.example.com/x?y=1&z=snake_case", "3acb813a0e09a4ef", 28, "66a81658faccf4e3", 140),
    ("Привет, мир! Ελλάδος σοφός", "92f192f41b0bb7d9", 11, "022359c062b81629", 81),
    ("我买了新手机，很喜欢。", "88b56370d79e830d", 21, "2cd82c6a43e9187e", 38),
    ("日本語のカタカナとひらがな", "a28e4d625209eb72", 19, "2cbc0c5c58ed8737", 50),
    ("ภาษาไทยไม่มีช่องว่าง", "99185080b676982d", 27, "c9e404447e78809f", 78),
    ("한국어 문장입니다", "f87a99869dfec1c4", 3, "1cd5b18398f8e514", 28),
    ("שלום עולם \u200fمرحبا بالعالم", "e61fed1a73f6d4a3", 7, "77aeaee4a8eddff9", 69),
    ("हिन्दी में लिखा", "520ea63ae5861fa8", 5, "3aa7c1af6b6a650e", 46),
    ("👩‍🚀❤\ufe0f!! 👍🏽 🇩🇪", "9d131cc87857151e", 10, "63817811867cfbe8", 28),
    ("a\0b\tc\u200bd co\xadoperate \ufeffx", "0fbd83f8302a2721", 11, "0fc4efe2f3af7623", 48),
]


def digest(text: str, block: str) -> tuple[str, int]:
    found = hashes(text, block=block)
    mixed = 0
    for h in found:
        mixed ^= h
    return f"{mixed:016x}", len(found)


@pytest.mark.parametrize(("text", "words", "n_words", "chars", "n_chars"), FROZEN)
def test_frozen_vectors(text: str, words: str, n_words: int, chars: str, n_chars: int) -> None:
    assert digest(text, "words") == (words, n_words)
    assert digest(text, "chars") == (chars, n_chars)


def test_frozen_hashes_of_single_ngrams() -> None:
    def one(text: str) -> str:
        return f"{hashes(text, WORDS).pop():016x}"

    assert [one(t) for t in ("a", "the", "12345678", "123456789", "é", "新", "👍")] == ONES


ONES = [
    "79752cb0c3ff9949",
    "2d30f1b94140e83b",
    "a339a21180064922",
    "e1dbc732c7b3c2b3",
    "b138816434f8456f",
    "2b07fd93658333c1",
    "33ee336d1f971de6",
]


@pytest.mark.parametrize("text", [row[0] for row in FROZEN])
def test_the_naive_reference_finds_the_same_ngrams(text: str) -> None:
    for block, recipe in (("words", ("unicode", (1, 2), None)), ("chars", ("unicode", None, (2, 5)))):
        counted = reference.count(text, recipe[1], recipe[2])
        assert hashes(text, recipe, block) == {reference.hash_ngram(g) for g in counted}


ALPHABET = "aAbzZ059_.,:;'-/@\"(!$ \t\0éÉßöµσςΣя新機の\u0301\u0e44\u0e17\u0e22\xad中한👍🏽"


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, max_size=30))
def test_the_naive_reference_agrees_on_random_text(text: str) -> None:
    counted = reference.count(text, (1, 3), (1, 4))
    for block in ("words", "chars"):
        found, _, _, _indptr, indices, counts, *_ = features([text], ("unicode", (1, 3), (1, 4)), block)
        got = dict(zip(found[indices].tolist(), counts.tolist(), strict=True))
        assert got == {reference.hash_ngram(g): n for g, n in counted.items() if g[0] == block}


# -- Unicode --------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_equal_under_nfc_is_equal(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert same(text, unicodedata.normalize(form, text))


@settings(max_examples=300, deadline=None)
@given(st.text("eaoπΐύ각ุཱི\u0301\u0323\u0308\u0345\u0338\u3099\u200d=<>か;\u037e\u212bᾳ", max_size=12))
def test_equal_under_nfc_is_equal_where_marks_pile_up(text: str) -> None:
    assert same(text, unicodedata.normalize("NFD", text))
    assert same(text, unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("CAFÉ", "cafe\u0301"),
        ("\u212a", "k"),  # Kelvin
        ("ﬁne", "FINE"),
        ("q\u0307\u0323", "q\u0323\u0307"),  # canonical order
        ("\ufefftext", "text"),
        ("שלום\u200f", "שלום"),
        ("co\xadoperate", "cooperate"),
        ("❤\ufe0f", "❤"),
        ("a\0b", "a b"),
        ("a\u200bb", "a b"),
        ("a\u3000b\u00a0c", "a b c"),
        ("  a \r\n b  ", "a b"),
    ],
)
def test_texts_that_are_the_same(a: str, b: str) -> None:
    assert same(a, b)


@pytest.mark.parametrize(
    ("a", "b"), [("a b", "ab"), ("e", "é"), ("👍", "👍🏽"), ("می\u200cروم", "میروم"), ("1 2", "12")]
)
def test_texts_that_are_not_the_same(a: str, b: str) -> None:
    assert not same(a, b)


@pytest.mark.parametrize("text", ["", " \t\n", "\0\0", "\u200b", "\ufeff", "\u200e\u2066", "\xa0\u3000"])
def test_nothing_to_see_gives_no_features(text: str) -> None:
    assert not hashes(text)
    assert not hashes(text, block="chars")


def test_right_to_left_words_keep_their_marks() -> None:
    # Hebrew points and Arabic vowels are part of the word they stand in.
    assert len(hashes("שָׁלוֹם", WORDS)) == 1
    assert len(hashes("مَرْحَبًا بك", WORDS)) == 2


def test_whitespace_rule_keeps_pieces_whole() -> None:
    recipe = ("whitespace", (1, 1), None)
    assert len(hashes("don't_stop, 新手机 a.b/c", recipe)) == 3
    assert hashes("New_York", recipe) == hashes("new_york", recipe)


# -- values ---------------------------------------------------------------------


def test_values_by_hand() -> None:
    # Three texts; "a" stands in two of them, "b" in one, twice.
    texts = pa.array(["a b b", "a", ""], pa.large_string())
    block = count_block(texts, "unicode", "words", (1, 1), room=(99, 1, 0), threads=1)
    found = block.hashes
    assert block.document_frequency[[np.searchsorted(found, h(t)) for t in "ab"]].tolist() == [2, 1]
    a, b = 1 + math.log(4 / 3), (1 + math.log(2)) * (1 + math.log(4 / 2))
    norm = math.hypot(a, b)
    rows = dense(block, 3)
    assert rows[0] == pytest.approx({h("a"): a / norm, h("b"): b / norm}, rel=1e-6)
    assert rows[1] == pytest.approx({h("a"): 1.0})
    assert rows[2] == {}


def h(token: str) -> int:
    return reference.hash_ngram(("words", (token,)))


def dense(block: Any, rows: int) -> list[dict[int, float]]:
    found, indptr, indices, values = block.lists
    all_rows: list[dict[int, float]] = [{} for _ in range(rows)]
    for row, shard in itertools.product(range(rows), range(8)):
        at = 8 * row + shard
        for i in range(indptr[at], indptr[at + 1]):
            assert int(found[indices[i]]) >> 61 == shard
            all_rows[row][int(found[indices[i]])] = float(values[i])
    return all_rows


def test_pruning_by_hand() -> None:
    # "a" in 3 texts, "b" in 2, "x" and "y" in 1 each.
    texts = ["a b x x", "a b", "a y"]

    def kept(least: int, most: int) -> tuple[int, int]:
        found = _core.count(buffers(as_texts(texts)), WORDS, "words", least, (most, 1, 0), 1)
        return len(found[0]), found[-1]

    assert kept(1, 4) == (4, 1)
    assert kept(1, 3) == (2, 2)  # one too many: both of the rarest go
    assert kept(1, 2) == (2, 2)
    assert kept(1, 1) == (1, 3)
    assert kept(1, 0) == (0, 4)
    assert kept(2, 4) == (2, 2)
    assert kept(4, 4) == (0, 4)


def test_dropped_ngrams_count_in_the_norm_as_unknown_ones_do() -> None:
    texts = ["a b x x", "a b", "a y"]
    found = _core.count(buffers(as_texts(texts)), WORDS, "words", 2, (99, 1, 0), 1)
    _, df, _, indptr, indices, counts, dropped, _ = found
    assert dropped == pytest.approx([(1 + math.log(2)) ** 2, 0, 1])
    values = _core.values(df, indptr, indices, counts, dropped, 3, 1)
    # Row 2: "a" with idf 1 + ln(4/4) beside "y" with idf 1 + ln(4/2).
    a = int(np.argmax(df))
    last = range(indptr[16], indptr[24])
    assert [int(indices[i]) for i in last] == [a]
    assert values[last[0]] == pytest.approx(1 / math.hypot(1, 1 + math.log(2)))


@pytest.mark.parametrize("rows", [999, 1000])
def test_from_a_thousand_texts_on_single_ngrams_go(rows: int) -> None:
    texts = pa.array([f"all w{i}" for i in range(rows)], pa.large_string())
    block = count_block(texts, "unicode", "words", (1, 1), room=(1 << 40, 1, 0), threads=1)
    assert (len(block), block.least) == ((rows + 1, 1) if rows < 1000 else (1, 2))


TRAIN = ["good film", "a good plot, a good film", "bad film 新手机", "a bad, bad plot", "手机 good"] * 3
LABELS = ["yes", "yes", "no", "no", "maybe"] * 3
PROBES = [*TRAIN[:5], "", "unknown words only", "good unknown 手机 !", "film\0film FILM", "bad " * 50]


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return lt.TextClassifier(char_ngrams=(2, 5), learning_rate=2.0, epochs=3).fit(TRAIN, LABELS)


def naive_logits(model: lt.TextClassifier, text: str) -> list[float]:
    df = {}
    for seen in TRAIN:
        for ngram in reference.count(seen, (1, 2), (2, 5)):
            df[ngram] = df.get(ngram, 0) + 1
    arrays, rows, first = model.model_.arrays, {}, 0
    for block in model.model_.features["blocks"]:
        for i in range(first, first + block["features"]):
            rows[block["name"], int(arrays["hashes"][i])] = i
        first += block["features"]
    assert first == len(df) == len(arrays["weights"])
    z = arrays["bias"].astype(np.float64)
    for ngram, v in reference.values(reference.count(text, (1, 2), (2, 5)), df, len(TRAIN)).items():
        row = rows.get((ngram[0], reference.hash_ngram(ngram)))
        if row is not None:
            z = z + v * arrays["weights"][row]
            assert arrays["document_frequency"][row] == df[ngram]
    return z.tolist()


@pytest.mark.parametrize("text", PROBES)
def test_logits_agree_with_the_naive_reference(model: lt.TextClassifier, text: str) -> None:
    assert model.logits([text])[0].tolist() == pytest.approx(naive_logits(model, text), abs=1e-5)


def test_unknown_ngrams_move_the_logits_towards_the_bias(model: lt.TextClassifier) -> None:
    alone, diluted = model.logits(["good", "good qqq www eee"]) - model.model_.arrays["bias"]
    assert (np.abs(diluted) < np.abs(alone)).all()
    assert (model.logits(["qqqq", ""]) == model.model_.arrays["bias"]).all()


# -- the same bits --------------------------------------------------------------


def many(n: int) -> list[str]:
    rng = np.random.default_rng(5)
    words = [*"abcdefgh", "film", "新手机", "plot", "good", "bad", "👍", "zß"]
    return [" ".join(rng.choice(words, rng.integers(0, 30))) for _ in range(n)]


@pytest.mark.alone
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("block", ["words", "chars"])
def test_counting_is_the_same_for_any_number_of_threads(threads: int, block: str) -> None:
    texts = many(20_000)  # several pieces of work
    one, several = (features(texts, block=block, least=2, threads=t) for t in (1, threads))
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
    args = (*(one[i] for i in (1, 3, 4, 5, 6)), len(texts))
    assert np.array_equal(_core.values(*args, 1), _core.values(*args, threads))


@pytest.mark.alone
def test_logits_are_the_same_for_any_split_and_any_number_of_threads(model: lt.TextClassifier) -> None:
    texts = many(9000)
    whole = model.set_params(threads=1).logits(texts)
    for threads in (2, 5):
        assert np.array_equal(model.set_params(threads=threads).logits(texts), whole)
    for size in (1, 7, 4096):
        some = range(0, 9000 if size > 1 else 200, size)
        parts = np.concatenate([model.logits(texts[at : at + size]) for at in some])
        assert np.array_equal(parts, whole[: len(parts)])


ASK = """
import sys, hashlib, numpy as np, logitext as lt
from logitext import _core
model = lt.load(sys.argv[1])
texts = ["good film", "bad plot 新手机 " * 20, "", "x good"]
z = model.logits(texts)
wide = (np.arange(3000, dtype=np.float64).reshape(30, 100) * 0.7919) % 37 - 20
again = lt.TextClassifier(char_ngrams=(2, 3), epochs=2, learning_rate=1.0, l2=1e-3)
again.fit(texts * 5, [0, 1, 2, 3] * 5)
parts = [z, lt.softmax(z), lt.log_softmax(wide), lt.logsumexp(wide.astype(np.float32)),
         lt.cross_entropy(wide, np.arange(30), reduction="none"), again.model_.arrays["weights"],
         model.predict_proba(texts)]
print(_core.simd_level(), hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest())
"""


def test_every_level_of_cpu_gives_the_same_bits(model: lt.TextClassifier, tmp_path: Any) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    answers = {}
    for level in ("portable", "avx2", "avx512"):
        env = {**os.environ, "LOGITEXT_SIMD": level}
        run = subprocess.run(
            [sys.executable, "-c", ASK, path], env=env, capture_output=True, text=True, check=True, timeout=60
        )
        used, digest = run.stdout.split()
        answers[used] = digest
    assert "portable" in answers
    assert len(set(answers.values())) == 1


# -- containers -----------------------------------------------------------------

ROWS = ["one", "", "zwei ß", "新手机", "two words", "one"]
PADDED = ["before", *ROWS, "after"]

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "numpy object": lambda t: np.array(t, dtype=object),
    "numpy str": np.array,
    "numpy StringDType": lambda t: np.array(t, dtype=np.dtypes.StringDType()),
    "numpy column": lambda t: np.array(t, dtype=object)[:, None],
    "numpy strided": lambda t: np.array([x for s in t for x in (s, "no")], dtype=object)[::2],
    "pandas": pd.Series,
    "pandas object": lambda t: pd.Series(t, dtype=object),
    "pandas string": lambda t: pd.Series(t, dtype="string"),
    "pandas pyarrow": lambda t: pd.Series(t, dtype="string[pyarrow]"),
    "pandas ArrowDtype": lambda t: pd.Series(t, dtype=pd.ArrowDtype(pa.string())),
    "pandas category": lambda t: pd.Series(t, dtype="category"),
    "pandas index": pd.Index,
    "pandas other index": lambda t: pd.Series(t, index=range(10, 10 + len(t))),
    "pandas frame": lambda t: pd.DataFrame({"text": t}),
    "pandas frame, other index": lambda t: pd.DataFrame({"text": t}, index=list("abcdef")),
    "polars": lambda t: pl.Series(t),
    "polars chunks": lambda t: pl.concat([pl.Series(t[:2]), pl.Series(t[2:])], rechunk=False),
    "polars categorical": lambda t: pl.Series(t, dtype=pl.Categorical),
    "polars enum": lambda t: pl.Series(t, dtype=pl.Enum(sorted(set(t)))),
    "polars frame": lambda t: pl.DataFrame({"text": t}),
    "arrow string": lambda t: pa.array(t, pa.string()),
    "arrow large_string": lambda t: pa.array(t, pa.large_string()),
    "arrow string_view": lambda t: pa.array(t, pa.string_view()),
    "arrow dictionary": lambda t: pa.array(t).dictionary_encode(),
    "arrow chunks": lambda t: pa.chunked_array([t[:1], [], t[1:4], t[4:]]),
    "arrow dictionary chunks": lambda t: pa.chunked_array([t[:3], t[3:]]).dictionary_encode(),
    "arrow slice": lambda t: pa.array(PADDED)[1:-1],
    "arrow large slice": lambda t: pa.array(PADDED, pa.large_string())[1:-1],
    "arrow view slice": lambda t: pa.array(PADDED, pa.string_view())[1:-1],
    "arrow dictionary slice": lambda t: pa.array(PADDED).dictionary_encode()[1:-1],
    "arrow chunked slice": lambda t: pa.chunked_array([PADDED[:3], PADDED[3:]])[1:-1],
    "arrow table": lambda t: pa.table({"text": t}),
    "arrow record batch": lambda t: pa.record_batch({"text": t}),
    "arrow at an odd address": lambda t: odd_address(t),
}


def odd_address(texts: list[str]) -> pa.Array:
    offsets = np.cumsum([0, *(len(t.encode()) for t in texts)]).astype(np.int64)
    buffer = pa.py_buffer(b"\0" + offsets.tobytes()).slice(1)
    return pa.LargeStringArray.from_buffers(len(texts), buffer, pa.py_buffer("".join(texts).encode()))


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_features(name: str) -> None:
    texts = CONTAINERS[name](ROWS)
    column = as_texts(texts)
    assert column.to_pylist() == ROWS
    want, got = features(ROWS), features(column)
    assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize(
    "empty",
    [[], (), np.array([], object), np.array([], str), pd.Series([], dtype=object),
     pl.Series([], dtype=pl.String),
     pa.array([]), pa.array([], pa.string()), pa.chunked_array([], pa.string()), pa.array(ROWS)[3:3],
     pa.table({"text": pa.array([], pa.string())})],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_no_texts_are_texts(model: lt.TextClassifier, empty: Any) -> None:
    assert len(as_texts(empty)) == 0
    assert model.logits(empty).shape == (0, 3)
    assert model.predict(empty).tolist() == []
    assert model.predict_proba(empty).shape == (0, 3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "got one string"),
        (np.str_("one text"), "got one string"),
        (b"one text", "got one string"),
        (np.array("one text"), r"one column is wanted, not an array of shape \(\)"),
        (5, "a sequence is wanted, not int"),
        (None, "a sequence is wanted, not NoneType"),
        ([1, 2], "texts must be strings, got int64"),
        (np.arange(3), "texts must be strings, got int64"),
        (pd.Series([1.5]), "texts must be strings, got double"),
        ([b"bytes"], "texts must be strings, got binary"),
        ([["a"], ["b"]], "texts must be strings, got list"),
        (["a", 2], "texts must be all of one type"),
        (["a", b"b"], "texts must be strings, got binary"),
        (["a", "b", None], "the text at row 2 is null"),
        ([None], "the text at row 0 is null"),
        (np.array(["a", None], object), "the text at row 1 is null"),
        (pd.Series(["a", None]), "the text at row 1 is null"),
        (pd.Series(["a", pd.NA], dtype="string"), "the text at row 1 is null"),
        (pl.Series(["a", None]), "the text at row 1 is null"),
        (pa.chunked_array([["a"], ["b", None]]), "the text at row 2 is null"),
        (pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])), "the text at row 1 is null"),
        (["a", "b\ud800"], "lone surrogate at row 1"),
        (np.array(["a", "b\ud800"]), "lone surrogate at row 1"),
        (np.array(["\udfff", "b"], object), "lone surrogate at row 0"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "one column, it has 2: a, b"),
        (pl.DataFrame({"a": ["x"], "b": ["y"]}), "one column, it has 2: a, b"),
        (pa.table({"a": ["x"], "b": ["y"]}), "one column, it has 2: a, b"),
        (np.array([["a", "b"]]), "one column is wanted"),
    ],
)
def test_what_are_no_texts_is_said_in_a_sentence(model: lt.TextClassifier, texts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.logits(texts)


def test_invalid_utf8_names_its_row(model: lt.TextClassifier) -> None:
    offsets, data = pa.array([0, 1, 2, 4], pa.int64()).buffers()[1], pa.py_buffer(b"ab\xff\xfe")
    bad = pa.LargeStringArray.from_buffers(3, offsets, data)
    with pytest.raises(ValueError, match="the text at row 2 is not valid UTF-8"):
        model.logits(bad)
    with pytest.raises(ValueError, match="the text at row 2 is not valid UTF-8"):
        lt.TextClassifier().fit(bad, [0, 1, 0])
    assert model.logits(bad[:2]).shape == (2, 3)  # what is outside the slice does not matter


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([True, False, True], [False, True]),
        (np.array([3, -1, 3], np.int8), [-1, 3]),
        (np.array([2**63, 1, 2**63], np.uint64), [1, 2**63]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"]),
        (pl.Series(["b", "a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pa.array(["b", "a", "b"], pa.string_view()), ["a", "b"]),
        (["é", "e", "é"], ["e", "é"]),
    ],
)
def test_labels_become_sorted_classes(labels: Any, classes: list[Any]) -> None:
    found, codes = as_labels(labels, 3)
    assert found == classes
    assert [type(label) for label in found] == [type(label) for label in classes]
    assert codes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"], "one per text: 2 texts, 1 labels"),
        (["a", "a"], "at least two classes, got only 'a'"),
        (["a", None], "label at row 1 is null"),
        (["a", ""], "label at row 1 is empty"),
        ([1.0, 2.0], "strings, integers or booleans, got double"),
        ([["a"], ["b"]], "one label: for several labels per text set multilabel=True"),
        (["a", 1], "labels must be all of one type"),
        ("ab", "got one string"),
        (["a", "\ud800"], "lone surrogate at row 1"),
    ],
)
def test_what_are_no_labels_is_said_in_a_sentence(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier().fit(["x", "y"], labels)


def test_buffers_that_do_not_fit_are_refused() -> None:
    data = np.frombuffer(b"ab", np.uint8)
    for offsets in ([], [0, 3], [-1, 2], [1, 0]):
        with pytest.raises(ValueError, match="offsets must rise"):
            _core.fingerprints((np.array(offsets, np.int64), data))
    with pytest.raises(ValueError, match="n-grams must be 1 <= shortest"):
        features(["a"], ("unicode", (1, 9), None))
    with pytest.raises(ValueError, match="tokens must be"):
        features(["a"], ("bytes", (1, 2), None))


def test_a_long_text_and_a_long_word() -> None:
    text = "word " * 400_000 + "x" * 3_000_000
    found, _df, _, _, _, counts, *_ = features([text], WORDS)
    assert len(found) == 2
    assert sorted(counts.tolist()) == [1, 65535]  # counts stop there
    assert len(features([text], ("unicode", None, (2, 5)), "chars")[0]) > 5
