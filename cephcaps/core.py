"""Everything one client knows and does, without I/O: the monitors' part and the MDSs' part, put together.

The shell brings in bytes, calls and time; what is to be done comes out in `Core.out` and in each connection's ``out``.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from cephcaps.actions import Action, Disconnect, Done, Failed, Happened
from cephcaps.auth.cephx import Tickets
from cephcaps.commands import MdsCommand, MonCommand
from cephcaps.engine.inode import RefWait
from cephcaps.engine.refs import Got
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange
from cephcaps.errors import AuthError, ConfigError, ConnectionFailed, MdsError, RequestTimeout, SessionLost
from cephcaps.mds.client import MdsClient
from cephcaps.mds.locks import Locked
from cephcaps.mds.requests import Answer, LockCall, Operation
from cephcaps.mds.routing import Credentials
from cephcaps.mds.session import Session
from cephcaps.messenger.connection import Connection
from cephcaps.monitor.client import MonClient, MonTimers
from cephwire.codec import Leftover
from cephwire.control import ConMode
from cephwire.entity import EntityAddr
from cephwire.map_messages import MFsMapUser, MMdsMap, MOsdMap
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp

__all__ = [
    "ROOT_INO",
    "STAT_MASK",
    "Close",
    "CloseLocks",
    "Core",
    "GetRefs",
    "MdsCommand",
    "MonCommand",
    "Mount",
    "Request",
    "Safe",
    "SetAttributes",
    "SetLock",
    "SetXattr",
]

NEVER = float("inf")
ROOT_INO = 1
"""Inode of every file system's root (ceph: src/include/ceph_fs.h, ``CEPH_INO_ROOT``)."""
STAT_MASK = 0x155
"""pAsLsXsFs: all that stat shows, as of now (ceph: src/include/ceph_fs.h, ``CEPH_STAT_CAP_INODE_ALL``)."""
MAX_LEFTOVERS = 100
"""How many stretches of unexplained bytes are kept for the curious."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Get to the file system's root directory; brings an Answer with its inode.

    Attributes:
        root: without it, get to the MDSMap only; brings None.
    """

    root: bool = True


class SetAttributes(msgspec.Struct, frozen=True, gc=False):
    """Change attributes of inode ``ino``; ``what`` is what errors call it. Ends when the change counts."""

    ino: int
    what: str
    change: Change


@dataclass(frozen=True, slots=True)
class SetXattr:
    """Change an extended attribute of inode ``ino``; ``what`` is what errors call it. Ends when the change counts."""

    ino: int
    what: str
    change: XattrChange


@dataclass(frozen=True, slots=True)
class Safe:
    """Flush what is dirty on ``ino`` (0: everywhere); ends when that and all requests before are durable."""

    ino: int


@dataclass(frozen=True, slots=True)
class SetLock:
    """Lock or unlock a range of a file; ends when that is done."""

    call: LockCall


@dataclass(frozen=True, slots=True)
class CloseLocks:
    """Give back the locks that go with an open file, which ``what`` is; ends when they are."""

    handle: int
    what: str


