"""``cephcaps hold``: keep files open and watch their caps come and go."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.options import CephCommand, Settings, absolute_path, global_options
from cephcaps.cli.output import emit
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from cephcaps.events import Event

__all__ = ["hold"]

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
HOW = {"r": "r", "w": "a", "rw": "r+"}
"""How to open for each mode; nothing is cut or refused because it exists."""


def duration(value: str) -> float:
    """Type of an option: a time such as 10s, 500ms, 2m; seconds without a unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", value.strip())
    if not found or not float(found[1]):
        raise click.BadParameter(f"{value!r} is no time: write 10s, 500ms, 2m or 1h")
    return float(found[1]) * UNITS[found[2] or "s"]


@click.command(cls=CephCommand)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=absolute_path)
@click.option(
    "--mode",
    type=click.Choice(list(HOW)),
    default="r",
    help="Open for reading (r), writing (w; makes the file) or both (rw).",
)
@click.option(
    "--for", "seconds", metavar="TIME", type=duration, help="How long, such as 10s or 2m; until Ctrl-C if not said."
)
@global_options()
@click.pass_obj
def hold(settings: Settings, paths: tuple[str, ...], mode: str, seconds: float | None) -> int:
    """Open files and hold them, telling each grant, revoke, acknowledgement, flush and release as it happens.

    Plain output has the seconds since the start, the path, what happened to which bits, and what may be done since.
    JSON is one object a line.

    \b
      cephcaps hold /some/file --mode w --for 10s
    """
    run(_hold, settings, paths, mode, seconds)
    return 0


async def _hold(settings: Settings, paths: tuple[str, ...], mode: str, seconds: float | None) -> None:
    import asyncio

    began = time.monotonic()
    async with settings.connect() as client:
        names: dict[int, str] = {}
        with client.events() as events:
            async with AsyncExitStack() as stack:
                for path in paths:
                    file = await stack.enter_async_context(client.open(path, HOW[mode]))
                    names[file.ino] = path
                watching = asyncio.create_task(_tell(settings, events, names, began))
                try:
                    await asyncio.wait([watching], timeout=seconds)
                finally:
                    watching.cancel()
            for path in paths:
                client.release(path)
            for event in events.drain():
                _say(settings, event, names, began)


async def _tell(settings: Settings, events: Any, names: dict[int, str], began: float) -> None:
    async for event in events:
        _say(settings, event, names, began)


def _say(settings: Settings, event: Event, names: dict[int, str], began: float) -> None:
    """One line for ``event``, unless it is about something we were not asked to hold."""
    from cephcaps.events import CapEvent, to_json

    if isinstance(event, CapEvent) and event.ino not in names:
        return
    if settings.format != "plain":
        emit(to_json(event).decode() + "\n")
        return
    at = f"{time.monotonic() - began:9.3f}"
    if isinstance(event, CapEvent):
        did = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__.removeprefix("Cap")).lower()
        emit(f"{at}  {names[event.ino]}  {did} {event.caps}  now {event.issued}  seq {event.seq} rank {event.rank}\n")
    else:
        emit(f"{at}  {to_json(event).decode()}\n")
