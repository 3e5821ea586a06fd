"""Why two clients may differ though neither is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cephcaps.trace.replay.infer import USABLE
from cephcaps.trace.replay.said import Said

__all__ = ["RULES", "Case", "Context", "Rule", "rule_for"]


class Context(NamedTuple):
    """What else is known where something is said, or should be."""

    had: Said | None = None
    """The cap as our engine had it."""
    revoking: int = 0
    """Bits of it that were asked back and are still in use."""
    leaving: Callable[[], bool] = bool
    """Whether the client is about to close its session."""
    wished_anew: bool = False
    """Whether the client has not told this rank before that it wants so much."""
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
    return bool(kept) and not kept & ~USABLE  # nothing but data is ever in use


def _wish(case: Case) -> bool:
    sent, had = _needless(case), case.context.had
    return sent is not None and had is not None and sent.caps == had.caps and case.context.wished_anew


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
