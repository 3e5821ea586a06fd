"""A pure-Python asyncio client for the Ceph MDS capability protocol."""

from cephcaps.caps import Caps
from cephcaps.client import Client, connect
from cephcaps.errors import (
    AuthError,
    CephError,
    ConfigError,
    ConnectionFailed,
    MalformedMessage,
    MdsError,
    ProtocolViolation,
    RequestTimeout,
    SessionLost,
)
from cephcaps.stat import DirEntry, Stat

__all__ = [
    "AuthError",
    "Caps",
    "CephError",
    "Client",
    "ConfigError",
    "ConnectionFailed",
    "DirEntry",
    "MalformedMessage",
    "MdsError",
    "ProtocolViolation",
    "RequestTimeout",
    "SessionLost",
    "Stat",
    "connect",
]
