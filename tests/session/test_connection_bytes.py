"""What bytes can do to a connection: cut, damaged, made up; and what its parts show of the keys they hold."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.errors import AuthError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.connection import Phase
from cephcaps.messenger.secure import TamperedFrame
from cephwire.control import ConMode, Keepalive2
from cephwire.entity import EntityType
from cephwire.keys import CryptoType
from cephwire.mon_messages import MConfig
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import HANDSHAKES, PAIRS, Pair, each_handshake, fresh, mds_pair, recorded
from tests.session.peers import banner, entropy, flushed

LEAVES = (MalformedMessage, ProtocolViolation, ConnectionFailed, AuthError)
"""All that a peer's bytes can do to a connection."""

handshakes = st.sampled_from(HANDSHAKES)


# Damage


@pytest.mark.parametrize("kind", PAIRS)
def test_nothing_after_a_tampered_frame_is_taken(kind: EntityType) -> None:
    pair = PAIRS[kind](ConMode.SECURE).meet()
    pair.server.send(MConfig({"a": "tampered"}))
    tampered = bytearray(flushed(pair.server.out))
    tampered[-1] ^= 1
    pair.server.send(MConfig({"a": "after"}))
    after = flushed(pair.server.out)

    with pytest.raises(TamperedFrame):
        pair.client.receive(bytes(tampered) + after, 1.0)
    pair.client.close()
    pair.client.receive(after, 1.0)

    assert not pair.owner.messages


def test_a_closed_connection_takes_nothing_and_answers_nothing() -> None:
    pair = mds_pair().meet()
    pair.server.send(MConfig({}))
    pair.server.write(Keepalive2(1))

    pair.client.close()
    pair.receive()

    assert not pair.owner.messages
    assert not pair.client.out


def test_a_connection_closed_by_its_owner_takes_nothing_more_of_what_came_with_it() -> None:
    pair = mds_pair().meet()
    pair.owner.message_received = lambda connection, *rest: (  # type: ignore[assignment]
        pair.owner.messages.append(rest[1]),
        connection.close(),
    )
    pair.server.send(MConfig({"n": "1"}))
    pair.server.send(MConfig({"n": "2"}))
    pair.receive()

    assert pair.owner.messages == [MConfig({"n": "1"})]
    assert not pair.client.out


# Any bytes


def outcome(pair: Pair, data: bytes) -> str:
    """What becomes of a connection that is given ``data``; any other error than `LEAVES` is not caught."""
    said, became = "", ""
    try:
        pair.client.receive(data, 0.0)
        became = pair.client.phase.name
    except LEAVES as error:
        said, became = str(error), type(error).__name__
    assert not leaked(said, pair.keys.secrets)
    return became


@given(handshakes, st.binary(max_size=400))
def test_any_bytes_are_refused_or_not_enough(handshake: tuple[Any, ...], noise: bytes) -> None:
    assert outcome(fresh(*handshake), noise) != Phase.READY.name
    assert outcome(fresh(*handshake), banner() + noise) != Phase.READY.name


@given(handshakes, st.data())
def test_a_handshake_cut_anywhere_waits_for_the_rest(handshake: tuple[Any, ...], data: st.DataObject) -> None:
    whole = recorded(*handshake)
    cut = data.draw(st.integers(0, len(whole)))
    pair = fresh(*handshake)

    assert outcome(pair, whole[:cut]) in Phase.__members__
    assert outcome(pair, whole[cut:]) == Phase.READY.name
    assert len(pair.owner.messages) == 2


@given(handshakes, st.data())
def test_a_handshake_with_a_bit_flipped_is_not_completed_unnoticed(
    handshake: tuple[Any, ...], data: st.DataObject
) -> None:
    damaged = bytearray(recorded(*handshake))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    pair = fresh(*handshake)

    became = outcome(pair, bytes(damaged))

    # What may change unnoticed: spare bits of a banner, which only a live signature would show; in crc mode the idle
    # half of a late_status.
    if became == Phase.READY.name:
        assert bit // 8 < len(banner()) or handshake[1] is ConMode.CRC
        assert pair.owner.messages == [MConfig({"a": "b"}), ClientSession(SessionOp.RENEWCAPS, 1)]


@given(handshakes, st.integers(0, 9), st.data())
def test_a_daemon_that_writes_nonsense_in_good_frames_is_refused(
    handshake: tuple[Any, ...], spoilt: int, data: st.DataObject
) -> None:
    pair = fresh(*handshake)

    def spoil(number: int, segments: Any) -> Any:
        if number != spoilt:
            return segments
        index = data.draw(st.integers(0, len(segments) - 1))
        segment = bytearray(segments[index])
        for _ in range(data.draw(st.integers(0, 2))):
            if segment:
                at = data.draw(st.integers(0, len(segment) - 1))
                segment[at] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
        end = data.draw(st.sampled_from([b"", b"\0", b"\xff" * 9]))
        cut = data.draw(st.integers(0, len(segment)) | st.none())
        return [*segments[:index], bytes(segment[:cut]) + end, *segments[index + 1 :]]

    pair.server.spoil = spoil
    said = ""
    try:
        pair.meet()
        pair.server.send(MConfig({"a": "b"}))
        pair.server.send(ClientSession(SessionOp.RENEWCAPS, 1), version=1)
        pair.receive()
    except LEAVES as error:
        said = str(error)
    assert not leaked(said, pair.keys.secrets)


# Secrets


def leaked(text: str, secrets: set[bytes]) -> bool:
    """Whether ``text`` shows the beginning of a secret, in any usual form."""
    begins = [secret[:6] for secret in secrets]
    return any(
        form in text
        for begin in begins
        for form in (begin.hex(), begin.hex().upper(), repr(begin)[2:-1], base64.b64encode(begin).decode())
    )


@each_handshake
def test_nothing_shows_a_secret(kind: EntityType, mode: ConMode, type: CryptoType) -> None:
    pair = fresh(kind, mode, type).meet()
    client, tickets = pair.client, pair.tickets
    shown = [client, client._authenticator, client._reader, client._writer, client._reader._secure]
    shown += [pair.server.login.secrets, tickets, tickets.key, *tickets.held.values()]
    shown += [ticket.session_key for ticket in tickets.held.values()]

    assert len(pair.keys.secrets) >= 5
    for value in shown:
        assert not leaked(f"{value!r} {value}", pair.keys.secrets)


def test_the_search_for_secrets_finds_them() -> None:
    secret = entropy("secret")(16)
    for text in (secret.hex(), repr(secret), f"AQ{base64.b64encode(secret).decode()}"):
        assert leaked(f"key={text}!", {secret})
