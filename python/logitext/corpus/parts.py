"""Answered rows → part files: each holds rows of one input, and is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from logitext.answers import Asked, rows_at_once
from logitext.columns import Batch
from logitext.corpus.ahead import in_order, read_ahead
from logitext.corpus.answered import Answered, answered
from logitext.corpus.folder import FAULTS
from logitext.corpus.inputs import BadFile, Span
from logitext.corpus.job import Job
from logitext.corpus.samples import Sample
from logitext.features import arrow_numbers, buffers
from logitext.files import replacing
from logitext.streams import Position
from logitext.tables import format_of, read
from logitext.writing import open_writer

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["BATCH_BYTES", "PART_BYTES", "Part", "answer_span", "part_name", "rows_of"]

BATCH_BYTES = 2 << 20
"""Read, answered and handed on at once."""
PART_BYTES = 128 << 20
"""Text after which a part ends: so much is done again after a kill."""
PART_ROWS, PART_FAULTS = 1 << 22, 1 << 16
"""Rows, and bad rows, after which it ends, however little text they have."""
AHEAD = 2
"""Batches that are read before they are asked for."""

Record = dict[str, Any]
Tell = Callable[[int, int, int], None]
"""Told rows, bytes of text, and bytes of the file that are done."""


@dataclass(frozen=True)
class Part:
    """Some rows to write: a table, and which rows of the input it accounts for."""

    table: pa.RecordBatch
    begin: int
    end: int
    text_bytes: int
    faults: dict[int, str]
    answered: Answered | None = None


def part_name(input_number: int, begin: int, format: str) -> str:
    """Return the name of the part that begins with a row of an input: names sort as the rows do."""
    return f"part-{input_number:07}-{begin:012}.{format}"


def rows_of(job: Job, span: Span, begin: int, position: Position) -> Iterator[Batch]:
    """Read the rows of a span from one of them on.

    Raises
    ------
    BadFile
        If they cannot be read.
    """
    named = format_of(span.path, job.input_format) in ("csv", "tsv", "jsonl", "parquet")
    how: dict[str, Any] = {"text": job.text if named else None, "format": job.input_format}
    how |= {"on_bad_row": job.on_bad_row, "may_be_empty": True}
    batches = read(
        span.path,
        **how,
        labelled=False,
        batch_bytes=BATCH_BYTES,
        carried=job.read,
        groups=span.groups,
        position=position,
    )
    try:
        for batch in batches:
            if batch.first_row + batch.rows > begin:
                yield batch.between(begin, batch.first_row + batch.rows)
    except (ValueError, OSError, MemoryError, pa.ArrowException) as error:
        system = error.strerror if isinstance(error, OSError) else None
        sentence = f"{span.path}: {system}" if system else str(error) or type(error).__name__
        raise BadFile(sentence if span.path in sentence else f"{span.path}: {sentence}") from error


def answer_span(
    job: Job,
    every: Sequence[Asked],
    span: Span,
    place: Path,
    ours: Path,
    executor: Executor,
    *,
    begin: int = 0,
    most: int = 4,
    scores_only: bool = False,
    limits: Any = None,
    tell: Tell = lambda rows, text, file: None,
) -> Iterator[Record]:
    """Answer the rows of a span, from one of them on, and write them as parts.

    Parameters
    ----------
    job, every, span
        What, by whom, of which rows.
    place, ours : Path
        The folders of the parts, and of the lists of bad rows.
    executor : Executor
        Threads that answer batches.
    begin : int
        The first row: those before are done.
    most : int
        Batches that are answered or wait for it at once.
    scores_only : bool
        Write answers and numbers of the rows, without columns of the input.
    limits : optional
        Of `Sample`: what cannot be in the sample any more.
    tell : callable

    Yields
    ------
    dict
        The record of each part, once it is written.

    Raises
    ------
    BadFile
        If the input cannot be read.
    OSError
        If a part cannot be written.
    """
    position = Position(size=span.bytes)

    def work(batch: Batch) -> Part:
        done = answered(job, every, batch, 1)
        table = _scores_alone(job, done) if scores_only else done.table
        offsets, _ = buffers(batch.texts)
        end = batch.first_row + batch.rows
        return Part(table, batch.first_row, end, int(offsets[-1] - offsets[0]), dict(batch.faults), done)

    rows = rows_of(job, span, begin, position)
    with closing(read_ahead(rows, AHEAD)) as batches:
        pieces = (piece for batch in batches for piece in batch.pieces(rows_at_once(every)))
        tables = in_order(work, pieces, executor, most)
        seen = partial(Seen, job, span, limits)
        told = Counted(tell, span, position)
        yield from written(tables, job, span, place, ours, seen=seen, told=told)


def written(
    tables: Iterator[Part],
    job: Job,
    span: Span,
    place: Path,
    ours: Path,
    *,
    seen: Callable[[], Seen] | None = None,
    told: Counted,
) -> Iterator[Record]:
    """Write tables as parts and give the record of each."""
    kind, format = ("scored", "parquet") if ours == place.parent else ("part", job.format)
    part = next(tables, None)
    while part is not None:
        name = part_name(span.input, part.begin, format)
        record: Record = {
            "kind": kind,
            "part": name,
            "input": span.input,
            "span": span.begin,
            "begin": part.begin,
        }
        rows = text_bytes = table_bytes = kept = 0
        faults: dict[int, str] = {}
        scores = None if seen is None else seen()
        with open_writer(place / name) as writer:
            while part is not None:
                if part.table.num_rows or not kept:
                    writer.write(_for_json(part.table) if format == "jsonl" else part.table)
                    table_bytes += part.table.nbytes
                if scores is not None:
                    scores.add(part)
                rows, kept = part.end - record["begin"], kept + part.table.num_rows
                text_bytes += part.text_bytes
                faults |= part.faults
                told(part.end - part.begin, part.text_bytes)
                end, part = part.end, next(tables, None)
                if max(text_bytes, table_bytes // 4) >= PART_BYTES:
                    break
                if rows >= PART_ROWS or len(faults) >= PART_FAULTS:
                    break
        if faults:
            _write_faults(ours / (Path(name).stem + FAULTS), span.path, faults)
        record |= {"end": end, "rows": rows, "kept": kept, "text_bytes": text_bytes, "faults": len(faults)}
        if part is None:
            told.end()
        yield record | {"last": part is None} | ({} if scores is None else scores.record())


class Seen:
    """Of the rows of a part, by their scores, some to look at."""

    def __init__(self, job: Job, span: Span, limits: Any) -> None:
        self.job, self.span, self.limits = job, span, limits
        self.sample = Sample(job.sample) if job.sample else None

    def add(self, part: Part) -> None:
        done = part.answered
        if done is None or done.scores is None:
            return
        if self.sample is not None:
            numbers, texts = done.batch.numbers(), done.batch.texts

            def records(rows: NDArray[Any]) -> list[dict[str, Any]]:
                places = ((at, int(numbers[at]) + 1) for at in rows.tolist())
                return [{"file": self.span.path, "row": row, "text": texts[at].as_py()} for at, row in places]

            self.sample.add(done.scores, self.span.input, numbers, records, self.limits)

    def record(self) -> Record:
        return {} if self.sample is None else {"sample": self.sample.to_json()}


def _for_json(table: pa.RecordBatch) -> pa.RecordBatch:
    """A table whose fractions JSON can hold: NaN and infinities are null there."""
    columns = [
        pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column
        for column in table.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def _scores_alone(job: Job, done: Answered) -> pa.RecordBatch:
    """Answers, and of each row its number in the input and its score."""
    assert done.scores is not None, "rows are chosen by a score"
    scores = done.scores if done.kept is None else done.scores[done.kept]
    answers = [name for name in done.table.schema.names if name not in job.looked_at]
    columns = [arrow_numbers(done.numbers), arrow_numbers(scores), *map(done.table.column, answers)]
    return pa.RecordBatch.from_arrays(columns, names=[ROW, SCORE, *answers])


ROW, SCORE = "logitext row", "logitext score"


def _write_faults(list_: Path, path: str, faults: dict[int, str]) -> None:
    with replacing(list_) as file:
        for row, why in sorted(faults.items()):
            said = {"file": path, "row": row + 1, "why": why}
            file.write(json.dumps(said, ensure_ascii=False).encode(errors="replace") + b"\n")


class Counted:
    """Tells how much of a span is done, its share of the file as well: all of it in the end."""

    def __init__(self, tell: Tell, span: Span, position: Position) -> None:
        self.tell, self.span, self.position = tell, span, position
        self.told = 0

    def __call__(self, rows: int, text_bytes: int) -> None:
        self._told(rows, text_bytes, self.position.bytes)

    def end(self) -> None:
        """Tell of the rest: what a file ends with may be no rows."""
        self._told(0, 0, self.span.bytes)

    def _told(self, rows: int, text_bytes: int, read: int) -> None:
        now = min(self.span.bytes, max(self.told, read))
        self.tell(rows, text_bytes, now - self.told)
        self.told = now
