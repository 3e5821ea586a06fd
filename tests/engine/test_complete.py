"""Directories known whole: when they are, what that answers, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.engine.dentries import is_complete
from cephcaps.engine.inode import Inode
from cephcaps.engine.listing import Listing
from cephwire.capbits import Cap
from cephwire.frag import frag_child
from cephwire.inode import DirStat, InodeStat
from cephwire.reply import ClientReply, DirEntry, ReaddirFlag, ReaddirReply, ReplyTrace
from cephwire.requestop import RequestOp
from tests.engine.bench import DIRECTORY, Bench, stat_of, update
from tests.session import samples

SHARED = "pAsLsXsFs"
EXCLUSIVE = "pAsLsXsFsx"
END = ReaddirFlag.FRAG_END
ALL_SHARED = int(Cap.PIN | Cap.ANY_SHARED)


def directory(caps: str = SHARED, seq: int = 1, **fields: Any) -> InodeStat:
    return stat_of(1, caps, seq=seq, mode=DIRECTORY, **fields)


def told(
    bench: Bench,
    names: dict[str, int],
    listing: Listing | None = None,
    *,
    dir: InodeStat | None = None,
    end: bool = True,
    frag: int = 0,
    caps: str = SHARED,
    op: RequestOp = RequestOp.READDIR,
    seq: int = 1,
) -> None:
    """A reply to READDIR."""
    entries = tuple(DirEntry(name, samples.NO_LEASE, stat_of(ino, caps, seq=seq)) for name, ino in names.items())
    extra = ReaddirReply(DirStat(frag, 0, ()), END if end else 0, entries)
    trace = ReplyTrace(None, None, None, None, dir or directory())
    reply = ClientReply(op, 0, 5, 1, 0, 1, trace, extra, b"")
    bench.engine.reply(0, reply, bench.now, bench.now, listing=listing)


def listed(names: dict[str, int] | None = None, caps: str = SHARED) -> Bench:
    """Directory 1 has been listed whole."""
    bench = Bench()
    told(bench, names if names is not None else {"a": 7, "b": 8}, bench.engine.listings.begin(), dir=directory(caps))
    bench.sent()
    return bench


def names(bench: Bench) -> list[str] | None:
    return bench.engine.listings.names(1, bench.now)


def found(bench: Bench, name: str) -> int | None:
    answer = bench.engine.lookup(1, name, 0, bench.now)
    return answer.ino if isinstance(answer, Inode) else answer


# How a directory becomes known whole


def test_a_directory_listed_whole_is_known_whole() -> None:
    bench = listed()

    assert names(bench) == ["a", "b"]
    assert (found(bench, "a"), found(bench, "none")) == (7, 0)
    assert [(inode.parent, inode.name) for inode in (bench.inode(7), bench.inode(8))] == [(1, "a"), (1, "b")]


def test_it_takes_all_pieces_of_all_fragments() -> None:
    bench = Bench()
    listing = bench.engine.listings.begin()
    left, right = frag_child(0, 1, 0), frag_child(0, 1, 1)

    told(bench, {"a": 7}, listing, end=False, frag=left)
    assert names(bench) is None
    told(bench, {"b": 8}, listing, frag=left)
    assert names(bench) is None
    told(bench, {"c": 9}, listing, end=False, frag=right)
    assert names(bench) is None
    told(bench, {}, listing, frag=right)

    assert names(bench) == ["a", "b", "c"]


def test_names_told_are_known_before_the_rest_is() -> None:
    bench = Bench()
    told(bench, {"a": 7}, bench.engine.listings.begin(), end=False)

    assert (found(bench, "a"), found(bench, "none")) == (7, None)


def test_a_piece_nobody_goes_on_with_completes_nothing() -> None:
    bench = Bench()

    told(bench, {"a": 7})

    assert (names(bench), found(bench, "a")) == (None, 7)


def test_it_takes_the_shared_bit() -> None:
    bench = Bench()

    told(bench, {"a": 7}, bench.engine.listings.begin(), dir=directory("pAsLsXs"))

    assert (names(bench), found(bench, "a")) == (None, None)


def test_it_takes_the_same_shared_bit_from_first_to_last() -> None:
    bench = Bench()
    listing = bench.engine.listings.begin()
    told(bench, {"a": 7}, listing, end=False)

    bench.revoke(1, "pAsLsXs")
    told(bench, {"b": 8}, listing, dir=directory(seq=3))

    assert names(bench) is None
    assert (found(bench, "a"), found(bench, "b")) == (None, 8)


def test_a_rank_that_does_not_grant_it_may_have_been_overtaken() -> None:
    """Another rank's promise was given later than what this one tells."""
    bench = Bench(ranks=2)
    bench.reply(directory())
    listing = bench.engine.listings.begin()
    entries = (DirEntry("a", samples.NO_LEASE, stat_of(7, SHARED, auth=False)),)
    extra = ReaddirReply(DirStat(0, 0, ()), END, entries)
    trace = ReplyTrace(None, None, None, None, directory("pLs", auth=False))

    bench.engine.reply(
        1, ClientReply(RequestOp.READDIR, 0, 5, 1, 0, 1, trace, extra, b""), 0.0, bench.now, listing=listing
    )

    assert (names(bench), found(bench, "a")) == (None, None)


