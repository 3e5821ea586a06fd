"""`TestCluster`: a monitor and an MDS on loopback, for tests of whatever speaks to CephFS."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Literal, Self

from cephcaps.auth.crypto import Entropy
from cephcaps.testing.faults import Faults
from cephcaps.testing.keys import KeyServer
from cephcaps.testing.maps import Maps
from cephcaps.testing.mds.server import Mds
from cephcaps.testing.monitor import Monitor
from cephcaps.testing.serving import Served, now_ns
from cephwire.codec import Codec
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr
from cephwire.keys import CRYPTO_KEY, CryptoType
from cephwire.keys import CryptoKey as WireKey
from cephwire.mdsmap import MdsState

__all__ = ["TestCluster"]

HOST = "127.0.0.1"
BLOCKED_FOR = 3_600 * 10**9
"""Nanoseconds that an evicted client stays blocklisted."""
NONCE_BITS = 31
NOWHERE = EntityAddr.make(AddrType.NONE, HOST, 0)
MESSENGERS = {"v1": AddrType.LEGACY, "v2": AddrType.MSGR2}

CONF = """\
[global]
fsid = {fsid}
mon host = {mon}
auth cluster required = {auth}
auth service required = {auth}
auth client required = {auth}
keyring = {keyring}
ms bind ipv6 = false

