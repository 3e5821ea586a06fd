"""A rank that takes no changes any more: nothing is changed here under its caps, and who waits to write is told."""

from __future__ import annotations

import errno

import pytest

from cephcaps.errors import MdsError
from cephwire.capbits import Cap, FileMode
from tests.engine.bench import ALL, NEVER, Bench, update


def test_a_change_is_left_to_be_asked_for_and_refused() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.engine.session_read_only(0, bench.now)

    remainder = bench.change(7, mode=0o600, mtime=5)

    assert remainder is not None
    assert not bench.inode(7).dirty
    assert bench.inode(7).mode & 0o777 == 0o644


def test_what_was_dirty_before_goes_with_the_bits_the_mds_asks_back() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.change(7, mode=0o600, mtime=5)

    bench.engine.session_read_only(0, bench.now)
    assert bench.sends() == []
    bench.revoke(7, "pAsLsXsFscr")

    assert bench.said() == [update("pAsLsXsFscr", dirty="AxFx", tid=1)]


def test_another_rank_is_not_concerned() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, ALL, rank=1)
    bench.engine.session_read_only(0, bench.now)

    assert bench.change(7, mode=0o600) is None
    assert bench.inode(7).dirty


def test_reading_goes_on() -> None:
    bench = Bench()
    bench.hold(7, "pAsLsXsFscr")
    bench.engine.session_read_only(0, bench.now)

    assert bench.issued(7) == "pAsLsXsFscr"
    assert bench.engine.known(7, Cap.FILE_RD, bench.now) is bench.inode(7)


def test_who_waits_to_write_is_told_and_who_waits_for_another_rank_goes_on_waiting() -> None:
    bench = Bench(ranks=2)
    for ino, rank in ((7, 0), (8, 1)):
        bench.hold(ino, "pFs", rank=rank)
        bench.opened(ino, FileMode.RDWR)
    tokens = [bench.get(7, "Fw"), bench.get(7, "Fr"), bench.get(8, "Fw")]

    bench.engine.session_read_only(0, bench.now)

    with pytest.raises(MdsError) as raised:
        bench.got(tokens[0])
    assert raised.value.errno == errno.EROFS
    assert [bench.got(token) for token in tokens[1:]] == [None, None]


def test_a_new_session_begins_without_it() -> None:
    bench = Bench()
    bench.hold(7, ALL)
    bench.engine.session_read_only(0, bench.now)

    bench.engine.sessions.opened(0, 1, NEVER, 0)

    assert bench.change(7, mode=0o600) is None
