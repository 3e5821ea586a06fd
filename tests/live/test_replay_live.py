"""libcephfs and ceph-fuse at a long and varied work in each other's way: our engine would have told the MDSs the same,
and lint finds nothing but what stands in docs/lint.md."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cephcaps.auth.crypto import CryptoKey
from cephcaps.auth.keyring import parse_keyring
from cephcaps.trace import read_trace
from cephcaps.trace.lint import Finding, Linter
from cephcaps.trace.replay import RULES, Difference, Replay, Tally

from .bustle import Mounted, Worker, bustle, prepare
from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .fuse import FuseMount
from .release import Release
from .scenario import BRISK
from .stage import Stage

EXPLAINED = 0.02
"""Of the statements of a capture, at most."""
KNOWN_FAULTS = {"revoke-unanswered", "revoke-late", "flushmsg-ack-before-release"}
"""Of libcephfs, which does not answer a REVOKE that takes nothing it has left if it wants nothing, and which now and
then lets go of what was recalled after it has said so (docs/lint.md)."""


@pytest.fixture
def path(release: Release, tmp_path: Path) -> Path:
    if missing := missing_program("dumpcap") or FuseMount.missing(release):
        pytest.skip(missing)
    return tmp_path / "capture.pcapng"


@pytest.mark.soak  # now and then this much of everything makes an MDS abort (seen: 20.2.4, Ceph's clients alone)
@pytest.mark.parametrize(
    ("messenger", "steps", "messages", "seed"), [(2, 300, 500, 0), (1, 3500, 10_000, 10), (2, 3500, 10_000, 20)]
)
def test_long_work_of_libcephfs_is_replayed_alike(
    release: Release, path: Path, messenger: int, steps: int, messages: int, seed: int
) -> None:
    keys, clients = captured_work(release, path, messenger, steps, seed)

    tallies, differences, findings = judged(path, keys)

    assert len(RULES) <= 12
    assert [one for one in differences if not one.rule] == []
    assert all(tallies[client].compared >= messages for client in clients), tallies
    compared = sum(tally.compared for tally in tallies.values())
    explained = sum(tally.explained.total() for tally in tallies.values())
    assert explained <= EXPLAINED * compared, tallies
    assert [one for one in findings if one.rule.name not in KNOWN_FAULTS] == []


def captured_work(
    release: Release, path: Path, messenger: int, steps: int, seed: int
) -> tuple[dict[str, CryptoKey], tuple[int, int]]:
    """Two libcephfs with two threads each, one of them with room for few inodes, and a ceph-fuse, all in one folder,
    while an MDS asks for caps back now and then; gives the cluster's keys and the two libcephfs."""
    address = some_loopback_address()
    cluster = LiveCluster(release, mds=3, extra=BRISK, msgr2=messenger == 2, address=address)
    stage = Stage(cluster, second={"client_cache_size": "30"})

    def recall() -> None:
        time.sleep(1)
        cluster.mds_admin({"prefix": "cache drop", "timeout": 1})
        time.sleep(1)

    with Dumpcap(path, address), cluster:
        with stage:
            folder = stage.folder("bustle")
            prepare(stage.first, folder)
            first, second = (
                [Worker(peer, folder, its), Worker(peer, folder, its + 1)]
                for peer, its in ((stage.first, seed + 1), (stage.second, seed + 3))
            )
            bustle([*first, *second, Mounted(stage.mount, folder, seed + 5)], steps, recall)
            clients = stage.first.instance_id, stage.second.instance_id
        keys = parse_keyring(cluster.keyring.read_text(), str(cluster.keyring))
        assert cluster.died() == []
    return {entity: CryptoKey.from_base64(key.reveal()) for entity, key in keys.items()}, clients


def judged(path: Path, keys: dict[str, CryptoKey]) -> tuple[dict[int | str, Tally], list[Difference], list[Finding]]:
    differences: list[Difference] = []
    replay, linter, findings = Replay(differences.append), Linter(), list[Finding]()
    with path.open("rb") as file:
        for item in read_trace(file, keys):
            replay.take(item)
            findings += linter.take(item)
    replay.end()
    assert replay.failures == {}
    return replay.tallies, differences, findings + linter.finish()
