"""``doctor`` and ``holders`` on what MDSs say, in the words of Ceph 16.2 and 20.2."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import pytest

from cephcaps.cli import mds_view
from cephcaps.cli.app import run
from cephcaps.cli.options import Settings
from cephcaps.errors import MdsError
from cephwire.mdsmap import MdsState
from tests.session import samples
from tests.session.world import mds_addr

INO = 0x10000000003


def stamp(ago: float) -> str:
    return datetime.fromtimestamp(time.time() - ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")


def session(id: int, *caps: dict[str, Any], **facts: Any) -> dict[str, Any]:
    told = {
        "id": id,
        "state": "open",
        "num_caps": len(caps),
        "num_completed_requests": 0,
        "num_completed_flushes": 0,
        "inst": f"client.{id} v1:192.0.2.7:0/77",
        "client_metadata": {"hostname": "web7", "entity_id": "app", "root": "/srv"},
    }
    return {**told, "caps": list(caps), **facts}


def cap(ino: int = INO, ago: float = 42.0, **how: Any) -> dict[str, Any]:
    """As 16.2 says it: what was asked back stands in a number, of the bits before."""
    told = {"ino": f"{ino:#x}", "last_sent": 5, "last_issue_stamp": stamp(ago), "wanted": "pFscrwb"}
    return {**told, "pending": "pAsLsXsFc", "revokes": [], **how}


LATE = {"revokes": [{"before": 0x1555 | 0xFF << 8, "seq": 4, "last_issue": 2}]}


def op(text: str, age: float = 40.0, point: str = "failed to rdlock, waiting") -> dict[str, Any]:
    return {"description": text, "age": age, "type_data": {"flag_point": point}}


class Cluster:
    """What the daemons say, and what they were asked."""

    def __init__(self) -> None:
        self.global_id = 99
        self.mds_map = samples.mdsmap(5, samples.mds_info(0, 100, mds_addr(100), MdsState.ACTIVE)).mdsmap
        self.sessions = [session(99), session(4123, cap(**LATE), cap(INO + 1)), session(4124)]
        self.ops = [
            op(f"client_request(client.4124:3 getattr Fs #{INO:#x} 2026-11-22T17:24:52 caller_uid=0)"),
            op(f"client_request(client.4124:4 getattr Fs #{INO:#x}0 2026-11-22T17:24:52 caller_uid=0)"),
            op("client_request(client.4124:5 mkdir #0x1/d)", point="submit entry: journal_and_reply"),
            op(f"client_request(client.4124:6 getattr Fs #{INO:#x} 2026-11-22T17:24:52 caller_uid=0)", age=1.0),
        ]
        self.health: dict[str, Any] = {}
        self.version = "20.2.4"
        self.used = 10
        self.hidden = False
        self.asked: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def mon_command(self, command: Mapping[str, Any]) -> bytes:
        assert command["prefix"] == "health"
        return json.dumps({"status": "HEALTH_OK", "checks": self.health}).encode()

    async def mds_command(self, rank: int, command: Mapping[str, Any]) -> bytes:
        self.asked.append(dict(command))
        match command["prefix"]:
            case "session ls" if "filters" in command:
                ids = {int(text.removeprefix("id=")) for text in command["filters"]}
                return json.dumps([one for one in self.sessions if one["id"] in ids]).encode()
            case "session ls":
                return json.dumps([{k: v for k, v in one.items() if k != "caps"} for one in self.sessions]).encode()
            case "ops":
                return json.dumps({"ops": self.ops, "num_ops": len(self.ops)}).encode()
            case "version":
                return json.dumps({"version": self.version}).encode()
            case "dump inode" if command["number"] == INO:
                caps = [{"client_id": 4123, "pending": "pAsLsXsFc", "issued": "pAsLsXsFscrw"}] if self.hidden else []
                return json.dumps({"path": "/srv/file", "client_caps": caps}).encode()
            case "dump inode":
                raise MdsError(2, "not in cache")
            case "config get":
                values = {"mds_max_caps_per_client": 1 << 20, "mds_cache_memory_limit": 100}
                return json.dumps({command["var"]: str(values.get(command["var"], 1000))}).encode()
            case "cache status":
                return json.dumps({"pool": {"items": 1, "bytes": self.used}}).encode()
        raise AssertionError(command)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(Settings, "connect", lambda self, mount=True: made)
    return made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = run([*words, "-f", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_late_revoke_has_client_inode_bits_and_age(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    code, facts = said(capsys, "doctor")
    assert code == 1
    (late,) = facts["revokes"]
    assert (late["client"], late["ino"], late["path"]) == (4123, f"{INO:#x}", "/srv/file")
    assert (late["holds"], late["asked_back"]) == ("pAsLsXsFc", "Fsxrwbal")
    assert 42 <= late["age_s"] < 50
    assert [op["client"] for op in late["waiting"]] == [4124]
    assert [op["request"].split(":")[1][0] for op in facts["waiting"]] == ["4"], "another inode whose number is longer"
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mds.0: client.4123 (client.app, on web7, mounts /srv) has not given back Fsxrwbal of")
    assert "0x10000000003 /srv/file for 42 s" in lines[0]
    assert lines[2].startswith(
        "  waits for it: client.4124 (client.app, on web7, mounts /srv): client_request(client.4124:3"
    )


def test_what_a_wrong_answer_hides_is_in_the_inode(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.sessions[1] = session(4123, cap(revokes=[{"before": "pAsLsXsFc", "seq": 2, "last_issue": 1}]))
    cluster.hidden = True
    assert [late["asked_back"] for late in said(capsys, "doctor")[1]["revokes"]] == ["Fsrw"]
    assert [held["asked_back"] for held in said(capsys, "holders", str(INO))[1]["holders"]] == ["Fsrw"]
    cluster.version = "16.2.15"
    assert [late["asked_back"] for late in said(capsys, "doctor")[1]["revokes"]] == ["unknown"]
    run(["doctor"])
    assert "has not given back all that it was asked for of 0x10000000003 for 42 s" in capsys.readouterr().out


def test_all_is_well(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.sessions = [session(99), session(4123, cap(), cap(INO + 1, 2.0, **LATE))]
    cluster.ops = []
    assert said(capsys, "doctor")[0] == 0
    assert run(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("no client is late")


def test_who_is_named_by_a_warning_is_told_however_short_ago(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.sessions = [session(4123, cap(ago=1.0, **LATE)), session(4124, cap(ago=1.0, **LATE))]
    text = "mds.a(mds.0): Client web7:app failing to respond to capability release client_id: 4123"
    cluster.health = {"MDS_CLIENT_LATE_RELEASE": {"detail": [{"message": text}]}, "MGR_DOWN": {"detail": []}}
    _, facts = said(capsys, "doctor")
    assert facts["health"] == [{"check": "MDS_CLIENT_LATE_RELEASE", "message": text}]
    assert [late["client"] for late in facts["revokes"]] == [4123]


def test_where_there_are_too_many_caps_only_the_named_are_looked_at(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.sessions[2]["num_caps"] = 300_000
    assert said(capsys, "doctor")[1]["unseen"] == [{"rank": 0, "clients": 2, "caps": 300_002}]
    assert not [words for words in cluster.asked if "filters" in words]
    assert run(["holders", f"{INO}"]) == 7
    assert "dump inode" in capsys.readouterr().err


def test_limits_that_are_near(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.ops = []
    cluster.used = 100
    cluster.sessions = [session(4123, num_completed_requests=900), session(4124, num_completed_flushes=799)]
    code, facts = said(capsys, "doctor")
    assert code == 1
    assert [(near["what"], near["value"], near["limit"]) for near in facts["limits"]] == [
        ("num_completed_requests", 900, 1000),
        ("cache bytes", 100, 100),
    ]
    run(["doctor"])
    assert "has num_completed_requests 900; mds_max_completed_requests is 1000" in capsys.readouterr().out


def test_holders_are_told_with_what_was_asked_back(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    code, facts = said(capsys, "holders", f"{INO:#x}")
    assert (code, facts["ino"], facts["path"]) == (0, f"{INO:#x}", "/srv/file")
    (holder,) = facts["holders"]
    assert (holder["client"], holder["asked_back"], holder["wants"]) == (4123, "Fsxrwbal", "pFscrwb")
    assert run(["holders", f"{INO}"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{INO:#x}  /srv/file"
    assert out[2].split()[:3] == ["0", "client.4123", "web7"]
    assert run(["holders", "7"]) == 0
    assert "nobody holds anything of it" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["relative", "0xyz", "--", ""])
def test_what_is_neither_inode_nor_path_is_bad_usage(cluster: Cluster, what: str) -> None:
    assert run(["holders", what]) == 22


def test_an_old_mds_is_not_asked_for_a_path(cluster: Cluster) -> None:
    cluster.version = "16.2.15"
    assert asyncio.run(mds_view.dump_inode(cluster, 0, INO)).path is None  # type: ignore[arg-type]
    assert [words["prefix"] for words in cluster.asked] == ["version"]
