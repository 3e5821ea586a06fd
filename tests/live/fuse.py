"""ceph-fuse: Ceph's other client in user space, mounted in the cluster's directory."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import Self

from .cluster import LiveCluster
from .release import ENVIRONMENT, Release
from .waiting import wait_until

__all__ = ["FuseMount"]

MOUNT_LIMIT = 30.0
"""Seconds to mount, and to unmount."""

_numbers = itertools.count()


class FuseMount:
    """A mounted file system, worked on with ``os`` at ``path``; a context manager that unmounts it.

    Args:
        cluster: a started cluster.
        options: Ceph options of this client, such as ``{"ms_client_mode": "secure"}``.

    Attributes:
        path: where it is mounted.
        instance_id: the client's global_id, its ``id`` in the MDS's session list.
        log_name: what it prints, for ``cluster.log_tail``.
    """

    def __init__(self, cluster: LiveCluster, *, options: dict[str, str] | None = None) -> None:
        self.log_name = f"fuse.{next(_numbers)}"
        self.path = cluster.directory / self.log_name
        self.path.mkdir()
        before = {session["id"] for session in cluster.session_ls()}
        words = [f"--{name}={value}" for name, value in (options or {}).items()]
        inside = cluster.release.inside(self.path)
        with (cluster.directory / "log" / f"{self.log_name}.log").open("ab") as said:
            self._process = subprocess.Popen(
                cluster.release.command(
                    "ceph-fuse", "-f", "-n", "client.admin", "-c", cluster.inner_conf, *words, inside
                ),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=ENVIRONMENT,
                cwd=cluster.directory,
                start_new_session=True,
            )
        cluster.guard(self.log_name, self._process.pid)
        try:
            wait_until(self._is_mounted, f"{self.log_name} is mounted", within=MOUNT_LIMIT)
            (self.instance_id,) = {session["id"] for session in cluster.session_ls()} - before
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                error.add_note(f"{self.log_name} said:\n{cluster.log_tail(self.log_name)}")
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmount, and end; one that cannot unmount is killed."""
        if os.path.ismount(self.path) and self._umount():
            try:
                self._process.wait(timeout=MOUNT_LIMIT)
                return
            except subprocess.TimeoutExpired:
                pass
        self._process.kill()
        self._process.wait(timeout=10)
        self._umount("-l")  # a dead mount point would outlive the cluster's directory

    @staticmethod
    def missing(release: Release) -> str | None:
        """What would let ceph-fuse mount here, in words; None when nothing is missing."""
        if not (release.root / "usr/bin/ceph-fuse").exists():
            target = "tentacle" if release.in_chroot else "ceph"
            return f"run `make {target}` as root: ceph-fuse not found in {release.root}"
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "run the tests as root, where /dev/fuse is: ceph-fuse cannot mount"
        return None

    def _is_mounted(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.log_name} ended with {self._process.returncode}")
        return os.path.ismount(self.path)

    def _umount(self, *how: str) -> bool:
        done = subprocess.run(["umount", *how, str(self.path)], capture_output=True, timeout=MOUNT_LIMIT)
        return done.returncode == 0
