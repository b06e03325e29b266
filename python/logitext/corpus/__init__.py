"""Corpora: many files in, a folder of answers out, begun again where it stopped.

inputs      which files, what state they are in, how a large one is cut
job         what is asked of every row
conditions  a filter over columns; masks: what it comes to
ahead       reading ahead; work side by side, handed on in order
answered    rows that were read → rows that are answered
parts       answered rows → part files, whole or not at all
folder      the folder they are in: its plan, its lock, which parts are there
quantiles   the score that a share of all rows reaches; kll: a sketch's bytes, checked
top         the rows that reach it
samples     rows to look at, of every stratum of scores
run         all of it, on the threads of this machine
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from logitext.corpus.run import Engine, Outcome

__all__ = ["predict_corpus"]


def predict_corpus(
    model: Any,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    text: str | None = None,
    input_format: str | None = None,
    prefix: str = "",
    probability_of: Sequence[str] = (),
    keep: str | None = None,
    keep_top: float | None = None,
    by: str | None = None,
    sketched: bool = False,
    sample: int = 0,
    on_bad_row: Literal["error", "skip", "keep"] = "error",
    on_bad_file: Literal["error", "skip"] = "error",
    format: Literal["parquet", "jsonl"] = "parquet",
    engine: Engine | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, int, int], None] | None = None,
    **answers: Any,
) -> Outcome:
    """Answer the texts of many files, and write the rows with their answers to a folder.

    Memory does not grow with the files. What was written is not lost when the job is stopped or killed: the
    same call goes on where it was, and the output is the same bytes as if it had never stopped.

    Parameters
    ----------
    model : TextClassifier, path, or mapping of name to such
        Of several the first names its answers as ever, the others put their name before: ``NAME_label``.
        A text is read once for all of them.
    inputs : path, or several
        Files, folders, patterns, and addresses that fsspec knows (``s3://…``), of Parquet, JSON Lines, CSV
        or lines. Their columns must be the same.
    output : path
        A folder: new, empty, or begun by the same call. Each part holds rows of one input, in their
        order; the names of parts sort as the inputs do.
    columns : list of str, optional
        Which columns of the input to carry along; all by default.
    text, input_format : str, optional
        The column of texts, the format; by default what the names say.
    prefix : str
        Before the names of the first model's answers, where they are taken.
    probability_of : list of str
        Labels whose probability is a column of its own: ``p(LABEL)``.
    keep : str, optional
        A condition over columns and answers: ``p(hq) > 0.9 and language == "en"``. Other rows are left out.
    keep_top : float, optional
        Keep this share, in (0, 1], of the rows that `keep` lets through: those with the highest scores, and
        all that have the lowest of these scores.
    by : str, optional
        The column, of the input or of answers, that is the score.
    sketched : bool, default False
        Find the lowest score by a sketch, to within its rank error, instead of exactly.
    sample : int, default 0
        Rows to look at, of each tenth of the scores' range from 0 to 1: ``_logitext/sample.jsonl``.
    on_bad_row : {"error", "skip", "keep"}, default "error"
        A row that cannot be read or has no text ends the job, is left out, or is kept without answers; the
        last two are listed in ``_logitext/bad_rows.jsonl``.
    on_bad_file : {"error", "skip"}, default "error"
        A file that cannot be read to its end ends the job, or is left out with all its rows.
    format : {"parquet", "jsonl"}, default "parquet"
    engine : Engine, optional
        Who does it: `logitext.ray.Engine`, or by default the threads of this machine.
    threads : int or None
        None: the CPUs this process may use.
    overwrite : bool, default False
        Begin again, whatever is there of an earlier run.
    progress : callable, optional
        Called with rows, bytes of text, bytes of files that are done, and bytes of files in all.
    **answers
        What else is answered: ``logits``, ``probabilities``, ``top_k``, ``threshold``, ``max_error``,
        ``coverage``, ``novelty``, as the command line has them.

    Returns
    -------
    Outcome
        Counts of rows; inputs that failed; the lowest score that was kept.

    Raises
    ------
    ValueError
        If the folder holds something else or was begun otherwise, a model cannot answer what is asked, a
        column is missing or its name taken; of a bad row or file, unless they are passed over.
    OSError
        If the output cannot be written, or another job is writing to it.

    Examples
    --------
    >>> import logitext as lt
    >>> from pathlib import Path
    >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
    >>> _ = Path("films.jsonl").write_text('{"id": 1, "text": "a good one"}\\n{"id": 2, "text": "bad"}\\n')
    >>> done = lt.predict_corpus(clf, "films.jsonl", "kept", keep="p(yes) > 0.5")
    >>> done.rows, done.kept
    (2, 1)
    >>> import pyarrow.parquet as pq
    >>> pq.read_table("kept").column_names
    ['id', 'text', 'label', 'probability', 'p(yes)']
    """
    # Not when logitext is imported: the formats of tables take a while.
    from logitext.corpus.job import Job
    from logitext.corpus.run import run_corpus

    job = Job(
        asked={**answers, "shares_of": tuple(probability_of)},
        columns=None if columns is None else tuple(columns),
        text=text,
        input_format=input_format,
        prefix=prefix,
        keep=keep,
        keep_top=keep_top,
        by=by,
        sketched=sketched,
        sample=sample,
        on_bad_row=on_bad_row,
        on_bad_file=on_bad_file,
        format=format,
    )
    models = model if isinstance(model, Mapping) else {"model": model}
    return run_corpus(
        models, inputs, output, job, engine=engine, threads=threads, overwrite=overwrite, progress=progress
    )
