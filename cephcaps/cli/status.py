"""``cephcaps status``: what a client is connected to, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cephcaps.client import Client
    from cephcaps.messenger.connection import Connection

__all__ = ["status"]

Facts = dict[str, Any]

WIDE = 1000
"""Columns of a table that goes to no terminal: lines are for grep there and must not be folded."""


@click.command(cls=CephCommand)
@global_options()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the cluster, the file system, its ranks, and this client's own connections and sessions."""
    facts = run(_status(settings))
    if settings.format == "plain":
        emit(_plain(facts))
    else:
        emit_json(facts, pretty=settings.pretty)


async def _status(settings: Settings) -> Facts:
    async with settings.connect() as client:
        return _facts(client)


def _facts(client: Client) -> Facts:
    config = client.config
    assert config is not None
    core = client._running.core
    key = core.tickets.key
    return {
        "fsid": client.fsid,
        "conf": config.conf_path,
        "fs_name": client.fs_name,
        "fscid": core.fscid,
        "mdsmap_epoch": client.mds_map.epoch,
        "client": {
            "global_id": client.global_id,
            "entity": config.name,
            "key_type": None if key is None else CryptoType(key.type).name.lower(),
        },
        "mon": _mon(core.monitors),
        "ranks": _ranks(client.mds_map),
        "sessions": [ ... ],
    }