@pytest.mark.parametrize("missed", [0, 1])
def test_a_piece_that_tells_nothing_of_the_directory_is_missed(missed: int) -> None:
    bench = Bench()
    listing = bench.engine.listings.begin()

    for number in range(3):
        entries = (DirEntry(f"n{number}", samples.NO_LEASE, stat_of(10 + number, SHARED)),)
        extra = ReaddirReply(DirStat(0, 0, ()), END if number == 2 else 0, entries)
        trace = ReplyTrace(None, None, None, None, None if number == missed else directory())
        reply = ClientReply(RequestOp.READDIR, 0, 5, 1, 0, 1, trace, extra, b"")
        bench.engine.reply(0, reply, bench.now, bench.now, listing=listing)

    assert (names(bench), found(bench, "n2")) == (None, 12)


def test_no_name_may_be_dropped_meanwhile() -> None:
    bench = Bench()
    listing = bench.engine.listings.begin()
    told(bench, {"a": 7}, listing, end=False)

    bench.engine.release(7, bench.now)
    told(bench, {"b": 8}, listing)

    assert (names(bench), found(bench, "b")) == (None, 8)


def test_of_two_listings_at_a_time_one_counts() -> None:
    bench = Bench()
    one, two = bench.engine.listings.begin(), bench.engine.listings.begin()
    told(bench, {"a": 7}, one, end=False)
    told(bench, {"a": 7}, two, end=False)

    told(bench, {"b": 8}, one)
    assert names(bench) is None
    told(bench, {"b": 8}, two)

    assert names(bench) == ["a", "b"]


def test_a_listing_of_what_is_known_whole_leaves_it_so() -> None:
    bench = listed()

    told(bench, {"a": 7}, bench.engine.listings.begin(), end=False)

    assert names(bench) == ["a", "b"]


def test_names_of_an_earlier_time_that_are_not_listed_are_gone() -> None:
    bench = Bench()
    bench.reply(stat_of(6, SHARED), dir=directory(), dname="old")
    bench.reply(None, dir=directory(), dname="missing")
    bench.revoke(1, "pAsLsXs")

    told(bench, {"a": 7}, bench.engine.listings.begin(), dir=directory(seq=3))

    assert (names(bench), found(bench, "old"), found(bench, "missing")) == (["a"], 0, 0)


def test_what_we_change_while_we_list_is_in_the_result() -> None:
    bench = Bench()
    listing = bench.engine.listings.begin()
    told(bench, {"a": 7, "b": 8, "c": 9}, listing, dir=directory(EXCLUSIVE), end=False)

    bench.reply(stat_of(10, SHARED), dir=directory(EXCLUSIVE), dname="made")
    bench.reply(None, dir=directory(EXCLUSIVE), dname="a")
    bench.engine.dentries.gone(1, "b")
    told(bench, {"d": 11}, listing, dir=directory(EXCLUSIVE))

    assert names(bench) == ["c", "d", "made"]


