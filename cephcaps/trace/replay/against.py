"""What captured clients asked of their MDSs, to be asked of others.

The capture is gone through once, in its order. A request is sent where the capture has its answer: there the MDS had
just carried it out, after whatever it had to wait for, such as changes that other clients gave back along with caps.
It first waits for every answer that the capture has before the request. So what followed an answer follows it again,
whichever client it was, and what was under way at the same time is so again. What is to be done comes out as steps,
each to be carried out before the next is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from cephcaps.core import SetAttributes, SetXattr
from cephcaps.engine.inode import newer
from cephcaps.engine.setattr import Change
from cephcaps.mds.requests import CREATE_OPS, Operation
from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.known import Known
from cephcaps.trace.replay.asked import Asked, Handle, Party
from cephcaps.trace.replay.flushed import Flushed
from cephcaps.trace.replay.remap import Numbers, UnknownInode
from cephcaps.trace.replay.steps import Client
from cephcaps.trace.replay.verdict import Answered, Divergence, Kind, Tally, compare, errno_word
from cephwire.capbits import Cap, wanted_for_mode
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest, RequestFlag
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp

__all__ = ["Await", "Close", "Leave", "Plan", "Send", "Step"]

MOST_OPEN: Final = 1000
"""Requests that are under way at most. No client has so many; a capture may lack the answers."""
OPS: Final = frozenset(RequestOp)
FLUSHES: Final = (CapOp.UPDATE, CapOp.FLUSH)


class Send(NamedTuple):
    """Ask for ``request`` in that client's name, in this order, and go on; `Await` brings the answer."""

    number: int
    client: Client
    request: Operation | SetAttributes | SetXattr


class Await(NamedTuple):
    """Wait for what was sent under this number, and tell `Plan.answered`."""

    number: int


class Close(NamedTuple):
    """The client has no longer open, in that mode (`FileMode` bits), what it had: ``ino`` as it is there."""

    client: Client
    ino: int
    mode: int


class Leave(NamedTuple):
    """End that client's sessions."""

    client: Client


Step: TypeAlias = Send | Await | Close | Leave


