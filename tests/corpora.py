"""A small corpus for tests, and what is in a folder."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from logitext.corpus import inputs, parts

EXAMPLES = Path(__file__).parent.parent / "examples"
LOGITEXT = str(Path(sys.executable).parent / "logitext")
FOREVER = 120
WORDS = ("phone", "film", "election", "song", "chip", "vote", "star", "app", "minister", "actor")


@functools.cache
def news() -> lt.TextClassifier:
    """A model of three classes, News among them."""
    return lt.TextClassifier().fit(EXAMPLES / "headlines.csv")


def texts_of(rows: int, seed: int = 0) -> list[str]:
    words = np.random.default_rng(seed).choice(WORDS, (rows, 6))
    return [f"{' '.join(row)} {at}" for at, row in enumerate(words)]


def corpus(folder: Path, rows: int = 600, files: int = 3) -> Path:
    """Parquet files, JSON Lines in gzip and CSV have the same columns elsewhere; these are Parquet."""
    folder.mkdir()
    for file in range(files):
        table = pa.table(
            {
                "id": [f"{file}-{row}" for row in range(rows)],
                "text": texts_of(rows, file),
                "score": np.random.default_rng(file).random(rows),
                "tags": [["a"] * (row % 3) for row in range(rows)],
            }
        )
        pq.write_table(table, folder / f"{file}.parquet", row_group_size=100)
    return folder


def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files were large: cut into spans, written as many parts, read in many batches."""
    monkeypatch.setattr(inputs, "SPAN_BYTES", 6000)
    monkeypatch.setattr(parts, "PART_BYTES", 6000)
    monkeypatch.setattr(parts, "BATCH_BYTES", 2000)


def digests(folder: Path) -> dict[str, str]:
    """What is in a folder, but for our notes of how it came about."""
    files = [
        *folder.glob("*"),
        folder / "_logitext" / "bad_rows.jsonl",
        folder / "_logitext" / "sample.jsonl",
    ]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files) if f.is_file()}


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows in the order of the parts' names."""
    tables = [pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]
