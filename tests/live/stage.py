"""Where a scenario plays: a cluster of two active ranks and a standby, and Ceph's own clients of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self

from .cluster import LiveCluster
from .debug_log import debug_options
from .fuse import FuseMount
from .libcephfs import LibcephfsPeer

__all__ = ["Stage"]


class Stage:
    """A cluster of two active ranks and a standby, and its clients; a context manager that unmounts them.

    Args:
        cluster: started with three MDS daemons.
        first, second, fuse: Ceph options of each client, such as ``{"ms_client_mode": "secure"}``.

    Attributes:
        first, second: the two libcephfs.
        mount: where the ceph-fuse is mounted.
        logs: of each client, by global_id: every message of its, as ``debug_log.read_debug_log`` reads it.
        evicted: clients that an MDS has thrown out.
        failed: addresses of daemons that were failed.
        shaky: clients whose connections were broken.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        *,
        first: dict[str, str] | None = None,
        second: dict[str, str] | None = None,
        fuse: dict[str, str] | None = None,
    ) -> None:
        self.cluster = cluster
        self.logs: dict[int, Path] = {}
        self.evicted: set[int] = set()
        self.failed: set[str] = set()
        self.shaky: set[int] = set()
        self._folders = 0
        self._options = (first or {}, second or {}, fuse or {})
        self._leaving = contextlib.ExitStack()

    def __enter__(self) -> Self:
        first, second, fuse = self._options
        with self._leaving:
            self.cluster.ceph("fs", "set", self.cluster.fs_name, "max_mds", 2)
            self.cluster.wait_for_active(1)
            self.first = self._leaving.enter_context(self.join(options=first))
            self.second = self._leaving.enter_context(self.join(options=second))
            mounted = FuseMount(self.cluster, options={**fuse, **debug_options(self.cluster, "client.fuse")})
            self._leaving.enter_context(mounted)
            self.mount = mounted.path
            self.logs[mounted.instance_id] = self.cluster.directory / "log" / "client.fuse.log"
            self._leaving = self._leaving.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._leaving.close()

    def join(self, *, options: dict[str, str] | None = None, **how: Any) -> LibcephfsPeer:
        """One more libcephfs, which logs its messages too."""
        name = f"client.{len(self.logs)}"
        peer = LibcephfsPeer(self.cluster, options={**(options or {}), **debug_options(self.cluster, name)}, **how)
        self.logs[peer.instance_id] = self.cluster.directory / "log" / f"{name}.log"
        return peer

    def folder(self, name: str) -> str:
        """Make a new one, and give its path."""
        self._folders += 1
        path = f"/{name}.{self._folders}"
        self.first.mkdir(path, 0o777)
        return path
