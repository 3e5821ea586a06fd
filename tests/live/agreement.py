"""Whether the MDS and a client of ours agree on every cap, and nothing is owed either way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cephcaps import Client

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

__all__ = ["agrees_at_rest", "differences", "mounted"]


@asynccontextmanager
async def mounted(cluster: LiveCluster) -> AsyncIterator[LibcephfsPeer]:
    """A libcephfs, come and gone while our client answers: mounting and unmounting may take caps from it."""
    peer = await asyncio.to_thread(LibcephfsPeer, cluster)
    try:
        yield peer
    finally:
        await asyncio.to_thread(peer.close)


def differences(cluster: LiveCluster, client: Client, rank: int = 0) -> list[str]:
    """What the MDS of ``rank`` and ``client`` say differently of the caps, in words; empty when they agree."""
    session = cluster.session(client.global_id, rank=rank)
    ours = client.sessions[rank].num_caps
    if session is None:
        return ["the MDS has no session of ours"]
    found = [] if session["num_caps"] == ours else [f"num_caps: the MDS says {session['num_caps']}, we {ours}"]
    for ino in list(client.engine.cache.inodes):
        caps = client.inode_caps(ino)
        if caps is None or rank not in caps.per_mds:
            continue
        inode = cluster.dump_inode(ino, rank=rank) or {}
        told = next((cap for cap in inode.get("client_caps", ()) if cap["client_id"] == client.global_id), None)
        cap = caps.per_mds[rank]
        said = (told["pending"], told["issued"], told["last_sent"]) if told else None
        held = (str(cap.issued), str(cap.implemented), cap.seq)
        if said != held:
            found.append(f"inode {ino:#x}: the MDS says pending, issued, last_sent {said}, we {held}")
    return found


async def agrees_at_rest(cluster: LiveCluster, client: Client, *, rank: int = 0, within: float = 15.0) -> None:
    """Wait until they agree and nobody waits for anybody; what we want to give back must be given by then."""
    last: list[str] = []

    def settled() -> bool:
        last[:] = differences(cluster, client, rank)
        metrics = client.metrics
        if metrics.requests or metrics.flushing or metrics.revoking:
            last.append(f"not at rest: {metrics}")
        return not last

    try:
        await until(settled, "the MDS and we agree on all caps", within=within)
    except TimeoutError as error:
        raise AssertionError("; ".join(last)) from error
    assert client.metrics.late == ()
    assert client.metrics.unmatched_replies == 0
