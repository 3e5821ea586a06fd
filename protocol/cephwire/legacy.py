"""Messenger v1: banners, handshake, and what surrounds each message.

Everything on a connection after the handshake begins with one byte, a `MsgrTag`. A message is that tag, `MSG_HEADER`,
front, middle, data, and a footer. All crcs are raw CRC-32C that start from 0, so that of nothing is 0; messenger v2
starts from 0xffffffff. Nothing is ever encrypted. Sources: ceph: src/include/msgr.h, src/msg/async/ProtocolV1.cc;
kernel: net/ceph/messenger_v1.c. Seen on the wire with Ceph 16.2, 18.2 and 20.2.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.entity import ENTITY_NUM, EntityNum, LegacyAddr
from cephwire.schema import Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Record, Struct, Utime

__all__ = [
    "CLIENT_BANNER",
    "CONNECT_LOSSY",
    "LEGACY_ADDR",
    "LEGACY_BANNER",
    "MSG_ACK",
    "MSG_CONNECT",
    "MSG_CONNECT_REPLY",
    "MSG_FOOTER",
    "MSG_FOOTER_OLD",
    "MSG_HEADER",
    "MSG_KEEPALIVE2",
    "SERVER_BANNER",
    "ClientBanner",
    "MsgAck",
    "MsgConnect",
    "MsgConnectReply",
    "MsgFooter",
    "MsgFooterOld",
    "MsgHeader",
    "MsgKeepalive2",
    "MsgrProtocol",
    "MsgrTag",
    "ServerBanner",
]

LEGACY_BANNER: Final = b"ceph v027"
"""``CEPH_BANNER``: what both sides send first."""
CONNECT_LOSSY: Final = 1
"""``CEPH_MSG_CONNECT_LOSSY``, in ``flags``: the session ends with its connection. In the reply the server decides."""


class MsgrTag(IntEnum):
    """``CEPH_MSGR_TAG_*``: outcome of a connect, or what follows in the stream."""

    READY = 1
    """Reply: open; from servers that do not exchange sequence numbers (`cephwire.features.RECONNECT_SEQ`)."""
    RESETSESSION = 2
    """Reply: the server knows no such session; begin anew with another connect here."""
    WAIT = 3
    """Reply: both ends connect to each other, and the other's attempt wins."""
    RETRY_SESSION = 4
    """Reply: connect here again with its ``connect_seq``."""
    RETRY_GLOBAL = 5
    """Reply: connect here again with a ``global_seq`` above its own."""
    CLOSE = 6
    MSG = 7
    ACK = 8
    """`MSG_ACK` follows."""
    KEEPALIVE = 9
    """Nothing follows; no longer sent."""
    BADPROTOVER = 10
    """Reply: its ``protocol_version`` is the one the server speaks."""
    BADAUTHORIZER = 11
    """Reply: the authorizer was refused."""
    FEATURES = 12
    """Reply: the client lacks some of its ``features``."""
    SEQ = 13
    """Reply: open; both sides now say which message they got last, the server first, as in `MSG_ACK`."""
    KEEPALIVE2 = 14
    """`MSG_KEEPALIVE2` follows."""
    KEEPALIVE2_ACK = 15
    """The same `MSG_KEEPALIVE2` comes back."""
    CHALLENGE_AUTHORIZER = 16
    """Reply: connect here again with an authorizer that answers the challenge behind it."""


class MsgrProtocol(IntEnum):
    """A client's ``protocol_version``, by the daemon it connects to (``CEPH_MONC_PROTOCOL`` and the like)."""

    MON = 15
    OSD = 24
    MDS = 32


# Before the first message


LEGACY_ADDR: Final = Record(LegacyAddr, Struct(Padding(4), "nonce" / Int32ul, "sockaddr" / Bytes(128)))
"""136 bytes, whatever features the peers have (ceph: src/msg/msg_types.h, ``ceph_entity_addr``)."""


class ServerBanner(msgspec.Struct, frozen=True, gc=False):
    """What the server sends first, unasked."""

    addr: LegacyAddr
    """Its own address."""
    peer_addr: LegacyAddr
    """The client's as the server sees it."""


SERVER_BANNER: Final = Record(
    ServerBanner, Struct("banner" / Const(LEGACY_BANNER), "addr" / LEGACY_ADDR, "peer_addr" / LEGACY_ADDR)
)
"""281 bytes."""


class ClientBanner(msgspec.Struct, frozen=True, gc=False):
    """What the client sends first."""

    addr: LegacyAddr
    """Its own address: the IP that the server saw, its nonce, and port 0 since it does not listen."""


CLIENT_BANNER: Final = Record(ClientBanner, Struct("banner" / Const(LEGACY_BANNER), "addr" / LEGACY_ADDR))
"""145 bytes; `MsgConnect` follows."""


