"""Calibration methods on logits of our own models: log loss over random splits of held-out training rows.

On each data set a model is trained with default arguments on two thirds of the training rows. The logits of
the last third are split at random, thirty times for each size: on so many rows each method is fitted, on the
rest its log loss is compared with the uncalibrated one's and the temperature's. The cut-offs of
`Calibrator(method="auto")` come from this table, not from test rows.

Then `auto`, fitted on the whole third, is judged on the test rows, against the best single temperature
chosen on the test rows themselves, which nobody can have.

Needs the development data: LOGITEXT_DATA, by default ../shared/data. `--cache FOLDER` keeps the logits.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import logitext as lt
from benches.learner import read, timed
from benches.measure import DATA, store
from logitext.calibration import fit_temperature
from logitext.choosing import deal
from logitext.evaluation import accuracy, log_loss

SETS = (
    "trec6", "sms_spam", "sst2", "mr", "reuters_r8", "news_headlines", "banking77", "clinc150",
    "stackoverflow20", "thucnews_zh", "langid_79", "20newsgroups", "ag_news_52k", "imdb", "esco_isco4",
)  # fmt: skip
SIZES = (200, 1000, 5000)
SPLITS = 30
JUDGED = 2500
"""Rows of the rest that are judged on, at most."""
WORSE = 0.005
"""Nats by which no split may be worse than without calibration."""


def logits_of(name: str, cache: Path | None) -> dict[str, np.ndarray]:
    """Logits and labels of a third of the training rows and of the test rows, by a model of the rest."""
    kept = None if cache is None else cache / f"{name}.npz"
    if kept is not None and kept.exists():
        return dict(np.load(kept))
    texts, labels = read(name, "train")
    codes = np.unique(np.array(labels), return_inverse=True)[1]
    # Fifths dealt by class: the last one and two thirds of the one before are held out.
    part = deal(codes)
    held = (part == 4) | ((part == 3) & (np.arange(len(part)) % 3 < 2))
    model = lt.TextClassifier()
    model.fit([texts[i] for i in np.flatnonzero(~held)], [labels[i] for i in np.flatnonzero(~held)])
    index = {label: i for i, label in enumerate(model.classes_.tolist())}
    found: dict[str, Any] = {}
    test = read(name, "test")
    for prefix, (some, truth) in {
        "held": ([texts[i] for i in np.flatnonzero(held)], [labels[i] for i in np.flatnonzero(held)]),
        "test": test,
    }.items():
        known = [i for i, label in enumerate(truth) if label in index]
        found[f"{prefix}_z"] = model.logits([some[i] for i in known])
        found[f"{prefix}_y"] = np.array([index[truth[i]] for i in known])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **found)
    return found


def methods(classes: int) -> tuple[str, ...]:
    """All there are for so many classes."""
    two = ("affine", "quadratic") if classes == 2 else ()
    return ("temperature", *two, "vector", *(("matrix",) if 2 < classes <= 100 else ()), "auto")


def sizes(rows: int) -> list[int]:
    """Calibration rows to compare on: at least a third is left to judge on."""
    found = [size for size in SIZES if size <= rows * 2 // 3]
    return found if len(found) == len(SIZES) else [*found, rows * 2 // 3]


def split(z: np.ndarray, y: np.ndarray, size: int, seed: int) -> dict[str, Any]:
    """Log loss on the rest of each method fitted on `size` rows, with decisions kept or not."""
    order = np.random.default_rng(seed).permutation(len(y))
    some, rest = order[:size], order[size:][:JUDGED]
    found: dict[str, Any] = {"none": log_loss(z[rest], y[rest])}
    for method in methods(z.shape[1]):
        calibrator = lt.Calibrator(method=method).fit(z[some], y[some])  # type: ignore[arg-type]
        found[method] = log_loss(calibrator.transform(z[rest]), y[rest])
        calibrator.preserve_decision = False
        free = calibrator.transform(z[rest])
        found[f"{method}, free"] = log_loss(free, y[rest])
        found[f"{method}, accuracy"] = accuracy(free, y[rest]) - accuracy(z[rest], y[rest])
        if method == "auto":
            found["chosen"] = calibrator.method_
    return found


def compare(z: np.ndarray, y: np.ndarray, size: int, splits: int) -> dict[str, Any]:
    """Figures of each method over random splits."""
    runs = [split(z, y, size, seed) for seed in range(splits)]
    none, temperature = (np.array([run[key] for run in runs]) for key in ("none", "temperature"))
    table: dict[str, Any] = {"none": float(none.mean())}
    for method in methods(z.shape[1]):
        loss, free, moved = (
            np.array([run[f"{method}{more}"] for run in runs]) for more in ("", ", free", ", accuracy")
        )
        table[method] = {
            "gain": float((none - loss).mean()),
            "worst": float((none - loss).min()),
            "beats_none": float((loss < none).mean()),
            "beats_temperature": float((loss < temperature).mean()),
            "gain_over_temperature": float((temperature - loss).mean()),
            "cost_of_decisions": float((loss - free).mean()),
            "accuracy_if_free": float(moved.mean()),
        }
    table["chosen"] = dict(Counter(run["chosen"] for run in runs).most_common())
    return table


def on_test(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """`auto` on the test rows against the temperature that is best there."""
    z, y = found["test_z"], found["test_y"]
    best = log_loss(z, y, temperature=fit_temperature(z, y))
    seconds, calibrator = timed(lambda: lt.Calibrator().fit(found["held_z"], found["held_y"]))
    return {
        "none": log_loss(z, y),
        "temperature": log_loss(z, y, temperature=fit_temperature(found["held_z"], found["held_y"])),
        "best_temperature": best,
        "auto": log_loss(calibrator.transform(z), y),
        "method": calibrator.method_,
        "allowed": best + max(0.01 * best, 0.002),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--splits", type=int, default=SPLITS)
    asked = parser.parse_args()
    table: dict[str, Any] = {}
    for name in asked.sets:
        if not (DATA / name).is_dir():
            print(f"{name}: skipped, no data")
            continue
        found = logits_of(name, asked.cache)
        z, y = found["held_z"], found["held_y"]
        test = on_test(found)
        table[name] = {"rows": len(y), "classes": z.shape[1], "test": test}
        verdict = "within" if test["auto"] <= test["allowed"] else "NOT within"
        print(
            f"{name}: {z.shape[1]} classes; test rows: none {test['none']:.4f}, best temperature "
            f"{test['best_temperature']:.4f}, auto ({test['method']}, {test['seconds']:.1f} s) "
            f"{test['auto']:.4f}, {verdict} {test['allowed']:.4f}",
            flush=True,
        )
        for size in sizes(len(y)):
            table[name][size] = figures = compare(z, y, size, asked.splits)
            print(f"  {size} rows: none {figures['none']:.4f}; chosen {figures['chosen']}")
            for method in methods(z.shape[1]):
                f = figures[method]
                worse = "  WORSE" if f["worst"] < -WORSE and method == "auto" else ""
                print(
                    f"    {method:12s} gain {f['gain']:+.4f}, worst {f['worst']:+.4f}, over temperature "
                    f"{f['gain_over_temperature']:+.5f} ({f['beats_temperature']:.0%} of splits), decisions "
                    f"cost {f['cost_of_decisions']:+.5f}, free accuracy {f['accuracy_if_free']:+.4f}{worse}",
                    flush=True,
                )
    if table:
        store("calibrators", table)


if __name__ == "__main__":
    main()
