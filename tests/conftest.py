"""What `make test` needs to run tests on all cores: `pytest -n`, of pytest-xdist."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Keep each process of pytest-xdist to a core of its own, and so all that its tests start.

    Training uses every core it may, and its threads wait for each other by spinning: two trainings on two
    cores, each with two threads, take several times as long as one after the other. Tests that are about
    threads, or that measure time, are marked `alone`: they run by themselves and may use every core.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
