"""Sequence numbers are those the MDS has given, the newest the client has read."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Report, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, Session, State, Told, after

__all__ = ["Seqs"]

BACK: Final = Rule(
    "seq-back",
    "a message about a cap never carries an older seq than one before it",
    "kernel: fs/ceph/caps.c, __prep_cap; ceph: src/mds/Capability.cc, confirm_receipt",
)
AHEAD: Final = Rule(
    "seq-ahead",
    "a message about a cap carries a seq the MDS has sent",
    "ceph: src/mds/Capability.cc, confirm_receipt: only the seq sent last completes a revoke",
)
ISSUE: Final = Rule(
    "issue-seq-wrong",
    "issue_seq is the seq of a reply or IMPORT that carried the cap, not of a GRANT or REVOKE, and never goes back",
    "kernel: fs/ceph/caps.c, ceph_add_cap; ceph: src/mds/Locker.cc, _do_cap_release and adjust_cap_wanted. Races: "
    "ceph PRs 47752, 51500 and 56828",
)
MSEQ: Final = Rule(
    "mseq-back",
    "mseq is the newest that a cap was told with, and never goes back",
    "ceph: src/mds/Locker.cc, handle_client_caps: a message with an older mseq is dropped unseen",
)


class Seqs(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (BACK, AHEAD, ISSUE, MSEQ)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._crossed: Recent[tuple[int, int, int], bool] = Recent()
        """By session, inode and cap_id: a release that the MDS took no notice of, as it had issued the cap anew."""
        self._stray: Recent[tuple[int, int, int], int] = Recent()
        """By the same, the first seq that came, not with a reply, for a cap that was gone, while none is spoken of."""

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None or claim.seq is None:
            return
        self._crossed.pop(_key(session, claim))
        self._stray.pop(_key(session, claim))
        seq = claim.seq
        if cap.said_seq is not None and after(cap.said_seq, seq):
            self.found(
                BACK, session, f"seq {seq} in {claim.op}, after {cap.said_seq}", cap=cap, ns=claim.ns, seq=seq,
                bits=claim.caps, said=claim,
            )  # fmt: skip
        if cap.seq is not None and after(seq, cap.seq):
            self.found(
                AHEAD, session, f"seq {seq} in {claim.op}; the MDS has sent {cap.seq}", cap=cap, ns=claim.ns, seq=seq,
                bits=claim.caps, said=claim,
            )  # fmt: skip
        self._issued(session, cap, claim)
        self._migrated(session, cap, claim)

    def told(self, session: Session, cap: Cap | None, told: Told) -> None:
        key = _key(session, told)
        if cap is not None and cap.state != CapState.HELD and not told.issues and self._stray.get(key) is None:
            self._stray[key] = told.seq

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None:
            return
        # What comes for a cap that is gone is answered with the seq it brings: there is no other (ceph:
        # src/client/Client.cc, handle_caps; kernel: fs/ceph/caps.c, ceph_handle_caps).
        key = _key(session, claim)
        stray = self._stray.get(key)
        newest = claim.issue_seq if cap.seq is None else cap.seq
        answers = stray is not None and not after(stray, claim.issue_seq) and not after(claim.issue_seq, newest)
        if cap.state == CapState.HELD and not answers and not self._crossed.get(key):
            self._issued(session, cap, claim)
            if cap.outdates(claim) and claim.issue_seq in cap.issues:
                self._crossed[key] = True
        self._migrated(session, cap, claim)

    def _issued(self, session: Session, cap: Cap, claim: Claim) -> None:
        issue = claim.issue_seq
        known = cap.whole and bool(cap.issues) and len(cap.issues) < (cap.issues.maxlen or 0)
        queued = claim.seq is None  # and the cap issued anew meanwhile
        if not queued and cap.said_issue is not None and after(cap.said_issue, issue):
            what = f"issue_seq {issue} in {claim.op}, after {cap.said_issue}"
        elif known and issue not in cap.issues and issue != cap.stand_in:
            what = f"issue_seq {issue} in {claim.op}; the MDS has issued the cap with {_listed(cap)}"
        elif cap.seq is not None and after(issue, cap.seq):
            what = f"issue_seq {issue} in {claim.op}; the MDS has sent no seq above {cap.seq}"
        else:
            return
        self.found(ISSUE, session, what, cap=cap, ns=claim.ns, seq=claim.seq, bits=claim.caps, said=claim)

    def _migrated(self, session: Session, cap: Cap, claim: Claim) -> None:
        mseq = claim.mseq
        if claim.seq is not None and cap.said_mseq is not None and after(cap.said_mseq, mseq):
            what = f"mseq {mseq} in {claim.op}, after {cap.said_mseq}"
        elif cap.mseq is not None and after(mseq, cap.mseq):
            what = f"mseq {mseq} in {claim.op}; the MDS has sent {cap.mseq}"
        else:
            return
        self.found(MSEQ, session, what, cap=cap, ns=claim.ns, seq=claim.seq, bits=claim.caps, said=claim)


def _key(session: Session, about: Claim | Told) -> tuple[int, int, int]:
    return session.number, about.ino, about.cap_id


def _listed(cap: Cap) -> str:
    issues = list(cap.issues)
    return ", ".join(map(str, issues[-4:])) + (" last" if len(issues) > 4 else "")
