"""What MDSs say of their clients: sessions, the caps of each, requests that wait. Nothing here changes anything.

Sources: ceph: src/mds/MDSDaemon.cc (the commands), src/mds/SessionMap.cc (``Session::dump``), src/mds/Capability.cc
(``Capability::dump``), src/common/TrackedOp.cc. Seen with Ceph 16.2 and 20.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cephcaps.caps import Caps
    from cephcaps.client import Client

__all__ = [
    "Holding",
    "InodeDump",
    "SeenClient",
    "Waiting",
    "active_ranks",
    "asked",
    "dump_inode",
    "holdings",
    "ids_in",
    "sessions",
    "waiting",
]

DUMPS_SAFELY = 20
"""Major version from which ``dump inode`` is known to survive an xattr with an empty value; 16.2 aborts on one, and
what is between was not tried."""


@dataclass(frozen=True)
class SeenClient:
    """A session as its MDS sees it."""

    id: int
    state: str
    host: str
    root: str
    """The directory it has mounted."""
    entity: str
    addr: str
    num_caps: int
    facts: dict[str, Any]
    """All that the MDS says, but for the caps."""

    def __str__(self) -> str:
        known = (self.entity, self.host and f"on {self.host}", self.root and f"mounts {self.root}")
        return f"client.{self.id} ({', '.join(filter(None, known))})"


@dataclass(frozen=True)
class Holding:
    """A client's cap on an inode."""

    rank: int
    client: SeenClient
    ino: int
    holds: Caps
    """What it may keep."""
    revoking: bool
    """It was asked to give something up, and the MDS waits for that."""
    asked_back: Caps
    """What that is, as far as is known: a client that has answered, but not as it should, hides it here; `InodeDump`
    has it."""
    wants: Caps
    told_at: float
    """When the MDS has last told it what it may have, seconds since the epoch on the MDS's clock."""


@dataclass(frozen=True)
class InodeDump:
    """What an MDS has of an inode."""

    path: str | None
    asked_back: dict[int, Caps]
    """By client, what it was to give up and still has, in the MDS's books."""


@dataclass(frozen=True)
class Waiting:
    """A request in an MDS's hands."""

    rank: int
    description: str
    """The MDS's words, such as ``client_request(client.4123:3 getattr Fs #0x10000000003 ...)``."""
    age: float
    """Seconds."""
    state: str
    """What it waits for, such as ``failed to rdlock, waiting``."""

    @property
    def client_id(self) -> int | None:
        found = re.search(r"client\.(\d+):", self.description)
        return int(found[1]) if found else None

    @property
    def blocked(self) -> bool:
        """It waits for a lock, which it gets once caps come back."""
        return "lock, waiting" in self.state

    def names(self, ino: int, path: str | None) -> bool:
        """Whether it says that it is about this inode."""
        return bool(re.search(rf"#{ino:#x}(?![0-9a-f/])", self.description)) or (
            path is not None and f"#0x1{path} " in self.description
        )


def active_ranks(client: Client) -> list[int]:
    """Ranks that serve clients, and so answer."""
    from cephwire.mdsmap import MdsState

    infos, up = client.mds_map.mds_info, client.mds_map.up
    return sorted(rank for rank, gid in up.items() if gid in infos and infos[gid].state == MdsState.ACTIVE)


async def asked(client: Client, rank: int, prefix: str, **words: Any) -> Any:
    """What the MDS of ``rank`` says to a command."""
    return json.loads(await client.mds_command(rank, {"prefix": prefix, "format": "json", **words}))


async def sessions(client: Client, rank: int) -> dict[int, SeenClient]:
    """All sessions of ``rank``, by the client's id; our own is one."""
    return {seen.id: seen for seen in map(_seen, await asked(client, rank, "session ls"))}


async def holdings(client: Client, rank: int, ids: Collection[int]) -> list[Holding]:
    """All caps of these clients at ``rank``. Long where a client has many: the MDS does nothing else meanwhile."""
    found: list[Holding] = []
    for id in ids:
        # This release wants the option as on the command line, others take it so as well.
        told = await asked(client, rank, "session ls", cap_dump="--cap-dump", filters=[f"id={id}"])
        for session in told:
            seen = _seen(session)
            found += [_holding(rank, seen, cap) for cap in session.get("caps", ())]
    return found


async def dump_inode(client: Client, rank: int, ino: int) -> InodeDump:
    """What ``rank`` has of an inode: nothing if it is not in memory there, or the MDS cannot safely be asked."""
    from cephcaps.errors import MdsError

    version = (await asked(client, rank, "version"))["version"]
    if int(version.split(".")[0]) < DUMPS_SAFELY:
        return InodeDump(None, {})
    try:
        dumped = await asked(client, rank, "dump inode", number=ino)
    except (MdsError, ValueError):
        return InodeDump(None, {})
    late = {cap["client_id"]: _caps(cap["issued"]) - _caps(cap["pending"]) for cap in dumped.get("client_caps", ())}
    return InodeDump(dumped.get("path") or None, late)


async def waiting(client: Client, rank: int) -> list[Waiting]:
    """Requests in the hands of ``rank``, the oldest first."""
    ops = (await asked(client, rank, "ops"))["ops"]
    found = [Waiting(rank, op["description"], op["age"], op["type_data"].get("flag_point", "")) for op in ops]
    return sorted(found, key=lambda op: -op.age)


def _seen(session: dict[str, Any]) -> SeenClient:
    metadata = session.get("client_metadata", {})
    return SeenClient(
        id=session["id"],
        state=session.get("state", ""),
        host=metadata.get("hostname", ""),
        root=metadata.get("root", ""),
        entity=f"client.{metadata['entity_id']}" if metadata.get("entity_id") else "",
        addr=session.get("inst", "").partition(" ")[2],
        num_caps=session.get("num_caps", 0),
        facts={key: value for key, value in session.items() if key != "caps"},
    )


def _holding(rank: int, seen: SeenClient, cap: dict[str, Any]) -> Holding:
    from cephcaps.caps import Caps

    pending = _caps(cap["pending"])
    before = Caps("")
    for revoke in cap.get("revokes", ()):
        before |= _caps(revoke["before"])
    return Holding(
        rank=rank,
        client=seen,
        ino=int(cap["ino"], 16) if isinstance(cap["ino"], str) else cap["ino"],
        holds=pending,
        revoking=bool(cap.get("revokes")),
        asked_back=before - pending,
        wants=_caps(cap["wanted"]),
        told_at=datetime.strptime(cap["last_issue_stamp"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp(),
    )


def _caps(said: str | int) -> Caps:
    from cephcaps.caps import Caps

    return Caps("" if said == "-" else said)


def ids_in(text: str) -> tuple[int, int] | None:
    """Rank and client id in a line of ``ceph health detail``; None where it does not name both."""
    rank, client = re.search(r"\(mds\.(\d+)\)", text), re.search(r"client_id: (\d+)", text)
    return (int(rank[1]), int(client[1])) if rank and client else None
