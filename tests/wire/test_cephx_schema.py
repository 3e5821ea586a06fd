"""cephx structures: their bytes, the forms a field may take, and that no secret is shown."""

from base64 import b64decode
from io import StringIO
from typing import Any

import pytest
from construct import ConstructError
from rich.console import Console

from cephwire import cephx, keys
from cephwire.entity import EntityName, EntityType

KEYRING_KEY = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w=="
KEY = keys.CryptoKey(keys.CryptoType.AES, 1_795_343_468_168_217_613, bytes.fromhex("4cd54ff5c34b27c20b962a99fe9f26db"))
BLOB = cephx.TicketBlob(5, b"opaque")
NO_TICKET = cephx.TicketBlob(0, b"")
AUTH = cephx.TicketList((cephx.ServiceTicket(EntityType.AUTH, b"sealed key", 0, BLOB),))
MORE = cephx.TicketList(
    (
        cephx.ServiceTicket(EntityType.MON, b"1", 0, BLOB),
        cephx.ServiceTicket(EntityType.MDS, b"2", 0, cephx.TicketBlob(7, b"x")),
    )
)
SECRET = keys.ConnectionSecret(bytes(range(16)), bytes(range(16, 28)), bytes(range(28, 40)), bytes(range(40, 64)))
AUTHORIZER = cephx.Authorizer(4123, EntityType.MDS, BLOB, b"sealed proof")
EXAMPLES = (
    (keys.CRYPTO_KEY, KEY),
    (keys.CONNECTION_SECRET, SECRET),
    (keys.ENVELOPE, keys.Envelope(b"\1\2\3\4")),
    (cephx.MON_AUTH_REQUEST, cephx.MonAuthRequest(EntityName.parse("client.admin"), 0)),
    (cephx.SERVER_CHALLENGE, cephx.ServerChallenge(2**64 - 1)),
    (cephx.CHALLENGE_PAIR, cephx.ChallengePair(1, 2)),
    (cephx.TICKET_BLOB, BLOB),
    (cephx.SEALED_TICKET_BLOB, cephx.SealedTicketBlob(BLOB)),
    (cephx.SERVICE_KEY, cephx.ServiceKey(KEY, 3600 * 10**9)),
    (cephx.TICKET_LIST, MORE),
    (cephx.TICKET_LIST, cephx.TicketList(())),
    (cephx.AUTHORIZER, AUTHORIZER),
    (cephx.AUTHORIZER_PROOF, cephx.AuthorizerProof(3, 1, 4)),
    (cephx.AUTHORIZER_CHALLENGE, cephx.AuthorizerChallenge(3)),
    (cephx.AUTHORIZER_REPLY, cephx.AuthorizerReply(1, 4)),
    (cephx.AUTHORIZER_REPLY, cephx.AuthorizerReply(2, 4, SECRET)),
    (cephx.CEPHX_REQUEST, cephx.CephxRequest(0x0100, cephx.Authenticate(3, 1, 2, NO_TICKET, 3))),
    (cephx.CEPHX_REQUEST, cephx.CephxRequest(0x0100, cephx.Authenticate(1, 1, 2, NO_TICKET))),
    (cephx.CEPHX_REQUEST, cephx.CephxRequest(0x0200, cephx.GetPrincipalSessionKey(AUTHORIZER, 2))),
    (cephx.CEPHX_REQUEST, cephx.CephxRequest(0x0400, b"for daemons")),
    (cephx.CEPHX_RESPONSE, cephx.CephxResponse(0x0100, -13, b"")),
    (cephx.AUTHENTICATE_REPLY, cephx.AuthenticateReply(AUTH, b"sealed secret", MORE)),
    (cephx.AUTHENTICATE_REPLY, cephx.AuthenticateReply(AUTH, None, None)),
    (cephx.SEALED_CONNECTION_SECRET, cephx.SealedConnectionSecret(SECRET)),
    (cephx.SEALED_CONNECTION_SECRET, cephx.SealedConnectionSecret(None)),
    (cephx.NONE_AUTHORIZER, cephx.NoneAuthorizer(EntityName.parse("client.a"), 5)),
)


