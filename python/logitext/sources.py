"""Which files are meant: paths, folders and patterns → files, in a fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from logitext.addresses import files_at, is_address
from logitext.streams import COMPRESSIONS, is_standard_stream
from logitext.tables import SUFFIXES

__all__ = ["files_of"]


def files_of(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files that paths, folders and patterns stand for.

    Parameters
    ----------
    paths : path, or several
        A file; a folder, for all tables in it and below, hidden files left out; a pattern with
        ``*``, ``?`` or ``[``; an address that fsspec knows (``s3://…``, ``https://…``), also of a folder
        or with a pattern; ``-`` for standard input.

    Returns
    -------
    list of str
        In the order given, those of a folder or pattern by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If a folder or pattern stands for no file, or nothing is given.

    Examples
    --------
    >>> for name in ("b.csv", "a.csv", "notes.md"):
    ...     _ = Path(name).write_text("text,label\\n")
    >>> files_of("."), files_of("b*"), files_of(["b.csv", "a.csv"])
    (['a.csv', 'b.csv'], ['b.csv'], ['b.csv', 'a.csv'])
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ValueError("no files are given")
    return [file for path in given for file in _files(os.fspath(path))]


def _files(path: str) -> list[str]:
    if is_address(path):
        return _files_at(path)
    if is_standard_stream(path) or os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        found = sorted(str(file) for file in Path(path).rglob("*") if _is_table(file, Path(path)))
        if not found:
            raise ValueError(f"{path}: there is no table in this folder; tables end in {', '.join(SUFFIXES)}")
        return found
    if os.path.exists(path):  # a device or named pipe
        return [path]
    if not glob.has_magic(path):
        raise FileNotFoundError(2, "No such file or directory", path)
    found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    if not found:
        raise ValueError(f"{path}: no file fits this pattern")
    return found


def _files_at(address: str) -> list[str]:
    found, named = files_at(address)
    if named and not found:
        raise ValueError(f"{address}: no file fits this pattern")
    if named:
        return found
    folder = address.rstrip("/")
    tables = [file for file in found if _is_visible_table(file.removeprefix(folder))]
    if not tables:
        raise ValueError(f"{address}: there is no table here; tables end in {', '.join(SUFFIXES)}")
    return tables


def _is_table(file: Path, folder: Path) -> bool:
    return _is_visible_table(str(file.relative_to(folder))) and file.is_file()


def _is_visible_table(name: str) -> bool:
    """Whether a name, as it stands below its folder, is that of a table and not hidden."""
    parts = Path(name.split("://")[-1]).parts
    hidden = any(part.startswith((".", "_")) for part in parts)
    stem = parts[-1] if parts else ""
    for suffix in COMPRESSIONS:
        stem = stem.removesuffix(suffix)
    return not hidden and Path(stem).suffix.lower() in SUFFIXES
