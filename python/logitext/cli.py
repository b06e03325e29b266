"""The command line: one verb, one library call."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from logitext import _core
from logitext.cli_serve import serve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from logitext.classifier import TextClassifier
    from logitext.comparison import Comparison
    from logitext.evaluation import Evaluation
    from logitext.intervals import Interval


DONE, FAILED, INTERRUPTED = 0, 1, 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 could not be done, 2 wrong command line."""
    _open_standard_streams()
    code = DONE
    try:
        # Not by click's own `main`, which exits with 1 where a pipe was closed.
        with suppress(click.exceptions.Exit), cli.make_context("logitext", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted" if sys.stderr.isatty() else "interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        pass  # Whoever read us has enough.
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        code = FAILED
    _close_standard_output()
    sys.exit(code)


def _open_standard_streams() -> None:
    """Whatever the locale says, text is UTF-8; a stream that was closed is an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    cast(io.TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8")


def _close_standard_output() -> None:
    """What cannot be written now is not tried again, and complained about, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, MemoryError):
        message = "out of memory"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(message.split())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(_core.__version__, prog_name="logitext")
def cli() -> None:
    """Turn text into decisions you can trust, through the logits.

    \b
    logitext train news.csv -o news.safetensors
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    """


OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")
"""Those of `logitext.writing` and `logitext.tables`, which take longer to import than help takes to print."""

_N = click.IntRange(min=1)
_text = click.option("--text", metavar="NAME", help="Column of the texts (guessed by default).")
_label = click.option("--label", metavar="NAME", help="Column of the labels (guessed by default).")
_how = f"{', '.join(FORMATS)} (default: what the suffix says)."
_input_format = click.option("--input-format", metavar="FORMAT", type=click.Choice(FORMATS), help=_how)
_of_out = f"{', '.join(OUTPUT_FORMATS)} (default: what the suffix of OUT says, or jsonl)."
_separator = click.option(
    "--label-separator",
    metavar="TEXT",
    help="What stands between several labels of one text, where there are no lists (default: ;).",
)
_threads = click.option("--threads", metavar="N", type=_N, help="CPUs to use (default: all available).")


_TOKENS = click.Choice(["unicode", "whitespace"])
_BELOW_1 = click.FloatRange(0, 1, max_open=True)
_ABOVE_0, _FROM_0, _SHARE = click.FloatRange(0, min_open=True), click.FloatRange(0), click.FloatRange(0, 1)
_LEVEL = click.FloatRange(0, 1, min_open=True, max_open=True)
_SEED, _NAMED = click.IntRange(0, 2**32 - 1), click.IntRange(0, 100)


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


@cli.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="MODEL", required=True, help="The model file to write.")
@_text
@_label
@_input_format
@_threads
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
    "--learning-rate", metavar="X", type=_or_auto(_ABOVE_0), default="auto", help="Step at the start."
)
@click.option("--epochs", metavar="N", type=_or_auto(_N), default="auto", help="Passes over the rows.")
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
    "--temperature", metavar="T", type=_ABOVE_0, default=1.0, help="Divides the teacher's logits first."
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
    type=_N,
    help="End after N epochs without a lower validation loss; keep the best epoch.",
)
@click.option("--minutes", metavar="X", type=_ABOVE_0, help="Be done by then, reading not counted.")
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
@_separator
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
    type=_LEVEL,
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
        _check_output(path, *inputs, *options["validation"])
    files, given = files_of(inputs), dict[str, Any]()
    if options["holdout"] is not None:
        if options["begun"] is not None:
            raise click.UsageError("--holdout does not go together with --continue.")
        given["holdout"] = options["holdout"]
    for path in written:
        _refuse_to_replace((*files, *files_of(options["validation"] or "-")), path)
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
        separated = _separated(options) if several else {}
        how = _how_to_read(options) | separated
        if options["validation"]:
            given["validation"] = _read_together(files_of(options["validation"]), how)
        if begun is not None:
            epochs = AGAIN_EPOCHS if options["epochs"] == "auto" else options["epochs"]
            begun.set_params(**model.get_params())
            model = begun.partial_fit(*_read_together(files, how), epochs=epochs, progress=tell, **given)
        elif options["teacher"] is not None:
            taught = _taught(files, options)
            texts, labels = _read_together(files, how | {"labelled": taught.pop("labelled")})
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
    from logitext.classifier import load

    for name in ("teacher", "checkpoint"):
        if options[name] is not None:
            raise click.UsageError(f"--continue does not go together with --{name}.")
    model = load(options["begun"], verify=True)
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


