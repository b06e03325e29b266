"""Corpora on Ray: the tasks of `logitext.predict_corpus` on a cluster, and answers for a Ray Dataset."""

from __future__ import annotations

import os
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from logitext import _core
from logitext.addresses import is_address
from logitext.answering import Answering
from logitext.answers import rows_at_once
from logitext.classifier import load
from logitext.columns import Batch
from logitext.corpus.answered import columns_answered
from logitext.corpus.inputs import BadFile
from logitext.corpus.job import Job
from logitext.corpus.parts import Record, Tell
from logitext.corpus.run import Task, perform
from logitext.features import arrow_strings, as_column

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["Engine", "predict"]

TRIES = 5
"""Times a task is begun again without a part in between, because its worker or node was lost."""
WAITING = 2
"""Tasks handed over for each CPU: one at work, one waiting."""
PATIENCE = 4.0
"""Seconds to wait for a cluster to answer, and for workers to end what they were told to."""


class Engine:
    """Performs the tasks of `logitext.predict_corpus` on Ray: a task for each span of the inputs.

    Inputs must be addresses or have the same path on every node; the output folder must be on a file system
    that all nodes share. The models are put in the object store once and read there by all workers of a node,
    without a copy. A part is known as soon as it is written: of what a lost worker or node was doing only the
    part at hand is done again by another. The bytes written are those of a run on one machine.

    Parameters
    ----------
    address : str, optional
        Of the cluster: ``HOST:PORT``, or ``auto`` for the one this machine belongs to. By default that of the
        variable ``RAY_ADDRESS``, else a new one on this machine, as long as it is needed. Who is connected to
        Ray already stays so, and uses that.
    num_cpus : float, default 1
        CPUs of a task.

    Raises
    ------
    ValueError
        If Ray is not installed, or the address is one of Ray Client.
    ConnectionError
        If no cluster answers there.

    Examples
    --------
    >>> import logitext as lt, logitext.ray
    >>> engine = logitext.ray.Engine(address="head:6379")  # doctest: +SKIP
    >>> lt.predict_corpus("hq.safetensors", "/corpus/raw", "/corpus/hq", engine=engine)  # doctest: +SKIP
    """

    def __init__(self, address: str | None = None, *, num_cpus: float = 1) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.num_cpus = num_cpus
        if not _ray().is_initialized():
            _check_answers(self.address)

    def __call__(
        self,
        tasks: Iterator[Task],
        models: Mapping[str, Answering],
        done: Callable[[Task, Record], None],
        failed: Callable[[Task, BadFile], None],
        tell: Tell,
    ) -> None:
        """Perform all tasks; see `logitext.corpus.run.Engine`."""
        ray = _ray()
        with _connected(self.address):
            # Retries are ours: Ray would begin again with the first part.
            how = {"num_cpus": self.num_cpus, "max_retries": 0, "num_returns": "streaming"}
            remote, stored = ray.remote(**how)(_perform), ray.put(dict(models))
            fresh = (_Left(task, task.span.bytes) for task in tasks)
            waiting, running = deque[_Left](), dict[Any, _Left]()
            try:
                while True:
                    while len(running) < self._most():
                        left = waiting.popleft() if waiting else next(fresh, None)
                        if left is None:
                            break
                        running[remote.remote(stored, left.task, os.getcwd(), _core.__version__)] = left
                    if not running:
                        return
                    ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                    for stream in ready:
                        try:
                            found = ray.get(next(stream))
                        except StopIteration:
                            tell(0, 0, running.pop(stream).bytes)
                        except ray.exceptions.RayTaskError:
                            raise
                        except ray.exceptions.RayError as error:
                            waiting.appendleft(running.pop(stream).again(error))
                        else:
                            running[stream] = _told(found, running[stream], done, failed, tell)
            finally:
                _end(list(running))

    def _most(self) -> int:
        """Tasks to hand over; asked each time, for a cluster may grow by what waits."""
        cpus: float = _ray().cluster_resources().get("CPU", 1)
        return max(1, round(WAITING * cpus / self.num_cpus))


