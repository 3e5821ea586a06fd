"""What can go wrong on a test cluster, when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cephcaps.testing.daemon import Daemon
from cephcaps.testing.mds.server import Mds
from cephcaps.testing.mds.session import Session
from cephcaps.testing.serving import Served, now_ns
from cephwire.entity import EntityType
from cephwire.request import FilePath
from cephwire.snap import SnapOp

if TYPE_CHECKING:
    from cephcaps.testing.cluster import TestCluster

__all__ = ["Faults"]


class Faults:
    """Done at once, unless said otherwise; clients are named by their global id, and None is all of them."""

    def __init__(self, cluster: TestCluster, mon: Served, mds: dict[int, Served]) -> None:
        self._cluster = cluster
        self._mon = mon
        self._ranks = mds

    @property
    def _mds(self) -> Served:
        return self._ranks[0]

    def cut(self, client: int | None = None, *, mon: bool = False) -> int:
        """Break connections to the MDS, or to the monitor, as a failing network does; returns how many."""
        served = self._mon if mon else self._mds
        cut = 0
        for connection, socket in list(served.sockets.items()):
            if client is None or connection.global_id == client:
                socket.abort()
                cut += 1
        return cut

    async def fail_mds(self, *, after: float = 0.0) -> None:
        """Let the MDS die, and a standby take its rank ``after`` so many seconds: clients have to reconnect.

        Returns once the new one lets clients in; it is active when all have come back, or not come in time.
        """
        await self._cluster.fail_mds(0, after=after)

    def freeze(self) -> None:
        """Let the MDS stand still: it reads and answers nothing until `thaw`."""
        self._mds.frozen = True

    def thaw(self) -> None:
        """Let it go on after `freeze`: what came meanwhile is dealt with now."""
        self._mds.thaw()

    def drop(self, kind: type[Any], times: int = 1) -> None:
        """Lose the next messages of one class that the MDS would send, such as `cephwire.reply.ClientReply`.

        The messenger loses none, so this is a bug of an MDS and not of a network.
        """
        self._mds.daemon.gates.append(_Gate(self._mds.daemon, kind, times, None))

    def delay(self, kind: type[Any], seconds: float, times: int = 1) -> None:
        """Keep back the next messages of one class that the MDS would send, each for so long, and whatever comes after
        it to that client."""
        self._mds.daemon.gates.append(_Gate(self._mds.daemon, kind, times, seconds))

    def evict(self, client: int) -> None:
        """Let the MDS throw a client out and have it blocklisted, as ``client evict`` does."""
        self._in_mds(lambda mds: mds.sessions.evict(_session(mds, client)))

    def recall(self, client: int, max_caps: int) -> None:
        """Ask a client to keep no more caps than this."""
        self._in_mds(lambda mds: mds.sessions.recall(_session(mds, client), max_caps))

    def snapshot(self, path: str, name: str) -> None:
        """Let the MDS take a snapshot of a directory, as for a client that nobody sees."""

        def take(mds: Mds) -> None:
            directory = mds.walker.walk(FilePath(1, path.strip("/"))).live
            _, fresh = mds.snapshots.make(directory, name, now_ns(), {})
            mds.tell_realm(directory, SnapOp.SPLIT if fresh else SnapOp.UPDATE)

        self._in_mds(take)

    def stale(self, client: int) -> None:
        """Let a client's caps not count until it renews its session."""
        self._in_mds(lambda mds: mds.sessions.make_stale(_session(mds, client)))

    def _in_mds(self, step: Callable[[Mds], None]) -> None:
        mds = self._mds.daemon
        assert isinstance(mds, Mds)
        self._mds.enter(lambda now: mds.within(now, lambda: step(mds)))

    def expire_tickets(self, *, auth: bool = False) -> None:
        """No ticket for a service given so far is worth anything: who connects anew must get another.

        Args:
            auth: nor are those that monitors know a client by; who shows one is taken for somebody new.
        """
        sealing = self._cluster.keys.sealing
        for service in list(sealing):
            if auth or service != EntityType.AUTH:
                del sealing[service]


class _Gate:
    """Keeps back or loses so many messages of one class."""

    def __init__(self, daemon: Daemon, kind: type[Any], times: int, wait: float | None) -> None:
        self._daemon = daemon
        self._kind = kind
        self._left = times
        self._wait = wait

    def __call__(self, message: Any) -> float | None:
        if type(message) is not self._kind:
            return 0.0
        self._left -= 1
        if not self._left:
            self._daemon.gates.remove(self)
        return self._wait


def _session(mds: Mds, client: int) -> Session:
    found = mds.sessions.find(client)
    if found is None:
        raise LookupError(f"client.{client} has no session; there are {[each.name for each in mds.sessions]}")
    return found
