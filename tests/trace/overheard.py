"""Whole conversations of the pure client with pure daemons, as the bytes that an eavesdropper gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cephcaps.actions import Action, Connect
from cephcaps.auth.crypto import CryptoKey
from cephcaps.messenger.connection import Connection
from cephcaps.messenger.framing import FrameWriter
from cephcaps.trace.decoding import decode_all
from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.secrets import Secrets
from cephcaps.trace.sessions import Sessions
from cephcaps.trace.v2 import V2Stream
from cephwire.caps import CapOp
from cephwire.codec import Codec
from cephwire.control import FRAMES, TAGS
from cephwire.frames import MESSAGE_HEADER, MessageFlag, MessageHeader, Priority, Tag
from cephwire.messages import BY_CLASS
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.session import samples
from tests.session.handshakes import GLOBAL_ID, Pair
from tests.session.peers import flushed
from tests.session.world import World

__all__ = [
    "CLIENT",
    "DAEMON",
    "DOWN",
    "UP",
    "Overheard",
    "Reader",
    "Tapped",
    "carry",
    "control",
    "cut",
    "direction",
    "is_subsequence",
    "message",
    "met",
    "overheard",
    "secret_texts",
    "with_tickets",
]

CLIENT, DAEMON = "192.0.2.7:50000", "192.0.2.2:6800"
UP, DOWN = True, False
Said = tuple[bool, MessageHeader, Any]
Piece = tuple[bool, bytes | int | None]
"""Direction, and bytes, or a gap of so many."""

headers: Codec[MessageHeader] = Codec(MESSAGE_HEADER)

UPWARDS = (
    ClientSession(SessionOp.REQUEST_OPEN, 0, metadata={"hostname": "here"}),
    ClientSession(SessionOp.REQUEST_RENEWCAPS, 1),
    msgspec.structs.replace(samples.caps(CapOp.UPDATE, 0x1000, 7), xattrs=b"in the middle segment"),
)
DOWNWARDS = (
    ClientSession(SessionOp.OPEN, 0),
    samples.reply(RequestOp.GETATTR, samples.inode(0x1000), dir=samples.inode(1)),
    samples.caps(CapOp.GRANT, 0x1000, 7),
    samples.caps(CapOp.REVOKE, 0x1000, 7),
)


@dataclass
class Overheard:
    """What went over one connection.

    Attributes:
        pieces: what each end wrote, in order.
        said: the messages among it.
    """

    pieces: list[tuple[bool, bytes]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def way(self, to_daemon: bool) -> list[tuple[MessageHeader, Any]]:
        return [(header, message) for way, header, message in self.said if way == to_daemon]


def carry(pair: Pair, heard: Overheard) -> None:
    """Carry bytes until neither side has more to say."""
    while pair.client.out or pair.server.out:
        if data := flushed(pair.client.out):
            heard.pieces.append((UP, data))
            pair.server.receive(data)
        if data := flushed(pair.server.out):
            heard.pieces.append((DOWN, data))
            pair.client.receive(data, 0.0)


def met(pair: Pair) -> Overheard:
    """The handshake."""
    heard = Overheard()
    pair.server.start()
    carry(pair, heard)
    return heard


def overheard(
    pair: Pair, upwards: Sequence[Any] = UPWARDS, downwards: Sequence[Any] = DOWNWARDS, *, rounds: int = 1
) -> Overheard:
    """A handshake and messages in both directions, one or two to a piece."""
    heard = met(pair)
    for _ in range(rounds):
        for index in range(max(len(upwards), len(downwards))):
            for message in upwards[index : index + 1]:
                pair.client.send(message, tid=index)
            for message in downwards[index : index + 1]:
                pair.server.send(message, tid=index)
            if index % 3:
                carry(pair, heard)
        carry(pair, heard)
    heard.said = [(UP, header, message) for header, message in pair.server.messages]
    heard.said += [
        (DOWN, header, message) for header, message in zip(pair.owner.headers, pair.owner.messages, strict=True)
    ]
    return heard


class Tapped(World):
    """A world whose connections are overheard, in the order in which they were made."""

    def __init__(self, **settings: Any) -> None:
        self.heard: list[Overheard] = []
        self.all: list[tuple[int, bool, bytes]] = []
        self.taps: dict[Connection, int] = {}
        super().__init__(**settings)
        hand_over = self.core.received

        def received(connection: Connection, data: bytes, now: float) -> None:
            self._note(self.taps[connection], DOWN, data)
            hand_over(connection, data, now)

        self.core.received = received  # type: ignore[method-assign]

    def _note(self, number: int, to_daemon: bool, data: bytes) -> None:
        self.heard[number].pieces.append((to_daemon, data))
        self.all.append((number, to_daemon, data))

    def _carry_out(self, action: Action) -> None:
        super()._carry_out(action)
        if not isinstance(action, Connect) or action.connection not in self.links:
            return
        number = self.taps[action.connection] = len(self.heard)
        heard = Overheard()
        self.heard.append(heard)
        peer = self.links[action.connection]
        take, write, handle = peer.receive, peer.frame, peer.handle

        def receive(data: bytes) -> None:
            if data:
                self._note(number, UP, data)
            take(data)

        def frame(tag: Tag, *segments: bytes) -> None:
            if tag == Tag.MESSAGE:
                heard.said.append((DOWN, headers.decode(segments[0]), None))
            write(tag, *segments)

        def handled(header: MessageHeader, message: Any) -> None:
            heard.said.append((UP, header, message))
            handle(header, message)

        peer.receive, peer.frame, peer.handle = receive, frame, handled  # type: ignore[method-assign]


class Reader:
    """Reads what was overheard.

    Attributes:
        out: all that came out.
    """

    def __init__(self, keyring: dict[str, CryptoKey] | None = None) -> None:
        self.out: list[Item] = []
        self.secrets = Secrets(keyring)
        self.sessions = Sessions()
        self.ns = 0
        self.flows: list[Flow] = []

    def stream(self, client: str = CLIENT, daemon: str = DAEMON) -> V2Stream:
        flow = Flow(len(self.flows) + 1, client, daemon)
        self.flows.append(flow)
        return V2Stream(flow, self.out, self.secrets, self.sessions)

    def feed(self, stream: Any, pieces: Iterable[Piece], *, end: bool = True) -> None:
        for to_daemon, piece in pieces:
            self.ns += 1
            if isinstance(piece, bytes):
                stream.data(to_daemon, piece, self.ns)
            else:
                stream.gap(to_daemon, piece, self.ns)
        if end:
            self.ns += 1
            stream.end(self.ns)
        decode_all(self.out)

    def read(self, pieces: Iterable[Piece], client: str = CLIENT, daemon: str = DAEMON) -> Flow:
        """All of one connection."""
        self.feed(self.stream(client, daemon), pieces)
        return self.flows[-1]

    @property
    def traced(self) -> list[Traced]:
        return [item for item in self.out if isinstance(item, Traced)]

    @property
    def problems(self) -> list[Problem]:
        return [item for item in self.out if isinstance(item, Problem)]

    @property
    def kinds(self) -> list[str]:
        return [problem.kind for problem in self.problems]

    def way(self, to_daemon: bool, flow: Flow | None = None) -> list[tuple[MessageHeader, Any]]:
        return [
            (item.header, item.message)
            for item in self.traced
            if item.to_daemon == to_daemon and flow in (None, item.flow)
        ]


def with_tickets(pair: Pair) -> Reader:
    """A reader that has seen the pair's tickets handed out."""
    reader = Reader({})
    for service, ticket in pair.tickets.held.items():
        reader.secrets.learn(GLOBAL_ID, service, ticket.session_key)
    return reader


