"""A client that does nothing stays: on both releases in both modes at once, with nothing sent but what must be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from cephcaps import connect
from cephcaps.messenger.link import Link, Outgoing
from cephcaps.messenger.v2 import ConnectionV2
from cephwire.control import Ack, Keepalive2, Keepalive2Ack
from cephwire.session import ClientSession, SessionOp

from .cluster import LiveCluster
from .release import find_release

SESSION_TIMEOUT = 30
RENEWALS_EVERY = SESSION_TIMEOUT / 3
RELEASES = ("pacific", "tentacle")
MODES = ("crc", "secure")


@pytest.fixture
def clusters() -> Iterator[list[LiveCluster]]:
    releases = [find_release(name) for name in RELEASES]
    for missing in filter(None, (release.missing() for release in releases)):
        pytest.skip(missing)
    with ExitStack() as stack:
        yield [stack.enter_context(LiveCluster(r, mds=1, session_timeout=SESSION_TIMEOUT)) for r in releases]


class Sent:
    """Counts what all connections send, by kind, from when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kinds: Counter[str] = Counter()
        number, write = Link.number, ConnectionV2._write

        def count_message(link: Link, message: Any, *how: Any) -> Outgoing:
            kind = SessionOp(message.op).name if isinstance(message, ClientSession) else type(message).__name__
            self.kinds[kind] += 1
            return number(link, message, *how)

        def count_frame(connection: ConnectionV2, frame: Any) -> None:
            self.kinds[type(frame).__name__] += 1
            write(connection, frame)

        monkeypatch.setattr(Link, "number", count_message)
        monkeypatch.setattr(ConnectionV2, "_write", count_frame)


@pytest.mark.parametrize("seconds", [40, pytest.param(180, marks=pytest.mark.soak)])
async def test_an_idle_session_stays_open_on_renewals_alone(
    clusters: list[LiveCluster], monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    sent = Sent(monkeypatch)
    async with AsyncExitStack() as stack:
        clients = [
            (cluster, await stack.enter_async_context(connect(cluster.conf, ms_mode=mode)))
            for cluster in clusters
            for mode in MODES
        ]
        await asyncio.sleep(1)  # what the opening brought along has been acknowledged
        connections = [session.connection for _, client in clients for session in client.sessions.values()]
        sent.kinds.clear()

        await asyncio.sleep(seconds)

        renewals = sent.kinds.pop("REQUEST_RENEWCAPS")
        expected = len(clients) * seconds / RENEWALS_EVERY
        assert expected - len(clients) <= renewals <= expected + len(clients)
        assert set(sent.kinds) <= {kind.__name__ for kind in (Ack, Keepalive2, Keepalive2Ack)}
        for cluster, client in clients:
            (session,) = client.sessions.values()
            seen = cluster.session(client.global_id)
            assert seen is not None
            assert (session.state, seen["state"]) == ("open", "open")
            assert session.renewals.ttl > asyncio.get_running_loop().time()
        assert connections == [session.connection for _, client in clients for session in client.sessions.values()]
    for cluster in clusters:
        assert cluster.session_ls() == []
        assert "evict" not in cluster.log_tail("mds.a", 200)
