"""Logits in and probabilities out: NumPy's .npy files, mapped and written block by block."""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.description import blocks
from logitext.files import replacing
from logitext.logits import log_softmax, softmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = ["open_npy", "write_probabilities"]

_KINDS = {"c": "complex numbers", "O": "Python objects, which may run code when they are read"}
_KINDS |= {"S": "text", "U": "text", "M": "dates", "m": "durations", "V": "records or raw bytes"}
_ARCHIVE = "a .npz or another zip archive: save one of its arrays by itself, with np.save"


def open_npy(path: str | Path) -> NDArray[Any]:
    """Map an array of numbers from a .npy file; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        The file. Raw values of two bytes are read as ``bfloat16``: that is how NumPy saves them.

    Returns
    -------
    ndarray
        Read-only, in the shape, order and dtype that the file says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file cannot be read.
    ValueError
        If it is not a whole .npy file of numbers, or ``bfloat16`` and ml_dtypes is not installed.

    Examples
    --------
    >>> np.save("z.npy", np.array([[2.0, 1.0, 0.1]]))
    >>> open_npy("z.npy").shape
    (1, 3)
    """
    if os.fspath(path) == "-":
        raise ValueError("standard input cannot be mapped into memory: name a .npy file")
    mode = os.stat(path).st_mode  # before opening: opening a pipe would wait for its writer
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: is a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}, not a file")
    with open(path, "rb") as file:
        start = file.read(6)
        if start != b"\x93NUMPY":
            what = _ARCHIVE if start.startswith(b"PK") else "it does not begin as one" if start else "empty"
            raise ValueError(f"{path}: not a .npy file: {what}")
        file.seek(0)
        shape, transposed, dtype = _header(path, file)
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
    if dtype.kind not in "iubf" and (dtype.kind != "V" or dtype.itemsize != 2 or dtype.names is not None):
        raise ValueError(f"{path}: holds {_KINDS.get(dtype.kind, 'something else')}, not numbers")
    wanted = math.prod(shape) * dtype.itemsize
    if size - offset < wanted:
        raise ValueError(
            f"{path}: is cut short: {wanted:,} bytes are called for, {max(size - offset, 0):,} there"
        )
    order: Any = "F" if transposed else "C"
    try:
        # A map of no bytes is not allowed everywhere.
        how = {"dtype": dtype, "shape": shape, "order": order}
        array: NDArray[Any] = np.memmap(path, mode="r", offset=offset, **how) if wanted else np.empty(**how)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: its header is damaged: {error}") from None
    return array.view(_bfloat16(path)) if dtype.kind == "V" else array


def _header(path: str | Path, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        if version == (3, 0):
            raise ValueError("it is of a version for records whose names are not ASCII")
        read = np.lib.format.read_array_header_1_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on headers that Python 2 wrote: they are read all the same
            shape, transposed, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(
                file
            )
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize >= 1 << 63:
            raise ValueError("there is no such shape")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # A hostile header makes the parser raise what it likes.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its header is damaged or cut short: {reason}") from None
    return shape, transposed, dtype


def _bfloat16(path: str | Path) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError(
            f"{path}: holds raw values of 2 bytes, as NumPy saves bfloat16: install ml_dtypes to read "
            "them, or save the logits as float32"
        ) from None
    kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return kind


def write_probabilities(
    path: str | Path,
    z: NDArray[Any],
    *,
    log: bool = False,
    temperature: float = 1.0,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Write the softmax of logits to a .npy file, block by block, all of it or nothing.

    Parameters
    ----------
    path : str or Path
        The file to write; an existing one is replaced only when the new one is complete.
    z : ndarray, shape (..., n_classes)
        Logits, at least one row of one class; may be mapped from a file larger than memory.
    log : bool, default False
        Write log-probabilities, in nats.
    temperature : float, default 1
        The logits are divided by it.
    progress : callable, optional
        Called with what is being done and the share of it that is done, in [0, 1].

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written: a full disk, no permission.
    ValueError
        As `logitext.softmax`.

    Notes
    -----
    The file has the shape and dtype of the logits (``float64`` for integers). It is written, not
    mapped: a full disk is then an error, where a mapped file would end the process.

    Examples
    --------
    >>> write_probabilities("p.npy", np.array([[2.0, 1.0, 0.1]]))
    >>> np.load("p.npy").round(2).tolist()
    [[0.66, 0.24, 0.1]]
    """
    dtype = np.dtype(np.float64) if z.dtype.kind in "iub" else z.dtype
    header = {"descr": dtype.str, "fortran_order": False, "shape": z.shape}
    answer: Callable[..., NDArray[Any]] = log_softmax if log else softmax
    with replacing(Path(path)) as file:
        np.lib.format.write_array_header_1_0(file, header)
        done = 0
        for block in blocks(z):
            if progress is not None:
                progress("writing", done / z.size)
            written = answer(block, temperature=temperature)
            file.write(written.reshape(-1).view(np.uint8).data)
            done += block.size


def write_npy(path: str | Path, array: NDArray[Any]) -> None:
    """Write an array to a .npy file, all of it or nothing.

    Parameters
    ----------
    path : str or Path
    array : ndarray

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> write_npy("z.npy", np.array([[2.0, 1.0, 0.1]]))
    >>> np.load("z.npy").tolist()
    [[2.0, 1.0, 0.1]]
    """
    with replacing(Path(path)) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
