"""Waiting for a state, with a limit: never a fixed sleep as the check."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["InThread", "until", "wait_until"]

T = TypeVar("T")
PAUSE = 0.02
"""Seconds between two looks."""


def wait_until(probe: Callable[[], T], what: str, *, within: float = 30.0) -> T:
    """Call ``probe`` until it returns something true, and return that.

    Raises:
        TimeoutError: it never did; the message holds ``what`` and the last value seen.
    """
    deadline = time.monotonic() + within
    while not (seen := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}; last seen: {seen!r}")
        time.sleep(PAUSE)
    return seen


async def until(probe: Callable[[], T | Awaitable[T]], what: str, *, within: float = 30.0) -> T:
    """As ``wait_until``, with the event loop free between two looks; ``probe`` may be a coroutine function."""
    deadline = time.monotonic() + within
    while True:
        found = probe()
        seen: Any = await found if isinstance(found, Awaitable) else found
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(PAUSE)


class InThread:
    """An object's methods as coroutines, each run in a thread.

    A test whose own client must answer meanwhile (a peer's stat revokes our caps) may not block the event loop.
    """

    def __init__(self, of: object) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return functools.partial(asyncio.to_thread, getattr(self._of, name))
