"""What arrays the operations take, where they write, and that the bits depend on nothing else."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import logitext as lt
from logitext import arrays

INF, NAN = math.inf, math.nan
BFLOAT16 = ml_dtypes.bfloat16
DTYPES = [np.float16, BFLOAT16, np.float32, np.float64]
LINUX = Path("/proc/self/status").exists()


def truth(shape: tuple[int, ...]) -> np.ndarray:
    """Give some class for each row."""
    return np.arange(math.prod(shape[:-1])).reshape(shape[:-1]) * 7 % shape[-1]


def answers(z: Any, y: Any = None) -> dict[str, Any]:
    """Give all that can be asked of logits, by name."""
    shape = np.shape(z)
    y = truth(shape) if y is None else y
    weights = 0.5 + truth(shape) / shape[-1]
    found = {
        "softmax": lt.softmax(z), "warm softmax": lt.softmax(z, temperature=1.7),
        "log_softmax": lt.log_softmax(z), "sigmoid": lt.sigmoid(z),
        "logsumexp": lt.logsumexp(z), "cold logsumexp": lt.logsumexp(z, temperature=0.3),
        "entropy": lt.entropy(z), "energy": lt.energy(z), "margin": lt.margin(z), "argmax": lt.argmax(z),
    }  # fmt: skip
    found |= dict(zip(("top values", "top classes"), lt.top_k(z, min(3, shape[-1])), strict=True))
    found |= {f"summary {k}": v for k, v in lt.summarize(z, y)._asdict().items()}
    options: dict[str, Any] = {"sample_weight": weights, "label_smoothing": 0.1, "z_loss": 0.01}
    found["mean loss"], found["slope"] = lt.cross_entropy(z, y, return_grad=True, **options)
    found["losses"], found["slopes"] = lt.cross_entropy(z, y, reduction="none", return_grad=True)
    shares = np.zeros(shape, np.float32)
    np.put_along_axis(shares, y[..., None], 1, axis=-1)
    found["soft losses"], found["soft slopes"] = lt.cross_entropy(
        z, shares, reduction="none", return_grad=True
    )
    found["binary losses"], found["binary slopes"] = lt.binary_cross_entropy(
        z, shares, reduction="none", return_grad=True
    )
    found["binary mean"] = lt.binary_cross_entropy(z, shares)
    return found


OF_ALL_ROWS = ("mean loss", "slope", "binary mean")
"""Answers with a sum over the rows in them: its order, and last bit, may follow where they stand."""


def bits(array: Any) -> bytes:
    """Give what stands in an array, every NaN as one."""
    own = np.array(array)
    if own.dtype.kind in "fV":
        own[own != own] = NAN
    return own.tobytes()


def differing(got: dict[str, Any], want: dict[str, Any], order: bool = True) -> list[str]:
    """Say which answers differ in a bit; without `order` sums over the rows may be rounded differently."""
    assert got.keys() == want.keys()
    found = []
    for name, value in want.items():
        a, b = np.asarray(got[name]), np.asarray(value)
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            found.append(f"{name} ({a.dtype} {a.shape}, not {b.dtype} {b.shape})")
        elif order or name not in OF_ALL_ROWS:
            found += [name] * (bits(a) != bits(b))
        else:
            eps = float(ml_dtypes.finfo(a.dtype).eps)
            a, b = a.astype(np.float64), b.astype(np.float64)
            found += [name] * (
                not np.allclose(a, b, rtol=4 * eps, atol=4 * eps * np.abs(b).max(), equal_nan=True)
            )
    return found


def same_bits(got: dict[str, Any], want: dict[str, Any], order: bool = True) -> None:
    assert differing(got, want, order) == []


def logits(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 4).astype(dtype)


# -- views ----------------------------------------------------------------------


def views(dtype: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Give names, arrays, and views of them that are not contiguous."""
    z = logits((36, 40), dtype)
    yield "every second row", z, z[::2]
    yield "every third class", z, z[:, ::3]
    yield "reversed rows", z, z[::-1]
    yield "reversed classes", z, z[:, ::-1]
    yield "both, and steps", z, z[::-2, ::-3]
    yield "transposed", z, z.T
    yield "transposed, with steps", z, z[::2, ::3].T
    yield "a window", z, z[1:5, 2:7]
    yield "a window of a transposed one", z, z.T[3:38, 1:9]
    yield "a column", z, z[:, 3:4]
    yield "one row of columns", z, z[:, 5]
    yield "a diagonal", z, np.diagonal(z)
    z = logits((40, 36), dtype)
    yield "Fortran order", z, np.asfortranarray(z)
    wide = logits((5, 2600), dtype)
    yield "long and transposed", wide, np.asfortranarray(wide)
    yield "long and reversed", wide, wide[:, ::-1]
    yield "long with steps", wide, wide[:, ::2]
    few = logits((4, 700), dtype)
    yield "many rows of few classes, transposed", few, few.T
    z = logits((3, 4, 5), dtype)
    for axes in ((1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0)):
        yield f"three axes as {axes}", z, z.transpose(axes)
    yield "three axes with steps", z, z[::2, ::-1, ::2]
    yield "three axes, the middle one cut", z, z[:, 1:3]
    z = logits((6, 2, 40), dtype)
    for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        yield f"three long axes as {axes}", z, z.transpose(axes)
    z = logits((2, 3, 4, 5), dtype)
    for axes in ((1, 0, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        yield f"four axes as {axes}", z, z.transpose(axes)
    yield "axes of one", z, z[:1, :, 1:2, ::2]
    yield "an axis of one in front", z, z[:, ::2][:1].transpose(2, 0, 1, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_are_read_where_they_stand(dtype: Any) -> None:
    faults = {}
    for name, whole, view in views(dtype):
        before = whole.copy()
        wrong = differing(answers(view), answers(np.ascontiguousarray(view)), order=False)
        faults |= {name: wrong} if wrong else {}
        assert whole.tobytes() == before.tobytes(), f"{name} was written to"
    assert not faults


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_place_in_memory_may_be_many_logits(dtype: Any) -> None:
    z = logits((6, 8), dtype)
    for view in (
        np.broadcast_to(z[0], (70, 8)),
        np.broadcast_to(z[:, :1], (6, 40)),
        np.broadcast_to(z[0, 0], (3, 4)),
        np.broadcast_to(z[:, None], (6, 3, 8)),
        np.broadcast_to(z, (3, 6, 8)),
        np.lib.stride_tricks.sliding_window_view(z.reshape(-1), 5),
    ):
        same_bits(answers(view), answers(view.copy()), order=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_answers_are_written_where_they_are_asked_to(dtype: Any) -> None:
    """Into views of every kind, and nowhere else."""
    faults: list[str] = []
    for name, _, place in views(dtype):
        if not place.flags.writeable:
            continue
        z = logits(place.shape, dtype, seed=1)
        y = truth(z.shape)
        calls: dict[str, Callable[[Any, Any], Any]] = {
            "softmax": lambda z, out: lt.softmax(z, out=out),
            "softmax at 1.7": lambda z, out: lt.softmax(z, temperature=1.7, out=out),
            "log_softmax": lambda z, out: lt.log_softmax(z, out=out),
            "sigmoid": lambda z, out: lt.sigmoid(z, out=out),
            "cross_entropy": lambda z, out, y=y: lt.cross_entropy(z, y, return_grad=True, out=out)[1],
            "binary": lambda z, out: lt.binary_cross_entropy(z, 0 * z, return_grad=True, out=out)[1],
        }
        for what, call in calls.items():
            about = f"{what}, {name}"
            base = place.base if place.base is not None else place
            want = call(z, None)
            base[...] = 7
            assert call(z, place) is place, about
            wrong = place.tobytes() != want.tobytes()
            faults += [about] * wrong
            place[...] = 7
            faults += [f"{about}: beside what was asked for"] * bool((base.astype(np.float32) != 7).any())
            # In place, whatever the logits' place looks like.
            place[...] = z
            assert call(place, place) is place, about
            faults += [f"{about}, in place"] * (place.tobytes() != want.tobytes())
            # From a view into another one, transposed alike.
            place[...] = z
            out = np.empty_like(place)
            assert call(place, out) is out, about
            faults += [f"{about}, from a view"] * (out.tobytes() != want.tobytes())
    assert not faults


# -- dtypes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "gives"),
    [(np.float16, np.float16), (np.float32, np.float32), (np.float64, np.float64), (BFLOAT16, BFLOAT16),
     (">f2", ">f2"), (">f4", ">f4"), (">f8", ">f8"), (np.longdouble, np.longdouble),
     (np.int8, np.float64), (np.uint64, np.float64), (">i4", np.float64), (bool, np.float64)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 40), (2, 3, 4)])
def test_dtypes(dtype: Any, gives: Any, shape: tuple[int, ...]) -> None:
    z = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    eps = 0.01 if np.dtype(gives).itemsize == 2 else 1e-6
    want = answers(z.astype(np.float64))
    for part in (z, np.asfortranarray(z)):
        got = answers(part)
        for name, value in want.items():
            if "class" in name or "argmax" in name:
                assert np.array_equal(got[name], value), name
                continue
            if "mean" not in name:
                kept = np.dtype(dtype) if name == "top values" else np.dtype(gives)
                # NumPy's single numbers have no other order of bytes.
                kept = kept if np.ndim(got[name]) else kept.newbyteorder("=")
                assert got[name].dtype == kept, f"{name}: {got[name].dtype}"
            np.testing.assert_allclose(
                np.asarray(got[name]).astype(np.float64), value, rtol=eps, atol=eps, err_msg=name
            )


@pytest.mark.parametrize("shape", [(3,), (70, 4), (5, 33), (2, 3, 4)])
def test_the_order_of_bytes_does_not_matter(shape: tuple[int, ...]) -> None:
    for native in ("f2", "f4", "f8"):
        z = logits(shape, native)
        want = answers(z)
        for part in (z.astype(f">{native}"), np.asfortranarray(z.astype(f">{native}"))):
            got = {k: np.asarray(v, np.asarray(want[k]).dtype) for k, v in answers(part).items()}
            same_bits(got, want, order=False)
        out = np.full(shape, 7, f">{native}")
        assert lt.softmax(z.astype(f">{native}"), out=out) is out
        assert out.astype(native).tobytes() == want["softmax"].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (70, 4), (5, 33), (2, 3, 4)])
