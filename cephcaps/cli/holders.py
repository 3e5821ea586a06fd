"""``cephcaps holders``: who holds which caps of an inode, and who was asked to give some back."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import as_bytes, emit, emit_json, escaped
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from cephcaps.caps import Caps
    from cephcaps.cli.mds_view import Holding
    from cephcaps.client import Client

__all__ = ["holders"]

MANY_CAPS = 200_000
"""Caps of a rank up to which it is asked for all of them: it takes a second or so, and does nothing else meanwhile."""
COLUMNS = "{rank:>4}  {client:14}  {host:12}  {holds:22}  {asked_back:16}  {wants:22}  {age}"


def place(value: str) -> int | str:
    """Type of an argument: an inode number, decimal or 0x..., or an absolute path."""
    if value.startswith("/"):
        return as_bytes(value).decode("utf-8", "surrogateescape")
    try:
        return int(value, 0)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither an inode number nor a path that begins with /") from None


@click.command(cls=CephCommand)
@click.argument("what", metavar="INO|PATH", type=place)
@global_options()
@click.pass_obj
def holders(settings: Settings, what: int | str) -> int:
    """Show who holds which caps of an inode, as its MDSs see it.

    \b
      cephcaps holders /home/a/file
      cephcaps holders 0x10000000003 -f json

    A line each: rank, client, its host, what it holds, what it was asked to give back and has not, what it wants, and
    how long ago the MDS last told it. Nothing is changed; a path is looked up, which waits for nobody's caps. The key
    needs `mds 'allow *'`.
    """
    facts = run(_holders, settings, what)
    if settings.format != "plain":
        emit_json(facts, pretty=settings.pretty)
        return 0
    heads = {name: name.replace("_", " ") for name in ("rank", "client", "host", "holds", "asked_back", "wants")}
    lines = [f"{facts['ino']}  {escaped(facts['path'] or '')}".rstrip(), COLUMNS.format(**heads, age="since")]
    for holder in facts["holders"]:
        shown = {**holder, "client": f"client.{holder['client']}", "host": escaped(holder["host"])}
        lines.append(COLUMNS.format(**shown | {"age": f"{holder['age_s']:.1f} s"}))
    emit("".join(f"{line.rstrip()}\n" for line in lines if facts["holders"] or line is lines[0]))
    if not facts["holders"]:
        emit("nobody holds anything of it\n")
    return 0


async def _holders(settings: Settings, what: int | str) -> dict[str, Any]:
    from cephcaps.cli.mds_view import active_ranks, dump_inode

    async with settings.connect(mount=isinstance(what, str)) as client:
        ino = what if isinstance(what, int) else await _look_up(client, what)
        path = what if isinstance(what, str) else None
        found: list[Holding] = []
        known: dict[tuple[int, int], Caps] = {}
        for rank in active_ranks(client):
            found += await _at(client, rank, ino)
            dumped = await dump_inode(client, rank, ino)
            path = path or dumped.path
            known |= {(rank, id): late for id, late in dumped.asked_back.items()}
        now = time.time()
        told = [facts_of(one, known.get((one.rank, one.client.id), one.asked_back), now) for one in found]
        return {"ino": f"{ino:#x}", "path": path, "holders": told}


async def _look_up(client: Client, path: str) -> int:
    """The inode's number; what the lookup brought us of its caps is given back."""
    from cephcaps.errors import MdsError

    if not await client.exists(path):
        raise MdsError(errno.ENOENT, None, path)
    inode = client.cached(path)
    assert inode is not None
    ino = inode.ino
    client.drop_caches()
    return ino


async def _at(client: Client, rank: int, ino: int) -> list[Holding]:
    from cephcaps.cli.mds_view import holdings, sessions
    from cephcaps.errors import MdsError

    seen = await sessions(client, rank)
    caps = sum(one.num_caps for one in seen.values())
    if caps > MANY_CAPS:
        held_up = f"mds.{rank} has {caps} caps out, too many to look through without holding it up"
        raise MdsError(errno.E2BIG, f"{held_up}: ask `ceph tell mds.{rank} dump inode {ino}`")
    mine = client.global_id
    found = await holdings(client, rank, [id for id in seen if id != mine])
    return [holding for holding in found if holding.ino == ino]


def facts_of(holding: Holding, asked_back: Caps, now: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "rank": holding.rank,
        "client": holding.client.id,
        "host": holding.client.host,
        "root": holding.client.root,
        "addr": holding.client.addr,
        "state": holding.client.state,
        "holds": str(holding.holds),
        "asked_back": "unknown" if holding.revoking and not asked_back else str(asked_back),
        "wants": str(holding.wants),
        "age_s": round(max(now - holding.told_at, 0.0), 3),
    }
