"""A client whose key is taken away, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cephcaps import SessionLost

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .logins import change_map, cut, delete_key, lifetimes, own_key, restore_key, usable
from .waiting import until

SLOWEST = 16.0
"""Seconds between knocks at monitors that let nobody in, with what it takes to be let in."""
KEPT = 3
"""Rotating keys a monitor remembers: a ticket is read for up to so many lifetimes (ceph: src/auth/Auth.h)."""


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
