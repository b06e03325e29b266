"""Files at addresses (``s3://``, ``gs://``, ``hf://``, ``https://``, …), by way of fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["files_at", "is_address", "open_address", "state_of"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")
_MAGIC = re.compile(r"[*?[]")
READ_AHEAD = 4 << 20
"""Bytes asked for at once: what is read is read from one end to the other."""


def is_address(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is an address that fsspec knows, not a file of this machine.

    Examples
    --------
    >>> is_address("s3://corpus/part.parquet"), is_address("corpus/part.parquet")
    (True, False)
    """
    return _ADDRESS.match(os.fspath(path)) is not None


def open_address(address: str) -> Any:
    """Open what stands at an address for reading.

    Parameters
    ----------
    address : str

    Returns
    -------
    file object
        Binary; it can seek where the server can.

    Raises
    ------
    OSError
        If there is no such file, it may not be read, or its server does not answer.
    ValueError
        If fsspec, or what it needs for this kind of address, is not installed.
    """
    with _worded(address):
        system, path = _system(address)
        return system.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead")


def files_at(address: str) -> tuple[list[str], bool]:
    """Return the files at an address, a pattern, or in and below a folder, by name.

    Parameters
    ----------
    address : str

    Returns
    -------
    files : list of str
        Addresses.
    named : bool
        Whether the address names them, by itself or as a pattern: then their kind is the caller's business.

    Raises
    ------
    OSError, ValueError
        As `open_address`.
    """
    with _worded(address):
        system, path = _system(address)
        if _MAGIC.search(path):
            found, named = sorted(system.glob(path)), True
        elif system.isdir(path) and not system.isfile(path):
            found, named = sorted(system.find(path)), False
        else:
            found, named = [path], True
            system.info(path)  # says what is wrong while nothing is lost
    return [system.unstrip_protocol(file) for file in found], named


def state_of(address: str) -> dict[str, Any]:
    """Return what tells one state of a file from another: its size, and what its server says of its version.

    Parameters
    ----------
    address : str

    Returns
    -------
    dict
        ``bytes`` (None where it is not known) and, where there is one, ``version``.

    Raises
    ------
    OSError, ValueError
        As `open_address`.
    """
    with _worded(address):
        system, path = _system(address)
        info = system.info(path)
    names = ("ETag", "etag", "md5Hash", "generation", "last_commit", "LastModified", "mtime", "created")
    version = next((str(info[name]) for name in names if info.get(name)), None)
    return {"bytes": info.get("size")} | ({} if version is None else {"version": version})


def _system(address: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ValueError(
            f"{address}: reading addresses takes fsspec: pip install 'logitext[corpora]'"
        ) from None
    system, path = url_to_fs(address)
    return system, path


@contextmanager
def _worded(address: str) -> Iterator[None]:
    """Whatever a file system's package raises, as one sentence that names the address."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        said = "No such file" if isinstance(error, FileNotFoundError) else "Permission denied"
        raise type(error)(error.errno or (2 if said.startswith("No") else 13), said, address) from error
    except ImportError as error:
        raise ValueError(f"{address}: {_plain(error)}") from error
    except TimeoutError as error:
        raise TimeoutError(f"{address}: no answer in time") from error
    except ValueError as error:
        raise (
            error if str(error).startswith(address) else ValueError(f"{address}: {_plain(error)}")
        ) from error
    except Exception as error:  # each package has its own
        status = getattr(error, "status", None)
        if status in (401, 403):
            raise PermissionError(13, "Permission denied", address) from error
        raise OSError(f"{address}: cannot be read ({_plain(error)})") from error


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
