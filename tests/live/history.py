"""A random life of a file system, the same for the same seed, led by libcephfs clients; and what it ends in."""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .libcephfs import STATX_ALL_STATS, LibcephfsPeer

__all__ = ["History", "Seen", "tree_of"]

AT_SYMLINK_NOFOLLOW = 0x100
SECOND = 10**9
THEN = 1_600_000_000 * SECOND
SIZES = (0, 1, 100, 4096, 70_000)


class Seen(NamedTuple):
    """What libcephfs shows of one path."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    mtime: int
    target: str
    xattrs: tuple[tuple[str, bytes], ...]
    snapshots: tuple[str, ...]


def tree_of(peer: LibcephfsPeer, top: str = "/") -> dict[str, Seen]:
    """Everything below ``top``, and ``top`` itself without its times."""
    found = {}
    todo = [top]
    while todo:
        path = todo.pop()
        at = peer.statx(path, STATX_ALL_STATS, AT_SYMLINK_NOFOLLOW)
        is_dir = stat.S_ISDIR(at.mode)
        if is_dir:
            todo += [f"{path.rstrip('/')}/{name}" for name in peer.listdir(path)]
        found[path.removeprefix(top.rstrip("/")) or "/"] = Seen(
            at.mode,
            at.uid,
            at.gid,
            at.nlink,
            0 if is_dir else at.size,  # of a directory: that of all below it, which is told late
            at.mtime if path != top else 0,
            peer.readlink(path) if stat.S_ISLNK(at.mode) else "",
            tuple((name, peer.getxattr(path, name)) for name in sorted(peer.listxattr(path)) if name[:5] == "user."),
            tuple(sorted(name for name in peer.listdir(f"{path}/.snap") if name[0] != "_")) if is_dir else (),
        )
    return found


class History:
    """What some clients do in turn. Some of it fails, as such things do.

    Args:
        peers: one of them does each step.
    """

    def __init__(self, peers: Sequence[LibcephfsPeer], seed: int) -> None:
        self._peers = peers
        self._random = random.Random(seed)
        self._dirs = ["/"]
        self._files: list[str] = []
        self._links: list[str] = []
        self._snapshots: list[str] = []
        self._made = 0
        self._steps: dict[Callable[[LibcephfsPeer], None], int] = {
            self._mkdir: 8,
            self._create: 20,
            self._write: 14,
            self._write_on: 6,
            self._truncate: 8,
            self._chmod: 10,
            self._chown: 4,
            self._utimes: 8,
            self._rename: 8,
            self._rename_dir: 3,
            self._link: 4,
            self._symlink: 4,
            self._unlink: 7,
            self._rmdir: 3,
            self._setxattr: 5,
            self._removexattr: 2,
            self._mksnap: 1,
            self._rmsnap: 1,
            self._look: 8,
            self._fail: 4,
        }

    def go_on(self, steps: int) -> None:
        for step in self._random.choices(list(self._steps), list(self._steps.values()), k=steps):
            with contextlib.suppress(OSError, IndexError):  # refused, or there is nothing to do it to
                step(self._random.choice(self._peers))

    # Steps

    def _mkdir(self, peer: LibcephfsPeer) -> None:
        path = self._new("d")
        peer.mkdir(path, self._random.choice((0o755, 0o700, 0o2775)))
        self._dirs.append(path)

    def _create(self, peer: LibcephfsPeer) -> None:
        path = self._new("f")
        fd = peer.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._random.choice((0o644, 0o600, 0o755)))
        self._files.append(path)
        peer.close_fd(fd)

    def _write(self, peer: LibcephfsPeer) -> None:
        """With O_TRUNC, and by a new name or an old one."""
        path = self._random.choice([*self._files[-20:], self._new("w")])
        peer.write_file(path, size=self._random.choice(SIZES))
        if path not in self._files:
            self._files.append(path)

    def _write_on(self, peer: LibcephfsPeer) -> None:
        """Behind what is there, changing more under the caps that takes."""
        path = self._random.choice(self._files)
        fd = peer.open(path, os.O_RDWR)
        peer.write(fd, self._random.randrange(10_000), b"more")
        if self._random.random() < 0.5:
            peer.chmod(path, self._random.randrange(0o1000))
        if self._random.random() < 0.3:
            peer.ftruncate(fd, self._random.randrange(20_000))
        if self._random.random() < 0.3:
            peer.fsync(fd)
        peer.close_fd(fd)

    def _truncate(self, peer: LibcephfsPeer) -> None:
        peer.truncate(self._random.choice(self._files), self._random.choice(SIZES))

    def _chmod(self, peer: LibcephfsPeer) -> None:
        peer.chmod(self._random.choice([*self._files, *self._dirs[1:]]), self._random.randrange(0o1000))

    def _chown(self, peer: LibcephfsPeer) -> None:
        path = self._random.choice([*self._files, *self._dirs[1:]])
        peer.chown(path, self._random.randrange(2000), self._random.randrange(2000))

    def _utimes(self, peer: LibcephfsPeer) -> None:
        path = self._random.choice([*self._files, *self._dirs[1:]])
        peer.utimes(path, atime=self._time(), mtime=self._time())

    def _rename(self, peer: LibcephfsPeer) -> None:
        """To a new name, or over another file."""
        old = self._random.choice(self._files)
        new = self._random.choice(self._files) if self._random.random() < 0.3 else self._new("r")
        peer.rename(old, new)
        if old != new:
            self._files.remove(old)
            if new not in self._files:
                self._files.append(new)

    def _rename_dir(self, peer: LibcephfsPeer) -> None:
        old, new = self._random.choice(self._dirs[1:]), self._new("m")
        if new.startswith(f"{old}/"):
            return
        peer.rename(old, new)
        for paths in (self._dirs, self._files, self._links, self._snapshots):
            paths[:] = [new + path[len(old) :] if f"{path}/".startswith(f"{old}/") else path for path in paths]

    def _link(self, peer: LibcephfsPeer) -> None:
        path = self._new("l")
        peer.link(self._random.choice(self._files), path)
        self._files.append(path)

    def _symlink(self, peer: LibcephfsPeer) -> None:
        path = self._new("s")
        peer.symlink(self._random.choice([*self._files, "nowhere"]), path)
        self._links.append(path)

    def _unlink(self, peer: LibcephfsPeer) -> None:
        paths = self._random.choice([self._files, self._files, self._links])
        path = self._random.choice(paths)
        peer.unlink(path)
        paths.remove(path)

    def _rmdir(self, peer: LibcephfsPeer) -> None:
        """Mostly of one that is not empty, which the MDS refuses."""
        path = self._random.choice(self._dirs[1:])
        peer.rmdir(path)
        self._dirs.remove(path)

    def _setxattr(self, peer: LibcephfsPeer) -> None:
        path = self._random.choice([*self._files, *self._dirs[1:]])
        peer.setxattr(path, f"user.{self._random.randrange(3)}", self._random.randbytes(20))

    def _removexattr(self, peer: LibcephfsPeer) -> None:
        peer.removexattr(self._random.choice(self._files), f"user.{self._random.randrange(3)}")

    def _mksnap(self, peer: LibcephfsPeer) -> None:
        self._made += 1
        path = f"{self._random.choice(self._dirs[1:])}/.snap/n{self._made}"
        peer.mkdir(path)
        self._snapshots.append(path)

    def _rmsnap(self, peer: LibcephfsPeer) -> None:
        path = self._random.choice(self._snapshots)
        peer.rmdir(path)
        self._snapshots.remove(path)

    def _look(self, peer: LibcephfsPeer) -> None:
        directory = self._random.choice(self._dirs)
        peer.readdir(directory, STATX_ALL_STATS)
        peer.listdir(f"{directory}/.snap")
        peer.statx(self._random.choice(self._files))
        for snapshot in self._snapshots[-1:]:
            peer.readdir(snapshot, STATX_ALL_STATS)

    def _fail(self, peer: LibcephfsPeer) -> None:
        path = self._random.choice([*self._files, *self._dirs])
        self._random.choice([peer.mkdir, peer.unlink, peer.rmdir, peer.listdir])(path + self._random.choice(["", "x"]))

    def _new(self, letter: str) -> str:
        self._made += 1
        return f"{self._random.choice(self._dirs).rstrip('/')}/{letter}{self._made}"

    def _time(self) -> int:
        return THEN + self._random.randrange(10**8) * SECOND + self._random.randrange(SECOND)
