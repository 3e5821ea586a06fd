"""A daemon's end of messenger v1, as far as tests of the client's pure parts need one. It proves nothing about Ceph.

What it decides follows ceph: src/msg/async/ProtocolV1.cc (``handle_connect_message_2``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import Any

from cephcaps.auth.crypto import CryptoKey
from cephcaps.messenger.crc import crc32c
from cephcaps.testing.keys import EACCES, MonLogin
from cephwire.cephx import MON_AUTH_OFFER, MON_AUTH_REQUEST, MonAuthRequest
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthRequest, AuthRequestMore, ConMode
from cephwire.entity import EntityAddr, EntityNum, EntityType
from cephwire.features import CLIENT_FEATURES, MSG_AUTH, REQUIRED_FEATURES
from cephwire.frames import MessageFlag, MessageHeader, Priority
from cephwire.legacy import (
    CLIENT_BANNER,
    CONNECT_LOSSY,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    MSG_FOOTER,
    MSG_FOOTER_OLD,
    MSG_HEADER,
    SERVER_BANNER,
    ClientBanner,
    MsgConnect,
    MsgConnectReply,
    MsgFooter,
    MsgFooterOld,
    MsgHeader,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)
from cephwire.messages import BY_NUMBER
from cephwire.mon_messages import MAuth, MAuthReply
from tests.session.peers import CLIENT_ADDR, Kept, Login, Peer

BANNER_SIZE = 145
CONNECT_SIZE = 33
HEADER_SIZE = 53
U64 = struct.Struct("<Q")
BLOCK = struct.Struct("<8I")
PROTOCOLS = {EntityType.MON: MsgrProtocol.MON, EntityType.MDS: MsgrProtocol.MDS}

Answer = tuple[MsgConnectReply, bytes]


class PeerV1(Peer):
    """One connection from the daemon's side. A test changes ``twist`` or ``answers`` to make it misbehave.

    Attributes:
        twist: changes the answers to connects; given the connect too.
        features: what it has.
        connects: what the client sent, with the authorizers.
        twist_auth: changes a monitor's answers to the messages that log in.
        acks, stamps, stamps_acked: the client's ACKs, KEEPALIVE2s and what it made of ours.
        signatures, sources: of the client's messages.
        auths: the client's messages that log in.
        let_in: they have done so.
        sign_with: signs with this instead of the session key; ``signs`` False leaves it out.
        first_seq: of messages is this and one; a daemon's is random.
        global_seq: the highest it has seen of this client.
        challenged: it waits for the answer to its challenge, or has had it (ceph: src/mon/MonClient.cc,
            ``handle_auth_request``).
    """

    def __init__(self, kind: EntityType, addr: EntityAddr, login: Login, modes: tuple[ConMode, ...]) -> None:
        super().__init__(kind, addr, login, modes)
        self.twist: Callable[[MsgConnect, MsgConnectReply, bytes], Answer] = lambda connect, *answer: answer
        self.features = CLIENT_FEATURES
        self.connects: list[tuple[MsgConnect, bytes]] = []
        self.client_addr: Any = None
        self.acks: list[int] = []
        self.stamps: list[bytes] = []
        self.stamps_acked: list[bytes] = []
        self.signatures: list[int] = []
        self.sources: list[EntityNum] = []
        self.auths: list[MAuth] = []
        self.twist_auth: Callable[[MAuth, MAuthReply], MAuthReply] = lambda message, reply: reply
        self.method = AuthMethod.CEPHX
        self.let_in = False
        self.sign_with: CryptoKey | None = None
        self.signs = True
        self.first_seq = 0
        self.global_seq = 0
        self.challenged = False
        self.signable = True
        self._pending = b""
        self._reading = self._read()
        self._need = next(self._reading)

    @property
    def session_key(self) -> CryptoKey | None:
        return self.login.secrets.session_key if self.kind is EntityType.MDS else None

    def start(self, greeting: bytes | None = None) -> None:
        banner = ServerBanner(self.addr.legacy(), CLIENT_ADDR.legacy())
        self.put(Codec(SERVER_BANNER).encode(banner) if greeting is None else greeting)

    def receive(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= self._need and not self.closed:
            part, self._pending = self._pending[: self._need], self._pending[self._need :]
            self._need = self._reading.send(part)

    def _read(self) -> Generator[int, bytes, None]:
        banner: ClientBanner = Codec(CLIENT_BANNER).decode((yield BANNER_SIZE))
        self.client_addr = banner.addr.modern()
        reply = None
        while reply is None or reply.tag not in (MsgrTag.READY, MsgrTag.SEQ):
            connect: MsgConnect = Codec(MSG_CONNECT).decode((yield CONNECT_SIZE))
            authorizer = yield connect.authorizer_len
            self.connects.append((connect, authorizer))
            reply, payload = self.twist(connect, *self.answer(connect, authorizer))
            self.put(Codec(MSG_CONNECT_REPLY).encode(reply) + payload)
        self.signable = MSG_AUTH.mask & connect.features & reply.features != 0
        if reply.tag == MsgrTag.SEQ:
            self.put(U64.pack(self.kept.in_seq))
            self.kept.acknowledged(U64.unpack((yield U64.size))[0])
        for _, message in list(self.kept.unacked):
            self.put(self.wrapped(*message))
        while True:
            match (yield 1)[0]:
                case MsgrTag.MSG:
                    raw = yield HEADER_SIZE
                    header: MsgHeader = Codec(MSG_HEADER).decode(raw)
                    assert crc32c(0, raw[:-4]) == header.crc
                    body = yield header.front_len + header.middle_len + header.data_len
                    self.take(header, body, (yield 21 if self.signable else 13))
                case MsgrTag.ACK:
                    self.acks.append(U64.unpack((yield 8))[0])
                    self.kept.acknowledged(self.acks[-1])
                case MsgrTag.KEEPALIVE2:
                    self.stamps.append((yield 8))
                    self.put(bytes((MsgrTag.KEEPALIVE2_ACK,)) + self.stamps[-1])
                case MsgrTag.KEEPALIVE2_ACK:
                    self.stamps_acked.append((yield 8))
                case tag:
                    raise AssertionError(f"the client sent tag {tag}")

    # The handshake

    def reply(self, tag: MsgrTag, *, connect_seq: int = 0, global_seq: int = 0, size: int = 0) -> MsgConnectReply:
        flags = CONNECT_LOSSY if self.kind is EntityType.MON else 0
        return MsgConnectReply(tag, self.features, global_seq, connect_seq, PROTOCOLS[self.kind], size, flags)

    def answer(self, connect: MsgConnect, authorizer: bytes) -> Answer:
        """What a daemon answers, in the order of its own checks."""
        if connect.protocol_version != PROTOCOLS[self.kind]:
            return self.reply(MsgrTag.BADPROTOVER), b""
        if REQUIRED_FEATURES & ~connect.features:
            return self.reply(MsgrTag.FEATURES), b""
        proof = b""
        if self.kind is EntityType.MDS:
            found = self.login.request(
                AuthRequest(connect.authorizer_protocol, (ConMode.CRC,), authorizer), ConMode.CRC
            )
            if not self.challenged and isinstance(found, AuthDone) and self.connects[0][1] != authorizer:
                # It answers a challenge that this end does not remember.
                first = AuthRequest(connect.authorizer_protocol, (ConMode.CRC,), self.connects[0][1])
                found = self.login.request(first, ConMode.CRC)
            elif self.challenged and isinstance(found, AuthReplyMore):
                self.challenged = False
                return self.reply(MsgrTag.BADAUTHORIZER), b""
            if isinstance(found, AuthBadMethod):
                return self.reply(MsgrTag.BADAUTHORIZER), b""
            proof = found.payload
            if isinstance(found, AuthReplyMore):
                self.challenged = True
                return self.reply(MsgrTag.CHALLENGE_AUTHORIZER, size=len(proof)), proof
        tag, values = self.settle(connect)
        return self.reply(tag, size=len(proof), **values), proof

    def settle(self, connect: MsgConnect) -> tuple[MsgrTag, dict[str, int]]:
        """Which session it is to be."""
        key, kept = self.client_addr.nonce, self.keeps.get(self.client_addr.nonce)
        if connect.global_seq < self.global_seq:
            self.challenged = False  # as where another connection of ours takes this one's socket over
            return MsgrTag.RETRY_GLOBAL, {"global_seq": self.global_seq}
        if not connect.connect_seq:
            kept = self.keeps[key] = Kept(out_seq=self.first_seq)
        elif kept is None:
            return MsgrTag.RESETSESSION, {}
        elif connect.connect_seq <= kept.connect_seq:
            return MsgrTag.RETRY_SESSION, {"connect_seq": kept.connect_seq + 1}
        self.kept, kept.connect_seq = kept, connect.connect_seq + 1
        return MsgrTag.SEQ, {"connect_seq": kept.connect_seq, "global_seq": connect.global_seq}

    # Messages

    def take(self, header: MsgHeader, body: bytes, raw_footer: bytes) -> None:
        schema = MSG_FOOTER if self.signable else MSG_FOOTER_OLD
        footer: Any = Codec(schema).decode(raw_footer)
        data_at = header.front_len + header.middle_len
        parts = body[: header.front_len], body[header.front_len : data_at], body[data_at:]
        assert [crc32c(0, part) for part in parts] == [footer.front_crc, footer.middle_crc, footer.data_crc]
        if self.session_key is not None:
            assert footer.flags & MessageFlag.SIGNED, "the client did not sign"
            assert footer.sig == sign(self.session_key, header.seq, header.crc, parts), (
                "the client signed with another key"
            )
        self.signatures.append(getattr(footer, "sig", 0))
        compat = header.compat_version
        common = MessageHeader(
            header.seq, header.tid, header.type, header.priority, header.version, 0, 0, 0, footer.flags, compat
        )
        self.sources.append(header.src)
        if self.kind is EntityType.MDS:
            if header.seq <= self.kept.in_seq:
                return
            self.kept.in_seq = header.seq
        message = BY_NUMBER[header.type].decode(*parts, version=header.version)
        if isinstance(message, MAuth) and not self.let_in:
            self.log_in(message)
        else:
            self.messages.append((common, message))
            self.handle(common, message)

    def log_in(self, message: MAuth) -> None:
        """A monitor's part of authentication."""
        self.auths.append(message)
        self.send(self.twist_auth(message, self.judge(message)))

    def judge(self, message: MAuth) -> MAuthReply:
        login: Any = self.login
        if not message.protocol:
            offer = Codec(MON_AUTH_OFFER).decode(message.auth_payload)
            self.method = AuthMethod(offer.methods[0])
            payload = Codec(MON_AUTH_REQUEST).encode(MonAuthRequest(offer.name, offer.global_id))
            found = login.request(AuthRequest(self.method, (ConMode.CRC,), payload), ConMode.CRC)
        elif isinstance(login, MonLogin):
            answer = login.answer(message.auth_payload)
            found = AuthDone(login.global_id, 1, answer) if answer else None
        else:
            found = login.more(AuthRequestMore(message.auth_payload))
        if not isinstance(found, AuthReplyMore | AuthDone):
            return MAuthReply(self.method, found.result if found else -EACCES, 0, b"", "")
        self.let_in = isinstance(found, AuthDone)
        return MAuthReply(self.method, 0, getattr(found, "global_id", 0), found.payload, "")

    def send_raw(
        self, number: int, *segments: bytes, tid: int = 0, version: int = 1, compat: int = 1, seq: int | None = None
    ) -> None:
        kept = self.kept
        kept.out_seq = kept.out_seq + 1 if seq is None else max(seq, kept.out_seq)
        message = (kept.out_seq if seq is None else seq, tid, number, version, compat, segments)
        if self.kind is EntityType.MDS:
            kept.unacked.append((message[0], message))  # type: ignore[arg-type]
        self.put(self.wrapped(*message))

    def wrapped(self, seq: int, tid: int, number: int, version: int, compat: int, segments: tuple[bytes, ...]) -> bytes:
        """A message, signed as this connection wants it; ``spoil`` has a hand in it."""
        self.written += 1
        front, middle, data = (*self.spoil(self.written - 1, segments), b"", b"", b"")[:3]
        parts = (front, middle, data)
        head = Codec(MSG_HEADER).encode(
            MsgHeader(
                seq, tid, number, Priority.DEFAULT, version, *map(len, parts), 0, EntityNum(self.kind, 0), compat, 0
            )
        )[:-4]
        crc = crc32c(0, head)
        crcs = [crc32c(0, part) for part in parts]
        key = self.sign_with or self.session_key
        if not self.signable:
            footer = Codec(MSG_FOOTER_OLD).encode(MsgFooterOld(*crcs, MessageFlag.COMPLETE))
        elif key is None or not self.signs:
            footer = Codec(MSG_FOOTER).encode(MsgFooter(*crcs, 0, MessageFlag.COMPLETE))
        else:
            flags = MessageFlag.COMPLETE | MessageFlag.SIGNED
            footer = Codec(MSG_FOOTER).encode(MsgFooter(*crcs, sign(key, seq, crc, parts), flags))
        return b"".join((bytes((MsgrTag.MSG,)), head, struct.pack("<I", crc), *parts, footer))


def sign(key: CryptoKey, seq: int, header_crc: int, parts: tuple[bytes, bytes, bytes]) -> int:
    front, middle, data = ((crc32c(0, part), len(part)) for part in parts)
    return key.signature(BLOCK.pack(header_crc, *front, *middle, *data, seq & 0xFFFFFFFF))
