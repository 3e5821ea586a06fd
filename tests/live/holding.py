"""The caps between a client and its MDS as both sides tell them, and what the client has sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import pytest

from cephcaps import Client
from cephcaps.messenger.link import Link, Outgoing

from .cluster import LiveCluster
from .waiting import until

__all__ = ["Sent", "SentMessage", "agree", "ours", "theirs"]

T = TypeVar("T")


def ours(client: Client, ino: int) -> dict[str, Any] | None:
    """Our cap in the words of ``dump inode``."""
    held = client.inode_caps(ino)
    if held is None or 0 not in held.per_mds:
        return None
    cap = held.per_mds[0]
    return {
        "client_id": client.global_id,
        "pending": str(cap.issued),
        "issued": str(cap.implemented),
        "wanted": str(cap.wanted),
        "last_sent": cap.seq,
    }


def theirs(client: Client, dump: dict[str, Any] | None) -> dict[str, Any] | None:
    """Our cap as the MDS tells it."""
    caps = dump["client_caps"] if dump is not None else []
    return next((cap for cap in caps if cap["client_id"] == client.global_id), None)


async def agree(cluster: LiveCluster, client: Client, ino: int, *, within: float = 5.0) -> dict[str, Any]:
    """What ``dump inode`` says, once both sides tell the same of our cap and nothing is asked back.

    Raises:
        TimeoutError: they do not agree; the message says what both told last.
    """
    told = ""

    async def look() -> dict[str, Any] | None:
        nonlocal told
        dump = await cluster.aio.dump_inode(ino)
        mine, seen = ours(client, ino), theirs(client, dump)
        told = f"we say {mine}, the MDS {seen}"
        settled = mine is None or mine["pending"] == mine["issued"]
        return dump if mine == seen and settled else None

    try:
        return await until(look, "both agree", within=within)
    except TimeoutError:
        raise TimeoutError(f"no agreement on inode {ino:#x} in {within:g} s: {told}") from None


class SentMessage(NamedTuple):
    link: Link
    message: Any
    tid: int


class Sent:
    """Every message that clients of this process send, from when it is made; what is sent again counts once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[SentMessage] = []
        number = Link.number

        def note(link: Link, message: Any, tid: int, *how: Any) -> Outgoing:
            self.all.append(SentMessage(link, message, tid))
            return number(link, message, tid, *how)

        monkeypatch.setattr(Link, "number", note)

    def by(self, client: Client, kind: type[T]) -> list[T]:
        """Messages of one kind that ``client`` has sent to MDSs."""
        return [sent.message for sent in self._by(client) if isinstance(sent.message, kind)]

    def count(self, client: Client) -> int:
        """How many messages ``client`` has sent to MDSs."""
        return sum(1 for _ in self._by(client))

    def _by(self, client: Client) -> Iterator[SentMessage]:
        links = {session.carrier.link for session in client.sessions.values()}
        return (sent for sent in self.all if sent.link in links)
