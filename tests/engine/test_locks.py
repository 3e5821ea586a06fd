"""Ranges of locks: cut, split, joined and undone, held to a file of sixteen bytes that are locked one by one."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.engine.inode import Inode
from cephcaps.engine.locks import apply, held, take_in, way_back
from cephwire.filelock import FileLock, FileLocks, LockRule, LockType
from tests.engine.bench import Bench, stat_of

SIZE = 16
"""Bytes looked at; the last stands for all that follow."""
S, X, U = LockType.SHARED, LockType.EXCL, LockType.UNLOCK

locks = st.builds(
    lambda start, length, owner, kind: lock(start, min(length, SIZE - 1 - start) if length else 0, kind, owner),
    st.integers(0, SIZE - 2),
    st.integers(0, SIZE),
    st.sampled_from((1, 2)),
    st.sampled_from((S, X, U)),
)


def lock(start: int, length: int, kind: LockType, owner: int = 1) -> FileLock:
    return FileLock(start, length, 0, owner, 5, kind)


def put(at: dict[int, dict[int, int]], new: FileLock) -> None:
    """Lock byte by byte."""
    end = new.start + new.length if new.length else SIZE
    for byte in range(new.start, end):
        at.setdefault(new.owner, {})[byte] = new.type
        if new.type == U:
            del at[new.owner][byte]


def by_byte(held: tuple[FileLock, ...]) -> dict[int, dict[int, int]]:
    at: dict[int, dict[int, int]] = {}
    for one in held:
        put(at, one)
    return at


def all_of(steps: list[FileLock]) -> tuple[FileLock, ...]:
    held: tuple[FileLock, ...] = ()
    for step in steps:
        held = apply(held, step)
    return held


def shown(held: tuple[FileLock, ...]) -> list[tuple[int, int, int]]:
    return [(one.start, one.length, one.type) for one in held]


@given(st.lists(locks, max_size=12))
def test_every_byte_is_as_its_last_lock_says(steps: list[FileLock]) -> None:
    at: dict[int, dict[int, int]] = {}
    for step in steps:
        put(at, step)

    held = all_of(steps)

    assert by_byte(held) == {owner: bytes for owner, bytes in at.items() if bytes}
    assert list(held) == sorted(held, key=lambda one: (one.start, one.owner))


@given(st.lists(locks, max_size=12))
def test_no_two_neighbours_could_be_one(steps: list[FileLock]) -> None:
    held = all_of(steps)
    for owner in (1, 2):
        mine = [one for one in held if one.owner == owner]
        for left, right in pairwise(mine):
            assert left.length
            end = left.start + left.length
            assert end < right.start or (end == right.start and left.type != right.type)


@given(st.lists(locks, max_size=12), locks)
def test_the_way_back_leads_back(steps: list[FileLock], granted: FileLock) -> None:
    if granted.type == U:
        granted = msgspec.structs.replace(granted, type=X)
    before = all_of(steps)
    after = apply(before, granted)

    for step in way_back(before, granted):
        after = apply(after, step)

    assert after == before


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        ([lock(0, 100, X), lock(40, 20, U)], [(0, 40, X), (60, 40, X)]),
        ([lock(0, 0, X), lock(40, 20, S)], [(0, 40, X), (40, 20, S), (60, 0, X)]),
        ([lock(0, 10, S), lock(20, 10, S), lock(10, 10, S)], [(0, 30, S)]),
        ([lock(0, 10, S), lock(10, 0, S)], [(0, 0, S)]),
        ([lock(0, 10, S), lock(10, 10, X)], [(0, 10, S), (10, 10, X)]),
        ([lock(0, 10, S), lock(5, 10, X, 2)], [(0, 10, S), (5, 10, X)]),
        ([lock(5, 10, X), lock(0, 0, U)], []),
        ([lock(2**63 - 1, 1, X)], [(2**63 - 1, 1, X)]),
    ],
)
def test_ranges(steps: list[FileLock], result: list[tuple[int, int, int]]) -> None:
    assert shown(all_of(steps)) == result


@pytest.mark.parametrize(
    ("before", "granted", "back"),
    [
        ([], lock(0, 10, X), [(0, 10, U)]),
        ([lock(0, 10, S)], lock(0, 100, X), [(0, 10, S), (10, 90, U)]),
        ([lock(20, 10, X), lock(50, 0, S)], lock(0, 0, X), [(0, 20, U), (30, 20, U), (50, 0, S)]),
        ([lock(0, 0, X)], lock(10, 10, S), [(10, 10, X)]),
        ([lock(0, 0, X)], lock(10, 10, X), []),
        ([lock(0, 0, X, 2)], lock(10, 10, X), [(10, 10, U)]),
    ],
)
def test_ways_back(before: list[FileLock], granted: FileLock, back: list[tuple[int, int, int]]) -> None:
    assert shown(tuple(way_back(before, granted))) == back


def test_an_inode_keeps_both_kinds_apart_and_stays_while_it_is_locked() -> None:
    bench = Bench()
    bench.reply(stat_of(7, "pAsLsXsFs"))
    inode: Inode = bench.inode(7)

    take_in(inode, LockRule.FCNTL, lock(0, 10, X))
    take_in(inode, LockRule.FLOCK, lock(0, 0, S, 2))
    assert inode.locks == FileLocks((lock(0, 10, X),), (lock(0, 0, S, 2),))
    assert not bench.engine.release(7, bench.now)

    take_in(inode, LockRule.FCNTL, lock(0, 0, U))
    assert (held(inode, LockRule.FCNTL), held(inode, LockRule.FLOCK)) == ((), (lock(0, 0, S, 2),))
    take_in(inode, LockRule.FLOCK, lock(0, 0, U, 2))
    assert inode.locks is None
    assert bench.engine.release(7, bench.now)
