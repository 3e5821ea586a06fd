"""What is known around a client's statement, that rules ask about and no message of it tells."""

from __future__ import annotations

from functools import partial
from typing import Final

from cephcaps.engine.inode import Inode, InodeCap
from cephcaps.trace.known import Recent
from cephcaps.trace.replay.expected import Expected
from cephcaps.trace.replay.rules import Context
from cephcaps.trace.replay.said import NAMES_SEQ, Said, of_cap
from cephcaps.trace.replay.steps import Client, Window
from cephwire.capbits import Cap

__all__ = ["Circumstances"]

NS: Final = 1_000_000_000
TOGETHER: Final = NS
"""Within which what a client sent two ranks at once was captured."""


class Circumstances:
    """Keeps account of one client's statements."""

    def __init__(self, client: Client, window: Window, expected: Expected) -> None:
        self._client = client
        self._window = window
        self._expected = expected
        self._wished: Recent[tuple[int, int, int], int] = Recent()
        """What it last said to want of each cap."""
        self._reaching: Recent[int, bool] = Recent()
        """Inodes of which it may remember up to where it wanted to write."""
        self._flushed: Recent[int, tuple[int, int, int]] = Recent()
        """By inode, the last flush that was new: to which rank, its tid, and when."""
        self._alongside: Recent[tuple[int, int], int] = Recent()
        """By rank and inode, the flush to another rank that the last needless message went with."""

    def context(self, said: Said, ns: int, inode: Inode | None, cap: InodeCap | None) -> Context:
        """That of ``said``, before it counts."""
        leaving = partial(self._window.leaves, self._client, said.rank)
        if inode is None or cap is None:
            return Context(leaving=leaving)
        auth = inode.auth_cap
        return Context(
            elsewhere=auth.issued if auth is not None and auth is not cap else 0,
            had=of_cap("update", said.rank, said.ino, cap),
            revoking=cap.revoking,
            flushing=inode.flushing,
            leaving=leaving,
            stands_in=cap.standing_in,
            reach=self._at_the_end(inode, cap),
            alongside=partial(self._flushes_too, said, inode.auth_rank, ns),
        )

    def said(self, said: Said, ns: int) -> None:
        """It counts from now on."""
        if said.op in NAMES_SEQ:  # libcephfs wants nothing of a cap when a request's record gave some of it back
            self._wished[said.rank, said.ino, said.cap_id] = said.wanted
        if (said.wanted | said.dirty) & Cap.FILE_WR:
            self._reaching[said.ino] = True
        if said.op == "update" and said.dirty and not self._expected.ours(said.tid):
            self._flushed[said.ino] = said.rank, said.tid, ns

    def opened_to_write(self, ino: int) -> None:
        self._reaching[ino] = True

    def wished(self, said: Said) -> int | None:
        """What the client last said to want of that cap."""
        return self._wished.get((said.rank, said.ino, said.cap_id))

    def _at_the_end(self, inode: Inode, cap: InodeCap) -> bool:
        """Whether the client may say it needs more ``max_size`` than it has."""
        if cap.rank != inode.auth_rank:
            return False
        at_the_end = inode.size >= inode.max_size and bool(cap.issued & Cap.FILE_WR)
        return at_the_end or (not inode.max_size and bool(self._reaching.get(inode.ino)))

    def _flushes_too(self, said: Said, auth: int, ns: int) -> bool:
        """Whether it flushes changes to the authority together with ``said``: each flush goes with one such a rank."""
        if auth <= said.rank:
            return False
        rank, flush, at = self._flushed.get(said.ino) or (-1, 0, 0)
        told = self._alongside.get((said.rank, said.ino))
        if rank != auth or flush == told or ns > at + TOGETHER:
            coming = self._window.ahead(self._client, auth, said.ino)
            ahead = next((other for other in coming if other.said.op == "update"), None)
            if ahead is None or ahead.step.item.ns > ns + TOGETHER:
                return False
            flush = ahead.said.tid
            if not ahead.said.dirty or flush == told or self._expected.ours(flush):
                return False
        self._alongside[said.rank, said.ino] = flush
        return True
