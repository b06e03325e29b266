"""All of a corpus: from inputs to a folder of answers, going on where an earlier run stopped."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from logitext import _core
from logitext.addresses import is_address
from logitext.answering import Answering
from logitext.arguments import thread_count
from logitext.classifier import load
from logitext.columns import EmptyTable
from logitext.corpus.folder import OURS, SCORED, THRESHOLD, Folder, open_folder, write_json
from logitext.corpus.inputs import AT_ONCE, BadFile, Span, spans_of, states_of
from logitext.corpus.job import Job
from logitext.corpus.parts import Record, Tell, answer_span
from logitext.corpus.samples import Sample
from logitext.corpus.top import choose_span, threshold_of
from logitext.files import replacing
from logitext.sources import files_of

if TYPE_CHECKING:
    from logitext.answers import Asked

__all__ = ["Engine", "Outcome", "Task", "perform", "run_corpus"]


@dataclass(frozen=True)
class Task:
    """One span and what is to be made of it: as much as another process needs."""

    job: Job
    span: Span
    kind: str
    """``part``: answer and write. ``scored``: answer only. ``chosen``: write what reaches the threshold."""
    folder: str
    begin: int = 0
    limits: Any = None
    scored: tuple[str, ...] = ()
    threshold: float = 0.0


@dataclass
class Outcome:
    """What came of a corpus.

    Attributes
    ----------
    rows, kept, bad_rows : int
        Rows that were read; of them in the output; of them left out, or without answers, for they are bad.
    text_bytes : int
    parts : int
    failed : list of str
        What was wrong with inputs that could not be read.
    threshold : dict or None
        ``score`` from which on rows were kept, and the ``rank_error`` of a sketch.
    done_before : int
        Rows that an earlier run had done.
    seconds : float
    """

    rows: int = 0
    kept: int = 0
    bad_rows: int = 0
    text_bytes: int = 0
    parts: int = 0
    failed: list[str] = field(default_factory=list)
    threshold: dict[str, float] | None = None
    done_before: int = 0
    seconds: float = 0.0


class Engine(Protocol):
    """Who performs tasks: threads of this machine, or a cluster."""

    def __call__(
        self,
        tasks: Iterator[Task],
        models: Mapping[str, Answering],
        done: Callable[[Task, Record], None],
        failed: Callable[[Task, BadFile], None],
        tell: Tell,
    ) -> None:
        """Perform all tasks, taken one by one; `done` is told each part, `failed` each bad input.

        What `failed` raises ends all of it.
        """


def perform(task: Task, every: Sequence[Asked], executor: Any, most: int, tell: Tell) -> Iterator[Record]:
    """Do a task, and give the record of each part that is written."""
    folder = Path(task.folder)
    ours = folder / OURS
    if task.kind == "chosen":
        scored = [ours / SCORED / name for name in task.scored]
        yield from choose_span(
            task.job, task.span, scored, task.threshold, folder, ours, begin=task.begin, tell=tell
        )
        return
    place = ours / SCORED if task.kind == "scored" else folder
    yield from answer_span(
        task.job,
        every,
        task.span,
        place,
        ours,
        executor,
        begin=task.begin,
        most=most,
        scores_only=task.kind == "scored",
        limits=task.limits,
        tell=tell,
    )


class Threads:
    """The threads of this machine: spans side by side, their batches answered by a pool they share."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count(threads)

    def __call__(
        self,
        tasks: Iterator[Task],
        models: Mapping[str, Answering],
        done: Callable[[Task, Record], None],
        failed: Callable[[Task, BadFile], None],
        tell: Tell,
    ) -> None:
        stop, turn = threading.Event(), threading.Lock()
        # Two even on one core: one reads and writes while the other's batches are answered.
        lanes = max(2, self.threads)

        def told(rows: int, text: int, file: int) -> None:
            if stop.is_set():
                raise _Stopped
            tell(rows, text, file)

        def lane(executor: ThreadPoolExecutor) -> None:
            while not stop.is_set():
                with turn:
                    task = next(tasks, None)
                if task is None:
                    return
                every = task.job.models(models)
                try:
                    for record in perform(task, every, executor, self.threads + 1, told):
                        done(task, record)
                except BadFile as error:
                    failed(task, error)
                except _Stopped:
                    return

        with (
            ThreadPoolExecutor(self.threads, "answering") as executor,
            ThreadPoolExecutor(lanes, "lane") as all_,
        ):
            running = [all_.submit(lane, executor) for _ in range(lanes)]
            try:
                # In small steps, so that Ctrl-C is heard.
                while not wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)[0] or not _ended(running):
                    pass
            finally:
                stop.set()
        for future in running:
            future.result()


