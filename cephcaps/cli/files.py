"""``cephcaps stat`` and ``cephcaps ls``: what a client sees of files.

Results are printed once the client is closed: writing to a pipe that nobody reads stops this process, and a client that
has stopped with a session open keeps others waiting for the caps it holds.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat as st
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.options import CephCommand, Settings, absolute_path, global_options
from cephcaps.cli.output import as_bytes, emit, emit_json, iso_time, name_facts, shown_name
from cephcaps.cli.running import run
from cephcaps.errors import CephError

if TYPE_CHECKING:
    from cephcaps.client import Client
    from cephcaps.stat import Stat

__all__ = ["ls", "stat"]

T = TypeVar("T")

TYPES = {
    st.S_IFREG: "file",
    st.S_IFDIR: "directory",
    st.S_IFLNK: "symlink",
    st.S_IFIFO: "fifo",
    st.S_IFSOCK: "socket",
    st.S_IFCHR: "character device",
    st.S_IFBLK: "block device",
}


class Found(NamedTuple):
    """A path or a name in a directory, and what it leads to."""

    name: str
    stat: Stat
    target: str | None
    """What it says, if it is a symlink."""


@click.command(cls=CephCommand)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=absolute_path)
@click.option("-L", "--dereference", is_flag=True, help="Follow a symlink instead of showing it.")
@global_options()
@click.pass_obj
def stat(settings: Settings, paths: tuple[str, ...], dereference: bool) -> int:
    """Show attributes, and the caps the MDS gave.

    What another client has changed and not yet told is asked for. A PATH that fails does not keep the others from being
    shown; the exit code is that of the first that did.

    JSON is one object for one PATH and a list of objects for several, with times in UTC. A path that is not UTF-8 has
    its odd bytes as \\xff there, and is repeated in hex as path_hex.

    \b
      cephcaps stat /some/file /other
      cephcaps stat -L -f json /some/link
    """

    async def ask(client: Client, path: str) -> Found:
        return await _found(client, path, path, await client.stat(path, follow_symlinks=dereference))

    found, code = run(_each, settings, paths, ask)
    if settings.format == "plain":
        emit("".join(_block(one) for one in found))
    elif len(paths) > 1:
        emit_json([_facts("path", one) for one in found], pretty=settings.pretty)
    elif found:
        emit_json(_facts("path", found[0]), pretty=settings.pretty)
    return code


@click.command(cls=CephCommand)
@click.argument("path", metavar="[PATH]", default="/", type=absolute_path)
@click.option("-l", "long", is_flag=True, help="Show mode, links, owner, size and modification time as well.")
@global_options()
@click.pass_obj
def ls(settings: Settings, path: str, long: bool) -> int:
    """List a directory, / if not given.

    Names are sorted by their bytes; dot files are listed too. Attributes are those the MDS knew when it was asked: for
    what another client has changed and not yet told, use stat.

    JSON is a list of objects. A name that is not UTF-8 has its odd bytes as \\xff there, and is repeated in hex as
    name_hex.

    \b
      cephcaps ls -l /some/directory
    """
    if settings.format == "plain" and not long:
        names, code = run(_each, settings, [path], _names)
        emit("".join(f"{shown_name(name)}\n" for listed in names for name in listed))
        return code
    entries, code = run(_each, settings, [path], _entries)
    for listed in entries:
        if settings.format == "plain":
            emit(_long(listed))
        else:
            emit_json([_facts("name", entry) for entry in listed], pretty=settings.pretty)
    return code


# Asking


async def _each(
    settings: Settings, paths: Iterable[str], ask: Callable[[Client, str], Awaitable[T]]
) -> tuple[list[T], int]:
    """The answers for those ``paths`` that have one, and the exit code of the first that has none."""
    found: list[T] = []
    first = 0
    async with settings.connect() as client:
        for path in paths:
            try:
                found.append(await ask(client, path))
            except CephError as error:
                by = " or ".join(f"mds.{session.rank} ({session.name})" for session in client.sessions.values())
                complain(error, by or "the MDS")
                first = first or exit_code(error)
    return found, first


async def _found(client: Client, name: str, path: str, inode: Stat) -> Found:
    target = None
    if inode.is_symlink:
        with suppress(FileNotFoundError):  # gone meanwhile
            target = await client.readlink(path)
    return Found(name, inode, target)


async def _names(client: Client, path: str) -> list[str]:
    """The names in ``path``, or itself where it is no directory."""
    try:
        return sorted(await client.listdir(path), key=as_bytes)
    except NotADirectoryError:
        await client.stat(path, follow_symlinks=False)  # fails too where it is the path that is wrong
        return [path]


async def _entries(client: Client, path: str) -> list[Found]:
    """The same, with attributes."""
    try:
        entries = [entry async for entry in client.scandir(path)]
    except NotADirectoryError:
        return [await _found(client, path, path, await client.stat(path, follow_symlinks=False))]
    entries.sort(key=lambda entry: as_bytes(entry.name))
    return [await _found(client, entry.name, f"{path.rstrip('/')}/{entry.name}", entry.stat) for entry in entries]


# Showing


def _facts(key: str, found: Found) -> dict[str, Any]:
    inode = found.stat
    target = {} if found.target is None else name_facts("target", found.target)
    return {
        **name_facts(key, found.name),
        "ino": inode.ino,
        "type": _type(inode),
        "mode": f"{st.S_IMODE(inode.mode):04o}",
        **target,
        "uid": inode.uid,
        "gid": inode.gid,
        "nlink": inode.nlink,
        "size": inode.size,
        "rdev": inode.rdev,
        "atime": iso_time(inode.atime),
        "mtime": iso_time(inode.mtime),
        "ctime": iso_time(inode.ctime),
        "btime": iso_time(inode.btime),
        "change_attr": inode.change_attr,
        "xattr_version": inode.xattr_version,
        "truncate_seq": inode.truncate_seq,
        "caps": str(inode.caps),
    }


def _block(found: Found) -> str:
    inode = found.stat
    return f"""\
  File: {_with_target(found)}
  Size: {inode.size:<15} Type: {_type(inode)}
 Inode: {inode.ino:<15} ({inode.ino:#x})  Links: {inode.nlink}{_device(inode)}
Access: ({st.S_IMODE(inode.mode):04o}/{st.filemode(inode.mode)})  Uid: {inode.uid} ({_user(inode.uid)})  \
Gid: {inode.gid} ({_group(inode.gid)})
Access: {iso_time(inode.atime, local=True)}
Modify: {iso_time(inode.mtime, local=True)}
Change: {iso_time(inode.ctime, local=True)}
 Birth: {iso_time(inode.btime, local=True)}
Change attribute: {inode.change_attr}
  Caps: {inode.caps}
"""


def _device(inode: Stat) -> str:
    if not (st.S_ISCHR(inode.mode) or st.S_ISBLK(inode.mode)):
        return ""
    return f"  Device: {os.major(inode.rdev)},{os.minor(inode.rdev)}"


def _long(listed: list[Found]) -> str:
    rows = [
        (
            st.filemode(inode.mode),
            str(inode.nlink),
            _user(inode.uid),
            _group(inode.gid),
            str(inode.size),
            iso_time(inode.mtime, local=True),
        )
        for _, inode, _ in listed
    ]
    links, users, groups, sizes = (max((len(row[at]) for row in rows), default=0) for at in (1, 2, 3, 4))
    return "".join(
        f"{mode} {nlink:>{links}} {user:<{users}} {group:<{groups}} {size:>{sizes}} {mtime} {_with_target(found)}\n"
        for (mode, nlink, user, group, size, mtime), found in zip(rows, listed, strict=True)
    )


def _with_target(found: Found) -> str:
    name = shown_name(found.name)
    return name if found.target is None else f"{name} -> {shown_name(found.target)}"


def _type(inode: Stat) -> str:
    return TYPES.get(st.S_IFMT(inode.mode), "unknown")


@cache
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


@cache
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)
