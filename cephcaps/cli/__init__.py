"""The ``cephcaps`` command. Modules here load the client inside the commands: what needs no cluster starts at once."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line ``argv``, the process's own if None, and give the exit code."""
    try:
        from cephcaps.cli.app import run

        return run(argv)
    except KeyboardInterrupt:  # while still loading
        return 130
