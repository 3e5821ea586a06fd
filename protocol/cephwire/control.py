"""Messenger v2.1: what each control frame carries in its one segment, by tag.

Sources: ceph: src/msg/async/frames_v2.h, src/msg/async/ProtocolV2.cc, doc/dev/msgr2.rst; kernel:
net/ceph/messenger_v2.c. Seen on the wire with Ceph 16.2, 18.2 and 20.2, but for WAIT; compression with 20.2 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec

from cephwire.entity import ENTITY_ADDR, ENTITY_ADDRVEC, AnyAddr, AnyAddrs
from cephwire.frames import Tag
from cephwire.schema import (
    Blob,
    Bytes,
    Counted,
    Int8ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Record,
    Struct,
    Utime,
)

__all__ = [
    "FRAMES",
    "IDENT_LOSSY",
    "TAGS",
    "Ack",
    "AuthBadMethod",
    "AuthDone",
    "AuthMethod",
    "AuthReplyMore",
    "AuthRequest",
    "AuthRequestMore",
    "AuthSignature",
    "ClientIdent",
    "CompressionDone",
    "CompressionRequest",
    "ConMode",
    "Hello",
    "IdentMissingFeatures",
    "Keepalive2",
    "Keepalive2Ack",
    "ServerIdent",
    "SessionReconnect",
    "SessionReconnectOk",
    "SessionReset",
    "SessionRetry",
    "SessionRetryGlobal",
    "Wait",
]


class ConMode(IntEnum):
    """How frames are protected once authenticated (ceph: src/include/ceph_fs.h, ``CEPH_CON_MODE_*``)."""

    CRC = 1
    """Checksums against accidents only."""
    SECURE = 2
    """AES-128-GCM."""


class AuthMethod(IntEnum):
    """``CEPH_AUTH_*`` (ceph: src/include/ceph_fs.h)."""

    NONE = 1
    CEPHX = 2
    GSS = 4


IDENT_LOSSY: Final = 1
"""In an ident's ``flags``: nothing is kept for a peer that is lost. The server's word decides."""


class Hello(msgspec.Struct, frozen=True, gc=False):
    """Who speaks, and from where it sees the other side come."""

    entity_type: int
    """The sender's `cephwire.entity.EntityType`."""
    peer_addr: AnyAddr
    """The receiver's address as the sender sees it: a client learns its own IP from it."""


class AuthRequest(msgspec.Struct, frozen=True, gc=False):
    """A client starts, or starts again, to authenticate."""

    method: int
    """An `AuthMethod`."""
    con_modes: tuple[int, ...]
    """`ConMode` numbers, the preferred first: the server takes the first it allows."""
    payload: bytes
    """To a mon a `cephwire.cephx.MonAuthRequest`; to others the method's authorizer."""


class AuthBadMethod(msgspec.Struct, frozen=True, gc=False):
    """Refused; another AuthRequest may follow on the same connection."""

    method: int
    """The one refused."""
    result: int
    """Negative errno: -95 for a method or mode it does not have, -13 for bad credentials of any kind."""
    allowed_methods: tuple[int, ...]
    allowed_modes: tuple[int, ...]


class AuthReplyMore(msgspec.Struct, frozen=True, gc=False):
    """The server needs more: with cephx, a challenge."""

    payload: bytes


class AuthRequestMore(msgspec.Struct, frozen=True, gc=False):
    """The client's answer to an AuthReplyMore."""

    payload: bytes


class AuthDone(msgspec.Struct, frozen=True, gc=False):
    """Authenticated. The next frame each way is already protected as ``con_mode`` says."""

    global_id: int
    """The client's identity in the cluster."""
    con_mode: int
    """A `ConMode`."""
    payload: bytes


class AuthSignature(msgspec.Struct, frozen=True, gc=False):
    """Proof that nobody changed the bytes exchanged so far."""

    signature: bytes
    """HMAC-SHA256, by the session key, of all that the sender had received up to AUTH_DONE; zeros with method NONE."""


class ClientIdent(msgspec.Struct, frozen=True, gc=False):
    """A client starts a session."""

    addrs: AnyAddrs
    """The client's own: with its nonce, the key of its session and what gets blocklisted."""
    target_addr: AnyAddr
    """Whom it wants to talk to: must be the server's own address, nonce and all."""
    gid: int
    """The client's global id."""
    global_seq: int
    """Counts the client's connection attempts, to whomever."""
    supported_features: int
    required_features: int
    flags: int
    """`IDENT_LOSSY` or 0."""
    cookie: int
    """Names the client's side of a session that can be resumed; 0 if lossy."""


class ServerIdent(msgspec.Struct, frozen=True, gc=False):
    """The session is open."""

    addrs: AnyAddrs
    gid: int
    """The daemon's number, such as its rank; not its global id."""
    global_seq: int
    supported_features: int
    required_features: int
    flags: int
    """`IDENT_LOSSY` or 0; holds, whatever the client asked for."""
    cookie: int
    """Names the server's side of the session; 0 if lossy."""


class IdentMissingFeatures(msgspec.Struct, frozen=True, gc=False):
    """No session: the server requires features that the client did not announce."""

    features: int
    """Those missing."""


class SessionReconnect(msgspec.Struct, frozen=True, gc=False):
    """A client resumes a session over a new connection."""

    addrs: AnyAddrs
    client_cookie: int
    server_cookie: int
    global_seq: int
    connect_seq: int
    """Counts the attempts to resume this session."""
    msg_seq: int
    """Newest message the client received; the server sends again what came after it."""