class _Stopped(Exception):
    """Another lane failed, or the user wants an end."""


def _ended(running: list[Any]) -> bool:
    finished = [future for future in running if future.done()]
    return len(finished) == len(running) or any(future.exception() for future in finished)


def run_corpus(
    models: Mapping[str, Any],
    inputs: Any,
    output: str | os.PathLike[str],
    job: Job,
    *,
    engine: Engine | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, int, int], None] | None = None,
) -> Outcome:
    """Do what `logitext.predict_corpus` says."""
    start = time.perf_counter()
    models = _loaded(models)
    _refuse_output_within(inputs, Path(output))
    files = [file for file in files_of(inputs) if not _is_below(file, Path(output))]
    states = states_of(files)
    bad = {number: state["error"] for number, state in enumerate(states) if "error" in state}
    if bad and job.on_bad_file == "error":
        raise BadFile(next(iter(bad.values())))
    job = _settled(job, models, files, bad)
    plan = {
        "format": 1,
        "versions": {"logitext": _core.__version__},
        "models": {name: each.model_.fingerprint for name, each in models.items()},
        "job": job.described(),
        "inputs": [{"path": path, **state} for path, state in zip(files, states, strict=True)],
    }
    with open_folder(Path(output), plan, overwrite=overwrite) as folder:
        run = _Run(job, models, files, states, bad, folder, engine or Threads(threads), progress)
        outcome = run.all()
    outcome.seconds = time.perf_counter() - start
    return outcome


def _loaded(models: Mapping[str, Any]) -> dict[str, Answering]:
    if not models:
        raise ValueError("there are no models")
    return {name: each if isinstance(each, Answering) else load(each) for name, each in models.items()}


def _refuse_output_within(inputs: Any, output: Path) -> None:
    """The output would be an input of the next run."""
    for given in [inputs] if isinstance(inputs, str | os.PathLike) else inputs:
        folder = Path(given)
        if not is_address(given) and folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
            below = output.resolve().relative_to(folder.resolve()).parts
            if not any(name.startswith((".", "_")) for name in below):
                raise ValueError(f"{output}: is within the input {given}: name a folder beside it")


def _is_below(file: str, output: Path) -> bool:
    """Whether a pattern fits what an earlier run wrote."""
    return not is_address(file) and output.resolve() in Path(file).resolve().parents


def _settled(job: Job, models: Mapping[str, Answering], files: list[str], bad: dict[int, str]) -> Job:
    """What is read, as the first file that can be read has it."""
    replace(job, keep=None, keep_top=None, by=None, sketched=False, sample=0).answer_columns(models)
    empty: list[str] = []
    for number, path in enumerate(files):
        if number in bad:
            continue
        try:
            return job.settled(path, models)
        except EmptyTable as error:
            empty.append(str(error))
        except (ValueError, OSError) as error:
            if job.on_bad_file == "error":
                raise
            bad[number] = str(error)
    why = next(iter([*bad.values(), *empty]))
    raise BadFile(f"none of {len(files)} inputs can be read: {why}")


