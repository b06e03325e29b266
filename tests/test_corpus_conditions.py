"""Conditions over columns: by hand, against plain Python row by row, and what is refused."""

import contextlib
import math
import operator
import pickle
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logitext.corpus.conditions import DEEPEST, Condition, column_name

ROWS = pa.RecordBatch.from_pydict(
    {
        "p(hq)": pa.array([0.95, 0.5, None, math.nan, 1.0], pa.float32()),
        "language": ["en", "de", None, "en", "zh"],
        "language_p(zh-Hant)": [0.1, 0.2, 0.3, 0.4, 0.9],
        "words": pa.array([10, 20, 30, None, 50], pa.int16()),
        "clean": [True, False, None, True, True],
        "labels": [["sports", "news"], [], None, ["news", None], ["sports"]],
        "numbers": pa.array([[1, 2], None, [], [3], [2]], pa.large_list(pa.uint8())),
        "meta.host": ["a.org", "b.org", "c.org", "", None],
        "ﬁlm": [1, 2, 3, 4, 5],
    }
)


def kept(text: str, batch: pa.RecordBatch = ROWS) -> list[int]:
    mask = Condition(text).mask(batch)
    assert isinstance(mask, pa.BooleanArray)
    assert (len(mask), mask.null_count) == (len(batch), 0)
    return [row for row, keep in enumerate(mask.to_pylist()) if keep]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("p(hq) > 0.9", [0, 4]),
        ("0.9 < p(hq)", [0, 4]),
        ("p(hq) >= 1", [4]),
        ("0.2 < p(hq) <= 0.96", [0, 1]),
        ("not p(hq) > 0.9", [1, 3]),  # null is neither; NaN is not greater
        ("p(hq) == p(hq)", [0, 1, 4]),
        ("p(hq) != p(hq)", [3]),
        ("p(hq) < 1e999", [0, 1, 4]),
        ('p("hq") > .9 and language == "en"', [0]),
        ('p(hq) > .9 or language == "de"', [0, 1, 4]),
        ('p(hq) > .9 and (language == "de" or words == 10)', [0]),
        ('language in ["en", "zh"]', [0, 3, 4]),
        ('language not in ("en", "zh")', [1]),
        ("language in []", []),
        ("language not in []", [0, 1, 3, 4]),
        ("language is None", [2]),
        ("language is not None", [0, 1, 3, 4]),
        ("not (language is None)", [0, 1, 3, 4]),
        ('language == "en" or language is None', [0, 2, 3]),
        ('"e" in language', [0, 1, 3]),
        ('"e" not in language', [4]),
        ('language_p("zh-Hant") >= 0.4', [3, 4]),
        ("words in {10, 50, 50.0, 20.5}", [0, 4]),
        ("words not in [10, 1000000]", [1, 2, 4]),
        ("words > -1", [0, 1, 2, 4]),
        ("10 < words < +50 == words", []),
        ("clean", [0, 3, 4]),
        ("not clean", [1]),
        ("clean == False", [1]),
        ("clean in [False]", [1]),
        ('"sports" in labels', [0, 4]),
        ('"sports" not in labels', [1, 3]),
        ("labels is None", [2]),
        ("2 in numbers", [0, 4]),
        ("2.0 in numbers", [0, 4]),
        ("2.5 in numbers or -1 in numbers or 256 in numbers", []),
        ('column("meta.host") == "b.org"', [1]),
        ("ﬁlm > 3", [3, 4]),  # Python would call it film
        ("  ( words == 10 )  # the rest of a line\t", [0]),
    ],
)
def test_by_hand(text: str, rows: list[int]) -> None:
    assert kept(text) == rows
    assert kept(text, ROWS.slice(1)) == [row - 1 for row in rows if row]
    assert kept(text, ROWS.slice(0, 0)) == []


def test_columns_in_the_order_of_the_text() -> None:
    text = 'b > 1 and x_p(two) < p("a b") < 3 or column("é") in ["b"] or not a or "c" in b or p(1) > p(True)'
    assert Condition(text).columns == ("b", "x_p(two)", "p(a b)", "é", "a", "p(1)", "p(true)")


