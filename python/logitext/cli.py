"""The command line: one verb, one library call."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitext import _core

if TYPE_CHECKING:
    import pyarrow as pa

    from logitext.classifier import TextClassifier

DONE, FAILED, INTERRUPTED = 0, 1, 130

Command = Callable[..., Any]


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 could not be done, 2 wrong command line."""
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
        code = DONE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has enough: nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        code = FAILED
    sys.exit(code)


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_core.__version__, prog_name="logitext")
def cli() -> None:
    """Turn text into decisions you can trust, through the logits.

    \b
    logitext train news.csv -o news.safetensors
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    """


_FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")


def _input_options(labelled: bool) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        options = [
            click.option("--text", metavar="NAME", help="Column of the texts (guessed by default)."),
            click.option(
                "--input-format", type=click.Choice(_FORMATS), help="By default the suffix decides."
            ),
            click.option(
                "--threads", type=click.IntRange(min=1), help="CPUs to use (default: all available)."
            ),
        ]
        if labelled:
            options.insert(
                1, click.option("--label", metavar="NAME", help="Column of the labels (guessed by default).")
            )
        for option in reversed(options):
            command = option(command)
        return command

    return add


class NgramRange(click.ParamType[Any]):
    """``2-5``, ``none`` or ``auto``."""

    name = "LOW-HIGH|none|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("auto", "none"):
            return {"auto": "auto", "none": None}[value]
        try:
            low, _, high = str(value).partition("-")
            return int(low), int(high or low)
        except ValueError:
            self.fail(f"{value!r} is not LOW-HIGH, none or auto", param, ctx)


class NumberOrAuto(click.ParamType[Any]):
    """A number, or ``auto``."""

    name = "NUMBER|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number or auto", param, ctx)


