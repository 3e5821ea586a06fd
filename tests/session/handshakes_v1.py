"""Both ends of one connection over messenger v1, made the same way every time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from cephcaps.auth.cephx import CephxAuthorizer
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1 import ConnectionV1
from cephcaps.messenger.v1_mon import MonConnectionV1
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.keys import CryptoType
from cephwire.legacy import MsgConnect, MsgConnectReply, MsgrTag
from cephwire.mon_messages import MConfig
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import COOKIE, NONCE, PAIRS, Pair
from tests.session.peers import flushed
from tests.session.peers_v1 import PeerV1

RENEW = ClientSession(SessionOp.RENEWCAPS, 5)


class Legacy(Pair):
    """Both ends of a connection over messenger v1."""

    client: Any
    server: Any

    def again(self) -> Legacy:
        """The next connection of the same session."""
        return connected(self, self.client._instance, self.client.link, self.server.keeps)


def connected(pair: Pair, instance: Instance, link: Link, keeps: dict[int, Any]) -> Legacy:
    old, kind = pair.server, pair.server.kind
    addr = EntityAddr(AddrType.LEGACY, old.addr.nonce, old.addr.sockaddr)
    server = PeerV1(kind, addr, old.login, ())
    server.keeps = keeps
    gid = pair.tickets.global_id
    client: ConnectionV1
    if kind is EntityType.MON:
        login = getattr(pair.client, "_login", None) or pair.client._authenticator  # type: ignore[attr-defined]
        client = MonConnectionV1(pair.owner, instance, login, addr, gid, link)
    else:
        authenticator = pair.client._authenticator  # type: ignore[attr-defined]
        if isinstance(authenticator, CephxAuthorizer):
            authenticator = CephxAuthorizer(pair.tickets, kind, pair.tickets.held[kind])
        client = ConnectionV1(pair.owner, instance, authenticator, kind, addr, gid, link)
    return Legacy(client, server, pair.owner, pair.tickets, pair.keys)  # type: ignore[arg-type]


def legacy(kind: EntityType, type: CryptoType | None = CryptoType.AES) -> Legacy:
    pair = PAIRS[kind](type=type)
    return connected(pair, Instance(NONCE, AddrType.LEGACY), Link(COOKIE if kind is EntityType.MDS else 0), {})


def say(pair: Pair, *messages: Any) -> None:
    for message in messages:
        pair.server.send(message, version=1)
    pair.receive()


def hear(pair: Pair) -> None:
    """The daemon reads what the client has written since."""
    pair.server.receive(flushed(pair.client.out))


@cache
def recorded(kind: EntityType, type: CryptoType) -> bytes:
    """All a daemon says to `legacy`'s client until the connection is made, and two messages."""
    pair = legacy(kind, type).meet()
    say(pair, MConfig({"a": "b"}), RENEW)
    return bytes(pair.server.sent)


def twisted(*tags: MsgrTag | int, **values: int) -> Callable[[Legacy], None]:
    """The daemon answers the first connects with these, as often as there are tags."""

    def change(pair: Legacy) -> None:
        left = list(tags)

        def twist(connect: MsgConnect, reply: MsgConnectReply, proof: bytes) -> tuple[MsgConnectReply, bytes]:
            if not left or reply.tag == MsgrTag.CHALLENGE_AUTHORIZER:
                return reply, proof
            size = values.get("authorizer_len", len(proof))
            said = pair.server.reply(left.pop(0), size=size)
            changed = {name: getattr(said, name) for name in said.__struct_fields__} | values
            return MsgConnectReply(**changed), proof[:size]

        pair.server.twist = twist

    return change