def test_equal_and_pickled_by_the_text() -> None:
    one = Condition(" a > 1 ")
    assert one == Condition("a > 1") != Condition("a > 2")
    assert (one == "a > 1", len({one, Condition("a > 1")})) == (False, 1)
    back = pickle.loads(pickle.dumps(one))
    assert (back, back.columns, repr(back)) == (one, ("a",), "Condition('a > 1')")


# -- against plain Python ----------------------------------------------------------

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
COMPARE |= {"==": operator.eq, "!=": operator.ne}
BIG = [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**63]
TYPES = {
    "i8": (pa.int8(), st.integers(-128, 127)),
    "i64": (pa.int64(), st.sampled_from([n for n in BIG if n < 2**63]) | st.integers(-3, 3)),
    "u64": (pa.uint64(), st.sampled_from([n for n in BIG if n >= 0]) | st.integers(0, 3)),
    "f16": (pa.float16(), st.floats(width=16)),
    "f32": (pa.float32(), st.floats(width=32)),
    "f64": (pa.float64(), st.floats() | st.sampled_from([float(n) for n in BIG])),
}
NUMBERS = st.one_of(
    st.sampled_from(BIG),
    st.integers(-3, 3),
    st.floats(-4, 4),
    st.sampled_from([0.1, 0.5, 1e300, 2.0**63, 2.0**64]),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_numbers_are_compared_by_value(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TYPES)))
    kind, values = TYPES[name]
    column = data.draw(st.lists(st.none() | values, max_size=5))
    number, sign = data.draw(NUMBERS), data.draw(st.sampled_from(sorted(COMPARE)))
    if name.startswith("f") and isinstance(number, int):
        number = int(float(number)) if float(number) < 2**64 else 0  # a float column is compared with floats
    batch = pa.RecordBatch.from_arrays([pa.array(column, kind)], ["x"])
    expected = [i for i, x in enumerate(column) if x is not None and COMPARE[sign](x, number)]
    assert kept(f"x {sign} {number!r}", batch) == expected
    mirrored = sign.replace("<", "?").replace(">", "<").replace("?", ">")
    assert kept(f"{number!r} {mirrored} x", batch) == expected
    if sign == "==":
        assert kept(f"x in [7, {number!r}]", batch) == [
            i for i, x in enumerate(column) if x is not None and (x in (7, number))
        ]


def truth(tree: Any, row: dict[str, Any]) -> bool | None:
    """Decide a condition of one row, with three values."""
    match tree:
        case ("not", inner):
            value = truth(inner, row)
            return None if value is None else not value
        case ("and" | "or" as word, *parts):
            values = [truth(part, row) for part in parts]
            strong = word == "or"
            return strong if strong in values else None if None in values else not strong
        case ("is", name):
            return row[name] is None
        case ("in", name, items):
            return None if row[name] is None else row[name] in items
        case ("holds", name, item):
            return None if row[name] is None else item in row[name]
        case (name, *pairs):
            return (
                truth(("and", *(("pair", name, *pair) for pair in pairs)), row)
                if name != "pair"
                else (None if row[pairs[0]] is None else COMPARE[pairs[1]](row[pairs[0]], pairs[2]))
            )
    raise AssertionError(tree)


def spelled(tree: Any) -> str:
    match tree:
        case ("not", inner):
            return f"not ({spelled(inner)})"
        case ("and" | "or" as word, *parts):
            return f" {word} ".join(f"({spelled(part)})" for part in parts)
        case ("is", name):
            return f"{name} is None"
        case ("in", name, items):
            return f"{name} in {items!r}"
        case ("holds", name, item):
            return f"{item!r} in {name}"
        case (name, (sign, value)):
            return f"{name} {sign} {value!r}"
    raise AssertionError(tree)


