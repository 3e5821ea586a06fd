"""A whole trace replayed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias, TypeVar

from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.replay.client import CapturedClient
from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.steps import Client, Step, Window
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import ClientCaps
from cephwire.entity import EntityType
from cephwire.lease import ClientLease
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply
from cephwire.request import ClientRequest
from cephwire.session import ClientSession
from cephwire.snap import ClientSnap

__all__ = ["Replay"]

T = TypeVar("T")

Ends: TypeAlias = tuple[Client, str]
"""A client, and a daemon's address."""

FED: Final = (
    ClientCaps,
    ClientCapRelease,
    ClientLease,
    ClientReconnect,
    ClientReply,
    ClientRequest,
    ClientSession,
    ClientSnap,
)
LOSES: Final = ("gap", "skipped", "malformed", "sealed", "tampered")
"""Problems after which it is not known what passed."""

CLIENTS: Final = 1000
"""Clients that are replayed at most."""
GAPS: Final = 10_000
"""Gaps ahead that are kept account of."""
FAILURE: Final = 200
"""Characters of what our engine says."""
NAMELESS: Final = 20_000
"""Messages to daemons that have not said yet which they are, at most: to a rank that comes up anew a client may send
thousands before that speaks."""


class Replay:
    """Replays every client of a trace, or those that are wanted.

    Args:
        found: is given each difference.
        clients: global ids; empty for all.
        inos: inodes whose messages count; empty for all. The others are replayed too.
    Attributes:
        failures: messages our engine could not take in, by what it says.
        strangers: messages of clients beyond those that are kept account of.
    """

    def __init__(
        self, found: Callable[[Difference], None], clients: Iterable[int] = (), inos: Iterable[int] = ()
    ) -> None:
        self._found = found
        self._wanted = frozenset(clients)
        self._inos = frozenset(inos)
        self._window = Window()
        self._clients: dict[Client, CapturedClient] = {}
        self._number = 0
        self._gaps: deque[tuple[int, Client, int]] = deque()
        """After which message something is missing, by client and rank."""
        self._nameless: dict[Ends, list[Traced]] = {}
        """What was sent to a daemon that has not spoken since, be that over connections that broke before it could."""
        self._held = 0
        self._dropped: Recent[Ends, bool] = Recent()
        """Between whom not all of that could be kept."""
        self.failures: Counter[str] = Counter()
        self.strangers: int = 0

    @property
    def tallies(self) -> dict[Client, Tally]:
        """Counts of each client, by its global id or, while that is unknown, its address."""
        return {client: one.tally for client, one in self._clients.items()}

    def take(self, item: Item) -> None:
        """The next of the trace."""
        if isinstance(item, Problem):
            self._problem(item)
            return
        if item.resent or not isinstance(item.message, FED):
            return
        flow = item.flow
        ends = _client(flow), flow.daemon
        if flow.daemon_num is None:
            self._hold_back(ends, item)
            return
        if self._dropped.pop(ends):
            self._gaps.append((self._number, _client(flow), flow.daemon_num))
        if ends in self._nameless:
            earlier = self._nameless.pop(ends)
            self._held -= len(earlier)
            for one in earlier:
                self._add(flow, one)
        self._add(flow, item)

    def _hold_back(self, ends: Ends, item: Traced) -> None:
        """A daemon says who it is when it first speaks over a connection; the client may have said much by then."""
        self._nameless.setdefault(ends, []).append(item)
        self._held += 1
        if self._held > NAMELESS:
            oldest = next(iter(self._nameless))
            self._held -= len(self._nameless[oldest])
            del self._nameless[oldest]
            self._dropped[oldest] = True

    def _add(self, flow: Flow, item: Traced) -> None:
        if flow.daemon_type != EntityType.MDS or flow.daemon_num is None:
            return
        client = _client(flow)
        if self._wanted and client not in self._wanted:
            return
        self._number += 1
        self._window.add(Step(self._number, client, flow.daemon_num, item))
        while self._window.full:
            self._next()

    def end(self) -> None:
        """There is no more."""
        while self._window:
            self._next()
        for client in self._clients.values():
            client.expected.end()

    def _problem(self, item: Problem) -> None:
        flow = item.flow
        if flow is None or item.kind not in LOSES or flow.daemon_type != EntityType.MDS or flow.daemon_num is None:
            return
        client = _client(flow)
        self._gaps.append((self._number, client, flow.daemon_num))
        if len(self._gaps) > GAPS:
            self._pass_gaps(self._gaps[0][0])

    def _pass_gaps(self, number: int) -> None:
        """All gaps up to message ``number``."""
        while self._gaps and self._gaps[0][0] <= number:
            _, client, rank = self._gaps.popleft()
            if client in self._clients:
                self._clients[client].lost_track(rank)

    def _next(self) -> None:
        step = self._window.first()
        self._pass_gaps(step.number - 1)
        client = self._of(step.client)
        if client is None:
            self.strangers += 1
            self._window.take(step)
            return
        if step.item.to_daemon:
            while earlier := self._safely(step, client.order.comes_first):
                for one in earlier:
                    self._deal(client, one)
                self._read_on(client, step)
        elif not self._window.is_aside(step) and self._safely(step, client.order.puts_off):
            return
        self._deal(client, step)
        self._read_on(client, step)

    def _read_on(self, client: CapturedClient, step: Step) -> None:
        """What waited for ``step`` is read now."""
        while (ready := self._safely(step, lambda _: client.order.ready())) is not None:
            self._deal(client, ready)

    def _deal(self, client: CapturedClient, step: Step) -> None:
        self._window.take(step)
        self._safely(step, client.sent if step.item.to_daemon else client.received)

    def _safely(self, step: Step, deal: Callable[[Step], T]) -> T | None:
        """A capture may hold anything: what our engine cannot take in ends what is known of the session."""
        try:
            return deal(step)
        except Exception as error:
            self.failures[f"{type(error).__name__}: {error}"[:FAILURE]] += 1
            self._clients[step.client].lost_track(step.rank)
            return None

    def _of(self, client: Client) -> CapturedClient | None:
        found = self._clients.get(client)
        if found is None and len(self._clients) < CLIENTS:
            found = self._clients[client] = CapturedClient(client, self._window, self._found, self._inos)
        return found


def _client(flow: Flow) -> Client:
    return flow.client if flow.client_id is None else flow.client_id
