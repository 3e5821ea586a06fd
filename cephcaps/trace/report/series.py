"""What happened how often, and how many caps each client held, in slices of time that widen as the trace goes on."""

from __future__ import annotations

from array import array
from typing import Final

from cephcaps.trace.report.ends import OTHERS

__all__ = ["COUNTED", "Series"]

MOST_BINS: Final = 600
"""Slices of time: about as many as a chart is wide."""
MOST_CLIENTS: Final = 100
"""Clients that are counted apart; those that come later are counted as one."""
FIRST_WIDTH: Final = 1000
"""Microseconds."""
COUNTED: Final = ("granted", "revoked", "released", "recalled", "requests")
"""Grants and imports of caps; revokes asked for; caps given up whole; recalls of caps; requests."""
UNKNOWN: Final = -1


class Series:
    """Counts over time.

    Attributes:
        width: of a slice, in microseconds.
    """

    def __init__(self) -> None:
        self.width: int = FIRST_WIDTH
        self._apart_clients = {OTHERS}
        self._held: dict[int, array[int]] = {}
        self._counts: dict[int, dict[str, array[int]]] = {}

    def holds(self, at: int, client: int, caps: int) -> None:
        """A client holds so many caps from now on."""
        bin = self._bin(at)
        client = self._apart(client)
        values = self._held.get(client)
        if values is None:
            values = self._held[client] = array("q", [UNKNOWN]) * MOST_BINS
        values[bin] = caps

    def count(self, at: int, client: int, what: str, number: int = 1) -> None:
        """Something of `COUNTED` has happened."""
        bin = self._bin(at)
        columns = self._counts.setdefault(self._apart(client), {})
        values = columns.get(what)
        if values is None:
            values = columns[what] = array("q", [0]) * MOST_BINS
        values[bin] += number

    def _apart(self, client: int) -> int:
        if client not in self._apart_clients:
            if len(self._apart_clients) >= MOST_CLIENTS:
                return OTHERS
            self._apart_clients.add(client)
        return client

    def _bin(self, at: int) -> int:
        while at >= self.width * MOST_BINS:
            self.width *= 2
            for values in self._held.values():
                # What was held at the end of two slices is what was last said in them.
                halved = [b if b != UNKNOWN else a for a, b in zip(values[::2], values[1::2], strict=True)]
                values[:] = array("q", halved + [UNKNOWN] * (MOST_BINS // 2))
            for columns in self._counts.values():
                for values in columns.values():
                    halved = [a + b for a, b in zip(values[::2], values[1::2], strict=True)]
                    values[:] = array("q", halved + [0] * (MOST_BINS // 2))
        return at // self.width

    def clients(self) -> list[int]:
        return sorted({*self._held, *self._counts})

    def held(self, client: int, bins: int) -> list[int]:
        """Caps held at the end of each of the first ``bins`` slices."""
        values, last = [], 0
        for value in self._held.get(client, array("q", [UNKNOWN]) * MOST_BINS)[:bins]:
            last = last if value == UNKNOWN else value
            values.append(last)
        return values

    def counts(self, client: int, bins: int) -> dict[str, list[int]]:
        """How often what happened, in each of the first ``bins`` slices; only what did."""
        return {what: list(values[:bins]) for what, values in self._counts.get(client, {}).items()}
