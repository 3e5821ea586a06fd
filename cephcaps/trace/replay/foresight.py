"""What a client is about to say tells what it has done by itself."""

from __future__ import annotations

from itertools import islice

from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.trace.replay.evidence import CROSSED, NEAR
from cephcaps.trace.replay.said import NAMES_SEQ, TELLS
from cephcaps.trace.replay.steps import Ahead, Client, Step, Window
from cephcaps.trace.replay.told import Told
from cephwire.capbits import Cap

__all__ = ["Foresight"]


class Foresight:
    """Looks ahead in the trace for one client."""

    def __init__(self, client: Client, window: Window) -> None:
        self._client = client
        self._window = window

    def answer(self, rank: int, told: Told, cap: InodeCap) -> Ahead | None:
        """What the client says in answer to ``told``; None if that asks for none."""
        if not (cap.issued | cap.implemented) & ~told.caps and not told.asks_back:
            return None
        lost = (cap.issued | cap.implemented) & ~told.caps
        for ahead in self._window.ahead(self._client, rank, told.ino):
            said = ahead.said
            if said.cap_id != told.cap_id and said.op != "flushsnap":
                return None  # it has given this one up
            # A request's record is no answer, but shows bits that are in use still.
            if said.op in TELLS or (said.op == "request" and said.seq == told.seq and said.caps & lost):
                return ahead if said.seq == told.seq else None
        return None

    def wanted(self, inode: Inode, answer: Ahead) -> int:
        """What the client wants of ``inode`` as it stands: the first rank that hears of it next tells."""
        first = answer
        for rank in inode.caps:
            ahead = self._window.first_ahead(self._client, rank, inode.ino)
            if ahead is not None and ahead.said.op in TELLS and ahead.step.number < first.step.number:
                first = ahead
        return first.said.wanted

    def kept(self, inode: Inode, rank: int, told: Told | None = None) -> int:
        """What the client, asked for it by others than ``rank``, answers them that it still uses; or what it answers
        them only when it has read more of what they sent, if it need not answer ``told``."""
        kept = 0
        for other in inode.caps.values():
            ahead = self._window.first_ahead(self._client, other.rank, inode.ino) if other.revoking else None
            if other.rank == rank or ahead is None or ahead.said.op not in TELLS or ahead.said.cap_id != other.cap_id:
                continue
            later = told is not None and not told.asks_back and newer(ahead.said.seq, other.seq) > 0
            kept |= other.revoking & (ahead.said.caps if not later else other.revoking)
        return kept

    def keeps_lazily(self, rank: int, told: Told, cap: InodeCap) -> bool:
        """Whether the client, asked for FILE_LAZYIO before ``told``, goes on to count it as in use."""
        if told.asks_back or not cap.revoking & Cap.FILE_LAZYIO:
            return False
        coming = (ahead.said for ahead in self._window.ahead(self._client, rank, told.ino))
        said = next((said for said in coming if said.op in TELLS), None)
        return said is not None and said.cap_id == told.cap_id and newer(said.seq, told.seq) > 0

    def takes(self, step: Step) -> bool:
        """Whether the client knows the inode of an IMPORT, be it without a cap: else it gives the cap back at once."""
        (told,) = step.told
        ahead = self._window.first_ahead(self._client, step.rank, told.ino)
        if ahead is None or ahead.said.cap_id != told.cap_id:
            return False
        return ahead.said.op in NAMES_SEQ or ahead.step.item.ns > step.item.ns + CROSSED

    def dropped(self, rank: int, told: Told, cap: InodeCap) -> Ahead | None:
        """The release that the client has queued already when it learns ``told``, if it has dropped the cap."""
        coming = [
            ahead
            for ahead in islice(self._window.ahead(self._client, rank, told.ino), NEAR)
            if ahead.said.cap_id == told.cap_id
        ]
        releases = [
            ahead for ahead in coming if ahead.said.op == "caprelease" and ahead.said.issue_seq == cap.issue_seq
        ]
        if not releases:
            return None
        if told.anew:
            return releases[0] if newer(cap.issue_seq, told.seq) < 0 else None
        # It is told that it has it no more: by a release of its own.
        again = any(ahead.said.op == "caprelease" and ahead.said.issue_seq == told.seq for ahead in coming)
        return releases[0] if coming[0] is releases[0] and again else None
