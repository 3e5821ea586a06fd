"""Items of a trace made by hand, and of the recorded messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

from cephcaps.trace.items import Flow, Problem, Traced
from cephwire.caps import CapBody, CapFlag, ClientCaps
from cephwire.entity import EntityType
from cephwire.frames import MessageHeader
from cephwire.inode import NOSNAP, DirStat, FileLayout, InodeStat, IssuedCap, LeaseStat, Quota
from cephwire.messages import BY_CLASS, BY_NUMBER
from cephwire.reply import ClientReply, ReplyTrace
from cephwire.request import ClientRequest, FilePath
from cephwire.requestargs import GetattrArgs
from tests.wire.strategies import values
from tests.wire.vectors import RELEASES, Vector, vectors

NS = 1_795_368_292_000_000_000
MS = 1_000_000
ROOT, DIR, FILE = 1, 0x10000000000, 0x10000000001


def flow(client: int | None = 4123, rank: int | None = 0, number: int = 1) -> Flow:
    return Flow(number, "192.0.2.7:50000", f"192.0.2.2:{6800 + (rank or 0)}", client, EntityType.MDS, rank, 2)


FLOW = flow()


def traced(
    message: Any,
    to_daemon: bool,
    at: float = 0,
    *,
    tid: int = 0,
    flow: Flow = FLOW,
    number: int | None = None,
    segments: tuple[bytes, bytes, bytes] = (b"", b"", b""),
    **more: Any,
) -> Traced:
    """A message, ``at`` milliseconds after the first."""
    kind = BY_CLASS[type(message)].number if number is None else number
    header = MessageHeader(1, tid, kind, 127, 1, 0, 0, 0, 1, 1)
    return Traced(NS + int(at * MS), flow, to_daemon, header, segments, message, **more)


def up(message: Any, at: float = 0, **more: Any) -> Traced:
    return traced(message, True, at, **more)


def down(message: Any, at: float = 0, **more: Any) -> Traced:
    return traced(message, False, at, **more)


def of_vector(v: Vector, at: float = 0) -> Traced:
    segments = v.front, v.middle, v.data
    return traced(v.decode(), v.outgoing, at, tid=v.tid, number=v.message.number, segments=segments)


def recorded() -> Iterator[Traced]:
    """Every recorded message, one a millisecond."""
    every = [v for release in RELEASES for v in vectors(release)]
    return (of_vector(v, at) for at, v in enumerate(every))


def any_message() -> st.SearchStrategy[Traced]:
    """Messages of any type with any values."""

    def of_type(number: int) -> st.SearchStrategy[Traced]:
        message = BY_NUMBER[number]
        drawn = values(message.schema, message.newest)
        return st.builds(traced, drawn, st.booleans(), tid=st.integers(0, 2**64 - 1))

    return st.sampled_from(sorted(BY_NUMBER)).flatmap(of_type)


def problem(at: float = 0, kind: Any = "gap", size: int = 100, flow: Flow | None = FLOW) -> Problem:
    return Problem(NS + int(at * MS), flow, True, kind, "bytes are missing", size)


# Messages


def caps(op: int, bits: int, ino: int = FILE, **more: Any) -> ClientCaps:
    zeros: dict[str, Any] = dict.fromkeys(ClientCaps.__struct_fields__, 0)
    layout = FileLayout(0, 0, 0, 0, 0, 0, 0)
    zeros |= {"body": CapBody(0, 0, 0, 0, 0, 0, 0, layout, 0), "snap_trace": b"", "xattrs": b"", "flock": b""}
    zeros |= {"peer": None, "inline_data": b"", "pool_ns": "", "fscrypt_auth": b"", "fscrypt_file": b""}
    return ClientCaps(**zeros | {"op": op, "ino": ino, "caps": bits} | more)


def inode(ino: int, bits: int = 0x155, **more: Any) -> InodeStat:
    zeros: dict[str, Any] = dict.fromkeys(InodeStat.__struct_fields__, 0)
    zeros |= {"snapid": NOSNAP, "cap": IssuedCap(bits, 0, 7, 1, 0, ROOT, CapFlag.AUTH), "mode": 0o100644}
    zeros |= {"layout": FileLayout(0, 0, 0, 0, 0, 0, 0), "fragtree": (), "symlink": "", "xattrs": None}
    zeros |= {"inline_data": b"", "quota": Quota(0, 0), "pool_ns": "", "snap_metadata": {}}
    zeros |= {"fscrypt_auth": b"", "fscrypt_file": b"", "optmetadata": ()}
    return InodeStat(**zeros | {"ino": ino} | more)


def reply(op: int, dir: InodeStat | None = None, dname: str | None = None, target: InodeStat | None = None,
          extra: Any = b"", safe: int = 1, result: int = 0) -> ClientReply:  # fmt: skip
    told = (DirStat(0, 0, ()), dname, LeaseStat(0, 0, 0)) if dir is not None else (None, None, None)
    trace = ReplyTrace(dir, *told, target)
    return ClientReply(op, result, 0, safe, int(dir is not None), int(target is not None), trace, extra, b"")


def request(op: int, ino: int = ROOT, path: str = "", **more: Any) -> ClientRequest:
    zeros: dict[str, Any] = dict.fromkeys(ClientRequest.__struct_fields__, 0)
    zeros |= {"args": GetattrArgs(0), "path": FilePath(ino, path), "path2": FilePath(), "releases": (), "data": b""}
    zeros |= {"gid_list": (), "alternate_name": b"", "fscrypt_auth": b"", "fscrypt_file": b""}
    return ClientRequest(**zeros | {"op": op} | more)


def as_json(item: Any) -> Any:
    """What JSON shows of an item."""
    from cephcaps.trace.facts import facts

    return msgspec.json.decode(msgspec.json.encode(facts(item)))


def capture(items: Iterable[Traced]) -> bytes:
    """A capture file in which the messages of ``items`` can be read, each connection a messenger v1 stream."""
    from cephcaps.trace.synthetic import Peers, Synthetic
    from cephwire.entity import AddrType, EntityAddr, EntityNum
    from cephwire.features import CLIENT_FEATURES
    from tests.trace.packet_maker import interface, option, section

    raw_ip, nanoseconds = 101, option(9, b"\x09") + option(0, b"")
    blocks = [section(), interface(raw_ip, options=nanoseconds)]
    talks: dict[int, Synthetic] = {}
    for seq, item in enumerate(items, 1):  # it only has to rise
        flow = item.flow
        if flow.number not in talks:
            client = EntityAddr.make(AddrType.LEGACY, "192.0.2.7", 50000 + flow.number, 1)
            host, _, port = flow.daemon.rpartition(":")
            daemon = EntityAddr.make(AddrType.LEGACY, host, int(port), 1)
            ends = EntityNum(EntityType.CLIENT, flow.client_id or 0), EntityNum(EntityType.MDS, flow.daemon_num or 0)
            talks[flow.number] = Synthetic(Peers(*ends, client, daemon, CLIENT_FEATURES, False, 0), flow.number)
            talks[flow.number].begin(blocks, item.ns)
        talks[flow.number].message(
            blocks, item.to_daemon, msgspec.structs.replace(item.header, seq=seq), *item.segments, item.ns
        )
    return b"".join(blocks)


def encoded(item: Traced) -> Traced:
    """The same with segments that hold the message."""
    message = BY_NUMBER[item.header.type]
    header = msgspec.structs.replace(item.header, version=message.newest)
    return item._replace(header=header, segments=message.encode(item.message))
