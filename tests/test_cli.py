"""The command line, from outside: what is typed, what comes back, what is left on the disk."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import logitext as lt
from logitext import _core, cli, modelfile, tables, writing
from logitext.cli import options as cli_options

LOGITEXT = Path(sysconfig.get_path("scripts")) / "logitext"
EXAMPLES = Path(__file__).parent.parent / "examples"
HEADLINES, HEADLINES_TEST = EXAMPLES / "headlines.csv", EXAMPLES / "headlines_test.csv"
VERBS = ("train", "predict", "evaluate", "report", "explain", "inspect", "logits")
QUICK = ("--learning-rate", "1", "--epochs", "3", "--char-ngrams", "none")
SENTENCE = "The new smartphone has amazing features."
# The machine may be slow and shared: this only ends what would hang for ever.
FOREVER = 600


class Done(NamedTuple):
    code: int
    out: str
    err: str


def logitext(*args: object, stdin: bytes | None = b"", **how: Any) -> Done:
    """Run the real command."""
    done = subprocess.run(
        [LOGITEXT, *map(str, args)], input=stdin, capture_output=True, timeout=FOREVER, check=False, **how
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: half a second faster, and otherwise the same."""

    def run(*args: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["logitext", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert isinstance(exit.value.code, int)
        return Done(exit.value.code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "headlines.safetensors"
    done = logitext("train", HEADLINES, "-o", path)
    assert (done.code, done.err) == (0, "")
    rows = dict(re.split("  +", line) for line in done.out.splitlines())
    assert list(rows) == [
        "rows", "classes", "features", "chosen", "seconds", "held-out accuracy", "held-out log loss", "model"
    ]  # fmt: skip
    assert rows["classes"] == "3"
    assert "MB/s" in rows["seconds"]
    assert str(path) in rows["model"]
    assert os.listdir(path.parent) == [path.name]
    return path


def refused(done: Done, *words: str) -> None:
    """One clear sentence, and nothing else."""
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Help and the command line itself


@pytest.mark.parametrize("verb", VERBS)
def test_examples_in_the_help_are_right(verb: str, run: Run) -> None:
    done = run(verb, "--help")
    assert (done.code, done.err) == (0, "")
    examples = [line.strip() for line in done.out.splitlines() if re.match(rf" .*logitext {verb} ", line)]
    assert examples
    for example in examples:
        words = shlex.split(example.split("|")[-1])
        assert words[:2] == ["logitext", verb]
        assert cli.cli.commands[verb].make_context(verb, words[2:]) is not None
    options = [option for option in cli.cli.commands[verb].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_command_itself() -> None:
    version = logitext("--version")
    assert version == (0, f"logitext, version {_core.__version__}\n", "")
    general = logitext("-h")
    assert general.code == 0
    assert all(verb in general.out for verb in VERBS)
    assert (cli_options.FORMATS, cli_options.OUTPUT_FORMATS) == (tables.FORMATS, writing.OUTPUT_FORMATS)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "trian x.csv -o x",
        "train",
        "train x.csv",
        "train -o x",
        "train x.csv -o y --learning-rate much",
        "train x.csv -o y --learning-rate 0",
        "train x.csv -o y --epochs 2.5",
        "train x.csv -o y --l2 -1",
        "train x.csv -o y --word-ngrams 2-1",
        "train x.csv -o y --char-ngrams 2-9",
        "train x.csv -o y --threads 0",
        "train x.csv -o y --input-format xml",
        "predict x",
        "predict x y --top-k 0",
        "predict x y --threshold 2",
        "predict x y --format xml",
        "evaluate x",
        "explain x",
        "explain x y --most 0",
        "inspect",
        "inspect x --ngrams 101",
        "inspect x --nonsense",
    ],
)
def test_a_wrong_command_line_is_2(line: str, run: Run) -> None:
    done = run(*shlex.split(line))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: logitext")


# The verbs


def test_train_with_every_option(tmp_path: Path, run: Run) -> None:
    rows = "".join(f"{word} {i},{word}\n" for i in range(5) for word in ("good", "bad"))
    for name in ("a.txt", "b.txt", "c.txt"):
        write(tmp_path / name, "body,kind\n" + rows)
    done = run(
        "train", tmp_path / "a.txt", tmp_path / "b.txt", "-o", tmp_path / "m",
        "--text", "body", "--label", "kind", "--input-format", "csv", "--threads", 2, "--word-ngrams", "1-3",
        "--char-ngrams", "3", "--tokens", "whitespace", "--learning-rate", "0.5", "--epochs", "2",
        "--l2", "0.001", "--label-smoothing", "0.05", "--z-loss", "0.01", "--minutes", "2", "--balanced",
        "--validation", tmp_path / "c.txt", "--early-stopping", "2", "--checkpoint", tmp_path / "part",
        "--max-size", "9MB", "--seed", "7",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    header = json.loads(run("inspect", tmp_path / "m", "--json").out)
    assert header["training"]["rows"] == 20
    assert header["training"]["text_bytes"] == 2 * sum(len(f"{word} 0") * 5 for word in ("good", "bad"))
    assert header["settings"] == {
        "word_ngrams": [1, 3], "char_ngrams": [3, 3], "tokens": "whitespace", "learning_rate": 0.5,
        "epochs": 2, "l2": 0.001, "label_smoothing": 0.05, "class_weight": "balanced",
        "calibration": "auto", "random_state": 7, "z_loss": 0.01, "minutes": 2.0, "early_stopping": 2,
        "multilabel": False, "max_size": "9MB",
    }  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt", "c.txt", "m"]
    # One verb, one library call: the same bytes.
    texts, labels = zip(*(line.split(",") for line in (rows + rows).splitlines()), strict=True)
    lt.TextClassifier(
        word_ngrams=(1, 3), char_ngrams=(3, 3), tokens="whitespace", learning_rate=0.5, epochs=2, l2=0.001,
        label_smoothing=0.05, class_weight="balanced", random_state=7, threads=1, z_loss=0.01, minutes=2.0,
        early_stopping=2, max_size="9MB",
    ).fit(list(texts), list(labels), validation=(list(texts[:10]), list(labels[:10]))).save(
        tmp_path / "library"
    )  # fmt: skip
    assert (tmp_path / "library").read_bytes() == (tmp_path / "m").read_bytes()


def test_weights_of_classes(tmp_path: Path, run: Run) -> None:
    rows = "".join(f"{word} {i},{n}\n" for i in range(5) for n, word in enumerate(("good", "bad", "so=so")))
    write(tmp_path / "a.csv", "text,label\n" + rows)
    write(tmp_path / "b.parquet", "")
    texts = [row.split(",")[0] for row in rows.splitlines()]
    pq.write_table(pa.table({"text": texts, "label": [0, 1, 2] * 5}), tmp_path / "b.parquet")
    for name, zero in (("a.csv", "0"), ("b.parquet", 0)):
        done = run(
            "train", tmp_path / name, "-o", tmp_path / "m", "--class-weight", "0=0.5", "--class-weight", "1=3"
        )
        assert done.code == 0
        labels = [str(n) if name == "a.csv" else n for n in [0, 1, 2] * 5]
        weights = {"0": 0.5, "1": 3.0}
        lt.TextClassifier(class_weight=weights).fit(texts, labels).save(tmp_path / "library")
        assert (tmp_path / "library").read_bytes() == (tmp_path / "m").read_bytes()
        same = lt.TextClassifier(class_weight={zero: 0.5, type(zero)(1): 3.0}).fit(texts, labels)
        assert np.array_equal(same.logits(texts), lt.load(tmp_path / "m").logits(texts))
    for bad in ("0", "=1", "0=-1", "0=nan", "0=x"):
        assert run("train", tmp_path / "a.csv", "-o", tmp_path / "n", "--class-weight", bad).code == 2
    done = run("train", tmp_path / "a.csv", "-o", tmp_path / "n", "--class-weight", "zz=1")
    assert (done.code, done.err) == (1, "error: class_weight names 'zz', which is not a class\n")
    assert run("train", "a.csv", "-o", "n", "--class-weight", "0=1", "--balanced").code == 2


def test_train_reads_standard_input(model: Path, tmp_path: Path) -> None:
    done = logitext("train", "-", "-o", tmp_path / "m", stdin=HEADLINES.read_bytes())
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "m").read_bytes() == model.read_bytes()


def test_predict_writes_json_lines(model: Path) -> None:
    done = logitext("predict", model, "-", stdin=f"{SENTENCE}\nThe court fined the minister.\n".encode())
    assert (done.code, done.err) == (0, "")
    rows = json_lines(done.out)
    assert [list(row) for row in rows] == [["label", "probability"]] * 2
    assert [row["label"] for row in rows] == ["Technology", "News"]
    classifier = lt.load(model)
    probabilities = classifier.predict_proba([SENTENCE])[0]
    assert rows[0]["probability"] == pytest.approx(float(probabilities.max()), rel=1e-6)


def test_predict_with_all_answers(model: Path, run: Run) -> None:
    done = run("predict", model, HEADLINES_TEST, "--logits", "--probabilities", "--top-k", 2)
    assert (done.code, done.err) == (0, "")
    rows = json_lines(done.out)
    classifier = lt.load(model)
    texts = tables.read_all(HEADLINES_TEST)[0].to_pylist()
    assert [row["label"] for row in rows] == classifier.predict(texts).tolist()
    assert list(rows[0]) == ["label", "probability", "logits", "probabilities", "top"]
    for name, table in (
        ("logits", classifier.logits(texts)),
        ("probabilities", classifier.predict_proba(texts)),
    ):
        assert list(rows[0][name]) == classifier.classes_.tolist()
        np.testing.assert_array_equal(np.array([list(row[name].values()) for row in rows], np.float32), table)
    for row in rows:
        best = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:2]
        assert [(top["label"], top["probability"]) for top in row["top"]] == best
        assert row["top"][0]["label"] == row["label"]


def test_predict_below_the_threshold_is_null(model: Path, run: Run) -> None:
    sure = json_lines(run("predict", model, HEADLINES_TEST).out)
    rows = json_lines(run("predict", model, HEADLINES_TEST, "--threshold", 0.8).out)
    assert {row["label"] for row in rows} == {None, "News", "Entertainment", "Technology"}
    for one, row in zip(sure, rows, strict=True):
        assert row["probability"] == one["probability"]
        assert row["label"] == (one["label"] if one["probability"] >= 0.8 else None)
    # More than there are classes is all of them.
    assert len(json_lines(run("predict", model, HEADLINES_TEST, "--top-k", 99).out)[0]["top"]) == 3


@pytest.mark.parametrize("name", ["x.csv", "x.CSV.GZ", "x.tsv.zst", "x.parquet", "x.jsonl", "x.jsonl.gz"])
def test_predict_into_files(model: Path, tmp_path: Path, run: Run, name: str) -> None:
    asked = ("--probabilities", "--top-k", 2, "--threshold", 0.8)
    expected = json_lines(run("predict", model, HEADLINES_TEST, *asked).out)
    out = tmp_path / name
    assert run("predict", model, HEADLINES_TEST, *asked, "-o", out) == (0, "", "")
    assert os.listdir(tmp_path) == [name]
    content = out.read_bytes()
    if name.lower().endswith("gz"):
        content = gzip.decompress(content)
    elif name.endswith(".zst"):
        content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    if "jsonl" in name:
        assert json_lines(content.decode()) == expected
    elif "parquet" in name:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
        assert [row["label"] for row in rows] == [row["label"] for row in expected]
        assert [[top["label"] for top in row["top"]] for row in rows] == [
            [top["label"] for top in row["top"]] for row in expected
        ]
    else:
        options = pyarrow.csv.ParseOptions(delimiter="\t" if "tsv" in name else ",")
        strings = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        rows = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=options, convert_options=strings)
        assert rows.column_names[:2] == ["label", "probability"]
        assert rows["label"].to_pylist() == [row["label"] for row in expected]
        assert rows["label_2"].to_pylist() == [row["top"][1]["label"] for row in expected]
        assert rows["probabilities.News"].to_pylist() == pytest.approx(
            [row["probabilities"]["News"] for row in expected]
        )


