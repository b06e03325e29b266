"""The columns of a table: which hold the texts and labels, and what they may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.features import arrow_numbers, arrow_strings
from logitext.labels import is_list, split_cells

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

# What a column of texts or labels is usually called, the likeliest first.
TEXT_COLUMNS = (
    "text",
    "sentence",
    "content",
    "body",
    "message",
    "document",
    "title",
    "headline",
    "review",
    "question",
    "utterance",
    "query",
    "comment",
    "description",
    "tweet",
    "abstract",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "category",
    "class",
    "intent",
    "target",
    "topic",
    "sentiment",
    "language",
    "lang",
    "tag",
    "y",
)


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of a table.

    Parameters
    ----------
    texts : pa.LargeStringArray
        The texts; valid UTF-8, none null.
    labels : pa.Array or None
        The labels as strings, 64-bit integers or booleans, or lists of them where
        a text may have several; none null; None when they were not asked for.
    first_row : int
        The 0-based index of the first row among the data rows of the input.
    carried : pa.RecordBatch or None
        Further columns of the same rows, where they were asked for.
    faults : mapping of int to str
        What is wrong with rows, by their 0-based index in the input, and is to be no error.
    rows : int
        How many rows of the input these were, those left out included.
    kept : int array or None
        Which of those rows are here, where some were left out.
    void : bool array or None
        Which of the rows here have no text to answer: it is empty.
    """

    texts: pa.LargeStringArray
    labels: pa.Array | None
    first_row: int
    carried: pa.RecordBatch | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
    rows: int = 0
    kept: NDArray[np.int64] | None = None
    void: NDArray[np.bool_] | None = None

    def between(self, begin: int, end: int) -> Batch:
        """Return what is left of the batch if it has rows of the input from `begin` to before `end` alone."""
        begin = min(max(begin, self.first_row), self.first_row + self.rows)
        end = max(begin, min(end, self.first_row + self.rows))
        if end - begin == self.rows:
            return self
        inside = (begin - self.first_row, end - self.first_row)
        first, last = inside if self.kept is None else np.searchsorted(self.kept, inside).tolist()
        return Batch(
            self.texts.slice(first, last - first),
            None if self.labels is None else self.labels.slice(first, last - first),
            begin,
            None if self.carried is None else self.carried.slice(first, last - first),
            {row: why for row, why in self.faults.items() if begin <= row < end},
            end - begin,
            None if self.kept is None else self.kept[first:last] - inside[0],
            None if self.void is None else self.void[first:last],
        )

    def pieces(self, rows: int) -> Iterator[Batch]:
        """Return the batch in pieces of at most so many rows of the input."""
        for begin in range(self.first_row, self.first_row + self.rows, rows):
            yield self.between(begin, begin + rows)

    def numbers(self) -> NDArray[np.int64]:
        """Return the 0-based index of each row here among the data rows of the input."""
        return self.first_row + (np.arange(len(self.texts)) if self.kept is None else self.kept)


class EmptyTable(ValueError):
    """A table without rows, where some are needed."""