WORDS = st.sampled_from(["", "a", "b", "ab", "é", "日本"])
LEAVES = st.one_of(
    st.tuples(st.just("x"), st.tuples(st.sampled_from(sorted(COMPARE)), st.sampled_from([0, 1, 0.5]))),
    st.tuples(st.just("t"), st.tuples(st.sampled_from(sorted(COMPARE)), WORDS)),
    st.tuples(st.just("is"), st.sampled_from(["x", "t", "l"])),
    st.tuples(st.just("in"), st.just("t"), st.lists(WORDS)),
    st.tuples(st.just("in"), st.just("x"), st.lists(st.sampled_from([0, 1, 0.5]))),
    st.tuples(st.just("holds"), st.sampled_from(["t", "l"]), WORDS),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries(
    {
        "x": st.none() | st.sampled_from([0.0, 1.0, 0.5, math.nan]),
        "t": st.none() | WORDS,
        "l": st.none() | st.lists(WORDS, max_size=3),
    }
)
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


@settings(max_examples=300, deadline=None)
@given(
    TREES, st.lists(RECORDS, max_size=8), st.sampled_from(["plain", "large", "view", "dictionary", "runs"]),
    st.sampled_from(LISTS), st.integers(0, 3),
)  # fmt: skip
def test_against_plain_python(
    tree: Any, rows: list[dict[str, Any]], text_type: str, list_type: Any, skip: int
) -> None:
    columns = {name: [row[name] for row in rows] for name in ("x", "t", "l")}
    texts = pa.array(
        columns["t"], {"large": pa.large_string(), "view": pa.string_view()}.get(text_type, pa.string())
    )
    if text_type == "dictionary":
        texts = texts.dictionary_encode()
    if text_type == "runs":
        texts = pa.compute.run_end_encode(texts)
    lists = pa.array(columns["l"], list_type(pa.string()))
    batch = pa.RecordBatch.from_arrays([pa.array(columns["x"], pa.float64()), texts, lists], ["x", "t", "l"])
    expected = [i for i, row in enumerate(rows[skip:]) if truth(tree, row)]
    assert kept(spelled(tree), batch.slice(min(skip, len(batch)))) == expected


# -- other types -------------------------------------------------------------------


def column(values: Any, kind: Any = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, kind)], ["x"])


def test_other_types() -> None:
    nulls = column([None, None], pa.null())
    for text in ("x > 1", 'x == "a"', "x", "not x", 'x in ["a"]', "x not in [1]", '"a" in x', "x == x"):
        assert kept(text, nulls) == []
    assert kept("x is None or x > 3", nulls) == [0, 1]
    money = column([Decimal("0.10"), Decimal("2.50"), None])
    assert (kept("x == 0.1", money), kept("x > 2", money)) == ([0], [1])
    coded = pa.RecordBatch.from_arrays(
        [pa.array([["a"], ["b"]], pa.list_(pa.dictionary(pa.int8(), pa.string())))], ["x"]
    )
    assert kept('"b" in x', coded) == [1]
    fixed = column([["a", "b"], None, ["c", "a"]], pa.list_(pa.string(), 2))
    assert (kept('"c" in x', fixed), kept('"c" not in x', fixed)) == ([2], [0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([2**53 + 1, 2]), pa.array([2**53, 1], pa.uint64())),
        (pa.array([2**64 - 1, 1], pa.uint64()), pa.array([-1, 0], pa.int8())),
        (pa.array([1, 2]), pa.array([0.5, 1.5])),
        (pa.array([0.5, 0.25], pa.float16()), pa.array([0.25, 0.1], pa.float32())),
        (pa.array([2**60, 2]), pa.array([0.5, 1.5])),
        (pa.array(["b", "c"]), pa.array(["a", "b"], pa.large_string())),
        (pa.array(["b", "c"]).dictionary_encode(), pa.array(["a", "b"], pa.string_view())),
    ],
)
def test_columns_with_each_other(one: pa.Array, other: pa.Array) -> None:
    batch = pa.RecordBatch.from_arrays([one, other], ["x", "y"])
    assert kept("x > y", batch) == kept("y < x", batch) == kept("x != y", batch) == [0, 1]
    assert kept("x <= y", batch) == kept("x == y", batch) == []


# -- what is refused ---------------------------------------------------------------