def test_unaligned_logits(dtype: Any, shape: tuple[int, ...]) -> None:
    z = logits(shape, dtype)
    memory = np.zeros(z.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(dtype).reshape(shape)
    unaligned[...] = z
    assert not unaligned.flags.aligned
    same_bits(answers(unaligned), answers(z))
    records = np.zeros(shape, [("pad", "u1"), ("z", dtype)])
    records["z"] = z
    same_bits(answers(records["z"]), answers(z))
    want = lt.softmax(z)
    assert lt.softmax(unaligned, out=unaligned) is unaligned
    assert unaligned.tobytes() == want.tobytes()


def test_read_only_logits_are_read() -> None:
    for shape in ((3,), (70, 4), (5, 33), (2, 3, 4)):
        z = logits(shape, np.float32)
        want = answers(z)
        z.flags.writeable = False
        same_bits(answers(z), want)
        y = np.asarray(truth(shape))
        y.flags.writeable = False
        same_bits(answers(z, y), want)


def test_lists_tuples_and_what_makes_an_array_of_itself() -> None:
    class Arrayed:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.array([[1.0, 2.0], [3.0, 0.0]], dtype)

    want = answers(np.array([[1.0, 2.0], [3.0, 0.0]]))
    for z in ([[1.0, 2.0], [3.0, 0.0]], ((1, 2), (3, 0)), [np.array([1.0, 2.0]), np.array([3.0, 0.0])]):
        for function in ("softmax", "logsumexp", "argmax", "margin", "entropy"):
            assert np.array_equal(getattr(lt, function)(z), want[function])
    for function in ("softmax", "logsumexp", "argmax", "margin", "entropy"):
        assert np.array_equal(getattr(lt, function)(Arrayed()), want[function])


CALLS: dict[str, Callable[[Any], Any]] = {
    "softmax": lt.softmax, "log_softmax": lt.log_softmax, "sigmoid": lt.sigmoid, "logsumexp": lt.logsumexp,
    "entropy": lt.entropy, "energy": lt.energy, "margin": lt.margin, "argmax": lt.argmax,
    "top_k": lambda z: lt.top_k(z, 1), "summarize": lt.summarize,
    "cross_entropy": lambda z: lt.cross_entropy(z, [0, 1]),
    "binary_cross_entropy": lambda z: lt.binary_cross_entropy(z, np.zeros((2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_masked_arrays_are_refused(name: str, dtype: Any) -> None:
    """What is under the mask would count: NumPy's own softmax by np.exp leaves it out, SciPy reads it."""
    z = np.ma.masked_array(np.ones((2, 3), dtype), mask=np.eye(2, 3))
    with pytest.raises(ValueError, match="masked array: fill it"):
        CALLS[name](z)


def test_masked_labels_and_weights_are_refused() -> None:
    z = np.zeros((2, 3))
    y = np.ma.masked_array([0, 1], mask=[0, 1])
    for call in (
        lambda: lt.cross_entropy(z, y),
        lambda: lt.summarize(z, y),
        lambda: lt.cross_entropy(z, [0, 1], sample_weight=y),
        lambda: lt.binary_cross_entropy(z, np.ma.masked_array(z, mask=z > 0)),
    ):
        with pytest.raises(ValueError, match="masked array"):
            call()


# -- out ------------------------------------------------------------------------

INTO: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda z, out: lt.softmax(z, out=out),
    "log_softmax": lambda z, out: lt.log_softmax(z, out=out),
    "sigmoid": lambda z, out: lt.sigmoid(z, out=out),
    "cross_entropy": lambda z, out: lt.cross_entropy(z, truth(z.shape), return_grad=True, out=out)[1],
    "binary_cross_entropy": lambda z, out: lt.binary_cross_entropy(z, 0 * z, return_grad=True, out=out)[1],
}


@pytest.mark.parametrize("name", INTO)
def test_places_that_do_not_fit(name: str) -> None:
    z = logits((4, 5), np.float32)
    readonly = np.empty_like(z)
    readonly.flags.writeable = False
    for out, message in (
        (np.empty((4, 6), np.float32), r"out must have the shape of the logits, \(4, 5\), got \(4, 6\)"),
        (np.empty((5, 4), np.float32), "out must have the shape"),
        (np.empty(20, np.float32), "out must have the shape"),
        (np.empty((1, 4, 5), np.float32), "out must have the shape"),
        (np.empty((4, 5), np.float64), "out must have the dtype of the answer, float32, got float64"),
        (np.empty((4, 5), np.int32), "out must have the dtype of the answer"),
        (np.empty((4, 5), ">f4"), "out must have the dtype of the answer"),
        (readonly, "out must be writeable, got a read-only array"),
        (np.broadcast_to(np.zeros(5, np.float32), (4, 5)), "read-only"),
    ):
        before = out.tobytes()
        with pytest.raises(ValueError, match=message):
            INTO[name](z, out)
        assert out.tobytes() == before
    with pytest.raises(ValueError, match="out must have the dtype of the answer, float64, got int64"):
        INTO[name](np.ones((4, 5), np.int64), np.empty((4, 5), np.int64))
    own = np.ones((4, 5), np.float32)
    own.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        INTO[name](own, own)


@pytest.mark.parametrize("name", INTO)
@pytest.mark.parametrize("out", [[[0.0] * 3] * 2, ((0.0,) * 3,) * 2, 0.0, "here"])
def test_what_is_no_array_cannot_be_written_to(name: str, out: Any) -> None:
    """A list would be made an array of, which is written to and thrown away."""
    with pytest.raises((ValueError, TypeError), match="out"):
        INTO[name](np.ones((2, 3)), out)


@pytest.mark.parametrize("name", INTO)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_places_that_overlap_the_logits_in_a_way_that_cannot_work(name: str, dtype: Any) -> None:
    memory = logits((12, 12), dtype)
    before = memory.copy()
    cube = logits((5, 5, 5), dtype)
    for z, out in (
        (memory[:-1], memory[1:]),
        (memory[1:], memory[:-1]),
        (memory[:, :-1], memory[:, 1:]),
        (memory, memory[::-1]),
        (memory, memory[:, ::-1]),
        (memory, memory.T),
        (memory[:6, :6], memory[3:9, 3:9]),
        (memory[:, ::2], memory[:, 2:8]),
        (memory.reshape(-1)[:100], memory.reshape(-1)[1:101]),
        (cube, cube.transpose(1, 0, 2)),
        (cube, cube.transpose(0, 2, 1)),
        (cube.transpose(1, 0, 2), cube),
    ):
        with pytest.raises(ValueError, match="out must be the logits themselves or not overlap them"):
            INTO[name](z, out)
    assert memory.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", INTO)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [6, 80])
def test_places_beside_the_logits_in_one_memory(name: str, dtype: Any, classes: int) -> None:
    """Rows or columns that take turns share no element."""
    for z_at, out_at in (
        (np.s_[::2], np.s_[1::2]),
        (np.s_[:, ::2], np.s_[:, 1::2]),
        (np.s_[:, : classes // 2], np.s_[:, classes // 2 :]),
        (np.s_[:3], np.s_[3:]),
        (np.s_[::2, ::2], np.s_[1::2, ::-2]),
    ):
        memory = logits((6, classes), dtype)
        z = memory[z_at].copy()
        want = INTO[name](z, None)
        got = INTO[name](memory[z_at], memory[out_at])
        assert got.tobytes() == want.tobytes()
        assert memory[out_at].tobytes() == want.tobytes()
        assert memory[z_at].tobytes() == z.tobytes()


@pytest.mark.parametrize("name", INTO)
def test_the_logits_own_place_by_another_name(name: str) -> None:
    for shape in ((5,), (70, 4), (5, 80), (2, 3, 4)):
        z = logits(shape, np.float32)
        want = INTO[name](z, None)
        for again in (z[...], z.view(), z.reshape(-1).reshape(shape)):
            before = z.copy()
            assert INTO[name](z, again) is again
            assert z.tobytes() == want.tobytes()
            z[...] = before
    # An axis of one has any stride.
    memory = logits((8, 5), np.float32)
    want = INTO[name](memory[:1].copy(), None)
    INTO[name](memory[::2][:1], memory[:1])
    assert memory[:1].tobytes() == want.tobytes()


@pytest.mark.parametrize("name", INTO)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 4), (0, 0)])
def test_places_for_nothing(name: str, shape: tuple[int, ...]) -> None:
    for dtype in DTYPES:
        z = np.zeros(shape, dtype)
        if name == "cross_entropy" and shape[-1] == 0:
            continue
        for out in (z, np.empty(shape, dtype)):
            assert INTO[name](z, out) is out


# -- large ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ten_million_classes(dtype: Any) -> None:
    classes = 10_000_000
    z = np.random.default_rng(0).standard_normal(classes, np.float32).astype(dtype)
    at = 7_654_321
    z[at] = 9
    wide = z.astype(np.float64)
    u = np.exp(wide)
    lse = math.log(u.sum())
    tolerance = {"rel": 2e-3 if dtype == np.float16 else 1e-6}
    assert float(lt.logsumexp(z)) == pytest.approx(lse, **tolerance)
    assert float(lt.entropy(z)) == pytest.approx(lse - (u * wide).sum() / u.sum(), **tolerance)
    assert int(lt.argmax(z)) == at
    values, indices = lt.top_k(z, 100)
    order = np.argpartition(-wide, 200)[:200]
    order = order[np.lexsort((order, -wide[order]))][:100]
    assert indices.tolist() == order.tolist()
    assert values.tolist() == z[order].tolist()
    p = lt.softmax(z)
    # Most shares are subnormal in float16.
    rtol, atol = (1e-6, 0) if dtype == np.float32 else (5e-4, 3.1e-8)
    some = np.s_[at % 97 :: 97]
    np.testing.assert_allclose(p[some].astype(np.float64), np.exp(wide[some] - lse), rtol=rtol, atol=atol)
    assert lt.cross_entropy(z[None], [at], return_grad=True, out=z[None])[0] == pytest.approx(
        lse - 9, rel=1e-6
    )
    assert float(z[at]) == pytest.approx(math.exp(9 - lse) - 1, rel=1e-3)


GROWTH = """
import json, sys
import numpy as np, logitext as lt

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

dtype, rows, classes = np.dtype(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
memory = np.empty((rows, classes), dtype)
for part in memory:
    part[...] = np.arange(classes, dtype=np.float32) % 13
thirds = memory.reshape(rows // 64, 64, classes)
quarters = memory.reshape(rows, classes // 64, 64)
VIEWS = {
    "transposed": memory.T, "reversed": memory[::-1, ::-1], "steps": memory[::2, ::2],
    "three axes": thirds.transpose(1, 0, 2), "three axes, classes first": quarters.transpose(1, 2, 0),
    "three axes reversed": thirds.transpose(2, 1, 0), "middle first": quarters.transpose(1, 0, 2)[:, ::2],
}

def ask(z):
    y = np.zeros(z.shape[:-1], np.int64)
    yield "logsumexp", lambda: lt.logsumexp(z)
    yield "argmax", lambda: lt.argmax(z)
    yield "margin", lambda: lt.margin(z)
    yield "top_k", lambda: lt.top_k(z, 2)
    yield "summarize", lambda: lt.summarize(z, y)
    yield "cross_entropy", lambda: lt.cross_entropy(z, y, label_smoothing=0.1)
    yield "warm logsumexp", lambda: lt.logsumexp(z, temperature=1.7)
    yield "softmax in place", lambda: lt.softmax(z, out=z)
    yield "gradient in place", lambda: lt.cross_entropy(z, y, return_grad=True, out=z)
    yield "sigmoid in place", lambda: lt.sigmoid(z, out=z)

for _, call in ask(np.ones((64, 70), dtype)[:, ::2]):
    call()
grown = {}
for name, view in VIEWS.items():
    for what, call in ask(view):
        before = peak()
        call()
        grown[f"{what}, {name}"] = (peak() - before) / 1024
print(json.dumps(grown))
"""


def run(code: str, *arguments: Any, **environment: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not LINUX, reason="reads its peak memory from /proc")
@pytest.mark.parametrize(("dtype", "rows", "classes"), [("f4", 1024, 4096), ("f2", 1024, 8192)])
def test_no_copy_of_a_large_view_is_made(dtype: str, rows: int, classes: int) -> None:
    """16 MiB of logits; a few of labels, of numbers per row and of memory per thread."""
    grown = json.loads(run(GROWTH, dtype, rows, classes))
    # top_k takes its values by NumPy, which indexes with arrays of its own.
    assert max(grown.values()) < 16, {name: mib for name, mib in grown.items() if mib > 4}


MAPPED = """
import resource, sys
import numpy as np, logitext as lt

rows, classes = 1000, 64_000  # 244 MiB
with open(sys.argv[1], "wb") as file:
    file.truncate(4 * rows * classes)
z = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, classes))
lt.summarize(np.ones((600, 600), np.float32), np.zeros(600, int))
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
limit = used + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(z)
    print("the limit does not hold")
except MemoryError:
    pass
got = lt.summarize(z, np.zeros(rows, int))
assert np.allclose(got.logsumexp, np.log(classes)) and (got.argmax == 0).all()
assert np.isclose(lt.cross_entropy(z, np.zeros(rows, int)), np.log(classes))
assert lt.margin(z.T[:700]).shape == (700,)
own = np.memmap(sys.argv[2], np.float32, "w+", shape=(300, classes))  # 73 MiB
assert lt.softmax(own, out=own) is own
assert np.allclose(own[::99, ::999], 1 / classes)
print("ok")
"""


@pytest.mark.skipif(not LINUX, reason="limits the memory that a process may have of its own")
def test_memory_mapped_logits_larger_than_the_memory_there_is(tmp_path: Path) -> None:
    assert run(MAPPED, tmp_path / "z", tmp_path / "p") == "ok\n"


# -- other libraries ------------------------------------------------------------


@pytest.fixture
def jnp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    return pytest.importorskip("jax.numpy")


@pytest.fixture
def strict() -> ModuleType:
    return pytest.importorskip("array_api_strict")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3,), (70, 4), (2, 3, 40)])
