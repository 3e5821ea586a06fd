"""Requests: how replies find them, forwards, time-outs, callers who leave, sessions that end under them."""

from __future__ import annotations

import pytest

from cephcaps.errors import MdsError, RequestTimeout, SessionLost
from cephcaps.mds.requests import Operation
from cephwire.caprelease import ClientCapRelease
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import FilePath
from cephwire.requestargs import MkdirArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, SessionOp
from tests.session import samples
from tests.session.world import World, mounted

NOTHING = 10_000
"""A tid or token that never was."""


def sent(world: World, rank: int = 0) -> list[int]:
    """The tid of every request that rank has had on its newest connection."""
    return [tid for tid, _ in world.ranks[rank].peer.requests()]


def answer(world: World, tid: int, reply: ClientReply | None = None, rank: int = 0) -> None:
    world.ranks[rank].peer.send(reply or samples.reply(RequestOp.GETATTR, samples.inode(tid)), tid=tid)
    world.run()


def holds(world: World, ino: int) -> bool:
    """Whether a cap on ``ino`` is held, and nothing was given back."""
    return ino in world.core.mds.engine.cache.inodes and not world.ranks[0].peer.got(ClientCapRelease)


def forward(world: World, tid: int, to: int, num_fwd: int, rank: int = 0) -> None:
    world.ranks[rank].peer.send(ClientRequestForward(to, num_fwd, 1), tid=tid)
    world.run()


# Requests and replies


def test_replies_find_their_requests_by_tid_in_any_order() -> None:
    world = mounted()
    tokens = [world.getattr(ino=ino) for ino in (5, 6, 7)]
    tids = sent(world)[1:]
    assert tids == [2, 3, 4]

    for tid in (3, 4, 2):
        answer(world, tid, samples.reply(RequestOp.GETATTR, samples.inode(100 + tid)))

    assert [world.results[token].inode.ino for token in tokens] == [102, 103, 104]


def test_a_request_says_whose_it_is() -> None:
    world = mounted()
    world.getattr(ino=5)

    _, request = world.ranks[0].peer.requests()[-1]

    assert (request.caller_uid, request.caller_gid, request.gid_list) == (1000, 1001, (4, 5))
    assert (request.op, request.path, request.mdsmap_epoch) == (RequestOp.GETATTR, FilePath(5), 5)
    assert (request.num_retry, request.num_fwd, request.releases) == (0, 0, ())


@pytest.mark.parametrize(
    ("features", "head_version"),
    [
        (0, 1),
        (1 << ClientFeature.RETRY_FWD_32BITS, 2),
        (1 << ClientFeature.HAS_OWNER_UIDGID, 1),
        (1 << ClientFeature.RETRY_FWD_32BITS | 1 << ClientFeature.HAS_OWNER_UIDGID, 3),
    ],
)
def test_a_request_s_head_is_one_that_the_mds_reads(features: int, head_version: int) -> None:
    world = World()
    world.ranks[0].features = features
    world.mount()

    [(_, request)] = world.ranks[0].peer.requests()
    assert request.head_version == head_version


def test_an_error_is_the_os_error_it_means_and_names_what_was_asked() -> None:
    world = mounted()
    token = world.getattr(ino=5)

    answer(world, sent(world)[-1], samples.reply(RequestOp.GETATTR, result=-2))

    error = world.results[token]
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/file5"


@pytest.mark.parametrize("number", [1, 13, 39, 108, 4095, 2**31 - 1])
def test_any_errno_is_an_mds_error(number: int) -> None:
    world = mounted()
    token = world.getattr()

    answer(world, sent(world)[-1], samples.reply(RequestOp.GETATTR, result=-number))

    assert isinstance(world.results[token], MdsError)
    assert world.results[token].errno == number


def test_an_unsafe_reply_answers_the_caller_and_the_safe_one_ends_the_request() -> None:
    world = mounted()
    token = world.getattr()
    tid = sent(world)[-1]

    answer(world, tid, samples.reply(RequestOp.GETATTR, samples.inode(5), safe=0))
    assert world.results[token].inode.ino == 5
    assert world.core.mds.requests.by_tid[tid].unsafe
    answer(world, tid, samples.reply(RequestOp.GETATTR, safe=1))

    assert not world.core.mds.requests.by_tid
    assert world.core.mds.unmatched == 0


