"""Secure mode opened with a keyring: what the captured handshakes give, whenever they come, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.auth.crypto import CryptoKey
from cephcaps.trace import secrets as under_test
from cephcaps.trace.items import Flow
from cephcaps.trace.secrets import MAX_KEYS, Secrets
from cephwire.control import ConMode
from cephwire.entity import EntityType
from cephwire.frames import MessageHeader
from cephwire.keys import CryptoType
from cephwire.session import SessionOp
from tests.session.handshakes import ADMIN, GLOBAL_ID, mds_pair, mon_pair
from tests.trace.overheard import DOWN, UP, Overheard, Reader, Tapped, overheard, secret_texts

each_type = pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K])
HOUR = 3600


def secure_world(type: CryptoType = CryptoType.AES, **settings: Any) -> Tapped:
    """A client that has mounted and asked for something, everything in secure mode."""
    world = Tapped(type=type, mode=ConMode.SECURE, **settings)
    world.keys.validity = {EntityType.AUTH: 3 * HOUR}
    result = world.mount()
    assert not isinstance(result, Exception), result
    world.getattr(1)
    return world


def connect_again(world: Tapped) -> None:
    """Another connection to the MDS."""
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()
    world.getattr(1)


def keyring(world: Tapped) -> dict[str, CryptoKey]:
    return {str(ADMIN): world.keys.principals[str(ADMIN)]}


def numbers(said: list[tuple[MessageHeader, Any]]) -> list[tuple[int, int]]:
    return [(header.type, header.seq) for header, _ in said]


def assert_read(reader: Reader, flow: Flow, heard: Overheard) -> None:
    for way in (UP, DOWN):
        assert numbers(reader.way(way, flow)) == numbers(heard.way(way))
    assert heard.said


@each_type
def test_a_login_opens_the_connections_that_its_tickets_are_for(type: CryptoType) -> None:
    world = secure_world(type)
    reader = Reader(keyring(world))
    mon, mds = world.heard
    for heard in (mon, mds):
        assert_read(reader, reader.read(heard.pieces), heard)
    assert reader.problems == []
    assert [(flow.daemon_type, flow.client_id, flow.secure) for flow in reader.flows] == [
        (EntityType.MON, GLOBAL_ID, True),
        (EntityType.MDS, GLOBAL_ID, True),
    ]


@each_type
def test_the_login_may_come_later_in_the_file(type: CryptoType) -> None:
    world = secure_world(type)
    reader = Reader(keyring(world))
    mon, mds = world.heard
    mds_flow = reader.read(mds.pieces)
    assert reader.out == []
    mon_flow = reader.read(mon.pieces)
    reader.secrets.finish()
    assert_read(reader, mon_flow, mon)
    assert_read(reader, mds_flow, mds)
    assert reader.problems == []
    times = [item.ns for item in reader.traced if item.flow is mds_flow]
    assert times == sorted(times)
    assert max(times) <= len(mds.pieces)


def test_a_gap_is_remembered_while_the_login_has_not_come() -> None:
    world = secure_world()
    reader = Reader(keyring(world))
    mon, mds = world.heard
    last = max(index for index, (way, _) in enumerate(mds.pieces) if way == DOWN)
    torn = [(way, None if index == last else data) for index, (way, data) in enumerate(mds.pieces)]
    flow = reader.read(torn)
    reader.read(mon.pieces)
    assert numbers(reader.way(UP, flow)) == numbers(mds.way(UP))
    assert len(reader.way(DOWN, flow)) < len(mds.way(DOWN))
    assert reader.kinds == ["gap"]


@each_type
def test_tickets_that_are_renewed_open_what_comes_after(type: CryptoType) -> None:
    world = secure_world(type)
    world.advance(2.7 * HOUR)
    assert world.keys.granted.count(EntityType.MDS) > 2
    assert world.keys.granted.count(EntityType.AUTH) > 1
    connect_again(world)
    reader = Reader(keyring(world))
    streams = {number: reader.stream() for number in range(len(world.heard))}
    for number, to_daemon, data in world.all:
        reader.ns += 1
        streams[number].data(to_daemon, data, reader.ns)
    for flow, heard in zip(reader.flows, world.heard, strict=True):
        assert_read(reader, flow, heard)
    assert reader.problems == []
    assert len(world.heard) == 3


@each_type
def test_an_identity_that_is_reclaimed_is_opened_too(type: CryptoType) -> None:
    world = secure_world(type)
    world.lose(world.mons[0])
    world.advance(30.0, until=lambda: world.core.monitors.ready)
    connect_again(world)
    for known in (world.heard, world.heard[2:]):  # what the old AUTH ticket seals is not needed
        reader = Reader(keyring(world))
        for heard in known:
            assert_read(reader, reader.read(heard.pieces), heard)
        assert reader.problems == []
        assert {flow.client_id for flow in reader.flows} == {GLOBAL_ID}
        assert [flow.daemon_type for flow in reader.flows[-2:]] == [EntityType.MON, EntityType.MDS]


def test_a_monitor_in_crc_mode_gives_the_tickets_too() -> None:
    pair = mon_pair(ConMode.CRC)
    reader = Reader(pair.keys.principals)
    reader.read(overheard(pair).pieces)
    for service, ticket in pair.tickets.held.items():
        assert reader.secrets.session_keys(GLOBAL_ID, service) == [ticket.session_key]


def test_method_none_needs_no_keyring() -> None:
    world = Tapped(type=None, mode=ConMode.CRC)
    world.mount()
    reader = Reader()
    for heard in world.heard:
        assert_read(reader, reader.read(heard.pieces), heard)
    assert reader.problems == []


# What cannot be opened.


@pytest.mark.parametrize("pair", [mon_pair, mds_pair])
def test_without_a_keyring_there_is_one_problem_a_connection(pair: Any) -> None:
    reader = Reader()
    reader.read(overheard(pair(ConMode.SECURE)).pieces)
    reader.secrets.finish()
    (problem,) = reader.problems
    assert (problem.kind, problem.to_daemon) == ("sealed", None)
    assert "--keyring" in problem.what
    if pair is mon_pair:
        assert "client.admin" in problem.what


def test_crc_mode_needs_no_keyring_and_none_that_fits() -> None:
    pair = mon_pair(ConMode.CRC)
    for keyring in (None, {}, {str(ADMIN): pair.keys.new_key()}):
        reader = Reader(keyring)
        reader.read(overheard(mon_pair(ConMode.CRC)).pieces)
        assert reader.problems == []
        assert reader.traced


@each_type
def test_a_keyring_with_another_key_says_so(type: CryptoType) -> None:
    pair = mon_pair(ConMode.SECURE, type)
    wrong = pair.keys.new_key()
    reader = Reader({str(ADMIN): wrong})
    reader.read(overheard(pair).pieces)
    (problem,) = reader.problems
    assert problem.kind == "sealed"
    assert "client.admin is not the one used" in problem.what


def test_a_keyring_without_the_entity_says_so() -> None:
    pair = mon_pair(ConMode.SECURE)
    reader = Reader({"client.other": pair.keys.new_key()})
    reader.read(overheard(pair).pieces)
    (problem,) = reader.problems
    assert "no key of client.admin" in problem.what


@each_type
def test_a_ticket_from_before_the_capture_says_what_would_help(type: CryptoType) -> None:
    world = secure_world(type)
    reader = Reader(keyring(world))
    reader.read(world.heard[1].pieces)
    assert reader.out == [], "its login may yet come"
    reader.secrets.finish()
    (problem,) = reader.problems
    assert (problem.kind, problem.to_daemon) == ("sealed", None)
    assert f"client {GLOBAL_ID}" in problem.what
    assert "begins before the client mounts" in problem.what
    assert "monitors" in problem.what


def test_a_login_that_is_another_clients_opens_nothing() -> None:
    world, other = secure_world(), secure_world()
    other.keys.next_global_id = GLOBAL_ID + 10
    reader = Reader(keyring(world))
    reader.read(world.heard[1].pieces)
    wrong = mon_pair(ConMode.SECURE)
    wrong.keys.next_global_id = GLOBAL_ID + 1
    reader.read(overheard(wrong).pieces)
    reader.secrets.finish()
    assert reader.kinds[-1] == "sealed"


def test_no_secret_is_ever_shown() -> None:
    world = secure_world(CryptoType.AES256K)
    told = []
    for ring in (keyring(world), {str(ADMIN): world.keys.new_key()}, None):
        for order in (1, -1):
            reader = Reader(ring)
            for heard in world.heard[::order]:
                pieces = list(heard.pieces)
                pieces[-1] = (pieces[-1][0], pieces[-1][1][:-1] + bytes((pieces[-1][1][-1] ^ 1,)))
                reader.read(pieces)
            reader.secrets.finish()
            told += [*map(repr, reader.problems), repr(reader.secrets), repr(reader.flows)]
            told += [repr(item.header) + repr(item.error) for item in reader.traced]
    assert any("tampered" in text for text in told)
    assert not secret_texts(world.keys.secrets).search("\n".join(told))


# Bounds.


def test_what_waits_for_tickets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 40_000)
    world = secure_world()
    mon, mds = world.heard
    reader = Reader(keyring(world))
    for _ in range(20):
        reader.read(mds.pieces)
    assert reader.secrets._held <= 40_000
    given_up = len(reader.problems)
    assert given_up > 10
    reader.read(mon.pieces)
    reader.secrets.finish()
    assert reader.secrets._held == 0
    assert len(reader.problems) == given_up
    assert len({id(item.flow) for item in reader.traced}) == 20 - given_up + 1


def test_one_connection_that_waits_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 40_000)
    world = secure_world()
    reader = Reader(keyring(world))
    stream = reader.stream()
    reader.feed(stream, world.heard[1].pieces, end=False)
    for _ in range(100):
        stream.data(DOWN, bytes(1448), 1)
    assert reader.kinds == ["sealed"]
    assert not stream._kept
    assert reader.secrets._held == 0


def test_session_keys_are_bounded_and_the_newest_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_CLIENTS", 5)
    found = Secrets({})
    keys = [CryptoKey(CryptoType.AES, 0, bytes((number,)) * 16) for number in range(20)]
    for key in keys:
        found.learn(1, 2, key)
    assert found.session_keys(1, 2) == keys[: -MAX_KEYS - 1 : -1]
    found.learn(1, 2, keys[-3])
    assert found.session_keys(1, 2)[:2] == [keys[-3], keys[-1]]
    for global_id in range(2, 50):
        found.learn(global_id, 2, keys[0])
    assert len(found._session_keys) == 5
