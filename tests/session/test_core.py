"""A client's core: mounting, and that one bad peer ends one connection at most."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.core import Close, MdsCommand, Mount
from cephcaps.errors import AuthError, ConnectionFailed, MdsError, RequestTimeout
from cephcaps.mds.requests import Operation
from cephcaps.messenger.connection import Phase
from cephwire.caps import CapOp
from cephwire.commands import Command
from cephwire.control import ConMode
from cephwire.map_messages import MFsMapUser, MMdsMap
from cephwire.mdsmap import MdsState
from cephwire.mon_messages import MonSubscribe
from cephwire.reply import ClientRequestForward
from cephwire.request import ClientRequest, FilePath
from cephwire.requestargs import GetattrArgs, MkdirArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.session import samples
from tests.session.peers import flushed
from tests.session.world import World, mounted

# Mounting


def test_a_mount_brings_the_root() -> None:
    world = World()

    answer = world.mount()

    assert answer.inode.ino == 1
    assert world.core.fscid == samples.FSCID
    assert world.core.mds.fsid == samples.FSID
    [(_, request)] = world.ranks[0].peer.requests()
    assert (request.op, request.path, request.args) == (RequestOp.GETATTR, FilePath(1, ""), GetattrArgs(0x155))


def test_who_wants_no_root_has_nothing_asked_for_him() -> None:
    world = World()
    token = world.call(Mount(root=False), 10.0)
    world.advance(1.0)

    assert world.results[token] is None
    assert world.core.mds.mdsmap is not None
    assert not world.ranks[0].peers
    world.call(MdsCommand(0, "{}"))
    assert [type(message) for _, message in world.ranks[0].peer.messages] == [ClientSession, Command]


def test_a_mount_of_a_directory_asks_for_it() -> None:
    world = World(root="/some/dir/")
    world.ranks[0].answers = lambda request: samples.reply(request.op, samples.inode(77))

    assert world.mount().inode.ino == 77

    [(_, request)] = world.ranks[0].peer.requests()
    assert request.path == FilePath(1, "some/dir")


def test_a_file_system_can_be_named() -> None:
    world = World(fs="b")
    world.maps["mdsmap.2"] = world.maps.pop("mdsmap.1")

    assert not isinstance(world.mount(), Exception)
    assert world.core.fscid == 2


@pytest.mark.parametrize(
    ("fs", "names", "default", "text"),
    [
        ("c", {"a": 1, "b": 2}, 1, "knows no file system named 'c'; it has: a, b"),
        (None, {}, -1, "knows no default file system; it has none that client.admin may see"),
        (None, {"a": 1}, -1, r"no default file system; name one with fs= \(--fs\); it has: a"),
    ],
)
def test_a_mount_of_no_file_system_fails_at_once(
    fs: str | None, names: dict[str, int], default: int, text: str
) -> None:
    world = World(fs=fs)
    world.maps["fsmap.user"] = 7, samples.fsmap(7, names, default)

    token = world.call(Mount(), 10.0)

    error = world.results[token]
    assert isinstance(error, FileNotFoundError)
    assert isinstance(error, MdsError)
    with pytest.raises(MdsError, match=text):
        raise error


def test_a_mount_that_nobody_answers_fails_when_its_time_is_up() -> None:
    world = World()
    world.mons[0].mood = "silent"
    start = world.now

    error = world.mount()

    assert isinstance(error, ConnectionFailed)
    assert world.now == start + 10.0


@pytest.mark.parametrize(("missing", "awaited"), [("fsmap.user", "the FSMap"), ("mdsmap.1", "the MDSMap")])
def test_a_mount_whose_monitor_keeps_a_map_to_itself_says_which(missing: str, awaited: str) -> None:
    world = World()
    del world.maps[missing]

    error = world.mount()

    assert isinstance(error, RequestTimeout)
    assert error.awaited == awaited
    assert str(error) == f"mon at v2:192.0.2.1:3300/0 did not send {awaited} in time"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (MdsState.REPLAY, "an active MDS; file system a: rank 0 is up:replay"),
        (MdsState.CREATING, "an active MDS; file system a: rank 0 is up:creating"),
    ],
)
def test_a_mount_without_an_active_mds_says_what_there_is(state: MdsState, text: str) -> None:
    world = World()
    world.map_ranks(state=state)

    error = world.mount()

    assert isinstance(error, RequestTimeout)
    assert text in str(error)


def test_a_mount_without_any_mds_says_so() -> None:
    world = World(mds=0)
    world.map_ranks(failed=(0,))

    assert "file system a: rank 0 has failed" in str(world.mount())


def test_a_mount_whose_mds_cannot_be_reached_says_why() -> None:
    world = World()
    world.ranks[0].mood = "dead"

    error = world.mount()

    assert isinstance(error, RequestTimeout)
    assert "awaiting a session with mds.0 (host100) at v2:192.0.2.2:6900/100 (connection refused)" in str(error)
    assert (error.tid, error.rank) == (None, 0)


def test_a_mount_goes_on_when_the_mds_becomes_active() -> None:
    world = World()
    world.map_ranks(state=MdsState.REJOIN)
    token = world.call(Mount(), 100.0)
    world.advance(50.0)
    world.map_ranks(epoch=6)
    world.publish()

    assert not isinstance(world.results[token], Exception)


def test_an_mds_map_of_before_is_not_taken() -> None:
    world = mounted()
    world.replace(0)
    world.map_ranks(epoch=4)
    world.mons[0].peer.send(world.maps["mdsmap.1"][1])
    world.run()

    assert world.core.mds.mdsmap is not None
    assert world.core.mds.mdsmap.epoch == 5
    assert world.session.state == "open"


def test_a_mount_nobody_waits_for_is_forgotten() -> None:
    world = World()
    world.mons[0].mood = "silent"
    token = world.call(Mount(), 10.0)

    world.cancel(token)
    world.advance(60.0)

    assert token not in world.results


def test_closing_fails_a_mount_under_way() -> None:
    world = World()
    world.mons[0].mood = "silent"
    token = world.call(Mount(), 10.0)

    world.call(Close())

    assert isinstance(world.results[token], ConnectionFailed)


def test_a_hurried_close_waits_for_the_mds_to_agree_and_for_no_change() -> None:
    world = mounted()
    peer = world.ranks[0].peer
    path = FilePath(1, "new")
    world.call(Operation(RequestOp.MKDIR, path, "/new", MkdirArgs(0o40755)))
    patient = world.call(Close())
    assert SessionOp.REQUEST_CLOSE not in [op for op, _ in peer.session_ops()]

    world.cancel(patient)
    hurried = world.call(Close(hurried=True))

    assert peer.session_ops()[-1] == (SessionOp.REQUEST_CLOSE, 0)
    assert world.results[hurried] is None
    assert world.session.state == "closed"


def test_an_mds_is_told_that_a_client_leaves_though_it_does_not_wait() -> None:
    world = mounted()
    peer = world.ranks[0].peer

    world.core.stop(world.now)
    world.run()

    assert peer.session_ops()[-1] == (SessionOp.REQUEST_CLOSE, 0)


# Bad peers


@pytest.mark.parametrize("mode", ConMode)
def test_a_damaged_frame_ends_one_connection_and_what_follows_it_is_ignored(mode: ConMode) -> None:
    world = mounted(mode=mode)
    connection, peer = world.session.connection, world.ranks[0].peer
    assert connection is not None
    session = world.session
    peer.push(samples.caps(CapOp.REVOKE, 7, 70))
    damaged = bytearray(flushed(peer.out))
    damaged[-20] ^= 4
    peer.push(samples.caps(CapOp.REVOKE, 8, 80))
    after = flushed(peer.out)

    world.core.received(connection, bytes(damaged) + after, world.now)
    world.core.received(connection, after, world.now)
    world.run()

    assert connection.phase is Phase.CLOSED
    assert (session.state, session.seq) == ("open", 0)
    world.advance(1.0)
    assert session.seq == 2  # the MDS sends again what had not arrived
    assert len(world.ranks[0].peers) == 2
    assert world.core.monitors.ready


def test_what_no_schema_explains_is_noted() -> None:
    world = mounted()
    peer = world.ranks[0].peer

    peer.send_raw(7777, b"whatever")
    peer.send_raw(22, bytes(28) + b"news", version=1)
    world.run()

    assert world.core.unknown == {7777: 1}
    assert [left.structure for left in world.core.leftovers] == ["ClientSession"]
    assert world.happened("bytes.skipped") == [{"structure": "ClientSession", "offset": 28, "size": 4}]
    assert world.session.state == "rejected"  # op 0 is not for clients


def test_only_so_many_oddities_are_kept() -> None:
    world = mounted()
    for _ in range(150):
        world.mons[0].peer.send_raw(62, bytes(4) + b"news")
    world.run()

    assert len(world.core.leftovers) == 100
    assert len(world.happened("bytes.skipped")) == 150


MESSAGES: list[Any] = [
    samples.caps(CapOp.REVOKE, 7, 70),
    samples.reply(RequestOp.GETATTR, samples.inode(1, samples.cap(1, 10))),
    samples.fsmap(8, {"b": 2}),
    samples.monmap(4),
    samples.mdsmap(9),
    ClientSession(SessionOp.STALE, 0),
    ClientSession(SessionOp.OPEN, 0),
    ClientRequestForward(0, 9, 1),
    ClientRequest(1, 0, 0, 0, 0, 0, RequestOp.GETATTR, 0, 0, 0, GetattrArgs(0), FilePath(), FilePath(), (), 0, b""),
    MonSubscribe({}),
]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(MESSAGES), st.integers(0, 3)), max_size=12))
def test_no_order_of_messages_breaks_the_core(said: list[tuple[bool, Any, int]]) -> None:
    world = mounted()
    tokens = [world.getattr(timeout=20.0), world.getattr(ino=3, timeout=20.0)]

    for by_monitor, message, tid in said:
        daemon = world.mons[0] if by_monitor else world.ranks[0]
        if not isinstance(message, MFsMapUser | MMdsMap) or by_monitor:
            daemon.peer.send(message, tid=tid)
        world.run()
    world.advance(40.0)

    assert all(token in world.results for token in tokens)


def test_an_auth_error_of_one_mds_is_the_caller_s() -> None:
    world = mounted(root="/")
    world.ranks[0].peer.send(ClientSession(SessionOp.REJECT, 0, metadata={"error_string": "non-allowable root '/'"}))
    world.run()

    assert isinstance(world.results[world.getattr()], AuthError)


def test_ranks_that_are_not_the_lowest_are_asked_when_it_is_not_active() -> None:
    world = World(mds=2)
    first, second = world.ranks
    second.answers = first.answers
    infos = [
        samples.mds_info(0, first.gid, first.addr, MdsState.REJOIN),
        samples.mds_info(1, second.gid, second.addr),
    ]
    world.maps["mdsmap.1"] = 5, samples.mdsmap(5, *infos)

    assert not isinstance(world.mount(), Exception)
    assert first.peers == []