def test_predict_to_standard_output_in_other_formats(model: Path) -> None:
    csv = logitext("predict", model, HEADLINES_TEST, "--format", "csv")
    assert csv.out.splitlines()[0] == '"label","probability"'
    done = subprocess.run(
        [LOGITEXT, "predict", model, HEADLINES_TEST, "--format", "parquet"],
        capture_output=True,
        timeout=FOREVER,
        check=True,
    )
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows == len(csv.out.splitlines()) - 1


def test_predict_reads_every_format(model: Path, tmp_path: Path, run: Run) -> None:
    texts = ["A robot app", "The court ruled", "Fans love the film", "😀 naïve 漢字"]
    table = pa.table({"text": texts})
    pq.write_table(table, tmp_path / "x.parquet")
    lines = "\n".join(texts).encode() + b"\n"
    write(tmp_path / "x.txt", lines)
    write(tmp_path / "x.txt.gz", gzip.compress(lines))
    with pa.CompressedOutputStream(str(tmp_path / "x.txt.zst"), "zstd") as out:
        out.write(lines)
    write(tmp_path / "x.csv", b"text\n" + lines)
    write(tmp_path / "x.tsv", b"text\tn\n" + lines.replace(b"\n", b"\t1\n"))
    write(tmp_path / "x.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    write(tmp_path / "x.ft", b"".join(b"__label__a " + line + b"\n" for line in lines.splitlines()))
    expected = run("predict", model, "-", stdin=lines)
    assert expected.code == 0
    for path in sorted(tmp_path.iterdir()):
        assert run("predict", model, path) == expected, path
    assert (
        run("predict", model, "-", "--input-format", "jsonl", stdin=(tmp_path / "x.jsonl").read_bytes())
        == expected
    )
    assert run("predict", model, tmp_path / "x.tsv", "--text", "text", "--threads", 1) == expected


def test_evaluate(model: Path, run: Run) -> None:
    done = run("evaluate", model, HEADLINES_TEST)
    assert (done.code, done.err) == (0, "")
    for words in ("accuracy", "macro F1", "log loss", "precision", "recall", "most confused", "Technology"):
        assert words in done.out
    for words in ("95 % interval", "Brier", "calibration error (smooth)", "AUGRC", "if only the surest"):
        assert words in done.out
    assert all(line == line.rstrip() for line in done.out.splitlines())
    result = json.loads(run("evaluate", model, HEADLINES_TEST, "--json").out)
    texts, labels = (column.to_pylist() for column in tables.read_all(HEADLINES_TEST) if column is not None)
    expected = lt.load(model).evaluate(texts, labels)
    assert result["accuracy"] == expected.accuracy > 0.8
    assert (result["macro_f1"], result["log_loss"]) == (expected.macro_f1, expected.log_loss)
    assert [score["label"] for score in result["classes"]] == ["Entertainment", "News", "Technology"]
    assert sum(pair["rows"] for pair in result["most_confused"]) == round(
        (1 - expected.accuracy) * expected.rows
    )
    assert (
        result["intervals"]["accuracy"]["low"] < result["accuracy"] < result["intervals"]["accuracy"]["high"]
    )
    assert result["risk_coverage"][0]["error"] == pytest.approx(1 - result["accuracy"])
    twice = json.loads(run("evaluate", model, HEADLINES_TEST, HEADLINES_TEST, "--json", "--threads", 1).out)
    assert twice["rows"] == 2 * result["rows"]
    assert twice["accuracy"] == result["accuracy"]


def test_evaluate_against_another_model(model: Path, run: Run, tmp_path: Path) -> None:
    other, strange = tmp_path / "other.safetensors", tmp_path / "strange.safetensors"
    assert run("train", HEADLINES_TEST, "-o", other, *QUICK).code == 0
    done = run("evaluate", model, HEADLINES_TEST, "--compare", other)
    assert (done.code, done.err) == (0, "")
    assert f"{model.name} less other.safetensors" in done.out
    assert "McNemar" in done.out
    compared = json.loads(run("evaluate", model, HEADLINES_TEST, "--compare", other, "--json").out)[
        "compared"
    ]
    both = [json.loads(run("evaluate", each, HEADLINES_TEST, "--json").out) for each in (model, other)]
    assert compared["accuracy"] == pytest.approx(both[0]["accuracy"] - both[1]["accuracy"])
    assert compared["log_loss"] == pytest.approx(both[0]["log_loss"] - both[1]["log_loss"])
    lt.TextClassifier(learning_rate=1, epochs=1).fit(["a", "b"] * 9, ["News", "Sports"] * 9).save(strange)
    refused(run("evaluate", model, HEADLINES_TEST, "--compare", strange), "strange", "has other classes")
    refused(run("evaluate", model, HEADLINES_TEST, "--compare", tmp_path / "no"), "no", "o such")


def test_report(model: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = run("report", model, HEADLINES_TEST, "-o", out)
    assert (done.code, done.err) == (0, "")
    assert "accuracy 0.9" in done.out
    page = out.read_text(encoding="utf-8")
    assert "headlines on headlines_test.csv" in page
    assert str(tmp_path) not in page
    named = run("report", model, HEADLINES_TEST, "-o", out, "--title", "<News>")
    assert named.code == 0
    assert "<title>&lt;News&gt;</title>" in out.read_text(encoding="utf-8")
    refused(
        run("report", model, HEADLINES_TEST, "-o", tmp_path / "no" / "x.html"), "x.html", "does not exist"
    )


def test_explain(model: Path, run: Run) -> None:
    done = run("explain", model, SENTENCE)
    assert (done.code, done.err) == (0, "")
    assert "decision: Technology" in done.out
    assert "bias" in done.out
    assert run("explain", model, "-", stdin=f"{SENTENCE}\n".encode()).out == done.out
    result = json.loads(run("explain", model, SENTENCE, "--json").out)
    for label, logit in result["logits"].items():
        parts = [ngram["contributions"][label] for ngram in result["ngrams"]]
        assert sum(parts) + result["bias"][label] == pytest.approx(logit, abs=1e-4)
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    other = run("explain", model, SENTENCE, "--label", "News", "--most", 2)
    assert "logit of News" in other.out
    refused(run("explain", model, SENTENCE, "--label", "Sports"), "'Sports'", "'News'")
    refused(run("explain", model, "-", stdin=b"\xff"), "UTF-8")
    empty = run("explain", model, "")
    assert (empty.code, empty.err) == (0, "")


def test_inspect(model: Path, run: Run) -> None:
    done = run("inspect", model, "--verify", "--ngrams", 3)
    assert (done.code, done.err) == (0, "")
    for words in ("classes", "settings", "trained on", "training loss", "strongest n-grams", "Technology"):
        assert words in done.out
    header = json.loads(run("inspect", model, "--json").out)
    assert header["classes"] == ["Entertainment", "News", "Technology"]


def test_a_terminal_is_not_obeyed_by_data(tmp_path: Path, run: Run) -> None:
    labels = ["\x1b[31mred", "[bold]b[/bold]", "x" * 5000]
    rows = [{"text": f"\x1b]0;title\x07 word{i}", "label": label} for i, label in enumerate(labels)]
    data = write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows * 2))
    assert run("train", data, "-o", tmp_path / "m", *QUICK).code == 0
    for args in (("inspect",), ("evaluate", data), ("explain", rows[0]["text"])):
        done = run(args[0], tmp_path / "m", *args[1:])
        assert (done.code, done.err) == (0, "")
        assert "\x1b" not in done.out
        assert "\\x1b[31mred" in done.out
        assert "[bold]b[/bold]" in done.out
        assert max(map(len, done.out.splitlines())) < 1000


