"""How locks go from state to state: by who holds and wants what, and as requests need it.

Facts: ceph: src/mds/Locker.cc (``eval``, ``eval_gather``, ``simple_eval``, ``file_eval``, ``simple_sync`` ...). A lock
that changes its state passes through the limits of the way there until no client holds more than the new state allows,
and no request holds it in a manner that the new state does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.lockcache import LockCache
from cephcaps.testing.mds.locks import BUFFER, EXCL, KINDS, RD, SNAP, WR, Lock, State, Wait, Who
from cephcaps.testing.mds.loner import choose_loner, drop_loner
from cephcaps.testing.mds.session import Session

__all__ = ["Issuer", "Locker"]

WAYS = {(state.name.split("_")[0], state.name.split("_")[-1]): state for state in State if "_" in state.name}


class Issuer(Protocol):
    """Whoever carries what locks decide."""

    def issue(self, inode: Inode) -> None:
        """Tell clients what they may have of an inode now, and ask the rest back."""

    def flush_soon(self) -> None:
        """Make safe what has been changed, once this message is done with."""

    def end_cache(self, cache: LockCache) -> None:
        """Let go of the locks that it keeps."""


class Locker:
    """Changes the states of locks."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    # Evaluation: what a lock should be

    def evaluate(self, inode: Inode, kinds: Iterable[str] = tuple(KINDS)) -> bool:
        """Bring locks into the states they should be in; whether clients have been told of anything."""
        to: dict[Inode, None] = {}
        woken: list[Callable[[], None]] = []
        if choose_loner(inode):
            to[inode] = None
            kinds = tuple(KINDS)
        elif inode.loner is not inode.want_loner:
            kinds = tuple(KINDS)
        again = True
        while again:
            again = False
            for kind in kinds:
                lock = inode.lock(kind)
                if lock.stable:
                    self._better(lock, to)
                else:
                    self.gather(lock, to, woken=woken)
            if inode.loner is not inode.want_loner and drop_loner(inode):
                to[inode] = None
                if inode.want_loner is not None:
                    inode.loner, kinds, again = inode.want_loner, tuple(KINDS), True
        for step in woken:
            step()
        told = inode in to
        if told:
            self._issuer.issue(inode)
        return told

    def gather_all(self, inode: Inode) -> None:
        """A client has given something back."""
        to: dict[Inode, None] = {}
        woken: list[Callable[[], None]] = []
        for kind in KINDS:
            lock = inode.lock(kind)
            if not lock.stable:
                self.gather(lock, to, woken=woken)
        self.tell(to)
        for step in woken:
            step()

    def gather(
        self,
        lock: Lock,
        to: dict[Inode, None] | None = None,
        *,
        first: bool = False,
        woken: list[Callable[[], None]] | None = None,
    ) -> None:
        """Let a lock that is on its way arrive, if nothing stands in its way any more."""
        inode, following = lock.inode, lock.rule.next
        assert following is not None
        loner, other, xlocker = inode.issued_in(lock)
        too_much = (
            other & ~lock.allowed(Who.ANY, following)
            or loner & ~lock.allowed(Who.LONER, following)
            or xlocker & ~lock.allowed(Who.XLOCKER, following)
        )
        mine: dict[Inode, None] = {inode: None} if first and too_much else {}
        rule = lock.rule_in(following)
        if (
            not too_much
            and (rule.rdlock == "*" or not lock.rdlocks)
            and (rule.wrlock == "*" or not lock.wrlocks)
            and (rule.xlock == "*" or not lock.xlocks)
        ):
            lock.state = following
            mine[inode] = None
            if inode.want_loner is not inode.loner:
                drop_loner(inode)
            if woken is None:
                self.wake(lock, Wait.RD | Wait.WR | Wait.STABLE)
            else:
                woken += _take(lock, Wait.RD | Wait.WR | Wait.STABLE)
            if lock.stable:
                self._better(lock, mine)
        self._pass_on(mine, to)

    def reconsider(self, lock: Lock, to: dict[Inode, None] | None) -> None:
        """A request has let go of it."""
        if not lock.stable:
            self.gather(lock, to)
        else:
            self._better(lock, to)

    def _better(self, lock: Lock, to: dict[Inode, None] | None) -> None:
        if lock.kind == "F":
            self._file_eval(lock, to)
        else:
            self._simple_eval(lock, to)

    def _simple_eval(self, lock: Lock, to: dict[Inode, None] | None) -> None:
        inode = lock.inode
        wanted = inode.wanted_in(lock)[0]
        if lock.state is not State.EXCL and inode.target_loner is not None and wanted & EXCL:
            self.excl(lock, to)
        elif (
            lock.state is not State.SYNC
            and not lock.wrlocks
            and (
                (not wanted & EXCL and not lock.waited_for(Wait.WR))
                or (lock.state is State.EXCL and inode.target_loner is None)
            )
        ):
            self.sync(lock, to)

    def _file_eval(self, lock: Lock, to: dict[Inode, None] | None) -> None:
        inode = lock.inode
        wanted, loner_wants, others_want = inode.wanted_in(lock)
        if lock.state is State.EXCL:
            loner_has = inode.issued_in(lock)[0]
            if (
                not (loner_wants | loner_has) & (EXCL | WR | BUFFER)
                or others_want & (EXCL | WR | RD)
                or (inode.is_dir and inode.shared)
            ):
                if wanted & WR or lock.waited_for(Wait.WR):
                    self.mix(lock, to)
                elif not lock.wrlocks:
                    self.sync(lock, to)
        elif (
            not lock.rdlocks
            and inode.target_loner is not None
            and (not inode.is_root if inode.is_dir else wanted & (EXCL | WR | BUFFER))
        ):
            self.excl(lock, to)
        elif lock.state is not State.MIX and not lock.rdlocks and inode.target_loner is None and wanted & WR:
            self.mix(lock, to)
        elif (
            lock.state is not State.SYNC
            and not lock.wrlocks
            and not lock.waited_for(Wait.WR)
            and not wanted & WR
            and not (lock.state is State.MIX and inode.is_root)
        ):
            self.sync(lock, to)

    # The ways between stable states

    def sync(self, lock: Lock, to: dict[Inode, None] | None = None) -> bool:
        """Towards SYNC (ceph: ``simple_sync``); whether it is there."""
        return self._turn(lock, State.SYNC, to, writers=True, wake=Wait.RD | Wait.STABLE)

    def lock(self, lock: Lock, to: dict[Inode, None] | None = None) -> bool:
        """Towards LOCK (ceph: ``simple_lock``)."""
        return self._turn(lock, State.LOCK, to, readers=True, wake=Wait.WR | Wait.STABLE, tell=False)

    def excl(self, lock: Lock, to: dict[Inode, None] | None = None) -> bool:
        """Towards EXCL (ceph: ``simple_excl``, ``file_excl``)."""
        wake = Wait(0) if lock.kind == "F" else Wait.WR | Wait.STABLE
        return self._turn(lock, State.EXCL, to, readers=True, writers=True, wake=wake)

    def mix(self, lock: Lock, to: dict[Inode, None] | None = None) -> bool:
        """Towards MIX (ceph: ``scatter_mix``)."""
        if lock.state is State.LOCK:
            lock.state = State.MIX
            self._pass_on({lock.inode: None}, to)
            return True
        return self._turn(lock, State.MIX, to, readers=True, wake=Wait(0))

    def xsyn(self, lock: Lock) -> bool:
        """Towards XSYN (ceph: ``file_xsyn``)."""
        return self._turn(lock, State.XSYN, None, writers=True, wake=Wait.RD | Wait.STABLE)

    def xlock(self, lock: Lock) -> None:
        """Make it ready for one request alone (ceph: ``simple_xlock``)."""
        lock.state = State.LOCK_XLOCK
        if not self._gathers(lock, None, readers=True, writers=True):
            lock.state = State.PREXLOCK

    def finish_xlock(self, lock: Lock, xlocker: Session | None, to: dict[Inode, None] | None) -> None:
        """Nobody has it to itself any more (ceph: ``_finish_xlock``)."""
        loner = None if lock.kind == SNAP else lock.inode.target_loner
        if not lock.rdlocks and not lock.wrlocks and loner is not None and xlocker in (None, loner):
            lock.state = State.EXCL
            self.wake(lock, Wait.STABLE | Wait.WR | Wait.RD)
            self._pass_on({lock.inode: None}, to)
            if lock.stable:
                self._better(lock, to)
            return
        self.gather(lock, to, first=True)

    def _turn(
        self,
        lock: Lock,
        state: State,
        to: dict[Inode, None] | None,
        *,
        wake: Wait,
        readers: bool = False,
        writers: bool = False,
        tell: bool = True,
    ) -> bool:
        lock.state = WAYS[lock.state.name, state.name]
        if self._gathers(lock, to, readers=readers, writers=writers):
            return False
        lock.state = state
        self.wake(lock, wake)
        if tell:
            self._pass_on({lock.inode: None}, to)
        return True

    def _gathers(self, lock: Lock, to: dict[Inode, None] | None, *, readers: bool, writers: bool) -> bool:
        """Whether requests that hold it, or caps, stand in the way; they are asked to go."""
        blocked = bool((readers and lock.rdlocks) or (writers and lock.wrlocks))
        if blocked:
            for cache in list(lock.caches or ()):
                self._issuer.end_cache(cache)
            self._issuer.flush_soon()
        if self.needs_gather(lock):
            self._pass_on({lock.inode: None}, to)
            blocked = True
        return blocked

    def needs_gather(self, lock: Lock) -> bool:
        """Whether a client has more than its state allows (ceph: ``issued_caps_need_gather``)."""
        loner, other, xlocker = lock.inode.issued_in(lock)
        return bool(
            loner & ~lock.allowed(Who.LONER) or other & ~lock.allowed(Who.ANY) or xlocker & ~lock.allowed(Who.XLOCKER)
        )

    # Who hears of it

    def _pass_on(self, inodes: dict[Inode, None], to: dict[Inode, None] | None) -> None:
        if to is None:
            self.tell(inodes)
        else:
            to |= inodes

    def tell(self, inodes: Iterable[Inode]) -> None:
        for inode in inodes:
            self._issuer.issue(inode)

    def wake(self, lock: Lock, what: Wait) -> None:
        """Let those who wait for this try again."""
        for again in _take(lock, what):
            again()

    def nudge(self, lock: Lock) -> None:
        """Somebody waits for it (ceph: ``nudge_log``)."""
        if lock.in_the_way:
            self._issuer.flush_soon()


def _take(lock: Lock, what: Wait) -> list[Callable[[], None]]:
    if not lock.waiters or not what:
        return []
    taken = [again for wait, again in lock.waiters if wait & what]
    lock.waiters = [(wait, again) for wait, again in lock.waiters if not wait & what] or None
    return taken
