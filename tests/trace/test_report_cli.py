"""``cephcaps report``: what it writes where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cephcaps.cli import main
from cephwire.caps import CapOp
from cephwire.requestop import RequestOp
from tests.trace import rendering as made
from tests.trace.rendering import DIR, caps, down, request, up
from tests.trace.test_report import SHARED, opened, rooted

NETWORK = {"asyncio", "socket", "anyio", "ssl", "structlog", "cephcaps.client", "cephcaps.core", "rich", "selectors"}
STORY = (
    up(request(RequestOp.LOOKUP, DIR, "file")),
    rooted(),
    opened(name="</script>"),
    down(caps(CapOp.REVOKE, SHARED, seq=2), 4),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING", "CEPHCAPS_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def story(tmp_path: Path) -> str:
    path = tmp_path / "story.pcapng"
    path.write_bytes(made.capture(map(made.encoded, STORY)))
    return str(path)


def command(*words: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *words], capture_output=True, timeout=60, check=False, **how)


def test_a_page_is_written_where_it_was_asked(story: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.html"
    assert main(["report", story, "-o", str(out)]) == 0
    assert capsys.readouterr().out == ""
    text = out.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "/dir/\\u003c/script\\u003e" in text
    assert text.count("</script>") == 2


def test_a_page_can_go_to_stdout_and_the_capture_come_from_stdin(story: str, tmp_path: Path) -> None:
    with open(story, "rb") as file:
        done = command("-m", "cephcaps.cli", "report", "-", "-o", "-", stdin=file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"<!doctype html>")


def test_json_is_the_data_spelled_out(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", story, "-f", "json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    data = json.loads(out)
    assert data["unanswered"][0] | {"age_us": 0} == {
        "at_us": 4000, "age_us": 0, "client": "client.4123", "daemon": "mds.0", "ino": f"{made.FILE:#x}",
        "path": "/dir/</script>", "caps": "AxXxFsxcrwb", "seq": 2, "waiting": [],
    }  # fmt: skip
    assert main(["report", story, "-f", "json-pretty"]) == 0
    assert json.loads(capsys.readouterr().out) == data


def test_names_that_are_no_text_are_spelled_out_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.pcapng"
    path.write_bytes(made.capture(map(made.encoded, (rooted(), opened(name="\udcff")))))
    assert main(["report", str(path), "-f", "json", "--perfetto", str(tmp_path / "p.json")]) == 0
    told = next(one for one in json.loads(capsys.readouterr().out)["inodes"] if one["ino"] == f"{made.FILE:#x}")
    assert (told["path"], told["path_hex"]) == ("/dir/\\xff", "2f6469722fff")


def test_perfetto_is_trace_events(story: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["report", story, "--perfetto", str(out)]) == 0
    told = json.loads(out.read_text())
    assert [one["name"] for one in told["traceEvents"] if one.get("cat") == "revoke"] == ["unanswered revoke"]


def test_lint_is_asked_unless_told_not_to(story: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cephcaps.trace.lint")
    assert main(["report", story, "-f", "json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out)["findings"], list)
    assert main(["report", story, "-f", "json", "--no-lint"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] is None


def test_misuse_is_told(story: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(story).read_bytes()
    for words in (
        ["report", story],
        ["report", story, "-o", "-", "-f", "json"],
        ["report", story, "-o", "-", "--perfetto", "-"],
        ["report", story, "-o", story],
        ["report", "-o", "x.html"],
    ):
        assert main(words) == 22
    assert Path(story).read_bytes() == before
    capsys.readouterr()
    assert main(["report", str(tmp_path / "none"), "-o", "x.html"]) == 2
    assert main(["report", story, "-o", str(tmp_path / "no" / "x.html")]) == 2
    assert "x.html" in capsys.readouterr().err
    assert main(["report", __file__, "-o", str(tmp_path / "x.html")]) == 22
    assert not (tmp_path / "x.html").exists()


def test_what_is_missing_is_told_by_the_exit_code(story: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(Path(story).read_bytes()[:-20])
    assert main(["report", str(cut), "-o", str(tmp_path / "out.html")]) == 1
    assert (tmp_path / "out.html").exists()


def test_no_network_code_is_loaded(story: str, tmp_path: Path) -> None:
    words = ["report", story, "-o", str(tmp_path / "out.html"), "--perfetto", str(tmp_path / "p.json")]
    code = f"import sys; from cephcaps.cli import main; main({words!r}); print(*sys.modules)"
    loaded = set(command("-c", code).stdout.decode().split())
    assert "cephcaps.trace.report.page" in loaded
    assert not NETWORK & loaded
