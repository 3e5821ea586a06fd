"""cephx: tickets and the proofs exchanged when a connection is authenticated.

What is encrypted appears here as bytes; its contents have a schema of their own, which is that of the payload of
`cephwire.keys.Envelope`. Method NONE's two payloads are here too. Sources: ceph: src/auth/cephx/CephxProtocol.h;
kernel: net/ceph/auth_x_protocol.h. Seen on the wire with Ceph 16.2, 18.2 and 20.2, but for `NoneAuthorizer`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.entity import ENTITY_NAME, EntityName
from cephwire.keys import CONNECTION_SECRET, CRYPTO_KEY, ConnectionSecret, CryptoKey
from cephwire.schema import (
    Blob,
    Const,
    Counted,
    Filled,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64ul,
    Record,
    Rest,
    Since,
    Struct,
    Switch,
    Utime,
)

__all__ = [
    "AUTHENTICATE_REPLY",
    "AUTHORIZER",
    "AUTHORIZER_CHALLENGE",
    "AUTHORIZER_PROOF",
    "AUTHORIZER_REPLY",
    "AUTH_MODE_AUTHORIZER",
    "AUTH_MODE_MON",
    "CEPHX_REQUEST",
    "CEPHX_RESPONSE",
    "CHALLENGE_PAIR",
    "MON_AUTH_OFFER",
    "MON_AUTH_REQUEST",
    "NONE_AUTHORIZER",
    "SEALED_CONNECTION_SECRET",
    "SEALED_TICKET_BLOB",
    "SERVER_CHALLENGE",
    "SERVICE_KEY",
    "TICKET_BLOB",
    "TICKET_LIST",
    "Authenticate",
    "AuthenticateReply",
    "Authorizer",
    "AuthorizerChallenge",
    "AuthorizerProof",
    "AuthorizerReply",
    "CephxRequest",
    "CephxResponse",
    "ChallengePair",
    "GetPrincipalSessionKey",
    "MonAuthOffer",
    "MonAuthRequest",
    "NoneAuthorizer",
    "RequestType",
    "SealedConnectionSecret",
    "SealedTicketBlob",
    "ServerChallenge",
    "ServiceKey",
    "ServiceTicket",
    "TicketBlob",
    "TicketList",
]


class RequestType(IntEnum):
    """What a client wants of a mon (ceph: src/auth/cephx/CephxProtocol.h, ``CEPHX_*``)."""

    GET_AUTH_SESSION_KEY = 0x0100
    GET_PRINCIPAL_SESSION_KEY = 0x0200
    GET_ROTATING_KEY = 0x0400
    """For daemons."""


AUTH_MODE_AUTHORIZER: Final = 1
AUTH_MODE_MON: Final = 10
"""First byte of an AuthRequest's payload: proof of a ticket, or a login at a mon (ceph: src/auth/Auth.h)."""


class MonAuthRequest(msgspec.Struct, frozen=True, gc=False):
    """First payload to a mon, whatever the method."""

    name: EntityName
    """Who logs in."""
    global_id: int
    """0 to be given one; else the one to keep, which takes its AUTH ticket too (`Authenticate`)."""


MON_AUTH_REQUEST: Final = Record(
    MonAuthRequest,
    Struct("auth_mode" / Const(AUTH_MODE_MON, Int8ul), "name" / ENTITY_NAME, "global_id" / Int64ul),
)
"""(ceph: src/auth/cephx/CephxClientHandler.cc, ``build_initial_request``)."""


class MonAuthOffer(msgspec.Struct, frozen=True, gc=False):
    """The payload of a first MAuth, in messenger v1: a `MonAuthRequest` before there is a method."""

    methods: tuple[int, ...]
    """`cephwire.control.AuthMethod` values to choose from."""
    name: EntityName
    global_id: int


MON_AUTH_OFFER: Final = Record(
    MonAuthOffer,
    Struct("struct_v" / Const(1, Int8ul), "methods" / Counted(Int32ul), "name" / ENTITY_NAME, "global_id" / Int64ul),
)
"""(ceph: src/mon/MonClient.cc, ``MonConnection::_init_auth``)."""


class ServerChallenge(msgspec.Struct, frozen=True, gc=False):
    """The mon's answer to a `MonAuthRequest`."""

    server_challenge: int


SERVER_CHALLENGE: Final = Record(ServerChallenge, Struct("struct_v" / Const(1, Int8ul), "server_challenge" / Int64ul))
"""``CephXServerChallenge``, 9 bytes."""


class ChallengePair(msgspec.Struct, frozen=True, gc=False):
    """What the client encrypts or hashes for the ``proof`` in `Authenticate`."""

    server_challenge: int
    client_challenge: int


CHALLENGE_PAIR: Final = Record(ChallengePair, Struct("server_challenge" / Int64ul, "client_challenge" / Int64ul))
"""``CephXChallengeBlob``, 16 bytes; never sent as such."""


