"""Reading the first of several files that there is."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from cephcaps.config.show import shown
from cephcaps.errors import ConfigError

__all__ = ["Found", "Tried", "read_first", "split_paths"]

LARGEST = 1 << 20
"""Bytes; a larger file is neither a ceph.conf nor a keyring, but /dev/zero, say."""


class Found(NamedTuple):
    """A file that could be opened, and what it holds."""

    path: str
    text: str
    mode: int
    """``st_mode``."""


class Tried(NamedTuple):
    """Why no file was read."""

    text: str
    """Each path with why not; empty if there was none."""
    errno: int
    """ENOENT if none of them exists, else EACCES."""


def split_paths(paths: str) -> list[str]:
    """A list of files as Ceph writes it: with commas or semicolons between, so that a path may hold blanks."""
    return [path for item in re.split("[,;]", paths) if (path := item.strip())]


def read_first(paths: Iterable[str]) -> tuple[Found | None, Tried]:
    """The first of ``paths`` that can be opened, as the stock tools search, and what became of those before it.

    Raises:
        ConfigError: a file could be opened and is not text.
    """
    tried: list[str] = []
    code = errno.ENOENT
    for path in dict.fromkeys(paths):
        try:
            with open(path, "rb") as file:
                data = file.read(LARGEST + 1)
                mode = os.fstat(file.fileno()).st_mode
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                code = errno.EACCES
            tried.append(f"{shown(path)} ({os.strerror(error.errno or 0).lower()})")
        except ValueError:  # a NUL or a lone surrogate in the path
            tried.append(f"{shown(path)} (no such path can be)")
        else:
            return Found(path, _decoded(path, data), mode), Tried(", ".join(tried), code)
    return None, Tried(", ".join(tried), code)


def _decoded(path: str, data: bytes) -> str:
    if len(data) > LARGEST:
        raise ConfigError(f"{shown(path)} is larger than {LARGEST} bytes: is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(path)}, line {line}: not UTF-8 text; is it the right file?") from None
