"""What opens captured connections in secure mode: a keyring, and what can be read with it of the handshakes captured.

A client's login at a monitor, read with the client's key, gives its AUTH session key; that one gives the session keys
of the tickets handed out then and later; and those give the secrets of the connections where the tickets are shown. At
every step cephx's envelope tells whether the key was the right one. A ticket's other part, which is for the service,
is not needed: whose ticket it is and for which service stands beside it in clear. Sources: as `cephcaps.auth.cephx`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cephcaps.auth.crypto import CryptoError, CryptoKey
from cephwire.cephx import (
    AUTH_MODE_MON,
    AUTHENTICATE_REPLY,
    AUTHORIZER,
    AUTHORIZER_PROOF,
    AUTHORIZER_REPLY,
    CEPHX_RESPONSE,
    MON_AUTH_REQUEST,
    SEALED_CONNECTION_SECRET,
    SERVICE_KEY,
    TICKET_LIST,
    AuthenticateReply,
    Authorizer,
    AuthorizerProof,
    AuthorizerReply,
    CephxResponse,
    MonAuthRequest,
    RequestType,
    SealedConnectionSecret,
    ServiceKey,
    TicketList,
)
from cephwire.codec import Codec
from cephwire.control import AuthDone, AuthMethod, AuthRequest
from cephwire.entity import EntityName, EntityType
from cephwire.errors import CephError, MalformedMessage
from cephwire.keys import ConnectionSecret, KeyUsage

__all__ = ["Login", "NotOpened", "Secrets", "TicketUnknown", "Waiting"]

U64 = 1 << 64
MAX_KEYS = 8
"""Session keys kept of one client for one service, the newest: a ticket lasts an hour, what it opened may be read
late."""
MAX_CLIENTS = 20_000
"""Clients, times services, whose keys are kept."""
MAX_HELD = 16 << 20
"""Bytes of memory for connections whose ticket is not known yet."""
STREAM_COST = 4096
"""Bytes that a waiting connection takes besides what it holds."""

mon_auth_requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)
responses: Codec[CephxResponse] = Codec(CEPHX_RESPONSE)
authenticate_replies: Codec[AuthenticateReply] = Codec(AUTHENTICATE_REPLY)
ticket_lists: Codec[TicketList] = Codec(TICKET_LIST)
service_keys: Codec[ServiceKey] = Codec(SERVICE_KEY)
sealed_secrets: Codec[SealedConnectionSecret] = Codec(SEALED_CONNECTION_SECRET)
authorizers: Codec[Authorizer] = Codec(AUTHORIZER)
proofs: Codec[AuthorizerProof] = Codec(AUTHORIZER_PROOF)
authorizer_replies: Codec[AuthorizerReply] = Codec(AUTHORIZER_REPLY)


class NotOpened(CephError):
    """A handshake does not give its secret; says why, and what would help."""


class TicketUnknown(NotOpened):
    """No handshake read so far handed out the ticket that was shown; a later one may yet.

    Attributes:
        global_id, service: whose and for what the ticket is.
    """

    def __init__(self, global_id: int, service: int) -> None:
        super().__init__(
            f"the login that gave client {global_id} its ticket for this service is not in the capture, or its key not "
            "in the keyring; what helps is a capture that begins before the client mounts and holds its connections "
            "to the monitors too"
        )
        self.global_id = global_id
        self.service = service


class Waiting(Protocol):
    """A connection that needs a ticket's session key."""

    def retry(self) -> None:
        """The key may be known now."""

    def give_up(self) -> None:
        """Nobody waits any longer."""


