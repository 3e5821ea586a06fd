"""A client and its monitors: one that is lost, keys that are taken away, tickets that hardly live."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cephcaps import Client, SessionLost, connect
from cephcaps.auth.cephx import Tickets
from cephcaps.messenger.connection import Connection
from cephwire.codec import Codec
from cephwire.entity import EntityType
from cephwire.keys import CRYPTO_KEY, CryptoKey, CryptoType

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .waiting import until
from .workload import at_work

pytestmark = pytest.mark.usefixtures("clean_recordings")

FINDS_ANOTHER = 3.0
"""Seconds from the loss of the monitor in use: one that does not answer costs as much."""
TELLS = 3.0
"""Seconds from when the cluster has a new map."""
SLOWEST = 16.0
"""Seconds between knocks at monitors that let nobody in, with what it takes to be let in."""
PINGS = {"mon_client_ping_interval": "1", "mon_client_ping_timeout": "3"}
KEPT = 3
"""Rotating keys a monitor remembers: a ticket is read for up to so many lifetimes (ceph: src/auth/Auth.h)."""


def lifetimes(*, service: int, auth: int) -> str:
    return f"[global]\nauth service ticket ttl = {service}\nauth mon ticket ttl = {auth}\n"


def monitor_in_use(client: Client) -> Connection | None:
    """The connection, once it stands."""
    monitors = client._running.core.monitors
    return monitors.connection if monitors.ready else None


def name_of(cluster: LiveCluster, connection: Connection) -> str:
    """The monitor at the other end."""
    hosts = cluster.mon_host.removesuffix("]").split("],")
    return next(n for n, h in zip(cluster.mon_names, hosts, strict=True) if f":{connection.target.port}," in h + ",")


async def change_map(cluster: LiveCluster, client: Client) -> None:
    """Make a newer MDSMap; the client has it within seconds."""
    epoch = client.mds_map.epoch
    await cluster.aio.ceph("fs", "set", cluster.fs_name, "session_autoclose", 300 + epoch)
    await until(lambda: client.mds_map.epoch > epoch, "a newer MDSMap", within=TELLS)


@pytest.mark.parametrize(("loss", "found_out"), [("killed", 0.0), ("frozen", 5.0)])
async def test_maps_keep_coming_when_the_monitor_in_use_is_lost(
    new_cluster: Callable[..., LiveCluster], loss: str, found_out: float
) -> None:
    cluster = new_cluster(mons=3, mds=1)
    async with connect(cluster.conf, options=PINGS) as client:
        known = client.global_id
        for _ in range(3):
            await change_map(cluster, client)
            old = monitor_in_use(client)
            assert old is not None
            lost = name_of(cluster, old)
            began = time.monotonic()
            cluster.freeze_daemon(lost) if loss == "frozen" else await cluster.aio.kill_daemon(lost)

            def another(old: Connection = old) -> bool:
                return monitor_in_use(client) not in (None, old)

            await until(another, "another monitor lets us in", within=found_out + FINDS_ANOTHER)
            print(f"{lost} {loss}: {time.monotonic() - began:.2f} s to another")
            new = monitor_in_use(client)
            assert new is not None
            assert name_of(cluster, new) != lost
            await change_map(cluster, client)
            if loss == "frozen":
                cluster.thaw_daemon(lost)
            else:
                await cluster.aio.start_daemon(lost)
        assert client.global_id == known
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
        await agrees_at_rest(cluster, client)


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


def count_proofs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The challenges that clients answer from now on with a proof of their key, which brings all tickets."""
    proved: list[int] = []
    authenticate = Tickets.authenticate

    def count(self: Tickets, server_challenge: int) -> bytes:
        proved.append(server_challenge)
        return authenticate(self, server_challenge)

    monkeypatch.setattr(Tickets, "authenticate", count)
    return proved


@pytest.mark.parametrize(("lifetime", "seconds"), [(16, 30.0), pytest.param(60, 100.0, marks=pytest.mark.soak)])
@pytest.mark.parametrize("cuts", [(), (0.5, 7.0, 0.05, 3.1, 11.0, 1.3)], ids=["uncut", "cut"])
async def test_tickets_of_short_life_never_run_out(
    new_cluster: Callable[..., LiveCluster],
    monkeypatch: pytest.MonkeyPatch,
    lifetime: int,
    seconds: float,
    cuts: tuple[float, ...],
) -> None:
    proved = count_proofs(monkeypatch)
    cluster = new_cluster(mds=1, extra=lifetimes(service=lifetime, auth=lifetime))
    async with connect(cluster.conf) as client:
        known, first = client.global_id, monitor_in_use(client)
        async with at_work(client, "/tickets") as work, always_usable(client):
            until_then, number = time.monotonic() + seconds, 0
            while time.monotonic() < until_then:
                await work.during(cuts[number % len(cuts)] if cuts else 5.0)
                if cuts:
                    cut(client, monitor_in_use(client))
                cut(client, client.sessions[0].connection)  # which takes a ticket to make again
                number += 1
                await work.moves_on(within=5.0)
        assert client.global_id == known
        await agrees_at_rest(cluster, client)
        await work.is_as_computed(cluster)
        print(f"the key was proved {len(proved)} times")
        if not cuts:
            assert monitor_in_use(client) is first
            assert len(proved) - 1 == seconds // (lifetime * 3 / 4), "the login, and renewals over its connection"


