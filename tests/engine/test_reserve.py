"""Room for caps: total = used + reserved + available, always, and a reply's caps always have some."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cephcaps.engine.reserve import Pool, Reservation
from tests.engine.bench import Bench


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.sampled_from(["reserve", "unreserve", "take", "spare", "give"]), st.integers(0, 5))),
)
def test_the_sum_holds_whatever_happens(limit: int, steps: list[tuple[str, int]]) -> None:
    shrunk: list[int] = []
    pool = Pool(shrunk.append, limit)
    held: list[Reservation] = []
    for what, number in steps:
        if what == "reserve":
            held.append(pool.reserve(number))
        elif what == "unreserve" and held:
            held.pop(number % len(held)).end()
        elif what == "take" and held:
            pool.take(held[number % len(held)])
        elif what == "spare":
            pool.take(None)
        elif what == "give" and pool.used:
            pool.give()
        assert pool.total == pool.used + pool.reserved + pool.available
        assert pool.reserved == sum(reservation.count for reservation in held)
        assert pool.available >= 0


def test_the_coldest_make_way_for_a_reply() -> None:
    bench = Bench()
    bench.engine.pool.limit = 10
    for ino in range(10, 20):
        bench.hold(ino, "pAsLs")
    bench.engine.known(10, 0, bench.now)  # touched: it stays

    reservation = bench.engine.reserve(3)

    assert sorted(bench.engine.cache.inodes) == [10, 14, 15, 16, 17, 18, 19]
    assert (bench.engine.pool.used, bench.engine.pool.reserved, bench.engine.pool.available) == (7, 3, 0)
    reservation.end()
    assert bench.engine.pool.available == 3


def test_what_is_open_stays_and_the_reply_is_taken_in_all_the_same() -> None:
    bench = Bench()
    bench.engine.pool.limit = 2
    for ino in (10, 11):
        bench.hold(ino, "pAsLs")
        bench.opened(ino, 1)

    reservation = bench.engine.reserve(1)
    bench.hold(12, "pAsLs")
    reservation.end()

    assert sorted(bench.engine.cache.inodes) == [10, 11, 12]
