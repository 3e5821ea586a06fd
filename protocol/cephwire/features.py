"""Connection feature bits: what two peers agree on before any message, and what that changes in the bytes.

Bits are scarce, so released ones are given a second life. A bit of a later incarnation counts only together with the
marker bits of that incarnation, which no peer old enough to mean the bit's former life sets
(ceph: src/include/ceph_features.h, ``DEFINE_CEPH_FEATURE`` and ``CEPH_FEATURE_INCARNATION_*``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "CEPHX_V2",
    "CLIENT_FEATURES",
    "CREATEPOOLID",
    "CRUSH_TUNABLES",
    "CRUSH_TUNABLES2",
    "CRUSH_TUNABLES3",
    "CRUSH_TUNABLES5",
    "CRUSH_V4",
    "DIRLAYOUTHASH",
    "EXPORT_PEER",
    "FLOCK",
    "MDSENC",
    "MDS_INLINE_DATA",
    "MDS_QUOTA",
    "MONENC",
    "MONNAMES",
    "MON_STATEFUL_SUB",
    "MSGR_KEEPALIVE2",
    "MSG_ADDR2",
    "MSG_AUTH",
    "OSDENC",
    "OSDHASHPSPOOL",
    "OSDMAP_ENC",
    "OS_PERF_STAT_NS",
    "PGID64",
    "RANGE_BLOCKLIST",
    "RECONNECT_SEQ",
    "REPLY_CREATE_INODE",
    "REQUIRED_FEATURES",
    "SERVER_JEWEL",
    "SERVER_MIMIC",
    "SERVER_NAUTILUS",
    "SUBSCRIBE2",
    "Feature",
    "bit_list",
    "has_feature",
]


class Feature(NamedTuple):
    """A bit and the life of it that is meant."""

    bit: int
    incarnation: int = 1

    @property
    def mask(self) -> int:
        """The bits that must all be set for this feature to count."""
        return 1 << self.bit | _MARKERS[self.incarnation]


_MARKERS: Final = {1: 0, 2: 1 << 57, 3: 1 << 57 | 1 << 28}


def has_feature(mask: int, feature: Feature) -> bool:
    """Whether a peer that announced ``mask`` has ``feature``."""
    return mask & feature.mask == feature.mask


def bit_list(mask: int) -> str:
    """The numbers of the bits set in ``mask``, in words."""
    return ", ".join(str(bit) for bit in range(64) if mask >> bit & 1)


# The markers of the incarnations.
SERVER_JEWEL: Final = Feature(57)
MON_STATEFUL_SUB: Final = SERVER_JEWEL
"""Same bit: the mon keeps subscriptions by itself and sends no ``MMonSubscribeAck``."""
SERVER_MIMIC: Final = Feature(28, 2)

# The connection.
RECONNECT_SEQ: Final = Feature(6)
"""Messenger v1 exchanges sequence numbers when it resumes a session."""
MSG_AUTH: Final = Feature(23)
"""Messenger v1 signs messages; an MDS insists on it under cephx."""
MSGR_KEEPALIVE2: Final = Feature(42)
"""Messenger v1 keepalives carry a time stamp and are echoed."""
MSG_ADDR2: Final = Feature(59)
"""Addresses in the modern form; also btime and change_attr in inodes (``FS_BTIME``, ``FS_CHANGE_ATTR``). Messenger v2
and every MDS require it."""
CEPHX_V2: Final = Feature(61)
"""Messenger v1: services challenge authorizers and signatures follow a new formula; an MDS insists on it."""

# The monitor's maps.
SUBSCRIBE2: Final = Feature(4)
MONNAMES: Final = Feature(5)
PGID64: Final = Feature(9)
OSDENC: Final = Feature(13)
MONENC: Final = Feature(15)
MDSENC: Final = Feature(29)
OSDMAP_ENC: Final = Feature(39)
"""Maps in their versioned form, MonMap, MDSMap and OSDMap respectively with the bits above."""
SERVER_NAUTILUS: Final = Feature(2, 3)
"""Address lists in MonMap (v6) and MDSMap's mds_info (v8)."""
RANGE_BLOCKLIST: Final = Feature(34, 3)
"""OSDMap carries blocklisted address ranges. Not announced."""
OS_PERF_STAT_NS: Final = Feature(17, 3)
"""OSD statistics in nanoseconds. Not announced."""

# What a mon requires of every client once a pool or crush rule uses it.
CRUSH_TUNABLES: Final = Feature(18)
CRUSH_TUNABLES2: Final = Feature(25)
OSDHASHPSPOOL: Final = Feature(30)
CRUSH_TUNABLES3: Final = Feature(41)
CRUSH_V4: Final = Feature(48)
CRUSH_TUNABLES5: Final = Feature(58)
"""Shares its bit with ``FS_FILE_LAYOUT_V2``: file layouts name a pool namespace."""

# The file system.
FLOCK: Final = Feature(3)
DIRLAYOUTHASH: Final = Feature(7)
"""Inode replies carry the directory's layout."""
CREATEPOOLID: Final = Feature(26)
REPLY_CREATE_INODE: Final = Feature(27)
"""Replies to creating opens carry the new inode's number."""
EXPORT_PEER: Final = Feature(37)
"""Cap messages name the other rank of a migration."""
MDS_INLINE_DATA: Final = Feature(40)
MDS_QUOTA: Final = Feature(47)


CLIENT_FEATURES: Final = 0x3F01CFB9FFFDFFFF
"""What a client announces: bits 0-16, 18-32, 35-37, 39-43, 46-48 and 56-61.

With it, mons and MDSs of 16.2, 18.2 and 20.2 accept the client in both messengers and write each map and message in its
modern, versioned form. Many of these bits are about traffic with OSDs and are set because peers announce them too. Of
what Ceph 20.2 announces these are left out: 34 (`RANGE_BLOCKLIST`: it would add to the OSDMap), and 33, 38, 44, 45, 49
and 50, which 16.2 does not announce either and no layout here depends on. Bit 17 (`OS_PERF_STAT_NS`) is announced by
none of them."""

REQUIRED_FEATURES: Final = MSG_ADDR2.mask
"""What a client requires of its peer."""
