"""Caps as they come with replies and pushes, and as they are asked back."""

from __future__ import annotations

import pytest

from cephcaps.events import CapExported, CapGranted, CapImported, CapReleased, CapRevokeAcked, CapRevoking
from cephwire.capbits import Cap, FileMode
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp
from cephwire.inode import SNAPDIR
from tests.engine.bench import ALL, Bench, flush, stat_of, update

WRAP = 2**32

# From replies


def test_a_reply_brings_a_cap() -> None:
    bench = Bench()

    bench.hold(7, "pAsLsXsFs", cap_id=70, seq=5, mseq=2, wanted="pFs")

    cap = bench.cap(7)
    assert bench.held(7) == ("pAsLsXsFs", "pAsLsXsFs")
    assert (cap.cap_id, cap.seq, cap.issue_seq, cap.mseq, cap.gen) == (70, 5, 5, 2, 1)
    assert cap.mds_wanted == Cap.PIN | Cap.FILE_SHARED
    assert bench.inode(7).auth_rank == 0
    assert bench.engine.cache.rank(0).num_caps == 1
    assert bench.issued(7) == "pAsLsXsFs"
    assert bench.sent() == []
    [granted] = bench.events()
    assert isinstance(granted, CapGranted)
    assert (granted.ino, granted.rank, str(granted.caps), granted.seq) == (7, 0, "pAsLsXsFs", 5)


@pytest.mark.parametrize(("seq", "then"), [(5, 6), (5, 5 + 2**31 - 1), (WRAP - 1, 0), (WRAP - 2, 7)])
def test_a_newer_reply_says_what_is_issued(seq: int, then: int) -> None:
    bench = Bench()
    bench.hold(7, "pAsxFs", seq=seq)

    bench.hold(7, "pAsLsFs", seq=then)

    assert bench.held(7) == ("pAsLsFs", "pAsLsFs")
    assert bench.said() == [update("pAsLsFs")]
    assert (bench.cap(7).seq, bench.cap(7).issue_seq) == (then, then)


@pytest.mark.parametrize(("seq", "then"), [(6, 5), (0, WRAP - 1), (7, WRAP - 2)])
def test_a_reply_that_was_overtaken_takes_nothing_away(seq: int, then: int) -> None:
    bench = Bench()
    bench.hold(7, "pAsx", seq=seq)

    bench.hold(7, "pAsLs", seq=then)

    assert bench.held(7) == ("pAsxLs", "pAsxLs")
    assert (bench.cap(7).seq, bench.cap(7).issue_seq) == (seq, seq)


def test_a_reply_of_the_same_seq_says_what_is_issued() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=6)

    bench.hold(7, "pAsLsFs", seq=6)

    assert bench.held(7) == ("pAsLsFs", "pAsLsFs")
    assert (bench.cap(7).seq, bench.cap(7).issue_seq) == (6, 6)


def test_a_reply_with_another_cap_id_is_another_cap() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", cap_id=70, seq=9)

    bench.hold(7, "pAs", cap_id=71, seq=1)

    cap = bench.cap(7)
    assert (cap.cap_id, cap.seq, cap.issue_seq) == (71, 1, 1)
    assert bench.held(7)[0] == "pAs"


def test_what_the_mds_thinks_we_want_is_joined_until_the_cap_has_moved() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=1, mseq=1, wanted="pFs")
    bench.hold(7, "pAsLs", seq=2, mseq=1, wanted="pFr")
    assert bench.cap(7).mds_wanted == Cap.PIN | Cap.FILE_SHARED | Cap.FILE_RD

    bench.hold(7, "pAsLs", seq=3, mseq=2, wanted="pFr")
    assert (bench.cap(7).mseq, bench.cap(7).mds_wanted) == (2, Cap.PIN | Cap.FILE_RD)

    bench.hold(7, "pAsLs", seq=4, mseq=1, wanted="pFs")
    assert bench.cap(7).mseq == 2


def test_the_authority_is_the_rank_that_says_so() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAs", rank=0, auth=False)
    assert bench.inode(7).auth_rank == -1

    bench.hold(7, "pAs", rank=1, mseq=1)
    assert bench.inode(7).auth_rank == 1
    bench.hold(7, "pAs", rank=0, mseq=1, seq=2)
    assert bench.inode(7).auth_rank == 1, "not without a newer mseq"
    bench.hold(7, "pAs", rank=0, mseq=2, seq=3)
    assert bench.inode(7).auth_rank == 0
    bench.hold(7, "pAs", rank=0, mseq=2, seq=4, auth=False)
    assert bench.inode(7).auth_rank == -1


