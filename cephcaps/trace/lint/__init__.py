"""A captured client, judged by the protocol's rules."""

from cephcaps.trace.lint.finding import Finding, Rule
from cephcaps.trace.lint.linter import RULES, Linter

__all__ = ["RULES", "Finding", "Linter", "Rule"]
