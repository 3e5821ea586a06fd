"""A client over messenger v1 at daemons that speak both messengers, v1 alone, or without authentication."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cephcaps import Client, connect
from cephcaps.cli.app import run
from cephcaps.errors import AuthError, ConfigError
from cephcaps.events import CapRevokeAcked, CapRevoking, Event
from cephcaps.trace import Problem, Traced, read_trace
from cephwire.caps import CapOp, ClientCaps
from cephwire.entity import EntityType
from cephwire.messages import BY_CLASS
from cephwire.mon_messages import MAuth
from cephwire.session import ClientSession

from .agreement import agrees_at_rest, mounted
from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .test_inject_live import SETTLES, connections, injecting, no_less_than_libcephfs
from .waiting import until
from .workload import at_work

NO_AUTH = """\
[global]
auth cluster required = none
auth service required = none
auth client required = none
"""
SHORT_TICKETS = """\
[mon]
auth service ticket ttl = 20
auth mon ticket ttl = 40
"""


def our_end(cluster: LiveCluster, client: Client) -> str:
    """What the MDS calls our end of the session."""
    seen = cluster.session(client.global_id)
    assert seen is not None
    assert seen["state"] == "open"
    return str(seen["inst"])


async def give_a_cap_back(cluster: LiveCluster, client: Client, path: str) -> list[Event]:
    """Make a file, and have libcephfs ask for what we changed on it and not sent yet; gives what happened."""
    async with mounted(cluster) as peer:
        async with client.open(path, "x") as file:
            with client.events(ino=file.ino) as events:
                await file.setattr(mtime=10**18)
                seen = await peer.aio.statx(path)
                assert seen.mtime == 10**18
                happened = events.drain()
        await peer.aio.chmod(path, 0o640)
        assert (await client.stat(path)).mode & 0o777 == 0o640
    return happened


async def break_connections(client: Client) -> None:
    """All of the client's sockets die under it."""
    supervisor = client._running
    for connection, socket in list(supervisor._sockets.items()):
        socket.abort()
        supervisor.socket_lost(connection, ConnectionResetError("cut by the test"))


async def test_a_cap_is_asked_back(cluster: LiveCluster, conf: Path) -> None:
    async with connect(conf, ms_mode="legacy") as client:
        assert our_end(cluster, client).startswith(f"client.{client.global_id} v1:")
        happened = await give_a_cap_back(cluster, client, "/legacy-caps")
        kinds = [type(event) for event in happened]
        assert kinds.index(CapRevoking) < kinds.index(CapRevokeAcked)
        await agrees_at_rest(cluster, client)
        assert {session.connection.mode for session in client.sessions.values() if session.connection} == {"legacy"}
    assert cluster.session_ls() == []


async def test_a_session_is_resumed(cluster: LiveCluster, conf: Path) -> None:
    async with connect(conf, ms_mode="legacy") as client, client.open("/legacy-resumed", "x") as file:
        (session,) = client.sessions.values()
        known, counted = client.global_id, []
        for number in range(5):
            await file.setattr(mtime=10**18 + number)
            await break_connections(client)
            await client.mkdir(f"/legacy-resumed-{number}")
            counted.append(session.carrier.link.connect_seq)
        assert (client.global_id, session.state) == (known, "open")
        assert counted == sorted(set(counted)), counted
        await agrees_at_rest(cluster, client)
        assert "v1:" in our_end(cluster, client)


@pytest.mark.parametrize("seconds", [20, pytest.param(180, marks=pytest.mark.soak)])
async def test_broken_connections_reach_no_caller(
    cluster: LiveCluster, conf: Path, recordings: Path, seconds: int
) -> None:
    async with connect(conf, ms_mode="legacy") as client:
        async with injecting(cluster), at_work(client, f"/inject-legacy-{seconds}", seed=seconds) as work:
            await work.during(seconds)
        await agrees_at_rest(cluster, client, within=SETTLES)
        await work.is_as_computed(cluster)
    made = connections(recordings / "client-1.pcapng")
    print(f"{made[EntityType.MDS]} connections to MDSs, {made[EntityType.MON]} to monitors")
    assert made[EntityType.MDS] > seconds // 10, "nothing was broken"