@cli.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="MODEL", required=True, help="The model file to write.")
@_input_options(labelled=True)
@click.option("--word-ngrams", type=NgramRange(), default="auto", help="Runs of words (auto: 1-2).")
@click.option(
    "--char-ngrams", type=NgramRange(), default="auto", help="Runs of characters (auto: 2-5 or none)."
)
@click.option("--tokens", type=click.Choice(["unicode", "whitespace"]), default="unicode", show_default=True)
@click.option("--learning-rate", type=NumberOrAuto(), default="auto", show_default=True)
@click.option("--epochs", type=NumberOrAuto(), default="auto", show_default=True)
@click.option("--l2", type=NumberOrAuto(), default="auto", show_default=True)
@click.option("--balanced", is_flag=True, help="Give every class the same weight, however rare.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
def train(inputs: tuple[str, ...], output: str, **options: Any) -> None:
    """Learn a model from labelled texts.

    INPUT is CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or .zst; - is
    standard input. No option is needed for a good result.

    \b
    logitext train news.csv -o news.safetensors
    logitext train part1.parquet part2.parquet --text body --label topic -o topics.safetensors
    """
    import pyarrow as pa

    from logitext import TextClassifier, screen
    from logitext.tables import read_all

    _check_output(output)
    start = time.perf_counter()
    with screen.progress() as tell:
        read = partial(read_all, text=options["text"], label=options["label"], format=options["input_format"])
        texts: list[pa.Array] = []
        labels: list[pa.Array] = []
        for path in inputs:
            some_texts, some_labels = read(path)
            texts += some_texts.chunks
            labels += some_labels.chunks if some_labels is not None else []
        model = TextClassifier(
            word_ngrams=options["word_ngrams"],
            char_ngrams=options["char_ngrams"],
            tokens=options["tokens"],
            learning_rate=options["learning_rate"],
            epochs=options["epochs"],
            l2=options["l2"],
            class_weight="balanced" if options["balanced"] else None,
            threads=options["threads"],
            random_state=options["seed"],
        )
        kinds = {chunk.type for chunk in labels}
        if len(kinds) > 1:
            raise ValueError(f"labels must be of one type in all inputs, got {' and '.join(map(str, kinds))}")
        model.fit(pa.chunked_array(texts), pa.chunked_array(labels), progress=tell)
        model.save(output)
    screen.training_summary(model, time.perf_counter() - start, os.path.getsize(output), output)


def _check_output(output: str) -> None:
    """Before the work, not after it."""
    folder = Path(output).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist: make it first")
    if Path(output).is_dir():
        raise IsADirectoryError(f"{output} is a folder: name a file")


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", metavar="OUT", default="-", help="File to write (default: standard output).")
@_input_options(labelled=False)
@click.option("--logits", is_flag=True, help="Add the raw logit of every class.")
@click.option("--probabilities", is_flag=True, help="Add the probability of every class.")
@click.option("--top-k", type=click.IntRange(min=1), metavar="N", help="Add the N most probable labels.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="P", help="Answer null below this probability."
)
@click.option(
    "--format", "output_format", type=click.Choice(["jsonl", "csv", "tsv", "parquet"]), help="Of OUT."
)
def predict(model: str, source: str, output: str, **options: Any) -> None:
    """Decide on texts: a label and its probability for each, as JSON Lines.

    INPUT is plain lines, CSV, TSV, JSON Lines, Parquet or fastText lines, also .gz or
    .zst; - is standard input. Memory does not grow with it.

    \b
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    logitext predict news.safetensors today.csv --probabilities -o answers.parquet
    """
    from logitext.classifier import load
    from logitext.tables import read
    from logitext.writing import open_writer

    classifier = load(model)
    classifier.threads = options["threads"]
    if options["top_k"] is not None:
        options["top_k"] = min(options["top_k"], len(classifier.classes_))
    batches = read(source, text=options["text"], labelled=False, format=options["input_format"])
    flat = _is_flat(output, options["output_format"])
    with open_writer(output, format=options["output_format"]) as writer:
        for batch in batches:
            for texts in _slices(batch.texts, len(classifier.classes_)):
                writer.write(_answers(classifier, texts, options, flat))


def _slices(texts: pa.LargeStringArray, classes: int) -> Iterator[pa.LargeStringArray]:
    """Runs of rows whose logits take at most some 16 MB, however short the texts."""
    rows = max(1, (4 << 20) // classes)
    for begin in range(0, len(texts), rows):
        yield texts.slice(begin, rows)


def _is_flat(output: str, output_format: str | None) -> bool:
    """Whether the output is a table of text, without room for lists."""
    name = output.removesuffix(".gz").removesuffix(".zst")
    return (output_format or Path(name).suffix.removeprefix(".")) in ("csv", "tsv")


def _answers(
    model: TextClassifier, texts: pa.LargeStringArray, options: dict[str, Any], flat: bool
) -> pa.RecordBatch:
    """Columns `label` and `probability`, and what else was asked for."""
    import numpy as np
    import pyarrow as pa

    from logitext.logits import argmax, softmax, top_k

    z = model.logits(texts)
    probabilities = softmax(z, temperature=model.temperature_)
    decided = argmax(z)
    chosen = probabilities[np.arange(len(z)), decided]
    labels = pa.array(model.classes_.tolist())
    unsure = None if options["threshold"] is None else chosen < options["threshold"]
    columns = {
        "label": labels.take(pa.array(decided, mask=unsure)),
        "probability": pa.array(chosen),
    }
    names = [str(label) for label in model.classes_.tolist()]
    for name, wanted, table in (
        ("logits", options["logits"], z),
        ("probabilities", options["probabilities"], probabilities),
    ):
        if wanted:
            columns[name] = pa.StructArray.from_arrays([pa.array(column) for column in table.T], names)
    if options["top_k"] is not None:
        _, best = top_k(z, options["top_k"])
        shares = np.take_along_axis(probabilities, best, axis=1)
        if flat:
            for k in range(options["top_k"]):
                columns[f"label_{k + 1}"] = labels.take(pa.array(best[:, k]))
                columns[f"probability_{k + 1}"] = pa.array(shares[:, k])
        else:
            pairs = pa.StructArray.from_arrays(
                [labels.take(pa.array(best.ravel())), pa.array(shares.ravel())], ["label", "probability"]
            )
            columns["top"] = pa.FixedSizeListArray.from_arrays(pairs, options["top_k"]).cast(
                pa.list_(pairs.type)
            )
    return pa.RecordBatch.from_pydict(columns)


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("sources", metavar="INPUT...", nargs=-1, required=True)
@_input_options(labelled=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(model: str, sources: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Measure a model on labelled texts: accuracy, macro F1, log loss, classes, mistakes.

    \b
    logitext evaluate news.safetensors news_test.csv
    """
    import numpy as np

    from logitext import screen
    from logitext.classifier import load
    from logitext.evaluation import evaluate as measure

    classifier = load(model)
    classifier.threads = options["threads"]
    logits, codes = [], []
    for path, batch in _labelled(sources, options):
        logits.append(classifier.logits(batch.texts))
        codes.append(_codes(classifier, batch.labels, path, batch.first_row))
    names = classifier.classes_.tolist()
    result = measure(
        np.concatenate(logits), np.concatenate(codes), classes=names, temperature=classifier.temperature_
    )
    if not as_json:
        screen.evaluation(result)
        return
    summary = {
        "rows": result.rows,
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "log_loss": result.log_loss,
    }
    classes = [vars(score) for score in result.classes]
    confused = [{"label": a, "decided": b, "rows": n} for a, b, n in result.most_confused()]
    click.echo(json.dumps({**summary, "classes": classes, "most_confused": confused}, ensure_ascii=False))


def _labelled(sources: tuple[str, ...], options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from logitext.tables import read

    for path in sources:
        read_options = {"text": options["text"], "label": options["label"], "format": options["input_format"]}
        for batch in read(path, **read_options):
            yield path, batch


def _codes(model: TextClassifier, labels: pa.Array, path: str, first_row: int) -> Any:
    """Codes of labels; a table of text spells every class as a string, and is understood."""
    import numpy as np

    classes = model.classes_.tolist()
    by_name = {
        str(label).lower() if isinstance(label, bool) else str(label): i for i, label in enumerate(classes)
    }
    codes = np.empty(len(labels), np.int64)
    for row, label in enumerate(labels.to_pylist()):
        name = str(label).lower() if isinstance(classes[0], bool) else str(label)
        code = by_name.get(name)
        if code is None:
            raise ValueError(
                f"{path}: the label of data row {first_row + row + 1}, {label!r}, is not a class of the model"
            )
        codes[row] = code
    return codes


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("text")
@click.option("--label", help="The class whose logit to account for (default: the decision).")
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="N-grams to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every n-gram.")
def explain(model: str, text: str, label: str | None, most: int, as_json: bool) -> None:
    """Show the way from a text to the decision, n-gram by n-gram.

    TEXT - is standard input.

    \b
    logitext explain news.safetensors "The new smartphone has amazing features."
    """
    from logitext import screen
    from logitext.classifier import load
    from logitext.logits import softmax

    classifier = load(model)
    explanation = classifier.explain(_standard_input() if text == "-" else text)
    wanted = None if label is None else _named(explanation.classes, label)
    if not as_json:
        screen.decision(classifier, explanation, wanted, most)
        return
    names = [str(name) for name in explanation.classes]

    def per_class(row: Any) -> dict[str, float]:
        return dict(zip(names, map(float, row), strict=True))

    click.echo(
        json.dumps(
            {
                "label": explanation.decision,
                "logits": per_class(explanation.logits),
                "probabilities": per_class(softmax(explanation.logits, temperature=classifier.temperature_)),
                "bias": per_class(explanation.bias),
                "ngrams": [
                    {"ngram": name, "block": block, "contributions": per_class(row)}
                    for name, block, row in zip(
                        explanation.ngrams, explanation.blocks, explanation.contributions, strict=True
                    )
                ],
                "unknown": explanation.unknown,
            },
            ensure_ascii=False,
        )
    )


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not valid UTF-8 at byte {error.start}") from error


def _named(classes: list[Any], name: str) -> Any:
    for label in classes:
        if str(label) == name:
            return label
    raise ValueError(f"{name!r} is not a class of the model: its classes are {', '.join(map(str, classes))}")


@cli.command()
@click.argument("model", metavar="MODEL")
@click.option("--verify", is_flag=True, help="Read and check every byte, however large the file.")
@click.option(
    "--ngrams", type=click.IntRange(0, 100), default=8, show_default=True, help="To show of each class."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole header as JSON.")
def inspect(model: str, verify: bool, ngrams: int, as_json: bool) -> None:
    """Show what a model is: classes, settings, training record, strongest n-grams.

    \b
    logitext inspect news.safetensors
    """
    from logitext import screen
    from logitext.classifier import load

    classifier = load(model, verify=True if verify else "auto")
    if as_json:
        click.echo(json.dumps(classifier.header_, ensure_ascii=False))
        return
    screen.model_card(classifier, model, os.path.getsize(model), ngrams)
