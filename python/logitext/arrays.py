"""Arrays in and arrays out: anyone's, without a copy.

NumPy arrays are read where they stand, whatever their strides; those of other
libraries on the CPU come and go through DLPack. What the kernels see is rows by
classes; leading axes that memory does not let pass for one are walked part by part.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

FORMATS = {np.dtype(np.float16): "float16", np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}
SMALL = 1 << 17
"""Below so many logits a second thread costs more than it saves."""
ALIGNED = 64
"""Bytes: JAX copies what does not begin at a multiple of them."""
CPU, CUDA_HOST = 1, 3
"""DLPack's devices whose memory the CPU reads."""


def threads(size: int) -> int:
    """Return how many threads work on so many logits."""
    return 1 if size < SMALL else _core.available_threads()


@dataclass(frozen=True, slots=True)
class Rows:
    """Logits as the kernels read them."""

    array: NDArray[Any]
    """Class axis last; half precision as its bits. An axis may have been moved before it: see `moved`."""
    format: str
    """float16, bfloat16, float32 or float64: what the elements are."""
    dtype: np.dtype[Any]
    """What answers are given in."""
    moved: int | None
    """The leading axis that was moved next to the classes, because it is the longest."""
    home: Any
    """Where `from_dlpack` of the library is that the logits came from; None for NumPy."""
    given: NDArray[Any]
    """The logits as an array of NumPy, before all that."""

    @property
    def classes(self) -> int:
        """Return how many there are."""
        return int(self.array.shape[-1])

    @property
    def leading(self) -> tuple[int, ...]:
        """Return the shape without the class axis, as the caller sees it."""
        return self.given.shape[:-1]

    @property
    def threads(self) -> int:
        """Return how many threads to use."""
        return threads(self.array.size)

    def numbers(self, dtype: Any = None) -> NDArray[Any]:
        """Return room for one number per row, in the order of `array`."""
        return _empty(self.array.shape[:-1], np.dtype(self.dtype if dtype is None else dtype), self.home)

    def room(self) -> NDArray[Any]:
        """Return room for one number per row as the kernels write it: see `typed`."""
        return self.numbers(np.uint16 if self.format.endswith("16") else self.format)

    def typed(self, answer: NDArray[Any]) -> NDArray[Any]:
        """Return what the kernels wrote in the dtype of answers."""
        if answer.dtype == np.uint16:
            answer = answer.view(self.dtype if self.format == "bfloat16" else np.float16)
        return cast(answer, self.dtype)

    def beside(self, values: NDArray[Any], dtype: Any) -> NDArray[Any]:
        """Return what stands beside the rows, one value each, in the order of `array`."""
        moved = values if self.moved is None else np.moveaxis(values, self.moved, -1)
        return np.require(moved, dtype, ["C", "A"])

    def like(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the logits' shape and dtype in the order and format of `array`."""
        bits = array.view(np.uint16) if self.format == "bfloat16" or self.format == "float16" else array
        return bits if self.moved is None else np.moveaxis(bits, self.moved, -2)

    def walked(self, *beside: NDArray[Any] | None) -> bool:
        """Say whether `parts` gives more than one: leading axes that cannot pass for one."""
        large = [a for a in (self.array, *beside) if a is not None and a.ndim == self.array.ndim]
        return self.array.ndim > 2 and not all(_evenly_apart(a) for a in large)

    def parts(self, *beside: NDArray[Any] | None) -> Iterator[tuple[Any, ...]]:
        """Give the logits and what stands beside them in parts whose rows are evenly apart.

        Arrays of the logits' shape stay rows by classes, those of one value per row become flat.
        """
        everything = (self.array, *beside)
        if not self.walked(*beside):
            yield tuple(None if a is None else _flat(a, self.array.ndim) for a in everything)
            return
        for index in np.ndindex(self.array.shape[:-2]):
            yield tuple(None if a is None else a[index] for a in everything)

    def row(self, at: int) -> int:
        """Return the number that the caller gives to a row, from its number in the order of `array`."""
        if self.moved is None:
            return at
        index = list(np.unravel_index(at, self.array.shape[:-1]))
        index.insert(self.moved, index.pop())
        return int(np.ravel_multi_index(tuple(index), self.leading))

    def give(self, answer: NDArray[Any]) -> Any:
        """Return an answer, one number per row, in the caller's order and library."""
        if self.moved is not None:
            answer = np.moveaxis(answer, -1, self.moved)
        return answer[()] if self.home is None else send(self.home, answer)


def rows(z: Any) -> Rows:
    """Take logits of any library.

    Raises
    ------
    ValueError
        If there is no class axis, the logits are not real numbers, or they are not in
        memory that the CPU reads.
    """
    array, home = receive(z)
    if array.ndim == 0:
        raise ValueError("logits must have a class axis, got a single number")
    dtype = array.dtype
    name = FORMATS.get(dtype)
    if name is None and dtype.name == "bfloat16":
        name = "bfloat16"
    if name is None:
        if dtype.kind in "iub":
            dtype = np.dtype(np.float64)
        if dtype.kind != "f":
            raise ValueError(f"logits must be real numbers, got dtype {array.dtype}")
        # Other bytes first, or more of them: computed in the nearest type there is.
        name = {2: "float16", 4: "float32"}.get(dtype.itemsize, "float64")
        kept = array.astype(name)
    else:
        kept = array if array.flags.aligned else array.copy()
    if name in ("float16", "bfloat16"):
        kept = kept.view(np.uint16)
    moved = None
    if kept.ndim > 2 and not _evenly_apart(kept):
        moved = int(np.argmax(kept.shape[:-1]))
        kept = np.moveaxis(kept, moved, -2)
    return Rows(kept, name, dtype, moved, home, array)


def receive(z: Any) -> tuple[NDArray[Any], Any]:
    """Return an array as NumPy's, without a copy if possible, and its library if it is another."""
    if isinstance(z, np.ndarray):
        # A plain array is none, and naming the class imports it: 10 ms.
        if type(z) is not np.ndarray and isinstance(z, np.ma.MaskedArray):
            raise ValueError("logits must not be a masked array: fill it, for example with z.filled(-np.inf)")
        return np.asarray(z), None
    if not hasattr(z, "__dlpack_device__") or isinstance(z, np.generic):
        return np.asarray(z), None
    device = z.__dlpack_device__()
    if int(device[0]) not in (CPU, CUDA_HOST):
        raise ValueError(
            f"logits must be in the CPU's memory, got an array on device {getattr(z, 'device', device)}: "
            "copy it first, for example with x.cpu() (PyTorch) or jax.device_get(x) (JAX)"
        )
    try:
        array = np.from_dlpack(z)
    except (BufferError, RuntimeError, TypeError):
        # A type that NumPy's DLPack lacks, such as bfloat16.
        array = np.asarray(z)
    return array, _home(z)


def _home(z: Any) -> Any:
    """Return what has the `from_dlpack` of an array's library; None if it has none."""
    if hasattr(z, "__array_namespace__"):
        return z.__array_namespace__()
    home = sys.modules.get(type(z).__module__.partition(".")[0])
    return home if hasattr(home, "from_dlpack") else None


def send(home: Any, answer: NDArray[Any]) -> Any:
    """Return an answer as an array of the library that `home` belongs to; None is NumPy."""
    if home is None:
        return answer
    if answer.dtype.name == "bfloat16":
        # NumPy's DLPack lacks it: the bits go, and are then seen as what they are.
        return home.from_dlpack(answer.view(np.uint16)).view(home.bfloat16)
    return home.from_dlpack(answer)


def cast(answer: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an answer in its dtype; what a narrow one cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return answer.astype(dtype, copy=False)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], home: Any) -> NDArray[Any]:
    """Return room for an answer, aligned so that other libraries take it without a copy."""
    if home is None:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNED, np.uint8)
    begin = -room.__array_interface__["data"][0] % ALIGNED
    return room[begin : begin + size].view(dtype).reshape(shape)


