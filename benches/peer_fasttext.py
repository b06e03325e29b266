"""fastText over a corpus: trained on a set, then predicting in a pool of processes. Run by the peer's Python.

    python -m benches.peer_fasttext train SET MODEL ACCURACY DIMENSIONS
    python -m benches.peer_fasttext predict MODEL INPUTS OUTPUT PROCESSES

Each prints one line of JSON. Neither logitext nor NumPy is needed: `predict` of fastText's own wrapper does
not work under NumPy 2, so the function beneath it is called, which also does a little less.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 8192
NEAR = 0.005
"""The first model that comes so near to the accuracy that is wanted is taken."""
GRID = [
    {"lr": rate, "epoch": epochs, **subwords}
    for subwords in ({}, {"minn": 2, "maxn": 4})
    for epochs in (5, 25)
    for rate in (0.5, 1.0)
]
"""From what predicts quickly to what does not."""


def line(text: str) -> str:
    """A text as fastText takes it: one line, in lower case as in training."""
    return text.replace("\n", " ").lower() + "\n"


def train(folder: Path, path: Path, aim: float, dimensions: int) -> dict[str, Any]:
    """Train models until one is as accurate on the test rows as is wanted; the best one otherwise."""
    from fasttext import train_supervised

    rows, test = (pq.read_table(folder / f"{split}.parquet").to_pydict() for split in ("train", "test"))
    names = {label: f"__label__{label.replace(' ', '_')}" for label in {*rows["label"], *test["label"]}}
    lines = [line(text) for text in test["text"]]
    best: dict[str, Any] = {"accuracy": -1.0}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{names[y]} {line(x)}" for x, y in zip(rows["text"], rows["label"], strict=True))
        file.flush()
        for settings in GRID:
            try:
                how = {"wordNgrams": 2, "dim": dimensions, **settings}
                model = train_supervised(file.name, thread=2, verbose=0, **how)
            except RuntimeError:  # "Encountered NaN"
                continue
            found = [model.f.predict(text, 1, 0.0, "strict") for text in lines]
            hits = [bool(p) and p[0][1] == names[y] for p, y in zip(found, test["label"], strict=True)]
            accuracy = sum(hits) / len(hits)
            print(how, accuracy, file=sys.stderr)
            # Subwords take time: only for what they bring.
            if accuracy > best["accuracy"] + (NEAR if "minn" in settings else 0):
                model.save_model(str(path))
                best = {"accuracy": accuracy, **how}
            if accuracy >= aim - NEAR:
                break
    return best | {"model_bytes": path.stat().st_size}


_model: Any = None


def _load(path: str, ready: Any) -> None:
    global _model
    from fasttext import load_model

    _model = load_model(path)
    ready.wait()


def _answer(task: tuple[str, str]) -> int:
    """Answer the rows of one file."""
    source, target = task
    rows, predict = 0, _model.f.predict
    with pq.ParquetFile(source) as file:
        names = ["label", "probability"]
        schema = pa.schema(
            [*file.schema_arrow, pa.field(names[0], pa.string()), pa.field(names[1], pa.float32())]
        )
        with pq.ParquetWriter(target, schema) as writer:
            for batch in file.iter_batches(BATCH_ROWS):
                found = [predict(line(text), 1, 0.0, "strict") for text in batch.column("text").to_pylist()]
                labels = [answer[0][1].removeprefix("__label__") if answer else None for answer in found]
                shares = [answer[0][0] if answer else None for answer in found]
                columns = [*batch.columns, pa.array(labels, pa.string()), pa.array(shares, pa.float32())]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                rows += batch.num_rows
    return rows


def predict(path: Path, inputs: Path, output: Path, processes: int) -> dict[str, Any]:
    """Answer a folder; the time begins when every process has loaded the model."""
    output.mkdir()
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    tasks = [(str(file), str(output / file.name)) for file in sorted(inputs.glob("*.parquet"))]
    with context.Pool(processes, _load, (str(path), ready)) as pool:
        ready.wait()
        start = time.perf_counter()
        rows = sum(pool.imap_unordered(_answer, tasks))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows": rows}


def main() -> None:
    what, *given = sys.argv[1:]
    if what == "train":
        print(json.dumps(train(Path(given[0]), Path(given[1]), float(given[2]), int(given[3]))))
    else:
        print(json.dumps(predict(Path(given[0]), Path(given[1]), Path(given[2]), int(given[3]))))


if __name__ == "__main__":
    main()
