"""CLIENT_SESSION: a session of one client with one MDS rank, and what both agree on there."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import (
    Bitset,
    Counted,
    Int8ul,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Record,
    Since,
    Struct,
    Text,
    Utime,
    Versioned,
)

__all__ = [
    "CLIENT_SESSION",
    "NO_TID",
    "ClientFeature",
    "ClientSession",
    "MdsCapAuth",
    "MdsCapMatch",
    "MetricSpec",
    "SessionFlag",
    "SessionOp",
]

NO_TID: Final = 2**64 - 1
"""``oldest_client_tid`` where nothing is told."""


class SessionOp(IntEnum):
    """ceph: src/include/ceph_fs.h, ``CEPH_SESSION_*``. An MDS evicts and blocklists a client that sends another."""

    REQUEST_OPEN = 0
    """Client to MDS, with metadata and features."""
    OPEN = 1
    """MDS to client, with features. Also unasked, before another rank hands caps over."""
    REQUEST_CLOSE = 2
    """Client to MDS. ``seq``: how many CLIENT_CAPS, _LEASE, _SNAP and _QUOTA it has received; else it is ignored."""
    CLOSE = 3
    """MDS to client: the session is gone and every cap with it."""
    REQUEST_RENEWCAPS = 4
    """Client to MDS. ``seq`` is a counter of its own."""
    RENEWCAPS = 5
    """MDS to client, with that ``seq``: caps are good for session_timeout from when it was asked."""
    STALE = 6
    """MDS to client: caps are suspended until renewed."""
    RECALL_STATE = 7
    """MDS to client: keep at most ``max_caps`` caps."""
    FLUSHMSG = 8
    """MDS to client: answer with FLUSHMSG_ACK once everything sent before is taken in."""
    FLUSHMSG_ACK = 9
    """Client to MDS, with the same ``seq``."""
    FORCE_RO = 10
    """MDS to client: the file system has become read-only."""
    REJECT = 11
    """MDS to client: no session; ``metadata["error_string"]`` says why."""
    REQUEST_FLUSH_MDLOG = 12
    """Client to MDS: journal what is pending now. Not answered."""


class SessionFlag(IntFlag):
    """ceph: src/messages/MClientSession.h."""

    BLOCKLISTED = 1
    """With REJECT: the client's address is on the OSD map's blocklist."""


class ClientFeature(IntEnum):
    """Bit numbers of what a client and an MDS may tell each other they know (ceph: src/mds/cephfs_features.h).

    A feature is in force when both sides have named it.
    """

    JEWEL = 5
    KRAKEN = 6
    LUMINOUS = 7
    MIMIC = 8
    """The MDS says in OPEN what it knows and in REJECT why."""
    REPLY_ENCODING = 9
    """InodeStat, DirStat and LeaseStat are versioned."""
    RECLAIM_CLIENT = 10
    LAZY_CAP_WANTED = 11
    """The client need not lower ``wanted`` when a file is closed."""
    MULTI_RECONNECT = 12
    """CLIENT_RECONNECT may be sent in parts."""
    DELEG_INO = 13
    """A reply to CREATE says which inode numbers the client may use; without it, only the created one, bare."""
    METRIC_COLLECT = 14
    ALTERNATE_NAME = 15
    NOTIFY_SESSION_STATE = 16
    OP_GETVXATTR = 17
    RETRY_FWD_32BITS = 18
    """Requests have head version 2: 32-bit counters of retries and forwards."""
    NEW_SNAPREALM_INFO = 19
    """Realms in snap traces are versioned."""
    HAS_OWNER_UIDGID = 20
    """Requests have head version 3: an owner for what they create."""
    MDS_AUTH_CAPS_CHECK = 21
    """The client itself enforces the ``cap_auths`` it is given."""
    CHARMAP = 22
    BLOCKDIFF = 23

    @classmethod
    def mask(cls, *features: ClientFeature) -> int:
        """The features as one number, with the five lowest bits, which mean nothing and are always set."""
        return 0x1F | sum(1 << feature for feature in set(features))


class MdsCapMatch(msgspec.Struct, frozen=True, gc=False):
    """Whom and what one clause of a client's MDS caps is about."""

    uid: int
    """-1 any."""
    gids: tuple[int, ...]
    path: str
    """Without the leading slash; empty is everything."""
    fs_name: str
    """Empty is any."""
    root_squash: int


class MdsCapAuth(msgspec.Struct, frozen=True, gc=False):
    """One ``allow`` clause of a client's MDS caps."""

    match: MdsCapMatch
    readable: int
    writeable: int


MDS_CAP_AUTH: Final = Versioned(
    1,
    Record(
        MdsCapAuth,
        Struct(
            "match"
            / Versioned(
                1,
                Record(
                    MdsCapMatch,
                    Struct(
                        "uid" / Int64sl,
                        "gids" / Counted(Int32ul),
                        "path" / Text,
                        "fs_name" / Text,
                        "root_squash" / Int8ul,
                    ),
                ),
            ),
            "readable" / Int8ul,
            "writeable" / Int8ul,
        ),
    ),
)
"""``MDSCapAuth`` (ceph: src/mds/MDSAuthCaps.h)."""


class MetricSpec(msgspec.Struct, frozen=True, gc=False):
    """Which metrics one side knows."""

    types: int
    """A set of bits; their numbers are `cephwire.metrics.MetricType`."""


METRIC_SPEC: Final = Versioned(1, Record(MetricSpec, Struct("types" / Bitset)))
"""``metric_spec_t`` (ceph: src/mds/mdstypes.h)."""


class ClientSession(msgspec.Struct, frozen=True, gc=False):
    """Both ways: a session is opened, renewed, recalled from or closed.

    Version 1 ends with ``max_leases``; a C++ sender writes it whenever it has no metadata and no features.
    """

    op: int
    """`SessionOp`, which also says what ``seq`` counts."""
    seq: int
    stamp: int = 0
    """Nanoseconds; 0."""
    max_caps: int = 0
    """With RECALL_STATE."""
    max_leases: int = 0
    metadata: dict[str, str] = {}
    """Who the client is, or why it was rejected. Since version 2."""
    features: int = 0
    """Set of `ClientFeature` bits. Since version 3."""
    metric_spec: MetricSpec = MetricSpec(0)
    """Since version 4."""
    flags: int = 0
    """`SessionFlag`. Since version 5."""
    cap_auths: tuple[MdsCapAuth, ...] = ()
    """With OPEN: what the client may do. Since version 6."""
    oldest_client_tid: int = NO_TID
    """Since version 7."""


CLIENT_SESSION: Final = Message[ClientSession](
    22,
    Record(
        ClientSession,
        Struct(
            "op" / Int32ul,
            "seq" / Int64ul,
            "stamp" / Utime,
            "max_caps" / Int32ul,
            "max_leases" / Int32ul,
            "metadata" / Since(2, Map(Text, Text)),
            "features" / Since(3, Bitset),
            "metric_spec" / Since(4, METRIC_SPEC),
            "flags" / Since(5, Int32ul),
            "cap_auths" / Since(6, Counted(MDS_CAP_AUTH)),
            "oldest_client_tid" / Since(7, Int64ul),
        ),
    ),
    newest=7,
)
"""Pacific writes version 5, Reef and Tentacle 7, all of them 1 when short (ceph: src/messages/MClientSession.h)."""
