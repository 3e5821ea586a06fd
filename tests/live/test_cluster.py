"""The ground the other live tests stand on: daemons, their admin sockets, and the reference peer."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW, STATX_ALL_STATS, LibcephfsPeer
from .release import Release
from .waiting import until, wait_until

MTIME = 1_234_567_890_123_456_789
BEFORE_1970 = -1_500_000_000
FILE_EXCL_WRITE_BUFFER = 0x2 << 8 | 0x10 << 8 | 0x20 << 8
"""Fx, Fw and Fb, as libcephfs counts them (include/ceph_fs.h)."""


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


def test_rank_0_is_active_and_the_other_daemon_stands_by(cluster: LiveCluster) -> None:
    assert sorted((s.rank, s.state) for s in cluster.mds_statuses()) == [(-1, "up:standby"), (0, "up:active")]
    assert cluster.ceph("fs", "ls")[0]["name"] == cluster.fs_name
    assert cluster.ceph("fsid")["fsid"] == cluster.fsid
    assert cluster.version.startswith("ceph version ")


def test_conf_and_keyring_hold_true_outside_the_chroot(cluster: LiveCluster, conf: Path) -> None:
    (keyring,) = [line.partition(" = ")[2] for line in conf.read_text().splitlines() if line.startswith("keyring")]
    assert Path(keyring) == cluster.keyring
    assert "[client.admin]" in cluster.keyring.read_text()


def test_a_refused_command_raises_the_errno_it_ended_with(cluster: LiveCluster) -> None:
    with pytest.raises(FileNotFoundError):
        cluster.ceph("auth", "get", "client.nobody")
    with pytest.raises(OSError, match="unknown command"):
        cluster.mds_admin("no such command")
    assert cluster.dump_inode(0x1FFFFFFFFFF) is None


def test_the_mds_sees_the_peer_come_and_go(cluster: LiveCluster) -> None:
    with LibcephfsPeer(cluster) as peer:
        session = cluster.session(peer.instance_id)
        assert session is not None
        assert session["state"] == "open"
    assert cluster.session(peer.instance_id) is None


def test_the_peer_writes_and_reads_times_to_the_nanosecond(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    peer.write_file("/ns", b"five!", mode=0o640)
    peer.utimes("/ns", atime=BEFORE_1970, mtime=MTIME)
    peer.chown("/ns", 1000, 2000)

    seen = peer.statx("/ns")

    assert seen.mask & STATX_ALL_STATS == STATX_ALL_STATS
    assert (seen.size, seen.uid, seen.gid, seen.nlink) == (5, 1000, 2000, 1)
    assert seen.mode == stat.S_IFREG | 0o640
    assert seen.mtime == MTIME
    assert seen.btime <= seen.ctime
    assert seen.version > 0
    with LibcephfsPeer(cluster) as second:
        assert second.statx("/ns") == seen
        assert second.read_file("/ns") == b"five!"
    assert cluster.dump_inode(seen.ino)["size"] == 5


def test_names_of_any_bytes_travel_unchanged(peer: LibcephfsPeer) -> None:
    name = b"odd \xff\xfe \n\x01 \xc3\xa4"
    peer.mkdir("/names")
    peer.write_file(b"/names/" + name, b"")
    peer.symlink(b"\x80target", b"/names/link\xf0")
    peer.link(b"/names/" + name, "/names/second")
    peer.mkdirs("/names/a/b")
    peer.rename("/names/a", "/names/c")

    listed = peer.readdir("/names", STATX_ALL_STATS)

    assert {os.fsencode(e.name) for e in listed} == {name, b"link\xf0", b"second", b"c"}
    assert all(e.stat == peer.statx("/names/" + e.name, flags=AT_SYMLINK_NOFOLLOW) for e in listed)
    assert os.fsencode(peer.readlink(b"/names/link\xf0")) == b"\x80target"
    assert peer.statx("/names/second").nlink == 2
    for entry in (name, b"link\xf0", b"second"):
        peer.unlink(b"/names/" + entry)
    peer.rmdir("/names/c/b")
    peer.rmdir("/names/c")
    assert peer.listdir("/names") == []
    peer.rmdir("/names")
    assert peer.statx_many(["/names", "/"], 0) == [None, peer.statx("/", 0)]


def test_an_error_of_libcephfs_is_the_oserror_it_means(peer: LibcephfsPeer) -> None:
    with pytest.raises(FileNotFoundError):
        peer.statx("/nothing")
    peer.mkdirs("/full/inner")
    with pytest.raises(FileExistsError):
        peer.mkdir("/full")
    with pytest.raises(OSError, match="not empty"):
        peer.rmdir("/full")


def test_xattrs_virtual_ones_too(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    peer.mkdir("/pinned")
    peer.setxattr("/pinned", "ceph.dir.pin", b"0")
    peer.setxattr("/pinned", "user.colour", b"\x00blue\xff")

    assert peer.getxattr("/pinned", "user.colour") == b"\x00blue\xff"
    assert "user.colour" in peer.listxattr("/pinned")
    ino = peer.statx("/pinned").ino
    wait_until(lambda: cluster.dump_inode(ino)["export_pin"] == 0, "the pin is journalled")
    peer.removexattr("/pinned", "user.colour")
    assert "user.colour" not in peer.listxattr("/pinned")


def test_an_open_file_of_the_peer_holds_caps(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    fd = peer.open("/held", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    assert peer.write(fd, 0, b"abc") == 3
    assert peer.fd_caps(fd) & FILE_EXCL_WRITE_BUFFER == FILE_EXCL_WRITE_BUFFER
    assert peer.caps("/held") == peer.fd_caps(fd)
    peer.fsync(fd)

    (held,) = cluster.dump_inode(peer.fstatx(fd).ino)["client_caps"]

    assert held["client_id"] == peer.instance_id
    peer.ftruncate(fd, 1)
    assert peer.read(fd, 0, 10) == b"a"
    peer.close_fd(fd)


def test_locks_of_two_peers_exclude_each_other(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    peer.write_file("/locked", b"")
    with LibcephfsPeer(cluster) as second:
        mine, theirs = peer.open("/locked", os.O_RDWR), second.open("/locked", os.O_RDWR)
        peer.flock(mine, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            second.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting = second.submit("flock", fd=theirs, operation=fcntl.LOCK_EX, owner=1)
        peer.lockf("/locked", start=0, length=10)
        with pytest.raises(BlockingIOError):  # while the other request of the same peer still waits
            second.lockf("/locked", start=5, length=1)
        second.lockf("/locked", start=10, length=1)
        assert not waiting.done()
        peer.flock(mine, fcntl.LOCK_UN)
        waiting.result(10)
        peer.lockf("/locked", fcntl.F_UNLCK)
        second.lockf("/locked", fcntl.F_UNLCK)


async def test_a_frozen_peer_holds_up_another_until_thawed(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    fd = peer.open("/frozen", os.O_RDWR | os.O_CREAT)
    peer.write(fd, 0, b"dirty")
    with LibcephfsPeer(cluster) as second:
        peer.freeze()
        seen = asyncio.create_task(second.aio.statx("/frozen"))
        await asyncio.sleep(0.3)
        assert not seen.done()
        peer.thaw()
        assert (await seen).size == 5
    peer.close_fd(fd)


async def test_a_call_that_takes_too_long_raises_and_leaves_the_peer_usable(cluster: LiveCluster) -> None:
    with LibcephfsPeer(cluster) as holder, LibcephfsPeer(cluster) as second:
        fd = holder.open("/slow", os.O_RDWR | os.O_CREAT)
        holder.write(fd, 0, b"dirty")
        holder.freeze()
        with pytest.raises(TimeoutError, match="statx /slow not done within"):
            second.call("statx", path="/slow", want=0, flags=0, timeout=0.3)
        holder.thaw()
        assert second.call("statx", path="/slow", want=0, flags=0, timeout=10)["ino"]


def test_a_killed_peer_leaves_its_session_behind(cluster: LiveCluster) -> None:
    with LibcephfsPeer(cluster) as peer:
        peer.kill()
        with pytest.raises(ConnectionError):
            peer.statx("/")
    assert cluster.session(peer.instance_id)["state"] == "open"
    cluster.mds_admin({"prefix": "session evict", "filters": [f"id={peer.instance_id}"]})
    wait_until(lambda: cluster.session(peer.instance_id) is None, "evicted session gone")


def test_an_added_key_mounts_only_what_it_may(cluster: LiveCluster, peer: LibcephfsPeer) -> None:
    peer.mkdirs("/allowed/below")
    cluster.add_client_key("narrow", mon="allow r", osd="allow rw", mds="allow rw path=/allowed")

    with LibcephfsPeer(cluster, client_id="narrow", root="/allowed") as narrow:
        assert narrow.listdir("/") == ["below"]
    with pytest.raises(PermissionError):
        LibcephfsPeer(cluster, client_id="narrow", root="/")


async def test_daemons_fail_over_and_come_back(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = new_cluster(extra="[global]\nmds beacon grace = 4\nmds beacon interval = 1", session_timeout=45)
    assert cluster.ceph("fs", "get", cluster.fs_name)["mdsmap"]["session_timeout"] == 45
    with LibcephfsPeer(cluster) as peer:
        peer.mkdir("/kept")
        first = cluster.wait_for_active()
        await cluster.aio.ceph("mds", "fail", 0)
        await until(lambda: cluster.holder(0, "up:active") not in (None, first), "the standby takes over")
        second = cluster.wait_for_active()
        await until(lambda: len(cluster.mds_statuses()) == 2, "the failed one begins anew")
        cluster.kill_daemon(second)
        assert cluster.wait_for_active() == first
        cluster.start_daemon(second)
        cluster.kill_daemon("mon.a", signal.SIGTERM)
        cluster.start_daemon("mon.a")
        assert peer.exists("/kept")
        assert cluster.session(peer.instance_id)["state"] == "open"
        assert cluster.died() == []


def test_a_cluster_without_standby_or_with_three_daemons(new_cluster: Callable[..., LiveCluster]) -> None:
    alone, three = new_cluster(mds=1), new_cluster(mds=3)
    assert alone.mds_names == ("mds.a",)
    three.ceph("fs", "set", three.fs_name, "max_mds", 2)
    assert three.wait_for_active(1) != three.wait_for_active(0)
    assert three.mds_admin("status", rank=1)["whoami"] == 1


def test_daemons_and_frozen_peers_end_with_the_process_that_started_them(release: Release) -> None:
    script = (
        f"import sys, time; sys.path[:0] = {sys.path!r}\n"
        f"from {LiveCluster.__module__} import LiveCluster; from {LibcephfsPeer.__module__} import LibcephfsPeer\n"
        f"cluster = LiveCluster({release.name!r}, mds=1); cluster.start()\n"
        "peer = LibcephfsPeer(cluster); peer.freeze()\n"
        "print(cluster.directory, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        directory = Path(other.stdout.readline().strip())
        pids = [int(file.read_text()) for file in (directory / "run").glob("*.pid")]
        other.kill()
    assert len(pids) == 4
    wait_until(lambda: not directory.exists() and not any(map(_runs, pids)), "daemons and directory gone")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
