"""A Ceph file system cluster in one process, for tests: a monitor and an MDS that real clients accept."""

from __future__ import annotations

from cephcaps.testing.cluster import TestCluster

__all__ = ["TestCluster"]
