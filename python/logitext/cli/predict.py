"""``logitext predict``: texts → labels, probabilities, sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitext.cli.options import (
    COUNT,
    LEVEL,
    OF_OUT,
    OUTPUT_FORMATS,
    SHARE,
    format_option,
    refuse_to_replace,
    separated_by,
    separator_option,
    text_option,
    threads_option,
)

if TYPE_CHECKING:
    from logitext.corpus.job import Job

ASKED = ("logits", "probabilities", "top_k", "threshold", "max_error", "coverage", "novelty")
FOLDER_ONLY = ("keep_top", "sample", "on_bad_file", "engine", "address", "overwrite")


class Share(click.ParamType[float]):
    """A share as a fraction or in percent."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return it in (0, 1]."""
        if isinstance(value, float):
            return value
        try:
            found = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            found = 0.0
        if not 0 < found <= 1:
            self.fail(f"{value!r} is no share: give 10% or 0.1", param, ctx)
        return found


def _option(*names: str, **how: Any) -> Callable[[Any], Any]:
    return click.option(*names, **how)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT", default="-", help="File or folder to write; - is standard output."
)
@click.option("--format", "output_format", metavar="FORMAT", type=click.Choice(OUTPUT_FORMATS), help=OF_OUT)
@text_option
@format_option
@threads_option
@click.option("--logits", is_flag=True, help="Add the raw logit of every class.")
@click.option("--probabilities", is_flag=True, help="Add the probability of every class.")
@click.option("--top-k", metavar="N", type=COUNT, help="Add the N most probable labels.")
@click.option(
    "--threshold",
    metavar="P",
    type=SHARE,
    help="Answer null below this probability; of several labels give those that reach it.",
)
@click.option(
    "--max-error",
    metavar="E",
    type=LEVEL,
    help="Answer null where a label is not sure enough to keep wrong answers below this share.",
)
@click.option("--set", "coverage", metavar="C", type=LEVEL, help="Add the set of labels that covers so many.")
@click.option("--novelty", is_flag=True, help="Add how unlike the training texts a text is, and the p-value.")
@click.option(
    "--probability-of", metavar="LABEL", multiple=True, help="Add the probability of this label: p(LABEL)."
)
@separator_option
@click.option(
    "--also",
    metavar="NAME=MODEL",
    multiple=True,
    help="A further model, in the same reading of the texts; its answers are NAME_label and so on.",
)
@click.option(
    "--columns", metavar="NAMES", help="Columns of the input to carry along, with commas (a folder: all)."
)
@click.option(
    "--prefix", metavar="TEXT", default="", help="Before the names of the answers, if they are taken."
)
@click.option("--keep", metavar="CONDITION", help="Leave out the rows that do not fulfil it.")
@click.option(
    "--keep-top", metavar="SHARE", type=Share(), help="Keep the share with the highest scores of all."
)
@click.option("--by", metavar="COLUMN", help="What the score is, for --keep-top and --sample.")
@click.option("--sketched", is_flag=True, help="Find the lowest score kept by a sketch, not exactly.")
@click.option(
    "--sample", metavar="N", type=COUNT, help="N rows to look at, of each tenth of the scores' range."
)
@click.option(
    "--on-bad-row",
    type=click.Choice(["error", "skip", "keep"]),
    default="error",
    help="What to do with a row that cannot be read or has no text.",
)
@click.option(
    "--on-bad-file",
    type=click.Choice(["error", "skip"]),
    default="error",
    help="What to do with an input that cannot be read.",
)
@click.option("--overwrite", is_flag=True, help="Begin again, whatever an earlier run left in the folder.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Who does the work.")
@click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster (default: one on this machine).")
def predict(model: str, sources: tuple[str, ...], output: str, **options: Any) -> None:
    """Decide on texts: a label and its probability for each, as JSON Lines.

    INPUT is plain lines, CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or
    .zst; a folder of such; a pattern; an address that fsspec knows (s3://…); - is standard input.
    Of several the answers follow each other in the order of the inputs. Memory does not grow with them.

    OUT without a suffix, or with / at its end, is a folder: of Parquet (or JSON Lines) with the rows and
    their answers. Stopped or killed, the same command goes on where it was. See docs/corpora.md.

    \b
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    logitext predict news.safetensors today.csv --probabilities -o answers.parquet
    logitext predict news.safetensors monday.csv tuesday.csv 'june/*.csv' -o answers.csv
    logitext predict news.safetensors today.csv --max-error 0.05 --set 0.9 --novelty
    logitext predict quality.safetensors crawl/ -o kept/ --keep 'p(high) > 0.9'
    """
    from logitext.corpus.job import Job

    folder = _is_folder(output, options["output_format"])
    if not folder:
        _refuse_for_files(options)
    if options["engine"] == "ray" and options["threads"] is not None:
        raise click.UsageError("--threads are of this machine: Ray uses the CPUs of its cluster.")
    if options["engine"] != "ray" and options["address"] is not None:
        raise click.UsageError("--address is of a Ray cluster: give --engine ray.")
    columns = options["columns"]
    chosen = None if columns is None else tuple(name for name in columns.split(",") if name)
    job = Job(
        asked={name: options[name] for name in ASKED}
        | {"shares_of": options["probability_of"], **separated_by(options)},
        columns=() if chosen is None and not folder else chosen,
        text=options["text"],
        input_format=options["input_format"],
        prefix=options["prefix"],
        keep=options["keep"],
        keep_top=options["keep_top"],
        by=options["by"],
        sketched=options["sketched"],
        sample=options["sample"] or 0,
        on_bad_row=options["on_bad_row"],
        on_bad_file=options["on_bad_file"],
        format=(options["output_format"] or "parquet") if folder else "parquet",
    )
    paths = {"model": model, **_named(options["also"])}
    (_to_folder if folder else _to_file)(job, paths, sources, output, options)


