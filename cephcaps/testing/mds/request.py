"""Changes and requests on their way: which locks they hold, and what they wait for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import Lock
from cephcaps.testing.mds.session import Session
from cephwire.request import ClientRequest

if TYPE_CHECKING:
    from cephcaps.testing.mds.lockcache import LockCache

__all__ = ["Mutation", "Need", "Refused", "Request", "Waits"]


class Refused(Exception):
    """The request fails with this errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Waits(Exception):
    """It goes on later: something it needs is on its way."""


class Need(NamedTuple):
    """A lock that is needed; ``how`` is "r", "w" or "x"."""

    lock: Lock
    how: str


@dataclass(slots=True, eq=False)
class Mutation:
    """Whatever holds locks (ceph: src/mds/Mutation.h, ``MutationImpl``).

    Attributes:
        session: whose it is; None for the MDS's own.
        again: tries once more, after `Waits`.
        held: locks it has taken, and how, in the order in which they are taken.
        locking: the lock that is made ready to be held by it alone.
        names: names in directories that nobody else may use meanwhile.
        cache: locks kept since an earlier request, which it uses too.
    """

    session: Session | None
    again: Callable[[], None] | None = None
    held: dict[Lock, str] = field(default_factory=dict)
    locking: Lock | None = None
    names: list[tuple[Inode, str]] = field(default_factory=list)
    cache: LockCache | None = None


@dataclass(slots=True, eq=False)
class Request(Mutation):
    """A client's request.

    Attributes:
        began: when it came.
        releases: inodes whose caps came back with it, and the seq those had then.
        state: "waiting" until its change is made, then "committing" until that is safe, then "over".
        early: it is answered already, unsafely; ``patient`` if it must not be.
        uses_caches: it may use lock caches.
        waits_for: the inode in whose `Inode.waiting` it is.
    """

    session: Session
    tid: int = 0
    message: ClientRequest = field(kw_only=True)
    began: float = 0.0
    releases: dict[int, int] = field(default_factory=dict)
    state: str = "waiting"
    early: bool = False
    patient: bool = False
    uses_caches: bool = True
    waits_for: Inode | None = None
