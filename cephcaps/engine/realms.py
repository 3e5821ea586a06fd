"""Snap realms: which snapshots data written now must leave intact.

A realm is a directory tree, or one hard-linked file, that shares its snapshots; it inherits from the realm around it
what was taken since it came there. MDSs tell of a realm and all around it, a *trace*, with every reply and imported
cap, and push CLIENT_SNAP when something changes. Sources: kernel: fs/ceph/snap.c (``ceph_update_snap_trace``,
``build_snap_context``, ``ceph_handle_snap``); ceph: src/client/Client.cc (``update_snap_trace``, ``handle_snap``).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from cephcaps.engine.cache import NO_CONTEXT, Cache
from cephcaps.engine.inode import DirCounts, Inode, SnapContext
from cephwire.codec import Codec
from cephwire.session import ClientFeature
from cephwire.snap import SNAP_TRACE, SNAP_TRACE_PLAIN, ClientSnap, SnapOp, SnapRealm, SnapTrace

__all__ = ["Queue", "Realm", "Realms", "decode_trace", "snapshots_of"]

NO_REALM = (0, 2**64 - 1)
"""Inode numbers that stand for no realm."""
EMPTY_KEPT = 64
"""Realms kept though nothing we hold lies in them: what was given back is often asked for again."""

Queue: TypeAlias = Callable[[Inode, SnapContext, SnapContext, float], None]
"""What is done with an inode before its new snap context (the third argument; the second is the old one) counts."""

_traces: Codec[SnapTrace] = Codec(SNAP_TRACE)
_plain_traces: Codec[SnapTrace] = Codec(SNAP_TRACE_PLAIN)


def decode_trace(raw: bytes, features: int) -> SnapTrace:
    """A trace as a session with those client features (both sides') sends it.

    Raises:
        MalformedMessage: it is none.
    """
    if not raw:
        return SnapTrace(())
    return (_traces if features >> ClientFeature.NEW_SNAPREALM_INFO & 1 else _plain_traces).decode(raw)


class Realm:
    """One realm, as last told.

    Attributes:
        told: False while only its number is known.
        created, seq, parent_since: snapids, as in `cephwire.snap.SnapRealm`.
        last_modified, change_attr: of the list of its snapshots; None where the MDS does not tell.
        context: what is to be written in it is written under this; always that of all the rest.
        children: realms that lie in it.
        num_inodes: inodes we hold caps on that lie in it.
    """

    __slots__ = (
        "change_attr", "children", "context", "created", "ino", "last_modified", "num_inodes", "parent",
        "parent_since", "prior_parent_snaps", "seq", "snaps", "told",
    )  # fmt: skip

    def __init__(self, ino: int) -> None:
        self.ino: int = ino
        self.told: bool = False
        self.created: int = 0
        self.seq: int = 0
        self.parent: int = 0
        self.parent_since: int = 0
        self.snaps: tuple[int, ...] = ()
        self.prior_parent_snaps: tuple[int, ...] = ()
        self.change_attr: int | None = None
        self.last_modified: int | None = None
        self.context: SnapContext = NO_CONTEXT
        self.children: dict[int, None] = {}
        self.num_inodes: int = 0

    def take(self, told: SnapRealm) -> bool:
        """Take in what is told unless we know newer; gives whether its context may be another now.

        A realm that is moved as a whole keeps its seq, and no CLIENT_SNAP says so: what it inherits since when is news
        all the same (ceph: src/mds/CInode.cc, ``record_snaprealm_parent_dentry``).
        """
        age = told.seq, told.change_attr or 0, told.parent_since
        if self.told and age < (self.seq, self.change_attr or 0, self.parent_since):
            return False
        before = self.told, self.seq, self.parent_since, self.snaps, self.prior_parent_snaps
        self.told = True
        self.created = told.created
        self.seq = told.seq
        self.parent_since = told.parent_since
        self.snaps, self.prior_parent_snaps = told.snaps, told.prior_parent_snaps
        self.change_attr, self.last_modified = told.change_attr, told.last_modified
        return before != (True, self.seq, self.parent_since, self.snaps, self.prior_parent_snaps)

    def derive(self, inherited: SnapContext) -> SnapContext:
        """The context that follows from what was told, and from that of the realm around it."""
        snaps = {snap for snap in inherited.snaps if snap >= self.parent_since}
        snaps.update(self.snaps, self.prior_parent_snaps)
        return SnapContext(max(self.seq, inherited.seq), tuple(sorted(snaps, reverse=True)))


class Realms:
    """Every realm that an inode with caps lies in, those around them, and some of late."""

    def __init__(self, cache: Cache, queue: Queue) -> None:
        self.realms: dict[int, Realm] = {}
        self._cache = cache
        self._queue = queue
        self._empty: OrderedDict[int, None] = OrderedDict()
        self._last = b"", 0  # the trace that was taken in last, while nothing else has touched a realm

    def context(self, ino: int) -> SnapContext:
        """The snap context of realm ``ino``; nothing is known to be there to keep if it is unknown."""
        realm = self.realms.get(ino)
        return realm.context if realm is not None else NO_CONTEXT

    # What MDSs tell

    def told(self, raw: bytes, features: int, now: float) -> None:
        """Take in a trace as `decode_trace` reads it: with nearly every reply it is the same again."""
        if raw and (raw, features) != self._last:
            self.update(decode_trace(raw, features), now)
            self._last = raw, features

    def update(self, trace: SnapTrace, now: float) -> list[int]:
        """Take in a trace; gives the realms whose context has changed, those inside others behind them."""
        return self._update(trace, now, [], {}, deletion=False)

    def snap_message(self, message: ClientSnap, trace: SnapTrace, now: float) -> list[int]:
        """A CLIENT_SNAP: snapshots came or went, or (SPLIT) a part of a realm has become one of its own."""
        moved: dict[int, SnapContext | None] = {}
        stale: list[int] = []
        if message.op == SnapOp.SPLIT and trace.realms and trace.realms[0].ino == message.split:
            created = trace.realms[0].created
            for ino in message.split_inos:
                inode = self._cache.inodes.get(ino)
                # One in a realm newer than this has been moved by another rank's message, which overtook this one.
                if inode is None or not inode.realm or self.realms[inode.realm].created > created:
                    continue
                moved[ino] = self._known_context(inode.realm)
                self._place(inode, message.split)
            for ino in message.split_realms:
                child = self.realms.get(ino)
                if child is not None and self._adopt(child, message.split):
                    stale.append(ino)
        return self._update(trace, now, stale, moved, deletion=message.op == SnapOp.DESTROY)

    def _update(
        self,
        trace: SnapTrace,
        now: float,
        stale: list[int],
        moved: dict[int, SnapContext | None],
        *,
        deletion: bool,
    ) -> list[int]:
        """
        Args:
            stale: realms known to need a new context.
            moved: inodes that have come to another realm, and the context they leave behind.
        """
        self._last = b"", 0
        known = {told.ino: self._known_context(told.ino) for told in trace.realms}
        circular = bool(stale)
        for told in trace.realms:
            realm = self._realm(told.ino)
            adopted = self._adopt(realm, told.parent)
            if realm.take(told) or adopted:
                stale.append(told.ino)
            circular |= adopted
        if circular:
            self._break_circles(trace)
        changed: dict[int, SnapContext | None] = {}
        rebuilt: dict[int, None] = {}
        for ino in reversed(stale):  # the outermost is told last, and takes those inside along
            if ino not in rebuilt:
                self._rebuild(self.realms[ino], rebuilt, changed)
        changed |= {ino: before for ino, before in known.items() if before is None and ino in changed}
        if changed or moved:
            self._queue_all(now, moved, changed, deletion=deletion)
        self._forget_some()
        return list(changed)

    def _rebuild(self, top: Realm, rebuilt: dict[int, None], changed: dict[int, SnapContext | None]) -> None:
        """Build the contexts of ``top`` and all realms inside it anew, each after the one around it."""
        todo = [top]
        while todo:
            realm = todo.pop()
            if realm.ino in rebuilt:
                continue
            rebuilt[realm.ino] = None
            before, realm.context = realm.context, realm.derive(self.context(realm.parent))
            if realm.context != before:
                changed.setdefault(realm.ino, before)
            todo += [self.realms[ino] for ino in reversed(realm.children)]

    def _queue_all(
        self,
        now: float,
        moved: dict[int, SnapContext | None],
        changed: dict[int, SnapContext | None],
        *,
        deletion: bool,
    ) -> None:
        """Once all contexts are known, hand over each inode in use whose own is another now."""
        for ino in list(self._cache.in_use):
            inode = self._cache.inodes[ino]
            old = moved[ino] if ino in moved else changed.get(inode.realm)
            new = self.context(inode.realm)
            # The first we hear of a realm is no change: what it was before is not known.
            if old is None or old == new:
                continue
            # A snapshot that goes leaves nothing to be kept, unless the same message is the first to tell of another.
            if deletion and not any(snap > old.seq for snap in new.snaps[:1]):
                continue
            self._queue(inode, old, new, now)

    # Which inode lies where

    def enter(self, inode: Inode, ino: int, now: float, *, auth: bool) -> None:
        """A cap on ``inode`` comes with word that it lies in realm ``ino``; only the authority can move it.

        Who holds no cap is not told of snapshots: what was changed before, and kept, is handed over now.
        """
        if ino in NO_REALM or inode.realm == ino or (inode.realm and not auth):
            return
        moved = bool(inode.realm)
        self._place(inode, ino)
        if moved:
            self._forget_some()
            return  # the snapshots that its new realm has had were not of it
        if inode.use is None:
            return
        head, new = inode.use.head, self.context(ino)
        if head is not None and head.seq and head != new and self.realms[ino].told:
            self._queue(inode, head, new, now)

    def leave(self, inode: Inode) -> None:
        """The last cap on ``inode`` has gone."""
        if inode.realm:
            self._take_out(inode)
            self._forget_some()

    def _place(self, inode: Inode, ino: int) -> None:
        if inode.realm:
            self._take_out(inode)
        self._realm(ino).num_inodes += 1
        self._empty.pop(ino, None)
        inode.realm = ino

    def _take_out(self, inode: Inode) -> None:
        realm = self.realms[inode.realm]
        inode.realm = 0
        realm.num_inodes -= 1
        self._note_empty(realm)

    # Which realm lies where

    def _realm(self, ino: int) -> Realm:
        realm = self.realms.get(ino)
        if realm is None:
            realm = self.realms[ino] = Realm(ino)
            self._empty[ino] = None
        return realm

    def _known_context(self, ino: int) -> SnapContext | None:
        realm = self.realms.get(ino)
        return realm.context if realm is not None and realm.told else None

    def _adopt(self, realm: Realm, parent: int) -> bool:
        """See to it that ``realm`` lies in ``parent`` (0: in none); gives whether it did not."""
        if realm.parent == parent:
            return False
        if realm.parent:
            before = self.realms[realm.parent]
            del before.children[realm.ino]
            self._note_empty(before)
        realm.parent = parent
        if parent:
            self._realm(parent).children[realm.ino] = None
            self._empty.pop(parent, None)
        return True

    def _break_circles(self, trace: SnapTrace) -> None:
        """See to it that no realm of ``trace`` lies in itself, over others: such could never be forgotten."""
        sound: set[int] = set()
        for told in trace.realms:
            path: dict[int, None] = {}
            ino = told.ino
            while ino and ino not in sound:
                if ino in path:
                    self._adopt(self.realms[ino], 0)
                    break
                path[ino] = None
                ino = self.realms[ino].parent
            sound |= path.keys()

    def _note_empty(self, realm: Realm) -> None:
        if not realm.num_inodes and not realm.children:
            self._empty[realm.ino] = None

    def _forget_some(self) -> None:
        while len(self._empty) > EMPTY_KEPT:
            realm = self.realms.pop(self._empty.popitem(last=False)[0])
            self._last = b"", 0
            if realm.parent:
                before = self.realms[realm.parent]
                del before.children[realm.ino]
                self._note_empty(before)


def snapshots_of(directory: Inode, realm: Realm | None) -> Inode:
    """An inode that stands for the ``.snap`` of a directory that lies in ``realm``.

    It is the directory, but for what is in it (ceph: src/client/Client.cc, ``open_snapdir``).
    """
    found = copy.copy(directory)
    found.held, found.auth_rank, found.use, found.children = None, -1, None, None
    found.counts = DirCounts()
    if realm is not None and realm.last_modified is not None:
        found.mtime = realm.last_modified
    if realm is not None and realm.change_attr is not None:
        found.change_attr = realm.change_attr
    return found
