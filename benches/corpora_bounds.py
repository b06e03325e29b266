"""What a corpus may take: memory over many files and over one large row group; and the error of a sketch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benches.corpora_made import LONG, Place, corpus, files_of, linked, model
from benches.measure import ROOT

BOUND = 1.5e9
"""Bytes of memory."""
FLAT = 1.1
"""The most of the last quarter of a run may be so many times the most of the second."""

Found = dict[str, Any]


def watched(**asked: Any) -> Found:
    """Answer a corpus in a process of its own and look at its memory ten times a second."""
    command = [sys.executable, "-m", "benches.answer_corpus", json.dumps(asked, default=str)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    seen: list[int] = []
    peak = 0
    while process.poll() is None:
        with suppress(OSError, KeyError):  # it may be gone by now
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            )
            now, peak = (int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
            seen.append(now)
        time.sleep(0.1)
    assert process.stdout is not None
    said = json.loads(process.stdout.read().splitlines()[-1])
    quarter = len(seen) // 4
    second, last = max(seen[quarter : 2 * quarter]), max(seen[3 * quarter :])
    return {
        "text_bytes": said["text_bytes"],
        "seconds": said["seconds"],
        "MB_per_second": said["text_bytes"] / said["seconds"] / 1e6,
        "peak_MB": peak / 1e6,
        "second_quarter_MB": second / 1e6,
        "last_quarter_MB": last / 1e6,
        "arrow_pool": said["pool"],
        "arrow_peak_MB": said["arrow_peak"] / 1e6,
        "holds": peak < BOUND and last <= FLAT * second,
    }


def memory(place: Place, gigabytes: float) -> Found:
    """Peak memory over many files: a file of 200 MB under many names, the text left out; and in full."""
    model(place.path, LONG)
    file = files_of(corpus(place.path, LONG, 1, round(75_000 * min(1.0, place.scale)), group_rows=8192))[0]
    found: Found = {}
    for what, much, columns in (("without text", gigabytes, ["id", "url"]), ("in full", gigabytes / 5, None)):
        inputs = place.path / "linked"
        files = linked(inputs, file, much)
        asked = {"model": place.path / f"{LONG}.safetensors", "inputs": inputs, "columns": columns}
        found[what] = {"files": files, "file_bytes": files * file.stat().st_size}
        found[what] |= watched(output=place.fresh(), **asked)
        shutil.rmtree(inputs)
    place.fresh()
    return found


def group(place: Place, gigabytes: float = 2.0) -> Found:
    """A file with a single row group of so much text."""
    model(place.path, LONG)
    rows = round(gigabytes * 1e9 / 4096)
    folder = corpus(place.path, LONG, 1, rows, group_rows=rows)
    metadata = pq.read_metadata(files_of(folder)[0])
    assert metadata.num_row_groups == 1, "more row groups than one"
    how = {"model": place.path / f"{LONG}.safetensors", "inputs": folder, "output": place.fresh()}
    found = {"group_bytes": metadata.row_group(0).total_byte_size} | watched(**how)
    shutil.rmtree(folder)
    place.fresh()
    return found


def percentile(scores: int = 10_000_000, pieces: int = 100, orders: int = 10) -> Found:
    """Sketches of pieces merged in any order against the exact shares."""
    from logitext.corpus.quantiles import ScoreSketch

    random = np.random.default_rng(0)
    all_ = (1 / (1 + np.exp(-random.normal(0, 4, scores)))).astype(np.float32)
    exact = np.sort(all_)
    sketches = []
    for piece in np.array_split(random.permutation(all_), pieces):
        sketches.append(ScoreSketch())
        sketches[-1].add(piece)
    shares = (0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99)
    worst, stated = 0.0, 0.0
    for _ in range(orders):
        merged = ScoreSketch()
        for at in random.permutation(pieces):
            merged.merge(sketches[at])
        assert merged.count == scores, "scores were lost"
        stated = merged.rank_error
        for share in shares:
            threshold = np.float32(merged.threshold_of_top(share))
            least, most = (scores - np.searchsorted(exact, threshold, side) for side in ("right", "left"))
            worst = max(worst, least / scores - share, share - most / scores)
    return {
        "scores": scores,
        "worst_rank_error": float(worst),
        "stated": stated,
        "holds": bool(worst <= stated),
    }
