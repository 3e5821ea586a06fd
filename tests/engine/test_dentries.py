"""Names: what is known of a directory's entries without asking, and for how long."""

from __future__ import annotations

import pytest

from cephcaps.engine.inode import Inode
from cephwire.capbits import Cap
from cephwire.inode import NOSNAP, LeaseStat
from cephwire.lease import ClientLease, LeaseAction
from tests.engine.bench import DIRECTORY, GONE, Bench, lease, stat_of

SHARED = "pAsLsXsFs"
WRAP = 2**32


def entered(caps: str = SHARED, leased: LeaseStat | None = None, *, missing: bool = False, ranks: int = 1) -> Bench:
    """A reply has told where "name" in directory 1 leads: to 7, or nowhere."""
    bench = Bench(ranks)
    target = None if missing else stat_of(7, "pAsLsXsFs")
    bench.reply(target, dir=stat_of(1, caps, mode=DIRECTORY), lease=leased)
    bench.sent()
    return bench


def found(bench: Bench, name: str = "name", mask: int = 0) -> int | None:
    """Where the name leads, 0 for nowhere; None where the MDS must be asked."""
    answer = bench.engine.lookup(1, name, mask, bench.now)
    return answer.ino if isinstance(answer, Inode) else answer


def test_a_name_is_known_under_the_directory_s_shared_bit() -> None:
    bench = entered()

    assert found(bench) == 7
    assert found(bench, "other") is None
    bench.now += 10_000.0
    assert found(bench) == 7


def test_a_name_is_not_known_without_it() -> None:
    assert found(entered("pAsLsXs")) is None
    assert found(Bench()) is None


def test_a_name_is_known_to_be_missing() -> None:
    bench = entered(missing=True)
    assert found(bench) == 0

    bench.revoke(1, "pAsLsXs")
    assert found(bench) is None


def test_more_may_be_needed_of_the_inode_than_we_hold() -> None:
    bench = entered()

    assert found(bench, mask=Cap.AUTH_SHARED) == 7
    assert found(bench, mask=Cap.FILE_RD) is None


def test_a_name_whose_inode_was_dropped_must_be_asked_for() -> None:
    bench = entered()

    bench.engine.release(7, bench.now)

    assert found(bench) is None


def test_a_name_learnt_under_one_shared_bit_means_nothing_under_the_next() -> None:
    bench = entered()
    bench.revoke(1, "pAsLsXs")
    assert found(bench) is None

    bench.push(1, SHARED)
    assert found(bench) is None
    bench.reply(stat_of(7, SHARED, seq=2), dir=stat_of(1, SHARED, seq=4, mode=DIRECTORY))
    assert found(bench) == 7


def test_a_shared_bit_given_up_with_a_request_ends_what_was_learnt_under_it() -> None:
    bench = entered()

    bench.give_up(1, Cap.FILE_SHARED)
    bench.push(1, SHARED)

    assert found(bench) is None


def test_a_shared_bit_that_comes_with_the_name_covers_it() -> None:
    bench = Bench()
    bench.hold(1, "pAsLsXs", mode=DIRECTORY)

    bench.reply(stat_of(7, SHARED), dir=stat_of(1, SHARED, seq=2, mode=DIRECTORY))

    assert found(bench) == 7


def test_a_name_is_not_known_while_the_session_is_stale() -> None:
    bench = entered()
    bench.engine.sessions.stale(0, 2)
    assert found(bench) is None

    bench.push(1, SHARED, rank=0)  # granted again: but others had time to change the directory
    bench.engine.session_renewed(0, bench.now + 60, bench.now)
    bench.hold(7, SHARED, seq=5)
    assert found(bench) is None


# Leases


def test_a_leased_name_is_known_until_the_lease_runs_out() -> None:
    bench = entered("pAsLs", lease(30.0))

    bench.now += 29.9
    assert found(bench) == 7
    bench.now += 0.2
    assert found(bench) is None


def test_a_lease_counts_from_when_the_request_left() -> None:
    bench = Bench()
    asked = bench.now
    bench.now += 10.0
    bench.reply(stat_of(7, SHARED), dir=stat_of(1, "pAsLs", mode=DIRECTORY), lease=lease(30.0), since=asked)

    bench.now = asked + 29.9
    assert found(bench) == 7
    bench.now = asked + 30.0
    assert found(bench) is None


@pytest.mark.parametrize("mask", [0, 4])
def test_without_its_bit_there_is_no_lease(mask: int) -> None:
    assert found(entered("pAsLs", LeaseStat(mask, 30_000, 1))) is None