class TicketBlob(msgspec.Struct, frozen=True, gc=False):
    """The part of a ticket for the service; clients keep it as it is."""

    secret_id: int
    """Which of the service's rotating keys it is encrypted with; 0 for no ticket."""
    blob: bytes


TICKET_BLOB: Final = Record(TicketBlob, Struct("struct_v" / Const(1, Int8ul), "secret_id" / Int64ul, "blob" / Blob))
"""``CephXTicketBlob``, 13 bytes and the blob."""


class SealedTicketBlob(msgspec.Struct, frozen=True, gc=False):
    """What `ServiceTicket.ticket` decrypts to where it is encrypted."""

    ticket: TicketBlob | None


SEALED_TICKET_BLOB: Final = Record(SealedTicketBlob, Struct("ticket" / Filled(TICKET_BLOB)))


class ServiceKey(msgspec.Struct, frozen=True, gc=False):
    """The part of a ticket for the client; what `ServiceTicket.sealed_key` decrypts to."""

    session_key: CryptoKey
    """Shared with the service."""
    validity: int
    """How long the ticket is good for, ns from its receipt."""


SERVICE_KEY: Final = Record(
    ServiceKey, Struct("struct_v" / Const(1, Int8ul), "session_key" / CRYPTO_KEY, "validity" / Utime)
)
"""``CephXServiceTicket``."""


class ServiceTicket(msgspec.Struct, frozen=True, gc=False):
    """A ticket as it is handed out."""

    service: int
    """`cephwire.entity.EntityType` of the service."""
    sealed_key: bytes
    """`ServiceKey`, encrypted."""
    encrypted: int
    """1 in exchange for an older AUTH ticket: ``ticket`` is then encrypted with the session key of that one."""
    ticket: TicketBlob | bytes | None
    """Bytes that decrypt to a `SealedTicketBlob` if ``encrypted``."""


class TicketList(msgspec.Struct, frozen=True, gc=False):
    """Tickets handed out together."""

    tickets: tuple[ServiceTicket, ...]


TICKET_LIST: Final = Record(
    TicketList,
    Struct(
        "struct_v" / Const(1, Int8ul),
        "tickets"
        / Counted(
            Record(
                ServiceTicket,
                Struct(
                    "service" / Int32ul,
                    "struct_v" / Const(1, Int8ul),
                    "sealed_key" / Blob,
                    "encrypted" / Int8ul,
                    "ticket" / Switch("encrypted", {0: Filled(TICKET_BLOB)}, default=Blob),
                ),
            )
        ),
    ),
)
"""(ceph: src/auth/cephx/CephxProtocol.cc, ``cephx_build_service_ticket_reply``)."""


class Authorizer(msgspec.Struct, frozen=True, gc=False):
    """A client shows a service its ticket."""

    global_id: int
    service: int
    """`cephwire.entity.EntityType` of the service."""
    ticket: TicketBlob
    sealed_proof: bytes
    """`AuthorizerProof`, encrypted."""


AUTHORIZER: Final = Record(
    Authorizer,
    Struct(
        "authorizer_v" / Const(AUTH_MODE_AUTHORIZER, Int8ul),
        "global_id" / Int64ul,
        "service" / Int32ul,
        "ticket" / TICKET_BLOB,
        "sealed_proof" / Blob,
    ),
)
"""In messenger v2 it is the AuthRequest's payload as it stands: its version, 1, is also the mode
(ceph: src/auth/cephx/CephxProtocol.cc, ``CephXTicketHandler::build_authorizer``)."""


class AuthorizerProof(msgspec.Struct, frozen=True, gc=False):
    """Shows that the client knows the ticket's session key."""

    nonce: int
    """Random; the same in both rounds."""
    have_challenge: int = 0
    """1 in the second round, which answers the service's `AuthorizerChallenge`."""
    server_challenge_plus_one: int = 0
    """Modulo 2**64; 0 in the first round."""


AUTHORIZER_PROOF: Final = Record(
    AuthorizerProof,
    Struct(
        "struct_v" / Const(2, Int8ul),
        "nonce" / Int64ul,
        "have_challenge" / Int8ul,
        "server_challenge_plus_one" / Int64ul,
    ),
)
"""``CephXAuthorize``, 18 bytes."""


class AuthorizerChallenge(msgspec.Struct, frozen=True, gc=False):
    """A service's answer to a first authorizer; encrypted, and without a length before it."""

    server_challenge: int


AUTHORIZER_CHALLENGE: Final = Record(
    AuthorizerChallenge, Struct("struct_v" / Const(1, Int8ul), "server_challenge" / Int64ul)
)
"""``CephXAuthorizeChallenge``, 9 bytes."""


class AuthorizerReply(msgspec.Struct, frozen=True, gc=False):
    """A service's answer to the second authorizer: it knows the session key too."""

    struct_v: int
    """1 in crc mode and in messenger v1, 2 in secure mode."""
    nonce_plus_one: int
    """Of the `AuthorizerProof`, modulo 2**64."""
    connection_secret: ConnectionSecret | None = None
    """Since 2."""


