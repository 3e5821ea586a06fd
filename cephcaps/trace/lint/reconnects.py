"""What a client sends to a rank that comes up anew, and in which order."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Ended, Report, Rules
from cephcaps.trace.lint.state import Session, State
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.reconnect import ClientReconnect
from cephwire.request import ClientRequest, RequestFlag
from cephwire.session import ClientSession, SessionOp

__all__ = ["Reconnects"]

ORDER: Final = Rule(
    "reconnect-order",
    "a rank that comes up anew is sent the requests it had answered unsafely and flushes of bits others may get, then "
    "the RECONNECT, then all else; nothing before it gives caps back",
    "kernel: fs/ceph/mds_client.c, send_mds_reconnect; ceph: src/client/Client.cc, send_reconnect (ceph PR 3792); "
    "src/mds/Server.cc, dispatch",
)


class Reconnects(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (ORDER,)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._early: Recent[int, list[tuple[Traced, str, int | None]]] = Recent()
        """By session that is not open: what does not belong before a RECONNECT."""
        self._told: Recent[int, bool] = Recent()
        """Sessions that began with a RECONNECT."""

    def _before(self, session: Session, item: Traced, what: str, ino: int | None = None) -> None:
        if session.open or session.whole:
            return
        found = self._early.get(session.number)
        if found is None:
            found = self._early[session.number] = []
        if len(found) < 4:
            found.append((item, what, ino))

    def sent(self, session: Session, item: Traced) -> None:
        message = item.message
        if isinstance(message, ClientCapRelease):
            self._before(session, item, f"a CAPRELEASE of {len(message.caps)} caps")
        elif isinstance(message, ClientCaps) and message.op != CapOp.FLUSHSNAP and not message.dirty:
            self._before(session, item, "a cap update that flushes nothing", message.ino)

    def requested(self, session: Session, item: Traced, message: ClientRequest) -> None:
        replayed = bool(message.flags & RequestFlag.REPLAY)
        if replayed and self._told.get(session.number):
            what = f"request {item.header.tid}, answered unsafely before, is sent again after the RECONNECT"
            self.found(ORDER, session, what, ns=item.ns)
        ino = message.releases[0].ino if message.releases else None
        if ino is not None and (replayed or not session.open):
            what = f"request {item.header.tid} gives back {len(message.releases)} caps"
            if replayed:
                self.found(ORDER, session, what + " when it is replayed", ns=item.ns, ino=ino)
            else:
                self._before(session, item, what, ino)

    def session_sent(self, session: Session, item: Traced, message: ClientSession) -> None:
        if message.op == SessionOp.REQUEST_OPEN:
            self._early.pop(session.number)
            self._told.pop(session.number)

    def reconnected(self, session: Session, item: Traced, message: ClientReconnect) -> None:
        for early, what, ino in self._early.pop(session.number) or ():
            self.found(ORDER, session, f"{what} before the RECONNECT", ns=early.ns, ino=ino)
        self._told[session.number] = not message.more

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        self._early.pop(session.number)
        self._told.pop(session.number)
