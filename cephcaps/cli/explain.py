"""``cephcaps explain``: what capability bits mean. Loads nothing of the network."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, on_terminal
from cephwire.capbits import CAP_BITS, cap_string, parse_caps

__all__ = ["explain"]

WIDEST = 120


@click.command(cls=CephCommand)
@click.argument("caps", metavar="CAPS")
@global_options()
@click.pass_obj
def explain(settings: Settings, caps: str) -> None:
    """Say what capability bits allow.

    CAPS are written as Ceph prints them, pAsLsXsFscr, or as a number, 0xd55 or 3413; - is none.

    \b
      cephcaps explain pAsLsXsFscr
      cephcaps explain -f json 0xd55
    """
    try:
        bits = parse_caps(caps)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if settings.format == "plain":
        emit(_plain(bits))
    else:
        emit_json(_facts(bits), pretty=settings.pretty)


def _facts(bits: int) -> dict[str, Any]:
    return {
        "caps": cap_string(bits),
        "bits": bits,
        "hex": f"{bits:#x}",
        "allows": [
            {
                "caps": cap.short,
                "bits": cap.bit,
                "name": cap.name.lower(),
                "meaning": cap.meaning,
                "on_directory": cap.on_directory or cap.meaning,
            }
            for cap in CAP_BITS
            if bits & cap.bit
        ],
    }


def _plain(bits: int) -> str:
    width = min(shutil.get_terminal_size().columns, WIDEST) if on_terminal() else WIDEST
    lines = [f"{cap_string(bits)} = {bits:#x} = {bits}"]
    for cap in CAP_BITS:
        if bits & cap.bit:
            head = f"  {cap.short:<2}  {cap.bit:#06x}  {cap.name.lower():<13}  "
            lines += _wrapped(head, cap.meaning, width)
            if cap.on_directory:
                lines += _wrapped(" " * len(head), f"on a directory: {cap.on_directory}", width)
    if not bits:
        lines.append("  nothing, not even to refer to the inode")
    return "\n".join(lines) + "\n"


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))
