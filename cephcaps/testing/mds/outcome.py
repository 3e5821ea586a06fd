"""What a request has come to, before it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cephcaps.testing.mds.inode import Dentry
from cephcaps.testing.mds.walk import Place
from cephwire.filelock import FileLock
from cephwire.reply import CreatedInode, VxattrReply

__all__ = ["Entry", "Listing", "Outcome"]


@dataclass(slots=True)
class Entry:
    """One name of a listing; ``dentry`` is None in snapshots."""

    name: str
    place: Place
    dentry: Dentry | None = None


@dataclass(slots=True)
class Listing:
    """The entries a reply shows."""

    place: Place
    entries: list[Entry]
    flags: int


@dataclass(slots=True)
class Outcome:
    """A request was carried out.

    Attributes:
        directory, name: what the reply tells as its dentry, with ``dentry`` if the name exists.
        target: what it tells as its target.
        changed: it is a change; ``early`` if it is answered, unsafely, before that is safe.
        once_safe, in_the_end: what is done when the change is safe: before the request's locks are given back, and
            after all is over.
        created: number of an inode it made; else 0.
    """

    target: Place | None = None
    directory: Place | None = None
    name: str = ""
    dentry: Dentry | None = None
    changed: bool = False
    early: bool = True
    once_safe: list[Callable[[], object]] = field(default_factory=list)
    in_the_end: list[Callable[[], object]] = field(default_factory=list)
    created: int = 0
    extra: CreatedInode | VxattrReply | FileLock | None = None
    listing: Listing | None = None
