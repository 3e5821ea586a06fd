"""Passive reading of messenger v1: the bytes of one TCP connection -> its messages.

Of the handshake only what finds the messages is read, lengths, outcome, whether footers have a signature; and of an
authorizer, who shows it. Sources: ceph: src/include/msgr.h, src/msg/async/ProtocolV1.cc.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Final

from cephcaps.trace.items import Flow, Item
from cephcaps.trace.v1_side import FOOTER_SIZE, OLD_FOOTER_SIZE, Both, Carried, Side
from cephwire.cephx import AUTHORIZER, Authorizer
from cephwire.codec import Codec
from cephwire.control import AuthMethod
from cephwire.entity import EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import MSG_AUTH, has_feature
from cephwire.legacy import (
    LEGACY_BANNER,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    MsgConnect,
    MsgConnectReply,
    MsgrProtocol,
    MsgrTag,
)

__all__ = ["V1Sessions", "V1Stream"]

MAX_AUTHORIZER = 64 * 1024
"""Bytes; real ones take under 2 KiB."""
MAX_SESSIONS = 10_000
BANNER_SIZE = len(LEGACY_BANNER)
ADDR_SIZE = 136
CONNECT_SIZE = 33
REPLY_SIZE = 26

DAEMONS: Final[dict[int, EntityType]] = {
    MsgrProtocol.MON: EntityType.MON,
    MsgrProtocol.OSD: EntityType.OSD,
    MsgrProtocol.MDS: EntityType.MDS,
}

authorizers: Codec[Authorizer] = Codec(AUTHORIZER)
connects: Codec[MsgConnect] = Codec(MSG_CONNECT)
replies: Codec[MsgConnectReply] = Codec(MSG_CONNECT_REPLY)


class V1Sessions:
    """What the sessions of a trace have carried: they outlive connections, and then some of it is sent again."""

    def __init__(self) -> None:
        self._carried: dict[tuple[bytes, bytes], tuple[Carried, Carried]] = {}
        self._nameless: dict[tuple[str, str], tuple[Carried, Carried] | None] = {}

    def begin(self, client: bytes, daemon: bytes) -> tuple[Carried, Carried]:
        """A new session of these ends, named by their own addresses and nonces: nothing yet, in both directions."""
        return self._keep(client, daemon, (Carried(), Carried()))

    def resume(self, client: bytes, daemon: bytes, flow: Flow) -> tuple[Carried, Carried]:
        """Theirs that goes on over ``flow``: to the daemon and to the client."""
        found = self._carried.pop((client, daemon), None) or self._nameless.pop(_hosts(flow), None)
        return self._keep(client, daemon, found or (Carried(), Carried()))

    def joined(self, flow: Flow, carried: tuple[Carried, Carried]) -> None:
        """A session whose beginning was not captured; of two between the same hosts neither can be told later."""
        hosts = _hosts(flow)
        taken = hosts in self._nameless
        if len(self._nameless) >= MAX_SESSIONS:
            del self._nameless[next(iter(self._nameless))]
        self._nameless[hosts] = None if taken else carried

    def _keep(self, client: bytes, daemon: bytes, carried: tuple[Carried, Carried]) -> tuple[Carried, Carried]:
        if len(self._carried) >= MAX_SESSIONS:
            del self._carried[next(iter(self._carried))]  # the one not resumed for longest
        self._carried[client, daemon] = carried
        return carried


def _hosts(flow: Flow) -> tuple[str, str]:
    return flow.client.rpartition(":")[0], flow.daemon


class V1Stream:
    """Reads one connection; items are appended to ``out`` in the order of time.

    Which end is the client is believed of ``flow`` until a banner or a message shows that it is the other way round:
    then its ends are exchanged here. Whoever brings bytes goes on naming directions as before.

    Args:
        sessions: shared by all connections of a trace; without it no message is known to be sent again.
    """

    def __init__(self, flow: Flow, out: list[Item], sessions: V1Sessions | None = None) -> None:
        both = Both(flow, out)
        self._up, self._down = Side(both, True), Side(both, False)
        self._up.other, self._down.other = self._down, self._up
        self._both = both
        self._sessions = sessions
        self._addrs: dict[Side, bytes] = {}  # by whose they are
        self._connect: MsgConnect | None = None  # while its reply has not come
        for side in (self._up, self._down):
            side.read = partial(self._read_banner, side)
        flow.messenger = 1

    @property
    def held(self) -> int:
        """Bytes kept until the rest of their message comes."""
        return len(self._up.pending) + len(self._down.pending)

    def data(self, to_daemon: bool, data: bytes, ns: int) -> None:
        (self._up if to_daemon else self._down).feed(data, ns)

    def gap(self, to_daemon: bool, size: int | None, ns: int) -> None:
        (self._up if to_daemon else self._down).gap(size, ns)

    def end(self, ns: int) -> None:
        self._up.end(ns)
        self._down.end(ns)
        up, down = (self._up, self._down) if self._up.to_daemon else (self._down, self._up)
        if self._sessions is not None and not self._both.agreed and up.carried.seq + down.carried.seq:
            self._sessions.joined(self._both.flow, (up.carried, down.carried))

    def _read_banner(self, side: Side, data: bytes, at: int, ns: int) -> int:
        """The banner and the addresses behind it: the server's has two."""
        if not data.startswith(LEGACY_BANNER[: len(data)]):
            side.lose(ns)
            return at
        first = BANNER_SIZE + ADDR_SIZE
        side.need = first + 4
        if len(data) < side.need:
            return at
        # The server's second address begins with 0; the features that a client's connect begins with never do.
        server = data[first : side.need] == bytes(4)
        if server == side.to_daemon:
            side.turn()
        size = first + ADDR_SIZE if server else first
        side.need = size
        if len(data) < size:
            return at
        self._addrs[side] = data[BANNER_SIZE:first]
        side.read = partial(self._read_replies if server else self._read_connects, side)
        return size

    def _read_connects(self, side: Side, data: bytes, at: int, ns: int) -> int:
        read = side.read
        while self._connect is None:
            side.need = CONNECT_SIZE
            if len(data) - at < side.need:
                return at
            connect = connects.decode(data[at : at + CONNECT_SIZE])
            if connect.authorizer_len > MAX_AUTHORIZER:
                return side.stray(at, ns, f"a connect with an authorizer of {connect.authorizer_len} bytes")
            side.need += connect.authorizer_len
            if len(data) - at < side.need:
                return at
            at += side.need
            self._connect = connect
            flow = self._both.flow
            flow.daemon_type = DAEMONS.get(connect.protocol_version, flow.daemon_type)
            if connect.host_type == EntityType.CLIENT and connect.authorizer_protocol == AuthMethod.CEPHX:
                # On a session that is resumed the client may have nothing more to say, and so not name itself again.
                with suppress(MalformedMessage):
                    flow.client_id = authorizers.decode(data[at - connect.authorizer_len : at]).global_id
            side.other.wake(ns)
            if side.read is not read:
                return at
        return self._await_other(side, data, at, ns)

    def _read_replies(self, side: Side, data: bytes, at: int, ns: int) -> int:
        read = side.read
        while (connect := self._connect) is not None:
            side.need = REPLY_SIZE
            if len(data) - at < side.need:
                return at
            reply = replies.decode(data[at : at + REPLY_SIZE])
            if reply.authorizer_len > MAX_AUTHORIZER:
                return side.stray(at, ns, f"a connect reply with an authorizer of {reply.authorizer_len} bytes")
            side.need += reply.authorizer_len
            if len(data) - at < side.need:
                return at
            at += side.need
            self._connect = None
            if reply.tag in (MsgrTag.READY, MsgrTag.SEQ):
                self._opened(connect, reply, side)
            side.other.wake(ns)
            if side.read is not read:
                return at
        return self._await_other(side, data, at, ns)

    def _await_other(self, side: Side, data: bytes, at: int, ns: int) -> int:
        """What is next depends on what the other side says, which may have been captured late."""
        side.need = MAX_AUTHORIZER  # before that, the other side wakes this one
        if len(data) - at >= side.need:
            side.lose(ns)
        return at

    def _opened(self, connect: MsgConnect, reply: MsgConnectReply, server: Side) -> None:
        client = server.other
        signed = has_feature(connect.features & reply.features, MSG_AUTH)
        self._both.footer, self._both.agreed = FOOTER_SIZE if signed else OLD_FOOTER_SIZE, True
        if self._sessions is not None and len(self._addrs) == 2:
            ends = self._addrs[client], self._addrs[server]
            if connect.connect_seq:
                client.carried, server.carried = self._sessions.resume(*ends, self._both.flow)
                if self._both.flow.client_id is None:  # the daemon may be the first to say something
                    self._both.flow.client_id = client.carried.client_id
            else:
                client.carried, server.carried = self._sessions.begin(*ends)
        for side in (client, server):
            side.handshaking = False
            side.read = side.seq if reply.tag == MsgrTag.SEQ else side.messages