def test_jax_in_jax_out(jnp: ModuleType, dtype: str, shape: tuple[int, ...]) -> None:
    z = logits(shape, dtype)
    x = jnp.asarray(z)
    want, got = answers(z), answers(x)
    for name, value in want.items():
        if "mean" in name:
            assert got[name] == value, name
            continue
        assert isinstance(got[name], type(x)), f"{name} is {type(got[name])}"
        if "class" not in name and "argmax" not in name:
            assert got[name].dtype == x.dtype, name
        assert (
            np.asarray(got[name]).astype(np.float64).tobytes()
            == np.asarray(value).astype(np.float64).tobytes()
        ), name
    y = jnp.asarray(truth(shape), jnp.int32)
    assert lt.cross_entropy(x, y) == lt.cross_entropy(z, truth(shape))
    assert np.asarray(lt.summarize(x, y).loss).tobytes() == lt.summarize(z, truth(shape)).loss.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        lt.softmax(x, out=x)  # JAX's arrays do not change


def test_jax_decides_about_integers(jnp: ModuleType) -> None:
    x = jnp.asarray([[1, 3, 3], [2, 0, 1]])
    for got in (lt.argmax(x), lt.softmax(x), lt.logsumexp(x), *lt.top_k(x, 2)):
        assert isinstance(got, type(x)), type(got)
    assert lt.argmax(x).tolist() == [1, 0]