class _Run:
    """One run over a corpus whose folder is open."""

    def __init__(
        self,
        job: Job,
        models: Mapping[str, Answering],
        files: list[str],
        states: list[dict[str, Any]],
        bad: dict[int, str],
        folder: Folder,
        engine: Engine,
        progress: Callable[[int, int, int, int], None] | None,
    ) -> None:
        self.job, self.models, self.files, self.states = job, models, files, states
        self.bad, self.folder, self.engine = bad, folder, engine
        self.progress = progress
        self.changing = threading.Lock()
        self.sample = Sample(job.sample) if job.sample else None

    def all(self) -> Outcome:
        spans = list(self.spans())
        before = sum(record["rows"] for record in self.folder.parts())
        first = "part" if self.job.keep_top is None else "scored"
        threshold = None
        self.sample_again()
        self.run(first, spans)
        if first == "scored":
            threshold = self.threshold()
            lowest = threshold["score"]
            self.run("chosen", spans, math.inf if lowest is None else lowest)
        parts = self.folder.parts()
        outcome = Outcome(
            rows=sum(record["rows"] for record in parts),
            kept=sum(record["kept"] for record in parts),
            bad_rows=sum(record["faults"] for record in parts),
            text_bytes=sum(record["text_bytes"] for record in parts),
            parts=len(parts),
            failed=[why for _, why in sorted(self.bad.items())],
            threshold=threshold,
            done_before=before,
        )
        said = {
            name: getattr(outcome, name)
            for name in ("rows", "kept", "bad_rows", "text_bytes", "failed", "threshold")
        }
        if self.sample is not None:
            said["strata"] = self.write_sample()
        self.folder.finish(said)
        return outcome

    def write_sample(self) -> list[int]:
        """Write the rows to look at; give the number of all rows of each stratum."""
        self.sample_again()  # without what was seen of files that turned out to be bad
        assert self.sample is not None, "nobody asked for a sample"
        rows = self.sample.records()
        shown = [{"score": row["score"], "stratum": row["stratum"], **row["record"]} for row in rows]
        with replacing(self.folder.ours / "sample.jsonl") as file:
            file.writelines(
                json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n" for row in shown
            )
        return self.sample.counts

    def sample_again(self) -> None:
        if self.job.sample:
            self.sample = Sample(self.job.sample)
            for sample in self.folder.samples():
                self.sample.merge(Sample.from_json(sample))

    def spans(self) -> Iterator[Span]:
        """Cut the files; many at once, for a server takes its time to open each."""

        def cut(number: int) -> list[Span] | Exception:
            try:
                return list(spans_of(number, self.files[number], self.states[number], self.job.input_format))
            except ValueError as error:
                return error

        good = [number for number in range(len(self.files)) if number not in self.bad]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, found in zip(good, pool.map(cut, good), strict=True):
                if isinstance(found, Exception):
                    self.failed(number, found)
                else:
                    yield from found

    def threshold(self) -> dict[str, Any]:
        """The score from which on rows are kept: found once, for a sketch differs a little each time."""
        path = self.folder.ours / THRESHOLD
        if not path.exists():
            write_json(path, threshold_of(self.job, self.folder))
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def run(self, kind: str, spans: list[Span], threshold: float = 0.0) -> None:
        tasks = [task for span in spans if (task := self.task(kind, span, threshold)) is not None]
        total = sum(task.span.bytes for task in tasks)
        seen = [0, 0, 0]

        def tell(rows: int, text: int, file: int) -> None:
            with self.changing:
                seen[0], seen[1], seen[2] = seen[0] + rows, seen[1] + text, seen[2] + file
                if self.progress is not None:
                    self.progress(seen[0], seen[1], seen[2], total)

        if tasks:
            self.engine(self.ready(tasks), self.models, self.done, self.task_failed, tell)

    def task(self, kind: str, span: Span, threshold: float) -> Task | None:
        """What is left to do of a span."""
        if span.input in self.bad:
            return None
        written = "scored" if kind == "scored" else "part"
        records = self.folder.of(written, span.input, span.begin)
        if records and records[-1]["last"]:
            return None
        if kind == "chosen" and not self.folder.of("scored", span.input, span.begin):
            return None  # a file without rows
        begin = records[-1]["end"] if records else span.begin
        scored = tuple(record["part"] for record in self.folder.of("scored", span.input, span.begin))
        return Task(self.job, span, kind, str(self.folder.path), begin, None, scored, threshold)

    def ready(self, tasks: list[Task]) -> Iterator[Task]:
        """Give tasks when they are taken, with what is known by then."""
        for task in tasks:
            if task.span.input not in self.bad:
                with self.changing:
                    limits = None if self.sample is None else self.sample.limits
                yield replace(task, limits=limits)

    def done(self, task: Task, record: Record) -> None:
        with self.changing:
            self.folder.add(record)
            if task.span.input in self.bad:
                self.folder.drop(task.span.input)
            self.sampled(record)

    def sampled(self, record: Record) -> None:
        if self.sample is not None and "sample" in record:
            self.sample.merge(Sample.from_json(record["sample"]))

    def task_failed(self, task: Task, error: BadFile) -> None:
        self.failed(task.span.input, error)

    def failed(self, number: int, error: Exception) -> None:
        with self.changing:
            self.bad[number] = str(error)
            self.folder.drop(number)  # or nothing but the whole could go on, once the file is mended
        if self.job.on_bad_file == "error":
            raise error
