"""The messages of a trace in the order in which the client dealt with them, and a look at what it says next.

A capture shows when messages passed, not when they were taken in: what a client sends may have been on its way when
something arrived. What it says of a cap names the ``seq`` it knows, and so tells what it had not seen yet.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple, TypeAlias

from cephcaps.trace.items import Traced
from cephcaps.trace.replay.said import Said, said_in
from cephcaps.trace.replay.told import Told, told_in
from cephwire.caps import CapOp, ClientCaps
from cephwire.reconnect import ClientReconnect
from cephwire.request import ClientRequest
from cephwire.session import ClientSession, SessionOp

__all__ = ["Client", "Step", "Window"]

Client: TypeAlias = int | str
"""Its global id or, while that is unknown, its address."""

LOOKAHEAD: Final = 20_000
"""Messages that are looked ahead at most."""
LOOKAHEAD_BYTES: Final = 64 << 20
"""Bytes of these."""
LEAVING: Final = 1000
"""Messages among which the end of a session is looked for."""


class Step:
    """One message between a client and an MDS, or a map.

    Attributes:
        rank: of the MDS; -1 for a monitor.
        said: what the client says in it about caps.
        told: what the MDS tells of caps.
        dealt: whether the client has come to it.
    """

    __slots__ = ("client", "dealt", "item", "number", "rank", "said", "size", "told")

    def __init__(self, number: int, client: Client, rank: int, item: Traced) -> None:
        self.number: int = number
        self.client: Client = client
        self.rank: int = rank
        self.item: Traced = item
        self.dealt: bool = False
        self.size: int = sum(map(len, item.segments))
        self.said: list[Said] = said_in(rank, item.message, item.header.tid) if item.to_daemon else []
        self.told: tuple[Told, ...] = () if item.to_daemon else tuple(told_in(item.message))


class Ahead(NamedTuple):
    """Something a client is about to say."""

    said: Said
    step: Step


class Window:
    """The stretch of the trace that is looked at."""

    def __init__(self) -> None:
        self._steps: OrderedDict[int, Step] = OrderedDict()
        self._ahead: dict[tuple[Client, int, int], deque[Ahead]] = {}
        self._snaps: dict[Client, dict[int, Step]] = {}
        self._sent: dict[tuple[Client, int], OrderedDict[int, Step]] = {}
        self._resets: dict[tuple[Client, int], deque[int]] = {}
        self._aside: dict[Client, dict[int, OrderedDict[int, Step]]] = {}
        """By client and rank, what waits to be read."""
        self._waiting = 0
        self._imports: dict[tuple[Client, int, int], deque[Step]] = {}
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self) >= LOOKAHEAD or self._bytes >= LOOKAHEAD_BYTES

    def __len__(self) -> int:
        return len(self._steps) + self._waiting

    def add(self, step: Step) -> None:
        self._steps[step.number] = step
        self._bytes += step.size
        if not step.item.to_daemon:
            if ends := _ends(step):
                self._imports.setdefault(ends, deque()).append(step)
            return
        self._sent.setdefault((step.client, step.rank), OrderedDict())[step.number] = step
        if _begins_anew(step.item.message):
            self._resets.setdefault((step.client, step.rank), deque()).append(step.number)
        for said in step.said:
            self._ahead.setdefault((step.client, step.rank, said.ino), deque()).append(Ahead(said, step))
            if said.op == "flushsnap":
                self._snaps.setdefault(step.client, {})[step.number] = step

    def first(self) -> Step:
        """The next; what was put aside only when there is nothing else."""
        if not self._steps:
            return next(iter(next(iter(next(iter(self._aside.values())).values())).values()))
        return next(iter(self._steps.values()))

    def put_aside(self, step: Step) -> None:
        """``step`` is read later, and with it all that its rank sends the client."""
        del self._steps[step.number]
        self._aside.setdefault(step.client, {}).setdefault(step.rank, OrderedDict())[step.number] = step
        self._waiting += 1

    def aside(self, client: Client, rank: int) -> Iterable[Step]:
        """What was put aside of what the rank sent the client."""
        return self._aside.get(client, {}).get(rank, OrderedDict[int, Step]()).values()

    def is_aside(self, step: Step) -> bool:
        return step.number not in self._steps

    def take(self, step: Step) -> None:
        """``step`` is dealt with now."""
        step.dealt = True
        self._bytes -= step.size
        if self._steps.pop(step.number, None) is None:
            self._take_back(step)
        if ends := _ends(step):
            self._imports[ends].remove(step)
            if not self._imports[ends]:
                del self._imports[ends]
        sent = self._sent.get((step.client, step.rank))
        if sent is None or sent.pop(step.number, None) is None:
            return
        if not sent:
            del self._sent[step.client, step.rank]
        resets = self._resets.get((step.client, step.rank))
        if resets and resets[0] == step.number:
            resets.popleft()
            if not resets:
                del self._resets[step.client, step.rank]
        for said in step.said:
            self._passed(step, said)
        snaps = self._snaps.get(step.client)
        if snaps is not None:
            snaps.pop(step.number, None)
            if not snaps:
                del self._snaps[step.client]

    def _take_back(self, step: Step) -> None:
        aside = self._aside[step.client]
        del aside[step.rank][step.number]
        if not aside[step.rank]:
            del aside[step.rank]
        if not aside:
            del self._aside[step.client]
        self._waiting -= 1

    def spoken(self, ahead: Ahead) -> None:
        """Of ``ahead``'s step this one statement is dealt with now."""
        ahead.step.said.remove(ahead.said)
        self._passed(ahead.step, ahead.said)

    def reconnects(self, step: Step) -> list[Step]:
        """The parts of the RECONNECT that the client sends over the connection of ``step``: with it or after it."""
        place = step.client, step.rank
        coming = self._sent[place].values() if place in self._resets else ()
        return [
            other
            for other in (step, *coming)
            if isinstance(other.item.message, ClientReconnect) and other.item.flow is step.item.flow
        ]

    def _passed(self, step: Step, said: Said) -> None:
        key = step.client, step.rank, said.ino
        queue = self._ahead[key]
        if queue[0].said is said:
            queue.popleft()
        else:
            queue.remove(Ahead(said, step))
        if not queue:
            del self._ahead[key]

    def leaves(self, client: Client, rank: int) -> bool:
        """Whether the client asks to close its session before it asks for anything else."""
        for step in islice(self._sent.get((client, rank), OrderedDict()).values(), LEAVING):
            message = step.item.message
            if isinstance(message, ClientRequest):
                return False
            if isinstance(message, ClientSession) and message.op == SessionOp.REQUEST_CLOSE:
                return True
        return False

    def coming(self, client: Client, until: int) -> Iterator[Step]:
        """What MDSs tell the client next, as far as it was captured up to ``until``, in nanoseconds."""
        aside = chain.from_iterable(steps.values() for steps in self._aside.get(client, {}).values())
        yield from sorted(aside, key=lambda step: step.number)
        for step in self._steps.values():
            if step.item.ns > until:
                return
            if step.client == client and not step.item.to_daemon:
                yield step

    def next_sent(self, alike: Step) -> Step:
        """The next that the client sends to the rank to which it is going to send ``alike``."""
        return next(iter(self._sent[alike.client, alike.rank].values()))

    def imports(self, client: Client, rank: int, ino: int) -> Iterable[Step]:
        """The IMPORTs to come that end the client's cap from ``rank``."""
        return self._imports.get((client, rank, ino), ())

    def first_ahead(self, client: Client, rank: int, ino: int) -> Ahead | None:
        return next(self.ahead(client, rank, ino), None)

    def ahead(self, client: Client, rank: int, ino: int) -> Iterator[Ahead]:
        """What the client is going to say to ``rank`` of ``ino``, in its order, while both count on from where they
        are."""
        resets = self._resets.get((client, rank))
        for ahead in self._ahead.get((client, rank, ino), ()):
            if resets and ahead.step.number >= resets[0]:
                return
            yield ahead

    def snaps(self, client: Client) -> list[Ahead]:
        """The FLUSHSNAPs it is going to send."""
        return [Ahead(said, step) for step in self._snaps.get(client, {}).values() for said in step.said]


def _ends(step: Step) -> tuple[Client, int, int] | None:
    """If it is an IMPORT, whose cap from which rank on which inode it ends."""
    message = step.item.message
    if step.item.to_daemon or not isinstance(message, ClientCaps) or message.op != CapOp.IMPORT or not message.peer:
        return None
    return step.client, message.peer.mds, message.ino


def _begins_anew(message: object) -> bool:
    """Whether a client's message makes both sides count from the beginning."""
    return isinstance(message, ClientReconnect) or (
        isinstance(message, ClientSession) and message.op == SessionOp.REQUEST_OPEN
    )
