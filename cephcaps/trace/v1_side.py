"""One direction of a messenger v1 connection: its messages, and the way back to them where the stream is broken.

Sources: ceph: src/include/msgr.h, src/msg/async/ProtocolV1.cc.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from google_crc32c import extend

from cephcaps.messenger.crc import MASK, crc32c
from cephcaps.trace.decoding import decoded
from cephcaps.trace.ends import daemon_type, sent_by_client
from cephcaps.trace.items import Flow, Item, Problem, ProblemKind, Traced
from cephwire.entity import EntityType
from cephwire.frames import MessageFlag, MessageHeader
from cephwire.legacy import MsgrTag
from cephwire.mon_messages import AUTH_REPLY

__all__ = ["FOOTER_SIZE", "OLD_FOOTER_SIZE", "Both", "Carried", "Side", "find_head"]

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of front, middle and data together; what says it is longer is no message."""
SEQ_SIZE = 8
HEAD_SIZE = 54
unpack_head: Callable[..., tuple[Any, ...]] = struct.Struct("<xQQHHHIIIHBqH2xI").unpack_from
"""The tag and `cephwire.legacy.MSG_HEADER`, without a name for each value: here is where the time goes."""
unpack_lengths: Callable[..., tuple[Any, ...]] = struct.Struct("<III").unpack_from
unpack_crcs: Callable[..., tuple[Any, ...]] = unpack_lengths
LENGTHS_AT = 23
FOOTER_SIZE, OLD_FOOTER_SIZE = 21, 13
MSG: Final = int(MsgrTag.MSG)
COMPLETE: Final = int(MessageFlag.COMPLETE)
NOCRC: Final = int(MessageFlag.NOCRC)
ALL_FLAGS: Final = int(MessageFlag.COMPLETE | MessageFlag.NOCRC | MessageFlag.SIGNED)
AUTH_REPLY_TYPE: Final = AUTH_REPLY.number
make: Callable[..., Any] = tuple.__new__
"""A NamedTuple in a third of the time that its class takes."""

AFTER_TAG: Final[dict[int, int]] = {
    MsgrTag.CLOSE: 0,
    MsgrTag.ACK: 8,
    MsgrTag.KEEPALIVE: 0,
    MsgrTag.KEEPALIVE2: 8,
    MsgrTag.KEEPALIVE2_ACK: 8,
}
"""Bytes behind each tag but MSG."""
TAGS: Final = frozenset((MSG, *AFTER_TAG))
LIKE_A_HEAD: Final = re.compile(
    rb"\x07(?=.{17}[\x00-\x07].\x00.[\x00-\x03](?:.{3}[\x00-\x04]){3}..[\x01\x02\x04\x08\x10])", re.DOTALL
)
"""A tag and header as far as a glance shows: MSG; type under 2048, priority under 256, version under 1024, lengths
under 80 MiB, and a source that there is."""

Reader: TypeAlias = Callable[[bytes, int, int], int]
"""Takes bytes, the offset to read from, and ns; gives the offset up to which it has read."""


class Carried:
    """What one direction of a session has carried: the highest sequence number of a message, and who its client is."""

    __slots__ = ("client_id", "seq")

    def __init__(self) -> None:
        self.client_id: int | None = None
        self.seq: int = 0


class Both:
    """What both directions share.

    Attributes:
        footer: its size; 0 while unknown.
        agreed: it was negotiated, not guessed.
    """

    __slots__ = ("agreed", "flow", "footer", "out")

    def __init__(self, flow: Flow, out: list[Item]) -> None:
        self.flow: Flow = flow
        self.out: list[Item] = out
        self.footer: int = 0
        self.agreed: bool = False


