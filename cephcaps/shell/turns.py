"""How much of what sockets bring is taken in before everybody else of the event loop has a turn.

A loop calls whatever is ready, however much that is: a peer that says much at once, or many that say little, would keep
all tasks waiting until the last byte is worked on. Nor would that be faster: who is answered early in it goes on asking
while the rest is read, and the peers are never without work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

__all__ = ["Turns"]

TakeIn: TypeAlias = Callable[[bytes], None]

PIECE = 16384
"""Bytes of a turn, of all sockets together: a dozen replies, some milliseconds."""


class Turns:
    """Of one event loop."""

    def __init__(self) -> None:
        self._left = PIECE  # of this turn; more than nothing only while nobody waits
        self._next_is_due = False
        self._waiting: deque[tuple[TakeIn, bytes, Callable[[], None]]] = deque()

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> Turns:
        """That which all sockets of ``loop`` share."""
        return _TURNS.get(loop) or _TURNS.setdefault(loop, Turns())

    def take(self, take_in: TakeIn, data: bytes, done: Callable[[], None]) -> bool:
        """Call ``take_in`` with ``data``, as far as there is room in this turn; whether that was all of it.

        The rest is given to it in turns to come, after what waits already, and then ``done`` is called.
        """
        left = self._left
        self._left = max(left - len(data), 0)
        if not self._next_is_due:
            self._next_is_due = True
            asyncio.get_running_loop().call_soon(self._next)
        if len(data) <= left:
            take_in(data)
            return True
        self._waiting.append((take_in, data[left:], done))
        if left:
            take_in(data[:left])
        return False

    def _next(self) -> None:
        """A new turn: what has waited comes first."""
        waiting = self._waiting
        self._left = PIECE
        self._next_is_due = bool(waiting)
        if waiting:
            asyncio.get_running_loop().call_soon(self._next)
        while waiting and self._left:
            take_in, data, done = waiting.popleft()
            left, self._left = self._left, max(self._left - len(data), 0)
            if len(data) > left:
                waiting.appendleft((take_in, data[left:], done))
                take_in(data[:left])
            else:
                take_in(data)
                done()


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()
