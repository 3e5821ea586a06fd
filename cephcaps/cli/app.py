"""The command line as a whole: its commands, CEPH_ARGS, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Final, cast

import click

from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.options import CephGroup, Settings, global_options

__all__ = ["run"]


class Commands(Mapping[str, click.Command]):
    """The commands by name; each is loaded when it is asked for, so that nobody waits for the modules of the others."""

    _ROOMS: Final = {"ls": "files", "stat": "files"}
    """The modules of `cephcaps.cli` that hold commands of other names."""
    _NAMES: Final = (
        *("decode", "demo", "doctor", "explain", "hold", "holders", "lint", "ls", "ping", "replay", "report", "serve"),
        *("stat", "status", "top"),
    )

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._NAMES:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"cephcaps.cli.{self._ROOMS.get(name, name)}"), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._NAMES)

    def __len__(self) -> int:
        return len(self._NAMES)


COMMANDS: Final = Commands()


@click.group(cls=CephGroup, commands=cast("dict[str, click.Command]", COMMANDS))
@global_options(hidden=False)
@click.version_option(package_name="cephcaps", message="cephcaps %(version)s")
def cephcaps() -> None:
    """Look at CephFS as its metadata servers show it to a client, capabilities included.

    Options stand before or after the command or in CEPH_ARGS, with dashes or underscores; the ceph.conf options that a
    client needs may be given too, such as --client-mountpoint /dir. CEPH_CONF and CEPH_KEYRING are read as well.

    Results go to stdout, everything else to stderr. The exit code is an errno, such as 2 (no such file), 13 (not
    allowed), 22 (bad usage or configuration), 110 (a request timed out); it is 1 if no monitor can be reached and 130
    after Ctrl-C. CEPHCAPS_DEBUG=1 shows where an error came from.
    """


def run(argv: Sequence[str] | None) -> int:
    """Carry out ``argv``, tell any error in one line, and give the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if os.environ.get("CEPH_ARGS"):
            from cephcaps.config import with_ceph_args

            words = with_ceph_args(words)
        code: int | None = cephcaps.main(words, prog_name="cephcaps", obj=Settings(), standalone_mode=False)
    except click.Abort:  # Ctrl-C before there was a session to close
        return 130
    except Exception as error:
        complain(error)
        return exit_code(error)
    return code or 0
