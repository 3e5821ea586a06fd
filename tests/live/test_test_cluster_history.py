"""One history of two clients on a real MDS and on a `TestCluster`: the same answers, the same tree, and mostly the same
caps. What differs is told in docs/testing.md."""

from __future__ import annotations

from collections import Counter

import pytest

from cephcaps.testing import TestCluster

from .cluster import LiveCluster
from .story import Step, play

STEPS = 300
LEAST_AGREEMENT = 0.7
"""Of what both clients hold of each inode after each step; 0.75 to 0.9 was measured."""


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_same_history_comes_out_the_same(cluster: LiveCluster, seed: int) -> None:
    async with TestCluster() as made:
        ours, our_tree = await play(made.conf, f"/history-{seed}", seed, STEPS)
    theirs, their_tree = await play(cluster.conf, f"/history-{seed}", seed, STEPS)

    assert [str(step) for step in ours] == [str(step) for step in theirs]
    assert our_tree == their_tree
    same, differing = _compare(ours, theirs)
    assert same / (same + differing.total()) > LEAST_AGREEMENT, differing.most_common(20)


def _compare(ours: list[Step], theirs: list[Step]) -> tuple[int, Counter[str]]:
    """How often both clients hold the same of an inode on both clusters, and what else they hold."""
    same, differing = 0, Counter[str]()
    for our, their in zip(ours, theirs, strict=True):
        for name in our.caps.keys() | their.caps.keys():
            held = our.caps.get(name), their.caps.get(name)
            if held[0] == held[1]:
                same += 1
            else:
                differing[f"{held[0]} for {held[1]}"] += 1
    print(f"{same} same, {differing.total()} differ")
    return same, differing
