"""One client's dealings with the monitors: finding one, proving who we are, subscriptions, tickets.

Monitor connections are lossy: when one breaks, another monitor is tried, with the old identity, and everything wanted
is asked for again. Sources: ceph: src/mon/MonClient.cc; doc/dev/mon-bootstrap.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cephcaps.actions import Action, Connect, Disconnect, Happened
from cephcaps.auth.authenticator import Authenticator
from cephcaps.auth.cephx import CephxLogin, Tickets
from cephcaps.auth.none import NoneAuth
from cephcaps.errors import AuthError, ConnectionFailed
from cephcaps.messenger.connection import Connection, Phase
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v2 import ConnectionV2
from cephwire.control import AuthMethod, ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType, addresses
from cephwire.frames import MessageHeader
from cephwire.map_messages import MFsMapUser, MMdsMap, MMonMap, MOsdMap
from cephwire.mon_messages import MAuth, MAuthReply, MConfig, MonSubscribe, PaxosHeader, Subscription

__all__ = ["MonClient", "MonHost", "MonTimers"]

NEVER = float("inf")
NSEC = 1_000_000_000
FIRST_PAUSE = 0.2
"""Seconds between rounds through all monitors, at first (``ms_initial_backoff``)."""
HUNT_BACKOFF = 1.5
"""Each round that failed makes pause and patience this much longer (``mon_client_hunt_interval_backoff``)."""
MAX_HUNT_WAIT = 15.0


@dataclass(frozen=True, slots=True)
class MonTimers:
    """Seconds: until a silent monitor is given up, between signs of life, and without one until it counts as lost."""

    hunt_interval: float = 3.0
    ping_interval: float = 10.0
    ping_timeout: float = 30.0


class MonHost(Protocol):
    """Who wants to know what the monitors say."""

    def mon_ready(self, now: float) -> None:
        """A monitor has let us in; tickets are there."""

    def mon_refused(self, error: AuthError, now: float) -> None:
        """The cluster does not let us in; trying on is of no use."""

    def fs_map_received(self, message: MFsMapUser, now: float) -> None: ...

    def mds_map_received(self, message: MMdsMap, now: float) -> None: ...

    def config_received(self, values: dict[str, str], now: float) -> None:
        """Options that the cluster's administrator has set for clients."""

    def osd_map_received(self, message: MOsdMap, now: float) -> None: ...


