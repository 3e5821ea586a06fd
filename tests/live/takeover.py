"""What a client says to an MDS that takes a rank over, read from a capture or a recording: libcephfs' or ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from cephcaps.trace import Flow, Item, Traced
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.entity import AddrType, address_of
from cephwire.lease import ClientLease
from cephwire.map_messages import MMdsMap
from cephwire.mdsmap import MdsInfo, MdsState
from cephwire.reconnect import ClientReconnect
from cephwire.request import ClientRequest, RequestFlag
from cephwire.session import ClientSession, SessionOp

__all__ = ["RECONNECT", "Takeover", "flushes_sent_again", "takeovers"]

RECONNECT = "reconnect"


@dataclass(eq=False)
class Takeover:
    """One client and one MDS daemon that took a rank over from another.

    Attributes:
        map_ns: when the client learnt from an MDSMap that the daemon waits for clients to reconnect.
        said: what the client then sent there, in its order; what a broken connection repeated is left out.
    """

    flow: Flow
    map_ns: int
    said: list[Traced] = field(default_factory=list)

    @property
    def reconnect_ns(self) -> int:
        """When its first RECONNECT went out."""
        return next(item.ns for item in self.said if isinstance(item.message, ClientReconnect))

    @property
    def before(self) -> list[Traced]:
        """What went out before that."""
        return self.said[: self._cut]

    @property
    def _cut(self) -> int:
        return next(n for n, item in enumerate(self.said) if isinstance(item.message, ClientReconnect))

    def kinds(self) -> list[str]:
        """The kinds of what was said, each once where several of a kind follow each other."""
        order: list[str] = []
        for item in self.said:
            kind = _kind(item)
            if not order or order[-1] != kind:
                order.append(kind)
        return order

    def released(self) -> list[str]:
        """What gave caps or leases back between the map and RECONNECT; an MDS that asks what is held must be told."""
        return [
            _kind(item)
            for item in self.before
            if isinstance(item.message, ClientCapRelease | ClientLease)
            or (isinstance(item.message, ClientRequest) and item.message.releases)
        ]


def takeovers(items: Iterable[Item], client_id: int | None = None) -> list[Takeover]:
    """Those of one client, ``client_id`` where the trace has several, that came to a RECONNECT."""
    waiting: dict[str, tuple[int, int]] = {}  # by address, which a daemon may inherit: gid, and when it was first told
    by_flow: dict[Flow, Takeover] = {}
    for item in items:
        if not isinstance(item, Traced) or item.resent or (client_id and item.flow.client_id != client_id):
            continue
        if isinstance(item.message, MMdsMap) and not item.to_daemon:
            for info in item.message.mdsmap.mds_info.values():
                if info.state == MdsState.RECONNECT and waiting.get(_address(info), (0, 0))[0] != info.gid:
                    waiting[_address(info)] = info.gid, item.ns
        elif item.flow.daemon in waiting and item.to_daemon:
            found = by_flow.setdefault(item.flow, Takeover(item.flow, waiting[item.flow.daemon][1]))
            found.said.append(item)
    return [one for one in by_flow.values() if any(isinstance(item.message, ClientReconnect) for item in one.said)]


def flushes_sent_again(items: Iterable[Item]) -> list[tuple[int, int]]:
    """Inode and tid of each flush that went to more than one MDS daemon."""
    told: dict[tuple[int, int], set[str]] = defaultdict(set)
    for item in items:
        if isinstance(item, Traced) and item.to_daemon and isinstance(item.message, ClientCaps) and item.message.dirty:
            told[item.message.ino, item.header.tid].add(item.flow.daemon)
    return [flush for flush, daemons in told.items() if len(daemons) > 1]


def _kind(item: Traced) -> str:
    message = item.message
    match message:
        case ClientRequest() if message.flags & RequestFlag.REPLAY:
            return "replayed request"
        case ClientRequest() if message.num_retry or message.ext_num_retry:
            return "retried request"
        case ClientRequest():
            return "request"
        case ClientReconnect():
            return RECONNECT
        case ClientCaps() if message.dirty or message.op == CapOp.FLUSHSNAP:
            return "flush"
        case ClientSession():
            return SessionOp(message.op).name
    return type(message).__name__


def _address(info: MdsInfo) -> str:
    """As `Flow.daemon` has it: the one of messenger v2 where there are two."""
    addr = address_of(info.addrs) or address_of(info.addrs, AddrType.LEGACY)
    assert addr is not None, info
    return f"{addr.host}:{addr.port}"
