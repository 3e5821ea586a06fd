"""Commands to monitors and MDSs: asked, answered, refused, lost with what stood, out of time, called off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cephcaps.commands import MdsCommand, MonCommand
from cephcaps.errors import ConnectionFailed, MdsError, RequestTimeout
from cephwire.commands import Command, CommandReply
from cephwire.mdsmap import MdsState
from cephwire.mon_messages import MonCommand as AskedMon
from cephwire.mon_messages import MonCommandAck, PaxosHeader
from tests.session import samples
from tests.session.world import World, mounted

HEALTH = json.dumps({"prefix": "health"})


def asked(peer: Any, kind: type) -> list[tuple[int, Any]]:
    return [(header.tid, message) for header, message in peer.messages if isinstance(message, kind)]


def acknowledge(world: World, tid: int, r: int = 0, rs: str = "", outbl: bytes = b"") -> None:
    world.mons[0].peer.send(MonCommandAck(PaxosHeader(), r, rs, (HEALTH,), outbl), tid=tid)
    world.run()


def test_a_monitor_answers_with_its_output() -> None:
    world = mounted()
    tokens = [world.call(MonCommand(HEALTH)) for _ in range(2)]

    (first, message), (second, _) = asked(world.mons[0].peer, AskedMon)
    assert (message.fsid, message.cmd) == (samples.FSID, (HEALTH,))
    acknowledge(world, second, outbl=b"two")
    acknowledge(world, first, outbl=b"one")
    acknowledge(world, first, outbl=b"again")
    assert [world.results[token] for token in tokens] == [b"one", b"two"]


def test_what_a_monitor_refuses_is_an_error_of_its_errno() -> None:
    world = mounted()
    token = world.call(MonCommand(HEALTH))
    acknowledge(world, 1, -13, "access denied")
    error = world.results[token]
    assert isinstance(error, MdsError)
    assert isinstance(error, PermissionError)
    assert "access denied" in str(error)
    assert HEALTH in str(error)


def test_another_monitor_is_asked_again() -> None:
    world = mounted()
    token = world.call(MonCommand(HEALTH))
    world.lose(world.mons[0])
    world.advance(5.0, until=lambda: len(world.mons[0].peers) > 1)
    world.advance(1.0)
    assert [tid for tid, _ in asked(world.mons[0].peer, AskedMon)] == [1]
    acknowledge(world, 1, outbl=b"at last")
    assert world.results[token] == b"at last"


def test_an_mds_is_asked_in_the_session_with_its_rank() -> None:
    world = mounted(mds=2)
    token = world.call(MdsCommand(1, HEALTH))
    ((tid, message),) = asked(world.ranks[1].peer, Command)
    assert (message.fsid, message.cmd) == (samples.FSID, (HEALTH,))
    world.ranks[1].peer.send(CommandReply(0, "", b"{}"), tid=tid)
    world.run()
    assert world.results[token] == b"{}"


def test_an_mds_hears_a_command_once_though_the_connection_breaks() -> None:
    world = mounted()
    world.call(MdsCommand(0, HEALTH))
    world.lose(world.ranks[0])
    world.advance(1.0)
    every = [tid for peer in world.ranks[0].peers for tid, _ in asked(peer, Command)]
    assert every == [1]


def test_who_lost_the_rank_will_not_answer() -> None:
    world = mounted()
    token = world.call(MdsCommand(0, HEALTH))
    world.replace(0)
    world.map_ranks(6, MdsState.RECONNECT)
    world.publish()
    assert isinstance(world.results[token], ConnectionFailed)
    assert "does not hold the rank any more" in str(world.results[token])


@pytest.mark.parametrize("command", [MonCommand(HEALTH), MdsCommand(0, HEALTH), MdsCommand(5, HEALTH)])
def test_none_waits_for_ever(command: MonCommand | MdsCommand) -> None:
    world = mounted()
    token = world.call(command, timeout=3.0)
    world.advance(3.0)
    error = world.results[token]
    assert isinstance(error, RequestTimeout)
    assert error.rank == getattr(command, "rank", None)
    assert ("could not be reached" in str(error)) == (error.rank == 5)


@pytest.mark.parametrize("command", [MonCommand(HEALTH), MdsCommand(0, HEALTH)])
def test_one_that_was_called_off_is_forgotten(command: MonCommand | MdsCommand) -> None:
    world = mounted()
    world.cancel(world.call(command))
    world.mons[0].peer.send(MonCommandAck(PaxosHeader(), 0, "", (HEALTH,), b"x"), tid=1)
    world.ranks[0].peer.send(CommandReply(0, "", b"x"), tid=1)
    world.run()
    assert not world.core.mds.commands._asked
    assert not world.core.monitors.commands._asked
