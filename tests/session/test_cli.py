"""The ``cephcaps`` command without a cluster: its words, what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import click
import pytest

import cephcaps
from cephcaps import Caps, DirEntry, MdsError, Stat
from cephcaps.cli import main
from cephcaps.cli.app import COMMANDS
from cephcaps.cli.output import escaped, iso_time, name_facts, shown_name
from cephcaps.cli.running import run

KEY = "AQBabcdefghijklmnopqrstuvwxyz0123456789AA=="
NETWORK = ("asyncio", "socket", "anyio", "structlog", "cephcaps.client", "cephcaps.core", "cephcaps.shell", "rich")
S_IFREG, S_IFDIR, S_IFLNK = 0o100000, 0o040000, 0o120000


@pytest.fixture(autouse=True)
def no_ceph_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING", "CEPHCAPS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")


def inode(mode: int, **values: Any) -> Stat:
    zeros: dict[str, Any] = dict.fromkeys(Stat.__struct_fields__, 0)
    zeros |= {"nlink": 1, "caps": Caps("pAsLsXsFs")}
    return Stat(**zeros | {"mode": mode} | values)


class FakeClient:
    """Stands for a client of a small file system, and keeps what `connect` was asked."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.closed = False
        self.sessions = {0: SimpleNamespace(rank=0, name="a")}
        self.inodes: dict[str, Stat] = {}
        self.errors: dict[str, int] = {}
        self.targets: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closed = True

    async def stat(self, path: str, *, follow_symlinks: bool) -> Stat:
        if path not in self.inodes:
            raise MdsError(self.errors.get(path, errno.ENOENT), None, path)
        return self.inodes[self.targets.get(path, path) if follow_symlinks else path]

    async def readlink(self, path: str) -> str:
        return self.targets[path]

    async def listdir(self, path: str) -> list[str]:
        return [entry.name async for entry in self.scandir(path)]

    async def scandir(self, path: str) -> AsyncIterator[DirEntry]:
        found = await self.stat(path, follow_symlinks=True)
        if not found.is_dir:
            raise MdsError(errno.ENOTDIR, None, path)
        top = path.rstrip("/") + "/"
        for below, entry in self.inodes.items():
            if below.startswith(top) and "/" not in below[len(top) :] and below != path:
                yield DirEntry(below[len(top) :], entry.ino, entry)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """What the next command will talk to; ``given`` is what it asked `connect` for."""
    fake = FakeClient()

    def connect(**given: Any) -> FakeClient:
        fake.given = given
        return fake

    monkeypatch.setattr("cephcaps.client.connect", connect)
    fake.inodes["/"] = inode(S_IFDIR | 0o755, ino=1)
    return fake


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, where stdout is empty."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cephcaps: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert KEY not in err
    return err


def command(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cephcaps.cli", *words], stderr=subprocess.PIPE, text=True, timeout=60, **how
    )


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


# explain


