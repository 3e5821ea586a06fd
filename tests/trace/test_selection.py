"""Filters: what concerns an inode, a type, a client, a rank or a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from cephcaps.trace.items import Flow, Item, Traced
from cephcaps.trace.known import Revoke
from cephcaps.trace.selection import Moment, Selection, inodes, type_pattern
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapOp
from cephwire.codec import Codec
from cephwire.entity import EntityType
from cephwire.inode import DirStat, LeaseStat, Quota
from cephwire.lease import ClientLease, LeaseAction
from cephwire.quota import ClientQuota
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap, SnapRealmReconnect
from cephwire.reply import ClientRequestForward, CreatedInode, DirEntry, ReaddirReply
from cephwire.request import FilePath, RequestRelease
from cephwire.requestargs import LookupInoArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import SNAP_TRACE, ClientSnap, SnapOp, SnapRealm, SnapTrace
from tests.trace import rendering as made
from tests.trace.rendering import NS, ROOT, caps, down, flow, inode, problem, reply, request, up

INO = 0x10000000005
REALMS = Codec[SnapTrace](SNAP_TRACE).encode(
    SnapTrace(tuple(SnapRealm(ino, 0, 0, 0, 1, (), (), 0, 0) for ino in (INO, ROOT)))
)


def chosen(selection: Selection, *items: Item) -> list[bool]:
    return [selection.wants(item) for item in items]


ABOUT = {
    "caps": caps(CapOp.GRANT, 1, INO),
    "a cap given back": ClientCapRelease((CapItem(7, 1, 1, 1), CapItem(INO, 1, 1, 1))),
    "the base of a path": request(RequestOp.GETATTR, INO),
    "the base of the other path": request(RequestOp.LINK, 7, "a", path2=FilePath(INO, "")),
    "a release in a request": request(RequestOp.SETATTR, 7, releases=(RequestRelease(INO, 1, 1, 1, 1, 1, 1),)),
    "a create that is replayed": msgspec.structs.replace(request(RequestOp.CREATE, 7, "a"), ino=INO),
    "a lookup by number": request(RequestOp.LOOKUPINO, 7, args=LookupInoArgs(1, 0, INO, 0)),
    "the directory of a reply": reply(RequestOp.LOOKUP, inode(INO), "a", inode(7)),
    "the target of a reply": reply(RequestOp.LOOKUP, inode(7), "a", inode(INO)),
    "an inode created": reply(RequestOp.CREATE, extra=CreatedInode(INO, ())),
    "an entry of a directory": reply(
        RequestOp.READDIR,
        extra=ReaddirReply(DirStat(0, 0, ()), 0, (DirEntry("a", LeaseStat(0, 0, 0), inode(INO)),)),
    ),
    "a lease": ClientLease(LeaseAction.REVOKE, 1, INO, 1, 1, 1, 1, "a"),
    "a new snap realm": ClientSnap(SnapOp.SPLIT, INO, (), (), b""),
    "an inode that moves to one": ClientSnap(SnapOp.SPLIT, 7, (8, INO), (), b""),
    "a realm that moves below one": ClientSnap(SnapOp.SPLIT, 7, (), (8, INO), b""),
    "a snap realm": ClientSnap(SnapOp.UPDATE, 0, (), (), REALMS),
    "a quota": ClientQuota(INO, 0, 0, 0, 0, Quota(0, 0)),
    "a cap held": ClientReconnect((ReconnectCap(INO, CapReconnect("", 1, 1, 1, 1, 0, None)),), ()),
    "a realm known": ClientReconnect((), (SnapRealmReconnect(INO, 1, 1),)),
}


@pytest.mark.parametrize("message", ABOUT.values(), ids=ABOUT)
def test_what_names_an_inode_is_about_it(message: Any) -> None:
    assert chosen(Selection(inos=[INO, 99]), up(message)) == [True]
    assert chosen(Selection(inos=[98, 99]), up(message)) == [False]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made.any_message())
def test_every_field_that_is_an_inode_number_counts(item: Traced) -> None:
    assert set(named(item.message)) <= set(inodes(item.message))


def named(value: Any) -> Any:
    """Values of fields named ino, but for those of the structures that only explain."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            below = getattr(value, name)
            yield from [below] if name == "ino" else named(below)
    elif isinstance(value, tuple):
        for one in value:
            yield from named(one)


def test_the_realms_an_inode_lies_in_are_not_what_a_message_is_about() -> None:
    granted = caps(CapOp.GRANT, 1, INO, realm=ROOT)
    snap = ClientSnap(SnapOp.UPDATE, 0, (), (), REALMS)
    assert chosen(Selection(inos=[ROOT]), down(granted), down(snap)) == [False, False]


