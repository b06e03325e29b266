"""Whether what a model promises is kept: probabilities, sets, abstention, novelty, and what they cost.

On each data set one model is trained with default arguments. Its log loss on the test rows is compared
with that of the best single temperature, chosen on those rows themselves, which nobody can have; its sets
are counted, as they stand and over random halvings of the test rows, and so are its answers at stated errors.
Novelty is judged by texts of other sets, and its p-values by random splits of one pool.

Needs the development data: LOGITEXT_DATA, by default ../shared/data. `--quick` takes three sets.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import logitext as lt
from benches.learner import read
from benches.measure import DATA, store
from logitext.conformal import ConformalSets
from logitext.evaluation import log_loss
from logitext.features import as_texts
from logitext.reliability import smooth_ece
from logitext.selective import Selective, UnattainableError

SETS = (
    "trec6", "sms_spam", "sst2", "mr", "reuters_r8", "news_headlines", "banking77", "clinc150",
    "stackoverflow20", "thucnews_zh", "langid_79", "20newsgroups", "ag_news_52k", "imdb",
)  # fmt: skip
QUICK = ("sst2", "banking77", "news_headlines")
LATER = ("20newsgroups",)
"""Its test rows are later than its training rows."""
COVERAGES = (0.8, 0.9, 0.95, 0.99)
ERRORS = (0.01, 0.02, 0.05)
LEVELS = (0.01, 0.05, 0.1)
POOLS, COSTLY = ("banking77", "sst2", "stackoverflow20"), ("banking77", "sst2", "ag_news_52k", "clinc150")
"""For false alarms; for what it costs."""
HALVINGS = 200
SPLITS = 10
ENGLISH = 50
"""massive_50_languages holds as many languages, one after the other, English first."""


def best_temperature(z: np.ndarray, y: np.ndarray) -> float:
    """The lowest log loss of any one temperature, found on these rows themselves."""
    grid = np.geomspace(0.2, 5, 81)
    losses = [log_loss(z, y, temperature=float(t)) for t in grid]
    at = float(grid[int(np.argmin(losses))])
    return min(log_loss(z, y, temperature=float(t)) for t in np.geomspace(at / 1.05, at * 1.05, 21))


def halvings(calm: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Coverage and size of sets calibrated on one half of the test rows, counted on the other."""
    rng = np.random.default_rng(0)
    found: dict[float, list[tuple[float, float]]] = {coverage: [] for coverage in COVERAGES}
    for _ in range(HALVINGS):
        order = rng.permutation(len(y))
        half, rest = np.array_split(order, 2)
        sets = ConformalSets().fit(calm[half], y[half])
        for coverage in COVERAGES:
            if len(half) >= sets.minimum_rows(coverage):
                given = sets.predict_set(calm[rest], coverage)
                hits = given[np.arange(len(rest)), y[rest]].mean()
                found[coverage].append((float(hits), float(given.sum(axis=1).mean())))
    return {f"{c:g}": np.mean(pairs, axis=0).tolist() for c, pairs in found.items() if pairs}


def abstention(z: np.ndarray, calm: np.ndarray, y: np.ndarray, own: Selective) -> dict[str, Any]:
    """Answers at stated errors: by the model's own tables, and of what was answerable."""
    wrong = z.argmax(axis=1) != y
    order = np.argsort(-calm.max(axis=1) + np.log(np.exp(calm).sum(axis=1)))
    risk = np.cumsum(wrong[order]) / np.arange(1, len(y) + 1)
    found = {}
    for level in ERRORS:
        most = np.flatnonzero(risk <= level)
        row: dict[str, Any] = {"oracle_answered": float(most[-1] + 1) / len(y) if len(most) else 0.0}
        try:
            sure = own.answers(calm, level)
            row |= {"answered": float(sure.mean()), "error": float(wrong[sure].mean()) if sure.any() else 0.0}
        except UnattainableError as error:
            row["unattainable"] = str(error)
        found[f"{level:g}"] = row
    return found


def of_set(name: str) -> dict[str, Any]:
    """Everything measured of one data set."""
    train, test = read(name, "train"), read(name, "test")
    clf = lt.TextClassifier().fit(*train)
    z, y = clf.logits(test[0]), clf.encode(test[1])
    calm = clf.model_.calibrated(z)
    own = clf.evidence()
    hits = z.argmax(axis=1) == y
    confidence = clf.model_.probabilities(z).max(axis=1).astype(float)
    place = np.arange(len(y)), y
    given = {f"{c:g}": own.sets.predict_set(calm, c) for c in COVERAGES if possible(own.sets, c)}
    return {
        "rows": len(y),
        "held_out": len(own.selective.hits_),
        "calibration": clf.model_.header["calibration"]["method"],
        "accuracy": float(hits.mean()),
        "log_loss": log_loss(calm, y),
        "log_loss_uncalibrated": log_loss(z, y),
        "log_loss_best_temperature": best_temperature(z, y),
        "smooth_ece": float(smooth_ece(confidence, hits)),
        "sets": {c: [float(s[place].mean()), float(s.sum(axis=1).mean())] for c, s in given.items()},
        "halvings": halvings(calm, y),
        "abstention": abstention(z, calm, y, own.selective),
    }