@pytest.mark.parametrize("words", ["pAsLsFsc", "0x515", "1301", "0X515"])
def test_explain_takes_caps_in_any_spelling(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pAsLsFsc = 0x515 = 1301\n")
    assert [line.split()[0] for line in out.splitlines()[1:] if "0x0" in line] == ["p", "As", "Ls", "Fs", "Fc"]
    assert "on a directory: create files here" in out


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-f", "json", "Fx"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    facts = json.loads(out)
    assert (facts["caps"], facts["bits"], facts["hex"]) == ("Fx", 512, "0x200")
    (allowed,) = facts["allows"]
    assert (allowed["caps"], allowed["bits"], allowed["name"]) == ("Fx", 512, "file_excl")
    assert allowed["meaning"] != allowed["on_directory"]

    assert main(["explain", "-f", "json-pretty", "Fx"]) == 0
    pretty = capsys.readouterr().out
    assert json.loads(pretty) == facts
    assert pretty.count("\n") > 5


def test_explain_of_no_caps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-"]) == 0
    assert capsys.readouterr().out.splitlines() == ["- = 0x0 = 0", "  nothing, not even to refer to the inode"]
    assert main(["explain", "-", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"caps": "-", "bits": 0, "hex": "0x0", "allows": []}


@pytest.mark.parametrize("words", ["rw", "0x2", "pAsAs", "99999999", "", "pA\ns"])
def test_explain_refuses_what_are_no_caps(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", words]) == errno.EINVAL
    assert "see `cephcaps explain --help`" in told(capsys)


@pytest.mark.parametrize("words", [["explain", "pAsLsXs"], ["explain", "-f", "json", "Fs"], ["--help"], ["ls", "-h"]])
def test_what_needs_no_cluster_loads_no_network_code(words: list[str]) -> None:
    program = f"import sys; from cephcaps.cli import main; main({words!r}); print(*sys.modules)"
    loaded = python(program).splitlines()[-1].split()
    assert "cephcaps.cli.app" in loaded
    assert not set(NETWORK) & set(loaded)


# The package


def test_the_package_loads_nothing_until_asked() -> None:
    assert python("import sys, cephcaps; print(*[m for m in sys.modules if m.startswith('ceph')])") == "cephcaps"
    loaded = python("import sys, cephcaps; cephcaps.Caps('Fs'); print(*sys.modules)").split()
    assert not set(NETWORK) & set(loaded)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(cephcaps, name) for name in cephcaps.__all__)
    assert set(cephcaps.__all__) <= set(dir(cephcaps))
    assert (
        python("from cephcaps import *; print(connect.__module__, Stat.__module__)") == "cephcaps.client cephcaps.stat"
    )
    assert python("import cephcaps; print(cephcaps.errors.MdsError is cephcaps.MdsError)") == "True"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cephcaps.nothing  # noqa: B018


# Options

SPELLINGS = [
    (["-c", "x.conf"], {"conf": "x.conf"}),
    (["--conf=x.conf"], {"conf": "x.conf"}),
    (["--cluster", "c"], {"cluster": "c"}),
    (["--id", "me"], {"name": "client.me"}),
    (["--user", "me"], {"name": "client.me"}),
    (["-n", "mds.a"], {"name": "mds.a"}),
    (["--name", "mds.a", "--id", "me"], {"name": "client.me"}),
    (["--id", "me", "--name", "mds.a"], {"name": "mds.a"}),
    (["-k", "a", "--keyring", "b"], {"keyring": "b"}),
    (["-m", "h1,h2"], {"mon_host": "h1,h2"}),
    (["--mon-host", "h"], {"mon_host": "h"}),
    (["--mon_host=h"], {"mon_host": "h"}),
    (["--fs", "f"], {"fs": "f"}),
    (["--ms-mode", "crc"], {"ms_mode": "crc"}),
    (["--ms_mode", "crc"], {"ms_mode": "crc"}),
    (["--connect-timeout", "2.5"], {"timeout": 2.5}),
    (["--connect_timeout=2", "--timeout", "1e1"], {"timeout": 2.0, "request_timeout": 10.0}),
    (["--client-mountpoint", "/a"], {"options": {"client_mountpoint": "/a"}}),
    (["--client_mountpoint=/a", "--fsid", "f"], {"options": {"client_mountpoint": "/a", "fsid": "f"}}),
    (["--client-fs", "f", "--fs", "g"], {"options": {"client_fs": "f"}, "fs": "g"}),
    (["--key", KEY], {"options": {"key": KEY}}),
    (["--keyfile", "k"], {"options": {"keyfile": "k"}}),
]


@pytest.mark.parametrize(("words", "given"), SPELLINGS, ids=lambda value: " ".join(value))
@pytest.mark.parametrize("place", ["before", "after", "CEPH_ARGS"])
def test_options_stand_anywhere_and_are_spelled_either_way(
    words: list[str], given: dict[str, Any], place: str, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "CEPH_ARGS":
        monkeypatch.setenv("CEPH_ARGS", " ".join(words))
        line = ["stat", "/"]
    else:
        line = [*words, "stat", "/"] if place == "before" else ["stat", "/", *words]
    assert main(line) == 0
    assert client.given == given


def test_what_stands_later_beats_what_stands_earlier(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEPH_ARGS", "--id env --fs env -k env -- /")
    assert main(["--id", "before", "--fs", "before", "stat", "--id", "after"]) == 0
    assert client.given == {"name": "client.after", "fs": "before", "keyring": "env"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["stat"],
        ["stat", "relative"],
        ["ls", "/a", "/b"],
        ["stat", "/", "--log_file", "x"],
        ["stat", "/", "--fs"],
        ["stat", "/", "--timeout", "0"],
        ["stat", "/", "--timeout", "nan"],
        ["stat", "/", "--connect-timeout", "-1"],
        ["stat", "/", "--connect-timeout", "soon"],
        ["stat", "/", "-f", "xml"],
        ["status", "extra"],
        ["stat", "/", "--key", KEY, "--nonsense", KEY],
        ["status", KEY],
    ],
    ids=" ".join,
)
def test_bad_usage_is_told_in_a_line(words: list[str], client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == errno.EINVAL
    assert "--help`" in told(capsys)
    assert client.given == {}


def test_bad_words_in_ceph_args_are_told_to_come_from_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CEPH_ARGS", f"--key {KEY} --log_file /x")
    assert main(["stat", "/"]) == errno.EINVAL
    assert "(CEPH_ARGS is --key (a key) --log_file /x)" in told(capsys)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cephcaps {importlib.metadata.version('cephcaps')}\n"


def test_verbose_logs_to_stderr(client: FakeClient) -> None:
    log = "import logging; logging.getLogger('cephcaps').%s('session.opened')"
    for words, level, heard in (([], "warning", False), (["-v"], "info", True), (["-v"], "debug", False)):
        program = (
            "import sys, cephcaps.client\n"
            "from cephcaps.cli.options import Settings\n"
            f"settings = Settings(); settings.take('verbose', {len(words)}); settings.connect(); {log % level}"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert ("session.opened" in done.stderr) is heard
        assert done.stdout == ""


# stat and ls


def test_stat_looks_like_the_one_of_coreutils(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.inodes["/f"] = inode(
        S_IFREG | 0o2640, ino=0x10000000000, size=4242, uid=4294967295, gid=0, mtime=1_500_000_000_000_000_001,
        change_attr=7, atime=-1,
    )  # fmt: skip
    assert main(["stat", "/f"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  File: /f"
    assert lines[1].split() == ["Size:", "4242", "Type:", "file"]
    assert lines[2].split() == ["Inode:", "1099511627776", "(0x10000000000)", "Links:", "1"]
    assert lines[3] == "Access: (2640/-rw-r-S---)  Uid: 4294967295 (4294967295)  Gid: 0 (root)"
    assert lines[4] == "Access: 1969-12-31T23:59:59.999999999+00:00"
    assert lines[5] == "Modify: 2017-07-14T02:40:00.000000001+00:00"
    assert lines[-2:] == ["Change attribute: 7", "  Caps: pAsLsXsFs"]
    assert client.closed


def test_stat_shows_a_symlink_unless_told_to_follow(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.inodes |= {"/link": inode(S_IFLNK | 0o777, ino=2), "/f": inode(S_IFREG | 0o600, ino=3)}
    client.targets["/link"] = "/f"
    assert main(["stat", "-f", "json", "/link"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ino"], shown["type"], shown["target"]) == (2, "symlink", "/f")
    assert main(["stat", "-f", "json", "-L", "/link"]) == 0
    followed = json.loads(capsys.readouterr().out)
    assert (followed["path"], followed["ino"], followed["type"]) == ("/link", 3, "file")
    assert "target" not in followed
    assert main(["stat", "/link"]) == 0
    assert capsys.readouterr().out.startswith("  File: /link -> /f\n")


def test_stat_as_json_is_an_object_for_one_path_and_a_list_for_several(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.inodes["/d"] = inode(S_IFDIR | 0o1755, ino=5, mtime=1_500_000_000_123_456_789)
    assert main(["stat", "/d", "-f", "json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert set(one) == {"path", "type", *Stat.__struct_fields__}
    assert (one["path"], one["mode"], one["type"], one["caps"]) == ("/d", "1755", "directory", "pAsLsXsFs")
    assert one["mtime"] == "2017-07-14T02:40:00.123456789Z"
    assert main(["stat", "/d", "/d", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [one, one]


def test_a_path_that_fails_does_not_keep_the_others_from_being_shown(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.errors |= {"/shut": errno.EACCES, "/no\ndir": errno.ENOTDIR}
    assert main(["stat", "/shut", "/", "/gone", "/no\ndir", "-f", "json"]) == errno.EACCES
    out, err = capsys.readouterr()
    assert [facts["path"] for facts in json.loads(out)] == ["/"]
    assert err.splitlines() == [
        "cephcaps: /shut: Permission denied, says mds.0 (a); `ceph auth get` shows what the key's MDS caps cover",
        "cephcaps: /gone: No such file or directory, says mds.0 (a); see what there is with `cephcaps ls`",
        "cephcaps: /no\\ndir: Not a directory, says mds.0 (a); a part of it is no directory",
    ]


def test_stat_of_one_path_that_fails_prints_no_json(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stat", "/gone", "-f", "json"]) == errno.ENOENT
    assert "/gone: No such file or directory" in told(capsys)


@pytest.fixture
def names(client: FakeClient) -> None:
    client.inodes |= {
        "/d": inode(S_IFDIR | 0o700, ino=2, nlink=2),
        "/d/b": inode(S_IFREG | 0o644, ino=3, size=12345, mtime=10**18),
        "/d/é": inode(S_IFREG, ino=4),
        "/d/.hidden": inode(S_IFDIR | 0o755, ino=5, nlink=10),
        "/d/\udcff\n\\": inode(S_IFREG, ino=6),
        "/d/link": inode(S_IFLNK | 0o777, ino=7),
    }
    client.targets["/d/link"] = "b"


@pytest.mark.usefixtures("names")
def test_ls_lists_names_as_the_bytes_they_are(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["ls", "/d"]) == 0
    assert capsysbinary.readouterr().out == b".hidden\nb\nlink\n" + "é\n".encode() + b"\xff\n\\\n"


@pytest.mark.usefixtures("names")
def test_ls_long(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["ls", "-l", "/d"]) == 0
    lines = capsysbinary.readouterr().out.splitlines()
    assert lines[0].startswith(b"drwxr-xr-x 10 root root ")
    assert lines[1] == b"-rw-r--r--  1 root root 12345 2001-09-09T01:46:40.000000000+00:00 b"
    assert lines[2].endswith(b" link -> b")
    assert lines[4].endswith(b"+00:00 \xff")


@pytest.mark.usefixtures("names")
def test_ls_as_json_gives_odd_names_in_hex_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "-f", "json", "/d"]) == 0
    entries = {entry["ino"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == [5, 3, 7, 4, 6]
    assert set(entries[3]) == {"name", "type", *Stat.__struct_fields__}
    assert (entries[4]["name"], entries[6]["name"]) == ("é", "\\xff\n\\")
    assert bytes.fromhex(entries[6]["name_hex"]) == b"\xff\n\\"
    assert "name_hex" not in entries[4]
    assert (entries[7]["type"], entries[7]["target"]) == ("symlink", "b")


@pytest.mark.usefixtures("names")
def test_ls_of_a_file_lists_the_file(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "/d/b"]) == 0
    assert capsys.readouterr().out == "/d/b\n"
    assert main(["ls", "-l", "/d/b"]) == 0
    assert capsys.readouterr().out.endswith(" 12345 2001-09-09T01:46:40.000000000+00:00 /d/b\n")


def test_ls_without_a_path_lists_the_root(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.inodes["/one"] = inode(S_IFREG)
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == "one\n"


def test_ls_of_nothing_fails(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["ls"], ["ls", "-l"], ["ls", "-f", "json"]):
        assert main([*words, "/gone"]) == errno.ENOENT
        assert "/gone: No such file or directory, says mds.0 (a)" in told(capsys)


# Names and times


def test_a_name_is_harmless_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a\x1b[2J\n\udcff\\x é"
    assert shown_name(name) == name
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert shown_name(name) == r"a\x1b[2J\n\xff\\x é"
    assert escaped("\u202e\x00") == r"\u202e\x00"


def test_a_name_in_json_tells_its_bytes() -> None:
    assert name_facts("name", "\\xff") == {"name": "\\xff"}
    assert name_facts("name", "\udcff") == {"name": "\\xff", "name_hex": "ff"}
    json.dumps(name_facts("name", "\udced\udca0\udc80"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_795_358_888_071_907_472, "2026-11-22T14:48:08.071907472Z"),
        (-(2**31) * 10**9, "1901-12-13T20:45:52.000000000Z"),
        (-62_135_596_800 * 10**9, "0001-01-01T00:00:00.000000000Z"),
        (2**63 * 10**9 + 5, "@9223372036854775808.000000005"),
    ],
)
def test_times_keep_their_nanoseconds(ns: int, text: str) -> None:
    assert iso_time(ns) == text
    assert iso_time(ns, local=True).startswith(text[:10])


# Endings

ERRORS: list[tuple[Exception, int]] = [
    (MdsError(errno.ENOENT, "the cluster has no file system named 'x'"), errno.ENOENT),
    (MdsError(errno.EACCES, None, "/sec"), errno.EACCES),
    (MdsError(errno.ESHUTDOWN, None, "/sec"), errno.ESHUTDOWN),
    (MdsError(256, None, "/sec"), errno.EIO),
    (cephcaps.AuthError("no"), errno.EACCES),
    (cephcaps.ConfigError("no"), errno.EINVAL),
    (cephcaps.ConnectionFailed("no"), 1),
    (cephcaps.SessionLost("no", reason="evicted"), errno.ENOTCONN),
    (cephcaps.RequestTimeout("no"), errno.ETIMEDOUT),
    (cephcaps.MalformedMessage("no"), errno.EPROTO),
    (cephcaps.ProtocolViolation("no"), errno.EPROTO),
    (cephcaps.CephError("no"), errno.EIO),
    (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
    (KeyError("a bug"), 255),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: str(value))
def test_an_error_is_one_line_and_an_errno(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connect(**given: Any) -> None:
        raise error

    monkeypatch.setattr("cephcaps.client.connect", connect)
    assert main(["stat", "/"]) == code
    assert told(capsys)


def test_no_error_shows_a_key_or_a_second_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connect(**given: Any) -> None:
        raise cephcaps.ConfigError(f"bad:\n  {KEY}\x1b[2J")

    monkeypatch.setattr("cephcaps.client.connect", connect)
    assert main(["stat", "/"]) == errno.EINVAL
    assert told(capsys) == "cephcaps: bad: (a key)\\x1b[2J\n"


def test_cephcaps_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.conf")
    done = command("-c", missing, "status", env=os.environ | {"CEPHCAPS_DEBUG": "1"})
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("cephcaps: no ceph.conf could be read")
    assert "Traceback" not in command("-c", missing, "status").stderr


def test_a_pipe_nobody_reads_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = command("explain", "0x1ffd", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_full_disk_is_an_error_like_any_other() -> None:
    with open("/dev/full", "wb") as full:
        done = command("explain", "p", stdout=full)
    assert done.returncode == errno.ENOSPC
    assert done.stderr == "cephcaps: stdout: No space left on device\n"


def test_a_closed_stdout_is_told() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m cephcaps.cli explain p >&-', sys.executable], stderr=subprocess.PIPE, timeout=60
    )
    assert (done.returncode, done.stderr) == (errno.EBADF, b"cephcaps: stdout: Bad file descriptor\n")


def test_ctrl_c_ends_a_write_that_nobody_takes() -> None:
    program = "from cephcaps.cli.output import emit; print('now', file=__import__('sys').stderr); emit('x' * 10**6)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stderr.readline()
        os.read(child.stdout.fileno(), 1)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) != 0
        assert b"Exit" in child.stderr.read()  # raised, where the command would turn it into its code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_client_close_first(number: signal.Signals) -> None:
    steps: list[str] = []

    async def wait(what: str) -> None:
        try:
            steps.append(what)
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            steps.append("closed")

    before = signal.getsignal(number)
    with pytest.raises(click.exceptions.Exit) as ended:
        run(wait, "entered")
    assert ended.value.exit_code == 128 + number
    assert steps == ["entered", "closed"]
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_stays_ignored() -> None:
    async def outlive() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        return "alive"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(outlive) == "alive"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_cuts_the_closing_short() -> None:
    async def stubborn() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

    with pytest.raises(click.exceptions.Exit):
        run(stubborn)


def test_every_command_shows_an_example_of_itself() -> None:
    assert len(COMMANDS) >= 15
    for command in COMMANDS.values():
        assert f"\n  cephcaps {command.name}" in inspect.cleandoc(command.help or ""), command.name


@pytest.mark.parametrize(
    ("words", "found"),
    [("cephcaps do", "doctor"), ("cephcaps decode --ty", "--type"), ("cephcaps hold --mo", "--mode")],
)
def test_a_shell_completes_commands_and_options(words: str, found: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "cephcaps.cli"],
        env={
            **os.environ,
            "_CEPHCAPS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert said.stdout.splitlines() == [f"plain,{found}"]
