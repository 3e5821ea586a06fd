"""Directory fragments and the hash of names, held to what real MDSs have listed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephwire.frag import (
    WHOLE,
    dentry_hash,
    frag_bits,
    frag_child,
    frag_contains,
    frag_is_last,
    frag_next,
    frag_of,
    frag_string,
    frag_value,
)
from cephwire.reply import ReaddirFlag, ReaddirReply
from tests.wire.vectors import decoded

SPLIT = {0x000000: 1, 0x1800000: 2}
"""The recorded directory's tree: into two, and the upper half into four."""


def listings(release: str) -> list[ReaddirReply]:
    replies = [m.extra for m in decoded(26, release) if isinstance(m.extra, ReaddirReply)]
    return [reply for reply in replies if reply.flags & ReaddirFlag.HASH_ORDER]


def hashes(listing: ReaddirReply) -> list[int]:
    return [dentry_hash(entry.dname.encode("utf-8", "surrogateescape")) for entry in listing.entries]


@pytest.mark.parametrize("release", ["16.2.15", "20.2.4"])
def test_names_are_listed_in_the_order_of_their_hash(release: str) -> None:
    for listing in listings(release):
        assert hashes(listing) == sorted(hashes(listing))
    names = [entry.dname for listing in listings(release) for entry in listing.entries]
    assert min(map(len, names)) < 4
    assert max(map(len, names)) > 48  # several blocks of twelve bytes


@pytest.mark.parametrize("release", ["16.2.15", "20.2.4"])
def test_names_lie_in_the_fragment_they_were_listed_in(release: str) -> None:
    parts = [listing for listing in listings(release) if listing.dirstat.frag != WHOLE]
    assert {frag_string(part.dirstat.frag) for part in parts} >= {"100*", "101*", "110*", "111*"}
    for part in parts:
        for hash24 in hashes(part):
            assert frag_contains(part.dirstat.frag, hash24)
            assert frag_of(SPLIT, hash24) == part.dirstat.frag


@pytest.mark.parametrize("release", ["16.2.15", "20.2.4"])
def test_a_split_directory_tells_its_tree(release: str) -> None:
    trees = [m.trace.target.fragtree for m in decoded(26, release) if m.trace.target and m.trace.target.fragtree]
    assert {split.frag: split.by for split in trees[-1]} == SPLIT


def test_the_fragments_of_a_tree_follow_each_other_to_the_last() -> None:
    upper = frag_child(WHOLE, 1, 1)
    assert (frag_bits(upper), frag_value(upper), frag_string(upper)) == (1, 0x800000, "1*")
    parts = [frag_child(upper, 2, i) for i in range(4)]
    assert [frag_string(part) for part in parts] == ["100*", "101*", "110*", "111*"]
    assert [frag_next(part) for part in parts[:-1]] == parts[1:]
    assert [frag_is_last(part) for part in parts] == [False, False, False, True]
    assert frag_next(frag_child(WHOLE, 1, 0)) == upper
    assert frag_is_last(WHOLE)
    assert frag_string(WHOLE) == "*"
    with pytest.raises(ValueError, match=r"no fragment follows 111\*"):
        frag_next(parts[-1])


@given(st.binary(max_size=80))
def test_every_name_has_a_place(name: bytes) -> None:
    hash24 = dentry_hash(name)
    assert 0 <= hash24 < 1 << 24
    assert frag_contains(frag_of(SPLIT, hash24), hash24)
    assert frag_contains(WHOLE, hash24)


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1)), st.integers(0, 2**24 - 1))
def test_a_senseless_tree_still_leads_somewhere(splits: dict[int, int], hash24: int) -> None:
    found = frag_of({WHOLE: 3, **splits}, hash24)
    assert frag_bits(found) <= 24
    assert frag_contains(found, hash24)