@dataclass(frozen=True)
class Wanted:
    """What to read, and what messages call the input."""

    source: str
    text: str | None
    label: str | None
    labelled: bool
    separator: str | None = None
    """A text may have several labels: lists, or strings to be cut here."""
    carried: pa.Schema | None = None
    """Further columns, and what they hold."""
    on_bad_row: Literal["error", "skip", "keep"] = "error"
    """What to do with a row that cannot be read or has no text."""
    may_be_empty: bool = False
    """Whether a table without rows is no error."""

    def error(self, what: str, because: Exception | None = None) -> ValueError:
        """One sentence, with the words of another error in brackets."""
        if because is not None:
            what += f" ({' '.join(str(because).split()).rstrip('.')})"
        return ValueError(f"{self.source}: {what}.")

    def empty(self, what: str) -> None:
        """Refuse a table without rows, unless it may be one."""
        if not self.may_be_empty:
            raise EmptyTable(str(self.error(what)))

    @property
    def lenient(self) -> bool:
        """Whether a bad row is no error."""
        return self.on_bad_row != "error"

    def batch(
        self,
        texts: pa.Array,
        labels: pa.Array | None,
        first_row: int,
        carried: Sequence[pa.Array] = (),
        faults: Mapping[int, str] | None = None,
    ) -> Batch:
        """Check and convert the columns of some rows.

        `faults` says what was found wrong with some of them, by their index among these: they are null.
        """
        if self.lenient:
            return self._lenient_batch(texts, first_row, carried, dict(faults or {}))
        texts = self._strings(texts, "text", first_row)
        if labels is None:
            return Batch(texts, None, first_row, self._carried(carried, first_row, {}), rows=len(texts))
        if is_list(labels.type):
            return Batch(texts, self._lists(labels, first_row), first_row)
        self._refuse_nulls(labels, "label", first_row)
        text = not (pa.types.is_integer(labels.type) or pa.types.is_boolean(labels.type))
        if self.separator is not None and text:
            cells = self._strings(labels, "label", first_row)
            return Batch(texts, split_cells(cells, self.separator), first_row)
        labels = self._one_type(labels, first_row)
        if self.separator is not None:
            each = arrow_numbers(np.arange(len(labels) + 1))
            labels = pa.LargeListArray.from_arrays(each, labels)
        return Batch(texts, labels, first_row)

    def _lenient_batch(
        self, texts: pa.Array, first_row: int, carried: Sequence[pa.Array], faults: dict[int, str]
    ) -> Batch:
        rows = len(texts)
        for row in np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist():
            faults.setdefault(row, f"the text of data row {first_row + row + 1} is missing")
        texts = self._checked(texts, "text", first_row, faults)
        columns = self._carried(carried, first_row, faults)
        bad = np.zeros(rows, np.bool_)
        bad[list(faults)] = True
        kept = void = None
        if self.on_bad_row == "skip" and faults:
            kept = np.flatnonzero(~bad)
            texts = texts.take(arrow_numbers(kept))
            columns = None if columns is None else columns.take(arrow_numbers(kept))
        elif faults:
            void = bad
            texts = pc.if_else(arrow_mask(~bad), texts, _EMPTY)
        found = {first_row + row: why for row, why in sorted(faults.items())}
        return Batch(texts, None, first_row, columns, found, rows, kept, void)

    def _carried(
        self, columns: Sequence[pa.Array], first_row: int, faults: dict[int, str]
    ) -> pa.RecordBatch | None:
        """The further columns as they are wanted."""
        if self.carried is None:
            return None
        converted = []
        for column, wanted in zip(columns, self.carried, strict=True):
            what = f"column {wanted.name!r}"
            if pa.types.is_large_binary(column.type) and pa.types.is_large_string(wanted.type):
                if self.lenient:
                    column = self._checked(column, what, first_row, faults)
                else:
                    column = self._text(column, what, first_row)
            elif _is_text(column.type) and wanted.name != self.text:
                column = self._valid(column, what, first_row, faults)
            if column.type != wanted.type:
                try:
                    column = column.cast(wanted.type)
                except pa.ArrowInvalid as error:
                    raise self.error(f"the {what} cannot be {wanted.type}", error) from error
            converted.append(column)
        return pa.RecordBatch.from_arrays(converted, schema=self.carried)

    def _valid(self, column: pa.Array, what: str, first_row: int, faults: dict[int, str]) -> pa.Array:
        """Strings as they are, if they are valid UTF-8; Arrow does not look when it reads them."""
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            check = self._checked if self.lenient else self._refused
            column = check(column, what, first_row, faults).cast(column.type)
        return column

    def _refused(self, column: pa.Array, what: str, first_row: int, _: dict[int, str]) -> pa.Array:
        return self._text(column, what, first_row)

    def _checked(
        self, column: pa.Array, what: str, first_row: int, faults: dict[int, str]
    ) -> pa.LargeStringArray:
        """Strings; what is none is empty, and found to be a fault."""
        column = _bytes(column)
        try:
            return column.cast(pa.large_string())
        except pa.ArrowInvalid:
            good = np.ones(len(column), np.bool_)
            for row, value in enumerate(column.to_pylist()):
                try:
                    (value or b"").decode()
                except UnicodeDecodeError:
                    good[row] = False
                    faults.setdefault(row, f"the {what} of data row {first_row + row + 1} is not valid UTF-8")
            return pc.if_else(arrow_mask(good), column, _EMPTY.cast(pa.large_binary())).cast(
                pa.large_string()
            )

    def _one_type(self, labels: pa.Array, first_row: int) -> pa.Array:
        """Labels as strings, 64-bit integers or booleans, none of them empty."""
        if pa.types.is_integer(labels.type):
            try:
                labels = labels.cast(pa.int64())
            except pa.ArrowInvalid:
                large = first_true(pc.greater(labels, pa.scalar((1 << 63) - 1, pa.uint64()))) or 0
                raise self.error(
                    f"the label of data row {first_row + large + 1} does not fit in a signed 64-bit integer"
                ) from None
        elif not pa.types.is_boolean(labels.type):
            labels = self._strings(labels, "label", first_row)
            empty = first_true(pc.equal(pc.binary_length(labels), arrow_numbers(np.zeros(1, np.int64))[0]))
            if empty is not None:
                raise self.error(f"the label of data row {first_row + empty + 1} is empty")
        return labels

    def _lists(self, lists: pa.Array, first_row: int) -> pa.LargeListArray:
        """Lists of strings, 64-bit integers or booleans, none of them null or empty."""
        self._refuse_nulls(lists, "list of labels", first_row)
        lists = lists.cast(pa.large_list(lists.type.value_type))
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = decoded(lists.flatten())
        null = first_true(flat.is_null()) if flat.null_count else None
        if null is not None:
            row = first_row + int(np.searchsorted(offsets, null, side="right"))
            raise self.error(f"the labels of data row {row} hold null: an empty list is for no label")
        if not pa.types.is_null(flat.type):
            try:
                flat = self._one_type(flat, 0)
            except ValueError:
                # Which row it is, the flat list does not know.
                for row, (begin, end) in enumerate(pairwise(offsets.tolist()), first_row):
                    for at in range(begin, end):
                        self._one_type(flat.slice(at, 1), row)
                raise
        return pa.LargeListArray.from_arrays(arrow_numbers(offsets), flat)

    def _refuse_nulls(self, column: pa.Array, what: str, first_row: int) -> None:
        if column.null_count:
            null = first_true(column.is_null())
            if null is not None:
                raise self.error(f"the {what} of data row {first_row + null + 1} is missing")

    def _strings(self, column: pa.Array, what: str, first_row: int) -> pa.LargeStringArray:
        self._refuse_nulls(column, what, first_row)
        return self._text(column, what, first_row)

    def _text(self, column: pa.Array, what: str, first_row: int) -> pa.LargeStringArray:
        column = _bytes(column)
        try:
            return column.cast(pa.large_string())
        except pa.ArrowInvalid:
            for row, value in enumerate(column, start=first_row + 1):
                try:
                    (value.as_py() or b"").decode()
                except UnicodeDecodeError as error:
                    raise self.error(f"the {what} of data row {row} is not valid UTF-8", error) from None
            raise


