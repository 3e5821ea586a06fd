"""Messenger v1 as Wireshark reads it and as we do: the same messages, and field for field the same values."""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cephcaps.messenger.crc import crc32c
from cephcaps.trace import Traced, read_trace
from cephwire.caps import ClientCaps
from cephwire.entity import EntityType
from cephwire.request import ClientRequest

from .capturing import Dumpcap, missing_program, some_loopback_address
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .release import Release
from .scenario import Captured
from .tshark import Dissected, dissect, without_challenges

HEADER = struct.Struct("<QQHHHIIIHBqHH")
"""A message's header without its crc (ceph: src/include/msgr.h, ``struct ceph_msg_header``)."""


MSG = 7
"""The tag before a message."""
REPLY_HEAD = 15
"""Size of ``struct ceph_mds_reply_head`` (ceph: src/include/ceph_fs.h)."""


def of_header(name: str) -> Callable[[Traced], int]:
    return lambda traced: getattr(traced.header, name)


def of_message(name: str) -> Callable[[Traced], int]:
    return lambda traced: getattr(traced.message, name)


def of_caps(name: str) -> Callable[[Traced], list[int]]:
    return lambda traced: [getattr(cap, name) for cap in traced.message.caps]


def size_of(segment: int) -> Callable[[Traced], int]:
    return lambda traced: len(traced.segments[segment])


def crc_of(segment: int) -> Callable[[Traced], int]:
    return lambda traced: crc32c(0, traced.segments[segment])


def sender(traced: Traced) -> tuple[int, int]:
    flow = traced.flow
    found = (EntityType.CLIENT, flow.client_id) if traced.to_daemon else (flow.daemon_type, flow.daemon_num)
    assert None not in found
    return found


def header_crc(traced: Traced) -> int:
    h = traced.header
    sizes = map(len, traced.segments)
    raw = HEADER.pack(
        h.seq, h.tid, h.type, h.priority, h.version, *sizes, h.data_off, *sender(traced), h.compat_version, 0
    )
    return crc32c(0, raw)


def stamp(traced: Traced) -> int:
    sec, nsec = divmod(traced.message.stamp, 10**9)
    return nsec << 32 | sec


def blobs(traced: Traced) -> list[bytes]:
    """What a type has with a length before it."""
    message, front = traced.message, traced.segments[0]
    if isinstance(message, ClientCaps):
        return [message.flock, message.inline_data]
    assert traced.leftover == ()  # the first two, trace and extra, are taken apart further here, and wholly
    found, at = [], REPLY_HEAD
    for _ in range(3):
        size = int.from_bytes(front[at : at + 4], "little")
        found.append(front[at + 4 : at + 4 + size])
        at += 4 + size
    assert found[2] == message.snap
    return found


