"""Messages of one connection as the packets of a TCP connection that speaks messenger v1, in pcapng's blocks.

The packets are made up, and right in all that a reader of captures looks at: handshakes, sequence and acknowledgment
numbers, lengths. TCP's checksum covers the pseudo-header only, as in packets captured before a network card sums up the
rest: to do that here would take as long as all else together. Sources: draft-ietf-opsawg-pcapng, 4.3; RFCs 791, 8200
and 9293; for messenger v1 see `cephwire.legacy`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from google_crc32c import extend

from cephcaps.messenger.crc import MASK
from cephcaps.trace.pcapng import ENHANCED_PACKET
from cephwire.codec import Codec
from cephwire.entity import AddrType, EntityAddr, EntityNum, EntityType
from cephwire.features import CLIENT_FEATURES, MSG_AUTH
from cephwire.frames import MessageFlag, MessageHeader
from cephwire.legacy import (
    CLIENT_BANNER,
    CONNECT_LOSSY,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    SERVER_BANNER,
    ClientBanner,
    MsgConnect,
    MsgConnectReply,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)

__all__ = ["Peers", "Synthetic"]

MAX_PAYLOAD = 60_000
"""Bytes in one packet: with its headers it must stay under the 64 KiB that IP's length fields hold."""
WINDOW = 0xFFFF
SYN_OPTIONS = bytes((2, 4, *MAX_PAYLOAD.to_bytes(2, "big"), 1, 3, 3, 14))
"""Largest segment, and a window of 1 GiB, for nobody acknowledges parts of a large message."""
FIN, SYN, PSH, ACK = 0x01, 0x02, 0x08, 0x10
TCP = 6
IPV4_START, IPV4_FLAGS, IPV4_LIMIT = 0x4500, 0x4000, 0x4000 + TCP
"""Version and header length; not to be fragmented; 64 hops, and the protocol."""
IPV6_START, IPV6_LIMIT = 0x60000000, TCP << 8 | 64
IPV4_SIZE, IPV6_SIZE, TCP_SIZE = 20, 40, 20
IPV6_ADDRESS = 16
BLOCK_SIZE = 32
"""Of an enhanced packet block, without the packet and its padding."""
ONES = 0xFFFF
"""The words of what a checksum covers, itself included, add up to a multiple of it (RFC 1071)."""
COMPLETE: Final = int(MessageFlag.COMPLETE)
MSG: Final = bytes((MsgrTag.MSG,))

pack_block: Callable[..., bytes] = struct.Struct("<IIIIIII").pack
pack_ipv4: Callable[..., bytes] = struct.Struct(">HHIHH12sIIBBHHH").pack
pack_ipv6: Callable[..., bytes] = struct.Struct(">IHH36sIIBBHHH").pack
"""An IP header without options and TCP's after it."""
pack_header: Callable[..., bytes] = struct.Struct("<QQHHHIIIHBqHH").pack
pack_crc: Callable[..., bytes] = struct.Struct("<I").pack
pack_footer: Callable[..., bytes] = struct.Struct("<IIIQB").pack
pack_ends: tuple[Callable[..., bytes], ...] = tuple(struct.Struct(f"<{padding}xI").pack for padding in range(4))
"""The end of a block, by how many bytes of padding its packet needs."""

server_banners: Codec[ServerBanner] = Codec(SERVER_BANNER)
client_banners: Codec[ClientBanner] = Codec(CLIENT_BANNER)
connects: Codec[MsgConnect] = Codec(MSG_CONNECT)
replies: Codec[MsgConnectReply] = Codec(MSG_CONNECT_REPLY)


class Peers(NamedTuple):
    """Who speaks, and what they agreed on."""

    client: EntityNum
    daemon: EntityNum
    client_addr: EntityAddr
    """With its nonce and the port it connected from."""
    daemon_addr: EntityAddr
    features: int
    lossy: bool
    connect_seq: int
    """Connections of their session before this one."""


class _End:
    """One end.

    Attributes:
        ports: addresses and ports of the packets it sends, as they stand in their headers.
        seq: of the next byte it sends.
        sum: of what is the same in all their pseudo-headers.
        ip_sum: of what is the same in all their IPv4 headers.
    """

    __slots__ = ("ip_sum", "num", "ports", "seq", "sum", "type")

    def __init__(self, name: EntityNum, source: EntityAddr, target: EntityAddr, seq: int) -> None:
        self.type, self.num = name.type, name.num
        self.seq = seq
        addresses = _packed(source) + _packed(target)
        self.ports = addresses + source.port.to_bytes(2, "big") + target.port.to_bytes(2, "big")
        # A number is congruent to the sum of its 16-bit words, modulo 0xffff: no need to take them apart.
        self.ip_sum = (IPV4_START + IPV4_FLAGS + IPV4_LIMIT + int.from_bytes(addresses, "big")) % ONES
        self.sum = (int.from_bytes(addresses, "big") + TCP) % ONES


