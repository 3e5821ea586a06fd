"""Running a command's coroutine, so that whatever ends it closes its sessions first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

__all__ = ["run"]

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(main: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """What ``main(*args)`` returns.

    Raises:
        click.exceptions.Exit: a signal cancelled it, and the client it had entered is closed. The code is what a shell
            reports of a program that the signal ended, such as 130 for Ctrl-C.
    """
    import asyncio

    caught: list[int] = []

    async def watched() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            caught.append(number)
            task.cancel()  # a second time, this cuts the closing short

        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, end, number)
        return await main(*args)

    try:
        return asyncio.run(watched())
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise click.exceptions.Exit(128 + (caught[0] if caught else signal.SIGINT)) from None
