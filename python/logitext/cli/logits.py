"""``logitext logits``: anyone's logits, described and turned into probabilities."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from logitext.cli.options import ABOVE_0, check_output, finite, print_json

_NPY = "Integer labels, one per row, as a .npy file: adds log loss and accuracy."
_WRITTEN = click.Choice(["probabilities", "log-probabilities"])


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--labels", metavar="LABELS", help=_NPY)
@click.option("-o", "--output", metavar="OUT", help="Write the probabilities to this .npy file.")
@click.option("--write", type=_WRITTEN, help="What goes into OUT (default: probabilities).")
@click.option("--temperature", metavar="T", type=ABOVE_0, default=1.0, help="Divide the logits by it first.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, unrounded; inf and NaN are null.")
def logits(file: str, labels: str | None, output: str | None, write: str | None, **options: Any) -> None:
    """Describe the logits of any model: range, how peaked, decisions, log loss.

    FILE is a .npy file of any shape, class axis last; it may be larger than memory.

    \b
    logitext logits scores.npy --labels labels.npy
    logitext logits scores.npy --temperature 1.5 -o probabilities.npy
    """
    from logitext import screen
    from logitext.description import describe
    from logitext.npy import open_npy, write_probabilities

    if write is not None and output is None:
        raise click.UsageError("--write says what goes into a file: name it with -o")
    if output is not None:
        check_output(output, file, *([] if labels is None else [labels]))
    z, y = open_npy(file), None if labels is None else open_npy(labels)
    how: dict[str, Any] = {"temperature": options["temperature"]}
    with screen.progress() as tell:
        found = describe(z, y, **how, progress=tell)
        if output is not None:
            write_probabilities(output, z, **how, log=write == "log-probabilities", progress=tell)
    if options["as_json"]:
        print_json(finite(asdict(found)))
    else:
        screen.logits(found, output and f"{output} ({screen.size(os.path.getsize(output))})")
