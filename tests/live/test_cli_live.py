"""The ``cephcaps`` command on a real cluster: what it shows, what each thing that goes wrong looks like, and Ctrl-C."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import wait_until

PATIENCE = 1.0
"""Seconds given to the command to connect where it cannot."""
START = 10.0
"""Seconds a Python process may take to start and to end, on a busy machine."""
NOBODY = 65534
AS_NOBODY = f"""
import os, sys
import cephcaps.client, cephcaps.cli.app, cephcaps.cli.files
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
sys.exit(cephcaps.cli.main())
"""
MANY = ["/"] * 20_000
"""Arguments that keep `cephcaps stat` busy for many seconds."""
BIG = 3_000

COMMAND = [sys.executable, "-m", "cephcaps.cli"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    took: float


def cephcaps(*words: str | Path, command: list[str] = COMMAND, **environ: str) -> Ended:
    began = time.monotonic()
    done = subprocess.run(
        [*command, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=ENVIRONMENT | environ,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def told(ended: Ended, code: int, *words: str) -> str:
    """The one line that says what went wrong: ``words`` are in it, and no key is."""
    line = ended.err.removesuffix("\n")
    assert (ended.code, ended.out) == (code, ""), line
    assert line.startswith("cephcaps: ")
    assert "\n" not in line
    assert [word for word in words if word not in line] == [], line
    assert ended.took < PATIENCE + START
    return line


@pytest.fixture(autouse=True)
def no_key_is_shown(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test makes the command say holds none of the cluster's keys."""
    said: list[str] = []
    run = cephcaps

    def noted(*words: Any, **how: Any) -> Ended:
        ended = run(*words, **how)
        said.extend((ended.out, ended.err))
        return ended

    monkeypatch.setattr(sys.modules[__name__], "cephcaps", noted)
    yield
    secrets = [line.split()[-1] for line in cluster.keyring.read_text().splitlines() if "key = " in line]
    assert secrets
    assert not [text for text in said for secret in secrets if secret in text]


@pytest.fixture(scope="module")
def tree(cluster: LiveCluster) -> None:
    """/cli with a few files, among them one whose name is no UTF-8."""
    with LibcephfsPeer(cluster) as peer:
        peer.mkdir("/cli", 0o750)
        peer.write_file("/cli/file", b"12345", mode=0o640)
        peer.write_file(b"/cli/\xff\n", b"")
        peer.symlink("file", "/cli/link")


@pytest.fixture(scope="module")
def fenced(cluster: LiveCluster) -> Iterator[str]:
    """The id of a client that may see /cli and nothing else."""
    entity = cluster.add_client_key("fenced", mon="allow r", mds="allow rw path=/cli", osd="allow rw")
    yield entity.removeprefix("client.")
    cluster.ceph("auth", "rm", entity)


@pytest.fixture
def other_key(cluster: LiveCluster, tmp_path: Path) -> Path:
    """A keyring with keys, of the cluster's own type, that the cluster does not know."""
    lines = iter(cluster.keyring.read_text().splitlines())
    line = next(line for header in lines if header == "[client.admin]" for line in lines if "key = " in line)
    key = bytearray(base64.b64decode(line.split()[-1]))
    key[-1] ^= 1
    text = base64.b64encode(key).decode()
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.admin]\nkey = {text}\n[client.stranger]\nkey = {text}\n")
    return keyring


# What it shows


