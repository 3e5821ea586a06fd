"""What the messenger asks of whoever authenticates a connection."""

from __future__ import annotations

from typing import ClassVar, Protocol

from cephcaps.auth.crypto import CryptoKey
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod
from cephwire.keys import ConnectionSecret, Guarded

__all__ = ["NO_SECRETS", "Authenticator", "Secrets"]


class Secrets(Guarded, frozen=True):
    """What both ends share once authenticated.

    Attributes:
        session_key: signs the handshake, in messenger v1 every message; None under method NONE, which signs nothing.
        connection_secret: keys secure mode; None in crc mode.
    """

    secrets: ClassVar[frozenset[str]] = frozenset({"session_key"})

    session_key: CryptoKey | None
    connection_secret: ConnectionSecret | None


NO_SECRETS = Secrets(None, None)


class Authenticator(Protocol):
    """One connection's authentication, from our side; made anew for each connection."""

    def request(self) -> tuple[AuthMethod, bytes]:
        """The first method to try and its payload."""

    def more(self, payload: bytes) -> bytes:
        """The answer to what the server asked.

        Raises:
            MalformedMessage, AuthError: no answer is possible.
        """

    def refused(self, answer: AuthBadMethod) -> tuple[AuthMethod, bytes]:
        """The next method to try and its payload.

        Raises:
            AuthError: there is none.
        """

    def done(self, answer: AuthDone, now: float) -> Secrets:
        """What the server's last word brings.

        Raises:
            MalformedMessage, AuthError: the server has not proved that it knows the secret it should.
        """