def test_every_request_says_which_is_the_oldest_not_yet_safe() -> None:
    world = mounted()
    for ino in (5, 6):
        world.getattr(ino=ino)
    answer(world, 2, samples.reply(RequestOp.GETATTR, safe=0))
    world.getattr(ino=7)
    answer(world, 3)
    world.getattr(ino=8)
    answer(world, 2)
    world.getattr(ino=9)
    for tid in (4, 5, 6):
        answer(world, tid)
    world.getattr(ino=10)

    told = [request.oldest_client_tid for _, request in world.ranks[0].peer.requests()]
    assert told == [1, 2, 2, 2, 2, 4, 7]


def test_replies_to_nobody_are_counted_and_their_caps_held() -> None:
    world = mounted(mds=2)
    world.getattr()

    answer(world, NOTHING, samples.reply(RequestOp.GETATTR, samples.inode(5, samples.cap(1, 50))))
    answer(world, 1)

    assert world.core.mds.unmatched == 2
    assert holds(world, 5)


def test_a_reply_of_a_rank_that_was_not_asked_is_not_taken_for_the_answer() -> None:
    world = mounted(mds=2)
    elsewhere = world.getattr()
    forward(world, sent(world)[-1], 1, 1)
    here = world.getattr(ino=6)
    tid = sent(world)[-1]

    answer(world, tid, rank=1)

    assert here in world.pending
    assert elsewhere in world.pending
    assert world.core.mds.unmatched == 1


# Forwards


def test_a_forwarded_request_goes_to_the_other_rank_under_its_tid() -> None:
    world = mounted(mds=2)
    token = world.getattr()
    tid = sent(world)[-1]

    forward(world, tid, 1, 1)

    [(again, request)] = world.ranks[1].peer.requests()
    assert (again, request.num_fwd, request.ext_num_fwd) == (tid, 1, 1)
    answer(world, tid, rank=1)
    assert not isinstance(world.results[token], Exception)


def test_a_forward_that_is_not_newer_is_not_followed() -> None:
    world = mounted(mds=3)
    world.getattr()
    tid = sent(world)[-1]
    forward(world, tid, 1, 5)

    for num_fwd in (0, 4, 5):
        forward(world, tid, 2, num_fwd)
    assert world.ranks[2].peers == []
    forward(world, tid, 2, 300, rank=1)

    [(_, request)] = world.ranks[2].peer.requests()
    assert (request.num_fwd, request.ext_num_fwd) == (300 & 0xFF, 300)


def test_a_forward_of_nothing_is_not_followed() -> None:
    world = mounted(mds=2)

    forward(world, NOTHING, 1, 1)

    assert world.ranks[1].peers == []


@pytest.mark.parametrize("rank", [-1, 7, 2**31 - 1])
def test_a_request_forwarded_to_a_rank_that_is_not_there_waits_for_it(rank: int) -> None:
    world = mounted()
    token = world.getattr(timeout=5.0)

    forward(world, sent(world)[-1], rank, 1)
    assert token in world.pending
    world.advance(5.0)

    assert isinstance(world.results[token], RequestTimeout)
    assert "awaiting an active MDS; file system a: rank 0 is up:active" in str(world.results[token])


# Time-outs


def test_a_request_that_is_not_answered_says_whose_answer_was_awaited() -> None:
    world = mounted()
    token = world.getattr(ino=5, timeout=7.0)

    world.advance(6.9)
    assert token in world.pending
    world.advance(0.1)

    error = world.results[token]
    assert isinstance(error, RequestTimeout)
    assert str(error).startswith("getattr of /file5 timed out awaiting the answer of mds.0 (host100) at")
    assert (error.tid, error.rank) == (2, 0)
    assert error.awaited.startswith("the answer of mds.0")


