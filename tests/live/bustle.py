"""A long and varied work that several of Ceph's own clients do in the same few folders, each in the other's way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from .libcephfs import LibcephfsPeer

__all__ = ["Mounted", "Worker", "bustle", "prepare"]

FOLDERS, NAMES = 4, 10
"""So few that whatever one client holds another soon wants."""
OPEN_FILES = 5
"""Of one worker, at once."""
USUAL = {
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EWOULDBLOCK, errno.EINVAL,
    errno.ENODATA, errno.EXDEV, errno.ELOOP, errno.EROFS, errno.EMLINK, errno.EBUSY, errno.EACCES, errno.EPERM,
    errno.EMFILE, errno.ESTALE, errno.EBADF,
}  # fmt: skip
"""What may be refused where others work in the same place."""


class Worker:
    """Does one thing after another, as chance has it, by one libcephfs.

    Args:
        peer: may have two workers, an even and an odd one.
        seed: of its chance; its name among all workers.
    """

    def __init__(self, peer: LibcephfsPeer, folder: str, seed: int) -> None:
        self._peer, self._folder, self._chance = peer, folder, random.Random(seed)
        self._seed = seed
        self._fds: list[int] = []
        self._doings: tuple[tuple[int, Callable[[], object]], ...] = (
            (14, self._open),
            (16, self._write),
            (10, self._read),
            (4, lambda: peer.fsync(self._fd(), datasync=self._chance.random() < 0.5)),
            (6, lambda: peer.ftruncate(self._fd(), self._chance.choice((0, 5, 700, 5000)))),
            (5, lambda: peer.fstatx(self._fd())),
            (14, lambda: peer.statx(self._path(), self._chance.choice((0, 0x7FF, 0x200, 0x1FFF)))),
            (9, lambda: peer.chmod(self._path(), self._chance.choice((0o600, 0o640, 0o666, 0o777)))),
            (4, lambda: peer.chown(self._path(), self._chance.randrange(3), -1, follow=False)),
            (5, lambda: peer.utimes(self._path(), mtime=self._chance.randrange(10**18, 2 * 10**18))),
            (5, lambda: peer.truncate(self._path(), self._chance.choice((0, 30, 4096)))),
            (5, lambda: peer.setxattr(self._path(), self._name(), b"x" * self._chance.randrange(40))),
            (4, lambda: peer.getxattr(self._path(), self._name())),
            (3, lambda: peer.listxattr(self._path())),
            (2, lambda: peer.removexattr(self._path(), self._name())),
            (6, self._rename),
            (3, lambda: peer.link(self._path(), self._path())),
            (6, lambda: peer.unlink(self._path())),
            (2, lambda: peer.symlink(self._chance.choice("0123"), self._path())),
            (5, lambda: peer.readdir(self._where(), self._chance.choice((0, 0x7FF)))),
            (3, lambda: peer.mkdir(f"{self._where()}/folder{self._chance.randrange(2)}")),
            (3, lambda: peer.rmdir(f"{self._where()}/folder{self._chance.randrange(2)}")),
            (6, lambda: peer.write_file(self._path(), b"x" * self._chance.randrange(9000), mode=0o666)),
            (6, lambda: peer.read_file(self._path())),
            (2, lambda: peer.flock(self._fd(), fcntl.LOCK_EX | fcntl.LOCK_NB, seed)),
            (2, lambda: peer.flock(self._fd(), fcntl.LOCK_SH | fcntl.LOCK_NB, seed)),
            (3, lambda: peer.flock(self._fd(), fcntl.LOCK_UN, seed)),
            (2, self._lock_range),
            (1, lambda: peer.lazyio(self._fd(), enable=self._chance.random() < 0.5)),
            (1, peer.sync_fs),
        )  # fmt: skip

    def step(self) -> None:
        """Do one thing; what is refused because of the others' doings is passed over."""
        weights = [weight for weight, _ in self._doings]
        (_, do), *_ = self._chance.choices(self._doings, weights)
        with usual():
            do()

    def leave(self) -> None:
        while self._fds:
            self._peer.close_fd(self._fds.pop())

    def _where(self) -> str:
        return f"{self._folder}/{self._chance.randrange(FOLDERS)}"

    def _path(self) -> str:
        return f"{self._where()}/{self._chance.randrange(NAMES)}"

    def _name(self) -> str:
        """Of an extended attribute."""
        return f"user.{self._chance.randrange(3)}"

    def _rename(self) -> None:
        """Replace something by a file nobody else renames: where a rename fails because another client was quicker,
        Pacific's libcephfs lets nobody look its source up any more: it waits for a rename that is long over (ceph PR
        52505, ``_lookup``; 16.2.15)."""
        source = f"{self._where()}/of-{self._seed}"
        self._peer.write_file(source, b"renamed", mode=0o666)
        self._peer.rename(source, self._path())

    def _fd(self) -> int:
        if not self._fds:
            self._open()
        return self._chance.choice(self._fds)

    def _open(self) -> None:
        if len(self._fds) >= OPEN_FILES:
            self._peer.close_fd(self._fds.pop(self._chance.randrange(len(self._fds))))
        flags = self._chance.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        flags |= self._chance.choice((0, os.O_CREAT, os.O_CREAT, os.O_TRUNC))
        self._fds.append(self._peer.open(self._path(), flags, 0o666))

    def _write(self) -> None:
        fd = self._fd()
        for _ in range(self._chance.choice((1, 1, 3))):
            self._peer.write(fd, self._chance.randrange(8000), b"w" * self._chance.randrange(1, 2000))

    def _read(self) -> None:
        self._peer.read(self._fd(), self._chance.randrange(8000), self._chance.randrange(1, 2000))

    def _lock_range(self) -> None:
        path = f"{self._folder}/locks.{self._seed % 2}"  # another one than the peer's second worker uses
        start = self._chance.randrange(50)
        with usual():
            self._peer.lockf(path, self._chance.choice((fcntl.F_RDLCK, fcntl.F_WRLCK)), start=start, length=10,
                             owner=self._seed)  # fmt: skip
        self._peer.lockf(path, fcntl.F_UNLCK, owner=self._seed)


