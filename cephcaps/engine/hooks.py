"""What the data handler is asked to do: write data back, forget what it has cached, carry out a truncation.

One thing at a time for each inode, in order; the shell runs it in the inode's own task and says when it is over. Until
then the bits that cover the data count as used, so nothing is acknowledged early. Sources: kernel: fs/ceph/inode.c,
``ceph_inode_work``; fs/ceph/addr.c.
"""

from __future__ import annotations

from cephcaps.actions import RunHook
from cephcaps.engine.cache import Cache
from cephcaps.engine.inode import Hook, Inode

__all__ = ["Hooks"]


class Hooks:
    """The handler's work, by inode."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def write_back(self, inode: Inode, now: float) -> None:
        """Have all dirty data written to the OSDs, the oldest snap context first."""
        for data in inode.use.dirty_data if inode.use is not None else ():
            if not data.writing_back:
                data.writing_back, data.again = True, False
                self._add(inode, Hook("writeback", now, data=data))

    def invalidate(self, inode: Inode, now: float) -> None:
        """Have cached data forgotten, once no block is left that may still add to them."""
        use = inode.use
        if use is None or not use.cached_gen or use.cache:
            return
        if not any(hook.kind == "invalidate" for hook in use.hooks):
            self._add(inode, Hook("invalidate", now, gen=use.cached_gen))

    def truncate(self, inode: Inode, now: float) -> None:
        """Have data past the file's new end forgotten, cached or not yet written."""
        use = inode.use
        if not self._cache.handled or use is None:
            return
        if use.cached_gen or use.dirty_data or use.cache or use.buffer:
            self._add(inode, Hook("truncate", now, size=inode.size, truncate_seq=inode.truncate_seq))

    def _add(self, inode: Inode, hook: Hook) -> None:
        use = self._cache.use(inode)
        use.hooks.append(hook)
        if len(use.hooks) == 1:
            self._cache.out.append(RunHook(inode.ino, hook))

    def done(self, inode: Inode, hook: Hook, error: Exception | None, now: float) -> None:
        """The handler has ended ``hook``.

        What a failing writeback was to save is lost, and said to be; what it failed to forget it is asked to forget
        again, since acknowledging it would be a lie.
        """
        use = inode.use
        if use is None or not use.hooks or use.hooks[0] is not hook:
            return  # of a session that is gone
        del use.hooks[0]
        if use.hooks:
            self._cache.out.append(RunHook(inode.ino, use.hooks[0]))
        if hook.data is not None:
            hook.data.writing_back = False
            if error is None and hook.data.again:
                hook.data.since = hook.since
                self.write_back(inode, now)
            elif hook.data in use.dirty_data:
                use.dirty_data.remove(hook.data)
            if error is not None:
                self.failed(inode, error)
        elif error is not None:
            self._add(inode, hook)
        elif hook.kind == "invalidate" and use.cached_gen == hook.gen:
            use.cached_gen = 0
        self._cache.wake(inode)

    def drop(self, inode: Inode, now: float) -> bool:
        """The session is gone: what was written cannot be saved, what is cached not relied on. Gives whether there was
        something to save."""
        use = inode.use
        if use is None:
            return False
        had_dirty = bool(use.dirty_data)
        use.dirty_data.clear()
        while len(use.hooks) > 1:  # the first is on its way
            use.hooks.pop()
        if had_dirty and not use.cached_gen:
            use.cached_gen = inode.cache_gen or 1
        self.invalidate(inode, now)
        return had_dirty

    def failed(self, inode: Inode, error: Exception) -> None:
        """Data or changes of ``inode`` are lost: each handle is to hear of it once."""
        use = self._cache.use(inode)
        use.error = error
        use.errors += 1
