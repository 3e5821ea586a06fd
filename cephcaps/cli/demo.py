"""``cephcaps demo``: the life of a capability between two clients, step by step, with the messages that moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from cephcaps.client import Client
    from cephcaps.file import OpenFile
    from cephcaps.testing import TestCluster
    from cephcaps.testing.daemon import Remote

__all__ = ["demo"]

MOST = 14
"""Lines of messages shown of a step."""
QUIET = 0.15
"""Seconds without a message after which a step is over."""
SHOWN = (
    "ClientCapRelease",
    "ClientCaps",
    "ClientLease",
    "ClientReconnect",
    "ClientReply",
    "ClientRequest",
    "ClientSession",
    "ClientSnap",
)


@click.command(cls=CephCommand)
@global_options()
@click.pass_obj
def demo(settings: Settings) -> int:
    """Show what capabilities are for: two clients, Ada and Bob, on a test cluster of this process's own.

    Each step says what is done, the messages that moved between them and the MDS, and who holds what afterwards. It
    needs no Ceph, no configuration and no network.

    \b
      cephcaps demo
    """
    run(_demo, settings)
    return 0


class Story:
    """Tells a step, lets it happen, and tells the messages that moved."""

    def __init__(self, cluster: TestCluster, ada: Client, bob: Client) -> None:
        self.names: dict[int, str] = {ada.global_id: "Ada", bob.global_id: "Bob"}
        self.clients: dict[str, Client] = {"Ada": ada, "Bob": bob}
        self.moved: list[str] = []
        self.number: int = 0
        self.ino: int = 0  # of the file it is all about, once it is there
        cluster.mds[0].observer = self._moved

    def _moved(self, sent: bool, remote: Remote, message: Any) -> None:
        who = self.names.get(remote.global_id)
        if who is not None and type(message).__name__ in SHOWN:
            self.moved.append(f"    {who} {'<-' if sent else '->'} MDS  {describe(message)}")

    async def step(self, title: str, why: str, act: Callable[[], Awaitable[Any]], file: OpenFile | None = None) -> None:
        import asyncio

        self.number += 1
        self.moved.clear()
        result = await act()
        seen = -1
        while seen != len(self.moved):
            seen = len(self.moved)
            await asyncio.sleep(QUIET)
        said = f" It says: {result}" if isinstance(result, str) else ""
        lines = self.moved if len(self.moved) <= MOST else [*self.moved[:3], f"    ... {len(self.moved) - 3} more"]
        emit(f"\n{self.number}. {title}.{said}\n   {why}\n" + "".join(f"{line}\n" for line in lines))
        if file is not None:
            self.ino = self.ino or file.ino
            held = {name: client.inode_caps(self.ino) for name, client in self.clients.items()}
            emit("   now " + ", ".join(f"{name} holds {_caps(caps)}" for name, caps in held.items()) + " on it\n")


def _caps(caps: Any) -> str:
    return "nothing" if caps is None else str(caps.issued)


def describe(message: Any) -> str:
    """One message in a few words."""
    from cephwire.capbits import cap_string
    from cephwire.caps import CapOp
    from cephwire.requestop import RequestOp
    from cephwire.session import SessionOp

    match type(message).__name__:
        case "ClientRequest":
            gives = f", giving back parts of {len(message.releases)} caps" if message.releases else ""
            return f"request {RequestOp(message.op).name.lower()} {message.path.path or hex(message.path.ino)}{gives}"
        case "ClientReply":
            target = message.trace.target
            caps = f", with caps {cap_string(target.cap.caps)}" if target is not None and target.cap.cap_id else ""
            sure = "" if message.safe else ", not yet safe"
            outcome = "done" if not message.result else f"refused, errno {-message.result}"
            return f"reply {RequestOp(message.op).name.lower()}: {outcome}{sure}{caps}"
        case "ClientCaps":
            verb = "acknowledging" if message.op == CapOp.FLUSH_ACK else "flushing"
            dirty = f", {verb} {cap_string(message.dirty)}" if message.dirty else ""
            return f"caps {CapOp(message.op).name.lower()} {message.ino:#x}: {cap_string(message.caps)}{dirty}"
        case "ClientCapRelease":
            return f"release of {len(message.caps)} caps"
        case "ClientSession":
            more = f", keep {message.max_caps} caps" if message.op == SessionOp.RECALL_STATE else ""
            return f"session {SessionOp(message.op).name.lower()}{more}"
        case "ClientReconnect":
            return f"reconnect, claiming the caps on {len(message.caps)} inodes"
        case _:
            return type(message).__name__.removeprefix("Client").lower()


async def _demo(settings: Settings) -> None:
    from cephcaps.client import connect
    from cephcaps.testing import TestCluster

    async with TestCluster() as cluster, connect(cluster.conf) as ada, connect(cluster.conf) as bob:
        emit(f"A monitor and an MDS run in this process, on loopback: {cluster.conf}\nAda and Bob have connected.\n")
        await _tell(Story(cluster, ada, bob), cluster, ada, bob)
    emit("\nBoth have closed their sessions, and nothing is left.\n")


async def _tell(story: Story, cluster: TestCluster, ada: Client, bob: Client) -> None:
    file = ada.open("/letter", "x")
    other = bob.open("/letter", "r")

    async def looks() -> str:
        return f"mode {(await bob.stat('/letter')).mode & 0o777:o}"

    async def many() -> None:
        for number in range(20):
            async with ada.open(f"/note-{number}", "x"):
                pass

    async def close_other() -> None:
        await other.__aexit__(None, None, None)
        bob.drop_caches()

    async def recall() -> None:
        cluster.faults.recall(ada.global_id, 5)

    async def cut() -> None:
        cluster.faults.cut(ada.global_id)
        await ada.mkdir("/after")

    async def fail() -> str:
        await ada.chmod("/letter", 0o640)
        await cluster.faults.fail_mds()
        await ada.sync()
        return f"mds.{ada.mds_map.mds_info[ada.mds_map.up[0]].name} is in charge, and has all"

    async def forget() -> None:
        await file.__aexit__(None, None, None)
        ada.drop_caches()

    step = story.step
    await step("Ada creates /letter and holds it", "Alone with it, she may do everything.", file.__aenter__, file)
    why = "Under Ax no message is needed: the change is dirty in her memory."
    await step("Ada changes its mode", why, lambda: ada.chmod("/letter", 0o600), file)
    why = "A conflict: the MDS revokes what Ada has; she flushes the mode and gives way, and Bob sees it."
    await step("Bob looks at it", why, looks, file)
    why = "One writes, one reads: nobody may cache or buffer any more."
    await step("Bob opens it to read", why, other.__aenter__, file)
    why = "He releases his caps before anybody asks for them, and Ada is alone again."
    await step("Bob closes it and forgets it", why, close_other, file)
    await step("Ada's connection breaks", "The session goes on over a new one; nothing is lost.", cut)
    await step("Ada makes 20 files", "Each comes with caps, which the MDS has to remember.", many)
    await step("The MDS wants its memory back", "It recalls; Ada gives back what nobody uses.", recall)
    why = "Ada changes the mode again; then it happens. Each reconnects and claims its caps; what is dirty is flushed."
    await step("The MDS dies, and another takes its place", why, fail, file)
    why = "She releases every cap she has; for the next look she would have to ask."
    await step("Ada closes /letter and forgets all", why, forget, file)