AUTHORIZER_REPLY: Final = Record(
    AuthorizerReply,
    Struct(
        "struct_v" / Int8ul,
        "nonce_plus_one" / Int64ul,
        "connection_secret" / Since(2, Filled(CONNECTION_SECRET), of="struct_v"),
    ),
)
"""``CephXAuthorizeReply``."""


class Authenticate(msgspec.Struct, frozen=True, gc=False):
    """A client proves that it knows its key, or asks for its AUTH ticket to be renewed."""

    struct_v: int
    """3. An answer to version 1 has neither further tickets nor a connection secret."""
    client_challenge: int
    """Random."""
    proof: int
    """Made with the principal's key from the `ChallengePair`."""
    old_ticket: TicketBlob
    """AUTH ticket that came with the global id to be kept; ``TicketBlob(0, b"")`` if none."""
    other_keys: int = 0
    """Services to get tickets for as well: the sum of their `cephwire.entity.EntityType`. Since 2."""


class GetPrincipalSessionKey(msgspec.Struct, frozen=True, gc=False):
    """A client asks for tickets, for it has an AUTH ticket."""

    authorizer: Authorizer
    """For service AUTH; nothing challenges it."""
    keys: int
    """Services to get tickets for: the sum of their `cephwire.entity.EntityType`."""


class CephxRequest(msgspec.Struct, frozen=True, gc=False):
    """A request to a mon, in an AuthRequestMore or an MAuth."""

    request_type: int
    """A `RequestType`."""
    body: Authenticate | GetPrincipalSessionKey | bytes


CEPHX_REQUEST: Final = Record(
    CephxRequest,
    Struct(
        "request_type" / Int16ul,
        "body"
        / Switch(
            "request_type",
            {
                RequestType.GET_AUTH_SESSION_KEY: Record(
                    Authenticate,
                    Struct(
                        "struct_v" / Int8ul,
                        "client_challenge" / Int64ul,
                        "proof" / Int64ul,
                        "old_ticket" / TICKET_BLOB,
                        "other_keys" / Since(2, Int32ul, of="struct_v"),
                    ),
                ),
                RequestType.GET_PRINCIPAL_SESSION_KEY: Record(
                    GetPrincipalSessionKey,
                    Struct("authorizer" / AUTHORIZER, "struct_v" / Const(1, Int8ul), "keys" / Int32ul),
                ),
            },
            default=Rest,
        ),
    ),
)
"""``CephXRequestHeader`` and what it announces: ``CephXAuthenticate`` or ``CephXServiceTicketRequest``."""


class CephxResponse(msgspec.Struct, frozen=True, gc=False):
    """A mon's answer, in an AuthDone or an MAuthReply."""

    request_type: int
    """A `RequestType`."""
    status: int
    """Negative errno, or 0: then ``body`` is an `AuthenticateReply` or a `TicketList`, as ``request_type`` says."""
    body: bytes


CEPHX_RESPONSE: Final = Record(CephxResponse, Struct("request_type" / Int16ul, "status" / Int32sl, "body" / Rest))
"""``CephXResponseHeader``, 6 bytes, and the rest."""


class AuthenticateReply(msgspec.Struct, frozen=True, gc=False):
    """What a client gets for a good `Authenticate`."""

    auth: TicketList
    """The AUTH ticket alone; its key is encrypted with the principal's."""
    sealed_secret: bytes | None
    """`SealedConnectionSecret`, encrypted with the AUTH session key; None in messenger v1 and in renewals."""
    extra: TicketList | None
    """The tickets that ``other_keys`` asked for; their keys are encrypted with the AUTH session key."""


AUTHENTICATE_REPLY: Final = Record(
    AuthenticateReply,
    Struct("auth" / TICKET_LIST, "sealed_secret" / Filled(Blob), "extra" / Filled(TICKET_LIST)),
)
"""(ceph: src/auth/cephx/CephxServiceHandler.cc, ``handle_request``)."""


class SealedConnectionSecret(msgspec.Struct, frozen=True, gc=False):
    """What `AuthenticateReply.sealed_secret` decrypts to."""

    connection_secret: ConnectionSecret | None
    """None in crc mode."""


SEALED_CONNECTION_SECRET: Final = Record(
    SealedConnectionSecret, Struct("connection_secret" / Filled(CONNECTION_SECRET))
)


class NoneAuthorizer(msgspec.Struct, frozen=True, gc=False):
    """A client names itself to a service, under method NONE."""

    name: EntityName
    global_id: int


NONE_AUTHORIZER: Final = Record(
    NoneAuthorizer,
    Struct("authorizer_v" / Const(AUTH_MODE_AUTHORIZER, Int8ul), "name" / ENTITY_NAME, "global_id" / Int64ul),
)
"""(ceph: src/auth/none/AuthNoneProtocol.h, ``AuthNoneAuthorizer``)."""