@pytest.mark.parametrize("size", [3, 100, 4000, 250_000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_jax_without_a_copy(jnp: ModuleType, monkeypatch: pytest.MonkeyPatch, dtype: str, size: int) -> None:
    """In: the kernels read JAX's own memory. Out: JAX takes over the memory that was written, which it does
    only if it begins at a multiple of 64 bytes."""
    x = jnp.asarray(logits((4, size), dtype))
    assert arrays.receive(x)[0].ctypes.data == x.unsafe_buffer_pointer()
    handed = []
    take = jnp.from_dlpack

    def spy(array: Any, *args: Any, **kwargs: Any) -> Any:
        taken = take(array, *args, **kwargs)
        handed.append((array.ctypes.data, taken.unsafe_buffer_pointer()))
        return taken

    monkeypatch.setattr(jnp, "from_dlpack", spy)
    lt.softmax(x)
    lt.log_softmax(x)
    lt.cross_entropy(x, truth(x.shape), return_grad=True)
    assert handed
    assert all(given == taken for given, taken in handed), (
        f"copied from {[given % 64 for given, _ in handed]}"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3,), (70, 4), (2, 3, 40)])
def test_array_api_strict_in_and_out(strict: ModuleType, dtype: str, shape: tuple[int, ...]) -> None:
    z = logits(shape, dtype)
    x = strict.asarray(z)
    memory = np.from_dlpack(x).ctypes.data
    assert arrays.receive(x)[0].ctypes.data == memory
    want, got = answers(z), answers(x)
    for name, value in want.items():
        if "mean" in name:
            assert got[name] == value, name
            continue
        assert isinstance(got[name], type(x)), f"{name} is {type(got[name])}"
        back = np.from_dlpack(got[name])
        assert (back.dtype, back.shape) == (value.dtype, value.shape), name
        assert back.tobytes() == value.tobytes(), name
    out = strict.zeros(shape, dtype=x.dtype)
    assert lt.softmax(x, out=out) is out
    assert np.from_dlpack(out).tobytes() == want["softmax"].tobytes()
    assert lt.softmax(x, out=x) is x
    assert np.from_dlpack(x).ctypes.data == memory
    assert np.from_dlpack(x).tobytes() == want["softmax"].tobytes()


