"""What really went over the loopback to one port, as tcpdump would write it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Capture"]

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
BUFFER = 1 << 26
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1)
PACKET_HEADER = struct.Struct("<IIII")


class Capture:
    """A context manager that captures TCP packets from and to ``port``. Needs CAP_NET_RAW.

    Attributes:
        packets: each packet, with its Ethernet header.
    """

    def __init__(self, port: int) -> None:
        self.packets: list[bytes] = []
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.1)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.2)  # what was sent before this has arrived
        self._done.set()
        self._thread.join()
        self._socket.close()

    def pcap(self) -> bytes:
        return PCAP_HEADER + b"".join(PACKET_HEADER.pack(0, 0, len(p), len(p)) + p for p in self.packets)

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                packet, (_, _, direction, *_) = self._socket.recvfrom(1 << 18)
            except TimeoutError:
                continue
            if direction == socket.PACKET_OUTGOING and self._is_ours(packet):  # on lo each is seen twice
                self.packets.append(packet)

    def _is_ours(self, packet: bytes) -> bool:
        ip = packet[14:]
        if packet[12:14] != b"\x08\x00" or ip[9] != socket.IPPROTO_TCP:
            return False
        return self._port in struct.unpack_from(">HH", ip, (ip[0] & 15) * 4)
