"""``cephcaps hold`` and ``cephcaps ping`` against a real MDS, with libcephfs as the client that interferes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .waiting import wait_until


@pytest.fixture(scope="module")
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


def started(conf: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "cephcaps.cli", "-c", str(conf), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_hold_tells_grant_revoke_ack_and_release_as_they_happen(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    holding = started(conf, "hold", "/watched", "--mode", "w", "--for", "4s")
    assert holding.stdout is not None
    assert "granted pAsxLsXsxFsxcrwb" in holding.stdout.readline()

    peer.chmod("/watched", 0o640)  # needs As, so that the MDS asks for Ax

    assert "revoking" in holding.stdout.readline()
    assert "revoke acked" in holding.stdout.readline()
    told, errors = holding.communicate(timeout=20)
    assert "released" in told.splitlines()[-1]
    assert (holding.returncode, errors) == (0, "")
    assert [s for s in cluster.session_ls() if "cephcaps_version" in s["client_metadata"]] == []


def test_hold_until_interrupted_tells_json_and_closes_its_session(cluster: LiveCluster, conf: Path) -> None:
    holding = started(conf, "-f", "json", "hold", "/watched-json", "--mode", "w")
    assert holding.stdout is not None
    event = json.loads(holding.stdout.readline())
    assert (event["event"], event["issued"], event["rank"]) == ("CapGranted", "pAsxLsXsxFsxcrwb", 0)
    holding.send_signal(signal.SIGINT)
    holding.communicate(timeout=10)
    assert holding.returncode == 130

    def gone() -> bool:
        return not [s for s in cluster.session_ls() if "cephcaps_version" in s["client_metadata"]]

    wait_until(gone, "the session is closed", within=1)


def test_ping_gives_a_histogram_of_revokes_and_exits_0(conf: Path, peer: LibcephfsPeer) -> None:
    pinging = started(conf, "-f", "json", "ping", "/watch-pinged", "--count", "50")
    told, errors = pinging.communicate(timeout=60)
    assert (pinging.returncode, errors) == (0, "")
    facts = json.loads(told)
    assert facts["rounds"] == 50
    assert 0 < facts["min_ms"] <= facts["median_ms"] <= facts["p99_ms"] <= facts["max_ms"]
    assert sum(facts["histogram"].values()) == 50
    assert not peer.exists("/watch-pinged")


def test_ping_fails_where_the_median_is_above_what_was_allowed(conf: Path) -> None:
    pinging = started(conf, "ping", "/watch-pinged", "--count", "5", "--max", "0.001")
    pinging.communicate(timeout=60)
    assert pinging.returncode == 110
