"""Rows that were read → rows that are answered and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.answers import Asked, answers_of_many
from logitext.columns import Batch
from logitext.corpus.job import Job
from logitext.features import arrow_numbers, arrow_strings

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["Answered", "answered", "columns_answered"]


@dataclass(frozen=True)
class Answered:
    """Some rows of an input: answered, and those that are not wanted left out."""

    batch: Batch
    table: pa.RecordBatch
    """Columns of the input, then answers."""
    numbers: NDArray[np.int64]
    """The 0-based index of each row in the input."""
    scores: NDArray[np.float64] | None
    """Of every row that was read, kept or not; NaN where there is none."""
    kept: NDArray[np.bool_] | None
    """Which of them fulfil the condition; None for all."""


def answered(job: Job, every: Sequence[Asked], batch: Batch, threads: int) -> Answered:
    """Answer the rows of a batch by all models, in one reading of the texts."""
    table = columns_answered(every, batch, threads)
    numbers = batch.numbers()
    scores = kept = None
    if job.by is not None:
        column = table.column(job.by)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise ValueError(f"the column {job.by!r} holds {column.type}: rows are ordered by a number")
        scores = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(
            zero_copy_only=False
        )
    if job.condition is not None:
        mask = job.condition.mask(table)
        kept = mask.to_numpy(zero_copy_only=False)
        table, numbers = table.filter(mask), numbers[kept]
    answers = [name for name in table.schema.names if name not in job.looked_at]
    return Answered(batch, table.select([*job.written, *answers]), numbers, scores, kept)


def columns_answered(every: Sequence[Asked], batch: Batch, threads: int) -> pa.RecordBatch:
    """Return the carried columns of a batch and the answers to its texts; null for rows that have none.

    The batch has at most as many rows as `rows_at_once` of the models.
    """
    if len(batch.texts):
        answers = next(answers_of_many(every, batch.texts, threads))
    else:
        answers = next(answers_of_many(every, arrow_strings([""]), threads)).slice(0, 0)
    if batch.void is not None and batch.void.any():
        rows = arrow_numbers(np.arange(len(batch.texts)), batch.void)
        answers = pa.RecordBatch.from_arrays(
            [column.take(rows) for column in answers.columns], names=answers.schema.names
        )
    carried = batch.carried
    if carried is None:
        return answers
    return pa.RecordBatch.from_arrays(
        [*carried.columns, *answers.columns], names=[*carried.schema.names, *answers.schema.names]
    )