class Synthetic:
    """A made-up TCP connection.

    Args:
        number: counts the client's connections, from 1.

    Every method appends the parts of blocks to ``out``.
    """

    def __init__(self, peers: Peers, number: int) -> None:
        self._peers = peers
        self._number = number
        self._v6 = len(_packed(peers.client_addr)) == IPV6_ADDRESS
        # Apart from those of other connections, for their ports may come back (RFC 9293, 3.4.1).
        first = number * 0x9E3779B1
        self._client = _End(peers.client, peers.client_addr, peers.daemon_addr, first & MASK)
        self._daemon = _End(peers.daemon, peers.daemon_addr, peers.client_addr, first >> 3 & MASK)

    def begin(self, out: list[bytes], ns: int) -> None:
        """Both handshakes: TCP's, and the messenger's without an authorizer."""
        peers, client, daemon = self._peers, self._client, self._daemon
        self._packet(out, client, daemon, SYN, SYN_OPTIONS, ns)
        self._packet(out, daemon, client, SYN | ACK, SYN_OPTIONS, ns)
        self._packet(out, client, daemon, ACK, b"", ns)
        addr = peers.client_addr
        seen = EntityAddr.make(AddrType.LEGACY, addr.host, addr.port)
        own = EntityAddr.make(AddrType.LEGACY, addr.host, 0, addr.nonce)
        flags = CONNECT_LOSSY if peers.lossy else 0
        speaks = MsgrProtocol.MON if peers.daemon.type == EntityType.MON else MsgrProtocol.MDS
        connect = MsgConnect(CLIENT_FEATURES, client.type, self._number, peers.connect_seq, speaks, 0, 0, flags)
        # With MSG_AUTH footers have room for a signature, as they have had for long.
        reply = MsgConnectReply(
            MsgrTag.READY, peers.features | MSG_AUTH.mask, self._number, peers.connect_seq + 1, speaks, 0, flags
        )
        self._send(
            out, daemon, client, server_banners.encode(ServerBanner(peers.daemon_addr.legacy(), seen.legacy())), ns
        )
        self._send(
            out, client, daemon, client_banners.encode(ClientBanner(own.legacy())) + connects.encode(connect), ns
        )
        self._send(out, daemon, client, replies.encode(reply), ns)

    def message(
        self, out: list[bytes], sent: bool, header: MessageHeader, front: bytes, middle: bytes, data: bytes, ns: int
    ) -> None:
        """One message, from the client if ``sent``."""
        here, there = (self._client, self._daemon) if sent else (self._daemon, self._client)
        head = pack_header(
            header.seq,
            header.tid,
            header.type,
            header.priority,
            header.version,
            len(front),
            len(middle),
            len(data),
            header.data_off,
            here.type,
            here.num,
            header.compat_version,
            0,
        )
        footer = pack_footer(
            extend(MASK, front) ^ MASK,
            extend(MASK, middle) ^ MASK if middle else 0,
            extend(MASK, data) ^ MASK if data else 0,
            0,
            header.flags | COMPLETE,
        )
        self._send(
            out,
            here,
            there,
            b"".join((MSG, head, pack_crc(extend(MASK, head) ^ MASK), front, middle, data, footer)),
            ns,
        )

    def end(self, out: list[bytes], ns: int) -> None:
        """The client hangs up."""
        self._packet(out, self._client, self._daemon, FIN | ACK, b"", ns)
        self._packet(out, self._daemon, self._client, FIN | ACK, b"", ns)
        self._packet(out, self._client, self._daemon, ACK, b"", ns)

    def _send(self, out: list[bytes], here: _End, there: _End, data: bytes, ns: int) -> None:
        if len(data) <= MAX_PAYLOAD:
            self._packet(out, here, there, PSH | ACK, data, ns)
            return
        for at in range(0, len(data), MAX_PAYLOAD):
            self._packet(out, here, there, PSH | ACK, data[at : at + MAX_PAYLOAD], ns)

    def _packet(self, out: list[bytes], here: _End, there: _End, flags: int, data: bytes, ns: int) -> None:
        """One packet; what follows the header of a SYN are its options."""
        size = len(data)
        options = size if flags & SYN else 0
        seq, ack = here.seq, there.seq if flags & ACK else 0
        offset = TCP_SIZE + options << 2
        checksum = (here.sum + TCP_SIZE + size) % ONES
        if self._v6:
            caplen = IPV6_SIZE + TCP_SIZE + size
            ip = pack_ipv6(
                IPV6_START, TCP_SIZE + size, IPV6_LIMIT, here.ports, seq, ack, offset, flags, WINDOW, checksum, 0
            )
        else:
            caplen = IPV4_SIZE + TCP_SIZE + size
            ip = pack_ipv4(
                IPV4_START,
                caplen,
                IPV4_FLAGS,
                IPV4_LIMIT,
                ONES - (here.ip_sum + caplen) % ONES,
                here.ports,
                seq,
                ack,
                offset,
                flags,
                WINDOW,
                checksum,
                0,
            )
        padding = -caplen & 3
        length = BLOCK_SIZE + caplen + padding
        here.seq = seq + size - options + bool(flags & (SYN | FIN)) & MASK
        block = pack_block(ENHANCED_PACKET, length, 0, ns >> 32, ns & MASK, caplen, caplen)
        out += (block, ip, data, pack_ends[padding](length))


def _packed(addr: EntityAddr) -> bytes:
    assert addr.ip is not None
    return addr.ip.packed