def _read_together(inputs: list[str], how: dict[str, Any]) -> tuple[Any, Any]:
    """Texts and, if wanted, labels of all inputs."""
    import pyarrow as pa

    from logitext.tables import joined, read_all

    tables = [read_all(path, **how) for path in inputs]
    texts = pa.chunked_array([chunk for texts, _ in tables for chunk in texts.chunks])
    chunks = [chunk for _, labels in tables if labels is not None for chunk in labels.chunks]
    return texts, joined(chunks) if chunks else None


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


def _how_to_read(options: dict[str, Any]) -> dict[str, Any]:
    return {"text": options["text"], "label": options.get("label"), "format": options["input_format"]}


def _separated(options: dict[str, Any]) -> dict[str, Any]:
    given = options["label_separator"]
    if given == "":
        raise click.UsageError("--label-separator must not be empty.")
    return {"separator": ";" if given is None else given}


def _check_output(output: str, *inputs: str) -> None:
    """Find out before the work, not after it, whether a file can be written."""
    if output == "-":
        raise ValueError("this cannot be written to standard output: name a file")
    folder = Path(output).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{output}: cannot be written, because the folder '{folder}' does not exist")
    if Path(output).exists() and not Path(output).is_file():
        raise ValueError(f"{output}: cannot be written, because it is a folder or a device")
    _refuse_to_replace(inputs, output)


