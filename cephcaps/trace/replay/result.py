"""What a replay finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from cephcaps.trace.replay.said import Said
from cephcaps.trace.replay.steps import Client

__all__ = ["Difference", "Tally"]


class Difference(NamedTuple):
    """Our engine and the client do not say the same."""

    client: Client
    rank: int
    ino: int
    ns: int
    """When the client said it, or when ours would have had to."""
    sent: Said | None
    """By the client; None where it says nothing."""
    expected: Said | None
    """By our engine."""
    fields: tuple[str, ...]
    """What is not alike; empty where one of them says nothing."""
    rule: str
    """Name of the rule that explains it; empty if none does."""


@dataclass(slots=True)
class Tally:
    """Counts of one client.

    Attributes:
        compared: statements about caps that were compared, whoever made them.
        alike: those that both make.
        explained: by rule.
        unexplained: the others.
        unjudged: the client's, on caps whose beginning was not captured.
    """

    compared: int = 0
    alike: int = 0
    unexplained: int = 0
    unjudged: int = 0
    explained: Counter[str] = field(default_factory=Counter)
