"""A rank comes up anew: what it is told of our caps, and in which order it gets our changes again."""

from __future__ import annotations

from typing import Any

from cephwire.capbits import FileMode, cap_string
from cephwire.caps import CapOp, ClientCaps
from cephwire.reconnect import ClientReconnect
from tests.engine.bench import ALL, DIRECTORY, NEVER, Bench, stat_of

MIB = 1 << 20


def holding() -> Bench:
    bench = Bench()
    bench.engine.cache.handled = True
    bench.hold(7, ALL, wanted=ALL, max_size=4 * MIB, seq=5)
    bench.opened(7, FileMode.RDWR)
    bench.sent()
    return bench


def reconnect(bench: Bench) -> list[Any]:
    bench.engine.reconnects.compose(0, 2, NEVER)
    return bench.sends()


def test_every_cap_is_told_once_by_inode_with_its_name_and_what_is_held() -> None:
    bench = holding()
    bench.reply(stat_of(9, "pAsLsXsFs"), dir=stat_of(3, "pAsLsXsFs", mode=DIRECTORY), dname="nine")

    [send] = reconnect(bench)

    told = send.message
    assert isinstance(told, ClientReconnect)
    assert [entry.ino for entry in told.caps] == [3, 7, 9]
    assert [cap_string(entry.cap.issued) for entry in told.caps] == ["pAsLsXsFs", ALL, "pAsLsXsFs"]
    assert (told.caps[2].cap.pathbase, told.caps[2].cap.path) == (3, "nine")


def test_both_sides_count_anew() -> None:
    bench = holding()

    reconnect(bench)

    cap = bench.cap(7)
    assert (cap.seq, cap.issue_seq, cap.mseq, cap.gen) == (0, 0, 0, 2)
    assert bench.issued(7) == ALL


def test_what_was_being_asked_back_is_told_as_held() -> None:
    bench = holding()
    bench.get(7, "Fw", endoff=1)
    bench.revoke(7, "pAsLsXsFsr", max_size=4 * MIB)

    [*_, send] = reconnect(bench)

    assert "w" in cap_string(send.message.caps[0].cap.issued)
    assert not bench.cap(7).revoking


def test_a_stale_cap_is_told_as_the_inode_alone() -> None:
    bench = holding()
    bench.engine.sessions.stale(0, 2)
    bench.engine.reconnects.compose(0, 3, NEVER)

    [send] = bench.sends()

    assert cap_string(send.message.caps[0].cap.issued) == "p"


def test_flushes_of_bits_others_may_get_go_before_the_reconnect() -> None:
    bench = holding()
    bench.change(7, mode=0o600)
    bench.flush(7)
    bench.revoke(7, "pAsLsXsFsxcrwb", max_size=4 * MIB)
    bench.sent()

    sends = reconnect(bench)

    assert [type(send.message) for send in sends] == [ClientCaps, ClientReconnect]
    assert (sends[0].message.op, sends[0].tid, sends[0].message.seq) == (CapOp.FLUSH, 1, 0)


def test_the_rest_goes_once_the_rank_serves() -> None:
    bench = holding()
    bench.change(7, mode=0o600)
    bench.flush(7)
    bench.sent()
    assert [type(send.message) for send in reconnect(bench)] == [ClientReconnect]

    bench.engine.rank_serves(0, bench.now)

    assert [(send.message.op, send.tid) for send in bench.sends()] == [(CapOp.FLUSH, 1)]


def test_releases_that_had_not_left_are_simply_not_told_of() -> None:
    bench = holding()
    bench.hold(8, "pAsLs")
    bench.engine.release(8, bench.now)

    [send] = reconnect(bench)
    bench.advance(5.0)

    assert [entry.ino for entry in send.message.caps] == [7]
    assert bench.sent() == []


def test_who_waited_for_room_asks_the_new_rank() -> None:
    bench = holding()
    bench.get(7, "Fw", endoff=100 * MIB)
    bench.sent()
    reconnect(bench)

    bench.engine.rank_serves(0, bench.now)
    bench.push(7, ALL, seq=1, max_size=4 * MIB)

    assert any(message.body.max_size == 100 * MIB for message in bench.sent())
