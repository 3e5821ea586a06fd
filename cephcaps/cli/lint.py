"""``cephcaps lint``: what a captured client did wrong. Loads nothing of the network."""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.captures import Unreadable, items_of, opened
from cephcaps.cli.decode import STEP, numbers
from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, escaped, iso_time, name_facts
from cephcaps.cli.progress import Progress

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.trace.items import Item
    from cephcaps.trace.lint import Finding

__all__ = ["lint"]

BROKEN = 1
"""Exit code where a rule was broken."""


def rule_names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    """Type of an option: names of rules, several with commas."""
    names = frozenset(part.strip() for value in values for part in value.split(","))
    if names:
        from cephcaps.trace.lint import RULES

        if unknown := sorted(names - set(RULES)):
            raise click.BadParameter(f"{unknown[0]!r} is no rule; they are {', '.join(RULES)}")
    return names


@click.command(cls=CephCommand)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--rule", "rules", metavar="NAME", multiple=True, callback=rule_names, help="Judge by this rule only.")
@click.option("--client", "clients", metavar="ID", multiple=True, callback=numbers("client."), help="Only this client.")
@global_options()
@click.pass_obj
def lint(settings: Settings, files: tuple[str, ...], rules: frozenset[str], clients: tuple[int, ...]) -> int:
    """Judge captured clients by the protocol's rules.

    FILE is a pcap or pcapng of any client, as for decode; - is stdin. Secure connections are read with -k KEYRING and a
    capture that has the client's login at a monitor.

    \b
      cephcaps lint mds.pcapng
      cephcaps lint --rule revoke-unanswered,revoke-late --client 4123 -f json mds.pcapng

    Each finding names the rule, the client, the rank, the inode, the bits, the seq, how long something has been owed,
    and what both sides said last about the inode. Nothing is held against a client that the capture does not show:
    what began before it or lies in a gap is not judged. What each rule asks, and where that is written, is in
    docs/lint.md and in the JSON.

    The exit code is 1 if a rule was broken, 0 if none was, and 61 (ENODATA) if the capture has no message between a
    client and an MDS that could be read.
    """
    from cephcaps.cli.trace_keys import trace_keys

    return Linting(settings, rules, frozenset(clients), trace_keys(settings.given)).run(files)


class Linting:
    """One run of the command."""

    def __init__(
        self, settings: Settings, rules: frozenset[str], clients: frozenset[int], keys: dict[str, CryptoKey] | None
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._clients = clients
        self._keys = keys
        self._progress = Progress()
        self._output = _Output(settings)
        self._counts: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._messages = 0

    def run(self, files: tuple[str, ...]) -> int:
        """Judge what is in ``files``; the exit code."""
        code = 0
        try:
            for name in files:
                failed = self._file(name, name if len(files) > 1 else None)
                code = code or failed
        except KeyboardInterrupt:
            self._output.end()
            return 128 + signal.SIGINT
        self._output.end()
        if self._messages or not code:
            click.echo(f"cephcaps: {self._closing_line()}", err=True)
        if code:
            return code
        if self._counts:
            return BROKEN
        return 0 if self._messages else errno.ENODATA

    def _file(self, name: str, shown_as: str | None) -> int:
        from cephcaps.trace.lint import Linter

        linter = Linter(self._rules, self._clients)
        code = 0
        try:
            with opened(name, self._output.flush) as file, self._progress.over(name, file):
                self._items(linter, items_of(name, file, self._keys), shown_as)
        except Unreadable as error:
            self._output.flush()
            complain(error)
            code = exit_code(error)
        if not code:
            for finding in linter.finish():
                self._output.finding(finding, shown_as)
        self._counts += linter.counts
        self._messages += linter.messages
        return code

    def _items(self, linter: Any, items: Iterator[Item], shown_as: str | None) -> None:
        from cephcaps.trace.items import Problem

        take = linter.take
        for count, item in enumerate(items):
            if not count % STEP:
                self._progress.step()
            if isinstance(item, Problem):
                self._problems[item.kind] += 1
            for finding in take(item):
                self._output.finding(finding, shown_as)

    def _closing_line(self) -> str:
        total = sum(self._counts.values())
        found = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
        line = f"{total} finding{'' if total == 1 else 's'} in {self._messages} messages between clients and MDSs"
        line += f": {found}" if found else ""
        untold = total - self._output.told
        if untold:
            line += f"; {untold} of them are not shown"
        if self._problems:
            missing = ", ".join(f"{count} {kind}" for kind, count in self._problems.items())
            line += f"; not all could be read ({missing}), what that leaves uncertain is not judged"
        return line


class _Output:
    """Findings on stdout, as they come."""

    def __init__(self, settings: Settings) -> None:
        self._format = settings.format
        self._pretty: list[dict[str, Any]] = []
        self.told = 0
        self._waiting: list[str] = []

    def finding(self, finding: Finding, file: str | None) -> None:
        self.told += 1
        if self._format == "plain":
            self._waiting.append(_plain(finding, file))
        elif self._format == "json":
            emit_json(_facts(finding, file), pretty=False)
        else:
            self._pretty.append(_facts(finding, file))
        if len(self._waiting) > STEP:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            emit("".join(self._waiting))
            self._waiting.clear()

    def end(self) -> None:
        self.flush()
        if self._format == "json-pretty":
            emit_json(self._pretty, pretty=True)


def _plain(finding: Finding, file: str | None) -> str:
    """A finding for people: what, then why on lines of their own."""
    from cephcaps.trace.view import duration
    from cephcaps.trace.words import CAPS

    parts = [f"{file}: {finding.rule.name}" if file else finding.rule.name]
    parts += [_client(finding.client), finding.daemon if finding.rank is None else f"mds.{finding.rank}"]
    if finding.ino is not None:
        parts.append(f"{finding.ino:#x} {finding.path}".rstrip())
    if finding.bits:
        parts.append(CAPS[finding.bits])
    if finding.seq is not None:
        parts.append(f"seq {finding.seq}")
    if finding.age_ns is not None:
        parts.append(f"age {duration(finding.age_ns)}")
    lines = ["  ".join(parts), f"    {iso_time(finding.ns, local=True)}  {finding.what}"]
    if finding.client_said:
        lines.append(f"    client said last: {finding.client_said}")
    if finding.mds_said:
        lines.append(f"    MDS said last:    {finding.mds_said}")
    return "".join(f"{escaped(line)}\n" for line in lines)


def _facts(finding: Finding, file: str | None) -> dict[str, Any]:
    """A finding for JSON; what it does not have is null."""
    from cephcaps.trace.words import CAPS

    told: dict[str, Any] = {"file": file} if file else {}
    told |= {
        "rule": finding.rule.name,
        "time_ns": finding.ns,
        "client": _client(finding.client),
        "daemon": finding.daemon if finding.rank is None else f"mds.{finding.rank}",
        "ino": finding.ino,
    }
    told |= {"path": None} if finding.ino is None else name_facts("path", finding.path)
    told |= {
        "caps": CAPS[finding.bits] if finding.bits else None,
        "seq": finding.seq,
        "age_ns": finding.age_ns,
        **name_facts("what", finding.what),
        "client_said": finding.client_said or None,
        **name_facts("mds_said", finding.mds_said),
        "meaning": finding.rule.meaning,
        "source": finding.rule.source,
    }
    told["mds_said"] = told["mds_said"] or None
    return told


def _client(client: int | str) -> str:
    return f"client.{client}" if isinstance(client, int) else client
