"""An inode as snapshots have it: kept, flushed in order and once, before anything that would hide it."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.engine.inode import Inode, SnapContext
from cephwire.capbits import Cap, FileMode, cap_string
from cephwire.caps import CapOp, ClientCapsFlag
from cephwire.request import FilePath
from cephwire.requestop import RequestOp
from tests.engine.bench import ALL, Bench
from tests.session import samples

MIB = 1 << 20
REALM = 1


def snapshot(bench: Bench, number: int) -> None:
    """Snapshot ``number`` is taken of the realm everything lies in."""
    old = bench.engine.realms.context(REALM)
    new = SnapContext(number, (number, *old.snaps))
    realm = bench.engine.realms.realms[REALM]
    realm.context = new
    for ino in list(bench.engine.cache.in_use):
        bench.engine.snaps.queue(bench.inode(ino), old, new, bench.now)


def opened() -> Bench:
    bench = Bench()
    bench.engine.cache.handled = True
    bench.hold(7, ALL, max_size=4 * MIB, wanted=ALL, mode=0o100600)
    bench.opened(7, FileMode.RDWR)
    snapshot(bench, 2)
    bench.sent()
    return bench


def ack_snap(bench: Bench, follows: int, tid: int) -> None:
    import msgspec

    told = samples.caps(CapOp.FLUSHSNAP_ACK, 7, 0)
    bench.engine.receive(0, msgspec.structs.replace(told, snap_follows=follows), tid, bench.now)


def told(bench: Bench) -> list[tuple[str, int, int, str, int]]:
    """Cap messages in short: op, what it follows, mode, dirty bits, flush tid."""
    return [
        (
            CapOp(send.message.op).name,
            send.message.snap_follows,
            send.message.mode & 0o777,
            bits(send.message.dirty),
            send.tid,
        )
        for send in bench.sends()
    ]


def bits(caps: int) -> str:
    return cap_string(caps)


def use_of(bench: Bench) -> Any:
    inode: Inode = bench.inode(7)
    assert inode.use is not None
    return inode.use


def test_what_was_changed_before_a_snapshot_is_flushed_as_the_snapshot_has_it() -> None:
    bench = opened()
    bench.change(7, mode=0o640)

    snapshot(bench, 3)
    bench.change(7, mode=0o444)
    bench.flush(7)

    assert told(bench) == [("FLUSHSNAP", 2, 0o640, "Ax", 1), ("FLUSH", 3, 0o444, "Ax", 2)]


def test_an_unchanged_inode_has_nothing_to_flush() -> None:
    bench = opened()

    snapshot(bench, 3)

    assert told(bench) == []
    assert use_of(bench).cap_snaps == []


def test_snapshots_are_flushed_in_their_order_and_once() -> None:
    bench = opened()
    bench.get(7, "Fw", endoff=100)
    bench.wrote(7, 10)
    snapshot(bench, 3)  # while a write goes on
    bench.change(7, mode=0o640)
    snapshot(bench, 4)  # belongs to the same: nothing can be told apart until the write is over
    assert told(bench) == []
    bench.put(7, "Fw")
    bench.change(7, mode=0o666)
    snapshot(bench, 5)

    assert [what[:2] for what in told(bench)] == [("FLUSHSNAP", 2), ("FLUSHSNAP", 4)]
    bench.engine.snaps.flush(bench.inode(7), bench.now)
    assert told(bench) == []


def test_no_write_begins_while_one_from_before_a_snapshot_goes_on() -> None:
    bench = opened()
    bench.get(7, "Fw", endoff=100)
    bench.wrote(7, 10)
    snapshot(bench, 3)
    second = bench.get(7, "Fw", endoff=100)
    assert bench.got(second) is None

    bench.put(7, "Fw")

    assert bench.got(second) == "Fw"
    [snap] = use_of(bench).cap_snaps
    assert (snap.size, snap.writing, snap.dirty) == (10, False, Cap.FILE_WR)


def test_data_from_before_a_snapshot_go_to_the_osds_before_it_is_flushed() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 10, buffered=True)
    bench.put(7, "Fwb")

    snapshot(bench, 3)
    assert told(bench) == []
    assert bench.hook(7) == "writeback"
    assert bench.running[7].data.context == SnapContext(2, (2,))
    assert bench.engine.io(7, SnapContext(2, (2,))).size == 10
    bench.finish(7)

    assert [what[:2] for what in told(bench)] == [("FLUSHSNAP", 2)]


def test_writes_after_a_snapshot_are_under_its_context() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 10, buffered=True)
    bench.put(7, "Fwb")
    snapshot(bench, 3)
    bench.get(7, "Fw", "Fb", 100)
    assert bench.engine.io(7).snap_seq == 3
    bench.wrote(7, 20, buffered=True)

    assert [data.context.seq for data in use_of(bench).dirty_data] == [2, 3]


@pytest.mark.parametrize(("follows", "tid", "known"), [(2, 1, True), (2, 9, False), (3, 1, False)])
def test_an_acknowledgement_counts_by_what_it_follows_and_its_tid(follows: int, tid: int, known: bool) -> None:
    bench = opened()
    bench.change(7, mode=0o640)
    snapshot(bench, 3)

    ack_snap(bench, follows, tid)
    ack_snap(bench, follows, tid)

    assert bool(use_of(bench).cap_snaps) is not known
    assert (1 in bench.engine.cache.flushes) is not known


def test_a_cap_s_acknowledgement_does_not_cover_a_snapshot_s() -> None:
    bench = opened()
    bench.change(7, mode=0o640)
    snapshot(bench, 3)
    bench.flush(7)

    bench.ack(7, 2)

    assert list(bench.engine.cache.flushes) == [1]
    assert bench.engine.flushing(7, 2)


def test_messages_say_that_a_snapshot_is_still_to_come() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 10, buffered=True)
    bench.put(7, "Fwb")
    snapshot(bench, 3)

    bench.push(7, ALL.replace("Ax", ""), max_size=4 * MIB)
    bench.change(7, mtime=10**9)
    bench.flush(7)

    messages = bench.sent()
    assert messages
    assert all(message.flags & ClientCapsFlag.PENDING_CAPSNAP for message in messages)


def test_no_file_bit_leaves_with_a_request_while_a_snapshot_is_unsent() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 10, buffered=True)
    bench.put(7, "Fwb")
    snapshot(bench, 3)
    assert bench.inode(7).unsent_snap
    file_bits, drop = Cap.ANY_FILE_WR, Cap.ANY_FILE_WR | Cap.AUTH_SHARED
    before = bench.cap(7).issued & file_bits

    records = bench.engine.request_releases(0, RequestOp.SETATTR, FilePath(7), FilePath(), drop, bench.now)

    assert bench.cap(7).issued & file_bits == before
    assert not bench.cap(7).issued & Cap.AUTH_SHARED
    assert [record.caps & before for record in records] == [before]
    assert not bench.engine.release(7, bench.now)


def test_all_is_sent_again_to_the_rank_that_takes_over_in_the_order_of_tids() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, ALL, max_size=4 * MIB, wanted=ALL)
    bench.opened(7, FileMode.RDWR)
    snapshot(bench, 2)
    bench.change(7, mode=0o640)
    bench.flush(7)
    snapshot(bench, 3)
    bench.change(7, mode=0o600)
    bench.flush(7)
    bench.sent()

    bench.push(7, ALL, op=CapOp.IMPORT, rank=1, seq=1, mseq=1, cap_id=71)

    again = [(send.rank, CapOp(send.message.op).name, send.tid) for send in bench.sends()]
    assert again == [(1, "FLUSH", 1), (1, "FLUSHSNAP", 2), (1, "FLUSH", 3)]
