"""One msgr2.1 connection from the client's side: handshake, then frames.

Sources: ceph: src/msg/async/ProtocolV2.cc; doc/dev/msgr2.rst.
"""

from __future__ import annotations

import hmac
from typing import Any

from cephcaps.auth.authenticator import Authenticator
from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import ConnectionFailed, ProtocolViolation
from cephcaps.messenger.connection import Connection, Owner, Phase
from cephcaps.messenger.framing import MAX_FRAME, FrameReader, FrameWriter
from cephcaps.messenger.link import Instance, Link
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
    IdentMissingFeatures,
    Keepalive2,
    Keepalive2Ack,
    ServerIdent,
    SessionReconnect,
    SessionReconnectOk,
    SessionReset,
    SessionRetry,
    SessionRetryGlobal,
    Wait,
)
from cephwire.entity import AddrVec, EntityAddr, EntityType, addresses
from cephwire.errors import MalformedMessage
from cephwire.features import CLIENT_FEATURES, REQUIRED_FEATURES, bit_list
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

__all__ = ["ConnectionV2"]

BANNER_HEADER_SIZE = len(BANNER_PREFIX) + 2
BANNER_LIMIT = 4096
"""Bytes of banner payload we are willing to skip."""
V1_PREFIX = b"ceph v02"
NO_SIGNATURE = bytes(32)
MOST_CONNECTIONS = 2**31
MAX_ROUNDS = 20
"""Frames of a peer that has not let us in; a session is resumed with nine, when it is told of both its numbers."""

banners: Codec[Banner] = Codec(BANNER)
headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)
banner_headers: Codec[BannerHeader] = Codec(BANNER_HEADER)
# Without the bit for compression nobody compresses what is for us (ceph: src/msg/compressor_registry.cc, ``get_mode``:
# only OSDs among themselves do).
OUR_BANNER = banner_headers.encode(BannerHeader(16)) + banners.encode(Banner(BannerFeature.REVISION_1, 0))
controls: dict[int, Codec[Any]] = {tag: Codec(schema) for tag, schema in FRAMES.items()}


