"""Judges what the clients of a trace did by the protocol's rules."""

from __future__ import annotations

from collections import Counter
from typing import Final

from cephcaps.trace.items import Flow, Item, Traced
from cephcaps.trace.known import Known
from cephcaps.trace.lint.bits import Held
from cephcaps.trace.lint.finding import Finding, Rule
from cephcaps.trace.lint.flushes import Flushes
from cephcaps.trace.lint.hearing import Hearing
from cephcaps.trace.lint.leases import Leases
from cephcaps.trace.lint.loops import Loops
from cephcaps.trace.lint.moves import Moves
from cephcaps.trace.lint.reconnects import Reconnects
from cephcaps.trace.lint.revokes import Revokes
from cephcaps.trace.lint.rules import Rules
from cephcaps.trace.lint.seqs import Seqs
from cephcaps.trace.lint.sessions import Sessions
from cephcaps.trace.lint.snaps import Snaps
from cephcaps.trace.lint.state import State
from cephwire.entity import EntityType

__all__ = ["GROUPS", "RULES", "Linter"]

GROUPS: Final[tuple[type[Rules], ...]] = (
    Revokes, Seqs, Held, Flushes, Snaps, Moves, Leases, Sessions, Reconnects, Loops,
)  # fmt: skip
RULES: Final[dict[str, Rule]] = {rule.name: rule for group in GROUPS for rule in group.rules}
"""Every rule, by name."""
MOST_TOLD: Final = 1000
"""Findings of one rule that are told; the rest is counted."""


class Linter:
    """Takes a trace's items one by one, and says what was wrong.

    Args:
        rules: names of those to judge by; every one unless given.
        clients: ids of those to judge; every one unless given.
    Attributes:
        counts: findings by rule, told or not.
    """

    def __init__(self, rules: frozenset[str] = frozenset(), clients: frozenset[int] = frozenset()) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules or frozenset(RULES)
        self._clients = clients
        self._known = Known()
        self._found: list[Finding] = []
        state = State()
        groups = [group for group in GROUPS if any(rule.name in self._rules for rule in group.rules)]
        self._hearing = Hearing(state, [group(state, self._report) for group in groups])

    @property
    def messages(self) -> int:
        """Between clients and MDS daemons, so far."""
        return self._hearing.messages

    def take(self, item: Item) -> list[Finding]:
        """Judge by one more item; gives what came to light."""
        if isinstance(item, Traced) and not item.resent:
            self._known.take(item)
        self._hearing.take(item)
        return self._news()

    def finish(self) -> list[Finding]:
        """The trace ends; gives what is still owed."""
        self._hearing.finish()
        return self._news()

    def _report(self, finding: Finding) -> None:
        name = finding.rule.name
        if name not in self._rules or (self._clients and finding.client not in self._clients):
            return
        self.counts[name] += 1
        if self.counts[name] > MOST_TOLD:
            return
        if finding.ino is not None:
            client = finding.client
            flow = Flow(0, str(client), finding.daemon, client if isinstance(client, int) else None, EntityType.MDS)
            finding = finding._replace(path=self._known.path(flow, finding.ino))
        self._found.append(finding)

    def _news(self) -> list[Finding]:
        if not self._found:
            return []
        found, self._found = self._found, []
        return found
