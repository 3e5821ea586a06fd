"""Gives the pure core its sockets, its clock and its callers. The only place that runs tasks.

One task owns the client's task group from start to stop; entering and leaving a client only talk to it, so both may
happen in different tasks, and an error of the user's block is never wrapped in a group.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, assert_never

import anyio

from cephcaps.actions import Connect, Disconnect, Done, Failed, Happened, RunHook
from cephcaps.core import Close, Core, Request
from cephcaps.engine.inode import Hook
from cephcaps.errors import ConnectionFailed, SessionLost
from cephcaps.events import Event, RecordingEnded
from cephcaps.mds.session import Session
from cephcaps.messenger.connection import Connection
from cephcaps.shell.connection import SocketProtocol
from cephcaps.shell.data import DataHandler
from cephcaps.shell.listen import Listener
from cephcaps.shell.log import Log
from cephcaps.shell.recording import Recorder

__all__ = ["Supervisor"]

NEVER = float("inf")
HURRIED = 1.0
"""Seconds that the end of a session may take even a caller who was cancelled."""
RETRY_PAUSE = 0.2
"""Seconds until a data handler that failed to forget something is asked again."""
RECORDING_DELAY = 1.0
"""Seconds that a message may wait for others to be written to the recording with it."""
T = TypeVar("T")


class Supervisor:
    """Runs one client on the running event loop."""

    def __init__(self, core: Core, *, data: DataHandler | None = None, recorder: Recorder | None = None) -> None:
        self.core = core
        self._data = data
        self._recorder = recorder
        self._recording_timer: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._sockets: dict[Connection, SocketProtocol] = {}
        self._dials: dict[Connection, anyio.CancelScope] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_token = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._listeners: list[Listener] = []
        self._leaving = asyncio.Event()
        self._started = asyncio.Event()
        self._crash: Exception | None = None
        self._usable = True
        self._task: asyncio.Task[None] | None = None
        self._group: anyio.abc.TaskGroup | None = None

    # Life

    async def start(self, name: str) -> None:
        self._task = asyncio.create_task(self._supervise(), name=name)
        await self._started.wait()

    async def _supervise(self) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            self._started.set()
            await self._leaving.wait()
            group.cancel_scope.cancel()

    async def close(self, patience: float) -> None:
        """Bring every change to safety and close every session, or give that up after ``patience`` seconds.

        Cancelled, be it again and again, it waits for the former no more, and for the latter a second at most.

        Raises:
            SessionLost: something changed here may not have reached its MDS; names it.
        """
        try:
            if self._crash is None and os.getpid() == self._pid:
                await self._close_sessions(patience)
        finally:
            await self.stop()

    async def _close_sessions(self, patience: float) -> None:
        try:
            await self.call(Close(), patience)
        except asyncio.CancelledError as cancelled:
            # An MDS that has not agreed goes on counting on us, and holds others up until it misses us. It takes no
            # REQUEST_CLOSE that crosses something it pushed, so to send one and leave is not enough.
            try:
                await _to_its_end(self.call(Close(hurried=True), min(patience, HURRIED)))
            except SessionLost as lost:
                cancelled.add_note(f"besides: {lost}")
            raise

    async def stop(self) -> None:
        """Drop everything as it is."""
        if self._timer is not None:
            self._timer.cancel()
        if os.getpid() == self._pid:
            self.core.stop(self.loop.time())
            self._pump()
            self._write()
            if self._recorder is not None:
                self._recorder.close()
                self._check_recording()
        for timer in (self._timer, self._recording_timer):
            if timer is not None:
                timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionFailed("the client was closed"))
        for listener in self._listeners:
            listener.end()
        self._leaving.set()
        self._usable = False
        if self._task is not None:
            await asyncio.shield(self._task)

    @property
    def closed(self) -> bool:
        return not self._usable

    # Who looks on

    @property
    def log(self) -> Log:
        """This client's; ``client`` is its global_id, 0 before the monitors have given it one."""
        return Log(client=self.core.tickets.global_id)

    def _log_of(self, connection: Connection) -> Log:
        log = self.log.bind(peer=str(connection.target))
        owner = connection.owner
        return log.bind(rank=owner.rank) if isinstance(owner, Session) else log

    def listen(self, listener: Listener) -> None:
        self.check_usable()
        self._listeners.append(listener)
        self._note_what_is_heard()

    def unlisten(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        self._note_what_is_heard()

    def _note_what_is_heard(self) -> None:
        """Have that noted for which there is a listener, and nothing else."""
        cache, requests = self.core.mds.engine.cache, self.core.mds.requests
        events = [] if cache.events is None else cache.events
        cache.events = events if self._listeners else None
        requests.events = events if any(listener.requests for listener in self._listeners) else None

    # Callers

    async def call(self, request: Request, patience: float | None) -> Any:
        """Carry out ``request``; it ends by itself after ``patience`` seconds."""
        self.check_usable()
        self._last_token += 1
        token = self._last_token
        future = self._waiting[token] = self.loop.create_future()
        now = self.loop.time()
        try:
            self.core.call(token, request, NEVER if patience is None else now + patience, now)
            self._pump()
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None and not self.closed:
                # Cancelled between the answer and the turn of the loop in which it would have been heard.
                self.core.unclaimed(future.result(), self.loop.time())
                self._pump()
            raise
        finally:
            if self._waiting.pop(token, None) is not None and not (future.done() and not future.cancelled()):
                self.core.cancel(token, self.loop.time())
                if not self.closed:
                    self._pump()

    def local(self, step: Callable[[float], T]) -> T:
        """Let the core do what needs no answer."""
        self.check_usable()
        result = step(self.loop.time())
        self._pump()
        return result

    def check_usable(self) -> None:
        """Raise what stands in the way of using this client here and now."""
        if self._usable and asyncio._get_running_loop() is self.loop:  # none runs in the child of a fork
            return
        if os.getpid() != self._pid:
            raise RuntimeError("this client was connected before a fork and belongs to the parent: connect a new one")
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this client belongs to another event loop: connect one here")
        if self._crash is not None:
            raise RuntimeError("this client has failed") from self._crash
        if self._leaving.is_set():
            raise RuntimeError("this client is closed")

    # The core's inputs

    def socket_made(self, connection: Connection, socket: SocketProtocol) -> None:
        self._sockets[connection] = socket
        self._log_of(connection).note("connection.made")
        if self._recorder is not None:
            self._recorder.attach(connection, socket.local)

    def bytes_received(self, connection: Connection, data: bytes) -> None:
        self._enter(lambda now: self.core.received(connection, data, now))

    def socket_lost(self, connection: Connection, error: Exception) -> None:
        if self._sockets.pop(connection, None) is not None:
            self._log_of(connection).note("connection.lost", error=str(error))
            self._enter(lambda now: self.core.disconnected(connection, error, now))

    def _tick(self) -> None:
        self._timer = None
        self._enter(self.core.tick)

    def _enter(self, step: Any) -> None:
        """Let the core take ``step``. What it raises is a bug of ours, and must not look like a hang."""
        if os.getpid() != self._pid:
            return
        try:
            step(self.loop.time())
            self._pump()
        except Exception as error:
            self.log.note("client.failed", error=repr(error), exc_info=True)
            self._crash, self._usable = error, False
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
            for socket in self._sockets.values():
                socket.abort()

    # The core's outputs

    def _pump(self) -> None:
        """Do what the core wants; once this turn of the loop is over, all that it has to say is written."""
        out = self.core.out
        while out:
            actions = out[:]
            out.clear()
            for action in actions:
                match action:
                    case Connect():
                        assert self._group is not None
                        self._group.start_soon(self._dial, action.connection)
                    case Disconnect():
                        self._hang_up(action.connection)
                    case Done():
                        future = self._waiting.get(action.token)
                        if future is not None and not future.done():
                            future.set_result(action.result)
                        else:  # cancelled in this turn of the loop
                            self.core.unclaimed(action.result, self.loop.time())
                    case Failed():
                        future = self._waiting.get(action.token)
                        if future is not None and not future.done():
                            future.set_exception(action.error)
                    case Happened():
                        self.log.note(action.event, **action.facts)
                    case RunHook():
                        assert self._group is not None
                        self._group.start_soon(self._run_hook, action)
                    case _:
                        assert_never(action)
        events = self.core.mds.engine.cache.events
        if events:
            happened = events[:]
            events.clear()
            self._tell(happened)
        if not self._writing:
            self._writing = True
            self.loop.call_soon(self._write)

    def _write(self) -> None:
        """Write what the connections have to say, and set the clock: once for all callers that had their turn since,
        as a write costs as much as the rest of a request, and there is one for each callback at most."""
        self._writing = False
        if os.getpid() != self._pid:
            return
        for socket in self._sockets.values():
            socket.flush()
        if self._recorder is not None:
            self._check_recording()
        self._set_timer()

    def _tell(self, events: list[Event]) -> None:
        for listener in self._listeners:
            listener.put(events)

    def _check_recording(self) -> None:
        """See to it that what was recorded is written soon, or tell that it cannot be any more."""
        recorder = self._recorder
        assert recorder is not None
        if recorder.failure is not None:
            self._recorder = None
            self.log.warn("recording.ended", path=recorder.path, reason=recorder.failure)
            self._tell([RecordingEnded(path=recorder.path, reason=recorder.failure)])
        elif self._recording_timer is None and recorder.waiting:
            self._recording_timer = self.loop.call_later(RECORDING_DELAY, self._flush_recording)

    def _flush_recording(self) -> None:
        self._recording_timer = None
        if self._recorder is not None and os.getpid() == self._pid:
            self._recorder.flush()
            self._check_recording()

    def _set_timer(self) -> None:
        deadline = self.core.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline != NEVER and not self._leaving.is_set():
            self._timer = self.loop.call_at(deadline, self._tick)

    async def _run_hook(self, action: RunHook) -> None:
        """Let the data handler do its work, which is over when this says so and never before."""
        hook = action.hook
        error: Exception | None = None
        try:
            with anyio.fail_after(self.core.mds.hook_timeout):
                await self._handle(action.ino, hook)
        except asyncio.CancelledError:
            if self._leaving.is_set():
                raise
            error = RuntimeError("the data handler was cancelled by something of its own")
        except Exception as failure:
            error = failure
        if error is not None:
            self.log.note("data.failed", ino=action.ino, what=hook.kind, error=repr(error))
            if hook.kind != "writeback":
                await anyio.sleep(RETRY_PAUSE)
        self._enter(lambda now: self.core.mds.hook_done(action.ino, hook, error, now))

    async def _handle(self, ino: int, hook: Hook) -> None:
        assert self._data is not None
        match hook.kind:
            case "writeback":
                assert hook.data is not None
                await self._data.writeback(ino, self.core.mds.engine.io(ino, hook.data.context))
            case "invalidate":
                await self._data.invalidate(ino, hook.gen)
            case "truncate":
                await self._data.truncate(ino, hook.size, hook.truncate_seq)

    async def _dial(self, connection: Connection) -> None:
        target = connection.target
        with anyio.CancelScope() as scope:
            self._dials[connection] = scope
            try:
                await self.loop.create_connection(lambda: SocketProtocol(self, connection), target.host, target.port)
            except OSError as error:
                reason = ConnectionFailed(os.strerror(error.errno) if error.errno else str(error))
                self._log_of(connection).note("connection.failed", error=str(reason))
                self._enter(lambda now: self.core.disconnected(connection, reason, now))
                return
            finally:
                self._dials.pop(connection, None)

    def _hang_up(self, connection: Connection) -> None:
        if (scope := self._dials.get(connection)) is not None:
            scope.cancel()
        if (socket := self._sockets.pop(connection, None)) is not None:
            self._log_of(connection).note("connection.closed")
            socket.close()
        if self._recorder is not None:
            self._recorder.detach(connection)


async def _to_its_end(call: Coroutine[Any, Any, T]) -> T:
    """Await a call that ends by itself, however often the caller is cancelled meanwhile."""
    task = asyncio.create_task(call)
    with anyio.CancelScope(shield=True):
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
    return task.result()
