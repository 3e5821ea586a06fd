"""What our engine has said and the client not yet, and what becomes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.rules import rule_for
from cephcaps.trace.replay.said import Said
from cephcaps.trace.replay.steps import Client

__all__ = ["Expected"]


class Expected:
    """Holds the client's statements about each inode against our engine's, in their order."""

    def __init__(self, client: Client, tally: Tally, found: Callable[[Difference], None]) -> None:
        self._client = client
        self._tally = tally
        self._found = found
        self._queues: dict[tuple[int, int], deque[tuple[Said, int]]] = {}
        self._tids: dict[int, int] = {}
        """The client's flush tids still on their way: ours."""
        self._newest = (0, 0)

    def add(self, said: list[Said], ns: int) -> None:
        """Our engine says this."""
        for one in said:
            self._queues.setdefault((one.rank, one.ino), deque()).append((one, ns))

    def waits(self, rank: int, ino: int) -> bool:
        return (rank, ino) in self._queues

    def ours(self, tid: int) -> int:
        """Our tid of the client's flush ``tid``; 0 if that is new."""
        return self._tids.get(tid, 0)

    def acknowledged(self, tid: int) -> int:
        """The MDS acknowledges the client's ``tid``: which of ours that is."""
        return self._tids.get(tid, 0)

    def meet(self, said: Said, ns: int) -> Said | None:
        """The client says ``said``; gives what ours says there, None if nothing."""
        queue = self._queues.get((said.rank, said.ino))
        expected: Said | None = None
        if queue is not None:
            at = next((n for n, (one, _) in enumerate(queue) if not self._fields(said, one)), -1)
            if at < 0:
                at = next((n for n, (one, _) in enumerate(queue) if alike_in_kind(said, one)), -1)
            for _ in range(at):
                self._report(said.rank, None, *queue.popleft())
            if at >= 0:
                expected = queue.popleft()[0]
            if not queue:
                del self._queues[said.rank, said.ino]
        self._compare(said, expected, ns)
        return expected

    def forget(self, rank: int) -> None:
        """The session is over: what was still to be said need not be."""
        for key in [key for key in self._queues if key[0] == rank]:
            del self._queues[key]

    def end(self, rank: int | None = None) -> None:
        """The client says nothing more."""
        for key in [key for key in self._queues if rank is None or key[0] == rank]:
            for one, ns in self._queues.pop(key):
                self._report(key[0], None, one, ns)

    def _fields(self, said: Said, expected: Said) -> tuple[str, ...]:
        fields = said.differs(expected)
        if (said.tid or expected.tid) and not self._tids_agree(said.tid, expected.tid):
            fields += ("tid",)
        return fields

    def _tids_agree(self, tid: int, ours: int) -> bool:
        """Tids are the client's own; what must agree is which flush came first, and which is one sent again."""
        known = self._tids.get(tid)
        if known is not None:
            return known == ours
        return bool(tid and ours) and ours not in self._tids.values()

    def _compare(self, said: Said, expected: Said | None, ns: int) -> None:
        if expected is None:
            self._report(said.rank, said, None, ns)
            return
        fields = self._fields(said, expected)
        if said.tid and expected.tid:
            self._tids[said.tid] = expected.tid
        if fields:
            self._difference(said.rank, said, expected, ns, fields)
        else:
            self._tally.compared += 1
            self._tally.alike += 1

    def _report(self, rank: int, said: Said | None, expected: Said | None, ns: int) -> None:
        self._difference(rank, said, expected, ns, ())

    def _difference(
        self, rank: int, said: Said | None, expected: Said | None, ns: int, fields: tuple[str, ...]
    ) -> None:
        either = said or expected
        assert either is not None
        rule = rule_for(said, expected, fields)
        self._tally.compared += 1
        if rule:
            self._tally.explained[rule] += 1
        else:
            self._tally.unexplained += 1
        self._found(Difference(self._client, rank, either.ino, ns, said, expected, fields, rule))

    def finished(self, tid: int) -> None:
        self._tids.pop(tid, None)


def alike_in_kind(said: Said, expected: Said) -> bool:
    """Whether the two are about the same matter, be they otherwise as they may."""
    kinds = {"flush": "update"}
    return kinds.get(said.op, said.op) == kinds.get(expected.op, expected.op)
