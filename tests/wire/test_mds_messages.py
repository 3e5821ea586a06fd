"""Messages between clients and MDSs: recorded bytes, by the schemas themselves and by the codecs made from them."""

from __future__ import annotations

import io
import stat
from typing import Any

import msgspec
import pytest

from cephwire import caps, inode, requestargs, snap
from cephwire.capbits import Cap, cap_string
from cephwire.caprelease import CAP_ITEM
from cephwire.caps import CLIENT_CAPS, CapBody, CapFlag, CapOp, CapPeer, ClientCaps
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.filelock import FILE_LOCK, FileLocks, LockType
from cephwire.inode import INLINE_NONE, NOSNAP, InodeStat
from cephwire.lease import ClientLease, LeaseAction
from cephwire.message import Message
from cephwire.messages import BY_CLASS, BY_NUMBER
from cephwire.metrics import Latency, MetricType
from cephwire.reply import BlockDiffReply, ClientReply, CreatedInode, ReaddirFlag, ReaddirReply, ReplyTrace, VxattrReply
from cephwire.request import CLIENT_REQUEST, HEAD_V3_SIZE, SNAP_PAYLOAD, ClientRequest, FilePath, RequestFlag
from cephwire.requestargs import FileLockArgs, GetattrArgs, OpenArgs, OpenFlag, SetattrArgs, SnapDiffArgs
from cephwire.requestop import WRITE_OPS, RequestOp
from cephwire.session import NO_TID, ClientFeature, ClientSession, SessionOp
from cephwire.snap import ClientSnap, SnapOp
from tests.wire.vectors import RELEASES, Vector, decoded, vectors

EVERY = [(release, number) for release in RELEASES for number in sorted({v.message.number for v in vectors(release)})]

INODE_VERSION = {"16.2.15": 6, "20.2.4": 8, "20.2.4-at-16.2.15": 6}
"""Of the InodeStats each MDS writes."""


def of(release: str, number: int) -> list[Vector]:
    return [v for v in vectors(release) if v.message.number == number]


def by_name(value: Any) -> Any:
    return BY_NUMBER[value].name if isinstance(value, int) else value


@pytest.mark.parametrize(("release", "number"), EVERY, ids=by_name)
def test_every_recorded_byte_is_read_and_written_again(
    release: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inode.INODE_STAT, "writes", INODE_VERSION[release])
    for v in of(release, number):
        stream = io.BytesIO(v.carrier)
        found = v.message.schema.parse_stream(stream, struct_v=v.version, middle=v.middle, data=v.data)
        assert stream.tell() == len(v.carrier)
        assert v.message.schema.build(found, struct_v=v.version) == v.carrier


@pytest.mark.parametrize(("release", "number"), EVERY, ids=by_name)
def test_the_codec_reads_recorded_bytes_as_the_schema_does(release: str, number: int) -> None:
    for v in of(release, number):
        leftover: list[Any] = []
        found = v.message.decode(v.front, v.middle, v.data, version=v.version, compat=v.compat, leftover=leftover)
        stream = io.BytesIO(v.carrier)
        assert found == v.message.schema.parse_stream(stream, struct_v=v.version, middle=v.middle, data=v.data)
        assert leftover == []


@pytest.mark.parametrize("number", sorted({number for _, number in EVERY}), ids=by_name)
def test_the_codec_writes_the_bytes_of_the_newest_release(number: int) -> None:
    for v in of("20.2.4", number):
        assert v.message.encode(v.decode(), v.version) == (v.front, v.middle, v.data)


