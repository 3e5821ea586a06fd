"""A `TestCluster` and clients on it. Every client records: what it said must be what the recording holds, must lint
clean, and must be what replay would have said."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from cephcaps import Client, connect
from cephcaps.core import Core
from cephcaps.testing import TestCluster
from tests.live.recording import keep, read_back, recorded


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "misbehaves(reason): its daemons break the protocol, so lint finds something")


@pytest.fixture(autouse=True)
def every_client_records(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each recording reads back to what was said and is judged clean; of a failing test it is kept."""
    folder = tmp_path_factory.mktemp("recordings")
    misbehaves = request.node.get_closest_marker("misbehaves")
    with recorded(folder, monkeypatch) as spied:
        yield
    try:
        for one in spied:
            if not one.over:
                continue
            back = read_back(one)
            assert back.said == one.said, f"{one.path} is not what was said"
            told = [*back.lint, *back.replay] if misbehaves is None else []
            assert told == [], one.path
    except BaseException:
        keep(folder, request.node.name)
        raise
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def every_byte_is_understood(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the cluster's daemons send is decoded with nothing left over, and every reply is to something."""
    cores: list[Core] = []
    make = Core.__init__

    def remember(self: Core, *args: object, **named: object) -> None:
        make(self, *args, **named)  # type: ignore[arg-type]
        cores.append(self)

    monkeypatch.setattr(Core, "__init__", remember)
    yield
    for core in cores:
        assert (core.leftovers, core.unknown, core.mds.unmatched) == ([], {}, 0)


@pytest.fixture
async def cluster() -> AsyncIterator[TestCluster]:
    async with TestCluster() as running:
        yield running
        assert running.mds[0].requests() == []


@pytest.fixture
async def client(cluster: TestCluster) -> AsyncIterator[Client]:
    async with connect(cluster.conf) as connected:
        yield connected


@pytest.fixture
async def other(cluster: TestCluster) -> AsyncIterator[Client]:
    """A second client, by whose eyes a test looks."""
    async with connect(cluster.conf) as connected:
        yield connected
