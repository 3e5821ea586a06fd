"""The command line as a whole: its commands, CEPH_ARGS, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from cephcaps.cli.decode import decode
from cephcaps.cli.demo import demo
from cephcaps.cli.doctor import doctor
from cephcaps.cli.explain import explain
from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.files import ls, stat
from cephcaps.cli.hold import hold
from cephcaps.cli.holders import holders
from cephcaps.cli.lint import lint
from cephcaps.cli.options import CephGroup, Settings, global_options
from cephcaps.cli.ping import ping
from cephcaps.cli.replay import replay
from cephcaps.cli.report import report
from cephcaps.cli.serve import serve
from cephcaps.cli.status import status
from cephcaps.cli.top import top

__all__ = ["run"]


@click.group(cls=CephGroup)
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


COMMANDS = (decode, demo, doctor, explain, hold, holders, lint, ls, ping, replay, report, serve, stat, status, top)
for _command in COMMANDS:
    cephcaps.add_command(_command)


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
