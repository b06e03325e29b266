"""The model file: named arrays and a JSON header in one safetensors file that can be trusted.

The file is an ordinary safetensors file, byte for byte the one the safetensors library would write:
eight bytes of length, a JSON table of the arrays, the arrays. Its only metadata key, ``logitext``,
holds the header as a JSON text with sorted keys and a SHA-256 of every array and of itself. What
the header and the arrays must say is in `logitext.modelschema`.

The one idea is that a file has exactly one spelling. Everything before the arrays is a function,
`_frame`, of the header text and the array shapes: `save` writes what it returns; `load` parses what
it finds, frames that again and wants the same bytes. So padding, duplicate keys, NaN, gaps between
arrays cannot pass. The arrays are then views of one read-only memory map: unless their contents are
verified too, loading takes the same time for any size.

We write the file ourselves: the library's writer does not fsync, makes the file private (0600) and
reports a full disk as a bare ``Exception``; older ones write over a file the arrays are mapped from.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import math
import mmap
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np

from logitext import fasttextschema, modelschema
from logitext.modelschema import (
    FEATURES_VERSION,
    FORMAT_VERSION,
    Arrays,
    ModelFileError,
    Shapes,
    bucket_bits,
    check_versions,
    format_version,
    is_count,
    require,
)

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = [
    "FEATURES_VERSION",
    "FORMAT_VERSION",
    "ModelFileError",
    "bucket_bits",
    "fingerprint",
    "load",
    "save",
    "size",
]

Path: TypeAlias = str | os.PathLike[str]
Known: TypeAlias = dict[str, tuple[str, "np.dtype[Any]"]]

_HEADER_LIMIT = 100_000_000  # the safetensors library's own
_AUTO_VERIFY = 16 << 20  # files up to here are verified whole by verify="auto"
_AUTO_CHECK = (
    2 << 20
)  # and up to here what they say is checked: damage is more likely than malice, and the core
# trusts nothing it reads
_SMALL_ARRAY = 128 << 10  # arrays up to here are verified always: 1 MB or little more, all together
_WRITE = 16 << 20  # bytes per write, so that Ctrl-C is heard

_KNOWN_STARTS = (
    (b"PK\x03\x04", "a zip archive (perhaps a PyTorch or NumPy file)"),
    (b"\xba\x16\x4f\x2f", "a fastText model"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
    (b"GGUF", "a GGUF model"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"version https://git-lfs", "a Git LFS pointer (get the file itself with git lfs pull)"),
)


def save(path: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    """Write a model file, all of it or nothing.

    The same arrays and header give the same bytes. The file is written beside its destination and
    renamed over it once it is on disk, so a failure at any point leaves the old file as it was, and
    arrays mapped from the old file may be saved over it.

    Parameters
    ----------
    path : str or os.PathLike
        The destination. A link stays: what it points to is replaced, and keeps its permissions.
    arrays : mapping of str to ndarray
        Exactly the arrays of the format: little-endian, C-contiguous.
    header : mapping of str to Any
        What JSON can hold. ``checksums`` and ``checksum`` are computed here, and ignored if given.

    Raises
    ------
    ModelFileError
        If an array or a header field is not as the format wants it; nothing is written.
    FileNotFoundError
        If the folder of `path` does not exist.
    OSError
        If the file cannot be written (a full disk, a folder without permission).

    Examples
    --------
    >>> arrays, header = load("model.safetensors")  # doctest: +SKIP
    >>> header["calibration"] = {"method": "temperature", "temperature": 1.5}  # doctest: +SKIP
    >>> save("model.safetensors", arrays, header)  # doctest: +SKIP
    """
    with _naming(path):
        wanted = _arrays(arrays, header)
        for name in wanted:
            require(name in arrays, f"array {name} is missing")
        for name, array in arrays.items():
            require(name in wanted, f"{name!r} is not an array of a logitext model")
            dtype = wanted[name][1]
            right = isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous
            require(right, f"array {name} is not a C-contiguous array of type {dtype.str}")
        # Through JSON and back, so that what is checked is what a reader will see.
        known = _from_json(_to_json({**header, "checksums": dict.fromkeys(wanted, "")}))
        check_versions(known)
        _schema(known).check_header(known)
        older = known["format_version"] < format_version(wanted)
        require(not older, "format_version in the header is that of an older format")
        shapes = {name: arrays[name].shape for name in wanted}
        _schema(known).check_shapes(shapes, known)
        _schema(known).check_values(arrays, known, wanted)
        known = _sealed(known, arrays)
        frame, _ = _frame(_to_json(known, sort_keys=True).decode(), shapes, wanted)
        _write(path, [memoryview(frame), *(_bytes_of(arrays[name]) for name in wanted)])


def load(
    path: Path, *, verify: bool | Literal["auto"] = "auto"
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Open a model file.

    The structure of the file, its header and its small arrays are checked always. `save` may replace
    the file while it is mapped; cutting it short in place would crash this process at its next read.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    verify : bool or "auto", default "auto"
        Whether to read all the arrays, and check their contents and checksums. "auto" does so for
        the checksums of files of up to 16 MB, which takes milliseconds; what arrays hold up to 2 MB.

    Returns
    -------
    arrays : dict of str to ndarray
        Read-only views of one memory map.
    header : dict of str to Any
        The header, with the ``checksums`` and ``checksum`` that `save` added.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file cannot be read, is something else, was damaged, or is of a newer format.

    Examples
    --------
    >>> arrays, header = load("model.safetensors")  # doctest: +SKIP
    >>> arrays["weights"].shape[1] == len(header["classes"])  # doctest: +SKIP
    True
    """
    if verify not in (True, False, "auto"):
        raise ValueError(f'verify must be True, False or "auto", not {verify!r}')
    with _naming(path):
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            frame, table = _read_frame(file, size)
            header, text = _take_header(table)
            known = _arrays(table, header)
            shapes = _take_shapes(table, header, known)
            _schema(header).check_shapes(shapes, header)
            same, starts = _frame(text, shapes, known)
            require(frame == same, "its array table was changed, or was not written by logitext")
            wanted = len(frame) + starts.pop("")
            require(
                size == wanted, f"it has {size} bytes where {wanted} are called for: cut short or changed"
            )
            buffer = _map(file, size)
        arrays: dict[str, NDArray[Any]] = {
            name: np.ndarray(shapes[name], dtype, buffer, offset=len(frame) + starts[name])
            for name, (_, dtype) in known.items()
        }

        def chosen(up_to: int) -> list[str]:
            everything = size <= up_to if verify == "auto" else verify
            return [n for n, a in arrays.items() if everything or n == "bias" or a.nbytes <= _SMALL_ARRAY]

        for name in chosen(_AUTO_VERIFY):
            intact = _sha256(arrays[name]) == header["checksums"][name]
            require(intact, f"the checksum of array {name} does not match: the file is damaged")
        _schema(header).check_values(arrays, header, chosen(_AUTO_CHECK))
    return arrays, header


