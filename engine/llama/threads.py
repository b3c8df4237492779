"""How many threads compute: every physical core, or one fewer while another program needs one.

ggml's threads meet after every operation and wait there by spinning. Where one has lost its core,
all wait: with as many threads as cores, one busy neighbour can make writing ten times slower, with
one thread fewer hardly at all. How busy a computer is changes by the minute, so the pace of the
tokens decides, not a figure measured once.
"""

from __future__ import annotations

import os
from collections import deque

import psutil

RECENT = 8
"""Tokens whose mean is the pace."""
FIRST_TRIAL = 3
TRIAL = 3
"""Tokens that a trial of the other count takes."""
SLOWED = 1.5
"""A pace this much slower than it was is worth a trial."""
HOPELESS = 3.0
BETTER = 0.9
FORGETTING = 1.001
"""The best pace fades by this with each token: a longer conversation is slower by nature."""
SHORTEST_WAIT, LONGEST_WAIT = 32, 512


def default_n_threads() -> int:
    """Return the number of physical cores this process may use.

    A second thread on a core only waits for the first: both need the same memory bandwidth.
    """
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return cores


class ThreadCount:
    """`n` is the count for the next token. Hears of every token, and at times tries another count.

    Trials: one soon after the start; with all cores, when the pace drops; with one fewer, now and
    then, to go back. After one that brought nothing the next is twice as far away.
    """

    def __init__(self, most: int) -> None:
        self.n = most
        self._most = most
        self._fewer = max(1, most - 1)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._best = float("inf")
        self._trial: list[float] | None = None
        self._wait = FIRST_TRIAL
        self._next_wait = SHORTEST_WAIT

    def note(self, seconds: float) -> None:
        """Count a token that was written with `n` threads in `seconds`."""
        if self._most == self._fewer:
            return
        if self._trial is not None:
            self._trial.append(seconds)
            self._judge(self._trial)
            return
        self._recent.append(seconds)
        self._wait -= 1
        pace = _mean(self._recent)
        is_known = len(self._recent) == RECENT
        is_slow = _mean(sorted(self._recent)[:-1] or [0.0]) > SLOWED * self._best  # not one alone
        if self.n == self._most and is_known:
            self._best = min(self._best * FORGETTING, pace)
        is_first = self._best == float("inf")
        is_due = self._wait <= 0 and (is_first or is_slow or self.n == self._fewer)
        if is_due or self._has_collapsed():
            self._trial = []
            self._swap()

    def _has_collapsed(self) -> bool:
        """Whether all cores have become hopeless, token after token: then there is no waiting."""
        latest = list(self._recent)[-TRIAL:]
        return (
            self.n == self._most
            and self._next_wait <= 2 * SHORTEST_WAIT  # the trials of late brought something
            and len(latest) == TRIAL
            and min(latest) > HOPELESS * self._best
        )

    def _judge(self, trial: list[float]) -> None:
        """End the trial once it is long enough, or so slow that nothing can come of it."""
        pace = _mean(self._recent)
        if len(trial) < TRIAL and trial[-1] < HOPELESS * pace:
            return
        self._trial = None
        if self.n == self._fewer:
            self._best = min(self._best, pace)  # what all cores did just before
        if _mean(trial) < BETTER * pace:
            self._recent.clear()
            self._next_wait = SHORTEST_WAIT
        else:
            self._swap()
            self._next_wait = min(2 * self._next_wait, LONGEST_WAIT)
        self._wait = self._next_wait

    def _swap(self) -> None:
        self.n = self._fewer if self.n == self._most else self._most


def _mean(values: deque[float] | list[float]) -> float:
    return sum(values) / len(values)
