"""TCP connections out of packets: each direction's bytes in order, once, and where some are missing.

A packet that was captured out of order is the rule on a busy machine, one that was not captured no exception: so
missing bytes are waited for until they can no longer come, and then told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cephcaps.trace.connection import SEQ_MASK, ByteStream, Connection, Half
from cephcaps.trace.items import Item
from cephcaps.trace.packets import MAX_LENGTH, MalformedPacket, Segment, ends, reverse
from cephcaps.trace.source import Packet
from cephcaps.trace.tally import Tally

__all__ = ["DAEMON_PORTS", "Assembler", "ByteStream"]

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

WINDOW = 1 << 28
"""Bytes before or after the expected one that are of the same connection. TCP allows 1 GiB (RFC 7323, 2.3), Linux's
``net.ipv4.tcp_rmem`` 6 MiB unless told otherwise; the smaller this is, the surer a reused pair of ports is noticed."""
PATIENCE = 256
"""Packets, of any connection, that may come before one that was sent earlier; up to twice as many are waited for. They
change places where several CPUs or interfaces capture; each CPU of a machine has one packet in hand."""
MAX_HELD = 4 << 20
"""Bytes of a direction that wait for missing ones."""
MAX_HELD_TOGETHER = 64 << 20
MAX_CONNECTIONS = 4096
"""Connections that are followed at once; past that, the longest silent ones are taken as ended."""

DAEMON_PORTS = frozenset((3300, 6789, *range(6800, 7569)))
"""A monitor's two, and ``ms_bind_port_min`` to ``ms_bind_port_max`` (ceph: src/common/options/global.yaml.in)."""


