"""The folder a corpus is written to: what it is made of, who writes to it, which parts are there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from logitext.files import replacing

__all__ = ["Folder", "open_folder"]

OURS = "_logitext"
"""What we keep beside the parts; other programs pass over names that begin so."""
PLAN, PARTS, LOCK, MANIFEST = "plan.json", "parts.jsonl", "lock", "manifest.json"
THRESHOLD = "threshold.json"
FAULTS = ".faults"
"""Ends the name of the list of a part's bad rows."""
SCORED = "scored"
"""Below `OURS`: answers that wait for the score from which on rows are kept."""

_PART = re.compile(r"part-\d{7,}-\d{12,}\.(parquet|jsonl)")
_HALF = re.compile(rf"\.{_PART.pattern}\.[0-9a-f]+\.part")
"""Names of parts, and of what is to become one: nothing else in the folder is ours to remove."""

Record = dict[str, Any]


class Folder:
    """An output folder that is ours as long as it is open.

    Attributes
    ----------
    path, ours, scored : Path
        Where parts are; what we keep beside them; answers without the rows.
    records : list of dict
        One for each part that is there, in the order in which they were written.
    """

    def __init__(self, path: Path, plan: dict[str, Any]) -> None:
        self.path, self.ours, self.scored = path, path / OURS, path / OURS / SCORED
        self.plan = plan
        self.records: list[Record] = []
        self._spans: dict[tuple[str, int, int], list[Record]] = defaultdict(list)
        self._log: TextIO | None = None
        self._writing = threading.Lock()

    def of(self, kind: str, input_number: int, span: int) -> list[Record]:
        """Return the records of a span's parts, in their order; `kind` is "part" or "scored"."""
        return sorted(self._spans[kind, input_number, span], key=lambda record: int(record["begin"]))

    def hold(self, records: list[Record]) -> None:
        """Hold these records, and no others."""
        self.records.clear()
        self._spans.clear()
        for record in records:
            self._hold(record)

    def _hold(self, record: Record) -> None:
        # Samples are large, and read from the log when they are needed.
        record = {key: value for key, value in record.items() if key != "sample"}
        self.records.append(record)
        if record["kind"] != "drop":
            self._spans[record["kind"], record["input"], record["span"]].append(record)

    def add(self, record: Record) -> None:
        """Remember a part that is written: from now on it is not written again."""
        assert self._log is not None, "the folder is not open"
        with self._writing:
            self._log.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._log.flush()
            os.fsync(self._log.fileno())
            self._hold(record)

    def samples(self) -> Iterator[Any]:
        """Give the samples of the parts that are there, one at a time."""
        dropped = {}
        for at, record in enumerate(_logged(self.ours / PARTS)):
            if record["kind"] == "drop":
                dropped[record["input"]] = at
        for at, record in enumerate(_logged(self.ours / PARTS)):
            if "sample" in record and at > dropped.get(record["input"], -1):
                yield record["sample"]

    def drop(self, input_number: int) -> None:
        """Take back the parts of an input that turned out to be bad."""
        own = [record for record in self.records if record["input"] == input_number]
        self.add({"kind": "drop", "input": input_number})
        self.hold([record for record in self.records if record["input"] != input_number])
        for record in own:
            (self._place(record) / record["part"]).unlink(missing_ok=True)
            self._faults(record).unlink(missing_ok=True)

    def _place(self, record: Record) -> Path:
        return self.scored if record["kind"] == "scored" else self.path

    def finish(self, said: dict[str, Any]) -> None:
        """Write the manifest, and the rows that were bad; what was kept for later, or lost, is removed."""
        _remove_halves(self)
        parts = [{key: value for key, value in record.items() if key != "kind"} for record in self.parts()]
        with replacing(self.ours / "bad_rows.jsonl") as file:
            for record in self.parts():
                if record["faults"]:
                    file.write(self._faults(record).read_bytes())
        write_json(self.ours / MANIFEST, {**self.plan, **said, "parts": parts})
        shutil.rmtree(self.scored, ignore_errors=True)

    def _faults(self, record: Record) -> Path:
        return self.ours / (Path(record["part"]).stem + FAULTS)

    def parts(self) -> list[Record]:
        """Return the records of the final parts in the order of the rows."""
        own = (record for record in self.records if record["kind"] == "part")
        return sorted(own, key=lambda record: (record["input"], record["begin"]))


@contextmanager
def open_folder(path: Path, plan: dict[str, Any], *, overwrite: bool = False) -> Iterator[Folder]:
    """Open an output folder, new or begun before, as the only one who writes to it.

    Parameters
    ----------
    path : Path
    plan : dict
        What decides the output: ``inputs``, ``models``, ``job``, ``versions``.
    overwrite : bool
        Remove what an earlier run wrote, whatever its plan was.

    Yields
    ------
    Folder

    Raises
    ------
    ValueError
        If it holds other files, or was begun by another plan: the message says what changed.
    BlockingIOError
        If another job is writing to it.
    OSError
        If it cannot be written.
    """
    ours = path / OURS
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(20, "Not a folder", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: cannot be written, because the folder {str(path.parent)!r} does not exist."
        )
    if path.is_dir() and not ours.is_dir():
        other = next(path.iterdir(), None)
        if other is not None:
            raise ValueError(f"{path}: holds other files ({other.name}): name a folder that is new or empty")
    ours.mkdir(parents=True, exist_ok=True)
    with _locked(ours / LOCK, path):
        folder = Folder(path, plan)
        begun = None if overwrite else _read_json(ours / PLAN)
        if begun is None:
            _refuse_others(folder)
            _clear(folder)  # also what was left where this was interrupted
            write_json(ours / PLAN, plan)
        folder.hold(_records(ours / PARTS))
        if begun is not None:
            folder.plan = plan = _compared(path, begun, plan, {record["input"] for record in folder.records})
            write_json(ours / PLAN, plan)
        folder.scored.mkdir(exist_ok=True)
        _remove_unfinished(folder)
        with open(ours / PARTS, "a", encoding="utf-8") as log:
            folder._log = log
            yield folder


