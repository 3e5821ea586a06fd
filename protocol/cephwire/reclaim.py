"""CLIENT_RECLAIM and its reply: a client that takes the place of an earlier one."""

from __future__ import annotations

from enum import IntFlag
from typing import Final

import msgspec

from cephwire.entity import ENTITY_ADDRVEC, AnyAddrs
from cephwire.message import Message
from cephwire.schema import Int32sl, Int32ul, Record, Struct, Text

__all__ = ["CLIENT_RECLAIM", "CLIENT_RECLAIM_REPLY", "ClientReclaim", "ClientReclaimReply", "ReclaimFlag"]


class ReclaimFlag(IntFlag):
    """ceph: src/include/cephfs/libcephfs.h, src/messages/MClientReclaim.h."""

    RESET = 1
    """Drop the old session's state."""
    FINISH = 0x80000000
    """Reclaiming is done."""


class ClientReclaim(msgspec.Struct, frozen=True, gc=False):
    """Client to MDS, in a session it has opened: end the session of the client that had ``uuid``."""

    uuid: str
    """``metadata["uuid"]`` of the old session; empty to finish."""
    flags: int
    """`ReclaimFlag`."""


CLIENT_RECLAIM: Final = Message[ClientReclaim](27, Record(ClientReclaim, Struct("uuid" / Text, "flags" / Int32ul)))
"""ceph: src/messages/MClientReclaim.h."""


class ClientReclaimReply(msgspec.Struct, frozen=True, gc=False):
    """MDS to client."""

    result: int
    """0, or a negative errno: -2 there is no such session, -95 it cannot be done."""
    epoch: int
    """OSD map epoch that blocklists the old client."""
    addrs: AnyAddrs
    """The old client's addresses."""


CLIENT_RECLAIM_REPLY: Final = Message[ClientReclaimReply](
    28, Record(ClientReclaimReply, Struct("result" / Int32sl, "epoch" / Int32ul, "addrs" / ENTITY_ADDRVEC))
)
"""ceph: src/messages/MClientReclaimReply.h."""
