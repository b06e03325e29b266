"""Operations on logits against the speed of memory and against NumPy, SciPy and JAX, in one run.

The answers first: rows of every shape against float64. Then the times, in rounds, all in
turn. The bytes are those that must move: the logits read once for what gives numbers, read and
written for what gives an array. Right before each of our calls plain sums (or copies) of the
same array are timed with as many threads; a share of the bandwidth is the median over rounds of
the two speeds' ratio, against the sum (or copy) for which it is the lowest. Small arrays stand
in memory many times over and are taken in turn: nothing is measured in the cache.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from timeit import Timer
from typing import Any

import ml_dtypes
import numpy as np
import scipy.special as sp
from numpy.typing import NDArray

import logitext as lt
from benches.logits_answers import GRADIENT, MAPS, READS, Call, Work, check, ours, work
from benches.logits_asked import ASKED, LARGE, SMALL, Shape, must_show, named
from benches.measure import ROOT, Timed, machine, ratio, store
from logitext import _core

ROUNDS, SLOW_ROUNDS, SLOW = 7, 3, 0.25  # a peer that takes so many seconds a call has fewer rounds
SUMS = ["product with ones", "sum in parts", "sum by column in parts", "einsum in parts"]
CHECKS = ["dot with itself in parts", "max in parts"]  # no sums: reported beside, count for nothing
COPIES = ["copyto", "copyto in parts"]
HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
IDLE = "OPENBLAS_THREAD_TIMEOUT"  # NumPy's BLAS must not wait busily beside what is timed next
THREADS = _core.available_threads()
POOL = ThreadPoolExecutor(THREADS)
TURN = itertools.count()

Run = Callable[[list[int]], Any]
Peer = Callable[[Work], dict[str, Call]]


def composed(w: Work, lse: Any, softmax: Any, log_softmax: Any) -> dict[str, Call]:
    """The operations as one writes them with NumPy around three functions."""
    rows = np.arange(len(w.y))

    def losses(z: NDArray[Any]) -> Any:
        return lse(z) - z[rows, w.y]

    def summary(z: NDArray[Any], out: NDArray[Any]) -> tuple[Any, ...]:
        total = lse(z)
        return total, z.argmax(axis=-1), z.max(axis=-1), total - (softmax(z, out) * z).sum(axis=-1)

    def gradient(z: NDArray[Any], out: NDArray[Any]) -> tuple[Any, Any]:
        p = softmax(z, out)
        loss = -np.log(p[rows, w.y]).mean()
        p[rows, w.y] -= 1
        p /= len(rows)
        return loss, p

    return {
        "logsumexp": lambda i: lse(w.z[i]),
        "cross_entropy": lambda i: losses(w.z[i]).mean(),
        "argmax": lambda i: w.z[i].argmax(axis=-1),
        "summarize": lambda i: summary(w.z[i], w.out[i]),
        "summarize, labels": lambda i: (*summary(w.z[i], w.out[i]), losses(w.z[i])),
        "softmax": lambda i: softmax(w.z[i], w.out[i]),
        "log_softmax": lambda i: log_softmax(w.z[i], w.out[i]),
        "gradient": lambda i: gradient(w.z[i], w.out[i]),
    }


def with_numpy(w: Work) -> dict[str, Call]:
    def lse(z: NDArray[Any]) -> Any:
        top = z.max(axis=-1, keepdims=True)
        return np.log(np.exp(z - top).sum(axis=-1)) + top[:, 0]

    def softmax(z: NDArray[Any], out: NDArray[Any]) -> Any:
        np.exp(np.subtract(z, z.max(axis=-1, keepdims=True), out=out), out=out)
        out /= out.sum(axis=-1, keepdims=True)
        return out

    def log_softmax(z: NDArray[Any], out: NDArray[Any]) -> Any:
        np.subtract(z, z.max(axis=-1, keepdims=True), out=out)
        out -= np.log(np.exp(out).sum(axis=-1, keepdims=True))
        return out

    return composed(w, lse, softmax, log_softmax)


def with_scipy(w: Work) -> dict[str, Call]:
    return composed(
        w,
        lambda z: sp.logsumexp(z, axis=-1),
        lambda z, _: sp.softmax(z, axis=-1),
        lambda z, _: sp.log_softmax(z, axis=-1),
    )


def with_jax(w: Work) -> dict[str, Call]:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    def losses(z: Any, y: Any) -> Any:
        return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, y[:, None], axis=-1)[:, 0]

    def summary(z: Any, y: Any) -> Any:
        total = jax.nn.logsumexp(z, axis=-1)
        left = total - (jax.nn.softmax(z) * z).sum(axis=-1)
        return total, z.argmax(axis=-1), z.max(axis=-1), left

    def call(function: Any) -> Call:
        compiled = jax.jit(function)
        return lambda i: jax.block_until_ready(compiled(logits[i], y))  # type: ignore[no-untyped-call]

    logits, y = [jnp.asarray(z) for z in w.z], jnp.asarray(w.y.astype(np.int32))
    functions: list[Any] = [
        lambda z, y: jax.nn.logsumexp(z, axis=-1),
        lambda z, y: losses(z, y).mean(),
        lambda z, y: z.argmax(axis=-1),
        summary,
        lambda z, y: (*summary(z, y), losses(z, y)),
        lambda z, y: jax.nn.softmax(z),
        lambda z, y: jax.nn.log_softmax(z),
        jax.value_and_grad(lambda z, y: losses(z, y).mean()),
    ]
    return {what: call(f) for what, f in zip(READS + MAPS + GRADIENT, functions, strict=True)}


PEERS: dict[str, Peer] = {"numpy": with_numpy, "scipy": with_scipy, "jax": with_jax}


def each(call: Call) -> Run:
    def run(turns: list[int]) -> None:
        for i in turns:
            call(i)

    return run


def probes(w: Work) -> dict[str, Run]:
    """Plain sums and copies of the logits."""

    def in_parts(function: Any, *arrays: list[NDArray[Any]]) -> Run:
        parts = [[np.array_split(a, THREADS) for a in copies] for copies in zip(*arrays, strict=True)]

        def part(turns: list[int], t: int) -> None:
            for i in turns:
                function(*(split[t] for split in parts[i]))

        return lambda turns: [task.result() for task in [POOL.submit(part, turns, t) for t in range(THREADS)]]

    flat = [z.reshape(-1) for z in w.z]
    table = [z.reshape(-1, 4_000) for z in w.z]  # every shape here is a multiple
    ones = np.ones(4_000, np.float32)
    return {
        "sum in parts": in_parts(np.sum, flat),
        "sum by column in parts": in_parts(lambda a: np.add.reduce(a, axis=0), table),
        "einsum in parts": in_parts(lambda a: np.einsum("i->", a), flat),
        "product with ones": each(lambda i: table[i] @ ones),  # BLAS has its own threads
        "max in parts": in_parts(np.max, flat),
        "dot with itself in parts": in_parts(lambda a: np.dot(a, a), flat),
        "copyto": each(lambda i: np.copyto(w.out[i], w.z[i])),
        "copyto in parts": in_parts(np.copyto, [o.reshape(-1) for o in w.out], flat),
    }


def clock(w: Work, run: Run, calls: int = 1) -> float:
    """Seconds per call."""
    turns = [next(TURN) % len(w.z) for _ in range(calls)]
    start = time.perf_counter()
    run(turns)
    return (time.perf_counter() - start) / calls


Times = dict[str, dict[str, list[float]]]  # seconds of each round, by operation and by who


def timed(w: Work, rounds: int, peers: dict[str, dict[str, Call]]) -> Times:
    """Ours beside sums or copies, then the peers, in turn; after one round that does not count."""
    probe, mine = probes(w), ours(w)
    times: Times = {what: {} for what in mine}
    for r in range(-1, rounds):
        for what, call in mine.items():
            for name in CHECKS + SUMS if what in READS else COPIES:
                times[what].setdefault(name, []).append(clock(w, probe[name], w.calls))
            times[what].setdefault("logitext", []).append(clock(w, each(call), w.calls))
        for name, what in itertools.product(peers, mine):
            kept = times[what].setdefault(name, [])
            if r < min(rounds, SLOW_ROUNDS) or kept[0] < SLOW:
                kept.append(clock(w, each(peers[name][what])))
    return {what: {who: s[1:] for who, s in kept.items()} for what, kept in times.items()}


def times_faster(kept: dict[str, list[float]], than: str) -> float:
    return ratio(Timed(kept[than]), Timed(kept["logitext"][: len(kept[than])]))


def share(kept: dict[str, list[float]], operation: str) -> float:
    """Percent of the bandwidth: against the best sum or copy."""
    return 100 * min(times_faster(kept, name) for name in (SUMS if operation in READS else COPIES))


def several(answer: Any) -> list[NDArray[Any]]:
    return [np.asarray(a) for a in (answer if isinstance(answer, tuple) else (answer,))]


def digest(w: Work, where: str, peers: Sequence[tuple[str, Peer]] = ()) -> str:
    """A hash of all the bits of our answers on an eighth of the rows; the peers' must be near them."""
    n = max(2, len(w.y) // 8)
    few = Work([w.z[0][:n]], [w.out[0][:n]], w.y[:n])
    seen = hashlib.sha256()
    calls = {name: peer(Work(few.z, [w.out[1][:n]], few.y)) for name, peer in peers}
    for what, call in ours(few).items():
        mine = several(call(0))
        for array in mine:
            seen.update(np.ascontiguousarray(array).data)
        for name, of in calls.items():
            for a, b in zip(mine, several(of[what](0)), strict=True):
                if not np.abs(a - b).max() <= 1e-3 * np.abs(a).max():
                    sys.exit(f"{name} means something else by {what} of {where}")
    return seen.hexdigest()


def other_levels(rounds: int) -> list[dict[str, Any]]:
    """What `one_level` finds at the levels below the one in use, each in a process of its own."""
    found = []
    for level in {"avx512": ["avx2", "portable"], "avx2": ["portable"]}.get(_core.simd_level(), []):
        command = [sys.executable, "-m", "benches.logits", "--one-level", str(rounds)]
        environment = {**os.environ, "LOGITEXT_SIMD": level}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
        found.append(json.loads(done.stdout))
    return found


def one_level(rounds: int) -> dict[str, Any]:
    """Hashes, and shares of the bandwidth, without peers; few where no figure is asked."""
    level = _core.simd_level()
    found: dict[str, Any] = {"level": level, "hash": {}, "percent": {}}
    for shape in LARGE + SMALL:
        w, where = work(shape), named(shape)
        found["hash"][where] = digest(w, where)
        if level in ASKED or shape not in LARGE[1:]:
            times = timed(w, rounds if level in ASKED else 1, {})
            found["percent"][where] = {o: share(kept, o) for o, kept in times.items()}
    return found


def vector_of_4(rounds: int) -> dict[str, Any]:
    """Softmax of one vector, per call."""
    names = {"f": lt.softmax, "exp": np.exp, "peer": sp.softmax, "v": np.array([2, 1, 0.1, -1], np.float32)}
    timers = {"logitext": ("f", 50_000), "np.exp": ("exp", 50_000), "scipy": ("peer", 2_000)}
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, (function, n) in timers.items():
            times[name].append(Timer(f"{function}(v)", globals=names).timeit(n) / n)
    return {
        "seconds_best_median": {name: best_median(s) for name, s in times.items()},
        "times_np.exp": 1 / times_faster(times, "np.exp"),
        "faster_than_scipy": times_faster(times, "scipy"),
    }


def half_precision(rounds: int) -> dict[str, dict[str, float]]:
    """Time over that of float32, by dtype and operation, on the first shape."""
    single = work(LARGE[0])
    found: dict[str, dict[str, float]] = {}
    for name, dtype in HALF.items():
        half = work(LARGE[0], dtype)
        check(half, f"{name} {named(LARGE[0])}")
        found[name] = {}
        for what in ("logsumexp", "cross_entropy", "argmax", "softmax"):
            pair = [(w, each(ours(w)[what])) for w in (single, half)]
            seconds = [[clock(w, run, 2) for w, run in pair] for _ in range(rounds + 1)][1:]
            wide, slim = (Timed(list(s)) for s in zip(*seconds, strict=True))
            found[name][what] = ratio(slim, wide)
    return found


def best_median(seconds: list[float]) -> list[float]:
    return [min(seconds), Timed(seconds).median]


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Check one shape, time everything there, and print it."""
    w, where = work(shape), named(shape)
    errors = check(w, where)
    peers = {name: make(w) for name, make in PEERS.items()}
    hashed = digest(w, where, list(PEERS.items()))
    peers["jax"]["softmax"](0)
    start, used = time.perf_counter(), time.process_time()
    for _ in range(3):
        peers["jax"]["softmax"](0)
    cpus = (time.process_time() - used) / (time.perf_counter() - start)
    times = timed(w, rounds, peers)
    print(f"\n{where}: JAX keeps {cpus:.1f} CPUs busy in softmax")
    speeds = {}
    for names, group in ((SUMS + CHECKS, READS), (COPIES, MAPS + GRADIENT)):
        for name in names:
            kept = [t for o in group for t in times[o][name]]
            speeds[name] = [w.moved(group[0]) / 1e9 / t for t in best_median(kept)]
        listed = (f"{name} {speeds[name][1]:.1f} ({speeds[name][0]:.1f})" for name in names)
        print("  GB/s, median (best): " + ", ".join(listed))
    print("  ms            median (best)   GB/s   of bandwidth   times faster than NumPy  SciPy    JAX")
    seconds, percent, faster = {}, {}, {}
    for o, of in times.items():
        seconds[o] = {who: best_median(of[who]) for who in ("logitext", *PEERS)}
        percent[o], faster[o] = share(of, o), {peer: times_faster(of, peer) for peer in PEERS}
        best, median = seconds[o]["logitext"]
        print(f"  {o:17}{1e3 * median:8.2f} ({1e3 * best:.2f})".ljust(38), end="")
        print(f"{w.moved(o) / 1e9 / median:6.1f}{percent[o]:11.1f} %", end=" " * 17)
        print("".join(f"{f:7.1f}" for f in faster[o].values()), flush=True)
    return {
        "errors_in_ulp": errors,
        "hash": hashed,
        "jax_cpus_busy": cpus,
        "gb_per_second_best_median": speeds,
        "seconds_best_median": seconds,
        "percent": percent,
        "faster": faster,
    }


def used_by_others() -> float:
    """CPU seconds that all but this program and its children have had; 0 where it cannot be known."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    busy = sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting
    return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benches.logits")
    options.add_argument("--quick", action="store_true", help=f"3 rounds instead of {ROUNDS}, not stored")
    options.add_argument("--one-level", type=int, metavar="ROUNDS", help=argparse.SUPPRESS)
    given = options.parse_args()
    if IDLE not in os.environ:
        again = [sys.executable, "-m", "benches.logits", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, IDLE: "4"})
    if given.one_level:
        print(json.dumps(one_level(given.one_level)))
        return
    rounds, start, others = 3 if given.quick else ROUNDS, time.perf_counter(), used_by_others()
    peers = {name: version(name) for name in ("scipy", "jax", "ml_dtypes")}
    print(", ".join(f"{name} {value}" for name, value in {**machine(), **peers}.items()))
    print(
        f"{rounds} rounds, {min(rounds, SLOW_ROUNDS)} of a peer's call above {SLOW} s. {THREADS} threads for "
        "sums, copies, Logitext and JAX (on the CPU, compiled before); NumPy and SciPy have 1.",
        flush=True,
    )
    vector = vector_of_4(rounds)
    each_call = (f"{name} {1e9 * s[1]:.0f} ns" for name, s in vector["seconds_best_median"].items())
    print("\nsoftmax of a vector of 4, median: " + ", ".join(each_call), flush=True)
    results: dict[str, Any] = {
        "level": _core.simd_level(),
        "peers": {**peers, "jax_threads": THREADS},
        "rounds": rounds,
        "vector_of_4": vector,
        "half_precision": half_precision(rounds),
        "shapes": {named(shape): measure(shape, rounds) for shape in LARGE + SMALL},
        "levels": other_levels(rounds),
    }
    rows = must_show(results)
    results["must_show"] = [dict(zip(("what", "got", "asked", "holds"), row, strict=True)) for row in rows]
    print(f"\n{_core.simd_level()}; of several cases the worst")
    for what, got, asked, holds in [("what", "got", "asked", None), *rows]:
        print(f"{what:66}{got:50}{asked:27}{ {True: 'holds', False: 'MISSES', None: ''}[holds] }")
    results["seconds"] = time.perf_counter() - start
    results["cpus_used_by_others"] = (used_by_others() - others) / results["seconds"]
    print(
        f"{sum(row[3] is False for row in rows)} miss; {results['seconds']:.0f} s, in which other programs ",
        end="",
    )
    print(f"had {results['cpus_used_by_others']:.2f} CPUs")
    if results["cpus_used_by_others"] > 0.05 * THREADS:
        print("They disturbed the times: measure again on a quiet machine.")
    if not given.quick:
        store("logits", json.loads(json.dumps(results), parse_float=lambda x: float(f"{float(x):.4g}")))


if __name__ == "__main__":
    main()