def test_a_missing_name_may_be_leased() -> None:
    bench = entered("pAsLs", lease(30.0), missing=True)

    assert found(bench) == 0


def test_a_lease_ends_with_its_session_s_generation() -> None:
    bench = entered("pAsLs", lease(30.0))

    bench.engine.sessions.stale(0, 2)
    assert found(bench) is None
    bench.engine.session_renewed(0, bench.now + 60, bench.now)
    assert found(bench) is None


def test_a_lease_ends_with_its_session_s_time() -> None:
    bench = entered("pAsLs", lease(30.0))
    bench.engine.session_renewed(0, bench.now + 5.0, bench.now)

    bench.now += 6.0

    assert found(bench) is None


def test_a_lease_ends_with_its_session() -> None:
    bench = Bench(ranks=2)
    bench.hold(1, "pAs", rank=1, auth=False, mode=DIRECTORY)
    bench.reply(stat_of(7, SHARED), dir=stat_of(1, "pAsLs", mode=DIRECTORY), lease=lease(30.0))
    bench.hold(7, SHARED, rank=1, auth=False)
    assert found(bench) == 7

    bench.engine.session_lost(0, GONE, bench.now)
    assert found(bench) is None
    bench.engine.sessions.opened(0, bench.engine.cache.rank(0).gen + 1, 1e9, 0)

    assert found(bench) is None


# Leases asked back


def answer(seq: int, dname: str = "name") -> ClientLease:
    return ClientLease(LeaseAction.RELEASE, 1, 1, 2, NOSNAP, seq, 0, dname)


@pytest.mark.parametrize(
    ("ours", "theirs", "answered"), [(4, 4, 4), (4, 9, 9), (9, 4, 9), (0, WRAP - 1, 0), (WRAP - 1, 0, 0)]
)
def test_a_lease_asked_back_is_given_back_with_the_newer_seq(ours: int, theirs: int, answered: int) -> None:
    bench = entered("pAsLs", lease(30.0, ours))

    bench.revoke_lease(1, "name", theirs)

    assert bench.sent() == [answer(answered)]
    assert found(bench) is None


def test_a_lease_of_another_rank_tells_nothing_of_the_seq() -> None:
    bench = entered("pAsLs", lease(30.0, 9), ranks=2)

    bench.revoke_lease(1, "name", 4, rank=1)

    [(rank, message, *_)] = bench.sends()
    assert (rank, message.seq) == (1, 4)


@pytest.mark.parametrize("dname", ["name", "other"])
@pytest.mark.parametrize("known", [False, True])
def test_a_lease_we_do_not_have_is_given_back_too(known: bool, dname: str) -> None:
    bench = entered("pAsLs") if known else Bench()

    bench.revoke_lease(1, dname, 4)

    assert bench.sent() == [answer(4, dname)]


@pytest.mark.parametrize("action", [LeaseAction.RELEASE, LeaseAction.RENEW, LeaseAction.REVOKE_ACK, 77])
def test_only_a_lease_asked_back_is_answered(action: int) -> None:
    bench = entered("pAsLs", lease(30.0))

    bench.engine.receive(0, ClientLease(action, 1, 1, 2, NOSNAP, 4, 0, "name"), 0, bench.now)

    assert bench.sent() == []
    assert found(bench) == 7


def test_a_name_under_the_shared_bit_outlives_a_lease() -> None:
    bench = entered(SHARED, lease(30.0))

    bench.revoke_lease(1, "name", 1)

    assert found(bench) == 7


# Names that go


def test_names_that_come_and_go_do_not_pile_up() -> None:
    bench = entered()
    for number in range(10_000):
        bench.reply(stat_of(100 + number, SHARED), dir=stat_of(1, SHARED, mode=DIRECTORY), dname=str(number))
        bench.reply(None, dir=stat_of(1, SHARED, mode=DIRECTORY), dname=str(number))

    assert len(bench.inode(1).children or {}) < 2000
    assert found(bench) == 7


def test_a_forgotten_name_must_be_asked_for() -> None:
    bench = entered()

    bench.engine.dentries.forget(1, "name")
    bench.engine.dentries.forget(1, "other")
    bench.engine.dentries.forget(999, "name")

    assert found(bench) is None


def test_a_name_leads_where_the_newest_reply_says() -> None:
    bench = entered()

    bench.reply(stat_of(8, SHARED), dir=stat_of(1, SHARED, seq=2, mode=DIRECTORY))

    assert found(bench) == 8
