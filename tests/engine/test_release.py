"""Whole caps given back: in batches, at once where an MDS waits, the coldest first."""

from __future__ import annotations

import pytest

from cephcaps.engine.release import CAPS_PER_RELEASE
from cephcaps.events import CapReleased
from cephwire.capbits import FileMode
from cephwire.caprelease import CapItem, ClientCapRelease
from tests.engine.bench import ALL, DIRECTORY, Bench, stat_of


def held(count: int, first: int = 100) -> Bench:
    bench = Bench()
    for ino in range(first, first + count):
        bench.hold(ino, "pAsLs")
    bench.events()
    return bench


def test_a_dropped_inode_s_cap_waits_a_second_for_company() -> None:
    bench = held(3)

    assert bench.engine.release(100, bench.now)
    bench.advance(0.5)
    assert bench.engine.release(101, bench.now)
    assert bench.sent() == []
    bench.advance(0.5)

    assert bench.sent() == [ClientCapRelease((CapItem(100, 1000, 0, 1), CapItem(101, 1010, 0, 1)), 0)]
    assert list(bench.engine.cache.inodes) == [102]
    assert bench.engine.cache.rank(0).num_caps == 1
    assert bench.engine.next_deadline() == float("inf")


def test_dropping_says_so() -> None:
    bench = held(1)

    bench.engine.release(100, bench.now)

    [event] = bench.events()
    assert isinstance(event, CapReleased)
    assert (event.ino, str(event.caps), str(event.issued)) == (100, "pAsLs", "-")


def test_a_release_names_the_seq_of_the_last_reply() -> None:
    bench = Bench()
    bench.hold(7, "pAsLs", seq=4, mseq=2)
    bench.push(7, "pAsLsXs", seq=5)

    bench.engine.release(7, bench.now)
    bench.advance(1.0)

    assert bench.released() == [CapItem(7, 70, 2, 4)]


def test_a_full_message_is_sent_at_once() -> None:
    assert CAPS_PER_RELEASE == 170
    bench = held(400)

    for ino in range(100, 100 + 2 * 170 + 5):
        bench.engine.release(ino, bench.now)

    assert [len(message.caps) for message in bench.sent()] == [170, 170]
    bench.advance(1.0)
    assert len(bench.released()) == 5


def test_each_rank_gets_its_own() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAs", rank=0)
    bench.hold(7, "pAs", rank=1, cap_id=71, auth=False)

    bench.engine.release(7, bench.now)
    bench.advance(1.0)

    assert [(send.rank, send.message.caps) for send in bench.sends()] == [
        (0, (CapItem(7, 70, 0, 1),)),
        (1, (CapItem(7, 71, 0, 1),)),
    ]


def test_an_inode_granted_again_before_its_release_left_is_held_again() -> None:
    bench = held(1)
    bench.engine.release(100, bench.now)

    bench.hold(100, "pAsLs", seq=2)
    bench.advance(1.0)

    assert bench.released() == [CapItem(100, 1000, 0, 1)], "an MDS ignores that: it has issued seq 2 since"
    assert bench.held(100) == ("pAsLs", "pAsLs")


@pytest.mark.parametrize("why", ["open", "dirty", "flushing"])
def test_what_is_pinned_is_not_dropped(why: str) -> None:
    bench = Bench()
    bench.hold(7, ALL)
    if why == "open":
        bench.opened(7, FileMode.RD)
    else:
        bench.change(7, mode=0o600)
    if why == "flushing":
        bench.flush(7)
    bench.sent()

    assert not bench.engine.release(7, bench.now)
    bench.engine.drop_caches(bench.now)
    bench.engine.sessions.recalled(0, 0, bench.now)

    assert bench.sent() == []
    assert bench.held(7) == (ALL, ALL)


def test_what_is_not_known_is_not_dropped() -> None:
    bench = Bench()
    assert not bench.engine.release(7, bench.now)
    bench.advance(5.0)
    assert bench.sent() == []


def test_a_recall_lets_go_of_the_coldest_first_and_at_once() -> None:
    bench = held(10)
    bench.hold(100, "pAsLs", seq=2)  # touched by a reply
    assert bench.engine.known(101, 0, bench.now)  # and by use
    bench.opened(102, FileMode.RD)
    bench.sent()

    bench.engine.sessions.recalled(0, 6, bench.now)

    assert [item.ino for item in bench.released()] == [103, 104, 105, 106]
    assert bench.engine.cache.rank(0).num_caps == 6


def test_a_recall_of_more_than_can_be_let_go_keeps_what_is_pinned() -> None:
    bench = held(5)
    bench.opened(102, FileMode.RD)
    bench.sent()

    bench.engine.sessions.recalled(0, 0, bench.now)

    assert list(bench.engine.cache.inodes) == [102]
    assert len(bench.released()) == 4


def test_a_recall_of_fewer_than_we_hold_lets_nothing_go() -> None:
    bench = held(5)

    bench.engine.sessions.recalled(0, 5, bench.now)

    assert bench.sent() == []


def test_dropping_the_caches_drops_all_that_nothing_pins_at_once() -> None:
    bench = held(200)
    bench.opened(150, FileMode.RD)
    bench.sent()

    bench.engine.drop_caches(bench.now)

    assert [len(message.caps) for message in bench.sent()] == [170, 29]
    assert list(bench.engine.cache.inodes) == [150]
    assert bench.engine.cache.rank(0).num_caps == 1
    assert not bench.engine.cache.delayed.keys() - {150}


def test_before_a_barrier_all_that_is_queued_is_sent() -> None:
    bench = held(3)
    for ino in (100, 101):
        bench.engine.release(ino, bench.now)

    bench.engine.releases.flush(0)

    assert [item.ino for item in bench.released()] == [100, 101]
    bench.advance(5.0)
    assert bench.sent() == []


def test_what_a_name_led_to_before_is_let_go() -> None:
    bench = Bench()
    directory = stat_of(1, "pAsLsXsFs", mode=DIRECTORY)
    bench.reply(stat_of(7, "pAs"), dir=directory)

    bench.reply(None, dir=directory)  # as after an UNLINK
    bench.advance(1.0)

    assert bench.released() == [CapItem(7, 70, 0, 1)]


def test_what_a_name_led_to_before_stays_while_it_is_open() -> None:
    bench = Bench()
    directory = stat_of(1, "pAsLsXsFs", mode=DIRECTORY)
    bench.reply(stat_of(7, ALL), dir=directory)
    bench.opened(7, FileMode.RDWR)
    bench.sent()

    bench.reply(stat_of(8, "pAs"), dir=directory)  # as after a RENAME over it
    bench.advance(1.0)

    assert bench.sent() == []
    assert bench.issued(7) == ALL


def test_a_recall_hurries_what_is_changed() -> None:
    """It cannot be let go before it is safe, so it does not wait for company."""
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600)

    bench.engine.sessions.recalled(0, 0, bench.now)
    bench.advance(0.0)

    [flushed] = bench.sent()
    assert flushed.dirty


def test_what_was_touched_gets_another_round_and_no_more() -> None:
    bench = Bench()
    for ino in range(10, 14):
        bench.hold(ino, "pAsLs")
    cache = bench.engine.cache
    for ino in (11, 13):
        bench.engine.known(ino, 0, bench.now)

    first = [inode.ino for inode in cache.coldest()]

    assert first == [10, 12, 10, 11, 12, 13]  # the second round spares nobody
    bench.engine.known(12, 0, bench.now)
    assert next(cache.coldest()).ino == 10
    assert next(cache.coldest()).ino == 11  # it goes on where it stopped
    assert next(cache.coldest()).ino == 13
