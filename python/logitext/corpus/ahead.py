"""Work that overlaps: what is read ahead, and what is done side by side but handed on in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["in_order", "read_ahead"]

T = TypeVar("T")
R = TypeVar("R")
_END = object()


def read_ahead(items: Iterable[T], most: int) -> Generator[T, None, None]:
    """Give what an iterator gives, which runs in a thread of its own and is at most so many items ahead.

    An error comes where the iterator raised it. Whoever stops early closes the generator: the thread
    ends with the item it has at hand.

    Examples
    --------
    >>> list(read_ahead(iter("abc"), 1))
    ['a', 'b', 'c']
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(_END)
        except BaseException as error:
            put(_END, error)

    thread = threading.Thread(target=run, daemon=True, name="reader")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def in_order(work: Callable[[T], R], items: Iterable[T], executor: Executor, most: int) -> Iterator[R]:
    """Give the results of work on items, in their order, at most so many of them begun and not handed on.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(in_order(abs, iter([-3, 2, -1]), pool, 2))
    [3, 2, 1]
    """
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(executor.submit(work, item))
            if len(begun) >= most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
