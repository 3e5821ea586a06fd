"""The processes of one cluster, in a directory of its own: started, frozen, killed, asked, and read from their logs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from .admin_socket import ask
from .release import ENVIRONMENT, Release
from .waiting import wait_until

__all__ = ["START_LIMIT", "Daemons"]

START_LIMIT = 60.0
"""Seconds a daemon may take to come up; two cores under load need some ten."""

RESTART_ATTEMPTS = 10
"""Seconds to wait for a port that is in use."""

LOG_WINDOW = 1 << 18
"""Bytes of a log's end that are looked at."""
LOG_WIDTH = 300
"""Characters shown of a line."""
QUESTIONS = (" asok_command: ", "from='admin socket'")
"""In lines that only repeat what was asked here."""

# Once the test process is gone in any way, kills what the pid files name and was started from this cluster's directory.
GUARDIAN = """
cat >/dev/null
for file in "$1"/run/*.pid; do
  pid=$(cat "$file" 2>/dev/null) && grep -qaF -- "$2" "/proc/$pid/cmdline" 2>/dev/null && kill -9 "$pid"
done
[ -n "$3" ] || rm -rf -- "$1"
"""


class Daemons:
    """Daemons of one release, named as Ceph names them: ``mon.a``, ``osd.0``, ``mds.a`` ...

    They run in the foreground, as children of this process, so that a pid stays one daemon's through its restarts.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    # Where things are

    @property
    def directory(self) -> Path:
        assert self._directory is not None, "the cluster was not started"
        return self._directory

    @property
    def inner_conf(self) -> Path:
        """ceph.conf as the release's own programs name it, which may run in its chroot."""
        return self.release.inside(self.directory / "ceph.conf")

    @property
    def version(self) -> str:
        return self.release.version

    # Life

    def stop(self) -> None:
        """Kill the daemons of this cluster and remove its directory."""
        for daemon in self._daemons.values():
            daemon.kill()
        try:
            for daemon in self._daemons.values():
                daemon.wait(timeout=10)
        finally:
            self._daemons.clear()
            if self._directory is not None and not os.environ.get("CEPHCAPS_KEEP"):
                shutil.rmtree(self._directory, ignore_errors=True)
            if self._guardian is not None:
                assert self._guardian.stdin is not None
                self._guardian.stdin.close()
                self._guardian.wait(timeout=10)
                self._guardian = None

    def start_daemon(self, name: str) -> None:
        """Start a daemon, or one that was killed again; returns once it answers on its admin socket."""
        assert name not in self._daemons, f"{name} runs already"
        attempts = RESTART_ATTEMPTS
        while True:
            self._launch(name)
            try:
                self._wait_for_answer(name)
                return
            except ChildProcessError:
                attempts -= 1
                # The monitor's port is free only while no outgoing connection of this machine happens to use it.
                if not attempts or not self._could_not_bind(name):
                    raise
                time.sleep(1)

    def kill_daemon(self, name: str, sig: int = signal.SIGKILL) -> None:
        """End one daemon and wait until it is gone; SIGTERM lets it say goodbye to the monitor."""
        daemon = self._daemons.pop(name)
        with contextlib.suppress(ProcessLookupError):
            daemon.send_signal(sig)
            if sig != signal.SIGKILL:
                daemon.send_signal(signal.SIGCONT)
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(timeout=10)

    def guard(self, name: str, pid: int) -> None:
        """End that process, too, if this one dies first; its command line must name something in ``directory``."""
        (self.directory / "run" / f"{name}.pid").write_text(f"{pid}\n")

    def freeze_daemon(self, name: str) -> None:
        """Stop it as it stands; returns once none of its threads runs any more."""
        daemon = self._daemons[name]
        daemon.send_signal(signal.SIGSTOP)
        wait_until(lambda: all(state == "T" for state in _states(daemon.pid)), f"{name} stands still", within=10.0)

    def thaw_daemon(self, name: str) -> None:
        self._daemons[name].send_signal(signal.SIGCONT)

    # Questions

    def asok(self, name: str) -> Path:
        """The admin socket of a daemon; it keeps its name when the daemon restarts."""
        return self.directory / "run" / f"{name}.asok"

    def admin(self, name: str, command: str | dict[str, Any], *, timeout: float = 30.0) -> Any:
        """Ask one daemon on its admin socket; see ``admin_socket.ask``."""
        return ask(self.asok(name), command, timeout=timeout)

    def died(self) -> list[str]:
        """Daemons that ended without being told to, each with how; an assertion that failed in an MDS shows here."""
        return [f"{name} ended with {ended}" for name, d in self._daemons.items() if (ended := d.poll()) is not None]

    def log_tail(self, name: str, lines: int = 40) -> str:
        """The last lines a daemon or peer logged, without the questions asked here of its admin socket."""
        try:
            with (self.directory / "log" / f"{name}.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_WINDOW))
                seen = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return "\n".join([line[:LOG_WIDTH] for line in seen if line and not any(q in line for q in QUESTIONS)][-lines:])

    def log_names(self, since: float = 0.0) -> list[str]:
        """What ``log_tail`` knows and was written to since then, in seconds of the epoch."""
        return sorted(p.stem for p in (self.directory / "log").glob("*.log") if p.stat().st_mtime >= since)

    # How they start

    def _make_directory(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="cephcaps-", dir=self.release.scratch))
        for folder in ("run", "log"):
            (self._directory / folder).mkdir()
        self._start_guardian()

    def _start_guardian(self) -> None:
        keep = os.environ.get("CEPHCAPS_KEEP", "")
        self._guardian = subprocess.Popen(
            ["sh", "-c", GUARDIAN, "guardian", str(self.directory), f"{self.inner_conf.parent}/", keep],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C for pytest is not for it
        )

    def _launch(self, name: str) -> None:
        kind, _, daemon_id = name.partition(".")
        with (self.directory / "log" / f"{name}.stderr.log").open("ab") as stderr:
            self._daemons[name] = subprocess.Popen(
                self.release.command(f"ceph-{kind}", "-f", "-i", daemon_id, "-c", self.inner_conf),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=ENVIRONMENT,
                cwd=self.directory,
                start_new_session=True,
            )

    def _wait_for_answer(self, name: str) -> None:
        def answers() -> bool:
            ended = self._daemons[name].poll()
            if ended is not None:
                del self._daemons[name]
                raise ChildProcessError(f"{name} ended with {ended}: {self.log_tail(f'{name}.stderr', 10)}")
            with contextlib.suppress(OSError):
                if name.startswith("mon."):
                    return self.admin(name, "mon_status", timeout=5.0)["state"] in ("leader", "peon")
                self.admin(name, "version", timeout=5.0)
                return True
            return False

        wait_until(answers, f"{name} answers on its admin socket", within=START_LIMIT)

    def _could_not_bind(self, name: str) -> bool:
        return any("unable to bind" in self.log_tail(log) for log in (name, f"{name}.stderr"))

    def _logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.log_tail(name, 15)}" for name in self.log_names())


def _states(pid: int) -> list[str]:
    """Of each thread, its letter in /proc/PID/task/TID/stat."""
    return [path.read_text().rpartition(") ")[2][0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
