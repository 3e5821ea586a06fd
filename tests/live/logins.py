"""A client's logins as tests see and disturb them: its monitor, its tickets, its key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cephcaps import Client, connect
from cephcaps.messenger.connection import Connection
from cephwire.entity import EntityType

from .cluster import LiveCluster
from .waiting import until

TELLS = 3.0
"""Seconds from when the cluster has a new map."""


def lifetimes(*, service: int, auth: int) -> str:
    return f"[global]\nauth service ticket ttl = {service}\nauth mon ticket ttl = {auth}\n"


def monitor_in_use(client: Client) -> Connection | None:
    """The connection, once it stands."""
    monitors = client._running.core.monitors
    return monitors.connection if monitors.ready else None


async def change_map(cluster: LiveCluster, client: Client) -> None:
    """Make a newer MDSMap; the client has it within seconds."""
    epoch = client.mds_map.epoch
    await cluster.aio.ceph("fs", "set", cluster.fs_name, "session_autoclose", 300 + epoch)
    await until(lambda: client.mds_map.epoch > epoch, "a newer MDSMap", within=TELLS)


def usable(client: Client) -> bool:
    """Whether tickets for MDSs and for more tickets are at hand."""
    core, now = client._running.core, asyncio.get_running_loop().time()
    return all(core.tickets.usable(service, now) for service in (EntityType.MDS, EntityType.AUTH))


@asynccontextmanager
async def always_usable(client: Client) -> AsyncIterator[None]:
    """At no time within the block is the client without."""
    gaps = 0

    async def watch() -> None:
        nonlocal gaps
        while True:
            gaps += not usable(client)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    assert gaps == 0


def cut(client: Client, connection: Connection | None) -> None:
    """Break one TCP connection, if it stands."""
    socket = client._running._sockets.get(connection) if connection is not None else None
    if socket is not None and socket._transport is not None:
        socket._transport.abort()


@asynccontextmanager
async def own_key(cluster: LiveCluster, ms_mode: str | None = None) -> AsyncIterator[Client]:
    """A client whose key nobody else has."""
    name = await cluster.aio.add_client_key("own", mon="allow r", mds="allow rw", osd="allow rw")
    async with connect(cluster.conf, name=name, ms_mode=ms_mode) as client:
        yield client


async def delete_key(cluster: LiveCluster) -> None:
    await cluster.aio.ceph("auth", "rm", "client.own")


async def restore_key(cluster: LiveCluster) -> None:
    caps = ("mon", "allow r", "mds", "allow rw", "osd", "allow rw")
    await cluster.aio.ceph("auth", "add", "client.own", *caps, "-i", str(cluster.release.inside(cluster.keyring)))
