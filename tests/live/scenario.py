"""Everything CephFS clients talk with an MDS about, done by Ceph's own clients: two libcephfs and a ceph-fuse.

Each function is one subject of a conversation. They may follow each other in any order, any number of times, each in a
folder of its own; `EVERYTHING` names them all. `capture_scenario` plays them while dumpcap listens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import stat
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from cephcaps.auth.crypto import CryptoKey
from cephcaps.auth.keyring import parse_keyring

from .capturing import Dumpcap, some_loopback_address
from .cluster import LiveCluster
from .debug_log import Logged, read_debug_log
from .libcephfs import LibcephfsPeer
from .release import Release
from .sockets import break_connections, unread
from .stage import Stage
from .waiting import wait_until

__all__ = ["EVERYTHING", "Captured", "capture_scenario"]

BRISK = """\
[mds]
mds tick interval = 0.5
mds min caps per client = 5
"""
"""What waits for a tick of the MDS, waits less long; and caps are recalled from clients that have few."""

SECURE = {"ms_client_mode": "secure", "ms_mon_client_mode": "secure"}
CRC = {"ms_client_mode": "crc", "ms_mon_client_mode": "crc"}


def conflicts(stage: Stage) -> None:
    """Each wants what another holds: caps are revoked, dirty data and metadata written back, leases taken back."""
    first, second, folder = stage.first, stage.second, stage.folder("conflicts")
    for i in range(12):
        first.write_file(f"{folder}/{i}", b"x" * 100 * i)
    fd = first.open(f"{folder}/1", os.O_RDWR)
    first.write(fd, 0, b"buffered" * 100)
    first.chmod(f"{folder}/1", 0o600)
    assert second.read_file(f"{folder}/1").startswith(b"buffered")
    assert second.statx(f"{folder}/1").size == 800
    other = second.open(f"{folder}/1", os.O_RDWR)
    second.write(other, 800, b"from both")
    first.write(fd, 809, b" sides")
    assert (stage.mount / folder[1:] / "1").read_bytes().endswith(b"from both sides")
    second.ftruncate(other, 5)
    assert first.read(fd, 0, 100) == b"buffe"
    second.utimes(f"{folder}/1", atime=10**18, mtime=10**18)
    first.setxattr(f"{folder}/1", "user.who", b"first")
    assert os.getxattr(stage.mount / folder[1:] / "1", "user.who") == b"first"
    first.close_fd(fd)
    second.close_fd(other)
    for name in second.listdir(folder):
        second.chmod(f"{folder}/{name}", 0o640)
        assert stat.S_IMODE(first.statx(f"{folder}/{name}").mode) == 0o640
    first.link(f"{folder}/2", f"{folder}/linked")
    second.rename(f"{folder}/3", f"{folder}/4")
    os.rename(stage.mount / folder[1:] / "5", stage.mount / folder[1:] / "six")
    first.symlink("six", f"{folder}/symlink")
    assert second.readlink(f"{folder}/symlink") == "six"
    assert not first.exists(f"{folder}/5")
    for name in ("6", "7", "8"):
        first.statx(f"{folder}/{name}")
        second.unlink(f"{folder}/{name}")
        assert not first.exists(f"{folder}/{name}")
    second.mkdirs(f"{folder}/a/b/c")
    os.rmdir(stage.mount / folder[1:] / "a/b/c")
    assert first.listdir(f"{folder}/a/b") == []


def attributes(stage: Stage) -> None:
    """Kinds of files, extended attributes, layouts, names taken over, and what a mount as a whole is asked."""
    first, second, folder = stage.first, stage.second, stage.folder("attributes")
    here = stage.mount / folder[1:]
    os.mkfifo(here / "fifo", 0o600)
    second.mkdirs(f"{folder}/new")
    second.setxattr(f"{folder}/new", "ceph.dir.layout.stripe_count", b"2")
    first.write_file(f"{folder}/new/file", b"")
    first.setxattr(f"{folder}/new/file", "ceph.file.layout.stripe_count", b"3")
    assert first.getxattr(f"{folder}/new/file", "ceph.file.layout.stripe_count") == b"3"
    os.setxattr(here / "new", "user.colour", b"red")
    assert first.getxattr(f"{folder}/new", "user.colour") == b"red"
    second.removexattr(f"{folder}/new", "user.colour")
    assert first.listxattr(f"{folder}/new") == []
    first.write_file(f"{folder}/over", b"old")
    fd = second.open(f"{folder}/over")
    first.rename(f"{folder}/new/file", f"{folder}/over")
    assert second.read(fd, 0, 10) == b"old"
    second.close_fd(fd)
    os.truncate(here / "over", 1 << 20)
    assert first.statx(f"{folder}/over").size == 1 << 20
    first.truncate(f"{folder}/over", 0)
    os.chown(here / "fifo", 1000, 1000)
    assert second.statx(f"{folder}/fifo").uid == 1000
    assert os.statvfs(here).f_namemax


def snapshots(stage: Stage) -> None:
    """Snapshots of what is being written, one inside another, read and removed."""
    first, second, folder = stage.first, stage.second, stage.folder("snapshots")
    first.mkdirs(f"{folder}/in/side")
    fd = first.open(f"{folder}/in/file", os.O_RDWR | os.O_CREAT)
    first.write(fd, 0, b"before")
    second.mkdir(f"{folder}/.snap/outer")
    first.write(fd, 0, b"after!")
    second.mkdir(f"{folder}/in/.snap/inner")
    first.ftruncate(fd, 3)
    first.fsync(fd)
    for path in (f"{folder}/.snap/outer/in/file", f"{folder}/in/.snap/inner/file"):
        second.read_file(path)  # may find what was before: dirty data follows after the snapshot is made
    assert (stage.mount / folder[1:] / "in/file").read_bytes() == b"aft"
    assert sorted(first.listdir(f"{folder}/in/.snap")) != ["inner"]  # the outer one is seen there too
    first.rename(f"{folder}/in/.snap/inner", f"{folder}/in/.snap/renamed")
    first.close_fd(fd)
    second.rmdir(f"{folder}/in/.snap/renamed")
    first.rmdir(f"{folder}/.snap/outer")


def locks(stage: Stage) -> None:
    """flock and byte-range locks: taken, refused, waited for, given up."""
    first, second, folder = stage.first, stage.second, stage.folder("locks")
    path = f"{folder}/file"
    first.write_file(path, b"x" * 100, mode=0o666)
    mine, theirs = first.open(path, os.O_RDWR), second.open(path, os.O_RDWR)
    first.flock(mine, fcntl.LOCK_EX)
    with refused(errno.EWOULDBLOCK):
        second.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    waiting = second.submit("flock", fd=theirs, operation=fcntl.LOCK_EX, owner=1)
    first.flock(mine, fcntl.LOCK_UN)
    waiting.result(second.timeout)
    second.flock(theirs, fcntl.LOCK_UN)
    first.lockf(path, fcntl.F_WRLCK, start=0, length=10)
    second.lockf(path, fcntl.F_RDLCK, start=10, length=10)
    with (stage.mount / path[1:]).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)
        holder = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 5, 0))
        assert struct.unpack("hhxxxxqqixxxx", holder)[:4] == (fcntl.F_WRLCK, os.SEEK_SET, 0, 10)
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.flock(file, fcntl.LOCK_UN)
    first.lockf(path, fcntl.F_UNLCK)
    second.lockf(path, fcntl.F_UNLCK)
    first.close_fd(mine)
    second.close_fd(theirs)


def quotas(stage: Stage) -> None:
    """A limit that one client sets and another meets."""
    first, second, folder = stage.first, stage.second, stage.folder("quotas")
    first.setxattr(folder, "ceph.quota.max_bytes", b"8192")
    first.setxattr(folder, "ceph.quota.max_files", b"100")
    assert second.getxattr(folder, "ceph.quota.max_bytes") == b"8192"
    second.write_file(f"{folder}/small", size=4096)
    second.sync_fs()
    with refused(errno.EDQUOT):
        first.write_file(f"{folder}/large", size=1 << 20)
    first.setxattr(folder, "ceph.quota.max_bytes", b"0")
    assert second.write_file(f"{folder}/large", size=1 << 16) == 1 << 16


def export(stage: Stage) -> None:
    """A folder in use moves to the other rank and back: its caps are exported, imported, and requests forwarded."""
    first, second, folder = stage.first, stage.second, stage.folder("export")
    for i in range(6):
        first.write_file(f"{folder}/{i}", b"x" * i)
    mine, theirs = first.open(f"{folder}/0", os.O_RDWR), second.open(f"{folder}/1", os.O_RDONLY)
    first.write(mine, 0, b"dirty")
    for rank in (1, 0):
        stage.cluster.mds_admin({"prefix": "export dir", "path": folder, "rank": rank}, rank=1 - rank)
        wait_until(lambda rank=rank: _authority(stage, folder) == rank, f"rank {rank} has {folder}")
        first.write(mine, 5, b"while away")
        assert second.read_file(f"{folder}/0").endswith(b"while away")
        second.write_file(f"{folder}/from-{rank}", b"new")
        assert sorted(os.listdir(stage.mount / folder[1:])) == sorted(first.listdir(folder))
        first.chmod(f"{folder}/2", 0o600)
        second.chmod(f"{folder}/2", 0o666)
    first.close_fd(mine)
    second.close_fd(theirs)


def failover(stage: Stage) -> None:
    """Rank 0 dies while all hold caps, locks and dirty state: clients reconnect to the one that follows it."""
    cluster, first, second, folder = stage.cluster, stage.first, stage.second, stage.folder("failover")
    path = f"{folder}/file"
    first.write_file(path, b"x" * 100, mode=0o666)
    first.mkdir(f"{folder}/.snap/one")
    mine, theirs = first.open(path, os.O_RDWR), second.open(path, os.O_RDWR)
    first.flock(mine, fcntl.LOCK_SH)
    first.lockf(path, fcntl.F_WRLCK, start=0, length=10)
    second.write_file(f"{folder}/dirty", b"not flushed yet")
    with (stage.mount / folder[1:] / "open").open("w") as file:
        file.write("by ceph-fuse")
        failed = cluster.wait_for_active(0)
        stage.failed.update(_addresses(cluster, failed))
        cluster.ceph("mds", "fail", failed.removeprefix("mds."))
        waiting = second.submit("mkdir", path=f"{folder}/meanwhile", mode=0o755)
        wait_until(lambda: _is_followed(cluster, failed), "another daemon has rank 0")
        waiting.result(second.timeout)
    assert first.read_file(f"{folder}/open") == b"by ceph-fuse"
    assert second.write(theirs, 0, b"y") == 1
    assert first.read(mine, 0, 2) == b"yx"
    first.lockf(path, fcntl.F_UNLCK)
    first.rmdir(f"{folder}/.snap/one")
    first.close_fd(mine)
    second.close_fd(theirs)
    # The failed one starts again, to stand by for the next time.
    wait_until(lambda: _infos(cluster).get(failed, {}).get("state") == "up:standby", f"{failed} stands by")


def recall(stage: Stage) -> None:
    """The MDS asks for caps back, as it wants room in its cache."""
    first, folder = stage.first, stage.folder("recall")
    for i in range(30):
        first.write_file(f"{folder}/{i}", b"")
    before = _caps_held(stage)
    stage.cluster.mds_admin({"prefix": "cache drop", "timeout": 1})
    wait_until(lambda: _caps_held(stage) < before, f"fewer caps than {before}")
    assert len(first.listdir(folder)) == 30


def eviction(stage: Stage) -> None:
    """A client that holds what another wants is thrown out, and blocklisted; one that died is taken over from."""
    cluster, first, folder = stage.cluster, stage.first, stage.folder("eviction")
    with stage.join() as third:
        fd = third.open(f"{folder}/held", os.O_RDWR | os.O_CREAT)
        third.write(fd, 0, b"lost")
        third.freeze()
        waiting = first.submit("statx", path=f"{folder}/held", want=0x1FFF, flags=0)
        _wait_until_asked(third, waiting)
        stage.evicted.add(third.instance_id)
        cluster.mds_admin({"prefix": "session evict", "filters": [f"id={third.instance_id}"]})
        waiting.result(first.timeout)
        third.thaw()
        with refused(errno.ESHUTDOWN):
            third.mkdir(f"{folder}/never")
    fourth = LibcephfsPeer(cluster, uuid=folder)  # logs nothing: what a killed client logged last is lost
    fourth.write_file(f"{folder}/kept", b"")
    fourth.kill()
    with stage.join() as heir:
        heir.start_reclaim(folder)
        heir.finish_reclaim()
        heir.write_file(f"{folder}/kept", b"taken over")


def reconnects(stage: Stage) -> None:
    """Connections break, before messages and within them: sessions are resumed, and messages sent once more."""
    cluster, second, folder = stage.cluster, stage.second, stage.folder("reconnects")
    for i in range(400):
        second.write_file(f"{folder}/{i}-{'x' * 200}", b"")
    with stage.join() as shaky:
        stage.shaky.add(shaky.instance_id)
        fd = shaky.open(f"{folder}/held", os.O_RDWR | os.O_CREAT, 0o666)
        for i in range(3):
            shaky.write(fd, 0, b"buffered %d" % i)
            shaky.freeze()
            waiting = second.submit("read_file", path=f"{folder}/held")
            _wait_until_asked(shaky, waiting)
            assert break_connections(shaky.pid)
            shaky.thaw()
            assert bytes.fromhex(waiting.result(second.timeout)) == b"buffered %d" % i
            making = shaky.submit("mkdir", path=f"{folder}/{i}", mode=0o755)
            break_connections(shaky.pid)
            making.result(shaky.timeout)
            second.rmdir(f"{folder}/{i}")
        mds = cluster.wait_for_active(0)
        pid = int((cluster.directory / "run" / f"{mds}.pid").read_text())
        cluster.freeze_daemon(mds)
        listing = shaky.submit("readdir", path=folder)
        wait_until(lambda: unread(pid), "the request has arrived")
        shaky.freeze()
        cluster.thaw_daemon(mds)
        wait_until(lambda: unread(shaky.pid), "some of the reply has arrived")  # no more fits into a client's socket
        break_connections(shaky.pid)
        shaky.thaw()
        assert len(listing.result(shaky.timeout)) == 401
        shaky.close_fd(fd)


EVERYTHING: tuple[Callable[[Stage], None], ...] = (
    conflicts,
    attributes,
    snapshots,
    locks,
    quotas,
    export,
    recall,
    reconnects,
    failover,
    eviction,
)


class Captured(NamedTuple):
    """A capture of the scenario, and what is known of it otherwise."""

    path: Path
    """pcapng: everything sent from before the cluster was there until all clients had left it."""
    keys: dict[str, CryptoKey]
    """Every key of the cluster, by entity."""
    logged: dict[int, list[Logged]]
    """By global_id: the messages each client says to have had."""
    evicted: frozenset[int]
    """Clients that the MDS threw out."""
    failed: frozenset[str]
    """Addresses of daemons that were failed, ``127.0.0.1:6800``."""
    shaky: frozenset[int]
    """Clients whose connections were broken time and again."""


def capture_scenario(release: Release, folder: Path, *, msgr2: bool, rounds: int = 1) -> Captured:
    """Play everything on a cluster of its own; the files are put into ``folder``.

    With messenger v2 one client is in crc mode throughout, one in secure mode throughout, and the ceph-fuse as Ceph has
    it by default: secure with the monitor, crc with the MDS. Needs root, dumpcap and ceph-fuse.
    """
    address = some_loopback_address()
    path = folder / "capture.pcapng"
    cluster = LiveCluster(release, mds=3, extra=BRISK, msgr2=msgr2, address=address)
    stage = Stage(cluster, first=CRC if msgr2 else {}, second=SECURE if msgr2 else {})
    with Dumpcap(path, address), cluster:
        try:
            with stage:
                for number in range(rounds):
                    for subject in random.Random(number).sample(EVERYTHING, len(EVERYTHING)) if number else EVERYTHING:
                        subject(stage)
            logged = {client_id: read_debug_log(log) for client_id, log in stage.logs.items()}
            keys = parse_keyring(cluster.keyring.read_text(), str(cluster.keyring))
        except Exception as error:
            for name in cluster.log_names():
                if name.startswith(("mds.", "peer.", "fuse.")) and (tail := cluster.log_tail(name, 15)):
                    error.add_note(f"end of {name}.log:\n{tail}")
            raise
        assert cluster.died() == []
    evicted, failed, shaky = map(frozenset, (stage.evicted, stage.failed, stage.shaky))
    of_keyring = {entity: CryptoKey.from_base64(key.reveal()) for entity, key in keys.items()}
    return Captured(path, of_keyring, logged, evicted, failed, shaky)


def _wait_until_asked(holder: LibcephfsPeer, asked: Future[Any]) -> None:
    """Until the MDS has asked the frozen holder for caps; which it need not do, or may have done before it froze."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: asked.done() or unread(holder.pid), f"{holder.log_name} is asked for caps", within=2)


