"""A daemon's end of msgr2.1, as far as the tests of the client's pure parts need one. It proves nothing about Ceph."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cephcaps.auth.authenticator import Secrets
from cephcaps.auth.crypto import Entropy
from cephcaps.messenger.connection import Connection
from cephcaps.messenger.framing import MAX_FRAME, FrameReader, FrameWriter
from cephcaps.messenger.secure import SecureStream
from cephwire.codec import Codec
from cephwire.control import (
    FRAMES,
    IDENT_LOSSY,
    TAGS,
    Ack,
    AuthBadMethod,
    AuthDone,
    AuthReplyMore,
    AuthRequest,
    AuthRequestMore,
    AuthSignature,
    ClientIdent,
    ConMode,
    Hello,
    Keepalive2,
    Keepalive2Ack,
    ServerIdent,
    SessionReconnect,
    SessionReconnectOk,
    SessionReset,
    SessionRetry,
)
from cephwire.entity import AddrType, AddrVec, EntityAddr, EntityType
from cephwire.features import CLIENT_FEATURES
from cephwire.frames import (
    BANNER,
    BANNER_HEADER,
    MESSAGE_HEADER,
    Banner,
    BannerFeature,
    BannerHeader,
    MessageFlag,
    MessageHeader,
    Priority,
    Tag,
)
from cephwire.messages import BY_CLASS, BY_NUMBER

BANNER_SIZE = 26
CLIENT_ADDR = EntityAddr.make(AddrType.MSGR2, "192.0.2.7", 50000)
"""Where a daemon sees the client come from."""

headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)
controls: dict[int, Codec[Any]] = {tag: Codec(schema) for tag, schema in FRAMES.items()}


def entropy(seed: str) -> Entropy:
    """Bytes that look random and are the same in every run."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{seed} {drawn}".encode()).digest(size)

    return draw


def banner(supported: int = BannerFeature.REVISION_1, required: int = 0, tail: bytes = b"") -> bytes:
    """A banner; ``tail`` is what a newer peer would add."""
    payload = Codec(BANNER).encode(Banner(supported, required)) + tail
    return Codec(BANNER_HEADER).encode(BannerHeader(len(payload))) + payload


class Login(Protocol):
    """How a daemon authenticates who connects: `cephcaps.testing.keys` has the methods."""

    secrets: Secrets

    def request(self, frame: AuthRequest, mode: ConMode) -> AuthReplyMore | AuthDone | AuthBadMethod: ...

    def more(self, frame: AuthRequestMore) -> AuthReplyMore | AuthDone | AuthBadMethod: ...


@dataclass
class Kept:
    """What a daemon keeps of a client's session while its connections come and go.

    Attributes:
        in_seq, out_seq: last message received and sent.
        unacked: what it has sent and the client has not acknowledged: number and segments.
        pushed: messages that count for the session's push seq.
        connect_seq: how often it was resumed.
    """

    in_seq: int = 0
    out_seq: int = 0
    unacked: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)
    pushed: int = 0
    connect_seq: int = 0

    def acknowledged(self, seq: int) -> None:
        self.unacked = [sent for sent in self.unacked if sent[0] > seq]


