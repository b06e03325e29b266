"""The parts of a report: each takes what is known of the rows, and gives HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core, report_words
from logitext.report_figures import chain, heat_map
from logitext.report_page import bar, card, fold, share, shown, side_by_side, signed, table

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.answering import Answering
    from logitext.evaluation import Evaluation
    from logitext.explanation import Explanation

UNLIKELY = 0.01
"""A label whose probability is below is one to look at."""
NEW = 0.01
"""So is a text whose novelty p-value is."""
COVERAGE = 0.9
"""Of sets of labels, if the model gives any."""
SURE = 0.8
"""The share of the texts whose errors are a headline, if only those are answered."""
ANSWERED, ERRORS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5), (0.05, 0.02, 0.01, 0.005)
"""Shares of the texts, and of the answers, that the table of risks has."""
MOST_PAIRS, MOST_MISTAKES, MOST_LABELS, MOST_NEW = 12, 10, 100, 20
MOST_NGRAMS, MOST_DRIVERS = 6, 8
"""Of a mistake, and of a class."""
FEW_CLASSES, MOST_BLOCK, MOST_MAP, MOST_CLASSES = 30, 20, 500, 300
"""Classes all shown at once; in the block of the most confused; in the whole matrix; in the table."""
BLOCK = 1 << 22
"""Weights at a time."""
LONGEST = 20_000
"""Characters of a text to be explained."""


@dataclass(frozen=True)
class Facts:
    """What is known of the model and of each row."""

    model: Answering
    evaluation: Evaluation
    texts: Any
    """Arrow's strings, n of them."""
    truth: NDArray[np.int64]
    decided: NDArray[np.int64]
    z: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    """Shape (n, n_classes)."""
    given: NDArray[np.float32]
    """Probability of the given label."""
    confidence: NDArray[np.float64]
    """Probability of the decision."""
    novelty: NDArray[np.float64] | None

    def text(self, row: int, most: int = 200) -> str:
        """Return a text as HTML, cut to `most` characters."""
        return shown(self.texts[row].as_py(), most)

    def name(self, code: int) -> str:
        """Return a class as HTML."""
        return shown(self.model.model_.classes[code], 60)


def headlines(facts: Facts) -> str:
    """Return what a person should know first, in words."""
    found = facts.evaluation
    right = int((facts.truth == facts.decided).sum())
    between = found.intervals.get("accuracy")
    spread = f" Of other texts like these: {share(between.low)} to {share(between.high)}." if between else ""
    _, coverage, error = found.risk_coverage.at_coverage(SURE)
    cards = [
        card(
            share(found.accuracy), f"of the texts are decided rightly: {right:,} of {found.rows:,}.{spread}"
        ),
        card(
            f"± {100 * found.smooth_ece:.1f}",
            "points is how far the probability of a decision is from how often it is right, in the mean.",
        ),
        card(share(error), f"of the answers are wrong if only the surest {share(coverage, 0)} are answered."),
    ]
    if found.sets is not None:
        aim = f"labels are in a set that should hold the true one in {share(COVERAGE, 0)} of the texts"
        cards.append(card(f"{found.sets.size:.2f}", f"{aim}; it does in {share(found.sets.coverage)}."))
    # Of classes that fare alike, the one with the most texts says most.
    weakest = min((score for score in found.classes if score.rows), key=lambda score: (score.f1, -score.rows))
    own = f"of its {weakest.rows:,} texts {share(weakest.recall, 0)} are found"
    taken = f"of the {weakest.predicted:,} texts decided so {share(weakest.precision, 0)} are its own"
    if len(found.classes) > 2:
        cards.append(card(shown(weakest.label, 60), f"is the weakest class: {own}; {taken}."))
    unlikely = int((facts.given < UNLIKELY).sum())
    if unlikely:
        few = f"labels have a probability below {share(UNLIKELY, 0)}: they may be wrong."
        cards.append(card(f"{unlikely:,}", few))
    return f'<ul class="cards">\n{"".join(cards)}</ul>\n'


def answered(facts: Facts) -> str:
    """Return what answering fewer texts gains, as a table."""
    risk = facts.evaluation.risk_coverage
    levels = dict.fromkeys(risk.at_coverage(wanted) for wanted in ANSWERED)
    lines = [[share(part), share(error, 2), f"{least:.3f}"] for least, part, error in levels]
    told = table(["answered>", "of these wrong>", "probability from>"], lines)
    reached = [(most, risk.at_risk(most)) for most in ERRORS if most < risk.risk[-1]]
    limits = [[f"at most {share(most)}", share(at[1]), f"{at[0]:.3f}"] for most, at in reached if at]
    return told + (table(["wrong:", "answered>", "probability from>"], limits) if limits else "")


