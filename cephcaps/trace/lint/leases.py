"""Leases on names are given back when they are asked for."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.revokes import ENDS, PATIENCE
from cephcaps.trace.lint.rules import Ended, Report, Rules
from cephcaps.trace.lint.state import Session, State
from cephcaps.trace.view import duration
from cephwire.lease import ClientLease, LeaseAction

__all__ = ["Leases"]

MOST: Final = 3000
"""Leases asked for and not given back: each session's end looks at all of them."""

UNANSWERED: Final = Rule(
    "lease-revoke-unanswered",
    "the REVOKE of a dentry lease is answered by RELEASE or REVOKE_ACK under its seq, even for a name that is not "
    "known: until then, or until the lease runs out, whoever wants to change the name waits",
    "kernel: fs/ceph/mds_client.c, handle_lease; ceph: src/mds/Locker.cc, handle_client_lease",
)


class Leases(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (UNANSWERED,)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._open: dict[tuple[int, int, str], tuple[Session, int, ClientLease, str]] = {}

    def lease_heard(self, session: Session, item: Traced, message: ClientLease) -> None:
        if message.action != LeaseAction.REVOKE:
            return
        if len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        self._open[session.number, message.ino, message.dname] = session, item.ns, message, ""

    def lease_sent(self, session: Session, item: Traced, message: ClientLease) -> None:
        if message.action not in (LeaseAction.RELEASE, LeaseAction.REVOKE_ACK):
            return
        key = session.number, message.ino, message.dname
        found = self._open.get(key)
        if found is None:
            return
        _, ns, revoke, _ = found
        if message.seq == revoke.seq:
            del self._open[key]
        else:
            self._open[key] = session, ns, revoke, f"; it was answered under seq {message.seq}"

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        for key in [key for key, (one, *_) in self._open.items() if one is session]:
            found = self._open.pop(key)
            if how in ENDS:
                self._missing(*found, ENDS[how])

    def finish(self) -> None:
        for found in self._open.values():
            self._missing(*found, "until the trace ends")
        self._open.clear()

    def _missing(self, session: Session, ns: int, revoke: ClientLease, but: str, until: str) -> None:
        age = self.owed_ns(session, ns)
        if age >= PATIENCE:
            what = f"the lease on {revoke.dname!r} was not given back {until}, {duration(age)} later{but}"
            told = f"lease revoke seq {revoke.seq} dname {revoke.dname!r}"
            self.found(UNANSWERED, session, what, ino=revoke.ino, seq=revoke.seq, age_ns=age, told=told)
