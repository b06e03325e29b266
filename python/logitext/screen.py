"""What the terminal shows: tables, bars and progress, drawn with Rich."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from logitext.logits import argmax
from logitext.model import shortened

if TYPE_CHECKING:
    from logitext.answering import Answering
    from logitext.classifier import FastTextClassifier, TextClassifier
    from logitext.comparison import Comparison
    from logitext.description import Description
    from logitext.drift import Drift
    from logitext.evaluation import Evaluation
    from logitext.explanation import Explanation, Share
    from logitext.intervals import Interval
    from logitext.multilabel import MultilabelEvaluation
    from logitext.workshop import Progress as Tell

MOST_CLASSES = 40
"""Longer lists of classes are cut, saying so."""


NO_END = 10_000
"""Columns of a file or pipe: nothing is cut or wrapped to fit."""


def show(*parts: RenderableType) -> None:
    """Print results to standard output, coloured and fitted only for a person."""
    person = sys.stdout.isatty()
    out = Console(file=sys.stdout, highlight=False, width=None if person else NO_END)
    with out.capture() as captured:
        out.print(*parts, sep="\n")
    for line in captured.get().removesuffix("\n").split("\n"):
        print(line.rstrip())


def plain(label: Any) -> Text:
    """Write what came from data: not without end, and what a terminal would obey as escapes."""
    shown = shortened(str(label))
    return Text(re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], shown))


@contextmanager
def progress() -> Iterator[Tell]:
    """Show on standard error what training is doing, for a person who waits."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("reading", total=None)

        def tell(what: str, share: float) -> None:
            # A new phase is drawn at once: it may be over before the next of ten drawings a second.
            new = what != bar.tasks[0].description
            bar.update(task, description=what, total=1.0, completed=share, refresh=new)

        yield tell


def table_of_facts(rows: list[tuple[str, str]]) -> Table:
    """Return facts by their names, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, plain(value))
    return table


def number(n: float) -> str:
    """Write a whole number with thin groups: 1,234,567."""
    return f"{n:,.0f}"


def size(n: float) -> str:
    """Write a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def training_summary(model: TextClassifier, seconds: float, model_bytes: int, path: str) -> None:
    """Print what training made."""
    record = model.training_
    part = record["continued"][-1] if "continued" in record else record
    held_out, plan = part.get("held_out"), part["plan"]
    features = [f"{number(block['features'])} {block['name']}" for block in model.model_.features["blocks"]]
    rows = [
        ("rows", number(part["rows"])),
        ("classes", number(len(model.classes_))),
        ("features", " + ".join(features)),
        ("chosen", _plan(plan)),
        ("seconds", f"{seconds:.2f} ({part['text_bytes'] / 1e6 / seconds:.3g} MB/s)"),
    ]
    if held_out and "micro_f1" in held_out:
        rows += [
            ("held-out micro F1", f"{held_out['micro_f1']:.4f} on {number(held_out['rows'])} rows"),
            ("held-out log loss", f"{held_out['log_loss']:.4f} nats, a mean over labels"),
        ]
    elif held_out:
        rows += [
            ("held-out accuracy", f"{held_out['accuracy']:.4f} on {number(held_out['rows'])} rows"),
            ("held-out log loss", f"{held_out['log_loss']:.4f} nats"),
        ]
    elif part is record:
        rows.append(("held-out accuracy", "none: too few different texts to hold any out"))
    if held_out and "agreement" in held_out:
        rows.append(("agrees with teacher", f"{held_out['agreement']:.4f} of held-out decisions"))
    rows += _continued(record) + _compressed(model) + _warnings(model)
    if model.max_size is not None and "compressed" not in record:
        rows.append(("compressed", f"no: it is within {model.max_size} as it is"))
    rows.append(("model", f"{path} ({size(model_bytes)})"))
    show(table_of_facts(rows))


def _warnings(model: TextClassifier) -> list[tuple[str, str]]:
    found = list(model.training_.get("warnings", []))
    if (model.model_.header["calibration"] or {}).get("stale"):
        if "agreement" not in model.training_.get("compressed", {"agreement": None}):
            found.append("the temperature is from before the model was compressed")
        else:
            rows = model.training_["continued"][-1]["rows"]
            found.append(f"the temperature is from before the last {number(rows)} rows")
    return [("warning", sentence) for sentence in found]