async def test_a_capture_of_it_is_read_like_any_other(new_cluster: Callable[..., LiveCluster], tmp_path: Path) -> None:
    missing = missing_program("dumpcap")
    if missing:
        pytest.skip(missing)
    cluster = new_cluster(mds=1, address=some_loopback_address())
    captured = tmp_path / "legacy.pcapng"
    with Dumpcap(captured, cluster.address):
        async with connect(cluster.conf, ms_mode="legacy") as client:
            known = client.global_id
            await give_a_cap_back(cluster, client, "/captured")
            await break_connections(client)
            await client.mkdir("/after")
    with captured.open("rb") as file:
        items = [item for item in read_trace(file) if item.flow.messenger == 1]
    ours = [item for item in items if isinstance(item, Traced) and item.flow.client_id == known]
    assert [item for item in items if isinstance(item, Problem) and item.kind != "gap"] == []
    kinds = {type(item.message) for item in ours}
    assert kinds >= {ClientSession, ClientCaps, MAuth}
    ops = [item.message.op for item in ours if isinstance(item.message, ClientCaps) and not item.to_daemon]
    assert CapOp.REVOKE in ops
    assert [item.leftover for item in ours if item.leftover] == []
    assert len({item.flow for item in ours if item.flow.daemon_type == EntityType.MDS}) == 2
    assert all(item.header.type in {message.number for message in BY_CLASS.values()} for item in ours)


async def test_daemons_of_messenger_v1_alone(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(mds=1, msgr2=False)
    with pytest.raises(ConfigError, match=r"mon_host names messenger v1 addresses only: .* or say ms_mode legacy"):
        async with connect(cluster.conf):
            pass
    async with connect(cluster.conf, ms_mode="legacy") as client:
        await client.mkdir("/alone")
        assert "v1:" in our_end(cluster, client)


@pytest.mark.soak
async def test_what_is_done_between_breaks_is_no_less_than_libcephfs_does(
    new_cluster: Callable[..., LiveCluster],
) -> None:
    """On daemons of v1 alone: where a daemon has both, libcephfs takes v2."""
    cluster = new_cluster(mds=1, msgr2=False)
    await no_less_than_libcephfs(cluster, cluster.conf, "legacy", {})


async def test_a_cluster_without_authentication(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(mds=1, extra=NO_AUTH)
    async with connect(cluster.conf, ms_mode="legacy") as client:
        await client.mkdir("/nobody")
        await break_connections(client)
        await client.mkdir("/nobody/again")
        assert "v1:" in our_end(cluster, client)


async def test_tickets_are_renewed(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(mds=1, extra=SHORT_TICKETS)
    async with connect(cluster.conf, ms_mode="legacy") as client:
        held = client._running.core.tickets.held
        first = {service: ticket.blob for service, ticket in held.items()}
        await until(lambda: all(held[service].blob != first[service] for service in first), "all are new", within=60.0)
        monitor = client._running.core.monitors.connection
        await asyncio.sleep(20)
        await break_connections(client)
        await client.mkdir("/renewed")
        assert client.sessions[0].state == "open"
        assert monitor is not None


async def test_a_wrong_key_is_refused(cluster: LiveCluster, conf: Path, tmp_path: Path) -> None:
    other = cluster.add_client_key("legacy-wrong", mon="allow r", mds="allow rw", osd="allow rw")
    cluster.ceph("auth", "rm", other)
    with pytest.raises(AuthError, match=r"mon at v1:.* client\.legacy-wrong is unknown to the cluster"):
        async with connect(conf, name=other, ms_mode="legacy"):
            pass


def test_the_command_line_takes_it(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-c", str(conf), "--ms-mode", "legacy", "-f", "json", "status"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["mon"]["con_mode"], said["mon"]["addr"][:3]) == ("legacy", "v1:")
    assert [session["con_mode"] for session in said["sessions"]] == ["legacy"]
