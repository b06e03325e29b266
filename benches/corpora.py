"""Corpora from Parquet to Parquet: against memory, fastText, datatrove and Ray; memory; thresholds; cost.

    python -m benches.corpora [speed ray memory group percentile] [--gigabytes 20] [--scale 1] [--rounds 5]

Two corpora: documents of 4 KB (reviews of imdb glued and cut) and utterances of about 60 bytes (massive),
each with an id and an address, in files as pyarrow writes them but with row groups of 32 MB and of 128K
rows. Models have default arguments and were trained on the sets' training rows. Whatever is compared runs
in turn, round by round; figures are medians. Wall-clock time with all cores; CPU time stands beside it, for
a machine that others work on.

fastText is given models about as accurate, if its grid has such, of few dimensions and of as many as it
takes by default; a pool of as many processes as there are cores
reads with pyarrow, predicts text by text and writes with pyarrow. Its time begins when its processes have
loaded the model, that of datatrove's filter when its executor starts. Both run under the Python that
LOGITEXT_PEER_PYTHON names, by default this one.

Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import logitext as lt
from benches.corpora_bounds import group, memory, percentile
from benches.corpora_made import LONG, SHORT, Place, accuracy, chunk_bytes, files_of, model
from benches.measure import DATA, ROOT, store
from logitext import _core

PEER = os.environ.get("LOGITEXT_PEER_PYTHON", sys.executable)
DIMENSIONS = (16, 100)
"""Of fastText's models: as few as its models of languages have, and as many as it takes by default."""

Found = dict[str, Any]