def fingerprint(arrays: Arrays, header: Mapping[str, Any]) -> str:
    """Return what tells a model from any other: the checksum its file has, or would have.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    header : mapping of str to Any

    Returns
    -------
    str
        A SHA-256 in hexadecimal.
    """
    if "checksum" in header:
        return str(header["checksum"])
    names = _arrays(arrays, header)
    return str(
        _sealed(_from_json(_to_json(dict(header))), {name: arrays[name] for name in names})["checksum"]
    )


def _sealed(header: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """The header with the checksums of the arrays and of itself."""
    known = {**header, "checksums": {name: _sha256(array) for name, array in arrays.items()}}
    return {**known, "checksum": _header_checksum(known)}


def size(header: Mapping[str, Any], shapes: Shapes) -> int:
    """Return how many bytes a file of arrays of these shapes has.

    Parameters
    ----------
    header : mapping of str to Any
        As for `save`.
    shapes : mapping of str to sequence of int
        Of each array of the format.

    Returns
    -------
    int

    Raises
    ------
    ModelFileError
        If the header holds what JSON cannot, or is too large.
    """
    known = _arrays(shapes, header)
    digest = "0" * 64
    said = {**header, "checksums": dict.fromkeys(known, digest), "checksum": digest}
    frame, starts = _frame(_to_json(said, sort_keys=True).decode(), shapes, known)
    return len(frame) + starts[""]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file before every complaint about it."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{os.fsdecode(path)}: {error}") from error.__cause__


def _frame(text: str, shapes: Shapes, known: Known) -> tuple[bytes, dict[str, int]]:
    """Give all that stands before the arrays, and where each array starts after it ("" is the end)."""
    table: dict[str, Any] = {"__metadata__": {"logitext": text}}
    starts, end = {}, 0
    for name, (code, dtype) in known.items():
        starts[name] = end
        end += math.prod(shapes[name]) * dtype.itemsize
        table[name] = {"dtype": code, "shape": list(shapes[name]), "data_offsets": [starts[name], end]}
    encoded = _to_json(table)
    encoded += b" " * (-len(encoded) % 8)
    require(len(encoded) <= _HEADER_LIMIT, "the header is larger than safetensors allows (100 MB)")
    return len(encoded).to_bytes(8, "little") + encoded, {**starts, "": end}


