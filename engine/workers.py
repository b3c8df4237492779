"""Work that is shared out among threads, a few pieces ahead, and waited for as a job waits."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures import wait as wait_for_all
from contextlib import contextmanager
from typing import TypeVar

P = TypeVar("P")
S = TypeVar("S")
T = TypeVar("T")

_PATIENCE_S = 0.05  # the longest time between two steps of a job, with some room


@contextmanager
def threads(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that at the end finish what they are at, and begin nothing more."""
    pool = ThreadPoolExecutor(number, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[P], T], pieces: Iterable[P], n_ahead: int
) -> Iterator[tuple[P, Future[T]]]:
    """Start `work` on up to `n_ahead` pieces and hand them out in order: that bounds the memory."""
    started: deque[tuple[P, Future[T]]] = deque()
    try:
        for piece in pieces:
            started.append((piece, pool.submit(work, piece)))
            if len(started) == n_ahead:
                yield started.popleft()
        while started:
            yield started.popleft()
    finally:
        for _, future in started:
            future.cancel()


def wait(
    future: Future[T], said: S, interrupt: Callable[[], None] | None = None
) -> Generator[S, None, T]:
    """What `future` returns; yields `said` again and again until it does.

    When the generator is closed the work is asked to `interrupt`, again and again too: one that
    only now begins forgets it.
    """
    try:
        while True:
            try:
                return future.result(_PATIENCE_S)
            except NotYet:
                yield said
    finally:
        while interrupt and not future.done():
            interrupt()
            wait_for_all([future], _PATIENCE_S)


def n_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