EQUAL: dict[str, Callable[[Traced], Any]] = {
    "ceph.tag": lambda traced: MSG,
    "ceph.seq": of_header("seq"),
    "ceph.tid": of_header("tid"),
    "ceph.type": of_header("type"),
    "ceph.priority": of_header("priority"),
    "ceph.head_version": of_header("version"),
    "ceph.front_size": size_of(0),
    "ceph.middle_size": size_of(1),
    "ceph.data_size": size_of(2),
    "ceph.data_off": of_header("data_off"),
    "ceph.node_type": lambda traced: sender(traced)[0],
    "ceph.node_id": lambda traced: sender(traced)[1],
    "ceph.compat_version": of_header("compat_version"),
    "ceph.reserved": lambda traced: 0,
    "ceph.crc": header_crc,
    "ceph.foot.front_crc": crc_of(0),
    "ceph.foot.middle_crc": crc_of(1),
    "ceph.foot.data_crc": crc_of(2),
    "ceph.connect.flags": of_header("flags"),
    # Of types it does not know, it has the segments.
    "ceph.front": lambda traced: traced.segments[0],
    "ceph.mid": lambda traced: traced.segments[1],
    "ceph.data": lambda traced: traced.segments[2],
    "ceph.data.size": lambda traced: [len(blob) for blob in blobs(traced)],
    "ceph.data.data": blobs,
    "ceph.msg.client_sess.op": of_message("op"),
    "ceph.msg.client_sess.seq": of_message("seq"),
    "ceph.msg.client_sess.time": stamp,
    "ceph.msg.client_sess.caps_max": of_message("max_caps"),
    "ceph.msg.client_sess.leases_max": of_message("max_leases"),
    "ceph.msg.client_reqfwd.dst": of_message("dest_mds"),
    "ceph.msg.client_reqfwd.fwd": of_message("num_fwd"),
    "ceph.msg.client_reqfwd.resend": of_message("client_must_resend"),
    "ceph.msg.client_reply.op": of_message("op"),
    "ceph.msg.client_reply.result": of_message("result"),
    "ceph.msg.client_reply.mdsmap_epoch": of_message("mdsmap_epoch"),
    "ceph.msg.client_reply.safe": of_message("safe"),
    "ceph.msg.client_reply.isdentry": of_message("is_dentry"),
    "ceph.msg.client_reply.istarget": of_message("is_target"),
    "ceph.msg.client_caps.op": of_message("op"),
    "ceph.msg.client_caps.inode": of_message("ino"),
    "ceph.msg.client_caps.relam": of_message("realm"),
    "ceph.msg.client_caps.cap_id": of_message("cap_id"),
    "ceph.msg.client_caps.seq": of_message("seq"),
    "ceph.msg.client_caps.seq_issue": of_message("issue_seq"),
    "ceph.msg.client_caps.new": of_message("caps"),
    "ceph.msg.client_caps.wanted": of_message("wanted"),
    "ceph.msg.client_caps.dirty": of_message("dirty"),
    "ceph.msg.client_caps_seq.migrate": of_message("mseq"),
    "ceph.msg.client_caps.snap_follows": of_message("snap_follows"),
    "ceph.msg.client_caps.uid": of_message("uid"),
    "ceph.msg.client_caps.gid": of_message("gid"),
    "ceph.msg.client_caps.mode": of_message("mode"),
    "ceph.msg.client_caps.nlink": of_message("nlink"),
    "ceph.msg.client_caps.xattr_ver": of_message("xattr_version"),
    "ceph.msg.client_caps.snap": of_message("snap_trace"),
    "ceph.msg.client_caps.inline_ver": of_message("inline_version"),
    "ceph.msg.client_caps.xattr": of_message("xattrs"),
    "ceph.msg.client_caprel.cap.inode": of_caps("ino"),
    "ceph.msg.client_caprel.cap.id": of_caps("cap_id"),
    "ceph.msg.client_caprel_cap.migrate": of_caps("mseq"),
    "ceph.msg.client_caprel_cap.seq": of_caps("issue_seq"),
}
"""Every field that Wireshark has of the messages below, and what it is with us: one value, or one for each time."""

NOT_COMPARED = {"ceph.foot.signature"}
"""Right or wrong can be told only with the session key."""

MISREAD = ("ceph.msg.client_req.", "ceph.path.", "ceph.string.", "ceph.mds_release.")
"""Of a request: see `is_misread`."""

SOAK_FILES = 5000
"""Some 12 messages from the MDS for each."""


def test_all_that_wireshark_reads_of_an_mds_is_the_same_here(
    captured_scenario: Callable[[int], Captured], tmp_path: Path
) -> None:
    found = compare(captured_scenario(1).path, tmp_path)
    assert found.from_mds > 2000
    assert found.to_mds > 1000


@pytest.mark.soak
def test_fifty_thousand_messages_are_the_same(release: Release, tmp_path: Path) -> None:
    address, path = some_loopback_address(), tmp_path / "capture.pcapng"
    with (
        Dumpcap(path, address),
        LiveCluster(release, mds=1, msgr2=False, address=address) as cluster,
        LibcephfsPeer(cluster) as first,
        LibcephfsPeer(cluster) as second,
    ):
        first.mkdir("/many")
        for i in range(SOAK_FILES):
            first.write_file(f"/many/{i}", b"x" * (i % 3))
            first.chmod(f"/many/{i}", 0o600)
            second.chmod(f"/many/{i}", 0o640)
            first.statx(f"/many/{i}")
    found = compare(path, tmp_path)
    print(f"{found.from_mds} messages from the MDS, {found.to_mds} to it, {found.fields} values")
    assert found.from_mds >= 50_000


