"""Captures as commands read them: files, or a pipe that somebody still writes to."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from cephcaps.cli.output import escaped
from cephcaps.errors import CephError

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.trace.items import Item

__all__ = ["LARGE", "Unreadable", "items_of", "opened", "size_of"]

LARGE = 8 << 20
"""Bytes; a smaller file is read before a bar, or a second process, is of use."""


class Unreadable(CephError):
    """A file that is no capture, or cannot be read further.

    Attributes:
        errno: what the operating system says, or EINVAL.
    """

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


def size_of(file: BinaryIO) -> int:
    """Bytes of a regular file; 0 of anything else."""
    found = os.fstat(file.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def items_of(name: str, file: BinaryIO, keys: dict[str, CryptoKey] | None) -> Iterator[Item]:
    """What a capture holds; a large one is read by a process of its own.

    Raises:
        Unreadable: it is none, or its file fails.
    """
    from cephcaps.trace.capture import NotACapture
    from cephcaps.trace.read import read_trace

    read = read_trace
    if size_of(file) >= LARGE:
        from cephcaps.cli.beside import can_read_beside, read_beside

        read = read_beside if can_read_beside() else read_trace
    try:
        yield from read(file, keys)
    except NotACapture as error:
        raise Unreadable(f"{escaped(name)}: {error}", errno.EINVAL) from None
    except OSError as error:
        raise Unreadable(f"{escaped(name)}: {error.strerror}", error.errno or errno.EIO) from None


@contextmanager
def opened(name: str, before_waiting: Callable[[], None]) -> Iterator[BinaryIO]:
    """The file ``name``; stdin for -.

    Args:
        before_waiting: is called before each read of a pipe: who follows a capture wants to see what there is.
    """
    with _open(name) as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        yield file if regular else cast(BinaryIO, Following(file, before_waiting))


def _open(name: str) -> BinaryIO:
    if name == "-" and sys.stdin is None:
        raise Unreadable(f"stdin: {os.strerror(errno.EBADF)}", errno.EBADF)
    try:
        return open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-")
    except OSError as error:
        raise Unreadable(f"{escaped(name)}: {error.strerror}", error.errno or errno.EIO) from None
    except ValueError:  # a NUL in the name
        raise Unreadable(f"{escaped(name)}: {os.strerror(errno.ENOENT)}", errno.ENOENT) from None


class Following:
    """A pipe, or whatever else may make its reader wait."""

    def __init__(self, file: BinaryIO, before_waiting: Callable[[], None]) -> None:
        self._file = file
        self._before_waiting = before_waiting
        self.fileno: Callable[[], int] = file.fileno

    def read1(self, size: int) -> bytes:
        self._before_waiting()
        return os.read(self._file.fileno(), size)

    read = read1