@pytest.mark.parametrize("release", RELEASES)
def test_snap_traces_are_read_by_the_form_both_sides_know(release: str) -> None:
    found = []
    for v in vectors(release):
        match v.decode():
            case ClientReply(snap=raw) | ClientSnap(trace=raw) | ClientCaps(snap_trace=raw) if raw:
                versioned = v.features >> ClientFeature.NEW_SNAPREALM_INFO & 1
                schema = snap.SNAP_TRACE if versioned else snap.SNAP_TRACE_PLAIN
                leftover: list[Any] = []
                trace = Codec[snap.SnapTrace](schema).decode(raw, leftover=leftover)
                assert leftover == []
                assert schema.build(trace) == raw
                found.append(trace.realms)
    for realms in found:
        assert realms[-1].parent == 0
        assert [above.ino for above in realms[1:]] == [below.parent for below in realms[:-1]]
        assert all(realm.snaps == tuple(sorted(realm.snaps, reverse=True)) for realm in realms)
        assert (realms[0].last_modified is None) == (release != "20.2.4")
    assert any(realm.snaps for realms in found for realm in realms)


def test_sizes_are_those_of_cephs_structures() -> None:
    assert Codec[Any](inode.FILE_LAYOUT).size() == inode.FILE_LAYOUT.sizeof() == 28
    assert Codec[Any](inode.ISSUED_CAP).size() == inode.ISSUED_CAP.sizeof() == 33
    assert Codec[Any](caps.CAP_PEER).size() == caps.CAP_PEER.sizeof() == 21
    assert Codec[Any](caps.CAP_BODY).size() == caps.CAP_BODY.sizeof() == caps.BODY_SIZE == 84
    assert Codec[Any](CAP_ITEM).size() == CAP_ITEM.sizeof() == 24
    assert Codec[Any](FILE_LOCK).size() == FILE_LOCK.sizeof() == 41
    assert requestargs.REQUEST_ARGS.sizeof() == 56


@pytest.mark.parametrize(("head_version", "size"), [(1, 98), (2, 106), (3, HEAD_V3_SIZE)])
def test_a_request_head_has_the_size_of_its_version(head_version: int, size: int) -> None:
    sample = next(v.decode() for v in of("20.2.4", CLIENT_REQUEST.number) if v.decode().op == RequestOp.GETATTR)
    empty = msgspec.structs.replace(sample, head_version=head_version, path=FilePath(), releases=(), data=b"")
    paths = 2 * (1 + 8 + 4)
    stamp_and_gids = 8 + 4
    front, _, _ = CLIENT_REQUEST.encode(empty, 4)
    assert len(front) == size + paths + stamp_and_gids


def test_head_and_body_of_caps_take_176_bytes_for_every_op() -> None:
    for op in CapOp:
        body = CapPeer(1, 2, 3, 4, CapFlag.AUTH) if op == CapOp.EXPORT else blank_body()
        front, _, _ = CLIENT_CAPS.encode(blank_caps(op, body), 1)
        assert len(front) == 92 + 84


@pytest.mark.parametrize("version", range(1, 13))
def test_caps_of_every_version_are_read_as_far_as_they_go(version: int) -> None:
    newest = next(v for v in of("20.2.4", CLIENT_CAPS.number) if v.decode().op == CapOp.IMPORT)
    found = newest.decode()
    front, middle, data = CLIENT_CAPS.encode(found, version)
    leftover: list[Any] = []
    older = CLIENT_CAPS.decode(front, middle, data, version=version, leftover=leftover)
    assert leftover == []
    assert newest.front.startswith(front)
    for name in ClientCaps.__struct_fields__:
        assert getattr(older, name) in (getattr(found, name), getattr(blank_caps(CapOp.IMPORT), name))
    assert (older.peer is None) == (version < 3)
    assert (older.change_attr == found.change_attr) == (version >= 9)


def test_caps_of_a_version_to_come_are_read_as_far_as_we_know_it() -> None:
    known = of("20.2.4", CLIENT_CAPS.number)[0]
    leftover: list[Any] = []
    found = CLIENT_CAPS.decode(known.front + b"more", known.middle, version=13, leftover=leftover)
    assert found == known.decode()
    assert [(skipped.offset, skipped.size) for skipped in leftover] == [(len(known.front), 4)]


