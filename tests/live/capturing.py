"""dumpcap on the loopback: everything one cluster and its clients say to each other."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from .waiting import wait_until

__all__ = ["Dumpcap", "missing_program", "some_loopback_address"]

FLUSH_LIMIT = 10.0
"""Seconds in which dumpcap has written what it saw; it does so twice a second."""

TAIL = 1 << 18
DISCARD = 9
"""A UDP port nobody listens on."""


def missing_program(name: str) -> str | None:
    """What would let ``dumpcap`` or ``tshark`` run here, in words; None when nothing is missing."""
    if shutil.which(name) is None:
        return f"run `make ceph` as root: {name} not found"
    if name == "dumpcap" and os.geteuid() != 0:
        return "run the tests as root: dumpcap may capture on lo for nobody else"
    return None


def some_loopback_address() -> str:
    """An address of 127.0.0.0/8 that nobody else is likely to use: a capture of it holds one cluster's traffic."""
    return "127." + ".".join(str(1 + secrets.randbelow(254)) for _ in range(3))


class Dumpcap:
    """A context manager that captures TCP from and to ``address``, or one ``port`` there, into a pcapng file.

    Nothing is missing from the file: it holds what was sent between entering and leaving, and leaving fails if the
    kernel dropped a packet.
    """

    def __init__(self, path: Path, address: str, port: int | None = None) -> None:
        self.path = path
        self._address = address
        tcp = "tcp" if port is None else f"tcp port {port}"
        # The UDP is our own mark, see __exit__; a reader of TCP passes it over.
        wanted = f"host {address} and ({tcp} or udp port {DISCARD})"
        self._process = subprocess.Popen(
            ["dumpcap", "-q", "-i", "lo", "-f", wanted, "-B", "256", "-w", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if line.startswith("File:"):  # it captures before it opens its file
                return self
        raise RuntimeError(f"dumpcap ended with {self._process.wait()}: {said}")

    def __exit__(self, *exc: object) -> None:
        # When dumpcap stops, what the kernel still holds for it is lost: wait until it has written this.
        mark = secrets.token_bytes(16)
        try:
            wait_until(lambda: self._has_written(mark), "dumpcap has written all", within=FLUSH_LIMIT)
        finally:
            self._process.terminate()
            _, said = self._process.communicate(timeout=10)
        counted = re.search(r"received/dropped on interface.*: (\d+)/(\d+) ", said)
        assert counted is not None, said
        assert counted[2] == "0", f"dumpcap lost packets, so this capture proves nothing: {said}"

    def _has_written(self, mark: bytes) -> bool:
        """Whether an earlier question's mark is in the file; this one's is sent."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            if mark in file.read():
                return True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(mark, (self._address, DISCARD))
        return False
