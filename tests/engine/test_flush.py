"""Dirty metadata: tids, acknowledgements, resends, and what a flush carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cephcaps.engine.check import Checks
from cephcaps.engine.flush import Flushes
from cephcaps.engine.inode import Inode
from cephcaps.events import CapFlushed, CapFlushing
from cephwire.capbits import Cap, FileMode, cap_string
from cephwire.caps import CapOp, ClientCapsFlag
from cephwire.inode import INLINE_NONE, FileLayout
from tests.engine.bench import ALL, GONE, Bench, flush, only_update

NOBODY = 2**32 - 1


def dirty(ino: int = 7, ranks: int = 1, caps: str = ALL) -> Bench:
    """An inode with a new mode."""
    bench = Bench(ranks)
    bench.hold(ino, caps)
    bench.change(ino, mode=0o600)
    bench.sent()
    bench.events()
    return bench


def state(bench: Bench, ino: int = 7) -> tuple[str, str]:
    """Dirty and flushing bits."""
    inode = bench.inode(ino)
    return cap_string(inode.dirty), cap_string(inode.flushing)


# What is sent


def test_a_flush_carries_every_field_as_it_is_here() -> None:
    bench = Bench()
    layout = FileLayout(4096, 1, 4096, 0, 0, 0, 3)
    bench.hold(
        7,
        ALL,
        seq=4,
        mseq=2,
        wanted="pFs",
        btime=11,
        ctime=12,
        mtime=13,
        atime=14,
        size=15,
        truncate_seq=16,
        truncate_size=17,
        time_warp_seq=18,
        change_attr=19,
        xattr_version=20,
        layout=layout,
        pool_ns="ns",
        max_size=1 << 22,
    )
    bench.push(7, ALL, seq=5, osd_epoch_barrier=21, **carried_over(bench))
    bench.change(7, stamp=100, mode=0o640, uid=22, gid=23, mtime=24, size=25)

    bench.flush(7)

    [(rank, message, tid, _)] = bench.sends()
    assert (rank, tid, message.oldest_flush_tid) == (0, 1, 1)
    assert (message.op, message.ino, message.cap_id) == (CapOp.FLUSH, 7, 70)
    assert (message.seq, message.issue_seq, message.mseq) == (5, 4, 2)
    assert cap_string(message.caps) == ALL
    assert cap_string(message.wanted) == "pFs"
    assert cap_string(message.dirty) == "AxFx"
    assert (message.mode, message.uid, message.gid) == (0o100640, 22, 23)
    assert (message.btime, message.change_attr, message.xattr_version) == (11, 20, 20)
    assert (message.body.size, message.body.max_size) == (25, 0)
    assert (message.body.truncate_seq, message.body.truncate_size) == (16, 17)
    assert (message.body.ctime, message.body.mtime, message.body.atime) == (100, 24, 14)
    assert (message.body.time_warp_seq, message.body.layout, message.pool_ns) == (19, layout, "ns")
    assert message.osd_epoch_barrier == 21
    assert (message.caller_uid, message.caller_gid) == (NOBODY, NOBODY)
    assert (message.snap_follows, message.xattrs, message.snap_trace, message.flags) == (0, b"", b"", 0)
    assert message.inline_version == INLINE_NONE


def carried_over(bench: Bench) -> dict[str, Any]:
    """What a push tells of a file along with its size, as the inode has it."""
    names = ("truncate_seq", "truncate_size", "size", "layout", "pool_ns")
    return {name: getattr(bench.inode(7), name) for name in names}


def test_inline_data_is_spoken_of_with_file_bits_only() -> None:
    bench = dirty()

    bench.flush(7)

    assert only_update(bench.sent()).inline_version == 0


@pytest.mark.parametrize(("sync", "flags"), [(False, 0), (True, ClientCapsFlag.SYNC)])
def test_the_mds_is_told_whether_somebody_waits(sync: bool, flags: int) -> None:
    bench = dirty()

    bench.flush(7, sync=sync)

    assert only_update(bench.sent()).flags == flags


def test_a_flush_goes_to_the_authority_only() -> None:
    bench = Bench(ranks=3)
    bench.hold(7, "pAs", rank=0, auth=False)
    bench.hold(7, "pAsx", rank=1)
    bench.hold(7, "pAs", rank=2, auth=False)
    bench.change(7, mode=0o600)

    bench.flush(7)

    assert [(send.rank, send.message.cap_id) for send in bench.sends()] == [(1, 70)]


def test_what_a_rank_other_than_the_authority_asks_back_brings_no_flush() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAsx", rank=0)
    bench.hold(7, "pAsLs", rank=1, auth=False)
    bench.change(7, mode=0o600)

    bench.revoke(7, "pAs", rank=1)

    [(rank, message, tid, _)] = bench.sends()
    assert (rank, message.dirty, tid) == (1, 0, 0)
    assert state(bench) == ("Ax", "-")


def test_without_an_authority_a_flush_has_its_tid_and_waits_for_whoever_takes_over() -> None:
    bench = dirty(ranks=2)
    bench.push(7, "-", op=CapOp.EXPORT, seq=0)

    assert bench.flush(7) == 1
    bench.advance(20.0)
    assert bench.sent() == []
    assert state(bench) == ("-", "Ax")
    assert bench.engine.flushing(7, 1)
    bench.push(7, "pAs", op=CapOp.IMPORT, rank=1, seq=1, mseq=1)

    assert [(send.rank, send.tid, cap_string(send.message.dirty)) for send in bench.sends()] == [(1, 1, "Ax")]


def test_what_waits_for_an_authority_holds_up_nothing_else() -> None:
    bench = dirty()
    bench.push(7, "-", op=CapOp.EXPORT, seq=0)
    bench.hold(8, ALL)
    bench.change(8, mode=0o600)

    bench.advance(5.0)

    assert [send.message.ino for send in bench.sends()] == [8]
    assert list(bench.engine.cache.flushes) == [1, 2]


@pytest.mark.parametrize(
    ("what", "caps", "flushed"), [("mode", ALL, False), ("mtime", ALL, True), ("mtime", "pFw", True)]
)
def test_times_are_flushed_ahead_of_what_would_change_them_at_the_mds(what: str, caps: str, flushed: bool) -> None:
    bench = Bench()
    bench.hold(7, caps)
    bench.change(7, **{what: 0o600})

    bench.engine.flush_times(7, bench.now)
    bench.engine.flush_times(99, bench.now)

    assert len(bench.sent()) == flushed


def test_a_flush_of_what_is_clean_sends_nothing() -> None:
    bench = Bench()
    bench.hold(7, ALL)

    assert bench.flush(7) == 0
    assert bench.flush(99) == 0
    assert bench.sent() == []


# Tids and acknowledgements


def test_tids_come_from_one_counter_over_all_ranks_and_are_never_reused() -> None:
    bench = Bench(ranks=2)
    tids = []
    for turn in range(3):
        for ino, rank in ((7, 0), (8, 1)):
            bench.hold(ino, ALL, rank=rank, seq=turn + 1)
            bench.change(ino, uid=turn + 5)
            tids.append(bench.flush(ino))
            bench.ack(ino, tids[-1], rank=rank)
    bench.engine.session_lost(0, GONE, bench.now)
    bench.engine.sessions.opened(0, 9, 1e9, 0)
    bench.hold(7, ALL)
    bench.change(7, uid=9)
    tids.append(bench.flush(7))

    assert tids == [1, 2, 3, 4, 5, 6, 7]
    assert [(send.rank, send.tid) for send in bench.sends()] == [(0, 1), (1, 2), (0, 3), (1, 4), (0, 5), (1, 6), (0, 7)]


def test_an_acknowledged_flush_is_clean() -> None:
    bench = dirty()
    tid = bench.flush(7)
    assert state(bench) == ("-", "Ax")
    assert bench.engine.flushing(7, tid)

    bench.ack(7, tid)

    assert state(bench) == ("-", "-")
    assert not bench.engine.flushing(7, tid)
    assert not bench.engine.cache.flushes
    assert bench.engine.flushes.oldest_tid == 0
    flushing, flushed = bench.events()
    assert isinstance(flushing, CapFlushing)
    assert isinstance(flushed, CapFlushed)
    assert (str(flushing.caps), flushing.flush_tid) == ("Ax", 1)
    assert (str(flushed.caps), flushed.flush_tid) == ("Ax", 1)


def test_a_bit_changed_again_is_clean_with_the_last_flush_that_carries_it() -> None:
    bench = dirty()
    bench.change(7, mtime=5)
    first = bench.flush(7)  # Ax Fx
    bench.change(7, mtime=6)
    second = bench.flush(7)  # Fx
    bench.events()

    bench.ack(7, first)
    assert state(bench) == ("-", "Fx")
    assert bench.engine.flushing(7, second)
    bench.ack(7, second)
    assert state(bench) == ("-", "-")

    assert [str(event.caps) for event in bench.events()] == ["Ax", "Fx"]  # type: ignore[union-attr]


def test_a_bit_changed_during_its_flush_is_dirty_again() -> None:
    bench = dirty()
    tid = bench.flush(7)
    bench.change(7, mode=0o640)
    assert state(bench) == ("Ax", "Ax")

    bench.ack(7, tid)

    assert state(bench) == ("Ax", "-")


def test_an_acknowledgement_covers_the_flushes_before_it() -> None:
    bench = dirty()
    first = bench.flush(7)
    bench.change(7, mtime=6)
    second = bench.flush(7)

    bench.ack(7, second)

    assert state(bench) == ("-", "-")
    assert not bench.engine.flushing(7, first)
    assert not bench.engine.cache.flushes


@pytest.mark.parametrize("tid", [0, 1, 3, 99])
def test_an_acknowledgement_of_another_tid_changes_nothing(tid: int) -> None:
    bench = dirty()
    bench.ack(7, bench.flush(7))
    bench.change(7, mode=0o640)
    assert bench.flush(7) == 2
    bench.events()

    bench.ack(7, tid)

    assert state(bench) == ("-", "Ax")
    assert list(bench.engine.cache.flushes) == [2]
    assert bench.events() == []


def test_an_acknowledgement_that_comes_twice_is_harmless() -> None:
    bench = dirty()
    tid = bench.flush(7)
    bench.sent()

    bench.ack(7, tid)
    bench.ack(7, tid)
    bench.ack(99, tid)

    assert state(bench) == ("-", "-")
    assert bench.sent() == []


def test_an_acknowledgement_s_metadata_is_not_believed() -> None:
    bench = dirty()
    tid = bench.flush(7)

    bench.ack(7, tid)

    inode = bench.inode(7)
    assert (inode.mode, bench.held(7)) == (0o100600, (ALL, ALL))


def test_the_oldest_flush_on_its_way_is_told_with_every_message() -> None:
    bench = Bench()
    for ino in (7, 8, 9):
        bench.hold(ino, ALL)
        bench.change(ino, mode=0o600)
        bench.flush(ino)
    bench.ack(8, 2)
    bench.revoke(8, "pAs")
    bench.ack(7, 1)
    bench.revoke(9, "pAs")
    bench.ack(9, 3)
    bench.revoke(7, "pAs")

    assert [message.oldest_flush_tid for message in bench.sent()] == [1, 1, 1, 1, 3, 0]


def test_a_resend_keeps_tids_and_their_order() -> None:
    bench = dirty()
    bench.flush(7, sync=True)
    bench.change(7, mtime=6)
    bench.flush(7)
    bench.sent()

    bench.engine.flushes.resend(bench.inode(7), bench.cap(7))

    assert bench.said() == [flush(ALL, dirty="Ax", tid=1), flush(ALL, dirty="Fx", tid=2)]
    assert bench.engine.flushes.last_tid == 2


def test_what_is_dirty_or_on_its_way_keeps_its_inode() -> None:
    bench = dirty()

    assert not bench.engine.release(7, bench.now)
    tid = bench.flush(7)
    assert not bench.engine.release(7, bench.now)
    bench.engine.drop_caches(bench.now)
    assert 7 in bench.engine.cache.inodes
    bench.ack(7, tid)
    assert bench.engine.release(7, bench.now)


def test_an_inode_whose_cap_has_gone_is_forgotten_with_its_last_acknowledgement() -> None:
    bench = dirty()
    tid = bench.flush(7)
    bench.opened(7, FileMode.RD)
    bench.push(7, "-", op=CapOp.EXPORT, seq=0)
    bench.closed(7, FileMode.RD)
    assert 7 in bench.engine.cache.inodes

    bench.ack(7, tid)

    assert not bench.engine.cache.inodes
    bench.advance(100.0)


# Time


def test_a_change_is_flushed_after_five_seconds_and_not_before() -> None:
    bench = dirty()
    bench.advance(2.0)
    bench.change(7, mtime=5)
    bench.advance(2.75)
    assert bench.sent() == []

    bench.advance(0.25)

    assert bench.said() == [flush(ALL, dirty="AxFx", tid=1)]
    bench.advance(50.0)
    assert bench.sent() == []


def test_a_change_during_the_flush_waits_five_seconds_of_its_own() -> None:
    bench = dirty()
    bench.advance(5.0)
    bench.advance(3.0)
    bench.change(7, mode=0o640)
    bench.sent()

    bench.advance(4.75)
    assert bench.sent() == []
    bench.advance(0.25)

    assert bench.said() == [flush(ALL, dirty="Ax", tid=2)]


def test_all_that_is_dirty_is_flushed_the_last_of_each_rank_with_word_that_somebody_waits() -> None:
    bench = Bench(ranks=2)
    for ino, rank in ((7, 0), (8, 1), (9, 0), (10, 1)):
        bench.hold(ino, ALL, rank=rank)
        bench.change(ino, mode=0o600)

    newest = bench.engine.flush_all(bench.now)

    sends = bench.sends()
    assert newest == 4
    assert [(send.rank, send.message.ino, send.tid) for send in sends] == [(0, 7, 1), (1, 8, 2), (0, 9, 3), (1, 10, 4)]
    assert [send.message.flags for send in sends] == [0, 0, 1, 1]
    assert bench.engine.flushing(0, newest)
    for ino, tid, rank in ((7, 1, 0), (8, 2, 1), (9, 3, 0)):
        bench.ack(ino, tid, rank=rank)
    assert bench.engine.flushing(0, newest)
    bench.ack(10, 4, rank=1)
    assert not bench.engine.flushing(0, newest)
    assert bench.engine.flush_all(bench.now) == 0


def test_a_flush_that_is_not_acknowledged_is_said_to_be_late() -> None:
    bench = dirty()
    bench.flush(7)
    bench.now += 5.0
    assert bench.engine.explanations.late(bench.now) == []

    bench.now += 1.0
    [late] = bench.engine.explanations.late(bench.now)

    assert str(late) == "flush of inode 0x7 at rank 0 for 6.0 s: flush 1 of Ax is not acknowledged"


def visits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the inodes that checks and flushes look at."""
    seen: list[int] = []

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        def visit(self: Any, inode: Inode, *args: Any, **more: Any) -> Any:
            seen.append(inode.ino)
            return method(self, inode, *args, **more)

        return visit

    monkeypatch.setattr(Checks, "check", counting(Checks.check))
    monkeypatch.setattr(Flushes, "flush", counting(Flushes.flush))
    return seen


