"""What strangers may do at the ports of a test cluster: nothing.

Whatever is not a client's way to speak ends in a closed connection, and clients that know the key do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps import connect
from cephcaps.messenger.connection import Phase
from cephcaps.testing import TestCluster
from cephcaps.testing.daemon import Daemon
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.errors import CephError
from tests.fuzz.mutation import mutated, torn

PEER = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 50000)
SPOKEN = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Overheard:
    """All that good clients wrote, by the kind of daemon and messenger it was written to."""

    def __init__(self) -> None:
        self.said: dict[tuple[EntityType, int], list[bytes]] = {}

    def listen(self, daemon: Daemon, patch: pytest.MonkeyPatch) -> None:
        accept = daemon.accept

        def overhear(peer: EntityAddr, addr: EntityAddr | None = None):  # type: ignore[no-untyped-def]
            connection = accept(peer, addr)
            heard = self.said.setdefault((daemon.kind, addr.type if addr else AddrType.MSGR2), [])
            heard.append(b"")
            at, receive = len(heard) - 1, connection.receive

            def both(data: bytes, now: float) -> None:
                heard[at] += data
                receive(data, now)

            connection.receive = both  # type: ignore[method-assign]
            return connection

        patch.setattr(daemon, "accept", overhear)


@pytest.fixture(scope="module")
def overheard() -> Overheard:
    heard = Overheard()

    async def listen() -> None:
        with pytest.MonkeyPatch.context() as patch:
            async with TestCluster(ms_mode="crc") as cluster:
                heard.listen(cluster.mon, patch)
                heard.listen(cluster.mds[0], patch)
                for mode in ("crc", "legacy"):
                    async with connect(cluster.conf, ms_mode=mode) as client:
                        await client.mkdir(f"/{mode}")
                        async with client.open(f"/{mode}/f", "x"):
                            await client.chmod(f"/{mode}/f", 0o600)

    asyncio.run(listen())
    assert len(heard.said) == 4
    return heard


def hostile(rng: Random, good: list[bytes]) -> bytes:
    """A conversation of a good client's, said again to a daemon with other keys, and spoilt; or anything."""
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(1, 2000))
        case 1:
            return mutated(rng, rng.choice(good)[: rng.randrange(1, 400)], good)
        case _:
            return mutated(rng, rng.choice(good), good)


@settings(suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_no_bytes_get_a_stranger_in_or_a_daemon_into_trouble(overheard: Overheard, seed: int) -> None:
    """In memory, as the daemons' sockets would do: a CephError closes the connection, and nothing else may come."""
    rng = Random(seed)
    daemons = _daemons()
    for (kind, messenger), good in overheard.said.items():
        daemon = daemons[kind]
        addr = next(addr for addr in daemon.addrs if addr.type == messenger)
        connection = daemon.accept(PEER, addr)
        with contextlib.suppress(CephError):
            for piece in torn(rng, hostile(rng, good)):
                connection.receive(piece, 0.0)
        if kind is EntityType.MDS:  # a monitor lets in by messenger v1 first, and asks then
            assert connection.phase is not Phase.READY
        daemon.lost(connection, 0.0)
        assert connection not in daemon.connections
        assert daemon.remotes == {} or kind is EntityType.MDS
        assert connection.global_id == 0


def _daemons() -> dict[EntityType, Daemon]:
    found: dict[EntityType, Daemon] = {}

    async def make() -> None:
        async with TestCluster() as cluster:
            found.update({EntityType.MON: cluster.mon, EntityType.MDS: cluster.mds[0]})

    asyncio.run(make())
    return found


async def test_sockets_of_strangers_are_closed_and_clients_go_on(overheard: Overheard) -> None:
    rng = Random(1)
    async with TestCluster() as cluster, connect(cluster.conf) as client:
        ports = [(daemon.kind, addr) for daemon in (cluster.mon, cluster.mds[0]) for addr in daemon.addrs]
        sent = [SPOKEN, b"\0" * 5000, b"ceph v2\n" + b"\xff" * 100, b"ceph v027" + b"\xff" * 1000]
        for kind, addr in ports:
            said = [*sent, *(hostile(rng, overheard.said[kind, addr.type]) for _ in range(10))]
            for data in said:
                reader, writer = await asyncio.open_connection(addr.host, addr.port)
                writer.write(data)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 5)
                writer.close()
            await client.mkdir(f"/{addr.port}")
        assert len(await client.listdir("/")) == len(ports)
        assert len(cluster.mds[0].sessions) == 1
        assert len(cluster.mds[0].remotes) == 1


async def test_it_listens_on_loopback_alone_and_says_the_key_nowhere(cluster: TestCluster) -> None:
    addrs = [addr for daemon in (cluster.mon, cluster.mds[0]) for addr in daemon.addrs]
    assert {addr.host for addr in addrs} == {"127.0.0.1"}
    ports = {f"{addr.port:04X}" for addr in addrs}
    bound = {line.split()[1].split(":")[0] for line in _sockets() if line.split()[1].split(":")[1] in ports}
    assert bound == {"0100007F"}
    (key,) = cluster.keys.principals.values()
    assert key.secret.hex() not in repr(key)
    assert "key" not in cluster.conf.read_text().replace("keyring", "")


def _sockets() -> list[str]:
    """Listening, as Linux shows them; also those of IPv6."""
    lines = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/net/{table}") as file:
            lines += [line for line in file.read().splitlines()[1:] if line.split()[3] == "0A"]
    return lines