class Plan:
    """What to ask next, and what has come out differently.

    Args:
        root: number of the directory that stands for the captured root.
        found: is given each divergence.
        clients: global ids of those to replay; empty for all.
    """

    def __init__(self, root: int, found: Callable[[Divergence], None], clients: Collection[int] = ()) -> None:
        self._numbers = Numbers(root)
        self._found = found
        self._wanted = frozenset(clients)
        self._parties: dict[Client, Party] = {}
        self._open: dict[int, Asked] = {}
        """Sent and without an answer there, by number."""
        self._flushed = Flushed()
        self._known = Known()
        self._lost: set[int] = set()
        """Captured inodes that were made, and not there."""
        self._missed: set[int] = set()
        """Captured inodes that were there before, and not there; told of once."""
        self._last = 0

    @property
    def tallies(self) -> dict[Client, Tally]:
        return {client: party.tally for client, party in self._parties.items()}

    def take(self, item: Item) -> Iterator[Step]:
        """The steps for the next of the trace; each is to be carried out before the next is asked for."""
        if isinstance(item, Problem) or item.resent:
            return
        flow, message = item.flow, item.message
        client: Client = flow.client if flow.client_id is None else flow.client_id
        if self._wanted and client not in self._wanted:
            self._learn(message, to_daemon=item.to_daemon)
            return
        match message:
            case ClientRequest():
                self._request(self._party(client, flow), client, item, message)
            case ClientReply():
                yield from self._reply(client, item, message)
            case ClientCaps() if item.to_daemon:
                yield from self._caps(self._party(client, flow), client, item, message)
            case ClientCapRelease():
                yield from self._closed(client, {released.ino for released in message.caps})
            case ClientReconnect():
                self._reconnected(client)
            case ClientSession(op=SessionOp.REQUEST_CLOSE):
                yield from self._leaving(client, flow)
        self._learn(message, to_daemon=item.to_daemon)
        self._known.take(item)

    def end(self) -> Iterator[Step]:
        """There is no more: the steps that are left."""
        yield from self._await_all()
        for client, party in self._parties.items():
            self._forget(party)
            yield Leave(client)

    def answered(self, number: int, answer: Answered) -> None:
        """An `Await` has ended."""
        asked = self._open.pop(number)
        if asked.reply is None:
            self._judge_flush(asked, answer)
        else:
            self._judge(asked, asked.reply, answer)

    def _party(self, client: Client, flow: Flow) -> Party:
        party = self._parties.setdefault(client, Party())
        party.daemons.add(flow.daemon)
        return party

    def _learn(self, message: Any, *, to_daemon: bool) -> None:
        """Note how things stand at the captured MDSs."""
        if isinstance(message, ClientReply):
            for told in (message.trace.dir, message.trace.target):
                if told is not None:
                    self._flushed.told(told)
            if isinstance(message.extra, ReaddirReply):
                for entry in message.extra.entries:
                    self._flushed.told(entry.inode)
        elif isinstance(message, ClientCaps) and not to_daemon and message.op != CapOp.FLUSH_ACK:
            self._flushed.granted(message)

    # Requests

    def _request(self, party: Party, client: Client, item: Traced, message: ClientRequest) -> None:
        tid = item.header.tid
        if message.flags & RequestFlag.REPLAY or tid in party.asked:
            return  # said again: to another rank, or to one that came up anew
        op = RequestOp(message.op).name.lower() if message.op in OPS else f"{message.op:#x}"
        path = self._known.path(item.flow, message.path.ino, message.path.path)
        asked = Asked(client, item.ns, op, tid, message.path.ino, path, after=self._last, message=message)
        party.asked[tid] = asked

    def _reply(self, client: Client, item: Traced, reply: ClientReply) -> Iterator[Step]:
        party = self._parties.get(client)
        asked = party.asked.pop(item.header.tid, None) if party is not None else None
        if party is None or asked is None or asked.message is None:
            return  # it has been answered before, or was asked before the capture
        message, asked.reply = asked.message, reply
        for number, other in list(self._open.items()):
            if number <= asked.after or asked.must_wait(other) or len(self._open) >= MOST_OPEN:
                yield Await(number)
        if message.op not in OPS:
            self._diverges(asked, "not-sent", "asked", "an op that is not known")
            return
        if message.alternate_name or message.fscrypt_auth or message.fscrypt_file:
            party.tally.pass_over("encryption of names and files")
        try:
            operation = self._numbers.operation(message, asked.path)
        except UnknownInode as unknown:
            self._has_no_counterpart(asked, unknown.ino)
            self._note_lost(asked)
            return
        asked.file_mode = operation.file_mode
        party.tally.requests += 1
        yield self._send(asked, operation)

    def _send(self, asked: Asked, request: Operation | SetAttributes | SetXattr) -> Send:
        self._last += 1
        asked.number = self._last
        self._open[asked.number] = asked
        return Send(asked.number, asked.client, request)

    def _await_all(self) -> Iterator[Step]:
        for number in list(self._open):
            yield Await(number)

    def _judge(self, asked: Asked, reply: ClientReply, answer: Answered) -> None:
        for found in compare(reply, answer, self._numbers, self._lost):
            self._diverges(asked, *found)
        self._note_lost(asked)
        target = asked.target
        if asked.file_mode is None or answer.errno != 0 or reply.result or target is None:
            return
        if target.ino in self._numbers:
            there, cap = self._numbers.ino(target.ino), target.cap
            handle = Handle(asked.file_mode, there, cap.cap_id, cap.seq)
            self._parties[asked.client].handles.setdefault(target.ino, []).append(handle)

    def _note_lost(self, asked: Asked) -> None:
        """If nothing there is what it made, or what it would have shown."""
        target = asked.target
        if target is None or asked.message is None or target.ino in self._numbers:
            return
        if asked.message.op in CREATE_OPS:
            self._lost.add(target.ino)
        else:
            self._missed.add(target.ino)

    # What clients changed by themselves, and what they closed

    def _caps(self, party: Party, client: Client, item: Traced, message: ClientCaps) -> Iterator[Step]:
        if message.op == CapOp.FLUSHSNAP:
            party.tally.pass_over("changes that belong to a snapshot only")
        if message.op not in FLUSHES:
            return
        if message.dirty:
            yield from self._flush(party, client, item, message)
        yield from self._await_opening(client, {message.ino})
        for handle in list(party.handles.get(message.ino, ())):
            needs = wanted_for_mode(handle.mode) & (Cap.FILE_RD | Cap.FILE_WR)
            early = message.cap_id == handle.cap_id and newer(message.issue_seq, handle.seq) < 0
            if needs & ~message.wanted and not early:
                party.handles[message.ino].remove(handle)
                yield Close(client, handle.ino, handle.mode)

    def _flush(self, party: Party, client: Client, item: Traced, message: ClientCaps) -> Iterator[Step]:
        changes = self._flushed.changes(message)
        if not changes:
            return
        yield from self._await_all()
        ino = message.ino
        path = self._known.path(item.flow, ino)
        asked = Asked(client, item.ns, "flush", item.header.tid, ino, path, nameless=not message.nlink)
        if ino not in self._numbers:
            self._has_no_counterpart(asked, ino)
            return
        there = self._numbers.ino(ino)
        party.tally.flushes += 1
        for change in changes:
            if isinstance(change, Change):
                yield self._send(asked, SetAttributes(there, path, change))
            else:
                yield self._send(asked, SetXattr(there, path, change))
            yield Await(asked.number)

    def _judge_flush(self, asked: Asked, answer: Answered) -> None:
        if answer.errno != 0 and not asked.nameless:
            kind: Kind = "no-answer" if answer.errno is None else "errno"
            self._diverges(asked, kind, "done", errno_word(answer.errno, answer.why))

    def _await_opening(self, client: Client, inos: set[int]) -> Iterator[Step]:
        """Wait until it has open what it was told that it has."""
        for number, asked in list(self._open.items()):
            opens = asked.client == client and asked.file_mode is not None
            if opens and asked.target is not None and asked.target.ino in inos:
                yield Await(number)

    def _closed(self, client: Client, inos: set[int]) -> Iterator[Step]:
        """It has given up all it held of them, so none is open."""
        party = self._parties.get(client)
        if party is None:
            return
        yield from self._await_opening(client, inos)
        for ino in inos & party.handles.keys():
            for handle in party.handles.pop(ino):
                yield Close(client, handle.ino, handle.mode)

    def _reconnected(self, client: Client) -> None:
        """A rank has come up anew, and counts from the beginning."""
        party = self._parties.get(client)
        for handle in (one for some in party.handles.values() for one in some) if party is not None else ():
            handle.cap_id = 0

    def _leaving(self, client: Client, flow: Flow) -> Iterator[Step]:
        party = self._parties.get(client)
        if party is None:
            return
        party.daemons.discard(flow.daemon)
        if not party.daemons:
            yield from self._await_all()
            self._forget(party)
            yield Leave(client)

    def _forget(self, party: Party) -> None:
        for _ in party.asked:
            party.tally.pass_over("requests that the capture has no answer to")
        party.asked.clear()
        party.handles.clear()

    # What is found

    def _has_no_counterpart(self, asked: Asked, ino: int) -> None:
        """It cannot be asked. Of what was there before the capture that is told once, as such."""
        if ino in self._lost or ino in self._missed:
            self._diverges(asked, "not-sent", "asked", f"nothing there is {ino:#x}")
        else:
            self._missed.add(ino)
            self._diverges(asked, "missing-before", f"{ino:#x}", "nothing that is known")

    def _diverges(self, asked: Asked, kind: Kind, captured: str, replayed: str) -> None:
        self._parties[asked.client].tally.divergences += 1
        self._found(
            Divergence(asked.client, asked.ns, asked.op, asked.tid, asked.ino, asked.path, kind, captured, replayed)
        )
