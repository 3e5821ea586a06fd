"""Events on their way to whoever listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from cephcaps.events import CapEvent, Event, EventsDropped, RequestEvent

__all__ = ["EventQueue", "Listener"]


class Listener(Protocol):
    """Is told what happens, in the callback in which it does: it must neither wait nor raise.

    Attributes:
        requests: whether it wants to hear of requests, too.
    """

    requests: bool

    def put(self, events: Sequence[Event]) -> None: ...

    def end(self) -> None:
        """No more will come."""


class EventQueue:
    """One listener's events, the newest ``limit`` of them; what overflows is counted, never waited for.

    Args:
        types: classes of events wanted; None for all but those about requests.
        ino: only those about this inode, and those about none.
    """

    def __init__(self, types: tuple[type[Event], ...] | None, ino: int | None, limit: int) -> None:
        self.requests: bool = types is not None and any(issubclass(kind, RequestEvent) for kind in types)
        self._types = types
        self._ino = ino
        self._queue: deque[Event] = deque()
        self._limit = limit
        self._dropped = 0
        self._waiting: asyncio.Future[None] | None = None
        self._ended = False

    def put(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, self._types) if self._types is not None else isinstance(event, RequestEvent):
                continue
            if self._ino is not None and isinstance(event, CapEvent | RequestEvent) and event.ino != self._ino:
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
