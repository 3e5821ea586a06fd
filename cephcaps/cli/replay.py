"""``cephcaps replay``: a captured client held against our own engine. Loads nothing of the network.

With ``--against`` its requests are asked of another cluster (`cephcaps.cli.against`), which does.
"""

from __future__ import annotations

import errno
import math
import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.captures import Unreadable, items_of, opened
from cephcaps.cli.decode import STEP, numbers
from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, escaped, name_facts
from cephcaps.cli.progress import Progress

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.trace.items import Flow, Item
    from cephcaps.trace.replay import Difference

__all__ = ["replay"]

DIFFERS = 1
"""Exit code where a difference is not explained."""
TOLD = 10_000
"""Differences that are listed; further ones are only counted."""


def speed(value: str) -> float:
    """Type of an option: a factor above zero."""
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise click.BadParameter(f"{value!r} is no factor above 0")
    return factor


@click.command(cls=CephCommand)
@click.argument("file", metavar="FILE")
@click.option("--client", "clients", metavar="ID", multiple=True, callback=numbers("client."), help="Only this client.")
@click.option("--ino", "inos", metavar="INO", multiple=True, callback=numbers(), help="Only what is about this inode.")
@click.option("--summary", is_flag=True, help="Show counts only.")
@click.option("--against", metavar="CONF", help="Ask what was asked of the cluster of this ceph.conf, and compare.")
@click.option("--speed", metavar="FACTOR", type=speed, help="With --against: 1 is as fast as captured, 2 twice that.")
@global_options()
@click.pass_obj
def replay(
    settings: Settings,
    file: str,
    clients: tuple[int, ...],
    inos: tuple[int, ...],
    summary: bool,
    against: str | None,
    speed: float | None,
) -> int:
    """Compare what captured clients told MDSs about caps with what this client's engine would have told them.

    FILE is a pcap or pcapng of any client, as for decode; - is stdin. Secure connections are read with -k KEYRING and a
    capture that has the client's login at a monitor.

    \b
      cephcaps replay mds.pcapng
      cephcaps replay --client 4123 --ino 0x10000000003 -f json mds.pcapng
      cephcaps replay --against /etc/ceph/test.conf mds.pcapng

    The engine is given what the MDSs sent, in the order in which the client dealt with it. What the client did by
    itself (opened, closed, changed, used, dropped) is inferred from what it says. Then both must tell the same of each
    inode, in the same order: op, caps, dirty bits, seq, issue_seq, mseq and flushes; time does not count. Differences
    are listed by inode; those that a named rule explains are nobody's fault. docs/replay.md says more.

    With --against the file system of that cluster is CHANGED: each client's requests, and what it changed under its
    caps, are asked again there, by as many clients and as soon as what came before is answered, unless --speed says
    when. What comes out otherwise is listed: error, type or identity of files, names of listings. File data are not
    replayed. Everything happens below --client-mountpoint, where that is given. -k is for the capture.

    The exit code is 1 if a difference is not explained or something came out otherwise, 0 if there is none such, and 61
    (ENODATA) if the capture has nothing that could be compared or asked.
    """
    from cephcaps.cli.trace_keys import trace_keys

    keys = trace_keys(settings.given)
    if against is None:
        if speed is not None:
            raise click.UsageError("--speed goes with --against")
        return Replaying(settings, clients, inos, keys, only_counts=summary).run(file)
    if inos:
        raise click.UsageError("--ino does not go with --against: one inode's requests need what others did before")
    from cephcaps.cli.against import Against

    return Against(settings, against, speed, clients, keys, only_counts=summary).run(file)


class Replaying:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        clients: tuple[int, ...],
        inos: tuple[int, ...],
        keys: dict[str, CryptoKey] | None,
        *,
        only_counts: bool,
    ) -> None:
        from cephcaps.trace.known import Known
        from cephcaps.trace.replay import Replay

        self._settings = settings
        self._keys = keys
        self._only_counts = only_counts
        self._progress = Progress()
        self._replay = Replay(self._found, clients, inos)
        self._known = Known()
        self._flows: dict[int | str, Flow] = {}
        self._differences: list[Difference] = []
        self._problems: Counter[str] = Counter()
        self._start = 0

    def run(self, name: str) -> int:
        """Replay the file ``name``; the exit code."""
        try:
            with opened(name, lambda: None) as file, self._progress.over(name, file):
                self._items(items_of(name, file, self._keys))
        except Unreadable as error:
            complain(error)
            return exit_code(error)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        self._replay.end()
        self._show()
        for line in self._last_words():
            click.echo(f"cephcaps: {escaped(line)}", err=True)
        tallies = self._replay.tallies.values()
        if self._replay.failures or any(one.unexplained for one in tallies):
            return DIFFERS
        return 0 if any(one.compared for one in tallies) else errno.ENODATA

    def _found(self, found: Difference) -> None:
        if len(self._differences) < TOLD:
            self._differences.append(found)

    def _items(self, items: Iterator[Item]) -> None:
        from cephcaps.trace.items import Traced

        for count, item in enumerate(items):
            if not count % STEP:
                self._progress.step()
            self._replay.take(item)
            if isinstance(item, Traced):
                self._start = self._start or item.ns
                self._known.take(item)
                flow = item.flow
                if flow.client_id is not None and len(self._flows) < TOLD:
                    self._flows.setdefault(flow.client_id, flow)
            else:
                self._problems[item.kind] += 1

    def _path(self, found: Difference) -> str:
        flow = self._flows.get(found.client)
        return self._known.path(flow, found.ino) if flow is not None else ""

    def _show(self) -> None:
        from cephcaps.trace.replay import tell

        tallies = self._replay.tallies
        told = [] if self._only_counts else self._differences
        if self._settings.format == "plain":
            lines = [*tell.difference_lines(told, self._path, self._start), *tell.tally_lines(tallies)]
            emit("".join(f"{escaped(line)}\n" for line in lines))
            return
        facts: dict[str, Any] = {
            "clients": [tell.tally_facts(client, one) for client, one in tallies.items()],
            "rules": tell.rule_facts(),
            "failures": dict(self._replay.failures),
            "problems": dict(self._problems),
        }
        if not self._only_counts:
            facts["differences"] = [
                tell.difference_facts(one, "") | name_facts("path", self._path(one)) for one in told
            ]
        emit_json(facts, pretty=self._settings.pretty)

    def _last_words(self) -> Iterator[str]:
        differences = sum(one.compared - one.alike for one in self._replay.tallies.values())
        if not self._only_counts and differences > len(self._differences):
            yield f"{differences - len(self._differences)} more differences are not listed"
        for failure, count in self._replay.failures.items():
            yield f"our engine could not take in {count} messages: {failure}"
        if self._replay.strangers:
            yield f"{self._replay.strangers} messages of further clients were passed over"
        if self._problems:
            said = ", ".join(f"{count} {kind}" for kind, count in self._problems.items())
            yield f"the capture has problems: {said}; what clients held then is not known and not judged"
