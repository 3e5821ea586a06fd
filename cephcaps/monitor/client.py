"""One client's dealings with the monitors: finding one, proving who we are, subscriptions, tickets.

Monitor connections are lossy: when one breaks, another monitor is tried (`cephcaps.monitor.hunt`), with the old
identity, and everything wanted is asked for again. Sources: ceph: src/mon/MonClient.cc; doc/dev/mon-bootstrap.rst;
src/auth/cephx/CephxServiceHandler.cc (what a monitor refuses).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from cephcaps.actions import Action, Connect, Disconnect, Happened
from cephcaps.auth.authenticator import Authenticator
from cephcaps.auth.cephx import CephxLogin, LoginRefused, Tickets
from cephcaps.auth.none import NoneAuth
from cephcaps.commands import Commands
from cephcaps.errors import AuthError, ConnectionFailed
from cephcaps.messenger.connection import Connection, Phase
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1_mon import MonConnectionV1
from cephcaps.messenger.v2 import ConnectionV2
from cephcaps.monitor.hunt import Hunt
from cephwire.control import AuthMethod, ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType, addresses
from cephwire.frames import MessageHeader
from cephwire.map_messages import MFsMapUser, MMdsMap, MMonMap, MOsdMap
from cephwire.mon_messages import (
    MAuth,
    MAuthReply,
    MConfig,
    MonCommand,
    MonCommandAck,
    MonSubscribe,
    PaxosHeader,
    Subscription,
)

__all__ = ["MonClient", "MonHost", "MonTimers"]

NEVER = float("inf")
NSEC = 1_000_000_000
ANSWER_TIMEOUT = 10.0
"""Seconds a monitor gets to answer a request for tickets before another is tried: to log in there brings them too."""
ASK_BACKOFF = 1.5
MAX_ASK_PAUSE = 15.0
"""Tickets that were refused are asked for again after pauses that grow like those between rounds of the hunt."""


@dataclass(frozen=True, slots=True)
class MonTimers:
    """Seconds: until a silent monitor is given up, between signs of life, and without one until it counts as lost.

    The last is counted in signs of life asked for in vain: a process that was frozen has not heard its monitor either,
    and is to read what came meanwhile.
    """

    hunt_interval: float = 3.0
    ping_interval: float = 10.0
    ping_timeout: float = 30.0


class MonHost(Protocol):
    """Who wants to know what the monitors say."""

    def mon_ready(self, now: float) -> None:
        """A monitor has let us in, or renewed our tickets; the global_id may be another than before."""

    def mon_refused(self, error: AuthError, now: float) -> None:
        """The cluster does not let us in, with whatever identity. If it once did, that is tried on and on, slowly."""

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
        commands: on their way.
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
        self.commands: Commands = Commands(out)
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
        self._hunt = Hunt(timers.hunt_interval, tickets.fraction)
        self._give_up = NEVER
        self._stands_since = NEVER
        self._ping_at = NEVER
        self._pinged_at = -NEVER
        self._unanswered = 0  # pings in a row
        self._refusal: AuthError | None = None  # heard in this round
        self._anew = False  # nobody takes our identity any more
        self._ask_at = -NEVER  # not before
        self._ask_pause = timers.hunt_interval
        self._answer_by = NEVER
        self._prove_key = False  # our AUTH ticket was refused
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

    def send_commands(self) -> None:
        """Send what is to be asked, once it is known of which cluster."""
        if self.ready and self.monmap is not None:
            for asked in self.commands.waiting():
                asked.sent = True
                self._send(MonCommand(PaxosHeader(), self.monmap.fsid, (asked.command.words,)), asked.tid)

    def renew_tickets(self, now: float) -> None:
        """Ask for the tickets that are missing or due."""
        if not self.ready or self._login is None or self._login.server_challenge is None:
            return
        if self._answer_by != NEVER or now < self._ask_at:
            return
        tickets = self._tickets
        due = tickets.due(now)
        self._prove_key |= tickets.held[EntityType.AUTH].renew_after <= now
        if due or self._prove_key:
            self._answer_by = now + ANSWER_TIMEOUT
            payload = tickets.authenticate(self._login.server_challenge) if self._prove_key else tickets.ask(due)
            self._send(MAuth(PaxosHeader(), AuthMethod.CEPHX, payload, self.monmap.epoch if self.monmap else 0))

    def _tickets_answered(self, connection: Connection, message: MAuthReply, now: float) -> None:
        self._answer_by = NEVER
        if not message.result:
            self._tickets.answer(message.result_bl, now)
            self._prove_key = False
        if self._tickets.renew_at() > now and not self._tickets.due(now):
            self._ask_pause = self._timers.hunt_interval
        else:
            self._ask_at = now + self._ask_pause
            self._ask_pause = min(self._ask_pause * ASK_BACKOFF, MAX_ASK_PAUSE)
        if not message.result:
            self._host.mon_ready(now)
            return
        self._out.append(Happened("tickets.refused", {"result": message.result}))
        if not self._prove_key:
            # Our AUTH ticket may be older than our clock says, which does not run while the machine sleeps.
            self._prove_key = True
            self._ask_at = now
            self.renew_tickets(now)
        elif self._tickets.usable(EntityType.MDS, now) is None:
            # To log in once more may do what this does not: under another global_id if need be. Tentacle's monitors
            # hang up at this point in any case; Pacific's do not.
            self.lost(connection, ConnectionFailed(f"it does not renew our tickets: error {message.result}"), now)

    def close(self, now: float) -> None:
        self._closed = True
        if self.connection is not None:
            self._drop()

    # What time brings

    def next_deadline(self) -> float:
        if self._closed:
            return NEVER
        due = self.commands.next_deadline()
        if self.connection is None:
            return min(due, self._hunt.due)
        if not self.ready:
            return min(due, self._give_up)
        renew_at = max(self._tickets.renew_at(), self._ask_at) if self._answer_by == NEVER else self._answer_by
        return min(due, self._ping_at, renew_at)

    def tick(self, now: float) -> None:
        if self._closed:
            return
        self.commands.tick(now)
        connection = self.connection
        if connection is None:
            if now >= self._hunt.due:
                self._attempt(now)
        elif not self.ready:
            if now >= self._give_up:
                self.lost(connection, ConnectionFailed(f"no answer while awaiting {connection.phase.value}"), now)
        elif now >= self._answer_by:
            self.lost(connection, ConnectionFailed("no answer to a request for tickets"), now)
        elif now >= self._ping_at:
            self._ping(connection, now)
        if self.ready and now >= self._tickets.renew_at():
            self.renew_tickets(now)

    def _ping(self, connection: Connection, now: float) -> None:
        interval, timeout = self._timers.ping_interval, self._timers.ping_timeout
        self._unanswered = self._unanswered + 1 if connection.last_heard < self._pinged_at else 0
        if self._unanswered >= math.ceil(timeout / interval):
            self.lost(connection, ConnectionFailed(f"silent for {now - connection.last_heard:.0f} s"), now)
            return
        self._pinged_at = now
        self._ping_at = now + interval
        connection.keepalive(int(now * NSEC))

    def _attempt(self, now: float) -> None:
        target = self._hunt.pick(self._known())
        global_id = 0 if self._anew else self._tickets.global_id
        instance, login, link = self._instance, self._authenticator(), Link(0)
        if instance.messenger is AddrType.LEGACY:
            self.connection = MonConnectionV1(self, instance, login, target, global_id, link)
        else:
            self.connection = ConnectionV2(
                self, instance, login, EntityType.MON, target, self._con_modes, global_id, link
            )
        self._give_up = now + self._hunt.patience
        self._out.append(Connect(self.connection))

    def _authenticator(self) -> Authenticator:
        if self._tickets.key is None:
            return NoneAuth(self._tickets, to_mon=True)
        self._login = CephxLogin(self._tickets, anew=self._anew)
        return self._login

    def _known(self) -> tuple[EntityAddr, ...]:
        """The monitors there are: those of the map, and those of ceph.conf as long as there is none."""
        if self.monmap is None:
            return self._candidates
        known = tuple(
            addr
            for info in self.monmap.mon_info.values()
            for addr in addresses(info.public_addrs)
            if addr.type == self._instance.messenger
        )
        return known or self._candidates

    # What the connection brings

    def connection_ready(self, connection: Connection, now: float) -> None:
        self.errors.clear()
        self._refusal = None
        self._anew = self._prove_key = False
        self._answer_by, self._ask_at, self._ask_pause = NEVER, -NEVER, self._timers.hunt_interval
        self._stands_since = now
        self._ping_at = now + self._timers.ping_interval
        self._pinged_at = -NEVER
        self._unanswered = 0
        self._out.append(Happened("mon.connected", {"peer": str(connection.target), "mode": connection.mode}))
        if self._wanted:
            self._send(MonSubscribe(dict(self._wanted), self._hostname))
        self.send_commands()
        self._host.mon_ready(now)

    def connection_reset(self, connection: Connection, now: float) -> None:
        """Nothing of a monitor connection outlives it."""

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        match message:
            case MMonMap():
                self.monmap = message.monmap
                self._seen("monmap", message.monmap.epoch)
                self.send_commands()
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
            case MonCommandAck():
                self.commands.answered(header.tid, message.r, message.rs, message.outbl)
            case MAuthReply() if self._login is not None:
                self._tickets_answered(connection, message, now)

    def _seen(self, what: str, epoch: int) -> None:
        """Ask for later epochs only, should the subscription have to be repeated."""
        if what in self._wanted and epoch >= self._wanted[what].start:
            self._wanted[what] = Subscription(epoch + 1, self._wanted[what].flags)

    def seen_mds_map(self, what: str, epoch: int) -> None:
        self._seen(what, epoch)

    def lost(self, connection: Connection, error: Exception, now: float) -> None:
        """The connection is of no more use: hunt on."""
        if connection is not self.connection:
            return
        self.errors[connection.target] = error
        self._out.append(Happened("mon.lost", {"peer": str(connection.target), "error": str(error)}))
        stood = now - self._stands_since  # negative if it never did
        self._drop()
        if isinstance(error, AuthError) and not self._tickets.global_id:
            self._closed = True
            self._host.mon_refused(AuthError(f"{connection.who} refused us: {error}"), now)
            return
        if isinstance(error, LoginRefused):
            self._refusal = AuthError(f"{connection.who} refused us: {error}")
        if stood >= 0:
            self._hunt.broke(connection.target, stood, now)
        elif self._refusal is not None and self._hunt.round_over:
            self._refused(self._refusal, now)
        else:
            self._hunt.failed(now)

    def _refused(self, refusal: AuthError, now: float) -> None:
        """No monitor that answered wants us as who we are: perhaps the AUTH ticket, which is to prove that, is too old
        for them to read, and they will take us as somebody new. Else the key is gone, and may come back."""
        self._refusal = None
        if not self._anew:
            self._anew = True
            self._hunt.again(now)
        else:
            self._anew = False
            self._hunt.refused(now)
            self._out.append(Happened("login.refused", {"error": str(refusal)}))
            self._host.mon_refused(refusal, now)

    def _drop(self) -> None:
        assert self.connection is not None
        self.connection.close()
        self._out.append(Disconnect(self.connection))
        self.connection = None
        self._login = None
        self._stands_since = NEVER
        self.commands.send_again()

    def _send(self, message: Any, tid: int = 0) -> None:
        assert self.connection is not None
        self.connection.send(message, tid=tid)
