"""For tests of Ray: a cluster on this machine whose workers write small parts; corpora to give it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from logitext import ray as on_ray
from logitext.corpus import parts

SMALL_PARTS, SMALL_BATCHES, SMALL_SPANS = 1 << 16, 1 << 14, 1 << 18
WORDS = [f"word{number}" for number in range(150)] + ["good", "bad", "film", "Größe", "日本"]


def small_and_slow() -> None:
    """In each worker: small parts; and what befalls a task according to the name of its folder."""
    parts.PART_BYTES, parts.BATCH_BYTES = SMALL_PARTS, SMALL_BATCHES
    perform = on_ray.perform

    def slowly(task: Any, *rest: Any) -> Iterator[Any]:
        if "full" in task.folder:
            Path(task.folder, parts.part_name(task.span.input, 0, "parquet")).symlink_to("/dev/full")
        if "killed" in task.folder and task.span.input == 1 and not os.path.exists(f"{task.folder}.once"):
            Path(f"{task.folder}.once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for record in perform(task, *rest):
            yield record
            if "slow" in task.folder:
                time.sleep(0.25)

    on_ray.perform = slowly


@contextmanager
def connected() -> Iterator[Any]:
    """A cluster of one node on this machine, connected to."""
    import ray
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "include_dashboard": False},
        )
        context = ray.init(
            one.address,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"worker_process_setup_hook": small_and_slow},
        )
    yield one
    ray.shutdown()
    one.shutdown()
    shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


def rows(count: int, seed: int = 0) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(0, 60, count)]
    return {"id": list(range(count)), "text": texts, "share": rng.random(count).round(3).tolist()}


def write(path: Path, count: int, seed: int = 0, **further: Any) -> Path:
    """Write some rows; further columns as they are given, or further rows as lines."""
    table = rows(count, seed)
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path, row_group_size=max(1, count // 8))
        return path
    lines = [json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)]
    lines += further.get("lines", [])
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """All parts, and what is said of them but in which order they were written."""
    said = {f"_logitext/{name}" for name in ("bad_rows.jsonl", "manifest.json")}
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {name: data for name, data in found.items() if name in said or not name.startswith("_logitext/")}


def hidden(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(".*") if file.is_file()]


def command(*arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """Start ``logitext predict`` in a process, and a group of processes, of its own."""
    call = [sys.executable, "-c", "from logitext.cli import main; main()", "predict", *map(str, arguments)]
    return subprocess.Popen(
        call, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=90)
    return process.returncode, out, error


def both(tmp_path: Path, model: Any, sources: Any, **how: Any) -> lt.corpus.run.Outcome:
    """Do a corpus by threads and by Ray; the folders are the same."""
    plain = lt.predict_corpus(model, sources, tmp_path / "plain", **how)
    outcome = lt.predict_corpus(model, sources, tmp_path / "ray", engine=on_ray.Engine(), **how)
    assert files(tmp_path / "ray") == files(tmp_path / "plain")
    assert plain.seconds > 0
    plain.seconds = outcome.seconds
    assert outcome == plain
    return outcome


@contextmanager
def begun_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is begun again."""
    names: list[str] = []
    again = on_ray._Left.again

    def count(left: Any, error: Exception) -> Any:
        names.append(type(error).__name__)
        return again(left, error)

    with monkeypatch.context() as patch:
        patch.setattr(on_ray._Left, "again", count)
        yield names


def answer(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
