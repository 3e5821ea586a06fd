"""``cephcaps report``: a capture as a page to look at. Loads nothing of the network."""

from __future__ import annotations

import errno
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cephcaps.cli.captures import items_of, opened
from cephcaps.cli.decode import INCOMPLETE, STEP
from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit_bytes, escaped
from cephcaps.cli.progress import Progress

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.trace.report import Gathered

__all__ = ["report"]


@click.command(cls=CephCommand)
@click.argument("file")
@click.option("-o", "--output", metavar="OUT.html", help="Where the page goes; - is stdout.")
@click.option("--perfetto", metavar="OUT.json", help="Write the same for Perfetto and chrome://tracing; - is stdout.")
@click.option("--lint/--no-lint", default=True, help="Judge the trace too; done unless told not to.")
@global_options()
@click.pass_obj
def report(settings: Settings, file: str, output: str | None, perfetto: str | None, lint: bool) -> int:
    """Show who held which caps of which file since when, in one HTML page that needs no network.

    FILE is a capture as for decode; - is stdin. Connections in secure mode are read with -k KEYRING.

    \b
      cephcaps report mds.pcapng -o mds.html
      cephcaps report mds.pcapng --perfetto mds.json
      cephcaps report mds.pcapng -f json | jq '.unanswered'

    The page has a lane for each client of an inode, red and striped while the MDS waits for bits; revokes by how long
    they took; caps held, recalled and released over time; the messages about one inode as a sequence diagram; what
    lint found. What a long capture has too much of is merged or left out, and the page says so.

    The exit code is 1 if bytes are missing, malformed or sealed; the report is made all the same.
    """
    json = settings.format != "plain"
    if output is None and perfetto is None and not json:
        raise click.UsageError("say where the page goes, with -o OUT.html, or ask for --perfetto OUT.json or -f json")
    if [output, perfetto].count("-") + json > 1:
        raise click.UsageError("only one of the page, --perfetto and -f json can go to stdout")
    for out in (output, perfetto):
        if out not in (None, "-") and file != "-" and _same(file, out):
            raise click.UsageError(f"{escaped(file)} is the capture itself")

    from cephcaps.cli.trace_keys import trace_keys
    from cephcaps.trace.report import Gathered, page, report_data

    gathered = Gathered(slices=perfetto is not None)
    findings = _take(file, trace_keys(settings.given), gathered, judge=lint)

    data = report_data(gathered, "stdin" if file == "-" else os.fsdecode(file), findings)
    if output is not None:
        _write(output, page(data))
    if perfetto is not None:
        from cephcaps.trace.report import perfetto as trace_events

        _write(perfetto, _json(trace_events(gathered, data), pretty=False))
    if json:
        from cephcaps.trace.report import spelled_out

        emit_bytes(_json(spelled_out(data), pretty=settings.pretty))
    return INCOMPLETE if gathered.summary.incomplete else 0


def _same(one: str, other: str | None) -> bool:
    try:
        return other is not None and os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _take(name: str, keys: dict[str, CryptoKey] | None, gathered: Gathered, *, judge: bool) -> list[Any] | None:
    """Take in what a capture holds; what lint finds in it, None if it is not asked.

    Raises:
        Unreadable: it is none, or its file fails.
    """
    linter, progress = _linter() if judge else None, Progress()
    findings: list[Any] = []
    with opened(name, lambda: None) as file, progress.over(name, file):
        for number, item in enumerate(items_of(name, file, keys)):
            gathered.take(item)
            if linter is not None:
                findings += linter.take(item)
            if not number % STEP:
                progress.step()
    return None if linter is None else findings + linter.finish()


def _linter() -> Any:
    """Judges a trace item by item; None where there is no lint."""
    if find_spec("cephcaps.trace.lint") is None:
        return None
    from cephcaps.trace.lint import Linter

    return Linter()


def _write(name: str, raw: bytes) -> None:
    if name == "-":
        emit_bytes(raw)
        return
    try:
        with _created(name) as file:
            file.write(raw)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


def _created(name: str) -> BinaryIO:
    try:
        return open(name, "wb")
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None


def _json(told: Any, *, pretty: bool) -> bytes:
    import msgspec

    from cephcaps.cli.trace_output import spelled

    try:
        raw = msgspec.json.encode(told)
    except UnicodeEncodeError:  # a name that is no UTF-8
        raw = msgspec.json.encode(spelled(told))
    return (msgspec.json.format(raw, indent=4) if pretty else raw) + b"\n"
