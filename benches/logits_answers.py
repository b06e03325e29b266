"""What `benches.logits` measures, and that its answers are right, against float64."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import scipy.special as sp
from numpy.typing import NDArray

import logitext as lt
from logitext.logits import summarize

RING = 512_000_000  # bytes of copies of the logits: more than any cache
BATCH = 64_000_000  # bytes at least between two looks at the clock
READS = ["logsumexp", "cross_entropy", "argmax", "summarize", "summarize, labels"]
MAPS, GRADIENT = ["softmax", "log_softmax"], ["gradient"]

Call = Callable[[int], Any]  # one operation on copy i of the arrays


@dataclass(frozen=True)
class Work:
    """The logits of one shape, often enough to be out of the cache, and room for answers."""

    z: list[NDArray[Any]]
    out: list[NDArray[Any]]
    y: NDArray[np.int64]

    @property
    def calls(self) -> int:
        return max(1, BATCH // self.z[0].nbytes)

    def moved(self, operation: str) -> int:
        return self.z[0].nbytes * (1 if operation in READS else 2)


def work(shape: tuple[int, int], dtype: Any = np.float32) -> Work:
    rng = np.random.default_rng(shape[0])
    z = (4 * rng.standard_normal(shape, np.float32)).astype(dtype)
    copies = max(2, -(-RING // z.nbytes))
    again = [z.copy() for _ in range(copies - 1)]
    return Work([z, *again], [z.copy() for _ in range(copies)], rng.integers(shape[1], size=shape[0]))


def ours(w: Work) -> dict[str, Call]:
    z, out, y = w.z, w.out, w.y
    return {
        "logsumexp": lambda i: lt.logsumexp(z[i]),
        "cross_entropy": lambda i: lt.cross_entropy(z[i], y),
        "argmax": lambda i: lt.argmax(z[i]),
        "summarize": lambda i: summarize(z[i])[:4],
        "summarize, labels": lambda i: summarize(z[i], y),
        "softmax": lambda i: lt.softmax(z[i], out=out[i]),
        "log_softmax": lambda i: lt.log_softmax(z[i], out=out[i]),
        "gradient": lambda i: lt.cross_entropy(z[i], y, return_grad=True, out=out[i]),
    }


def check(w: Work, where: str) -> dict[str, float]:
    """Our answers on a sample of rows against float64: the largest errors, in units in the last place."""
    n, k = w.z[0].shape
    rows = np.unique(np.linspace(0, n - 1, min(n, max(8, 400_000 // k))).astype(np.int64))
    z, y, here = w.z[0][rows].astype(np.float64), w.y[rows], np.arange(len(rows))
    top, best, lse, p = z.max(axis=-1), z.argmax(axis=-1), sp.logsumexp(z, axis=-1), sp.softmax(z, axis=-1)
    others = sp.logsumexp(np.where(np.arange(k) == y[:, None], -np.inf, z), axis=-1)
    loss = np.logaddexp(0, others - z[here, y])  # log(1 + others / truth): nothing cancels
    gradient = p.copy()
    gradient[here, y] = np.expm1(-loss)
    kind = ml_dtypes.finfo(w.z[0].dtype)  # type: ignore[no-untyped-call]
    errors = {}

    def expect(what: str, got: Any, want: Any, scale: Any = 0.0, most: float = 8) -> None:
        size = np.maximum(np.maximum(np.abs(want), scale), float(kind.smallest_normal))
        unit = np.exp2(np.floor(np.log2(size))) * float(kind.eps)
        errors[what] = float(np.max(np.abs(np.asarray(got).astype(np.float64) - want) / unit))
        if not errors[what] <= (1 if kind.bits == 16 else most):
            sys.exit(f"{what} of {where} is {errors[what]:.3g} units off: the times would be of no use")

    expect("logsumexp", lt.logsumexp(w.z[0])[rows], lse, np.abs(top))
    expect("softmax", lt.softmax(w.z[0], out=w.out[0])[rows], p)
    losses = lt.cross_entropy(w.z[0], w.y, reduction="none")
    expect("loss", losses[rows], loss)
    expect("argmax", lt.argmax(w.z[0])[rows], best, most=0)
    if kind.bits == 16:
        return errors
    expect("mean loss", lt.cross_entropy(w.z[0], w.y), losses.mean(dtype=np.float64))
    expect("log_softmax", lt.log_softmax(w.z[0], out=w.out[0])[rows], sp.log_softmax(z, axis=-1))
    expect("gradient", lt.cross_entropy(w.z[0], w.y, return_grad=True, out=w.out[0])[1][rows], gradient / n)
    found = summarize(w.z[0], w.y)
    for name, want in {"logsumexp": lse, "loss": loss, "entropy": sp.entr(p).sum(axis=-1)}.items():
        expect(f"summarize's {name}", getattr(found, name)[rows], want, np.abs(top))
    expect("summarize's decision", found.argmax[rows], best, most=0)
    expect("summarize's maximum", found.max[rows], top, most=0)
    return errors
