"""Captures to measure with: real libcephfs over messenger v1, and the same again and again to any size."""

from __future__ import annotations

import itertools
import struct
import subprocess
import threading
import time
from pathlib import Path

from tests.live.capturing import Dumpcap, some_loopback_address
from tests.live.cluster import LiveCluster
from tests.live.libcephfs import LibcephfsPeer
from tests.live.release import Release

__all__ = ["FIRST_PORT", "capture_libcephfs", "repeat_capture"]

ATTEMPTS = 50
AT_A_TIME = 12
FLUSHED = 1.0
"""Seconds after which dumpcap has written what it saw."""

BLOCK = struct.Struct("<II")
PACKET, TIME = struct.Struct("<IIIIIII"), struct.Struct("<II")
"""An Enhanced Packet Block before its data: type, length, interface, time (high, low), captured and original size."""
ENHANCED_PACKET = 6
ETHERNET, TCP_PROTOCOL = 14, 6
MARGIN = 10**9
"""Nanoseconds between two rounds; dumpcap's time is in these."""
FIRST_PORT = 10_000
"""Above what Ceph's daemons listen on, which is how a client's port is known."""


def capture_libcephfs(release: Release, path: Path, size: int) -> None:
    """Two clients make, change and look at files, their own and each other's, until ``path`` has ``size`` bytes.

    The file holds their connections with the MDS from the beginning, both directions. Wireshark 4.0 reads what an MDS
    sends in some connections only (see `tests.live.tshark`); these are ones in which it does.
    """
    address = some_loopback_address()
    with LiveCluster(release, mds=1, msgr2=False, address=address) as cluster:
        (info,) = cluster.ceph("fs", "dump")["filesystems"][0]["mdsmap"]["info"].values()
        port = int(info["addrs"]["addrvec"][0]["addr"].rpartition(":")[2])
        for _ in range(ATTEMPTS):
            with Dumpcap(path, address, port), LibcephfsPeer(cluster) as first, LibcephfsPeer(cluster) as second:
                for peer in (first, second):
                    peer.mkdir(f"/{peer.instance_id}", 0o777)
                time.sleep(FLUSHED)
                if _wireshark_reads(path, port) == 2:
                    _work(first, second, path, size)
                    return
    raise RuntimeError(f"Wireshark reads no two of {ATTEMPTS} connections")


def _wireshark_reads(path: Path, port: int) -> int:
    """Connections of which it has replies."""
    shown = subprocess.run(
        [
            "tshark",
            "-r",
            str(path),
            "-Y",
            f"tcp.srcport == {port} && ceph.type == 26",
            "-T",
            "fields",
            "-e",
            "tcp.stream",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return len(set(shown.stdout.split()))


def _work(first: LibcephfsPeer, second: LibcephfsPeer, path: Path, size: int) -> None:
    """Several operations of each client at a time, as a busy one has."""
    done = threading.Event()
    failed: list[BaseException] = []

    def work(peer: LibcephfsPeer, other: LibcephfsPeer, number: int) -> None:
        mine, theirs = (f"/{each.instance_id}/{number}-" for each in (peer, other))
        try:
            for i in itertools.count():
                if done.is_set():
                    return
                peer.write_file(f"{mine}{i}", b"", mode=0o666)
                peer.chmod(f"{mine}{i}", 0o660)
                if peer.exists(f"{theirs}{i // 2}"):
                    peer.chmod(f"{theirs}{i // 2}", 0o600)
                    peer.statx(f"{theirs}{i // 3}")
        except BaseException as error:
            failed.append(error)
            done.set()

    pairs = [(first, second), (second, first)]
    workers = [threading.Thread(target=work, args=(*pair, n)) for pair in pairs for n in range(AT_A_TIME)]
    for worker in workers:
        worker.start()
    while path.stat().st_size < size and not done.wait(FLUSHED / 10):
        pass
    done.set()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]


def repeat_capture(path: Path, copy: Path, size: int) -> None:
    """What dumpcap wrote into ``path``, over and over until ``size`` bytes: each time later, and from other ports."""
    raw = bytearray(path.read_bytes())
    packets: list[tuple[int, int, int]] = []
    """Where each is, the time, and where its client's port stands."""
    head = at = 0
    while at < len(raw):
        kind, length = BLOCK.unpack_from(raw, at)
        if kind == ENHANCED_PACKET:
            head = head or at
            ip = at + PACKET.size + ETHERNET
            tcp = ip + (raw[ip] & 15) * 4
            if raw[ip + 9] == TCP_PROTOCOL:
                ports = struct.unpack_from(">HH", raw, tcp)
                high, low = TIME.unpack_from(raw, at + 12)
                packets.append((at, high << 32 | low, tcp + 2 * ports.index(max(ports))))
        at += length
    span = packets[-1][1] - packets[0][1] + MARGIN
    numbers = itertools.count(FIRST_PORT)
    with copy.open("wb") as out:
        out.write(raw[:head])
        for again in itertools.count():
            changed: dict[bytes, bytes] = {}
            for at, ns, port in packets:
                when = ns + span * again
                TIME.pack_into(raw, at + 12, when >> 32, when & 0xFFFFFFFF)
                was = bytes(raw[port : port + 2])
                if was not in changed:
                    changed[was] = next(numbers).to_bytes(2, "big")
                raw[port : port + 2] = changed[was]
                out.write(raw[at : at + BLOCK.unpack_from(raw, at)[1]])
            if out.tell() >= size:
                return