def confusion(facts: Facts) -> str:
    """Return what was taken for what: the commonest, and the matrix."""
    found = facts.evaluation
    names = [score.label for score in found.classes]
    pairs = found.most_confused(MOST_PAIRS)
    if not pairs:
        return "<p>Nothing was taken for anything else: there are no mistakes.</p>\n"
    matrix, alike = found.confusion, _alike(facts)
    rows = {score.label: score.rows for score in found.classes}
    lines = [[shown(a, 60), shown(b, 60), f"{n:,}", share(n / rows[a])] for a, b, n in pairs]
    told = table(["true:", "decided:", "texts>", "of the class>"], lines)

    def drawn(some: list[int]) -> str:
        order = [some[i] for i in chain(alike[np.ix_(some, some)])]
        return f'<div class="scroll" tabindex="0">{heat_map(matrix, names, order)}</div>\n'

    met = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1)).tolist()
    if len(met) <= FEW_CLASSES:
        return report_words.MAP + side_by_side(told, drawn(met))
    block = _block(matrix, MOST_BLOCK)
    whole = fold(f"All {len(met)} classes, like beside like", drawn(met)) if len(met) <= MOST_MAP else ""
    return report_words.MAP + side_by_side(told, drawn(block)) + whole


def _alike(facts: Facts) -> NDArray[np.float64]:
    """How alike classes are to the model: the mean probability each has on the other's rows."""
    k = facts.probabilities.shape[1]
    order = np.argsort(facts.truth, kind="stable")
    met, starts = np.unique(facts.truth[order], return_index=True)
    sums = np.zeros((k, k))
    sums[met] = np.add.reduceat(facts.probabilities[order].astype(np.float64), starts, axis=0)
    means = sums / np.maximum(np.bincount(facts.truth, minlength=k), 1)[:, np.newaxis]
    return np.asarray(means + means.T)


def _block(matrix: NDArray[np.int64], most: int) -> list[int]:
    """The classes of the commonest mistakes."""
    wrong = np.triu(matrix + matrix.T, 1)
    chosen: dict[int, None] = {}
    for at in np.argsort(-wrong, axis=None, kind="stable").tolist():
        i, j = divmod(at, len(wrong))
        if not wrong[i, j] or len(chosen | {i: None, j: None}) > most:
            break
        chosen |= {i: None, j: None}
    return sorted(chosen)


def classes(facts: Facts) -> str:
    """Return how each class fares and what speaks for it, the weakest first."""
    found = facts.evaluation
    sets = found.sets
    every = range(len(found.classes))
    order = sorted(every, key=lambda i: (not found.classes[i].rows, found.classes[i].f1, i))[:MOST_CLASSES]
    lines = []
    for at, strongest in zip(order, _drivers(facts, order), strict=True):
        score = found.classes[at]
        line = [shown(score.label, 60), f"{score.rows:,}"]
        line.append(share(score.recall, 0) if score.rows else "–")
        line.append(share(score.precision, 0) if score.predicted else "–")
        line += [f"{score.f1:.3f}", bar(score.f1, most=5)]
        if sets is not None:
            line.append("–" if np.isnan(sets.by_class[at]) else share(sets.by_class[at], 0))
        lines.append([*line, " ".join(strongest)])
    inside = [] if sets is None else ["in its set>"]
    head = ["class:", "texts>", "found>", "right when given>", "F1>", "", *inside, "what speaks for it|"]
    cut = f"<p>The weakest {MOST_CLASSES} are shown.</p>\n" if len(order) < len(every) else ""
    return report_words.CLASSES + cut + table(head, lines, tall=True)


def _drivers(facts: Facts, codes: list[int]) -> list[list[str]]:
    """The n-grams with the largest weights for each of some classes."""
    strongest = facts.model.model_.strongest_ngrams
    return [[_gram(share.ngram, share.block) for share in strongest(code, MOST_DRIVERS)] for code in codes]


def _gram(ngram: str, block: str) -> str:
    """Words as they are, runs of characters so that their ends are seen."""
    inner = shown(ngram, 60)
    return f'<span class="gram">{inner if block == "words" else f"‹{inner}›"}</span>'


def mistakes(facts: Facts) -> str:
    """Return the wrong decisions with the highest probability, each with what made it."""
    wrong = np.flatnonzero(facts.truth != facts.decided)
    if not len(wrong):
        return "<p>There are none.</p>\n"
    order = wrong[np.argsort(-facts.confidence[wrong], kind="stable")[:MOST_MISTAKES]]
    cases = "".join(_mistake(facts, int(row)) for row in order)
    return f'{report_words.MISTAKES}<div class="mistakes">\n{cases}</div>\n'