# A terminal, a pipe, a signal


def test_output_is_utf8_in_any_locale(model: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = logitext("explain", model, "😀 漢字", env=env)
    assert (done.code, done.err) == (0, "")
    assert "█" in done.out


def test_closed_streams(model: Path) -> None:
    command = shlex.join([str(LOGITEXT), "predict", str(model)])
    for script, code, words in (
        (f"{command} {HEADLINES_TEST} >&-", 0, ""),
        (f"{command} - <&-", 1, "error: standard input: empty.\n"),
        (f"{command} {HEADLINES_TEST} >/dev/full", 1, "error: No space left on device\n"),
        (f"{LOGITEXT} inspect {model} >/dev/full", 1, "error: No space left on device\n"),
    ):
        done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=FOREVER, check=False)
        assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (code, "", words), script


@pytest.mark.parametrize("verb", ["predict", "predict parquet", "inspect", "help"])
def test_a_closed_pipe_is_quiet(model: Path, tmp_path: Path, verb: str) -> None:
    many = write(tmp_path / "x.txt", "some text\n" * 50_000)
    args = {
        "predict": ["predict", model, many],
        "predict parquet": ["predict", model, many, "--format", "parquet"],
        "inspect": ["inspect", model, "--json"],
        "help": ["--help"],
    }[verb]
    reader, writer = os.pipe()
    process = subprocess.Popen([LOGITEXT, *map(str, args)], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    if verb == "predict":  # as head -1 does
        assert os.read(reader, 10).startswith(b'{"label"')
    os.close(reader)
    _, errors = process.communicate(timeout=FOREVER)
    assert (process.returncode, errors) == (0, b"")


@contextmanager
def started(*args: object, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running command, that a failing or hanging test does not leave behind."""
    process = subprocess.Popen([LOGITEXT, *map(str, args)], **how)
    watch = threading.Timer(FOREVER, process.kill)
    watch.start()
    try:
        yield process
    finally:
        watch.cancel()
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()


def test_predict_takes_several_inputs(model: Path, tmp_path: Path, run: Run) -> None:
    texts = [SENTENCE, "The court fined the minister.", "A film about the sea", "An album of songs"]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.csv").write_text(f"text,id\n{texts[0]},1\n")
    (tmp_path / "in" / "deep" / "a.jsonl").write_text(f'{{"text": "{texts[1]}"}}\n{{"text": "{texts[2]}"}}\n')
    (tmp_path / "c.txt").write_text(f"{texts[3]}\n")
    out = tmp_path / "out.jsonl"
    done = run("predict", model, tmp_path / "in", tmp_path / "*.txt", "-o", out)
    assert (done.code, done.err) == (0, "")
    assert [row["label"] for row in json_lines(out.read_text())] == lt.load(model).predict(texts).tolist()
    # One that cannot be read loses nothing: what was there stays.
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no more")
    before = out.read_bytes()
    done = run("predict", model, tmp_path / "c.txt", tmp_path / "d.parquet", "-o", out)
    assert (done.code, "d.parquet" in done.err, out.read_bytes() == before) == (1, True, True)
    done = run("predict", model, tmp_path / "c.txt", out, "-o", out)
    assert (done.code, "is an input" in done.err) == (1, True)
    done = run("predict", model)
    assert (done.code, "INPUT" in done.err) == (2, True)


def test_predict_answers_a_slow_pipe_at_once(model: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("predict", model, "-", **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            process.stdin.write(SENTENCE.encode() + b"\n")
            process.stdin.flush()
            # The pipe stays open: an answer that waits for its end never comes.
            assert json.loads(process.stdout.readline())["label"] == "Technology"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.stderr.read() == b""
        assert process.wait() == 0


def on_a_terminal(args: list[object], until: bytes, send: int | None) -> tuple[int, str]:
    """Run with stderr on a terminal, and send a signal when it shows some words."""
    keyboard, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    with started(*args, stdout=subprocess.PIPE, stderr=terminal, env=env) as process:
        os.close(terminal)
        seen = b""
        while True:
            try:
                some = os.read(keyboard, 65536)
            except OSError:  # how Linux tells the end
                break
            if not some:
                break
            seen += some
            if send is not None and until in seen:
                process.send_signal(send)
                send = None
        os.close(keyboard)
        process.wait()
        assert until in seen, seen
        return process.returncode, seen.decode()


def test_progress_is_shown_to_a_person_only(tmp_path: Path) -> None:
    args: list[object] = ["train", HEADLINES, "-o", tmp_path / "m"]
    code, seen = on_a_terminal(args, b"training", None)
    assert code == 0
    assert "0:00:0" in seen
    # The model fixture has seen to it that a pipe gets nothing.


def test_ctrl_c_while_training(tmp_path: Path) -> None:
    old = write(tmp_path / "m", b"old")
    args: list[object] = ["train", HEADLINES, "-o", old, "--epochs", "1000000", "--learning-rate", "0.1"]
    code, seen = on_a_terminal(args, b"choosing", signal.SIGINT)
    assert code == 130
    assert "interrupted" in seen
    assert "Traceback" not in seen
    assert old.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.csv.gz"])
def test_ctrl_c_while_predicting(model: Path, tmp_path: Path, name: str) -> None:
    old = write(tmp_path / name, b"old")
    with started("predict", model, "-", "-o", old, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"some text\n" * 100_000)
        process.stdin.flush()
        while len(os.listdir(tmp_path)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"interrupted\n"
        assert process.wait() == 130
    assert old.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


PEAK = """
import sys
from logitext.cli import main
try:
    main()
finally:
    # Of this process alone; getrusage would include the one it was forked from.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its peak memory from /proc")
def test_memory_of_predict_does_not_grow_with_the_input(tmp_path: Path, run: Run) -> None:
    assert run("train", HEADLINES, "-o", tmp_path / "m", *QUICK).code == 0
    block = b"".join(
        b"%d " % i + b"some words of no great interest to anyone, " * 12 + b"\n" for i in range(2000)
    )
    repeated = 200_000_000 // len(block) + 1
    peaks, rows = [], []
    for blocks in (1, repeated):
        with open(tmp_path / "x.txt", "wb") as file:
            file.writelines(itertools.repeat(block, blocks))
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                PEAK,
                "predict",
                tmp_path / "m",
                tmp_path / "x.txt",
                "-o",
                tmp_path / "x.jsonl",
            ],
            capture_output=True,
            timeout=FOREVER,
            check=True,
        )
        peaks.append(int(done.stderr))
        rows.append((tmp_path / "x.jsonl").read_bytes().count(b"\n"))
    assert rows == [2000, 2000 * repeated]
    assert peaks[1] - peaks[0] < 150_000, f"{peaks} kB"


