"""What a client owes an MDS for caps and leases it is given and does not keep."""

from __future__ import annotations

import pytest

from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp
from cephwire.inode import NOSNAP, SNAPDIR
from cephwire.lease import ClientLease, LeaseAction
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.session import samples
from tests.session.world import mounted

LEASE = ClientLease(LeaseAction.REVOKE, 1, 5, 2, NOSNAP, 9, 30_000, "name")


def test_a_flush_is_acknowledged_after_the_answers_to_what_came_before_it() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    before = len(peer.messages)

    peer.push(samples.caps(CapOp.REVOKE, 7, 70))
    peer.push(LEASE)
    peer.say(SessionOp.FLUSHMSG, 77)
    peer.push(samples.caps(CapOp.REVOKE, 8, 80))
    world.run()

    sent = [message for _, message in peer.messages[before:]]
    assert [type(message) for message in sent] == [ClientCapRelease, ClientLease, ClientSession, ClientCapRelease]
    assert sent[2] == ClientSession(SessionOp.FLUSHMSG_ACK, 77)


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

    assert world.ranks[0].peer.got(ClientCapRelease) == []
    assert world.session.seq == 1


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


def test_every_cap_that_a_reply_brings_is_given_back_in_one_message() -> None:
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

    world.ranks[0].peer.send(listing, tid=1)
    world.run()

    [release] = world.ranks[0].peer.got(ClientCapRelease)
    assert set(release.caps) == {CapItem(1, 10, 1, 4), CapItem(2, 20, 0, 1), CapItem(30, 300, 0, 1)}


def test_a_reply_without_caps_gives_nothing_back() -> None:
    world = mounted()

    world.ranks[0].peer.send(samples.reply(RequestOp.GETATTR, samples.inode(9)), tid=1)
    world.run()

    assert world.ranks[0].peer.got(ClientCapRelease) == []
