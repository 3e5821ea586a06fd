"""Tickets that live for a minute, and connections that are cut all the time: nobody is interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from cephcaps import connect

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .sockets import break_connections
from .workload import PATIENCE, RESTS, at_work

LIFETIME = 60
"""Seconds."""
SHORT_TICKETS = f"[global]\nauth service ticket ttl = {LIFETIME}\nauth mon ticket ttl = {LIFETIME}\n"


@pytest.mark.parametrize(
    ("ms_mode", "seconds", "cuts_every"),
    [
        ("secure", 15.0, 2.0),
        pytest.param("crc", 300.0, 45.0, marks=pytest.mark.soak),
        pytest.param("secure", 300.0, 45.0, marks=pytest.mark.soak),
    ],
)
async def test_tickets_are_renewed_before_a_new_connection_needs_them(
    new_cluster: Callable[..., LiveCluster], ms_mode: str, seconds: float, cuts_every: float
) -> None:
    cluster = new_cluster(mds=1, extra=SHORT_TICKETS)
    cut = 0
    async with connect(cluster.conf, ms_mode=ms_mode, request_timeout=PATIENCE) as client:
        async with at_work(client, "/tickets", rest=RESTS) as work:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await work.during(cuts_every)
                broken = break_connections(os.getpid())
                assert broken >= 1, "the connection to the MDS; a monitor may still be looked for"
                cut += broken
                await work.moves_on(within=10.0)
        await agrees_at_rest(cluster, client)
        assert {rank: session.state for rank, session in client.sessions.items()} == {0: "open"}
        await work.is_as_computed(cluster)
    print(f"{cut} connections cut")
