"""A connection of messenger v1 to a monitor, which lets anybody in and authenticates in messages.

Sources: ceph: src/mon/MonClient.cc (``MonConnection::_init_auth``, ``handle_auth``), src/mon/AuthMonitor.cc
(``prep_auth``).
"""

from __future__ import annotations

from cephcaps.auth.authenticator import Authenticator
from cephcaps.errors import AuthError, ProtocolViolation
from cephcaps.messenger.connection import Owner, Phase
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1 import ConnectionV1
from cephwire.cephx import MON_AUTH_OFFER, MON_AUTH_REQUEST, MonAuthOffer, MonAuthRequest
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod, ConMode
from cephwire.entity import EntityAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.mon_messages import AUTH_REPLY, MAuth, MAuthReply, PaxosHeader

__all__ = ["MonConnectionV1"]

NO_METHOD = 0
"""Of the first MAuth, which offers some."""

requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)
offers: Codec[MonAuthOffer] = Codec(MON_AUTH_OFFER)


class MonConnectionV1(ConnectionV1):
    """A connection to a monitor; ready when it has authenticated us."""

    def __init__(
        self, owner: Owner, instance: Instance, login: Authenticator, target: EntityAddr, global_id: int, link: Link
    ) -> None:
        super().__init__(owner, instance, None, EntityType.MON, target, global_id, link)
        self._login = login
        self._offered = NO_METHOD
        self._proven = False

    def _opened(self) -> None:
        self.phase = Phase.AUTH
        self._offer(*self._login.request())

    def _offer(self, method: AuthMethod, payload: bytes) -> None:
        """Say what messenger v2's first request says."""
        self._offered, self._proven = method, False
        who = requests.decode(payload)
        self._ask(NO_METHOD, offers.encode(MonAuthOffer((method,), who.name, who.global_id)))

    def _ask(self, method: int, payload: bytes) -> None:
        self.carry(self.link.number(MAuth(PaxosHeader(), method, payload, 0), 0, None))

    def _take(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        if self.phase is not Phase.AUTH:
            super()._take(header, front, middle, data)
            return
        self.link.in_seq = header.seq
        # What else a monitor says to a stranger is left out: all that is wanted of it is asked for afterwards.
        if header.type == AUTH_REPLY.number:
            self._replied(AUTH_REPLY.decode(front, version=header.version, compat=header.compat_version))

    def _replied(self, reply: MAuthReply) -> None:
        if reply.result:
            self._offer(*self._login.refused(AuthBadMethod(self._offered, reply.result, (), ())))
            return
        if reply.protocol != self._offered:
            raise AuthError(f"it chose method {reply.protocol}; offered was {AuthMethod(self._offered).name.lower()}")
        if reply.global_id >> 63:
            raise ProtocolViolation(f"{self.who} gave us the global id {reply.global_id}, over 63 bits")
        if self._offered == AuthMethod.CEPHX and not self._proven:
            self._proven = True
            self._ask(self._offered, self._login.more(reply.result_bl))
            return
        self._login.done(AuthDone(reply.global_id, ConMode.CRC, reply.result_bl), self._now)
        self.global_id: int = reply.global_id
        self._begin(self._now)
