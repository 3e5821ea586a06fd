"""What our engine has said and the client not yet, and what becomes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cephcaps.trace.known import Recent
from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.rules import Case, Context, rule_for
from cephcaps.trace.replay.said import Said
from cephcaps.trace.replay.steps import Client

__all__ = ["Expected"]

UNANSWERED = 1000
"""Statements about one cap that the client may owe."""
FLUSHES = 100_000
"""Flushes on their way that are kept account of."""


class Expected:
    """Holds the client's statements about each inode against our engine's, in their order."""

    def __init__(self, client: Client, tally: Tally, found: Callable[[Difference], None], inos: frozenset[int]) -> None:
        self._client = client
        self._tally = tally
        self._found = found
        self._inos = inos
        self._queues: dict[tuple[int, int, str], deque[tuple[Said, int]]] = {}
        """By rank, inode, and what they leave with: FLUSHSNAPs when data have been written, releases in company."""
        self._tids: dict[int, int] = {}
        """The client's flush tids still on their way: ours."""
        self._done: Recent[int, int] = Recent()
        """The same, of late acknowledged: those may have been sent again before that was read."""
        self._newest: dict[int, int] = {}
        """The client's highest flush tid at each rank."""
        self._flushed: Recent[int, tuple[int, int, int]] = Recent()
        """By inode, the tid of its last flush, to which rank, and the mseq of the cap."""
        self._heard: dict[int, int] = {}
        """When each rank last heard of the client."""

    def add(self, said: list[Said], ns: int) -> None:
        """Our engine says this."""
        for one in said:
            queue = self._queues.setdefault(_key(one), deque())
            queue.append((one, ns))
            if len(queue) > UNANSWERED:
                self._difference(None, *queue.popleft(), (), Context())

    def waits(self, said: Said) -> bool:
        """Whether our engine has said something of the kind of ``said`` before."""
        return any(answers_to(said, one) for one, _ in self._queues.get(_key(said), ()))

    def give_up(self, said: Said, surplus: int) -> bool:
        """The client answers with ``said``, and gives some of ``surplus`` back as well: so does ours; tells whether."""
        queue = self._queues.get(_key(said), deque())
        for at, (one, ns) in enumerate(queue):
            if one.answers and answers_to(said, one) and one.caps & surplus & ~said.caps:
                queue[at] = one._replace(caps=one.caps & ~(surplus & ~said.caps)), ns
                return True
        return False

    def heard(self, rank: int, ns: int) -> None:
        """The client says something to ``rank``."""
        self._heard[rank] = max(ns, self._heard.get(rank, 0))

    def ours(self, tid: int) -> int:
        """Our tid of the client's flush ``tid``; 0 if that is new."""
        return self._tids.get(tid, 0)

    def finished(self, tid: int) -> None:
        """The client's flush ``tid`` is acknowledged."""
        ours = self._tids.pop(tid, None)
        if ours is not None:
            self._done[tid] = ours

    def meet(self, said: Said, ns: int, context: Context, ours: Said | None = None) -> Said | None:
        """The client says ``said``; gives what ours says there, None if nothing.

        Args:
            ours: what that is; else it is looked for among what ours has said before.
        """
        queue = self._queues.get(_key(said))
        expected = ours
        if queue is not None and ours is None:
            at = next((n for n, (one, _) in enumerate(queue) if not self._fields(said, one)), -1)
            if at < 0:
                at = next((n for n, (one, _) in enumerate(queue) if answers_to(said, one)), -1)
            for _ in range(at):
                one, since = queue.popleft()
                self._difference(None, one, since, (), Context())
            if at >= 0:
                expected = queue.popleft()[0]
            if not queue:
                del self._queues[_key(said)]
        self._compare(said, expected, ns, context)
        return expected

    def forget(self, rank: int) -> None:
        """The session is over: what was still to be said need not be."""
        for key in [key for key in self._queues if key[0] == rank]:
            del self._queues[key]

    def end(self, rank: int | None = None) -> None:
        """The client says nothing more."""
        for key in [key for key in self._queues if rank is None or key[0] == rank]:
            for one, ns in self._queues.pop(key):
                self._difference(None, one, ns, (), Context(unheard=ns >= self._heard.get(key[0], 0)))

    def _fields(self, said: Said, expected: Said) -> tuple[str, ...]:
        fields = said.differs(expected)
        if (said.tid or expected.tid) and not self._tids_agree(said, expected.tid):
            fields += ("tid",)
        return fields

    def _tids_agree(self, said: Said, ours: int) -> bool:
        """Tids are each client's own; what must agree is which flush is one sent again. New ones only rise."""
        known = self._tids.get(said.tid) or self._done.get(said.tid)
        if known is not None:
            return known == ours
        return bool(said.tid and ours) and said.tid > self._floor(said) and ours not in self._tids.values()

    def _floor(self, said: Said) -> int:
        """What the tid of a new flush must be above: the first since the cap came from another rank may have been begun
        before, and have waited for the IMPORT while others of its rank went out."""
        tid, *came = self._flushed.get(said.ino) or (0, said.rank, 0)
        return self._newest.get(said.rank, 0) if came == [said.rank, said.mseq] else tid

    def _compare(self, said: Said, expected: Said | None, ns: int, context: Context) -> None:
        if expected is None:
            self._difference(said, None, ns, (), context)
            return
        fields = self._fields(said, expected)
        if said.tid and expected.tid and self._done.get(said.tid) is None:
            self._tids[said.tid] = expected.tid
            self._newest[said.rank] = max(said.tid, self._newest.get(said.rank, 0))
            self._flushed[said.ino] = said.tid, said.rank, said.mseq
            if len(self._tids) > FLUSHES:
                del self._tids[next(iter(self._tids))]
        if fields:
            self._difference(said, expected, ns, fields, context)
        elif not self._inos or said.ino in self._inos:
            self._tally.compared += 1
            self._tally.alike += 1

    def _difference(
        self, said: Said | None, expected: Said | None, ns: int, fields: tuple[str, ...], context: Context
    ) -> None:
        either = said or expected
        assert either is not None
        if self._inos and either.ino not in self._inos:
            return
        rule = rule_for(Case(said, expected, fields, context))
        self._tally.compared += 1
        if rule:
            self._tally.explained[rule] += 1
        else:
            self._tally.unexplained += 1
        self._found(Difference(self._client, either.rank, either.ino, ns, said, expected, fields, rule))


def answers_to(said: Said, expected: Said) -> bool:
    """Whether the two are about the same matter, be they otherwise as they may."""
    if expected.answers and (said.seq != expected.seq or said.dirty):
        return False
    return said.op == expected.op or {said.op, expected.op} == {"update", "flush"}


def _key(said: Said) -> tuple[int, int, str]:
    return said.rank, said.ino, said.op if said.op in ("flushsnap", "caprelease") else ""
