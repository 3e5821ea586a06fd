"""Locks on their way: granted, refused, given up at any moment, with an MDS that counts as real ones do."""

from __future__ import annotations

import errno
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest

from cephcaps.actions import Action, Done, Failed
from cephcaps.core import Close, CloseLocks, SetLock
from cephcaps.engine.cache import Cache
from cephcaps.engine.inode import Inode
from cephcaps.engine.reserve import Pool
from cephcaps.errors import RequestTimeout
from cephcaps.mds.locks import Locks
from cephcaps.mds.requests import LockCall, Request, Requests
from cephwire.capbits import Cap
from cephwire.filelock import FileLock, LockRule, LockType
from cephwire.request import ClientRequest
from cephwire.requestargs import FileLockArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.engine.bench import stat_of
from tests.session import samples
from tests.session.world import World, mounted

INO = 7
S, X, U = LockType.SHARED, LockType.EXCL, LockType.UNLOCK
FCNTL, FLOCK = LockRule.FCNTL, LockRule.FLOCK
SIZE = 8
NEVER = float("inf")
INTERRUPTS = (LockRule.FCNTL_INTR, LockRule.FLOCK_INTR)


def call(
    kind: LockType,
    start: int = 0,
    length: int = 0,
    *,
    owner: int = 1,
    handle: int = 1,
    wait: bool = False,
    rule: LockRule = FCNTL,
) -> LockCall:
    return LockCall(INO, "/file", handle, rule, FileLock(start, length, 0, owner, 5, kind), wait)


class ModelMds:
    """Lock requests by one of the two rules as an MDS takes them (ceph: src/mds/Server.cc,
    ``handle_client_file_setlock``).

    Attributes:
        held: by owner, the kind of lock on each byte.
    """

    def __init__(self, answer: Callable[[int, int], None]) -> None:
        self.held: dict[int, dict[int, int]] = {}
        self._answer = answer
        self._waits: list[tuple[int, int, int]] = []  # range and owner
        self._asleep: list[tuple[int, FileLockArgs]] = []

    def receive(self, tid: int, args: FileLockArgs) -> None:
        self._try(tid, args, waited=False)

    def _try(self, tid: int, args: FileLockArgs, *, waited: bool) -> None:
        place = args.start, args.length, args.owner
        if args.type == U:
            if place in self._waits:
                self._waits.remove(place)  # whatever it was meant for
            elif args.rule not in INTERRUPTS:
                for byte in self._bytes(args):
                    self.held.get(args.owner, {}).pop(byte, None)
            self._answer(tid, 0)
            asleep, self._asleep = self._asleep, []
            for other, wanted in asleep:
                self._try(other, wanted, waited=True)
        elif waited and place not in self._waits:
            self._answer(tid, -errno.EINTR)
        elif not self._free(args):
            if not args.wait:
                self._answer(tid, -errno.EAGAIN)
                return
            if not waited:
                self._waits.append(place)
            self._asleep.append((tid, args))
        else:
            if place in self._waits:
                self._waits.remove(place)
            self.held.setdefault(args.owner, {}).update(dict.fromkeys(self._bytes(args), args.type))
            self._answer(tid, 0)

    def _free(self, args: FileLockArgs) -> bool:
        there = [
            kind
            for owner, bytes in self.held.items()
            if owner != args.owner
            for byte, kind in bytes.items()
            if byte in self._bytes(args)
        ]
        return not there or (args.type == S and X not in there)

    def _bytes(self, args: FileLockArgs) -> range:
        return range(args.start, args.start + args.length if args.length else SIZE)

    def held_by(self, owner: int) -> dict[int, int]:
        return dict(self.held.get(owner, {}))


RIVAL = 99
NOBODY = 10**6
"""The token of a caller who leaves."""


