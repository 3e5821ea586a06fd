"""Questions to a daemon's admin socket, about a millisecond each (``ceph daemon`` costs 0.2 s)."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import struct
from pathlib import Path
from typing import Any

__all__ = ["ask"]


def ask(path: Path, command: str | dict[str, Any], *, timeout: float = 30.0) -> Any:
    """Send one command and return the answer: parsed where it is JSON, else its text.

    Args:
        path: the socket; its length does not matter.
        command: a prefix such as ``"session ls"``, or the whole command with its arguments.
        timeout: seconds for each step; a stopped daemon answers nothing.
    Raises:
        OSError: the daemon is down (ConnectionRefusedError, FileNotFoundError), or refused: errno says why.
    Source: ceph: src/common/admin_socket.cc, ``AdminSocket::do_accept``: the command in JSON and a NUL; then a
        big-endian u32 and that many bytes. A refusal is an answer that begins with ``ERROR: (errno)``.
    """
    question = {"prefix": command} if isinstance(command, str) else command
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(f"/proc/self/fd/{folder}/{path.name}")  # sun_path ends at 108 bytes
            client.sendall(json.dumps({"format": "json", **question}).encode() + b"\0")
            (length,) = struct.unpack(">I", _receive(client, 4))
            answer = _receive(client, length).decode(errors="surrogateescape")
    finally:
        os.close(folder)
    refused = re.match(r"ERROR: \((-?\d+)\)", answer)
    if refused:
        raise OSError(abs(int(refused[1])), f"{path.name}: {question['prefix']}: {answer.strip()}")
    try:
        return json.loads(answer)
    except ValueError:
        return answer.strip()


def _receive(client: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = client.recv(min(length, 1 << 20))
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "the daemon closed its admin socket in mid-answer")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