def test_the_authority_moves_over_the_wrap_of_mseq() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAs", rank=0, mseq=WRAP - 1)

    bench.hold(7, "pAs", rank=1, mseq=0)

    assert bench.inode(7).auth_rank == 1


@pytest.mark.parametrize("snapid", [4, SNAPDIR])
def test_an_inode_in_a_snapshot_holds_nothing(snapid: int) -> None:
    bench = Bench()

    target = bench.reply(stat_of(7, "pAsLs", snapid=snapid))

    assert target is not None
    assert (target.ino, target.caps) == (7, {})
    assert not bench.engine.cache.inodes
    assert bench.engine.cache.rank(0).num_caps == 0


@pytest.mark.parametrize(("caps", "cap_id"), [("-", 0), ("-", 70), ("pAs", 0)])
def test_an_inode_told_without_a_cap_is_not_kept(caps: str, cap_id: int) -> None:
    bench = Bench()

    target = bench.reply(stat_of(7, caps, cap_id=cap_id, size=12))

    assert target is not None
    assert target.size == 12
    assert not bench.engine.cache.inodes


def test_a_reply_without_a_cap_leaves_the_one_we_have() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=3)

    bench.reply(stat_of(7, uid=12))

    assert bench.held(7) == ("pAsLs", "pAsLs")
    assert bench.cap(7).seq == 3
    assert bench.inode(7).uid == 12


# Grants and revokes


def test_a_grant_widens() -> None:
    bench = Bench()
    bench.hold(7, "pLs", seq=1)
    bench.events()

    bench.push(7, "pAsLsXsFs", seq=2)

    assert bench.held(7) == ("pAsLsXsFs", "pAsLsXsFs")
    assert bench.cap(7).seq == 2
    assert bench.sent() == []
    assert [(type(event), str(event.caps)) for event in bench.events()] == [(CapGranted, "AsXsFs")]  # type: ignore[union-attr]


def test_a_revoke_is_answered_at_once_with_what_stays() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=3, mseq=4)
    bench.events()

    bench.revoke(7, "pLsXs", seq=4)

    [message] = bench.sent()
    assert (message.op, message.ino, message.cap_id) == (CapOp.UPDATE, 7, 70)
    assert (message.seq, message.issue_seq, message.mseq) == (4, 3, 4)
    assert message.caps == Cap.PIN | Cap.LINK_SHARED | Cap.XATTR_SHARED
    assert message.dirty == 0
    assert bench.held(7) == ("pLsXs", "pLsXs")
    assert not bench.engine.cache.revoking
    assert [(type(event), str(event.caps)) for event in bench.events()] == [  # type: ignore[union-attr]
        (CapRevoking, "AsFs"),
        (CapRevokeAcked, "AsFs"),
    ]


def test_a_revoke_of_changed_bits_is_answered_by_the_flush_itself() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)

    bench.revoke(7, "pLsXsxFsxcrwb")

    assert bench.said() == [update("pLsXsxFsxcrwb", dirty="Ax", tid=1)]
    inode = bench.inode(7)
    assert (inode.dirty, inode.flushing) == (0, Cap.AUTH_EXCL)


def test_a_revoke_of_other_bits_takes_what_is_dirty_along() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)

    bench.revoke(7, "pAsxLsXsFsxcrwb")

    assert bench.said() == [update("pAsxLsXsFsxcrwb", dirty="Ax", tid=1)]


def test_a_revoke_that_takes_nothing_we_had_left_is_answered_all_the_same() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=1)
    bench.give_up(7, Cap.AUTH_SHARED)

    bench.revoke(7, "pLsXsFs", seq=2)

    [message] = bench.sent()
    assert (message.op, message.seq) == (CapOp.UPDATE, 2)
    assert message.caps == bench.cap(7).implemented
    assert not bench.engine.cache.revoking


def test_the_answer_to_a_revoke_that_takes_nothing_says_what_is_wanted_and_gives_nothing_back() -> None:
    bench = Bench()
    bench.hold(7, ALL, seq=5, wanted="pAsxXsxFsxcrwb")
    bench.opened(7, FileMode.RD)

    bench.revoke(7, ALL, seq=6)

    assert bench.said() == [update(ALL, "pFscr")]