class Locking:
    """Our locks and an MDS's, with messages on their way in both directions.

    Attributes:
        results: by token, the errno a call failed with, 0 where it did not.
        believed: what callers have been told they hold, by owner and byte.
        asked: requests of each kind that left.
        usable: whether there is a session to send them in.
    """

    def __init__(self) -> None:
        self.out: list[Action] = []
        self.requests = Requests()
        self.cache = Cache(Pool(lambda count: None))
        self.inode = self.cache.inodes[INO] = Inode(stat_of(INO, "pAsLsXsFs"))
        self.cache.use(self.inode).modes[1] = 1
        self.locks = Locks(self.cache, self.requests, self._route, self.out)
        self.mds = ModelMds(self._answered)
        self.flocks = ModelMds(self._answered)
        self.to_mds: deque[tuple[int, FileLockArgs]] = deque()
        self.to_us: deque[tuple[int, int]] = deque()
        self.results: dict[int, int] = {}
        self.believed: dict[int, dict[int, int]] = {}
        self.calls: dict[int, LockCall] = {}
        self.asked: Counter[str] = Counter()
        self.usable = True
        self._token = 0

    def serve(self) -> None:
        """The MDS can be reached again."""
        self.usable = True
        for request in self.requests:
            if not request.sent:
                self._route(request, 0.0)

    def _route(self, request: Request, now: float) -> None:
        if not self.usable:
            return
        request.sent, request.rank = True, 0
        args = request.operation.args
        assert isinstance(args, FileLockArgs)
        self.to_mds.append((request.tid, args))
        self.asked["interrupt" if args.rule in INTERRUPTS else LockType(args.type).name] += 1

    def _answered(self, tid: int, result: int) -> None:
        if tid:  # else the rival
            self.to_us.append((tid, result))

    def ask(self, wanted: LockCall, deadline: float = NEVER) -> int:
        self._token += 1
        self.calls[self._token] = wanted
        self.locks.ask(self._token, wanted, deadline, 0.0)
        self._hear()
        return self._token

    def cancel(self, token: int) -> None:
        request = self.requests.cancel(token)
        if request is not None:
            self.locks.abandoned(request, 0.0)
        self.calls.pop(token, None)

    def mds_hears(self) -> None:
        if self.to_mds:
            tid, args = self.to_mds.popleft()
            (self.flocks if args.rule in (FLOCK, LockRule.FLOCK_INTR) else self.mds).receive(tid, args)

    def we_hear(self, *, too_late: bool = False) -> None:
        """Take in one reply; the caller may leave before he is told."""
        if self.to_us:
            tid, result = self.to_us.popleft()
            self.locks.answered(self.requests.by_tid[tid], result, 0.0)
            self._hear(too_late=too_late)

    def settle(self) -> None:
        while self.to_mds or self.to_us:
            self.mds_hears()
            self.we_hear()

    def rival(self, kind: LockType, start: int, length: int) -> None:
        """Another client does something; refused where it would have to wait."""
        self.mds.receive(0, FileLockArgs(FCNTL, kind, RIVAL, 5, start, length, 0))

    def _hear(self, *, too_late: bool = False) -> None:
        for action in self.out:
            if isinstance(action, Done) and too_late:
                self.locks.unclaimed(action.result, 0.0)
                self.calls.pop(action.token, None)
            elif isinstance(action, Done):
                self.results[action.token] = 0
                if (wanted := self.calls.pop(action.token, None)) is not None:
                    lock = wanted.lock
                    at = self.believed.setdefault(lock.owner, {})
                    for byte in range(lock.start, lock.start + lock.length if lock.length else SIZE):
                        at.pop(byte, None)
                        if lock.type != U:
                            at[byte] = lock.type
            elif isinstance(action, Failed):
                assert isinstance(action.error, OSError)
                self.results[action.token] = action.error.errno or 0
                self.calls.pop(action.token, None)
        self.out.clear()

    def known(self, owner: int) -> dict[int, int]:
        """What is kept of ``owner``'s record locks, by byte."""
        locks = self.inode.locks.fcntl if self.inode.locks is not None else ()
        return {
            byte: lock.type
            for lock in locks
            if lock.owner == owner
            for byte in range(lock.start, lock.start + lock.length if lock.length else SIZE)
        }


def whole(kind: LockType) -> dict[int, int]:
    return dict.fromkeys(range(SIZE), int(kind))


# What is asked and answered


def test_a_lock_is_had_kept_and_given_back() -> None:
    it = Locking()

    token = it.ask(call(X, 2, 3))
    it.settle()
    assert (it.results[token], it.known(1), it.mds.held_by(1)) == (0, {2: 2, 3: 2, 4: 2}, {2: 2, 3: 2, 4: 2})
    it.ask(call(U))
    it.settle()

    assert (it.inode.locks, it.mds.held_by(1)) == (None, {})


def test_without_waiting_it_is_refused() -> None:
    it = Locking()
    it.rival(X, 0, 4)

    token = it.ask(call(X, 2, 3))
    it.settle()

    assert (it.results[token], it.inode.locks) == (errno.EAGAIN, None)