@pytest.mark.parametrize("counted", [{"files": 0, "subdirs": 1}, {"files": 1, "subdirs": 0}])
def test_only_a_directory_that_counts_nothing_is_known_to_be_empty(counted: dict[str, Any]) -> None:
    bench = Bench()
    bench.reply(directory(**counted))
    assert names(bench) is None


def test_a_directory_that_comes_empty_with_the_shared_bit_is_known_whole() -> None:
    bench = Bench()

    bench.reply(directory("pAsxLsXsxFsx", files=0))

    assert (names(bench), found(bench, "none")) == ([], 0)


def test_one_that_came_before_is_not() -> None:
    """While we hold the bit its counts may lag behind what we have made in it."""
    bench = Bench()
    bench.reply(directory(EXCLUSIVE))

    bench.reply(directory(EXCLUSIVE, files=0))

    assert names(bench) is None


def test_one_that_we_are_making_names_in_is_not() -> None:
    """Dropped and asked for anew, it is told as it was before what is not durable yet."""
    bench = Bench()
    bench.engine.unsafe = lambda ino: True

    bench.reply(directory("pAsLsXsFs", files=0))

    assert names(bench) is None


def test_a_file_without_contents_is_no_empty_directory() -> None:
    bench = Bench()
    bench.reply(stat_of(7, SHARED))
    assert not is_complete(bench.inode(7))


def test_snapshots_listed_are_no_names() -> None:
    bench = Bench()

    told(bench, {"snap": 1}, bench.engine.listings.begin(), op=RequestOp.LSSNAP)

    assert (names(bench), found(bench, "snap")) == (None, None)


def test_what_is_told_of_a_snapshot_s_directory_says_nothing_of_the_live_one() -> None:
    bench = listed()

    told(bench, {"old": 9}, bench.engine.listings.begin(), dir=directory(snapid=4))
    bench.reply(None, dir=directory(snapid=4), dname="a")

    assert names(bench) == ["a", "b"]


# What ends it


@pytest.mark.parametrize("lost", ["revoked", "stale", "renewed", "lost", "time"])
def test_it_ends_with_the_shared_bit(lost: str) -> None:
    bench = listed()
    match lost:
        case "revoked":
            bench.revoke(1, "pAsLsXs")
        case "stale" | "renewed":
            bench.engine.sessions.stale(0, 2)
        case "lost":
            bench.engine.session_lost(0, ConnectionError(), bench.now)
        case "time":
            bench.engine.session_renewed(0, bench.now + 5, bench.now)
            bench.now += 6
    assert (names(bench), found(bench, "none")) == (None, None)

    if lost == "revoked":
        bench.push(1, SHARED)
    if lost == "renewed":
        bench.push(1, SHARED)
        bench.engine.session_renewed(0, bench.now + 60, bench.now)
    if lost != "time":
        assert (names(bench), found(bench, "none")) == (None, None)


def test_it_ends_when_an_inode_is_dropped_and_its_name_with_it() -> None:
    bench = listed()

    bench.engine.release(7, bench.now)

    assert (names(bench), found(bench, "a"), found(bench, "b"), found(bench, "none")) == (None, None, 8, None)


def test_a_name_that_leads_elsewhere_by_now_outlives_the_inode() -> None:
    bench = listed(caps=EXCLUSIVE)
    bench.reply(stat_of(7, SHARED, seq=2), dir=directory(EXCLUSIVE, seq=2), dname="c")  # renamed
    bench.engine.dentries.gone(1, "a")
    bench.reply(stat_of(9, SHARED), dir=directory(EXCLUSIVE, seq=3), dname="a")

    bench.engine.release(8, bench.now)
    assert names(bench) is None
    assert (found(bench, "a"), found(bench, "c")) == (9, 7)


def test_a_doubted_name_ends_it() -> None:
    bench = listed()

    bench.engine.dentries.forget(1, "a")

    assert (names(bench), found(bench, "a"), found(bench, "b")) == (None, None, 8)


def test_a_change_under_a_bit_the_reply_does_not_grant_ends_it() -> None:
    bench = listed(caps=EXCLUSIVE)

    bench.reply(stat_of(9, SHARED), dir=directory("pAsLsXs", seq=2), dname="c")

    assert names(bench) is None


