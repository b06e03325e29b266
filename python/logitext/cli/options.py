"""What commands share: options, reading, and checks of what is to be written."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")
"""Those of `logitext.writing` and `logitext.tables`, which take longer to import than help takes to print."""

COUNT = click.IntRange(min=1)
text_option = click.option("--text", metavar="NAME", help="Column of the texts (guessed by default).")
label_option = click.option("--label", metavar="NAME", help="Column of the labels (guessed by default).")
_how = f"{', '.join(FORMATS)} (default: what the suffix says)."
format_option = click.option("--input-format", metavar="FORMAT", type=click.Choice(FORMATS), help=_how)
OF_OUT = f"{', '.join(OUTPUT_FORMATS)} (default: what the suffix of OUT says, or jsonl)."
separator_option = click.option(
    "--label-separator",
    metavar="TEXT",
    help="What stands between several labels of one text, where there are no lists (default: ;).",
)
threads_option = click.option(
    "--threads", metavar="N", type=COUNT, help="CPUs to use (default: all available)."
)
ABOVE_0, SHARE = click.FloatRange(0, min_open=True), click.FloatRange(0, 1)
LEVEL = click.FloatRange(0, 1, min_open=True, max_open=True)


def how_to_read(options: dict[str, Any]) -> dict[str, Any]:
    return {"text": options["text"], "label": options.get("label"), "format": options["input_format"]}


def separated_by(options: dict[str, Any]) -> dict[str, Any]:
    given = options["label_separator"]
    if given == "":
        raise click.UsageError("--label-separator must not be empty.")
    return {"separator": ";" if given is None else given}


def read_together(inputs: list[str], how: dict[str, Any]) -> tuple[Any, Any]:
    """Texts and, if wanted, labels of all inputs."""
    import pyarrow as pa

    from logitext.tables import joined, read_all

    tables = [read_all(path, **how) for path in inputs]
    texts = pa.chunked_array([chunk for texts, _ in tables for chunk in texts.chunks])
    chunks = [chunk for _, labels in tables if labels is not None for chunk in labels.chunks]
    return texts, joined(chunks) if chunks else None


def check_output(output: str, *inputs: str) -> None:
    """Find out before the work, not after it, whether a file can be written."""
    if output == "-":
        raise ValueError("this cannot be written to standard output: name a file")
    folder = Path(output).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{output}: cannot be written, because the folder '{folder}' does not exist")
    if Path(output).exists() and not Path(output).is_file():
        raise ValueError(f"{output}: cannot be written, because it is a folder or a device")
    refuse_to_replace(inputs, output)


def refuse_to_replace(inputs: tuple[str, ...], output: str) -> None:
    for path in inputs:
        if os.path.isfile(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise ValueError(f"{output}: is an input, and would be lost if it were written to")


def finder(classes: list[Any]) -> Callable[[Any, str], int]:
    """Find labels by name: a table of text has no integers, and spells booleans in two ways."""
    fold = str.lower if sorted(str(label).lower() for label in classes) == ["false", "true"] else str
    codes = {fold(str(label)): code for code, label in enumerate(classes)}

    def find(label: Any, where: str) -> int:
        code = codes.get(fold(str(label)))
        if code is None:
            known = ", ".join(map(repr, classes[:20])) + (", …" if len(classes) > 20 else "")
            raise ValueError(f"{where}{label!r} is not a class of the model: it has {known}")
        return code

    return find


FEWEST_RESAMPLES, MOST_RESAMPLES, MOST_DRAWN = 200, 1000, 100_000_000
"""Of the rows, for intervals: less often where rows are many, and the answer is as good."""


def resamples_of(rows: int) -> int:
    return max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, MOST_DRAWN // max(1, rows)))


def finite(value: Any) -> Any:
    """Return what JSON can hold: null for NaN and infinities."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not valid UTF-8 at byte {error.start}") from error
