"""``logitext predict``: texts → labels, probabilities, sets."""

from __future__ import annotations

from typing import Any

import click

from logitext.cli.options import (
    COUNT,
    LEVEL,
    OF_OUT,
    OUTPUT_FORMATS,
    SHARE,
    format_option,
    how_to_read,
    refuse_to_replace,
    separated_by,
    separator_option,
    text_option,
    threads_option,
)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", default="-", help="File to write; - is standard output.")
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
@separator_option
def predict(model: str, sources: tuple[str, ...], output: str, **options: Any) -> None:
    """Decide on texts: a label and its probability for each, as JSON Lines.

    INPUT is plain lines, CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or
    .zst; a folder of such; a pattern; - is standard input. Of several the answers follow each
    other in the order of the inputs. Memory does not grow with them.

    \b
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    logitext predict news.safetensors today.csv --probabilities -o answers.parquet
    logitext predict news.safetensors monday.csv tuesday.csv 'june/*.csv' -o answers.csv
    logitext predict news.safetensors today.csv --max-error 0.05 --set 0.9 --novelty
    """
    from logitext.answers import answers
    from logitext.classifier import load
    from logitext.sources import files_of
    from logitext.tables import read
    from logitext.writing import open_writer

    classifier = load(model)
    classifier.threads = options["threads"]
    how = {**how_to_read(options), "labelled": False, "batch_bytes": 2 << 20}  # less to hold, no slower
    names = ("logits", "probabilities", "top_k", "threshold", "max_error", "coverage", "novelty")
    wanted = {name: options[name] for name in names}
    # The output first: what cannot be written is said before inputs are looked for.
    with open_writer(output, format=options["output_format"]) as writer:
        files = files_of(sources)
        refuse_to_replace((model, *files), output)
        for batch in (batch for file in files for batch in read(file, **how)):
            for answer in answers(
                classifier, batch.texts, **wanted, nested=writer.nested, **separated_by(options)
            ):
                writer.write(answer)