class Peer:
    """One connection from the daemon's side. A test changes ``answers`` to make it misbehave.

    Attributes:
        answers: what it writes on a control frame, by that frame's class; an answer of None closes the connection.
        forged: what it signs the handshake with instead of the right signature.
        spoil: changes the segments of the frames it writes; given how many it wrote before.
        frames: control frames the client sent, in order.
        messages: messages the client sent on it, with their headers, what had come before left out.
        keeps: the daemon's sessions, by the client's cookie; ``kept`` is that of this connection.
        out: bytes to the client; ``sent`` is all of them since the beginning.
        closed: it hung up.
    """

    def __init__(self, kind: EntityType, addr: EntityAddr, login: Login, modes: tuple[ConMode, ...]) -> None:
        self.kind = kind
        self.addr = addr
        self.login = login
        self.modes = modes
        self.forged: bytes | None = None
        self.spoil: Callable[[int, Sequence[bytes]], Sequence[bytes]] = lambda number, segments: segments
        self.closed = False
        self.frames: list[Any] = []
        self.messages: list[tuple[MessageHeader, Any]] = []
        self.out: list[bytes] = []
        self.sent = bytearray()
        self.keeps: dict[int, Kept] = {}
        self.kept = Kept()
        self.written = 0
        self.reader = FrameReader()
        self.reader.limit = MAX_FRAME
        self.writer = FrameWriter()
        self.answers: dict[type[Any], Callable[[Any], Any]] = {
            Hello: lambda frame: (),
            AuthRequest: lambda frame: self.login.request(frame, self.mode_for(frame)),
            AuthRequestMore: lambda frame: self.login.more(frame),
            AuthSignature: self.check_signature,
            ClientIdent: lambda frame: self.begin(frame) if frame.target_addr == self.addr else None,
            SessionReconnect: self.resume,
            Keepalive2: lambda frame: Keepalive2Ack(frame.stamp),
            Keepalive2Ack: lambda frame: (),
            Ack: lambda frame: self.kept.acknowledged(frame.seq) or (),
        }
        self._client_banner: bytes | None = None
        self._client_signature: bytes | None = None

    def mode_for(self, frame: AuthRequest) -> ConMode:
        return next(ConMode(mode) for mode in frame.con_modes if mode in self.modes)

    def ident(self, *, addr: EntityAddr | None = None, required: int = 0) -> ServerIdent:
        lossy = self.kind is EntityType.MON
        addrs = AddrVec((addr or self.addr,))
        return ServerIdent(addrs, 0, 1, CLIENT_FEATURES, required, IDENT_LOSSY if lossy else 0, 0 if lossy else 77)

    def begin(self, frame: ClientIdent) -> ServerIdent:
        self.kept = self.keeps[frame.cookie] = Kept()
        return self.ident()

    def resume(self, frame: SessionReconnect) -> Any:
        """Go on with a session, if it is known; what the client has not got comes again."""
        kept = self.keeps.get(frame.client_cookie)
        if kept is None:
            return SessionReset(1)
        if frame.connect_seq <= kept.connect_seq:
            return SessionRetry(kept.connect_seq)
        self.kept, kept.connect_seq = kept, frame.connect_seq
        kept.acknowledged(frame.msg_seq)
        self.write(SessionReconnectOk(kept.in_seq))
        for _, segments in kept.unacked:
            self.frame(Tag.MESSAGE, *segments)
        return ()

    def hello(self) -> Hello:
        return Hello(self.kind, CLIENT_ADDR)

    def start(self, greeting: bytes | None = None) -> None:
        """Say what a daemon says before it has heard anything."""
        self.put(banner() if greeting is None else greeting)

    def receive(self, data: bytes) -> None:
        self.reader.feed(data)
        if self._client_banner is None:
            self._client_banner = self.reader.take(BANNER_SIZE)
            if self._client_banner is None:
                return
            self.write(self.hello())
        while not self.closed and (frame := self.reader.next()) is not None:
            if frame.tag == Tag.MESSAGE:
                self.take_message(frame.segments)
            else:
                self.take_control(controls[frame.tag].decode(frame.segments[0]))

    def take_control(self, payload: Any) -> None:
        self.frames.append(payload)
        answer = self.answers[type(payload)](payload)
        if answer is None:
            self.closed = True
        for reply in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(reply, bytes):
                self.put(reply)
            elif reply is not None:
                self.write(reply)

    def take_message(self, segments: tuple[bytes, ...]) -> None:
        header = headers.decode(segments[0])
        front, middle, data = (*segments[1:], b"", b"", b"")[:3]
        if self.kind is EntityType.MDS:
            self.kept.acknowledged(header.ack_seq)
            if header.seq <= self.kept.in_seq:
                return
            self.kept.in_seq = header.seq
        message = BY_NUMBER[header.type].decode(front, middle, data, version=header.version)
        self.messages.append((header, message))
        self.handle(header, message)

    def handle(self, header: MessageHeader, message: Any) -> None:
        """React to a message."""

    def put(self, data: bytes) -> None:
        self.out.append(data)
        self.sent += data

    def frame(self, tag: Tag, *segments: bytes) -> None:
        self.written += 1
        self.put(self.writer.frame(tag, self.spoil(self.written - 1, segments)))

    def write(self, payload: Any) -> None:
        tag = TAGS[type(payload)]
        self.frame(tag, controls[tag].encode(payload))
        if isinstance(payload, AuthDone):
            self.protect(payload.con_mode)

    def send(self, message: Any, *, tid: int = 0, version: int | None = None, seq: int | None = None) -> None:
        """A message, under the next number unless told otherwise."""
        kind = BY_CLASS[type(message)]
        self.send_raw(kind.number, *kind.encode(message, version), tid=tid, version=version or kind.newest, seq=seq)

    def send_raw(
        self, number: int, *segments: bytes, tid: int = 0, version: int = 1, compat: int = 1, seq: int | None = None
    ) -> None:
        kept = self.kept
        kept.out_seq = kept.out_seq + 1 if seq is None else max(seq, kept.out_seq)
        header = MessageHeader(
            kept.out_seq if seq is None else seq,
            tid,
            number,
            Priority.DEFAULT,
            version,
            0,
            0,
            0,
            MessageFlag.COMPLETE,
            compat,
        )
        frame = (headers.encode(header), *segments)
        if self.kind is EntityType.MDS:
            kept.unacked.append((header.seq, frame))
        self.frame(Tag.MESSAGE, *frame)

    def protect(self, mode: int) -> None:
        """All that follows AUTH_DONE is protected as agreed, the signatures first."""
        secrets = self.login.secrets
        received, self.reader.transcript = bytes(self.reader.transcript or b""), None
        self._client_signature = sign(secrets, bytes(self.sent))
        if mode == ConMode.SECURE and secrets.connection_secret is not None:
            stream = SecureStream(secrets.connection_secret, "server")
            self.reader.encrypt(stream)
            self.writer.encrypt(stream)
        self.write(AuthSignature(self.forged or sign(secrets, received)))

    def check_signature(self, frame: AuthSignature) -> tuple[()]:
        assert frame.signature == self._client_signature, "the client signed other bytes than we sent"
        return ()

    # What the client said

    def got(self, kind: type[Any]) -> list[Any]:
        """The client's messages of one class, in order."""
        return [message for _, message in self.messages if type(message) is kind]

    def got_frames(self, kind: type[Any]) -> list[Any]:
        return [frame for frame in self.frames if type(frame) is kind]


def sign(secrets: Secrets, transcript: bytes) -> bytes:
    return hmac.digest(secrets.session_key.secret, transcript, "sha256") if secrets.session_key else bytes(32)


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    """``data`` in pieces of ``step`` bytes; in one if that is 0."""
    yield from (data[at : at + step] for at in range(0, len(data), step)) if step else (data,)


def flushed(out: list[bytes]) -> bytes:
    """What is waiting to be written; it waits no more."""
    data = b"".join(out)
    out.clear()
    return data


def converse(connection: Connection, peer: Peer, now: float = 0.0, *, step: int = 0) -> None:
    """Carry bytes, ``step`` at a time, until neither side has more to say."""
    while connection.out or peer.out:
        for piece in pieces(flushed(connection.out), step):
            peer.receive(piece)
        for piece in pieces(flushed(peer.out), step):
            connection.receive(piece, now)
