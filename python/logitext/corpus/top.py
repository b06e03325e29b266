"""The rows with the highest scores of all: first every score, then the rows they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from logitext.columns import Batch
from logitext.corpus.ahead import read_ahead
from logitext.corpus.folder import Folder
from logitext.corpus.inputs import Span
from logitext.corpus.job import Job
from logitext.corpus.parts import AHEAD, ROW, SCORE, Counted, Part, Record, Tell, rows_of, written
from logitext.corpus.quantiles import ScoreSketch, exact_threshold
from logitext.features import arrow_numbers, buffers
from logitext.streams import Position

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["choose_span", "threshold_of"]


def threshold_of(job: Job, folder: Folder) -> dict[str, Any]:
    """Return the score from which on rows are kept, and how it was found.

    Raises
    ------
    ValueError
        If no row has a score.
    """
    assert job.keep_top is not None, "all rows are kept"
    names = [folder.scored / record["part"] for record in folder.records if record["kind"] == "scored"]

    def read() -> Iterator[NDArray[np.float64]]:
        for name in sorted(names):
            with pq.ParquetFile(name) as file:
                for batch in file.iter_batches(columns=[SCORE], use_threads=False):
                    yield batch.column(0).to_numpy()

    if not any(record["kept"] for record in folder.records if record["kind"] == "scored"):
        return {"score": None, "rank_error": 0.0}  # nothing fulfils the condition
    if not job.sketched:
        score, _ = exact_threshold(read, job.keep_top)
        return {"score": float(score), "rank_error": 0.0}
    sketch = ScoreSketch()
    for scores in read():
        sketch.add(scores)
    return {"score": float(sketch.threshold_of_top(job.keep_top)), "rank_error": sketch.rank_error}


def choose_span(
    job: Job,
    span: Span,
    scored: list[Path],
    threshold: float,
    place: Path,
    ours: Path,
    *,
    begin: int = 0,
    tell: Tell = lambda rows, text, file: None,
) -> Iterator[Record]:
    """Write the rows of a span whose score is high enough, with the answers they were given.

    Parameters
    ----------
    job, span
    scored : list of Path
        Answers of the span in the order of its rows.
    threshold : float
    place, ours, begin, tell
        As for `logitext.corpus.parts.answer_span`.

    Yields
    ------
    dict
        The record of each part, once it is written.
    """
    position = Position(size=span.bytes)
    with closing(read_ahead(rows_of(job, span, begin, position), AHEAD)) as batches:
        with pq.ParquetFile(scored[0]) as file:
            answers = file.schema_arrow.remove_metadata()
        chosen = _joined(job, batches, _high(scored, threshold, begin), answers)
        yield from written(chosen, job, span, place, ours, told=Counted(tell, span, position))


def _high(scored: list[Path], threshold: float, begin: int) -> Iterator[pa.RecordBatch]:
    """The answers whose score is high enough, of rows from `begin` on."""
    for path in scored:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(use_threads=False):
                scores, rows = (batch.column(name).to_numpy() for name in (SCORE, ROW))
                at = np.flatnonzero((scores >= threshold) & (rows >= begin))
                if len(at):
                    yield batch.take(arrow_numbers(at))


def _joined(
    job: Job, batches: Iterator[Batch], scored: Iterator[pa.RecordBatch], answers: pa.Schema
) -> Iterator[Part]:
    """Rows that were read together with their answers; both come in the order of the rows."""
    held = next(scored, None)
    for batch in batches:
        end = batch.first_row + batch.rows
        found = []
        while held is not None:
            count = int(np.searchsorted(held.column(ROW).to_numpy(), end))
            found.append(held.slice(0, count))
            if count < held.num_rows:
                held = held.slice(count)
                break
            held = next(scored, None)
        offsets, _ = buffers(batch.texts)
        size = int(offsets[-1] - offsets[0])
        table = _beside(job, batch, found, answers)
        yield Part(table, batch.first_row, end, size, dict(batch.faults))


def _beside(job: Job, batch: Batch, found: list[pa.RecordBatch], answers: pa.Schema) -> pa.RecordBatch:
    """The rows of a batch that have answers, and these beside them."""
    table = pa.Table.from_batches(found, schema=answers).combine_chunks()
    rows = table.column(ROW).to_numpy()
    names = answers.names[2:]
    columns = [table.column(name).combine_chunks() for name in names]
    carried = []
    if batch.carried is not None:
        at = arrow_numbers(np.searchsorted(batch.numbers(), rows))
        carried = [batch.carried.column(name).take(at) for name in job.written]
    return pa.RecordBatch.from_arrays([*carried, *columns], names=[*job.written, *names])
