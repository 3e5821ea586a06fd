"""Which monitor to try next, and when.

A round goes through all monitors in random order, so that clients spread over them; a round that led nowhere is
followed by a longer pause, and by more patience with each monitor. Source: ceph: src/mon/MonClient.cc
(``_reopen_session``, ``_add_conns``), src/common/options (``mon_client_hunt_*``, ``ms_initial_backoff``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cephwire.entity import EntityAddr

__all__ = ["Hunt"]

FIRST_PAUSE = 0.2
"""Seconds between rounds, at first (``ms_initial_backoff``)."""
BACKOFF = 1.5
"""Each round that failed makes pause and patience this much longer (``mon_client_hunt_interval_backoff``)."""
MAX_WAIT = 15.0
"""Seconds that neither pause nor patience exceed (``ms_max_backoff``)."""


class Hunt:
    """The order of attempts; who makes them tells what came of each.

    Args:
        patience: seconds a monitor is given to let us in, at first.
        fraction: gives random numbers from 0 up to 1.

    Attributes:
        due: when the next attempt is to be made.
        patience: seconds the next monitor is given.
    """

    def __init__(self, patience: float, fraction: Callable[[], float]) -> None:
        self.due: float = 0.0
        self.patience: float = patience
        self._first_patience = patience
        self._fraction = fraction
        self._pause = FIRST_PAUSE
        self._pause_once_broken = FIRST_PAUSE
        self._queue: list[EntityAddr] = []  # the last is next
        self._last_resort: EntityAddr | None = None

    @property
    def round_over(self) -> bool:
        """Whether every monitor has had its turn."""
        return not self._queue

    def pick(self, known: Iterable[EntityAddr]) -> EntityAddr:
        """Whose turn it is; ``known`` are those to go through in a new round."""
        if not self._queue:
            self._queue = sorted(known, key=lambda addr: (addr != self._last_resort, self._fraction()))
        return self._queue.pop()

    def failed(self, now: float) -> None:
        """The attempt led nowhere: the next monitor at once, or another round after a pause."""
        if self._queue:
            self.due = now
        else:
            self._rest(now)

    def again(self, now: float) -> None:
        """Something else is to be tried with every monitor, and at once."""
        self._queue.clear()
        self.due = now

    def refused(self, now: float) -> None:
        """No monitor lets us in, and none will until somebody changes that: go on as slowly as ever."""
        self._queue.clear()
        self._pause = MAX_WAIT
        self._rest(now)

    def broke(self, addr: EntityAddr, stood: float, now: float) -> None:
        """A monitor that had let us in is lost after ``stood`` seconds: the others come first, and at once unless that
        happens again and again."""
        self._queue.clear()
        self._last_resort = addr
        self.patience = self._first_patience
        if stood >= self.patience:
            self._pause = self._pause_once_broken = FIRST_PAUSE
            self.due = now
        else:
            self._pause = self._pause_once_broken
            self._rest(now)
            self._pause_once_broken = self._pause

    def _rest(self, now: float) -> None:
        """For at least half the pause: clients that lost a monitor together do not return together."""
        self.due = now + self._pause * (1 + self._fraction()) / 2
        self._pause = min(self._pause * BACKOFF, MAX_WAIT)
        self.patience = min(self.patience * BACKOFF, max(MAX_WAIT, self._first_patience))
