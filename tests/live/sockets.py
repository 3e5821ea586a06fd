"""Breaking the TCP connections of a process, as a firewall or a failing network does."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

__all__ = ["break_connections", "unread"]

End = tuple[bytes, int]
"""Address and port."""

NETLINK_SOCK_DIAG = 4
SOCK_DESTROY = 21
NLM_F_REQUEST, NLM_F_ACK = 1, 4
ESTABLISHED = "01"


def break_connections(pid: int) -> int:
    """Abort every IPv4 connection of that process; both ends see it reset. Needs CAP_NET_ADMIN.

    Returns:
        How many there were.
    Raises:
        OSError: the kernel refused; EOPNOTSUPP if it was built without CONFIG_INET_DIAG_DESTROY.
    Source: linux: include/uapi/linux/inet_diag.h, ``struct inet_diag_req_v2``; sock_diag(7).
    """
    broken = 0
    for source, target, _ in _connections(pid):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            _destroy(source, target)
            broken += 1
    return broken


def unread(pid: int) -> int:
    """Bytes that have arrived for that process, and wait for it to read them."""
    return sum(waiting for _, _, waiting in _connections(pid))


def _connections(pid: int) -> list[tuple[End, End, int]]:
    """The ends of each established connection, its own first, and the bytes that wait to be read."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(fd)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()  # proc_net_tcp.txt in linux's Documentation: "tx_queue:rx_queue" is the fifth, in hex
        if words[3] == ESTABLISHED and words[9] in inodes:
            found.append((_end(words[1]), _end(words[2]), int(words[4].partition(":")[2], 16)))
    return found


def _end(text: str) -> End:
    """What /proc/net/tcp calls ``0100007F:1A85``: the address in the machine's byte order."""
    address, port = text.split(":")
    return struct.pack("=I", int(address, 16)), int(port, 16)


def _destroy(source: End, target: End) -> None:
    pair = struct.pack(">HH16s16s", source[1], target[1], source[0], target[0])
    any_interface_and_cookie = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + pair + any_interface_and_cookie
    header = struct.pack("=IHHII", 16 + len(body), SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(header + body)
        (error,) = struct.unpack_from("=i", netlink.recv(1 << 12), 16)
    if error:
        raise OSError(-error, f"SOCK_DESTROY: {os.strerror(-error)}")
