"""``cephcaps status``: what a client is connected to, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, escaped, name_facts, on_terminal
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from rich.table import Table

    from cephcaps.client import Client
    from cephcaps.mds.session import Session
    from cephcaps.messenger.connection import Connection
    from cephcaps.monitor.client import MonClient
    from cephwire.mdsmap import MdsMap

__all__ = ["status"]

Facts: TypeAlias = dict[str, Any]

CIPHER = "AES-128-GCM"
"""Of secure mode; msgr2.1 has no other."""
UNFOLDED = 10_000
"""Columns where no terminal's width counts: lines in a file or a pipe are not to be folded."""


@click.command(cls=CephCommand)
@global_options()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show cluster, ranks and our sessions.

    The sessions are those of this very command, opened as any client of this configuration would.

    \b
      cephcaps status -f json-pretty
    """
    facts = run(_status, settings)
    if settings.format == "plain":
        emit(_plain(facts))
    else:
        emit_json(facts, pretty=settings.pretty)


# Asking


async def _status(settings: Settings) -> Facts:
    from cephwire.keys import CryptoType

    async with settings.connect() as client:
        core, config = client._running.core, client.config
        assert config is not None
        key = core.tickets.key
        return {
            "fsid": client.fsid,
            **({"conf": None} if config.conf_path is None else name_facts("conf", config.conf_path)),
            "fs_name": client.fs_name,
            "mdsmap_epoch": client.mds_map.epoch,
            "global_id": client.global_id,
            "entity": str(config.name),
            "key_type": None if key is None else CryptoType(key.type).name.lower(),
            "mon": _mon(core.monitors),
            "ranks": _ranks(client.mds_map),
            "sessions": [_session(session) for session in _by_rank(client)],
        }


def _by_rank(client: Client) -> list[Session]:
    return [session for _, session in sorted(client.sessions.items())]


def _mon(monitors: MonClient) -> Facts | None:
    """The monitor in use; None if it was lost just now."""
    from cephwire.entity import addresses

    connection = monitors.connection
    if connection is None:
        return None
    infos = monitors.monmap.mon_info.values() if monitors.monmap is not None else ()
    names = [info.name for info in infos if connection.target in addresses(info.public_addrs)]
    return {"name": names[0] if names else None, "addr": str(connection.target), **_protection(connection)}


def _protection(connection: Connection | None) -> Facts:
    from cephwire.control import ConMode

    if connection is None:
        return {"con_mode": None, "cipher": None}
    secure = connection.con_mode is ConMode.SECURE
    return {"con_mode": connection.mode, "cipher": CIPHER if secure else None}


def _ranks(mdsmap: MdsMap) -> list[Facts]:
    """Ranks with their holders, daemons in standby-replay, and ranks without holder."""
    from cephwire.mdsmap import MdsState

    def state(number: int) -> str:
        known = number in MdsState._value2member_map_
        return f"up:{MdsState(number).name.lower().replace('_', '-')}" if known else str(number)

    found = [
        {"rank": info.rank, "name": info.name, "gid": gid, "state": state(info.state), "addr": str(info.addrs)}
        for gid, info in mdsmap.mds_info.items()
    ]
    for ranks, without in ((mdsmap.failed, "down:failed"), (mdsmap.damaged, "down:damaged")):
        found += [{"rank": rank, "name": None, "gid": None, "state": without, "addr": None} for rank in ranks]
    return sorted(found, key=lambda facts: (facts["rank"], mdsmap.up.get(facts["rank"]) != facts["gid"]))


def _session(session: Session) -> Facts:
    return {
        "rank": session.rank,
        "name": session.name,
        "state": session.state,
        "seq": session.seq,
        "num_caps": session.num_caps,
        "feature_bits": f"{session.features:#x}",
        "features": _features(session.features),
        **_protection(session.connection),
    }


def _features(mask: int) -> list[str]:
    """The names of the feature bits, or the number of one that has no name."""
    from cephwire.session import ClientFeature

    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return [ClientFeature(bit).name.lower() if bit in ClientFeature._value2member_map_ else str(bit) for bit in bits]


# Showing


def _plain(facts: Facts) -> str:
    from io import StringIO

    from rich.console import Console, Group
    from rich.table import Table

    mon = facts["mon"]
    summary = Table.grid(padding=(0, 2))
    for label, value in (
        ("cluster", facts["fsid"]),
        ("conf", facts["conf"] or "none"),
        ("file system", f"{facts['fs_name']} (MDSMap epoch {facts['mdsmap_epoch']})"),
        ("client", f"client.{facts['global_id']}, {facts['entity']}, {_key(facts['key_type'])}"),
        ("monitor", f"mon.{mon['name']} at {mon['addr']}, {_mode(mon)}" if mon else "lost, looking for another"),
    ):
        summary.add_row(label, escaped(value))
    ranks = _table("rank", "daemon", "state", "address")
    for rank in facts["ranks"]:
        daemon = f"mds.{rank['name']}" if rank["name"] else "-"
        ranks.add_row(str(rank["rank"]), escaped(daemon), rank["state"], rank["addr"] or "-")
    sessions = _table("session with", "state", "seq", "caps", "protection", "features")
    for session in facts["sessions"]:
        numbers = str(session["seq"]), str(session["num_caps"])
        named = [name for name in session["features"] if name.isidentifier()]
        features = f"{session['feature_bits']}: {' '.join(named)}"
        sessions.add_row(f"rank {session['rank']}", session["state"], *numbers, _mode(session), features)
    tty = on_terminal()
    page = StringIO()
    console = Console(file=page, force_terminal=tty, width=None if tty else UNFOLDED, markup=False, highlight=False)
    console.print(Group(summary, "", ranks, "", sessions))
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


def _table(*heads: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in ("rank", "seq", "caps") else "left", overflow="fold")
    return table


def _key(key_type: str | None) -> str:
    return f"{key_type} key" if key_type else "no key"


def _mode(protected: Facts) -> str:
    mode, cipher = protected["con_mode"], protected["cipher"]
    return f"{mode} ({cipher})" if cipher else mode or "not connected"