@pytest.mark.parametrize(("mode", "cipher"), [("crc", None), ("secure", "AES-128-GCM")])
def test_status_tells_how_we_are_connected(cluster: LiveCluster, conf: Path, mode: str, cipher: str | None) -> None:
    ended = cephcaps("-c", conf, "status", "-f", "json", "--ms_mode", mode)
    assert (ended.code, ended.err) == (0, "")
    facts = json.loads(ended.out)
    assert (facts["fsid"], facts["fs_name"], facts["conf"]) == (cluster.fsid, cluster.fs_name, str(conf))
    assert (facts["entity"], facts["key_type"]) == ("client.admin", _key_type(cluster))
    assert facts["global_id"] > 0
    protected = {"con_mode": mode, "cipher": cipher}
    v2 = cluster.mon_host.strip("[]").split(",")[0]
    assert facts["mon"] == {"name": "a", "addr": f"{v2}/0", **protected}
    (rank,) = facts["ranks"]
    assert (rank["rank"], f"mds.{rank['name']}", rank["state"]) == (0, cluster.holder(), "up:active")
    (session,) = facts["sessions"]
    assert (session["rank"], session["state"]) == (0, "open")
    assert session | protected == session
    assert "mimic" in session["features"]

    plain = cephcaps("-c", conf, "status", "--ms-mode", mode).out
    shown = (cluster.fsid, cluster.fs_name, "client.admin", f"mds.{rank['name']}", "up:active", rank["addr"], "mimic")
    assert [word for word in (*shown, cipher or mode) if word not in plain] == []


def _key_type(cluster: LiveCluster) -> str:
    key = cluster.keyring.read_text().partition("[client.admin]")[2].partition("key = ")[2].split()[0]
    return {1: "aes", 2: "aes256k"}[base64.b64decode(key)[0]]


@pytest.mark.usefixtures("tree")
def test_stat_and_ls_show_what_libcephfs_made(conf: Path) -> None:
    one = json.loads(cephcaps("-c", conf, "stat", "/cli/file", "-f", "json").out)
    assert (one["type"], one["mode"], one["size"], one["nlink"]) == ("file", "0640", 5, 1)
    assert "As" in one["caps"]
    listed = json.loads(cephcaps("-c", conf, "ls", "/cli", "-f", "json").out)
    names = [(entry["name"], entry["type"]) for entry in listed]
    assert names == [("file", "file"), ("link", "symlink"), ("\\xff\n", "file")]
    assert (listed[0]["ino"], listed[1]["target"], listed[2]["name_hex"]) == (one["ino"], "file", "ff0a")
    assert os.fsencode(cephcaps("-c", conf, "ls", "/cli").out) == b"file\nlink\n\xff\n\n"
    assert cephcaps("-c", conf, "ls", "-l", "/cli").out.splitlines()[0].startswith("-rw-r----- 1 ")
    odd = cephcaps("-c", conf, "stat", os.fsdecode(b"/cli/\xff\n"), "/cli/link", "-f", "json")
    assert [facts["ino"] for facts in json.loads(odd.out)] == [listed[2]["ino"], listed[1]["ino"]]


@pytest.mark.usefixtures("tree")
def test_a_fenced_client_sees_its_own_directory(conf: Path, fenced: str) -> None:
    ended = cephcaps("-c", conf, "--id", fenced, "--client-mountpoint", "/cli", "stat", "/file")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("  File: /file\n")


# What goes wrong: the key


@pytest.mark.parametrize("entity", ["client.admin", "client.stranger"])
def test_a_wrong_key_and_an_unknown_entity_are_told_alike(conf: Path, other_key: Path, entity: str) -> None:
    line = told(cephcaps("-c", conf, "-k", other_key, "-n", entity, "stat", "/"), errno.EACCES)
    assert line.partition(": mon at v2:127.0.0.1:")[2].partition(" ")[2] == (
        f"refused us: {entity} is unknown to the cluster, or its key is wrong, or it has no mon caps; "
        "monitors do not say which: "
        f"compare the keyring with `ceph auth get {entity}`"
    )


def test_a_root_that_is_not_permitted_is_told(cluster: LiveCluster, conf: Path, fenced: str) -> None:
    ended = cephcaps("-c", conf, "--id", fenced, "stat", "/")
    mds = (cluster.holder() or "").removeprefix("mds.")
    told(ended, errno.EACCES, f"mds.0 ({mds}) at v2:127.0.0.1:", "ceph auth get client.fenced")