def _evenly_apart(array: NDArray[Any]) -> bool:
    """Say whether the leading axes can pass for one."""
    if array.flags.c_contiguous:
        return True
    axes = [pair for pair in zip(array.shape[:-1], array.strides[:-1], strict=True) if pair[0] != 1]
    return all(a[1] == b[0] * b[1] for a, b in pairwise(axes))


def _flat(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Make one of the leading axes: a view, because they are evenly apart."""
    if array.ndim < ndim:
        return array.reshape(-1)
    if ndim <= 2:
        return array
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


@dataclass(frozen=True, slots=True)
class Place:
    """Where answers of the logits' shape are written."""

    work: NDArray[Any]
    """What the kernels write, in their order and format."""
    source: NDArray[Any] | None
    """The logits to read; None where they stand in `work` itself."""
    z: Rows
    array: NDArray[Any]
    """The same memory as `work`, as the caller sees it."""
    out: Any
    """What the caller gave."""

    def give(self) -> Any:
        """Return what was written: `out` if it was given."""
        if self.out is None:
            return send(self.z.home, cast(self.array, self.z.dtype))
        to, _ = receive(self.out)
        if not _same(to, self.array):
            to[...] = self.array
        return self.out


def place(z: Rows, out: Any) -> Place:
    """Find room for answers of the logits' shape.

    Raises
    ------
    ValueError
        If `out` has another shape or dtype, is read-only, or overlaps the logits without
        being the same array.
    """
    native = z.dtype if z.format == "bfloat16" else np.dtype(z.format)
    if out is None:
        array = _empty(z.given.shape, native, z.home)
        return Place(z.like(array), z.array, z, array, None)
    if not isinstance(out, np.ndarray) and not hasattr(out, "__dlpack__"):
        raise ValueError(
            f"out must be an array, got {type(out).__name__}: what is written to it would be lost"
        )
    array, _ = receive(out)
    if array.shape != z.given.shape:
        raise ValueError(f"out must have the shape of the logits, {z.given.shape}, got {array.shape}")
    if array.dtype != z.dtype:
        raise ValueError(f"out must have the dtype of the answer, {z.dtype}, got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    if _same(array, z.given):
        if array.dtype == native and array.flags.aligned:
            return Place(z.like(array), None, z, array, out)
    elif _overlap(array, z.given):
        raise ValueError("out must be the logits themselves or not overlap them")
    elif array.dtype == native and array.flags.aligned and not np.may_share_memory(array, z.given):
        return Place(z.like(array), z.array, z, array, out)
    # Of a type, or in a place between the logits, that the kernels do not write.
    apart = np.empty(array.shape, native)
    return Place(z.like(apart), z.array, z, apart, out)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    strides = zip(a.shape, a.strides, b.strides, strict=True)
    begin = a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    return begin and a.dtype == b.dtype and all(x == y for n, x, y in strides if n > 1)


def _overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        exactly: Any = np.shares_memory
        return bool(exactly(a, b, max_work=10_000))
    except Exception as error:  # NumPy 1 and 2 have TooHardError in different places.
        if type(error).__name__ != "TooHardError":
            raise
        return True
