"""A directory known whole: listed and searched without a message, and right at once whatever others do in it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, connect
from cephcaps.events import CapRevoking

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import until

ROUNDS = 500
PIECES = 1500
"""More names than the one answer of 512 KiB holds that an MDS gives at a time."""


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


async def answered(cluster: LiveCluster) -> dict[str, int]:
    """How many requests of each kind the MDS has answered."""
    told = (await cluster.aio.mds_admin("perf dump"))["mds_server"]
    return {name: value["avgcount"] for name, value in told.items() if name.startswith("req_")}


async def test_a_listing_made_twice_and_a_name_looked_for_in_vain_cost_nothing(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    async with connect(conf) as maker:
        await maker.makedirs("/listed/sub")
        for name in "abc":
            async with maker.open(f"/listed/{name}", "x") as file:
                await file.setattr(size=5)
    async with connect(conf) as client:
        first = [entry async for entry in client.scandir("/listed")]
        before = await answered(cluster)

        assert await client.listdir("/listed") == [entry.name for entry in first]
        again = [entry async for entry in client.scandir("/listed")]
        assert [(e.name, e.ino, e.stat.mtime, e.stat.size) for e in again] == [
            (e.name, e.ino, e.stat.mtime, e.stat.size) for e in first
        ]
        assert not await client.exists("/listed/d")
        with pytest.raises(FileNotFoundError):
            await client.stat("/listed/sub2/x")

        assert await answered(cluster) == before
        await peer.aio.write_file("/listed/d", b"")
        assert await client.exists("/listed/d")
        assert sorted(await client.listdir("/listed")) == ["a", "b", "c", "d", "sub"]
        assert (await answered(cluster))["req_readdir_latency"] == before["req_readdir_latency"] + 1


async def test_what_we_change_ourselves_stays_known_without_asking(cluster: LiveCluster, conf: Path) -> None:
    async with connect(conf) as client:
        await client.mkdir("/own")
        await client.mkdir("/own/sub")
        before = await answered(cluster)

        for name in ("a", "b", "c"):
            async with client.open(f"/own/{name}", "x"):
                pass
        await client.unlink("/own/a")
        await client.rename("/own/b", "/own/sub/b")
        await client.link("/own/c", "/own/sub/c")
        await client.symlink("c", "/own/s")
        assert sorted(await client.listdir("/own")) == ["c", "s", "sub"]
        assert sorted([entry.name async for entry in client.scandir("/own/sub")]) == ["b", "c"]
        assert not await client.exists("/own/b")

        after = await answered(cluster)
        assert after["req_readdir_latency"] == before["req_readdir_latency"]
        assert after["req_lookup_latency"] == before["req_lookup_latency"]


async def test_a_directory_told_in_pieces_and_in_fragments_is_known_whole(new_cluster: Any) -> None:
    small = "[mds]\nmds bal split size = 300\nmds bal fragment interval = 1\nmds bal split bits = 2\n"
    cluster = new_cluster(mds=1, extra=small)
    names = {f"a-rather-long-name-{number:05}" for number in range(PIECES)}
    async with connect(cluster.conf) as maker:
        await maker.mkdir("/big")
        for name in sorted(names):
            await maker.symlink("nowhere", f"/big/{name}")
    where = {"prefix": "dirfrag ls", "path": "/big"}

    await until(lambda: len(cluster.mds_admin(where)) > 2, "the directory is split")
    async with connect(cluster.conf) as client:
        assert set(await client.listdir("/big")) == names
        before = await answered(cluster)
        assert before["req_readdir_latency"] > 2
        assert set(await client.listdir("/big")) == names
        assert {entry.name async for entry in client.scandir("/big")} == names
        assert not await client.exists("/big/none")
        assert await answered(cluster) == before


class Tree:
    """Two directories as they must be: names, and what they lead to."""

    def __init__(self, client: Client, peer: LibcephfsPeer, chance: random.Random) -> None:
        self.client = client
        self.peer = peer.aio
        self.chance = chance
        self.names: dict[str, dict[str, str]] = {"/game/x": {}, "/game/y": {}}
        self.serial = 0

    def pick(self) -> tuple[str, str] | None:
        """A directory and one of its names."""
        there = [(top, name) for top, names in self.names.items() for name in names]
        return self.chance.choice(there) if there else None

    def fresh(self) -> tuple[str, str]:
        """A directory and a name it does not have; often one that it had before."""
        top = self.chance.choice(list(self.names))
        self.serial += 1
        free = [name for name in (*"abcdefgh", f"n{self.serial}") if name not in self.names[top]]
        return top, self.chance.choice(free)

    async def change(self) -> str:
        """Let one of the two change something; says what."""
        who: Any = self.chance.choice([self.client, self.peer, self.peer])
        kind = self.chance.choice(["make", "make", "mkdir", "remove", "remove", "rename", "over", "link"])
        top, name = self.fresh()
        old = self.pick()
        if kind in ("make", "mkdir") or old is None:
            kind = "make" if kind != "mkdir" else kind
            if kind == "mkdir":
                await who.mkdir(f"{top}/{name}")
            elif who is self.client:
                async with who.open(f"{top}/{name}", "x"):
                    pass
            else:
                await who.write_file(f"{top}/{name}", b"")
            self.names[top][name] = "dir" if kind == "mkdir" else f"file {self.serial}"
            return f"{kind} {top}/{name}"
        (from_top, from_name), what = old, self.names[old[0]][old[1]]
        path = f"{from_top}/{from_name}"
        if kind == "remove":
            await (who.rmdir if what == "dir" else who.unlink)(path)
            del self.names[from_top][from_name]
            return f"remove {path}"
        if kind == "link" and what != "dir":
            await who.link(path, f"{top}/{name}")
            self.names[top][name] = what
            return f"link {path} {top}/{name}"
        if kind == "over" and what != "dir":
            files = [(t, n) for t, names in self.names.items() for n in names if names[n] not in ("dir", what)]
            if files:
                top, name = self.chance.choice(files)
        await who.rename(path, f"{top}/{name}")
        del self.names[from_top][from_name]
        self.names[top][name] = what
        return f"rename {path} {top}/{name}"

    async def look(self, said: str) -> int:
        """Whether our client sees all as it must be; gives how many listings it had in memory."""
        listings, from_memory = self.client.engine.listings, 0
        for top, names in self.names.items():
            ino = (await self.client.stat(top)).ino
            if self.chance.random() < 0.5:
                from_memory += listings.names(ino, asyncio.get_running_loop().time()) is not None
                if self.chance.random() < 0.5:
                    assert sorted(await self.client.listdir(top)) == sorted(names), said
                else:
                    seen = {entry.name: entry.stat.is_dir async for entry in self.client.scandir(top)}
                    assert seen == {name: what == "dir" for name, what in names.items()}, said
            for name in (self.chance.choice([*"abcdefgh"]), *list(names)[:1]):
                assert await self.client.exists(f"{top}/{name}") == (name in names), said
        return from_memory

    async def check_links(self) -> None:
        """Names of one file lead to one inode, whose link count is theirs."""
        everything = [names[name] for names in self.names.values() for name in names]
        inos: dict[str, set[int]] = {}
        for top, names in self.names.items():
            for name, what in names.items():
                if what != "dir":
                    stat = await self.client.stat(f"{top}/{name}")
                    inos.setdefault(what, set()).add(stat.ino)
                    assert stat.nlink == everything.count(what)
        assert all(len(found) == 1 for found in inos.values())


async def play(
    client: Client, peer: LibcephfsPeer, rounds: int, between: Callable[[int], Awaitable[None]] | None = None
) -> int:
    """Both clients change names, and ours looks after each change; gives how many listings it had in memory."""
    seed = random.randrange(2**32)
    started, from_memory = time.monotonic(), 0
    tree = Tree(client, peer, random.Random(seed))
    for top in tree.names:
        await peer.aio.mkdirs(top)
    for number in range(rounds):
        if between is not None:
            await between(number)
        done = await tree.change()
        from_memory += await tree.look(f"seed {seed}, round {number}: {done}")
    await tree.check_links()
    assert client.metrics.late == ()
    print(f"{rounds} rounds in {time.monotonic() - started:.1f} s, {from_memory} listings from memory")
    return from_memory


async def test_whoever_changes_names_our_next_look_is_right(conf: Path, peer: LibcephfsPeer) -> None:
    async with connect(conf) as client:
        assert await play(client, peer, ROUNDS) > ROUNDS / 10


@pytest.mark.soak
async def test_it_is_while_the_directories_move_between_ranks(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = await asyncio.to_thread(new_cluster, mds=2, extra="[mds]\nmds bal interval = 1\nmds tick interval = 1")
    await cluster.aio.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
    await asyncio.to_thread(cluster.wait_for_active, 1)
    with LibcephfsPeer(cluster) as peer:

        async def move(number: int) -> None:
            if number % 40 == 0:
                for place, top in enumerate(("/game/x", "/game/y")):
                    pin = (number // 40 + number // 80 * place) % 2
                    await peer.aio.setxattr(top, "ceph.dir.pin", str(pin).encode())

        async with connect(cluster.conf) as client:
            assert await play(client, peer, 4 * ROUNDS, move) > ROUNDS / 10
            assert len(client.sessions) == 2


@pytest.mark.soak
async def test_it_is_though_half_the_replies_tell_nothing_of_names(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = await asyncio.to_thread(new_cluster, mds=1)
    with LibcephfsPeer(cluster) as peer:
        async with connect(cluster.conf) as client:
            await cluster.aio.mds_admin(
                {"prefix": "config set", "var": "mds_inject_traceless_reply_probability", "val": ["0.5"]}
            )
            await play(client, peer, ROUNDS)


async def test_what_we_ask_to_be_changed_is_not_asked_back_from_us(conf: Path) -> None:
    async with connect(conf) as client:
        await client.mkdir("/asked-back")
        await client.mkdir("/asked-back/sub")
        for name in "abcdef":
            async with client.open(f"/asked-back/{name}", "x"):
                pass
        held = client.inode_caps("/asked-back/b")
        assert held is not None
        assert "AsLsXsFs" in held.issued
        with client.events(types=(CapRevoking,)) as events:
            await client.unlink("/asked-back/a")
            await client.rename("/asked-back/b", "/asked-back/sub/b")
            await client.rename("/asked-back/c", "/asked-back/d")
            await client.link("/asked-back/d", "/asked-back/d2")
            await client.unlink("/asked-back/d2")
            client.release("/asked-back/e")
            await client.chmod("/asked-back/e", 0o600)
            async with client.open("/asked-back/f", "w"):
                pass
            await client.truncate("/asked-back/f", 0)
            await client.mkdir("/asked-back/sub/deep")
            await client.rmdir("/asked-back/sub/deep")
            await client.symlink("b", "/asked-back/sub/s")
            await client.listdir("/asked-back")
            await client.sync()
            assert events.drain() == []


async def test_names_just_made_are_listed_though_their_directory_was_dropped(conf: Path) -> None:
    """An MDS tells how many entries a directory had before what is not durable yet."""
    async with connect(conf) as client:
        await client.mkdir("/just-made")
        for number in range(20):
            async with client.open(f"/just-made/{number}", "x"):
                pass
        client.drop_caches()
        assert len(await client.listdir("/just-made")) == 20
        client.drop_caches()
        await client.stat("/just-made/3")
        assert len(await client.listdir("/just-made")) == 20
