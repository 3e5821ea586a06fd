"""``cephcaps replay --against``: what libcephfs clients did on one cluster is done again on another."""

from __future__ import annotations

import json
import stat
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cephcaps.cli import main
from cephcaps.cli.trace_keys import trace_keys
from cephcaps.trace import Traced, read_trace
from cephwire.caps import ClientCaps
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp

from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .history import History, tree_of
from .libcephfs import LibcephfsPeer

SEED = 7
STEPS = 1000
REQUESTS = 2000
OPS = "MKDIR CREATE OPEN SETATTR RENAME LINK SYMLINK UNLINK RMDIR SETXATTR RMXATTR MKSNAP RMSNAP LSSNAP READDIR LOOKUP"
BRISK = "[mds]\nmds tick interval = 0.5"
"""What waits for a tick of the MDS, such as a snapshot for its journal, waits less long."""

SCENARIO = Path(__file__).parents[1] / "trace" / "data" / "libcephfs-pacific.pcapng.gz"

NewCluster = Callable[..., LiveCluster]


@pytest.fixture
def dumpcap() -> None:
    missing = missing_program("dumpcap")
    if missing:
        pytest.skip(missing)


def said_in(capture: Path, keyring: Path) -> tuple[Counter[int], int]:
    """Requests of a capture by op, each counted once, and how many messages flush something."""
    requests: dict[tuple[int | None, int], int] = {}
    flushes = 0
    with capture.open("rb") as file:
        for item in read_trace(file, trace_keys({"keyring": str(keyring)})):
            if not isinstance(item, Traced) or not item.to_daemon:
                continue
            if isinstance(item.message, ClientRequest):
                requests[item.flow.client_id, item.header.tid] = item.message.op
            elif isinstance(item.message, ClientCaps):
                flushes += bool(item.message.dirty)
    return Counter(requests.values()), flushes


def replayed(
    capsys: pytest.CaptureFixture[str], capture: Path, captured: LiveCluster, target: LiveCluster, *words: str
) -> tuple[int, dict[str, Any]]:
    """The exit code, and what the command says in JSON."""
    capsys.readouterr()
    keyring = str(captured.keyring)
    code = main(["replay", "-f", "json", "--against", str(target.conf), "-k", keyring, *words, str(capture)])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("dumpcap")
def test_a_history_of_two_thousand_requests_ends_in_the_same_tree_on_a_fresh_cluster(
    new_cluster: NewCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture, address = tmp_path / "capture.pcapng", some_loopback_address()
    with ThreadPoolExecutor() as starting:
        homes = [address, some_loopback_address()]
        source, target = starting.map(lambda home: new_cluster(mds=1, address=home, extra=BRISK), homes)
    with Dumpcap(capture, address), LibcephfsPeer(source) as first, LibcephfsPeer(source) as second:
        History([first, second], SEED).go_on(STEPS)
    with LibcephfsPeer(source) as looking:
        expected = tree_of(looking)
    requests, flushes = said_in(capture, source.keyring)
    assert requests.total() >= REQUESTS
    assert [name for name in OPS.split() if not requests[RequestOp[name]]] == []
    assert flushes >= 100

    code, told = replayed(capsys, capture, source, target)

    with LibcephfsPeer(target) as looking:
        found = tree_of(looking)
    differ = {path: (expected.get(path), found.get(path)) for path in {*expected, *found}}
    assert {path: both for path, both in differ.items() if both[0] != both[1]} == {}
    assert told["divergences"] == []
    assert code == 0
    assert sum(client["requests"] for client in told["clients"]) == requests.total()
    assert sum(client["flushes"] for client in told["clients"]) >= 100
    assert target.died() == []


@pytest.mark.usefixtures("dumpcap")
def test_what_is_in_the_way_or_missing_is_listed(
    new_cluster: NewCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the captured cluster itself, below a directory."""
    capture, address = tmp_path / "capture.pcapng", some_loopback_address()
    cluster = new_cluster(mds=1, address=address)
    with LibcephfsPeer(cluster) as early:
        early.mkdir("/was")
        early.write_file("/was/there", b"since before")
    with Dumpcap(capture, address), LibcephfsPeer(cluster) as peer:
        peer.mkdir("/way")
        peer.mkdir("/way/below")
        peer.write_file("/free", b"data", mode=0o640)
        time.sleep(1)
        peer.statx("/was/there")
        peer.chmod("/was/there", 0o600)
        peer.chmod("/free", 0o604)
    with LibcephfsPeer(cluster) as planting:
        planting.mkdir("/again")
        planting.write_file("/again/way", b"in the way")
    began = time.monotonic()

    code, told = replayed(
        capsys, capture, cluster, cluster, "--client-mountpoint", "/again", "--speed", "1", "--timeout", "5"
    )

    assert code == 1
    assert time.monotonic() - began >= 1
    found = [(one["op"], one["path"], one["kind"], one["captured"], one["replayed"]) for one in told["divergences"]]
    mkdir = next(one for one in told["divergences"] if one["op"] == "mkdir")
    assert ("mkdir", "/way", "errno", "done", "EEXIST") in found
    assert mkdir["ino"] == "0x1"
    assert ("mkdir", "not-sent") in [(op, kind) for op, _, kind, _, _ in found]
    assert [path for _, path, kind, _, _ in found if kind == "missing-before"] == ["/was"]
    assert [one for one in found if "free" in one[1]] == []
    with LibcephfsPeer(cluster) as looking:
        tree = tree_of(looking, "/again")
        assert looking.read_file("/again/way") == b"in the way"
    assert sorted(tree) == ["/", "/free", "/way"]
    assert (stat.S_IMODE(tree["/free"].mode), tree["/free"].size) == (0o604, 4)


def test_everything_clients_talk_about_comes_out_as_it_did(
    new_cluster: NewCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The captured scenario of Pacific's clients: locks, quotas, snapshots, an export, a failover, an eviction."""
    target = new_cluster(mds=1, extra=BRISK)
    code, told = replayed(capsys, SCENARIO, target, target)
    assert told["divergences"] == []
    assert code == 0
    assert len(told["clients"]) == 6
    assert sum(client["requests"] for client in told["clients"]) > 300
    assert target.died() == []
