"""The learner with default arguments against scikit-learn and fastText, from texts in memory.

On each data set: accuracy, log loss and the time of the whole fit (search and calibration
included) and of the final training alone at the settings it chose; the same of peers, one
after the other in one run; texts predicted per second on one core. The peers are TF-IDF of
words, or of words and characters, under a linear model; on texts that are long or many, of
words alone. fastText goes through a grid of step sizes and epochs and is judged at its best.

Needs the development data: LOGITEXT_DATA, by default ../shared/data. The test rows are for
this table only: no default was chosen by them.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import binomtest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

import logitext as lt
from benches.measure import DATA, store

SMALL = (
    "trec6", "sms_spam", "sst2", "mr", "reuters_r8", "thucnews_zh", "news_headlines", "banking77",
    "clinc150", "stackoverflow20",
)  # fmt: skip
LARGE = ("20newsgroups", "ag_news_52k", "imdb")
"""Here scikit-learn's pipelines of words and characters take minutes: words only."""
NEAR = 0.005
"""A peer is compared in time if its accuracy is at most this below ours."""

Texts = list[str]
Timed = tuple[float, Any]


def read(name: str, split: str) -> tuple[Texts, Texts]:
    table = pq.read_table(DATA / name / f"{split}.parquet")
    return table["text"].to_pylist(), table["label"].to_pylist()


def timed(work: Callable[[], Any]) -> Timed:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def quickest(work: Callable[[], Any]) -> Timed:
    """The best of three: prediction is timed alike for all."""
    return min((timed(work) for _ in range(3)), key=lambda run: run[0])


def log_loss(probabilities: np.ndarray, classes: list[str], labels: Texts) -> float:
    """In nats; a probability of 0 counts as the smallest float32, a label not seen as that, too."""
    index = {label: i for i, label in enumerate(classes)}
    rows = [i for i, label in enumerate(labels) if label in index]
    given = np.full(len(labels), np.finfo(np.float32).tiny)
    given[rows] = np.maximum(given[rows], probabilities[rows, [index[labels[i]] for i in rows]])
    return float(-np.log(given).mean())


def ours(train: tuple[Texts, Texts], test: tuple[Texts, Texts]) -> dict[str, Any]:
    whole, model = timed(lambda: lt.TextClassifier().fit(*train))
    plan = model.training_["plan"]
    chars = plan["char_ngrams"] and tuple(plan["char_ngrams"])
    settings = {key: plan[key] for key in ("learning_rate", "epochs", "label_smoothing")}
    final = lt.TextClassifier(char_ngrams=chars, calibration=None, **settings)
    alone = min(timed(lambda: final.fit(*train))[0] for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m")
        one = lt.load(Path(folder) / "m")
    one.threads = 1
    predicting, decisions = quickest(lambda: one.predict(test[0]))
    probabilities = model.predict_proba(test[0])
    return {
        "plan": plan, "seconds": whole, "final_seconds": alone,
        "hits": (decisions == np.array(test[1])).tolist(),
        "log_loss": log_loss(probabilities, list(model.classes_), test[1]),
        "texts_per_second": len(test[0]) / predicting,
    }  # fmt: skip


def pipelines(name: str, classes: int) -> dict[str, Callable[[], Any]]:
    def words() -> Any:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)

    def both() -> Any:
        return make_union(words(), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))

    def sgd() -> Any:
        return SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0)

    features = {"words": words} if name in LARGE else {"words": words, "words + chars": both}
    models: dict[str, Callable[[], Any]] = {"LinearSVC": lambda: LinearSVC(C=1), "SGD": sgd}
    if classes <= 2:  # with many it takes a minute
        models["LogisticRegression"] = lambda: LogisticRegression(C=10, max_iter=200)
    return {
        f"{model}, {feature}": lambda f=make, m=learn: make_pipeline(f(), m())  # type: ignore[misc]
        for feature, make in features.items()
        for model, learn in models.items()
    }


