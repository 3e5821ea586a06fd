"""Why two right clients may differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cephcaps.trace.replay.said import Said
from cephwire.capbits import Cap

__all__ = ["RULES", "Rule", "rule_for"]


class Rule(NamedTuple):
    """One reason for a difference that is nobody's fault."""

    name: str
    why: str
    source: str
    explains: Callable[[Said | None, Said | None, tuple[str, ...]], bool]


RULES: Final[tuple[Rule, ...]] = ()


def rule_for(said: Said | None, expected: Said | None, fields: tuple[str, ...]) -> str:
    """Name of the rule that explains a difference; empty if none does."""
    return next((rule.name for rule in RULES if rule.explains(said, expected, fields)), "")
