"""One msgr2.1 connection from a daemon's side: handshake, then frames. Symmetrical to `cephcaps.messenger.v2`.

Sources: ceph: src/msg/async/ProtocolV2.cc (``handle_client_ident``, ``handle_reconnect``); doc/dev/msgr2.rst.
"""

from __future__ import annotations

import hmac
from typing import Any

from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import ConnectionFailed, ProtocolViolation
from cephcaps.messenger.connection import Connection, Owner, Phase
from cephcaps.messenger.framing import MAX_FRAME, FrameReader, FrameWriter
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.secure import SecureStream
from cephcaps.messenger.server import Host, Login
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
    IdentMissingFeatures,
    Keepalive2,
    Keepalive2Ack,
    ServerIdent,
    SessionReconnect,
    SessionReconnectOk,
    SessionReset,
    SessionRetry,
)
from cephwire.entity import AddrVec, EntityAddr, EntityType, addresses
from cephwire.errors import MalformedMessage
from cephwire.features import CLIENT_FEATURES, REQUIRED_FEATURES
from cephwire.frames import (
    BANNER,
    BANNER_HEADER,
    BANNER_PREFIX,
    MESSAGE_HEADER,
    Banner,
    BannerFeature,
    BannerHeader,
    MessageHeader,
    Tag,
)

__all__ = ["ServerConnectionV2"]

BANNER_HEADER_SIZE = len(BANNER_PREFIX) + 2
BANNER_LIMIT = 4096
NO_SIGNATURE = bytes(32)
EOPNOTSUPP = 95

banners: Codec[Banner] = Codec(BANNER)
headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)
banner_headers: Codec[BannerHeader] = Codec(BANNER_HEADER)
OUR_BANNER = banner_headers.encode(BannerHeader(16)) + banners.encode(Banner(BannerFeature.REVISION_1, 0))
controls: dict[int, Codec[Any]] = {tag: Codec(schema) for tag, schema in FRAMES.items()}