def _bytes(column: pa.Array) -> pa.LargeBinaryArray:
    """Strings as bytes, for a string array holds whatever bytes the file had."""
    if pa.types.is_large_binary(column.type):
        return column
    if not pa.types.is_binary(column.type):
        column = column.cast(pa.large_string())
    return column.cast(pa.large_binary())


def _is_text(kind: pa.DataType) -> bool:
    return str(kind) in {"string", "large_string", "string_view"}


def decoded(column: pa.Array) -> pa.Array:
    """The values of a column, written out where they were numbered."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


# Made of bits: pyarrow.scalar, and any Python value given to a kernel, imports pandas
# where that is installed, which takes 0.2 s.
TRUE = pa.BooleanArray.from_buffers(pa.bool_(), 1, [None, pa.py_buffer(b"\x01")])[0]


_EMPTY = arrow_strings([""])[0]


def arrow_mask(mask: NDArray[np.bool_]) -> pa.BooleanArray:
    """Wrap a NumPy array of booleans as an Arrow array."""
    return pa.BooleanArray.from_buffers(
        pa.bool_(), len(mask), [None, pa.py_buffer(np.packbits(mask, bitorder="little"))]
    )


def first_true(mask: pa.Array) -> int | None:
    """The index of the first true value."""
    index: int = pc.index(mask, TRUE).as_py()
    return None if index < 0 else index


def text_and_label(names: Sequence[str], wanted: Wanted) -> tuple[int, int | None]:
    """The positions of the columns of texts and labels."""
    if not wanted.labelled:
        if wanted.text is None and len(names) == 1:
            return 0, None
        return _column(names, wanted, "text", wanted.text, TEXT_COLUMNS, wanted.label), None
    if wanted.text is not None and wanted.text == wanted.label:
        raise wanted.error(f"the column {wanted.text!r} cannot be both the text and the label")
    text = _column(names, wanted, "text", wanted.text, TEXT_COLUMNS, wanted.label)
    return text, _column(names, wanted, "label", wanted.label, LABEL_COLUMNS, names[text])


def _column(
    names: Sequence[str],
    wanted: Wanted,
    what: str,
    given: str | None,
    usual: Sequence[str],
    taken: str | None,
) -> int:
    if given is not None:
        found = [index for index, name in enumerate(names) if name == given]
        if not found:
            raise wanted.error(
                f"no column is named {given!r}; give --{what} NAME with one of {_listed(names)}"
            )
        if len(found) > 1:
            raise wanted.error(f"{len(found)} columns are named {given!r}; rename all but one")
        return found[0]
    for candidate in usual:
        found = [i for i, name in enumerate(names) if name.lower() == candidate and name != taken]
        if len(found) > 1:
            among = _listed([names[index] for index in found])
            raise wanted.error(f"several columns may be the {what}; give --{what} NAME with one of {among}")
        if found:
            return found[0]
    raise wanted.error(f"no column is named like a {what}; give --{what} NAME with one of {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:30])
    if len(names) > 30:
        return f"{shown} and {len(names) - 30} more"
    return shown or "its columns (it has none)"
