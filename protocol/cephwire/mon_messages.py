"""Messages between a client and a monitor.

Sources: ceph: src/messages/M*.h, each class's ``encode_payload``; src/include/ceph_fs.h for the numbers. Seen with
Ceph 16.2 and 20.2. Messages that carry maps are in `cephwire.map_messages`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import (
    Blob,
    Bytes,
    Counted,
    Int8ul,
    Int16sl,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Present,
    Record,
    Segment,
    Since,
    Struct,
    Text,
)

__all__ = [
    "AUTH",
    "AUTH_REPLY",
    "CONFIG",
    "MON_COMMAND",
    "MON_COMMAND_ACK",
    "MON_GET_MAP",
    "MON_GET_VERSION",
    "MON_GET_VERSION_REPLY",
    "MON_SUBSCRIBE",
    "MON_SUBSCRIBE_ACK",
    "STATFS",
    "STATFS_REPLY",
    "MAuth",
    "MAuthReply",
    "MConfig",
    "MonCommand",
    "MonCommandAck",
    "MonGetMap",
    "MonGetVersion",
    "MonGetVersionReply",
    "MonSubscribe",
    "MonSubscribeAck",
    "PaxosHeader",
    "Statfs",
    "StatfsReply",
    "SubscribeFlag",
    "Subscription",
]


class PaxosHeader(msgspec.Struct, frozen=True, gc=False):
    """What begins every message to one of the monitor's Paxos services; clients send the defaults."""

    version: int = 0
    """Newest version of the service's state the sender has."""
    session_mon: int = -1
    """Obsolete."""
    session_mon_tid: int = 0
    """Obsolete."""


_PAXOS_HEADER: Final = Record(
    PaxosHeader, Struct("version" / Int64ul, "session_mon" / Int16sl, "session_mon_tid" / Int64ul)
)
"""18 bytes (ceph: src/messages/PaxosServiceMessage.h)."""


class MonGetMap(msgspec.Struct, frozen=True, gc=False):
    """Asks for a `MMonMap`, once."""


MON_GET_MAP: Final = Message[MonGetMap](5, Record(MonGetMap, Struct()))
"""0 bytes (ceph: src/messages/MMonGetMap.h)."""


# Subscriptions


class SubscribeFlag(IntFlag):
    """``CEPH_SUBSCRIBE_*``."""

    ONETIME = 1
    """Forget the subscription once answered."""


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """From when on something is wanted."""

    start: int
    """First epoch wanted; 0 for the newest there is."""
    flags: int
    """`SubscribeFlag`."""


_SUBSCRIPTION: Final = Record(Subscription, Struct("start" / Int64ul, "flags" / Int8ul))
"""``struct ceph_mon_subscribe_item``, 9 bytes (ceph: src/include/ceph_fs.h)."""


class MonSubscribe(msgspec.Struct, frozen=True, gc=False):
    """Asks for maps and whatever else the monitor publishes, now and whenever they change."""

    what: dict[str, Subscription]
    """By name: "monmap", "config", "mdsmap.1", "fsmap.user", "osdmap", ..."""
    hostname: str = ""
    """Of the client; "config" depends on it; version 3."""


MON_SUBSCRIBE: Final = Message[MonSubscribe](
    15,
    Record(MonSubscribe, Struct("what" / Map(Text, _SUBSCRIPTION), "hostname" / Since(3, Text))),
    newest=3,
    oldest=2,
)
"""ceph: src/messages/MMonSubscribe.h."""


class MonSubscribeAck(msgspec.Struct, frozen=True, gc=False):
    """Says how long subscriptions last; never sent to clients that announced ``MON_STATEFUL_SUB``."""

    interval: int
    """Seconds after which to subscribe again."""
    fsid: bytes
    """The cluster's UUID, 16 bytes."""


MON_SUBSCRIBE_ACK: Final = Message[MonSubscribeAck](
    16, Record(MonSubscribeAck, Struct("interval" / Int32ul, "fsid" / Bytes(16)))
)
"""20 bytes (ceph: src/messages/MMonSubscribeAck.h)."""


class MConfig(msgspec.Struct, frozen=True, gc=False):
    """Options the monitors want the client to set: on subscription to "config"."""

    config: dict[str, str]
    """Option to value."""


CONFIG: Final = Message[MConfig](62, Record(MConfig, Struct("config" / Map(Text, Text))))
"""ceph: src/messages/MConfig.h."""


# Authentication on messenger v1, and renewal on both


class MAuth(msgspec.Struct, frozen=True, gc=False):
    """A step of authentication, or a request for tickets."""

    paxos: PaxosHeader
    protocol: int
    """Method: none 1, cephx 2; 0 at first, with the methods the client knows in the payload."""
    auth_payload: bytes
    """Laid out by the method."""
    monmap_epoch: int = 0
    """Newest `MonMap` the client has; 0 makes the monitor send it."""


