"""A request on its way: which locks it holds, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import Lock
from cephcaps.testing.mds.session import Session
from cephwire.request import ClientRequest

__all__ = ["Held", "Refused", "Request", "Waits"]


class Refused(Exception):
    """The request fails with this errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Waits(Exception):
    """The request goes on later: something it needs is on its way."""


class Held(NamedTuple):
    """A lock held by a request; ``how`` is "r", "w" or "x"."""

    inode: Inode
    lock: Lock
    how: str


@dataclass(slots=True, eq=False)
class Request:
    """One request.

    Attributes:
        held: locks it has taken, in the order in which all requests take them.
        waits_for: the inode in whose list it is; ``blocked`` the lock there that it needs, if it is one.
        began: when it came.
    """

    session: Session
    tid: int
    message: ClientRequest
    began: float
    held: list[Held] = field(default_factory=list)
    waits_for: Inode | None = None
    blocked: Lock | None = None
