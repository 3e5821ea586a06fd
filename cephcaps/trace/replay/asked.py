"""What is kept of each captured client whose requests are asked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cephcaps.trace.replay.steps import Client
from cephcaps.trace.replay.verdict import Tally
from cephwire.inode import InodeStat
from cephwire.reply import ClientReply
from cephwire.request import ClientRequest
from cephwire.requestop import WRITE_OPS, RequestOp

__all__ = ["Asked", "Handle", "Party"]

WIDE: Final = frozenset(
    (
        RequestOp.RENAME,
        RequestOp.RMDIR,
        RequestOp.MKSNAP,
        RequestOp.RMSNAP,
        RequestOp.RENAMESNAP,
        RequestOp.READDIR,
        RequestOp.LSSNAP,
        RequestOp.READDIR_SNAPDIFF,
    )
)
"""Ops that concern more than what they name: what is in or below a directory."""


@dataclass(slots=True)
class Asked:
    """Something that is to be asked again.

    Attributes:
        after: what has a number up to this was answered before it was asked.
        message: the request; None where it is a change that a flush tells of.
        reply: the captured one.
        number: names it in steps, once it is sent.
        file_mode: in which it opens its target; None if it opens nothing.
        nameless: nobody can see what it changes, for that has no name any more.
    """

    client: Client
    ns: int
    op: str
    tid: int
    ino: int
    path: str
    after: int = 0
    message: ClientRequest | None = None
    reply: ClientReply | None = None
    number: int = 0
    file_mode: int | None = None
    nameless: bool = False

    @property
    def _writes(self) -> bool:
        return self.message is None or bool(self.message.op & WRITE_OPS)

    @property
    def _inos(self) -> set[int]:
        """Inodes that it names by number."""
        return set() if self.message is None else {self.message.path.ino, self.message.path2.ino} - {0}

    @property
    def _is_wide(self) -> bool:
        """Whether it is about more than its names and inodes."""
        return self.message is not None and self.message.op in WIDE

    @property
    def _subjects(self) -> set[tuple[int, str]]:
        """Names, each with its directory, and inodes."""
        found = set()
        if self.message is not None:
            found |= {(path.ino, path.path) for path in (self.message.path, self.message.path2) if path.ino}
        if self.target is not None:
            found.add((self.target.ino, ""))
        return found

    @property
    def target(self) -> InodeStat | None:
        return self.reply.trace.target if self.reply is not None else None

    def must_wait(self, other: Asked) -> bool:
        """Whether it must not be under way at once with ``other``, which the captured MDS was done with before.

        What becomes of two on one name or inode, or on a directory and a name in it, is up to the order in which they
        get there; and Pacific's MDS does not survive a RMDIR while the MKDIR of the same name is not answered.
        """
        if self._is_wide or other._is_wide or (other.target is not None and other.target.ino in self._inos):
            return True
        return bool(self._subjects & other._subjects) and (self._writes or other._writes)


@dataclass(slots=True)
class Handle:
    """Something a client has open.

    Attributes:
        ino: as it is there.
        cap_id, seq: of its cap when the answer to the OPEN came: what was said before names an older seq.
    """

    mode: int
    ino: int
    cap_id: int
    seq: int


@dataclass(slots=True)
class Party:
    """One captured client.

    Attributes:
        daemons: with which it has sessions, as far as it has spoken to them.
        asked: by tid: requests whose answer the capture has not come to.
        handles: by captured inode.
    """

    tally: Tally = field(default_factory=Tally)
    daemons: set[str] = field(default_factory=set)
    asked: dict[int, Asked] = field(default_factory=dict)
    handles: dict[int, list[Handle]] = field(default_factory=dict)
