"""Which items of a trace somebody wants to see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from cephcaps.trace.fields import TYPES
from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.known import Recent, Revoke
from cephcaps.trace.table import label
from cephcaps.trace.words import snap_trace
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import ClientCaps
from cephwire.entity import EntityType
from cephwire.lease import ClientLease
from cephwire.quota import ClientQuota
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ClientRequestForward, CreatedInode, ReaddirReply
from cephwire.request import ClientRequest
from cephwire.requestargs import LookupInoArgs
from cephwire.scalars import NSEC
from cephwire.snap import ClientSnap

__all__ = ["Moment", "Selection", "inodes", "type_pattern"]


class Moment(NamedTuple):
    """A time in a trace."""

    time: int
    """Nanoseconds."""
    relative: bool
    """Since the first message, and not since the epoch."""

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Seconds since the first message, ``12.5``, or a date and time as ISO 8601 has it, local if it does not say.

        Raises:
            ValueError: it is neither.
        """
        if found := re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", text):
            return cls(int(found[1]) * NSEC + int((found[2] or "").ljust(9, "0")), True)
        try:
            moment = datetime.fromisoformat(text).astimezone()
            return cls(int(moment.replace(microsecond=0).timestamp()) * NSEC + moment.microsecond * 1000, False)
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"{text!r} is no time: give seconds such as 12.5, or 2026-11-22T17:24:54.5") from None

    def ns(self, first: int) -> int:
        """Nanoseconds since the epoch, in a trace that begins at ``first``."""
        return first + self.time if self.relative else self.time


class Selection:
    """What is wanted; each kind of condition that is given must hold.

    Args:
        types: patterns as `type_pattern` gives them.
        inos: inode numbers. Wanted are messages about one of them and what answers such a request.
        clients: global ids.
        ranks: of MDSs; those that are not known yet are wanted too.
        since, until: times; None is from the beginning, and to the end.
    Attributes:
        everything: whether there is no condition.
    """

    def __init__(
        self,
        *,
        types: Iterable[str] = (),
        inos: Iterable[int] = (),
        clients: Iterable[int] = (),
        ranks: Iterable[int] = (),
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> None:
        self.types: tuple[str, ...] = tuple(types)
        self.inos: frozenset[int] = frozenset(inos)
        self.clients: frozenset[int] = frozenset(clients)
        self.ranks: frozenset[int] = frozenset(ranks)
        self.since = since
        self.until = until
        self.everything: bool = not (self.types or self.inos or self.clients or self.ranks or since or until)
        self._first: int | None = None
        self._by_label: dict[str, bool] = {}
        self._asked: Recent[tuple[int | str, int], bool] = Recent()
        """Requests that were wanted: client and tid."""

    def wants(self, item: Item) -> bool:
        """Whether ``item`` is wanted. To be asked of every item of the trace, in order."""
        if self._first is None and isinstance(item, Traced):
            self._first = item.ns
        if (self.since or self.until) and not self._timely(item.ns):
            return False
        if isinstance(item, Problem):
            return item.flow is None or self._in(item.flow)
        return self._in(item.flow) and (not self.inos or self._concerns(item)) and (not self.types or self._typed(item))

    def wants_revoke(self, revoke: Revoke) -> bool:
        """Whether a revoke that nothing has answered is wanted."""
        return not (
            (self.inos and revoke.ino not in self.inos)
            or (self.clients and revoke.client not in self.clients)
            or (self.ranks and revoke.rank not in (*self.ranks, None))
        )

    def _timely(self, ns: int) -> bool:
        if not ns:  # there is no telling
            return True
        first = ns if self._first is None else self._first
        early = self.since is not None and ns < self.since.ns(first)
        return not early and (self.until is None or ns <= self.until.ns(first))

    def _in(self, flow: Flow) -> bool:
        if self.clients and flow.client_id not in self.clients:
            return False
        # In messenger v1 a daemon tells its number only with its first message: the client's first would be lost.
        return not self.ranks or (flow.daemon_type == EntityType.MDS and flow.daemon_num in (*self.ranks, None))

    def _typed(self, item: Traced) -> bool:
        name = label(item)
        found = self._by_label.get(name)
        if found is None:
            alone = name.partition("(")[0]
            found = any(fnmatchcase(name if "(" in wanted else alone, wanted) for wanted in self.types)
            if len(self._by_label) < BOUND:
                self._by_label[name] = found
        return found

    def _concerns(self, item: Traced) -> bool:
        message = item.message
        key = (item.flow.client if item.flow.client_id is None else item.flow.client_id), item.header.tid
        found = not self.inos.isdisjoint(inodes(message))
        if isinstance(message, ClientRequest):
            if found:
                self._asked[key] = True
        elif isinstance(message, ClientReply | ClientRequestForward):
            asked = self._asked.pop(key) if getattr(message, "safe", 0) else self._asked.get(key)
            found = found or asked is not None
        return found


BOUND: Final = 10_000
"""Labels that are remembered: ops of malformed messages may be any number."""


def type_pattern(text: str) -> str:
    """A pattern of names of types, with an op or without: ``client_caps``, ``784``, ``0x310``, ``client_caps(revoke)``,
    ``mon_*``.

    Raises:
        ValueError: there is no such type; the message says which there are.
    """
    pattern = text.strip().lower()
    name, bracket, op = pattern.partition("(")
    try:
        number = int(name, 0)
    except ValueError:
        if not any(fnmatchcase(known, name) for known in TYPES.values()) and not name.startswith("type_"):
            raise ValueError(f"{text!r} is no type of message; known are {', '.join(sorted(TYPES.values()))}") from None
    else:
        name = TYPES[number]
    return name + bracket + op


# Inodes


def inodes(message: Any) -> Iterable[int]:
    """The numbers of the inodes that a message is about; snap realms that inodes merely lie in are not among them."""
    found = _INODES.get(type(message))
    return () if found is None else found(message)


def _request(m: ClientRequest) -> Iterator[int]:
    yield m.path.ino
    yield m.path2.ino
    yield m.ino
    yield from (release.ino for release in m.releases)
    if isinstance(m.args, LookupInoArgs):
        yield m.args.parent


def _reply(m: ClientReply) -> Iterator[int]:
    yield from (inode.ino for inode in (m.trace.dir, m.trace.target) if inode is not None)
    if isinstance(m.extra, CreatedInode):
        yield m.extra.created_ino
    elif isinstance(m.extra, ReaddirReply):
        yield from (entry.inode.ino for entry in m.extra.entries)


def _snap(m: ClientSnap) -> Iterator[int]:
    yield m.split
    yield from m.split_inos
    yield from m.split_realms
    yield from (realm.ino for realm in (snap_trace(m.trace) or ())[:1])


def _reconnect(m: ClientReconnect) -> Iterator[int]:
    yield from (cap.ino for cap in m.caps)
    yield from (realm.ino for realm in m.realms)


_INODES: Final[dict[type, Callable[[Any], Iterable[int]]]] = {
    ClientCaps: lambda m: (m.ino,),
    ClientLease: lambda m: (m.ino,),
    ClientQuota: lambda m: (m.ino,),
    ClientCapRelease: lambda m: [cap.ino for cap in m.caps],
    ClientRequest: _request,
    ClientReply: _reply,
    ClientSnap: _snap,
    ClientReconnect: _reconnect,
}
