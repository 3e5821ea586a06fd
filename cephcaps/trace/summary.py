"""Counts over a trace: messages by type and direction, by client and daemon, bytes, and what could not be read."""

from __future__ import annotations

from typing import Final

import msgspec

from cephcaps.trace.facts import client_of, daemon_of
from cephcaps.trace.fields import TYPES
from cephcaps.trace.items import Flow, Problem, ProblemKind, Traced

__all__ = ["PairCount", "ProblemCount", "Summary", "SummaryFacts", "TypeCount", "loses"]

MOST_FLOWS: Final = 20_000
"""Connections that are counted apart; the rest of a capture of more are counted as one."""

HARMLESS: Final[frozenset[ProblemKind]] = frozenset({"gap", "skipped", "packet"})
"""Kinds of problems by which nothing is lost unless they say how much."""


def loses(problem: Problem) -> bool:
    """Whether something of the conversation is missing because of it.

    A connection that was open before the capture began is no loss: its messages are read from where it comes in.
    """
    return problem.size > 0 or problem.kind not in HARMLESS


class TypeCount(msgspec.Struct):
    """Messages of one type."""

    type: str
    to_daemon: int = 0
    to_client: int = 0
    bytes: int = 0
    """Of front, middle and data."""
    leftover: int = 0
    """Bytes of these that no schema explains."""
    malformed: int = 0
    """Messages that could not be decoded."""
    resent: int = 0
    """Messages that were sent again after a reconnect."""


class PairCount(msgspec.Struct):
    """Messages between one client and one daemon."""

    client: str
    """``client.4123``, or its address where its id is not known."""
    daemon: str
    to_daemon: int = 0
    to_client: int = 0
    bytes: int = 0


class ProblemCount(msgspec.Struct):
    """Problems of one kind."""

    problem: str
    count: int = 0
    bytes: int = 0
    """Bytes lost, as far as known."""


class SummaryFacts(msgspec.Struct):
    """All counts, ready for `msgspec.json`."""

    first_ns: int | None
    last_ns: int | None
    messages: int
    bytes: int
    leftover: int
    malformed: int
    undecoded: int
    """Messages of types that are not decoded here, such as those of OSDs."""
    problems: list[ProblemCount]
    types: list[TypeCount]
    pairs: list[PairCount]


class Summary:
    """Counts what it is given.

    Attributes:
        incomplete: whether something is missing or could not be decoded.
        first, last: times of the first and the last message.
    """

    def __init__(self) -> None:
        self.incomplete: bool = False
        self.first: int | None = None
        self.last: int | None = None
        self._types: dict[int, TypeCount] = {}
        self._flows: dict[Flow | None, PairCount] = {}
        """Names of the ends are settled last: they become known as a connection goes on."""
        self._problems: dict[str, ProblemCount] = {}
        self._undecoded = 0

    def message(self, item: Traced) -> None:
        ns, flow, to_daemon, header, (front, middle, data), message, leftover, error, resent = item
        size = len(front) + len(middle) + len(data)
        if (count := self._types.get(header.type)) is None:
            count = self._types[header.type] = TypeCount(TYPES[header.type])
        pair = self._flows.get(flow) or self._pair(flow)
        if to_daemon:
            count.to_daemon += 1
            pair.to_daemon += 1
        else:
            count.to_client += 1
            pair.to_client += 1
        count.bytes += size
        pair.bytes += size
        if message is None or leftover or resent:
            count.leftover += sum(skipped.size for skipped in leftover)
            count.resent += resent
            if error is not None:
                count.malformed += 1
                self.incomplete = True
            elif message is None:
                self._undecoded += 1
        if self.first is None:
            self.first = ns
        self.last = ns

    def problem(self, item: Problem) -> None:
        if (count := self._problems.get(item.kind)) is None:
            count = self._problems[item.kind] = ProblemCount(item.kind)
        count.count += 1
        count.bytes += item.size
        self.incomplete = self.incomplete or loses(item)

    def _pair(self, flow: Flow) -> PairCount:
        key = flow if len(self._flows) < MOST_FLOWS else None
        return self._flows.setdefault(key, PairCount("others", "others"))

    def _pairs(self) -> list[PairCount]:
        pairs: dict[tuple[str, str], PairCount] = {}
        for flow, count in self._flows.items():
            ends = count.client, count.daemon
            if flow is not None:
                ends = client_of(flow) or flow.client, daemon_of(flow) or flow.daemon
            pair = pairs.setdefault(ends, PairCount(*ends))
            pair.to_daemon += count.to_daemon
            pair.to_client += count.to_client
            pair.bytes += count.bytes
        return [pairs[ends] for ends in sorted(pairs)]

    def facts(self) -> SummaryFacts:
        types = [self._types[number] for number in sorted(self._types)]
        return SummaryFacts(
            self.first,
            self.last,
            sum(count.to_daemon + count.to_client for count in types),
            sum(count.bytes for count in types),
            sum(count.leftover for count in types),
            sum(count.malformed for count in types),
            self._undecoded,
            sorted(self._problems.values(), key=lambda count: count.problem),
            types,
            self._pairs(),
        )
