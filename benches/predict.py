"""Texts predicted per second of one core, default models: against fastText and scikit-learn, in turn.

From a list of texts to labels. Each set: one model of ours, one of each peer, predictions in
turn for several rounds, the best round of each; CPU time of the calling thread, so that others at
work on the machine count little. fastText's text preparation is not counted. Its speed does not depend on
how well it was trained, so it is trained briefly (word pairs, 100 dimensions); accuracy is the matter of
`benches.learner`. Also: the time of `import logitext`, and of a cold load with the first prediction.

Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

import logitext as lt
from benches.learner import LARGE, SMALL, read
from benches.measure import DATA, store

MOST = 3000
"""Texts of a test split, at most."""
COLD = """
import sys, time
start = time.perf_counter(); import logitext as lt
after = time.perf_counter(); lt.load(sys.argv[1]).predict([sys.argv[2]])
print(after - start, time.perf_counter() - after)
"""


def fasttext(train: tuple[list[str], list[str]], texts: list[str]) -> Callable[[], Any] | None:
    try:
        from fasttext import train_supervised
    except ImportError:
        return None
    index = {label: f"__label__{i}" for i, label in enumerate(sorted(set(train[1])))}

    def line(text: str) -> str:
        return " ".join(text.lower().split())

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{index[y]} {line(x)}\n" for x, y in zip(*train, strict=True))
        file.flush()
        options = {"lr": 0.5, "epoch": 5, "wordNgrams": 2, "dim": 100, "thread": 1, "verbose": 0}
        model = train_supervised(file.name, **options)
    lines = [line(text) + "\n" for text in texts]
    return lambda: [model.f.predict(line, 1, 0.0, "strict") for line in lines]


def sklearn(name: str, train: tuple[list[str], list[str]], texts: list[str]) -> Callable[[], Any]:
    words: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    if name not in LARGE:
        words = make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
    model = make_pipeline(words, LinearSVC(C=1)).fit(*train)
    return lambda: model.predict(texts)


def microseconds(work: dict[str, Callable[[], Any]], texts: int, rounds: int) -> dict[str, float]:
    """Per text, the best of several rounds of all in turn."""
    best = dict.fromkeys(work, math.inf)
    for _ in range(rounds):
        for who, predict in work.items():
            start = time.thread_time()
            predict()
            best[who] = min(best[who], (time.thread_time() - start) / texts * 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=[*SMALL, *LARGE])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    names = [name for name in arguments.sets if (DATA / name).is_dir()]
    if not names:
        sys.exit(f"skipped: no data at {DATA} (set LOGITEXT_DATA)")
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            train, texts = read(name, "train"), read(name, "test")[0][:MOST]
            path = Path(folder) / name
            lt.TextClassifier().fit(*train).save(path)
            model = lt.load(path)
            model.threads = 1
            work = {"ours": lambda: model.predict(texts), "scikit-learn": sklearn(name, train, texts)}  # noqa: B023
            if peer := fasttext(train, texts):
                work["fastText"] = peer
            times = microseconds(work, len(texts), arguments.rounds)
            command = [sys.executable, "-c", COLD, str(path), texts[0]]
            cold = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(5)]
            importing, loading = (min(float(run.stdout.split()[i]) for run in cold) for i in (0, 1))
            row = table[name] = {
                "bytes_per_text": len("".join(texts).encode()) / len(texts),
                "microseconds_per_text": times,
                "times_faster": {who: times[who] / times["ours"] for who in times if who != "ours"},
                "import_milliseconds": importing * 1e3,
                "load_and_first_prediction_milliseconds": loading * 1e3,
            }
            print(
                f"{name}: {1e6 / times['ours']:,.0f} texts/s ({times['ours']:.2f} µs of "
                f"{row['bytes_per_text']:.0f} bytes); times faster than "
                + ", ".join(f"{who} {ratio:.1f}" for who, ratio in row["times_faster"].items())
                + f"; import {importing * 1e3:.0f} ms, load and predict {loading * 1e3:.1f} ms",
                flush=True,
            )
    peers = {who: None for row in table.values() for who in row["times_faster"]}
    mean = {
        who: math.exp(sum(math.log(row["times_faster"][who]) for row in table.values()) / len(table))
        for who in peers
    }
    print("geometric mean: " + ", ".join(f"{who} {ratio:.1f}" for who, ratio in mean.items()))
    store("predict", {"times_faster": mean, "sets": table})


if __name__ == "__main__":
    main()
