"""What is asked of every row of a corpus: as much as a worker on another machine has to know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from logitext.answers import Asked, answers_of_many
from logitext.columns import Wanted, text_and_label
from logitext.corpus.conditions import Condition
from logitext.features import arrow_strings
from logitext.formats.picking import place_of
from logitext.tables import columns_of

if TYPE_CHECKING:
    from logitext.answering import Answering

__all__ = ["Job"]

FORMATS = ("parquet", "jsonl")


@dataclass(frozen=True)
class Job:
    """How the rows of a corpus are read, answered, chosen and written.

    Parameters
    ----------
    asked : dict
        What the models are asked; see `logitext.answers.answers`.
    columns : tuple of str or None
        Columns of the input that are carried along; None for all.
    text, input_format
        As for `logitext.tables.read`.
    prefix : str
        Before the names of the answers of the first model.
    keep : str or None
        A condition; rows that do not fulfil it are left out.
    keep_top : float or None
        The share of the rows with the highest scores that is kept, in (0, 1].
    by : str or None
        The column of the scores.
    sketched : bool
        Whether the score from which on rows are kept comes from a sketch of all scores, not from all of them.
    sample : int
        Rows to look at, of each tenth of the range of the scores.
    on_bad_row : {"error", "skip", "keep"}
    on_bad_file : {"error", "skip"}
    format : {"parquet", "jsonl"}
        Of the parts.
    """

    asked: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    text: str | None = None
    input_format: str | None = None
    prefix: str = ""
    keep: str | None = None
    keep_top: float | None = None
    by: str | None = None
    sketched: bool = False
    sample: int = 0
    on_bad_row: Literal["error", "skip", "keep"] = "error"
    on_bad_file: Literal["error", "skip"] = "error"
    format: Literal["parquet", "jsonl"] = "parquet"
    read: pa.Schema | None = None
    """Columns that are read beside the text; found by `settled`."""
    written: tuple[str, ...] = ()
    """Those of them that are carried along."""
    given: tuple[str, ...] = ()
    """All columns of the first file: what is looked at is first looked for there."""

    def __post_init__(self) -> None:
        if self.keep_top is not None and not 0 < self.keep_top <= 1:
            raise ValueError(f"keep_top must be in (0, 1], got {self.keep_top}")
        if (self.keep_top is not None or self.sample) and self.by is None:
            raise ValueError(
                "the rows to keep or to look at are chosen by a score: say which column, with by"
            )
        if self.by is not None and self.keep_top is None and not self.sample:
            raise ValueError("by names a score, which only keep_top and sample look at")
        if self.sketched and self.keep_top is None:
            raise ValueError("a sketch finds the lowest score of keep_top, and that is not asked for")
        if self.sample < 0:
            raise ValueError(f"sample must be at least 0, got {self.sample}")
        if self.format not in FORMATS:
            raise ValueError(f"a folder is written as {' or '.join(FORMATS)}, not {self.format!r}")

    @property
    def looked_at(self) -> list[str]:
        """The columns of the input that are read beside the text."""
        return [] if self.read is None else list(self.read.names)

    @cached_property
    def condition(self) -> Condition | None:
        """The rows to keep."""
        return None if self.keep is None else Condition(self.keep)

    @property
    def named(self) -> list[str]:
        """The columns that the condition and the score name."""
        condition = () if self.condition is None else self.condition.columns
        return list(dict.fromkeys([*condition, *([self.by] if self.by else [])]))

    def described(self) -> dict[str, Any]:
        """Return what decides the output, as JSON has it."""
        types = [f"{field.name}: {field.type}" for field in self.read or ()]
        said = asdict(replace(self, read=None)) | {"columns": self.written, "types": types}
        for name in ("read", "written", "given", "on_bad_file"):
            del said[name]
        asked = said.pop("asked")
        found: dict[str, Any] = json.loads(json.dumps(said | asked))
        return found

    def models(self, models: Mapping[str, Answering]) -> list[Asked]:
        """Return what each model is asked.

        Raises
        ------
        ValueError
            If a model cannot answer.
        """
        shares = tuple(self.asked.get("shares_of", ()))
        every = []
        for number, (name, model) in enumerate(models.items()):
            prefix = self.prefix if number == 0 else f"{name}_"
            own = self.shares(name if number else "", shares)
            asked = Asked(model, **{**self.asked, "shares_of": own}, prefix=prefix)
            asked.check()
            every.append(asked)
        return every

    def shares(self, name: str, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels whose probability a model is to give: asked for, or looked at by a condition."""
        prefix = f"{name}_" if name else self.prefix
        found = [
            column.removeprefix(prefix)[2:-1]
            for column in self.named
            if column.startswith(f"{prefix}p(") and column.endswith(")") and column not in self.given
        ]
        return tuple(dict.fromkeys((*(() if name else asked), *found)))

    def settled(self, first: str, models: Mapping[str, Answering]) -> Job:
        """Find out, from the first file, which columns are read and written.

        Raises
        ------
        ValueError
            If there is no such column, or an answer has the name of one.
        """
        there = columns_of(first, text=self.text, format=self.input_format, on_bad_row=self.on_bad_row)
        wanted = Wanted(first, self.text, None, False)
        text = there.names[text_and_label(there.names, wanted)[0]]
        chosen = there.names if self.columns is None else list(dict.fromkeys(self.columns))
        job = replace(self, text=text, given=tuple(there.names))
        answers = job.answer_columns(models)
        further = [name for name in self.named if name not in answers and name not in chosen]
        for name in (*chosen, *further):
            if name not in there.names:
                known = [*there.names[:30], *(answers[:30] if name in further else [])]
                raise ValueError(
                    f"{first}: no column is named {name!r}; there are {', '.join(map(repr, known))}"
                )
            place_of(name, there.names, wanted)
            if self.format == "jsonl" and pa.types.is_binary(there.field(name).type):
                raise ValueError(f"{first}: the column {name!r} holds bytes, which JSON cannot")
        taken = sorted({*chosen, *further} & {*answers})
        if taken:
            raise ValueError(
                f"{first}: has a column {taken[0]!r}, and so have the answers: "
                "give these a prefix with --prefix, or say which columns to carry along with --columns"
            )
        read = [there.field(name) for name in (*chosen, *further)]
        return replace(job, read=pa.schema(read), written=tuple(chosen))

    def answer_columns(self, models: Mapping[str, Answering]) -> list[str]:
        """Return the names of the columns of answers."""
        every = self.models(models)
        empty = next(answers_of_many(every, arrow_strings([""]), 1))
        return list(empty.schema.names)
