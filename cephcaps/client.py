"""The public client: coroutines over one supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import types
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from cephcaps.config import ClientConfig, load_config
from cephcaps.core import ROOT_INO, GetRefs, MdsCommand, MonCommand, Mount, Safe
from cephcaps.engine.engine import Engine
from cephcaps.engine.inode import Inode
from cephcaps.engine.refs import Got
from cephcaps.errors import ConnectionFailed, MdsError, SessionLost
from cephcaps.events import Event
from cephcaps.filelock import Locking
from cephcaps.mds.requests import Answer, Operation
from cephcaps.mds.session import Session
from cephcaps.opening import con_modes, make_core, messenger_of, resolve
from cephcaps.paths import DEFAULT, Path
from cephcaps.shell.data import DataHandler
from cephcaps.shell.recording import Recorder
from cephcaps.shell.supervisor import Supervisor
from cephcaps.snapshots import Snapshots
from cephcaps.view import Events, InodeCaps, Metrics
from cephcaps.walk import components
from cephcaps.xattrs import Xattrs
from cephwire.control import ConMode
from cephwire.mdsmap import MdsMap
from cephwire.request import FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp

__all__ = ["Client", "connect"]

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
"""Seconds an MDS gets to agree to the end of a session; it drops the session by itself later."""


def connect(
    conf: str | os.PathLike[str] | None = None,
    *,
    cluster: str | None = None,
    name: str | None = None,
    keyring: str | os.PathLike[str] | None = None,
    mon_host: str | None = None,
    fs: str | None = None,
    ms_mode: str | None = None,
    root: str | None = None,
    data: DataHandler | None = None,
    options: Mapping[str, object] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: tuple[int, ...] = (),
    record: str | os.PathLike[str] | None = None,
    mount: bool = True,
    timeout: float | None = CONNECT_TIMEOUT,
    request_timeout: float | None = REQUEST_TIMEOUT,
) -> Client:
    """A client to be entered with ``async with``; nothing is read or connected before that.

    Args:
        conf: path of ceph.conf; else CEPH_CONF, else the usual places.
        cluster: what ``$cluster`` stands for in the usual places.
        name: who to be, TYPE.ID; "client.admin" if not said.
        keyring, mon_host: beat what ceph.conf says.
        fs: name of the file system; the cluster's default if not said.
        ms_mode: "secure", "crc", "prefer-secure" or "prefer-crc"; what ceph.conf says if not said. "legacy" is
            messenger v1, for daemons that speak nothing newer: signed, but never encrypted.
        root: directory to mount; paths begin there. "/" unless ceph.conf's client_mountpoint says otherwise.
        options: further ceph.conf options.
        data: who keeps file data in memory; without one none outlives the block that read or wrote it.
        uid, gid, groups: whose requests these are; this process's own if not said.
        record: path of a pcapng file to write every message to, in clear and without keys or tickets; what it held is
            overwritten. Should it become impossible to write, RecordingEnded is all that happens. One path is for one
            client, and for one process.
        mount: False is for commands to daemons alone: nothing is asked of the file system, not even its root directory,
            which another client may hold up; there are no paths then.
        timeout: seconds until the file system's root must be reached; None waits for ever.
        request_timeout: seconds for each call that says nothing else.
    """
    return Client(
        settings={
            "conf": conf,
            "cluster": cluster,
            "name": name,
            "keyring": keyring,
            "mon_host": mon_host,
            "fs": fs,
            "ms_mode": ms_mode,
            "options": options,
        },
        root=root,
        data=data,
        uid=os.getuid() if uid is None else uid,
        gid=os.getgid() if gid is None else gid,
        groups=groups,
        record=record,
        mount=mount,
        connect_timeout=timeout,
        request_timeout=request_timeout,
    )


class Client(Snapshots, Xattrs, Locking):
    """One mount of one CephFS file system. Made by `connect`."""

    def __init__(
        self,
        *,
        settings: dict[str, Any],
        root: str | None,
        data: DataHandler | None,
        uid: int,
        gid: int,
        groups: tuple[int, ...],
        record: str | os.PathLike[str] | None,
        mount: bool,
        connect_timeout: float | None,
        request_timeout: float | None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._data = data
        self._whose = (uid, gid, groups)
        self._record = record
        self._mount = mount
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._supervisor: Supervisor | None = None
        self.root_ino: int = 0
        self.config: ClientConfig | None = None

    # Life

    async def __aenter__(self) -> Self:
        """Reach the file system's root directory.

        Raises:
            ConfigError: ceph.conf, keyring, the recording or an argument cannot be used.
            AuthError: the cluster does not know the key or its owner, or does not let it mount ``root``.
            ConnectionFailed: no monitor could be reached.
            MdsError: no such file system (ENOENT), no such ``root``.
            RequestTimeout: a daemon did not answer in time.
        """
        if self._supervisor is not None:
            raise RuntimeError("a client is entered once: call connect() for another")
        self.config = load_config(**self._settings)
        self._snapdir = self.config.snapdir
        recorder = self._recorder()
        try:
            async with asyncio.timeout(self._connect_timeout):
                monitors = await resolve(self.config.mons, messenger_of(self.config))
            core = make_core(self.config, monitors, self._root, self._whose, self._configured)
            core.mds.engine.cache.handled = self._data is not None
        except BaseException as error:
            if recorder is not None:
                recorder.close()
            if isinstance(error, TimeoutError):
                raise ConnectionFailed("the monitors' names did not resolve in time; check mon_host and DNS") from None
            raise
        self._supervisor = Supervisor(core, data=self._data, recorder=recorder)
        if self.config.key is not None and self.config.key.exposed:
            self._supervisor.log.warn("key.exposed", file=self.config.key.exposed)
        try:
            await self._supervisor.start(f"cephcaps {self.config.name}")
            answer: Answer | None = await self._supervisor.call(Mount(self._mount), self._connect_timeout)
            if answer is not None:
                if answer.inode is None:
                    raise MdsError(errno.ENOENT, None, self._root)
                self.root_ino = answer.inode.ino
                await self._learn_above(components(self._running.core.root))
        except BaseException:
            await self._supervisor.close(CLOSE_TIMEOUT)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        try:
            await self._running.close(CLOSE_TIMEOUT)
        except SessionLost as lost:
            if error is None:
                raise
            error.add_note(f"besides: {lost}")

    async def _learn_above(self, names: list[str]) -> None:
        """Get to know the directories above the root of the mount, as libcephfs does: their quotas count for all below.

        An MDS tells nothing of them to a key that is limited to ``root``; then they count for nobody who uses it.
        """
        ino, until = ROOT_INO, self._until(self._connect_timeout)
        with contextlib.suppress(MdsError):
            for name in names:
                found = await self._ask(Operation(RequestOp.LOOKUP, FilePath(ino, name), name, GetattrArgs(0)), until)
                ino = found.inode.ino if found.inode is not None else 0

    def _recorder(self) -> Recorder | None:
        if self._record is None:
            return None
        from cephcaps.trace import record  # few record, and its import takes a while

        return record.Recorder(self._record)

    def _configured(self, config: ClientConfig) -> tuple[ConMode, ...]:
        """What the monitors set for clients counts from now on; gives the connection modes to offer MDSs."""
        self._snapdir = config.snapdir
        return con_modes(config.mds_modes)

    # What is known, without I/O

    @property
    def fsid(self) -> str:
        """The cluster's UUID."""
        return str(uuid.UUID(bytes=self._running.core.mds.fsid))

    @property
    def global_id(self) -> int:
        """Our number in the cluster, as in ``client.4123``."""
        return self._running.core.tickets.global_id

    @property
    def fs_name(self) -> str:
        """The file system's name."""
        return self.mds_map.fs_name

    @property
    def mds_map(self) -> MdsMap:
        """The newest map of the file system."""
        mdsmap = self._running.core.mds.mdsmap
        assert mdsmap is not None
        return mdsmap

    @property
    def sessions(self) -> dict[int, Session]:
        """Our sessions, by rank."""
        return dict(self._running.core.mds.sessions)

    @property
    def _client(self) -> Client:
        return self

    @cached_property  # every call asks several times
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise RuntimeError("not connected yet: use `async with connect(...) as client`")
        return self._supervisor

    # Caps

    def inode_caps(self, path_or_ino: Path | int) -> InodeCaps | None:
        """What we hold on an inode; None where it is not in the cache. No I/O."""
        inode = self.cached(path_or_ino)
        return None if inode is None else InodeCaps.of(inode, self.engine.cache.issued(inode, self._now()))

    def why(self, path_or_ino: Path | int) -> list[str]:
        """Why the caps on an inode are as they are, a line for each rank: asked back and in use, about to go, kept."""
        inode = self.cached(path_or_ino)
        return [] if inode is None else self.engine.explanations.why(inode, self._now())

    def cached(self, path_or_ino: Path | int) -> Inode | None:
        """The inode as it is in the cache, by number or by names the cache knows."""
        if isinstance(path_or_ino, int):
            return self.engine.cache.inodes.get(path_or_ino)
        ino = self.root_ino
        for name in components(path_or_ino):
            found = self.engine.lookup(ino, name, 0, self._now())
            if not isinstance(found, Inode):
                return None
            ino = found.ino
        return self.engine.cache.inodes.get(ino)

    def release(self, path_or_ino: Path | int) -> bool:
        """Drop an inode from the cache; its caps go out with the next batch. False if it is open, dirty or unknown."""
        inode = self.cached(path_or_ino)
        if inode is None:
            return False
        return self._running.local(lambda now: self._running.core.mds.release(inode.ino, now))

    def drop_caches(self) -> None:
        """Drop every inode that is neither open nor dirty, and give their caps back now."""
        self._running.local(self._running.core.mds.drop_caches)

    async def flush(self, path_or_ino: Path | int, *, timeout: float | None = DEFAULT) -> None:
        """Return once the MDS has acknowledged what was changed on one inode."""
        if isinstance(path_or_ino, int):
            ino = path_or_ino
        else:
            ino = (await self._walk(path_or_ino, 0, self._until(timeout))).ino
        await self.flush_inode(ino, timeout)

    async def flush_inode(self, ino: int, timeout: float | None) -> None:
        """As `flush`, of an inode by number. For `OpenFile`."""
        await self._running.call(Safe(ino), self._left(self._until(timeout)))

    async def sync(self, *, timeout: float | None = DEFAULT) -> None:
        """Return once everything this client has changed is durable at the MDSs."""
        await self._running.call(Safe(0), self._left(self._until(timeout)))

    async def fsync(self, path_or_ino: Path | int, *, timeout: float | None = DEFAULT) -> None:
        """As `flush`: changes and requests on one inode, a directory's entries among them."""
        await self.flush(path_or_ino, timeout=timeout)

    # Commands

    async def mon_command(self, command: Mapping[str, object], *, timeout: float | None = DEFAULT) -> bytes:
        """What the monitors put out on a command of the ``ceph`` tool: ``{"prefix": "health", "format": "json"}``.

        Raises:
            MdsError: as OSError: what the monitors say is wrong with it; EACCES where this key may not ask that.
        """
        output: bytes = await self._running.call(MonCommand(json.dumps(command)), self._left(self._until(timeout)))
        return output

    async def mds_command(self, rank: int, command: Mapping[str, object], *, timeout: float | None = DEFAULT) -> bytes:
        """What ``ceph tell mds.RANK`` puts out: ``{"prefix": "session ls"}``. The key needs ``mds 'allow *'``.

        Raises:
            MdsError: as OSError: what the MDS says is wrong with it; EPERM where this key may not ask it.
            ConnectionFailed: the rank has gone over to another daemon before it answered.
        """
        call = MdsCommand(rank, json.dumps(command))
        output: bytes = await self._running.call(call, self._left(self._until(timeout)))
        return output

    # Data, for `OpenFile` and `CapRefs`

    async def get_refs(self, ino: int, asked: tuple[int, int, int, int], timeout: float | None) -> Got:
        """For `CapRefs`: wait until caps may be used, and have them kept."""
        got: Got = await self._running.call(GetRefs(ino, *asked), self._left(self._until(timeout)))
        return got

    def put_refs(self, ino: int, bits: int) -> None:
        """For `CapRefs`: they are not in use any more."""
        if self._supervisor is not None and not self._supervisor.closed:
            self._running.local(lambda now: self._running.core.mds.put_refs(ino, bits, now))

    def wrote(self, ino: int, endoff: int, mtime: int, buffered: bool) -> None:
        """For `CapRefs`: data were written, up to byte ``endoff``."""
        lost = self._running.local(lambda now: self._running.core.mds.wrote(ino, endoff, mtime, buffered, now))
        if lost is not None:
            raise lost.with_traceback(None)

    def inode_error(self, ino: int) -> tuple[int, Exception | None]:
        """How often data or changes of an open inode were lost, and how the last time."""
        inode = self.engine.cache.inodes.get(ino)
        return (0, None) if inode is None or inode.use is None else (inode.use.errors, inode.use.error)

    @property
    def osd_epoch_barrier(self) -> int:
        """The OSDMap epoch one must have before touching data: the highest an MDS has named, or was raised to here."""
        return self.engine.cache.osd_epoch_barrier

    def raise_osd_epoch_barrier(self, epoch: int) -> None:
        """Have it known that data need a newer OSDMap: every message about caps says so from now on."""
        self.engine.raise_osd_epoch_barrier(epoch)

    def close_inode(self, ino: int, file_mode: int) -> None:
        """For `OpenFile`: a handle is let go."""
        if self._supervisor is not None and not self._supervisor.closed:
            self._running.local(lambda now: self._running.core.mds.close_file(ino, file_mode, now))

    # Seeing

    def events(
        self,
        types: tuple[type[Event], ...] | None = None,
        ino: int | None = None,
        limit: int = 10_000,
    ) -> Events:
        """What happens from now on, to be read in a ``with`` block.

        Args:
            types: classes of events wanted, base classes among them; None for all but those about requests.
            ino: leave out events about other inodes.
            limit: how many to keep for a slow reader; what overflows is counted in an EventsDropped.
        """
        return Events(self._running, types, ino, limit)

    @property
    def metrics(self) -> Metrics:
        """Counters as they stand, and everything older than 5 s that is owed or expected, with its why."""
        return Metrics.of(self._running.core, self._now())

    @property
    def engine(self) -> Engine:
        """The cap engine inside, for tests and tools; nothing about it is promised."""
        return self._running.core.mds.engine
