"""Problems that repeat: the first of a kind is told when it comes, how many more there were at the end."""

from __future__ import annotations

from cephcaps.trace.items import Problem, ProblemKind

__all__ = ["Tally"]

MAX_TOLD = 100
"""Different problems told; a file made to annoy has no end of them."""
OTHERS = "other problems of this kind"


class Tally:
    def __init__(self, kind: ProblemKind) -> None:
        self._kind = kind
        self._repeated: dict[str, list[int]] = {}  # how often since it was told, and the bytes

    def add(self, ns: int, what: str, size: int) -> Problem | None:
        """The problem, if it is to be told now."""
        seen = self._repeated.get(what)
        if seen is None and len(self._repeated) < MAX_TOLD:
            self._repeated[what] = [0, 0]
            return Problem(ns, None, None, self._kind, what, size)
        if seen is None:
            seen = self._repeated.setdefault(OTHERS, [0, 0])
        seen[0] += 1
        seen[1] += size
        return None

    def rest(self, ns: int) -> list[Problem]:
        """What was counted since."""
        counted = [(what, times, size) for what, (times, size) in self._repeated.items() if times]
        self._repeated.clear()
        return [
            Problem(ns, None, None, self._kind, f"{times} times more: {what}", size) for what, times, size in counted
        ]