def test_a_request_that_was_never_sent_is_forgotten_when_its_time_is_up() -> None:
    world = mounted()
    world.ranks[0].opens = False
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()
    token = world.getattr(timeout=3.0)

    world.advance(3.0)
    assert "awaiting a session with mds.0" in str(world.results[token])
    assert world.results[token].tid is None
    world.ranks[0].opens = True
    world.advance(30.0)

    assert world.session.state == "open"
    assert sent(world) == []


def test_an_answer_that_comes_too_late_answers_nobody_and_its_caps_are_held() -> None:
    world = mounted()
    token = world.getattr(timeout=1.0)
    tid = sent(world)[-1]
    world.advance(1.0)
    assert isinstance(world.results[token], RequestTimeout)

    answer(world, tid, samples.reply(RequestOp.GETATTR, samples.inode(5, samples.cap(1, 50))))

    assert world.core.mds.unmatched == 0
    assert not world.core.mds.requests.by_tid
    assert holds(world, 5)


def test_requests_time_out_each_at_its_own_time() -> None:
    world = mounted()
    start = world.now
    tokens = {world.getattr(timeout=seconds): seconds for seconds in (9.0, 3.0, 6.0, 3.0)}
    ended: dict[int, float] = {}

    while world.pending:
        world.advance(0.5)
        ended |= {token: world.now - start for token in tokens if token in world.results and token not in ended}

    assert ended == tokens


def test_a_request_without_a_time_limit_waits() -> None:
    world = mounted()
    token = world.getattr(timeout=float("inf"))

    world.advance(1000.0)
    answer(world, sent(world)[-1])

    assert not isinstance(world.results[token], Exception)


# Callers who leave


def test_a_request_cancelled_before_it_was_sent_is_never_sent() -> None:
    world = mounted()
    world.ranks[0].mood = "silent"
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()
    token = world.getattr()

    world.cancel(token)
    world.ranks[0].mood = "well"
    world.advance(30.0)

    assert world.session.state == "open"
    assert sent(world) == []
    assert not world.core.mds.requests.by_tid


def test_a_request_cancelled_after_it_was_sent_stays_until_its_reply() -> None:
    world = mounted()
    token = world.getattr(timeout=5.0)
    tid = sent(world)[-1]

    world.cancel(token)
    world.advance(20.0)
    assert list(world.core.mds.requests.by_tid) == [tid]
    answer(world, tid, samples.reply(RequestOp.GETATTR, samples.inode(5, samples.cap(1, 50))))

    assert not world.core.mds.requests.by_tid
    assert world.core.mds.unmatched == 0
    assert holds(world, 5)
    assert token not in world.results


def test_to_cancel_what_is_over_does_nothing() -> None:
    world = mounted()
    token = world.getattr(ino=1)
    assert token in world.results

    world.core.cancel(token, world.now)
    world.core.cancel(NOTHING, world.now)

    assert world.session.state == "open"


# Sessions that end


@pytest.mark.parametrize("end", ["close", "unknown op"])
def test_everything_sent_to_a_rank_fails_with_its_session_and_nothing_else(end: str) -> None:
    world = mounted(mds=2)
    elsewhere = world.getattr()
    forward(world, sent(world)[-1], 1, 1)
    here = [world.call(Operation(RequestOp.MKDIR, FilePath(1, n), f"/{n}", MkdirArgs(0o755))) for n in "abc"]
    unsafe = world.getattr(ino=8)
    answer(world, sent(world)[-1], samples.reply(RequestOp.GETATTR, safe=0))

    world.ranks[0].peer.say(SessionOp.CLOSE if end == "close" else SessionOp.REQUEST_OPEN)
    world.run()

    assert all(isinstance(world.results[token], SessionLost) for token in here)
    assert not isinstance(world.results[unsafe], Exception)
    assert list(world.pending) == [elsewhere]
    answer(world, 2, rank=1)
    assert not isinstance(world.results[elsewhere], Exception)


def test_no_caller_is_left_behind_when_the_client_stops() -> None:
    world = mounted()
    waiting = world.getattr()

    world.core.stop(world.now)
    world.run()

    assert isinstance(world.results[waiting], SessionLost)
    assert not world.links
