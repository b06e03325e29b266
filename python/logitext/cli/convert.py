"""``logitext convert``: fastText's models in our format."""

from __future__ import annotations

import os

import click

from logitext.cli.options import check_output


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", metavar="OUT", required=True, help="The file to write: *.safetensors.")
@click.option("--strict", is_flag=True, help="Answer as fastText does, also where that is a mistake.")
def convert(model: str, output: str, strict: bool) -> None:
    """Write a fastText model (.bin, .ftz) in our format: checked by checksums, open in milliseconds.

    The answers are the same bits; other commands take either file.

    \b
    logitext convert model.bin -o model.safetensors
    """
    from logitext import screen
    from logitext.classifier import FastTextClassifier, load

    check_output(output, model)
    classifier = load(model, verify=True, strict=strict or None)
    if not isinstance(classifier, FastTextClassifier):
        raise ValueError(f"{model}: is a logitext model, and there is nothing to convert")
    classifier.save(output)
    before, after = (screen.size(os.path.getsize(path)) for path in (model, output))
    click.echo(f"{len(classifier.classes_):,} classes; {model} ({before}) → {output} ({after})")
