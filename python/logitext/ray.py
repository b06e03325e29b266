"""Corpora on Ray: the tasks of `logitext.predict_corpus` on a cluster, and answers for a Ray Dataset."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from logitext.answers import Asked, answers_of_many, rows_at_once
from logitext.classifier import TextClassifier, load
from logitext.columns import Batch
from logitext.corpus.answered import columns_answered
from logitext.corpus.inputs import BadFile
from logitext.corpus.job import Job
from logitext.corpus.parts import Record, Tell
from logitext.corpus.run import Task, perform
from logitext.features import as_column

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["Engine", "predict"]

RETRIES = 5
"""Times a task is begun again because its worker or node was lost."""
WAITING = 2
"""Tasks handed over for each CPU: one at work, one waiting."""
PATIENCE = 5.0
"""Seconds to wait for a cluster to take a connection."""


class Engine:
    """Performs the tasks of `logitext.predict_corpus` on Ray: a task for each span of the inputs.

    Inputs and output must have the same path on every node, on a shared file system, or be addresses. The
    models are put in the object store once and read there by all workers of a node, without a copy. What a
    lost node was working on is done again by another; the bytes written are those of a run on one machine.

    Parameters
    ----------
    address : str, optional
        Of the cluster: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``. By default the one this process is
        connected to, or a new one on this machine.
    num_cpus : float, default 1
        CPUs of a task.

    Raises
    ------
    ValueError
        If Ray is not installed.

    Examples
    --------
    >>> import logitext as lt, logitext.ray
    >>> engine = logitext.ray.Engine(address="head:6379")  # doctest: +SKIP
    >>> lt.predict_corpus("hq.safetensors", "/corpus/raw", "/corpus/hq", engine=engine)  # doctest: +SKIP
    """

    def __init__(self, address: str | None = None, *, num_cpus: float = 1) -> None:
        _ray()
        self.address, self.num_cpus = address, num_cpus

    def __call__(
        self,
        tasks: Sequence[Task],
        models: Mapping[str, TextClassifier],
        done: Callable[[Task, Record], None],
        failed: Callable[[Task, BadFile], None],
        tell: Tell,
    ) -> None:
        """Perform all tasks; see `logitext.corpus.run.Engine`."""
        ray = _ray()
        with _connected(self.address):
            remote = ray.remote(num_cpus=self.num_cpus, max_retries=RETRIES)(_perform)
            stored = ray.put(dict(models))
            most = max(1, round(WAITING * ray.cluster_resources().get("CPU", 1) / self.num_cpus))
            waiting = iter(tasks)
            running: dict[Any, Task] = {}
            try:
                while True:
                    while len(running) < most and (task := next(waiting, None)) is not None:
                        running[remote.remote(stored, task, os.getcwd())] = task
                    if not running:
                        return
                    ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                    for reference in ready:
                        task = running.pop(reference)
                        _told(_result(reference), task, done, failed, tell)
            finally:
                for reference in running:
                    ray.cancel(reference, force=True)


def _told(
    found: list[Record] | str,
    task: Task,
    done: Callable[[Task, Record], None],
    failed: Callable[[Task, BadFile], None],
    tell: Tell,
) -> None:
    if isinstance(found, str):
        failed(task, BadFile(found))
        return
    for record in found:
        done(task, record)
        tell(record["rows"], record["text_bytes"], 0)
    tell(0, 0, task.span.bytes)


def _perform(models: dict[str, TextClassifier], task: Task, folder: str) -> list[Record] | str:
    """On a worker: do a task; what is wrong with its input as a sentence."""
    if os.path.isdir(folder):
        os.chdir(folder)  # relative paths are those of whoever gave them
    every = task.job.models(models)
    try:
        with ThreadPoolExecutor(1) as executor:
            return list(perform(task, every, executor, 2, lambda rows, text, file: None))
    except BadFile as error:
        return str(error)


def _result(reference: Any) -> list[Record] | str:
    ray = _ray()
    try:
        found: list[Record] | str = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray gave a task up: {' '.join(str(error).split())[:500]}") from error
    return found


def predict(
    dataset: Dataset,
    model: Any,
    *,
    text: str = "text",
    probability_of: Sequence[str] = (),
    prefix: str = "",
    num_cpus: float = 1,
    batch_size: int | None = 4096,
    ray_remote_args: Mapping[str, Any] | None = None,
    **answers: Any,
) -> Dataset:
    """Add the answers to the texts of a Ray Dataset as columns, for a pipeline of your own.

    Parameters
    ----------
    dataset : ray.data.Dataset
    model : TextClassifier, path, or mapping of name to such
        As for `logitext.predict_corpus`. It is put in the object store once, and read there by all workers.
    text : str, default "text"
        The column of texts; a null text has null answers.
    probability_of, prefix, **answers
        As for `logitext.predict_corpus`.
    num_cpus : float, default 1
        CPUs of a task.
    batch_size : int or None, default 4096
        Rows answered at once; None for whole blocks.
    ray_remote_args : mapping, optional
        What else `Dataset.map_batches` takes.

    Returns
    -------
    ray.data.Dataset
        With the columns ``label``, ``probability`` and what was asked for.

    Raises
    ------
    ValueError
        If Ray is not installed, or the model cannot answer what is asked; while the dataset is computed, if
        there is no such column, or an answer has the name of one.

    Examples
    --------
    >>> import ray, logitext.ray  # doctest: +SKIP
    >>> pages = ray.data.read_parquet("s3://crawl/")  # doctest: +SKIP
    >>> logitext.ray.predict(pages, "hq.safetensors").filter(expr="probability > 0.9")  # doctest: +SKIP
    """
    ray = _ray()
    given = model if isinstance(model, Mapping) else {"model": model}
    models = {name: each if isinstance(each, TextClassifier) else load(each) for name, each in given.items()}
    job = Job(asked={**answers, "shares_of": tuple(probability_of)}, prefix=prefix)
    job.models(models)
    # In a list: a bare reference would be fetched for the driver's sake, and handed over with each task.
    how = {"stored": [ray.put(models)], "job": job, "text": text}
    work: Any = _answered
    return dataset.map_batches(
        work,
        batch_format="pyarrow",
        batch_size=batch_size,
        zero_copy_batch=True,
        fn_kwargs=how,
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
        **(ray_remote_args or {}),
    )


def _answered(table: pa.Table, stored: list[Any], job: Job, text: str) -> pa.Table:
    """On a worker: a table with the answers to its texts."""
    if text not in table.column_names:
        raise ValueError(
            f"no column is named {text!r}; there are {', '.join(map(repr, table.column_names[:30]))}"
        )
    every = job.models(_ray().get(stored[0]))
    texts = as_column(table.column(text), "texts")
    void = np.asarray(texts.is_null()) if texts.null_count else None
    texts = texts.cast(pa.large_string()).fill_null("")
    batch = Batch(texts, None, 0, rows=len(texts), void=void)
    parts = [columns_answered(every, piece, 1) for piece in batch.pieces(rows_at_once(every))]
    answers = pa.Table.from_batches(parts) if parts else pa.Table.from_batches([_none(every)])
    for name, column in zip(answers.column_names, answers.columns, strict=True):
        if name in table.column_names:
            raise ValueError(f"there is a column {name!r} already: give the answers a prefix")
        table = table.append_column(name, column)
    return table


def _none(every: Sequence[Asked]) -> pa.RecordBatch:
    return next(answers_of_many(every, pa.array([""], pa.large_string()), 1)).slice(0, 0)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster; what was not begun here is not ended here.

    Raises
    ------
    ConnectionError
        If it does not answer.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check_answers(address)
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        how["include_dashboard"] = False
    try:
        ray.init(address=address, **how)
    except Exception as error:  # of many kinds
        raise ConnectionError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Find out within seconds what Ray would wait for a minute for."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # auto, local: Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster at {address}: {error}") from error


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ValueError("Ray is not installed: pip install 'logitext[ray]'") from None
    return ray
