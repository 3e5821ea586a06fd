"""A trace as a table for people: one line a message, with what matters in it.

Somebody who asks which inode, which bits and since when should not have to look anything up: inodes are shown with
their path as far as the trace has told it, grants and revokes with the bits that came or went, and answers with the
time they took.
"""

from __future__ import annotations

from functools import lru_cache

from cephcaps.trace.details import details
from cephcaps.trace.facts import client_of, daemon_of
from cephcaps.trace.fields import TYPES, op_of
from cephcaps.trace.items import Flow, Problem, Traced
from cephcaps.trace.known import Known, Learned, Revoke
from cephcaps.trace.view import View, clock, duration
from cephcaps.trace.words import CAPS

__all__ = ["Table", "label"]


def label(item: Traced) -> str:
    """Type and op: ``client_caps(grant)``."""
    op = op_of(item.message)
    name = TYPES[item.header.type]
    return f"{name}({op})" if op else name


class Table:
    """Turns items into lines, in the order of the trace.

    Args:
        sought: inode numbers that lists of inodes are shortened to, if any.
        absolute: show local time and not seconds since the first message.
    """

    def __init__(self, *, sought: frozenset[int] = frozenset(), absolute: bool = False) -> None:
        self.known: Known = Known()
        self._sought = sought
        self._absolute = absolute
        self._first: int | None = None
        self._last_view: View | None = None

    def take(self, item: Traced) -> Learned:
        """Take note of a message; to be asked of all of them, and handed to `message` of those that are shown."""
        if self._first is None:
            self._first = item.ns
        return self.known.take(item)

    def _time(self, ns: int) -> str:
        if self._absolute:
            return clock(ns)
        return f"{(ns - (self._first or ns)) / 1e9:11.6f}"

    def message(self, item: Traced, learned: Learned) -> str:
        """The line of a message, of which `take` has said ``learned``. It may hold any characters."""
        if item.error is not None:
            said = str(item.error)
        elif item.message is None:
            said = f"{sum(map(len, item.segments))} bytes"
        else:
            said = details(self._view(item.flow), item, learned)
        line = f"{self._time(item.ns)}  {_ends(item.flow, item.to_daemon)}  {label(item):<26}  {said}"
        if item.resent:
            line += "  sent again"
        if item.leftover:
            line += f"  {sum(skipped.size for skipped in item.leftover)} bytes left over"
        return line.rstrip()

    def _view(self, flow: Flow) -> View:
        view = self._last_view
        if view is None or view.flow is not flow:
            view = self._last_view = View(self.known, flow, self._sought)
        return view

    def problem(self, item: Problem) -> str:
        """The line of a problem."""
        time = self._time(item.ns) if item.ns else f"{'':11}"
        where = "" if item.flow is None else f"  {_ends(item.flow, item.to_daemon).rstrip()}"
        return f"{time}{where}  {item.kind}: {item.what}"

    def unanswered(self, revoke: Revoke, path: str, now: int) -> str:
        """The line of a revoke that had no answer at ``now``."""
        client = f"client.{revoke.client}" if isinstance(revoke.client, int) else revoke.client
        daemon = revoke.daemon if revoke.rank is None else f"mds.{revoke.rank}"
        return (
            f"{client} has not answered the revoke{f' of {CAPS[revoke.lost]}' if revoke.lost else ''} on "
            f"{revoke.ino:#x} {path} by {daemon}, seq {revoke.seq}, for {duration(now - revoke.ns)}"
        )


def _ends(flow: Flow, to_daemon: bool | None) -> str:
    return _ends_text(flow.client, flow.client_id, flow.daemon, flow.daemon_type, flow.daemon_num, to_daemon)


@lru_cache(256)
def _ends_text(
    client: str, client_id: int | None, daemon: str, daemon_type: int | None, num: int | None, to_daemon: bool | None
) -> str:
    flow = Flow(0, client, daemon, client_id, daemon_type, num)
    arrow = "--" if to_daemon is None else "->" if to_daemon else "<-"
    return f"{client_of(flow) or client} {arrow} {daemon_of(flow) or daemon:<5}"