def _continued(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("gone on", f"with {number(part['rows'])} rows: {_plan(part['plan'])}")
        for part in record.get("continued", [])
    ]


def _compressed(model: TextClassifier) -> list[tuple[str, str]]:
    found = model.training_.get("compressed")
    if found is None:
        return (
            [] if model.max_size is None else [("compressed", f"no: it is within {model.max_size} as it is")]
        )
    before, after = found["bytes"]
    kept, known = found["ngrams"][1], found["ngrams"][0]
    rows = [
        ("compressed", f"from {size(before)} to {size(after)}, {number(kept)} of {number(known)} n-grams")
    ]
    if "accuracy" in found:
        full, small = found["accuracy"]
        rows.append(
            ("its cost", f"accuracy {full:.4f} before, {small:.4f} after, on {number(found['rows'])} rows")
        )
    if "agreement" in found:
        learned = "" if "accuracy" in found else ", which it may have learned"
        rows.append(("same decisions", f"{found['agreement']:.4f} of {number(found['rows'])} rows{learned}"))
    return rows


def _losses(record: dict[str, Any]) -> list[float]:
    """The loss of each epoch; the first builds kept nothing else."""
    if "loss_per_epoch" in record:
        return list(record["loss_per_epoch"])
    return [epoch["loss"] for epoch in record["epochs"]]


def _plan(plan: dict[str, Any]) -> str:
    smoothing = plan.get("label_smoothing")
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    return f"learning rate {plan['learning_rate']:g}, {plan['epochs']} epochs{smoothed}"


def bar(share: float, width: int = 24) -> str:
    """Draw a share in [0, 1] as a bar."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def decision(model: Answering, explanation: Explanation, label: Any, most: int) -> None:
    """Print the way from logits to the decision, and the n-grams that made the logit of one label."""
    probabilities = model.model_.probabilities(explanation.logits)
    thresholds = explanation.thresholds
    if thresholds is None:
        chosen = {int(argmax(explanation.logits))}
    else:
        chosen = set(np.flatnonzero(explanation.logits >= thresholds).tolist())
    order = sorted(range(len(explanation.classes)), key=lambda i: (-explanation.logits[i], i))
    scores = _table("class", "logit>", *([] if thresholds is None else ["threshold>"]), "probability>", "")
    for i in order[:MOST_CLASSES]:
        logit, probability = float(explanation.logits[i]), float(probabilities[i])
        threshold = () if thresholds is None else (f"{thresholds[i]:.3f}",)
        figures = (f"{logit:.3f}", *threshold, f"{probability:.3f}", bar(probability))
        scores.add_row(plain(explanation.classes[i]), *figures, style="bold" if i in chosen else None)
    show(scores, *_cut(len(order)))
    if thresholds is None:
        decided, why = plain(explanation.decision).plain, " (the largest logit)"
    else:
        decided = ", ".join(plain(name).plain for name in explanation.decision) or "no label"
        why = " (logits at or above their thresholds)"
    show(Text.assemble("decision: ", (decided, "bold"), why))

    shown = explanation.leading if label is None else label
    index = explanation.classes.index(shown)
    total, bias = float(explanation.logits[index]), float(explanation.bias[index])
    strongest = explanation.strongest(shown, most)
    rest = total - bias - sum(share.amount for share in strongest)
    shares = _table("n-gram", "adds>")
    for share in strongest:
        shares.add_row(spelled(share), f"{share.amount:+.3f}")
    others = len(explanation.ngrams) - len(strongest)
    if others:
        shares.add_row(f"{number(others)} other known n-grams", f"{rest:+.3f}")
    shares.add_row("bias", f"{bias:+.3f}")
    shares.add_row("logit", f"{total:+.3f}", style="bold")
    show(Text.assemble("what made the logit of ", plain(shown)), shares)
    if explanation.unknown:
        show(f"{number(len(explanation.unknown))} n-grams are unknown to the model")


def spelled(share: Share) -> Text:
    """Write an n-gram: words as they are, runs of characters so that their ends are seen (‹ smar›)."""
    return plain(share.ngram) if share.block == "words" else Text.assemble("‹", plain(share.ngram), "›")


def _table(*columns: str) -> Table:
    """A table; figures are set right in columns marked with >, names are never cut."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    return table


