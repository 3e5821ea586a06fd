"""What a replay has found, for people and for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.rules import RULES
from cephcaps.trace.replay.said import Said
from cephcaps.trace.replay.steps import Client
from cephcaps.trace.words import CAPS

__all__ = ["difference_facts", "difference_lines", "rule_facts", "said_facts", "tally_facts", "tally_lines"]


def said_facts(said: Said | None) -> dict[str, Any] | None:
    """All that was said of the cap; fields its message does not have are left out."""
    if said is None:
        return None
    facts: dict[str, Any] = {"op": said.op, "cap_id": said.cap_id}
    if said.op != "caprelease":
        facts |= {"caps": CAPS[said.caps], "wanted": CAPS[said.wanted], "dirty": CAPS[said.dirty], "seq": said.seq}
    facts |= {"issue_seq": said.issue_seq, "mseq": said.mseq}
    if said.tid:
        facts["flush_tid"] = said.tid
    if said.op == "flushsnap":
        facts["follows"] = said.follows
    return facts


def _said_text(said: Said | None) -> str:
    facts = said_facts(said)
    if facts is None:
        return "nothing"
    op = facts.pop("op")
    return "  ".join((op, *(f"{name} {value}" for name, value in facts.items())))


def difference_facts(found: Difference, path: str) -> dict[str, Any]:
    return {
        "client": found.client,
        "rank": found.rank,
        "ino": f"{found.ino:#x}",
        "path": path,
        "ns": found.ns,
        "sent": said_facts(found.sent),
        "expected": said_facts(found.expected),
        "fields": list(found.fields),
        "rule": found.rule or None,
    }


def difference_lines(found: Iterable[Difference], path: Callable[[Difference], str], start: int) -> Iterator[str]:
    """The differences, by client and inode."""
    ordered = sorted(found, key=lambda one: (str(one.client), one.ino, one.ns))
    before = None
    for one in ordered:
        if (one.client, one.ino) != before:
            before = one.client, one.ino
            yield f"{_client(one.client)}  {one.ino:#x} {path(one)}"
        yield f"  {(one.ns - start) / 1e9:12.6f}  mds.{one.rank}  {_verdict(one)}"
        yield f"    sent      {_said_text(one.sent)}"
        yield f"    expected  {_said_text(one.expected)}"


def _verdict(found: Difference) -> str:
    what = f"differs in {', '.join(found.fields)}" if found.fields else "said by one only"
    return f"{what}; {f'explained by {found.rule}' if found.rule else 'UNEXPLAINED'}"


def tally_facts(client: Client, tally: Tally) -> dict[str, Any]:
    return {
        "client": client,
        "compared": tally.compared,
        "alike": tally.alike,
        "explained": dict(sorted(tally.explained.items())),
        "unexplained": tally.unexplained,
        "unjudged": tally.unjudged,
    }


def tally_lines(tallies: dict[Client, Tally]) -> Iterator[str]:
    rows = [["client", "compared", "alike", "explained", "unexplained", "unjudged"]]
    for client, one in sorted(tallies.items(), key=lambda pair: str(pair[0])):
        numbers = one.compared, one.alike, one.explained.total(), one.unexplained, one.unjudged
        rows.append([_client(client), *map(str, numbers)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join((row[0].ljust(widths[0]), *cells))
    used = sum((one.explained for one in tallies.values()), start=Tally().explained)
    for rule in RULES:
        if used[rule.name]:
            yield f"{rule.name} ({used[rule.name]}): {rule.why} [{rule.source}]"


def rule_facts() -> list[dict[str, str]]:
    return [{"name": rule.name, "why": rule.why, "source": rule.source} for rule in RULES]


def _client(client: Client) -> str:
    return f"client.{client}" if isinstance(client, int) else client
