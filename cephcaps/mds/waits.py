"""Waiting until changes are safe: flushes acknowledged, requests durable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cephcaps.engine.engine import Engine
from cephcaps.mds.requests import Request, Requests

__all__ = ["Wait", "Waits"]


@dataclass(slots=True)
class Wait:
    """One caller's wait: for data, then for what is known of them.

    Attributes:
        ino: the inode whose changes he waits for; 0 for all.
        since: when he began: data written later are not his.
        request_tid, flush_tid: the newest of each he waits for; -1 until the data are with the OSDs.
    """

    token: int
    ino: int
    since: float
    request_tid: int
    deadline: float
    flush_tid: int = -1


class Waits:
    """All callers that wait for safety; few, so each is looked at whenever something became safe."""

    def __init__(self, engine: Engine, requests: Requests) -> None:
        self._engine = engine
        self._requests = requests
        self._waiting: dict[int, Wait] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, wait: Wait) -> None:
        self._waiting[wait.token] = wait

    def cancel(self, token: int) -> None:
        self._waiting.pop(token, None)

    def need(self, request: Request) -> bool:
        """Whether somebody waits for ``request`` to be durable."""
        return any(
            request.tid <= wait.request_tid and (not wait.ino or wait.ino in request.inos)
            for wait in self._waiting.values()
        )

    def written(self) -> Iterator[Wait]:
        """Those whose data have come to the OSDs, and who have not gone on from there."""
        for wait in list(self._waiting.values()):
            if wait.flush_tid < 0 and not self._engine.unwritten(wait.ino, wait.since):
                yield wait

    def over(self) -> Iterator[Wait]:
        """Those with nothing left to wait for; they are forgotten."""
        for wait in list(self._waiting.values()):
            if wait.flush_tid >= 0 and not self._engine.flushing(wait.ino, wait.flush_tid) and not self._unsafe(wait):
                del self._waiting[wait.token]
                yield wait

    def on(self, inos: set[int]) -> Iterator[Wait]:
        """Those that wait for one of ``inos``, or for all; they are forgotten."""
        for wait in list(self._waiting.values()):
            if not wait.ino or wait.ino in inos:
                del self._waiting[wait.token]
                yield wait

    def expired(self, now: float) -> Iterator[tuple[Wait, str]]:
        """Those whose time is up, with what they still wait for; they are forgotten."""
        for wait in list(self._waiting.values()):
            if wait.deadline <= now:
                del self._waiting[wait.token]
                unsafe = self._unsafe(wait)
                flush = f"the acknowledgement of flush {self._engine.flushes.oldest_tid}"
                if wait.flush_tid < 0:
                    flush = "the data handler's writeback"
                yield wait, f"the safe reply to {unsafe}" if unsafe else flush

    def next_deadline(self) -> float:
        return min((wait.deadline for wait in self._waiting.values()), default=float("inf"))

    def _unsafe(self, wait: Wait) -> object:
        return self._requests.unsafe(wait.ino, wait.request_tid)
