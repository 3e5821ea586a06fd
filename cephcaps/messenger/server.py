"""What connections from the daemon's side ask of the daemon, whatever messenger they speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from cephcaps.auth.authenticator import Secrets
from cephcaps.messenger.link import Link
from cephwire.control import AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, ConMode
from cephwire.entity import AnyAddrs, EntityAddr, EntityType

if TYPE_CHECKING:
    from cephcaps.messenger.server_v1 import ServerConnectionV1
    from cephcaps.messenger.server_v2 import ServerConnectionV2

__all__ = ["Host", "Login", "ServerConnection"]

ServerConnection: TypeAlias = "ServerConnectionV1 | ServerConnectionV2"


class Login(Protocol):
    """How a daemon authenticates one connection.

    Attributes:
        secrets: what both ends share, once ``request`` or ``more`` has returned AuthDone.
        name: who the client says it is, such as client.admin.
    """

    secrets: Secrets
    name: str

    def request(self, frame: AuthRequest, mode: ConMode) -> AuthReplyMore | AuthDone | AuthBadMethod: ...

    def more(self, frame: AuthRequestMore) -> AuthReplyMore | AuthDone | AuthBadMethod: ...


class Host(Protocol):
    """The daemon that connections come to.

    Attributes:
        kind: what it is.
        num: its number, such as a rank.
        lossy: it forgets a client with its connection.
        addrs: its addresses, nonces and all, one for each messenger it speaks.
        con_modes: protections it allows.
    """

    kind: EntityType
    num: int
    lossy: bool
    addrs: tuple[EntityAddr, ...]
    con_modes: tuple[ConMode, ...]

    def login(self) -> Login:
        """The check of a new connection."""

    def begun(self, connection: ServerConnection, addrs: AnyAddrs, cookie: int, now: float) -> Link:
        """The link of the session that a client begins; whatever it had under the same address is over."""

    def kept(self, connection: ServerConnection, addrs: AnyAddrs, cookie: int) -> Link | None:
        """The link of the session that a client resumes, taken from its former connection; None if none is kept."""
