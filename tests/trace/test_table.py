"""The table: each message is one line that tells what matters, whatever its names hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.cli.output import escaped
from cephcaps.trace.items import Problem, Traced
from cephcaps.trace.known import Known, Recent
from cephcaps.trace.table import Table, label
from cephwire.capbits import Cap, parse_caps
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapBody, CapFlag, CapOp, CapPeer
from cephwire.codec import Codec, Leftover
from cephwire.errors import MalformedMessage
from cephwire.inode import NOSNAP, DirStat, IssuedCap, LeaseStat
from cephwire.lease import ClientLease, LeaseAction
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap
from cephwire.reply import ClientRequestForward, CreatedInode, DirEntry, ReaddirReply
from cephwire.request import FilePath, RequestRelease
from cephwire.requestargs import OpenArgs, OpenFlag, SetattrArgs, SetattrMask
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import SNAP_TRACE, ClientSnap, SnapOp, SnapRealm, SnapTrace
from tests.trace import rendering as made
from tests.trace.rendering import DIR, FILE, NS, ROOT, caps, down, flow, inode, reply, request, up

SLOW_TO_DRAW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
FULL, SHARED = parse_caps("pAsxLsXsxFsxcrwb"), parse_caps("pAsLsXsFs")


def lines(items: Iterable[Traced], **how: Any) -> list[str]:
    table = Table(**how)
    return [table.message(item, table.take(item)) for item in items]


def last(*items: Traced, **how: Any) -> str:
    """The last of these items' lines, from its type on, blanks made single."""
    return " ".join(lines(items, **how)[-1].split()[4:])


LOOKUPS = (
    down(reply(RequestOp.LOOKUP, inode(ROOT), "dir", inode(DIR))),
    down(reply(RequestOp.LOOKUP, inode(DIR), "file", inode(FILE, FULL))),
)
"""What names the file, and grants it all caps."""


# What every line has


def test_every_recorded_message_is_a_line() -> None:
    for item, line in zip(made.recorded(), lines(made.recorded()), strict=True):
        assert line.split()[1:4] == ["client.4123", "->" if item.to_daemon else "<-", "mds.0"]
        assert label(item) in line
        assert line == line.rstrip()


@SLOW_TO_DRAW
@given(st.lists(made.any_message(), min_size=1, max_size=4))
def test_any_messages_are_single_printable_lines(items: list[Traced]) -> None:
    for line in lines(items):
        assert escaped(line).isprintable()


def test_a_name_cannot_make_a_line_of_its_own() -> None:
    name = "a\n\x1b[2J\udcff"
    (line,) = lines([down(reply(RequestOp.LOOKUP, inode(ROOT), name, inode(FILE)))])
    assert r"/a\n\x1b[2J\xff" in escaped(line)


def test_time_counts_from_the_first_message_whether_shown_or_not() -> None:
    table = Table()
    table.take(up(request(RequestOp.GETATTR)))
    later = up(request(RequestOp.GETATTR), 1500.5)
    assert table.message(later, table.take(later)).startswith("   1.500500  ")
    assert Table(absolute=True).message(later, Known().take(later)).partition(" ")[0].endswith(":53.500500")


def test_an_end_without_a_name_is_an_address() -> None:
    unknown = made.Flow(1, "192.0.2.7:1", "192.0.2.2:2")
    (line,) = lines([up(request(RequestOp.GETATTR), flow=unknown)])
    assert "  192.0.2.7:1 -> 192.0.2.2:2  client_request(getattr)" in line


def test_what_could_not_be_decoded_says_why() -> None:
    error = MalformedMessage("ClientCaps.mseq at byte 48: needs 4 bytes, got 2")
    assert last(up(None, number=0x310, error=error)) == f"client_caps {error}"
    assert last(up(None, number=42, segments=(b"12", b"3", b""))) == "osd_op 3 bytes"
    assert last(up(None, number=4711)) == "type_4711 0 bytes"
    left = up(request(RequestOp.GETATTR), leftover=(Leftover("x", 0, 3), Leftover("y", 5, 4)), resent=True)
    assert last(left).endswith("sent again 7 bytes left over")


def test_a_problem_is_a_line_too() -> None:
    table = Table()
    table.take(up(request(RequestOp.GETATTR)))
    assert table.problem(made.problem(250)) == "   0.250000  client.4123 -> mds.0  gap: bytes are missing"
    nowhere = Problem(0, None, None, "capture", "the file ends inside a packet")
    assert table.problem(nowhere).split() == ["capture:", "the", "file", "ends", "inside", "a", "packet"]


