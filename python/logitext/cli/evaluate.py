"""``logitext evaluate`` and ``logitext report``: how good a model is."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from logitext.cli.options import (
    check_output,
    finder,
    finite,
    format_option,
    how_to_read,
    label_option,
    print_json,
    read_together,
    refuse_to_replace,
    resamples_of,
    separated_by,
    separator_option,
    text_option,
    threads_option,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from logitext.answering import Answering
    from logitext.comparison import Comparison
    from logitext.evaluation import Evaluation
    from logitext.intervals import Interval


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@text_option
@label_option
@format_option
@threads_option
@separator_option
@click.option(
    "--compare", "other", metavar="OTHER", help="A second model: is the first better on the same rows?"
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, unrounded; what is unknown is null.")
def evaluate(model: str, sources: tuple[str, ...], other: str | None, as_json: bool, **options: Any) -> None:
    """Measure a model on labelled texts: accuracy, calibration, classes, mistakes, with intervals.

    \b
    logitext evaluate news.safetensors news_test.csv
    logitext evaluate new.safetensors news_test.csv --compare old.safetensors
    """
    import numpy as np

    from logitext import screen
    from logitext.classifier import load
    from logitext.comparison import compare
    from logitext.evaluation import evaluate as measure
    from logitext.labels import LabelSets
    from logitext.multilabel import evaluate_multilabel
    from logitext.tables import read

    classifier = load(model)
    classifier.threads = options["threads"]
    names = classifier.classes_.tolist()
    find = finder(names)
    logits: list[NDArray[np.float32]] = []
    codes: list[int] = []
    lengths: list[int] = []
    thresholds = classifier.thresholds_
    several = thresholds is not None
    rival = None if other is None else _rival(other, classifier)
    rivals: list[NDArray[np.float32]] = []
    how = how_to_read(options) | (separated_by(options) if several else {})
    for path in sources:
        for batch in read(path, **how):
            logits.append(classifier.logits(batch.texts))
            if rival is not None:
                rivals.append(rival[0].logits(batch.texts))
            for row, given in enumerate(cast(Any, batch.labels).to_pylist(), batch.first_row + 1):
                labels = given if several else [given]
                codes += [find(label, f"{path}: the label of data row {row}, ") for label in labels]
                lengths.append(len(labels))
    if thresholds is not None:
        owners = np.repeat(np.arange(len(lengths)), lengths)
        sets = LabelSets.of_pairs(owners, np.array(codes, np.int64), len(lengths), len(names))
        found = evaluate_multilabel(
            np.concatenate(logits),
            sets,
            classes=names,
            temperature=classifier.temperature_,
            shift=classifier.shift_,
            thresholds=thresholds,
        )
        if as_json:
            print_json(asdict(found))
        else:
            screen.multilabel_evaluation(found)
        return
    resamples = resamples_of(len(codes))
    z = np.concatenate(logits)
    calm = classifier.model_.calibrated(z)
    result = measure(z, codes, classes=names, calibrated=calm, resamples=resamples)
    against = None
    if rival is not None:
        theirs, places = np.concatenate(rivals), rival[1]
        both = (calm, rival[0].model_.calibrated(theirs)[:, places])
        against = compare(z, theirs[:, places], codes, calibrated=both, resamples=resamples)
    if not as_json:
        screen.evaluation(result)
        if against is not None:
            screen.comparison(against, Path(model).name, Path(cast(str, other)).name)
        return
    print_json(finite(_written(result, against)))


def _written(result: Evaluation, against: Comparison | None) -> dict[str, Any]:
    """An evaluation as JSON has it."""
    from logitext import screen

    def spread(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
        return {name: between._asdict() for name, between in intervals.items()}

    answered = [result.risk_coverage.at_coverage(share) for share in (1.0, *screen.ANSWERED)]
    written = {
        "rows": result.rows,
        **{name: getattr(result, name) for name in screen.NUMBERS},
        "intervals": spread(result.intervals),
        "classes": [{**vars(score), "intervals": spread(score.intervals)} for score in result.classes],
        "most_confused": [{"label": a, "decided": b, "rows": n} for a, b, n in result.most_confused()],
        "risk_coverage": [{"coverage": c, "error": r, "probability": p} for p, c, r in answered],
    }
    if against is not None:
        written["compared"] = {**vars(against), "intervals": spread(against.intervals)}
    return written


def _rival(path: str, model: Answering) -> tuple[Answering, list[int]]:
    """Another model of the same classes, and where each of ours stands among its own."""
    from logitext.classifier import load

    other = load(path)
    for each, name in ((model, "the first model"), (other, path)):
        if each.thresholds_ is not None:
            raise ValueError(f"--compare is for models of one label per text, and {name} gives several")
    theirs = {str(label): place for place, label in enumerate(other.classes_.tolist())}
    ours = [str(label) for label in model.classes_.tolist()]
    if theirs.keys() != set(ours):
        odd = sorted(theirs.keys() ^ set(ours))[0]
        raise ValueError(f"{path}: has other classes: {odd!r} is a class of only one of the models")
    other.threads = model.threads
    return other, [theirs[label] for label in ours]


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", required=True, help="The HTML file to write.")
@click.option("--title", metavar="TEXT", help="Of the page (default: the names of MODEL and INPUT).")
@text_option
@label_option
@format_option
@threads_option
def report(model: str, sources: tuple[str, ...], output: str, title: str | None, **options: Any) -> None:
    """Write a page on how good a model is, where it errs and why, and which labels to look at.

    INPUT is labelled texts that the model did not learn from. OUT is one HTML file that needs
    nothing else. Figures are drawn by matplotlib: pip install 'logitext[report]'.

    \b
    logitext report news.safetensors news_test.csv -o report.html
    """
    from logitext import screen
    from logitext.classifier import load
    from logitext.report import Report
    from logitext.sources import files_of

    check_output(output, model, *sources)
    files = files_of(sources)
    refuse_to_replace(tuple(files), output)
    classifier = load(model)
    classifier.threads = options["threads"]
    names = classifier.classes_.tolist()
    find = finder(names)
    with screen.progress() as tell:
        tell("reading", 0.0)
        texts, given = read_together(files, how_to_read(options))
        labels = [
            names[find(label, f"the label of text {i}, ")] for i, label in enumerate(given.to_pylist(), 1)
        ]
        tell("measuring", 0.5)
        named = title or f"{Path(model).stem} on {', '.join(Path(source).name for source in sources)}"
        try:
            page = Report(classifier, texts, labels, title=named, resamples=resamples_of(len(labels)))
        except ImportError as error:
            raise ValueError(str(error)) from None
        tell("drawing", 0.8)
        page.save(output)
    found = page.evaluation
    written = f"{output} ({screen.size(os.path.getsize(output))})"
    click.echo(f"accuracy {found.accuracy:.4f} on {found.rows:,} rows; {written}")
