"""One TCP connection: whether it is a messenger's, and which; its bytes go on to the reader of that.

A messenger begins with a banner. Of a connection whose beginning was not captured, both directions are searched for a
header whose crc fits; what has none for long is no messenger, or one in secure mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cephcaps.auth.crypto import CryptoKey
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import PREAMBLE_SIZE, find_preamble
from cephcaps.trace.items import Flow, Item, Problem
from cephcaps.trace.secrets import Secrets
from cephcaps.trace.sessions import Sessions
from cephcaps.trace.tcp import DAEMON_PORTS, ByteStream
from cephcaps.trace.v1 import V1Sessions, V1Stream
from cephcaps.trace.v1_side import HEAD_SIZE, LIKE_A_HEAD
from cephcaps.trace.v2 import V2Stream
from cephcaps.trace.v2_side import MAX_FRAME
from cephwire.frames import BANNER_PREFIX
from cephwire.legacy import LEGACY_BANNER

__all__ = ["Stream", "Streams"]

LONGEST_BANNER: Final = max(len(BANNER_PREFIX), len(LEGACY_BANNER))
KEPT: Final = max(PREAMBLE_SIZE, HEAD_SIZE) - 1
"""Bytes at the end of what was searched in which a header may have begun."""
MAX_SEARCH: Final = 64 * 1024
"""Bytes of both directions, or a message's worth of one, without a header."""
MAX_SEARCH_ONE: Final = 1024 * 1024
MAX_HELD: Final = 72 << 20
"""Bytes of messages that are not whole yet: the largest, and what small ones take."""


class Reader(ByteStream, Protocol):
    """Reads a messenger."""

    @property
    def held(self) -> int:
        """Bytes kept until the rest of their message comes."""


class Streams:
    """Every connection of a trace, and what they share.

    Attributes:
        out: what was read, in order; whoever takes it clears it.
        messengers, strangers: connections of Ceph, and others.
    """

    def __init__(self, keyring: Mapping[str, CryptoKey] | None = None) -> None:
        self.out: list[Item] = []
        self.messengers: int = 0
        self.strangers = 0
        self.secrets: Secrets = Secrets(keyring)
        self._sessions = Sessions()
        self._v1_sessions = V1Sessions()
        self._reading: dict[Stream, Reader] = {}

    def open(self, client: str, daemon: str) -> Stream:
        """A new connection."""
        return Stream(self, Flow(0, client, daemon))

    def finish(self) -> None:
        """The trace is at its end."""
        self.secrets.finish()

    def number(self, flow: Flow) -> None:
        """``flow`` is of a messenger."""
        self.messengers += 1
        flow.number = self.messengers

    def reader(self, stream: Stream, version: int, flow: Flow) -> Reader:
        """What reads the messenger that ``stream`` turned out to be."""
        self.number(flow)
        reader: Reader
        if version == 1:
            reader = V1Stream(flow, self.out, self._v1_sessions)
        else:
            reader = V2Stream(flow, self.out, self.secrets, self._sessions)
        self._reading[stream] = reader
        return reader

    def ended(self, stream: Stream) -> None:
        self._reading.pop(stream, None)

    def trim(self, ns: int) -> None:
        """Give up what was begun where most of it waits for its rest, if that is more than memory is meant for."""
        held = {stream: reader.held for stream, reader in self._reading.items()}
        total = sum(held.values())
        while total > MAX_HELD:
            stream = max(held, key=held.__getitem__)
            size = held.pop(stream)
            total -= size
            stream.give_up(size, ns)


class _Beginning:
    """What came of one direction while it is not known what it is."""

    __slots__ = ("gap", "passed", "tail")

    def __init__(self) -> None:
        self.gap = False
        self.passed = 0
        self.tail = b""


