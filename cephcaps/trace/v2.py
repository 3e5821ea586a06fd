"""Passive reading of messenger v2.1: the bytes of one TCP connection -> its messages, in crc and in secure mode.

Nothing is believed that a checksum does not confirm. After a gap, a stream in crc mode is taken up again at the next
preamble whose crc fits; in secure mode nothing after it can be opened, for every piece's nonce counts those before.
Sources: as `cephcaps.messenger.framing` and `cephwire.control`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from cephcaps.messenger.framing import Frame
from cephcaps.messenger.secure import SecureStream
from cephcaps.trace.decoding import decoded
from cephcaps.trace.items import Flow, Item, Problem, ProblemKind, Traced
from cephcaps.trace.secrets import Login, NotOpened, Secrets, TicketUnknown
from cephcaps.trace.sessions import Sessions
from cephcaps.trace.v2_parties import Parties
from cephcaps.trace.v2_side import Side
from cephwire.codec import Codec, Leftover
from cephwire.control import (
    FRAMES,
    AuthBadMethod,
    AuthDone,
    AuthReplyMore,
    AuthRequest,
    AuthRequestMore,
    CompressionDone,
    ConMode,
    ServerIdent,
    SessionReconnectOk,
)
from cephwire.errors import MalformedMessage
from cephwire.frames import MESSAGE_HEADER, MessageHeader, Tag
from cephwire.keys import ConnectionSecret
from cephwire.mon_messages import AUTH_REPLY, MAuthReply

__all__ = ["V2Stream"]

MAX_SEARCH = 64 * 1024
"""Bytes of one direction in which no frame is found, after which it is taken to be encrypted."""
MAX_KEPT = 64 * 1024
"""Bytes of a client kept while the answer that says how to read them has not come; it would wait for it, too."""
KEPT_COST = 160
"""Bytes that a kept packet takes besides its data."""

NO_HANDSHAKE: Final = "its handshake is not whole in the capture, and no frame in crc mode follows"
NO_SECRET: Final = "its handshake gave it no connection secret"
MESSAGE: Final = int(Tag.MESSAGE)
RENEWAL: Final = AUTH_REPLY.number
TOLD_NOTHING: Final = frozenset((Tag.ACK, Tag.KEEPALIVE2, Tag.KEEPALIVE2_ACK))

headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)
controls: dict[int, Codec[Any]] = {tag: Codec(schema) for tag, schema in FRAMES.items()}
HEADER_SIZE: Final = 41
unpack_header: Callable[..., tuple[Any, ...]] = struct.Struct("<QQHHHIHQBH2x").unpack
"""`cephwire.frames.MESSAGE_HEADER`, for headers of just its size: here is where the time goes."""
make: Callable[..., Any] = tuple.__new__
"""A NamedTuple in a third of the time that its class takes."""

Kept: TypeAlias = tuple[Side, bytes | None, int | None, int]
"""Bytes of a side, or None and the size of a gap; and when."""


class V2Stream:
    """Reads one connection; items are appended to ``out`` in the order of time.

    Which end is the client is believed of ``flow`` until a frame or a message shows that it is the other way round:
    then its ends are exchanged here. Whoever brings bytes goes on naming directions as before.

    Args:
        secrets, sessions: shared by all connections of a trace.
    """

    def __init__(self, flow: Flow, out: list[Item], secrets: Secrets, sessions: Sessions) -> None:
        flow.messenger = 2
        self._flow = flow
        self._out = out
        self._secrets = secrets
        self._sides = (Side(False, self._problem), Side(True, self._problem))
        self._parties = Parties(flow, self._sides, sessions)
        self._mode: int | None = None  # ConMode
        # The handshake: how often the client has asked, and the server answered.
        self._login = Login(secrets)
        self._asked = self._answered = 0
        self._unanswered = False  # as far as was captured
        self._done: AuthDone | None = None
        self._done_ns = 0
        self._secret: ConnectionSecret | None = None
        self._awaits_ticket = False
        self._why_sealed = NO_SECRET
        self._kept: list[Kept] = []
        self._kept_size = 0
        self._ended: int | None = None

    @property
    def held(self) -> int:
        """Bytes kept until the rest of their frame comes."""
        return sum(side.reader.waiting for side in self._sides)

    def data(self, to_daemon: bool, data: bytes, ns: int) -> None:
        side = self._sides[to_daemon]
        if side.waits or side.closed:
            self._take(side, data, ns)
        else:
            side.reader.feed(data)
            self._read(side, ns)

    def gap(self, to_daemon: bool, size: int | None, ns: int) -> None:
        """Bytes are missing, how many if that is known; a frame begun before them is lost with them."""
        self._miss(self._sides[to_daemon], size, ns)

    def end(self, ns: int) -> None:
        if self._awaits_ticket:
            self._ended = ns
            return
        for side in self._sides:
            if side.waits:
                self._read_blindly(side, ns)
        if self._mode is None and any(side.lost and not side.closed and side.searched for side in self._sides):
            self._seal(NO_HANDSHAKE, ns)
        for side in self._sides:
            side.end(ns)

    def _take(self, side: Side, data: bytes, ns: int) -> None:
        if side.waits:
            self._keep(side, data, len(data), ns)
        elif side.closed:
            side.unread += len(data)
        else:
            side.reader.feed(data)
            self._read(side, ns)

    def _miss(self, side: Side, size: int | None, ns: int) -> None:
        if side.waits:
            self._keep(side, None, size, ns)
            return
        side.miss(size, ns)
        other = self._other(side)
        if other.waits and not self._awaits_ticket:  # for what this side would have said
            self._read_blindly(other, ns)

    # Frames

    def _read(self, side: Side, ns: int) -> None:
        if (side.lost or not side.begun) and not self._found(side, ns):
            return
        reader = side.reader
        while not side.closed:
            try:
                frame = reader.next()
            except MalformedMessage as error:
                if side.failed(error, ns):
                    continue
                return
            if frame is None:
                return
            if frame.tag == MESSAGE:
                self._message(side, frame.segments, ns)
                continue
            self._control(side, frame, ns)
            if side.waits:
                return

    def _found(self, side: Side, ns: int) -> bool:
        if side.find(ns):
            return True
        if self._mode is None and side.lost and side.searched > MAX_SEARCH:
            self._seal(NO_HANDSHAKE, ns)
        elif side.closed:
            self._close()
        return False

    # Messages

    def _message(self, side: Side, segments: tuple[bytes, ...], ns: int) -> None:
        parties = self._parties
        left: list[Leftover] = []
        try:
            first = segments[0]
            if len(first) == HEADER_SIZE:
                header = MessageHeader(*unpack_header(first))
            else:
                header = headers.decode(first, leftover=left)
        except MalformedMessage as bad:
            self._problem(side, ns, "malformed", str(bad), sum(map(len, segments)))
            return
        front, middle, data = (*segments[1:], b"", b"", b"")[:3]
        parts = (front, middle, data)
        if not parties.known:
            self._mode = self._mode or ConMode.CRC
            parties.message(side, header.type, decoded(header, parts))
        to_daemon = side.to_daemon
        newest = parties.newest
        resent = header.seq <= newest[to_daemon]
        if not resent:
            newest[to_daemon] = header.seq
        self._out.append(make(Traced, (ns, self._flow, to_daemon, header, parts, None, tuple(left), None, resent)))
        if header.type == RENEWAL and isinstance(reply := decoded(header, parts), MAuthReply):
            self._secrets.renewed(reply.result_bl, self._login.name, reply.global_id or self._flow.client_id or 0)

    # The handshake

    def _control(self, side: Side, frame: Frame, ns: int) -> None:
        tag = frame.tag
        if tag in TOLD_NOTHING:
            return
        codec = controls.get(tag)
        if codec is None or len(frame.segments) != 1:
            what = f"frame {tag} of {len(frame.segments)} segments: there is none such"
            self._problem(side, ns, "malformed", what, sum(map(len, frame.segments)))
            return
        try:
            payload = codec.decode(frame.segments[0])
        except MalformedMessage as error:
            self._problem(side, ns, "malformed", str(error), len(frame.segments[0]))
            return
        self._parties.frame(side, tag, payload)
        match payload:
            case AuthRequest():
                self._login.asked(payload)
                self._client_asked(side, ns)
            case AuthRequestMore():
                self._client_asked(side, ns)
            case AuthReplyMore() | AuthBadMethod():
                self._answered += 1
                self._wake(self._other(side), ns)
            case AuthDone() if self._done is None:
                self._answered += 1
                self._authenticated(side, payload, ns)
            case ServerIdent() | SessionReconnectOk():
                self._mode = self._mode or ConMode.CRC
            case CompressionDone() if payload.is_compress:
                what = f"frames may be compressed from here on, by method {payload.method}; those are not read"
                self._problem(side, ns, "malformed", what, 0)

    def _client_asked(self, side: Side, ns: int) -> None:
        """What follows is read when the answer has come, for it may be encrypted."""
        self._asked += 1
        other = self._other(side)
        if self._done is not None:
            if self._asked >= self._answered:
                self._protect(side, ns)
        elif self._asked > self._answered and not (self._unanswered or other.lost or other.closed):
            side.waits = True

    def _authenticated(self, side: Side, done: AuthDone, ns: int) -> None:
        self._done, self._done_ns, self._mode = done, ns, done.con_mode
        self._parties.client(done.global_id)
        self._flow.secure = secure = done.con_mode == ConMode.SECURE
        try:
            self._secret = self._login.secret(done)
        except TicketUnknown as unknown:
            if secure:
                self._awaits_ticket = True
                self._why_sealed = str(unknown)
                self._secrets.wait(self, unknown, self._kept_size)
        except NotOpened as error:
            if secure:
                self._seal(str(error), ns)
                return
        if secure and self._secret is None and not self._awaits_ticket:
            self._seal(NO_SECRET, ns)
            return
        other = self._other(side)
        self._protect(side, ns)
        if self._asked >= self._answered or other.missed:
            self._protect(other, ns)
            if not self._awaits_ticket:
                self._wake(other, ns)

    def _protect(self, side: Side, ns: int) -> None:
        """What follows is sealed, if the connection is secure."""
        if not self._flow.secure or side.closed:
            return
        if side.lost:
            what = "secure mode: bytes are missing before it began; nothing can be read until the next connection"
            self._problem(side, ns, "sealed", what, side.reader.waiting)
            side.closed = True
        elif self._awaits_ticket:
            side.waits = True
        elif self._secret is not None:
            side.reader.encrypt(SecureStream(self._secret, "server" if side.to_daemon else "client"))
            side.sealed = True

    # What cannot be read yet

    def _keep(self, side: Side, data: bytes | None, size: int | None, ns: int) -> None:
        self._kept.append((side, data, size, ns))
        cost = (len(data) if data is not None else 0) + KEPT_COST
        self._kept_size += cost
        if self._awaits_ticket:
            self._secrets.hold(cost)
        elif self._kept_size > MAX_KEPT:
            self._read_blindly(side, ns)

    def _wake(self, side: Side, ns: int) -> None:
        """What ``side`` waited for from the other one has come."""
        if side.waits:
            side.waits = False
            self._read(side, ns)
            self._replay(self._unkeep())

    def _replay(self, kept: list[Kept]) -> None:
        for side, data, size, ns in kept:
            if data is None:
                self._miss(side, size, ns)
            else:
                self._take(side, data, ns)

    def _unkeep(self) -> list[Kept]:
        kept, self._kept, self._kept_size = self._kept, [], 0
        return kept

    def _read_blindly(self, side: Side, ns: int) -> None:
        """What ``side`` waited for will not come; in crc mode it can be read nevertheless."""
        self._unanswered = side.lost = True
        self._wake(side, ns)

    def retry(self) -> None:
        """Another ticket of this client is known (`cephcaps.trace.secrets.Waiting`)."""
        assert self._done is not None
        try:
            self._secret = self._login.secret(self._done)
        except TicketUnknown:
            return
        except NotOpened as error:
            self._why_sealed = str(error)
        if self._secret is None:
            self.give_up()
            return
        self._stop_waiting()
        for side in self._sides:
            if side.waits:
                side.waits = False
                self._protect(side, self._done_ns)
                self._read(side, self._done_ns)
        self._replay(self._unkeep())
        if self._ended is not None:
            self.end(self._ended)

    def give_up(self) -> None:
        """Keep no more, for the ticket will not come (`cephcaps.trace.secrets.Waiting`)."""
        self._stop_waiting()
        self._seal(self._why_sealed, self._done_ns)

    def _stop_waiting(self) -> None:
        self._awaits_ticket = False
        self._secrets.stop(self, self._kept_size)

    def _seal(self, why: str, ns: int) -> None:
        """The connection stays closed to us."""
        self._out.append(Problem(ns, self._flow, None, "sealed", f"secure mode: {why}"))
        self._close()

    def _close(self) -> None:
        for side in self._sides:
            side.closed, side.waits, side.silent = True, False, True
        self._unkeep()

    def _other(self, side: Side) -> Side:
        return self._sides[side is self._sides[0]]

    def _problem(self, side: Side, ns: int, kind: ProblemKind, what: str, size: int) -> None:
        self._out.append(Problem(ns, self._flow, side.to_daemon, kind, what, size))