def _mistake(facts: Facts, row: int) -> str:
    truth, decided = int(facts.truth[row]), int(facts.decided[row])
    given, sure = share(float(facts.given[row])), share(float(facts.confidence[row]))
    said = (
        f'<p>labelled <span class="given">{facts.name(truth)}</span> ({given}), '
        f'decided <span class="decided">{facts.name(decided)}</span> ({sure}) '
        f'<span class="quiet">· text {row + 1:,}</span></p>'
    )
    text = facts.texts[row].as_py()
    if len(text) > LONGEST:
        why = f'<p class="quiet">Too long to be explained here: {len(text):,} characters.</p>'
    else:
        why = _why(facts.model.explain(text), truth, decided)
    return f'<div class="mistake"><blockquote>{shown(text)}</blockquote>{said}{why}</div>\n'


def _why(found: Explanation, truth: int, decided: int) -> str:
    """The n-grams that put one class before another."""
    ahead = found.contributions[:, decided] - found.contributions[:, truth]
    order = np.argsort(-np.abs(ahead), kind="stable")[:MOST_NGRAMS].tolist()
    most = float(np.abs(ahead[order]).max(initial=0.0)) or 1.0
    lines = [
        [
            _gram(found.ngrams[i], found.blocks[i]),
            signed(float(ahead[i])),
            bar(abs(float(ahead[i])) / most, down=bool(ahead[i] > 0)),
        ]
        for i in order
    ]
    total = float(found.logits[decided] - found.logits[truth])
    bias = float(found.bias[decided] - found.bias[truth])
    others = len(found.ngrams) - len(order)
    if others:
        rest = total - bias - float(ahead[order].sum())
        lines.append([f"{others:,} other n-grams", signed(rest), ""])
    lines += [["bias", signed(bias), ""], ["<b>lead in logits</b>", f"<b>{signed(total)}</b>", ""]]
    return table(["n-gram", "adds to the lead>", ""], lines)


def labels(facts: Facts) -> str:
    """Return the rows whose label the model thinks very unlikely."""
    unlikely = np.flatnonzero(facts.given < UNLIKELY)
    if not len(unlikely):
        return f"<p>No label has a probability below {share(UNLIKELY, 0)}.</p>\n"
    order = unlikely[np.argsort(facts.given[unlikely], kind="stable")[:MOST_LABELS]].tolist()
    lines = [
        [
            f"{row + 1:,}",
            facts.text(row),
            facts.name(facts.truth[row]),
            share(float(facts.given[row]), 2),
            facts.name(facts.decided[row]),
            share(float(facts.confidence[row])),
        ]
        for row in order
    ]
    cut = f" The {len(order)} least likely are shown." if len(order) < len(unlikely) else ""
    words = report_words.LABELS.format(len(unlikely), share(UNLIKELY, 0), cut)
    return words + table(
        ["number>", "text|", "labelled:", "probability>", "decided:", "probability>"], lines, tall=True
    )


def novel(facts: Facts) -> str:
    """Return the texts least like those trained on, if the model tells; else nothing."""
    if facts.novelty is None:
        return ""
    new = int((facts.novelty < NEW).sum())
    order = np.argsort(facts.novelty, kind="stable")[: min(MOST_NEW, max(new, 5))].tolist()
    lines = [[f"{row + 1:,}", facts.text(row), f"{facts.novelty[row]:.4f}"] for row in order]
    words = report_words.NOVEL.format(new, share(NEW, 0), f"{NEW * len(facts.truth):,.0f}")
    return words + table(["number>", "text|", "p-value>"], lines, tall=True)


def numbers(facts: Facts) -> str:
    """Return every number with its interval and what it is."""
    found = facts.evaluation
    values = {name: getattr(found, name, None) for name in report_words.MEANINGS}
    if found.sets is not None:
        values |= {"coverage": found.sets.coverage, "set_size": found.sets.size}
    lines = []
    for name, value in values.items():
        if value is None:
            continue
        title, meaning = report_words.MEANINGS[name]
        low, high = found.intervals.get(name, (np.nan, np.nan))
        spread = "" if np.isnan(low) else f"{low:.4f} – {high:.4f}"
        lines.append([title, f"{value:.4f}", spread, meaning])
    return table([":", "is>", "95 % interval>", "what it is|"], lines)


def foot(facts: Facts) -> str:
    """Return what was measured by, and how far it holds."""
    model = facts.model.model_
    known = " + ".join(f"{block['features']:,} {block['name']}" for block in model.features["blocks"])
    how = (model.header["calibration"] or {"method": "none"})["method"]
    made = f"n-grams known: {known}; calibration: {how}; logitext {_core.__version__}."
    return f"<footer>{report_words.SCOPE} {made}</footer>\n"
