"""``cephcaps lint``: what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cephcaps.cli import main
from cephwire.caps import CapOp
from tests.trace.lint_scene import READ, Scene
from tests.trace.rendering import capture, encoded
from tests.trace.test_lint import SCENES, Play, played

NETWORK = {"asyncio", "socket", "anyio", "ssl", "structlog", "cephcaps.client", "cephcaps.core", "rich", "selectors"}


def written(tmp_path: Path, *, wrong: bool) -> str:
    """The name of a capture in which a client answers a revoke, or does not."""
    scene = Scene()
    scene.open()
    scene.looks_up()
    scene.told(CapOp.REVOKE, READ, 2)
    if not wrong:
        scene.update(READ, 2)
    scene.on_time(20)
    path = tmp_path / ("wrong.pcapng" if wrong else "right.pcapng")
    path.write_bytes(capture(encoded(item) for item in scene.items))  # type: ignore[arg-type]
    return str(path)


def test_a_clean_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", written(tmp_path, wrong=False)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "cephcaps: 0 findings in 12 messages between clients and MDSs\n"


def test_a_broken_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", written(tmp_path, wrong=True)]) == 1
    told = capsys.readouterr()
    head, when, said = told.out.splitlines()
    assert head == ("revoke-unanswered  client.4123  mds.0  0x10000000001 /file  AxXxFxwb  seq 2  age 20.000 s")
    assert when.endswith("not answered until the trace ends, 20.000 s later")
    assert said == "    MDS said last:    revoke seq 2 mseq 0 caps pAsLsXsFscr"
    assert "1 finding in 11 messages between clients and MDSs: 1 revoke-unanswered" in told.err


@SCENES
def test_a_fault_is_found_in_a_file(rule: str, play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule's planted fault, by way of messages, packets and a pcapng file; and nothing where it is done right."""
    for wrong in (False, True):
        path = tmp_path / "scene.pcapng"
        path.write_bytes(capture(encoded(item) for item in played(play, wrong=wrong)))  # type: ignore[arg-type]
        assert main(["lint", "-f", "json", str(path)]) == int(wrong)
        found = [json.loads(line)["rule"] for line in capsys.readouterr().out.splitlines()]
        assert found == [rule] * wrong


def test_findings_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path, wrong=True)
    assert main(["lint", "-f", "json", name]) == 1
    finding = json.loads(capsys.readouterr().out)
    assert finding.pop("time_ns") > finding.pop("age_ns") > 0
    assert finding.pop("meaning")
    assert "PRs 25873 and 52175" in finding.pop("source")
    assert finding == {
        "rule": "revoke-unanswered", "client": "client.4123", "daemon": "mds.0", "ino": 0x10000000001, "path": "/file",
        "caps": "AxXxFxwb", "seq": 2, "what": "not answered until the trace ends, 20.000 s later", "client_said": None,
        "mds_said": "revoke seq 2 mseq 0 caps pAsLsXsFscr",
    }  # fmt: skip
    assert main(["lint", "-f", "json-pretty", name, written(tmp_path, wrong=False)]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["file"] == name


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--rule", "revoke-late"], 0),
        (["--rule", "seq-back,revoke-unanswered"], 1),
        (["--client", "client.4123"], 1),
        (["--client", "5"], 0),
    ],
)
def test_rules_and_clients_are_chosen(tmp_path: Path, args: list[str], code: int) -> None:
    assert main(["lint", *args, written(tmp_path, wrong=True)]) == code


def test_a_rule_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--rule", "revoke-later", "x.pcapng"]) == 22
    assert "'revoke-later' is no rule; they are revoke-unanswered, revoke-late," in capsys.readouterr().err


def test_what_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(tmp_path / "none.pcapng")]) == 2
    (tmp_path / "text").write_text("not a capture")
    assert main(["lint", str(tmp_path / "text")]) == 22
    (tmp_path / "empty.pcapng").write_bytes(capture([]))
    assert main(["lint", str(tmp_path / "empty.pcapng")]) == 61


def test_nothing_of_the_network_is_loaded(tmp_path: Path) -> None:
    script = f"import sys; from cephcaps.cli import main; main(['lint', {written(tmp_path, wrong=True)!r}]); "
    script += "print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not NETWORK & set(ran.stderr.split())


def test_every_rule_is_in_the_manual() -> None:
    from cephcaps.trace.lint import RULES

    manual = (Path(__file__).parents[2] / "docs" / "lint.md").read_text()
    assert [name for name in RULES if f"### {name}\n" not in manual] == []
