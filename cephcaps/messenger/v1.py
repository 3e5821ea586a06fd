"""One connection of messenger v1 from the client's side: handshake, then messages.

Nothing is ever encrypted. What an MDS and we say is signed with the session key of our ticket for it; what a monitor
and we say is not. Sources: ceph: src/msg/async/ProtocolV1.cc, src/auth/cephx/CephxSessionHandler.cc; kernel:
net/ceph/messenger_v1.c.
"""

from __future__ import annotations

from collections.abc import Generator

from cephcaps.auth.authenticator import Authenticator
from cephcaps.errors import ConnectionFailed, ProtocolViolation
from cephcaps.messenger.connection import Owner, Phase
from cephcaps.messenger.framing import MAX_HANDSHAKE_FRAME
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1_stream import SEQ_SIZE, StreamV1, acks
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, ConMode
from cephwire.entity import EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import CEPHX_V2, CLIENT_FEATURES, MSG_AUTH, REQUIRED_FEATURES, bit_list
from cephwire.frames import BANNER_PREFIX
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

__all__ = ["ConnectionV1"]

EACCES = 13
BANNER_SIZE = len(LEGACY_BANNER)
ADDRS_SIZE = 272
REPLY_SIZE = 26
UNNAMED = -1
"""The number of a client to which no monitor has given one yet."""
MAX_CONNECTS = 20
"""How often one connection asks; a session is resumed with four, when it is told of both its numbers and challenged."""
MAX_SEQ = 1 << 31
"""Of connections made; higher ones would soon not fit their 32 bits, and nobody makes that many."""

server_banners: Codec[ServerBanner] = Codec(SERVER_BANNER)
client_banners: Codec[ClientBanner] = Codec(CLIENT_BANNER)
connects: Codec[MsgConnect] = Codec(MSG_CONNECT)
replies: Codec[MsgConnectReply] = Codec(MSG_CONNECT_REPLY)


class ConnectionV1(StreamV1):
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

    @property
    def source(self) -> EntityNum:
        return EntityNum(EntityType.CLIENT, self.global_id or UNNAMED)

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
        yield from self._messages()

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
        self.addr: EntityAddr | None = self._instance.address(banner.peer_addr.modern().host or "0.0.0.0")
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
