"""A `TestCluster` as the helpers of Ceph's own clients see a cluster: `LibcephfsPeer` and `FuseMount` take it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from cephcaps.testing import TestCluster

from .release import Release

__all__ = ["ServedCluster"]


class ServedCluster:
    """Where clients of one release find a running `TestCluster`: a folder inside the release's root."""

    def __init__(self, cluster: TestCluster, release: Release) -> None:
        self.cluster = cluster
        self.release = release

    def __enter__(self) -> Self:
        self.release.scratch.mkdir(exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="served-", dir=self.release.scratch))
        for name in ("log", "run"):
            (self.directory / name).mkdir()
        keyring = self.directory / "keyring"
        shutil.copy(self.cluster.conf.parent / "keyring", keyring)
        text = self.cluster.conf.read_text()
        inside = str(self.release.inside(keyring))
        (self.directory / "ceph.conf").write_text(text.replace(str(self.cluster.conf.parent / "keyring"), inside))
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def inner_conf(self) -> Path:
        return self.release.inside(self.directory / "ceph.conf")

    def guard(self, name: str, pid: int) -> None:
        """Its processes end when their pipe does."""

    def session_ls(self) -> list[dict[str, Any]]:
        return [{"id": session.client} for session in self.cluster.mds[0].sessions]

    def log_tail(self, name: str, lines: int = 25) -> str:
        path = self.directory / "log" / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
