"""Any order of what ranks, connections, snapshots, handlers and callers do leaves client and MDSs agreed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cephwire.capbits import Cap
from tests.engine.model_cluster import INOS
from tests.engine.model_world import World

LOCKS = (
    (Cap.AUTH_SHARED, Cap.AUTH_SHARED | Cap.AUTH_EXCL),
    (Cap.LINK_SHARED,),
    (Cap.XATTR_SHARED, Cap.XATTR_SHARED | Cap.XATTR_EXCL),
    (
        Cap.FILE_SHARED,
        Cap.FILE_RD | Cap.FILE_WR,
        Cap.FILE_SHARED | Cap.FILE_EXCL | Cap.FILE_RD | Cap.FILE_WR | Cap.FILE_CACHE | Cap.FILE_BUFFER,
    ),
)
BITS = st.tuples(*(st.sampled_from((0, *states, states[-1])) for states in LOCKS)).map(sum)
"""What an MDS may grant: for each lock nothing, shared, or more."""
INO = st.sampled_from(INOS)
RANK = st.sampled_from((0, 1))
TIMES = st.integers(1, 5)
WHICH = st.integers(0, 3)
NEEDS = st.sampled_from((Cap.FILE_RD, Cap.FILE_WR, Cap.FILE_RD | Cap.FILE_WR))
WANTS = st.sampled_from((0, Cap.FILE_BUFFER, Cap.FILE_CACHE, Cap.FILE_CACHE | Cap.FILE_BUFFER))
SIZE = st.sampled_from((10, 60, 90, 150, 1000))
STEPS: dict[str, dict[str, Any]] = {
    "hears": {"rank": RANK, "times": TIMES},
    "mds_hears": {"rank": RANK, "times": TIMES, "regrant": BITS},
    "replies": {"ino": INO, "bits": BITS},
    "grants": {"ino": INO, "bits": BITS},
    "takes_back": {"ino": INO, "bits": BITS},
    "gives_and_takes": {"ino": INO, "bits": BITS},
    "acknowledges": {"rank": RANK, "twice": st.booleans()},
    "session_becomes_stale": {"rank": RANK},
    "another_changes_the_mode": {"ino": INO, "mode": st.integers(0, 0o777)},
    "exports": {"ino": INO},
    "fails_over": {"rank": RANK},
    "is_taken_over": {"rank": RANK},
    "is_snapshot": {},
    "changes_the_mode": {"ino": INO, "mode": st.integers(0, 0o777)},
    "changes_the_mtime": {"ino": INO, "mtime": st.integers(1, 100)},
    "sets_an_xattr": {"ino": INO, "value": st.integers(0, 255)},
    "opens": {"ino": INO},
    "closes": {"which": WHICH},
    "flushes": {"ino": INO, "sync": st.booleans()},
    "lets_go": {"ino": INO},
    "is_to_hold_fewer": {"rank": RANK, "max_caps": st.integers(0, 3)},
    "gives_up_bits_with_a_request": {"ino": INO, "drop": BITS},
    "gets": {"ino": INO, "need": NEEDS, "want": WANTS, "end": SIZE},
    "gives_up_waiting": {"which": WHICH},
    "writes": {"which": WHICH, "end": SIZE, "buffered": st.booleans()},
    "puts": {"which": WHICH},
    "handler_ends": {"ino": INO, "fails": st.sampled_from((False, False, False, True))},
    "time_passes": {"seconds": st.sampled_from((0.5, 1.0, 5.0, 30.0, 61.0))},
}
"""What may happen, and with what."""
STEPS_IN_A_STORY = 40


class Machine(RuleBasedStateMachine):
    """Hypothesis tells the story, and shortens it where it ends badly."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @invariant()
    def all_adds_up(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.agree()


def step(name: str) -> Callable[..., None]:
    def take(self: Machine, **what: Any) -> None:
        getattr(self.world, name)(**what)

    take.__name__ = name
    return take


for name, what in STEPS.items():
    setattr(Machine, name, rule(**what)(step(name)))

TestMachine = Machine.TestCase
TestMachine.settings = settings(settings(), stateful_step_count=STEPS_IN_A_STORY)


@pytest.mark.soak
class TestLongStories(Machine.TestCase):  # type: ignore[misc, name-defined]
    """200,000 steps; ``CEPHCAPS_STEPS`` says how many instead."""

    settings = settings(
        deadline=None,
        max_examples=int(os.environ.get("CEPHCAPS_STEPS", "200000")) // (2 * STEPS_IN_A_STORY),
        stateful_step_count=2 * STEPS_IN_A_STORY,
        print_blob=True,
    )


# The same story twice

OPTIONS: dict[str, Callable[[random.Random], Any]] = {
    "rank": lambda rng: rng.randrange(2),
    "times": lambda rng: rng.randint(1, 5),
    "regrant": lambda rng: bits(rng),
    "bits": lambda rng: bits(rng),
    "drop": lambda rng: bits(rng),
    "ino": lambda rng: rng.choice(INOS),
    "twice": lambda rng: rng.random() < 0.2,
    "mode": lambda rng: rng.randrange(0o1000),
    "mtime": lambda rng: rng.randint(1, 10**6),
    "value": lambda rng: rng.randrange(256),
    "which": lambda rng: rng.randrange(4),
    "sync": lambda rng: rng.random() < 0.5,
    "max_caps": lambda rng: rng.randrange(4),
    "need": lambda rng: rng.choice((Cap.FILE_RD, Cap.FILE_WR)),
    "want": lambda rng: rng.choice((0, Cap.FILE_BUFFER, Cap.FILE_CACHE)),
    "end": lambda rng: rng.choice((10, 60, 90, 150, 1000)),
    "buffered": lambda rng: rng.random() < 0.5,
    "fails": lambda rng: rng.random() < 0.1,
    "seconds": lambda rng: rng.choice((0.5, 1.0, 5.0)),
}
RARE = {"fails_over": 0.05, "session_becomes_stale": 0.1, "exports": 0.3, "is_snapshot": 0.3, "time_passes": 0.5}


def bits(rng: random.Random) -> int:
    return sum(rng.choice((0, *states, states[-1])) for states in LOCKS)


def story(seed: int, seconds: float) -> World:
    """A story of that many seconds by the engine's clock."""
    rng = random.Random(seed)
    world = World()
    end = world.bench.now + seconds
    names = list(STEPS)
    while world.bench.now < end:
        name = rng.choice(names)
        if rng.random() < RARE.get(name, 1.0):
            getattr(world, name)(**{option: OPTIONS[option](rng) for option in STEPS[name]})
            world.check()
    world.agree()
    return world


@pytest.mark.parametrize("seed", range(3))
def test_the_same_inputs_give_the_same_actions(seed: int) -> None:
    first, second = story(seed, 120.0), story(seed, 120.0)

    assert len(first.log) > 50
    assert first.log == second.log


@pytest.mark.soak
def test_an_hour_told_twice_is_the_same_byte_for_byte() -> None:
    first, second = story(1, 3600.0), story(1, 3600.0)

    print(f"{len(first.log)} messages sent in an hour by the engine's clock")
    assert "\n".join(first.log).encode() == "\n".join(second.log).encode()
