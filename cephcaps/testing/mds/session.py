"""A client's session with the MDS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cephcaps.testing.daemon import Remote
from cephcaps.testing.mds.inode import Dentry, Inode
from cephwire.session import ClientFeature

if TYPE_CHECKING:
    from cephcaps.testing.mds.capability import Cap
    from cephcaps.testing.mds.request import Request

__all__ = ["Session"]


@dataclass(slots=True, eq=False)
class Session:
    """One client.

    Attributes:
        remote: its connection.
        client: its global id.
        state: "open", "stale", "closing" or "closed".
        features: those both sides have; ``metadata`` what it says of itself.
        pushed: messages that count for its REQUEST_CLOSE.
        renewed: when it last asked to go on.
        caps: what it holds, by inode number, oldest first.
        leases: on names.
        completed: changes it may ask for again, by tid: the inode each made, or 0.
        completed_flushes: flush tids it may send again.
        opened: files it holds open.
        requests: those under way.
        inos: numbers set aside for inodes that it makes.
    """

    remote: Remote
    client: int
    state: str = "open"
    features: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    pushed: int = 0
    renewed: float = 0.0
    caps: dict[int, Cap] = field(default_factory=dict)
    leases: dict[tuple[int, str], Dentry] = field(default_factory=dict)
    completed: dict[int, int] = field(default_factory=dict)
    completed_flushes: set[int] = field(default_factory=set)
    opened: set[Inode] = field(default_factory=set)
    requests: dict[Request, None] = field(default_factory=dict)
    inos: deque[range] = field(default_factory=deque)

    def has(self, feature: ClientFeature) -> bool:
        return bool(self.features >> feature & 1)

    @property
    def name(self) -> str:
        return f"client.{self.client}"