# The same bytes


def test_models_are_the_same_bytes(model: Path, tmp_path: Path) -> None:
    texts, labels = tables.read_all(HEADLINES)
    table = pa.table({"text": texts, "label": labels})
    pq.write_table(table, tmp_path / "x.parquet")
    # With other types, nulls allowed and other row groups.
    other = pa.table({"label": table["label"].dictionary_encode(), "text": table["text"].cast(pa.string())})
    pq.write_table(other, tmp_path / "y.parquet", row_group_size=100)
    rows = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    write(tmp_path / "x.jsonl", rows)
    write(tmp_path / "x.csv.gz", gzip.compress(HEADLINES.read_bytes()))
    lines = rows.splitlines(keepends=True)
    halves = (
        write(tmp_path / f"half{i}.jsonl", b"".join(lines[i * 500 : i * 500 + 500 + i * 9999]))
        for i in (0, 1)
    )
    variants: list[tuple[list[Any], dict[str, str]]] = [
        ([HEADLINES, "--threads", "1"], {}),
        ([HEADLINES, "--threads", "2"], {}),
        ([HEADLINES, "--threads", "3"], {"LOGITEXT_SIMD": "portable"}),
        ([tmp_path / "x.parquet"], {"LOGITEXT_SIMD": "avx2"}),
        ([tmp_path / "y.parquet"], {"LOGITEXT_SIMD": "avx512"}),
        ([tmp_path / "x.jsonl"], {}),
        ([tmp_path / "x.csv.gz"], {}),
        ([*halves], {}),
    ]
    expected = model.read_bytes()
    for args, env in variants:
        done = logitext("train", *args, "-o", tmp_path / "m", env={**os.environ, **env})
        assert (done.code, done.err) == (0, "")
        assert (tmp_path / "m").read_bytes() == expected, (args, env)


