"""cephx from the client's side: proving a key to a monitor, tickets, proving a ticket to a service.

Sources: ceph: src/auth/cephx/CephxClientHandler.cc, CephxProtocol.cc; doc/dev/cephx_protocol.rst.
"""

from __future__ import annotations

from typing import ClassVar

from cephcaps.auth.authenticator import Secrets
from cephcaps.auth.crypto import CryptoError, CryptoKey, Entropy
from cephcaps.errors import AuthError
from cephwire.cephx import (
    AUTHENTICATE_REPLY,
    AUTHORIZER,
    AUTHORIZER_CHALLENGE,
    AUTHORIZER_PROOF,
    AUTHORIZER_REPLY,
    CEPHX_REQUEST,
    CEPHX_RESPONSE,
    MON_AUTH_REQUEST,
    SEALED_CONNECTION_SECRET,
    SEALED_TICKET_BLOB,
    SERVER_CHALLENGE,
    SERVICE_KEY,
    TICKET_LIST,
    Authenticate,
    AuthenticateReply,
    Authorizer,
    AuthorizerChallenge,
    AuthorizerProof,
    AuthorizerReply,
    CephxRequest,
    CephxResponse,
    GetPrincipalSessionKey,
    MonAuthRequest,
    RequestType,
    SealedConnectionSecret,
    SealedTicketBlob,
    ServerChallenge,
    ServiceKey,
    TicketBlob,
    TicketList,
)
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod
from cephwire.entity import EntityName, EntityType
from cephwire.errors import MalformedMessage
from cephwire.keys import ConnectionSecret, Guarded, KeyUsage

__all__ = ["CephxAuthorizer", "CephxLogin", "LoginRefused", "Ticket", "TicketRefused", "Tickets"]

NSEC = 1_000_000_000
EACCES = 13
U64 = 1 << 64
NO_TICKET = TicketBlob(0, b"")

SERVICES = EntityType.MON | EntityType.MDS | EntityType.OSD | EntityType.MGR
"""Services we ask tickets for along with AUTH. CLIENT among them makes monitors send a list with a wrong count."""

RENEW_FRACTION = 4
"""Renew when a quarter of the validity is left (ceph: ``CephXTicketHandler::need_key``)."""

AUTHENTICATE_V = 3
"""Version of `Authenticate` we send: asks for further tickets and for a connection secret."""

mon_auth_requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)
server_challenges: Codec[ServerChallenge] = Codec(SERVER_CHALLENGE)
requests: Codec[CephxRequest] = Codec(CEPHX_REQUEST)
responses: Codec[CephxResponse] = Codec(CEPHX_RESPONSE)
authenticate_replies: Codec[AuthenticateReply] = Codec(AUTHENTICATE_REPLY)
ticket_lists: Codec[TicketList] = Codec(TICKET_LIST)
service_keys: Codec[ServiceKey] = Codec(SERVICE_KEY)
sealed_blobs: Codec[SealedTicketBlob] = Codec(SEALED_TICKET_BLOB)
sealed_secrets: Codec[SealedConnectionSecret] = Codec(SEALED_CONNECTION_SECRET)
authorizers: Codec[Authorizer] = Codec(AUTHORIZER)
proofs: Codec[AuthorizerProof] = Codec(AUTHORIZER_PROOF)
challenges: Codec[AuthorizerChallenge] = Codec(AUTHORIZER_CHALLENGE)
authorizer_replies: Codec[AuthorizerReply] = Codec(AUTHORIZER_REPLY)


class LoginRefused(AuthError):
    """A monitor does not let us in. Whether it minds the key or the identity we want back, it does not say."""


class TicketRefused(AuthError):
    """A service does not accept our ticket; a fresh one may do."""


class Ticket(Guarded, frozen=True):
    """Lets us prove to one service who we are.

    Attributes:
        session_key: shared with the service.
        blob: the service's own part, opaque to us.
        renew_after, expires: on the clock ``now`` is taken from, seconds.
    """

    secrets: ClassVar[frozenset[str]] = frozenset({"blob"})

    session_key: CryptoKey
    blob: TicketBlob
    renew_after: float
    expires: float


