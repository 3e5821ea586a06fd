"""Using caps: what is taken, what is waited for, what is kept until it is put; and what the data handler is asked."""

from __future__ import annotations

import errno

import pytest

from cephcaps.errors import MdsError, RequestTimeout
from cephwire.capbits import FileMode
from cephwire.caps import CapOp
from tests.engine.bench import ALL, Bench, only_update

MIB = 1 << 20


def opened(caps: str = ALL, *, max_size: int = 4 * MIB, handled: bool = True, **fields: int) -> Bench:
    """File 7, open for reading and writing."""
    bench = Bench()
    bench.engine.cache.handled = handled
    bench.hold(7, caps, max_size=max_size, wanted=caps, **fields)
    bench.opened(7, FileMode.RDWR)
    bench.sent()
    return bench


def test_what_is_there_is_taken_at_once() -> None:
    bench = opened()

    assert bench.got(bench.get(7, "Fw", "Fb", 100)) == "Fwb"
    assert bench.got(bench.get(7, "Fr", "Fc")) == "Fcr"
    use = bench.inode(7).use
    assert use is not None
    assert (use.rd, use.wr, use.cache, use.buffer) == (1, 1, 1, 1)
    assert use.cached_gen == bench.inode(7).cache_gen


def test_what_was_wanted_and_is_not_there_is_left() -> None:
    bench = opened("pAsLsXsFsrw")

    assert bench.got(bench.get(7, "Fw", "Fb", 100)) == "Fw"


def test_what_is_needed_is_waited_for() -> None:
    bench = opened("pAsLsXsFsr")
    token = bench.get(7, "Fw", endoff=10)
    assert bench.got(token) is None

    bench.push(7, "pAsLsXsFrw", max_size=4 * MIB)

    assert bench.got(token) == "Fw"


def test_a_wanted_bit_that_is_being_taken_back_is_waited_for() -> None:
    """To write around the buffer now would overtake what is still being written back."""
    bench = opened()
    first = bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 100, buffered=True)
    bench.put(7, "Fwb")
    assert bench.got(first) == "Fwb"
    bench.revoke(7, "pAsLsXsFrw", max_size=4 * MIB)
    second = bench.get(7, "Fw", "Fb", 100)
    assert bench.got(second) is None
    assert bench.hook(7) == "writeback"

    bench.finish(7)

    assert bench.got(second) == "Fw"


def test_the_answer_to_a_revoke_leaves_when_the_writeback_is_over_and_not_before() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 100, buffered=True)
    bench.put(7, "Fwb")
    bench.sent()

    bench.revoke(7, "pAsLsXsFrw", seq=9, max_size=4 * MIB)
    bench.advance(1000.0)
    assert [message.op for message in bench.sent()] == [CapOp.FLUSH]
    bench.finish(7)

    answer = only_update(bench.sent())
    assert (answer.seq, answer.caps & 0x2000) == (9, 0)


def test_cached_data_are_forgotten_before_the_answer() -> None:
    bench = opened()
    bench.got(bench.get(7, "Fr", "Fc"))
    bench.put(7, "Fcr")
    assert bench.sent() == []

    bench.revoke(7, "pAsLsXsFsr")
    assert (bench.hook(7), bench.sent()) == ("invalidate", [])
    bench.finish(7)

    only_update(bench.sent())
    assert bench.inode(7).use.cached_gen == 0


def test_an_invalidation_that_fails_is_tried_again() -> None:
    bench = opened()
    bench.got(bench.get(7, "Fr", "Fc"))
    bench.put(7, "Fcr")
    bench.revoke(7, "pAsLsXsFsr")

    bench.finish(7, RuntimeError("not now"))
    assert (bench.hook(7), bench.sent()) == ("invalidate", [])
    bench.finish(7)

    only_update(bench.sent())


def test_a_writeback_that_fails_gives_the_bits_back_and_is_told() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 100, buffered=True)
    bench.put(7, "Fwb")
    bench.revoke(7, "pAsLsXsFrw", max_size=4 * MIB)
    bench.sent()
    failure = OSError(errno.ENOSPC, "full")

    bench.finish(7, failure)

    use = bench.inode(7).use
    assert (use.errors, use.error) == (1, failure)
    only_update(bench.sent())


def test_what_is_written_during_a_writeback_is_written_back_too() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 50, buffered=True)
    bench.engine.write_back(7, bench.now)
    assert bench.hook(7) == "writeback"
    bench.wrote(7, 100, buffered=True)

    bench.finish(7)

    assert "b" in bench.said_used(7)
    bench.engine.write_back(7, bench.now)
    bench.finish(7)
    bench.put(7, "Fwb")
    assert "b" not in bench.said_used(7)


