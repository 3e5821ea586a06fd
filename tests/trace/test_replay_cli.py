"""``cephcaps replay``: what it prints, what it loads, and how it exits."""

from __future__ import annotations

import errno
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cephcaps.cli import main
from cephcaps.trace.items import Traced
from cephcaps.trace.read import read_trace
from cephwire.caps import CLIENT_CAPS, CapOp, ClientCaps
from tests.trace.rewriting import rewrite
from tests.trace.test_replay import LIBCEPHFS

CLIENT = 4119
ROOT = 1


def make_faulty(path: Path) -> int:
    """Write the capture with one answer under a wrong seq to ``path``; gives the inode."""
    items = list(read_trace(io.BytesIO(gzip.decompress(LIBCEPHFS.read_bytes()))))
    for at, item in enumerate(items):
        if not isinstance(item, Traced) or not item.to_daemon or item.flow.client_id != CLIENT:
            continue
        message = item.message
        if isinstance(message, ClientCaps) and message.op == CapOp.UPDATE and message.ino != ROOT:
            wrong = msgspec.structs.replace(message, seq=message.seq + 100)
            items[at] = item._replace(segments=CLIENT_CAPS.encode(wrong, item.header.version))
            rewrite(items, path)
            return message.ino
    raise AssertionError("no answer")


def test_a_capture_of_a_clean_client_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(LIBCEPHFS)]) == 0
    out = capsys.readouterr().out
    assert "UNEXPLAINED" not in out
    assert "explained by in-part" in out
    assert "client.4117       338    336          2            0         0" in out


def test_a_difference_is_told_with_both_sides_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ino = make_faulty(tmp_path / "x")
    assert main(["replay", "--client", str(CLIENT), str(tmp_path / "x")]) == 1
    out = capsys.readouterr().out
    assert f"client.{CLIENT}  {ino:#x} /" in out
    assert "UNEXPLAINED" in out
    assert "expected  update" in out
    assert "client.4117" not in out


def test_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ino = make_faulty(tmp_path / "x")
    assert main(["replay", "-f", "json", str(tmp_path / "x")]) == 1
    told = json.loads(capsys.readouterr().out)
    wrong = [one for one in told["differences"] if one["rule"] is None]
    assert {(one["client"], one["ino"]) for one in wrong} == {(CLIENT, f"{ino:#x}")}
    assert wrong[0]["path"].startswith("/")
    assert all({"name", "why", "source"} == set(rule) for rule in told["rules"])
    tally = next(one for one in told["clients"] if one["client"] == CLIENT)
    assert tally["unexplained"] == len(wrong)


def test_a_summary_lists_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--summary", str(LIBCEPHFS)]) == 0
    assert "expected" not in capsys.readouterr().out
    assert main(["replay", "--summary", "-f", "json", str(LIBCEPHFS)]) == 0
    assert "differences" not in json.loads(capsys.readouterr().out)


def test_another_inode_s_fault_does_not_count(tmp_path: Path) -> None:
    ino = make_faulty(tmp_path / "x")
    assert main(["replay", "--ino", hex(ino), str(tmp_path / "x")]) == 1
    assert main(["replay", "--ino", "0x1", str(tmp_path / "x")]) == 0


def test_a_capture_with_nothing_to_compare(tmp_path: Path) -> None:
    rewrite([], tmp_path / "x")
    assert main(["replay", str(tmp_path / "x")]) == errno.ENODATA


def test_what_is_no_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    assert main(["replay", str(tmp_path / "x")]) == errno.EINVAL
    assert main(["replay", str(tmp_path / "missing")]) == errno.ENOENT
    assert "neither pcap nor pcapng" in capsys.readouterr().err


def test_nothing_of_the_network_is_loaded() -> None:
    script = (
        "import sys; from cephcaps.cli import main; main(sys.argv[1:]); "
        "print(sorted({'asyncio', 'socket', 'anyio', 'ssl', 'selectors'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "replay", "--summary", str(LIBCEPHFS)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr.splitlines()[-1] == "[]"