@pytest.mark.parametrize("target", [None, stat_of(9, SHARED, auth=False)])
def test_what_a_rank_tells_that_does_not_grant_the_bit_ends_it(target: InodeStat | None) -> None:
    bench = Bench(ranks=2)
    told(bench, {"a": 7, "b": 8}, bench.engine.listings.begin())

    bench.reply(target, dir=directory("pLs", auth=False), dname="a", rank=1)

    assert (names(bench), found(bench, "a"), found(bench, "b")) == (None, None, 8)


def test_an_inode_whose_directory_was_dropped_takes_no_name_along() -> None:
    bench = listed()
    bench.engine.release(1, bench.now)
    told(bench, {"a": 9}, bench.engine.listings.begin())

    bench.engine.release(7, bench.now)

    assert names(bench) == ["a"]


# What it outlives


def test_what_we_change_ourselves_is_known() -> None:
    bench = listed(caps=EXCLUSIVE)

    bench.reply(stat_of(9, SHARED), dir=directory(EXCLUSIVE, seq=2), dname="c")
    assert names(bench) == ["a", "b", "c"]
    bench.reply(None, dir=directory(EXCLUSIVE, seq=3), dname="a")
    assert (names(bench), found(bench, "a")) == (["b", "c"], 0)
    bench.reply(stat_of(8, SHARED, seq=2), dir=directory(EXCLUSIVE, seq=4), dname="d")  # "b" is renamed
    bench.engine.dentries.gone(1, "b")
    assert (names(bench), found(bench, "b")) == (["c", "d"], 0)
    bench.reply(stat_of(8, SHARED, seq=3), dir=directory(EXCLUSIVE, seq=5), dname="c")  # over "c"
    bench.engine.dentries.gone(1, "d")
    assert (names(bench), found(bench, "c")) == (["c"], 8)


def test_a_thousand_names_that_come_and_go_leave_nothing_behind() -> None:
    bench = listed({}, EXCLUSIVE)

    for number in range(1000):
        bench.reply(stat_of(100 + number, SHARED), dir=directory(EXCLUSIVE), dname=str(number))
        bench.reply(None, dir=directory(EXCLUSIVE), dname=str(number))

    assert (names(bench), bench.inode(1).children) == ([], {})


def test_a_file_with_two_names_is_kept_when_it_loses_one() -> None:
    bench = listed({"a": 7, "b": 7}, EXCLUSIVE)
    bench.inode(7).nlink = 2

    bench.reply(None, dir=directory(EXCLUSIVE), dname="b")

    assert (names(bench), found(bench, "a")) == (["a"], 7)


# Entries with what they lead to


def entries(bench: Bench, mask: int = ALL_SHARED) -> list[tuple[str, int]] | None:
    known = bench.engine.listings.entries(1, mask, bench.now)
    return None if known is None else [(name, inode.ino) for name, inode in known]


def test_entries_are_told_where_caps_cover_what_is_told() -> None:
    assert entries(listed()) == [("a", 7), ("b", 8)]


def test_one_that_is_not_covered_must_be_asked_for_with_the_rest() -> None:
    bench = listed()
    bench.revoke(8, "pAsLsXs")

    assert (entries(bench), names(bench)) == (None, ["a", "b"])
    assert entries(bench, Cap.AUTH_SHARED) == [("a", 7), ("b", 8)]


def test_what_is_listed_is_not_what_is_dropped_first() -> None:
    bench = listed()
    bench.reply(stat_of(20, SHARED))

    entries(bench)

    assert next(iter(bench.engine.cache.inodes)) == 20


# What is wanted of it


def test_a_directory_known_whole_keeps_what_lets_us_change_it() -> None:
    bench = listed(caps="pAsxLsXsxFsx")

    bench.advance(61)

    assert bench.said() == [update(EXCLUSIVE, "AsLsXsFsx")]
    bench.advance(100)
    assert bench.said() == []


def test_one_that_is_not_does_not() -> None:
    bench = Bench()
    bench.reply(directory(EXCLUSIVE))

    bench.advance(61)

    assert bench.said() == [update(SHARED)]
