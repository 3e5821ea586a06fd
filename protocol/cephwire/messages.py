"""Every message this package can read and write, by number and by class."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cephwire import map_messages, mon_messages
from cephwire.caprelease import CLIENT_CAPRELEASE
from cephwire.caps import CLIENT_CAPS
from cephwire.commands import COMMAND, COMMAND_REPLY
from cephwire.lease import CLIENT_LEASE
from cephwire.message import Message
from cephwire.metrics import CLIENT_METRICS
from cephwire.quota import CLIENT_QUOTA
from cephwire.reclaim import CLIENT_RECLAIM, CLIENT_RECLAIM_REPLY
from cephwire.reconnect import CLIENT_RECONNECT
from cephwire.reply import CLIENT_REPLY, CLIENT_REQUEST_FORWARD
from cephwire.request import CLIENT_REQUEST
from cephwire.session import CLIENT_SESSION
from cephwire.snap import CLIENT_SNAP

__all__ = ["BY_CLASS", "BY_NUMBER"]

_MESSAGES: Final[tuple[Message[Any], ...]] = (
    CLIENT_SESSION,
    CLIENT_RECONNECT,
    CLIENT_REQUEST,
    CLIENT_REQUEST_FORWARD,
    CLIENT_REPLY,
    CLIENT_RECLAIM,
    CLIENT_RECLAIM_REPLY,
    CLIENT_METRICS,
    CLIENT_CAPS,
    CLIENT_LEASE,
    CLIENT_SNAP,
    CLIENT_CAPRELEASE,
    CLIENT_QUOTA,
    COMMAND,
    COMMAND_REPLY,
    mon_messages.AUTH,
    mon_messages.AUTH_REPLY,
    mon_messages.CONFIG,
    mon_messages.MON_COMMAND,
    mon_messages.MON_COMMAND_ACK,
    mon_messages.MON_GET_MAP,
    mon_messages.MON_GET_VERSION,
    mon_messages.MON_GET_VERSION_REPLY,
    mon_messages.MON_SUBSCRIBE,
    mon_messages.MON_SUBSCRIBE_ACK,
    mon_messages.STATFS,
    mon_messages.STATFS_REPLY,
    map_messages.FS_MAP,
    map_messages.FS_MAP_USER,
    map_messages.MDS_MAP,
    map_messages.MON_MAP,
    map_messages.OSD_MAP,
)

BY_NUMBER: Final[dict[int, Message[Any]]] = {message.number: message for message in _MESSAGES}
"""By the header's ``type``."""
BY_CLASS: Final[dict[type[msgspec.Struct], Message[Any]]] = {message.schema.cls: message for message in _MESSAGES}
"""By the class a message decodes to."""
