"""When a message about a cap is due: wishes, what is kept, what is given back and when."""

from __future__ import annotations

import pytest

from cephwire.capbits import Cap, FileMode, cap_string, wanted_for_mode
from tests.engine.bench import ALL, DIRECTORY, Bench, only_update, update

SHARED = "pAsLsXsFs"
READ = "pFscr"
"""What a file open for reading wants."""
BOTH = "pAsxXsxFsxcrwb"
"""What one open for reading and writing wants."""


def test_what_modes_want() -> None:
    assert cap_string(wanted_for_mode(FileMode.RD)) == READ
    assert cap_string(wanted_for_mode(FileMode.RDWR)) == BOTH


# Wishes


def test_a_wish_the_mds_does_not_know_of_is_told() -> None:
    bench = Bench()
    bench.hold(7, SHARED)

    bench.opened(7, FileMode.RD)

    assert bench.said() == [update(SHARED, READ)]
    bench.opened(7, FileMode.RD)
    assert bench.sent() == []


@pytest.mark.parametrize(("caps", "wanted"), [(SHARED, READ), ("pAsLsXsFscr", "-"), ("pFsc", "pFr")])
def test_a_wish_that_is_known_or_granted_is_not_told(caps: str, wanted: str) -> None:
    bench = Bench()
    bench.hold(7, caps, wanted=wanted)

    bench.opened(7, FileMode.RD)

    assert bench.sent() == []


def test_a_wish_that_is_less_is_not_told_by_itself() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    bench.opened(7, FileMode.RDWR)
    bench.opened(7, FileMode.RD)
    bench.sent()

    bench.closed(7, FileMode.RDWR)
    bench.advance(200.0)

    assert bench.sent() == []
    bench.revoke(7, "pAsLsXsFscr")
    assert bench.said() == [update("pAsLsXsFscr", READ)]


def test_opening_what_is_not_known_does_nothing() -> None:
    bench = Bench()
    bench.opened(7, FileMode.RD)
    bench.closed(7, FileMode.RD)
    assert bench.sent() == []


def test_handles_are_counted() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.opened(7, FileMode.RD)
    bench.opened(7, FileMode.RD)
    bench.opened(7, FileMode.WR)

    bench.closed(7, FileMode.RD)
    assert cap_string(bench.inode(7).file_wanted) == BOTH
    bench.closed(7, FileMode.RD)
    assert cap_string(bench.inode(7).file_wanted) == "pAsxXsxFxwb"
    bench.closed(7, FileMode.WR)
    assert bench.inode(7).use is None
    bench.closed(7, FileMode.WR)
    assert bench.inode(7).used == 0


# What is kept


def test_an_open_file_keeps_whatever_it_is_granted() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    bench.opened(7, FileMode.RD)

    bench.advance(500.0)

    assert bench.sent() == []
    assert bench.held(7) == (ALL, ALL)


def test_what_nobody_wants_is_given_back_after_a_minute() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    bench.opened(7, FileMode.RDWR)
    bench.advance(100.0)
    bench.closed(7, FileMode.RDWR)

    bench.advance(59.0)
    assert bench.sent() == []
    assert bench.issued(7) == ALL
    bench.advance(1.0)

    assert bench.said() == [update("pAsLsXsFscr")]
    assert bench.held(7) == ("pAsLsXsFscr", "pAsLsXsFscr")
    assert not bench.engine.cache.delayed
    bench.advance(500.0)
    assert bench.sent() == []


def test_what_came_unasked_with_a_reply_is_given_back_after_a_minute_too() -> None:
    bench = Bench()
    bench.hold(7, "pAsxLsXsxFsx")

    bench.advance(59.0)
    assert bench.sent() == []
    bench.advance(1.0)

    assert bench.said() == [update(SHARED)]


@pytest.mark.parametrize("wanted", ["-", "pFsr"])
def test_what_is_only_shared_is_kept_for_good(wanted: str) -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFscr", wanted=wanted)

    bench.advance(500.0)

    assert bench.sent() == []