@dataclass(frozen=True)
class _Left:
    """What is left of a task, bytes of the file among it, and how often it was begun in vain."""

    task: Task
    bytes: int
    tries: int = 0

    def after(self, record: Record, file_bytes: int) -> _Left:
        return _Left(replace(self.task, begin=record["end"]), self.bytes - file_bytes)

    def again(self, error: Exception) -> _Left:
        if self.tries == TRIES:
            said = " ".join(str(error).split())[:500]
            raise OSError(f"{self.task.span.path}: Ray lost its worker {TRIES + 1} times: {said}") from error
        return replace(self, tries=self.tries + 1)


def _told(
    found: tuple[Record, int] | Exception,
    left: _Left,
    done: Callable[[Task, Record], None],
    failed: Callable[[Task, BadFile], None],
    tell: Tell,
) -> _Left:
    """Tell what a worker has done; return what is left."""
    if isinstance(found, BadFile):
        failed(left.task, found)
        return left
    if isinstance(found, Exception):
        raise found
    record, read = found
    file_bytes = min(read, left.bytes)  # what was read before its worker was lost is read again
    done(left.task, record)
    tell(record["rows"], record["text_bytes"], file_bytes)
    return left.after(record, file_bytes)


def _end(running: list[Any]) -> None:
    """End tasks that nobody waits for any more: gently, so that they remove what is half-written."""
    ray = _ray()
    for stream in running:
        ray.cancel(stream)
    ended = {stream.completed(): stream for stream in running}
    if not ended:
        return
    _, left = ray.wait(list(ended), num_returns=len(ended), timeout=PATIENCE)
    # Only those: Ray dies of its own check when a task is forced to end whose answer is on its way.
    for one in left:
        ray.cancel(ended[one], force=True)


def _perform(
    models: dict[str, Answering], task: Task, folder: str, version: str
) -> Iterator[tuple[Record, int] | Exception]:
    """On a worker: do a task. Gives the record of each part and the bytes of the file since the last.

    What is wrong comes as the last, as an error that is not raised: Ray would make a page of it.
    """
    told = 0

    def tell(rows: int, text: int, file: int) -> None:
        nonlocal told
        told += file

    try:
        with ExitStack() as stack:
            if os.path.isdir(folder):
                stack.enter_context(chdir(folder))  # relative paths are those of whoever gave them
            _check_node(task, version)
            executor = stack.enter_context(ThreadPoolExecutor(1))
            for record in perform(task, task.job.models(models), executor, 2, tell):
                yield record, told
                told = 0
    except (ValueError, OSError, MemoryError) as error:
        yield error


def _check_node(task: Task, version: str) -> None:
    """Find out whether this node sees the files and has the logitext of whoever wants the answers."""
    node = f"the node {socket.gethostname()}"
    if _core.__version__ != version:
        raise ValueError(f"{node} has logitext {_core.__version__}, not {version}: install the same on all")
    for path in (Path(task.folder) / "_logitext", task.span.path):
        if not is_address(str(path)) and not os.path.exists(path):
            raise FileNotFoundError(
                f"{path}: not there on {node}: inputs and output must be where all nodes see them"
            )