AUTH: Final = Message[MAuth](
    17,
    Record(
        MAuth,
        Struct("paxos" / _PAXOS_HEADER, "protocol" / Int32ul, "auth_payload" / Blob, "monmap_epoch" / Int32ul),
    ),
)
"""ceph: src/messages/MAuth.h."""


class MAuthReply(msgspec.Struct, frozen=True, gc=False):
    """Answer to `MAuth`."""

    protocol: int
    """Method."""
    result: int
    """0, or a negative errno."""
    global_id: int
    """Who the client is from now on, as in ``client.4123``."""
    result_bl: bytes
    """Laid out by the method."""
    result_msg: str
    """For people."""


AUTH_REPLY: Final = Message[MAuthReply](
    18,
    Record(
        MAuthReply,
        Struct(
            "protocol" / Int32ul,
            "result" / Int32sl,
            "global_id" / Int64ul,
            "result_bl" / Blob,
            "result_msg" / Text,
        ),
    ),
)
"""ceph: src/messages/MAuthReply.h."""


# Questions


class MonGetVersion(msgspec.Struct, frozen=True, gc=False):
    """Asks for the newest epoch of a map; never answered if the monitor does not know ``what``."""

    handle: int
    """Chosen by the client; also the header's tid."""
    what: str
    """ "mdsmap", "osdmap", "monmap", "fsmap"."""


MON_GET_VERSION: Final = Message[MonGetVersion](19, Record(MonGetVersion, Struct("handle" / Int64ul, "what" / Text)))
"""ceph: src/messages/MMonGetVersion.h."""


class MonGetVersionReply(msgspec.Struct, frozen=True, gc=False):
    """Answer to `MonGetVersion`."""

    handle: int
    version: int
    """Newest epoch."""
    oldest_version: int = 0
    """Oldest epoch still kept; version 2."""


MON_GET_VERSION_REPLY: Final = Message[MonGetVersionReply](
    20,
    Record(
        MonGetVersionReply,
        Struct("handle" / Int64ul, "version" / Int64ul, "oldest_version" / Since(2, Int64ul)),
    ),
    newest=2,
    compat=2,
)
"""ceph: src/messages/MMonGetVersionReply.h."""


class MonCommand(msgspec.Struct, frozen=True, gc=False):
    """A command, as the ``ceph`` tool sends it; the header's tid ties the answer to it."""

    paxos: PaxosHeader
    fsid: bytes
    """The cluster's UUID, 16 bytes; another than the monitor's is refused."""
    cmd: tuple[str, ...]
    """One JSON object as text."""
    inbl: bytes = b""
    """Input, in the data segment."""


MON_COMMAND: Final = Message[MonCommand](
    50,
    Record(
        MonCommand,
        Struct("paxos" / _PAXOS_HEADER, "fsid" / Bytes(16), "cmd" / Counted(Text), "inbl" / Segment("data")),
    ),
)
"""ceph: src/messages/MMonCommand.h."""


class MonCommandAck(msgspec.Struct, frozen=True, gc=False):
    """Answer to `MonCommand`."""

    paxos: PaxosHeader
    r: int
    """0, or a negative errno."""
    rs: str
    """Status, for people."""
    cmd: tuple[str, ...]
    """The command, echoed."""
    outbl: bytes = b""
    """Output, in the data segment."""


MON_COMMAND_ACK: Final = Message[MonCommandAck](
    51,
    Record(
        MonCommandAck,
        Struct(
            "paxos" / _PAXOS_HEADER,
            "r" / Int32sl,
            "rs" / Text,
            "cmd" / Counted(Text),
            "outbl" / Segment("data"),
        ),
    ),
)
"""ceph: src/messages/MMonCommandAck.h."""


class Statfs(msgspec.Struct, frozen=True, gc=False):
    """Asks how full the cluster or a pool is."""

    paxos: PaxosHeader
    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    has_data_pool: int = 0
    """Whether ``data_pool`` follows; version 2."""
    data_pool: int | None = None
    """Pool id; None for the whole cluster; version 2."""


STATFS: Final = Message[Statfs](
    13,
    Record(
        Statfs,
        Struct(
            "paxos" / _PAXOS_HEADER,
            "fsid" / Bytes(16),
            "has_data_pool" / Since(2, Int8ul),
            "data_pool" / Since(2, Present("has_data_pool", Int64sl)),
        ),
    ),
    newest=2,
)
"""ceph: src/messages/MStatfs.h."""


class StatfsReply(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Statfs`; all zero from a cluster without a manager."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    version: int
    """Of the monitors' statistics."""
    kb: int
    """KiB, as the next two."""
    kb_used: int
    kb_avail: int
    num_objects: int


STATFS_REPLY: Final = Message[StatfsReply](
    14,
    Record(
        StatfsReply,
        Struct(
            "fsid" / Bytes(16),
            "version" / Int64ul,
            "kb" / Int64ul,
            "kb_used" / Int64ul,
            "kb_avail" / Int64ul,
            "num_objects" / Int64ul,
        ),
    ),
)
"""``struct ceph_mon_statfs_reply``, 56 bytes (ceph: src/include/ceph_fs.h)."""
