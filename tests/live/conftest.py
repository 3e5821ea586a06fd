"""Fixtures of the live tests: facts about a real cluster. ``CEPHCAPS_RELEASE`` chooses its release."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cephcaps.core import Core
from tests.keys import KEYS

from .capturing import missing_program
from .cluster import LiveCluster
from .fuse import FuseMount
from .recording import keep, read_back, recorded
from .release import Release, find_release
from .scenario import Captured, capture_scenario

HERE = Path(__file__).parent
VERSION = pytest.StashKey[str]()
RECORDINGS = pytest.StashKey[Path]()
CLUSTERS = pytest.StashKey[list[LiveCluster]]()
LOG_LINES = 25


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "misbehaves(reason): its clients are made to break rules that lint judges by")


LONG = (
    *("test_test_cluster_history", "test_renewal_live", "test_monitors_live", "test_deleted_key_live"),
    *("test_test_cluster", "test_legacy_live", "test_failover_live", "test_tshark", "test_against", "test_ranks_live"),
)
"""Files of about a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
    # A file is run by one process: the long ones first, or all others would wait for them in the end.
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def release(pytestconfig: pytest.Config) -> Release:
    """The Ceph release under test, able to run here; else the test is skipped with what would let it run."""
    found = find_release(os.environ.get("CEPHCAPS_RELEASE", "pacific"))
    missing = found.missing()
    if missing:
        pytest.skip(missing)
    pytestconfig.stash[VERSION] = found.version
    return found


@pytest.fixture(scope="session")
def cluster(release: Release) -> Iterator[LiveCluster]:
    """One cluster for the whole run: rank 0 active, one standby. Tests leave it as they found it."""
    with LiveCluster(release) as running:
        yield running
        assert running.died() == []


@pytest.fixture
def conf(cluster: LiveCluster) -> Path:
    """ceph.conf of the cluster, for a client of this process."""
    return cluster.conf


@pytest.fixture
def new_cluster(release: Release, request: pytest.FixtureRequest) -> Iterator[Callable[..., LiveCluster]]:
    """Starts a cluster of the test's own, with LiveCluster's arguments; for what would disturb the shared one."""
    running = request.node.stash.setdefault(CLUSTERS, [])

    def start(**how: Any) -> LiveCluster:
        running.append(clusters.enter_context(LiveCluster(release, **how)))
        return running[-1]

    with ExitStack() as clusters:
        yield start


@pytest.fixture(scope="session")
def captured_scenario(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Captured]:
    """Makes a capture of Ceph's own clients over messenger 1 or 2, each once a run: `scenario.capture_scenario`."""
    missing = missing_program("dumpcap") or FuseMount.missing(release)
    if missing:
        pytest.skip(missing)

    @functools.cache
    def capture(messenger: int) -> Captured:
        return capture_scenario(release, tmp_path_factory.mktemp(f"v{messenger}"), msgr2=messenger == 2)

    return capture


@pytest.fixture(autouse=True)
def every_client_records(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """What clients of a test record reads back to the very messages they sent and received, breaks no rule of lint and
    is what replay would have said; of a failing test it is kept. ``misbehaves(reason)`` marks a test that makes its
    clients break rules."""
    folder = tmp_path_factory.mktemp("recordings")
    request.node.stash[RECORDINGS] = folder
    misbehaves = request.node.get_closest_marker("misbehaves")
    with recorded(folder, monkeypatch) as spied:
        yield
    try:
        for one in spied:
            if one.path.exists():
                assert not KEYS.seen_in(one.path.read_bytes()), "a key is in a recording"
            if one.over:
                back = read_back(one)
                assert back.said == one.said, f"{one.path} is not what was said"
                told = [*back.lint, *back.replay] if misbehaves is None else []
                assert told == [], one.path
    except BaseException:
        keep(folder, request.node.name)
        raise
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def recordings(request: pytest.FixtureRequest, every_client_records: None) -> Path:
    """Where the test's clients record, ``client-1.pcapng`` and so on."""
    return request.node.stash[RECORDINGS]


@pytest.fixture(autouse=True)
def every_byte_is_understood(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever real daemons send any client of a test is decoded with nothing left over."""
    cores: list[Core] = []
    make = Core.__init__

    def remember(self: Core, *args: Any, **named: Any) -> None:
        make(self, *args, **named)
        cores.append(self)

    monkeypatch.setattr(Core, "__init__", remember)
    yield
    assert [core.leftovers for core in cores if core.leftovers] == []
    assert [core.unknown for core in cores if core.unknown] == []
    assert [core.mds.unmatched for core in cores if core.mds.unmatched] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and HERE in item.path.parents:
        folder = item.stash.get(RECORDINGS, None)
        if folder is not None and folder.exists():
            kept = "\n".join(f"cephcaps decode {path}" for path in keep(folder, item.name))
            report.sections.append(("recordings", kept or "none"))
        for running in _clusters(item):
            report.sections += [("daemon", died) for died in running.died()]
            for name in running.log_names(since=report.start):
                if name.startswith(("mon.", "mds.", "peer.")) and (tail := running.log_tail(name, LOG_LINES)):
                    report.sections.append((f"end of {name}.log", tail))
    return report


def _clusters(item: pytest.Item) -> list[LiveCluster]:
    shared = getattr(item, "funcargs", {}).get("cluster")
    return [*([shared] if shared else []), *item.stash.get(CLUSTERS, [])]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if VERSION in config.stash:
        terminalreporter.write_line(config.stash[VERSION])