@dataclass(frozen=True, slots=True)
class GetRefs:
    """Use caps of inode ``ino`` through a handle in ``mode``; brings `cephcaps.engine.refs.Got`, which is to be put."""

    ino: int
    mode: int
    need: int
    want: int
    endoff: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close every session, then the connections; ``hurried`` is without waiting until what was changed is safe."""

    hurried: bool = False


Request: TypeAlias = (
    Mount
    | Close
    | Operation
    | SetAttributes
    | SetXattr
    | Safe
    | GetRefs
    | SetLock
    | CloseLocks
    | MonCommand
    | MdsCommand
)


class Core:
    """The pure part of one client.

    Args:
        configured: given what the monitors set for clients, the connection modes to offer MDSs.

    Attributes:
        out: what the shell is to do, in order; it clears the list.
        leftovers: stretches of received bytes that no schema explained, the first hundred.
        unknown: counts of received messages of types we do not know, by type.
    """

    def __init__(
        self,
        credentials: Credentials,
        monitors: tuple[EntityAddr, ...],
        mon_modes: tuple[ConMode, ...],
        mds_modes: tuple[ConMode, ...],
        fs: str | None,
        root: str,
        metadata: dict[str, str],
        timers: MonTimers,
        configured: Callable[[Mapping[str, str]], tuple[ConMode, ...]],
    ) -> None:
        self.out: list[Action] = []
        self.leftovers: list[Leftover] = []
        self.unknown: Counter[int] = Counter()
        self.fs = fs
        self.root = root
        self.tickets: Tickets = credentials.tickets
        hostname = metadata.get("hostname", "")
        self.monitors: MonClient = MonClient(
            self, monitors, credentials.tickets, credentials.instance, mon_modes, hostname, self.out, timers
        )
        self._configured = configured
        self.mds: MdsClient = MdsClient(credentials, mds_modes, metadata, self.out)
        self.fscid: int | None = None
        self.osd_epoch: int = 0
        self._known_as = 0  # the global_id of our sessions
        self._mount: tuple[int, float, bool] | None = None  # token, deadline, whether for the root
        self._closing: tuple[int, float] | None = None

    # The three entrances

    def received(self, connection: Connection, data: bytes, now: float) -> None:
        """Bytes have come; every message in them is handled before this returns."""
        try:
            connection.receive(data, now)
        except Exception as error:
            # Whatever it is, one bad peer ends one connection and never the client.
            self.disconnected(connection, error, now)
        self.mds.settle(now)
        if connection.leftover or connection.unknown:
            self._note_unexplained(connection)
        self._after(now)

    def call(self, token: int, request: Request, deadline: float, now: float) -> None:
        """Begin ``request``; Done or Failed with ``token`` comes out exactly once, by ``deadline`` at the latest."""
        match request:
            case Mount():
                self._mount = (token, deadline, request.root)
                self.monitors.subscribe("monmap", 0)
                self.monitors.subscribe("config", 0)
                self.monitors.subscribe("fsmap.user", 0)
                self.monitors.subscribe("osdmap", 0)
                self.monitors.tick(now)
            case Close():
                self._closing = (token, deadline)
                self._fail_mount(ConnectionFailed("closed before it was connected"))
                self.mds.close(token, now, hurried=request.hurried)
            case Operation():
                self.mds.call(token, request, deadline, now)
            case SetAttributes():
                self.mds.set_attributes(token, request.ino, request.what, request.change, deadline, now)
            case SetLock():
                self.mds.locks.ask(token, request.call, deadline, now)
            case CloseLocks():
                self.mds.locks.close(token, request.handle, request.what, deadline, now)
            case SetXattr():
                self.mds.set_xattr(token, request.ino, request.what, request.change, deadline, now)
            case Safe():
                self.mds.wait_safe(token, request.ino, deadline, now)
            case GetRefs():
                wait = RefWait(token, request.mode, request.need, request.want, request.endoff, now, deadline)
                self.mds.get_refs(request.ino, wait, now)
            case MonCommand():
                self.monitors.commands.add(token, request, deadline)
                self.monitors.send_commands()
            case MdsCommand():
                self.mds.commands.add(token, request, deadline)
                self.mds.send_commands(now)
        self._after(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.monitors.tick(now)
        self.mds.tick(now)
        if self._mount is not None and now >= self._mount[1]:
            self._fail_mount(self._unreachable())
        if self._closing is not None and now >= self._closing[1]:
            self._give_up_closing(now)
        self._after(now)

    def _give_up_closing(self, now: float) -> None:
        """The MDSs have not agreed in time: leave, and say what they may not have got."""
        assert self._closing is not None
        token, self._closing = self._closing[0], None
        unsaved = self.mds.engine.unsaved()
        self.mds.abandon(now)
        if unsaved:
            named = "; ".join(unsaved)
            lost = f"closed before the MDS had acknowledged every change; perhaps lost: {named}"
            self.out.append(Failed(token, SessionLost(lost, reason="closed", lost=unsaved)))
        else:
            self.out.append(Done(token, None))

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        mount = self._mount[1] if self._mount is not None else NEVER
        closing = self._closing[1] if self._closing is not None else NEVER
        return min(self.monitors.next_deadline(), self.mds.next_deadline(), mount, closing)

    def cancel(self, token: int, now: float) -> None:
        """Nobody waits for ``token`` any more."""
        if self._mount is not None and self._mount[0] == token:
            self._mount = None
        self.monitors.commands.cancel(token)
        self.mds.cancel(token, now)

    def unclaimed(self, result: object, now: float) -> None:
        """A call has succeeded, but its caller left before he heard of it: what he opened or locked is given back."""
        if isinstance(result, Answer) and result.file_mode is not None and result.inode is not None:
            self.mds.close_file(result.inode.ino, result.file_mode, now)
        elif isinstance(result, Got):
            self.mds.put_refs(result.ino, result.bits, now)
        elif isinstance(result, Locked):
            self.mds.locks.unclaimed(result, now)

    def disconnected(self, connection: Connection, error: Exception, now: float) -> None:
        """The connection is gone, or could not be made."""
        owner = connection.owner
        self.out.append(Disconnect(connection))
        connection.close()
        if isinstance(owner, Session):
            owner.lost(connection, error, now)
        else:
            self.monitors.lost(connection, error, now)
        self._after(now)

    def stop(self, now: float) -> None:
        """Drop all connections as they are."""
        self._closing = None
        self.mds.abandon(now)
        self.monitors.close(now)

    def _after(self, now: float) -> None:
        if self.mds.tickets_wanted and self.monitors.ready:
            self.mds.tickets_wanted = False
            self.monitors.renew_tickets(now)

    def _note_unexplained(self, connection: Connection) -> None:
        self.unknown.update(connection.unknown)
        connection.unknown.clear()
        for leftover in connection.leftover:
            if len(self.leftovers) < MAX_LEFTOVERS:
                self.leftovers.append(leftover)
            facts = {"structure": leftover.structure, "offset": leftover.offset, "size": leftover.size}
            self.out.append(Happened("bytes.skipped", facts))
        connection.leftover.clear()

    # What the monitors bring

    def mon_ready(self, now: float) -> None:
        known_as, self._known_as = self._known_as, self.tickets.global_id
        if known_as not in (0, self._known_as):
            self._be_another(known_as, now)
        self.mds.tickets_renewed(now)

    def _be_another(self, known_as: int, now: float) -> None:
        """The monitors have let us in as somebody else than the MDSs know: their sessions are not ours any more."""
        why = (
            f"the monitors, to whom the AUTH ticket of client.{known_as} was too old, take this client for another, "
            f"client.{self._known_as}: connect anew"
        )
        self.out.append(Happened("client.renamed", {"was": known_as, "global_id": self._known_as}))
        self.mds.renounce(SessionLost(why, reason="rejected"), now)

    def mon_refused(self, error: AuthError, now: float) -> None:
        self._fail_mount(error)
        self.mds.bar(error, now)

    def fs_map_received(self, message: MFsMapUser, now: float) -> None:
        if self.fscid is not None:
            return  # mounted: another default, or another name, is of no concern
        names = {info.name: info.fscid for info in message.fsmap.filesystems}
        wanted = message.fsmap.legacy_client_fscid if self.fs is None else names.get(self.fs, -1)
        if wanted not in names.values():
            self._fail_mount(self._no_file_system(names))
            return
        self.fscid = wanted
        self.monitors.subscribe(f"mdsmap.{wanted}", self.mds.mdsmap.epoch + 1 if self.mds.mdsmap else 0)

    def _no_file_system(self, names: dict[str, int]) -> MdsError:
        who = self.tickets.name
        has = f"it has none that {who} may see; `ceph fs ls` lists all"
        if names:
            has = f"it has: {', '.join(sorted(names))}"
        if self.fs is None and names:
            has = "name one with fs= (--fs); " + has
        wanted = f"no file system named {self.fs!r}" if self.fs is not None else "no default file system"
        mon = self.monitors.connection
        return MdsError(errno.ENOENT, f"{mon.who if mon else 'the cluster'} knows {wanted}; {has}")

    def mds_map_received(self, message: MMdsMap, now: float) -> None:
        self.mds.fsid = message.fsid
        self.monitors.seen_mds_map(f"mdsmap.{self.fscid}", message.epoch)
        self.mds.map_received(message.mdsmap, now)
        if self._mount is not None:
            token, deadline, root = self._mount
            self._mount = None
            if not root:
                self.out.append(Done(token, None))
                return
            path = FilePath(ROOT_INO, self.root.strip("/"))
            operation = Operation(RequestOp.GETATTR, path, self.root, GetattrArgs(STAT_MASK))
            self.mds.call(token, operation, deadline, now)

    def config_received(self, values: dict[str, str], now: float) -> None:
        try:
            self.mds.con_modes = self._configured(values)
        except ConfigError as error:
            self.out.append(Happened("config.refused", {"error": str(error)}))

    def osd_map_received(self, message: MOsdMap, now: float) -> None:
        self.osd_epoch = max((self.osd_epoch, *message.maps, *message.incremental_maps))
        for epoch in sorted({*message.maps, *message.incremental_maps}):
            full, change = message.maps.get(epoch), message.incremental_maps.get(epoch)
            if change is not None and change.client.fullmap is not None:
                full = change.client.fullmap
            listed = full.osd.blocklist if full is not None else change.osd.new_blocklist if change is not None else ()
            self.mds.blocklisted(listed, now)

    # What becomes of mounting

    def _fail_mount(self, error: Exception) -> None:
        if self._mount is not None:
            token = self._mount[0]
            self._mount = None
            self.out.append(Failed(token, error))

    def _unreachable(self) -> Exception:
        """Why we are not mounted yet."""
        if not self.monitors.ready:
            errors: dict[EntityAddr, object] = dict(self.monitors.errors)
            if (trying := self.monitors.connection) is not None:
                errors.setdefault(trying.target, f"no answer while awaiting {trying.phase.value}")
            tried = "; ".join(f"mon at {addr}: {error}" for addr, error in errors.items())
            return ConnectionFailed(
                f"no monitor let us in: {tried or 'none answered'}; check mon_host and that a monitor runs there"
            )
        awaited = "the FSMap" if self.fscid is None else "the MDSMap"
        assert self.monitors.connection is not None
        return RequestTimeout(f"{self.monitors.connection.who} did not send {awaited} in time", awaited=awaited)
