"""Why two clients may differ though neither is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cephcaps.trace.replay.infer import USABLE
from cephcaps.trace.replay.said import Said
from cephwire.capbits import Cap

__all__ = ["RULES", "Case", "Context", "Rule", "rule_for"]


class Context(NamedTuple):
    """What else is known where something is said, or should be."""

    had: Said | None = None
    """The cap as our engine had it."""
    revoking: int = 0
    """Bits of it that were asked back and are still in use."""
    flushing: int = 0
    """Bits of the inode that were flushed, which the MDS has not acknowledged yet."""
    leaving: Callable[[], bool] = bool
    """Whether the client is about to close its session."""
    wished_anew: bool = False
    """Whether the client has not told this rank before that it wants so much, since a reply last issued the cap."""
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
    sent, had = _needless(case), case.context.had
    if sent is None or had is None or sent.caps & ~had.caps:
        return False
    kept = sent.caps & case.context.revoking
    return bool(kept) and not kept & ~(USABLE | Cap.FILE_LAZYIO)  # nothing but data is ever in use


def _wish(case: Case) -> bool:
    sent, had = _needless(case), case.context.had
    if sent is None or had is None or sent.caps != had.caps:
        return False
    return case.context.wished_anew or sent.wanted != had.wanted


def _on_its_way(case: Case) -> bool:
    both = case.only_caps
    if both is None or both[0].op != "request":
        return False
    sent, expected = both
    return not sent.caps & ~expected.caps and not expected.caps & ~sent.caps & ~case.context.flushing


def _given_before(case: Case) -> bool:
    expected = case.expected
    return case.sent is None and expected is not None and expected.answers == "revoke" and not expected.wanted


def _given_again(case: Case) -> bool:
    return case.sent is None and case.expected is not None and case.expected.answers == "grant"


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
        "ceph: src/client/Client.cc, check_caps, send_cap",
        _in_part,
    ),
    Rule(
        "wish",
        "what is wanted is told a rank that knows it already, or could be told later; nothing else changes by it",
        "ceph: src/client/Client.cc, check_caps (caps wanted); src/mds/Locker.cc, adjust_cap_wanted",
        _wish,
    ),
    Rule(
        "on-its-way",
        "along with a request libcephfs gives back bits under which a change is being flushed; the kernel and we keep "
        "them until that is acknowledged",
        "ceph: src/client/Client.cc, encode_inode_release; kernel: fs/ceph/caps.c, ceph_encode_inode_release "
        "(__ceph_caps_dirty)",
        _on_its_way,
    ),
    Rule(
        "given-before",
        "a REVOKE takes only what was given back before it was read, and nothing of the inode is wanted: libcephfs "
        "sends no answer, and whoever waits for the bits may wait on; we answer every REVOKE",
        "ceph: src/client/Client.cc, handle_cap_grant (which sets cap->wanted to 0, to force an answer) and check_caps "
        "(which sees that as no news if nothing is wanted); kernel: fs/ceph/caps.c, CHECK_CAPS_FLUSH_FORCE",
        _given_before,
    ),
    Rule(
        "given-again",
        "bits in use were asked back and are granted again before their use ends: there is nothing left to give back, "
        "and libcephfs says nothing; we do, as the MDS complains of who has not answered",
        "ceph: src/client/Client.cc, handle_cap_grant; src/mds/Capability.cc, confirm_receipt; src/mds/Locker.cc, "
        "caps_tick",
        _given_again,
    ),
    Rule(
        "leaving",
        "who unmounts keeps nothing that is not in use; we close the session, which ends all caps",
        "ceph: src/client/Client.cc, check_caps (unmounting)",
        _leaving,
    ),
    Rule(
        "unheard",
        "the client is not heard of after it was asked: the capture or the client ended first",
        "ceph: src/mds/Server.cc, kill_session",
        _unheard,
    ),
)
"""At most twelve."""


def rule_for(case: Case) -> str:
    """Name of the rule that explains a difference; empty if none does."""
    return next((rule.name for rule in RULES if rule.explains(case)), "")
