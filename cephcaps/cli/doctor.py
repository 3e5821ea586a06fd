"""``cephcaps doctor``: which client, inode, bits and age stand behind a health warning about clients."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from cephcaps.cli.holders import MANY_CAPS, facts_of
from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit, emit_json, escaped
from cephcaps.cli.running import run

if TYPE_CHECKING:
    from cephcaps.cli.mds_view import SeenClient
    from cephcaps.client import Client

__all__ = ["doctor"]

CLIENT_CHECKS = ("MDS_CLIENT_LATE_RELEASE", "MDS_CLIENT_RECALL", "MDS_CLIENT_OLDEST_TID")
"""Health checks that name a client (ceph: src/mds/Beacon.cc, ``notify_health``)."""
OLD = 5.0
"""Seconds after which a revoke or a request counts as late."""
LIMITS = {
    "num_caps": "mds_max_caps_per_client",
    "num_completed_requests": "mds_max_completed_requests",
    "num_completed_flushes": "mds_max_completed_flushes",
}
"""What a session has, and the option that bounds it: past the first its MDS asks caps back; past the others it warns
that the client does not advance its oldest tid (ceph: src/mds/Server.cc)."""
NEAR = 0.8
"""Share of a limit from which it is told."""


@click.command(cls=CephCommand)
@global_options()
@click.pass_obj
def doctor(settings: Settings) -> int:
    """Tell which client, inode, bits and age stand behind LATE_RELEASE, RECALL and OLDEST_TID warnings.

    \b
      cephcaps doctor
      cephcaps doctor -f json

    Reads health detail, the MDSs' sessions, their caps and the requests that wait; changes nothing. Revokes that are
    late are told before Ceph warns of them, which is after a minute. The key needs `mds 'allow *'` and `mon 'allow r'`.

    The exit code is 1 if there is something to tell.
    """
    facts = run(_doctor, settings)
    if settings.format != "plain":
        emit_json(facts, pretty=settings.pretty)
    else:
        emit("".join(f"{line}\n" for line in _lines(facts)))
    return 1 if any(facts[kind] for kind in ("health", "revokes", "waiting", "limits")) else 0


async def _doctor(settings: Settings) -> dict[str, Any]:
    from cephcaps.cli.mds_view import active_ranks, ids_in

    async with settings.connect(mount=False) as client:
        said = json.loads(await client.mon_command({"prefix": "health", "detail": "detail", "format": "json"}))
        health = [
            {"check": check, "message": detail["message"]}
            for check, found in said.get("checks", {}).items()
            if check in CLIENT_CHECKS
            for detail in found["detail"]
        ]
        named = {ids for line in health if (ids := ids_in(line["message"])) is not None}
        facts: dict[str, Any] = {"health": health, "revokes": [], "waiting": [], "limits": [], "unseen": []}
        for rank in active_ranks(client):
            await _look_at(client, rank, {id for at, id in named if at == rank}, facts)
        return facts


async def _look_at(client: Client, rank: int, named: set[int], facts: dict[str, Any]) -> None:
    """Add what is to be told of ``rank``, where these clients are ``named`` by a warning."""
    from cephcaps.cli.mds_view import dump_inode, holdings, sessions, waiting

    seen = await sessions(client, rank)
    others = [one for one in seen.values() if one.id != client.global_id]
    all_caps = sum(one.num_caps for one in others)
    suspects = {one.id for one in others} if all_caps <= MANY_CAPS else named & seen.keys()
    if all_caps > MANY_CAPS:
        facts["unseen"].append({"rank": rank, "clients": len(others) - len(suspects), "caps": all_caps})
    held = await holdings(client, rank, sorted(suspects))
    now = time.time()
    late = [one for one in held if one.revoking and (now - one.told_at > OLD or one.client.id in named)]
    ops = [op for op in await waiting(client, rank) if op.blocked and op.age > OLD]
    told: set[str] = set()
    for one in sorted(late, key=lambda one: one.told_at):
        dumped = await dump_inode(client, rank, one.ino)
        path, asked_back = dumped.path, dumped.asked_back.get(one.client.id, one.asked_back)
        behind = [op for op in ops if op.names(one.ino, path)]
        told |= {op.description for op in behind}
        facts["revokes"].append(
            {"ino": f"{one.ino:#x}", "path": path, **facts_of(one, asked_back, now), "who": str(one.client)}
            | {"waiting": [_op(op, seen) for op in behind]}
        )
    facts["waiting"] += [_op(op, seen) for op in ops if op.description not in told]
    facts["limits"] += await _limits(client, rank, others)


def _op(op: Any, seen: dict[int, SeenClient]) -> dict[str, Any]:
    who = seen.get(op.client_id)
    return {
        "rank": op.rank,
        "client": op.client_id,
        "who": str(who) if who is not None else None,
        "request": op.description,
        "state": op.state,
        "age_s": round(op.age, 3),
    }


async def _limits(client: Client, rank: int, others: list[SeenClient]) -> list[dict[str, Any]]:
    """What is at or near a limit: a client's counts, and the rank's memory."""
    from cephcaps.cli.mds_view import asked

    found = []
    for count, option in LIMITS.items():
        limit = int((await asked(client, rank, "config get", var=option))[option])
        for one in others:
            value = one.facts.get(count, 0)
            if limit and value >= NEAR * limit:
                found.append(
                    {"rank": rank, "who": str(one), "what": count, "value": value, "limit": limit} | {"option": option}
                )
    option = "mds_cache_memory_limit"
    limit = int((await asked(client, rank, "config get", var=option))[option])
    used = (await asked(client, rank, "cache status"))["pool"]["bytes"]
    if limit and used >= limit:
        found.append(
            {"rank": rank, "who": f"mds.{rank}", "what": "cache bytes", "value": used, "limit": limit}
            | {"option": option}
        )
    return found


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{found['check']}: {escaped(found['message'])}" for found in facts["health"]]
    for one in facts["revokes"]:
        bits = "all that it was asked for" if one["asked_back"] == "unknown" else one["asked_back"]
        where = f"{one['ino']} {one['path']}" if one["path"] else one["ino"]
        lines.append(
            escaped(f"mds.{one['rank']}: {one['who']} has not given back {bits} of {where} for {one['age_s']:.0f} s")
        )
        lines.append(f"  it may keep {one['holds']} and wants {one['wants']}; at {one['addr']}")
        lines += [f"  waits for it: {_waits(op)}" for op in one["waiting"]]
    lines += [f"mds.{op['rank']}: {_waits(op)}" for op in facts["waiting"]]
    for near in facts["limits"]:
        lines.append(
            escaped(
                f"mds.{near['rank']}: {near['who']} has {near['what']} {near['value']}; "
                f"{near['option']} is {near['limit']}"
            )
        )
    for rank in facts["unseen"]:
        lines.append(
            f"mds.{rank['rank']}: {rank['clients']} clients that no warning names were not looked at: "
            f"{rank['caps']} caps are too many to go through without holding the MDS up"
        )
    return lines or ["no client is late: nothing was asked back for more than 5 s, and no limit is near"]


def _waits(op: dict[str, Any]) -> str:
    return escaped(f"{op['who'] or 'a client that is gone'}: {op['request']}, for {op['age_s']:.0f} s ({op['state']})")
