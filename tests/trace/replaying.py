"""A conversation held against what our engine would have said in the client's place."""

from __future__ import annotations

from cephcaps.trace.replay import Difference, Replay
from tests.trace.lint_scene import Scene

__all__ = ["replayed"]


def replayed(scene: Scene) -> tuple[Replay, list[Difference]]:
    found: list[Difference] = []
    replay = Replay(found.append)
    for item in scene.items:
        replay.take(item)
    replay.end()
    assert not replay.failures
    return replay, found
