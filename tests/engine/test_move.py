"""Caps that move from rank to rank: EXPORT and IMPORT in either order, and what goes along."""

from __future__ import annotations

import msgspec
import pytest

from cephwire.capbits import FileMode
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapFlag, CapOp, CapPeer, ClientCaps
from tests.engine.bench import ALL, Bench
from tests.session import samples

WRAP = 2**32


def export(bench: Bench, peer: CapPeer, *, rank: int = 0, cap_id: int = 70) -> None:
    told = samples.caps(CapOp.EXPORT, 7, cap_id, seq=bench.cap(7, rank).seq, bits=0)
    bench.engine.receive(rank, msgspec.structs.replace(told, body=peer), 0, bench.now)


def imported(bench: Bench, caps: str, *, rank: int = 1, seq: int = 1, mseq: int = 1, **fields: object) -> None:
    bench.push(7, caps, op=CapOp.IMPORT, rank=rank, seq=seq, mseq=mseq, cap_id=71, **fields)


def moving() -> Bench:
    bench = Bench(ranks=2)
    bench.hold(7, ALL, wanted=ALL, seq=5, mseq=0)
    bench.opened(7, FileMode.RDWR)
    bench.change(7, mode=0o640)
    bench.flush(7)
    bench.sent()
    return bench


def test_export_first_leaves_a_placeholder_that_any_import_beats() -> None:
    bench = moving()

    export(bench, CapPeer(71, 1, 1, 1, 0))

    cap = bench.cap(7, 1)
    assert list(bench.inode(7).caps) == [1]
    assert (cap.cap_id, cap.seq, cap.issue_seq, cap.mseq) == (71, 0, 0, 1)
    assert bench.held(7, 1) == (ALL, ALL)
    assert bench.inode(7).auth_rank == 1
    assert bench.sent() == [], "nothing is owed to the rank that has handed it on"
    assert bench.needed == [1]


def test_then_the_import_brings_the_flushes_along_with_their_tids() -> None:
    bench = moving()
    export(bench, CapPeer(71, 1, 1, 1, 0))
    bench.sent()

    imported(bench, ALL)

    assert [(send.rank, send.tid, send.message.cap_id) for send in bench.sends()] == [(1, 1, 71)]
    assert (bench.cap(7, 1).seq, bench.cap(7, 1).mseq) == (1, 1)


def test_import_first_takes_the_other_cap_away() -> None:
    bench = moving()

    imported(bench, ALL, peer=CapPeer(70, 5, 0, 0, 0))
    assert list(bench.inode(7).caps) == [1]
    assert [send.rank for send in bench.sends()] == [1]

    # Its EXPORT is about a cap we do not have any more.
    told = samples.caps(CapOp.EXPORT, 7, 70, bits=0)
    bench.engine.receive(0, msgspec.structs.replace(told, body=CapPeer(71, 1, 1, 1, 0)), 0, bench.now)
    assert list(bench.inode(7).caps) == [1]
    assert bench.held(7, 1) == (ALL, ALL)
    assert bench.sent() == []


def test_an_import_that_asks_for_it_has_the_old_cap_released() -> None:
    bench = moving()

    imported(bench, ALL, peer=CapPeer(70, 5, 0, 0, CapFlag.RELEASE))
    bench.engine.releases.flush(0)

    [release] = [message for message in bench.sent() if isinstance(message, ClientCapRelease)]
    assert release.caps == (CapItem(7, 70, 0, 5),)


def test_import_first_without_a_peer_then_export_keeps_what_came() -> None:
    bench = moving()
    imported(bench, "pAsLsXsFs", seq=4)
    bench.sent()

    export(bench, CapPeer(71, 1, 1, 1, 0))

    assert list(bench.inode(7).caps) == [1]
    assert bench.held(7, 1) == ("pAsLsXsFs", "pAsLsXsFs")
    assert bench.cap(7, 1).seq == 4


def test_what_the_new_rank_said_before_the_old_one_s_export_only_adds() -> None:
    """A GRANT that left before the IMPORT we know from the EXPORT takes nothing away."""
    bench = moving()
    export(bench, CapPeer(71, 5, 1, 1, 0))

    bench.push(7, "pAsFs", rank=1, seq=4, cap_id=71)

    assert bench.held(7, 1) == (ALL, ALL)


@pytest.mark.parametrize(("old", "new"), [(0, 1), (WRAP - 1, 0), (WRAP - 2, 5)])
def test_authority_moves_with_the_newer_mseq(old: int, new: int) -> None:
    bench = Bench(ranks=2)
    bench.hold(7, ALL, wanted=ALL, mseq=old)
    bench.opened(7, FileMode.RDWR)

    imported(bench, ALL, mseq=new)
    assert bench.inode(7).auth_rank == 1

    bench = Bench(ranks=2)
    bench.hold(7, ALL, wanted=ALL, mseq=new)
    bench.opened(7, FileMode.RDWR)
    imported(bench, ALL, mseq=old)
    assert bench.inode(7).auth_rank == 0


def test_an_export_without_a_peer_takes_the_cap() -> None:
    bench = moving()

    export(bench, samples.NO_PEER)

    assert bench.inode(7).caps == {}
    assert bench.inode(7).flushing, "what is dirty is kept for whoever takes over"


def test_what_is_changed_between_export_and_import_goes_to_the_new_rank() -> None:
    bench = moving()
    export(bench, samples.NO_PEER)
    bench.engine.flush(7, bench.now, sync=True)
    assert bench.sent() == []

    imported(bench, ALL)

    assert [(send.rank, send.tid) for send in bench.sends()] == [(1, 1)]


def test_an_import_of_an_inode_we_do_not_know_is_released_at_once() -> None:
    bench = Bench(ranks=2)

    told: ClientCaps = samples.caps(CapOp.IMPORT, 9, 90, seq=3, mseq=2)
    bench.engine.receive(1, told, 0, bench.now)

    assert bench.released() == [CapItem(9, 90, 2, 3)]
