"""A whole client over messenger v1: it mounts, goes on over broken connections, follows a rank that is taken over."""

from __future__ import annotations

from functools import partial

import pytest

from cephcaps.config import MonAddress, parse_mon_host
from cephcaps.core import Mount
from cephcaps.errors import AuthError, ConfigError
from cephcaps.opening import resolve
from cephwire.entity import AddrType, AddrVec, EntityAddr
from cephwire.keys import CryptoType
from cephwire.legacy import MsgrTag
from cephwire.mdsmap import MdsInfo, MdsState
from cephwire.mon_messages import MAuth
from cephwire.reconnect import ClientReconnect
from cephwire.session import SessionOp
from tests.session import samples
from tests.session.peers_v1 import PeerV1
from tests.session.world import World, mounted

legacy = partial(World, messenger=AddrType.LEGACY)
mounted_legacy = partial(mounted, messenger=AddrType.LEGACY)


@pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K, None])
def test_a_client_mounts(type: CryptoType | None) -> None:
    world = mounted_legacy(type=type)

    assert {addr.type for addr in world.dialled} == {AddrType.LEGACY}
    assert world.session.state == "open"
    assert world.happened("mon.connected") == [{"peer": str(world.mons[0].addr), "mode": "legacy"}]


def test_a_session_goes_on_over_another_connection() -> None:
    world = mounted_legacy()
    waiting = world.getattr()
    first = world.ranks[0].peer
    world.lose(world.ranks[0])
    assert world.session.state == "open"

    meanwhile = world.getattr(ino=1)
    world.advance(1.0)

    assert first is not world.ranks[0].peer
    assert [connect.connect_seq for connect, _ in world.ranks[0].peer.connects] == [2, 2]
    assert not isinstance(world.results[meanwhile], Exception)
    assert waiting not in world.results
    assert [tid for tid, _ in world.ranks[0].peer.requests()] == [3]  # what the MDS had is not sent again


def test_an_mds_that_has_forgotten_the_client_is_asked_anew() -> None:
    world = mounted_legacy()
    world.ranks[0].keeps.clear()
    world.lose(world.ranks[0])
    world.advance(1.0)

    assert world.ranks[0].peer.session_ops()[0][0] == SessionOp.REQUEST_OPEN
    assert world.session.state == "open"


def test_a_rank_taken_over_is_told_what_is_held() -> None:
    world = mounted_legacy()
    old = world.ranks[0]
    old.mood = "dead"
    new = world.replace(0)
    world.lose(old)
    for epoch, state in enumerate((MdsState.REPLAY, MdsState.RECONNECT, MdsState.REJOIN, MdsState.ACTIVE), 6):
        world.map_ranks(epoch, state)
        world.publish()
        world.advance(1.0)

    assert new.peer.connects[0][0].connect_seq == 0
    assert len(new.peer.got(ClientReconnect)) == 1


def refusing(world: World, times: int) -> None:
    """Makes rank 0 refuse that many tickets."""
    left = [MsgrTag.BADAUTHORIZER] * times

    def arrived(peer: PeerV1) -> None:
        peer.twist = lambda connect, reply, proof: (peer.reply(left.pop()), b"") if left else (reply, proof)

    world.ranks[0].arrived = arrived


def test_a_refused_ticket_is_replaced_once() -> None:
    world = legacy()
    refusing(world, 1)

    assert not isinstance(world.mount(), Exception)
    assert len(world.mons[0].peer.got(MAuth)) == 1
    assert len(world.ranks[0].peers) == 2


def test_if_fresh_tickets_are_refused_again_and_again_those_who_wait_are_told() -> None:
    world = legacy()
    refusing(world, 99)

    token = world.call(Mount(), 60.0)
    world.advance(30.0)
    assert isinstance(world.results[token], AuthError)
    assert len(world.ranks[0].peers) == 6


def test_a_wrong_key_fails_the_mount() -> None:
    world = legacy()
    world.keys.add("client.admin")

    error = world.mount()

    assert isinstance(error, AuthError)
    assert "mon at v1:192.0.2.1:3300/0" in str(error)


def test_tickets_are_renewed_before_they_expire() -> None:
    world = mounted_legacy()
    before = dict(world.tickets.held)
    world.advance(3600.0)

    assert all(world.tickets.held[service].expires > before[service].expires for service in before if service < 32)
    assert len(world.mons[0].peers) == 1


def test_a_lost_monitor_is_found_again_under_the_same_identity() -> None:
    world = mounted_legacy(mons=2)
    known = world.tickets.global_id
    lost = next(mon for mon in world.mons if mon.peers)
    lost.mood = "dead"
    world.lose(lost)
    world.advance(10.0, until=lambda: world.core.monitors.ready)

    assert world.core.monitors.ready
    assert world.tickets.global_id == known


# Which address is taken


def info(*addrs: EntityAddr) -> MdsInfo:
    plain = samples.mds_info(0, 100, addrs[0])
    return MdsInfo(**{name: getattr(plain, name) for name in plain.__struct_fields__} | {"addrs": AddrVec(addrs)})


V1 = EntityAddr.make(AddrType.LEGACY, "192.0.2.2", 6801, 100)
V2 = EntityAddr.make(AddrType.MSGR2, "192.0.2.2", 6800, 100)


@pytest.mark.parametrize(("messenger", "taken"), [(AddrType.MSGR2, V2), (AddrType.LEGACY, V1)])
def test_of_an_mds_s_addresses_the_messenger_s_own_is_taken(messenger: AddrType, taken: EntityAddr) -> None:
    assert World(messenger=messenger).core.mds.address(info(V2, V1)) == taken


def test_an_mds_without_messenger_v1_is_said_to_be_one() -> None:
    world = legacy()
    world.maps["mdsmap.1"] = 5, samples.mdsmap(5, info(V2))

    error = world.mount()

    assert isinstance(error, ConnectionError)
    assert "mds.0 (host100) at v2:192.0.2.2:6800/100 does not speak messenger v1: connect with another" in str(error)


async def test_of_mon_host_the_messenger_s_addresses_are_taken() -> None:
    mons = parse_mon_host("[v2:192.0.2.1:3300,v1:192.0.2.1:6789] 192.0.2.2 v1:192.0.2.3:6790 192.0.2.4:3300")
    old, new = (await resolve(mons, AddrType.LEGACY), await resolve(mons, AddrType.MSGR2))

    assert [str(addr) for addr in old] == [f"v1:192.0.2.{n}/0" for n in ("1:6789", "2:6789", "3:6790")]
    assert [str(addr) for addr in new] == [f"v2:192.0.2.{n}:3300/0" for n in (1, 2, 4)]


async def test_mon_host_may_name_none_of_the_messenger_s() -> None:
    only_v2, only_v1 = ((MonAddress("v2", "::1", 3300),),), ((MonAddress("v1", "::1", 6789),),)

    with pytest.raises(ConfigError, match=r"v2 addresses only: add v1 ones \(port 6789\) or drop ms_mode legacy"):
        await resolve(only_v2, AddrType.LEGACY)
    with pytest.raises(ConfigError, match=r"v1 addresses only: add v2 ones \(port 3300\) or say ms_mode legacy"):
        await resolve(only_v1, AddrType.MSGR2)