def _to_file(job: Job, paths: dict[str, str], sources: tuple[str, ...], output: str, options: Any) -> None:
    from dataclasses import replace

    from logitext.answers import rows_at_once
    from logitext.arguments import thread_count
    from logitext.classifier import load
    from logitext.corpus.answered import answered
    from logitext.sources import files_of
    from logitext.tables import read
    from logitext.writing import open_writer

    models = {name: load(path) for name, path in paths.items()}
    threads = thread_count(options["threads"])
    # The output first: what cannot be written is said before inputs are looked for.
    with open_writer(output, format=options["output_format"]) as writer:
        files = files_of(sources)
        refuse_to_replace((*paths.values(), *files), output)
        job = replace(job, asked={**job.asked, "nested": writer.nested})
        every = job.models(models)
        if job.columns or job.keep:
            if "-" in files:
                raise ValueError(
                    "columns of standard input cannot be carried along or looked at: give a file"
                )
            job = job.settled(files[0], models)
        how: dict[str, Any] = {"text": job.text, "format": job.input_format, "labelled": False}
        how |= {"carried": job.read, "on_bad_row": job.on_bad_row}
        faults = 0
        for batch in (batch for file in files for batch in read(file, **how, batch_bytes=2 << 20)):
            faults += len(batch.faults)
            for piece in batch.pieces(rows_at_once(every)):
                writer.write(answered(job, every, piece, threads).table)
    if faults:
        what = "are left out" if job.on_bad_row == "skip" else "have no answer"
        click.echo(f"{faults:,} bad rows {what}", err=True)


def _to_folder(job: Job, paths: dict[str, str], sources: tuple[str, ...], output: str, options: Any) -> None:
    from logitext.cli.corpus import progress, summary
    from logitext.corpus.run import run_corpus

    engine = None
    if options["engine"] == "ray":
        # What Ray has to say of nodes that come and go would stand between our lines.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
        from logitext.ray import Engine

        engine = Engine(address=options["address"])
    with progress() as tell:
        outcome = run_corpus(
            paths,
            list(sources),
            output,
            job,
            engine=engine,
            threads=options["threads"],
            overwrite=options["overwrite"],
            progress=tell,
        )
    summary(outcome, output)


def _named(given: tuple[str, ...]) -> dict[str, str]:
    """The further models by their names."""
    found: dict[str, str] = {}
    for pair in given:
        name, equal, path = pair.partition("=")
        if not (name and equal and path) or name in found or name == "model":
            raise click.UsageError(f"--also {pair}: give each further model a name of its own: NAME=MODEL.")
        found[name] = path
    return found


def _is_folder(output: str, format: str | None) -> bool:
    if output == "-":
        return False
    if output.endswith(("/", os.sep)) or Path(output).is_dir():
        return True
    return format is None and not Path(output).suffix and not Path(output).exists()


def _refuse_for_files(options: dict[str, Any]) -> None:
    for name in FOLDER_ONLY:
        if options[name] not in (None, False, "error", "local"):
            raise click.UsageError(f"--{name.replace('_', '-')} needs a folder to write to: -o OUT/.")