def test_a_grant_that_lacks_bits_is_a_revoke() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=1)

    bench.push(7, "pLsXsFsr", seq=2)

    [message] = bench.sent()
    assert (message.op, message.seq) == (CapOp.UPDATE, 2)
    assert bench.held(7) == ("pLsXsFsr", "pLsXsFsr")


def test_a_revoke_may_give_as_well() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=1)

    bench.revoke(7, "pLsFsr", seq=2)

    assert bench.said() == [update("pLsFsr")]
    assert bench.held(7) == ("pLsFsr", "pLsFsr")


def test_a_grant_of_what_we_have_is_not_answered() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=1)

    bench.push(7, "pAsLs", seq=2)

    assert bench.sent() == []
    assert bench.cap(7).seq == 2


@pytest.mark.parametrize(("ours", "theirs"), [(6, 5), (6, 6), (0, WRAP - 1)])
def test_a_push_older_than_ours_takes_nothing_away(ours: int, theirs: int) -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=ours)

    bench.push(7, "pLsFs", seq=theirs)

    assert bench.held(7) == ("pAsLsFs", "pAsLsFs")
    assert bench.cap(7).seq == ours


def test_an_older_revoke_is_answered_with_our_seq() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=6)

    bench.revoke(7, "pLs", seq=5)

    [message] = bench.sent()
    assert (message.seq, message.caps) == (6, bench.cap(7).implemented)


def test_seq_wraps() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=WRAP - 1)

    bench.revoke(7, "pLs", seq=0)

    [message] = bench.sent()
    assert (message.seq, message.issue_seq, message.caps) == (0, WRAP - 1, Cap.PIN | Cap.LINK_SHARED)


def test_issue_seq_comes_with_replies_and_never_with_pushes() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=3)
    bench.push(7, "pAsLsXs", seq=4, issue_seq=99)
    bench.revoke(7, "pAsLs", seq=5, issue_seq=99)
    assert (bench.cap(7).seq, bench.cap(7).issue_seq) == (5, 3)

    bench.hold(7, "pAsLs", seq=6)
    assert bench.cap(7).issue_seq == 6
    bench.push(7, "pAsLs", op=CapOp.IMPORT, seq=9, mseq=1)
    assert bench.cap(7).issue_seq == 9
    bench.push(7, "pAsLsXs", seq=10)
    assert bench.cap(7).issue_seq == 9


def test_a_revoke_waits_for_no_queue() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RDWR)
    bench.closed(7, FileMode.RDWR)
    assert 7 in bench.engine.cache.delayed
    bench.sent()

    bench.revoke(7, "pAsxLsXsxFscr")

    [message] = bench.sent()
    assert message.caps == bench.cap(7).issued == bench.cap(7).implemented
    assert 7 in bench.engine.cache.delayed, "the rest goes when its time comes"


def test_an_open_file_gives_back_what_it_wants_when_asked() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RDWR)
    bench.sent()

    bench.revoke(7, "pAsLsXsFr")

    wanted = "pAsxXsxFsxcrwb"
    assert bench.said() == [update("pAsLsXsFr", wanted)]


def test_bits_given_again_are_no_longer_asked_back() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RD)
    bench.revoke(7, "AsxLsXsxFsxcrwb")  # no MDS takes the pin, but it is what an open file uses
    assert 7 in bench.engine.cache.revoking
    bench.now += 6.0
    assert [late.kind for late in bench.engine.explanations.late(bench.now)] == ["revoke"]

    bench.push(7, ALL)

    assert not bench.engine.cache.revoking
    assert bench.engine.explanations.late(bench.now) == []


# Caps we do not know


@pytest.mark.parametrize("op", [CapOp.REVOKE, CapOp.IMPORT])
def test_a_cap_on_an_inode_we_do_not_have_goes_back_at_once(op: CapOp) -> None:
    bench = Bench()

    bench.push(7, "pAs", op=op, cap_id=77, seq=12, mseq=3)

    assert bench.sent() == [ClientCapRelease((CapItem(7, 77, 3, 12),), 0)]
    assert not bench.engine.cache.inodes


def test_another_cap_than_ours_goes_back_at_once_where_it_is_asked_back() -> None:
    bench = Bench()
    bench.hold(7, "pAs", cap_id=70, seq=1)

    bench.revoke(7, "p", cap_id=71, seq=12, mseq=3)

    assert bench.released() == [CapItem(7, 71, 3, 12)]
    assert bench.held(7) == ("pAs", "pAs")


