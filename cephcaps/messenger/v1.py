"""One connection of messenger v1 from the client's side: handshake, then messages.

Nothing is ever encrypted. What an MDS and we say is signed with the session key of our ticket for it; what a monitor
and we say is not. Sources: ceph: src/msg/async/ProtocolV1.cc, src/auth/cephx/CephxSessionHandler.cc; kernel:
net/ceph/messenger_v1.c.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Generator

from cephcaps.auth.authenticator import Authenticator
from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import ConnectionFailed, ProtocolViolation
from cephcaps.messenger.connection import Connection, Owner, Phase
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import MAX_FRAME, MAX_HANDSHAKE_FRAME
from cephcaps.messenger.link import Instance, Link
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, ConMode
from cephwire.entity import EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import CEPHX_V2, CLIENT_FEATURES, MSG_AUTH, REQUIRED_FEATURES, bit_list, has_feature
from cephwire.frames import BANNER_PREFIX, MessageFlag, MessageHeader
from cephwire.legacy import (
    CLIENT_BANNER,
    CONNECT_LOSSY,
    LEGACY_BANNER,
    MSG_ACK,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    MSG_FOOTER,
    MSG_FOOTER_OLD,
    MSG_HEADER,
    MSG_KEEPALIVE2,
    SERVER_BANNER,
    ClientBanner,
    MsgAck,
    MsgConnect,
    MsgConnectReply,
    MsgFooter,
    MsgFooterOld,
    MsgHeader,
    MsgKeepalive2,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)

__all__ = ["BadSignature", "ConnectionV1"]

EACCES = 13
BANNER_SIZE = len(LEGACY_BANNER)
ADDRS_SIZE = 272
REPLY_SIZE = 26
SEQ_SIZE = 8
HEADER_SIZE = 53
FOOTER_SIZE, OLD_FOOTER_SIZE = 21, 13
SEGMENTS = ("front", "middle", "data")
UNNAMED = -1
"""The number of a client to which no monitor has given one yet."""
U32 = 0xFFFFFFFF
CRC = struct.Struct("<I")
SIGNED = struct.Struct("<8I")
"""What a signature stands for: the four crcs, header first, with the lengths, and the low half of the seq."""
MAX_CONNECTS = 20
"""How often one connection asks; a session is resumed with four, when it is told of both its numbers and challenged."""
MAX_SEQ = 1 << 31
"""Of connections made; higher ones would soon not fit their 32 bits, and nobody makes that many."""

server_banners: Codec[ServerBanner] = Codec(SERVER_BANNER)
client_banners: Codec[ClientBanner] = Codec(CLIENT_BANNER)
connects: Codec[MsgConnect] = Codec(MSG_CONNECT)
replies: Codec[MsgConnectReply] = Codec(MSG_CONNECT_REPLY)
headers: Codec[MsgHeader] = Codec(MSG_HEADER)
footers: Codec[MsgFooter] = Codec(MSG_FOOTER)
old_footers: Codec[MsgFooterOld] = Codec(MSG_FOOTER_OLD)
acks: Codec[MsgAck] = Codec(MSG_ACK)
keepalives: Codec[MsgKeepalive2] = Codec(MSG_KEEPALIVE2)


class BadSignature(MalformedMessage):
    """A message that the peer has not signed, or that is not as it signed it; the connection is of no more use."""


class ConnectionV1(Connection):
    """A connection of messenger v1.

    A session is told by the client's address and nonce, not by cookies, and may be resumed once ``link.connect_seq``
    counts a first connection.

    Args:
        authenticator: shows our ticket; None for a monitor, which lets in first and asks then.
    """

    def __init__(
        self,
        owner: Owner,
        instance: Instance,
        authenticator: Authenticator | None,
        peer_type: EntityType,
        target: EntityAddr,
        global_id: int,
        link: Link,
    ) -> None:
        super().__init__(owner, instance, peer_type, target, global_id, link)
        self._authenticator = authenticator
        self._protocol = MsgrProtocol[peer_type.name]
        self._connect_seq = link.connect_seq and link.connect_seq + 1  # that of this connection
        self._connects = 0
        self._method = 0
        self._authorizer = b""
        self._session_key: CryptoKey | None = None
        self._now = 0.0
        self._pending = bytearray()
        self._reading = self._read()
        self._need = next(self._reading)

    @property
    def mode(self) -> str:
        return "legacy"

    def receive(self, data: bytes, now: float) -> None:
        self.last_heard = self._now = now
        pending = self._pending
        pending += data
        while len(pending) >= self._need and self.phase is not Phase.CLOSED:
            part = bytes(pending[: self._need])
            del pending[: self._need]
            self._need = self._reading.send(part)
        self._acknowledge()

    def keepalive(self, stamp: int) -> None:
        self._write(MsgrTag.KEEPALIVE2, keepalives.encode(MsgKeepalive2(stamp)))

    def _write_ack(self, seq: int) -> None:
        self._write(MsgrTag.ACK, acks.encode(MsgAck(seq)))

    def _write(self, tag: MsgrTag, payload: bytes) -> None:
        self.out.append(bytes((tag,)) + payload)

    def _read(self) -> Generator[int, bytes, None]:
        """All that a peer says, in its order: asks for so many bytes, and is given them."""
        self._check_banner((yield BANNER_SIZE))
        self._identify((yield ADDRS_SIZE))
        opened = False
        while not opened:
            reply = replies.decode((yield REPLY_SIZE))
            if reply.authorizer_len > MAX_HANDSHAKE_FRAME:
                raise MalformedMessage(
                    f"MsgConnectReply.authorizer_len at byte 21: {reply.authorizer_len}, over {MAX_HANDSHAKE_FRAME}"
                )
            opened = self._answered(reply, (yield reply.authorizer_len))
        if reply.tag == MsgrTag.SEQ:
            self._take_ack(acks.decode((yield SEQ_SIZE)).seq)
            self.out.append(acks.encode(MsgAck(self.link.in_seq)))
        self._opened()
        signable = has_feature(self.link.peer_features, MSG_AUTH)
        footer_size = FOOTER_SIZE if signable else OLD_FOOTER_SIZE
        while True:
            match (yield 1)[0]:
                case MsgrTag.MSG:
                    raw = yield HEADER_SIZE
                    header = headers.decode(raw)
                    size = self._check_header(header, raw)
                    self._message(header, (yield size), (yield footer_size))
                case MsgrTag.ACK:
                    self._take_ack(acks.decode((yield SEQ_SIZE)).seq)
                case MsgrTag.KEEPALIVE2:
                    # The very bytes: they are the peer's clock, which need not be one that we can write.
                    self._write(MsgrTag.KEEPALIVE2_ACK, (yield SEQ_SIZE))
                case MsgrTag.KEEPALIVE2_ACK:
                    self.keepalive_acked = keepalives.decode((yield SEQ_SIZE)).stamp
                case MsgrTag.KEEPALIVE:
                    pass
                case MsgrTag.CLOSE:
                    raise ConnectionFailed("the peer closes the connection")
                case tag:
                    raise MalformedMessage(f"MsgrTag at byte 0: {tag} begins nothing that may follow here")

    # The handshake

    def _check_banner(self, banner: bytes) -> None:
        if banner == LEGACY_BANNER:
            return
        if banner.startswith(BANNER_PREFIX):
            raise ConnectionFailed("it speaks messenger v2 only: use the address of its v1 port, or another ms_mode")
        raise ConnectionFailed(f"it is no Ceph daemon: it began with {banner!r}")

    def _identify(self, addrs: bytes) -> None:
        banner = server_banners.decode(LEGACY_BANNER + addrs)
        named = banner.addr.modern()
        # A daemon that does not know its own IP yet is known by the rest.
        blank = named.ip is not None and named.ip.is_unspecified
        same = (named.port, named.nonce) == (self.target.port, self.target.nonce)
        if not (same if blank else named.same_endpoint(self.target)):
            raise ConnectionFailed(f"{self.target} calls itself {named}: it is not the daemon we want")
        self.addr = self._instance.address(banner.peer_addr.modern().host or "0.0.0.0")
        self.out.append(client_banners.encode(ClientBanner(self.addr.legacy())))
        if self._authenticator is not None:
            self._method, self._authorizer = self._authenticator.request()
        self._attempt()

    def _attempt(self) -> None:
        """Connect under the next number, with the authorizer as it is.

        One that has answered a challenge is shown again: a peer that remembers the challenge refuses any other, and one
        that does not asks anew (ceph: src/mon/MonClient.cc, ``handle_auth_request``).
        """
        self._instance.global_seq += 1
        self._connect()

    def _connect(self) -> None:
        self._connects += 1
        if self._connects > MAX_CONNECTS:
            raise ConnectionFailed(f"{self.who} has asked us {MAX_CONNECTS} times to connect in another way")
        self.phase = Phase.CONNECT
        connect = MsgConnect(
            features=CLIENT_FEATURES,
            host_type=EntityType.CLIENT,
            global_seq=self._instance.global_seq,
            connect_seq=self._connect_seq,
            protocol_version=self._protocol,
            authorizer_protocol=self._method,
            authorizer_len=len(self._authorizer),
            flags=0 if self.link.cookie else CONNECT_LOSSY,
        )
        self.out.append(connects.encode(connect) + self._authorizer)

    def _answered(self, reply: MsgConnectReply, proof: bytes) -> bool:
        """The peer answers our connect; True if that opens the session."""
        match reply.tag:
            case MsgrTag.READY | MsgrTag.SEQ:
                self._believe(proof)
                self._agree(reply)
                return True
            case MsgrTag.CHALLENGE_AUTHORIZER if self._authenticator is not None:
                self._authorizer = self._authenticator.more(proof)
                self._connect()
            case MsgrTag.BADAUTHORIZER if self._authenticator is not None:
                refusal = AuthBadMethod(self._method, -EACCES, (), ())
                self._method, self._authorizer = self._authenticator.refused(refusal)
                self._connect()
            case MsgrTag.RESETSESSION if self._connect_seq:
                self._believe(proof)
                self._connect_seq = 0
                self._forgotten(self._now)
                if self.phase is not Phase.CLOSED:
                    self._attempt()
            case MsgrTag.RETRY_SESSION if 0 < self._connect_seq < reply.connect_seq < MAX_SEQ:
                self._connect_seq = reply.connect_seq
                self._attempt()
            case MsgrTag.RETRY_GLOBAL if reply.global_seq < MAX_SEQ:
                self._instance.global_seq = max(self._instance.global_seq, reply.global_seq)
                self._attempt()
            case MsgrTag.WAIT:
                raise ConnectionFailed(f"{self.who} asks us to wait for a connection of its own, which no client takes")
            case MsgrTag.FEATURES:
                raise ConnectionFailed(
                    f"{self.who} requires features we lack: bits {bit_list(reply.features & ~CLIENT_FEATURES)}; "
                    "it is newer than this client or its cluster is set up for newer ones only"
                )
            case MsgrTag.BADPROTOVER:
                raise ConnectionFailed(
                    f"{self.who} speaks version {reply.protocol_version} of the protocol; known here is "
                    f"{int(self._protocol)}"
                )
            case _:
                known = reply.tag in MsgrTag._value2member_map_
                tag = MsgrTag(reply.tag).name if known else f"tag {reply.tag}"
                raise ProtocolViolation(f"{self.who} answered our connect of seq {self._connect_seq} with {tag}")
        return False

    def _believe(self, proof: bytes) -> None:
        """Check that the peer is the service our ticket is for."""
        if self._authenticator is not None:
            done = AuthDone(self.global_id, ConMode.CRC, proof)
            self._session_key = self._authenticator.done(done, self._now).session_key

    def _agree(self, reply: MsgConnectReply) -> None:
        needed = REQUIRED_FEATURES | (MSG_AUTH.mask | CEPHX_V2.mask if self._session_key is not None else 0)
        if missing := needed & ~reply.features:
            raise ConnectionFailed(f"{self.who} lacks features we need: bits {bit_list(missing)}; Ceph 14.2 has them")
        if reply.connect_seq != self._connect_seq + 1:
            raise ProtocolViolation(f"{self.who} counts {reply.connect_seq} after our connect of {self._connect_seq}")
        link = self.link
        link.connect_seq = reply.connect_seq
        link.peer_features = reply.features & CLIENT_FEATURES
        link.lossy = bool(reply.flags & CONNECT_LOSSY)

    def _opened(self) -> None:
        self._begin(self._now)

    # Messages

    def _check_header(self, header: MsgHeader, raw: bytes) -> int:
        """How many bytes of segments follow."""
        if (crc := crc32c(0, raw[: -CRC.size])) != header.crc:
            raise MalformedMessage(f"MsgHeader.crc at byte 49: {header.crc:#010x}, but its bytes have {crc:#010x}")
        size = header.front_len + header.middle_len + header.data_len
        limit = MAX_FRAME if self.phase is Phase.READY else MAX_HANDSHAKE_FRAME
        if size > limit:
            raise MalformedMessage(f"MsgHeader.front_len at byte 22: {size} bytes in three segments, over {limit}")
        return size

    def _message(self, header: MsgHeader, body: bytes, raw_footer: bytes) -> None:
        old = len(raw_footer) == OLD_FOOTER_SIZE
        footer = old_footers.decode(raw_footer) if old else footers.decode(raw_footer)
        if not footer.flags & MessageFlag.COMPLETE:
            return  # its sender gave it up
        middle_at = header.front_len
        data_at = middle_at + header.middle_len
        front, middle, data = body[:middle_at], body[middle_at:data_at], body[data_at:]
        crcs = (footer.front_crc, footer.middle_crc, footer.data_crc)
        for number, (name, segment, crc) in enumerate(zip(SEGMENTS, (front, middle, data), crcs, strict=True)):
            if name == "data" and footer.flags & MessageFlag.NOCRC:
                continue
            if (found := crc32c(0, segment)) != crc:
                raise MalformedMessage(
                    f"{type(footer).__name__}.{name}_crc at byte {4 * number}: {crc:#010x}, but the {len(segment)} "
                    f"bytes have {found:#010x}"
                )
        if self._session_key is not None:
            assert isinstance(footer, MsgFooter)
            self._verify(header, footer, self._session_key)
        if self.link.peer_num < 0:
            self.link.peer_num = header.src.num
        common = MessageHeader(
            seq=header.seq,
            tid=header.tid,
            type=header.type,
            priority=header.priority,
            version=header.version,
            data_pre_padding_len=0,
            data_off=header.data_off,
            ack_seq=0,
            flags=footer.flags,
            compat_version=header.compat_version,
        )
        self._take(common, front, middle, data)

    def _verify(self, header: MsgHeader, footer: MsgFooter, key: CryptoKey) -> None:
        lengths = header.front_len, header.middle_len, header.data_len
        crcs = footer.front_crc, footer.middle_crc, footer.data_crc
        signature = _signature(key, header.seq, header.crc, lengths, crcs).to_bytes(8)
        if not (footer.flags & MessageFlag.SIGNED and hmac.compare_digest(signature, footer.sig.to_bytes(8))):
            raise BadSignature(
                f"MsgFooter.sig at byte 12: message {header.seq} is not as {self.who} would have signed it"
            )

    def _take(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        self._deliver(header, front, middle, data, self._now)

    def _write_message(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        lengths = len(front), len(middle), len(data)
        head = headers.encode(
            MsgHeader(
                header.seq,
                header.tid,
                header.type,
                header.priority,
                header.version,
                *lengths,
                data_off=0,
                src=EntityNum(EntityType.CLIENT, self.global_id or UNNAMED),
                compat_version=header.compat_version,
                crc=0,
            )
        )[: -CRC.size]
        head_crc = crc32c(0, head)
        crcs = crc32c(0, front), crc32c(0, middle), crc32c(0, data)
        if not has_feature(self.link.peer_features, MSG_AUTH):
            footer = old_footers.encode(MsgFooterOld(*crcs, MessageFlag.COMPLETE))
        elif self._session_key is None:
            footer = footers.encode(MsgFooter(*crcs, 0, MessageFlag.COMPLETE))
        else:
            signature = _signature(self._session_key, header.seq, head_crc, lengths, crcs)
            footer = footers.encode(MsgFooter(*crcs, signature, MessageFlag.COMPLETE | MessageFlag.SIGNED))
        self._write(MsgrTag.MSG, b"".join((head, CRC.pack(head_crc), front, middle, data, footer)))


def _signature(
    key: CryptoKey, seq: int, header_crc: int, lengths: tuple[int, int, int], crcs: tuple[int, int, int]
) -> int:
    """What shows that a message is from who has the session key, and whole (ceph: ``CEPHX_V2`` made it so)."""
    front, middle, data = zip(crcs, lengths, strict=True)
    return key.signature(SIGNED.pack(header_crc, *front, *middle, *data, seq & U32))