def test_an_error_of_the_mds_is_the_caller_s() -> None:
    it = Locking()
    token = it.ask(call(X, wait=True))
    tid, _ = it.to_mds.popleft()

    it.to_us.append((tid, -errno.EDEADLK))
    it.we_hear()

    assert (it.results[token], it.requests.by_tid) == (errno.EDEADLK, {})


def test_a_wait_given_up_is_interrupted_and_keeps_what_was_held() -> None:
    it = Locking()
    it.rival(X, 4, 2)
    it.ask(call(S, 0, 2))
    it.settle()
    waiting = it.ask(call(X, 0, 6, wait=True))
    it.settle()

    it.cancel(waiting)
    it.settle()
    it.rival(U, 0, 0)
    it.settle()

    assert it.asked["interrupt"] == 1
    assert (it.known(1), it.mds.held_by(1), it.requests.by_tid) == ({0: 1, 1: 1}, {0: 1, 1: 1}, {})


def test_what_is_granted_to_nobody_is_undone() -> None:
    it = Locking()
    it.rival(X, 4, 2)
    it.ask(call(S, 0, 2))
    it.settle()
    waiting = it.ask(call(X, 0, 6, wait=True))
    it.mds_hears()
    it.rival(U, 0, 0)

    it.cancel(waiting)
    it.settle()

    assert (it.known(1), it.mds.held_by(1)) == ({0: 1, 1: 1}, {0: 1, 1: 1})


@pytest.mark.parametrize("wait", [False, True])
def test_so_is_what_a_caller_does_not_hear_of(wait: bool) -> None:
    it = Locking()
    it.ask(call(X, wait=wait))
    it.mds_hears()

    it.we_hear(too_late=True)
    it.settle()

    assert (it.inode.locks, it.mds.held_by(1)) == (None, {})


def test_a_lock_that_does_not_wait_is_not_interrupted() -> None:
    it = Locking()
    token = it.ask(call(X))

    it.cancel(token)
    it.settle()

    assert (it.asked["interrupt"], it.mds.held_by(1)) == (0, {})


def test_a_lock_that_never_left_is_forgotten() -> None:
    it = Locking()
    token = it.ask(call(X, wait=True))
    [request] = it.requests
    request.sent = False
    it.to_mds.clear()

    it.cancel(token)

    assert (list(it.to_mds), it.requests.by_tid) == ([], {})


@pytest.mark.parametrize("closes", [False, True])
def test_an_unlock_that_has_not_left_yet_does_so_though_its_caller_is_gone(closes: bool) -> None:
    it = Locking()
    it.ask(call(X))
    it.settle()
    it.usable = False
    if closes:
        it.locks.close(NOBODY, 1, "/file", NEVER, 0.0)
        it.cancel(NOBODY)
    else:
        it.cancel(it.ask(call(U)))

    it.serve()
    it.settle()

    assert (it.inode.locks, it.mds.held_by(1), it.requests.by_tid) == (None, {}, {})


def test_an_unlock_reaches_what_is_held_though_its_owner_waits_for_more_of_it() -> None:
    """An MDS takes the first for the end of the wait."""
    it = Locking()
    it.rival(S, 0, 0)
    it.ask(call(S))
    it.settle()
    waiting = it.ask(call(X, wait=True))
    it.settle()

    unlocked = it.ask(call(U))
    it.settle()
    assert (it.results.get(unlocked), it.mds.held_by(1), waiting in it.results) == (0, {}, False)
    it.rival(U, 0, 0)
    it.settle()

    assert (it.results[waiting], it.mds.held_by(1), it.known(1)) == (0, whole(X), whole(X))


def test_two_who_wait_for_the_same_lock_of_one_owner_both_get_it() -> None:
    """To the second the MDS says that he is not waiting any more."""
    it = Locking()
    it.rival(X, 0, 0)
    tokens = [it.ask(call(X, wait=True)) for _ in range(2)]
    it.settle()

    it.rival(U, 0, 0)
    it.settle()

    assert [it.results[token] for token in tokens] == [0, 0]
    assert it.mds.held_by(1) == whole(X)


def test_an_undo_does_not_take_a_later_lock_of_the_same_owner() -> None:
    it = Locking()
    first, second = it.ask(call(X)), it.ask(call(X, 2, 2))
    it.cancel(first)
    it.mds_hears()
    it.mds_hears()

    it.settle()

    assert (it.results[second], it.known(1), it.mds.held_by(1)) == (0, {2: 2, 3: 2}, {2: 2, 3: 2})


