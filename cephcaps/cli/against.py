"""``cephcaps replay --against``: what captured clients asked, asked of another file system's MDSs."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Final, assert_never

import click

from cephcaps.cli.captures import Unreadable, items_of, opened
from cephcaps.cli.decode import STEP
from cephcaps.cli.failures import complain, exit_code
from cephcaps.cli.output import emit, emit_json, escaped, name_facts
from cephcaps.cli.progress import Progress
from cephcaps.cli.running import run
from cephcaps.client import REQUEST_TIMEOUT, Client, connect
from cephcaps.errors import CephError, MdsError
from cephcaps.trace.items import Item, Problem, Traced
from cephcaps.trace.replay.against import Await, Close, Leave, Plan, Send, Step
from cephcaps.trace.replay.verdict import KINDS, Answered, Divergence, Tally

if TYPE_CHECKING:
    from cephcaps.auth.crypto import CryptoKey
    from cephcaps.cli.options import Settings
    from cephcaps.core import Request
    from cephcaps.trace.replay.steps import Client as Captured

__all__ = ["Against"]

DIVERGES: Final = 1
"""Exit code where something came out otherwise."""
TOLD: Final = 10_000
"""Divergences that are listed; further ones are only counted."""
NS: Final = 1e9


class Against:
    """One run of the command.

    Args:
        conf: ceph.conf of the cluster to ask.
        speed: how many times as fast as captured; None is as fast as the answers come.
        clients: global ids of those to replay; empty for all.
        keys: open secure connections of the capture.
    """

    def __init__(
        self,
        settings: Settings,
        conf: str,
        speed: float | None,
        clients: Collection[int],
        keys: dict[str, CryptoKey] | None,
        *,
        only_counts: bool,
    ) -> None:
        self._settings = settings
        # -k is for the capture; that cluster's own keyring stands in its ceph.conf.
        settings.given = {name: value for name, value in settings.given.items() if name != "keyring"} | {"conf": conf}
        self._patience: float = settings.given.get("request_timeout", REQUEST_TIMEOUT)
        self._speed = speed
        self._wanted = clients
        self._keys = keys
        self._only_counts = only_counts
        self._progress = Progress()
        self._clients: dict[Captured, Client] = {}
        self._joined = 0
        self._spare: Client | None = None
        """Connected, and nobody's yet."""
        self._asked: dict[int, asyncio.Task[Answered]] = {}
        self._divergences: list[Divergence] = []
        self._problems: Counter[str] = Counter()
        self._lost: list[str] = []
        """What went wrong as clients left."""
        self._start: int | None = None
        self._began = 0.0

    def run(self, name: str) -> int:
        """Replay the file ``name``; the exit code."""
        try:
            with opened(name, lambda: None) as file, self._progress.over(name, file):
                tallies = run(self._replay, items_of(name, file, self._keys))
        except Unreadable as error:
            complain(error)
            return exit_code(error)
        self._show(tallies)
        for line in self._last_words(tallies):
            click.echo(f"cephcaps: {escaped(line)}", err=True)
        if self._lost or any(one.divergences for one in tallies.values()):
            return DIVERGES
        return 0 if any(one.requests for one in tallies.values()) else errno.ENODATA

    # The shell around the plan

    async def _replay(self, items: Iterator[Item]) -> dict[Captured, Tally]:
        self._spare = self._settings.connect()
        await self._spare.__aenter__()
        try:
            plan = Plan(self._spare.root_ino, self._found, self._wanted)
            for count, item in enumerate(items):
                if not count % STEP:
                    self._progress.step()
                    await asyncio.sleep(0)  # what we hold may be asked back
                if isinstance(item, Problem):
                    self._problems[item.kind] += 1
                else:
                    await self._due(item)
                for step in plan.take(item):
                    await self._carry_out(plan, step)
            for step in plan.end():
                await self._carry_out(plan, step)
        finally:
            for asked in self._asked.values():
                asked.cancel()
            for client in [*self._clients, None]:
                await self._leave(client)
        return plan.tallies

    async def _due(self, item: Traced) -> None:
        """Wait until as much time has gone by as the speed asks for."""
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start, self._began = item.ns, loop.time()
        if self._speed is not None:
            await asyncio.sleep(self._began + (item.ns - self._start) / NS / self._speed - loop.time())

    async def _carry_out(self, plan: Plan, step: Step) -> None:
        match step:
            case Send():
                client = await self._client(step.client)
                self._asked[step.number] = asyncio.create_task(_ask(client, step.request))
            case Await():
                plan.answered(step.number, await self._answer(self._asked.pop(step.number)))
            case Close():
                if (opener := self._clients.get(step.client)) is not None:
                    opener.close_inode(step.ino, step.mode)
            case Leave():
                await self._leave(step.client)
            case _:
                assert_never(step)

    async def _answer(self, asked: asyncio.Task[Answered]) -> Answered:
        """What comes of it, by the time at which it had been answered in the capture and our patience after it."""
        try:
            return await asyncio.wait_for(asked, self._patience)
        except TimeoutError:
            return Answered(None, why=f"none within {self._patience:g} s")

    async def _client(self, captured: Captured) -> Client:
        """Who asks in the name of a captured client."""
        client = self._clients.get(captured)
        if client is None:
            client, self._spare = self._spare, None
            if client is None:
                given = dict(self._settings.given)
                if "record" in given:  # a recording is one client's
                    given["record"] = f"{given['record']}.{self._joined}"
                client = connect(**given)
                await client.__aenter__()
            self._joined += 1
            self._clients[captured] = client
        return client

    async def _leave(self, captured: Captured | None) -> None:
        if captured is None:
            client, self._spare = self._spare, None
        else:
            client = self._clients.pop(captured, None)
        if client is not None:
            try:
                await client.__aexit__(None, None, None)
            except CephError as error:
                self._lost.append(f"as {_name(captured or '')} left: {error}")

    # What it has come to

    def _found(self, found: Divergence) -> None:
        if len(self._divergences) < TOLD:
            self._divergences.append(found)

    def _show(self, tallies: dict[Captured, Tally]) -> None:
        told = [] if self._only_counts else self._divergences
        if self._settings.format == "plain":
            lines = [*map(self._line, told), *_table(tallies)]
            emit("".join(f"{escaped(line)}\n" for line in lines))
            return
        facts: dict[str, Any] = {
            "clients": [
                {
                    "client": client,
                    "requests": one.requests,
                    "flushes": one.flushes,
                    "divergences": one.divergences,
                    "passed_over": one.passed_over,
                }
                for client, one in tallies.items()
            ],
            "problems": dict(self._problems),
        }
        if not self._only_counts:
            facts["divergences"] = [_facts(one) for one in told]
        emit_json(facts, pretty=self._settings.pretty)

    def _line(self, one: Divergence) -> str:
        at = (one.ns - (self._start or 0)) / NS
        what = f"{one.op} tid {one.tid}  {one.ino:#x} {one.path}"
        return f"{at:12.6f}  {_name(one.client)}  {what}  {one.kind}: captured {one.captured}, here {one.replayed}"

    def _last_words(self, tallies: dict[Captured, Tally]) -> Iterator[str]:
        more = sum(one.divergences for one in tallies.values()) - len(self._divergences)
        if more and not self._only_counts:
            yield f"{more} more divergences are not listed"
        for kind in dict.fromkeys(one.kind for one in self._divergences):
            yield f"{kind}: {KINDS[kind]}"
        passed: Counter[str] = Counter()
        for one in tallies.values():
            passed.update(one.passed_over)
        yield from (f"not replayed: {what} ({count})" for what, count in passed.items())
        yield from self._lost
        if self._problems:
            said = ", ".join(f"{count} {kind}" for kind, count in self._problems.items())
            yield f"the capture has problems: {said}; what was asked then may be missing"


async def _ask(client: Client, request: Request) -> Answered:
    try:
        # Below the calls of the public API, which look names up themselves: what was captured is what is asked.
        done = await client._running.call(request, None)
    except MdsError as error:
        return Answered(error.errno)
    except (CephError, ValueError) as error:
        return Answered(None, why=str(error))
    return Answered(0, getattr(done, "reply", None))


def _facts(one: Divergence) -> dict[str, Any]:
    return {
        "client": one.client,
        "ns": one.ns,
        "op": one.op,
        "tid": one.tid,
        "ino": f"{one.ino:#x}",
        **name_facts("path", one.path),
        "kind": one.kind,
        "captured": one.captured,
        "replayed": one.replayed,
    }


def _table(tallies: dict[Captured, Tally]) -> Iterator[str]:
    rows = [["client", "requests", "flushes", "divergences"]]
    for client, one in sorted(tallies.items(), key=lambda pair: str(pair[0])):
        rows.append([_name(client), *map(str, (one.requests, one.flushes, one.divergences))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join((row[0].ljust(widths[0]), *cells))


def _name(client: Captured) -> str:
    return f"client.{client}" if isinstance(client, int) else client
