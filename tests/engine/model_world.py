"""One engine and two model ranks, with messages on their way in all directions; each method is one step of the story.

Steps check as they go what no message may ever do; `agree` ends the story and compares both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cephcaps.engine import xattrs
from cephcaps.engine.cache import Send
from cephcaps.engine.snaps import CHANGES
from cephwire.capbits import Cap, FileMode, cap_string
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapBody, CapOp, ClientCaps, ClientCapsFlag
from cephwire.codec import Codec
from cephwire.inode import InodeStat
from cephwire.request import FilePath
from cephwire.requestop import RequestOp
from cephwire.snap import SNAP_TRACE_PLAIN, ClientSnap, SnapOp, SnapRealm, SnapTrace
from tests.engine.bench import FILE, NEVER, Bench
from tests.engine.model_cluster import INOS, ModelCluster, ModelRank

REALM = 1
ROUNDS = 12
"""Exchanges after which all should be said."""
XATTR_LIMIT = 1 << 16

traces: Codec[SnapTrace] = Codec(SNAP_TRACE_PLAIN)


class Owed:
    """A snapshot's state that the MDS is to get.

    Attributes:
        size: None while a write from before the snapshot goes on.
    """

    def __init__(self, follows: int, mode: int, size: int | None) -> None:
        self.follows = follows
        self.mode = mode
        self.size = size
        self.sent = False


class World:
    """The story so far."""

    def __init__(self) -> None:
        self.bench = Bench(ranks=2)
        self.bench.engine.cache.handled = True
        self.engine = self.bench.engine
        self.cluster = ModelCluster()
        self.gens = [1, 1]
        self.handles: list[tuple[int, int]] = []
        self.waits: list[tuple[int, int]] = []
        self.refs: list[tuple[int, int, int]] = []
        self.moving = 0
        self.moved: set[int] = set()
        self.owed: dict[int, list[Owed]] = {ino: [] for ino in INOS}
        self.fresh: dict[tuple[int, int], bool] = {}
        """Data in memory only, by inode and snap context; whether some came since the handler began to write them."""
        self.log: list[str] = []
        self.cached: dict[int, int] = {}
        """Data that the handler keeps to be read again: by inode, under which FILE_CACHE they were read."""
        self.modes: dict[int, int] = {}
        """What whoever changed it last made of each inode's mode, as far as there is one such."""
        self.tids: dict[int, int] = {}
        self.acked: dict[int, int] = dict.fromkeys(INOS, 0)
        """Flushes on their way, by tid the inode; and by inode, the newest of which an acknowledgement was heard."""
        self.unseated: set[int] = set()
        """Ranks whose daemon has died and that nobody has taken over yet."""
        self._seen: dict[int, Any] = {}
        self._hear_snap()

    # What goes over the connections

    def after(self) -> None:
        """Put what the engine sends on its way, once it is looked at."""
        for send in self.bench.sends():
            assert send.rank not in self.unseated, "sent to nobody"
            self._look_at(send)
            inode = self.engine.cache.inodes.get(getattr(send.message, "ino", 0))
            cap = inode.caps.get(send.rank) if inode is not None else None
            self.cluster.ranks[send.rank].from_client.append(
                (cap.gen if cap is not None else self.gens[send.rank], send)
            )
        for ino, hook in self.bench.running.items():
            if self._seen.get(ino) is not hook:
                self._seen[ino] = hook
                if hook.data is not None and (ino, hook.data.context.seq) in self.fresh:
                    self.fresh[ino, hook.data.context.seq] = False
        for token, ino in list(self.waits):
            result = self.bench.results.pop(token, None)
            if result is not None:
                self.waits.remove((token, ino))
                assert not isinstance(result, Exception), result
                self.refs.append((ino, result.bits, token))
                if result.bits & Cap.FILE_CACHE:
                    gen = self.bench.inode(ino).cache_gen
                    assert self.cached.get(ino, gen) == gen, "old data under a new FILE_CACHE"
                    self.cached[ino] = gen

    def _look_at(self, send: Send) -> None:
        """What no message may do, whatever has happened."""
        message = send.message
        if isinstance(message, ClientCaps):
            self.log.append(f"{send.rank} {send.tid} {message}")
            if message.op == CapOp.FLUSHSNAP:
                self._flushsnap_sent(message)
                return
            if any(not owed.sent for owed in self.owed[message.ino]):
                assert message.flags & ClientCapsFlag.PENDING_CAPSNAP, "the MDS will fill the snapshot by itself"
            if self._unwritten(message.ino):
                assert message.caps & Cap.FILE_BUFFER, "answered before the data were written back"
            if message.ino in self.cached and not self._was_stale(message.ino):
                assert message.caps & Cap.FILE_CACHE, "answered before cached data were forgotten"
        elif isinstance(message, ClientCapRelease):
            self.log.append(f"{send.rank} {message}")
            for item in message.caps:
                if not self._counts(send.rank, item):
                    continue
                assert not any(not owed.sent for owed in self.owed.get(item.ino, ())), "released before FLUSHSNAP"
                assert not self._unwritten(item.ino), "released with data not written back"

    def _counts(self, rank: int, item: CapItem) -> bool:
        """Whether the release takes what we hold: one of an older issue does not."""
        inode = self.engine.cache.inodes.get(item.ino)
        cap = inode.caps.get(rank) if inode is not None else None
        return cap is None or (cap.cap_id, cap.issue_seq) == (item.cap_id, item.issue_seq)

    def _unwritten(self, ino: int) -> bool:
        return any(found == ino for found, _ in self.fresh)

    def _flushsnap_sent(self, message: ClientCaps) -> None:
        owed = self.owed[message.ino]
        place = [one.follows for one in owed].index(message.snap_follows)
        assert all(one.sent for one in owed[:place]), "FLUSHSNAPs out of their order"
        one = owed[place]
        assert isinstance(message.body, CapBody)
        assert one.size is not None, "a FLUSHSNAP before the write it waits for was over"
        assert (message.mode, message.body.size) == (one.mode, one.size), "not as the snapshot has it"
        one.sent = True

    def hears(self, rank: int, times: int) -> None:
        queue = self.cluster.ranks[rank].to_client
        for _ in range(min(times, len(queue))):
            self._hear(rank, *queue.popleft())

    def _hear(self, rank: int, message: Any, tid: int) -> None:
        bench, engine = self.bench, self.engine
        match message:
            case "stale":
                self.gens[rank] += 1
                for ino, seq in list(self.fresh):
                    if self.cluster.inodes[ino].auth == rank:
                        del self.fresh[ino, seq]  # too late: others have been given the file
                for ino in INOS:
                    if self.cluster.inodes[ino].auth == rank:
                        self.modes.pop(ino, None)  # and may have changed it, with our change still on its way
                engine.sessions.stale(rank, self.gens[rank])
                self.cluster.ranks[rank].from_client.append((self.gens[rank], "renew"))
            case "renewed":
                engine.session_renewed(rank, bench.now + 1e9, bench.now)
            case "serving":
                engine.rank_serves(rank, bench.now)
            case "snap":
                self._hear_snap()
            case InodeStat():
                bench.reply(message, rank=rank)
            case ClientCaps():
                self._hear_caps(rank, message, tid)
        self.after()

    def _unsend(self, ino: int) -> None:
        """The first word of a move: what the old rank may have dropped in silence is to be sent again."""
        if ino in self.moved:
            self.moved.remove(ino)
            for one in self.owed[ino]:
                one.sent = one.sent and (ino, one.follows) in self.cluster.snaps_durable

    def _hear_caps(self, rank: int, message: ClientCaps, tid: int) -> None:
        if message.op in (CapOp.EXPORT, CapOp.IMPORT):
            self.moving -= 1
            self._unsend(message.ino)
        if message.op == CapOp.FLUSHSNAP_ACK:
            self.owed[message.ino] = [one for one in self.owed[message.ino] if one.follows != message.snap_follows]
        if message.op in (CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK):
            self.acked[message.ino] = max(self.acked[message.ino], tid)
        assert not self.bench.sends()
        self.engine.receive(rank, message, tid, self.bench.now)
        if message.op == CapOp.REVOKE:
            sends = self.bench.sends()
            self._answered(rank, message, [send.message for send in sends])
            self.bench._sends[:0] = sends

    def _answered(self, rank: int, revoke: ClientCaps, messages: list[Any]) -> None:
        """A revoke is answered in the same breath, unless something asked back is in use."""
        inode = self.engine.cache.inodes.get(revoke.ino)
        cap = inode.caps.get(rank) if inode is not None else None
        if inode is None or cap is None or cap.cap_id != revoke.cap_id:
            items = [item for message in messages if isinstance(message, ClientCapRelease) for item in message.caps]
            assert (revoke.ino, revoke.cap_id, revoke.seq) in [(i.ino, i.cap_id, i.issue_seq) for i in items]
        elif not cap.revoking:
            answers = [
                message for message in messages if isinstance(message, ClientCaps) and message.op == CapOp.UPDATE
            ]
            assert [(answer.ino, answer.cap_id, answer.seq) for answer in answers] == [
                (revoke.ino, revoke.cap_id, cap.seq)
            ]
        else:
            assert cap.revoking & inode.used, "nothing holds the answer up"

    def mds_hears(self, rank: int, times: int, regrant: int) -> None:
        queue = self.cluster.ranks[rank].from_client
        for _ in range(min(times, len(queue))):
            self.cluster.ranks[rank].handle(regrant)

    # What the MDSs do

    def _auth(self, ino: int, *, held: bool = True) -> ModelRank | None:
        rank = self.cluster.auth(ino)
        usable = rank.serving and not rank.stale and (ino in rank.caps or not held)
        return rank if usable else None

    def replies(self, ino: int, bits: int) -> None:
        if (rank := self._auth(ino, held=False)) is not None:
            rank.reply(ino, bits)

    def grants(self, ino: int, bits: int) -> None:
        if (rank := self._auth(ino)) is not None:
            rank.push(ino, rank.caps[ino].pending | bits)

    def takes_back(self, ino: int, bits: int) -> None:
        if (rank := self._auth(ino)) is not None:
            rank.push(ino, rank.caps[ino].pending & bits, spurious=True)

    def gives_and_takes(self, ino: int, bits: int) -> None:
        if (rank := self._auth(ino)) is not None:
            rank.push(ino, bits)

    def acknowledges(self, rank: int, twice: bool) -> None:
        if self.cluster.ranks[rank].journal:
            self.cluster.ranks[rank].acknowledge()
            if twice:
                self.cluster.ranks[rank].to_client.append(self.cluster.ranks[rank].to_client[-1])

    def session_becomes_stale(self, rank: int) -> None:
        model = self.cluster.ranks[rank]
        if model.serving and not model.stale and self.gens[rank] == model.gen and not self.moving:
            model.become_stale()

    def another_changes_the_mode(self, ino: int, mode: int) -> None:
        if self.cluster.can_change(ino, Cap.AUTH_SHARED):
            inode = self.cluster.inodes[ino]
            inode.live.mode = inode.durable.mode = self.modes[ino] = FILE & ~0o7777 | mode
            ours = self.engine.cache.inodes.get(ino)
            if ours is not None and (ours.dirty | ours.flushing) & Cap.AUTH_EXCL and self._was_stale(ino):
                del self.modes[ino]  # our change is from before we went stale: who comes last is anybody's guess

    def _was_stale(self, ino: int) -> bool:
        return self.cluster.auth(ino).gen > 1

    def exports(self, ino: int) -> None:
        rank = self.cluster.auth(ino)
        to = self.cluster.ranks[1 - rank.rank]
        quiet = all(other.serving and not other.stale and self.gens[other.rank] == other.gen for other in (rank, to))
        # Before it hands an inode on, a rank has all clients say that they have heard it (FLUSHMSG).
        if quiet and not self.moving and not rank.to_client:
            if ino in rank.caps:
                self.moving += 2
                self.moved.add(ino)
            rank.export(ino, to)

    def fails_over(self, rank: int) -> None:
        model = self.cluster.ranks[rank]
        unheard = model.stale and self.gens[rank] != model.gen
        if self.moving or not model.serving or unheard:
            return  # a client that is stale knows by the time, if by nothing else
        model.fail()
        for ino in INOS:
            for one in self.owed[ino] if self.cluster.inodes[ino].auth == rank else ():
                one.sent = False
        self.unseated.add(rank)
        self.engine.rank_unseated(rank, self.bench.now)
        self.after()

    def is_taken_over(self, rank: int) -> None:
        if rank not in self.unseated:
            return
        self.unseated.remove(rank)
        model = self.cluster.ranks[rank]
        self.gens[rank] = max(self.gens[rank], model.gen) + 1
        model.gen = self.gens[rank]
        self.engine.reconnects.compose(rank, self.gens[rank], NEVER)
        self.after()

    def is_snapshot(self) -> None:
        self.cluster.snap_seq += 1
        self.cluster.ranks[0].to_client.append(("snap", 0))

    def _hear_snap(self) -> None:
        seq = self.cluster.snap_seq
        context = self.engine.realms.context(REALM)
        if seq <= context.seq:
            return
        for ino in INOS:
            inode = self.engine.cache.inodes.get(ino)
            if inode is None or inode.use is None or not inode.realm:
                continue
            writing = bool(inode.use.wr)
            dirty = inode.dirty | inode.flushing | (Cap.FILE_WR if writing else 0)
            unfinished = self.owed[ino] and self.owed[ino][-1].size is None
            if dirty & CHANGES and not unfinished:
                head = inode.use.head or context
                self.owed[ino].append(Owed(head.seq, inode.mode, None if writing else inode.size))
        realm = SnapRealm(REALM, 1, 0, 0, seq, tuple(range(seq, 1, -1)), (), None, None)
        message = ClientSnap(SnapOp.UPDATE, 0, (), (), traces.encode(SnapTrace((realm,))))
        self.engine.receive(0, message, 0, self.bench.now)  # type: ignore[arg-type]
        self.after()

    # What is done here

    def changes_the_mode(self, ino: int, mode: int) -> None:
        known = ino in self.engine.cache.inodes
        if self.bench.change(ino, mode=mode) is None and known:
            self.modes[ino] = self.bench.inode(ino).mode
        self.after()

    def changes_the_mtime(self, ino: int, mtime: int) -> None:
        self.bench.change(ino, mtime=mtime)
        self.after()

    def sets_an_xattr(self, ino: int, value: int) -> None:
        inode = self.engine.cache.inodes.get(ino)
        if inode is None:
            return
        change = xattrs.XattrChange("user.x", bytes((value,)), 1)
        if xattrs.apply(inode, change, self.engine.may_change(inode, self.bench.now), XATTR_LIMIT) == 0:
            self.engine.flushes.mark_dirty(inode, Cap.XATTR_EXCL, self.bench.now)
        self.after()

    def opens(self, ino: int) -> None:
        if ino in self.engine.cache.inodes:
            self.bench.opened(ino, FileMode.RDWR)
            self.handles.append((ino, FileMode.RDWR))
        self.after()

    def closes(self, which: int) -> None:
        if self.handles:
            self.bench.closed(*self.handles.pop(which % len(self.handles)))
        self.after()

    def flushes(self, ino: int, sync: bool) -> None:
        self.bench.flush(ino, sync=sync)
        self.after()

    def lets_go(self, ino: int) -> None:
        self.engine.release(ino, self.bench.now)
        self.after()

    def is_to_hold_fewer(self, rank: int, max_caps: int) -> None:
        self.engine.sessions.recalled(rank, max_caps, self.bench.now)
        self.after()

    def gives_up_bits_with_a_request(self, ino: int, drop: int) -> None:
        rank = self.cluster.auth(ino)
        if not rank.serving or self.moving or self.engine.cache.rank(rank.rank).recovering:
            return
        inode = self.engine.cache.inodes.get(ino)
        held = inode.caps[rank.rank].issued if inode is not None and rank.rank in inode.caps else 0
        records = self.embedded(rank.rank, ino, drop)
        self.after()
        for record in records:
            lost = held & ~record.caps & Cap.ANY_FILE_WR
            assert not (lost and any(not one.sent for one in self.owed[ino])), (
                "released with a request before FLUSHSNAP"
            )
            assert not (self._unwritten(ino) and lost & Cap.FILE_BUFFER), "released with data not written back"
            rank.from_client.append((self.gens[rank.rank], record))

    def embedded(self, rank: int, ino: int, drop: int) -> Any:
        return self.engine.request_releases(rank, RequestOp.SETATTR, FilePath(ino), FilePath(), drop, self.bench.now)

    def gets(self, ino: int, need: int, want: int, end: int) -> None:
        if ino not in self.engine.cache.inodes:
            return
        token = self.bench.get(ino, cap_string(need), cap_string(want), end)
        self.waits.append((token, ino))
        self.after()

    def gives_up_waiting(self, which: int) -> None:
        if self.waits:
            token, _ = self.waits.pop(which % len(self.waits))
            self.engine.refs.cancel(token)
        self.after()

    def writes(self, which: int, end: int, buffered: bool) -> None:
        writing = [(ino, bits) for ino, bits, _ in self.refs if bits & Cap.FILE_WR]
        if not writing:
            return
        ino, bits = writing[which % len(writing)]
        inode = self.bench.inode(ino)
        buffered = buffered and bool(bits & Cap.FILE_BUFFER)
        assert inode.use is not None
        assert inode.use.head is not None
        if buffered and self.engine.cache.issued(inode, self.bench.now) & Cap.FILE_BUFFER:
            self.fresh[ino, inode.use.head.seq] = True
        self.bench.wrote(ino, min(end, inode.max_size), buffered=buffered)
        self.after()

    def puts(self, which: int) -> None:
        if not self.refs:
            return
        ino, bits, _ = self.refs.pop(which % len(self.refs))
        if bits & Cap.FILE_WR and not any(other == ino and held & Cap.FILE_WR for other, held, _ in self.refs):
            for one in self.owed[ino]:
                if one.size is None:
                    one.size = self.bench.inode(ino).size
        self.engine.put_refs(ino, bits, self.bench.now)
        self.after()

    def handler_ends(self, ino: int, fails: bool) -> None:
        hook = self.bench.running.get(ino)
        if hook is None:
            return
        if hook.data is not None and (fails or not self.fresh.get((ino, hook.data.context.seq))):
            self.fresh.pop((ino, hook.data.context.seq), None)
        if hook.kind == "invalidate" and not fails:
            assert not any(held == ino and bits & Cap.FILE_CACHE for held, bits, _ in self.refs), "a block still reads"
            self.cached.pop(ino, None)
        self.bench.finish(ino, RuntimeError("disk") if fails else None)
        self.after()

    def time_passes(self, seconds: float) -> None:
        self.bench.advance(seconds)
        self.after()

    # What always holds

    def check(self) -> None:
        cache = self.engine.cache
        held = [0, 0]
        tids: list[int] = []
        for ino, inode in cache.inodes.items():
            assert inode.caps or inode.pinned, "an inode that nothing tells us about"
            assert (inode.use is not None) == (ino in cache.in_use)
            for rank, cap in inode.caps.items():
                held[rank] += 1
                assert rank == cap.rank
                assert not cap.issued & ~cap.implemented
                assert bool(cap.revoked_at) == bool(cap.revoking)
                assert not cap.revoking or cache.waits(cap) or cap.revoking & inode.used, "nothing holds a revoke up"
            assert (ino in cache.revoking) == any(cap.revoking for cap in inode.caps.values())
            assert bool(inode.dirty) == (ino in cache.dirty)
            flushing = 0
            for flush in inode.flushes:
                flushing |= flush.caps if flush.snap is None else 0
                assert cache.flushes[flush.tid] is flush
                tids.append(flush.tid)
            assert inode.flushing == flushing
        given_up = [tid for tid, ino in self.tids.items() if tid not in cache.flushes and tid > self.acked[ino]]
        assert not given_up, f"flush tids {given_up} given up without an acknowledgement"
        self.tids = {flush.tid: flush.ino for flush in cache.flushes.values()}
        assert sorted(tids) == list(cache.flushes) == sorted(set(tids)), "flush tids are not one order for all"
        assert held == [cache.rank(rank).num_caps for rank in (0, 1)]
        assert self.engine.pool.used == sum(held)
        assert all(cache.inodes[ino].caps for ino in cache.delayed)
        times = [cache.inodes[ino].hold_max for ino in cache.delayed]
        assert times == sorted(times)

    def agree(self) -> None:
        """Once all is said, both agree on what is held and on what it covers, and every change has arrived."""
        engine, bench = self.engine, self.bench
        for one in sorted(self.unseated):
            self.is_taken_over(one)
        while self.waits:
            self.gives_up_waiting(0)
        while self.refs:
            self.puts(0)
        engine.write_back(0, bench.now)
        self.after()
        for _ in range(ROUNDS):
            while bench.running:
                self.handler_ends(next(iter(bench.running)), False)
            for rank in self.cluster.ranks:
                while rank.from_client:
                    rank.handle(0)
                while rank.journal:
                    rank.acknowledge()
                self.hears(rank.rank, len(rank.to_client))
            engine.flush_all(bench.now)
            bench.advance(1.0)
            self.after()
        self.check()
        left = [len(queue) for rank in self.cluster.ranks for queue in (rank.to_client, rank.from_client, rank.journal)]
        assert not any(left), "client and MDSs chatter without end"
        assert not engine.cache.flushes, "flushes are not acknowledged"
        assert not engine.cache.dirty
        assert not any(self.owed.values()), "a snapshot's state has not arrived"
        for ino in INOS:
            self._same(ino)

    def _same(self, ino: int) -> None:
        inode = self.engine.cache.inodes.get(ino)
        auth = self.cluster.auth(ino)
        mode = self.cluster.inodes[ino].live.mode
        assert mode == self.modes.get(ino, mode), "a change is lost"
        theirs = auth.caps.get(ino)
        assert ino not in self.cluster.ranks[1 - auth.rank].caps
        ours = inode.caps if inode is not None else {}
        assert list(ours) == ([auth.rank] if theirs is not None else []), f"inode {ino}: caps at other ranks"
        if theirs is None or inode is None:
            return
        cap = ours[auth.rank]
        assert theirs.pending == theirs.issued == cap.issued == cap.implemented, f"inode {ino}: other bits"
        assert (theirs.seq, theirs.cap_id, theirs.mseq) == (cap.seq, cap.cap_id, cap.mseq)
        assert theirs.last_issue == cap.issue_seq
        assert not cap.mds_wanted & ~theirs.wanted, "the MDS does not know all we think it does"
        live = self.cluster.inodes[ino].live
        if cap.issued & Cap.AUTH_SHARED:
            assert inode.mode == live.mode
        if cap.issued & Cap.XATTR_SHARED:
            assert inode.xattrs == live.xattrs
        if cap.issued & Cap.FILE_SHARED:
            assert (inode.mtime, inode.time_warp_seq, inode.size) == (live.mtime, live.time_warp_seq, live.size)


Step = Callable[..., None]