def test_caps_whose_xattr_length_is_not_that_of_the_middle_segment_are_refused() -> None:
    known = next(v for v in of("20.2.4", CLIENT_CAPS.number) if v.middle)
    with pytest.raises(MalformedMessage, match=r"ClientCaps\.xattrs"):
        CLIENT_CAPS.decode(known.front, b"", version=known.version)


def test_every_message_is_known_by_its_number_and_its_class() -> None:
    assert {22, 23, 24, 25, 26, 27, 28, 29, *range(0x310, 0x315)} <= BY_NUMBER.keys()
    assert len(BY_NUMBER) == len(BY_CLASS)
    assert all(BY_CLASS[message.schema.cls] is message for message in BY_NUMBER.values())
    assert {v.message.number for v in vectors("20.2.4")} <= BY_NUMBER.keys()


@pytest.mark.parametrize(("release", "version"), [("16.2.15", 11), ("20.2.4", 12), ("20.2.4-at-16.2.15", 11)])
def test_an_mds_writes_its_own_version_of_caps(release: str, version: int) -> None:
    assert {v.version for v in of(release, CLIENT_CAPS.number) if not v.outgoing} == {version}


@pytest.mark.parametrize("release", RELEASES[:2])
def test_caps_say_what_was_done(release: str) -> None:
    ops = {CapOp(message.op) for message in decoded(CLIENT_CAPS.number, release)}
    assert ops == set(CapOp) - {CapOp.DROP, CapOp.FLUSH, CapOp.RELEASE, CapOp.RENEW}
    for v in of(release, CLIENT_CAPS.number):
        found: ClientCaps = v.decode()
        assert isinstance(found.body, CapPeer if found.op == CapOp.EXPORT else CapBody)
        assert (found.peer is None) == (found.op != CapOp.IMPORT)
        assert bool(found.snap_trace) == (found.op == CapOp.IMPORT)
        assert bool(v.tid) == bool(found.dirty)
        assert "+" not in cap_string(found.caps | found.wanted | found.dirty)
        if found.xattrs:
            assert Codec[inode.XattrBlob](inode.XATTR_BLOB).decode(found.xattrs) is not None
    exported = next(m for m in decoded(CLIENT_CAPS.number, release) if m.op == CapOp.EXPORT)
    assert exported.body.mds in (0, 1)
    imported = next(m for m in decoded(CLIENT_CAPS.number, release) if m.op == CapOp.IMPORT)
    assert imported.mseq == imported.peer.mseq + 1
    assert imported.peer.flags == CapFlag.AUTH
    truncated = next(m for m in decoded(CLIENT_CAPS.number, release) if m.op == CapOp.TRUNC)
    assert truncated.body.truncate_seq > 1
    assert truncated.body.size == truncated.body.truncate_size
    inline = next(m for m in decoded(CLIENT_CAPS.number, release) if m.inline_data)
    assert (inline.inline_version, inline.inline_data) == (2, b"tiny")
    assert "nsdir" in {m.pool_ns for m in decoded(CLIENT_CAPS.number, release)}


def test_a_new_file_is_created_with_all_its_caps_and_numbers_for_more() -> None:
    replies = [m for m in decoded(26) if m.op == RequestOp.CREATE and m.trace.target]
    assert {cap_string(m.trace.target.cap.caps) for m in replies} >= {"pAsxLsXsxFsxcrwb"}
    assert Cap.ALL_FILE in {m.trace.target.cap.caps for m in replies}
    for reply in replies:
        target = reply.trace.target
        assert stat.S_ISREG(target.mode)
        assert target.snapid == NOSNAP
        assert target.cap.flags & CapFlag.AUTH
        assert target.layout.object_size == 4 << 20
        assert isinstance(reply.extra, CreatedInode)
        assert reply.extra.created_ino == target.ino
    assert any(ranges.length > 100 for m in replies for ranges in m.extra.delegated_inos)


