"""cephx from the client's side: proof of a key, tickets taken, kept and renewed, and what is not to be trusted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.auth.cephx import CephxAuthorizer, CephxLogin, TicketRefused, Tickets
from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import AuthError, MalformedMessage
from cephcaps.testing.keys import AUTH_VALIDITY, SERVICE_VALIDITY, KeyServer, MonLogin, ServiceLogin
from cephwire.cephx import (
    AUTHORIZER,
    AUTHORIZER_PROOF,
    CEPHX_REQUEST,
    CEPHX_RESPONSE,
    TICKET_LIST,
    Authenticate,
    CephxResponse,
    GetPrincipalSessionKey,
    RequestType,
    ServiceTicket,
    TicketBlob,
    TicketList,
)
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthRequest, AuthRequestMore, ConMode
from cephwire.entity import EntityType
from cephwire.keys import CryptoType, KeyUsage
from tests.session.handshakes import ADMIN, tickets_for
from tests.session.peers import entropy

SERVICES = EntityType.MON | EntityType.MDS | EntityType.OSD | EntityType.MGR
each_type = pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K], ids=["aes", "aes256k"])
U64 = 1 << 64


def cluster(type: CryptoType = CryptoType.AES) -> tuple[KeyServer, Tickets]:
    """A cluster and a client it knows."""
    keys = KeyServer(entropy("cluster"), type)
    return keys, tickets_for(keys.add(str(ADMIN)))


def log_in(keys: KeyServer, tickets: Tickets, now: float = 0.0, mode: ConMode = ConMode.CRC) -> CephxLogin:
    """One login at a monitor, without the messenger."""
    return log_in_at(MonLogin(keys), tickets, now, mode)


def log_in_at(mon: MonLogin, tickets: Tickets, now: float = 0.0, mode: ConMode = ConMode.CRC) -> CephxLogin:
    login = CephxLogin(tickets)
    method, payload = login.request()
    challenge = mon.request(AuthRequest(method, (mode,), payload), mode)
    assert isinstance(challenge, AuthReplyMore)
    answer = mon.more(AuthRequestMore(login.more(challenge.payload)))
    if isinstance(answer, AuthBadMethod):
        login.refused(answer)
    assert isinstance(answer, AuthDone)
    assert login.done(answer, now) == mon.secrets
    return login


def show(keys: KeyServer, tickets: Tickets, service: ServiceLogin, mode: ConMode = ConMode.CRC) -> CephxAuthorizer:
    """One connection to an MDS, without the messenger."""
    authorizer = CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS])
    method, payload = authorizer.request()
    challenge = service.request(AuthRequest(method, (mode,), payload), mode)
    if isinstance(challenge, AuthBadMethod):
        authorizer.refused(challenge)
    assert isinstance(challenge, AuthReplyMore)
    answer = service.more(AuthRequestMore(authorizer.more(challenge.payload)))
    assert isinstance(answer, AuthDone)
    assert authorizer.done(answer, 0.0) == service.secrets
    return authorizer


# Logging in


@each_type
@pytest.mark.parametrize("mode", ConMode)
def test_a_login_brings_tickets_for_every_service(type: CryptoType, mode: ConMode) -> None:
    keys, tickets = cluster(type)

    log_in(keys, tickets, 1000.0, mode)

    assert tickets.global_id == 4100
    assert set(tickets.held) == {EntityType.AUTH, *(service for service in EntityType if service & SERVICES)}
    assert tickets.held[EntityType.AUTH].expires == 1000 + AUTH_VALIDITY
    assert tickets.held[EntityType.MDS].expires == 1000 + SERVICE_VALIDITY
    assert {ticket.session_key.type for ticket in tickets.held.values()} == {type}


def test_a_client_with_an_old_key_gets_along_with_new_session_keys() -> None:
    keys, tickets = cluster(CryptoType.AES)
    keys.type = CryptoType.AES256K

    log_in(keys, tickets, mode=ConMode.SECURE)
    show(keys, tickets, ServiceLogin(keys), ConMode.SECURE)

    assert tickets.held[EntityType.MDS].session_key.type == CryptoType.AES256K


def test_the_monitor_is_asked_for_services_and_never_for_clients() -> None:
    _, tickets = cluster()

    request = Codec(CEPHX_REQUEST).decode(tickets.authenticate(1))

    assert request.request_type == RequestType.GET_AUTH_SESSION_KEY
    assert isinstance(request.body, Authenticate)
    assert (request.body.struct_v, request.body.other_keys) == (3, SERVICES)
    assert request.body.old_ticket == TicketBlob(0, b"")


@each_type
def test_the_proof_is_of_both_challenges(type: CryptoType) -> None:
    _, tickets = cluster(type)

    bodies = [Codec(CEPHX_REQUEST).decode(tickets.authenticate(challenge)).body for challenge in (7, 7, 8)]

    for body, challenge in zip(bodies, (7, 7, 8), strict=True):
        assert isinstance(body, Authenticate)
        assert tickets.key is not None
        assert body.proof == tickets.key.challenge_proof(challenge, body.client_challenge)
    assert len({body.client_challenge for body in bodies}) == 3


@each_type
def test_a_monitor_that_does_not_know_our_key_is_found_out(type: CryptoType) -> None:
    keys, tickets = cluster(type)
    theirs = KeyServer(entropy("others"), type)
    theirs.add(str(ADMIN))
    mon = MonLogin(theirs)
    mon.name = str(ADMIN)
    stranger = tickets_for(theirs.principals[str(ADMIN)])
    challenge = mon.request(AuthRequest(AuthMethod.CEPHX, (1,), CephxLogin(stranger).request()[1]), ConMode.CRC)
    assert isinstance(challenge, AuthReplyMore)
    answer = mon.more(AuthRequestMore(stranger.authenticate(mon.challenge)))
    assert isinstance(answer, AuthDone)
    login = CephxLogin(tickets)
    login.more(challenge.payload)

    with pytest.raises(MalformedMessage, match=r"not sealed with the key of client\.admin") as refused:
        login.done(answer, 0.0)

    assert not any(secret.hex() in str(refused.value) for secret in keys.secrets | theirs.secrets)
    assert not tickets.held
    assert tickets.global_id == 0


@each_type
def test_a_wrong_key_is_said_to_be_wrong(type: CryptoType) -> None:
    keys, _ = cluster(type)
    stranger = tickets_for(KeyServer(entropy("others"), type).new_key())

    with pytest.raises(AuthError, match=r"compare the keyring with `ceph auth get client\.admin`"):
        log_in(keys, stranger)


def test_a_monitor_s_refusal_within_its_answer_is_an_auth_error() -> None:
    _, tickets = cluster()
    answer = Codec(CEPHX_RESPONSE).encode(CephxResponse(RequestType.GET_AUTH_SESSION_KEY, -13, b""))

    with pytest.raises(AuthError, match=r"cephx request 0x100 for client\.admin failed: error -13"):
        tickets.answer(answer, 0.0)


# Keeping one's identity


def test_the_global_id_is_kept_by_showing_the_old_ticket_whose_successor_comes_encrypted() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets, 0.0)
    old = tickets.held[EntityType.AUTH]
    request = Codec(CEPHX_REQUEST).decode(tickets.authenticate(1)).body

    log_in(keys, tickets, 50.0)

    assert isinstance(request, Authenticate)
    assert request.old_ticket == old.blob
    assert tickets.global_id == 4100
    assert tickets.held[EntityType.AUTH].blob != old.blob
    assert tickets.held[EntityType.AUTH].expires == 50 + AUTH_VALIDITY
    show(keys, tickets, ServiceLogin(keys))


def test_an_encrypted_ticket_needs_the_one_it_succeeds() -> None:
    keys, tickets = cluster()
    assert tickets.key is not None
    auth = keys.ticket(EntityType.AUTH, 4100, tickets.key, keys.new_key())

    with pytest.raises(MalformedMessage, match="sealed with an AUTH session key we never had"):
        tickets.take(TicketList((auth,)), tickets.key, 0.0)


# Renewal


def test_tickets_are_due_when_a_quarter_of_their_time_is_left() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets, 100.0)

    assert tickets.held[EntityType.MDS].renew_after == 100 + SERVICE_VALIDITY * 3 / 4
    assert tickets.renew_at() == 100 + SERVICE_VALIDITY * 3 / 4
    assert tickets.due(100 + SERVICE_VALIDITY * 3 / 4 - 1) == 0
    assert tickets.due(100 + SERVICE_VALIDITY * 3 / 4) == SERVICES


def test_a_ticket_can_be_used_until_it_expires() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets, 0.0)

    assert tickets.usable(EntityType.MDS, SERVICE_VALIDITY - 0.1) is tickets.held[EntityType.MDS]
    assert tickets.usable(EntityType.MDS, SERVICE_VALIDITY) is None
    assert tickets.usable(EntityType.CLIENT, 0.0) is None


def test_a_missing_ticket_is_due_at_once() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets, 0.0)
    del tickets.held[EntityType.MDS]

    assert tickets.due(0.0) == EntityType.MDS


def test_nothing_is_to_be_renewed_where_there_are_no_tickets() -> None:
    assert tickets_for(None).renew_at() == float("inf")


@each_type
def test_tickets_are_renewed_by_virtue_of_the_auth_ticket(type: CryptoType) -> None:
    keys, tickets = cluster(type)
    mon = MonLogin(keys)
    log_in_at(mon, tickets)
    before = dict(tickets.held)

    payload = tickets.ask(EntityType.MDS | EntityType.OSD)
    request = Codec(CEPHX_REQUEST).decode(payload)
    answer = mon.answer(payload)
    assert answer is not None
    secret = tickets.answer(answer, 3000.0)

    assert secret is None
    assert request.request_type == RequestType.GET_PRINCIPAL_SESSION_KEY
    assert isinstance(request.body, GetPrincipalSessionKey)
    assert (request.body.authorizer.service, request.body.keys) == (EntityType.AUTH, EntityType.MDS | EntityType.OSD)
    changed = {service for service in before if tickets.held[service] is not before[service]}
    assert changed == {EntityType.MDS, EntityType.OSD}
    assert tickets.held[EntityType.MDS].expires == 3000 + SERVICE_VALIDITY
    show(keys, tickets, ServiceLogin(keys))


@each_type
def test_the_auth_ticket_is_renewed_with_the_challenge_of_this_connection(type: CryptoType) -> None:
    keys, tickets = cluster(type)
    mon = MonLogin(keys)
    login = log_in_at(mon, tickets)
    before = dict(tickets.held)
    assert login.server_challenge == mon.challenge

    assert mon.answer(tickets.authenticate(mon.challenge ^ 1)) is None
    answer = mon.answer(tickets.authenticate(mon.challenge))
    assert answer is not None
    tickets.answer(answer, 200_000.0)

    assert all(tickets.held[service] is not before[service] for service in before)
    assert tickets.held[EntityType.AUTH].expires == 200_000 + AUTH_VALIDITY
    assert tickets.global_id == 4100
    show(keys, tickets, ServiceLogin(keys))


# Showing a ticket


@each_type
@pytest.mark.parametrize("mode", ConMode)
@pytest.mark.parametrize("challenge", [0, 5, U64 - 1])
def test_a_service_s_challenge_is_answered_with_one_more(type: CryptoType, mode: ConMode, challenge: int) -> None:
    keys, tickets = cluster(type)
    log_in(keys, tickets)
    service = ServiceLogin(keys)
    service.challenge = challenge

    show(keys, tickets, service, mode)

    assert len(service.nonces) == 2
    assert len(set(service.nonces)) == 1, "the nonce must be the same in both rounds"


def test_the_authorizer_is_the_payload_as_it_stands() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets)
    ticket = tickets.held[EntityType.MDS]

    method, payload = CephxAuthorizer(tickets, EntityType.MDS, ticket).request()
    authorizer = Codec(AUTHORIZER).decode(payload)
    proof = Codec(AUTHORIZER_PROOF).decode(ticket.session_key.unseal(KeyUsage.AUTHORIZER, authorizer.sealed_proof))

    assert (method, payload[0]) == (AuthMethod.CEPHX, 1)
    assert (authorizer.global_id, authorizer.service, authorizer.ticket) == (4100, EntityType.MDS, ticket.blob)
    assert (proof.have_challenge, proof.server_challenge_plus_one) == (0, 0)


@pytest.mark.parametrize("off_by", [-1, 1, 1 << 63])
def test_a_server_that_could_not_read_our_ticket_is_refused(off_by: int) -> None:
    keys, tickets = cluster()
    log_in(keys, tickets)
    service = ServiceLogin(keys)
    service.off_by = off_by

    with pytest.raises(AuthError, match=r"cannot read our MDS ticket: it is not the service it claims to be"):
        show(keys, tickets, service)


@each_type
@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0", b"\x20\0\0\0" + bytes(32), bytes(100)])
def test_a_server_that_does_not_know_the_session_key_is_refused(type: CryptoType, payload: bytes) -> None:
    keys, tickets = cluster(type)
    log_in(keys, tickets)
    authorizer = CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS])

    with pytest.raises(MalformedMessage, match="AUTHORIZER_REPLY: not sealed with the ticket's session key"):
        authorizer.done(AuthDone(4100, ConMode.CRC, payload), 0.0)
    with pytest.raises(MalformedMessage, match="AUTHORIZER_CHALLENGE: not sealed with the ticket's session key"):
        authorizer.more(payload)


def test_a_ticket_of_rotated_keys_is_told_from_a_lack_of_methods() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets)
    keys.sealing[EntityType.MDS] = keys.new_key()

    with pytest.raises(TicketRefused, match=r"refused the MDS ticket of client\.admin"):
        show(keys, tickets, ServiceLogin(keys))
    with pytest.raises(AuthError, match="it allows cephx, none, modes") as refused:
        CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS]).refused(
            AuthBadMethod(AuthMethod.CEPHX, -95, (2, 1), (1,))
        )
    assert not isinstance(refused.value, TicketRefused)


# Any bytes


def responses(tickets: TicketList | bytes, request_type: int = RequestType.GET_PRINCIPAL_SESSION_KEY) -> bytes:
    body = tickets if isinstance(tickets, bytes) else Codec(TICKET_LIST).encode(tickets)
    return Codec(CEPHX_RESPONSE).encode(CephxResponse(request_type, 0, body))


def test_a_session_key_of_a_type_we_do_not_know_is_malformed() -> None:
    keys, tickets = cluster()
    log_in(keys, tickets)
    session_key = tickets.held[EntityType.AUTH].session_key
    part = bytes.fromhex("01 0900 00000000 00000000 1000") + bytes(16) + bytes(8)
    sealed = session_key.seal(KeyUsage.SERVICE_KEY, part, keys.entropy)
    granted = TicketList((ServiceTicket(EntityType.MDS, sealed, 0, TicketBlob(1, b"")),))

    with pytest.raises(MalformedMessage, match="key of type 9"):
        tickets.answer(responses(granted), 0.0)


def test_a_monitor_that_gives_no_auth_ticket_is_not_believed() -> None:
    _, tickets = cluster()
    empty = Codec(TICKET_LIST).encode(TicketList(())) + bytes(8)

    for request_type in RequestType:
        with pytest.raises(MalformedMessage, match="CephxResponse"):
            tickets.answer(responses(empty, request_type), 0.0)


@given(st.sampled_from(RequestType), st.binary(max_size=120), st.booleans())
def test_any_answer_of_a_monitor_is_tickets_or_refused(request_type: int, body: bytes, first: bool) -> None:
    keys, tickets = cluster()
    if not first:
        log_in(keys, tickets)

    try:
        tickets.answer(responses(body, request_type), 0.0)
    except (MalformedMessage, AuthError):
        return
    assert not first


@given(st.binary(max_size=150), st.sampled_from([CryptoType.AES, CryptoType.AES256K]))
def test_any_bytes_of_a_server_are_answered_or_refused(raw: bytes, type: CryptoType) -> None:
    key = CryptoKey(type, 0, bytes(range(32)))
    tickets = tickets_for(key)
    keys = KeyServer(entropy("cluster"), type)
    tickets.take(TicketList((keys.ticket(EntityType.MDS, 1, key, None),)), key, 0.0)
    authorizer = CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS])
    steps: list[Any] = [
        CephxLogin(tickets).more,
        authorizer.more,
        lambda payload: authorizer.done(AuthDone(1, 1, payload), 0.0),
        lambda payload: CephxLogin(tickets).done(AuthDone(1, 1, payload), 0.0),
    ]

    for step in steps:
        try:
            step(raw)
        except (MalformedMessage, AuthError):
            continue
        assert step is steps[0], "unauthenticated bytes got through"
