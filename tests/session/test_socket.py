"""How a socket's bytes come to a connection: much of it piece by piece, so that others have their turn between."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from cephcaps.messenger.connection import Phase
from cephcaps.shell.connection import MAX_UNREAD, SocketProtocol
from cephcaps.shell.turns import _TURNS, PIECE


class Owner:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def socket_made(self, connection: Any, socket: SocketProtocol) -> None:
        pass

    def bytes_received(self, connection: Any, data: bytes) -> None:
        self.pieces.append(data)

    def socket_lost(self, connection: Any, error: Exception) -> None:
        self.pieces.append(b"lost")


class Transport:
    """A transport that is no asyncio.Transport by class, as uvloop's are not."""

    def __init__(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        self.room = high

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = "closed"
        self.reading = False

    def abort(self) -> None:
        self.ended = "aborted"
        self.reading = False


def made() -> tuple[SocketProtocol, Owner, Transport]:
    owner, transport = Owner(), Transport()
    connection: Any = SimpleNamespace(out=[], phase=Phase.READY)
    protocol = SocketProtocol(owner, connection)
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, owner, transport


async def test_a_little_is_taken_in_at_once() -> None:
    protocol, owner, transport = made()

    protocol.data_received(b"x" * PIECE)

    assert owner.pieces == [b"x" * PIECE]
    assert transport.reading


async def test_much_is_taken_in_piece_by_piece_and_nothing_is_read_meanwhile() -> None:
    protocol, owner, transport = made()
    sent = bytes(range(256)) * (PIECE // 100)
    turns = []

    protocol.data_received(sent)
    while not transport.reading:
        turns.append(len(owner.pieces))
        await asyncio.sleep(0)

    assert turns == [1, 2]
    assert b"".join(owner.pieces) == sent
    assert max(map(len, owner.pieces)) == PIECE


async def test_what_is_left_when_the_connection_is_closed_is_not_taken_in() -> None:
    protocol, owner, transport = made()
    protocol.data_received(b"x" * 3 * PIECE)

    protocol.close()
    for _ in range(5):
        await asyncio.sleep(0)

    assert owner.pieces == [b"x" * PIECE]
    assert not transport.reading


async def test_a_turn_is_shared_by_all_sockets_and_who_waits_longest_is_next() -> None:
    sockets = [made() for _ in range(40)]
    sent = b"x" * (PIECE // 10)
    turns = []

    for protocol, _, _ in sockets:
        protocol.data_received(sent)
    while not all(transport.reading for _, _, transport in sockets):
        turns.append([sum(map(len, owner.pieces)) for _, owner, _ in sockets])
        await asyncio.sleep(0)

    assert [sum(turn) for turn in turns] == [PIECE, 2 * PIECE, 3 * PIECE]
    assert all(turn == sorted(turn, reverse=True) for turn in turns)
    assert all(b"".join(owner.pieces) == sent for _, owner, _ in sockets)


async def test_a_new_turn_has_room_again() -> None:
    protocol, owner, transport = made()
    for _ in range(3):
        protocol.data_received(b"x" * PIECE)
        assert transport.reading
        await asyncio.sleep(0)
    assert owner.pieces == 3 * [b"x" * PIECE]


@pytest.mark.parametrize("first", ["taken in", "read"])
async def test_a_peer_that_does_not_read_is_not_read(first: str) -> None:
    """Else it could ask without end for answers that pile up here."""
    protocol, owner, transport = made()
    protocol.data_received(b"x" * (PIECE + 1))
    protocol.pause_writing()
    assert transport.room == MAX_UNREAD

    if first == "read":
        protocol.resume_writing()
        assert not transport.reading
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(map(len, owner.pieces)) == PIECE + 1
    assert transport.reading == (first == "read")
    protocol.resume_writing()

    assert transport.reading


@pytest.mark.parametrize(("reads", "ended"), [(True, "closed"), (False, "aborted")])
async def test_what_a_peer_does_not_read_is_dropped_with_its_connection(reads: bool, ended: str) -> None:
    protocol, _, transport = made()
    protocol.pause_writing()
    if reads:
        protocol.resume_writing()

    protocol.close()

    assert transport.ended == ended


def test_a_loop_that_is_gone_leaves_nothing() -> None:
    before = len(_TURNS)

    async def use() -> None:
        made()[0].data_received(b"x")

    asyncio.run(use())
    gc.collect()
    assert len(_TURNS) == before
