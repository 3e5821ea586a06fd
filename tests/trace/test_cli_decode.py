"""``cephcaps decode``: what it prints of a capture, where, and how it ends."""

from __future__ import annotations

import base64
import errno
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps.auth.crypto import CryptoKey
from cephcaps.cli import main
from cephcaps.cli.trace_keys import trace_keys
from cephcaps.errors import ConfigError
from cephcaps.trace.items import Item, Problem, Traced
from cephwire.capbits import parse_caps
from cephwire.caps import CapOp
from cephwire.errors import MalformedMessage
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace import rendering as made
from tests.trace.rendering import DIR, FILE, MS, NS, ROOT, caps, down, flow, inode, problem, reply, request, up

KEY = base64.b64encode(struct.pack("<HIIH16s", 1, 0, 0, 16, b"secret")).decode()
NETWORK = {"asyncio", "socket", "anyio", "ssl", "structlog", "cephcaps.client", "cephcaps.core", "rich", "selectors"}
FULL, SHARED = parse_caps("pAsxLsXsxFsxcrwb"), parse_caps("pAsLsXsFs")
OTHER = flow(client=5, number=2)

STORY = (
    up(request(RequestOp.LOOKUP, DIR, "file"), 0, tid=1),
    down(reply(RequestOp.LOOKUP, inode(ROOT), "dir", inode(DIR)), 1, tid=0),
    down(reply(RequestOp.LOOKUP, inode(DIR), "file", inode(FILE, FULL)), 2, tid=1),
    up(request(RequestOp.GETATTR, FILE), 3, tid=1, flow=OTHER),
    down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
    up(caps(CapOp.UPDATE, SHARED, seq=2), 5),
    up(ClientSession(SessionOp.REQUEST_RENEWCAPS, 1), 6, flow=OTHER),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING", "CEPHCAPS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def story(tmp_path: Path) -> str:
    path = tmp_path / "story.pcapng"
    path.write_bytes(made.capture(map(made.encoded, STORY)))
    return str(path)


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A file that, once read, holds the items given; its name."""

    def hold(*items: Item) -> str:
        monkeypatch.setattr("cephcaps.trace.read.read_trace", lambda file, keyring: iter(items))
        return "/dev/null"

    return hold


def columns(text: str) -> list[str]:
    """Client, direction, type of each line."""
    return [" ".join(line.split()[1:3] + line.split()[4:5]) for line in text.splitlines()]


def command(*words: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cephcaps.cli", "decode", *words], capture_output=True, timeout=60, check=False, **how
    )


# What is shown


def test_a_capture_is_a_line_a_message_in_order(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", story]) == 0
    out, err = capsys.readouterr()
    assert columns(out) == [
        "client.4123 -> client_request(lookup)",
        "client.4123 <- client_reply(lookup)",
        "client.4123 <- client_reply(lookup)",
        "client.5 -> client_request(getattr)",
        "client.4123 <- client_caps(revoke)",
        "client.4123 -> client_caps(update)",
        "client.5 -> client_session(request_renewcaps)",
    ]
    assert f"{FILE:#x} /dir/file  seq 2  caps pAsLsXsFs (-AxXxFxcrwb)" in out
    assert out.splitlines()[5].endswith("answers the revoke of 1.000 ms ago")
    assert err == (
        "cephcaps: 7 messages from 2026-11-22T17:24:52.000000000+00:00, 4 to daemons and 3 to clients; "
        f"{size_of(STORY)} bytes, 0 left over, 0 malformed; problems: none\n"
    )


def size_of(items: Iterable[Traced]) -> int:
    return sum(len(segment) for item in items for segment in made.encoded(item).segments)


def test_json_is_an_object_a_line(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "-f", "json", story]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["type"] for one in shown] == [line.split()[2].split("(")[0] for line in columns(plain(story, capsys))]
    assert [one["time_ns"] for one in shown] == [NS + at * MS for at in range(7)]
    assert shown[4]["message"]["caps"] == "pAsLsXsFs"


def plain(story: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["decode", story]) == 0
    return capsys.readouterr().out


def test_pretty_json_is_one_array(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "-f", "json", story]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["decode", "-f", "json-pretty", story]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == lines
    assert out.startswith("[\n    {\n        ")
    assert main(["decode", "-f", "json-pretty", "--client", "7", story]) == 0
    assert capsys.readouterr().out == "[]\n"


FILTERS = {
    "--type client_caps": [4, 5],
    "--type 0x310,22": [4, 5, 6],
    "--type client_caps(revoke) --type client_session": [4, 6],
    "--client 5": [3, 6],
    "--client client.4123": [0, 1, 2, 4, 5],
    "--client 5,4123 --type client_request": [0, 3],
    "--rank 0": [0, 1, 2, 3, 4, 5, 6],
    "--rank mds.1": [3, 6],  # of which the rank is not known
    f"--ino {FILE:#x}": [2, 3, 4, 5],
    f"--ino {FILE}": [2, 3, 4, 5],
    f"--ino {FILE} --client 5": [3],
    f"--ino {DIR},99": [0, 1, 2],
    "--since 0.004 --until 0.005": [4, 5],
    "--until 2026-11-22T17:24:52.001": [0, 1],
}


@pytest.mark.parametrize("words", FILTERS)
def test_filters(words: str, story: str, capsys: pytest.CaptureFixture[str]) -> None:
    every = plain(story, capsys).splitlines()
    assert main(["decode", *words.split(), story]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [every[at] for at in FILTERS[words]]
    assert f"cephcaps: {len(FILTERS[words])} of 7 messages" in err


def test_times_may_be_absolute(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--absolute", "--ino", str(FILE), story]) == 0
    assert capsys.readouterr().out.startswith("2026-11-22T17:24:52.002000  client.4123 <- mds.0")


def test_counts_alone(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--summary", story]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "from 2026-11-22T17:24:52.000000000+00:00 for 6.000 ms"
    rows = [line.split() for line in out.splitlines()]
    assert rows[2:4] == [
        ["type", "to", "daemon", "to", "client", "bytes", "left", "over", "malformed"],
        ["client_session", "1", "0", str(size_of(STORY[6:])), "0", "0"],
    ]
    assert ["all", "4", "3", str(size_of(STORY)), "0", "0"] in rows
    assert ["client.5", "mds.?", "2", "0", str(size_of([STORY[3], STORY[6]]))] in rows  # its MDS says nothing
    assert main(["decode", "--summary", "-f", "json", story]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["messages"], shown["first_ns"], shown["last_ns"]) == (7, NS, NS + 6 * MS)
    assert [(one["type"], one["to_daemon"], one["to_client"]) for one in shown["types"]] == [
        ("client_session", 1, 0), ("client_request", 2, 0), ("client_reply", 0, 2), ("client_caps", 1, 1),
    ]  # fmt: skip
    assert [(one["client"], one["to_daemon"]) for one in shown["pairs"]] == [("client.4123", 2), ("client.5", 2)]


def test_counts_of_what_is_wanted(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--summary", "-f", "json", "--client", "5", story]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == 2


def test_revokes_without_an_answer_are_told_at_the_end(
    holding: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = holding(*STORY[:5], *(down(caps(CapOp.REVOKE, SHARED, 1000 + i), 5) for i in range(30)))
    assert main(["decode", file]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "revoke" in line]
    assert told[0] == (
        f"cephcaps: client.4123 has not answered the revoke of AxXxFxcrwb on {FILE:#x} /dir/file by mds.0, seq 2, "
        "for 1.000 ms"
    )
    assert (len(told), told[-1]) == (21, "cephcaps: and 11 more revokes")
    assert main(["decode", "--ino", str(FILE), file]) == 0
    assert capsys.readouterr().err.count("has not answered") == 1
    assert main(["decode", "-f", "json", file]) == 0
    assert "has not answered" not in capsys.readouterr().err


def test_several_files_in_turn(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    once = plain(story, capsys)
    assert main(["decode", story, story]) == 0
    assert capsys.readouterr().out == once * 2
    assert main(["decode", "-f", "json", story, "/none", story]) == errno.ENOENT
    out, err = capsys.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == [story] * 14
    assert "cephcaps: /none: No such file or directory\n" in err


def test_names_are_spelled_out(holding: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    file = holding(
        down(reply(RequestOp.LOOKUP, inode(ROOT), "a\n\x1b\udcff", inode(FILE))), up(request(RequestOp.GETATTR, FILE))
    )
    assert main(["decode", file]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert out.count(r"/a\n\x1b\xff") == 2
    for how in ("json", "json-pretty"):
        assert main(["decode", "-f", how, "--type", "client_reply", file]) == 0
        shown = json.loads(capsys.readouterr().out)
        trace = (shown[0] if how == "json-pretty" else shown)["message"]["trace"]
        assert (trace["dname"], trace["dname_hex"]) == ("a\n\x1b\\xff", "610a1bff")


# What could not be read

CUT = Problem(0, None, None, "capture", "the file ends inside a packet", 12)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (problem(), 1),
        (problem(size=0), 0),
        (problem(kind="sealed", size=0), 1),
        (problem(kind="malformed", size=0), 1),
        (problem(kind="tampered", size=0), 1),
        (problem(kind="packet", size=0), 0),
        (CUT, 1),
        (up(None, number=0x310, error=MalformedMessage("no")), 1),
        (up(None, number=42), 0),
    ],
    ids=str,
)
def test_the_exit_code_says_whether_something_is_missing(
    item: Item, code: int, holding: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decode", holding(STORY[0], item)]) == code
    assert main(["decode", "--summary", holding(STORY[0], item)]) == code
    assert main(["decode", "-f", "json", "--no-problems", holding(STORY[0], item)]) == code


def test_problems_are_told_between_messages(holding: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    file = holding(STORY[0], problem(1), STORY[1], CUT)
    assert main(["decode", file]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.splitlines()[0] == "   0.001000  client.4123 -> mds.0  gap: bytes are missing"
    assert err.splitlines()[1].strip() == "capture: the file ends inside a packet"
    assert err.endswith("problems: 1 capture (12 bytes), 1 gap (100 bytes)\n")
    assert main(["decode", "-f", "json", file]) == 1
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.get("problem") for one in shown] == [None, "gap", None, "capture"]
    assert main(["decode", "--no-problems", file]) == 1
    out, err = capsys.readouterr()
    assert (out.count("\n"), err.count("\n")) == (2, 1)
    assert main(["decode", "--summary", file]) == 1
    assert [line.split() for line in capsys.readouterr().out.splitlines()[-2:]] == [
        ["capture", "1", "12"], ["gap", "1", "100"],
    ]  # fmt: skip


def test_problems_of_others_do_not_count(holding: Callable[..., str]) -> None:
    assert main(["decode", "--client", "5", holding(problem(), STORY[3])]) == 0


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("none.pcap", errno.ENOENT, "No such file or directory"),
        ("", errno.ENOENT, "No such file or directory"),
        (".", errno.EISDIR, "Is a directory"),
        ("a\x00b", errno.ENOENT, "No such file or directory"),
        (__file__, errno.EINVAL, "neither pcap nor pcapng"),
        ("/dev/null", errno.EINVAL, "neither pcap nor pcapng"),
    ],
)
def test_a_file_that_is_no_capture_is_an_error_in_a_line(
    file: str, code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decode", file]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cephcaps: ")
    assert why in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_on_is_told_with_what_it_gave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(file: object, keyring: object) -> Iterator[Item]:
        yield STORY[0]
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cephcaps.trace.read.read_trace", failing)
    assert main(["decode", "/dev/null"]) == errno.EIO
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err.startswith("cephcaps: /dev/null: Input/output error\n")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--type", "client_cap", "x"],
        ["--type", "", "x"],
        ["--ino", "file", "x"],
        ["--client", "osd.1", "x"],
        ["--rank", "", "x"],
        ["--since", "soon", "x"],
        ["--nonsense", "x"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_told_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", *words]) == errno.EINVAL
    out, err = capsys.readouterr()
    assert out == ""
    assert "see `cephcaps decode --help`" in err


# Keys


def keys_of(*words: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, CryptoKey] | None:
    """What the reader is given."""
    found: list[dict[str, CryptoKey] | None] = []

    def read(file: object, keyring: dict[str, CryptoKey] | None) -> Iterator[Item]:
        found.append(keyring)
        return iter(())

    monkeypatch.setattr("cephcaps.trace.read.read_trace", read)
    assert main(["decode", *words, "/dev/null"]) == 0
    return found[0]


def test_keys_are_given_as_to_other_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring, keyfile = tmp_path / "keyring", tmp_path / "key"
    keyring.write_text(f"[client.a]\nkey = {KEY}\n[client.b]\nkey = {KEY}\ncaps mds = allow\n")
    keyfile.write_text(KEY + "\n")
    every = {"client.a", "client.b"}
    for words in (["-k", str(keyring)], ["--keyring", f"/none,{keyring}"], ["-k", f"{tmp_path}/$type.ring,{keyring}"]):
        assert (keys_of(*words, monkeypatch=monkeypatch) or {}).keys() == every
    for words in (["--key", KEY], ["--keyfile", str(keyfile)]):
        assert (keys_of(*words, monkeypatch=monkeypatch) or {}).keys() == {"client.admin"}
        assert (keys_of(*words, "--id", "x", monkeypatch=monkeypatch) or {}).keys() == {"client.x"}
    assert keys_of(monkeypatch=monkeypatch) is None
    monkeypatch.setenv("CEPH_KEYRING", str(keyring))
    assert (keys_of(monkeypatch=monkeypatch) or {}).keys() == every


def test_a_keyring_that_is_of_no_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "-k", str(tmp_path / "none"), "/dev/null"]) == errno.ENOENT
    assert "the keyring could not be read" in capsys.readouterr().err
    short = KEY[:20] + "=" * 4
    assert main(["decode", "--key", short, "/dev/null"]) == errno.EINVAL
    assert short not in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"the key of 'client\.admin' cannot be used"):
        trace_keys({"options": {"key": "AAAA"}}, {})


# Endings


def test_no_network_code_is_loaded(story: str) -> None:
    for words in (["--help"], [story], ["-f", "json", story], ["--summary", story], ["--ino", "1", story]):
        program = f"import sys; from cephcaps.cli import main; main(['decode', *{words!r}]); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        loaded = set(done.stdout.splitlines()[-1].split())
        assert "cephcaps.cli.decode" in loaded
        assert not NETWORK & loaded


def test_a_pipe_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    long = tmp_path / "long.pcapng"
    long.write_bytes(made.capture(map(made.encoded, STORY * 500)))
    words = [sys.executable, "-m", "cephcaps.cli", "decode", "-f", "json", str(long)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(100)
        child.stdout.close()
        assert child.wait(timeout=60) == 128 + signal.SIGPIPE
        assert child.stderr.read() == b""


def test_stdin_is_read_as_a_file_and_as_a_pipe(story: str) -> None:
    raw = Path(story).read_bytes()
    from_pipe = command("-", input=raw)
    with open(story, "rb") as file:
        from_file = command("-", stdin=file)
    assert from_pipe.returncode == from_file.returncode == 0
    assert from_pipe.stdout == from_file.stdout
    assert from_pipe.stdout.count(b"\n") == 7


def test_stdin_that_is_closed_is_told() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m cephcaps.cli decode - <&-', sys.executable], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (errno.EBADF, b"cephcaps: stdin: Bad file descriptor\n")


def test_a_capture_that_still_runs_is_shown_as_it_comes_and_ctrl_c_ends_it_quietly() -> None:
    words = [sys.executable, "-m", "cephcaps.cli", "decode", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(made.capture(map(made.encoded, STORY[:3])))
        child.stdin.flush()
        shown = [child.stdout.readline() for _ in range(3)]
        assert shown[2].startswith(b"   0.002000  client.4123 <- mds.0")
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 128 + signal.SIGINT
        assert child.stderr.read() == b""


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    large = tmp_path / "large.pcapng"
    raw = made.capture(map(made.encoded, STORY))
    padding = (12 + (4 << 20)).to_bytes(4, "little")  # blocks of an unknown type are skipped
    large.write_bytes(raw + (b"\x01\x0b\0\0" + padding + bytes(4 << 20) + padding) * 2)
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "cephcaps.cli", "decode", "-f", "json", str(large)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as child:
        os.close(theirs)
        assert child.stdout is not None
        assert child.stdout.read().count(b"\n") == 7
        seen = b""
        while child.poll() is None or b"problems" not in seen:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    assert b"MB" in seen
    assert b"cephcaps: 7 messages" in seen
    assert b"MB" not in command("-f", "json", str(large)).stderr