def _cut(classes: int) -> list[str]:
    return [f"… and {number(classes - MOST_CLASSES)} more classes"] if classes > MOST_CLASSES else []


NUMBERS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss, nats",
    "brier": "Brier score",
    "smooth_ece": "calibration error (smooth)",
    "debiased_ece": "calibration error (L2, debiased)",
    "binned_ece": "calibration error (15 bins)",
    "augrc": "AUGRC",
}
"""How the numbers of an evaluation are named for people."""

ANSWERED = (0.95, 0.9, 0.8, 0.7, 0.5)
"""Shares of the rows to answer, the surest."""


def evaluation(result: Evaluation) -> None:
    """Print an evaluation: numbers, a row per class, what answering less gains, the most confused pairs."""
    numbers = _table(f"{number(result.rows)} rows", "is>", "95 % interval")
    for name, words in NUMBERS.items():
        numbers.add_row(words, f"{getattr(result, name):.4f}", _interval(result.intervals.get(name)))
    classes = _table("class", "rows>", "precision>", "recall>", "F1>", "95 % interval of F1")
    for score in result.classes:
        figures = (f"{figure:.3f}" for figure in (score.precision, score.recall, score.f1))
        between = _interval(score.intervals.get("f1"), digits=3)
        classes.add_row(plain(score.label), number(score.rows), *figures, between)
    answers = _table("if only the surest are answered>", "errors>", "probability from")
    for share in ANSWERED:
        threshold, coverage, risk = result.risk_coverage.at_coverage(share)
        answers.add_row(f"{coverage:.1%}", f"{risk:.2%}", f"{threshold:.3f}")
    show(numbers, classes, answers)
    pairs = _table("most confused: true", "decided", "rows>")
    for truth, decided, count in result.most_confused():
        pairs.add_row(plain(truth), plain(decided), number(count))
    if pairs.row_count:
        show(pairs)


def _interval(found: Interval | None, digits: int = 4) -> str:
    if found is None or math.isnan(found.low):
        return ""
    return f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def comparison(found: Comparison, first: str, second: str) -> None:
    """Print what one model has over another on the same rows."""
    differences = _table(f"{first} less {second}", "is>", "95 % interval", "")
    for name in ("accuracy", "log_loss", "brier"):
        difference, between = getattr(found, name), found.intervals[name]
        chance = "within chance" if not (between.low > 0 or between.high < 0) else "more than chance"
        spread = f"{between.low:+.4f} to {between.high:+.4f}"
        differences.add_row(NUMBERS[name], f"{difference:+.4f}", spread, chance)
    alone = (
        f"{number(found.only_first)} rows right by the first alone, {number(found.only_second)} by the second"
    )
    show(differences, f"{alone}; McNemar's p = {found.p_value:.3g}")


def multilabel_evaluation(result: MultilabelEvaluation) -> None:
    """Print an evaluation of several labels a text: the numbers, a row per label."""
    given, without = number(result.rows_given_none), number(result.rows_without)
    rows = [
        ("rows", number(result.rows)),
        ("micro F1", f"{result.micro_f1:.4f}"),
        ("micro precision", f"{result.micro_precision:.4f}"),
        ("micro recall", f"{result.micro_recall:.4f}"),
        ("macro F1", f"{result.macro_f1:.4f}"),
        ("all labels right", f"{result.accuracy:.4f} of the rows"),
        ("log loss", f"{result.log_loss:.4f} nats, a mean over labels"),
        ("labels per row", f"{result.labels_per_row:.2f}, given {result.given_per_row:.2f}"),
        ("rows without label", f"{without}, given none {given}"),
    ]
    labels = _table("label", "rows>", "given>", "precision>", "recall>", "F1>")
    for score in result.classes:
        figures = (f"{figure:.3f}" for figure in (score.precision, score.recall, score.f1))
        labels.add_row(plain(score.label), number(score.rows), number(score.predicted), *figures)
    show(table_of_facts(rows), labels)


