"""A pure-Python asyncio client for the Ceph MDS capability protocol.

Names are loaded when first asked for: ``cephcaps.Caps`` alone costs no network code.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cephcaps.caps import Caps
    from cephcaps.client import Client, connect
    from cephcaps.data import CapRefs
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
    from cephcaps.file import OpenFile
    from cephcaps.shell.data import DataHandler, DataIo
    from cephcaps.stat import DirEntry, LockHolder, Snapshot, Stat

__all__ = [
    "AuthError",
    "CapRefs",
    "Caps",
    "CephError",
    "Client",
    "ConfigError",
    "ConnectionFailed",
    "DataHandler",
    "DataIo",
    "DirEntry",
    "LockHolder",
    "MalformedMessage",
    "MdsError",
    "OpenFile",
    "ProtocolViolation",
    "RequestTimeout",
    "SessionLost",
    "Snapshot",
    "Stat",
    "connect",
]

_MODULES = ("errors", "caps", "stat", "shell.data", "data", "file", "client")
"""Where the public names live, the lightest first."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"cephcaps.{name}")
    if name in __all__:
        for module in map(import_module, (f"cephcaps.{module}" for module in _MODULES)):
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