def test_array_api_strict_views_and_integers(strict: ModuleType) -> None:
    z = logits((3, 2, 5), np.float64)
    x = strict.permute_dims(strict.asarray(z), (1, 0, 2))
    want = answers(z.transpose(1, 0, 2).copy())
    for name, value in answers(x).items():
        if "mean" not in name:
            assert isinstance(value, type(x)), f"{name} is {type(value)}"
            assert np.from_dlpack(value).tobytes() == want[name].tobytes(), name
    whole = strict.asarray([[1, 3, 3], [2, 0, 1]])
    for got in (lt.argmax(whole), lt.softmax(whole), *lt.top_k(whole, 2)):
        assert isinstance(got, type(whole))
    assert np.from_dlpack(lt.argmax(whole)).tolist() == [1, 0]


class Foreign:
    """An array on the CPU that is known by its DLPack alone, with a dtype that is PyTorch's, not NumPy's."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape
        self.dtype = f"torch.{array.dtype}"

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


def test_arrays_known_by_their_dlpack_alone() -> None:
    z = logits((4, 5), np.float32)
    for name, call in CALLS.items():
        if "cross" in name:
            continue
        got, want = call(Foreign(z)), call(z)
        for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, want)), strict=True):
            assert a is b is None or np.asarray(a).tobytes() == np.asarray(b).tobytes(), name
    assert lt.cross_entropy(Foreign(z), Foreign(truth(z.shape))) == lt.cross_entropy(z, truth(z.shape))


class Accelerated:
    """What is on an accelerator: whoever reads its memory crashes."""

    def __init__(self, device: int, dtype: Any, shape: tuple[int, ...] = (2, 3)) -> None:
        self.number, self.dtype, self.shape = device, dtype, shape
        self.device = f"accelerator:{device}"

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.number, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("this memory is not the CPU's")

    __array__ = __dlpack__


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", [2, 4, 8, 10, 13])
def test_what_is_on_an_accelerator_says_so(name: str, device: int) -> None:
    for dtype in (np.dtype(np.float32), np.dtype(np.int64), "torch.float32"):
        with pytest.raises(ValueError, match=rf"in the CPU's memory, .* accelerator:{device}: copy it first"):
            CALLS[name](Accelerated(device, dtype))


def test_labels_weights_and_places_on_an_accelerator_say_so() -> None:
    z = np.zeros((2, 3))
    floats = np.dtype(np.float64)
    for call in (
        lambda: lt.cross_entropy(z, Accelerated(2, np.dtype(np.int64), (2,))),
        lambda: lt.summarize(z, Accelerated(2, np.dtype(np.int64), (2,))),
        lambda: lt.cross_entropy(z, [0, 1], sample_weight=Accelerated(2, floats, (2,))),
        lambda: lt.cross_entropy(z, [0, 1], class_weight=Accelerated(2, floats, (3,))),
        lambda: lt.cross_entropy(z, [0, 1], return_grad=True, out=Accelerated(2, floats)),
        lambda: lt.softmax(z, out=Accelerated(2, floats)),
        lambda: lt.binary_cross_entropy(z, Accelerated(2, floats)),
    ):
        with pytest.raises(ValueError, match="in the CPU's memory"):
            call()


# -- labels and weights beside views --------------------------------------------


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (6, 2, 5), (2, 7, 40)])
def test_what_stands_beside_the_rows_of_a_view_follows_them(
    axes: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    z = logits(shape, np.float64).transpose(axes)
    rng = np.random.default_rng(1)
    classes, leading = z.shape[-1], z.shape[:-1]
    y, weights = rng.integers(classes, size=leading), rng.random(leading)
    shares = rng.dirichlet(np.ones(classes), leading)
    for labels in (y, np.asfortranarray(y), shares, np.asfortranarray(shares)):
        for values in (weights, np.asfortranarray(weights)):
            for reduction in ("mean", "sum", "none"):
                options: dict[str, Any] = {
                    "reduction": reduction,
                    "return_grad": True,
                    "label_smoothing": 0.1,
                }
                got = lt.cross_entropy(z, labels, sample_weight=values, **options)
                want = lt.cross_entropy(z.copy(), labels.copy(), sample_weight=values.copy(), **options)
                # The order of a sum over the rows may follow their places.
                np.testing.assert_allclose(got[0], want[0], rtol=1e-15 if reduction != "none" else 0)
                assert np.ascontiguousarray(got[1]).tobytes() == np.ascontiguousarray(want[1]).tobytes() or (
                    reduction == "mean" and np.allclose(got[1], want[1], rtol=1e-14)
                )


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_a_bad_label_is_named_by_the_row_its_owner_counts(axes: tuple[int, ...]) -> None:
    z = logits((6, 4, 5), np.float64).transpose(axes)
    for at in (1, 7, np.prod(z.shape[:-1]) - 2):
        y = np.zeros(z.shape[:-1], int)
        y.reshape(-1)[at] = 99
        with pytest.raises(ValueError, match=f"got 99 at row {at}$"):
            lt.cross_entropy(z, y)
        with pytest.raises(ValueError, match=f"got 99 at row {at}$"):
            lt.summarize(z, np.asfortranarray(y))


# -- the same bits --------------------------------------------------------------

SHAPES = [(7, 1), (130, 2), (70, 3), (2000, 4), (33, 5), (700, 20), (70, 31), (70, 32), (70, 33), (20, 100),
          (300, 1000), (9, 1025), (3, 20_000), (2, 140_000), (5, 140_000), (9, 140_000)]  # fmt: skip


def odd(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Give logits among which are rows that are none."""
    z = logits(shape, dtype)
    z[1 % len(z), ::3] = -INF
    z[-1] = z[-1, 0]
    if len(z) > 6:
        z[2], z[3, -1], z[4, 0], z[5] = -INF, INF, NAN, 300
    return z


