"""Peers that are odd, unlucky or hostile in ways that once made a client spin, crash or wait for ever."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.core import Close
from cephcaps.errors import AuthError, CephError, ConnectionFailed, ProtocolViolation
from cephwire.cephx import (
    AUTHENTICATE_REPLY,
    CEPHX_RESPONSE,
    AuthenticateReply,
    CephxResponse,
    RequestType,
    TicketList,
)
from cephwire.codec import Codec
from cephwire.control import AuthDone, AuthRequestMore
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.frames import Tag
from cephwire.mon_messages import MAuth, MAuthReply
from tests.session import samples
from tests.session.handshakes import mon_pair
from tests.session.peers import banner, flushed
from tests.session.test_connection import raw, refused
from tests.session.world import World, mounted


def test_a_banner_that_requires_what_nobody_knows_is_refused() -> None:
    refused(mon_pair(), ConnectionFailed, "speaks another messenger: .* requires 0x4", greeting=banner(7, 4))


@pytest.mark.parametrize("stamp", [bytes(4) + b"\xff" * 4, b"\xff" * 8])
def test_a_keepalive_is_answered_with_the_very_bytes(stamp: bytes) -> None:
    pair = mon_pair().meet()
    pair.client.receive(raw(Tag.KEEPALIVE2, stamp), 1.0)

    assert flushed(pair.client.out) == raw(Tag.KEEPALIVE2_ACK, stamp)


def test_a_wrong_key_is_not_tried_again() -> None:
    world = World()
    world.keys.add("client.admin")
    assert isinstance(world.mount(), AuthError)
    tries = len(world.dialled)

    world.advance(60.0)

    assert len(world.dialled) == tries


def test_a_client_whose_key_was_taken_away_does_not_storm_the_monitors() -> None:
    world = mounted()
    world.keys.add("client.admin")
    world.lose(world.mons[0])
    tries = len(world.dialled)

    world.advance(60.0)

    slowest = 15.0 / 2
    both_ways = 2  # as who we were, and as somebody new
    assert len(world.dialled) <= tries + both_ways * (1 + 60.0 / slowest)


def test_an_identity_that_cannot_be_reclaimed_is_given_up_for_a_new_one() -> None:
    world = mounted()
    world.keys.sealing[EntityType.AUTH] = world.keys.new_key()  # the keys of the AUTH service moved on while we slept

    world.lose(world.mons[0])
    world.advance(10.0, until=lambda: world.core.monitors.ready)

    assert world.core.monitors.ready
    assert world.tickets.global_id == 4101


def test_a_monitor_that_gives_no_ticket_for_the_mds_is_not_asked_without_end() -> None:
    world = World()
    world.keys.withheld = EntityType.MDS

    assert isinstance(world.mount(), CephError)
    assert len(world.mons[0].peer.got(MAuth)) <= 10


def test_a_monmap_without_v2_addresses_leaves_those_we_know() -> None:
    world = World()
    world.maps["monmap"] = 3, samples.monmap(3, EntityAddr.make(AddrType.LEGACY, "192.0.2.1", 6789))
    world.mount()

    world.lose(world.mons[0])
    world.advance(5.0, until=lambda: world.core.monitors.ready)

    assert world.core.monitors.ready


def test_tickets_that_come_unasked_under_method_none_are_no_crash() -> None:
    world = mounted(type=None)
    body = Codec(AUTHENTICATE_REPLY).encode(AuthenticateReply(TicketList(()), None, None))
    answer = Codec(CEPHX_RESPONSE).encode(CephxResponse(RequestType.GET_AUTH_SESSION_KEY, 0, body))

    world.mons[0].peer.send(MAuthReply(2, 0, 4100, answer, ""))
    world.run()
    world.advance(5.0)

    assert world.core.monitors.ready


def test_closing_fails_what_waits_for_an_answer() -> None:
    world = mounted()
    waiting = world.getattr()

    world.call(Close())

    assert isinstance(world.results[waiting], CephError)


def test_a_mounted_client_stays_with_its_file_system() -> None:
    world = mounted()
    world.maps["fsmap.user"] = 8, samples.fsmap(8, {"a": 1, "b": 2}, default=2)
    world.publish()

    assert world.core.fscid == 1
    assert "mdsmap.2" not in world.mons[0].peer.subscriptions


def test_a_global_id_that_no_ident_can_carry_is_refused() -> None:
    pair = mon_pair()
    more = pair.server.answers[AuthRequestMore]

    def answer_more(frame: Any) -> AuthDone:
        done = more(frame)
        return AuthDone(1 << 63, done.con_mode, done.payload)

    pair.server.answers[AuthRequestMore] = answer_more

    refused(pair, ProtocolViolation, "global id")
