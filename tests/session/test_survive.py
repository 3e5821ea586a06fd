"""Connections that break, peers that forget or fall silent, addresses that are barred: what becomes of a session."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from cephcaps.core import Close, Safe
from cephcaps.errors import SessionLost
from cephcaps.mds.client import RECOVERY_INTERVAL
from cephcaps.messenger.connection import Phase
from cephwire.control import ClientIdent, SessionReconnect, SessionReset, SessionRetry, SessionRetryGlobal, Wait
from cephwire.entity import AddrType, EntityAddr
from cephwire.frames import MessageHeader
from cephwire.mdsmap import MdsState
from cephwire.session import ClientSession, SessionFlag, SessionOp
from tests.session import samples
from tests.session.handshakes import NONCE
from tests.session.peers import CLIENT_ADDR
from tests.session.test_failover import mkdir
from tests.session.test_owed import ALL, change, flushes, give, told
from tests.session.world import World, mounted


def answering(world: World, *answers: Any) -> None:
    """Rank 0 answers attempts to resume with ``answers`` first, on the same connection."""
    queue = list(answers)

    def arrived(peer: Any) -> None:
        usual = peer.answers[SessionReconnect]
        peer.answers[SessionReconnect] = lambda frame: queue.pop(0) if queue else usual(frame)

    world.ranks[0].arrived = arrived


def forgets(world: World) -> None:
    """Rank 0 knows no session any more, and every connection to it breaks."""
    world.ranks[0].keeps.clear()
    world.lose(world.ranks[0])


# Resuming


@pytest.mark.parametrize("times", [1, 3])
def test_what_was_sent_and_not_acknowledged_goes_again_under_the_same_numbers(times: int) -> None:
    world = mounted()
    first = world.ranks[0].peer
    first.receive = lambda data: None  # it never arrives
    tokens = [world.getattr(ino=1) for _ in range(3)]

    for _ in range(times):
        world.lose(world.ranks[0])
        world.advance(1.0)

    sent = [header.seq for header, _ in world.ranks[0].peers[1].messages]
    assert sent == [3, 4, 5]
    assert all(not isinstance(world.results[token], Exception) for token in tokens)
    assert world.session.carrier.broken == times


def test_the_first_attempt_comes_at_once_and_the_next_after_pauses() -> None:
    world = mounted()
    world.ranks[0].mood = "dead"
    began = world.now
    world.lose(world.ranks[0])
    world.advance(0.0)
    tries = [began]
    longest = [0.2 / 16 * 2**doubled for doubled in range(8)]
    for _ in longest:
        before = len(world.dialled)
        world.advance(20.0, until=lambda: len(world.dialled) > before)  # noqa: B023
        tries.append(world.now)

    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


def test_a_server_that_has_seen_more_connections_is_told_a_higher_number() -> None:
    world = mounted()
    answering(world, SessionRetry(7), SessionRetryGlobal(40))
    world.lose(world.ranks[0])
    world.advance(1.0)

    frames = world.ranks[0].peer.got_frames(SessionReconnect)
    assert [frame.connect_seq for frame in frames] == [1, 8, 8]
    assert frames[-1].global_seq == 41
    assert world.session.state == "open"
    assert len(world.ranks[0].peers) == 2


def test_a_server_that_asks_us_to_wait_is_tried_again_later() -> None:
    world = mounted()
    answering(world, Wait())
    world.lose(world.ranks[0])
    world.advance(1.0)

    assert len(world.ranks[0].peers) == 3
    assert world.session.state == "open"


def test_a_server_that_forgot_only_what_it_sent_gets_all_that_waits() -> None:
    world = mounted()
    world.ranks[0].peer.receive = lambda data: None
    token = world.getattr(ino=1)
    answering(world, SessionReset(0))
    world.lose(world.ranks[0])
    world.advance(1.0)

    [ident] = world.ranks[0].peer.got_frames(ClientIdent)
    assert ident.cookie == world.session.carrier.link.cookie
    assert world.session.state == "open"
    assert not isinstance(world.results[token], Exception)


def test_a_handshake_that_broke_before_the_server_s_ident_begins_with_the_same_cookie() -> None:
    world = World()
    cookies: list[int] = []

    def arrived(peer: Any) -> None:
        usual = peer.answers[ClientIdent]

        def ident(frame: ClientIdent) -> Any:
            cookies.append(frame.cookie)
            return usual(frame) if len(cookies) > 1 else None

        peer.answers[ClientIdent] = ident

    world.ranks[0].arrived = arrived
    world.mount()

    assert len(cookies) == 2
    assert len(set(cookies)) == 1


def test_a_message_that_cannot_be_read_is_not_asked_for_again() -> None:
    world = mounted()
    waiting = world.getattr()
    world.ranks[0].peer.send_raw(22, b"short")
    world.run()

    error = world.results[waiting]
    assert isinstance(error, SessionLost)
    assert error.reason == "protocol"
    assert "ClientSession" in str(error)
    assert world.session.state == "rejected"


# Silence


def test_a_peer_that_falls_silent_is_left_for_a_new_connection() -> None:
    world = mounted()
    world.ranks[0].peer.receive = lambda data: None

    world.advance(45.0)

    assert len(world.ranks[0].peers) == 2
    assert world.session.state == "open"


def test_a_client_that_was_frozen_reads_first_what_has_come() -> None:
    world = mounted()
    world.now += 300.0
    world.core.tick(world.now)
    world.run()
    world.advance(50.0)

    assert len(world.ranks[0].peers) == 1
    assert world.session.state == "open"


# Forgotten


def test_a_client_that_was_evicted_and_not_barred_is_told_what_it_lost_and_goes_on() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe, making, reading = world.call(Safe(7)), mkdir(world, "d"), world.getattr(ino=1)
    world.ranks[0].answers = lambda request: samples.reply(request.op, samples.inode(request.path.ino))

    forgets(world)
    world.advance(1.0)

    for token in (safe, making):
        error = world.results[token]
        assert isinstance(error, SessionLost)
        assert error.reason == "evicted"
        assert "it had dropped this client" in str(error)
    assert world.results[safe].lost == ("inode 0x7: Ax",)
    assert not isinstance(world.results[reading], Exception)
    assert world.session.state == "open"
    assert flushes(world) == []
    assert 7 not in world.core.mds.engine.cache.inodes


def test_until_it_is_known_what_became_of_the_session_its_caps_do_not_count() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    world.ranks[0].opens = False

    forgets(world)
    world.advance(1.0)

    assert world.session.state == "opening"
    assert world.core.mds.engine.known(7, ALL, world.now) is None
    waiting = change(world, 7, mode=0o600)
    assert waiting in world.pending


def test_an_mds_that_forgot_us_because_it_was_dying_is_no_eviction() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))
    world.ranks[0].opens = False
    forgets(world)
    world.advance(1.0)
    assert world.session.state == "opening"

    world.replace(0)
    world.map_ranks(epoch=6, state=MdsState.RECONNECT)
    world.publish()

    assert world.session.state == "reconnecting"
    [told_caps] = [message.caps for _, message in world.ranks[0].peer.messages if hasattr(message, "realms")]
    assert [(entry.ino, entry.cap.issued) for entry in told_caps] == [(7, ALL)]
    assert safe in world.pending


def test_a_session_that_is_being_closed_when_it_is_forgotten_is_closed() -> None:
    world = mounted()
    world.ranks[0].peer.pushed = 99
    token = world.call(Close(), 30.0)

    forgets(world)
    world.advance(1.0)

    assert world.results[token] is None


# Barred


def blocklist(world: World, nonce: int = NONCE, port: int = 0) -> None:
    entry = EntityAddr.make(AddrType.ANY, CLIENT_ADDR.host, port, nonce)
    world.core.mds.blocklisted({entry: 0}, world.now)
    world.core.mds.settle(world.now)
    world.run()


@pytest.mark.parametrize("known_by", ["map", "reject"])
def test_a_client_whose_address_is_barred_hears_so_everywhere_and_at_once(known_by: str) -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe, reading = world.call(Safe(7)), world.getattr()
    if known_by == "map":
        blocklist(world)
    else:
        world.ranks[0].opens = False
        forgets(world)
        world.advance(1.0)
        flags = {"error_string": "blocklisted (blacklisted)"}
        world.ranks[0].peer.send(ClientSession(SessionOp.REJECT, 0, metadata=flags, flags=SessionFlag.BLOCKLISTED))
        world.run()

    later = world.getattr(ino=9)
    for token in (safe, reading, later):
        error = world.results[token]
        assert isinstance(error, SessionLost)
        assert error.reason == "blocklisted"
    assert world.results[safe].lost == ("inode 0x7: Ax",)
    assert world.session.state == "rejected"
    closing = world.call(Close())
    assert world.results[closing] is None


@pytest.mark.parametrize(("nonce", "port"), [(NONCE + 1, 0), (NONCE, 5), (0, 7)])
def test_what_is_barred_for_others_does_not_concern_us(nonce: int, port: int) -> None:
    world = mounted()
    blocklist(world, nonce, port)

    assert world.session.state == "open"


def test_a_whole_host_may_be_barred() -> None:
    world = mounted()
    blocklist(world, 0)

    assert world.session.state == "rejected"


def test_a_client_that_recovers_comes_back_under_another_address_with_nothing_cached() -> None:
    world = mounted()
    world.core.mds.recovers = True
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))

    blocklist(world)

    assert world.results[safe].reason == "blocklisted"
    again = world.getattr(ino=1)
    assert not isinstance(world.results[again], Exception)
    assert world.session.state == "open"
    nonce = world.core.mds._credentials.instance.nonce
    [ident] = world.ranks[0].peer.got_frames(ClientIdent)
    assert [addr.nonce for addr in ident.addrs.addrs] == [nonce] != [NONCE]
    blocklist(world)  # the old entry is still there
    assert world.session.state == "open"
    blocklist(world, nonce)
    assert world.session.state == "rejected"  # not twice in half an hour
    assert RECOVERY_INTERVAL == 1800


def test_link_numbers_go_on_over_connections() -> None:
    world = mounted()
    world.lose(world.ranks[0])
    world.advance(1.0)
    world.getattr(ino=1)

    headers: list[MessageHeader] = [header for header, _ in world.ranks[0].peer.messages]
    assert [header.seq for header in headers] == [3]
    assert world.session.connection is not None
    assert world.session.connection.phase is Phase.READY