LISTS_OF_TEXT = "the column 'labels' is list<item: string>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrods > 1", "there is no column 'wrods'; the columns are 'p(hq)', 'language', "),
        ("language > 3", "the column 'language' is string and cannot be compared so with the number 3"),
        ("3 < language", "the column 'language' is string and cannot be compared so with the number 3"),
        ('p(hq) == "a"', "the column 'p(hq)' is float and cannot be compared so with the text 'a'"),
        ("words == True", "the column 'words' is int16 and cannot be compared so with the boolean True"),
        ("clean == 1", "the column 'clean' is bool and cannot be compared so with the number 1"),
        ("clean < True", "the column 'clean' is bool and cannot be compared so with the boolean True"),
        ("clean <= clean", "the column 'clean' is bool and cannot be compared so with 'clean', bool"),
        ("language == words", "the column 'language' is string and cannot be compared so with 'words', i"),
        ("language in [1, 2]", "the column 'language' is string and cannot be compared so with the number 1"),
        ('words in ["a"]', "the column 'words' is int16 and cannot be compared so with the text 'a'"),
        ("language and clean", "the column 'language' is string: compare it with something; only bool is"),
        ('labels == "sports"', f"{LISTS_OF_TEXT}: ask what its lists hold, as in 'sports' in labels"),
        ('labels in ["a"]', f"{LISTS_OF_TEXT}: ask what its lists hold, as in 'a' in labels"),
        ("1 in labels", f"{LISTS_OF_TEXT} and cannot be compared so with the number 1"),
        ("labels == labels", f"{LISTS_OF_TEXT} and cannot be compared so with 'labels', list"),
        ('"a" in words', "the column 'words' is int16 and cannot hold the text 'a'"),
        ("1 in language", "the column 'language' is string and cannot hold the number 1"),
    ],
)
def test_columns_that_do_not_fit(text: str, message: str) -> None:
    condition = Condition(text)
    for batch in (ROWS, ROWS.slice(0, 0)):
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
            condition.mask(batch)
        assert str(caught.value).startswith(message)


def test_types_that_cannot_be_compared() -> None:
    times = pa.RecordBatch.from_arrays([pa.array([0, None], pa.timestamp("us"))], ["x"])
    assert kept("x is not None", times) == [0]
    coded = column(["a"]).set_column(0, "x", pa.array(["a"]).dictionary_encode())
    for batch, kind in (
        (times, r"timestamp\[us\]"),
        (column([{"a": 1}]), "struct"),
        (coded, "dictionary<values=string"),
        (column([b"a"]), "binary"),
    ):
        with pytest.raises(
            ValueError, match=f"the column 'x' is {kind}.* cannot be compared so with the number 3"
        ):
            Condition("x > 3").mask(batch)
    twice = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    with pytest.raises(ValueError, match="2 columns are called 'x'; the columns are 'x', 'x'"):
        Condition("x > 1").mask(twice)
    many = pa.RecordBatch.from_pydict({str(i): [i] for i in range(1000)})
    with pytest.raises(ValueError, match=r"'19', \.\.\.\Z"):
        Condition("x > 1").mask(many)


