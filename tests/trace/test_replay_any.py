"""Replay comes to every message, in whatever order two ranks and a client may have sent them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cephcaps.trace.items import Item
from cephcaps.trace.replay import Difference, Replay, steps
from cephwire.capbits import Cap
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp, CapPeer
from cephwire.codec import Codec
from cephwire.inode import IssuedCap
from cephwire.request import RequestRelease
from cephwire.requestop import RequestOp
from cephwire.snap import SNAP_TRACE_PLAIN, ClientSnap, SnapOp, SnapRealm, SnapTrace
from tests.trace.lint_scene import FULL, READ, SHARED, Scene
from tests.trace.rendering import FILE, ROOT, caps, down, inode, reply, request, up

BITS = st.sampled_from((SHARED, READ, FULL))
INOS = st.integers(FILE, FILE + 2)
CAP_IDS = st.integers(7, 8)
SEQS = st.integers(1, 4)
FEW = st.integers(0, 2)


def from_rank() -> st.SearchStrategy[Any]:
    plain = st.builds(
        lambda op, bits, ino, **more: caps(op, bits, ino, nlink=1, **more),
        st.sampled_from((CapOp.GRANT, CapOp.REVOKE, CapOp.FLUSH_ACK)), BITS, INOS, seq=SEQS, cap_id=CAP_IDS, mseq=FEW,
    )  # fmt: skip
    peers = st.builds(CapPeer, CAP_IDS, SEQS, FEW, st.integers(0, 1), st.integers(0, 3))
    imports = st.builds(
        lambda bits, ino, **more: caps(CapOp.IMPORT, bits, ino, nlink=1, **more),
        BITS, INOS, seq=SEQS, cap_id=CAP_IDS, mseq=FEW, peer=peers,
    )  # fmt: skip
    exports = st.builds(
        lambda ino, peer, **more: caps(CapOp.EXPORT, 0, ino, body=peer, **more), INOS, peers, cap_id=CAP_IDS, mseq=FEW
    )
    replies = st.builds(
        lambda bits, ino, cap_id, seq: reply(
            RequestOp.GETATTR, target=inode(ino, cap=IssuedCap(bits, 0, cap_id, seq, 0, ROOT, 1), nlink=1)
        ),
        BITS, INOS, CAP_IDS, SEQS,
    )  # fmt: skip
    return st.one_of(plain, imports, exports, replies, st.builds(snapshots, st.integers(1, 4)))


def snapshots(seq: int) -> ClientSnap:
    realm = SnapRealm(ROOT, 0, 0, 0, seq, (seq,), (), None, None)
    return ClientSnap(SnapOp.UPDATE, 0, (), (), Codec(SNAP_TRACE_PLAIN).encode(SnapTrace((realm,))))


def from_client() -> st.SearchStrategy[Any]:
    tells = st.builds(
        caps, st.sampled_from((CapOp.UPDATE, CapOp.FLUSH)), BITS, INOS,
        seq=SEQS, issue_seq=SEQS, cap_id=CAP_IDS, mseq=FEW, dirty=st.sampled_from((0, int(Cap.FILE_WR))),
    )  # fmt: skip
    flushsnaps = st.builds(
        lambda bits, ino, follows: caps(CapOp.FLUSHSNAP, bits, ino, dirty=Cap.FILE_WR, snap_follows=follows),
        BITS, INOS, st.integers(0, 3),
    )  # fmt: skip
    releases = st.builds(lambda *item: ClientCapRelease((CapItem(*item),)), INOS, CAP_IDS, FEW, SEQS)
    requests = st.builds(
        lambda ino, cap_id, bits, seq, issue: request(
            RequestOp.GETATTR, FILE, releases=(RequestRelease(ino, cap_id, bits, 0, seq, issue, 0),)
        ),
        INOS, CAP_IDS, BITS, SEQS, SEQS,
    )  # fmt: skip
    return st.one_of(tells, flushsnaps, releases, requests)


def either() -> st.SearchStrategy[tuple[Any, bool, int, int]]:
    """A message, whether the client sends it, the rank, and milliseconds since the one before."""
    ranks, waits = st.integers(0, 1), st.sampled_from((0, 1, 30, 200))
    sent = st.tuples(from_client(), st.just(True), ranks, waits)
    return st.one_of(sent, st.tuples(from_rank(), st.just(False), ranks, waits))


@pytest.mark.parametrize("lookahead", [8, 20_000])
@settings(max_examples=60, deadline=None)
@given(messages=st.lists(either(), max_size=40))
def test_no_message_waits_for_ever(lookahead: int, messages: list[tuple[Any, bool, int, int]]) -> None:
    scene = Scene()
    scene.open(0)
    scene.open(1)
    items: list[Item] = scene.items
    now = scene.now
    for tid, (message, sent, rank, wait) in enumerate(messages, 1):
        now += wait
        items.append((up if sent else down)(message, now, flow=scene.flows[rank], tid=tid))
    found: list[Difference] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "LOOKAHEAD", lookahead)
        replay = Replay(found.append)
        for item in items:
            replay.take(item)
            assert len(replay._window) < lookahead
        replay.end()
    assert len(replay._window) == 0
    statements = sum(sent for _, sent, _, _ in messages)
    judged = replay.tallies[4123].compared + replay.tallies[4123].unjudged
    assert judged >= statements or replay.failures