def test_what_answers_a_request_about_an_inode_is_about_it_too() -> None:
    asked, other = up(request(RequestOp.SETATTR, INO), tid=5), up(request(RequestOp.SETATTR, 7), tid=6)
    forward = down(ClientRequestForward(1, 1, 1), tid=5)
    unsafe, safe = down(reply(RequestOp.SETATTR, safe=0), tid=5), down(reply(RequestOp.SETATTR), tid=5)
    selection = Selection(inos=[INO])
    found = chosen(selection, asked, other, forward, unsafe, safe, safe, down(reply(RequestOp.SETATTR), tid=6))
    assert found == [True, False, True, True, True, False, False]
    assert chosen(selection, asked, down(reply(RequestOp.SETATTR), tid=5, flow=flow(client=9))) == [True, False]


def test_types_are_named_numbered_and_matched() -> None:
    items = [
        up(caps(CapOp.UPDATE, 1)),
        down(caps(CapOp.REVOKE, 1)),
        up(request(RequestOp.OPEN)),
        up(None, number=42),
        up(None, number=4711),
    ]
    for words, wanted in {
        ("client_caps",): [1, 1, 0, 0, 0],
        ("0x310",): [1, 1, 0, 0, 0],
        ("784", "24"): [1, 1, 1, 0, 0],
        ("client_*",): [1, 1, 1, 0, 0],
        ("Client_Caps(Revoke)",): [0, 1, 0, 0, 0],
        ("client_caps(re*)", "*(open)"): [0, 1, 1, 0, 0],
        ("784(update)",): [1, 0, 0, 0, 0],
        ("osd_op",): [0, 0, 0, 1, 0],
        ("4711",): [0, 0, 0, 0, 1],
        ("type_4711",): [0, 0, 0, 0, 1],
    }.items():
        assert chosen(Selection(types=map(type_pattern, words)), *items) == [bool(one) for one in wanted], words


@pytest.mark.parametrize("word", ["client_cap", "", "caps(revoke)", "nonsense*"])
def test_a_type_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"no type of message; known are auth, .*client_caps, "):
        type_pattern(word)


def test_clients_and_ranks() -> None:
    monitor = Flow(3, "a:1", "b:2", 4123, EntityType.MON, 0)
    items = [
        up(caps(CapOp.UPDATE, 1)),
        up(caps(CapOp.UPDATE, 1), flow=flow(client=5)),
        up(caps(CapOp.UPDATE, 1), flow=flow(rank=1)),
        up(caps(CapOp.UPDATE, 1), flow=flow(client=None)),
        up(ClientSession(SessionOp.CLOSE, 0), flow=monitor),
        problem(),
        problem(flow=flow(rank=1)),
        problem(flow=None),
        up(caps(CapOp.UPDATE, 1), flow=flow(rank=None)),
    ]
    assert chosen(Selection(clients=[4123]), *items) == [True, False, True, False, True, True, True, True, True]
    assert chosen(Selection(ranks=[0]), *items) == [True, True, False, True, False, True, False, True, True]
    assert chosen(Selection(ranks=[1], clients=[4123]), *items) == [
        False, False, True, False, False, False, True, True, True,
    ]  # fmt: skip
    assert all(chosen(Selection(), *items))
    assert Selection().everything
    assert not Selection(ranks=[0]).everything


def test_times_count_from_the_first_message_or_are_dates() -> None:
    items = [up(caps(CapOp.UPDATE, 1), at) for at in (0, 1500, 2500)]
    assert chosen(Selection(since=Moment.parse("1.5"), until=Moment.parse("2")), *items) == [False, True, False]
    noon = datetime.fromtimestamp(NS // 10**9 + 2).isoformat()
    assert chosen(Selection(until=Moment.parse(noon)), *items) == [True, True, False]
    assert chosen(Selection(since=Moment.parse(noon)), *items, problem(flow=None)._replace(ns=0)) == [
        False, False, True, True,
    ]  # fmt: skip
    assert chosen(Selection(since=Moment.parse("0")), problem(-5), *items, problem(1)) == [True, *[True] * 4]


@pytest.mark.parametrize("text", ["", "-1", "soon", "1e3", "9" * 13, "0x1", "2026-13-01", "1.1234567891"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        Moment.parse(text)


def test_times_are_exact() -> None:
    assert Moment.parse("1.000000001") == Moment(10**9 + 1, True)
    assert Moment.parse("1795368292.5") == Moment(1795368292 * 10**9 + 5 * 10**8, True)
    assert Moment.parse("2026-11-22T17:24:52.018876+00:00") == Moment(NS + 18_876_000, False)


def test_unanswered_revokes_are_chosen_like_messages() -> None:
    revoke = Revoke(4123, 0, "192.0.2.2:6800", INO, NS, 1, 0)
    assert Selection(inos=[INO], clients=[4123], ranks=[0]).wants_revoke(revoke)
    assert Selection().wants_revoke(revoke)
    for other in (Selection(inos=[7]), Selection(clients=[5]), Selection(ranks=[1])):
        assert not other.wants_revoke(revoke)
