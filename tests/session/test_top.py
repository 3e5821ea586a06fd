"""``top``: what fits a screen, in which order."""

from __future__ import annotations

import json
import random
import time

import pytest

from cephcaps.cli.app import run
from cephcaps.cli.options import Settings
from cephcaps.cli.top import SORTS, Rank, Row, View, page
from tests.session.test_doctor import Cluster

DICE = random.Random(5)


def row(client: int) -> Row:
    numbers = [float(DICE.randrange(1_000_000)) for _ in range(5)]
    return Row(0, client, "open", int(numbers[0]), *numbers[1:], 3, 0, "host" * 9, "/\x1b[31mred", "client.a")


VIEW = View("cephfs", 12, [Rank(0, "a", 10_000, 5, 7, 2, 61.5, 4 << 20)], [row(4000 + n) for n in range(10_000)])


@pytest.mark.parametrize("sort", SORTS)
def test_a_screen_has_the_most_of_ten_thousand(sort: str) -> None:
    began = time.perf_counter()
    lines = page(VIEW, sort, 80, 24)
    assert time.perf_counter() - began < 1
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert lines[1] == "mds.0 (a): 10000 sessions, 5 caps, 7 requests, 2 blocked for 62 s, cache 4 MiB"
    shown = [int(line.split()[0]) for line in lines[3:]]
    most = sorted(VIEW.rows, key=lambda row: -getattr(row, sort))[:21]
    assert shown == [row.client for row in most]
    assert "\x1b" not in "".join(lines)


def test_many_ranks_leave_room_for_sessions() -> None:
    view = View("cephfs", 12, [Rank(n, "x", 1, 1, 0, 0, 0.0, 0) for n in range(40)], VIEW.rows)
    lines = page(view, "caps", 80, 24)
    assert len(lines) == 24
    assert sum(line.startswith("mds.") for line in lines) == 11


def test_a_screen_may_be_tiny() -> None:
    assert [len(page(VIEW, "caps", 20, height)) for height in (1, 2, 3)] == [2, 2, 3]


def test_once_tells_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    monkeypatch.setattr(Cluster, "fs_name", "cephfs", raising=False)
    monkeypatch.setattr(Settings, "connect", lambda self, mount=True: cluster)
    assert run(["top", "--once", "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["client"], row["caps"]) for row in told["rows"]] == [(4123, 2), (4124, 0)]
    assert (told["ranks"][0]["ops"], told["ranks"][0]["blocked"], told["ranks"][0]["oldest_s"]) == (4, 3, 40.0)
    assert run(["top", "--once", "--sort", "ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        "client",
        "rank",
        "state",
        "caps",
        "recall",
        "release",
        "acquire",
        "load",
        "ops",
        "host",
    ]
    assert len(lines) == 5