# Caps


def test_a_revoke_tells_inode_path_and_the_bits_that_go() -> None:
    revoke = down(caps(CapOp.REVOKE, SHARED, seq=2, wanted=FULL))
    assert last(*LOOKUPS, revoke).startswith(
        f"client_caps(revoke) {FILE:#x} /dir/file seq 2 caps pAsLsXsFs (-AxXxFxcrwb) wanted pAsxLsXsxFsxcrwb"
    )


def test_a_grant_tells_the_bits_that_come() -> None:
    grant = down(caps(CapOp.GRANT, FULL | Cap.FILE_LAZYIO, seq=2))
    assert "caps pAsxLsXsxFsxcrwbl (+Fl) wanted -" in last(*LOOKUPS, grant)
    assert "caps pAsxLsXsxFsxcrwbl wanted -" in last(*LOOKUPS, grant, grant)
    assert "caps pAsxLsXsxFsxcrwbl wanted -" in last(grant)


def test_an_answer_tells_how_long_the_revoke_has_waited() -> None:
    revoke = down(caps(CapOp.REVOKE, SHARED, seq=2), 10)
    early = up(caps(CapOp.UPDATE, FULL, seq=1), 11)
    flushing = up(caps(CapOp.UPDATE, SHARED, seq=2, dirty=Cap.FILE_WR), 12.5, tid=9)
    found = lines([*LOOKUPS, revoke, early, flushing])
    assert "answers" not in found[-2]
    assert "dirty Fw flush_tid 9" in found[-1]
    assert found[-1].endswith("answers the revoke of 2.500 ms ago")


def test_a_flush_acknowledged_tells_how_long_it_took() -> None:
    flush = up(caps(CapOp.FLUSH, FULL, dirty=Cap.FILE_WR), tid=9)
    ack = down(caps(CapOp.FLUSH_ACK, FULL, dirty=Cap.FILE_WR), 1500, tid=9)
    assert last(flush, ack).endswith("dirty Fw flush_tid 9 after 1.500 s")
    assert "after" not in last(ack)


def test_size_and_mtime_are_told_when_they_are_news() -> None:
    body = CapBody(4096, 8192, 0, 0, 10**18, 0, 0, made.FileLayout(0, 0, 0, 0, 0, 0, 0), 0)
    grant = down(caps(CapOp.GRANT, FULL, body=body, wanted=FULL))
    assert "size 4096 mtime 2001-09-09T01:46:40" in last(grant).replace("T02", "T01").replace("T03", "T01")
    assert "size" not in last(grant, grant).replace("max_size", "")
    assert "max_size 8192" in last(grant)
    assert "size" not in last(up(caps(CapOp.UPDATE, FULL, body=body)))


def test_flushed_attributes_are_told() -> None:
    assert "mode 100600 uid 7 gid 8" in last(
        up(caps(CapOp.FLUSH, FULL, dirty=Cap.AUTH_EXCL, mode=0o100600, uid=7, gid=8))
    )
    assert "follows 5" in last(up(caps(CapOp.FLUSHSNAP, FULL, dirty=Cap.FILE_WR, snap_follows=5), tid=1))


def test_a_cap_that_migrates_tells_from_where_to_where() -> None:
    export = down(caps(CapOp.EXPORT, 0, cap_id=3, mseq=1, body=CapPeer(9, 1, 2, 4, CapFlag.AUTH)))
    assert last(export) == f"client_caps(export) {FILE:#x} cap_id 3 mseq 1 to mds.4 cap_id 9 issue_seq 1 mseq 2"
    imported = down(caps(CapOp.IMPORT, SHARED, mseq=2, seq=1, peer=CapPeer(3, 1, 1, 0, 0)), flow=flow(rank=4))
    assert "seq 1 mseq 2 caps pAsLsXsFs wanted - from mds.0 cap_id 3 issue_seq 1 mseq 1" in last(imported)


def test_caps_given_back_are_counted_and_the_first_are_named() -> None:
    items = tuple(CapItem(ino, 1, 0, 1) for ino in (FILE, 2, 3, 4, 5, 6))
    release = up(ClientCapRelease(items))
    assert last(*LOOKUPS, release) == f"client_caprelease 6 caps: {FILE:#x} /dir/file, 0x2, 0x3, 0x4 and 2 more"
    assert last(release, sought=frozenset({5})) == "client_caprelease 6 caps: 0x5 and 5 more"
    assert last(up(ClientCapRelease(()))) == "client_caprelease 0 caps"


