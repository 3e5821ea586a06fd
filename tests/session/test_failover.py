"""A rank's MDS is gone and another takes it over: what it is told, in which order, and what becomes of callers."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.core import Close, Safe
from cephcaps.engine import reconnect
from cephcaps.errors import SessionLost
from cephcaps.mds.requests import Operation
from cephwire.capbits import Cap
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.mdsmap import MdsState
from cephwire.reconnect import ClientReconnect
from cephwire.request import ClientRequest, FilePath, RequestFlag
from cephwire.requestargs import MkdirArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, ClientSession, SessionOp
from tests.session import samples
from tests.session.test_owed import ALL, SHARED, acknowledge, change, flushes, give, told
from tests.session.world import ALL_FEATURES, Mds, World, mounted


def mkdir(world: World, name: str) -> int:
    return world.call(Operation(RequestOp.MKDIR, FilePath(1, name), f"/{name}", MkdirArgs(0o755)))


def taken_over(world: World, state: MdsState = MdsState.RECONNECT, epoch: int = 6) -> Mds:
    """Rank 0 gets another daemon, in ``state``."""
    mds = world.replace(0)
    world.map_ranks(epoch=epoch, state=state)
    world.publish()
    return mds


def accept(world: World) -> None:
    """The new daemon takes the session back."""
    world.ranks[0].peer.send(ClientSession(SessionOp.OPEN, 0, features=ALL_FEATURES))
    world.run()


def comes_to(world: World, state: MdsState, epoch: int) -> None:
    world.map_ranks(epoch=epoch, state=state)
    world.publish()


def said(world: World) -> list[Any]:
    """What the newest daemon of rank 0 has heard."""
    return [message for _, message in world.ranks[0].peer.messages]


def test_requests_go_first_then_flushes_others_may_need_then_what_is_held() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, told(7, ALL, 70), told(9, SHARED, 90))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))  # flush 1
    made = mkdir(world, "made")
    peer.send(samples.reply(RequestOp.MKDIR, samples.inode(55), safe=0), tid=2)
    peer.push(samples.caps(CapOp.REVOKE, 7, 70, seq=2, bits=SHARED & ~Cap.AUTH_SHARED))
    asked = world.getattr(ino=9)

    taken_over(world)

    unsafe, waiting, flush, hello = said(world)
    assert (unsafe.op, unsafe.flags, unsafe.ino, unsafe.releases) == (RequestOp.MKDIR, RequestFlag.REPLAY, 55, ())
    assert (waiting.op, waiting.flags, waiting.ext_num_retry, waiting.releases) == (RequestOp.GETATTR, 0, 1, ())
    assert (flush.op, flush.seq, flush.mseq) == (CapOp.FLUSH, 0, 0)
    assert [header.tid for header, _ in world.ranks[0].peer.messages] == [2, 3, 1, 0]
    assert isinstance(hello, ClientReconnect)
    assert [entry.ino for entry in hello.caps] == [7]  # what nobody used was let go, and is not told
    assert world.session.state == "reconnecting"
    assert safe not in world.results
    assert not isinstance(world.results[made], Exception)
    assert asked not in world.results


def test_what_is_asked_meanwhile_waits_and_the_rest_follows_once_it_serves() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))
    taken_over(world)
    later = mkdir(world, "later")
    change(world, 7, mode=0o640)
    world.advance(6.0)  # by now it would be flushed
    before = len(said(world))

    comes_to(world, MdsState.REJOIN, 7)
    accept(world)
    assert said(world)[before:] == []
    comes_to(world, MdsState.CLIENTREPLAY, 8)

    assert world.session.state == "open"
    renew, *rest = said(world)[before:]
    assert (renew.op, renew.seq) == (SessionOp.REQUEST_RENEWCAPS, 1)
    assert [type(message) for message in rest] == [ClientCaps, ClientCaps]
    assert [tid for tid, _ in flushes(world)] == [1, 2]
    comes_to(world, MdsState.ACTIVE, 9)
    assert isinstance(said(world)[-1], ClientRequest)
    acknowledge(world, 7, 2)
    assert world.results[safe] is None
    assert later not in world.results


def test_nothing_is_released_between_one_mds_and_the_next() -> None:
    world = mounted()
    give(world, told(7, SHARED, 70), told(8, SHARED, 80))
    world.core.mds.release(7, world.now)

    taken_over(world)
    accept(world)
    comes_to(world, MdsState.ACTIVE, 7)
    world.advance(5.0)

    assert not [message for message in said(world) if isinstance(message, ClientCapRelease)]
    assert world.session.num_caps == 0


def test_a_second_failover_before_the_first_is_over_begins_it_again() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))
    waiting = world.getattr(ino=9)
    taken_over(world)
    accept(world)

    taken_over(world, epoch=7)
    request, hello = said(world)
    accept(world)
    comes_to(world, MdsState.ACTIVE, 8)

    assert (request.ext_num_retry, type(hello)) == (2, ClientReconnect)
    assert [tid for tid, _ in flushes(world)] == [1]
    acknowledge(world, 7, 1)
    assert world.results[safe] is None
    assert waiting in world.pending


def test_while_nobody_holds_the_rank_all_waits() -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    world.maps[f"mdsmap.{samples.FSCID}"] = 6, samples.mdsmap(6, failed=(0,))
    world.publish()

    safe, reading = world.call(Safe(7), 100.0), world.getattr(timeout=100.0)
    world.advance(20.0)

    assert world.session.state == "reconnecting"
    assert "nobody else is yet" in world.session.why
    assert {safe, reading} <= world.pending
    taken_over(world, epoch=7)
    assert isinstance(said(world)[-1], ClientReconnect)


@pytest.mark.parametrize("says", ["close", "nothing"])
def test_an_mds_that_does_not_take_us_back_costs_what_was_not_safe(says: str) -> None:
    world = mounted()
    give(world, told(7, ALL, 70))
    change(world, 7, mode=0o600)
    safe = world.call(Safe(7))
    made = mkdir(world, "made")
    world.ranks[0].peer.send(samples.reply(RequestOp.MKDIR, samples.inode(55), safe=0), tid=2)
    world.run()
    durable = world.call(Safe(1))
    if says == "close":
        taken_over(world)
        world.ranks[0].peer.say(SessionOp.CLOSE)
        world.run()
    else:
        taken_over(world, MdsState.ACTIVE)

    assert not isinstance(world.results[made], Exception)
    for token in (safe, durable):
        error = world.results[token]
        assert isinstance(error, SessionLost)
        assert error.reason == ("closed" if says == "close" else "evicted")
        assert error.lost == ("inode 0x7: Ax", "mkdir of /made, which was not durable yet")
    assert world.core.mds.engine.cache.inodes.keys() <= {1}


def test_a_session_that_is_to_be_closed_is_taken_over_and_then_closed() -> None:
    world = mounted()
    world.ranks[0].peer.pushed = 99  # so that it does not agree
    token = world.call(Close(), 100.0)
    assert world.session.state == "closing"

    taken_over(world)
    accept(world)
    comes_to(world, MdsState.ACTIVE, 7)

    assert world.ranks[0].peer.session_ops()[-1] == (SessionOp.REQUEST_CLOSE, 0)
    assert world.results[token] is None


def test_a_rank_that_is_given_up_takes_its_session_along() -> None:
    world = mounted(mds=2)
    waiting = mkdir(world, "d")
    reading = world.getattr()
    epoch, message = 6, samples.mdsmap(6, samples.mds_info(1, world.ranks[1].gid, world.ranks[1].addr))
    world.maps[f"mdsmap.{samples.FSCID}"] = epoch, message

    world.publish()

    assert world.session.state == "closed"
    assert isinstance(world.results[waiting], SessionLost)
    assert reading in world.pending


def test_what_is_held_is_told_in_parts_to_an_mds_that_takes_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "CAPS_PER_RECONNECT", 2)
    for features, parts in ((ALL_FEATURES, [(2, 1, 5), (2, 1, 5), (1, 0, 5)]), (0, [(5, 0, 4)])):
        world = World()
        world.ranks[0].features = features & ~(0 if features else 1 << ClientFeature.MULTI_RECONNECT)
        world.mount()
        give(world, *(told(ino, ALL, ino * 10) for ino in range(5, 10)))
        for ino in range(5, 10):
            change(world, ino, mode=0o600)

        taken_over(world)

        found = [(h.version, m) for h, m in world.ranks[0].peer.messages if isinstance(m, ClientReconnect)]
        assert [(len(message.caps), message.more, version) for version, message in found] == parts
        assert [entry.ino for _, message in found for entry in message.caps] == [5, 6, 7, 8, 9]
