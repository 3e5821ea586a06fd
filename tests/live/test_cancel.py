"""Callers that go away, cancelled or out of time, at every point: nothing is left of them, and what was granted to them
is taken in and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from cephcaps import CapRefs, Client, connect
from cephcaps.file import OpenFile
from cephcaps.view import Events

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .libcephfs import LibcephfsPeer
from .suspensions import public_coroutines
from .trials import Moment, Trials
from .verbs import VERBS, Memory, Verb
from .waiting import until

PUBLIC = public_coroutines(Client, OpenFile, CapRefs, Events)
CONNECTING = {"Client.__aenter__", "Client.__aexit__"}


def soak(moment: Moment) -> ParameterSet:
    return pytest.param(moment, marks=pytest.mark.soak)


class Tally:
    """What was cut short, by all tests of this file."""

    def __init__(self) -> None:
        self.pairs: dict[str, dict[str, int]] = {}
        self.functions: dict[str, set[str]] = {}

    def add(self, how: str, name: str, points: int, functions: set[str]) -> None:
        self.pairs.setdefault(how, {})[name] = points
        self.functions.setdefault(how, set()).update(functions)

    def __str__(self) -> str:
        return "\n".join(
            f"{how}: {len(points)} coroutines, {sum(points.values())} (coroutine, point) pairs, "
            f"in {len(self.functions[how])} of {len(PUBLIC)} public ones"
            for how, points in self.pairs.items()
        )


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    told = Tally()
    yield told
    print(f"\n{told}")


@pytest.fixture(scope="module")
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        mounted.mkdir("/trials")
        yield mounted


def public(trials: Trials) -> set[str]:
    """The public coroutines in which it was cut short."""
    return {name for name, code in PUBLIC.items() if code in trials.ended_in}


def joining(conf: Path, verb: Verb) -> Client:
    return connect(conf, data=Memory() if verb.data else None)


def test_there_is_a_trial_of_every_public_coroutine() -> None:
    tried = frozenset[str]().union(*(verb.of for verb in VERBS.values())) | CONNECTING
    assert sorted(PUBLIC.keys() - tried) == []
    assert sorted(tried - PUBLIC.keys()) == []


@pytest.mark.parametrize("moment", ["suspended", "answered", soak("cut"), soak("again"), soak("frozen")])
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_cancelled_call_leaves_nothing_behind_at_whatever_point(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, tally: Tally, name: str, moment: Moment
) -> None:
    async with joining(conf, VERBS[name]) as client:
        trials = Trials(cluster, client, peer, VERBS[name])
        await trials.every_point(lambda n: trials.cancelled(n, moment))
        await agrees_at_rest(cluster, client)
    assert VERBS[name].of <= public(trials)
    tally.add(f"cancelled, {moment}", name, trials.points, public(trials))


@pytest.mark.soak
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_call_out_of_time_leaves_nothing_behind_and_its_answer_is_taken_in(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, tally: Tally, name: str
) -> None:
    async with connect(conf, data=Memory() if VERBS[name].data else None, request_timeout=1.0) as client:
        trials = Trials(cluster, client, peer, VERBS[name])
        await trials.every_point(trials.timed_out)
        await agrees_at_rest(cluster, client)
    tally.add("out of time", name, trials.points, public(trials))


@pytest.mark.soak
@pytest.mark.parametrize("name", list(VERBS))
async def test_a_call_cancelled_after_some_turns_of_the_loop_leaves_nothing_behind(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, tally: Tally, name: str
) -> None:
    async with joining(conf, VERBS[name]) as client:
        trials = Trials(cluster, client, peer, VERBS[name])
        for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
            await trials.cancelled_after(turns)
        await agrees_at_rest(cluster, client)
    tally.add("cancelled after some turns", name, trials.points, set())


async def test_a_file_whose_creator_has_gone_is_there_and_closed(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    async with connect(conf) as client:
        top = await Trials(cluster, client, peer, VERBS["open_to_create"]).directory()
        under_way = client._running.core.mds.requests.by_tid
        task = asyncio.ensure_future(client.open(f"{top}/new", "x").__aenter__())
        while not any(request.sent and request.operation.creates for request in under_way.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: not under_way, "the create is answered for good", within=10)
        assert (await client.stat(f"{top}/new")).size == 0
        caps = client.inode_caps(f"{top}/new")
        assert caps is not None
        assert str(caps.wanted) == str(caps.used) == "-"
        async with client.open(f"{top}/new", "r+") as file:
            await file.setattr(size=10)
        assert (await peer.aio.statx(f"{top}/new")).size == 10
        await agrees_at_rest(cluster, client)
