"""What can go wrong, each class a different thing for the caller to do.

Every message says what was tried, with which daemon, and what to do next. No message holds a key.
"""

from __future__ import annotations

import errno as _errno
import os

from cephwire.errors import CephError, MalformedMessage

__all__ = [
    "AuthError",
    "CephError",
    "ConfigError",
    "ConnectionFailed",
    "MalformedMessage",
    "MdsError",
    "ProtocolViolation",
    "RequestTimeout",
    "SessionLost",
]


class ConfigError(CephError, ValueError):
    """ceph.conf, a keyring or an option cannot be used as it stands.

    Attributes:
        errno: ENOENT where no such file was found, EACCES where there is one and it cannot be read; None otherwise.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class ConnectionFailed(CephError, ConnectionError):
    """No daemon could be reached, or the peer is not the Ceph daemon it should be."""


class AuthError(CephError, PermissionError):
    """The cluster does not know this key or entity, or does not allow what was asked of it."""


class ProtocolViolation(CephError):
    """A peer broke the protocol with well-formed messages."""


class RequestTimeout(CephError, TimeoutError):
    """No answer in time; the request may still have been carried out.

    Attributes:
        tid: the request's id at the MDS, None when it had not been sent yet.
        rank: the MDS rank it was sent to, None when there was none.
        awaited: what was waited for, in words.
    """

    def __init__(self, message: str, *, tid: int | None = None, rank: int | None = None, awaited: str = "") -> None:
        super().__init__(message)
        self.tid = tid
        self.rank = rank
        self.awaited = awaited


class SessionLost(CephError, ConnectionError):
    """A session with an MDS is gone.

    Attributes:
        reason: "evicted", "blocklisted", "rejected", "reset", "closed" ...
        lost: descriptions of what was dirty and could not be saved.
    """

    def __init__(self, message: str, *, reason: str, lost: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.lost = lost


class MdsError(CephError, OSError):
    """The MDS refused a request; also the OSError subclass its errno means.

    ``MdsError(errno, strerror, path)`` gives, for ENOENT, an object that ``except FileNotFoundError`` catches.
    """

    def __new__(cls, errno: int, strerror: str | None = None, filename: str | None = None) -> MdsError:
        wanted = _BY_ERRNO.get(errno, cls) if cls is MdsError else cls
        return super().__new__(wanted, errno, strerror or os.strerror(errno), filename)

    def __init__(self, errno: int, strerror: str | None = None, filename: str | None = None) -> None:
        super().__init__(errno, strerror or os.strerror(errno), filename)


def _leaf(errno: int) -> type[MdsError] | None:
    """A class that is both MdsError and what Python raises for ``errno``; None where that is plain OSError."""
    meant = type(OSError(errno, ""))
    return None if meant is OSError else type(f"Mds{meant.__name__}", (MdsError, meant), {"__doc__": meant.__doc__})


_BY_ERRNO: dict[int, type[MdsError]] = {
    number: _made for number in _errno.errorcode if (_made := _leaf(number)) is not None
}