# What goes wrong: the monitor


@contextlib.contextmanager
def impostor(greeting: bytes | None) -> Iterator[str]:
    """The address of a server that is no Ceph: it says ``greeting``, or closes at once where that is None."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            held = []
            with contextlib.suppress(OSError):  # closed: the test is over
                while True:
                    client, _ = server.accept()
                    if greeting is None:
                        client.close()
                    else:
                        client.sendall(greeting)
                        held.append(client)
            for client in held:
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"v2:127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)


def at(conf: Path, mon_host: str) -> Ended:
    return cephcaps("-c", conf, "-m", mon_host, "--connect-timeout", f"{PATIENCE:g}", "stat", "/")


def test_a_monitor_that_is_down_is_told(conf: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        mon = f"v2:127.0.0.1:{unused.getsockname()[1]}"
        told(at(conf, mon), 1, f"mon at {mon}/0", "check mon_host")
        both = f"{mon},{mon.replace('127.0.0.1', '127.0.0.2')}"
        told(at(conf, both), 1, "mon at v2:127.0.0.1:", "mon at v2:127.0.0.2:", "check mon_host")


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"", "no answer"),
        (None, "(while awaiting the peer's banner)"),  # closed or reset, as it happens
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Ceph daemon: it began with b'HTTP/1.1'"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no Ceph daemon: it began with b'SSH-2.0-'"),
        (b"x", "no answer"),
        (b"ceph v2\n\xff\xff" + bytes(100), "BannerHeader.payload_len"),
        (b"ceph v2\n\x10\x00" + bytes(16) + bytes(100), "msgr2.1"),
    ],
    ids=["silence", "closing", "http", "ssh", "a byte", "a huge banner", "a banner of nothing"],
)
def test_a_wrong_monitor_port_is_told(conf: Path, greeting: bytes | None, words: str) -> None:
    with impostor(greeting) as mon:
        told(at(conf, mon), 1, f"mon at {mon}/0", words, "check mon_host")


def test_a_monitors_v1_port_is_told(cluster: LiveCluster, conf: Path) -> None:
    v1 = cluster.mon_host.strip("[]").split(",")[1].removeprefix("v1:")
    told(at(conf, f"v2:{v1}"), 1, f"v2:{v1}/0: it speaks messenger v1 only", "use the address of its v2 port")


def test_another_daemons_port_is_told(cluster: LiveCluster, conf: Path) -> None:
    mds = json.loads(cephcaps("-c", conf, "status", "-f", "json").out)["ranks"][0]["addr"]
    v2 = mds.strip("[]").split(",")[0].partition("/")[0]
    told(at(conf, v2), 1, f"mon at {v2}/0", "no mon", "check mon_host")


def test_a_monitors_name_that_nobody_knows_is_told(conf: Path) -> None:
    told(at(conf, "no-such-host.invalid"), 1, "no-such-host.invalid", "check mon_host")


def test_a_monitor_and_an_mds_that_hang_are_told(cluster: LiveCluster, conf: Path) -> None:
    patience = ("--connect-timeout", f"{PATIENCE:g}")
    mds = cluster.wait_for_active()
    cluster.freeze_daemon(mds)
    try:
        hung = cephcaps("-c", conf, *patience, "stat", "/")
    finally:
        cluster.thaw_daemon(mds)
    told(hung, errno.ETIMEDOUT, f"mds.0 ({mds.removeprefix('mds.')}) at v2:127.0.0.1:", "--connect-timeout")
    cluster.freeze_daemon("mon.a")
    try:
        hung = cephcaps("-c", conf, *patience, "stat", "/")
    finally:
        cluster.thaw_daemon("mon.a")
    told(hung, 1, "mon at v2:127.0.0.1:", "check mon_host")


# What goes wrong: the file system


def test_a_missing_file_system_is_told(cluster: LiveCluster, conf: Path) -> None:
    told(cephcaps("-c", conf, "--fs", "gone", "stat", "/"), errno.ENOENT, "'gone'", f"it has: {cluster.fs_name}")


def test_a_missing_path_is_told(cluster: LiveCluster, conf: Path) -> None:
    mds = (cluster.holder() or "").removeprefix("mds.")
    for words in (["stat", "/gone"], ["ls", "/gone"], ["ls", "-l", "/gone"], ["stat", "/gone/below", "-f", "json"]):
        line = told(cephcaps("-c", conf, *words), errno.ENOENT, "No such file or directory", f"mds.0 ({mds})")
        assert line.startswith(f"cephcaps: {words[-1] if words[-1] != 'json' else words[1]}: ")


def test_a_missing_mountpoint_is_told(conf: Path) -> None:
    told(cephcaps("-c", conf, "--client-mountpoint", "/gone", "stat", "/"), errno.ENOENT, "/gone", "client_mountpoint")


# What goes wrong: conf and keyring


def test_a_missing_conf_is_told(tmp_path: Path) -> None:
    told(cephcaps("-c", tmp_path / "no.conf", "stat", "/"), errno.ENOENT, "no.conf", "-c")
    told(cephcaps("stat", "/", CEPH_CONF=f"{tmp_path}/no.conf"), errno.ENOENT, "no.conf", "CEPH_CONF")


def test_an_unreadable_conf_is_told(conf: Path, tmp_path: Path) -> None:
    told(cephcaps("-c", tmp_path, "stat", "/"), errno.EACCES, str(tmp_path), "is a directory", "-c")
    secret = tmp_path / "secret.conf"
    secret.write_text(conf.read_text())
    secret.chmod(0)
    ended = cephcaps("-c", secret, "stat", "/", command=[sys.executable, "-c", AS_NOBODY])
    told(ended, errno.EACCES, str(secret), "permission denied", "-c")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{ 'this': 'is json' }\n", "line 1"),
        (b"[global]\nmon host = 127.0.0.1\n[broken\n", "line 3"),
        (bytes(range(256)), "is it the right file?"),
        (b"", "set it in [global]"),
        (b"[global]\nmon host = not!a!host\n", "neither an address nor a host name"),
    ],
    ids=["json", "half a section", "binary", "empty", "bad address"],
)
def test_a_garbage_conf_is_told(cluster: LiveCluster, tmp_path: Path, content: bytes, words: str) -> None:
    conf = tmp_path / "garbage.conf"
    conf.write_bytes(content)
    told(cephcaps("-c", conf, "-k", cluster.keyring, "stat", "/"), errno.EINVAL, words)


def test_a_missing_keyring_is_told(conf: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no.keyring"
    told(cephcaps("-c", conf, "-k", missing, "stat", "/"), errno.ENOENT, "client.admin", str(missing), "-k")
    told(cephcaps("-c", conf, "stat", "/", CEPH_KEYRING=str(missing)), errno.ENOENT, str(missing), "CEPH_KEYRING")


def test_an_unreadable_keyring_is_told(conf: Path, other_key: Path, tmp_path: Path) -> None:
    told(cephcaps("-c", conf, "-k", tmp_path, "stat", "/"), errno.EACCES, str(tmp_path), "is a directory", "-k")
    other_key.chmod(0)
    mon_host = next(line for line in conf.read_text().splitlines() if line.startswith("mon host")).partition("= ")[2]
    ended = cephcaps(
        "-c", "/dev/null", "-m", mon_host, "--auth-client-required", "cephx", "-k", other_key, "stat", "/",
        command=[sys.executable, "-c", AS_NOBODY],
    )  # fmt: skip
    told(ended, errno.EACCES, "client.admin", str(other_key), "permission denied", "-k")


def test_an_entity_that_is_not_in_the_keyring_is_told(cluster: LiveCluster, conf: Path) -> None:
    ended = cephcaps("-c", conf, "--id", "absent", "stat", "/")
    told(ended, errno.EINVAL, str(cluster.keyring), "no key for client.absent", "client.admin", "-n")


@pytest.mark.parametrize("key", ["nokey", "QUJDREVGRw==", "AQ==", "!"])
def test_a_key_that_is_none_is_told_and_not_shown(conf: Path, tmp_path: Path, key: str) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.admin]\nkey = {key}\n")
    line = told(cephcaps("-c", conf, "-k", keyring, "stat", "/"), errno.EINVAL, "client.admin")
    assert key == "!" or key not in line


# How it ends


class Running:
    """A command that is still at work, with its session at the MDS."""

    def __init__(self, cluster: LiveCluster, argv: list[str], **how: Any) -> None:
        self.cluster = cluster
        self.mds = cluster.wait_for_active()
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, env=ENVIRONMENT, **how)

    def __enter__(self) -> Running:
        wait_until(lambda: self.session() or self.process.poll() is not None, "a session at the MDS")
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def session(self) -> dict[str, Any] | None:
        """The MDS's view of it."""
        pid = str(self.process.pid)
        sessions: list[dict[str, Any]] = self.cluster.admin(self.mds, "session ls")
        return next((session for session in sessions if session["client_metadata"].get("pid") == pid), None)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Its exit code and what it said; its session is gone within a second, without the MDS's help."""
        began = time.monotonic()
        self.process.send_signal(number)
        wait_until(lambda: self.session() is None, "the session is gone", within=1.0)
        code = self.process.wait(timeout=START)
        assert self.process.stderr is not None
        assert time.monotonic() - began < START
        return code, self.process.stderr.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_session(cluster: LiveCluster, conf: Path, number: signal.Signals) -> None:
    argv = [*COMMAND, "-c", str(conf), "stat", *MANY]
    with Running(cluster, argv, stdout=subprocess.DEVNULL) as running:
        assert running.session()
        assert running.end(number) == (128 + number, "")