class Tickets:
    """All that one client has proved and may prove; shared by its connections.

    Attributes:
        name: who we are.
        key: proves it; None under method none, where no tickets are needed.
        global_id: our identity in the cluster, 0 until a monitor gave one; kept for the client's life.
        held: tickets by service.
    """

    def __init__(self, name: EntityName, key: CryptoKey | None, entropy: Entropy) -> None:
        self.name = name
        self.key = key
        self.entropy = entropy
        self.global_id = 0
        self.held: dict[int, Ticket] = {}

    def random_u64(self) -> int:
        return int.from_bytes(self.entropy(8), "little")

    def fraction(self) -> float:
        """A random number from 0 up to 1."""
        return (self.random_u64() >> 11) / 2**53

    def usable(self, service: int, now: float) -> Ticket | None:
        ticket = self.held.get(service)
        return ticket if ticket is not None and now < ticket.expires else None

    def renew_at(self) -> float:
        """When the first of the tickets wants to be renewed."""
        renewed = SERVICES | EntityType.AUTH  # a monitor may give what nobody asked for
        return min((t.renew_after for service, t in self.held.items() if service & renewed), default=float("inf"))

    def due(self, now: float) -> int:
        """The services, as a sum, whose tickets are missing or want renewal; AUTH apart."""
        return sum(
            service
            for service in EntityType
            if service & SERVICES and (service not in self.held or self.held[service].renew_after <= now)
        )

    def take(self, granted: TicketList, key: CryptoKey, now: float) -> None:
        """Keep the tickets of ``granted``, whose client parts are sealed with ``key``."""
        for ticket in granted.tickets:
            mine = service_keys.decode(key.unseal(KeyUsage.SERVICE_KEY, ticket.sealed_key))
            blob = ticket.ticket
            if isinstance(blob, bytes):
                old = self.held.get(EntityType.AUTH)
                if old is None:
                    raise MalformedMessage("ServiceTicket.ticket: sealed with an AUTH session key we never had")
                blob = sealed_blobs.decode(old.session_key.unseal(KeyUsage.TICKET_BLOB, blob)).ticket
            validity = mine.validity / NSEC
            session_key = CryptoKey.from_wire(mine.session_key)
            renew_after = now + validity - validity / RENEW_FRACTION
            if ticket.service in EntityType._value2member_map_:  # there is no end to other numbers
                self.held[ticket.service] = Ticket(session_key, blob or NO_TICKET, renew_after, now + validity)

    def authorizer(self, service: int, ticket: Ticket, proof: AuthorizerProof) -> Authorizer:
        sealed = ticket.session_key.seal(KeyUsage.AUTHORIZER, proofs.encode(proof), self.entropy)
        return Authorizer(self.global_id, service, ticket.blob, sealed)

    def authenticate(self, server_challenge: int) -> bytes:
        """Proof of our key, the request for an AUTH ticket and the others."""
        assert self.key is not None
        client_challenge = self.random_u64()
        old = self.held.get(EntityType.AUTH)
        body = Authenticate(
            AUTHENTICATE_V,
            client_challenge,
            self.key.challenge_proof(server_challenge, client_challenge),
            old.blob if old is not None and self.global_id else NO_TICKET,
            SERVICES,
        )
        return requests.encode(CephxRequest(RequestType.GET_AUTH_SESSION_KEY, body))

    def ask(self, services: int) -> bytes:
        """The request for tickets by virtue of our AUTH ticket."""
        auth = self.held[EntityType.AUTH]
        proof = AuthorizerProof(self.random_u64())
        body = GetPrincipalSessionKey(self.authorizer(EntityType.AUTH, auth, proof), services)
        return requests.encode(CephxRequest(RequestType.GET_PRINCIPAL_SESSION_KEY, body))

    def answer(self, payload: bytes, now: float) -> ConnectionSecret | None:
        """Take in a monitor's answer to `authenticate` or `ask`; gives the connection secret, if there is one.

        Raises:
            MalformedMessage: not such an answer, or sealed with another key than ours.
        """
        response = responses.decode(payload)
        if response.status:
            raise AuthError(f"cephx request {response.request_type:#x} for {self.name} failed: error {response.status}")
        try:
            if response.request_type == RequestType.GET_PRINCIPAL_SESSION_KEY:
                self.take(ticket_lists.decode(response.body), self.held[EntityType.AUTH].session_key, now)
                return None
            reply = authenticate_replies.decode(response.body)
            assert self.key is not None
            self.take(reply.auth, self.key, now)
            session_key = self.held[EntityType.AUTH].session_key
            if reply.extra is not None:
                self.take(reply.extra, session_key, now)
            if not reply.sealed_secret:
                return None
            secret = session_key.unseal(KeyUsage.MON_CONNECTION_SECRET, reply.sealed_secret)
            return sealed_secrets.decode(secret).connection_secret
        except (CryptoError, KeyError) as error:
            raise MalformedMessage(f"CephxResponse: not sealed with the key of {self.name} ({error})") from None


