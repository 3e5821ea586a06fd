"""Secure mode of msgr2.1: AES-128-GCM over the pieces of a frame, in both directions of one connection."""

from __future__ import annotations

import struct
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cephcaps.errors import ProtocolViolation
from cephwire.errors import CephError, MalformedMessage

__all__ = ["TAG_SIZE", "NoncesExhausted", "SecureStream", "TamperedFrame"]

TAG_SIZE = 16
"""Bytes by which a sealed piece is longer than its plaintext."""

CONNECTION_SECRET = struct.Struct("<16s12s12s")
"""Key of both directions, first nonce of what the client receives, first nonce of what it sends; the peer sends
64 bytes, of which the last 24 are unused (ceph: src/msg/async/crypto_onwire.cc, ``create_handler_pair``)."""

NONCE = struct.Struct("<4sQ")
"""A part that never changes and a counter, of msgr2.1; msgr2.0 counted in the first four bytes instead."""

COUNTERS = 1 << 64


class TamperedFrame(MalformedMessage):
    """What arrived is not what the peer sealed next; the connection is of no more use."""


class NoncesExhausted(CephError):
    """A direction has used every nonce of its key; a new connection brings a new key."""


class SecureStream:
    """Seals what one end of a connection sends and opens what it receives.

    A piece is what GCM handles at once, of one to three in a frame; they are to be passed in the order of the wire.

    Args:
        connection_secret: from the cephx handshake.
        role: whose end this is. The server's ``open`` reads what a client sent, as a trace decoder must too.
    Raises:
        ProtocolViolation: the secret is too short.
    """

    __slots__ = ("_aead", "_rx", "_tx")

    def __init__(self, connection_secret: bytes, role: Literal["client", "server"] = "client") -> None:
        if len(connection_secret) < CONNECTION_SECRET.size:
            raise ProtocolViolation(
                f"connection secret of {len(connection_secret)} bytes: secure mode needs {CONNECTION_SECRET.size}"
            )
        key, to_client, to_server = CONNECTION_SECRET.unpack_from(connection_secret)
        self._aead = AESGCM(key)
        rx, tx = (to_client, to_server) if role == "client" else (to_server, to_client)
        self._rx, self._tx = _Nonces(rx), _Nonces(tx)

    def __repr__(self) -> str:
        return f"<SecureStream sealed={self._tx.used} opened={self._rx.used}>"

    def seal(self, plaintext: bytes | bytearray | memoryview) -> bytes:
        """The next piece to send: ciphertext and tag.

        Raises:
            NoncesExhausted: after 2**64 pieces.
        """
        nonce = self._tx.next()
        # Counted before it is used: a nonce that served twice would give the key away.
        self._tx.used += 1
        return self._aead.encrypt(nonce, plaintext, None)

    def open(self, sealed: bytes | bytearray | memoryview) -> bytes:
        """The plaintext of the next piece received.

        Raises:
            TamperedFrame: damaged, cut, repeated, out of order, or made with another key.
            NoncesExhausted: after 2**64 pieces.
        """
        nonce = self._rx.next()
        try:
            plaintext = self._aead.decrypt(nonce, sealed, None)
        except InvalidTag:
            raise TamperedFrame(
                f"piece {self._rx.used + 1} received, {len(sealed)} bytes: its GCM tag does not fit"
            ) from None
        # Counted after: a forgery must not use up the turn of the piece it replaced, or the next would open.
        self._rx.used += 1
        return plaintext


class _Nonces:
    """The nonces of one direction, each given once."""

    __slots__ = ("_first", "_fixed", "used")

    def __init__(self, first: bytes) -> None:
        self._fixed, self._first = NONCE.unpack(first)
        self.used = 0

    def next(self) -> bytes:
        """The first nonce not counted as used."""
        if self.used == COUNTERS:
            raise NoncesExhausted(f"all {COUNTERS} nonces used; reconnect for a new key")
        return NONCE.pack(self._fixed, (self._first + self.used) % COUNTERS)