@pytest.mark.parametrize(("schema", "value"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_a_structure_survives_the_wire(schema: Any, value: Any) -> None:
    assert schema.parse(schema.build(value)) == value


def test_the_key_of_a_keyring_is_read() -> None:
    raw = b64decode(KEYRING_KEY)
    assert keys.CRYPTO_KEY.parse(raw) == KEY
    assert keys.CRYPTO_KEY.build(KEY) == raw


@pytest.mark.parametrize(
    ("schema", "value", "raw"),
    [
        (keys.ENVELOPE, keys.Envelope(b"\1\2\3\4"), "01 55aa2688ad9c00ff 01020304"),
        (
            cephx.MON_AUTH_REQUEST,
            cephx.MonAuthRequest(EntityName(EntityType.CLIENT, "admin"), 9),
            "0a 08000000 05000000 61646d696e 0900000000000000",
        ),
        (cephx.SERVER_CHALLENGE, cephx.ServerChallenge(0x1122), "01 2211000000000000"),
        (cephx.AUTHORIZER_CHALLENGE, cephx.AuthorizerChallenge(0x1122), "01 2211000000000000"),
        (cephx.TICKET_BLOB, NO_TICKET, "01 0000000000000000 00000000"),
        (cephx.AUTHORIZER_PROOF, cephx.AuthorizerProof(7), "02 0700000000000000 00 0000000000000000"),
        (cephx.AUTHORIZER_PROOF, cephx.AuthorizerProof(7, 1, 8), "02 0700000000000000 01 0800000000000000"),
        (
            cephx.CEPHX_REQUEST,
            cephx.CephxRequest(0x0100, cephx.Authenticate(3, 1, 2, NO_TICKET, 0x13)),
            "0001 03 0100000000000000 0200000000000000 01 0000000000000000 00000000 13000000",
        ),
        (
            cephx.AUTHORIZER,
            cephx.Authorizer(4, EntityType.MDS, cephx.TicketBlob(5, b"z"), b"yy"),
            "01 0400000000000000 02000000 01 0500000000000000 01000000 7a 02000000 7979",
        ),
        (cephx.AUTHORIZER_REPLY, cephx.AuthorizerReply(1, 8), "01 0800000000000000"),
        (cephx.AUTHORIZER_REPLY, cephx.AuthorizerReply(2, 8), "02 0800000000000000 00000000"),
        (cephx.CEPHX_RESPONSE, cephx.CephxResponse(0x0100, 0, b"r"), "0001 00000000 72"),
        (
            cephx.TICKET_LIST,
            cephx.TicketList((cephx.ServiceTicket(EntityType.AUTH, b"k", 0, cephx.TicketBlob(5, b"z")),)),
            "01 01000000 20000000 01 01000000 6b 00 0e000000 01 0500000000000000 01000000 7a",
        ),
        (
            cephx.TICKET_LIST,
            cephx.TicketList((cephx.ServiceTicket(EntityType.AUTH, b"k", 1, b"sealed"),)),
            "01 01000000 20000000 01 01000000 6b 01 06000000 7365616c6564",
        ),
        (
            cephx.NONE_AUTHORIZER,
            cephx.NoneAuthorizer(EntityName(EntityType.CLIENT, "a"), 5),
            "01 08000000 01000000 61 0500000000000000",
        ),
    ],
)
def test_structures_have_these_bytes(schema: Any, value: Any, raw: str) -> None:
    assert schema.build(value) == bytes.fromhex(raw)
    assert schema.parse(bytes.fromhex(raw)) == value


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        (cephx.SERVER_CHALLENGE, 9),
        (cephx.CHALLENGE_PAIR, 16),
        (cephx.AUTHORIZER_PROOF, 18),
        (cephx.AUTHORIZER_CHALLENGE, 9),
    ],
)
def test_fixed_structures_have_their_sizes(schema: Any, size: int) -> None:
    assert schema.sizeof() == size


def test_the_type_of_a_ticket_tells_whether_it_is_encrypted() -> None:
    sealed = cephx.SEALED_TICKET_BLOB.build(cephx.SealedTicketBlob(BLOB))
    plain, encrypted = cephx.TICKET_LIST.parse(
        cephx.TICKET_LIST.build(
            cephx.TicketList((cephx.ServiceTicket(32, b"", 0, BLOB), cephx.ServiceTicket(32, b"", 1, sealed)))
        )
    ).tickets
    assert plain.ticket == BLOB
    assert cephx.SEALED_TICKET_BLOB.parse(encrypted.ticket).ticket == BLOB


def test_an_empty_secret_string_is_crc_mode() -> None:
    assert cephx.SEALED_CONNECTION_SECRET.parse(bytes(4)).connection_secret is None


@pytest.mark.parametrize(("schema", "value"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_no_secret_is_shown(schema: Any, value: Any) -> None:
    console = Console(file=StringIO(), width=200)
    console.print(value)
    shown = repr(value) + str(value) + console.file.getvalue()  # type: ignore[attr-defined]
    for secret in (KEY.secret, SECRET.key, SECRET.server_nonce, SECRET.client_nonce, SECRET.unused, b"\1\2\3\4"):
        assert repr(secret)[2:-1] not in shown
    if isinstance(value, keys.Guarded):
        assert "<secret>" in shown


@pytest.mark.parametrize(
    ("schema", "raw"),
    [
        (keys.ENVELOPE, "02 55aa2688ad9c00ff"),  # another version
        (keys.ENVELOPE, "01 55aa2688ad9c00fe"),  # decrypted with the wrong key
        (keys.ENVELOPE, "01 55aa2688"),
        (keys.CRYPTO_KEY, "0100 00000000 00000000 1000 00"),
        (keys.CONNECTION_SECRET, "00" * 39),
        (cephx.MON_AUTH_REQUEST, "01 08000000 01000000 61 0000000000000000"),  # an authorizer
        (cephx.AUTHORIZER, "0a 0400000000000000 02000000"),  # a login
        (cephx.SERVER_CHALLENGE, "01 22110000000000"),
        (cephx.AUTHORIZER_REPLY, "02 0800000000000000 10000000" + "00" * 16),  # too short a secret
        (cephx.TICKET_LIST, "01 02000000 20000000 01 01000000 6b 01 00000000"),  # one ticket of two
        (cephx.TICKET_LIST, "01 ffffffff"),
        (cephx.TICKET_LIST, "01 01000000 20000000 01 01000000 6b 00 0e000000 02 0500000000000000 01000000 7a"),
        (cephx.CEPHX_REQUEST, "00"),
    ],
)
def test_a_broken_structure_is_refused(schema: Any, raw: str) -> None:
    with pytest.raises(ConstructError):
        schema.parse(bytes.fromhex(raw))