async def test_a_client_that_slept_longer_than_its_tickets_live_goes_on(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    cluster = new_cluster(mds=1, extra=lifetimes(service=8, auth=8))
    async with connect(cluster.conf) as client:
        known, connection = client.global_id, monitor_in_use(client)
        await client.mkdir("/before")
        cut(client, client.sessions[0].connection)
        time.sleep(10.0)  # noqa: ASYNC251 - nothing of ours runs meanwhile
        assert not usable(client)
        await asyncio.sleep(0.5)
        assert usable(client)
        await client.mkdir("/after")
        assert monitor_in_use(client) is connection
        assert client.global_id == known
        await agrees_at_rest(cluster, client)


@asynccontextmanager
async def own_key(cluster: LiveCluster, ms_mode: str | None = None) -> AsyncIterator[Client]:
    """A client whose key nobody else has."""
    name = await cluster.aio.add_client_key("own", mon="allow r", mds="allow rw", osd="allow rw")
    async with connect(cluster.conf, name=name, ms_mode=ms_mode) as client:
        yield client


async def test_tickets_of_a_key_of_the_older_kind_are_renewed_too(new_cluster: Callable[..., LiveCluster]) -> None:
    lifetime = 8
    cluster = new_cluster(mds=1, extra=lifetimes(service=lifetime, auth=lifetime))
    if cluster.release.name != "pacific":  # which has no other kind
        await cluster.aio.ceph("mon", "set", "auth_allowed_ciphers", "aes,aes256k")
    key = Codec(CRYPTO_KEY).encode(CryptoKey(CryptoType.AES, int(time.time()) * 10**9, os.urandom(16)))
    with cluster.keyring.open("a") as keyring:
        keyring.write(f"\n[client.own]\n\tkey = {base64.b64encode(key).decode()}\n")
    await restore_key(cluster)
    async with connect(cluster.conf, name="client.own") as client, always_usable(client):
        known, connection = client.global_id, monitor_in_use(client)
        await asyncio.sleep(2.5 * lifetime)
        assert monitor_in_use(client) is connection
        cut(client, client.sessions[0].connection)
        await client.mkdir("/older")
        assert client.global_id == known


async def delete_key(cluster: LiveCluster) -> None:
    await cluster.aio.ceph("auth", "rm", "client.own")


async def restore_key(cluster: LiveCluster) -> None:
    caps = ("mon", "allow r", "mds", "allow rw", "osd", "allow rw")
    await cluster.aio.ceph("auth", "add", "client.own", *caps, "-i", str(cluster.release.inside(cluster.keyring)))


@pytest.mark.parametrize("ms_mode", [None, "legacy"])
async def test_a_client_whose_key_is_deleted_works_on_and_is_whole_again_once_the_key_is_back(
    new_cluster: Callable[..., LiveCluster], ms_mode: str | None
) -> None:
    cluster = new_cluster(mds=1, extra=lifetimes(service=10, auth=86400), msgr2=ms_mode is None)
    async with own_key(cluster, ms_mode) as client:
        known, core = client.global_id, client._running.core
        await delete_key(cluster)
        await until(lambda: core.mds.barred, "it is told that it gets no tickets", within=20.0)
        assert "client.own is unknown to the cluster" in str(core.mds.barred)
        for number in range(5):
            await client.mkdir(f"/without-key-{number}")
            await asyncio.sleep(1)
        await restore_key(cluster)
        await until(lambda: core.mds.barred is None, "it gets tickets again", within=SLOWEST)
        assert client.global_id == known
        cut(client, client.sessions[0].connection)
        await client.mkdir("/with-key")
        await change_map(cluster, client)
        await agrees_at_rest(cluster, client)


async def test_a_client_whose_key_is_deleted_loses_a_session_whose_connection_breaks(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    cluster = new_cluster(mds=1, extra=lifetimes(service=10, auth=86400))
    async with own_key(cluster) as client:
        await delete_key(cluster)
        await until(lambda: client._running.core.mds.barred, "it gets no tickets", within=20.0)
        await until(lambda: not usable(client), "the last has run out", within=20.0)
        cut(client, client.sessions[0].connection)
        with pytest.raises(SessionLost, match=r"client\.own is unknown to the cluster") as lost:
            await client.mkdir("/never")
        assert lost.value.reason == "rejected"


@pytest.mark.soak
async def test_a_client_whose_identity_no_monitor_remembers_gets_another_and_says_so(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    lifetime = 10
    cluster = new_cluster(mds=1, extra=lifetimes(service=lifetime, auth=lifetime))
    async with own_key(cluster) as client:
        known = client.global_id
        await delete_key(cluster)
        await asyncio.sleep((KEPT + 2) * lifetime)
        assert client.sessions[0].state == "open"
        await restore_key(cluster)
        await until(lambda: client.global_id != known, "it is let in as another", within=SLOWEST)
        with pytest.raises(SessionLost, match=rf"client\.{known} was too old.*connect anew") as lost:
            await client.mkdir("/never")
        assert lost.value.reason == "rejected"
    async with own_key(cluster) as client:
        await client.mkdir("/anew")
