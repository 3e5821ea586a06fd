"""Commands to daemons, as ``ceph`` and ``ceph tell`` send them: what is asked, of whom, and what becomes of it.

Source: ceph: src/mon/MonClient.cc (``start_mon_command``), src/client/Client.cc (``mds_command``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cephcaps.actions import Action, Done, Failed
from cephcaps.errors import MdsError, RequestTimeout

__all__ = ["Command", "Commands", "MdsCommand", "MonCommand"]

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class MonCommand:
    """Ask the monitors; brings the output, bytes. ``words`` is a JSON object with "prefix"."""

    words: str


@dataclass(frozen=True, slots=True)
class MdsCommand:
    """Ask the MDS that holds ``rank``; brings the output, bytes."""

    rank: int
    words: str


Command: TypeAlias = MonCommand | MdsCommand


@dataclass(slots=True)
class Asked:
    """One command on its way.

    Attributes:
        tid: ties the answer to it.
        sent: over what stands; it is sent again where the peer would have forgotten it.
    """

    tid: int
    token: int
    command: Command
    deadline: float
    sent: bool = False

    def __str__(self) -> str:
        return f"the command {self.command.words}"


class Commands:
    """All commands on their way to one kind of daemon; few, so each is looked at when something happens to it."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out
        self._asked: dict[int, Asked] = {}
        self._last_tid = 0

    def add(self, token: int, command: Command, deadline: float) -> None:
        self._last_tid += 1
        self._asked[self._last_tid] = Asked(self._last_tid, token, command, deadline)

    def waiting(self, rank: int | None = None) -> Iterator[Asked]:
        """Those that are to be sent: to ``rank``, or to the monitors."""
        for asked in self._asked.values():
            if not asked.sent and _rank(asked.command) == rank:
                yield asked

    @property
    def ranks(self) -> set[int]:
        """To which something is to be sent."""
        return {a.command.rank for a in self._asked.values() if isinstance(a.command, MdsCommand) and not a.sent}

    def answered(self, tid: int, r: int, rs: str, output: bytes) -> None:
        """The answer has come; one that nobody waits for any more is dropped."""
        asked = self._asked.pop(tid, None)
        if asked is not None and r < 0:
            self._out.append(Failed(asked.token, MdsError(-r, rs or None, str(asked))))
        elif asked is not None:
            self._out.append(Done(asked.token, output))

    def send_again(self) -> None:
        """The connection is gone, and what was sent over it with it."""
        for asked in self._asked.values():
            asked.sent = False

    def fail(self, rank: int, error: Exception) -> None:
        """Nobody will answer what was asked of ``rank``."""
        for asked in [asked for asked in self._asked.values() if _rank(asked.command) == rank]:
            del self._asked[asked.tid]
            self._out.append(Failed(asked.token, error))

    def cancel(self, token: int) -> None:
        for asked in [asked for asked in self._asked.values() if asked.token == token]:
            del self._asked[asked.tid]

    def next_deadline(self) -> float:
        return min((asked.deadline for asked in self._asked.values()), default=NEVER)

    def tick(self, now: float) -> None:
        for asked in [asked for asked in self._asked.values() if asked.deadline <= now]:
            del self._asked[asked.tid]
            rank = _rank(asked.command)
            who = "the monitors" if rank is None else f"mds.{rank}"
            said = "" if asked.sent else ", which could not be reached,"
            late = RequestTimeout(f"no answer of {who}{said} to {asked}", tid=asked.tid, rank=rank, awaited=str(asked))
            self._out.append(Failed(asked.token, late))


def _rank(command: Command) -> int | None:
    return command.rank if isinstance(command, MdsCommand) else None
