"""Which releases, ways to carry messages and kinds of keys work together: ``make compatibility`` writes the table.

Each place of docs/compatibility.md stands for one run of `work_under_conflict`, which `make test` repeats.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from typing import NamedTuple

from cephcaps import CephError, connect
from cephcaps.events import CapRevokeAcked, CapRevoking
from cephwire.codec import Codec
from cephwire.keys import CRYPTO_KEY, CryptoKey, CryptoType

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .release import RELEASES, find_release

__all__ = ["Cell", "cells", "cluster_for", "entity_for", "work_under_conflict"]

TABLE = Path(__file__).parents[2] / "docs" / "compatibility.md"
MODES = ("crc", "secure", "legacy")
AUTHS = ("aes", "aes256k", "none")
"""Kinds of cephx keys, and no authentication at all."""
NO_AUTH = "[global]\n" + "".join(f"auth {who} required = none\n" for who in ("cluster", "service", "client"))
VERSIONS = {"pacific": "16.2", "tentacle": "20.2"}
SECURE_WITHOUT_KEYS = "secure mode takes its keys from cephx"
UNKNOWN_KEYS = "this release has no such keys"
YES = "works"


class Cell(NamedTuple):
    """One place in the table."""

    release: str
    auth: str
    mode: str

    @property
    def reason(self) -> str | None:
        """Why Ceph itself has no such connection; None where it has."""
        if self.auth == "aes256k" and self.release == "pacific":
            return UNKNOWN_KEYS
        return SECURE_WITHOUT_KEYS if (self.auth, self.mode) == ("none", "secure") else None


def cells(release: str) -> list[Cell]:
    return [Cell(release, auth, mode) for auth in AUTHS for mode in MODES]


@contextmanager
def cluster_for(release: str, *, authentic: bool) -> Iterator[LiveCluster]:
    """A cluster with cephx, for all kinds of keys that it knows, or without."""
    with LiveCluster(release, mds=1, extra="" if authentic else NO_AUTH) as cluster:
        if authentic and release != "pacific":
            cluster.ceph("mon", "set", "auth_allowed_ciphers", "aes,aes256k")
        yield cluster


def entity_for(cluster: LiveCluster, auth: str) -> str:
    """Who connects with that kind of key."""
    entity = f"client.{auth}"
    if auth != "none" and f"[{entity}]" not in cluster.keyring.read_text():
        kind = CryptoType.AES if auth == "aes" else CryptoType.AES256K
        secret = os.urandom(16 if kind == CryptoType.AES else 32)
        key = Codec(CRYPTO_KEY).encode(CryptoKey(kind, time.time_ns(), secret))
        with cluster.keyring.open("a") as keyring:
            keyring.write(f"\n[{entity}]\n\tkey = {base64.b64encode(key).decode()}\n")
        caps = ("mon", "allow r", "mds", "allow rw", "osd", "allow rw")
        cluster.ceph("auth", "add", entity, *caps, "-i", str(cluster.release.inside(cluster.keyring)))
    return entity


async def work_under_conflict(cluster: LiveCluster, entity: str, mode: str) -> None:
    """Names, and one file's caps lost to libcephfs and won back; afterwards nothing is owed either way."""
    async with connect(cluster.conf, name=entity, ms_mode=mode) as client, mounted(cluster) as peer:
        top = f"/{entity}.{mode}"
        await client.mkdir(top)
        async with client.open(f"{top}/file", "x") as file:
            with client.events(ino=file.ino) as events:
                await file.setattr(mode=0o640)  # under Ax: told when it is asked for
                assert S_IMODE((await peer.aio.statx(f"{top}/file")).mode) == 0o640
                kinds = [type(event) for event in events.drain()]
            assert kinds.index(CapRevoking) < kinds.index(CapRevokeAcked), kinds
        await peer.aio.chmod(f"{top}/file", 0o600)
        assert S_IMODE((await client.stat(f"{top}/file")).mode) == 0o600
        await client.rename(f"{top}/file", f"{top}/other")
        await client.symlink("other", f"{top}/link")
        assert sorted(await peer.aio.listdir(top)) == sorted(await client.listdir(top)) == ["link", "other"]
        assert {session.connection.mode for session in client.sessions.values() if session.connection} == {mode}
        await client.sync()
        await agrees_at_rest(cluster, client)
    assert cluster.session_ls() == []


def outcome(cell: Cell, cluster: LiveCluster) -> str:
    """What came of one run, for the table."""
    if cell.reason is not None:
        return f"– ({cell.reason})"
    try:
        asyncio.run(work_under_conflict(cluster, entity_for(cluster, cell.auth), cell.mode))
    except (CephError, OSError, AssertionError) as error:
        return f"fails: {' '.join(str(error).split())}"
    return YES


def table(found: dict[Cell, str], versions: dict[str, str]) -> str:
    """The page."""
    lines = [
        "# Compatibility\n",
        "Made by `make compatibility`, which starts all of these here. Over each kind of connection it makes",
        "and renames files, has libcephfs ask for a cap that holds a change (revoke, flush, acknowledge), reads what",
        "libcephfs changes, and compares at the end with the MDS who holds what. `make test` does the same.\n",
        *(f"- {VERSIONS[name]}: {version}" for name, version in versions.items()),
        "\n| release | authentication | " + " | ".join(f"`{mode}`" for mode in MODES) + " |",
        "|---|---|" + "---|" * len(MODES),
    ]
    for release in versions:
        for auth in AUTHS:
            kind = "none" if auth == "none" else f"cephx, `{auth}` key"
            row = [found[Cell(release, auth, mode)] for mode in MODES]
            lines.append(f"| {VERSIONS[release]} | {kind} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    found: dict[Cell, str] = {}
    versions: dict[str, str] = {}
    for name in RELEASES:
        if missing := find_release(name).missing():
            print(f"no table without {name}: {missing}", file=sys.stderr)
            return 1
        for authentic in (True, False):
            with cluster_for(name, authentic=authentic) as cluster:
                versions[name] = cluster.version.split(") ")[0] + ")"
                for cell in cells(name):
                    if (cell.auth != "none") is authentic:
                        found[cell] = outcome(cell, cluster)
                        print(*cell, found[cell], sep="\t", flush=True)
    TABLE.write_text(table(found, versions))
    print(f"written to {TABLE}")
    return int(any(said.startswith("fails") for said in found.values()))


if __name__ == "__main__":
    sys.exit(main())
