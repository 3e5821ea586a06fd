"""A session with an MDS: opened, renewed, suspended, refused, lost and closed; and tickets that are refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cephcaps.core import Close, Mount
from cephcaps.errors import AuthError, ConnectionFailed, SessionLost
from cephcaps.mds.requests import Operation
from cephcaps.mds.session import OUR_FEATURES
from cephcaps.testing.keys import BAD_KEY
from cephwire.caps import CapOp
from cephwire.control import AuthRequest, AuthSignature, ClientIdent, ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.inode import NOSNAP, Quota
from cephwire.lease import ClientLease, LeaseAction
from cephwire.mdsmap import MdsState
from cephwire.mon_messages import MAuth
from cephwire.quota import ClientQuota
from cephwire.reply import ClientRequestForward
from cephwire.request import FilePath
from cephwire.requestargs import MkdirArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, ClientSession, SessionFlag, SessionOp
from cephwire.snap import ClientSnap, SnapOp
from tests.session import samples
from tests.session.world import MdsPeer, World, mounted

SESSION_TIMEOUT = 60
LEASE = ClientLease(LeaseAction.REVOKE, 1, 5, 2, NOSNAP, 9, 30_000, "name")
PUSHES: list[Any] = [
    samples.caps(CapOp.GRANT, 7, 70),
    samples.caps(CapOp.TRUNC, 7, 70),
    samples.caps(CapOp.EXPORT, 7, 70),
    LEASE,
    ClientSnap(SnapOp.UPDATE, 0, (), (), b""),
    ClientQuota(1, 0, 0, 0, 0, Quota(0, 0)),
]
"""One of everything an MDS counts in the push seq."""


def asked(world: World, op: SessionOp) -> list[int]:
    """The seq of every session message of kind ``op`` that rank 0 had on its newest connection."""
    return [seq for sent, seq in world.ranks[0].peer.session_ops() if sent == op]


def opening(**settings: Any) -> World:
    """A client whose mount waits for the MDS to open the session."""
    world = World(**settings)
    world.ranks[0].opens = False
    world.call(Mount(), 100.0)
    return world


# Opening


def test_the_mds_is_told_who_we_are_and_what_we_can_do() -> None:
    world = mounted(root="/")
    peer = world.ranks[0].peer
    [(header, opened)] = [(header, m) for header, m in peer.messages if isinstance(m, ClientSession)]

    assert (opened.op, opened.seq, header.version) == (SessionOp.REQUEST_OPEN, 0, 7)
    assert opened.metadata == {"hostname": "here", "entity_id": "admin", "root": "/"}
    assert opened.features == OUR_FEATURES == 0x1EFBFF
    assert not opened.features >> ClientFeature.RECLAIM_CLIENT & 1


@pytest.mark.parametrize("features", [0, 0x1FF, OUR_FEATURES, (1 << 63) | 0x7FFFF])
def test_only_features_of_both_sides_count(features: int) -> None:
    world = World()
    world.ranks[0].features = features
    world.mount()

    assert world.session.features == features & OUR_FEATURES
    assert world.session.state == "open"


def test_an_mds_may_say_open_again() -> None:
    world = mounted()
    gen = world.session.cap_gen

    world.ranks[0].peer.send(ClientSession(SessionOp.OPEN, 0, features=0x3FF))
    world.run()

    assert world.session.features == 0x3FF
    assert (world.session.state, world.session.cap_gen) == ("open", gen)


def test_a_connection_lost_before_open_is_tried_again_at_growing_intervals() -> None:
    world = World()
    world.ranks[0].mood = "dead"
    world.call(Mount(), 300.0)
    tries: list[float] = []
    while len(tries) < 12:
        before = len(world.dialled)
        world.advance(20.0, until=lambda: len(world.dialled) > before)  # noqa: B023
        tries.append(world.now)

    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    for pause, longest in zip(pauses, [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0], strict=False):
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == len(pauses)  # no two clients come back in step
    world.ranks[0].mood = "well"
    world.advance(16.0)
    assert world.session.state == "open"


def test_an_mds_that_does_not_open_in_time_is_tried_anew() -> None:
    world = opening()
    world.advance(9.9)
    assert len(world.ranks[0].peers) == 1

    world.ranks[0].opens = True
    world.advance(1.0)

    assert len(world.ranks[0].peers) == 2
    assert world.session.state == "open"


def test_an_mds_of_messenger_v1_alone_is_said_to_be_one() -> None:
    world = World()
    v1 = samples.mds_info(0, 100, EntityAddr.make(AddrType.LEGACY, "192.0.2.2", 6800))
    world.maps["mdsmap.1"] = 5, samples.mdsmap(5, v1)

    error = world.mount()

    assert isinstance(error, ConnectionError)
    assert "mds.0 (host100) at v1:192.0.2.2:6800/0 speaks messenger v1 only" in str(error)


# Renewal


def test_caps_are_renewed_every_third_of_the_timeout() -> None:
    world = mounted()
    sent = []
    for _ in range(3):
        world.advance(SESSION_TIMEOUT / 3 - 0.5)
        sent.append(asked(world, SessionOp.REQUEST_RENEWCAPS))
        world.advance(0.5)

    assert sent == [[], [1], [1, 2]]
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1, 2, 3]


def test_the_timeout_is_the_newest_map_s() -> None:
    world = mounted()
    world.map_ranks(epoch=6, session_timeout=300)
    world.publish()
    world.advance(SESSION_TIMEOUT)
    before = asked(world, SessionOp.REQUEST_RENEWCAPS)

    world.advance(300.0)

    assert before == [1]
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1, 2, 3, 4]


def test_caps_count_from_the_moment_their_renewal_was_asked_for() -> None:
    world = mounted()
    opened = world.now
    assert world.session.renewals.ttl == opened + SESSION_TIMEOUT
    world.ranks[0].renews = False
    world.advance(SESSION_TIMEOUT / 3 + 7)

    world.ranks[0].peer.say(SessionOp.RENEWCAPS, 1)
    world.run()

    assert world.session.renewals.ttl == opened + SESSION_TIMEOUT / 3 + SESSION_TIMEOUT


@pytest.mark.parametrize("seq", [0, 1, 3, 1 << 63])
def test_the_answer_to_another_renewal_does_not_count(seq: int) -> None:
    world = mounted()
    world.ranks[0].renews = False
    world.advance(2 * SESSION_TIMEOUT / 3)
    before = world.session.renewals.ttl
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1, 2]

    world.ranks[0].peer.say(SessionOp.RENEWCAPS, seq)
    world.run()

    assert world.session.renewals.ttl == before


def test_a_stale_session_renews_at_once_and_is_good_again() -> None:
    world = mounted()
    world.ranks[0].renews = False
    world.advance(3.0)
    gen = world.session.cap_gen

    world.ranks[0].peer.say(SessionOp.STALE, 0)
    world.run()

    assert (world.session.state, world.session.renewals.ttl) == ("stale", 0.0)
    assert world.session.cap_gen == gen + 1
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1]
    stale_since = world.now
    world.advance(2.0)
    world.ranks[0].peer.say(SessionOp.RENEWCAPS, 1)
    world.run()
    assert world.session.state == "open"
    assert world.session.renewals.ttl == stale_since + SESSION_TIMEOUT


def test_a_stale_session_still_takes_requests_and_goes_on_renewing() -> None:
    world = mounted()
    world.ranks[0].renews = False
    world.ranks[0].peer.say(SessionOp.STALE, 0)
    world.run()

    assert not isinstance(world.results[world.getattr(ino=1)], Exception)
    world.advance(SESSION_TIMEOUT / 3)
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1, 2]


# Closing


def test_close_carries_the_exact_number_of_messages_pushed() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    for message in PUSHES:
        peer.push(message)
    peer.say(SessionOp.FLUSHMSG, 6)
    peer.send(samples.reply(RequestOp.GETATTR, samples.inode(9)), tid=77)
    world.run()
    assert world.session.seq == len(PUSHES)

    token = world.call(Close())

    assert asked(world, SessionOp.REQUEST_CLOSE) == [len(PUSHES)]
    assert world.results[token] is None
    assert world.session.state == "closed"
    assert not any(isinstance(linked, MdsPeer) for linked in world.links.values())


def test_close_is_said_again_for_what_was_pushed_meanwhile() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    peer.push(PUSHES[0])  # on its way when the client closes
    peer.push(PUSHES[1])

    token = world.call(Close())

    assert asked(world, SessionOp.REQUEST_CLOSE) == [0, 1, 2]
    assert world.results[token] is None


def test_every_session_is_closed() -> None:
    world = mounted(mds=3)
    for rank in (1, 2):
        assert request_to(world, rank) in world.pending

    token = world.call(Close())

    assert world.results[token] is None
    for mds in world.ranks:
        assert (SessionOp.REQUEST_CLOSE, 0) in mds.peer.session_ops()


def request_to(world: World, rank: int) -> int:
    """A request that rank 0 passes on to ``rank``; gives its token."""
    token = world.getattr(ino=50 + rank)
    tid, _ = world.ranks[0].peer.requests()[-1]
    world.ranks[0].peer.send(ClientRequestForward(rank, 1, 1), tid=tid)
    world.run()
    return token


def test_an_mds_that_is_gone_does_not_hold_up_the_close() -> None:
    world = mounted()
    world.ranks[0].mood = "dead"
    peer = world.ranks[0].peer
    peer.pushed = 99  # so that it never agrees

    token = world.call(Close())
    assert token not in world.results
    world.lose(world.ranks[0])
    world.advance(30.0)

    assert world.results[token] is None


def test_nothing_to_close_is_closed_at_once() -> None:
    world = World()
    token = world.call(Close())

    assert world.results[token] is None


def test_a_session_that_just_opens_is_closed_once_open() -> None:
    world = opening()
    token = world.call(Close())
    assert token not in world.results

    world.ranks[0].peer.send(ClientSession(SessionOp.OPEN, 0, features=OUR_FEATURES))
    world.run()

    assert asked(world, SessionOp.REQUEST_CLOSE) == [0]
    assert world.results[token] is None


def test_a_session_whose_mds_cannot_be_reached_is_given_up_at_once() -> None:
    world = World()
    world.ranks[0].mood = "silent"
    world.call(Mount(), 100.0)

    token = world.call(Close())

    assert world.results[token] is None


# The end that nobody here asked for


def test_a_session_the_mds_closes_is_lost_and_opened_anew_by_the_next_call() -> None:
    world = mounted()
    reading = world.getattr()
    changing = world.call(Operation(RequestOp.MKDIR, FilePath(1, "d"), "/d", MkdirArgs(0o755)))

    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    error = world.results[changing]
    assert isinstance(error, SessionLost)
    assert error.reason == "closed"
    assert "mds.0 (host100) at v2:192.0.2.2:6900/100 closed the session" in str(error)
    assert reading not in world.results  # it changes nothing, so it is asked again
    assert [tid for tid, _ in world.ranks[0].peer.requests()] == [2]
    assert not isinstance(world.results[world.getattr(ino=1)], Exception)
    assert len(world.ranks[0].peers) == 2


def test_a_new_session_counts_from_the_start() -> None:
    world = mounted()
    world.ranks[0].peer.push(PUSHES[0])
    world.advance(SESSION_TIMEOUT)
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    world.getattr(ino=1)
    world.advance(SESSION_TIMEOUT / 3)

    assert world.session.seq == 0
    assert asked(world, SessionOp.REQUEST_RENEWCAPS) == [1]


def rejected(flags: int, reason: str | None, version: int = 7) -> Exception:
    """What a mount meets whose session is rejected."""
    world = opening()
    metadata = {"error_string": reason} if reason else {}
    world.ranks[0].peer.send(ClientSession(SessionOp.REJECT, 0, metadata=metadata, flags=flags), version=version)
    world.run()
    [error] = world.results.values()
    assert world.session.state == "rejected"
    world.advance(60.0)
    assert len(world.ranks[0].peers) == 1, "a rejected session is not to be tried again"
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize(
    ("flags", "reason", "version"),
    [
        (SessionFlag.BLOCKLISTED, "blocklisted (blacklisted)", 5),
        (SessionFlag.BLOCKLISTED, None, 7),
        (0, "blocklisted (blacklisted)", 2),
    ],
)
def test_a_blocklisted_client_is_told_so(flags: int, reason: str | None, version: int) -> None:
    error = rejected(flags, reason, version)

    assert isinstance(error, SessionLost)
    assert error.reason == "blocklisted"
    assert "mds.0 (host100) at v2:192.0.2.2:6900/100 refused the session" in str(error)


def test_a_root_that_the_key_does_not_cover_is_an_auth_error() -> None:
    error = rejected(0, "non-allowable root '/'")

    assert isinstance(error, AuthError)
    assert "non-allowable root '/'" in str(error)
    assert "`ceph auth get client.admin`" in str(error)


@pytest.mark.parametrize("reason", ["missing required features 0x200", "duplicated session uuid", None])
def test_other_rejections_say_why(reason: str | None) -> None:
    error = rejected(0, reason)

    assert isinstance(error, SessionLost)
    assert error.reason == "rejected"
    assert (reason or "no reason given") in str(error)


def test_a_session_goes_on_over_another_connection() -> None:
    world = mounted()
    waiting = world.getattr()
    world.ranks[0].peer.push(PUSHES[0])
    lost = world.links.pop(world.session.connection)  # the push is on its way
    world.core.disconnected(world.session.connection, ConnectionFailed("the peer closed it"), world.now)
    world.run()
    assert (world.session.state, world.session.why) == ("open", "the peer closed it")

    meanwhile = world.getattr(ino=1)
    world.advance(1.0)

    assert lost is not world.ranks[0].peer
    assert world.session.seq == 1  # it came again
    assert not isinstance(world.results[meanwhile], Exception)  # it had waited for the connection
    assert waiting not in world.results
    assert [tid for tid, _ in world.ranks[0].peer.requests()] == [3]  # what the MDS had is not sent again


@pytest.mark.parametrize("op", [SessionOp.REQUEST_OPEN, SessionOp.REQUEST_RENEWCAPS, SessionOp.FLUSHMSG_ACK, 13, 99])
def test_an_op_that_is_not_for_clients_ends_the_session(op: int) -> None:
    world = mounted()
    waiting = world.getattr()

    world.ranks[0].peer.say(op, 0)
    world.run()

    assert f"sent session op {int(op)}, which is not for clients" in str(world.results[waiting])


@pytest.mark.parametrize("op", [SessionOp.RECALL_STATE, SessionOp.FORCE_RO])
def test_ops_that_concern_what_we_do_not_hold_are_taken(op: SessionOp) -> None:
    world = mounted()

    world.ranks[0].peer.say(op, 0)
    world.run()

    assert world.session.state == "open"


def test_a_rank_taken_over_without_a_word_to_us_has_forgotten_us() -> None:
    world = mounted(mds=2)
    reading = world.getattr()
    changing = world.call(Operation(RequestOp.MKDIR, FilePath(1, "d"), "/d", MkdirArgs(0o755)))
    mds = world.replace(0)
    mds.answers = lambda request: samples.reply(request.op, samples.inode(request.path.ino))
    world.map_ranks(epoch=6)

    world.publish()

    error = world.results[changing]
    assert isinstance(error, SessionLost)
    assert error.reason == "evicted"
    assert "it took the rank over without hearing from this client" in str(error)
    assert world.results[reading].inode.ino == 2
    assert world.session.gid == mds.gid


def test_a_mount_waits_for_the_mds_that_takes_over() -> None:
    world = World()
    world.ranks[0].mood = "dead"
    token = world.call(Mount(), 100.0)
    world.replace(0)
    world.map_ranks(epoch=6, state=MdsState.REPLAY)
    world.publish()
    world.map_ranks(epoch=7)
    world.publish()

    assert not isinstance(world.results[token], Exception)


# Tickets


def refusing(times: int, world: World) -> list[object]:
    """Makes rank 0 refuse that many tickets; gives those it was shown."""
    shown: list[object] = []

    def arrived(peer: MdsPeer) -> None:
        def check(frame: AuthRequest) -> Any:
            shown.append(world.tickets.held[EntityType.MDS].blob)
            return BAD_KEY if len(shown) <= times else peer.login.request(frame, peer.mode_for(frame))

        peer.answers[AuthRequest] = check

    world.ranks[0].arrived = arrived
    return shown


@pytest.mark.parametrize("mode", ConMode)
def test_a_refused_ticket_is_replaced(mode: ConMode) -> None:
    world = World(mode=mode)
    shown = refusing(1, world)

    result = world.mount()

    assert not isinstance(result, Exception)
    assert len(shown) == 2
    assert shown[0] != shown[1]
    assert len(world.mons[0].peer.got(MAuth)) == 1


def test_a_ticket_sealed_with_keys_of_the_past_is_replaced() -> None:
    world = mounted()
    world.keys.sealing[EntityType.MDS] = world.keys.new_key()
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    token = world.getattr(ino=1)
    world.advance(5.0)

    assert not isinstance(world.results[token], Exception)


def test_if_fresh_tickets_are_refused_again_and_again_those_who_wait_are_told() -> None:
    world = World()
    shown = refusing(99, world)

    token = world.call(Mount(), 60.0)
    world.advance(30.0)
    assert isinstance(world.results[token], AuthError)
    world.advance(60.0)

    assert len(shown) == len(set(shown)) == 6
    assert len(world.mons[0].peer.got(MAuth)) == 5


def test_an_expired_ticket_is_not_shown() -> None:
    world = mounted()
    world.mons[0].mood = "dead"
    world.lose(world.mons[0])
    world.advance(world.tickets.held[EntityType.MDS].expires - world.now + 1)
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    token = world.getattr(ino=1)
    world.advance(5.0)
    assert len(world.ranks[0].peers) == 1
    world.mons[0].mood = "well"
    world.advance(16.0)

    assert len(world.ranks[0].peers) == 2
    assert not isinstance(world.results[token], Exception)


def test_an_mds_that_could_not_read_the_ticket_is_not_trusted() -> None:
    world = World()
    world.ranks[0].arrived = lambda peer: setattr(peer.login, "off_by", 1)

    world.call(Mount(), 10.0)

    assert world.ranks[0].peer.got_frames(AuthSignature) == []
    assert world.ranks[0].peer.got_frames(ClientIdent) == []
    assert "cannot read our MDS ticket" in world.session.why