class SessionReset(msgspec.Struct, frozen=True, gc=False):
    """The server does not know the session."""

    full: int
    """1: forget the session wholly; 0: messages not yet sent may be kept."""


class SessionRetry(msgspec.Struct, frozen=True, gc=False):
    """Resume again with a ``connect_seq`` above this one."""

    connect_seq: int


class SessionRetryGlobal(msgspec.Struct, frozen=True, gc=False):
    """Resume again with a ``global_seq`` above this one."""

    global_seq: int


class SessionReconnectOk(msgspec.Struct, frozen=True, gc=False):
    """The session is resumed."""

    msg_seq: int
    """Newest message the server received; the client sends again what came after it."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Both sides connected at once and the other attempt goes on."""


class Keepalive2(msgspec.Struct, frozen=True, gc=False):
    """Asks for a `Keepalive2Ack`."""

    stamp: int
    """The sender's clock, ns."""


class Keepalive2Ack(msgspec.Struct, frozen=True, gc=False):
    """Still here."""

    stamp: int
    """The one it answers, ns."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Messages up to this one have arrived."""

    seq: int


class CompressionRequest(msgspec.Struct, frozen=True, gc=False):
    """Whether and how the client would compress."""

    is_compress: int
    methods: tuple[int, ...]
    """Preferred first; ``Compressor::CompressionAlgorithm`` (ceph: src/compressor/Compressor.h)."""


class CompressionDone(msgspec.Struct, frozen=True, gc=False):
    """Whether and how frames will be compressed."""

    is_compress: int
    method: int


FRAMES: Final[Mapping[Tag, Record]] = {
    Tag.HELLO: Record(Hello, Struct("entity_type" / Int8ul, "peer_addr" / ENTITY_ADDR)),
    Tag.AUTH_REQUEST: Record(AuthRequest, Struct("method" / Int32ul, "con_modes" / Counted(Int32ul), "payload" / Blob)),
    Tag.AUTH_BAD_METHOD: Record(
        AuthBadMethod,
        Struct(
            "method" / Int32ul,
            "result" / Int32sl,
            "allowed_methods" / Counted(Int32ul),
            "allowed_modes" / Counted(Int32ul),
        ),
    ),
    Tag.AUTH_REPLY_MORE: Record(AuthReplyMore, Struct("payload" / Blob)),
    Tag.AUTH_REQUEST_MORE: Record(AuthRequestMore, Struct("payload" / Blob)),
    Tag.AUTH_DONE: Record(AuthDone, Struct("global_id" / Int64ul, "con_mode" / Int32ul, "payload" / Blob)),
    Tag.AUTH_SIGNATURE: Record(AuthSignature, Struct("signature" / Bytes(32))),
    Tag.CLIENT_IDENT: Record(
        ClientIdent,
        Struct(
            "addrs" / ENTITY_ADDRVEC,
            "target_addr" / ENTITY_ADDR,
            "gid" / Int64sl,
            "global_seq" / Int64ul,
            "supported_features" / Int64ul,
            "required_features" / Int64ul,
            "flags" / Int64ul,
            "cookie" / Int64ul,
        ),
    ),
    Tag.SERVER_IDENT: Record(
        ServerIdent,
        Struct(
            "addrs" / ENTITY_ADDRVEC,
            "gid" / Int64sl,
            "global_seq" / Int64ul,
            "supported_features" / Int64ul,
            "required_features" / Int64ul,
            "flags" / Int64ul,
            "cookie" / Int64ul,
        ),
    ),
    Tag.IDENT_MISSING_FEATURES: Record(IdentMissingFeatures, Struct("features" / Int64ul)),
    Tag.SESSION_RECONNECT: Record(
        SessionReconnect,
        Struct(
            "addrs" / ENTITY_ADDRVEC,
            "client_cookie" / Int64ul,
            "server_cookie" / Int64ul,
            "global_seq" / Int64ul,
            "connect_seq" / Int64ul,
            "msg_seq" / Int64ul,
        ),
    ),
    Tag.SESSION_RESET: Record(SessionReset, Struct("full" / Int8ul)),
    Tag.SESSION_RETRY: Record(SessionRetry, Struct("connect_seq" / Int64ul)),
    Tag.SESSION_RETRY_GLOBAL: Record(SessionRetryGlobal, Struct("global_seq" / Int64ul)),
    Tag.SESSION_RECONNECT_OK: Record(SessionReconnectOk, Struct("msg_seq" / Int64ul)),
    Tag.WAIT: Record(Wait, Struct()),
    Tag.KEEPALIVE2: Record(Keepalive2, Struct("stamp" / Utime)),
    Tag.KEEPALIVE2_ACK: Record(Keepalive2Ack, Struct("stamp" / Utime)),
    Tag.ACK: Record(Ack, Struct("seq" / Int64ul)),
    Tag.COMPRESSION_REQUEST: Record(CompressionRequest, Struct("is_compress" / Int8ul, "methods" / Counted(Int32ul))),
    Tag.COMPRESSION_DONE: Record(CompressionDone, Struct("is_compress" / Int8ul, "method" / Int32ul)),
}
"""The payload of every control frame (ceph: src/msg/async/frames_v2.h)."""

TAGS: Final[Mapping[type[Any], Tag]] = {record.cls: tag for tag, record in FRAMES.items()}
"""The tag each payload class goes under."""
