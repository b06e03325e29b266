"""Many classes: rows of weights kept to the classes an n-gram was seen with, against a matrix of weights.

On each data set the whole fit with default arguments, once with each form: accuracy and log loss on the
test rows, seconds, bytes of the model file, texts per second on one core. `made_10000` is made here: 10,000
classes, three rows each to learn from and one to test on, of words by a Zipf law and a few of its class.

Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import logitext as lt
from benches.learner import Texts, log_loss, read, timed
from benches.measure import DATA, store
from logitext import workshop

SETS = ("banking77", "clinc150", "langid_79", "esco_isco4", "massive_50_languages", "made_10000")
Rows = tuple[Texts, Texts]


def made(
    classes: int, train: int = 3, test: int = 1, words: int = 10, vocabulary: int = 50_000
) -> list[Rows]:
    """Make rows to learn from and rows to test on: three in ten words are one of four of the class's own."""
    rng = np.random.default_rng(0)
    syllables = np.array([c + v for c in "bcdfghjklmnprstvz" for v in "aeiou"])
    lengths = np.sort(1 + rng.poisson(1.5, vocabulary))  # common words are short
    spelled = ["".join(rng.choice(syllables, length)) for length in lengths]
    share = 1 / np.arange(1, vocabulary + 1)
    common, rarer = (np.cumsum(share**power) / np.sum(share**power) for power in (1.0, 0.5))

    def drawn(law: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.minimum(np.searchsorted(law, rng.random(shape)), vocabulary - 1)

    own = drawn(rarer, (classes, 4))
    rows = []
    for each in (train, test):
        labels = np.tile(np.arange(classes), each)
        chosen = own[labels[:, None], rng.integers(0, 4, (len(labels), words))]
        which = np.where(rng.random(chosen.shape) < 0.3, chosen, drawn(common, chosen.shape))
        texts = [" ".join(spelled[i] for i in row) for row in which]
        rows.append((texts, [f"class {label}" for label in labels]))
    return rows


def measure(train: Rows, test: Rows, kept: bool) -> dict[str, Any]:
    """Fit and judge one form, whatever the number of classes."""
    usual = workshop.KEPT_FROM
    workshop.KEPT_FROM = 0 if kept else 1 << 32
    try:
        seconds, model = timed(lambda: lt.TextClassifier().fit(*train))
    finally:
        workshop.KEPT_FROM = usual
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m")
        size = os.path.getsize(Path(folder) / "m")
    probabilities = model.predict_proba(test[0])
    model.threads = 1
    predicting, decisions = min((timed(lambda: model.predict(test[0])) for _ in range(3)), key=lambda t: t[0])
    return {
        "accuracy": float((decisions == np.array(test[1])).mean()),
        "log_loss": log_loss(probabilities, list(model.classes_), test[1]),
        "seconds": seconds, "megabytes": size / 1e6, "texts_per_second": len(test[0]) / predicting,
        "plan": model.training_["plan"], "ngrams": len(model.model_.arrays["hashes"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS)
    table: dict[str, Any] = {}
    for name in parser.parse_args().sets:
        if name.startswith("made_"):
            train, test = made(int(name.removeprefix("made_")))
        elif (DATA / name).is_dir():
            train, test = read(name, "train"), read(name, "test")
        else:
            print(f"{name}: skipped, no data")
            continue
        for form in ("matrix", "kept"):
            row = measure(train, test, form == "kept")
            table.setdefault(name, {})[form] = row
            print(
                f"{name} {form}: accuracy {row['accuracy']:.4f}, log loss {row['log_loss']:.4f}, "
                f"{row['seconds']:.1f} s, {row['megabytes']:.1f} MB, {row['texts_per_second']:,.0f} texts/s, "
                f"{row['ngrams']:,} n-grams, {row['plan']}",
                flush=True,
            )
    store("many_classes", table)


if __name__ == "__main__":
    main()