class Stream:
    """Takes the bytes of one connection (`cephcaps.trace.tcp.ByteStream`).

    Attributes:
        data: takes the next bytes of a direction; that of the reader, once it is known.
    """

    def __init__(self, streams: Streams, flow: Flow) -> None:
        self.data: Callable[[bool, bytes, int], None] = self._first_data
        self._streams = streams
        self._flow = flow
        self._reader: Reader | None = None
        self._beginnings: tuple[_Beginning, _Beginning] | None = (_Beginning(), _Beginning())

    def gap(self, to_daemon: bool, size: int | None, ns: int) -> None:
        if self._reader is not None:
            self._reader.gap(to_daemon, size, ns)
        elif self._beginnings is not None:
            beginning = self._beginnings[to_daemon]
            beginning.gap = True
            beginning.passed += len(beginning.tail)
            beginning.tail = b""

    def end(self, ns: int) -> None:
        if self._reader is not None:
            self._reader.end(ns)
            self._streams.ended(self)
        else:
            self._dismiss(ns)

    def give_up(self, size: int, ns: int) -> None:
        """Forget the ``size`` bytes of what was begun."""
        assert self._reader is not None
        what = f"{size} bytes of unfinished messages are given up: over {MAX_HELD} wait in all connections together"
        self._streams.out.append(Problem(ns, self._flow, None, "skipped", what, size))
        for to_daemon in (False, True):
            self._reader.gap(to_daemon, 0, ns)

    def _first_data(self, to_daemon: bool, data: bytes, ns: int) -> None:
        if self._reader is not None:  # found since whoever calls this asked for `data`
            self._reader.data(to_daemon, data, ns)
            return
        if self._beginnings is None:
            return
        beginning = self._beginnings[to_daemon]
        found = beginning.tail = beginning.tail + data
        if not beginning.passed:
            if found.startswith(BANNER_PREFIX):
                beginning.gap = False
                self._begin(2, ns)
                return
            if found.startswith(LEGACY_BANNER):
                beginning.gap = False
                self._begin(1, ns)
                return
            if BANNER_PREFIX.startswith(found) or LEGACY_BANNER.startswith(found):
                return
            if not beginning.gap:
                self._dismiss(ns)
                return
        v1, v2 = _find_head(found), find_preamble(found, MAX_FRAME)
        if v1 >= 0 or v2 >= 0:
            at, version = (v1, 1) if v2 < 0 or 0 <= v1 < v2 else (v2, 2)
            beginning.passed += at
            beginning.tail = found[at:]
            self._begin(version, ns)
            return
        beginning.passed += max(len(found) - KEPT, 0)
        beginning.tail = found[-KEPT:]
        passed = [each.passed for each in self._beginnings]
        if min(passed) >= MAX_SEARCH or max(passed) >= MAX_SEARCH_ONE:
            self._dismiss(ns)

    def _begin(self, version: int, ns: int) -> None:
        """It is a messenger: give its reader what has come."""
        assert self._beginnings is not None
        beginnings, self._beginnings = self._beginnings, None
        self._reader = reader = self._streams.reader(self, version, self._flow)
        self.data = reader.data
        for to_daemon, each in zip((False, True), beginnings, strict=True):
            if each.gap or each.passed:
                reader.gap(to_daemon, None, ns)
            if each.passed:
                what = f"{each.passed} bytes were passed over up to the first that could be read"
                self._streams.out.append(Problem(ns, self._flow, to_daemon, "skipped", what, each.passed))
            if each.tail:
                reader.data(to_daemon, each.tail, ns)

    def _dismiss(self, ns: int) -> None:
        """It is no messenger that can be read."""
        if self._beginnings is None:
            return
        beginnings, self._beginnings = self._beginnings, None
        streams, flow = self._streams, self._flow
        ports = {int(end.rpartition(":")[2]) for end in (flow.client, flow.daemon)}
        if DAEMON_PORTS.isdisjoint(ports) or not any(each.gap for each in beginnings):
            streams.strangers += 1
            return
        streams.number(flow)
        what = (
            "nothing of it can be read, and its beginning was not captured: if it is a messenger in secure mode, only "
            "a capture opens it that begins before the client mounts"
        )
        streams.out.append(Problem(ns, flow, None, "sealed", what))


def _find_head(data: bytes) -> int:
    """Where in ``data`` the first message of messenger v1 begins, to judge by its header; -1 if nowhere."""
    for match in LIKE_A_HEAD.finditer(data):
        at = match.start()
        head = data[at : at + HEAD_SIZE]
        if len(head) == HEAD_SIZE and crc32c(0, head[1:-4]) == int.from_bytes(head[-4:], "little"):
            return at
    return -1