def cut(pieces: Iterable[tuple[bool, bytes]], sizes: Callable[[], int]) -> Iterator[tuple[bool, bytes]]:
    """The same in smaller pieces."""
    for to_daemon, data in pieces:
        at = 0
        while at < len(data):
            size = sizes()
            yield to_daemon, data[at : at + size]
            at += size


def direction(pieces: Iterable[tuple[bool, bytes]], to_daemon: bool) -> bytes:
    return b"".join(data for way, data in pieces if way == to_daemon)


def control(payload: Any, writer: FrameWriter | None = None) -> bytes:
    """A control frame."""
    tag = TAGS[type(payload)]
    return (writer or FrameWriter()).frame(tag, [Codec(FRAMES[tag]).encode(payload)])


def message(
    seq: int,
    body: Any = None,
    *,
    number: int | None = None,
    segments: Sequence[bytes] = (),
    version: int | None = None,
    writer: FrameWriter | None = None,
) -> bytes:
    """A MESSAGE frame."""
    kind = BY_CLASS.get(type(body))
    if kind is not None:
        segments = kind.encode(body)
    header = MessageHeader(
        seq,
        0,
        number or (kind.number if kind else 0),
        Priority.DEFAULT,
        version or (kind.newest if kind else 1),
        0,
        0,
        0,
        MessageFlag.COMPLETE,
        1,
    )
    return (writer or FrameWriter()).frame(Tag.MESSAGE, [headers.encode(header), *segments])


def is_subsequence(some: Sequence[Any], of: Sequence[Any]) -> bool:
    rest = iter(of)
    return all(any(one == other for other in rest) for one in some)


def secret_texts(secrets: Iterable[bytes]) -> re.Pattern[str]:
    """Matches any of ``secrets`` as a repr or in hex."""
    forms = {re.escape(form) for raw in secrets for form in (repr(raw)[2:-1], raw.hex()) if len(raw) > 4}
    return re.compile("|".join(sorted(forms)))
