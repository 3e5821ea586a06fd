"""In which order a client dealt with what was captured.

What it sent, it sent in the order of the capture. What ranks sent it, it read later than it was captured: all of one
rank in its order, but now of one rank, now of another (ceph: src/msg/DispatchQueue.cc, a queue for each connection, in
turns; who reads may wait for a caller meanwhile). So a rank's messages wait for whatever shows that it came first.
"""

from __future__ import annotations

from collections.abc import Iterator

from cephcaps.engine.inode import newer
from cephcaps.trace.replay.evidence import Evidence, sent_before
from cephcaps.trace.replay.order_caps import before_caps
from cephcaps.trace.replay.order_snaps import before_snap, seq_of_news, snapped_before
from cephcaps.trace.replay.said import NAMES_SEQ
from cephcaps.trace.replay.steps import Step
from cephwire.snap import ClientSnap

__all__ = ["Order"]


class Order:
    """Says of each message whether the client had come to it; of one client."""

    def __init__(self, at: Evidence) -> None:
        self._at = at
        self._waits: dict[int, Step | None] = {}
        """By rank whose messages wait, what they wait for; None when that is over, and they are read one by one."""

    def puts_off(self, step: Step) -> bool:
        """Whether ``step``, which a rank sent, is read only later."""
        if step.rank not in self._waits:
            last = self._last_before(step)
            if last is None:
                return False
            self._waits[step.rank] = last
        self._at.window.put_aside(step)
        return True

    def ready(self) -> Step | None:
        """The next that waited and is read now."""
        for rank, awaited in list(self._waits.items()):
            if awaited is not None and not awaited.dealt:
                continue
            self._waits[rank] = None
            first = next(iter(self._at.window.aside(self._at.client, rank)), None)
            if first is None:
                del self._waits[rank]
                continue
            awaited = self._last_before(first)
            if awaited is None:
                return first
            self._waits[rank] = awaited
        return None

    def comes_first(self, step: Step) -> list[Step]:
        """What the client dealt with next before it sent ``step``: what that shows to be read though it waits; and
        before that, what it waits for if that was sent elsewhere and captured later, as of two connections either may
        be the quicker. Empty when there is no more."""
        for rank, awaited in self._waits.items():
            waiting = list(self._at.window.aside(self._at.client, rank))
            named = self._named(step, waiting) if rank == step.rank else 0
            if awaited is not None and awaited.item.to_daemon and sent_before(awaited, step):
                if named or self._flushes_for(step, waiting):
                    return [self._at.window.next_sent(awaited)]
            elif named:
                return waiting[:named]
        return []

    def _named(self, step: Step, waiting: list[Step]) -> int:
        """How many of what waits the client has read, as it names a seq of the last."""
        named: dict[tuple[int, int], tuple[int, int]] = {}
        for said in step.said:
            if said.op in NAMES_SEQ or said.op == "caprelease":
                seq = said.seq if said.op in NAMES_SEQ else said.issue_seq
                known = named.get((said.ino, said.cap_id))
                if known is None or newer(seq, known[0]) > 0:
                    named[said.ino, said.cap_id] = seq, said.mseq
        upto = 0
        for number, one in enumerate(waiting, 1) if named else ():
            for told in one.told:
                seq, mseq = named.get((told.ino, told.cap_id)) or (0, -1)
                if mseq >= 0 and newer(seq, told.seq) >= 0 and newer(mseq, told.mseq) >= 0:
                    upto = number
        return upto

    def _flushes_for(self, step: Step, waiting: list[Step]) -> bool:
        """Whether it flushes for a snapshot that something of what waits tells of."""
        made = {said.follows + 1 for said in step.said if said.op == "flushsnap"}
        news = (one for one in waiting if isinstance(one.item.message, ClientSnap)) if made else ()
        return any(seq_of_news(self._at, one) in made for one in news)

    def _last_before(self, step: Step) -> Step | None:
        """What the client dealt with last of what it had to before it read ``step``."""
        last = None
        for one in self._before(step):
            if one is not None and (last is None or one.number > last.number) and not self._in_turn(one, step.rank):
                last = one
        return last

    def _before(self, step: Step) -> Iterator[Step | None]:
        if isinstance(step.item.message, ClientSnap):
            yield from before_snap(self._at, step)
        else:
            yield from before_caps(self._at, step)
            yield snapped_before(self._at, step)

    def _in_turn(self, one: Step, rank: int) -> bool:
        """Whether ``one`` itself waits for something that ``rank`` sent: one of the two is mistaken."""
        seen: set[int] = set()
        awaited: Step | None = one
        while awaited is not None and not awaited.item.to_daemon and awaited.rank not in seen:
            if awaited.rank == rank:
                return True
            seen.add(awaited.rank)
            awaited = self._waits.get(awaited.rank)
        return False