@pytest.mark.alone
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_bits_for_any_number_of_threads(
    shape: tuple[int, ...], dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype not in (np.float16, np.float32) and math.prod(shape) > 300_000:
        pytest.skip("the others go the same ways")
    z = odd(shape, dtype)
    views = [z, np.asfortranarray(z)] if math.prod(shape) < 150_000 else [z]
    for view in views:
        monkeypatch.setattr(arrays, "threads", lambda size: 1)
        want = answers(view)
        for count in (2, 7):
            monkeypatch.setattr(arrays, "threads", lambda size, count=count: count)
            same_bits(answers(view), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_bits_alone_and_together(shape: tuple[int, ...], dtype: Any) -> None:
    """A row is answered alike among others, whichever and however many they are."""
    if dtype not in (np.float16, np.float32) and math.prod(shape) > 300_000:
        pytest.skip("the others go the same ways")
    z, y = odd(shape, dtype), truth(shape)
    together = {k: v for k, v in answers(z, y).items() if "mean" not in k and k != "slope"}
    rows = len(z)
    for part in (
        np.s_[:1],
        np.s_[rows // 2 : rows // 2 + 1],
        np.s_[-1:],
        np.s_[1:],
        np.s_[rows // 3 : rows // 3 * 2 + 1],
    ):
        alone = {k: v for k, v in answers(z[part], y[part]).items() if k in together}
        same_bits(alone, {k: v[part] for k, v in together.items()})
    for i in {0, 2 % rows, 4 % rows, rows - 1}:
        for function in (lt.softmax, lt.log_softmax, lt.logsumexp, lt.entropy, lt.margin, lt.argmax):
            assert bits(function(z[i])) == bits(function(z)[i])
    order = np.random.default_rng(0).permutation(rows)
    for function in (lt.softmax, lt.logsumexp, lt.entropy):
        assert bits(function(z[order])) == bits(function(z)[order])


DIGESTS = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from logitext import _core
import test_arrays as t

found = {}
for shape in [s for s in t.SHAPES if np.prod(s) < 100_000]:
    for dtype in t.DTYPES:
        z = t.odd(shape, dtype)
        for view in (z, z[:, ::-1]) if np.prod(shape) < 5000 else (z,):
            for name, answer in t.answers(view).items():
                about = f"{name} {shape} {np.dtype(dtype)} {view.strides}"
                ways = t.bits(answer), np.ascontiguousarray(answer).tobytes()
                found[about] = [hashlib.sha256(way).hexdigest() for way in ways]
print(json.dumps([_core.simd_level(), found]))
"""


@pytest.fixture(scope="module")
def digests() -> dict[str, dict[str, list[str]]]:
    """Give what each SIMD level of this CPU answers, every NaN taken as one and as it is."""
    here = str(Path(__file__).parent)
    runs = [json.loads(run(DIGESTS, here, LOGITEXT_SIMD=level)) for level in ("portable", "avx2", "avx512")]
    # A CPU that lacks a level gives that below it.
    return dict(runs)


def test_the_same_bits_at_every_simd_level(digests: dict[str, dict[str, list[str]]]) -> None:
    first, *others = digests.values()
    assert next(iter(digests)) in ("portable", "neon")
    assert len(first) > 1000
    for found in others:
        assert found.keys() == first.keys()
        assert [name for name in found if found[name][0] != first[name][0]] == []


def test_even_nans_have_the_same_bits_at_every_simd_level(digests: dict[str, dict[str, list[str]]]) -> None:
    first, *others = digests.values()
    for found in others:
        assert [name for name in found if found[name][1] != first[name][1]] == []


def test_even_nans_have_the_same_bits_alone_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no sign should not show how it came about."""
    faults = set()
    for shape in ((7, 1), (130, 2), (70, 33), (20, 1025), (9, 140_000)):
        z = odd(shape, np.float32)
        monkeypatch.setattr(arrays, "threads", lambda size: 1)
        want, alone, last = answers(z), answers(z[2:3]), answers(z[4:5])
        monkeypatch.setattr(arrays, "threads", lambda size: 3)
        for name, value in answers(z).items():
            if np.ndim(value):
                faults |= {name} if value.tobytes() != want[name].tobytes() else set()
            # Beside a row alone stand other labels: they show where NaN does not take the whole row.
            if np.ndim(value) and name not in ("slope", "binary losses", "binary slopes"):
                faults |= {name} if value[2].tobytes() != alone[name][0].tobytes() else set()
                faults |= {name} if value[4].tobytes() != last[name][0].tobytes() else set()
    assert not faults


def test_the_same_bits_in_a_forked_process() -> None:
    code = """
import os, signal, warnings
warnings.simplefilter("ignore")  # Python warns of any fork with threads
import numpy as np, logitext as lt
z = np.random.default_rng(0).normal(size=(300, 3000)).astype(np.float32)
y = np.arange(300)
def ask():
    loss, slope = lt.cross_entropy(z, y, return_grad=True)
    arrays = lt.softmax(z), lt.summarize(z).entropy, lt.argmax(z), slope
    return loss, [array.tobytes() for array in arrays]
before = ask()
child = os.fork()
if child == 0:
    signal.alarm(20)  # a hang kills it
    os._exit(0 if ask() == before else 1)
print(os.waitpid(child, 0)[1], ask() == before)
"""
    assert run(code) == "0 True\n"


@pytest.mark.alone
def test_the_same_bits_from_many_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    z = logits((400, 500), np.float32)
    want = answers(z)
    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(lambda _: answers(z), range(12)):
            same_bits(got, want)