class MsgConnect(msgspec.Struct, frozen=True, gc=False):
    """Asks the server to open or to resume a session."""

    features: int
    """All the client has (`cephwire.features`)."""
    host_type: int
    """The client's own `EntityType`."""
    global_seq: int
    """Counts the client's attempts to connect, to whomever."""
    connect_seq: int
    """Counts the connections of this session; 0 begins a new one."""
    protocol_version: int
    """A `MsgrProtocol`; daemons among themselves have others."""
    authorizer_protocol: int
    """An `AuthMethod`; 0 if there is no authorizer."""
    authorizer_len: int
    """Bytes of authorizer that follow."""
    flags: int
    """`CONNECT_LOSSY` or 0."""


MSG_CONNECT: Final = Record(
    MsgConnect,
    Struct(
        "features" / Int64ul,
        "host_type" / Int32ul,
        "global_seq" / Int32ul,
        "connect_seq" / Int32ul,
        "protocol_version" / Int32ul,
        "authorizer_protocol" / Int32ul,
        "authorizer_len" / Int32ul,
        "flags" / Int8ul,
    ),
)
"""``struct ceph_msg_connect``, 33 bytes."""


class MsgConnectReply(msgspec.Struct, frozen=True, gc=False):
    """What the server answers."""

    tag: int
    """A `MsgrTag`."""
    features: int
    """With READY and SEQ all that the server has; with FEATURES what it requires."""
    global_seq: int
    connect_seq: int
    protocol_version: int
    authorizer_len: int
    """Bytes that follow: the authorizer's answer, or a challenge."""
    flags: int
    """`CONNECT_LOSSY` or 0."""


MSG_CONNECT_REPLY: Final = Record(
    MsgConnectReply,
    Struct(
        "tag" / Int8ul,
        "features" / Int64ul,
        "global_seq" / Int32ul,
        "connect_seq" / Int32ul,
        "protocol_version" / Int32ul,
        "authorizer_len" / Int32ul,
        "flags" / Int8ul,
    ),
)
"""``struct ceph_msg_connect_reply``, 26 bytes."""


# The stream


class MsgAck(msgspec.Struct, frozen=True, gc=False):
    """After ACK, and after SEQ in both directions."""

    seq: int
    """The newest message received."""


MSG_ACK: Final = Record(MsgAck, Struct("seq" / Int64ul))
"""8 bytes."""


class MsgKeepalive2(msgspec.Struct, frozen=True, gc=False):
    """After KEEPALIVE2 and KEEPALIVE2_ACK."""

    stamp: int
    """The asking side's clock, ns."""


MSG_KEEPALIVE2: Final = Record(MsgKeepalive2, Struct("stamp" / Utime))
"""8 bytes."""


class MsgHeader(msgspec.Struct, frozen=True, gc=False):
    """What a message is and how long its parts are."""

    seq: int
    """Counts the messages of this direction of the session; an old one is a duplicate. It need not begin with 1."""
    tid: int
    """Pairs replies with requests; 0 if unused."""
    type: int
    """Number of the message type."""
    priority: int
    version: int
    """Of the layout."""
    front_len: int
    middle_len: int
    data_len: int
    data_off: int
    """Where the data would like to be in a page; a hint."""
    src: EntityNum
    """The sender."""
    compat_version: int
    """Oldest layout version a receiver must know to understand it."""
    crc: int
    """Of the 49 bytes before it."""


MSG_HEADER: Final = Record(
    MsgHeader,
    Struct(
        "seq" / Int64ul,
        "tid" / Int64ul,
        "type" / Int16ul,
        "priority" / Int16ul,
        "version" / Int16ul,
        "front_len" / Int32ul,
        "middle_len" / Int32ul,
        "data_len" / Int32ul,
        "data_off" / Int16ul,
        "src" / ENTITY_NUM,
        "compat_version" / Int16ul,
        Padding(2),
        "crc" / Int32ul,
    ),
)
"""``struct ceph_msg_header``, 53 bytes."""


class MsgFooter(msgspec.Struct, frozen=True, gc=False):
    """The end of a message."""

    front_crc: int
    middle_crc: int
    data_crc: int
    sig: int
    """Signature under the session key; 0 if there is none."""
    flags: int
    """`cephwire.frames.MessageFlag` bits; without COMPLETE the sender gave the message up."""


MSG_FOOTER: Final = Record(
    MsgFooter,
    Struct("front_crc" / Int32ul, "middle_crc" / Int32ul, "data_crc" / Int32ul, "sig" / Int64ul, "flags" / Int8ul),
)
"""``struct ceph_msg_footer``, 21 bytes; where both sides have `cephwire.features.MSG_AUTH`."""


class MsgFooterOld(msgspec.Struct, frozen=True, gc=False):
    """The end of a message where one side does not sign."""

    front_crc: int
    middle_crc: int
    data_crc: int
    flags: int


MSG_FOOTER_OLD: Final = Record(
    MsgFooterOld, Struct("front_crc" / Int32ul, "middle_crc" / Int32ul, "data_crc" / Int32ul, "flags" / Int8ul)
)
"""``struct ceph_msg_footer_old``, 13 bytes."""
