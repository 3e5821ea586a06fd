"""The clients and daemons of a report: each has a number, under which all else speaks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from cephcaps.trace.facts import client_of, daemon_of
from cephcaps.trace.items import Flow

__all__ = ["OTHERS", "Client", "Daemon", "Ends"]

MOST: Final = 10_000
"""Clients, and daemons, that are told apart; the first, number 0, stands for all further ones."""
MOST_FLOWS: Final = 20_000
OTHERS: Final = 0
TOLD: Final = ("hostname", "entity_id", "root", "ceph_version", "kernel_version")
"""What a client says of itself with REQUEST_OPEN that helps to find it."""
LONGEST: Final = 200
"""Characters of any of these."""


class Client:
    """One client."""

    __slots__ = ("flow", "heard", "metadata")

    def __init__(self, flow: Flow | None) -> None:
        self.flow: Flow | None = flow
        """A connection of it, which knows its names; None for the others."""
        self.metadata: dict[str, str] = {}
        self.heard: int = 0
        """When it last said anything, in microseconds of the report."""

    @property
    def name(self) -> str:
        return "others" if self.flow is None else client_of(self.flow) or self.flow.client

    def take(self, metadata: Mapping[str, str]) -> None:
        self.metadata = {key: metadata[key][:LONGEST] for key in TOLD if metadata.get(key)}


class Daemon:
    """One MDS, by its address: a rank that fails over is another daemon."""

    __slots__ = ("flow",)

    def __init__(self, flow: Flow | None) -> None:
        self.flow: Flow | None = flow

    @property
    def name(self) -> str:
        return "others" if self.flow is None else daemon_of(self.flow) or self.flow.daemon

    @property
    def rank(self) -> int | None:
        return None if self.flow is None else self.flow.daemon_num


class Ends:
    """Gives the numbers."""

    def __init__(self) -> None:
        self.clients: list[Client] = [Client(None)]
        self.daemons: list[Daemon] = [Daemon(None)]
        self._clients: dict[int | str, int] = {}
        self._daemons: dict[str, int] = {}
        self._flows: dict[Flow, tuple[int | None, int, int]] = {}

    def of(self, flow: Flow) -> tuple[int, int]:
        """The numbers of client and daemon."""
        found = self._flows.get(flow)
        if found is not None and found[0] == flow.client_id:
            return found[1], found[2]
        numbers = self._client(flow), self._daemon(flow)
        if len(self._flows) >= MOST_FLOWS:
            self._flows.clear()
        self._flows[flow] = flow.client_id, *numbers
        return numbers

    def _client(self, flow: Flow) -> int:
        number = None if flow.client_id is None else self._clients.get(flow.client_id)
        if number is None:
            # What a connection has said before its client's id was known is that client's.
            number = self._clients.get(flow.client)
            if number is not None and flow.client_id is not None:
                known = self.clients[number].flow
                if known is not flow:
                    number = None
                else:
                    self._clients[flow.client_id] = self._clients.pop(flow.client)
        if number is None:
            if len(self.clients) >= MOST:
                return OTHERS
            number = len(self.clients)
            self.clients.append(Client(flow))
            self._clients[flow.client if flow.client_id is None else flow.client_id] = number
        return number

    def _daemon(self, flow: Flow) -> int:
        number = self._daemons.get(flow.daemon)
        if number is None:
            if len(self.daemons) >= MOST:
                return OTHERS
            number = self._daemons[flow.daemon] = len(self.daemons)
            self.daemons.append(Daemon(flow))
        elif self.daemons[number].rank is None:
            self.daemons[number].flow = flow
        return number

    def daemon_names(self) -> list[str]:
        """Of each; those of one name, such as two holders of a rank, with their addresses."""
        names = Counter(daemon.name for daemon in self.daemons)
        return [
            one.name if one.flow is None or names[one.name] == 1 else f"{one.name} ({one.flow.daemon})"
            for one in self.daemons
        ]

    def former(self, daemon: int) -> list[int]:
        """Daemons that had the rank which this one has."""
        rank = self.daemons[daemon].rank
        if rank is None:
            return []
        return [number for number, one in enumerate(self.daemons) if number != daemon and one.rank == rank]
