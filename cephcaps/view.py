"""Looking on: what is held, what happens, what is late."""

from __future__ import annotations

import types
from typing import Self

import msgspec

from cephcaps.caps import Caps
from cephcaps.core import Core
from cephcaps.engine.inode import Inode
from cephcaps.engine.latency import BOUNDS as LATENCY_BOUNDS
from cephcaps.engine.latency import Histogram
from cephcaps.events import Event
from cephcaps.shell.listen import EventQueue
from cephcaps.shell.supervisor import Supervisor

__all__ = ["LATENCY_BOUNDS", "CapInfo", "Events", "InodeCaps", "Late", "Latency", "Metrics"]


class CapInfo(msgspec.Struct, frozen=True):
    """One rank's cap on an inode, as the MDS counts it."""

    cap_id: int
    issued: Caps
    implemented: Caps
    wanted: Caps
    """What the MDS was last told we want."""
    seq: int
    issue_seq: int
    mseq: int
    gen: int


class InodeCaps(msgspec.Struct, frozen=True):
    """All we hold on one inode."""

    ino: int
    issued: Caps
    """What may be done now."""
    implemented: Caps
    """That, and what was asked back and not given yet."""
    wanted: Caps
    used: Caps
    dirty: Caps
    """Bits under which something was changed here and not sent."""
    flushing: Caps
    """Bits under which changes are on their way."""
    revoking: Caps
    """Bits asked back and not given yet."""
    auth_rank: int
    """The rank flushes go to; -1 if there is none."""
    per_mds: dict[int, CapInfo]

    @classmethod
    def of(cls, inode: Inode, issued: int) -> Self:
        implemented = revoking = 0
        for cap in inode.caps.values():
            implemented |= cap.implemented
            revoking |= cap.revoking
        return cls(
            ino=inode.ino,
            issued=Caps.of(issued),
            implemented=Caps.of(implemented),
            wanted=Caps.of(inode.file_wanted | inode.used),
            used=Caps.of(inode.used),
            dirty=Caps.of(inode.dirty),
            flushing=Caps.of(inode.flushing),
            revoking=Caps.of(revoking),
            auth_rank=inode.auth_rank,
            per_mds={
                cap.rank: CapInfo(
                    cap_id=cap.cap_id,
                    issued=Caps.of(cap.issued),
                    implemented=Caps.of(cap.implemented),
                    wanted=Caps.of(cap.mds_wanted),
                    seq=cap.seq,
                    issue_seq=cap.issue_seq,
                    mseq=cap.mseq,
                    gen=cap.gen,
                )
                for cap in inode.caps.values()
            },
        )


class Late(msgspec.Struct, frozen=True):
    """Something owed or expected for more than 5 s: an MDS says nothing of what it ignores, so this must."""

    kind: str
    """ "flush", "revoke", "release", "snapshot", "wait" or "request"."""
    ino: int
    rank: int
    age: float
    """Seconds."""
    why: str


class Latency(msgspec.Struct, frozen=True):
    """How long something took, each time it happened."""

    count: int
    seconds: float
    """Sum of all."""
    buckets: tuple[int, ...]
    """How many took up to each of `LATENCY_BOUNDS` and longer than the one before; the last, longer than all."""

    @classmethod
    def of(cls, histogram: Histogram) -> Self:
        return cls(sum(histogram.counts), histogram.seconds, tuple(histogram.counts))


class Metrics(msgspec.Struct, frozen=True):
    """How things stand, and counters since the client was entered."""

    inodes: int
    """In the cache."""
    caps: dict[int, int]
    """Held, by rank."""
    dirty: int
    """Inodes changed here and not sent."""
    flushing: int
    """Flushes on their way."""
    revoking: int
    """Inodes some bits of which are asked back."""
    requests: int
    """Requests not known to be durable, or not answered."""
    release_messages: int
    caps_released: int
    """Given back whole, in those messages."""
    unmatched_replies: int
    bytes_skipped: int
    """Stretches of received bytes that no schema explained; no more than 100 are counted."""
    late: tuple[Late, ...]
    sessions: dict[int, str]
    """Their states, by rank."""
    request_latency: dict[int, dict[str, Latency]]
    """From a caller's wish to the first answer, by the rank that answered and op, such as "lookup"."""
    request_failures: dict[int, dict[str, dict[str, int]]]
    """Requests that brought their callers an error, by rank (-1: none was asked), op and why: "ENOENT", or
    "RequestTimeout", "SessionLost" and the like where no MDS has answered."""
    revoke_latency: dict[int, Latency]
    """From an MDS's wish to have bits back, by its rank, until all were given: 0 s where that was in the callback that
    brought it."""
    flush_latency: dict[int, Latency]
    """From a change's leaving to the MDS's acknowledgement, by its rank."""

    @classmethod
    def of(cls, core: Core, now: float) -> Self:
        engine, requests = core.mds.engine, core.mds.requests
        late = [Late(*found) for found in engine.explanations.late(now)]
        late += [
            Late(
                "request",
                request.operation.path.ino,
                request.rank or 0,
                now - request.sent_at,
                f"{request} (tid {request.tid})",
            )
            for request in requests
            if request.sent and now - request.sent_at > 5
        ]
        messages, items = engine.releases.sent
        ranks = engine.cache.ranks.values()
        failures: dict[int, dict[str, dict[str, int]]] = {}
        for (rank, op, why), count in requests.failures.items():
            failures.setdefault(rank, {}).setdefault(op.name.lower(), {})[why] = count
        return cls(
            inodes=len(engine.cache.inodes),
            caps={rank.rank: rank.num_caps for rank in ranks},
            dirty=len(engine.cache.dirty),
            flushing=len(engine.cache.flushes),
            revoking=len(engine.cache.revoking),
            requests=len(requests.by_tid),
            release_messages=messages,
            caps_released=items,
            unmatched_replies=core.mds.unmatched,
            bytes_skipped=len(core.leftovers),
            late=tuple(late),
            sessions={rank: session.state for rank, session in core.mds.sessions.items()},
            request_latency={
                rank: {op.name.lower(): Latency.of(histogram) for op, histogram in ops.items()}
                for rank, ops in requests.latency.items()
            },
            request_failures=failures,
            revoke_latency={rank.rank: Latency.of(rank.revoked) for rank in ranks},
            flush_latency={rank.rank: Latency.of(rank.flushed) for rank in ranks},
        )

    def to_json(self) -> bytes:
        """One JSON object: the fields by name; ranks are keys in decimal."""
        return msgspec.json.encode(self)


class Events:
    """Events of one client, subscribed to from the moment the ``with`` block is entered."""

    def __init__(
        self, supervisor: Supervisor, types: tuple[type[Event], ...] | None, ino: int | None, limit: int
    ) -> None:
        self._supervisor = supervisor
        self._queue = EventQueue(types, ino, limit)

    def __enter__(self) -> Self:
        self._supervisor.listen(self._queue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._supervisor.unlisten(self._queue)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; the loop ends when the client is closed."""
        event = await self._queue.next()
        if event is None:
            raise StopAsyncIteration
        return event

    def drain(self) -> list[Event]:
        """All events there are now."""
        return self._queue.drain()