class Found(NamedTuple):
    from_mds: int
    """Messages that MDSs sent to clients, which were all compared."""
    to_mds: int
    """Those of the other direction that were compared."""
    fields: int
    """Values in them."""


def compare(capture: Path, tmp_path: Path) -> Found:
    from_mds = to_mds = fields = 0
    for traced, dissected in pairs(capture, tmp_path):
        from_mds += not traced.to_daemon
        to_mds += traced.to_daemon
        fields += compare_fields(traced, dissected)
        if isinstance(traced.message, ClientRequest):
            assert is_misread(traced, dissected)
    return Found(from_mds, to_mds, fields)


def compare_fields(traced: Traced, dissected: Dissected) -> int:
    """How many values are the same: all, or an AssertionError tells which is not."""
    found = defaultdict(list)
    for field in dissected.fields:
        found[field.name].append(field.raw)
    values = 0
    for name, raws in found.items():
        if name not in EQUAL:  # what it calls groups of fields, or concludes from others
            assert not any(raws) or name in NOT_COMPARED or name.startswith(MISREAD), f"{name} is not compared"
            continue
        expected = EQUAL[name](traced)
        expected = expected if isinstance(expected, list) else [expected]
        ours = [
            value if isinstance(value, bytes) else _little(value, len(raw))
            for value, raw in zip(expected, raws, strict=True)
        ]
        assert ours == raws, f"{name} of {traced}"
        values += len(raws)
    return values


def is_misread(traced: Traced, dissected: Dissected) -> bool:
    """Whether Wireshark takes a request from the wrong place on.

    Since version 4 its head begins with a version of its own (ceph: src/include/ceph_fs.h, ``struct
    ceph_mds_request_head``), which Wireshark 4.0 does not know.
    """
    front, message = traced.segments[0], traced.message
    (tid,) = [field.raw for field in dissected.fields if field.name == "ceph.msg.client_req.oldest_tid"]
    return (
        traced.header.version >= 4
        and tid == front[:8]
        and struct.unpack_from("<HQI", front) == (message.head_version, message.oldest_client_tid, message.mdsmap_epoch)
    )


def _little(value: int | bytes, size: int) -> bytes:
    return value if isinstance(value, bytes) else (value % (1 << 8 * size)).to_bytes(size, "little")


def pairs(capture: Path, tmp_path: Path) -> Iterator[tuple[Traced, Dissected]]:
    """Messages twice: all that MDSs send to clients; and of those to MDSs what Wireshark has, which loses what follows
    a misread request in one packet."""
    missing = missing_program("tshark")
    if missing:
        pytest.skip(missing)
    ours: dict[tuple[str, str], deque[Traced]] = defaultdict(deque)
    with capture.open("rb") as file:
        for item in read_trace(file):
            if isinstance(item, Traced) and item.flow.daemon_type == EntityType.MDS and item.flow.client_id is not None:
                flow = item.flow
                ours[(flow.client, flow.daemon) if item.to_daemon else (flow.daemon, flow.client)].append(item)
    without_challenges(capture, tmp_path / "copy.pcapng")
    for dissected in dissect(tmp_path / "copy.pcapng"):
        expected = ours.get((dissected.source, dissected.target))
        if expected is None:
            continue  # between daemons, or with a monitor or an OSD
        traced = expected.popleft()
        if traced.to_daemon:
            (seq,) = [int.from_bytes(field.raw, "little") for field in dissected.fields if field.name == "ceph.seq"]
            while traced.header.seq != seq:
                traced = expected.popleft()
        yield traced, dissected
    assert [left for left in ours.values() if left and not left[0].to_daemon] == []