def alternately(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and CPU seconds of this process and those it waited for, of each in turn."""
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in work}
    for turn in range(rounds + 1):
        for who, do in work.items():
            cpu, start = _cpu(), time.perf_counter()
            said = do()
            seconds = said if isinstance(said, float) else time.perf_counter() - start
            if turn:  # one round that does not count
                taken[who].append((seconds, _cpu() - cpu))
    return taken


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def ratio(taken: dict[str, list[tuple[float, float]]], slow: str, quick: str) -> float:
    """The median over rounds of one's time over the other's."""
    return statistics.median(a / b for (a, _), (b, _) in zip(taken[slow], taken[quick], strict=True))


# Against memory, and peers


def speed(place: Place, name: str, rounds: int) -> Found:
    """From files to files against in-memory prediction and fastText's pool."""
    classifier, folder = model(place.path, name), place.corpus(name)
    columns = [pq.read_table(file, columns=["text"])["text"].combine_chunks() for file in files_of(folder)]
    lists = [column.to_pylist() for column in columns]
    rows, size = sum(map(len, columns)), sum(map(chunk_bytes, columns))
    _check(classifier, columns, folder, place.fresh())
    work: dict[str, Callable[[], Any]] = {
        "corpus": lambda: lt.predict_corpus(classifier, folder, place.fresh()),
        "memory, Arrow": lambda: [in_memory(classifier, texts) for texts in columns],
        "memory, list": lambda: [in_memory(classifier, texts) for texts in lists],
    }
    found: Found = {"rows": rows, "bytes_per_text": size / rows, "accuracy": accuracy(classifier, name)}
    for dimensions in DIMENSIONS:
        path = place.path / f"{name}-{dimensions}.bin"
        if (peer := trained_peer(path, name, found["accuracy"], dimensions)) is not None:
            who = f"fastText pool, {dimensions} dimensions"
            work[who] = partial(_pool, path, folder, place)
            found[f"{who}: model"] = peer
    taken = alternately(work, rounds)
    cores = _core.available_threads()
    for who in work:
        wall, cpu = (statistics.median(run[i] for run in taken[who]) for i in (0, 1))
        found[who] = {
            "seconds": [run[0] for run in taken[who]],
            "rows_per_second": rows / wall,
            "MB_per_second_and_core": size / wall / cores / 1e6,
            "MB_per_CPU_second": size / cpu / 1e6,
            "core_hours_per_billion": wall * cores / rows * 1e9 / 3600,
        }
    for who in work:
        if who != "corpus":
            found[f"times {who}"] = ratio(taken, who, "corpus")
    quick = place.path / f"{name}-{min(DIMENSIONS)}.bin"
    if quick.exists():
        found["datatrove"] = datatrove(place, folder, quick, rows, found["corpus"]["rows_per_second"])
    return found


def in_memory(classifier: lt.TextClassifier, texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Decisions and their probabilities by one reading of the texts."""
    z = classifier.logits(texts)
    return classifier.decide(z), classifier.model_.probabilities(z).max(axis=1)


def _check(classifier: lt.TextClassifier, columns: list[pa.Array], folder: Path, output: Path) -> None:
    """Refuse to measure what is not right: rows in order, answers the same bits."""
    lt.predict_corpus(classifier, folder, output)
    answers = pq.read_table(output, columns=["id", "label", "probability"])
    files = iter(columns)
    at = 0
    for texts in files:
        labels, shares = in_memory(classifier, texts)
        part = answers.slice(at, len(texts))
        assert part["label"].to_pylist() == labels.tolist(), "other labels than in memory"
        assert np.array_equal(part["probability"].to_numpy(), shares), "other probabilities than in memory"
        at += len(texts)
    assert answers["id"].to_pylist() == [f"{number:012}" for number in range(at)], "rows in another order"


def _peer(module: str, *arguments: Any) -> Found:
    """What a peer prints."""
    command = [PEER, "-m", f"benches.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def _pool(path: Path, folder: Path, place: Place) -> float:
    """Seconds of fastText's pool."""
    cores = _core.available_threads()
    return float(_peer("peer_fasttext", "predict", path, folder, place.fresh(), cores)["seconds"])


def trained_peer(path: Path, name: str, aim: float, dimensions: int) -> Found | None:
    """A model of fastText's as accurate as ours, or nearly; None where fastText is missing."""
    settings = path.with_suffix(".json")
    if not settings.exists():
        if not _installed("fasttext"):
            return None
        settings.write_text(json.dumps(_peer("peer_fasttext", "train", DATA / name, path, aim, dimensions)))
    found: Found = json.loads(settings.read_text())
    return found


def _installed(name: str) -> bool:
    if subprocess.run([PEER, "-c", f"import {name}"], stderr=subprocess.DEVNULL).returncode:
        print(f"{name} is not installed: not compared", flush=True)
        return False
    return True


def datatrove(place: Place, folder: Path, path: Path, rows: int, ours: float) -> Found | None:
    """datatrove's filter over the same files, once: it takes a while."""
    if not _installed("datatrove"):
        return None
    output = place.fresh()
    output.mkdir()
    try:
        seconds = _peer("peer_datatrove", path, folder, output, _core.available_threads())["seconds"]
    except subprocess.CalledProcessError as error:
        print(f"datatrove failed, not compared: {error.stderr.decode()[-500:]}", flush=True)
        return None
    written = sum(pq.read_metadata(file).num_rows for file in files_of(output / "parts"))
    assert written == rows, f"datatrove wrote {written:,} of {rows:,} rows"
    return {"seconds": seconds, "rows_per_second": rows / seconds, "times": ours * seconds / rows}


# Ray


def ray(place: Place, name: str, rounds: int) -> Found:
    """The same tasks by Ray on this machine against the threads of one process; Ray's start stands apart."""
    import ray

    import logitext.ray

    classifier, folder = model(place.path, name), place.corpus(name)
    engine = logitext.ray.Engine()
    start = time.perf_counter()
    how: Found = {"num_cpus": _core.available_threads(), "include_dashboard": False, "log_to_driver": False}
    how["logging_level"] = "error"
    ray.init(**how)
    try:
        lt.predict_corpus(classifier, files_of(folder)[:2], place.fresh(), engine=engine, columns=[])
        begun = time.perf_counter() - start
        work: dict[str, Callable[[], Any]] = {
            "plain": lambda: lt.predict_corpus(classifier, folder, place.fresh()),
            "Ray": lambda: lt.predict_corpus(classifier, folder, place.fresh(), engine=engine),
        }
        same = []
        for do in work.values():
            do()
            written = files_of(place.path / "out")
            same.append([(file.name, hashlib.sha256(file.read_bytes()).digest()) for file in written])
        assert same[0] == same[1], "Ray wrote something else"
        taken = alternately(work, rounds)
    finally:
        ray.shutdown()
    seconds = {who: [run[0] for run in runs] for who, runs in taken.items()}
    return {"start_seconds": begun, "seconds": seconds, "of plain": ratio(taken, "plain", "Ray")}


def targets(found: Found) -> Found:
    """What was to be shown, and whether it was."""
    said: Found = {}
    for name, one in found.get("speed", {}).items():
        said[f"{name}: 70 % of memory, Arrow"] = one["times memory, Arrow"] >= 0.7
        for who in one:
            if who.startswith("times fastText"):
                said[f"{name}: 5 {who}"] = one[who] >= 5
        if name == LONG:
            said[f"{name}: 25 MB/s and core"] = one["corpus"]["MB_per_second_and_core"] >= 25
    for name, one in found.get("ray", {}).items():
        said[f"{name}: Ray 75 % of plain"] = one["of plain"] >= 0.75
    for what, one in found.get("memory", {}).items():
        said[f"memory under 1.5 GB and flat, {what}"] = one["holds"]
    for what in ("group", "percentile"):
        if what in found:
            said[what] = found[what]["holds"]
    return said


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    every = ["speed", "ray", "memory", "group", "percentile"]
    parser.add_argument("parts", nargs="*", default=every)
    parser.add_argument("--sets", nargs="*", default=[LONG, SHORT])
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of files to watch the memory over")
    parser.add_argument("--scale", type=float, default=1.0, help="times the rows of the corpora")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--place", type=Path, help="a folder for models and corpora, kept; else a temporary one"
    )
    parser.add_argument("--no-store", action="store_true")
    asked = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"skipped: {DATA} is not there; set LOGITEXT_DATA")
    found: Found = {}
    with tempfile.TemporaryDirectory() as temporary:
        path = asked.place or Path(temporary)
        path.mkdir(exist_ok=True)
        place = Place(path.resolve(), asked.scale)
        single: dict[str, Callable[[], Found]] = {
            "memory": lambda: memory(place, asked.gigabytes),
            "group": partial(group, place, 2.0 * min(1.0, asked.scale)),
            "percentile": percentile,
        }
        for part in asked.parts:
            if part in single:
                found[part] = single[part]()
                print(part, json.dumps(found[part], indent=1), flush=True)
                continue
            found[part] = {}
            for name in asked.sets:
                found[part][name] = (speed if part == "speed" else ray)(place, name, asked.rounds)
                print(part, name, json.dumps(found[part][name], indent=1), flush=True)
        place.fresh()
    found["targets"] = targets(found)
    for what, held in found["targets"].items():
        print(f"{'holds' if held else 'DOES NOT HOLD'}: {what}")
    if not asked.no_store:
        store("corpora" if asked.parts == every else f"corpora-{'-'.join(asked.parts)}", found)


if __name__ == "__main__":
    main()