def _to_json(value: Any, *, sort_keys: bool = False) -> bytes:
    try:
        style: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
        return json.dumps(value, sort_keys=sort_keys, **style).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"the header holds what JSON cannot ({error})") from error


def _from_json(encoded: bytes) -> dict[str, Any]:
    try:
        value = json.loads(encoded.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the header is not JSON ({error})") from error
    require(isinstance(value, dict), "the header is not a JSON object")
    return cast(dict[str, Any], value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(_bytes_of(array)).hexdigest()


def _header_checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(_to_json({**header, "checksum": ""}, sort_keys=True)).hexdigest()


def _open(path: Path) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode  # before opening: opening a pipe would wait for its writer
        if stat.S_ISREG(mode):
            return open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "There is no such model file", os.fspath(path)) from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"it cannot be read ({error})") from error
    raise ModelFileError(
        f"it is {'a folder' if stat.S_ISDIR(mode) else 'a device or pipe'}, not a model file"
    )


def _read_frame(file: BinaryIO, size: int) -> tuple[bytes, dict[str, Any]]:
    """Read all that stands before the arrays, as bytes and as the table they spell."""
    try:
        start = file.read(512)
        length = int.from_bytes(start[:8], "little")
        if length > _HEADER_LIMIT or start[8:9] != b"{":
            raise ModelFileError(f"not a logitext model: it {_appearance(start)}")
        require(8 + length <= size, "it is cut short: its header does not end")
        frame = start[: 8 + length] + file.read(max(8 + length - len(start), 0))
    except OSError as error:
        raise ModelFileError(f"it cannot be read ({error})") from error
    return frame, _from_json(frame[8:])


def _appearance(start: bytes) -> str:
    if not start:
        return "is empty"
    for magic, kind in _KNOWN_STARTS:
        if start.startswith(magic):
            return f"seems to be {kind}"
    if re.match(rb"\d+ \d+\n", start):
        return "seems to be a .vec file: word vectors, without a classifier"
    with suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
        if all(c.isprintable() or c.isspace() for c in text):
            return "seems to be a text"
    return "does not begin as a safetensors file"


def _take_header(table: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Take the header, and the text it is spelled as, out of the array table."""
    metadata = table.pop("__metadata__", None)
    text = metadata.get("logitext") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ModelFileError("it is a safetensors file, but another program's: it has no logitext header")
    header = _from_json(text.encode(errors="replace"))  # a lone surrogate fails the comparison below
    check_versions(header)  # first: a newer format may differ in all that follows
    intact = _to_json(header, sort_keys=True).decode() == text
    intact = intact and header.get("checksum") == _header_checksum(header)
    require(intact, "the checksum of its header does not match: the file is damaged")
    _schema(header).check_header(header)
    return header, text


def _schema(header: Mapping[str, Any]) -> Any:
    """What a file must say: of our own kind of model, or of fastText's."""
    return fasttextschema if "fasttext" in header else modelschema


def _arrays(names: Mapping[str, Any], header: Mapping[str, Any]) -> Known:
    classes = header.get("classes")
    known: Known = _schema(header).arrays_of(names, len(classes) if isinstance(classes, list) else 0)
    return known


def _take_shapes(table: dict[str, Any], header: dict[str, Any], known: Known) -> dict[str, list[int]]:
    same = table.keys() == known.keys() == header["checksums"].keys()
    require(same, "its arrays are not those of a logitext model")
    older = header["format_version"] < format_version(known)
    require(not older, "its arrays are those of a newer format than it says")
    shapes = {}
    for name, entry in table.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not (isinstance(shape, list) and len(shape) <= 2 and all(map(is_count, shape))):
            raise ModelFileError(f"the shape of array {name} is not one or two sizes")
        shapes[name] = shape
    return shapes


def _map(file: BinaryIO, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"it cannot be mapped into memory ({error})") from error


def _write(path: Path, parts: list[memoryview]) -> None:
    target = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"The folder to save {name} in does not exist", folder)
    old = os.stat(target).st_mode if os.path.exists(target) else None
    require(old is None or stat.S_ISREG(old), "a model file can only replace a regular file")
    temporary = os.path.join(folder, f".logitext-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb", buffering=0) as file:
            if old is not None:
                os.chmod(temporary, stat.S_IMODE(old))
            for part in parts:
                while part:
                    part = part[file.write(part[:_WRITE]) :]
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = os.fsdecode(path)
        raise
    with suppress(OSError):  # not every system can sync a folder, and the file is there by now
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
