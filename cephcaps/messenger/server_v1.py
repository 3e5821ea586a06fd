"""One connection of messenger v1 from a daemon's side: handshake, then messages. The client's is in `v1`.

A service checks the client's ticket in the handshake and signs what it says with the session key from there on. A
monitor lets anybody in; who has not logged in with MAuth by then is for the monitor to turn away. Sources:
ceph: src/msg/async/ProtocolV1.cc (``handle_connect_message_2``, ``open``), src/mon/AuthMonitor.cc (``prep_auth``).
"""

from __future__ import annotations

from collections.abc import Generator

from cephcaps.errors import ConnectionFailed
from cephcaps.messenger.connection import Owner, Phase
from cephcaps.messenger.framing import MAX_HANDSHAKE_FRAME
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.server import Host, Login
from cephcaps.messenger.v1_stream import SEQ_SIZE, StreamV1, acks
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthReplyMore, AuthRequest, ConMode
from cephwire.entity import AddrType, EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import CLIENT_FEATURES, REQUIRED_FEATURES
from cephwire.legacy import (
    CLIENT_BANNER,
    CONNECT_LOSSY,
    LEGACY_BANNER,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    SERVER_BANNER,
    ClientBanner,
    MsgAck,
    MsgConnect,
    MsgConnectReply,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)

__all__ = ["ServerConnectionV1"]

ADDR_SIZE = 136
CONNECT_SIZE = 33
PROTOCOLS = {EntityType.MON: MsgrProtocol.MON, EntityType.MDS: MsgrProtocol.MDS}
MAX_CONNECTS = 20
"""How often a client may ask on one connection."""

server_banners: Codec[ServerBanner] = Codec(SERVER_BANNER)
client_banners: Codec[ClientBanner] = Codec(CLIENT_BANNER)
connects: Codec[MsgConnect] = Codec(MSG_CONNECT)
replies: Codec[MsgConnectReply] = Codec(MSG_CONNECT_REPLY)


class ServerConnectionV1(StreamV1):
    """A connection that a client has made.

    Args:
        addr: the daemon's, to which it was made; ``peer`` where the client's socket is.

    Attributes:
        login: who the client is, and what it proved.
    """

    def __init__(self, owner: Owner, host: Host, addr: EntityAddr, peer: EntityAddr) -> None:
        super().__init__(owner, Instance(addr.nonce, AddrType.LEGACY), EntityType.CLIENT, peer, 0, Link(0))
        self.login: Login = host.login()
        self._host = host
        self.out.append(server_banners.encode(ServerBanner(addr.legacy(), peer.legacy())))

    @property
    def source(self) -> EntityNum:
        return EntityNum(self._host.kind, self._host.num)

    def _read(self) -> Generator[int, bytes, None]:
        banner = yield len(LEGACY_BANNER)
        if banner != LEGACY_BANNER:
            raise ConnectionFailed(f"{self.target} is no client of messenger v1: it began with {banner!r}")
        self._introduced(client_banners.decode(banner + (yield ADDR_SIZE)))
        for _ in range(MAX_CONNECTS):
            connect = connects.decode((yield CONNECT_SIZE))
            if connect.authorizer_len > MAX_HANDSHAKE_FRAME:
                raise MalformedMessage(
                    f"MsgConnect.authorizer_len at byte 28: {connect.authorizer_len}, over {MAX_HANDSHAKE_FRAME}"
                )
            if self._connecting(connect, (yield connect.authorizer_len)):
                break
        else:
            raise ConnectionFailed(f"{self.who} has asked {MAX_CONNECTS} times to connect")
        self._take_ack(acks.decode((yield SEQ_SIZE)).seq)
        self._begin(self._now)
        yield from self._messages()

    def _introduced(self, banner: ClientBanner) -> None:
        """Who does not know its own IP is where its socket is."""
        named = banner.addr.modern()
        host = named.host if named.ip is not None and not named.ip.is_unspecified else self.target.host
        self.addr: EntityAddr | None = EntityAddr.make(AddrType.LEGACY, host or "0.0.0.0", named.port, named.nonce)
        self.phase = Phase.CONNECT

    def _connecting(self, connect: MsgConnect, authorizer: bytes) -> bool:
        """Answer a connect; True if that opens the session."""
        proof = b""
        if connect.protocol_version != PROTOCOLS[self._host.kind]:
            self._reply(MsgrTag.BADPROTOVER)
            return False
        if missing := REQUIRED_FEATURES & ~connect.features:
            self._reply(MsgrTag.FEATURES, features=missing)
            return False
        if self._host.kind is not EntityType.MON:
            frame = AuthRequest(connect.authorizer_protocol, (ConMode.CRC,), authorizer)
            answer = self.login.request(frame, ConMode.CRC)
            if isinstance(answer, AuthBadMethod):
                self._reply(MsgrTag.BADAUTHORIZER)
                return False
            proof = answer.payload
            if isinstance(answer, AuthReplyMore):
                self._reply(MsgrTag.CHALLENGE_AUTHORIZER, payload=proof)
                return False
            self.global_id: int = answer.global_id
        return self._settle(connect, proof)

    def _settle(self, connect: MsgConnect, proof: bytes) -> bool:
        """Begin a session, or go on with the one that is kept for this address."""
        assert self.addr is not None
        if connect.connect_seq:
            link = self._host.kept(self, self.addr, 0)
            if link is None:
                self._reply(MsgrTag.RESETSESSION, payload=proof)
                return False
            if connect.connect_seq <= link.connect_seq:
                self._reply(MsgrTag.RETRY_SESSION, payload=proof, connect_seq=link.connect_seq + 1)
                return False
        else:
            link = self._host.begun(self, self.addr, 0, self._now)
        self.link = link
        link.connect_seq = connect.connect_seq + 1
        link.peer_features = connect.features & CLIENT_FEATURES
        self._session_key = self.login.secrets.session_key if proof else None
        self._reply(MsgrTag.SEQ, payload=proof, connect_seq=link.connect_seq, global_seq=connect.global_seq)
        self.out.append(acks.encode(MsgAck(link.in_seq)))
        return True

    def _reply(
        self,
        tag: MsgrTag,
        *,
        features: int = CLIENT_FEATURES,
        connect_seq: int = 0,
        global_seq: int = 0,
        payload: bytes = b"",
    ) -> None:
        flags = CONNECT_LOSSY if self._host.lossy else 0
        protocol = PROTOCOLS[self._host.kind]
        reply = MsgConnectReply(tag, features, global_seq, connect_seq, protocol, len(payload), flags)
        self.out.append(replies.encode(reply) + payload)
