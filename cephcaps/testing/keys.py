"""A cluster's side of authentication: keys, tickets, and what monitors and services check of them.

Each login goes with one connection, of either messenger. Sources: ceph: src/auth/cephx/.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from cephcaps.auth.authenticator import NO_SECRETS, Secrets
from cephcaps.auth.crypto import CryptoError, CryptoKey, Entropy
from cephcaps.errors import ProtocolViolation
from cephwire.cephx import (
    AUTHENTICATE_REPLY,
    AUTHORIZER,
    AUTHORIZER_CHALLENGE,
    AUTHORIZER_PROOF,
    AUTHORIZER_REPLY,
    CEPHX_REQUEST,
    CEPHX_RESPONSE,
    MON_AUTH_REQUEST,
    NONE_AUTHORIZER,
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
    NoneAuthorizer,
    RequestType,
    SealedConnectionSecret,
    SealedTicketBlob,
    ServerChallenge,
    ServiceKey,
    ServiceTicket,
    TicketBlob,
    TicketList,
)
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthRequest, AuthRequestMore, ConMode
from cephwire.entity import EntityType
from cephwire.keys import CONNECTION_SECRET, CRYPTO_KEY, ConnectionSecret, CryptoType, KeyUsage
from cephwire.keys import CryptoKey as WireKey

__all__ = ["KeyServer", "MonLogin", "NoLogin", "ServiceLogin"]

NSEC = 1_000_000_000
U64 = 1 << 64
EACCES = 13
EOPNOTSUPP = 95
SECRET_SIZE = {CryptoType.AES: 16, CryptoType.AES256K: 32}
AUTH_VALIDITY = 259_200
SERVICE_VALIDITY = 3_600
"""Seconds."""
FIRST_GLOBAL_ID = 4100

BAD_KEY = AuthBadMethod(AuthMethod.CEPHX, -EACCES, (AuthMethod.CEPHX,), (ConMode.CRC, ConMode.SECURE))

authenticate_replies: Codec[AuthenticateReply] = Codec(AUTHENTICATE_REPLY)
authorizers: Codec[Authorizer] = Codec(AUTHORIZER)
authorizer_challenges: Codec[AuthorizerChallenge] = Codec(AUTHORIZER_CHALLENGE)
authorizer_proofs: Codec[AuthorizerProof] = Codec(AUTHORIZER_PROOF)
authorizer_replies: Codec[AuthorizerReply] = Codec(AUTHORIZER_REPLY)
cephx_requests: Codec[CephxRequest] = Codec(CEPHX_REQUEST)
cephx_responses: Codec[CephxResponse] = Codec(CEPHX_RESPONSE)
connection_secrets: Codec[ConnectionSecret] = Codec(CONNECTION_SECRET)
crypto_keys: Codec[WireKey] = Codec(CRYPTO_KEY)
mon_auth_requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)
none_authorizers: Codec[NoneAuthorizer] = Codec(NONE_AUTHORIZER)
sealed_connection_secrets: Codec[SealedConnectionSecret] = Codec(SEALED_CONNECTION_SECRET)
sealed_ticket_blobs: Codec[SealedTicketBlob] = Codec(SEALED_TICKET_BLOB)
server_challenges: Codec[ServerChallenge] = Codec(SERVER_CHALLENGE)
service_keys: Codec[ServiceKey] = Codec(SERVICE_KEY)
ticket_lists: Codec[TicketList] = Codec(TICKET_LIST)


@dataclass
class KeyServer:
    """Who has which key, and the tickets that come of it.

    Attributes:
        type: of every key made here.
        principals: the keys of those who may log in, by name.
        sealing: the key each service reads its tickets with; another one, and no ticket from before is read.
        withheld: services nobody gets tickets for, as a sum.
        secrets: all that must never be shown.
        granted: the service of every ticket handed out, in order.
    """

    entropy: Entropy
    type: CryptoType = CryptoType.AES
    withheld: int = 0
    next_global_id: int = FIRST_GLOBAL_ID
    validity: dict[int, int] = field(default_factory=lambda: {EntityType.AUTH: AUTH_VALIDITY})
    principals: dict[str, CryptoKey] = field(default_factory=dict)
    sealing: dict[int, CryptoKey] = field(default_factory=dict)
    secrets: set[bytes] = field(default_factory=set)
    granted: list[int] = field(default_factory=list)

    def new_key(self) -> CryptoKey:
        key = CryptoKey(self.type, 0, self.entropy(SECRET_SIZE[self.type]))
        self.secrets.add(key.secret)
        return key

    def new_global_id(self) -> int:
        self.next_global_id += 1
        return self.next_global_id - 1

    def add(self, name: str) -> CryptoKey:
        key = self.principals[name] = self.new_key()
        return key

    def sealing_key(self, service: int) -> CryptoKey:
        if service not in self.sealing:
            self.sealing[service] = self.new_key()
        return self.sealing[service]

    def connection_secret(self) -> ConnectionSecret:
        raw = self.entropy(64)
        self.secrets |= {raw[:16], raw[16:28], raw[28:40]}
        return connection_secrets.decode(raw)

    def ticket(self, service: int, global_id: int, mine: CryptoKey, old: CryptoKey | None) -> ServiceTicket:
        """A ticket whose client part is sealed with ``mine`` and, if there is an ``old`` session key, its blob too."""
        session_key = self.new_key()
        self.granted.append(service)
        wire_key = WireKey(session_key.type, session_key.created, session_key.secret)
        inside = struct.pack("<Q", global_id) + crypto_keys.encode(wire_key)
        sealed = self.sealing_key(service).seal(KeyUsage.TICKET_INFO, inside, self.entropy)
        clear = TicketBlob(1, sealed)
        blob: TicketBlob | bytes = clear
        if old is not None:
            plain = sealed_ticket_blobs.encode(SealedTicketBlob(clear))
            blob = old.seal(KeyUsage.TICKET_BLOB, plain, self.entropy)
        validity = self.validity.get(service, SERVICE_VALIDITY) * NSEC
        part = service_keys.encode(ServiceKey(wire_key, validity))
        sealed_key = mine.seal(KeyUsage.SERVICE_KEY, part, self.entropy)
        return ServiceTicket(service, sealed_key, int(old is not None), blob)

    def read(self, service: int, blob: TicketBlob) -> tuple[int, CryptoKey]:
        """The global id and session key of one's own ticket; CryptoError if it is none."""
        inside = self.sealing_key(service).unseal(KeyUsage.TICKET_INFO, blob.blob)
        return struct.unpack_from("<Q", inside)[0], CryptoKey.from_bytes(inside[8:])

    def tickets(self, services: int, global_id: int, key: CryptoKey) -> TicketList:
        wanted = [service for service in EntityType if service & services & ~self.withheld and service < 32]
        return TicketList(tuple(self.ticket(service, global_id, key, None) for service in wanted))

    def session_key(self, authorizer: Authorizer) -> CryptoKey:
        return self.read(authorizer.service, authorizer.ticket)[1]


