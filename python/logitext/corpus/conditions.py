"""Which rows to keep: a condition over columns → a mask of each record batch."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Callable
from functools import reduce
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from logitext.corpus.masks import Column, Constant, among, boolean, compared, holding

__all__ = ["Condition", "column_name"]

MOST_CHARACTERS = 10_000
DEEPEST = 50
"""Conditions may come from strangers: deeper ones are refused before Python's stack is at its end."""

Truth = Callable[[pa.RecordBatch], pa.Array]
"""What gives true, false or null for each row."""

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
ALLOWED_WORDS = ("and", "or", "not", "in", "is", "None", "True", "False")
MAY_HOLD = "a condition holds comparisons of columns with numbers and text, joined by and, or, not"


class Condition:
    """A filter over columns, written like Python: ``p(hq) > 0.9 and language == "en"``.

    There are comparisons, also chained (``0.2 < p(hq) <= 0.8``), ``and``, ``or``, ``not``, parentheses,
    ``in`` and ``not in`` with a list (``language in ["en", "de"]``), with a column of lists
    (``"sports" in labels``) or of text (``"cookie" in text``: as a part of it), ``is None`` and ``is not
    None``. A name stands for the column of that name, ``p(hq)`` for ``p(hq)``, ``quality_p("very high")``
    for ``quality_p(very high)``, and ``column("any name")`` for names that cannot be written so. A column
    of booleans is a condition by itself. Nothing is executed.

    Parameters
    ----------
    text : str
        One line of up to 10,000 characters.

    Attributes
    ----------
    text : str
    columns : tuple of str
        The columns named, in the order of the text.

    Raises
    ------
    ValueError
        If it is no such condition; the message says at which character.

    Notes
    -----
    As in SQL, a comparison with null is neither true nor false, nor is its negation: such a row is not
    kept unless ``is None`` says so. NaN is unequal to everything and neither less nor greater. Numbers are
    compared by value, never rounded to the column's type: a float32 column is not equal to 0.1.

    Examples
    --------
    >>> from logitext.corpus.conditions import Condition
    >>> rows = {"p(hq)": [0.95, 0.99, 0.2, None], "language": ["en", "de", "en", "en"]}
    >>> condition = Condition('p(hq) > 0.9 and language == "en"')
    >>> condition.columns
    ('p(hq)', 'language')
    >>> condition.mask(pa.RecordBatch.from_pydict(rows)).to_pylist()
    [True, False, False, False]
    >>> Condition("p(hq) >")
    Traceback (most recent call last):
    ValueError: the condition cannot be read at character 8, its end: invalid syntax
    """

    def __init__(self, text: str) -> None:
        reader = _Reader(text)
        self.text = reader.text
        self._truth = reader.truth(reader.tree, DEEPEST)
        self.columns = tuple(dict.fromkeys(reader.columns))

    def mask(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Say of each row whether to keep it.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            One without rows is legal: it tells whether the condition fits the schema.

        Returns
        -------
        pyarrow.BooleanArray
            Without nulls.

        Raises
        ------
        ValueError
            If a column is missing, stands there twice, or is not of a type for what is asked of it.
        """
        return pc.fill_null(self._truth(batch), False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and self.text == other.text

    def __hash__(self) -> int:
        return hash((Condition, self.text))

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"

    def __reduce__(self) -> tuple[type[Condition], tuple[str]]:
        return Condition, (self.text,)


def column_name(text: str) -> str:
    """Return the one column that a text names, written as in a `Condition`.

    Raises
    ------
    ValueError
        If it is anything else than one column.

    Examples
    --------
    >>> from logitext.corpus.conditions import column_name
    >>> column_name("p(hq)"), column_name('language_p("zh-Hant")'), column_name('column("my score")')
    ('p(hq)', 'language_p(zh-Hant)', 'my score')
    """
    reader = _Reader(text, "column")
    found = reader.operand(reader.tree)
    if not isinstance(found, Column):
        reader.refuse(reader.tree, 'one column is wanted, such as novelty, p(LABEL) or column("NAME")')
    return found.name


class _Reader:
    """The text of a condition and its syntax tree, of which what is not allowed is refused."""

    def __init__(self, text: str, what: str = "condition") -> None:
        readable = isinstance(text, str) and len(text) <= MOST_CHARACTERS
        if not readable or re.search("[\0\r\n\ud800-\udfff]", text):
            raise ValueError(
                f"a {what} must be one line of text of up to {MOST_CHARACTERS:,} characters, "
                f"got {repr(text)[:80]}"
            )
        self.text, self.what = text.strip(), what
        self.columns: list[str] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an unknown escape in a string is a mistake
                self.tree = ast.parse(self.text, mode="eval").body
        except (RecursionError, MemoryError):
            raise ValueError(f"the {what} is nested too deeply") from None
        except SyntaxError as error:
            at = error.offset - 1 if error.offset else len(self.text)  # 0 stands for the end
            word = re.match(r"\w*", self.text[at:])
            if word is not None and keyword.iskeyword(word[0]) and word[0] not in ALLOWED_WORDS:
                self._refuse(
                    at, f'{word[0]} is a word of Python: write column("{word[0]}") or p("{word[0]}")'
                )
            self._refuse(at, error.msg.partition(":")[0])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and re.search("[\ud800-\udfff]", str(node.value)):
                self.refuse(node, "it is no valid Unicode")

    def _refuse(self, at: int, why: str) -> NoReturn:
        rest = self.text[at : at + 40]
        shown = repr(rest + "..." * (len(self.text) > at + 40)) if rest else "its end"
        raise ValueError(f"the {self.what} cannot be read at character {at + 1}, {shown}: {why}") from None

    def refuse(self, node: ast.AST, why: str = MAY_HOLD) -> NoReturn:
        self._refuse(len(self.text.encode()[: getattr(node, "col_offset", 0)].decode()), why)

    def truth(self, node: ast.expr, depth: int) -> Truth:
        """Translate what is true or false of a row."""
        if depth == 0:
            self.refuse(node, "it is nested too deeply")
        match node:
            case ast.BoolOp(op, values):
                join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
                parts = [self.truth(value, depth - 1) for value in values]
                return lambda batch: reduce(join, [part(batch) for part in parts])
            case ast.UnaryOp(ast.Not(), operand):
                inner = self.truth(operand, depth - 1)
                return lambda batch: pc.invert(inner(batch))
            case ast.Compare(left, ops, comparators):
                pairs = zip(ops, [left, *comparators], comparators, strict=False)
                tests = [self.comparison(op, one, other) for op, one, other in pairs]
                return lambda batch: reduce(pc.and_kleene, [test(batch) for test in tests])
        column = self.operand(node)
        if not isinstance(column, Column):
            self.refuse(node)
        return lambda batch: boolean(column, batch)

    def comparison(self, op: ast.cmpop, one: ast.expr, other: ast.expr) -> Truth:
        """Translate one of the comparisons of a chain."""
        left = self.operand(one)
        negated = isinstance(op, ast.NotIn | ast.IsNot)
        if isinstance(op, ast.Is | ast.IsNot):
            if not isinstance(left, Column) or not (isinstance(other, ast.Constant) and other.value is None):
                self.refuse(one, "`is` is for a column and None; use == for values")
            column = left
            test: Truth = lambda batch: pc.is_null(column.read(batch))  # noqa: E731
        elif isinstance(op, ast.In | ast.NotIn):
            test = self.membership(left, one, other)
        else:
            right, name = self.operand(other), COMPARISONS[type(op)]
            if not isinstance(left, Column) and not isinstance(right, Column):
                self.refuse(one, "a comparison needs a column on one side")
            test = lambda batch: compared(name, left, right, batch)  # noqa: E731
        return (lambda batch: pc.invert(test(batch))) if negated else test

    def membership(self, left: Column | Constant, one: ast.expr, other: ast.expr) -> Truth:
        if isinstance(other, ast.List | ast.Tuple | ast.Set):
            items = [self.operand(item) for item in other.elts]
            constants = [item for item in items if isinstance(item, Constant)]
            if not isinstance(left, Column) or len(constants) < len(items):
                self.refuse(one, "`in` asks whether a column is among numbers or texts")
            if len({constant.kind for constant in constants}) > 1:
                self.refuse(other, "a list must hold numbers, text or booleans alone")
            return lambda batch: among(left, constants, batch)
        lists = self.operand(other)
        if isinstance(left, Column) or not isinstance(lists, Column):
            self.refuse(other, '`in` needs a list such as ["en", "de"], or a column with a value before it')
        return lambda batch: holding(lists, left, batch)

    def operand(self, node: ast.expr) -> Column | Constant:
        """Translate a column or a value."""
        match node:
            case ast.Constant(str() | int() | float() as value):
                if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
                    self.refuse(node, "whole numbers go from -2**63 to 2**64 - 1; write one like 1e30")
                return Constant(value)
            case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, ast.Constant(int() | float() as value)):
                # True is an int to Python, and 2**63 fits only without its sign.
                if isinstance(value, bool) or (isinstance(value, int) and value > 1 << 63):
                    self.refuse(node, "a sign is for numbers down to -2**63")
                return Constant(-value if isinstance(sign, ast.USub) else value)
            case ast.Name():
                name = self.source(node)
            case ast.Call(ast.Name() as function, [argument], []):
                name = self.call(self.source(function), function, argument)
            case ast.Constant(None):
                self.refuse(node, "compare with None by `is None` or `is not None`")
            case ast.Attribute() | ast.Subscript():
                self.refuse(node, f'a column of such a name is written column("{self.source(node)[:40]}")')
            case _:
                self.refuse(node)
        self.columns.append(name)
        return Column(name)

    def call(self, function: str, node: ast.expr, argument: ast.expr) -> str:
        text = argument.value if isinstance(argument, ast.Constant) else None
        if function == "column" and isinstance(text, str):
            return text
        if re.fullmatch(r"(\w+_)?p", function) is None:
            self.refuse(node, 'there are p(LABEL), NAME_p(LABEL) and column("NAME"), and no other functions')
        if isinstance(argument, ast.Name):
            text = self.source(argument)
        if isinstance(text, bool):
            text = str(text).lower()
        if not isinstance(text, str | int):
            self.refuse(argument, 'a label is one word, or in quotes: p("two words")')
        return f"{function}({text})"

    def source(self, node: ast.expr) -> str:
        # Not the name in the tree, which Python has normalised: columns are called what they are called.
        return self.text.encode()[node.col_offset : node.end_col_offset].decode()