def test_ctrl_c_in_the_listing_of_a_large_directory_closes_the_session(cluster: LiveCluster, conf: Path) -> None:
    with LibcephfsPeer(cluster) as peer:
        peer.mkdir("/big")
        peer.write_file("/big/0", b"")
        for number in range(1, BIG):
            peer.link("/big/0", f"/big/{number}")
    argv = [*COMMAND, "-c", str(conf), "ls", "-l", "/big"]
    for _ in range(5):  # it may be done before the signal is there
        with Running(cluster, argv, stdout=subprocess.DEVNULL) as running:
            ended = running.end(signal.SIGINT)
        if ended[0]:
            break
    assert ended == (130, "")


def test_ctrl_c_closes_the_session_of_any_program(cluster: LiveCluster, conf: Path) -> None:
    program = """
import asyncio, sys
import cephcaps

async def main():
    async with cephcaps.connect(sys.argv[1]) as client:
        await client.stat("/")
        await asyncio.sleep(60)

asyncio.run(main())
"""
    with Running(cluster, [sys.executable, "-c", program, str(conf)]) as running:
        assert running.session()
        code, said = running.end(signal.SIGINT)
    assert code == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")


def test_nobody_waits_for_us_while_our_output_is_not_read(cluster: LiveCluster, conf: Path) -> None:
    argv = [*COMMAND, "-c", str(conf), "stat", *MANY[:2000]]
    with Running(cluster, argv, stdout=subprocess.PIPE) as running:
        assert running.session()
        wait_until(lambda: running.session() is None, "the session is gone")
        assert running.process.poll() is None  # it has more to say than a pipe holds
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.wait(timeout=START) == 128 + signal.SIGPIPE
        assert running.process.stderr is not None
        assert running.process.stderr.read() == b""