class ConnectionV2(Connection):
    """A connection of messenger v2.1.

    Args:
        con_modes: protections offered, the preferred first.
    """

    def __init__(
        self,
        owner: Owner,
        instance: Instance,
        authenticator: Authenticator,
        peer_type: EntityType,
        target: EntityAddr,
        con_modes: tuple[ConMode, ...],
        global_id: int,
        link: Link,
    ) -> None:
        super().__init__(owner, instance, peer_type, target, global_id, link)
        self.out.append(OUR_BANNER)
        self._authenticator = authenticator
        self._con_modes = con_modes
        self._banner_size = -1
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._sent = bytearray(OUR_BANNER)  # what the peer signs: all we wrote until it said AUTH_DONE
        self._expected_signature = b""
        self._resuming = False
        self._rounds = 0

    def receive(self, data: bytes, now: float) -> None:
        self.last_heard = now
        self._reader.feed(data)
        if self.phase is Phase.BANNER and not self._read_banner():
            return
        while self.phase is not Phase.CLOSED and (frame := self._reader.next()) is not None:
            if frame.tag == Tag.MESSAGE and self.phase is Phase.READY:
                self._message(frame.segments, now)
            else:
                self._control(frame.tag, frame.segments, now)
        self._acknowledge()

    def keepalive(self, stamp: int) -> None:
        self._write(Keepalive2(stamp))

    def _write_ack(self, seq: int) -> None:
        self._write(Ack(seq))

    def _write_message(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        self._acked = self.link.in_seq  # it takes our ack along
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
                if head.startswith(V1_PREFIX):
                    raise ConnectionFailed("it speaks messenger v1 only: use the address of its v2 port")
                raise ConnectionFailed(f"it is no Ceph daemon: it began with {head[:8]!r}")
            self._banner_size = banner_headers.decode(head).payload_len
            if self._banner_size > BANNER_LIMIT:
                raise MalformedMessage(f"BannerHeader.payload_len at byte 8: {self._banner_size}, over {BANNER_LIMIT}")
        payload = self._reader.take(self._banner_size)
        if payload is None:
            return False
        banner = banners.decode(payload, None)
        if banner.required & BannerFeature.COMPRESSION:
            raise ConnectionFailed(f"{self.who} requires on-wire compression, which is not spoken here; no Ceph does")
        if not banner.supported & BannerFeature.REVISION_1 or banner.required & ~int(BannerFeature.REVISION_1):
            raise ConnectionFailed(
                f"{self.who} speaks another messenger: supports {banner.supported:#x}, requires {banner.required:#x}; "
                "msgr2.1 (Ceph 14.2.11 and later) is needed"
            )
        self.phase = Phase.HELLO
        self._write(Hello(EntityType.CLIENT, self.target))
        return True

    def _control(self, tag: int, segments: tuple[bytes, ...], now: float) -> None:
        codec = controls.get(tag)
        if codec is None or len(segments) != 1:
            raise ProtocolViolation(f"{self.who} sent frame {tag} of {len(segments)} segments")
        frame = codec.decode(segments[0], leftover=self.leftover)
        if self.phase is not Phase.READY:
            self._rounds += 1
            if self._rounds > MAX_ROUNDS:
                raise ProtocolViolation(f"{self.who} has said {MAX_ROUNDS} things and not let us in")
        match self.phase, frame:
            case Phase.READY, Ack():
                self._take_ack(frame.seq)
            case Phase.READY, Keepalive2():
                # The very bytes: they are the peer's clock, which need not be one that we can write.
                self.out.append(self._writer.frame(Tag.KEEPALIVE2_ACK, segments))
            case Phase.READY, Keepalive2Ack():
                self.keepalive_acked: int = frame.stamp
            case Phase.HELLO, Hello():
                self._hello(frame)
            case Phase.AUTH, AuthBadMethod():
                self._request(*self._authenticator.refused(frame))
            case Phase.AUTH, AuthReplyMore():
                self._write(AuthRequestMore(self._authenticator.more(frame.payload)))
            case Phase.AUTH, AuthDone():
                self._authenticated(frame, now)
            case Phase.SIGNATURE, AuthSignature():
                self._verify(frame)
            case Phase.IDENT, ServerIdent() if not self._resuming:
                self._identified(frame, now)
            case Phase.IDENT, SessionReconnectOk() if self._resuming:
                self._take_ack(frame.msg_seq)
                self._begin(now)
            case Phase.IDENT, SessionRetry() if self._resuming:
                self.link.connect_seq = self._sane(frame.connect_seq) + 1
                self._resume()
            case Phase.IDENT, SessionRetryGlobal() if self._resuming:
                self._instance.global_seq = max(self._instance.global_seq, self._sane(frame.global_seq))
                self._resume()
            case Phase.IDENT, SessionReset() if self._resuming:
                self._forgotten(now, wholly=bool(frame.full))
                self._introduce()
            case Phase.IDENT, Wait():
                raise ConnectionFailed(f"{self.who} asks us to wait for a connection of its own, which no client takes")
            case Phase.IDENT, IdentMissingFeatures():
                raise ConnectionFailed(
                    f"{self.who} requires features we lack: bits {bit_list(frame.features)}; "
                    "it is newer than this client or its cluster is set up for newer ones only"
                )
            case _:
                raise ProtocolViolation(f"{self.who} sent {Tag(tag).name} while we awaited {self.phase.value}")

    def _hello(self, frame: Hello) -> None:
        if frame.entity_type != self.peer_type:
            raise ConnectionFailed(f"it is no {self.peer_type.name.lower()} but {_entity_type(frame.entity_type)}")
        seen = addresses(frame.peer_addr)[0]
        self.addr: EntityAddr | None = self._instance.address(seen.host or "0.0.0.0")
        self.phase = Phase.AUTH
        self._request(*self._authenticator.request())

    def _request(self, method: int, payload: bytes) -> None:
        self._write(AuthRequest(method, self._con_modes, payload))

    def _authenticated(self, frame: AuthDone, now: float) -> None:
        if frame.con_mode not in self._con_modes:
            raise ProtocolViolation(f"{self.who} chose connection mode {frame.con_mode}; offered: {self._con_modes}")
        if frame.global_id >> 63:
            raise ProtocolViolation(f"{self.who} gave us the global id {frame.global_id}, over 63 bits")
        secrets = self._authenticator.done(frame, now)
        if self.peer_type is EntityType.MON:
            self.global_id: int = frame.global_id
        self.con_mode: ConMode = ConMode(frame.con_mode)
        received, self._reader.transcript = self._reader.transcript or b"", None
        self._expected_signature = _signature(secrets.session_key, self._sent)
        if self.con_mode is ConMode.SECURE:
            if secrets.connection_secret is None:
                raise ProtocolViolation(f"{self.who} chose secure mode and gave no connection secret")
            stream = SecureStream(secrets.connection_secret)
            self._reader.encrypt(stream)
            self._writer.encrypt(stream)
        self._write(AuthSignature(_signature(secrets.session_key, received)))
        self.phase = Phase.SIGNATURE

    def _verify(self, frame: AuthSignature) -> None:
        if not hmac.compare_digest(frame.signature, self._expected_signature):
            raise ProtocolViolation(
                f"{self.who} signed another handshake than the one we had: someone changed it on the way"
            )
        self._reader.limit = MAX_FRAME
        self.phase: Phase = Phase.IDENT
        link = self.link
        if link.peer_cookie:
            link.connect_seq += 1
            self._resume()
        else:
            self._introduce()

    def _introduce(self) -> None:
        """Begin a session."""
        assert self.addr is not None
        self._resuming = False
        self._instance.global_seq += 1
        self._write(
            ClientIdent(
                addrs=AddrVec((self.addr,)),
                target_addr=self.target,
                gid=self.global_id,
                global_seq=self._instance.global_seq,
                supported_features=CLIENT_FEATURES,
                required_features=REQUIRED_FEATURES,
                flags=0 if self.link.cookie else IDENT_LOSSY,
                cookie=self.link.cookie,
            )
        )

    def _sane(self, count: int) -> int:
        """A number that we are to count on from; no daemon has seen that many connections."""
        if count > MOST_CONNECTIONS:
            raise ProtocolViolation(f"{self.who} claims {count} connections")
        return count

    def _resume(self) -> None:
        """Go on with the session that the link stands for."""
        assert self.addr is not None
        self._resuming = True
        self._instance.global_seq += 1
        link = self.link
        self._write(
            SessionReconnect(
                AddrVec((self.addr,)),
                link.cookie,
                link.peer_cookie,
                self._instance.global_seq,
                link.connect_seq,
                link.in_seq,
            )
        )

    def _identified(self, frame: ServerIdent, now: float) -> None:
        if not any(addr == self.target for addr in addresses(frame.addrs)):
            raise ConnectionFailed(f"{self.target} calls itself {frame.addrs}: it is not the daemon we want")
        if missing := frame.required_features & ~CLIENT_FEATURES:
            raise ConnectionFailed(f"{self.who} requires features we lack: bits {bit_list(missing)}")
        link = self.link
        link.peer_features = frame.supported_features & CLIENT_FEATURES
        link.peer_num = frame.gid
        link.peer_cookie = frame.cookie
        link.lossy = bool(frame.flags & IDENT_LOSSY)
        self._begin(now)

    def _message(self, segments: tuple[bytes, ...], now: float) -> None:
        header = headers.decode(segments[0])
        front, middle, data = (*segments[1:], b"", b"", b"")[:3]
        self._deliver(header, front, middle, data, now)


def _signature(session_key: CryptoKey | None, transcript: bytes | bytearray) -> bytes:
    """What proves to the other side that both saw the same handshake (ceph: ``AuthSignatureFrame``)."""
    return NO_SIGNATURE if session_key is None else hmac.digest(session_key.secret, transcript, "sha256")


def _entity_type(number: int) -> str:
    known = number in EntityType._value2member_map_
    return f"an {EntityType(number).name.lower()}" if known else f"of the unknown type {number}"
