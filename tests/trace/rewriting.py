"""A capture's talk with MDSs, written anew: messages only, with nothing of authentication and of no other daemon.

``python -m tests.trace.rewriting CAPTURE KEYRING OUT.pcapng.gz`` made what is in ``data/``.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from cephcaps.cli.trace_keys import trace_keys
from cephcaps.trace.items import Flow, Item, Traced
from cephcaps.trace.read import read_trace
from cephcaps.trace.record import SECRETS, Recorder
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.features import CLIENT_FEATURES

__all__ = ["rewrite"]


class Link:
    """What a recorder looks at of a connection."""

    def __init__(self, flow: Flow) -> None:
        host, _, port = flow.daemon.rpartition(":")
        self.tap: Any = None
        self.link = self
        self.cookie = flow.number
        self.peer_cookie = 0
        self.global_id = flow.client_id
        self.peer_type = EntityType.MDS
        self.peer_num = flow.daemon_num
        self.peer_features = CLIENT_FEATURES
        self.lossy = False
        self.target = EntityAddr.make(AddrType.MSGR2, host, int(port), 1)
        self.addr = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 0, 1)


def rewrite(items: Iterable[Item], path: Path) -> None:
    """Write the messages between clients and MDSs to ``path``, with their times."""
    # A daemon says only with its first message who it is: by the end all is known of every connection.
    wanted = [
        item
        for item in items
        if isinstance(item, Traced) and item.flow.daemon_type == EntityType.MDS and not item.resent
    ]
    recorder = Recorder(path)
    links: dict[int, Link] = {}
    for item in wanted:
        flow = item.flow
        if flow.client_id is None or flow.daemon_num is None or item.header.type in SECRETS:
            continue
        if flow.number not in links:
            link = links[flow.number] = Link(flow)
            recorder.attach(link, ("127.0.0.1", 40000 + flow.number))  # type: ignore[arg-type]
        with patch("cephcaps.trace.record.time_ns", lambda ns=item.ns: ns):
            links[flow.number].tap(item.to_daemon, item.header, *item.segments)
    recorder.close()
    assert recorder.failure is None


def main(capture: str, keyring: str, out: str) -> None:
    with TemporaryDirectory() as folder, Path(capture).open("rb") as file:
        path = Path(folder) / "rewritten"
        rewrite(list(read_trace(file, trace_keys({"keyring": keyring}))), path)
        Path(out).write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