def test_without_a_handler_nothing_outlives_the_block() -> None:
    bench = opened(handled=False)
    bench.got(bench.get(7, "Fr", "Fc"))
    bench.put(7, "Fcr")

    bench.revoke(7, "pAsLsXsFsr")

    assert bench.hook(7) is None
    only_update(bench.sent())


def test_bits_in_use_are_not_given_back() -> None:
    bench = opened()
    bench.get(7, "Fw", endoff=10)

    bench.revoke(7, "pAsLsXsFsr")
    assert bench.sent() == []
    bench.put(7, "Fw")

    assert only_update(bench.sent()).caps & 0x1000 == 0


def test_more_room_is_asked_for_once() -> None:
    bench = opened(max_size=100)
    token = bench.get(7, "Fw", endoff=5000)
    [asked] = bench.sent()
    assert (asked.op, asked.body.max_size) == (CapOp.UPDATE, 5000)
    other = bench.get(7, "Fw", endoff=4000)
    assert bench.sent() == []

    bench.push(7, ALL, max_size=4 * MIB)

    assert (bench.got(token), bench.got(other)) == ("Fw", "Fw")


def test_the_size_is_reported_before_the_room_is_used_up() -> None:
    bench = opened(max_size=1000)
    bench.get(7, "Fw", endoff=600)

    bench.wrote(7, 400)
    assert bench.sent() == []
    bench.wrote(7, 600)

    reported = only_update(bench.sent())
    assert (reported.body.size, reported.dirty) == (600, 0x1000)


def test_a_wait_ends_with_its_time_and_says_why() -> None:
    bench = opened("pAsLsXsFsr")
    token = bench.get(7, "Fw", endoff=10, patience=3.0)

    bench.advance(3.0)

    with pytest.raises(RequestTimeout, match="Fw, which no MDS has granted"):
        bench.got(token)
    assert not bench.inode(7).use.waiting


def test_a_cancelled_wait_is_forgotten() -> None:
    bench = opened("pAsLsXsFsr")
    token = bench.get(7, "Fw", endoff=10)

    bench.engine.refs.cancel(token)
    bench.push(7, ALL, max_size=4 * MIB)

    assert bench.got(token) is None
    assert bench.inode(7).use.wr == 0


@pytest.mark.parametrize(("need", "mode"), [("Fw", FileMode.RD), ("Fr", FileMode.WR), ("Frw", FileMode.RD)])
def test_a_handle_opened_for_something_else_is_refused(need: str, mode: int) -> None:
    bench = opened()

    with pytest.raises(MdsError) as raised:
        bench.got(bench.get(7, need, mode=mode))
    assert raised.value.errno == errno.EBADF


def test_a_read_only_mds_refuses_writers_and_those_who_wait_to_be() -> None:
    bench = opened("pAsLsXsFsr")
    waiting = bench.get(7, "Fw", endoff=10)

    bench.engine.session_read_only(0, bench.now)

    for token in (waiting, bench.get(7, "Fw", endoff=10)):
        with pytest.raises(MdsError) as raised:
            bench.got(token)
        assert raised.value.errno == errno.EROFS
    assert bench.got(bench.get(7, "Fr")) == "Fr"


def test_a_truncation_is_carried_out_before_anything_is_read_or_written() -> None:
    bench = opened(size=1000, truncate_seq=1)
    bench.got(bench.get(7, "Fr", "Fc"))
    bench.put(7, "Fcr")

    bench.push(7, ALL, op=CapOp.TRUNC, size=10, truncate_seq=2, truncate_size=10)
    assert (bench.hook(7), bench.running[7].size, bench.running[7].truncate_seq) == ("truncate", 10, 2)
    token = bench.get(7, "Fr")
    assert bench.got(token) is None
    bench.finish(7)

    assert bench.got(token) == "Fr"


def test_data_of_a_file_nobody_has_open_are_written_back() -> None:
    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 100, buffered=True)
    bench.put(7, "Fwb")

    bench.closed(7, FileMode.RDWR)

    assert bench.hook(7) == "writeback"


def test_a_lost_session_is_told_to_those_who_wait_and_drops_data() -> None:
    from tests.engine.bench import GONE

    bench = opened()
    bench.get(7, "Fw", "Fb", 100)
    bench.wrote(7, 100, buffered=True)
    bench.put(7, "Fwb")
    waiting = bench.get(7, "Fw", endoff=100 * MIB)

    lost = bench.engine.session_lost(0, GONE, bench.now)

    assert lost == {7: "inode 0x7: Fwb"}
    with pytest.raises(type(GONE)):
        bench.got(waiting)
    error = bench.inode(7).use.error
    assert (error.reason, error.lost) == (GONE.reason, ("inode 0x7: Fwb",))
    assert "lost: inode 0x7: Fwb" in str(error)