class MonClient:
    """Keeps one monitor connection, and hunts for another when it fails.

    Attributes:
        connection: the one in use or in the making, None between attempts.
        errors: why each monitor could not be reached, by address, since the last success.
        monmap: the newest map, None before the first.
    """

    def __init__(
        self,
        host: MonHost,
        candidates: tuple[EntityAddr, ...],
        tickets: Tickets,
        instance: Instance,
        con_modes: tuple[ConMode, ...],
        hostname: str,
        out: list[Action],
        timers: MonTimers,
    ) -> None:
        self.connection: Connection | None = None
        self.errors: dict[EntityAddr, Exception] = {}
        self.monmap: Any = None
        self._host = host
        self._candidates = candidates
        self._tickets = tickets
        self._instance = instance
        self._con_modes = con_modes
        self._hostname = hostname
        self._out = out
        self._timers = timers
        self._login: CephxLogin | None = None
        self._wanted: dict[str, Subscription] = {}
        self._queue: list[EntityAddr] = []
        self._patience = timers.hunt_interval
        self._pause = FIRST_PAUSE
        self._next_attempt = 0.0
        self._give_up = NEVER
        self._ping_at = NEVER
        self._asked_tickets_at = -NEVER
        self._closed = False

    @property
    def ready(self) -> bool:
        return self.connection is not None and self.connection.phase is Phase.READY

    def subscribe(self, what: str, start: int, flags: int = 0) -> None:
        """Want ``what`` from epoch ``start`` on (0: the newest); asked for again after every reconnect."""
        wanted = Subscription(start, flags)
        if self._wanted.get(what) == wanted:
            return
        self._wanted[what] = wanted
        if self.ready:
            self._send(MonSubscribe({what: wanted}, self._hostname))

    def renew_tickets(self, now: float) -> None:
        """Ask for the tickets that are missing or due."""
        if not self.ready or self._login is None or self._login.server_challenge is None:
            return
        if now < self._asked_tickets_at + self._timers.hunt_interval:
            return
        self._asked_tickets_at = now
        auth = self._tickets.held[EntityType.AUTH]
        if auth.renew_after <= now:
            payload = self._tickets.authenticate(self._login.server_challenge)
        elif due := self._tickets.due(now):
            payload = self._tickets.ask(due)
        else:
            return
        self._send(MAuth(PaxosHeader(), AuthMethod.CEPHX, payload, self.monmap.epoch if self.monmap else 0))

    def close(self, now: float) -> None:
        self._closed = True
        if self.connection is not None:
            self._drop()

    # What time brings

    def next_deadline(self) -> float:
        if self._closed:
            return NEVER
        if self.connection is None:
            return self._next_attempt
        if not self.ready:
            return self._give_up
        return min(self._ping_at, max(self._tickets.renew_at(), self._asked_tickets_at + self._timers.hunt_interval))

    def tick(self, now: float) -> None:
        if self._closed:
            return
        connection = self.connection
        if connection is None:
            if now >= self._next_attempt:
                self._attempt(now)
        elif not self.ready:
            if now >= self._give_up:
                self.lost(connection, ConnectionFailed(f"no answer while awaiting {connection.phase.value}"), now)
        elif now >= self._ping_at:
            if now - connection.last_heard > self._timers.ping_timeout:
                self.lost(connection, ConnectionFailed(f"silent for {now - connection.last_heard:.0f} s"), now)
                return
            connection.keepalive(int(now * NSEC))
            self._ping_at = now + self._timers.ping_interval
        if self.ready and now >= self._tickets.renew_at():
            self.renew_tickets(now)

    def _attempt(self, now: float) -> None:
        if not self._queue:
            self._queue = self._shuffled()
        target = self._queue.pop()
        self.connection = ConnectionV2(
            self,
            self._instance,
            self._authenticator(),
            EntityType.MON,
            target,
            self._con_modes,
            self._tickets.global_id,
            Link(0),
        )
        self._give_up = now + self._patience
        self._out.append(Connect(self.connection))

    def _authenticator(self) -> Authenticator:
        if self._tickets.key is None:
            return NoneAuth(self._tickets, to_mon=True)
        self._login = CephxLogin(self._tickets)
        return self._login

    def _shuffled(self) -> list[EntityAddr]:
        """The monitors in random order, so that clients spread over them."""
        known = self._candidates
        if self.monmap is not None:
            known = tuple(
                addr
                for info in self.monmap.mon_info.values()
                for addr in addresses(info.public_addrs)
                if addr.type == AddrType.MSGR2
            )
        known = known or self._candidates
        return sorted(known, key=lambda addr: self._tickets.entropy(4))

    # What the connection brings

    def connection_ready(self, connection: Connection, now: float) -> None:
        self.errors.clear()
        self._queue = []
        self._patience = self._timers.hunt_interval
        self._pause = FIRST_PAUSE
        self._ping_at = now + self._timers.ping_interval
        self._out.append(Happened("mon.connected", {"addr": str(connection.target), "mode": connection.con_mode.name}))
        if self._wanted:
            self._send(MonSubscribe(dict(self._wanted), self._hostname))
        self._host.mon_ready(now)

    def connection_reset(self, connection: Connection, now: float) -> None:
        """Nothing of a monitor connection outlives it."""

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        match message:
            case MMonMap():
                self.monmap = message.monmap
                self._seen("monmap", message.monmap.epoch)
            case MConfig():
                self._host.config_received(message.config, now)
            case MFsMapUser():
                self._seen("fsmap.user", message.epoch)
                self._host.fs_map_received(message, now)
            case MMdsMap():
                self._host.mds_map_received(message, now)
            case MOsdMap():
                self._seen("osdmap", max((*message.maps, *message.incremental_maps), default=0))
                self._host.osd_map_received(message, now)
            case MAuthReply() if self._login is not None:
                if message.result:
                    self._out.append(Happened("tickets.refused", {"result": message.result}))
                else:
                    self._tickets.answer(message.result_bl, now)
                    self._host.mon_ready(now)

    def _seen(self, what: str, epoch: int) -> None:
        """Ask for later epochs only, should the subscription have to be repeated."""
        if what in self._wanted and epoch:
            self._wanted[what] = Subscription(epoch + 1, self._wanted[what].flags)

    def seen_mds_map(self, what: str, epoch: int) -> None:
        self._seen(what, epoch)

    def lost(self, connection: Connection, error: Exception, now: float) -> None:
        """The connection is of no more use: hunt on."""
        if connection is not self.connection:
            return
        self.errors[connection.target] = error
        self._out.append(Happened("mon.lost", {"addr": str(connection.target), "error": str(error)}))
        self._drop()
        if isinstance(error, AuthError) and self._tickets.global_id and self._tickets.key is not None:
            # The AUTH ticket that would reclaim our identity may be too old to be read: begin as a new client.
            self._tickets.global_id = 0
            self._tickets.held.clear()
            self._next_attempt = now
            return
        if isinstance(error, AuthError):
            self._closed = True
            self._host.mon_refused(AuthError(f"{connection.who} refused us: {error}"), now)
            return
        if self._queue:
            self._next_attempt = now
        else:
            self._next_attempt = now + self._pause
            self._pause = min(self._pause * HUNT_BACKOFF, MAX_HUNT_WAIT)
            self._patience = min(self._patience * HUNT_BACKOFF, MAX_HUNT_WAIT)

    def _drop(self) -> None:
        assert self.connection is not None
        self.connection.close()
        self._out.append(Disconnect(self.connection))
        self.connection = None
        self._login = None

    def _send(self, message: Any) -> None:
        assert self.connection is not None
        self.connection.send(message)
