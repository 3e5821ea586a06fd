"""Keys, what they are used for, and the envelope around what they encrypt.

Every class that holds a secret keeps it out of its ``repr``. Sources: ceph: src/auth/Crypto.cc,
src/auth/cephx/CephxProtocol.h; kernel: net/ceph/crypto.c. Seen on the wire with Ceph 16.2, 18.2 and 20.2.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Final

import msgspec

from cephwire.schema import Bytes, BytesOf, Const, Int8ul, Int16ul, Int64ul, LengthOf, Record, Rest, Struct, Utime

__all__ = [
    "CONNECTION_SECRET",
    "CRYPTO_KEY",
    "ENVELOPE",
    "ENVELOPE_MAGIC",
    "ConnectionSecret",
    "CryptoKey",
    "CryptoType",
    "Envelope",
    "Guarded",
    "KeyUsage",
]


class CryptoType(IntEnum):
    """``CEPH_CRYPTO_*`` (ceph: src/include/ceph_fs.h)."""

    NONE = 0
    AES = 1
    """AES-128-CBC; secrets of 16 bytes."""
    AES256K = 2
    """AES-256 with HMAC-SHA384 as RFC 8009 defines it; secrets of 32 bytes (20.2.4 and later)."""


class KeyUsage(IntEnum):
    """What a key is used for; goes into the derivation of AES256K keys, and AES ignores it."""

    MON_CONNECTION_SECRET = 0x03
    """`cephwire.cephx.SealedConnectionSecret`, by the new AUTH session key."""
    SERVICE_KEY = 0x04
    """`cephwire.cephx.ServiceKey`, by the principal's key for AUTH and by the AUTH session key for the others."""
    TICKET_BLOB = 0x05
    """`cephwire.cephx.SealedTicketBlob`, by the AUTH session key of the ticket presented."""
    AUTHORIZER = 0x10
    """`cephwire.cephx.AuthorizerProof`, by the ticket's session key."""
    AUTHORIZER_CHALLENGE = 0x11
    """`cephwire.cephx.AuthorizerChallenge`, by the ticket's session key."""
    AUTHORIZER_REPLY = 0x12
    """`cephwire.cephx.AuthorizerReply`, by the ticket's session key."""
    ROTATING_SECRET = 0x20
    """For daemons."""
    TICKET_INFO = 0x30
    """Inside of a `cephwire.cephx.TicketBlob`, by the service's rotating key."""


ENVELOPE_MAGIC: Final = 0xFF009CAD8826AA55
"""Says that a text was decrypted with the right key (ceph: ``AUTH_ENC_MAGIC``)."""


class Guarded(msgspec.Struct, frozen=True):
    """A structure whose ``secrets`` are not shown."""

    secrets: ClassVar[frozenset[str]] = frozenset()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "<secret>" if name in self.secrets else getattr(self, name)) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        shown = (f"{name}={value if name in self.secrets else repr(value)}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"


class Envelope(Guarded, frozen=True, gc=False):
    """What nearly every encrypted text holds."""

    secrets: ClassVar[frozenset[str]] = frozenset({"payload"})

    payload: bytes


ENVELOPE: Final = Record(
    Envelope,
    Struct("struct_v" / Const(1, Int8ul), "magic" / Const(ENVELOPE_MAGIC, Int64ul), "payload" / Rest),
)
"""Plain text before encryption (ceph: src/auth/cephx/CephxProtocol.h, ``encode_encrypt_enc_bl``)."""


class CryptoKey(Guarded, frozen=True, gc=False):
    """A secret and the cipher it is for; in base64, the ``key`` of a keyring."""

    secrets: ClassVar[frozenset[str]] = frozenset({"secret"})

    type: int
    """A `CryptoType`."""
    created: int
    """ns since the epoch."""
    secret: bytes


CRYPTO_KEY: Final = Record(
    CryptoKey,
    Struct(
        "type" / Int16ul,
        "created" / Utime,
        "secret_len" / LengthOf("secret", Int16ul),
        "secret" / BytesOf("secret_len"),
    ),
)
"""``CryptoKey``, 12 bytes and the secret (ceph: src/auth/Crypto.cc)."""


class ConnectionSecret(Guarded, frozen=True, gc=False):
    """Keys of a connection in secure mode: AES-128-GCM, one key for both directions.

    A nonce is a u32 that stays and a u64 that counts up by one for each text, modulo 2**64, both little-endian.
    """

    secrets: ClassVar[frozenset[str]] = frozenset({"key", "server_nonce", "client_nonce", "unused"})

    key: bytes
    server_nonce: bytes
    """First nonce of what the server sends."""
    client_nonce: bytes
    """First nonce of what the client sends."""
    unused: bytes


CONNECTION_SECRET: Final = Record(
    ConnectionSecret,
    Struct("key" / Bytes(16), "server_nonce" / Bytes(12), "client_nonce" / Bytes(12), "unused" / Rest),
)
"""64 bytes as sent, the first 40 in use (ceph: src/msg/async/crypto_onwire.cc)."""
