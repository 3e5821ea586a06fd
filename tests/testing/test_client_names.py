"""Names: what the client's calls make, move, list and take away, as a second client sees it."""

from __future__ import annotations

import asyncio
import errno
import stat

import pytest

from cephcaps import Client, MdsError
from cephcaps.testing import TestCluster


async def test_directories_come_and_go(client: Client, other: Client) -> None:
    await client.mkdir("/a", 0o750)
    assert (await other.stat("/a")).mode == stat.S_IFDIR | 0o750
    await client.makedirs("/a/b/c")
    await client.makedirs("/a/b/c", exist_ok=True)
    with pytest.raises(FileExistsError):
        await client.makedirs("/a/b/c")
    assert await other.listdir("/a/b") == ["c"]
    assert (await other.stat("/a")).nlink == 3
    with pytest.raises(OSError) as full:
        await other.rmdir("/a")
    assert full.value.errno == errno.ENOTEMPTY
    for path in ("/a/b/c", "/a/b", "/a"):
        await other.rmdir(path)
        assert not await client.exists(path)
    assert await client.listdir("/") == []


async def test_a_file_has_as_many_names_as_it_is_given(client: Client, other: Client) -> None:
    async with client.open("/f", "x"):
        pass
    await client.link("/f", "/g")
    await other.link("/g", "/h")
    seen = [await each.stat(path) for each in (client, other) for path in ("/f", "/g", "/h")]
    assert {(each.ino, each.nlink) for each in seen} == {(seen[0].ino, 3)}
    await other.unlink("/f")
    assert not await client.exists("/f")
    assert (await client.stat("/h")).nlink == 2
    await client.mkdir("/d")
    with pytest.raises(PermissionError):
        await client.link("/d", "/e")


async def test_a_symlink_says_what_it_was_told_and_is_followed(client: Client, other: Client) -> None:
    await client.makedirs("/d/e")
    await client.symlink("d/e", "/l")
    assert await other.readlink("/l") == "d/e"
    assert (await other.stat("/l")).ino == (await client.stat("/d/e")).ino
    shown = await other.stat("/l", follow_symlinks=False)
    assert shown.is_symlink
    assert shown.size == len("d/e")
    await client.symlink("nowhere", "/lost")
    assert not await other.exists("/lost")
    await client.symlink("/loop", "/loop")
    with pytest.raises(OSError) as looped:
        await other.stat("/loop")
    assert looped.value.errno == errno.ELOOP
    with pytest.raises(OSError) as refused:
        await other.readlink("/d")
    assert refused.value.errno == errno.EINVAL


async def test_a_name_moves_and_replaces(client: Client, other: Client) -> None:
    await client.makedirs("/from/below")
    await client.mkdir("/to")
    async with client.open("/from/f", "x") as file:
        ino = file.ino
    async with other.open("/to/g", "x"):
        pass
    await client.rename("/from/f", "/to/g")
    assert (await other.stat("/to/g")).ino == ino
    assert await other.listdir("/from") == ["below"]
    await other.rename("/from/below", "/to/below")
    assert sorted(await client.listdir("/to")) == ["below", "g"]
    with pytest.raises(FileNotFoundError):
        await client.rename("/from/f", "/x")
    with pytest.raises(IsADirectoryError):
        await client.rename("/to/g", "/to/below")
    with pytest.raises(NotADirectoryError):
        await client.rename("/to/below", "/to/g")
    with pytest.raises(OSError) as within:
        await client.rename("/to", "/to/below/to")
    assert within.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("call", "arguments", "number"),
    [
        ("stat", ["/none"], errno.ENOENT),
        ("stat", ["/file/below"], errno.ENOTDIR),
        ("listdir", ["/file"], errno.ENOTDIR),
        ("mkdir", ["/dir"], errno.EEXIST),
        ("mkdir", ["/none/dir"], errno.ENOENT),
        ("rmdir", ["/file"], errno.ENOTDIR),
        ("rmdir", ["/none"], errno.ENOENT),
        ("rmdir", ["/"], errno.ENOTEMPTY),
        ("unlink", ["/dir"], errno.EISDIR),
        ("unlink", ["/none"], errno.ENOENT),
        ("link", ["/file", "/dir"], errno.EEXIST),
        ("symlink", ["x", "/file"], errno.EEXIST),
        ("mkdir", ["/" + "n" * 256], errno.ENAMETOOLONG),
        ("truncate", ["/dir", 0], errno.EISDIR),
        ("truncate", ["/file", 1 << 60], errno.EFBIG),
        ("getxattr", ["/file", "user.none"], errno.ENODATA),
        ("lssnap", ["/file"], errno.ENOTDIR),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_is_refused(client: Client, call: str, arguments: list[object], number: int) -> None:
    await client.mkdir("/dir")
    async with client.open("/file", "x"):
        pass
    with pytest.raises(OSError) as refused:
        await getattr(client, call)(*arguments)
    assert refused.value.errno == number
    assert isinstance(refused.value, MdsError)


async def test_a_listing_shows_each_entry_with_its_stat(client: Client, other: Client) -> None:
    for number in range(5):
        async with client.open(f"/f{number}", "x", mode=0o600 + number):
            pass
    seen = {entry.name: entry async for entry in other.scandir("/")}
    assert sorted(seen) == [f"f{number}" for number in range(5)]
    assert [stat.S_IMODE(seen[f"f{number}"].stat.mode) for number in range(5)] == [0o600 + n for n in range(5)]
    assert {entry.ino for entry in seen.values()} == {(await client.stat(f"/f{n}")).ino for n in range(5)}


async def test_big_directories_come_in_parts(client: Client, other: Client) -> None:
    await client.mkdir("/big")
    await asyncio.gather(*(client.mkdir(f"/big/{number}", timeout=120) for number in range(1500)))
    assert sorted(await other.listdir("/big")) == sorted(map(str, range(1500)))


async def test_names_of_any_bytes_are_kept(client: Client, other: Client) -> None:
    names = ["with space", "ünïcode", "new\nline", "-dash", "\udcff\udcfe", "a" * 255]
    for name in names:
        await client.mkdir(f"/{name}")
    assert sorted(await other.listdir("/")) == sorted(names)
    for name in names:
        await other.rmdir(f"/{name}")
    assert await client.listdir("/") == []


async def test_what_is_known_costs_no_message(cluster: TestCluster, client: Client) -> None:
    await client.makedirs("/d/e")
    async with client.open("/d/f", "x"):
        await client.listdir("/d")
        await client.sync()
        said: list[object] = []
        cluster.mds[0].observer = lambda sent, remote, message: said.append(message)
        for _ in range(10):
            await client.stat("/d/f")
            await client.chmod("/d/f", 0o600)
            assert await client.listdir("/d") == ["e", "f"]
            assert not await client.exists("/d/g")
        assert said == []
