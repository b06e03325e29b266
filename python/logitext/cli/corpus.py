"""What the terminal shows of a corpus: how far it is, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from logitext.screen import number, show, size, table_of_facts

if TYPE_CHECKING:
    from logitext.corpus.run import Outcome

Tell = Callable[[int, int, int, int], None]
EVERY = 30.0
"""Seconds between two lines where nobody looks at a bar, but somebody may read a log."""


@contextmanager
def progress() -> Iterator[Tell]:
    """Show on standard error how far a corpus is: a bar, or a line now and then."""
    start = last = time.monotonic()

    def said(rows: int, text: int) -> str:
        seconds = max(time.monotonic() - start, 1e-9)
        return f"{number(rows)} rows, {text / 1e6 / seconds:.3g} MB/s"

    def tell_log(rows: int, text: int, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            share = done / total if total else 0.0
            left = f", {_duration((now - start) * (1 - share) / share)} left" if share else ""
            print(f"{said(rows, text)}, {share:.0%}{left}", file=sys.stderr, flush=True)

    if not sys.stderr.isatty():
        yield tell_log
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("reading", total=None)

        def tell_bar(rows: int, text: int, done: int, total: int) -> None:
            bar.update(task, description=said(rows, text), completed=done, total=total or None)

        yield tell_bar


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def summary(outcome: Outcome, output: str) -> None:
    """Print what came of it."""
    now = outcome.rows - outcome.done_before
    speed = outcome.text_bytes * now / max(outcome.rows, 1) / 1e6 / max(outcome.seconds, 1e-9)
    before = f", {number(outcome.done_before)} of them done before" if outcome.done_before else ""
    kept = f"{outcome.kept / outcome.rows:.2%} of them" if outcome.rows else "none"
    facts = [("rows", f"{number(outcome.rows)}{before}")]
    if outcome.kept != outcome.rows:
        facts.append(("kept", f"{number(outcome.kept)}, {kept}"))
    if outcome.threshold is not None:
        error = outcome.threshold["rank_error"]
        about = f", to within {error:.2%} of the rows" if error else ""
        facts.append(("lowest score", f"{outcome.threshold['score']:.6g}{about}"))
    if outcome.bad_rows:
        facts.append(("bad rows", f"{number(outcome.bad_rows)}, listed in _logitext/bad_rows.jsonl"))
    facts += [("failed", sentence) for sentence in outcome.failed]
    facts.append(("seconds", f"{outcome.seconds:.2f} ({speed:.3g} MB/s)"))
    facts.append(("output", f"{output} ({outcome.parts} parts, {size(outcome.text_bytes)} of text read)"))
    show(table_of_facts(facts))
