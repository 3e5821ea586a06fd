"""Names that a change has to itself until it is safe (a dentry's lock).

Facts: ceph: src/mds/MDCache.cc (``path_traverse``), src/mds/Locker.cc (``xlock_start``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.request import Mutation, Waits
from cephcaps.testing.mds.session import Session

__all__ = ["NameLock", "free_names", "leasable", "read_name", "take_name"]


@dataclass(slots=True, eq=False)
class NameLock:
    """Who has a name to itself.

    Attributes:
        session: the client whose changes they are; None is the MDS itself.
        busy: the change that is not answered yet; a client that has its answers may go on with the name.
        changes: how many are not safe yet.
    """

    session: Session | None
    busy: Mutation | None = None
    changes: int = 0
    waiters: list[Callable[[], None]] = field(default_factory=list)


def take_name(mutation: Mutation, directory: Inode, name: str, flush: Callable[[], None]) -> None:
    """Have a name to oneself.

    Raises:
        Waits: somebody else does; ``flush`` was called.
    """
    if (directory, name) in mutation.names:
        return
    held = directory.names.get(name)
    if held is None:
        held = directory.names[name] = NameLock(mutation.session)
    elif held.session is not mutation.session or held.session is None or held.busy is not None:
        _wait(held, mutation, flush)
    held.busy = mutation
    held.changes += 1
    mutation.names.append((directory, name))


def read_name(mutation: Mutation, directory: Inode, name: str, flush: Callable[[], None]) -> None:
    """See to it that a name means now what it will mean.

    Raises:
        Waits: somebody else changes it; ``flush`` was called.
    """
    held = directory.names.get(name)
    if held is None or held.busy is mutation:
        return
    if held.busy is not None or held.session is not mutation.session:
        _wait(held, mutation, flush)


def _wait(held: NameLock, mutation: Mutation, flush: Callable[[], None]) -> None:
    assert mutation.again is not None
    held.waiters.append(mutation.again)
    flush()
    raise Waits


def leasable(directory: Inode, name: str, session: Session) -> bool:
    """Whether the client may trust the name from now on."""
    held = directory.names.get(name)
    return held is None or (held.busy is None and held.session is session)


def free_names(mutation: Mutation) -> list[Callable[[], None]]:
    """Others may use them again; who waits for that."""
    waiters: list[Callable[[], None]] = []
    for directory, name in mutation.names:
        held = directory.names[name]
        held.changes -= 1
        if held.busy is mutation:
            held.busy = None
        if not held.changes:
            del directory.names[name]
        if held.busy is None:
            waiters += held.waiters
            held.waiters = []
    mutation.names.clear()
    return waiters
