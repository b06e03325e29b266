"""fastText files edited at random for an hour: refused by a sentence or answered, soon, in bounded memory.

    python -m benches.soak_fasttext --minutes 60

A process of its own reads and asks the files, so that a crash is seen; it has a limit on its memory.
"""

import argparse
import contextlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fasttext_oracle import KINDS, make

import logitext as lt

MEMORY = 1 << 30
"""Bytes of address space over what an idle process has: the files have kilobytes."""
SECONDS = 20
TEXTS = ["", "the cat sat on 日本", "__label__l0 </s> x", "a " * 50, "x" * 200]
ENDS = [
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\xff" * 7 + b"\x7f",
]


def edited(rng: random.Random) -> bytes:
    """A small model of some kind, with a few bytes changed, moved, left out or doubled."""
    data = bytearray(make(rng.randrange(3), **KINDS[rng.choice(sorted(KINDS))]).to_bytes())
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        place = rng.randrange(min(len(data), rng.choice([72, 400, len(data)])))
        how = rng.random()
        if how < 0.6:
            value = rng.choice(ENDS)
            data[place : place + len(value)] = value
        elif how < 0.8:
            data[place] ^= 1 << rng.randrange(8)
        elif how < 0.9:
            del data[place : place + rng.choice([1, 4, 8, 100])]
        else:
            data[place:place] = data[place : place + rng.choice([1, 4, 8, 100])]
    return bytes(data)


def work(seed: int, minutes: float) -> None:
    """Ask edited files until the time is over; print how many were refused and how many answered."""
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    rng, until = random.Random(seed), time.monotonic() + 60 * minutes
    refused = answered = 0
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edited.bin"
        while time.monotonic() < until:
            path.write_bytes(edited(rng))
            start = time.monotonic()
            try:
                clf = lt.load(path)
                clf.threads = 1
                clf.logits(TEXTS)
                clf.predict(TEXTS)
                clf.explain(TEXTS[1])
                answered += 1
            except ValueError as error:
                refused += 1
                if not str(error) or "\n" in str(error):
                    sys.exit(f"not a sentence: {error!r}")
            slowest = max(slowest, time.monotonic() - start)
            if slowest > SECONDS:
                sys.exit(f"one took {slowest:.0f} s")
    print(
        f"{refused + answered:,} files: {refused:,} refused, {answered:,} answered, slowest {slowest:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        with contextlib.suppress(KeyboardInterrupt):
            work(arguments.seed, arguments.minutes)
        return
    command = [sys.executable, "-W", "ignore", "-m", "benches.soak_fasttext", "--work"]
    done = subprocess.run(
        [*command, "--minutes", str(arguments.minutes), "--seed", str(arguments.seed)], check=False
    )
    sys.exit(f"it ended with {done.returncode}" if done.returncode else 0)


if __name__ == "__main__":
    main()
