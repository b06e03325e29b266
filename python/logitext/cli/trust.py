"""``logitext calibrate`` and ``logitext drift``: whether what a model says still holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from logitext.cli.options import (
    COUNT,
    check_output,
    finder,
    format_option,
    how_to_read,
    label_option,
    print_json,
    read_together,
    refuse_to_replace,
    separated_by,
    separator_option,
    text_option,
    threads_option,
)


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.argument("sources", metavar="INPUT...", nargs=-1)
@click.option("--logits", metavar="FILE", help="Of any model: its logits, rows by classes, as a .npy file.")
@click.option("--labels", metavar="FILE", help="With --logits: integer labels, as a .npy file.")
@click.option("-o", "--output", metavar="OUT", required=True, help="The file to write.")
@text_option
@label_option
@format_option
@threads_option
@separator_option
def calibrate(model: str | None, sources: tuple[str, ...], **options: Any) -> None:
    """Fit calibration, sets and abstention anew on labelled rows; weights stay as they are.

    The rows must be none that the model was trained on. With --logits and --labels it serves any
    model: OUT is a .npy file of calibrated logits.

    \b
    logitext calibrate news.safetensors fresh.csv -o news2.safetensors
    logitext calibrate --logits z.npy --labels y.npy -o calibrated.npy
    """
    from logitext import screen

    if (model is None) == (options["logits"] is None) or (model is not None and not sources):
        raise click.UsageError("name a MODEL and INPUT files, or --logits and --labels.")
    if (options["logits"] is None) != (options["labels"] is None):
        raise click.UsageError("--logits and --labels go together.")
    output = options["output"]
    if model is None:
        import numpy as np

        from logitext.calibrators import Calibrator
        from logitext.logits import cross_entropy
        from logitext.npy import open_npy, write_npy

        check_output(output, options["logits"], options["labels"])
        z, y = open_npy(options["logits"]), open_npy(options["labels"])
        calibrator = Calibrator().fit(z, y)
        calm = calibrator.transform(z)
        write_npy(output, calm)
        before, after = (float(np.asarray(cross_entropy(each, y))) for each in (z, calm))
        screen.calibration_of_logits(calibrator, before, after, len(z), output)
        return
    from logitext.classifier import load
    from logitext.sources import files_of

    check_output(output, *sources)
    files = files_of(sources)
    refuse_to_replace(tuple(files), output)
    classifier = load(model, verify=True)
    classifier.threads = options["threads"]
    several = classifier.thresholds_ is not None
    how = how_to_read(options) | (separated_by(options) if several else {})
    texts, labels = read_together(files, how)
    find = finder(classifier.classes_.tolist())
    names = classifier.classes_.tolist()
    if not several:
        given = enumerate(labels.to_pylist(), 1)
        labels = [names[find(label, f"the label of data row {at}, ")] for at, label in given]
    old = classifier.evaluate(texts, labels)
    classifier.calibrate(texts, labels)
    new = classifier.evaluate(texts, labels)
    classifier.save(output)
    screen.calibration(old, new, output)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@text_option
@format_option
@threads_option
@click.option("--most", metavar="N", type=COUNT, default=20, help="How many n-grams to name.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, unrounded.")
def drift(model: str, sources: tuple[str, ...], most: int, as_json: bool, **options: Any) -> None:
    """Compare new texts, without labels, with those a model was trained on.

    Tests whether their novelty is what it was on held-out rows, and names n-grams that became more
    frequent or rarer.

    \b
    logitext drift news.safetensors today.csv
    """
    from logitext import screen
    from logitext.classifier import FastTextClassifier, load
    from logitext.sources import files_of

    classifier = load(model)
    if isinstance(classifier, FastTextClassifier):
        raise ValueError(f"{model}: is a fastText model, which does not say how frequent n-grams were")
    classifier.threads = options["threads"]
    texts, _ = read_together(files_of(sources), how_to_read(options) | {"labelled": False})
    found = classifier.drift(texts, most=most)
    if not as_json:
        screen.drift(found)
        return
    alarms = {f"{level:g}": share for level, share in found.alarms.items()}
    moved = [one._asdict() for one in found.moved]
    print_json({**asdict(found), "drifted": found.drifted, "alarms": alarms, "moved": moved})
