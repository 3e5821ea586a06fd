"""Every call on names and attributes does what libcephfs does, and fails as it fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps import Client, connect
from cephcaps.file import OpenFile

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW, LibcephfsPeer, PeerStat

STEPS = 1_000
LOOK_EVERY = 100
"""Steps between two looks at the whole trees."""
NAMES = ("a", "b", "c", "d")
"""So few that names collide most of the time."""
LONG = "n" * 256
HOW = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT,
}
ATIME, MTIME = 10**17, 2 * 10**17
"""What steps set lies within an hour of these; all other times are those of the run and differ from tree to tree."""
HOUR = 3600 * 10**9


class Step(NamedTuple):
    """One operation; paths are relative to the tree, "" being its top."""

    op: str
    args: tuple[Any, ...]


WEIGHTS = {
    "mkdir": 12, "makedirs": 4, "rmdir": 6, "unlink": 7, "rename": 14, "symlink": 6, "link": 6, "chmod": 5,
    "chown": 4, "utime": 5, "truncate": 5, "open": 12, "ftruncate": 3, "close": 4, "stat": 7, "lstat": 4,
    "readlink": 4, "listdir": 5, "exists": 4,
}  # fmt: skip


def history(seed: int, count: int) -> Iterator[Step]:
    """``count`` operations, many of which cannot succeed."""
    rng = random.Random(seed)
    slots = 0
    for number in range(count):
        op = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        path = some_path(rng)
        match op:
            case "mkdir" | "makedirs":
                args: tuple[Any, ...] = (path, rng.choice((0o755, 0o700, 0o2775, 0o1777)))
            case "rename" | "link":
                args = (path, rng.choice((some_path(rng), some_path(rng), some_path(rng), path, f"{path}/a")))
            case "symlink":
                itself = path.rpartition("/")[2] or "."
                args = (rng.choice(("a", "b/c", "../a", "../../b", "{top}/a/b", "nowhere", "c/", itself)), path)
            case "chmod":
                args = (path, rng.choice((0o600, 0o644, 0o755, 0o4711, 0o000, 0o1777)))
            case "chown":
                args = (path, rng.choice((-1, 0, 1000, 2000)), rng.choice((-1, 0, 1001)), rng.random() < 0.7)
            case "utime":
                args = (path, ATIME + number * 1_000_000_007, MTIME + number * 1_000_000_009)
            case "truncate":
                args = (path, rng.choice((0, 0, 1, 4096, 5_000_000)))
            case "open":
                slots += 1
                slot = slots if rng.random() < 0.4 else 0  # 0: closed at once
                args = (path, rng.choice(list(HOW)), rng.choice((0o644, 0o600, 0o755)), slot)
            case "ftruncate":
                args = (rng.randint(max(1, slots - 4), slots or 1), rng.choice((0, 10, 100_000)))
            case "close":
                args = (rng.randint(max(1, slots - 4), slots or 1),)
            case _:
                args = (path,)
        yield Step(op, args)


def some_path(rng: random.Random) -> str:
    names = [rng.choice(NAMES) for _ in range(rng.choices((1, 2, 3), (30, 45, 25))[0])]
    odd = rng.random()
    if odd < 0.02:
        names[-1] = LONG
    elif odd < 0.03:
        names.insert(0, LONG)
    elif odd < 0.05:
        names.append("missing")
    elif odd < 0.07:
        names[1:1] = [".", "", rng.choice(NAMES), ".."]
    elif odd < 0.08:
        return ""
    elif odd < 0.12:
        names.append("")
    return "/".join(names)


class Actor:
    """One client at work in one tree."""

    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]]) -> None:
        self.top = top
        self.files = files

    def at(self, path: str) -> str:
        return f"{self.top}/{path}" if path else self.top

    async def do(self, step: Step) -> Any:
        """What comes of it: a value, or the name of an errno."""
        try:
            return await getattr(self, step.op)(*step.args)
        except TimeoutError:
            raise
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def said(self, target: str) -> str:
        return target.replace(self.top, "{top}")

    async def ftruncate(self, slot: int, size: int) -> None:
        if slot in self.files:
            await self.files[slot]("ftruncate", size)

    async def close(self, slot: int) -> None:
        if slot in self.files:
            await self.files.pop(slot)("close")


def told(found: Any) -> tuple[Any, ...]:
    """What must be alike in twin trees."""
    is_dir = stat.S_ISDIR(found.mode)  # whose size is what lies below, as far as the MDS has summed it up by now
    times = [time if 0 <= time - base < HOUR else "now" for time, base in ((found.atime, ATIME), (found.mtime, MTIME))]
    return (oct(found.mode), found.uid, found.gid, found.nlink, "" if is_dir else found.size, *times)


class Ours(Actor):
    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]], client: Client) -> None:
        super().__init__(top, files)
        self.client = client

    async def mkdir(self, path: str, mode: int) -> None:
        await self.client.mkdir(self.at(path), mode)

    async def makedirs(self, path: str, mode: int) -> None:
        await self.client.makedirs(self.at(path), mode)

    async def rmdir(self, path: str) -> None:
        await self.client.rmdir(self.at(path))

    async def unlink(self, path: str) -> None:
        await self.client.unlink(self.at(path))

    async def rename(self, source: str, target: str) -> None:
        await self.client.rename(self.at(source), self.at(target))

    async def symlink(self, target: str, path: str) -> None:
        await self.client.symlink(target.replace("{top}", self.top), self.at(path))

    async def link(self, existing: str, path: str) -> None:
        await self.client.link(self.at(existing), self.at(path))

    async def chmod(self, path: str, mode: int) -> None:
        await self.client.chmod(self.at(path), mode)

    async def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        await self.client.chown(self.at(path), uid, gid, follow_symlinks=follow)

    async def utime(self, path: str, atime: int, mtime: int) -> None:
        await self.client.utime(self.at(path), (atime, mtime))

    async def truncate(self, path: str, size: int) -> None:
        await self.client.truncate(self.at(path), size)

    async def open(self, path: str, how: str, mode: int, slot: int) -> None:
        file = await self.client.open(self.at(path), how, mode=mode).__aenter__()
        if not slot:
            await file.__aexit__(None, None, None)
            return

        async def act(what: str, *args: int) -> None:
            await self._on_file(file, what, *args)

        self.files[slot] = act

    async def _on_file(self, file: OpenFile, what: str, *args: int) -> None:
        if what == "close":
            await file.__aexit__(None, None, None)
        else:
            await file.setattr(size=args[0])

    async def stat(self, path: str) -> tuple[Any, ...]:
        return told(await self.client.stat(self.at(path)))

    async def lstat(self, path: str) -> tuple[Any, ...]:
        return told(await self.client.stat(self.at(path), follow_symlinks=False))

    async def readlink(self, path: str) -> str:
        return self.said(await self.client.readlink(self.at(path)))

    async def listdir(self, path: str) -> list[str]:
        return await self.client.listdir(self.at(path))

    async def exists(self, path: str) -> bool:
        return await self.client.exists(self.at(path))


class Theirs(Actor):
    def __init__(self, top: str, files: dict[int, Callable[..., Awaitable[Any]]], peer: LibcephfsPeer) -> None:
        super().__init__(top, files)
        self.peer = peer.aio

    async def mkdir(self, path: str, mode: int) -> None:
        await self.peer.mkdir(self.at(path), mode)

    async def makedirs(self, path: str, mode: int) -> None:
        # What os.makedirs does. Their own does not follow symlinks, and Tentacle's never comes back from below a file.
        above, _, name = path.rpartition("/")
        if name and above and not await self.exists(above):
            with contextlib.suppress(FileExistsError):
                await self.makedirs(above, mode)
        await self.peer.mkdir(self.at(path), mode)

    async def rmdir(self, path: str) -> None:
        await self.peer.rmdir(self.at(path))

    async def unlink(self, path: str) -> None:
        await self.peer.unlink(self.at(path))

    async def rename(self, source: str, target: str) -> None:
        await self.peer.rename(self.at(source), self.at(target))

    async def symlink(self, target: str, path: str) -> None:
        await self.peer.symlink(target.replace("{top}", self.top), self.at(path))

    async def link(self, existing: str, path: str) -> None:
        await self.peer.link(self.at(existing), self.at(path))

    async def chmod(self, path: str, mode: int) -> None:
        await self.peer.chmod(self.at(path), mode)

    async def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        await self.peer.chown(self.at(path), uid, gid, follow=follow)

    async def utime(self, path: str, atime: int, mtime: int) -> None:
        await self.peer.utimes(self.at(path), atime=atime, mtime=mtime)
        if await self.is_dir(path):
            # It writes them back when it likes, over the mtime of what was made in the directory meanwhile.
            await self.peer.sync_fs()

    async def truncate(self, path: str, size: int) -> None:
        await self.peer.truncate(self.at(path), size)

    async def open(self, path: str, how: str, mode: int, slot: int) -> None:
        fd = await self.peer.open(self.at(path), HOW[how], mode)
        if not slot:
            await self.peer.close_fd(fd)
            return

        async def act(what: str, *args: int) -> None:
            await (self.peer.close_fd(fd) if what == "close" else self.peer.ftruncate(fd, *args))

        self.files[slot] = act

    async def stat(self, path: str) -> tuple[Any, ...]:
        return told(await self.peer.statx(self.at(path)))

    async def lstat(self, path: str) -> tuple[Any, ...]:
        return told(await self.peer.statx(self.at(path), flags=AT_SYMLINK_NOFOLLOW))

    async def readlink(self, path: str) -> str:
        return self.said(await self.peer.readlink(self.at(path)))

    async def listdir(self, path: str) -> list[str]:
        return await self.peer.listdir(self.at(path))

    async def exists(self, path: str) -> bool:
        try:
            await self.peer.statx(self.at(path), 0)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # What the history needs to know

    async def is_dir(self, path: str, flags: int = 0) -> bool:
        return stat.S_ISDIR(await self.mode(path, flags))

    async def is_symlink(self, path: str) -> bool:
        return stat.S_ISLNK(await self.mode(path.rstrip("/"), AT_SYMLINK_NOFOLLOW))

    async def mode(self, path: str, flags: int = 0) -> int:
        """0 where there is nothing."""
        return (await self.found(path, flags)).mode

    async def ino(self, path: str, flags: int = 0) -> int:
        return (await self.found(path, flags)).ino

    async def found(self, path: str, flags: int = 0) -> PeerStat:
        try:
            return await self.peer.statx(self.at(path), flags=flags)
        except OSError:
            return PeerStat(*[0] * 16)


class Quirk(NamedTuple):
    """Where both refuse, or look on, and libcephfs says something else that we do not want to say."""

    theirs: frozenset[str]
    ours: frozenset[Any]
    ops: frozenset[str]
    why: str


ANY = frozenset(WEIGHTS)
LINK_REFUSED = frozenset({"EEXIST", "ELOOP", "ENOENT", "ENOTDIR", "EPERM"})
QUIRKS = (
    Quirk(frozenset({"EACCES"}), frozenset({"ENOTDIR", False}), ANY, "below a file Pacific's asks for its x bit first"),
    Quirk(frozenset({"ENOTEMPTY"}), frozenset({"EISDIR"}), frozenset({"unlink"}), "it sends the name '.' or '..'"),
    Quirk(LINK_REFUSED, LINK_REFUSED, frozenset({"link"}), "of two reasons to refuse each release tells another"),
    Quirk(frozenset({"ENOENT"}), frozenset({"ENOTDIR"}), frozenset({"rename"}), "of two reasons Tentacle's tells one"),
)


def excused(step: Step, ours: Any, theirs: Any) -> bool:
    told = isinstance(ours, str | bool) and isinstance(theirs, str)
    return told and any(theirs in quirk.theirs and ours in quirk.ours and step.op in quirk.ops for quirk in QUIRKS)


async def is_ours_alone(step: Step, look: Theirs, release: str) -> bool:
    """Whether libcephfs would do what no file system should, so that the trees would differ from then on."""
    paths = [arg for arg in step.args if isinstance(arg, str)]
    path = paths[-1] if step.op == "symlink" else paths[0] if paths else ""
    for upward in (p for p in paths if "/.." in p):
        # From below a file with x bits it goes up again.
        if not await look.is_dir(upward[: upward.rindex("/..")]):
            return True
    for slashed in (p for p in paths if p.endswith("/") and step.op != "symlink"):
        # It does not look at slashes at the end at all.
        if not await look.is_dir(slashed.rstrip("/"), AT_SYMLINK_NOFOLLOW) and (step.op, slashed) != ("mkdir", path):
            return True
    match step.op:
        case "chown":  # To those who own it already, which with some caps it does not look at and with others it does.
            found = await look.found(path)
            return found.mode & 0o6000 != 0 and not {found.uid, found.gid}.isdisjoint(step.args[1:3])
        case "truncate":  # It sets the size of directories, too.
            return await look.is_dir(path)
        case "link":  # It follows symlinks, which Linux does not, and refuses those to directories.
            return await look.is_symlink(path)
        case "symlink" if path.endswith("/"):
            return True
        case "rename":
            source = await look.ino(path.rstrip("/"), AT_SYMLINK_NOFOLLOW)
            target = await look.ino(paths[1].rstrip("/"), AT_SYMLINK_NOFOLLOW)
            if not source:
                # Pacific's marks the target as being renamed and never ends that: to look it up waits for ever.
                return release == "pacific"
            if target == source:
                return await look.is_dir(path)  # Renamed to what it is called already: to its readdir it is empty then.
            # Over a directory that the source lies in: the MDS may wait for itself for ever.
            above = [f"{path.rstrip('/').rpartition('/')[0]}{'/..' * up}".strip("/") for up in range(6)]
            return target in [await look.ino(directory) for directory in above] if target else False
    if step.op in ("open", "mkdir", "makedirs", "symlink"):
        names = path.split("/")
        for some in [path] if step.op != "makedirs" else ["/".join(names[:n]) for n in range(1, len(names) + 1)]:
            if await look.is_symlink(some) and not await look.mode(some):
                # At the end of a dangling symlink Pacific's opens nothing (ELOOP), and Tentacle's makes directories
                # and symlinks as if they were files.
                return release == "pacific" if step.op == "open" else release == "tentacle"
    return False


Tree = dict[str, tuple[Any, ...]]
SEEN = ("ino", "mode", "uid", "gid", "nlink", "atime", "mtime", "ctime", "btime")


def seen(found: Any, change_attr: int, target: str) -> tuple[Any, ...]:
    size = 0 if stat.S_ISDIR(found.mode) else found.size
    return (told(found), target, {name: getattr(found, name) for name in SEEN}, size, change_attr)


async def tree_by_us(client: Client, top: str, below: str = "") -> Tree:
    tree = {}
    for name in await client.listdir(top + below):
        path = f"{below}/{name}"
        found = await client.stat(top + path, follow_symlinks=False)
        target = await client.readlink(top + path) if found.is_symlink else ""
        tree[path] = seen(found, found.change_attr, target.replace(top, "{top}"))
        if found.is_dir:
            tree |= await tree_by_us(client, top, path)
    return tree


async def tree_by_them(peer: LibcephfsPeer, top: str, below: str = "") -> Tree:
    tree = {}
    for name in await peer.aio.listdir(top + below):
        path = f"{below}/{name}"
        found: PeerStat = await peer.aio.statx(top + path, flags=AT_SYMLINK_NOFOLLOW)
        target = await peer.aio.readlink(top + path) if stat.S_ISLNK(found.mode) else ""
        tree[path] = seen(found, found.version, target.replace(top, "{top}"))
        if stat.S_ISDIR(found.mode):
            tree |= await tree_by_them(peer, top, path)
    return tree


def alike(tree: Tree) -> Tree:
    """What of it must be the same in both trees."""
    return {path: found[:2] for path, found in tree.items()}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
async def test_a_mixed_history_on_twin_trees_comes_out_the_same_whoever_does_a_step(
    new_cluster: Callable[..., LiveCluster], seed: int
) -> None:
    """Each step is done by one of the two clients in one tree and by the other in its twin."""
    cluster = await asyncio.to_thread(new_cluster, mds=1)
    peer = await asyncio.to_thread(LibcephfsPeer, cluster)
    try:
        async with connect(cluster.conf) as client:
            outcomes = await run_history(cluster, client, peer, seed)
            await agrees_at_rest(cluster, client)
    finally:
        peer.kill()  # Pacific's loses count of a name now and then, and then waits for ever to unmount.
    assert outcomes["done"] > STEPS / 4, outcomes
    assert {"ENOENT", "EEXIST", "ENOTEMPTY", "ENOTDIR", "EISDIR", "EINVAL", "ENAMETOOLONG", "ELOOP"} <= set(outcomes)


async def run_history(cluster: LiveCluster, client: Client, peer: LibcephfsPeer, seed: int) -> Counter[str]:
    """How often each outcome came."""
    tops = "/one", "/two"
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    trees = []
    for top in tops:
        await client.mkdir(top)
        files: dict[int, Callable[..., Awaitable[Any]]] = {}
        trees.append((Ours(top, files, client), Theirs(top, files, peer)))
    for number, step in enumerate(history(seed, STEPS)):
        first = rng.randrange(2)
        actors = [trees[0][first], trees[1][1 - first]]
        if await is_ours_alone(step, trees[0][1], cluster.release.name):
            actors = [trees[0][0], trees[1][0]]
        results = [await actor.do(step) for actor in actors]
        ours, theirs = results if first == 0 else results[::-1]
        assert ours == theirs or excused(step, ours, theirs), f"step {number} of seed {seed}: {step}"
        outcomes[theirs if step.op != "readlink" and isinstance(theirs, str) else "done"] += 1
        if number % LOOK_EVERY == 0:
            await trees_are_alike(cluster, client, tops, f"after step {number} of seed {seed}: {step}")
    for slot in list(trees[0][0].files | trees[1][0].files):
        for tree in trees:
            await tree[0].close(slot)
    await trees_are_alike(cluster, client, tops, "at the end")
    return outcomes


async def trees_are_alike(cluster: LiveCluster, client: Client, tops: tuple[str, str], when: str) -> None:
    """The twins are, and we see what a new libcephfs sees: one that has been there adds to change_attr by itself."""
    alike_in = []
    async with mounted(cluster) as fresh:
        for top in tops:
            ours, theirs = await tree_by_us(client, top), await tree_by_them(fresh, top)
            assert ours == theirs, when
            alike_in.append(alike(ours))
    assert alike_in[0] == alike_in[1], when


BUILT = (
    Step("mkdir", ("dir", 0o755)),
    Step("mkdir", ("dir/below", 0o755)),
    Step("mkdir", ("empty", 0o755)),
    Step("open", ("file", "x", 0o644, 0)),
    Step("open", ("runs", "x", 0o755, 0)),
    Step("symlink", ("dir", "to-dir")),
    Step("symlink", ("file", "to-file")),
    Step("symlink", ("nowhere", "dangling")),
    Step("symlink", ("loop", "loop")),
)


@pytest.fixture
async def ours(conf: Path) -> AsyncIterator[Ours]:
    """Us, in a directory of one of each."""
    async with connect(conf) as client:
        top = f"/built-{client.global_id}"
        await client.mkdir(top)
        ours = Ours(top, {}, client)
        for step in BUILT:
            assert await ours.do(step) is None
        yield ours
        assert client.metrics.late == ()


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        # A slash at the end is for directories; libcephfs looks away.
        (Step("stat", ("file/",)), "ENOTDIR"),
        (Step("stat", ("file/.",)), "ENOTDIR"),
        (Step("stat", ("runs/..",)), "ENOTDIR"),
        (Step("readlink", ("to-dir/",)), "EINVAL"),
        (Step("lstat", ("loop/",)), "ELOOP"),
        (Step("unlink", ("file/",)), "ENOTDIR"),
        (Step("unlink", ("to-dir/",)), "ENOTDIR"),
        (Step("unlink", ("dir/",)), "EISDIR"),
        (Step("rmdir", ("to-dir/",)), "ENOTDIR"),
        (Step("rename", ("file/", "new")), "ENOTDIR"),
        (Step("rename", ("file", "new/")), "ENOTDIR"),
        (Step("rename", ("empty/", "new/")), None),
        (Step("symlink", ("file", "new/")), "ENOENT"),
        (Step("link", ("file", "new/")), "ENOENT"),
        (Step("open", ("new/", "w", 0o644, 0)), "ENOENT"),
        (Step("open", ("file/", "r", 0o644, 0)), "ENOTDIR"),
        (Step("chmod", ("file/", 0o600)), "ENOTDIR"),
        (Step("mkdir", ("new/", 0o755)), None),
        # Sizes are for files; libcephfs gives directories one.
        (Step("truncate", ("dir", 0)), "EISDIR"),
        # A symlink may have two names; libcephfs links what it leads to.
        (Step("link", ("to-dir", "new")), None),
        (Step("link", ("dangling", "new")), None),
        # What a dangling symlink names is made by open only; Pacific's says ELOOP there, with Tentacle's all make it.
        (Step("open", ("dangling", "w", 0o644, 0)), None),
        (Step("open", ("dangling", "x", 0o644, 0)), "EEXIST"),
        (Step("mkdir", ("dangling", 0o755)), "EEXIST"),
        (Step("makedirs", ("dangling", 0o755)), "EEXIST"),
        (Step("makedirs", ("dangling/new", 0o755)), "ENOENT"),
        (Step("symlink", ("x", "dangling")), "EEXIST"),
        # A missing source, from which Pacific's libcephfs does not recover.
        (Step("rename", ("missing", "dir")), "ENOENT"),
        # A directory is renamed to itself, below itself, and over what it lies in; the last stops an MDS.
        (Step("rename", ("dir", "dir")), None),
        (Step("rename", ("dir", "dir/below/new")), "EINVAL"),
        (Step("rename", ("dir/below", "dir")), "ENOTEMPTY"),
        (Step("rename", ("dir", "")), "ENOTEMPTY"),
        (Step("rename", ("file", "")), "EISDIR"),
        # Two names that are none.
        (Step("rmdir", ("dir/.",)), "ENOTEMPTY"),
        (Step("unlink", ("dir/..",)), "EISDIR"),
        (Step("mkdir", ("missing/.", 0o755)), "ENOENT"),
        (Step("open", ("dir/.", "x", 0o644, 0)), "EEXIST"),
        # No file is that big, or of negative size.
        (Step("truncate", ("file", 1 << 50)), "EFBIG"),
        (Step("truncate", ("file", -1)), "EINVAL"),
    ],
)
async def test_where_libcephfs_goes_astray_we_do_what_linux_does(ours: Ours, step: Step, outcome: str | None) -> None:
    before = await tree_by_us(ours.client, ours.top)
    assert await ours.do(step) == outcome
    if outcome is not None:
        assert await tree_by_us(ours.client, ours.top) == before


async def test_a_symlink_with_a_slash_behind_it_is_followed(ours: Ours) -> None:
    client, top = ours.client, ours.top
    assert (await client.stat(f"{top}/to-dir/", follow_symlinks=False)).ino == (await client.stat(f"{top}/dir")).ino
    async with client.open(f"{top}/dangling", "a") as file:
        assert (await client.stat(f"{top}/nowhere")).ino == file.ino


async def test_a_directory_s_times_set_here_do_not_outlive_what_is_made_in_it_later(
    ours: Ours, cluster: LiveCluster
) -> None:
    client, below = ours.client, f"{ours.top}/dir"
    await client.utime(below, (ATIME, MTIME))
    assert (await client.stat(below)).mtime == MTIME
    await client.utime(below, (ATIME, MTIME))  # now surely under a cap, and not sent
    await client.mkdir(f"{below}/new")
    await client.rename(f"{below}/new", f"{below}/newer")
    await client.sync()
    now = (await client.stat(below)).mtime
    assert now > 10**18
    async with mounted(cluster) as peer:
        assert (await peer.aio.statx(below)).mtime == now


@pytest.mark.parametrize("mode", [0o4711, 0o6755, 0o2711, 0o2644, 0o4644])
@pytest.mark.parametrize("shared", [False, True])
async def test_a_file_that_changes_hands_loses_its_set_id_bits_as_libcephfs_has_it(
    ours: Ours, cluster: LiveCluster, mode: int, shared: bool
) -> None:
    top = ours.top
    async with mounted(cluster) as peer, mounted(cluster) as other:
        theirs = Theirs(top, {}, peer)
        modes = []
        for number, who in enumerate((ours, theirs)):
            for uid, gid in ((5, -1), (-1, 5), (5, 5)):
                path = f"owned-{number}-{uid}-{gid}"
                assert await who.do(Step("open", (path, "x", mode, 0))) is None
                if shared:
                    await other.aio.statx(f"{top}/{path}")
                assert await who.do(Step("chown", (path, uid, gid, True))) is None
                modes.append((await other.aio.statx(f"{top}/{path}")).mode & 0o7777)
        assert modes[:3] == modes[3:]
        assert set(modes) == {mode & 0o777 if mode & 0o111 else mode}
        await ours.client.chmod(f"{top}/owned-0-5-5", mode)
        if shared:
            await other.aio.statx(f"{top}/owned-0-5-5")
        await ours.client.chown(f"{top}/owned-0-5-5", 5, 5)  # its owner already: all the same, as in Linux
        assert (await other.aio.statx(f"{top}/owned-0-5-5")).mode & 0o7777 == modes[0]


async def test_a_file_open_to_read_is_not_cut(ours: Ours) -> None:
    async with ours.client.open(f"{ours.top}/file") as file:
        with pytest.raises(OSError) as caught:
            await file.setattr(size=1)
    assert caught.value.errno == errno.EBADF


async def test_what_fits_no_request_is_refused_and_leaves_none_behind(ours: Ours) -> None:
    client, path = ours.client, f"{ours.top}/file"
    for attributes in ({"mtime": -1}, {"atime": 2**32 * 10**9}, {"uid": 2**32}, {"gid": -2}):
        with pytest.raises(ValueError):
            await client.setattr(path, **attributes)
    with pytest.raises(ValueError):
        await client.symlink("\ud800", f"{ours.top}/new")
    await client.sync()
    assert client.metrics.requests == 0
    assert (await client.stat(path)).uid == 0
