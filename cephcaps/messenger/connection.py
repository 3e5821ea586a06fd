"""One msgr2.1 connection from the client's side: handshake, then messages.

Bytes come in through `receive`, bytes to write pile up in `out`; what the connection learns it tells its owner, in the
call that brought it. Sources: ceph: src/msg/async/ProtocolV2.cc; doc/dev/msgr2.rst.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from cephcaps.auth.authenticator import Authenticator, Secrets
from cephcaps.errors import ConnectionFailed, ProtocolViolation
from cephcaps.messenger.framing import MAX_FRAME, FrameReader, FrameWriter
from cephcaps.messenger.secure import SecureStream
from cephwire.codec import Codec, Leftover
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
)
from cephwire.entity import AddrType, AddrVec, EntityAddr, EntityType, addresses
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
    MessageFlag,
    MessageHeader,
    Priority,
    Tag,
)
from cephwire.messages import BY_CLASS, BY_NUMBER

__all__ = ["Connection", "Instance", "Owner", "Phase", "Tap"]

BANNER_HEADER_SIZE = len(BANNER_PREFIX) + 2
BANNER_LIMIT = 4096
"""Bytes of banner payload we are willing to skip."""
V1_PREFIX = b"ceph v02"
NO_SIGNATURE = bytes(32)

banners: Codec[Banner] = Codec(BANNER)
headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)
banner_headers: Codec[BannerHeader] = Codec(BANNER_HEADER)
OUR_BANNER = banner_headers.encode(BannerHeader(16)) + banners.encode(Banner(BannerFeature.REVISION_1, 0))
controls: dict[int, Codec[Any]] = {tag: Codec(schema) for tag, schema in FRAMES.items()}


class Phase(Enum):
    """What a connection waits for."""

    BANNER = "the peer's banner"
    HELLO = "the peer's HELLO"
    AUTH = "authentication"
    SIGNATURE = "the peer's signature"
    IDENT = "the peer's ident"
    READY = "messages"
    CLOSED = "nothing more"


@dataclass(slots=True)
class Instance:
    """What identifies this client to every daemon for as long as it lives.

    Attributes:
        nonce: with our IP the key under which servers file us, and what gets blocklisted. Not 0.
        global_seq: counts connection attempts; a server refuses one lower than it has seen.
    """

    nonce: int
    global_seq: int = 0


class Owner(Protocol):
    """Whose connection it is: a monitor client or an MDS session."""

    def connection_ready(self, connection: Connection, now: float) -> None:
        """The handshake is done; messages may be sent."""

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        """A message, in order."""


class Tap(Protocol):
    """Is shown every message, after it is written and before it is read, duplicates included. Must not raise."""

    def __call__(self, sent: bool, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None: ...


class Connection:
    """The state machine of one connection; a new one is made for every attempt.

    Args:
        peer: whom to reach, by type and address; the address must be, nonce included, one the peer calls its own.
        con_modes: protections offered, the preferred first.
        cookie: names our side of a session the peer keeps when the connection breaks; 0 for one it may forget (lossy).

    Attributes:
        out: bytes to write, in order; whoever writes them clears it.
        phase: what it waits for.
        in_seq, out_seq: last message received and sent.
        con_mode, peer_features, lossy: as negotiated.
        peer_num: the peer's number, such as a rank; -1 while unknown.
        tap: looks on, if there is one.
        last_heard: when bytes last came.
        keepalive_acked: the stamp last echoed.
        leftover: stretches of received bytes that no schema explained.
        unknown: counts of messages of types we do not know, by type.
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
        cookie: int = 0,
    ) -> None:
        self.owner = owner
        self.target = target
        self.peer_type = peer_type
        self.phase = Phase.BANNER
        self.out: list[bytes] = [OUR_BANNER]
        self.in_seq = 0
        self.out_seq = 0
        self.con_mode = ConMode.CRC
        self.lossy = not cookie
        self.peer_features = 0
        self.peer_num = -1
        self.tap: Tap | None = None
        self.cookie = cookie
        self.last_heard = 0.0
        self.keepalive_acked = 0
        self.leftover: list[Leftover] = []
        self.unknown: Counter[int] = Counter()
        self.addr: EntityAddr | None = None
        self.global_id = global_id
        self._instance = instance
        self._authenticator = authenticator
        self._con_modes = con_modes
        self._banner_size = -1
        self._acked = 0
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._sent = bytearray(OUR_BANNER)  # what the peer signs: all we wrote until it said AUTH_DONE
        self._secrets: Secrets | None = None
        self._expected_signature = b""

    def __repr__(self) -> str:
        return f"<Connection to {self.who} {self.phase.name}>"

    @property
    def who(self) -> str:
        """The peer, in words for errors."""
        return f"{self.peer_type.name.lower()} at {self.target}"

    def receive(self, data: bytes, now: float) -> None:
        """Take in bytes, however they are cut.

        Raises:
            MalformedMessage, ProtocolViolation, ConnectionFailed, AuthError: the connection is of no more use.
        """
        self.last_heard = now
        self._reader.feed(data)
        if self.phase is Phase.BANNER and not self._read_banner():
            return
        while self.phase is not Phase.CLOSED and (frame := self._reader.next()) is not None:
            if frame.tag == Tag.MESSAGE and self.phase is Phase.READY:
                self._message(frame.segments, now)
            else:
                self._control(frame.tag, frame.segments, now)
        if self.in_seq != self._acked and not self.lossy and self.phase is Phase.READY:
            # One ACK for all that came together; without it the peer keeps every message it sent.
            self._acked = self.in_seq
            self._write(Ack(self.in_seq))

    def send(self, message: Any, *, tid: int = 0, version: int | None = None, priority: int = Priority.DEFAULT) -> None:
        """Queue a message, in the layout of ``version`` (our newest if None)."""
        kind = BY_CLASS[type(message)]
        front, middle, data = kind.encode(message, version)
        self.out_seq += 1
        self._acked = self.in_seq
        header = MessageHeader(
            seq=self.out_seq,
            tid=tid,
            type=kind.number,
            priority=priority,
            version=kind.newest if version is None else version,
            data_pre_padding_len=0,
            data_off=0,
            ack_seq=0 if self.lossy else self.in_seq,
            flags=MessageFlag.COMPLETE,
            compat_version=kind.compat,
        )
        self.out.append(self._writer.frame(Tag.MESSAGE, (headers.encode(header), front, middle, data)))
        if self.tap is not None:
            self.tap(True, header, front, middle, data)

    def keepalive(self, stamp: int) -> None:
        """Ask for a sign of life; ``stamp`` (ns) comes back as `keepalive_acked`."""
        self._write(Keepalive2(stamp))

    def close(self) -> None:
        """Take in nothing more."""
        self.phase = Phase.CLOSED

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
        match self.phase, frame:
            case Phase.READY, Ack():
                pass
            case Phase.READY, Keepalive2():
                # The very bytes: they are the peer's clock, which need not be one that we can write.
                self.out.append(self._writer.frame(Tag.KEEPALIVE2_ACK, segments))
            case Phase.READY, Keepalive2Ack():
                self.keepalive_acked = frame.stamp
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
            case Phase.IDENT, ServerIdent():
                self._identified(frame, now)
            case Phase.IDENT, IdentMissingFeatures():
                raise ConnectionFailed(
                    f"{self.who} requires features we lack: bits {_bits(frame.features)}; "
                    "it is newer than this client or its cluster is set up for newer ones only"
                )
            case _:
                raise ProtocolViolation(f"{self.who} sent {Tag(tag).name} while we awaited {self.phase.value}")

    def _hello(self, frame: Hello) -> None:
        if frame.entity_type != self.peer_type:
            raise ConnectionFailed(f"it is no {self.peer_type.name.lower()} but {_entity_type(frame.entity_type)}")
        seen = addresses(frame.peer_addr)[0]
        self.addr = EntityAddr.make(AddrType.MSGR2, seen.host or "0.0.0.0", 0, self._instance.nonce)
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
            self.global_id = frame.global_id
        self.con_mode = ConMode(frame.con_mode)
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
        self._instance.global_seq += 1
        assert self.addr is not None
        self._write(
            ClientIdent(
                addrs=AddrVec((self.addr,)),
                target_addr=self.target,
                gid=self.global_id,
                global_seq=self._instance.global_seq,
                supported_features=CLIENT_FEATURES,
                required_features=REQUIRED_FEATURES,
                flags=IDENT_LOSSY if self.lossy else 0,
                cookie=self.cookie,
            )
        )
        self.phase = Phase.IDENT

    def _identified(self, frame: ServerIdent, now: float) -> None:
        if not any(addr == self.target for addr in addresses(frame.addrs)):
            raise ConnectionFailed(f"{self.target} calls itself {frame.addrs}: it is not the daemon we want")
        if missing := frame.required_features & ~CLIENT_FEATURES:
            raise ConnectionFailed(f"{self.who} requires features we lack: bits {_bits(missing)}")
        self.peer_features = frame.supported_features & CLIENT_FEATURES
        self.peer_num = frame.gid
        self.lossy = bool(frame.flags & IDENT_LOSSY)
        self.phase = Phase.READY
        self.owner.connection_ready(self, now)

    def _message(self, segments: tuple[bytes, ...], now: float) -> None:
        header = headers.decode(segments[0])
        front, middle, data = (*segments[1:], b"", b"", b"")[:3]
        if self.tap is not None:
            self.tap(False, header, front, middle, data)
        if header.seq <= self.in_seq:
            return  # sent again after a reconnect, had already
        self.in_seq = header.seq
        kind = BY_NUMBER.get(header.type)
        if kind is None:
            self.unknown[header.type] += 1
            return
        message = kind.decode(
            front, middle, data, version=header.version, compat=header.compat_version, leftover=self.leftover
        )
        self.owner.message_received(self, header, message, now)


def _signature(session_key: bytes, transcript: bytes | bytearray) -> bytes:
    """What proves to the other side that both saw the same handshake (ceph: ``AuthSignatureFrame``)."""
    return hmac.digest(session_key, transcript, "sha256") if session_key else NO_SIGNATURE


def _entity_type(number: int) -> str:
    known = number in EntityType._value2member_map_
    return f"an {EntityType(number).name.lower()}" if known else f"of the unknown type {number}"


def _bits(mask: int) -> str:
    return ", ".join(str(bit) for bit in range(64) if mask >> bit & 1)
