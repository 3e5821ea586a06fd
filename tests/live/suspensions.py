"""Where a coroutine suspends, one point after the other, and what it awaits there."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CodeType, FunctionType, TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["Point", "Suspensions", "public_coroutines"]

T = TypeVar("T")
Point = asyncio.Future[Any] | None
"""What a task waits for; None where it only lets the others have their turn."""
BUILTIN_HOOKS = ("__aenter__", "__aexit__", "__anext__")
AWAITS = ("GET_AWAITABLE", "GET_ANEXT")


class Suspensions(Generic[T]):
    """Awaits ``coroutine``, and tells of each time it suspends.

    Args:
        resumes: called just before it goes on towards its n-th suspension, n = 1, 2 ...; what it returns is
            awaited first.
        suspended: called as it suspends for the n-th time, with what it awaits, before the task waits for that.

    Attributes:
        count: how often it has suspended.
        ended_in: functions through which what ended it came, innermost last; empty while nothing was raised.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        resumes: Callable[[int], Awaitable[Any] | None] = lambda n: None,
        suspended: Callable[[int, Point], None] = lambda n, point: None,
    ) -> None:
        self._coroutine = coroutine
        self._resumes = resumes
        self._suspended = suspended
        self.count = 0
        self.ended_in: list[CodeType] = []

    def __await__(self) -> Generator[Any, None, T]:
        step: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            gate = self._resumes(self.count + 1)
            if gate is not None:
                yield from gate.__await__()
            try:
                point = step()
            except StopIteration as end:
                result: T = end.value
                return result
            except BaseException as error:
                self.ended_in = _functions(error.__traceback__)
                raise
            self.count += 1
            self._suspended(self.count, point)
            try:
                yield point
            except BaseException as error:
                step = functools.partial(self._coroutine.throw, error)
            else:
                step = functools.partial(self._coroutine.send, None)


def _functions(traceback: TracebackType | None) -> list[CodeType]:
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return found


def public_coroutines(*classes: type) -> dict[str, CodeType]:
    """All that one can await of these classes and that awaits something itself, as ``Class.method``."""
    return {
        f"{one.__name__}.{name}": found.__code__
        for one in classes
        for name, found in inspect.getmembers(one, inspect.isfunction)
        if (name in BUILTIN_HOOKS or not name.startswith("_")) and _suspends(found)
    }


def _suspends(function: FunctionType) -> bool:
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        return False
    return any(step.opname in AWAITS for step in dis.get_instructions(function))