def test_a_file_open_for_writing_before_keeps_nothing_to_read_with() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFscrw", max_size=1 << 22)

    bench.advance(60.0)

    assert bench.said() == [update(SHARED)]


def test_a_file_that_is_wanted_again_in_time_keeps_all() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    bench.opened(7, FileMode.RDWR)
    bench.closed(7, FileMode.RDWR)
    bench.advance(59.0)

    bench.opened(7, FileMode.RDWR)
    bench.advance(500.0)

    assert bench.sent() == []
    assert bench.issued(7) == ALL


def test_a_file_closed_again_waits_a_minute_of_its_own() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    for _ in range(3):
        bench.opened(7, FileMode.RDWR)
        bench.closed(7, FileMode.RDWR)
        bench.advance(40.0)

    assert bench.sent() == []
    bench.advance(20.0)
    assert bench.said() == [update("pAsLsXsFscr")]


@pytest.mark.parametrize(("seconds", "kept"), [(4.0, "pAsxLsXsxFsxcr"), (6.0, "pAsLsXsFscr")])
def test_for_five_seconds_no_message_gives_back_what_was_just_in_use(seconds: float, kept: str) -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=BOTH)
    bench.opened(7, FileMode.RDWR)
    bench.closed(7, FileMode.RDWR)
    bench.advance(seconds)

    bench.revoke(7, "pAsxLsXsxFsxcr")

    message = only_update(bench.sent())
    assert cap_string(message.caps) == kept
    assert cap_string(message.wanted) == (BOTH if seconds < 5 else "-")


def test_an_unlinked_open_file_keeps_what_it_wants_and_no_more() -> None:
    bench = Bench()
    bench.hold(7, ALL, wanted=READ)
    bench.opened(7, FileMode.RD)

    bench.push(7, ALL, nlink=0)
    bench.advance(60.0)

    assert bench.said() == [update(READ, READ)]
    assert bench.held(7) == (READ, READ)


def test_a_directory_without_links_keeps_what_is_shared() -> None:
    bench = Bench()
    bench.hold(7, SHARED, mode=DIRECTORY, nlink=0)

    bench.push(7, "pAsLsXsFsx", mode=DIRECTORY, nlink=0)

    assert bench.said() == [update(SHARED)]


def test_the_delay_queue_is_in_the_order_of_its_times() -> None:
    bench = Bench()
    for ino in (7, 8, 9):
        bench.hold(ino, ALL)
        bench.advance(1.0)
    bench.opened(7, FileMode.RD)
    bench.closed(7, FileMode.RD)

    assert list(bench.engine.cache.delayed) == [8, 9, 7]
    bench.advance(58.0)
    assert [message.ino for message in bench.sent()] == [8]
    bench.advance(1.0)
    assert [message.ino for message in bench.sent()] == [9]
    bench.advance(1.0)
    assert [message.ino for message in bench.sent()] == [7]


# Several ranks


def test_a_cap_that_the_authority_s_covers_is_given_back_though_in_use() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAsLsXsFscr", rank=0)
    bench.hold(7, "pAsLs", rank=1, auth=False)
    bench.opened(7, FileMode.RD)
    bench.sent()

    bench.revoke(7, "AsLs", rank=1)  # the pin, which an open file uses

    sends = bench.sends()
    assert [(send.rank, cap_string(send.message.caps)) for send in sends] == [(1, "AsLs")]


def test_what_the_authority_takes_back_does_not_count_wherever_else_it_is_held() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pAsFs", rank=0)
    bench.hold(7, "pAsFs", rank=1, auth=False)
    assert bench.issued(7) == "pAsFs"

    bench.cap(7, 0).issued &= ~Cap.FILE_SHARED

    assert bench.issued(7) == "pAs"


def test_every_rank_hears_of_a_new_wish_once() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, SHARED, rank=0)
    bench.hold(7, SHARED, rank=1, auth=False)

    bench.opened(7, FileMode.RD)
    bench.opened(7, FileMode.RD)

    assert sorted(send.rank for send in bench.sends()) == [0, 1]
