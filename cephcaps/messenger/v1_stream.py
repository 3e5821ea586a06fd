"""What both sides of messenger v1 share: bytes in the order of the stream, and messages once the handshake is done.

Sources: ceph: src/msg/async/ProtocolV1.cc, src/auth/cephx/CephxSessionHandler.cc; kernel: net/ceph/messenger_v1.c.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Generator

from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import ConnectionFailed
from cephcaps.messenger.connection import Connection, Owner, Phase
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import MAX_FRAME, MAX_HANDSHAKE_FRAME
from cephcaps.messenger.link import Instance, Link
from cephwire.codec import Codec
from cephwire.entity import EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import MSG_AUTH, has_feature
from cephwire.frames import MessageFlag, MessageHeader
from cephwire.legacy import (
    MSG_ACK,
    MSG_FOOTER,
    MSG_FOOTER_OLD,
    MSG_HEADER,
    MSG_KEEPALIVE2,
    MsgAck,
    MsgFooter,
    MsgFooterOld,
    MsgHeader,
    MsgKeepalive2,
    MsgrTag,
)

__all__ = ["SEQ_SIZE", "BadSignature", "StreamV1", "acks"]

SEQ_SIZE = 8
HEADER_SIZE = 53
FOOTER_SIZE, OLD_FOOTER_SIZE = 21, 13
SEGMENTS = ("front", "middle", "data")
U32 = 0xFFFFFFFF
CRC = struct.Struct("<I")
SIGNED = struct.Struct("<8I")
"""What a signature stands for: the four crcs, header first, with the lengths, and the low half of the seq."""

headers: Codec[MsgHeader] = Codec(MSG_HEADER)
footers: Codec[MsgFooter] = Codec(MSG_FOOTER)
old_footers: Codec[MsgFooterOld] = Codec(MSG_FOOTER_OLD)
acks: Codec[MsgAck] = Codec(MSG_ACK)
keepalives: Codec[MsgKeepalive2] = Codec(MSG_KEEPALIVE2)


class BadSignature(MalformedMessage):
    """A message that the peer has not signed, or that is not as it signed it; the connection is of no more use."""


class StreamV1(Connection):
    """A connection of messenger v1, whoever made it.

    Attributes:
        source: what its own messages say they are from.
    """

    def __init__(
        self,
        owner: Owner,
        instance: Instance,
        peer_type: EntityType,
        target: EntityAddr,
        global_id: int,
        link: Link,
    ) -> None:
        super().__init__(owner, instance, peer_type, target, global_id, link)
        self._session_key: CryptoKey | None = None
        self._now = 0.0
        self._pending = bytearray()
        self._reading = self._read()
        self._need = next(self._reading)

    @property
    def mode(self) -> str:
        return "legacy"

    @property
    def source(self) -> EntityNum:
        raise NotImplementedError

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
        raise NotImplementedError

    def _messages(self) -> Generator[int, bytes, None]:
        """What a peer says after the handshake."""
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
                    self.keepalive_acked: int = keepalives.decode((yield SEQ_SIZE)).stamp
                case MsgrTag.KEEPALIVE:
                    pass
                case MsgrTag.CLOSE:
                    raise ConnectionFailed("the peer closes the connection")
                case tag:
                    raise MalformedMessage(f"MsgrTag at byte 0: {tag} begins nothing that may follow here")

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
                src=self.source,
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