class MonLogin:
    """A monitor's cephx, for one connection.

    Attributes:
        global_id: what the client says it is and must prove; or what it has been given.
    """

    def __init__(self, keys: KeyServer) -> None:
        self.keys = keys
        self.secrets: Secrets = NO_SECRETS
        self.challenge: int = int.from_bytes(keys.entropy(8), "little")
        self.name: str = ""
        self.global_id: int = 0
        self._promised = 0
        self._mode = ConMode.CRC

    def promise(self) -> int:
        """The global id that the client will have, which messenger v1 tells before the proof."""
        if not self.global_id and not self._promised:
            self._promised = self.keys.new_global_id()
        return self.global_id or self._promised

    def request(self, frame: AuthRequest, mode: ConMode) -> AuthReplyMore | AuthDone | AuthBadMethod:
        if frame.method != AuthMethod.CEPHX:
            return AuthBadMethod(frame.method, -EOPNOTSUPP, (AuthMethod.CEPHX,), (ConMode.CRC, ConMode.SECURE))
        who = mon_auth_requests.decode(frame.payload)
        self.name = str(who.name)
        self.global_id, self._mode = who.global_id, mode
        if self.name not in self.keys.principals:
            return BAD_KEY
        return AuthReplyMore(server_challenges.encode(ServerChallenge(self.challenge)))

    def more(self, frame: AuthRequestMore) -> AuthReplyMore | AuthDone | AuthBadMethod:
        wanted = cephx_requests.decode(frame.payload).body
        reply = self.grant(wanted, first=True) if isinstance(wanted, Authenticate) else None
        return BAD_KEY if reply is None else AuthDone(self.global_id, self._mode, reply)

    def prove(self, payload: bytes) -> AuthDone | AuthBadMethod:
        """What the proof in the MAuth of one who logs in over messenger v1 gets."""
        wanted = cephx_requests.decode(payload).body
        reply = self.grant(wanted, first=False) if isinstance(wanted, Authenticate) else None
        return BAD_KEY if reply is None else AuthDone(self.global_id, ConMode.CRC, reply)

    def answer(self, payload: bytes) -> bytes | None:
        """What a logged-in client's MAuth gets; None if it is refused."""
        request = cephx_requests.decode(payload)
        wanted = request.body
        if isinstance(wanted, Authenticate):
            return self.grant(wanted, first=False)
        if not isinstance(wanted, GetPrincipalSessionKey):
            return None
        try:
            session_key = self.keys.session_key(wanted.authorizer)
            session_key.unseal(KeyUsage.AUTHORIZER, wanted.authorizer.sealed_proof)
        except CryptoError:
            return None
        if self.name not in self.keys.principals:
            return None
        tickets = ticket_lists.encode(self.keys.tickets(wanted.keys, self.global_id, session_key))
        return cephx_responses.encode(CephxResponse(RequestType.GET_PRINCIPAL_SESSION_KEY, 0, tickets))

    def grant(self, wanted: Authenticate, *, first: bool) -> bytes | None:
        """The AUTH ticket and the others; with ``first`` also what keys the connection."""
        keys, key = self.keys, self.keys.principals.get(self.name)
        if key is None or wanted.proof != key.challenge_proof(self.challenge, wanted.client_challenge):
            return None
        old = None
        if wanted.old_ticket.blob:
            try:
                global_id, old = keys.read(EntityType.AUTH, wanted.old_ticket)
            except CryptoError:
                return None
            if global_id != self.global_id:
                return None
        elif self.global_id:
            return None  # a global id is kept by proof only
        else:
            self.global_id = self.promise()
        auth = keys.ticket(EntityType.AUTH, self.global_id, key, old)
        session_key = self._session_key(auth, key)
        sealed_secret = None
        if first:
            secret = keys.connection_secret() if self._mode is ConMode.SECURE else None
            self.secrets = Secrets(session_key, secret)
            plain = sealed_connection_secrets.encode(SealedConnectionSecret(secret))
            sealed_secret = session_key.seal(KeyUsage.MON_CONNECTION_SECRET, plain, keys.entropy)
        extra = keys.tickets(wanted.other_keys, self.global_id, session_key)
        body = authenticate_replies.encode(AuthenticateReply(TicketList((auth,)), sealed_secret, extra))
        return cephx_responses.encode(CephxResponse(RequestType.GET_AUTH_SESSION_KEY, 0, body))

    @staticmethod
    def _session_key(ticket: ServiceTicket, key: CryptoKey) -> CryptoKey:
        part = service_keys.decode(key.unseal(KeyUsage.SERVICE_KEY, ticket.sealed_key))
        return CryptoKey.from_wire(part.session_key)


