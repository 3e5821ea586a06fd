"""Quotas of directories."""

from __future__ import annotations

from cephcaps.engine.cache import Cache
from cephcaps.engine.inode import Inode

__all__ = ["room"]


def room(cache: Cache, inode: Inode, *, bytes: int = 0, files: int = 0) -> Inode | None:
    """The directory whose quota leaves no room for that much more; None if there is room."""
    return None
