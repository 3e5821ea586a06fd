"""The public client: coroutines over one supervisor."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat as st
import types
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from cephcaps.auth.cephx import Tickets
from cephcaps.auth.crypto import CryptoError, CryptoKey
from cephcaps.caps import Caps
from cephcaps.config import ClientConfig, MonAddress, load_config
from cephcaps.core import STAT_MASK, Core, Mount
from cephcaps.errors import ConfigError, ConnectionFailed, MdsError, RequestTimeout
from cephcaps.mds.client import Credentials
from cephcaps.mds.requests import Operation
from cephcaps.mds.session import Session
from cephcaps.messenger.connection import Instance
from cephcaps.monitor.client import MonTimers
from cephcaps.shell.supervisor import Supervisor
from cephcaps.stat import DirEntry, Stat
from cephcaps.version import VERSION
from cephcaps.walk import components, walk
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityName
from cephwire.frag import WHOLE, frag_is_last, frag_next
from cephwire.inode import InodeStat
from cephwire.mdsmap import MdsMap
from cephwire.reply import ClientReply, ReaddirFlag, ReaddirReply
from cephwire.request import FilePath
from cephwire.requestargs import ReaddirArgFlag, ReaddirArgs
from cephwire.requestop import RequestOp

__all__ = ["Client", "connect"]

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
"""Seconds an MDS gets to agree to the end of a session; it drops the session by itself later."""

DEFAULT: Any = object()
"""Stands for the client's own request time-out; None would mean to wait for ever."""


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
    options: Mapping[str, object] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: tuple[int, ...] = (),
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
        ms_mode: "secure", "crc", "prefer-secure" or "prefer-crc"; what ceph.conf says if not said.
        root: directory to mount; paths begin there. "/" unless ceph.conf's client_mountpoint says otherwise.
        options: further ceph.conf options.
        uid, gid, groups: whose requests these are; this process's own if not said.
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
        uid=os.getuid() if uid is None else uid,
        gid=os.getgid() if gid is None else gid,
        groups=groups,
        connect_timeout=timeout,
        request_timeout=request_timeout,
    )


