"""Any order of replies, grants, revokes, acknowledgements and local use leaves client and MDS agreed."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cephwire.capbits import Cap, FileMode
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import InodeStat
from tests.engine.bench import FILE, Bench
from tests.engine.model_mds import ModelMds

INOS = st.sampled_from((7, 8, 9))
LOCKS = (
    (Cap.AUTH_SHARED, Cap.AUTH_SHARED | Cap.AUTH_EXCL),
    (Cap.LINK_SHARED,),
    (Cap.XATTR_SHARED, Cap.XATTR_SHARED | Cap.XATTR_EXCL),
    (Cap.FILE_SHARED, Cap.FILE_RD | Cap.FILE_WR, Cap.FILE_SHARED | Cap.FILE_EXCL | Cap.FILE_RD | Cap.FILE_WR),
)
BITS = st.tuples(*(st.sampled_from((0, *states)) for states in LOCKS)).map(sum)
"""What an MDS may grant: for each lock nothing, shared, or more."""
ROUNDS = 10
"""Exchanges after which all should be said."""
MODES = st.sampled_from((FileMode.RD, FileMode.WR, FileMode.RDWR))


class Machine(RuleBasedStateMachine):
    """One engine and one MDS, with messages on their way in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.mds = ModelMds()
        self.gen = 1
        self.handles: list[tuple[int, int]] = []
        self.revokes = 0
        self.answers = 0

    # What goes over the connection

    def after(self) -> None:
        """Put what the engine sends on its way."""
        for send in self.bench.sends():
            inode = self.bench.engine.cache.inodes.get(getattr(send.message, "ino", 0))
            gen = inode.caps[0].gen if inode is not None and inode.caps else self.gen
            self.mds.from_client.append((gen, send))

    @precondition(lambda self: self.mds.to_client)
    @rule(times=st.integers(1, 5))
    def the_client_hears(self, times: int) -> None:
        for _ in range(min(times, len(self.mds.to_client))):
            self._hear(*self.mds.to_client.popleft())

    def _hear(self, message: Any, tid: int) -> None:
        bench = self.bench
        if message == "stale":
            self.gen += 1
            bench.engine.sessions.stale(0, self.gen)
            self.mds.from_client.append((self.gen, "renew"))
        elif message == "renewed":
            bench.engine.session_renewed(0, bench.now + 1e6, bench.now)
        elif isinstance(message, InodeStat):
            bench.reply(message)
        else:
            before = len(bench.engine.cache.out)
            bench.engine.receive(0, message, tid, bench.now)
            if message.op == CapOp.REVOKE:
                self._answered(message, bench.engine.cache.out[before:])
        self.after()

    def _answered(self, revoke: ClientCaps, sends: list[Any]) -> None:
        """A revoke is answered in the same breath: here nothing that can be asked back is ever in use."""
        cap = None
        if revoke.ino in self.bench.engine.cache.inodes:
            cap = self.bench.inode(revoke.ino).caps.get(0)
        if cap is None or cap.cap_id != revoke.cap_id:
            items = [item for send in sends for item in getattr(send.message, "caps", ())]
            assert (revoke.ino, revoke.cap_id, revoke.seq) in [(i.ino, i.cap_id, i.issue_seq) for i in items]
            return
        [answer] = [send.message for send in sends if isinstance(send.message, ClientCaps)]
        assert (answer.ino, answer.cap_id, answer.seq) == (revoke.ino, revoke.cap_id, cap.seq)
        assert answer.caps & ~revoke.caps == 0 or answer.seq != revoke.seq

    @precondition(lambda self: self.mds.from_client)
    @rule(times=st.integers(1, 5), regrant=st.dictionaries(INOS, BITS))
    def the_mds_hears(self, times: int, regrant: dict[int, int]) -> None:
        for _ in range(min(times, len(self.mds.from_client))):
            self.mds.handle(regrant)

    # What the MDS does

    @precondition(lambda self: not self.mds.stale)
    @rule(ino=INOS, bits=BITS)
    def replies(self, ino: int, bits: int) -> None:
        self.mds.reply(ino, bits)

    @precondition(lambda self: self.mds.caps and not self.mds.stale)
    @rule(data=st.data(), bits=BITS)
    def grants(self, data: st.DataObject, bits: int) -> None:
        ino = data.draw(st.sampled_from(sorted(self.mds.caps)))
        self.mds.push(ino, self.mds.caps[ino].pending | bits)

    @precondition(lambda self: self.mds.caps and not self.mds.stale)
    @rule(data=st.data(), bits=BITS)
    def takes_back(self, data: st.DataObject, bits: int) -> None:
        ino = data.draw(st.sampled_from(sorted(self.mds.caps)))
        self.mds.push(ino, self.mds.caps[ino].pending & bits, spurious=True)

    @precondition(lambda self: self.mds.caps and not self.mds.stale)
    @rule(data=st.data(), bits=BITS)
    def gives_and_takes(self, data: st.DataObject, bits: int) -> None:
        self.mds.push(data.draw(st.sampled_from(sorted(self.mds.caps))), bits)

    @precondition(lambda self: self.mds.journal)
    @rule(twice=st.booleans())
    def acknowledges(self, twice: bool) -> None:
        self.mds.acknowledge()
        if twice:
            self.mds.to_client.append(self.mds.to_client[-1])

    @precondition(lambda self: not self.mds.stale and self.gen == self.mds.gen)
    @rule()
    def the_session_becomes_stale(self) -> None:
        self.mds.become_stale()

    @rule(ino=INOS, mode=st.integers(0, 0o777))
    def another_client_changes_the_mode(self, ino: int, mode: int) -> None:
        if self.mds.can_change(ino, Cap.AUTH_SHARED):
            self.mds.inodes[ino].mode = FILE & ~0o7777 | mode

    # What is done here

    @rule(ino=INOS, mode=st.integers(0, 0o777))
    def changes_the_mode(self, ino: int, mode: int) -> None:
        self.bench.change(ino, mode=mode)
        self.after()

    @rule(ino=INOS, mtime=st.integers(1, 100))
    def changes_the_mtime(self, ino: int, mtime: int) -> None:
        self.bench.change(ino, mtime=mtime)
        self.after()

    @rule(ino=INOS, mode=MODES)
    def opens(self, ino: int, mode: int) -> None:
        if ino in self.bench.engine.cache.inodes:
            self.bench.opened(ino, mode)
            self.handles.append((ino, mode))
        self.after()

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def closes(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.handles)))
        self.handles.remove(handle)
        self.bench.closed(*handle)
        self.after()

    @rule(ino=INOS, sync=st.booleans())
    def flushes(self, ino: int, sync: bool) -> None:
        self.bench.flush(ino, sync=sync)
        self.after()

    @rule(ino=INOS)
    def lets_go(self, ino: int) -> None:
        self.bench.engine.release(ino, self.bench.now)
        self.after()

    @rule(max_caps=st.integers(0, 3))
    def is_to_hold_fewer(self, max_caps: int) -> None:
        self.bench.engine.sessions.recalled(0, max_caps, self.bench.now)
        self.after()

    @rule(ino=INOS, drop=BITS)
    def gives_up_bits_with_a_request(self, ino: int, drop: int) -> None:
        records = self.bench.engine.request_releases(0, ino, drop, self.bench.now)
        self.after()
        self.mds.from_client.extend((self.gen, record) for record in records)

    @rule(seconds=st.sampled_from((0.5, 1.0, 5.0, 30.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.bench.advance(seconds)
        self.after()

    # What always holds

    @invariant()
    def caps_add_up(self) -> None:
        cache = self.bench.engine.cache
        held = 0
        for ino, inode in cache.inodes.items():
            assert inode.caps or inode.pinned, "an inode that nothing tells us about"
            for rank, cap in inode.caps.items():
                held += 1
                assert rank == cap.rank == inode.auth_rank == 0
                assert not cap.issued & ~cap.implemented
                assert not cap.revoking or cap.revoking & inode.used, "a revoke that nothing of ours holds up"
                assert bool(cap.revoked_at) == bool(cap.revoking) == (ino in cache.revoking)
        assert held == cache.rank(0).num_caps
        assert all(cache.inodes[ino].caps for ino in cache.delayed)
        times = [cache.inodes[ino].hold_max for ino in cache.delayed]
        assert times == sorted(times)

    @invariant()
    def changes_add_up(self) -> None:
        cache = self.bench.engine.cache
        tids = []
        for ino, inode in cache.inodes.items():
            assert bool(inode.dirty) == (ino in cache.dirty)
            assert not inode.dirty or inode.auth_cap is not None
            flushing = 0
            for flush in inode.flushes:
                flushing |= flush.caps
                assert cache.flushes[flush.tid] is flush
                tids.append(flush.tid)
            assert inode.flushing == flushing
        assert sorted(tids) == list(cache.flushes) == sorted(set(tids))
        assert set(cache.dirty) <= set(cache.inodes)
        times = [cache.inodes[ino].dirty_since for ino in cache.dirty]
        assert times == sorted(times)

    def teardown(self) -> None:
        """Once all is said, both agree on what is held and on what it covers, and every change has arrived."""
        cache, mds = self.bench.engine.cache, self.mds
        self.bench.engine.flush_all(self.bench.now)
        self.bench.advance(1.0)
        self.after()
        for _ in range(ROUNDS):
            while mds.from_client:
                mds.handle({})
            while mds.journal:
                mds.acknowledge()
            while mds.to_client:
                self._hear(*mds.to_client.popleft())
            self.bench.engine.flush_all(self.bench.now)
            self.bench.advance(1.0)
            self.after()
        assert not [*mds.to_client, *mds.from_client, *mds.journal], "client and MDS chatter without end"
        assert not cache.flushes
        assert not cache.dirty
        assert {ino for ino, inode in cache.inodes.items() if inode.caps} == set(mds.caps)
        for ino, theirs in mds.caps.items():
            inode, ours = self.bench.inode(ino), self.bench.cap(ino)
            assert theirs.pending == theirs.issued == ours.issued == ours.implemented
            assert (theirs.seq, theirs.cap_id, theirs.last_issue) == (ours.seq, ours.cap_id, ours.issue_seq)
            assert not ours.mds_wanted & ~theirs.wanted, "the MDS does not know all we think it does"
            if ours.issued & Cap.AUTH_SHARED:
                assert inode.mode == mds.inodes[ino].mode
            if ours.issued & Cap.FILE_SHARED:
                assert (inode.mtime, inode.time_warp_seq) == (mds.inodes[ino].mtime, mds.inodes[ino].time_warp_seq)


TestMachine = Machine.TestCase
TestMachine.settings = settings(settings(), stateful_step_count=40)
