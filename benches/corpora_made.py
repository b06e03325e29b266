"""Corpora and models to measure with, made of the development data and kept in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import logitext as lt
from benches.measure import DATA

LONG, SHORT = "imdb", "massive_50_languages"
DOCUMENT_BYTES = 4096
FILES = 8
ROWS = {LONG: 32_768, SHORT: 524_288}
"""Of a file, times the scale."""
GROUP_ROWS = {LONG: 8192, SHORT: 131_072}


def model(place: Path, name: str) -> lt.TextClassifier:
    """A model with default arguments of a set's training rows: trained the first time it is asked for."""
    path = place / f"{name}.safetensors"
    if not path.exists():
        rows = pq.read_table(DATA / name / "train.parquet")
        lt.TextClassifier().fit(rows["text"].to_pylist(), rows["label"].to_pylist()).save(path)
    found = lt.load(path)
    assert isinstance(found, lt.TextClassifier), "nothing else was saved there"
    return found


def accuracy(classifier: lt.TextClassifier, name: str) -> float:
    """The share of a set's test rows a model is right on."""
    rows = pq.read_table(DATA / name / "test.parquet")
    return float(np.mean(classifier.predict(rows["text"]) == np.array(rows["label"].to_pylist())))


def _texts(name: str, *splits: str) -> list[str]:
    return [
        text
        for split in splits
        for text in pq.read_table(DATA / name / f"{split}.parquet")["text"].to_pylist()
    ]


def documents() -> Iterator[str]:
    """Reviews glued in an order of their own each time round, cut at 4 KB on a character boundary: no end."""
    texts, order = _texts(LONG, "train", "test"), np.random.default_rng(0)
    rest = b""
    while True:
        data = rest + "\n\n".join(texts[at] for at in order.permutation(len(texts))).encode()
        begin = 0
        while begin + DOCUMENT_BYTES < len(data):
            end = begin + DOCUMENT_BYTES
            while data[end] & 0xC0 == 0x80:
                end -= 1
            yield data[begin:end].decode()
            begin = end
        rest = data[begin:]


def utterances() -> Iterator[str]:
    """The short texts, in an order of their own each time round: no end."""
    texts, order = _texts(SHORT, "train"), np.random.default_rng(0)
    while True:
        yield from (texts[at] for at in order.permutation(len(texts)))


TEXTS = {LONG: documents, SHORT: utterances}


def _table(texts: Iterator[str], rows: int, first: int) -> pa.Table:
    """Rows with an id and an address."""
    numbers = range(first, first + rows)
    return pa.table(
        {
            "id": [f"{number:012}" for number in numbers],
            "url": [f"https://www.example.org/{number % 977}/page-{number}.html" for number in numbers],
            "text": pa.array([next(texts) for _ in numbers], pa.large_string()),
        }
    )


def corpus(place: Path, name: str, files: int, rows: int, *, group_rows: int) -> Path:
    """A folder of Parquet files as pyarrow writes them by default, but for the size of row groups."""
    folder = place / f"{name}-{files}x{rows}-{group_rows}"
    if not folder.exists():
        fresh, texts = folder.with_suffix(".new"), TEXTS[name]()
        fresh.mkdir()
        for number in range(files):
            pq.write_table(
                _table(texts, rows, number * rows), fresh / f"{number:04}.parquet", row_group_size=group_rows
            )
        fresh.rename(folder)
    return folder


def linked(folder: Path, file: Path, gigabytes: float) -> int:
    """One file under as many names as make so many gigabytes: it takes up disk once. How many they are."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = max(1, round(gigabytes * 1e9 / file.stat().st_size))
    for number in range(names):
        os.link(file, folder / f"{number:05}.parquet")
    return names


def chunk_bytes(texts: pa.LargeStringArray) -> int:
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def files_of(folder: Path) -> list[Path]:
    """The Parquet files in a folder."""
    return sorted(folder.glob("*.parquet"))


class Place:
    """A folder for what is made and written."""

    def __init__(self, path: Path, scale: float) -> None:
        self.path, self.scale = path, scale

    def corpus(self, name: str) -> Path:
        rows = max(1, round(ROWS[name] * self.scale))
        return corpus(self.path, name, FILES, rows, group_rows=GROUP_ROWS[name])

    def fresh(self) -> Path:
        """A name for output; what was there is removed."""
        path = self.path / "out"
        shutil.rmtree(path, ignore_errors=True)
        return path