class Client:
    """One mount of one CephFS file system. Made by `connect`."""

    def __init__(
        self,
        *,
        settings: dict[str, Any],
        root: str | None,
        uid: int,
        gid: int,
        groups: tuple[int, ...],
        connect_timeout: float | None,
        request_timeout: float | None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._whose = (uid, gid, groups)
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._supervisor: Supervisor | None = None
        self._root_ino = 0
        self.config: ClientConfig | None = None

    # Life

    async def __aenter__(self) -> Self:
        """Reach the file system's root directory.

        Raises:
            ConfigError: ceph.conf, keyring or an argument cannot be used.
            AuthError: the cluster does not know the key or its owner, or does not let it mount ``root``.
            ConnectionFailed: no monitor could be reached.
            MdsError: no such file system (ENOENT), no such ``root``.
            RequestTimeout: a daemon did not answer in time.
        """
        if self._supervisor is not None:
            raise RuntimeError("a client is entered once: call connect() for another")
        self.config = load_config(**self._settings)
        try:
            async with asyncio.timeout(self._connect_timeout):
                monitors = await resolve(self.config.mons)
        except TimeoutError:
            raise ConnectionFailed("the monitors' names did not resolve in time; check mon_host and DNS") from None
        self._supervisor = Supervisor(self._core(self.config, monitors))
        await self._supervisor.start(f"cephcaps {self.config.name}")
        try:
            reply = await self._supervisor.call(Mount(), self._connect_timeout)
            if reply.trace.target is None:
                raise MdsError(errno.ENOENT, None, self._root)
            self._root_ino = reply.trace.target.ino
        except BaseException:
            await self._supervisor.close(CLOSE_TIMEOUT)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        await self._running.close(CLOSE_TIMEOUT)

    def _core(self, config: ClientConfig, monitors: tuple[EntityAddr, ...]) -> Core:
        key = None
        if config.key is not None:
            try:
                key = CryptoKey.from_base64(config.key.reveal())
            except CryptoError as error:
                raise ConfigError(f"the key of {config.name} cannot be used: {error}") from None
        root = self._root or config.mountpoint
        components(root)
        metadata = {
            "hostname": socket.gethostname(),
            "entity_id": config.name.id,
            "root": "/" + root.strip("/"),
            "pid": str(os.getpid()),
            "cephcaps_version": VERSION,
        }
        # A nonce of its own for every client: servers tell clients of one host apart by it.
        instance = Instance(nonce=int.from_bytes(os.urandom(4), "little") or 1)
        return Core(
            Credentials(Tickets(EntityName.parse(config.name), key, os.urandom), instance, *self._whose),
            monitors,
            _modes(config.mon_modes),
            _modes(config.mds_modes),
            config.fs,
            root,
            metadata,
            MonTimers(config.mon_hunt_interval, config.mon_ping_interval, config.mon_ping_timeout),
            lambda values: _modes(config.with_mon_values(values).mds_modes),
        )

    # What is known, without I/O

    @property
    def fsid(self) -> str:
        """The cluster's UUID."""
        return str(uuid.UUID(bytes=self._running.core.fsid))

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
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise RuntimeError("not connected yet: use `async with connect(...) as client`")
        return self._supervisor

    # Calls

    async def stat(
        self,
        path: str | os.PathLike[str],
        want: str | int | Caps = "",
        *,
        follow_symlinks: bool = True,
        timeout: float | None = DEFAULT,
    ) -> Stat:
        """The metadata of ``path``, as of now: what other clients hold dirty is asked for.

        Args:
            want: caps to be valid in the answer beyond what stat shows.
        Raises:
            MdsError: the MDS refused; FileNotFoundError, NotADirectoryError, PermissionError ... as it says.
            RequestTimeout: no answer in time.
        """
        mask = STAT_MASK | int(Caps(want))
        return Stat.of(await self._walk(path, mask, follow_symlinks, self._until(timeout)))

    async def exists(self, path: str | os.PathLike[str], *, timeout: float | None = DEFAULT) -> bool:
        """Whether ``path`` leads to anything; a dangling symlink does not."""
        try:
            await self._walk(path, 0, True, self._until(timeout))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def readlink(self, path: str | os.PathLike[str], *, timeout: float | None = DEFAULT) -> str:
        """What the symlink ``path`` says.

        Raises:
            MdsError: EINVAL where it is none.
        """
        inode = await self._walk(path, 0, False, self._until(timeout))
        if not st.S_ISLNK(inode.mode):
            raise MdsError(errno.EINVAL, None, os.fspath(path))
        return inode.symlink

    async def listdir(self, path: str | os.PathLike[str], *, timeout: float | None = DEFAULT) -> list[str]:
        """The names in directory ``path``, in the MDS's order."""
        return [entry.name async for entry in self.scandir(path, timeout=timeout)]

    async def scandir(
        self, path: str | os.PathLike[str], *, timeout: float | None = DEFAULT
    ) -> AsyncIterator[DirEntry]:
        """The entries of directory ``path`` as they come, ``timeout`` counting for each piece of the answer.

        Raises:
            MdsError: ENOTDIR where it is no directory.
        """
        what = os.fspath(path)
        inode = await self._walk(path, 0, True, self._until(timeout))
        if not st.S_ISDIR(inode.mode):
            raise MdsError(errno.ENOTDIR, None, what)
        frag, last = WHOLE, ""
        while True:
            # A directory may be split or joined while we read it. The MDS maps the fragment asked for to the one it
            # has now and goes on behind the last name told, in the order of the names' hash, which stays.
            args = ReaddirArgs(frag, 0, 0, ReaddirArgFlag.REPLY_BITFLAGS, 0)
            listing = Operation(RequestOp.READDIR, FilePath(inode.ino), what, args, path2=FilePath(0, last))
            reply = await self._ask(listing, self._until(timeout))
            found = reply.extra
            if not isinstance(found, ReaddirReply):
                raise MdsError(errno.EIO, "the MDS told nothing of the directory", what)
            for entry in found.entries:
                last = entry.dname
                yield DirEntry(entry.dname, entry.inode.ino, Stat.of(entry.inode))
            frag = found.dirstat.frag
            if found.flags & ReaddirFlag.FRAG_END:
                if frag_is_last(frag):
                    return
                frag = frag_next(frag)

    async def _walk(self, path: str | os.PathLike[str], mask: int, follow: bool, until: float | None) -> InodeStat:
        return await walk(
            lambda operation: self._ask(operation, until), self._root_ino, os.fsdecode(path), mask, follow=follow
        )

    def _until(self, timeout: float | None) -> float | None:
        """The end of ``timeout`` on the loop's clock."""
        seconds = self._request_timeout if timeout is DEFAULT else timeout
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def _ask(self, operation: Operation, until: float | None) -> ClientReply:
        left = None if until is None else until - asyncio.get_running_loop().time()
        if left is not None and left <= 0:
            raise RequestTimeout(f"{operation.what}: time was up before all was asked", awaited="our turn")
        reply: ClientReply = await self._running.call(operation, left)
        return reply


def _modes(names: tuple[str, ...]) -> tuple[ConMode, ...]:
    return tuple(ConMode[name.upper()] for name in names)


async def resolve(mons: tuple[tuple[MonAddress, ...], ...]) -> tuple[EntityAddr, ...]:
    """The monitors' msgr2 addresses, names looked up.

    Raises:
        ConnectionFailed: no name resolves.
        ConfigError: there are v1 addresses only.
    """
    loop = asyncio.get_running_loop()
    found: list[EntityAddr] = []
    failures: list[str] = []
    for mon in [address for addresses in mons for address in addresses if address.protocol == "v2"]:
        try:
            infos = await loop.getaddrinfo(mon.host, mon.port, type=socket.SOCK_STREAM)
        except OSError as error:
            failures.append(f"{mon.host}: {error.strerror}")
            continue
        hosts = dict.fromkeys(info[4][0] for info in infos)
        found += [EntityAddr.make(AddrType.MSGR2, str(host), mon.port, mon.nonce) for host in hosts]
    if failures and not found:
        raise ConnectionFailed(f"no monitor's name resolves: {'; '.join(failures)}; check mon_host")
    if not found:
        raise ConfigError("mon_host names messenger v1 addresses only: add the monitors' v2 addresses (port 3300)")
    return tuple(dict.fromkeys(found))