[client]
client check pool perm = false
client mount timeout = 30
log file =
admin socket =
"""

crypto_keys: Codec[WireKey] = Codec(CRYPTO_KEY)


class TestCluster:
    """A Ceph file system on loopback in this process, to be entered with ``async with``.

    It serves metadata and no file data: a client that writes is told ENOSPC. Nothing is kept on disk but a ceph.conf
    and a keyring, in a folder that only this user may read and that is removed at the end.

    Args:
        auth: "cephx", so that whoever connects needs the key; or "none".
        key_type: of all keys; AES256K is known to Ceph 20.2.4 and later alone.
        ms_mode: "crc" or "secure" for one protection only; None leaves it to the client.
        messengers: versions of the messenger that its daemons speak, such as ("v1",) for what is older than Ceph 14.
        clients: names that get a key.
        session_timeout, session_autoclose: seconds.
        entropy: randomness; a test that gives its own gets the same keys in every run. The system's if not said.

    Attributes:
        conf: path of the ceph.conf for clients.
        mds: the ranks' daemons, by rank.
        mon: the monitor.
    """

    __test__ = False  # pytest: no test class, in spite of its name

    def __init__(
        self,
        *,
        auth: Literal["cephx", "none"] = "cephx",
        key_type: CryptoType = CryptoType.AES,
        ms_mode: Literal["crc", "secure"] | None = None,
        messengers: tuple[Literal["v1", "v2"], ...] = ("v2", "v1"),
        clients: tuple[str, ...] = ("client.admin",),
        session_timeout: int = 60,
        session_autoclose: int = 300,
        entropy: Entropy | None = None,
    ) -> None:
        entropy = os.urandom if entropy is None else entropy
        self.fsid: uuid.UUID = uuid.UUID(bytes=entropy(16), version=4)
        self._auth = auth
        self._modes = {None: (ConMode.SECURE, ConMode.CRC), "crc": (ConMode.CRC,), "secure": (ConMode.SECURE,)}[ms_mode]
        self._messengers = tuple(MESSENGERS[messenger] for messenger in messengers)
        self._clients = clients
        self._timeouts = session_timeout, session_autoclose
        self._entropy = entropy
        self.keys: KeyServer = KeyServer(entropy, key_type)
        self.mds: dict[int, Mds] = {}
        self._ranks: dict[int, Served] = {}
        self._folder: Path | None = None
        self._mon: Served | None = None
        self._faults: Faults | None = None

    @property
    def conf(self) -> Path:
        """The ceph.conf for clients."""
        if self._folder is None:
            raise RuntimeError("the cluster is not running: enter it with `async with`")
        return self._folder / "ceph.conf"

    @property
    def mon(self) -> Monitor:
        """The monitor."""
        if self._mon is None:
            raise RuntimeError("the cluster is not running: enter it with `async with`")
        mon = self._mon.daemon
        assert isinstance(mon, Monitor)
        return mon

    @property
    def faults(self) -> Faults:
        """What can go wrong when a test says so."""
        if self._faults is None:
            raise RuntimeError("the cluster is not running: enter it with `async with`")
        return self._faults

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        maps = Maps(self.fsid, now_ns(), (), key_type=self.keys.type)
        maps.session_timeout, maps.session_autoclose = self._timeouts
        cephx = self._auth == "cephx"
        nobody = EntityAddr.make(AddrType.NONE, HOST, 0)
        nobody = EntityAddr.make(AddrType.NONE, HOST, 0)
        mon = Monitor(nobody, self._modes, self.keys, maps, cephx=cephx)
        self._mon = Served(mon)
        maps.mon = mon.addrs = await self._listen(self._mon, 0)
        mds = self.mds[0] = Mds(nobody, self._modes, self.keys, maps, cephx=cephx)
        mds.on_evict = self._block
        self._ranks[0] = Served(mds)
        mds.addrs = await self._listen(self._ranks[0], self._nonce())
        maps.add_mds(0, mds.addrs)
        self._faults = Faults(self, self._mon, self._ranks)
        self._write_files(mon.addrs)
        for served in (self._mon, *self._ranks.values()):
            await served.open()

    async def _make_mds(self, rank: int) -> Mds:
        """A daemon for ``rank``, that lets nobody in yet."""
        mds = Mds(NOWHERE, self._modes, self.keys, self.mon.maps, cephx=self._auth == "cephx")
        mds.on_evict = self._block
        self.mds[rank], self._ranks[rank] = mds, Served(mds)
        mds.addrs = await self._listen(self._ranks[rank], self._nonce())
        return mds

    async def fail_mds(self, rank: int = 0, *, after: float = 0.0) -> None:
        """Let a rank's daemon die, and another take its place; clients have to reconnect.

        Args:
            after: seconds that nobody holds the rank.
        """
        maps, former = self.mon.maps, self.mds[rank]
        legacy = former.stop()
        await self._ranks[rank].close()
        maps.fail_mds(rank)
        self._publish()
        if after:
            await asyncio.sleep(after)
        mds = await self._make_mds(rank)
        mds.observer, mds.gates = former.observer, former.gates

        def moved(state: str) -> None:
            maps.move_mds(rank, MdsState[state.upper()])
            self._publish()

        mds.on_state = moved
        served = self._ranks[rank]
        served.enter(lambda now: mds.take_over(legacy, now))
        await served.open()
        maps.add_mds(rank, mds.addrs)
        moved(mds.state)

    async def _listen(self, served: Served, nonce: int) -> tuple[EntityAddr, ...]:
        return tuple([await served.listen(HOST, messenger, nonce) for messenger in self._messengers])

    def _nonce(self) -> int:
        return int.from_bytes(self._entropy(4), "little") >> 32 - NONCE_BITS or 1

    async def _stop(self) -> None:
        for served in (*self._ranks.values(), self._mon):
            if served is not None:
                await served.close()
        for mds in self.mds.values():
            mds.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _write_files(self, mon: tuple[EntityAddr, ...]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cephcaps-"))  # mode 0700
        keyring = self._folder / "keyring"
        sections = []
        for name in self._clients:
            key = self.keys.add(name)
            text = base64.b64encode(crypto_keys.encode(WireKey(key.type, key.created, key.secret))).decode()
            sections.append(f"[{name}]\n\tkey = {text}\n")
        keyring.touch(mode=0o600)
        keyring.write_text("".join(sections))
        said = f"[{','.join(str(addr).partition('/')[0] for addr in mon)}]"
        self.conf.write_text(CONF.format(fsid=self.fsid, mon=said, auth=self._auth, keyring=keyring))

    def _block(self, addr: EntityAddr) -> None:
        """An evicted client must not come back."""
        self.mon.maps.block(addr, now_ns() + BLOCKED_FOR)
        self._publish()

    def _publish(self) -> None:
        """Have the monitor tell what is new in the maps."""
        assert self._mon is not None
        self.mon.publish()
        self._mon.pump()