class Mounted:
    """Does one thing after another by a mounted ceph-fuse, and takes the snapshots: a libcephfs of Pacific that has
    removed some does not unmount any more."""

    def __init__(self, mount: Path, folder: str, seed: int) -> None:
        self._folder, self._chance = mount / folder[1:], random.Random(seed)
        self._fds: list[int] = []
        self._snapshots = 0
        self._doings: tuple[Callable[[], object], ...] = (
            self._open,
            lambda: os.pwrite(self._fd(), b"f" * self._chance.randrange(1, 2000), self._chance.randrange(8000)),
            lambda: os.pread(self._fd(), 2000, self._chance.randrange(8000)),
            lambda: os.fsync(self._fd()),
            lambda: os.ftruncate(self._fd(), self._chance.randrange(3000)),
            lambda: os.stat(self._path(), follow_symlinks=False),
            lambda: os.stat(self._path(), follow_symlinks=False),
            lambda: os.chmod(self._path(), 0o666),
            lambda: os.setxattr(self._path(), "user.fuse", b"x"),
            lambda: os.listdir(self._where()),
            self._rename,
            lambda: os.unlink(self._path()),
            self._snapshot,
        )

    def step(self) -> None:
        with usual():
            self._chance.choice(self._doings)()

    def leave(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def _where(self) -> Path:
        return self._folder / str(self._chance.randrange(FOLDERS))

    def _path(self) -> Path:
        return self._where() / str(self._chance.randrange(NAMES))

    def _fd(self) -> int:
        if not self._fds:
            self._open()
        return self._chance.choice(self._fds)

    def _open(self) -> None:
        if len(self._fds) >= OPEN_FILES:
            os.close(self._fds.pop(0))
        flags = self._chance.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT))
        self._fds.append(os.open(self._path(), flags, 0o666))

    def _rename(self) -> None:
        """As a `Worker` does, and for its reason."""
        source = self._where() / "of-fuse"
        source.write_bytes(b"renamed")
        source.rename(self._path())

    def _snapshot(self) -> None:
        """Of all; three at the most. With snapshots of the folders in it too, between which files move, MDSs of
        Tentacle abort (seen: 20.2.4, ``Locker::handle_client_caps``)."""
        number, self._snapshots = self._snapshots % 3, self._snapshots + 1
        taken = self._folder / ".snap" / str(number)
        with usual():
            taken.rmdir()
        taken.mkdir()


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """What is done here may be refused for what others do meanwhile."""
    try:
        yield
    except OSError as error:
        if error.errno not in USUAL:
            raise


def prepare(peer: LibcephfsPeer, folder: str) -> None:
    """Make what workers work in."""
    for number in range(FOLDERS):
        peer.mkdirs(f"{folder}/{number}", 0o777)
    for number in range(2):
        peer.write_file(f"{folder}/locks.{number}", b"x" * 100, mode=0o666)


def bustle(workers: Sequence[Worker | Mounted], steps: int, disturb: Callable[[], object] | None = None) -> None:
    """All ``workers`` do ``steps`` things each at the same time; ``disturb`` is called again and again meanwhile."""
    stopped = Event()

    def work(worker: Worker | Mounted) -> None:
        try:
            for _ in range(steps):
                if stopped.is_set():
                    return
                worker.step()
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(len(workers)) as threads:
        working = [threads.submit(work, worker) for worker in workers]
        while disturb is not None and not all(one.done() for one in working):
            disturb()
        for one in working:
            one.result()
    for worker in workers:
        worker.leave()