def test_answers_are_the_same_bytes(model: Path) -> None:
    args = ("predict", model, HEADLINES_TEST, "--logits", "--probabilities")
    expected = logitext(*args)
    for level in ("portable", "avx2", "avx512"):
        assert logitext(*args, "--threads", 2, env={**os.environ, "LOGITEXT_SIMD": level}) == expected


# Bad input: one clear sentence, and nothing lost

GOOD = "text,label\na good one,x\na bad one,y\n"


def bad_tables() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    yield "empty.csv", b"", ("empty",)
    yield "blank.csv", b"\n\n\n", ("empty",)
    yield "header.csv", b"text,label\n", ("header", "no data rows")
    yield "column.csv", b"one,label\na,b\n", ("'one'", "--text")
    yield "column2.csv", b"text,two\na,b\n", ("'two'", "--label")
    yield "empty-label.csv", GOOD.encode() + b"third,\n", ("label", "row 3", "empty")
    yield (
        "null-label.jsonl",
        b'{"text": "a", "label": "x"}\n{"text": "b", "label": null}\n',
        ("label", "row 2", "null"),
    )
    yield "null-text.jsonl", b'{"text": null, "label": "x"}\n', ("text", "row 1", "null")
    yield "utf8.csv", GOOD.encode() + b"caf\xe9,x\n", ("row 3", "UTF-8")
    yield "fields.csv", GOOD.encode() + b"a,b,c\n", ("row 3", "3 fields", "2")
    yield "cut.csv.gz", gzip.compress(GOOD.encode() * 500)[:-30], ("cut short", "gzip")
    yield "labels.ft", b"__label__x good\n__label__x __label__y both\n", ("row 2", "more than one label")
    yield "lines.txt", b"only text\n", ("no labels",)
    yield "quote.csv", b'text,label\n"never closed,x\n', ("quote",)
    yield "suffix.docx", b"", ("'.docx'", ".csv", "--input-format")


