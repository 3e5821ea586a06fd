"""``cephcaps decode``: the messages of a capture. Loads nothing of the network."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, escaped, iso_time
from cephcaps.cli.progress import Progress
from cephcaps.errors import CephError

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.cli.trace_output import Output
    from cephcaps.trace.items import Item
    from cephcaps.trace.selection import Moment, Selection

__all__ = ["decode"]

INCOMPLETE = 1
"""Exit code where something of a capture is missing or could not be decoded."""
STEP = 2048
"""Messages after which progress is shown anew."""


class Unreadable(CephError):
    """A file that is no capture, or cannot be read further.

    Attributes:
        errno: what the operating system says, or EINVAL.
    """

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


def numbers(prefix: str = "") -> Callable[[Any, Any, tuple[str, ...]], tuple[int, ...]]:
    """Type of an option: numbers, decimal or 0x, several with commas; ``prefix`` may stand before each."""

    def parse(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
        found = []
        for text in (part.strip() for value in values for part in value.split(",")):
            try:
                found.append(int(text.removeprefix(prefix), 0))
            except ValueError:
                raise click.BadParameter(f"{text!r} is no number, decimal or 0x hexadecimal") from None
        return tuple(found)

    return parse


def types(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Type of an option: patterns of message types, several with commas."""
    if not values:
        return ()
    from cephcaps.trace.selection import type_pattern

    try:
        return tuple(type_pattern(part) for value in values for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(ctx: click.Context, param: click.Parameter, text: str | None) -> Moment | None:
    """Type of an option: a time in the trace."""
    if text is None:
        return None
    from cephcaps.trace.selection import Moment

    try:
        return Moment.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=CephCommand)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--type", "wanted", metavar="TYPE", multiple=True, callback=types, help="Only messages of this type.")
@click.option("--ino", "inos", metavar="INO", multiple=True, callback=numbers(), help="Only what is about this inode.")
@click.option("--client", "clients", metavar="ID", multiple=True, callback=numbers("client."), help="Only this client.")
@click.option("--rank", "ranks", metavar="N", multiple=True, callback=numbers("mds."), help="Only this MDS rank.")
@click.option("--since", metavar="TIME", callback=moment, help="Only from then on: seconds, or a date and time.")
@click.option("--until", metavar="TIME", callback=moment, help="Only until then.")
@click.option("--absolute", is_flag=True, help="Show local time, not seconds since the first message.")
@click.option("--problems/--no-problems", default=True, help="Tell what could not be read; done unless told not to.")
@click.option("--summary", is_flag=True, help="Show counts only.")
@global_options()
@click.pass_obj
def decode(
    settings: Settings,
    files: tuple[str, ...],
    wanted: tuple[str, ...],
    inos: tuple[int, ...],
    clients: tuple[int, ...],
    ranks: tuple[int, ...],
    since: Moment | None,
    until: Moment | None,
    absolute: bool,
    problems: bool,
    summary: bool,
) -> int:
    """Show the messages between clients and daemons in captured traffic, both directions.

    FILE is a pcap or pcapng of any client, as tcpdump, dumpcap or --record write it; - is stdin, which may be a capture
    still running. Messenger v1 and v2 are read as they are, secure connections with -k KEYRING (or --key, --keyfile)
    and a capture that has the client's login at a monitor.

    \b
      cephcaps decode --ino 0x10000000003 mds.pcapng
      cephcaps decode --type 'client_caps(revoke)' --client 4123 -f json mds.pcapng
      tcpdump -i any -s 0 -U -w - portrange 6800-7568 | cephcaps decode -

    A TYPE is a name, a number, a pattern such as client_*, or one of these with an op in brackets. Options may be
    repeated, or have several values with commas. Messages about an inode are those that name it: grants, requests,
    replies, releases, leases, snapshots, quotas; and whatever answers such a request.

    Plain output has time, client, direction, daemon, type and what matters for the type; problems go to stderr. JSON is
    one object a line, or one array (json-pretty), with every field: caps as strings, ops in words, times in
    nanoseconds, bytes in hex; problems are objects with "problem".

    The exit code is 1 if bytes are missing, malformed or sealed; what could be read is shown all the same.
    """
    from cephcaps.cli.trace_keys import trace_keys
    from cephcaps.trace.selection import Selection

    decoding = Decoding(
        settings,
        Selection(types=wanted, inos=inos, clients=clients, ranks=ranks, since=since, until=until),
        trace_keys(settings.given),
        absolute=absolute,
        problems=problems,
        only_counts=summary,
    )
    return decoding.run(files)