def described(row: dict[str, Any]) -> list[str]:
    """What is printed of a data set."""
    slack = 100 * (row["log_loss"] / row["log_loss_best_temperature"] - 1)
    answers = [
        f"error {e}: {a['answered']:.3f} answered, {a['error']:.4f} wrong (oracle {a['oracle_answered']:.3f})"
        if "answered" in a
        else f"error {e}: {a['unattainable']} (oracle {a['oracle_answered']:.3f})"
        for e, a in row["abstention"].items()
    ]
    return [
        f"{row['calibration']} on {row['held_out']} rows, accuracy {row['accuracy']:.4f}",
        f"log loss {row['log_loss']:.4f}, {slack:+.1f} % of the best temperature's; "
        f"uncalibrated {row['log_loss_uncalibrated']:.4f}; smooth ECE {row['smooth_ece']:.4f}",
        "; ".join(f"at {c} covers {a:.4f} ({s:.2f} labels)" for c, (a, s) in row["sets"].items()),
        "halvings " + "; ".join(f"{c}: {a:.4f} ({s:.2f})" for c, (a, s) in row["halvings"].items()),
        *answers,
    ]


def possible(sets: ConformalSets, coverage: float) -> bool:
    return len(sets.scores_) >= sets.minimum_rows(coverage)


def auroc(known: np.ndarray, new: np.ndarray) -> float:
    """Probability that a new text is more novel than a known one."""
    order = np.sort(known)
    below, up_to = (np.searchsorted(order, new, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(known))


def novelty() -> dict[str, float]:
    """How well texts of another kind are told, without a single one of them in training."""
    found = {}

    def judge(clf: lt.TextClassifier, known: Sequence[str], **others: Sequence[str]) -> None:
        usual = clf.novelty(known)
        for what, texts in others.items():
            found[what] = auroc(usual, clf.novelty(texts))
            print(f"novelty, {what}: AUROC {found[what]:.4f}", flush=True)

    outside = [text for text, label in zip(*read("clinc150_oos", "test"), strict=True) if label == "oos"]
    judge(trained("clinc150"), read("clinc150", "test")[0], clinc150_oos=outside)
    ag, imdb, groups = (read(name, "test")[0] for name in ("ag_news_52k", "imdb", "20newsgroups"))
    judge(trained("ag_news_52k"), ag, ag_news_imdb=imdb, ag_news_20newsgroups=groups)
    judge(trained("imdb"), imdb, imdb_ag_news=ag)
    table, test = (
        pq.read_table(DATA / "massive_50_languages" / f"{part}.parquet") for part in ("train", "test")
    )
    english = table.slice(0, len(table) // ENGLISH)
    clf = lt.TextClassifier().fit(english["text"], english["label"])
    texts, own = test["text"].to_pylist(), len(test) // ENGLISH
    judge(clf, texts[:own], massive_english=texts[own:])
    return found


def trained(name: str) -> lt.TextClassifier:
    return lt.TextClassifier().fit(*read(name, "train"))


def alarms(name: str) -> dict[str, Any]:
    """False alarms on texts that are like those trained on: random splits of one pool."""
    texts, labels = (np.array(column, object) for column in read(name, "train"))
    rng = np.random.default_rng(0)
    found: list[list[float]] = []
    sizes = []
    for _ in range(SPLITS):
        order = rng.permutation(len(texts))
        apart, rest = order[: len(order) // 5], order[len(order) // 5 :]
        clf = lt.TextClassifier(learning_rate=1.0, epochs=5).fit(texts[rest].tolist(), labels[rest].tolist())
        p = clf.novelty_pvalue(texts[apart].tolist())
        found.append([float((p <= level).mean()) for level in LEVELS])
        sizes.append((len(apart), len(clf.evidence().novelty.scores_)))
    rows, held = np.mean(sizes, axis=0)
    # Of one split; over several the calibration rows are others.
    errors = [float(np.sqrt(p * (1 - p) * (1 / rows + 1 / held) / SPLITS)) for p in LEVELS]
    means = np.mean(found, axis=0).tolist()
    return {f"{p:g}": [m, e] for p, m, e in zip(LEVELS, means, errors, strict=True)}


def cost(name: str) -> float:
    """Time of probabilities, sets and novelty together over that of bare logits."""
    clf, texts = trained(name), as_texts(read(name, "test")[0])
    own = clf.evidence()

    def everything() -> None:
        z, ngrams = clf.model_.read(texts, 1)
        calm = clf.model_.calibrated(z)
        clf.model_.probabilities(z, calm)
        own.sets.predict_set(calm, 0.9)
        own.novelty.p_values(own.novelty.score(z, ngrams))

    ratios = []
    for _ in range(9):
        seconds = []
        for work in (everything, lambda: clf.model_.logits(texts, 1)):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three sets, and nothing stored")
    quick = parser.parse_args().quick
    names = [name for name in (QUICK if quick else SETS) if (DATA / name).is_dir()]
    if not names:
        sys.exit(f"skipped: no data at {DATA} (set LOGITEXT_DATA)")
    table = {}
    for name in names:
        row = table[name] = of_set(name)
        print(name + ":", *described(row), sep="\n   ", flush=True)
    large = [row for name, row in table.items() if row["rows"] >= 3000 and name not in LATER]
    counted = [row["sets"] for row in table.values()]
    summary: dict[str, Any] = {
        "mean_smooth_ece": float(np.mean([row["smooth_ece"] for row in large])) if large else None,
        "mean_coverage": {
            c: float(np.mean([sets[c][0] for sets in counted if c in sets]))
            for c in map("{:g}".format, COVERAGES)
        },
        "false_alarms": {name: alarms(name) for name in names if name in POOLS},
        "cost": {name: cost(name) for name in names if name in COSTLY},
    }
    print(summary)
    if not quick:
        summary["novelty_auroc"] = novelty()
        store("trust", {"summary": summary, "sets": table})


if __name__ == "__main__":
    main()