@pytest.mark.parametrize(
    ("name", "content", "words"), list(bad_tables()), ids=[name for name, *_ in bad_tables()]
)
def test_bad_tables(
    model: Path, tmp_path: Path, run: Run, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    bad = write(tmp_path / name, content)
    old = write(tmp_path / "old.safetensors", b"old")
    refused(run("train", bad, "-o", old), name, *words)
    refused(run("train", HEADLINES, bad, "-o", old), name, *words)
    refused(run("evaluate", model, bad), name, *words)
    answers = write(tmp_path / "old.jsonl", b"old")
    done = run("predict", model, bad, "-o", answers)
    if "label" in name or name in ("column2.csv", "lines.txt"):
        assert done == (0, "", "")  # labels are not read
    else:
        refused(done, name, *words)
        assert answers.read_bytes() == b"old"
    assert old.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 3


def test_null_labels_and_texts_in_parquet(model: Path, tmp_path: Path, run: Run) -> None:
    for column in ("text", "label"):
        rows: dict[str, list[Any]] = {"text": ["a", "b", "c"], "label": ["x", "y", "x"]}
        rows[column][1] = None
        pq.write_table(pa.table(rows), tmp_path / "x.parquet")
        refused(run("train", tmp_path / "x.parquet", "-o", tmp_path / "m"), column, "row 2", "missing")


def test_one_class(tmp_path: Path, run: Run) -> None:
    bad = write(tmp_path / "x.csv", "text,label\na,only\nb,only\n")
    refused(run("train", bad, "-o", tmp_path / "m"), "two classes", "'only'")
    assert os.listdir(tmp_path) == ["x.csv"]


def test_labels_of_different_types(tmp_path: Path, run: Run) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, 2]}), tmp_path / "x.parquet")
    csv = write(tmp_path / "x.csv", GOOD)
    refused(run("train", tmp_path / "x.parquet", csv, "-o", tmp_path / "m"), "one type", "int64")


def test_labels_for_fewer_rows_than_texts(model: Path) -> None:
    with pytest.raises(ValueError, match="3 texts, 2 labels"):
        lt.TextClassifier().fit(["a", "b", "c"], ["x", "y"])
    with pytest.raises(ValueError, match="3 texts, 2 labels"):
        lt.load(model).evaluate(["a", "b", "c"], ["News", "News"])


@pytest.mark.parametrize("verb", VERBS)
def test_no_such_file(model: Path, tmp_path: Path, run: Run, verb: str) -> None:
    missing = tmp_path / "missing.csv"
    args: dict[str, tuple[Any, ...]] = {
        "train": (missing, "-o", tmp_path / "m"),
        "predict": (model, missing, "-o", tmp_path / "x.jsonl"),
        "evaluate": (model, missing),
        "report": (model, missing, "-o", tmp_path / "x.html"),
        "explain": (missing, "text"),
        "inspect": (missing,),
        "logits": (missing,),
    }
    refused(logitext(verb, *args[verb]), str(missing), "o such")
    assert os.listdir(tmp_path) == []


def test_labels_the_model_does_not_know(model: Path, tmp_path: Path, run: Run) -> None:
    bad = write(tmp_path / "x.csv", "text,label\na,News\nb,Sports\n")
    refused(run("evaluate", model, bad), "x.csv", "row 2", "'Sports'", "'Technology'")