def logits(found: Description, written: str | None) -> None:
    """Print what an array of logits holds, and where its probabilities were written."""
    rows = [
        ("shape", f"{' × '.join(map(number, found.shape))}, {found.dtype}"),
        ("logits", f"{found.lowest:.4g} to {found.highest:.4g}"),
        ("mean", f"{found.mean:.4g}, standard deviation {found.deviation:.4g}"),
        ("masked", f"{_percent(found.masked)} of the logits are -inf"),
        ("temperature", f"{found.temperature:.4g}"),
    ]
    if found.commonest is not None:
        most = f"most often for class {found.commonest} ({_percent(found.commonest_share)} of the rows)"
        rows.append(("decided", f"for {number(found.decided)} of {number(found.classes)} classes, {most}"))
    if found.log_loss is not None:
        guessing = f"guessing class frequencies gives {found.guessing:.4f}"
        rows += [
            ("accuracy", f"{found.accuracy:.4f}"),
            ("log loss", f"{found.log_loss:.4f} nats; {guessing}"),
        ]
    if found.best_temperature is not None:
        rows.append(("best temperature", f"{found.best_temperature:.4g}"))
    if written is not None:
        rows.append(("written", written))
    peaks = _table("quantiles of the rows", "10 %>", "50 %>", "90 %>")
    for name, quantiles in (
        ("largest probability", found.probability),
        ("entropy, nats", found.entropy),
        ("entropy, share of log classes", found.entropy_share),
        ("margin", found.margin),
    ):
        peaks.add_row(name, *(f"{value:.4g}" for value in vars(quantiles).values()))
    show(table_of_facts(rows), peaks, *(f"note: {note}" for note in found.notes))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def model_card(model: TextClassifier, path: str, model_bytes: int, ngrams: int) -> None:
    """Print what a model is: classes, settings, how it was trained, its strongest n-grams."""
    record, features = model.training_, model.model_.features
    plan, held_out = record["plan"], record["held_out"]
    blocks = [
        f"{number(block['features'])} {block['name']} ({low}–{high}-grams)"
        for block in features["blocks"]
        for low, high in [features[block["name"].removesuffix("s") + "_ngrams"]]
    ]
    changed = {k: v for k, v in model.model_.header["settings"].items() if v != type(model)().get_params()[k]}
    rows = [
        ("model", f"{path} ({size(model_bytes)})"),
        ("made by", f"logitext {model.model_.header['library_version']}"),
        ("classes", number(len(model.classes_))),
        ("features", " + ".join(blocks)),
        ("tokens", features["tokens"]),
        ("temperature", f"{model.temperature_:.4g}"),
        ("settings", ", ".join(f"{k}={v!r}" for k, v in changed.items()) or "all default"),
        (
            "trained on",
            f"{number(record['rows'])} rows ({size(record['text_bytes'])} of text), {record['fingerprint']}",
        ),
        (
            "plan",
            f"{_plan(plan)}, batches of {record['batch']}",
        ),
        ("tried", f"{len(record['search'])} plans on held-out rows"),
        ("training loss", " ".join(f"{loss:.3f}" for loss in _losses(record))),
    ]
    if held_out:
        first = "micro_f1" if "micro_f1" in held_out else "accuracy"
        measured = (
            f"{first.replace('_f1', ' F1')} {held_out[first]:.4f}, log loss {held_out['log_loss']:.4f} nats"
        )
        rows.append(("held out", f"{measured} on {number(held_out['rows'])} rows"))
    rows += _continued(record) + _compressed(model) + _warnings(model)
    show(table_of_facts(rows), _strongest(model, ngrams), *_cut(len(model.classes_)))


def fasttext_card(model: FastTextClassifier, path: str, model_bytes: int, ngrams: int) -> None:
    """Print what a fastText model is: classes, settings, its strongest words."""
    said = model.model_.header["fasttext"]
    features = model.model_.features
    chars = features["char_ngrams"]
    evidence = model.model_.evidence
    calibration = (model.model_.header["calibration"] or {"method": "none"})["method"]
    if evidence is not None:
        calibration += f", fitted on {number(len(evidence.selective.hits_))} rows"
    rows = [
        ("model", f"{path} ({size(model_bytes)})"),
        ("made by", f"fastText, format {said['version']}, from {number(said['tokens'])} words"),
        ("classes", number(len(model.classes_))),
        ("loss", said["loss"]),
        (
            "features",
            " + ".join(f"{number(block['features'])} {block['name']}" for block in features["blocks"]),
        ),
        ("word n-grams", f"up to {said['word_ngrams']}"),
        ("characters", "none" if chars is None else f"{chars[0]}–{chars[1]}"),
        ("hidden layer", f"{said['dim']}{', quantised' if 'input_codes' in model.model_.arrays else ''}"),
        ("calibration", calibration),
        ("strict", "yes" if model.strict else "no"),
    ]
    show(table_of_facts(rows), _strongest(model, ngrams), *_cut(len(model.classes_)))


