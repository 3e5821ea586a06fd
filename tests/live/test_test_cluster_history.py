"""One history of two clients on a real MDS and on a `TestCluster`: the same answers, the same tree, and after each step
the same caps. What a real MDS does by the clock is told in docs/testing.md; here it is put off."""

from __future__ import annotations

import pytest

from cephcaps.testing import TestCluster

from .cluster import LiveCluster
from .story import Step, play

STEPS = 300
NUDGES = "mds_scatter_nudge_interval"
"""Seconds after which sums of a directory that are on their way up are helped along, which ends its lock caches."""


@pytest.mark.parametrize("hold", [0.0, 1000.0], ids=["giving", "keeping"])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
async def test_the_same_history_comes_out_the_same(cluster: LiveCluster, seed: int, hold: float) -> None:
    await cluster.aio.mds_admin({"prefix": "config set", "var": NUDGES, "val": ["36000"]})
    root = f"/history-{seed}-{hold:.0f}"
    async with TestCluster() as made:
        ours, our_tree = await play(made.conf, root, seed, STEPS, hold)
    theirs, their_tree = await play(cluster.conf, root, seed, STEPS, hold)

    assert [str(step) for step in ours] == [str(step) for step in theirs]
    assert our_tree == their_tree
    looks = sum(len(step.caps) for step in theirs)
    assert (_differing(ours, theirs), looks > 3 * STEPS) == ([], True)


def _differing(ours: list[Step], theirs: list[Step]) -> list[str]:
    """Where both clients hold something else of an inode than on the real MDS."""
    return [
        f"{their}: of {name} {our.caps.get(name)} for {their.caps.get(name)}"
        for our, their in zip(ours, theirs, strict=True)
        for name in our.caps.keys() | their.caps.keys()
        if our.caps.get(name) != their.caps.get(name)
    ]
