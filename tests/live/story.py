"""One seeded history of two clients, and what has come of each of its steps: for comparing two clusters."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from cephcaps import Client, MdsError, connect
from cephcaps.engine import check, release
from cephcaps.file import OpenFile
from cephcaps.view import InodeCaps

from .waiting import until

__all__ = ["Step", "play"]

NAMES = ("a", "b", "c", "d")
TIME = 1_600_000_000_000_000_000
PATIENCE = 60.0
QUIET_ROUNDS = 2
"""In which the MDS says nothing, before all is at rest: what is made safe may be followed by one more change."""


@dataclass
class Step:
    """One call and what it left.

    Attributes:
        did: the call, in words.
        came: what it returned, or the errno.
        caps: what each client holds of each path afterwards, at rest.
    """

    did: str
    came: str
    caps: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.did} -> {self.came}"


class History:
    """Two clients in a directory of their own.

    Args:
        root: made here; all paths of steps are below it.
        seed: the same seed gives the same calls, whatever comes of them.
        third: a client with a directory of its own, ``root`` and "-third".
    """

    def __init__(self, clients: tuple[Client, Client], root: str, seed: int, third: Client) -> None:
        self.clients = clients
        self.third = third
        self.root = root
        self.dice = random.Random(seed)
        self.held: list[tuple[int, str, OpenFile]] = []
        self.names: dict[int, str] = {}
        self.flushed = 0

    def path(self) -> str:
        depth = self.dice.choice((1, 1, 2, 2, 3))
        return "/".join([self.root, *(self.dice.choice(NAMES) for _ in range(depth))])

    async def step(self, number: int) -> Step:
        """The next call."""
        who = self.dice.randrange(2)
        client, path, other = self.clients[who], self.path(), self.path()
        bits, stamp = self.dice.choice((0o600, 0o640, 0o755)), TIME + number * 1_000_000_000
        calls: list[tuple[str, int, Callable[[], Awaitable[object]]]] = [
            (f"mkdir {path}", 4, lambda: client.mkdir(path, 0o755)),
            (f"create {path}", 5, lambda: self._create(client, path)),
            (f"hold {path} r", 3, lambda: self._hold(who, path, "r")),
            (f"hold {path} r+", 3, lambda: self._hold(who, path, "r+")),
            ("let go", 4, self._let_go),
            (f"chmod {path} {bits:o}", 4, lambda: client.chmod(path, bits)),
            (f"utime {path}", 3, lambda: client.setattr(path, atime=stamp, mtime=stamp + 5)),
            (f"truncate {path}", 3, lambda: client.truncate(path, 100 + number)),
            (f"setxattr {path}", 3, lambda: client.setxattr(path, "user.x", str(number).encode())),
            (f"getxattr {path}", 2, lambda: client.getxattr(path, "user.x")),
            (f"removexattr {path}", 1, lambda: client.removexattr(path, "user.x")),
            (f"unlink {path}", 3, lambda: client.unlink(path)),
            (f"rmdir {path}", 2, lambda: client.rmdir(path)),
            (f"rename {path} {other}", 4, lambda: client.rename(path, other)),
            (f"link {path} {other}", 2, lambda: client.link(path, other)),
            (f"symlink {path}", 1, lambda: client.symlink("nowhere", path)),
            (f"stat {path}", 6, lambda: self._stat(client, path)),
            (f"listdir {path}", 4, lambda: self._listdir(client, path)),
        ]
        did, _, call = self.dice.choices(calls, [weight for _, weight, _ in calls])[0]
        try:
            came = str(await call())
        except MdsError as error:
            came = error.strerror or str(error.errno)
        return Step(f"{number}: client {who} {did}", came)

    async def _create(self, client: Client, path: str) -> None:
        async with client.open(path, "x", mode=0o644):
            pass

    async def _hold(self, who: int, path: str, mode: str) -> None:
        file = self.clients[who].open(path, mode)
        await file.__aenter__()
        self.held.append((who, path, file))

    async def _let_go(self) -> str:
        if not self.held:
            return "nothing"
        who, path, file = self.held.pop(self.dice.randrange(len(self.held)))
        await file.__aexit__(None, None, None)
        return f"{who} {path}"

    async def let_all_go(self) -> None:
        while self.held:
            await self._let_go()

    async def _stat(self, client: Client, path: str) -> str:
        stat = await client.stat(path, follow_symlinks=False)
        # A directory's size is the sum below it, which no cap covers.
        size = 0 if stat.mode >> 12 == 4 else stat.size
        return f"{stat.mode:o} {stat.nlink} {size} {stat.uid} {stat.gid}"

    async def _listdir(self, client: Client, path: str) -> str:
        return " ".join(sorted(await client.listdir(path)))

    # At rest

    async def rest(self) -> None:
        """Nobody waits for anybody any more, and the MDS has heard all that clients have to say."""
        # Else it depends on how long the journal takes to write whether they come before what is made safe below.
        await until(lambda: not self._releasing(), "caps given up are on their way", within=PATIENCE)
        quiet, before = 0, None
        while quiet < QUIET_ROUNDS:
            for client in self.clients:
                await client.sync()
                with suppress(FileNotFoundError):  # whatever was sent before it has arrived when this is answered
                    await client.stat(f"/nowhere-{self.flushed}")
            await self._flush()
            await until(self._idle, "both clients are at rest", within=PATIENCE)
            seqs = [client.sessions[0].seq for client in self.clients]
            quiet, before = quiet + 1 if seqs == before else 0, seqs

    async def _flush(self) -> None:
        """Have the MDS make all changes safe, also those for which no client waits: its whole journal is written where
        one client has something in it."""
        self.flushed += 1
        await self.third.chmod(f"{self.root}-third", 0o700 + self.flushed % 2)
        await self.third.sync()

    def _idle(self) -> bool:
        busy = any(
            client.metrics.requests or client.metrics.flushing or client.metrics.revoking for client in self.clients
        )
        return not busy and not self._releasing()

    def _releasing(self) -> bool:
        return any(rank.releases for client in self.clients for rank in client.engine.cache.ranks.values())

    def caps(self) -> dict[str, tuple[str, str]]:
        """By inode, named by the order in which they came up."""
        for client in self.clients:
            for ino in sorted(client.engine.cache.inodes):
                self.names.setdefault(ino, f"#{len(self.names)}")
        found = {}
        for ino, name in self.names.items():
            first, second = (client.inode_caps(ino) for client in self.clients)
            if first is not None or second is not None:
                found[name] = _issued(first), _issued(second)
        return found


def _issued(caps: InodeCaps | None) -> str:
    return "-" if caps is None else str(caps.issued)


async def play(conf: Path, root: str, seed: int, steps: int, hold: float) -> tuple[list[Step], dict[str, str]]:
    """The history on one cluster: its steps, and the tree in the end.

    Args:
        hold: seconds for which no message of a client gives back what was just in use. How many steps are done in the
            usual 5 depends on how busy the machine is, and the caps with it; so either none or all of them.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.multiple(check, HOLD_MIN=hold, HOLD_MAX=1000.0))
        stack.enter_context(patch.object(release, "RELEASE_DELAY", 0.0))
        clients = [await stack.enter_async_context(connect(conf)) for _ in range(3)]
        history = History((clients[0], clients[1]), root, seed, clients[2])
        await clients[2].mkdir(f"{root}-third")
        await clients[0].mkdir(root, 0o755)
        await history.rest()
        done = []
        for number in range(steps):
            step = await history.step(number)
            await history.rest()
            step.caps = history.caps()
            done.append(step)
        await history.let_all_go()
        return done, await _tree(clients[0], root, root)


async def _tree(client: Client, root: str, path: str) -> dict[str, str]:
    found = {}
    async for entry in client.scandir(path):
        below = f"{path}/{entry.name}"
        stat = await client.stat(below, follow_symlinks=False)
        listed = await client.listxattr(below, follow_symlinks=False)
        names = {name: await client.getxattr(below, name, follow_symlinks=False) for name in listed}
        set_time = stat.mtime if stat.mtime < 1_700_000_000_000_000_000 else 0
        size = 0 if stat.mode >> 12 == 4 else stat.size
        found[below.removeprefix(root)] = f"{stat.mode:o} {stat.nlink} {size} {set_time} {names}"
        if stat.mode >> 12 == 4:
            found |= await _tree(client, root, below)
    return found
