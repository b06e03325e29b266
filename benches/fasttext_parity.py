"""Whether labels and probabilities are fastText's: every loss, floats and quantised, on all test texts.

    python -m benches.fasttext_parity --peer .venv/fasttext-wheel/bin/python

Models are trained by fastText itself on three data sets, and asked the test rows of each and 10,000 hostile
strings, with ``strict`` and without (there without those that fastText reads wrongly: label words, ``</s>``).
A tie is two scores of fastText's less than 1e-5 apart.

Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.fasttext_oracle import hostile, one_line

import logitext as lt
from benches.fasttext import ASKED, TIE, Peer, lines
from benches.measure import DATA, store

LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"wordNgrams": 2, "minn": 2, "maxn": 4},
    "hs": {"minn": 3, "maxn": 5},
    "ova": {"wordNgrams": 2},
    "ns": {"wordNgrams": 3, "minn": 1, "maxn": 2},
}
KINDS: dict[str, dict[str, Any] | None] = {
    "floats": None,
    "norms": {"qnorm": True, "dsub": 3},
    "pruned": {"cutoff": 20_000},
}
HOSTILE = 10_000


def compared(clf: Any, texts: list[str], told: list[list[Any]]) -> dict[str, Any]:
    """Labels that are not fastText's, ties aside, and the largest difference of its best probability."""
    decided, shares = clf.predict(texts), clf.predict_proba(texts)
    place = {f"__label__{label}": at for at, label in enumerate(clf.classes_.tolist())}
    differ, ties, farthest = 0, 0, 0.0
    for label, own, best in zip(decided, shares, told, strict=True):
        if len(best) == 2 and best[0][0] - best[1][0] < TIE:
            ties += 1
        elif best:
            differ += best[0][1] != f"__label__{label}"
        for share, name in best:
            farthest = max(farthest, abs(float(own[place[name]]) - share))
    return {"differ": differ, "ties": ties, "farthest": farthest, "above one": bool((shares > 1).any())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="Python with fasttext-wheel.")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"skipped: no data at {DATA} (set LOGITEXT_DATA)")
    peer, rows = Peer("fasttext-wheel", arguments.peer), []
    texts = {name: lines(name, "test")[0] for name in ASKED} | {"hostile": one_line(hostile(HOSTILE))}
    clean = {
        name: [at for at, text in enumerate(own) if "__label__" not in text and "</s>" not in text]
        for name, own in texts.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        source, path, file = (Path(folder, name) for name in ("train.txt", "model.bin", "texts.json"))
        for data, (loss, options), kind in itertools.product(ASKED, LOSSES.items(), KINDS):
            own, labels = lines(data, "train")
            source.write_text("".join(f"__label__{y} {x}\n" for x, y in zip(own, labels, strict=True)))
            given = {"loss": loss, "dim": 16, "epoch": 1, "lr": 0.5, "bucket": 100_000, **options}
            peer.ask(do="train", input=str(source), options=given, quantise=KINDS[kind], to=str(path))
            strict, ours = lt.load(path, strict=True), lt.load(path)
            for name in dict.fromkeys((data, "hostile")):
                file.write_text(json.dumps(texts[name]))
                told = peer.ask(do="best", model=str(path), texts=str(file))["best"]
                at = clean[name]
                row = {
                    "trained on": data,
                    "loss": loss,
                    "kind": kind,
                    "asked": name,
                    "texts": len(told),
                    "strict": compared(strict, texts[name], told),
                    "default": compared(ours, [texts[name][i] for i in at], [told[i] for i in at]),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    modes = ("strict", "default")
    differ = {mode: sum(row[mode]["differ"] for row in rows) for mode in modes}
    farthest = {mode: float(np.max([row[mode]["farthest"] for row in rows])) for mode in modes}
    print(f"{len(rows)} comparisons: labels that differ {differ}, farthest probability {farthest}")
    store("fasttext-parity", {"rows": rows, "differ": differ, "farthest": farthest})


if __name__ == "__main__":
    main()
