"""An engine on the bench: replies and pushes put in by hand, what it sends taken out, the clock turned."""

from __future__ import annotations

from typing import Any

import msgspec

from cephcaps.actions import Done, Failed, RunHook
from cephcaps.engine.cache import NeedSession, Send
from cephcaps.engine.engine import Engine
from cephcaps.engine.inode import Hook, Inode, InodeCap, RefWait
from cephcaps.engine.setattr import Change, Remainder
from cephcaps.errors import SessionLost
from cephcaps.events import Event
from cephwire.capbits import FileMode, cap_string, parse_caps
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapFlag, CapOp, ClientCaps
from cephwire.inode import NOSNAP, DirStat, InodeStat, IssuedCap, LeaseStat
from cephwire.lease import ClientLease, LeaseAction
from cephwire.reply import ClientReply, ReplyTrace
from cephwire.request import FilePath, RequestRelease
from cephwire.requestop import RequestOp
from tests.session import samples

NEVER = float("inf")
GONE = SessionLost("the MDS is gone", reason="reset")
NO_DIRSTAT = DirStat(0, -1, ())
FILE = 0o100644
DIRECTORY = 0o040755
ALL = "pAsxLsXsxFsxcrwb"
"""What the only client that created a file gets."""


class Bench:
    """One client's engine with open sessions.

    Attributes:
        now: the clock.
        results: what came of calls, by token.
        running: what the data handler is at, by inode.
        needed: ranks a session is wanted with.
    """

    def __init__(self, ranks: int = 1) -> None:
        self.engine = Engine()
        self.engine.cache.events = []
        self.now = 100.0
        self.results: dict[int, Any] = {}
        self.running: dict[int, Hook] = {}
        self.needed: list[int] = []
        self._sends: list[Send] = []
        self._token = 0
        for rank in range(ranks):
            self.engine.sessions.opened(rank, 1, NEVER, 0)

    # What the MDS says

    def reply(
        self,
        told: InodeStat | None = None,
        *,
        rank: int = 0,
        dir: InodeStat | None = None,
        dname: str = "name",
        lease: LeaseStat | None = samples.NO_LEASE,
        since: float | None = None,
    ) -> Inode | None:
        """A reply about ``told``; with ``dir`` it also says that ``dname`` leads there."""
        trace = ReplyTrace(dir, *((NO_DIRSTAT, dname, lease) if dir is not None else (None, None, None)), told)
        reply = ClientReply(RequestOp.LOOKUP, 0, 5, 1, int(dir is not None), int(told is not None), trace, b"", b"")
        target, _ = self.engine.reply(rank, reply, self.now if since is None else since, self.now)
        return target

    def hold(self, ino: int, caps: str, *, rank: int = 0, **fields: Any) -> Inode:
        """Be granted ``caps`` by a reply."""
        self.reply(stat_of(ino, caps, **fields), rank=rank)
        return self.inode(ino)

    def push(
        self, ino: int, caps: str, *, op: CapOp = CapOp.GRANT, seq: int | None = None, rank: int = 0, **fields: Any
    ) -> None:
        """A GRANT, or what ``op`` says; under the next seq unless told otherwise."""
        if seq is None:
            seq = self.cap(ino, rank).seq + 1
        body = {name: fields.pop(name) for name in list(fields) if name in samples.EMPTY_BODY.__struct_fields__}
        message = samples.caps(op, ino, fields.pop("cap_id", ino * 10), seq=seq, bits=parse_caps(caps))
        message = msgspec.structs.replace(message, **fields)
        if body:
            message = msgspec.structs.replace(message, body=msgspec.structs.replace(samples.EMPTY_BODY, **body))
        self.engine.receive(rank, message, 0, self.now)

    def revoke(self, ino: int, caps: str, **fields: Any) -> None:
        """A REVOKE that leaves ``caps``."""
        self.push(ino, caps, op=CapOp.REVOKE, **fields)

    def ack(self, ino: int, tid: int, *, rank: int = 0) -> None:
        """The acknowledgement of a flush."""
        self.engine.receive(rank, samples.caps(CapOp.FLUSH_ACK, ino, ino * 10), tid, self.now)

    def revoke_lease(self, ino: int, dname: str, seq: int, *, rank: int = 0) -> None:
        lease = ClientLease(LeaseAction.REVOKE, 1, ino, 2, NOSNAP, seq, 0, dname)
        self.engine.receive(rank, lease, 0, self.now)

    # What is done here

    def change(self, ino: int, **what: int) -> Remainder | None:
        return self.engine.change(ino, Change(what.pop("stamp", 1), **what), self.now)

    def flush(self, ino: int, *, sync: bool = False) -> int:
        """Flush one inode; gives the tid."""
        return self.engine.flush(ino, self.now, sync=sync)

    def give_up(self, ino: int, drop: int, op: int = RequestOp.SETATTR) -> tuple[RequestRelease, ...]:
        """What a request on ``ino`` gives up of it."""
        return self.engine.request_releases(0, op, FilePath(ino), FilePath(), drop, self.now)

    def opened(self, ino: int, mode: int) -> None:
        self.engine.opened(ino, mode, self.now)

    def closed(self, ino: int, mode: int) -> None:
        self.engine.closed(ino, mode, self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        end, ticked = self.now + seconds, -1.0
        while (due := self.engine.next_deadline()) <= end:
            assert due > ticked, f"the engine spins at {self.now}: its next deadline stays {due}"
            self.now = ticked = max(self.now, due)
            self.engine.tick(self.now)
        self.now = end

    # What there is to see

    def inode(self, ino: int) -> Inode:
        return self.engine.cache.inodes[ino]

    def cap(self, ino: int, rank: int = 0) -> InodeCap:
        return self.inode(ino).caps[rank]

    def issued(self, ino: int) -> str:
        """What may be used now."""
        return cap_string(self.engine.cache.issued(self.inode(ino), self.now))

    def held(self, ino: int, rank: int = 0) -> tuple[str, str]:
        """A cap's issued and implemented bits."""
        cap = self.cap(ino, rank)
        return cap_string(cap.issued), cap_string(cap.implemented)

    def sends(self) -> list[Send]:
        """What is to be sent since the last look, with ranks and tids."""
        self._sort()
        sends, self._sends = self._sends, []
        return sends

    def _sort(self) -> None:
        for action in self.engine.cache.out:
            match action:
                case Send():
                    self._sends.append(action)
                case Done(token, result):
                    self.results[token] = result
                case Failed(token, error):
                    self.results[token] = error
                case RunHook(ino, hook):
                    self.running[ino] = hook
                case NeedSession(rank):
                    self.needed.append(rank)
        self.engine.cache.out.clear()

    # Data

    def get(
        self,
        ino: int,
        need: str,
        want: str = "-",
        endoff: int = 0,
        *,
        mode: int = FileMode.RDWR,
        patience: float = NEVER,
    ) -> int:
        """Ask for references; gives the token under which `results` tells."""
        self._token += 1
        bits = parse_caps(need), parse_caps(want)
        wait = RefWait(self._token, mode, *bits, endoff, self.now, self.now + patience)
        assert self.engine.get_refs(ino, wait, self.now)
        return self._token

    def got(self, token: int) -> str | None:
        """The bits taken under ``token``; None while it waits. Raises what it failed with."""
        self._sort()
        result = self.results.get(token)
        if isinstance(result, Exception):
            raise result
        return None if result is None else cap_string(result.bits)

    def put(self, ino: int, bits: str) -> None:
        self.engine.put_refs(ino, parse_caps(bits), self.now)

    def wrote(self, ino: int, endoff: int, *, buffered: bool = False) -> None:
        self.engine.wrote(ino, endoff, endoff, self.now, buffered=buffered)

    def said_used(self, ino: int) -> str:
        return cap_string(self.inode(ino).used)

    def hook(self, ino: int) -> str | None:
        """What the data handler is at."""
        self._sort()
        return self.running[ino].kind if ino in self.running else None

    def finish(self, ino: int, error: Exception | None = None) -> None:
        """The data handler has ended that."""
        self._sort()
        self.engine.hook_done(ino, self.running.pop(ino), error, self.now)

    def sent(self) -> list[Any]:
        """The messages alone."""
        return [send.message for send in self.sends()]

    def said(self) -> list[tuple[str, str, str, str, int]]:
        """Cap messages in short: op, caps kept, wanted, dirty and flush tid."""
        return [
            (
                CapOp(send.message.op).name,
                cap_string(send.message.caps),
                cap_string(send.message.wanted),
                cap_string(send.message.dirty),
                send.tid,
            )
            for send in self.sends()
        ]

    def released(self) -> list[CapItem]:
        """The items of every release sent since the last look; nothing else was sent."""
        messages = self.sent()
        assert all(isinstance(message, ClientCapRelease) for message in messages), messages
        return [item for message in messages for item in message.caps]

    def events(self) -> list[Event]:
        """What happened since the last look."""
        happened = self.engine.cache.events
        assert happened is not None
        self.engine.cache.events = []
        return happened


def stat_of(
    ino: int,
    caps: str = "-",
    *,
    cap_id: int | None = None,
    seq: int = 1,
    mseq: int = 0,
    wanted: str = "-",
    auth: bool = True,
    mode: int = FILE,
    **fields: Any,
) -> InodeStat:
    """What a reply tells of an inode, and the cap in it."""
    bits = parse_caps(caps)
    flags = CapFlag.AUTH if auth else 0
    number = (ino * 10 if bits else 0) if cap_id is None else cap_id
    issued = IssuedCap(bits, parse_caps(wanted), number, seq, mseq, 1, flags)
    if mode == DIRECTORY:
        fields.setdefault("files", 1)
    return msgspec.structs.replace(samples.inode(ino, issued, mode=mode), **fields)


def lease(seconds: float, seq: int = 1) -> LeaseStat:
    """A lease on a name."""
    return LeaseStat(1, int(seconds * 1000), seq)


def update(caps: str, wanted: str = "-", dirty: str = "-", tid: int = 0) -> tuple[str, str, str, str, int]:
    """As `Bench.said` gives an UPDATE."""
    return "UPDATE", caps, wanted, dirty, tid


def flush(caps: str, wanted: str = "-", dirty: str = "-", tid: int = 0) -> tuple[str, str, str, str, int]:
    """As `Bench.said` gives a FLUSH."""
    return "FLUSH", caps, wanted, dirty, tid


def only_update(messages: list[Any]) -> ClientCaps:
    """The one message, which is about caps."""
    [message] = messages
    assert isinstance(message, ClientCaps)
    return message
