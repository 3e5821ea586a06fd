"""Who talks over a messenger v2 connection and in which session, as its frames and messages tell."""

from __future__ import annotations

from typing import Any, Final

from cephcaps.trace.ends import daemon_type, sent_by_client
from cephcaps.trace.items import Flow
from cephcaps.trace.sessions import Session, Sessions
from cephcaps.trace.v2_side import Side
from cephwire.control import (
    IDENT_LOSSY,
    ClientIdent,
    Hello,
    ServerIdent,
    SessionReconnect,
    SessionReconnectOk,
    SessionReset,
)
from cephwire.entity import AnyAddrs, EntityType
from cephwire.frames import Tag
from cephwire.mon_messages import MAuthReply

__all__ = ["Parties"]

FROM_CLIENT: Final = frozenset(
    (Tag.AUTH_REQUEST, Tag.AUTH_REQUEST_MORE, Tag.CLIENT_IDENT, Tag.SESSION_RECONNECT, Tag.COMPRESSION_REQUEST)
)
FROM_EITHER: Final = frozenset((Tag.HELLO, Tag.AUTH_SIGNATURE))


class Parties:
    """Notes in the flow what becomes known of its ends.

    Attributes:
        known: which end is which, what the daemon is, and the session as far as it can be.
        newest: highest sequence number of a message that the session carried to the client, and to the daemon.
    """

    def __init__(self, flow: Flow, sides: tuple[Side, Side], sessions: Sessions) -> None:
        self.known: bool = False
        self.session: Session = Session()
        self.newest: list[int] = self.session.newest
        self._flow = flow
        self._sides = sides
        self._sessions = sessions
        self._oriented = False
        self._ident: tuple[AnyAddrs, int] | None = None  # the client's addresses and cookie

    def frame(self, side: Side, tag: int, payload: Any) -> None:
        """What a control frame tells."""
        if tag not in FROM_EITHER:
            self._orient(side, tag in FROM_CLIENT)
        flow, ident = self._flow, self._ident
        match payload:
            case Hello():
                self._hello(side, payload.entity_type)
            case ClientIdent():
                self._ident = payload.addrs, payload.cookie
                self.client(payload.gid)
            case SessionReconnect():
                self._ident = payload.addrs, payload.client_cookie
            case ServerIdent():
                session = Session()
                if ident is not None and not payload.flags & IDENT_LOSSY:
                    session = self._sessions.opened(*ident, flow.daemon, payload.cookie)
                session.daemon_num = payload.gid if payload.gid >= 0 else None
                self._carry(session)
            case SessionReconnectOk() if ident is not None:
                self._carry(self._sessions.resumed(*ident, flow.client, flow.daemon))
            case SessionReset() if ident is not None:
                self._sessions.reset(*ident, flow.daemon)

    def message(self, side: Side, type: int, message: Any) -> None:
        """What a message tells, while not all is known."""
        flow = self._flow
        sender = sent_by_client(type, message)
        if sender is not None:
            self._orient(side, sender)
        if flow.daemon_type is None:
            flow.daemon_type = daemon_type(type)
        if isinstance(message, MAuthReply):
            self.client(message.global_id)
        if self._settled() and self._ident is None:
            self._sessions.joined(flow.client, flow.daemon, self.session)

    def client(self, global_id: int) -> None:
        """The client's id. Daemons that connect have such ids too, but go by other names."""
        sender = next(side for side in self._sides if side.to_daemon)
        if global_id > 0 and sender.entity_type in (None, EntityType.CLIENT):
            self._flow.client_id = global_id

    def _hello(self, side: Side, entity_type: int) -> None:
        side.entity_type = entity_type
        if entity_type == EntityType.CLIENT:
            self._orient(side, True)
        for each in self._sides:
            if not each.to_daemon and each.entity_type is not None:
                self._flow.daemon_type = each.entity_type

    def _orient(self, side: Side, client: bool) -> None:
        """``side`` is what the client sends, or else the daemon."""
        if self._oriented:
            return
        self._oriented = True
        if side.to_daemon == client:
            return
        flow = self._flow
        flow.client, flow.daemon = flow.daemon, flow.client
        for each in self._sides:
            each.to_daemon = not each.to_daemon
        self.newest.reverse()

    def _carry(self, session: Session) -> None:
        """The messages are those of ``session`` from here on."""
        self.session = session
        self.newest = session.newest
        if session.daemon_num is not None:
            self._flow.daemon_num = session.daemon_num
        self._settled()

    def _settled(self) -> bool:
        self.known = self._oriented and self._flow.daemon_type is not None
        return self.known
