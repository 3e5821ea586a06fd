"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """One figure of ours, beside a peer's where there is one.

    Attributes:
        number: such as ``B3``.
        target: in words.
        ours, peer: in ``unit``.
        ratio: what is held to ``bound``: not below it, or with ``less`` not above it.
        who: how the peer did it.
        facts: what else was measured.
    """

    number: str
    work: str
    target: str
    ours: float
    peer: float | None
    unit: str
    ratio: float
    bound: float
    who: str
    facts: dict[str, Any]
    less: bool = False

    @property
    def met(self) -> bool:
        return self.ratio <= self.bound if self.less else self.ratio >= self.bound