def test_what_a_reply_tells_follows_its_head() -> None:
    told = set()
    for reply in decoded(26):
        trace: ReplyTrace = reply.trace
        told.add((reply.is_dentry, reply.is_target))
        assert bool(reply.is_dentry) == (trace.dir is not None) == (trace.dname is not None)
        assert bool(reply.is_dentry) == (trace.dirstat is not None) == (trace.dlease is not None)
        assert bool(reply.is_target) == (trace.target is not None)
        assert reply.safe or reply.mdsmap_epoch == 0
        assert reply.result <= 0
        if trace.dir:
            assert stat.S_ISDIR(trace.dir.mode)
    assert told == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("release", RELEASES[:2])
def test_a_reply_carries_what_its_op_answers(release: str) -> None:
    extras = {RequestOp(m.op): m.extra for m in decoded(26, release) if m.extra}
    assert isinstance(extras[RequestOp.READDIR], ReaddirReply)
    assert extras[RequestOp.LSSNAP].flags == ReaddirFlag.FRAG_END | ReaddirFlag.FRAG_COMPLETE
    assert extras[RequestOp.GETVXATTR] == VxattrReply("0")
    locks = [m.extra for m in decoded(26, release) if m.op == RequestOp.GETFILELOCK]
    assert {lock.type for lock in locks} == {LockType.EXCL, LockType.UNLOCK}
    if release == "20.2.4":
        assert isinstance(extras[RequestOp.READDIR_SNAPDIFF], ReaddirReply)
        diff = extras[RequestOp.FILE_BLOCKDIFF]
        assert isinstance(diff, BlockDiffReply)
        assert [(block.offset, block.length) for block in diff.blocks] == [(4_500_000, 1)]


def test_inodes_say_what_was_set_on_them() -> None:
    inodes = [i for m in decoded(26) for i in inodes_of(m)]
    assert {i.symlink for i in inodes} >= {"", "../target"}
    assert all(bool(i.symlink) == stat.S_ISLNK(i.mode) for i in inodes if i.snapid == NOSNAP)
    assert {name for i in inodes for name in i.xattrs or ()} >= {"user.two", "user.dir"}
    assert b"\x00\x01\xff" in {value for i in inodes for value in (i.xattrs or {}).values()}
    assert (10_000_000, 100) in {(i.quota.max_bytes, i.quota.max_files) for i in inodes}
    assert {"", "nsdir"} <= {i.pool_ns for i in inodes}
    assert {i.snapid for i in inodes} > {NOSNAP}
    assert {"key": "value", "k2": ""} in [i.snap_metadata for i in inodes]
    assert b"tiny" in {i.inline_data for i in inodes}
    assert INLINE_NONE in {i.inline_version for i in inodes}
    assert {i.dir_hash for i in inodes if stat.S_ISDIR(i.mode) and i.snapid == NOSNAP} == {2}
    assert {i.export_pin for i in inodes} >= {-1, 1}
    folded = next(i for i in inodes if i.optmetadata)
    assert folded.optmetadata[0].value == inode.Charmap(0, "nfd", "utf8")


def inodes_of(reply: ClientReply) -> list[InodeStat]:
    found = [reply.trace.dir, reply.trace.target]
    if isinstance(reply.extra, ReaddirReply):
        found += [entry.inode for entry in reply.extra.entries]
    return [i for i in found if i]


@pytest.mark.parametrize(("release", "version", "head"), [
    ("16.2.15", 5, 2), ("20.2.4", 6, 3), ("20.2.4-at-16.2.15", 6, 2),
])  # fmt: skip
def test_a_request_is_of_the_clients_version_with_a_head_of_the_mdss(release: str, version: int, head: int) -> None:
    for v in of(release, CLIENT_REQUEST.number):
        assert (v.version, v.decode().head_version) == (version, head)


