"""``cephcaps top``: sessions, their caps and what is asked back, as the MDSs count them, live."""

from __future__ import annotations

import heapq
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.options import CephCommand, Settings, global_options, seconds
from cephcaps.cli.output import emit, emit_json, escaped, on_terminal
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from cephcaps.client import Client

__all__ = ["top"]

SORTS = {"caps": "c", "recall": "r", "release": "e", "acquire": "a", "load": "l", "ops": "o"}
"""What rows may be sorted by, the most first; and the key for it."""
COLUMNS = (
    "{client:>12} {rank:>4} {state:<6.6} {caps:>8} {recall:>7} {release:>7} {acquire:>7} {load:>5} {ops:>4}  {where}"
)
"""64 columns and the host."""
CLEAR, HIDE, SHOW = "\x1b[H\x1b[2J", "\x1b[?25l", "\x1b[?25h"


@dataclass(frozen=True)
class Row:
    """A session."""

    rank: int
    client: int
    state: str
    caps: int
    recall: float
    """Caps asked back, a counter that halves in a minute (ceph: ``mds_recall_warning_decay_rate``); so are the next."""
    release: float
    """Caps given back."""
    acquire: float
    """Caps got by listing directories, of 30 s (``mds_session_cap_acquisition_decay_rate``)."""
    load: float
    """Requests a second, about."""
    ops: int
    """Requests in the MDS's hands."""
    leases: int
    host: str
    root: str
    entity: str


@dataclass(frozen=True)
class Rank:
    """A rank as a whole."""

    rank: int
    name: str
    sessions: int
    caps: int
    ops: int
    blocked: int
    """Of these, waiting for caps of others."""
    oldest_s: float
    """Age of the oldest of these; 0 if there is none."""
    cache_bytes: int


@dataclass(frozen=True)
class View:
    """All there is to show."""

    fs: str
    epoch: int
    ranks: list[Rank]
    rows: list[Row]


@click.command(cls=CephCommand)
@click.option("--sort", type=click.Choice(list(SORTS)), default="caps", show_default=True, help="The most first.")
@click.option("--every", metavar="S", type=seconds, default="2", help="Seconds between looks; 2.")
@click.option("--once", is_flag=True, help="Look once and print all, for scripts.")
@global_options()
@click.pass_obj
def top(settings: Settings, sort: str, every: float, once: bool) -> int:
    """Watch the MDSs' sessions: caps held, asked back, given back; requests that wait.

    \b
      cephcaps top --sort recall
      cephcaps top --once -f json

    Keys: c caps, r recalled, e released, a acquired, l load, o requests; q ends. recall, release and acquire are
    counters that fade away. JSON is one object a look: ranks and rows. The key needs `mds 'allow *'`.
    """
    run(_top, settings, sort, every, once or settings.format != "plain" or not on_terminal())
    return 0


async def _top(settings: Settings, sort: str, every: float, once: bool) -> None:
    async with settings.connect(mount=False) as client:
        if once:
            view = await look(client)
            if settings.format == "plain":
                emit("".join(f"{line}\n" for line in page(view, sort, 10_000, None)))
            else:
                emit_json(asdict(view), pretty=settings.pretty)
            return
        await _watch(client, sort, every)


async def _watch(client: Client, sort: str, every: float) -> None:
    """Draw until q is pressed."""
    import asyncio

    pressed: asyncio.Queue[str] = asyncio.Queue()
    with keys(pressed.put_nowait):
        view, due = await look(client), every
        while True:
            width, height = shutil.get_terminal_size()
            emit(CLEAR + "\r\n".join(page(view, sort, width, height)))
            try:
                key = await asyncio.wait_for(pressed.get(), due)
            except TimeoutError:
                view = await look(client)
                continue
            if key == "q":
                return
            sort = next((name for name, of in SORTS.items() if of == key), sort)


async def look(client: Client) -> View:
    """Ask all ranks."""
    from cephcaps.cli.mds_view import active_ranks, asked, sessions, waiting

    ranks, rows = [], []
    for rank in active_ranks(client):
        seen = await sessions(client, rank)
        ops = await waiting(client, rank)
        blocked = [op for op in ops if op.blocked]
        cache = (await asked(client, rank, "cache status"))["pool"]["bytes"]
        mine = [_row(rank, one) for one in seen.values() if one.id != client.global_id]
        rows += mine
        name = client.mds_map.mds_info[client.mds_map.up[rank]].name
        caps = sum(row.caps for row in mine)
        oldest = blocked[0].age if blocked else 0.0
        ranks.append(Rank(rank, name, len(mine), caps, len(ops), len(blocked), round(oldest, 3), cache))
    return View(client.fs_name, client.mds_map.epoch, ranks, rows)


def _row(rank: int, seen: Any) -> Row:
    facts = seen.facts

    def fading(name: str) -> float:
        return round(float(facts.get(name, {}).get("value", 0.0)), 1)

    return Row(
        rank=rank,
        client=seen.id,
        state=seen.state,
        caps=seen.num_caps,
        recall=fading("recall_caps"),
        release=fading("release_caps"),
        acquire=fading("cap_acquisition"),
        load=float(facts.get("request_load_avg", 0)),
        ops=facts.get("requests_in_flight", 0),
        leases=facts.get("num_leases", 0),
        host=seen.host,
        root=seen.root,
        entity=seen.entity,
    )


def page(view: View, sort: str, width: int, height: int | None) -> list[str]:
    """The lines to show, none wider than ``width``; no more than ``height`` of them unless that is None."""
    lines = [f"{view.fs}, MDSMap epoch {view.epoch}; {len(view.rows)} sessions by {sort}"]
    for rank in view.ranks:
        waits = f", {rank.blocked} blocked for {rank.oldest_s:.0f} s" if rank.blocked else ""
        counts = f"{rank.sessions} sessions, {rank.caps} caps, {rank.ops} requests{waits}"
        lines.append(f"mds.{rank.rank} ({rank.name}): {counts}, cache {rank.cache_bytes / 2**20:.0f} MiB")
    if height is not None:
        lines = lines[: max(height // 2, 1)]
    heads = {name: name for name in ("client", "rank", "state", *SORTS)}
    lines.append(COLUMNS.format(**heads, where="host"))
    room = len(view.rows) if height is None else max(height - len(lines), 0)
    most = heapq.nsmallest(room, view.rows, key=lambda row: (-getattr(row, sort), row.client, row.rank))
    for row in most:
        numbers = {name: f"{getattr(row, name):.0f}" for name in SORTS}
        where = f"{row.host} {row.root}".strip()
        lines.append(COLUMNS.format(client=row.client, rank=row.rank, state=row.state, **numbers, where=where))
    return [escaped(line)[:width].rstrip() for line in lines]


@contextmanager
def keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Tell each key as it is pressed, where stdin is a terminal; and hide the cursor."""
    emit(HIDE)
    try:
        if sys.stdin is None or not sys.stdin.isatty():
            yield
            return
        import asyncio
        import termios
        import tty

        loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        tty.setcbreak(fd)

        def read() -> None:
            for key in os.read(fd, 32).decode(errors="replace"):
                pressed(key)

        loop.add_reader(fd, read)
        try:
            yield
        finally:
            loop.remove_reader(fd)
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
    finally:
        emit(f"{SHOW}\r\n")