def framed(header: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    """A model file with right checksums, whatever it says."""
    header = {**header, "checksums": {name: modelfile._sha256(array) for name, array in arrays.items()}}
    header["checksum"] = modelfile._header_checksum(header)
    shapes = {name: array.shape for name, array in arrays.items()}
    text = modelfile._to_json(header, sort_keys=True).decode()
    frame, _ = modelfile._frame(text, shapes, modelfile._arrays(arrays, header))
    return frame + b"".join(array.tobytes() for array in arrays.values())


def bad_models(good: bytes, path: Path) -> Iterator[tuple[bytes, str]]:
    arrays, header = modelfile.load(path)
    assert framed(header, arrays) == good
    yield good[:-1], "cut short"
    yield good[: len(good) // 2], "cut short"
    yield good[:7], "not a logitext model"
    for at in (20, len(good) // 2, len(good) - 1):
        yield good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], "model"
    yield framed({**header, "format_version": 99}, arrays), "newer logitext"
    yield framed({**header, "features_version": 99}, arrays), "newer logitext"
    weights = arrays["weights"].copy()
    weights[3, 1] = np.nan
    yield framed(header, {**arrays, "weights": weights}), "not finite"
    yield b"", "empty"
    yield HEADLINES.read_bytes(), "seems to be a text"
    yield b"PK\x03\x04" + bytes(100), "zip"


def test_bad_models(model: Path, tmp_path: Path, run: Run) -> None:
    bad = tmp_path / "model.safetensors"
    answers = write(tmp_path / "old.jsonl", b"old")
    for content, words in bad_models(model.read_bytes(), model):
        write(bad, content)
        refused(run("predict", bad, HEADLINES_TEST, "-o", answers), str(bad), words)
        refused(run("evaluate", bad, HEADLINES_TEST), str(bad), words)
        refused(run("explain", bad, SENTENCE), str(bad), words)
        refused(run("inspect", bad), str(bad), words)
    assert answers.read_bytes() == b"old"
    refused(run("predict", tmp_path, HEADLINES_TEST), "folder")


def test_where_nothing_can_be_written(model: Path, tmp_path: Path, run: Run) -> None:
    # Said before the work: the inputs, which do not exist, are not even opened.
    missing = tmp_path / "missing.csv"
    for output, words in ((tmp_path / "no" / "m", "folder"), (tmp_path, "folder"), ("-", "standard output")):
        refused(run("train", missing, "-o", output), words)
    refused(run("train", missing, "-o", "/dev/null"), "device")
    for output, words in (
        (tmp_path / "no" / "x.jsonl", "folder"),
        (tmp_path / "x.docx", "'.docx'"),
    ):
        refused(run("predict", model, missing, "-o", output), words)
    refused(run("predict", model, missing, "-o", tmp_path, "--format", "csv"), "folder")
    assert os.listdir(tmp_path) == []


def test_an_input_is_not_written_over(model: Path, tmp_path: Path, run: Run) -> None:
    data = Path(shutil.copy(HEADLINES, tmp_path / "x.csv"))
    mine = Path(shutil.copy(model, tmp_path / "m"))
    link = tmp_path / "link.csv"
    link.symlink_to(data)
    for output in (data, link):
        refused(run("train", data, "-o", output), str(output), "input")
        refused(run("predict", model, data, "-o", output), str(output), "input")
    refused(run("predict", mine, data, "-o", mine, "--format", "csv"), str(mine), "input")
    assert data.read_bytes() == HEADLINES.read_bytes()
    assert mine.read_bytes() == model.read_bytes()


def test_a_full_disk(model: Path, tmp_path: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    old = Path(shutil.copy(model, tmp_path / "m"))
    refused(logitext("train", HEADLINES, "-o", old, *QUICK, preexec_fn=small), str(old), "File too large")
    assert old.read_bytes() == model.read_bytes()
    answers = write(tmp_path / "x.jsonl", b"old")
    done = logitext("predict", model, HEADLINES_TEST, "-o", answers, preexec_fn=small)
    refused(done, str(answers), "File too large")
    assert answers.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m", "x.jsonl"]


# Legal input


def train_and_predict(
    run: Run, tmp_path: Path, rows: list[tuple[Any, Any]], *options: object
) -> list[dict[str, Any]]:
    """Train on a table, predict it and evaluate on it; the answers."""
    data = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), data
    )
    trained = run("train", data, "-o", tmp_path / "m", *options)
    assert (trained.code, trained.err) == (0, "")
    answered = run("predict", tmp_path / "m", data, "--probabilities")
    assert (answered.code, answered.err) == (0, "")
    evaluated = run("evaluate", tmp_path / "m", data)
    assert (evaluated.code, evaluated.err) == (0, "")
    assert run("inspect", tmp_path / "m").code == 0
    return json_lines(answered.out)


def test_a_class_with_one_row(tmp_path: Path, run: Run) -> None:
    rows = [(f"good {i}", "x") for i in range(9)] + [(f"bad {i}", "y") for i in range(9)] + [("lonely", "z")]
    assert [row["label"] for row in train_and_predict(run, tmp_path, rows)][-1] == "z"


def test_one_text_a_class(tmp_path: Path, run: Run) -> None:
    answers = train_and_predict(run, tmp_path, [("good", "x"), ("bad", "y")])
    assert [row["label"] for row in answers] == ["x", "y"]


def test_equal_texts_with_different_labels(tmp_path: Path, run: Run) -> None:
    answers = train_and_predict(run, tmp_path, [("the same", "xy"[i % 2]) for i in range(20)])
    assert all(answer == answers[0] for answer in answers)


def test_labels_of_any_spelling(tmp_path: Path, run: Run) -> None:
    labels = [
        "two words",
        " blanks ",
        "a,b",
        'quo"te',
        "new\nline",
        "漢字",
        "😀",
        "nul\0",
        "nul",
        "__label__x",
    ]
    rows = [(f"text{i}", label) for i, label in enumerate(labels)]
    answers = train_and_predict(run, tmp_path, rows * 2)
    assert [row["label"] for row in answers] == labels * 2
    assert set(answers[0]["probabilities"]) == set(labels)


@pytest.mark.parametrize("labels", [(3, -1), (True, False)], ids=["integers", "booleans"])
def test_labels_keep_their_type(tmp_path: Path, run: Run, labels: tuple[Any, Any]) -> None:
    rows = [
        (f"{word} {i}", label) for i in range(9) for word, label in zip(("good", "bad"), labels, strict=True)
    ]
    answers = train_and_predict(run, tmp_path, rows, *QUICK)
    assert [row["label"] for row in answers] == [label for _, label in rows]
    assert set(answers[0]["probabilities"]) == {json.dumps(label) for label in labels}
    assert run("predict", tmp_path / "m", tmp_path / "x.parquet", "-o", tmp_path / "a.parquet").code == 0
    assert pq.read_table(tmp_path / "a.parquet")["label"].to_pylist() == [label for _, label in rows]
    # Where everything is text, the same labels are understood.
    expected = run("evaluate", tmp_path / "m", tmp_path / "x.parquet").out
    for spell in (str, json.dumps):
        csv = "text,label\n" + "".join(f"{text},{spell(label)}\n" for text, label in rows)
        assert run("evaluate", tmp_path / "m", write(tmp_path / "x.csv", csv)).out == expected
        assert run("explain", tmp_path / "m", "good", "--label", spell(labels[1])).code == 0
        # And the other way round.
        assert run("train", tmp_path / "x.csv", "-o", tmp_path / "text", *QUICK).code == 0
        assert run("evaluate", tmp_path / "text", tmp_path / "x.parquet").code == 0


def test_texts_of_any_script(tmp_path: Path, run: Run) -> None:
    pairs = ["ab", "שלום_مرحبا", "😀👩‍👩‍👧_🎉", "漢字かな_天気", "สวัสดี_ขอบคุณ", "a\0b_\0", "é_ü", "　_‮"]
    rows = [
        (text, str(i)) for i, pair in enumerate(pairs) for text in (pair.split("_") if "_" in pair else pair)
    ]
    answers = train_and_predict(run, tmp_path, rows * 4)
    assert len(answers) == len(rows) * 4
    assert [row["label"] for row in answers[:6]] == ["0", "0", "1", "1", "2", "2"]
    for text, _ in rows:
        done = run("explain", tmp_path / "m", "-", "--json", stdin=text.encode())
        assert (done.code, done.err) == (0, "")


def test_a_million_empty_texts(tmp_path: Path, run: Run) -> None:
    data = write(tmp_path / "x.csv", "text,label\n" + ",a\n,b\n" * 500_000)
    trained = run("train", data, "-o", tmp_path / "m", "--epochs", 2, "--threads", 1)
    assert (trained.code, trained.err) == (0, "")
    assert re.search("rows +1,000,000\n", trained.out)
    assert re.search("chosen +learning rate 0.5,", trained.out), "trained again and again, to no use"
    assert run("predict", tmp_path / "m", data, "-o", tmp_path / "x.jsonl") == (0, "", "")
    answers = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert len(answers) == 1_000_000
    assert len(set(answers)) == 1
    assert json.loads(answers[0])["probability"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("text", [b"some words of a long text ", b"oneword"], ids=["words", "one word"])
def test_a_text_of_100_megabytes(tmp_path: Path, run: Run, text: bytes) -> None:
    long = text * (100_000_000 // len(text))
    data = write(tmp_path / "x.csv", b"text,label\ngood one,x\nbad one,y\nnice one,x\n" + long + b",y\n")
    trained = run("train", data, "-o", tmp_path / "m", *QUICK)
    assert (trained.code, trained.err) == (0, "")
    assert (tmp_path / "m").stat().st_size < 100_000
    answered = run("predict", tmp_path / "m", data)
    assert (answered.code, answered.err) == (0, "")
    assert len(json_lines(answered.out)) == 4
    inspected = run("inspect", tmp_path / "m")
    assert inspected.code == 0
    assert len(inspected.out) < 10_000


def test_training_says_what_to_look_into(tmp_path: Path, run: Run) -> None:
    data = write(tmp_path / "x.csv", "text,label\n" + "same,a\nsame,b\nother,a\n" * 3)
    trained = run("train", data, "-o", tmp_path / "m")
    assert (trained.code, trained.err) == (0, "")
    assert re.search("warning +6 rows have the same text as one of another class\n", trained.out)
    inspected = run("inspect", tmp_path / "m")
    assert re.search("warning +6 rows have the same text as one of another class\n", inspected.out)


# -- small models ---------------------------------------------------------------


def test_max_size(tmp_path: Path) -> None:
    model = tmp_path / "small.safetensors"
    done = logitext("train", HEADLINES, "--max-size", "20kB", "-o", model, *QUICK)
    assert done.code == 0, done.err
    assert model.stat().st_size <= 20_000
    found = re.search(
        r"^compressed +from (\S+ \S+) to (\S+ kB), ([\d,]+) of ([\d,]+) n-grams$", done.out, re.M
    )
    assert found is not None
    assert re.search(
        r"^same decisions +[01]\.\d{4} of 1,280 rows, which it may have learned$", done.out, re.M
    )
    shown = logitext("inspect", model).out
    assert " ".join(found[0].split()) in " ".join(shown.split())
    judged = logitext(
        "train", HEADLINES, "--validation", HEADLINES_TEST, "--max-size", 20000, "-o", model, *QUICK
    )
    cost = re.search(r"^its cost +accuracy ([\d.]+) before, ([\d.]+) after, on 303 rows$", judged.out, re.M)
    assert cost is not None
    evaluated = logitext("evaluate", model, HEADLINES_TEST).out
    assert re.search(rf"^accuracy +{cost[2]}  ", evaluated, re.M)


def test_max_size_that_is_none_or_too_small_or_large(tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    done = logitext("train", HEADLINES, "--max-size", "huge", "-o", model, *QUICK)
    assert done.code == 2
    assert "a text like 500kB, 1.5MB or 2MiB, got 'huge'" in " ".join(done.err.split())
    done = logitext("train", HEADLINES, "--max-size", "1kB", "-o", model, *QUICK)
    assert done.code == 1
    assert "header and bias alone take up to" in done.err
    assert not model.exists()
    done = logitext("train", HEADLINES, "--max-size", "1GB", "-o", model, *QUICK)
    assert done.code == 0
    assert re.search(r"^compressed +no: it is within 1GB as it is$", done.out, re.M)