def _refuse_to_replace(inputs: tuple[str, ...], output: str) -> None:
    for path in inputs:
        if os.path.isfile(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise ValueError(f"{output}: is an input, and would be lost if it were written to")


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", metavar="OUT", default="-", help="File to write; - is standard output.")
@click.option("--format", "output_format", metavar="FORMAT", type=click.Choice(OUTPUT_FORMATS), help=_of_out)
@_text
@_input_format
@_threads
@click.option("--logits", is_flag=True, help="Add the raw logit of every class.")
@click.option("--probabilities", is_flag=True, help="Add the probability of every class.")
@click.option("--top-k", metavar="N", type=_N, help="Add the N most probable labels.")
@click.option(
    "--threshold",
    metavar="P",
    type=_SHARE,
    help="Answer null below this probability; of several labels give those that reach it.",
)
@click.option(
    "--max-error",
    metavar="E",
    type=_LEVEL,
    help="Answer null where a label is not sure enough to keep wrong answers below this share.",
)
@click.option(
    "--set", "coverage", metavar="C", type=_LEVEL, help="Add the set of labels that covers so many."
)
@click.option("--novelty", is_flag=True, help="Add how unlike the training texts a text is, and the p-value.")
@_separator
def predict(model: str, source: str, output: str, **options: Any) -> None:
    """Decide on texts: a label and its probability for each, as JSON Lines.

    INPUT is plain lines, CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or
    .zst; - is standard input. Memory does not grow with it.

    \b
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    logitext predict news.safetensors today.csv --probabilities -o answers.parquet
    logitext predict news.safetensors today.csv --max-error 0.05 --set 0.9 --novelty
    """
    from logitext.answers import answers
    from logitext.classifier import load
    from logitext.tables import read
    from logitext.writing import open_writer

    classifier = load(model)
    classifier.threads = options["threads"]
    _refuse_to_replace((model, source), output)
    how = {**_how_to_read(options), "labelled": False, "batch_bytes": 2 << 20}  # less to hold, no slower
    batches = read(source, **how)
    names = ("logits", "probabilities", "top_k", "threshold", "max_error", "coverage", "novelty")
    wanted = {name: options[name] for name in names}
    with open_writer(output, format=options["output_format"]) as writer:
        for batch in batches:
            for answer in answers(
                classifier, batch.texts, **wanted, nested=writer.nested, **_separated(options)
            ):
                writer.write(answer)


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@_text
@_label
@_input_format
@_threads
@_separator
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
    find = _finder(names)
    logits: list[NDArray[np.float32]] = []
    codes: list[int] = []
    lengths: list[int] = []
    thresholds = classifier.thresholds_
    several = thresholds is not None
    rival = None if other is None else _rival(other, classifier)
    rivals: list[NDArray[np.float32]] = []
    how = _how_to_read(options) | (_separated(options) if several else {})
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
            _print_json(asdict(found))
        else:
            screen.multilabel_evaluation(found)
        return
    resamples = _resamples(len(codes))
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
    _print_json(_finite(_written(result, against)))


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


FEWEST_RESAMPLES, MOST_RESAMPLES, MOST_DRAWN = 200, 1000, 100_000_000
"""Of the rows, for intervals: less often where rows are many, and the answer is as good."""


def _resamples(rows: int) -> int:
    return max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, MOST_DRAWN // max(1, rows)))


def _rival(path: str, model: TextClassifier) -> tuple[TextClassifier, list[int]]:
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


def _finder(classes: list[Any]) -> Callable[[Any, str], int]:
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


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("text")
@click.option("--label", metavar="NAME", help="The class whose logit to account for (default: the decision).")
@click.option("--most", metavar="N", type=_N, default=10, help="How many n-grams to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every n-gram.")
def explain(model: str, text: str, label: str | None, most: int, as_json: bool) -> None:
    """Show the way from a text to the decision, n-gram by n-gram.

    TEXT - is standard input; put -- before a text that starts with a dash.

    \b
    logitext explain news.safetensors "The new smartphone has amazing features."
    """
    from logitext import screen
    from logitext.answers import explained
    from logitext.classifier import load

    classifier = load(model)
    explanation = classifier.explain(_standard_input() if text == "-" else text)
    classes = explanation.classes
    shown = explanation.leading if label is None else classes[_finder(classes)(label, "")]
    if not as_json:
        screen.decision(classifier, explanation, shown, most)
        return
    _print_json(explained(classifier, explanation))


@cli.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.argument("sources", metavar="INPUT...", nargs=-1)
@click.option("--logits", metavar="FILE", help="Of any model: its logits, rows by classes, as a .npy file.")
@click.option("--labels", metavar="FILE", help="With --logits: integer labels, as a .npy file.")
@click.option("-o", "--output", metavar="OUT", required=True, help="The file to write.")
@_text
@_label
@_input_format
@_threads
@_separator
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

        _check_output(output, options["logits"], options["labels"])
        z, y = open_npy(options["logits"]), open_npy(options["labels"])
        calibrator = Calibrator().fit(z, y)
        calm = calibrator.transform(z)
        write_npy(output, calm)
        before, after = (float(np.asarray(cross_entropy(each, y))) for each in (z, calm))
        screen.calibration_of_logits(calibrator, before, after, len(z), output)
        return
    from logitext.classifier import load
    from logitext.sources import files_of

    _check_output(output, *sources)
    files = files_of(sources)
    _refuse_to_replace(tuple(files), output)
    classifier = load(model, verify=True)
    classifier.threads = options["threads"]
    several = classifier.thresholds_ is not None
    how = _how_to_read(options) | (_separated(options) if several else {})
    texts, labels = _read_together(files, how)
    find = _finder(classifier.classes_.tolist())
    names = classifier.classes_.tolist()
    if not several:
        given = enumerate(labels.to_pylist(), 1)
        labels = [names[find(label, f"the label of data row {at}, ")] for at, label in given]
    old = classifier.evaluate(texts, labels)
    classifier.calibrate(texts, labels)
    new = classifier.evaluate(texts, labels)
    classifier.save(output)
    screen.calibration(old, new, output)


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@_text
@_input_format
@_threads
@click.option("--most", metavar="N", type=_N, default=20, help="How many n-grams to name.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, unrounded.")
def drift(model: str, sources: tuple[str, ...], most: int, as_json: bool, **options: Any) -> None:
    """Compare new texts, without labels, with those a model was trained on.

    Tests whether their novelty is what it was on held-out rows, and names n-grams that became more
    frequent or rarer.

    \b
    logitext drift news.safetensors today.csv
    """
    from logitext import screen
    from logitext.classifier import load
    from logitext.sources import files_of

    classifier = load(model)
    classifier.threads = options["threads"]
    texts, _ = _read_together(files_of(sources), _how_to_read(options) | {"labelled": False})
    found = classifier.drift(texts, most=most)
    if not as_json:
        screen.drift(found)
        return
    alarms = {f"{level:g}": share for level, share in found.alarms.items()}
    moved = [one._asdict() for one in found.moved]
    _print_json({**asdict(found), "drifted": found.drifted, "alarms": alarms, "moved": moved})


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", required=True, help="The HTML file to write.")
@click.option("--title", metavar="TEXT", help="Of the page (default: the names of MODEL and INPUT).")
@_text
@_label
@_input_format
@_threads
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

    _check_output(output, model, *sources)
    files = files_of(sources)
    _refuse_to_replace(tuple(files), output)
    classifier = load(model)
    classifier.threads = options["threads"]
    names = classifier.classes_.tolist()
    find = _finder(names)
    with screen.progress() as tell:
        tell("reading", 0.0)
        texts, given = _read_together(files, _how_to_read(options))
        labels = [
            names[find(label, f"the label of text {i}, ")] for i, label in enumerate(given.to_pylist(), 1)
        ]
        tell("measuring", 0.5)
        named = title or f"{Path(model).stem} on {', '.join(Path(source).name for source in sources)}"
        try:
            page = Report(classifier, texts, labels, title=named, resamples=_resamples(len(labels)))
        except ImportError as error:
            raise ValueError(str(error)) from None
        tell("drawing", 0.8)
        page.save(output)
    found = page.evaluation
    written = f"{output} ({screen.size(os.path.getsize(output))})"
    click.echo(f"accuracy {found.accuracy:.4f} on {found.rows:,} rows; {written}")


_NPY = "Integer labels, one per row, as a .npy file: adds log loss and accuracy."
_WRITTEN = click.Choice(["probabilities", "log-probabilities"])


@cli.command()
@click.argument("file", metavar="FILE")
@click.option("--labels", metavar="LABELS", help=_NPY)
@click.option("-o", "--output", metavar="OUT", help="Write the probabilities to this .npy file.")
@click.option("--write", type=_WRITTEN, help="What goes into OUT (default: probabilities).")
@click.option("--temperature", metavar="T", type=_ABOVE_0, default=1.0, help="Divide the logits by it first.")
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
        _check_output(output, file, *([] if labels is None else [labels]))
    z, y = open_npy(file), None if labels is None else open_npy(labels)
    how: dict[str, Any] = {"temperature": options["temperature"]}
    with screen.progress() as tell:
        found = describe(z, y, **how, progress=tell)
        if output is not None:
            write_probabilities(output, z, **how, log=write == "log-probabilities", progress=tell)
    if options["as_json"]:
        _print_json(_finite(asdict(found)))
    else:
        screen.logits(found, output and f"{output} ({screen.size(os.path.getsize(output))})")


def _finite(value: Any) -> Any:
    """Return what JSON can hold: null for NaN and infinities."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not valid UTF-8 at byte {error.start}") from error


@cli.command()
@click.argument("model", metavar="MODEL")
@click.option("--verify", is_flag=True, help="Read and check every byte, however large the file.")
@click.option("--ngrams", metavar="N", type=_NAMED, default=8, help="How many to show of each class.")
@click.option("--training", is_flag=True, help="How training went, epoch by epoch.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole header as JSON.")
def inspect(model: str, verify: bool, ngrams: int, training: bool, as_json: bool) -> None:
    """Show what a model is: classes, settings, training record, strongest n-grams.

    \b
    logitext inspect news.safetensors
    """
    from logitext import screen
    from logitext.classifier import load

    classifier = load(model, verify=True if verify else "auto")
    if as_json:
        _print_json(classifier.model_.header)
        return
    if training:
        screen.training_record(classifier)
        return
    screen.model_card(classifier, model, os.path.getsize(model), ngrams)


cli.add_command(serve)