def test_what_is_left_of_a_lock_that_has_to_be_asked_for_again_and_is_refused_goes_back() -> None:
    it = Locking()
    it.cancel(it.ask(call(X, 2, 2)))
    token = it.ask(call(X))
    it.mds_hears()
    it.mds_hears()
    it.we_hear()
    it.we_hear()  # the undo of the first is on its way: the second is asked for again
    it.mds_hears()
    it.rival(X, 2, 2)

    it.settle()

    assert (it.results[token], it.inode.locks, it.mds.held_by(1)) == (errno.EAGAIN, None, {})


def test_what_was_held_and_is_being_unlocked_does_not_come_back() -> None:
    it = Locking()
    it.ask(call(S, 0, 2))
    it.settle()
    first = it.ask(call(X))
    it.cancel(first)
    it.ask(call(U, 0, 2))

    it.settle()

    assert (it.inode.locks, it.mds.held_by(1)) == (None, {})


# Handles


def closed(it: Locking, handle: int) -> int:
    it._token += 1
    it.locks.close(it._token, handle, "/file", NEVER, 0.0)
    it._hear()
    return it._token


def test_a_closed_handle_s_locks_go() -> None:
    it = Locking()
    flock = 1 << 63
    for wanted in (
        call(X, 0, 2, owner=flock | 50),
        call(X, 2, 2, owner=flock | 51, handle=2),
        call(S, owner=flock | 1, rule=FLOCK),
        call(S, owner=flock | 2, handle=2, rule=FLOCK),
        call(X, 6, 1, owner=flock | 50, handle=2),
    ):
        it.ask(wanted)
        it.mds_hears()
        it.we_hear()

    token = closed(it, 1)
    assert token not in it.results
    it.settle()

    assert it.results[token] == 0
    assert it.inode.locks is not None
    assert [(lock.start, lock.owner & 0xFF) for lock in it.inode.locks.fcntl] == [(2, 51)]
    assert [lock.owner & 0xFF for lock in it.inode.locks.flock] == [2]
    assert not it.locks.uses(1)


def test_a_handle_that_holds_nothing_is_closed_at_once() -> None:
    it = Locking()
    it.ask(call(U))
    it.settle()

    assert it.results[closed(it, 1)] == 0


def test_whoever_waits_through_a_handle_hears_that_it_is_closed_and_leaves_nothing() -> None:
    it = Locking()
    it.rival(X, 4, 2)
    it.ask(call(S, 0, 2))
    it.settle()
    waiting = it.ask(call(X, 0, 6, wait=True))
    it.mds_hears()
    it.rival(U, 0, 0)  # granted, and we have not heard

    closed(it, 1)
    it.settle()

    assert (it.results[waiting], it.inode.locks, it.mds.held_by(1)) == (errno.EBADF, None, {})


def test_locks_lost_with_their_session_are_told_until_they_are_unlocked() -> None:
    it = Locking()
    it.inode.auth_rank = 0
    it.ask(call(X, 0, 2))
    it.ask(call(X, 2, 2, owner=2, handle=2))
    it.ask(call(U, 2, 2, owner=2, handle=2))
    it.settle()

    it.locks.session_lost(1)
    assert it.inode.locks is not None
    it.locks.session_lost(0)
    it.mds.held.clear()

    assert it.inode.locks is None
    assert it.results[it.ask(call(X, 0, 2))] == errno.EIO
    other = it.ask(call(X, 0, 2, owner=2, handle=2))
    it.settle()
    assert it.results[other] == 0
    assert it.results[it.ask(call(U, 0, 2))] == 0
    again = it.ask(call(X, 4, 2))
    it.settle()
    assert it.results[again] == 0


# At random


@pytest.mark.parametrize("seed", range(100))
def test_whatever_is_given_up_whenever_the_mds_holds_what_callers_were_told(seed: int) -> None:
    chance, it = random.Random(seed), Locking()
    asked: list[int] = []
    for _ in range(60):
        start = chance.randrange(SIZE)
        length = chance.choice([0, 1, min(2, SIZE - start)])
        owner = chance.choice([1, 1, 2])
        match chance.choice(["lock", "lock", "lock", "unlock", "cancel", "cancel", "rival", "mds", "mds", "us", "us"]):
            case "lock":
                asked.append(it.ask(call(X, *chance.choice([(0, 0), (start, length)]), owner=owner, wait=True)))
            case "unlock" if not it.requests.by_tid:
                it.ask(call(chance.choice([U, U, S]), start, length, owner=owner))
                it.settle()
            case "cancel" if asked:
                it.cancel(asked.pop(chance.randrange(len(asked))))
            case "rival":
                it.rival(chance.choice([X, U, U]), start, length)
            case "mds":
                it.mds_hears()
            case "us":
                it.we_hear(too_late=chance.random() < 0.2)
    it.rival(U, 0, 0)
    for token in asked:
        if chance.random() < 0.5:
            it.cancel(token)
    for _ in range(100):  # owners that wait for each other: a real MDS tells one of them so
        it.settle()
        if not it.requests.by_tid:
            break
        it.cancel(next(iter(it.calls)))
    assert not it.requests.by_tid
    for owner in (1, 2):
        believed = it.believed.get(owner, {})
        assert it.known(owner) == it.mds.held_by(owner) == believed, (seed, owner)