class Assembler:
    """Follows every TCP connection in the packets it is given.

    Args:
        open_stream: called with the addresses of client and daemon when a connection's first bytes come. The client is
            who connected, or, where that was not captured, who has no port of a daemon.
        out: where packets that cannot be read are told.
    """

    def __init__(self, open_stream: Callable[[str, str], ByteStream], out: list[Item] | None = None) -> None:
        self.out: list[Item] = [] if out is None else out
        self._open_stream = open_stream
        self._halves: dict[bytes, Half] = {}
        self._count = 0
        # What to do once that many packets were seen: see whether bytes before a position have come, or end it (None).
        self._due: deque[tuple[int, Half, int | None]] = deque()
        self._holders: dict[Half, None] = {}  # halves that hold something, longest first
        self._held = 0
        self._malformed = Tally("packet")

    def packet(self, packet: Packet, found: Segment | MalformedPacket | None) -> None:
        """Take in the next packet of the capture, and what `segments` has ``found`` in it."""
        ns = packet[0]
        self._count = count = self._count + 1
        if self._due and self._due[0][0] <= count:
            self._look_again(ns)
        if found is None:
            return
        if isinstance(found, MalformedPacket):
            problem = self._malformed.add(ns, str(found), packet.size)
            if problem is not None:
                self.out.append(problem)
            return
        key, seq, ack, flags, payload, size = found
        half = self._halves.get(key)
        if half is None or flags & (FIN | SYN | RST | ACK) != ACK:
            self._uncommon(half, found, ns)
            return
        half.seen = count
        if size:
            deliver = half.deliver
            if deliver is None or (seq - half.next) & SEQ_MASK or len(payload) != size:
                self._uncommon(half, found, ns)
                return
            half.next += size
            deliver(half.to_daemon, payload, ns)
        ahead = (ack - half.other.next) & SEQ_MASK
        if 0 < ahead < WINDOW:
            self._acknowledge(half, seq, ahead)

    def finish(self, ns: int) -> None:
        """The capture is at its end."""
        for half in list(self._halves.values()):
            self._end(half, ns)
        self._halves.clear()
        self._due.clear()
        self.out += self._malformed.rest(ns)

    # What is not the next bytes of a connection.

    def _uncommon(self, half: Half | None, found: Segment, ns: int) -> None:
        key, seq, ack, flags, payload, size = found
        if flags & RST:  # what it may carry says why, and is no data (RFC 9293, 3.5.3)
            if half is not None and self._continues(half, seq, 0) and not half.connection.reset:
                half.connection.reset = True
                self._due.append((self._count + PATIENCE, half, None))
            return
        if flags & SYN:
            half = self._opened(half, found, ns)
            seq = (seq + 1) & SEQ_MASK
        elif half is None or not self._continues(half, seq, size):
            if not size:
                return
            to_daemon = _guess(key)
            if half is not None:  # a new connection of the same ports
                to_daemon = half.to_daemon
                self._end(half, ns)
            half = self._connect(key, to_daemon, ns)
        if half.connection.ended:
            return
        half.seen = self._count
        if half.first is None:
            half.begin(seq)
            if size:
                self._stream(half).gap(half.to_daemon, None, ns)
        start = half.position(seq)
        if size:
            self._take(half, start, payload, size, ns)
        if flags & FIN and half.fin is None and start + size >= half.end():
            half.fin = start + size
        self._settle(half, ns)
        ahead = (ack - half.other.next) & SEQ_MASK
        if flags & ACK and 0 < ahead < WINDOW:
            self._acknowledge(half, seq, ahead)

    def _continues(self, half: Half, seq: int, size: int) -> bool:
        """Whether a segment belongs to the connection that had its ports last."""
        if half.first is None:
            return not half.connection.ended
        start = half.position(seq)
        if half.connection.ended:
            return half.next - WINDOW < start and start + size <= half.next
        return abs(start - half.next) < WINDOW

    def _opened(self, half: Half | None, found: Segment, ns: int) -> Half:
        """The direction of a segment with SYN: a new connection's, unless it was sent again."""
        answer = bool(found.flags & ACK)
        first = (found.seq + 1) & SEQ_MASK
        if half is not None and half.first is None and answer and self._answers(half.other, found.ack):
            half.begin(first)
        elif half is None or half.first != first:
            if half is not None:
                self._end(half, ns)
            half = self._connect(found.key, not answer, ns)
            half.begin(first)
            if answer:
                half.other.begin(found.ack)
        return half

    def _answers(self, half: Half, ack: int) -> bool:
        """Whether ``ack`` answers the SYN of ``half``, which may have brought data (RFC 7413)."""
        return half.first is not None and (ack - half.first) & SEQ_MASK <= MAX_LENGTH

    def _take(self, half: Half, start: int, payload: bytes, size: int, ns: int) -> None:
        if half.fin is not None:
            size = max(min(size, half.fin - start), 0)
            payload = payload[:size]
        if half.held or start > half.next:
            self._hold(half, start, payload, ns)
        else:
            new = payload[half.next - start :]
            if new:
                half.next += len(new)
                self._stream(half).data(half.to_daemon, new, ns)
        if len(payload) < size and start + len(payload) <= half.next:
            self._give_up(half, start + size, ns)

    def _hold(self, half: Half, start: int, payload: bytes, ns: int) -> None:
        before = half.cost
        half.hold(start, payload)
        self._held += half.cost - before
        if half.held:
            self._holders.setdefault(half)
        self._hand_on(half, ns)
        while half.cost > MAX_HELD:
            self._give_up(half, half.hole(), ns)
        while self._held > MAX_HELD_TOGETHER:
            longest = next(iter(self._holders))
            self._give_up(longest, longest.hole(), ns)
            self._settle(longest, ns)

    def _hand_on(self, half: Half, ns: int) -> None:
        """Give the stream what is no longer too early."""
        if not half.held:
            return
        before = half.cost
        for data in half.ready():
            self._stream(half).data(half.to_daemon, data, ns)
        self._held -= before - half.cost
        if not half.held:
            self._holders.pop(half, None)

    def _give_up(self, half: Half, target: int, ns: int) -> None:
        """What is missing before ``target`` will not come."""
        if half.fin is not None:
            target = min(target, half.fin)
        while half.next < target:
            stop = min(half.hole(), target) if half.held else target
            self._stream(half).gap(half.to_daemon, stop - half.next, ns)
            half.next = stop
            self._hand_on(half, ns)

    def _acknowledge(self, sender: Half, seq: int, ahead: int) -> None:
        """The sender has ``ahead`` bytes that were not seen here: they are late, or were not captured."""
        half = sender.other
        if half.first is None or half.finished or half.connection.ended:
            return
        if sender.first is not None and abs(sender.position(seq) - sender.next) >= WINDOW:
            return  # an earlier connection's
        half.acked = max(half.acked, half.next + ahead)
        if not half.waiting:
            self._wait(half)

    def _wait(self, half: Half) -> None:
        half.waiting = True
        self._due.append((self._count + PATIENCE, half, half.acked))

    def _look_again(self, ns: int) -> None:
        while self._due and self._due[0][0] <= self._count:
            _, half, target = self._due.popleft()
            if half.connection.ended:
                continue
            if target is None:
                self._end(half, ns)
                continue
            half.waiting = False
            self._give_up(half, target, ns)
            self._settle(half, ns)
            if half.acked > half.next and not half.finished:
                self._wait(half)

    def _settle(self, half: Half, ns: int) -> None:
        """See what state ``half`` is in, after anything but the next bytes."""
        if half.fin is not None and not half.finished and half.next >= half.fin:
            half.finished = True
            half.next = half.fin + 1  # FIN has a sequence number of its own
        stream = half.connection.stream
        half.deliver = stream.data if stream is not None and not half.held and half.fin is None else None
        if half.finished and half.other.finished:
            self._end(half, ns)

    def _end(self, half: Half, ns: int) -> None:
        connection = half.connection
        if connection.ended:
            return
        for each in (half, half.other):
            self._give_up(each, max(each.end(), each.acked), ns)
            each.deliver = None
        connection.ended = True
        if connection.stream is not None:
            connection.stream.end(ns)
            connection.stream = None

    def _connect(self, key: bytes, to_daemon: bool, ns: int) -> Half:
        if len(self._halves) >= 2 * MAX_CONNECTIONS:
            self._forget(ns)
        connection = Connection()
        half, other = Half(key, connection, to_daemon), Half(reverse(key), connection, not to_daemon)
        half.other, other.other = other, half
        self._halves[other.key] = other
        self._halves[key] = half
        return half

    def _forget(self, ns: int) -> None:
        """Make room: a quarter of the connections go, first those that have ended, then the longest silent."""
        halves = sorted(
            self._halves.values(), key=lambda half: (not half.connection.ended, max(half.seen, half.other.seen))
        )
        for half in halves[: len(halves) // 4]:
            self._end(half, ns)
            self._halves.pop(half.key, None)
            self._halves.pop(half.other.key, None)

    def _stream(self, half: Half) -> ByteStream:
        connection = half.connection
        if connection.stream is None:
            client, daemon = ends(half.key if half.to_daemon else half.other.key)
            connection.stream = self._open_stream(f"{client[0]}:{client[1]}", f"{daemon[0]}:{daemon[1]}")
        return connection.stream


def _guess(key: bytes) -> bool:
    """Whether the destination is the daemon, by the ports."""
    (_, source), (_, destination) = ends(key)
    if (source in DAEMON_PORTS) != (destination in DAEMON_PORTS):
        return destination in DAEMON_PORTS
    return destination <= source  # ports of clients come from the upper half (RFC 6335, 6)