class CephxLogin:
    """Authenticates a connection to a monitor with our key; brings the tickets.

    Args:
        anew: ask for a new global_id even if we have one, as no monitor accepts the proof of the old any more.
    """

    def __init__(self, tickets: Tickets, *, anew: bool = False) -> None:
        self.tickets = tickets
        self.server_challenge: int | None = None
        self._granted = Tickets(tickets.name, tickets.key, tickets.entropy) if anew else tickets

    def request(self) -> tuple[AuthMethod, bytes]:
        return AuthMethod.CEPHX, mon_auth_requests.encode(MonAuthRequest(self.tickets.name, self._granted.global_id))

    def more(self, payload: bytes) -> bytes:
        self.server_challenge = server_challenges.decode(payload).server_challenge
        return self._granted.authenticate(self.server_challenge)

    def refused(self, answer: AuthBadMethod) -> tuple[AuthMethod, bytes]:
        if answer.result == -EACCES:
            raise LoginRefused(
                f"{self.tickets.name} is unknown to the cluster, or its key is wrong, or it has no mon caps; monitors "
                f"do not say which: compare the keyring with `ceph auth get {self.tickets.name}`"
            )
        # Not even where it allows none: anybody who answers in the monitor's place could say that.
        raise AuthError(
            f"no method to authenticate {self.tickets.name} with: {_allowed(answer)}; for a cluster without "
            "authentication set `auth client required = none`"
        )

    def done(self, answer: AuthDone, now: float) -> Secrets:
        if self.server_challenge is None:
            raise AuthError(f"the monitor let {self.tickets.name} in without proof of its key: it is not to be trusted")
        connection_secret = self._granted.answer(answer.payload, now)
        self.tickets.held = self._granted.held
        self.tickets.global_id = self._granted.global_id = answer.global_id
        return Secrets(self.tickets.held[EntityType.AUTH].session_key, connection_secret)


class CephxAuthorizer:
    """Authenticates a connection to a service with our ticket for it."""

    def __init__(self, tickets: Tickets, service: EntityType, ticket: Ticket) -> None:
        self._tickets = tickets
        self._service = service
        self._ticket = ticket
        self._nonce = tickets.random_u64()

    def request(self) -> tuple[AuthMethod, bytes]:
        return AuthMethod.CEPHX, self._proof(AuthorizerProof(self._nonce))

    def more(self, payload: bytes) -> bytes:
        challenge = challenges.decode(self._unseal(KeyUsage.AUTHORIZER_CHALLENGE, payload)).server_challenge
        return self._proof(AuthorizerProof(self._nonce, 1, (challenge + 1) % U64))

    def refused(self, answer: AuthBadMethod) -> tuple[AuthMethod, bytes]:
        if answer.result == -EACCES:
            raise TicketRefused(f"it refused the {self._service.name} ticket of {self._tickets.name}")
        raise AuthError(f"no method to authenticate {self._tickets.name} with: {_allowed(answer)}")

    def done(self, answer: AuthDone, now: float) -> Secrets:
        reply = authorizer_replies.decode(self._unseal_prefixed(KeyUsage.AUTHORIZER_REPLY, answer.payload))
        if reply.nonce_plus_one != (self._nonce + 1) % U64:
            raise AuthError(
                f"the peer cannot read our {self._service.name} ticket: it is not the service it claims to be"
            )
        return Secrets(self._ticket.session_key, reply.connection_secret)

    def _proof(self, proof: AuthorizerProof) -> bytes:
        return authorizers.encode(self._tickets.authorizer(self._service, self._ticket, proof))

    def _unseal(self, usage: KeyUsage, sealed: bytes) -> bytes:
        try:
            return self._ticket.session_key.unseal(usage, sealed)
        except CryptoError as error:
            raise MalformedMessage(f"{usage.name}: not sealed with the ticket's session key ({error})") from None

    def _unseal_prefixed(self, usage: KeyUsage, sealed: bytes) -> bytes:
        try:
            return self._ticket.session_key.unseal_prefixed(usage, sealed)
        except CryptoError as error:
            raise MalformedMessage(f"{usage.name}: not sealed with the ticket's session key ({error})") from None


def _allowed(answer: AuthBadMethod) -> str:
    methods = ", ".join(
        AuthMethod(method).name.lower() if method in AuthMethod._value2member_map_ else str(method)
        for method in answer.allowed_methods
    )
    if not answer.allowed_methods and not answer.allowed_modes:  # messenger v1 has no room for them
        return f"error {answer.result}"
    return f"error {answer.result}; it allows {methods or 'none at all'}, modes {list(answer.allowed_modes)}"