def _caps_held(stage: Stage) -> int:
    session = stage.cluster.session(stage.first.instance_id)
    assert session is not None
    return int(session["num_caps"])


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """What is done here ends with that errno."""
    try:
        yield
    except OSError as error:
        if error.errno == number:
            return
        raise
    raise AssertionError(f"not refused with {errno.errorcode[number]}")


def _infos(cluster: LiveCluster) -> dict[str, dict[str, Any]]:
    """What the monitor knows of each MDS. One that fails is better not asked itself: Pacific's may crash on it."""
    dump = cluster.ceph("fs", "dump")
    infos = [*dump["standbys"], *dump["filesystems"][0]["mdsmap"]["info"].values()]
    return {f"mds.{info['name']}": info for info in infos}


def _is_followed(cluster: LiveCluster, failed: str) -> bool:
    infos = _infos(cluster).items()
    return any(info["rank"] == 0 and info["state"] == "up:active" and name != failed for name, info in infos)


def _addresses(cluster: LiveCluster, name: str) -> set[str]:
    """Where that MDS listens, v2 and v1."""
    return {entry["addr"] for entry in _infos(cluster)[name]["addrs"]["addrvec"]}


def _authority(stage: Stage, folder: str) -> int | None:
    """The rank that has the folder; None while it moves."""
    mine = [s for s in stage.cluster.mds_admin("get subtrees", rank=1) if s["is_auth"] and s["dir"]["path"] == folder]
    if not mine:
        return 0  # it may have become one with the root's subtree again
    return 1 if mine[0]["auth_second"] < 0 else None
