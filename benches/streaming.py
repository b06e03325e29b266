"""Training on a folder larger than memory: seconds, peak memory, and whether time a row grows.

    python -m benches.streaming [--gigabytes 5] [--epochs 3]

The folder is made of massive_50_languages (`LOGITEXT_DATA`), repeated with altered words, in a
temporary place, and removed. Each training is a process of its own; its peak memory is the system's figure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benches.measure import DATA as ALL
from benches.measure import store

DATA = ALL / "massive_50_languages"
FIXED = {"char_ngrams": None, "learning_rate": 1.0, "epochs": 2, "label_smoothing": 0.1, "calibration": None}
HELD_IN_MEMORY = 16 << 20
"""Less than the smallest has: the same budget, the same way, for all."""


def altered(texts: pa.Array, seed: int) -> pa.Array:
    """Give one or two words of most texts an ending of their own, so that a repetition brings new n-grams."""
    for letter in ("ae", "io", "nt", "rs")[seed % 4]:
        how = {"pattern": f"{letter} ", "replacement": f"{letter}{seed} ", "max_replacements": 1}
        texts = pc.replace_substring(texts, **how)
    return texts


def write(folder: Path, repeats: int, *, long: int = 1, first: int = 0) -> int:
    """Write files, each the whole set altered, `long` rows of a label to a text; return the bytes of text."""
    table = pq.read_table(DATA / "train.parquet").sort_by("label")
    table = table.slice(0, len(table) // long * long)
    labels = table["label"].to_pylist()[::long]
    size = 0
    for repeat in range(first, first + repeats):
        texts = altered(table["text"].combine_chunks().cast(pa.string()), repeat)
        if long > 1:
            runs = pa.ListArray.from_arrays(pa.array(range(0, len(texts) + 1, long), pa.int32()), texts)
            texts = pc.binary_join(runs, " ")
        size += pc.sum(pc.binary_length(texts)).as_py()
        pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{repeat:04}.parquet")
    return size


def train(folder: Path, settings: dict[str, Any], in_memory: int = 128 << 20) -> dict[str, Any]:
    """Train in a process of its own; seconds, peak memory, rows."""
    code = (
        "import json, resource, sys, time, logitext as lt, logitext.gathering\n"
        "logitext.gathering.IN_MEMORY = int(sys.argv[3])\n"
        "start = time.perf_counter()\n"
        "model = lt.TextClassifier(**json.loads(sys.argv[2])).fit(sys.argv[1])\n"
        "seconds = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "record = model.training_\n"
        "print(json.dumps({'seconds': seconds, 'peak_bytes': peak, 'rows': record['rows'],"
        " 'streamed': record.get('streamed', False), 'epochs': len(record['epochs']),"
        " 'held_out': record['held_out'], 'features': len(model.model_.arrays['hashes'])}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(settings), str(in_memory)],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scale(place: Path) -> list[dict[str, Any]]:
    """Equal settings and memory, 1, 4 and 16 times the rows."""
    found = []
    for repeats in (1, 4, 16):
        folder = place / f"x{repeats}"
        folder.mkdir()
        size = write(folder, repeats)
        one = train(folder, FIXED, HELD_IN_MEMORY) | {"repeats": repeats, "text_bytes": size}
        one["microseconds_a_row"] = 1e6 * one["seconds"] / (one["rows"] * one["epochs"])
        print(json.dumps(one), flush=True)
        found.append(one)
    return found


def big(place: Path, gigabytes: float, epochs: int | None = None) -> dict[str, Any]:
    """Default settings, or these but for the epochs, on a folder of so much text."""
    each, files, size = 0, 0, 0
    folder = place / "big"
    folder.mkdir()
    while size < gigabytes * 1e9:
        each = write(folder, 1, long=8, first=files)
        files, size = files + 1, size + each
    settings = {} if epochs is None else {"epochs": epochs}
    found = train(folder, settings) | {"text_bytes": size, "files": files}
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=5.0, help="of the large folder; 0 for none")
    parser.add_argument("--no-scale", action="store_true")
    parser.add_argument("--epochs", type=int, help="of the large folder; by default ten, which take hours")
    asked = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"skipped: {DATA} is not there; set LOGITEXT_DATA")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        if not asked.no_scale:
            result["scale"] = scale(Path(place))
        if asked.gigabytes:
            result["big"] = big(Path(place), asked.gigabytes, asked.epochs)
    store("streaming" if len(result) == 2 else f"streaming-{next(iter(result))}", result)


if __name__ == "__main__":
    main()
