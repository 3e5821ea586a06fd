"""Caps are held: both sides tell the same of them, and names are known for as long as the MDS promised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cephcaps import connect
from cephcaps.events import CapStale, SessionChanged
from cephwire.capbits import FileMode, wanted_for_mode
from cephwire.lease import ClientLease, LeaseAction
from cephwire.request import ClientRequest

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .holding import Sent, agree, ours, theirs
from .libcephfs import LibcephfsPeer
from .waiting import until

MODES = {"w": FileMode.WR, "r+": FileMode.RDWR, "r": FileMode.RD, "a": FileMode.WR}


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


@pytest.mark.parametrize("ms_mode", ["crc", "secure"])
@pytest.mark.parametrize("how", MODES)
async def test_an_open_file_shows_at_the_mds_as_we_hold_it(
    cluster: LiveCluster, conf: Path, ms_mode: str, how: str
) -> None:
    path = f"/held-{ms_mode}-{how}"
    async with connect(conf, ms_mode=ms_mode) as client:
        if how in ("r", "r+"):
            async with client.open(path, "x"):
                pass
        async with client.open(path, how) as file:
            ino = file.ino
            dump = await cluster.aio.dump_inode(file.ino)
            assert theirs(client, dump) == ours(client, file.ino)
            held = client.inode_caps(file.ino)
            assert held is not None
            assert held.issued == file.caps
            assert int(held.wanted) == wanted_for_mode(MODES[how])
            assert (str(held.revoking), str(held.dirty), held.auth_rank) == ("-", "-", 0)
            assert dump["loner"] == client.global_id
            assert client.inode_caps(path) == held
            seen = await cluster.aio.session(client.global_id)
            assert seen["num_caps"] == client.sessions[0].num_caps == client.metrics.caps[0] == 2  # it and the root
        # Closed, its caps are kept: someone may come back for them.
        assert str((await agree(cluster, client, ino))["client_caps"][0]["pending"]) == str(held.issued)
        assert client.metrics.late == ()


async def test_what_is_held_is_not_asked_for(cluster: LiveCluster, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(monkeypatch)
    async with connect(conf) as client:
        await client.makedirs("/known/a/b")
        async with client.open("/known/a/b/file", "x") as file:
            first = await client.stat("/known/a/b/file")
            before = sent.count(client)
            assert await client.stat("/known/a/b/file") == first
            assert await client.exists("/known/a/b/file")
            await file.setattr(mode=0o640)
            assert (await client.stat("/known/a/b/file")).mode & 0o777 == 0o640
            assert sent.count(client) == before


async def test_a_name_that_another_client_takes_away_is_gone_at_once_and_it_does_not_wait(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    waits = []
    await peer.aio.mkdir("/names")
    await peer.aio.write_file("/names/0", b"x")
    async with connect(conf) as client:
        for number in range(100):
            old, new = f"/names/{number}", f"/names/{number + 1}"
            ino = (await client.stat(old)).ino
            assert not await client.exists(new)
            started = time.perf_counter()
            await peer.aio.rename(old, new)
            waits.append(time.perf_counter() - started)
            assert (await client.stat(new)).ino == ino
            assert not await client.exists(old)
            assert client.metrics.late == ()
        assert max(waits) < 1  # a lease kept would hold it up for 30 s, a cap for as long as we liked
        await agree(cluster, client, (await client.stat("/names")).ino)
        # What was asked back was a lease on the name at times, at times Fs on the directory.
        leases = sent.by(client, ClientLease)
        assert all(lease.action == LeaseAction.RELEASE for lease in leases)
    print(f"{len(leases)} leases given back; a rename took {max(waits) * 1e3:.1f} ms at most")


async def test_a_name_is_looked_up_once_while_its_lease_holds(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clients look: no one has Fx on the directory, and names go by Fs or lease."""
    sent = Sent(monkeypatch)
    await peer.aio.mkdir("/leased")
    await peer.aio.write_file("/leased/file", b"x")
    fd = await peer.aio.open("/leased/file")
    async with connect(conf) as client:
        assert await client.exists("/leased/file")
        before = len(sent.by(client, ClientRequest))
        for _ in range(50):
            assert await client.exists("/leased/file")
        assert len(sent.by(client, ClientRequest)) == before
        assert not await client.exists("/leased/none")
        await peer.aio.write_file("/leased/none", b"now there")
        assert (await client.stat("/leased/none")).size == 9
        for path in ("/leased", "/leased/file", "/leased/none"):
            await agree(cluster, client, (await client.stat(path)).ino)
        await until(lambda: client.metrics.revoking == 0, "nothing is asked back")
        assert client.metrics.late == ()
    await peer.aio.close_fd(fd)


@pytest.mark.soak
@pytest.mark.misbehaves("sleeps until its session has run out")
async def test_caps_of_a_client_that_slept_are_void_until_they_are_granted_anew(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    cluster = new_cluster(mds=1, session_timeout=30, extra="[mds]\nmds defer session stale = false")
    async with connect(cluster.conf) as client, client.open("/slept", "x") as file:
        (session,) = client.sessions.values()
        await client.sync()
        before = client.inode_caps(file.ino)
        assert before is not None
        gen = session.cap_gen
        await file.setattr(mode=0o612)
        with client.events() as events:
            # Nothing of this process runs, our client included; the MDS gives up on it.
            time.sleep(40)  # noqa: ASYNC251
            assert cluster.session(client.global_id)["state"] == "stale"
            assert str(client.inode_caps(file.ino).issued) == "-"
            await until(lambda: session.cap_gen > gen and session.state == "open", "the session is renewed")
            # What nobody wants the MDS does not grant anew by itself: we count it as gone, and ask when we need it.
            assert "Fs" not in client.inode_caps("/").issued
            assert (await client.stat("/")).ino == client.root_ino
            await agrees_at_rest(cluster, client)
            await file.fsync()
            seen = events.drain()
        assert [event.state for event in seen if isinstance(event, SessionChanged)][:2] == ["stale", "open"]
        assert [event.ino for event in seen if isinstance(event, CapStale)]
        after = client.inode_caps(file.ino)
        assert after is not None
        assert after.issued == before.issued
        assert after.per_mds[0].gen == session.cap_gen
        with LibcephfsPeer(cluster) as peer:
            assert (await peer.aio.statx("/slept")).mode & 0o777 == 0o612
        await agrees_at_rest(cluster, client)