class ServerConnectionV2(Connection):
    """A connection that a client has made.

    Args:
        addr: the daemon's, to which it was made; ``peer`` where the client's socket is.

    Attributes:
        login: who the client is, and what it proved.
    """

    def __init__(self, owner: Owner, host: Host, addr: EntityAddr, peer: EntityAddr) -> None:
        super().__init__(owner, Instance(addr.nonce), EntityType.CLIENT, peer, 0, Link(0))
        self.out.append(OUR_BANNER)
        self.login: Login = host.login()
        self._host = host
        self._banner_size = -1
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._sent = bytearray(OUR_BANNER)
        self._expected_signature = b""

    def receive(self, data: bytes, now: float) -> None:
        self.last_heard = now
        self._reader.feed(data)
        if self.phase is Phase.BANNER and not self._read_banner():
            return
        while self.phase is not Phase.CLOSED and (frame := self._reader.next()) is not None:
            if frame.tag == Tag.MESSAGE and self.phase is Phase.READY:
                header = headers.decode(frame.segments[0])
                front, middle, tail = (*frame.segments[1:], b"", b"", b"")[:3]
                self._deliver(header, front, middle, tail, now)
            else:
                self._control(frame.tag, frame.segments, now)
        self._acknowledge()

    def keepalive(self, stamp: int) -> None:
        self._write(Keepalive2(stamp))

    def _write_ack(self, seq: int) -> None:
        self._write(Ack(seq))

    def _write_message(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        self._acked = self.link.in_seq
        self.out.append(self._writer.frame(Tag.MESSAGE, (headers.encode(header), front, middle, data)))

    def _write(self, payload: Any) -> None:
        tag = TAGS[type(payload)]
        frame = self._writer.frame(tag, (controls[tag].encode(payload),))
        self.out.append(frame)
        if self._reader.transcript is not None:
            self._sent += frame

    def _read_banner(self) -> bool:
        if self._banner_size < 0:
            head = self._reader.take(BANNER_HEADER_SIZE)
            if head is None:
                return False
            if not head.startswith(BANNER_PREFIX):
                raise ConnectionFailed(f"{self.target} is no client of messenger v2: it began with {head[:8]!r}")
            self._banner_size = banner_headers.decode(head).payload_len
            if self._banner_size > BANNER_LIMIT:
                raise MalformedMessage(f"BannerHeader.payload_len at byte 8: {self._banner_size}, over {BANNER_LIMIT}")
        payload = self._reader.take(self._banner_size)
        if payload is None:
            return False
        if not banners.decode(payload, None).supported & BannerFeature.REVISION_1:
            raise ConnectionFailed(f"{self.target} does not speak msgr2.1")
        self.phase = Phase.HELLO
        self._write(Hello(self._host.kind, self.target))
        return True

    def _control(self, tag: int, segments: tuple[bytes, ...], now: float) -> None:
        codec = controls.get(tag)
        if codec is None or len(segments) != 1:
            raise ProtocolViolation(f"{self.who} sent frame {tag} of {len(segments)} segments")
        frame = codec.decode(segments[0], leftover=self.leftover)
        match self.phase, frame:
            case Phase.READY, Ack():
                self._take_ack(frame.seq)
            case Phase.READY, Keepalive2():
                self.out.append(self._writer.frame(Tag.KEEPALIVE2_ACK, segments))
            case Phase.READY, Keepalive2Ack():
                self.keepalive_acked: int = frame.stamp
            case Phase.HELLO, Hello():
                self.phase = Phase.AUTH
            case Phase.AUTH, AuthRequest():
                self._requested(frame)
            case Phase.AUTH, AuthRequestMore():
                self._answer(self.login.more(frame))
            case Phase.SIGNATURE, AuthSignature():
                self._verify(frame)
            case Phase.IDENT, ClientIdent():
                self._introduced(frame, now)
            case Phase.IDENT, SessionReconnect():
                self._resume(frame, now)
            case _:
                raise ProtocolViolation(f"{self.who} sent {Tag(tag).name} while we awaited {self.phase.value}")

    def _requested(self, frame: AuthRequest) -> None:
        allowed = self._host.con_modes
        mode = next((ConMode(mode) for mode in frame.con_modes if mode in allowed), None)
        if mode is None:
            self._write(AuthBadMethod(frame.method, -EOPNOTSUPP, (frame.method,), allowed))
        else:
            self._answer(self.login.request(frame, mode))

    def _answer(self, answer: AuthReplyMore | AuthDone | AuthBadMethod) -> None:
        self._write(answer)
        if isinstance(answer, AuthDone):
            self._authenticated(answer)

    def _authenticated(self, done: AuthDone) -> None:
        """All that follows AUTH_DONE is protected as agreed, the signatures first."""
        secrets = self.login.secrets
        self.global_id: int = done.global_id
        self.con_mode: ConMode = ConMode(done.con_mode)
        received, self._reader.transcript = self._reader.transcript or b"", None
        self._expected_signature = _signature(secrets.session_key, self._sent)
        if self.con_mode is ConMode.SECURE and secrets.connection_secret is not None:
            stream = SecureStream(secrets.connection_secret, "server")
            self._reader.encrypt(stream)
            self._writer.encrypt(stream)
        self._write(AuthSignature(_signature(secrets.session_key, received)))
        self.phase = Phase.SIGNATURE

    def _verify(self, frame: AuthSignature) -> None:
        if not hmac.compare_digest(frame.signature, self._expected_signature):
            raise ProtocolViolation(f"{self.who} signed another handshake than the one we had")
        self._reader.limit = MAX_FRAME
        self.phase: Phase = Phase.IDENT

    def _introduced(self, frame: ClientIdent, now: float) -> None:
        if not any(addr in self._host.addrs for addr in addresses(frame.target_addr)):
            raise ConnectionFailed(f"{self.who} wants {frame.target_addr}, which we are not")
        if missing := REQUIRED_FEATURES & ~frame.supported_features:
            self._write(IdentMissingFeatures(missing))
            return
        self.addr = addresses(frame.addrs)[0]
        self.link = link = self._host.begun(self, frame.addrs, frame.cookie, now)
        link.peer_features = frame.supported_features & CLIENT_FEATURES
        link.peer_num = frame.gid
        self._write(
            ServerIdent(
                addrs=AddrVec(self._host.addrs),
                gid=self._host.num,
                global_seq=frame.global_seq,
                supported_features=CLIENT_FEATURES,
                required_features=REQUIRED_FEATURES,
                flags=IDENT_LOSSY if link.lossy else 0,
                cookie=link.cookie,
            )
        )
        self._begin(now)

    def _resume(self, frame: SessionReconnect, now: float) -> None:
        link = self._host.kept(self, frame.addrs, frame.client_cookie)
        if link is None or link.cookie != frame.server_cookie:
            self._write(SessionReset(1))
        elif frame.connect_seq <= link.connect_seq:
            self._write(SessionRetry(link.connect_seq))
        else:
            self.link: Link = link
            link.connect_seq = frame.connect_seq
            self.addr: EntityAddr | None = addresses(frame.addrs)[0]
            self._write(SessionReconnectOk(link.in_seq))
            self._take_ack(frame.msg_seq)
            self._begin(now)


def _signature(session_key: CryptoKey | None, transcript: bytes | bytearray) -> bytes:
    """What proves to the other side that both saw the same handshake (ceph: ``AuthSignatureFrame``)."""
    return NO_SIGNATURE if session_key is None else hmac.digest(session_key.secret, transcript, "sha256")
