"""File data, kept in memory as far as caps allow and stored in the OSDs: what an embedder of cephcaps would build."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cephcaps
from cephcaps.file import OpenFile

from .cluster import LiveCluster
from .release import ENVIRONMENT

__all__ = ["RadosStore"]

SCRIPT = Path(__file__).with_name("rados_peer.py")


class RadosStore:
    """A `cephcaps.DataHandler` over python3-rados, in a process of the cluster's release.

    Attributes:
        called: counts of what the client has asked of it.
        delay: seconds each call takes longer.
        failure: what the next writeback raises.
    """

    def __init__(self, cluster: LiveCluster) -> None:
        self.called: Counter[str] = Counter()
        self.delay = 0.0
        self.failure: Exception | None = None
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._written: dict[tuple[int, int], list[tuple[int, bytes]]] = {}  # by ino and snap_seq, oldest first
        self._cached: dict[int, dict[tuple[int, int], bytes]] = {}

    async def __aenter__(self) -> Self:
        script = self._cluster.directory / SCRIPT.name
        shutil.copy(SCRIPT, script)
        release = self._cluster.release
        words = (str(self._cluster.inner_conf), "admin")
        self._process = await asyncio.create_subprocess_exec(
            *map(os.fspath, release.command("/usr/bin/python3", release.inside(script), *words)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=self._cluster.directory,
            limit=1 << 26,
            start_new_session=True,
        )
        self._cluster.guard("rados", self._process.pid)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    # What the application does

    async def write(self, file: OpenFile, offset: int, data: bytes, *, buffer: bool = True) -> None:
        endoff = offset + len(data)
        async with file.cap_refs("Fw", "Fb" if buffer else 0, endoff) as refs:
            if "Fb" in refs.got:
                self._written.setdefault((file.ino, refs.io.snap_seq), []).append((offset, data))
                refs.wrote(endoff, buffered=True)
            else:
                await self._put(file.ino, refs.io, offset, data)
                refs.wrote(endoff)
            # What was read before is not what is there now; the object may be longer, too.
            self._cached.pop(file.ino, None)

    async def read(self, client: cephcaps.Client, file: OpenFile, path: str, offset: int, size: int) -> bytes:
        end = min(offset + size, (await client.stat(path, want="Fs")).size)
        if end <= offset:
            return b""
        async with file.cap_refs("Fr", "Fc") as refs:
            cached = self._cached.get(file.ino, {}) if "Fc" in refs.got else {}
            data = cached.get((offset, end))
            if data is None:
                data = await self._get(file.ino, refs.io, offset, end - offset)
                if "Fc" in refs.got:
                    self._cached.setdefault(file.ino, {})[offset, end] = data
            whole = bytearray(data.ljust(end - offset, b"\0"))
            for (ino, _), written in self._written.items():
                for at, piece in written if ino == file.ino else ():
                    begin, stop = max(at, offset), min(at + len(piece), end)
                    if begin < stop:
                        whole[begin - offset : stop - offset] = piece[begin - at : stop - at]
            return bytes(whole)

    # What the client asks

    async def writeback(self, ino: int, io: cephcaps.DataIo) -> None:
        self.called["writeback"] += 1
        await asyncio.sleep(self.delay)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            self._written.pop((ino, io.snap_seq), None)
            raise failure
        for offset, data in self._written.pop((ino, io.snap_seq), ()):
            await self._put(ino, io, offset, data)

    async def invalidate(self, ino: int, gen: int) -> None:
        self.called["invalidate"] += 1
        await asyncio.sleep(self.delay)
        self._cached.pop(ino, None)

    async def truncate(self, ino: int, size: int, truncate_seq: int) -> None:
        self.called["truncate"] += 1
        self._cached.pop(ino, None)
        for key, written in self._written.items():
            if key[0] == ino:
                written[:] = [(at, data[: size - at]) for at, data in written if at < size]

    # The OSDs

    async def _put(self, ino: int, io: cephcaps.DataIo, offset: int, data: bytes) -> None:
        for oid, at, piece in _objects(ino, io, offset, len(data)):
            part, data = data[:piece], data[piece:]
            await self._ask("write", io, oid=oid, offset=at, data=part.hex(), snaps=list(io.snaps))

    async def _get(self, ino: int, io: cephcaps.DataIo, offset: int, size: int) -> bytes:
        found = b""
        for oid, at, piece in _objects(ino, io, offset, size):
            found += bytes.fromhex(await self._ask("read", io, oid=oid, offset=at, size=piece)).ljust(piece, b"\0")
        return found

    async def _ask(self, op: str, io: cephcaps.DataIo, **what: Any) -> Any:
        self.called[f"osd {op}"] += 1
        line = json.dumps({"op": op, "pool": io.layout.pool_id, "ns": io.pool_ns, **what})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(line.encode() + b"\n")
            answer = json.loads(await self._process.stdout.readline())
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"])
        return answer["result"]


def _objects(ino: int, io: cephcaps.DataIo, offset: int, size: int) -> list[tuple[str, int, int]]:
    """Object, offset in it and bytes of it, for each object that a stretch of a file touches."""
    assert io.layout.stripe_count == 1, "striped files are not what these tests are about"
    found = []
    while size:
        number, at = divmod(offset, io.layout.object_size)
        piece = min(size, io.layout.object_size - at)
        found.append((f"{ino:x}.{number:08x}", at, piece))
        offset, size = offset + piece, size - piece
    return found