@pytest.mark.parametrize("known", [False, True])
def test_grants_that_are_not_ours_go_back_once_all_that_came_with_them_is_taken_in(known: bool) -> None:
    bench = Bench()
    if known:
        bench.hold(7, "pAs", cap_id=70)

    bench.push(7, "pAsLs", cap_id=71, seq=12, mseq=3)
    bench.push(8, "pAsLs", cap_id=80, seq=2)
    assert bench.sent() == []
    assert bench.engine.next_deadline() <= bench.now
    bench.engine.settle(bench.now)

    assert bench.released() == [CapItem(7, 71, 3, 12), CapItem(8, 80, 0, 2)]


@pytest.mark.parametrize("op", [CapOp.TRUNC, CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK])
def test_other_messages_about_inodes_we_do_not_have_are_not_answered(op: CapOp) -> None:
    bench = Bench()

    bench.push(7, "pAs", op=op, seq=1)

    assert bench.sent() == []


def test_what_is_queued_goes_out_with_what_goes_back_at_once() -> None:
    bench = Bench()
    bench.hold(7, "pAs", cap_id=70, seq=3)
    bench.engine.release(7, bench.now)

    bench.revoke(7, "p", cap_id=70, seq=4)

    assert bench.released() == [CapItem(7, 70, 0, 3), CapItem(7, 70, 0, 4)]


def test_the_epoch_barrier_is_kept_and_told() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs")
    bench.push(7, "pAsLs", osd_epoch_barrier=30)
    bench.revoke(7, "pLs", osd_epoch_barrier=20)

    [message] = bench.sent()
    assert message.osd_epoch_barrier == 30
    bench.engine.release(7, bench.now)
    bench.advance(1.0)
    [release] = bench.sent()
    assert release == ClientCapRelease((CapItem(7, 70, 0, 1),), 30)


# Other ops


def test_an_import_sends_what_is_on_its_way_again_before_anything_new() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)
    bench.flush(7)
    bench.change(7, mtime=5)
    bench.sent()

    bench.push(7, "pLsXsFs", op=CapOp.IMPORT, seq=4, mseq=1)

    assert bench.said() == [
        flush(ALL, dirty="Ax", tid=1),
        update("pLsXsFs", dirty="Fx", tid=2),
    ]


def test_an_import_s_fields_count_where_we_held_nothing_exclusively() -> None:
    bench = Bench()
    bench.hold(7, "pAs", mode=0o100644)

    bench.push(7, "pAsxFw", op=CapOp.IMPORT, seq=4, mseq=1, mode=0o100600, max_size=9)

    assert (bench.inode(7).mode, bench.inode(7).max_size) == (0o100600, 9)
    assert any(isinstance(event, CapImported) for event in bench.events())


def test_an_export_ends_the_cap_and_is_not_answered() -> None:
    bench = Bench()
    bench.hold(7, "pAs")

    bench.push(7, "-", op=CapOp.EXPORT, seq=0)

    assert not bench.engine.cache.inodes
    assert isinstance(bench.events()[-1], CapExported)
    bench.advance(10.0)
    assert bench.sent() == []
    assert bench.engine.cache.rank(0).num_caps == 0


def test_an_unlinked_file_that_nobody_has_open_is_let_go() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=2)

    bench.push(7, "pAsLsXsFs", nlink=0)
    bench.advance(1.0)

    assert bench.released() == [CapItem(7, 70, 0, 2)]
    assert any(isinstance(event, CapReleased) for event in bench.events())


def test_an_unlinked_file_is_let_go_when_the_last_handle_closes() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RDWR)
    bench.push(7, ALL, nlink=0)
    bench.sent()

    bench.closed(7, FileMode.RDWR)
    bench.advance(1.0)

    assert bench.released() == [CapItem(7, 70, 0, 1)]
    assert not bench.engine.cache.inodes


def test_an_unlinked_file_is_let_go_once_its_changes_are_safe() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)
    bench.push(7, ALL, nlink=0)
    tid = bench.flush(7)
    bench.sent()
    assert 7 in bench.engine.cache.inodes

    bench.ack(7, tid)
    bench.advance(1.0)

    assert bench.released() == [CapItem(7, 70, 0, 1)]