def test_revokes_without_an_answer_are_told_at_the_end() -> None:
    table = Table()
    for item in (*LOOKUPS, down(caps(CapOp.REVOKE, SHARED, seq=2), 5), up(caps(CapOp.UPDATE, FULL, seq=2), 6)):
        table.take(item)
    ((revoke, path),) = table.known.unanswered()
    assert table.unanswered(revoke, path, NS + 65 * made.MS) == (
        f"client.4123 has not answered the revoke of AxXxFxcrwb on {FILE:#x} /dir/file by mds.0, seq 2, for 60.000 ms"
    )


ANSWERS = {
    "an update": up(caps(CapOp.UPDATE, SHARED, seq=2)),
    "a release": up(ClientCapRelease((CapItem(FILE, 7, 0, 1),))),
    "a request": up(
        request(RequestOp.SETATTR, FILE, releases=(RequestRelease(FILE, 7, Cap.PIN, 0, seq=2, issue_seq=1, mseq=0),))
    ),
    "an export": down(caps(CapOp.EXPORT, 0, body=CapPeer(9, 1, 2, 4, 0))),
    "the end of the session": down(ClientSession(SessionOp.CLOSE, 0)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_answers_a_revoke(answer: Traced) -> None:
    table = Table()
    for item in (*LOOKUPS, down(caps(CapOp.REVOKE, SHARED, seq=2))):
        table.take(item)
    assert len(list(table.known.unanswered())) == 1
    table.take(answer)
    assert not list(table.known.unanswered())


def test_revokes_of_one_rank_or_client_are_not_answered_by_another() -> None:
    table = Table()
    table.take(down(caps(CapOp.REVOKE, SHARED, seq=2)))
    for other in (flow(client=5), flow(rank=1)):
        table.take(up(caps(CapOp.UPDATE, SHARED, seq=2), flow=other))
    assert len(list(table.known.unanswered())) == 1


# Requests and replies


def test_a_request_tells_path_and_arguments() -> None:
    args = OpenArgs(OpenFlag.WRONLY | OpenFlag.CREAT, 0o644, 0, 0, 0, -1, Cap.AUTH_SHARED, 0)
    kept = (RequestRelease(DIR, 1, SHARED, 0, 1, 1, 0, 3, "old"),)
    create = up(request(RequestOp.CREATE, DIR, "new", args=args, releases=kept, num_retry=1, flags=2), tid=12)
    assert last(*LOOKUPS, create) == (
        "client_request(create) tid 12 /dir/new flags wronly,creat mode 644 mask As "
        f"gives back 1 caps: {DIR:#x} /dir keeps pAsLsXsFs and the lease on old want_dentry retry 1"
    )
    assert last(create).startswith(f"client_request(create) tid 12 #{DIR:#x}/new ")
    assert last(up(request(RequestOp.GETATTR, ROOT))) == "client_request(getattr) tid 0 0x1 /"
    assert last(up(request(RequestOp.GETATTR, FILE))) == f"client_request(getattr) tid 0 {FILE:#x}"


def test_the_second_path_of_a_request_is_told() -> None:
    rename = request(RequestOp.RENAME, DIR, "new", path2=FilePath(DIR, "file"), args=None)
    assert last(*LOOKUPS, up(rename)) == "client_request(rename) tid 0 /dir/new from /dir/file"
    symlink = request(RequestOp.SYMLINK, DIR, "link", path2=FilePath(0, "target"), args=None)
    assert last(*LOOKUPS, up(symlink)) == "client_request(symlink) tid 0 /dir/link -> target"
    setxattr = request(RequestOp.SETXATTR, FILE, path2=FilePath(0, "user.a"), data=b"x" * 100, args=None)
    assert last(*LOOKUPS, up(setxattr)).endswith(f"/dir/file user.a '{'x' * 32}'... of 100 bytes")


def test_setattr_tells_what_it_sets() -> None:
    args = SetattrArgs(0o644, 1, 2, 0, 0, 10, 20, SetattrMask.SIZE | SetattrMask.MODE | SetattrMask.KILL_SUID, 0)
    assert last(up(request(RequestOp.SETATTR, FILE, args=args))).endswith("mode 644 size 10 from 20 kill_suid")


def test_a_reply_tells_result_duration_inode_and_caps() -> None:
    asked = up(request(RequestOp.CREATE, DIR, "new", args=None), tid=5)
    unsafe = down(
        reply(RequestOp.CREATE, inode(DIR), "new", inode(FILE, FULL), CreatedInode(FILE, ()), safe=0), 2, tid=5
    )
    safe = down(reply(RequestOp.CREATE), 40, tid=5)
    found = [" ".join(line.split()[4:]) for line in lines([LOOKUPS[0], asked, unsafe, safe, safe])]
    assert found[2] == (
        f"client_reply(create) tid 5 0 unsafe after 2.000 ms {FILE:#x} /dir/new caps pAsxLsXsxFsxcrwb seq 1 "
        f"in {DIR:#x} /dir caps pAsLsXsFs seq 1 created {FILE:#x}"
    )
    assert found[3] == "client_reply(create) tid 5 0 safe after 40.000 ms /dir/new"
    assert found[4] == "client_reply(create) tid 5 0 safe"


def test_a_failed_request_names_its_errno() -> None:
    asked = up(request(RequestOp.LOOKUP, DIR, "none"), tid=5)
    missing = down(reply(RequestOp.LOOKUP, inode(DIR), "none", result=-2), tid=5)
    refused = down(reply(RequestOp.LOOKUP, result=-13), tid=5)
    assert "tid 5 -2 ENOENT safe after 0.000 ms /dir/none is not there" in last(LOOKUPS[0], asked, missing)
    assert last(LOOKUPS[0], asked, refused).endswith("-13 EACCES safe after 0.000 ms /dir/none")
    assert "-4711 unknown errno" in last(down(reply(RequestOp.LOOKUP, result=-4711)))


def test_a_directory_tells_its_first_entries() -> None:
    entries = tuple(DirEntry(f"f{i}", LeaseStat(0, 0, 0), inode(100 + i, i and SHARED)) for i in range(6))
    listing = down(reply(RequestOp.READDIR, target=inode(DIR), extra=ReaddirReply(DirStat(0, 0, ()), 0x101, entries)))
    assert last(*LOOKUPS, listing).endswith(
        "6 entries: 0x64 f0 -, 0x65 f1 pAsLsXsFs, 0x66 f2 pAsLsXsFs, 0x67 f3 pAsLsXsFs and 2 more "
        "frag_end,frag_complete"
    )
    named = up(request(RequestOp.GETATTR, 101))
    assert last(*LOOKUPS, listing, named).endswith("0x65 /dir/f1")


def test_forwards_leases_and_reconnects_tell_what_they_are_about() -> None:
    assert last(down(ClientRequestForward(1, 2, 1), tid=7)) == "client_request_forward tid 7 to mds.1 fwd 2"
    lease = ClientLease(LeaseAction.REVOKE, 1, DIR, 2, NOSNAP, 3, 0, "file")
    assert last(*LOOKUPS, down(lease)) == f"client_lease(revoke) /dir/file in {DIR:#x} seq 3"
    held = ReconnectCap(FILE, CapReconnect("sub/file", 1, FULL, SHARED, ROOT, DIR, None))
    assert last(LOOKUPS[0], up(ClientReconnect((held,), ()))) == (
        f"client_reconnect 1 caps: {FILE:#x} /dir/sub/file pAsLsXsFs wanted pAsxLsXsxFsxcrwb 0 realms"
    )


def test_a_snapshot_tells_its_realm_and_what_moves_there() -> None:
    realm = SnapRealm(DIR, 0, 1, 0, 3, (3, 2), (), 0, 0)
    split = ClientSnap(SnapOp.SPLIT, DIR, (FILE,), (9,), Codec[Any](SNAP_TRACE).encode(SnapTrace((realm,))))
    assert last(*LOOKUPS, down(split)) == (
        f"client_snap(split) realm {DIR:#x} /dir seq 3 snaps 3,2 1 inodes: {FILE:#x} /dir/file 1 realms: 0x9"
    )
    assert last(down(ClientSnap(SnapOp.DESTROY, 9, (), (), b"nonsense"))) == "client_snap(destroy) split 0x9"


def test_a_session_tells_who_and_why_not() -> None:
    assert last(down(ClientSession(SessionOp.RECALL_STATE, 0, max_caps=500))) == (
        "client_session(recall_state) max_caps 500 max_leases 0"
    )
    rejected = ClientSession(SessionOp.REJECT, 0, metadata={"error_string": "blocklisted"}, flags=1)
    assert last(down(rejected)) == "client_session(reject) error_string blocklisted blocklisted"


# What is known


def test_a_path_follows_renames() -> None:
    moved = down(reply(RequestOp.RENAME, inode(ROOT), "moved", inode(DIR)))
    found = up(request(RequestOp.GETATTR, FILE))
    assert last(*LOOKUPS, found, moved, found).endswith("/moved/file")


def test_a_path_grows_as_directories_become_known() -> None:
    found = up(request(RequestOp.GETATTR, FILE))
    assert last(LOOKUPS[1], found).endswith(f"{FILE:#x} #{DIR:#x}/file")
    assert last(LOOKUPS[1], found, LOOKUPS[0], found).endswith("/dir/file")


def test_inodes_in_snapshots_do_not_pass_for_the_live_ones() -> None:
    old = inode(FILE, FULL, snapid=5)
    snapshot = down(reply(RequestOp.LOOKUP, inode(DIR), "_old", old))
    assert "in snapshot 5" in last(snapshot)
    assert last(LOOKUPS[0], snapshot, up(request(RequestOp.GETATTR, FILE))).endswith(f"{FILE:#x}")


def test_directories_in_a_circle_do_not_hang() -> None:
    a, b = (
        down(reply(RequestOp.LOOKUP, inode(8), "a", inode(9))),
        down(reply(RequestOp.LOOKUP, inode(9), "b", inode(8))),
    )
    assert last(a, b, up(request(RequestOp.GETATTR, 9))).count("/") <= 64


def test_each_client_has_its_own_names() -> None:
    other = up(request(RequestOp.GETATTR, FILE), flow=flow(client=5))
    assert last(*LOOKUPS, other).endswith(f"tid 0 {FILE:#x}")


def test_caps_of_an_earlier_session_are_not_compared_with() -> None:
    ended = down(ClientSession(SessionOp.CLOSE, 0))
    assert "(" not in last(*LOOKUPS, ended, down(caps(CapOp.GRANT, SHARED))).removeprefix("client_caps(grant)")


def test_an_inode_without_a_cap_leaves_what_is_known_of_its_cap() -> None:
    without = inode(FILE, cap=IssuedCap(0, 0, 0, 0, 0, 0, 0))
    bare = down(reply(RequestOp.LOOKUP, inode(DIR), "file", without))
    assert "no caps" in last(bare)
    assert "(-AxXxFxcrwb)" in last(*LOOKUPS, bare, down(caps(CapOp.REVOKE, SHARED)))


def test_only_what_was_spoken_of_lately_is_remembered() -> None:
    recent: Recent[int, int] = Recent(10)
    recent[0] = 1
    for i in range(1, 1000):
        assert recent.get(0) == 1
        recent[i] = i
        assert len(recent) <= 22
    assert recent.get(1) is None
    assert recent.get(999) == recent.pop(999) == 999
    assert recent.pop(999) is None
    assert dict(recent.items()).keys() <= {0, *range(970, 999)}


def many(count: int) -> Iterator[Traced]:
    for ino in range(100, 100 + count):
        yield down(reply(RequestOp.LOOKUP, inode(ROOT), str(ino), inode(ino, FULL)))
        yield down(caps(CapOp.REVOKE, SHARED, ino))
        yield up(request(RequestOp.GETATTR, ino), tid=ino)
        yield up(caps(CapOp.FLUSH, SHARED, ino, dirty=1), tid=ino)


def test_memory_does_not_grow_with_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cephcaps.trace.known.REMEMBERED", 50)
    monkeypatch.setattr(Recent.__init__, "__defaults__", (50,))
    table = Table()
    for item in many(1000):
        table.message(item, table.take(item))
    sizes = [len(value) for value in vars(table.known).values() if isinstance(value, Recent)]
    assert len(sizes) == 5
    assert max(sizes) <= 102


def test_long_names_are_shown_and_not_remembered() -> None:
    name = "x" * 100_000
    found = lines(
        [
            down(reply(RequestOp.LOOKUP, inode(ROOT), name, inode(FILE))),
            up(request(RequestOp.CREATE, ROOT, name, args=None), tid=3),
            down(reply(RequestOp.CREATE), tid=3),
        ]
    )
    assert name not in found[0]
    assert name in found[1]
    assert name not in found[2]


def test_paths_kept_do_not_grow_with_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cephcaps.trace.known.PATHS", 10_000)
    table = Table()
    for item in many(1000):
        table.message(item, table.take(item))
    assert sum(map(len, table.known._paths.values())) <= 10_000
