"""A real Ceph cluster on loopback: a monitor or some, one in-memory OSD and some MDS daemons, up in seconds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import textwrap
import uuid
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.keys import KEYS

from .daemons import START_LIMIT, Daemons
from .release import Release, find_release
from .waiting import InThread, wait_until

__all__ = ["LiveCluster", "MdsStatus"]

BIND_ATTEMPTS = 5
"""Pairs of ports tried for the monitor."""

CONF = """\
[global]
fsid = {fsid}
mon host = {mon_host}
public addr = {address}
cluster addr = {address}
ms bind ipv6 = false
ms bind msgr2 = {msgr2}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {directory}/keyring
run dir = {directory}/run
pid file = {directory}/run/$name.pid
log file = {directory}/log/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool size one = true
mon allow pool delete = true
mon data avail crit = 1
mon data avail warn = 2
mon warn on pool no redundancy = false
mon max pg per osd = 1000
paxos propose interval = 0.1
[mon]
mon tick interval = 1
mds beacon mon down grace = 0
ms bind retry count = 1
ms bind retry delay = 0
mon data = {directory}/data/$name
admin socket = {directory}/run/$name.asok
[osd]
osd data = {directory}/data/$name
admin socket = {directory}/run/$name.asok
[mds]
mds data = {directory}/data/$name
admin socket = {directory}/run/$name.asok
[client]
log file =
"""


class MdsStatus(NamedTuple):
    """What one MDS daemon says of itself."""

    name: str
    rank: int
    """-1 for a standby."""
    state: str
    """Such as ``up:active``."""
    epoch: int
    """Of the newest MDS map it has seen."""


class LiveCluster(Daemons):
    """A cluster of one release, in a directory of its own; a context manager.

    Daemons are named as Ceph names them: ``mon.a``, ``osd.0``, ``mds.a``, ``mds.b`` ... All but one MDS begin as
    standbys of the file system ``cephfs``. They end with ``stop``, or with this process however it ends.

    Args:
        release: one of ``release.RELEASES``, or a ``Release``.
        mds: number of MDS daemons.
        mons: number of monitors, ``mon.a`` and so on.
        extra: text put at the end of ceph.conf, such as ``"[mds]\\nms inject socket failures = 100"``.
        session_timeout: seconds; Ceph takes no less than 30. For a shorter one: ``session config ID timeout S``.
        msgr2: whether the daemons speak messenger v2, and clients with them; else all is v1.
        address: where the daemons listen. All of 127.0.0.0/8 is there for it, so that a capture holds one cluster.

    ``CEPHCAPS_KEEP=1`` leaves the directory, with its logs, behind.

    Attributes:
        directory: everything of this cluster, as seen from outside the release's root.
        conf: ceph.conf for clients outside the release's root.
        keyring: holds every key, client.admin's among them.
        aio: the same methods as coroutines, for tests whose own client must go on answering.
    """

    fs_name = "cephfs"

    def __init__(
        self,
        release: str | Release = "pacific",
        *,
        mds: int = 2,
        mons: int = 1,
        extra: str = "",
        session_timeout: int | None = None,
        msgr2: bool = True,
        address: str = "127.0.0.1",
    ) -> None:
        super().__init__(find_release(release) if isinstance(release, str) else release)
        self.mds_names = tuple(f"mds.{chr(ord('a') + i)}" for i in range(mds))
        self.mon_names = tuple(f"mon.{chr(ord('a') + i)}" for i in range(mons))
        self.fsid = str(uuid.uuid4())
        self.mon_host = ""
        self.aio = InThread(self)
        self._extra = textwrap.dedent(extra)
        self._session_timeout = session_timeout
        self._msgr2 = msgr2
        self.address = address

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # Where things are

    @property
    def conf(self) -> Path:
        return self.directory / "client.conf"

    @property
    def keyring(self) -> Path:
        return self.directory / "keyring"

    # Life

    def start(self) -> None:
        """Bring everything up and return once rank 0 is active; on failure nothing is left running.

        Raises:
            RuntimeError: a daemon did not come up; the message ends with what it logged.
        """
        assert self._directory is None, "one start for each LiveCluster"
        missing = self.release.missing()
        if missing:
            raise RuntimeError(missing)
        try:
            self._make_directory()
            self._start_daemons()
        except BaseException as error:
            logs = self._logs() if isinstance(error, Exception) else ""
            self.stop()
            if logs:
                raise RuntimeError(f"no {self.release.name} cluster came up: {error}\n{logs}") from error
            raise

    # Questions

    def ceph(self, *args: str | int, timeout: float = 60.0) -> Any:
        """Run the ``ceph`` command as client.admin; the answer is parsed where it is JSON, else its text.

        Raises:
            OSError: the monitor refused; errno says why.
        """
        words = map(str, args)
        answer = self.release.run(
            "ceph", "-c", self.inner_conf, "--connect-timeout", "30", "-f", "json", *words, timeout=timeout
        ).strip()
        try:
            return json.loads(answer)
        except ValueError:
            return answer

    def mds_statuses(self) -> list[MdsStatus]:
        """Every MDS daemon that answers."""
        found = []
        for name in self.mds_names:
            with contextlib.suppress(OSError):
                said = self.admin(name, "status", timeout=1.0)
                found.append(MdsStatus(name, said["whoami"], said["state"], said["mdsmap_epoch"]))
        return found

    def holder(self, rank: int = 0, state: str | None = None) -> str | None:
        """Name of the daemon that holds ``rank``, and is in ``state`` where one is given; None when none does."""
        holders = [s for s in self.mds_statuses() if s.rank == rank and state in (None, s.state)]
        # One that was failed believes itself active until it hears of the newer map.
        return max(holders, key=lambda s: s.epoch).name if holders else None

    def wait_for_active(self, rank: int = 0, *, within: float = 60.0) -> str:
        """Name of the daemon active as ``rank``, which may still be on its way there."""
        try:
            return wait_until(lambda: self.holder(rank, "up:active"), f"rank {rank} up:active", within=within)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; MDS daemons: {self.mds_statuses()}") from None

    def mds_admin(self, command: str | dict[str, Any], *, rank: int = 0, timeout: float = 30.0) -> Any:
        """Ask the MDS that is active as ``rank``, waiting for one after a failover."""
        return self.admin(self.wait_for_active(rank), command, timeout=timeout)

    def session_ls(self, *, rank: int = 0) -> list[dict[str, Any]]:
        """The MDS's sessions: ``id`` is a client's global_id, ``num_caps`` what it holds, ``state`` such as open."""
        return self.mds_admin("session ls", rank=rank)

    def session(self, client_id: int, *, rank: int = 0) -> dict[str, Any] | None:
        """One client's session; None when it has none there."""
        return next((s for s in self.session_ls(rank=rank) if s["id"] == client_id), None)

    def dump_inode(self, ino: int, *, rank: int = 0) -> dict[str, Any] | None:
        """An inode as the MDS holds it, ``client_caps`` included; None when it is not in its cache.

        A change appears once it is journalled, which may be after the MDS has answered for it.
        """
        said = self.mds_admin({"prefix": "dump inode", "number": ino}, rank=rank)
        return said if isinstance(said, dict) else None

    def add_client_key(self, client_id: str, **caps: str) -> str:
        """Make a key and put it into ``keyring``; ``add_client_key("x", mon="allow r", mds="allow rw path=/a")``.

        Returns:
            The entity's whole name, ``client.x``.
        """
        entity = f"client.{client_id}"
        pairs = [word for pair in caps.items() for word in pair]
        said = self.ceph("auth", "get-or-create", entity, *pairs)
        key = said[0]["key"]
        with self.keyring.open("a") as keyring:
            keyring.write(f"\n[{entity}]\n\tkey = {key}\n")
        return entity

    # How it comes up

    def _start_daemons(self) -> None:
        for name in (*self.mon_names, "osd.0", *self.mds_names):
            (self.directory / "data" / name).mkdir(parents=True)
        self._make_keyring()
        self._start_monitors()
        osd_uuid = str(uuid.uuid4())
        pools = [f"{self.fs_name}.{pool}" for pool in ("meta", "data")]
        commands = [f"osd new {osd_uuid} 0", *(f"osd pool create {pool} 8" for pool in pools)]
        commands.append(f"fs new {self.fs_name} {' '.join(pools)}")
        if self._session_timeout is not None:
            commands.append(f"fs set {self.fs_name} session_timeout {self._session_timeout}")
        # By one process, as each takes half a second of a processor.
        self.release.run("ceph", "-c", self.inner_conf, "--connect-timeout", "30", script="\n".join(commands))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        for name in ("osd.0", *self.mds_names):
            self._launch(name)
        for name in ("osd.0", *self.mds_names):
            self._wait_for_answer(name)
        self.wait_for_active(within=START_LIMIT)

    def _make_keyring(self) -> None:
        everything = {"mon": "allow *", "osd": "allow *", "mds": "allow *", "mgr": "allow *"}
        entities: dict[str, dict[str, str]] = {
            "mon.": {"mon": "allow *"},
            "client.admin": everything,
            "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
        }
        for name in self.mds_names:
            entities[name] = {"mon": "allow profile mds", "osd": "allow *", "mds": "allow"}
        keyring = self.release.inside(self.keyring)
        self.release.run("ceph-authtool", "--create-keyring", keyring)
        for entity, caps in entities.items():
            words = [word for service, cap in caps.items() for word in ("--cap", service, cap)]
            self.release.run("ceph-authtool", keyring, "--gen-key", "-n", entity, *words)
        KEYS.add_keyring(self.keyring)

    def _start_monitors(self) -> None:
        for attempt in range(1, BIND_ATTEMPTS + 1):
            ports = iter(_free_ports(self.address, 2 * len(self.mon_names)))
            hosts = {name: self._mon_host(next(ports), next(ports)) for name in self.mon_names}
            self.mon_host = ",".join(hosts.values())
            self._write_confs()
            monmap = self.release.inside(self.directory / "monmap")
            named = [word for name, host in hosts.items() for word in ("--addv", name.removeprefix("mon."), host)]
            self.release.run("monmaptool", "--create", "--clobber", "--fsid", self.fsid, *named, monmap)
            for name in self.mon_names:
                data = self.directory / "data" / name
                shutil.rmtree(data)
                data.mkdir()
                self._run("ceph-mon", "--mkfs", "-i", name.removeprefix("mon."), "--monmap", monmap)
                self._launch(name)
            try:
                for name in self.mon_names:
                    self._wait_for_answer(name)
                return
            except ChildProcessError:
                # Someone else, perhaps another cluster, was quicker to take a port that was free a moment ago.
                failed = [name for name in self.mon_names if self._could_not_bind(name)]
                if attempt == BIND_ATTEMPTS or not failed:
                    raise
                for name in self.mon_names:
                    if name in self._daemons:
                        self.kill_daemon(name)

    def _mon_host(self, v2: int, v1: int) -> str:
        speaks = [f"v2:{self.address}:{v2}"] if self._msgr2 else []
        return f"[{','.join([*speaks, f'v1:{self.address}:{v1}'])}]"

    def _write_confs(self) -> None:
        msgr2 = str(self._msgr2).lower()
        facts = {"fsid": self.fsid, "mon_host": self.mon_host, "address": self.address, "msgr2": msgr2}
        inner = CONF.format(directory=self.release.inside(self.directory), **facts)
        outer = CONF.format(directory=self.directory, **facts)
        permissions = "" if os.geteuid() == 0 else "client permissions = false\n"  # else only root may write to /
        (self.directory / "ceph.conf").write_text(inner + permissions + self._extra + "\n")
        self.conf.write_text(outer + permissions + self._extra + "\n")

    def _run(self, *argv: str | Path) -> None:
        self.release.run(argv[0], "-c", self.inner_conf, *argv[1:])


def _free_ports(address: str, count: int) -> list[int]:
    """Ports nobody listens on there just now; held together so that they differ."""
    with contextlib.ExitStack() as sockets:
        held = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in held]
