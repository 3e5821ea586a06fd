"""Where one Ceph release is installed on this machine, and how its programs are run."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["RELEASES", "Release", "find_release"]

RELEASES = ("pacific", "tentacle")
"""``pacific``: this machine's own packages. ``tentacle``: a folder with a newer Debian, entered with chroot."""

TENTACLE_ROOT = Path("/var/cache/cephcaps/tentacle")
"""Where ``make tentacle`` builds; ``CEPHCAPS_TENTACLE`` names another place."""

ROOT_SCRIPT = Path(__file__).with_name("release-root.sh")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("ceph-mon", "ceph-osd", "ceph-mds", "ceph", "ceph-authtool", "monmaptool", "python3")
REFUSED = "Error E"
"""How ``ceph`` names the errno of a command that it read."""
ENVIRONMENT = {"PATH": PATH, "HOME": "/", "LC_ALL": "C.UTF-8"}
"""The whole environment of Ceph's programs: a ``CEPH_ARGS`` of the caller would steer them elsewhere."""


@dataclass(frozen=True)
class Release:
    """One installed release.

    Attributes:
        name: one of ``RELEASES``.
        root: the directory its programs see as ``/``.
        scratch: where its clusters live. Short, because a unix socket's path ends at 108 bytes.
    """

    name: str
    root: Path
    scratch: Path

    @property
    def in_chroot(self) -> bool:
        return self.root != Path("/")

    def missing(self) -> str | None:
        """What would let this release run here, in words; None when nothing is missing."""
        target = "tentacle" if self.in_chroot else "ceph"
        for program in PROGRAMS:
            if self._which(program) is None:
                return f"run `make {target}` as root: {program} not found in {self.root}"
        if not any(self.root.glob("usr/lib/*/libcephfs.so.2")):
            return f"run `make {target}` as root: libcephfs.so.2 not found in {self.root}"
        return self._missing_mounts() if self.in_chroot else None

    def command(self, *argv: str | Path) -> list[str]:
        """The argument list that runs a program of this release."""
        chroot = ["chroot", str(self.root)] if self.in_chroot else []
        return [*chroot, *map(str, argv)]

    def run(self, *argv: str | Path, script: str = "", timeout: float = 60.0) -> str:
        """Run a program to its end and return what it printed.

        Args:
            script: what it reads, such as commands for ``ceph``.

        Raises:
            OSError: it failed; Ceph's tools exit with an errno, and the text is what they said.
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        done = subprocess.run(
            self.command(*argv),
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            timeout=timeout,
        )
        # A command of a script that is refused is told, and the next is carried out.
        status = done.returncode or (errno.EINVAL if script and REFUSED in done.stderr else 0)
        if status:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise OSError(status, f"{' '.join(map(str, argv))}: {said}")
        return done.stdout

    def inside(self, path: Path) -> Path:
        """``path`` as this release's own programs name it."""
        return Path("/") / path.relative_to(self.root)

    @cached_property
    def version(self) -> str:
        """Such as ``ceph version 16.2.15 (...) pacific (stable)``."""
        return self.run("ceph-mon", "--version").strip()

    def _which(self, program: str) -> str | None:
        return shutil.which(program, path=":".join(str(self.root / folder[1:]) for folder in PATH.split(":")))

    def _missing_mounts(self) -> str | None:
        if os.geteuid() != 0:
            return f"run the tests as root: {self.name} lives in {self.root}, and only root may chroot"
        if os.path.ismount(self.root / "proc") and os.path.ismount(self.root / "dev"):
            return None
        # Mounts vanish when the machine restarts; the folder stays.
        mounting: Sequence[str] = ["bash", str(ROOT_SCRIPT), "--mount", str(self.root)]
        done = subprocess.run(mounting, capture_output=True, text=True, errors="replace", timeout=60)
        return None if done.returncode == 0 else f"allow mounting proc and /dev in {self.root}: {done.stderr.strip()}"


def find_release(name: str) -> Release:
    """The release of that name; whether it can run here is for ``Release.missing`` to say."""
    if name == "pacific":
        return Release(name, Path("/"), Path("/tmp"))
    if name == "tentacle":
        root = Path(os.environ.get("CEPHCAPS_TENTACLE", TENTACLE_ROOT))
        return Release(name, root, root / "srv")
    raise ValueError(f"no Ceph release {name!r} is known here; there are {', '.join(RELEASES)}")