class Decoding:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        keys: dict[str, CryptoKey] | None,
        *,
        absolute: bool,
        problems: bool,
        only_counts: bool,
    ) -> None:
        from cephcaps.trace.summary import Summary

        self._settings = settings
        self._selection = selection
        self._keys = keys
        self._absolute = absolute
        self._problems = problems
        self._only_counts = only_counts
        self._progress = Progress()
        self._counts = Summary()
        self._read = 0
        """Messages, whether wanted or not."""
        self._output = self._make_output()

    def _make_output(self) -> Output:
        from cephcaps.cli.trace_output import JsonOutput, NoOutput, PlainOutput
        from cephcaps.trace.table import Table

        if self._only_counts:
            return NoOutput()
        if self._settings.format != "plain":
            return JsonOutput(pretty=self._settings.pretty)
        return PlainOutput(lambda: Table(sought=self._selection.inos, absolute=self._absolute), self._progress.say)

    def run(self, files: tuple[str, ...]) -> int:
        """Show ``files`` one after the other; the exit code."""
        code = 0
        try:
            for name in files:
                self._output.begin(name if len(files) > 1 else None)
                failed = self._file(name)
                code = code or failed
        except KeyboardInterrupt:  # a capture that still runs ends like this
            self._end()
            return 128 + signal.SIGINT
        self._end()
        if not self._only_counts and (self._read or not code):
            click.echo(f"cephcaps: {self._closing_line()}", err=True)
        return code or (INCOMPLETE if self._counts.incomplete else 0)

    def _file(self, name: str) -> int:
        """Show one file; the exit code if it could not be read."""
        try:
            with opened(name, self._output.flush) as file, self._progress.over(name, file):
                self._items(_items(name, file, self._keys))
        except Unreadable as error:
            self._output.flush()
            complain(error)
            return exit_code(error)
        for line in self._output.last_words(self._selection.wants_revoke):
            self._progress.say(f"cephcaps: {line}")
        return 0

    def _items(self, items: Iterator[Item]) -> None:
        from cephcaps.trace.items import Traced

        output, counts, wants = self._output, self._counts, self._selection.wants
        everything = self._selection.everything
        for item in items:
            wanted = everything or wants(item)
            if isinstance(item, Traced):
                self._read += 1
                if not self._read % STEP:
                    self._progress.step()
                if wanted:
                    counts.message(item)
                output.message(item, wanted)
            elif wanted:
                counts.problem(item)
                if self._problems:
                    output.problem(item)

    def _end(self) -> None:
        from cephcaps.cli.trace_output import summary_text

        self._output.end()
        if self._only_counts and self._settings.format == "plain":
            emit(summary_text(self._counts.facts()))
        elif self._only_counts:
            import msgspec

            emit_json(msgspec.to_builtins(self._counts.facts()), pretty=self._settings.pretty)

    def _closing_line(self) -> str:
        told = self._counts.facts()
        sent = sum(count.to_daemon for count in told.types)
        of = "" if self._selection.everything else f" of {self._read}"
        since = "" if told.first_ns is None else f" from {iso_time(told.first_ns, local=True)}"
        problems = ", ".join(
            f"{count.count} {count.problem}{f' ({count.bytes} bytes)' if count.bytes else ''}"
            for count in told.problems
        )
        return (
            f"{told.messages}{of} messages{since}, {sent} to daemons and {told.messages - sent} to clients; "
            f"{told.bytes} bytes, {told.leftover} left over, {told.malformed} malformed; problems: {problems or 'none'}"
        )


def _items(name: str, file: BinaryIO, keys: dict[str, CryptoKey] | None) -> Iterator[Item]:
    """What a capture holds; Unreadable where it is none, or its file fails."""
    from cephcaps.trace.capture import NotACapture
    from cephcaps.trace.read import read_trace

    try:
        yield from read_trace(file, keys)
    except NotACapture as error:
        raise Unreadable(f"{escaped(name)}: {error}", errno.EINVAL) from None
    except OSError as error:
        raise Unreadable(f"{escaped(name)}: {error.strerror}", error.errno or errno.EIO) from None


@contextmanager
def opened(name: str, before_waiting: Callable[[], None]) -> Iterator[BinaryIO]:
    """The file ``name``; stdin for -.

    Args:
        before_waiting: is called before each read of a pipe: who follows a capture wants to see what there is.
    """
    with _open(name) as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        yield file if regular else cast(BinaryIO, Following(file, before_waiting))


def _open(name: str) -> BinaryIO:
    if name == "-" and sys.stdin is None:
        raise Unreadable(f"stdin: {os.strerror(errno.EBADF)}", errno.EBADF)
    try:
        return open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-")
    except OSError as error:
        raise Unreadable(f"{escaped(name)}: {error.strerror}", error.errno or errno.EIO) from None
    except ValueError:  # a NUL in the name
        raise Unreadable(f"{escaped(name)}: {os.strerror(errno.ENOENT)}", errno.ENOENT) from None


class Following:
    """A pipe, or whatever else may make its reader wait."""

    def __init__(self, file: BinaryIO, before_waiting: Callable[[], None]) -> None:
        self._file = file
        self._before_waiting = before_waiting
        self.fileno: Callable[[], int] = file.fileno

    def read1(self, size: int) -> bytes:
        self._before_waiting()
        return os.read(self._file.fileno(), size)

    read = read1