class Side:
    """One direction.

    Attributes:
        to_daemon: which, as far as known.
        other: the other one.
        read: what is to be read now; `messages` after the handshake.
        handshaking: it waits for what the other side will say.
        need: bytes from the first unread one on that ``read`` waits for.
        carried: what its session carried.
    """

    def __init__(self, both: Both, to_daemon: bool) -> None:
        self.to_daemon: bool = to_daemon
        self.other = self
        self.handshaking: bool = True
        self.need: int = 0
        self.carried: Carried = Carried()
        # Bound once: a reader that stays is told by its identity.
        self.messages: Reader = self._read_messages
        self.seq: Reader = self._read_seq
        self.search: Reader = self._read_search
        self.read: Reader = self.search
        self.pending: bytearray = bytearray()
        self._both = both
        self._skipped = 0  # bytes since the stream was lost
        self._src = (0, 0)  # of the last message

    def feed(self, data: bytes, ns: int) -> None:
        """The next bytes."""
        if self.pending:
            self.pending += data
            if len(self.pending) < self.need:
                return
            data = bytes(self.pending)
            self.pending.clear()
        at = 0
        while True:
            read = self.read
            at = read(data, at, ns)
            if self.read is read:
                break
        if at < len(data):
            self.pending += data[at:] if at else data

    def wake(self, ns: int) -> None:
        """What is pending may be readable now."""
        if self.pending:
            data = bytes(self.pending)
            self.pending.clear()
            self.feed(data, ns)

    def gap(self, size: int | None, ns: int) -> None:
        """Bytes are missing, how many if that is known; what was begun before them is lost with them."""
        unread = len(self.pending)
        missing = "bytes are missing" if size is None else f"{size} bytes are missing"
        if unread:
            missing += f", and the {unread} before them are of no use without"
        self.pending.clear()
        self._problem(ns, "gap", missing, (size or 0) + unread)
        if self.read is not self.search:
            self.lose(ns)

    def end(self, ns: int) -> None:
        """Nothing more comes."""
        unread = len(self.pending)
        self.pending.clear()
        if self.read is self.search and self._skipped + unread:
            self._tell_skipped(ns, unread)
        elif self.read is self.messages and unread:
            self._problem(ns, "gap", f"the stream ends within a message, after {unread} bytes of it", unread)

    def turn(self) -> None:
        """The ends are the other way round."""
        flow = self._both.flow
        flow.client, flow.daemon = flow.daemon, flow.client
        self.to_daemon, self.other.to_daemon = self.other.to_daemon, self.to_daemon

    # Reading in order

    def _read_seq(self, data: bytes, at: int, ns: int) -> int:
        self.need = SEQ_SIZE
        if len(data) - at < SEQ_SIZE:
            return at
        self.read = self.messages
        return at + SEQ_SIZE

    def _read_messages(self, data: bytes, at: int, ns: int) -> int:
        end = len(data)
        both = self._both
        footer = both.footer
        while at < end:
            if data[at] != MSG:
                after = AFTER_TAG.get(data[at])
                if after is None:
                    return self.stray(at, ns, f"tag {data[at]}")
                self.need = 1 + after
                if end - at < self.need:
                    return at
                at += self.need
                continue
            if end - at < HEAD_SIZE:
                self.need = HEAD_SIZE
                return at
            (
                seq,
                tid,
                type,
                priority,
                version,
                front_len,
                middle_len,
                data_len,
                data_off,
                src_type,
                src_num,
                compat,
                crc,
            ) = unpack_head(data, at)
            if extend(MASK, data[at + 1 : at + 50]) != crc ^ MASK:
                return self.stray(at, ns, "a message header whose crc does not fit")
            start = at + HEAD_SIZE
            middle_at = start + front_len
            data_at = middle_at + middle_len
            footer_at = data_at + data_len
            if footer_at - start > MAX_MESSAGE:
                return self.stray(at, ns, f"a message of {footer_at - start} bytes")
            stop = footer_at + footer
            if stop > end or not footer:
                if not self._whole(data, at, footer_at):
                    return at
                footer = both.footer
                stop = footer_at + footer
            at = stop
            flags = data[stop - 1]
            if not flags & COMPLETE:
                continue  # its sender gave it up
            front = data[start:middle_at]
            front_crc, middle_crc, data_crc = unpack_crcs(data, footer_at)
            fits = extend(MASK, front) == front_crc ^ MASK
            middle = body = b""
            if middle_len or data_len:
                middle = data[middle_at:data_at]
                body = data[data_at:footer_at]
                fits = fits and crc32c(0, middle) == middle_crc
                fits = fits and (flags & NOCRC != 0 or crc32c(0, body) == data_crc)
            if not fits:
                lost = HEAD_SIZE + stop - start
                self._problem(ns, "malformed", f"message {seq} of type {type}: a crc does not fit", lost)
                continue
            if (src_type, src_num) != self._src:
                self._sent_by(src_type, src_num, type)
            header = MessageHeader(seq, tid, type, priority, version, 0, data_off, 0, flags, compat)
            parts = (front, middle, body)
            carried = self.carried
            resent = seq <= carried.seq
            if not resent:
                carried.seq = seq
            if type == AUTH_REPLY_TYPE and not self.to_daemon and (reply := decoded(header, parts)) is not None:
                both.flow.client_id = reply.global_id or both.flow.client_id
            both.out.append(make(Traced, (ns, both.flow, self.to_daemon, header, parts, None, (), None, resent)))
        return at

    def _whole(self, data: bytes, at: int, footer_at: int) -> bool:
        """Whether the message at ``at`` has come with all of its footer."""
        both = self._both
        self.need = footer_at + (both.footer or OLD_FOOTER_SIZE) - at
        if len(data) - at < self.need:
            return False
        both.footer = both.footer or _footer_size(data, footer_at)
        self.need = len(data) - at + 1
        return both.footer > 0

    def _sent_by(self, src_type: int, src_num: int, type: int) -> None:
        """Note who sends; where no handshake has shown it, that and what is sent tell which end is the client."""
        self._src = (src_type, src_num)
        flow = self._both.flow
        from_client = True if src_type == EntityType.CLIENT else sent_by_client(type, None)
        if from_client is None and src_type == daemon_type(type) == EntityType.MDS:
            from_client = False
        if from_client is not None and from_client != self.to_daemon and not self._both.agreed:
            self.turn()
        if not self.to_daemon:
            flow.daemon_type, flow.daemon_num = src_type, src_num if src_num >= 0 else None
        elif src_type == EntityType.CLIENT and src_num >= 0:
            flow.client_id = self.carried.client_id = src_num

    def _problem(self, ns: int, kind: ProblemKind, what: str, size: int) -> None:
        self._both.out.append(Problem(ns, self._both.flow, self.to_daemon, kind, what, size))

    # Finding the way back

    def stray(self, at: int, ns: int, what: str) -> int:
        """What stands at ``at`` cannot be; a message is looked for behind it."""
        self._problem(ns, "malformed", f"{what} where a message should begin", 0)
        if not self._both.agreed:
            self._both.footer = 0
        self.lose(ns)
        self._skipped = 1
        return at + 1

    def lose(self, ns: int) -> None:
        """Where in the stream we are is not known any more; nor can the other side's handshake be followed then."""
        self.read = self.search
        self.need = self._skipped = 0
        was, self.handshaking = self.handshaking, False
        if was and self.other.handshaking:
            self.other.lose(ns)
            self.other.wake(ns)

    def _read_search(self, data: bytes, at: int, ns: int) -> int:
        """The next place where a message begins."""
        place = find_head(data, at)
        if place >= 0:
            if self._skipped or place > at:
                self._tell_skipped(ns, place - at)
            self.read = self.messages
            return place
        kept = max(at, len(data) - HEAD_SIZE + 1)
        self._skipped += kept - at
        self.need = HEAD_SIZE
        return kept

    def _tell_skipped(self, ns: int, more: int) -> None:
        size = self._skipped + more
        self._skipped = 0
        self._problem(ns, "skipped", f"{size} bytes were passed over that begin no message", size)


def find_head(data: bytes, at: int = 0) -> int:
    """Where from ``at`` on the first message begins, as the crc of its header proves; -1 if nowhere."""
    for found in LIKE_A_HEAD.finditer(data, at):
        place = found.start()
        if len(data) - place < HEAD_SIZE:
            break
        crc = int.from_bytes(data[place + 50 : place + HEAD_SIZE], "little")
        if (
            crc32c(0, data[place + 1 : place + 50]) == crc
            and sum(unpack_lengths(data, place + LENGTHS_AT)) <= MAX_MESSAGE
        ):
            return place
    return -1


def _footer_size(data: bytes, at: int) -> int:
    """How long the footer at ``at`` is, by what would come behind it; 0 if there is not enough yet to tell."""
    end = len(data)
    for size in (FOOTER_SIZE, OLD_FOOTER_SIZE):
        stop = at + size
        if stop <= end and 0 < data[stop - 1] <= ALL_FLAGS and (stop == end or data[stop] in TAGS):
            return size
    return FOOTER_SIZE if end > at + FOOTER_SIZE else 0
