"""Why two clients may differ though neither is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cephcaps.trace.replay.infer import USABLE
from cephcaps.trace.replay.said import Said
from cephwire.capbits import Cap

__all__ = ["RULES", "Case", "Context", "Rule", "rule_for"]


DATA: Final = Cap.FILE_CACHE | Cap.FILE_BUFFER
IN_USE: Final = USABLE | Cap.FILE_LAZYIO
"""Nothing but data is ever in use for longer."""


class Context(NamedTuple):
    """What else is known where something is said, or should be."""

    had: Said | None = None
    """The cap as our engine had it."""
    revoking: int = 0
    """Bits of it that were asked back and are still in use."""
    elsewhere: int = 0
    """Bits that another rank, the authority, has granted meanwhile."""
    flushing: int = 0
    """Bits of the inode that were flushed, which the MDS has not acknowledged yet."""
    leaving: Callable[[], bool] = bool
    """Whether the client is about to close its session."""
    reach: bool = False
    """Whether it is the authority's, and the client is at the end of what it may write: max_size is 0 and it wanted to
    write before, or it holds FILE_WR and the size has come to max_size."""
    alongside: Callable[[], bool] = bool
    """Whether the client flushes changes of the inode to the authority, a higher rank, at the same time."""
    stands_in: bool = False
    """Whether the IMPORT that made the rank the authority has not been read yet, but the EXPORT that says so has."""
    unheard: bool = False
    """Whether the client is not heard of any more."""


class Case(NamedTuple):
    """One difference."""

    sent: Said | None
    expected: Said | None
    fields: tuple[str, ...]
    context: Context

    @property
    def only_caps(self) -> tuple[Said, Said] | None:
        """Both statements, if they differ in the caps kept and nothing else."""
        if self.sent is None or self.expected is None or self.fields != ("caps",):
            return None
        return self.sent, self.expected


class Rule(NamedTuple):
    """One reason for a difference that is nobody's fault.

    Attributes:
        why: in words.
        source: where that is written.
    """

    name: str
    why: str
    source: str
    explains: Callable[[Case], bool]


def _needless(case: Case) -> Said | None:
    """What is told of a cap though nothing has changed that the MDS waits for, if all it names is right."""
    sent, had = case.sent, case.context.had
    if sent is None or had is None or case.expected is not None or sent.op != "update" or sent.dirty:
        return None
    return sent if not set(sent.differs(had)) - {"caps"} else None


def _in_part(case: Case) -> bool:
    both = case.only_caps
    if both is not None and both[0].op == "update" and not both[0].dirty:
        # It keeps what the authority has granted too: that it may not have read.
        beyond = both[0].caps & ~both[1].caps
        allowed = case.context.revoking & case.context.elsewhere & IN_USE
        return not beyond & ~allowed and not both[1].caps & ~both[0].caps
    sent, had = _needless(case), case.context.had
    if sent is None or had is None or sent.caps & ~had.caps:
        return False
    kept = sent.caps & case.context.revoking
    return bool(kept) and not kept & ~IN_USE


def _reach(case: Case) -> bool:
    sent, had = _needless(case), case.context.had
    return case.context.reach and sent is not None and had is not None and sent.caps == had.caps


def _alongside(case: Case) -> bool:
    sent, had = _needless(case), case.context.had
    return sent is not None and had is not None and sent.caps == had.caps and case.context.alongside()


def _sent_again(case: Case) -> bool:
    sent, expected = case.sent, case.expected
    return sent is not None and expected is not None and case.fields == ("op",) and bool(sent.tid and expected.tid)


def _lazy(case: Case) -> bool:
    both = case.only_caps
    if both is None:
        return False
    sent, expected = both
    data = sent.caps & DATA == Cap.FILE_CACHE
    return data and sent.caps & ~expected.caps == Cap.FILE_LAZYIO and not expected.caps & ~sent.caps


def _on_its_way(case: Case) -> bool:
    both = case.only_caps
    if both is None or both[0].op != "request":
        return False
    sent, expected = both
    return not sent.caps & ~expected.caps and not expected.caps & ~sent.caps & ~case.context.flushing


def _given_before(case: Case) -> bool:
    expected = case.expected
    if case.sent is not None or expected is None or expected.answers != "revoke":
        return False
    return not expected.wanted & ~expected.caps


def _given_again(case: Case) -> bool:
    return case.sent is None and case.expected is not None and case.expected.answers == "grant"


def _stands_in(case: Case) -> bool:
    sent, expected = case.sent, case.expected
    if sent is None or expected is None or case.fields != ("mseq",):
        return False
    return case.context.stands_in and sent.mseq < expected.mseq


def _leaving(case: Case) -> bool:
    both = case.only_caps
    if both is None or not case.context.leaving():
        return False
    sent, expected = both
    return not sent.caps & ~(expected.caps | sent.wanted)


def _unheard(case: Case) -> bool:
    return case.sent is None and case.context.unheard


RULES: Final = (
    Rule(
        "in-part",
        "of a revoke, what is not in use is given back while the rest still is; we give all of it back at once, later",
        "ceph: src/client/Client.cc, handle_cap_grant (cap->wanted), check_caps (cap_used, cap.wanted), send_cap "
        "(cap->implemented)",
        _in_part,
    ),
    Rule(
        "reach",
        "how far it once wanted to write libcephfs forgets only when it is granted more or its rank is taken over; "
        "while max_size is 0 it says how things stand at every occasion, whether or not it holds FILE_WR, and so it "
        "does with FILE_WR while the size has come to max_size; the kernel and we ask only with FILE_WR, and we report "
        "each size once",
        "ceph: src/client/Client.cc, get_caps, check_caps (is_max_size_approaching), send_cap, handle_cap_grant, "
        "wake_up_session_caps (wanted_max_size, requested_max_size); kernel: fs/ceph/caps.c, ceph_check_caps, "
        "__ceph_should_report_size",
        _reach,
    ),
    Rule(
        "alongside",
        "when changes are flushed at once, libcephfs tells every rank how things stand, in the order of ranks until "
        "the authority has got them; the kernel and we tell the authority only",
        "ceph: src/client/Client.cc, check_caps (in->dirty_caps), mark_caps_flushing; kernel: fs/ceph/caps.c, "
        "ceph_check_caps (CHECK_CAPS_FLUSH)",
        _alongside,
    ),
    Rule(
        "sent-again",
        "a flush that the MDS may not have got libcephfs sends again as an UPDATE, the kernel and we as a FLUSH",
        "ceph: src/client/Client.cc, kick_flushing_caps, send_cap; src/mds/Locker.cc, handle_client_caps "
        "(have_completed_flush, whichever of the two it is); kernel: fs/ceph/caps.c, __kick_flushing_caps",
        _sent_again,
    ),
    Rule(
        "lazy",
        "libcephfs counts FILE_LAZYIO as in use along with cached data, though it holds FILE_CACHE, if it does not "
        "hold FILE_BUFFER; we count it only for data that nothing else covers",
        "ceph: src/client/Client.cc, adjust_caps_used_for_lazyio",
        _lazy,
    ),
    Rule(
        "on-its-way",
        "along with a request libcephfs gives back bits under which a change is being flushed; the kernel and we keep "
        "them until that is acknowledged",
        "ceph: src/client/Client.cc, encode_inode_release (which spares dirty_caps and not flushing_caps); kernel: "
        "fs/ceph/caps.c, ceph_encode_inode_release (__ceph_caps_dirty: both)",
        _on_its_way,
    ),
    Rule(
        "given-before",
        "a REVOKE takes only what was given back before it was read, and nothing is wanted that the cap does not "
        "grant: libcephfs sends no answer, and whoever waits for the bits may wait on; we answer every REVOKE",
        "ceph: src/client/Client.cc, handle_cap_grant (which sets cap->wanted to 0, to force an answer) and check_caps "
        "(which sees that as no news if all that is wanted is issued); kernel: fs/ceph/caps.c, CHECK_CAPS_FLUSH_FORCE",
        _given_before,
    ),
    Rule(
        "given-again",
        "bits in use were asked back and are granted again before their use ends: there is nothing left to give back, "
        "and libcephfs says nothing; we do, as the MDS complains of who has not answered, and so does the kernel since "
        "commit 8fdf946445732",
        "ceph: src/client/Client.cc, handle_cap_grant (a grant has it check only for another rank's sake); "
        "src/mds/Capability.cc, confirm_receipt; src/mds/Locker.cc, caps_tick; kernel: fs/ceph/caps.c, "
        "handle_cap_grant (revoke_wait)",
        _given_again,
    ),
    Rule(
        "stands-in",
        "an EXPORT to a rank that has issued a cap already: until the IMPORT comes libcephfs and the kernel go on with "
        "that cap's mseq, we take the new one, as what names the old one is dropped unseen",
        "ceph: src/client/Client.cc, handle_cap_export (tcap); src/mds/Locker.cc, handle_client_caps, "
        "process_request_cap_release; kernel: fs/ceph/caps.c, handle_cap_export (tcap)",
        _stands_in,
    ),
    Rule(
        "leaving",
        "who unmounts keeps nothing that is not in use; we close the session, which ends all caps",
        "ceph: src/client/Client.cc, check_caps (is_unmounting, which what it retains depends on)",
        _leaving,
    ),
    Rule(
        "unheard",
        "the client is not heard of after it was asked: the capture or the client ended first",
        "ceph: src/mds/Server.cc, find_idle_sessions (last_cap_renew: who falls silent is evicted)",
        _unheard,
    ),
)
"""At most twelve."""


def rule_for(case: Case) -> str:
    """Name of the rule that explains a difference; empty if none does."""
    return next((rule.name for rule in RULES if rule.explains(case)), "")
