"""The reference peer: Ceph's own client library, in a process of its own.

``LibcephfsPeer`` drives ``libcephfs_peer.py``, which the python3 of the cluster's release runs beside that release's
libcephfs. Separate, so that it may be frozen or killed, and so that the library's threads are not ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .cluster import LiveCluster
from .release import ENVIRONMENT
from .waiting import InThread

__all__ = ["AT_STATX_DONT_SYNC", "AT_SYMLINK_NOFOLLOW", "STATX_ALL_STATS", "LibcephfsPeer", "PeerEntry", "PeerStat"]

SCRIPT = Path(__file__).with_name("libcephfs_peer.py")

STATX_ALL_STATS = 0x1FFF
"""``CEPH_STATX_ALL_STATS`` (cephfs/ceph_ll_client.h): every attribute, btime and version among them."""

AT_SYMLINK_NOFOLLOW = 0x100
AT_STATX_DONT_SYNC = 0x4000
"""Answer from what the client holds, without asking the MDS."""

Name = str | bytes
"""A name in a request; in answers names are str, with surrogate escapes where they are not UTF-8."""

_numbers = itertools.count()


@dataclass(frozen=True)
class PeerStat:
    """``struct ceph_statx``; times are nanoseconds since the epoch."""

    mask: int
    blksize: int
    nlink: int
    uid: int
    gid: int
    mode: int
    ino: int
    size: int
    blocks: int
    dev: int
    rdev: int
    atime: int
    ctime: int
    mtime: int
    btime: int
    version: int
    """The change attribute."""


@dataclass(frozen=True)
class PeerEntry:
    """One directory entry."""

    name: str
    ino: int
    type: int
    """``DT_DIR`` and the like."""
    stat: PeerStat | None
    """None unless asked for."""


class LibcephfsPeer:
    """A mounted libcephfs client; a context manager that unmounts it.

    Every method takes at most ``timeout`` seconds and raises TimeoutError past it; what libcephfs refuses is the
    OSError its errno means. Operations of one peer may run at the same time: ``submit`` begins one and returns its
    Future. In a test whose own client must answer meanwhile: ``await peer.aio.statx(path)``.

    Args:
        cluster: a started cluster.
        client_id: ``admin`` for ``client.admin``; another's key must be in ``cluster.keyring``.
        fs: file system, None for the default one.
        root: directory of the file system to mount.
        options: Ceph options of this client, such as ``{"client_cache_size": "100"}``.
        uuid: the identity under which a later client may reclaim this one's state.
        timeout: seconds for each operation.

    Attributes:
        instance_id: the client's global_id, its ``id`` in the MDS's session list.
        pid: of its process.
        log_name: its stderr, for ``cluster.log_tail``.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        *,
        client_id: str = "admin",
        fs: str | None = None,
        root: Name = "/",
        options: dict[str, str] | None = None,
        uuid: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.timeout = timeout
        self.aio = InThread(self)
        self.log_name = f"peer.{next(_numbers)}"
        self._ids = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._ended = False
        script = cluster.directory / SCRIPT.name
        if not script.exists():
            shutil.copy(SCRIPT, script)
        with (cluster.directory / "log" / f"{self.log_name}.log").open("ab") as stderr:
            self._process = subprocess.Popen(
                cluster.release.command("/usr/bin/python3", cluster.release.inside(script)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=ENVIRONMENT,
                cwd=cluster.directory,
                start_new_session=True,
            )
        cluster.guard(self.log_name, self.pid)
        self._reader = threading.Thread(target=self._read, name=self.log_name, daemon=True)
        self._reader.start()
        try:
            self.instance_id: int = self.call(
                "mount",
                conf=str(cluster.inner_conf),
                client_id=client_id,
                fs=fs,
                root=_text(root),
                options=options or {},
                uuid=uuid,
            )
        except BaseException as error:
            self.kill()
            if isinstance(error, Exception):
                error.add_note(f"{self.log_name} said:\n{cluster.log_tail(self.log_name)}")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # The process

    @property
    def pid(self) -> int:
        return self._process.pid

    def freeze(self) -> None:
        """Stop it as it stands: it answers nobody, the MDS included, until ``thaw``."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word to the MDS, which keeps its session until that times out."""
        self._process.kill()
        self._end()

    def close(self) -> None:
        """Unmount and end; after ``kill`` there is nothing left to do. One that cannot unmount is killed."""
        if self._process.poll() is None:
            self.thaw()
            with contextlib.suppress(OSError, ConnectionError, TimeoutError):
                self.call("unmount")
            with contextlib.suppress(OSError):
                self._stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._end()

    # Any operation

    def submit(self, op: str, **args: Any) -> Future[Any]:
        """Begin an operation of ``libcephfs_peer.Peer``; its Future gives what that returns."""
        future: Future[Any] = Future()
        with self._lock:
            if self._ended:
                raise ConnectionError(f"{self.log_name} has ended")
            number = next(self._ids)
            self._waiting[number] = future
        line = json.dumps({"id": number, "op": op, "args": args}).encode() + b"\n"
        try:
            with self._lock:
                self._stdin.write(line)
                self._stdin.flush()
        except (OSError, ValueError) as error:
            self._waiting.pop(number, None)
            raise ConnectionError(f"{self.log_name} has ended") from error
        return future

    def call(self, op: str, *, timeout: float | None = None, **args: Any) -> Any:
        """Do one operation and return its raw answer."""
        limit = self.timeout if timeout is None else timeout
        future = self.submit(op, **args)
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done():
                raise  # what libcephfs answered: ETIMEDOUT
            what = args.get("path") or args.get("source") or ""
            raise TimeoutError(f"{self.log_name}: {op} {what} not done within {limit:g} s") from None

    # The mount

    def sync_fs(self) -> None:
        """Flush everything dirty, and wait."""
        self.call("sync_fs")

    def abort_conn(self) -> None:
        """Leave the MDS without a word, as an unclean shutdown would; the process lives on."""
        self.call("abort_conn")

    def start_reclaim(self, uuid: str, flags: int = 1) -> None:
        """Take over, or with flag 1 (``CEPH_RECLAIM_RESET``) end, the session of the client with that uuid."""
        self.call("start_reclaim", uuid=uuid, flags=flags)

    def finish_reclaim(self) -> None:
        self.call("finish_reclaim")

    # Names

    def mkdir(self, path: Name, mode: int = 0o755) -> None:
        self.call("mkdir", path=_text(path), mode=mode)

    def mkdirs(self, path: Name, mode: int = 0o755) -> None:
        self.call("mkdirs", path=_text(path), mode=mode)

    def rmdir(self, path: Name) -> None:
        self.call("rmdir", path=_text(path))

    def unlink(self, path: Name) -> None:
        self.call("unlink", path=_text(path))

    def rename(self, source: Name, target: Name) -> None:
        self.call("rename", source=_text(source), target=_text(target))

    def link(self, existing: Name, path: Name) -> None:
        self.call("link", existing=_text(existing), path=_text(path))

    def symlink(self, target: Name, path: Name) -> None:
        self.call("symlink", target=_text(target), path=_text(path))

    def readlink(self, path: Name) -> str:
        return self.call("readlink", path=_text(path))

    def listdir(self, path: Name) -> list[str]:
        return [entry.name for entry in self.readdir(path)]

    def readdir(self, path: Name, want: int = 0) -> list[PeerEntry]:
        """Entries in the MDS's order without ``.`` and ``..``; with ``want`` (STATX_...) each has its stat."""
        found = self.call("readdir", path=_text(path), want=want)
        return [PeerEntry(e["name"], e["ino"], e["type"], PeerStat(**e["stat"]) if want else None) for e in found]

    # Attributes

    def chmod(self, path: Name, mode: int) -> None:
        self.call("chmod", path=_text(path), mode=mode)

    def chown(self, path: Name, uid: int, gid: int, *, follow: bool = True) -> None:
        self.call("chown", path=_text(path), uid=uid, gid=gid, follow=follow)

    def truncate(self, path: Name, size: int) -> None:
        self.call("truncate", path=_text(path), size=size)

    def utimes(self, path: Name, *, atime: int | None = None, mtime: int | None = None, follow: bool = True) -> None:
        """Set times, in nanoseconds."""
        self.call("utimes", path=_text(path), atime=atime, mtime=mtime, follow=follow)

    def statx(self, path: Name, want: int = STATX_ALL_STATS, flags: int = 0) -> PeerStat:
        return PeerStat(**self.call("statx", path=_text(path), want=want, flags=flags))

    def statx_many(self, paths: Iterable[Name], want: int = STATX_ALL_STATS, flags: int = 0) -> list[PeerStat | None]:
        """One stat for each path, in one call; None where there is nothing."""
        found = self.call("statx_many", paths=[_text(path) for path in paths], want=want, flags=flags)
        return [None if one is None else PeerStat(**one) for one in found]

    def exists(self, path: Name) -> bool:
        return self.statx_many([path], 0, AT_SYMLINK_NOFOLLOW) != [None]

    def setxattr(self, path: Name, name: str, value: bytes, flags: int = 0) -> None:
        """Set an extended attribute, virtual ones such as ``ceph.dir.pin`` included."""
        self.call("setxattr", path=_text(path), name=name, value=value.hex(), flags=flags)

    def getxattr(self, path: Name, name: str) -> bytes:
        return bytes.fromhex(self.call("getxattr", path=_text(path), name=name))

    def listxattr(self, path: Name) -> list[str]:
        return self.call("listxattr", path=_text(path))

    def removexattr(self, path: Name, name: str) -> None:
        self.call("removexattr", path=_text(path), name=name)

    # Files

    def write_file(self, path: Name, data: bytes | None = None, *, size: int = 0, mode: int = 0o644) -> int:
        """Create or replace a file with ``data``, or with ``size`` bytes ``x``; returns the bytes written."""
        return self.call(
            "write_file", path=_text(path), data=None if data is None else data.hex(), size=size, mode=mode
        )

    def read_file(self, path: Name) -> bytes:
        return bytes.fromhex(self.call("read_file", path=_text(path)))

    def open(self, path: Name, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        """Open and keep open; the number is for the methods below."""
        return self.call("open", path=_text(path), flags=flags, mode=mode)

    def close_fd(self, fd: int) -> None:
        self.call("close", fd=fd)

    def read(self, fd: int, offset: int, size: int) -> bytes:
        return bytes.fromhex(self.call("read", fd=fd, offset=offset, size=size))

    def write(self, fd: int, offset: int, data: bytes) -> int:
        return self.call("write", fd=fd, offset=offset, data=data.hex())

    def fsync(self, fd: int, *, datasync: bool = False) -> None:
        self.call("fsync", fd=fd, datasync=datasync)

    def ftruncate(self, fd: int, size: int) -> None:
        self.call("ftruncate", fd=fd, size=size)

    def fstatx(self, fd: int, want: int = STATX_ALL_STATS, flags: int = 0) -> PeerStat:
        return PeerStat(**self.call("fstatx", fd=fd, want=want, flags=flags))

    # Caps, locks, lazy I/O

    def caps(self, path: Name) -> int:
        """The cap bits issued to this peer on an inode, as it sees them."""
        return self.call("caps", path=_text(path))

    def fd_caps(self, fd: int) -> int:
        return self.call("fd_caps", fd=fd)

    def flock(self, fd: int, operation: int, owner: int = 1) -> None:
        """``fcntl.LOCK_EX`` and the like; without ``LOCK_NB`` it waits."""
        self.call("flock", fd=fd, operation=operation, owner=owner)

    def lockf(
        self,
        path: Name,
        kind: int = fcntl.F_WRLCK,
        *,
        start: int = 0,
        length: int = 0,
        owner: int = 1,
        wait: bool = False,
    ) -> None:
        """Lock a byte range (``fcntl.F_RDLCK``, ``F_WRLCK``, ``F_UNLCK``); length 0 reaches to the end.

        Unlocking all of it lets go of the file, which stays open for locks until then.
        """
        self.call("setlk", path=_text(path), kind=kind, start=start, length=length, owner=owner, wait=wait)

    def getlk(
        self, path: Name, kind: int = fcntl.F_WRLCK, *, start: int = 0, length: int = 0, owner: int = 1
    ) -> tuple[int, int, int, int] | None:
        """The lock that stands in the way of such a one: kind, start, length and pid; None if nothing does."""
        found = self.call("getlk", path=_text(path), kind=kind, start=start, length=length, owner=owner)
        return None if found[0] == fcntl.F_UNLCK else tuple(found)

    def lazyio(self, fd: int, *, enable: bool = True) -> None:
        self.call("lazyio", fd=fd, enable=enable)

    def lazyio_propagate(self, fd: int, offset: int = 0, count: int = 0) -> None:
        self.call("lazyio_propagate", fd=fd, offset=offset, count=count)

    def lazyio_synchronize(self, fd: int, offset: int = 0, count: int = 0) -> None:
        self.call("lazyio_synchronize", fd=fd, offset=offset, count=count)

    # The pipe

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"])
            with contextlib.suppress(InvalidStateError):  # cancelled by whoever waited
                if "result" in answer:
                    future.set_result(answer["result"])
                elif answer["errno"] is not None:
                    future.set_exception(OSError(answer["errno"], answer["error"]))
                else:
                    future.set_exception(RuntimeError(answer["error"]))
        with self._lock:
            self._ended = True
            left, self._waiting = self._waiting, {}
        for future in left.values():
            with contextlib.suppress(InvalidStateError):
                future.set_exception(ConnectionError(f"{self.log_name} has ended"))

    def _end(self) -> None:
        self._process.wait(timeout=10)
        self._reader.join(timeout=10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def _text(name: Name) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
