"""A client and an MDS that cannot agree that a cap is gone."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Report, Rules
from cephcaps.trace.lint.state import Cap, Claim, Session, State, Told
from cephcaps.trace.view import duration

__all__ = ["Loops"]

TIMES: Final = 10
"""Releases of one cap after which it is a loop: one, and one for each of a few messages that crossed it, are usual."""

LOOP: Final = Rule(
    "revoke-loop",
    "a cap that is released is gone: the MDS keeps it if the release names another issue_seq than its own, and issues, "
    "revokes and is sent releases for ever",
    "ceph: src/mds/Locker.cc, _do_cap_release (ceph PR 56828, tracker 64977; PRs 47752 and 51500 led to it)",
)


class Loops(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (LOOP,)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._released: Recent[tuple[int, int, int], tuple[int, int]] = Recent()  # how often, and since when

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        key = session.number, claim.ino, claim.cap_id
        times, since = self._released.get(key) or (0, claim.ns)
        times += 1
        self._released[key] = times, since
        if times == TIMES:
            what = f"released {times} times in {duration(claim.ns - since)}, and still revoked or granted in between"
            bits = 0 if cap is None or cap.told is None else cap.told.caps
            self.found(LOOP, session, what, cap=cap, ns=claim.ns, ino=claim.ino, bits=bits, said=claim)

    def told(self, session: Session, cap: Cap | None, told: Told) -> None:
        if told.issues:  # the client has asked for the inode again
            self._released.pop((session.number, told.ino, told.cap_id))
