"""What a failure looks like from outside: one line on stderr, and an errno as the exit code."""

from __future__ import annotations

import errno
import os
import re
import traceback

import click

from cephcaps.cli.output import escaped
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

__all__ = ["complain", "exit_code"]

UNREACHABLE = 1
BUG = 255
"""Out of the way of any errno."""

_CODES: tuple[tuple[type[Exception], int], ...] = (
    (click.ClickException, errno.EINVAL),
    (RequestTimeout, errno.ETIMEDOUT),
    (AuthError, errno.EACCES),
    (SessionLost, errno.ENOTCONN),
    (ConnectionFailed, UNREACHABLE),
    (MalformedMessage, errno.EPROTO),
    (ProtocolViolation, errno.EPROTO),
    (ConfigError, errno.EINVAL),
    (CephError, errno.EIO),
    (OSError, errno.EIO),
)
"""For errors that carry no errno of their own; the first that fits counts."""

_REMEDIES = {
    errno.ENOENT: "see what there is with `cephcaps ls`",
    errno.ENOTDIR: "a part of it is no directory",
    errno.EACCES: "`ceph auth get` shows what the key's MDS caps cover",
    errno.EPERM: "`ceph auth get` shows what the key's MDS caps cover",
}
"""What to do where an MDS gave only a number."""


def exit_code(error: Exception) -> int:
    """The errno ``error`` stands for."""
    code = getattr(error, "errno", None)
    if isinstance(code, int) and 0 < code < BUG:
        return code
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)


def complain(error: Exception, by: str | None = None) -> None:
    """Say on stderr what went wrong.

    Args:
        by: the daemon we were talking to, None if the file system was not reached yet.
    """
    from cephcaps.config.show import without_keys

    if os.environ.get("CEPHCAPS_DEBUG") == "1":
        traceback.print_exception(error)
    line = re.sub(r"\s*\n\s*", " ", without_keys(_message(error, by)))
    click.echo(f"cephcaps: {escaped(line)}", err=True)


def _message(error: Exception, by: str | None) -> str:
    match error:
        case click.UsageError():
            return _usage(error)
        case click.ClickException():
            return error.format_message()
        case MdsError(filename=str(path)) if by is None:
            return f"{escaped(path)}: {error.strerror}, says the MDS of what is to be mounted; check client_mountpoint"
        case MdsError(filename=str(path)):
            remedy = _REMEDIES.get(error.errno or 0)
            return f"{escaped(path)}: {error.strerror}, says {by}" + (f"; {remedy}" if remedy else "")
        case MdsError():
            return str(error.strerror)
        case RequestTimeout():
            return (
                f"{error}; `ceph fs status` shows the MDSs, --{'connect-' if by is None else ''}timeout is our patience"
            )
        case CephError():
            return str(error)
        case OSError(filename=str(path)):
            return f"{path}: {error.strerror}"
        case OSError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}; this is a bug, CEPHCAPS_DEBUG=1 shows where"


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx is not None else "cephcaps"
    words = os.environ.get("CEPH_ARGS")
    return f"{error.format_message().rstrip('.')}; see `{command} --help`" + (
        f" (CEPH_ARGS is {words})" if words else ""
    )