@pytest.mark.parametrize("release", RELEASES[:2])
def test_requests_say_what_was_asked(release: str) -> None:
    requests: list[ClientRequest] = decoded(CLIENT_REQUEST.number, release)
    unseen = {
        RequestOp.LOOKUPHASH, RequestOp.LOOKUPPARENT, RequestOp.LOOKUPNAME, RequestOp.SETLAYOUT,
        RequestOp.SETDIRLAYOUT,
    }  # fmt: skip
    unknown = set() if release == "20.2.4" else {RequestOp.READDIR_SNAPDIFF, RequestOp.FILE_BLOCKDIFF}
    assert {RequestOp(r.op) for r in requests} == set(RequestOp) - unseen - unknown

    def first(op: RequestOp) -> ClientRequest:
        return next(r for r in requests if r.op == op)

    assert isinstance(first(RequestOp.GETATTR).args, GetattrArgs)
    assert first(RequestOp.RENAME).args is None
    assert first(RequestOp.SYMLINK).path2 == FilePath(0, "../target")
    assert first(RequestOp.MKSNAP).path.path.startswith("/")
    created = first(RequestOp.CREATE).args
    assert isinstance(created, OpenArgs)
    assert created.flags == OpenFlag.CREAT | OpenFlag.TRUNC | OpenFlag.WRONLY
    assert created.pool == -1
    assert any(isinstance(r.args, SetattrArgs) and r.args.size == 2 for r in requests)
    locks = [r.args for r in requests if isinstance(r.args, FileLockArgs)]
    assert {LockType(lock.type) for lock in locks} == set(LockType)
    assert all(lock.owner >> 63 for lock in locks)
    assert b"value one" in {r.data for r in requests if r.op == RequestOp.SETXATTR}
    assert any(release.dname for r in requests for release in r.releases)
    replayed = next(r for r in requests if r.flags & RequestFlag.REPLAY)
    assert replayed.ino
    assert replayed.num_retry == replayed.ext_num_retry == 1
    assert any(r.num_fwd == r.ext_num_fwd == 1 for r in requests)
    if release == "20.2.4":
        assert any(isinstance(r.args, SnapDiffArgs) and r.args.snap_other for r in requests)
        assert b"Stra\xc3\x9fe" in {r.alternate_name for r in requests}
        assert {r.struct_len for r in requests} == {HEAD_V3_SIZE}


def test_ops_that_change_something_have_the_write_bit() -> None:
    reading = {op for op in RequestOp if not op & WRITE_OPS}
    assert {RequestOp.LOOKUP, RequestOp.GETATTR, RequestOp.OPEN, RequestOp.READDIR, RequestOp.LSSNAP} <= reading
    assert not reading & {RequestOp.CREATE, RequestOp.SETATTR, RequestOp.MKSNAP, RequestOp.SETFILELOCK}


def test_a_snapshots_metadata_are_the_requests_data() -> None:
    payloads = [Codec[Any](SNAP_PAYLOAD).decode(r.data) for r in decoded(24) if r.op == RequestOp.MKSNAP]
    assert {"key": "value", "k2": ""} in [payload.metadata for payload in payloads]


@pytest.mark.parametrize(("release", "long"), [("16.2.15", 5), ("20.2.4", 7)])
def test_sessions_are_opened_long_and_kept_short(release: str, long: int) -> None:
    for v in of(release, 22):
        found: ClientSession = v.decode()
        opening = found.op in (SessionOp.REQUEST_OPEN, SessionOp.OPEN, SessionOp.REJECT)
        assert v.version == (long if opening else 1)
        assert found.oldest_client_tid == NO_TID
    asked = next(m for m in decoded(22, release) if m.op == SessionOp.REQUEST_OPEN)
    assert asked.metadata["entity_id"] == "admin"
    known = ClientFeature.mask(*(f for f in ClientFeature if f <= (18 if release == "16.2.15" else 23)))
    assert asked.features == known
    assert asked.metric_spec.types == 0xFFFF
    rejected = next(m for m in decoded(22, release) if m.op == SessionOp.REJECT)
    assert rejected.metadata == {"error_string": "non-allowable root '/'"}


