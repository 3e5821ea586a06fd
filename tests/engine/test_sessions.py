"""What sessions mean for caps: generations, staleness, renewal, loss."""

from __future__ import annotations

import pytest

from cephcaps.events import CapGranted, CapStale
from cephwire.capbits import Cap, FileMode, cap_string
from cephwire.caps import CapOp
from tests.engine.bench import ALL, GONE, Bench, update

READ = "pFscr"


def test_caps_do_not_count_when_the_session_s_time_is_up() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs")
    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    bench.now += 59.9
    assert bench.issued(7) == "pAsLs"
    bench.now += 0.1
    assert bench.issued(7) == "-"
    bench.engine.session_renewed(0, bench.now + 60, bench.now)
    assert bench.issued(7) == "pAsLs"


def test_stale_caps_do_not_count_and_say_so() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs")
    bench.events()

    bench.engine.sessions.stale(0, 2)

    assert bench.issued(7) == "-"
    assert bench.engine.known(7, Cap.AUTH_SHARED, bench.now) is None
    assert bench.held(7) == ("pAsLs", "pAsLs"), "they may come back"
    assert bench.sent() == []
    [event] = bench.events()
    assert isinstance(event, CapStale)
    assert str(event.caps) == "pAsLs"


def test_a_renewed_session_cuts_what_was_not_granted_again() -> None:
    bench = Bench()
    for ino in (7, 8, 9):
        bench.hold(ino, "pAsLsXs")
    bench.engine.sessions.stale(0, 2)
    bench.push(7, "pAsLsXs")
    bench.push(8, "pAs")

    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    assert [bench.issued(ino) for ino in (7, 8, 9)] == ["pAsLsXs", "pAs", "p"]
    assert [bench.held(ino) for ino in (8, 9)] == [("pAs", "pAs"), ("p", "p")]
    assert {bench.cap(ino).gen for ino in (7, 8, 9)} == {2}
    assert bench.sent() == []


@pytest.mark.parametrize("by", ["push", "reply", "import"])
def test_a_stale_cap_is_cut_before_it_is_granted_again(by: str) -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs")
    bench.engine.sessions.stale(0, 2)
    bench.events()

    if by == "push":
        bench.push(7, "pAs")
    elif by == "import":
        bench.push(7, "pAs", op=CapOp.IMPORT, seq=5, mseq=1)
    else:
        bench.hold(7, "pAs", seq=5)

    assert bench.held(7) == ("pAs", "pAs")
    assert bench.cap(7).gen == 2
    assert bench.sent() == [], "nothing was asked back"
    granted = [event for event in bench.events() if isinstance(event, CapGranted)]
    assert [str(event.caps) for event in granted] == ([] if by == "import" else ["As"])


def test_an_overtaken_reply_does_not_bring_back_what_ran_out() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFs", seq=9)
    bench.engine.sessions.stale(0, 2)

    bench.hold(7, "pAs", seq=8)

    assert bench.held(7) == ("pAs", "pAs")


def test_an_open_file_says_again_what_it_wants_once_the_session_is_renewed() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFscr", wanted=READ)
    bench.opened(7, FileMode.RD)
    bench.engine.sessions.stale(0, 2)
    assert bench.sent() == []

    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    assert bench.said() == [update("p", READ)]


def test_an_open_file_says_again_what_it_wants_with_the_first_grant_after_staleness() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFscr", wanted=READ)
    bench.opened(7, FileMode.RD)
    bench.engine.sessions.stale(0, 2)

    bench.push(7, "p")

    assert bench.said() == [update("p", READ)]


def test_a_revoke_from_before_staleness_is_over_with_it() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RD)
    bench.revoke(7, "AsLs")  # the pin stays in use
    assert bench.engine.cache.revoking
    bench.engine.sessions.stale(0, 2)

    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    assert not bench.engine.cache.revoking


def test_changes_survive_staleness_and_are_flushed() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)
    bench.engine.sessions.stale(0, 2)
    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    bench.advance(5.0)

    assert bench.said() == [("FLUSH", "p", "-", "Ax", 1)]


def test_an_ordinary_renewal_looks_at_no_cap() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs")
    bench.cap(7).gen = 0

    bench.engine.session_renewed(0, bench.now + 60, bench.now)

    assert bench.cap(7).gen == 0, "only after staleness is there anything to cut"


# Loss


def test_a_lost_session_names_what_was_changed_here_and_is_lost() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)
    bench.flush(7)
    bench.change(7, mtime=5)
    bench.hold(8, ALL)
    bench.hold(9, ALL, rank=1)
    bench.change(9, mode=0o600)

    lost = bench.engine.session_lost(0, GONE, bench.now)

    assert lost == {7: "inode 0x7: AxFx"}
    assert list(bench.engine.cache.inodes) == [9]
    assert bench.engine.cache.rank(0).num_caps == 0
    assert list(bench.engine.cache.dirty) == [9]
    assert not bench.engine.cache.flushes
    assert bench.engine.flushes.oldest_tid == 0
    bench.sent()
    bench.advance(100.0)
    assert {send.rank for send in bench.sends()} <= {1}


def test_a_lost_session_s_releases_are_not_sent_to_the_next() -> None:
    bench = Bench()
    bench.hold(7, "pAs")
    bench.engine.release(7, bench.now)

    bench.engine.session_lost(0, GONE, bench.now)
    bench.engine.sessions.opened(0, 3, 1e9, 0)
    bench.advance(5.0)

    assert bench.sent() == []


def test_an_open_file_outlives_its_session_and_is_forgotten_when_closed() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RDWR)
    bench.sent()

    bench.engine.session_lost(0, GONE, bench.now)

    assert bench.inode(7).caps == {}
    assert bench.inode(7).auth_rank == -1
    assert bench.issued(7) == "-"
    bench.closed(7, FileMode.RDWR)
    assert not bench.engine.cache.inodes
    bench.advance(100.0)
    assert bench.sent() == []


def test_caps_held_from_another_rank_stay() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAsLs", rank=0)
    bench.hold(7, "pAs", rank=1, auth=False)

    assert bench.engine.session_lost(0, GONE, bench.now) == {}

    assert bench.issued(7) == "pAs"
    assert bench.inode(7).auth_rank == -1


def test_a_revoke_ends_with_its_session() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RD)
    bench.revoke(7, "AsLs")
    bench.now += 10.0
    assert len(bench.engine.explanations.late(bench.now)) == 1

    bench.engine.session_lost(0, GONE, bench.now)

    assert bench.engine.explanations.late(bench.now) == []


def test_what_is_late_says_why() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RD)
    bench.revoke(7, cap_string(Cap.ANY & ~Cap.PIN & ~Cap.FILE_LAZYIO & ~Cap.LINK_EXCL))
    bench.now += 6.0

    [late] = bench.engine.explanations.late(bench.now)

    assert str(late) == "revoke of inode 0x7 at rank 0 for 6.0 s: p is asked back; p is in use"


def test_every_cap_says_why_it_is_as_it_is() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    assert bench.engine.explanations.why(bench.inode(7), bench.now) == [
        f"rank 0: {ALL}; AxXxFxwb is wanted by nobody and goes back in 60.0 s"
    ]
    bench.opened(7, FileMode.RDWR)
    assert "those who have it open want" in bench.engine.explanations.why(bench.inode(7), bench.now)[0]
    bench.engine.sessions.stale(0, 2)
    assert "does not count" in bench.engine.explanations.why(bench.inode(7), bench.now)[0]
