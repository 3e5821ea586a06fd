"""What no peer can make grow, or go on, without end. docs/security.md has a table of it."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from cephcaps import namespace
from cephcaps.auth.cephx import Tickets
from cephcaps.core import Mount
from cephcaps.engine.dentries import MISSING_KEPT
from cephcaps.engine.move import MAX_MDS
from cephcaps.errors import ConnectionFailed, MalformedMessage, MdsError, ProtocolViolation
from cephcaps.mds.requests import Answer
from cephcaps.mds.routing import MOST_FORWARDS
from cephcaps.messenger.framing import MAX_HANDSHAKE_FRAME, MAX_TRANSCRIPT, FrameReader, FrameWriter
from cephcaps.messenger.v2 import MAX_ROUNDS
from cephcaps.namespace import Namespace
from cephwire.caps import CapPeer
from cephwire.cephx import SERVER_CHALLENGE, ServerChallenge, TicketList
from cephwire.codec import Codec
from cephwire.control import AuthReplyMore, AuthRequest, AuthRequestMore, SessionReconnect, SessionRetry
from cephwire.entity import EntityType
from cephwire.frag import WHOLE
from cephwire.frames import Tag
from cephwire.inode import DirStat
from cephwire.mon_messages import MAuth
from cephwire.reply import ClientRequestForward, ReaddirReply
from cephwire.request import FilePath
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.engine.bench import Bench, stat_of
from tests.engine.test_move import export
from tests.session import samples
from tests.session.handshakes import mds_pair, mon_pair
from tests.session.peers import banner
from tests.session.test_connection import refused
from tests.session.world import World, mounted

CHALLENGE = AuthReplyMore(Codec(SERVER_CHALLENGE).encode(ServerChallenge(7)))


def test_a_monitor_that_challenges_without_end_is_left() -> None:
    pair = mon_pair()
    asked: list[Any] = []

    def challenge(frame: Any) -> AuthReplyMore:
        asked.append(frame)
        return CHALLENGE

    pair.server.answers |= {AuthRequest: challenge, AuthRequestMore: challenge}

    refused(pair, ProtocolViolation, f"has said {MAX_ROUNDS} things and not let us in")
    assert len(asked) == MAX_ROUNDS  # the HELLO counts, too


def test_an_mds_that_has_us_resume_in_another_way_without_end_is_left() -> None:
    pair = mds_pair()
    pair.client.link.peer_cookie = 1
    pair.server.answers[SessionReconnect] = lambda frame: SessionRetry(frame.connect_seq)

    refused(pair, ProtocolViolation, f"has said {MAX_ROUNDS} things and not let us in")


def test_frames_that_a_stranger_gives_up_are_not_kept_without_end() -> None:
    reader = FrameReader()
    aborted = bytearray(FrameWriter().frame(Tag.HELLO, [b"x" * (MAX_HANDSHAKE_FRAME - 1), b"x"]))
    aborted[-13] = 1
    for _ in range(MAX_TRANSCRIPT // len(aborted)):
        reader.feed(bytes(aborted))
        assert reader.next() is None
    reader.feed(bytes(aborted))
    with pytest.raises(MalformedMessage, match=f"a handshake of over {MAX_TRANSCRIPT} bytes"):
        reader.next()

    assert len(reader.transcript or b"") < MAX_TRANSCRIPT + 2 * MAX_HANDSHAKE_FRAME


def test_a_peer_that_says_a_byte_a_second_is_left_before_it_lets_us_in() -> None:
    world = World()
    world.mons[0].mood = "silent"
    token = world.call(Mount(), 30.0)
    said: dict[Any, int] = {}
    for _ in range(30):
        for connection in list(world.links):
            said[connection] = said.get(connection, -1) + 1
            world.core.received(connection, banner()[said[connection] :][:1], world.now)
        world.advance(1.0)

    assert isinstance(world.results[token], ConnectionFailed)
    assert len(world.dialled) > 2


# Connections and sessions


def test_an_mds_that_hangs_up_as_soon_as_it_has_let_us_in_is_returned_to_at_leisure() -> None:
    world = mounted()
    before = len(world.dialled)
    end = world.now + 60.0
    while world.now < end:
        world.advance(end - world.now, until=lambda: world.session.carrier.ready)
        if world.session.carrier.ready:
            world.lose(world.ranks[0])

    assert len(world.dialled) - before < 60 + 10  # one a second once it is clear how things stand


def test_a_connection_that_lasted_is_replaced_at_once_however_often_that_was() -> None:
    world = mounted()
    for _ in range(20):
        world.advance(1.0)
        world.lose(world.ranks[0])
        world.advance(0.0)
        assert world.session.carrier.ready


def test_a_connection_that_brought_something_is_replaced_at_once_however_brief_it_was() -> None:
    """On a bad network many break within a tenth of a second, and each carries the work on."""
    world = mounted()
    for _ in range(20):
        world.advance(0.05)
        world.ranks[0].peer.say(SessionOp.RENEWCAPS, 0)
        world.lose(world.ranks[0])
        world.advance(0.0)
        assert world.session.carrier.ready


@pytest.mark.parametrize("op", [SessionOp.CLOSE, SessionOp.OPEN])
def test_an_mds_that_closes_what_it_opens_is_asked_ever_more_slowly(op: SessionOp) -> None:
    world = mounted()

    def arrived(peer: Any) -> None:
        def handle(header: Any, message: Any) -> None:
            if isinstance(message, ClientSession) and message.op == SessionOp.REQUEST_OPEN:
                if op == SessionOp.OPEN:
                    peer.send(ClientSession(SessionOp.OPEN, 0, features=0))
                peer.say(SessionOp.CLOSE)

        peer.handle = handle

    world.ranks[0].arrived = arrived
    world.ranks[0].peer.say(SessionOp.CLOSE)
    token = world.getattr(timeout=60.0)
    before = len(world.dialled)
    world.advance(60.0)

    assert isinstance(world.results[token], MdsError | TimeoutError)
    assert 5 < len(world.dialled) - before < 15


# Requests


def test_a_request_that_is_passed_on_without_end_fails() -> None:
    world = mounted()
    world.ranks[0].answers = lambda request: ClientRequestForward(0, request.ext_num_fwd + 100, 1)
    before = len(world.ranks[0].peer.requests())
    token = world.getattr()

    error = world.results[token]
    assert isinstance(error, MdsError)
    assert error.errno == errno.EMULTIHOP
    assert len(world.ranks[0].peer.requests()) - before == MOST_FORWARDS // 100 + 1
    assert not list(world.core.mds.requests)


class Directory(Namespace):
    """A listing of which ``answers`` come, again and again."""

    def __init__(self, *answers: ReaddirReply) -> None:
        self.answers = answers
        self.asked = 0

    @property
    def _listings(self) -> Any:
        return SimpleNamespace(begin=lambda: None)

    def _until(self, timeout: float | None) -> float | None:
        return timeout

    async def _ask(self, operation: Any, until: float | None) -> Any:
        extra = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        return Answer(SimpleNamespace(extra=extra), None, [None] * len(extra.entries))  # type: ignore[arg-type,list-item]

    def list(self) -> AsyncIterator[Any]:
        return self._list(RequestOp.READDIR, FilePath(1), "/", 1.0)


@pytest.mark.parametrize("flags", [0, 1])
async def test_a_listing_that_tells_nothing_and_does_not_end_is_given_up(
    flags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "MOST_NOTHING", 50)
    first_of_two = 1 << 24
    directory = Directory(ReaddirReply(DirStat(first_of_two if flags else WHOLE, -1, ()), flags, ()))

    with pytest.raises(MdsError, match="has told nothing in 50 answers"):
        _ = [piece async for piece in directory.list()]
    assert directory.asked == 50


# What is kept


def test_inodes_that_an_mds_tells_of_unasked_are_kept_up_to_the_limit_of_caps() -> None:
    world = mounted()
    world.core.mds.engine.pool.limit = 100
    for ino in range(1000, 3000):
        told = samples.inode(ino, samples.cap(0x155, ino))
        world.ranks[0].peer.send(samples.reply(RequestOp.LOOKUP, told), tid=1 << 40)
        world.run()

    cache = world.core.mds.engine.cache
    assert len(cache.inodes) <= 101
    assert cache.rank(0).num_caps <= 101
    assert world.core.mds.unmatched == 2000


def test_names_that_are_missing_are_forgotten_in_the_end() -> None:
    bench = Bench()
    directory = stat_of(1, "pAsLsXsFs", mode=0o040755, files=1)
    for number in range(3 * MISSING_KEPT):
        bench.reply(dir=directory, dname=f"n{number}")

    assert len(bench.inode(1).children or {}) <= MISSING_KEPT


def test_a_cap_is_not_handed_to_a_rank_that_no_cluster_has() -> None:
    bench = Bench()
    for number in range(100):
        bench.hold(7, "pAsLs")
        export(bench, CapPeer(71, 1, 1, MAX_MDS + number, 0))

    assert bench.needed == []
    assert set(bench.engine.cache.ranks) == {0}


def test_a_ticket_for_no_service_there_is_is_not_kept() -> None:
    pair = mds_pair()
    tickets: Tickets = pair.tickets
    key = tickets.held[EntityType.AUTH].session_key
    known = set(tickets.held)
    for service in range(0x100, 0x200):
        tickets.take(TicketList((pair.keys.ticket(service, 1, key, None),)), key, 0.0)

    assert set(tickets.held) == known


def test_tickets_that_expire_as_they_come_are_asked_for_ever_more_slowly() -> None:
    world = World()
    world.keys.validity |= dict.fromkeys(EntityType, 0)
    world.mount()
    world.advance(300.0)

    asked = sum(len(peer.got(MAuth)) for peer in world.mons[0].peers)
    assert 0 < asked < 40