def test_an_mds_tells_what_its_caps_allow_a_client() -> None:
    allowed = [m.cap_auths for m in decoded(22, "20.2.4") if len(m.cap_auths) == 2]
    everyone, one = allowed[0]
    assert (everyone.match.uid, everyone.match.path, everyone.readable, everyone.writeable) == (-1, "sec", 1, 1)
    assert (one.match.uid, one.match.gids, one.match.path, one.readable, one.writeable) == (1000, (5, 6), "d", 1, 0)


@pytest.mark.parametrize("release", RELEASES[:2])
def test_a_client_that_reconnects_names_its_caps_realms_and_locks(release: str) -> None:
    parts = decoded(23, release)
    held = [cap for part in parts for cap in part.caps]
    assert all(cap.cap.pathbase == cap.ino and cap.cap.path == "" for cap in held)
    assert all(cap.cap.issued & Cap.PIN for cap in held)
    assert {realm.ino for part in parts for realm in part.realms} >= {1}
    locks = [cap.cap.flocks for cap in held if cap.cap.flocks]
    assert all(isinstance(lock, FileLocks) for lock in locks)
    assert any(lock.fcntl for lock in locks)
    assert any(lock.flock for lock in locks)


@pytest.mark.parametrize("release", RELEASES[:2])
def test_leases_snapshots_quotas_and_metrics_say_what_happened(release: str) -> None:
    leases: list[ClientLease] = decoded(0x311, release)
    assert {LeaseAction(lease.action) for lease in leases} == {LeaseAction.REVOKE, LeaseAction.RELEASE}
    assert {(lease.mask, lease.last) for lease in leases} == {(1, NOSNAP)}
    snaps: list[ClientSnap] = decoded(0x312, release)
    assert {SnapOp(s.op) for s in snaps} == {SnapOp.UPDATE, SnapOp.DESTROY, SnapOp.SPLIT}
    assert any(s.split_inos for s in snaps)
    assert any(s.split_realms for s in snaps)
    assert (10_000_000, 100) in {(q.quota.max_bytes, q.quota.max_files) for q in decoded(0x314, release)}
    for metrics in decoded(29, release):
        assert [m.type for m in metrics.metrics] == [1, 2, 3, 0, 4, 5, 6, 7, 8, 9]
        assert isinstance(metrics.metrics[2].value, Latency)
        assert metrics.metrics[2].type == MetricType.METADATA_LATENCY
    assert any(len(m.caps) > 1 and m.osd_epoch_barrier for m in decoded(0x313, release))
    assert {(m.dest_mds, m.num_fwd, m.client_must_resend) for m in decoded(25, release)} >= {(1, 1, 1)}
    assert any(m.epoch and m.addrs.addrs for m in decoded(28, release))


@pytest.mark.parametrize("release", RELEASES)
def test_a_message_cut_anywhere_is_refused_and_never_misread(release: str) -> None:
    shortest: dict[int, Vector] = {}
    for v in vectors(release):
        shortest.setdefault(v.message.number, v)
    for v in shortest.values():
        message: Message[Any] = v.message
        for size in range(len(v.carrier)):
            front, data = (v.front, v.carrier[:size]) if message.carrier == "data" else (v.carrier[:size], v.data)
            with pytest.raises(MalformedMessage):
                message.decode(front, v.middle, data, version=v.version)


def blank_body() -> CapBody:
    return CapBody(0, 0, 0, 0, 0, 0, 0, inode.FileLayout(0, 0, 0, 0, 0, 0, 0), 0)


def blank_caps(op: CapOp, body: CapBody | CapPeer | None = None) -> ClientCaps:
    zeros: dict[str, Any] = dict.fromkeys(ClientCaps.__struct_fields__[1:16], 0)
    return ClientCaps(op=op, **zeros, body=body or blank_body(), snap_trace=b"", xattrs=b"")