def predict(
    dataset: Dataset,
    model: Any,
    *,
    text: str = "text",
    probability_of: Sequence[str] = (),
    prefix: str = "",
    num_cpus: float = 1,
    batch_size: int | None = None,
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
    batch_size : int or None, default None
        Rows answered at once; None for whole blocks, which are not copied.
    ray_remote_args : mapping, optional
        What else `Dataset.map_batches` takes.

    Returns
    -------
    ray.data.Dataset
        With the columns ``label``, ``probability`` and what was asked for.

    Raises
    ------
    ValueError
        If Ray is not installed, or the model cannot answer what is asked; if there is no such column, it
        holds no strings, or an answer has the name of one: at once where Ray knows the columns, else while
        the dataset is computed.

    Examples
    --------
    >>> import ray, logitext.ray  # doctest: +SKIP
    >>> from ray.data.expressions import col  # doctest: +SKIP
    >>> pages = ray.data.read_parquet("s3://crawl/")  # doctest: +SKIP
    >>> logitext.ray.predict(pages, "hq.safetensors").filter(expr=col("probability") > 0.9)  # doctest: +SKIP
    """
    ray = _ray()
    given = model if isinstance(model, Mapping) else {"model": model}
    models = {name: each if isinstance(each, Answering) else load(each) for name, each in given.items()}
    job = Job(asked={**answers, "shares_of": tuple(probability_of)}, prefix=prefix)
    names = job.answer_columns(models)
    known = dataset.schema(fetch_if_missing=False)
    if known is not None:
        _check_columns(known.names, text, names)
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
        **(ray_remote_args or {}),
    )


def _answered(table: pa.Table, stored: list[Any], job: Job, text: str) -> pa.Table:
    """On a worker: a table with the answers to its texts."""
    models = _ray().get(stored[0])
    _check_columns(table.column_names, text, job.answer_columns(models))
    every = job.models(models)
    batches = [_batch(chunk) for chunk in table.column(text).chunks] or [_batch(arrow_strings([]))]
    pieces = (piece for batch in batches for piece in batch.pieces(rows_at_once(every)))
    parts = [columns_answered(every, piece, 1) for piece in pieces]
    answers = pa.Table.from_batches(parts or [columns_answered(every, batches[0], 1)])
    for name, column in zip(answers.column_names, answers.columns, strict=True):
        table = table.append_column(name, column)
    return table


def _batch(chunk: pa.Array) -> Batch:
    """The texts of a chunk; a null text is empty, and void."""
    texts = as_column(chunk, "texts")
    if pa.types.is_null(texts.type):
        texts = texts.cast(pa.large_string())
    if not pa.types.is_large_string(texts.type):
        raise ValueError(f"texts must be strings, got {texts.type}")
    void = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
    if void is not None:
        texts = texts.fill_null(arrow_strings([""])[0])
    return Batch(texts, None, 0, rows=len(texts), void=void)


def _check_columns(there: Sequence[str], text: str, answers: Sequence[str]) -> None:
    if text not in there:
        raise ValueError(f"no column is named {text!r}; there are {', '.join(map(repr, there[:30]))}")
    for name in answers:
        if name in there:
            raise ValueError(f"there is a column {name!r} already: give the answers a prefix")


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be connected to a cluster; what was not begun here is not ended here.

    Raises
    ------
    ConnectionError
        If it does not answer.
    """
    ray = _ray()
    if ray.is_initialized():
        _refuse_client(ray.util.client.ray.is_connected())
        yield
        return
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        how["include_dashboard"] = False
    try:
        context = ray.init(address=address, **how)
    except Exception as error:  # of many kinds
        raise ConnectionError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()
        if address == "local":
            shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What HTTP/2, and so gRPC, begins with: a preface and an empty frame of settings, the fourth kind."""


def _check_answers(address: str) -> None:
    """Find out within seconds what Ray would wait for a minute for."""
    _refuse_client(address.startswith("ray://"))
    host, _, port = address.rpartition(":")
    if address in ("auto", "local"):
        return  # Ray knows at once
    if not host or not port.isdecimal():
        raise ConnectionError(f"no Ray cluster at {address}: give HOST:PORT, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as connection:
            if not int(os.environ.get("RAY_USE_TLS", "0")):
                connection.sendall(GREETING)
                if connection.recv(4)[3:] != b"\4":
                    raise ConnectionError("what answers there is not Ray")
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster at {address}: {error}") from error


def _refuse_client(client: bool) -> None:
    if client:
        raise ValueError(
            "Ray Client (ray://) gives results only when all is done: run on a machine of the cluster, by "
            "`ray job submit` or with the address HOST:6379"
        )


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ValueError("Ray is not installed: pip install 'logitext[ray]'") from None
    return ray
