"""pytest: the fixture ``ceph_test_cluster``, a fresh `TestCluster` for each test that asks for it.

It runs on an event loop in a thread of its own, so that the test may be a coroutine, or block, or start other programs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cephcaps.testing.cluster import TestCluster

__all__ = ["CephTestCluster", "ceph_test_cluster"]

START_LIMIT = 30.0
"""Seconds to start and to stop."""


class CephTestCluster:
    """A running `TestCluster`, for any thread.

    Attributes:
        cluster: itself; what changes it is to go through `call`.
    """

    def __init__(self, cluster: TestCluster, loop: asyncio.AbstractEventLoop) -> None:
        self.cluster = cluster
        self._loop = loop

    @property
    def conf(self) -> Path:
        """ceph.conf for any Ceph client."""
        return self.cluster.conf

    def call(self, step: Callable[[TestCluster], Any]) -> Any:
        """What ``step(cluster)`` returns, called and, if it is a coroutine, awaited where the cluster runs; for faults,
        such as ``ceph_test_cluster.call(lambda cluster: cluster.faults.cut())``."""

        async def there() -> Any:
            result = step(self.cluster)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(START_LIMIT)


@pytest.fixture
def ceph_test_cluster() -> Iterator[CephTestCluster]:
    """A monitor and an MDS on loopback, with a fresh file system; metadata only."""
    from cephcaps.testing.cluster import TestCluster

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="ceph-test-cluster", daemon=True)
    thread.start()
    cluster = TestCluster()
    try:
        asyncio.run_coroutine_threadsafe(cluster.__aenter__(), loop).result(START_LIMIT)
        yield CephTestCluster(cluster, loop)
        asyncio.run_coroutine_threadsafe(cluster.__aexit__(), loop).result(START_LIMIT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_LIMIT)
        loop.close()
