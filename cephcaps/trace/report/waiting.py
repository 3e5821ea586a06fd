"""Requests and flushes on their way, and how long an MDS took for those it has answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cephcaps.trace.known import Recent
from cephcaps.trace.report.durations import Durations

__all__ = ["Waiting", "Waits"]

REMEMBERED: Final = 50_000
MOST_KINDS: Final = 200


@dataclass(slots=True, eq=False)
class Waiting:
    """A request or a flush."""

    client: int
    daemon: int
    tid: int
    what: str
    """``create``, ``flush``, ``flushsnap``."""
    ino: int
    """The inode it names; of a request with a path, the one where that begins."""
    below: str
    at: int
    """When it was first sent, in microseconds."""
    answered: bool = False


class Waits:
    """What is waited for.

    Attributes:
        durations: by what was waited for.
    """

    def __init__(self) -> None:
        self.durations: dict[str, Durations] = {}
        self._requests: Recent[tuple[int, int], Waiting] = Recent(REMEMBERED)
        self._flushes: Recent[tuple[int, int], Waiting] = Recent(REMEMBERED)
        self._flushed: Recent[tuple[int, int], int] = Recent(REMEMBERED)
        """By client and inode: the newest flush that is done, and all older ones with it."""

    def request(self, sent: Waiting) -> None:
        """A request is sent, perhaps once more."""
        known = self._requests.get((sent.client, sent.tid))
        if known is None:
            self._requests[sent.client, sent.tid] = sent
        else:
            known.daemon = sent.daemon

    def reply(self, at: int, client: int, tid: int, safe: bool) -> tuple[Waiting | None, bool]:
        """What is answered, None if it is not known, and whether for the first time."""
        key = client, tid
        sent = self._requests.pop(key) if safe else self._requests.get(key)
        if sent is None or sent.answered:
            return sent, False
        sent.answered = True
        self._took(at, sent)
        return sent, True

    def flush(self, sent: Waiting) -> None:
        """A flush is sent, perhaps once more."""
        if self._flushes.get((sent.client, sent.tid)) is None:
            self._flushes[sent.client, sent.tid] = sent

    def flushed(self, at: int, client: int, tid: int) -> Waiting | None:
        """A flush is acknowledged."""
        sent = self._flushes.pop((client, tid))
        if sent is not None:
            self._took(at, sent)
            self._flushed[client, sent.ino] = max(tid, self._flushed.get((client, sent.ino)) or 0)
        return sent

    def unanswered(self) -> list[Waiting]:
        """What nothing has answered, the oldest first."""
        found = [sent for _, sent in self._requests.items() if not sent.answered]
        # An acknowledgement covers what was flushed before (kernel: fs/ceph/caps.c, handle_cap_flush_ack).
        found += [
            sent
            for _, sent in self._flushes.items()
            if sent.tid > (self._flushed.get((sent.client, sent.ino)) or 0) or sent.what == "flushsnap"
        ]
        return sorted(found, key=lambda sent: sent.at)

    def _took(self, at: int, sent: Waiting) -> None:
        durations = self.durations.get(sent.what)
        if durations is None:
            if len(self.durations) >= MOST_KINDS:
                return
            durations = self.durations[sent.what] = Durations()
        durations.add(at - sent.at)
