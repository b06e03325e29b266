"""Commands timed in turn (A B A B …), so that a machine whose speed drifts drifts for both."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from logitext import _core

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LOGITEXT_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class Timed:
    """Seconds of each run of a command."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def run(command: list[str]) -> float:
    """Run a command to its end; its wall time. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def in_turn(runs: int, *commands: list[str]) -> list[Timed]:
    """Time commands in turn, after one round that does not count."""
    rounds = [[run(command) for command in commands] for _ in range(runs + 1)][1:]
    return [Timed(list(seconds)) for seconds in zip(*rounds, strict=True)]


def ratio(a: Timed, b: Timed) -> float:
    """The median over rounds of a's time over b's."""
    return statistics.median(x / y for x, y in zip(a.seconds, b.seconds, strict=True))


def machine() -> dict[str, Any]:
    """What was measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    except OSError:
        pass
    packages = ("numpy", "pyarrow", "scikit-learn", "logitext")
    return {
        "cpu": model,
        "cpus": _core.available_threads(),
        "simd": _core.simd_level(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def store(name: str, results: dict[str, Any]) -> None:
    """Keep the results under benches/results, by date."""
    path = ROOT / "benches" / "results" / f"{date.today()}-{name}.json"
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    print(f"stored in {path.relative_to(ROOT)}", file=sys.stderr)
