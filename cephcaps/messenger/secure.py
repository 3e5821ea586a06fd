"""Secure mode of msgr2.1: AES-128-GCM over the pieces of a frame, in both directions of one connection."""

from __future__ import annotations

import struct
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cephwire.errors import CephError, MalformedMessage
from cephwire.keys import ConnectionSecret

__all__ = ["TAG_SIZE", "NoncesExhausted", "SecureStream", "TamperedFrame"]

TAG_SIZE = 16
"""Bytes by which a sealed piece is longer than its plaintext."""

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
        secret: from the cephx handshake.
        role: whose end this is. The server's ``open`` reads what a client sent, as a trace decoder must too.
    """

    __slots__ = ("_aead", "_rx", "_tx")

    def __init__(self, secret: ConnectionSecret, role: Literal["client", "server"] = "client") -> None:
        self._aead = AESGCM(secret.key)
        to_client, to_server = secret.server_nonce, secret.client_nonce
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