def _records(path: Path) -> list[Record]:
    """What a log says is there; a line that was cut short by a kill is none, and is taken off."""
    found: list[Record] = []
    if not path.exists():
        return found
    good = 0
    for record in _logged(path):
        good += record.pop("length")
        record.pop("sample", None)
        if record["kind"] == "drop":
            found = [other for other in found if other["input"] != record["input"]]
        else:
            found.append(record)
    os.truncate(path, good)
    return found


def _logged(path: Path) -> Iterator[Record]:
    """The lines of a log, with their lengths, up to one that is cut short."""
    with open(path, "rb") as log:
        for line in log:
            try:
                record: Record = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n"):
                return
            yield record | {"length": len(line)}


def _remove_unfinished(folder: Folder) -> None:
    """Remove parts that a killed job wrote and did not come to tell of, and halves of such."""
    known = {(record["kind"] == "scored", record["part"]) for record in folder.records}
    for place, scored in ((folder.path, False), (folder.scored, True)):
        for file in place.iterdir():
            if _PART.fullmatch(file.name) and (scored, file.name) not in known:
                file.unlink()
    _remove_halves(folder)
    # When all of a span is chosen from, its scores are needed no more, and may be removed.
    chosen = {(each["input"], each["span"]) for each in folder.parts() if each["last"]}
    missing = [
        record
        for record in folder.records
        if not (record["kind"] == "scored" and (record["input"], record["span"]) in chosen)
        and not (folder._place(record) / record["part"]).is_file()
    ]
    if missing:
        raise ValueError(
            f"{folder.path}: {missing[0]['part']} is gone since it was written: begin again with --overwrite"
        )


def _remove_halves(folder: Folder) -> None:
    """Remove what was being written when its process, or its machine, was killed."""
    for place in (folder.path, folder.ours, folder.scored):
        for file in place.glob(".*.part"):
            if place != folder.path or _HALF.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _refuse_others(folder: Folder) -> None:
    names = [file.name for file in folder.path.iterdir()]
    others = [name for name in names if not (name == OURS or _PART.fullmatch(name) or _HALF.fullmatch(name))]
    if others:
        raise ValueError(
            f"{folder.path}: holds other files ({others[0]}): name a folder that is new or empty"
        )


def _clear(folder: Folder) -> None:
    """Remove what earlier runs wrote, and nothing else."""
    for file in folder.path.iterdir():
        if _PART.fullmatch(file.name) or _HALF.fullmatch(file.name):
            file.unlink()
    # The plan last: as long as it is there, what is gone is missed.
    for file in sorted(folder.ours.iterdir(), key=lambda file: file.name == PLAN):
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name != LOCK:
            file.unlink()


def _compared(
    path: Path, begun: dict[str, Any], plan: dict[str, Any], inputs_done: set[int]
) -> dict[str, Any]:
    """The plan to go on with; or a refusal that says what is not as it was."""
    changed = []
    for name, now in plan["models"].items():
        before = begun["models"].get(name)
        if before != now:
            changed.append(f"the model {name} is another one" if before else f"there is a model {name} more")
    changed += [f"the model {name} is missing" for name in begun["models"] if name not in plan["models"]]
    for key, value in plan["job"].items():
        if begun["job"].get(key) != value:
            changed.append(f"{key} was {begun['job'].get(key)!r} and is {value!r}")
    before, now = begun["inputs"], plan["inputs"]
    paths = [[said["path"] for said in inputs] for inputs in (before, now)]
    if paths[0] != paths[1]:
        new, gone = (set(paths[1]) - set(paths[0])), (set(paths[0]) - set(paths[1]))
        for what, names in (("new", new), ("gone", gone)):
            changed += [f"{len(names)} inputs are {what} ({min(names)})"] if names else []
        changed += [] if new or gone else ["the inputs come in another order"]
    else:
        altered = [
            said["path"]
            for number, (said, old) in enumerate(zip(now, before, strict=True))
            if number in inputs_done and said != old
        ]
        changed += [f"{len(altered)} inputs have changed ({altered[0]})"] if altered else []
    if changed:
        raise ValueError(
            f"{path}: was begun otherwise: {'; '.join(changed)}. "
            "Name another folder, or begin again with --overwrite"
        )
    return plan


@contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends."""
    with open(lock, "a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise OSError(f"{path}: cannot be locked ({error.strerror})") from error
            file.seek(0)
            by = file.read().strip()
            raise BlockingIOError(
                f"{path}: another job is writing to this folder" + (f" (process {by})" if by else "")
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


def _lock(file: TextIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")


def _read_json(path: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    return None