class Secrets:
    """The keys known to the reader of one trace."""

    def __init__(self, keyring: Mapping[str, CryptoKey] | None = None) -> None:
        self._keyring = keyring
        self._session_keys: dict[tuple[int, int], list[CryptoKey]] = {}
        self._waiting: dict[Waiting, tuple[int, int]] = {}
        self._held = 0

    def __repr__(self) -> str:
        return f"<Secrets of {len(self._session_keys)} tickets>"

    @property
    def has_keyring(self) -> bool:
        return self._keyring is not None

    def key(self, name: EntityName) -> CryptoKey:
        """The key of ``name``."""
        found = self._keyring.get(str(name)) if self._keyring is not None else None
        if found is None:
            raise NotOpened(f"the keyring has no key of {name}")
        return found

    def session_keys(self, global_id: int, service: int) -> list[CryptoKey]:
        """Those of the tickets that a client was given for a service, the newest first."""
        return self._session_keys.get((global_id, service), [])

    def learn(self, global_id: int, service: int, key: CryptoKey) -> None:
        """A client was given a ticket."""
        whose = global_id, service
        known = [key, *(other for other in self._session_keys.pop(whose, ()) if other != key)]
        if len(self._session_keys) >= MAX_CLIENTS:
            del self._session_keys[next(iter(self._session_keys))]
        self._session_keys[whose] = known[:MAX_KEYS]
        for stream in [stream for stream, wanted in self._waiting.items() if wanted == whose]:
            stream.retry()

    def answered(self, payload: bytes, key: CryptoKey, global_id: int) -> ConnectionSecret | None:
        """Learn from a monitor's answer to the client whose ``key`` this is; the secret it gives the connection.

        Raises:
            CryptoError: sealed with other keys.
            MalformedMessage: no such answer.
        """
        response = responses.decode(payload)
        if response.status:
            return None
        if response.request_type == RequestType.GET_PRINCIPAL_SESSION_KEY:
            granted = ticket_lists.decode(response.body)
            for session_key in self.session_keys(global_id, EntityType.AUTH):
                try:
                    self._take(granted, session_key, global_id)
                except CryptoError:
                    continue
                return None
            raise CryptoError("tickets sealed with an unknown AUTH session key")
        if response.request_type != RequestType.GET_AUTH_SESSION_KEY:
            return None
        reply = authenticate_replies.decode(response.body)
        self._take(reply.auth, key, global_id)
        session_key = self.session_keys(global_id, EntityType.AUTH)[0]
        if reply.extra is not None:
            self._take(reply.extra, session_key, global_id)
        if not reply.sealed_secret:
            return None
        secret = session_key.unseal(KeyUsage.MON_CONNECTION_SECRET, reply.sealed_secret)
        return sealed_secrets.decode(secret).connection_secret

    def renewed(self, payload: bytes, name: EntityName | None, global_id: int) -> None:
        """Learn, if possible, from an answer inside an open connection; ``name`` is None where its login was missed."""
        keyring = self._keyring or {}
        for key in keyring.values() if name is None else filter(None, [keyring.get(str(name))]):
            try:
                self.answered(payload, key, global_id)
            except (CryptoError, MalformedMessage):
                continue
            return

    def _take(self, granted: TicketList, key: CryptoKey, global_id: int) -> None:
        if not granted.tickets:
            raise CryptoError("no ticket to tell the key by")
        for ticket in granted.tickets:
            mine = service_keys.decode(key.unseal(KeyUsage.SERVICE_KEY, ticket.sealed_key))
            self.learn(global_id, ticket.service, CryptoKey.from_wire(mine.session_key))

    # Connections whose ticket is not known yet

    def wait(self, stream: Waiting, unknown: TicketUnknown, size: int) -> None:
        """Let ``stream``, which keeps ``size`` bytes, know of every ticket of that client for that service."""
        self._waiting[stream] = unknown.global_id, unknown.service
        self.hold(size + STREAM_COST)

    def hold(self, size: int) -> None:
        """A waiting stream keeps so many bytes more; those that have waited longest may have to go."""
        self._held += size
        while self._held > MAX_HELD and self._waiting:
            next(iter(self._waiting)).give_up()

    def stop(self, stream: Waiting, size: int) -> None:
        """``stream`` waits no longer and keeps nothing of its ``size`` bytes."""
        if self._waiting.pop(stream, None) is not None:
            self._held -= size + STREAM_COST

    def finish(self) -> None:
        """The trace is at its end."""
        for stream in list(self._waiting):
            stream.give_up()


class Login:
    """How one connection was authenticated, as far as it was overheard.

    Attributes:
        name: who logged in, at a monitor.
    """

    def __init__(self, secrets: Secrets) -> None:
        self.name: EntityName | None = None
        self._secrets = secrets
        self._method: int | None = None
        self._authorizer: Authorizer | None = None

    def asked(self, frame: AuthRequest) -> None:
        """The client begins, or begins again."""
        self.name = self._authorizer = None
        self._method = frame.method
        try:
            if frame.payload[:1] == bytes((AUTH_MODE_MON,)):
                self.name = mon_auth_requests.decode(frame.payload).name
            elif frame.method == AuthMethod.CEPHX:
                self._authorizer = authorizers.decode(frame.payload)
        except MalformedMessage:
            pass  # `secret` will say that it has no handshake

    def secret(self, done: AuthDone) -> ConnectionSecret | None:
        """What keys the connection, None in crc mode. Learns of the tickets that a monitor hands out.

        Raises:
            NotOpened: it cannot be told.
        """
        if not self._secrets.has_keyring:
            whose = "the client's key" if self.name is None else f"the key of {self.name}"
            raise NotOpened(f"no keyring was given; --keyring FILE with {whose} would open it")
        try:
            if self._authorizer is not None:
                return self._shown(self._authorizer, done)
            if self._method is None or self.name is None:
                raise NotOpened("its handshake is not whole in the capture")
            if self._method != AuthMethod.CEPHX:
                raise NotOpened(f"it was authenticated by method {self._method}, which is not read here")
            return self._secrets.answered(done.payload, self._secrets.key(self.name), done.global_id)
        except CryptoError:
            raise NotOpened(
                f"the key that the keyring has of {self.name} is not the one used: was it changed since, or is it of "
                "another cluster?"
            ) from None
        except MalformedMessage as error:
            raise NotOpened(f"its handshake cannot be read: {error}") from None

    def _shown(self, authorizer: Authorizer, done: AuthDone) -> ConnectionSecret | None:
        """The secret that a service gives to whom can read its answer."""
        for key in self._secrets.session_keys(authorizer.global_id, authorizer.service):
            try:
                proof = proofs.decode(key.unseal(KeyUsage.AUTHORIZER, authorizer.sealed_proof))
                reply = authorizer_replies.decode(key.unseal_prefixed(KeyUsage.AUTHORIZER_REPLY, done.payload))
            except CryptoError:
                continue
            if reply.nonce_plus_one == (proof.nonce + 1) % U64:
                return reply.connection_secret
        raise TicketUnknown(authorizer.global_id, authorizer.service)
