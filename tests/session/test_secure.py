"""Secure mode and the checksum: bytes a Ceph server took, the order of nonces, and what tampering does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.errors import CephError
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.secure import COUNTERS, TAG_SIZE, NoncesExhausted, SecureStream, TamperedFrame
from cephwire.codec import Codec
from cephwire.keys import CONNECTION_SECRET, ConnectionSecret

SECRET = Codec(CONNECTION_SECRET).decode(bytes(range(64)))

secrets = st.binary(min_size=40, max_size=64).map(Codec(CONNECTION_SECRET).decode)
pieces = st.integers(0, 200).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def pair(secret: ConnectionSecret = SECRET) -> tuple[SecureStream, SecureStream]:
    return SecureStream(secret, "client"), SecureStream(secret, "server")


def padded(content: bytes, size: int) -> bytes:
    return content + bytes(size - len(content))


def preamble(tag: int, *segments: tuple[int, int]) -> bytes:
    """The 32 bytes before a frame; a segment is its length and alignment."""
    described = b"".join(size.to_bytes(4, "little") + alignment.to_bytes(2, "little") for size, alignment in segments)
    described = padded(bytes([tag, len(segments)]) + described, 28)
    return described + crc32c(0, described).to_bytes(4, "little")


HEADER = bytes.fromhex("010000000000000000000000000000000f007f00030000000000000000000000000000000101000000")
"""header2 of a message: seq 1, type 15, priority 127, version 3, flags 1, compat 1."""

FRAMES = [
    (
        [preamble(20, (8, 8)) + padded(b"\5", 48)],  # ACK of seq 5
        "4de816477793cc7cbb381480b30cc69431dabdf879b50b483d403cfdc066ed4343c636fdd34ff7965036a3b4f02908ecd7f8cc4f"
        "2688a28ab01f761aeee6fdba01654a9d4a848c689172d4521fcf810802c0215297d5b62375989cf77dfb3633",
    ),
    (
        [
            preamble(17, (41, 8), (2, 8), (0, 8), (1, 4096)) + padded(HEADER, 48),
            padded(b"hi", 16) + padded(b"x", 16) + padded(b"\x0e", 16),
        ],
        "982e066ff8ab6493c51f43d679c4a3a38a857fda67639b20d43f0505d790c0c45391271be80b05108c13817b172af539ef96daa2"
        "c3183c65656b15d047b91e7ae9f5a5aadddd5350ca29264420199b1b35ce07a6861e7981b22f9fcd219981d87b4b6f0f286aaa0c"
        "dfc0210977ac057a43e0d0b282f4010584c004c4ffd0a4caab4b13fcf5a04cce318ac50bb07a9b3eeceefa676dfb1ca93ebf5e2b"
        "285c999c",
    ),
    (
        [preamble(8, (50, 8)) + bytes(48), bytes(16)],
        "bc99c908ffd918edc3a6346efc823c2069db34e81bf4d183e277466ff9ee4980ff07f740c354f6d8ae6cadfec3937d4f837d7363"
        "dbe1f3d1d338382fd21a06e3a84c724287f290db3414520b12b0a1065513c3063e1a549e395fe57fa7a1db5e2a77335a9ca4653f"
        "b6edbb439a4dbbe5a060964b9bb1de9cbe5781b620f8b066",
    ),
]
"""Three frames that follow each other on one connection, each the plaintext of its pieces and its bytes."""


# Checksum


@pytest.mark.parametrize(
    ("seed", "data", "crc"),
    [
        (0, b"123456789", 0x58E3FA20),
        (0xFFFFFFFF, b"123456789", 0x1CF96D7C),
        (0xFFFFFFFF, b"", 0xFFFFFFFF),
        (0, b"", 0),
        (
            0,
            bytes.fromhex("14010800000008000000000000000000000000000000000000000000"),
            0x5BBC7473,
        ),  # preamble of an ACK
        (0xFFFFFFFF, b"\5\0\0\0\0\0\0\0", 0x1BF6B23F),  # its segment
    ],
)
def test_the_checksum_is_ceph_s(seed: int, data: bytes, crc: int) -> None:
    assert crc32c(seed, data) == crc
    assert crc32c(seed, bytearray(data)) == crc
    assert crc32c(seed, memoryview(b"-" + data)[1:]) == crc


@given(st.integers(0, 0xFFFFFFFF), st.binary(), st.binary())
def test_a_checksum_goes_on_where_another_ended(seed: int, first: bytes, second: bytes) -> None:
    assert crc32c(crc32c(seed, first), second) == crc32c(seed, first + second)


# Frames


def test_frames_are_sealed_as_ceph_seals_them() -> None:
    client, _ = pair()

    for plaintexts, expected in FRAMES:
        assert b"".join(client.seal(piece) for piece in plaintexts).hex() == expected


def test_frames_are_opened_as_ceph_opens_them() -> None:
    _, server = pair()

    for plaintexts, sealed in FRAMES:
        frame = memoryview(bytes.fromhex(sealed))
        for piece in plaintexts:
            assert server.open(frame[: len(piece) + TAG_SIZE]) == piece
            frame = frame[len(piece) + TAG_SIZE :]
        assert not frame


# Nonces


def test_the_first_nonce_of_the_secret_is_the_one_the_client_receives_with() -> None:
    client, server = pair()
    gcm = AESGCM(SECRET.key)

    assert client.seal(b"up") == gcm.encrypt(SECRET.client_nonce, b"up", None)
    assert server.seal(b"down") == gcm.encrypt(SECRET.server_nonce, b"down", None)


def test_the_counter_is_the_last_eight_bytes_and_wraps_without_touching_the_others() -> None:
    secret = ConnectionSecret(bytes(16), bytes(12), b"\xaa\xbb\xcc\xdd" + b"\xff" * 8, b"")
    client, _ = pair(secret)
    gcm = AESGCM(bytes(16))

    assert client.seal(b"") == gcm.encrypt(b"\xaa\xbb\xcc\xdd" + b"\xff" * 8, b"", None)
    assert client.seal(b"") == gcm.encrypt(b"\xaa\xbb\xcc\xdd" + b"\0" * 8, b"", None)
    assert client.seal(b"") == gcm.encrypt(b"\xaa\xbb\xcc\xdd" + b"\1" + b"\0" * 7, b"", None)


def test_no_nonce_is_used_twice() -> None:
    client, server = pair()
    client._tx.used = server._rx.used = COUNTERS - 1

    assert server.open(client.seal(b"the last")) == b"the last"
    with pytest.raises(NoncesExhausted):
        client.seal(b"one more")
    with pytest.raises(NoncesExhausted):
        server.open(bytes(32))


# Any bytes


@given(secrets, st.lists(st.tuples(st.booleans(), pieces), max_size=20))
def test_both_directions_carry_any_pieces(secret: ConnectionSecret, sent: list[tuple[bool, bytes]]) -> None:
    client, server = pair(secret)

    for upwards, piece in sent:
        sender, receiver = (client, server) if upwards else (server, client)
        assert receiver.open(sender.seal(piece)) == piece


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_size_comes_back_from_any_kind_of_buffer(kind: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    client, server = pair()

    for size in range(201):
        piece = bytes(range(size))
        sealed = client.seal(kind(piece))
        assert len(sealed) == size + TAG_SIZE
        assert server.open(kind(sealed)) == piece


@given(pieces, st.data())
def test_any_changed_bit_is_noticed(piece: bytes, data: st.DataObject) -> None:
    client, server = pair()
    sealed = bytearray(client.seal(piece))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(TamperedFrame, match=f"piece 1 received, {len(sealed)} bytes"):
        server.open(sealed)


@given(st.binary(max_size=200))
def test_any_bytes_that_were_not_sealed_are_refused(noise: bytes) -> None:
    _, server = pair()

    with pytest.raises(TamperedFrame):
        server.open(noise)


@given(pieces, st.data())
def test_a_cut_piece_is_refused(piece: bytes, data: st.DataObject) -> None:
    client, server = pair()
    sealed = client.seal(piece)

    with pytest.raises(TamperedFrame):
        server.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def test_a_piece_is_refused_when_repeated_left_out_or_sent_back() -> None:
    client, server = pair()
    first, second = client.seal(b"first"), client.seal(b"second")

    with pytest.raises(TamperedFrame):
        server.open(second)
    assert server.open(first) == b"first"
    with pytest.raises(TamperedFrame):
        server.open(first)
    with pytest.raises(TamperedFrame):
        client.open(first)


def test_what_follows_a_forgery_does_not_open() -> None:
    client, server = pair()
    client.seal(b"replaced on its way")

    with pytest.raises(TamperedFrame):
        server.open(bytes(40))
    with pytest.raises(TamperedFrame):
        server.open(client.seal(b"next"))


def test_a_stream_shows_neither_key_nor_nonces() -> None:
    client, server = pair()
    server.open(client.seal(b""))

    assert repr(client) == str(client) == "<SecureStream sealed=1 opened=0>"
    assert repr(server) == "<SecureStream sealed=0 opened=1>"


def test_errors_are_ceph_errors() -> None:
    assert issubclass(TamperedFrame, CephError)
    assert issubclass(NoncesExhausted, CephError)