def _strongest(model: Answering, ngrams: int) -> Table:
    strongest = _table("class", "strongest n-grams")
    for label in model.classes_.tolist()[:MOST_CLASSES]:
        names = (spelled(share) for share in model.strongest_ngrams(label, ngrams))
        strongest.add_row(plain(label), Text(" ").join(names))
    return strongest


def training_record(model: TextClassifier) -> None:
    """Print how training went, epoch by epoch, and draw the loss."""
    record = model.training_
    epochs: list[dict[str, Any]] = record.get("epochs") or [{"loss": loss} for loss in _losses(record)]
    table = _table(
        "epoch>", "loss>", "held-out loss>", "largest logit>", "typical logit>", "gradient norm>",
        "saturated rows>", "loss",
    )  # fmt: skip
    most = max((epoch["loss"] for epoch in epochs), default=0.0) or 1.0
    for at, epoch in enumerate(epochs, 1):
        names = ("loss", "held_out_loss", "largest_logit", "typical_logit", "gradient_norm")
        figures = ("" if epoch.get(name) is None else f"{epoch[name]:.4g}" for name in names)
        saturated = f"{epoch['saturated']:.1%}" if "saturated" in epoch else ""
        table.add_row(str(at), *figures, saturated, bar(max(epoch["loss"], 0.0) / most))
    tried = _table("tried on held-out rows", "of rows>", "log loss>")
    for plan in record["search"]:
        chars = (
            "no characters"
            if plan["char_ngrams"] is None
            else "characters {}–{}".format(*plan["char_ngrams"])
        )
        loss = "diverged" if plan["log_loss"] is None else f"{plan['log_loss']:.4f}"
        tried.add_row(f"{chars}, {_plan(plan)}", number(plan["rows"]) if "rows" in plan else "", loss)
    rows = [("chosen", _plan(record["plan"]))]
    rows += _continued(record) + _warnings(model)
    show(table_of_facts(rows), table, *([tried] if tried.row_count else []))


def calibration(before: Any, after: Any, path: str) -> None:
    """Print what a new calibration changed, on the rows it was fitted on."""
    micro = not hasattr(before, "accuracy")
    rows = [
        ("rows", number(before.rows)),
        ("accuracy", f"{before.micro_f1:.4f} (micro F1)" if micro else f"{before.accuracy:.4f}"),
        ("log loss", f"{before.log_loss:.4f} nats before, {after.log_loss:.4f} after, on the same rows"),
        ("model", path),
    ]
    show(table_of_facts(rows))


def calibration_of_logits(calibrator: Any, before: float, after: float, rows: int, path: str) -> None:
    """Print how anyone's logits were calibrated."""
    chosen = calibrator.method_
    if chosen != "identity":
        chosen += f", temperature {calibrator.temperature_:.4g}"
    facts = [
        ("rows", number(rows)),
        ("method", chosen),
        ("log loss", f"{before:.4f} nats before, {after:.4f} after, on the same rows"),
        ("calibrated logits", path),
    ]
    show(table_of_facts(facts))


def drift(found: Drift, most_shown: int = 24) -> None:
    """Print whether new texts are like the old, and what moved."""
    answer = "yes: they are not like those trained on" if found.drifted else "none to be seen"
    rows = [
        ("drift", answer),
        ("p-value", f"{found.p_value:.3g} ({number(found.rows)} texts, {number(found.held_out)} held out)"),
        ("more novel", f"{found.auroc:.3f} of pairs of a new and a held-out text; 0.5 if alike"),
    ]
    for level, share in found.alarms.items():
        rows.append((f"novel at {level:g}", f"{share:.4f} of texts"))
    parts: list[RenderableType] = [table_of_facts(rows)]
    if found.moved:
        table = _table("n-gram", "before>", "now>", "")
        for one in found.moved:
            table.add_row(plain(one.ngram), f"{one.before:.4f}", f"{one.now:.4f}", bar(one.now, most_shown))
        parts.append(table)
    show(*parts)