HOLD = "a condition holds comparisons of columns"
REFUSED = [
    ("", "character 1, its end: invalid syntax"),
    ("   ", "character 1, its end: invalid syntax"),
    ("p(hq) >", "character 8, its end: invalid syntax"),
    ("(p(hq) > 1", "character 1, '(p(hq) > 1': '(' was never closed"),
    ("é > 1 and and", "character 11, 'and': invalid syntax"),
    ("x = 1", "invalid syntax"),
    ("x == 'a", 'character 6, "\'a": unterminated string literal'),
    ("x == '\\d'", "invalid escape sequence"),
    (
        "class > 3",
        'character 1, \'class > 3\': class is a word of Python: write column("class") or p("class")',
    ),
    ("y > 1 and p(from) > 3", "character 13, 'from) > 3': from is a word of Python"),
    ("é == 'ü' and x.y > 1", "character 14, 'x.y > 1': a column of such a name is written column(\"x.y\")"),
    ("x[0] > 1", "character 1, 'x[0] > 1': a column of such a name is written"),
    ("f(x) > 1", 'there are p(LABEL), NAME_p(LABEL) and column("NAME"), and no other functions'),
    ("grp(x) > 1", "there are p(LABEL)"),
    ("__import__('os').system('true')", HOLD),
    ("p(a.b) > 1", "character 3, 'a.b) > 1': a label is one word, or in quotes"),
    ("p(zh-Hant) > 1", "character 3, 'zh-Hant) > 1': a label is one word, or in quotes"),
    ("p(1.5) > 1", "a label is one word"),
    ("p() > 1", HOLD),
    ("p(a, b) > 1", HOLD),
    ("p(*a) > 1", "a label is one word"),
    ("p(x=a) > 1", HOLD),
    ("column(x) > 1", "there are p(LABEL)"),
    ("x == None", "character 6, 'None': compare with None by `is None`"),
    ("x is True", "`is` is for a column and None"),
    ("None is None", "compare with None by"),
    ("1 is None", "`is` is for a column and None"),
    ("1 < 2", "character 1, '1 < 2': a comparison needs a column on one side"),
    ("0 < 1 < x", "a comparison needs a column on one side"),
    ("1 in [1]", "`in` asks whether a column is among"),
    ("x in [y]", "`in` asks whether a column is among"),
    ("x in [None]", "compare with None by"),
    ("x in [1, 'a']", "a list must hold numbers, text or booleans alone"),
    ("x in [1, True]", "a list must hold numbers, text or booleans alone"),
    ("x in y", "`in` needs a list"),
    ("x in 'abc'", "`in` needs a list"),
    *((text, HOLD) for text in ("True", "1", "-x > 1", "x > --1", "x > 1j", "x > b'a'", "x > ...")),
    *((text, HOLD) for text in ("x + 1 > 2", "(x > 1) == True", "x if y else z", "lambda: x", "(x := 1)")),
    *((text, HOLD) for text in ("[x for x in y]", "f'{x}' == y", "x, y", "(await x) > 1", "{1: 2} > x")),
    ("x > -True", "a sign is for numbers"),
    ("x > 18446744073709551616", "whole numbers go from"),
    ("x > -9223372036854775809", "down to -2"),
    ("x > 0x" + "f" * 400, "whole numbers go from"),
    ("x > " + "9" * 5000, "Exceeds the limit"),
    ("'\\ud800' == x", "no valid Unicode"),
    ("column('\\udfff') == 1", "no valid Unicode"),
    ("x > 1\nor y > 2", "must be one line"),
    ("x > 1\0", "must be one line"),
    ("x == '\ud800'", "must be one line"),
    ("x > 1 or " * 2000 + "x > 1", "a condition must be one line of text of up to 10,000 characters"),
    ("(" * 100_000 + "x > 1" + ")" * 100_000, "up to 10,000 characters"),
    ("(" * 1000 + "x > 1" + ")" * 1000, "too many nested parentheses"),
    ("not " * 2000 + "x", "nested too deeply"),
    ("-" * 9000 + "1 > x", "nested too deeply"),
    ("x" + ".a" * 4000 + " > 1", "nested too deeply"),
    ("not " * DEEPEST + "x", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_condition(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
        Condition(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, b"x > 1", ["x"]])
def test_a_condition_is_text(value: Any) -> None:
    with pytest.raises(ValueError, match="a condition must be one line of text"):
        Condition(value)


def test_as_deep_as_may_be() -> None:
    batch = column([True, False])
    assert kept("not " * (DEEPEST - 2) + "x", batch) == [0]
    assert kept(" or ".join(["x"] * 1500), batch) == [0]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="px()'\"<>=!.,01 andornti[]-_é\\:", max_size=40) | st.text(max_size=40))
@example("p(")
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        Condition(text).mask(ROWS)


# -- one column --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("novelty", "novelty"),
        ("p(hq)", "p(hq)"),
        (" en_p('a b') ", "en_p(a b)"),
        ('column("p(hq)")', "p(hq)"),
        ("p", "p"),
        ("ﬁlm", "ﬁlm"),
    ],
)
def test_the_name_of_one_column(text: str, name: str) -> None:
    assert column_name(text) == name


@pytest.mark.parametrize("text", ["3", "'a'", "p(hq) > 1", "p(hq), x", "", "not x", "x y", "p(", None])
def test_what_names_no_column(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\A(the column cannot be read|a column must be one line)[^\n]*\Z"):
        column_name(text)