class Counted(dict[int, Inode]):
    """Counts look-ups, and all items where all are walked."""

    looked_up = 0

    def __getitem__(self, ino: int) -> Inode:
        self.looked_up += 1
        return super().__getitem__(ino)

    def values(self) -> Any:
        self.looked_up += len(self)
        return super().values()

    def __iter__(self) -> Any:
        self.looked_up += len(self)
        return super().__iter__()


@pytest.mark.parametrize("count", [10, 1_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_tick_looks_at_what_is_due_and_not_at_what_is_held(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for ino in range(1000, 1000 + count):
        bench.hold(ino, ALL)  # more than is wanted, so on the delay queue
        if ino % 2:
            bench.change(ino, mode=0o600)
    bench.sent()
    bench.now += 1.0
    seen = visits(monkeypatch)
    inodes = bench.engine.cache.inodes = Counted(bench.engine.cache.inodes)  # type: ignore[assignment]

    bench.engine.tick(bench.now)
    bench.engine.next_deadline()
    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    assert seen == []
    assert inodes.looked_up <= 4  # type: ignore[attr-defined]
    bench.now += 4.0
    bench.engine.tick(bench.now)
    assert len(seen) == count // 2
    assert len(bench.sent()) == count // 2


def test_what_is_not_acknowledged_can_be_named() -> None:
    bench = dirty()
    bench.flush(7)
    bench.change(7, mtime=5)
    bench.hold(8, ALL)

    assert bench.engine.unsaved() == ("inode 0x7: AxFx",)


def test_half_the_flushes_acknowledged_leaves_the_rest_in_order() -> None:
    bench = Bench()
    for ino in range(1, 41):
        bench.hold(ino, ALL)
        bench.change(ino, mode=0o600)
    bench.engine.flush_all(bench.now)
    for ino in range(1, 41, 2):
        bench.ack(ino, ino)

    assert bench.engine.flushes.oldest_tid == 2
    assert list(bench.engine.cache.flushes) == list(range(2, 41, 2))
    assert all(bench.inode(ino).flushing == Cap.AUTH_EXCL for ino in range(2, 41, 2))