# Among other requests


def lock_requests(world: World) -> list[tuple[int, ClientRequest]]:
    return [(tid, one) for tid, one in world.ranks[0].peer.requests() if one.op == RequestOp.SETFILELOCK]


def rule_of(request: ClientRequest) -> int:
    assert isinstance(request.args, FileLockArgs)
    return request.args.rule


def locking() -> World:
    """A client that holds a cap on the file."""
    world = mounted()
    told = samples.inode(INO, samples.cap(Cap.PIN | Cap.ANY_SHARED, 70), mode=0o100644)
    world.ranks[0].peer.send(samples.reply(RequestOp.READDIR, entries=(told,)), tid=10_000)
    world.run()
    return world


def reply(world: World, tid: int, result: int = 0) -> None:
    world.ranks[0].peer.send(samples.reply(RequestOp.SETFILELOCK, result=result), tid=tid)
    world.run()


def test_a_lock_is_asked_for_by_number_with_all_that_tells_it_apart() -> None:
    world = locking()
    world.call(SetLock(call(X, 4, 6, owner=9, wait=True)))

    [(_, request)] = lock_requests(world)

    assert (request.path.ino, request.path.path) == (INO, "")
    assert request.args == FileLockArgs(FCNTL, X, 9, 5, 4, 6, 1)


def test_a_lock_that_waits_is_not_the_oldest_request() -> None:
    world = locking()
    world.call(SetLock(call(X, wait=True)))
    [(tid, _)] = lock_requests(world)
    world.getattr()

    newest, request = world.ranks[0].peer.requests()[-1]
    assert (request.oldest_client_tid, newest) == (tid + 1, tid + 1)


@pytest.mark.parametrize("rule", [FCNTL, FLOCK])
def test_a_wait_whose_time_is_up_is_interrupted(rule: LockRule) -> None:
    world = locking()
    token = world.call(SetLock(call(X, 4, 6, wait=True, rule=rule)), timeout=5.0)
    world.advance(5.1)

    assert isinstance(world.results[token], RequestTimeout)
    assert "somebody else holds" in str(world.results[token])
    [_, (_, interrupt)] = lock_requests(world)
    stop = LockRule.FCNTL_INTR if rule == FCNTL else LockRule.FLOCK_INTR
    assert interrupt.args == FileLockArgs(stop, U, 1, 5, 4, 6, 1)


def test_a_cancelled_wait_is_interrupted_at_once() -> None:
    world = locking()
    token = world.call(SetLock(call(X, wait=True)))

    world.cancel(token)
    world.run()

    assert [rule_of(request) for _, request in lock_requests(world)] == [FCNTL, LockRule.FCNTL_INTR]


def test_a_waiting_lock_does_not_hold_up_the_end() -> None:
    world = locking()
    waiting = world.call(SetLock(call(X, wait=True)))

    closing = world.call(Close())

    assert world.results[closing] is None
    assert isinstance(world.results[waiting], OSError)
    said: list[Any] = [m.op for _, m in world.ranks[0].peer.messages if isinstance(m, ClientSession)]
    assert said[-1] == SessionOp.REQUEST_CLOSE


def test_locks_of_a_closed_file_are_back_when_that_is_done() -> None:
    world = locking()
    token = world.call(SetLock(call(X, 4, 6)))
    reply(world, lock_requests(world)[0][0])
    assert not isinstance(world.results[token], Exception)

    closing = world.call(CloseLocks(1, "/file"))
    [_, (tid, request)] = lock_requests(world)
    assert request.args == FileLockArgs(FCNTL, U, 1, 5, 4, 6, 0)
    assert closing not in world.results
    reply(world, tid)

    assert not isinstance(world.results[closing], Exception)
