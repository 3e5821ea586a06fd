"""Snap realms: what a trace and a CLIENT_SNAP make of contexts, who lies where, and who is told before it counts."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.engine.cache import NO_CONTEXT, Cache
from cephcaps.engine.inode import Inode, SnapContext
from cephcaps.engine.realms import EMPTY_KEPT, Realms, decode_trace
from cephcaps.engine.reserve import Pool
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.session import ClientFeature
from cephwire.snap import SNAP_TRACE, SNAP_TRACE_PLAIN, ClientSnap, SnapOp, SnapRealm, SnapTrace
from tests.session import samples

NOW = 100.0
ROOT, DIR, SUB = 1, 10, 20


def realm(ino: int, parent: int = 0, seq: int = 1, snaps: tuple[int, ...] = (), **more: Any) -> SnapRealm:
    told: dict[str, Any] = {"created": 1, "parent_since": 1, "prior_parent_snaps": (), "last_modified": 0}
    return SnapRealm(ino=ino, parent=parent, seq=seq, snaps=snaps, **(told | {"change_attr": 0} | more))


def trace(*realms: SnapRealm) -> SnapTrace:
    return SnapTrace(realms)


def split_of(ino: int, inos: tuple[int, ...] = (), realms: tuple[int, ...] = ()) -> ClientSnap:
    return ClientSnap(SnapOp.SPLIT, ino, inos, realms, b"")


def snap_op(op: SnapOp, ino: int) -> ClientSnap:
    return ClientSnap(op, ino, (), (), b"")


class Client:
    """Realms and a few inodes; notes what is queued."""

    def __init__(self) -> None:
        self.cache = Cache(Pool(lambda count: None))
        self.queued: list[tuple[int, SnapContext, SnapContext]] = []
        self.realms = Realms(self.cache, self._queue)

    def _queue(self, inode: Inode, old: SnapContext, new: SnapContext, now: float) -> None:
        assert now == NOW
        assert self.realms.context(inode.realm) == new
        self.queued.append((inode.ino, old, new))

    def told(self, *realms: SnapRealm) -> list[int]:
        return self.realms.update(trace(*realms), NOW)

    def pushed(self, message: ClientSnap, *realms: SnapRealm) -> list[int]:
        return self.realms.snap_message(message, trace(*realms), NOW)

    def inode(self, ino: int, in_realm: int, *, used: bool = True, auth: bool = True) -> Inode:
        inode = self.cache.inodes[ino] = Inode.of(samples.inode(ino))
        if used:
            self.cache.use(inode)
        self.realms.enter(inode, in_realm, NOW, auth=auth)
        return inode

    def context(self, ino: int) -> SnapContext:
        return self.realms.context(ino)


# Contexts


def test_a_context_is_made_of_own_snaps_and_the_parents_since_it_became_that_and_those_of_parents_before() -> None:
    client = Client()
    client.told(
        realm(DIR, ROOT, seq=7, snaps=(6, 4), parent_since=5, prior_parent_snaps=(3,)), realm(ROOT, seq=8, snaps=(8, 2))
    )
    assert client.context(DIR) == SnapContext(8, (8, 6, 4, 3))
    assert client.context(ROOT) == SnapContext(8, (8, 2))


def test_a_context_inherits_what_its_parent_inherits() -> None:
    client = Client()
    client.told(realm(SUB, DIR, seq=2), realm(DIR, ROOT, seq=5, snaps=(5,)), realm(ROOT, seq=9, snaps=(9, 4)))
    assert client.context(SUB) == SnapContext(9, (9, 5, 4))


def test_a_snap_of_the_parent_counts_from_the_very_snapid_since_which_it_is_that() -> None:
    client = Client()
    client.told(realm(DIR, ROOT, seq=5, parent_since=4), realm(ROOT, seq=5, snaps=(5, 4, 3)))
    assert client.context(DIR).snaps == (5, 4)


def test_a_snap_known_twice_is_named_once() -> None:
    client = Client()
    client.told(realm(DIR, ROOT, seq=4, snaps=(4,), prior_parent_snaps=(4, 3)), realm(ROOT, seq=4, snaps=(4,)))
    assert client.context(DIR) == SnapContext(4, (4, 3))


def test_an_unknown_realm_has_an_empty_context() -> None:
    assert Client().context(99) == NO_CONTEXT


def test_a_change_is_told_of_the_realm_and_of_all_inside_it_the_outer_first() -> None:
    client = Client()
    client.told(realm(SUB, DIR), realm(DIR, ROOT), realm(ROOT))
    assert client.told(realm(ROOT, seq=3, snaps=(3,))) == [ROOT, DIR, SUB]
    assert client.context(SUB) == SnapContext(3, (3,))


def test_the_same_trace_again_changes_nothing() -> None:
    client = Client()
    both = realm(DIR, ROOT, seq=4, snaps=(4,)), realm(ROOT, seq=2)
    assert client.told(*both) == [ROOT, DIR]
    assert client.told(*both) == []


def test_an_older_trace_takes_nothing_back() -> None:
    client = Client()
    client.told(realm(ROOT, seq=4, snaps=(4, 3)))
    assert client.told(realm(ROOT, seq=3, snaps=(3,))) == []
    assert client.context(ROOT) == SnapContext(4, (4, 3))


def test_a_higher_change_attr_counts_where_the_seq_is_the_same() -> None:
    client = Client()
    client.told(realm(ROOT, seq=4, snaps=(4, 3), change_attr=1))
    assert client.told(realm(ROOT, seq=4, snaps=(4,), change_attr=2)) == [ROOT]
    assert client.context(ROOT) == SnapContext(4, (4,))


def test_the_plain_form_without_change_attr_goes_by_the_seq() -> None:
    client = Client()
    client.told(realm(ROOT, seq=4, snaps=(4,), change_attr=None, last_modified=None))
    assert client.told(realm(ROOT, seq=5, snaps=(5, 4), change_attr=None, last_modified=None)) == [ROOT]


def test_the_parent_is_believed_whatever_the_seq() -> None:
    client = Client()
    client.told(realm(SUB, DIR, seq=5), realm(DIR, ROOT, seq=4, snaps=(4,)), realm(ROOT))
    assert client.context(SUB).snaps == (4,)
    assert client.told(realm(SUB, ROOT, seq=5), realm(ROOT)) == [SUB]
    assert client.context(SUB) == SnapContext(5, ())
    client.told(realm(DIR, ROOT, seq=6, snaps=(6, 4)), realm(ROOT))
    assert client.context(SUB) == SnapContext(5, ())  # it lies elsewhere now


def test_a_realm_moved_as_a_whole_keeps_its_seq_and_is_believed_all_the_same() -> None:
    client = Client()
    client.told(realm(SUB, DIR, seq=4, snaps=(4,), parent_since=2), realm(DIR, ROOT, seq=3, snaps=(3,)), realm(ROOT))
    after = realm(SUB, ROOT, seq=4, snaps=(4,), parent_since=5, prior_parent_snaps=(3,))
    assert client.told(after, realm(ROOT)) == []
    assert client.context(SUB) == SnapContext(4, (4, 3))
    client.told(realm(SUB, ROOT, seq=4, snaps=(4,), parent_since=2), realm(ROOT, seq=6, snaps=(6, 2)))
    assert client.context(SUB) == SnapContext(6, (6, 4, 3))  # what is older tells nothing


def test_realms_that_claim_to_lie_in_each_other_do_no_harm() -> None:
    client = Client()
    client.told(realm(DIR, SUB, seq=3, snaps=(3,)), realm(SUB, DIR, seq=4, snaps=(4,)))
    assert (client.context(DIR).seq, client.context(SUB).seq) == (3, 4)  # one of them does not
    client.told(realm(DIR, DIR, seq=5, snaps=(5,)))
    assert client.context(DIR).seq == 5
    for ino in range(1000, 1000 + 6 * EMPTY_KEPT, 3):
        client.told(realm(ino, ino))
        client.told(realm(ino + 1, ino + 2), realm(ino + 2, ino + 1))
    client.inode(101, SUB)
    client.pushed(split_of(SUB, realms=(DIR,)), realm(SUB, DIR))
    client.realms.leave(client.cache.inodes[101])
    for ino in range(9000, 9000 + EMPTY_KEPT):
        client.told(realm(ino))
    assert len(client.realms.realms) == EMPTY_KEPT


# Who is told before a new context counts


def test_what_is_in_use_is_queued_in_its_order_with_both_contexts() -> None:
    client = Client()
    client.told(realm(DIR, ROOT), realm(ROOT))
    client.inode(103, DIR)
    client.inode(101, ROOT)
    client.inode(102, DIR, used=False)
    client.told(realm(ROOT, seq=3, snaps=(3,)))
    old, new = SnapContext(1, ()), SnapContext(3, (3,))
    assert client.queued == [(103, old, new), (101, old, new)]


def test_what_lies_elsewhere_is_not_queued() -> None:
    client = Client()
    client.told(realm(DIR, ROOT), realm(ROOT))
    client.inode(101, ROOT)
    client.told(realm(DIR, ROOT, seq=3, snaps=(3,)), realm(ROOT))
    assert client.queued == []


def test_the_first_word_of_a_realm_is_no_change_for_what_was_known_to_lie_in_it() -> None:
    client = Client()
    client.inode(101, DIR)
    assert client.context(DIR) == NO_CONTEXT
    assert client.told(realm(DIR, ROOT, seq=3, snaps=(3,)), realm(ROOT)) == [ROOT, DIR]
    assert client.queued == []
    client.told(realm(DIR, ROOT, seq=5, snaps=(5, 3)), realm(ROOT))
    assert client.queued == [(101, SnapContext(3, (3,)), SnapContext(5, (5, 3)))]


def test_a_destroyed_snapshot_queues_nothing() -> None:
    client = Client()
    client.told(realm(ROOT, seq=4, snaps=(4, 3)))
    client.inode(101, ROOT)
    assert client.pushed(snap_op(SnapOp.DESTROY, ROOT), realm(ROOT, seq=5, snaps=(4,))) == [ROOT]
    assert client.context(ROOT) == SnapContext(5, (4,))
    assert client.queued == []


def test_a_snapshot_first_heard_of_when_another_is_destroyed_is_queued_for() -> None:
    client = Client()
    client.told(realm(ROOT, seq=4, snaps=(4, 3)))
    client.inode(101, ROOT)
    client.pushed(snap_op(SnapOp.DESTROY, ROOT), realm(ROOT, seq=6, snaps=(5, 4)))
    assert client.queued == [(101, SnapContext(4, (4, 3)), SnapContext(6, (5, 4)))]


@pytest.mark.parametrize("op", [SnapOp.UPDATE, SnapOp.CREATE])
def test_an_update_or_create_queues(op: SnapOp) -> None:
    client = Client()
    client.told(realm(ROOT))
    client.inode(101, ROOT)
    client.pushed(snap_op(op, ROOT), realm(ROOT, seq=2, snaps=(2,)))
    assert [ino for ino, *_ in client.queued] == [101]


def test_work_is_proportional_to_what_is_in_use() -> None:
    client = Client()
    client.told(realm(ROOT))
    for ino in range(100, 1100):
        client.inode(ino, ROOT, used=ino == 500)

    class Counting(dict[int, Inode]):
        looked = 0

        def __getitem__(self, ino: int) -> Inode:
            self.looked += 1
            return super().__getitem__(ino)

    client.cache.inodes = counting = Counting(client.cache.inodes)  # type: ignore[assignment]
    client.told(realm(ROOT, seq=2, snaps=(2,)))
    assert [ino for ino, *_ in client.queued] == [500]
    assert counting.looked == 1


# Splits


def test_a_split_moves_the_inodes_named_and_leaves_the_others() -> None:
    client = Client()
    client.told(realm(ROOT))
    inside, outside = client.inode(101, ROOT), client.inode(102, ROOT)
    client.pushed(split_of(DIR, (101, 999)), realm(DIR, ROOT, seq=2, snaps=(2,), created=2), realm(ROOT, seq=1))
    assert (inside.realm, outside.realm) == (DIR, ROOT)
    assert client.queued == [(101, SnapContext(1, ()), SnapContext(2, (2,)))]
    assert client.realms.realms[ROOT].num_inodes == client.realms.realms[DIR].num_inodes == 1


def test_a_split_leaves_what_a_newer_realm_has_taken() -> None:
    client = Client()
    client.told(realm(SUB, ROOT, seq=5, created=5), realm(ROOT))
    inode = client.inode(101, SUB)
    client.pushed(split_of(DIR, (101,)), realm(DIR, ROOT, seq=4, created=4), realm(ROOT))
    assert inode.realm == SUB
    assert client.queued == []


def test_a_split_takes_the_realms_named_along() -> None:
    client = Client()
    client.told(realm(SUB, ROOT), realm(ROOT))
    client.inode(101, SUB)
    changed = client.pushed(
        split_of(DIR, (), (SUB, 999)), realm(DIR, ROOT, seq=3, snaps=(3,), created=3), realm(ROOT, seq=1)
    )
    assert changed == [DIR, SUB]
    assert client.context(SUB) == SnapContext(3, (3,))
    assert client.queued == [(101, SnapContext(1, ()), SnapContext(3, (3,)))]


def test_a_split_told_again_changes_nothing() -> None:
    client = Client()
    client.told(realm(SUB, ROOT), realm(ROOT))
    client.inode(101, ROOT)
    both = realm(DIR, ROOT, seq=3, snaps=(3,), created=3), realm(ROOT)
    client.pushed(split_of(DIR, (101,), (SUB,)), *both)
    client.queued.clear()
    assert client.pushed(split_of(DIR, (101,), (SUB,)), *both) == []
    assert client.queued == []
    assert client.realms.realms[DIR].num_inodes == 1


def test_a_split_by_rename_brings_the_snaps_of_where_it_was_and_none_older_of_where_it_is() -> None:
    client = Client()
    client.told(realm(DIR, ROOT, seq=3, snaps=(3,)), realm(ROOT))
    client.told(realm(SUB, ROOT, seq=5, snaps=(5,)), realm(ROOT))
    client.inode(101, DIR)
    moved = realm(30, SUB, seq=6, created=6, parent_since=6, prior_parent_snaps=(3,))
    client.pushed(split_of(30, (101,)), moved, realm(SUB, ROOT, seq=5, snaps=(5,)), realm(ROOT))
    assert client.context(30) == SnapContext(6, (3,))
    assert client.queued == [(101, SnapContext(3, (3,)), SnapContext(6, (3,)))]


def test_a_split_without_a_trace_moves_nobody() -> None:
    client = Client()
    client.told(realm(ROOT))
    inode = client.inode(101, ROOT)
    assert client.pushed(split_of(DIR, (101,))) == []
    assert inode.realm == ROOT


# Who lies where


def test_a_cap_from_the_authority_says_where_an_inode_has_moved_and_another_rank_s_does_not() -> None:
    client = Client()
    client.told(realm(DIR, ROOT), realm(ROOT))
    inode = client.inode(101, ROOT)
    client.realms.enter(inode, DIR, NOW, auth=False)
    assert inode.realm == ROOT
    client.realms.enter(inode, DIR, NOW, auth=True)
    assert inode.realm == DIR


@pytest.mark.parametrize("nowhere", [0, 2**64 - 1])
def test_a_cap_that_names_no_realm_leaves_the_inode_where_it_is(nowhere: int) -> None:
    client = Client()
    client.told(realm(ROOT))
    inode = client.inode(101, ROOT)
    client.realms.enter(inode, nowhere, NOW, auth=True)
    assert inode.realm == ROOT


def test_what_was_changed_before_it_came_to_a_realm_is_queued_with_the_context_of_then() -> None:
    client = Client()
    client.told(realm(DIR, ROOT, seq=3, snaps=(3,)), realm(ROOT))
    inode = client.inode(101, DIR)
    client.cache.use(inode).head = head = client.context(DIR)
    client.realms.leave(inode)  # exported: whoever holds no cap is not told
    assert inode.realm == 0
    client.told(realm(DIR, ROOT, seq=5, snaps=(5, 3)), realm(ROOT))
    assert client.queued == []
    client.realms.enter(inode, DIR, NOW, auth=True)
    assert client.queued == [(101, head, SnapContext(5, (5, 3)))]


def test_nothing_is_queued_for_an_inode_that_comes_back_to_what_it_knew() -> None:
    client = Client()
    client.told(realm(ROOT, seq=3, snaps=(3,)))
    inode = client.inode(101, ROOT)
    client.cache.use(inode).head = client.context(ROOT)
    client.realms.leave(inode)
    client.realms.enter(inode, ROOT, NOW, auth=True)
    assert client.queued == []


def test_realms_that_nothing_lies_in_are_kept_a_while_and_then_forgotten_the_oldest_first() -> None:
    client = Client()
    for ino in range(1000, 1000 + 3 * EMPTY_KEPT):
        client.told(realm(ino, ROOT), realm(ROOT))
    assert len(client.realms.realms) == EMPTY_KEPT + 1
    assert ROOT in client.realms.realms
    assert 1000 not in client.realms.realms
    assert 1000 + 3 * EMPTY_KEPT - 1 in client.realms.realms


def test_a_realm_is_kept_while_an_inode_lies_in_it_or_below_it() -> None:
    client = Client()
    client.told(realm(SUB, DIR), realm(DIR, ROOT), realm(ROOT))
    inode = client.inode(101, SUB)
    for ino in range(1000, 1000 + 2 * EMPTY_KEPT):
        client.told(realm(ino, ROOT), realm(ROOT))
    assert {SUB, DIR, ROOT} <= client.realms.realms.keys()
    client.realms.leave(inode)
    client.realms.leave(inode)
    for ino in range(2000, 2000 + 2 * EMPTY_KEPT):
        client.told(realm(ino, ROOT), realm(ROOT))
    assert not {SUB, DIR} & client.realms.realms.keys()


# Bytes


def test_a_trace_is_read_in_the_form_the_session_has_agreed_on() -> None:
    new = trace(realm(DIR, ROOT, seq=4, snaps=(4, 3), last_modified=5_000_000_007, change_attr=9), realm(ROOT))
    plain = trace(realm(DIR, ROOT, seq=4, snaps=(4, 3), prior_parent_snaps=(2,), last_modified=None, change_attr=None))
    assert decode_trace(Codec[SnapTrace](SNAP_TRACE).encode(new), 1 << ClientFeature.NEW_SNAPREALM_INFO) == new
    assert decode_trace(Codec[SnapTrace](SNAP_TRACE_PLAIN).encode(plain), 0) == plain


def test_no_bytes_are_no_realms() -> None:
    assert decode_trace(b"", 0) == trace()
    assert Client().told() == []


def test_half_a_trace_is_malformed() -> None:
    raw = Codec[SnapTrace](SNAP_TRACE_PLAIN).encode(trace(realm(ROOT, last_modified=None, change_attr=None)))
    with pytest.raises(MalformedMessage):
        decode_trace(raw[:-1], 0)


# The same again


def test_a_trace_that_comes_again_and_again_is_looked_at_once_and_anew_after_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, decoded = Client(), list[bytes]()

    def decode(raw: bytes, features: int) -> SnapTrace:
        decoded.append(raw)
        return trace(realm(DIR, ROOT, seq=4, snaps=(4,)), realm(ROOT, seq=len(decoded), snaps=()))

    monkeypatch.setattr("cephcaps.engine.realms.decode_trace", decode)
    for raw in (b"one", b"one", b"one", b"", b"two", b"one", b"one"):
        client.realms.told(raw, 0, NOW)
    assert decoded == [b"one", b"two", b"one"]
    client.told(realm(ROOT, seq=9))
    client.realms.told(b"one", 0, NOW)
    assert decoded == [b"one", b"two", b"one", b"one"]
    client.realms.told(b"one", 1, NOW)
    assert len(decoded) == 5
