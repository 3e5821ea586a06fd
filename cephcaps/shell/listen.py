"""Events on their way to whoever listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from cephcaps.events import CapEvent, Event, EventsDropped

__all__ = ["EventQueue"]


class EventQueue:
    """One listener's events, the newest ``limit`` of them; what overflows is counted, never waited for.

    Args:
        types: classes of events wanted; None for all.
        ino: only those about this inode, and those about none.
    """

    def __init__(self, types: tuple[type[Event], ...] | None, ino: int | None, limit: int) -> None:
        self._types = types
        self._ino = ino
        self._queue: deque[Event] = deque()
        self._limit = limit
        self._dropped = 0
        self._waiting: asyncio.Future[None] | None = None
        self._ended = False

    def put(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._types is not None and not isinstance(event, self._types):
                continue
            if self._ino is not None and isinstance(event, CapEvent) and event.ino != self._ino:
                continue
            if len(self._queue) >= self._limit:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append(event)
        self._wake()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._wake()

    def drain(self) -> list[Event]:
        """All there is now."""
        found = [*self._overflow(), *self._queue]
        self._queue.clear()
        return found

    async def next(self) -> Event | None:
        """The next event; None once the client is closed."""
        while not self._queue:
            if self._ended:
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return next(iter(self._overflow()), None) or self._queue.popleft()

    def _overflow(self) -> list[Event]:
        dropped, self._dropped = self._dropped, 0
        return [EventsDropped(count=dropped)] if dropped else []

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
