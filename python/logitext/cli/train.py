"""``logitext train``: labelled texts → a model."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitext.cli.options import (
    ABOVE_0,
    COUNT,
    LEVEL,
    check_output,
    format_option,
    how_to_read,
    label_option,
    read_together,
    refuse_to_replace,
    separated_by,
    separator_option,
    text_option,
    threads_option,
)

if TYPE_CHECKING:
    from logitext.classifier import TextClassifier


_TOKENS = click.Choice(["unicode", "whitespace"])
_BELOW_1, _FROM_0 = click.FloatRange(0, 1, max_open=True), click.FloatRange(0)
_SEED = click.IntRange(0, 2**32 - 1)


def _ngrams(value: str) -> tuple[int, int] | str | None:
    if value in ("auto", "none"):
        return None if value == "none" else value
    found = re.fullmatch("([1-8])(?:-([1-8]))?", value)
    if found is None or found[1] > (found[2] or found[1]):
        raise click.BadParameter(f"{value!r} is not LOW-HIGH from 1 to 8, none or auto.")
    return int(found[1]), int(found[2] or found[1])


def _weight(value: str) -> tuple[str, float]:
    label, equals, weight = value.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        number = -1.0
    if not (equals and label and 0 <= number < math.inf):
        raise click.BadParameter(f"{value!r} is not LABEL=X with a number X of at least 0.")
    return label, number


def _bytes(value: str) -> str:
    from logitext.arguments import as_bytes

    try:
        as_bytes(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value


def _or_auto(kind: Any) -> Callable[[str], Any]:
    return lambda value: value if value == "auto" else kind(value)


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="MODEL", required=True, help="The model file to write.")
@text_option
@label_option
@format_option
@threads_option
@click.option(
    "--word-ngrams", metavar="LOW-HIGH", type=_ngrams, default="auto", help="Runs of words, or none."
)
@click.option(
    "--char-ngrams", metavar="LOW-HIGH", type=_ngrams, default="auto", help="Runs of characters, or none."
)
@click.option(
    "--tokens", type=_TOKENS, default="unicode", help="Cut by Unicode's rules, or at white space only."
)
@click.option(
    "--learning-rate", metavar="X", type=_or_auto(ABOVE_0), default="auto", help="Step at the start."
)
@click.option("--epochs", metavar="N", type=_or_auto(COUNT), default="auto", help="Passes over the rows.")
@click.option(
    "--l2", metavar="X", type=_or_auto(_FROM_0), default="auto", help="Penalty on weights; auto: 0."
)
@click.option(
    "--label-smoothing",
    metavar="X",
    type=_or_auto(_BELOW_1),
    default="auto",
    help="Share of each target that all classes have in equal parts; auto: 0 or 0.1.",
)
@click.option(
    "--teacher",
    metavar="NAME",
    help="Parquet column with another model's logits or probabilities, as lists: learn those, mixed "
    "with the labels if there are any.",
)
@click.option(
    "--temperature", metavar="T", type=ABOVE_0, default=1.0, help="Divides the teacher's logits first."
)
@click.option("--z-loss", metavar="X", type=_FROM_0, default=0.0, help="Weight of the squared log-sum-exp.")
@click.option(
    "--validation",
    metavar="FILE",
    multiple=True,
    help="Labelled rows never trained on: settings are chosen and probabilities calibrated on them. "
    "May be given several times.",
)
@click.option(
    "--early-stopping",
    metavar="N",
    type=COUNT,
    help="End after N epochs without a lower validation loss; keep the best epoch.",
)
@click.option("--minutes", metavar="X", type=ABOVE_0, help="Be done by then, reading not counted.")
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Keep the state of training here, and go on from it where it is there; removed at the end.",
)
@click.option(
    "--continue",
    "begun",
    metavar="MODEL",
    help="Go on from this model, which stays as it is: same classes and features, new n-grams join.",
)
@click.option(
    "--multilabel",
    is_flag=True,
    help="A text may have several labels, or none: lists, several __label__, or strings with a separator.",
)
@separator_option
@click.option(
    "--max-size",
    metavar="SIZE",
    type=_bytes,
    help="Bytes MODEL may have at most, as 500kB, 2MB or 2MiB: what counts least is left out; what that "
    "costs is measured on the validation rows, else on up to 5,000 of those trained on.",
)
@click.option(
    "--holdout",
    metavar="X",
    type=LEVEL,
    help="Share of the rows nothing is fitted on: what sets, novelty and --max-error promise is then exact.",
)
@click.option("--balanced", is_flag=True, help="Give every class the same weight, however rare.")
@click.option(
    "--class-weight",
    metavar="LABEL=X",
    multiple=True,
    type=_weight,
    help="Weight of the rows of a class (default: 1). May be given several times.",
)
@click.option(
    "--seed", metavar="N", type=_SEED, default=0, help="Of the order of rows and of what is held out."
)
def train(inputs: tuple[str, ...], output: str, **options: Any) -> None:
    """Learn a model from labelled texts.

    INPUT is CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or .zst; a folder of
    such; a pattern; - is standard input. More text than fits in memory is streamed. No option
    is needed for a good result.

    \b
    logitext train news.csv -o news.safetensors
    logitext train part1.parquet part2.parquet --text body --label topic -o topics.safetensors
    logitext train judged.parquet --teacher logits -o fast.safetensors
    logitext train big.parquet --minutes 5 --checkpoint big.part -o big.safetensors
    logitext train tagged.csv --label tags --label-separator ";" -o tags.safetensors
    logitext train today.csv --continue news.safetensors -o news2.safetensors
    logitext train news.csv --max-size 500kB -o small.safetensors
    """
    from logitext import TextClassifier, screen
    from logitext.sources import files_of

    if options["teacher"] is None and options["temperature"] != 1:
        raise click.UsageError("--temperature belongs to --teacher.")
    if options["balanced"] and options["class_weight"]:
        raise click.UsageError("--balanced and --class-weight do not go together.")
    if options["early_stopping"] and not options["validation"]:
        raise click.UsageError("--early-stopping needs --validation FILE.")
    several = options["multilabel"] or options["label_separator"] is not None
    if several and options["teacher"] is not None:
        raise click.UsageError("--teacher is for one label per text, not for --multilabel.")
    written = [path for path in (output, options["checkpoint"]) if path is not None]
    for path in written:
        check_output(path, *inputs, *options["validation"])
    files, given = files_of(inputs), dict[str, Any]()
    if options["holdout"] is not None:
        if options["begun"] is not None:
            raise click.UsageError("--holdout does not go together with --continue.")
        given["holdout"] = options["holdout"]
    for path in written:
        refuse_to_replace((*files, *files_of(options["validation"] or "-")), path)
    names = (
        "word_ngrams",
        "char_ngrams",
        "tokens",
        "learning_rate",
        "epochs",
        "l2",
        "label_smoothing",
        "z_loss",
        "early_stopping",
        "minutes",
        "max_size",
        "threads",
    )
    begun = None if options["begun"] is None else _begun(options)
    several = several or (begun is not None and begun.thresholds_ is not None)
    model = TextClassifier(
        **{name: options[name] for name in names},
        class_weight="balanced" if options["balanced"] else dict(options["class_weight"]) or None,
        multilabel=several,
        random_state=options["seed"],
    )
    start = time.perf_counter()
    with screen.progress() as tell:
        separated = separated_by(options) if several else {}
        how = how_to_read(options) | separated
        if options["validation"]:
            given["validation"] = read_together(files_of(options["validation"]), how)
        if begun is not None:
            epochs = AGAIN_EPOCHS if options["epochs"] == "auto" else options["epochs"]
            begun.set_params(**model.get_params())
            model = begun.partial_fit(*read_together(files, how), epochs=epochs, progress=tell, **given)
        elif options["teacher"] is not None:
            taught = _taught(files, options)
            texts, labels = read_together(files, how | {"labelled": taught.pop("labelled")})
            model.fit(texts, labels, checkpoint=options["checkpoint"], progress=tell, **taught, **given)
        else:
            columns = {"text": how["text"], "label": how["label"], "input_format": how["format"]}
            columns |= {"label_separator": separated["separator"]} if several else {}
            model.fit(files, checkpoint=options["checkpoint"], progress=tell, **columns, **given)
        model.save(output)
    if options["checkpoint"] is not None:
        Path(options["checkpoint"]).unlink(missing_ok=True)
    screen.training_summary(model, time.perf_counter() - start, os.path.getsize(output), output)


AGAIN_EPOCHS = 5
"""Passes over the rows a model is trained further on."""


def _begun(options: dict[str, Any]) -> TextClassifier:
    """The model to go on from, if what else was asked for fits it."""
    from logitext.classifier import FastTextClassifier, load

    for name in ("teacher", "checkpoint"):
        if options[name] is not None:
            raise click.UsageError(f"--continue does not go together with --{name}.")
    model = load(options["begun"], verify=True)
    if isinstance(model, FastTextClassifier):
        raise ValueError(f"{options['begun']}: is a fastText model, which cannot be trained further")
    features = model.model_.features
    for name in ("word_ngrams", "char_ngrams", "tokens"):
        source = click.get_current_context().get_parameter_source(name)
        known = features[name]
        wanted = list(options[name]) if isinstance(options[name], tuple) else options[name]
        if source is not None and source.name == "COMMANDLINE" and wanted not in ("auto", known):
            has = f"--{name.replace('_', '-')} {_spelled(known)}"
            raise ValueError(f"{options['begun']}: has {has}, and cannot go on with others")
    return model


def _spelled(ngrams: Any) -> str:
    return "none" if ngrams is None else ngrams if isinstance(ngrams, str) else "-".join(map(str, ngrams))


def _taught(inputs: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """What `fit` is given of a teacher."""
    import numpy as np
    import pyarrow.parquet as pq

    from logitext.tables import LABEL_COLUMNS
    from logitext.teaching import read_teacher

    name = options["teacher"]
    logits = [read_teacher(path, name) for path in inputs]
    widths = sorted({z.shape[1] for z in logits})
    if len(widths) > 1:
        raise ValueError(f"the lists in {name!r} must be equally long in all inputs, got {widths}")
    known = {*LABEL_COLUMNS, (options["label"] or "").lower()}
    labelled = any(column.lower() in known for path in inputs for column in pq.read_schema(path).names)
    return {
        "teacher_logits": np.concatenate(logits),
        "temperature": options["temperature"],
        "labelled": labelled or options["label"] is not None,
    }
