"""Who sends a message: what its type and contents tell where no handshake was captured."""

from __future__ import annotations

from typing import Any, Final

from cephwire.caprelease import CLIENT_CAPRELEASE
from cephwire.caps import CLIENT_CAPS, CapOp, ClientCaps
from cephwire.commands import COMMAND, COMMAND_REPLY
from cephwire.entity import EntityType
from cephwire.lease import CLIENT_LEASE
from cephwire.map_messages import FS_MAP, FS_MAP_USER
from cephwire.metrics import CLIENT_METRICS
from cephwire.mon_messages import (
    AUTH,
    AUTH_REPLY,
    CONFIG,
    MON_COMMAND,
    MON_COMMAND_ACK,
    MON_GET_MAP,
    MON_GET_VERSION,
    MON_GET_VERSION_REPLY,
    MON_SUBSCRIBE,
    MON_SUBSCRIBE_ACK,
    STATFS,
    STATFS_REPLY,
)
from cephwire.quota import CLIENT_QUOTA
from cephwire.reclaim import CLIENT_RECLAIM, CLIENT_RECLAIM_REPLY
from cephwire.reconnect import CLIENT_RECONNECT
from cephwire.reply import CLIENT_REPLY, CLIENT_REQUEST_FORWARD
from cephwire.request import CLIENT_REQUEST
from cephwire.session import CLIENT_SESSION, ClientSession, SessionOp
from cephwire.snap import CLIENT_SNAP

__all__ = ["daemon_type", "sent_by_client"]

TO_MDS: Final = (CLIENT_REQUEST, CLIENT_RECONNECT, CLIENT_RECLAIM, CLIENT_METRICS, CLIENT_CAPRELEASE)
FROM_MDS: Final = (CLIENT_REPLY, CLIENT_REQUEST_FORWARD, CLIENT_RECLAIM_REPLY, CLIENT_SNAP, CLIENT_QUOTA)
BOTH_WAYS: Final = (CLIENT_SESSION, CLIENT_CAPS, CLIENT_LEASE)
TO_MON: Final = (AUTH, MON_SUBSCRIBE, MON_GET_MAP, MON_GET_VERSION, MON_COMMAND, STATFS)
FROM_MON: Final = (
    AUTH_REPLY,
    CONFIG,
    FS_MAP,
    FS_MAP_USER,
    MON_COMMAND_ACK,
    MON_GET_VERSION_REPLY,
    MON_SUBSCRIBE_ACK,
    STATFS_REPLY,
)
"""Daemons pass other maps to each other, whoever of them connected."""

DAEMON_TYPES: Final = {
    **dict.fromkeys((kind.number for kind in (*TO_MDS, *FROM_MDS, *BOTH_WAYS)), EntityType.MDS),
    **dict.fromkeys((kind.number for kind in (*TO_MON, *FROM_MON)), EntityType.MON),
}
SENDERS: Final = {
    **dict.fromkeys((kind.number for kind in (*TO_MDS, *TO_MON)), True),
    **dict.fromkeys((kind.number for kind in (*FROM_MDS, *FROM_MON)), False),
    COMMAND.number: True,
    COMMAND_REPLY.number: False,
}
CAPS_FROM_CLIENT: Final = (CapOp.UPDATE, CapOp.DROP, CapOp.FLUSH, CapOp.FLUSHSNAP, CapOp.RELEASE, CapOp.RENEW)
SESSION_FROM_CLIENT: Final = (
    SessionOp.REQUEST_OPEN,
    SessionOp.REQUEST_CLOSE,
    SessionOp.REQUEST_RENEWCAPS,
    SessionOp.FLUSHMSG_ACK,
    SessionOp.REQUEST_FLUSH_MDLOG,
)
CAP_OPS: Final = {int(op): op in CAPS_FROM_CLIENT for op in CapOp}
SESSION_OPS: Final = {int(op): op in SESSION_FROM_CLIENT for op in SessionOp}


def sent_by_client(type: int, message: Any) -> bool | None:
    """Whether a client sent it; None if that cannot be told for certain."""
    match message:
        case ClientCaps():
            return CAP_OPS.get(message.op)
        case ClientSession():
            return SESSION_OPS.get(message.op)
        case _:
            return SENDERS.get(type)


def daemon_type(type: int) -> EntityType | None:
    """What the daemon is that sends or gets it; None if that cannot be told."""
    return DAEMON_TYPES.get(type)
