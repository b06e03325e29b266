"""Counts that all workers share, in memory that outlives each of them, and their text for Prometheus."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

ROUTES = ("/predict", "/models", "/v2", "/health", "/ready", "/metrics", "/", "other")
CODES = (200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 424, 429, 431, 500, 503, 0)
"""0 stands for all others."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends, in seconds."""

_OF_CODES = len(ROUTES) * len(CODES)
_OF_TIMES = len(ROUTES) * (len(BUCKETS) + 2)  # counts by bucket, beyond the last, and the sum
_TEXTS, _BYTES, _AT_HAND = range(_OF_CODES + _OF_TIMES, _OF_CODES + _OF_TIMES + 3)
_WIDTH = _AT_HAND + 1
_ROUTE = {name: number for number, name in enumerate(ROUTES)}
_CODE = {code: number for number, code in enumerate(CODES)}

RESTARTS, RELOADS, REFUSED = range(3)
"""What the supervisor counts: workers started anew, models swapped, model files refused."""


class Metrics:
    """A row of counts for each worker, and one for the supervisor; each writes its own only.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, 8 * _WIDTH * (workers + 1))
        self._counts = memoryview(self._memory).cast("d")
        self._first = 0

    def of_worker(self, number: int) -> Metrics:
        """Return the same counts, to be added to as that worker, who has no request at hand yet."""
        mine = object.__new__(Metrics)
        mine.__dict__ = {**self.__dict__, "_first": _WIDTH * (number + 1)}
        mine._counts[mine._first + _AT_HAND] = 0.0
        return mine

    def begin(self) -> None:
        """Count a request as at hand."""
        self._counts[self._first + _AT_HAND] += 1

    def end(self, route: str, status: int, seconds: float, texts: int, received: int) -> None:
        """Count a request as answered."""
        counts, first, place = self._counts, self._first, _ROUTE[route]
        counts[first + place * len(CODES) + _CODE.get(status, len(CODES) - 1)] += 1
        times = first + _OF_CODES + place * (len(BUCKETS) + 2)
        bucket = 0
        while bucket < len(BUCKETS) and seconds > BUCKETS[bucket]:
            bucket += 1
        counts[times + bucket] += 1
        counts[times + len(BUCKETS) + 1] += seconds
        counts[first + _TEXTS] += texts
        counts[first + _BYTES] += received
        # Last: who sees no other request at hand sees all of them counted.
        counts[first + _AT_HAND] -= 1

    def count(self, what: int) -> None:
        """Count one of `RESTARTS`, `RELOADS`, `REFUSED`."""
        self._counts[what] += 1

    def _sum(self, at: int) -> float:
        return sum(self._counts[_WIDTH * (worker + 1) + at] for worker in range(self.workers))

    def text(self) -> str:
        """Return the sums over workers in the text format 0.0.4 of Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# HELP logitext_requests_total Requests answered, by route and status."
        yield "# TYPE logitext_requests_total counter"
        for place, route in enumerate(ROUTES):
            for number, code in enumerate(CODES):
                if total := self._sum(place * len(CODES) + number):
                    labels = f'route="{route}",code="{code or "other"}"'
                    yield f"logitext_requests_total{{{labels}}} {total:.0f}"
        yield "# HELP logitext_request_seconds Time from the end of a request's headers to its answer."
        yield "# TYPE logitext_request_seconds histogram"
        for place, route in enumerate(ROUTES):
            times = _OF_CODES + place * (len(BUCKETS) + 2)
            counts = [self._sum(times + bucket) for bucket in range(len(BUCKETS) + 1)]
            if not any(counts):
                continue
            below = 0.0
            for end, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                below += count
                yield f'logitext_request_seconds_bucket{{route="{route}",le="{end}"}} {below:.0f}'
            yield f'logitext_request_seconds_sum{{route="{route}"}} {self._sum(times + len(BUCKETS) + 1):.6f}'
            yield f'logitext_request_seconds_count{{route="{route}"}} {below:.0f}'
        for name, kind, said, total in (
            ("texts_total", "counter", "Texts answered.", self._sum(_TEXTS)),
            ("received_bytes_total", "counter", "Bytes of request bodies.", self._sum(_BYTES)),
            ("requests_at_hand", "gauge", "Requests not yet answered.", self._sum(_AT_HAND)),
            ("workers", "gauge", "Worker processes.", float(self.workers)),
            ("worker_restarts_total", "counter", "Workers started anew.", self._counts[RESTARTS]),
            ("reloads_total", "counter", "Models swapped for newer ones.", self._counts[RELOADS]),
            ("reloads_refused_total", "counter", "Model files refused.", self._counts[REFUSED]),
        ):
            yield f"# HELP logitext_{name} {said}"
            yield f"# TYPE logitext_{name} {kind}"
            yield f"logitext_{name} {total:.0f}"