class ServiceLogin:
    """A service's check of a ticket, for one connection.

    Attributes:
        name: empty: the tickets made here tell a global id, and no name.
        off_by: added to the nonce + 1 that shows the service could read the ticket.
        nonces: those of the authorizers seen.
    """

    def __init__(self, keys: KeyServer) -> None:
        self.keys = keys
        self.secrets: Secrets = NO_SECRETS
        self.name = ""
        self.off_by = 0
        self.nonces: list[int] = []
        self.challenge: int = int.from_bytes(keys.entropy(8), "little")
        self._mode = ConMode.CRC

    def request(self, frame: AuthRequest, mode: ConMode) -> AuthReplyMore | AuthDone | AuthBadMethod:
        self._mode = mode
        return self._check(frame.payload)

    def more(self, frame: AuthRequestMore) -> AuthReplyMore | AuthDone | AuthBadMethod:
        return self._check(frame.payload)

    def _check(self, payload: bytes) -> AuthReplyMore | AuthDone | AuthBadMethod:
        authorizer = authorizers.decode(payload)
        try:
            global_id, key = self.keys.read(authorizer.service, authorizer.ticket)
            proof = authorizer_proofs.decode(key.unseal(KeyUsage.AUTHORIZER, authorizer.sealed_proof))
        except CryptoError:
            return BAD_KEY
        self.nonces.append(proof.nonce)
        if not proof.have_challenge:
            challenge = authorizer_challenges.encode(AuthorizerChallenge(self.challenge))
            return AuthReplyMore(key.seal(KeyUsage.AUTHORIZER_CHALLENGE, challenge, self.keys.entropy))
        if proof.server_challenge_plus_one != (self.challenge + 1) % U64 or global_id != authorizer.global_id:
            return BAD_KEY
        secret = self.keys.connection_secret() if self._mode is ConMode.SECURE else None
        self.secrets = Secrets(key, secret)
        answer = AuthorizerReply(2 if secret else 1, (proof.nonce + 1 + self.off_by) % U64, secret)
        reply = authorizer_replies.encode(answer)
        return AuthDone(global_id, self._mode, key.seal_prefixed(KeyUsage.AUTHORIZER_REPLY, reply, self.keys.entropy))


class NoLogin:
    """Method none, of a monitor if ``to_mon``, else of a service."""

    def __init__(self, keys: KeyServer | None = None, *, to_mon: bool) -> None:
        self.secrets = NO_SECRETS
        self.to_mon = to_mon
        self.name: str = ""
        self._keys = keys

    def request(self, frame: AuthRequest, mode: ConMode) -> AuthReplyMore | AuthDone | AuthBadMethod:
        if frame.method != AuthMethod.NONE:
            return AuthBadMethod(frame.method, -EOPNOTSUPP, (AuthMethod.NONE,), (ConMode.CRC,))
        payload = frame.payload
        who = mon_auth_requests.decode(payload) if self.to_mon else none_authorizers.decode(payload)
        self.name = str(who.name)
        return AuthDone(who.global_id or self._new_global_id(), ConMode.CRC, b"")

    def more(self, frame: AuthRequestMore) -> AuthReplyMore | AuthDone | AuthBadMethod:
        raise ProtocolViolation("method none has one round")

    def _new_global_id(self) -> int:
        return FIRST_GLOBAL_ID if self._keys is None else self._keys.new_global_id()
