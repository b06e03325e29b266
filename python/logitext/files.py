"""Files written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends well.

    Until then it has a hidden name beside it; when the block raises, nothing is left and an
    existing file stays.

    Parameters
    ----------
    path : Path
        The file. What a link points to is replaced; a device or named pipe is written to.

    Yields
    ------
    BinaryIO
        Where to write.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> with replacing(Path("answers.txt")) as file:
    ...     _ = file.write(b"all of them")
    >>> Path("answers.txt").read_bytes()
    b'all of them'
    """
    # The file behind a link is replaced, not the link.
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
        if not target.parent.is_dir():
            raise FileNotFoundError(
                f"{path}: cannot be written, because the folder {str(path.parent)!r} does not exist."
            ) from None
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path}: cannot be written, because it is a folder.")
    if mode is not None and not stat.S_ISREG(mode):
        # A device or a named pipe is written to; renaming would replace it.
        with open(target, "wb") as device:
            yield device
        return
    hidden = target.with_name(f".{target.name[:100]}.{os.urandom(6).hex()}.part")
    try:
        with open(hidden, "xb") as file:
            yield file
        if mode is not None:
            hidden.chmod(stat.S_IMODE(mode))
        _synchronize(hidden, os.O_RDWR)
        hidden.replace(target)
    except BaseException as error:
        hidden.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(hidden)):
            error.filename = str(path)
        raise
    # The rename itself; some file systems and Windows refuse to sync a folder.
    with suppress(OSError):
        _synchronize(target.parent, os.O_RDONLY)


def _synchronize(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
