"""Corpora killed at random moments: the same command again, and the output is what it would have been.

    python -m benches.soak_corpora [--kills 50]

A Parquet file that is cut into spans, JSON Lines under gzip with rows that cannot be read, CSV; answered with
all columns, chosen by a condition into JSON Lines, and chosen by their score in two passes. Parts, batches
and spans are made small, so that a run has many. A kill comes at any moment of a run, from its start on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import logitext as lt
from benches.measure import ROOT, store

ROWS = 20_000
"""Of each input."""
SIZES = {"part": 1 << 18, "batch": 1 << 15, "span": 1 << 19}
JOBS: dict[str, dict[str, Any]] = {
    "all rows": {},
    "a condition": {
        "keep": "p(Technology) > 0.3 and number != '7'",
        "format": "jsonl",
        "columns": ["number"],
    },
    "the top": {"keep_top": 0.1, "by": "p(Technology)", "logits": True},
}
NOT_COMPARED = ("lock", "plan.json", "parts.jsonl")
"""These tell of the run, not of what came of it."""
GIVEN_UP = 600.0
"""Seconds after which a run is said to hang, on however busy a machine."""

Found = dict[str, Any]


def made(place: Path) -> tuple[Path, list[Path]]:
    """A model and inputs."""
    rows = ROOT / "examples" / "headlines.csv"
    model = place / "model.safetensors"
    lt.TextClassifier().fit([str(rows)]).save(model)
    titles = pyarrow.csv.read_csv(rows)["text"].to_pylist()
    draw = random.Random(0)
    files = []
    for kind in ("parquet", "jsonl.gz", "csv"):
        texts = [f"{draw.choice(titles)} {draw.choice(titles)} {number}" for number in range(ROWS)]
        path = place / f"rows.{kind}"
        files.append(path)
        table = pa.table({"number": [str(number) for number in range(ROWS)], "text": texts})
        if kind == "parquet":
            pq.write_table(table, path, row_group_size=ROWS // 40)
        elif kind == "csv":
            pyarrow.csv.write_csv(table, path)
        else:
            lines = [json.dumps(row) for row in table.to_pylist()]
            for number in range(100, ROWS, 9973):
                lines[number] = '{"number": "x", "text": null}' if number % 2 else '{"number": '
            path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 1))
    return model, files


def written(folder: Path) -> dict[str, bytes]:
    """The names and bytes of all that is in a folder."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(folder)): b"" if file.name in NOT_COMPARED else file.read_bytes()
        for file in files
    }


class Command:
    """One job as a command, to run or to kill."""

    def __init__(self, model: Path, files: list[Path], output: Path, how: dict[str, Any]) -> None:
        asked = {"model": model, "inputs": files, "output": output, "bytes": SIZES, "on_bad_row": "skip"}
        self.output = output
        said = json.dumps(asked | how, default=lambda path: str(path))
        self.words = [sys.executable, "-m", "benches.answer_corpus", said]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def run(self) -> float:
        """Run it to its end; the seconds it took."""
        start = time.perf_counter()
        process = self.start()
        try:
            _, said = process.communicate(timeout=GIVEN_UP)
        finally:
            process.kill()
        if process.returncode:
            raise RuntimeError(said.decode())
        return time.perf_counter() - start

    def kill(self, after: float) -> bool:
        """Begin it and kill it; whether it was still at work."""
        process = self.start()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


def soak(place: Path, kills: int) -> Found:
    """Kill each job in turn, once or several times over, and compare what it comes to."""
    draw = random.Random()
    model, files = made(place)
    commands = {what: Command(model, files, place / "out", how) for what, how in JOBS.items()}
    right, seconds = {}, {}
    for what, command in commands.items():
        seconds[what] = command.run()
        right[what] = written(command.output)
        shutil.rmtree(command.output)
    found: Found = {"files": {what: len(names) for what, names in right.items()}, "seconds": dict(seconds)}
    killed = ended = midway = 0
    faults: list[str] = []
    while killed < kills:
        what = list(JOBS)[killed % len(JOBS)]
        command, before = commands[what], killed
        moments = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            moments.append(draw.uniform(0, seconds[what]))
            if command.kill(moments[-1]):
                killed += 1
                parts = command.output / "_logitext" / "parts.jsonl"
                midway += parts.exists() and parts.stat().st_size > 0
            else:
                ended += 1
                seconds[what] *= 0.9  # the machine has become quicker
        try:
            command.run()
            now = written(command.output)
            names = [name for name in {*now, *right[what]} if now.get(name) != right[what].get(name)]
            wrong = f"not the same: {', '.join(sorted(names)[:5])}" if names else ""
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            wrong = str(error)[-2000:]
        if wrong:
            faults.append(f"{what}, killed after {', '.join(f'{t:.2f} s' for t in moments)}: {wrong}")
            print(faults[-1], file=sys.stderr, flush=True)
        shutil.rmtree(command.output, ignore_errors=True)
        if killed // 10 > before // 10:
            print(f"{killed} kills, {len(faults)} faults", file=sys.stderr, flush=True)
    found |= {
        "kills": killed,
        "after a part was written": midway,
        "ended before": ended,
        "faults": faults[:10],
    }
    return found | {"holds": not faults}


def main() -> None:
    """Kill, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--no-store", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), asked.kills)
    print(json.dumps(found, indent=1))
    if not asked.no_store:
        store("soak-corpora", found)
    sys.exit(0 if found["holds"] else 1)


if __name__ == "__main__":
    main()
