"""What a client owes an MDS for the caps and leases it is given: answers, releases, flushes, in their order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cephcaps.core import Close, Safe, SetAttributes
from cephcaps.engine.setattr import Change
from cephcaps.errors import SessionLost
from cephwire.capbits import Cap, FileMode
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, ClientCaps, ClientCapsFlag
from cephwire.inode import NOSNAP, SNAPDIR, InodeStat
from cephwire.lease import ClientLease, LeaseAction
from cephwire.request import ClientRequest
from cephwire.requestargs import SetattrMask
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.session import samples
from tests.session.world import MdsPeer, World, mounted

LEASE = ClientLease(LeaseAction.REVOKE, 1, 5, 2, NOSNAP, 9, 30_000, "name")
NOTHING = 10_000
"""A tid that never was."""
ALL = Cap.ALL_FILE
SHARED = Cap.PIN | Cap.ANY_SHARED


def told(ino: int, caps: int, cap_id: int, *, seq: int = 1) -> InodeStat:
    """A file as its authority tells of it."""
    issued = msgspec.structs.replace(samples.cap(caps, cap_id, seq=seq), flags=1)
    return samples.inode(ino, issued, mode=0o100644)


def give(world: World, *inodes: InodeStat) -> None:
    """Rank 0 grants caps with a listing nobody waits for."""
    world.ranks[0].peer.send(samples.reply(RequestOp.READDIR, entries=inodes), tid=NOTHING)
    world.run()


def since(peer: MdsPeer, before: int) -> list[Any]:
    return [message for _, message in peer.messages[before:]]


def change(world: World, ino: int, **what: int) -> int:
    """Set attributes; gives the token."""
    return world.call(SetAttributes(ino, f"/file{ino}", Change(1, **what)))


def flushes(world: World) -> list[tuple[int, ClientCaps]]:
    """Tid and message of every flush that rank 0 has had."""
    messages = world.ranks[0].peer.messages
    return [(header.tid, message) for header, message in messages if isinstance(message, ClientCaps) and message.dirty]


def acknowledge(world: World, ino: int, tid: int) -> None:
    peer = world.ranks[0].peer
    peer.push(samples.caps(CapOp.FLUSH_ACK, ino, ino * 10), tid=tid)
    world.run()


# Barriers


def test_a_flush_is_acknowledged_after_the_answers_to_what_came_before_it() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, told(6, SHARED, 60))
    before = len(peer.messages)

    peer.push(samples.caps(CapOp.REVOKE, 6, 60, seq=2))
    peer.push(samples.caps(CapOp.REVOKE, 7, 70))
    peer.push(LEASE)
    peer.say(SessionOp.FLUSHMSG, 77)
    peer.push(samples.caps(CapOp.REVOKE, 8, 80))
    world.run()

    sent = since(peer, before)
    kinds = [type(message) for message in sent]
    assert kinds == [ClientCaps, ClientCapRelease, ClientLease, ClientSession, ClientCapRelease]
    assert sent[3] == ClientSession(SessionOp.FLUSHMSG_ACK, 77)


def test_releases_that_are_queued_leave_before_a_flush_is_acknowledged() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, *(told(ino, SHARED, ino * 10) for ino in range(20, 25)))
    before = len(peer.messages)
    for ino in (20, 21, 22):
        assert world.core.mds.release(ino, world.now)

    peer.say(SessionOp.FLUSHMSG, 7)
    world.run()

    released, acked = since(peer, before)
    assert [item.ino for item in released.caps] == [20, 21, 22]
    assert acked == ClientSession(SessionOp.FLUSHMSG_ACK, 7)


def test_a_recall_is_followed_at_once() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, *(told(ino, SHARED, ino * 10) for ino in range(20, 30)))

    peer.send(ClientSession(SessionOp.RECALL_STATE, 0, max_caps=4), version=1)
    world.run()

    [release] = peer.got(ClientCapRelease)
    assert [item.ino for item in release.caps] == [20, 21, 22, 23, 24, 25]
    assert world.session.num_caps == 4


# Caps we do not have


@pytest.mark.parametrize("op", [CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT])
@pytest.mark.parametrize("bits", [0, 0x555])
def test_caps_for_an_inode_we_do_not_have_are_given_back_at_once(op: CapOp, bits: int) -> None:
    world = mounted()

    world.ranks[0].peer.push(samples.caps(op, 7, 70, seq=3, mseq=2, bits=bits))
    world.run()

    [release] = world.ranks[0].peer.got(ClientCapRelease)
    assert release.caps == (CapItem(7, 70, 2, 3),)


@pytest.mark.parametrize("op", [CapOp.TRUNC, CapOp.EXPORT, CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK])
def test_other_caps_messages_for_such_an_inode_are_not_answered(op: CapOp) -> None:
    world = mounted()

    world.ranks[0].peer.push(samples.caps(op, 7, 70))
    world.run()
    world.advance(5.0)

    assert world.ranks[0].peer.got(ClientCapRelease) == []
    assert world.session.seq == 1


# Leases


def test_a_revoked_lease_is_given_back() -> None:
    world = mounted()

    world.ranks[0].peer.push(LEASE)
    world.run()

    [answer] = world.ranks[0].peer.got(ClientLease)
    assert (answer.action, answer.mask, answer.ino, answer.dname) == (LeaseAction.RELEASE, 1, 5, "name")
    assert (answer.first, answer.last, answer.seq) == (2, NOSNAP, 9)


@pytest.mark.parametrize("action", [LeaseAction.RENEW, LeaseAction.RELEASE, 77])
def test_other_lease_messages_are_not_answered(action: int) -> None:
    world = mounted()

    world.ranks[0].peer.push(ClientLease(action, 1, 5, 2, NOSNAP, 9, 0, "name"))
    world.run()

    assert world.ranks[0].peer.got(ClientLease) == []


# Caps that replies bring


def test_every_cap_that_a_reply_brings_is_held() -> None:
    world = mounted()
    listing = samples.reply(
        RequestOp.READDIR,
        samples.inode(1, samples.cap(0x155, 10, seq=4, mseq=1)),
        dir=samples.inode(2, samples.cap(0x1, 20)),
        entries=(
            samples.inode(30, samples.cap(0x155, 300)),
            samples.inode(31, samples.cap(0x0, 310)),
            samples.inode(32, samples.NO_CAP),
            samples.inode(33, samples.cap(0x155, 330), snapid=6),
            samples.inode(34, samples.cap(0x155, 340), snapid=SNAPDIR),
        ),
    )

    world.ranks[0].peer.send(listing, tid=NOTHING)
    world.run()
    world.advance(5.0)

    held = {ino: inode.caps[0].cap_id for ino, inode in world.core.mds.engine.cache.inodes.items()}
    assert held == {1: 10, 2: 20, 30: 300}
    assert world.session.num_caps == 3
    assert world.ranks[0].peer.got(ClientCapRelease) == []


def test_the_caps_of_a_session_are_no_more_once_it_ends() -> None:
    world = mounted()
    give(world, told(20, SHARED, 200))
    assert world.session.num_caps == 1

    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    assert world.core.mds.engine.cache.inodes == {}
    assert world.session.num_caps == 0


def test_caps_of_a_new_session_count_in_a_newer_generation() -> None:
    world = mounted()
    before = world.session.cap_gen
    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    world.getattr(ino=1)
    give(world, told(20, SHARED, 200))

    engine = world.core.mds.engine
    assert world.session.cap_gen > before
    assert engine.cache.issued(engine.cache.inodes[20], world.now) == SHARED


# Changes


def test_a_change_that_is_covered_costs_no_message_until_it_is_flushed() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, told(20, ALL, 200))
    before = len(peer.messages)

    assert world.results[change(world, 20, mode=0o600)] is None
    assert since(peer, before) == []
    world.advance(5.0)

    [(tid, message)] = flushes(world)
    assert (tid, message.ino, message.dirty, message.mode) == (1, 20, Cap.AUTH_EXCL, 0o100600)


def test_a_change_that_is_not_covered_is_asked_for_and_gives_up_what_is_in_its_way() -> None:
    world = mounted()
    give(world, told(20, SHARED, 200))

    token = change(world, 20, mode=0o600)

    tid, request = world.ranks[0].peer.requests()[-1]
    assert (request.op, request.path.ino, request.args.mask) == (RequestOp.SETATTR, 20, SetattrMask.MODE)
    [record] = request.releases
    assert (record.ino, record.cap_id, record.caps) == (20, 200, SHARED & ~Cap.AUTH_SHARED)
    assert token in world.pending
    world.ranks[0].peer.send(samples.reply(RequestOp.SETATTR, told(20, SHARED, 200, seq=2)), tid=tid)
    world.run()
    assert not isinstance(world.results[token], Exception)


def test_safe_waits_for_the_acknowledgement() -> None:
    world = mounted()
    give(world, told(20, ALL, 200))
    change(world, 20, mode=0o600)

    token = world.call(Safe(20))
    [(tid, message)] = flushes(world)
    assert message.flags == ClientCapsFlag.SYNC
    assert SessionOp.REQUEST_FLUSH_MDLOG not in [op for op, _ in world.ranks[0].peer.session_ops()]
    assert token in world.pending
    acknowledge(world, 20, tid)

    assert world.results[token] is None
    assert world.results[world.call(Safe(20))] is None, "nothing is left to wait for"


def test_safe_waits_for_an_unsafe_request_and_has_the_mds_write_its_journal() -> None:
    world = mounted()
    give(world, told(20, SHARED, 200))
    change(world, 20, mode=0o600)
    tid, _ = world.ranks[0].peer.requests()[-1]
    unsafe = samples.reply(RequestOp.SETATTR, told(20, SHARED, 200, seq=2), safe=0)
    world.ranks[0].peer.send(unsafe, tid=tid)
    world.run()

    token = world.call(Safe(20))
    assert (SessionOp.REQUEST_FLUSH_MDLOG, 0) in world.ranks[0].peer.session_ops()
    assert token in world.pending
    world.ranks[0].peer.send(samples.reply(RequestOp.SETATTR), tid=tid)
    world.run()

    assert world.results[token] is None


def test_safe_has_the_mds_write_its_journal_for_a_flush_that_left_when_nobody_waited() -> None:
    world = mounted()
    give(world, told(20, ALL, 200))
    change(world, 20, mode=0o600)
    world.advance(5.0)
    [(tid, message)] = flushes(world)
    assert message.flags == 0

    token = world.call(Safe(20))

    assert (SessionOp.REQUEST_FLUSH_MDLOG, 0) in world.ranks[0].peer.session_ops()
    acknowledge(world, 20, tid)
    assert world.results[token] is None


def test_close_waits_until_every_change_is_safe() -> None:
    world = mounted()
    give(world, told(20, ALL, 200), told(21, ALL, 210))
    for ino in (20, 21):
        change(world, ino, mode=0o600)

    token = world.call(Close())
    assert [message.flags for _, message in flushes(world)] == [0, ClientCapsFlag.SYNC]
    assert SessionOp.REQUEST_CLOSE not in [op for op, _ in world.ranks[0].peer.session_ops()]
    for tid, message in flushes(world):
        acknowledge(world, message.ino, tid)

    assert world.results[token] is None
    assert world.ranks[0].peer.session_ops()[-1] == (SessionOp.REQUEST_CLOSE, 2)


def test_whoever_waits_for_changes_that_are_lost_is_told_which() -> None:
    world = mounted()
    give(world, told(20, ALL, 200))
    change(world, 20, mode=0o600)
    token = world.call(Safe(20))

    world.ranks[0].peer.say(SessionOp.CLOSE)
    world.run()

    error = world.results[token]
    assert isinstance(error, SessionLost)
    assert error.lost == ("inode 0x14: Ax",)


# Handles


def test_an_open_file_wants_its_caps_until_it_is_closed() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    give(world, told(20, SHARED, 200))
    before = len(peer.messages)

    world.core.mds.engine.opened(20, FileMode.RD, world.now)
    world.core.mds.close_file(20, FileMode.RD, world.now)

    world.run()
    [message] = since(peer, before)
    assert message.wanted == Cap.PIN | Cap.ANY_FILE_RD


def test_dropped_caches_are_told_at_once() -> None:
    world = mounted()
    give(world, *(told(ino, SHARED, ino * 10) for ino in range(20, 25)))

    world.core.mds.drop_caches(world.now)
    world.run()

    [release] = world.ranks[0].peer.got(ClientCapRelease)
    assert len(release.caps) == 5
    assert not [m for _, m in world.ranks[0].peer.messages if isinstance(m, ClientRequest) and m.releases]