def sklearn(name: str, train: tuple[Texts, Texts], test: tuple[Texts, Texts], aim: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    makers = pipelines(name, len(set(train[1])))
    for which, make in makers.items():
        seconds, model = timed(lambda make=make: make().fit(*train))  # type: ignore[misc]
        predicting, decisions = quickest(lambda model=model: model.predict(test[0]))  # type: ignore[misc]
        hits = (decisions == np.array(test[1])).tolist()
        found[which] = {"seconds": seconds, "hits": hits, "texts_per_second": len(hits) / predicting}
    best = max(found, key=lambda which: sum(found[which]["hits"]))
    near = [which for which in found if np.mean(found[which]["hits"]) >= aim - NEAR]
    soonest = min(near or [best], key=lambda which: found[which]["seconds"])
    for which in {best, soonest}:
        calibrated = CalibratedClassifierCV(makers[which](), method="temperature", cv=5)
        seconds, model = timed(lambda: calibrated.fit(*train))  # noqa: B023
        probabilities = model.predict_proba(test[0])
        found[which] |= {
            "calibrated_seconds": seconds,
            "log_loss": log_loss(probabilities, list(model.classes_), test[1]),
        }
    return {"pipelines": found, "best": best, "quickest": soonest}


def fasttext(train: tuple[Texts, Texts], test: tuple[Texts, Texts]) -> dict[str, Any] | None:
    try:
        from fasttext import train_supervised
    except ImportError:
        return None
    index = {label: f"__label__{i}" for i, label in enumerate(sorted(set(train[1])))}

    def line(text: str) -> str:
        return " ".join(text.lower().split())

    best: dict[str, Any] = {}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{index[y]} {line(x)}\n" for x, y in zip(*train, strict=True))
        file.flush()
        lines = [line(text) + "\n" for text in test[0]]
        for rate in (0.5, 1.0, 2.0, 4.0):
            before = sum(best.get("hits", [-1]))
            for epochs in (5, 25):
                options = {
                    "lr": rate,
                    "epoch": epochs,
                    "wordNgrams": 2,
                    "dim": 100,
                    "thread": 2,
                    "verbose": 0,
                }
                try:
                    seconds, model = timed(lambda: train_supervised(file.name, **options))  # noqa: B023
                except RuntimeError:  # "Encountered NaN"
                    continue
                predicting, decisions = quickest(
                    lambda model=model: [model.f.predict(line, 1, 0.0, "strict") for line in lines]  # type: ignore[misc]
                )
                pairs = zip(decisions, test[1], strict=True)
                hits = [bool(found) and found[0][1] == index.get(label) for found, label in pairs]
                if sum(hits) > sum(best.get("hits", [-1])):
                    best = {
                        "learning_rate": rate, "epochs": epochs, "seconds": seconds, "hits": hits,
                        "texts_per_second": len(hits) / predicting,
                    }  # fmt: skip
            if best and rate >= 1 and sum(best["hits"]) == before:  # it has stopped rising
                break
    return best


def mcnemar(a: list[bool], b: list[bool]) -> float:
    """Exact two-sided p-value that two classifiers err equally often."""
    first, second = (
        sum(x and not y for x, y in zip(a, b, strict=True)),
        sum(y and not x for x, y in zip(a, b, strict=True)),
    )
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def compare(name: str) -> dict[str, Any]:
    train, test = read(name, "train"), read(name, "test")
    us = ours(train, test)
    accuracy = float(np.mean(us["hits"]))
    them = sklearn(name, train, test, accuracy)
    fast = fasttext(train, test)
    best, quick = them["pipelines"][them["best"]], them["pipelines"][them["quickest"]]
    row = {
        "accuracy": accuracy,
        "best_peer": them["best"],
        "best_peer_accuracy": float(np.mean(best["hits"])),
        "p_value": mcnemar(us["hits"], best["hits"]),
        "log_loss": us["log_loss"],
        "best_peer_log_loss": best["log_loss"],
        "seconds": us["seconds"],
        "final_seconds": us["final_seconds"],
        "quickest_peer": them["quickest"],
        "ratios": {
            "final / quickest": quick["seconds"] / us["final_seconds"],
            "whole / calibrated": quick["calibrated_seconds"] / us["seconds"],
            "whole / quickest": quick["seconds"] / us["seconds"],
            "predict / scikit-learn": us["texts_per_second"] / quick["texts_per_second"],
        },
        "plan": us["plan"],
    }
    if fast:
        row["fasttext"] = {key: fast[key] for key in ("learning_rate", "epochs", "seconds")}
        row["fasttext"]["accuracy"] = float(np.mean(fast["hits"]))
        row["ratios"] |= {
            "final / fastText": fast["seconds"] / us["final_seconds"],
            "whole / fastText": fast["seconds"] / us["seconds"],
            "predict / fastText": us["texts_per_second"] / fast["texts_per_second"],
        }
    peers = {}
    for which, found in them["pipelines"].items():
        hits = found.pop("hits")
        peers[which] = {"accuracy": float(np.mean(hits)), **found}
    return row | {"peers": peers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=[*SMALL, *LARGE])
    names = [name for name in parser.parse_args().sets if (DATA / name).is_dir()]
    if not names:
        sys.exit(f"skipped: no data at {DATA} (set LOGITEXT_DATA)")
    table: dict[str, Any] = {}
    for name in names:
        row = table[name] = compare(name)
        print(
            f"{name}: accuracy {row['accuracy']:.4f}, {row['best_peer']} {row['best_peer_accuracy']:.4f} "
            f"(p {row['p_value']:.2f}); log loss {row['log_loss']:.4f}, {row['best_peer_log_loss']:.4f}; "
            f"{row['seconds']:.2f} s, final {row['final_seconds']:.2f} s\n   times faster: "
            + ", ".join(f"{what} {ratio:.1f}" for what, ratio in row["ratios"].items()),
            flush=True,
        )
    rows = list(table.values())
    ratios = {
        what: math.exp(np.mean([math.log(row["ratios"][what]) for row in rows if what in row["ratios"]]))
        for what in {what: None for row in rows for what in row["ratios"]}
    }
    losses = [math.log(row["log_loss"] / row["best_peer_log_loss"]) for row in rows]
    below = [
        name
        for name, row in table.items()
        if row["accuracy"] < row["best_peer_accuracy"] and row["p_value"] < 0.05
    ]
    summary = {
        "mean_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "mean_best_peer_accuracy": float(np.mean([row["best_peer_accuracy"] for row in rows])),
        "log_loss_over_best_peer": math.exp(np.mean(losses)),
        "significantly_below": below,
        "times_faster": ratios,
    }
    for key, value in summary.items():
        print(f"{key}: {value}")
    if not any("fasttext" in row for row in rows):
        print("fastText is not installed: not compared")
    store("learner", {"summary": summary, "sets": table})


if __name__ == "__main__":
    main()
