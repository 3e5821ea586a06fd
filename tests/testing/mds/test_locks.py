"""The states of locks: what each lets clients have and requests do, and the ways between them."""

from __future__ import annotations

import stat

import pytest

from cephcaps.testing.daemon import Remote
from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.caps import CapKeeper
from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import FILE, SIMPLE, State
from cephcaps.testing.mds.request import Mutation, Waits
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit
from cephwire.capbits import cap_string, wanted_for_mode
from cephwire.caps import CapOp


class Told:
    """Hears what clients are told, and that changes are to be made safe."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.flushes = 0

    def tell_caps(self, cap: Cap, op: CapOp) -> None:
        self.said.append((cap.session.name, op.name, cap_string(cap.pending)))

    def flush_soon(self) -> None:
        self.flushes += 1

    def later(self, step: object) -> None:
        raise AssertionError("nothing is put off here")

    too_late = fit_ranges = unused = later


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def keeper(told: Told) -> CapKeeper:
    return CapKeeper(told)


def session(client: int) -> Session:
    remote: Remote = None  # type: ignore[assignment]  # nothing is sent here
    return Session(remote, client)


def opened(keeper: CapKeeper, inode: Inode, who: Session, mode: int) -> Cap:
    """A client opens a file, and hears what it gets."""
    cap = keeper.want(inode, who, wanted_for_mode(mode))
    cap.add((cap.wanted | inode.likes) & keeper.tellable(cap))
    return cap


def a_file() -> Inode:
    return Inode(5, stat.S_IFREG | 0o644, 0)


def test_every_way_leads_from_and_to_a_stable_state() -> None:
    for table in (SIMPLE, FILE):
        for state, rule in table.items():
            assert (rule.next is None) == (state <= State.XSYN)
            seen = set()
            while rule.next is not None:
                assert state not in seen
                seen.add(state)
                state, rule = rule.next, table[rule.next]


def test_who_is_alone_has_everything(keeper: CapKeeper) -> None:
    inode = a_file()
    cap = opened(keeper, inode, session(1), 3)
    assert cap_string(cap.pending) == "pAsxLsXsxFsxcrwb"


def test_two_that_write_cache_nothing(keeper: CapKeeper, told: Told) -> None:
    inode = a_file()
    first = opened(keeper, inode, session(1), 3)
    second = opened(keeper, inode, session(2), 3)
    assert told.said == [("client.1", "REVOKE", "pAsLsXsFrw")]
    assert cap_string(second.pending) == "pLs"  # until the first has answered
    keeper.confirmed(first, first.seq, first.pending)
    keeper.locker.evaluate(inode)
    assert told.said[1:] == [("client.2", "GRANT", "pAsLsXsFrw")]
    assert inode.file.state is State.MIX


def test_a_change_waits_for_caps_and_then_goes_on(keeper: CapKeeper, told: Told) -> None:
    inode = a_file()
    reader = opened(keeper, inode, session(1), 1)
    tried = []
    change = Mutation(session(2))

    def attempt() -> None:
        tried.append(inode.auth.state)
        keeper.holding.acquire(change, of(inode, "A", "x"))

    change.again = attempt
    with pytest.raises(Waits):
        attempt()
    assert told.said == [("client.1", "REVOKE", "pLsXsFscr")]
    keeper.confirmed(reader, reader.seq, reader.pending)
    keeper.locker.evaluate(inode)
    assert (inode.auth.state, change.held) == (State.XLOCK, {inode.auth: "x"})
    keeper.release(change)
    assert inode.auth.state is State.SYNC
    assert told.said[1:] == []  # it does not want As: it gets that with its next reply


def test_nobody_reads_what_is_not_safe_and_waiting_makes_it_so(keeper: CapKeeper, told: Told) -> None:
    inode = a_file()
    change, look = Mutation(session(1)), Mutation(session(2))
    keeper.holding.acquire(change, of(inode, "A", "x"))
    keeper.holding.answered(change, names=True)
    assert keeper.tellable(keeper.get(inode, session(3))) & Bit.AUTH_SHARED == 0
    look.again = lambda: keeper.holding.acquire(look, of(inode, "A", "r"))
    with pytest.raises(Waits):
        look.again()
    assert told.flushes == 1
    keeper.release(change)
    assert look.held == {inode.auth: "r"}


def test_a_cap_confirmed_late_stays_asked_for(keeper: CapKeeper) -> None:
    cap = Cap(session(1), a_file(), 1)
    cap.add(Bit.PIN | Bit.AUTH_SHARED | Bit.LINK_SHARED)
    before = cap.seq
    cap.issue(Bit.PIN | Bit.LINK_SHARED)
    cap.issue(Bit.PIN)
    cap.confirmed(before, Bit.PIN | Bit.LINK_SHARED)  # said before it heard of either
    assert cap_string(cap.revoking) == "Ls"
    cap.confirmed(cap.seq, Bit.PIN)
    assert (cap.revoking, cap.history) == (0, ())
