"""Replay: libcephfs and we say the same under our engine, and what is wrong shows."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.core import Safe, SetAttributes
from cephcaps.engine.setattr import Change
from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.read import read_trace
from cephcaps.trace.record import Recorder
from cephcaps.trace.replay import COMPARED, RULES, Difference, Replay
from cephcaps.trace.replay.said import said_in
from cephwire.capbits import Cap, FileMode
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.entity import EntityType
from cephwire.messages import BY_NUMBER
from cephwire.request import ClientRequest
from tests.session import samples
from tests.session.test_owed import acknowledge, flushes, give, told
from tests.trace.test_record import RecordedWorld
from tests.wire.strategies import values

DATA = Path(__file__).parent / "data"
LIBCEPHFS = DATA / "libcephfs-pacific.pcapng.gz"
"""Two libcephfs, ceph-fuse and clients that were evicted, made by `tests.trace.rewriting` of a whole scenario."""
ALL = Cap.ALL_FILE
SHARED = Cap.PIN | Cap.ANY_SHARED
FAR = 1000
"""A seq that is never reached."""

Fault: TypeAlias = Callable[[Traced], Traced | None]


@cache
def captured() -> tuple[Item, ...]:
    return tuple(read_trace(io.BytesIO(gzip.decompress(LIBCEPHFS.read_bytes()))))


def replayed(items: Iterable[Item], **wanted: Any) -> tuple[Replay, list[Difference]]:
    found: list[Difference] = []
    replay = Replay(found.append, **wanted)
    for item in items:
        replay.take(item)
    replay.end()
    return replay, found


def unexplained(found: list[Difference]) -> list[Difference]:
    return [one for one in found if not one.rule]


# Real clients


def test_what_libcephfs_says_is_what_we_would_say() -> None:
    replay, found = replayed(captured())
    assert unexplained(found) == []
    assert not replay.failures
    tallies = replay.tallies.values()
    compared = sum(one.compared for one in tallies)
    assert compared > 500
    assert sum(one.unjudged for one in tallies) == 0
    assert sum(one.explained.total() for one in tallies) <= compared * 0.02


def test_there_are_few_rules_and_each_says_where_it_is_written() -> None:
    assert len(RULES) <= 12
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.why
        assert rule.source.startswith(("ceph: src/", "kernel: fs/"))


def test_a_client_or_an_inode_can_be_picked() -> None:
    whole, _ = replayed(captured())
    some, _ = replayed(captured(), clients=[4119])
    assert some.tallies == {4119: whole.tallies[4119]}
    one, _ = replayed(captured(), inos=[0x10000000208])
    assert 0 < sum(tally.compared for tally in one.tallies.values()) < 60


def test_what_began_before_the_capture_is_not_judged() -> None:
    items = captured()
    replay, found = replayed(items[len(items) // 3 :])
    assert unexplained(found) == []
    assert sum(one.unjudged for one in replay.tallies.values()) > 0


def test_after_a_gap_a_session_is_not_judged() -> None:
    items = list(captured())
    third = len(items) // 3
    first = next(item for item in items[third:] if isinstance(item, Traced) and of_caps(item, CapOp.UPDATE))
    flow = first.flow
    assert flow.client_id is not None
    whole, _ = replayed(items)
    items[items.index(first)] = Problem(first.ns, flow, None, "gap", "bytes are missing", 10)
    replay, found = replayed(items)
    assert unexplained(found) == []
    judged, judged_whole = replay.tallies[flow.client_id], whole.tallies[flow.client_id]
    assert judged.unjudged > 0
    assert judged.compared < judged_whole.compared


# Faults


def of_caps(item: Traced, *ops: CapOp) -> bool:
    return item.to_daemon and isinstance(item.message, ClientCaps) and item.message.op in ops


def with_field(name: str, change: Callable[[int], int], *ops: CapOp) -> Fault:
    def make(item: Traced) -> Traced | None:
        if not of_caps(item, *(ops or (CapOp.UPDATE,))):
            return None
        value = change(getattr(item.message, name))
        if value == getattr(item.message, name):
            return None
        return item._replace(message=msgspec.structs.replace(item.message, **{name: value}))

    return make


def with_item(**changes: int) -> Fault:
    def make(item: Traced) -> Traced | None:
        if not isinstance(item.message, ClientCapRelease):
            return None
        last = msgspec.structs.replace(item.message.caps[-1], **changes)
        return item._replace(message=msgspec.structs.replace(item.message, caps=(*item.message.caps[:-1], last)))

    return make


def with_record(**changes: int) -> Fault:
    def make(item: Traced) -> Traced | None:
        if not isinstance(item.message, ClientRequest) or not item.message.releases:
            return None
        first = msgspec.structs.replace(item.message.releases[0], **changes)
        releases = (first, *item.message.releases[1:])
        return item._replace(message=msgspec.structs.replace(item.message, releases=releases))

    return make


def with_tid(tid: int) -> Fault:
    def make(item: Traced) -> Traced | None:
        if not of_caps(item, CapOp.UPDATE) or not item.message.dirty or item.header.tid == tid:
            return None
        return item._replace(header=msgspec.structs.replace(item.header, tid=tid))

    return make


FAULTS: dict[str, Fault] = {
    "seq": with_field("seq", lambda seq: FAR),
    "older seq": with_field("seq", lambda seq: max(seq - 1, 0)),
    "issue_seq": with_field("issue_seq", lambda seq: FAR),
    "mseq": with_field("mseq", lambda seq: FAR),
    "cap_id": with_field("cap_id", lambda number: 999),
    "bits not given back": with_field("caps", lambda caps: caps | Cap.ANY_SHARED),
    "bits given back in vain": with_field("caps", lambda caps: Cap.PIN),
    "follows": with_field("snap_follows", lambda snapid: FAR, CapOp.FLUSHSNAP),
    "flush tid used twice": with_tid(1),
    "release's issue_seq": with_item(issue_seq=FAR),
    "release's mseq": with_item(mseq=FAR),
    "record's seq": with_record(seq=FAR),
    "record's issue_seq": with_record(issue_seq=FAR),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(name: str) -> None:
    items = list(captured())
    start = len(items) // 2
    for at in (*range(start, len(items)), *range(start)):
        item = items[at]
        if isinstance(item, Traced) and (faulty := FAULTS[name](item)) is not None:
            items[at] = faulty
            break
    else:
        raise AssertionError("nowhere to plant it")
    _, found = replayed(items)
    assert faulty.flow.daemon_num is not None
    inos = {said.ino for said in said_in(faulty.flow.daemon_num, faulty.message, faulty.header.tid)}
    assert inos & {one.ino for one in unexplained(found)}


def test_an_answer_that_is_never_given_is_missed() -> None:
    items = list(captured())
    revokes = [
        (item.message.ino, item.message.seq)
        for item in items
        if isinstance(item, Traced) and isinstance(item.message, ClientCaps) and item.message.op == CapOp.REVOKE
    ]
    at = next(
        n
        for n, item in enumerate(items)
        if n > len(items) // 4
        and isinstance(item, Traced)
        and of_caps(item, CapOp.UPDATE)
        and not item.message.dirty
        and (item.message.ino, item.message.seq) in revokes
    )
    ino = items.pop(at).message.ino  # type: ignore[union-attr]
    _, found = replayed(items)
    assert any(one.ino == ino and one.sent is None for one in unexplained(found))


def test_an_answer_given_twice_is_one_too_many() -> None:
    items = list(captured())
    at = next(n for n, item in enumerate(items) if isinstance(item, Traced) and of_caps(item, CapOp.UPDATE))
    items.insert(at, items[at])
    _, found = replayed(items)
    assert [(one.ino, one.expected) for one in unexplained(found)] == [(items[at].message.ino, None)]  # type: ignore[union-attr]


# Our own recordings


def test_our_own_recording_has_no_difference(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x")
    world = RecordedWorld(recorder)
    world.mount()
    peer = world.ranks[0].peer
    give(world, told(2, ALL, 20), told(3, ALL, 30), told(4, SHARED, 40))
    world.call(SetAttributes(2, "/file2", Change(1, mode=0o600)))
    peer.push(samples.caps(CapOp.REVOKE, 2, 20, bits=SHARED, seq=2))  # the flush is the answer
    world.run()
    acknowledge(world, 2, flushes(world)[-1][0])
    peer.push(samples.caps(CapOp.GRANT, 2, 20, bits=ALL, seq=3))
    peer.push(samples.caps(CapOp.REVOKE, 3, 30, seq=2))
    peer.push(samples.caps(CapOp.REVOKE, 99, 99, seq=7))  # not ours: given back at once
    world.run()
    world.call(SetAttributes(2, "/file2", Change(2, mode=0o644)))
    world.call(Safe(2))
    acknowledge(world, 2, flushes(world)[-1][0])
    world.core.mds.engine.opened(3, FileMode.RD, world.now)
    world.core.mds.release(4, world.now)
    world.advance(70.0)
    recorder.close()
    with (tmp_path / "x").open("rb") as file:
        replay, found = replayed(read_trace(file))
    assert found == []
    (tally,) = replay.tallies.values()
    assert tally.compared == tally.alike >= 6


# Hostile captures

FLOW = Flow(1, "192.0.2.7:50000", "192.0.2.2:6800", 4123, EntityType.MDS, 0, 2)
MESSAGES = [kind for kind in BY_NUMBER.values() if kind.name.startswith("Client")]


@st.composite
def anything(draw: Any) -> list[Item]:
    items: list[Item] = []
    template = next(item for item in captured() if isinstance(item, Traced))
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(MESSAGES))
        version = draw(st.integers(kind.oldest, kind.newest))
        message = draw(values(kind.schema, version))
        header = msgspec.structs.replace(template.header, tid=draw(st.integers(0, 3)), type=kind.number)
        item = template._replace(ns=number, flow=FLOW, to_daemon=draw(st.booleans()), header=header)
        items.append(item._replace(message=_few(draw, message)))
    return items


def _few(draw: Any, message: Any) -> Any:
    """The message about one of few inodes, so that messages have to do with each other."""
    if not isinstance(message, msgspec.Struct) or not hasattr(message, "ino"):
        return message
    return msgspec.structs.replace(message, ino=draw(st.integers(1, 2)))


@given(st.data(), st.integers(0, 900))
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_capture_brings_it_down(data: Any, at: int) -> None:
    strange = data.draw(anything())
    few = [item for item in captured()[at : at + 60] if isinstance(item, Traced)]
    replayed([*(item._replace(flow=FLOW) for item in few), *strange, *(item._replace(flow=FLOW) for item in few)])


def test_what_is_compared() -> None:
    assert set(COMPARED) >= {"op", "caps", "dirty", "seq", "issue_seq", "mseq"}
