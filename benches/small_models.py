"""Small models: what compressing costs on the test rows, for a size of the file on each data set.

The whole fit with default arguments, then `compress` on 5,000 of the training rows, without labels, as
`train --max-size` does: accuracy and log loss on the test rows before and after, how often both decide
alike, bytes, seconds of compressing, texts per second on one core before and after.

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

SETS = {"clinc150": "2MB", "ag_news_52k": "2MB", "banking77": "1MB", "imdb": "1MB"}


def judge(model: lt.TextClassifier, texts: Texts, labels: Texts) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of one model, as loaded from its file; its decisions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        model.save(path)
        size, loaded = os.path.getsize(path), lt.load(path)
        probabilities = loaded.predict_proba(texts)
        loaded.threads = 1
        predicting, decisions = min(
            (timed(lambda: loaded.predict(texts)) for _ in range(5)), key=lambda t: t[0]
        )
    figures = {
        "accuracy": float((decisions == np.array(labels)).mean()),
        "log_loss": log_loss(probabilities, list(model.classes_), labels),
        "bytes": size,
        "ngrams": len(model.model_.arrays["hashes"]),
        "texts_per_second": len(texts) / predicting,
    }
    return figures, decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=[f"{name}={size}" for name, size in SETS.items()])
    table: dict[str, Any] = {}
    for asked in parser.parse_args().sets:
        name, _, size = asked.partition("=")
        if not (DATA / name).is_dir():
            print(f"{name}: skipped, no data")
            continue
        train, test = read(name, "train"), read(name, "test")
        model = lt.TextClassifier().fit(*train)
        full, before = judge(model, *test)
        some = np.linspace(0, len(train[0]) - 1, min(5000, len(train[0]))).astype(int)
        seconds, _ = timed(lambda: model.compress(size, [train[0][i] for i in some]))  # noqa: B023
        small, after = judge(model, *test)
        agreement = float((before == after).mean())
        table[asked] = {"full": full, "small": small, "agreement": agreement, "seconds": seconds}
        styles = {
            "accuracy": ".4f",
            "log_loss": ".4f",
            "bytes": ",",
            "ngrams": ",",
            "texts_per_second": ",.0f",
        }
        parts = [f"{key} {full[key]:{style}} → {small[key]:{style}}" for key, style in styles.items()]
        print(f"{asked}: {', '.join(parts)}, alike {agreement:.4f}, {seconds:.1f} s", flush=True)
    store("small-models", table)


if __name__ == "__main__":
    main()
