"""Tickets that hardly live: there are always some, and at which price."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable

import pytest

from cephcaps import connect
from cephcaps.auth.cephx import Tickets
from cephwire.codec import Codec
from cephwire.keys import CRYPTO_KEY, CryptoKey, CryptoType

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .logins import always_usable, cut, lifetimes, monitor_in_use, restore_key, usable
from .workload import RESTS, at_work


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
        async with at_work(client, "/tickets", rest=RESTS) as work, always_usable(client):
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
